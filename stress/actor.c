/* Threads of random operations; see actor.h. */
#include "actor.h"

#include "action.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* One of so many operations is followed by a short sleep, so that on few processors the shards get
 * their turn and the interleavings change. */
#define REST_ONE_OF 8u
#define REST_NS_MAX 300000u
#define BURST_MAX 4u
#define VOLLEY_CALLS 3u

struct actors {
	struct world *world;
	atomic_bool is_ending;
	uint32_t count;
	pthread_t threads[];
};

static void rest(struct hand *hand, uint32_t ns_max)
{
	const struct timespec duration = {.tv_nsec = random_below(&hand->random, ns_max)};

	nanosleep(&duration, NULL);
}

/* Call every actor to close one connection at the same time. */
static void volley_start(struct world *world, struct hand *hand)
{
	uint64_t serial = action_pick(world, hand);

	if (!action_is_open(world, serial) && !random_permille(&hand->random, 100))
		return;
	atomic_store(&world->volley, serial);
	for (uint32_t i = 0; i < VOLLEY_CALLS; i++)
		action_close(world, hand, serial, action_how(hand));
}

static void burst(struct world *world, struct hand *hand)
{
	uint64_t serial = action_pick(world, hand);
	uint32_t count = 1 + random_below(&hand->random, BURST_MAX);
	bool is_last = random_permille(&hand->random, 50);

	for (uint32_t i = 0; i < count; i++)
		action_send(world, hand, serial, 1024);
	/* What was sent a moment ago must still arrive. */
	if (is_last && action_is_open(world, serial))
		action_close(world, hand, serial, PH_GRACEFUL);
}

static void pause_a_while(struct world *world, struct hand *hand)
{
	uint64_t serial = action_pick(world, hand);

	action_pause(world, serial);
	if (random_permille(&hand->random, 100))
		action_flood(world, hand, serial);
	rest(hand, REST_NS_MAX * 4);
	action_resume(world, serial);
}

/* Open, then close while the connection is somewhere in its handshake. */
static void close_in_handshake(struct world *world, struct hand *hand)
{
	uint32_t seat = random_below(&hand->random, world->options.connections);

	action_open(world, hand);
	if (random_permille(&hand->random, 500))
		rest(hand, REST_NS_MAX * 8);
	action_close(world, hand, atomic_load(&world->dialled[seat]), action_how(hand));
}

static void step(struct world *world, struct hand *hand)
{
	uint32_t dice = random_below(&hand->random, 1000);

	if (dice < 330)
		action_open(world, hand);
	else if (dice < 700)
		burst(world, hand);
	else if (dice < 705)
		action_flood(world, hand, action_pick(world, hand));
	else if (dice < 790)
		action_close_some(world, hand);
	else if (dice < 810)
		volley_start(world, hand);
	else if (dice < 830)
		close_in_handshake(world, hand);
	else if (dice < 880)
		action_stale(world, hand);
	else if (dice < 930)
		action_stranger(world, hand);
	else if (dice < 960)
		pause_a_while(world, hand);
	else if (dice < 985)
		action_look(world, hand);
	else if (dice < 994)
		action_ended_group(world, hand);
	else if (dice < 996)
		world_credentials_exchange(world);
	else if (dice < 998 && !world->options.is_remote)
		action_listen(world, hand);
	else
		action_close_where(world, hand);
}

static void volley_join(struct world *world, struct hand *hand, uint64_t *volley_last)
{
	uint64_t volley = atomic_load(&world->volley);

	if (volley == *volley_last)
		return;
	*volley_last = volley;
	action_close(world, hand, volley, action_how(hand));
}

static void *actor_main(void *argument)
{
	struct actors *actors = argument;
	struct world *world = actors->world;
	struct hand *hand = world_hand_claim(world);
	uint64_t volley_last = 0;

	while (!atomic_load(&actors->is_ending)) {
		volley_join(world, hand, &volley_last);
		step(world, hand);
		atomic_fetch_add(&world->beats, 1);
		if (random_below(&hand->random, REST_ONE_OF) == 0)
			rest(hand, REST_NS_MAX);
	}
	return NULL;
}

int actors_start(struct world *world, uint32_t count, struct actors **actors)
{
	struct actors *made = calloc(1, sizeof(*made) + count * sizeof(made->threads[0]));

	if (made == NULL)
		return -ENOMEM;
	made->world = world;
	for (uint32_t i = 0; i < count; i++) {
		int status = pthread_create(&made->threads[i], NULL, actor_main, made);

		if (status != 0) {
			actors_stop(made);
			return -status;
		}
		made->count++;
	}
	*actors = made;
	return 0;
}

void actors_stop(struct actors *actors)
{
	atomic_store(&actors->is_ending, true);
	for (uint32_t i = 0; i < actors->count; i++)
		pthread_join(actors->threads[i], NULL);
	free(actors);
}
