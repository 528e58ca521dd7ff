/*
 * No memory: each allocation of our own code on the calling thread fails in turn. Every call answers
 * E_OUTOFMEMORY or succeeds, changes nothing when it fails, leaks nothing, and works the next time.
 * The program is linked with --wrap, see failing.h.
 */
#include "tests/api/failing.h"
#include "tests/api/p2p_test.h"

#include "api/block.h"
#include "api/handle.h"

#define TRIES_MAX 3000u /* more allocations than any of these calls makes */

static struct agent alice, bob;
static struct agent carol; /* starts and ends */

/* ---- what an agent tries ------------------------------------------------------------------ */

/* One attempt at the call under test. S_OK: it was undone again and may be repeated. */
typedef HRESULT (*attempt_function)(const struct call *call);

struct outcome {
	uint32_t failed; /* how often memory was short */
	uint32_t told; /* how often the caller was told so */
	HRESULT wrong; /* a result that is neither S_OK nor E_OUTOFMEMORY */
	uint32_t wrong_at;
	HRESULT after; /* once more, with memory */
	size_t blocks_lost, groups_lost, events_lost, enumerations_lost;
};

static size_t blocks_before;
static uint32_t groups_before, events_before, enumerations_before;

static void counts_take(void)
{
	blocks_before = block_count();
	groups_before = handle_count(HANDLE_GROUP);
	events_before = handle_count(HANDLE_PEER_EVENT);
	enumerations_before = handle_count(HANDLE_ENUMERATION);
}

/* Fail the 1st, 2nd, 3rd … allocation until the call needs no more of them. */
static void try_all(attempt_function attempt, const struct call *call, struct outcome *outcome)
{
	outcome->after = attempt(call); /* what is made once is there now */
	counts_take();
	for (uint32_t number = 1; number < TRIES_MAX; number++) {
		HRESULT result;
		bool was_short;

		failing_in = number;
		result = attempt(call);
		was_short = failing_in == 0;
		failing_in = 0;
		if (!was_short) {
			outcome->wrong = result == S_OK ? outcome->wrong : result;
			break;
		}
		outcome->failed++;
		outcome->told += result == E_OUTOFMEMORY;
		if (result != S_OK && result != E_OUTOFMEMORY && outcome->wrong == S_OK) {
			outcome->wrong = result;
			outcome->wrong_at = number;
		}
	}
	outcome->after = attempt(call);
	outcome->blocks_lost = block_count() - blocks_before;
	outcome->groups_lost = handle_count(HANDLE_GROUP) - groups_before;
	outcome->events_lost = handle_count(HANDLE_PEER_EVENT) - events_before;
	outcome->enumerations_lost = handle_count(HANDLE_ENUMERATION) - enumerations_before;
}

static void assert_outcome(const struct outcome *outcome)
{
	if (outcome->wrong != S_OK)
		fail_msg("allocation %u: %s", outcome->wrong_at, PeerhubResultName(outcome->wrong));
	assert_true(outcome->failed > 0);
	assert_result(outcome->after, S_OK);
	assert_int_equal(outcome->blocks_lost, 0);
	assert_int_equal(outcome->groups_lost, 0);
	assert_int_equal(outcome->events_lost, 0);
	assert_int_equal(outcome->enumerations_lost, 0);
}

#define ATTEMPT(name)                                        \
	static void do_try_##name(const void *in, void *out) \
	{                                                    \
		try_all(attempt_##name, in, out);            \
	}

/* Every allocation and thread of a start and of the end after it. */
static void do_try_startup(const void *in, void *out)
{
	struct outcome *outcome = out;
	PEER_VERSION_DATA version;

	(void)in;
	for (uint32_t number = 1; number < TRIES_MAX; number++) {
		bool was_short;
		HRESULT result;

		failing_in = number;
		result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
		was_short = failing_in == 0;
		failing_in = 0;
		if (result == S_OK && PeerGroupShutdown() != S_OK)
			outcome->wrong = E_FAIL;
		if (!was_short)
			break;
		outcome->failed++;
		/* A thread that cannot be made is a service that cannot be started. */
		if (result != S_OK && result != E_OUTOFMEMORY &&
			result != PEER_E_CANNOT_START_SERVICE && outcome->wrong == S_OK) {
			outcome->wrong = result;
			outcome->wrong_at = number;
		}
		if (result == E_OUTOFMEMORY)
			outcome->after = E_OUTOFMEMORY;
	}
}

static HRESULT attempt_open(const struct call *call)
{
	HGROUP group;
	HRESULT result = PeerGroupOpen(NULL, call->name, NULL, &group);

	return result == S_OK ? PeerGroupClose(group) : result;
}
ATTEMPT(open)

/* A group is made and erased again; one that could not be made leaves nothing in the store. */
static HRESULT attempt_create(const struct call *call)
{
	PEER_GROUP_PROPERTIES properties = {
		.dwSize = sizeof(properties), .pwzFriendlyName = (PWSTR)u"Short"};
	PEER_GROUP_PROPERTIES *made;
	HGROUP group;
	HRESULT result = PeerGroupCreate(&properties, &group);
	unsigned kept = failing_in;

	(void)call;
	if (result != S_OK)
		return result;
	failing_in = 0; /* the undoing has memory */
	result = PeerGroupGetProperties(group, &made);
	if (result == S_OK)
		result = PeerGroupClose(group);
	if (result == S_OK)
		result = PeerGroupDelete(NULL, made->pwzGroupPeerName);
	PeerFreeData(made);
	failing_in = kept;
	return result;
}
ATTEMPT(create)

/* What the invitation calls are tried with, in the agent's own process. */
static PWSTR attempt_guest, attempt_guest_xml, attempt_invitation;
static PEER_INVITATION_INFO *attempt_info;

static HRESULT attempt_invite(const struct call *call)
{
	GUID roles[] = {PEER_GROUP_ROLE_MEMBER};
	PWSTR invitation;
	HRESULT result = PeerGroupCreateInvitation(
		call->group, attempt_guest_xml, NULL, 1, roles, &invitation);

	if (result == S_OK)
		PeerFreeData(invitation);
	return result;
}

/* The guest is no member that the store knows, so its key is given. */
static HRESULT attempt_issue(const struct call *call)
{
	static int issues;
	GUID role = PEER_GROUP_ROLE_MEMBER;
	PEER_CREDENTIAL_INFO credentials = {.dwSize = sizeof(credentials),
		.pPublicKey = attempt_info->pSubjectPublicKey,
		.pwzFriendlyName = (PWSTR)u"Guest",
		.ftValidityStart = filetime_in(60 * ++issues), /* later than those before */
		.ftValidityEnd = filetime_in(864000),
		.cRoles = 1,
		.pRoles = &role};
	PWSTR invitation;
	HRESULT result =
		PeerGroupIssueCredentials(call->group, attempt_guest, &credentials, 0, &invitation);

	if (result == S_OK)
		PeerFreeData(invitation);
	return result;
}

static HRESULT attempt_parse(const struct call *call)
{
	PEER_INVITATION_INFO *info;
	HRESULT result = PeerGroupParseInvitation(attempt_invitation, &info);

	(void)call;
	if (result == S_OK)
		PeerFreeData(info);
	return result;
}

static HRESULT attempt_join(const struct call *call)
{
	PEER_INVITATION_INFO *info;
	HGROUP group;
	HRESULT result = PeerGroupJoin(attempt_guest, attempt_invitation, NULL, &group);
	unsigned kept = failing_in;

	(void)call;
	if (result != S_OK)
		return result;
	failing_in = 0;
	result = PeerGroupClose(group);
	if (result == S_OK)
		result = PeerGroupParseInvitation(attempt_invitation, &info);
	if (result == S_OK) {
		result = PeerGroupDelete(attempt_guest, info->pwzGroupPeerName);
		PeerFreeData(info);
	}
	failing_in = kept;
	return result;
}

static HRESULT attempt_set_properties(const struct call *call)
{
	PEER_GROUP_PROPERTIES *properties;
	unsigned kept = failing_in;
	HRESULT result;

	failing_in = 0;
	result = PeerGroupGetProperties(call->group, &properties);
	failing_in = kept;
	if (result != S_OK)
		return result;
	result = PeerGroupSetProperties(call->group, properties);
	kept = failing_in;
	failing_in = 0;
	PeerFreeData(properties);
	failing_in = kept;
	return result;
}

struct invitation_outcomes {
	HRESULT ready; /* an identity to invite, and an invitation for it */
	struct outcome set_properties, invite, issue, parse, join;
};

static void do_try_invitations(const void *in, void *out)
{
	const struct call *call = in;
	struct invitation_outcomes *outcomes = out;
	GUID roles[] = {PEER_GROUP_ROLE_MEMBER};

	outcomes->ready = PeerIdentityCreate(u"guest", u"Guest", 0, &attempt_guest);
	if (outcomes->ready == S_OK)
		outcomes->ready = PeerIdentityGetXML(attempt_guest, &attempt_guest_xml);
	if (outcomes->ready == S_OK)
		outcomes->ready = PeerGroupCreateInvitation(
			call->group, attempt_guest_xml, NULL, 1, roles, &attempt_invitation);
	if (outcomes->ready == S_OK)
		outcomes->ready = PeerGroupParseInvitation(attempt_invitation, &attempt_info);
	if (outcomes->ready != S_OK)
		return;
	try_all(attempt_set_properties, call, &outcomes->set_properties);
	try_all(attempt_invite, call, &outcomes->invite);
	try_all(attempt_parse, call, &outcomes->parse);
	try_all(attempt_join, call, &outcomes->join);
	try_all(attempt_issue, call, &outcomes->issue);
	PeerFreeData(attempt_info);
	PeerFreeData(attempt_invitation);
	PeerFreeData(attempt_guest_xml);
	(void)PeerIdentityDelete(attempt_guest);
	PeerFreeData(attempt_guest);
}

static HANDLE attempt_event;

static HRESULT attempt_register(const struct call *call)
{
	GUID filter = {1, 2, 3, {4}};
	PEER_GROUP_EVENT_REGISTRATION entries[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL},
		{PEER_GROUP_EVENT_NEIGHBOR_CONNECTION, NULL},
		{PEER_GROUP_EVENT_MEMBER_CHANGED, NULL},
		{PEER_GROUP_EVENT_INCOMING_DATA, &filter},
	};
	HPEEREVENT handle;
	HRESULT result;

	if (attempt_event == NULL)
		attempt_event = CreateEvent(NULL, FALSE, FALSE, NULL);
	result = PeerGroupRegisterEvent(call->group, attempt_event, 4, entries, &handle);
	return result == S_OK ? PeerGroupUnregisterEvent(handle) : result;
}
ATTEMPT(register)

static HRESULT attempt_enum_connections(const struct call *call)
{
	HPEERENUM enumeration;
	ULONG count = 10;
	PVOID *items;
	HRESULT result = PeerGroupEnumConnections(
		call->group, PEER_CONNECTION_NEIGHBOR | PEER_CONNECTION_DIRECT, &enumeration);

	if (result != S_OK)
		return result;
	result = PeerGetNextItem(enumeration, &count, &items);
	if (result == S_OK)
		PeerFreeData(items);
	(void)PeerEndEnumeration(enumeration);
	return result;
}
ATTEMPT(enum_connections)

static HRESULT attempt_enum_members(const struct call *call)
{
	HPEERENUM enumeration;
	ULONG count = 10;
	PVOID *items;
	HRESULT result = PeerGroupEnumMembers(call->group, 0, NULL, &enumeration);

	if (result != S_OK)
		return result;
	result = PeerGetNextItem(enumeration, &count, &items);
	if (result == S_OK)
		PeerFreeData(items);
	(void)PeerEndEnumeration(enumeration);
	return result;
}
ATTEMPT(enum_members)

static HRESULT attempt_properties(const struct call *call)
{
	PEER_GROUP_PROPERTIES *properties;
	HRESULT result = PeerGroupGetProperties(call->group, &properties);

	if (result == S_OK)
		PeerFreeData(properties);
	return result;
}
ATTEMPT(properties)

static PEER_ADDRESS attempt_address;

/* What cannot be opened leaves no event behind; what can is cancelled, and its FAILED taken. */
static HRESULT attempt_open_direct(const struct call *call)
{
	ULONGLONG id = 7;
	HRESULT result =
		PeerGroupOpenDirectConnection(call->group, call->identity, &attempt_address, &id);

	if (result != S_OK)
		return id == 0 ? result : E_FAIL;
	return PeerGroupCloseDirectConnection(call->group, id);
}

static void do_try_open_direct(const void *in, void *out)
{
	const struct open_request *request = in;
	struct call call = {.group = request->group};

	attempt_address = request->address;
	wide_copy(call.identity, request->identity, NAME_UNITS);
	try_all(attempt_open_direct, &call, out);
}

static ULONGLONG attempt_id;

static HRESULT attempt_send(const struct call *call)
{
	static uint8_t data[3000];

	return PeerGroupSendData(call->group, attempt_id, &test_type, sizeof(data), data);
}

static void do_try_send(const void *in, void *out)
{
	const struct id_request *request = in;
	struct call call = {.group = request->group};

	attempt_id = request->id;
	try_all(attempt_send, &call, out);
}

/* Close takes no memory at all: with every allocation failing it works. */
static void do_close_without_memory(const void *in, void *out)
{
	const struct id_request *request = in;

	failing_in = 1;
	*(HRESULT *)out = PeerGroupCloseDirectConnection(request->group, request->id);
	if (failing_in != 1)
		*(HRESULT *)out = E_FAIL; /* it asked */
	failing_in = 0;
}

/* GetEventData without memory keeps the event. CONNECTED and the last event need none. */
static void do_take_without_memory(const void *in, void *out)
{
	HPEEREVENT handle = *(const HPEEREVENT *)in;
	struct results *answer = out;
	PEER_GROUP_EVENT_DATA *data;

	failing_in = 1;
	answer->list[0] = PeerGroupGetEventData(handle, &data);
	answer->list[1] = failing_in == 0 && data == NULL ? S_OK : E_FAIL;
	failing_in = 0;
	answer->list[2] = PeerGroupGetEventData(handle, &data);
	PeerFreeData(data);
}

/* ---- tests -------------------------------------------------------------------------------- */

static struct outcome agent_try(const struct agent *agent, agent_function function, PCWSTR name)
{
	struct call call = {.group = agent->group};
	struct outcome outcome;

	wide_copy(call.name, name, NAME_UNITS);
	agent_call(agent, function, &call, &outcome);
	return outcome;
}

static void start_and_end(void **state)
{
	struct outcome outcome;
	char none = 0;

	(void)state;
	agent_call(&carol, do_try_startup, &none, &outcome);
	if (outcome.wrong != S_OK)
		fail_msg("allocation %u: %s", outcome.wrong_at, PeerhubResultName(outcome.wrong));
	assert_true(outcome.failed > 0);
	assert_result(outcome.after, E_OUTOFMEMORY); /* at least once */
	assert_result(agent_startup(&carol), S_OK);
	assert_result(agent_shutdown(&carol), S_OK);
}

static void open_of_a_group(void **state)
{
	struct outcome outcome;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	outcome = agent_try(&alice, do_try_open, name);
	assert_outcome(&outcome);
}

static void creation_of_a_group(void **state)
{
	struct outcome outcome;

	(void)state;
	outcome = agent_try(&alice, do_try_create, NULL);
	assert_outcome(&outcome);
	assert_true(outcome.told > 0);
}

static void invitations_and_joins(void **state)
{
	struct invitation_outcomes outcomes;
	struct call call = {0};
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	call.group = alice.group;
	agent_call(&alice, do_try_invitations, &call, &outcomes);
	assert_result(outcomes.ready, S_OK);
	assert_outcome(&outcomes.set_properties);
	assert_outcome(&outcomes.invite);
	assert_outcome(&outcomes.parse);
	assert_outcome(&outcomes.join);
	assert_outcome(&outcomes.issue);
	assert_true(outcomes.issue.told > 0);
	assert_true(outcomes.set_properties.told > 0);
	assert_true(outcomes.invite.told > 0);
	assert_true(outcomes.parse.told > 0);
	assert_true(outcomes.join.told > 0);
}

/* Registrations take room for every connection there is, or nothing. */
static void register_with_connections(void **state)
{
	struct outcome outcome;
	struct pair pair;

	(void)state;
	world_make(&alice, &bob);
	for (int turn = 0; turn < 3; turn++)
		pair = pair_open(&bob, &alice);
	outcome = agent_try(&alice, do_try_register, NULL);
	assert_outcome(&outcome);
	assert_true(outcome.failed >= 12);
	assert_result(agent_send(&bob, pair.from, 10, 1), S_OK);
	(void)agent_data_event(&alice, pair.to);
}

static void enumerations_and_properties(void **state)
{
	struct outcome outcome;

	(void)state;
	world_make(&alice, &bob);
	(void)pair_open(&bob, &alice);
	outcome = agent_try(&alice, do_try_enum_connections, NULL);
	assert_outcome(&outcome);
	outcome = agent_try(&alice, do_try_enum_members, NULL);
	assert_outcome(&outcome);
	outcome = agent_try(&alice, do_try_properties, NULL);
	assert_outcome(&outcome);
}

/* Each attempt that was started has its one FAILED, those that were not have none. */
static void open_of_a_connection(void **state)
{
	struct open_request request;
	struct outcome outcome;
	int fd;

	(void)state;
	world_make(&alice, &bob);
	memset(&request, 0, sizeof(request));
	fd = silent_listen(&request.address);
	request.group = bob.group;
	wide_copy(request.identity, alice.identity, NAME_UNITS);
	agent_call(&bob, do_try_open_direct, &request, &outcome);
	if (outcome.wrong != S_OK)
		fail_msg("allocation %u: %s", outcome.wrong_at, PeerhubResultName(outcome.wrong));
	assert_true(outcome.failed > 3);
	assert_result(outcome.after, S_OK);
	/* At least the first, the one that needed no more, and the last. */
	for (int turn = 0; turn < 3; turn++) {
		struct event event = agent_direct_event(&bob, PEER_CONNECTION_FAILED);

		assert_result(event.reason, PEER_E_CONNECTION_FAILED);
	}
	close(fd);
}

static void send_of_a_message(void **state)
{
	struct id_request request;
	struct outcome outcome;
	struct pair pair;

	(void)state;
	world_make(&alice, &bob);
	pair = pair_open(&bob, &alice);
	request = (struct id_request){bob.group, pair.from};
	agent_call(&bob, do_try_send, &request, &outcome);
	if (outcome.wrong != S_OK)
		fail_msg("allocation %u: %s", outcome.wrong_at, PeerhubResultName(outcome.wrong));
	assert_result(outcome.after, S_OK);
	/* The first, the one that needed no more, the last; a failed one sends nothing. */
	for (int turn = 0; turn < 3; turn++)
		assert_int_equal(agent_data_event(&alice, pair.to).bytes, 3000);
	assert_no_event(&alice, alice.events);
}

static void close_needs_no_memory(void **state)
{
	struct id_request request;
	struct pair pair;
	HRESULT result;

	(void)state;
	world_make(&alice, &bob);
	pair = pair_open(&bob, &alice);
	request = (struct id_request){bob.group, pair.from};
	agent_call(&bob, do_close_without_memory, &request, &result);
	assert_result(result, S_OK);
	assert_int_equal(agent_direct_event(&bob, PEER_DISCONNECTED).id, pair.from);
	assert_int_equal(agent_direct_event(&alice, PEER_DISCONNECTED).id, pair.to);
}

static void taking_an_event_keeps_it_when_memory_is_short(void **state)
{
	struct results results;
	HPEEREVENT members, witness;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_result(agent_register_types(&alice, alice.group,
			      TYPE_BIT(PEER_GROUP_EVENT_MEMBER_CHANGED), &members),
		S_OK);
	assert_result(agent_register_types(&alice, alice.group,
			      TYPE_BIT(PEER_GROUP_EVENT_STATUS_CHANGED), &witness),
		S_OK);
	world_join(&alice, &bob, 0);
	world_enter(&alice, &bob);
	agent_register_direct(&alice);
	(void)agent_event(&alice, witness); /* the status comes after the member */
	agent_call(&alice, do_take_without_memory, &members, &results);
	assert_results(results, E_OUTOFMEMORY, S_OK, S_OK);
}

static int agents_setup(void **state)
{
	(void)state;
	assert_result(agent_startup(&alice), S_OK);
	assert_result(agent_startup(&bob), S_OK);
	agent_identity(&alice, u"Alice");
	agent_identity(&bob, u"Bob");
	return 0;
}

static int leave(void **state)
{
	(void)state;
	agent_leave(&bob);
	agent_leave(&alice);
	return 0;
}

#define M(test) cmocka_unit_test_teardown(test, leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		M(start_and_end),
		M(open_of_a_group),
		M(creation_of_a_group),
		M(invitations_and_joins),
		M(register_with_connections),
		M(enumerations_and_properties),
		M(open_of_a_connection),
		M(send_of_a_message),
		M(close_needs_no_memory),
		M(taking_an_event_keeps_it_when_memory_is_short),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	agent_start(&alice, "alice", "[::1]:0");
	agent_start(&bob, "bob", "[::1]:0");
	agent_start(&carol, "carol", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&alice);
	failures += agent_stop(&bob);
	failures += agent_stop(&carol);
	return failures;
}
