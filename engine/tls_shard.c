/*
 * What a shard's TLS connections have in common: a library context and one SSL_CTX per role, both with
 * every option that a stranger could use against us turned off, the BIO over our buffers, and the
 * empty parts that idle connections share. See tls_parts.h.
 */
#include "engine/tls_parts.h"

#include "engine/check.h"
#include "engine/credentials.h"
#include "engine/memory.h"
#include "engine/tls_decode.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* Records under one key, below the 2^24.5 of RFC 8446 section 5.5 for AES-GCM. */
#define TLS_RECORDS_PER_KEY (1u << 23)

static const uint8_t tls_protocols[1 + TLS_PROTOCOL_BYTES + 1] = "\x09" TLS_PROTOCOL;
static_assert(TLS_PROTOCOL_BYTES == 9, "the length in front of the protocol's name");

#define RECORD_HEADER_BYTES 5u /* OpenSSL asks for it alone: we do not let it read ahead */
#define STEP_BYTES_MIN 32u /* a change of cipher spec, of 6 bytes, is no step */

/* ---- the BIO ---------------------------------------------------------------------------- */

/* Whether the next record is for another step. Should OpenSSL ask for the five bytes within a record, a
 * step ends earlier. */
static bool step_is_over(struct tls *tls, size_t bytes)
{
	tls->is_step_over = tls->is_stepping && tls->role == TLS_SERVER &&
		tls->state == TLS_STATE_HANDSHAKE && bytes == RECORD_HEADER_BYTES &&
		tls->step_bytes >= STEP_BYTES_MIN;
	return tls->is_step_over;
}

static int on_bio_read(BIO *bio, char *data, size_t bytes, size_t *done)
{
	struct tls_shard *shard = BIO_get_data(bio);
	struct tls *tls = shard->current;

	*done = 0;
	BIO_clear_retry_flags(bio);
	if (tls == NULL || tls->is_input_blocked)
		return 0;
	if (tls->input_left == 0 || step_is_over(tls, bytes)) {
		BIO_set_retry_read(bio);
		return 0;
	}
	if (bytes > tls->input_left)
		bytes = tls->input_left;
	if (tls->state == TLS_STATE_HANDSHAKE) {
		if (bytes > TLS_HANDSHAKE_BYTES_MAX - tls->handshake_bytes) {
			tls_note_failure(tls, "handshake too long");
			tls->is_input_blocked = true;
			return 0;
		}
		tls->handshake_bytes += (uint32_t)bytes;
	}
	memcpy(data, tls->input, bytes);
	tls->step_bytes += (uint32_t)bytes;
	tls->input += bytes;
	tls->input_left -= bytes;
	*done = bytes;
	return 1;
}

static int on_bio_write(BIO *bio, const char *data, size_t bytes, size_t *done)
{
	struct tls_shard *shard = BIO_get_data(bio);

	*done = 0;
	BIO_clear_retry_flags(bio);
	if (shard->current == NULL || shard->out == NULL)
		return 0;
	if (chain_append(shard->out, data, bytes) < 0) {
		shard->current->is_out_of_memory = true;
		return 0;
	}
	*done = bytes;
	return 1;
}

static long on_bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* One for the process: OpenSSL has only 127 numbers for kinds of BIO and never takes one back. What
 * failed for want of memory is tried again by the next shard. */
static BIO_METHOD *bio_method; /* written once, under the lock */
static int bio_number = -1;
static pthread_mutex_t bio_method_lock = PTHREAD_MUTEX_INITIALIZER;

static BIO_METHOD *bio_method_create(void)
{
	BIO_METHOD *method;

	if (bio_number < 0)
		bio_number = BIO_get_new_index();
	if (bio_number < 0)
		return NULL;
	method = BIO_meth_new(bio_number | BIO_TYPE_SOURCE_SINK, "peerhub buffers");
	if (method == NULL)
		return NULL;
	if (BIO_meth_set_read_ex(method, on_bio_read) != 1 ||
		BIO_meth_set_write_ex(method, on_bio_write) != 1 ||
		BIO_meth_set_ctrl(method, on_bio_control) != 1) {
		BIO_meth_free(method);
		return NULL;
	}
	return method;
}

static bool bio_method_ensure(void)
{
	bool is_there;

	pthread_mutex_lock(&bio_method_lock);
	if (bio_method == NULL)
		bio_method = bio_method_create();
	is_there = bio_method != NULL;
	pthread_mutex_unlock(&bio_method_lock);
	return is_there;
}

BIO *tls_bio_create(struct tls_shard *shard)
{
	BIO *bio = BIO_new_ex(shard->library, bio_method);

	if (bio == NULL)
		return NULL;
	BIO_set_data(bio, shard);
	BIO_set_init(bio, 1);
	return bio;
}

/* ---- messages seen ---------------------------------------------------------------------- */

static size_t get_u24(const uint8_t *at)
{
	return (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
}

/*
 * Whether a Certificate message (RFC 8446 section 4.4.2) holds more certificates than a chain may have,
 * counted without decoding any. Type and length of the message, u8 context, u24 list; each entry u24
 * certificate, u16 extensions. What does not add up is OpenSSL's to refuse.
 */
static bool has_long_chain(const uint8_t *message, size_t bytes)
{
	size_t at = 4, count = 0, extensions;

	if (bytes < at + 1 || message[0] != SSL3_MT_CERTIFICATE)
		return false;
	at += 1u + message[at] + 3u;
	while (at <= bytes && bytes - at >= 3 && count <= PH_CHAIN_MAX) {
		at += 3 + get_u24(message + at);
		if (at > bytes || bytes - at < 2)
			break;
		extensions = (size_t)(message[at] << 8 | message[at + 1]);
		at += 2 + extensions;
		count++;
	}
	return count > PH_CHAIN_MAX;
}

/* Sees every message and record header: alerts for the failure text, and floods of messages that
 * carry nothing. */
static void on_message(
	int is_sent, int version, int kind, const void *data, size_t bytes, SSL *ssl, void *context)
{
	struct tls_shard *shard = context;
	struct tls *tls = shard->current;
	const uint8_t *message = data;

	(void)version;
	(void)ssl;
	if (tls == NULL)
		return;
	if (kind == SSL3_RT_ALERT && bytes == 2) {
		uint8_t *alert = is_sent ? &tls->alert_sent : &tls->alert_received;

		*alert = (uint8_t)(message[1] + 1);
	} else if (kind == SSL3_RT_HANDSHAKE && !is_sent && tls->state == TLS_STATE_OPEN) {
		tls->post_debt += RECORD_POST_COST;
		if (tls->post_debt > RECORD_POST_DEBT_MAX) {
			tls_note_failure(tls, "too many key updates");
			tls->is_input_blocked = true; /* no further record is read */
		}
	} else if (kind == SSL3_RT_HANDSHAKE && !is_sent && has_long_chain(message, bytes)) {
		/* OpenSSL decodes all of them before on_verify may count, 0.1 ms each: a context that
		 * cannot be ends that. This is its own message buffer, before it is parsed; were it a
		 * copy, check_chain would refuse later. */
		tls_note_failure(tls, "certificate chain too long");
		*(uint8_t *)(uintptr_t)(message + 4) = 0xff;
	}
}

/* ---- what idle connections share -------------------------------------------------------- */

/* How contexts, sessions and methods hang together was read in, and is tested with, this series. */
static bool is_sharing_known(void)
{
	return OPENSSL_version_major() == 3 && OPENSSL_version_minor() == 0;
}

/*
 * One SSL a role that was never connected: its session and CERT are empty. It belongs to a context of
 * the exact method (TLS 1.3, this role) that OpenSSL gave the connection, for SSL_set_session starts
 * the protocol anew when the two differ.
 */
SSL *tls_settled_find(struct tls_shard *shard, enum tls_role role, const SSL *ssl)
{
	SSL_SESSION *session;
	SSL_CTX *context;
	SSL *settled;

	if (!is_sharing_known())
		return NULL;
	if (shard->settled[role] != NULL)
		return shard->settled[role];
	context = SSL_CTX_new_ex(shard->library, NULL, SSL_get_ssl_method(ssl));
	if (context == NULL)
		return NULL;
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	settled = SSL_new(context); /* holds the context from here on */
	SSL_CTX_free(context);
	session = SSL_SESSION_new();
	if (settled == NULL || session == NULL ||
		SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1 ||
		SSL_set_session(settled, session) != 1) {
		SSL_free(settled);
		settled = NULL;
	}
	SSL_SESSION_free(session);
	shard->settled[role] = settled;
	return settled;
}

/* ---- a shard ---------------------------------------------------------------------------- */

#define SUITES 2 /* AES-128-GCM and ChaCha20-Poly1305 */

/*
 * OpenSSL 3.0 leaves out of a context, silently, every algorithm that it had no memory for when it looked:
 * such a context would refuse each handshake with "no ciphers available". Better no context.
 */
static bool role_is_whole(SSL_CTX *role)
{
	SSL *ssl = SSL_new(role);
	STACK_OF(SSL_CIPHER) *ciphers = ssl != NULL ? SSL_get1_supported_ciphers(ssl) : NULL;
	bool is_whole = ciphers != NULL && sk_SSL_CIPHER_num(ciphers) == SUITES;

	sk_SSL_CIPHER_free(ciphers);
	SSL_free(ssl);
	return is_whole;
}

static SSL_CTX *create_role(struct tls_shard *shard, const SSL_METHOD *method)
{
	SSL_CTX *role = SSL_CTX_new_ex(shard->library, NULL, method);

	if (role == NULL)
		return NULL;
	SSL_CTX_set_security_level(role, 2); /* 112 bits: RSA 2048 and up, no SHA-1 */
	SSL_CTX_set_options(role,
		SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
			SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(role, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_clear_mode(role, SSL_MODE_AUTO_RETRY); /* so that we count each message */
	SSL_CTX_set_session_cache_mode(role, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_cert_list(role, TLS_HANDSHAKE_BYTES_MAX);
	SSL_CTX_set_verify(role, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(role, tls_on_verify, shard);
	if (shard->records != NULL)
		SSL_CTX_set_keylog_callback(role, tls_on_secret);
	SSL_CTX_set_msg_callback(role, on_message);
	SSL_CTX_set_msg_callback_arg(role, shard);
	if (SSL_CTX_set_min_proto_version(role, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_max_proto_version(role, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_num_tickets(role, 0) != 1 || SSL_CTX_set_max_early_data(role, 0) != 1 ||
		SSL_CTX_set_ciphersuites(
			role, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") != 1 ||
		SSL_CTX_set1_groups_list(role, "X25519:P-256") != 1 ||
		SSL_CTX_set1_sigalgs_list(
			role, "ecdsa_secp256r1_sha256:ed25519:rsa_pss_rsae_sha256") != 1 ||
		!role_is_whole(role)) {
		SSL_CTX_free(role);
		return NULL;
	}
	return role;
}

static bool create_roles(struct tls_shard *shard)
{
	shard->roles[TLS_CLIENT] = create_role(shard, TLS_client_method());
	shard->roles[TLS_SERVER] = create_role(shard, TLS_server_method());
	if (shard->roles[TLS_CLIENT] == NULL || shard->roles[TLS_SERVER] == NULL)
		return false;
	/* Unlike its relatives this one returns 0 for success. */
	if (SSL_CTX_set_alpn_protos(
		    shard->roles[TLS_CLIENT], tls_protocols, 1 + TLS_PROTOCOL_BYTES) != 0)
		return false;
	SSL_CTX_set_alpn_select_cb(shard->roles[TLS_SERVER], tls_on_protocol, shard);
	SSL_CTX_set_client_hello_cb(shard->roles[TLS_SERVER], tls_on_client_hello, shard);
	tls_resume_init(shard);
	return true;
}

/* Why a shard's TLS cannot be made; empties the error queue. Without memory OpenSSL may report nothing at
 * all. */
static int create_failure(void)
{
	return ERR_peek_error() == 0 ? -ENOMEM : credentials_openssl_failure(-EIO);
}

int tls_shard_create(const struct tls_events *events, uint32_t flags, struct tls_shard **made)
{
	struct tls_shard *shard;
	int status;

	assert(events->on_hello != NULL);
	assert(events->on_verify != NULL);
	ERR_clear_error();
	/* Its default context is made once in a process. Where there was no memory for it, there is none for
	 * ever, and OpenSSL 3.0 crashes in whatever uses it. */
	if (OSSL_LIB_CTX_get0_global_default() == NULL || !bio_method_ensure())
		return create_failure();
	if ((flags & PH_HUB_TLS_FAST_DECODE) != 0)
		(void)tls_decode_enable(); /* the plain path does the same, slower */
	shard = memory_zalloc(sizeof(*shard));
	if (shard == NULL)
		return -ENOMEM;
	shard->events = *events;
	shard->records_per_key = TLS_RECORDS_PER_KEY;
	ERR_clear_error();
	if (!tls_library_init(&shard->made))
		goto undo;
	shard->library = shard->made.library;
	if ((flags & PH_HUB_TLS_OPENSSL) == 0 &&
		record_shard_create(shard->library, &shard->records) < 0)
		goto undo;
	if (!create_roles(shard))
		goto undo;
	shard->bio = tls_bio_create(shard);
	if (shard->bio == NULL)
		goto undo;
	*made = shard;
	return 0;

undo:
	status = create_failure();
	tls_shard_destroy(shard);
	return status;
}

void tls_shard_destroy(struct tls_shard *shard)
{
	if (shard == NULL)
		return;
	assert(shard->current == NULL);
	tls_parsed_clear(shard);
	SSL_free(shard->settled[TLS_CLIENT]);
	SSL_free(shard->settled[TLS_SERVER]);
	BIO_free(shard->bio);
	SSL_CTX_free(shard->roles[TLS_CLIENT]);
	SSL_CTX_free(shard->roles[TLS_SERVER]);
	record_shard_destroy(shard->records);
	tls_library_fini(&shard->made);
	memory_free(shard);
}

void tls_shard_rekey_after(struct tls_shard *shard, uint64_t records)
{
	assert(records > 0);
	shard->records_per_key = records;
}
