/*
 * The life of a group: every documented code of Create, Open, Join, Connect, ConnectByAddress, Close,
 * Delete, GetStatus, EnumMembers and the time functions, and what goes online when.
 */
#include "tests/api/p2p_test.h"

#include "api/store.h"

static struct agent alice, bob;
static struct agent eve; /* another process on bob's store */
static struct agent low; /* gives up its rights */

static void wide_fill(WCHAR *text, size_t units)
{
	for (size_t index = 0; index < units; index++)
		text[index] = u'x';
	text[units] = 0;
}

/* ---- create ------------------------------------------------------------------------------- */

static HRESULT create_with(const PEER_GROUP_PROPERTIES *changed)
{
	PEER_GROUP_PROPERTIES properties = *changed;
	HGROUP group = (HGROUP)(uintptr_t)77;
	HRESULT result = PeerGroupCreate(&properties, &group);

	if (SUCCEEDED(result))
		(void)PeerGroupClose(group);
	else if (group != NULL)
		result = E_FAIL; /* *phGroup is NULL on failure */
	return result;
}

static void do_create_errors(const void *in, void *out)
{
	static WCHAR classifier[151], friendly[257];
	struct results *answer = out;
	PEER_GROUP_PROPERTIES good = {.dwSize = sizeof(good)}, bad;
	HGROUP group;
	size_t at = 0;

	(void)in;
	wide_fill(classifier, 150);
	wide_fill(friendly, 256);
	answer->list[at++] = PeerGroupCreate(NULL, &group);
	answer->list[at++] = PeerGroupCreate(&good, NULL);
	bad = good;
	bad.dwSize = 95;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.pwzGroupPeerName = (PWSTR)(uintptr_t)u"0123456789abcdef0123456789abcdef01234567.x";
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.pwzCreatorPeerName = (PWSTR)(uintptr_t)u"nobody";
	answer->list[at++] = create_with(&bad);
	bad.pwzCreatorPeerName = (PWSTR)(uintptr_t)u"0123456789abcdef0123456789abcdef01234567.x";
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.pwzClassifier = classifier;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.pwzFriendlyName = friendly;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.pwzComment = friendly;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.ulMemberDataLifetime = 60;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.ulPresenceLifetime = 299;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.dwFlags = 0x80;
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.pwzCloud = (PWSTR)(uintptr_t)u"Cloud9";
	answer->list[at++] = create_with(&bad);
	bad.pwzCloud = (PWSTR)(uintptr_t)u"LinkLocal_";
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.dwAuthenticationSchemes = PEER_GROUP_PASSWORD_AUTHENTICATION;
	answer->list[at++] = create_with(&bad);
	bad.pwzGroupPassword = (PWSTR)(uintptr_t)u"secret";
	answer->list[at++] = create_with(&bad);
	bad = good;
	bad.dwSize = 64; /* Windows XP's structure */
	answer->list[at++] = create_with(&bad);
	answer->list[at++] = create_with(&good);
}

static void create_errors(void **state)
{
	struct results results = agent_results(&alice, do_create_errors);

	(void)state;
	assert_results(results, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_PEER_NAME, PEER_E_INVALID_PEER_NAME,
		PEER_E_INVALID_CLASSIFIER, PEER_E_INVALID_GROUP_PROPERTIES,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_GROUP_PROPERTIES,
		PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_NO_CLOUD,
		PEER_E_CLOUD_NAME_AMBIGUOUS, PEER_E_PASSWORD_DOES_NOT_MEET_POLICY, E_NOTIMPL, S_OK,
		S_OK);
}

static int key_mode(const char *path, const struct stat *info, int flag, struct FTW *walk)
{
	(void)walk;
	if (flag == FTW_F)
		return chmod(path, (info->st_mode & 0777) == 0600 ? 0644 : 0600);
	return 0;
}

/* Make every key of this store readable by others, or private again. */
static void keys_toggle(void)
{
	char keys[300];

	(void)!snprintf(keys, sizeof(keys), "%s/keys", getenv("PEERHUB_HOME"));
	(void)!nftw(keys, key_mode, 8, FTW_PHYS);
}

static void do_create_keys(const void *in, void *out)
{
	struct results *answer = out;
	PEER_GROUP_PROPERTIES good = {.dwSize = sizeof(good)};
	PWSTR identity;

	(void)in;
	keys_toggle();
	answer->list[0] = create_with(&good);
	keys_toggle();
	answer->list[1] = create_with(&good);
	answer->list[2] = PeerIdentityCreate(u"gone", NULL, 0, &identity);
	answer->list[3] = PeerIdentityDelete(identity);
	good.pwzCreatorPeerName = identity;
	answer->list[4] = create_with(&good);
	PeerFreeData(identity);
}

static void create_without_key_or_identity(void **state)
{
	struct results results = agent_results(&alice, do_create_keys);

	(void)state;
	assert_results(results, PEER_E_NO_KEY_ACCESS, S_OK, S_OK, S_OK,
		HRESULT_FROM_WIN32(ERROR_DELETE_PENDING));
}

/* ---- open --------------------------------------------------------------------------------- */

static HRESULT open_with(PCWSTR identity, PCWSTR name, PCWSTR cloud)
{
	HGROUP group = (HGROUP)(uintptr_t)77;
	HRESULT result = PeerGroupOpen(identity, name, cloud, &group);

	if (SUCCEEDED(result))
		(void)PeerGroupClose(group);
	else if (group != NULL)
		result = E_FAIL;
	return result;
}

static void do_open_errors(const void *in, void *out)
{
	static const WCHAR stranger[] = u"0123456789abcdef0123456789abcdef01234567.x";
	const struct call *call = in;
	struct results *answer = out;
	struct create_result *made = calloc(1, sizeof(*made));
	size_t at = 0;

	if (made == NULL)
		return;
	do_create(call->identity, made);
	answer->list[at++] = PeerGroupOpen(NULL, made->name, NULL, NULL);
	answer->list[at++] = open_with(NULL, NULL, NULL);
	answer->list[at++] = open_with(NULL, u"x", NULL);
	answer->list[at++] = open_with(u"x", made->name, NULL);
	answer->list[at++] = open_with(NULL, stranger, NULL);
	answer->list[at++] = open_with(stranger, made->name, NULL);
	answer->list[at++] = open_with(NULL, made->name, u"Cloud9");
	answer->list[at++] = open_with(NULL, made->name, u"SiteLocal_");
	keys_toggle();
	answer->list[at++] = open_with(NULL, made->name, NULL);
	keys_toggle();
	answer->list[at++] = open_with(NULL, made->name, u"Global_");
	answer->list[at++] = open_with(call->identity, made->name, NULL);
	answer->list[at++] = PeerGroupClose(made->group);
	free(made);
}

static void open_errors(void **state)
{
	struct results results = agent_results(&alice, do_open_errors);

	(void)state;
	assert_results(results, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG,
		PEER_E_NOT_FOUND, PEER_E_NOT_FOUND, PEER_E_NO_CLOUD, PEER_E_CLOUD_NAME_AMBIGUOUS,
		PEER_E_NO_KEY_ACCESS, S_OK, S_OK, S_OK);
}

/* ---- join --------------------------------------------------------------------------------- */

struct join_call {
	WCHAR text[TEXT_UNITS];
	WCHAR identity[NAME_UNITS];
	WCHAR cloud[32];
	bool has_identity, has_cloud;
	int64_t clock_offset_s;
};

static HRESULT join_with(const struct join_call *call)
{
	HGROUP group = (HGROUP)(uintptr_t)77;
	HRESULT result = PeerGroupJoin(call->has_identity ? call->identity : NULL, call->text,
		call->has_cloud ? call->cloud : NULL, &group);

	if (SUCCEEDED(result))
		(void)PeerGroupClose(group);
	else if (group != NULL)
		result = E_FAIL;
	return result;
}

static void do_join_with(const void *in, void *out)
{
	*(HRESULT *)out = join_with(in);
}

static HRESULT bob_joins(const struct join_call *call)
{
	HRESULT result;

	agent_call(&bob, do_join_with, call, &result);
	return result;
}

static void do_join_errors(const void *in, void *out)
{
	const struct join_call *call = in;
	struct results *answer = out;
	HGROUP group;

	answer->list[0] = PeerGroupJoin(NULL, NULL, NULL, &group);
	answer->list[1] = PeerGroupJoin(NULL, call->text, NULL, NULL);
	answer->list[2] = PeerGroupJoin(NULL, u"no invitation", NULL, &group);
	keys_toggle();
	answer->list[3] = join_with(call);
	keys_toggle();
	answer->list[4] = PeerGroupJoin(NULL, call->text, NULL, &group);
	answer->list[5] = join_with(call);
	answer->list[6] = PeerGroupClose(group);
	answer->list[7] = join_with(call); /* once more: the chain is replaced */
}

/* Change one character of the base64 text of an element. */
static void text_spoil(WCHAR *text, const char *element)
{
	size_t at = 0, length = strlen(element);

	for (; text[at] != 0; at++) {
		size_t index = 0;

		while (index < length && text[at + index] == (WCHAR)element[index])
			index++;
		if (index == length)
			break;
	}
	assert_int_not_equal(text[at], 0);
	while (text[at] != u'>')
		at++;
	at += 40;
	text[at] = text[at] == u'A' ? u'B' : u'A';
}

static void join_errors(void **state)
{
	struct join_call *call = calloc(1, sizeof(*call)), *bad = calloc(1, sizeof(*bad));
	struct text_result *text = calloc(1, sizeof(*text));
	struct results results;
	WCHAR name[NAME_UNITS];

	(void)state;
	assert_true(call != NULL && bad != NULL && text != NULL);
	world_found(&alice, name);
	world_invite(&alice, &bob, 0, text);
	wide_copy(call->text, text->text, TEXT_UNITS);
	*bad = *call;
	bad->has_identity = true;
	wide_copy(bad->identity, u"nobody", NAME_UNITS);
	assert_result(bob_joins(bad), PEER_E_INVALID_PEER_NAME);
	*bad = *call;
	bad->has_cloud = true;
	wide_copy(bad->cloud, u"Cloud9", 32);
	assert_result(bob_joins(bad), PEER_E_NO_CLOUD);
	wide_copy(bad->cloud, u"LinkLocal_", 32);
	assert_result(bob_joins(bad), PEER_E_CLOUD_NAME_AMBIGUOUS);
	*bad = *call;
	text_spoil(bad->text, "<GMC");
	assert_result(bob_joins(bad), PEER_E_INVITATION_NOT_TRUSTED);
	*bad = *call;
	for (size_t at = 0; bad->text[at] != 0; at++) { /* VERSION="1.0" */
		static const WCHAR version[] = u"VERSION=\"1";

		if (memcmp(&bad->text[at], version, sizeof(version) - 2) == 0) {
			bad->text[at + 9] = u'7';
			break;
		}
	}
	assert_result(bob_joins(bad), PEER_E_UNSUPPORTED_VERSION);
	world_invite(&alice, &alice, 0, text); /* for somebody else */
	wide_copy(bad->text, text->text, TEXT_UNITS);
	assert_result(bob_joins(bad), PEER_E_INVITATION_NOT_TRUSTED);
	agent_call(&bob, do_join_errors, call, &results);
	assert_results(results, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, PEER_E_NO_KEY_ACCESS,
		S_OK, PEER_E_GROUP_IN_USE, S_OK, S_OK);
	agent_leave(&alice);
	free(text);
	free(bad);
	free(call);
}

/* An invitation that has run out when the invitee's clock is asked. */
static _Atomic int64_t clock_offset_s;

time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += clock_offset_s;
	if (out != NULL)
		*out = now.tv_sec;
	return now.tv_sec;
}

static void do_join_late(const void *in, void *out)
{
	const struct join_call *call = in;

	clock_offset_s = call->clock_offset_s;
	*(HRESULT *)out = join_with(call);
	clock_offset_s = 0;
}

static void join_out_of_time(void **state)
{
	struct join_call *call = calloc(1, sizeof(*call));
	struct text_result *text = calloc(1, sizeof(*text));
	WCHAR name[NAME_UNITS];
	HRESULT result;

	(void)state;
	assert_true(call != NULL && text != NULL);
	world_found(&alice, name);
	world_invite(&alice, &bob, 3600, text);
	wide_copy(call->text, text->text, TEXT_UNITS);
	call->clock_offset_s = 7200;
	agent_call(&bob, do_join_late, call, &result);
	assert_result(result, PEER_E_INVALID_TIME_PERIOD);
	call->clock_offset_s = -7200;
	agent_call(&bob, do_join_late, call, &result);
	assert_result(result, PEER_E_INVALID_TIME_PERIOD);
	assert_result(bob_joins(call), S_OK);
	agent_leave(&alice);
	free(text);
	free(call);
}

/* ---- connect ------------------------------------------------------------------------------ */

static void connect_of_a_creator_listens(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_int_equal(agent_status(&alice), PEER_GROUP_STATUS_LISTENING);
	assert_result(agent_group_call(&alice, do_connect, alice.group), PEER_S_ALREADY_CONNECTED);
	assert_no_event(&alice, alice.status);
	assert_result(agent_group_call(&alice, do_connect, NULL), PEER_E_INVALID_GROUP);
	assert_result(agent_group_call(&alice, do_connect, alice.status), PEER_E_INVALID_GROUP);
	agent_leave(&alice);
}

/* An invitation that knows no address: nobody to try. */
static void first_connect_without_addresses_finds_no_members(void **state)
{
	struct create_result *answer = calloc(1, sizeof(*answer));
	struct event event;

	(void)state;
	assert_non_null(answer);
	agent_call(&alice, do_create, &alice.identity, answer);
	assert_result(answer->result, S_OK);
	alice.group = answer->group; /* offline: the invitation has no address */
	free(answer);
	world_join(&alice, &bob, 0);
	for (int turn = 0; turn < 2; turn++) {
		assert_result(agent_group_call(&bob, do_connect, bob.group), S_OK);
		event = agent_event(&bob, bob.status);
		assert_int_equal(event.type, PEER_GROUP_EVENT_CONNECTION_FAILED);
		assert_result(event.reason, PEER_E_NO_MEMBERS_FOUND);
		assert_no_event(&bob, bob.status);
		assert_int_equal(agent_status(&bob), 0);
	}
	agent_leave(&bob);
	agent_leave(&alice);
}

/* An invitation made online says where to find the inviter, so Connect is enough. */
static void first_connect_by_the_addresses_of_the_invitation(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	world_join(&alice, &bob, 0);
	assert_result(agent_group_call(&bob, do_connect, bob.group), S_OK);
	agent_wait_status(&bob, PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS);
	agent_leave(&bob);
	agent_leave(&alice);
}

/* Addresses are known and nobody answers there. */
static void first_connect_with_nobody_at_the_addresses(void **state)
{
	WCHAR name[NAME_UNITS];
	struct event event;

	(void)state;
	world_found(&alice, name);
	world_join(&alice, &bob, 0);
	agent_leave(&alice);
	assert_result(agent_group_call(&bob, do_connect, bob.group), S_OK);
	event = agent_event(&bob, bob.status);
	assert_int_equal(event.type, PEER_GROUP_EVENT_CONNECTION_FAILED);
	assert_result(event.reason, PEER_E_NO_MEMBER_CONNECTIONS);
	assert_int_equal(agent_status(&bob), 0);
	agent_leave(&bob);
}

static void do_by_address_errors(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	PEER_ADDRESS address = {.dwSize = sizeof(address)};
	size_t at = 0;

	address.sin6.sin6_family = AF_INET6;
	address.sin6.sin6_addr = in6addr_loopback;
	answer->list[at++] = PeerGroupConnectByAddress(call->group, 0, &address);
	answer->list[at++] = PeerGroupConnectByAddress(call->group, 1, NULL);
	answer->list[at++] = PeerGroupConnectByAddress(call->group, 1, &address); /* port 0 */
	answer->list[at++] = PeerGroupConnectByAddress(call->group, 100000, &address);
	address.sin6.sin6_port = htons(9);
	answer->list[at++] = PeerGroupConnectByAddress(NULL, 1, &address);
}

static void connect_by_address_errors(void **state)
{
	WCHAR name[NAME_UNITS];
	PEER_ADDRESS dead = dead_address();
	HPEEREVENT neighbors;
	struct event event;

	(void)state;
	world_found(&alice, name);
	world_join(&alice, &bob, 0);
	assert_results(agent_results(&bob, do_by_address_errors), E_INVALIDARG, E_INVALIDARG,
		E_INVALIDARG, E_INVALIDARG, PEER_E_INVALID_GROUP);
	assert_no_event(&bob, bob.status);
	assert_result(agent_register_types(&bob, bob.group,
			      TYPE_BIT(PEER_GROUP_EVENT_NEIGHBOR_CONNECTION), &neighbors),
		S_OK);
	assert_result(agent_connect_by_address(&bob, bob.group, &dead), S_OK);
	event = agent_event(&bob, bob.status);
	assert_int_equal(event.type, PEER_GROUP_EVENT_CONNECTION_FAILED);
	assert_result(event.reason, PEER_E_NO_MEMBER_CONNECTIONS);
	event = agent_event(&bob, neighbors);
	assert_int_equal(event.type, PEER_GROUP_EVENT_NEIGHBOR_CONNECTION);
	assert_int_equal(event.status, PEER_CONNECTION_FAILED);
	assert_result(event.reason, PEER_E_CONNECTION_FAILED);
	assert_int_equal(agent_status(&bob), 0);
	agent_leave(&bob);
	agent_leave(&alice);
}

/* The only member there is oneself: no link comes of it, and the node goes on listening. */
static void connect_by_address_to_oneself(void **state)
{
	WCHAR name[NAME_UNITS];
	struct event event;

	(void)state;
	world_found(&alice, name);
	assert_result(agent_connect_by_address(&alice, alice.group, &alice.address),
		PEER_S_ALREADY_CONNECTED);
	event = agent_event(&alice, alice.status);
	assert_int_equal(event.type, PEER_GROUP_EVENT_CONNECTION_FAILED);
	assert_result(event.reason, PEER_E_NO_MEMBER_CONNECTIONS);
	assert_int_equal(agent_status(&alice), PEER_GROUP_STATUS_LISTENING);
	assert_int_equal(agent_enum(&alice, PEER_CONNECTION_NEIGHBOR).count, 0);
	agent_leave(&alice);
}

/* WELCOME counts as synchronised: status, neighbor events and no direct ones; and it is remembered. */
static void connect_by_address_synchronises(void **state)
{
	const uint32_t kinds = TYPE_BIT(PEER_GROUP_EVENT_NEIGHBOR_CONNECTION) |
		TYPE_BIT(PEER_GROUP_EVENT_DIRECT_CONNECTION);
	HPEEREVENT at_alice, at_bob;
	WCHAR name[NAME_UNITS];
	struct enum_result links;
	struct event event;
	struct handle_result opened;
	ULONGLONG id;

	(void)state;
	world_found(&alice, name);
	world_join(&alice, &bob, 0);
	assert_result(agent_register_types(&alice, alice.group, kinds, &at_alice), S_OK);
	assert_result(agent_register_types(&bob, bob.group, kinds, &at_bob), S_OK);
	world_enter(&alice, &bob);
	event = agent_event(&bob, at_bob);
	assert_int_equal(event.type, PEER_GROUP_EVENT_NEIGHBOR_CONNECTION);
	assert_int_equal(event.status, PEER_CONNECTED);
	assert_int_not_equal(event.node_id, 0);
	id = event.id;
	event = agent_event(&alice, at_alice);
	assert_int_equal(event.type, PEER_GROUP_EVENT_NEIGHBOR_CONNECTION);
	assert_int_equal(event.status, PEER_CONNECTED);
	links = agent_enum(&bob, PEER_CONNECTION_NEIGHBOR);
	assert_int_equal(links.count, 1);
	assert_true(enum_has(&links, id));
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_DIRECT).count, 0);
	agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS);
	/* Again: already connected, and the second link to the same node is refused there. */
	assert_result(agent_connect_by_address(&bob, bob.group, &alice.address),
		PEER_S_ALREADY_CONNECTED);
	event = agent_event(&bob, at_bob);
	assert_int_equal(event.status, PEER_CONNECTION_FAILED);
	assert_result(event.reason, PEER_E_CONNECTION_REFUSED);

	agent_leave(&bob);
	event = agent_event(&alice, at_alice);
	assert_int_equal(event.type, PEER_GROUP_EVENT_NEIGHBOR_CONNECTION);
	assert_int_equal(event.status, PEER_DISCONNECTED);
	agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING);
	assert_result(agent_unregister(&alice, at_alice), S_OK);
	agent_leave(&alice);
	/* Nobody is there now, yet a node that was connected once listens. */
	agent_call_bytes(&bob, do_open, name, sizeof(name), &opened, sizeof(opened));
	assert_result(opened.result, S_OK);
	bob.group = opened.handle;
	assert_result(agent_register_types(&bob, bob.group, TYPES_STATUS, &bob.status), S_OK);
	assert_result(agent_group_call(&bob, do_connect, bob.group), S_OK);
	agent_wait_status(&bob, PEER_GROUP_STATUS_LISTENING);
	agent_leave(&bob);
}

/* Both handles of a node go online with one Connect, and offline with the last Close. */
static void handles_share_the_node(void **state)
{
	WCHAR name[NAME_UNITS];
	struct handle_result second;
	struct status_result status;

	(void)state;
	world_found(&alice, name);
	agent_call_bytes(&alice, do_open, name, sizeof(name), &second, sizeof(second));
	assert_result(second.result, S_OK);
	agent_call(&alice, do_status, &second.handle, &status);
	assert_result(status.result, S_OK);
	assert_int_equal(status.status, PEER_GROUP_STATUS_LISTENING);
	assert_result(agent_group_call(&alice, do_close, alice.group), S_OK);
	agent_call(&alice, do_status, &second.handle, &status);
	assert_int_equal(status.status, PEER_GROUP_STATUS_LISTENING);
	assert_result(agent_group_call(&alice, do_close, second.handle), S_OK);
	agent_call_bytes(&alice, do_open, name, sizeof(name), &second, sizeof(second));
	agent_call(&alice, do_status, &second.handle, &status);
	assert_result(status.result, S_OK);
	assert_int_equal(status.status, 0);
	alice.group = second.handle;
	agent_leave(&alice);
}

/* ---- close, delete, status ---------------------------------------------------------------- */

static void do_close_delete_status(const void *in, void *out)
{
	static const WCHAR stranger[] = u"0123456789abcdef0123456789abcdef01234567.x";
	const struct call *call = in;
	struct results *answer = out;
	struct create_result *made = calloc(1, sizeof(*made));
	DWORD status = 77;
	HGROUP second;
	size_t at = 0;

	if (made == NULL)
		return;
	do_create(call->identity, made);
	answer->list[at++] = PeerGroupGetStatus(made->group, NULL);
	answer->list[at++] = PeerGroupGetStatus(NULL, &status);
	answer->list[at++] = status == 0 ? S_OK : E_FAIL;
	answer->list[at++] = PeerGroupClose(NULL);
	answer->list[at++] = PeerGroupClose((HGROUP)(uintptr_t)-1);
	answer->list[at++] = PeerGroupDelete(NULL, NULL);
	answer->list[at++] = PeerGroupDelete(NULL, u"x");
	answer->list[at++] = PeerGroupDelete(u"x", made->name);
	answer->list[at++] = PeerGroupDelete(NULL, stranger);
	answer->list[at++] = PeerGroupDelete(stranger, made->name);
	answer->list[at++] = PeerGroupOpen(NULL, made->name, NULL, &second);
	answer->list[at++] = PeerGroupDelete(call->identity, made->name);
	answer->list[at++] = PeerGroupGetStatus(made->group, &status);
	answer->list[at++] = PeerGroupGetStatus(second, &status);
	answer->list[at++] = PeerGroupClose(made->group);
	answer->list[at++] = PeerGroupClose(second);
	answer->list[at++] = PeerGroupDelete(NULL, made->name);
	answer->list[at++] = PeerGroupOpen(NULL, made->name, NULL, &second);
	free(made);
}

static void close_delete_status_errors(void **state)
{
	struct results results = agent_results(&alice, do_close_delete_status);

	(void)state;
	assert_results(results, E_INVALIDARG, PEER_E_INVALID_GROUP, S_OK, PEER_E_INVALID_GROUP,
		PEER_E_INVALID_GROUP, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, PEER_E_NOT_FOUND,
		PEER_E_NOT_FOUND, S_OK, S_OK, PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP,
		PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP, PEER_E_NOT_FOUND, PEER_E_NOT_FOUND);
}

static void do_delete_without_rights(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	struct create_result *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return;
	do_create(call->identity, made);
	answer->list[0] = PeerGroupClose(made->group);
	store_close();
	answer->list[1] = seteuid(65534) == 0 ? S_OK : E_FAIL;
	answer->list[2] = PeerGroupDelete(NULL, made->name);
	store_close();
	answer->list[3] = seteuid(0) == 0 ? S_OK : E_FAIL;
	answer->list[4] = PeerGroupDelete(NULL, made->name);
	free(made);
}

static void delete_without_rights_is_access_denied(void **state)
{
	struct results results;

	(void)state;
	if (getuid() != 0)
		skip();
	assert_result(agent_startup(&low), S_OK);
	agent_identity(&low, u"Low");
	results = agent_results(&low, do_delete_without_rights);
	assert_results(results, S_OK, S_OK, E_ACCESSDENIED, S_OK, S_OK);
}

/* Another process of the same store removes the group: seen at the next use of the store. */
static void do_after_delete(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	PEER_GROUP_PROPERTIES *properties;
	HPEERENUM enumeration;
	PWSTR text;
	GUID role = PEER_GROUP_ROLE_MEMBER;

	answer->list[0] = PeerGroupConnect(call->group);
	answer->list[1] = PeerGroupGetProperties(call->group, &properties);
	answer->list[2] = PeerGroupEnumMembers(call->group, 0, NULL, &enumeration);
	answer->list[3] = PeerGroupCreateInvitation(call->group, u"<x/>", NULL, 1, &role, &text);
	answer->list[4] = PeerGroupClose(call->group);
}

static void delete_by_another_process(void **state)
{
	struct create_result *answer = calloc(1, sizeof(*answer));
	struct handle_result opened;
	HRESULT result;

	(void)state;
	assert_non_null(answer);
	agent_call(&bob, do_create, &bob.identity, answer);
	assert_result(answer->result, S_OK);
	assert_result(agent_group_call(&bob, do_close, answer->group), S_OK);
	agent_call_bytes(
		&eve, do_open, answer->name, sizeof(answer->name), &opened, sizeof(opened));
	assert_result(opened.result, S_OK);
	eve.group = opened.handle;
	agent_call_bytes(
		&bob, do_delete, answer->name, sizeof(answer->name), &result, sizeof(result));
	assert_result(result, S_OK);
	assert_results(agent_results(&eve, do_after_delete), PEER_E_INVALID_GROUP,
		PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP, S_OK);
	eve.group = NULL;
	free(answer);
}

/* ---- members ------------------------------------------------------------------------------ */

static void do_member_errors(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	HPEERENUM enumeration = (HPEERENUM)(uintptr_t)77;

	answer->list[0] = PeerGroupEnumMembers(call->group, 0, NULL, NULL);
	answer->list[1] = PeerGroupEnumMembers(call->group, 2, NULL, &enumeration);
	answer->list[2] = enumeration == NULL ? S_OK : E_FAIL;
	answer->list[3] = PeerGroupEnumMembers(call->group, 0, u"x", &enumeration);
	answer->list[4] = PeerGroupEnumMembers(NULL, 0, NULL, &enumeration);
}

static void members_own_first_then_connected_peers(void **state)
{
	struct members_result members;

	(void)state;
	world_make(&alice, &bob);
	assert_results(agent_results(&alice, do_member_errors), E_INVALIDARG, E_INVALIDARG, S_OK,
		E_INVALIDARG, PEER_E_INVALID_GROUP);
	members = agent_members(&alice, 0, NULL);
	assert_int_equal(members.count, 2);
	assert_int_equal(members.total, 2);
	assert_true(wide_is_equal(members.items[0].identity, alice.identity));
	assert_true(wide_is_equal(members.items[0].friendly_name, u"Alice"));
	assert_int_equal(members.items[0].flags, PEER_MEMBER_PRESENT);
	assert_true(address_same(&members.items[0].address, &alice.address));
	assert_int_equal(members.items[0].role_count, 1);
	assert_true(IsEqualGUID(&members.items[0].role, &PEER_GROUP_ROLE_ADMIN));
	assert_true(wide_is_equal(members.items[1].identity, bob.identity));
	assert_true(wide_is_equal(members.items[1].friendly_name, u"Bob"));
	assert_true(wide_is_equal(members.items[1].issuer, alice.identity));
	assert_int_equal(members.items[1].flags, PEER_MEMBER_PRESENT);
	assert_true(address_same(&members.items[1].address, &bob.address));
	assert_true(IsEqualGUID(&members.items[1].role, &PEER_GROUP_ROLE_MEMBER));
	assert_int_equal(members.items[1].key_bytes, 65); /* an uncompressed P-256 point */
	/* The other way round the peer's address came with WELCOME: it is the one to open to. */
	members = agent_members(&bob, PEER_MEMBER_PRESENT, alice.identity);
	assert_int_equal(members.count, 1);
	assert_true(address_same(&members.items[0].address, &alice.address));
	assert_true(IsEqualGUID(&members.items[0].role, &PEER_GROUP_ROLE_ADMIN));
	/* One member by name: the peer, oneself, nobody. */
	members = agent_members(&alice, PEER_MEMBER_PRESENT, bob.identity);
	assert_int_equal(members.count, 1);
	assert_true(wide_is_equal(members.items[0].identity, bob.identity));
	members = agent_members(&alice, 0, alice.identity);
	assert_int_equal(members.count, 1);
	assert_true(wide_is_equal(members.items[0].identity, alice.identity));
	members = agent_members(&alice, 0, u"0123456789abcdef0123456789abcdef01234567.x");
	assert_int_equal(members.count, 0);
	agent_leave(&bob);
	agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING);
	members = agent_members(&alice, 0, NULL);
	assert_int_equal(members.count, 1);
	agent_leave(&alice);
}

static void members_of_an_offline_group(void **state)
{
	struct create_result *answer = calloc(1, sizeof(*answer));
	struct members_result members;

	(void)state;
	assert_non_null(answer);
	agent_call(&alice, do_create, &alice.identity, answer);
	alice.group = answer->group;
	free(answer);
	members = agent_members(&alice, 0, NULL);
	assert_int_equal(members.count, 1);
	assert_int_equal(members.items[0].flags, 0);
	assert_int_equal(members.items[0].address_count, 0);
	assert_int_equal(agent_members(&alice, PEER_MEMBER_PRESENT, NULL).count, 0);
	agent_leave(&alice);
}

/* ---- peer time ---------------------------------------------------------------------------- */

static void do_peer_time(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	FILETIME time = {0x12345678, 0x01da0000}, other = {1, 1};

	answer->list[0] = PeerGroupPeerTimeToUniversalTime(call->group, NULL, &other);
	answer->list[1] = PeerGroupPeerTimeToUniversalTime(call->group, &time, NULL);
	answer->list[2] = PeerGroupUniversalTimeToPeerTime(call->group, NULL, &other);
	answer->list[3] = PeerGroupUniversalTimeToPeerTime(NULL, &time, &other);
	answer->list[4] = PeerGroupPeerTimeToUniversalTime(NULL, &time, &other);
	answer->list[5] = PeerGroupUniversalTimeToPeerTime(call->group, &time, &other);
	answer->list[6] = PeerGroupPeerTimeToUniversalTime(call->group, &other, &other);
	answer->list[7] = memcmp(&time, &other, sizeof(time)) == 0 ? S_OK : S_FALSE;
}

static void peer_time(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_results(agent_results(&alice, do_peer_time), E_INVALIDARG, E_INVALIDARG,
		E_INVALIDARG, PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP, S_OK, S_OK, S_OK);
	world_join(&alice, &bob, 0);
	assert_results(agent_results(&bob, do_peer_time), E_INVALIDARG, E_INVALIDARG, E_INVALIDARG,
		PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP, PEER_E_GROUP_NOT_READY,
		PEER_E_GROUP_NOT_READY);
	agent_leave(&bob);
	agent_leave(&alice);
}

/* ---- open direct: what the store says ----------------------------------------------------- */

static void do_open_direct_without_key(const void *in, void *out)
{
	keys_toggle();
	do_open_direct(in, out);
	keys_toggle();
}

static void open_direct_without_key_access(void **state)
{
	struct open_request request;
	struct open_result answer;

	(void)state;
	world_make(&alice, &bob);
	memset(&request, 0, sizeof(request));
	request.group = bob.group;
	request.address = alice.address;
	wide_copy(request.identity, alice.identity, NAME_UNITS);
	agent_call(&bob, do_open_direct_without_key, &request, &answer);
	assert_result(answer.result, PEER_E_NO_KEY_ACCESS);
	assert_int_equal(answer.id, 0);
	assert_no_event(&bob, bob.events);
	agent_leave(&bob);
	agent_leave(&alice);
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
	assert_result(agent_startup(&eve), S_OK);
	agent_identity(&alice, u"Alice");
	agent_identity(&bob, u"Bob");
	agent_call(&bob, do_home, &none, &home);
	agent_call(&eve, do_set_home, &home, &result);
	assert_result(result, S_OK);
	wide_copy(eve.identity, bob.identity, NAME_UNITS);
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
		G(create_errors),
		G(create_without_key_or_identity),
		G(open_errors),
		G(join_errors),
		G(join_out_of_time),
		G(connect_of_a_creator_listens),
		G(first_connect_without_addresses_finds_no_members),
		G(first_connect_by_the_addresses_of_the_invitation),
		G(first_connect_with_nobody_at_the_addresses),
		G(connect_by_address_errors),
		G(connect_by_address_to_oneself),
		G(connect_by_address_synchronises),
		G(handles_share_the_node),
		G(close_delete_status_errors),
		G(delete_without_rights_is_access_denied),
		G(delete_by_another_process),
		G(members_own_first_then_connected_peers),
		G(members_of_an_offline_group),
		G(peer_time),
		G(open_direct_without_key_access),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	agent_start(&alice, "alice", "[::1]:0");
	agent_start(&bob, "bob", "[::1]:0");
	agent_start(&eve, "eve", "[::1]:0");
	agent_start(&low, "low", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&eve);
	failures += agent_stop(&alice);
	failures += agent_stop(&bob);
	failures += agent_stop(&low);
	return failures;
}
