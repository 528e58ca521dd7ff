/*
 * Byte chains: single situations, then a seeded random run against one plain buffer. `--seed N`
 * repeats a random run.
 */
#include "engine/chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

static uint64_t seed;

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* The chain's own promises: the sum, the tail, the order of offsets. */
static void check(const struct chain *chain)
{
	const struct chunk *last = NULL;
	size_t bytes = 0;

	for (const struct chunk *chunk = chain->head; chunk != NULL; chunk = chunk->next) {
		assert_true(chunk->offset <= chunk->bytes);
		assert_true(chunk->bytes <= chunk->capacity);
		bytes += chunk->bytes - chunk->offset;
		last = chunk;
	}
	assert_ptr_equal(chain->head != NULL ? chain->head->last : NULL, last);
	assert_int_equal(chain->bytes, bytes);
}

static void expect(const struct chain *chain, const void *data, size_t bytes)
{
	const uint8_t *expected = data;

	check(chain);
	assert_int_equal(chain->bytes, bytes);
	for (const struct chunk *chunk = chain->head; chunk != NULL; chunk = chunk->next) {
		size_t here = chunk->bytes - chunk->offset;

		assert_memory_equal(chunk->data + chunk->offset, expected, here);
		expected += here;
	}
}

static struct chunk *chunk_of(const char *text, uint32_t weight)
{
	struct chunk *chunk = chunk_create(strlen(text));

	assert_non_null(chunk);
	memcpy(chunk->data, text, strlen(text));
	chunk->bytes = (uint32_t)strlen(text);
	chunk->weight = weight;
	return chunk;
}

/* In at the end, out at the front, also through an empty chain. */
static void chain_push_and_pop(void **state)
{
	struct chain chain = {0};
	struct chunk *chunk;

	(void)state;
	assert_null(chain_pop(&chain));
	chain_push(&chain, chunk_of("one", 0));
	chain_push(&chain, chunk_of("", 0));
	chain_push(&chain, chunk_of("two", 0));
	expect(&chain, "onetwo", 6);
	for (int left = 3; left > 0; left--) {
		chunk = chain_pop(&chain);
		assert_non_null(chunk);
		assert_null(chunk->next);
		chunk_destroy(chunk);
		check(&chain);
	}
	assert_null(chain_pop(&chain));
	chain_push(&chain, chunk_of("again", 0));
	expect(&chain, "again", 5);
	chain_clear(&chain);
	assert_null(chain.head);
}

/* A chunk that was begun elsewhere brings only what is left of it. */
static void chain_push_begun_chunk(void **state)
{
	struct chain chain = {0};
	struct chunk *chunk = chunk_of("headtail", 0);

	(void)state;
	chunk->offset = 4;
	chain_push(&chain, chunk);
	expect(&chain, "tail", 4);
	chain_clear(&chain);
}

/* Small appends share a block, a large one gets its own; nothing appended is no chunk. */
static void chain_append_shares_blocks(void **state)
{
	struct chain chain = {0};
	static uint8_t large[5000];
	struct chunk *first;

	(void)state;
	assert_int_equal(chain_append(&chain, NULL, 0), 0);
	assert_null(chain.head);
	assert_int_equal(chain_append(&chain, "ab", 2), 0);
	first = chain.head;
	assert_int_equal(chain_append(&chain, "cd", 2), 0);
	assert_ptr_equal(chain.head->last, first);
	expect(&chain, "abcd", 4);
	memset(large, 'x', sizeof(large));
	assert_int_equal(chain_append(&chain, large, sizeof(large)), 0);
	assert_ptr_not_equal(chain.head->last, first);
	check(&chain);
	assert_int_equal(chain.bytes, 4 + sizeof(large));
	chain_clear(&chain);
}

/* An append never moves what is already there: a send may be under way from it. */
static void chain_append_leaves_bytes_in_place(void **state)
{
	struct chain chain = {0};
	const uint8_t *data;

	(void)state;
	assert_int_equal(chain_append(&chain, "under way", 9), 0);
	data = chain.head->data;
	for (int i = 0; i < 5000; i++)
		assert_int_equal(chain_append(&chain, "more", 4), 0);
	assert_ptr_equal(chain.head->data, data);
	assert_memory_equal(data, "under way", 9);
	check(&chain);
	chain_clear(&chain);
}

static void chain_move_all_behind(void **state)
{
	struct chain to = {0}, from = {0};

	(void)state;
	chain_move(&to, &from);
	assert_null(to.head);
	chain_push(&from, chunk_of("b", 0));
	chain_push(&from, chunk_of("c", 0));
	chain_move(&to, &from);
	expect(&to, "bc", 2);
	expect(&from, "", 0);
	chain_push(&from, chunk_of("d", 0));
	chain_move(&to, &from);
	expect(&to, "bcd", 3);
	chain_move(&to, &from);
	expect(&to, "bcd", 3);
	chain_push(&to, chunk_of("e", 0));
	expect(&to, "bcde", 4);
	chain_clear(&to);
}

/* The weight of a chunk comes back when its last byte goes, not before; chunks with nothing left go too. */
static void chain_consume_gives_weights_back(void **state)
{
	struct chain chain = {0};

	(void)state;
	assert_int_equal(chain_consume(&chain, 0), 0);
	chain_push(&chain, chunk_of("abc", 10));
	chain_push(&chain, chunk_of("", 200));
	chain_push(&chain, chunk_of("defg", 3000));
	assert_int_equal(chain_consume(&chain, 0), 0);
	assert_int_equal(chain_consume(&chain, 2), 0);
	expect(&chain, "cdefg", 5);
	assert_int_equal(chain_consume(&chain, 1), 210);
	expect(&chain, "defg", 4);
	assert_int_equal(chain_consume(&chain, 3), 0);
	chain_push(&chain, chunk_of("h", 40000));
	expect(&chain, "gh", 2);
	assert_int_equal(chain_consume(&chain, 2), 43000);
	assert_null(chain.head);
	check(&chain);
}

/* A size that no chunk can have is no memory, not a small chunk. */
static void chunk_too_large(void **state)
{
	(void)state;
	assert_null(chunk_create(UINT32_MAX));
	assert_null(chunk_create(SIZE_MAX));
	chunk_destroy(NULL);
}

/* ---- against one plain buffer ----------------------------------------------------------------- */

enum {
	BUFFER = 1 << 20
};

struct model {
	uint8_t *bytes; /* all that was ever put in */
	size_t begin, end;
	struct chain chain;
	uint64_t random;
};

static void model_put(struct model *model, size_t bytes, bool as_chunk)
{
	uint8_t *data = model->bytes + model->end;

	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)random_next(&model->random);
	model->end += bytes;
	if (as_chunk) {
		struct chunk *chunk = chunk_create(bytes + 3);

		assert_non_null(chunk);
		chunk->offset = 3;
		memcpy(chunk->data + 3, data, bytes);
		chunk->bytes = (uint32_t)bytes + 3;
		chain_push(&model->chain, chunk);
		return;
	}
	assert_int_equal(chain_append(&model->chain, data, bytes), 0);
}

static void model_step(struct model *model)
{
	uint64_t what = random_next(&model->random);
	size_t bytes = (what >> 8) % (what % 7 == 0 ? 3000 : 100);
	size_t left = model->end - model->begin;

	switch (what % 5) {
	case 0:
	case 1:
		model_put(model, bytes, false);
		break;
	case 2:
		model_put(model, bytes, true);
		break;
	default:
		bytes = bytes * 2 < left ? bytes * 2 : left;
		assert_int_equal(chain_consume(&model->chain, bytes), 0);
		model->begin += bytes;
		break;
	}
}

static void chain_random_against_buffer(void **state)
{
	struct model model = {.bytes = malloc(BUFFER), .random = seed};

	(void)state;
	assert_non_null(model.bytes);
	while (model.end < BUFFER - 3000) {
		model_step(&model);
		expect(&model.chain, model.bytes + model.begin, model.end - model.begin);
	}
	chain_clear(&model.chain);
	free(model.bytes);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chain_push_and_pop),
		cmocka_unit_test(chain_push_begun_chunk),
		cmocka_unit_test(chain_append_shares_blocks),
		cmocka_unit_test(chain_append_leaves_bytes_in_place),
		cmocka_unit_test(chain_move_all_behind),
		cmocka_unit_test(chain_consume_gives_weights_back),
		cmocka_unit_test(chunk_too_large),
		cmocka_unit_test(chain_random_against_buffer),
	};

	seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0)
							   : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
