/*
 * route.c: see route.h. The two buffers are static: one thread sends, and a message is copied by the
 * library before its call returns.
 */
#include "route.h"

#include <errno.h>
#include <string.h>

#include "say.h"

const uint8_t relay_type[16] = RELAY_TYPE_BYTES;

bool route_is(const struct route *left, const struct route *right)
{
	if (left->node != right->node || left->connection != right->connection)
		return false;
	if (left->name == NULL || right->name == NULL)
		return left->name == right->name;
	return strcmp(left->name, right->name) == 0;
}

const char *route_word(const struct route *route)
{
	return route->name == NULL ? "direct" : "hub";
}

static int send_relayed(const struct route *route, enum relay_kind kind,
	const struct transfer_message *message, const uint8_t *payload, size_t bytes)
{
	static uint8_t outer[TRANSFER_BYTES_MAX + RELAY_HEADER_BYTES_MAX];
	struct relay_message relay = {.kind = (uint8_t)kind,
		.tag = message->id,
		.payload = payload,
		.payload_bytes = bytes};
	size_t written;

	if (kind == RELAY_SEND) {
		relay.name = route->name;
		relay.name_bytes = strlen(route->name);
	}
	transfer_type_of(message->kind, relay.type);
	if (relay_encode(&relay, outer, sizeof(outer), &written) != 0) {
		say_error("\"%s\" cannot be a peer name", route->name);
		return -EIO;
	}
	return node_send(route->node, route->connection, relay_type, outer, written);
}

static int send_message(
	const struct route *route, enum relay_kind kind, const struct transfer_message *message)
{
	static uint8_t inner[TRANSFER_BYTES_MAX];
	uint8_t type[16];
	size_t written;

	/* What we send is ours: only a text from outside could be wrong, and those are checked. */
	if (transfer_encode(message, inner, sizeof(inner), &written) != 0) {
		say_error("a transfer message cannot be encoded");
		return -EIO;
	}
	if (kind == RELAY_BROADCAST || route->name != NULL)
		return send_relayed(route, kind, message, inner, written);
	transfer_type_of(message->kind, type);
	return node_send(route->node, route->connection, type, inner, written);
}

int route_send(const struct route *route, const struct transfer_message *message)
{
	return send_message(route, RELAY_SEND, message);
}

int route_broadcast(const struct route *route, const struct transfer_message *message)
{
	return send_message(route, RELAY_BROADCAST, message);
}
