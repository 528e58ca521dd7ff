/*
 * route.h: the way from here to one peer: straight over a direct connection, or through a hub.
 */
#ifndef PEERHUB_HUB_ROUTE_H
#define PEERHUB_HUB_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "node.h"
#include "relay.h"
#include "transfer.h"

struct route {
	struct node *node; /* borrowed */
	uint64_t connection; /* to the peer, or to the hub */
	const char *name; /* NULL: straight. Else the peer behind the hub; borrowed */
};

extern const uint8_t relay_type[16];

/* The same peer by the same way. */
bool route_is(const struct route *left, const struct route *right);
/* "direct" or "hub". */
const char *route_word(const struct route *route);

/* Send a message of a transfer. The tag of the relay message is message->id.
 * 0, -EAGAIN, -ENOENT or -EIO as node_send. */
int route_send(const struct route *route, const struct transfer_message *message);
/* A note to everybody behind this hub connection; route->name is not used. */
int route_broadcast(const struct route *route, const struct transfer_message *message);
/*
 * Nobody can have this name (authority 0 is "unsecured"), so a note sent there comes back as a status.
 * As a hub handles what one member sends in order, it has then handled everything before it.
 */
#define ROUTE_NOBODY "0.nobody"

#endif
