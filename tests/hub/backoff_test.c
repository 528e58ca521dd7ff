/*
 * Back-off: bounds, growth, draws, and what a peer asked for.
 */
#include "hub/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Every wait is in the upper half of what is due, which doubles up to the bound and stays there. */
static void backoff_waits_grow_to_their_bound(void **state)
{
	struct backoff backoff;
	uint64_t due = 500, wait;

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		backoff_init(&backoff, 500, 15000, seed);
		due = 500;
		for (int i = 0; i < 12; i++) {
			wait = backoff_next(&backoff, 1000) - 1000;
			assert_in_range(wait, due - due / 2, due);
			due = 2 * due > 15000 ? 15000 : 2 * due;
		}
		assert_int_equal(due, 15000);
	}
}

/* Those who begin together do not come back together. */
static void backoff_draws_differ(void **state)
{
	struct backoff left, right;
	int same = 0;

	(void)state;
	backoff_init(&left, 1000, 60000, 7);
	backoff_init(&right, 1000, 60000, 8);
	for (int i = 0; i < 50; i++)
		same += backoff_next(&left, 0) == backoff_next(&right, 0);
	assert_in_range(same, 0, 5);
	/* And the same seed tells the same story. */
	backoff_init(&left, 1000, 60000, 7);
	backoff_init(&right, 1000, 60000, 7);
	for (int i = 0; i < 50; i++)
		assert_int_equal(backoff_next(&left, 0), backoff_next(&right, 0));
}

/* A time that the peer named is kept once, bounded, and the later of two counts. */
static void backoff_keeps_what_was_asked(void **state)
{
	struct backoff backoff;
	uint64_t at;

	(void)state;
	backoff_init(&backoff, 100, 1000, 3);
	backoff_asked(&backoff, 5000, 30000);
	backoff_asked(&backoff, 5000, 20000);
	at = backoff_next(&backoff, 5000);
	assert_in_range(at, 35050, 35100);
	at = backoff_next(&backoff, 35000);
	assert_in_range(at, 35100, 35200);
	backoff_asked(&backoff, 0, UINT32_MAX);
	at = backoff_next(&backoff, 0);
	assert_in_range(at, BACKOFF_RETRY_AFTER_MS_MAX, BACKOFF_RETRY_AFTER_MS_MAX + 400);
	backoff_asked(&backoff, 0, 0);
	backoff_reset(&backoff);
	at = backoff_next(&backoff, 10);
	assert_in_range(at, 60, 110);
}

/* What was asked long ago delays nothing; the shortest waits are after now all the same. */
static void backoff_is_after_now(void **state)
{
	struct backoff backoff;

	(void)state;
	backoff_init(&backoff, 1, 1, 0);
	backoff_asked(&backoff, 10, 5);
	for (int i = 0; i < 20; i++)
		assert_int_equal(backoff_next(&backoff, 100), 101);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(backoff_waits_grow_to_their_bound),
		cmocka_unit_test(backoff_draws_differ),
		cmocka_unit_test(backoff_keeps_what_was_asked),
		cmocka_unit_test(backoff_is_after_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
