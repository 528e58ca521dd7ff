/*
 * Resumption secrets of a hub (message RESUME): those it has given to peers that dialled it (issued), and those
 * that it was given where it dialled (kept). They never mix: what a hub has issued it uses as a server only, what
 * it keeps as a client only, so nobody can send a hub its own words back (RFC 9257 section 5.1, reflection).
 *
 * Each is good for one use: whoever takes it has it alone. It is bound to who got it and from whom (group and
 * identity of both, role, the chain that proved it, our own credentials) and dies at the first of: a day, the
 * earliest expiry in the chain, the end of the group's tag, a revocation (resume_drop), the hub's end, and
 * newer ones where the table is full or its peer has RESUME_ISSUED_PER_PEER: who comes again and again costs
 * itself its oldest, and nobody else anything. All of it is memory; nothing is written anywhere.
 *
 * Any thread; one lock, held for a lookup in memory.
 */
#ifndef PEERHUB_ENGINE_RESUME_H
#define PEERHUB_ENGINE_RESUME_H

#include "engine/hash.h"
#include "peerhub.h"

#include <stdatomic.h>
#include <stdbool.h>

#define RESUME_ID_BYTES 32u
#define RESUME_SECRET_BYTES 32u
#define RESUME_DIGEST_BYTES 32u
#define RESUME_LIFETIME_MAX_S 86400u /* a day, as issue and kept alike */
#define RESUME_ISSUED_PER_PEER 4u /* to one (group, identity) by one identity of ours */
#define RESUME_CHAIN_BYTES_MAX \
	8192u /* DER of a chain that is worth remembering: some ten certificates */
#define RESUME_AUTHORITY_BYTES 20u /* of a certificate: the first 160 bits of SHA-256 of its key */
#define RESUME_SERIAL_BYTES_MAX 20u /* RFC 5280 section 4.1.2.2 */

/* A peer's chain as it was verified: immutable, counted, in one block. */
struct resume_link {
	uint8_t authority[RESUME_AUTHORITY_BYTES];
	uint8_t serial[RESUME_SERIAL_BYTES_MAX]; /* big-endian, without leading zeros */
	uint32_t serial_bytes;
};
struct resume_chain {
	atomic_uint count;
	uint32_t link_count;
	int64_t valid_to_s; /* the earliest, seconds since 1970 */
	struct ph_bytes der[PH_CHAIN_MAX];
	struct resume_link links[]; /* link_count, then the bytes of der */
};
/* From certificates as on_verify is given them. NULL: no memory, or not worth it (size, an odd field). */
struct resume_chain *resume_chain_create(const struct ph_chain *chain);
struct resume_chain *resume_chain_get(struct resume_chain *chain);
void resume_chain_put(struct resume_chain *chain); /* NULL allowed */
/* As on_verify is given it again: DER only, `resumed` set. Borrowed from chain. */
void resume_chain_show(const struct resume_chain *chain, struct ph_chain *shown);

/* What a secret is bound to beside its chain. */
struct resume_facts {
	const char *own_group, *own_identity; /* issued: as on_hello answered */
	uint8_t own_digest[RESUME_DIGEST_BYTES]; /* of our credentials' chain */
	const char *group, *identity; /* the peer, as verified */
	uint32_t role;
	uint64_t tag;
};

/* One secret with all that it is bound to; owned by whoever took or made it. */
struct resume_entry {
	struct resume_entry *next; /* in its bucket */
	struct resume_entry *next_peer; /* in its peer's, where issued */
	struct resume_entry *older, *newer; /* in its table */
	uint8_t name[RESUME_ID_BYTES]; /* found by: its id (issued), or where and who (kept) */
	uint8_t id[RESUME_ID_BYTES];
	uint8_t secret[RESUME_SECRET_BYTES];
	uint8_t own_digest[RESUME_DIGEST_BYTES];
	struct hash_key peer; /* digest of group and identity */
	uint64_t expires_ns; /* monotonic */
	uint64_t tag;
	uint32_t generation; /* of drops, when its peer was verified */
	uint32_t role;
	struct resume_chain *chain;
	const char *own_group, *own_identity, *group, *identity; /* in text */
	char text[];
};

enum resume_side {
	RESUME_ISSUED,
	RESUME_KEPT,
};

struct resume;

/* Room for so many secrets on each side. NULL: no memory. */
struct resume *resume_create(uint32_t entries_max);
void resume_destroy(struct resume *resume); /* NULL allowed; wipes all */

/* Grows with each resume_drop: asked when a chain is verified, compared when a secret is put in. */
uint32_t resume_generation(const struct resume *resume);

/* An entry without id, secret and expiry; takes its own reference to the chain. NULL: no memory. */
struct resume_entry *resume_entry_create(
	const struct resume_facts *facts, struct resume_chain *chain, uint32_t generation);
void resume_entry_destroy(struct resume_entry *entry); /* wipes; NULL allowed */

/* How long a secret for this chain may live from now: 0 for not at all. */
uint32_t resume_lifetime_s(const struct resume_chain *chain, int64_t now_real_s);

/* Put in under entry->name; the table owns it from here on. An older one of that name goes, the
 * oldest of its peer when that has its share, the oldest of all when there is no room, and the entry itself when chains were dropped since its generation. */
void resume_put(struct resume *resume, enum resume_side side, struct resume_entry *entry);
/* Take out: the caller's alone, NULL when there is none or it has expired. */
struct resume_entry *resume_take(struct resume *resume, enum resume_side side,
	const uint8_t name[RESUME_ID_BYTES], uint64_t now_ns, int64_t now_real_s);

/* Forget what a revocation, or the end of a group, takes back; returns how many. */
uint64_t resume_drop(struct resume *resume, const struct ph_resume_filter *filter);
uint64_t resume_drop_tag(struct resume *resume, uint64_t tag);
uint32_t resume_count(struct resume *resume, enum resume_side side);

#endif
