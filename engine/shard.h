/*
 * A shard: one thread, one ring, and the connections on it. Nothing of it is shared but its home
 * (slot words, mailbox), hash reads, history reads and counters.
 */
#ifndef PEERHUB_ENGINE_SHARD_H
#define PEERHUB_ENGINE_SHARD_H

#include "engine/conn.h"
#include "engine/hash.h"
#include "engine/history.h"
#include "engine/home.h"
#include "engine/timer.h"
#include "engine/tls.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>

#define LISTENERS_MAX 64u /* of one hub: slots of a small table, never reused while closing */
#define SHARD_MAIL_PER_TURN 4096u /* so that a flood of mail cannot starve the ring */
#define SHARD_WORK_BYTES 65536u /* input one connection may have looked at in a turn */
#define SHARD_HANDSHAKES_PER_TURN 1u /* a step costs some 0.15 ms in which nobody else is served */
#define SHARD_STRANGERS_SHARE 8u /* of so many steps one is a stranger's, whatever is under way */
#define SHARD_HELLOS_IN_ORDER 64u /* when more strangers wait the newest is next */
#define SHARD_HELD_MAX 128u /* seen to arrive behind a pause: 40 to 90; a backlog may be more */
/* Direct descriptors beside the connections': accepts behind a pause, and those being closed. */
#define SHARD_FILES_SPARE (SHARD_HELD_MAX + 32u)
/* The kernel takes a multishot receive 33 times at once before it is the next one's turn; and a send. */
#define SHARD_HEARD_EACH 34u
#define SHARD_HEARD_BATCH 16u /* the kernel hands over 20 completions at once, or all there are */
#define SHARD_CLOSES_PER_TURN 512u
#define SHARD_TIMERS_PER_TURN 4096u
#define SHARD_BLOCKED_RETRY_NS 100000000u
#define SHARD_SEND_BLOCKS_KEPT 256u
#define SHARD_SLOTS_RESERVE 8u /* accepting pauses when fewer are free */

#define COUNTER_INDEX(name) COUNTER_##name,
enum counter {
	PH_COUNTERS(COUNTER_INDEX) COUNTER_COUNT
};

/* A request that other threads post into the mailbox beside slot links. */
struct command {
	struct ck_stack_entry link;
	void (*run)(struct shard *shard, struct command *command);
};

/* A hub's listener as one shard sees it: its own socket. Both commands are posted once a generation. */
struct listener {
	struct command begin, end;
	struct ph_listen_options options;
	uint32_t index, generation; /* part of user_data: an old completion is told apart */
	int fd;
	int family; /* of fd: what accepted sockets' addresses are */
	bool used, armed, ending;
};

/* Closes spread over a time (ph_close_where): one shard's timer works the list off. */
struct spread_id;
struct spread_job {
	struct command command; /* first: the command is the job */
	struct timer timer;
	struct spread_job *next;
	struct spread_id *ids;
	size_t count, capacity, at;
	uint64_t begin_ns, spread_ns;
	enum ph_how how;
	uint32_t reason;
};
void spread_job_run(struct shard *shard, struct spread_job *job);
void spread_job_end(struct shard *shard, struct spread_job *job);

struct list {
	uint32_t head, tail; /* slot numbers; LIST_END */
	uint32_t count;
};
#define LIST_END UINT32_MAX

/* An accepted one that found no room: its socket is not read until there is some. */
struct held {
	int32_t file;
	uint32_t listener, generation; /* which, and in which of its lives */
};

struct buffer_note {
	int32_t next;
	uint32_t bytes;
};

struct shard {
	struct ph_hub *hub;
	struct home *home;
	struct ring *ring;
	struct slot *slots; /* the home's */
	struct conn *conns;
	struct conn_cold *colds;
	struct conn_end *ends;
	struct conn_hold *holds; /* what each connection holds of the hub's limits */
	uint32_t budget_used; /* input bytes of the connection at work, looked at in this turn */
	uint32_t index, slot_count;
	uint64_t now_ns; /* of this turn */
	uint64_t entered_ns; /* before the last enter that worked */
	uint64_t heard_ns; /* what had come in before this time has been looked at */
	uint64_t unheard_ns; /* … and will be after so many more completions; 0: nothing is left */
	uint32_t unheard_count;
	int64_t handshake_credit_ns; /* time that handshakes may still take: limit handshake_share */
	uint64_t handshake_seen_ns; /* when it was added to last */
	uint64_t lag_ns,
		lag_seen_ns; /* how long turns took lately, and when that was last looked at */
	struct timer_wheel timers;
	struct timer retry_timer; /* blocked callbacks, refused accepts */
	struct tls_shard *tls;
	struct hash *hash;
	struct history *history;
	struct list lists[LIST_COUNT];
	struct list hellos; /* of strangers; its links are in conn->hello */
	uint32_t steps_under_way; /* since the last stranger's */
	struct buffer_note *notes; /* one per provided buffer: the input queues */
	struct send_block *blocks; /* free ones */
	uint32_t blocks_count;
	uint32_t buffer_count;
	struct listener listeners[LISTENERS_MAX];
	int32_t *refused; /* accepted files without a place whose close found no submission entry */
	uint32_t refused_count, refused_max; /* max: as many as the ring has direct descriptors */
	struct held held[SHARD_HELD_MAX]; /* a queue, oldest at held_at */
	uint32_t held_at, held_count;
	uint32_t handshakes; /* accepted, not yet open; may pass handshakes_per_shard: shard_hold */
	bool accept_paused;
	bool wake_armed;
	bool stopping;
	enum ph_how stop_how;
	struct command stop_command;
	struct command release_command; /* all shards are done: no callback can post any more */
	bool released;
	_Atomic uint32_t slots_usable; /* not retired; written by the owner, read by ph_stats */
	uint32_t stop_taken; /* slots taken out of the free queue for good, by stop */
	struct spread_job *jobs;
	pthread_t thread;
	sem_t started;
	int start_status;
	_Atomic uint64_t counters[COUNTER_COUNT]; /* written by the owner only */
	_Atomic uint64_t live, open;
	uint8_t scratch[TLS_RECORD_BYTES_MAX]; /* gathers small messages into one record */
	uint8_t plain[TLS_RECORD_BYTES_MAX + 1]; /* what TLS reads into; a content type fits, too */
};

static inline void shard_count(struct shard *shard, enum counter counter, uint64_t by)
{
	atomic_store_explicit(&shard->counters[counter],
		atomic_load_explicit(&shard->counters[counter], memory_order_relaxed) + by,
		memory_order_relaxed);
}
#define SHARD_COUNT(shard, name) shard_count(shard, COUNTER_##name, 1)

/* The shard whose thread this is, NULL elsewhere. A simulator sets it at each step. */
struct shard *shard_self(void);
void shard_self_set(struct shard *shard);

int shard_create(struct ph_hub *hub, uint32_t index, struct shard **shard);
void shard_destroy(struct shard *shard);
/* On the thread that will run it: ring, TLS. 0 or negative errno. */
int shard_begin(struct shard *shard);
void shard_end(struct shard *shard);
/* One turn of the loop; waits only when may_wait and nothing is to be done. */
void shard_turn(struct shard *shard, bool may_wait);
bool shard_is_done(struct shard *shard); /* stopped and all slots FREE */

void shard_list_add(struct shard *shard, enum conn_list list, struct conn *conn);
void shard_hello_add(struct shard *shard, struct conn *conn);
void shard_hello_remove(struct shard *shard, struct conn *conn); /* no matter whether it is there */
void shard_post(struct home *home, struct command *command); /* any thread */
void shard_post_slot(struct home *home, struct slot *slot); /* any thread: who turned MAILED on */
void shard_accept_update(struct shard *shard);
/* What a credit of handshake time is after so long at a share of 1 to 99 percent. */
int64_t shard_handshake_credit(int64_t credit_ns, uint64_t since_ns, uint64_t share);
uint64_t shard_lag_ns(const struct shard *shard); /* the longest turn lately: halves each second */
void shard_listener_arm(struct shard *shard, struct listener *listener);
void shard_listener_end(struct shard *shard, struct listener *listener);
void shard_slot_done(struct shard *shard, struct conn *conn); /* freed: back into the queue */
void shard_dump(struct shard *shard, FILE *out);

#endif
