/*
 * backoff.h: when to try again. Each failure doubles the wait up to a bound, and every wait is drawn from its
 * upper half, so that those who lost the same hub at the same moment do not come back at the same moment. A
 * peer that named a time (retry-after) is not tried before it; what is added to it by lot is for the same
 * reason. One thread.
 */
#ifndef PEERHUB_HUB_BACKOFF_H
#define PEERHUB_HUB_BACKOFF_H

#include <stdint.h>

#define BACKOFF_RETRY_AFTER_MS_MAX \
	3600000u /* a peer that asks for more than an hour gets an hour */

struct backoff {
	uint32_t wait_ms_min, wait_ms_max; /* the first wait and the longest */
	uint32_t wait_ms; /* the next one, before the draw */
	uint64_t not_before_ms; /* as the peer asked; 0: it did not */
	uint64_t random; /* never 0 */
};

/* seed: of the draws; 0: a random one. */
void backoff_init(
	struct backoff *backoff, uint32_t wait_ms_min, uint32_t wait_ms_max, uint64_t seed);
/* The peer asked not to be tried for so long. Counts from now, for the next backoff_next. */
void backoff_asked(struct backoff *backoff, uint64_t now_ms, uint32_t retry_after_ms);
/* An attempt failed: when the next may begin, always after now_ms. */
uint64_t backoff_next(struct backoff *backoff, uint64_t now_ms);
/* An attempt succeeded: the next wait is the first one again, and nothing is asked any more. */
void backoff_reset(struct backoff *backoff);

#endif
