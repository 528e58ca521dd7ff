/*
 * Addresses as text. What is accepted is a proper socket address, and its own text reads back as the
 * same one. Any number has a reason's name.
 */
#include "peerhub.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	char *text = malloc(bytes + 1), written[PH_ADDRESS_TEXT_BYTES];
	ph_address address, again;
	uint32_t reason = 0;

	if (text == NULL)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	memset(&address, 0x5a, sizeof(address));
	again = address;
	if (ph_address_parse(text, &address) == 0) {
		if (address.sin6_family != AF_INET6 ||
			ph_address_text(&address, written) != written)
			abort();
		if (ph_address_parse(written, &again) != 0)
			abort();
	}
	/* Refused: nothing was written. Accepted: the same address twice. */
	if (memcmp(&address, &again, sizeof(address)) != 0)
		abort();
	free(text);

	memcpy(&reason, data, bytes < sizeof(reason) ? bytes : sizeof(reason));
	if (ph_reason_name(reason)[0] == '\0')
		abort();
	return 0;
}
