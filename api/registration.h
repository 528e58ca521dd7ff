/*
 * Event registrations: one HPEEREVENT, its filter, its bounded queue and the client's event object.
 *
 * A registration belongs to a group handle and hangs on that handle's node. Events are queued by the
 * engine's shard threads and by client calls, always under the node's lock (shared or exclusive),
 * and taken by any client thread. Each registration has its own copy of every event.
 *
 * What always holds
 * - Nothing is lost to a bound. CONNECTED and the one last event of a connection, and the member
 *   events that go with them, have their room in a reservation, made before the connection may
 *   open; STATUS, PROPERTY and CONNECTION_FAILED have one place each in the registration and are
 *   merged while unread; INCOMING_DATA is admitted under a cap, and refused data stays in the socket.
 * - The event object is set at every queued event, and never after registration_end.
 * - Order in a queue is the order of the calls here, and those for one connection come one at a time.
 */
#ifndef PEERHUB_API_REGISTRATION_H
#define PEERHUB_API_REGISTRATION_H

#include "p2p.h"
#include "peerhub.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unread INCOMING_DATA of one registration. At either bound reading from the sockets pauses; a
 * message over the byte cap is taken when nothing else is unread, so that it can arrive at all. */
#define EVENT_DATA_BYTES_MAX (16u << 20)
#define EVENT_DATA_COUNT_MAX 4096u
/* Entries of one PeerGroupRegisterEvent: nine types, and room for many data filters. */
#define EVENT_ENTRIES_MAX 1024u
/* Connections that have ended and whose events are unread. Beyond, Open is E_OUTOFMEMORY and peers are
 * refused as busy: a client that never reads must not be filled by peers that come and go. */
#define EVENT_ENDED_MAX 65536u
/* Registrations of one node: each costs room for every connection. */
#define EVENT_REGISTRATIONS_MAX 1024u

struct event_object;
struct member;
struct node;
struct connection;

enum event_item_kind {
	ITEM_STATUS,
	ITEM_PROPERTY,
	ITEM_FAILED,
	ITEM_CONNECTED,
	ITEM_LAST, /* DISCONNECTED, or CONNECTION_FAILED of one connection */
	ITEM_MEMBER,
	ITEM_DATA,
};

/* One queued event. It lives in a registration, in a reservation, or behind the data of its block. */
struct event_item {
	struct event_item *next;
	enum event_item_kind kind;
	bool is_queued;
	PEER_GROUP_EVENT_DATA *block; /* CONNECTED, LAST, DATA: ready; others: made when taken */
	struct reservation *reservation; /* CONNECTED, LAST, MEMBER */
	PEER_MEMBER_CHANGE_TYPE change; /* MEMBER */
	struct member *member; /* MEMBER: counted while queued */
	size_t bytes; /* DATA: what it counts against the cap */
};

struct registration {
	atomic_uint references;
	struct event_object *object; /* counted */
	uint32_t types; /* bit per PEER_GROUP_EVENT_TYPE */
	bool takes_all_data; /* an INCOMING_DATA entry without a filter */
	uint32_t filter_count;
	GUID *filters; /* INCOMING_DATA entries with one */

	/* Constant once it is registered. */
	struct node *node; /* counted */
	const void *owner; /* the group handle's object: a registration dies with it */
	HPEEREVENT handle;

	/* The node's lock guards these. */
	struct registration *next; /* of the node */
	struct reservation *reservations; /* of connections that have not ended */

	pthread_mutex_t lock; /* guards the rest; inside the node's lock */
	bool is_ended;
	bool is_starved; /* data was refused: whoever makes room resumes the node's readers */
	struct event_item *head, **tail;
	struct event_item status, property, failed;
	DWORD status_flags;
	HRESULT failed_reason;
	size_t data_bytes;
	uint32_t data_count;
	uint32_t ended_count; /* reservations of ended connections with something unread */
};

/* The room of one connection in one registration. */
struct reservation {
	struct registration *registration;
	struct connection *connection; /* NULL: it has ended, what is queued remains */
	struct reservation *connection_next; /* node's lock */
	struct reservation *registration_next, **registration_link; /* node's lock */
	uint32_t queued; /* items in the queue; the registration's lock */
	bool is_released; /* by the connection; the registration's lock */
	struct event_item connected, last, member_up, member_down;
};

/*
 * Make a registration from the client's entries, which are copied with their GUIDs. On success the
 * caller's reference of `object` is the registration's. E_INVALIDARG (no entries, NULL, too many, unknown type),
 * E_OUTOFMEMORY.
 */
HRESULT registration_create(struct node *node, struct event_object *object, DWORD count,
	const PEER_GROUP_EVENT_REGISTRATION *entries, struct registration **registration);
void registration_get(struct registration *registration);
void registration_put(struct registration *registration);

static inline bool registration_wants(
	const struct registration *registration, PEER_GROUP_EVENT_TYPE type)
{
	return (registration->types & (1u << type)) != 0;
}
/* A registration for connection events: what lets data in, and lets direct connections in. */
#define EVENT_CONNECTION_TYPES \
	((1u << PEER_GROUP_EVENT_DIRECT_CONNECTION) | (1u << PEER_GROUP_EVENT_NEIGHBOR_CONNECTION))
bool registration_wants_data(const struct registration *registration, const GUID *type);

/* Discard the queue and refuse everything from now on. The node's lock is held exclusively, and the
 * registration is no longer reachable from the node. Idempotent. */
void registration_end(struct registration *registration);

bool registration_is_ended(struct registration *registration);
/* Make its HPEEREVENT stale. No lock is held. */
void registration_handle_end(struct registration *registration);

/* ---- room for a connection; the node's lock is held exclusively -------------------------- */

/* Room in one registration for one connection of this kind. false: no memory. */
bool reservation_create(struct registration *registration, struct connection *connection,
	enum ph_kind kind, struct reservation **reservation);
/* The connection has ended, or never came to be: give back what is not queued. */
void reservation_release(struct reservation *reservation);

void event_connected(struct reservation *reservation, uint64_t id, uint64_t node_id);
/* The one last event: status PEER_DISCONNECTED or PEER_CONNECTION_FAILED with its reason. */
void event_last(struct reservation *reservation, PEER_CONNECTION_STATUS status, uint64_t id,
	uint64_t node_id, HRESULT reason);
/* PEER_MEMBER_CONNECTED or _DISCONNECTED; merged with an unread event about the same member. */
void event_member(
	struct reservation *reservation, PEER_MEMBER_CHANGE_TYPE change, struct member *member);

/* ---- events of the node; the node's lock is held ---------------------------------------- */

void event_status(struct registration *registration, DWORD flags);
void event_property(struct registration *registration);
void event_connection_failed(struct registration *registration, HRESULT reason);

/* ---- data: admitted in every matching registration, then queued in all of them ----------- */

/* Room and a filled block for one message, or NULL: over the cap or no memory. The registration is
 * then starved, and registration_take says so once there is room. */
struct event_item *event_data_create(struct registration *registration, uint64_t id,
	const GUID *type, const void *data, size_t bytes);
/* Give back one that is not queued. */
void event_data_cancel(struct registration *registration, struct event_item *item);
void event_data_queue(struct registration *registration, struct event_item *item);

/*
 * Take the oldest event. resume: data was refused before and there is room now.
 * S_OK, PEER_S_NO_EVENT_DATA, E_INVALIDARG (ended), E_OUTOFMEMORY (it stays the oldest).
 */
HRESULT registration_take(
	struct registration *registration, PEER_GROUP_EVENT_DATA **event, bool *resume);

#endif
