/*
 * What the files of TLS share: tls.c is a connection's life, tls_shard.c what a shard has for all of
 * them (contexts, the BIO), tls_takeover.c the way from OpenSSL's record layer to ours, tls_trust.c what we show and whom we trust (credentials, ClientHello, the
 * peer's chain). Nobody else includes this.
 *
 * OpenSSL reads and writes through BIOs whose two ends are the slice and the chain of the call in
 * progress. tls_enter names that call's connection in shard->current, tls_leave takes it back; both
 * belong to one thread, and OpenSSL calls us back only in between. So all callbacks get the shard as
 * their argument and no SSL object carries data of ours.
 */
#ifndef PEERHUB_ENGINE_TLS_PARTS_H
#define PEERHUB_ENGINE_TLS_PARTS_H

#include "engine/record.h"
#include "engine/tls.h"
#include "engine/tls_provider.h"

#include <openssl/ssl.h>

#include <stdbool.h>

/* Parsed credentials of a shard: one for each identity that a process serves, as a rule one. */
#define TLS_CREDENTIALS_CACHED 32u

/* ALPN: with its length in front, as it is offered. */
#define TLS_PROTOCOL "peerhub/1"
#define TLS_PROTOCOL_BYTES (sizeof(TLS_PROTOCOL) - 1)

struct tls_parsed {
	uint64_t serial; /* 0: empty */
	uint64_t used; /* the least is given up first */
	X509 *leaf;
	STACK_OF(X509) * issuers;
	EVP_PKEY *key;
};

struct tls_shard {
	struct tls_events events;
	struct tls_library made; /* its contexts and providers */
	OSSL_LIB_CTX *library; /* made.library: of all that OpenSSL makes for this shard */
	SSL_CTX *roles[2]; /* by enum tls_role */
	BIO *bio; /* of every connection whose handshake is done */
	SSL *settled[2]; /* by role: whose context, session and certificates an idle one shares */
	struct record_shard *records; /* NULL: OpenSSL stays after the handshake */
	struct tls *current; /* NULL outside of OpenSSL */
	struct chain *out; /* of the call in progress */
	uint64_t uses;
	uint64_t records_per_key;
	struct tls_parsed parsed[TLS_CREDENTIALS_CACHED];
};

enum tls_state {
	TLS_STATE_HANDSHAKE,
	TLS_STATE_OPEN,
	TLS_STATE_FAILED, /* OpenSSL is not entered any more, but to free */
};

/* What a client offers, or a server has found for its client's offer; wiped with the handshake's end. */
struct tls_resumption {
	uint8_t id[TLS_RESUME_BYTES], secret[TLS_RESUME_BYTES];
};

/* The traffic secrets of a handshake under way (RFC 8446 section 7.1), for our own record layer. */
struct tls_secrets {
	uint8_t secret[2][RECORD_SECRET_BYTES]; /* by the enum tls_role whose records it protects */
	bool is_known[2];
};

struct tls {
	struct tls_shard *shard;
	SSL *ssl; /* NULL once the record layer has taken over */
	struct record *record; /* NULL until then */
	struct tls_secrets *secrets; /* NULL before the first is known and after the handshake */
	struct tls_resumption *resumption; /* NULL where none is offered or found */
	void *context;
	const uint8_t *input;
	size_t input_left;
	const char *failure; /* static text of ours, when OpenSSL's own says less */
	unsigned long error; /* OpenSSL's first */
	uint64_t records_written; /* under the present key */
	uint32_t handshake_bytes;
	uint32_t step_bytes; /* of the step under way */
	uint16_t post_debt; /* record.h: of messages that carry nothing */
	uint8_t role; /* enum tls_role */
	uint8_t state; /* enum tls_state */
	uint8_t refused; /* enum tls_refused */
	uint8_t alert_sent, alert_received; /* description + 1, 0 = none */
	bool has_hello; /* the first ClientHello was answered */
	bool has_goodbye; /* we sent close_notify */
	bool is_input_blocked; /* the BIO gives nothing any more */
	bool is_stepping; /* the BIO gives no record after one that cost something */
	bool is_step_over; /* it has not given one */
	bool is_out_of_memory;
	bool is_resumed; /* set when the handshake is done */
};

/* The first words on a failure count. */
static inline void tls_note_failure(struct tls *tls, const char *failure)
{
	if (tls->failure == NULL)
		tls->failure = failure;
}

/* tls_shard.c */
BIO *tls_bio_create(struct tls_shard *shard); /* NULL without memory */
/* An SSL of this role that was never connected, for idle ones to share its empty parts; NULL when
 * they cannot be shared. ssl is one of the role whose handshake is done. */
SSL *tls_settled_find(struct tls_shard *shard, enum tls_role role, const SSL *ssl);

/* tls_takeover.c: from OpenSSL's record layer to ours. */
void tls_on_secret(const SSL *ssl, const char *line); /* keeps what a handshake tells */
bool tls_take_over(struct tls *tls); /* false: not possible, OpenSSL goes on */
void tls_secrets_drop(struct tls *tls);

/* tls_resume.c: OpenSSL's callbacks for external pre-shared keys. */
void tls_resume_init(struct tls_shard *shard); /* on its two contexts */
bool tls_resume_was_used(const struct tls *tls); /* before the SSL object goes */
void tls_resume_drop(struct tls *tls);

/* tls_trust.c: OpenSSL's callbacks, context is the shard. */
int tls_on_client_hello(SSL *ssl, int *alert, void *context);
int tls_on_protocol(SSL *ssl, const unsigned char **selected, unsigned char *selected_bytes,
	const unsigned char *offered, unsigned int offered_bytes, void *context);
int tls_on_verify(X509_STORE_CTX *store, void *context);
/* Put credentials on a connection. 0, -EINVAL, -ENOMEM. */
int tls_use_credentials(
	struct tls_shard *shard, SSL *ssl, const struct ph_credentials *credentials);
void tls_parsed_clear(struct tls_shard *shard);
/* The server may leave the protocol open (openssl s_server); another one than ours it cannot mean. */
bool tls_is_protocol_ours(const SSL *ssl);

#endif
