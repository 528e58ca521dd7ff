/*
 * The engine's tables and chains without memory, the digest without entropy: each allocation of each
 * call fails once. The call says so, has changed nothing, and works the next time.
 */
#include "engine/chain.h"
#include "engine/digest.h"
#include "engine/hash.h"
#include "engine/history.h"
#include "tests/fake/clock_script.h"
#include "tests/fake/memory_script.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define NTH_MAX 16u

static int try_hash(void)
{
	struct hash *hash = NULL;
	int status = hash_create(100, &hash);

	if (status == 0)
		hash_destroy(hash);
	else
		assert_null(hash);
	return status;
}

static int try_history(void)
{
	struct history *history = NULL;
	int status = history_create(100, &history);

	if (status == 0)
		history_destroy(history);
	else
		assert_null(history);
	return status;
}

static void expect_each_failure(int (*attempt)(void), uint64_t allocations)
{
	uint64_t nth = 1;

	for (; nth < NTH_MAX; nth++) {
		int64_t blocks = memory_script_live();
		int status;

		memory_script_fail(nth, false);
		status = attempt();
		assert_int_equal(memory_script_live(), blocks);
		if (memory_script_failed() == 0) {
			assert_int_equal(status, 0);
			break;
		}
		assert_int_equal(status, -ENOMEM);
	}
	memory_script_fail(0, false);
	assert_int_equal(nth, allocations + 1);
}

/* The hash itself, its entries, its links, its map. */
static void hash_create_without_memory(void **state)
{
	(void)state;
	expect_each_failure(try_hash, 4);
}

/* The history itself and its cells. */
static void history_create_without_memory(void **state)
{
	(void)state;
	expect_each_failure(try_history, 2);
}

/* Once made, the hash takes nothing: it fills up, and serves, with no memory at all. */
static void hash_works_without_memory(void **state)
{
	struct hash *hash = NULL;
	struct hash_key key = {{0, 0}};

	(void)state;
	assert_int_equal(hash_create(100, &hash), 0);
	memory_script_fail(1, true);
	for (uint32_t slot = 0; slot < 100; slot++) {
		key.word[0] = slot * 0x9e3779b97f4a7c15u;
		assert_int_equal(hash_insert(hash, key, slot, slot + 1), 0);
	}
	for (uint32_t slot = 0; slot < 100; slot++) {
		key.word[0] = slot * 0x9e3779b97f4a7c15u;
		hash_remove(hash, key, slot, slot + 1);
	}
	assert_int_equal(memory_script_tries(), 0);
	memory_script_fail(0, false);
	hash_destroy(hash);
}

/* What was in the chain stays, and is not counted twice. */
static void chain_append_without_memory(void **state)
{
	struct chain chain = {0};
	static const uint8_t large[4096];

	(void)state;
	memory_script_fail(1, true);
	assert_int_equal(chain_append(&chain, "text", 4), -ENOMEM);
	assert_null(chain.head);
	memory_script_fail(0, false);
	assert_int_equal(chain_append(&chain, "text", 4), 0);
	memory_script_fail(1, true);
	assert_int_equal(chain_append(&chain, large, sizeof(large)), -ENOMEM);
	assert_int_equal(chain_append(&chain, " fits", 5), 0);
	memory_script_fail(0, false);
	assert_int_equal(chain.bytes, 9);
	assert_memory_equal(chain.head->data, "text fits", 9);
	chain_clear(&chain);
}

/* -EIO, and the next call draws the key. */
static void digest_init_without_entropy(void **state)
{
	struct hash_key key;

	(void)state;
	entropy_script_fail(-EIO);
	assert_int_equal(digest_init(), -EIO);
	entropy_script_fail(0);
	assert_int_equal(digest_init(), 0);
	key = digest_pair("group", "identity");
	/* Drawn once: later failures and later draws change nothing. */
	entropy_script_fail(-EIO);
	assert_int_equal(digest_init(), 0);
	entropy_script_fail(0);
	assert_int_equal(key.word[0], digest_pair("group", "identity").word[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_create_without_memory),
		cmocka_unit_test(history_create_without_memory),
		cmocka_unit_test(hash_works_without_memory),
		cmocka_unit_test(chain_append_without_memory),
		cmocka_unit_test(digest_init_without_entropy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
