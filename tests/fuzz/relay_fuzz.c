/*
 * relay_fuzz.c: relay and transfer messages from anywhere. What decodes must encode back to the
 * same bytes, and an offered name must come out clean.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/check.h"
#include "hub/relay.h"
#include "hub/text.h"
#include "hub/transfer.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void transfer_again(
	const struct transfer_message *message, const uint8_t *data, size_t bytes)
{
	char clean[TRANSFER_STORE_BYTES_MAX + 1];
	size_t written = 0;
	uint8_t *out = malloc(bytes + 1);

	assert(out != NULL);
	assert(transfer_encode(message, out, bytes + 1, &written) == 0);
	assert(written == bytes);
	assert(bytes == 0 || memcmp(out, data, bytes) == 0);
	free(out);
	transfer_name_clean(message->text, message->text_bytes, clean);
	assert(clean[0] != 0 && clean[0] != '.');
	assert(strchr(clean, '/') == NULL);
	assert(text_is_utf8(clean, strlen(clean)));
}

/* Any fields: what is written is read as the same. */
static void encode_any(const uint8_t *data, size_t bytes)
{
	static uint8_t out[70000];
	struct input input = {data, bytes};
	struct transfer_message transfer = {.kind = (enum transfer_kind)(input_byte(&input) % 9),
		.id = 5,
		.content = input_byte(&input) % 4,
		.has_digest = bytes & 1,
		.size = 7,
		.offset = input_byte(&input) & 1 ? UINT64_MAX - 100 : 3,
		.code = input_byte(&input) % 14};
	struct relay_message relay = {.kind = input_byte(&input) % 6, .tag = 9};
	uint8_t type[16] = {0}, code[4];
	size_t room = input_number(&input, 2), name = input_number(&input, 2), written, split;
	const char *why;
	struct transfer_message transfer_back;
	struct relay_message relay_back;

	split = name < input.left ? name : input.left;
	relay.name = (const char *)input.at;
	relay.name_bytes = split;
	relay.payload = input.at + split;
	relay.payload_bytes = room == 65535 ? RELAY_PAYLOAD_BYTES_MAX + 1 : input.left - split;
	transfer.text = relay.name;
	transfer.text_bytes = split;
	transfer.data = relay.payload;
	transfer.data_bytes = room == 65535 ? TRANSFER_CHUNK_BYTES_MAX + 1 : input.left - split;
	if (transfer_encode(&transfer, out, room, &written) == 0) {
		transfer_type_of(transfer.kind, type);
		assert(transfer_kind_of(type) == (unsigned)transfer.kind);
		assert(transfer_decode(transfer.kind, out, written, &transfer_back, &why) == 0);
	}
	type[15] = (uint8_t)room;
	assert(transfer_kind_of(type) <= TRANSFER_NOTE);
	type[3] ^= 1;
	assert(transfer_kind_of(type) == 0);
	assert(transfer_code_name(transfer.code)[0] != 0 && relay_code_name(transfer.code)[0] != 0);
	if (relay_encode(&relay, out, room, &written) == 0) {
		assert(written == relay_bytes(&relay));
		assert(relay_decode(out, written, &relay_back, &why) == 0);
	}
	relay_code_put(RELAY_SLOW, code);
	relay = (struct relay_message){.kind = RELAY_STATUS, .payload = code, .payload_bytes = 4};
	assert(relay_code_get(&relay) == RELAY_SLOW);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct transfer_message transfer;
	struct relay_message relay;
	const char *why = NULL;
	size_t written = 0;
	uint8_t *out;
	char *text;

	encode_any(data, bytes);
	for (int kind = TRANSFER_OFFER; kind <= TRANSFER_NOTE; kind++)
		if (transfer_decode((enum transfer_kind)kind, data, bytes, &transfer, &why) == 0)
			transfer_again(&transfer, data, bytes);
	text = text_escape((const char *)data, bytes, true);
	assert(text != NULL && text_is_utf8(text, strlen(text)));
	free(text);
	if (relay_decode(data, bytes, &relay, &why) != 0) {
		assert(why != NULL);
		return 0;
	}
	out = malloc(bytes);
	assert(out != NULL);
	assert(relay_encode(&relay, out, bytes, &written) == 0);
	assert(written == bytes && memcmp(out, data, bytes) == 0);
	free(out);
	return 0;
}
