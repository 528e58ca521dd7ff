/*
 * node.h: one group as one identity: its handle, its events, its connections.
 *
 * A thin cover over p2p.h with UTF-8 and errno inside: what the hub and the peer have in common.
 * Errors that a person should know are said on stderr here, with the name of the thing. One thread.
 */
#ifndef PEERHUB_HUB_NODE_H
#define PEERHUB_HUB_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "members.h"
#include "p2p.h"

/* Why the program closes a connection: numbers of the application error range of peerhub.h. */
#define NODE_REASON_RELAY 2101u /* a relay message that is wrong, or where none may be */
#define NODE_REASON_TRANSFER 2102u /* a transfer message that is wrong */
#define NODE_REASON_STATUSES 2103u /* statuses pile up unread */

struct node {
	HGROUP group;
	HANDLE event;
	HPEEREVENT registration;
	int event_fd; /* readable while an event waits */
	char *identity, *name; /* whose node; the group's peer name */
	struct ph_hub *hub; /* the native side, for closing with a reason */
	uint64_t tag;
	struct members members;
	uint64_t unread_types; /* messages of types that are not ours: ignored, said once */
};

/* Open a group of the store, or join it with the text of an invitation; register for its events.
 * 0, or -EIO (said). node_end also after a failure. */
int node_open(struct node *node, const char *identity, const char *group);
int node_join(struct node *node, const char *identity, const char *invitation, const char *path);
/* Unregister and close the group: what was accepted for sending still goes out. */
void node_end(struct node *node);

/* Forget the signal, then take events until 0. 1 and *event (for PeerFreeData), 0, or -EIO. */
void node_events_begin(struct node *node);
int node_event(struct node *node, PPEER_GROUP_EVENT_DATA *event);
/* Keep node->members in step; the caller may look at the event too. */
void node_on_connection(struct node *node, const PEER_EVENT_CONNECTION_CHANGE_DATA *change);

/*
 * Send one message; type in big-endian field order.
 * 0, -EAGAIN (queue full: try again later), -ENOENT (connection gone), -EMSGSIZE, -EIO (said).
 */
int node_send(struct node *node, uint64_t connection, const uint8_t type[16], const uint8_t *data,
	size_t bytes);
/* Close because of what the peer did ("relay", "unknown kind"), telling both sides. Said on stderr. */
void node_close_bad(struct node *node, uint64_t connection, uint32_t reason, const char *noun,
	const char *fault);

/* PEER_GROUP_STATUS flags, 0 when they cannot be had. */
DWORD node_status(struct node *node);
/* Where this node listens: up to count_max "host:port" texts, each for free(). */
size_t node_addresses(struct node *node, char **addresses, size_t count_max);
/* One "address A" line each but the first; then "ready A identity I group G". 0 or -EIO. */
int node_say_ready(struct node *node);
/* The identity of the neighbor at this address, or (not `exactly`) of the only neighbor; for free(); NULL: none. */
char *node_neighbor(struct node *node, const PEER_ADDRESS *address, bool exactly);

void node_type_from_guid(const GUID *guid, uint8_t type[16]);

#endif
