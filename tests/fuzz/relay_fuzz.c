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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct transfer_message transfer;
	struct relay_message relay;
	const char *why = NULL;
	size_t written = 0;
	uint8_t *out;
	char *text;

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
