/*
 * Data on every connection: a thread that sends one message after the other on seat after seat, at a
 * rate or as fast as it can, to the ends that are named.
 */
#ifndef PEERHUB_STRESS_FLOOD_H
#define PEERHUB_STRESS_FLOOD_H

#include "load.h"

struct flood_options {
	uint32_t first, count; /* seats */
	bool to[LOAD_ENDS]; /* ends that are to receive */
	uint64_t rate; /* messages a second; 0: as fast as it can */
	uint32_t lane; /* its own */
};

struct flood;

int flood_start(struct load *load, const struct flood_options *options,
	struct flood **flood); /* or -errno */
uint64_t flood_sent(const struct flood *flood); /* accepted so far */
void flood_stop(struct flood *flood); /* NULL allowed */

#endif
