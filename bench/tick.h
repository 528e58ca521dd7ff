/*
 * Times of single calls of some ten nanoseconds: the processor's own counter where it has one that is
 * cheap to read, else the monotonic clock. Any thread; compare counts of one thread only.
 */
#ifndef PEERHUB_BENCH_TICK_H
#define PEERHUB_BENCH_TICK_H

#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

static inline uint64_t tick_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t tick_now(void)
{
#if defined(__x86_64__)
	unsigned int core;

	/* Waits for what came before; the fence keeps what follows from beginning before it. */
	uint64_t ticks = __rdtscp(&core);

	_mm_lfence();
	return ticks;
#else
	return tick_clock_ns();
#endif
}

/* What two readings next to each other show, and how long a tick is: measured once. */
struct tick_scale {
	double ns_per_tick;
	uint64_t empty_ticks;
};

static inline struct tick_scale tick_measure(void)
{
	struct tick_scale scale = {0, UINT64_MAX};
	uint64_t begin_ns = tick_clock_ns(), begin = tick_now(), end_ns;

	do {
		uint64_t first = tick_now(), second = tick_now();

		if (second - first < scale.empty_ticks)
			scale.empty_ticks = second - first;
		end_ns = tick_clock_ns();
	} while (end_ns - begin_ns < 10000000u);
	scale.ns_per_tick = (double)(end_ns - begin_ns) / (double)(tick_now() - begin);
	return scale;
}

static inline double tick_ns(const struct tick_scale *scale, uint64_t ticks)
{
	return ticks > scale->empty_ticks
		? (double)(ticks - scale->empty_ticks) * scale->ns_per_tick
		: 0;
}

#ifdef __cplusplus
}
#endif
#endif
