/*
 * Resumption by external pre-shared keys (RFC 8446 sections 4.2.9 to 4.2.11), always with a fresh key exchange:
 * psk_ke is neither offered nor taken, as OpenSSL does on its own (SSL_OP_ALLOW_NO_DHE_KEX is off). The keys
 * come from on_resume and tls_resume; what they are bound to is the callers' business. A key that the server
 * does not find is no fault: the handshake goes on with certificates, in the same connection.
 *
 * To OpenSSL an external key is a session of ours with the key as its master secret. It names
 * TLS_AES_128_GCM_SHA256; only the hash of that counts, and both of our suites have the same one.
 */
#include "engine/tls_parts.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <openssl/crypto.h>
#include <openssl/err.h>

#include <string.h>

static const uint8_t suite[2] = {0x13, 0x01};

/* What a server's sessions are told apart by: OpenSSL insists on it where clients are verified. */
static const uint8_t session_context[] = "peerhub";

static struct tls *tls_of(const SSL *ssl)
{
	BIO *bio = SSL_get_rbio(ssl);
	struct tls_shard *shard = bio != NULL ? BIO_get_data(bio) : NULL;

	return shard != NULL ? shard->current : NULL;
}

static SSL_SESSION *session_create(SSL *ssl, const uint8_t secret[TLS_RESUME_BYTES])
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
	SSL_SESSION *session = SSL_SESSION_new();

	if (cipher != NULL && session != NULL &&
		SSL_SESSION_set1_master_key(session, secret, TLS_RESUME_BYTES) == 1 &&
		SSL_SESSION_set_cipher(session, cipher) == 1 &&
		SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

/* False: unknown, or no memory; the longer way needs more of that, and says so. */
static bool find_secret(struct tls *tls, const uint8_t *id)
{
	int status;

	tls->resumption = memory_zalloc(sizeof(*tls->resumption));
	if (tls->resumption == NULL)
		return false;
	memcpy(tls->resumption->id, id, TLS_RESUME_BYTES);
	ERR_set_mark();
	status = tls->shard->events.on_resume(tls->context, id, tls->resumption->secret);
	ERR_pop_to_mark();
	if (status < 0)
		tls_resume_drop(tls);
	return status == 0;
}

/* The server's: 0 is fatal, 1 with no session goes on with the client's next offer, or without. */
static int on_find(SSL *ssl, const unsigned char *id, size_t bytes, SSL_SESSION **session)
{
	struct tls *tls = tls_of(ssl);

	*session = NULL;
	if (tls == NULL || bytes != TLS_RESUME_BYTES)
		return 1;
	/* After a HelloRetryRequest the same offer comes again; no other is looked at then. */
	if (tls->resumption == NULL && !find_secret(tls, id))
		return 1;
	if (CRYPTO_memcmp(tls->resumption->id, id, bytes) != 0)
		return 1;
	*session = session_create(ssl, tls->resumption->secret);
	return *session != NULL;
}

/* The client's: what it offers, in the first ClientHello and in a second one. */
static int on_use(SSL *ssl, const EVP_MD *digest, const unsigned char **id, size_t *bytes,
	SSL_SESSION **session)
{
	struct tls *tls = tls_of(ssl);

	*session = NULL;
	*id = NULL;
	*bytes = 0;
	if (tls == NULL || tls->resumption == NULL ||
		(digest != NULL && !EVP_MD_is_a(digest, "SHA256")))
		return 1;
	*session = session_create(ssl, tls->resumption->secret);
	if (*session == NULL)
		return 0;
	*id = tls->resumption->id;
	*bytes = sizeof(tls->resumption->id);
	return 1;
}

void tls_resume_init(struct tls_shard *shard)
{
	SSL_CTX_set_psk_use_session_callback(shard->roles[TLS_CLIENT], on_use);
	if (shard->events.on_resume == NULL)
		return;
	(void)SSL_CTX_set_session_id_context(
		shard->roles[TLS_SERVER], session_context, sizeof(session_context) - 1);
	SSL_CTX_set_psk_find_session_callback(shard->roles[TLS_SERVER], on_find);
}

int tls_resume(struct tls *tls, const uint8_t *id, const uint8_t *secret)
{
	assert(tls->role == TLS_CLIENT);
	assert(tls->resumption == NULL);
	tls->resumption = memory_zalloc(sizeof(*tls->resumption));
	if (tls->resumption == NULL)
		return -ENOMEM;
	memcpy(tls->resumption->id, id, TLS_RESUME_BYTES);
	memcpy(tls->resumption->secret, secret, TLS_RESUME_BYTES);
	return 0;
}

bool tls_resume_was_used(const struct tls *tls)
{
	return tls->resumption != NULL && SSL_session_reused(tls->ssl) == 1;
}

void tls_resume_drop(struct tls *tls)
{
	if (tls->resumption == NULL)
		return;
	OPENSSL_cleanse(tls->resumption, sizeof(*tls->resumption));
	memory_free(tls->resumption);
	tls->resumption = NULL;
}
