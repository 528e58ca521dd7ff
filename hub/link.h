/*
 * link.h: a direct connection that we dial: to the hub, or to a member named with its address. A hub may have
 * several places: after a failure or a loss the next one has its turn, and one that asked not to be dialled for
 * a while (asked.h) is left alone so long. All waits are drawn by lot (backoff.h).
 *
 *   DOWN --> OPENING --> OPEN        OPENING -> DOWN  [failed, tried again until give_up_ms]
 *    |          |         |          OPEN    -> DOWN  [lost, and `keep` says to connect again]
 *    +----------+---------+--> DEAD  any     -> DEAD  [given up, said on stderr]
 *
 * The owner runs link_step when the node is online and the time has come, and hands over the events
 * of its connection.
 */
#ifndef PEERHUB_HUB_LINK_H
#define PEERHUB_HUB_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "backoff.h"
#include "node.h"
#include "p2p.h"

#define LINK_PLACES_MAX 16u

enum link_state {
	LINK_DOWN,
	LINK_OPENING,
	LINK_OPEN,
	LINK_DEAD,
};

struct link_place {
	PEER_ADDRESS address;
	const char *address_text; /* of the command line; borrowed */
	char *identity; /* NULL: the hub's, learnt from the neighbor connection */
};

struct link {
	enum link_state state;
	struct link_place places[LINK_PLACES_MAX];
	size_t place_count, place; /* the one whose turn it is: the next three are its */
	PEER_ADDRESS address;
	const char *address_text, *identity; /* borrowed */
	ULONGLONG connection; /* 0: none */
	struct backoff backoff, online_backoff; /* of the link, and of going online by it */
	uint64_t retry_at_ms, give_up_ms;
	uint64_t neighbor_until_ms; /* 0: no neighbor connection is awaited for the identity */
	bool is_hub;
	bool keep; /* connect again for ever when it was open and is lost */
};

/* identity: NULL or copied. 0 or a negative errno (said). */
int link_init(struct link *link, const char *identity, const char *address_text);
void link_fini(struct link *link);
/* One more place; like link_init. -ENOSPC: there are LINK_PLACES_MAX (said). */
int link_add(struct link *link, const char *identity, const char *address_text);

/* Going online by this link's place failed: when to try again, with the place whose turn it is then. */
uint64_t link_online_failed(struct link *link, uint64_t now_ms);
/* A neighbor connection failed, while the node was online. */
void link_neighbor_failed(struct link *link, HRESULT reason, uint64_t now_ms);

/* Open it when it is time; returns when to come back. */
uint64_t link_step(struct link *link, struct node *node, uint64_t now_ms);
/* An event of this connection. True: it was open and is not any more. */
bool link_on_change(
	struct link *link, const PEER_EVENT_CONNECTION_CHANGE_DATA *change, uint64_t now_ms);

#endif
