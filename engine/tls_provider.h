/*
 * The library context of a shard's handshakes: OpenSSL's own algorithms, but only those that a handshake
 * of ours can use, and two small ones of ours (the key schedule of TLS 1.3 and HMAC, both on SHA-256).
 *
 * OpenSSL 3.0 looks through all that its providers offer each time it decodes a public key, and makes and
 * drops several objects for every one of the dozen secrets of a handshake. With this provider in place of the
 * standard one a handshake costs a third less and nothing outside of the shard changes.
 */
#ifndef PEERHUB_ENGINE_TLS_PROVIDER_H
#define PEERHUB_ENGINE_TLS_PROVIDER_H

#include <openssl/types.h>
#include <stdbool.h>

struct tls_library {
	OSSL_LIB_CTX *library; /* for SSL_CTX, certificates and keys */
	OSSL_PROVIDER *provider; /* in it: ours */
	OSSL_LIB_CTX *base; /* what ours is made of */
	OSSL_PROVIDER *standard; /* in base */
};

/* Any thread. False: OpenSSL refused, its error queue may say why (it does not always for want of memory);
 * tls_library_fini is still due. */
bool tls_library_init(struct tls_library *library);
void tls_library_fini(struct tls_library *library); /* all zero is allowed */

#endif
