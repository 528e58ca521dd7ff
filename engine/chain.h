/*
 * Byte chains: a singly linked list of blocks, each with bytes waiting from offset on. They carry
 * what is to be sent: clear text from senders, cipher text from TLS. A chain belongs to whoever
 * holds it; no call here is shared between threads.
 */
#ifndef PEERHUB_ENGINE_CHAIN_H
#define PEERHUB_ENGINE_CHAIN_H

#include <ck_stack.h>
#include <stddef.h>
#include <stdint.h>

struct chunk {
	union {
		struct chunk *next; /* in a chain */
		struct ck_stack_entry
			entry; /* on a connection's chunk stack: pushed by any thread */
	};
	struct chunk *last; /* of a chain's first chunk only: the chain's last */
	uint32_t offset; /* first byte that still has to go */
	uint32_t bytes; /* end of the bytes: offset <= bytes <= capacity */
	uint32_t capacity;
	uint32_t weight; /* what this chunk counts against the send budget */
	uint8_t data[];
};

/* Every connection has several, most of them empty: so the way to the end is kept in the first chunk. */
struct chain {
	struct chunk *head;
	size_t bytes; /* sum of (bytes - offset) */
};

struct chunk *chunk_create(size_t capacity); /* NULL when there is no memory */
void chunk_destroy(struct chunk *chunk);

void chain_push(struct chain *chain, struct chunk *chunk); /* at the end */
struct chunk *chain_pop(struct chain *chain); /* from the front, NULL if empty */
int chain_append(struct chain *chain, const void *data, size_t bytes); /* copies; 0 or -ENOMEM */
/* Room for `bytes` more in one piece at the end, to be filled and then counted by chain_reserved; NULL
 * when there is no memory. */
uint8_t *chain_reserve(struct chain *chain, size_t bytes);
void chain_reserved(struct chain *chain, size_t bytes); /* at most what was reserved */
void chain_move(struct chain *to, struct chain *from); /* all of from behind to */
void chain_clear(struct chain *chain); /* frees all */
size_t chain_weight(const struct chain *chain); /* of all its chunks */
/* Take `bytes` from the front (at most chain->bytes), freeing what is used up; returns the weight
 * of the chunks freed. */
size_t chain_consume(struct chain *chain, size_t bytes);

#endif
