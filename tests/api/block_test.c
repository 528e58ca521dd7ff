/* Blocks: one allocation with everything in it, freed by its first pointer and by nothing else. */
#include "api/block.h"

#include "api/text.h"
#include "p2p.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "failing.h"

struct pair {
	const char *name;
	const WCHAR *friendly;
};

static void *pair_fill(struct block *block, const void *source)
{
	const struct pair *from = source;
	PEER_NAME_PAIR *to = block_take(block, sizeof(*to));
	WCHAR *name = block_text(block, from->name);
	WCHAR *friendly = block_wide(block, from->friendly);

	if (to != NULL)
		*to = (PEER_NAME_PAIR){sizeof(*to), name, friendly};
	return to;
}

/* The struct, its strings behind it, and one PeerFreeData for all. */
static void block_of_struct_and_strings(void **state)
{
	struct pair source = {"0.caf\xc3\xa9", u"Bar"};
	size_t before = block_count();
	PEER_NAME_PAIR *pair;

	(void)state;
	assert_int_equal(block_build(pair_fill, &source, (void **)&pair), 0);
	assert_int_equal(block_count(), before + 1);
	assert_int_equal(pair->dwSize, 24);
	assert_true(text_is_equal(pair->pwzPeerName, u"0.caf\u00e9"));
	assert_true(text_is_equal(pair->pwzFriendlyName, u"Bar"));
	assert_int_equal((uintptr_t)pair % 8, 0);
	assert_int_equal((uintptr_t)pair->pwzPeerName % 8, 0);
	assert_true((char *)pair->pwzPeerName > (char *)pair);
	PeerFreeData(pair);
	assert_int_equal(block_count(), before);
}

static void block_null_strings_stay_null(void **state)
{
	struct pair source = {NULL, NULL};
	PEER_NAME_PAIR *pair;

	(void)state;
	assert_int_equal(block_build(pair_fill, &source, (void **)&pair), 0);
	assert_null(pair->pwzPeerName);
	assert_null(pair->pwzFriendlyName);
	PeerFreeData(pair);
}

/* Nothing of a failed build is left, and the result is NULL. */
static void block_malformed_text(void **state)
{
	struct pair source = {"bad\xff", u"x"};
	size_t before = block_count();
	void *pair = &source;
	PWSTR text = (PWSTR)1;

	(void)state;
	assert_int_equal(block_build(pair_fill, &source, &pair), -EILSEQ);
	assert_null(pair);
	assert_int_equal(block_string("\xc3", &text), -EILSEQ);
	assert_null(text);
	assert_int_equal(block_count(), before);
}

static void *huge_fill(struct block *block, const void *source)
{
	void *part;

	(void)source;
	block_take(block, 8);
	part = block_take(block, BLOCK_BYTES_MAX);
	assert_null(block_take(block, 8)); /* once failed, always failed */
	return part;
}

static void *overflow_fill(struct block *block, const void *source)
{
	(void)source;
	return block_take(block, SIZE_MAX);
}

static void block_too_large(void **state)
{
	void *block = (void *)1;

	(void)state;
	assert_int_equal(block_build(huge_fill, NULL, &block), -ENOMEM);
	assert_null(block);
	assert_int_equal(block_build(overflow_fill, NULL, &block), -ENOMEM);
}

static void *parts_fill(struct block *block, const void *source)
{
	unsigned char **parts = block_take(block, 3 * sizeof(*parts));
	unsigned char *empty = block_take(block, 0);
	unsigned char *three = block_copy(block, source, 3);
	unsigned char *last = block_take(block, 1);

	if (parts != NULL) {
		parts[0] = empty;
		parts[1] = three;
		parts[2] = last;
	}
	return parts;
}

/* Parts are aligned, zeroed, and even an empty one has an address. */
static void block_parts(void **state)
{
	unsigned char **parts;

	(void)state;
	assert_int_equal(block_build(parts_fill, "abc", (void **)&parts), 0);
	for (int index = 0; index < 3; index++) {
		assert_non_null(parts[index]);
		assert_int_equal((uintptr_t)parts[index] % BLOCK_ALIGN, 0);
	}
	assert_memory_equal(parts[1], "abc\0\0\0\0\0", 8);
	assert_int_equal(parts[2][0], 0);
	PeerFreeData(parts);
}

static void *nothing_fill(struct block *block, const void *source)
{
	(void)source;
	return block_take(block, 0);
}

/* Even a block of no bytes is one of its own. */
static void block_of_nothing(void **state)
{
	void *first, *second;

	(void)state;
	assert_int_equal(block_build(nothing_fill, NULL, &first), 0);
	assert_int_equal(block_build(nothing_fill, NULL, &second), 0);
	assert_ptr_not_equal(first, second);
	assert_true(block_free(first));
	assert_true(block_free(second));
}

static void block_strings(void **state)
{
	PWSTR text;

	(void)state;
	assert_int_equal(block_string("\xe2\x82\xac", &text), 0);
	assert_true(text_is_equal(text, u"\u20ac"));
	PeerFreeData(text);
	assert_int_equal(block_string_wide(u"abc", &text), 0);
	assert_true(text_is_equal(text, u"abc"));
	PeerFreeData(text);
}

/* A pointer that is no block, or a nested one, or a block given back before, is left alone. */
static void block_foreign_pointers(void **state)
{
	struct pair source = {"0.a", u"b"};
	char on_stack[64];
	void *from_malloc = malloc(64);
	PEER_NAME_PAIR *pair;
	size_t before;

	(void)state;
	assert_int_equal(block_build(pair_fill, &source, (void **)&pair), 0);
	before = block_count();
	PeerFreeData(NULL);
	PeerFreeData((void *)1);
	PeerFreeData((void *)8);
	PeerFreeData((void *)UINTPTR_MAX);
	PeerFreeData((void *)(UINTPTR_MAX - 7));
	PeerFreeData((void *)0xdeadbeefdead0000u);
	PeerFreeData(on_stack + 16);
	PeerFreeData(from_malloc);
	PeerFreeData(pair->pwzPeerName);
	PeerFreeData((char *)pair + 1);
	assert_int_equal(block_count(), before);
	assert_true(block_free(pair));
	assert_false(block_free(pair));
	PeerFreeData(pair);
	assert_int_equal(block_count(), before - 1);
	free(from_malloc);
}

#define BLOCKS_EACH 20000
#define THREADS 4

static void *build_and_free(void *context)
{
	void **kept = calloc(64, sizeof(void *));
	struct pair source = {"0.thread", u"x"};

	(void)context;
	for (int round = 0; kept != NULL && round < BLOCKS_EACH; round++) {
		block_free(kept[round % 64]);
		if (block_build(pair_fill, &source, &kept[round % 64]) < 0)
			kept[round % 64] = NULL;
	}
	for (int index = 0; kept != NULL && index < 64; index++)
		block_free(kept[index]);
	free(kept);
	return NULL;
}

static void block_many_threads(void **state)
{
	size_t before = block_count();
	pthread_t threads[THREADS];

	(void)state;
	for (int index = 0; index < THREADS; index++)
		assert_int_equal(pthread_create(&threads[index], NULL, build_and_free, NULL), 0);
	for (int index = 0; index < THREADS; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	assert_int_equal(block_count(), before);
}

struct race {
	pthread_barrier_t start;
	void *block;
	int freed[2];
};

static void *free_racing(void *context)
{
	struct race *race = ((void **)context)[0];
	size_t self = (size_t)((void **)context)[1];

	pthread_barrier_wait(&race->start);
	race->freed[self] = block_free(race->block);
	return NULL;
}

/* Two threads free one block: exactly one does. */
static void block_freed_by_two_threads(void **state)
{
	struct pair source = {"0.race", NULL};

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct race race = {0};
		void *contexts[2][2] = {{&race, (void *)0}, {&race, (void *)1}};
		pthread_t threads[2];

		assert_int_equal(block_build(pair_fill, &source, &race.block), 0);
		assert_int_equal(pthread_barrier_init(&race.start, NULL, 2), 0);
		for (int index = 0; index < 2; index++)
			assert_int_equal(
				pthread_create(&threads[index], NULL, free_racing, contexts[index]),
				0);
		for (int index = 0; index < 2; index++)
			assert_int_equal(pthread_join(threads[index], NULL), 0);
		assert_int_equal(race.freed[0] + race.freed[1], 1);
		pthread_barrier_destroy(&race.start);
	}
}

static void block_no_memory(void **state)
{
	struct pair source = {"0.a", u"b"};
	size_t before = block_count();
	void *block = &source;

	(void)state;
	failing_in = 1;
	assert_int_equal(block_build(pair_fill, &source, &block), -ENOMEM);
	assert_null(block);
	assert_int_equal(block_count(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(block_of_struct_and_strings),
		cmocka_unit_test(block_null_strings_stay_null),
		cmocka_unit_test(block_malformed_text),
		cmocka_unit_test(block_too_large),
		cmocka_unit_test(block_parts),
		cmocka_unit_test(block_of_nothing),
		cmocka_unit_test(block_strings),
		cmocka_unit_test(block_foreign_pointers),
		cmocka_unit_test(block_many_threads),
		cmocka_unit_test(block_freed_by_two_threads),
		cmocka_unit_test(block_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
