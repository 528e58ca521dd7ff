/*
 * How an operation's payload is wrapped on the wire, one framing for each kind of server.
 *
 * After a greeting both directions of a connection carry frames of one constant shape: the same
 * head, the payload, the same tail. So sending is copying and receiving is comparing, and what a
 * server sends beside that (a ping) is a "stray". Nothing here knows sockets.
 */
#ifndef PEERHUB_LOAD_WIRE_H
#define PEERHUB_LOAD_WIRE_H

#include "bench/load/options.h"

#include <stddef.h>
#include <sys/types.h>

#define WIRE_HEAD_MAX 192u
#define WIRE_HELLO_MAX 4096u /* greeting of a server; nats-server's is about 500 bytes */
#define WIRE_STRAY_MAX 64u

struct wire_frame {
	uint32_t head_bytes, tail_bytes;
	uint8_t head[WIRE_HEAD_MAX], tail[2];
};

/* Relay: who sends and who receives. Connections 0 … fan are the first set, 0 its sender. */
bool wire_is_sender(const struct load_options *options, uint32_t index);
uint32_t wire_sender_of(const struct load_options *options, uint32_t index);

/* What this connection sends and what it gets. */
void wire_frame_out(const struct load_options *options, uint32_t index, struct wire_frame *frame);
void wire_frame_in(const struct load_options *options, uint32_t index, struct wire_frame *frame);

/* The server speaks first and in clear text, before TLS: its line ends with '\n'. */
bool wire_has_banner(const struct load_options *options);

/* Whether there is a greeting at all; what we say in it; returns its bytes. */
bool wire_has_hello(const struct load_options *options);
size_t wire_hello(const struct load_options *options, uint32_t index, uint8_t out[WIRE_HELLO_MAX]);
/* Read the server's answer. The bytes it had when it is complete, 0 when more is needed, -1 when it
 * is no welcome. */
ssize_t wire_hello_read(const struct load_options *options, const uint8_t *data, size_t bytes);

/*
 * Bytes at a frame's place that are no frame. Returns how many belong to the stray, 0 when more is
 * needed to know, -1 when it is none. *reply (static) is what to answer, *reply_bytes may be 0.
 */
ssize_t wire_stray(const struct load_options *options, const uint8_t *data, size_t bytes,
	const char **reply, size_t *reply_bytes);

/* The TLS server name of this connection, and the ALPN protocol (its length first), or NULL. */
void wire_server_name(const struct load_options *options, uint32_t index, char name[64]);
const char *wire_alpn(const struct load_options *options);

#endif
