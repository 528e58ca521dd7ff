/*
 * Slots: what other threads may touch of a connection. One 64-byte slot per possible connection of
 * a shard, in type-stable memory that lives as long as the process and keeps counting generations
 * when a hub stops and another starts.
 *
 * The slot word decides. One 64-bit atomic: generation, state, flags, count of senders inside; every
 * change is one atomic step on it.
 *
 *   bits  0..15  senders  threads inside ph_send, a close with a reason, or a reading pin
 *   bits 16..18  state    FREE, OPENING, OPEN, ENDING
 *   bit  20      DIAL     the mail asks the owner to begin dialling
 *   bit  21      CLOSE    a local caller has decided the end (exactly one won)
 *   bit  22      ABORT    … and wants a reset
 *   bit  23      MAILED   the slot's one link is in the mailbox, or about to be pushed
 *   bit  24      UPGRADED the abort came after a graceful close: its reason stays the graceful one's
 *   bits 32..63  generation, from 1; a slot at its last generation is retired
 *
 * What always holds (model: docs/models/slot.pml, checked exhaustively)
 *   1. Only the thread that turned MAILED from 0 to 1 pushes the link; the owner clears MAILED with one
 *      atomic AND after it has taken the link, and reads `link.next` before that. So the link is
 *      never in the mailbox twice.
 *   2. CLOSE is set by one CAS from (generation, OPENING or OPEN, no CLOSE), in the same step as
 *      MAILED: exactly one local caller wins, and its mail is under way.
 *   3. A sender enters by one CAS from (generation, OPEN, no CLOSE), pushes its chunk, and leaves in ONE
 *      step {senders - 1, MAILED}. The owner writes the goodbye, and frees, only at senders = 0: each
 *      byte whose send returned 0 before the close is out before the goodbye, and no chunk reaches
 *      the next generation. (Mailing first and leaving after loses the wake-up of a waiting close.)
 *   4. A close that brings a reason enters like a sender in the step that sets CLOSE (senders + 1, no
 *      MAILED), writes the reason, and leaves in ONE step {senders - 1, MAILED}. The owner reads the
 *      reason only at senders = 0.
 *   5. A reading pin enters like a sender from (generation, OPEN, no CLOSE), reads what is constant while
 *      the connection is open, and leaves by one CAS {senders - 1}; it adds MAILED only if the word
 *      then shows CLOSE or ENDING, because only then may the owner wait for it.
 *   6. The owner's own endings (remote end, error) are a CAS from (OPENING or OPEN, no CLOSE) to ENDING;
 *      when CLOSE is already set the local closer has won, and the end is his.
 *   7. FREE is set by the owner alone, by one CAS from (ENDING or CLOSE, senders = 0, no MAILED), together
 *      with generation + 1, when the kernel holds nothing of the connection.
 */
#ifndef PEERHUB_ENGINE_SLOT_H
#define PEERHUB_ENGINE_SLOT_H

#include "engine/chain.h"
#include "engine/mailbox.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOT_SENDER 1ull
#define SLOT_SENDERS_MASK 0xffffull
#define SLOT_STATE_SHIFT 16
#define SLOT_STATE_MASK (7ull << SLOT_STATE_SHIFT)
#define SLOT_DIAL (1ull << 20)
#define SLOT_CLOSE (1ull << 21)
#define SLOT_ABORT (1ull << 22)
#define SLOT_MAILED (1ull << 23)
#define SLOT_UPGRADED_BIT (1ull << 24)
#define SLOT_GENERATION_SHIFT 32

enum slot_state {
	SLOT_FREE = 0, /* waits in the free queue, or the owner is putting it there */
	SLOT_OPENING = 1, /* has an id; may be closed, not sent to */
	SLOT_OPEN = 2, /* may be sent to and closed */
	SLOT_ENDING = 3, /* the owner has ended it; nobody may enter */
};

#define SLOT_WANT_WRITABLE 1u /* a sender was told -EAGAIN: one on_writable is owed */
#define SLOT_PAUSED 2u /* ph_pause: stop reading */
#define SLOT_RAW 4u /* framing raw: no message head; constant while open */
#define SLOT_SLOW 8u /* the queue was full and has not been half empty since: engine/slow.h */
#define SLOT_NOTICE_ONE 0x10000u /* the upper half counts what ph_notice sent */

struct slot {
	_Atomic uint64_t word; /* see above; written by all */
	struct ck_stack_entry link; /* in the mailbox while MAILED */
	_Atomic uint64_t tag; /* written by whoever opens, before the id is known to others;
	                                accepted: once by the owner while OPENING */
	struct ck_stack chunks; /* push: senders inside; batch pop: the owner */
	_Atomic uint32_t
		queued_bytes; /* against the send budget: senders add, the owner subtracts */
	_Atomic uint32_t flags; /* SLOT_WANT_WRITABLE, SLOT_PAUSED, SLOT_RAW, notices */
	_Atomic uint64_t bytes_queued; /* all that ph_send accepted in this generation */
	_Atomic uint64_t messages_queued;
};
_Static_assert(sizeof(struct slot) == 64, "one slot, one cache line");

/* A shard's part of the process-wide table: lives as long as the process. */
struct slot_table {
	struct slot *slots; /* slot_count of them, type-stable */
	uint32_t slot_count;
	bool is_begun; /* the owner: filled before, so slots may have generations */
	uint32_t generation_last; /* retired beyond this; smaller in wrap tests */
	_Atomic uint32_t *free_ring; /* slot numbers, capacity slot_count: never full */
	_Alignas(64) _Atomic uint64_t free_head; /* takers: one CAS */
	_Alignas(64) _Atomic uint64_t free_tail; /* the owner */
	_Atomic uint64_t retired;
};

/* ---- ids -------------------------------------------------------------------------------- */

#define SLOT_HOMES_MAX 256u /* shard records of a process: 8 bits of an id */

static inline uint64_t slot_id(uint32_t home, uint32_t slot, uint32_t generation)
{
	return (uint64_t)generation << 32 | (uint64_t)home << 24 | slot;
}
static inline uint32_t slot_id_home(uint64_t id)
{
	return (uint32_t)(id >> 24) & 0xffu;
}
static inline uint32_t slot_id_slot(uint64_t id)
{
	return (uint32_t)id & 0xffffffu;
}
static inline uint32_t slot_id_generation(uint64_t id)
{
	return (uint32_t)(id >> 32);
}
static inline enum slot_state slot_word_state(uint64_t word)
{
	return (enum slot_state)((word & SLOT_STATE_MASK) >> SLOT_STATE_SHIFT);
}
static inline uint32_t slot_word_generation(uint64_t word)
{
	return (uint32_t)(word >> SLOT_GENERATION_SHIFT);
}
static inline uint32_t slot_word_senders(uint64_t word)
{
	return (uint32_t)(word & SLOT_SENDERS_MASK);
}

/* ---- table ------------------------------------------------------------------------------ */

int slot_table_init(struct slot_table *table, uint32_t slot_count); /* 0 or -ENOMEM */
/* Owner, no other thread may take: put `count` first slots that are not retired into the queue. */
uint32_t slot_table_fill(struct slot_table *table, uint32_t count); /* returns how many */
/* Any thread: a free slot's number, or -1. The slot is the caller's until slot_open or slot_put. */
int64_t slot_take(struct slot_table *table);
/* Owner. False: it is retired and stays out. */
bool slot_put(struct slot_table *table, uint32_t slot_index);
uint32_t slot_free_count(const struct slot_table *table); /* a moment's guess */

/* ---- any thread ------------------------------------------------------------------------- */

/* Begin a generation of a slot that slot_take gave. dial: also mails it (push the link if told). */
uint32_t slot_open(struct slot *slot, uint64_t tag, uint32_t flags, bool dial);

enum slot_answer {
	SLOT_NOT_FOUND,
	SLOT_DONE, /* won, or entered; nothing to push */
	SLOT_PUSH, /* the same, and the caller must post the link */
	SLOT_UPGRADED, /* a graceful close became an abort; nothing to push */
	SLOT_UPGRADED_PUSH,
};
enum slot_answer slot_close(struct slot *slot, uint32_t generation, uint64_t tag, bool abort);
/* The same, but the winner is inside and must slot_leave: to write its reason. Never SLOT_PUSH. */
enum slot_answer slot_close_enter(struct slot *slot, uint32_t generation, uint64_t tag, bool abort);
bool slot_send_enter(struct slot *slot, uint32_t generation, uint64_t tag);
bool slot_send_leave(struct slot *slot); /* true: the caller must post the link */
bool slot_pin(struct slot *slot, uint32_t generation); /* for reading; open connections only */
bool slot_unpin(struct slot *slot); /* true: the caller must post the link */
bool slot_is_open(const struct slot *slot, uint32_t generation);

/* ---- owner ------------------------------------------------------------------------------ */

uint64_t slot_take_mail(struct slot *slot); /* clears MAILED and DIAL; returns the word before */
bool slot_become_open(struct slot *slot); /* OPENING -> OPEN; false: a local close has won */
bool slot_end(struct slot *slot); /* -> ENDING; false: a local close has won */
bool slot_is_quiet(const struct slot *slot); /* no senders, no mail under way */
/* FREE and generation + 1; false while it is not quiet (that mail comes and this runs again). */
bool slot_free(struct slot *slot);
void slot_take_chunks(struct slot *slot, struct chain *chain); /* in order, behind chain */

#endif
