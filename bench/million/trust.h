/*
 * Certificates of a run: made before the processes are forked, so that each side knows what the
 * others will show. A leaf is trusted when it is, byte for byte, one of these.
 */
#ifndef PEERHUB_MILLION_TRUST_H
#define PEERHUB_MILLION_TRUST_H

#include "peerhub.h"

#define TRUST_PEERS 32u /* identities of peers; as many as a shard keeps parsed */
#define TRUST_AUTHORITY_BYTES 41u /* 40 digits and NUL */

struct trust_identity {
	struct ph_credentials *credentials;
	uint8_t *der;
	size_t der_bytes;
	char authority[TRUST_AUTHORITY_BYTES]; /* of its peer names, which add ".classifier" */
};

struct trust {
	struct trust_identity hub;
	struct trust_identity peers[TRUST_PEERS];
};

int trust_create(struct trust **trust); /* 0, -ENOMEM (or the crypto library refused) */
void trust_destroy(struct trust *trust); /* NULL allowed */

/* Whose leaf this is, NULL: a stranger's. Any thread. */
const struct trust_identity *trust_find(const struct trust *trust, const struct ph_chain *chain);

#endif
