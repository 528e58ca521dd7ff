/* Data on every connection; see flood.h. */
#include "flood.h"

#include <errno.h>
#include <stdlib.h>

#define FLOOD_BATCH 32u /* messages between two looks at the clock */
#define FLOOD_REST_US 200u

struct flood {
	struct load *load;
	struct flood_options options;
	atomic_bool is_ending;
	_Atomic uint64_t sent;
	pthread_t thread;
};

/* One message to each wanted end of a seat; how many were accepted. */
static uint32_t seat_flood(struct flood *flood, uint32_t seat)
{
	uint32_t accepted = 0;

	for (int to = 0; to < LOAD_ENDS; to++) {
		/* What shall arrive here is sent there; a far end that echoes sends back what is sent. */
		enum load_end from = flood->load->options.is_remote || to == LOAD_ACCEPTOR
			? LOAD_DIALLER
			: LOAD_ACCEPTOR;

		if (flood->options.to[to] &&
			load_send(flood->load, seat, from, flood->options.lane) == 0)
			accepted++;
	}
	return accepted;
}

/* Sleep until the rate allows more. */
static void rate_wait(struct flood *flood, uint64_t begin_ns)
{
	uint64_t sent = atomic_load(&flood->sent);

	while (flood->options.rate != 0 && !atomic_load(&flood->is_ending) &&
		sent > (now_ns() - begin_ns) * flood->options.rate / 1000000000u + FLOOD_BATCH)
		load_sleep_us(FLOOD_REST_US);
}

static void *flood_main(void *argument)
{
	struct flood *flood = argument;
	uint64_t begin_ns = now_ns();

	while (!atomic_load(&flood->is_ending)) {
		uint32_t accepted = 0;

		for (uint32_t i = 0; i < flood->options.count && !atomic_load(&flood->is_ending);
			i++) {
			uint32_t now = seat_flood(flood, flood->options.first + i);

			accepted += now;
			atomic_fetch_add(&flood->sent, now);
			if (i % FLOOD_BATCH == 0)
				rate_wait(flood, begin_ns);
		}
		if (accepted == 0)
			load_sleep_us(FLOOD_REST_US); /* all are full, or gone */
	}
	return NULL;
}

int flood_start(struct load *load, const struct flood_options *options, struct flood **flood)
{
	struct flood *made = calloc(1, sizeof(*made));
	int status;

	if (made == NULL)
		return -ENOMEM;
	made->load = load;
	made->options = *options;
	status = pthread_create(&made->thread, NULL, flood_main, made);
	if (status != 0) {
		free(made);
		return -status;
	}
	*flood = made;
	return 0;
}

uint64_t flood_sent(const struct flood *flood)
{
	return atomic_load(&flood->sent);
}

void flood_stop(struct flood *flood)
{
	if (flood == NULL)
		return;
	atomic_store(&flood->is_ending, true);
	pthread_join(flood->thread, NULL);
	free(flood);
}
