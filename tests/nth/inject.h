/*
 * Allocations that fail by count, and what is left of them afterwards.
 *
 * Every allocation of a pool comes through here (inject_alloc and its relatives, put in the place of the
 * allocator of OpenSSL, SQLite, expat or our own code by whoever links this). While armed, the n-th
 * allocation of the armed pools fails: once, or it and all that follow. Every live block is known, so
 * that a leak is found by comparing counts, and with inject_record() its stack is known too, and the
 * stacks of the allocations that were failed.
 *
 * Any thread; inject_arm, inject_disarm and the looking back from one thread while the others are quiet.
 * Its own memory comes from mmap alone.
 */
#ifndef PEERHUB_TESTS_NTH_INJECT_H
#define PEERHUB_TESTS_NTH_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum inject_pool {
	POOL_OURS,
	POOL_OPENSSL,
	POOL_SQLITE,
	POOL_EXPAT,
	POOL_COUNT,
};
const char *inject_pool_name(enum inject_pool pool);

/* Once, before the first allocation of any pool. */
void inject_init(void);
/* CRYPTO_set_mem_functions; before OpenSSL allocates anything. False when it was too late. */
bool inject_openssl(void);

struct inject_options {
	uint32_t pools; /* bits 1 << pool */
	uint64_t nth; /* 0: count only */
	bool for_ever;
	bool this_thread; /* only allocations of the arming thread count and fail */
	void (*on_first)(void); /* inside the first allocation that fails; may be NULL */
};
void inject_arm(const struct inject_options *options);
void inject_disarm(void);
uint64_t inject_tries(void); /* since the arming */
uint64_t inject_failed(void);
/* Allocations of the calling thread between these neither count nor fail. They nest. */
void inject_pause(void);
void inject_resume(void);

void *inject_alloc(enum inject_pool pool, size_t bytes, bool zeroed);
void *inject_realloc(enum inject_pool pool, void *block, size_t bytes);
/* False: not one of ours; the caller frees it. */
bool inject_free(void *block);
size_t inject_block_bytes(const void *block); /* 0: not one of ours */
/* Would the next one fail? Counts it. For what is no block: a thread that is to be made. */
bool inject_refuses(enum inject_pool pool);

/* ---- looking back -------------------------------------------------------------------------- */

#define INJECT_FRAMES_MAX 40u
void inject_record(bool on); /* keep stacks from now on; dear */
uint64_t inject_mark(void); /* blocks made from now on have a greater number */
size_t inject_live(enum inject_pool pool);
size_t inject_live_since(enum inject_pool pool, uint64_t mark);

/* Innermost first, functions that only allocate left out. */
struct inject_stack {
	uint32_t count;
	void *frames[INJECT_FRAMES_MAX];
};
/* Blocks of the pool made since the mark that still live: visit returns false to stop. */
void inject_walk(enum inject_pool pool, uint64_t mark,
	bool (*visit)(void *context, size_t bytes, const struct inject_stack *stack),
	void *context);
/* Of the allocations that failed since the arming, oldest first; NULL after the last. Recorded only. */
#define INJECT_FAILED_MAX 512u
const struct inject_stack *inject_failed_stack(uint32_t index);
void inject_stack_here(struct inject_stack *stack);

/* The function an address is in: "name" of ours, "name" or "?" of a library's. True: in our program. */
bool inject_function(const void *address, char *name, size_t name_bytes);
/* "malloc_user < caller < …" of a stack; library functions that have no public name are left out.
 * library_part: only up to the first function of ours, which is the last one named. */
void inject_stack_text(
	const struct inject_stack *stack, char *text, size_t text_bytes, bool library_part);

#endif
