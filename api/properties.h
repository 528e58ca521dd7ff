/*
 * Group properties on paper: packed into bytes and signed by the group's own key, so that whoever
 * has the group's root certificate can tell that the creator wrote them, whichever member passed
 * them on. Struct, defaults and rules are in api/credential.h. Pure functions, any thread.
 *
 *   "PHGP" 0x01 | u64 sequence | u32 flags, member data lifetime, presence lifetime, schemes |
 *   16-byte role GUID | group, creator, cloud, classifier, friendly name, comment: u16 length and
 *   UTF-8 each | signature over all before it, to the end.        Integers are big-endian.
 */
#ifndef PEERHUB_API_PROPERTIES_H
#define PEERHUB_API_PROPERTIES_H

#include "api/credential.h"

#define PROPERTIES_BYTES_MAX 8192u

/* In detail: which one is out of range. Texts, lifetimes, flags, schemes; not group and creator.
 * S_OK, PEER_E_INVALID_CLASSIFIER, PEER_E_INVALID_GROUP_PROPERTIES. */
HRESULT properties_check(const struct group_properties *properties);

/* 0, -EINVAL (a text too long), -ENOMEM. */
int properties_pack(
	const struct group_properties *properties, EVP_PKEY *group_key, struct store_bytes *packed);
/* root: the group's certificate. 0, -EINVAL (malformed or not signed by it), -ENOMEM. */
int properties_unpack(const uint8_t *packed, size_t packed_bytes, X509 *root,
	struct group_properties *properties);

#endif
