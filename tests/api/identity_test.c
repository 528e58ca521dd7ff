/*
 * The Identity Manager: what each function does, and each of its documented codes made to happen.
 * Out-of-memory is in the last test: every allocation fails once.
 */
#include "api/detail.h"
#include "api/identity.h"
#include "p2p.h"

#include "store_home.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/wait.h>

#define UNKNOWN u"0123456789abcdef0123456789abcdef01234567.nobody"

static PWSTR create(PCWSTR classifier, PCWSTR friendly_name)
{
	PWSTR name = NULL;

	assert_result(PeerIdentityCreate(classifier, friendly_name, 0, &name), S_OK);
	assert_non_null(name);
	return name;
}

static void repeat(WCHAR *text, WCHAR c, size_t units)
{
	for (size_t index = 0; index < units; index++)
		text[index] = c;
	text[units] = 0;
}

static void mode_of_key(mode_t mode)
{
	char path[256];

	assert_int_equal(key_files(path, sizeof(path)), 1);
	assert_int_equal(chmod(path, mode), 0);
}

/* ---- create ------------------------------------------------------------------------------ */

/* The name is 40 hex digits, a dot, the classifier; and it is there in a new connection. */
static void create_is_stored(void **state)
{
	PWSTR name = create(u"caf\u00e9 \U0001F600", u"Friend");
	PWSTR friendly_name;
	char *utf8 = utf8_of(name);

	(void)state;
	assert_true(peer_name_is_secure(utf8));
	assert_string_equal(peer_name_classifier(utf8), "caf\xc3\xa9 \xf0\x9f\x98\x80");
	free(utf8);
	store_close();
	assert_result(store_home_set(test_home), S_OK);
	assert_result(PeerIdentityGetFriendlyName(name, &friendly_name), S_OK);
	assert_true(text_is_equal(friendly_name, u"Friend"));
	PeerFreeData(friendly_name);
	PeerFreeData(name);
}

static void create_without_texts(void **state)
{
	PWSTR name = create(NULL, NULL);
	PWSTR friendly_name;

	(void)state;
	assert_int_equal(text_units(name), 41);
	assert_result(PeerIdentityGetFriendlyName(name, &friendly_name), S_OK);
	assert_true(text_is_equal(friendly_name, name));
	PeerFreeData(friendly_name);
	PeerFreeData(name);
}

static void create_at_the_limits(void **state)
{
	static const WCHAR lone[] = {'a', 0xd800, 0};
	WCHAR text[300];
	PWSTR name = (PWSTR)0x1;

	(void)state;
	repeat(text, 0x20ac, 149);
	assert_result(PeerIdentityCreate(text, NULL, 0, &name), S_OK);
	PeerFreeData(name);
	repeat(text, 'x', 150);
	assert_result(PeerIdentityCreate(text, NULL, 0, &name), E_INVALIDARG);
	assert_null(name);
	repeat(text, 0x20ac, 255);
	assert_result(PeerIdentityCreate(NULL, text, 0, &name), S_OK);
	PeerFreeData(name);
	repeat(text, 'x', 256);
	assert_result(PeerIdentityCreate(NULL, text, 0, &name), E_INVALIDARG);
	assert_result(PeerIdentityCreate(lone, NULL, 0, &name), E_INVALIDARG);
	assert_result(PeerIdentityCreate(NULL, lone, 0, &name), E_INVALIDARG);
	assert_result(PeerIdentityCreate(u"bell\a", NULL, 0, &name), E_INVALIDARG);
	assert_result(PeerIdentityCreate(NULL, NULL, 0, NULL), E_INVALIDARG);
}

static void create_with_provider(void **state)
{
	PWSTR name = (PWSTR)0x1;

	(void)state;
	assert_result(PeerIdentityCreate(NULL, NULL, 42, &name), E_HANDLE);
	assert_null(name);
}

/* keys/ that others may enter is not used. */
static void create_without_key_access(void **state)
{
	PWSTR name = create(NULL, NULL);
	char path[128];

	(void)state;
	PeerFreeData(name);
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0755), 0);
	assert_result(PeerIdentityCreate(NULL, NULL, 0, &name), PEER_E_NO_KEY_ACCESS);
	assert_null(name);
	assert_non_null(strstr(PeerhubLastErrorText(), "keys"));
	assert_int_equal(chmod(path, 0700), 0);
	assert_result(PeerIdentityCreate(NULL, NULL, 0, &name), S_OK);
	PeerFreeData(name);
}

static void create_too_many(void **state)
{
	PWSTR name = create(NULL, NULL);
	char path[128], sql[256];
	sqlite3 *handle;

	(void)state;
	PeerFreeData(name);
	store_close();
	home_path(path, sizeof(path), "store.db");
	assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
	(void)!snprintf(sql, sizeof(sql),
		"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i+1 FROM n WHERE i<%u)"
		" INSERT INTO identities(name, friendly_name, is_default, certificate, key_file)"
		" SELECT printf('%%040x.', i), '', 0, x'00', printf('%%032x.key', i) FROM n",
		STORE_IDENTITIES_MAX);
	assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(handle);
	assert_result(PeerIdentityCreate(NULL, NULL, 0, &name), PEER_E_TOO_MANY_IDENTITIES);
	assert_null(name);
	assert_int_equal(key_files(NULL, 0), 1);
}

/* ---- friendly names ----------------------------------------------------------------------- */

static void friendly_name_changes(void **state)
{
	PWSTR name = create(u"a", u"one");
	PWSTR text, xml, again;

	(void)state;
	assert_result(PeerIdentityGetXML(name, &xml), S_OK);
	assert_result(PeerIdentitySetFriendlyName(name, u"two"), S_OK);
	assert_result(PeerIdentityGetFriendlyName(NULL, &text), S_OK); /* it is the default one */
	assert_true(text_is_equal(text, u"two"));
	PeerFreeData(text);
	assert_result(PeerIdentityGetXML(name, &again), S_OK);
	assert_false(text_is_equal(xml, again)); /* the certificate carries the name */
	PeerFreeData(xml);
	PeerFreeData(again);
	assert_result(PeerIdentitySetFriendlyName(NULL, u""), S_OK);
	assert_result(PeerIdentityGetFriendlyName(name, &text), S_OK);
	assert_true(text_is_equal(text, name));
	PeerFreeData(text);
	assert_result(PeerIdentitySetFriendlyName(name, u"three"), S_OK);
	assert_result(PeerIdentitySetFriendlyName(name, NULL), S_OK);
	assert_result(PeerIdentityGetFriendlyName(name, &text), S_OK);
	assert_true(text_is_equal(text, name));
	PeerFreeData(text);
	PeerFreeData(name);
}

static void friendly_name_codes(void **state)
{
	WCHAR text[300];
	PWSTR name, got = (PWSTR)0x1;

	(void)state;
	assert_result(PeerIdentityGetFriendlyName(NULL, &got), PEER_E_NOT_FOUND);
	assert_null(got);
	assert_result(PeerIdentitySetFriendlyName(NULL, u"x"), PEER_E_NOT_FOUND);
	name = create(NULL, NULL);
	assert_result(PeerIdentityGetFriendlyName(name, NULL), E_INVALIDARG);
	assert_result(PeerIdentityGetFriendlyName(u"nonsense", &got), E_INVALIDARG);
	assert_result(PeerIdentitySetFriendlyName(u"nonsense", u"x"), E_INVALIDARG);
	assert_result(PeerIdentityGetFriendlyName(UNKNOWN, &got), PEER_E_NOT_FOUND);
	assert_result(PeerIdentitySetFriendlyName(UNKNOWN, u"x"), PEER_E_NOT_FOUND);
	repeat(text, 'x', 256);
	assert_result(PeerIdentitySetFriendlyName(name, text), E_INVALIDARG);
	mode_of_key(0644);
	assert_result(PeerIdentityGetFriendlyName(name, &got), PEER_E_NO_KEY_ACCESS);
	assert_null(got);
	assert_result(PeerIdentitySetFriendlyName(name, u"x"), PEER_E_NO_KEY_ACCESS);
	mode_of_key(0600);
	assert_result(PeerIdentitySetFriendlyName(name, u"x"), S_OK);
	PeerFreeData(name);
}

/* ---- delete ------------------------------------------------------------------------------ */

static void delete_takes_the_key_along(void **state)
{
	PWSTR first = create(u"1", NULL);
	PWSTR second = create(u"2", NULL);
	PWSTR got;

	(void)state;
	assert_int_equal(key_files(NULL, 0), 2);
	assert_result(PeerIdentityDelete(first), S_OK);
	assert_int_equal(key_files(NULL, 0), 1);
	assert_result(PeerIdentityDelete(first), PEER_E_NOT_FOUND);
	assert_result(PeerIdentityGetDefault(&got), S_OK); /* handed on */
	assert_true(text_is_equal(got, second));
	PeerFreeData(got);
	assert_result(PeerIdentityDelete(second), S_OK);
	assert_result(PeerIdentityGetDefault(&got), PEER_E_NOT_FOUND);
	assert_null(got);
	assert_int_equal(key_files(NULL, 0), 0);
	PeerFreeData(first);
	PeerFreeData(second);
}

static void delete_codes(void **state)
{
	struct group_properties properties;
	PWSTR name = create(u"x", NULL);
	char *utf8 = utf8_of(name);

	(void)state;
	assert_result(PeerIdentityDelete(NULL), E_INVALIDARG);
	assert_result(PeerIdentityDelete(u"nonsense"), E_INVALIDARG);
	assert_result(PeerIdentityDelete(UNKNOWN), PEER_E_NOT_FOUND);
	group_properties_init(&properties);
	assert_result(group_create(&properties), S_OK);
	assert_result(PeerIdentityDelete(name), PEER_E_GROUPS_EXIST);
	assert_result(membership_delete(utf8, properties.group), S_OK);
	assert_result(PeerIdentityDelete(name), S_OK);
	free(utf8);
	PeerFreeData(name);
}

/* ---- default and XML ---------------------------------------------------------------------- */

static void default_is_the_first(void **state)
{
	PWSTR first, second, got = (PWSTR)0x1;

	(void)state;
	assert_result(PeerIdentityGetDefault(NULL), E_INVALIDARG);
	assert_result(PeerIdentityGetDefault(&got), PEER_E_NOT_FOUND);
	assert_null(got);
	first = create(u"1", NULL);
	second = create(u"2", NULL);
	assert_result(PeerIdentityGetDefault(&got), S_OK);
	assert_true(text_is_equal(got, first));
	PeerFreeData(got);
	PeerFreeData(first);
	PeerFreeData(second);
}

/* NULL makes a default identity when there is none, once. */
static void xml_of_default_makes_one(void **state)
{
	struct certificate_info info;
	PWSTR xml, again, name;
	char *utf8;

	(void)state;
	assert_result(PeerIdentityGetXML(NULL, &xml), S_OK);
	assert_result(PeerIdentityGetXML(NULL, &again), S_OK);
	assert_true(text_is_equal(xml, again));
	assert_result(PeerIdentityGetDefault(&name), S_OK);
	utf8 = utf8_of(name);
	assert_result(identity_from_xml(xml, identity_now_s(), &info), S_OK);
	assert_string_equal(info.name, utf8);
	free(utf8);
	PeerFreeData(name);
	PeerFreeData(xml);
	PeerFreeData(again);
}

static void xml_codes(void **state)
{
	PWSTR xml = (PWSTR)0x1;

	(void)state;
	assert_result(PeerIdentityGetXML(NULL, NULL), E_INVALIDARG);
	assert_result(PeerIdentityGetXML(UNKNOWN, &xml), E_HANDLE);
	assert_null(xml);
	assert_result(PeerIdentityGetXML(u"nonsense", &xml), E_HANDLE);
}

/* ---- export and import -------------------------------------------------------------------- */

static PWSTR export(PCWSTR name, PCWSTR password)
{
	PWSTR xml;

	assert_result(PeerIdentityExport(name, password, &xml), S_OK);
	return xml;
}

static void export_moves_an_identity(void **state)
{
	PWSTR name = create(u"a & b <c>", u"Fr\u00e4nk");
	PWSTR xml = export(name, u"p\u00e4ss");
	PWSTR got, friendly_name;

	(void)state;
	assert_result(PeerIdentityImport(xml, u"p\u00e4ss", &got), PEER_E_ALREADY_EXISTS);
	assert_null(got);
	assert_result(PeerIdentityDelete(name), S_OK);
	assert_result(PeerIdentityImport(xml, u"p\u00e4ss", &got), S_OK);
	assert_true(text_is_equal(got, name));
	assert_result(PeerIdentityGetFriendlyName(got, &friendly_name), S_OK);
	assert_true(text_is_equal(friendly_name, u"Fr\u00e4nk"));
	PeerFreeData(friendly_name);
	PeerFreeData(got);
	assert_result(PeerIdentityExport(name, u"", &got), S_OK); /* the key is there and usable */
	PeerFreeData(got);
	PeerFreeData(xml);
	PeerFreeData(name);
}

static void export_with_empty_password(void **state)
{
	PWSTR name = create(NULL, NULL);
	PWSTR xml = export(NULL, u"");
	PWSTR got;

	(void)state;
	assert_result(PeerIdentityDelete(name), S_OK);
	assert_result(PeerIdentityImport(xml, u"x", &got), E_INVALIDARG);
	assert_result(PeerIdentityImport(xml, u"", &got), S_OK);
	PeerFreeData(got);
	PeerFreeData(xml);
	PeerFreeData(name);
}

static void export_codes(void **state)
{
	PWSTR name = create(NULL, NULL);
	PWSTR xml = (PWSTR)0x1;

	(void)state;
	assert_result(PeerIdentityExport(name, u"p", NULL), E_INVALIDARG);
	assert_result(PeerIdentityExport(name, NULL, &xml), E_INVALIDARG);
	assert_null(xml);
	assert_result(PeerIdentityExport(u"nonsense", u"p", &xml), E_INVALIDARG);
	assert_result(PeerIdentityExport(UNKNOWN, u"p", &xml), PEER_E_NOT_FOUND);
	mode_of_key(0000);
	assert_result(PeerIdentityExport(name, u"p", &xml), PEER_E_NO_KEY_ACCESS);
	mode_of_key(0640);
	assert_result(PeerIdentityExport(name, u"p", &xml), PEER_E_NO_KEY_ACCESS);
	mode_of_key(0400);
	assert_result(PeerIdentityExport(name, u"p", &xml), S_OK);
	PeerFreeData(xml);
	PeerFreeData(name);
}

/* Replace the first occurrence; the result is malloc'd. */
static WCHAR *replaced(PCWSTR wide, const char *from, const char *to)
{
	char *text = utf8_of(wide);
	char *at = strstr(text, from);
	char *made;
	WCHAR *result;

	assert_non_null(at);
	made = malloc(strlen(text) + strlen(to) + 1);
	assert_non_null(made);
	*at = '\0';
	sprintf(made, "%s%s%s", text, to, at + strlen(from));
	result = wide_of(made);
	free(text);
	free(made);
	return result;
}

/* The import page names the elements otherwise; both are taken, with white space around. */
static void import_takes_other_names(void **state)
{
	PWSTR name = create(u"c", NULL);
	PWSTR xml = export(name, u"p");
	WCHAR *one = replaced(xml, "<PEERNAME>", " \r\n <IDENTITY>");
	WCHAR *two = replaced(one, "</PEERNAME>", "</IDENTITY>\n");
	WCHAR *three = replaced(two, "<DATA ", "<IDENTITYDATA ");
	WCHAR *four = replaced(three, "</DATA>", "</IDENTITYDATA>");
	PWSTR got;

	(void)state;
	assert_result(PeerIdentityDelete(name), S_OK);
	assert_result(PeerIdentityImport(four, u"p", &got), S_OK);
	PeerFreeData(got);
	free(one);
	free(two);
	free(three);
	free(four);
	PeerFreeData(xml);
	PeerFreeData(name);
}

static void import_refuses(PCWSTR xml, const char *from, const char *to)
{
	WCHAR *bad = replaced(xml, from, to);
	PWSTR got = (PWSTR)0x1;

	assert_result(PeerIdentityImport(bad, u"p", &got), E_INVALIDARG);
	assert_null(got);
	assert_true(strlen(PeerhubLastErrorText()) > 0);
	free(bad);
}

static void import_codes(void **state)
{
	PWSTR name = create(u"c", NULL);
	PWSTR xml = export(name, u"p");
	WCHAR *much = calloc(70000, sizeof(WCHAR));
	PWSTR got;
	char path[128];

	(void)state;
	assert_non_null(much);
	assert_result(PeerIdentityDelete(name), S_OK);
	assert_result(PeerIdentityImport(xml, u"p", NULL), E_INVALIDARG);
	assert_result(PeerIdentityImport(NULL, u"p", &got), E_INVALIDARG);
	assert_result(PeerIdentityImport(xml, NULL, &got), E_INVALIDARG);
	assert_result(PeerIdentityImport(xml, u"q", &got), E_INVALIDARG); /* wrong password */
	assert_result(PeerIdentityImport(u"", u"p", &got), E_INVALIDARG);
	repeat(much, ' ', 69000);
	assert_result(PeerIdentityImport(much, u"p", &got), E_INVALIDARG);
	import_refuses(
		xml, "PEERIDENTITYEXPORT VERSION=\"1.0\"", "PEERIDENTITYEXPORT VERSION=\"9\"");
	import_refuses(xml, "</PEERIDENTITYEXPORT>", "");
	import_refuses(xml, "<PEERNAME>", "<PEERNAME>0");
	import_refuses(xml, ".c</PEERNAME>", ".d</PEERNAME>");
	import_refuses(xml, "<PEERIDENTITYEXPORT", "<!DOCTYPE x><PEERIDENTITYEXPORT");
	import_refuses(xml, "bin.base64\">", "bin.base64\">AAAA");
	import_refuses(xml, "</DATA>", "A</DATA>");
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0750), 0);
	assert_result(PeerIdentityImport(xml, u"p", &got), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(chmod(path, 0700), 0);
	assert_result(PeerIdentityImport(xml, u"p", &got), S_OK);
	PeerFreeData(got);
	free(much);
	PeerFreeData(xml);
	PeerFreeData(name);
}

/* Any one character of the encrypted part changed is noticed; a seeded sample of places. */
static void import_notices_changes(void **state)
{
	PWSTR name = create(NULL, NULL);
	PWSTR xml = export(name, u"p");
	size_t units = text_units(xml);
	unsigned seed = (unsigned)getpid();

	(void)state;
	assert_result(PeerIdentityDelete(name), S_OK);
	printf("seed %u\n", seed);
	srandom(seed);
	for (int round = 0; round < 12; round++) {
		size_t place = units / 4 + (size_t)random() % (units / 2);
		WCHAR before = xml[place];
		PWSTR got;

		xml[place] = before == 'A' ? 'B' : 'A';
		assert_result(PeerIdentityImport(xml, u"p", &got), E_INVALIDARG);
		xml[place] = before;
	}
	PeerFreeData(xml);
	PeerFreeData(name);
}

/* ---- lists ------------------------------------------------------------------------------ */

static void enumerate_identities(void **state)
{
	PWSTR first = create(u"1", u"One");
	PWSTR second = create(u"2", NULL);
	PEER_NAME_PAIR **pairs;
	HPEERENUM handle;
	ULONG count;

	(void)state;
	assert_result(PeerEnumIdentities(NULL), E_INVALIDARG);
	assert_result(PeerEnumIdentities(&handle), S_OK);
	assert_result(PeerGetItemCount(handle, &count), S_OK);
	assert_int_equal(count, 2);
	assert_result(PeerGetNextItem(handle, &count, (PVOID **)&pairs), S_OK);
	assert_result(PeerEndEnumeration(handle), S_OK);
	assert_int_equal(count, 2);
	assert_int_equal(pairs[0]->dwSize, sizeof(PEER_NAME_PAIR));
	assert_true(text_is_equal(pairs[0]->pwzPeerName, first));
	assert_true(text_is_equal(pairs[0]->pwzFriendlyName, u"One"));
	assert_true(text_is_equal(pairs[1]->pwzPeerName, second));
	assert_true(text_is_equal(pairs[1]->pwzFriendlyName, second));
	PeerFreeData(pairs);
	PeerFreeData(first);
	PeerFreeData(second);
}

static void enumerate_groups(void **state)
{
	struct group_properties properties;
	PEER_NAME_PAIR **pairs;
	HPEERENUM handle = (HPEERENUM)0x1;
	PWSTR name;
	WCHAR *group;
	ULONG count = 8;

	(void)state;
	assert_result(PeerEnumGroups(NULL, NULL), E_INVALIDARG);
	assert_result(PeerEnumGroups(NULL, &handle), PEER_E_NOT_FOUND);
	assert_null(handle);
	name = create(NULL, NULL);
	assert_result(PeerEnumGroups(UNKNOWN, &handle), PEER_E_NOT_FOUND);
	assert_result(PeerEnumGroups(u"nonsense", &handle), E_INVALIDARG);
	group_properties_init(&properties);
	strcpy(properties.friendly_name, "Team");
	assert_result(group_create(&properties), S_OK);
	assert_result(PeerEnumGroups(NULL, &handle), S_OK);
	assert_result(PeerGetNextItem(handle, &count, (PVOID **)&pairs), S_OK);
	assert_result(PeerEndEnumeration(handle), S_OK);
	assert_int_equal(count, 1);
	group = wide_of(properties.group);
	assert_true(text_is_equal(pairs[0]->pwzPeerName, group));
	assert_true(text_is_equal(pairs[0]->pwzFriendlyName, u"Team"));
	free(group);
	PeerFreeData(pairs);
	PeerFreeData(name);
}

/* ---- names ------------------------------------------------------------------------------ */

static void peer_names_are_composed(void **state)
{
	PWSTR name = create(u"old", NULL);
	PWSTR made;
	WCHAR text[200];

	(void)state;
	assert_result(PeerCreatePeerName(name, u"new", &made), S_OK);
	assert_memory_equal(made, name, 41 * sizeof(WCHAR));
	assert_true(text_is_equal(made + 41, u"new"));
	PeerFreeData(made);
	assert_result(PeerCreatePeerName(name, NULL, &made), S_OK);
	assert_true(text_is_equal(made, name));
	PeerFreeData(made);
	assert_result(PeerCreatePeerName(NULL, u"open", &made), S_OK);
	assert_true(text_is_equal(made, u"0.open"));
	PeerFreeData(made);
	made = (PWSTR)0x1;
	assert_result(PeerCreatePeerName(NULL, NULL, &made), E_INVALIDARG);
	assert_null(made);
	assert_result(PeerCreatePeerName(name, u"x", NULL), E_INVALIDARG);
	assert_result(PeerCreatePeerName(u"nonsense", u"x", &made), E_INVALIDARG);
	repeat(text, 'x', 150);
	assert_result(PeerCreatePeerName(name, text, &made), E_INVALIDARG);
	PeerFreeData(name);
}

/* ---- home ------------------------------------------------------------------------------- */

static void home_codes(void **state)
{
	char path[5000];

	(void)state;
	assert_result(PeerhubSetHome(""), E_INVALIDARG);
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_result(PeerhubSetHome(path), E_INVALIDARG);
	store_pin();
	assert_result(PeerhubSetHome(test_home), PEER_E_GROUP_IN_USE);
	store_unpin();
	assert_result(PeerhubSetHome(test_home), S_OK);
	assert_result(PeerhubGetHome(NULL, sizeof(path)), E_INVALIDARG);
	assert_result(PeerhubGetHome(path, 0), E_INVALIDARG);
	assert_result(PeerhubGetHome(path, strlen(test_home)), E_INVALIDARG);
	assert_result(PeerhubGetHome(path, strlen(test_home) + 1), S_OK);
	assert_string_equal(path, test_home);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		home_test(create_is_stored),
		home_test(create_without_texts),
		home_test(create_at_the_limits),
		home_test(create_with_provider),
		home_test(create_without_key_access),
		home_test(create_too_many),
		home_test(friendly_name_changes),
		home_test(friendly_name_codes),
		home_test(delete_takes_the_key_along),
		home_test(delete_codes),
		home_test(default_is_the_first),
		home_test(xml_of_default_makes_one),
		home_test(xml_codes),
		home_test(export_moves_an_identity),
		home_test(export_with_empty_password),
		home_test(export_codes),
		home_test(import_takes_other_names),
		home_test(import_codes),
		home_test(import_notices_changes),
		home_test(enumerate_identities),
		home_test(enumerate_groups),
		home_test(peer_names_are_composed),
		home_test(home_codes),
	};

	return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
