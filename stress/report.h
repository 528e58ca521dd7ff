/*
 * What a run shows: a live line on a terminal, a table at the end, the same as JSON for machines.
 */
#ifndef PEERHUB_STRESS_REPORT_H
#define PEERHUB_STRESS_REPORT_H

#include "audit.h"

#include <stdio.h>

struct report {
	uint64_t seed;
	double seconds; /* of the random part */
	uint64_t peak_live; /* connection ends alive at once, as seen at ticks */
	const char *command; /* how to repeat it */
	struct audit *audit;
	struct ph_statistics stats; /* the hubs' own counters before they stopped */
};

/* Overwrites itself; call report_progress_end before other output. */
void report_progress(const struct report *report, uint64_t elapsed_ns);
void report_progress_end(void);
void report_table(const struct report *report, FILE *out);
int report_json(const struct report *report, const char *path); /* 0 or -errno */

/* "12.3 us" of a duration in ns, into text[16]; returns text. */
char *report_duration(uint64_t ns, char *text);

#endif
