/*
 * Text from outside, both ways: any bytes as UTF-8 and as UTF-16, against iconv of the C library as the
 * reference. What one refuses the other refuses, what both accept is the same; what is accepted comes
 * back; what the measuring pass says is what the writing pass does.
 */
#include "api/text.h"
#include "tests/fuzz/failing.h"
#include "tests/fuzz/input.h"

#include <errno.h>
#include <iconv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static iconv_t to_wide, to_utf8;

static void finish(void)
{
	iconv_close(to_wide);
	iconv_close(to_utf8);
}

static void prepare(void)
{
	to_wide = iconv_open("UTF-16LE", "UTF-8");
	to_utf8 = iconv_open("UTF-8", "UTF-16LE");
	FUZZ_MUST(to_wide != (iconv_t)-1 && to_utf8 != (iconv_t)-1);
	FUZZ_MUST(atexit(finish) == 0);
}

/* The reference: malloc'd, NULL when it is malformed or ends inside a character. */
static char *reference(iconv_t how, const void *text, size_t bytes, size_t *out_bytes)
{
	size_t room = 4 * bytes + 4, left = room;
	char *out = malloc(room), *at = out, *from = (char *)(uintptr_t)text;
	size_t status;

	FUZZ_MUST(out != NULL);
	(void)iconv(how, NULL, NULL, NULL, NULL);
	status = iconv(how, &from, &bytes, &at, &left);
	if (status == (size_t)-1) {
		FUZZ_MUST(errno == EILSEQ || errno == EINVAL);
		free(out);
		return NULL;
	}
	*out_bytes = room - left;
	return out;
}

static void from_utf8(const char *utf8, size_t bytes)
{
	size_t units = 0, written, back, expected;
	char *wanted = reference(to_wide, utf8, bytes, &expected);
	int status = text_to_wide(utf8, bytes, NULL, 0, &units);
	WCHAR *wide;
	char *again;

	FUZZ_MUST((status == 0) == (wanted != NULL));
	FUZZ_MUST(text_is_utf8(utf8, bytes) == (wanted != NULL));
	if (status < 0) {
		FUZZ_MUST(status == -EILSEQ);
		return;
	}
	FUZZ_MUST(units * sizeof(WCHAR) == expected);
	wide = malloc((units + 1) * sizeof(WCHAR));
	again = malloc(bytes + 1);
	FUZZ_MUST(wide != NULL && again != NULL);
	FUZZ_MUST(text_to_wide(utf8, bytes, wide, units, &written) == 0 && written == units);
	FUZZ_MUST(memcmp(wide, wanted, expected) == 0);
	if (units > 0)
		FUZZ_MUST(text_to_wide(utf8, bytes, wide, units - 1, &written) == -ENOSPC);
	FUZZ_MUST(text_to_wide(utf8, bytes, wide, units, &written) == 0);
	FUZZ_MUST(text_to_utf8(wide, units, again, bytes, &back) == 0 && back == bytes);
	FUZZ_MUST(memcmp(again, utf8, bytes) == 0);
	free(wide);
	free(again);
	free(wanted);
}

static void from_wide(const WCHAR *wide, size_t units)
{
	size_t bytes = 0, written, back, expected;
	char *wanted = reference(to_utf8, wide, units * sizeof(WCHAR), &expected);
	int status = text_to_utf8(wide, units, NULL, 0, &bytes);
	WCHAR *again;
	char *utf8;

	FUZZ_MUST((status == 0) == (wanted != NULL));
	if (status < 0) {
		FUZZ_MUST(status == -EILSEQ);
		return;
	}
	FUZZ_MUST(bytes == expected);
	utf8 = malloc(bytes + 1);
	again = malloc((units + 1) * sizeof(WCHAR));
	FUZZ_MUST(utf8 != NULL && again != NULL);
	if (bytes > 0)
		FUZZ_MUST(text_to_utf8(wide, units, utf8, bytes - 1, &written) == -ENOSPC);
	FUZZ_MUST(text_to_utf8(wide, units, utf8, bytes, &written) == 0 && written == bytes);
	FUZZ_MUST(memcmp(utf8, wanted, bytes) == 0);
	FUZZ_MUST(text_is_utf8(utf8, bytes));
	FUZZ_MUST(text_to_wide(utf8, bytes, again, units, &back) == 0 && back == units);
	FUZZ_MUST(memcmp(again, wide, units * sizeof(WCHAR)) == 0);
	free(utf8);
	free(again);
	free(wanted);
}

/* The calls for text with NUL, and those that allocate. */
static void with_nul(const WCHAR *wide, const char *utf8, uint8_t how)
{
	char small[9], *copy;
	WCHAR *wide_copy;
	size_t units = text_units(wide), bounded = text_units_bounded(wide, 5);
	int status;

	FUZZ_MUST(bounded == (units > 5 ? 6 : units));
	status = text_utf8_copy(wide, small, sizeof(small));
	FUZZ_MUST(status == 0 || status == -EILSEQ || status == -ENAMETOOLONG);
	if (status == 0)
		FUZZ_MUST(text_is_utf8(small, strlen(small)));
	failing_set(how);
	status = text_utf8_dup(wide, &copy);
	FUZZ_MUST(status == 0 ? copy != NULL : copy == NULL);
	free(copy);
	status = text_wide_dup(utf8, &wide_copy);
	failing_set(0);
	FUZZ_MUST(status == 0 ? wide_copy != NULL : wide_copy == NULL);
	if (status == 0) {
		int order = text_compare(wide, wide_copy);

		FUZZ_MUST(text_is_equal(wide_copy, wide_copy));
		FUZZ_MUST((order == 0) == text_is_equal(wide, wide_copy));
		FUZZ_MUST((order < 0) == (text_compare(wide_copy, wide) > 0));
		FUZZ_MUST(text_compare(NULL, wide) < 0 && text_compare(wide, NULL) > 0);
		FUZZ_MUST(text_is_equal(NULL, NULL) && !text_is_equal(NULL, wide));
	}
	free(wide_copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	uint8_t how = input_byte(&input);
	size_t units = input.left / sizeof(WCHAR);
	WCHAR *wide = malloc((units + 1) * sizeof(WCHAR));
	char *utf8 = malloc(input.left + 1);

	FUZZ_MUST(wide != NULL && utf8 != NULL);
	if (to_wide == NULL)
		prepare();
	if (input.left > 0) {
		memcpy(wide, input.at, units * sizeof(WCHAR));
		memcpy(utf8, input.at, input.left);
	}
	wide[units] = 0;
	utf8[input.left] = '\0';
	from_utf8(utf8, input.left);
	from_wide(wide, units);
	with_nul(wide, utf8, how);
	free(wide);
	free(utf8);
	return 0;
}
