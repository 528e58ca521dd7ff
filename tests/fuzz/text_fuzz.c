/*
 * Text from outside, both ways: any bytes as UTF-8 and as UTF-16. What is accepted must come back the
 * same; what the measuring pass says must be what the writing pass does.
 */
#include "api/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void expect(int condition)
{
	if (!condition)
		abort();
}

static void round_trip_utf8(const char *utf8, size_t bytes)
{
	size_t units, written, back;
	WCHAR *wide;
	char *again;

	if (text_to_wide(utf8, bytes, NULL, 0, &units) < 0)
		return;
	wide = malloc((units + 1) * sizeof(WCHAR));
	again = malloc(bytes + 1);
	if (wide != NULL && again != NULL) {
		expect(text_to_wide(utf8, bytes, wide, units, &written) == 0 && written == units);
		expect(text_to_utf8(wide, units, again, bytes, &back) == 0 && back == bytes);
		expect(memcmp(again, utf8, bytes) == 0);
	}
	free(wide);
	free(again);
}

static void round_trip_wide(const WCHAR *wide, size_t units)
{
	size_t bytes, written, back;
	WCHAR *again;
	char *utf8;

	if (text_to_utf8(wide, units, NULL, 0, &bytes) < 0)
		return;
	utf8 = malloc(bytes + 1);
	again = malloc((units + 1) * sizeof(WCHAR));
	if (utf8 != NULL && again != NULL) {
		expect(text_to_utf8(wide, units, utf8, bytes, &written) == 0 && written == bytes);
		expect(text_is_utf8(utf8, bytes));
		expect(text_to_wide(utf8, bytes, again, units, &back) == 0 && back == units);
		expect(memcmp(again, wide, units * sizeof(WCHAR)) == 0);
	}
	free(utf8);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t units = bytes / sizeof(WCHAR);
	WCHAR *wide = malloc((units + 1) * sizeof(WCHAR));

	if (wide == NULL)
		return 0;
	memcpy(wide, data, units * sizeof(WCHAR));
	round_trip_utf8((const char *)data, bytes);
	round_trip_wide(wide, units);
	free(wide);
	return 0;
}
