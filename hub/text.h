/*
 * text.h: text that came from somewhere else. UTF-8 and UTF-16, escaping for a terminal, numbers.
 *
 * Pure functions; those that return memory say so, and the caller frees it with free().
 */
#ifndef PEERHUB_HUB_TEXT_H
#define PEERHUB_HUB_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Strict: no overlong forms, no surrogates, nothing above U+10FFFF. Empty is valid. */
bool text_is_utf8(const char *text, size_t bytes);

/*
 * UTF-8 with NUL to UTF-16 with a zero unit, and back. Memory of the caller.
 * NULL with errno EILSEQ (not UTF-8; a lone surrogate) or ENOMEM.
 */
uint16_t *text_to_utf16(const char *text);
char *text_from_utf16(const uint16_t *text);

/*
 * Copy text for people to read: control characters, direction overrides and bytes that are not
 * UTF-8 become \xNN or \u{NNNN}; a backslash stays. `word` also escapes spaces and backslashes, so
 * that the result is one word of a `key value` line and means one text only. Memory of the caller; NULL when there is none.
 */
char *text_escape(const char *text, size_t bytes, bool word);

/* A whole decimal number min..max: true and *value, or false (empty, sign, garbage, range). */
bool text_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/* "1.5 MiB" into out[TEXT_SIZE_BYTES]; returns out. */
#define TEXT_SIZE_BYTES 32u
char *text_size(uint64_t bytes, char *out);

/* 64 lower-case hex digits and NUL of a SHA-256 into out[65]; returns out. */
char *text_digest(const uint8_t digest[32], char *out);

#endif
