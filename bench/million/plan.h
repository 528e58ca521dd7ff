/*
 * What is to be run: filled in by main.c from its arguments, completed by plan.c, constant once the
 * processes are forked.
 */
#ifndef PEERHUB_MILLION_PLAN_H
#define PEERHUB_MILLION_PLAN_H

#include "peerhub.h"

#include <stdbool.h>
#include <stdint.h>

/* Of a shard's 20,000 table entries: room for uneven accept, for the engine's own, for the listener. */
#define PLAN_SHARD_CONNECTIONS 15625u
/* Of the 28,232 ports that a source address has, less than half: connect tries those of one parity first, and
 * when all are taken it tries all in vain before it comes to the others (2 ms and more for each connection). */
#define PLAN_SOURCE_CONNECTIONS 12000u
#define PLAN_SOURCES_MAX 250u
#define PLAN_RECEIVE_BYTES (1u << 20) /* provided buffers of a shard, where there are many */

struct plan {
	uint64_t connections; /* in all */
	uint32_t peers; /* processes that dial */
	uint32_t hub_shards, peer_shards; /* peer_shards: of each peer process */
	uint32_t threads; /* that close */
	uint32_t window; /* openings on their way at once, of all peers together */
	uint32_t close_window; /* closes on their way at once */
	uint32_t message_bytes;
	double settle_seconds; /* between the last message and a look at memory */
	enum ph_tls tls;
	bool hub_closes; /* else the peers do */
	bool raw; /* framing raw instead of message */
	bool fast_decode;
	uint32_t receive_buffer_count; /* of a shard; 0: by the number of shards */
	uint64_t checkpoints[16]; /* ascending, the last is connections */
	uint32_t checkpoint_count;
	const char *json; /* NULL: none */
	const char *command; /* for the report */
	bool force; /* run though the preflight says no */
};

#define PLAN_WHY_BYTES 256u
/* Complete and check. 0, or -EINVAL with a line in why. */
int plan_complete(struct plan *plan, char *why);
uint32_t plan_slots(const struct plan *plan, uint32_t shards, uint64_t connections);
uint64_t plan_share(const struct plan *plan, uint32_t peer); /* connections of one peer process */
uint64_t plan_first(const struct plan *plan, uint32_t peer); /* the number of its first */

#endif
