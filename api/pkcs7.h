/*
 * PKCS #7 SignedData that carries certificates only (RFC 2315 section 9, no signers): how identity
 * texts and invitations hold their certificates, root first. Pure functions, any thread.
 */
#ifndef PEERHUB_API_PKCS7_H
#define PEERHUB_API_PKCS7_H

#include "api/certificate.h"

/* DER, malloc'd by OpenSSL: OPENSSL_free. 0 or -ENOMEM. */
int pkcs7_pack(X509 *const *leaf_first, uint32_t count, uint8_t **der, size_t *der_bytes);
/* Certificates turned to leaf first, each to be X509_free'd; at least one.
 * 0, -EINVAL (not such a SignedData), -E2BIG (more than count_max), -ENOMEM. */
int pkcs7_unpack(const uint8_t *der, size_t der_bytes, X509 **leaf_first, uint32_t count_max,
	uint32_t *count);
void pkcs7_free(X509 **chain, uint32_t count); /* X509_free for each */

#endif
