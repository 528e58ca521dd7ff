/*
 * relay.h: the messages that a hub passes on between the members of one group.
 *
 * Pure functions over bytes: no connection, no memory of their own. A relay message travels as
 * the payload of one PT2PT message of type relay_guid (docs/relay.md):
 *
 *   u8 kind | u16 name bytes | name, UTF-8 | 16-byte inner type | u64 tag | payload
 *
 * all numbers big-endian. The name is the destination in SEND, the source (stamped by the hub) in
 * DELIVER, the destination that did not take the message in STATUS, and empty in BROADCAST.
 */
#ifndef PEERHUB_HUB_RELAY_H
#define PEERHUB_HUB_RELAY_H

#include <stddef.h>
#include <stdint.h>

/* {8C0E5D7A-3B64-4F19-A2C7-51D90E6B84F3} in big-endian field order. */
#define RELAY_TYPE_BYTES                                                                      \
	{                                                                                     \
		0x8c, 0x0e, 0x5d, 0x7a, 0x3b, 0x64, 0x4f, 0x19, 0xa2, 0xc7, 0x51, 0xd9, 0x0e, \
			0x6b, 0x84, 0xf3                                                      \
	}

#define RELAY_NAME_BYTES_MAX 599u /* PH_NAME_BYTES_MAX without its NUL: the longest peer name */
#define RELAY_FIXED_BYTES 27u /* kind, name bytes, inner type, tag */
#define RELAY_HEADER_BYTES_MAX (RELAY_FIXED_BYTES + RELAY_NAME_BYTES_MAX)
#define RELAY_MESSAGE_BYTES_MAX (64u << 20) /* the limit of one PT2PT payload */
#define RELAY_PAYLOAD_BYTES_MAX (RELAY_MESSAGE_BYTES_MAX - RELAY_HEADER_BYTES_MAX)

enum relay_kind {
	RELAY_SEND = 1, /* member to hub: pass this on to `name` */
	RELAY_DELIVER = 2, /* hub to member: `name` sent you this */
	RELAY_STATUS = 3, /* hub to member: your message with this tag did not reach `name` */
	RELAY_BROADCAST = 4, /* member to hub: pass this on to everybody else here */
};

/* The payload of a STATUS is one of these as u32. A receiver takes an unknown one as a failure. */
enum relay_code {
	RELAY_ABSENT = 1, /* no such member is connected to this hub in this group */
	RELAY_SLOW = 2, /* its queue is full: try again later */
	RELAY_TOO_LARGE = 3, /* cannot be delivered: over the message limit with its header */
};

struct relay_message {
	uint8_t kind; /* enum relay_kind */
	const char *name; /* borrowed, name_bytes long, no NUL */
	size_t name_bytes;
	uint8_t type[16]; /* inner type, big-endian field order */
	uint64_t tag; /* the sender's own; comes back in STATUS */
	const uint8_t *payload; /* borrowed */
	size_t payload_bytes;
};

/* What relay_encode will write for this message. */
size_t relay_bytes(const struct relay_message *message);

/*
 * Write a message into out[out_bytes].
 * Returns 0 and *written, or -EINVAL (unknown kind, a name that this kind may not have, not UTF-8
 * or with a NUL; a STATUS payload that is not 4 bytes), -EMSGSIZE (payload over
 * RELAY_PAYLOAD_BYTES_MAX), -ENOBUFS (out is too small).
 */
int relay_encode(
	const struct relay_message *message, uint8_t *out, size_t out_bytes, size_t *written);

/*
 * Read a message from data[bytes]; name and payload point into data.
 * Returns 0 or -EBADMSG; `why` (may be NULL) then names the field, static text.
 */
int relay_decode(
	const uint8_t *data, size_t bytes, struct relay_message *message, const char **why);

/* Fill a STATUS payload; read one that relay_decode accepted. */
void relay_code_put(enum relay_code code, uint8_t payload[4]);
uint32_t relay_code_get(const struct relay_message *message);
/* Static text, "unknown code" outside the list. */
const char *relay_code_name(uint32_t code);

#endif
