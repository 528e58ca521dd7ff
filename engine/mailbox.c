/* A shard's mailbox; invariant and proof in mailbox.h. */
#include "engine/mailbox.h"

#include "engine/check.h"
#include "engine/ring.h"
#include "engine/stack.h"

void mailbox_init(struct mailbox *mailbox, int waker)
{
	ck_stack_init(&mailbox->mail);
	mailbox->taken = NULL;
	atomic_init(&mailbox->sleeping, false);
	mailbox->waker = waker;
	atomic_init(&mailbox->wakes, 0);
}

void mailbox_post(struct mailbox *mailbox, struct ck_stack_entry *entry)
{
	bool sleeping = true;

	stack_push(&mailbox->mail, entry);
	ph_fence_full();
	if (!atomic_load_explicit(&mailbox->sleeping, memory_order_relaxed))
		return;
	if (!atomic_compare_exchange_strong(&mailbox->sleeping, &sleeping, false))
		return;
	atomic_fetch_add_explicit(&mailbox->wakes, 1, memory_order_relaxed);
	waker_wake(mailbox->waker);
}

struct ck_stack_entry *mailbox_take(struct mailbox *mailbox)
{
	struct ck_stack_entry *entry;

	if (mailbox->taken == NULL)
		mailbox->taken = stack_take_all(&mailbox->mail);
	if (mailbox->taken == NULL)
		return NULL;
	entry = mailbox->taken;
	/* Read the link before the taker clears `mailed`: from then on it may be pushed again. */
	mailbox->taken = entry->next;
	return entry;
}

bool mailbox_has_mail(const struct mailbox *mailbox)
{
	return mailbox->taken != NULL || !stack_is_empty(&mailbox->mail);
}

bool mailbox_sleep(struct mailbox *mailbox)
{
	if (mailbox->taken != NULL)
		return false;
	atomic_store_explicit(&mailbox->sleeping, true, memory_order_relaxed);
	ph_fence_full();
	if (stack_is_empty(&mailbox->mail))
		return true;
	atomic_store_explicit(&mailbox->sleeping, false, memory_order_relaxed);
	return false;
}

void mailbox_awake(struct mailbox *mailbox)
{
	atomic_store_explicit(&mailbox->sleeping, false, memory_order_relaxed);
}
