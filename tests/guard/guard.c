/*
 * guard: fixed work on the engine's hot paths, for counting instructions (ci/guard, docs/testing.md).
 *
 *   guard              every scenario, each once
 *   guard --list       their names and how many operations each measures
 *   guard --compiler   what compiled it: counts of another compiler are no guide
 *
 * The engine runs on the scripted ring of tests/fake/: no kernel, no thread, no clock, so the same code
 * takes the same instructions in every run. callgrind collects while a measured part runs, and writes a
 * profile of each; ci/guard takes the functions of engine/ out of it: what libcrypto, the allocator, libc
 * and the script itself do is left out.
 *
 * A scenario checks that it did its work. Exit code 0, or abort.
 */
#include "bench/subject.h"
#include "engine/digest.h"
#include "engine/hash.h"
#include "tests/fake/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#define CAN_COUNT 1
#else
#define CAN_COUNT 0
#define CALLGRIND_TOGGLE_COLLECT
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#endif

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#ifdef __clang__
#define COMPILER "clang " TEXT(__clang_major__)
#else
#define COMPILER "gcc " TEXT(__GNUC__)
#endif

#define MESSAGES 1000u
#define MESSAGE_BYTES 64u
#define BATCH 16u /* messages in one receive or in one turn */
#define RECORD_BYTES_LONG 1024u
#define CONNECTIONS 500u
#define CLOSES 1000u
#define PAIRS 1000u
#define HANDSHAKES 20u
#define TURNS_MAX 64u /* until all connections of a scenario are where they go */

static struct harness it;
static const uint8_t payload[RECORD_BYTES_LONG] = {0x5a};

#define MUST(condition)                                                                        \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "guard: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

/* ---- the world ----------------------------------------------------------------------------- */

static uint64_t ids[CLOSES];
static uint32_t id_count;
static int32_t file; /* of the one connection of an echo */
static int32_t files[CLOSES];

static void world_begin(void)
{
	struct ph_options options;

	harness_options(&options);
	options.connections_per_shard = CLOSES;
	options.receipts_per_shard = CLOSES;
	options.receive_buffer_bytes = 4096;
	MUST(harness_start(&it, &options) == 0);
	id_count = 0;
}

static void world_end(void)
{
	harness_end(&it);
}

static uint32_t seen(uint32_t (*of)(const struct harness_peer *peer))
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < it.peer_count; i++)
		count += of(&it.peers[i]);
	return count;
}

static uint32_t opened_of(const struct harness_peer *peer)
{
	return peer->opened;
}

static uint32_t closed_of(const struct harness_peer *peer)
{
	return peer->closed;
}

static uint32_t messages_of(const struct harness_peer *peer)
{
	return peer->messages;
}

static void turns_until(uint32_t (*of)(const struct harness_peer *peer), uint32_t count)
{
	for (uint32_t turn = 0; turn < TURNS_MAX && seen(of) < count; turn++)
		harness_turn(&it);
	MUST(seen(of) == count);
}

static void open_all(uint32_t count)
{
	for (; id_count < count; id_count++)
		MUST((ids[id_count] = harness_dial(&it, PH_FRAMING_RAW)) != 0);
	turns_until(opened_of, count);
	for (uint32_t i = 0; i < count; i++)
		files[i] = harness_conn(&it, ids[i])->file;
}

static void one_begin(enum ph_framing framing)
{
	world_begin();
	ids[0] = harness_open_dialled(&it, framing, &file);
	id_count = 1;
}

static size_t sent_bytes(void)
{
	size_t bytes;

	(void)script_sent(it.ring, file, &bytes);
	return bytes;
}

static void answer(struct harness *harness, uint64_t id)
{
	(void)harness;
	MUST(harness_send_inside(id, payload, MESSAGE_BYTES) == 0);
}

/* ---- what is measured ---------------------------------------------------------------------- */

/* ph_open, socket, connect, on_open. */
static void measured_open_raw(void)
{
	open_all(CONNECTIONS);
}

/* One receive, on_data, ph_send inside it, one send. */
static void measured_raw_echo(void)
{
	for (uint32_t i = 0; i < MESSAGES; i++) {
		script_peer_data(it.ring, file, payload, MESSAGE_BYTES);
		harness_turns(&it, 2);
	}
}

static void measured_message_echo(void)
{
	for (uint32_t i = 0; i < MESSAGES; i++) {
		peer_says_message(&it, file, payload, MESSAGE_BYTES);
		harness_turns(&it, 2);
	}
}

/* Many frames in one receive. */
static void measured_message_batch(void)
{
	for (uint32_t i = 0; i < MESSAGES; i++) {
		peer_says_message(&it, file, payload, MESSAGE_BYTES);
		if ((i + 1) % BATCH == 0)
			harness_turns(&it, 2);
	}
	harness_turns(&it, 2);
}

/* ph_send of another thread, and the owner that takes it from the mailbox. */
static void measured_message_post(void)
{
	for (uint32_t i = 0; i < MESSAGES; i++) {
		MUST(harness_send(&it, ids[0], payload, MESSAGE_BYTES) == 0);
		if ((i + 1) % BATCH == 0)
			harness_turns(&it, 2);
	}
	harness_turns(&it, 2);
}

/* A stranger comes, is welcome, and is closed gracefully. */
static void measured_accept_close(void)
{
	for (uint32_t i = 0; i < CONNECTIONS; i++) {
		int32_t stranger = harness_accept(&it);
		uint64_t id = harness_newest_id(&it);

		MUST(stranger >= 0 && id != 0);
		harness_turn(&it);
		MUST(harness_close(&it, id, PH_GRACEFUL) == 0);
		harness_turn(&it);
		script_peer_end(it.ring, stranger, 0);
		harness_turns(&it, 3);
	}
}

/* The caller's part of a close, by id. */
static void measured_close_call(void)
{
	for (uint32_t i = 0; i < CLOSES; i++)
		MUST(harness_close(&it, ids[i], PH_GRACEFUL) == 0);
}

/* The owner's part, and the far ends' own ends. */
static void measured_close_end(void)
{
	harness_turns(&it, 2);
	for (uint32_t i = 0; i < CLOSES; i++)
		script_peer_end(it.ring, files[i], 0);
	turns_until(closed_of, CLOSES);
}

static void measured_abort_end(void)
{
	turns_until(closed_of, CLOSES);
}

static struct subject_tls *tls;

static void messages_pass(size_t bytes)
{
	for (uint32_t i = 0; i < MESSAGES; i++)
		MUST(subject_tls_message(tls, 0, bytes) == 0);
}

static void measured_record_64(void)
{
	messages_pass(MESSAGE_BYTES);
}

static void measured_record_1024(void)
{
	messages_pass(RECORD_BYTES_LONG);
}

/* Both ends; what is ours of it. */
static void measured_handshake(void)
{
	for (uint32_t i = 0; i < HANDSHAKES; i++)
		MUST(subject_tls_handshake(tls) == 0);
}

static struct hash *hash;
static struct hash_key keys[2 * PAIRS]; /* the second half is not in the table */

static bool any_is_open(uint64_t id)
{
	return id != 0;
}

static void measured_digest(void)
{
	char name[PH_NAME_BYTES_MAX];

	for (uint32_t i = 0; i < 2 * PAIRS; i++) {
		snprintf(name, sizeof(name), "%040x.member", i);
		keys[i] = digest_pair("0f1e2d3c4b5a69788796a5b4c3d2e1f001234567.guard", name);
	}
}

static void measured_hash_insert(void)
{
	for (uint32_t i = 0; i < PAIRS; i++)
		MUST(hash_insert(hash, keys[i], i, i + 1) == 0);
}

static void measured_hash_find(void)
{
	uint64_t id;

	for (uint32_t i = 0; i < 2 * PAIRS; i++)
		MUST(hash_find(hash, keys[i], any_is_open, &id, 1) == (i < PAIRS));
}

static void measured_hash_remove(void)
{
	for (uint32_t i = 0; i < PAIRS; i++)
		hash_remove(hash, keys[i], i, i + 1);
}

/* ---- before and after it ------------------------------------------------------------------- */

static void raw_begin(void)
{
	one_begin(PH_FRAMING_RAW);
	it.in_data = answer;
}

static void message_begin(void)
{
	one_begin(PH_FRAMING_MESSAGE);
}

static void message_echo_begin(void)
{
	message_begin();
	it.in_data = answer;
}

static void heard_end(void)
{
	/* Raw bytes that come together are one call of on_data, so messages are counted as bytes. */
	MUST(harness_peer(&it, ids[0])->bytes == MESSAGES * MESSAGE_BYTES);
	MUST(seen(messages_of) == MESSAGES);
	world_end();
}

static void echo_end(void)
{
	MUST(sent_bytes() >= MESSAGES * MESSAGE_BYTES);
	heard_end();
}

static void post_end(void)
{
	MUST(sent_bytes() > MESSAGES * MESSAGE_BYTES);
	world_end();
}

static void listen_begin(void)
{
	world_begin();
	harness_listen(&it, PH_FRAMING_RAW, PH_TLS_NONE);
}

static void accept_end(void)
{
	MUST(seen(opened_of) == CONNECTIONS && seen(closed_of) == CONNECTIONS);
	world_end();
}

static void closes_begin(void)
{
	world_begin();
	open_all(CLOSES);
}

static void close_end_begin(void)
{
	closes_begin();
	for (uint32_t i = 0; i < CLOSES; i++)
		MUST(harness_close(&it, ids[i], PH_GRACEFUL) == 0);
}

static void abort_end_begin(void)
{
	closes_begin();
	for (uint32_t i = 0; i < CLOSES; i++)
		MUST(harness_close(&it, ids[i], PH_ABORT) == 0);
}

static void tls_begin(void)
{
	tls = subject_tls_create(PH_HUB_TLS_FAST_DECODE);
	MUST(tls != NULL && subject_tls_connect(tls, 1) == 0);
	/* What is made at first use only. */
	MUST(subject_tls_message(tls, 0, MESSAGE_BYTES) == 0);
	MUST(subject_tls_handshake(tls) == 0);
}

static void tls_end(void)
{
	subject_tls_destroy(tls);
}

static void digest_begin(void)
{
	MUST(digest_init() == 0);
}

static void nothing(void)
{
}

static void hash_begin(void)
{
	MUST(hash_create(PAIRS, &hash) == 0);
}

static void hash_end(void)
{
	MUST(hash_count(hash) == 0);
	hash_destroy(hash);
}

/* In this order: the table of the hash goes from one to the next. */
static const struct scenario {
	const char *name;
	uint32_t operations;
	void (*begin)(void), (*measured)(void), (*end)(void);
} scenarios[] = {
	{"open_raw", CONNECTIONS, world_begin, measured_open_raw, world_end},
	{"accept_close", CONNECTIONS, listen_begin, measured_accept_close, accept_end},
	{"raw_echo", MESSAGES, raw_begin, measured_raw_echo, echo_end},
	{"message_echo", MESSAGES, message_echo_begin, measured_message_echo, echo_end},
	{"message_batch", MESSAGES, message_begin, measured_message_batch, heard_end},
	{"message_post", MESSAGES, message_begin, measured_message_post, post_end},
	{"close_call", CLOSES, closes_begin, measured_close_call, world_end},
	{"close_end", CLOSES, close_end_begin, measured_close_end, world_end},
	{"abort_end", CLOSES, abort_end_begin, measured_abort_end, world_end},
	{"record_64", MESSAGES, tls_begin, measured_record_64, tls_end},
	{"record_1024", MESSAGES, tls_begin, measured_record_1024, tls_end},
	{"handshake", HANDSHAKES, tls_begin, measured_handshake, tls_end},
	{"digest", 2 * PAIRS, digest_begin, measured_digest, nothing},
	{"hash_insert", PAIRS, hash_begin, measured_hash_insert, nothing},
	{"hash_find", 2 * PAIRS, nothing, measured_hash_find, nothing},
	{"hash_remove", PAIRS, nothing, measured_hash_remove, hash_end},
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--compiler") == 0) {
		printf("%s%s\n", COMPILER, CAN_COUNT ? "" : " without valgrind's header");
		return 0;
	}
	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--list") != 0)) {
		fprintf(stderr, "usage: guard [--list | --compiler]\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		const struct scenario *scenario = &scenarios[i];

		if (argc == 2) {
			printf("%s\t%u\n", scenario->name, scenario->operations);
			continue;
		}
		scenario->begin();
		CALLGRIND_TOGGLE_COLLECT;
		scenario->measured();
		CALLGRIND_TOGGLE_COLLECT;
		CALLGRIND_DUMP_STATS_AT(scenario->name);
		scenario->end();
	}
	return 0;
}
