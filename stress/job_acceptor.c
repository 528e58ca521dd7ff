/*
 * The accepting side of the job. Its pump learns from a connection's first message which one it is,
 * gives every message back, and checks that each CONNECTED is followed by one DISCONNECTED; its
 * threads close the share that is to be closed from this end.
 */
#include "job_node.h"

#include "id_map.h"
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NUMBER_UNKNOWN UINT32_MAX

/* What the pump knows of an accepted connection; only the pump touches it. */
struct accepted {
	uint64_t id;
	uint32_t index; /* of job->connections, NUMBER_UNKNOWN before its first message */
	uint32_t finals;
	uint32_t received;
};

struct acceptor {
	struct id_map *ids; /* id -> number of the accepted one */
	uint32_t count, count_max;
	struct accepted accepted[];
};

static void nap(void)
{
	const struct timespec duration = {.tv_nsec = 500000};

	nanosleep(&duration, NULL);
}

/* ---- events ---------------------------------------------------------------------------- */

static struct accepted *accepted_find(struct job_node *node, uint64_t id)
{
	struct acceptor *acceptor = node->context;
	uint32_t number;

	if (id_map_get(acceptor->ids, id, &number) == 0)
		return &acceptor->accepted[number];
	job_violation(
		node->job, node->side, "an event for the unknown id %#llx", (unsigned long long)id);
	return NULL;
}

static void on_connected(struct job_node *node, uint64_t id)
{
	struct acceptor *acceptor = node->context;
	struct accepted *accepted = &acceptor->accepted[acceptor->count];

	atomic_fetch_add(&node->job->counts[JOB_ACCEPTOR].connected, 1);
	if (acceptor->count == acceptor->count_max ||
		id_map_put(acceptor->ids, id, acceptor->count) < 0) {
		job_violation(node->job, node->side,
			"CONNECTED for an id that was there, or too "
			"many");
		return;
	}
	acceptor->count++;
	accepted->id = id;
	accepted->index = NUMBER_UNKNOWN;
}

static void on_change(struct job_node *node, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	struct job *job = node->job;
	struct accepted *accepted;

	if (change->status == PEER_CONNECTED) {
		on_connected(node, change->ullConnectionId);
		return;
	}
	if (change->status != PEER_DISCONNECTED)
		job_violation(
			job, JOB_ACCEPTOR, "event %d at an accepting side", (int)change->status);
	accepted = accepted_find(node, change->ullConnectionId);
	if (accepted == NULL)
		return;
	if (accepted->finals++ != 0)
		job_violation(job, JOB_ACCEPTOR, "a second final event of %#llx",
			(unsigned long long)accepted->id);
	if (accepted->index != NUMBER_UNKNOWN) {
		atomic_fetch_add(&job->connections[accepted->index].finals[JOB_ACCEPTOR], 1);
		job_final(job, JOB_ACCEPTOR, accepted->index, true);
	}
	atomic_fetch_add(&job->counts[JOB_ACCEPTOR].disconnected, 1);
}

static void number_learn(struct job_node *node, struct accepted *accepted, uint64_t sender)
{
	struct job_connection *connection;

	if (sender >= node->job->connection_count) {
		job_violation(node->job, node->side, "a message of no connection");
		return;
	}
	accepted->index = (uint32_t)sender;
	connection = &node->job->connections[sender];
	if (atomic_fetch_add(&connection->connected[JOB_ACCEPTOR], 1) != 0)
		job_violation(node->job, node->side, "two accepted ends of connection %u",
			accepted->index);
	atomic_store(&connection->acceptor_id, accepted->id);
}

static void on_data(struct job_node *node, const PEER_EVENT_INCOMING_DATA *data)
{
	struct accepted *accepted = accepted_find(node, data->ullConnectionId);
	struct message_head head;

	if (accepted == NULL)
		return;
	atomic_fetch_add(&node->job->counts[JOB_ACCEPTOR].received, 1);
	if (message_read((const uint8_t *)&data->type, data->data.pbData, data->data.cbData,
		    &head) < 0) {
		job_violation(node->job, node->side, "a damaged message");
		return;
	}
	if (accepted->index == NUMBER_UNKNOWN)
		number_learn(node, accepted, head.sender);
	if (accepted->finals != 0 || head.sender != accepted->index ||
		head.sequence != accepted->received++)
		job_violation(node->job, node->side,
			"message %u of connection %llu is out of place", head.sequence,
			(unsigned long long)head.sender);
	if (!job_node_send(node, accepted->id, head.sender, head.sequence))
		return;
}

/* ---- work ------------------------------------------------------------------------------ */

/* As at the other side, two threads race for each connection. */
static void close_run(struct job_node *node, uint32_t thread)
{
	struct job *job = node->job;
	uint32_t second = (thread + 1) % job->thread_count;

	for (uint32_t i = 0; i < job->connection_count; i++) {
		enum job_share share = job_share_of(i);

		if (i % job->thread_count != thread && i % job->thread_count != second)
			continue;
		if (share == JOB_SHARE_ACCEPTOR || share == JOB_SHARE_ACCEPTOR_ABORT)
			job_node_close_one(node, i, atomic_load(&job->connections[i].acceptor_id),
				share == JOB_SHARE_ACCEPTOR_ABORT);
	}
}

/* Everything of the dialler's that got as far as CONNECTED here has also ended here. The dialler
 * has gone by then, so no new ones come. */
static bool finals_wait(struct job_node *node)
{
	const struct job_counts *counts = &node->job->counts[JOB_ACCEPTOR];

	while (atomic_load(&node->job->done[JOB_DIALLER]) <= JOB_GROUP ||
		atomic_load(&counts->disconnected) < atomic_load(&counts->connected)) {
		if (atomic_load(&node->job->is_failed))
			return false;
		nap();
	}
	return true;
}

static bool acceptor_start(struct job_node *node, struct job *job)
{
	struct acceptor *acceptor;
	size_t units = 0;

	if (!job_node_open(node, job, JOB_ACCEPTOR))
		return false;
	while (node->identity[units] != 0)
		units++;
	acceptor = calloc(1, sizeof(*acceptor) + job_total(job) * sizeof(acceptor->accepted[0]));
	if (acceptor == NULL || units >= JOB_NAME_UNITS ||
		id_map_create(job_total(job), &acceptor->ids) < 0) {
		job_fail(job, JOB_ACCEPTOR, "no memory, or no place for the identity's name");
		return false;
	}
	acceptor->count_max = job_total(job);
	node->context = acceptor;
	node->on_change = on_change;
	node->on_data = on_data;
	memcpy(job->identity, node->identity, (units + 1) * sizeof(char16_t));
	return job_node_pump_start(node) && job_node_connect(node, NULL) &&
		job_node_address(node, &job->address);
}

static bool acceptor_run(struct job_node *node, struct job *job)
{
	if (!acceptor_start(node, job))
		return false;
	job_phase_done(job, JOB_ACCEPTOR, JOB_START);
	/* Opening and talking is the pump's work; it never stops answering. */
	job_phase_done(job, JOB_ACCEPTOR, JOB_OPEN);
	job_phase_done(job, JOB_ACCEPTOR, JOB_TALK);
	if (!job_phase_wait(job, JOB_CLOSE) || !job_node_threads(node, close_run))
		return false;
	job_phase_done(job, JOB_ACCEPTOR, JOB_CLOSE);
	if (!job_phase_wait(job, JOB_GROUP) || !finals_wait(node))
		return false;
	job_phase_done(job, JOB_ACCEPTOR, JOB_GROUP);
	if (!job_node_close(node))
		return false;
	job_phase_done(job, JOB_ACCEPTOR, JOB_END);
	return true;
}

int job_acceptor_main(struct job *job)
{
	struct job_node node;
	bool is_good = acceptor_run(&node, job);

	if (is_good) {
		struct acceptor *acceptor = node.context;

		id_map_destroy(acceptor->ids);
		free(acceptor);
	} else {
		atomic_store(&job->is_failed, true);
	}
	return is_good ? 0 : 1;
}
