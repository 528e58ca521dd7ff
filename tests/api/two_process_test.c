/*
 * two_process_test.c: p2p.h as a program sees it that was written from the documentation of Windows
 * alone: two processes, each with its own store, listen on free ports of [::1] and talk.
 *
 * The first process creates the group and drives; it starts itself again as the peer, which joins by
 * an invitation from a file and then obeys lines on its standard input, one answer line for each.
 * Both keep an audit of every connection id they hear of: one CONNECTED, data in the order sent, one
 * DISCONNECTED, or one FAILED, and nothing else. Nothing here depends on time; waits are bounded.
 */
#include "tests/api/two_process_setup.h"

#include "stress/scratch.h"

/* ---- the two of them ---------------------------------------------------------------------- */

static void test_peer_joins(void)
{
	const long long *answer;

	answer = ask("join", 0);
	CHECK(answer[0] == S_OK && answer[1] == S_OK);
	answer = ask("properties", 0);
	CHECK(answer[0] == PEER_E_GROUP_NOT_READY); /* before the first synchronisation */
	CHECK(answer[2] == E_INVALIDARG);
	CHECK(ask("status", 0)[1] == 0);
	CHECK(ask("connect", 0)[0] == S_OK); /* nobody is known yet */
	answer = ask("failed", 0);
	CHECK(answer[0] && answer[1] == PEER_E_NO_MEMBERS_FOUND);
	CHECK(ask("call", 1)[0] == S_OK); /* nobody there */
	answer = ask("failed", 0);
	CHECK(answer[0] && answer[1] == PEER_E_NO_MEMBER_CONNECTIONS);
}

static void test_peer_connects(void)
{
	struct seen seen;
	DWORD status = 0;

	CHECK(ask("call", ntohs(own_address.sin6.sin6_port))[0] == S_OK);
	CHECK(ask("neighbor", 0)[0]);
	CHECK(ask("member", 0)[0]);
	CHECK(await(NEIGHBOR, PEER_CONNECTED, 0, &seen));
	CHECK(await(PEER_GROUP_EVENT_MEMBER_CHANGED, PEER_MEMBER_CONNECTED, 0, NULL));
	CHECK(await(PEER_GROUP_EVENT_STATUS_CHANGED,
		PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS, 0, NULL));
	CHECK_HR(PeerGroupGetStatus(group, &status), S_OK);
	CHECK(status == (PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS));
	const long long *answer;

	CHECK(ask("online", 0)[0]);
	answer = ask("status", 0);
	CHECK(answer[1] == 3);
	answer = ask("properties", 0);
	CHECK(answer[0] == S_OK && answer[1] == 1);
	CHECK(answer[3] == PEER_E_NOT_AUTHORIZED);
	CHECK(enum_count(PEER_CONNECTION_NEIGHBOR) == 1);
	CHECK(enum_count(PEER_CONNECTION_DIRECT) == 0);
	CHECK_HR(PeerGroupCloseDirectConnection(group, seen.id), PEER_E_CONNECTION_NOT_FOUND);
	CHECK(enum_count(PEER_CONNECTION_NEIGHBOR) == 1);
	CHECK_HR(send_text(seen.id, &type_echo, u"over the neighbor"), S_OK);
	CHECK(await(PEER_GROUP_EVENT_INCOMING_DATA, 0, seen.id, &seen));
	CHECK(seen.bytes == 36 && IsEqualGUID(&seen.label, &type_text));
	peer_address = address_of(other_identity);
	CHECK(peer_address.sin6.sin6_port != 0 && peer_address.dwSize == sizeof peer_address);
	CHECK(ask("counts", 0)[0] == 0);
}

static void test_direct_arguments(void)
{
	WCHAR text[] = u"x";
	ULONGLONG id = 5;
	HPEERENUM items = (HPEERENUM)1;
	struct seen seen;
	int nobody;

	CHECK_HR(PeerGroupOpenDirectConnection(group, NULL, &peer_address, &id), E_INVALIDARG);
	CHECK(!id);
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, NULL, &id), E_INVALIDARG);
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &peer_address, NULL),
		E_INVALIDARG);
	CHECK_HR(PeerGroupOpenDirectConnection(group, u"", &peer_address, &id), E_INVALIDARG);
	CHECK_HR(PeerGroupOpenDirectConnection(group, u"junk", &peer_address, &id), E_INVALIDARG);
	CHECK_HR(PeerGroupOpenDirectConnection(group, own_identity, &own_address, &id),
		PEER_E_CONNECT_SELF);
	CHECK(!id);
	CHECK_HR(PeerGroupOpenDirectConnection(group, own_identity, &peer_address, &id),
		PEER_E_CONNECT_SELF);
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &own_address, &id),
		PEER_E_CONNECT_SELF);
	for (int i = 0; i < 8; i++) {
		PEER_ADDRESS bad = peer_address;
		switch (i) {
		case 0:
			bad.dwSize = 0;
			break;
		case 1:
			bad.dwSize = 28;
			break;
		case 2:
			bad.sin6.sin6_family = 2;
			break;
		case 3:
			bad.sin6.sin6_family = 0;
			break;
		case 4:
			bad.sin6.sin6_port = 0;
			break;
		case 5:
			bad.sin6.sin6_addr = in6addr_any;
			break;
		case 6:
			bad.sin6.sin6_addr.s6_addr[0] = 0xff;
			break;
		case 7:
			bad.dwSize = 33;
			break;
		}
		CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &bad, &id),
			E_INVALIDARG);
		CHECK_HR(PeerGroupConnectByAddress(group, 1, &bad), E_INVALIDARG);
	}
	CHECK_HR(PeerGroupConnectByAddress(group, 0, &peer_address), E_INVALIDARG);
	CHECK_HR(PeerGroupConnectByAddress(group, 1, NULL), E_INVALIDARG);
	PEER_ADDRESS windows = peer_address;
	windows.sin6.sin6_family = 23;
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &windows, &id), S_OK);
	CHECK(await(DIRECT, PEER_CONNECTED, id, NULL));
	CHECK_HR(PeerGroupSendData(group, id, NULL, 2, text), E_INVALIDARG);
	CHECK_HR(PeerGroupSendData(group, id, &type_text, 0, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupSendData(group, id, &type_text, 2, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupSendData(group, id, &type_ping, 2, text), E_INVALIDARG);
	CHECK_HR(PeerGroupSendData(group, id, &type_text, PEERHUB_MESSAGE_BYTES_MAX + 1, text),
		E_INVALIDARG);
	CHECK_HR(PeerGroupSendData(group, id ^ 0x10000, &type_text, 2, text),
		PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupSendData(group, 0, &type_text, 2, text), PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupSendData(group, UINT64_MAX, &type_text, 2, text),
		PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupCloseDirectConnection(group, 0), PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupCloseDirectConnection(group, UINT64_MAX), PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupSendData(group, id, &type_echo, 0, text), S_OK);
	CHECK(await(PEER_GROUP_EVENT_INCOMING_DATA, 0, id, &seen) && seen.bytes == 0);
	CHECK_HR(PeerGroupEnumConnections(group, 0, &items), E_INVALIDARG);
	CHECK(!items);
	CHECK_HR(PeerGroupEnumConnections(group, 4, &items), E_INVALIDARG);
	CHECK_HR(PeerGroupEnumConnections(group, 7, &items), E_INVALIDARG);
	CHECK_HR(PeerGroupEnumConnections(group, PEER_CONNECTION_DIRECT, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupEnumMembers(group, 0, NULL, NULL), E_INVALIDARG);
	CHECK_HR(PeerGroupEnumMembers(group, 2, NULL, &items), E_INVALIDARG);
	CHECK(enum_count(PEER_CONNECTION_DIRECT) == 1);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), S_OK);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(PeerGroupSendData(group, id, &type_text, 2, text), PEER_E_CONNECTION_NOT_FOUND);
	CHECK(enum_count(PEER_CONNECTION_DIRECT) == 0);
	CHECK(await(DIRECT, PEER_DISCONNECTED, id, &seen) && seen.reason == 0);

	/* attempts that fail: nobody there, another identity there, not registered there */
	PEER_ADDRESS closed = peer_address;
	nobody = socket(AF_INET6, SOCK_STREAM, 0);
	closed.sin6.sin6_port = 0;
	socklen_t length = sizeof closed.sin6;
	if (bind(nobody, (struct sockaddr *)&closed.sin6, length) ||
		getsockname(nobody, (struct sockaddr *)&closed.sin6, &length))
		fatal("bind", 0);
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &closed, &id), S_OK);
	CHECK(await(DIRECT, PEER_CONNECTION_FAILED, id, &seen) &&
		seen.reason == PEER_E_CONNECTION_FAILED);
	close(nobody);
	/* the same of IPv4, in its mapped form */
	nobody = socket(AF_INET6, SOCK_STREAM, 0);
	memset(&closed.sin6.sin6_addr, 0, sizeof closed.sin6.sin6_addr);
	memset(closed.sin6.sin6_addr.s6_addr + 10, 0xff, 2);
	closed.sin6.sin6_addr.s6_addr[12] = 127;
	closed.sin6.sin6_addr.s6_addr[15] = 1;
	closed.sin6.sin6_port = 0;
	if (setsockopt(nobody, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int)) ||
		bind(nobody, (struct sockaddr *)&closed.sin6, length) ||
		getsockname(nobody, (struct sockaddr *)&closed.sin6, &length))
		fatal("bind", 0);
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &closed, &id), S_OK);
	CHECK(await(DIRECT, PEER_CONNECTION_FAILED, id, &seen) &&
		seen.reason == PEER_E_CONNECTION_FAILED);
	close(nobody);
	CHECK_HR(PeerGroupOpenDirectConnection(group, STRANGER, &peer_address, &id), S_OK);
	CHECK(await(DIRECT, PEER_CONNECTION_FAILED, id, &seen));
	CHECK(seen.reason == PEER_E_CONNECTION_NOT_AUTHENTICATED);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), PEER_E_CONNECTION_NOT_FOUND);
	CHECK(peer_count(1, ask("counts", 0)[0]));
	CHECK(ask("register", 0)[0] == S_OK);
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &peer_address, &id), S_OK);
	CHECK(await(DIRECT, PEER_CONNECTION_FAILED, id, &seen));
	CHECK(seen.reason == PEER_E_CONNECTION_REFUSED);
	CHECK(ask("register", 1)[0] == S_OK);

	/* closed while it opens: one FAILED, or it was quicker, then one CONNECTED and DISCONNECTED */
	CHECK_HR(PeerGroupOpenDirectConnection(group, other_identity, &peer_address, &id), S_OK);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), S_OK);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), PEER_E_CONNECTION_NOT_FOUND);
	CHECK(await_end(id, &seen));
	CHECK(seen.reason ==
		(seen.status == PEER_CONNECTION_FAILED ? PEER_E_CONNECTION_FAILED : 0));
}

/* The flow of the samples: open, send from CONNECTED, the receiver enumerates and closes. */
static void test_chat(void)
{
	ULONGLONG id = open_one();
	struct seen seen;
	HPEERENUM connections;
	PEER_CONNECTION_INFO **items;
	ULONG count = 5;

	CHECK_HR(PeerGroupEnumConnections(group, PEER_CONNECTION_DIRECT, &connections), S_OK);
	CHECK_HR(PeerGetNextItem(connections, &count, (PVOID **)&items), S_OK);
	CHECK_HR(PeerEndEnumeration(connections), S_OK);
	CHECK(count == 1 && items[0]->ullConnectionId == id && items[0]->dwSize == sizeof **items);
	CHECK(count == 1 && items[0]->dwFlags == PEER_CONNECTION_DIRECT && items[0]->ullNodeId);
	CHECK(count == 1 && text_equal(items[0]->pwzPeerId, other_identity));
	CHECK(count == 1 && !memcmp(&items[0]->address, &peer_address, sizeof peer_address));
	PeerFreeData(items);
	CHECK_HR(send_text(id, &type_echo, u"Hello"), S_OK);
	CHECK(await(PEER_GROUP_EVENT_INCOMING_DATA, 0, id, &seen));
	CHECK(seen.bytes == 12 && IsEqualGUID(&seen.label, &type_text));
	CHECK_HR(send_text(id, &type_close, u"Whisper"), S_OK);
	CHECK(await(DIRECT, PEER_DISCONNECTED, id, &seen) && seen.reason == 0);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), PEER_E_CONNECTION_NOT_FOUND);
	CHECK_HR(send_text(id, &type_text, u"late"), PEER_E_CONNECTION_NOT_FOUND);
}

/* Messages of any size arrive whole; a peer that does not read bounds what we may queue. */
static void test_sizes(void)
{
	static BYTE big[PEERHUB_MESSAGE_BYTES_MAX];
	const long long *answer = ask("counts", 0);
	long long messages = answer[3], bytes = answer[4];
	ULONGLONG id = open_one();
	HRESULT hr;
	int sent = 0, refusals = 0;

	ask("pause", 1);
	CHECK_HR(PeerGroupSendData(group, id, &type_text, (ULONG)large_bytes, big), S_OK);
	/* Its unread events have a bound, the sockets' buffers too: some time we are refused. */
	while (refusals < 20 && sent < 2000) {
		hr = PeerGroupSendData(group, id, &type_text, 1 << 20, big);
		CHECK(hr == S_OK || hr == E_OUTOFMEMORY);
		sent += hr == S_OK;
		refusals = hr == S_OK ? 0 : refusals + 1;
		if (hr != S_OK)
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	fprintf(stderr, "the peer took %d MiB unread\n", (int)(large_bytes >> 20) + sent);
	CHECK(refusals == 20);
	CHECK(enum_count(PEER_CONNECTION_DIRECT) == 1);
	ask("pause", 0);
	CHECK(peer_count(3, messages + 1 + sent));
	CHECK(ask("counts", 0)[4] == bytes + large_bytes + ((long long)sent << 20));
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), S_OK);
	CHECK(await(DIRECT, PEER_DISCONNECTED, id, NULL));
	CHECK(!has_seen(DIRECT, PEER_CONNECTION_FAILED, id));
}

/* The peer does not read its events: nothing is lost, order holds, sends are refused, not blocked. */
static void test_backlog(void)
{
	long long messages = ask("counts", 0)[3];
	ULONGLONG id = open_one();
	struct {
		uint32_t number;
		BYTE fill[60];
	} message = {0};
	int refused = 0;

	ask("pause", 1);
	while ((int)message.number < backlog_count) {
		HRESULT hr = PeerGroupSendData(group, id, &type_count, sizeof message, &message);
		if (hr == S_OK) {
			message.number++;
		} else if (hr == E_OUTOFMEMORY) {
			if (!refused++)
				ask("pause", 0);
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		} else {
			fatal("SendData", hr);
		}
	}
	ask("pause", 0);
	CHECK(peer_count(3, messages + backlog_count));
	/* what is accepted before Close arrives before the peer hears of the end */
	for (; (int)message.number < backlog_count + 50; message.number++)
		CHECK_HR(PeerGroupSendData(group, id, &type_count, sizeof message, &message), S_OK);
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), S_OK);
	CHECK(await(DIRECT, PEER_DISCONNECTED, id, NULL));
	CHECK(peer_count(3, messages + backlog_count + 50));
}

static void *storm(void *context)
{
	ULONGLONG *ids = context;
	unsigned int seed = storm_seed + (unsigned int)((ids - storm_ids[0]) / STORM_OPENS);
	uint32_t number;

	for (int i = 0; i < storm_opens; i++) {
		HRESULT hr = PeerGroupOpenDirectConnection(
			group, other_identity, &peer_address, &ids[i]);
		if (hr != S_OK) {
			CHECK_HR(hr, S_OK);
			continue;
		}
		switch (rand_r(&seed) % 4) {
		case 0:
			hr = PeerGroupCloseDirectConnection(group, ids[i]);
			CHECK(hr == S_OK ||
				hr == PEER_E_CONNECTION_NOT_FOUND); /* the peer was first */
			CHECK_HR(PeerGroupCloseDirectConnection(group, ids[i]),
				PEER_E_CONNECTION_NOT_FOUND);
			break;
		case 1:
			number = (uint32_t)i;
			hr = PeerGroupSendData(group, ids[i], &type_text, sizeof number, &number);
			CHECK(hr == S_OK || hr == PEER_E_CONNECTION_NOT_FOUND);
			break;
		case 2:
			hr = PeerGroupCloseDirectConnection(
				group, ids[rand_r(&seed) % (unsigned int)(i + 1)]);
			CHECK(hr == S_OK || hr == PEER_E_CONNECTION_NOT_FOUND);
			break;
		default:
			if (enum_count(PEER_CONNECTION_DIRECT) > AUDIT_COUNT)
				fatal("enum", 0);
		}
	}
	return NULL;
}

static bool audits_ended(long long count)
{
	struct timespec until;
	bool all = false;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&events.lock);
	for (;;) {
		all = events.disconnected + events.failed == count;
		if (all || pthread_cond_timedwait(&events.changed, &events.lock, &until))
			break;
	}
	if (!all)
		fprintf(stderr, "ended %lld and %lld, not %lld\n", events.disconnected,
			events.failed, count);
	pthread_mutex_unlock(&events.lock);
	return all;
}

static void test_storm(void)
{
	pthread_t threads[STORM_THREADS];
	long long before, opened = 0;

	pthread_mutex_lock(&events.lock);
	before = events.disconnected + events.failed;
	atomic_store(&storm_runs, true);
	fprintf(stderr, "storm, seed %u\n", storm_seed);
	pthread_mutex_unlock(&events.lock);
	for (int i = 0; i < STORM_THREADS; i++)
		pthread_create(&threads[i], NULL, storm, storm_ids[i]);
	for (int i = 0; i < 3; i++)
		ask("closeall", 0);
	for (int i = 0; i < STORM_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < STORM_THREADS; i++)
		for (int j = 0; j < storm_opens; j++)
			opened += storm_ids[i][j] != 0;
	/* every attempt ends; those that stand are closed by us as they come */
	for (int i = 0; i < WAIT_SECONDS * 100; i++) {
		pthread_mutex_lock(&events.lock);
		bool all = events.disconnected + events.failed == before + opened;
		pthread_mutex_unlock(&events.lock);
		if (all)
			break;
		close_all();
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	CHECK(audits_ended(before + opened));
	atomic_store(&storm_runs, false);
	CHECK(enum_count(PEER_CONNECTION_DIRECT) == 0);
	CHECK(enum_count(PEER_CONNECTION_NEIGHBOR) == 1);
	CHECK(peer_count(1, ask("counts", 0)[0]));
	CHECK(ask("counts", 0)[2] == 0);
}

/* The other way round: the peer opens, we answer from the handler and from threads. */
static void test_incoming(void)
{
	struct seen seen = {0};
	long long failed = ask("counts", 0)[2];
	long long ended;

	CHECK(peer_count(1, ask("counts", 0)[0]));
	ended = ask("counts", 0)[1];
	CHECK(ask("open", 20)[0] == 20);
	for (int i = 0; i < 20; i++) {
		CHECK(await(DIRECT, PEER_CONNECTED, 0, &seen));
		CHECK_HR(send_text(seen.id, &type_text, u"welcome"), S_OK);
	}
	CHECK(enum_count(PEER_CONNECTION_DIRECT) == 20);
	CHECK(close_all() == 20);
	for (int i = 0; i < 20; i++)
		CHECK(await(DIRECT, PEER_DISCONNECTED, 0, NULL));
	CHECK(peer_count(1, ended + 20));
	CHECK(ask("counts", 0)[2] == failed);
}

/* A second handle of the node and a second registration: everybody gets a copy. */
static void test_second_handle(void)
{
	HGROUP second;
	HANDLE manual = CreateEvent(NULL, TRUE, FALSE, NULL);
	PEER_GROUP_EVENT_REGISTRATION wanted[] = {
		{DIRECT, NULL}, {PEER_GROUP_EVENT_INCOMING_DATA, (GUID *)&type_close}};
	HPEEREVENT made;
	PEER_GROUP_EVENT_DATA *data;
	ULONGLONG id;
	DWORD status = 0;

	CHECK_HR(PeerGroupOpen(own_identity, text_load("group"), NULL, &second), S_OK);
	CHECK(second != group);
	CHECK_HR(PeerGroupGetStatus(second, &status), S_OK);
	CHECK(status == 3);
	CHECK_HR(PeerGroupRegisterEvent(second, manual, 2, wanted, &made), S_OK);
	CHECK_HR(PeerGroupGetEventData(made, &data), PEER_S_NO_EVENT_DATA);
	CHECK(!data);
	id = open_one();
	CHECK(WaitForSingleObject(manual, WAIT_SECONDS * 1000) == WAIT_OBJECT_0);
	CHECK_HR(PeerGroupGetEventData(made, &data), S_OK);
	CHECK(data && data->eventType == DIRECT &&
		data->connectionChangeData.ullConnectionId == id);
	PeerFreeData(data);
	CHECK_HR(PeerGroupGetEventData(made, &data), PEER_S_NO_EVENT_DATA);
	ResetEvent(manual);
	CHECK_HR(send_text(id, &type_echo, u"x"), S_OK);
	CHECK(await(PEER_GROUP_EVENT_INCOMING_DATA, 0, id, NULL));
	CHECK_HR(PeerGroupGetEventData(made, &data), PEER_S_NO_EVENT_DATA); /* other type */
	CHECK_HR(PeerGroupCloseDirectConnection(second, id), S_OK);
	CHECK(WaitForSingleObject(manual, WAIT_SECONDS * 1000) == WAIT_OBJECT_0);
	CHECK(await(DIRECT, PEER_DISCONNECTED, id, NULL));
	CHECK_HR(PeerGroupUnregisterEvent(made), S_OK);
	CHECK_HR(PeerGroupUnregisterEvent(made), E_INVALIDARG);
	CHECK_HR(PeerGroupGetEventData(made, &data), E_INVALIDARG);
	ResetEvent(manual);
	id = open_one();
	CHECK(WaitForSingleObject(manual, 0) == WAIT_TIMEOUT);
	CHECK_HR(PeerGroupClose(second), S_OK); /* not the last: the connection stays */
	CHECK_HR(send_text(id, &type_echo, u"x"), S_OK);
	CHECK(await(PEER_GROUP_EVENT_INCOMING_DATA, 0, id, NULL));
	CHECK_HR(PeerGroupCloseDirectConnection(group, id), S_OK);
	CHECK(await(DIRECT, PEER_DISCONNECTED, id, NULL));
	CHECK(CloseHandle(manual));
}

static void test_peer_killed(void)
{
	ULONGLONG first = open_one(), second = open_one();
	struct seen seen;

	kill(peer_pid, SIGKILL);
	CHECK(await(DIRECT, PEER_DISCONNECTED, first, &seen) && seen.reason == 0);
	CHECK(await(DIRECT, PEER_DISCONNECTED, second, &seen) && seen.reason == 0);
	CHECK(await(NEIGHBOR, PEER_DISCONNECTED, 0, &seen) && seen.reason == 0);
	CHECK(await(PEER_GROUP_EVENT_MEMBER_CHANGED, PEER_MEMBER_DISCONNECTED, 0, NULL));
	CHECK(await(PEER_GROUP_EVENT_STATUS_CHANGED, PEER_GROUP_STATUS_LISTENING, 0, NULL));
	peer_join(true);
	peer_start(true);
	CHECK(ask("reopen", 0)[0] == S_OK);
	CHECK(ask("connect", 0)[0] == S_OK); /* by the address that worked before */
	CHECK(ask("neighbor", 0)[0]);
	CHECK(await(NEIGHBOR, PEER_CONNECTED, 0, NULL));
	CHECK(await(PEER_GROUP_EVENT_MEMBER_CHANGED, PEER_MEMBER_CONNECTED, 0, NULL));
	peer_address = address_of(other_identity);
}

static void test_peer_leaves(void)
{
	ULONGLONG ids[3];
	struct seen seen;
	const long long *answer;

	for (int i = 0; i < 3; i++)
		ids[i] = open_one();
	answer = ask("groupclose", 0);
	CHECK(answer[0] == S_OK && answer[1] == S_OK && answer[2] == PEER_E_INVALID_GROUP);
	for (int i = 0; i < 3; i++)
		CHECK(await(DIRECT, PEER_DISCONNECTED, ids[i], &seen) && seen.reason == 0);
	CHECK(await(NEIGHBOR, PEER_DISCONNECTED, 0, NULL));
	CHECK(ask("reopen", 0)[0] == S_OK);
	CHECK(ask("connect", 0)[0] == S_OK);
	CHECK(ask("neighbor", 0)[0]);
	CHECK(await(NEIGHBOR, PEER_CONNECTED, 0, NULL));
	peer_address = address_of(other_identity);
	for (int i = 0; i < 3; i++)
		ids[i] = open_one();
	answer = ask("delete", 0);
	CHECK(answer[0] == S_OK && answer[1] == E_INVALIDARG && answer[2]);
	CHECK(answer[3] == PEER_E_INVALID_GROUP);
	for (int i = 0; i < 3; i++)
		CHECK(await(DIRECT, PEER_DISCONNECTED, ids[i], &seen) && seen.reason == 0);
	CHECK(await(NEIGHBOR, PEER_DISCONNECTED, 0, NULL));
	CHECK(enum_count(3) == 0);
	answer = ask("quit", 0);
	CHECK(answer[0] == S_OK && answer[1] == PEER_E_NOT_INITIALIZED);
	peer_join(false);
}

static void test_end(void)
{
	HPEEREVENT old = registration;
	HPEERENUM members;
	PEER_GROUP_EVENT_DATA *data;
	DWORD status;
	PEER_VERSION_DATA version;

	CHECK_HR(PeerGroupEnumMembers(group, 0, NULL, &members), S_OK);
	CHECK(events.violations == 0);
	CHECK(UnregisterWaitEx(wait_handle, INVALID_HANDLE_VALUE));
	CHECK_HR(PeerGroupShutdown(), S_OK);
	CHECK_HR(PeerGroupShutdown(), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerGroupGetStatus(group, &status), PEER_E_NOT_INITIALIZED);
	CHECK_HR(PeerEndEnumeration(members), E_INVALIDARG);
	CHECK_HR(PeerGroupStartup(PEER_GROUP_VERSION, &version), S_OK);
	CHECK_HR(PeerGroupGetStatus(group, &status), PEER_E_INVALID_GROUP);
	CHECK_HR(PeerGroupGetEventData(old, &data), E_INVALIDARG);
	CHECK_HR(PeerGroupUnregisterEvent(old), E_INVALIDARG);
	CHECK_HR(PeerGroupOpen(NULL, text_load("group"), NULL, &group), S_OK);
	CHECK_HR(PeerGroupClose(group), S_OK);
	CHECK_HR(PeerGroupDelete(own_identity, text_load("group")), S_OK);
	CHECK_HR(PeerIdentityDelete(own_identity), S_OK);
	CHECK_HR(PeerGroupShutdown(), S_OK);
	CHECK(CloseHandle(event));
	CHECK(!CloseHandle(event));
	PeerFreeData(own_identity);
}

static void step(const char *name, void (*test)(void))
{
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	test();
	clock_gettime(CLOCK_MONOTONIC, &end);
	fprintf(stderr, "%-24s %5ld ms, %d deviations so far\n", name,
		(end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000,
		deviations);
}

int main(int argc, char **argv)
{
	char command[300];

	setenv("PEERHUB_LISTEN", "[::1]:0", 1);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3) {
		snprintf(directory, sizeof directory, "%s", argv[2]);
		return peer_main(!strcmp(argv[1], "--peer-again"));
	}
	storm_seed = argc == 2 ? (unsigned int)atol(argv[1]) : (unsigned int)time(NULL);
	if (getenv("PEERHUB_TEST_LONG")) {
		storm_opens = STORM_OPENS;
		backlog_count = 100000;
		large_bytes = PEERHUB_MESSAGE_BYTES_MAX;
	}
	if (!scratch_create(directory, NULL, "two"))
		fatal("mkdtemp", 0);
	setenv("PEERHUB_HOME", in_directory("creator"), 1);
	step("not started", test_not_started);
	step("identities", test_identities);
	step("group", test_group_create);
	events_start();
	CHECK_HR(events_register(), S_OK);
	step("bad handles", test_bad_handles);
	step("offline", test_offline);
	peer_start(false);
	step("invitations", test_invitations);
	step("peer joins", test_peer_joins);
	step("connect", test_connect);
	step("peer connects", test_peer_connects);
	step("direct arguments", test_direct_arguments);
	step("chat", test_chat);
	step("incoming", test_incoming);
	step("second handle", test_second_handle);
	step("sizes", test_sizes);
	step("backlog", test_backlog);
	step("storm", test_storm);
	step("peer killed", test_peer_killed);
	step("peer leaves", test_peer_leaves);
	step("end", test_end);
	snprintf(command, sizeof command, "rm -rf %s", directory);
	if (system(command))
		fatal("rm", 0);
	fprintf(stderr, "%d deviations\n", deviations);
	return deviations != 0;
}
