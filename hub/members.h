/*
 * members.h: which verified identity is behind each direct connection of a node, both ways.
 *
 * Fed by the CONNECTED and DISCONNECTED events. These carry no identity, so it is looked up in
 * PeerGroupEnumConnections, lazily: one enumeration fills in every connection that came since the
 * last one, and a node to which thousands connect does not enumerate thousands of times.
 * One thread.
 */
#ifndef PEERHUB_HUB_MEMBERS_H
#define PEERHUB_HUB_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "p2p.h"

struct member {
	uint64_t connection;
	uint64_t sequence; /* grows with each connection: the newest wins */
	char *identity; /* UTF-8, as verified; NULL until looked up */
	bool looked_up; /* an enumeration after CONNECTED has been read */
	void *user; /* the owner's; freed with free() when the connection goes */
	struct member *next_by_connection, *next_by_identity; /* hash chains */
};

struct members {
	HGROUP group; /* borrowed */
	struct member **by_connection, **by_identity;
	size_t bucket_count; /* power of two; 0 before the first one */
	size_t count;
	size_t unknown_count; /* connections that no enumeration has covered yet */
	uint64_t sequence;
	uint64_t seed; /* of the hash: names come from outside */
};

int members_init(struct members *members, HGROUP group); /* 0 or a negative errno */
void members_fini(struct members *members);

/* CONNECTED and DISCONNECTED. Adding needs memory: 0 or -ENOMEM. */
int members_add(struct members *members, uint64_t connection);
void members_remove(struct members *members, uint64_t connection);

/* The member behind a connection; NULL: not a direct connection of ours, or already gone.
 * Its identity is known. */
struct member *members_at(struct members *members, uint64_t connection);
/* The newest connection of an identity; NULL: none. */
struct member *members_named(struct members *members, const char *name, size_t name_bytes);

/* Visit every connection that is known by name, or only the newest one of every identity. The
 * visitor must not add or remove any. */
void members_each(struct members *members, bool newest_only,
	void (*visit)(struct member *member, void *context), void *context);

#endif
