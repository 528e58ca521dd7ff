/* A shard's mailbox; invariant and proof in mailbox.h. */
#include "engine/mailbox.h"

#include "engine/check.h"
#include "engine/ring.h"
#include "engine/tsan.h"

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

	PH_TSAN_RELEASE(&mailbox->mail);
	ck_stack_push_upmc(&mailbox->mail, entry);
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&mailbox->sleeping, memory_order_relaxed))
		return;
	if (!atomic_compare_exchange_strong(&mailbox->sleeping, &sleeping, false))
		return;
	atomic_fetch_add_explicit(&mailbox->wakes, 1, memory_order_relaxed);
	waker_wake(mailbox->waker);
}

/* The stack gives the newest first; turn the batch around. */
static struct ck_stack_entry *entries_reverse(struct ck_stack_entry *entry)
{
	struct ck_stack_entry *reversed = NULL;

	while (entry != NULL) {
		struct ck_stack_entry *next = entry->next;

		entry->next = reversed;
		reversed = entry;
		entry = next;
	}
	return reversed;
}

struct ck_stack_entry *mailbox_take(struct mailbox *mailbox)
{
	struct ck_stack_entry *entry;

	if (mailbox->taken == NULL) {
		if (ck_pr_load_ptr(&mailbox->mail.head) == NULL)
			return NULL;
		entry = ck_stack_batch_pop_upmc(&mailbox->mail);
		PH_TSAN_ACQUIRE(&mailbox->mail);
		mailbox->taken = entries_reverse(entry);
	}
	entry = mailbox->taken;
	/* Read the link before the taker clears `mailed`: from then on it may be pushed again. */
	mailbox->taken = entry->next;
	return entry;
}

bool mailbox_has_mail(const struct mailbox *mailbox)
{
	return mailbox->taken != NULL || ck_pr_load_ptr(&mailbox->mail.head) != NULL;
}

bool mailbox_sleep(struct mailbox *mailbox)
{
	if (mailbox->taken != NULL)
		return false;
	atomic_store_explicit(&mailbox->sleeping, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (ck_pr_load_ptr(&mailbox->mail.head) == NULL)
		return true;
	atomic_store_explicit(&mailbox->sleeping, false, memory_order_relaxed);
	return false;
}

void mailbox_awake(struct mailbox *mailbox)
{
	atomic_store_explicit(&mailbox->sleeping, false, memory_order_relaxed);
}
