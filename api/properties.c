/* Group properties: defaults, rules, and their signed form. */
#include "api/properties.h"

#include "api/detail.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "PHGP\x01"
#define MAGIC_BYTES 5u

#define MEMBER_DATA_DEFAULT_S 2419200u /* 28 days */
#define MEMBER_DATA_MIN_S 28800u /* 8 hours */
#define MEMBER_DATA_MAX_S 315360000u /* 10 years of 365 days */
#define PRESENCE_DEFAULT_S 300u /* also the minimum */
#define FLAGS_KNOWN (PEER_MEMBER_DATA_OPTIONAL | PEER_DISABLE_PRESENCE | PEER_DEFER_EXPIRATION)
#define SCHEMES_KNOWN (PEER_GROUP_GMC_AUTHENTICATION | PEER_GROUP_PASSWORD_AUTHENTICATION)
#define CLOUD_GLOBAL "Global_"

void group_properties_init(struct group_properties *properties)
{
	memset(properties, 0, sizeof(*properties));
	properties->member_data_lifetime_s = MEMBER_DATA_DEFAULT_S;
	properties->presence_lifetime_s = PRESENCE_DEFAULT_S;
	properties->authentication_schemes = PEER_GROUP_GMC_AUTHENTICATION;
}

HRESULT group_cloud_check(const char *cloud)
{
	if (cloud == NULL || cloud[0] == '\0' || strcmp(cloud, CLOUD_GLOBAL) == 0)
		return S_OK;
	return detail_fail(PEER_E_NO_CLOUD,
		"cloud %.100s: there is no name service here, only \"\" and \"" CLOUD_GLOBAL "\"",
		cloud);
}

static HRESULT out_of_range(const char *what)
{
	return detail_fail(PEER_E_INVALID_GROUP_PROPERTIES, "group properties: %s", what);
}

HRESULT properties_check(const struct group_properties *properties)
{
	if (!peer_classifier_is_valid(properties->classifier))
		return detail_fail(PEER_E_INVALID_CLASSIFIER,
			"group properties: classifier of more than %u units",
			PEER_CLASSIFIER_UNITS_MAX);
	if (!peer_text_fits(properties->friendly_name, PEER_TEXT_UNITS_MAX))
		return out_of_range("friendly name of more than 255 units");
	if (!peer_text_fits(properties->comment, PEER_TEXT_UNITS_MAX))
		return out_of_range("comment of more than 255 units");
	if ((properties->flags & ~(uint32_t)FLAGS_KNOWN) != 0)
		return out_of_range("unknown flags");
	if (properties->member_data_lifetime_s != 0 &&
		(properties->member_data_lifetime_s < MEMBER_DATA_MIN_S ||
			properties->member_data_lifetime_s > MEMBER_DATA_MAX_S))
		return out_of_range("member data lifetime is not 0 or 8 hours to 10 years");
	if (properties->presence_lifetime_s < PRESENCE_DEFAULT_S)
		return out_of_range("presence lifetime is under 300 seconds");
	if (properties->authentication_schemes == 0 ||
		(properties->authentication_schemes & ~(uint32_t)SCHEMES_KNOWN) != 0)
		return out_of_range("unknown authentication schemes");
	return S_OK;
}

/* ---- packing ---------------------------------------------------------------------------- */

static void put(uint8_t **at, const void *data, size_t bytes)
{
	memcpy(*at, data, bytes);
	*at += bytes;
}

static void put_number(uint8_t **at, uint64_t value, uint32_t bytes)
{
	while (bytes-- > 0)
		*(*at)++ = (uint8_t)(value >> 8 * bytes);
}

static void put_text(uint8_t **at, const char *text)
{
	put_number(at, strlen(text), 2);
	put(at, text, strlen(text));
}

/* The fixed part is 53 bytes and six texts are at most 6 * 770, so PROPERTIES_BYTES_MAX holds all
 * with a signature. */
_Static_assert(53 + 6 * (PEER_TEXT_BYTES + 2) + 256 <= PROPERTIES_BYTES_MAX, "properties fit");

static size_t pack_fields(
	const struct group_properties *properties, uint8_t data[PROPERTIES_BYTES_MAX])
{
	uint8_t *at = data;

	put(&at, MAGIC, MAGIC_BYTES);
	put_number(&at, properties->sequence, 8);
	put_number(&at, properties->flags, 4);
	put_number(&at, properties->member_data_lifetime_s, 4);
	put_number(&at, properties->presence_lifetime_s, 4);
	put_number(&at, properties->authentication_schemes, 4);
	put_number(&at, properties->password_role.Data1, 4);
	put_number(&at, properties->password_role.Data2, 2);
	put_number(&at, properties->password_role.Data3, 2);
	put(&at, properties->password_role.Data4, 8);
	put_text(&at, properties->group);
	put_text(&at, properties->creator);
	put_text(&at, properties->cloud);
	put_text(&at, properties->classifier);
	put_text(&at, properties->friendly_name);
	put_text(&at, properties->comment);
	return (size_t)(at - data);
}

int properties_pack(
	const struct group_properties *properties, EVP_PKEY *group_key, struct store_bytes *packed)
{
	uint8_t data[PROPERTIES_BYTES_MAX];
	size_t bytes = pack_fields(properties, data);
	uint8_t *signature;
	size_t signature_bytes;

	*packed = (struct store_bytes){0};
	if (key_sign(group_key, data, bytes, &signature, &signature_bytes) < 0)
		return -ENOMEM;
	packed->data = malloc(bytes + signature_bytes);
	if (packed->data != NULL) {
		memcpy(packed->data, data, bytes);
		memcpy(packed->data + bytes, signature, signature_bytes);
		packed->bytes = bytes + signature_bytes;
	}
	OPENSSL_free(signature);
	return packed->data != NULL ? 0 : -ENOMEM;
}

/* ---- unpacking -------------------------------------------------------------------------- */

struct cursor {
	const uint8_t *at, *end;
	/* ran out, or a text that does not fit; everything after it reads as nothing */
	bool failed;
};

static uint64_t take_number(struct cursor *cursor, uint32_t bytes)
{
	uint64_t value = 0;

	if (cursor->failed || (size_t)(cursor->end - cursor->at) < bytes) {
		cursor->failed = true;
		return 0;
	}
	while (bytes-- > 0)
		value = value << 8 | *cursor->at++;
	return value;
}

static void take_text(struct cursor *cursor, char *text, size_t text_bytes, size_t units_max)
{
	size_t bytes = (size_t)take_number(cursor, 2);

	text[0] = '\0';
	if (cursor->failed || (size_t)(cursor->end - cursor->at) < bytes || bytes >= text_bytes ||
		memchr(cursor->at, 0, bytes) != NULL) {
		cursor->failed = true;
		return;
	}
	memcpy(text, cursor->at, bytes);
	text[bytes] = '\0';
	cursor->at += bytes;
	if (!peer_text_fits(text, units_max))
		cursor->failed = true;
}

static void unpack_fields(struct cursor *cursor, struct group_properties *properties)
{
	properties->sequence = take_number(cursor, 8);
	properties->flags = (uint32_t)take_number(cursor, 4);
	properties->member_data_lifetime_s = (uint32_t)take_number(cursor, 4);
	properties->presence_lifetime_s = (uint32_t)take_number(cursor, 4);
	properties->authentication_schemes = (uint32_t)take_number(cursor, 4);
	properties->password_role.Data1 = (uint32_t)take_number(cursor, 4);
	properties->password_role.Data2 = (uint16_t)take_number(cursor, 2);
	properties->password_role.Data3 = (uint16_t)take_number(cursor, 2);
	for (uint32_t index = 0; index < 8; index++)
		properties->password_role.Data4[index] = (uint8_t)take_number(cursor, 1);
	take_text(cursor, properties->group, PH_NAME_BYTES_MAX, PH_NAME_BYTES_MAX);
	take_text(cursor, properties->creator, PH_NAME_BYTES_MAX, PH_NAME_BYTES_MAX);
	take_text(cursor, properties->cloud, PEER_TEXT_BYTES, PEER_TEXT_UNITS_MAX);
	take_text(cursor, properties->classifier, PEER_TEXT_BYTES, PEER_CLASSIFIER_UNITS_MAX);
	take_text(cursor, properties->friendly_name, PEER_TEXT_BYTES, PEER_TEXT_UNITS_MAX);
	take_text(cursor, properties->comment, PEER_TEXT_BYTES, PEER_TEXT_UNITS_MAX);
}

int properties_unpack(
	const uint8_t *packed, size_t packed_bytes, X509 *root, struct group_properties *properties)
{
	struct cursor cursor = {.failed = false};
	EVP_PKEY *key;
	int status;

	memset(properties, 0, sizeof(*properties));
	if (packed_bytes < MAGIC_BYTES || packed_bytes > PROPERTIES_BYTES_MAX ||
		memcmp(packed, MAGIC, MAGIC_BYTES) != 0)
		return -EINVAL;
	status = certificate_key(root, &key);
	if (status < 0)
		return status;
	cursor.at = packed + MAGIC_BYTES;
	cursor.end = packed + packed_bytes;
	unpack_fields(&cursor, properties);
	if (cursor.failed || !peer_name_is_secure(properties->group) ||
		!peer_name_is_secure(properties->creator))
		return -EINVAL;
	status = key_verify(key, packed, (size_t)(cursor.at - packed), cursor.at,
		(size_t)(cursor.end - cursor.at));
	if (status < 0)
		return status;
	return FAILED(properties_check(properties)) ? -EINVAL : 0;
}
