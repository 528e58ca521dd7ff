/*
 * Text: p2p.h speaks UTF-16, everything behind it UTF-8. Both directions are strict: an unpaired
 * surrogate, an overlong form, a surrogate in UTF-8, a truncated sequence and anything above U+10FFFF
 * are -EILSEQ, so that two different texts never become one. Pure functions, any thread.
 */
#ifndef PEERHUB_API_TEXT_H
#define PEERHUB_API_TEXT_H

#include "peerhub/win32.h"
#include "peerhub.h"

#include <stdbool.h>
#include <stddef.h>

/* Units before the NUL. */
size_t text_units(PCWSTR wide);

/* The same, but stops behind units_max + 1 units: that answer means "longer than units_max". */
size_t text_units_bounded(PCWSTR wide, size_t units_max);

/*
 * Convert `units` units of UTF-16; U+0000 is a character like any other.
 *
 * utf8   capacity bytes, no terminator is added; NULL: only measure
 * bytes  out: bytes written, or needed; untouched on failure
 * Returns  0, -EILSEQ (malformed), -ENOSPC (capacity)
 */
PH_MUST_CHECK int text_to_utf8(
	PCWSTR wide, size_t units, char *utf8, size_t capacity, size_t *bytes);

/* The reverse, with the same rules; `units` are 16-bit units. */
PH_MUST_CHECK int text_to_wide(
	const char *utf8, size_t bytes, WCHAR *wide, size_t capacity, size_t *units);

/* Copies with NUL from malloc, of NUL-terminated text. *copy is NULL on failure.
 * Returns 0, -EILSEQ, -ENOMEM. */
PH_MUST_CHECK int text_utf8_dup(PCWSTR wide, char **copy);
PH_MUST_CHECK int text_wide_dup(const char *utf8, WCHAR **copy);

/* Into a buffer of `capacity` bytes, NUL included. Returns 0, -EILSEQ, -ENAMETOOLONG. */
PH_MUST_CHECK int text_utf8_copy(PCWSTR wide, char *utf8, size_t capacity);

/* By 16-bit unit, case-sensitive, NULL allowed and before everything else. */
int text_compare(PCWSTR left, PCWSTR right);
bool text_is_equal(PCWSTR left, PCWSTR right);

/* Is NUL-terminated UTF-8 well-formed? */
bool text_is_utf8(const char *utf8, size_t bytes);

#endif
