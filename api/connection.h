/*
 * Connections: what the p2p layer knows of one connection of the engine, from its first call to the
 * engine's on_closed. The engine decides everything (open, send, close are its own); this record holds
 * what events and enumerations need, and the room that was reserved for its events.
 *
 *   NEW --> OPENING --> OPEN --> ENDED        NEW -> ENDED, OPENING -> ENDED
 *
 *   NEW      exists for one thread (dialling), or a peer's chain was verified; no reservations
 *   OPENING  listed at the node with room for its events
 *   OPEN     CONNECTED is queued
 *   ENDED    the last event is queued, the node does not list it
 */
#ifndef PEERHUB_API_CONNECTION_H
#define PEERHUB_API_CONNECTION_H

#include "api/node.h"

enum connection_state {
	CONNECTION_NEW,
	CONNECTION_OPENING,
	CONNECTION_OPEN,
	CONNECTION_ENDED,
};

struct connection {
	atomic_uint references; /* the engine's (until on_closed), and a dialling thread's */
	struct node *node; /* counted */
	enum ph_kind kind;
	bool is_accepted;
	bool is_attempt; /* a dial of node_connect */
	atomic_bool
		is_closing; /* closed by the client: not listed, though the engine still flushes */
	atomic_bool is_paused; /* data was refused: to be resumed */
	atomic_bool has_id; /* `id` can be read by anyone */
	atomic_uint revocation_wants; /* lists that were asked for and did not come yet */
	atomic_uint revocation_answers; /* how many the peer may still ask for */
	atomic_bool revocation_owed; /* the peer was not told: its queue was full */

	/* The node's lock. */
	enum connection_state state;
	struct connection *next, **link; /* of the node */
	struct reservation *reservations;
	struct member *member; /* counted, while open */
	struct peer_credential *credential; /* the peer's; counted */
	uint64_t node_id; /* the peer's; 0 until known */
	ph_address address; /* what the enumeration shows */

	/* The lock of the bucket of `id`, but for the thread that dials and its callbacks. */
	uint64_t id;
	ULONGLONG *id_out; /* the client's variable, until it is written */
	bool is_listed; /* in the table */
	bool has_ended; /* on_closed ran: never list it again */
	struct connection *bucket_next;
};

struct connection_request {
	enum ph_kind kind;
	const char *expected; /* NULL: any */
	ph_address address;
	bool is_attempt; /* counts in node_connect */
	ULONGLONG *id; /* may be NULL; written before any event for it can be taken */
};
/* Dial. S_OK, E_OUTOFMEMORY, PEER_E_INVALID_GROUP, PEER_E_GROUP_NOT_READY (direct, node offline),
 * PEER_E_NOT_INITIALIZED. */
HRESULT connection_open(struct node *node, const struct connection_request *request);

/* PeerGroupCloseDirectConnection of this node's connection. Takes no memory. */
HRESULT connection_close(struct node *node, uint64_t id);

/* One item of PeerGroupEnumConnections. */
struct connection_item {
	uint32_t flags; /* PEER_CONNECTION_FLAGS */
	uint64_t id;
	uint64_t node_id;
	ph_address address;
	struct peer_credential *credential; /* counted */
};
/* Snapshot of the open connections of these kinds; *items is malloc'ed. S_OK, E_OUTOFMEMORY. */
HRESULT connection_snapshot(
	struct node *node, uint32_t flags, struct connection_item **items, uint32_t *count);
void *connection_item_fill(struct block *block, const void *item); /* a PEER_CONNECTION_INFO */
void connection_item_fini(void *item);

/* ---- for the callbacks (callback.c) ------------------------------------------------------- */

/* What the hub is started with. */
extern const struct ph_callbacks connection_callbacks;

/* NEW; NULL: no memory. */
struct connection *connection_create(struct node *node, uint32_t references);
void connection_put(struct connection *connection);
/* Write the client's variable, once, before anything about this id can be seen; and keep the table
 * right. After the end it is never listed. */
void connection_publish(struct connection *connection, bool has_ended);
/* NEW -> OPENING: room for its events in every registration there is; the node's lock is held
 * exclusively. false: no memory. */
bool connection_enter(struct connection *connection);
/* any -> ENDED; the node's lock is held exclusively. */
void connection_leave(struct connection *connection);

/* What the chain of a peer that we dial proved, from on_verify to on_open or on_closed. It waits here
 * because on_verify may run before the thread that dials knows the id. */
struct proof {
	struct proof *next;
	uint64_t id;
	struct peer_credential *credential;
	struct member *member; /* fresh: used when the node does not know this peer yet */
};
void proof_put(struct proof *proof);
/* Move what was proved of this id to its record; nothing when on_verify was never reached. */
void proof_take(struct connection *connection);

#endif
