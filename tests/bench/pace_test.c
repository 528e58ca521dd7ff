/*
 * The pace of closes of peerhub-million: it begins low, rises to its bound while closes are quick, falls while
 * they are slow and stops for an old one; and a machine that it paces, simulated, has no close that reaches
 * its deadline, where the same machine without a pace has many.
 */
#include "bench/million/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#define MS 1000000ull
#define SECOND (1000 * MS)
#define DEADLINE (120 * SECOND)
#define MOST 24000u

static void pace_rises_to_its_bound(void **state)
{
	struct pace pace;
	uint64_t now = 0;

	(void)state;
	pace_init(&pace, MOST, DEADLINE);
	assert_int_equal(pace.allowed, PACE_FIRST);
	assert_true(pace_may(&pace, PACE_FIRST - 1));
	assert_false(pace_may(&pace, PACE_FIRST));
	for (int look = 0; look < 100; look++) {
		now += PACE_LOOK_NS;
		assert_true(pace_is_due(&pace, now));
		pace_look(&pace, now, SECOND / 2, SECOND / 2);
		assert_false(pace_is_due(&pace, now + PACE_LOOK_NS - 1));
		assert_true(pace.allowed <= MOST);
	}
	assert_int_equal(pace.allowed, MOST);
	pace_init(&pace, 10, DEADLINE);
	assert_int_equal(pace.allowed, 10);
	pace_look(&pace, now, DEADLINE, 0);
	assert_int_equal(pace.allowed, 10); /* never none because of a bound that is low */
	pace_look(&pace, now, 0, 0);
	assert_int_equal(pace.allowed, 10);
}

static void pace_falls_and_holds(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, MOST, DEADLINE);
	pace_look(&pace, 0, DEADLINE / PACE_SLOW_PART + 1, 0);
	assert_int_equal(pace.allowed, PACE_FIRST / 2);
	assert_false(pace.is_held);
	/* Between half slow and slow it stays. */
	pace_look(&pace, 0, DEADLINE / PACE_SLOW_PART, 0);
	assert_int_equal(pace.allowed, PACE_FIRST / 2);
	/* What waits counts as what has ended. */
	pace_look(&pace, 0, 0, DEADLINE / PACE_SLOW_PART + 1);
	assert_int_equal(pace.allowed, PACE_FIRST / 4);
	for (int look = 0; look < 10; look++)
		pace_look(&pace, 0, DEADLINE, 0);
	assert_int_equal(pace.allowed, PACE_LEAST);
	pace_look(&pace, 0, 0, DEADLINE / PACE_OLD_PART + 1);
	assert_true(pace.is_held);
	assert_false(pace_may(&pace, 0));
	pace_look(&pace, 0, 0, DEADLINE / PACE_OLD_PART + 2);
	assert_int_equal(pace.holds, 1);
	pace_look(&pace, 0, 0, 0);
	assert_false(pace.is_held);
	assert_true(pace_may(&pace, 0));
	assert_int_equal(pace.slowest_ns, DEADLINE);
}

/*
 * A machine that ends closes in their order, at a rate that falls to nearly nothing for a while: others want it.
 * Time in steps of 10 ms; returns the longest that a close took.
 */
static uint64_t machine_run(bool is_paced, uint32_t all)
{
	uint64_t *begun = calloc(all, sizeof(*begun)), now = 0, slowest = 0, recent = 0;
	uint32_t issued = 0, ended = 0;
	double credit = 0;
	struct pace pace;

	assert_non_null(begun);
	pace_init(&pace, MOST, DEADLINE);
	while (ended < all && now < 10000 * SECOND) {
		double rate = now < 20 * SECOND ? 3000 : now < 400 * SECOND ? 60 : 3000;

		now += 10 * MS;
		if (is_paced && pace_is_due(&pace, now)) {
			pace_look(&pace, now, recent, ended < issued ? now - begun[ended] : 0);
			recent = 0;
		}
		while (issued < all &&
			(is_paced ? pace_may(&pace, issued - ended) : issued - ended < MOST))
			begun[issued++] = now;
		for (credit += rate / 100; credit >= 1 && ended < issued; credit--, ended++) {
			uint64_t took = now - begun[ended];

			recent = took > recent ? took : recent;
			slowest = took > slowest ? took : slowest;
		}
		if (ended == issued)
			credit = 0;
	}
	assert_int_equal(ended, all);
	free(begun);
	return slowest;
}

static void pace_keeps_away_from_the_deadline(void **state)
{
	(void)state;
	assert_true(machine_run(false, 200000) > DEADLINE);
	assert_true(machine_run(true, 200000) < DEADLINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pace_rises_to_its_bound),
		cmocka_unit_test(pace_falls_and_holds),
		cmocka_unit_test(pace_keeps_away_from_the_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
