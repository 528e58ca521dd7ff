/*
 * Credentials as the engine sees them: immutable DER behind an atomic count, and a serial that no
 * other credentials of the process ever had. Parsed forms belong to a shard (its OSSL_LIB_CTX) and
 * are found by that serial, so a new object at an old address is never taken for the old one.
 * Any thread. The public calls (create, get, put) are in peerhub.h.
 */
#ifndef PEERHUB_ENGINE_CREDENTIALS_H
#define PEERHUB_ENGINE_CREDENTIALS_H

#include "peerhub.h"

#include <openssl/types.h>
#include <stdbool.h>

/* RSA in range: below 2048 it is weak, above 4096 one stranger's signature costs too much. */
#define CREDENTIALS_RSA_BITS_MIN 2048
#define CREDENTIALS_RSA_BITS_MAX 4096

uint64_t credentials_serial(const struct ph_credentials *credentials); /* never 0 */
uint32_t credentials_chain_count(const struct ph_credentials *credentials); /* >= 1 */
/* Leaf first; index < credentials_chain_count. Borrowed while the caller holds a reference. */
struct ph_bytes credentials_certificate(const struct ph_credentials *credentials, uint32_t index);
/* SHA-256 over the chain's DER, 32 bytes. */
const uint8_t *credentials_digest(const struct ph_credentials *credentials);
struct ph_bytes credentials_key(const struct ph_credentials *credentials); /* PKCS #8 */

/* The key kinds that peerhub speaks: P-256, Ed25519, RSA of 2048..4096 bits with a small exponent.
 * Looks at the algorithm's name and sizes only, computes nothing. */
bool credentials_is_key_allowed(const X509 *certificate);

/* All of the bytes as one object of the library context (NULL: the default one), else NULL. The
 * error queue is the caller's to clear. */
X509 *credentials_parse_certificate(OSSL_LIB_CTX *library, struct ph_bytes der);
EVP_PKEY *credentials_parse_key(OSSL_LIB_CTX *library, struct ph_bytes der);

/*
 * What a failure of OpenSSL on this thread was: -ENOMEM if any error of its queue is want of memory, else
 * `other`. The last error alone seldom tells: a layer above names its own trouble behind it. The
 * queue is empty afterwards.
 */
int credentials_openssl_failure(int other);

#endif
