/*
 * One TLS connection of a peer whose reads and writes are its own: OpenSSL is fed from a slice of
 * what was just received and writes into a buffer of the caller. So a turn costs one read and one
 * write whatever the number of records, and no memory BIO is copied through or kept.
 */
#ifndef PEERHUB_BENCH_SESSION_H
#define PEERHUB_BENCH_SESSION_H

#include "bench/peers/peer.h"

/* Bytes one session_echo may read; what it may decrypt, the start of a record that came before
 * included; and room for what it may write: all of it, the overhead of its records, and a
 * handshake's flight. */
#define SESSION_IN_BYTES 65536u
#define SESSION_PLAIN_BYTES (SESSION_IN_BYTES + 20480u)
#define SESSION_OUT_BYTES (SESSION_PLAIN_BYTES + 16384u)

struct session;

/* The BIO's kind, once; and its end. 0 or -1. */
int session_init(void);
void session_fini(void);

struct session *session_create(SSL_CTX *context); /* accepting side; NULL without memory */
void session_destroy(struct session *session); /* NULL allowed */

enum session_state {
	SESSION_GOES_ON,
	SESSION_ENDED, /* the peer's close_notify came; ours is in the output */
	SESSION_BROKEN, /* close it; an alert may be in the output */
};

/*
 * Take in[in_bytes] (at most SESSION_IN_BYTES), go on with the handshake or decrypt, and write what
 * shall be sent, the echo encrypted, to out[SESSION_OUT_BYTES]; *out_bytes is how much.
 */
enum session_state session_echo(struct session *session, const uint8_t *in, size_t in_bytes,
	uint8_t *out, size_t *out_bytes);

/* Our close_notify into out[SESSION_OUT_BYTES]; returns its bytes, 0 when there is none to send. */
size_t session_goodbye(struct session *session, uint8_t *out);

#endif
