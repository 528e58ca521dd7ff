/*
 * two_process_setup.h: the first process of two_process_test.c until the other one joins: calls
 * before PeerGroupStartup, identities, the group, handles that are none, invitations.
 */
#ifndef PEERHUB_TESTS_TWO_PROCESS_SETUP_H
#define PEERHUB_TESTS_TWO_PROCESS_SETUP_H

#include "tests/api/two_process_peer.h"

/* ---- the creator -------------------------------------------------------------------------- */

static PEER_ADDRESS peer_address;
static PEER_ADDRESS own_address;

static ULONGLONG open_one(void)
{
	ULONGLONG id = 0;

	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &peer_address, &id), S_OK);
	CHECK(id != 0);
	CHECK(await(DIRECT, PEER_CONNECTED, id, NULL));
	return id;
}

/* Wait for the last event of a connection, whichever it is. */
static bool await_end(ULONGLONG id, struct seen *seen)
{
	for (;;) {
		if (!await(DIRECT, 0, id, seen))
			return false;
		if (seen->status != PEER_CONNECTED)
			return true;
	}
}

static HRESULT send_text(ULONGLONG id, const GUID *type, PCWSTR text)
{
	ULONG bytes = 2;
	for (PCWSTR at = text; *at; at++)
		bytes += 2;
	return PeerGroupSendData(group, id, type, bytes, (PVOID)(uintptr_t)text);
}

static ULONG enum_count(DWORD flags)
{
	HPEERENUM connections;
	ULONG count = 0, after = 1;

	CHECK_HR(PeerGroupEnumConnections(group, flags, &connections), S_OK);
	CHECK_HR(PeerGetItemCount(connections, &count), S_OK);
	CHECK_HR(PeerEndEnumeration(connections), S_OK);
	CHECK_HR(PeerEndEnumeration(connections), E_INVALIDARG);
	CHECK_HR(PeerGetItemCount(connections, &after), E_INVALIDARG);
	CHECK(after == 0);
	return count;
}

#define BAD_GROUPS 6
static HGROUP bad_groups[BAD_GROUPS];

static void test_not_started(void)
{
	static WCHAR text[] = u"x";
	PEER_ADDRESS address = address_make(1);
	PEER_GROUP_EVENT_REGISTRATION wanted = {DIRECT, NULL};
	PEER_GROUP_EVENT_DATA *data = (PEER_GROUP_EVENT_DATA *)1;
	HGROUP made = (HGROUP)1;
	HPEERENUM members = (HPEERENUM)1;
	HPEEREVENT registered = (HPEEREVENT)1;
	PWSTR out = text;
	ULONGLONG id = 1;
	DWORD status = 1;
	FILETIME time = {0};
	PEER_VERSION_DATA version = {0};

	CHECK_HR(PeerGroupShutdown(), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupCreate(NULL, &made), PEER_E_NOT_INITIALIZED);
	CHECK(!made);
	CHECK_HR(PeerGroupOpen(NULL, text, NULL, &made), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupJoin(NULL, text, NULL, &made), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupPasswordJoin(NULL, text, text, NULL, &made), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupConnect(NULL), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupConnectByAddress(NULL, 1, &address), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupClose(NULL), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupDelete(NULL, text), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupGetStatus(NULL, &status), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupGetProperties(NULL, NULL), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupSetProperties(NULL, NULL), PEER_E_NOT_INITIALIZED);
	CHECK_HR(
		PeerGroupCreateInvitation(NULL, text, NULL, 0, NULL, &out), PEER_E_NOT_INITIALIZED);
	CHECK(!out);
	CHECK_HR(PeerGroupParseInvitation(text, NULL), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupIssueCredentials(NULL, text, NULL, 0, &out), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupEnumMembers(NULL, 0, NULL, &members), PEER_E_NOT_INITIALIZED);
	CHECK(!members);
	CHECK_HR(PeerGroupOpenDirectConnection(NULL, text, &address, &id), PEER_E_NOT_INITIALIZED);
	CHECK(!id);
	CHECK_HR(PeerGroupCloseDirectConnection(NULL, 1), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupEnumConnections(NULL, 2, &members), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupSendData(NULL, 1, &type_text, 2, text), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupRegisterEvent(NULL, NULL, 1, &wanted, &registered),
		PEER_E_NOT_INITIALIZED);
	CHECK(!registered);
	CHECK_HR(PeerGroupUnregisterEvent(NULL), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupGetEventData(NULL, &data), PEER_E_NOT_INITIALIZED);
	CHECK(!data);
	CHECK_HR(PeerGroupPeerTimeToUniversalTime(NULL, &time, &time), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupUniversalTimeToPeerTime(NULL, &time, &time), PEER_E_NOT_INITIALIZED);

	CHECK_HR(PeerGroupStartup(PEER_GROUP_VERSION, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupStartup(MAKEWORD(2, 0), &version), PEER_E_UNSUPPORTED_VERSION);
	CHECK_HR(PeerGroupStartup(0, &version), PEER_E_UNSUPPORTED_VERSION);
	CHECK_HR(PeerGroupStartup(MAKEWORD(1, 0), &version), S_OK);
	CHECK_HR(PeerGroupStartup(PEER_GROUP_VERSION, &version), S_OK);
	CHECK(version.wVersion == PEER_GROUP_VERSION &&
		version.wHighestVersion == PEER_GROUP_VERSION);
	CHECK_HR(PeerGroupShutdown(), S_OK);
}

static PWSTR long_text(size_t units, WCHAR unit)
{
	static WCHAR text[400];

	for (size_t i = 0; i < units; i++)
		text[i] = unit;
	text[units] = 0;
	return text;
}

static void test_identities(void)
{
	static WCHAR stranger[] = STRANGER;
	PWSTR name = (PWSTR)1, other, text, copy;
	HPEERENUM items;
	ULONG count;
	PEER_NAME_PAIR **pairs;

	CHECK_HR(PeerIdentityGetDefault(&name), PEER_E_NOT_FOUND);
	CHECK(!name);
	CHECK_HR(PeerIdentityGetDefault(NULL), E_INVALIDARG);
	CHECK_HR(PeerEnumIdentities(NULL), E_INVALIDARG);
	CHECK_HR(PeerEnumIdentities(&items), S_OK);
	count = 0;
	CHECK_HR(PeerGetNextItem(items, &count, (PVOID **)&pairs), S_OK);
	CHECK(!count && !pairs);
	count = 7;
	pairs = (PEER_NAME_PAIR **)1;
	CHECK_HR(PeerGetNextItem(items, &count, (PVOID **)&pairs), S_OK);
	CHECK(!count && !pairs);
	CHECK_HR(PeerGetNextItem(items, NULL, (PVOID **)&pairs), E_INVALIDARG);
	CHECK_HR(PeerGetNextItem(items, &count, NULL), E_INVALIDARG);
	CHECK_HR(PeerGetItemCount(items, NULL), E_INVALIDARG);
	CHECK_HR(PeerGetItemCount(NULL, &count), E_INVALIDARG);
	CHECK_HR(PeerEndEnumeration(NULL), E_INVALIDARG);
	CHECK_HR(PeerEndEnumeration(items), S_OK);

	CHECK_HR(PeerIdentityCreate(u"x", NULL, 1, &name), E_HANDLE);
	CHECK(!name);
	CHECK_HR(PeerIdentityCreate(u"x", NULL, 0, NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityCreate(long_text(150, 'c'), NULL, 0, &name), E_INVALIDARG);
	CHECK_HR(PeerIdentityCreate(NULL, long_text(256, 'f'), 0, &name), E_INVALIDARG);
	CHECK_HR(PeerIdentityCreate(long_text(149, 'c'), NULL, 0, &name), S_OK);
	CHECK_HR(PeerIdentityGetFriendlyName(name, &text), S_OK);
	CHECK(text && text_equal(text, name));
	PeerFreeData(text);
	CHECK_HR(PeerIdentitySetFriendlyName(name, long_text(256, 'f')), E_INVALIDARG);
	CHECK_HR(PeerIdentitySetFriendlyName(name, long_text(255, 'f')), S_OK);
	CHECK_HR(PeerIdentityGetFriendlyName(name, &text), S_OK);
	CHECK(text && text_equal(text, long_text(255, 'f')));
	PeerFreeData(text);
	CHECK_HR(PeerIdentitySetFriendlyName(name, u""), S_OK);
	CHECK_HR(PeerIdentityGetFriendlyName(name, &text), S_OK);
	CHECK(text && text_equal(text, name));
	PeerFreeData(text);
	CHECK_HR(PeerIdentitySetFriendlyName(stranger, u"a"), PEER_E_NOT_FOUND);
	CHECK_HR(PeerIdentityGetFriendlyName(stranger, &text), PEER_E_NOT_FOUND);
	CHECK(!text);
	CHECK_HR(PeerIdentityGetFriendlyName(name, NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityGetXML(stranger, &text), E_HANDLE);
	CHECK(!text);
	CHECK_HR(PeerIdentityGetXML(name, NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityGetCryptKey(name, &(HCRYPTPROV){0}), E_NOTIMPL);
	CHECK_HR(PeerIdentityExport(name, NULL, &text), E_INVALIDARG);
	CHECK_HR(PeerIdentityExport(stranger, u"p", &text), PEER_E_NOT_FOUND);
	CHECK_HR(PeerIdentityExport(name, u"secret", NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityExport(name, u"secret", &text), S_OK);
	CHECK_HR(PeerIdentityImport(text, u"secret", &other), PEER_E_ALREADY_EXISTS);
	CHECK(!other);
	CHECK_HR(PeerIdentityDelete(NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityDelete(stranger), PEER_E_NOT_FOUND);
	CHECK_HR(PeerIdentityDelete(name), S_OK);
	CHECK_HR(PeerIdentityDelete(name), PEER_E_NOT_FOUND);
	CHECK_HR(PeerIdentityImport(text, u"wrong", &other), E_INVALIDARG);
	CHECK_HR(PeerIdentityImport(text, NULL, &other), E_INVALIDARG);
	CHECK_HR(PeerIdentityImport(NULL, u"secret", &other), E_INVALIDARG);
	CHECK_HR(PeerIdentityImport(u"<x/>", u"secret", &other), E_INVALIDARG);
	CHECK_HR(PeerIdentityImport(text, u"secret", NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityImport(text, u"secret", &other), S_OK);
	CHECK(other && text_equal(other, name));
	PeerFreeData(text);
	CHECK_HR(PeerIdentityDelete(other), S_OK);
	PeerFreeData(other);
	PeerFreeData(name);
	PeerFreeData(NULL);

	CHECK_HR(PeerIdentityCreate(NULL, u"Creator", 0, &own_identity), S_OK);
	CHECK_HR(PeerIdentityGetDefault(&name), S_OK);
	CHECK(text_equal(name, own_identity));
	PeerFreeData(name);
	CHECK_HR(PeerEnumIdentities(&items), S_OK);
	count = 10;
	CHECK_HR(PeerGetNextItem(items, &count, (PVOID **)&pairs), S_OK);
	CHECK_HR(PeerEndEnumeration(items), S_OK);
	CHECK(count == 1 && pairs[0]->dwSize == sizeof **pairs);
	CHECK(count == 1 && text_equal(pairs[0]->pwzPeerName, own_identity));
	CHECK(count == 1 && text_equal(pairs[0]->pwzFriendlyName, u"Creator"));
	PeerFreeData(pairs);
	CHECK_HR(PeerEnumGroups(stranger, &items), PEER_E_NOT_FOUND);
	CHECK(!items);
	CHECK_HR(PeerEnumGroups(NULL, NULL), E_INVALIDARG);
	CHECK_HR(PeerEnumGroups(NULL, &items), S_OK);
	CHECK_HR(PeerEndEnumeration(items), S_OK);

	copy = NULL;
	CHECK_HR(PeerCreatePeerName(NULL, NULL, &copy), E_INVALIDARG);
	CHECK_HR(PeerCreatePeerName(NULL, u"c", NULL), E_INVALIDARG);
	CHECK_HR(PeerCreatePeerName(NULL, u"c", &copy), S_OK);
	CHECK(copy && text_equal(copy, u"0.c"));
	PeerFreeData(copy);
	copy = NULL;
	CHECK_HR(PeerCreatePeerName(own_identity, NULL, &copy), S_OK);
	CHECK(copy && text_equal(copy, own_identity));
	PeerFreeData(copy);
	copy = NULL;
	CHECK_HR(PeerCreatePeerName(own_identity, long_text(150, 'c'), &copy), E_INVALIDARG);
	CHECK(!copy);
	text_save("creator.identity", own_identity);
}

static void test_group_create(void)
{
	PEER_GROUP_PROPERTIES wanted = {.dwSize = sizeof wanted};
	static WCHAR chat[] = u"Chat", elsewhere[] = u"Elsewhere", bad_name[] = u"no name";
	static WCHAR stranger[] = STRANGER;
	HGROUP made;
	PEER_GROUP_PROPERTIES *properties;
	DWORD status = 77;

	CHECK_HR(PeerGroupCreate(NULL, &made), E_INVALIDARG);
	CHECK_HR(PeerGroupCreate(&wanted, NULL), E_INVALIDARG);
	wanted.dwSize = 5;
	made = (HGROUP)1;
	HRESULT hr = PeerGroupCreate(&wanted, &made);
	CHECK(hr == E_INVALIDARG || hr == PEER_E_INVALID_GROUP_PROPERTIES);
	CHECK(!made);
	wanted.dwSize = sizeof wanted;
	wanted.pwzCloud = elsewhere;
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_NO_CLOUD);
	wanted.pwzCloud = NULL;
	wanted.pwzCreatorPeerName = bad_name;
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_PEER_NAME);
	wanted.pwzCreatorPeerName = stranger;
	hr = PeerGroupCreate(&wanted, &made);
	CHECK(FAILED(hr) && !made);
	wanted.pwzCreatorPeerName = NULL;
	wanted.pwzGroupPeerName = stranger;
	hr = PeerGroupCreate(&wanted, &made);
	CHECK(FAILED(hr));
	wanted.pwzGroupPeerName = NULL;
	wanted.pwzClassifier = long_text(150, 'c');
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_CLASSIFIER);
	wanted.pwzClassifier = NULL;
	wanted.pwzFriendlyName = long_text(256, 'c');
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_GROUP_PROPERTIES);
	wanted.pwzFriendlyName = NULL;
	wanted.pwzComment = long_text(256, 'c');
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_GROUP_PROPERTIES);
	wanted.pwzComment = NULL;
	wanted.ulMemberDataLifetime = 3600;
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_GROUP_PROPERTIES);
	wanted.ulMemberDataLifetime = 0;
	wanted.ulPresenceLifetime = 299;
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_GROUP_PROPERTIES);
	wanted.ulPresenceLifetime = 0;
	wanted.dwFlags = 0x80;
	CHECK_HR(PeerGroupCreate(&wanted, &made), PEER_E_INVALID_GROUP_PROPERTIES);
	wanted.dwFlags = 0;
	wanted.pwzFriendlyName = chat;
	wanted.dwSize = 64; /* a client built for the system before */
	CHECK_HR(PeerGroupCreate(&wanted, &made), S_OK);
	CHECK_HR(PeerGroupGetProperties(made, &properties), S_OK);
	PWSTR name = NULL;
	CHECK_HR(PeerCreatePeerName(properties->pwzGroupPeerName, NULL, &name), S_OK);
	PeerFreeData(properties);
	CHECK_HR(PeerGroupDelete(NULL, name), S_OK);
	CHECK_HR(PeerGroupDelete(NULL, name), PEER_E_NOT_FOUND);
	CHECK_HR(PeerGroupClose(made), PEER_E_INVALID_GROUP);
	CHECK_HR(PeerGroupGetStatus(made, &status), PEER_E_INVALID_GROUP);
	CHECK_HR(PeerGroupOpen(NULL, name, NULL, &group), PEER_E_NOT_FOUND);
	CHECK(!group);
	PeerFreeData(name);
	wanted.dwSize = sizeof wanted;
	CHECK_HR(PeerGroupCreate(&wanted, &group), S_OK);
	CHECK_HR(PeerGroupGetProperties(group, &properties), S_OK);
	CHECK(properties->dwSize == sizeof *properties);
	CHECK(text_equal(properties->pwzFriendlyName, chat));
	CHECK(properties->ulPresenceLifetime == 300);
	CHECK(text_equal(properties->pwzCreatorPeerName, own_identity));
	text_save("group", properties->pwzGroupPeerName);
	PWSTR kept = properties->pwzGroupPeerName;
	properties->pwzGroupPeerName = stranger;
	CHECK_HR(PeerGroupSetProperties(group, properties), PEER_E_INVALID_GROUP_PROPERTIES);
	properties->pwzGroupPeerName = kept;
	properties->dwSize = 3;
	hr = PeerGroupSetProperties(group, properties);
	CHECK(hr == E_INVALIDARG || hr == PEER_E_INVALID_GROUP_PROPERTIES);
	properties->dwSize = sizeof *properties;
	CHECK_HR(PeerGroupSetProperties(group, properties), S_OK);
	CHECK_HR(PeerGroupSetProperties(group, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupGetProperties(group, NULL), E_INVALIDARG);
	PeerFreeData(properties);
	CHECK_HR(PeerGroupGetStatus(group, &status), S_OK);
	CHECK(status == 0);
	CHECK_HR(PeerGroupGetStatus(group, NULL), E_INVALIDARG);
	CHECK_HR(PeerIdentityDelete(own_identity), PEER_E_GROUPS_EXIST);
	CHECK_HR(PeerGroupOpen(NULL, NULL, NULL, &made), E_INVALIDARG);
	CHECK_HR(PeerGroupOpen(NULL, text_load("group"), NULL, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupOpen(NULL, text_load("group"), elsewhere, &made), PEER_E_NO_CLOUD);
	CHECK_HR(PeerGroupDelete(NULL, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupDelete(NULL, stranger), PEER_E_NOT_FOUND);
}

/* Handles that are none: NULL, another kind, closed, random bits, off by one. */
static void test_bad_handles(void)
{
	PEER_ADDRESS address = address_make(1);
	PEER_GROUP_EVENT_REGISTRATION wanted = {DIRECT, NULL};
	HPEERENUM members;
	HPEEREVENT registered;
	HGROUP closed;
	PEER_GROUP_EVENT_DATA *data;
	ULONGLONG id;
	DWORD status;
	ULONG count = 1;
	PVOID *items;
	FILETIME time;
	PWSTR text;

	CHECK_HR(PeerGroupOpen(NULL, text_load("group"), NULL, &closed), S_OK);
	CHECK_HR(PeerGroupClose(closed), S_OK);
	CHECK_HR(PeerGroupEnumMembers(group, 0, NULL, &members), S_OK);
	bad_groups[1] = closed;
	bad_groups[2] = members;
	bad_groups[3] = (HGROUP)(uintptr_t)0xDEADBEEFDEADBEEFu;
	bad_groups[4] = registration;
	bad_groups[5] = (char *)group + 1;
	for (int i = 0; i < BAD_GROUPS; i++) {
		HGROUP bad = bad_groups[i];
		CHECK_HR(PeerGroupClose(bad), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupConnect(bad), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupConnectByAddress(bad, 1, &address), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupConnectByAddress(bad, 0, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupGetStatus(bad, &status), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupGetStatus(bad, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupGetProperties(bad, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupSetProperties(bad, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupEnumMembers(bad, 0, NULL, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupEnumConnections(bad, 0, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(
			PeerGroupOpenDirectConnection(bad, NULL, NULL, NULL), PEER_E_INVALID_GROUP);
		id = 1;
		CHECK_HR(PeerGroupOpenDirectConnection(bad, own_identity, &address, &id),
			PEER_E_INVALID_GROUP);
		CHECK(!id);
		CHECK_HR(PeerGroupCloseDirectConnection(bad, 0), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupSendData(bad, 0, NULL, 0, NULL), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupRegisterEvent(bad, event, 1, &wanted, &registered),
			PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupCreateInvitation(bad, NULL, NULL, 0, NULL, &text),
			PEER_E_INVALID_GROUP);
		CHECK_HR(
			PeerGroupIssueCredentials(bad, NULL, NULL, 0, &text), PEER_E_INVALID_GROUP);
		CHECK_HR(PeerGroupPeerTimeToUniversalTime(bad, &time, &time), PEER_E_INVALID_GROUP);
		if (bad != registration) {
			data = (PEER_GROUP_EVENT_DATA *)1;
			CHECK_HR(PeerGroupGetEventData(bad, &data), E_INVALIDARG);
			CHECK(!data);
			CHECK_HR(PeerGroupUnregisterEvent(bad), E_INVALIDARG);
		}
		if (bad != members) {
			CHECK_HR(PeerGetItemCount(bad, &count), E_INVALIDARG);
			CHECK_HR(PeerGetNextItem(bad, &count, &items), E_INVALIDARG);
			CHECK_HR(PeerEndEnumeration(bad), E_INVALIDARG);
		}
	}
	CHECK_HR(PeerEndEnumeration(members), S_OK);
	CHECK_HR(PeerGroupGetEventData(group, &data), E_INVALIDARG);
	CHECK_HR(PeerGroupGetEventData(registration, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupRegisterEvent(group, NULL, 1, &wanted, &registered), E_INVALIDARG);
	CHECK_HR(PeerGroupRegisterEvent(group, (HANDLE)77, 1, &wanted, &registered), E_INVALIDARG);
	CHECK_HR(PeerGroupRegisterEvent(group, event, 0, &wanted, &registered), E_INVALIDARG);
	CHECK_HR(PeerGroupRegisterEvent(group, event, 1, NULL, &registered), E_INVALIDARG);
	CHECK_HR(PeerGroupRegisterEvent(group, event, 1, &wanted, NULL), E_INVALIDARG);
	wanted.eventType = (PEER_GROUP_EVENT_TYPE)7;
	CHECK_HR(PeerGroupRegisterEvent(group, event, 1, &wanted, &registered), E_INVALIDARG);
	CHECK(!registered);
	CHECK_HR(PeerGroupPeerTimeToUniversalTime(group, NULL, &time), E_INVALIDARG);
	CHECK_HR(PeerGroupUniversalTimeToPeerTime(group, &time, NULL), E_INVALIDARG);
	time = (FILETIME){5, 30000000};
	CHECK_HR(PeerGroupUniversalTimeToPeerTime(group, &time, &time), S_OK);
	CHECK(time.dwLowDateTime == 5 && time.dwHighDateTime == 30000000);
	CHECK_HR(PeerGroupAddRecord(group, NULL, NULL), E_NOTIMPL);
	CHECK_HR(PeerGroupEnumRecords(group, NULL, &members), E_NOTIMPL);
	CHECK(!members);
	CHECK_HR(PeerGroupExportConfig(group, u"x", &text), E_NOTIMPL);
	CHECK(!text);
}

static void test_offline(void)
{
	PEER_ADDRESS address = address_make(1);
	ULONGLONG id = 9;
	WCHAR text[] = u"x";

	CHECK_HR(PeerGroupOpenDirectConnection(group, STRANGER, &address, &id),
		PEER_E_GROUP_NOT_READY);
	CHECK(!id);
	CHECK_HR(PeerGroupOpenDirectConnection(group, u"", &address, &id), E_INVALIDARG);
	CHECK(enum_count(PEER_CONNECTION_DIRECT | PEER_CONNECTION_NEIGHBOR) == 0);
	CHECK_HR(PeerGroupSendData(group, 1, &type_text, 2, text), PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupCloseDirectConnection(group, 1), PEER_E_CONNECTION_NOT_FOUND);
}

static void test_connect(void)
{
	struct seen seen = {0};
	DWORD status = 0;

	CHECK_HR(PeerGroupConnect(group), S_OK);
	CHECK(await(PEER_GROUP_EVENT_STATUS_CHANGED, PEER_GROUP_STATUS_LISTENING, 0, &seen));
	CHECK_HR(PeerGroupConnect(group), PEER_S_ALREADY_CONNECTED);
	CHECK_HR(PeerGroupGetStatus(group, &status), S_OK);
	CHECK(status == PEER_GROUP_STATUS_LISTENING);
	own_address = address_of(own_identity);
	CHECK(own_address.dwSize == sizeof own_address && own_address.sin6.sin6_family == AF_INET6);
	CHECK(own_address.sin6.sin6_port != 0);
}

static void test_invitations(void)
{
	PWSTR invitation = NULL, xml, cut;
	PEER_INVITATION_INFO *info;
	PEER_ROLE_ID member = PEER_GROUP_ROLE_MEMBER, unknown = type_text;
	FILETIME past = {0, 20000000};
	WCHAR *at;

	xml = text_load("peer.xml");
	CHECK_HR(PeerGroupCreateInvitation(group, NULL, NULL, 1, &member, &invitation),
		E_INVALIDARG);
	CHECK_HR(PeerGroupCreateInvitation(group, xml, NULL, 1, &member, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupCreateInvitation(group, xml, NULL, 1, NULL, &invitation), E_INVALIDARG);
	CHECK_HR(PeerGroupCreateInvitation(group, xml, NULL, 1, &unknown, &invitation),
		E_INVALIDARG);
	CHECK_HR(PeerGroupCreateInvitation(group, u"<a/>", NULL, 1, &member, &invitation),
		E_INVALIDARG);
	CHECK_HR(PeerGroupCreateInvitation(group, xml, &past, 1, &member, &invitation),
		E_INVALIDARG);
	CHECK_HR(PeerGroupCreateInvitation(group, xml, NULL, 1, &member, &invitation), S_OK);
	text_save("invitation", invitation);
	CHECK_HR(PeerGroupParseInvitation(invitation, &info), S_OK);
	CHECK(info->dwSize == sizeof *info && info->cRoles == 1);
	CHECK(text_equal(info->pwzGroupPeerName, text_load("group")));
	CHECK(text_equal(info->pwzSubjectPeerName, other_identity));
	CHECK(text_equal(info->pwzIssuerPeerName, own_identity));
	CHECK(text_equal(info->pwzGroupFriendlyName, u"Chat"));
	CHECK(text_equal(info->pwzSubjectFriendlyName, u"Peer"));
	CHECK(text_equal(info->pwzIssuerFriendlyName, u"Creator"));
	CHECK(info->authScheme == PEER_GROUP_GMC_AUTHENTICATION);
	CHECK(info->pSubjectPublicKey && info->pSubjectPublicKey->PublicKey.cbData);
	CHECK(info->cRoles == 1 && IsEqualGUID(&info->pRoles[0], &member));
	PeerFreeData(info);
	CHECK_HR(PeerGroupParseInvitation(NULL, &info), E_INVALIDARG);
	CHECK_HR(PeerGroupParseInvitation(invitation, NULL), E_INVALIDARG);
	HRESULT hr = PeerGroupParseInvitation(u"junk", &info);
	CHECK(hr == PEER_E_INVITATION_NOT_TRUSTED || hr == E_INVALIDARG);
	HGROUP made = (HGROUP)1;
	CHECK_HR(PeerGroupJoin(NULL, invitation, NULL, &made), PEER_E_GROUP_IN_USE);
	CHECK(!made);
	CHECK_HR(PeerGroupJoin(NULL, NULL, NULL, &made), E_INVALIDARG);
	CHECK_HR(PeerGroupJoin(NULL, invitation, NULL, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupJoin(u"junk", invitation, NULL, &made), PEER_E_INVALID_PEER_NAME);
	cut = text_load("invitation");
	for (at = cut; *at; at++)
		continue;
	at = cut + (at - cut) / 2;
	*at = *at == 'A' ? 'B' : 'A';
	CHECK_HR(PeerGroupParseInvitation(cut, &info), PEER_E_INVITATION_NOT_TRUSTED);
	CHECK(!info);
	PeerFreeData(invitation);
	CHECK_HR(PeerGroupIssueCredentials(group, STRANGER, NULL, 0, &invitation),
		PEER_E_IDENTITY_NOT_FOUND);
	CHECK(!invitation);
	PWSTR third;
	CHECK_HR(PeerIdentityCreate(u"third", NULL, 0, &third), S_OK);
	CHECK_HR(PeerIdentityGetXML(third, &xml), S_OK);
	CHECK_HR(PeerGroupCreateInvitation(group, xml, NULL, 1, &member, &invitation), S_OK);
	text_save("other", invitation);
	CHECK(ask("joinother", 0)[0] == PEER_E_INVITATION_NOT_TRUSTED);
	CHECK_HR(PeerIdentityDelete(third), S_OK);
	PeerFreeData(third);
	PeerFreeData(xml);
	PeerFreeData(invitation);
	CHECK_HR(PeerGroupIssueCredentials(group, NULL, NULL, 0, &invitation), E_INVALIDARG);
	CHECK_HR(PeerGroupIssueCredentials(group, other_identity, NULL, 2, &invitation),
		E_INVALIDARG);
	CHECK_HR(PeerGroupIssueCredentials(group, other_identity, NULL, 1, NULL), E_NOTIMPL);
}

#endif
