/*
 * backoff.c: see backoff.h.
 */
#include "backoff.h"

#include <sys/random.h>
#include <time.h>

#include "check.h"

/* xorshift64: nobody gains by guessing it, it only has to differ between processes. */
static uint64_t draw(struct backoff *backoff, uint64_t below)
{
	backoff->random ^= backoff->random << 13;
	backoff->random ^= backoff->random >> 7;
	backoff->random ^= backoff->random << 17;
	return below == 0 ? 0 : backoff->random % below;
}

static uint64_t seed_make(void)
{
	struct timespec now = {0};
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
		return seed;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec;
}

void backoff_init(
	struct backoff *backoff, uint32_t wait_ms_min, uint32_t wait_ms_max, uint64_t seed)
{
	assert(wait_ms_min > 0);
	assert(wait_ms_min <= wait_ms_max);
	*backoff = (struct backoff){
		.wait_ms_min = wait_ms_min, .wait_ms_max = wait_ms_max, .wait_ms = wait_ms_min};
	backoff->random = seed != 0 ? seed : seed_make();
	if (backoff->random == 0)
		backoff->random = 1;
}

void backoff_asked(struct backoff *backoff, uint64_t now_ms, uint32_t retry_after_ms)
{
	if (retry_after_ms > BACKOFF_RETRY_AFTER_MS_MAX)
		retry_after_ms = BACKOFF_RETRY_AFTER_MS_MAX;
	if (retry_after_ms > 0 && now_ms + retry_after_ms > backoff->not_before_ms)
		backoff->not_before_ms = now_ms + retry_after_ms;
}

uint64_t backoff_next(struct backoff *backoff, uint64_t now_ms)
{
	uint64_t half = backoff->wait_ms / 2;
	uint64_t wait_ms = backoff->wait_ms - half + draw(backoff, half + 1);
	uint64_t begin_ms = now_ms;

	if (backoff->not_before_ms > begin_ms)
		begin_ms = backoff->not_before_ms;
	backoff->not_before_ms = 0;
	backoff->wait_ms = backoff->wait_ms > backoff->wait_ms_max / 2 ? backoff->wait_ms_max
								       : backoff->wait_ms * 2;
	return begin_ms + wait_ms;
}

void backoff_reset(struct backoff *backoff)
{
	backoff->wait_ms = backoff->wait_ms_min;
	backoff->not_before_ms = 0;
}
