/*
 * A shard's mailbox: many producers, one consumer, intrusive, cannot be full. On ck_stack (push: one
 * CAS; batch pop: one exchange; the owner reverses the batch, so mail is handled in order of arrival).
 *
 * Sleeping and waking. Invariant: a link that is in the stack is looked at by the owner before it
 * waits, or its poster wakes the owner.
 *   poster   push; full fence; if sleeping, then CAS true -> false; the winner wakes
 *   owner    sleeping = true; full fence; look at the stack again; wait only if it is empty
 * Proof: both sides store, fence, then load the other's store. In the single order of the two fences
 * one comes first; whoever's fence comes second sees the other's store. If it is the poster, it sees
 * sleeping and wakes; if it is the owner, it sees the link and does not wait. Acquire and release
 * alone do not order a store before a later load of another word, hence the full fences. Every
 * poster runs the check, not only the one that found the stack empty: the first may be preempted
 * between its push and its check. Model: docs/models/mailbox.pml.
 */
#ifndef PEERHUB_ENGINE_MAILBOX_H
#define PEERHUB_ENGINE_MAILBOX_H

#include <ck_stack.h>
#include <stdatomic.h>
#include <stdbool.h>

struct mailbox {
	struct ck_stack mail; /* push: any thread; batch pop: the owner */
	struct ck_stack_entry *taken; /* popped, in order, not yet handled: the owner only */
	atomic_bool sleeping; /* set by the owner before it waits; cleared by the waker */
	int waker; /* constant; lives as long as the process */
	_Atomic unsigned long wakes; /* how often a poster had to wake: any poster */
};

void mailbox_init(struct mailbox *mailbox, int waker);

/* Any thread; never blocks, never fails. The entry is the owner's until it has been taken. */
void mailbox_post(struct mailbox *mailbox, struct ck_stack_entry *entry);

/* Owner: the oldest mail, NULL when there is none. */
struct ck_stack_entry *mailbox_take(struct mailbox *mailbox);
bool mailbox_has_mail(const struct mailbox *mailbox); /* owner */

/* Owner: true when it may wait now (nothing in the box); then mailbox_awake after the wait. */
bool mailbox_sleep(struct mailbox *mailbox);
void mailbox_awake(struct mailbox *mailbox);

#endif
