/*
 * The hash part of a shard: chains of ids of one pair, reuse, limits, and one writer against three
 * readers. `--seed N` repeats a random run.
 */
#include "engine/hash.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t seed;

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static bool is_open_always(uint64_t id)
{
	(void)id;
	return true;
}

static bool is_open_odd(uint64_t id)
{
	return id & 1;
}

static struct hash_key key_of(uint64_t pair)
{
	uint64_t state = pair;
	struct hash_key key;

	key.word[0] = random_next(&state);
	key.word[1] = random_next(&state);
	return key;
}

static void expect(const struct hash *hash, uint64_t pair, const uint64_t *ids, uint32_t count)
{
	uint64_t found[16];

	assert_int_equal(hash_find(hash, key_of(pair), is_open_always, found, 16), count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(found[i], ids[i]);
}
#define EXPECT(hash, pair, ...)                             \
	expect(hash, pair, (const uint64_t[]){__VA_ARGS__}, \
		COUNT(((const uint64_t[]){__VA_ARGS__})))

static struct hash *create(uint32_t slot_count)
{
	struct hash *hash = NULL;

	assert_int_equal(hash_create(slot_count, &hash), 0);
	assert_non_null(hash);
	return hash;
}

static void insert(struct hash *hash, uint64_t pair, uint32_t slot, uint64_t id)
{
	assert_int_equal(hash_insert(hash, key_of(pair), slot, id), 0);
}

static void hash_pairs_come_and_go(void **state)
{
	struct hash *hash = create(4);

	(void)state;
	expect(hash, 1, NULL, 0);
	insert(hash, 1, 0, 100);
	insert(hash, 2, 3, 200);
	assert_int_equal(hash_count(hash), 2);
	EXPECT(hash, 1, 100);
	EXPECT(hash, 2, 200);
	expect(hash, 3, NULL, 0);
	hash_remove(hash, key_of(1), 0, 100);
	expect(hash, 1, NULL, 0);
	EXPECT(hash, 2, 200);
	insert(hash, 3, 0, 300);
	EXPECT(hash, 3, 300);
	assert_int_equal(hash_count(hash), 2);
	hash_destroy(hash);
	hash_destroy(NULL);
}

/* Both words of a key count, though the map's places follow the first alone. */
static void hash_keys_of_one_place(void **state)
{
	struct hash *hash = create(4);
	struct hash_key a = {{7, 1}}, b = {{7, 2}}, c = {{7, 3}};
	uint64_t id = 0;

	(void)state;
	assert_int_equal(hash_insert(hash, a, 0, 10), 0);
	assert_int_equal(hash_insert(hash, b, 1, 11), 0);
	assert_int_equal(hash_find(hash, a, is_open_always, &id, 1), 1);
	assert_int_equal(id, 10);
	assert_int_equal(hash_find(hash, b, is_open_always, &id, 1), 1);
	assert_int_equal(id, 11);
	assert_int_equal(hash_find(hash, c, is_open_always, &id, 1), 0);
	hash_remove(hash, a, 0, 10);
	assert_int_equal(hash_find(hash, a, is_open_always, &id, 1), 0);
	assert_int_equal(hash_find(hash, b, is_open_always, &id, 1), 1);
	hash_destroy(hash);
}

/* Newest first; removal at the head, in the middle and at the tail leaves the others in order. */
static void hash_chain_removed_anywhere(void **state)
{
	struct hash *hash = create(8);

	(void)state;
	for (uint32_t slot = 0; slot < 6; slot++)
		insert(hash, 9, slot, 10 + slot);
	insert(hash, 8, 7, 99);
	assert_int_equal(hash_count(hash), 2);
	EXPECT(hash, 9, 15, 14, 13, 12, 11, 10);
	hash_remove(hash, key_of(9), 5, 15);
	EXPECT(hash, 9, 14, 13, 12, 11, 10);
	hash_remove(hash, key_of(9), 2, 12);
	EXPECT(hash, 9, 14, 13, 11, 10);
	hash_remove(hash, key_of(9), 0, 10);
	EXPECT(hash, 9, 14, 13, 11);
	insert(hash, 8, 2, 98);
	insert(hash, 9, 0, 20);
	EXPECT(hash, 9, 20, 14, 13, 11);
	EXPECT(hash, 8, 98, 99);
	hash_remove(hash, key_of(9), 3, 13);
	hash_remove(hash, key_of(9), 0, 20);
	hash_remove(hash, key_of(9), 1, 11);
	EXPECT(hash, 9, 14);
	hash_remove(hash, key_of(9), 4, 14);
	expect(hash, 9, NULL, 0);
	EXPECT(hash, 8, 98, 99);
	assert_int_equal(hash_count(hash), 1);
	hash_destroy(hash);
}

/* Only open ids count; more than id_max are counted and not written; no room at all may be NULL. */
static void hash_find_counts_open_ids(void **state)
{
	struct hash *hash = create(8);
	uint64_t ids[3] = {0, 0, 77};

	(void)state;
	for (uint32_t slot = 0; slot < 8; slot++)
		insert(hash, 1, slot, 100 + slot);
	assert_int_equal(hash_find(hash, key_of(1), is_open_odd, ids, 2), 4);
	assert_int_equal(ids[0], 107);
	assert_int_equal(ids[1], 105);
	assert_int_equal(ids[2], 77);
	assert_int_equal(hash_find(hash, key_of(1), is_open_always, NULL, 0), 8);
	hash_destroy(hash);
}

/* As many pairs as slots, three times over with other keys: nothing is ever refused or lost. */
static void hash_full_capacity(void **state)
{
	enum {
		SLOTS = 3000
	};
	struct hash *hash = create(SLOTS);
	uint64_t random = seed;

	(void)state;
	for (uint64_t round = 0; round < 3; round++) {
		uint64_t salt = random_next(&random);

		for (uint32_t slot = 0; slot < SLOTS; slot++)
			insert(hash, salt + slot, slot, slot + 1);
		assert_int_equal(hash_count(hash), SLOTS);
		for (uint32_t slot = 0; slot < SLOTS; slot++)
			EXPECT(hash, salt + slot, slot + 1);
		for (uint32_t i = 0; i < SLOTS; i++) {
			uint32_t slot = (i * 7919) % SLOTS;

			hash_remove(hash, key_of(salt + slot), slot, slot + 1);
		}
		assert_int_equal(hash_count(hash), 0);
		for (uint32_t slot = 0; slot < SLOTS; slot++)
			expect(hash, salt + slot, NULL, 0);
	}
	hash_destroy(hash);
}

/* Pairs that all want one place fill its probe sequence: -ENOMEM for that insert, which has changed
 * nothing; all others stay, and there is room again after a removal. */
static void hash_insert_without_room(void **state)
{
	enum {
		SLOTS = 200
	};
	struct hash *hash = create(SLOTS);
	struct hash_key key = {{5, 0}};
	uint32_t count = 0;
	uint64_t id;

	(void)state;
	for (; count < SLOTS; count++) {
		key.word[1] = count;
		if (hash_insert(hash, key, count, 1000 + count) != 0)
			break;
	}
	assert_in_range(count, 64, SLOTS - 1);
	assert_int_equal(hash_insert(hash, key, count, 1000 + count), -ENOMEM);
	assert_int_equal(hash_find(hash, key, is_open_always, &id, 1), 0);
	assert_int_equal(hash_count(hash), count);
	insert(hash, 1, count, 4711);
	EXPECT(hash, 1, 4711);
	for (uint32_t i = 0; i < count; i++) {
		key.word[1] = i;
		assert_int_equal(hash_find(hash, key, is_open_always, &id, 1), 1);
		assert_int_equal(id, 1000 + i);
	}
	hash_remove(hash, key, count - 1, 1000 + count - 1);
	key.word[1] = 999;
	assert_int_equal(hash_insert(hash, key, count - 1, 2), 0);
	assert_int_equal(hash_find(hash, key, is_open_always, &id, 1), 1);
	hash_destroy(hash);
}

/* ---- one writer, three readers --------------------------------------------------------------- */

/*
 * Pairs are numbered; an id carries its pair. Pairs below STABLE stay as they are, and each lookup must
 * give exactly their ids. The others come and go with one to three ids each, and their slots often go
 * straight to another pair: what a lookup gives must be of its pair, newest first, without repetition.
 * All keys crowd into 128 places of the map, so that entries are moved about all the time.
 */
enum {
	STRESS_SLOTS = 240,
	STABLE = 20,
	STABLE_IDS = 3,
	PAIRS = 90,
	STEPS = 300000,
	STEPS_MAX = 100 * STEPS,
	LOOKUPS = 100000,
	READERS = 3
};

struct stress {
	struct hash *hash;
	atomic_bool done;
	atomic_uint busy; /* readers that have not yet made LOOKUPS */
};

static struct hash_key stress_key(uint64_t pair)
{
	struct hash_key key = key_of(seed + pair);

	key.word[0] &= ~0x1c0ull;
	return key;
}

static uint64_t stress_id(uint64_t pair, uint64_t number)
{
	return pair << 40 | number;
}

/* Now and then dawdles in the middle of a chain, so that the writer gets ahead. */
static bool is_open_slowly(uint64_t id)
{
	static _Thread_local uint32_t calls;

	if (++calls % 16 == 0)
		for (volatile int i = 0; i < 500; i++)
			;
	return id != 0;
}

/* One lookup; what is wrong with its answer, or NULL. Not for cmocka: it runs on any thread. */
static const char *stress_look(const struct hash *hash, uint64_t pair, uint64_t *hits)
{
	uint64_t ids[8];
	uint32_t count = hash_find(hash, stress_key(pair), is_open_slowly, ids, COUNT(ids));

	if (pair < STABLE && count != STABLE_IDS)
		return "ids of a stable pair are missing";
	for (uint32_t i = 0; i < count && i < COUNT(ids); i++) {
		if (ids[i] >> 40 != pair)
			return "an id of another pair";
		if (i > 0 && ids[i] >= ids[i - 1])
			return "ids out of order";
		if (pair < STABLE && ids[i] != stress_id(pair, STABLE_IDS - i))
			return "a wrong id of a stable pair";
	}
	*hits += count > 0;
	return NULL;
}

struct reader {
	struct stress *stress;
	uint64_t random, lookups, hits;
	const char *wrong;
	pthread_t thread;
};

static void *reader_main(void *context)
{
	struct reader *reader = context;
	struct stress *stress = reader->stress;

	while (reader->wrong == NULL && !atomic_load(&stress->done)) {
		uint64_t pair = random_next(&reader->random) % PAIRS;

		reader->wrong = stress_look(stress->hash, pair, &reader->hits);
		if (++reader->lookups == LOOKUPS)
			atomic_fetch_sub(&stress->busy, 1);
	}
	if (reader->lookups < LOOKUPS)
		atomic_fetch_sub(&stress->busy, 1);
	return NULL;
}

struct writer {
	struct hash *hash;
	uint64_t random, number;
	uint64_t ids[STRESS_SLOTS]; /* 0: the slot is free */
	uint32_t of_pair[PAIRS];
};

static void writer_insert(struct writer *writer, uint64_t pair, uint32_t slot)
{
	uint64_t id = stress_id(pair, ++writer->number);

	assert_int_equal(hash_insert(writer->hash, stress_key(pair), slot, id), 0);
	writer->ids[slot] = id;
	writer->of_pair[pair]++;
}

static void writer_step(struct writer *writer)
{
	uint32_t slot = (uint32_t)(random_next(&writer->random) % STRESS_SLOTS);
	uint64_t id = writer->ids[slot];
	uint64_t pair = STABLE + random_next(&writer->random) % (PAIRS - STABLE);

	if (id == 0) {
		if (writer->of_pair[pair] < 3)
			writer_insert(writer, pair, slot);
		return;
	}
	pair = id >> 40;
	if (pair < STABLE)
		return;
	hash_remove(writer->hash, stress_key(pair), slot, id);
	writer->ids[slot] = 0;
	writer->of_pair[pair]--;
	pair = STABLE + random_next(&writer->random) % (PAIRS - STABLE);
	if (id % 2 == 0 && writer->of_pair[pair] < 3)
		writer_insert(writer, pair, slot);
}

static void hash_readers_while_written(void **state)
{
	struct stress stress = {.hash = create(STRESS_SLOTS), .busy = READERS};
	struct writer writer = {.hash = stress.hash, .random = seed};
	struct reader readers[READERS];
	uint64_t hits = 0;
	uint32_t pairs = 0;

	(void)state;
	for (uint32_t pair = 0; pair < STABLE; pair++) {
		writer.number = 0;
		for (uint32_t i = 0; i < STABLE_IDS; i++)
			writer_insert(&writer, pair, pair * STABLE_IDS + i);
	}
	for (uint32_t i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.stress = &stress, .random = seed + i};
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
	}
	for (int step = 0; step < STEPS_MAX && (step < STEPS || atomic_load(&stress.busy) > 0);
		step++)
		writer_step(&writer);
	atomic_store(&stress.done, true);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
	for (uint32_t i = 0; i < READERS; i++) {
		printf("reader %u: %llu lookups, %llu hits\n", i,
			(unsigned long long)readers[i].lookups,
			(unsigned long long)readers[i].hits);
		if (readers[i].wrong != NULL)
			fail_msg("%s", readers[i].wrong);
	}
	for (uint32_t pair = 0; pair < PAIRS; pair++) {
		pairs += writer.of_pair[pair] > 0;
		assert_null(stress_look(stress.hash, pair, &hits));
	}
	assert_int_equal(hits, pairs);
	assert_int_equal(hash_count(stress.hash), pairs);
	hash_destroy(stress.hash);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_pairs_come_and_go),
		cmocka_unit_test(hash_keys_of_one_place),
		cmocka_unit_test(hash_chain_removed_anywhere),
		cmocka_unit_test(hash_find_counts_open_ids),
		cmocka_unit_test(hash_full_capacity),
		cmocka_unit_test(hash_insert_without_room),
		cmocka_unit_test(hash_readers_while_written),
	};

	seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0)
							   : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
