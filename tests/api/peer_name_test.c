/* Peer names and the server names made of them: the grammar, at its edges. */
#include "api/peer_name.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define A40 "0123456789abcdef0123456789abcdef01234567"
#define B40 "ffffffffffffffffffffffffffffffffffffffff"

/* Every malformed form of RFC 3629 section 3 and 4, and the edges of the good ones. */
static void text_is_strict_utf8(void **state)
{
	static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf",
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80", "a\xff", "\xe2\x82", "\xf0\x9f\x98"};

	(void)state;
	for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++) {
		assert_int_equal(peer_text_units(bad[index]), -1);
		assert_false(peer_text_fits(bad[index], 100));
	}
	assert_int_equal(peer_text_units(""), 0);
	assert_int_equal(peer_text_units("a\xc2\x80\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf"), 5);
	assert_int_equal(peer_text_units("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), 4);
	assert_true(peer_text_fits("\xf0\x90\x80\x80", 2));
	assert_false(peer_text_fits("\xf0\x90\x80\x80", 1));
}

static void names_follow_the_grammar(void **state)
{
	char name[700];

	(void)state;
	assert_true(peer_name_is_valid("0."));
	assert_true(peer_name_is_valid("0.x.y z"));
	assert_false(peer_name_is_secure("0.x"));
	assert_true(peer_name_is_secure(A40 "."));
	assert_true(peer_name_is_secure(A40 ".JohnDoe"));
	assert_false(peer_name_is_valid(""));
	assert_false(peer_name_is_valid("0"));
	assert_false(peer_name_is_valid("1.x"));
	assert_false(peer_name_is_valid(A40));
	assert_false(peer_name_is_valid(A40 "0."));
	assert_false(peer_name_is_valid("0123456789ABCDEF0123456789abcdef01234567.x"));
	assert_false(peer_name_is_valid("0123456789abcdef0123456789abcdef0123456.x"));
	assert_false(peer_name_is_valid(A40 ".\xff"));
	memcpy(name, A40 ".", 41);
	memset(name + 41, 'x', 150);
	name[41 + 149] = '\0';
	assert_true(peer_name_is_secure(name));
	name[41 + 149] = 'x';
	name[41 + 150] = '\0';
	assert_false(peer_name_is_secure(name));
}

static void names_are_made_and_taken_apart(void **state)
{
	char name[PH_NAME_BYTES_MAX], authority[PEER_AUTHORITY_BYTES];

	(void)state;
	assert_int_equal(peer_name_make(A40, "c.d", name), 0);
	assert_string_equal(name, A40 ".c.d");
	assert_string_equal(peer_name_classifier(name), "c.d");
	assert_int_equal(peer_name_authority(name, authority), 0);
	assert_string_equal(authority, A40);
	assert_int_equal(peer_name_make("0", NULL, name), 0);
	assert_string_equal(name, "0.");
	assert_int_equal(peer_name_make("1", "x", name), -EINVAL);
	assert_int_equal(peer_name_make(A40 "0", "x", name), -EINVAL);
	assert_int_equal(peer_name_make(A40, "\xff", name), -EINVAL);
	assert_int_equal(peer_name_authority("0.x", authority), -EINVAL);
	assert_string_equal(peer_name_classifier("nodot"), "");
	assert_true(peer_name_same_authority(A40 ".x", A40 ".y"));
	assert_false(peer_name_same_authority(A40 ".x", B40 ".x"));
	assert_false(peer_name_same_authority("0.x", "0.x"));
}

/* SHA-256("abc") from FIPS 180-4, cut to 160 bits. */
static void authority_is_the_cut_digest(void **state)
{
	char authority[PEER_AUTHORITY_BYTES];

	(void)state;
	peer_authority_of_key((const uint8_t *)"abc", 3, authority);
	assert_string_equal(authority, "ba7816bf8f01cfea414140de5dae2223b00361a3");
}

static void server_names_go_both_ways(void **state)
{
	char sni[PEER_SNI_BYTES];
	char identity[PEER_AUTHORITY_BYTES], group[PEER_AUTHORITY_BYTES];

	(void)state;
	assert_int_equal(peer_sni_format(A40 ".x", B40 ".y", sni), 0);
	assert_string_equal(sni, A40 "." B40 ".p2p");
	assert_int_equal(peer_sni_parse(sni, identity, group), 0);
	assert_string_equal(identity, A40);
	assert_string_equal(group, B40);
	assert_int_equal(peer_sni_format(NULL, B40 ".y", sni), 0);
	assert_string_equal(sni, "any." B40 ".p2p");
	assert_int_equal(peer_sni_parse(sni, identity, group), 0);
	assert_string_equal(identity, "");
	assert_string_equal(group, B40);
	assert_int_equal(peer_sni_parse("FFFFFFFFFFFFFFFFFFFFffffffffffffffffffff." A40 ".p2p",
				 identity, group),
		0);
	assert_string_equal(identity, B40);
	assert_int_equal(peer_sni_format("0.x", B40 ".y", sni), -EINVAL);
	assert_int_equal(peer_sni_format(A40 ".x", "0.y", sni), -EINVAL);
}

static void server_names_are_strict(void **state)
{
	static const char *const bad[] = {"", ".", "any", "any.", "any." A40, "any." A40 ".",
		"any." A40 ".p2", "any." A40 ".p2px", "any." A40 ".p2p.", "any." A40 "0.p2p",
		"any..p2p", "Any." A40 ".p2p", A40 ".p2p", A40 "." A40, A40 "0." A40 ".p2p",
		"x" A40 "." A40 ".p2p", "g123456789abcdef0123456789abcdef01234567." A40 ".p2p",
		"example.org", A40 "." A40 "." A40 ".p2p"};
	char identity[PEER_AUTHORITY_BYTES], group[PEER_AUTHORITY_BYTES];

	(void)state;
	for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++)
		assert_int_equal(peer_sni_parse(bad[index], identity, group), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_strict_utf8),
		cmocka_unit_test(names_follow_the_grammar),
		cmocka_unit_test(names_are_made_and_taken_apart),
		cmocka_unit_test(authority_is_the_cut_digest),
		cmocka_unit_test(server_names_go_both_ways),
		cmocka_unit_test(server_names_are_strict),
	};

	return cmocka_run_group_tests_name("peer_name", tests, NULL, NULL);
}
