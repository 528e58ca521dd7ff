/*
 * ends.h: the last ended connections of this process, with the names of both sides of each: what
 * "peerhub ctl closed" and "explain" answer from. Bounded; the oldest go first. Those who were
 * reset before they had proven anything have a small ring and a log budget of their own, so that a flood of
 * strangers leaves the members' ends to be read. Fed by the engine's
 * threads, read by the administrator's; one lock, held for a copy.
 */
#ifndef PEERHUB_HUB_ENDS_H
#define PEERHUB_HUB_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "peerhub.h"

struct end {
	uint64_t number; /* 1, 2, … of this process */
	int64_t time_s; /* when, Unix time */
	struct ph_receipt receipt;
	const char *group, *identity; /* "" when not known; owned by the ring or by a copy */
};

int ends_begin(size_t count_max); /* 0 or -ENOMEM */
void ends_end(void);

/* peerhub_end_callback: remembers, and logs one line. */
void ends_on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity);

/*
 * Visit copies, the newest first, until `visit` returns false. It may take its time: nobody waits for it.
 * Returns how many were visited; -ENOMEM.
 */
int64_t ends_each(bool (*visit)(const struct end *end, void *context), void *context);
uint64_t ends_total(void); /* since the start */

/* How long something took, of all connections since the start. `counts` are not cumulated. */
#define ENDS_BOUNDS 14u
extern const double
	ends_bounds_s[ENDS_BOUNDS]; /* upper bounds; above the last: counts[ENDS_BOUNDS] */
struct ends_histogram {
	uint64_t counts[ENDS_BOUNDS + 1];
	uint64_t sum_ns;
};

#define ENDS_REASON_ONE(name, value, text) +1u
#define ENDS_REASONS (0u PH_REASONS(ENDS_REASON_ONE)) /* in the order of PH_REASONS */
struct ends_figures {
	uint64_t by_reason[ENDS_REASONS]; /* an application's own numbers count by their range */
	struct ends_histogram opening; /* of those that became open: begin to open */
	struct ends_histogram closing; /* of those that were open: first cause to last event */
};
void ends_figures(struct ends_figures *figures);

#endif
