/* One side of the job as a p2p.h client; see job_node.h. */
#include "job_node.h"

#include "audit.h"
#include "message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "peerhub/extras.h"

#define WAIT_STEP_MS 20u
#define WAIT_ONLINE_MS 20000u
#define SEND_WAIT_MS 10000u /* a queue that stays full so long is a finding */

bool job_node_failed(struct job_node *node, const char *what, HRESULT result)
{
	job_fail(node->job, node->side, "%s: %s (%#x) %s", what, PeerhubResultName(result),
		(unsigned)result, PeerhubLastErrorText());
	return false;
}

static void sleep_ms(uint32_t ms)
{
	const struct timespec duration = {
		.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000l};

	nanosleep(&duration, NULL);
}

/* ---- going online ---------------------------------------------------------------------- */

/* The one group of the default identity: the stores of a job hold no more. */
static bool group_open(struct job_node *node)
{
	HPEERENUM groups = NULL;
	PEER_NAME_PAIR **items = NULL;
	ULONG count = 1;
	HRESULT result = PeerEnumGroups(node->identity, &groups);

	if (FAILED(result))
		return job_node_failed(node, "PeerEnumGroups", result);
	result = PeerGetNextItem(groups, &count, (PVOID **)&items);
	PeerEndEnumeration(groups);
	if (FAILED(result))
		return job_node_failed(node, "PeerGetNextItem", result);
	if (count == 0) {
		job_fail(node->job, node->side, "there is no group in %s",
			node->job->homes[node->side]);
		return false;
	}
	result = PeerGroupOpen(node->identity, items[0]->pwzPeerName, NULL, &node->group);
	PeerFreeData(items);
	return SUCCEEDED(result) || job_node_failed(node, "PeerGroupOpen", result);
}

bool job_node_open(struct job_node *node, struct job *job, enum job_side side)
{
	PEER_VERSION_DATA version;
	HRESULT result;

	memset(node, 0, sizeof(*node));
	node->job = job;
	node->side = side;
	result = PeerhubSetHome(job->homes[side]);
	if (FAILED(result))
		return job_node_failed(node, "PeerhubSetHome", result);
	result = PeerhubSetListen("[::1]:0");
	if (FAILED(result))
		return job_node_failed(node, "PeerhubSetListen", result);
	result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (FAILED(result))
		return job_node_failed(node, "PeerGroupStartup", result);
	result = PeerIdentityGetDefault(&node->identity);
	if (FAILED(result))
		return job_node_failed(node, "PeerIdentityGetDefault", result);
	return group_open(node);
}

static bool online_wait(struct job_node *node, DWORD wanted)
{
	DWORD status = 0;

	for (uint32_t waited = 0; waited < WAIT_ONLINE_MS; waited += WAIT_STEP_MS) {
		HRESULT result = PeerGroupGetStatus(node->group, &status);

		if (FAILED(result))
			return job_node_failed(node, "PeerGroupGetStatus", result);
		if ((status & wanted) == wanted)
			return true;
		sleep_ms(WAIT_STEP_MS);
	}
	job_fail(node->job, node->side, "the group does not get online (status %u)", status);
	return false;
}

bool job_node_connect(struct job_node *node, const struct sockaddr_in6 *address)
{
	PEER_ADDRESS peer = {.dwSize = sizeof(peer)};
	HRESULT result;

	if (address != NULL) {
		peer.sin6 = *address;
		result = PeerGroupConnectByAddress(node->group, 1, &peer);
	} else {
		result = PeerGroupConnect(node->group);
	}
	if (FAILED(result))
		return job_node_failed(node, "going online", result);
	if (!online_wait(node,
		    address != NULL ? PEER_GROUP_STATUS_HAS_CONNECTIONS
				    : PEER_GROUP_STATUS_LISTENING))
		return false;
	result = PeerhubGroupNative(node->group, &node->hub, &node->tag);
	return SUCCEEDED(result) || job_node_failed(node, "PeerhubGroupNative", result);
}

bool job_node_address(struct job_node *node, struct sockaddr_in6 *address)
{
	HPEERENUM members = NULL;
	PEER_MEMBER **items = NULL;
	ULONG count = 1;
	HRESULT result = PeerGroupEnumMembers(node->group, 0, node->identity, &members);
	bool is_there;

	if (FAILED(result))
		return job_node_failed(node, "PeerGroupEnumMembers", result);
	result = PeerGetNextItem(members, &count, (PVOID **)&items);
	PeerEndEnumeration(members);
	if (FAILED(result))
		return job_node_failed(node, "PeerGetNextItem", result);
	is_there = count == 1 && items[0]->cAddresses > 0;
	if (is_there)
		*address = items[0]->pAddresses[0].sin6;
	else
		job_fail(node->job, node->side, "our own entry of EnumMembers has no address");
	PeerFreeData(items);
	return is_there;
}

/* ---- events ---------------------------------------------------------------------------- */

/* False: the queue is empty or broken. */
static bool pump_one(struct job_node *node)
{
	PEER_GROUP_EVENT_DATA *data = NULL;
	HRESULT result = PeerGroupGetEventData(node->registration, &data);

	if (result == PEER_S_NO_EVENT_DATA)
		return false;
	if (FAILED(result))
		return job_node_failed(node, "PeerGroupGetEventData", result);
	if (data->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION)
		node->on_change(node, &data->connectionChangeData);
	else if (data->eventType == PEER_GROUP_EVENT_INCOMING_DATA)
		node->on_data(node, &data->incomingData);
	else
		job_violation(node->job, node->side, "an event %d that nobody asked for",
			(int)data->eventType);
	PeerFreeData(data);
	return true;
}

static void *pump_main(void *argument)
{
	struct job_node *node = argument;

	while (!atomic_load(&node->is_pump_ending) && !atomic_load(&node->job->is_failed)) {
		WaitForSingleObject(node->event, 100);
		while (pump_one(node))
			;
	}
	return NULL;
}

bool job_node_pump_start(struct job_node *node)
{
	PEER_GROUP_EVENT_REGISTRATION wanted[] = {
		{.eventType = PEER_GROUP_EVENT_DIRECT_CONNECTION},
		{.eventType = PEER_GROUP_EVENT_INCOMING_DATA},
	};
	HRESULT result;

	node->event = CreateEventW(NULL, FALSE, FALSE, NULL);
	if (node->event == NULL) {
		job_fail(node->job, node->side, "CreateEvent failed");
		return false;
	}
	result = PeerGroupRegisterEvent(node->group, node->event,
		sizeof(wanted) / sizeof(wanted[0]), wanted, &node->registration);
	if (FAILED(result))
		return job_node_failed(node, "PeerGroupRegisterEvent", result);
	if (pthread_create(&node->pump, NULL, pump_main, node) != 0) {
		job_fail(node->job, node->side, "cannot start a thread");
		return false;
	}
	node->has_pump = true;
	return true;
}

void job_node_pump_stop(struct job_node *node)
{
	if (!node->has_pump)
		return;
	atomic_store(&node->is_pump_ending, true);
	SetEvent(node->event);
	pthread_join(node->pump, NULL);
	node->has_pump = false;
}

bool job_node_close(struct job_node *node)
{
	HRESULT result;

	job_node_pump_stop(node);
	/* The registration ends with its group. */
	result = PeerGroupClose(node->group);
	if (FAILED(result))
		return job_node_failed(node, "PeerGroupClose", result);
	CloseHandle(node->event);
	PeerFreeData(node->identity);
	result = PeerGroupShutdown();
	return SUCCEEDED(result) || job_node_failed(node, "PeerGroupShutdown", result);
}

/* ---- work ------------------------------------------------------------------------------ */

struct job_thread {
	struct job_node *node;
	uint32_t number;
	void (*run)(struct job_node *node, uint32_t thread);
	pthread_t thread;
};

static void *thread_main(void *argument)
{
	struct job_thread *thread = argument;

	thread->run(thread->node, thread->number);
	return NULL;
}

bool job_node_threads(struct job_node *node, void (*run)(struct job_node *node, uint32_t thread))
{
	struct job_thread threads[JOB_THREADS_MAX];
	uint32_t started = 0;

	for (; started < node->job->thread_count; started++) {
		threads[started] = (struct job_thread){.node = node, .number = started, .run = run};
		if (pthread_create(
			    &threads[started].thread, NULL, thread_main, &threads[started]) != 0) {
			job_fail(node->job, node->side, "cannot start a thread");
			break;
		}
	}
	for (uint32_t i = 0; i < started; i++)
		pthread_join(threads[i].thread, NULL);
	return !atomic_load(&node->job->is_failed);
}

bool job_node_send(struct job_node *node, uint64_t id, uint64_t sender, uint32_t sequence)
{
	const struct message_head head = {
		.sender = sender, .sequence = sequence, .bytes = node->job->message_bytes};
	uint8_t payload[4096], type[16];
	GUID guid;
	HRESULT result;

	message_write(&head, payload, type);
	memcpy(&guid, type, sizeof(guid));
	for (uint32_t waited = 0; waited < SEND_WAIT_MS; waited++) {
		result = PeerGroupSendData(node->group, id, &guid, head.bytes, payload);
		if (result != E_OUTOFMEMORY)
			break;
		sleep_ms(1);
	}
	if (FAILED(result))
		return job_node_failed(node, "PeerGroupSendData", result);
	atomic_fetch_add(&node->job->counts[node->side].sent, 1);
	return true;
}

/* Every close that won gets its last event (a handshake that failed before only loosens the window); the
 * parent bounds it. */
static void close_window_wait(struct job_node *node)
{
	const struct job_counts *counts = &node->job->counts[node->side];

	while (atomic_load(&counts->closes_won) >
			atomic_load(&counts->closes_ended) + JOB_CLOSE_WINDOW &&
		!atomic_load(&node->job->is_failed)) {
		const struct timespec moment = {.tv_nsec = 50000};

		nanosleep(&moment, NULL);
	}
}

void job_node_close_one(struct job_node *node, uint32_t index, uint64_t id, bool is_abort)
{
	struct job_connection *connection = &node->job->connections[index];
	struct job_counts *counts = &node->job->counts[node->side];
	uint64_t never = 0;
	bool has_won;

	close_window_wait(node);
	/* The first of the racing threads sets the clock. */
	atomic_compare_exchange_strong(&connection->close_ns, &never, now_ns());
	if (is_abort) {
		int status = ph_close(id, node->tag, PH_ABORT, 0, "the job");

		has_won = status == 0;
		if (status != 0 && status != -ENOENT)
			job_violation(node->job, node->side, "ph_close answered %d", status);
	} else {
		HRESULT result = PeerGroupCloseDirectConnection(node->group, id);

		has_won = result == S_OK;
		if (result != S_OK && result != PEER_E_CONNECTION_NOT_FOUND)
			job_node_failed(node, "PeerGroupCloseDirectConnection", result);
	}
	if (has_won) {
		atomic_fetch_add(&connection->wins, 1);
		atomic_fetch_add(&counts->closes_won, 1);
	} else {
		atomic_fetch_add(&counts->closes_lost, 1);
	}
}
