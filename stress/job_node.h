/*
 * One side of the job as a p2p.h client: a group that is online and a thread that takes its events.
 */
#ifndef PEERHUB_STRESS_JOB_NODE_H
#define PEERHUB_STRESS_JOB_NODE_H

#include "job.h"

#include "p2p.h"
#include "peerhub.h"

#include <pthread.h>

struct job_node {
	struct job *job;
	enum job_side side;
	HGROUP group;
	PWSTR identity; /* our own */
	struct ph_hub *hub; /* native view of the group, for aborts */
	uint64_t tag;
	HANDLE event;
	HPEEREVENT registration;
	pthread_t pump;
	_Atomic bool is_pump_ending;
	bool has_pump;
	void *context; /* of the handlers */
	/* On the pump thread. */
	void (*on_change)(struct job_node *node, const PEER_EVENT_CONNECTION_CHANGE_DATA *change);
	void (*on_data)(struct job_node *node, const PEER_EVENT_INCOMING_DATA *data);
};

/* Start the library on the side's store and open the one group of its default identity. False: said
 * why on stderr. */
bool job_node_open(struct job_node *node, struct job *job, enum job_side side);
/* Go online: listening (a creator), or as a neighbor of `address`. */
bool job_node_connect(struct job_node *node, const struct sockaddr_in6 *address);
bool job_node_address(struct job_node *node, struct sockaddr_in6 *address); /* where it listens */
bool job_node_pump_start(struct job_node *node);
void job_node_pump_stop(struct job_node *node);
/* Close the group (its connections end gracefully) and the library. */
bool job_node_close(struct job_node *node);

/* One of `count` threads, each with its number; waits for all. */
bool job_node_threads(struct job_node *node, void (*run)(struct job_node *node, uint32_t thread));

/* PeerGroupSendData of one job message, waiting while the queue is full. False: it failed. */
bool job_node_send(struct job_node *node, uint64_t id, uint64_t sender, uint32_t sequence);
/* Close by the share's way, when the window has room; counts the win or the loss. */
void job_node_close_one(struct job_node *node, uint32_t index, uint64_t id, bool is_abort);
bool job_node_failed(struct job_node *node, const char *what, HRESULT result); /* false always */

#endif
