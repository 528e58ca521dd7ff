/*
 * The allocator of the seam on a real machine: jemalloc where the build has it, else the C library.
 *
 * With jemalloc each shard thread is bound to an arena of its own (thread.arena), so that OpenSSL's
 * allocations on that thread land there too. Arenas are never destroyed (blocks of a shard may be
 * freed late by another thread); they go back to a list and the next shard takes them over.
 */
#include "engine/memory.h"

#include "engine/tsan.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef PEERHUB_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

void *memory_alloc(size_t bytes)
{
	return malloc(bytes > 0 ? bytes : 1);
}

void *memory_zalloc(size_t bytes)
{
	return calloc(1, bytes > 0 ? bytes : 1);
}

void *memory_realloc(void *block, size_t bytes)
{
	return realloc(block, bytes > 0 ? bytes : 1);
}

void memory_free(void *block)
{
	free(block);
}

void *memory_map(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

void memory_unmap(void *pages, size_t bytes)
{
	if (pages == NULL)
		return;
	PH_TSAN_PAGES_RELEASE();
	munmap(pages, bytes);
}

#ifdef PEERHUB_JEMALLOC
#define ARENAS_MAX 256 /* as many as there are shard records in a process */

static pthread_mutex_t arenas_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned arenas_idle[ARENAS_MAX];
static unsigned arenas_idle_count;
static _Thread_local unsigned arena_mine; /* 0: none; arena 0 is jemalloc's own */

void memory_arena_begin(void)
{
	unsigned arena = 0;
	size_t bytes = sizeof(arena);

	pthread_mutex_lock(&arenas_lock);
	if (arenas_idle_count > 0)
		arena = arenas_idle[--arenas_idle_count];
	pthread_mutex_unlock(&arenas_lock);
	if (arena == 0 && mallctl("arenas.create", &arena, &bytes, NULL, 0) != 0)
		return; /* no arena of our own is slower, never wrong */
	if (mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena)) != 0)
		return;
	arena_mine = arena;
}

void memory_arena_end(void)
{
	char name[40];

	if (arena_mine == 0)
		return;
	(void)mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	snprintf(name, sizeof(name), "arena.%u.purge", arena_mine);
	(void)mallctl(name, NULL, NULL, NULL, 0);
	pthread_mutex_lock(&arenas_lock);
	if (arenas_idle_count < ARENAS_MAX)
		arenas_idle[arenas_idle_count++] = arena_mine;
	pthread_mutex_unlock(&arenas_lock);
	arena_mine = 0;
}
#else
void memory_arena_begin(void)
{
}

void memory_arena_end(void)
{
}
#endif
