/*
 * The allocator of the seam. Everything the engine allocates while it runs goes through here, so
 * that tests can fail any one of them. Any thread; a block may be freed on another thread.
 */
#ifndef PEERHUB_ENGINE_MEMORY_H
#define PEERHUB_ENGINE_MEMORY_H

#include <stddef.h>

void *memory_alloc(size_t bytes); /* NULL when there is none; not zeroed */
void *memory_zalloc(size_t bytes); /* zeroed */
void *memory_realloc(void *block, size_t bytes); /* block may be NULL */
void memory_free(void *block); /* NULL allowed */

/* Whole pages that stay for the life of the process or hub: slot tables, buffers. Zeroed, not
 * touched until used. NULL when there is no address space. */
void *memory_map(size_t bytes);
void memory_unmap(void *pages, size_t bytes);

/* A shard's own arena, bound to the calling thread. memory_arena_end gives its pages back. */
void memory_arena_begin(void);
void memory_arena_end(void);

#endif
