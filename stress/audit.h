/*
 * The exactly-once audit: it watches every id of a run and knows what must be true of it.
 *
 * Each connection end has an entry in a fixed ring, named by a serial number that never returns.
 * The serial travels as the connection's `user`, and a dialler's serial as its node id, so that the
 * accepting end finds its partner; on raw streams, which have none, the first message tells it. Checked, while it happens or when an entry is settled:
 *   - exactly one final event an id, nothing after it, on_open at most once, no id twice;
 *   - of all ph_close calls on an id at most one got 0, exactly one if the receipt says so; calls
 *     on ended ids got -ENOENT; no send was accepted after a close had won;
 *   - messages arrive whole, in the order of their lane, once; everything accepted before a graceful
 *     close arrives when both ends ended gracefully;
 *   - the receipt agrees with what the callbacks saw.
 * An entry is settled by audit_tick, when it and its partner have ended and no call on it is under
 * way any more. Ended entries stay known until the ring comes round, so late events are seen.
 *
 * Threads: any, except audit_tick and audit_finish (the main thread). Locks are held for a few
 * instructions, never around a ph_ call.
 */
#ifndef PEERHUB_STRESS_AUDIT_H
#define PEERHUB_STRESS_AUDIT_H

#include "histogram.h"
#include "message.h"
#include "peerhub.h"
#include "random.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Ways a connection ends, for the latency from the deciding call to the last event. */
enum audit_path {
	AUDIT_PATH_LOCAL, /* graceful ph_close, at the caller's end */
	AUDIT_PATH_REMOTE, /* the same, at the other end */
	AUDIT_PATH_ABORT, /* ph_close with PH_ABORT, at the caller's end */
	AUDIT_PATH_RESET, /* the same, at the other end */
	AUDIT_PATH_HANDSHAKE, /* closed by the opener before it was open */
	AUDIT_PATH_COUNT,
};
const char *audit_path_name(enum audit_path path);

/* clang-format off */
#define AUDIT_COUNTERS(X) \
	X(dialled) X(accepted) X(anonymous) X(opened) X(raw_opened) X(failed) X(finals) X(settled) \
	X(pairs) X(raw_pairs) X(messages_raw) \
	X(messages_sent) X(messages_received) X(bytes_sent) X(bytes_received) \
	X(sends_would_block) X(writables) X(closes_won) X(closes_lost) X(upgrades) \
	X(stale_calls) X(graceful_proved) X(violations)
/* clang-format on */

struct audit_counts {
#define AUDIT_FIELD(name) uint64_t name;
	AUDIT_COUNTERS(AUDIT_FIELD)
#undef AUDIT_FIELD
};

struct audit_options {
	uint32_t entry_count; /* power of two, several times the live connection ends */
	uint32_t lane_count; /* sending threads */
	bool is_echo; /* the far end is another process that gives messages back */
};

struct audit;

/* A connection end borrowed for one ph_ call; from audit_enter to audit_leave. */
struct audit_ref {
	uint64_t serial;
	uint64_t id;
	uint64_t tag;
	bool had_ended; /* its final event had come: the call must answer -ENOENT */
	bool had_lost; /* a close had won: a send must answer -ENOENT */
	bool is_open; /* on_open had come */
};

int audit_create(const struct audit_options *options, struct audit **audit); /* 0 or -ENOMEM */
void audit_destroy(struct audit *audit); /* NULL allowed */

/* ---- lives ---- */

/* A serial for ph_open and where its id shall be stored; 0 when the ring is full of live ones. */
uint64_t audit_dial(struct audit *audit, uint64_t tag, uint64_t **id);
void audit_dial_failed(struct audit *audit, uint64_t serial); /* ph_open refused: it never was */
void audit_dial_done(struct audit *audit, uint64_t serial); /* ph_open answered 0 */
uint64_t audit_accept(struct audit *audit, uint64_t id, uint64_t tag); /* on_verify; 0: full */

/* ---- events, each from its callback ---- */

void audit_on_connect(struct audit *audit, uint64_t serial, uint64_t id, uint64_t partner);
void audit_on_open(struct audit *audit, uint64_t serial, uint64_t id, uint64_t tag, bool accepted);
void audit_on_open_raw(struct audit *audit, uint64_t serial, uint64_t id, uint64_t tag,
	bool accepted); /* framing raw */
/* `type` NULL: a span of a raw stream. */
void audit_on_data(struct audit *audit, uint64_t serial, uint64_t id, const uint8_t *type,
	const uint8_t *data, size_t bytes);
void audit_on_writable(struct audit *audit, uint64_t serial, uint64_t id);
void audit_on_closed(
	struct audit *audit, uint64_t serial, uint64_t id, const struct ph_receipt *receipt);

/* ---- calls ---- */

/* False: no such entry, or ph_open has not stored its id yet. */
bool audit_enter(struct audit *audit, uint64_t serial, struct audit_ref *ref);
void audit_leave(struct audit *audit, const struct audit_ref *ref);
/* Some entry that has ended; false when this try met none. Enter it like any other. */
bool audit_pick_ended(struct audit *audit, struct random *random, uint64_t *serial);
/* Between enter and leave, after ph_close answered `result`; `begin_ns` was taken before it. */
void audit_close_result(struct audit *audit, const struct audit_ref *ref, enum ph_how how,
	uint32_t reason, int result, uint64_t begin_ns);
/* Before ph_send: the next sequence of the lane. After: its answer; `begin_ns` was taken before. */
uint32_t audit_send_begin(struct audit *audit, const struct audit_ref *ref, uint32_t lane);
void audit_send_result(struct audit *audit, const struct audit_ref *ref, uint32_t lane,
	uint32_t bytes, int result, uint64_t begin_ns);
/* ph_pause, ph_resume and other calls that may only fail with -ENOENT. */
void audit_call_result(
	struct audit *audit, const struct audit_ref *ref, const char *call, int result);

/* ---- judging ---- */

/* A finding: counted, and the first few are written to stderr with the id's whole story. */
void audit_violation(struct audit *audit, uint64_t serial, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void audit_tick(struct audit *audit); /* settle what has ended; main thread */
/* Entries that wait too long: `close_ns` after a close won or after a send was told to wait without
 * an on_writable since, `open_ns` after it began without getting open. The first is described on stderr when `say`. */
uint32_t audit_overdue(struct audit *audit, uint64_t close_ns, uint64_t open_ns, bool say);
/* After all hubs have stopped: settle everything; what is still alive is a violation. */
void audit_finish(struct audit *audit);
uint64_t audit_live(struct audit *audit); /* entries without a final event */
void audit_counts(struct audit *audit, struct audit_counts *counts);
struct histogram *audit_latency(struct audit *audit, enum audit_path path);

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

#endif
