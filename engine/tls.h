/*
 * TLS 1.3, mutual, over our own buffers. One tls_shard per shard (its own OSSL_LIB_CTX and one
 * SSL_CTX per role) and one tls per connection; both belong to the shard's thread.
 *
 * Cipher text goes in through tls_input (a borrowed slice) and comes out appended to a chain.
 * Nothing here touches a socket or blocks.
 */
#ifndef PEERHUB_ENGINE_TLS_H
#define PEERHUB_ENGINE_TLS_H

#include "engine/chain.h"
#include "peerhub.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

#define TLS_HANDSHAKE_BYTES_MAX \
	(96u * 1024u) /* input of one handshake: 25 certificates of 2 KiB fit */
#define TLS_CERTIFICATE_BYTES_MAX (16u * 1024u) /* one certificate, DER */
#define TLS_RESUME_BYTES 32u /* an id, a secret */
#define TLS_RECORD_BYTES_MAX 16384u /* RFC 8446 section 5.1, plain text */

/* Called from inside tls_handshake on the owning thread; `context` is the one given to tls_open. */
struct tls_events {
	/* Server: the ClientHello's name ("" if none). 0 and one reference in *credentials, or < 0. */
	int (*on_hello)(void *context, const char *sni, struct ph_credentials **credentials);
	/* The peer's chain, within the limits (count, size, key kinds). 0 = trusted, < 0 = refused. */
	int (*on_verify)(void *context, const struct ph_chain *chain);
	/* Server, after on_hello: a client offers to resume with this id of TLS_RESUME_BYTES. 0 = secret filled
	 * with as many; < 0: unknown, the full handshake goes on. May come twice with the same id. NULL: no
	 * client can. */
	int (*on_resume)(void *context, const uint8_t *id, uint8_t *secret);
};

enum tls_role {
	TLS_CLIENT,
	TLS_SERVER,
};

/* Whose word ended the handshake. */
enum tls_refused {
	TLS_REFUSED_NOT = 0,
	TLS_REFUSED_HELLO = 1,
	TLS_REFUSED_VERIFY = 2,
};

struct tls_shard;
struct tls;

/* 0, -ENOMEM, -EIO (the library would not start; text on stderr is the caller's to write). */
int tls_shard_create(const struct tls_events *events, uint32_t flags, struct tls_shard **shard);
void tls_shard_destroy(struct tls_shard *shard); /* after the last tls of it; NULL allowed */
/* Records under one sending key before a KeyUpdate of ours, instead of 2^23: for tests. */
void tls_shard_rekey_after(struct tls_shard *shard, uint64_t records);

/* credentials and sni: client only (server: from on_hello). 0, -ENOMEM, -EINVAL (credentials). */
int tls_open(struct tls_shard *shard, enum tls_role role, struct ph_credentials *credentials,
	const char *sni, void *context, struct tls **tls);
void tls_destroy(struct tls *tls); /* NULL allowed */

/* Client, before its first step: offer this id and prove the secret. Kept in the connection and wiped. */
int tls_resume(struct tls *tls, const uint8_t *id, const uint8_t *secret); /* 0, -ENOMEM */
/* The handshake is done, and by a secret of on_resume or tls_resume: nobody showed a certificate. */
bool tls_is_resumed(const struct tls *tls);

/* Give the next received bytes, borrowed until the next tls_input or tls_input_drop. The previous
 * slice must have been used up (tls_input_left == 0). */
void tls_input(struct tls *tls, const uint8_t *data, size_t bytes);
size_t tls_input_left(const struct tls *tls);
void tls_input_drop(struct tls *tls); /* forget what is left of the slice */

#define TLS_AGAIN (-EAGAIN) /* wants more input; the slice is used up */
#define TLS_CLOSED (-EPIPE) /* the peer's close_notify has come */
#define TLS_FAILED (-EPROTO) /* fatal; an alert may have been appended to out */
#define TLS_NO_MEMORY (-ENOMEM)

/* As far as the slice goes: 0 = done, TLS_AGAIN, TLS_FAILED, TLS_NO_MEMORY. Output (flights, alerts) goes to
 * out. */
int tls_handshake(struct tls *tls, struct chain *out);
/* The same, but a server stops with TLS_AGAIN and input left after each record that cost something, so that
 * nobody waits for a client's certificate, signature and Finished in one. */
int tls_handshake_step(struct tls *tls, struct chain *out);
int tls_verify_refused(
	const struct tls *tls); /* enum tls_refused: on_hello's or on_verify's word */

/* Plain text into data: > 0 bytes, TLS_AGAIN, TLS_CLOSED, TLS_FAILED, TLS_NO_MEMORY. Post-handshake
 * messages (KeyUpdate) are answered into out. */
ssize_t tls_read(struct tls *tls, uint8_t *data, size_t bytes, struct chain *out);
/* Encrypt all of data as records behind out: 0, TLS_FAILED, TLS_NO_MEMORY (the connection can then
 * only be aborted: part of the data may be in out). */
int tls_write(struct tls *tls, const uint8_t *data, size_t bytes, struct chain *out);
/* Append close_notify: 0, TLS_NO_MEMORY, TLS_FAILED. */
int tls_goodbye(struct tls *tls, struct chain *out);

/* One line on the last failure, with NUL, for receipts: "certificate verify failed". */
void tls_failure_text(const struct tls *tls, char *text, size_t bytes);
size_t tls_bytes_estimate(const struct tls *tls); /* user memory held, for stats */

#endif
