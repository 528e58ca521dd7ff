/*
 * One shard of the engine on the scripted seam, driven turn by turn on the test's own thread: no
 * ph_hub_start, no threads, nothing waits. The harness fills a hub by hand, keeps what the callbacks saw,
 * and checks the rules that hold for every connection in every test:
 *   - after on_closed nothing comes for an id, and on_closed comes once
 *   - when it comes, no counted operation of that connection is live in the ring
 *   - its receipt is that of the id, its bytes add up
 * A breach aborts with a line that names it.
 */
#ifndef PEERHUB_TESTS_FAKE_HARNESS_H
#define PEERHUB_TESTS_FAKE_HARNESS_H

#include "engine/hub.h"
#include "tests/fake/clock_script.h"
#include "tests/fake/memory_script.h"
#include "tests/fake/ring_script.h"

#define HARNESS_TAG 77u
#define HARNESS_PEERS_MAX 1024u
#define HARNESS_GROUP "0.group"
#define HARNESS_OWN "own.peer"
#define HARNESS_PEER "other.peer"
#define HARNESS_USER ((void *)0x5a5a)

/* What was seen of one id. */
struct harness_peer {
	uint64_t id;
	uint32_t opened, closed, messages, writable;
	bool accepted;
	uint8_t *data; /* all that on_data took, one after the other */
	size_t bytes, capacity;
	struct ph_receipt receipt;
};

struct harness {
	struct ph_hub hub; /* first: the engine's own */
	struct shard *shard;
	struct ring *ring;
	struct harness_peer peers[HARNESS_PEERS_MAX];
	uint32_t peer_count;
	int listener;
	int listen_fd;
	bool stopped; /* harness_stop went through */
	int64_t memory_before;
	/* what the callbacks answer */
	int verify_status;
	const char *verify_refusal;
	enum ph_refuse refuse;
	int data_status; /* < 0: on_data takes nothing */
	bool any_type; /* messages of other types than harness_type may come */
	uint32_t offered; /* calls of on_data, refused ones too */
	struct ph_credentials *hello; /* of on_hello; NULL refuses */
	/* run inside the callback when set, before it answers */
	void (*in_open)(struct harness *harness, uint64_t id);
	void (*in_data)(struct harness *harness, uint64_t id);
	void (*in_connect)(struct harness *harness, uint64_t id);
	void (*in_verify)(struct harness *harness, uint64_t id);
	void (*in_closed)(struct harness *harness, uint64_t id);
	void (*in_writable)(struct harness *harness, uint64_t id);
};

/* Small defaults for every option; change them before harness_start. */
void harness_options(struct ph_options *options);
/* 0, or what shard_create or shard_begin answered (then there is nothing to stop). */
int harness_start(struct harness *harness, const struct ph_options *options);
void harness_begin(struct harness *harness); /* with the defaults; must work */
void harness_turn(struct harness *harness);
void harness_turns(struct harness *harness, uint32_t count);
/* Abort all, answer what is held, run until the shard is done, and look for leaks. */
void harness_end(struct harness *harness);

/* Seen of that id; made when it is new. */
struct harness_peer *harness_peer(struct harness *harness, uint64_t id);
struct conn *harness_conn(const struct harness *harness, uint64_t id);
uint64_t harness_counter(const struct harness *harness, enum counter counter);

/* ---- connections -------------------------------------------------------------------------- */

/* ph_open, no TLS; the id, 0 when it was refused. */
uint64_t harness_dial(struct harness *harness, enum ph_framing framing);
/* The same over TLS, to any peer. */
uint64_t harness_dial_tls(
	struct harness *harness, enum ph_framing framing, struct ph_credentials *credentials);
void harness_listen(struct harness *harness, enum ph_framing framing, enum ph_tls tls);
/* A stranger connects; his file, -1 when no accept is armed. */
int32_t harness_accept(struct harness *harness);
uint64_t harness_newest_id(const struct harness *harness); /* of conns: last begun */
/* Dialled or accepted and open; the file in *file. */
uint64_t harness_open_dialled(struct harness *harness, enum ph_framing framing, int32_t *file);
uint64_t harness_open_accepted(struct harness *harness, enum ph_framing framing, int32_t *file);

/* Calls as from a thread that is no shard. */
int harness_close(struct harness *harness, uint64_t id, enum ph_how how);
int harness_close_text(
	struct harness *harness, uint64_t id, enum ph_how how, uint32_t reason, const char *text);
int harness_send(struct harness *harness, uint64_t id, const void *data, size_t bytes);
int harness_send_inside(uint64_t id, const void *data, size_t bytes); /* as in a callback */

/* ---- the other end ------------------------------------------------------------------------ */

#define HARNESS_MESSAGE_MAX 4096u
/* Messages of the peer; each returns its bytes. */
size_t peer_auth_info(uint8_t *out);
size_t peer_connect(uint8_t *out);
size_t peer_welcome(uint8_t *out);
size_t peer_refuse(uint8_t *out, uint8_t code);
size_t peer_disconnect(uint8_t *out, uint8_t reason);
size_t peer_notice(uint8_t *out, uint32_t code, const char *text);
size_t peer_message(uint8_t *out, const void *data, size_t bytes); /* PT2PT of the test's type */
/* Put them into the file's input. */
void peer_says_auth_info(struct harness *harness, int32_t file);
void peer_says_connect(struct harness *harness, int32_t file);
void peer_says_welcome(struct harness *harness, int32_t file);
void peer_says_message(struct harness *harness, int32_t file, const void *data, size_t bytes);
void peer_says_disconnect(struct harness *harness, int32_t file);
/* How many messages of that type the file has sent so far. */
uint32_t peer_heard(const struct harness *harness, int32_t file, uint8_t type);
extern const uint8_t harness_type[16];

#endif
