/*
 * Enumerations: snapshots behind HPEERENUM. The creator hands over an array of its own item structs
 * and two functions; PeerGetNextItem makes one block of pointer array, items and strings from them,
 * which outlives the enumeration. One enumeration may be used by several threads at once: each item
 * is delivered once.
 */
#ifndef PEERHUB_API_ENUMERATION_H
#define PEERHUB_API_ENUMERATION_H

#include "p2p.h"
#include "api/block.h"

enum enumeration_scope {
	ENUMERATION_IDENTITY, /* lives until PeerEndEnumeration */
	ENUMERATION_GROUP, /* also ended by the last PeerGroupShutdown */
};

struct enumeration_type {
	enum enumeration_scope scope;
	size_t item_bytes; /* of one struct of the creator's array */
	/* Copy one item into the block with everything it points to; the part taken first is the item.
	 * Returns that part (NULL while measuring). Runs under the enumeration's own lock: it must
	 * only copy. */
	block_fill fill;
	void (*fini)(void *item); /* free what one item owns; NULL: nothing */
};

/*
 * items    malloc'ed array of item_count structs (NULL with 0): ours from now on, on failure too
 * type     static
 * Returns  0, -ENOMEM, -EMFILE
 */
PH_MUST_CHECK int enumeration_create(const struct enumeration_type *type, void *items,
	uint32_t item_count, HPEERENUM *enumeration);

/* End all enumerations of a scope: for the last PeerGroupShutdown. */
void enumeration_end_all(enum enumeration_scope scope);

#endif
