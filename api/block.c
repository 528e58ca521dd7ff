/*
 * Blocks: the two-pass builder, and the registry that makes PeerFreeData safe for any pointer.
 *
 * The registry is a hash of block addresses; a block's header, in front of what the client sees, is
 * its link. Buckets share a few mutexes, held for a handful of instructions. A lookup compares
 * addresses only: what the client passed is never dereferenced unless it was found.
 */
#include "api/block.h"

#include "api/check.h"
#include "api/text.h"
#include "p2p.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MAGIC \
	0x70656572626c6f63u /* written while alive: found in the registry and in memory */

/* In front of each block; 16 bytes keep the client's part aligned as malloc aligned ours. */
struct block_header {
	struct block_header *next; /* of its bucket; under the bucket's lock */
	uint64_t magic;
};
_Static_assert(sizeof(struct block_header) % BLOCK_ALIGN == 0, "the client's part stays aligned");

#define BLOCK_BUCKETS 16384u /* 128 KiB; short chains up to some 100,000 blocks */
#define BLOCK_LOCKS 64u /* threads that free at once rarely meet */

static struct block_header *block_buckets[BLOCK_BUCKETS];
static pthread_mutex_t block_locks[BLOCK_LOCKS] = {
	[0 ... BLOCK_LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};
static atomic_size_t block_live;

static size_t block_bucket(const struct block_header *header)
{
	/* Addresses differ in their middle bits: multiply them upwards (Fibonacci hashing). */
	uint64_t hash = (uint64_t)(uintptr_t)header * 0x9E3779B97F4A7C15u;

	return (size_t)(hash >> 50);
}
_Static_assert(BLOCK_BUCKETS == 1u << 14, "block_bucket takes the top 14 bits");

static void block_register(struct block_header *header)
{
	size_t bucket = block_bucket(header);
	pthread_mutex_t *lock = &block_locks[bucket % BLOCK_LOCKS];

	header->magic = BLOCK_MAGIC;
	pthread_mutex_lock(lock);
	header->next = block_buckets[bucket];
	block_buckets[bucket] = header;
	pthread_mutex_unlock(lock);
	atomic_fetch_add_explicit(&block_live, 1, memory_order_relaxed);
}

/* Take the block out of the registry; false when there is none. Of two threads that free one block
 * the second finds nothing. */
static bool block_unregister(const struct block_header *header)
{
	size_t bucket = block_bucket(header);
	pthread_mutex_t *lock = &block_locks[bucket % BLOCK_LOCKS];
	struct block_header **link;
	bool found = false;

	pthread_mutex_lock(lock);
	for (link = &block_buckets[bucket]; *link != NULL; link = &(*link)->next)
		if (*link == header) {
			*link = header->next;
			found = true;
			break;
		}
	pthread_mutex_unlock(lock);
	return found;
}

/* ---- building --------------------------------------------------------------------------- */

void *block_take(struct block *block, size_t bytes)
{
	size_t rounded = (bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
	unsigned char *part;

	if (block->status < 0)
		return NULL;
	if (bytes > BLOCK_BYTES_MAX || block->used + rounded > BLOCK_BYTES_MAX) {
		block->status = -ENOMEM;
		return NULL;
	}
	if (block->base == NULL) {
		block->used += rounded;
		return NULL;
	}
	assert(rounded <= block->bytes - block->used); /* both passes ask for the same */
	part = block->base + block->used;
	block->used += rounded;
	return part;
}

void *block_copy(struct block *block, const void *data, size_t bytes)
{
	void *part = block_take(block, bytes);

	if (part != NULL && bytes > 0)
		memcpy(part, data, bytes);
	return part;
}

WCHAR *block_text_bytes(struct block *block, const char *utf8, size_t bytes)
{
	size_t units;
	WCHAR *wide;
	int status;

	if (utf8 == NULL || block->status < 0)
		return NULL;
	status = text_to_wide(utf8, bytes, NULL, 0, &units);
	if (status < 0) {
		block->status = status;
		return NULL;
	}
	wide = block_take(block, (units + 1) * sizeof(WCHAR));
	if (wide == NULL)
		return NULL;
	status = text_to_wide(utf8, bytes, wide, units, &units);
	assert(status == 0);
	wide[units] = 0;
	return wide;
}

WCHAR *block_text(struct block *block, const char *utf8)
{
	return utf8 == NULL ? NULL : block_text_bytes(block, utf8, strlen(utf8));
}

WCHAR *block_wide(struct block *block, PCWSTR wide)
{
	return wide == NULL ? NULL
			    : block_copy(block, wide, (text_units(wide) + 1) * sizeof(WCHAR));
}

int block_build(block_fill fill, const void *source, void **result)
{
	struct block block = {0};
	struct block_header *header;

	*result = NULL;
	fill(&block, source);
	if (block.status < 0)
		return block.status;
	/* A block of 0 bytes is still a block of its own: one unit of alignment stands for it. */
	header = calloc(1, sizeof(*header) + (block.used > 0 ? block.used : BLOCK_ALIGN));
	if (header == NULL)
		return -ENOMEM;
	block.base = (unsigned char *)(header + 1);
	block.bytes = block.used;
	block.used = 0;
	fill(&block, source);
	if (block.status < 0) {
		free(header);
		return block.status;
	}
	assert(block.used == block.bytes);
	block_register(header);
	*result = header + 1;
	return 0;
}

static void *block_fill_text(struct block *block, const void *source)
{
	return block_text(block, source);
}

static void *block_fill_wide(struct block *block, const void *source)
{
	return block_wide(block, source);
}

int block_string(const char *utf8, PWSTR *result)
{
	void *text;
	int status = block_build(block_fill_text, utf8, &text);

	*result = text;
	return status;
}

int block_string_wide(PCWSTR wide, PWSTR *result)
{
	void *text;
	int status = block_build(block_fill_wide, wide, &text);

	*result = text;
	return status;
}

/* ---- freeing ---------------------------------------------------------------------------- */

bool block_free(const void *data)
{
	struct block_header *header;

	/* Below the header's size, or not aligned: no block of ours, and the subtraction would wrap. */
	if ((uintptr_t)data < sizeof(*header) || (uintptr_t)data % BLOCK_ALIGN != 0)
		return false;
	header = (struct block_header *)((uintptr_t)data - sizeof(*header));
	if (!block_unregister(header))
		return false;
	assert(header->magic == BLOCK_MAGIC); /* else the client wrote in front of its block */
	header->magic = 0;
	free(header);
	atomic_fetch_sub_explicit(&block_live, 1, memory_order_relaxed);
	return true;
}

size_t block_count(void)
{
	return atomic_load_explicit(&block_live, memory_order_relaxed);
}

VOID PeerFreeData(LPCVOID pvData)
{
	block_free(pvData);
}
