/*
 * Keys, certificates and credentials for tests, made on the spot by OpenSSL. Everything here is
 * static inline, for each test is a program of its own, and ends the program when it cannot work.
 */
#ifndef PEERHUB_TESTS_TEST_CERTS_H
#define PEERHUB_TESTS_TEST_CERTS_H

#include "peerhub.h"

#include <openssl/asn1.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum test_key {
	TEST_P256,
	TEST_ED25519,
	TEST_RSA2048,
	TEST_RSA1024,
	TEST_P384,
	TEST_P521,
};

#define TEST_MUST(condition)                                                                   \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

static inline EVP_PKEY *test_key_create(enum test_key kind)
{
	EVP_PKEY *key = NULL;

	switch (kind) {
	case TEST_P256:
		key = EVP_EC_gen("P-256");
		break;
	case TEST_ED25519:
		key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		break;
	case TEST_RSA2048:
		key = EVP_RSA_gen(2048);
		break;
	case TEST_RSA1024:
		key = EVP_RSA_gen(1024);
		break;
	case TEST_P384:
		key = EVP_EC_gen("P-384");
		break;
	case TEST_P521:
		key = EVP_EC_gen("P-521");
		break;
	}
	TEST_MUST(key != NULL);
	return key;
}

/*
 * A certificate valid for a day around now. issuer NULL: self-signed with issuer_key. ballast_bytes
 * is the size of a comment inside, to make it large.
 */
static inline X509 *test_certificate_create(
	EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key, size_t ballast_bytes)
{
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_NAME_new();
	int is_eddsa = EVP_PKEY_get_base_id(issuer_key) == EVP_PKEY_ED25519;

	TEST_MUST(certificate != NULL && subject != NULL);
	TEST_MUST(X509_set_version(certificate, X509_VERSION_3) == 1);
	TEST_MUST(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 4711) == 1);
	TEST_MUST(X509_gmtime_adj(X509_getm_notBefore(certificate), -43200) != NULL);
	TEST_MUST(X509_gmtime_adj(X509_getm_notAfter(certificate), 43200) != NULL);
	TEST_MUST(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
			  (const unsigned char *)name, -1, -1, 0) == 1);
	TEST_MUST(X509_set_subject_name(certificate, subject) == 1);
	TEST_MUST(X509_set_issuer_name(certificate,
			  issuer != NULL ? X509_get_subject_name(issuer) : subject) == 1);
	TEST_MUST(X509_set_pubkey(certificate, key) == 1);
	if (ballast_bytes > 0) {
		ASN1_OCTET_STRING *ballast = ASN1_OCTET_STRING_new();
		ASN1_OBJECT *comment = OBJ_txt2obj("2.25.1.1", 1);
		unsigned char *filler = calloc(1, ballast_bytes);
		X509_EXTENSION *extension;

		TEST_MUST(ballast != NULL && comment != NULL && filler != NULL);
		TEST_MUST(ASN1_OCTET_STRING_set(ballast, filler, (int)ballast_bytes) == 1);
		extension = X509_EXTENSION_create_by_OBJ(NULL, comment, 0, ballast);
		TEST_MUST(extension != NULL);
		TEST_MUST(X509_add_ext(certificate, extension, -1) == 1);
		X509_EXTENSION_free(extension);
		ASN1_OCTET_STRING_free(ballast);
		ASN1_OBJECT_free(comment);
		free(filler);
	}
	TEST_MUST(X509_sign(certificate, issuer_key, is_eddsa ? NULL : EVP_sha256()) > 0);
	X509_NAME_free(subject);
	return certificate;
}

/* Freed with test_bytes_free. */
static inline struct ph_bytes test_certificate_der(X509 *certificate)
{
	unsigned char *der = NULL;
	int bytes = i2d_X509(certificate, &der);

	TEST_MUST(bytes > 0);
	return (struct ph_bytes){der, (size_t)bytes};
}

static inline struct ph_bytes test_key_der(EVP_PKEY *key)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	unsigned char *der = NULL;
	int bytes;

	TEST_MUST(info != NULL);
	bytes = i2d_PKCS8_PRIV_KEY_INFO(info, &der);
	TEST_MUST(bytes > 0);
	PKCS8_PRIV_KEY_INFO_free(info);
	return (struct ph_bytes){der, (size_t)bytes};
}

static inline void test_bytes_free(struct ph_bytes bytes)
{
	OPENSSL_free((void *)(uintptr_t)bytes.data);
}

/* certificates leaf first. Returns what ph_credentials_create did. */
static inline int test_credentials_try(X509 *const *certificates, uint32_t count, EVP_PKEY *key,
	struct ph_credentials **credentials)
{
	struct ph_bytes chain[PH_CHAIN_MAX + 2], key_der = test_key_der(key);
	int status;

	TEST_MUST(count <= PH_CHAIN_MAX + 2);
	for (uint32_t index = 0; index < count; index++)
		chain[index] = test_certificate_der(certificates[index]);
	status = ph_credentials_create(chain, count, key_der, credentials);
	for (uint32_t index = 0; index < count; index++)
		test_bytes_free(chain[index]);
	test_bytes_free(key_der);
	return status;
}

static inline struct ph_credentials *test_credentials_create(
	X509 *const *certificates, uint32_t count, EVP_PKEY *key)
{
	struct ph_credentials *credentials = NULL;

	TEST_MUST(test_credentials_try(certificates, count, key, &credentials) == 0);
	return credentials;
}

/* A self-signed identity, as most tests need it. */
static inline struct ph_credentials *test_identity_create(enum test_key kind, const char *name)
{
	EVP_PKEY *key = test_key_create(kind);
	X509 *certificate = test_certificate_create(key, name, NULL, key, 0);
	struct ph_credentials *credentials = test_credentials_create(&certificate, 1, key);

	X509_free(certificate);
	EVP_PKEY_free(key);
	return credentials;
}

#endif
