/*
 * drain.h: emptying a hub in order.
 *
 *   SERVING --> NOTICE --> CLOSING --> LAST --> EMPTY       any but SERVING -> SERVING [undrain]
 *
 *   NOTICE   nobody is accepted any more; every peer has been told, with the time after which it may come back
 *   CLOSING  what is open is closed gracefully, the k-th of n at k/n of the time
 *   LAST     the closes end; at the deadline what is left is reset
 *   EMPTY    nothing is open; the process ends, or waits for an undrain
 *
 * The main thread steps it; any thread may ask and look.
 */
#ifndef PEERHUB_HUB_DRAIN_H
#define PEERHUB_HUB_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "peerhub.h"

enum drain_state {
	DRAIN_SERVING,
	DRAIN_NOTICE,
	DRAIN_CLOSING,
	DRAIN_LAST,
	DRAIN_EMPTY,
};

struct drain_wish {
	uint64_t grace_ms, over_ms, retry_after_ms;
	bool is_for_stop; /* the process ends when it is empty */
	char text[PH_TEXT_BYTES_MAX + 1]; /* for the peers */
};

struct drain_progress {
	enum drain_state state;
	bool is_for_stop;
	uint64_t told; /* peers that got the notice */
	uint64_t untold; /* had no memory for it, or too many notices before */
	uint64_t total; /* open when the closing began */
	uint64_t closed; /* of those, closed by us */
	uint64_t left; /* of those, had ended by themselves */
	uint64_t reset; /* at the deadline */
	uint64_t state_ms; /* since when, loop_now_ms */
	uint64_t end_ms; /* of this state, at the latest; 0: it has none */
	char failure[160]; /* why the last undrain failed; "" */
};

/* Ask; the next drain_step does it. A wish to drain while it drains changes the times that are still to come;
 * one for the end of the process is not taken back by one without. */
void drain_ask(const struct drain_wish *wish);
void drain_cancel(void);
void drain_look(struct drain_progress *progress);
const char *drain_state_name(enum drain_state state);

/* Main thread: does what is due and returns when to come back. close_ms: what a graceful close may take. */
uint64_t drain_step(struct ph_hub *hub, uint64_t close_ms, uint64_t now_ms);
void drain_end(void); /* the hub ends: forget all */

#endif
