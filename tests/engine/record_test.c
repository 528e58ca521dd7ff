/*
 * Our TLS 1.3 record layer: the records of RFC 8448, and a peer of the test's own that seals whatever
 * it likes with plain libcrypto calls, each in every way a stream may cut it.
 *
 *   record_test --seed S      the random case again
 */
#include "engine/record.h"
#include "tests/engine/record_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FOR_EVER UINT64_MAX

static uint64_t test_seed;

static uint64_t random_next(void)
{
	test_seed ^= test_seed << 13;
	test_seed ^= test_seed >> 7;
	test_seed ^= test_seed << 17;
	return test_seed;
}

/* ---- ours against it ---------------------------------------------------------------------- */

#define WIRE_MAX (1u << 20)

struct bench {
	struct record_shard *shard;
	struct record *record;
	struct peer peer;
	struct chain out;
	uint8_t *wire; /* what the peer has sealed and we have not read */
	size_t wire_bytes;
	size_t slice_max; /* so much at once reaches us; 0: all */
};

static struct bench it;

static void bench_open(enum record_suite suite, bool is_server, uint64_t records_per_key)
{
	struct record_options options = {
		.suite = suite,
		.is_server = is_server,
		.secret_read = it.peer.seals.secret,
		.secret_write = it.peer.opens.secret,
		.records_per_key = records_per_key,
	};

	record_destroy(it.record);
	it.record = NULL;
	chain_clear(&it.out);
	it.wire_bytes = 0;
	it.slice_max = 0;
	it.peer.suite = suite;
	for (int index = 0; index < 32; index++) {
		it.peer.seals.secret[index] = (uint8_t)random_next();
		it.peer.opens.secret[index] = (uint8_t)random_next();
	}
	keys_derive(&it.peer, &it.peer.seals);
	keys_derive(&it.peer, &it.peer.opens);
	assert_int_equal(record_create(it.shard, &options, &it.record), 0);
}

static int begin(void **state)
{
	(void)state;
	it = (struct bench){.wire = malloc(WIRE_MAX)};
	assert_non_null(it.wire);
	assert_int_equal(record_shard_create(NULL, &it.shard), 0);
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	return 0;
}

static int end(void **state)
{
	(void)state;
	record_destroy(it.record);
	record_shard_destroy(it.shard);
	chain_clear(&it.out);
	free(it.wire);
	return 0;
}

/* The peer seals content of a type with padding behind it. */
static void says(uint8_t type, const void *content, size_t bytes, size_t padding)
{
	static uint8_t inner[70000];

	if (bytes > 0)
		memcpy(inner, content, bytes);
	inner[bytes] = type;
	memset(inner + bytes + 1, 0, padding);
	assert_true(it.wire_bytes + bytes + padding + 22 <= WIRE_MAX);
	it.wire_bytes += peer_seal(&it.peer, inner, bytes + 1 + padding, it.wire + it.wire_bytes);
}

static void says_key_update(uint8_t request)
{
	const uint8_t message[] = {24, 0, 0, 1, request};

	says(22, message, sizeof(message), 0);
	keys_update(&it.peer, &it.peer.seals);
}

/* Read it all, slice by slice; the application data, and in *last what ended it. */
static size_t hears(uint8_t *data, size_t room, size_t piece, ssize_t *last)
{
	size_t at = 0, got_bytes = 0;
	ssize_t got = RECORD_AGAIN;

	while (got == RECORD_AGAIN && at < it.wire_bytes) {
		size_t here = it.wire_bytes - at;
		uint8_t *slice;
		struct record_input input;

		if (it.slice_max > 0 && here > it.slice_max)
			here = 1 + (size_t)random_next() % it.slice_max;
		if (here > it.wire_bytes - at)
			here = it.wire_bytes - at;
		slice = malloc(here); /* of its own, so that a sanitizer sees a step beyond */
		assert_non_null(slice);
		memcpy(slice, it.wire + at, here);
		at += here;
		input = (struct record_input){.data = slice, .bytes = here};
		while ((got = record_read(it.record, &input, data + got_bytes,
				piece < room - got_bytes ? piece : room - got_bytes, &it.out)) > 0)
			got_bytes += (size_t)got;
		if (got == RECORD_AGAIN)
			assert_int_equal(input.bytes, 0);
		free(slice);
	}
	it.wire_bytes = 0;
	*last = got;
	return got_bytes;
}

/* Take the records that we have sent: the next one's content; its type in *type. */
static size_t sent(uint8_t *inner, uint8_t *type)
{
	uint8_t *flat = malloc(it.out.bytes);
	size_t bytes = 0, record_bytes;

	assert_non_null(flat);
	for (struct chunk *chunk = it.out.head; chunk != NULL; chunk = chunk->next) {
		memcpy(flat + bytes, chunk->data + chunk->offset, chunk->bytes - chunk->offset);
		bytes += chunk->bytes - chunk->offset;
	}
	assert_true(bytes >= 5);
	record_bytes = 5 + ((size_t)flat[3] << 8 | flat[4]);
	bytes = peer_open(&it.peer, flat, bytes, inner);
	free(flat);
	chain_consume(&it.out, record_bytes);
	*type = inner[bytes - 1];
	return bytes - 1;
}

static void expect_alert(int description)
{
	uint8_t inner[64], type;

	assert_int_equal(sent(inner, &type), 2);
	assert_int_equal(type, 21);
	assert_int_equal(inner[0], 2);
	assert_int_equal(inner[1], description);
	assert_int_equal(it.out.bytes, 0);
	assert_int_equal(record_alert_sent(it.record), description);
}

/* What was said is refused with this alert, and then nothing goes either way. */
static void expect_refused(int description, const char *text)
{
	static uint8_t data[RECORD_PLAIN_BYTES_MAX + 1];
	ssize_t last;

	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
	assert_int_equal(last, RECORD_FAILED);
	assert_string_equal(record_failure(it.record), text);
	expect_alert(description);
	assert_int_equal(record_write(it.record, data, 1, &it.out), RECORD_FAILED);
	assert_int_equal(record_goodbye(it.record, &it.out), RECORD_FAILED);
	says(23, "x", 1, 0);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
	assert_int_equal(last, RECORD_FAILED);
	assert_int_equal(it.out.bytes, 0);
}

/* ---- RFC 8448, section 3 ------------------------------------------------------------------ */

static size_t hex(const char *text, uint8_t *out)
{
	size_t bytes = 0;
	unsigned value;
	int used;

	while (sscanf(text, " %2x%n", &value, &used) == 1) {
		out[bytes++] = (uint8_t)value;
		text += used;
	}
	return bytes;
}

static const char client_secret[] =
	"9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
static const char server_secret[] =
	"a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
static const char ticket_record[] =
	"17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c7"
	"58db289a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1"
	"b6c0d4a3d03f75e09c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc1"
	"81a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c86519d86cbeeac87aac347d143f9605d64f6"
	"50db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779"
	"b37bf15985684f";
static const char client_record[] =
	"1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a"
	"20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
static const char server_record[] =
	"17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb"
	"501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
static const char client_goodbye[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
static const char server_goodbye[] = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

static void expect_sent(const char *text)
{
	uint8_t expected[256];
	size_t bytes = hex(text, expected);

	assert_int_equal(it.out.bytes, bytes);
	assert_memory_equal(it.out.head->data + it.out.head->offset, expected, bytes);
	chain_clear(&it.out);
}

static void vectors_open(bool is_server)
{
	uint8_t client[32], server[32];
	struct record_options options = {
		.suite = RECORD_AES_128_GCM,
		.is_server = is_server,
		.secret_read = is_server ? client : server,
		.secret_write = is_server ? server : client,
		.records_per_key = FOR_EVER,
	};

	assert_int_equal(hex(client_secret, client), 32);
	assert_int_equal(hex(server_secret, server), 32);
	record_destroy(it.record);
	assert_int_equal(record_create(it.shard, &options, &it.record), 0);
}

static void record_vectors_as_client(void **state)
{
	uint8_t payload[50], data[64];
	ssize_t last;

	(void)state;
	for (int index = 0; index < 50; index++)
		payload[index] = (uint8_t)index;
	vectors_open(false);
	it.wire_bytes = hex(ticket_record, it.wire);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
	assert_int_equal(last, RECORD_AGAIN);
	assert_int_equal(record_write(it.record, payload, 50, &it.out), 0);
	expect_sent(client_record);
	it.wire_bytes = hex(server_record, it.wire);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 50);
	assert_memory_equal(data, payload, 50);
	assert_int_equal(record_goodbye(it.record, &it.out), 0);
	expect_sent(client_goodbye);
	it.wire_bytes = hex(server_goodbye, it.wire);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
	assert_int_equal(last, RECORD_CLOSED);
}

/* The server's first record there is a ticket, which we never send: only what it reads. */
static void record_vectors_as_server(void **state)
{
	uint8_t data[64];
	ssize_t last;

	(void)state;
	vectors_open(true);
	it.wire_bytes = hex(client_record, it.wire);
	it.wire_bytes += hex(client_goodbye, it.wire + it.wire_bytes);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 50);
	for (int index = 0; index < 50; index++)
		assert_int_equal(data[index], index);
	assert_int_equal(last, RECORD_CLOSED);
}

/* ---- good conduct -------------------------------------------------------------------------- */

static const size_t sizes[] = {1, 15, 16, 17, 255, 1000, 16383, 16384, 16385, 40000, 100000};

static void record_writes_what_a_peer_opens(void **state)
{
	static uint8_t data[100000], inner[17000];

	(void)state;
	for (int suite = 0; suite < RECORD_SUITE_COUNT; suite++) {
		bench_open((enum record_suite)suite, suite == 0, FOR_EVER);
		for (size_t index = 0; index < sizeof(sizes) / sizeof(sizes[0]); index++) {
			size_t at = 0;

			for (size_t byte = 0; byte < sizes[index]; byte++)
				data[byte] = (uint8_t)random_next();
			assert_int_equal(record_write(it.record, data, sizes[index], &it.out), 0);
			while (at < sizes[index]) {
				uint8_t type;
				size_t bytes = sent(inner, &type);

				assert_int_equal(type, 23);
				assert_true(bytes <= RECORD_PLAIN_BYTES_MAX);
				assert_memory_equal(inner, data + at, bytes);
				at += bytes;
			}
			assert_int_equal(at, sizes[index]);
			assert_int_equal(it.out.bytes, 0);
		}
		assert_int_equal(record_write(it.record, data, 0, &it.out), 0);
		assert_int_equal(it.out.bytes, 0);
	}
}

static void record_reads_what_a_peer_seals(void **state)
{
	static uint8_t data[300000], heard[300000];
	ssize_t last;

	(void)state;
	for (int round = 0; round < 60; round++) {
		size_t bytes = 0;

		bench_open(round % 2 == 0 ? RECORD_AES_128_GCM : RECORD_CHACHA20_POLY1305,
			round % 3 == 0, FOR_EVER);
		for (int index = 0; index < 12; index++) {
			size_t here = (size_t)random_next() % 16385;
			size_t padding = (size_t)random_next() % (16385 - here);

			if (random_next() % 4 == 0)
				here = padding = (size_t)random_next() % 4;
			for (size_t byte = 0; byte < here; byte++)
				data[bytes + byte] = (uint8_t)random_next();
			says(23, data + bytes, here, padding);
			bytes += here;
			if (random_next() % 5 == 0)
				says_key_update(0);
		}
		says(21, (uint8_t[]){1, 0}, 2, 0);
		it.slice_max = round % 4 == 0 ? 0 : (size_t)1 << (round % 15);
		assert_int_equal(hears(heard, sizeof(heard),
					 round % 5 == 0 ? 1 + (size_t)random_next() % 3000
							: RECORD_PLAIN_BYTES_MAX + 1,
					 &last),
			bytes);
		assert_memory_equal(heard, data, bytes);
		assert_int_equal(last, RECORD_CLOSED);
		assert_int_equal(it.out.bytes, 0);
		assert_int_equal(record_bytes(it.record) <= 300, 1); /* nothing is kept */
	}
}

static void record_changes_its_key_in_time(void **state)
{
	uint8_t inner[64], type;
	int updates = 0;

	(void)state;
	bench_open(RECORD_AES_128_GCM, true, 4);
	for (int index = 0; index < 20; index++) {
		assert_int_equal(record_write(it.record, &type, 1, &it.out), 0);
		while (it.out.bytes > 0) {
			size_t bytes = sent(inner, &type);

			assert_true(it.peer.opens.sequence <= 4);
			if (type == 23)
				continue;
			assert_int_equal(type, 22);
			assert_int_equal(bytes, 5);
			assert_memory_equal(inner, ((uint8_t[]){24, 0, 0, 1, 0}), 5);
			keys_update(&it.peer, &it.peer.opens);
			updates++;
		}
	}
	assert_int_equal(updates, 6);
}

static void record_answers_a_key_update(void **state)
{
	uint8_t data[64], type;
	ssize_t last;

	(void)state;
	says_key_update(1);
	says(23, "behind", 6, 0);
	it.slice_max = 1;
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 6);
	assert_memory_equal(data, "behind", 6);
	assert_int_equal(sent(data, &type), 5);
	assert_int_equal(type, 22);
	assert_memory_equal(data, ((uint8_t[]){24, 0, 0, 1, 0}), 5);
	keys_update(&it.peer, &it.peer.opens);
	assert_int_equal(record_write(it.record, (const uint8_t *)"new", 3, &it.out), 0);
	assert_int_equal(sent(data, &type), 3);
	assert_memory_equal(data, "new", 3);
	/* Behind our goodbye nothing is answered, but the key changes all the same. */
	assert_int_equal(record_goodbye(it.record, &it.out), 0);
	assert_int_equal(sent(data, &type), 2);
	says_key_update(1);
	says(23, "more", 4, 0);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 4);
	assert_int_equal(it.out.bytes, 0);
	assert_int_equal(record_goodbye(it.record, &it.out), 0); /* once */
	assert_int_equal(it.out.bytes, 0);
}

static void record_key_update_in_parts(void **state)
{
	uint8_t data[8];
	ssize_t last;

	(void)state;
	says(22, (uint8_t[]){24, 0}, 2, 0);
	says(22, (uint8_t[]){0, 1}, 2, 7);
	says(22, (uint8_t[]){0}, 1, 0);
	keys_update(&it.peer, &it.peer.seals);
	says(23, "x", 1, 0);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 1);
}

static void record_passes_tickets_over(void **state)
{
	static uint8_t ticket[3000], data[64];
	ssize_t last;

	(void)state;
	ticket[0] = 4;
	ticket[2] = (3000 - 4) >> 8;
	ticket[3] = (3000 - 4) & 255;
	says(22, ticket, 100, 0);
	says(22, ticket + 100, 2900, 0);
	says(22, (uint8_t[]){4, 0, 0, 0, 4, 0, 0, 1, 9}, 9, 3); /* an empty one and a short one */
	says(23, "data", 4, 0);
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 4);
	assert_int_equal(last, RECORD_AGAIN);
	bench_open(RECORD_AES_128_GCM, true, FOR_EVER);
	says(22, ticket, 100, 0);
	expect_refused(10, "unexpected handshake message");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, (uint8_t[]){4, 1, 0, 0}, 4, 0);
	expect_refused(50, "session ticket too long");
}

/* More connections than contexts, in turns, so that keys are set anew again and again. */
static void record_many_share_contexts(void **state)
{
	enum {
		COUNT = 700
	};
	struct record *records[COUNT];
	struct peer peers[COUNT];
	uint8_t wire[128], data[64];

	(void)state;
	for (int index = 0; index < COUNT; index++) {
		bench_open(index % 3 == 0 ? RECORD_CHACHA20_POLY1305 : RECORD_AES_128_GCM, true,
			FOR_EVER);
		records[index] = it.record;
		peers[index] = it.peer;
		it.record = NULL;
	}
	for (int turn = 0; turn < 5; turn++)
		for (int index = 0; index < COUNT; index++) {
			struct record_input input = {.data = wire};
			uint8_t type;

			memset(data, index, sizeof(data));
			data[32] = 23;
			input.bytes = peer_seal(&peers[index], data, 33, wire);
			assert_int_equal(
				record_read(records[index], &input, data, 64, &it.out), 32);
			assert_int_equal(data[31], (uint8_t)index);
			assert_int_equal(record_write(records[index], data, 32, &it.out), 0);
			it.peer = peers[index];
			assert_int_equal(sent(data, &type), 32);
			peers[index] = it.peer;
			if (turn == 3 && index % 2 == 0) {
				record_destroy(records[index]);
				bench_open(RECORD_AES_128_GCM, true, FOR_EVER);
				records[index] = it.record;
				peers[index] = it.peer;
				it.record = NULL;
			}
		}
	for (int index = 0; index < COUNT; index++)
		record_destroy(records[index]);
}

/* ---- bad conduct --------------------------------------------------------------------------- */

static void record_refuses(void **state)
{
	static uint8_t long_content[16500];
	static const uint8_t plain_alert[] = {21, 3, 3, 0, 2, 1, 0};

	(void)state;
	/* Headers. */
	memcpy(it.wire, plain_alert, sizeof(plain_alert));
	it.wire_bytes = sizeof(plain_alert);
	expect_refused(10, "unprotected record");
	for (size_t slice = 0; slice < 3; slice++) {
		bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
		it.slice_max = slice;
		memcpy(it.wire, ((uint8_t[]){23, 3, 3, 0x41, 0x01}), 5); /* 16,641 */
		it.wire_bytes = 5;
		expect_refused(22, "record too long");
		bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
		it.slice_max = slice;
		memcpy(it.wire, ((uint8_t[]){23, 3, 3, 0, 16}), 5);
		it.wire_bytes = 5;
		expect_refused(20, "record too short");
	}
	/* 16,384 of content and 2 of padding: one more than an inner text may have. */
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(23, long_content, 16384, 1);
	expect_refused(22, "record too long");
	bench_open(RECORD_CHACHA20_POLY1305, false, FOR_EVER);
	says(23, long_content, 16385, 0);
	expect_refused(22, "record too long");
	/* Inner texts. */
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(0, NULL, 0, 30);
	expect_refused(10, "record without content type");
	for (int type = 1; type < 256; type++) {
		if (type >= 21 && type <= 23)
			continue;
		bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
		says((uint8_t)type, "x", 1, 0);
		expect_refused(10, "record of an unexpected kind");
	}
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, NULL, 0, 0);
	expect_refused(10, "empty handshake record");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(21, "", 1, 0);
	expect_refused(50, "alert of a wrong length");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(21, "\1\0\1", 3, 0);
	expect_refused(50, "alert of a wrong length");
}

static void record_refuses_messages(void **state)
{
	(void)state;
	for (int type = 0; type < 256; type++) {
		if (type == 4 || type == 24)
			continue;
		bench_open(RECORD_AES_128_GCM, type % 2 == 0, FOR_EVER);
		says(22, (uint8_t[]){(uint8_t)type, 0, 0, 1, 0}, 5, 0);
		expect_refused(10, "unexpected handshake message");
	}
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, (uint8_t[]){24, 0, 0, 2, 0, 0}, 6, 0);
	expect_refused(50, "key update of a wrong length");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, (uint8_t[]){24, 0, 0, 1, 2}, 5, 0);
	expect_refused(47, "key update of no known kind");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, (uint8_t[]){24, 0, 0, 1, 0, 24}, 6, 0);
	expect_refused(10, "a message behind a key update in one record");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, (uint8_t[]){24, 0}, 2, 0);
	says(23, "x", 1, 0);
	expect_refused(10, "a record between the parts of a handshake message");
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	says(22, (uint8_t[]){4, 0, 0, 9, 1}, 5, 0);
	says(21, (uint8_t[]){1, 0}, 2, 0);
	expect_refused(10, "a record between the parts of a handshake message");
}

static void record_refuses_floods(void **state)
{
	static const char text[] = "too many key updates or empty records";
	uint8_t data[64], type;
	ssize_t last;

	(void)state;
	for (int index = 0; index < 33; index++)
		says(23, NULL, 0, 0);
	expect_refused(10, text);
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	for (int index = 0; index < 33; index++)
		says(21, (uint8_t[]){1, 90}, 2, 0);
	expect_refused(10, text);
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	for (int index = 0; index < 33; index++)
		says_key_update(0);
	expect_refused(10, text);
	/* A byte in between does not pay for one. */
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	for (int index = 0; index < 35; index++) {
		says_key_update(0);
		says(23, "x", 1, 0);
	}
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 33);
	assert_int_equal(last, RECORD_FAILED);
	assert_string_equal(record_failure(it.record), text);
	/* So many records do; each update is answered once. */
	bench_open(RECORD_AES_128_GCM, false, FOR_EVER);
	for (int index = 0; index < 100; index++) {
		says_key_update(1);
		for (unsigned i = 0; i < RECORD_POST_COST; i++)
			says(23, "x", 1, 0);
		assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), RECORD_POST_COST);
		assert_int_equal(sent(data, &type), 5);
		keys_update(&it.peer, &it.peer.opens);
		assert_int_equal(it.out.bytes, 0);
	}
}

static void record_takes_alerts(void **state)
{
	uint8_t data[8];
	ssize_t last;

	(void)state;
	for (int description = 1; description < 256; description++) {
		if (description == 90)
			continue;
		bench_open(RECORD_AES_128_GCM, true, FOR_EVER);
		says(21, (uint8_t[]){(uint8_t)(1 + description % 2), (uint8_t)description}, 2, 0);
		says(23, "x", 1, 0);
		assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
		assert_int_equal(last, RECORD_FAILED);
		assert_int_equal(
			record_alert_received(it.record), description < 255 ? description : 254);
		assert_int_equal(record_alert_sent(it.record), -1);
		assert_int_equal(it.out.bytes, 0);
	}
	bench_open(RECORD_AES_128_GCM, true, FOR_EVER);
	says(21, (uint8_t[]){1, 90}, 2, 0);
	says(21, (uint8_t[]){1, 0}, 2, 0);
	says(23, "x", 1, 0); /* not read any more */
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
	assert_int_equal(last, RECORD_CLOSED);
	assert_int_equal(record_alert_received(it.record), -1);
	/* Ours goes out all the same. */
	assert_int_equal(record_write(it.record, data, 1, &it.out), 0);
	assert_int_equal(record_goodbye(it.record, &it.out), 0);
	assert_int_equal(record_alert_sent(it.record), 0);
}

/* Any bit of a record changed: the tag or the header tells. */
static void record_changed_is_refused(void **state)
{
	uint8_t data[64];
	ssize_t last;

	(void)state;
	for (int bit = 0; bit < (5 + 20 + 1 + 16) * 8; bit++) {
		bench_open(bit % 2 == 0 ? RECORD_AES_128_GCM : RECORD_CHACHA20_POLY1305, true,
			FOR_EVER);
		says(23, "twenty bytes of data", 20, 0);
		says(23, "and what follows it.", 20, 0);
		it.wire[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
		/* A longer length only waits for what never comes. */
		if (bit / 8 != 3 && bit / 8 != 4)
			assert_int_equal(last, RECORD_FAILED);
		else
			assert_true(last == RECORD_FAILED || last == RECORD_AGAIN);
	}
	/* A record again, or one left out. */
	bench_open(RECORD_AES_128_GCM, true, FOR_EVER);
	says(23, "x", 1, 0);
	memcpy(it.wire + it.wire_bytes, it.wire, it.wire_bytes);
	it.wire_bytes *= 2;
	assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 1);
	assert_int_equal(last, RECORD_FAILED);
	expect_alert(20);
	bench_open(RECORD_AES_128_GCM, true, FOR_EVER);
	says(23, "x", 1, 0);
	it.wire_bytes = 0;
	says(23, "y", 1, 0);
	expect_refused(20, "bad record mac");
}

/* Random bytes in random slices end in a refusal or in waiting, never in data. */
static void record_random_bytes(void **state)
{
	static uint8_t data[RECORD_PLAIN_BYTES_MAX + 1];
	ssize_t last;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		bench_open(RECORD_AES_128_GCM, round % 2 == 0, FOR_EVER);
		it.wire_bytes = 1 + (size_t)random_next() % 4000;
		for (size_t index = 0; index < it.wire_bytes; index++)
			it.wire[index] = (uint8_t)random_next();
		if (round % 2 == 0)
			memcpy(it.wire, ((uint8_t[]){23, 3, 3, 1}), 4);
		it.slice_max = 1 + (size_t)random_next() % 600;
		assert_int_equal(hears(data, sizeof(data), sizeof(data), &last), 0);
		assert_true(last == RECORD_FAILED || last == RECORD_AGAIN);
		/* Never more than twice what has come, and what a header announces counts for nothing. */
		assert_true(record_bytes(it.record) <= 300 + 8000 + 512);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(record_vectors_as_client, begin, end),
		cmocka_unit_test_setup_teardown(record_vectors_as_server, begin, end),
		cmocka_unit_test_setup_teardown(record_writes_what_a_peer_opens, begin, end),
		cmocka_unit_test_setup_teardown(record_reads_what_a_peer_seals, begin, end),
		cmocka_unit_test_setup_teardown(record_changes_its_key_in_time, begin, end),
		cmocka_unit_test_setup_teardown(record_answers_a_key_update, begin, end),
		cmocka_unit_test_setup_teardown(record_key_update_in_parts, begin, end),
		cmocka_unit_test_setup_teardown(record_passes_tickets_over, begin, end),
		cmocka_unit_test_setup_teardown(record_many_share_contexts, begin, end),
		cmocka_unit_test_setup_teardown(record_refuses, begin, end),
		cmocka_unit_test_setup_teardown(record_refuses_messages, begin, end),
		cmocka_unit_test_setup_teardown(record_refuses_floods, begin, end),
		cmocka_unit_test_setup_teardown(record_takes_alerts, begin, end),
		cmocka_unit_test_setup_teardown(record_changed_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(record_random_bytes, begin, end),
	};

	test_seed = (uint64_t)time(NULL) * 2654435761u | 1;
	if (argc == 3 && strcmp(argv[1], "--seed") == 0)
		test_seed = strtoull(argv[2], NULL, 10) | 1;
	printf("seed %llu\n", (unsigned long long)test_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
