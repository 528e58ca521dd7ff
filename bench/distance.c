/* The distance of two cores; see distance.h. One word goes to and fro between two pinned threads. */
#include "bench/distance.h"

#include "bench/tick.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define ROUNDS 5000u
#define TRIES 8u
#define TRY_NS 2000000000u /* a core that others keep busy: give up */

struct table {
	_Alignas(128) _Atomic uint32_t ball;
	_Alignas(128) _Atomic int stop;
	int core;
	_Atomic int status; /* 1: the other side has begun, -1: it cannot */
};

int distance_pin(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)core, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

void distance_cores(int cores[2])
{
	cpu_set_t set;
	int found = 0;

	cores[0] = cores[1] = 0;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return;
	for (int core = 0; core < CPU_SETSIZE && found < 2; core++)
		if (CPU_ISSET((unsigned)core, &set))
			cores[found++] = core;
	if (found == 1)
		cores[1] = cores[0];
}

/* Odd values are ours to answer. */
static void *there_main(void *argument)
{
	struct table *table = argument;

	if (distance_pin(table->core) < 0) {
		atomic_store(&table->status, -1);
		return NULL;
	}
	atomic_store(&table->status, 1);
	while (!atomic_load_explicit(&table->stop, memory_order_relaxed)) {
		uint32_t ball = atomic_load_explicit(&table->ball, memory_order_acquire);

		if ((ball & 1u) != 0)
			atomic_store_explicit(&table->ball, ball + 1, memory_order_release);
	}
	return NULL;
}

/* ns one way over so many rounds; negative when it takes too long. */
static double play(struct table *table)
{
	uint64_t begin_ns = tick_clock_ns();

	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t ball = atomic_load_explicit(&table->ball, memory_order_relaxed) + 1;

		atomic_store_explicit(&table->ball, ball, memory_order_release);
		for (uint32_t spins = 0;
			atomic_load_explicit(&table->ball, memory_order_acquire) == ball; spins++)
			if ((spins & 0xfffffu) == 0xfffffu && tick_clock_ns() - begin_ns > TRY_NS)
				return -1;
	}
	return (double)(tick_clock_ns() - begin_ns) / (2.0 * ROUNDS);
}

static double play_all(struct table *table)
{
	double best = -1;

	for (uint32_t index = 0; index < TRIES; index++) {
		double here = play(table);

		if (here < 0)
			return best;
		if (best < 0 || here < best)
			best = here;
	}
	return best;
}

double distance_measure(int core_here, int core_there)
{
	static struct table table;
	cpu_set_t before;
	pthread_t thread;
	double best = -1;

	if (core_here == core_there || sched_getaffinity(0, sizeof(before), &before) < 0)
		return -1;
	atomic_store(&table.ball, 0);
	atomic_store(&table.stop, 0);
	atomic_store(&table.status, 0);
	table.core = core_there;
	if (pthread_create(&thread, NULL, there_main, &table) != 0)
		return -1;
	while (atomic_load(&table.status) == 0)
		sched_yield();
	if (atomic_load(&table.status) == 1 && distance_pin(core_here) == 0)
		best = play_all(&table);
	atomic_store(&table.stop, 1);
	pthread_join(thread, NULL);
	(void)sched_setaffinity(0, sizeof(before), &before);
	return best;
}
