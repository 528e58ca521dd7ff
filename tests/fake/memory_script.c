/* An allocator that fails by count; see memory_script.h. One thread. */
#include "tests/fake/memory_script.h"

#include "engine/memory.h"

#include <stdlib.h>
#include <string.h>

static uint64_t script_nth, script_tries, script_failed;
static bool script_for_ever;
static int64_t script_live;

void memory_script_fail(uint64_t nth, bool for_ever)
{
	script_nth = nth;
	script_for_ever = for_ever;
	script_tries = 0;
	script_failed = 0;
}

uint64_t memory_script_tries(void)
{
	return script_tries;
}

uint64_t memory_script_failed(void)
{
	return script_failed;
}

int64_t memory_script_live(void)
{
	return script_live;
}

static bool memory_is_refused(void)
{
	script_tries++;
	if (script_nth == 0 || script_tries < script_nth)
		return false;
	if (script_tries > script_nth && !script_for_ever)
		return false;
	script_failed++;
	return true;
}

static void *memory_counted(void *block)
{
	if (block != NULL)
		script_live++;
	return block;
}

void *memory_alloc(size_t bytes)
{
	if (memory_is_refused())
		return NULL;
	return memory_counted(malloc(bytes > 0 ? bytes : 1));
}

void *memory_zalloc(size_t bytes)
{
	if (memory_is_refused())
		return NULL;
	return memory_counted(calloc(1, bytes > 0 ? bytes : 1));
}

void *memory_realloc(void *block, size_t bytes)
{
	void *grown;

	if (memory_is_refused())
		return NULL;
	grown = realloc(block, bytes > 0 ? bytes : 1);
	return block == NULL ? memory_counted(grown) : grown;
}

void memory_free(void *block)
{
	if (block != NULL)
		script_live--;
	free(block);
}

/* Blocks of the C library, so that the address sanitizer sees their edges; pages as far as alignment
 * goes. */
void *memory_map(size_t bytes)
{
	size_t whole = (bytes + 4095) & ~(size_t)4095;
	void *pages;

	if (memory_is_refused())
		return NULL;
	pages = aligned_alloc(4096, whole > 0 ? whole : 4096);
	if (pages != NULL)
		memset(pages, 0, bytes);
	return memory_counted(pages);
}

void memory_unmap(void *pages, size_t bytes)
{
	(void)bytes;
	memory_free(pages);
}

void memory_arena_begin(void)
{
}

void memory_arena_end(void)
{
}
