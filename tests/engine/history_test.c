/* The ring of receipts: order, overwriting, and readers beside the writer. */
#include "engine/history.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum {
	ROOM = 64,
	PUTS = 50000,
	READS = 100,
	READERS = 3
};

/* Every field that is checked follows from the number, from the first word to the last text. */
static struct ph_receipt receipt_of(uint64_t number)
{
	struct ph_receipt receipt = {.id = number,
		.tag = ~number,
		.bytes_queued = number * 3,
		.messages_received = number * 5};

	snprintf(receipt.text, sizeof(receipt.text), "our %llu", (unsigned long long)number);
	snprintf(receipt.peer_text, sizeof(receipt.peer_text), "their %llu",
		(unsigned long long)number);
	return receipt;
}

static bool is_whole(const struct ph_receipt *receipt)
{
	struct ph_receipt expected = receipt_of(receipt->id);

	return receipt->tag == expected.tag && receipt->bytes_queued == expected.bytes_queued &&
		receipt->messages_received == expected.messages_received &&
		memcmp(receipt->text, expected.text, sizeof(expected.text)) == 0 &&
		memcmp(receipt->peer_text, expected.peer_text, sizeof(expected.peer_text)) == 0;
}

static void put(struct history *history, uint64_t number)
{
	struct ph_receipt receipt = receipt_of(number);

	history_put(history, &receipt);
}

static struct history *create(uint32_t count)
{
	struct history *history = NULL;

	assert_int_equal(history_create(count, &history), 0);
	assert_non_null(history);
	return history;
}

/* Newest first, no more than asked for, no more than there are. */
static void history_newest_first(void **state)
{
	struct history *history = create(8);
	struct ph_receipt receipts[8];

	(void)state;
	assert_int_equal(history_read(history, receipts, 8), 0);
	for (uint64_t number = 1; number <= 5; number++)
		put(history, number);
	assert_int_equal(history_read(history, receipts, 8), 5);
	for (uint64_t i = 0; i < 5; i++) {
		assert_int_equal(receipts[i].id, 5 - i);
		assert_true(is_whole(&receipts[i]));
	}
	assert_int_equal(history_read(history, receipts, 2), 2);
	assert_int_equal(receipts[1].id, 4);
	assert_int_equal(history_read(history, NULL, 0), 0);
	history_destroy(history);
	history_destroy(NULL);
}

/* The oldest make room, in a ring of several and in a ring of one. */
static void history_writes_over_the_oldest(void **state)
{
	struct history *several = create(8), *one = create(1);
	struct ph_receipt receipts[20];

	(void)state;
	for (uint64_t number = 1; number <= 21; number++) {
		put(several, number);
		put(one, number);
	}
	assert_int_equal(history_read(several, receipts, 20), 8);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(receipts[i].id, 21 - i);
	assert_int_equal(history_read(one, receipts, 20), 1);
	assert_int_equal(receipts[0].id, 21);
	history_destroy(several);
	history_destroy(one);
}

struct reader {
	const struct history *history;
	const atomic_bool *done;
	atomic_uint *busy;
	const char *wrong;
	uint64_t receipts;
	pthread_t thread;
};

static const char *look(struct reader *reader)
{
	struct ph_receipt receipts[ROOM];
	uint32_t count = history_read(reader->history, receipts, ROOM);

	for (uint32_t i = 0; i < count; i++) {
		if (!is_whole(&receipts[i]))
			return "a torn receipt";
		if (i > 0 && receipts[i].id >= receipts[i - 1].id)
			return "receipts out of order";
	}
	reader->receipts += count;
	return NULL;
}

static void *reader_main(void *context)
{
	struct reader *reader = context;

	for (int reads = 0; reader->wrong == NULL; reads++) {
		if (reads == READS)
			atomic_fetch_sub(reader->busy, 1);
		if (reads >= READS && atomic_load(reader->done))
			return NULL;
		reader->wrong = look(reader);
	}
	atomic_fetch_sub(reader->busy, 1);
	return NULL;
}

/* The owner never waits for a reader, and no reader ever gets half a receipt. */
static void history_readers_while_written(void **state)
{
	struct history *history = create(ROOM);
	struct reader readers[READERS];
	atomic_bool done = false;
	atomic_uint busy = READERS;
	uint64_t receipts = 0;

	(void)state;
	for (int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.history = history, .done = &done, .busy = &busy};
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
	}
	for (uint64_t number = 1; number <= PUTS || atomic_load(&busy) > 0; number++)
		put(history, number);
	atomic_store(&done, true);
	for (int i = 0; i < READERS; i++) {
		assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
		if (readers[i].wrong != NULL)
			fail_msg("%s", readers[i].wrong);
		receipts += readers[i].receipts;
	}
	printf("%llu receipts read\n", (unsigned long long)receipts);
	history_destroy(history);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(history_newest_first),
		cmocka_unit_test(history_writes_over_the_oldest),
		cmocka_unit_test(history_readers_while_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
