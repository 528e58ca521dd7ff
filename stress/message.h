/*
 * The payload that all stress messages have: who sent it (connection and lane), which one it is,
 * and a checksum over everything. A lane is one sending thread on one connection: calls of one
 * thread must arrive in their order, calls of different threads have none. Pure functions.
 */
#ifndef PEERHUB_STRESS_MESSAGE_H
#define PEERHUB_STRESS_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define MESSAGE_HEAD_BYTES 32u
#define MESSAGE_BYTES_MAX (256u * 1024u)

struct message_head {
	uint64_t sender; /* the sender's connection, its own number for it */
	uint32_t lane;
	uint32_t sequence; /* 0, 1, 2, … within the lane */
	uint32_t bytes; /* whole payload, head included */
	uint32_t reserved;
	uint64_t checksum; /* of all other bytes */
};

/* Fill a payload of head->bytes (MESSAGE_HEAD_BYTES..MESSAGE_BYTES_MAX) and its 16-byte type. */
void message_write(const struct message_head *head, uint8_t *payload, uint8_t type[16]);
/* 0 and *head, or -EBADMSG: size, checksum or type is not what was sent. */
int message_read(
	const uint8_t *type, const uint8_t *payload, size_t bytes, struct message_head *head);

/* The same messages one behind the other in a stream of bytes, without their types. Every byte is
 * compared as it comes, with what the head says it must be: nothing is kept. Zero is the beginning. */
struct message_stream {
	struct message_head head; /* as far as it has come */
	uint32_t at; /* bytes of the present message that have come */
	uint64_t word; /* of the pattern, the present one */
	uint64_t sum;
};

/* Look at the next bytes, *used of them. 1: there a message ends, and *head is its; 0: more is wanted;
 * -EBADMSG: not what was sent, and nothing more can be said of this stream. */
int message_stream_read(struct message_stream *stream, const uint8_t *data, size_t bytes,
	size_t *used, struct message_head *head);

#endif
