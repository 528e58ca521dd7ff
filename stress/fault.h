/*
 * Faults that a user asks for, `--fault KIND[:ARGUMENT][@SCOPE]`: what they are and whom they hit.
 * Those of the network are made by a relay between the ends (fault_link.h), those of the kernel's
 * answers at the ring (fault_ring.h). Made by the main thread before a run, then constant.
 */
#ifndef PEERHUB_STRESS_FAULT_H
#define PEERHUB_STRESS_FAULT_H

#include "random.h"

#include <stdbool.h>
#include <stdint.h>

#define FAULTS_MAX 8u /* of one run */
#define FAULT_LINKS_MAX 6u /* of them for the relay: it has a listener for each combination */
#define FAULT_TEXT_BYTES 96u
#define FAULT_GROUP_BYTES 16u

enum fault_kind {
	FAULT_DELAY, /* every piece arrives later */
	FAULT_STALL, /* after some bytes nothing passes, for a time or for ever */
	FAULT_TRUNCATE, /* after some bytes both streams end (FIN) */
	FAULT_RESET, /* after some bytes or some time both streams are reset */
	FAULT_SLOW, /* so many bytes a second, each way */
	FAULT_SEGMENT, /* pieces of so many bytes */
	FAULT_DAMAGE, /* after some bytes one is changed */
	FAULT_ERRNO, /* a ring operation answers an error */
	FAULT_LOST, /* … or never answers */
	FAULT_KIND_COUNT,
};
const char *fault_kind_name(enum fault_kind kind);

enum fault_op {
	FAULT_OP_RECV,
	FAULT_OP_SEND,
	FAULT_OP_SOCKET,
	FAULT_OP_CONNECT,
	FAULT_OP_ACCEPT,
	FAULT_OP_CANCEL,
	FAULT_OP_DISCONNECT,
	FAULT_OP_OPTION,
	FAULT_OP_NAME,
	FAULT_OP_UNSENT,
	FAULT_OP_COUNT,
};
const char *fault_op_name(enum fault_op op);

struct fault_range {
	uint64_t low, high; /* both included; drawn anew for each connection */
};

struct fault {
	enum fault_kind kind;
	struct fault_range amount; /* bytes, bytes per second, or ms, by the kind */
	struct fault_range duration; /* ms: delay's jitter, stall's length (0: for ever) */
	bool is_time; /* RESET: the amount is ms */
	enum fault_op op; /* ERRNO, LOST */
	int error; /* ERRNO: positive */
	uint32_t one_in; /* ERRNO, LOST: once in so many operations, on average */
	uint32_t permille; /* of the connections; 1000 = all */
	bool has_group;
	char group[FAULT_GROUP_BYTES]; /* … or those of this group */
	char text[FAULT_TEXT_BYTES]; /* as it was written */
};

struct faults {
	uint32_t count;
	struct fault items[FAULTS_MAX];
};

extern const char fault_usage_text[]; /* for --help */

/* An option_take: add a fault to struct faults. */
int fault_take(void *faults, const char *text, char *why);
/* Whether fault `index` hits connection number `number` of group `group`. */
bool fault_hits(const struct faults *faults, uint32_t index, uint64_t seed, uint64_t number,
	const char *group);
uint64_t fault_draw(const struct fault_range *range, struct random *random);
bool fault_is_link(const struct fault *fault); /* made by the relay */
bool faults_have_links(const struct faults *faults);

#endif
