/*
 * How many closes may be on their way at once, so that none of them reaches its deadline: begun low, raised
 * while all end quickly, halved while one is slow, and none at all while one is old. What a machine bears is
 * not known beforehand: it depends on what else runs there.
 *
 * Pure: it is told the time and the ages, and has no clock. One thread at a time.
 */
#ifndef PEERHUB_MILLION_PACE_H
#define PEERHUB_MILLION_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_FIRST 512u
#define PACE_LEAST 64u
#define PACE_LOOK_NS 100000000u /* looks are at least so far apart */
/* Parts of the deadline: a close that took longer halves what may be on its way; one that is older and
 * has not ended stops the beginning of others. So a machine that becomes that many times slower from one moment
 * to the next still ends in time what it has. */
#define PACE_SLOW_PART 64u
#define PACE_OLD_PART 8u

struct pace {
	uint64_t deadline_ns, looked_ns;
	uint32_t most, allowed;
	bool is_held; /* an old one is on its way */
	uint32_t least_seen; /* of allowed, for the report */
	uint64_t slowest_ns; /* of all so far */
	uint32_t holds; /* how often it was held */
};

void pace_init(struct pace *pace, uint32_t most, uint64_t deadline_ns);
bool pace_is_due(const struct pace *pace, uint64_t now_ns);
/* slowest_ns: the longest that a close which has ended since the last look had taken; oldest_ns: the age of
 * the oldest on its way; 0 where there is none. */
void pace_look(struct pace *pace, uint64_t now_ns, uint64_t slowest_ns, uint64_t oldest_ns);
static inline bool pace_may(const struct pace *pace, uint64_t on_their_way)
{
	return !pace->is_held && on_their_way < pace->allowed;
}

#endif
