/*
 * Memberships: what api/membership.c and api/issue.c share. Their public side is api/credential.h.
 */
#ifndef PEERHUB_API_MEMBERSHIP_H
#define PEERHUB_API_MEMBERSHIP_H

#include "api/credential.h"

/* The stored chain as objects (leaf first, the caller runs pkcs7_free on success and failure),
 * judged but for its dates. PEER_E_CERT_STORE_CORRUPTED, E_OUTOFMEMORY. */
HRESULT membership_chain(const struct store_membership *stored, X509 *chain[PH_CHAIN_MAX],
	uint32_t *count, struct trust_result *trust);

/* PEER_E_INVALID_GROUP, and detail: it was deleted elsewhere. */
HRESULT membership_gone(const char *group);

#endif
