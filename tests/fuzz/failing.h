/*
 * Allocations of our own code that fail when the input says so: the n-th from now, once or with all
 * that follow. The target is linked with --wrap (tests/fuzz.cmake: FUZZ_FAILING), so that only calls
 * of our code come here, not those of the libraries.
 */
#ifndef PEERHUB_TESTS_FUZZ_FAILING_H
#define PEERHUB_TESTS_FUZZ_FAILING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef FUZZ_MALLOC
#error "failing.h comes before input.h"
#endif
#define FUZZ_MALLOC __real_malloc

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

static unsigned failing_in; /* 0: nothing fails */
static bool failing_stays;

/* One byte of an input: 0 nothing fails; else the n-th (1..127), from 128 on also all after it. */
static inline void failing_set(uint8_t how)
{
	failing_in = how & 127u;
	failing_stays = how & 128u;
}

static inline bool failing_now(void)
{
	if (failing_in == 0 || failing_in-- > 1)
		return false;
	failing_in = failing_stays ? 1 : 0;
	return true;
}

void *__wrap_malloc(size_t bytes)
{
	return failing_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return failing_now() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
	return failing_now() ? NULL : __real_realloc(block, bytes);
}

#endif
