/*
 * two_process.h: what both processes of two_process_test.c do: take events and audit them, and pass
 * texts through files. The audit keeps for every connection id what came so far; an event that may
 * not come then is a violation. One lock, `events.lock`, is held while events are taken, so that the
 * audit sees them in the order of the queue; the library is called under it, as programs may.
 */
#ifndef PEERHUB_TESTS_TWO_PROCESS_H
#define PEERHUB_TESTS_TWO_PROCESS_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "p2p.h"
#include "peerhub/extras.h"

#define WAIT_SECONDS 60
#define AUDIT_COUNT 65536
#define SEEN_COUNT 65536
#define STRANGER u"0123456789012345678901234567890123456789.x"
#define STORM_THREADS 4
#define STORM_OPENS 2000

static int storm_opens = 60;
static int backlog_count = 20000;
static long long large_bytes = 16 << 20; /* more than a send queue holds */
static int deviations;

#define CHECK(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #condition); \
			deviations++;                                                   \
		}                                                                       \
	} while (0)

#define CHECK_HR(call, expected)                                                                   \
	do {                                                                                       \
		HRESULT hr_ = (call);                                                              \
		if (hr_ != (expected)) {                                                           \
			fprintf(stderr, "%s:%d: %s\n    %s, not %s (%s)\n", __func__, __LINE__,    \
				#call, PeerhubResultName(hr_), #expected, PeerhubLastErrorText()); \
			deviations++;                                                              \
		}                                                                                  \
	} while (0)

static void fatal(const char *what, long detail)
{
	fprintf(stderr, "[%d] %s (%ld, errno %d, %s)\n", getpid(), what, detail, errno,
		PeerhubLastErrorText());
	exit(1);
}

/* ---- what both processes do with events -------------------------------------------------- */

static const GUID type_text = {0x11111111, 1, 1, {1, 2, 3, 4, 5, 6, 7, 8}};
static const GUID type_echo = {0x22222222, 1, 1, {1, 2, 3, 4, 5, 6, 7, 8}};
static const GUID type_close = {0x33333333, 1, 1, {1, 2, 3, 4, 5, 6, 7, 8}};
static const GUID type_count = {0x44444444, 1, 1, {1, 2, 3, 4, 5, 6, 7, 8}};
static const GUID type_ping = {
	0x0CCBB0D2, 0xBE41, 0x4BD6, {0x91, 0x4B, 0x05, 0x8E, 0xC5, 0xDC, 0xCE, 0x64}};

struct audit {
	ULONGLONG id;
	bool neighbor;
	bool connected;
	bool ended;
	uint32_t count_next;
};

struct seen {
	PEER_GROUP_EVENT_TYPE type;
	DWORD status; /* also changeType, dwStatus */
	ULONGLONG id;
	HRESULT reason;
	GUID label;
	ULONG bytes;
	bool used;
};

static struct {
	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	struct audit audits[AUDIT_COUNT];
	struct seen seen[SEEN_COUNT];
	int seen_count;
	long long connected, disconnected, failed, messages, bytes, violations;
	bool paused;
} events = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static HGROUP group;
static HANDLE event;
static HANDLE wait_handle;
static HPEEREVENT registration;
static PWSTR own_identity;
static WCHAR other_identity[256];
static ULONGLONG storm_ids[STORM_THREADS][STORM_OPENS];
static atomic_bool storm_runs;
static unsigned int storm_seed;

static bool text_equal(PCWSTR left, PCWSTR right)
{
	while (*left && *left == *right) {
		left++;
		right++;
	}
	return *left == *right;
}

static void violation(const char *what, ULONGLONG id)
{
	if (events.violations++ < 10)
		fprintf(stderr, "[%d] event order: %s, id %llx\n", getpid(), what, id);
}

static struct audit *audit_of(ULONGLONG id)
{
	uint64_t at = (id * 0x9E3779B97F4A7C15u) >> 48;

	while (events.audits[at].id && events.audits[at].id != id)
		at = (at + 1) % AUDIT_COUNT;
	events.audits[at].id = id;
	return &events.audits[at];
}

/* GroupChat's way to learn who sent: enumerate inside the handler, then close. */
static bool sender_is_listed(ULONGLONG id)
{
	HPEERENUM connections;
	ULONG count;
	PEER_CONNECTION_INFO **items;
	bool found = false;

	if (FAILED(PeerGroupEnumConnections(group, PEER_CONNECTION_DIRECT, &connections)))
		return false;
	if (SUCCEEDED(PeerGetItemCount(connections, &count)) &&
		SUCCEEDED(PeerGetNextItem(connections, &count, (PVOID **)&items))) {
		for (ULONG i = 0; i < count; i++)
			if (items[i]->ullConnectionId == id)
				found = items[i]->dwSize == sizeof(PEER_CONNECTION_INFO) &&
					items[i]->dwFlags == PEER_CONNECTION_DIRECT &&
					items[i]->address.dwSize == sizeof(PEER_ADDRESS) &&
					items[i]->address.sin6.sin6_port != 0 &&
					text_equal(items[i]->pwzPeerId, other_identity);
		PeerFreeData(items);
	}
	PeerEndEnumeration(connections);
	return found;
}

static void take_data(const PEER_EVENT_INCOMING_DATA *data)
{
	struct audit *audit = audit_of(data->ullConnectionId);
	uint32_t number;

	events.messages++;
	events.bytes += data->data.cbData;
	if (data->dwSize != sizeof *data || !data->data.pbData || (uintptr_t)data->data.pbData % 8)
		violation("incoming data malformed", data->ullConnectionId);
	if (!audit->connected || audit->ended)
		violation("data outside connection", data->ullConnectionId);
	if (IsEqualGUID(&data->type, &type_count)) {
		memcpy(&number, data->data.pbData, sizeof number);
		if (number != audit->count_next++)
			violation("data out of order", data->ullConnectionId);
	} else if (IsEqualGUID(&data->type, &type_echo)) {
		HRESULT hr = PeerGroupSendData(group, data->ullConnectionId, &type_text,
			data->data.cbData, data->data.pbData);
		if (hr != S_OK && hr != PEER_E_CONNECTION_NOT_FOUND)
			violation("echo not accepted", (ULONGLONG)(uint32_t)hr);
	} else if (IsEqualGUID(&data->type, &type_close)) {
		bool listed = sender_is_listed(data->ullConnectionId);
		HRESULT hr = PeerGroupCloseDirectConnection(group, data->ullConnectionId);
		if (hr == S_OK && !listed)
			violation("sender not listed", data->ullConnectionId);
		if (hr != S_OK && hr != PEER_E_CONNECTION_NOT_FOUND)
			violation("close in handler", (ULONGLONG)(uint32_t)hr);
	}
}

static void take_change(PEER_GROUP_EVENT_TYPE type, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	struct audit *audit = audit_of(change->ullConnectionId);
	bool known = false;

	if (change->dwSize != sizeof *change || !change->ullConnectionId ||
		change->ullNextConnectionId)
		violation("change malformed", change->ullConnectionId);
	if ((change->status == PEER_CONNECTION_FAILED) != (change->hrConnectionFailedReason != 0))
		violation("change reason", change->ullConnectionId);
	if (audit->ended)
		violation("change after the end", change->ullConnectionId);
	if (type == PEER_GROUP_EVENT_NEIGHBOR_CONNECTION) {
		audit->neighbor = true;
	} else if (atomic_load(&storm_runs)) {
		for (int i = 0; i < STORM_THREADS; i++)
			for (int j = 0; j < storm_opens; j++)
				known |= __atomic_load_n(&storm_ids[i][j], __ATOMIC_RELAXED) ==
					change->ullConnectionId;
		if (!known)
			violation("event before id was stored", change->ullConnectionId);
	}
	if (change->status == PEER_CONNECTED) {
		if (audit->connected)
			violation("connected twice", change->ullConnectionId);
		if (!change->ullNodeId)
			violation("connected without node", change->ullConnectionId);
		audit->connected = true;
		events.connected += type == PEER_GROUP_EVENT_DIRECT_CONNECTION;
	} else if (change->status == PEER_DISCONNECTED) {
		if (!audit->connected)
			violation("disconnected without connected", change->ullConnectionId);
		audit->ended = true;
		events.disconnected += type == PEER_GROUP_EVENT_DIRECT_CONNECTION;
	} else if (change->status == PEER_CONNECTION_FAILED) {
		if (audit->connected)
			violation("failed after connected", change->ullConnectionId);
		audit->ended = true;
		events.failed += type == PEER_GROUP_EVENT_DIRECT_CONNECTION;
	} else {
		violation("unknown status", change->ullConnectionId);
	}
}

static void take(const PEER_GROUP_EVENT_DATA *data)
{
	struct seen seen = {.type = data->eventType};

	switch (data->eventType) {
	case PEER_GROUP_EVENT_DIRECT_CONNECTION:
	case PEER_GROUP_EVENT_NEIGHBOR_CONNECTION:
		take_change(data->eventType, &data->connectionChangeData);
		seen.status = data->connectionChangeData.status;
		seen.id = data->connectionChangeData.ullConnectionId;
		seen.reason = data->connectionChangeData.hrConnectionFailedReason;
		break;
	case PEER_GROUP_EVENT_INCOMING_DATA:
		take_data(&data->incomingData);
		seen.id = data->incomingData.ullConnectionId;
		seen.label = data->incomingData.type;
		seen.bytes = data->incomingData.data.cbData;
		break;
	case PEER_GROUP_EVENT_MEMBER_CHANGED:
		if (data->memberChangeData.dwSize != sizeof data->memberChangeData ||
			!text_equal(data->memberChangeData.pwzIdentity, other_identity))
			violation("member", 0);
		seen.status = data->memberChangeData.changeType;
		break;
	case PEER_GROUP_EVENT_STATUS_CHANGED:
		seen.status = data->dwStatus;
		break;
	case PEER_GROUP_EVENT_CONNECTION_FAILED:
		seen.reason = data->hrConnectionFailedReason;
		break;
	default:
		violation("event type", data->eventType);
	}
	if (!IsEqualGUID(&seen.label, &type_count) && !atomic_load(&storm_runs)) {
		if (events.seen_count == SEEN_COUNT)
			events.seen_count = 0;
		events.seen[events.seen_count++] = seen;
	}
	pthread_cond_broadcast(&events.changed);
}

static void drain(void)
{
	PEER_GROUP_EVENT_DATA *data;

	pthread_mutex_lock(&events.lock);
	while (!events.paused) {
		HRESULT hr = PeerGroupGetEventData(registration, &data);
		if (FAILED(hr) && registration)
			violation("GetEventData", (ULONGLONG)(uint32_t)hr);
		if (hr != S_OK || !data) {
			if (data)
				violation("no event but data", 0);
			break;
		}
		take(data);
		PeerFreeData(data);
	}
	pthread_mutex_unlock(&events.lock);
}

static VOID CALLBACK on_event(PVOID context, BOOLEAN timed_out)
{
	(void)context;
	(void)timed_out;
	drain();
}

static HRESULT events_register(void)
{
	PEER_GROUP_EVENT_REGISTRATION wanted[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION,
			(GUID *)&type_text}, /* as GroupChat does: ignored */
		{PEER_GROUP_EVENT_NEIGHBOR_CONNECTION, NULL},
		{PEER_GROUP_EVENT_INCOMING_DATA, NULL},
		{PEER_GROUP_EVENT_STATUS_CHANGED, NULL},
		{PEER_GROUP_EVENT_MEMBER_CHANGED, NULL},
		{PEER_GROUP_EVENT_CONNECTION_FAILED, NULL},
		{PEER_GROUP_EVENT_PROPERTY_CHANGED, NULL},
	};
	HPEEREVENT made;
	HRESULT hr;

	hr = PeerGroupRegisterEvent(group, event, sizeof wanted / sizeof *wanted, wanted, &made);
	if (FAILED(hr))
		return hr;
	memset(wanted, 0xff, sizeof wanted);
	pthread_mutex_lock(&events.lock);
	registration = made;
	pthread_mutex_unlock(&events.lock);
	SetEvent(event);
	return S_OK;
}

static HRESULT events_unregister(void)
{
	HPEEREVENT old;

	pthread_mutex_lock(&events.lock);
	old = registration;
	registration = NULL;
	pthread_mutex_unlock(&events.lock);
	return PeerGroupUnregisterEvent(old);
}

static void events_start(void)
{
	event = CreateEvent(NULL, FALSE, FALSE, NULL);
	if (!event)
		fatal("CreateEvent", GetLastError());
	if (!RegisterWaitForSingleObject(
		    &wait_handle, event, on_event, NULL, INFINITE, WT_EXECUTEDEFAULT))
		fatal("RegisterWaitForSingleObject", GetLastError());
}

/* Wait until one not yet used event like this was seen; 0 means any value. */
static bool await(PEER_GROUP_EVENT_TYPE type, DWORD status, ULONGLONG id, struct seen *out)
{
	struct timespec until;
	bool found = false;
	int waited = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&events.lock);
	while (!found && waited == 0) {
		for (int i = 0; i < events.seen_count && !found; i++) {
			struct seen *seen = &events.seen[i];
			if (seen->used || seen->type != type ||
				(status && seen->status != status) || (id && seen->id != id))
				continue;
			seen->used = found = true;
			if (out)
				*out = *seen;
		}
		if (!found)
			waited = pthread_cond_timedwait(&events.changed, &events.lock, &until);
	}
	pthread_mutex_unlock(&events.lock);
	return found;
}

static bool has_seen(PEER_GROUP_EVENT_TYPE type, DWORD status, ULONGLONG id)
{
	bool found = false;

	pthread_mutex_lock(&events.lock);
	for (int i = 0; i < events.seen_count; i++)
		found |= !events.seen[i].used && events.seen[i].type == type &&
			events.seen[i].status == status && events.seen[i].id == id;
	pthread_mutex_unlock(&events.lock);
	return found;
}

#define DIRECT PEER_GROUP_EVENT_DIRECT_CONNECTION
#define NEIGHBOR PEER_GROUP_EVENT_NEIGHBOR_CONNECTION

/* ---- texts through files ------------------------------------------------------------------ */

static char directory[200];

static const char *in_directory(const char *name)
{
	static char path[2][300];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof path[turn], "%s/%s", directory, name);
	return path[turn];
}

static void text_save(const char *name, PCWSTR text)
{
	size_t units = 0;
	FILE *file = fopen(in_directory(name), "wb");

	while (text[units])
		units++;
	if (!file || fwrite(text, 2, units + 1, file) != units + 1 || fclose(file))
		fatal("text_save", 0);
}

static PWSTR text_load(const char *name)
{
	static WCHAR text[2][65536];
	static int turn;
	FILE *file = fopen(in_directory(name), "rb");

	turn = !turn;
	if (!file || !fread(text[turn], 2, 65536, file) || fclose(file))
		fatal("text_load", 0);
	return text[turn];
}

static void text_copy(PWSTR to, PCWSTR from)
{
	while ((*to++ = *from++))
		continue;
}

static PEER_ADDRESS address_of(PCWSTR identity)
{
	PEER_ADDRESS address = {0};
	HPEERENUM members;
	ULONG count = 1;
	PEER_MEMBER **items;

	if (FAILED(PeerGroupEnumMembers(group, PEER_MEMBER_PRESENT, identity, &members)))
		fatal("EnumMembers", 0);
	if (FAILED(PeerGetNextItem(members, &count, (PVOID **)&items)))
		fatal("GetNextItem", 0);
	PeerEndEnumeration(members);
	if (count == 1 && items[0]->cAddresses)
		address = items[0]->pAddresses[0];
	if (count == 1 &&
		(items[0]->dwSize != sizeof(PEER_MEMBER) || !items[0]->pCredentialInfo ||
			!items[0]->pCredentialInfo->pwzFriendlyName || !items[0]->ullNodeId ||
			!(items[0]->dwFlags & PEER_MEMBER_PRESENT) ||
			!text_equal(items[0]->pwzIdentity, identity)))
		fatal("member item", 0);
	PeerFreeData(items);
	return address;
}

static PEER_ADDRESS address_make(int port)
{
	PEER_ADDRESS address = {.dwSize = sizeof address};

	address.sin6.sin6_family = AF_INET6;
	address.sin6.sin6_port = htons((uint16_t)port);
	address.sin6.sin6_addr = in6addr_loopback;
	return address;
}

#endif
