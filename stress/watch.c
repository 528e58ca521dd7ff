/* The watchdog of a spin; see watch.h. */
#include "watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WATCH_INTERVAL_MS 500u
/* The hubs' own time-outs (world.c): what is older than these plus our patience hangs. */
#define WATCH_CLOSE_MS 2000u
#define WATCH_OPEN_MS 25000u

struct watch {
	struct world *world;
	uint64_t patience_ns;
	pthread_mutex_t lock; /* the fields below */
	pthread_cond_t wake;
	const char *phase;
	uint64_t phase_end_ns; /* 0: no limit */
	bool is_ending;
	pthread_t thread;
};

_Noreturn static void hang(struct watch *watch, const char *what)
{
	fprintf(stderr, "HANG: %s (while %s); the hubs:\n", what, watch->phase);
	fflush(stderr);
	world_dump(watch->world, STDERR_FILENO);
	_exit(WATCH_EXIT);
}

static void look(struct watch *watch, uint64_t *beats, uint64_t *beats_ns)
{
	uint64_t close_ns = WATCH_CLOSE_MS * 1000000ull + watch->patience_ns;
	uint64_t open_ns = WATCH_OPEN_MS * 1000000ull + watch->patience_ns;
	uint64_t now = now_ns();
	uint64_t current = atomic_load(&watch->world->beats);

	if (current != *beats || watch->phase_end_ns != 0) {
		*beats = current;
		*beats_ns = now;
	}
	if (now > *beats_ns + watch->patience_ns)
		hang(watch, "no operation ended for too long");
	if (watch->phase_end_ns != 0 && now > watch->phase_end_ns)
		hang(watch, "this takes too long");
	if (audit_overdue(watch->world->audit, close_ns, open_ns, false) > 0) {
		audit_overdue(watch->world->audit, close_ns, open_ns, true);
		hang(watch, "the last event of a connection is overdue");
	}
}

static void *watch_main(void *argument)
{
	struct watch *watch = argument;
	uint64_t beats = 0, beats_ns = now_ns();
	struct timespec until;

	pthread_mutex_lock(&watch->lock);
	while (!watch->is_ending) {
		look(watch, &beats, &beats_ns);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WATCH_INTERVAL_MS * 1000000l;
		until.tv_sec += until.tv_nsec / 1000000000l;
		until.tv_nsec %= 1000000000l;
		pthread_cond_timedwait(&watch->wake, &watch->lock, &until);
	}
	pthread_mutex_unlock(&watch->lock);
	return NULL;
}

int watch_start(struct world *world, uint32_t patience_ms, struct watch **watch)
{
	struct watch *made = calloc(1, sizeof(*made));
	int status;

	if (made == NULL)
		return -ENOMEM;
	made->world = world;
	made->patience_ns = patience_ms * 1000000ull;
	made->phase = "spinning";
	pthread_mutex_init(&made->lock, NULL);
	pthread_cond_init(&made->wake, NULL);
	status = pthread_create(&made->thread, NULL, watch_main, made);
	if (status != 0) {
		free(made);
		return -status;
	}
	*watch = made;
	return 0;
}

void watch_phase(struct watch *watch, const char *phase, uint32_t limit_ms)
{
	pthread_mutex_lock(&watch->lock);
	watch->phase = phase;
	watch->phase_end_ns = limit_ms == 0 ? 0 : now_ns() + limit_ms * 1000000ull;
	pthread_mutex_unlock(&watch->lock);
}

void watch_stop(struct watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->is_ending = true;
	pthread_cond_signal(&watch->wake);
	pthread_mutex_unlock(&watch->lock);
	pthread_join(watch->thread, NULL);
	pthread_cond_destroy(&watch->wake);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}
