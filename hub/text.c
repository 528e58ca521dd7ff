/*
 * text.c: see text.h. One UTF-8 reader (text_next) serves checking, converting and escaping.
 */
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The code point at text[0..bytes) and its length; 0 when these bytes are not UTF-8. */
static size_t text_next(const char *text, size_t bytes, uint32_t *point)
{
	static const uint32_t point_min[5] = {0, 0, 0x80, 0x800, 0x10000};
	const uint8_t *at = (const uint8_t *)text;
	uint32_t value;
	size_t length;

	if (at[0] < 0x80) {
		*point = at[0];
		return 1;
	}
	if (at[0] >= 0xc2 && at[0] <= 0xdf) {
		length = 2;
		value = at[0] & 0x1fu;
	} else if (at[0] >= 0xe0 && at[0] <= 0xef) {
		length = 3;
		value = at[0] & 0x0fu;
	} else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
		length = 4;
		value = at[0] & 0x07u;
	} else {
		return 0;
	}
	if (length > bytes)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (at[i] & 0x3fu);
	}
	if (value < point_min[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*point = value;
	return length;
}

bool text_is_utf8(const char *text, size_t bytes)
{
	uint32_t point;
	size_t length;

	while (bytes > 0) {
		length = text_next(text, bytes, &point);
		if (length == 0)
			return false;
		text += length;
		bytes -= length;
	}
	return true;
}

uint16_t *text_to_utf16(const char *text)
{
	size_t bytes = strlen(text), length, count = 0;
	uint16_t *out;
	uint32_t point;

	/* No code point takes more UTF-16 units than UTF-8 bytes. */
	out = calloc(bytes + 1, sizeof(*out));
	if (out == NULL)
		return NULL;
	while (bytes > 0) {
		length = text_next(text, bytes, &point);
		if (length == 0) {
			free(out);
			errno = EILSEQ;
			return NULL;
		}
		if (point < 0x10000) {
			out[count++] = (uint16_t)point;
		} else {
			out[count++] = (uint16_t)(0xd800 + ((point - 0x10000) >> 10));
			out[count++] = (uint16_t)(0xdc00 + ((point - 0x10000) & 0x3ff));
		}
		text += length;
		bytes -= length;
	}
	return out;
}

static size_t utf8_put(char *out, uint32_t point)
{
	if (point < 0x80) {
		out[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (char)(0xc0 | point >> 6);
		out[1] = (char)(0x80 | (point & 0x3f));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (char)(0xe0 | point >> 12);
		out[1] = (char)(0x80 | (point >> 6 & 0x3f));
		out[2] = (char)(0x80 | (point & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | point >> 18);
	out[1] = (char)(0x80 | (point >> 12 & 0x3f));
	out[2] = (char)(0x80 | (point >> 6 & 0x3f));
	out[3] = (char)(0x80 | (point & 0x3f));
	return 4;
}

char *text_from_utf16(const uint16_t *text)
{
	size_t units = 0, count = 0;
	uint32_t point;
	char *out;

	while (text[units] != 0)
		units++;
	out = malloc(units * 3 + 1);
	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < units; i++) {
		point = text[i];
		if (point >= 0xd800 && point <= 0xdbff && text[i + 1] >= 0xdc00 &&
			text[i + 1] <= 0xdfff) {
			point = 0x10000 + ((point - 0xd800) << 10) + (text[i + 1] - 0xdc00u);
			i++;
		} else if (point >= 0xd800 && point <= 0xdfff) {
			free(out);
			errno = EILSEQ;
			return NULL;
		}
		count += utf8_put(out + count, point);
	}
	out[count] = 0;
	return out;
}

/* Characters that could move the cursor, hide text or turn it round on a terminal. */
static bool is_unsafe(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0) ||
		(point >= 0x200b && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
		(point >= 0x2060 && point <= 0x2069) || point == 0xfeff;
}

char *text_escape(const char *text, size_t bytes, bool word)
{
	size_t length, count = 0;
	uint32_t point;
	char *out;

	/* The longest escape of one byte is \xNN, of a longer unsafe character \u{NNNN}. */
	if (bytes > (SIZE_MAX - 1) / 4)
		return NULL;
	out = malloc(bytes * 4 + 1);
	if (out == NULL)
		return NULL;
	while (bytes > 0) {
		length = text_next(text, bytes, &point);
		if (length == 0 ||
			(length == 1 &&
				(is_unsafe(point) || (word && (point == ' ' || point == '\\'))))) {
			count += (size_t)sprintf(out + count, "\\x%02x", (uint8_t)text[0]);
			length = 1;
		} else if (is_unsafe(point)) {
			count += (size_t)sprintf(out + count, "\\u{%x}", (unsigned)point);
		} else {
			memcpy(out + count, text, length);
			count += length;
		}
		text += length;
		bytes -= length;
	}
	out[count] = 0;
	return out;
}

bool text_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	uint64_t sum = 0;

	if (*text == 0)
		return false;
	for (; *text != 0; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (sum > (UINT64_MAX - (uint64_t)(*text - '0')) / 10)
			return false;
		sum = sum * 10 + (uint64_t)(*text - '0');
	}
	if (sum < min || sum > max)
		return false;
	*value = sum;
	return true;
}

char *text_size(uint64_t bytes, char *out)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(out, TEXT_SIZE_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
	return out;
}

char *text_digest(const uint8_t digest[32], char *out)
{
	for (int i = 0; i < 32; i++)
		sprintf(out + 2 * i, "%02x", digest[i]);
	return out;
}
