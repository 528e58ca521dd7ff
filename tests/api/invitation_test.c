/*
 * Invitations and credentials: who may give what to whom, what a joiner gets, and that nobody but
 * the issuer can change a letter. One store holds all the people of a test.
 */
#include "api/credential.h"
#include "api/identity.h"
#include "api/invitation.h"
#include "api/member.h"
#include "p2p.h"

#include "store_home.h"

#include <errno.h>
#include <sqlite3.h>

struct people {
	char admin[PH_NAME_BYTES_MAX]; /* creator of the group */
	char guest[PH_NAME_BYTES_MAX];
	char other[PH_NAME_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX];
};

static void people_make(struct people *people)
{
	struct group_properties properties;

	assert_result(identity_create("admin", "The admin", people->admin), S_OK);
	assert_result(identity_create("guest", "A guest", people->guest), S_OK);
	assert_result(identity_create("other", NULL, people->other), S_OK);
	group_properties_init(&properties);
	strcpy(properties.creator, people->admin);
	strcpy(properties.friendly_name, "The group");
	strcpy(properties.comment, "A comment");
	strcpy(properties.classifier, "team");
	assert_result(group_create(&properties), S_OK);
	strcpy(people->group, properties.group);
}

static WCHAR *identity_xml(const char *name)
{
	WCHAR *wide;
	char *xml;

	assert_result(identity_to_xml(name, &xml), S_OK);
	wide = wide_of(xml);
	free(xml);
	return wide;
}

static HRESULT invite_for(const struct people *people, const char *issuer, const char *invitee,
	enum peer_role role, int64_t valid_to_s, PWSTR *xml)
{
	WCHAR *subject = identity_xml(invitee);
	struct invitation_request request = {.identity = issuer,
		.group = people->group,
		.identity_xml = subject,
		.valid_to_s = valid_to_s,
		.role = role};
	HRESULT result = invitation_create(&request, xml);

	free(subject);
	return result;
}

static PWSTR invite(
	const struct people *people, const char *issuer, const char *invitee, enum peer_role role)
{
	PWSTR xml;

	assert_result(invite_for(people, issuer, invitee, role, 0, &xml), S_OK);
	return xml;
}

static void join(
	const struct people *people, const char *issuer, const char *joiner, enum peer_role role)
{
	PWSTR xml = invite(people, issuer, joiner, role);
	char identity[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];

	assert_result(membership_join(joiner, xml, NULL, identity, group), S_OK);
	assert_string_equal(identity, joiner);
	assert_string_equal(group, people->group);
	PeerFreeData(xml);
}

/* ---- the ordinary way ---------------------------------------------------------------------- */

static void joiner_gets_everything(void **state)
{
	struct people people;
	ph_address address;
	WCHAR *subject;
	struct invitation_request request = {
		.role = ROLE_MEMBER, .addresses = &address, .address_count = 1};
	struct membership *membership;
	PWSTR xml;

	(void)state;
	people_make(&people);
	assert_int_equal(ph_address_parse("[fe80::1%1]:3587", &address), 0);
	subject = identity_xml(people.guest);
	request.identity = people.admin;
	request.group = people.group;
	request.identity_xml = subject;
	assert_result(invitation_create(&request, &xml), S_OK);
	free(subject);
	assert_result(membership_join(people.guest, xml, NULL, NULL, NULL), S_OK);
	PeerFreeData(xml);
	assert_result(membership_load(people.guest, people.group, &membership), S_OK);
	assert_int_equal(membership->trust.role, ROLE_MEMBER);
	assert_false(membership->is_creator);
	assert_false(membership->is_synchronised);
	assert_int_equal(membership->chain_count, 3);
	assert_string_equal(membership->trust.leaf.issuer, people.admin);
	assert_string_equal(membership->trust.leaf.friendly_name, "A guest");
	assert_string_equal(membership->trust.issuer_friendly_name, "The admin");
	assert_true(membership->has_properties);
	assert_string_equal(membership->properties.friendly_name, "The group");
	assert_string_equal(membership->properties.comment, "A comment");
	assert_string_equal(membership->properties.classifier, "team");
	assert_string_equal(membership->properties.creator, people.admin);
	assert_int_equal(membership->address_count, 1);
	assert_memory_equal(&membership->addresses[0], &address, sizeof(address));
	assert_result(membership_synchronised(people.guest, people.group), S_OK);
	membership_free(membership);
	assert_result(membership_load(people.guest, people.group, &membership), S_OK);
	assert_true(membership->is_synchronised);
	membership_free(membership);
}

static void parsed_invitation(void **state)
{
	PEER_VERSION_DATA version;
	PEER_INVITATION_INFO *info = (PEER_INVITATION_INFO *)0x1;
	struct people people;
	PWSTR xml;
	char *text;
	int64_t now_s = identity_now_s();

	(void)state;
	people_make(&people);
	assert_result(invite_for(&people, people.admin, people.guest, ROLE_INVITING_MEMBER,
			      now_s + 1000, &xml),
		S_OK);
	assert_result(PeerGroupParseInvitation(xml, &info), PEER_E_NOT_INITIALIZED);
	assert_null(info);
	assert_result(PeerGroupStartup(PEER_GROUP_VERSION, &version), S_OK);
	assert_result(PeerGroupParseInvitation(xml, NULL), E_INVALIDARG);
	assert_result(PeerGroupParseInvitation(NULL, &info), E_INVALIDARG);
	assert_result(PeerGroupParseInvitation(u"nonsense", &info), E_INVALIDARG);
	assert_null(info);
	assert_result(PeerGroupParseInvitation(xml, &info), S_OK);
	assert_int_equal(info->dwSize, sizeof(*info));
	assert_true(text_is_equal(info->pwzCloudName, u"Global_"));
	assert_int_equal(info->dwScope, PNRP_GLOBAL_SCOPE);
	assert_int_equal(info->dwCloudFlags, PNRP_CLOUD_NO_FLAGS);
#define text_is(field, expected)                     \
	do {                                         \
		text = utf8_of(info->field);         \
		assert_string_equal(text, expected); \
		free(text);                          \
	} while (0)
	text_is(pwzGroupPeerName, people.group);
	text_is(pwzIssuerPeerName, people.admin);
	text_is(pwzSubjectPeerName, people.guest);
	text_is(pwzGroupFriendlyName, "The group");
	text_is(pwzIssuerFriendlyName, "The admin");
	text_is(pwzSubjectFriendlyName, "A guest");
#undef text_is
	assert_int_equal(info->cRoles, 1);
	assert_memory_equal(info->pRoles, role_guid(ROLE_INVITING_MEMBER), sizeof(GUID));
	assert_int_equal(info->cClassifiers, 1);
	assert_true(text_is_equal(info->ppwzClassifiers[0], u"participant"));
	assert_int_equal(info->authScheme, PEER_GROUP_GMC_AUTHENTICATION);
	assert_true(filetime_to_seconds(info->ftValidityStart) <= now_s);
	assert_int_equal(filetime_to_seconds(info->ftValidityEnd), now_s + 1000);
	{
		uint8_t spki[KEY_SPKI_BYTES_MAX];
		char authority[PEER_AUTHORITY_BYTES];
		size_t bytes;

		assert_result(spki_from_key_info(info->pSubjectPublicKey, spki, &bytes), S_OK);
		peer_authority_of_key(spki, bytes, authority);
		assert_memory_equal(authority, people.guest, PEER_AUTHORITY_CHARS);
	}
	PeerFreeData(info);
	PeerFreeData(xml);
	assert_result(PeerGroupShutdown(), S_OK);
}

/* ---- who may invite ------------------------------------------------------------------------ */

static void roles_decide(void **state)
{
	struct people people;
	PWSTR xml = (PWSTR)0x1;

	(void)state;
	people_make(&people);
	join(&people, people.admin, people.guest, ROLE_MEMBER);
	assert_result(invite_for(&people, people.guest, people.other, ROLE_MEMBER, 0, &xml),
		PEER_E_NOT_AUTHORIZED);
	assert_null(xml);
	join(&people, people.admin, people.guest, ROLE_INVITING_MEMBER);
	assert_result(invite_for(&people, people.guest, people.other, ROLE_ADMIN, 0, &xml),
		PEER_E_NOT_AUTHORIZED);
	join(&people, people.guest, people.other, ROLE_INVITING_MEMBER);
	join(&people, people.guest, people.other, ROLE_MEMBER);
	join(&people, people.admin, people.guest, ROLE_ADMIN);
	join(&people, people.guest, people.other, ROLE_ADMIN);
	assert_result(
		invite_for(&people, people.admin, people.guest, ROLE_NONE, 0, &xml), E_INVALIDARG);
	assert_result(
		invite_for(&people, people.admin, people.guest, ROLE_GROUP, 0, &xml), E_INVALIDARG);
}

static void roles_as_guids(void **state)
{
	GUID guids[17] = {*role_guid(ROLE_MEMBER), *role_guid(ROLE_ADMIN)};
	enum peer_role role;

	(void)state;
	assert_result(role_from_guids(1, guids, &role), S_OK);
	assert_int_equal(role, ROLE_MEMBER);
	assert_result(role_from_guids(2, guids, &role), S_OK);
	assert_int_equal(role, ROLE_ADMIN);
	assert_result(role_from_guids(3, guids, &role), E_INVALIDARG); /* the third is unknown */
	assert_result(role_from_guids(0, guids, &role), E_INVALIDARG);
	assert_result(role_from_guids(1, NULL, &role), E_INVALIDARG);
	assert_result(role_from_guids(17, guids, &role), E_INVALIDARG);
	assert_null(role_guid(ROLE_GROUP));
}

/* ---- time ------------------------------------------------------------------------------- */

static int64_t expiry_of(PCWSTR xml)
{
	struct invitation *invitation;
	int64_t valid_to_s;

	assert_result(invitation_read(xml, &invitation), S_OK);
	valid_to_s = invitation->trust.leaf.valid_to_s;
	invitation_free(invitation);
	return valid_to_s;
}

static void expiry_is_clipped(void **state)
{
	int64_t now_s = identity_now_s();
	struct people people;
	PWSTR xml;

	(void)state;
	people_make(&people);
	assert_result(
		invite_for(&people, people.admin, people.guest, ROLE_ADMIN, now_s + 5000, &xml),
		S_OK);
	assert_int_equal(expiry_of(xml), now_s + 5000);
	assert_result(membership_join(people.guest, xml, NULL, NULL, NULL), S_OK);
	PeerFreeData(xml);
	assert_result(
		invite_for(&people, people.guest, people.other, ROLE_MEMBER, now_s + 9000, &xml),
		S_OK);
	assert_int_equal(expiry_of(xml), now_s + 5000); /* not beyond the issuer's own */
	PeerFreeData(xml);
	xml = invite(&people, people.guest, people.other, ROLE_MEMBER);
	assert_int_equal(expiry_of(xml), now_s + 5000);
	PeerFreeData(xml);
	xml = invite(&people, people.admin, people.other, ROLE_MEMBER);
	assert_true(expiry_of(xml) > now_s + 900ll * 365 * 86400); /* a creator's is infinite */
	PeerFreeData(xml);
	assert_result(invite_for(&people, people.admin, people.guest, ROLE_MEMBER, now_s - 1, &xml),
		E_INVALIDARG);
	assert_result(invite_for(&people, people.admin, people.guest, ROLE_MEMBER, -5, &xml),
		E_INVALIDARG);
}

/* An issued credential whose period is still to come, and one that is over. */
static void periods_are_judged(void **state)
{
	int64_t now_s = identity_now_s();
	struct people people;
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	struct certificate_info info;
	struct issue_request request = {.role = ROLE_ADMIN};
	WCHAR *subject;
	PWSTR xml;

	(void)state;
	people_make(&people);
	subject = identity_xml(people.guest);
	assert_result(identity_from_xml(subject, now_s, &info), S_OK);
	free(subject);
	memcpy(spki, info.spki, sizeof(spki));
	request.identity = people.admin;
	request.group = people.group;
	request.subject = people.guest;
	request.spki = spki;
	request.spki_bytes = info.spki_bytes;
	request.valid_from_s = now_s + 1000;
	request.valid_to_s = now_s + 2000;
	assert_result(credential_issue(&request, &xml), S_OK);
	assert_result(
		membership_join(people.guest, xml, NULL, NULL, NULL), PEER_E_INVALID_TIME_PERIOD);
	PeerFreeData(xml);
	request.valid_to_s = now_s + 500; /* over before it begins */
	request.valid_from_s = now_s + 1500;
	assert_result(credential_issue(&request, &xml), E_INVALIDARG);
	request.valid_from_s = now_s + 500; /* not later than the present ones */
	request.valid_to_s = now_s + 5000;
	assert_result(credential_issue(&request, &xml), E_INVALIDARG);
}

/* ---- issuing ------------------------------------------------------------------------------ */

static void issue_by_name(void **state)
{
	struct people people;
	struct issue_request request = {.role = ROLE_NONE};
	struct membership *membership;
	int64_t first_s;
	PWSTR xml;

	(void)state;
	people_make(&people);
	request.identity = people.admin;
	request.group = people.group;
	request.subject = people.guest;
	assert_result(credential_issue(&request, &xml), PEER_E_IDENTITY_NOT_FOUND);
	assert_null(xml);
	assert_result(invite_for(&people, people.admin, people.guest, ROLE_INVITING_MEMBER,
			      identity_now_s() + 5000, &xml),
		S_OK);
	PeerFreeData(xml);
	for (int round = 0; round < 3; round++) { /* now the key, role and duration are known */
		assert_result(credential_issue(&request, &xml), S_OK);
		assert_result(membership_join(people.guest, xml, NULL, NULL, NULL), S_OK);
		PeerFreeData(xml);
		assert_result(membership_load(people.guest, people.group, &membership), S_OK);
		assert_int_equal(membership->trust.role, ROLE_INVITING_MEMBER);
		assert_string_equal(membership->trust.leaf.friendly_name, "A guest");
		assert_int_equal(
			membership->trust.leaf.valid_to_s - membership->trust.leaf.valid_from_s,
			5000 + CERTIFICATE_BACKDATE_S);
		if (round > 0)
			assert_true(membership->trust.leaf.valid_from_s > first_s);
		first_s = membership->trust.leaf.valid_from_s;
		membership_free(membership);
	}
	assert_result(credential_issue(&request, NULL), S_OK);
	request.identity = people.guest;
	request.subject = people.other;
	assert_result(credential_issue(&request, &xml), PEER_E_NOT_AUTHORIZED);
	request.subject = "nonsense";
	assert_result(credential_issue(&request, &xml), E_INVALIDARG);
}

/* A creator renews himself under the group's key; nobody else can be in his own chain twice. */
static void own_credentials(void **state)
{
	struct people people;
	struct issue_request request = {.role = ROLE_ADMIN};
	struct membership *membership;
	PWSTR xml;

	(void)state;
	people_make(&people);
	xml = invite(&people, people.admin, people.admin, ROLE_ADMIN);
	assert_result(membership_join(people.admin, xml, NULL, NULL, NULL), S_OK);
	PeerFreeData(xml);
	assert_result(membership_load(people.admin, people.group, &membership), S_OK);
	assert_int_equal(membership->chain_count, 2);
	assert_true(membership->is_creator);
	membership_free(membership);
	join(&people, people.admin, people.guest, ROLE_ADMIN);
	assert_result(invite_for(&people, people.guest, people.guest, ROLE_ADMIN, 0, &xml),
		PEER_E_CIRCULAR_CHAIN_DETECTED);
	assert_result(invite_for(&people, people.guest, people.admin, ROLE_ADMIN, 0, &xml),
		PEER_E_CIRCULAR_CHAIN_DETECTED);
	request.identity = people.guest;
	request.group = people.group;
	request.subject = people.admin;
	assert_result(credential_issue(&request, &xml), PEER_E_CIRCULAR_CHAIN_DETECTED);
}

static void issue_for_anothers_key(void **state)
{
	struct people people;
	struct certificate_info info;
	struct issue_request request = {.role = ROLE_MEMBER};
	WCHAR *subject;
	PWSTR xml;

	(void)state;
	people_make(&people);
	subject = identity_xml(people.other);
	assert_result(identity_from_xml(subject, identity_now_s(), &info), S_OK);
	free(subject);
	request.identity = people.admin;
	request.group = people.group;
	request.subject = people.guest;
	request.spki = info.spki;
	request.spki_bytes = info.spki_bytes;
	assert_result(credential_issue(&request, &xml), E_INVALIDARG);
	request.spki_bytes = 5;
	assert_result(credential_issue(&request, &xml), E_INVALIDARG);
}

static void issuer_codes(void **state)
{
	static const char unknown[] = "0123456789abcdef0123456789abcdef01234567.x";
	struct people people;
	struct invitation_request request = {.role = ROLE_MEMBER};
	WCHAR *subject;
	PWSTR xml = (PWSTR)0x1;
	char path[256];

	(void)state;
	people_make(&people);
	subject = identity_xml(people.guest);
	request.identity = people.admin;
	request.group = unknown;
	request.identity_xml = subject;
	assert_result(invitation_create(&request, &xml), PEER_E_INVALID_GROUP);
	assert_null(xml);
	request.group = people.group;
	request.identity = unknown;
	assert_result(invitation_create(&request, &xml), PEER_E_INVALID_GROUP);
	request.identity = people.admin;
	request.identity_xml = NULL;
	assert_result(invitation_create(&request, &xml), E_INVALIDARG);
	request.identity_xml =
		u"<PEERIDENTITYINFO VERSION=\"1.0\"><IDC>AAAA</IDC></PEERIDENTITYINFO>";
	assert_result(invitation_create(&request, &xml), E_INVALIDARG);
	request.identity_xml = u"<PEERIDENTITYINFO VERSION=\"1.0\"/>";
	assert_result(invitation_create(&request, &xml), E_INVALIDARG);
	request.identity_xml =
		u"<PEERIDENTITYINFO VERSION=\"2.0\"><IDC>AAAA</IDC></PEERIDENTITYINFO>";
	assert_result(invitation_create(&request, &xml), E_INVALIDARG);
	request.identity_xml = u"<OTHER VERSION=\"1.0\"><IDC>AAAA</IDC></OTHER>";
	assert_result(invitation_create(&request, &xml), E_INVALIDARG);
	request.identity_xml = subject;
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0755), 0);
	assert_result(invitation_create(&request, &xml), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(chmod(path, 0700), 0);
	assert_result(membership_delete(people.admin, people.group), S_OK);
	assert_result(invitation_create(&request, &xml), PEER_E_INVALID_GROUP);
	assert_result(store_identity_delete(people.admin), S_OK);
	assert_result(invitation_create(&request, &xml), PEER_E_IDENTITY_DELETED);
	free(subject);
}

/* 24 membership certificates are the longest chain there may be. */
static void chain_grows_to_its_limit(void **state)
{
	char names[26][PH_NAME_BYTES_MAX];
	struct people people;
	PWSTR xml;

	(void)state;
	people_make(&people);
	strcpy(names[0], people.admin);
	for (int index = 1; index < 26; index++)
		assert_result(identity_create("link", NULL, names[index]), S_OK);
	for (int index = 1; index < 24; index++)
		join(&people, names[index - 1], names[index], ROLE_ADMIN);
	assert_result(invite_for(&people, names[23], names[24], ROLE_MEMBER, 0, &xml),
		PEER_E_CHAIN_TOO_LONG);
	assert_non_null(strstr(PeerhubLastErrorText(), "25"));
}

/* ---- alterations --------------------------------------------------------------------------- */

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

static void expect_code(
	const struct people *people, PCWSTR xml, const char *from, const char *to, HRESULT expected)
{
	WCHAR *bad = replaced(xml, from, to);

	assert_result(membership_join(people->guest, bad, NULL, NULL, NULL), expected);
	assert_true(strlen(PeerhubLastErrorText()) > 0);
	free(bad);
}

/* The element from its first letter to the next one's. */
static WCHAR *without(PCWSTR xml, const char *open, const char *close)
{
	char *text = utf8_of(xml);
	char *begin = strstr(text, open);
	char *end = begin != NULL ? strstr(begin, close) : NULL;
	WCHAR *result;

	assert_non_null(end);
	memmove(begin, end + strlen(close), strlen(end + strlen(close)) + 1);
	result = wide_of(text);
	free(text);
	return result;
}

static void altered_invitations(void **state)
{
	static const char *const elements[][2] = {{"<CLOUDNAME>", "</CLOUDNAME>"},
		{"<SCOPE>", "</SCOPE>"}, {"<CLOUDFLAGS>", "</CLOUDFLAGS>"},
		{"<PROPERTIES ", "</PROPERTIES>"}, {"<SIGNATURE ", "</SIGNATURE>"}};
	struct people people;
	PWSTR xml;

	(void)state;
	people_make(&people);
	xml = invite(&people, people.admin, people.guest, ROLE_MEMBER);
	expect_code(&people, xml, "Global_", "Local_", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "GLOBAL", "SITELOCAL", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "GLOBAL", "nowhere", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "<CLOUDFLAGS>0", "<CLOUDFLAGS>1", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "<CLOUDFLAGS>0", "<CLOUDFLAGS>2", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "<SIGNATURE ", "<ADDRESSES>[::1]:9</ADDRESSES><SIGNATURE ",
		PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "</GMC>", "AAAA</GMC>", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "</GMC>", "!</GMC>", PEER_E_INVITATION_NOT_TRUSTED);
	expect_code(&people, xml, "VERSION=\"1.0\"", "VERSION=\"1.1\"", PEER_E_UNSUPPORTED_VERSION);
	expect_code(&people, xml, "VERSION=\"1.0\"", "VERSION=\"7\"", PEER_E_UNSUPPORTED_VERSION);
	expect_code(&people, xml, "VERSION=\"1.0\"", "", E_INVALIDARG);
	expect_code(&people, xml, "</PEERINVITATION>", "", E_INVALIDARG);
	expect_code(&people, xml, "<PEERINVITATION", "<!DOCTYPE a><PEERINVITATION", E_INVALIDARG);
	for (size_t index = 0; index < sizeof(elements) / sizeof(elements[0]); index++) {
		WCHAR *bad = without(xml, elements[index][0], elements[index][1]);

		assert_result(membership_join(people.guest, bad, NULL, NULL, NULL),
			PEER_E_INVITATION_NOT_TRUSTED);
		free(bad);
	}
	{
		WCHAR *bad = without(xml, "<GMC ", "</GMC>");

		assert_result(membership_join(people.guest, bad, NULL, NULL, NULL), E_INVALIDARG);
		free(bad);
	}
	/* White space around is not an alteration. */
	{
		WCHAR *spaced = replaced(xml, "<PEERINVITATION", " \r\n<PEERINVITATION");

		assert_result(membership_join(people.guest, spaced, NULL, NULL, NULL), S_OK);
		free(spaced);
	}
	PeerFreeData(xml);
}

/* Any one character changed: never accepted. A seeded sample of places. */
static void any_character_changed(void **state)
{
	unsigned seed = (unsigned)getpid();
	struct people people;
	PWSTR xml;
	size_t units;

	(void)state;
	printf("seed %u\n", seed);
	srandom(seed);
	people_make(&people);
	xml = invite(&people, people.admin, people.guest, ROLE_MEMBER);
	units = text_units(xml);
	for (int round = 0; round < 150; round++) {
		size_t place = (size_t)random() % units;
		WCHAR before = xml[place];
		HRESULT result;

		xml[place] = before == 'Q' ? 'R' : 'Q';
		result = membership_join(people.guest, xml, NULL, NULL, NULL);
		/* Attribute names and values that are not VERSION carry nothing. */
		if (result == S_OK) {
			struct invitation *invitation;

			assert_result(invitation_read(xml, &invitation), S_OK);
			assert_string_equal(invitation->trust.identity, people.guest);
			invitation_free(invitation);
		} else {
			assert_true(result == PEER_E_INVITATION_NOT_TRUSTED ||
				result == E_INVALIDARG || result == PEER_E_UNSUPPORTED_VERSION);
		}
		xml[place] = before;
	}
	PeerFreeData(xml);
}

static void join_codes(void **state)
{
	struct people people;
	WCHAR *much = calloc(70000, sizeof(WCHAR));
	PWSTR xml;
	char path[256];

	(void)state;
	assert_non_null(much);
	people_make(&people);
	xml = invite(&people, people.admin, people.guest, ROLE_MEMBER);
	assert_result(membership_join(people.other, xml, NULL, NULL, NULL),
		PEER_E_INVITATION_NOT_TRUSTED); /* for somebody else */
	assert_result(membership_join("nonsense", xml, NULL, NULL, NULL), PEER_E_INVALID_PEER_NAME);
	assert_result(membership_join(
			      "0123456789abcdef0123456789abcdef01234567.x", xml, NULL, NULL, NULL),
		PEER_E_INVALID_PEER_NAME);
	assert_result(membership_join(people.guest, NULL, NULL, NULL, NULL), E_INVALIDARG);
	assert_result(membership_join(people.guest, u"", NULL, NULL, NULL), E_INVALIDARG);
	for (int index = 0; index < 69000; index++)
		much[index] = ' ';
	assert_result(membership_join(people.guest, much, NULL, NULL, NULL), E_INVALIDARG);
	much[0] = 0xd800;
	much[1] = 0;
	assert_result(membership_join(people.guest, much, NULL, NULL, NULL), E_INVALIDARG);
	assert_result(
		membership_join(people.guest, xml, "Elsewhere_", NULL, NULL), PEER_E_NO_CLOUD);
	assert_result(membership_join(people.guest,
			      u"<PEERINVITATION VERSION=\"1.1\"><GROUPPEERNAME>x"
			      u"</GROUPPEERNAME></PEERINVITATION>",
			      NULL, NULL, NULL),
		PEER_E_UNSUPPORTED_VERSION);
	home_path(path, sizeof(path), "keys");
	assert_int_equal(chmod(path, 0755), 0);
	assert_result(membership_join(people.guest, xml, NULL, NULL, NULL), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(chmod(path, 0700), 0);
	assert_result(membership_join(people.guest, xml, "Global_", NULL, NULL), S_OK);
	assert_result(membership_join(people.guest, xml, NULL, NULL, NULL), S_OK); /* again */
	PeerFreeData(xml);
	free(much);
}

/* Properties are the creator's: a joiner cannot change them, and older ones do not come back. */
static void properties_travel(void **state)
{
	struct people people;
	struct group_properties properties;
	PWSTR old;

	(void)state;
	people_make(&people);
	old = invite(&people, people.admin, people.guest, ROLE_MEMBER);
	assert_result(group_properties_get(people.admin, people.group, &properties), S_OK);
	strcpy(properties.comment, "newer");
	assert_result(group_properties_set(people.admin, &properties), S_OK);
	join(&people, people.admin, people.other, ROLE_MEMBER);
	assert_result(membership_join(people.guest, old, NULL, NULL, NULL), S_OK);
	PeerFreeData(old);
	assert_result(group_properties_get(people.guest, people.group, &properties), S_OK);
	assert_string_equal(properties.comment, "newer");
	assert_result(group_properties_set(people.guest, &properties), PEER_E_NOT_AUTHORIZED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		home_test(joiner_gets_everything),
		home_test(parsed_invitation),
		home_test(roles_decide),
		home_test(roles_as_guids),
		home_test(expiry_is_clipped),
		home_test(periods_are_judged),
		home_test(issue_by_name),
		home_test(own_credentials),
		home_test(issue_for_anothers_key),
		home_test(issuer_codes),
		home_test(chain_grows_to_its_limit),
		home_test(altered_invitations),
		home_test(any_character_changed),
		home_test(join_codes),
		home_test(properties_travel),
	};

	return cmocka_run_group_tests_name("invitation", tests, NULL, NULL);
}
