/*
 * The watchdog of a spin, a thread of its own: when actors make no progress, when an end is overdue
 * or when a phase takes longer than it may, it writes the state of the hubs to stderr and ends the
 * process with WATCH_EXIT, because what hangs cannot be asked to stop.
 */
#ifndef PEERHUB_STRESS_WATCH_H
#define PEERHUB_STRESS_WATCH_H

#include "world.h"

#define WATCH_EXIT 3

struct p2p_spin;
struct watch;

/* patience_ms: how long without progress is a hang; slow builds want more. Either of the two may be
 * NULL; both must make progress. 0 or -errno. */
int watch_start(
	struct world *world, struct p2p_spin *p2p, uint32_t patience_ms, struct watch **watch);
/* The phase that the main thread begins now, and how long it may take; 0 = as long as actors make
 * progress. Static text. */
void watch_phase(struct watch *watch, const char *phase, uint32_t limit_ms);
void watch_stop(struct watch *watch);

#endif
