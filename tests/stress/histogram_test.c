/* The log-linear histogram of stress/: bounds of its error, quantiles, merging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stress/histogram.h"
#include "stress/random.h"

/* Nothing recorded: every answer is 0, not a division by nothing. */
static void histogram_empty(void **state)
{
	static struct histogram histogram;

	(void)state;
	histogram_init(&histogram);
	assert_int_equal(histogram_count(&histogram), 0);
	assert_int_equal(histogram_max(&histogram), 0);
	assert_int_equal(histogram_quantile(&histogram, 500), 0);
	assert_int_equal(histogram_quantile(&histogram, 1000), 0);
}

/* One value comes back as itself from every quantile, whatever its size. */
static void histogram_one_value(void **state)
{
	static struct histogram histogram;
	uint64_t values[] = {0, 1, 31, 32, 33, 63, 64, 1000, 1000000007, UINT32_MAX, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		histogram_init(&histogram);
		histogram_record(&histogram, values[i]);
		assert_int_equal(histogram_quantile(&histogram, 1), values[i]);
		assert_int_equal(histogram_quantile(&histogram, 1000), values[i]);
		assert_int_equal(histogram_max(&histogram), values[i]);
	}
}

/* Small values are exact: each of them has a bucket of its own. */
static void histogram_small_values_exact(void **state)
{
	static struct histogram histogram;

	(void)state;
	histogram_init(&histogram);
	for (uint64_t value = 0; value < 10; value++)
		histogram_record(&histogram, value);
	assert_int_equal(histogram_quantile(&histogram, 100), 0);
	assert_int_equal(histogram_quantile(&histogram, 500), 4);
	assert_int_equal(histogram_quantile(&histogram, 900), 8);
	assert_int_equal(histogram_quantile(&histogram, 1000), 9);
}

/* A value read back is never too low and at most 1/32 too high. */
static void histogram_error_bound(void **state)
{
	static struct histogram histogram;
	struct random random;

	(void)state;
	print_message("seed %u\n", 7u);
	random_init(&random, 7, 0);
	for (int i = 0; i < 20000; i++) {
		uint64_t value = random_next(&random) >> random_below(&random, 64);
		uint64_t back;

		histogram_init(&histogram);
		histogram_record(&histogram, value);
		histogram_record(&histogram, UINT64_MAX); /* so that the maximum does not cap it */
		back = histogram_quantile(&histogram, 500);
		assert_true(back >= value);
		assert_true(back - value <= value / 32);
	}
}

/* The median and p99 of 1..100,000 are where they must be. */
static void histogram_quantiles(void **state)
{
	static struct histogram histogram;
	uint64_t p50, p99;

	(void)state;
	histogram_init(&histogram);
	for (uint64_t value = 1; value <= 100000; value++)
		histogram_record(&histogram, value);
	p50 = histogram_quantile(&histogram, 500);
	p99 = histogram_quantile(&histogram, 990);
	assert_in_range(p50, 50000, 50000 + 50000 / 32);
	assert_in_range(p99, 99000, 100000);
	assert_int_equal(histogram_quantile(&histogram, 1000), 100000);
	assert_int_equal(histogram_count(&histogram), 100000);
}

/* Merging is the same as having recorded everything in one. */
static void histogram_merged(void **state)
{
	static struct histogram all, parts[2];

	(void)state;
	histogram_init(&all);
	histogram_init(&parts[0]);
	histogram_init(&parts[1]);
	for (uint64_t value = 1; value <= 5000; value++) {
		histogram_record(&all, value * value);
		histogram_record(&parts[value % 2], value * value);
	}
	histogram_merge(&parts[0], &parts[1]);
	assert_int_equal(histogram_count(&parts[0]), 5000);
	assert_int_equal(histogram_max(&parts[0]), 25000000);
	for (uint32_t permille = 1; permille <= 1000; permille++)
		assert_int_equal(histogram_quantile(&parts[0], permille),
			histogram_quantile(&all, permille));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histogram_empty),
		cmocka_unit_test(histogram_one_value),
		cmocka_unit_test(histogram_small_values_exact),
		cmocka_unit_test(histogram_error_bound),
		cmocka_unit_test(histogram_quantiles),
		cmocka_unit_test(histogram_merged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
