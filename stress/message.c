/* The payload of stress messages; see message.h. */
#include "message.h"

#include "random.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static_assert(sizeof(struct message_head) == MESSAGE_HEAD_BYTES, "the head is copied as it is");
#define CHECKSUM_OFFSET offsetof(struct message_head, checksum)

static uint64_t checksum_of(const uint8_t *data, size_t bytes, uint64_t sum)
{
	uint64_t word;

	for (; bytes >= sizeof(word); data += sizeof(word), bytes -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		sum = (sum ^ word) * 0x9fb21c651e98df25u;
		sum ^= sum >> 32;
	}
	if (bytes > 0) {
		word = 0;
		memcpy(&word, data, bytes);
		sum = (sum ^ word) * 0x9fb21c651e98df25u;
		sum ^= sum >> 29;
	}
	return sum;
}

/* What is behind the head, in words. */
static uint64_t pattern_first(const struct message_head *head)
{
	return head->sender + head->sequence;
}

static uint64_t pattern_next(uint64_t word)
{
	return word * 6364136223846793005u + 1442695040888963407u;
}

static uint64_t head_checksum(const uint8_t *payload, size_t bytes)
{
	return checksum_of(payload, CHECKSUM_OFFSET, 0x243f6a8885a308d3u ^ bytes);
}

static uint64_t payload_checksum(const uint8_t *payload, size_t bytes)
{
	return checksum_of(payload + MESSAGE_HEAD_BYTES, bytes - MESSAGE_HEAD_BYTES,
		head_checksum(payload, bytes));
}

/* The type depends on the message, so that a type that sticks to the wrong one is seen. */
static void type_of(const struct message_head *head, uint8_t type[16])
{
	uint64_t words[2];

	words[0] = random_mix(head->sender ^ ((uint64_t)head->lane << 32));
	words[1] = random_mix(words[0] + head->sequence);
	memcpy(type, words, sizeof(words));
}

void message_write(const struct message_head *head, uint8_t *payload, uint8_t type[16])
{
	struct message_head copy = *head;
	uint64_t state = pattern_first(head);

	assert(head->bytes >= MESSAGE_HEAD_BYTES && head->bytes <= MESSAGE_BYTES_MAX);
	memcpy(payload, &copy, sizeof(copy));
	for (size_t at = MESSAGE_HEAD_BYTES; at < head->bytes; at += sizeof(state)) {
		size_t left = head->bytes - at;

		state = pattern_next(state);
		memcpy(payload + at, &state, left < sizeof(state) ? left : sizeof(state));
	}
	copy.checksum = payload_checksum(payload, head->bytes);
	memcpy(payload, &copy, sizeof(copy));
	type_of(head, type);
}

int message_read(
	const uint8_t *type, const uint8_t *payload, size_t bytes, struct message_head *head)
{
	uint8_t expected[16];

	if (bytes < MESSAGE_HEAD_BYTES || bytes > MESSAGE_BYTES_MAX)
		return -EBADMSG;
	memcpy(head, payload, sizeof(*head));
	if (head->bytes != bytes || head->checksum != payload_checksum(payload, bytes))
		return -EBADMSG;
	type_of(head, expected);
	if (type == NULL || memcmp(type, expected, sizeof(expected)) != 0)
		return -EBADMSG;
	return 0;
}

/* ---- a stream of them ------------------------------------------------------------------ */

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Returns the bytes used. */
static size_t stream_head(struct message_stream *stream, const uint8_t *data, size_t bytes)
{
	size_t take = smaller(MESSAGE_HEAD_BYTES - stream->at, bytes);

	memcpy((uint8_t *)&stream->head + stream->at, data, take);
	stream->at += (uint32_t)take;
	if (stream->at == MESSAGE_HEAD_BYTES) {
		stream->word = pattern_first(&stream->head);
		stream->sum = head_checksum((const uint8_t *)&stream->head, stream->head.bytes);
	}
	return take;
}

/* Returns the bytes used; 0: another one than it must be. */
static size_t stream_body(struct message_stream *stream, const uint8_t *data, size_t bytes)
{
	uint32_t within = stream->at % sizeof(stream->word); /* the head is made of whole words */
	size_t word_bytes = smaller(sizeof(stream->word), stream->head.bytes + within - stream->at);
	size_t take = smaller(word_bytes - within, bytes);

	if (within == 0) {
		stream->word = pattern_next(stream->word);
		stream->sum = checksum_of((const uint8_t *)&stream->word, word_bytes, stream->sum);
	}
	if (memcmp(data, (const uint8_t *)&stream->word + within, take) != 0)
		return 0;
	stream->at += (uint32_t)take;
	return take;
}

int message_stream_read(struct message_stream *stream, const uint8_t *data, size_t bytes,
	size_t *used, struct message_head *head)
{
	*used = 0;
	while (*used < bytes) {
		size_t took;

		if (stream->at < MESSAGE_HEAD_BYTES)
			took = stream_head(stream, data + *used, bytes - *used);
		else
			took = stream_body(stream, data + *used, bytes - *used);
		*used += took;
		if (took == 0)
			return -EBADMSG;
		if (stream->at < MESSAGE_HEAD_BYTES)
			continue;
		if (stream->head.bytes < MESSAGE_HEAD_BYTES ||
			stream->head.bytes > MESSAGE_BYTES_MAX)
			return -EBADMSG;
		if (stream->at < stream->head.bytes)
			continue;
		if (stream->sum != stream->head.checksum)
			return -EBADMSG;
		*head = stream->head;
		stream->at = 0;
		return 1;
	}
	return 0;
}
