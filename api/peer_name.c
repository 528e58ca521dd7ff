/*
 * Peer names and TLS server names: small pure functions over text. Nothing here allocates, so
 * nothing fails but for what the text says.
 */
/* The one-shot SHA256() of OpenSSL 3 looks the algorithm up in the default library context on each
 * call, under a lock shared by all threads; the older calls do not. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "api/peer_name.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#define SNI_SUFFIX ".p2p"
#define SNI_ANY "any"

void peer_digest(const void *data, size_t bytes, uint8_t digest[PEER_DIGEST_BYTES])
{
	SHA256_CTX context;

	SHA256_Init(&context);
	SHA256_Update(&context, data, bytes);
	SHA256_Final(digest, &context);
}

/* ---- UTF-8 ------------------------------------------------------------------------------ */

/* Bytes of the sequence that starts at text (RFC 3629), 0 when it is not well-formed. */
static size_t sequence_bytes(const unsigned char *text)
{
	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		return (text[1] & 0xc0) == 0x80 ? 2 : 0;
	if (text[0] >= 0xe0 && text[0] <= 0xef) {
		unsigned char low = text[0] == 0xe0 ? 0xa0 : 0x80; /* no overlong form */
		unsigned char high = text[0] == 0xed ? 0x9f : 0xbf; /* no surrogate */

		if (text[1] < low || text[1] > high)
			return 0;
		return (text[2] & 0xc0) == 0x80 ? 3 : 0;
	}
	if (text[0] >= 0xf0 && text[0] <= 0xf4) {
		unsigned char low = text[0] == 0xf0 ? 0x90 : 0x80;
		unsigned char high = text[0] == 0xf4 ? 0x8f : 0xbf; /* U+10FFFF */

		if (text[1] < low || text[1] > high || (text[2] & 0xc0) != 0x80)
			return 0;
		return (text[3] & 0xc0) == 0x80 ? 4 : 0;
	}
	return 0;
}

int64_t peer_text_units(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	int64_t units = 0;

	while (*at != 0) {
		size_t bytes = sequence_bytes(at);

		if (bytes == 0)
			return -1;
		units += bytes == 4 ? 2 : 1; /* four bytes are a surrogate pair */
		at += bytes;
	}
	return units;
}

bool peer_text_fits(const char *text, size_t units_max)
{
	int64_t units = peer_text_units(text);

	return units >= 0 && (uint64_t)units <= units_max;
}

/* ---- names ------------------------------------------------------------------------------ */

bool peer_classifier_is_valid(const char *classifier)
{
	return peer_text_fits(classifier, PEER_CLASSIFIER_UNITS_MAX);
}

bool peer_authority_is_valid(const char *authority)
{
	return strspn(authority, "0123456789abcdef") == PEER_AUTHORITY_CHARS &&
		authority[PEER_AUTHORITY_CHARS] == '\0';
}

bool peer_name_is_secure(const char *name)
{
	return strspn(name, "0123456789abcdef") == PEER_AUTHORITY_CHARS &&
		name[PEER_AUTHORITY_CHARS] == '.' &&
		peer_classifier_is_valid(name + PEER_AUTHORITY_CHARS + 1);
}

bool peer_name_is_valid(const char *name)
{
	if (name[0] == '0' && name[1] == '.')
		return peer_classifier_is_valid(name + 2);
	return peer_name_is_secure(name);
}

int peer_name_authority(const char *name, char authority[PEER_AUTHORITY_BYTES])
{
	if (!peer_name_is_secure(name))
		return -EINVAL;
	memcpy(authority, name, PEER_AUTHORITY_CHARS);
	authority[PEER_AUTHORITY_CHARS] = '\0';
	return 0;
}

const char *peer_name_classifier(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot != NULL ? dot + 1 : name + strlen(name);
}

int peer_name_make(const char *authority, const char *classifier, char name[PH_NAME_BYTES_MAX])
{
	if (classifier == NULL)
		classifier = "";
	if (strcmp(authority, "0") != 0 && !peer_authority_is_valid(authority))
		return -EINVAL;
	if (!peer_classifier_is_valid(classifier))
		return -EINVAL;
	/* 40 + 1 + 149 units of at most three bytes and NUL are 489 bytes. */
	snprintf(name, PH_NAME_BYTES_MAX, "%s.%s", authority, classifier);
	return 0;
}

bool peer_name_same_authority(const char *name, const char *other)
{
	return peer_name_is_secure(name) && peer_name_is_secure(other) &&
		memcmp(name, other, PEER_AUTHORITY_CHARS) == 0;
}

void peer_authority_of_key(
	const uint8_t *spki, size_t spki_bytes, char authority[PEER_AUTHORITY_BYTES])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t digest[PEER_DIGEST_BYTES];

	peer_digest(spki, spki_bytes, digest);
	for (size_t index = 0; index < PEER_AUTHORITY_CHARS / 2; index++) {
		authority[2 * index] = digits[digest[index] >> 4];
		authority[2 * index + 1] = digits[digest[index] & 15];
	}
	authority[PEER_AUTHORITY_CHARS] = '\0';
}

/* ---- TLS server names -------------------------------------------------------------------- */

int peer_sni_format(const char *identity, const char *group, char sni[PEER_SNI_BYTES])
{
	char left[PEER_AUTHORITY_BYTES] = SNI_ANY;
	char right[PEER_AUTHORITY_BYTES];

	if (identity != NULL && peer_name_authority(identity, left) < 0)
		return -EINVAL;
	if (peer_name_authority(group, right) < 0)
		return -EINVAL;
	snprintf(sni, PEER_SNI_BYTES, "%s.%s" SNI_SUFFIX, left, right);
	return 0;
}

/* Host names know no case (RFC 4343): fold one label of 40 hex digits. */
static int sni_label(const char *label, char authority[PEER_AUTHORITY_BYTES])
{
	for (size_t index = 0; index < PEER_AUTHORITY_CHARS; index++) {
		char c = label[index];

		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return -EINVAL;
		authority[index] = c;
	}
	authority[PEER_AUTHORITY_CHARS] = '\0';
	return 0;
}

int peer_sni_parse(
	const char *sni, char identity[PEER_AUTHORITY_BYTES], char group[PEER_AUTHORITY_BYTES])
{
	size_t left = strcspn(sni, ".");

	if (left == strlen(SNI_ANY) && strncmp(sni, SNI_ANY, left) == 0)
		identity[0] = '\0';
	else if (left != PEER_AUTHORITY_CHARS || sni_label(sni, identity) < 0)
		return -EINVAL;
	if (sni[left] != '.')
		return -EINVAL;
	sni += left + 1;
	if (strcspn(sni, ".") != PEER_AUTHORITY_CHARS || sni_label(sni, group) < 0)
		return -EINVAL;
	return strcmp(sni + PEER_AUTHORITY_CHARS, SNI_SUFFIX) == 0 ? 0 : -EINVAL;
}
