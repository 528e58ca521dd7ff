/*
 * Recommendations A1 to A20 for direct connections, each with a test named after it. Two processes,
 * two stores, the real engine, the kernel's loopback.
 */
#include "tests/api/p2p_test.h"

static struct agent alice, bob; /* alice founds every group and listens; bob joins */

static int world_setup(void **state)
{
	(void)state;
	world_make(&alice, &bob);
	return 0;
}

static int world_teardown(void **state)
{
	(void)state;
	agent_leave(&bob);
	agent_leave(&alice);
	return 0;
}

/* ---- what one process does at one go ------------------------------------------------------ */

struct close_probe {
	HRESULT close, close_again, send, enumerate;
	bool is_listed;
};

/* Close, and use the id at once, before anything can have happened on the network. */
static void do_close_and_probe(const void *in, void *out)
{
	const struct id_request *request = in;
	struct close_probe *answer = out;
	struct enum_request enumerate = {
		request->group, PEER_CONNECTION_DIRECT | PEER_CONNECTION_NEIGHBOR};
	static struct enum_result connections;
	char data = 'x';

	answer->close = PeerGroupCloseDirectConnection(request->group, request->id);
	answer->send = PeerGroupSendData(request->group, request->id, &test_type, 1, &data);
	answer->close_again = PeerGroupCloseDirectConnection(request->group, request->id);
	memset(&connections, 0, sizeof(connections));
	do_enum(&enumerate, &connections);
	answer->enumerate = connections.result;
	answer->is_listed = enum_has(&connections, request->id);
}

struct send_close_result {
	struct send_result send;
	HRESULT close;
};

static void do_send_and_close(const void *in, void *out)
{
	const struct send_request *request = in;
	struct send_close_result *answer = out;

	do_send(request, &answer->send);
	answer->close = PeerGroupCloseDirectConnection(request->group, request->id);
}

static struct send_close_result agent_send_and_close(
	const struct agent *agent, ULONGLONG id, ULONG bytes, uint32_t count)
{
	struct send_request request = {
		.group = agent->group, .id = id, .type = test_type, .bytes = bytes, .count = count};
	struct send_close_result answer;

	agent_call(agent, do_send_and_close, &request, &answer);
	return answer;
}

static void expect_messages(
	const struct agent *agent, ULONGLONG id, ULONG bytes, uint32_t seed, uint32_t count)
{
	for (uint32_t index = 0; index < count; index++) {
		struct event event = agent_data_event(agent, id);

		assert_int_equal(event.bytes, bytes);
		assert_true(IsEqualGUID(&event.guid, &test_type));
		assert_true(event.sum == pattern_sum(bytes, seed + index));
	}
}

static void expect_disconnected(const struct agent *agent, ULONGLONG id)
{
	struct event event = agent_direct_event(agent, PEER_DISCONNECTED);

	assert_int_equal(event.id, id);
	assert_int_equal(event.reason, 0);
	assert_int_equal(event.next_id, 0);
}

/* ---- A1 to A20 ---------------------------------------------------------------------------- */

/* Open returns while the peer has not said a word: the attempt is under way and not listed. */
static void a01_open_is_asynchronous(void **state)
{
	PEER_ADDRESS silent;
	int fd = silent_listen(&silent);
	struct open_result opened = agent_open_direct(&bob, alice.identity, &silent);
	struct enum_result connections;

	(void)state;
	assert_result(opened.result, S_OK);
	assert_int_not_equal(opened.id, 0);
	assert_no_event(&bob, bob.events);
	connections = agent_enum(&bob, PEER_CONNECTION_DIRECT);
	assert_int_equal(connections.count, 0);
	assert_result(agent_close_direct(&bob, opened.id), S_OK);
	assert_int_equal(agent_direct_event(&bob, PEER_CONNECTION_FAILED).id, opened.id);
	close(fd);
}

/* One DISCONNECTED without a reason at every registration of the node, the closer's included. */
static void a02_close_raises_one_disconnected_at_every_registration(void **state)
{
	HPEEREVENT second;
	struct event_request request = {NULL, EVENT_LIMIT_MS};
	struct pair pair = pair_open(&bob, &alice);
	struct event event;

	(void)state;
	assert_result(agent_register_types(&bob, bob.group, TYPES_DIRECT, &second), S_OK);
	assert_result(agent_close_direct(&bob, pair.from), S_OK);
	expect_disconnected(&bob, pair.from);
	request.handle = second;
	agent_call(&bob, do_event, &request, &event);
	assert_result(event.result, S_OK);
	assert_int_equal(event.status, PEER_DISCONNECTED);
	assert_int_equal(event.id, pair.from);
	assert_int_equal(event.reason, 0);
	expect_disconnected(&alice, pair.to);
	assert_no_event(&bob, bob.events);
	assert_no_event(&bob, second);
	assert_no_event(&alice, alice.events);
	assert_result(agent_unregister(&bob, second), S_OK);
}

static void a03_id_is_dead_when_close_returns(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct id_request request = {bob.group, pair.from};
	struct close_probe probe;

	(void)state;
	agent_call(&bob, do_close_and_probe, &request, &probe);
	assert_result(probe.close, S_OK);
	assert_result(probe.send, PEER_E_CONNECTION_NOT_FOUND);
	assert_result(probe.close_again, PEER_E_CONNECTION_NOT_FOUND);
	assert_result(probe.enumerate, S_OK);
	assert_false(probe.is_listed);
	expect_disconnected(&bob, pair.from);
	expect_disconnected(&alice, pair.to);
}

/* Everything that Send accepted before Close arrives, in order, before DISCONNECTED. */
static void a04_data_before_close_is_delivered(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct send_close_result sent = agent_send_and_close(&bob, pair.from, 1000, 300);

	(void)state;
	assert_result(sent.send.result, S_OK);
	assert_int_equal(sent.send.accepted, 300);
	assert_result(sent.close, S_OK);
	expect_messages(&alice, pair.to, 1000, 0, 300);
	expect_disconnected(&alice, pair.to);
	expect_disconnected(&bob, pair.from);
}

/* What was queued as an event before a local Close can still be taken. */
static void a05_events_queued_before_local_close_stay(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	HPEEREVENT witness; /* shows that the data has come, without taking it from the other */

	(void)state;
	assert_result(agent_register_types(&alice, alice.group, TYPES_DIRECT, &witness), S_OK);
	assert_result(agent_send(&bob, pair.from, 100, 1), S_OK);
	assert_int_equal(agent_event(&alice, witness).type, PEER_GROUP_EVENT_INCOMING_DATA);
	assert_result(agent_close_direct(&alice, pair.to), S_OK);
	assert_int_equal(agent_event(&alice, witness).status, PEER_DISCONNECTED);
	expect_messages(&alice, pair.to, 100, 1, 1);
	expect_disconnected(&alice, pair.to);
	expect_disconnected(&bob, pair.from);
}

/* All that the peer sent before it closed is delivered before DISCONNECTED. */
static void a06_data_before_remote_close_is_delivered(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct send_close_result sent = agent_send_and_close(&alice, pair.to, 3000, 100);

	(void)state;
	assert_int_equal(sent.send.accepted, 100);
	assert_result(sent.close, S_OK);
	expect_messages(&bob, pair.from, 3000, 0, 100);
	expect_disconnected(&bob, pair.from);
	expect_disconnected(&alice, pair.to);
}

/* Close of an attempt: S_OK, one FAILED, no CONNECTED, nothing else. */
static void a07_close_on_attempt_in_progress(void **state)
{
	PEER_ADDRESS silent;
	int fd = silent_listen(&silent);
	struct open_result opened = agent_open_direct(&bob, alice.identity, &silent);
	struct event event;

	(void)state;
	assert_result(opened.result, S_OK);
	assert_result(agent_close_direct(&bob, opened.id), S_OK);
	assert_result(agent_close_direct(&bob, opened.id), PEER_E_CONNECTION_NOT_FOUND);
	event = agent_direct_event(&bob, PEER_CONNECTION_FAILED);
	assert_int_equal(event.id, opened.id);
	assert_int_equal(event.node_id, 0);
	assert_int_equal(event.next_id, 0);
	assert_result(event.reason, PEER_E_CONNECTION_FAILED);
	assert_no_event(&bob, bob.events);
	close(fd);
}

/* NOT_FOUND from the moment that the last event is queued, not only when it is taken. */
static void a08_close_after_the_end_is_not_found(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	HPEEREVENT witness;

	(void)state;
	assert_result(agent_register_types(&bob, bob.group, TYPES_DIRECT, &witness), S_OK);
	assert_result(agent_close_direct(&alice, pair.to), S_OK);
	assert_result(agent_close_direct(&alice, pair.to), PEER_E_CONNECTION_NOT_FOUND);
	/* Once the witness has it, DISCONNECTED is queued or being queued and not taken. */
	assert_int_equal(agent_event(&bob, witness).status, PEER_DISCONNECTED);
	assert_result(agent_close_direct(&bob, pair.from), PEER_E_CONNECTION_NOT_FOUND);
	expect_disconnected(&bob, pair.from);
	assert_result(agent_close_direct(&bob, pair.from), PEER_E_CONNECTION_NOT_FOUND);
	assert_no_event(&bob, bob.events);
}

struct live_result {
	HRESULT result;
	uint64_t live;
};

/* How many connections the engine has; waits (bounded) until there are no more than wanted. */
static void do_live(const void *in, void *out)
{
	const struct id_request *request = in; /* id: wanted */
	struct live_result *answer = out;
	struct ph_statistics stats;
	struct ph_hub *hub;
	uint64_t tag;

	answer->result = PeerhubGroupNative(request->group, &hub, &tag);
	if (FAILED(answer->result))
		return;
	for (int turn = 0; turn < 3000; turn++) {
		const struct timespec pause = {0, 10000000};

		ph_stats(hub, &stats);
		if (stats.live <= request->id)
			break;
		nanosleep(&pause, NULL);
	}
	answer->live = stats.live;
}

/* The opener never closes; what the peer ended is given back all the same. */
static void a09_ended_connections_are_reclaimed(void **state)
{
	struct id_request request = {bob.group, 1};
	struct live_result live;

	(void)state;
	for (int turn = 0; turn < 20; turn++) {
		struct pair pair = pair_open(&bob, &alice);

		assert_result(agent_close_direct(&alice, pair.to), S_OK);
		expect_disconnected(&alice, pair.to);
		expect_disconnected(&bob, pair.from);
		assert_result(agent_close_direct(&bob, pair.from), PEER_E_CONNECTION_NOT_FOUND);
	}
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_DIRECT).count, 0);
	agent_call(&bob, do_live, &request, &live);
	assert_result(live.result, S_OK);
	assert_int_equal(live.live, 1); /* the neighbor */
}

/* A neighbor connection is not found by Close, on either side, and stays. */
static void a10_close_of_neighbor_id_is_not_found(void **state)
{
	const struct agent *agents[] = {&alice, &bob};

	(void)state;
	for (size_t index = 0; index < 2; index++) {
		struct enum_result neighbors = agent_enum(agents[index], PEER_CONNECTION_NEIGHBOR);
		ULONGLONG id = neighbors.items[0].id;

		assert_int_equal(neighbors.count, 1);
		assert_int_equal(neighbors.items[0].flags, PEER_CONNECTION_NEIGHBOR);
		assert_result(agent_close_direct(agents[index], id), PEER_E_CONNECTION_NOT_FOUND);
		neighbors = agent_enum(agents[index], PEER_CONNECTION_NEIGHBOR);
		assert_true(enum_has(&neighbors, id));
	}
	/* Send tries both kinds: the link still carries data. */
	assert_result(
		agent_send(&bob, agent_enum(&bob, PEER_CONNECTION_NEIGHBOR).items[0].id, 10, 7),
		S_OK);
	assert_int_equal(agent_event(&alice, alice.events).type, PEER_GROUP_EVENT_INCOMING_DATA);
}

static void a11_ids_are_not_zero_and_never_come_again(void **state)
{
	ULONGLONG seen[40];

	(void)state;
	for (size_t turn = 0; turn < 20; turn++) {
		struct pair pair = pair_open(&bob, &alice);
		PEER_ADDRESS dead = dead_address();

		seen[2 * turn] = pair.from;
		assert_result(agent_close_direct(&bob, pair.from), S_OK);
		expect_disconnected(&bob, pair.from);
		expect_disconnected(&alice, pair.to);
		seen[2 * turn + 1] = agent_open_direct(&bob, alice.identity, &dead).id;
		assert_int_equal(
			agent_direct_event(&bob, PEER_CONNECTION_FAILED).id, seen[2 * turn + 1]);
	}
	for (size_t left = 0; left < 40; left++) {
		assert_int_not_equal(seen[left], 0);
		for (size_t right = left + 1; right < 40; right++)
			assert_int_not_equal(seen[left], seen[right]);
	}
}

/* Each side has an id of its own, and only that one means anything there. */
static void a12_ids_are_independent_per_side(void **state)
{
	struct pair first = pair_open(&bob, &alice), second = pair_open(&alice, &bob);
	struct enum_result at_bob = agent_enum(&bob, PEER_CONNECTION_DIRECT);
	struct enum_result at_alice = agent_enum(&alice, PEER_CONNECTION_DIRECT);

	(void)state;
	assert_int_equal(at_bob.count, 2);
	assert_int_equal(at_alice.count, 2);
	assert_true(enum_has(&at_bob, first.from) && enum_has(&at_bob, second.to));
	assert_true(enum_has(&at_alice, first.to) && enum_has(&at_alice, second.from));
	assert_result(agent_close_direct(&bob, first.from), S_OK);
	expect_disconnected(&bob, first.from);
	expect_disconnected(&alice, first.to);
	at_alice = agent_enum(&alice, PEER_CONNECTION_DIRECT);
	assert_int_equal(at_alice.count, 1);
	assert_true(enum_has(&at_alice, second.from));
}

static void a13_send_before_connected_is_not_found(void **state)
{
	PEER_ADDRESS silent;
	int fd = silent_listen(&silent);
	struct open_result opened = agent_open_direct(&bob, alice.identity, &silent);

	(void)state;
	assert_result(opened.result, S_OK);
	assert_result(agent_send(&bob, opened.id, 4, 1), PEER_E_CONNECTION_NOT_FOUND);
	assert_result(agent_close_direct(&bob, opened.id), S_OK);
	assert_result(
		agent_direct_event(&bob, PEER_CONNECTION_FAILED).reason, PEER_E_CONNECTION_FAILED);
	close(fd);
}

struct send_probe {
	HRESULT no_data, no_type, ping, too_large;
};

static void do_send_probe(const void *in, void *out)
{
	static const GUID ping = {
		0x0ccbb0d2, 0xbe41, 0x4bd6, {0x91, 0x4b, 0x05, 0x8e, 0xc5, 0xdc, 0xce, 0x64}};
	const struct id_request *request = in;
	struct send_probe *answer = out;
	char data = 'x';

	answer->no_data = PeerGroupSendData(request->group, request->id, &test_type, 0, NULL);
	answer->no_type = PeerGroupSendData(request->group, request->id, NULL, 1, &data);
	answer->ping = PeerGroupSendData(request->group, request->id, &ping, 1, &data);
	answer->too_large = PeerGroupSendData(
		request->group, request->id, &test_type, PEERHUB_MESSAGE_BYTES_MAX + 1, &data);
}

static void a14_empty_message(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct id_request request = {bob.group, pair.from};
	struct send_probe probe;
	struct event event;

	(void)state;
	agent_call(&bob, do_send_probe, &request, &probe);
	assert_result(probe.no_data, E_INVALIDARG);
	assert_result(probe.no_type, E_INVALIDARG);
	assert_result(agent_send(&bob, pair.from, 0, 0), S_OK);
	event = agent_data_event(&alice, pair.to); /* its pbData is not NULL */
	assert_int_equal(event.bytes, 0);
}

/* Above the published limit: E_INVALIDARG. A message larger than the queue goes into an empty one. */
static void a15_large_messages(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct id_request request = {bob.group, pair.from};
	struct send_probe probe;

	(void)state;
	agent_call(&bob, do_send_probe, &request, &probe);
	assert_result(probe.too_large, E_INVALIDARG);
	assert_int_equal(PEERHUB_MESSAGE_BYTES_MAX, 64u << 20);
	assert_result(agent_send(&bob, pair.from, 5u << 20, 5), S_OK);
	expect_messages(&alice, pair.to, 5u << 20, 5, 1);
	assert_result(agent_send(&bob, pair.from, 1, 6), S_OK);
	expect_messages(&alice, pair.to, 1, 6, 1);
}

/* A peer that does not read fills a bounded queue; then Send fails, never blocks, and nothing that
 * was accepted is lost. */
static void a16_full_queue_is_out_of_memory_and_keeps_the_connection(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct send_result sent = agent_send_many(&bob, pair.from, 65536, 0, 4096);
	uint32_t next;

	(void)state;
	assert_result(sent.result, E_OUTOFMEMORY);
	assert_true(sent.accepted > 0);
	expect_messages(&alice, pair.to, 65536, 0, sent.accepted);
	/* Everything was taken, so there is room again, at the latest when the last of it is known
	 * to have arrived. */
	next = sent.accepted;
	for (int turn = 0; turn < 6000; turn++) {
		const struct timespec pause = {0, 5000000};
		HRESULT result = agent_send(&bob, pair.from, 65536, next);

		if (result == S_OK)
			break;
		assert_result(result, E_OUTOFMEMORY);
		nanosleep(&pause, NULL);
	}
	expect_messages(&alice, pair.to, 65536, next, 1);
}

static void a17_ping_type_is_refused(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct id_request request = {bob.group, pair.from};
	struct send_probe probe;

	(void)state;
	agent_call(&bob, do_send_probe, &request, &probe);
	assert_result(probe.ping, E_INVALIDARG);
	assert_no_event(&alice, alice.events);
}

struct handle_probe {
	HRESULT open, close, send, enumerate;
	ULONGLONG id;
	HPEERENUM enumeration;
};

/* All four functions with one handle and, if asked, with arguments that are wrong too. */
struct handle_probe_request {
	HGROUP group;
	bool is_wrong;
};

static void do_handle_probe(const void *in, void *out)
{
	const struct handle_probe_request *request = in;
	struct handle_probe *answer = out;
	PEER_ADDRESS address = {.dwSize = sizeof(address)};
	char data = 'x';
	WCHAR name[] = u"0000000000000000000000000000000000000001.x";

	address.sin6.sin6_family = AF_INET6;
	address.sin6.sin6_addr = in6addr_loopback;
	address.sin6.sin6_port = htons(9);
	answer->id = 77;
	answer->enumeration = (HPEERENUM)(uintptr_t)77;
	if (request->is_wrong) {
		answer->open =
			PeerGroupOpenDirectConnection(request->group, NULL, NULL, &answer->id);
		answer->close = PeerGroupCloseDirectConnection(request->group, 0);
		answer->send = PeerGroupSendData(request->group, 0, NULL, 0, NULL);
		answer->enumerate =
			PeerGroupEnumConnections(request->group, 0, &answer->enumeration);
		return;
	}
	answer->open = PeerGroupOpenDirectConnection(request->group, name, &address, &answer->id);
	answer->close = PeerGroupCloseDirectConnection(request->group, 12345);
	answer->send = PeerGroupSendData(request->group, 12345, &test_type, 1, &data);
	answer->enumerate = PeerGroupEnumConnections(
		request->group, PEER_CONNECTION_DIRECT, &answer->enumeration);
	if (SUCCEEDED(answer->enumerate))
		(void)PeerEndEnumeration(answer->enumeration);
}

static struct handle_probe agent_handle_probe(
	const struct agent *agent, HGROUP group, bool is_wrong)
{
	struct handle_probe_request request = {group, is_wrong};
	struct handle_probe answer;

	agent_call(agent, do_handle_probe, &request, &answer);
	return answer;
}

static void a18_bad_group_in_all_four_functions(void **state)
{
	HGROUP bad[] = {NULL, (HGROUP)(uintptr_t)1, (HGROUP)(uintptr_t)-1, (HGROUP)bob.events,
		alice.group == bob.group ? NULL : alice.group};

	(void)state;
	for (size_t index = 0; index < sizeof(bad) / sizeof(*bad); index++) {
		struct handle_probe probe = agent_handle_probe(&bob, bad[index], false);

		assert_result(probe.open, PEER_E_INVALID_GROUP);
		assert_result(probe.close, PEER_E_INVALID_GROUP);
		assert_result(probe.send, PEER_E_INVALID_GROUP);
		assert_result(probe.enumerate, PEER_E_INVALID_GROUP);
		assert_int_equal(probe.id, 0);
		assert_null(probe.enumeration);
	}
}

/* Every PeerGroup* function, before anything else about it is looked at. */
static void do_not_started(const void *in, void *out)
{
	HGROUP group = *(const HGROUP *)in;
	uint32_t *failures = out;
	HGROUP made;
	HPEEREVENT event;
	HPEERENUM enumeration;
	PEER_GROUP_EVENT_DATA *data;
	PEER_GROUP_PROPERTIES *properties;
	PEER_INVITATION_INFO *info;
	FILETIME time = {0, 0};
	DWORD status;
	ULONGLONG id;
	PWSTR text;
	const HRESULT results[] = {
		PeerGroupShutdown(),
		PeerGroupCreate(NULL, &made),
		PeerGroupOpen(NULL, NULL, NULL, &made),
		PeerGroupJoin(NULL, NULL, NULL, &made),
		PeerGroupConnect(group),
		PeerGroupConnectByAddress(group, 0, NULL),
		PeerGroupClose(group),
		PeerGroupDelete(NULL, NULL),
		PeerGroupGetStatus(group, &status),
		PeerGroupGetProperties(group, &properties),
		PeerGroupSetProperties(group, NULL),
		PeerGroupCreateInvitation(group, NULL, NULL, 0, NULL, &text),
		PeerGroupParseInvitation(NULL, &info),
		PeerGroupIssueCredentials(group, NULL, NULL, 0, &text),
		PeerGroupEnumMembers(group, 0, NULL, &enumeration),
		PeerGroupOpenDirectConnection(group, NULL, NULL, &id),
		PeerGroupCloseDirectConnection(group, 0),
		PeerGroupEnumConnections(group, 0, &enumeration),
		PeerGroupSendData(group, 0, NULL, 0, NULL),
		PeerGroupRegisterEvent(group, NULL, 0, NULL, &event),
		PeerGroupUnregisterEvent(NULL),
		PeerGroupGetEventData(NULL, &data),
		PeerGroupPeerTimeToUniversalTime(group, &time, &time),
		PeerGroupUniversalTimeToPeerTime(group, &time, &time),
	};

	for (size_t index = 0; index < sizeof(results) / sizeof(*results); index++)
		if (results[index] != PEER_E_NOT_INITIALIZED) {
			fprintf(stderr, "function %zu: %s\n", index,
				PeerhubResultName(results[index]));
			(*failures)++;
		}
}

static void a19_not_started_is_not_initialized(void **state)
{
	HGROUP group = bob.group;
	uint32_t failures;

	(void)state;
	agent_leave(&bob);
	assert_result(agent_shutdown(&bob), S_OK);
	agent_call(&bob, do_not_started, &group, &failures);
	assert_int_equal(failures, 0);
	assert_result(agent_startup(&bob), S_OK);
}

/* Started, handle, arguments, state, keys. */
static void a20_order_of_checks(void **state)
{
	struct handle_probe probe;
	WCHAR name[NAME_UNITS];

	(void)state;
	/* A bad handle is told before bad arguments. */
	probe = agent_handle_probe(&bob, (HGROUP)(uintptr_t)77, true);
	assert_result(probe.open, PEER_E_INVALID_GROUP);
	assert_result(probe.close, PEER_E_INVALID_GROUP);
	assert_result(probe.send, PEER_E_INVALID_GROUP);
	assert_result(probe.enumerate, PEER_E_INVALID_GROUP);
	/* Bad arguments before the state: this group is offline. */
	agent_leave(&bob);
	{
		struct create_result *answer = calloc(1, sizeof(*answer));

		assert_non_null(answer);
		agent_call(&bob, do_create, &bob.identity, answer);
		assert_result(answer->result, S_OK);
		bob.group = answer->group;
		wide_copy(name, answer->name, NAME_UNITS);
		free(answer);
	}
	probe = agent_handle_probe(&bob, bob.group, true);
	assert_result(probe.open, E_INVALIDARG);
	assert_result(probe.close, PEER_E_CONNECTION_NOT_FOUND);
	assert_result(probe.send, E_INVALIDARG);
	assert_result(probe.enumerate, E_INVALIDARG);
	probe = agent_handle_probe(&bob, bob.group, false);
	assert_result(probe.open, PEER_E_GROUP_NOT_READY);
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

#define A(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		A(a01_open_is_asynchronous),
		A(a02_close_raises_one_disconnected_at_every_registration),
		A(a03_id_is_dead_when_close_returns),
		A(a04_data_before_close_is_delivered),
		A(a05_events_queued_before_local_close_stay),
		A(a06_data_before_remote_close_is_delivered),
		A(a07_close_on_attempt_in_progress),
		A(a08_close_after_the_end_is_not_found),
		A(a09_ended_connections_are_reclaimed),
		A(a10_close_of_neighbor_id_is_not_found),
		A(a11_ids_are_not_zero_and_never_come_again),
		A(a12_ids_are_independent_per_side),
		A(a13_send_before_connected_is_not_found),
		A(a14_empty_message),
		A(a15_large_messages),
		A(a16_full_queue_is_out_of_memory_and_keeps_the_connection),
		A(a17_ping_type_is_refused),
		A(a18_bad_group_in_all_four_functions),
		A(a19_not_started_is_not_initialized),
		A(a20_order_of_checks),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	agent_start(&alice, "alice", "[::1]:0");
	agent_start(&bob, "bob", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&alice);
	failures += agent_stop(&bob);
	return failures;
}
