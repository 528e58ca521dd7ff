/*
 * Credentials: a certificate chain and its key, checked once, then never changed; see credentials.h.
 *
 * One block holds everything, the bytes behind the struct. Only the count changes after creation:
 * relaxed on the way up (the caller has a reference already), released on the way down and acquired
 * by the last one, so that all use of the bytes comes before the key is wiped.
 */
#include "engine/credentials.h"

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/tls.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#define CREDENTIALS_RSA_EXPONENT_BITS_MAX 32 /* 65537 and its like; larger ones only cost us time */
#define CREDENTIALS_KEY_BYTES_MAX (16u * 1024u) /* RSA-4096 takes 2.4 KiB */

struct ph_credentials {
	atomic_uint count;
	uint32_t chain_count;
	uint64_t serial;
	size_t bytes; /* of the whole block */
	uint8_t digest[SHA256_DIGEST_LENGTH]; /* of the chain */
	struct ph_bytes key;
	struct ph_bytes chain[PH_CHAIN_MAX];
	uint8_t data[];
};

/* Relaxed: only that no number is given twice matters. */
static atomic_uint_fast64_t serial_next = 1;

X509 *credentials_parse_certificate(OSSL_LIB_CTX *library, struct ph_bytes der)
{
	const uint8_t *cursor = der.data;
	X509 *certificate;

	if (der.data == NULL || der.bytes == 0 || der.bytes > TLS_CERTIFICATE_BYTES_MAX)
		return NULL;
	certificate = X509_new_ex(library, NULL);
	if (certificate == NULL)
		return NULL;
	/* On an error d2i_X509 frees the object and sets the pointer to NULL. */
	if (d2i_X509(&certificate, &cursor, (long)der.bytes) == NULL)
		return NULL;
	if (cursor != der.data + der.bytes) {
		X509_free(certificate);
		return NULL;
	}
	return certificate;
}

EVP_PKEY *credentials_parse_key(OSSL_LIB_CTX *library, struct ph_bytes der)
{
	const uint8_t *cursor = der.data;
	PKCS8_PRIV_KEY_INFO *info;
	EVP_PKEY *key = NULL;

	if (der.data == NULL || der.bytes == 0 || der.bytes > CREDENTIALS_KEY_BYTES_MAX)
		return NULL;
	info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &cursor, (long)der.bytes);
	if (info == NULL)
		return NULL;
	if (cursor == der.data + der.bytes)
		key = EVP_PKCS82PKEY_ex(info, library, NULL);
	PKCS8_PRIV_KEY_INFO_free(info);
	return key;
}

static bool is_rsa_allowed(const EVP_PKEY *key)
{
	BIGNUM *exponent = NULL;
	int bits = EVP_PKEY_get_bits(key);
	bool is_small;

	if (bits < CREDENTIALS_RSA_BITS_MIN || bits > CREDENTIALS_RSA_BITS_MAX)
		return false;
	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) != 1)
		return false;
	is_small = BN_num_bits(exponent) <= CREDENTIALS_RSA_EXPONENT_BITS_MAX;
	BN_free(exponent);
	return is_small;
}

bool credentials_is_key_allowed(const X509 *certificate)
{
	const X509_PUBKEY *public_key = X509_get_X509_PUBKEY(certificate);
	const EVP_PKEY *key = X509_get0_pubkey(certificate);
	ASN1_OBJECT *algorithm = NULL;
	const ASN1_OBJECT *curve = NULL;
	const void *parameter = NULL;
	X509_ALGOR *identifier = NULL;
	int parameter_type = V_ASN1_UNDEF;

	if (public_key == NULL || key == NULL)
		return false;
	if (X509_PUBKEY_get0_param(&algorithm, NULL, NULL, &identifier, public_key) != 1)
		return false;
	switch (OBJ_obj2nid(algorithm)) {
	case NID_X9_62_id_ecPublicKey:
		/* A curve by name only: explicit parameters are a way to smuggle in another one. */
		X509_ALGOR_get0(NULL, &parameter_type, &parameter, identifier);
		curve = parameter;
		return parameter_type == V_ASN1_OBJECT &&
			OBJ_obj2nid(curve) == NID_X9_62_prime256v1;
	case NID_ED25519:
		return true;
	case NID_rsaEncryption:
		return is_rsa_allowed(key);
	default:
		return false;
	}
}

int credentials_openssl_failure(int other)
{
	unsigned long error;
	int status = other;

	while ((error = ERR_get_error()) != 0)
		if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
			status = -ENOMEM;
	return status;
}

/* Every certificate is one, and the leaf is the key's. 0, -EINVAL, -ENOMEM. */
static int check_chain(const struct ph_bytes *chain, uint32_t chain_count, struct ph_bytes der)
{
	EVP_PKEY *key = credentials_parse_key(NULL, der);
	int status = key != NULL ? 0 : -EINVAL;

	for (uint32_t index = 0; status == 0 && index < chain_count; index++) {
		X509 *certificate = credentials_parse_certificate(NULL, chain[index]);

		if (certificate == NULL || !credentials_is_key_allowed(certificate))
			status = -EINVAL;
		else if (index == 0 && X509_check_private_key(certificate, key) != 1)
			status = -EINVAL;
		X509_free(certificate);
	}
	EVP_PKEY_free(key);
	if (status < 0)
		return credentials_openssl_failure(status);
	ERR_clear_error();
	return 0;
}

static struct ph_bytes copy_bytes(uint8_t **cursor, struct ph_bytes from)
{
	struct ph_bytes to = {*cursor, from.bytes};

	memcpy(*cursor, from.data, from.bytes);
	*cursor += from.bytes;
	return to;
}

int ph_credentials_create(const struct ph_bytes *chain, uint32_t chain_count, struct ph_bytes key,
	struct ph_credentials **credentials)
{
	struct ph_credentials *made;
	size_t bytes = sizeof(*made) + key.bytes;
	uint8_t *cursor, *begin;
	int status;

	if (chain == NULL || chain_count == 0 || chain_count > PH_CHAIN_MAX || credentials == NULL)
		return -EINVAL;
	ERR_clear_error();
	status = check_chain(chain, chain_count, key);
	if (status < 0)
		return status;
	for (uint32_t index = 0; index < chain_count; index++)
		bytes += chain[index].bytes; /* each at most TLS_CERTIFICATE_BYTES_MAX by now */
	made = memory_zalloc(bytes);
	if (made == NULL)
		return -ENOMEM;
	atomic_init(&made->count, 1);
	made->serial = atomic_fetch_add_explicit(&serial_next, 1, memory_order_relaxed);
	made->chain_count = chain_count;
	made->bytes = bytes;
	cursor = made->data;
	made->key = copy_bytes(&cursor, key);
	begin = cursor;
	for (uint32_t index = 0; index < chain_count; index++)
		made->chain[index] = copy_bytes(&cursor, chain[index]);
	SHA256(begin, (size_t)(cursor - begin), made->digest);
	assert(cursor <= (uint8_t *)made + bytes); /* padding before data[] may be left */
	*credentials = made;
	return 0;
}

struct ph_credentials *ph_credentials_get(struct ph_credentials *credentials)
{
	unsigned before = atomic_fetch_add_explicit(&credentials->count, 1, memory_order_relaxed);

	assert(before > 0);
	assert(before < UINT_MAX);
	return credentials;
}

void ph_credentials_put(struct ph_credentials *credentials)
{
	unsigned before;

	if (credentials == NULL)
		return;
	before = atomic_fetch_sub_explicit(&credentials->count, 1, memory_order_acq_rel);
	assert(before > 0);
	if (before > 1)
		return;
	OPENSSL_cleanse(credentials, credentials->bytes);
	memory_free(credentials);
}

uint64_t credentials_serial(const struct ph_credentials *credentials)
{
	return credentials->serial;
}

uint32_t credentials_chain_count(const struct ph_credentials *credentials)
{
	return credentials->chain_count;
}

struct ph_bytes credentials_certificate(const struct ph_credentials *credentials, uint32_t index)
{
	assert(index < credentials->chain_count);
	return credentials->chain[index];
}

const uint8_t *credentials_digest(const struct ph_credentials *credentials)
{
	return credentials->digest;
}

struct ph_bytes credentials_key(const struct ph_credentials *credentials)
{
	return credentials->key;
}
