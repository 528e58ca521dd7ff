/* The watchdog of a spin; see watch.h. */
#include "watch.h"

#include "p2p_spin.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WATCH_INTERVAL_MS 500u
/* The hubs' own time-outs (world.c): what is older than these plus our patience hangs. */
#define WATCH_CLOSE_MS 2000u
#define WATCH_OPEN_MS 25000u

#define WATCH_DUMP_S 60u /* a dump that hangs, too, ends the process all the same */

struct watch {
	struct world *world; /* NULL: only the p2p half runs */
	struct p2p_spin *p2p; /* NULL: only the native half runs */
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
	fprintf(stderr, "HANG: %s (while %s)\n", what, watch->phase);
	fflush(stderr);
	alarm(WATCH_DUMP_S);
	if (watch->p2p != NULL)
		p2p_spin_dump(watch->p2p, STDERR_FILENO);
	if (watch->world != NULL)
		world_dump(watch->world, STDERR_FILENO);
	_exit(WATCH_EXIT);
}

/* Operations that ended, of one half of the spin. */
struct pulse {
	_Atomic uint64_t *beats; /* NULL: that half does not run */
	uint64_t last;
	uint64_t last_ns;
};

static void pulse_look(struct watch *watch, struct pulse *pulse, const char *what)
{
	uint64_t now = now_ns();
	uint64_t current;

	if (pulse->beats == NULL)
		return;
	current = atomic_load(pulse->beats);
	if (current != pulse->last || watch->phase_end_ns != 0) {
		pulse->last = current;
		pulse->last_ns = now;
	}
	if (now > pulse->last_ns + watch->patience_ns)
		hang(watch, what);
}

static void look(struct watch *watch, struct pulse *native, struct pulse *p2p)
{
	uint64_t close_ns = WATCH_CLOSE_MS * 1000000ull + watch->patience_ns;
	uint64_t open_ns = WATCH_OPEN_MS * 1000000ull + watch->patience_ns;

	pulse_look(watch, native, "no operation ended for too long");
	pulse_look(watch, p2p, "no p2p operation ended for too long");
	if (watch->phase_end_ns != 0 && now_ns() > watch->phase_end_ns)
		hang(watch, "this takes too long");
	if (watch->world != NULL &&
		audit_overdue(watch->world->audit, close_ns, open_ns, false) > 0) {
		audit_overdue(watch->world->audit, close_ns, open_ns, true);
		hang(watch, "the last event of a connection is overdue");
	}
}

static void *watch_main(void *argument)
{
	struct watch *watch = argument;
	struct pulse native = {
		.beats = watch->world != NULL ? &watch->world->beats : NULL, .last_ns = now_ns()};
	struct pulse p2p = {.beats = watch->p2p != NULL ? p2p_spin_beats(watch->p2p) : NULL,
		.last_ns = now_ns()};
	struct timespec until;

	pthread_mutex_lock(&watch->lock);
	while (!watch->is_ending) {
		look(watch, &native, &p2p);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WATCH_INTERVAL_MS * 1000000l;
		until.tv_sec += until.tv_nsec / 1000000000l;
		until.tv_nsec %= 1000000000l;
		pthread_cond_timedwait(&watch->wake, &watch->lock, &until);
	}
	pthread_mutex_unlock(&watch->lock);
	return NULL;
}

int watch_start(
	struct world *world, struct p2p_spin *p2p, uint32_t patience_ms, struct watch **watch)
{
	struct watch *made = calloc(1, sizeof(*made));
	int status;

	if (made == NULL)
		return -ENOMEM;
	made->world = world;
	made->p2p = p2p;
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
