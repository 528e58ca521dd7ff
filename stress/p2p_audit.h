/*
 * The audit of a p2p spin: which HRESULTs a call may answer in its situation, and that every
 * connection gets exactly its events at every registration.
 *
 * Calls. Between p2p_call_begin and p2p_call_end lies one call of the library. What was known of the
 * library and of the group handle before and after tells which of PEER_E_NOT_INITIALIZED and
 * PEER_E_INVALID_GROUP may, must or must not come; every other answer must stand in the call's row
 * of P2P_CALLS, or among those the caller adds. E_OUTOFMEMORY stands there only for calls that have a
 * bound to meet; while allocations fail on purpose it is allowed to all but those that need none.
 *
 * Connections. A link is one end of one connection, known by its id, which is never used twice. Of
 * all PeerGroupCloseDirectConnection calls on it at most one wins, and none on a neighbor. Per
 * registration, in the order of its queue: CONNECTED, data, DISCONNECTED, or FAILED alone, and nothing
 * after that; one that was registered while the connection was there may miss the beginning. Messages
 * arrive whole, in the order of their lane, from one other end; a registration without connection
 * events may miss some, while nobody at its node has any. At a steady node, whose anchor registration
 * lives from before the first connection until after the last, nothing may be missing.
 *
 * Threads: any. Locks are held for a few instructions, but for a registration's, which is held around
 * PeerGroupGetEventData so that what is judged is the order of the queue.
 */
#ifndef PEERHUB_STRESS_P2P_AUDIT_H
#define PEERHUB_STRESS_P2P_AUDIT_H

#include "p2p_world.h"

#include "peerhub.h"

#define P2P_LINKS 8192u /* of one round; a power of two */
#define P2P_HANDLES 64u /* live and remembered */
#define P2P_REGISTRATIONS 24u
#define P2P_CONNECTION_TYPES \
	((1u << PEER_GROUP_EVENT_DIRECT_CONNECTION) | (1u << PEER_GROUP_EVENT_NEIGHBOR_CONNECTION))

#define P2P_SITUATION_NO_GROUP 1u /* has no group handle: PEER_E_INVALID_GROUP is no answer */
#define P2P_SITUATION_NEEDS_MEMORY 2u /* needs memory: E_OUTOFMEMORY when allocations fail */
#define P2P_SITUATION_ALWAYS 4u /* works whether or not the library is started */

/* In the table below without their prefix. */

/* name, situation, answers beside those of the situation (S_OK always) */
/* clang-format off */
#define P2P_CALLS(X) \
	X(PeerGroupStartup, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerGroupShutdown, NO_GROUP, {0}) \
	X(PeerGroupOpen, NO_GROUP | NEEDS_MEMORY, {0}) \
	X(PeerGroupJoin, NO_GROUP | NEEDS_MEMORY, {PEER_E_GROUP_IN_USE}) \
	X(PeerGroupCreate, NO_GROUP | NEEDS_MEMORY, {0}) \
	X(PeerGroupDelete, NO_GROUP | NEEDS_MEMORY, {0}) \
	X(PeerGroupConnect, NEEDS_MEMORY, {PEER_S_ALREADY_CONNECTED}) \
	X(PeerGroupConnectByAddress, NEEDS_MEMORY, {PEER_S_ALREADY_CONNECTED}) \
	X(PeerGroupClose, 0, {0}) \
	X(PeerGroupGetStatus, 0, {0}) \
	X(PeerGroupGetProperties, NEEDS_MEMORY, {0}) \
	X(PeerGroupSetProperties, NEEDS_MEMORY, {0}) \
	X(PeerGroupEnumMembers, NEEDS_MEMORY, {0}) \
	X(PeerGroupEnumConnections, NEEDS_MEMORY, {0}) \
	X(PeerGroupOpenDirectConnection, NEEDS_MEMORY, {E_OUTOFMEMORY}) \
	X(PeerGroupCloseDirectConnection, 0, {PEER_E_CONNECTION_NOT_FOUND}) \
	X(PeerGroupSendData, NEEDS_MEMORY, {PEER_E_CONNECTION_NOT_FOUND, E_OUTOFMEMORY}) \
	X(PeerGroupRegisterEvent, NEEDS_MEMORY, {0}) \
	X(PeerGroupUnregisterEvent, NO_GROUP, {E_INVALIDARG}) \
	X(PeerGroupGetEventData, NO_GROUP | NEEDS_MEMORY, {PEER_S_NO_EVENT_DATA, E_INVALIDARG}) \
	X(PeerGroupCreateInvitation, NEEDS_MEMORY, {0}) \
	X(PeerGroupIssueCredentials, NEEDS_MEMORY, {PEER_E_IDENTITY_NOT_FOUND}) \
	X(PeerGroupParseInvitation, NO_GROUP | NEEDS_MEMORY, {0}) \
	X(PeerGroupPeerTimeToUniversalTime, 0, {0}) \
	X(PeerGroupUniversalTimeToPeerTime, 0, {0}) \
	X(PeerGetItemCount, NO_GROUP | ALWAYS, {E_INVALIDARG}) \
	X(PeerGetNextItem, NO_GROUP | NEEDS_MEMORY | ALWAYS, {E_INVALIDARG}) \
	X(PeerEndEnumeration, NO_GROUP | ALWAYS, {E_INVALIDARG}) \
	X(PeerIdentityCreate, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentityDelete, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentityGetXML, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentityGetFriendlyName, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentitySetFriendlyName, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentityGetDefault, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentityExport, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerIdentityImport, NO_GROUP | NEEDS_MEMORY | ALWAYS, {PEER_E_ALREADY_EXISTS}) \
	X(PeerEnumIdentities, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerEnumGroups, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0}) \
	X(PeerCreatePeerName, NO_GROUP | NEEDS_MEMORY | ALWAYS, {0})
/* clang-format on */

enum p2p_call {
#define P2P_CALL_ENUM(name, situation, ...) P2P_CALL_##name,
	P2P_CALLS(P2P_CALL_ENUM)
#undef P2P_CALL_ENUM
	P2P_CALL_COUNT,
};

/* clang-format off */
#define P2P_COUNTERS(X) \
	X(calls) X(calls_dead) X(calls_down) X(out_of_memory) X(startups) X(groups_opened) X(groups_closed) \
	X(groups_deleted) X(groups_joined) X(dials) X(dials_refused_self) X(connected) X(failed) \
	X(disconnected) X(messages_sent) X(messages_received) X(bytes_received) X(closes_won) \
	X(closes_lost) X(events) X(registrations) X(rounds) X(links_proved) X(graceful_proved) X(violations)
/* clang-format on */

struct p2p_counts {
#define P2P_FIELD(name) uint64_t name;
	P2P_COUNTERS(P2P_FIELD)
#undef P2P_FIELD
};

/* A group handle, live or remembered. The audit's lock guards what is not atomic. */
struct p2p_handle {
	HGROUP value;
	struct p2p_node *node;
	uint32_t low_epoch; /* when its making began … */
	bool was_low; /* … and whether anything was surely started then */
	uint32_t high_epoch; /* when its making had ended */
	uint64_t deletes_before; /* calls that had returned when its making began */
	uint64_t deletes_after; /* calls that had begun when its making had ended */
	_Atomic uint32_t ends_begun; /* PeerGroupClose calls */
	const char
		*_Atomic death; /* one of them succeeded, or a call was told so; NULL: not known */
	bool is_live; /* in use; else only remembered, for stale calls */
	bool is_anchor; /* of a steady node: nobody closes it */
	uint32_t users;
};

enum p2p_seen {
	P2P_SEEN_NOTHING,
	P2P_SEEN_LATE, /* data without CONNECTED: it was there before */
	P2P_SEEN_CONNECTED,
	P2P_SEEN_LAST,
};

/* What one registration saw of one link. */
struct p2p_view {
	uint32_t generation; /* of the registration: older ones are another's */
	uint8_t seen;
	uint64_t sender; /* the other end; 0: no message yet */
	uint32_t next[P2P_LANES];
	bool is_lane_known[P2P_LANES];
};

struct p2p_play;

struct p2p_registration {
	struct p2p_play *play; /* constant: callbacks look at it without a lock */
	pthread_mutex_t
		lock; /* around GetEventData and its judgement; guards the fields below it */
	HPEEREVENT value;
	HANDLE event, wait;
	struct p2p_node *node;
	uint32_t generation;
	uint32_t types; /* bit per PEER_GROUP_EVENT_TYPE */
	uint64_t tick; /* when RegisterEvent had returned */
	struct p2p_view *views; /* [P2P_LINKS] */
	/* The audit's lock. */
	bool is_live, is_anchor, is_busy; /* busy: being made or ended */
};

struct p2p_link {
	uint64_t id; /* 0: free */
	struct p2p_node *node;
	bool is_neighbor;
	bool is_dialled; /* PeerGroupOpenDirectConnection gave it out */
	bool was_connected, has_failed, has_last;
	uint64_t begin_tick; /* dialled: when Open was called */
	uint32_t wins;
	HRESULT failure;
	uint64_t peer; /* the other end, once a message told */
	uint32_t sent[P2P_LANES];
	bool is_lane_busy[P2P_LANES];
};

struct p2p_audit {
	struct p2p_world *world;
	bool is_failing; /* allocations fail on purpose */
	pthread_mutex_t lock; /* handles, links, registrations' use */
	struct p2p_handle handles[P2P_HANDLES];
	struct p2p_registration registrations[P2P_REGISTRATIONS];
	struct p2p_link links[P2P_LINKS];
	uint32_t link_count;
	_Atomic uint64_t tick;
	_Atomic uint64_t call_counts[P2P_CALL_COUNT];
	struct {
#define P2P_ATOMIC(name) _Atomic uint64_t name;
		P2P_COUNTERS(P2P_ATOMIC)
#undef P2P_ATOMIC
	} counts;
};

#define P2P_COUNT(audit, name) \
	atomic_fetch_add_explicit(&(audit)->counts.name, 1, memory_order_relaxed)

int p2p_audit_create(struct p2p_world *world, bool is_failing, struct p2p_audit **audit);
void p2p_audit_destroy(struct p2p_audit *audit);
void p2p_violation(struct p2p_audit *audit, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void p2p_counts(struct p2p_audit *audit, struct p2p_counts *counts);

/* ---- calls ---- */

struct p2p_before {
	enum p2p_call call;
	struct p2p_handle *handle; /* NULL: none, or a value that is no handle */
	uint64_t low, high, startups;
	const char *death; /* why the handle is dead, for certain; NULL: it may live */
};
void p2p_call_begin(struct p2p_audit *audit, enum p2p_call call, struct p2p_handle *handle,
	struct p2p_before *before);
/* True: the call worked. False: it answered what it may, or it was a violation, which is told.
 * `also`: what else it may answer as things stand, ended by S_OK; NULL: nothing. */
bool p2p_call_end(struct p2p_audit *audit, const struct p2p_before *before, HRESULT result,
	const HRESULT *also);
/* The same for a value that was never a handle of this kind: it must be told so. */
void p2p_call_end_stranger(
	struct p2p_audit *audit, const struct p2p_before *before, HRESULT result, HRESULT wanted);

/* ---- handles ---- */

/* Before PeerGroupOpen or Join: a place to remember it. NULL: all are in use. */
struct p2p_handle *p2p_handle_begin(struct p2p_audit *audit, struct p2p_node *node);
/* After it; NULL: it failed. Else the caller has it counted until he puts it: from here on others pick
 * it and close it, and a place that nobody counts is the next handle's. */
void p2p_handle_end(struct p2p_audit *audit, struct p2p_handle *handle, HGROUP value);
/* Some handle, counted until put; live ones or, when `stale`, remembered ones. NULL: none. */
struct p2p_handle *p2p_handle_pick(struct p2p_audit *audit, struct random *random, bool stale);
void p2p_handle_put(struct p2p_audit *audit, struct p2p_handle *handle);
void p2p_handle_forget(struct p2p_audit *audit, struct p2p_handle *handle); /* not live any more */
uint32_t p2p_handles_live(struct p2p_audit *audit);

/* ---- links ---- */

uint32_t p2p_links_count(struct p2p_audit *audit);
void p2p_link_opened(struct p2p_audit *audit, struct p2p_node *node, uint64_t id, uint64_t tick);
/* Some id of this round that belongs to the node (or to another, when `foreign`); 0: none. */
uint64_t p2p_link_pick(
	struct p2p_audit *audit, struct random *random, const struct p2p_node *node, bool foreign);
/* Before a send: a free lane and its next number. False: no such link, or all lanes are busy. */
struct p2p_send {
	uint64_t id;
	uint32_t lane, sequence;
	bool must_fail; /* a close had won, the last event was seen, or the node is another one */
};
bool p2p_send_begin(struct p2p_audit *audit, const struct p2p_node *node, uint64_t id,
	struct random *random, struct p2p_send *send);
void p2p_send_end(struct p2p_audit *audit, const struct p2p_send *send, bool is_sent);
/* Before PeerGroupCloseDirectConnection of this node: must it fail? */
bool p2p_close_begin(struct p2p_audit *audit, const struct p2p_node *node, uint64_t id);
void p2p_close_end(struct p2p_audit *audit, uint64_t id, bool has_won, bool must_fail);

/* ---- events; the registration's lock is held ---- */

void p2p_event(struct p2p_audit *audit, struct p2p_registration *registration,
	const PEER_GROUP_EVENT_DATA *event);

/* ---- rounds ---- */

/* What a registration has seen of an id: enum p2p_seen. */
uint8_t p2p_link_seen(
	struct p2p_audit *audit, const struct p2p_registration *registration, uint64_t id);
/* Links of steady nodes that have not had their last event at the anchor. */
uint32_t p2p_links_open(struct p2p_audit *audit, const struct p2p_registration *anchor);
/* After the drain of a steady round: nothing may be missing at this anchor. */
void p2p_links_judge(struct p2p_audit *audit, const struct p2p_registration *anchor);
/* With the receipts of the hub: graceful ends that lost nothing. */
void p2p_receipts_judge(struct p2p_audit *audit, const struct ph_receipt *receipts, uint32_t count);
void p2p_links_forget(struct p2p_audit *audit); /* a new round */

#endif
