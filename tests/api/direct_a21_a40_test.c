/*
 * Recommendations A21 to A40 for direct connections, each with a test named after it. Processes with
 * stores of their own, the real engine, the kernel's loopback.
 */
#include "tests/api/p2p_test.h"

#include "api/handle.h"
#include "api/registration.h"

static struct agent alice, bob; /* alice founds every group and listens; bob joins */
static struct agent carol; /* short time limits */
static struct agent dave; /* dies */

/*
 * The wall clock of this program, its agents' included: certificates expire by it. An agent moves its
 * own.
 */
static _Atomic int64_t clock_offset_s;

time_t time(time_t *out)
{
	struct timespec now;
	time_t seconds;

	clock_gettime(CLOCK_REALTIME, &now);
	seconds = now.tv_sec + clock_offset_s;
	if (out != NULL)
		*out = seconds;
	return seconds;
}

static void do_clock(const void *in, void *out)
{
	clock_offset_s = *(const int64_t *)in;
	*(char *)out = 0;
}

static void agent_clock(const struct agent *agent, int64_t offset_s)
{
	char answer;

	agent_call(agent, do_clock, &offset_s, &answer);
}

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

static void expect_event_of(const struct agent *agent, HPEEREVENT handle,
	PEER_CONNECTION_STATUS status, ULONGLONG id, HRESULT reason)
{
	struct event event = agent_event(agent, handle);

	assert_int_equal(event.type, PEER_GROUP_EVENT_DIRECT_CONNECTION);
	assert_int_equal(event.status, status);
	assert_int_equal(event.id, id);
	assert_result(event.reason, reason);
}

static void expect_failed(const struct agent *agent, struct open_result opened, HRESULT reason)
{
	assert_result(opened.result, S_OK);
	expect_event_of(agent, agent->events, PEER_CONNECTION_FAILED, opened.id, reason);
}

static void expect_disconnected(const struct agent *agent, ULONGLONG id)
{
	expect_event_of(agent, agent->events, PEER_DISCONNECTED, id, S_OK);
}

/* The group of an agent, opened once more by the same process. */
static HGROUP agent_open_again(const struct agent *agent, PCWSTR name)
{
	WCHAR wide[NAME_UNITS];
	struct handle_result answer;

	wide_copy(wide, name, NAME_UNITS);
	agent_call(agent, do_open, &wide, &answer);
	assert_result(answer.result, S_OK);
	return answer.handle;
}

static void do_group_name(const void *in, void *out)
{
	struct name_result *answer = out;
	PEER_GROUP_PROPERTIES *properties;

	answer->result = PeerGroupGetProperties(*(const HGROUP *)in, &properties);
	if (FAILED(answer->result))
		return;
	wide_copy(answer->name, properties->pwzGroupPeerName, NAME_UNITS);
	PeerFreeData(properties);
}

static void agent_group_name(const struct agent *agent, WCHAR name[NAME_UNITS])
{
	struct name_result answer;

	agent_call(agent, do_group_name, &agent->group, &answer);
	assert_result(answer.result, S_OK);
	wide_copy(name, answer.name, NAME_UNITS);
}

/* ---- A21 to A40 --------------------------------------------------------------------------- */

/* Offline: Open is NOT_READY, Send and Close find nothing, Enum is empty. */
static void a21_offline_group(void **state)
{
	WCHAR name[NAME_UNITS];
	struct open_result opened;

	(void)state;
	agent_group_name(&bob, name);
	agent_leave(&bob);
	bob.group = agent_open_again(&bob, name);
	assert_int_equal(agent_status(&bob), 0);
	opened = agent_open_direct(&bob, alice.identity, &alice.address);
	assert_result(opened.result, PEER_E_GROUP_NOT_READY);
	assert_int_equal(opened.id, 0);
	assert_result(agent_send(&bob, 4711, 1, 1), PEER_E_CONNECTION_NOT_FOUND);
	assert_result(agent_close_direct(&bob, 4711), PEER_E_CONNECTION_NOT_FOUND);
	assert_int_equal(
		agent_enum(&bob, PEER_CONNECTION_DIRECT | PEER_CONNECTION_NEIGHBOR).count, 0);
}

/* Listening alone is online enough: alice has no neighbor when bob has left. */
static void a22_one_status_flag_is_online(void **state)
{
	PEER_ADDRESS dead = dead_address();

	(void)state;
	agent_leave(&bob);
	agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING);
	expect_failed(
		&alice, agent_open_direct(&alice, bob.identity, &dead), PEER_E_CONNECTION_FAILED);
}

/* An opener without a registration learns the outcome by enumeration; an acceptor without one
 * refuses. */
static void a23_registration_at_opener_and_acceptor(void **state)
{
	struct open_result opened;
	struct enum_result connections;
	struct event event;

	(void)state;
	assert_result(agent_unregister(&bob, bob.events), S_OK);
	opened = agent_open_direct(&bob, alice.identity, &alice.address);
	assert_result(opened.result, S_OK);
	event = agent_direct_event(&alice, PEER_CONNECTED);
	/* Alice's side is open before her WELCOME is at bob. */
	connections = agent_enum_until(&bob, PEER_CONNECTION_DIRECT, 1);
	assert_true(enum_has(&connections, opened.id));
	assert_result(agent_close_direct(&alice, event.id), S_OK);
	expect_disconnected(&alice, event.id);
	/* A registration made earlier would be told the end. */
	assert_int_equal(agent_enum_until(&bob, PEER_CONNECTION_DIRECT, 0).count, 0);

	agent_register_direct(&bob);
	assert_result(agent_unregister(&alice, alice.events), S_OK);
	expect_failed(&bob, agent_open_direct(&bob, alice.identity, &alice.address),
		PEER_E_CONNECTION_REFUSED);
	agent_register_direct(&alice);
}

/* Any registration of the acceptor's node counts, whichever handle has it. */
static void a24_acceptor_with_two_handles(void **state)
{
	WCHAR name[NAME_UNITS];
	HGROUP second;
	HPEEREVENT events;
	struct open_result opened;

	(void)state;
	agent_group_name(&alice, name);
	second = agent_open_again(&alice, name);
	assert_result(agent_unregister(&alice, alice.events), S_OK);
	assert_result(agent_register_types(&alice, second, TYPES_DIRECT, &events), S_OK);
	opened = agent_open_direct(&bob, alice.identity, &alice.address);
	expect_event_of(&bob, bob.events, PEER_CONNECTED, opened.id, S_OK);
	assert_int_equal(agent_event(&alice, events).status, PEER_CONNECTED);
	assert_result(agent_unregister(&alice, events), S_OK);
	assert_result(agent_group_call(&alice, do_close, second), S_OK);
	/* The connection is the node's, and alice's first handle is still open. */
	assert_int_equal(agent_enum(&alice, PEER_CONNECTION_DIRECT).count, 1);
	agent_register_direct(&alice);
}

/* Every matching registration has its own copy, filters included; without any, connections stay and
 * new ones are refused. */
static void a25_events_go_to_every_registration(void **state)
{
	struct register_request filtered = {.group = alice.group,
		.types = TYPES_DIRECT,
		.has_filter = true,
		.filter = other_type};
	struct handle_result other;
	HPEEREVENT second;
	struct pair pair;
	struct event event;

	(void)state;
	assert_result(agent_register_types(&alice, alice.group, TYPES_DIRECT, &second), S_OK);
	agent_call(&alice, do_register, &filtered, &other);
	assert_result(other.result, S_OK);
	pair = pair_open(&bob, &alice);
	expect_event_of(&alice, second, PEER_CONNECTED, pair.to, S_OK);
	expect_event_of(&alice, other.handle, PEER_CONNECTED, pair.to, S_OK);
	assert_result(agent_send(&bob, pair.from, 500, 9), S_OK);
	event = agent_data_event(&alice, pair.to);
	assert_true(event.sum == pattern_sum(500, 9));
	event = agent_event(&alice, second);
	assert_int_equal(event.type, PEER_GROUP_EVENT_INCOMING_DATA);
	assert_true(event.sum == pattern_sum(500, 9));
	assert_no_event(&alice, other.handle);

	assert_result(agent_unregister(&alice, second), S_OK);
	assert_result(agent_unregister(&alice, other.handle), S_OK);
	assert_result(agent_unregister(&alice, alice.events), S_OK);
	assert_int_equal(agent_enum(&alice, PEER_CONNECTION_DIRECT).count, 1);
	expect_failed(&bob, agent_open_direct(&bob, alice.identity, &alice.address),
		PEER_E_CONNECTION_REFUSED);
	assert_result(agent_send(&alice, pair.to, 5, 1), S_OK);
	(void)agent_data_event(&bob, pair.from);
	/* A new registration has room for what is live: it gets the end of it. */
	agent_register_direct(&alice);
	assert_result(agent_close_direct(&bob, pair.from), S_OK);
	expect_disconnected(&alice, pair.to);
}

/* Our own identity anywhere, anybody at our own address. */
static void a26_connect_self(void **state)
{
	PEER_ADDRESS windows = alice.address;
	struct open_result opened;

	(void)state;
	opened = agent_open_direct(&alice, alice.identity, &bob.address);
	assert_result(opened.result, PEER_E_CONNECT_SELF);
	assert_int_equal(opened.id, 0);
	opened = agent_open_direct(&alice, bob.identity, &alice.address);
	assert_result(opened.result, PEER_E_CONNECT_SELF);
	windows.sin6.sin6_family = 23;
	opened = agent_open_direct(&alice, bob.identity, &windows);
	assert_result(opened.result, PEER_E_CONNECT_SELF);
	assert_no_event(&alice, alice.events);
}

static void a27_several_connections_between_two_nodes(void **state)
{
	struct pair pairs[5];

	(void)state;
	for (size_t index = 0; index < 5; index++)
		pairs[index] = pair_open(&bob, &alice);
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_DIRECT).count, 5);
	assert_int_equal(agent_enum(&alice, PEER_CONNECTION_DIRECT).count, 5);
	for (size_t index = 0; index < 5; index++) {
		assert_result(agent_send(&bob, pairs[index].from, 10, (uint32_t)index), S_OK);
		assert_true(agent_data_event(&alice, pairs[index].to).sum ==
			pattern_sum(10, (uint32_t)index));
	}
}

/* As if so many connections had ended unread that there is no room for more. */
static void do_exhaust(const void *in, void *out)
{
	const struct event_request *request = in; /* limit_ms: the count to add or take */
	struct registration *registration = handle_get(HANDLE_PEER_EVENT, request->handle);

	*(char *)out = registration != NULL;
	if (registration == NULL)
		return;
	pthread_mutex_lock(&registration->lock);
	registration->ended_count += request->limit_ms;
	pthread_mutex_unlock(&registration->lock);
	handle_put(request->handle);
}

/* No limit of the API's own; without room for the events of one more: REFUSED at the opener, and
 * E_OUTOFMEMORY for our own attempt. */
static void a28_resource_limit_refuses(void **state)
{
	struct event_request more = {alice.events, EVENT_ENDED_MAX};
	struct event_request less = {alice.events, (DWORD)-EVENT_ENDED_MAX};
	struct open_result opened;
	char answer;

	(void)state;
	agent_call(&alice, do_exhaust, &more, &answer);
	expect_failed(&bob, agent_open_direct(&bob, alice.identity, &alice.address),
		PEER_E_CONNECTION_REFUSED);
	opened = agent_open_direct(&alice, bob.identity, &bob.address);
	assert_result(opened.result, E_OUTOFMEMORY);
	assert_int_equal(opened.id, 0);
	agent_call(&alice, do_exhaust, &less, &answer);
	(void)pair_open(&bob, &alice);
	assert_no_event(&alice, alice.events);
}

static void a29_simultaneous_opens_make_two_connections(void **state)
{
	struct open_request to_bob = {.group = alice.group, .address = bob.address};
	struct open_request to_alice = {.group = bob.group, .address = alice.address};
	struct open_result from_alice, from_bob;

	(void)state;
	wide_copy(to_bob.identity, bob.identity, NAME_UNITS);
	wide_copy(to_alice.identity, alice.identity, NAME_UNITS);
	agent_begin(&alice, do_open_direct, &to_bob, sizeof(to_bob), sizeof(from_alice));
	agent_begin(&bob, do_open_direct, &to_alice, sizeof(to_alice), sizeof(from_bob));
	agent_finish(&alice, &from_alice, sizeof(from_alice));
	agent_finish(&bob, &from_bob, sizeof(from_bob));
	assert_result(from_alice.result, S_OK);
	assert_result(from_bob.result, S_OK);
	for (int turn = 0; turn < 2; turn++) {
		(void)agent_direct_event(&alice, PEER_CONNECTED);
		(void)agent_direct_event(&bob, PEER_CONNECTED);
	}
	assert_int_equal(agent_enum(&alice, PEER_CONNECTION_DIRECT).count, 2);
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_DIRECT).count, 2);
}

/* Nobody is looked up at Open: a stranger's name is an event, a malformed one an error. */
static void a30_unknown_and_malformed_identities(void **state)
{
	static const WCHAR *const malformed[] = {u"", u"x", u"nobody.here", u".", u"0.unsecured",
		u"0123456789abcdef0123456789abcdef0123456.short",
		u"0123456789ABCDEF0123456789ABCDEF01234567.upper",
		u"0123456789abcdef0123456789abcdef01234567"};
	struct open_result opened;

	(void)state;
	opened = agent_open_direct(
		&bob, u"0123456789abcdef0123456789abcdef01234567.stranger", &alice.address);
	expect_failed(&bob, opened, PEER_E_CONNECTION_NOT_AUTHENTICATED);
	for (size_t index = 0; index < sizeof(malformed) / sizeof(*malformed); index++) {
		opened = agent_open_direct(&bob, malformed[index], &alice.address);
		assert_result(opened.result, E_INVALIDARG);
		assert_int_equal(opened.id, 0);
	}
	assert_no_event(&bob, bob.events);
}

static void a31_address_validation(void **state)
{
	PEER_ADDRESS address = alice.address;
	PEER_ADDRESS mapped = dead_address();

	(void)state;
	address.dwSize = 31;
	assert_result(agent_open_direct(&bob, alice.identity, &address).result, E_INVALIDARG);
	address = alice.address;
	address.sin6.sin6_family = AF_INET;
	assert_result(agent_open_direct(&bob, alice.identity, &address).result, E_INVALIDARG);
	address = alice.address;
	address.sin6.sin6_port = 0;
	assert_result(agent_open_direct(&bob, alice.identity, &address).result, E_INVALIDARG);
	address = alice.address;
	address.sin6.sin6_addr = in6addr_any;
	assert_result(agent_open_direct(&bob, alice.identity, &address).result, E_INVALIDARG);
	address.sin6.sin6_addr.s6_addr[0] = 0xff; /* multicast */
	address.sin6.sin6_addr.s6_addr[1] = 0x02;
	assert_result(agent_open_direct(&bob, alice.identity, &address).result, E_INVALIDARG);
	assert_no_event(&bob, bob.events);
	/* IPv4-mapped is an address like others: nobody listens on this one. */
	assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6.sin6_addr), 1);
	expect_failed(
		&bob, agent_open_direct(&bob, alice.identity, &mapped), PEER_E_CONNECTION_FAILED);
	/* The family may be Windows' own number. */
	address = alice.address;
	address.sin6.sin6_family = 23;
	assert_result(agent_open_direct(&bob, alice.identity, &address).result, S_OK);
	(void)agent_direct_event(&bob, PEER_CONNECTED);
	(void)agent_direct_event(&alice, PEER_CONNECTED);
}

/* At the opener the address given to Open; at the acceptor where the opener listens. */
static void a32_address_in_connection_info(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct enum_result at_bob = agent_enum(&bob, PEER_CONNECTION_DIRECT);
	struct enum_result at_alice = agent_enum(&alice, PEER_CONNECTION_DIRECT);

	(void)state;
	assert_int_equal(at_bob.count, 1);
	assert_int_equal(at_bob.items[0].id, pair.from);
	assert_int_equal(at_bob.items[0].flags, PEER_CONNECTION_DIRECT);
	assert_true(wide_is_equal(at_bob.items[0].identity, alice.identity));
	assert_true(address_same(&at_bob.items[0].address, &alice.address));
	assert_int_equal(at_bob.items[0].address.dwSize, sizeof(PEER_ADDRESS));
	assert_int_equal(at_bob.items[0].address.sin6.sin6_family, AF_INET6);
	assert_int_equal(at_alice.count, 1);
	assert_int_equal(at_alice.items[0].id, pair.to);
	assert_true(wide_is_equal(at_alice.items[0].identity, bob.identity));
	assert_true(address_same(&at_alice.items[0].address, &bob.address));
	assert_int_not_equal(at_alice.items[0].node_id, 0);
	assert_int_equal(at_alice.items[0].node_id,
		agent_members(&bob, PEER_MEMBER_PRESENT, NULL).items[0].node_id);
}

static void do_enum_flags(const void *in, void *out)
{
	const struct enum_request *request = in;
	struct handle_result *answer = out;

	answer->handle = (PVOID)(uintptr_t)77;
	answer->result = PeerGroupEnumConnections(request->group, request->flags, &answer->handle);
}

static void a33_enumeration_flags(void **state)
{
	static const DWORD wrong[] = {0, 4, 7, 0x80000001};
	struct handle_result answer;

	(void)state;
	for (size_t index = 0; index < sizeof(wrong) / sizeof(*wrong); index++) {
		struct enum_request request = {bob.group, wrong[index]};

		agent_call(&bob, do_enum_flags, &request, &answer);
		assert_result(answer.result, E_INVALIDARG);
		assert_null(answer.handle);
	}
	(void)pair_open(&bob, &alice);
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_DIRECT).count, 1);
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_NEIGHBOR).count, 1);
	assert_int_equal(
		agent_enum(&bob, PEER_CONNECTION_DIRECT | PEER_CONNECTION_NEIGHBOR).count, 2);
}

/* Carol's limits are short, by the environment: a peer that never answers is NOT_AUTHENTICATED after
 * the handshake's limit. A port that does not take the connection is CONNECTION_FAILED after TCP's. */
static void a34_time_limits_are_configurable(void **state)
{
	WCHAR name[NAME_UNITS];
	PEER_ADDRESS silent, full;
	int fd = silent_listen(&silent), full_fd = silent_listen(&full);
	int pending[3];

	(void)state;
	world_found(&carol, name);
	agent_register_direct(&carol);
	expect_failed(&carol, agent_open_direct(&carol, bob.identity, &silent),
		PEER_E_CONNECTION_NOT_AUTHENTICATED);
	close(fd);
	/* A queue of one, filled: the kernel drops further SYNs. */
	assert_int_equal(listen(full_fd, 0), 0);
	for (size_t index = 0; index < 3; index++) {
		pending[index] = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)!connect(pending[index], (struct sockaddr *)&full.sin6, sizeof(full.sin6));
	}
	expect_failed(
		&carol, agent_open_direct(&carol, bob.identity, &full), PEER_E_CONNECTION_FAILED);
	for (size_t index = 0; index < 3; index++)
		close(pending[index]);
	close(full_fd);
	agent_leave(&carol);
}

struct send_close_group {
	struct send_request send;
	HGROUP group;
};

static void do_send_and_close_group(const void *in, void *out)
{
	const struct send_close_group *request = in;
	HRESULT *answer = out;
	struct send_result sent = {S_OK, 0};

	do_send(&request->send, &sent);
	*answer = PeerGroupClose(request->group);
	if (SUCCEEDED(*answer) && sent.accepted != request->send.count)
		*answer = E_FAIL;
}

/* Not the last handle: connections stay. The last one: flush, DISCONNECT, and no event to it. */
static void a35_close_of_the_group(void **state)
{
	WCHAR name[NAME_UNITS];
	struct pair pair = pair_open(&bob, &alice);
	struct send_close_group request = {
		.send = {.id = pair.from, .type = test_type, .bytes = 2000, .count = 100}};
	HPEEREVENT events = bob.events;
	HGROUP second;
	HRESULT result;

	(void)state;
	agent_group_name(&bob, name);
	second = agent_open_again(&bob, name);
	assert_result(agent_group_call(&bob, do_close, second), S_OK);
	assert_result(agent_group_call(&bob, do_close, second), PEER_E_INVALID_GROUP);
	assert_int_equal(agent_enum(&bob, PEER_CONNECTION_DIRECT).count, 1);

	request.group = bob.group;
	request.send.group = bob.group;
	agent_call(&bob, do_send_and_close_group, &request, &result);
	assert_result(result, S_OK);
	for (uint32_t index = 0; index < 100; index++)
		assert_true(agent_data_event(&alice, pair.to).sum == pattern_sum(2000, index));
	expect_disconnected(&alice, pair.to);
	agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING);
	assert_result(agent_poll(&bob, events).result, E_INVALIDARG);
	assert_result(agent_send(&bob, pair.from, 1, 1), PEER_E_INVALID_GROUP);
}

/* Delete and the last Shutdown abort the connections; old handles are dead at once. */
static void a36_delete_and_shutdown(void **state)
{
	WCHAR name[NAME_UNITS];
	struct pair pair = pair_open(&bob, &alice);
	HRESULT result;

	(void)state;
	agent_group_name(&bob, name);
	agent_call(&bob, do_delete, &name, &result);
	assert_result(result, S_OK);
	assert_result(agent_poll(&bob, bob.events).result, E_INVALIDARG);
	assert_result(agent_close_direct(&bob, pair.from), PEER_E_INVALID_GROUP);
	assert_result(agent_group_call(&bob, do_close, bob.group), PEER_E_INVALID_GROUP);
	expect_disconnected(&alice, pair.to);
	agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING);

	world_join(&alice, &bob, 0);
	world_enter(&alice, &bob);
	agent_register_direct(&bob);
	pair = pair_open(&bob, &alice);
	assert_result(agent_shutdown(&bob), S_OK);
	expect_disconnected(&alice, pair.to);
	assert_result(agent_poll(&bob, bob.events).result, PEER_E_NOT_INITIALIZED);
	assert_result(agent_startup(&bob), S_OK);
	assert_result(agent_poll(&bob, bob.events).result, E_INVALIDARG);
	assert_result(agent_group_call(&bob, do_close, bob.group), PEER_E_INVALID_GROUP);
}

/* A process that dies without a word: DISCONNECTED, no reason. */
static void a37_peer_dies(void **state)
{
	struct pair pair;

	(void)state;
	world_join(&alice, &dave, 0);
	world_enter(&alice, &dave);
	agent_register_direct(&dave);
	pair = pair_open(&dave, &alice);
	agent_kill(&dave);
	expect_disconnected(&alice, pair.to);
	assert_result(agent_send(&alice, pair.to, 1, 1), PEER_E_CONNECTION_NOT_FOUND);
}

/* A membership that runs out ends nothing that is there; nothing new is let in. */
static void a38_expiry_of_the_membership(void **state)
{
	WCHAR name[NAME_UNITS];
	struct pair pair;

	(void)state;
	agent_group_name(&alice, name);
	agent_leave(&bob);
	world_join(&alice, &bob, 3600);
	world_enter(&alice, &bob);
	agent_register_direct(&bob);
	pair = pair_open(&bob, &alice);
	agent_clock(&alice, 7200);
	expect_failed(&bob, agent_open_direct(&bob, alice.identity, &alice.address),
		PEER_E_CONNECTION_NOT_AUTHENTICATED);
	assert_result(agent_send(&bob, pair.from, 77, 3), S_OK);
	assert_true(agent_data_event(&alice, pair.to).sum == pattern_sum(77, 3));
	agent_clock(&alice, 0);
	(void)pair_open(&bob, &alice);
}

/* Each connection's messages come in order, whatever comes between them. */
static void a39_order_per_connection(void **state)
{
	struct pair pairs[3];
	uint32_t next[3] = {0, 0, 0};

	(void)state;
	for (size_t index = 0; index < 3; index++)
		pairs[index] = pair_open(&bob, &alice);
	for (uint32_t round = 0; round < 50; round++)
		for (size_t index = 0; index < 3; index++)
			assert_result(agent_send(&bob, pairs[index].from, 64, round), S_OK);
	for (uint32_t count = 0; count < 150; count++) {
		struct event event = agent_event(&alice, alice.events);
		size_t index = 0;

		assert_int_equal(event.type, PEER_GROUP_EVENT_INCOMING_DATA);
		while (index < 3 && pairs[index].to != event.id)
			index++;
		assert_true(index < 3);
		assert_true(event.sum == pattern_sum(64, next[index]++));
	}
}

/* What is unread is bounded, by count here: reading stops, the sender's queue fills, nothing is lost.
 * Another registration of the same node is not served twice. */
static void a40_unread_events_are_bounded(void **state)
{
	struct pair pair = pair_open(&bob, &alice);
	struct send_result sent;
	uint32_t accepted = 0, at_second = 0;
	HPEEREVENT second;

	(void)state;
	assert_result(agent_register_types(&alice, alice.group, TYPES_DIRECT, &second), S_OK);
	/* Small messages: 4,096 are unread at most, the rest waits in sockets and queues, so that at
	 * last nothing goes any more, however long one tries. */
	for (uint32_t refused = 0; refused < 40 || accepted <= EVENT_DATA_COUNT_MAX;) {
		const struct timespec pause = {0, 5000000};

		sent = agent_send_many(&bob, pair.from, 600, accepted, 20000);
		accepted += sent.accepted;
		assert_true(accepted < 100000);
		refused = sent.accepted == 0 ? refused + 1 : 0;
		if (sent.accepted == 0)
			nanosleep(&pause, NULL);
	}
	assert_result(sent.result, E_OUTOFMEMORY);
	for (uint32_t index = 0; index < accepted; index++) {
		struct event event = agent_data_event(&alice, pair.to);

		assert_true(event.sum == pattern_sum(600, index));
		/* The other queue must be emptied too, or both stop. */
		event = agent_event(&alice, second);
		assert_int_equal(event.type, PEER_GROUP_EVENT_INCOMING_DATA);
		assert_true(event.sum == pattern_sum(600, index));
		at_second++;
	}
	assert_int_equal(at_second, accepted);
	assert_no_event(&alice, second);
	assert_no_event(&alice, alice.events);
	assert_result(agent_close_direct(&bob, pair.from), S_OK);
	expect_disconnected(&alice, pair.to);
}

static int agents_setup(void **state)
{
	(void)state;
	assert_result(agent_startup(&alice), S_OK);
	assert_result(agent_startup(&bob), S_OK);
	assert_result(agent_startup(&carol), S_OK);
	assert_result(agent_startup(&dave), S_OK);
	agent_identity(&alice, u"Alice");
	agent_identity(&bob, u"Bob");
	agent_identity(&carol, u"Carol");
	agent_identity(&dave, u"Dave");
	return 0;
}

#define A(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		A(a21_offline_group),
		A(a22_one_status_flag_is_online),
		A(a23_registration_at_opener_and_acceptor),
		A(a24_acceptor_with_two_handles),
		A(a25_events_go_to_every_registration),
		A(a26_connect_self),
		A(a27_several_connections_between_two_nodes),
		A(a28_resource_limit_refuses),
		A(a29_simultaneous_opens_make_two_connections),
		A(a30_unknown_and_malformed_identities),
		A(a31_address_validation),
		A(a32_address_in_connection_info),
		A(a33_enumeration_flags),
		A(a34_time_limits_are_configurable),
		A(a35_close_of_the_group),
		A(a36_delete_and_shutdown),
		A(a37_peer_dies),
		A(a38_expiry_of_the_membership),
		A(a39_order_per_connection),
		A(a40_unread_events_are_bounded),
	};
	int failures;

	alarm(TEST_LIMIT_S);
	agent_start(&alice, "alice", "[::1]:0");
	agent_start(&bob, "bob", "[::1]:0");
	agent_start(&dave, "dave", "[::1]:0");
	setenv("PEERHUB_TIMEOUT_CONNECT_MS", "300", 1);
	setenv("PEERHUB_TIMEOUT_HANDSHAKE_MS", "300", 1);
	agent_start(&carol, "carol", "[::1]:0");
	failures = cmocka_run_group_tests(tests, agents_setup, NULL);
	failures += agent_stop(&alice);
	failures += agent_stop(&bob);
	failures += agent_stop(&carol);
	failures += agent_stop(&dave);
	return failures;
}
