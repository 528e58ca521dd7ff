/* What cmocka programs on the harness share: one harness, begun before and ended after each case. */
#ifndef PEERHUB_TESTS_FAKE_HARNESS_CASE_H
#define PEERHUB_TESTS_FAKE_HARNESS_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/fake/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct harness it;

static inline int case_begin(void **state)
{
	(void)state;
	harness_begin(&it);
	return 0;
}

static inline int case_end(void **state)
{
	(void)state;
	if (!it.stopped)
		harness_end(&it);
	assert_int_equal(memory_script_live(), it.memory_before);
	return 0;
}

/* End this harness and begin a fresh one inside a case. */
static inline void case_again(void)
{
	(void)case_end(NULL);
	(void)case_begin(NULL);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, case_begin, case_end)

#endif
