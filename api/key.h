/*
 * Keys: P-256 pairs, made and carried as DER, and the public keys that certificates may hold
 * (P-256 uncompressed, Ed25519). Private bytes are wiped before their memory is given back.
 * Pure functions, any thread.
 */
#ifndef PEERHUB_API_KEY_H
#define PEERHUB_API_KEY_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_SPKI_BYTES_MAX 128u /* P-256 is 91, Ed25519 44 */
#define KEY_DER_BYTES_MAX 1024u /* PKCS #8 of the kinds we hold is under 200 */

EVP_PKEY *key_create(void); /* P-256; NULL = no memory or no randomness */
bool key_is_allowed(EVP_PKEY *key); /* P-256 or Ed25519 */
bool key_is_ed25519(EVP_PKEY *key);

/* PKCS #8 PrivateKeyInfo (RFC 5208), malloc'd; free with key_der_free. 0 or -ENOMEM. */
int key_to_der(EVP_PKEY *key, uint8_t **der, size_t *der_bytes);
void key_der_free(uint8_t *der, size_t der_bytes); /* wipes; NULL allowed */
/* 0; -EINVAL: not exactly one key of an allowed kind; -ENOMEM. *key is NULL then. */
int key_from_der(const uint8_t *der, size_t der_bytes, EVP_PKEY **key);

/* DER SubjectPublicKeyInfo of a pair; 0, -EINVAL (not an allowed kind), -ENOMEM. */
int key_spki(EVP_PKEY *key, uint8_t spki[KEY_SPKI_BYTES_MAX], size_t *spki_bytes);
/* The same from a certificate's key field, without any public-key work; -EINVAL also when its
 * algorithm, parameters or length are not exactly those of an allowed kind. */
int key_spki_of_field(
	const X509_PUBKEY *field, uint8_t spki[KEY_SPKI_BYTES_MAX], size_t *spki_bytes);
/* Is it the DER of an allowed public key, byte for byte as key_spki writes it? */
bool key_spki_is_valid(const uint8_t *spki, size_t spki_bytes);
/* A valid one that OpenSSL could not make a key of, and it keeps the reason to itself: -EINVAL when it is
 * no point of the curve, else -ENOMEM. */
int key_spki_failure(const uint8_t *spki, size_t spki_bytes);
/* The key bits inside a valid SubjectPublicKeyInfo, and whether it is Ed25519. */
const uint8_t *key_spki_bits(
	const uint8_t *spki, size_t spki_bytes, size_t *bits_bytes, bool *is_ed25519);

/* Sign and check with ECDSA-SHA256 or Ed25519, by the key's kind. *signature is OPENSSL_malloc'd.
 * key_sign: 0 or -ENOMEM. */
int key_sign(EVP_PKEY *key, const void *data, size_t bytes, uint8_t **signature,
	size_t *signature_bytes);
/* 0: it is that key's; -EINVAL: it is not; -ENOMEM: nobody knows. */
int key_verify(EVP_PKEY *key, const void *data, size_t bytes, const uint8_t *signature,
	size_t signature_bytes);

#endif
