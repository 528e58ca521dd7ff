/*
 * Addresses and reasons as text. IPv4 is kept IPv4-mapped everywhere behind this file. Pure, any thread.
 */
#include "engine/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Decimal digits only, the whole text. */
static bool number_parse(const char *text, uint32_t most, uint32_t *number)
{
	uint64_t value = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value > most)
			return false;
	}
	*number = (uint32_t)value;
	return true;
}

static bool scope_parse(const char *text, uint32_t *scope)
{
	if (number_parse(text, UINT32_MAX, scope))
		return true;
	*scope = if_nametoindex(text);
	return *scope != 0;
}

static bool ipv6_parse(char *host, ph_address *address)
{
	char *scope = strchr(host, '%');

	if (scope != NULL) {
		*scope++ = '\0';
		if (!scope_parse(scope, &address->sin6_scope_id))
			return false;
	}
	if (inet_pton(AF_INET6, host, &address->sin6_addr) != 1)
		return false;
	/* IPv4 has no scopes. */
	return address->sin6_scope_id == 0 || !IN6_IS_ADDR_V4MAPPED(&address->sin6_addr);
}

static bool ipv4_parse(const char *host, ph_address *address)
{
	address->sin6_addr.s6_addr[10] = 0xff;
	address->sin6_addr.s6_addr[11] = 0xff;
	return inet_pton(AF_INET, host, address->sin6_addr.s6_addr + 12) == 1;
}

int ph_address_parse(const char *text, ph_address *address)
{
	const char *begin, *end, *colon;
	char host[PH_ADDRESS_TEXT_BYTES];
	ph_address parsed;
	uint32_t port;

	if (text == NULL || address == NULL)
		return -EINVAL;
	colon = strrchr(text, ':');
	if (colon == NULL || !number_parse(colon + 1, 65535, &port))
		return -EINVAL;
	begin = text;
	end = colon;
	if (text[0] == '[') {
		begin++;
		end--;
		if (end < begin || *end != ']')
			return -EINVAL;
	}
	if ((size_t)(end - begin) >= sizeof(host))
		return -EINVAL;
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	memset(&parsed, 0, sizeof(parsed));
	parsed.sin6_family = AF_INET6;
	parsed.sin6_port = htons((uint16_t)port);
	if (text[0] == '[' ? !ipv6_parse(host, &parsed) : !ipv4_parse(host, &parsed))
		return -EINVAL;
	*address = parsed;
	return 0;
}

char *ph_address_text(const ph_address *address, char *text)
{
	char host[INET6_ADDRSTRLEN] = "?";
	unsigned port = ntohs(address->sin6_port);

	if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
		(void)inet_ntop(AF_INET, address->sin6_addr.s6_addr + 12, host, sizeof(host));
		snprintf(text, PH_ADDRESS_TEXT_BYTES, "%s:%u", host, port);
		return text;
	}
	(void)inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host));
	if (address->sin6_scope_id != 0)
		snprintf(text, PH_ADDRESS_TEXT_BYTES, "[%s%%%u]:%u", host,
			(unsigned)address->sin6_scope_id, port);
	else
		snprintf(text, PH_ADDRESS_TEXT_BYTES, "[%s]:%u", host, port);
	return text;
}

socklen_t address_to_socket(const ph_address *address, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
		struct sockaddr_in *ipv4 = (struct sockaddr_in *)out;

		ipv4->sin_family = AF_INET;
		ipv4->sin_port = address->sin6_port;
		memcpy(&ipv4->sin_addr, address->sin6_addr.s6_addr + 12, 4);
		return sizeof(*ipv4);
	}
	memcpy(out, address, sizeof(*address));
	out->ss_family = AF_INET6;
	return sizeof(*address);
}

bool address_from_socket(const struct sockaddr_storage *from, ph_address *out)
{
	if (from->ss_family == AF_INET6) {
		memcpy(out, from, sizeof(*out));
		return true;
	}
	if (from->ss_family != AF_INET)
		return false;
	memset(out, 0, sizeof(*out));
	out->sin6_family = AF_INET6;
	out->sin6_port = ((const struct sockaddr_in *)from)->sin_port;
	out->sin6_addr.s6_addr[10] = 0xff;
	out->sin6_addr.s6_addr[11] = 0xff;
	memcpy(out->sin6_addr.s6_addr + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
	return true;
}

const char *ph_reason_name(uint32_t reason)
{
	static const char *const ranges[] = {
		[1] = "application",
		[2] = "application_error",
		[3] = "local",
		[4] = "remote",
		[5] = "limits",
		[6] = "protocol",
		[7] = "transport",
	};

	switch (reason) {
#define REASON_CASE(name, value, text) \
	case name:                     \
		return text;
		PH_REASONS(REASON_CASE)
#undef REASON_CASE
	default:
		break;
	}
	if (reason >= 1000 && reason < 8000)
		return ranges[reason / 1000];
	return "unknown";
}
