/*
 * The record layer of an open connection: what a member of the group may send it, sealed under the
 * right keys with any content, or as raw bytes, cut at will, with sends and a goodbye of ours between.
 * The input is a list of steps, a byte that names one and then what it needs; a byte before that may let
 * an allocation of the next call fail, ours or libcrypto's.
 *
 * What must hold: what we send can be opened by the peer, nothing follows our goodbye or a failure, and
 * application data comes out as it was sealed, in order.
 */
#include "tests/engine/record_peer.h"
#include "tests/fake/memory_script.h"
#include "tests/fuzz/libcrypto_memory.h"

#include <openssl/err.h>
#include <openssl/provider.h>

#include <stdbool.h>

#define INNER_MAX 20000u
#define DATA_MAX 400000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct run {
	const uint8_t *input;
	size_t left;
	struct record *record;
	struct peer peer;
	struct chain out;
	uint8_t wire[3 * INNER_MAX]; /* sealed and not yet read */
	size_t wire_bytes;
	uint8_t sealed[DATA_MAX]; /* application data under valid tags, in order */
	size_t sealed_bytes, read_bytes;
	bool has_ended, has_goodbye;
	uint8_t fails; /* of the next call: see fail_arm; 0: nothing */
};

static struct record_shard *shard;
static struct run run;

static uint32_t take(uint32_t limit)
{
	uint32_t value = 0;

	for (int index = 0; index < 2 && run.left > 0; index++, run.left--)
		value = value << 8 | *run.input++;
	return value % limit;
}

/* From 0xf0 on the n-th allocation of ours, from 0xe0 on of libcrypto's, else none; 1 is the first. */
static void fail_arm(void)
{
	if (run.fails >= 0xf0)
		memory_script_fail(run.fails - 0xf0u + 1u, false);
	else if (run.fails >= 0xe0)
		libcrypto_fail(run.fails - 0xe0u + 1u);
	run.fails = 0;
}

static void fail_disarm(void)
{
	memory_script_fail(0, false);
	libcrypto_fail(0);
}

/* What we have sent opens under the peer's keys; it follows our key changes. */
static void check_sent(void)
{
	static uint8_t flat[1u << 20], inner[INNER_MAX];
	size_t at = 0, total = 0;

	for (struct chunk *chunk = run.out.head; chunk != NULL; chunk = chunk->next) {
		size_t here = chunk->bytes - chunk->offset;

		PEER_IS(total + here <= sizeof(flat));
		memcpy(flat + total, chunk->data + chunk->offset, here);
		total += here;
	}
	while (at < total) {
		size_t inner_bytes = peer_open(&run.peer, flat + at, total - at, inner);

		PEER_IS(!run.has_goodbye);
		at += 5 + inner_bytes + 16;
		if (inner[inner_bytes - 1] == 22)
			keys_update(&run.peer, &run.peer.opens);
		else if (inner[inner_bytes - 1] == 21)
			run.has_goodbye = true; /* or a fatal alert, which ends as much */
	}
	chain_clear(&run.out);
}

static void read_slice(size_t bytes)
{
	static uint8_t plain[RECORD_PLAIN_BYTES_MAX + 1];
	size_t room = take(4) == 0 ? 1 + take(2000) : sizeof(plain);
	uint8_t *slice = malloc(bytes);
	struct record_input input = {.data = slice, .bytes = bytes};
	ssize_t got;

	PEER_IS(slice != NULL || bytes == 0);
	if (bytes > 0)
		memcpy(slice, run.wire, bytes);
	memmove(run.wire, run.wire + bytes, run.wire_bytes - bytes);
	run.wire_bytes -= bytes;
	fail_arm();
	while ((got = record_read(run.record, &input, plain, room, &run.out)) > 0) {
		PEER_IS(run.read_bytes + (size_t)got <= run.sealed_bytes);
		PEER_IS(memcmp(plain, run.sealed + run.read_bytes, (size_t)got) == 0);
		run.read_bytes += (size_t)got;
	}
	fail_disarm();
	if (got == RECORD_AGAIN)
		PEER_IS(input.bytes == 0);
	else
		run.has_ended = true;
	free(slice);
}

static void flush_wire(void)
{
	while (run.wire_bytes > 0) {
		size_t here = run.wire_bytes;

		if (take(3) == 0)
			here = 1 + take((uint32_t)here);
		read_slice(here);
	}
}

static void seal_inner(uint8_t type, size_t bytes, size_t padding)
{
	static uint8_t inner[INNER_MAX];
	size_t end = bytes + 1 + padding;

	for (size_t index = 0; index < bytes; index++)
		inner[index] = run.left > 0 ? (run.left--, *run.input++) : (uint8_t)index;
	inner[bytes] = type;
	memset(inner + bytes + 1, 0, padding);
	/* The last byte that is not 0 is the type (RFC 8446 section 5.4), whichever was meant to be. */
	while (end > 0 && inner[end - 1] == 0)
		end--;
	if (end > 0 && inner[end - 1] == 23 && run.sealed_bytes + end - 1 <= DATA_MAX) {
		memcpy(run.sealed + run.sealed_bytes, inner, end - 1);
		run.sealed_bytes += end - 1;
	}
	if (run.wire_bytes + bytes + padding + 22 > sizeof(run.wire))
		flush_wire();
	run.wire_bytes +=
		peer_seal(&run.peer, inner, bytes + 1 + padding, run.wire + run.wire_bytes);
}

/* A change of the peer's keys, as it must be. */
static void seal_key_update(void)
{
	const uint8_t inner[6] = {24, 0, 0, 1, (uint8_t)take(2), 22};

	if (run.wire_bytes + 27 > sizeof(run.wire))
		flush_wire();
	run.wire_bytes += peer_seal(&run.peer, inner, 6, run.wire + run.wire_bytes);
	keys_update(&run.peer, &run.peer.seals);
}

static void send_some(size_t bytes)
{
	static const uint8_t plain[40000];

	if (run.has_goodbye)
		return;
	fail_arm();
	if (record_write(run.record, plain, bytes, &run.out) < 0)
		run.has_ended = true;
	fail_disarm();
}

static void say_goodbye(void)
{
	fail_arm();
	if (record_goodbye(run.record, &run.out) < 0)
		run.has_ended = true;
	fail_disarm();
}

static void step(void)
{
	uint32_t number = take(65536), bytes;
	uint8_t type;

	run.fails = (uint8_t)(number >> 8);
	switch (number % 8) {
	case 0:
		bytes = take(16384);
		seal_inner(23, bytes, take(20));
		break;
	case 1:
		type = (uint8_t)take(256);
		bytes = take(64);
		seal_inner(type, bytes, take(40));
		break;
	case 2:
		seal_inner(22, take(300), 0);
		break;
	case 3:
		seal_inner(21, take(4), 0);
		break;
	case 4:
		seal_key_update();
		break;
	case 5: { /* bytes of no record of ours */
		size_t here = take(64);

		if (here > run.left)
			here = run.left;
		if (run.wire_bytes + here > sizeof(run.wire))
			flush_wire();
		memcpy(run.wire + run.wire_bytes, run.input, here);
		run.input += here;
		run.left -= here;
		run.wire_bytes += here;
		break;
	}
	case 6:
		send_some(take(40000));
		break;
	default:
		if (take(8) == 0)
			say_goodbye();
		break;
	}
}

static void shard_end(void)
{
	record_shard_destroy(shard);
}

/* The shard of all inputs, and two that cannot be made. */
static void prepare(void)
{
	struct record_shard *none;
	OSSL_PROVIDER *provider;
	OSSL_LIB_CTX *library;

	PEER_MUST(record_shard_create(NULL, &shard), 0); /* OpenSSL's own beginning does not fail */
	PEER_MUST(atexit(shard_end), 0);
	memory_script_fail(1, false);
	PEER_MUST(record_shard_create(NULL, &none), -ENOMEM);
	memory_script_fail(0, false);
	/* A library without ciphers. */
	PEER_IS((library = OSSL_LIB_CTX_new()) != NULL);
	PEER_IS((provider = OSSL_PROVIDER_load(library, "null")) != NULL);
	PEER_MUST(record_shard_create(library, &none), -EIO);
	PEER_MUST(OSSL_PROVIDER_unload(provider), 1);
	OSSL_LIB_CTX_free(library);
	ERR_clear_error();
}

/* A failure is final, and each call says the same of it. */
static void check_final(void)
{
	static const uint8_t plain[1];
	int status = record_goodbye(run.record, &run.out);

	check_sent();
	read_slice(0);
	if (status == 0)
		return; /* the peer's end is none of ours */
	PEER_IS(status == RECORD_FAILED || status == RECORD_NO_MEMORY);
	PEER_IS(status == RECORD_NO_MEMORY || record_failure(run.record) != NULL);
	PEER_IS(record_alert_sent(run.record) < 0 || record_alert_received(run.record) < 0 ||
		run.has_goodbye);
	if (!run.has_goodbye)
		PEER_MUST(record_write(run.record, plain, 1, &run.out), status);
	chain_clear(&run.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t secrets[2][RECORD_SECRET_BYTES] = {{1}, {2}};
	struct record_options options = {
		.secret_read = secrets[0],
		.secret_write = secrets[1],
		.records_per_key = 5,
	};

	if (shard == NULL)
		prepare();
	run.input = data;
	run.left = bytes;
	run.wire_bytes = run.sealed_bytes = run.read_bytes = 0;
	run.has_ended = run.has_goodbye = false;
	run.fails = bytes > 1 ? data[0] : 0;
	options.suite = take(2) == 0 ? RECORD_AES_128_GCM : RECORD_CHACHA20_POLY1305;
	options.is_server = take(2) == 0;
	run.peer = (struct peer){.suite = options.suite};
	memcpy(run.peer.seals.secret, secrets[0], RECORD_SECRET_BYTES);
	memcpy(run.peer.opens.secret, secrets[1], RECORD_SECRET_BYTES);
	keys_derive(&run.peer, &run.peer.seals);
	keys_derive(&run.peer, &run.peer.opens);
	fail_arm();
	if (record_create(shard, &options, &run.record) < 0) {
		fail_disarm();
		return 0;
	}
	fail_disarm();
	for (int count = 0; run.left > 0 && !run.has_ended && count < 200; count++) {
		step();
		if (take(2) == 0)
			flush_wire();
		check_sent();
		PEER_IS(record_bytes(run.record) > 0);
	}
	flush_wire();
	check_sent();
	if (run.has_ended)
		check_final();
	record_destroy(run.record);
	run.record = NULL;
	return 0;
}
