/*
 * Single operations of a p2p spin: each makes one call of p2p.h, or a few that belong together, and
 * tells the audit. Used by actors, by the conductor of the rounds and inside callbacks of registered
 * waits alike.
 */
#ifndef PEERHUB_STRESS_P2P_ACTION_H
#define PEERHUB_STRESS_P2P_ACTION_H

#include "p2p_audit.h"

#define P2P_ENUMERATIONS 8u
#define P2P_HANDS 48u /* actors, the conductor, and up to 32 threads of the wait pool */

struct p2p_play {
	struct p2p_world *world;
	struct p2p_audit *audit;
	_Atomic uint64_t *beats; /* operations done: the watchdog looks at it */
	uint32_t connections; /* dials of a round, at most: bounds what is alive at once */
	_Atomic uint32_t dials; /* of this round */
	_Atomic bool is_calm; /* callbacks only take events */
	_Atomic bool is_steady; /* group 0 stays as it is, and so does the library */
	_Atomic uint32_t callbacks; /* inside one */
	_Atomic uint64_t enumerations[P2P_ENUMERATIONS]; /* HPEERENUM values, some of them ended */
	pthread_mutex_t base_lock; /* who stops and starts the library */
	struct ph_hub *_Atomic hub; /* the library's, for dumps and receipts; NULL: not known */
	pthread_mutex_t hands_lock;
	struct p2p_hand *hands; /* [P2P_HANDS] */
};

struct p2p_hand *p2p_hand_take(struct p2p_play *play, bool is_in_callback); /* NULL: none free */
void p2p_hand_give(struct p2p_play *play, struct p2p_hand *hand);

void p2p_step(struct p2p_play *play, struct p2p_hand *hand); /* one random operation of an actor */

/* ---- what the conductor uses too ---- */

/* One PeerGroupStartup and its PeerGroupShutdown; the former tries until it works. */
void p2p_library_start(struct p2p_play *play);
void p2p_library_stop(struct p2p_play *play);
/* PeerGroupOpen, joining again when it has been deleted. Counted until p2p_handle_put; NULL: it did not
 * work out. */
struct p2p_handle *p2p_group_open(struct p2p_play *play, struct p2p_node *node, bool is_anchor);
void p2p_group_close(struct p2p_play *play, struct p2p_handle *handle);
/* Going online: by discovery or, with `by`, by that node's address. */
void p2p_group_connect(struct p2p_play *play, struct p2p_handle *handle, const struct p2p_node *by);
/* Ask where it listens, for those that dial it. */
void p2p_address_learn(struct p2p_play *play, struct p2p_handle *handle);
bool p2p_group_status(struct p2p_play *play, struct p2p_handle *handle, DWORD *status);
/* False: no place, or it was refused. */
bool p2p_register(
	struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle, bool is_anchor);
/* `is_last`: at the end of a round, waiting for callbacks that run. */
void p2p_unregister(struct p2p_play *play, struct p2p_registration *registration, bool is_last);
void p2p_pump(struct p2p_play *play, struct p2p_registration *registration, uint32_t count_max);
uint64_t p2p_dial(struct p2p_play *play, struct p2p_handle *handle, const struct p2p_node *target);
void p2p_send_one(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle,
	uint64_t id, uint32_t bytes_max);
void p2p_close_one(struct p2p_play *play, struct p2p_handle *handle, uint64_t id);
/* Close all direct connections that PeerGroupEnumConnections lists; how many those were. */
uint32_t p2p_close_listed(struct p2p_play *play, struct p2p_handle *handle, uint32_t count_max);
void p2p_enumeration_end(struct p2p_play *play, uint32_t place);

#endif
