/*
 * Faults of the network without netem: a relay in this process, one thread with epoll and plain
 * sockets. For each combination of faults it listens on an address of its own; who dials there
 * reaches a target through streams that are late, slow, cut into pieces, stalled, ended or reset.
 *
 * The thread owns all sockets and streams; others read addresses (constant) and counters.
 */
#ifndef PEERHUB_STRESS_FAULT_LINK_H
#define PEERHUB_STRESS_FAULT_LINK_H

#include "fault.h"
#include "peerhub.h"

#define FAULT_LINK_CONNECTIONS_MAX 9000u /* two descriptors each, of 20,000 */

struct fault_link;

struct fault_link_options {
	const struct faults *faults; /* constant while it runs */
	const ph_address *targets;
	uint32_t target_count;
	uint64_t seed;
};

struct fault_link_counts {
	uint64_t connections, refused, bytes;
	uint64_t hits[FAULT_KIND_COUNT]; /* streams or pieces that met the fault */
};

/* 0, or a negative errno with a line in why[PH_WHY_BYTES]. */
int fault_link_start(const struct fault_link_options *options, struct fault_link **link, char *why);
/* Where to dial for the faults of `mask` (bit n: fault n; those of the ring are ignored); NULL: for
 * no fault of ours. */
const ph_address *fault_link_address(const struct fault_link *link, uint32_t mask);
void fault_link_counts(struct fault_link *link, struct fault_link_counts *counts);
void fault_link_stop(struct fault_link *link); /* NULL allowed; streams still there are reset */

#endif
