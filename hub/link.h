/*
 * link.h: a direct connection that we dial: to the hub, or to a member named with its address.
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

#include "node.h"
#include "p2p.h"

enum link_state {
	LINK_DOWN,
	LINK_OPENING,
	LINK_OPEN,
	LINK_DEAD,
};

struct link {
	enum link_state state;
	PEER_ADDRESS address;
	const char *address_text; /* of the command line; borrowed */
	char *identity; /* NULL: the hub's, learnt from the neighbor connection */
	ULONGLONG connection; /* 0: none */
	uint64_t retry_at_ms, retry_ms, give_up_ms;
	bool is_hub;
	bool keep; /* connect again for ever when it was open and is lost */
};

/* identity: NULL or copied. 0 or a negative errno (said). */
int link_init(struct link *link, const char *identity, const char *address_text);
void link_fini(struct link *link);

/* Open it when it is time; returns when to come back. */
uint64_t link_step(struct link *link, struct node *node, uint64_t now_ms);
/* An event of this connection. True: it was open and is not any more. */
bool link_on_change(
	struct link *link, const PEER_EVENT_CONNECTION_CHANGE_DATA *change, uint64_t now_ms);

#endif
