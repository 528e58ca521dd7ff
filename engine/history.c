/*
 * The newest receipts of one shard. A cell's sequence is odd while the owner writes it and even after:
 * 2 x (number of the receipt in it) + 2. A reader takes the sequence, copies the words, and takes the
 * sequence again: equal and even means that the copy is whole. Words are atomic and relaxed; the two
 * fences order them against the sequence (Boehm, "Can seqlocks get along with programming language
 * memory models?", MSPC 2012).
 */
#include "engine/history.h"

#include "engine/memory.h"
#include "engine/tsan.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define RECEIPT_WORDS ((sizeof(struct ph_receipt) + 7) / 8)
#define READ_TRIES 4

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
	ph_fence_release();
	for (size_t i = 0; i < RECEIPT_WORDS; i++)
		atomic_store_explicit(&cell->words[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&cell->sequence, 2 * number + 2, memory_order_release);
	atomic_store_explicit(&history->written, number + 1, memory_order_release);
}

/* Copy receipt `number`; false when it has been written over. */
static bool cell_read(const struct history *history, uint64_t number, struct ph_receipt *receipt)
{
	const struct cell *cell = &history->cells[number % history->count];
	uint64_t words[RECEIPT_WORDS];

	for (int tries = 0; tries < READ_TRIES; tries++) {
		uint64_t before = atomic_load_explicit(&cell->sequence, memory_order_acquire);

		for (size_t i = 0; i < RECEIPT_WORDS; i++)
			words[i] = atomic_load_explicit(&cell->words[i], memory_order_relaxed);
		ph_fence_acquire();
		if (before != 2 * number + 2 ||
			atomic_load_explicit(&cell->sequence, memory_order_relaxed) != before)
			continue;
		memcpy(receipt, words, sizeof(*receipt));
		return true;
	}
	return false;
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
