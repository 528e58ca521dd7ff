/*
 * Allocations of OpenSSL that fail when the input says so: the n-th from now, once. What OpenSSL then
 * forgets to free is its own (the loops over every allocation list it with its stack), so in an input
 * that fails one nothing that OpenSSL asks for counts as a leak.
 */
#ifndef PEERHUB_TESTS_FUZZ_LIBCRYPTO_MEMORY_H
#define PEERHUB_TESTS_FUZZ_LIBCRYPTO_MEMORY_H

#include <openssl/crypto.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Of LeakSanitizer, where there is one. */
void __lsan_ignore_object(void *block) __attribute__((weak));

static unsigned libcrypto_failing_in; /* 0: nothing fails */
static bool libcrypto_may_leak;

/* 0: nothing fails. */
static inline void libcrypto_fail(unsigned nth)
{
	libcrypto_failing_in = nth;
	libcrypto_may_leak = nth > 0;
}

static void *libcrypto_kept(void *block)
{
	if (block != NULL && libcrypto_may_leak && __lsan_ignore_object != NULL)
		__lsan_ignore_object(block);
	return block;
}

static void *libcrypto_malloc(size_t bytes, const char *file, int line)
{
	(void)file, (void)line;
	if (libcrypto_failing_in > 0 && --libcrypto_failing_in == 0)
		return NULL;
	return libcrypto_kept(malloc(bytes));
}

static void *libcrypto_realloc(void *block, size_t bytes, const char *file, int line)
{
	(void)file, (void)line;
	if (libcrypto_failing_in > 0 && --libcrypto_failing_in == 0)
		return NULL;
	return libcrypto_kept(realloc(block, bytes));
}

static void libcrypto_free(void *block, const char *file, int line)
{
	(void)file, (void)line;
	free(block);
}

/* Before main: OpenSSL takes other functions only until its first allocation. */
__attribute__((constructor)) static void libcrypto_memory_is_ours(void)
{
	if (CRYPTO_set_mem_functions(libcrypto_malloc, libcrypto_realloc, libcrypto_free) != 1) {
		fprintf(stderr, "libcrypto_memory: OpenSSL has allocated already\n");
		abort();
	}
}

#endif
