/* How many closes may be on their way; see pace.h. */
#include "bench/million/pace.h"

void pace_init(struct pace *pace, uint32_t most, uint64_t deadline_ns)
{
	*pace = (struct pace){.deadline_ns = deadline_ns,
		.most = most,
		.allowed = most < PACE_FIRST ? most : PACE_FIRST};
	pace->least_seen = pace->allowed;
}

bool pace_is_due(const struct pace *pace, uint64_t now_ns)
{
	return now_ns >= pace->looked_ns + PACE_LOOK_NS;
}

void pace_look(struct pace *pace, uint64_t now_ns, uint64_t slowest_ns, uint64_t oldest_ns)
{
	uint64_t slow_ns = pace->deadline_ns / PACE_SLOW_PART;
	uint32_t least = pace->most < PACE_LEAST ? pace->most : PACE_LEAST;
	bool was_held = pace->is_held;

	pace->looked_ns = now_ns;
	if (slowest_ns > pace->slowest_ns)
		pace->slowest_ns = slowest_ns;
	pace->is_held = oldest_ns > pace->deadline_ns / PACE_OLD_PART;
	pace->holds += pace->is_held && !was_held;
	if (slowest_ns > slow_ns || oldest_ns > slow_ns) {
		/* Half the load waits half as long, but only those that begin from here on. */
		pace->allowed = pace->allowed / 2 > least ? pace->allowed / 2 : least;
	} else if (slowest_ns <= slow_ns / 2 && oldest_ns <= slow_ns / 2) {
		uint32_t more = pace->allowed / 8 + 16;

		pace->allowed =
			pace->most - pace->allowed > more ? pace->allowed + more : pace->most;
	}
	if (pace->allowed < pace->least_seen)
		pace->least_seen = pace->allowed;
}
