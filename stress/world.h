/*
 * The world of a spin: one or two hubs of this process (or none of ours at the far end), their
 * listeners, groups and seats. The main thread makes and ends it; actors and callbacks use it.
 *
 * A seat is a place for one connection end, named by its audit serial. Dialled seats are filled by
 * ph_open, accepted ones by on_open; a newcomer in an accepted seat pushes the old one out, which
 * then ends from its dialled side. A group is a tag; when it ends, its number moves on.
 */
#ifndef PEERHUB_STRESS_WORLD_H
#define PEERHUB_STRESS_WORLD_H

#include "audit.h"
#include "certs.h"
#include "peerhub.h"

#include <pthread.h>

#include "../bench/echo/trust.h"

#define WORLD_HUBS_MAX 2u
#define WORLD_LISTENERS 8u /* addresses of a hub: local ports last eight times as long */
#define WORLD_LISTENERS_RAW 2u /* so many of them, the last ones, take raw streams */
#define WORLD_GROUPS 8u
#define WORLD_ENDED_TAGS 64u /* ended tags remembered, to be dialled in vain */
#define SEAT_RESERVED UINT64_MAX /* somebody is opening a connection for it */

/* Reasons that a call of ours gives; the audit knows by them who may have decided an end. */
#define REASON_CLOSE 1001u
#define REASON_CLOSE_ABORT 2001u
#define REASON_WHERE 1002u
#define REASON_GROUP 1003u

/* What belongs to one thread that acts, actor or shard: its choices, its lane, its buffer. */
struct hand {
	struct world *world;
	struct hand *next; /* of the idle ones; the world's hands_lock */
	struct random random;
	uint32_t lane;
	uint32_t hub; /* whose shard this is; WORLD_HUBS_MAX: of none */
	uint8_t payload[MESSAGE_BYTES_MAX];
};

struct world_options {
	uint32_t connections; /* dialled ones alive at once, at most */
	uint32_t lanes; /* threads that send: actors and shards */
	uint32_t hub_count; /* 1 or 2 */
	uint32_t shard_count; /* of each hub */
	uint32_t slots_per_shard; /* 0: enough */
	enum ph_tls tls;
	/* No decoding short cut, which counts for the whole process: p2p.h signs with keys that it cannot
	 * take, and where it runs out of memory libcrypto 3.0 falls over its own feet (fault_memory.h). */
	bool has_plain_decode;
	bool is_remote; /* dial `remote` only */
	ph_address remote;
	const char *cert_path, *key_path, *ca_path; /* with is_remote and TLS */
	uint64_t seed;
};

/*
 * A hub, and who is in a call on it. ph_hub_stop wants no call on its hub from other threads, and
 * the callbacks of the other hub are such: they count themselves in before they look at is_closed,
 * and the stopper sets is_closed before it waits for the count to be 0 (all sequentially
 * consistent), so one of them sees the other. A hub's own callbacks may go on calling it: it waits
 * for them.
 */
struct world_hub {
	struct world *world;
	struct ph_hub *hub; /* set before the first actor runs */
	_Atomic uint32_t callers;
	_Atomic bool is_closed;
};

struct world {
	struct world_options options;
	struct audit *audit;
	struct certs *certs; /* NULL without TLS, and when the far end is another's */
	struct trust *trust; /* of the files, when the far end is another's */
	struct world_hub hubs[WORLD_HUBS_MAX];
	_Atomic uint32_t ports[WORLD_HUBS_MAX][WORLD_LISTENERS]; /* of 127.0.hub.listener+1 */
	_Atomic uint64_t *dialled; /* [connections] serials; 0 = empty */
	_Atomic uint64_t *accepted; /* [connections] */
	_Atomic uint64_t tags[WORLD_GROUPS]; /* the group's tag now */
	_Atomic uint64_t ended_tags[WORLD_ENDED_TAGS]; /* 0 = none yet; ph_tag_end has returned */
	_Atomic uint64_t tag_last; /* tags count up and never return */
	_Atomic uint64_t volley; /* a serial that everybody shall close now */
	_Atomic uint64_t beats; /* operations done: the watchdog looks at it */
	struct hand *hands; /* [lanes]; each belongs to the thread that claimed it */
	pthread_mutex_t hands_lock; /* the next two */
	struct hand *hands_idle; /* of shards that have ended */
	uint32_t hands_claimed;
	pthread_mutex_t credentials_lock;
	struct ph_credentials *credentials; /* counted; exchanged now and then; NULL: no TLS */
	_Atomic uint64_t restarts; /* of hubs */
	_Atomic bool is_calm; /* callbacks refuse and close nothing: the world is being filled */
	_Atomic bool is_ending; /* no new connections */
};

/* 0, or a negative errno with a line in why[PH_WHY_BYTES]. */
int world_create(const struct world_options *options, struct world **world, char *why);
/* Stop the hubs (every id gets its last event). 0 or a negative errno. */
int world_stop(struct world *world, enum ph_how how);
void world_destroy(struct world *world); /* after world_stop, or of one that never started */

/* The calling thread's own, until the world ends or it gives it back; at most `lanes` at once. */
struct hand *world_hand_claim(struct world *world);
void world_hand_give(struct hand *hand);
/* The hub to call, until world_hub_leave; NULL when it is about to stop. */
struct ph_hub *world_hub_enter(struct world *world, const struct hand *hand, uint32_t hub);
void world_hub_leave(struct world *world, const struct hand *hand, uint32_t hub);
struct ph_credentials *world_credentials_get(struct world *world); /* counted; NULL: no TLS */
/* From now on others of the same chain and key; the old ones live as long as somebody has them. */
void world_credentials_exchange(struct world *world);
/* Stop one hub and start it again while the others go on. The main thread. 0 or a negative errno: it
 * could not be started again, and stays away until the next try. */
int world_hub_restart(struct world *world, uint32_t hub, enum ph_how how, char *why);
/* Where a hub's listener is or, after a restart, was a moment ago. */
ph_address world_address(struct world *world, uint32_t hub, uint32_t listener);
enum ph_framing world_framing(uint32_t listener);
/* End a group on all hubs and give it a new tag. */
void world_group_end(struct world *world, uint32_t group, enum ph_how how);
/* What the hubs counted, added up. */
void world_stats(struct world *world, struct ph_statistics *stats);
void world_dump(struct world *world, int fd);

extern const struct ph_callbacks world_callbacks; /* events.c */

#endif
