/*
 * Shared by the tests of the p2p layer: agents, which are processes with a store of their own that do
 * what the test tells them.
 *
 * An agent is forked at the beginning of main, before any thread exists, and never execs: a test
 * hands it a function and bytes, and gets bytes back. So both ends of a connection are scripted from
 * one place, on the real engine and the kernel's loopback. An agent that dies fails the test that
 * talks to it. Waiting is always for an event, with a limit that only a hang can reach.
 */
#ifndef PEERHUB_TESTS_P2P_TEST_H
#define PEERHUB_TESTS_P2P_TEST_H

#include "p2p.h"
#include "peerhub.h"
#include "peerhub/extras.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST_LIMIT_S \
	330 /* of a whole test program: only what hangs reaches it; ctest kills at 360 */
#define EVENT_LIMIT_MS 60000u /* only a hang reaches it */
#define NAME_UNITS 200u
#define TEXT_UNITS 65536u
#define ITEMS_MAX 64u
#define HEAD_BYTES 64u

typedef void (*agent_function)(const void *in, void *out);

struct agent {
	const char *name;
	pid_t pid;
	int fd; /* ours of the socket pair */
	WCHAR identity[NAME_UNITS];
	PEER_ADDRESS address; /* where it listens, once it is online */
	HGROUP group; /* of the present test */
	HPEEREVENT events; /* DIRECT_CONNECTION and INCOMING_DATA */
	HPEEREVENT status; /* STATUS_CHANGED, NEIGHBOR_CONNECTION and CONNECTION_FAILED */
};

/* ---- agents ------------------------------------------------------------------------------- */

struct agent_header {
	agent_function function;
	size_t in_bytes, out_bytes;
};

static inline bool fd_read(int fd, void *to, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t count = read(fd, (char *)to + done, bytes - done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return false;
		done += (size_t)count;
	}
	return true;
}

static inline bool fd_write(int fd, const void *from, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t count = send(fd, (const char *)from + done, bytes - done, MSG_NOSIGNAL);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return false;
		done += (size_t)count;
	}
	return true;
}

static inline void agent_main(int fd)
{
	struct agent_header header;

	while (fd_read(fd, &header, sizeof(header)) && header.function != NULL) {
		void *in = calloc(1, header.in_bytes + 1);
		void *out = calloc(1, header.out_bytes + 1);

		if (in == NULL || out == NULL || !fd_read(fd, in, header.in_bytes))
			_exit(99);
		header.function(in, out);
		if (!fd_write(fd, out, header.out_bytes))
			_exit(98);
		free(in);
		free(out);
	}
	close(fd);
}

static inline int path_remove(const char *path, const struct stat *info, int flag, struct FTW *walk)
{
	(void)info;
	(void)flag;
	(void)walk;
	return remove(path);
}

/* The home of an agent, made by the test, removed when the agent ends. */
static inline void agent_home(const struct agent *agent, char path[256])
{
	const char *base = getenv("TMPDIR");

	(void)!snprintf(path, 256, "%s/peerhub-test-%d-%s", base != NULL ? base : "/tmp",
		(int)getppid(), agent->name);
}

/* Start an agent: in main, before anything makes a thread. `listen` is its PEERHUB_LISTEN. */
static inline void agent_start(struct agent *agent, const char *name, const char *listen)
{
	int pair[2];

	memset(agent, 0, sizeof(*agent));
	agent->name = name;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		exit(97);
	fflush(NULL);
	agent->pid = fork();
	if (agent->pid < 0)
		exit(97);
	if (agent->pid == 0) {
		char home[256];

		close(pair[0]);
		alarm(TEST_LIMIT_S);
		agent_home(agent, home);
		setenv("PEERHUB_HOME", home, 1);
		if (listen != NULL)
			setenv("PEERHUB_LISTEN", listen, 1);
		agent_main(pair[1]);
		(void)PeerGroupShutdown();
		(void)!nftw(home, path_remove, 16, FTW_DEPTH | FTW_PHYS);
		exit(0);
	}
	close(pair[1]);
	agent->fd = pair[0];
}

#define agent_call(agent, function, in, out) \
	agent_call_bytes(agent, function, in, sizeof(*(in)), out, sizeof(*(out)))

static inline void agent_call_bytes(const struct agent *agent, agent_function function,
	const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	struct agent_header header = {function, in_bytes, out_bytes};

	if (!fd_write(agent->fd, &header, sizeof(header)) || !fd_write(agent->fd, in, in_bytes) ||
		!fd_read(agent->fd, out, out_bytes))
		fail_msg("agent %s died", agent->name);
}

/* Only the request: the answer is fetched by agent_finish, so that two agents work at once. */
static inline void agent_begin(const struct agent *agent, agent_function function, const void *in,
	size_t in_bytes, size_t out_bytes)
{
	struct agent_header header = {function, in_bytes, out_bytes};

	if (!fd_write(agent->fd, &header, sizeof(header)) || !fd_write(agent->fd, in, in_bytes))
		fail_msg("agent %s died", agent->name);
}

static inline void agent_finish(const struct agent *agent, void *out, size_t out_bytes)
{
	if (!fd_read(agent->fd, out, out_bytes))
		fail_msg("agent %s died", agent->name);
}

/* 0: it ended by itself without a finding of a sanitizer. */
static inline int agent_stop(struct agent *agent)
{
	struct agent_header header = {NULL, 0, 0};
	int status = 0;

	if (agent->pid <= 0)
		return 0;
	(void)fd_write(agent->fd, &header, sizeof(header));
	while (waitpid(agent->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(agent->fd);
	agent->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	fprintf(stderr, "agent %s ended with status 0x%x\n", agent->name, (unsigned)status);
	return 1;
}

/* The death of a machine: no goodbye of any kind. */
static inline void agent_kill(struct agent *agent)
{
	char home[256];

	kill(agent->pid, SIGKILL);
	while (waitpid(agent->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(agent->fd);
	agent->pid = 0;
	(void)!snprintf(home, sizeof(home), "%s/peerhub-test-%d-%s",
		getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp", (int)getpid(), agent->name);
	(void)!nftw(home, path_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- results ------------------------------------------------------------------------------ */

#define assert_result(result, expected)                                     \
	do {                                                                \
		HRESULT got_ = (result), want_ = (expected);                \
		if (got_ != want_)                                          \
			fail_msg("%s is %s (0x%08x), expected %s", #result, \
				PeerhubResultName(got_), (unsigned)got_,    \
				PeerhubResultName(want_));                  \
	} while (0)

struct name_result {
	HRESULT result;
	WCHAR name[NAME_UNITS];
	char detail[256];
};

struct text_result {
	HRESULT result;
	WCHAR text[TEXT_UNITS];
};

struct handle_result {
	HRESULT result;
	PVOID handle;
	char detail[256];
};

static inline void wide_copy(WCHAR *to, PCWSTR from, size_t units)
{
	size_t at = 0;

	for (; from != NULL && from[at] != 0 && at + 1 < units; at++)
		to[at] = from[at];
	to[at] = 0;
}

static inline bool wide_is_equal(PCWSTR left, PCWSTR right)
{
	size_t at = 0;

	while (left[at] == right[at] && left[at] != 0)
		at++;
	return left[at] == right[at];
}

static inline void detail_copy(char detail[256], HRESULT result)
{
	(void)!snprintf(detail, 256, "%s", FAILED(result) ? PeerhubLastErrorText() : "");
}

/* ---- start, identities -------------------------------------------------------------------- */

static inline void do_startup(const void *in, void *out)
{
	PEER_VERSION_DATA version;

	(void)in;
	*(HRESULT *)out = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (FAILED(*(HRESULT *)out))
		fprintf(stderr, "startup: %s\n", PeerhubLastErrorText());
}

static inline void do_shutdown(const void *in, void *out)
{
	(void)in;
	*(HRESULT *)out = PeerGroupShutdown();
}

static inline HRESULT agent_startup(const struct agent *agent)
{
	HRESULT result;
	char none = 0;

	agent_call(agent, do_startup, &none, &result);
	return result;
}

static inline HRESULT agent_shutdown(const struct agent *agent)
{
	HRESULT result;
	char none = 0;

	agent_call(agent, do_shutdown, &none, &result);
	return result;
}

static inline void do_identity(const void *in, void *out)
{
	struct name_result *answer = out;
	PWSTR name;

	answer->result = PeerIdentityCreate(u"test", in, 0, &name);
	if (SUCCEEDED(answer->result))
		wide_copy(answer->name, name, NAME_UNITS);
	else
		fprintf(stderr, "identity: %s\n", PeerhubLastErrorText());
	PeerFreeData(name);
}

static inline void agent_identity(struct agent *agent, PCWSTR friendly_name)
{
	WCHAR wide[32];
	struct name_result answer;

	wide_copy(wide, friendly_name, 32);
	agent_call(agent, do_identity, &wide, &answer);
	assert_result(answer.result, S_OK);
	wide_copy(agent->identity, answer.name, NAME_UNITS);
}

static inline void do_identity_xml(const void *in, void *out)
{
	struct text_result *answer = out;
	PWSTR text;

	answer->result = PeerIdentityGetXML(in, &text);
	if (SUCCEEDED(answer->result))
		wide_copy(answer->text, text, TEXT_UNITS);
	PeerFreeData(text);
}

/* ---- groups ------------------------------------------------------------------------------- */

struct create_result {
	HRESULT result;
	HGROUP group;
	WCHAR name[NAME_UNITS];
};

static inline void do_create(const void *in, void *out)
{
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties),
		.pwzCreatorPeerName = (PWSTR)(uintptr_t)in,
		.pwzClassifier = (PWSTR)(uintptr_t)u"group",
		.pwzFriendlyName = (PWSTR)(uintptr_t)u"Test group",
		.pwzComment = (PWSTR)(uintptr_t)u"of a test"};
	struct create_result *answer = out;
	PEER_GROUP_PROPERTIES *made = NULL;

	answer->result = PeerGroupCreate(&properties, &answer->group);
	if (SUCCEEDED(answer->result))
		answer->result = PeerGroupGetProperties(answer->group, &made);
	if (SUCCEEDED(answer->result))
		wide_copy(answer->name, made->pwzGroupPeerName, NAME_UNITS);
	else
		fprintf(stderr, "create: %s\n", PeerhubLastErrorText());
	PeerFreeData(made);
}

struct invite_request {
	HGROUP group;
	int64_t lifetime_s; /* 0: the maximum */
	GUID role;
	WCHAR xml[TEXT_UNITS];
};

static inline FILETIME filetime_in(int64_t seconds)
{
	uint64_t ticks = ((uint64_t)((int64_t)time(NULL) + seconds) + 11644473600ull) * 10000000ull;

	return (FILETIME){(DWORD)ticks, (DWORD)(ticks >> 32)};
}

static inline void do_invite(const void *in, void *out)
{
	const struct invite_request *request = in;
	struct text_result *answer = out;
	FILETIME end = filetime_in(request->lifetime_s);
	PWSTR text;

	answer->result = PeerGroupCreateInvitation(request->group, request->xml,
		request->lifetime_s != 0 ? &end : NULL, 1, &request->role, &text);
	if (SUCCEEDED(answer->result))
		wide_copy(answer->text, text, TEXT_UNITS);
	else
		fprintf(stderr, "invite: %s\n", PeerhubLastErrorText());
	PeerFreeData(text);
}

static inline void do_join(const void *in, void *out)
{
	struct handle_result *answer = out;

	answer->result = PeerGroupJoin(NULL, in, NULL, &answer->handle);
	detail_copy(answer->detail, answer->result);
}

static inline void do_open(const void *in, void *out)
{
	struct handle_result *answer = out;

	answer->result = PeerGroupOpen(NULL, in, NULL, &answer->handle);
	detail_copy(answer->detail, answer->result);
}

static inline void do_close(const void *in, void *out)
{
	*(HRESULT *)out = PeerGroupClose(*(const HGROUP *)in);
}

static inline void do_delete(const void *in, void *out)
{
	*(HRESULT *)out = PeerGroupDelete(NULL, in);
}

static inline void do_connect(const void *in, void *out)
{
	*(HRESULT *)out = PeerGroupConnect(*(const HGROUP *)in);
	if (FAILED(*(HRESULT *)out))
		fprintf(stderr, "connect: %s\n", PeerhubLastErrorText());
}

struct address_request {
	HGROUP group;
	PEER_ADDRESS address;
};

static inline void do_connect_by_address(const void *in, void *out)
{
	struct address_request request = *(const struct address_request *)in;

	*(HRESULT *)out = PeerGroupConnectByAddress(request.group, 1, &request.address);
}

struct status_result {
	HRESULT result;
	DWORD status;
};

static inline void do_status(const void *in, void *out)
{
	struct status_result *answer = out;

	answer->result = PeerGroupGetStatus(*(const HGROUP *)in, &answer->status);
}

static inline DWORD agent_status(const struct agent *agent)
{
	struct status_result answer;

	agent_call(agent, do_status, &agent->group, &answer);
	assert_result(answer.result, S_OK);
	return answer.status;
}

static inline HRESULT agent_group_call(
	const struct agent *agent, agent_function function, HGROUP group)
{
	HRESULT result;

	agent_call(agent, function, &group, &result);
	return result;
}

static inline HRESULT agent_connect_by_address(
	const struct agent *agent, HGROUP group, const PEER_ADDRESS *address)
{
	struct address_request request = {group, *address};
	HRESULT result;

	agent_call(agent, do_connect_by_address, &request, &result);
	return result;
}

/* ---- members ------------------------------------------------------------------------------ */

struct member_seen {
	DWORD flags;
	ULONGLONG node_id;
	ULONG address_count;
	PEER_ADDRESS address;
	WCHAR identity[NAME_UNITS];
	WCHAR friendly_name[NAME_UNITS];
	WCHAR issuer[NAME_UNITS];
	ULONG role_count;
	GUID role;
	ULONG key_bytes;
};

struct members_request {
	HGROUP group;
	DWORD flags;
	bool has_identity;
	WCHAR identity[NAME_UNITS];
};

struct members_result {
	HRESULT result;
	ULONG total;
	uint32_t count;
	struct member_seen items[8];
};

static inline void member_see(const PEER_MEMBER *from, struct member_seen *to)
{
	to->flags = from->dwFlags;
	to->node_id = from->ullNodeId;
	to->address_count = from->cAddresses;
	if (from->cAddresses > 0)
		to->address = from->pAddresses[0];
	wide_copy(to->identity, from->pwzIdentity, NAME_UNITS);
	wide_copy(to->friendly_name, from->pCredentialInfo->pwzFriendlyName, NAME_UNITS);
	wide_copy(to->issuer, from->pCredentialInfo->pwzIssuerPeerName, NAME_UNITS);
	to->role_count = from->pCredentialInfo->cRoles;
	if (to->role_count > 0)
		to->role = from->pCredentialInfo->pRoles[0];
	to->key_bytes = from->pCredentialInfo->pPublicKey->PublicKey.cbData;
}

static inline void do_members(const void *in, void *out)
{
	const struct members_request *request = in;
	struct members_result *answer = out;
	HPEERENUM enumeration;
	PEER_MEMBER **items;
	ULONG count = 8;

	answer->result = PeerGroupEnumMembers(request->group, request->flags,
		request->has_identity ? request->identity : NULL, &enumeration);
	if (FAILED(answer->result))
		return;
	answer->result = PeerGetItemCount(enumeration, &answer->total);
	if (SUCCEEDED(answer->result))
		answer->result = PeerGetNextItem(enumeration, &count, (PVOID **)&items);
	(void)PeerEndEnumeration(enumeration);
	if (FAILED(answer->result))
		return;
	answer->count = count;
	for (ULONG index = 0; index < count; index++)
		member_see(items[index], &answer->items[index]);
	PeerFreeData(items);
}

static inline struct members_result agent_members(
	const struct agent *agent, DWORD flags, PCWSTR identity)
{
	struct members_request request = {
		.group = agent->group, .flags = flags, .has_identity = identity != NULL};
	struct members_result answer;

	wide_copy(request.identity, identity, NAME_UNITS);
	agent_call(agent, do_members, &request, &answer);
	assert_result(answer.result, S_OK);
	return answer;
}

/* ---- events ------------------------------------------------------------------------------- */

/* The event object that belongs to a registration of this process. */
struct registered {
	HPEEREVENT handle;
	HANDLE event;
};
static struct registered registered[256];

static inline struct registered *registered_find(HPEEREVENT handle)
{
	for (size_t index = 0; index < 256; index++)
		if (registered[index].handle == handle)
			return &registered[index];
	return NULL;
}

#define TYPE_BIT(type) (1u << (type))
#define TYPES_DIRECT \
	(TYPE_BIT(PEER_GROUP_EVENT_DIRECT_CONNECTION) | TYPE_BIT(PEER_GROUP_EVENT_INCOMING_DATA))
#define TYPES_STATUS \
	(TYPE_BIT(PEER_GROUP_EVENT_STATUS_CHANGED) | TYPE_BIT(PEER_GROUP_EVENT_CONNECTION_FAILED))

struct register_request {
	HGROUP group;
	uint32_t types; /* TYPE_BIT each */
	bool has_filter; /* for INCOMING_DATA */
	GUID filter;
};

static inline void do_register(const void *in, void *out)
{
	const struct register_request *request = in;
	struct handle_result *answer = out;
	PEER_GROUP_EVENT_REGISTRATION entries[16];
	struct registered *place = registered_find(NULL);
	GUID filter = request->filter;
	DWORD count = 0;

	if (place == NULL) {
		answer->result = E_FAIL;
		return;
	}
	for (uint32_t type = 1; type < 16; type++) {
		bool is_data = type == PEER_GROUP_EVENT_INCOMING_DATA;

		if ((request->types & TYPE_BIT(type)) == 0)
			continue;
		entries[count].eventType = (PEER_GROUP_EVENT_TYPE)type;
		entries[count++].pType = is_data && request->has_filter ? &filter : NULL;
	}
	place->event = CreateEvent(NULL, FALSE, FALSE, NULL);
	answer->result = PeerGroupRegisterEvent(
		request->group, place->event, count, entries, &place->handle);
	detail_copy(answer->detail, answer->result);
	answer->handle = place->handle;
	if (FAILED(answer->result)) {
		CloseHandle(place->event);
		place->event = NULL;
	}
}

static inline void do_unregister(const void *in, void *out)
{
	HPEEREVENT handle = *(const HPEEREVENT *)in;
	struct registered *place = registered_find(handle);

	*(HRESULT *)out = PeerGroupUnregisterEvent(handle);
	if (place == NULL)
		return;
	CloseHandle(place->event);
	place->handle = NULL;
	place->event = NULL;
}

static inline HRESULT agent_register_types(
	const struct agent *agent, HGROUP group, uint32_t types, HPEEREVENT *handle)
{
	struct register_request request = {.group = group, .types = types};
	struct handle_result answer;

	agent_call(agent, do_register, &request, &answer);
	*handle = answer.handle;
	return answer.result;
}

static inline HRESULT agent_unregister(const struct agent *agent, HPEEREVENT handle)
{
	HRESULT result;

	agent_call(agent, do_unregister, &handle, &result);
	return result;
}

struct event {
	HRESULT result; /* S_OK, PEER_S_NO_EVENT_DATA, E_ABORT: limit reached, or an error */
	PEER_GROUP_EVENT_TYPE type;
	DWORD status_flags;
	PEER_CONNECTION_STATUS status;
	ULONGLONG id;
	ULONGLONG node_id;
	ULONGLONG next_id;
	HRESULT reason;
	GUID guid;
	ULONG bytes;
	uint64_t sum; /* of the data, see data_sum */
	uint8_t head[HEAD_BYTES];
	bool is_aligned;
	PEER_MEMBER_CHANGE_TYPE change;
	WCHAR identity[NAME_UNITS];
};

static inline uint64_t data_sum(const uint8_t *data, size_t bytes)
{
	uint64_t sum = 14695981039346656037ull;

	for (size_t at = 0; at < bytes; at++)
		sum = (sum ^ data[at]) * 1099511628211ull;
	return sum;
}

static inline void event_see(const PEER_GROUP_EVENT_DATA *from, struct event *to)
{
	to->type = from->eventType;
	switch (from->eventType) {
	case PEER_GROUP_EVENT_STATUS_CHANGED:
		to->status_flags = from->dwStatus;
		break;
	case PEER_GROUP_EVENT_DIRECT_CONNECTION:
	case PEER_GROUP_EVENT_NEIGHBOR_CONNECTION:
		to->status = from->connectionChangeData.status;
		to->id = from->connectionChangeData.ullConnectionId;
		to->node_id = from->connectionChangeData.ullNodeId;
		to->next_id = from->connectionChangeData.ullNextConnectionId;
		to->reason = from->connectionChangeData.hrConnectionFailedReason;
		break;
	case PEER_GROUP_EVENT_INCOMING_DATA:
		to->id = from->incomingData.ullConnectionId;
		to->guid = from->incomingData.type;
		to->bytes = from->incomingData.data.cbData;
		to->is_aligned = from->incomingData.data.pbData != NULL &&
			((uintptr_t)from->incomingData.data.pbData & 7) == 0;
		to->sum = data_sum(from->incomingData.data.pbData, to->bytes);
		memcpy(to->head, from->incomingData.data.pbData,
			to->bytes < HEAD_BYTES ? to->bytes : HEAD_BYTES);
		break;
	case PEER_GROUP_EVENT_MEMBER_CHANGED:
		to->change = from->memberChangeData.changeType;
		wide_copy(to->identity, from->memberChangeData.pwzIdentity, NAME_UNITS);
		break;
	case PEER_GROUP_EVENT_CONNECTION_FAILED:
		to->reason = from->hrConnectionFailedReason;
		break;
	default:
		break;
	}
}

struct event_request {
	HPEEREVENT handle;
	DWORD limit_ms; /* 0: only what is there */
};

static inline void do_event(const void *in, void *out)
{
	const struct event_request *request = in;
	struct event *answer = out;
	struct registered *place = registered_find(request->handle);
	PEER_GROUP_EVENT_DATA *data;

	for (;;) {
		answer->result = PeerGroupGetEventData(request->handle, &data);
		if (answer->result != PEER_S_NO_EVENT_DATA || request->limit_ms == 0)
			break;
		if (WaitForSingleObject(place->event, request->limit_ms) != WAIT_OBJECT_0) {
			answer->result = E_ABORT;
			return;
		}
	}
	if (answer->result == S_OK)
		event_see(data, answer);
	PeerFreeData(data);
}

static inline struct event agent_poll(const struct agent *agent, HPEEREVENT handle)
{
	struct event_request request = {handle, 0};
	struct event event;

	agent_call(agent, do_event, &request, &event);
	return event;
}

static inline struct event agent_event(const struct agent *agent, HPEEREVENT handle)
{
	struct event_request request = {handle, EVENT_LIMIT_MS};
	struct event event;

	agent_call(agent, do_event, &request, &event);
	assert_result(event.result, S_OK);
	return event;
}

#define assert_no_event(agent, handle) \
	assert_result(agent_poll(agent, handle).result, PEER_S_NO_EVENT_DATA)

/* The next event must be about a direct connection, with this status. */
static inline struct event agent_direct_event(
	const struct agent *agent, PEER_CONNECTION_STATUS status)
{
	struct event event = agent_event(agent, agent->events);

	assert_int_equal(event.type, PEER_GROUP_EVENT_DIRECT_CONNECTION);
	assert_int_equal(event.status, status);
	return event;
}

/* The next event must be data. */
static inline struct event agent_data_event(const struct agent *agent, ULONGLONG id)
{
	struct event event = agent_event(agent, agent->events);

	assert_int_equal(event.type, PEER_GROUP_EVENT_INCOMING_DATA);
	assert_int_equal(event.id, id);
	assert_true(event.is_aligned);
	return event;
}

/* ---- direct connections ------------------------------------------------------------------- */

struct open_request {
	HGROUP group;
	WCHAR identity[NAME_UNITS];
	PEER_ADDRESS address;
};

struct open_result {
	HRESULT result;
	ULONGLONG id;
	char detail[256];
};

static inline void do_open_direct(const void *in, void *out)
{
	struct open_request request = *(const struct open_request *)in;
	struct open_result *answer = out;

	answer->id = 1; /* must become 0 on failure */
	answer->result = PeerGroupOpenDirectConnection(
		request.group, request.identity, &request.address, &answer->id);
	detail_copy(answer->detail, answer->result);
}

static inline struct open_result agent_open_direct_in(
	const struct agent *agent, HGROUP group, PCWSTR identity, const PEER_ADDRESS *address)
{
	struct open_request request = {.group = group, .address = *address};
	struct open_result answer;

	wide_copy(request.identity, identity, NAME_UNITS);
	agent_call(agent, do_open_direct, &request, &answer);
	return answer;
}

static inline struct open_result agent_open_direct(
	const struct agent *agent, PCWSTR identity, const PEER_ADDRESS *address)
{
	return agent_open_direct_in(agent, agent->group, identity, address);
}

struct id_request {
	HGROUP group;
	ULONGLONG id;
};

static inline void do_close_direct(const void *in, void *out)
{
	const struct id_request *request = in;

	*(HRESULT *)out = PeerGroupCloseDirectConnection(request->group, request->id);
}

static inline HRESULT agent_close_direct(const struct agent *agent, ULONGLONG id)
{
	struct id_request request = {agent->group, id};
	HRESULT result;

	agent_call(agent, do_close_direct, &request, &result);
	return result;
}

static const GUID test_type = {
	0x4d5b2f11, 0x6522, 0x433b, {0x84, 0xef, 0xa2, 0x98, 0xe6, 0x07, 0xbb, 0xbb}};
static const GUID other_type = {
	0x00112233, 0x4455, 0x6677, {0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}};

/* Message number `seed` of a size: its first bytes are the number. */
static inline void pattern_fill(uint8_t *data, size_t bytes, uint32_t seed)
{
	uint32_t state = seed * 2654435761u + 1;

	for (size_t at = 0; at < bytes; at++) {
		state = state * 1664525u + 1013904223u;
		data[at] = (uint8_t)(state >> 24);
	}
	for (size_t at = 0; at < 4 && at < bytes; at++)
		data[at] = (uint8_t)(seed >> (8 * at));
}

static inline uint64_t pattern_sum(size_t bytes, uint32_t seed)
{
	uint8_t *data = malloc(bytes + 1);
	uint64_t sum;

	assert_non_null(data);
	pattern_fill(data, bytes, seed);
	sum = data_sum(data, bytes);
	free(data);
	return sum;
}

struct send_request {
	HGROUP group;
	ULONGLONG id;
	GUID type;
	ULONG bytes;
	uint32_t seed; /* of the first */
	uint32_t count; /* messages seed, seed + 1, …; stops at the first failure */
};

struct send_result {
	HRESULT result; /* of the last one */
	uint32_t accepted;
};

static inline void do_send(const void *in, void *out)
{
	const struct send_request *request = in;
	struct send_result *answer = out;
	uint8_t *data = malloc((size_t)request->bytes + 1);

	answer->result = data != NULL ? S_OK : E_FAIL;
	for (uint32_t index = 0; index < request->count && answer->result == S_OK; index++) {
		pattern_fill(data, request->bytes, request->seed + index);
		answer->result = PeerGroupSendData(
			request->group, request->id, &request->type, request->bytes, data);
		answer->accepted += answer->result == S_OK;
	}
	free(data);
}

static inline struct send_result agent_send_many(
	const struct agent *agent, ULONGLONG id, ULONG bytes, uint32_t seed, uint32_t count)
{
	struct send_request request = {.group = agent->group,
		.id = id,
		.type = test_type,
		.bytes = bytes,
		.seed = seed,
		.count = count};
	struct send_result answer;

	agent_call(agent, do_send, &request, &answer);
	return answer;
}

static inline HRESULT agent_send(
	const struct agent *agent, ULONGLONG id, ULONG bytes, uint32_t seed)
{
	return agent_send_many(agent, id, bytes, seed, 1).result;
}

struct connection_seen {
	DWORD flags;
	ULONGLONG id;
	ULONGLONG node_id;
	WCHAR identity[NAME_UNITS];
	PEER_ADDRESS address;
};

struct enum_request {
	HGROUP group;
	DWORD flags;
};

struct enum_result {
	HRESULT result;
	uint32_t count;
	struct connection_seen items[ITEMS_MAX];
};

static inline void do_enum(const void *in, void *out)
{
	const struct enum_request *request = in;
	struct enum_result *answer = out;
	HPEERENUM enumeration;
	PEER_CONNECTION_INFO **items;
	ULONG count = ITEMS_MAX;

	answer->result = PeerGroupEnumConnections(request->group, request->flags, &enumeration);
	if (FAILED(answer->result))
		return;
	answer->result = PeerGetNextItem(enumeration, &count, (PVOID **)&items);
	(void)PeerEndEnumeration(enumeration);
	if (FAILED(answer->result))
		return;
	answer->count = count;
	for (ULONG index = 0; index < count; index++) {
		answer->items[index].flags = items[index]->dwFlags;
		answer->items[index].id = items[index]->ullConnectionId;
		answer->items[index].node_id = items[index]->ullNodeId;
		answer->items[index].address = items[index]->address;
		wide_copy(answer->items[index].identity, items[index]->pwzPeerId, NAME_UNITS);
	}
	PeerFreeData(items);
}

static inline struct enum_result agent_enum(const struct agent *agent, DWORD flags)
{
	struct enum_request request = {agent->group, flags};
	struct enum_result answer;

	agent_call(agent, do_enum, &request, &answer);
	assert_result(answer.result, S_OK);
	return answer;
}

/* Where no event can tell: look until there are so many. */
static inline struct enum_result agent_enum_until(
	const struct agent *agent, DWORD flags, uint32_t count)
{
	struct enum_result connections;

	for (int turn = 0; turn < 6000; turn++) {
		const struct timespec pause = {0, 5000000};

		connections = agent_enum(agent, flags);
		if (connections.count == count)
			break;
		nanosleep(&pause, NULL);
	}
	return connections;
}

static inline bool enum_has(const struct enum_result *connections, ULONGLONG id)
{
	for (uint32_t index = 0; index < connections->count; index++)
		if (connections->items[index].id == id)
			return true;
	return false;
}

/* ---- calls with one result ---------------------------------------------------------------- */

/* What a test wants to call in an agent, with its own handles. */
struct call {
	HGROUP group;
	WCHAR identity[NAME_UNITS];
	WCHAR name[NAME_UNITS];
};

struct results {
	HRESULT list[24];
};

static inline struct results agent_results(const struct agent *agent, agent_function function)
{
	struct call call = {.group = agent->group};
	struct results results;

	wide_copy(call.identity, agent->identity, NAME_UNITS);
	agent_call(agent, function, &call, &results);
	return results;
}

#define assert_results(outcome, ...)                                                    \
	do {                                                                            \
		const HRESULT want_list_[] = {__VA_ARGS__};                             \
		const struct results got_list_ = (outcome);                             \
		for (size_t at_ = 0; at_ < sizeof(want_list_) / sizeof(HRESULT); at_++) \
			if (got_list_.list[at_] != want_list_[at_])                     \
				fail_msg("call %zu is %s, expected %s", at_,            \
					PeerhubResultName(got_list_.list[at_]),         \
					PeerhubResultName(want_list_[at_]));            \
	} while (0)

/* ---- worlds ------------------------------------------------------------------------------- */

static inline bool address_same(const PEER_ADDRESS *left, const PEER_ADDRESS *right)
{
	return left->sin6.sin6_port == right->sin6.sin6_port &&
		memcmp(&left->sin6.sin6_addr, &right->sin6.sin6_addr, 16) == 0;
}

/* Wait for a status; the registration for STATUS_CHANGED merges, so earlier ones may be missing. */
static inline void agent_wait_status(const struct agent *agent, DWORD flags)
{
	for (;;) {
		struct event event = agent_event(agent, agent->status);

		if (event.type == PEER_GROUP_EVENT_STATUS_CHANGED && event.status_flags == flags)
			return;
		if (event.type == PEER_GROUP_EVENT_CONNECTION_FAILED)
			fail_msg("%s: connect failed, %s", agent->name,
				PeerhubResultName(event.reason));
	}
}

static inline void agent_learn_address(struct agent *agent)
{
	struct members_result members = agent_members(agent, PEER_MEMBER_PRESENT, NULL);

	assert_true(members.count >= 1);
	assert_true(wide_is_equal(members.items[0].identity, agent->identity));
	assert_true(members.items[0].address_count >= 1);
	agent->address = members.items[0].address;
}

/* One who founds a group, online. */
static inline void world_found(struct agent *founder, WCHAR name[NAME_UNITS])
{
	struct create_result *answer = calloc(1, sizeof(*answer));

	assert_non_null(answer);
	agent_call(founder, do_create, &founder->identity, answer);
	assert_result(answer->result, S_OK);
	founder->group = answer->group;
	wide_copy(name, answer->name, NAME_UNITS);
	free(answer);
	assert_result(agent_register_types(founder, founder->group, TYPES_STATUS, &founder->status),
		S_OK);
	assert_result(agent_group_call(founder, do_connect, founder->group), S_OK);
	agent_wait_status(founder, PEER_GROUP_STATUS_LISTENING);
	agent_learn_address(founder);
}

/* An invitation for `guest`, into `text`. */
static inline void world_invite(const struct agent *founder, const struct agent *guest,
	int64_t lifetime_s, struct text_result *text)
{
	struct invite_request *request = calloc(1, sizeof(*request));

	assert_non_null(request);
	agent_call(guest, do_identity_xml, &guest->identity, text);
	assert_result(text->result, S_OK);
	request->group = founder->group;
	request->lifetime_s = lifetime_s;
	request->role = PEER_GROUP_ROLE_MEMBER;
	wide_copy(request->xml, text->text, TEXT_UNITS);
	agent_call(founder, do_invite, request, text);
	assert_result(text->result, S_OK);
	free(request);
}

/* `guest` becomes a member, offline. */
static inline void world_join(const struct agent *founder, struct agent *guest, int64_t lifetime_s)
{
	struct text_result *text = calloc(1, sizeof(*text));
	struct handle_result answer;

	assert_non_null(text);
	world_invite(founder, guest, lifetime_s, text);
	agent_call_bytes(guest, do_join, text->text, sizeof(text->text), &answer, sizeof(answer));
	free(text);
	if (FAILED(answer.result))
		fprintf(stderr, "join: %s\n", answer.detail);
	assert_result(answer.result, S_OK);
	guest->group = answer.handle;
	assert_result(
		agent_register_types(guest, guest->group, TYPES_STATUS, &guest->status), S_OK);
}

/* `guest` goes online at the founder. */
static inline void world_enter(const struct agent *founder, struct agent *guest)
{
	assert_result(agent_connect_by_address(guest, guest->group, &founder->address), S_OK);
	agent_wait_status(guest, PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS);
	agent_learn_address(guest);
}

static inline void agent_register_direct(struct agent *agent)
{
	assert_result(
		agent_register_types(agent, agent->group, TYPES_DIRECT, &agent->events), S_OK);
}

/* Two members, online, linked as neighbors, registered for direct connections and data. */
static inline void world_make(struct agent *founder, struct agent *guest)
{
	WCHAR name[NAME_UNITS];

	world_found(founder, name);
	world_join(founder, guest, 0);
	world_enter(founder, guest);
	agent_wait_status(founder, PEER_GROUP_STATUS_LISTENING | PEER_GROUP_STATUS_HAS_CONNECTIONS);
	agent_register_direct(founder);
	agent_register_direct(guest);
}

/* Forget the event objects of registrations that a closed group took along. */
static inline void do_forget(const void *in, void *out)
{
	(void)in;
	for (size_t index = 0; index < 256; index++) {
		if (registered[index].handle == NULL)
			continue;
		(void)PeerGroupUnregisterEvent(registered[index].handle);
		CloseHandle(registered[index].event);
		registered[index] = (struct registered){NULL, NULL};
	}
	*(char *)out = 0;
}

static inline void agent_leave(struct agent *agent)
{
	char none = 0, answer;

	agent_call(agent, do_forget, &none, &answer);
	if (agent->group != NULL)
		(void)agent_group_call(agent, do_close, agent->group);
	agent->group = NULL;
	agent->events = NULL;
	agent->status = NULL;
}

struct pair {
	ULONGLONG from, to; /* ids at the opener and at the accepting side */
};

/* A direct connection that both sides have seen. */
static inline struct pair pair_open(const struct agent *from, const struct agent *to)
{
	struct open_result opened = agent_open_direct(from, to->identity, &to->address);
	struct event event;
	struct pair pair;

	if (FAILED(opened.result))
		fprintf(stderr, "open: %s\n", opened.detail);
	assert_result(opened.result, S_OK);
	assert_int_not_equal(opened.id, 0);
	event = agent_direct_event(from, PEER_CONNECTED);
	assert_int_equal(event.id, opened.id);
	assert_int_equal(event.reason, 0);
	pair.from = opened.id;
	pair.to = agent_direct_event(to, PEER_CONNECTED).id;
	return pair;
}

/* A port of this machine that takes connections and never says a word. */
static inline int silent_listen(PEER_ADDRESS *address)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t bytes = sizeof(address->sin6);

	assert_true(fd >= 0);
	memset(address, 0, sizeof(*address));
	address->dwSize = sizeof(*address);
	address->sin6.sin6_family = AF_INET6;
	address->sin6.sin6_addr = in6addr_loopback;
	assert_int_equal(bind(fd, (struct sockaddr *)&address->sin6, bytes), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address->sin6, &bytes), 0);
	return fd;
}

/* An address of this machine where nobody listens. */
static inline PEER_ADDRESS dead_address(void)
{
	PEER_ADDRESS address;

	close(silent_listen(&address));
	return address;
}

#endif
