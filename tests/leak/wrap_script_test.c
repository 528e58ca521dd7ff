/*
 * Generations that run out, on the scripted ring: connections of every kind end in every way until no slot
 * is left, while late completions of former lives arrive at the slot's present one, and every id ever
 * given out is tried in every call.
 */
#include "tests/fake/harness_case.h"

#include "stress/random.h"

#include <time.h>

#define SLOTS 8u
#define LIVES 6u
#define IDS_MAX (SLOTS * (LIVES + 1))

enum life_kind {
	LIFE_RAW,
	LIFE_MESSAGE,
	LIFE_ACCEPTED,
	LIFE_KIND_COUNT,
};

enum life_end {
	END_GRACEFUL,
	END_ABORT,
	END_UPGRADE,
	END_REMOTE,
	END_REMOTE_ERROR,
	END_COUNT,
};

static uint64_t ids[IDS_MAX];
static uint32_t id_count;
static struct random dice;

/* Narrow the life of the table's slots. Returns the lives left to all of them together. */
static uint32_t narrow(void)
{
	struct slot_table *table = &it.shard->home->table;
	uint32_t least = UINT32_MAX, left = 0;

	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < it.shard->slot_count; i++) {
			uint32_t generation =
				slot_word_generation(atomic_load(&table->slots[i].word));

			generation += generation == 0;
			if (pass == 0)
				least = generation < least ? generation : least;
			else
				left += generation >= least + LIVES ? 1
								    : least + LIVES - generation;
		}
	}
	table->generation_last = least + LIVES - 1;
	return left;
}

static void try_stale(void)
{
	for (uint32_t i = 0; i < id_count; i++) {
		if (harness_peer(&it, ids[i])->closed == 0)
			continue;
		assert_int_equal(harness_close(&it, ids[i], PH_GRACEFUL), -ENOENT);
		assert_int_equal(harness_close_text(&it, ids[i], PH_ABORT, 99, "stale"), -ENOENT);
		assert_int_equal(harness_send(&it, ids[i], "x", 1), -ENOENT);
		assert_int_equal(ph_pause(ids[i], HARNESS_TAG), -ENOENT);
		assert_int_equal(ph_resume(ids[i], HARNESS_TAG), -ENOENT);
	}
}

/* Late answers to what former lives of this slot had asked for: dropped, each counted. */
static void stray_of_former_lives(uint64_t id)
{
	static const enum op_kind kinds[] = {OP_OPTION, OP_CANCEL, OP_DISCONNECT, OP_CLOSE};
	uint64_t before = harness_counter(&it, COUNTER_completions_stale);
	uint32_t strays = 0;

	for (uint32_t i = 0; i < id_count; i++) {
		if (slot_id_slot(ids[i]) != slot_id_slot(id) || ids[i] == id)
			continue;
		script_stray(it.ring,
			op_data(kinds[strays % 4], slot_id_slot(ids[i]),
				slot_id_generation(ids[i])),
			strays % 2 == 0 ? -ECANCELED : -EALREADY, false);
		strays++;
	}
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_completions_stale), before + strays);
}

/* 0: no slot was to be had. */
static uint64_t life_begin(enum life_kind kind, int32_t *file)
{
	uint64_t id;

	if (it.shard->slots_usable == 0)
		return 0;
	/* Accepting leaves a share of the table free, and needs more than that to begin again. */
	if (kind == LIFE_ACCEPTED && !it.shard->accept_paused)
		return harness_open_accepted(&it, PH_FRAMING_MESSAGE, file);
	id = harness_open_dialled(
		&it, kind == LIFE_RAW ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE, file);
	assert_int_not_equal(id, 0);
	return id;
}

static void life_end(uint64_t id, int32_t file, enum life_end end)
{
	switch (end) {
	case END_UPGRADE:
		script_hold(it.ring, 1u << SCRIPT_SEND);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turn(&it);
		assert_int_equal(harness_close(&it, id, PH_ABORT), -EALREADY);
		assert_int_equal(harness_close(&it, id, PH_ABORT), -ENOENT);
		script_hold(it.ring, 0);
		harness_turns(&it, 4);
		break;
	case END_REMOTE:
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 6);
		/* A raw peer that has said its last word may still listen: we end it then. */
		if (harness_peer(&it, id)->closed == 0)
			(void)harness_close(&it, id, PH_ABORT);
		break;
	case END_REMOTE_ERROR:
		script_peer_end(it.ring, file, -ECONNRESET);
		break;
	case END_ABORT:
		assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
		break;
	default:
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 4);
		script_peer_end(it.ring, file, 0);
		break;
	}
	harness_turns(&it, 8);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_true(script_is_closed(it.ring, file));
}

/* All slots to their last generation, and nothing of a former life is ever met. */
static void every_slot_to_its_last_generation(void **state)
{
	struct ph_options options;
	uint64_t seed = (uint64_t)time(NULL);
	uint32_t left, lives = 0;
	uint64_t id;

	(void)state;
	printf("seed %llu\n", (unsigned long long)seed);
	random_init(&dice, seed, 0);
	harness_options(&options);
	options.connections_per_shard = SLOTS;
	assert_int_equal(harness_start(&it, &options), 0);
	left = narrow();
	assert_in_range(left, SLOTS, IDS_MAX);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	id_count = 0;
	for (;;) {
		int32_t file = -1;

		id = life_begin((enum life_kind)random_below(&dice, LIFE_KIND_COUNT), &file);
		if (id == 0)
			break;
		for (uint32_t i = 0; i < id_count; i++)
			assert_true(ids[i] != id);
		assert_true(id_count < IDS_MAX);
		ids[id_count++] = id;
		try_stale();
		stray_of_former_lives(id);
		/* None of that has reached the slot's present owner. */
		assert_int_equal(harness_conn(&it, id)->state, CONN_OPEN);
		assert_int_equal(harness_peer(&it, id)->closed, 0);
		assert_int_equal(harness_send(&it, id, "for the living", 14), 0);
		harness_turns(&it, 2);
		life_end(id, file, (enum life_end)random_below(&dice, END_COUNT));
		lives++;
	}
	assert_int_equal(lives, left);
	assert_int_equal(it.shard->slots_usable, 0);
	assert_int_equal(harness_counter(&it, COUNTER_slots_retired), SLOTS);
	/* Nothing goes any more, and says so. */
	assert_int_equal(harness_dial(&it, PH_FRAMING_RAW), 0);
	/* Where dialling took the last slot, accepting learns of it by one stranger, who is turned away. */
	if (!it.shard->accept_paused) {
		int32_t file = harness_accept(&it);

		harness_turns(&it, 4);
		assert_true(script_is_closed(it.ring, file));
	}
	assert_true(it.shard->accept_paused);
	assert_int_equal(harness_accept(&it), -1);
	assert_int_equal(harness_counter(&it, COUNTER_slots_retired), SLOTS);
	try_stale();
	harness_end(&it);
	assert_int_equal(memory_script_live(), it.memory_before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_slot_to_its_last_generation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
