/*
 * Slow consumers: a connection whose send queue is full. Who finds it full turns SLOT_SLOW on and mails the
 * owner; the owner warns the user once (on_slow), then does what ph_options.slow says, until the queue is half
 * empty again. Nothing of it where the hub has neither the callback nor a policy but PH_SLOW_BLOCK.
 */
#ifndef PEERHUB_ENGINE_SLOW_H
#define PEERHUB_ENGINE_SLOW_H

#include "engine/conn.h"

struct ph_hub;
bool slow_is_watched(const struct ph_hub *hub); /* any thread */
bool slow_drops(const struct ph_hub *hub); /* PH_SLOW_DROP: any thread */
/* Any thread, inside: the queue was full. True: SLOT_SLOW is new, and the owner wants mail. */
bool slow_mark(struct slot *slot);

/* The owner's. */
void conn_slow_look(struct conn *conn); /* OPEN: mail has come */
void conn_slow_over(struct conn *conn); /* the queue is half empty */
bool conn_slow_deadline(
	struct conn *conn); /* OPEN, its timer has fired; false: it has been ended */
uint64_t conn_slow_wait_ns(
	const struct conn *conn, uint64_t wait_ns); /* no longer than to its deadline */

#endif
