/*
 * The reference model: what was asked of every connection, what came back, what its callbacks said, and
 * the rules between them (model.c lists them). It knows the table of docs/close.md and nothing of how
 * the engine works.
 */
#ifndef PEERHUB_TESTS_SIM_MODEL_H
#define PEERHUB_TESTS_SIM_MODEL_H

#include "peerhub.h"
#include "tests/sim/sim.h"

#define RECORDS_MAX 2048u
#define MODEL_NAMES 4u /* identities; as many credentials */
#define MODEL_GROUPS 2u
#define MODEL_HEAD_BYTES 24u

struct app_hub;

/* One connection of one side. */
struct record {
	uint32_t number;
	uint64_t id, tag;
	struct app_hub *hub;
	bool has_id, dialled;
	enum ph_framing framing;
	enum ph_tls tls;
	uint32_t source, target, group; /* dialled: names by number */
	struct record *peer;
	uint32_t opened, closed;
	char seen_group[PH_NAME_BYTES_MAX], seen_identity[PH_NAME_BYTES_MAX]; /* by on_open */
	enum ph_kind seen_kind;
	bool dead; /* a close has returned 0: no send may be accepted any more */
	bool dead_unopened; /* and the slot was not OPEN then: it can never become so */
	bool no_more_data; /* closed inside a callback of its own shard */
	uint32_t wins, upgrades; /* closes of ours that returned 0, -EALREADY */
	enum ph_how how; /* of the close that won */
	uint32_t reason;
	char text[PH_TEXT_BYTES_MAX + 1];
	bool verify_refused, connect_refused;
	bool reset_was_refused; /* its peer aborted, the kernel refused the reset: a FIN came instead */
	uint32_t sent[FIBERS_MAX + 1],
		got[FIBERS_MAX + 1]; /* by sending fiber: accepted, delivered */
	uint64_t sent_bytes, sent_messages, got_messages;
	uint8_t *stream; /* raw: a message of ours not yet complete */
	size_t stream_bytes, stream_capacity;
	struct ph_receipt receipt;
	uint64_t socket_arrived; /* plain bytes that had reached the peer's kernel at the end */
};

extern struct record model_records[RECORDS_MAX];
extern uint32_t model_count;

struct record *model_new(struct app_hub *hub, bool dialled);
void model_id(struct record *record, uint64_t id); /* it is this one's from now on */
struct record *model_find(uint64_t id); /* NULL */

size_t model_message(
	struct record *record, uint8_t *out, size_t bytes); /* the next of this fiber */
void model_accepted(struct record *record, int status, size_t bytes, bool was_dead);
void model_delivered(struct record *record, const uint8_t *type, const uint8_t *data, size_t bytes);
void model_on_open(struct record *record, const struct ph_open_info *info);
void model_on_closed(struct record *record, const struct ph_receipt *receipt);
void model_end(void); /* all is over: the rules between both ends */
const uint8_t *model_type(void);

#endif
