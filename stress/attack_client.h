/*
 * Attackers: plain sockets, TLS by OpenSSL, and records sealed by hand where OpenSSL will not do what an
 * attacker does. A client blocks, with a limit on each call. A crowd is many sockets that do little, looked
 * at by one poll loop. Main thread only.
 */
#ifndef PEERHUB_STRESS_ATTACK_CLIENT_H
#define PEERHUB_STRESS_ATTACK_CLIENT_H

#include "attack.h"

#include <openssl/ssl.h>
#include <sys/types.h>

#define CLIENT_WAIT_S 60
#define CLIENT_MESSAGE_BYTES_MAX 1024u

/* How a victim ended a connection, as the attacker sees it. */
enum client_end {
	CLIENT_STILL_OPEN,
	CLIENT_FIN,
	CLIENT_RESET,
};
const char *client_end_name(enum client_end end);

/* Keys of one direction, to seal records by hand. */
struct client_key {
	uint8_t key[16], iv[12];
	uint64_t sequence;
};

struct client {
	int fd; /* -1: none */
	SSL *ssl; /* NULL: clear text */
	uint8_t secret[2][32]; /* CLIENT_TRAFFIC_SECRET_0, CLIENT_HANDSHAKE_TRAFFIC_SECRET */
	bool has_secret[2];
};

/* A connected socket, or -1 and errno. `linger_reset`: closing it resets. */
int client_socket(const ph_address *to);
void client_socket_reset(int fd); /* closes it with a reset */
bool client_open(struct client *client, const ph_address *to);
bool client_secure(struct client *client, SSL_CTX *context); /* the whole handshake */
/* The same with an SSL object that was prepared, which is taken over, and another server name. */
bool client_handshake(struct client *client, SSL *ssl, const char *sni);
void client_close(struct client *client); /* -1 and NULL afterwards; may be called twice */
void client_abort(struct client *client);

/* All of it, through TLS where there is TLS. False: the victim has ended it, or takes nothing. */
bool client_write(struct client *client, const void *data, size_t bytes);
/* Past TLS, as it is. */
bool client_write_raw(struct client *client, const void *data, size_t bytes);
/* Bytes, 0 at the end, < 0 on an error or when nothing came for CLIENT_WAIT_S. */
ssize_t client_read(struct client *client, void *data, size_t bytes);
/* Read and forget until the end. */
enum client_end client_wait_end(struct client *client);

/* AUTH_INFO and CONNECT of `source` into out[CLIENT_MESSAGE_BYTES_MAX]; returns the bytes. */
size_t client_auth_info(uint8_t *out, const char *group, const char *source);
size_t client_connect_message(uint8_t *out, uint64_t node_id);
size_t client_message(uint8_t *out, const void *data, size_t bytes); /* PT2PT */
size_t client_ping(uint8_t *out);
/* Greets and waits for WELCOME. False: it did not come. */
bool client_greet(struct client *client, const char *source);
bool client_greet_group(struct client *client, const char *group, const char *source);
/* client_open, client_secure with `context` (NULL: clear text), client_greet. */
bool client_enter(
	struct client *client, const ph_address *to, SSL_CTX *context, const char *source);

/*
 * The next record to the victim, sealed by hand with AES-128-GCM under the application's key (after
 * SSL_connect). `type` is the inner content type, data may be empty, padding zeros follow the type.
 * False: the secret is not known, or the victim takes nothing.
 */
bool client_seal_begin(struct client *client, struct client_key *key);
bool client_seal(struct client *client, struct client_key *key, uint8_t type, const void *data,
	size_t bytes, size_t padding);

/* ---- crowds ------------------------------------------------------------------------------ */

struct crowd_member {
	int fd; /* -1: ended */
	uint64_t begin_ns, end_ns;
	uint32_t at; /* how much of the text has been said */
	enum client_end end;
};
struct crowd {
	struct crowd_member *members;
	uint32_t count; /* that were connected */
	uint32_t live;
	uint32_t refused; /* whose connect failed */
};
/* Connect sockets, each waiting for its connect: all at once, or as they come, up to count_max. False: said so
 * as a fault. */
bool crowd_create(struct crowd *crowd, struct attack_run *run, uint32_t count_max);
void crowd_add(struct crowd *crowd, const ph_address *to, uint32_t count);
bool crowd_open(struct crowd *crowd, struct attack_run *run, const ph_address *to, uint32_t count);
/* Look for ends until all have ended or ms have passed. Every step_ms each live one says the next byte
 * of text (0: nobody says anything). */
void crowd_run(struct crowd *crowd, uint32_t ms, uint32_t step_ms, const uint8_t *text,
	uint32_t text_bytes);
void crowd_close(struct crowd *crowd, bool with_reset);

/* A ClientHello as `context` makes it, into out; returns the bytes, 0 when it cannot. */
size_t client_hello_make(SSL_CTX *context, uint8_t *out, size_t bytes_max);

#endif
