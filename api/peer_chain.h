/*
 * Chain records: what of verified chains has to be found again when somebody is revoked, shared by all
 * connections and members whose chain is the same, and counted. Immutable but for a memo. Any thread.
 */
#ifndef PEERHUB_API_PEER_CHAIN_H
#define PEERHUB_API_PEER_CHAIN_H

#include "api/revocation_list.h"
#include "api/trust.h"

#include <stdatomic.h>

struct peer_chain_link {
	uint8_t authority[REVOCATION_AUTHORITY_BYTES];
	uint8_t serial[CERTIFICATE_SERIAL_BYTES];
	int64_t valid_to_s;
	uint32_t role; /* enum peer_role */
};

struct peer_chain {
	struct peer_chain *next; /* bucket; the table's lock */
	uint32_t references; /* the table's lock */
	uint32_t bucket;
	/* The newest verdict of revocation.c: its epoch times two, and one more for "revoked". */
	atomic_uint_fast64_t verdict;
	uint32_t link_count;
	struct peer_chain_link links[]; /* leaf first, root last */
};

/* The record of this chain, counted. NULL: no memory. */
struct peer_chain *peer_chain_get(const struct trust_result *trust);
void peer_chain_put(struct peer_chain *chain); /* NULL allowed */
uint64_t peer_chain_count(void); /* how many there are: for tests */

#endif
