/*
 * The dialling side of the job. Its threads open, send and close; its pump takes the events, finds
 * the connection by the id and checks that each comes once and in its place.
 */
#include "job_node.h"

#include "audit.h"
#include "id_map.h"
#include "message.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DIAL_WINDOW 512u /* openings under way at once: the acceptor pauses at 1,024 a shard */
#define TALK_WINDOW 20000u /* messages under way at once */
#define POLL_US 500u

static void nap(uint32_t us)
{
	const struct timespec duration = {.tv_nsec = (long)us * 1000};

	nanosleep(&duration, NULL);
}

/* Wait until `counter` is at least `wanted`; false: given up. The parent bounds the phase. */
static bool counter_wait(struct job_node *node, const _Atomic uint64_t *counter, uint64_t wanted)
{
	while (atomic_load(counter) < wanted) {
		if (atomic_load(&node->job->is_failed))
			return false;
		nap(POLL_US);
	}
	return true;
}

/* ---- events ---------------------------------------------------------------------------- */

/* The event may come before the opening thread has noted the id that it was just given. */
static bool index_of(struct job_node *node, uint64_t id, uint32_t *index)
{
	uint64_t end_ns = now_ns() + 5000000000ull;

	while (id_map_get(node->context, id, index) < 0) {
		if (now_ns() > end_ns) {
			job_violation(node->job, node->side, "an event for the unknown id %#llx",
				(unsigned long long)id);
			return false;
		}
		sched_yield();
	}
	return true;
}

static void on_change(struct job_node *node, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	struct job *job = node->job;
	struct job_counts *counts = &job->counts[JOB_DIALLER];
	struct job_connection *connection;
	uint32_t index, connected, finals;

	if (!index_of(node, change->ullConnectionId, &index))
		return;
	connection = &job->connections[index];
	connected = atomic_load(&connection->connected[JOB_DIALLER]);
	if (change->status == PEER_CONNECTED) {
		if (connected != 0 || atomic_load(&connection->finals[JOB_DIALLER]) != 0)
			job_violation(job, JOB_DIALLER, "CONNECTED out of place (%u)", index);
		atomic_fetch_add(&connection->connected[JOB_DIALLER], 1);
		atomic_fetch_add(&counts->connected, 1);
		return;
	}
	if ((change->status == PEER_DISCONNECTED) != (connected == 1))
		job_violation(job, JOB_DIALLER,
			"the final event %d of connection %u after %u x "
			"CONNECTED (reason %#x)",
			(int)change->status, index, connected,
			(unsigned)change->hrConnectionFailedReason);
	finals = atomic_fetch_add(&connection->finals[JOB_DIALLER], 1);
	if (finals != 0)
		job_violation(job, JOB_DIALLER, "a second final event of connection %u", index);
	if (connected == 1)
		atomic_fetch_add(&counts->disconnected, 1);
	else
		atomic_fetch_add(&counts->failed, 1);
	if (index < job->connection_count && connected == 0)
		job_fail(job, JOB_DIALLER, "opening connection %u failed: %#x", index,
			(unsigned)change->hrConnectionFailedReason);
	job_final(job, JOB_DIALLER, index, connected == 1);
}

static void on_data(struct job_node *node, const PEER_EVENT_INCOMING_DATA *data)
{
	struct job *job = node->job;
	struct message_head head;
	uint32_t index;

	if (!index_of(node, data->ullConnectionId, &index))
		return;
	if (message_read((const uint8_t *)&data->type, data->data.pbData, data->data.cbData,
		    &head) < 0 ||
		head.sender != index)
		job_violation(job, JOB_DIALLER, "a damaged or foreign answer on %u", index);
	else if (head.sequence != atomic_load(&job->connections[index].received[JOB_DIALLER]))
		job_violation(job, JOB_DIALLER, "answer %u of connection %u is out of order",
			head.sequence, index);
	atomic_fetch_add(&job->connections[index].received[JOB_DIALLER], 1);
	atomic_fetch_add(&job->counts[JOB_DIALLER].received, 1);
}

/* ---- work ------------------------------------------------------------------------------ */

static bool dial(struct job_node *node, uint32_t index)
{
	PEER_ADDRESS address = {.dwSize = sizeof(address), .sin6 = node->job->address};
	ULONGLONG id = 0;
	HRESULT result = PeerGroupOpenDirectConnection(
		node->group, (PCWSTR)node->job->identity, &address, &id);

	if (FAILED(result))
		return job_node_failed(node, "PeerGroupOpenDirectConnection", result);
	if (id_map_put(node->context, id, index) < 0) {
		job_fail(node->job, node->side, "the id %#llx was given twice", id);
		return false;
	}
	atomic_store(&node->job->connections[index].dialler_id, id);
	return true;
}

/* Openings of this side that are not connected yet stay below the window. */
static bool window_wait(struct job_node *node, uint32_t index)
{
	uint64_t wanted = index > DIAL_WINDOW ? index - DIAL_WINDOW : 0;

	return counter_wait(node, &node->job->counts[JOB_DIALLER].connected, wanted);
}

static void open_run(struct job_node *node, uint32_t thread)
{
	struct job *job = node->job;

	for (uint32_t i = thread; i < job->connection_count; i += job->thread_count)
		if (!window_wait(node, i) || !dial(node, i))
			return;
}

/* One message on each connection tells the acceptor its number. */
static bool phase_open(struct job_node *node)
{
	struct job *job = node->job;

	if (!job_node_threads(node, open_run) ||
		!counter_wait(node, &job->counts[JOB_DIALLER].connected, job->connection_count))
		return false;
	for (uint32_t i = 0; i < job->connection_count; i++)
		if (!job_node_send(node, atomic_load(&job->connections[i].dialler_id), i, 0))
			return false;
	return counter_wait(node, &job->counts[JOB_DIALLER].received, job->connection_count);
}

static void talk_run(struct job_node *node, uint32_t thread)
{
	struct job *job = node->job;
	const struct job_counts *counts = &job->counts[JOB_DIALLER];

	for (uint32_t round = 1; round <= job->message_count; round++) {
		for (uint32_t i = thread; i < job->connection_count; i += job->thread_count) {
			uint64_t sent = atomic_load(&counts->sent);

			if (sent > TALK_WINDOW &&
				!counter_wait(node, &counts->received, sent - TALK_WINDOW))
				return;
			if (!job_node_send(
				    node, atomic_load(&job->connections[i].dialler_id), i, round))
				return;
		}
	}
}

static bool phase_talk(struct job_node *node)
{
	struct job *job = node->job;

	return job_node_threads(node, talk_run) &&
		counter_wait(node, &job->counts[JOB_DIALLER].received,
			(uint64_t)job->connection_count * (1 + job->message_count));
}

/* Open a connection only to close it, somewhere between the first SYN and WELCOME. */
static bool handshake_close(struct job_node *node, uint32_t index)
{
	struct job *job = node->job;

	if (!dial(node, index))
		return false;
	if (index % 4 != 0)
		nap(index % 16 * 100);
	job_node_close_one(
		node, index, atomic_load(&job->connections[index].dialler_id), index % 3 == 0);
	return true;
}

/* Each of our connections is closed by two threads at nearly the same time; in between, every
 * thread has its part of the handshakes to disturb. */
static void close_run(struct job_node *node, uint32_t thread)
{
	struct job *job = node->job;
	uint32_t second = (thread + 1) % job->thread_count;
	uint32_t handshake = job->connection_count + thread;

	for (uint32_t i = 0; i < job->connection_count; i++) {
		enum job_share share = job_share_of(i);

		if (i % job->thread_count != thread && i % job->thread_count != second)
			continue;
		if (share == JOB_SHARE_DIALLER || share == JOB_SHARE_DIALLER_ABORT)
			job_node_close_one(node, i, atomic_load(&job->connections[i].dialler_id),
				share == JOB_SHARE_DIALLER_ABORT);
		if (i % 16 < 2 && handshake < job_total(job)) {
			if (!handshake_close(node, handshake))
				return;
			handshake += job->thread_count;
		}
	}
	for (; handshake < job_total(job); handshake += job->thread_count)
		if (!handshake_close(node, handshake))
			return;
}

static uint64_t finals_wanted(const struct job *job)
{
	uint64_t count = job->handshake_count;

	for (uint32_t i = 0; i < job->connection_count; i++)
		count += job_share_of(i) != JOB_SHARE_GROUP;
	return count;
}

static bool phase_close(struct job_node *node)
{
	struct job_counts *counts = &node->job->counts[JOB_DIALLER];
	uint64_t wanted = finals_wanted(node->job);

	if (!job_node_threads(node, close_run))
		return false;
	while (atomic_load(&counts->disconnected) + atomic_load(&counts->failed) < wanted) {
		if (atomic_load(&node->job->is_failed))
			return false;
		nap(POLL_US);
	}
	return true;
}

static bool phase_group(struct job_node *node)
{
	uint64_t begin_ns;

	job_node_pump_stop(node);
	begin_ns = now_ns();
	for (uint32_t i = 0; i < node->job->connection_count; i++)
		if (job_share_of(i) == JOB_SHARE_GROUP)
			atomic_store(&node->job->connections[i].close_ns, begin_ns);
	return job_node_close(node);
}

static bool dialler_run(struct job_node *node, struct job *job)
{
	if (!job_node_open(node, job, JOB_DIALLER))
		return false;
	node->on_change = on_change;
	node->on_data = on_data;
	if (id_map_create(job_total(job), (struct id_map **)&node->context) < 0 ||
		!job_node_pump_start(node))
		return false;
	/* The acceptor finishes the start first: then its address is known. */
	while (atomic_load(&job->done[JOB_ACCEPTOR]) <= JOB_START)
		if (atomic_load(&job->is_failed))
			return false;
		else
			nap(POLL_US);
	if (!job_node_connect(node, &job->address))
		return false;
	job_phase_done(job, JOB_DIALLER, JOB_START);
	if (!job_phase_wait(job, JOB_OPEN) || !phase_open(node))
		return false;
	job_phase_done(job, JOB_DIALLER, JOB_OPEN);
	if (!job_phase_wait(job, JOB_TALK) || !phase_talk(node))
		return false;
	job_phase_done(job, JOB_DIALLER, JOB_TALK);
	if (!job_phase_wait(job, JOB_CLOSE) || !phase_close(node))
		return false;
	job_phase_done(job, JOB_DIALLER, JOB_CLOSE);
	if (!job_phase_wait(job, JOB_GROUP) || !phase_group(node))
		return false;
	job_phase_done(job, JOB_DIALLER, JOB_GROUP);
	job_phase_done(job, JOB_DIALLER, JOB_END);
	return true;
}

int job_dialler_main(struct job *job)
{
	struct job_node node;
	bool is_good = dialler_run(&node, job);

	if (is_good)
		id_map_destroy(node.context);
	else
		atomic_store(&job->is_failed, true);
	return is_good ? 0 : 1;
}
