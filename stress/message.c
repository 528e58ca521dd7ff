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

static uint64_t payload_checksum(const uint8_t *payload, size_t bytes)
{
	uint64_t sum = checksum_of(payload, CHECKSUM_OFFSET, 0x243f6a8885a308d3u ^ bytes);

	return checksum_of(payload + MESSAGE_HEAD_BYTES, bytes - MESSAGE_HEAD_BYTES, sum);
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
	uint64_t state = head->sender + head->sequence;

	assert(head->bytes >= MESSAGE_HEAD_BYTES && head->bytes <= MESSAGE_BYTES_MAX);
	memcpy(payload, &copy, sizeof(copy));
	for (size_t at = MESSAGE_HEAD_BYTES; at < head->bytes; at += sizeof(state)) {
		size_t left = head->bytes - at;

		state = state * 6364136223846793005u + 1442695040888963407u;
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
