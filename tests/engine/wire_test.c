/*
 * Message layouts: the vectors of docs/wire.md, every refusal of every parser and writer, and random
 * changes to good messages.
 *
 *   wire_test --seed S   the random case again
 */
#include "engine/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t test_seed;

static uint64_t random_next(void)
{
	test_seed ^= test_seed << 13;
	test_seed ^= test_seed >> 7;
	test_seed ^= test_seed << 17;
	return test_seed;
}

/* Hexadecimal text with spaces; returns the bytes written. */
static size_t from_hex(const char *hex, uint8_t *out)
{
	size_t bytes = 0;
	unsigned value;

	for (; *hex != 0; hex++) {
		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex, "%2x", &value), 1);
		out[bytes++] = (uint8_t)value;
		hex++;
	}
	return bytes;
}

static void assert_hex(const uint8_t *message, ssize_t bytes, const char *hex)
{
	uint8_t expected[512];
	size_t expected_bytes = from_hex(hex, expected);

	assert_int_equal(bytes, expected_bytes);
	assert_memory_equal(message, expected, expected_bytes);
}

static int parse_header(const uint8_t *message, struct wire_header *header)
{
	return wire_header_parse(message, PH_MESSAGE_BYTES_MAX, header);
}

/* The message in a block of exactly its size, so that a read beyond is seen. */
#define PARSE_EXACT(parse, message, bytes, out)                      \
	__extension__({                                              \
		uint8_t *exact_ = malloc((bytes) > 0 ? (bytes) : 1); \
		int status_;                                         \
		assert_non_null(exact_);                             \
		memcpy(exact_, message, bytes);                      \
		status_ = parse(exact_, bytes, out);                 \
		free(exact_);                                        \
		status_;                                             \
	})

#define FORTY(letter)                                                                              \
	letter letter letter letter letter letter letter letter letter letter letter letter letter \
		letter letter letter letter letter letter letter letter letter letter letter       \
			letter letter letter letter letter letter letter letter letter letter      \
				letter letter letter letter letter letter

static ph_address address_of(const char *text, uint16_t port)
{
	ph_address address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	assert_int_equal(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
	return address;
}

/* ---- vectors ---------------------------------------------------------------------------- */

static void wire_auth_info_vector(void **state)
{
	static const char graph[] = "0123456789abcdef0123456789abcdef01234567.G";
	struct wire_auth_info out,
		in = {.kind = PH_KIND_DIRECT,
			.graph = graph,
			.source = FORTY("a") ".A",
			.destination = FORTY("b") ".B"};
	uint8_t message[256], expected[16];
	ssize_t bytes = wire_auth_info_write(message, sizeof(message), &in);
	struct wire_header header;

	(void)state;
	assert_int_equal(bytes, 145);
	assert_int_equal(from_hex("00000091 10 01 0000 02 00 0010 003b 0066", expected), 16);
	assert_memory_equal(message, expected, 16);
	assert_string_equal(message + 0x10, in.graph);
	assert_string_equal(message + 0x3B, in.source);
	assert_string_equal(message + 0x66, in.destination);
	assert_int_equal(parse_header(message, &header), 0);
	assert_int_equal(header.bytes, 145);
	assert_int_equal(header.type, WIRE_AUTH_INFO);
	assert_int_equal(wire_auth_info_parse(message, 145, &out), 0);
	assert_int_equal(out.kind, PH_KIND_DIRECT);
	assert_string_equal(out.graph, in.graph);
	assert_string_equal(out.source, in.source);
	assert_string_equal(out.destination, in.destination);
}

/* Destination "any": its offset is the message's size. */
static void wire_auth_info_to_any(void **state)
{
	struct wire_auth_info out, in = {.kind = PH_KIND_NEIGHBOR, .graph = "g", .source = "s"};
	uint8_t message[64];

	(void)state;
	assert_hex(message, wire_auth_info_write(message, sizeof(message), &in),
		"00000014 10 01 0000 01 00 0010 0012 0014 6700 7300");
	assert_int_equal(wire_auth_info_parse(message, 0x14, &out), 0);
	assert_int_equal(out.kind, PH_KIND_NEIGHBOR);
	assert_null(out.destination);
	assert_string_equal(out.source, "s");
}

static void wire_connect_vectors(void **state)
{
	struct wire_connect out, in = {.flags = WIRE_CONNECT_DIRECT, .node_id = 0x1122334455667788};
	uint8_t message[128];
	char text[INET6_ADDRSTRLEN];

	(void)state;
	assert_hex(message, wire_connect_write(message, sizeof(message), &in),
		"0000001810020000 04 00 0018 0018 0000 1122334455667788");
	assert_int_equal(wire_connect_parse(message, 0x18, &out), 0);
	assert_int_equal(out.address_count, 0);
	assert_null(out.friendly_name);
	assert_true(out.node_id == 0x1122334455667788);

	in.address_count = 1;
	in.addresses[0] = address_of("fe80::1", 3587);
	assert_hex(message, wire_connect_write(message, sizeof(message), &in),
		"0000002c10020000 04 01 0018 002c 0000 1122334455667788 "
		"0017 0e03 fe800000000000000000000000000001");
	assert_int_equal(wire_connect_parse(message, 0x2c, &out), 0);
	assert_int_equal(out.address_count, 1);
	assert_int_equal(out.addresses[0].sin6_family, AF_INET6);
	assert_int_equal(ntohs(out.addresses[0].sin6_port), 3587);
	assert_string_equal(
		inet_ntop(AF_INET6, &out.addresses[0].sin6_addr, text, sizeof(text)), "fe80::1");

	in.friendly_name = "J\xC3\xBCrg";
	assert_int_equal(wire_connect_write(message, sizeof(message), &in), 0x2c + 6);
	assert_int_equal(wire_connect_parse(message, 0x2c + 6, &out), 0);
	assert_string_equal(out.friendly_name, "J\xC3\xBCrg");
	assert_int_equal(out.flags, WIRE_CONNECT_DIRECT);
}

/* All addresses, IPv4-mapped ones among them. */
static void wire_connect_with_all_addresses(void **state)
{
	struct wire_connect out, in = {.flags = 0x0C};
	uint8_t message[512];
	ssize_t bytes;

	(void)state;
	in.address_count = PH_ADDRESSES_MAX;
	for (uint32_t index = 0; index < PH_ADDRESSES_MAX; index++)
		in.addresses[index] = address_of("::ffff:127.0.0.1", (uint16_t)(1 + index));
	bytes = wire_connect_write(message, sizeof(message), &in);
	assert_int_equal(bytes, 24 + 20 * PH_ADDRESSES_MAX);
	assert_int_equal(wire_connect_parse(message, (size_t)bytes, &out), 0);
	assert_int_equal(out.address_count, PH_ADDRESSES_MAX);
	for (uint32_t index = 0; index < PH_ADDRESSES_MAX; index++)
		assert_memory_equal(
			&out.addresses[index], &in.addresses[index], sizeof(ph_address));
}

static void wire_welcome_vectors(void **state)
{
	struct wire_welcome out,
		in = {.node_id = 0x99AABBCCDDEEFF00,
			.peer_time = 0x01DA000000000000,
			.peer_id = FORTY("b") ".B"};
	uint8_t message[256], expected[32];

	(void)state;
	assert_int_equal(wire_welcome_write(message, sizeof(message), &in), 0x4b);
	assert_int_equal(from_hex("0000004b10030000 99aabbccddeeff00 01da000000000000 00 00 0000 "
				  "0020 004b",
				 expected),
		32);
	assert_memory_equal(message, expected, 32);
	assert_string_equal(message + 32, in.peer_id);
	assert_int_equal(wire_welcome_parse(message, 0x4b, &out), 0);
	assert_true(out.node_id == in.node_id && out.peer_time == in.peer_time);
	assert_string_equal(out.peer_id, in.peer_id);
	assert_null(out.friendly_name);

	in.address_count = 2;
	in.addresses[0] = address_of("::1", 1);
	in.addresses[1] = address_of("2001:db8::1", 65535);
	in.friendly_name = "";
	assert_int_equal(wire_welcome_write(message, sizeof(message), &in), 0x4b + 40 + 1);
	assert_int_equal(wire_welcome_parse(message, 0x4b + 40 + 1, &out), 0);
	assert_int_equal(out.address_count, 2);
	assert_memory_equal(out.addresses, in.addresses, 2 * sizeof(ph_address));
	assert_string_equal(out.friendly_name, "");
}

static void wire_refuse_and_disconnect_vectors(void **state)
{
	struct wire_disconnect_message disconnect;
	struct wire_refuse refuse;
	uint8_t message[64];

	(void)state;
	assert_hex(message, wire_refuse_write(message, sizeof(message), 4),
		"0000000c10040000 04 00 0000");
	assert_int_equal(wire_refuse_parse(message, 12, &refuse), 0);
	assert_int_equal(refuse.code, 4);
	assert_hex(message,
		wire_disconnect_write(message, sizeof(message), WIRE_DISCONNECT_APPLICATION),
		"0000000c10050000 03 00 000c");
	assert_int_equal(wire_disconnect_parse(message, 12, &disconnect), 0);
	assert_int_equal(disconnect.reason, 3);

	/* With an address, as a graph node of another kind may send. */
	assert_int_equal(from_hex("0000002010040000 01 01 000c 0017 0e03 "
				  "fe800000000000000000000000000001",
				 message),
		32);
	assert_int_equal(wire_refuse_parse(message, 32, &refuse), 0);
	message[5] = WIRE_DISCONNECT;
	assert_int_equal(wire_disconnect_parse(message, 32, &disconnect), 0);
}

static void wire_pt2pt_vectors(void **state)
{
	static const uint8_t type[16] = {0x4d, 0x5b, 0x2f, 0x11, 0x65, 0x22, 0x43, 0x3b, 0x84, 0xef,
		0xa2, 0x98, 0xe6, 0x07, 0xbb, 0xbb};
	uint8_t message[64];
	struct wire_pt2pt out;

	(void)state;
	wire_pt2pt_head_write(message, type, 2);
	memcpy(message + WIRE_PT2PT_BYTES, "hi", 2);
	assert_hex(message, 30, "0000001e100d0000 001c 0000 4d5b2f116522433b84efa298e607bbbb 6869");
	assert_int_equal(wire_pt2pt_parse(message, 30, &out), 0);
	assert_memory_equal(out.type, type, 16);
	assert_int_equal(out.bytes, 2);
	assert_memory_equal(out.data, "hi", 2);

	wire_pt2pt_head_write(message, wire_ping_type, 0);
	assert_hex(message, 28, "0000001c100d0000 001c 0000 0ccbb0d2be414bd6914b058ec5dcce64");
	assert_int_equal(wire_pt2pt_parse(message, 28, &out), 0);
	assert_int_equal(out.bytes, 0);
	assert_memory_equal(out.type, wire_ping_type, 16);
}

/* The layout of RESUME, byte for byte, and what its writer and its parser refuse. */
static void wire_resume_round_trip(void **state)
{
	struct wire_resume in = {.lifetime_s = 0x01020}, out;
	uint8_t message[WIRE_RESUME_BYTES + 1] = {0};

	(void)state;
	memset(in.id, 0xaa, sizeof(in.id));
	memset(in.secret, 0xbb, sizeof(in.secret));
	assert_int_equal(wire_resume_write(message, sizeof(message), &in), WIRE_RESUME_BYTES);
	assert_memory_equal(message, "\0\0\0\x4c\x10\x41\0\0\0\0\x10\x20\xaa", 13);
	assert_int_equal(message[43], 0xaa);
	assert_int_equal(message[44], 0xbb);
	assert_int_equal(message[75], 0xbb);
	assert_int_equal(wire_resume_parse(message, WIRE_RESUME_BYTES, &out), 0);
	assert_int_equal(out.lifetime_s, in.lifetime_s);
	assert_memory_equal(out.id, in.id, sizeof(in.id));
	assert_memory_equal(out.secret, in.secret, sizeof(in.secret));
	assert_int_equal(wire_resume_parse(message, WIRE_RESUME_BYTES - 1, &out), -EPROTO);
	assert_int_equal(wire_resume_parse(message, WIRE_RESUME_BYTES + 1, &out), -EPROTO);
	assert_int_equal(wire_resume_write(message, WIRE_RESUME_BYTES - 1, &in), -ENOSPC);
	in.lifetime_s = 0;
	assert_int_equal(wire_resume_write(message, sizeof(message), &in), -EINVAL);
	in.lifetime_s = 86401;
	assert_int_equal(wire_resume_write(message, sizeof(message), &in), -EINVAL);
}

static void wire_notice_round_trip(void **state)
{
	struct wire_notice out,
		in = {.code = 5003, .retry_after_ms = 250, .text = "slow \xE2\x82\xAC"};
	char text[PH_TEXT_BYTES_MAX];
	uint8_t message[256];

	(void)state;
	in.text_bytes = 8;
	assert_hex(message, wire_notice_write(message, sizeof(message), &in),
		"0000001a10400000 0000138b 000000fa 0008 736c6f7720e282ac");
	assert_int_equal(wire_notice_parse(message, 26, &out), 0);
	assert_int_equal(out.code, 5003);
	assert_int_equal(out.retry_after_ms, 250);
	assert_int_equal(out.text_bytes, 8);
	assert_memory_equal(out.text, in.text, 8);

	memset(text, 'x', sizeof(text));
	in = (struct wire_notice){.text = text, .text_bytes = PH_TEXT_BYTES_MAX};
	assert_int_equal(wire_notice_write(message, sizeof(message), &in), 18 + PH_TEXT_BYTES_MAX);
	assert_int_equal(wire_notice_parse(message, 18 + PH_TEXT_BYTES_MAX, &out), 0);
	/* Cut inside a character by whoever cut it: the whole characters go out. */
	in = (struct wire_notice){.text = "slow \xE2\x82", .text_bytes = 7};
	assert_int_equal(wire_notice_write(message, sizeof(message), &in), 18 + 5);
	in = (struct wire_notice){.code = 1};
	assert_int_equal(wire_notice_write(message, sizeof(message), &in), 18);
	assert_int_equal(wire_notice_parse(message, 18, &out), 0);
}

/* ---- the header ------------------------------------------------------------------------- */

static int header_of(
	uint32_t bytes, uint8_t version, uint8_t type, uint16_t reserved, uint32_t limit)
{
	uint8_t data[8] = {(uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 8),
		(uint8_t)bytes, version, type, (uint8_t)(reserved >> 8), (uint8_t)reserved};
	struct wire_header header;

	return wire_header_parse(data, limit, &header);
}

/* Sizes under the header's own and over the limit of the type, wherever that is. */
static void wire_header_sizes(void **state)
{
	static const uint8_t control[] = {1, 2, 3, 4, 5, WIRE_RESUME};

	(void)state;
	for (uint32_t bytes = 0; bytes < 8; bytes++)
		assert_int_equal(header_of(bytes, 0x10, WIRE_PT2PT, 0, 100), -EMSGSIZE);
	assert_int_equal(header_of(8, 0x10, WIRE_PT2PT, 0, 100), 0);
	assert_int_equal(header_of(128, 0x10, WIRE_PT2PT, 0, 100), 0);
	assert_int_equal(header_of(129, 0x10, WIRE_PT2PT, 0, 100), -EMSGSIZE);
	assert_int_equal(header_of(28, 0x10, WIRE_PT2PT, 0, 0), 0);
	assert_int_equal(header_of(29, 0x10, WIRE_PT2PT, 0, 0), -EMSGSIZE);
	assert_int_equal(
		header_of(UINT32_MAX, 0x10, WIRE_PT2PT, 0, PH_MESSAGE_BYTES_MAX), -EMSGSIZE);
	assert_int_equal(header_of(UINT32_MAX, 0x10, WIRE_PT2PT, 0, UINT32_MAX), 0);
	for (size_t index = 0; index < sizeof(control); index++) {
		assert_int_equal(header_of(4096, 0x10, control[index], 0, 100), 0);
		assert_int_equal(header_of(4097, 0x10, control[index], 0, UINT32_MAX), -EMSGSIZE);
	}
	for (unsigned type = 0x40; type <= 0x4F; type++) {
		if (type == WIRE_RESUME)
			continue;
		assert_int_equal(header_of(65536, 0x10, (uint8_t)type, 0, 100), 0);
		assert_int_equal(header_of(65537, 0x10, (uint8_t)type, 0, UINT32_MAX), -EMSGSIZE);
	}
}

static void wire_header_fields(void **state)
{
	(void)state;
	assert_int_equal(header_of(28, 0x11, WIRE_PT2PT, 0, 100), -EPROTO);
	assert_int_equal(header_of(28, 0x00, WIRE_PT2PT, 0, 100), -EPROTO);
	assert_int_equal(header_of(28, 0x10, WIRE_PT2PT, 1, 100), -EPROTO);
	assert_int_equal(header_of(28, 0x10, WIRE_PT2PT, 0x100, 100), -EPROTO);
	for (unsigned type = 0; type < 256; type++) {
		bool is_known = (type >= 1 && type <= 5) || type == 0x0D || (type & 0xF0) == 0x40;

		assert_int_equal(
			header_of(28, 0x10, (uint8_t)type, 0, 100), is_known ? 0 : -ENOTSUP);
	}
}

/* ---- refusals of the parsers ------------------------------------------------------------ */

struct change {
	size_t at;
	const char *hex;
};

/* Each change to the good message makes it -EPROTO; each cut too, and one byte more or less said. */
#define REFUSE_CHANGES(parse, good_hex, changes, out)                                              \
	do {                                                                                       \
		uint8_t good_[512], bad_[512];                                                     \
		size_t bytes_ = from_hex(good_hex, good_);                                         \
		assert_int_equal(PARSE_EXACT(parse, good_, bytes_, out), 0);                       \
		for (size_t cut_ = 0; cut_ < bytes_; cut_++)                                       \
			assert_int_equal(PARSE_EXACT(parse, good_, cut_, out), -EPROTO);           \
		for (size_t index_ = 0; index_ < sizeof(changes) / sizeof(changes[0]); index_++) { \
			memcpy(bad_, good_, bytes_);                                               \
			from_hex(changes[index_].hex, bad_ + changes[index_].at);                  \
			if (PARSE_EXACT(parse, bad_, bytes_, out) != -EPROTO)                      \
				fail_msg("change %zu passes", index_);                             \
		}                                                                                  \
	} while (0)

#define HEADER_CHANGES                                         \
	{3, "ff"}, {0, "01"}, {4, "11"}, {5, "0e"}, {6, "01"}, \
	{                                                      \
		7, "01"                                        \
	}

static void wire_auth_info_refused(void **state)
{
	static const struct change changes[] = {
		HEADER_CHANGES,
		{8, "00"}, /* kinds that are none */
		{8, "03"},
		{9, "01"}, /* reserved */
		{10, "000f"}, /* offsets into the fixed part */
		{10, "0000"},
		{10, "0014"}, /* the graph where the source is: not increasing */
		{10, "ffff"}, /* offsets behind the end */
		{12, "0010"}, /* the source where the graph is */
		{12, "0012"}, /* inside the graph's name */
		{12, "0013"}, /* at its NUL: empty and overlapping */
		{12, "0018"}, /* behind the end */
		{12, "ffff"},
		{14, "0010"}, /* the destination before the source */
		{14, "0015"}, /* at the source's NUL */
		{14, "0019"}, /* behind the end, not the end */
		{14, "ffff"},
		{16, "00"}, /* empty names */
		{20, "00"},
		{22, "00"},
		{23, "6f"}, /* no NUL at all */
		{16, "ff"}, /* not UTF-8 */
		{16, "c3"},
		{20, "80"},
		{22, "f5"},
		{16, "eda080"}, /* a surrogate */
		{16, "c080"}, /* an overlong NUL */
		{16, "e08080"},
	};
	struct wire_auth_info out;

	(void)state;
	REFUSE_CHANGES(wire_auth_info_parse,
		"00000018 10 01 0000 02 00 0010 0014 0016 61626300 6400 6500", changes, &out);
}

/* Characters at the edges of UTF-8 are what they are. */
static void wire_names_in_utf8(void **state)
{
	static const struct {
		const char *name;
		bool is_good;
	} cases[] = {
		{"\x01", true},
		{"\x7F", true},
		{"\xC2\x80", true},
		{"\xDF\xBF", true},
		{"\xE0\xA0\x80", true},
		{"\xED\x9F\xBF", true},
		{"\xEE\x80\x80", true},
		{"\xEF\xBF\xBF", true},
		{"\xF0\x90\x80\x80", true},
		{"\xF4\x8F\xBF\xBF", true},
		{"\xC1\xBF", false},
		{"\xC2", false},
		{"\xC2\x7F", false},
		{"\xE0\x9F\xBF", false},
		{"\xED\xA0\x80", false},
		{"\xEF\xBF", false},
		{"\xE1\x80\xC0", false},
		{"\xF0\x8F\xBF\xBF", false},
		{"\xF4\x90\x80\x80", false},
		{"\xF0\x90\x80", false},
		{"\xF8\x88\x80\x80\x80", false},
		{"\x80", false},
		{"\xFE", false},
	};
	struct wire_auth_info out, in = {.kind = 2, .graph = "g"};
	uint8_t message[64] = {0};

	(void)state;
	for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
		size_t length = strlen(cases[index].name);
		size_t bytes = 0x10 + 2 + length + 1;

		in.source = cases[index].name;
		assert_int_equal(wire_auth_info_write(message, sizeof(message), &in),
			cases[index].is_good ? (ssize_t)bytes : -EINVAL);
		in.source = "12345";
		assert_int_equal(wire_auth_info_write(message, sizeof(message), &in), 0x10 + 2 + 6);
		message[3] = message[15] = (uint8_t)bytes;
		memcpy(message + 0x12, cases[index].name, length + 1);
		assert_int_equal(PARSE_EXACT(wire_auth_info_parse, message, bytes, &out),
			cases[index].is_good ? 0 : -EPROTO);
	}
}

/* A name of the greatest size, and one byte more. */
static void wire_names_of_any_size(void **state)
{
	struct wire_auth_info out, in = {.kind = 2, .graph = "g"};
	char name[PH_NAME_BYTES_MAX + 1];
	uint8_t message[2048];
	ssize_t bytes;

	(void)state;
	memset(name, 'n', sizeof(name));
	name[PH_NAME_BYTES_MAX - 1] = 0;
	in.source = name;
	bytes = wire_auth_info_write(message, sizeof(message), &in);
	assert_int_equal(bytes, 0x12 + PH_NAME_BYTES_MAX);
	assert_int_equal(wire_auth_info_parse(message, (size_t)bytes, &out), 0);
	message[bytes - 1] = 'n';
	message[bytes] = 0;
	message[2] = message[14] = (uint8_t)((bytes + 1) >> 8);
	message[3] = message[15] = (uint8_t)(bytes + 1);
	assert_int_equal(wire_auth_info_parse(message, (size_t)bytes + 1, &out), -EPROTO);
	name[PH_NAME_BYTES_MAX - 1] = 'n';
	name[PH_NAME_BYTES_MAX] = 0;
	assert_int_equal(wire_auth_info_write(message, sizeof(message), &in), -EINVAL);
}

static void wire_connect_refused(void **state)
{
	static const struct change changes[] = {
		HEADER_CHANGES, {9, "02"}, /* more addresses than fit */
		{9, "11"}, /* more than anybody may send */
		{9, "ff"}, {10, "0000"}, /* the address in the fixed part, or over the end */
		{10, "0017"}, {10, "001e"}, {10, "ffff"},
		{12, "0000"}, /* the name in the fixed part, in the address, behind the end */
		{12, "0018"}, {12, "002b"}, {12, "002f"}, {12, "ffff"}, {14, "0001"}, /* reserved */
		{24, "0002"}, /* families of other systems */
		{24, "000a"}, {45, "41"}, /* no NUL */
		{44, "ff"}, /* not UTF-8 */
	};
	static const struct change without[] = {
		{8, "08"}, /* an update without an address */
		{10, "0017"},
		{10, "0019"},
		{12, "0017"},
		{12, "0019"},
	};
	struct wire_connect out;

	(void)state;
	REFUSE_CHANGES(wire_connect_parse,
		"0000002e10020000 04 01 0018 002c 0000 1122334455667788 "
		"0017 0e03 fe800000000000000000000000000001 4100",
		changes, &out);
	REFUSE_CHANGES(wire_connect_parse, "0000001810020000 04 00 0018 0018 0000 1122334455667788",
		without, &out);
}

/* Unknown flag bits are ignored: MS-PPGRH 2.2.2.2. */
static void wire_connect_unknown_flags(void **state)
{
	struct wire_connect out;
	uint8_t message[32];

	(void)state;
	from_hex("0000001810020000 f6 00 0018 0018 0000 1122334455667788", message);
	assert_int_equal(wire_connect_parse(message, 24, &out), 0);
	assert_int_equal(out.flags, WIRE_CONNECT_DIRECT);
}

static void wire_welcome_refused(void **state)
{
	static const struct change changes[] = {
		HEADER_CHANGES,
		{24, "02"}, /* addresses that do not fit */
		{24, "11"},
		{25, "01"}, /* reserved */
		{26, "0000"}, /* addresses in the fixed part, or over the end */
		{26, "001f"},
		{26, "0030"},
		{28, "0000"}, /* the identity likewise */
		{28, "0020"},
		{28, "0033"},
		{28, "0038"},
		{28, "ffff"},
		{30, "0000"}, /* the name likewise */
		{30, "0034"},
		{30, "0035"},
		{30, "0039"},
		{30, "ffff"},
		{32, "0018"}, /* family */
		{52, "00"}, /* no identity */
		{53, "4180"},
		{55, "41"}, /* no NUL */
		{54, "c2"},
	};
	struct wire_welcome out;

	(void)state;
	REFUSE_CHANGES(wire_welcome_parse,
		"0000003810030000 99aabbccddeeff00 01da000000000000 01 00 0020 0034 0036 "
		"0017 0e03 fe800000000000000000000000000001 4200 4100",
		changes, &out);
}

static void wire_refuse_and_disconnect_refused(void **state)
{
	static const struct change changes[] = {
		HEADER_CHANGES,
		{8, "00"}, /* codes that are none */
		{8, "05"},
		{9, "02"}, /* addresses that do not fit */
		{9, "ff"},
		{10, "0000"},
		{10, "000b"},
		{10, "000d"},
		{10, "ffff"},
		{12, "0002"},
	};
	static const struct change without[] = {
		{9, "01"},
		{10, "000b"},
		{10, "000d"},
	};
	static const struct change reasons[] = {
		{8, "04"},
	};
	struct wire_disconnect_message disconnect;
	struct wire_refuse refuse;

	(void)state;
	REFUSE_CHANGES(wire_refuse_parse,
		"0000002010040000 01 01 000c 0017 0e03 fe800000000000000000000000000001", changes,
		&refuse);
	REFUSE_CHANGES(wire_disconnect_parse,
		"0000002010050000 01 01 000c 0017 0e03 fe800000000000000000000000000001", changes,
		&disconnect);
	REFUSE_CHANGES(wire_refuse_parse, "0000000c10040000 04 00 0000", without, &refuse);
	REFUSE_CHANGES(wire_disconnect_parse, "0000000c10050000 03 00 000c", without, &disconnect);
	REFUSE_CHANGES(wire_disconnect_parse, "0000000c10050000 03 00 000c", reasons, &disconnect);
}

static void wire_notice_refused(void **state)
{
	static const struct change changes[] = {
		HEADER_CHANGES,
		{16, "0003"}, /* sizes that are not what is there */
		{16, "0005"},
		{16, "ffff"},
		{16, "0000"},
		{18, "00"}, /* a NUL inside */
		{21, "c3"}, /* half a character */
		{18, "ff"},
	};
	struct wire_notice out;
	uint8_t message[256] = {0};

	(void)state;
	REFUSE_CHANGES(wire_notice_parse, "0000001610400000 0000138b 000000fa 0004 736c6f77",
		changes, &out);
	/* Longer than allowed, though it is all there. */
	from_hex("0000009310400000 0000138b 000000fa 0081", message);
	memset(message + 18, 'x', 129);
	assert_int_equal(wire_notice_parse(message, 18 + 129, &out), -EPROTO);
}

static void wire_pt2pt_refused(void **state)
{
	static const struct change changes[] = {
		HEADER_CHANGES,
		{8, "001b"}, /* data anywhere else */
		{8, "001d"},
		{8, "0000"},
		{8, "ffff"},
		{10, "0001"}, /* reserved */
		{10, "0100"},
	};
	struct wire_pt2pt out;

	(void)state;
	/* A cut that leaves the head is still refused, for its size says more. */
	REFUSE_CHANGES(wire_pt2pt_parse,
		"0000001e100d0000 001c 0000 4d5b2f116522433b84efa298e607bbbb 6869", changes, &out);
}

/* ---- refusals of the writers ------------------------------------------------------------ */

static void wire_write_without_room(void **state)
{
	struct wire_auth_info auth_info = {
		.kind = 2, .graph = "g", .source = "s", .destination = "d"};
	struct wire_connect connect = {.flags = 4, .address_count = 1, .friendly_name = "f"};
	struct wire_welcome welcome = {.address_count = 1, .peer_id = "p", .friendly_name = "f"};
	struct wire_notice notice = {.text = "text", .text_bytes = 4};
	uint8_t message[128];

	(void)state;
	connect.addresses[0] = welcome.addresses[0] = address_of("::1", 1);
	for (size_t capacity = 0; capacity <= sizeof(message); capacity++) {
		uint8_t *exact = malloc(capacity > 0 ? capacity : 1);

		assert_non_null(exact);
		assert_int_equal(wire_auth_info_write(exact, capacity, &auth_info),
			capacity < 22 ? -ENOSPC : 22);
		assert_int_equal(wire_connect_write(exact, capacity, &connect),
			capacity < 46 ? -ENOSPC : 46);
		assert_int_equal(wire_welcome_write(exact, capacity, &welcome),
			capacity < 56 ? -ENOSPC : 56);
		assert_int_equal(
			wire_notice_write(exact, capacity, &notice), capacity < 22 ? -ENOSPC : 22);
		assert_int_equal(
			wire_refuse_write(exact, capacity, 1), capacity < 12 ? -ENOSPC : 12);
		assert_int_equal(
			wire_disconnect_write(exact, capacity, 1), capacity < 12 ? -ENOSPC : 12);
		free(exact);
	}
}

static void wire_write_of_wrong_fields(void **state)
{
	const struct wire_auth_info good_auth = {.kind = 2, .graph = "g", .source = "s"};
	struct wire_auth_info auth_info;
	struct wire_connect connect = {.flags = 4};
	struct wire_welcome welcome = {.peer_id = "p"};
	struct wire_notice notice = {.text = "", .text_bytes = PH_TEXT_BYTES_MAX + 1};
	char name[PH_NAME_BYTES_MAX + 1];
	const char *wrong[] = {"", name, "\xFF"};
	uint8_t message[4096];

	(void)state;
	memset(name, 'n', PH_NAME_BYTES_MAX);
	name[PH_NAME_BYTES_MAX] = 0;
	for (size_t index = 0; index < 3; index++) {
		auth_info = good_auth;
		auth_info.graph = wrong[index];
		assert_int_equal(
			wire_auth_info_write(message, sizeof(message), &auth_info), -EINVAL);
		auth_info = good_auth;
		auth_info.source = wrong[index];
		assert_int_equal(
			wire_auth_info_write(message, sizeof(message), &auth_info), -EINVAL);
		auth_info = good_auth;
		auth_info.destination = wrong[index];
		assert_int_equal(
			wire_auth_info_write(message, sizeof(message), &auth_info), -EINVAL);
		welcome.peer_id = wrong[index];
		assert_int_equal(wire_welcome_write(message, sizeof(message), &welcome), -EINVAL);
		welcome.peer_id = "p";
		if (index == 0)
			continue; /* an empty friendly name is one */
		connect.friendly_name = welcome.friendly_name = wrong[index];
		assert_int_equal(wire_connect_write(message, sizeof(message), &connect), -EINVAL);
		assert_int_equal(wire_welcome_write(message, sizeof(message), &welcome), -EINVAL);
		connect.friendly_name = welcome.friendly_name = NULL;
	}
	auth_info = good_auth;
	auth_info.graph = NULL;
	assert_int_equal(wire_auth_info_write(message, sizeof(message), &auth_info), -EINVAL);
	auth_info = good_auth;
	auth_info.kind = PH_KIND_RAW;
	assert_int_equal(wire_auth_info_write(message, sizeof(message), &auth_info), -EINVAL);
	welcome.peer_id = NULL;
	assert_int_equal(wire_welcome_write(message, sizeof(message), &welcome), -EINVAL);
	welcome.peer_id = "p";

	connect.address_count = welcome.address_count = PH_ADDRESSES_MAX + 1;
	assert_int_equal(wire_connect_write(message, sizeof(message), &connect), -EINVAL);
	assert_int_equal(wire_welcome_write(message, sizeof(message), &welcome), -EINVAL);
	connect.address_count = welcome.address_count = 1; /* of no family */
	assert_int_equal(wire_connect_write(message, sizeof(message), &connect), -EINVAL);
	assert_int_equal(wire_welcome_write(message, sizeof(message), &welcome), -EINVAL);
	connect = (struct wire_connect){.flags = 0x10};
	assert_int_equal(wire_connect_write(message, sizeof(message), &connect), -EINVAL);
	connect.flags = 0x08; /* an update needs an address */
	assert_int_equal(wire_connect_write(message, sizeof(message), &connect), -EINVAL);

	assert_int_equal(wire_notice_write(message, sizeof(message), &notice), -EINVAL);
	assert_int_equal(wire_refuse_write(message, sizeof(message), 0), -EINVAL);
	assert_int_equal(wire_refuse_write(message, sizeof(message), 5), -EINVAL);
	assert_int_equal(wire_disconnect_write(message, sizeof(message), 0), -EINVAL);
	assert_int_equal(wire_disconnect_write(message, sizeof(message), 4), -EINVAL);
}

/* ---- random changes --------------------------------------------------------------------- */

/* What a parser let through is good: strings end inside, counts are bounded. */
static void parse_any(const uint8_t *message, size_t bytes)
{
	const char *begin = (const char *)message, *end = begin + bytes;
	struct wire_auth_info auth_info;
	struct wire_connect connect;
	struct wire_welcome welcome;
	struct wire_refuse refuse;
	struct wire_disconnect_message disconnect;
	struct wire_notice notice;
	struct wire_pt2pt pt2pt;

	if (wire_auth_info_parse(message, bytes, &auth_info) == 0) {
		const char *names[] = {auth_info.graph, auth_info.source, auth_info.destination};

		for (int index = 0; index < (names[2] != NULL ? 3 : 2); index++) {
			assert_true(names[index] > begin && names[index] < end);
			assert_true(names[index][0] != 0);
			assert_true(strlen(names[index]) < PH_NAME_BYTES_MAX);
			assert_true(names[index] + strlen(names[index]) < end);
		}
	}
	if (wire_connect_parse(message, bytes, &connect) == 0) {
		assert_true(connect.address_count <= PH_ADDRESSES_MAX);
		if (connect.friendly_name != NULL)
			assert_true(connect.friendly_name + strlen(connect.friendly_name) < end);
	}
	if (wire_welcome_parse(message, bytes, &welcome) == 0) {
		assert_true(welcome.address_count <= PH_ADDRESSES_MAX);
		assert_true(welcome.peer_id + strlen(welcome.peer_id) < end);
		if (welcome.friendly_name != NULL)
			assert_true(welcome.friendly_name + strlen(welcome.friendly_name) < end);
	}
	if (wire_refuse_parse(message, bytes, &refuse) == 0)
		assert_true(refuse.code >= 1 && refuse.code <= 4);
	if (wire_disconnect_parse(message, bytes, &disconnect) == 0)
		assert_true(disconnect.reason >= 1 && disconnect.reason <= 3);
	if (wire_notice_parse(message, bytes, &notice) == 0)
		assert_true(notice.text + notice.text_bytes == end);
	if (wire_pt2pt_parse(message, bytes, &pt2pt) == 0)
		assert_true((const char *)pt2pt.data + pt2pt.bytes == end);
}

static size_t random_message(uint8_t *message)
{
	struct wire_auth_info auth_info = {
		.kind = 2, .graph = "graph", .source = "source", .destination = "destination"};
	struct wire_connect connect = {.flags = 4, .address_count = 2, .friendly_name = "friend"};
	struct wire_welcome welcome = {.address_count = 2, .peer_id = "id", .friendly_name = "f"};
	struct wire_notice notice = {.text = "text", .text_bytes = 4};
	ssize_t bytes;

	for (int index = 0; index < 2; index++)
		connect.addresses[index] = welcome.addresses[index] = address_of("::1", 1);
	switch (random_next() % 7) {
	case 0:
		bytes = wire_auth_info_write(message, 256, &auth_info);
		break;
	case 1:
		bytes = wire_connect_write(message, 256, &connect);
		break;
	case 2:
		bytes = wire_welcome_write(message, 256, &welcome);
		break;
	case 3:
		bytes = wire_refuse_write(message, 256, 1);
		break;
	case 4:
		bytes = wire_disconnect_write(message, 256, 1);
		break;
	case 5:
		bytes = wire_notice_write(message, 256, &notice);
		break;
	default:
		wire_pt2pt_head_write(message, wire_ping_type, 0);
		bytes = WIRE_PT2PT_BYTES;
		break;
	}
	assert_true(bytes > 0);
	return (size_t)bytes;
}

/* Good messages with a few bytes changed, cut or lengthened: never more is read than is there. */
static void wire_random_changes(void **state)
{
	(void)state;
	printf("seed %llu\n", (unsigned long long)test_seed);
	for (int round = 0; round < 100000; round++) {
		uint8_t message[300];
		size_t bytes = random_message(message), changed = bytes;
		uint8_t *exact;

		for (uint64_t count = random_next() % 4; count > 0; count--)
			message[random_next() % bytes] = random_next() % 2
				? (uint8_t)random_next()
				: (uint8_t)(random_next() % 64);
		if (random_next() % 4 == 0)
			changed = random_next() % bytes;
		if (random_next() % 2 == 0 && changed >= 4) /* let the size agree again */
			message[3] = (uint8_t)changed;
		exact = malloc(changed > 0 ? changed : 1);
		assert_non_null(exact);
		memcpy(exact, message, changed);
		if (changed >= WIRE_HEADER_BYTES) {
			struct wire_header header;

			(void)parse_header(exact, &header);
		}
		parse_any(exact, changed);
		free(exact);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_auth_info_vector),
		cmocka_unit_test(wire_auth_info_to_any),
		cmocka_unit_test(wire_connect_vectors),
		cmocka_unit_test(wire_connect_with_all_addresses),
		cmocka_unit_test(wire_welcome_vectors),
		cmocka_unit_test(wire_refuse_and_disconnect_vectors),
		cmocka_unit_test(wire_pt2pt_vectors),
		cmocka_unit_test(wire_resume_round_trip),
		cmocka_unit_test(wire_notice_round_trip),
		cmocka_unit_test(wire_header_sizes),
		cmocka_unit_test(wire_header_fields),
		cmocka_unit_test(wire_auth_info_refused),
		cmocka_unit_test(wire_names_in_utf8),
		cmocka_unit_test(wire_names_of_any_size),
		cmocka_unit_test(wire_connect_refused),
		cmocka_unit_test(wire_connect_unknown_flags),
		cmocka_unit_test(wire_welcome_refused),
		cmocka_unit_test(wire_refuse_and_disconnect_refused),
		cmocka_unit_test(wire_notice_refused),
		cmocka_unit_test(wire_pt2pt_refused),
		cmocka_unit_test(wire_write_without_room),
		cmocka_unit_test(wire_write_of_wrong_fields),
		cmocka_unit_test(wire_random_changes),
	};

	test_seed = (uint64_t)time(NULL) * 2654435761u | 1;
	if (argc == 3 && strcmp(argv[1], "--seed") == 0)
		test_seed = strtoull(argv[2], NULL, 10) | 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
