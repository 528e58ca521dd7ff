/*
 * Events: every documented code of PeerGroupRegisterEvent, UnregisterEvent and GetEventData, what is
 * merged, what dies with what, and the races of several threads of one process.
 */
#include "tests/api/p2p_test.h"

#include "api/handle.h"
#include "api/registration.h"

static struct agent alice, bob, carol;

#define TYPES_NEIGHBOR TYPE_BIT(PEER_GROUP_EVENT_NEIGHBOR_CONNECTION)
#define TYPES_MEMBER TYPE_BIT(PEER_GROUP_EVENT_MEMBER_CHANGED)

/* ---- codes -------------------------------------------------------------------------------- */

static HRESULT register_with(
	HGROUP group, HANDLE event, DWORD count, PEER_GROUP_EVENT_REGISTRATION *entries)
{
	HPEEREVENT handle = (HPEEREVENT)(uintptr_t)77;
	HRESULT result = PeerGroupRegisterEvent(group, event, count, entries, &handle);

	if (SUCCEEDED(result))
		return PeerGroupUnregisterEvent(handle);
	return handle == NULL ? result : E_FAIL;
}

static void do_register_errors(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	HANDLE event = CreateEvent(NULL, FALSE, FALSE, NULL);
	PEER_GROUP_EVENT_REGISTRATION entry = {PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL};
	PEER_GROUP_EVENT_REGISTRATION unknown = {(PEER_GROUP_EVENT_TYPE)7, NULL};
	PEER_GROUP_EVENT_REGISTRATION wild = {(PEER_GROUP_EVENT_TYPE)-5, NULL};
	PEER_GROUP_EVENT_DATA *data = (PEER_GROUP_EVENT_DATA *)(uintptr_t)77;
	HPEEREVENT handle;
	size_t at = 0;

	answer->list[at++] = PeerGroupRegisterEvent(call->group, event, 1, &entry, NULL);
	answer->list[at++] = register_with(call->group, NULL, 1, &entry);
	answer->list[at++] = register_with(call->group, call->group, 1, &entry);
	answer->list[at++] = register_with(call->group, event, 0, &entry);
	answer->list[at++] = register_with(call->group, event, 1, NULL);
	answer->list[at++] = register_with(call->group, event, 1, &unknown);
	answer->list[at++] = register_with(call->group, event, 1, &wild);
	answer->list[at++] = register_with(call->group, event, 100000, &entry);
	answer->list[at++] = register_with(NULL, event, 1, &entry);
	answer->list[at++] = register_with(event, event, 1, &entry);
	answer->list[at++] = PeerGroupRegisterEvent(call->group, event, 1, &entry, &handle);
	answer->list[at++] = PeerGroupGetEventData(handle, NULL);
	answer->list[at++] = PeerGroupGetEventData(NULL, &data);
	answer->list[at++] = PeerGroupGetEventData(call->group, &data);
	answer->list[at++] = PeerGroupGetEventData(handle, &data);
	answer->list[at++] = data == NULL ? S_OK : E_FAIL;
	answer->list[at++] = PeerGroupUnregisterEvent(NULL);
	answer->list[at++] = PeerGroupUnregisterEvent(event);
	answer->list[at++] = PeerGroupUnregisterEvent(handle);
	answer->list[at++] = PeerGroupUnregisterEvent(handle);
	answer->list[at++] = PeerGroupGetEventData(handle, &data);
	CloseHandle(event);
	answer->list[at++] = register_with(call->group, event, 1, &entry);
}

static void register_unregister_get_codes(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_results(agent_results(&alice, do_register_errors), E_INVALIDARG, E_INVALIDARG,
		E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG, E_INVALIDARG,
		PEER_E_INVALID_GROUP, PEER_E_INVALID_GROUP, S_OK, E_INVALIDARG, E_INVALIDARG,
		E_INVALIDARG, PEER_S_NO_EVENT_DATA, S_OK, E_INVALIDARG, E_INVALIDARG, S_OK,
		E_INVALIDARG, E_INVALIDARG, E_INVALIDARG);
}

/* A handful of registrations more than a group may have. */
static void do_register_many(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	static HPEEREVENT handles[EVENT_REGISTRATIONS_MAX + 1];
	HANDLE event = CreateEvent(NULL, FALSE, FALSE, NULL);
	PEER_GROUP_EVENT_REGISTRATION entry = {PEER_GROUP_EVENT_RECORD_CHANGED, NULL};
	size_t count = 0;

	while (count <= EVENT_REGISTRATIONS_MAX) {
		answer->list[0] =
			PeerGroupRegisterEvent(call->group, event, 1, &entry, &handles[count]);
		if (FAILED(answer->list[0]))
			break;
		count++;
	}
	/* One is there already. */
	answer->list[1] = count == EVENT_REGISTRATIONS_MAX - 1 ? S_OK : E_FAIL;
	while (count > 0)
		if (FAILED(PeerGroupUnregisterEvent(handles[--count])))
			answer->list[1] = E_FAIL;
	CloseHandle(event);
}

static void too_many_registrations(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_results(agent_results(&alice, do_register_many), E_OUTOFMEMORY, S_OK);
}

/* A sample of Microsoft's passes a GUID with DIRECT_CONNECTION: accepted and ignored. And the entries,
 * GUIDs included, may be gone when the call has returned. */
static void do_register_from_the_stack(const void *in, void *out)
{
	struct register_request request = *(const struct register_request *)in;
	struct handle_result *answer = out;
	struct registered *place = registered_find(NULL);
	GUID ignored = {1, 2, 3, {4}};
	GUID wanted = request.filter;
	PEER_GROUP_EVENT_REGISTRATION entries[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, &ignored},
		{PEER_GROUP_EVENT_INCOMING_DATA, &wanted},
		{PEER_GROUP_EVENT_INCOMING_DATA, &ignored},
	};

	place->event = CreateEvent(NULL, FALSE, FALSE, NULL);
	answer->result =
		PeerGroupRegisterEvent(request.group, place->event, 3, entries, &place->handle);
	answer->handle = place->handle;
	memset(entries, 0xee, sizeof(entries));
	memset(&ignored, 0xee, sizeof(ignored));
	memset(&wanted, 0xee, sizeof(wanted));
}

static void filters_are_copied_and_ignored_where_they_mean_nothing(void **state)
{
	struct register_request request;
	struct handle_result answer;
	struct pair pair;

	(void)state;
	world_make(&alice, &bob);
	assert_result(agent_unregister(&alice, alice.events), S_OK);
	memset(&request, 0, sizeof(request));
	request.group = alice.group;
	request.filter = test_type;
	agent_call(&alice, do_register_from_the_stack, &request, &answer);
	assert_result(answer.result, S_OK);
	alice.events = answer.handle;
	pair = pair_open(&bob, &alice);
	assert_result(agent_send(&bob, pair.from, 9, 1), S_OK);
	(void)agent_data_event(&alice, pair.to);
	assert_no_event(&alice, alice.events);
}

/* INCOMING_DATA alone gets nothing: a registration for connections must be there, on any handle. */
static void data_needs_a_registration_for_connections(void **state)
{
	HPEEREVENT data, neighbors;
	struct enum_result links;
	struct event event;

	(void)state;
	world_make(&alice, &bob);
	assert_result(agent_unregister(&alice, alice.events), S_OK);
	assert_result(agent_register_types(
			      &alice, alice.group, TYPE_BIT(PEER_GROUP_EVENT_INCOMING_DATA), &data),
		S_OK);
	links = agent_enum(&bob, PEER_CONNECTION_NEIGHBOR);
	assert_int_equal(links.count, 1);
	assert_result(agent_send(&bob, links.items[0].id, 30, 1), S_OK);
	/* The echo of the link proves that the message was handled: alice answers, bob hears it. */
	assert_result(
		agent_send(&alice, agent_enum(&alice, PEER_CONNECTION_NEIGHBOR).items[0].id, 5, 2),
		S_OK);
	assert_int_equal(agent_event(&bob, bob.events).type, PEER_GROUP_EVENT_INCOMING_DATA);
	assert_result(agent_register_types(&alice, alice.group, TYPES_NEIGHBOR, &neighbors), S_OK);
	assert_result(agent_send(&bob, links.items[0].id, 40, 3), S_OK);
	event = agent_event(&alice, data);
	if (event.bytes == 30) /* it was still on its way when the second came */
		event = agent_event(&alice, data);
	assert_int_equal(event.bytes, 40);
}

/* ---- merging ------------------------------------------------------------------------------ */

/* Status changes that nobody read are one event with the newest flags. */
static void unread_status_is_merged(void **state)
{
	HPEEREVENT witness;
	WCHAR name[NAME_UNITS];
	struct event event;

	(void)state;
	world_found(&alice, name);
	assert_result(agent_register_types(&alice, alice.group, TYPES_STATUS, &witness), S_OK);
	world_join(&alice, &bob, 0);
	for (int turn = 0; turn < 3; turn++) {
		struct handle_result opened;

		world_enter(&alice, &bob);
		agent_wait_status(
			&alice, PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS);
		agent_leave(&bob);
		agent_wait_status(&alice, PEER_GROUP_STATUS_LISTENING);
		agent_call_bytes(&bob, do_open, name, sizeof(name), &opened, sizeof(opened));
		assert_result(opened.result, S_OK);
		bob.group = opened.handle;
		assert_result(
			agent_register_types(&bob, bob.group, TYPES_STATUS, &bob.status), S_OK);
	}
	/* Either queue is told after the other: the last change may still be on its way to one. */
	event = agent_event(&alice, witness);
	assert_int_equal(event.type, PEER_GROUP_EVENT_STATUS_CHANGED);
	if (event.status_flags != PEER_GROUP_STATUS_LISTENING)
		event = agent_event(&alice, witness);
	assert_int_equal(event.status_flags, PEER_GROUP_STATUS_LISTENING);
	assert_no_event(&alice, witness);
}

/* A member comes with its first connection and goes with its last; unread, that is one event. */
static void member_events_come_with_connections_and_are_merged(void **state)
{
	HPEEREVENT members, unread;
	WCHAR name[NAME_UNITS];
	struct event event;
	struct pair pair;

	(void)state;
	world_found(&alice, name);
	agent_register_direct(&alice);
	assert_result(agent_register_types(&alice, alice.group, TYPES_MEMBER, &members), S_OK);
	assert_result(agent_register_types(&alice, alice.group, TYPES_MEMBER, &unread), S_OK);
	world_join(&alice, &bob, 0);
	world_enter(&alice, &bob);
	agent_register_direct(&bob);
	event = agent_event(&alice, members);
	assert_int_equal(event.type, PEER_GROUP_EVENT_MEMBER_CHANGED);
	assert_int_equal(event.change, PEER_MEMBER_CONNECTED);
	assert_true(wide_is_equal(event.identity, bob.identity));
	pair = pair_open(&bob, &alice); /* a second connection changes nothing */
	(void)pair;
	assert_no_event(&alice, members);
	for (int turn = 0; turn < 2; turn++) {
		struct handle_result opened;

		agent_leave(&bob);
		event = agent_event(&alice, members);
		assert_int_equal(event.change, PEER_MEMBER_DISCONNECTED);
		assert_true(wide_is_equal(event.identity, bob.identity));
		agent_call_bytes(&bob, do_open, name, sizeof(name), &opened, sizeof(opened));
		assert_result(opened.result, S_OK);
		bob.group = opened.handle;
		assert_result(
			agent_register_types(&bob, bob.group, TYPES_STATUS, &bob.status), S_OK);
		world_enter(&alice, &bob);
		event = agent_event(&alice, members);
		assert_int_equal(event.change, PEER_MEMBER_CONNECTED);
	}
	event = agent_event(&alice, unread);
	assert_int_equal(event.type, PEER_GROUP_EVENT_MEMBER_CHANGED);
	assert_true(wide_is_equal(event.identity, bob.identity));
	if (event.change != PEER_MEMBER_CONNECTED) /* told last */
		event = agent_event(&alice, unread);
	assert_int_equal(event.change, PEER_MEMBER_CONNECTED);
	assert_no_event(&alice, unread);
}

/* ---- what dies with what ------------------------------------------------------------------ */

static void registrations_die_with_their_handle(void **state)
{
	struct handle_result second;
	HPEEREVENT events;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	agent_call_bytes(&alice, do_open, name, sizeof(name), &second, sizeof(second));
	assert_result(second.result, S_OK);
	assert_result(agent_register_types(&alice, second.handle, TYPES_DIRECT, &events), S_OK);
	assert_result(agent_poll(&alice, events).result, PEER_S_NO_EVENT_DATA);
	assert_result(agent_group_call(&alice, do_close, second.handle), S_OK);
	assert_result(agent_poll(&alice, events).result, E_INVALIDARG);
	assert_result(agent_unregister(&alice, events), E_INVALIDARG);
	assert_result(agent_poll(&alice, alice.status).result, PEER_S_NO_EVENT_DATA);
}

/* What was taken lives on when registration and group are gone. */
static void do_take_and_close(const void *in, void *out)
{
	const struct id_request *request = in; /* id: the registration */
	struct event *answer = out;
	HPEEREVENT handle = (HPEEREVENT)(uintptr_t)request->id;
	PEER_GROUP_EVENT_DATA *data = NULL;

	answer->result = PeerGroupGetEventData(handle, &data);
	if (answer->result != S_OK)
		return;
	(void)PeerGroupUnregisterEvent(handle);
	(void)PeerGroupClose(request->group);
	event_see(data, answer);
	PeerFreeData(data);
}

static void taken_events_outlive_everything(void **state)
{
	struct pair pair;
	struct id_request request;
	struct event event;
	HPEEREVENT witness;

	(void)state;
	world_make(&alice, &bob);
	pair = pair_open(&bob, &alice);
	assert_result(agent_register_types(&alice, alice.group, TYPES_DIRECT, &witness), S_OK);
	assert_result(agent_send(&bob, pair.from, 5000, 8), S_OK);
	/* The older registration has it when, or right after, the newer one has: wait for a second
	 * message there. */
	assert_result(agent_send(&bob, pair.from, 1, 9), S_OK);
	(void)agent_event(&alice, witness);
	(void)agent_event(&alice, witness);
	request.group = alice.group;
	request.id = (ULONGLONG)(uintptr_t)alice.events;
	agent_call(&alice, do_take_and_close, &request, &event);
	assert_result(event.result, S_OK);
	assert_true(event.sum == pattern_sum(5000, 8));
}

/* ---- races -------------------------------------------------------------------------------- */

struct race {
	HGROUP group;
	HANDLE event;
	atomic_uintptr_t handle;
	atomic_bool is_over;
	atomic_uint taken, refused, empty, wrong;
};

static void *race_take(void *context)
{
	struct race *race = context;

	while (!atomic_load(&race->is_over)) {
		PEER_GROUP_EVENT_DATA *data = NULL;
		HRESULT result =
			PeerGroupGetEventData((HPEEREVENT)atomic_load(&race->handle), &data);

		if (result == S_OK)
			atomic_fetch_add(&race->taken, 1);
		else if (result == PEER_S_NO_EVENT_DATA)
			atomic_fetch_add(&race->empty, 1);
		else if (result == E_INVALIDARG)
			atomic_fetch_add(&race->refused, 1);
		else
			atomic_fetch_add(&race->wrong, 1);
		if ((result != S_OK) != (data == NULL))
			atomic_fetch_add(&race->wrong, 1);
		PeerFreeData(data);
	}
	return NULL;
}

/* Register and unregister over and over, while two threads take events and one makes them. */
static void do_race(const void *in, void *out)
{
	const struct call *call = in;
	struct results *answer = out;
	struct race race = {.group = call->group};
	PEER_GROUP_EVENT_REGISTRATION entries[] = {
		{PEER_GROUP_EVENT_PROPERTY_CHANGED, NULL}, {PEER_GROUP_EVENT_STATUS_CHANGED, NULL}};
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties)};
	pthread_t threads[2];

	race.event = CreateEvent(NULL, FALSE, FALSE, NULL);
	properties.pwzFriendlyName = (PWSTR)(uintptr_t)u"race";
	for (size_t index = 0; index < 2; index++)
		if (pthread_create(&threads[index], NULL, race_take, &race) != 0)
			abort();
	for (int turn = 0; turn < 200; turn++) {
		HPEEREVENT handle = NULL;

		if (PeerGroupRegisterEvent(race.group, race.event, 2, entries, &handle) != S_OK)
			atomic_fetch_add(&race.wrong, 1);
		atomic_store(&race.handle, (uintptr_t)handle);
		if (turn % 20 == 0 && PeerGroupSetProperties(race.group, &properties) != S_OK) {
			fprintf(stderr, "set: %s\n", PeerhubLastErrorText());
			atomic_fetch_add(&race.wrong, 1);
		}
		if (PeerGroupUnregisterEvent(handle) != S_OK)
			atomic_fetch_add(&race.wrong, 1);
		/* After Unregister the event is never signalled again. */
		(void)WaitForSingleObject(race.event, 0);
		if (WaitForSingleObject(race.event, 0) != WAIT_TIMEOUT)
			atomic_fetch_add(&race.wrong, 1);
	}
	atomic_store(&race.is_over, true);
	for (size_t index = 0; index < 2; index++)
		pthread_join(threads[index], NULL);
	answer->list[0] = atomic_load(&race.wrong) == 0 ? S_OK : E_FAIL;
	answer->list[1] = atomic_load(&race.refused) > 0 ? S_OK : E_FAIL;
	CloseHandle(race.event);
}

static void unregister_races_with_get(void **state)
{
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&alice, name);
	assert_results(agent_results(&alice, do_race), S_OK, S_OK);
}

/* Bob opens, sends and closes on four threads; alice answers from two. Each id: one CONNECTED, its
 * data, one DISCONNECTED; of all closes of an id at most one S_OK. */
#define STORM_THREADS 4u
#define STORM_TURNS 25u

struct storm {
	HGROUP group;
	WCHAR identity[NAME_UNITS];
	PEER_ADDRESS address;
	atomic_uint opened, closed, wrong;
};

static void *storm_run(void *context)
{
	struct storm *storm = context;
	ULONGLONG ids[4] = {0};

	for (uint32_t turn = 0; turn < STORM_TURNS; turn++) {
		ULONGLONG *id = &ids[turn % 4];
		HRESULT result;

		if (*id != 0) {
			uint8_t data[100] = {0};

			result = PeerGroupSendData(
				storm->group, *id, &test_type, sizeof(data), data);
			if (result != S_OK && result != PEER_E_CONNECTION_NOT_FOUND)
				atomic_fetch_add(&storm->wrong, 1);
			result = PeerGroupCloseDirectConnection(storm->group, *id);
			if (result == S_OK)
				atomic_fetch_add(&storm->closed, 1);
			else if (result != PEER_E_CONNECTION_NOT_FOUND)
				atomic_fetch_add(&storm->wrong, 1);
		}
		result = PeerGroupOpenDirectConnection(
			storm->group, storm->identity, &storm->address, id);
		if (result == S_OK)
			atomic_fetch_add(&storm->opened, 1);
		else
			atomic_fetch_add(&storm->wrong, 1);
	}
	for (size_t index = 0; index < 4; index++)
		if (PeerGroupCloseDirectConnection(storm->group, ids[index]) == S_OK)
			atomic_fetch_add(&storm->closed, 1);
	return NULL;
}

struct storm_result {
	uint32_t opened, closed, wrong;
};

static void do_storm(const void *in, void *out)
{
	const struct open_request *request = in;
	struct storm_result *answer = out;
	struct storm storm = {.group = request->group, .address = request->address};
	pthread_t threads[STORM_THREADS];

	wide_copy(storm.identity, request->identity, NAME_UNITS);
	for (size_t index = 0; index < STORM_THREADS; index++)
		if (pthread_create(&threads[index], NULL, storm_run, &storm) != 0)
			abort();
	for (size_t index = 0; index < STORM_THREADS; index++)
		pthread_join(threads[index], NULL);
	answer->opened = atomic_load(&storm.opened);
	answer->closed = atomic_load(&storm.closed);
	answer->wrong = atomic_load(&storm.wrong);
}

struct seen_id {
	ULONGLONG id;
	bool is_connected, is_over;
};

/* Every event of an agent until `count` ids are over; checks the order of each. */
static void storm_audit(const struct agent *agent, uint32_t count)
{
	static struct seen_id seen[STORM_THREADS * STORM_TURNS];
	uint32_t known = 0, over = 0;

	memset(seen, 0, sizeof(seen));
	while (over < count) {
		struct event event = agent_event(agent, agent->events);
		uint32_t at = 0;

		while (at < known && seen[at].id != event.id)
			at++;
		if (at == known) {
			assert_true(known < sizeof(seen) / sizeof(*seen));
			seen[known++].id = event.id;
		}
		assert_false(seen[at].is_over);
		if (event.type == PEER_GROUP_EVENT_INCOMING_DATA) {
			assert_true(seen[at].is_connected);
			continue;
		}
		switch (event.status) {
		case PEER_CONNECTED:
			assert_false(seen[at].is_connected);
			seen[at].is_connected = true;
			break;
		case PEER_DISCONNECTED:
			assert_true(seen[at].is_connected);
			seen[at].is_over = true;
			over++;
			break;
		default:
			assert_false(seen[at].is_connected);
			seen[at].is_over = true;
			over++;
			break;
		}
	}
	assert_no_event(agent, agent->events);
}

static void many_threads_one_final_event_per_id(void **state)
{
	struct open_request request;
	struct storm_result answer;

	(void)state;
	world_make(&alice, &bob);
	memset(&request, 0, sizeof(request));
	request.group = bob.group;
	request.address = alice.address;
	wide_copy(request.identity, alice.identity, NAME_UNITS);
	agent_call(&bob, do_storm, &request, &answer);
	assert_int_equal(answer.wrong, 0);
	assert_int_equal(answer.opened, STORM_THREADS * STORM_TURNS);
	assert_int_equal(answer.closed, answer.opened); /* nobody but bob ends anything */
	storm_audit(&bob, answer.opened);
}

/* Close of the group and use of it, at once: codes, never a crash; carol has it to herself. */
static void *close_race_use(void *context)
{
	struct storm *storm = context;

	for (int turn = 0; turn < 200; turn++) {
		HANDLE event = CreateEvent(NULL, FALSE, FALSE, NULL);
		PEER_GROUP_EVENT_REGISTRATION entry = {PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL};
		HPEEREVENT handle;
		HPEERENUM enumeration;
		ULONGLONG id;
		HRESULT result = PeerGroupRegisterEvent(storm->group, event, 1, &entry, &handle);

		if (result != S_OK && result != PEER_E_INVALID_GROUP)
			atomic_fetch_add(&storm->wrong, 1);
		result = PeerGroupOpenDirectConnection(
			storm->group, storm->identity, &storm->address, &id);
		if (result != S_OK && result != PEER_E_INVALID_GROUP &&
			result != PEER_E_GROUP_NOT_READY)
			atomic_fetch_add(&storm->wrong, 1);
		result = PeerGroupEnumConnections(
			storm->group, PEER_CONNECTION_DIRECT, &enumeration);
		if (result == S_OK)
			(void)PeerEndEnumeration(enumeration);
		else if (result != PEER_E_INVALID_GROUP)
			atomic_fetch_add(&storm->wrong, 1);
		CloseHandle(event); /* before Unregister: the registration keeps it alive */
	}
	return NULL;
}

static void do_close_race(const void *in, void *out)
{
	const struct open_request *request = in;
	struct storm_result *answer = out;
	struct storm storm = {.group = request->group, .address = request->address};
	pthread_t threads[2];

	wide_copy(storm.identity, request->identity, NAME_UNITS);
	for (size_t index = 0; index < 2; index++)
		if (pthread_create(&threads[index], NULL, close_race_use, &storm) != 0)
			abort();
	for (int turn = 0; turn < 50; turn++)
		sched_yield();
	if (PeerGroupClose(storm.group) != S_OK)
		atomic_fetch_add(&storm.wrong, 1);
	for (size_t index = 0; index < 2; index++)
		pthread_join(threads[index], NULL);
	answer->wrong = atomic_load(&storm.wrong);
}

static void close_races_with_use(void **state)
{
	struct open_request request;
	struct storm_result answer;
	WCHAR name[NAME_UNITS];

	(void)state;
	world_found(&carol, name);
	memset(&request, 0, sizeof(request));
	request.group = carol.group;
	request.address = dead_address();
	wide_copy(request.identity, alice.identity, NAME_UNITS);
	agent_call(&carol, do_close_race, &request, &answer);
	assert_int_equal(answer.wrong, 0);
	agent_leave(&carol);
}

static int agents_setup(void **state)
{
	(void)state;
	assert_result(agent_startup(&alice), S_OK);
	assert_result(agent_startup(&bob), S_OK);
	assert_result(agent_startup(&carol), S_OK);
	agent_identity(&alice, u"Alice");
	agent_identity(&bob, u"Bob");
	agent_identity(&carol, u"Carol");
	return 0;
}

static int leave(void **state)
{
	(void)state;
	agent_leave(&bob);
	agent_leave(&alice);
	return 0;
}

#define E(test) cmocka_unit_test_teardown(test, leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		E(register_unregister_get_codes),
		E(too_many_registrations),
		E(filters_are_copied_and_ignored_where_they_mean_nothing),
		E(data_needs_a_registration_for_connections),
		E(unread_status_is_merged),
		E(member_events_come_with_connections_and_are_merged),
		E(registrations_die_with_their_handle),
		E(taken_events_outlive_everything),
		E(unregister_races_with_get),
		E(many_threads_one_final_event_per_id),
		E(close_races_with_use),
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
