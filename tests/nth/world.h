/*
 * What a scenario of nth lives in: a harness (tests/fake) whose failures are those of one point, peers
 * of plain OpenSSL whose own memory never fails, and the rules that hold whatever failed:
 *   - every id has exactly one last event (the harness counts them), and every accepted one too
 *   - a close of an id that is not ending yet is 0, an abort and a stop always work
 *   - all that arrived is a beginning of what was sent
 *   - the shard comes to its end within a bound of turns, and nothing is left of it
 */
#ifndef PEERHUB_TESTS_NTH_WORLD_H
#define PEERHUB_TESTS_NTH_WORLD_H

#include "tests/fake/harness.h"
#include "tests/nth/errnos.h"
#include "tests/nth/runner.h"

#include <openssl/ssl.h>

#define WORLD_IDS_MAX 16u
#define WORLD_PEERS_MAX 4u
#define WORLD_PATIENCE 60u /* turns until something happens, or is given up */

/* The far end of one file: a TLS 1.3 client or server in memory. */
struct world_peer {
	SSL *ssl;
	BIO *in, *out;
	int32_t file;
	size_t taken; /* of what the file has sent */
	bool is_done; /* its handshake */
	bool has_failed;
	size_t heard; /* plain bytes */
	size_t said; /* in messages */
};

struct world {
	struct harness it;
	const struct nth_point *point;
	struct nth_result *result;
	bool has_begun, is_armed;
	uint64_t mark;
	uint64_t ids[WORLD_IDS_MAX];
	uint32_t id_count;
	struct world_peer peers[WORLD_PEERS_MAX];
	uint32_t peer_count;
	int32_t pair[2]; /* two files that are one connection, 0: none */
	uint64_t seen[OPCODE_COUNT];
	uint64_t sent_bytes; /* accepted by ph_send so far, of the one id that sends */
	enum ph_how stop_how;
	uint32_t hub_flags; /* of the options; before world_begin */
	bool fails_to_the_end; /* memory does not come back for what shard_end gives back */
	const char *label; /* of the outcome; NULL: by the first id */
	int call_status; /* of the call under test */
};

/* Once a child, with nothing failing: what is made lazily is there then. */
void world_warm(void);
struct ph_credentials *world_credentials(void);

void world_begin(struct world *world); /* a shard, nothing fails yet */
void world_arm(struct world *world); /* from here */
void world_disarm(struct world *world);
void world_turn(struct world *world);
void world_turns(struct world *world, uint32_t count);
/* Stop, still armed; then look for what is left. */
void world_end(struct world *world);

#define WORLD_UNTIL(world, condition)                                                   \
	do {                                                                            \
		for (uint32_t patience_ = WORLD_PATIENCE; patience_ > 0; patience_--) { \
			if (condition)                                                  \
				break;                                                  \
			world_turn(world);                                              \
		}                                                                       \
	} while (0)

/* 0 and remembered, or an error that must be documented: -ENOMEM, -EMFILE. */
uint64_t world_dial(struct world *world, enum ph_framing framing, bool tls);
void world_listen(struct world *world, enum ph_framing framing, bool tls);
/* A stranger; his id is remembered. His file, or -1. */
int32_t world_accept(struct world *world, uint64_t *id);
int32_t world_file(struct world *world, uint64_t id); /* -1: it has none (any more) */
bool world_is_over(struct world *world, uint64_t id); /* its last event was seen */
bool world_is_open(struct world *world, uint64_t id);
/* The next bytes of the stream as one message: each byte is its place, modulo WORLD_PATTERN. */
#define WORLD_PATTERN 251u
void world_send(struct world *world, uint64_t id, size_t bytes);
/* The close, and all turns until its last event. */
void world_close(struct world *world, uint64_t id, enum ph_how how);
void world_expect_over(struct world *world); /* wait until every remembered id is over */

/* The far end over TLS: of a dialled file a server, of an accepted one a client. */
struct world_peer *world_peer_begin(struct world *world, int32_t file, bool is_server);
void world_peer_write(struct world_peer *peer, const void *data, size_t bytes);
void world_peer_greet(struct world_peer *peer); /* a client's AUTH_INFO and CONNECT */
void world_peer_welcome(struct world_peer *peer);
void world_peer_message(struct world_peer *peer, size_t bytes); /* the next of its stream */
void world_peer_goodbye(struct world_peer *peer); /* DISCONNECT and close_notify */
void world_peer_rekey(struct world_peer *peer);

/* An open connection over TLS with a far end, made before anything fails. */
uint64_t world_open_dialled(struct world *world, struct world_peer **peer);
uint64_t world_open_accepted(struct world *world, struct world_peer **peer);

#endif
