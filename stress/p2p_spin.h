/*
 * The p2p half of a spin: threads that make random calls of p2p.h, in rounds.
 *
 * A conductor thread begins each round with the library started, lets the actors loose for a second or
 * so, calls them back, and ends it. In a steady round group 0 is online from the beginning, nobody ends
 * its anchor handles and nobody stops the library, so that at the end every connection of it can be
 * accounted for; group 1 is fair game. In a wild round everything is, and the library stops and starts
 * while others are inside calls. A round ends with nothing left: no handle, no block, no event.
 */
#ifndef PEERHUB_STRESS_P2P_SPIN_H
#define PEERHUB_STRESS_P2P_SPIN_H

#include "p2p_action.h"

#include <stdio.h>

struct p2p_options {
	uint64_t seed;
	uint32_t threads;
	uint32_t connections; /* dials of a round, at most */
	bool is_failing; /* allocations are going to fail */
};

struct p2p_spin;

/* Make the store and its keys; nothing runs yet. 0 or a negative errno with a line. */
int p2p_spin_create(
	const struct p2p_options *options, struct p2p_spin **spin, char why[P2P_WHY_BYTES]);
int p2p_spin_start(struct p2p_spin *spin); /* 0 or a negative errno */
void p2p_spin_stop(struct p2p_spin *spin); /* the round that is on ends as it should */
void p2p_spin_destroy(struct p2p_spin *spin); /* stopped, or never started */

_Atomic uint64_t *p2p_spin_beats(struct p2p_spin *spin);
void p2p_spin_counts(struct p2p_spin *spin, struct p2p_counts *counts);
void p2p_spin_table(struct p2p_spin *spin, FILE *out);
void p2p_spin_json(struct p2p_spin *spin, FILE *out); /* one object */
void p2p_spin_dump(struct p2p_spin *spin, int fd); /* any thread, whatever hangs */

#endif
