/*
 * relay_test.c: the codec of relay messages, both ways, with every error its header names.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/relay.h"

static struct relay_message sample(void)
{
	struct relay_message message = {.kind = RELAY_SEND,
		.name = "ab.c",
		.name_bytes = 4,
		.tag = 0x0102030405060708u,
		.payload = (const uint8_t *)"hi",
		.payload_bytes = 2};

	for (int i = 0; i < 16; i++)
		message.type[i] = (uint8_t)(0xa0 + i);
	return message;
}

/* The bytes are those of docs/relay.md, not merely whatever the decoder takes back. */
static void relay_encode_writes_documented_bytes(void **state)
{
	static const uint8_t expected[] = {1, 0, 4, 'a', 'b', '.', 'c', 0xa0, 0xa1, 0xa2, 0xa3,
		0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 1, 2, 3, 4,
		5, 6, 7, 8, 'h', 'i'};
	struct relay_message message = sample();
	uint8_t out[64];
	size_t written = 0;

	(void)state;
	assert_int_equal(relay_encode(&message, out, sizeof(out), &written), 0);
	assert_int_equal(written, sizeof(expected));
	assert_int_equal(written, relay_bytes(&message));
	assert_memory_equal(out, expected, sizeof(expected));
}

/* Every kind comes back as it went, with an empty payload too. */
static void relay_round_trip_of_every_kind(void **state)
{
	uint8_t out[64], code[4];
	size_t written;

	(void)state;
	for (int kind = RELAY_SEND; kind <= RELAY_BROADCAST; kind++) {
		struct relay_message message = sample(), back;

		message.kind = (uint8_t)kind;
		if (kind == RELAY_BROADCAST)
			message.name_bytes = 0;
		message.payload_bytes = 0;
		if (kind == RELAY_STATUS) {
			relay_code_put(RELAY_SLOW, code);
			message.payload = code;
			message.payload_bytes = 4;
		}
		assert_int_equal(relay_encode(&message, out, sizeof(out), &written), 0);
		assert_int_equal(relay_decode(out, written, &back, NULL), 0);
		assert_int_equal(back.kind, kind);
		assert_int_equal(back.name_bytes, message.name_bytes);
		assert_memory_equal(back.name, message.name, message.name_bytes);
		assert_memory_equal(back.type, message.type, 16);
		assert_int_equal(back.tag, message.tag);
		assert_int_equal(back.payload_bytes, message.payload_bytes);
		if (kind == RELAY_STATUS)
			assert_int_equal(relay_code_get(&back), RELAY_SLOW);
	}
}

/* A buffer one byte short is refused, and so is a payload over the limit. */
static void relay_encode_refuses_what_does_not_fit(void **state)
{
	struct relay_message message = sample();
	uint8_t out[64];
	size_t written = 77;

	(void)state;
	assert_int_equal(
		relay_encode(&message, out, relay_bytes(&message) - 1, &written), -ENOBUFS);
	assert_int_equal(written, 77);
	message.payload_bytes = RELAY_PAYLOAD_BYTES_MAX + 1;
	assert_int_equal(relay_encode(&message, out, sizeof(out), &written), -EMSGSIZE);
}

static void expect_invalid(struct relay_message message)
{
	static uint8_t out[1024];
	size_t written;

	assert_int_equal(relay_encode(&message, out, sizeof(out), &written), -EINVAL);
}

/* Each rule about names and kinds, when writing. */
static void relay_encode_refuses_wrong_fields(void **state)
{
	static char longer[RELAY_NAME_BYTES_MAX + 1];
	struct relay_message message = sample();

	(void)state;
	memset(longer, 'a', sizeof(longer));
	message.kind = 0;
	expect_invalid(message);
	message.kind = 5;
	expect_invalid(message);
	message = sample();
	message.name_bytes = 0;
	expect_invalid(message);
	message = sample();
	message.kind = RELAY_BROADCAST;
	expect_invalid(message);
	message = sample();
	message.name = longer;
	message.name_bytes = sizeof(longer);
	expect_invalid(message);
	message = sample();
	message.name = "a\0bc";
	expect_invalid(message);
	message = sample();
	message.name = "a\xff.c";
	expect_invalid(message);
	message = sample();
	message.kind = RELAY_STATUS;
	expect_invalid(message);
}

/* Every prefix of a message is either a message with less payload or refused with a reason. */
static void relay_decode_of_every_prefix(void **state)
{
	struct relay_message message = sample(), back;
	uint8_t out[64];
	size_t written;

	(void)state;
	assert_int_equal(relay_encode(&message, out, sizeof(out), &written), 0);
	for (size_t bytes = 0; bytes <= written; bytes++) {
		const char *why = NULL;
		uint8_t *copy = malloc(bytes + (bytes == 0));

		assert_non_null(copy);
		memcpy(copy, out, bytes);
		if (bytes < written - 2) {
			assert_int_equal(relay_decode(copy, bytes, &back, &why), -EBADMSG);
			assert_non_null(why);
		} else {
			assert_int_equal(relay_decode(copy, bytes, &back, &why), 0);
			assert_int_equal(back.payload_bytes, bytes - (written - 2));
		}
		free(copy);
	}
}

/* Wrong kinds, names and status sizes from the wire. */
static void relay_decode_refuses_wrong_fields(void **state)
{
	struct relay_message message = sample(), back;
	const char *why;
	uint8_t out[64];
	size_t written;

	(void)state;
	assert_int_equal(relay_encode(&message, out, sizeof(out), &written), 0);
	out[0] = 9;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "unknown kind");
	out[0] = RELAY_BROADCAST;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "a broadcast has a name");
	out[0] = RELAY_STATUS;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "status is not 4 bytes");
	out[0] = RELAY_SEND;
	out[3] = 0;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "name holds a NUL");
	out[3] = 0xc0;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "name is not UTF-8");
	out[1] = 0xff;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "name runs over the end");
	out[1] = 0;
	out[2] = 0;
	assert_int_equal(relay_decode(out, written, &back, &why), -EBADMSG);
	assert_string_equal(why, "name is empty");
}

static void relay_code_names(void **state)
{
	(void)state;
	assert_string_equal(relay_code_name(RELAY_ABSENT), "absent");
	assert_string_equal(relay_code_name(RELAY_SLOW), "slow");
	assert_string_equal(relay_code_name(RELAY_TOO_LARGE), "too large");
	assert_string_equal(relay_code_name(0), "unknown code");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(relay_encode_writes_documented_bytes),
		cmocka_unit_test(relay_round_trip_of_every_kind),
		cmocka_unit_test(relay_encode_refuses_what_does_not_fit),
		cmocka_unit_test(relay_encode_refuses_wrong_fields),
		cmocka_unit_test(relay_decode_of_every_prefix),
		cmocka_unit_test(relay_decode_refuses_wrong_fields),
		cmocka_unit_test(relay_code_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
