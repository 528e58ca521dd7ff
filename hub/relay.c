/*
 * relay.c: encode and decode relay messages. See relay.h.
 */
#include "relay.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "text.h"

static void u16_put(uint8_t *out, uint16_t value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
}

static void u64_put(uint8_t *out, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t u64_get(const uint8_t *data)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | data[i];
	return value;
}

/* The one list of what each kind must look like, for both directions. NULL when it is right. */
static const char *relay_fault(const struct relay_message *message)
{
	switch (message->kind) {
	case RELAY_SEND:
	case RELAY_DELIVER:
	case RELAY_STATUS:
		if (message->name_bytes == 0)
			return "name is empty";
		break;
	case RELAY_BROADCAST:
		if (message->name_bytes != 0)
			return "a broadcast has a name";
		break;
	default:
		return "unknown kind";
	}
	if (message->name_bytes > RELAY_NAME_BYTES_MAX)
		return "name is too long";
	if (!text_is_utf8(message->name, message->name_bytes))
		return "name is not UTF-8";
	if (message->name_bytes > 0 && memchr(message->name, 0, message->name_bytes) != NULL)
		return "name holds a NUL";
	if (message->kind == RELAY_STATUS && message->payload_bytes != 4)
		return "status is not 4 bytes";
	return NULL;
}

size_t relay_bytes(const struct relay_message *message)
{
	return RELAY_FIXED_BYTES + message->name_bytes + message->payload_bytes;
}

int relay_encode(
	const struct relay_message *message, uint8_t *out, size_t out_bytes, size_t *written)
{
	uint8_t *at = out;

	if (relay_fault(message) != NULL)
		return -EINVAL;
	if (message->payload_bytes > RELAY_PAYLOAD_BYTES_MAX)
		return -EMSGSIZE;
	if (relay_bytes(message) > out_bytes)
		return -ENOBUFS;
	*at++ = message->kind;
	u16_put(at, (uint16_t)message->name_bytes);
	at += 2;
	if (message->name_bytes > 0)
		memcpy(at, message->name, message->name_bytes);
	at += message->name_bytes;
	memcpy(at, message->type, 16);
	at += 16;
	u64_put(at, message->tag);
	at += 8;
	if (message->payload_bytes > 0)
		memcpy(at, message->payload, message->payload_bytes);
	at += message->payload_bytes;
	assert((size_t)(at - out) == relay_bytes(message));
	*written = (size_t)(at - out);
	return 0;
}

int relay_decode(const uint8_t *data, size_t bytes, struct relay_message *message, const char **why)
{
	const char *fault = NULL;
	size_t name_bytes;

	*message = (struct relay_message){0};
	if (bytes < RELAY_FIXED_BYTES) {
		fault = "shorter than its fixed fields";
		goto bad;
	}
	name_bytes = (size_t)data[1] << 8 | data[2];
	if (name_bytes > bytes - RELAY_FIXED_BYTES) {
		fault = "name runs over the end";
		goto bad;
	}
	message->kind = data[0];
	message->name = (const char *)data + 3;
	message->name_bytes = name_bytes;
	memcpy(message->type, data + 3 + name_bytes, 16);
	message->tag = u64_get(data + 19 + name_bytes);
	message->payload = data + RELAY_FIXED_BYTES + name_bytes;
	message->payload_bytes = bytes - RELAY_FIXED_BYTES - name_bytes;
	fault = relay_fault(message);
	if (fault == NULL)
		return 0;
bad:
	if (why != NULL)
		*why = fault;
	return -EBADMSG;
}

void relay_code_put(enum relay_code code, uint8_t payload[4])
{
	payload[0] = 0;
	payload[1] = 0;
	payload[2] = 0;
	payload[3] = (uint8_t)code;
}

uint32_t relay_code_get(const struct relay_message *message)
{
	const uint8_t *data = message->payload;

	assert(message->kind == RELAY_STATUS);
	assert(message->payload_bytes == 4);
	return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

const char *relay_code_name(uint32_t code)
{
	switch (code) {
	case RELAY_ABSENT:
		return "absent";
	case RELAY_SLOW:
		return "slow";
	case RELAY_TOO_LARGE:
		return "too large";
	default:
		return "unknown code";
	}
}
