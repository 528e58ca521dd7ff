/*
 * Text: strict conversion between UTF-16 and UTF-8, one code point at a time. Two decoders that refuse
 * everything malformed, two encoders that cannot fail, and a loop for each direction.
 */
#include "api/text.h"

#include "api/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SURROGATE_HIGH 0xD800u
#define SURROGATE_LOW 0xDC00u
#define SURROGATE_END 0xE000u
#define PLANE_ONE 0x10000u
#define CODE_POINT_END 0x110000u

size_t text_units(PCWSTR wide)
{
	size_t units = 0;

	while (wide[units] != 0)
		units++;
	return units;
}

size_t text_units_bounded(PCWSTR wide, size_t units_max)
{
	size_t units = 0;

	while (units <= units_max && wide[units] != 0)
		units++;
	return units;
}

/* One code point from UTF-16: its value and, in *used, its units; -EILSEQ for a lone surrogate. */
static int32_t utf16_decode(PCWSTR wide, size_t units, size_t *used)
{
	uint32_t first = wide[0];
	uint32_t second;

	*used = 1;
	if (first < SURROGATE_HIGH || first >= SURROGATE_END)
		return (int32_t)first;
	if (first >= SURROGATE_LOW || units < 2)
		return -EILSEQ;
	second = wide[1];
	if (second < SURROGATE_LOW || second >= SURROGATE_END)
		return -EILSEQ;
	*used = 2;
	return (int32_t)(PLANE_ONE + ((first - SURROGATE_HIGH) << 10) + (second - SURROGATE_LOW));
}

/* One code point from UTF-8 (RFC 3629): the smallest value of each length rules out overlong forms. */
static int32_t utf8_decode(const unsigned char *utf8, size_t bytes, size_t *used)
{
	static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, PLANE_ONE};
	uint32_t point = utf8[0];
	size_t length;

	if (point < 0x80)
		length = 1;
	else if (point >= 0xC0 && point < 0xE0)
		length = 2;
	else if (point >= 0xE0 && point < 0xF0)
		length = 3;
	else if (point >= 0xF0 && point < 0xF8)
		length = 4;
	else
		return -EILSEQ;
	if (bytes < length)
		return -EILSEQ;
	if (length > 1)
		point &= 0x7Fu >> length;
	for (size_t index = 1; index < length; index++) {
		if ((utf8[index] & 0xC0u) != 0x80u)
			return -EILSEQ;
		point = point << 6 | (utf8[index] & 0x3Fu);
	}
	if (point < smallest[length] || point >= CODE_POINT_END)
		return -EILSEQ;
	if (point >= SURROGATE_HIGH && point < SURROGATE_END)
		return -EILSEQ;
	*used = length;
	return (int32_t)point;
}

static size_t utf8_encode(uint32_t point, char utf8[4])
{
	if (point < 0x80) {
		utf8[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		utf8[0] = (char)(0xC0u | point >> 6);
		utf8[1] = (char)(0x80u | (point & 0x3Fu));
		return 2;
	}
	if (point < PLANE_ONE) {
		utf8[0] = (char)(0xE0u | point >> 12);
		utf8[1] = (char)(0x80u | (point >> 6 & 0x3Fu));
		utf8[2] = (char)(0x80u | (point & 0x3Fu));
		return 3;
	}
	utf8[0] = (char)(0xF0u | point >> 18);
	utf8[1] = (char)(0x80u | (point >> 12 & 0x3Fu));
	utf8[2] = (char)(0x80u | (point >> 6 & 0x3Fu));
	utf8[3] = (char)(0x80u | (point & 0x3Fu));
	return 4;
}

static size_t utf16_encode(uint32_t point, WCHAR wide[2])
{
	if (point < PLANE_ONE) {
		wide[0] = (WCHAR)point;
		return 1;
	}
	wide[0] = (WCHAR)(SURROGATE_HIGH + ((point - PLANE_ONE) >> 10));
	wide[1] = (WCHAR)(SURROGATE_LOW + ((point - PLANE_ONE) & 0x3FFu));
	return 2;
}

int text_to_utf8(PCWSTR wide, size_t units, char *utf8, size_t capacity, size_t *bytes)
{
	size_t written = 0;
	size_t used;

	for (size_t at = 0; at < units; at += used) {
		int32_t point = utf16_decode(wide + at, units - at, &used);
		char encoded[4];
		size_t length;

		if (point < 0)
			return point;
		length = utf8_encode((uint32_t)point, encoded);
		if (utf8 != NULL) {
			if (capacity - written < length)
				return -ENOSPC;
			memcpy(utf8 + written, encoded, length);
		}
		written += length;
	}
	*bytes = written;
	return 0;
}

int text_to_wide(const char *utf8, size_t bytes, WCHAR *wide, size_t capacity, size_t *units)
{
	const unsigned char *source = (const unsigned char *)utf8;
	size_t written = 0;
	size_t used;

	for (size_t at = 0; at < bytes; at += used) {
		int32_t point = utf8_decode(source + at, bytes - at, &used);
		WCHAR encoded[2];
		size_t length;

		if (point < 0)
			return point;
		length = utf16_encode((uint32_t)point, encoded);
		if (wide != NULL) {
			if (capacity - written < length)
				return -ENOSPC;
			memcpy(wide + written, encoded, length * sizeof(WCHAR));
		}
		written += length;
	}
	*units = written;
	return 0;
}

int text_utf8_dup(PCWSTR wide, char **copy)
{
	size_t units = text_units(wide);
	size_t bytes;
	char *utf8;
	int status;

	*copy = NULL;
	status = text_to_utf8(wide, units, NULL, 0, &bytes);
	if (status < 0)
		return status;
	utf8 = malloc(bytes + 1);
	if (utf8 == NULL)
		return -ENOMEM;
	status = text_to_utf8(wide, units, utf8, bytes, &bytes);
	if (status < 0) {
		free(utf8); /* the client changed its text under us */
		return -EILSEQ;
	}
	utf8[bytes] = '\0';
	*copy = utf8;
	return 0;
}

int text_wide_dup(const char *utf8, WCHAR **copy)
{
	size_t bytes = strlen(utf8);
	size_t units;
	WCHAR *wide;
	int status;

	*copy = NULL;
	status = text_to_wide(utf8, bytes, NULL, 0, &units);
	if (status < 0)
		return status;
	wide = malloc((units + 1) * sizeof(WCHAR));
	if (wide == NULL)
		return -ENOMEM;
	status = text_to_wide(utf8, bytes, wide, units, &units);
	assert(status == 0);
	wide[units] = 0;
	*copy = wide;
	return 0;
}

int text_utf8_copy(PCWSTR wide, char *utf8, size_t capacity)
{
	size_t units;
	size_t bytes;
	int status;

	assert(capacity > 0);
	utf8[0] = '\0';
	/* A unit needs at least one byte: what is longer cannot fit, and we need not look further. */
	units = text_units_bounded(wide, capacity - 1);
	if (units > capacity - 1)
		return -ENAMETOOLONG;
	status = text_to_utf8(wide, units, utf8, capacity - 1, &bytes);
	if (status < 0) {
		utf8[0] = '\0';
		return status == -ENOSPC ? -ENAMETOOLONG : status;
	}
	utf8[bytes] = '\0';
	return 0;
}

int text_compare(PCWSTR left, PCWSTR right)
{
	if (left == NULL || right == NULL)
		return (left != NULL) - (right != NULL);
	while (*left != 0 && *left == *right) {
		left++;
		right++;
	}
	return (*left > *right) - (*left < *right);
}

bool text_is_equal(PCWSTR left, PCWSTR right)
{
	return text_compare(left, right) == 0;
}

bool text_is_utf8(const char *utf8, size_t bytes)
{
	size_t units;

	return text_to_wide(utf8, bytes, NULL, 0, &units) == 0;
}
