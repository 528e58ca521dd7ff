/*
 * Revocation: who is no longer believed, in memory, on disk and among members. docs/revocation.md is the model.
 *
 * For each group there are lists, at most one a signer, each whole and signed (revocation_list.h); what counts is
 * all of them together, but an administrator's only while the group's own list does not revoke him or anybody
 * above him. A list of our own is on disk before it counts; a list with a lower sequence never replaces one with a higher.
 *
 * No connection of a revoked chain survives, whenever its handshake was under way:
 *   (1) A change publishes first (epoch + 1, under the lock of the sets), and only then walks the nodes of the
 *       group, each under its lock, and closes what it finds whose chain is revoked.
 *   (2) on_verify remembers with the chain's record the epoch from before it asked (revocation_refuses).
 *   (3) on_open holds the node's lock exclusively while it makes the connection one that the walk finds, and
 *       asks the epoch inside, after that: another one than on_verify's, and the chain is judged again.
 * Walk and on_open of one node exclude each other. Is on_open first, the walk finds the connection. Is the walk
 * first, its change was published before it took the lock, so on_open sees the new epoch and judges itself.
 * There is no third case, and no time between. A connection that has not come to on_open is no member's yet:
 * nothing was delivered for it. (A connection that is opened by a resumption goes the same way.)
 *
 * Members tell each other with messages of a type of our own (revocation_type): HAVE says of which signers we
 * have what, on a new connection and after a change; WANT asks for a newer one; LIST brings it. Lists are
 * verified and stored on persist.c's thread, never on a shard.
 */
#ifndef PEERHUB_API_REVOCATION_H
#define PEERHUB_API_REVOCATION_H

#include "api/connection.h"
#include "api/revocation_list.h"

#define REVOCATION_SIGNERS_MAX \
	16u /* of one group: the group's own key and fifteen administrators */
#define REVOCATION_MESSAGE_BYTES_MAX (REVOCATION_BYTES_MAX + 1u)

#define REVOCATION_WORDS "the peer or who vouched for it is revoked" /* in receipts */

extern const uint8_t revocation_type[16]; /* of the messages between members */

/* Read the lists of a group from the store; done before a node of it exists.
 * S_OK, S_FALSE (there are more than places: some were left out), PEER_E_CERT_STORE_CORRUPTED (a list is not its signer's), the store's codes, E_OUTOFMEMORY. */
HRESULT revocation_load(const char *group);
/* The runtime stops: forget what is in memory. No node is left. */
void revocation_forget(void);

/* A list that came from `source` (a connection's id), on a thread that may wait for the disk; takes it over. It
 * counts even when the store fails: then it comes again with a connection after the next start. */
void revocation_receive(const char *group, struct revocation_list *list, uint64_t source);
/* Lists that came, are in force and are not on disk: the store failed. */
uint32_t revocation_unkept_count(void);

/* Ask before judging, and keep it with the connection. */
uint64_t revocation_epoch(void);
/* Is a link of this chain revoked in its group, now? why: a line for the receipt. */
bool revocation_refuses(const struct trust_result *trust, char why[PH_TEXT_BYTES_MAX]);
/* The same, asked again of an open connection's chain whose verdict may be old; the node's lock is held. */
bool revocation_reaches(const char *group_authority, struct peer_chain *chain);

/* ---- callbacks, on shards ---------------------------------------------------------------- */

/* A connection has opened: tell the peer what we have. */
void revocation_on_open(struct connection *connection);
void revocation_on_writable(struct connection *connection);
/* A message of revocation_type. */
void revocation_on_message(struct connection *connection, const uint8_t *data, size_t bytes);

#endif
