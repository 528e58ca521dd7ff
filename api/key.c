/*
 * Keys. The two allowed kinds have a SubjectPublicKeyInfo of one fixed form each, so it is written
 * and checked as prefix + key bits; nothing else can get through, and no decoder runs on what a
 * peer sends before its kind and length are known.
 */
#include "api/key.h"

#include "api/crypto.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <string.h>

/* SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING 04 X Y } (RFC 5480) */
static const uint8_t p256_prefix[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce,
	0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42,
	0x00};
#define P256_BITS_BYTES 65u
/* SEQUENCE { SEQUENCE { id-Ed25519 }, BIT STRING } (RFC 8410) */
static const uint8_t ed25519_prefix[] = {
	0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
#define ED25519_BITS_BYTES 32u
_Static_assert(sizeof(p256_prefix) + P256_BITS_BYTES <= KEY_SPKI_BYTES_MAX, "P-256 fits");

EVP_PKEY *key_create(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (key == NULL)
		ERR_clear_error();
	return key;
}

/* Its number where it has one: to compare names OpenSSL copies them, and without memory none is equal. */
static bool is_kind(EVP_PKEY *key, int kind, const char *name)
{
	int is = EVP_PKEY_get_id(key);

	return is == kind || (is < 0 && EVP_PKEY_is_a(key, name) == 1);
}

bool key_is_ed25519(EVP_PKEY *key)
{
	return is_kind(key, EVP_PKEY_ED25519, "ED25519");
}

bool key_is_allowed(EVP_PKEY *key)
{
	char group[32];
	size_t group_bytes = 0;

	if (key_is_ed25519(key))
		return true;
	if (!is_kind(key, EVP_PKEY_EC, "EC"))
		return false;
	if (EVP_PKEY_get_group_name(key, group, sizeof(group), &group_bytes) != 1)
		return false;
	return strcmp(group, SN_X9_62_prime256v1) == 0 || strcmp(group, "P-256") == 0;
}

/* ---- private keys ----------------------------------------------------------------------- */

int key_to_der(EVP_PKEY *key, uint8_t **der, size_t *der_bytes)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	unsigned char *out = NULL;
	int bytes = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &out) : -1;

	PKCS8_PRIV_KEY_INFO_free(info); /* wipes its copy of the key itself */
	if (bytes <= 0) {
		ERR_clear_error();
		return -ENOMEM;
	}
	*der = out;
	*der_bytes = (size_t)bytes;
	return 0;
}

void key_der_free(uint8_t *der, size_t der_bytes)
{
	if (der != NULL)
		OPENSSL_clear_free(der, der_bytes);
}

int key_from_der(const uint8_t *der, size_t der_bytes, EVP_PKEY **key)
{
	const unsigned char *at = der;
	PKCS8_PRIV_KEY_INFO *info;
	EVP_PKEY *found;

	*key = NULL;
	if (der_bytes == 0 || der_bytes > KEY_DER_BYTES_MAX)
		return -EINVAL;
	ERR_clear_error();
	info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)der_bytes);
	found = info != NULL && at == der + der_bytes ? EVP_PKCS82PKEY(info) : NULL;
	PKCS8_PRIV_KEY_INFO_free(info);
	if (found == NULL || !key_is_allowed(found)) {
		EVP_PKEY_free(found);
		return crypto_failure(-EINVAL);
	}
	ERR_clear_error();
	*key = found;
	return 0;
}

/* ---- public keys ------------------------------------------------------------------------ */

static void spki_write(const uint8_t *prefix, size_t prefix_bytes, const uint8_t *bits,
	size_t bits_bytes, uint8_t *spki, size_t *spki_bytes)
{
	memcpy(spki, prefix, prefix_bytes);
	memcpy(spki + prefix_bytes, bits, bits_bytes);
	*spki_bytes = prefix_bytes + bits_bytes;
}

int key_spki_of_field(
	const X509_PUBKEY *field, uint8_t spki[KEY_SPKI_BYTES_MAX], size_t *spki_bytes)
{
	const unsigned char *bits;
	int bits_bytes, parameter_kind;
	X509_ALGOR *algorithm;
	const ASN1_OBJECT *object;
	const void *parameter;
	ASN1_OBJECT *kind;

	if (X509_PUBKEY_get0_param(&kind, &bits, &bits_bytes, &algorithm, field) != 1)
		return -EINVAL;
	X509_ALGOR_get0(&object, &parameter_kind, &parameter, algorithm);
	switch (OBJ_obj2nid(object)) {
	case NID_X9_62_id_ecPublicKey:
		if (parameter_kind != V_ASN1_OBJECT || parameter == NULL)
			return -EINVAL;
		if (OBJ_obj2nid(parameter) != NID_X9_62_prime256v1)
			return -EINVAL;
		if (bits_bytes != (int)P256_BITS_BYTES || bits[0] != 0x04)
			return -EINVAL;
		spki_write(
			p256_prefix, sizeof(p256_prefix), bits, P256_BITS_BYTES, spki, spki_bytes);
		return 0;
	case NID_ED25519:
		if (parameter_kind != V_ASN1_UNDEF || bits_bytes != (int)ED25519_BITS_BYTES)
			return -EINVAL;
		spki_write(ed25519_prefix, sizeof(ed25519_prefix), bits, ED25519_BITS_BYTES, spki,
			spki_bytes);
		return 0;
	default:
		return -EINVAL;
	}
}

int key_spki(EVP_PKEY *key, uint8_t spki[KEY_SPKI_BYTES_MAX], size_t *spki_bytes)
{
	X509_PUBKEY *field = NULL;
	int status;

	ERR_clear_error();
	if (!key_is_allowed(key))
		return crypto_failure(-EINVAL);
	if (X509_PUBKEY_set(&field, key) != 1) {
		ERR_clear_error();
		return -ENOMEM; /* a key of an allowed kind has a public half to write */
	}
	status = key_spki_of_field(field, spki, spki_bytes);
	X509_PUBKEY_free(field);
	return status;
}

const uint8_t *key_spki_bits(
	const uint8_t *spki, size_t spki_bytes, size_t *bits_bytes, bool *is_ed25519)
{
	*is_ed25519 = spki_bytes == sizeof(ed25519_prefix) + ED25519_BITS_BYTES;
	*bits_bytes = *is_ed25519 ? ED25519_BITS_BYTES : P256_BITS_BYTES;
	return spki + spki_bytes - *bits_bytes;
}

bool key_spki_is_valid(const uint8_t *spki, size_t spki_bytes)
{
	if (spki_bytes == sizeof(ed25519_prefix) + ED25519_BITS_BYTES)
		return memcmp(spki, ed25519_prefix, sizeof(ed25519_prefix)) == 0;
	return spki_bytes == sizeof(p256_prefix) + P256_BITS_BYTES &&
		memcmp(spki, p256_prefix, sizeof(p256_prefix)) == 0 &&
		spki[sizeof(p256_prefix)] == 0x04;
}

int key_spki_failure(const uint8_t *spki, size_t spki_bytes)
{
	bool is_ed25519, is_point;
	size_t bits_bytes;
	const uint8_t *bits = key_spki_bits(spki, spki_bytes, &bits_bytes, &is_ed25519);
	EC_GROUP *group;
	EC_POINT *point;

	ERR_clear_error();
	if (is_ed25519)
		return -ENOMEM; /* any 32 bytes are taken for a key */
	group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	point = group != NULL ? EC_POINT_new(group) : NULL;
	is_point = point != NULL && EC_POINT_oct2point(group, point, bits, bits_bytes, NULL) == 1;
	EC_POINT_free(point);
	EC_GROUP_free(group);
	if (!is_point)
		return crypto_failure(-EINVAL);
	ERR_clear_error();
	return -ENOMEM;
}

/* ---- signatures ------------------------------------------------------------------------- */

int key_sign(
	EVP_PKEY *key, const void *data, size_t bytes, uint8_t **signature, size_t *signature_bytes)
{
	const EVP_MD *digest = key_is_ed25519(key) ? NULL : EVP_sha256();
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t *made = NULL;
	size_t room = 0, made_bytes;
	bool good = context != NULL && EVP_DigestSignInit(context, NULL, digest, NULL, key) == 1 &&
		EVP_DigestSign(context, NULL, &room, data, bytes) == 1;

	if (good)
		made = OPENSSL_malloc(room);
	made_bytes = room;
	good = good && made != NULL && EVP_DigestSign(context, made, &made_bytes, data, bytes) == 1;
	/* Out of memory while it encodes an ECDSA signature, OpenSSL 3.0 says 1 and 4 GiB - 1 bytes. */
	good = good && made_bytes > 0 && made_bytes <= room;
	EVP_MD_CTX_free(context);
	if (!good) {
		OPENSSL_free(made);
		ERR_clear_error();
		return -ENOMEM;
	}
	*signature = made;
	*signature_bytes = made_bytes;
	return 0;
}

int key_verify(EVP_PKEY *key, const void *data, size_t bytes, const uint8_t *signature,
	size_t signature_bytes)
{
	const EVP_MD *digest = key_is_ed25519(key) ? NULL : EVP_sha256();
	EVP_MD_CTX *context;
	bool good;
	int is_marked =
		ERR_set_mark(); /* the caller may be inside a TLS handshake with its own error queue */

	context = EVP_MD_CTX_new();
	good = context != NULL && EVP_DigestVerifyInit(context, NULL, digest, NULL, key) == 1 &&
		EVP_DigestVerify(context, signature, signature_bytes, data, bytes) == 1;
	EVP_MD_CTX_free(context);
	if (!good)
		return crypto_failure_since(is_marked, -EINVAL);
	ERR_pop_to_mark();
	return 0;
}
