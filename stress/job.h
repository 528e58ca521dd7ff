/*
 * `peerhub-stress job`: many direct connections through p2p.h between two processes, the dialler and
 * the acceptor, each with its own store.
 *
 * The parent makes one piece of shared memory, forks both and moves them from phase to phase; it
 * touches no library of the project itself. Everything here is written by the side that its name or
 * comment says, and read by all. Counters only grow.
 */
#ifndef PEERHUB_STRESS_JOB_H
#define PEERHUB_STRESS_JOB_H

#include "histogram.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <uchar.h>

#define JOB_CONNECTIONS_MAX 15000u /* both ends fit a hub's default of 19,968 slots a shard */
#define JOB_THREADS_MAX 16u
#define JOB_NAME_UNITS 256u /* a peer name: 191 UTF-16 units and NUL */
/* Closes of one side that wait for their last event: several threads keep the hubs busy, and the
 * latency is that of a close, not that of a queue of thousands. The group's end has no window. */
#define JOB_CLOSE_WINDOW 64u
#define JOB_PHASE_MS 60000u /* no phase takes longer; loopback needs a fraction */

enum job_side {
	JOB_DIALLER,
	JOB_ACCEPTOR,
	JOB_SIDES,
};

enum job_phase {
	JOB_START, /* both go online, the dialler as a neighbor of the acceptor */
	JOB_OPEN, /* the dialler opens all connections and names each to the acceptor */
	JOB_TALK, /* messages go there and come back */
	JOB_CLOSE, /* both close their shares at once, by every path; others close in handshake */
	JOB_GROUP, /* the dialler closes its group with what is left */
	JOB_END, /* both go away */
	JOB_PHASES,
};

/* Ways to close, and who sees the last event. */
enum job_path {
	JOB_PATH_LOCAL, /* PeerGroupCloseDirectConnection, at the caller */
	JOB_PATH_REMOTE, /* the same, at the other end */
	JOB_PATH_ABORT, /* ph_close with PH_ABORT, at the caller */
	JOB_PATH_RESET, /* the same, at the other end */
	JOB_PATH_HANDSHAKE, /* closed while opening, at the caller */
	JOB_PATH_GROUP, /* PeerGroupClose, at the other end */
	JOB_PATHS,
};

/* How a connection shall end. */
enum job_share {
	JOB_SHARE_DIALLER, /* closed by the dialler */
	JOB_SHARE_ACCEPTOR,
	JOB_SHARE_DIALLER_ABORT,
	JOB_SHARE_ACCEPTOR_ABORT,
	JOB_SHARE_GROUP, /* left for the end of the dialler's group */
	JOB_SHARES,
};

struct job_connection {
	_Atomic uint64_t dialler_id;
	_Atomic uint64_t acceptor_id; /* after its first message arrived */
	_Atomic uint64_t close_ns; /* before the first close call; 0 = nobody closed it */
	_Atomic uint32_t wins; /* close calls that answered success */
	_Atomic uint32_t connected[JOB_SIDES]; /* events seen at each side */
	_Atomic uint32_t finals[JOB_SIDES];
	_Atomic uint32_t received[JOB_SIDES]; /* messages */
};

struct job_counts {
	_Atomic uint64_t connected, disconnected, failed; /* events */
	_Atomic uint64_t sent, received; /* messages */
	_Atomic uint64_t closes_won, closes_lost; /* calls */
	_Atomic uint64_t closes_ended; /* of those won, how many had their final event here */
	_Atomic uint64_t violations;
};

struct job {
	/* Written by the parent before the fork. */
	const char *homes[JOB_SIDES];
	uint32_t connection_count; /* opened and used */
	uint32_t handshake_count; /* more, closed while opening; their connections follow */
	uint32_t thread_count; /* of each side */
	uint32_t message_count; /* each connection sends so many, all come back */
	uint32_t message_bytes;
	/* The course of things. */
	_Atomic uint32_t phase; /* enum job_phase; the parent */
	_Atomic uint32_t done[JOB_SIDES]; /* phases that the side has finished, as a number */
	_Atomic bool is_failed; /* any: give up, a message is on stderr */
	/* Written by the acceptor in JOB_START. */
	struct sockaddr_in6 address;
	char16_t identity[JOB_NAME_UNITS];
	/* Results. */
	_Atomic uint64_t phase_begin_ns[JOB_PHASES + 1]; /* the parent */
	struct job_counts counts[JOB_SIDES];
	struct histogram latency[JOB_PATHS];
	struct job_connection connections[];
};

uint32_t job_total(const struct job *job); /* connections and handshakes */
enum job_share job_share_of(uint32_t index);
/* A finding or a failure: on stderr (the first few) and counted. */
void job_violation(struct job *job, enum job_side side, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void job_fail(struct job *job, enum job_side side, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Sleep until the phase begins; false: given up. */
bool job_phase_wait(struct job *job, enum job_phase phase);
void job_phase_done(struct job *job, enum job_side side, enum job_phase phase);
/* The final event of a connection came to `side`: record its latency. */
void job_final(struct job *job, enum job_side side, uint32_t index, bool was_connected);

/* The two processes: return the exit code. */
int job_dialler_main(struct job *job);
int job_acceptor_main(struct job *job);

#endif
