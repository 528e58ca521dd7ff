/*
 * The intrusive stack under mailboxes and chunk stacks: ck_stack, pushed by any thread, popped as a
 * whole by its owner. The push is ck_stack_push_upmc's, written out: the thread sanitizer must see the
 * release after the entry's link has been written, which happens inside ck's loop.
 */
#ifndef PEERHUB_ENGINE_STACK_H
#define PEERHUB_ENGINE_STACK_H

#include "engine/tsan.h"

#include <ck_pr.h>
#include <ck_stack.h>
#include <stdbool.h>
#include <stddef.h>

/* Any thread. One CAS; retried only when another push or the pop came between. */
static inline void stack_push(struct ck_stack *stack, struct ck_stack_entry *entry)
{
	struct ck_stack_entry *head = ck_pr_load_ptr(&stack->head);

	do {
		entry->next = head;
		PH_TSAN_RELEASE(stack);
		ck_pr_fence_store_atomic();
	} while (!ck_pr_cas_ptr_value(&stack->head, head, entry, &head));
}

static inline bool stack_is_empty(const struct ck_stack *stack)
{
	return ck_pr_load_ptr(&stack->head) == NULL;
}

/* The owner: all entries, the oldest first, linked by `next`. */
static inline struct ck_stack_entry *stack_take_all(struct ck_stack *stack)
{
	struct ck_stack_entry *entry, *oldest = NULL;

	if (stack_is_empty(stack))
		return NULL;
	entry = ck_stack_batch_pop_upmc(stack);
	PH_TSAN_ACQUIRE(stack);
	while (entry != NULL) {
		struct ck_stack_entry *next = entry->next;

		entry->next = oldest;
		oldest = entry;
		entry = next;
	}
	return oldest;
}

#endif
