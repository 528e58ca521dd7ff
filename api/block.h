/*
 * Blocks: memory handed to a client, given back by one PeerFreeData. A block is one allocation: a
 * struct or an array first, what it points to behind it, everything zeroed and aligned to 8.
 *
 * A block is made by one function run twice: while measuring, block_take answers NULL and only
 * counts; then the block is allocated and the same calls hand out its parts. So size and content
 * cannot disagree.
 *
 *	static void *pair_fill(struct block *block, const void *source)
 *	{
 *		const struct pair *from = source;
 *		PEER_NAME_PAIR *to = block_take(block, sizeof(*to));
 *		WCHAR *name = block_text(block, from->name);
 *
 *		if (to != NULL)
 *			*to = (PEER_NAME_PAIR){.dwSize = sizeof(*to), .pwzPeerName = name};
 *		return to;
 *	}
 *	status = block_build(pair_fill, &pair, (void **)&result);
 *
 * All live blocks are in a registry by address. PeerFreeData frees what it finds there and touches
 * nothing else: a foreign, nested or already freed pointer is left alone.
 */
#ifndef PEERHUB_API_BLOCK_H
#define PEERHUB_API_BLOCK_H

#include "peerhub/win32.h"
#include "peerhub.h"

#include <stdbool.h>
#include <stddef.h>

#define BLOCK_ALIGN 8u /* a client may read data as any type up to 8 bytes, and as text */
#define BLOCK_BYTES_MAX ((size_t)1 << 40) /* above any size the layers below can ask for */

struct block {
	unsigned char *base; /* NULL while measuring */
	size_t used;
	size_t bytes; /* of the allocation */
	int status; /* first failure: -EILSEQ (text), -ENOMEM (BLOCK_BYTES_MAX) */
};

/* Parts of the block under construction: NULL while measuring or after a failure. 0 bytes give a
 * pointer too. Text: NULL stays NULL. */
void *block_take(struct block *block, size_t bytes);
void *block_copy(struct block *block, const void *data, size_t bytes);
WCHAR *block_text(struct block *block, const char *utf8);
WCHAR *block_text_bytes(struct block *block, const char *utf8, size_t bytes);
WCHAR *block_wide(struct block *block, PCWSTR wide);

/*
 * Run `fill` twice and hand out the block. The client's pointer is that of the first block_take.
 *
 * fill    takes the same parts, in the same order, both times; its return value is not used
 * Returns 0, -ENOMEM, -EILSEQ (a text is not UTF-8). *result is NULL on failure.
 */
typedef void *(*block_fill)(struct block *block, const void *source);
PH_MUST_CHECK int block_build(block_fill fill, const void *source, void **result);

/* A block that is one string. Same returns. */
PH_MUST_CHECK int block_string(const char *utf8, PWSTR *result);
PH_MUST_CHECK int block_string_wide(PCWSTR wide, PWSTR *result);

/* What PeerFreeData does; true if it was a block. And how many are alive, for tests and dumps. */
bool block_free(const void *data);
size_t block_count(void);

#endif
