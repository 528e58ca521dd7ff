/* Log-linear histogram; see histogram.h. */
#include "histogram.h"

#include <assert.h>

static_assert(HISTOGRAM_BUCKETS == 1920, "the size named in histogram.h");

static uint32_t bucket_of(uint64_t value)
{
	uint32_t power;

	if (value < HISTOGRAM_STEPS)
		return (uint32_t)value;
	power = 63u - (uint32_t)__builtin_clzll(value);
	/* The top bit names the power, the next five the step. */
	return (power - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS +
		(uint32_t)((value >> (power - HISTOGRAM_STEP_BITS)) & (HISTOGRAM_STEPS - 1));
}

uint64_t histogram_bucket_top(uint32_t bucket)
{
	uint32_t shift;
	uint64_t step;

	if (bucket < HISTOGRAM_STEPS)
		return bucket;
	shift = bucket / HISTOGRAM_STEPS - 1;
	step = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
	return (step << shift) + ((uint64_t)1 << shift) - 1;
}

void histogram_init(struct histogram *histogram)
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		atomic_init(&histogram->buckets[i], 0);
	atomic_init(&histogram->count, 0);
	atomic_init(&histogram->max, 0);
}

static void max_raise(struct histogram *histogram, uint64_t value)
{
	uint64_t max = atomic_load_explicit(&histogram->max, memory_order_relaxed);

	while (value > max &&
		!atomic_compare_exchange_weak_explicit(
			&histogram->max, &max, value, memory_order_relaxed, memory_order_relaxed))
		;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
	atomic_fetch_add_explicit(&histogram->buckets[bucket_of(value)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&histogram->count, 1, memory_order_relaxed);
	max_raise(histogram, value);
}

uint64_t histogram_count(const struct histogram *histogram)
{
	return atomic_load_explicit(&histogram->count, memory_order_relaxed);
}

uint64_t histogram_max(const struct histogram *histogram)
{
	return atomic_load_explicit(&histogram->max, memory_order_relaxed);
}

uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille)
{
	uint64_t count = histogram_count(histogram);
	uint64_t max = histogram_max(histogram);
	uint64_t wanted = (count * permille + 999) / 1000;
	uint64_t seen = 0;

	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
		if (seen >= wanted && seen > 0)
			return histogram_bucket_top(i) < max ? histogram_bucket_top(i) : max;
	}
	return max;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		atomic_fetch_add_explicit(&histogram->buckets[i],
			atomic_load_explicit(&other->buckets[i], memory_order_relaxed),
			memory_order_relaxed);
	atomic_fetch_add_explicit(&histogram->count, histogram_count(other), memory_order_relaxed);
	max_raise(histogram, histogram_max(other));
}
