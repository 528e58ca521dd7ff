/*
 * TLS 1.3 by OpenSSL over our own buffers; see tls.h.
 *
 * OpenSSL reads and writes through one BIO whose two ends are the slice and the chain of the call in
 * progress. tls_enter names that call's connection in shard->current, tls_leave takes it back; both
 * belong to one thread, and OpenSSL calls us back only in between. So all callbacks get the shard as
 * their argument and no SSL object carries data of ours.
 *
 * After the handshake an idle connection keeps its keys and little else: the certificates, the
 * session and the connection's own BIO are given back in tls_settle.
 *
 * The error queue is empty whenever OpenSSL is entered, and what a callback of ours (or of those who
 * gave it to us) leaves there is taken away again, so an error found there is that call's own.
 */
#include "engine/tls.h"

#include "engine/check.h"
#include "engine/credentials.h"
#include "engine/memory.h"
#include "engine/tls_decode.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Parsed credentials of a shard: one for each identity that a process serves, as a rule one. */
#define TLS_CREDENTIALS_CACHED 32u
/* Messages (KeyUpdate, NewSessionTicket) since the last application data: an honest peer sends one
 * KeyUpdate in many gigabytes, and any server at most a few tickets after its handshake. */
#define TLS_POST_MESSAGES_MAX 32u
/* Records under one key, below the 2^24.5 of RFC 8446 section 5.5 for AES-GCM. */
#define TLS_RECORDS_PER_KEY (1u << 23)
/* Measured (tests/engine/tls_test.c prints it): what OpenSSL holds for a connection beside us. */
#define TLS_IDLE_BYTES 12288u
#define TLS_HANDSHAKE_HELD_BYTES 49152u

static const uint8_t tls_protocols[] = {9, 'p', 'e', 'e', 'r', 'h', 'u', 'b', '/', '1'};
#define TLS_PROTOCOL (tls_protocols + 1)
#define TLS_PROTOCOL_BYTES (sizeof(tls_protocols) - 1)

struct parsed {
	uint64_t serial; /* 0: empty */
	uint64_t used; /* the least is given up first */
	X509 *leaf;
	STACK_OF(X509) * issuers;
	EVP_PKEY *key;
};

struct tls_shard {
	struct tls_events events;
	OSSL_LIB_CTX *library;
	OSSL_PROVIDER *provider;
	SSL_CTX *roles[2]; /* by enum tls_role */
	BIO *bio; /* of every connection whose handshake is done */
	SSL *settled[2]; /* by role: whose context, session and certificates an idle one shares */
	struct tls *current; /* NULL outside of OpenSSL */
	struct chain *out; /* of the call in progress */
	uint64_t uses;
	uint64_t records_per_key;
	struct parsed parsed[TLS_CREDENTIALS_CACHED];
};

enum tls_state {
	TLS_STATE_HANDSHAKE,
	TLS_STATE_OPEN,
	TLS_STATE_FAILED, /* OpenSSL is not entered any more, but to free */
};

struct tls {
	struct tls_shard *shard;
	SSL *ssl;
	void *context;
	const uint8_t *input;
	size_t input_left;
	const char *failure; /* static text of ours, when OpenSSL's own says less */
	unsigned long error; /* OpenSSL's first */
	uint64_t records_written; /* under the present key */
	uint32_t handshake_bytes;
	uint16_t post_messages;
	uint8_t role; /* enum tls_role */
	uint8_t state; /* enum tls_state */
	uint8_t refused; /* enum tls_refused */
	uint8_t alert_sent, alert_received; /* description + 1, 0 = none */
	bool has_hello; /* the first ClientHello was answered */
	bool has_goodbye; /* we sent close_notify */
	bool is_input_blocked; /* the BIO gives nothing any more */
	bool is_out_of_memory;
};

/* ---- entering and leaving OpenSSL ------------------------------------------------------- */

static void tls_enter(struct tls *tls, struct chain *out)
{
	struct tls_shard *shard = tls->shard;

	assert(shard->current == NULL);
	shard->current = tls;
	shard->out = out;
	ERR_clear_error();
}

static void tls_leave(struct tls *tls)
{
	struct tls_shard *shard = tls->shard;

	assert(shard->current == tls);
	shard->current = NULL;
	shard->out = NULL;
	ERR_clear_error();
}

static void note_failure(struct tls *tls, const char *failure)
{
	if (tls->failure == NULL)
		tls->failure = failure;
}

/* Still inside: reads the error queue. Returns TLS_FAILED or TLS_NO_MEMORY. */
static int tls_fail(struct tls *tls)
{
	unsigned long error = ERR_peek_error();

	if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE ||
		ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE)
		tls->is_out_of_memory = true;
	tls->error = error;
	tls->state = TLS_STATE_FAILED;
	return tls->is_out_of_memory ? TLS_NO_MEMORY : TLS_FAILED;
}

static int tls_failed_before(const struct tls *tls)
{
	return tls->is_out_of_memory ? TLS_NO_MEMORY : TLS_FAILED;
}

/* ---- the BIO ---------------------------------------------------------------------------- */

static int on_bio_read(BIO *bio, char *data, size_t bytes, size_t *done)
{
	struct tls_shard *shard = BIO_get_data(bio);
	struct tls *tls = shard->current;

	*done = 0;
	BIO_clear_retry_flags(bio);
	if (tls == NULL || tls->is_input_blocked)
		return 0;
	if (tls->input_left == 0) {
		BIO_set_retry_read(bio);
		return 0;
	}
	if (bytes > tls->input_left)
		bytes = tls->input_left;
	if (tls->state == TLS_STATE_HANDSHAKE) {
		if (bytes > TLS_HANDSHAKE_BYTES_MAX - tls->handshake_bytes) {
			note_failure(tls, "handshake too long");
			tls->is_input_blocked = true;
			return 0;
		}
		tls->handshake_bytes += (uint32_t)bytes;
	}
	memcpy(data, tls->input, bytes);
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

/* One for the process: OpenSSL has only 127 numbers for kinds of BIO and never takes one back. */
static BIO_METHOD *bio_method;
static pthread_once_t bio_method_once = PTHREAD_ONCE_INIT;

static void create_bio_method(void)
{
	BIO_METHOD *method;
	int number = BIO_get_new_index();

	if (number < 0)
		return;
	method = BIO_meth_new(number | BIO_TYPE_SOURCE_SINK, "peerhub buffers");
	if (method == NULL)
		return;
	if (BIO_meth_set_read_ex(method, on_bio_read) != 1 ||
		BIO_meth_set_write_ex(method, on_bio_write) != 1 ||
		BIO_meth_set_ctrl(method, on_bio_control) != 1) {
		BIO_meth_free(method);
		return;
	}
	bio_method = method;
}

static BIO *create_bio(struct tls_shard *shard)
{
	BIO *bio = BIO_new_ex(shard->library, bio_method);

	if (bio == NULL)
		return NULL;
	BIO_set_data(bio, shard);
	BIO_set_init(bio, 1);
	return bio;
}

/* ---- credentials ------------------------------------------------------------------------ */

static void parsed_fini(struct parsed *parsed)
{
	X509_free(parsed->leaf);
	sk_X509_pop_free(parsed->issuers, X509_free);
	EVP_PKEY_free(parsed->key);
	*parsed = (struct parsed){0};
}

/* 0, -EINVAL, -ENOMEM. */
static int parsed_init(
	struct tls_shard *shard, struct parsed *parsed, const struct ph_credentials *credentials)
{
	uint32_t count = credentials_chain_count(credentials);

	*parsed = (struct parsed){.serial = credentials_serial(credentials)};
	parsed->key = credentials_parse_key(shard->library, credentials_key(credentials));
	parsed->leaf = credentials_parse_certificate(
		shard->library, credentials_certificate(credentials, 0));
	parsed->issuers = sk_X509_new_null();
	if (parsed->key == NULL || parsed->leaf == NULL || parsed->issuers == NULL)
		goto undo;
	for (uint32_t index = 1; index < count; index++) {
		X509 *issuer = credentials_parse_certificate(
			shard->library, credentials_certificate(credentials, index));

		if (issuer == NULL)
			goto undo;
		if (sk_X509_push(parsed->issuers, issuer) == 0) {
			X509_free(issuer);
			goto undo;
		}
	}
	return 0;

undo:
	parsed_fini(parsed);
	return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EINVAL;
}

static int parsed_find(struct tls_shard *shard, const struct ph_credentials *credentials,
	const struct parsed **found)
{
	uint64_t serial = credentials_serial(credentials);
	struct parsed *oldest = &shard->parsed[0], fresh;
	int status;

	for (uint32_t index = 0; index < TLS_CREDENTIALS_CACHED; index++) {
		struct parsed *parsed = &shard->parsed[index];

		if (parsed->serial == serial) {
			parsed->used = ++shard->uses;
			*found = parsed;
			return 0;
		}
		if (parsed->used < oldest->used)
			oldest = parsed;
	}
	status = parsed_init(shard, &fresh, credentials);
	if (status < 0)
		return status;
	parsed_fini(oldest); /* connections that use it hold references of their own */
	*oldest = fresh;
	oldest->used = ++shard->uses;
	*found = oldest;
	return 0;
}

/* 0, -EINVAL, -ENOMEM. */
static int use_credentials(
	struct tls_shard *shard, SSL *ssl, const struct ph_credentials *credentials)
{
	const struct parsed *parsed;
	int status = parsed_find(shard, credentials, &parsed);

	if (status < 0)
		return status;
	if (SSL_use_cert_and_key(ssl, parsed->leaf, parsed->key, parsed->issuers, 1) == 1)
		return 0;
	return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EINVAL;
}

/* ---- the server's ClientHello ----------------------------------------------------------- */

/*
 * RFC 6066 section 3: a list (u16 bytes) of one entry: u8 type 0 (host name), u16 bytes, name. sni has
 * room for PH_SNI_BYTES_MAX and a NUL. Absent is "". False if malformed.
 */
static bool parse_sni(SSL *ssl, char *sni)
{
	const unsigned char *data = NULL;
	size_t bytes = 0, name_bytes;

	sni[0] = 0;
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &bytes) != 1)
		return true;
	if (bytes < 5 || (size_t)(data[0] << 8 | data[1]) != bytes - 2 || data[2] != 0)
		return false;
	name_bytes = (size_t)(data[3] << 8 | data[4]);
	if (name_bytes != bytes - 5 || name_bytes == 0 || name_bytes > PH_SNI_BYTES_MAX)
		return false;
	for (size_t index = 0; index < name_bytes; index++)
		if (data[5 + index] <= 0x20 || data[5 + index] >= 0x7F)
			return false; /* names are ASCII: no NUL, no control bytes reach a log */
	memcpy(sni, data + 5, name_bytes);
	sni[name_bytes] = 0;
	return true;
}

/* Returns 0 or the alert to send. */
static int answer_hello(struct tls *tls)
{
	struct ph_credentials *credentials = NULL;
	char sni[PH_SNI_BYTES_MAX + 1];
	int status;

	if (!parse_sni(tls->ssl, sni)) {
		note_failure(tls, "malformed server name");
		return SSL_AD_DECODE_ERROR;
	}
	if (tls->shard->events.on_hello(tls->context, sni, &credentials) < 0 ||
		credentials == NULL) {
		tls->refused = TLS_REFUSED_HELLO;
		note_failure(tls, "server name refused");
		return SSL_AD_UNRECOGNIZED_NAME;
	}
	status = use_credentials(tls->shard, tls->ssl, credentials);
	ph_credentials_put(credentials);
	if (status == 0)
		return 0;
	tls->is_out_of_memory = status == -ENOMEM;
	note_failure(tls, "own credentials cannot be used");
	return SSL_AD_INTERNAL_ERROR;
}

/* Runs again for the second ClientHello after a HelloRetryRequest: the first one's name counts. */
static int on_client_hello(SSL *ssl, int *alert, void *context)
{
	struct tls_shard *shard = context;
	struct tls *tls = shard->current;

	(void)ssl;
	assert(tls != NULL);
	if (tls->has_hello)
		return SSL_CLIENT_HELLO_SUCCESS;
	tls->has_hello = true;
	ERR_set_mark();
	*alert = answer_hello(tls);
	ERR_pop_to_mark();
	return *alert == 0 ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
}

/* Only called when the client offers protocols at all. */
static int on_protocol(SSL *ssl, const unsigned char **selected, unsigned char *selected_bytes,
	const unsigned char *offered, unsigned int offered_bytes, void *context)
{
	struct tls_shard *shard = context;
	unsigned int at = 0;

	(void)ssl;
	while (at < offered_bytes && offered[at] < offered_bytes - at) {
		if (offered[at] == TLS_PROTOCOL_BYTES &&
			memcmp(offered + at + 1, TLS_PROTOCOL, TLS_PROTOCOL_BYTES) == 0) {
			*selected = TLS_PROTOCOL;
			*selected_bytes = TLS_PROTOCOL_BYTES;
			return SSL_TLSEXT_ERR_OK;
		}
		at += 1u + offered[at];
	}
	note_failure(shard->current, "no common application protocol");
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- the peer's chain ------------------------------------------------------------------- */

/* The limits, none of which costs a signature. NULL, or what is wrong; *bytes is the chain's DER. */
static const char *check_chain(STACK_OF(X509) * certificates, size_t *bytes)
{
	int count = sk_X509_num(certificates);

	*bytes = 0;
	if (count < 1)
		return "no certificate";
	if (count > (int)PH_CHAIN_MAX)
		return "certificate chain too long";
	for (int index = 0; index < count; index++) {
		X509 *certificate = sk_X509_value(certificates, index);
		int size = i2d_X509(certificate, NULL);

		if (size <= 0)
			return "certificate cannot be encoded";
		if ((uint32_t)size > TLS_CERTIFICATE_BYTES_MAX)
			return "certificate too large";
		if (!credentials_is_key_allowed(certificate))
			return "key kind not allowed";
		*bytes += (size_t)size;
	}
	return NULL;
}

/* data has room for all of them, as check_chain counted. */
static bool fill_chain(struct ph_chain *chain, STACK_OF(X509) * certificates, uint8_t *data)
{
	*chain = (struct ph_chain){.count = (uint32_t)sk_X509_num(certificates)};
	for (uint32_t index = 0; index < chain->count; index++) {
		X509 *certificate = sk_X509_value(certificates, (int)index);
		uint8_t *begin = data;
		int size = i2d_X509(certificate, &data);

		if (size <= 0)
			return false;
		chain->der[index] = (struct ph_bytes){begin, (size_t)size};
		chain->x509[index] = certificate;
	}
	return true;
}

/* Returns X509_V_OK or an error whose alert goes to the peer. */
static int judge_chain(struct tls *tls, STACK_OF(X509) * certificates)
{
	struct ph_chain chain;
	size_t bytes;
	const char *failure = check_chain(certificates, &bytes);
	uint8_t *data;
	bool is_full;
	int status = -EPROTO;

	if (failure != NULL) {
		note_failure(tls, failure);
		return X509_V_ERR_CERT_REJECTED;
	}
	data = memory_alloc(bytes);
	if (data == NULL) {
		tls->is_out_of_memory = true;
		return X509_V_ERR_OUT_OF_MEM;
	}
	is_full = fill_chain(&chain, certificates, data);
	if (is_full)
		status = tls->shard->events.on_verify(tls->context, &chain);
	memory_free(data);
	if (!is_full)
		return X509_V_ERR_CERT_REJECTED;
	if (status >= 0)
		return X509_V_OK;
	tls->refused = TLS_REFUSED_VERIFY;
	note_failure(tls, "certificate chain refused");
	return X509_V_ERR_APPLICATION_VERIFICATION;
}

static int on_verify_chain(X509_STORE_CTX *store, void *context)
{
	struct tls_shard *shard = context;
	int error;

	assert(shard->current != NULL);
	ERR_set_mark();
	error = judge_chain(shard->current, X509_STORE_CTX_get0_untrusted(store));
	ERR_pop_to_mark();
	X509_STORE_CTX_set_error(store, error);
	return error == X509_V_OK;
}

/* ---- messages seen ---------------------------------------------------------------------- */

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
		tls->post_messages++;
		if (tls->post_messages > TLS_POST_MESSAGES_MAX) {
			note_failure(tls, "too many key updates");
			tls->is_input_blocked = true; /* no further record is read */
		}
	}
}

/* ---- a shard ---------------------------------------------------------------------------- */

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
	SSL_CTX_set_cert_verify_callback(role, on_verify_chain, shard);
	SSL_CTX_set_msg_callback(role, on_message);
	SSL_CTX_set_msg_callback_arg(role, shard);
	if (SSL_CTX_set_min_proto_version(role, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_max_proto_version(role, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_num_tickets(role, 0) != 1 || SSL_CTX_set_max_early_data(role, 0) != 1 ||
		SSL_CTX_set_ciphersuites(
			role, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") != 1 ||
		SSL_CTX_set1_groups_list(role, "X25519:P-256") != 1 ||
		SSL_CTX_set1_sigalgs_list(
			role, "ecdsa_secp256r1_sha256:ed25519:rsa_pss_rsae_sha256") != 1) {
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
		    shard->roles[TLS_CLIENT], tls_protocols, sizeof(tls_protocols)) != 0)
		return false;
	SSL_CTX_set_alpn_select_cb(shard->roles[TLS_SERVER], on_protocol, shard);
	SSL_CTX_set_client_hello_cb(shard->roles[TLS_SERVER], on_client_hello, shard);
	return true;
}

int tls_shard_create(const struct tls_events *events, uint32_t flags, struct tls_shard **made)
{
	struct tls_shard *shard;
	int status;

	assert(events->on_hello != NULL);
	assert(events->on_verify != NULL);
	if (pthread_once(&bio_method_once, create_bio_method) != 0 || bio_method == NULL)
		return -EIO;
	if ((flags & PH_HUB_TLS_FAST_DECODE) != 0)
		(void)tls_decode_enable(); /* the plain path does the same, slower */
	shard = memory_zalloc(sizeof(*shard));
	if (shard == NULL)
		return -ENOMEM;
	shard->events = *events;
	shard->records_per_key = TLS_RECORDS_PER_KEY;
	ERR_clear_error();
	shard->library = OSSL_LIB_CTX_new();
	if (shard->library == NULL)
		goto undo;
	shard->provider = OSSL_PROVIDER_load(shard->library, "default");
	if (shard->provider == NULL || !create_roles(shard))
		goto undo;
	shard->bio = create_bio(shard);
	if (shard->bio == NULL)
		goto undo;
	*made = shard;
	return 0;

undo:
	status = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EIO;
	ERR_clear_error();
	tls_shard_destroy(shard);
	return status;
}

void tls_shard_destroy(struct tls_shard *shard)
{
	if (shard == NULL)
		return;
	assert(shard->current == NULL);
	for (uint32_t index = 0; index < TLS_CREDENTIALS_CACHED; index++)
		parsed_fini(&shard->parsed[index]);
	SSL_free(shard->settled[TLS_CLIENT]);
	SSL_free(shard->settled[TLS_SERVER]);
	BIO_free(shard->bio);
	SSL_CTX_free(shard->roles[TLS_CLIENT]);
	SSL_CTX_free(shard->roles[TLS_SERVER]);
	if (shard->provider != NULL)
		OSSL_PROVIDER_unload(shard->provider);
	OSSL_LIB_CTX_free(shard->library);
	memory_free(shard);
}

void tls_shard_rekey_after(struct tls_shard *shard, uint64_t records)
{
	assert(records > 0);
	shard->records_per_key = records;
}

/* ---- a connection ----------------------------------------------------------------------- */

static int open_client(struct tls *tls, const struct ph_credentials *credentials, const char *sni)
{
	if (credentials == NULL)
		return -EINVAL;
	if (sni != NULL && sni[0] != 0) {
		if (strlen(sni) > PH_SNI_BYTES_MAX)
			return -EINVAL;
		if (SSL_set_tlsext_host_name(tls->ssl, sni) != 1)
			return -ENOMEM;
	}
	SSL_set_connect_state(tls->ssl);
	return use_credentials(tls->shard, tls->ssl, credentials);
}

int tls_open(struct tls_shard *shard, enum tls_role role, struct ph_credentials *credentials,
	const char *sni, void *context, struct tls **made)
{
	struct tls *tls = memory_zalloc(sizeof(*tls));
	int status = -ENOMEM;
	BIO *bio;

	if (tls == NULL)
		return -ENOMEM;
	ERR_clear_error();
	tls->shard = shard;
	tls->role = role;
	tls->context = context;
	tls->ssl = SSL_new(shard->roles[role]);
	if (tls->ssl == NULL)
		goto undo;
	/* Its own until the handshake is done: OpenSSL chains a buffer to it until then. */
	bio = create_bio(shard);
	if (bio == NULL)
		goto undo;
	SSL_set_bio(tls->ssl, bio, bio);
	if (role == TLS_SERVER) {
		SSL_set_accept_state(tls->ssl);
		status = 0;
	} else {
		status = open_client(tls, credentials, sni);
	}
	if (status < 0)
		goto undo;
	ERR_clear_error();
	*made = tls;
	return 0;

undo:
	ERR_clear_error();
	tls_destroy(tls);
	return status;
}

void tls_destroy(struct tls *tls)
{
	if (tls == NULL)
		return;
	assert(tls->shard->current == NULL);
	SSL_free(tls->ssl);
	memory_free(tls);
}

void tls_input(struct tls *tls, const uint8_t *data, size_t bytes)
{
	assert(tls->input_left == 0);
	assert(data != NULL || bytes == 0);
	tls->input = data;
	tls->input_left = bytes;
}

size_t tls_input_left(const struct tls *tls)
{
	return tls->input_left;
}

void tls_input_drop(struct tls *tls)
{
	tls->input = NULL;
	tls->input_left = 0;
}

/*
 * One SSL a role that was never connected: its session and CERT are empty. It belongs to a context of
 * the exact method (TLS 1.3, this role) that OpenSSL gave the connection, for SSL_set_session starts
 * the protocol anew when the two differ.
 */
static SSL *settled_find(struct tls_shard *shard, enum tls_role role, const SSL *ssl)
{
	SSL_SESSION *session;
	SSL_CTX *context;
	SSL *settled;

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

/* How contexts, sessions and methods hang together was read in, and is tested with, this series. */
static bool is_sharing_known(void)
{
	return OPENSSL_version_major() == 3 && OPENSSL_version_minor() == 0;
}

/*
 * The handshake is done: give back what only it needed. The peer's certificates hang on the session,
 * ours on the CERT, and of both nothing is used any more: there is no resumption, and the traffic keys
 * are elsewhere. A failure to give back is no failure of the connection.
 */
static void tls_settle(struct tls *tls)
{
	struct tls_shard *shard = tls->shard;
	STACK_OF(X509) *peers = SSL_get_peer_cert_chain(tls->ssl);
	SSL *settled = is_sharing_known() ? settled_find(shard, tls->role, tls->ssl) : NULL;

	tls->state = TLS_STATE_OPEN;
	tls->post_messages = 0;
	while (sk_X509_num(peers) > 0)
		X509_free(sk_X509_pop(peers));
	SSL_certs_clear(tls->ssl);
	(void)SSL_set_alpn_protos(tls->ssl, NULL, 0);
	if (settled != NULL && SSL_set_SSL_CTX(tls->ssl, SSL_get_SSL_CTX(settled)) != NULL)
		(void)SSL_copy_session_id(tls->ssl, settled);
	if (BIO_up_ref(shard->bio) == 1)
		SSL_set_bio(tls->ssl, shard->bio, shard->bio);
}

/* The server may leave the protocol open (openssl s_server); another one than ours it cannot mean. */
static bool is_protocol_ours(const struct tls *tls)
{
	const unsigned char *selected = NULL;
	unsigned int bytes = 0;

	SSL_get0_alpn_selected(tls->ssl, &selected, &bytes);
	return bytes == 0 ||
		(bytes == TLS_PROTOCOL_BYTES &&
			memcmp(selected, TLS_PROTOCOL, TLS_PROTOCOL_BYTES) == 0);
}

/* Inside: what a call that made no progress means. 0: go on, there is input. */
static int tls_result(struct tls *tls, int returned)
{
	switch (SSL_get_error(tls->ssl, returned)) {
	case SSL_ERROR_WANT_READ:
		if (tls->is_input_blocked)
			return tls_fail(tls);
		return tls->input_left > 0 ? 0 : TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	case SSL_ERROR_SYSCALL:
		/* After our close_notify OpenSSL drops a message of the peer and says it so. */
		if (tls->has_goodbye && !tls->is_input_blocked && !tls->is_out_of_memory &&
			ERR_peek_error() == 0)
			return tls->input_left > 0 ? 0 : TLS_AGAIN;
		return tls_fail(tls);
	default:
		return tls_fail(tls);
	}
}

int tls_handshake(struct tls *tls, struct chain *out)
{
	int status = 0, returned;

	if (tls->state == TLS_STATE_OPEN)
		return 0;
	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	tls_enter(tls, out);
	do {
		ERR_clear_error();
		returned = SSL_do_handshake(tls->ssl);
		if (returned != 1)
			status = tls_result(tls, returned);
		/* WANT_READ with input left means that a record was used up: this ends. */
	} while (returned != 1 && status == 0);
	if (status == TLS_CLOSED) {
		note_failure(tls, "closed during the handshake");
		status = tls_fail(tls);
	}
	if (returned == 1) {
		status = 0;
		if (is_protocol_ours(tls)) {
			tls_settle(tls);
		} else {
			note_failure(tls, "application protocol not offered");
			status = tls_fail(tls);
		}
	}
	tls_leave(tls);
	return status;
}

int tls_verify_refused(const struct tls *tls)
{
	return tls->refused;
}

/* Inside: a KeyUpdate that asked for ours. Once for any number of them. */
static int answer_key_update(struct tls *tls)
{
	if (tls->has_goodbye || SSL_get_key_update_type(tls->ssl) == SSL_KEY_UPDATE_NONE)
		return 0;
	ERR_clear_error();
	/* Left to itself OpenSSL waits for the next write; asked once more it goes now. */
	if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
		SSL_do_handshake(tls->ssl) == 1) {
		tls->records_written = 0;
		return 0;
	}
	return tls_fail(tls);
}

ssize_t tls_read(struct tls *tls, uint8_t *data, size_t bytes, struct chain *out)
{
	size_t done = 0;
	int status = 0, answered, returned;

	assert(bytes > 0);
	assert(tls->state != TLS_STATE_HANDSHAKE);
	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	tls_enter(tls, out);
	do {
		ERR_clear_error();
		returned = SSL_read_ex(tls->ssl, data, bytes, &done);
		if (returned != 1)
			status = tls_result(tls, returned);
	} while (returned != 1 && status == 0);
	if (returned == 1)
		tls->post_messages = 0;
	if (tls->state == TLS_STATE_OPEN) {
		answered = answer_key_update(tls);
		if (answered < 0)
			status = answered;
	}
	tls_leave(tls);
	return status < 0 ? status : (ssize_t)done;
}

/* Inside: change our own key in time. */
static int count_records(struct tls *tls, size_t bytes)
{
	tls->records_written += (bytes + TLS_RECORD_BYTES_MAX - 1) / TLS_RECORD_BYTES_MAX;
	if (tls->records_written < tls->shard->records_per_key)
		return 1;
	tls->records_written = 0;
	return SSL_key_update(
		tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); /* goes with the next write */
}

int tls_write(struct tls *tls, const uint8_t *data, size_t bytes, struct chain *out)
{
	size_t done = 0;
	int status = 0;

	assert(tls->state != TLS_STATE_HANDSHAKE);
	assert(!tls->has_goodbye);
	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	if (bytes == 0)
		return 0;
	tls_enter(tls, out);
	/* Without partial writes all of it goes out, as our BIO never asks for a retry. */
	if (SSL_write_ex(tls->ssl, data, bytes, &done) != 1 || done != bytes)
		status = tls_fail(tls);
	else if (count_records(tls, bytes) != 1)
		status = tls_fail(tls);
	tls_leave(tls);
	return status;
}

int tls_goodbye(struct tls *tls, struct chain *out)
{
	int status = 0;

	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	if (tls->state == TLS_STATE_HANDSHAKE)
		return TLS_FAILED; /* there are no keys to say it with */
	if (tls->has_goodbye)
		return 0;
	tls_enter(tls, out);
	if (SSL_shutdown(tls->ssl) < 0)
		status = tls_fail(tls);
	else
		tls->has_goodbye = true;
	tls_leave(tls);
	return status;
}

/* ---- telling ---------------------------------------------------------------------------- */

static const char *failure_reason(const struct tls *tls)
{
	const char *reason;

	if (tls->is_out_of_memory)
		return "out of memory";
	if (tls->failure != NULL)
		return tls->failure;
	reason = tls->error != 0 ? ERR_reason_error_string(tls->error) : NULL;
	if (reason != NULL)
		return reason;
	return tls->state == TLS_STATE_FAILED ? "TLS failed" : "";
}

/* OpenSSL 3.0 does not know the names of the alerts that TLS 1.3 brought. */
static const char *alert_name(int alert)
{
	switch (alert) {
	case SSL_AD_MISSING_EXTENSION:
		return "missing extension";
	case SSL_AD_CERTIFICATE_REQUIRED:
		return "certificate required";
	default:
		return SSL_alert_desc_string_long(alert);
	}
}

void tls_failure_text(const struct tls *tls, char *text, size_t bytes)
{
	const char *reason = failure_reason(tls);

	if (bytes == 0)
		return;
	if (tls->alert_received > 0)
		snprintf(text, bytes, "%s (alert received: %s)", reason,
			alert_name(tls->alert_received - 1));
	else if (tls->alert_sent > 0)
		snprintf(text, bytes, "%s (alert sent: %s)", reason,
			alert_name(tls->alert_sent - 1));
	else
		snprintf(text, bytes, "%s", reason);
}

size_t tls_bytes_estimate(const struct tls *tls)
{
	return sizeof(*tls) +
		(tls->state == TLS_STATE_HANDSHAKE ? TLS_HANDSHAKE_HELD_BYTES : TLS_IDLE_BYTES);
}
