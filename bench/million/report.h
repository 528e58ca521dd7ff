/* What a run has seen, as text and as JSON. */
#ifndef PEERHUB_MILLION_REPORT_H
#define PEERHUB_MILLION_REPORT_H

#include "bench/million/board.h"
#include "bench/million/outside.h"
#include "bench/million/plan.h"

#include <stdio.h>

/* Memory when so many connections were open and idle. */
struct checkpoint {
	uint64_t connections;
	double seconds; /* since the first dial */
	struct process_memory processes[2]; /* the hub; all peers, summed */
	struct sample_inside inside[2]; /* the hub; the first process of peers */
	uint64_t inside_connections[2];
	uint64_t cpu_us[2];
	struct machine_memory machine;
};

struct outcome {
	struct checkpoint *checkpoints; /* 0 is before the first connection */
	uint32_t checkpoint_count;
	bool is_closed; /* the closing was seen to its end */
	double seconds_open; /* until the last message was verified */
	double seconds_closed[2]; /* from the first ph_close to the last final event */
	double seconds_issued; /* … to the last ph_close */
	double seconds_slowest; /* the longest that one took, from ph_close to its final event */
	uint64_t close_holds; /* how often no more were begun because one was old (pace.h) */
	double seconds_sockets; /* … until the kernel had no socket left; < 0: not seen */
	uint64_t orphans_max;
	uint64_t cpu_us_close[2];
	const struct board *board;
};

void report_checkpoint(const struct checkpoint *before, const struct checkpoint *now, FILE *out);
/* Bytes per connection by kind, from one checkpoint to another. */
void report_kinds(const struct checkpoint *from, const struct checkpoint *to, FILE *out);
void report_close(const struct plan *plan, const struct outcome *outcome, FILE *out);
/* False: something was not as it must be. */
bool report_verdict(const struct plan *plan, const struct outcome *outcome, FILE *out);
int report_json(const struct plan *plan, const struct outcome *outcome, bool is_good);

/* User and kernel bytes per connection and socket, from one to the other. */
double report_user(const struct checkpoint *from, const struct checkpoint *to, int side);
double report_kernel(const struct checkpoint *from, const struct checkpoint *to);

#endif
