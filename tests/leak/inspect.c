/* Looks inside the shards of a hub at rest; see inspect.h. */
#include "tests/leak/inspect.h"

#include "tests/leak/count.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

struct inspection {
	struct command command; /* first: the command is the inspection */
	sem_t done;
	char text[INSPECT_TEXT_BYTES]; /* "" = at rest */
};

#define FAULT(inspection, ...) snprintf((inspection)->text, sizeof((inspection)->text), __VA_ARGS__)

static const char *conn_holds(const struct conn *conn)
{
	if (conn->state != CONN_FREE)
		return conn_state_name((enum conn_state)conn->state);
	for (int kind = 0; kind < OP_COUNTED; kind++)
		if (conn->ops[kind] != 0)
			return "operations in flight";
	if (conn->tls != NULL)
		return "a TLS object";
	if (conn->setup != NULL)
		return "its setup";
	if (conn->names != NULL)
		return "its names";
	if (conn->peer_name != NULL)
		return "room for the peer's name";
	if (conn->block != NULL)
		return "a send block";
	if (conn->carry != NULL || conn->spill.head != NULL)
		return "input";
	if (conn->input_count != 0)
		return "provided buffers";
	if (conn->out.head != NULL || conn->wire.head != NULL)
		return "output";
	if (conn->hashed)
		return "a place in the hash";
	if (timer_is_armed(&conn->timer))
		return "an armed timer";
	return NULL;
}

static void inspect_conns(struct shard *shard, struct inspection *inspection)
{
	for (uint32_t index = 0; index < shard->slot_count; index++) {
		const struct conn *conn = &shard->conns[index];
		uint64_t word = atomic_load(&shard->slots[index].word);
		const char *holds;

		if (slot_word_state(word) != SLOT_FREE || slot_word_senders(word) != 0 ||
			(word & SLOT_MAILED)) {
			FAULT(inspection, "shard %u slot %u: word %" PRIx64, shard->index, index,
				word);
			return;
		}
		if (conn->shard == NULL)
			continue; /* never used */
		holds = conn_holds(conn);
		if (holds != NULL) {
			FAULT(inspection, "shard %u slot %u holds %s", shard->index, index, holds);
			return;
		}
	}
}

static void inspect_shard(struct shard *shard, struct inspection *inspection)
{
	static const char *const lists[LIST_COUNT] = {
		"work", "handshake", "flush", "close", "starved", "blocked"};

	if (atomic_load(&shard->live) != 0 || atomic_load(&shard->open) != 0)
		FAULT(inspection, "shard %u: %" PRIu64 " live, %" PRIu64 " open", shard->index,
			atomic_load(&shard->live), atomic_load(&shard->open));
	else if (slot_free_count(&shard->home->table) != shard->slots_usable)
		FAULT(inspection, "shard %u: %u free slots of %u", shard->index,
			slot_free_count(&shard->home->table), shard->slots_usable);
	else if (ring_buffers_out(shard->ring) != 0)
		FAULT(inspection, "shard %u: %u provided buffers out", shard->index,
			ring_buffers_out(shard->ring));
	else if (hash_count(shard->hash) != 0)
		FAULT(inspection, "shard %u: %u pairs in the hash", shard->index,
			hash_count(shard->hash));
	else if (shard->handshakes != 0)
		FAULT(inspection, "shard %u: %u handshakes", shard->index, shard->handshakes);
	else if (shard->jobs != NULL)
		FAULT(inspection, "shard %u: a spread close", shard->index);
	else if (shard->refused_count != 0)
		FAULT(inspection, "shard %u: %u refused files", shard->index, shard->refused_count);
	else if (mailbox_has_mail(&shard->home->mailbox))
		FAULT(inspection, "shard %u: mail", shard->index);
	else if (shard->blocks_count > SHARD_SEND_BLOCKS_KEPT)
		FAULT(inspection, "shard %u: %u send blocks", shard->index, shard->blocks_count);
	for (int kind = 0; kind < LIST_COUNT && inspection->text[0] == '\0'; kind++)
		if (shard->lists[kind].count != 0)
			FAULT(inspection, "shard %u: %u on the list %s", shard->index,
				shard->lists[kind].count, lists[kind]);
	if (inspection->text[0] == '\0')
		inspect_conns(shard, inspection);
	/* Last: an armed timer of a connection is named above. */
	if (inspection->text[0] == '\0' && timer_next_ns(&shard->timers) != UINT64_MAX)
		FAULT(inspection, "shard %u: an armed timer", shard->index);
}

static void inspect_run(struct shard *shard, struct command *command)
{
	struct inspection *inspection = (struct inspection *)(void *)command;

	inspect_shard(shard, inspection);
	sem_post(&inspection->done);
}

int inspect_once(struct ph_hub *hub, char text[INSPECT_TEXT_BYTES])
{
	text[0] = '\0';
	for (uint32_t i = 0; i < hub->shard_count && text[0] == '\0'; i++) {
		struct inspection inspection = {.command = {.run = inspect_run}};

		if (sem_init(&inspection.done, 0, 0) < 0)
			return -errno;
		shard_post(hub->shards[i]->home, &inspection.command);
		while (sem_wait(&inspection.done) < 0)
			;
		sem_destroy(&inspection.done);
		snprintf(text, INSPECT_TEXT_BYTES, "%s", inspection.text);
	}
	if (text[0] == '\0' && atomic_load(&hub->reassembly_bytes) != 0)
		snprintf(text, INSPECT_TEXT_BYTES, "%" PRIu64 " bytes of partial messages",
			atomic_load(&hub->reassembly_bytes));
	return text[0] == '\0' ? 0 : -EBUSY;
}

int inspect_wait(struct ph_hub *hub, unsigned timeout_ms, char text[INSPECT_TEXT_BYTES])
{
	uint64_t until_ns = count_now_ns() + (uint64_t)timeout_ms * 1000000u;
	const struct timespec pause = {.tv_nsec = 5000000};
	int status;

	for (;;) {
		status = inspect_once(hub, text);
		if (status != -EBUSY || count_now_ns() >= until_ns)
			return status;
		nanosleep(&pause, NULL);
	}
}
