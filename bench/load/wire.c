/* One framing for each kind of server; see wire.h. */
#include "bench/load/wire.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- bytes ----------------------------------------------------------------------------- */

static size_t put_be(uint8_t *out, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
	return bytes;
}

static uint64_t get_be(const uint8_t *data, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | data[i];
	return value;
}

static size_t put_text(uint8_t *out, const char *text)
{
	memcpy(out, text, strlen(text));
	return strlen(text);
}

/* ---- who is who ------------------------------------------------------------------------ */

bool wire_is_sender(const struct load_options *options, uint32_t index)
{
	return options->mode != MODE_RELAY || index % (options->fan + 1) == 0;
}

uint32_t wire_sender_of(const struct load_options *options, uint32_t index)
{
	return options->mode == MODE_RELAY ? index - index % (options->fan + 1) : index;
}

static uint32_t set_of(const struct load_options *options, uint32_t index)
{
	return options->mode == MODE_RELAY ? index / (options->fan + 1) : 0;
}

void wire_server_name(const struct load_options *options, uint32_t index, char name[64])
{
	if (options->mode == MODE_RELAY && options->framing == FRAMING_MESSAGE)
		snprintf(name, 64, "m%u.g%u.p2p", index, set_of(options, index));
	else
		snprintf(name, 64, "any.bench.p2p");
}

const char *wire_alpn(const struct load_options *options)
{
	return options->framing == FRAMING_MESSAGE ? "\x09peerhub/1" : NULL;
}

/* ---- the peer protocol ----------------------------------------------------------------- */

#define PH_HEADER_BYTES 8u
#define PH_PT2PT_BYTES 28u
#define PH_AUTH_INFO 1u
#define PH_CONNECT 2u
#define PH_WELCOME 3u
#define PH_PT2PT 13u

static const uint8_t load_type[16] = {0xb1, 0x0a, 0xd1, 0x0a, 0xd1, 0x0a, 0x4d, 0x0a, 0x8d, 0x0a,
	0xb1, 0x0a, 0xd1, 0x0a, 0xd1, 0x0a};
/* {8C0E5D7A-3B64-4F19-A2C7-51D90E6B84F3}: docs/relay.md. */
static const uint8_t relay_type[16] = {0x8c, 0x0e, 0x5d, 0x7a, 0x3b, 0x64, 0x4f, 0x19, 0xa2, 0xc7,
	0x51, 0xd9, 0x0e, 0x6b, 0x84, 0xf3};
/* {0CCBB0D2-BE41-4BD6-914B-058EC5DCCE64} */
static const uint8_t ping_type[16] = {0x0c, 0xcb, 0xb0, 0xd2, 0xbe, 0x41, 0x4b, 0xd6, 0x91, 0x4b,
	0x05, 0x8e, 0xc5, 0xdc, 0xce, 0x64};

static size_t message_header(uint8_t *out, uint32_t bytes, uint8_t type)
{
	put_be(out, bytes, 4);
	out[4] = 0x10;
	out[5] = type;
	put_be(out + 6, 0, 2);
	return PH_HEADER_BYTES;
}

static size_t message_auth_info(const struct load_options *options, uint32_t index, uint8_t *out)
{
	bool relay = options->mode == MODE_RELAY;
	char group[32], source[32];
	size_t graph_at = 16, source_at, bytes;

	snprintf(group, sizeof(group), relay ? "g%u" : "bench", set_of(options, index));
	if (relay)
		snprintf(source, sizeof(source), "m%u", index);
	else if (options->tls)
		snprintf(source, sizeof(source), "client"); /* the certificate's common name */
	else
		snprintf(source, sizeof(source), "load%u", index);
	source_at = graph_at + strlen(group) + 1;
	bytes = source_at + strlen(source) + 1;
	message_header(out, (uint32_t)bytes, PH_AUTH_INFO);
	out[8] = 2; /* a direct connection */
	out[9] = 0;
	put_be(out + 10, graph_at, 2);
	put_be(out + 12, source_at, 2);
	put_be(out + 14, bytes, 2); /* to anybody */
	memcpy(out + graph_at, group, strlen(group) + 1);
	memcpy(out + source_at, source, strlen(source) + 1);
	return bytes;
}

static size_t message_hello(const struct load_options *options, uint32_t index, uint8_t *out)
{
	size_t bytes = message_auth_info(options, index, out);
	uint8_t *connect = out + bytes;

	message_header(connect, 24, PH_CONNECT);
	connect[8] = 4; /* direct */
	connect[9] = 0;
	put_be(connect + 10, 24, 2); /* no addresses, no friendly name: both behind the end */
	put_be(connect + 12, 24, 2);
	put_be(connect + 14, 0, 2);
	put_be(connect + 16, (uint64_t)index + 1, 8);
	return bytes + 24;
}

static ssize_t message_hello_read(const uint8_t *data, size_t bytes)
{
	uint64_t size;

	if (bytes < PH_HEADER_BYTES)
		return 0;
	size = get_be(data, 4);
	if (data[5] != PH_WELCOME || size > WIRE_HELLO_MAX)
		return -1;
	return bytes < size ? 0 : (ssize_t)size;
}

static void message_frame(struct wire_frame *frame, uint32_t payload_bytes, const uint8_t *type)
{
	message_header(frame->head, PH_PT2PT_BYTES + payload_bytes, PH_PT2PT);
	put_be(frame->head + 8, PH_PT2PT_BYTES, 2);
	put_be(frame->head + 10, 0, 2);
	memcpy(frame->head + 12, type, 16);
	frame->head_bytes = PH_PT2PT_BYTES;
}

/* The envelope of docs/relay.md, behind the head of its PT2PT message. */
static void message_relay_frame(
	struct wire_frame *frame, uint32_t size, uint8_t kind, const char *name)
{
	uint32_t name_bytes = (uint32_t)strlen(name);
	uint8_t *at;

	message_frame(frame, 27 + name_bytes + size, relay_type);
	at = frame->head + frame->head_bytes;
	*at++ = kind;
	at += put_be(at, name_bytes, 2);
	at += put_text(at, name);
	memcpy(at, load_type, 16);
	at += 16;
	at += put_be(at, 1, 8); /* the tag */
	frame->head_bytes = (uint32_t)(at - frame->head);
}

static ssize_t message_stray(const uint8_t *data, size_t bytes)
{
	if (bytes < PH_PT2PT_BYTES)
		return 0;
	return get_be(data, 4) == PH_PT2PT_BYTES && data[5] == PH_PT2PT &&
			memcmp(data + 12, ping_type, 16) == 0
		? (ssize_t)PH_PT2PT_BYTES
		: -1;
}

/* ---- nng: SP over TCP ------------------------------------------------------------------ */

static const uint8_t nng_req[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
static const uint8_t nng_rep[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0};

static void nng_frame(const struct load_options *options, struct wire_frame *frame)
{
	put_be(frame->head, options->size + 4, 8);
	put_be(frame->head + 8, 0x80000001u, 4); /* the request's id; its top bit ends the route */
	frame->head_bytes = 12;
}

/* ---- zmq: ZMTP 3.0, mechanism NULL ------------------------------------------------------ */

#define ZMQ_GREETING_BYTES 64u

static size_t zmq_hello(uint8_t *out)
{
	static const char ready[] = "\x05READY\x0bSocket-Type\0\0\0\x06"
				    "DEALER";
	size_t bytes = sizeof(ready) - 1;

	memset(out, 0, ZMQ_GREETING_BYTES);
	out[0] = 0xff;
	out[9] = 0x7f;
	out[10] = 3; /* version 3.0 */
	memcpy(out + 12, "NULL", 4);
	out[ZMQ_GREETING_BYTES] = 4; /* a short command */
	out[ZMQ_GREETING_BYTES + 1] = (uint8_t)bytes;
	memcpy(out + ZMQ_GREETING_BYTES + 2, ready, bytes);
	return ZMQ_GREETING_BYTES + 2 + bytes;
}

static ssize_t zmq_hello_read(const uint8_t *data, size_t bytes)
{
	size_t all;

	if (bytes < ZMQ_GREETING_BYTES + 2)
		return 0;
	all = ZMQ_GREETING_BYTES + 2 + data[ZMQ_GREETING_BYTES + 1];
	if (data[0] != 0xff || data[ZMQ_GREETING_BYTES] != 4)
		return -1;
	if (bytes < all)
		return 0;
	return memcmp(data + ZMQ_GREETING_BYTES + 2, "\x05READY", 6) == 0 ? (ssize_t)all : -1;
}

static void zmq_frame(const struct load_options *options, struct wire_frame *frame)
{
	if (options->size < 256) {
		frame->head[0] = 0;
		frame->head[1] = (uint8_t)options->size;
		frame->head_bytes = 2;
	} else {
		frame->head[0] = 2; /* a long one */
		frame->head_bytes = 1 + (uint32_t)put_be(frame->head + 1, options->size, 8);
	}
}

/* ---- nats ------------------------------------------------------------------------------ */

/* Everybody has a subject: in an echo one's own, in a relay that of the set. */
static uint32_t nats_subject(const struct load_options *options, uint32_t index)
{
	return options->mode == MODE_RELAY ? set_of(options, index) : index;
}

static size_t nats_hello(const struct load_options *options, uint32_t index, uint8_t *out)
{
	bool receives = options->mode != MODE_RELAY || !wire_is_sender(options, index);
	char subscribe[64] = "";

	if (receives)
		snprintf(subscribe, sizeof(subscribe), "SUB s%u 1\r\n",
			nats_subject(options, index));
	return (size_t)snprintf((char *)out, WIRE_HELLO_MAX,
		"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":%s,"
		"\"name\":\"peerhub-load\",\"lang\":\"c\",\"version\":\"1\",\"protocol\":1}\r\n"
		"%sPING\r\n",
		options->tls ? "true" : "false", subscribe);
}

/* Lines until PONG; the banner may be the first of them. */
static ssize_t nats_hello_read(const uint8_t *data, size_t bytes)
{
	size_t at = 0;

	while (at < bytes) {
		const uint8_t *end = memchr(data + at, '\n', bytes - at);

		if (end == NULL)
			return 0;
		if (memcmp(data + at, "-ERR", 4) == 0)
			return -1;
		if (end - (data + at) == 5 && memcmp(data + at, "PONG", 4) == 0)
			return end + 1 - data;
		at = (size_t)(end + 1 - data);
	}
	return 0;
}

static ssize_t nats_stray(
	const uint8_t *data, size_t bytes, const char **reply, size_t *reply_bytes)
{
	static const char ping[] = "PING\r\n";

	if (memcmp(data, ping, bytes < 6 ? bytes : 6) != 0)
		return -1;
	if (bytes < 6)
		return 0;
	*reply = "PONG\r\n";
	*reply_bytes = 6;
	return 6;
}

static void nats_frame_out(
	const struct load_options *options, uint32_t index, struct wire_frame *frame)
{
	frame->head_bytes = (uint32_t)snprintf((char *)frame->head, WIRE_HEAD_MAX, "PUB s%u %u\r\n",
		nats_subject(options, index), options->size);
}

static void nats_frame_in(
	const struct load_options *options, uint32_t index, struct wire_frame *frame)
{
	frame->head_bytes = (uint32_t)snprintf((char *)frame->head, WIRE_HEAD_MAX,
		"MSG s%u 1 %u\r\n", nats_subject(options, index), options->size);
}

/* ---- the choice ------------------------------------------------------------------------ */

static void frame_both(const struct load_options *options, struct wire_frame *frame)
{
	switch (options->framing) {
	case FRAMING_RAW:
		break;
	case FRAMING_MESSAGE:
		message_frame(frame, options->size, load_type);
		break;
	case FRAMING_NNG:
		nng_frame(options, frame);
		break;
	case FRAMING_ZMQ:
		zmq_frame(options, frame);
		break;
	case FRAMING_NATS:
		memcpy(frame->tail, "\r\n", 2);
		frame->tail_bytes = 2;
		break;
	}
}

void wire_frame_out(const struct load_options *options, uint32_t index, struct wire_frame *frame)
{
	char name[16] = "";

	*frame = (struct wire_frame){0};
	frame_both(options, frame);
	if (options->framing == FRAMING_NATS) {
		nats_frame_out(options, index, frame);
	} else if (options->mode == MODE_RELAY) {
		if (options->fan == 1)
			snprintf(name, sizeof(name), "m%u", index + 1);
		message_relay_frame(frame, options->size, options->fan == 1 ? 1 : 4, name);
	}
	assert(frame->head_bytes <= WIRE_HEAD_MAX);
}

void wire_frame_in(const struct load_options *options, uint32_t index, struct wire_frame *frame)
{
	char name[16];

	*frame = (struct wire_frame){0};
	frame_both(options, frame);
	if (options->framing == FRAMING_NATS) {
		nats_frame_in(options, index, frame);
	} else if (options->mode == MODE_RELAY) {
		snprintf(name, sizeof(name), "m%u", wire_sender_of(options, index));
		message_relay_frame(frame, options->size, 2, name);
	}
	assert(frame->head_bytes <= WIRE_HEAD_MAX);
}

bool wire_has_banner(const struct load_options *options)
{
	return options->framing == FRAMING_NATS;
}

bool wire_has_hello(const struct load_options *options)
{
	return options->framing != FRAMING_RAW;
}

size_t wire_hello(const struct load_options *options, uint32_t index, uint8_t out[WIRE_HELLO_MAX])
{
	switch (options->framing) {
	case FRAMING_RAW:
		return 0;
	case FRAMING_MESSAGE:
		return message_hello(options, index, out);
	case FRAMING_NNG:
		memcpy(out, nng_req, sizeof(nng_req));
		return sizeof(nng_req);
	case FRAMING_ZMQ:
		return zmq_hello(out);
	case FRAMING_NATS:
		return nats_hello(options, index, out);
	}
	return 0;
}

ssize_t wire_hello_read(const struct load_options *options, const uint8_t *data, size_t bytes)
{
	switch (options->framing) {
	case FRAMING_RAW:
		return 0;
	case FRAMING_MESSAGE:
		return message_hello_read(data, bytes);
	case FRAMING_NNG:
		if (bytes < sizeof(nng_rep))
			return 0;
		return memcmp(data, nng_rep, sizeof(nng_rep)) == 0 ? (ssize_t)sizeof(nng_rep) : -1;
	case FRAMING_ZMQ:
		return zmq_hello_read(data, bytes);
	case FRAMING_NATS:
		return nats_hello_read(data, bytes);
	}
	return -1;
}

ssize_t wire_stray(const struct load_options *options, const uint8_t *data, size_t bytes,
	const char **reply, size_t *reply_bytes)
{
	*reply_bytes = 0;
	if (options->framing == FRAMING_MESSAGE)
		return message_stray(data, bytes);
	if (options->framing == FRAMING_NATS)
		return nats_stray(data, bytes, reply, reply_bytes);
	return -1;
}
