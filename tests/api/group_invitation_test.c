/*
 * Properties, invitations and issued credentials of an open group: every documented code of
 * PeerGroupGetProperties, SetProperties, CreateInvitation and IssueCredentials, and what a joiner gets.
 */
#include "tests/api/p2p_test.h"

#include "api/credential.h"
#include "api/text.h"

static struct agent alice, bob, carol;
static struct agent eve; /* another process on bob's store */

/* ---- properties --------------------------------------------------------------------------- */

struct properties_seen {
	HRESULT result;
	DWORD size, flags;
	WCHAR group[NAME_UNITS], creator[NAME_UNITS], classifier[NAME_UNITS];
	WCHAR friendly_name[NAME_UNITS], comment[NAME_UNITS], cloud[NAME_UNITS];
	ULONG member_lifetime, presence_lifetime;
	DWORD schemes;
};

static void do_get_properties(const void *in, void *out)
{
	struct properties_seen *answer = out;
	PEER_GROUP_PROPERTIES *properties = (PEER_GROUP_PROPERTIES *)(uintptr_t)77;

	answer->result = PeerGroupGetProperties(*(const HGROUP *)in, &properties);
	if (FAILED(answer->result)) {
		if (properties != NULL)
			answer->result = E_FAIL;
		return;
	}
	answer->size = properties->dwSize;
	answer->flags = properties->dwFlags;
	wide_copy(answer->group, properties->pwzGroupPeerName, NAME_UNITS);
	wide_copy(answer->creator, properties->pwzCreatorPeerName, NAME_UNITS);
	wide_copy(answer->classifier, properties->pwzClassifier, NAME_UNITS);
	wide_copy(answer->friendly_name, properties->pwzFriendlyName, NAME_UNITS);
	wide_copy(answer->comment, properties->pwzComment, NAME_UNITS);
	wide_copy(answer->cloud, properties->pwzCloud, NAME_UNITS);
	answer->member_lifetime = properties->ulMemberDataLifetime;
	answer->presence_lifetime = properties->ulPresenceLifetime;
	answer->schemes = properties->dwAuthenticationSchemes;
	PeerFreeData(properties);
}

static struct properties_seen agent_properties(const struct agent *agent)
{
	struct properties_seen seen;

	agent_call(agent, do_get_properties, &agent->group, &seen);
	return seen;
}

/* A joiner knows the properties from the invitation, once it was connected. */
static void properties_at_creator_and_joiner(void **state)
{
	struct properties_seen at_alice, at_bob;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	at_alice = agent_properties(&alice);
	assert_result(at_alice.result, S_OK);
	assert_int_equal(at_alice.size, sizeof(PEER_GROUP_PROPERTIES));
	assert_true(wide_is_equal(at_alice.group, name));
	assert_true(wide_is_equal(at_alice.creator, alice.identity));
	assert_true(wide_is_equal(at_alice.classifier, u"group"));
	assert_true(wide_is_equal(at_alice.friendly_name, u"Test group"));
	assert_true(wide_is_equal(at_alice.comment, u"of a test"));
	assert_true(wide_is_equal(at_alice.cloud, u"Global_"));
	assert_int_equal(at_alice.presence_lifetime, 300);
	assert_int_equal(at_alice.schemes, PEER_GROUP_GMC_AUTHENTICATION);
	world_join(&alice, &bob, 0);
	assert_result(agent_properties(&bob).result, PEER_E_GROUP_NOT_READY);
	world_enter(&alice, &bob);
	at_bob = agent_properties(&bob);
	assert_result(at_bob.result, S_OK);
	assert_memory_equal(&at_alice, &at_bob, sizeof(at_bob));
}

static HRESULT set_with(HGROUP group, const PEER_GROUP_PROPERTIES *changed)
{
	PEER_GROUP_PROPERTIES properties = *changed;

	return PeerGroupSetProperties(group, &properties);
}

static void do_set_errors(const void *in, void *out)
{
	static WCHAR friendly[257];
	const struct call *call = in;
	struct results *answer = out;
	PEER_GROUP_PROPERTIES *good, bad;
	size_t at = 0;

	for (size_t index = 0; index < 256; index++)
		friendly[index] = u'x';
	answer->list[at++] = PeerGroupGetProperties(call->group, NULL);
	answer->list[at++] = PeerGroupGetProperties(NULL, &good);
	answer->list[at++] = PeerGroupGetProperties(call->group, &good);
	if (good == NULL)
		return;
	answer->list[at++] = PeerGroupSetProperties(call->group, NULL);
	answer->list[at++] = set_with(NULL, good);
	bad = *good;
	bad.dwSize = 1;
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.pwzClassifier = (PWSTR)(uintptr_t)u"other";
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.pwzCreatorPeerName = bad.pwzGroupPeerName;
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.pwzGroupPeerName = bad.pwzCreatorPeerName;
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.pwzCloud = (PWSTR)(uintptr_t)u"Cloud9";
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.pwzFriendlyName = friendly;
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.ulPresenceLifetime = 600;
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.dwFlags = 0x4000;
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.dwAuthenticationSchemes |= PEER_GROUP_PASSWORD_AUTHENTICATION;
	answer->list[at++] = set_with(call->group, &bad);
	bad.pwzGroupPassword = (PWSTR)(uintptr_t)u"secret";
	answer->list[at++] = set_with(call->group, &bad);
	bad = *good;
	bad.pwzFriendlyName = (PWSTR)(uintptr_t)u"New name";
	bad.pwzComment = NULL;
	bad.dwFlags = PEER_DISABLE_PRESENCE;
	answer->list[at++] = set_with(call->group, &bad);
	PeerFreeData(good);
}

static void do_set_as_member(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	PEER_GROUP_PROPERTIES sparse = {
		.dwSize = sizeof(sparse), .pwzFriendlyName = (PWSTR)(uintptr_t)u"Mine"};

	answer->list[0] = PeerGroupSetProperties(call->group, &sparse);
}

static void set_properties_codes(void **state)
{
	struct properties_seen seen;
	HPEEREVENT events;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_result(agent_register_types(&alice, alice.group,
			      TYPE_BIT(PEER_GROUP_EVENT_PROPERTY_CHANGED), &events),
		S_OK);
	assert_results(agent_results(&alice, do_set_errors), E_INVALIDARG, PEER_E_INVALID_GROUP,
		S_OK, E_INVALIDARG, PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP_PROPERTIES,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_GROUP_PROPERTIES,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_GROUP_PROPERTIES,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_GROUP_PROPERTIES,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_PASSWORD_DOES_NOT_MEET_POLICY,
		PEER_E_INVALID_GROUP_PROPERTIES, S_OK);
	assert_int_equal(agent_event(&alice, events).type, PEER_GROUP_EVENT_PROPERTY_CHANGED);
	assert_no_event(&alice, events);
	seen = agent_properties(&alice);
	assert_true(wide_is_equal(seen.friendly_name, u"New name"));
	assert_true(wide_is_equal(seen.comment, u""));
	assert_int_equal(seen.flags, PEER_DISABLE_PRESENCE);
	world_join(&alice, &bob, 0);
	assert_results(agent_results(&bob, do_set_as_member), PEER_E_GROUP_NOT_READY);
	world_enter(&alice, &bob);
	assert_results(agent_results(&bob, do_set_as_member), PEER_E_NOT_AUTHORIZED);
	/* The change went into the invitation. */
	assert_true(wide_is_equal(agent_properties(&bob).friendly_name, u"New name"));
}

/* ---- invitations -------------------------------------------------------------------------- */

static int key_mode(const char *path, const struct stat *info, int flag, struct FTW *walk)
{
	(void)walk;
	if (flag == FTW_F)
		return chmod(path, (info->st_mode & 0777) == 0600 ? 0644 : 0600);
	return 0;
}

static void keys_toggle(void)
{
	char keys[300];

	(void)!snprintf(keys, sizeof(keys), "%s/keys", getenv("PEERHUB_HOME"));
	(void)!nftw(keys, key_mode, 8, FTW_PHYS);
}

struct invitation_call {
	HGROUP group;
	WCHAR xml[TEXT_UNITS];
};

static HRESULT invite_with(
	const struct invitation_call *call, FILETIME *end, ULONG count, const GUID *roles)
{
	PWSTR text = (PWSTR)(uintptr_t)77;
	HRESULT result =
		PeerGroupCreateInvitation(call->group, call->xml, end, count, roles, &text);

	if (FAILED(result) && text != NULL)
		result = E_FAIL;
	if (SUCCEEDED(result))
		PeerFreeData(text);
	return result;
}

static void do_invite_errors(const void *in, void *out)
{
	const struct invitation_call *call = in;
	struct results *answer = out;
	GUID role = PEER_GROUP_ROLE_MEMBER;
	FILETIME past = filetime_in(-100), future = filetime_in(1000), zero = {0, 0};
	PWSTR text;
	size_t at = 0;

	answer->list[at++] =
		PeerGroupCreateInvitation(call->group, call->xml, NULL, 1, &role, NULL);
	answer->list[at++] = PeerGroupCreateInvitation(call->group, NULL, NULL, 1, &role, &text);
	answer->list[at++] = PeerGroupCreateInvitation(NULL, call->xml, NULL, 1, &role, &text);
	answer->list[at++] = invite_with(call, NULL, 0, &role);
	answer->list[at++] = invite_with(call, NULL, 1, NULL);
	answer->list[at++] = invite_with(call, NULL, 1, &test_type);
	answer->list[at++] = invite_with(call, &past, 1, &role);
	answer->list[at++] = invite_with(call, &zero, 1, &role);
	answer->list[at++] =
		PeerGroupCreateInvitation(call->group, u"<no/>", NULL, 1, &role, &text);
	keys_toggle();
	answer->list[at++] = invite_with(call, NULL, 1, &role);
	keys_toggle();
	answer->list[at++] = invite_with(call, &future, 1, &role);
	answer->list[at++] = invite_with(call, NULL, 1, &PEER_GROUP_ROLE_ADMIN);
}

static void do_invite_as(const void *in, void *out)
{
	struct results *answer = out;

	answer->list[0] = invite_with(in, NULL, 1, &PEER_GROUP_ROLE_MEMBER);
	answer->list[1] = invite_with(in, NULL, 1, &PEER_GROUP_ROLE_ADMIN);
}

static struct invitation_call *invitation_call_create(
	const struct agent *inviter, const struct agent *guest)
{
	struct invitation_call *call = calloc(1, sizeof(*call));
	struct text_result *text = calloc(1, sizeof(*text));

	assert_true(call != NULL && text != NULL);
	agent_call(guest, do_identity_xml, &guest->identity, text);
	assert_result(text->result, S_OK);
	wide_copy(call->xml, text->text, TEXT_UNITS);
	call->group = inviter->group;
	free(text);
	return call;
}

static void create_invitation_codes(void **state)
{
	struct invitation_call *call;
	struct results results;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	call = invitation_call_create(&alice, &carol);
	agent_call(&alice, do_invite_errors, call, &results);
	assert_results(results, E_INVALIDARG, E_INVALIDARG, PEER_E_INVALID_GROUP, E_INVALIDARG,
		E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG,
		PEER_E_NO_KEY_ACCESS, S_OK, S_OK);
	world_join(&alice, &bob, 0);
	call->group = bob.group;
	agent_call(&bob, do_invite_as, call, &results);
	assert_results(results, PEER_E_GROUP_NOT_READY, PEER_E_GROUP_NOT_READY);
	world_enter(&alice, &bob);
	agent_call(&bob, do_invite_as, call, &results);
	assert_results(results, PEER_E_NOT_AUTHORIZED, PEER_E_NOT_AUTHORIZED);
	free(call);
}

/* Another process of the same store deletes the group, then the identity behind the open handle. */
struct doomed {
	HRESULT result;
	WCHAR identity[NAME_UNITS], group[NAME_UNITS];
};

static void do_doomed_create(const void *in, void *out)
{
	struct doomed *answer = out;
	struct create_result *made = calloc(1, sizeof(*made));
	PWSTR identity;

	(void)in;
	if (made == NULL)
		return;
	answer->result = PeerIdentityCreate(u"gone", NULL, 0, &identity);
	if (FAILED(answer->result))
		return;
	do_create(identity, made);
	answer->result = made->result;
	wide_copy(answer->identity, identity, NAME_UNITS);
	wide_copy(answer->group, made->name, NAME_UNITS);
	PeerFreeData(identity);
	free(made);
}

static void do_doomed_open(const void *in, void *out)
{
	const struct doomed *doomed = in;
	struct handle_result *answer = out;

	answer->result = PeerGroupOpen(doomed->identity, doomed->group, NULL, &answer->handle);
}

static void do_doomed_delete(const void *in, void *out)
{
	const struct doomed *doomed = in;
	struct results *answer = out;

	answer->list[0] = PeerIdentityDelete(doomed->identity);
	answer->list[1] = PeerGroupDelete(doomed->identity, doomed->group);
	answer->list[2] = PeerIdentityDelete(doomed->identity);
}

static void do_doomed_use(const void *in, void *out)
{
	const struct invitation_call *call = in;
	struct results *answer = out;
	PWSTR text = NULL;

	answer->list[0] = invite_with(call, NULL, 1, &PEER_GROUP_ROLE_MEMBER);
	answer->list[1] = PeerGroupIssueCredentials(
		call->group, u"0123456789abcdef0123456789abcdef01234567.x", NULL, 0, &text);
	answer->list[2] = text == NULL ? S_OK : E_FAIL;
	answer->list[3] = PeerGroupClose(call->group);
}

static void deleted_identity(void **state)
{
	struct invitation_call *call = invitation_call_create(&alice, &carol);
	struct handle_result opened;
	struct results results;
	struct doomed doomed;
	char none = 0;

	(void)state;
	agent_call(&bob, do_doomed_create, &none, &doomed);
	assert_result(doomed.result, S_OK);
	agent_call(&eve, do_doomed_open, &doomed, &opened);
	assert_result(opened.result, S_OK);
	agent_call(&bob, do_doomed_delete, &doomed, &results);
	assert_results(results, PEER_E_GROUPS_EXIST, S_OK, S_OK);
	call->group = opened.handle;
	agent_call(&eve, do_doomed_use, call, &results);
	assert_results(results, PEER_E_IDENTITY_DELETED, PEER_E_IDENTITY_DELETED, S_OK, S_OK);
	free(call);
}

/*
 * Inviting members invite one another until the chain is full. All are identities of one store; each is
 * said to have been connected once.
 */
struct chain_result {
	HRESULT result; /* of what should have worked */
	HRESULT refusal;
	uint32_t length;
};

static HRESULT chain_step(PCWSTR *identity, HGROUP *group, PWSTR *names, uint32_t step)
{
	GUID role = PEER_GROUP_ROLE_INVITING_MEMBER;
	char name[PH_NAME_BYTES_MAX], group_name[PH_NAME_BYTES_MAX];
	PEER_INVITATION_INFO *info = NULL;
	PWSTR xml = NULL, text = NULL;
	HGROUP joined = NULL;
	HRESULT result = PeerIdentityCreate(u"link", NULL, 0, &names[step]);

	if (SUCCEEDED(result))
		result = PeerIdentityGetXML(names[step], &xml);
	if (SUCCEEDED(result))
		result = PeerGroupCreateInvitation(*group, xml, NULL, 1, &role, &text);
	if (SUCCEEDED(result))
		result = PeerGroupParseInvitation(text, &info);
	if (SUCCEEDED(result))
		result = PeerGroupJoin(names[step], text, NULL, &joined);
	if (SUCCEEDED(result))
		(void)PeerGroupClose(joined);
	if (SUCCEEDED(result) &&
		(text_utf8_copy(names[step], name, sizeof(name)) < 0 ||
			text_utf8_copy(info->pwzGroupPeerName, group_name, sizeof(group_name)) < 0))
		result = E_FAIL;
	if (SUCCEEDED(result))
		result = membership_synchronised(name, group_name);
	if (SUCCEEDED(result))
		result = PeerGroupOpen(names[step], info->pwzGroupPeerName, NULL, &joined);
	if (SUCCEEDED(result)) {
		(void)PeerGroupClose(*group);
		*group = joined;
		*identity = names[step];
	}
	PeerFreeData(info);
	PeerFreeData(text);
	PeerFreeData(xml);
	return result;
}

static void do_chain(const void *in, void *out)
{
	const struct call *call = in;
	struct chain_result *answer = out;
	struct create_result *made = calloc(1, sizeof(*made));
	PWSTR names[32] = {NULL};
	PCWSTR identity = call->identity;
	HGROUP group;

	if (made == NULL)
		return;
	do_create(call->identity, made);
	answer->result = made->result;
	group = made->group;
	for (; answer->length < 32; answer->length++) {
		answer->refusal = chain_step(&identity, &group, names, answer->length);
		if (FAILED(answer->refusal))
			break;
	}
	(void)PeerGroupClose(group);
	for (size_t index = 0; index < 32; index++)
		PeerFreeData(names[index]);
	free(made);
}

/* 24 membership certificates: the creator's and 23 below it; the next one is too long. */
static void chain_too_long(void **state)
{
	struct call call = {.group = NULL};
	struct chain_result answer;

	(void)state;
	wide_copy(call.identity, carol.identity, NAME_UNITS);
	agent_call(&carol, do_chain, &call, &answer);
	assert_result(answer.result, S_OK);
	assert_result(answer.refusal, PEER_E_CHAIN_TOO_LONG);
	assert_int_equal(answer.length, 23);
}

/* ---- issued credentials ------------------------------------------------------------------- */

struct issue_call {
	HGROUP group;
	WCHAR subject[NAME_UNITS];
};

static void do_issue_errors(const void *in, void *out)
{
	static const WCHAR stranger[] = u"0123456789abcdef0123456789abcdef01234567.x";
	const struct issue_call *call = in;
	struct results *answer = out;
	PEER_CREDENTIAL_INFO info = {.dwSize = sizeof(info)};
	GUID role = PEER_GROUP_ROLE_MEMBER;
	PWSTR text = NULL;
	size_t at = 0;

	answer->list[at++] = PeerGroupIssueCredentials(call->group, NULL, NULL, 0, &text);
	answer->list[at++] = PeerGroupIssueCredentials(NULL, call->subject, NULL, 0, &text);
	answer->list[at++] = PeerGroupIssueCredentials(call->group, call->subject, NULL, 2, &text);
	answer->list[at++] = PeerGroupIssueCredentials(
		call->group, call->subject, NULL, PEER_GROUP_STORE_CREDENTIALS, &text);
	answer->list[at++] = PeerGroupIssueCredentials(call->group, u"x", NULL, 0, &text);
	answer->list[at++] = PeerGroupIssueCredentials(call->group, stranger, NULL, 0, &text);
	info.dwSize = 8;
	answer->list[at++] = PeerGroupIssueCredentials(call->group, call->subject, &info, 0, &text);
	info.dwSize = sizeof(info);
	info.cRoles = 1;
	answer->list[at++] = PeerGroupIssueCredentials(call->group, call->subject, &info, 0, &text);
	info.pRoles = &role;
	info.ftValidityStart = filetime_in(-86400); /* not later than what the subject has */
	info.ftValidityEnd = filetime_in(86400);
	answer->list[at++] = PeerGroupIssueCredentials(call->group, call->subject, &info, 0, &text);
	keys_toggle();
	answer->list[at++] = PeerGroupIssueCredentials(call->group, call->subject, NULL, 0, &text);
	keys_toggle();
	answer->list[at++] = text == NULL ? S_OK : E_FAIL;
}

static void do_issue(const void *in, void *out)
{
	const struct issue_call *call = in;
	struct text_result *answer = out;
	PEER_CREDENTIAL_INFO info = {.dwSize = sizeof(info), .ftValidityEnd = filetime_in(7200)};
	GUID role = PEER_GROUP_ROLE_INVITING_MEMBER;
	PWSTR text;

	info.cRoles = 1;
	info.pRoles = &role;
	info.ftValidityStart = filetime_in(0);
	answer->result = PeerGroupIssueCredentials(call->group, call->subject, &info, 0, &text);
	if (SUCCEEDED(answer->result))
		wide_copy(answer->text, text, TEXT_UNITS);
	else
		fprintf(stderr, "issue: %s\n", PeerhubLastErrorText());
	PeerFreeData(text);
}

static void do_issue_as_member(const void *in, void *out)
{
	const struct issue_call *call = in;
	PWSTR text;

	*(HRESULT *)out = PeerGroupIssueCredentials(call->group, call->subject, NULL, 0, &text);
}

static void issue_credentials_codes(void **state)
{
	struct text_result *text = calloc(1, sizeof(*text));
	struct issue_call call = {.group = NULL};
	struct results results;
	struct members_result members;
	struct handle_result joined;
	WCHAR name[NAME_UNITS];
	HRESULT result;

	(void)state;
	assert_non_null(text);
	world_found(&alice, name);
	world_join(&alice, &bob, 0);
	call.group = alice.group;
	wide_copy(call.subject, bob.identity, NAME_UNITS);
	agent_call(&alice, do_issue_errors, &call, &results);
	assert_results(results, E_INVALIDARG, PEER_E_INVALID_GROUP, E_INVALIDARG, E_NOTIMPL,
		E_INVALIDARG, PEER_E_IDENTITY_NOT_FOUND, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG,
		PEER_E_NO_KEY_ACCESS, S_OK);
	/* Bob gets more rights, by an invitation that he joins with. */
	agent_call(&alice, do_issue, &call, text);
	assert_result(text->result, S_OK);
	assert_result(agent_group_call(&bob, do_close, bob.group), S_OK);
	agent_call_bytes(&bob, do_join, text->text, sizeof(text->text), &joined, sizeof(joined));
	assert_result(joined.result, S_OK);
	bob.group = joined.handle;
	assert_result(agent_register_types(&bob, bob.group, TYPES_STATUS, &bob.status), S_OK);
	world_enter(&alice, &bob);
	members = agent_members(&alice, 0, bob.identity);
	assert_int_equal(members.count, 1);
	assert_true(IsEqualGUID(&members.items[0].role, &PEER_GROUP_ROLE_INVITING_MEMBER));
	/* Only administrators issue. */
	call.group = bob.group;
	wide_copy(call.subject, alice.identity, NAME_UNITS);
	agent_call(&bob, do_issue_as_member, &call, &result);
	assert_result(result, PEER_E_NOT_AUTHORIZED);
	free(text);
}

static void do_home(const void *in, void *out)
{
	(void)in;
	(void)!snprintf(out, 256, "%s", getenv("PEERHUB_HOME"));
}

static void do_set_home(const void *in, void *out)
{
	*(HRESULT *)out = PeerhubSetHome(in);
}

static int agents_setup(void **state)
{
	char home[256], none = 0;
	HRESULT result;

	(void)state;
	assert_result(agent_startup(&alice), S_OK);
	assert_result(agent_startup(&bob), S_OK);
	assert_result(agent_startup(&carol), S_OK);
	agent_identity(&alice, u"Alice");
	agent_identity(&bob, u"Bob");
	agent_identity(&carol, u"Carol");
	assert_result(agent_startup(&eve), S_OK);
	agent_call(&bob, do_home, &none, &home);
	agent_call(&eve, do_set_home, &home, &result);
	assert_result(result, S_OK);
	return 0;
}

static int leave(void **state)
{
	(void)state;
	agent_leave(&bob);
	agent_leave(&alice);
	return 0;
}

#define G(test) cmocka_unit_test_teardown(test, leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		G(properties_at_creator_and_joiner),
		G(set_properties_codes),
		G(create_invitation_codes),
		G(deleted_identity),
		G(chain_too_long),
		G(issue_credentials_codes),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	agent_start(&alice, "alice", "[::1]:0");
	agent_start(&bob, "bob", "[::1]:0");
	agent_start(&carol, "carol", "[::1]:0");
	agent_start(&eve, "eve", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&eve);
	failures += agent_stop(&alice);
	failures += agent_stop(&bob);
	failures += agent_stop(&carol);
	return failures;
}
