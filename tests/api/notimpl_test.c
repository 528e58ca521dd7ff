/*
 * What peerhub does not serve: each function says PEER_E_NOT_INITIALIZED before PeerGroupStartup (those
 * of identities do not), then E_NOTIMPL, and clears its out-parameters both times.
 */
#include "peerhub/extras.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Stands in an out-parameter before a call; NULL must stand there after it. */
#define GARBAGE ((void *)(uintptr_t)0x5a5a)

static void expect_all(HRESULT expected)
{
	HGROUP group = NULL;
	PPEER_RECORD record = GARBAGE;
	HPEERENUM enumeration = GARBAGE;
	PWSTR first = GARBAGE, second = GARBAGE;
	GUID id = {.Data1 = 1};
	static const GUID none;

	assert_int_equal(PeerGroupGetRecord(group, &id, &record), expected);
	assert_null(record);
	assert_int_equal(PeerGroupAddRecord(group, NULL, &id), expected);
	assert_memory_equal(&id, &none, sizeof(id));
	assert_int_equal(PeerGroupUpdateRecord(group, NULL), expected);
	assert_int_equal(PeerGroupDeleteRecord(group, &id), expected);
	assert_int_equal(PeerGroupEnumRecords(group, NULL, &enumeration), expected);
	assert_null(enumeration);
	enumeration = GARBAGE;
	assert_int_equal(PeerGroupSearchRecords(group, u"<peersearch/>", &enumeration), expected);
	assert_null(enumeration);
	assert_int_equal(PeerGroupExportDatabase(group, u"file"), expected);
	assert_int_equal(PeerGroupImportDatabase(group, u"file"), expected);
	assert_int_equal(PeerGroupExportConfig(group, u"password", &first), expected);
	assert_null(first);
	first = GARBAGE;
	assert_int_equal(
		PeerGroupImportConfig(u"<xml/>", u"password", FALSE, &first, &second), expected);
	assert_null(first);
	assert_null(second);
	group = GARBAGE;
	assert_int_equal(
		PeerGroupPasswordJoin(NULL, u"<xml/>", u"password", NULL, &group), expected);
	assert_null(group);
	first = GARBAGE;
	assert_int_equal(PeerGroupCreatePasswordInvitation(group, &first), expected);
	assert_null(first);
	assert_int_equal(PeerGroupResumePasswordAuthentication(group, NULL), expected);
	assert_string_not_equal(PeerhubLastErrorText(), "");
}

/* Out-parameters that are NULL are left alone. */
static void expect_null_out_parameters(HRESULT expected)
{
	assert_int_equal(PeerGroupGetRecord(NULL, NULL, NULL), expected);
	assert_int_equal(PeerGroupAddRecord(NULL, NULL, NULL), expected);
	assert_int_equal(PeerGroupEnumRecords(NULL, NULL, NULL), expected);
	assert_int_equal(PeerGroupSearchRecords(NULL, NULL, NULL), expected);
	assert_int_equal(PeerGroupExportConfig(NULL, NULL, NULL), expected);
	assert_int_equal(PeerGroupImportConfig(NULL, NULL, TRUE, NULL, NULL), expected);
	assert_int_equal(PeerGroupPasswordJoin(NULL, NULL, NULL, NULL, NULL), expected);
	assert_int_equal(PeerGroupCreatePasswordInvitation(NULL, NULL), expected);
}

static void notimpl_before_startup(void **state)
{
	(void)state;
	expect_all(PEER_E_NOT_INITIALIZED);
	expect_null_out_parameters(PEER_E_NOT_INITIALIZED);
}

static void notimpl_when_started(void **state)
{
	PEER_VERSION_DATA version;

	(void)state;
	assert_int_equal(PeerGroupStartup(PEER_GROUP_VERSION, &version), S_OK);
	expect_all(E_NOTIMPL);
	expect_null_out_parameters(E_NOTIMPL);
	assert_int_equal(PeerGroupShutdown(), S_OK);
	expect_all(PEER_E_NOT_INITIALIZED);
}

/* Key provider handles belong to identities: no start-up is asked for. */
static void notimpl_crypt_key(void **state)
{
	HCRYPTPROV provider = 5;

	(void)state;
	assert_int_equal(PeerIdentityGetCryptKey(NULL, &provider), E_NOTIMPL);
	assert_int_equal(provider, 0);
	assert_int_equal(PeerIdentityGetCryptKey(u"0.a", NULL), E_NOTIMPL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notimpl_before_startup),
		cmocka_unit_test(notimpl_when_started),
		cmocka_unit_test(notimpl_crypt_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
