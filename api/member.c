/*
 * Members and their credentials: see member.h.
 */
#include "api/member.h"

#include "api/check.h"
#include "api/credential.h"

#include <stdlib.h>
#include <string.h>

#define WINDOWS_AF_INET6 23
#define SECONDS_1601_TO_1970 11644473600ll
#define TICKS_PER_SECOND 10000000ll

/* ---- credentials ------------------------------------------------------------------------- */

static const char *text_place(char **at, const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *place = *at;

	memcpy(place, text, bytes);
	*at += bytes;
	return place;
}

struct peer_credential *peer_credential_create(const struct trust_result *trust)
{
	const char *friendly_name =
		trust->leaf.friendly_name[0] != '\0' ? trust->leaf.friendly_name : trust->identity;
	const char *issuer_friendly_name = trust->issuer_friendly_name[0] != '\0'
		? trust->issuer_friendly_name
		: trust->leaf.issuer;
	struct peer_credential *credential;
	char *at;

	credential = malloc(sizeof(*credential) + strlen(trust->identity) + strlen(friendly_name) +
		strlen(trust->leaf.issuer) + strlen(issuer_friendly_name) + 4);
	if (credential == NULL)
		return NULL;
	credential->chain = peer_chain_get(trust);
	if (credential->chain == NULL) {
		free(credential);
		return NULL;
	}
	atomic_init(&credential->references, 1);
	credential->revocation_epoch = 0;
	credential->role = trust->role;
	credential->valid_from_s = trust->leaf.valid_from_s;
	credential->valid_to_s = trust->leaf.valid_to_s;
	credential->spki_bytes = trust->leaf.spki_bytes;
	memcpy(credential->spki, trust->leaf.spki, sizeof(credential->spki));
	at = (char *)(credential + 1);
	credential->identity = text_place(&at, trust->identity);
	credential->friendly_name = text_place(&at, friendly_name);
	credential->issuer = text_place(&at, trust->leaf.issuer);
	credential->issuer_friendly_name = text_place(&at, issuer_friendly_name);
	return credential;
}

void peer_credential_get(struct peer_credential *credential)
{
	atomic_fetch_add_explicit(&credential->references, 1, memory_order_relaxed);
}

void peer_credential_put(struct peer_credential *credential)
{
	if (credential == NULL)
		return;
	if (atomic_fetch_sub_explicit(&credential->references, 1, memory_order_acq_rel) > 1)
		return;
	peer_chain_put(credential->chain);
	free(credential);
}

/* ---- members ----------------------------------------------------------------------------- */

struct member *member_create(const char *identity)
{
	size_t bytes = strlen(identity) + 1;
	struct member *member = calloc(1, sizeof(*member) + bytes);

	if (member == NULL)
		return NULL;
	atomic_init(&member->references, 1);
	atomic_init(&member->unread, 0);
	memcpy(member->identity, identity, bytes);
	return member;
}

void member_get(struct member *member)
{
	atomic_fetch_add_explicit(&member->references, 1, memory_order_relaxed);
}

void member_put(struct member *member)
{
	if (atomic_fetch_sub_explicit(&member->references, 1, memory_order_acq_rel) > 1)
		return;
	assert(member->open_count == 0);
	assert(atomic_load(&member->unread) == 0);
	peer_credential_put(member->credential);
	free(member);
}

void member_unread_get(struct member *member)
{
	member_get(member);
	atomic_fetch_add_explicit(&member->unread, 1, memory_order_relaxed);
}

void member_unread_put(struct member *member)
{
	atomic_fetch_sub_explicit(&member->unread, 1, memory_order_relaxed);
	member_put(member);
}

bool member_is_unread(const struct member *member)
{
	return atomic_load_explicit(&member->unread, memory_order_relaxed) > 0;
}

/* ---- for the client ---------------------------------------------------------------------- */

void address_to_client(const ph_address *from, PEER_ADDRESS *to)
{
	memset(to, 0, sizeof(*to));
	to->dwSize = sizeof(*to);
	to->sin6 = *from;
	to->sin6.sin6_family = AF_INET6;
}

bool address_from_client(const PEER_ADDRESS *from, ph_address *to)
{
	if (from->dwSize != sizeof(*from))
		return false;
	if (from->sin6.sin6_family != AF_INET6 && from->sin6.sin6_family != WINDOWS_AF_INET6)
		return false;
	if (from->sin6.sin6_port == 0 || IN6_IS_ADDR_UNSPECIFIED(&from->sin6.sin6_addr) ||
		IN6_IS_ADDR_MULTICAST(&from->sin6.sin6_addr))
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&from->sin6.sin6_addr)) {
		const uint8_t *bytes = &from->sin6.sin6_addr.s6_addr[12];

		/* 0.0.0.0 is unspecified too; 224.0.0.0 and above are multicast and broadcast. */
		if ((bytes[0] | bytes[1] | bytes[2] | bytes[3]) == 0 || bytes[0] >= 224)
			return false;
	}
	*to = from->sin6;
	to->sin6_family = AF_INET6;
	return true;
}

FILETIME filetime_from_seconds(int64_t seconds)
{
	int64_t since_1601 = seconds + SECONDS_1601_TO_1970;
	uint64_t ticks = since_1601 > 0 ? (uint64_t)since_1601 * TICKS_PER_SECOND : 0;

	return (FILETIME){.dwLowDateTime = (DWORD)ticks, .dwHighDateTime = (DWORD)(ticks >> 32)};
}

int64_t filetime_to_seconds(FILETIME time)
{
	uint64_t ticks = (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;

	return (int64_t)(ticks / TICKS_PER_SECOND) - SECONDS_1601_TO_1970;
}

static CERT_PUBLIC_KEY_INFO *key_info_fill(
	struct block *block, const uint8_t *spki, size_t spki_bytes)
{
	static const uint8_t p256_der[] = {
		0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
	CERT_PUBLIC_KEY_INFO *info = block_take(block, sizeof(*info));
	size_t bits_bytes = 0;
	bool is_ed25519 = false;
	const uint8_t *bits = key_spki_bits(spki, spki_bytes, &bits_bytes, &is_ed25519);
	const char *algorithm = is_ed25519 ? "1.3.101.112" : "1.2.840.10045.2.1";
	char *algorithm_copy = block_copy(block, algorithm, strlen(algorithm) + 1);
	uint8_t *parameters = block_copy(block, p256_der, sizeof(p256_der));
	uint8_t *bits_copy = block_copy(block, bits, bits_bytes);

	if (info == NULL)
		return NULL;
	info->Algorithm.pszObjId = algorithm_copy;
	info->Algorithm.Parameters.cbData = is_ed25519 ? 0 : sizeof(p256_der);
	info->Algorithm.Parameters.pbData = is_ed25519 ? NULL : parameters;
	info->PublicKey.cbData = (DWORD)bits_bytes;
	info->PublicKey.pbData = bits_copy;
	return info;
}

static PEER_CREDENTIAL_INFO *peer_credential_fill(
	struct block *block, const struct peer_credential *credential)
{
	PEER_CREDENTIAL_INFO *info = block_take(block, sizeof(*info));
	WCHAR *friendly_name = block_text(block, credential->friendly_name);
	WCHAR *issuer = block_text(block, credential->issuer);
	WCHAR *issuer_friendly_name = block_text(block, credential->issuer_friendly_name);
	CERT_PUBLIC_KEY_INFO *key = key_info_fill(block, credential->spki, credential->spki_bytes);
	const GUID *role = role_guid(credential->role);
	PEER_ROLE_ID *roles = block_take(block, sizeof(*roles));

	if (info == NULL)
		return NULL;
	info->dwSize = sizeof(*info);
	info->pwzFriendlyName = friendly_name;
	info->pPublicKey = key;
	info->pwzIssuerPeerName = issuer;
	info->pwzIssuerFriendlyName = issuer_friendly_name;
	info->ftValidityStart = filetime_from_seconds(credential->valid_from_s);
	info->ftValidityEnd = filetime_from_seconds(credential->valid_to_s);
	if (role != NULL) {
		*roles = *role;
		info->cRoles = 1;
		info->pRoles = roles;
	}
	return info;
}

void *member_item_fill(struct block *block, const void *context)
{
	const struct member_item *item = context;
	PEER_MEMBER *member = block_take(block, sizeof(*member));
	WCHAR *identity = block_text(block, item->credential->identity);
	WCHAR *attributes = block_text(block, "");
	PEER_ADDRESS *addresses = block_take(block, item->address_count * sizeof(*addresses));
	PEER_CREDENTIAL_INFO *credential = peer_credential_fill(block, item->credential);

	if (member == NULL)
		return NULL;
	member->dwSize = sizeof(*member);
	member->dwFlags = item->flags;
	member->pwzIdentity = identity;
	member->pwzAttributes = attributes;
	member->ullNodeId = item->node_id;
	member->cAddresses = item->address_count;
	member->pAddresses = item->address_count > 0 ? addresses : NULL;
	for (uint32_t index = 0; index < item->address_count; index++)
		address_to_client(&item->addresses[index], &addresses[index]);
	member->pCredentialInfo = credential;
	return member;
}

void member_item_fini(void *context)
{
	struct member_item *item = context;

	peer_credential_put(item->credential);
}
