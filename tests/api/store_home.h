/*
 * Shared by the tests of the store and of what is built on it: every test has a home of its own,
 * made before it and removed after it, whatever happened in between.
 */
#ifndef PEERHUB_TESTS_STORE_HOME_H
#define PEERHUB_TESTS_STORE_HOME_H

#include "api/store.h"
#include "api/text.h"
#include "peerhub/extras.h"
#include "stress/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char test_home[SCRATCH_BYTES]; /* of the running test */

static inline void home_path(char *path, size_t path_bytes, const char *name)
{
	assert_true(snprintf(path, path_bytes, "%s/%s", test_home, name) < (int)path_bytes);
}

static inline int home_remove_one(
	const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status;
	(void)kind;
	(void)walk;
	return remove(path);
}

static inline int home_setup(void **state)
{
	(void)state;
	if (!scratch_create(test_home, NULL, "test"))
		return -1;
	return FAILED(store_home_set(test_home)) ? -1 : 0;
}

static inline int home_teardown(void **state)
{
	(void)state;
	store_close();
	(void)chmod(test_home, 0700);
	(void)nftw(test_home, home_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

#define home_test(function) cmocka_unit_test_setup_teardown(function, home_setup, home_teardown)

#define assert_result(result, expected)                                                          \
	do {                                                                                     \
		HRESULT got_ = (result), want_ = (expected);                                     \
		if (got_ != want_)                                                               \
			fail_msg("%s is %s (0x%08x: %s), expected %s", #result,                  \
				PeerhubResultName(got_), (unsigned)got_, PeerhubLastErrorText(), \
				PeerhubResultName(want_));                                       \
	} while (0)

/* UTF-8 to malloc'd UTF-16 and back. */
static inline WCHAR *wide_of(const char *utf8)
{
	WCHAR *wide;

	assert_int_equal(text_wide_dup(utf8, &wide), 0);
	return wide;
}

/* Not inlined: gcc 12 then takes the address of the variable for the text in it. */
static __attribute__((noinline, unused)) char *utf8_of(PCWSTR wide)
{
	char *utf8;

	assert_int_equal(text_utf8_dup(wide, &utf8), 0);
	return utf8;
}

/* How many files keys/ holds, and the path of one of them. */
static inline uint32_t key_files(char *path, size_t path_bytes)
{
	char keys[128];
	struct dirent *entry;
	uint32_t count = 0;
	DIR *listing;

	home_path(keys, sizeof(keys), "keys");
	listing = opendir(keys);
	if (listing == NULL)
		return 0;
	while ((entry = readdir(listing)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (path != NULL) {
			int length = snprintf(path, path_bytes, "%s/%s", keys, entry->d_name);

			assert_true(length > 0 && (size_t)length < path_bytes);
		}
	}
	closedir(listing);
	return count;
}

#endif
