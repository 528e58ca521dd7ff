/* Addresses and reasons as text. */
#include "peerhub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Text to address and back: the second text is how we write the first. */
static void address_there_and_back(void **state)
{
	static const struct {
		const char *text, *back;
		uint16_t port;
		uint32_t scope;
	} cases[] = {
		{"127.0.0.1:80", "127.0.0.1:80", 80, 0},
		{"0.0.0.0:0", "0.0.0.0:0", 0, 0},
		{"255.255.255.255:65535", "255.255.255.255:65535", 65535, 0},
		{"[::1]:0", "[::1]:0", 0, 0},
		{"[::]:3587", "[::]:3587", 3587, 0},
		{"[2001:DB8:0:0::1]:1", "[2001:db8::1]:1", 1, 0},
		{"[::ffff:10.1.2.3]:9", "10.1.2.3:9", 9, 0},
		{"[fe80::1%7]:3587", "[fe80::1%7]:3587", 3587, 7},
		{"[fe80::1%4294967295]:1", "[fe80::1%4294967295]:1", 1, UINT32_MAX},
		{"[fe80::1%0]:1", "[fe80::1]:1", 1, 0},
		{"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535",
			"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535", 65535,
			UINT32_MAX},
	};
	char text[PH_ADDRESS_TEXT_BYTES];
	ph_address address;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(ph_address_parse(cases[i].text, &address), 0);
		assert_int_equal(address.sin6_family, AF_INET6);
		assert_int_equal(ntohs(address.sin6_port), cases[i].port);
		assert_int_equal(address.sin6_scope_id, cases[i].scope);
		assert_ptr_equal(ph_address_text(&address, text), text);
		assert_string_equal(text, cases[i].back);
	}
}

/* IPv4 is kept IPv4-mapped. */
static void address_ipv4_is_mapped(void **state)
{
	static const uint8_t expected[16] = {
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2};
	ph_address address;

	(void)state;
	assert_int_equal(ph_address_parse("192.168.1.2:1", &address), 0);
	assert_memory_equal(&address.sin6_addr, expected, 16);
}

/* A scope may be the name of an interface; the loopback's is there everywhere. */
static void address_scope_by_name(void **state)
{
	ph_address address;

	(void)state;
	assert_int_equal(ph_address_parse("[fe80::1%lo]:1", &address), 0);
	assert_int_equal(address.sin6_scope_id, if_nametoindex("lo"));
	assert_int_equal(ph_address_parse("[fe80::1%no-such-interface]:1", &address), -EINVAL);
}

/* -EINVAL, and the address is untouched. */
static void address_refuses_all_else(void **state)
{
	static const char *const texts[] = {
		"",
		":",
		"[",
		"]",
		"[]",
		"[]:",
		"[]:80",
		"[:80",
		"]:80",
		"80",
		":80",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:x",
		"127.0.0.1:80 ",
		" 127.0.0.1:80",
		"127.0.0.1:+80",
		"127.0.0.1:-1",
		"127.0.0.1:65536",
		"127.0.0.1:4294967296",
		"127.0.0.1:0x50",
		"127.0.0.1:80:80",
		"127.0.0:80",
		"127.0.0.1.1:80",
		"256.0.0.1:80",
		"127.1:80",
		"[127.0.0.1]:80",
		"localhost:80",
		"example.org:80",
		"::1:80",
		"::1",
		"[::1]",
		"[::1]80",
		"[::1]x:80",
		"[::1]:80x",
		"[::1]: 80",
		"[[::1]]:80",
		"[::1:80",
		"::1]:80",
		"[::g]:80",
		"[:::]:80",
		"[1:2:3:4:5:6:7:8:9]:80",
		"[::1%]:80",
		"[::1%%1]:80",
		"[::1%4294967296]:80",
		"[::1%-1]:80",
		"[::1%1x]:80",
		"[::ffff:1.2.3.4%1]:80",
		"[000000000000000000000000000000000000000000000000000000000000000000000000000001]:80",
	};
	ph_address address, untouched;

	(void)state;
	memset(&untouched, 0x5a, sizeof(untouched));
	address = untouched;
	for (size_t i = 0; i < COUNT(texts); i++) {
		if (ph_address_parse(texts[i], &address) != -EINVAL)
			fail_msg("accepted: '%s'", texts[i]);
		assert_memory_equal(&address, &untouched, sizeof(address));
	}
	assert_int_equal(ph_address_parse(NULL, &address), -EINVAL);
	assert_int_equal(ph_address_parse("[::1]:80", NULL), -EINVAL);
}

/* The engine's own names, then those of the ranges. */
static void reason_names(void **state)
{
	static const struct {
		uint32_t reason;
		const char *name;
	} cases[] = {
		{0, "none"},
		{1, "unknown"},
		{999, "unknown"},
		{1000, "application"},
		{1999, "application"},
		{2000, "application_error"},
		{2999, "application_error"},
		{3000, "local_close"},
		{3999, "local"},
		{4003, "refused_by_peer"},
		{4999, "remote"},
		{5002, "limit_memory"},
		{5999, "limits"},
		{6005, "protocol_verify"},
		{6999, "protocol"},
		{7006, "transport_handshake_lost"},
		{7999, "transport"},
		{8000, "unknown"},
		{UINT32_MAX, "unknown"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(ph_reason_name(cases[i].reason), cases[i].name);
#define EXPECT_NAME(name, value, text) assert_string_equal(ph_reason_name(value), text);
	PH_REASONS(EXPECT_NAME)
#undef EXPECT_NAME
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_there_and_back),
		cmocka_unit_test(address_ipv4_is_mapped),
		cmocka_unit_test(address_scope_by_name),
		cmocka_unit_test(address_refuses_all_else),
		cmocka_unit_test(reason_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
