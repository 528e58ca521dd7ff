/* Certificates of a run; see trust.h. */
#include "bench/million/trust.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

static X509 *certificate_create(EVP_PKEY *key, const char *authority, long serial)
{
	X509 *cert = X509_new();

	if (cert == NULL)
		return NULL;
	if (X509_set_version(cert, 2) != 1 ||
		ASN1_INTEGER_set(X509_get_serialNumber(cert), serial) != 1 ||
		X509_gmtime_adj(X509_getm_notBefore(cert), -86400) == NULL ||
		X509_gmtime_adj(X509_getm_notAfter(cert), 7 * 86400) == NULL ||
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
			(const unsigned char *)authority, -1, -1, 0) != 1 ||
		X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
		X509_set_pubkey(cert, key) != 1 || X509_sign(cert, key, EVP_sha256()) == 0) {
		X509_free(cert);
		return NULL;
	}
	return cert;
}

/* 160 bits of SHA-256 of the key, as hexadecimal digits. */
static bool authority_write(EVP_PKEY *key, char *authority)
{
	uint8_t *info = NULL, digest[SHA256_DIGEST_LENGTH];
	int bytes = i2d_PUBKEY(key, &info);

	if (bytes <= 0)
		return false;
	SHA256(info, (size_t)bytes, digest);
	OPENSSL_free(info);
	for (int at = 0; at < 20; at++)
		snprintf(authority + 2 * at, 3, "%02x", digest[at]);
	return true;
}

static int credentials_make(struct trust_identity *identity, EVP_PKEY *key)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	struct ph_bytes chain = {.data = identity->der, .bytes = identity->der_bytes};
	uint8_t *key_der = NULL;
	int key_bytes = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &key_der) : -1;
	int status = -ENOMEM;

	PKCS8_PRIV_KEY_INFO_free(info);
	if (key_bytes > 0)
		status = ph_credentials_create(&chain, 1,
			(struct ph_bytes){.data = key_der, .bytes = (size_t)key_bytes},
			&identity->credentials);
	OPENSSL_clear_free(key_der, key_bytes > 0 ? (size_t)key_bytes : 0);
	return status;
}

static int identity_create(struct trust_identity *identity, long serial)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = NULL;
	int status = -ENOMEM, bytes;

	if (key != NULL && authority_write(key, identity->authority))
		cert = certificate_create(key, identity->authority, serial);
	bytes = cert != NULL ? i2d_X509(cert, &identity->der) : -1;
	if (bytes > 0) {
		identity->der_bytes = (size_t)bytes;
		status = credentials_make(identity, key);
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	return status;
}

static void identity_fini(struct trust_identity *identity)
{
	ph_credentials_put(identity->credentials);
	OPENSSL_free(identity->der);
}

int trust_create(struct trust **made)
{
	struct trust *trust = calloc(1, sizeof(*trust));
	int status = trust != NULL ? identity_create(&trust->hub, 1) : -ENOMEM;

	for (uint32_t i = 0; i < TRUST_PEERS && status == 0; i++)
		status = identity_create(&trust->peers[i], (long)i + 2);
	if (status < 0) {
		trust_destroy(trust);
		return status;
	}
	*made = trust;
	return 0;
}

void trust_destroy(struct trust *trust)
{
	if (trust == NULL)
		return;
	identity_fini(&trust->hub);
	for (uint32_t i = 0; i < TRUST_PEERS; i++)
		identity_fini(&trust->peers[i]);
	free(trust);
}

static bool identity_is(const struct trust_identity *identity, const struct ph_bytes *der)
{
	return identity->der_bytes == der->bytes &&
		memcmp(identity->der, der->data, der->bytes) == 0;
}

const struct trust_identity *trust_find(const struct trust *trust, const struct ph_chain *chain)
{
	if (chain->count != 1)
		return NULL;
	if (identity_is(&trust->hub, &chain->der[0]))
		return &trust->hub;
	for (uint32_t i = 0; i < TRUST_PEERS; i++)
		if (identity_is(&trust->peers[i], &chain->der[0]))
			return &trust->peers[i];
	return NULL;
}
