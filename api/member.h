/*
 * Members: the peers that a node is connected with now, as PeerGroupEnumMembers shows them.
 *
 * A credential is what one verified chain said about a peer: immutable, counted, shared between the
 * connection that brought it, the member and running enumerations. A member is one identity: how many
 * open connections it has, where it listens, and its newest credential. A node's lock guards the
 * fields of its members; a member lives as long as a connection or an unread event needs it.
 */
#ifndef PEERHUB_API_MEMBER_H
#define PEERHUB_API_MEMBER_H

#include "api/block.h"
#include "api/key.h"
#include "api/peer_chain.h"
#include "api/trust.h"
#include "p2p.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct peer_credential {
	atomic_uint references;
	enum peer_role role;
	int64_t valid_from_s, valid_to_s;
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
	struct peer_chain *chain; /* counted */
	uint64_t revocation_epoch; /* when the chain was asked about: revocation.h */
	const char *identity; /* these point behind the struct */
	const char *friendly_name; /* the identity when the chain has none */
	const char *issuer;
	const char *issuer_friendly_name;
};

struct peer_credential *peer_credential_create(
	const struct trust_result *trust); /* NULL: no memory */
void peer_credential_get(struct peer_credential *credential);
void peer_credential_put(struct peer_credential *credential); /* NULL allowed */

struct member {
	atomic_uint references;
	atomic_uint unread; /* events about it that wait in some queue */
	struct member *next; /* bucket of the node */
	uint32_t open_count; /* connections open now */
	uint32_t neighbor_count; /* neighbor connections among them */
	uint64_t neighbor_node_id; /* of the newest of those */
	uint64_t node_id; /* as its newest connection said */
	uint32_t address_count; /* where it listens, by its own words */
	ph_address addresses[PH_ADDRESSES_MAX];
	struct peer_credential *credential; /* newest, counted */
	char identity[]; /* immutable */
};

struct member *member_create(const char *identity); /* NULL: no memory */
void member_get(struct member *member);
void member_put(struct member *member);

/* An event about it is queued or taken; it holds a reference. */
void member_unread_get(struct member *member);
void member_unread_put(struct member *member);
bool member_is_unread(const struct member *member);

/* One item of PeerGroupEnumMembers, with its own copy or reference of everything. */
struct member_item {
	struct peer_credential *credential;
	uint64_t node_id;
	uint32_t flags; /* PEER_MEMBER_FLAGS */
	uint32_t address_count;
	ph_address addresses[PH_ADDRESSES_MAX];
};
void *member_item_fill(struct block *block, const void *item); /* a PEER_MEMBER */
void member_item_fini(void *item);

/* PEER_ADDRESS of an address of the engine: the same bytes behind a size. */
void address_to_client(const ph_address *from, PEER_ADDRESS *to);
/* A31: size, family (10 or 23), port, not unspecified, not multicast. false: not usable. */
bool address_from_client(const PEER_ADDRESS *from, ph_address *to);

/* 100 ns since 1601 of seconds since 1970, and back (rounded down). */
FILETIME filetime_from_seconds(int64_t seconds);
int64_t filetime_to_seconds(FILETIME time);

#endif
