/*
 * A scripted ring: engine/ring.h without a kernel. No thread, nothing sleeps, nothing happens but inside
 * ring_enter and when a test says so.
 *
 * By itself it behaves like a kernel at its best: sockets are made, connects succeed, sends take all,
 * cancels hit, a disconnect ends what is armed, and a file's input comes from script_peer_data or from
 * the file it is paired with. A kind that is held (script_hold) does nothing by itself: its operations
 * wait in the list until the test answers them, in any order, with any result.
 *
 * What the ring itself watches (a breach prints a line and aborts)
 *   - no operation on a file after its close was queued, no second close
 *   - one receive and one send at a time on a file; a listener's accept is armed once
 *   - what a send or connect points at does not change and is readable until its answer
 *   - a provided buffer is touched only between its completion and ring_buffer_put, put back once
 *   - at ring_destroy: no file left open, no buffer out, nothing queued and not submitted, no counted
 *     operation left
 */
#ifndef PEERHUB_TESTS_FAKE_RING_SCRIPT_H
#define PEERHUB_TESTS_FAKE_RING_SCRIPT_H

#include "engine/ring.h"

enum script_kind {
	SCRIPT_POLL,
	SCRIPT_ACCEPT,
	SCRIPT_SOCKET,
	SCRIPT_OPTION,
	SCRIPT_CONNECT,
	SCRIPT_RECV,
	SCRIPT_SEND, /* ring_sendmsg too */
	SCRIPT_NAME,
	SCRIPT_UNSENT,
	SCRIPT_CANCEL,
	SCRIPT_DISCONNECT,
	SCRIPT_SHUTDOWN,
	SCRIPT_CLOSE,
	SCRIPT_BIND,
	SCRIPT_KIND_COUNT,
};
#define SCRIPT_ALL ((1u << SCRIPT_KIND_COUNT) - 1)
#define SCRIPT_ANY_FILE INT32_MIN

/* A queued operation: live until its last completion has been taken by ring_next. */
struct script_op {
	struct script_op *next;
	enum script_kind kind;
	uint64_t number; /* counts up over all operations of the ring */
	uint64_t user_data, target; /* target: of a cancel */
	int32_t file; /* poll, accept: the descriptor */
	bool submitted; /* by an enter, or in between when entries ran out */
	bool answered; /* its last completion is in the queue */
	bool poll_first; /* recv */
	bool is_message; /* sendmsg */
	int family, level, option; /* socket; option */
	const void *source; /* send: bytes or msghdr; connect: address; peer_name: where to */
	uint8_t *copy; /* of what it points at, when it was queued */
	size_t bytes;
};

/* ---- looking at the queue ---------------------------------------------------------------- */

/* The oldest operation of that kind (and file) without an answer, NULL when there is none. */
struct script_op *script_find(const struct ring *ring, enum script_kind kind, int32_t file);
struct script_op *script_find_data(const struct ring *ring, uint64_t user_data);
/* Walk the unanswered, oldest first: begin with NULL. */
struct script_op *script_walk(const struct ring *ring, const struct script_op *after);
uint32_t script_count(const struct ring *ring, enum script_kind kind, int32_t file);
/* Whether an operation of that slot and generation is live, answered ones included. kinds: bits of the
 * user_data's own kind number. */
bool script_has_live(const struct ring *ring, uint32_t kinds, uint32_t slot, uint32_t generation);
uint64_t script_queued_ever(const struct ring *ring, enum script_kind kind);
uint64_t script_number(const struct ring *ring); /* of the newest operation */
uint64_t script_waited_ns(const struct ring *ring); /* of the last enter that waited, else 0 */
uint64_t script_waits(const struct ring *ring);

/* ---- answering by hand ------------------------------------------------------------------- */

void script_hold(struct ring *ring, uint32_t kinds); /* bits 1 << kind; replaces what was held */
uint32_t script_held(const struct ring *ring);
void script_answer(struct ring *ring, struct script_op *op, int32_t result); /* its last answer */
void script_answer_more(struct ring *ring, struct script_op *op, int32_t result); /* it goes on */
/* Let the kernel at its best answer it now, held or not. */
void script_answer_natural(struct ring *ring, struct script_op *op);
/* A send took the first `bytes`; they join what the file has sent. */
void script_answer_sent(struct ring *ring, struct script_op *op, size_t bytes);
/* Bytes for a receive, in one provided buffer; more: it stays armed. Without a buffer it ends with
 * -ENOBUFS, as in the kernel, and the answer is false. */
bool script_answer_data(
	struct ring *ring, struct script_op *op, const void *data, size_t bytes, bool more);
/* An accept takes a new connection; returns its file. */
int32_t script_answer_accept(struct ring *ring, struct script_op *op, bool more);
/* Ends without a completion: cancels, disconnects, closes and options that work. */
void script_end_silent(struct ring *ring, struct script_op *op);
/* A completion that no operation of ours asked for now: late ones of another life. */
void script_stray(struct ring *ring, uint64_t user_data, int32_t result, bool with_buffer);

/* ---- files ------------------------------------------------------------------------------- */

int32_t script_file_create(struct ring *ring); /* what a socket or accept gives */
void script_pair(struct ring *ring, int32_t a, int32_t b); /* two ends of one connection */
void script_peer_data(struct ring *ring, int32_t file, const void *data, size_t bytes);
void script_peer_end(struct ring *ring, int32_t file, int32_t error); /* 0: end of stream */
bool script_is_closed(const struct ring *ring, int32_t file);
bool script_was_reset(const struct ring *ring, int32_t file); /* by our disconnect */
const uint8_t *script_sent(const struct ring *ring, int32_t file, size_t *bytes);
void script_set_unsent(struct ring *ring, int32_t file, int32_t unsent); /* SIOCOUTQ's answer */
uint32_t script_files_open(const struct ring *ring);
int32_t script_file_newest(const struct ring *ring);
void script_set_send_max(struct ring *ring, size_t bytes); /* sends take no more at once; 0: all */
void script_set_slice_max(struct ring *ring, size_t bytes); /* receives give no more; 0: a buffer */

/* ---- shortage and trouble ----------------------------------------------------------------- */

/* Submission entries left: nobody takes them while stuck. INT_MAX-like default when not stuck. */
void script_set_entries(struct ring *ring, uint32_t left, bool stuck);
void script_set_buffers(
	struct ring *ring, uint32_t count); /* provided buffers to be had from now */
void script_set_overflow(struct ring *ring);
void script_set_enter_status(struct ring *ring, int status);
void script_set_on_wait(struct ring *ring, void (*on_wait)(void *context), void *context);

/* ---- the process ------------------------------------------------------------------------- */

/* What ring_probe answers; the defaults: 0, direct descriptors, socket commands. */
void script_set_probe(int status, bool direct, bool socket_cmd);
void script_set_waker_status(int status); /* < 0: waker_create fails with it */
uint64_t script_wakes(void); /* waker_wake so far */

#endif
