/*
 * Who is attacked, and who only wants to work meanwhile.
 *
 * The victim is a hub of this process with the native interface: it listens with mutual TLS and in clear
 * text, echoes what it is sent, and its callbacks count. Each id's last event is remembered, so that a
 * second one is found. With a remote victim only its address is known, and what attackers and honest
 * peers see is all there is to judge.
 *
 * Honest peers are connections of a second hub of this process. They dial, send, and measure how long an
 * echo takes. What callbacks write is atomic; the rest belongs to the main thread.
 */
#ifndef PEERHUB_STRESS_ATTACK_VICTIM_H
#define PEERHUB_STRESS_ATTACK_VICTIM_H

#include "attack.h"
#include "histogram.h"
#include "id_map.h"

#include <pthread.h>

#define VICTIM_TAG 0xa77acull
#define VICTIM_REASONS 8192u
#define VICTIM_FINALS_MAX 400000u
#define VICTIM_PEERS_MAX 4096u /* that are poured at; those beyond get nothing */
#define VICTIM_POUR_BYTES_MAX 16384u
#define VICTIM_OLDER (PH_REASON_APP_NORMAL + 1) /* reasons of our own policies */
#define VICTIM_SLOW (PH_REASON_APP_ERROR + 3)

enum victim_behaviour {
	VICTIM_ECHOES,
	VICTIM_SWALLOWS, /* takes data and answers honest questions only */
	VICTIM_POURS, /* sends to every peer as much as it takes */
};

/* A peer that is poured at. Callbacks and the main thread send; whoever finds the queue full notes when. */
struct victim_peer {
	_Atomic uint64_t id; /* 0: not open, or ended */
	_Atomic uint64_t blocked_ns; /* since when its queue is full; 0: it is not */
	_Atomic uint64_t poured; /* bytes */
};

struct victim {
	struct attack_run *run;
	struct ph_hub *hub; /* NULL: remote */
	ph_address secure, plain; /* where it listens; both are the remote's when it is remote */
	enum victim_behaviour behaviour;
	const char *
		newest_wins; /* of this identity only the newest connection may stay; NULL: all may */
	uint32_t pour_bytes; /* of one message, at most VICTIM_POUR_BYTES_MAX */
	uint64_t pour_quota; /* bytes for each peer; 0: no end */
	atomic_bool is_pouring;
	struct victim_peer *peers;
	_Atomic uint32_t peer_count;
	struct ph_credentials *credentials;
	struct id_map *finals;
	_Atomic uint64_t opened, ended, twice, messages, bytes, poured;
	_Atomic uint64_t hellos; /* ClientHellos that were answered, if only with an alert */
	_Atomic clockid_t shard_clock; /* CPU time of the shard that answered the last of them */
	_Atomic uint32_t reasons[VICTIM_REASONS]; /* of receipts, by number */
	_Atomic uint64_t last_id;
	pthread_mutex_t lock; /* the last receipt, and waiting for any change */
	pthread_cond_t changed;
	struct ph_receipt receipt;
	uint32_t descriptors; /* of the process, before */
};

/* Starts it, or with a remote victim only takes its address. Fields of `options` that are 0 are small
 * defaults. False: said so as a fault. */
bool victim_start(struct victim *victim, struct attack_run *run, const struct ph_options *options);
/* Listen on a socket with a queue of our own choice instead of the first two listeners. */
bool victim_start_backlog(struct victim *victim, struct attack_run *run,
	const struct ph_options *options, int backlog);
/*
 * Everybody who attacked is gone: each id has had its last event, all slots are free; then stop. Faults
 * when not, when an id ended twice, or when descriptors are missing.
 */
void victim_stop(struct victim *victim);
void victim_stats(const struct victim *victim, struct ph_statistics *stats);
uint32_t victim_reason_count(const struct victim *victim, uint32_t reason);
/* Wait until a counter reaches `wanted`; a fault naming `what` after ms. */
bool victim_wait(struct victim *victim, const _Atomic uint64_t *counter, uint64_t wanted,
	uint32_t ms, const char *what);
/* Wait for the next last event after `ended_before` of them, and copy its receipt. */
bool victim_wait_end(struct victim *victim, uint64_t ended_before, struct ph_receipt *receipt);

/* Begin and end to pour. What is queued when it ends still goes out. */
void victim_pour(struct victim *victim, bool is_on);
/* The application's policy for slow consumers: whose queue has been full for patience_ms is aborted with
 * VICTIM_SLOW. Returns how many were. */
uint32_t victim_slow_close(struct victim *victim, uint32_t patience_ms);

struct honest {
	struct attack_run *run;
	const struct victim *victim;
	struct ph_hub *hub;
	struct ph_credentials *credentials;
	bool is_plain; /* dials the clear-text listener */
	uint64_t *ids; /* of the dialled, in their order */
	uint32_t count, count_max;
	_Atomic uint64_t opened, failed, closed, answered, received_bytes;
	_Atomic uint64_t *asked_ns; /* when the last question of each went out */
	_Atomic uint8_t *is_up;
	struct histogram *delay; /* ns from question to answer, where recording is on */
	atomic_bool is_recording;
};

bool honest_start(
	struct honest *honest, const struct victim *victim, uint32_t count_max, bool is_plain);
/* Dial `count` more. Those that fail are dialled again by honest_wait, as an honest peer does. */
bool honest_dial(struct honest *honest, uint32_t count);
/* All that were dialled are open, at the latest after ms; a fault when not. */
bool honest_wait(struct honest *honest, uint32_t ms, const char *when);
/* One message there and back on each. A fault when one stays out for ms. */
bool honest_ask(struct honest *honest, uint32_t ms, const char *when);
/* Ask each one `per_second` times a second for so long, spread evenly; delays are recorded. */
void honest_measure(struct honest *honest, uint32_t ms, uint32_t per_second);
/* None was lost that the attack did not concern: a fault when one has been closed. */
void honest_judge(struct honest *honest);
void honest_stop(struct honest *honest);

#endif
