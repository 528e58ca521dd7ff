/*
 * The newest receipts of one shard. A cell's sequence is odd while the owner writes receipt n into it,
 * 2n + 1, and even after: 2n + 2. A reader that wants receipt n takes the sequence, copies the words, and
 * takes the sequence again; 2n + 2 both times means that the copy is whole.
 *
 * Proof: all is atomic, the owner's stores of words are releases, a reader's loads of them are acquires.
 * A reader that got one word of a later receipt synchronizes with its store, and so its second
 * look at the sequence gives the odd number stored before it, or a later one. One that got a word
 * of an earlier receipt cannot have seen 2n + 2 first, which releases all words of n. There is nothing
 * to try again: a cell that does not hold n any more never will.
 */
#include "engine/history.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define RECEIPT_WORDS ((sizeof(struct ph_receipt) + 7) / 8)

struct cell {
	_Atomic uint64_t sequence;
	_Atomic uint64_t words[RECEIPT_WORDS];
};

struct history {
	uint32_t count;
	_Atomic uint64_t written; /* receipts put so far: the owner writes, all read */
	struct cell *cells;
};

static size_t cells_bytes(uint32_t count)
{
	return (size_t)count * sizeof(struct cell);
}

int history_create(uint32_t count, struct history **out)
{
	struct history *history = memory_zalloc(sizeof(*history));

	assert(count >= 1);
	if (history == NULL)
		return -ENOMEM;
	history->cells = memory_map(cells_bytes(count));
	if (history->cells == NULL) {
		memory_free(history);
		return -ENOMEM;
	}
	history->count = count;
	*out = history;
	return 0;
}

void history_destroy(struct history *history)
{
	if (history == NULL)
		return;
	memory_unmap(history->cells, cells_bytes(history->count));
	memory_free(history);
}

void history_put(struct history *history, const struct ph_receipt *receipt)
{
	uint64_t number = atomic_load_explicit(&history->written, memory_order_relaxed);
	struct cell *cell = &history->cells[number % history->count];
	uint64_t words[RECEIPT_WORDS] = {0};

	memcpy(words, receipt, sizeof(*receipt));
	atomic_store_explicit(&cell->sequence, 2 * number + 1, memory_order_relaxed);
	for (size_t i = 0; i < RECEIPT_WORDS; i++)
		atomic_store_explicit(&cell->words[i], words[i], memory_order_release);
	atomic_store_explicit(&cell->sequence, 2 * number + 2, memory_order_release);
	atomic_store_explicit(&history->written, number + 1, memory_order_release);
}

/* Copy receipt `number`; false when it has been written over. */
static bool cell_read(const struct history *history, uint64_t number, struct ph_receipt *receipt)
{
	const struct cell *cell = &history->cells[number % history->count];
	uint64_t words[RECEIPT_WORDS], whole = 2 * number + 2;

	if (atomic_load_explicit(&cell->sequence, memory_order_acquire) != whole)
		return false;
	for (size_t i = 0; i < RECEIPT_WORDS; i++)
		words[i] = atomic_load_explicit(&cell->words[i], memory_order_acquire);
	if (atomic_load_explicit(&cell->sequence, memory_order_acquire) != whole)
		return false;
	memcpy(receipt, words, sizeof(*receipt));
	return true;
}

uint32_t history_read(
	const struct history *history, struct ph_receipt *receipts, uint32_t count_max)
{
	uint64_t written = atomic_load_explicit(&history->written, memory_order_acquire);
	uint64_t oldest = written > history->count ? written - history->count : 0;
	uint32_t count = 0;

	for (uint64_t number = written; number > oldest && count < count_max; number--)
		count += cell_read(history, number - 1, &receipts[count]);
	return count;
}
