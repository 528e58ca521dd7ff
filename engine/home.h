/*
 * Homes: what of a shard must outlive it. A process has SLOT_HOMES_MAX of them; the home's number is
 * part of every id. Slot tables, mailboxes and wakers stay for the life of the process, so that any
 * thread may use any id at any time: an id whose hub has stopped is only not found.
 */
#ifndef PEERHUB_ENGINE_HOME_H
#define PEERHUB_ENGINE_HOME_H

#include "engine/mailbox.h"
#include "engine/slot.h"

struct conn;
struct shard;

struct home {
	struct slot_table table; /* slots == NULL: never used */
	struct mailbox mailbox;
	uint32_t index; /* constant */
	bool taken; /* guarded by the lock in home.c */
	/* Valid while a slot of this home is not FREE: set before the first slot is opened, and the shard
	 * stops only when all its slots are FREE. Whoever is inside a slot may follow it. */
	struct conn *conns;
	struct shard *shard;
	_Atomic uint32_t send_queue_bytes; /* the hub's send budget, the same rule; may change */
	bool counts_send; /* what is queued counts against the hub's budgets; the same rule, constant */
};

/* A home with at least slot_count slots, none of them retired. 0, -ENOMEM, -EAGAIN (all are taken), or
 * a waker's error. */
int home_take(uint32_t slot_count, struct home **home);
void home_give_back(struct home *home); /* its shard has stopped: all slots FREE, no mail */

/* The home of an id, NULL when there is no such home or slot. Any thread. */
struct home *home_of(uint64_t id);

#endif
