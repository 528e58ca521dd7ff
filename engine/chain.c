/* Byte chains; see chain.h. */
#include "engine/chain.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <errno.h>
#include <string.h>

/* Small appends share a block of this size: one TLS record of a small message is some 60 to 120
 * bytes, and a turn's worth of them should not cost an allocation each. */
#define CHAIN_BLOCK_BYTES 1024u

struct chunk *chunk_create(size_t capacity)
{
	struct chunk *chunk;

	if (capacity > UINT32_MAX - sizeof(*chunk))
		return NULL;
	chunk = memory_alloc(sizeof(*chunk) + capacity);
	if (chunk == NULL)
		return NULL;
	chunk->next = NULL;
	chunk->last = NULL;
	chunk->offset = 0;
	chunk->bytes = 0;
	chunk->capacity = (uint32_t)capacity;
	chunk->weight = 0;
	return chunk;
}

void chunk_destroy(struct chunk *chunk)
{
	memory_free(chunk);
}

void chain_push(struct chain *chain, struct chunk *chunk)
{
	assert(chunk->offset <= chunk->bytes);
	assert(chunk->bytes <= chunk->capacity);
	chunk->next = NULL;
	if (chain->head != NULL)
		chain->head->last->next = chunk;
	else
		chain->head = chunk;
	chain->head->last = chunk;
	chain->bytes += chunk->bytes - chunk->offset;
}

struct chunk *chain_pop(struct chain *chain)
{
	struct chunk *chunk = chain->head;

	if (chunk == NULL)
		return NULL;
	chain->head = chunk->next;
	if (chain->head != NULL)
		chain->head->last = chunk->last;
	chain->bytes -= chunk->bytes - chunk->offset;
	chunk->next = NULL;
	return chunk;
}

uint8_t *chain_reserve(struct chain *chain, size_t bytes)
{
	struct chunk *tail = chain->head != NULL ? chain->head->last : NULL;

	if (tail == NULL || tail->capacity - tail->bytes < bytes) {
		tail = chunk_create(bytes > CHAIN_BLOCK_BYTES ? bytes : CHAIN_BLOCK_BYTES);
		if (tail == NULL)
			return NULL;
		chain_push(chain, tail);
	}
	return tail->data + tail->bytes;
}

void chain_reserved(struct chain *chain, size_t bytes)
{
	struct chunk *tail = chain->head->last;

	assert(bytes <= tail->capacity - tail->bytes);
	tail->bytes += (uint32_t)bytes;
	chain->bytes += bytes;
}

int chain_append(struct chain *chain, const void *data, size_t bytes)
{
	uint8_t *to;

	if (bytes == 0)
		return 0;
	to = chain_reserve(chain, bytes);
	if (to == NULL)
		return -ENOMEM;
	memcpy(to, data, bytes);
	chain_reserved(chain, bytes);
	return 0;
}

void chain_move(struct chain *to, struct chain *from)
{
	if (from->head == NULL)
		return;
	if (to->head != NULL) {
		to->head->last->next = from->head;
		to->head->last = from->head->last;
	} else {
		to->head = from->head;
	}
	to->bytes += from->bytes;
	*from = (struct chain){0};
}

void chain_clear(struct chain *chain)
{
	struct chunk *chunk;

	while ((chunk = chain_pop(chain)) != NULL)
		chunk_destroy(chunk);
	assert(chain->bytes == 0);
}

size_t chain_weight(const struct chain *chain)
{
	size_t weight = 0;

	for (const struct chunk *chunk = chain->head; chunk != NULL; chunk = chunk->next)
		weight += chunk->weight;
	return weight;
}

size_t chain_consume(struct chain *chain, size_t bytes)
{
	size_t weight = 0;

	assert(bytes <= chain->bytes);
	while (chain->head != NULL) {
		struct chunk *chunk = chain->head;
		size_t here = chunk->bytes - chunk->offset;

		if (bytes < here) {
			chunk->offset += (uint32_t)bytes;
			chain->bytes -= bytes;
			break;
		}
		bytes -= here;
		weight += chunk->weight;
		chunk_destroy(chain_pop(chain));
	}
	return weight;
}
