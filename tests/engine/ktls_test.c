/*
 * kTLS: the structures that the kernel is given, byte by byte, from the secrets of RFC 8448; the probe and the
 * hand-over where setsockopt says yes and no at each of their steps; and what this kernel really does: where
 * it has kTLS data goes through it in both directions, where it has none the socket serves as before.
 */
#include "engine/ktls.h"
#include "peerhub.h"
#include "tests/engine/record_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* ---- two ends of our record layer ---------------------------------------------------------- */

struct ends {
	struct record_shard *shard;
	struct record *client, *server;
	struct chain out;
	uint8_t secrets[2][RECORD_SECRET_BYTES]; /* the client's, the server's */
};

static struct ends it;

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

static void ends_open(enum record_suite suite)
{
	struct record_options options = {.suite = suite,
		.secret_read = it.secrets[1],
		.secret_write = it.secrets[0],
		.records_per_key = UINT64_MAX};

	record_destroy(it.client);
	record_destroy(it.server);
	chain_clear(&it.out);
	it.client = it.server = NULL;
	assert_int_equal(record_create(it.shard, &options, &it.client), 0);
	options.is_server = true;
	options.secret_read = it.secrets[0];
	options.secret_write = it.secrets[1];
	assert_int_equal(record_create(it.shard, &options, &it.server), 0);
}

static int begin(void **state)
{
	(void)state;
	it = (struct ends){.client = NULL};
	/* RFC 8448 section 3: client_application_traffic_secret_0 and the server's. */
	assert_int_equal(hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
				 it.secrets[0]),
		32);
	assert_int_equal(hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
				 it.secrets[1]),
		32);
	assert_int_equal(record_shard_create(NULL, &it.shard), 0);
	ends_open(RECORD_AES_128_GCM);
	return 0;
}

static int end(void **state)
{
	(void)state;
	record_destroy(it.client);
	record_destroy(it.server);
	record_shard_destroy(it.shard);
	chain_clear(&it.out);
	return 0;
}

/* What is sealed by `from` opens at `to`. */
static void expect_talk(struct record *from, struct record *to)
{
	uint8_t wire[256], data[64];
	struct record_input input = {.data = wire};
	struct chunk *chunk;

	assert_int_equal(record_write(from, (const uint8_t *)"hello", 5, &it.out), 0);
	while ((chunk = chain_pop(&it.out)) != NULL) {
		memcpy(wire + input.bytes, chunk->data + chunk->offset,
			chunk->bytes - chunk->offset);
		input.bytes += chunk->bytes - chunk->offset;
		chunk_destroy(chunk);
	}
	assert_int_equal(record_read(to, &input, data, sizeof(data), &it.out), 5);
	assert_memory_equal(data, "hello", 5);
}

static void expect_no_seal(struct record *record)
{
	assert_int_equal(record_write(record, (const uint8_t *)"hello", 5, &it.out), RECORD_FAILED);
	assert_int_equal(it.out.bytes, 0);
}

/* ---- a kernel that answers as it is told ---------------------------------------------------- */

enum {
	ANSWERS_MAX = 16
};

struct fake {
	int answers[ANSWERS_MAX]; /* of call 0, 1, …; 0 beyond them */
	unsigned calls;
	struct {
		int level, option;
		uint8_t value[64];
		socklen_t bytes;
	} seen[ANSWERS_MAX];
};

static int fake_set(
	void *context, int fd, int level, int option, const void *value, socklen_t bytes)
{
	struct fake *fake = context;
	unsigned at = fake->calls++;

	(void)fd;
	assert_true(at < ANSWERS_MAX);
	assert_true(bytes <= sizeof(fake->seen[at].value));
	fake->seen[at].level = level;
	fake->seen[at].option = option;
	fake->seen[at].bytes = bytes;
	memcpy(fake->seen[at].value, value, bytes);
	return fake->answers[at];
}

static const int refusals[] = {-ENOENT, -ENOPROTOOPT, -EBUSY, -EINVAL, -EOPNOTSUPP, -EPERM};
#define REFUSAL_COUNT (sizeof(refusals) / sizeof(refusals[0]))

/* ---- the structures ------------------------------------------------------------------------- */

/* Each field where linux/tls.h has it, from the key and IV that RFC 8448 prints; the client has sent two
 * records. */
static void ktls_structure_of_aes(void **state)
{
	/* version 3.4, cipher 51; the IV's last 8 bytes; the key; the IV's first 4 (salt); the sequence */
	static const char expected_client[] =
		"04033300 ee08579033e523d9 17422dda596ed5d9acd890e3c63f5051 5b78923d "
		"0000000000000002";
	static const char expected_server[] =
		"04033300 dd83549aadf1e984 9f02283b6c9c07efc26bb9f2ac92e356 cf782b88 "
		"0000000000000000";
	struct record_keys keys;
	struct ktls_crypto crypto;
	uint8_t bytes[64];

	(void)state;
	expect_talk(it.client, it.server);
	expect_talk(it.client, it.server);
	record_keys_seal(it.client, &keys);
	ktls_crypto_fill(&keys, &crypto);
	assert_int_equal(crypto.bytes, 40);
	assert_int_equal(hex(expected_client, bytes), 40);
	assert_memory_equal(&crypto.info, bytes, 40);
	/* The other end opens with the same. */
	record_keys_open(it.server, &keys);
	ktls_crypto_fill(&keys, &crypto);
	assert_memory_equal(&crypto.info, bytes, 40);
	record_keys_seal(it.server, &keys);
	ktls_crypto_fill(&keys, &crypto);
	assert_int_equal(hex(expected_server, bytes), 40);
	assert_memory_equal(&crypto.info, bytes, 40);
	ktls_crypto_wipe(&crypto);
	memset(bytes, 0, sizeof(bytes));
	assert_memory_equal(&crypto.info, bytes, 40);
}

/* Key and IV by the test's own derivation from the secret. */
static void ktls_structure_of_chacha(void **state)
{
	struct peer peer = {.suite = RECORD_CHACHA20_POLY1305};
	struct record_keys keys;
	struct ktls_crypto crypto;
	uint8_t bytes[56] = {0x04, 0x03, 54, 0};

	(void)state;
	ends_open(RECORD_CHACHA20_POLY1305);
	memcpy(peer.seals.secret, it.secrets[0], sizeof(it.secrets[0]));
	keys_derive(&peer, &peer.seals);
	memcpy(bytes + 4, peer.seals.iv, 12);
	memcpy(bytes + 16, peer.seals.key, 32);
	bytes[55] = 1;
	expect_talk(it.client, it.server);
	record_keys_seal(it.client, &keys);
	ktls_crypto_fill(&keys, &crypto);
	assert_int_equal(crypto.bytes, 56);
	assert_memory_equal(&crypto.info, bytes, 56);
	keys.sequence = 0x0102030405060708;
	ktls_crypto_fill(&keys, &crypto);
	assert_int_equal(hex("0102030405060708", bytes + 48), 8);
	assert_memory_equal(&crypto.info, bytes, 56);
}

/* ---- the probe ------------------------------------------------------------------------------ */

/* Four calls a suite: ULP, send, receive, send again. Whichever is refused is named, with its errno. */
static void ktls_probe_names_the_step(void **state)
{
	static const enum ktls_step steps[] = {
		KTLS_STEP_ULP, KTLS_STEP_SEND, KTLS_STEP_RECEIVE, KTLS_STEP_REKEY};
	char text[KTLS_TEXT_BYTES];

	(void)state;
	for (unsigned at = 0; at < 8; at++)
		for (size_t refusal = 0; refusal < REFUSAL_COUNT; refusal++) {
			struct fake fake = {.calls = 0};
			const struct ktls_calls calls = {.set = fake_set, .context = &fake};
			struct ktls_report report;

			fake.answers[at] = refusals[refusal];
			assert_false(ktls_probe(&calls, &report));
			assert_int_equal(report.step, steps[at % 4]);
			assert_int_equal(report.error, refusals[refusal]);
			assert_int_equal(report.has_suite[RECORD_AES_128_GCM], at >= 3);
			assert_int_equal(
				report.has_suite[RECORD_CHACHA20_POLY1305], at < 4 || at == 7);
			assert_non_null(strstr(
				ktls_report_text(&report, text), strerror(-refusals[refusal])));
			/* Nothing is asked for behind a refusal. */
			assert_int_equal(fake.calls, (at % 4) + 1 + 4);
		}
}

static void ktls_probe_of_a_kernel_that_can(void **state)
{
	struct fake fake = {.calls = 0};
	const struct ktls_calls calls = {.set = fake_set, .context = &fake};
	struct ktls_report report;
	char text[KTLS_TEXT_BYTES];

	(void)state;
	assert_true(ktls_probe(&calls, &report));
	assert_int_equal(report.error, 0);
	assert_true(report.has_suite[RECORD_AES_128_GCM]);
	assert_true(report.has_suite[RECORD_CHACHA20_POLY1305]);
	assert_string_equal(ktls_report_text(&report, text), "this kernel can");
	assert_int_equal(fake.calls, 8);
	assert_int_equal(fake.seen[0].level, IPPROTO_TCP);
	assert_int_equal(fake.seen[0].option, TCP_ULP);
	assert_memory_equal(fake.seen[0].value, "tls", 3);
	for (unsigned at = 1; at < 4; at++) {
		assert_int_equal(fake.seen[at].level, SOL_TLS);
		assert_int_equal(fake.seen[at].option, at == 2 ? TLS_RX : TLS_TX);
		assert_int_equal(fake.seen[at].bytes, 40);
		assert_int_equal(fake.seen[4 + at].bytes, 56);
	}
}

/* ---- the hand-over -------------------------------------------------------------------------- */

static enum ktls_mode start(struct fake *fake, int *error)
{
	const struct ktls_calls calls = {.set = fake_set, .context = fake};

	return ktls_start(&calls, -1, it.client, error);
}

static void ktls_start_hands_both_over(void **state)
{
	struct fake fake = {.calls = 0};
	struct ktls_crypto crypto;
	struct record_keys keys;
	uint8_t data[64], slice[] = {23, 3, 3, 0, 20, 0};
	struct record_input input = {.data = slice, .bytes = sizeof(slice)};
	int error;

	(void)state;
	expect_talk(it.client, it.server);
	expect_talk(it.server, it.client);
	expect_talk(it.server, it.client);
	assert_int_equal(start(&fake, &error), KTLS_BOTH);
	assert_int_equal(error, 0);
	assert_int_equal(fake.calls, 3);
	/* Sending goes on behind our one record, receiving behind the server's two. */
	record_keys_open(it.server, &keys);
	ktls_crypto_fill(&keys, &crypto);
	assert_int_equal(fake.seen[1].option, TLS_TX);
	assert_memory_equal(fake.seen[1].value, &crypto.info, 40);
	assert_int_equal(fake.seen[1].value[39], 1);
	record_keys_seal(it.server, &keys);
	ktls_crypto_fill(&keys, &crypto);
	assert_int_equal(fake.seen[2].option, TLS_RX);
	assert_memory_equal(fake.seen[2].value, &crypto.info, 40);
	assert_int_equal(fake.seen[2].value[39], 2);
	/* Neither direction can be used here any more, nor given away once more. */
	assert_false(record_may_give_seal(it.client));
	assert_false(record_may_give_open(it.client));
	assert_int_equal(
		record_read(it.client, &input, data, sizeof(data), &it.out), RECORD_FAILED);
	expect_no_seal(it.client);
}

/* At the ULP and at sending: all stays ours and goes on, at the very next sequence number. */
static void ktls_start_falls_back(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 2; at++)
		for (size_t refusal = 0; refusal < REFUSAL_COUNT; refusal++) {
			struct fake fake = {.calls = 0};
			int error;

			ends_open(refusal % 2 ? RECORD_CHACHA20_POLY1305 : RECORD_AES_128_GCM);
			expect_talk(it.client, it.server);
			fake.answers[at] = refusals[refusal];
			assert_int_equal(start(&fake, &error), KTLS_OFF);
			assert_int_equal(error, refusals[refusal]);
			assert_int_equal(fake.calls, at + 1);
			expect_talk(it.client, it.server);
			expect_talk(it.server, it.client);
		}
}

/* The ULP is there already: that is no refusal. */
static void ktls_start_on_a_socket_that_has_it(void **state)
{
	struct fake fake = {.answers = {-EEXIST}};

	(void)state;
	assert_int_equal(start(&fake, NULL), KTLS_BOTH);
}

/* At receiving: the kernel seals, we open on. */
static void ktls_start_sends_only(void **state)
{
	(void)state;
	for (size_t refusal = 0; refusal < REFUSAL_COUNT; refusal++) {
		struct fake fake = {.calls = 0};
		int error;

		ends_open(RECORD_AES_128_GCM);
		fake.answers[2] = refusals[refusal];
		assert_int_equal(start(&fake, &error), KTLS_SEND);
		assert_int_equal(error, refusals[refusal]);
		expect_talk(it.server, it.client);
		expect_no_seal(it.client);
	}
}

/* A part of a record is in our hands: the kernel would begin in its middle. */
static void ktls_start_between_records_only(void **state)
{
	struct fake fake = {.calls = 0};
	uint8_t wire[256], data[64];
	struct record_input input;
	size_t bytes;
	int error;

	(void)state;
	assert_int_equal(record_write(it.server, (const uint8_t *)"hello", 5, &it.out), 0);
	bytes = it.out.bytes;
	memcpy(wire, it.out.head->data + it.out.head->offset, bytes);
	chain_clear(&it.out);
	input = (struct record_input){.data = wire, .bytes = bytes - 1};
	assert_int_equal(record_read(it.client, &input, data, sizeof(data), &it.out), RECORD_AGAIN);
	assert_int_equal(start(&fake, &error), KTLS_SEND);
	assert_int_equal(error, -EAGAIN);
	assert_int_equal(fake.calls, 2);
	input = (struct record_input){.data = wire + bytes - 1, .bytes = 1};
	assert_int_equal(record_read(it.client, &input, data, sizeof(data), &it.out), 5);
}

/* Behind our goodbye nothing is sent, so nothing is handed over. */
static void ktls_start_not_behind_a_goodbye(void **state)
{
	struct fake fake = {.calls = 0};
	int error;

	(void)state;
	assert_int_equal(record_goodbye(it.client, &it.out), 0);
	assert_int_equal(start(&fake, &error), KTLS_OFF);
	assert_int_equal(error, -EPROTO);
	assert_int_equal(fake.calls, 0);
}

/* A key update of the peer's wants an answer that only the kernel could seal: the connection ends. */
static void ktls_no_answer_to_a_key_update(void **state)
{
	static const uint8_t update[] = {24, 0, 0, 1, 1};
	struct fake fake = {.answers = {0, 0, -EBUSY}};
	struct peer peer = {.suite = RECORD_AES_128_GCM};
	uint8_t wire[64], inner[sizeof(update) + 1], data[64];
	struct record_input input = {.data = wire};

	(void)state;
	memcpy(peer.seals.secret, it.secrets[1], sizeof(it.secrets[1]));
	keys_derive(&peer, &peer.seals);
	assert_int_equal(start(&fake, NULL), KTLS_SEND);
	memcpy(inner, update, sizeof(update));
	inner[sizeof(update)] = 22;
	input.bytes = peer_seal(&peer, inner, sizeof(inner), wire);
	assert_int_equal(
		record_read(it.client, &input, data, sizeof(data), &it.out), RECORD_FAILED);
	assert_int_equal(it.out.bytes, 0);
}

/* ---- control messages ----------------------------------------------------------------------- */

static void ktls_control_messages(void **state)
{
	struct msghdr message = {.msg_iovlen = 0};
	union ktls_control control;

	(void)state;
	ktls_control_set(&message, &control, KTLS_CONTENT_ALERT);
	assert_int_equal(message.msg_controllen, CMSG_SPACE(1));
	assert_int_equal(control.head.cmsg_level, SOL_TLS);
	assert_int_equal(control.head.cmsg_type, TLS_SET_RECORD_TYPE);
	assert_int_equal(*CMSG_DATA(&control.head), 21);
	/* What was sent is not what the kernel says of what came. */
	assert_int_equal(ktls_control_get(&message), KTLS_CONTENT_DATA);
	control.head.cmsg_type = TLS_GET_RECORD_TYPE;
	assert_int_equal(ktls_control_get(&message), KTLS_CONTENT_ALERT);
	control.head.cmsg_level = SOL_SOCKET;
	assert_int_equal(ktls_control_get(&message), KTLS_CONTENT_DATA);
	control.head.cmsg_level = SOL_TLS;
	control.head.cmsg_len = CMSG_LEN(0);
	assert_int_equal(ktls_control_get(&message), -EPROTO);
	message.msg_flags = MSG_CTRUNC;
	assert_int_equal(ktls_control_get(&message), -EPROTO);
	message = (struct msghdr){.msg_iovlen = 0};
	assert_int_equal(ktls_control_get(&message), KTLS_CONTENT_DATA);
}

/* ---- this kernel ---------------------------------------------------------------------------- */

static void pair_open(int ends[2])
{
	const struct timeval patience = {.tv_sec = 60};
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(listener >= 0 && ends[0] >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
	assert_int_equal(connect(ends[0], (struct sockaddr *)&address, sizeof(address)), 0);
	ends[1] = accept(listener, NULL, NULL);
	assert_true(ends[1] >= 0);
	close(listener);
	for (int at = 0; at < 2; at++)
		assert_int_equal(
			setsockopt(ends[at], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
			0);
}

/* One read of the kernel's socket: its content type, bytes into data. */
static int kernel_hears(int fd, uint8_t *data, size_t room, ssize_t *bytes)
{
	union ktls_control control;
	struct iovec part = {.iov_base = data, .iov_len = room};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	*bytes = recvmsg(fd, &message, 0);
	return ktls_control_get(&message);
}

static void expect_through_the_kernel(enum record_suite suite)
{
	uint8_t wire[256], data[64];
	const uint8_t alert[] = {1, 0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)alert, .iov_len = sizeof(alert)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union ktls_control control;
	struct record_input input = {.data = wire};
	ssize_t got;
	int ends[2];

	ends_open(suite);
	expect_talk(it.client, it.server);
	expect_talk(it.server, it.client);
	pair_open(ends);
	assert_int_equal(ktls_start(&ktls_kernel, ends[0], it.client, NULL), KTLS_BOTH);
	/* The kernel seals, we open. */
	assert_int_equal(send(ends[0], "hello", 5, 0), 5);
	got = recv(ends[1], wire, 27, MSG_WAITALL);
	assert_int_equal(got, 27);
	input.bytes = (size_t)got;
	assert_int_equal(record_read(it.server, &input, data, sizeof(data), &it.out), 5);
	assert_memory_equal(data, "hello", 5);
	/* We seal, the kernel opens; then our close_notify. */
	assert_int_equal(record_write(it.server, (const uint8_t *)"world", 5, &it.out), 0);
	assert_int_equal(record_goodbye(it.server, &it.out), 0);
	for (struct chunk *chunk = it.out.head; chunk != NULL; chunk = chunk->next)
		assert_int_equal(
			send(ends[1], chunk->data + chunk->offset, chunk->bytes - chunk->offset, 0),
			chunk->bytes - chunk->offset);
	chain_clear(&it.out);
	assert_int_equal(kernel_hears(ends[0], data, sizeof(data), &got), KTLS_CONTENT_DATA);
	assert_int_equal(got, 5);
	assert_memory_equal(data, "world", 5);
	assert_int_equal(kernel_hears(ends[0], data, sizeof(data), &got), KTLS_CONTENT_ALERT);
	assert_int_equal(got, 2);
	assert_memory_equal(data, alert, 2);
	/* The kernel's goodbye, by control message. */
	ktls_control_set(&message, &control, KTLS_CONTENT_ALERT);
	assert_int_equal(sendmsg(ends[0], &message, 0), 2);
	got = recv(ends[1], wire, 24, MSG_WAITALL);
	assert_int_equal(got, 24);
	input = (struct record_input){.data = wire, .bytes = (size_t)got};
	assert_int_equal(
		record_read(it.server, &input, data, sizeof(data), &it.out), RECORD_CLOSED);
	close(ends[0]);
	close(ends[1]);
}

/* Where the kernel refuses the socket is as it was: plain bytes go, and our records go on. */
static void expect_untouched(void)
{
	uint8_t data[8];
	int ends[2], error;

	pair_open(ends);
	assert_int_equal(ktls_start(&ktls_kernel, ends[0], it.client, &error), KTLS_OFF);
	assert_true(error < 0);
	assert_int_equal(send(ends[0], "plain", 5, 0), 5);
	assert_int_equal(recv(ends[1], data, 5, MSG_WAITALL), 5);
	assert_memory_equal(data, "plain", 5);
	assert_int_equal(send(ends[1], "words", 5, 0), 5);
	assert_int_equal(recv(ends[0], data, 5, MSG_WAITALL), 5);
	expect_talk(it.client, it.server);
	expect_talk(it.server, it.client);
	close(ends[0]);
	close(ends[1]);
}

static void ktls_of_this_kernel(void **state)
{
	struct ktls_report report;
	char text[KTLS_TEXT_BYTES], why[PH_WHY_BYTES];
	bool is_whole = ktls_probe(&ktls_kernel, &report);

	(void)state;
	assert_int_equal(ph_kernel_tls(why), report.error);
	assert_string_equal(why, ktls_report_text(&report, text));
	assert_int_equal(ph_kernel_tls(NULL), report.error);
	print_message("kTLS: %s\n", why);
	assert_int_equal(is_whole, report.error == 0);
	if (report.step <= KTLS_STEP_ULP)
		expect_untouched();
	for (int suite = 0; suite < RECORD_SUITE_COUNT; suite++)
		if (report.has_suite[suite])
			expect_through_the_kernel((enum record_suite)suite);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ktls_structure_of_aes, begin, end),
		cmocka_unit_test_setup_teardown(ktls_structure_of_chacha, begin, end),
		cmocka_unit_test_setup_teardown(ktls_probe_names_the_step, begin, end),
		cmocka_unit_test_setup_teardown(ktls_probe_of_a_kernel_that_can, begin, end),
		cmocka_unit_test_setup_teardown(ktls_start_hands_both_over, begin, end),
		cmocka_unit_test_setup_teardown(ktls_start_falls_back, begin, end),
		cmocka_unit_test_setup_teardown(ktls_start_on_a_socket_that_has_it, begin, end),
		cmocka_unit_test_setup_teardown(ktls_start_sends_only, begin, end),
		cmocka_unit_test_setup_teardown(ktls_start_between_records_only, begin, end),
		cmocka_unit_test_setup_teardown(ktls_start_not_behind_a_goodbye, begin, end),
		cmocka_unit_test_setup_teardown(ktls_no_answer_to_a_key_update, begin, end),
		cmocka_unit_test_setup_teardown(ktls_control_messages, begin, end),
		cmocka_unit_test_setup_teardown(ktls_of_this_kernel, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
