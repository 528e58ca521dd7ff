/*
 * The slot table and the slot word: every answer of every call, one thread first, then closers, senders,
 * pins and an owner on one table with an audit: each opening is won by exactly one close, no chunk is lost
 * or reaches another generation, and each is freed once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/mailbox.h"
#include "engine/slot.h"
#include "engine/stack.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TAG 7

static struct slot_table table;

static int table_begin(void **state)
{
	(void)state;
	memset(&table, 0, sizeof(table));
	assert_int_equal(slot_table_init(&table, 8), 0);
	assert_int_equal(slot_table_fill(&table, 8), 8);
	return 0;
}

/* A slot taken and open in its first generation. */
static struct slot *slot_open_now(uint32_t *generation)
{
	int64_t index = slot_take(&table);
	struct slot *slot;

	assert_true(index >= 0);
	slot = &table.slots[index];
	*generation = slot_open(slot, TAG, 0, false);
	assert_true(slot_become_open(slot));
	return slot;
}

static uint64_t word_of(const struct slot *slot)
{
	return atomic_load(&slot->word);
}

/* ---- ids and the table --------------------------------------------------------------------- */

static void ids_carry_their_parts(void **state)
{
	uint64_t id = slot_id(200, 0xabcdef, 0x80000001);

	(void)state;
	assert_int_equal(slot_id_home(id), 200);
	assert_int_equal(slot_id_slot(id), 0xabcdef);
	assert_int_equal(slot_id_generation(id), 0x80000001);
}

static void table_takes_and_puts_in_order(void **state)
{
	(void)state;
	assert_int_equal(slot_free_count(&table), 8);
	for (int64_t i = 0; i < 8; i++)
		assert_int_equal(slot_take(&table), i);
	assert_int_equal(slot_take(&table), -1);
	assert_int_equal(slot_free_count(&table), 0);
	assert_true(slot_put(&table, 5));
	assert_true(slot_put(&table, 2));
	assert_int_equal(slot_take(&table), 5);
	assert_int_equal(slot_take(&table), 2);
	assert_int_equal(slot_take(&table), -1);
}

static void table_keeps_the_retired_out(void **state)
{
	(void)state;
	while (slot_take(&table) >= 0)
		;
	table.generation_last = 3;
	atomic_store(&table.slots[1].word, 4ull << SLOT_GENERATION_SHIFT);
	atomic_store(&table.slots[2].word, 3ull << SLOT_GENERATION_SHIFT);
	assert_false(slot_put(&table, 1));
	assert_true(slot_put(&table, 2));
	assert_int_equal(atomic_load(&table.retired), 1);
	assert_int_equal(slot_take(&table), 2);
	assert_int_equal(slot_table_fill(&table, 8), 7);
	assert_int_equal(slot_free_count(&table), 7);
}

/* The last generation of all: the word becomes one that no id matches. */
static void generation_wraps_into_retirement(void **state)
{
	struct slot *slot = &table.slots[0];

	(void)state;
	assert_int_equal(slot_take(&table), 0);
	atomic_store(&slot->word, (uint64_t)UINT32_MAX << SLOT_GENERATION_SHIFT);
	assert_int_equal(slot_open(slot, TAG, 0, false), UINT32_MAX);
	assert_true(slot_end(slot));
	assert_true(slot_free(slot));
	assert_int_equal(slot_word_generation(word_of(slot)), 0);
	assert_int_equal(slot_word_state(word_of(slot)), SLOT_FREE);
	assert_false(slot_put(&table, 0));
	assert_int_equal(slot_close(slot, 0, TAG, true), SLOT_NOT_FOUND);
	assert_int_equal(slot_close_enter(slot, 0, TAG, true), SLOT_NOT_FOUND);
	assert_false(slot_send_enter(slot, 0, TAG));
	assert_false(slot_pin(slot, 0));
	assert_false(slot_is_open(slot, 0));
	assert_int_equal(slot_close(slot, UINT32_MAX, TAG, true), SLOT_NOT_FOUND);
	/* A fill keeps it out too, and counts it no second time. */
	while (slot_take(&table) >= 0)
		;
	assert_int_equal(slot_table_fill(&table, 8), 7);
	assert_int_equal(atomic_load(&table.retired), 1);
}

/* ---- close --------------------------------------------------------------------------------- */

static void close_answers(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);

	(void)state;
	assert_int_equal(generation, 1);
	assert_int_equal(slot_close(slot, 2, TAG, false), SLOT_NOT_FOUND);
	assert_int_equal(slot_close(slot, 0, TAG, false), SLOT_NOT_FOUND);
	assert_int_equal(slot_close(slot, 1, TAG + 1, false), SLOT_NOT_FOUND);
	assert_int_equal(slot_close(slot, 1, TAG, false), SLOT_PUSH);
	assert_int_equal(slot_close(slot, 1, TAG, false), SLOT_NOT_FOUND);
	assert_int_equal(slot_close(slot, 1, TAG, true), SLOT_UPGRADED); /* mail under way */
	assert_int_equal(slot_close(slot, 1, TAG, true), SLOT_NOT_FOUND);
	assert_false(slot_free(slot)); /* mail under way */
	assert_true(slot_take_mail(slot) & SLOT_CLOSE);
	assert_true(slot_free(slot));
	assert_int_equal(slot_close(slot, 1, TAG, true), SLOT_NOT_FOUND);
	/* The next generation has not begun: an id of it cannot be, and is not found. */
	assert_int_equal(slot_close(slot, 2, TAG, true), SLOT_NOT_FOUND);
}

static void close_of_a_dial_that_was_not_begun(void **state)
{
	struct slot *slot = &table.slots[slot_take(&table)];
	uint32_t generation = slot_open(slot, TAG, SLOT_RAW, true);
	uint64_t word;

	(void)state;
	assert_false(slot_is_open(slot, generation));
	assert_int_equal(atomic_load(&slot->flags), SLOT_RAW);
	assert_int_equal(slot_close(slot, generation, TAG, false), SLOT_DONE); /* link is posted */
	word = slot_take_mail(slot);
	assert_true((word & SLOT_DIAL) && (word & SLOT_CLOSE) && !(word & SLOT_ABORT));
	assert_false(word_of(slot) & SLOT_DIAL);
	assert_false(slot_become_open(slot));
	assert_false(slot_end(slot));
	assert_int_equal(slot_close(slot, generation, TAG, true), SLOT_UPGRADED_PUSH);
	assert_true(slot_take_mail(slot) & SLOT_ABORT);
	assert_true(slot_free(slot));
}

static void close_with_a_reason_enters(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);

	(void)state;
	assert_int_equal(slot_close_enter(slot, generation, TAG, true), SLOT_DONE);
	assert_int_equal(slot_word_senders(word_of(slot)), 1);
	assert_false(word_of(slot) & SLOT_MAILED);
	assert_false(slot_is_quiet(slot));
	assert_false(slot_free(slot));
	assert_int_equal(slot_close_enter(slot, generation, TAG, true), SLOT_NOT_FOUND);
	assert_int_equal(slot_close(slot, generation, TAG, true), SLOT_NOT_FOUND);
	assert_true(slot_send_leave(slot));
	assert_false(slot_is_quiet(slot));
	(void)slot_take_mail(slot);
	assert_true(slot_is_quiet(slot));
	assert_true(slot_free(slot));
	assert_int_equal(slot_word_generation(word_of(slot)), generation + 1);
}

/* Its mail is under way already: the winner still leaves like a sender, and pushes nothing. */
static void close_with_a_reason_while_mailed(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);

	(void)state;
	assert_true(slot_send_enter(slot, generation, TAG));
	assert_true(slot_send_leave(slot));
	assert_int_equal(slot_close_enter(slot, generation, TAG, false), SLOT_DONE);
	assert_int_equal(slot_close_enter(slot, generation, TAG, true), SLOT_UPGRADED);
	assert_false(slot_send_leave(slot));
	(void)slot_take_mail(slot);
	assert_true(slot_free(slot));
}

static void close_after_the_owner_has_ended_it(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);

	(void)state;
	assert_true(slot_end(slot));
	assert_int_equal(slot_close(slot, generation, TAG, false), SLOT_NOT_FOUND);
	assert_int_equal(slot_close(slot, generation, TAG, true), SLOT_NOT_FOUND);
	assert_false(slot_send_enter(slot, generation, TAG));
	assert_false(slot_pin(slot, generation));
	assert_true(slot_free(slot));
}

/* ---- senders and pins ----------------------------------------------------------------------- */

static void send_enters_and_leaves(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);

	(void)state;
	assert_false(slot_send_enter(slot, generation + 1, TAG));
	assert_false(slot_send_enter(slot, generation, TAG + 1));
	assert_true(slot_send_enter(slot, generation, TAG));
	assert_true(slot_send_enter(slot, generation, TAG));
	assert_int_equal(slot_word_senders(word_of(slot)), 2);
	assert_true(slot_send_leave(slot));
	assert_false(slot_send_leave(slot)); /* mail is under way */
	(void)slot_take_mail(slot);
	assert_int_equal(slot_close(slot, generation, TAG, false), SLOT_PUSH);
	assert_false(slot_send_enter(slot, generation, TAG));
}

static void opening_is_not_sent_to(void **state)
{
	struct slot *slot = &table.slots[slot_take(&table)];
	uint32_t generation = slot_open(slot, TAG, 0, false);

	(void)state;
	assert_false(slot_send_enter(slot, generation, TAG));
	assert_false(slot_pin(slot, generation));
	assert_int_equal(slot_close(slot, generation, TAG, true), SLOT_PUSH);
}

static void pins_mail_only_when_somebody_may_wait(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);

	(void)state;
	assert_false(slot_pin(slot, generation + 1));
	assert_true(slot_is_open(slot, generation));
	assert_false(slot_is_open(slot, generation + 1));
	assert_true(slot_pin(slot, generation));
	assert_false(slot_unpin(slot)); /* open: nobody waits for it */
	assert_false(word_of(slot) & SLOT_MAILED);
	/* A sender's mail is under way: it is left alone. */
	assert_true(slot_pin(slot, generation));
	assert_true(slot_send_enter(slot, generation, TAG));
	assert_true(slot_send_leave(slot));
	assert_false(slot_unpin(slot));
	(void)slot_take_mail(slot);
	/* A close waits, */
	assert_true(slot_pin(slot, generation));
	assert_int_equal(slot_close(slot, generation, TAG, false), SLOT_PUSH);
	assert_false(slot_is_open(slot, generation));
	assert_false(slot_pin(slot, generation));
	(void)slot_take_mail(slot);
	assert_false(slot_free(slot));
	assert_true(slot_unpin(slot));
	(void)slot_take_mail(slot);
	assert_true(slot_free(slot));
	/* and so does an end of the owner's. */
	generation = slot_open(slot, TAG, 0, false);
	assert_true(slot_become_open(slot));
	assert_true(slot_pin(slot, generation));
	assert_true(slot_pin(slot, generation));
	assert_true(slot_end(slot));
	assert_true(slot_unpin(slot));
	assert_false(slot_unpin(slot)); /* mail is under way */
	(void)slot_take_mail(slot);
	assert_true(slot_free(slot));
}

static struct chunk *chunk_with(uint8_t value)
{
	struct chunk *chunk = chunk_create(1);

	assert_non_null(chunk);
	chunk->data[0] = value;
	chunk->bytes = 1;
	return chunk;
}

static void chunks_come_in_order(void **state)
{
	uint32_t generation;
	struct slot *slot = slot_open_now(&generation);
	struct chain chain = {0};

	(void)state;
	slot_take_chunks(slot, &chain);
	assert_null(chain.head);
	for (uint8_t i = 0; i < 5; i++)
		stack_push(&slot->chunks, &chunk_with(i)->entry);
	chain_push(&chain, chunk_with(99));
	slot_take_chunks(slot, &chain);
	assert_int_equal(chain.bytes, 6);
	for (int i = -1; i < 5; i++) {
		struct chunk *chunk = chain_pop(&chain);

		assert_int_equal(chunk->data[0], i < 0 ? 99 : i);
		chunk_destroy(chunk);
	}
}

/* ---- many threads ---------------------------------------------------------------------------- */

#define STRESS_SLOTS 16u
#define STRESS_MS 700
#define STRESS_CALLERS 3

/* What callers know: the current id of each slot, as a process would pass it around. */
struct stress {
	struct slot_table table;
	struct mailbox mailbox;
	_Atomic uint64_t ids[STRESS_SLOTS]; /* 0: none */
	_Atomic uint64_t wins, sends, opens;
	atomic_bool stop;
	/* the owner's */
	uint64_t frees, ended_by_owner, won_by_close, taken;
	_Atomic uint32_t generations_won[STRESS_SLOTS]; /* the last generation that a close won */
	/* constant while open; written by the owner before, read inside a pin */
	uint64_t names[STRESS_SLOTS];
};
static struct stress stress;

static uint32_t stress_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 24);
}

static void stress_close(struct slot *slot, uint64_t id, uint32_t dice)
{
	uint32_t generation = slot_id_generation(id);
	enum slot_answer answer = dice & 1 ? slot_close(slot, generation, TAG, dice & 2)
					   : slot_close_enter(slot, generation, TAG, dice & 2);

	if (answer == SLOT_PUSH || answer == SLOT_UPGRADED_PUSH)
		mailbox_post(&stress.mailbox, &slot->link);
	if (answer != SLOT_PUSH && answer != SLOT_DONE)
		return;
	atomic_fetch_add(&stress.wins, 1);
	/* Exactly one wins a generation. */
	assert_int_not_equal(
		atomic_exchange(&stress.generations_won[slot_id_slot(id)], generation), generation);
	if (!(dice & 1) && slot_send_leave(slot))
		mailbox_post(&stress.mailbox, &slot->link);
}

static void stress_send(struct slot *slot, uint64_t id)
{
	struct chunk *chunk;

	if (!slot_send_enter(slot, slot_id_generation(id), TAG))
		return;
	chunk = chunk_create(sizeof(id));
	assert_non_null(chunk);
	memcpy(chunk->data, &id, sizeof(id));
	chunk->bytes = sizeof(id);
	atomic_fetch_add(&stress.sends, 1);
	stack_push(&slot->chunks, &chunk->entry);
	if (slot_send_leave(slot))
		mailbox_post(&stress.mailbox, &slot->link);
}

static void stress_pin(struct slot *slot, uint64_t id)
{
	uint32_t index = slot_id_slot(id);

	if (!slot_pin(slot, slot_id_generation(id)))
		return;
	assert_int_equal(stress.names[index], id);
	if (slot_unpin(slot))
		mailbox_post(&stress.mailbox, &slot->link);
}

static void *stress_caller(void *context)
{
	uint64_t random = (uint64_t)(uintptr_t)context * 0x9e3779b97f4a7c15u;

	while (!atomic_load(&stress.stop)) {
		uint32_t index = stress_random(&random) % STRESS_SLOTS;
		uint64_t id = atomic_load(&stress.ids[index]);
		struct slot *slot = &stress.table.slots[index];
		uint32_t dice = stress_random(&random);

		if ((dice >> 16 & 15) == 0)
			sched_yield(); /* few cores: let the owner in */
		if (id == 0)
			continue;
		switch (dice >> 8 & 7) {
		case 0:
			stress_close(slot, id, dice);
			break;
		case 1:
		case 2:
			stress_pin(slot, id);
			break;
		default:
			stress_send(slot, id);
			break;
		}
	}
	return NULL;
}

/* ph_open's part, on any thread: take, open with the mail to dial. */
static void *stress_opener(void *context)
{
	(void)context;
	while (!atomic_load(&stress.stop)) {
		int64_t index = slot_take(&stress.table);
		struct slot *slot;

		if (index < 0) {
			sched_yield();
			continue;
		}
		slot = &stress.table.slots[index];
		(void)slot_open(slot, TAG, 0, true);
		atomic_fetch_add(&stress.opens, 1);
		mailbox_post(&stress.mailbox, &slot->link);
	}
	return NULL;
}

static void stress_take_chunks(struct slot *slot, uint64_t id)
{
	struct chain chain = {0};
	struct chunk *chunk;

	slot_take_chunks(slot, &chain);
	while ((chunk = chain_pop(&chain)) != NULL) {
		uint64_t sent_to;

		memcpy(&sent_to, chunk->data, sizeof(sent_to));
		assert_int_equal(sent_to, id);
		stress.taken++;
		chunk_destroy(chunk);
	}
}

static void stress_owner_mail(struct slot *slot, bool last)
{
	uint32_t index = (uint32_t)(slot - stress.table.slots);
	uint64_t word = slot_take_mail(slot);
	uint64_t id = slot_id(0, index, slot_word_generation(word));

	if (word & SLOT_DIAL) {
		stress.names[index] = id;
		(void)slot_become_open(slot);
		atomic_store(&stress.ids[index], id);
	}
	if (slot_word_state(word) == SLOT_FREE)
		return; /* a pin's late leave */
	stress_take_chunks(slot, id);
	/* Now and then the owner ends it himself. */
	if (!(word & SLOT_CLOSE) && slot_word_state(word) != SLOT_ENDING &&
		(last || (slot_word_generation(word) & 7) == 0) && slot_end(slot))
		stress.ended_by_owner++;
	word = word_of(slot);
	if (!(word & SLOT_CLOSE) && slot_word_state(word) != SLOT_ENDING)
		return;
	if (!slot_is_quiet(slot))
		return; /* its mail comes */
	stress_take_chunks(slot, id);
	if (!slot_free(slot))
		return;
	assert_true(stack_is_empty(&slot->chunks));
	stress.won_by_close += (word & SLOT_CLOSE) != 0;
	stress.frees++;
	if (!last)
		assert_true(slot_put(&stress.table, index));
}

static void stress_drain(bool last)
{
	struct ck_stack_entry *link;

	while ((link = mailbox_take(&stress.mailbox)) != NULL)
		stress_owner_mail(
			(struct slot *)(void *)((char *)link - offsetof(struct slot, link)), last);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void many_threads_on_one_table(void **state)
{
	pthread_t threads[STRESS_CALLERS + 1];
	uint64_t until = now_ms() + STRESS_MS;

	(void)state;
	assert_int_equal(slot_table_init(&stress.table, STRESS_SLOTS), 0);
	mailbox_init(&stress.mailbox, 0); /* the owner never sleeps, so nobody is woken */
	assert_int_equal(slot_table_fill(&stress.table, STRESS_SLOTS), STRESS_SLOTS);
	for (uintptr_t i = 0; i < STRESS_CALLERS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, stress_caller, (void *)(i + 1)), 0);
	assert_int_equal(pthread_create(&threads[STRESS_CALLERS], NULL, stress_opener, NULL), 0);
	while (now_ms() < until) {
		stress_drain(false);
		sched_yield();
	}
	atomic_store(&stress.stop, true);
	for (int i = 0; i <= STRESS_CALLERS; i++)
		pthread_join(threads[i], NULL);
	stress_drain(false);
	/* What is still open: close each once more, as a stop does. */
	for (uint32_t index = 0; index < STRESS_SLOTS; index++) {
		struct slot *slot = &stress.table.slots[index];

		if (slot_word_state(word_of(slot)) == SLOT_FREE)
			continue;
		stress_close(slot, slot_id(0, index, slot_word_generation(word_of(slot))), 1);
	}
	stress_drain(true);
	print_message("%llu openings, %llu closes won, %llu ended by the owner, %llu sends\n",
		(unsigned long long)atomic_load(&stress.opens),
		(unsigned long long)atomic_load(&stress.wins),
		(unsigned long long)stress.ended_by_owner,
		(unsigned long long)atomic_load(&stress.sends));
	assert_int_equal(atomic_load(&stress.opens), stress.frees);
	assert_int_equal(atomic_load(&stress.wins), stress.won_by_close);
	assert_int_equal(stress.won_by_close + stress.ended_by_owner, stress.frees);
	assert_int_equal(atomic_load(&stress.sends), stress.taken);
	assert_true(stress.frees > 0);
}

/* ---- two at once on one word ------------------------------------------------------------------ */

#define RACE_ROUNDS 20000u
#define RACE_MS 400u
#define TAKERS 2
#define TAKE_SLOTS 4000u

static struct slot race_slot;
static _Atomic uint32_t race_generation; /* the round's; 0: none */
static atomic_bool race_stop;
static _Atomic uint64_t race_wins, race_upgrades;

/* Closes gracefully, upgrades at once, and again: some of it meets the owner's own steps. The owner does not
 * wait for mail here, so nothing is posted: he looks at the word. */
static void *race_closer(void *context)
{
	bool pins_most = context != NULL;
	uint32_t generation;

	for (uint32_t turn = 1; !atomic_load(&race_stop); turn++) {
		enum slot_answer answer;

		generation = atomic_load(&race_generation);
		if (pins_most && turn % 256 != 0) {
			if (slot_pin(&race_slot, generation))
				(void)slot_unpin(&race_slot);
			continue;
		}
		answer = slot_close(&race_slot, generation, TAG, false);
		if (answer == SLOT_PUSH || answer == SLOT_DONE)
			atomic_fetch_add(&race_wins, 1);
		answer = slot_close(&race_slot, generation, TAG, true);
		if (answer == SLOT_UPGRADED || answer == SLOT_UPGRADED_PUSH)
			atomic_fetch_add(&race_upgrades, 1);
		else if (answer == SLOT_PUSH || answer == SLOT_DONE)
			atomic_fetch_add(&race_wins, 1);
		if (slot_pin(&race_slot, generation))
			(void)slot_unpin(&race_slot);
	}
	return NULL;
}

/* The owner's own end against a close and its upgrade: one of them has won each round, and the slot is
 * freed once, after the upgrade or before it. */
static void owner_and_closers_on_one_word(void **state)
{
	uint64_t until = now_ms() + RACE_MS, owner_wins = 0, lost = 0;
	pthread_t threads[2];
	uint32_t round;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, race_closer, i == 0 ? NULL : &race_slot),
			0);
	for (round = 0; round < RACE_ROUNDS && now_ms() < until; round++) {
		atomic_store(&race_generation, slot_open(&race_slot, TAG, 0, false));
		(void)slot_become_open(&race_slot);
		/* In every other round a close gets a while to be first. */
		for (uint32_t spin = 0; spin < (round & 1) * 20000; spin++)
			if (word_of(&race_slot) & SLOT_CLOSE)
				break;
		if (slot_end(&race_slot))
			owner_wins++;
		else
			lost++;
		while (!slot_free(&race_slot))
			if (word_of(&race_slot) & SLOT_MAILED)
				(void)slot_take_mail(&race_slot);
	}
	atomic_store(&race_stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	print_message("%u rounds, %llu upgrades\n", round,
		(unsigned long long)atomic_load(&race_upgrades));
	assert_int_equal(owner_wins + lost, round);
	assert_int_equal(atomic_load(&race_wins), lost);
}

static struct slot_table take_table;
static _Atomic uint32_t taken_in[TAKE_SLOTS]; /* the round in which it was taken last */
static _Atomic uint32_t take_round, take_done;

static void *taker(void *context)
{
	(void)context;
	for (uint32_t round = 1;; round++) {
		uint32_t now;
		int64_t index;

		while ((now = atomic_load(&take_round)) < round)
			;
		if (now == UINT32_MAX)
			return NULL;
		while ((index = slot_take(&take_table)) >= 0)
			assert_int_not_equal(atomic_exchange(&taken_in[index], round), round);
		atomic_fetch_add(&take_done, 1);
	}
}

/* Each free slot goes to one taker. */
static void takers_share_the_queue(void **state)
{
	uint64_t until = now_ms() + RACE_MS;
	pthread_t threads[TAKERS];
	uint32_t round = 0;

	(void)state;
	assert_int_equal(slot_table_init(&take_table, TAKE_SLOTS), 0);
	for (int i = 0; i < TAKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, taker, NULL), 0);
	do {
		round++;
		assert_int_equal(slot_table_fill(&take_table, TAKE_SLOTS), TAKE_SLOTS);
		atomic_store(&take_round, round);
		while (atomic_load(&take_done) < TAKERS * round)
			sched_yield();
		for (uint32_t i = 0; i < TAKE_SLOTS; i++)
			assert_int_equal(atomic_load(&taken_in[i]), round);
	} while (now_ms() < until);
	atomic_store(&take_round, UINT32_MAX);
	for (int i = 0; i < TAKERS; i++)
		pthread_join(threads[i], NULL);
}

#define CASE(function) cmocka_unit_test_setup(function, table_begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(ids_carry_their_parts),
		CASE(table_takes_and_puts_in_order),
		CASE(table_keeps_the_retired_out),
		CASE(generation_wraps_into_retirement),
		CASE(close_answers),
		CASE(close_of_a_dial_that_was_not_begun),
		CASE(close_with_a_reason_enters),
		CASE(close_with_a_reason_while_mailed),
		CASE(close_after_the_owner_has_ended_it),
		CASE(send_enters_and_leaves),
		CASE(opening_is_not_sent_to),
		CASE(pins_mail_only_when_somebody_may_wait),
		CASE(chunks_come_in_order),
		cmocka_unit_test(many_threads_on_one_table),
		cmocka_unit_test(owner_and_closers_on_one_word),
		cmocka_unit_test(takers_share_the_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
