/* Slots and the slot word; what always holds stands in slot.h. */
#include "engine/slot.h"

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/stack.h"

#include <errno.h>

#define STATE_BITS(state) ((uint64_t)(state) << SLOT_STATE_SHIFT)

/* ---- table ------------------------------------------------------------------------------ */

int slot_table_init(struct slot_table *table, uint32_t slot_count)
{
	size_t ring_bytes = (size_t)slot_count * sizeof(*table->free_ring);

	table->slots = memory_map((size_t)slot_count * sizeof(*table->slots));
	if (table->slots == NULL)
		return -ENOMEM;
	table->free_ring = memory_map(ring_bytes);
	if (table->free_ring == NULL) {
		memory_unmap(table->slots, (size_t)slot_count * sizeof(*table->slots));
		table->slots = NULL;
		return -ENOMEM;
	}
	table->slot_count = slot_count;
	table->is_begun = false;
	table->generation_last = UINT32_MAX;
	atomic_init(&table->free_head, 0);
	atomic_init(&table->free_tail, 0);
	atomic_init(&table->retired, 0);
	/* A slot of zeroed pages has generation 0 = not begun; slot_table_fill begins at 1, so the pages of
	 * slots that are never used are never touched. */
	return 0;
}

/* Beyond the last generation; where that is the largest number of all, the word is slot_free's last. */
static bool slot_word_is_retired(const struct slot_table *table, uint64_t word)
{
	return slot_word_generation(word) > table->generation_last ||
		(slot_word_generation(word) == 0 && word != 0);
}

uint32_t slot_table_fill(struct slot_table *table, uint32_t count)
{
	uint32_t filled = 0;

	assert(count <= table->slot_count);
	assert(atomic_load(&table->free_head) == atomic_load(&table->free_tail));
	if (!table->is_begun) {
		/* Not even read: some kernels give a page to whoever reads where nothing was written. */
		for (uint32_t index = 0; index < count; index++)
			atomic_store_explicit(
				&table->free_ring[index], index, memory_order_relaxed);
		atomic_store_explicit(&table->free_tail, count, memory_order_release);
		table->is_begun = true;
		return count;
	}
	for (uint32_t index = 0; index < count; index++) {
		uint64_t word =
			atomic_load_explicit(&table->slots[index].word, memory_order_relaxed);

		assert(slot_word_state(word) == SLOT_FREE);
		if (slot_word_is_retired(table, word))
			continue; /* counted when it was */
		filled += slot_put(table, index);
	}
	return filled;
}

int64_t slot_take(struct slot_table *table)
{
	/* Acquire: with a head comes at least the tail that its taker saw, so that an older tail never makes a
	 * full queue look empty. */
	uint64_t head = atomic_load_explicit(&table->free_head, memory_order_acquire);

	for (;;) {
		uint64_t tail = atomic_load_explicit(&table->free_tail, memory_order_acquire);
		uint32_t index;

		if (head >= tail)
			return -1;
		/* May be overwritten while we read only if head has moved on: then the CAS fails. */
		index = atomic_load_explicit(
			&table->free_ring[head % table->slot_count], memory_order_relaxed);
		if (atomic_compare_exchange_weak_explicit(&table->free_head, &head, head + 1,
			    memory_order_acq_rel, memory_order_acquire))
			return index;
	}
}

bool slot_put(struct slot_table *table, uint32_t slot_index)
{
	uint64_t tail = atomic_load_explicit(&table->free_tail, memory_order_relaxed);
	uint64_t word = atomic_load_explicit(&table->slots[slot_index].word, memory_order_relaxed);

	assert(slot_word_state(word) == SLOT_FREE);
	if (slot_word_is_retired(table, word)) {
		atomic_fetch_add_explicit(&table->retired, 1, memory_order_relaxed);
		return false;
	}
	atomic_store_explicit(
		&table->free_ring[tail % table->slot_count], slot_index, memory_order_relaxed);
	atomic_store_explicit(&table->free_tail, tail + 1, memory_order_release);
	return true;
}

uint32_t slot_free_count(const struct slot_table *table)
{
	uint64_t head = atomic_load_explicit(&table->free_head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&table->free_tail, memory_order_relaxed);

	return tail > head ? (uint32_t)(tail - head) : 0;
}

/* ---- any thread ------------------------------------------------------------------------- */

uint32_t slot_open(struct slot *slot, uint64_t tag, uint32_t flags, bool dial)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	uint32_t generation = slot_word_generation(word);

	assert(slot_word_state(word) == SLOT_FREE);
	assert((word & 0xffffffffull) == 0);
	if (generation == 0)
		generation = 1;
	atomic_store_explicit(&slot->tag, tag, memory_order_relaxed);
	atomic_store_explicit(&slot->flags, flags, memory_order_relaxed);
	atomic_store_explicit(&slot->queued_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->bytes_queued, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->messages_queued, 0, memory_order_relaxed);
	/* Nobody changes the word of a FREE slot that has been taken, so a store is enough; the release
	 * meets the acquire of whoever uses the id. */
	word = (uint64_t)generation << SLOT_GENERATION_SHIFT | STATE_BITS(SLOT_OPENING);
	if (dial)
		word |= SLOT_DIAL | SLOT_MAILED;
	atomic_store_explicit(&slot->word, word, memory_order_release);
	return generation;
}

static bool word_may_close(uint64_t word)
{
	enum slot_state state = slot_word_state(word);

	return (state == SLOT_OPENING || state == SLOT_OPEN) && !(word & SLOT_CLOSE);
}

static bool word_may_enter(uint64_t word)
{
	return slot_word_state(word) == SLOT_OPEN && !(word & SLOT_CLOSE);
}

/* The word of this generation under this tag, or false. The tag is read between a load of the word
 * and a CAS on it: were the slot recycled in between, the generation would differ and the CAS fail. */
static bool slot_match(const struct slot *slot, uint32_t generation, uint64_t tag, uint64_t *word)
{
	*word = atomic_load_explicit(&slot->word, memory_order_acquire);
	return slot_word_generation(*word) == generation && slot_word_state(*word) != SLOT_FREE &&
		atomic_load_explicit(&slot->tag, memory_order_relaxed) == tag;
}

static enum slot_answer slot_close_step(
	struct slot *slot, uint32_t generation, uint64_t tag, bool abort, bool enter)
{
	uint64_t word, next;

	if (generation == 0)
		return SLOT_NOT_FOUND;
	for (;;) {
		bool upgrade = false;

		if (!slot_match(slot, generation, tag, &word))
			return SLOT_NOT_FOUND;
		if (word_may_close(word)) {
			next = word | SLOT_CLOSE | (abort ? SLOT_ABORT : 0);
			next = enter ? next + SLOT_SENDER : next | SLOT_MAILED;
		} else if (abort && (word & SLOT_CLOSE) && !(word & SLOT_ABORT)) {
			upgrade = true;
			next = word | SLOT_ABORT | SLOT_UPGRADED_BIT | SLOT_MAILED;
		} else {
			return SLOT_NOT_FOUND;
		}
		if (!atomic_compare_exchange_weak_explicit(
			    &slot->word, &word, next, memory_order_acq_rel, memory_order_relaxed))
			continue;
		if (upgrade)
			return (word & SLOT_MAILED) ? SLOT_UPGRADED : SLOT_UPGRADED_PUSH;
		return !enter && !(word & SLOT_MAILED) ? SLOT_PUSH : SLOT_DONE;
	}
}

enum slot_answer slot_close(struct slot *slot, uint32_t generation, uint64_t tag, bool abort)
{
	return slot_close_step(slot, generation, tag, abort, false);
}

enum slot_answer slot_close_enter(struct slot *slot, uint32_t generation, uint64_t tag, bool abort)
{
	return slot_close_step(slot, generation, tag, abort, true);
}

bool slot_send_enter(struct slot *slot, uint32_t generation, uint64_t tag)
{
	uint64_t word;

	if (generation == 0)
		return false;
	do {
		if (!slot_match(slot, generation, tag, &word) || !word_may_enter(word))
			return false;
		/* 65,535 threads inside one connection at once: more than a process can have. */
		assert(slot_word_senders(word) < SLOT_SENDERS_MASK);
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, word + SLOT_SENDER,
		memory_order_acq_rel, memory_order_relaxed));
	return true;
}

bool slot_send_leave(struct slot *slot)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);

	do {
		assert(slot_word_senders(word) > 0);
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word,
		(word - SLOT_SENDER) | SLOT_MAILED, memory_order_acq_rel, memory_order_relaxed));
	return !(word & SLOT_MAILED);
}

bool slot_pin(struct slot *slot, uint32_t generation)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);

	do {
		if (generation == 0 || slot_word_generation(word) != generation ||
			!word_may_enter(word))
			return false;
		assert(slot_word_senders(word) < SLOT_SENDERS_MASK);
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, word + SLOT_SENDER,
		memory_order_acq_rel, memory_order_acquire));
	return true;
}

bool slot_unpin(struct slot *slot)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	uint64_t next;

	do {
		assert(slot_word_senders(word) > 0);
		next = word - SLOT_SENDER;
		if ((word & SLOT_CLOSE) || slot_word_state(word) == SLOT_ENDING)
			next |= SLOT_MAILED;
	} while (!atomic_compare_exchange_weak_explicit(
		&slot->word, &word, next, memory_order_acq_rel, memory_order_relaxed));
	return (next & SLOT_MAILED) && !(word & SLOT_MAILED);
}

bool slot_is_open(const struct slot *slot, uint32_t generation)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);

	return generation != 0 && slot_word_generation(word) == generation && word_may_enter(word);
}

/* ---- owner ------------------------------------------------------------------------------ */

uint64_t slot_take_mail(struct slot *slot)
{
	uint64_t before = atomic_fetch_and_explicit(
		&slot->word, ~(SLOT_MAILED | SLOT_DIAL), memory_order_acq_rel);

	assert(before & SLOT_MAILED);
	return before;
}

/* The owner moves the state unless a local close has won. */
static bool slot_move(struct slot *slot, enum slot_state next)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);

	do {
		if (word & SLOT_CLOSE)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word,
		(word & ~SLOT_STATE_MASK) | STATE_BITS(next), memory_order_acq_rel,
		memory_order_relaxed));
	assert(slot_word_state(word) == SLOT_OPENING || slot_word_state(word) == SLOT_OPEN);
	return true;
}

bool slot_become_open(struct slot *slot)
{
	return slot_move(slot, SLOT_OPEN);
}

bool slot_end(struct slot *slot)
{
	return slot_move(slot, SLOT_ENDING);
}

bool slot_is_quiet(const struct slot *slot)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);

	return slot_word_senders(word) == 0 && !(word & SLOT_MAILED);
}

bool slot_free(struct slot *slot)
{
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
	uint64_t next;

	do {
		if (slot_word_senders(word) != 0 || (word & SLOT_MAILED))
			return false;
		assert((word & SLOT_CLOSE) || slot_word_state(word) == SLOT_ENDING);
		next = ((uint64_t)slot_word_generation(word) + 1) << SLOT_GENERATION_SHIFT;
		/* After the last generation the word is the single value with generation 0 that is not 0:
		 * no id matches it, and slot_put keeps it out of the queue for good. */
		if (next == 0)
			next = SLOT_ABORT;
	} while (!atomic_compare_exchange_weak_explicit(
		&slot->word, &word, next, memory_order_acq_rel, memory_order_acquire));
	return true;
}

void slot_take_chunks(struct slot *slot, struct chain *chain)
{
	struct ck_stack_entry *entry = stack_take_all(&slot->chunks);

	while (entry != NULL) {
		struct ck_stack_entry *next = entry->next;

		chain_push(chain,
			(struct chunk *)(void *)((char *)entry - offsetof(struct chunk, entry)));
		entry = next;
	}
}
