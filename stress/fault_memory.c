/* Allocations that fail on purpose; see fault_memory.h. */
#include "fault_memory.h"

#include "random.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

static _Atomic uint32_t fail_one_of; /* 0: off */
static _Atomic uint64_t fail_seed;
static _Atomic uint64_t allocations; /* since the start of the program, while it is on */
static _Atomic uint64_t failures;
static _Atomic uint32_t makers; /* inside fault_memory_spare_making */
static _Thread_local uint32_t spared; /* depth */
static _Thread_local bool is_openssl_spared;

/* One of `share` times as many. */
static bool fails_one_of(uint64_t share)
{
	uint64_t one_of = share * atomic_load_explicit(&fail_one_of, memory_order_relaxed);
	uint64_t number;

	if (one_of == 0 || spared > 0)
		return false;
	number = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
	if (random_mix(atomic_load_explicit(&fail_seed, memory_order_relaxed) ^ number) % one_of !=
		0)
		return false;
	atomic_fetch_add_explicit(&failures, 1, memory_order_relaxed);
	return true;
}

void fault_memory_set(uint64_t seed, uint32_t one_of)
{
	atomic_store(&fail_seed, random_mix(seed));
	atomic_store(&fail_one_of, one_of);
}

bool fault_memory_is_on(void)
{
	return atomic_load_explicit(&fail_one_of, memory_order_relaxed) != 0;
}

void fault_memory_spare(void)
{
	spared++;
}

void fault_memory_spare_end(void)
{
	assert(spared > 0);
	spared--;
}

void fault_memory_spare_openssl(void)
{
	is_openssl_spared = true;
}

void fault_memory_spare_making(void)
{
	atomic_fetch_add(&makers, 1);
}

void fault_memory_spare_making_end(void)
{
	atomic_fetch_sub(&makers, 1);
}

uint64_t fault_memory_count(void)
{
	return atomic_load(&failures);
}

static bool fails_now(void)
{
	return fails_one_of(1);
}

/* ---- ours, by the linker's --wrap ---------------------------------------------------------- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__real_memory_map(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_memory_map(size_t bytes);

void *__wrap_malloc(size_t bytes)
{
	return fails_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return fails_now() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
	return fails_now() ? NULL : __real_realloc(block, bytes);
}

void *__wrap_memory_map(size_t bytes)
{
	return fails_now() ? NULL : __real_memory_map(bytes);
}

/* ---- OpenSSL's ----------------------------------------------------------------------------- */

static bool openssl_fails_now(const char *file)
{
	return !is_openssl_spared && atomic_load(&makers) == 0 &&
		fails_one_of(FAULT_MEMORY_OPENSSL) &&
		(file == NULL || strstr(file, "core_namemap.c") == NULL);
}

static void *openssl_malloc(size_t bytes, const char *file, int line)
{
	(void)line;
	return openssl_fails_now(file) ? NULL : __real_malloc(bytes);
}

/* As OpenSSL's own: no block is malloc, no bytes is free. */
static void *openssl_realloc(void *block, size_t bytes, const char *file, int line)
{
	(void)line;
	if (block != NULL && bytes == 0) {
		free(block);
		return NULL;
	}
	return openssl_fails_now(file) ? NULL : __real_realloc(block, bytes);
}

static void openssl_free(void *block, const char *file, int line)
{
	(void)file;
	(void)line;
	free(block);
}

int fault_memory_take_openssl(void)
{
	return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) == 1
		? 0
		: -EBUSY;
}
