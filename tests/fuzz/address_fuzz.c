/*
 * Addresses as text. What is accepted is a proper socket address, and its own text reads back as the
 * same one; what the kernel gets and gives back for it, too. An IPv6 address is what inet_pton says it
 * is. Any number has a reason's name.
 */
#include "engine/address.h"
#include "peerhub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void expect(int condition)
{
	if (!condition)
		abort();
}

/* To the kernel and back. */
static void as_socket(const ph_address *address)
{
	struct sockaddr_storage storage;
	ph_address back;
	socklen_t bytes = address_to_socket(address, &storage);

	expect(bytes == sizeof(struct sockaddr_in) || bytes == sizeof(struct sockaddr_in6));
	memset(&back, 0x5a, sizeof(back));
	expect(address_from_socket(&storage, &back));
	expect(memcmp(&back, address, sizeof(back)) == 0);
	storage.ss_family = AF_UNIX;
	expect(!address_from_socket(&storage, &back));
}

/* [x]:1 is taken exactly when inet_pton takes x; a mapped one only without a scope. */
static void as_host(const char *text)
{
	char bracketed[PH_ADDRESS_TEXT_BYTES];
	struct in6_addr wanted;
	ph_address address;
	int length = snprintf(bracketed, sizeof(bracketed), "[%s]:1", text);

	if (length < 0 || (size_t)length >= sizeof(bracketed) || strpbrk(text, "%]") != NULL)
		return;
	if (inet_pton(AF_INET6, text, &wanted) != 1) {
		expect(ph_address_parse(bracketed, &address) == -EINVAL);
		return;
	}
	expect(ph_address_parse(bracketed, &address) == 0);
	expect(memcmp(&wanted, &address.sin6_addr, sizeof(wanted)) == 0);
	expect(address.sin6_port == htons(1) && address.sin6_scope_id == 0);
}

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
		as_socket(&address);
	}
	/* Refused: nothing was written. Accepted: the same address twice. */
	if (memcmp(&address, &again, sizeof(address)) != 0)
		abort();
	as_host(text);
	expect(ph_address_parse(NULL, &address) == -EINVAL && ph_address_parse(text, NULL) < 0);
	free(text);

	memcpy(&reason, data, bytes < sizeof(reason) ? bytes : sizeof(reason));
	if (ph_reason_name(reason)[0] == '\0')
		abort();
	return 0;
}
