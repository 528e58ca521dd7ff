/*
 * The board: one page of shared memory between the supervisor (run.c) and the processes it measures
 * (side.c): made before they are forked, so nothing is sent. The supervisor writes the orders, each
 * side its own struct; all is atomic words, or written before the word that announces it.
 */
#ifndef PEERHUB_MILLION_BOARD_H
#define PEERHUB_MILLION_BOARD_H

#include "peerhub.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SIDES_MAX 17u /* one hub and up to 16 processes of peers */
#define KINDS_MAX 24u
#define CLASSES_MAX 40u /* jemalloc's small size classes */

enum side_state {
	SIDE_STARTING,
	SIDE_READY,
	SIDE_FAILED, /* why says what */
};

/* A kind of memory and how much of it is resident; found by the side in its own process. */
struct kind {
	char name[32];
	uint64_t bytes;
};

struct size_class {
	uint32_t bytes;
	uint64_t count; /* objects in use */
};

/* Written before sample_done. */
struct sample_inside {
	struct kind kinds[KINDS_MAX];
	uint32_t kind_count;
	struct size_class classes[CLASSES_MAX];
	uint32_t class_count;
	uint64_t heap_allocated, heap_resident; /* 0: not built with jemalloc */
};

struct side {
	_Atomic uint32_t state; /* enum side_state; release after what it announces */
	_Atomic uint32_t sample_done; /* = board.sample_wanted when inside is of that number */
	_Atomic uint32_t
		audit_done; /* all closes are issued and ended, the counts below are final */
	int32_t pid;
	char why[PH_WHY_BYTES];
	ph_address bound; /* the hub's */
	struct sample_inside inside;
	_Atomic uint64_t dialled, opened, failed, verified, spoiled; /* connections, messages */
	_Atomic uint64_t closed; /* final events of opened ones */
	_Atomic uint64_t wins, losses; /* ph_close: 0, -ENOENT */
	_Atomic uint64_t faults; /* of the audit: no or two final events, no or two winners */
	_Atomic uint64_t resets; /* final events that were no graceful end */
	_Atomic uint64_t deadlines; /* of those, ends that were not answered in time */
	_Atomic uint64_t close_begin_ns, close_issued_ns, closed_last_ns;
	_Atomic uint64_t
		close_allowed; /* on their way at once, as pace.h has it now; 0: none more */
	_Atomic uint64_t close_slowest_ns, close_holds; /* of this side's own closes */
	_Atomic uint64_t cpu_us; /* user and system so far */
};

struct board {
	_Atomic uint64_t dial_target; /* of all peers together */
	_Atomic uint32_t sample_wanted; /* a number that grows */
	_Atomic uint32_t close_wanted; /* begin to close */
	_Atomic uint32_t close_held; /* the kernel has enough orphans: wait */
	_Atomic uint32_t stop_wanted; /* orderly end */
	_Atomic uint32_t abort_wanted; /* end now: everything is reset */
	struct side sides[SIDES_MAX]; /* 0 is the hub */
};

#endif
