/*
 * Text: what is well-formed converts and comes back, what is not is refused; then both directions
 * against the C library's iconv on seeded random input. `--seed N` repeats a run.
 */
#include "api/text.h"

#include <errno.h>
#include <iconv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "failing.h"

#define RANDOM_ROUNDS 20000
#define RANDOM_UNITS_MAX 24

static uint64_t seed;

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static void expect_pair(const char *utf8, PCWSTR wide)
{
	WCHAR *made_wide;
	char *made_utf8;

	assert_int_equal(text_wide_dup(utf8, &made_wide), 0);
	assert_true(text_is_equal(made_wide, wide));
	assert_int_equal(text_utf8_dup(wide, &made_utf8), 0);
	assert_string_equal(made_utf8, utf8);
	assert_true(text_is_utf8(utf8, strlen(utf8)));
	free(made_wide);
	free(made_utf8);
}

/* Each length of UTF-8, with the first and the last character of it. */
static void text_borders_of_lengths(void **state)
{
	static const WCHAR last[] = {0xDBFF, 0xDFFF, 0};
	static const WCHAR first_pair[] = {0xD800, 0xDC00, 0};

	(void)state;
	expect_pair("", u"");
	expect_pair("\x01\x7f", u"\x0001\x007f");
	expect_pair("\xc2\x80\xdf\xbf", u"\x0080\x07ff");
	expect_pair(
		"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", u"\u0800\ud7ff\ue000\uffff");
	expect_pair("\xf0\x90\x80\x80", first_pair);
	expect_pair("\xf4\x8f\xbf\xbf", last);
	expect_pair("Gr\xc3\xbc\xc3\x9f"
		    "e \xf0\x9f\x98\x80",
		u"Gr\u00fc\u00dfe \U0001f600");
}

static void expect_bad_utf8(const char *utf8, size_t bytes)
{
	WCHAR wide[16];
	size_t units = 77;

	assert_int_equal(text_to_wide(utf8, bytes, wide, 16, &units), -EILSEQ);
	assert_int_equal(text_to_wide(utf8, bytes, NULL, 0, &units), -EILSEQ);
	assert_int_equal(units, 77);
	assert_false(text_is_utf8(utf8, bytes));
}
#define BAD(literal) expect_bad_utf8((literal), sizeof(literal) - 1)

/* Overlong forms, surrogates, beyond the last plane, cut short, stray bytes. */
static void text_malformed_utf8(void **state)
{
	WCHAR *copy = (WCHAR *)1;

	(void)state;
	BAD("\xc0\x80");
	BAD("\xc1\xbf");
	BAD("\xe0\x80\x80");
	BAD("\xe0\x9f\xbf");
	BAD("\xf0\x80\x80\x80");
	BAD("\xf0\x8f\xbf\xbf");
	BAD("\xed\xa0\x80");
	BAD("\xed\xbf\xbf");
	BAD("\xf4\x90\x80\x80");
	BAD("\xf7\xbf\xbf\xbf");
	BAD("\xf8\x88\x80\x80\x80");
	BAD("\xff");
	BAD("\xfe");
	BAD("\x80");
	BAD("a\xbf");
	BAD("\xc2");
	BAD("\xe0\xa0");
	BAD("\xf0\x90\x80");
	BAD("\xc2"
	    "a");
	BAD("\xe0\xa0"
	    "a");
	BAD("\xf0\x90\x80"
	    "a");
	assert_int_equal(text_wide_dup("ok\xff", &copy), -EILSEQ);
	assert_null(copy);
}

static void expect_bad_utf16(PCWSTR wide, size_t units)
{
	char utf8[64];
	size_t bytes = 77;

	assert_int_equal(text_to_utf8(wide, units, utf8, sizeof(utf8), &bytes), -EILSEQ);
	assert_int_equal(text_to_utf8(wide, units, NULL, 0, &bytes), -EILSEQ);
	assert_int_equal(bytes, 77);
}

/* A half of a pair alone, at the end, before something else, and in the wrong order. */
static void text_unpaired_surrogates(void **state)
{
	static const WCHAR high_last[] = {'a', 0xD800};
	static const WCHAR high_then_letter[] = {0xDBFF, 'a'};
	static const WCHAR low_first[] = {0xDC00, 0xD800};
	static const WCHAR two_high[] = {0xD800, 0xD800, 0xDC00};
	static const WCHAR terminated[] = {0xD800, 0};
	char *copy = (char *)1;
	char buffer[8];

	(void)state;
	expect_bad_utf16(high_last, 2);
	expect_bad_utf16(high_then_letter, 2);
	expect_bad_utf16(low_first, 2);
	expect_bad_utf16(two_high, 3);
	assert_int_equal(text_utf8_dup(terminated, &copy), -EILSEQ);
	assert_null(copy);
	assert_int_equal(text_utf8_copy(terminated, buffer, sizeof(buffer)), -EILSEQ);
	assert_string_equal(buffer, "");
}

/* U+0000 inside a counted text is a character. */
static void text_counted_with_nul(void **state)
{
	WCHAR wide[4];
	char utf8[4];
	size_t count;

	(void)state;
	assert_int_equal(text_to_wide("a\0b", 3, wide, 4, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(wide[1], 0);
	assert_int_equal(text_to_utf8(wide, 3, utf8, 4, &count), 0);
	assert_int_equal(count, 3);
	assert_memory_equal(utf8, "a\0b", 3);
}

static void text_capacity(void **state)
{
	char utf8[8];
	WCHAR wide[8];
	size_t count;

	(void)state;
	assert_int_equal(text_to_utf8(u"\u20ac", 1, utf8, 2, &count), -ENOSPC);
	assert_int_equal(text_to_utf8(u"\u20ac", 1, utf8, 3, &count), 0);
	assert_int_equal(text_to_wide("\xf0\x9f\x98\x80", 4, wide, 1, &count), -ENOSPC);
	assert_int_equal(text_to_wide("\xf0\x9f\x98\x80", 4, wide, 2, &count), 0);
	assert_int_equal(text_utf8_copy(u"1234567", utf8, 8), 0);
	assert_string_equal(utf8, "1234567");
	assert_int_equal(text_utf8_copy(u"12345678", utf8, 8), -ENAMETOOLONG);
	assert_string_equal(utf8, "");
	assert_int_equal(text_utf8_copy(u"12\u20ac\u20ac", utf8, 8), -ENAMETOOLONG);
	assert_int_equal(text_utf8_copy(u"", utf8, 1), 0);
}

static void text_lengths(void **state)
{
	(void)state;
	assert_int_equal(text_units(u""), 0);
	assert_int_equal(text_units(u"\U0001f600a"), 3);
	assert_int_equal(text_units_bounded(u"abc", 3), 3);
	assert_int_equal(text_units_bounded(u"abcd", 3), 4);
	assert_int_equal(text_units_bounded(u"abcdefgh", 3), 4);
	assert_int_equal(text_units_bounded(u"", 0), 0);
	assert_int_equal(text_units_bounded(u"a", 0), 1);
}

static void text_order(void **state)
{
	(void)state;
	assert_true(text_is_equal(NULL, NULL));
	assert_true(text_compare(NULL, u"") < 0);
	assert_true(text_compare(u"", NULL) > 0);
	assert_true(text_compare(u"a", u"b") < 0);
	assert_true(text_compare(u"ab", u"a") > 0);
	assert_true(text_compare(u"A", u"a") < 0);
	assert_true(text_is_equal(u"abc", u"abc"));
	assert_false(text_is_equal(u"abc", u"ABC"));
}

/* Mostly whole characters, with a damaged unit now and then. */
static size_t random_wide(uint64_t *state, WCHAR *wide)
{
	size_t units = random_next(state) % RANDOM_UNITS_MAX;

	for (size_t index = 0; index < units; index++) {
		uint64_t dice = random_next(state);

		if (dice % 8 == 0 && index + 1 < units) {
			wide[index++] = (WCHAR)(0xD800 + (dice >> 8) % 0x400);
			wide[index] = (WCHAR)(0xDC00 + (dice >> 24) % 0x400);
		} else if (dice % 64 == 1) {
			wide[index] = (WCHAR)(0xD800 + (dice >> 8) % 0x800);
		} else {
			wide[index] = (WCHAR)(dice >> 8) & ((dice >> 32) % 2 ? 0xFFFF : 0xFF);
			if (wide[index] >= 0xD800 && wide[index] < 0xE000)
				wide[index] = 'x';
		}
	}
	return units;
}

/* iconv in one piece: bytes written, or -1 when it refuses the text or finds it cut short. */
static long convert(iconv_t converter, const void *source, size_t bytes, void *target, size_t room)
{
	char *from = (char *)source;
	char *to = target;
	size_t left = room;

	iconv(converter, NULL, NULL, NULL, NULL);
	if (iconv(converter, &from, &bytes, &to, &left) == (size_t)-1 || bytes > 0)
		return -1;
	return (long)(room - left);
}

/* Both directions agree with iconv: on the verdict, and on each byte. */
static void text_random_against_iconv(void **state)
{
	iconv_t to_utf8 = iconv_open("UTF-8", "UTF-16LE");
	iconv_t to_wide = iconv_open("UTF-16LE", "UTF-8");
	uint64_t random = seed;

	(void)state;
	assert_true(to_utf8 != (iconv_t)-1 && to_wide != (iconv_t)-1);
	for (int round = 0; round < RANDOM_ROUNDS; round++) {
		WCHAR wide[RANDOM_UNITS_MAX], wide_ours[RANDOM_UNITS_MAX * 4],
			wide_theirs[RANDOM_UNITS_MAX * 4];
		char ours[RANDOM_UNITS_MAX * 4], theirs[RANDOM_UNITS_MAX * 4];
		size_t units = random_wide(&random, wide);
		size_t bytes = 0, count = 0;
		long expected =
			convert(to_utf8, wide, units * sizeof(WCHAR), theirs, sizeof(theirs));
		int status = text_to_utf8(wide, units, ours, sizeof(ours), &bytes);

		assert_int_equal(status, expected < 0 ? -EILSEQ : 0);
		if (status < 0)
			continue;
		assert_int_equal(bytes, expected);
		assert_memory_equal(ours, theirs, bytes);
		/* Now damage one byte and go back. */
		if (bytes > 0 && random_next(&random) % 2 == 0)
			ours[random_next(&random) % bytes] ^=
				(char)(1u << random_next(&random) % 8);
		expected = convert(to_wide, ours, bytes, wide_theirs, sizeof(wide_theirs));
		status = text_to_wide(ours, bytes, wide_ours, RANDOM_UNITS_MAX * 4, &count);
		assert_int_equal(status, expected < 0 ? -EILSEQ : 0);
		if (status < 0)
			continue;
		assert_int_equal(count * sizeof(WCHAR), expected);
		assert_memory_equal(wide_ours, wide_theirs, (size_t)expected);
	}
	iconv_close(to_utf8);
	iconv_close(to_wide);
}

static void text_no_memory(void **state)
{
	WCHAR *wide = (WCHAR *)1;
	char *utf8 = (char *)1;

	(void)state;
	failing_in = 1;
	assert_int_equal(text_utf8_dup(u"a", &utf8), -ENOMEM);
	assert_null(utf8);
	failing_in = 1;
	assert_int_equal(text_wide_dup("a", &wide), -ENOMEM);
	assert_null(wide);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_borders_of_lengths),
		cmocka_unit_test(text_malformed_utf8),
		cmocka_unit_test(text_unpaired_surrogates),
		cmocka_unit_test(text_counted_with_nul),
		cmocka_unit_test(text_capacity),
		cmocka_unit_test(text_lengths),
		cmocka_unit_test(text_order),
		cmocka_unit_test(text_random_against_iconv),
		cmocka_unit_test(text_no_memory),
	};

	seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0)
							   : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
