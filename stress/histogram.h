/*
 * A log-linear histogram of durations: 32 equal steps in every power of two, so that a value read
 * back is at most 1/32 (3.1 %) too high, from 1 ns to centuries, in 15 KB. Counters are atomic:
 * any thread records, any thread reads; a reader during recording sees some moment's counts.
 */
#ifndef PEERHUB_STRESS_HISTOGRAM_H
#define PEERHUB_STRESS_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_STEP_BITS 5u
#define HISTOGRAM_STEPS (1u << HISTOGRAM_STEP_BITS)
/* Values below HISTOGRAM_STEPS have a bucket each; then each higher power of two has its steps. */
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_STEP_BITS + 1u) * HISTOGRAM_STEPS)

struct histogram {
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
	_Atomic uint64_t count;
	_Atomic uint64_t max; /* exact */
};

void histogram_init(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);
uint64_t histogram_count(const struct histogram *histogram);
uint64_t histogram_max(const struct histogram *histogram);
/* The value that `permille` of 1,000 recorded ones do not exceed, rounded up to its step but never
 * above the maximum; 0 when nothing was recorded. */
uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille);
/* The largest value that falls into a bucket: what a reader of the buckets shows for it. */
uint64_t histogram_bucket_top(uint32_t bucket);
/* Add what `other` counted. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

#endif
