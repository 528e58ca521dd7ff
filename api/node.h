/*
 * Nodes: one per (group, identity) of this process, shared by all HGROUP handles for it.
 *
 *   OFFLINE --node_connect--> CONNECTING --WELCOME--> ONLINE
 *      |                          |                     |
 *      +--creator or synchronised-|---------------------+
 *      +--------------------------+---------------------+--> ENDED
 *
 *   OFFLINE     no listening, no connection; status 0
 *   CONNECTING  neighbor dials are under way (connect_pending > 0), status may still be 0
 *   ONLINE      a status flag is set
 *   ENDED       the last handle was closed, or the group deleted, or Grouping shut down: the engine
 *               has been told the end of the tag, there are no registrations; only connections that
 *               still end hold the node. A group that is opened again is a new node with a new tag.
 *
 * The engine's shard threads and client threads meet here. `lock` guards what is marked so; shared
 * for data and reading, exclusive for connections that come and go. No client code runs under it and
 * no blocking call is made under it. Order: node table, node, registration; the table of connections
 * (connection.c) comes after the node.
 */
#ifndef PEERHUB_API_NODE_H
#define PEERHUB_API_NODE_H

#include "api/credential.h"
#include "api/member.h"
#include "api/registration.h"
#include "api/runtime.h"

#define NODE_MEMBER_BUCKETS 1024u /* short chains up to some ten thousand peers; 8 KiB */
/* Addresses of one PeerGroupConnectByAddress, each a dial of its own. */
#define NODE_DIALS_MAX 1024u

struct node {
	atomic_uint references;
	struct node *next; /* bucket of the node table; the table's lock */

	/* Constant from node_open on. */
	uint64_t tag; /* of its connections in the engine; never used again */
	struct membership *membership;
	struct ph_credentials *credentials;
	struct peer_credential *credential; /* our own, as members see it */
	char identity_authority[PEER_AUTHORITY_BYTES];
	char group_authority[PEER_AUTHORITY_BYTES];

	/* Written under `lock` held exclusively, read anywhere. */
	atomic_uint status; /* PEER_GROUP_STATUS flags as last reported */
	atomic_bool is_listening; /* accepts */
	atomic_bool is_synchronised; /* was connected to a member once; a creator always is */
	atomic_bool is_ended;

	pthread_rwlock_t lock; /* guards the rest */
	uint32_t handle_count; /* the table's lock */
	struct endpoint *endpoint;
	struct registration *registrations;
	uint32_t registration_count;
	uint32_t connection_registration_count; /* with a connection event: these let data in */
	uint32_t direct_registration_count; /* with DIRECT_CONNECTION: these let peers in */
	struct connection *connections; /* opening and open */
	uint32_t neighbor_count; /* open ones */
	struct member *members[NODE_MEMBER_BUCKETS]; /* connected, or with an unread event */
	uint32_t connect_pending; /* dials under way, and one for a node_connect at work */
	uint32_t connect_dialled;
	bool connect_reports; /* CONNECTION_FAILED when all of them fail */
	bool connect_has_succeeded;
	uint32_t address_count; /* to try next time, the last successful first */
	ph_address addresses[STORE_ADDRESSES_MAX];

	struct node *persist_next; /* persist.c's lock */
	bool is_persisting; /* persist.c's lock */
};

/* ---- the table --------------------------------------------------------------------------- */

/* The node of a membership, loaded when it is not there, with one handle more.
 * Errors of membership_load; PEER_E_NOT_INITIALIZED. */
HRESULT node_open(const char *identity, const char *group, struct node **node);
/* One handle less. The last one ends the node gracefully. */
void node_close(struct node *node);
/* The present node, counted, or NULL. */
struct node *node_find(const char *identity, const char *group);
/* A node that accepts connections for these authorities (identity "": any identity, a creator
 * first), counted, or NULL. */
struct node *node_find_listening(const char *identity_authority, const char *group_authority);
/* All nodes of a group, under the table's lock: `visit` may take the node's, and must not block. */
void node_each(const char *group_authority, void (*visit)(struct node *node, void *context),
	void *context);
/* End it now, whoever holds handles: connections are closed with the reason. */
void node_end(struct node *node, enum ph_how how, uint32_t reason);
/* The same for all nodes of the process. */
void node_end_all(enum ph_how how, uint32_t reason);

void node_get(struct node *node);
void node_put(struct node *node);

/* ---- going online ------------------------------------------------------------------------ */

/*
 * PeerGroupConnect and, with addresses, PeerGroupConnectByAddress.
 * S_OK, PEER_S_ALREADY_CONNECTED, PEER_E_INVALID_GROUP, errors of runtime_listen but
 * PEER_E_UNABLE_TO_LISTEN, which is an event.
 */
HRESULT node_connect(struct node *node, const ph_address *addresses, uint32_t count);

/* Where this node listens; 0 when it does not. */
uint32_t node_addresses(struct node *node, ph_address addresses[PH_ADDRESSES_MAX]);
/* Is it one of the addresses this node listens on? */
bool node_is_at(struct node *node, const ph_address *address);

/* ---- with the lock held exclusively ------------------------------------------------------ */

/* Work out the status flags; a change is an event. */
void node_status_update(struct node *node);
/* A neighbor connection is up: HAS_CONNECTIONS, synchronised; dialled: the address that worked. */
void node_on_neighbor(struct node *node, const ph_address *dialled);
/* One dial of node_connect has ended. */
void node_on_dial_end(struct node *node, bool has_succeeded);
/* The member with this name: the one there is, else `fresh` itself, which the node then keeps. */
struct member *node_member(struct node *node, struct member *fresh);
/* NULL: not known. */
struct member *node_member_find(struct node *node, const char *identity);
/* A member has no open connection any more: it leaves the table, now or once its events are read. */
void node_member_leave(struct node *node, struct member *member);

/* ---- registrations ----------------------------------------------------------------------- */

/* S_OK, PEER_E_INVALID_GROUP (ended), E_OUTOFMEMORY (no room for the connections there are),
 * E_INVALIDARG (the registration has ended meanwhile). */
HRESULT node_register(struct node *node, struct registration *registration);
/* After return nothing is queued or signalled by it any more. Idempotent. */
void node_unregister(struct registration *registration);
/* All of one owner (a group handle). */
void node_unregister_owner(struct node *node, const void *owner);
/* The creator changed the properties: PROPERTY_CHANGED at every node of this group here. */
void node_on_properties(const char *group);
/* Go on reading from connections whose data was refused. */
void node_resume(struct node *node);

#endif
