/* Slow consumers; see slow.h. */
#include "engine/slow.h"

#include "engine/admission.h"
#include "engine/check.h"
#include "engine/hub.h"
#include "engine/shard.h"

#include <stdio.h>

bool slow_is_watched(const struct ph_hub *hub)
{
	return hub->options.slow != PH_SLOW_BLOCK || hub->callbacks.on_slow != NULL;
}

bool slow_drops(const struct ph_hub *hub)
{
	return hub->options.slow == PH_SLOW_DROP;
}

bool slow_mark(struct slot *slot)
{
	return !(atomic_fetch_or(&slot->flags, SLOT_SLOW) & SLOT_SLOW);
}

static uint64_t slow_ns(const struct conn *conn)
{
	return (uint64_t)conn->shard->hub->options.slow_ms * 1000000u;
}

static struct conn_hold *conn_hold(const struct conn *conn)
{
	return &conn->shard->holds[conn->slot_index];
}

/* From the first message on that nobody has begun to send: whole ones, and none of our own. */
static void conn_drop_oldest(struct conn *conn)
{
	struct slot *slot = conn_slot(conn);
	uint32_t budget = conn->shard->home->send_queue_bytes;
	struct chain kept = {0};
	struct chunk *chunk;
	size_t dropped = 0;
	uint32_t queued = atomic_load(&slot->queued_bytes);

	while (queued - dropped > budget && (chunk = chain_pop(&conn->out)) != NULL) {
		/* The newest stays: it is what the others make room for. */
		if (chunk->offset > 0 || chunk->weight == 0 || conn->out.head == NULL) {
			chain_push(&kept, chunk);
			continue;
		}
		dropped += chunk->weight;
		SHARD_COUNT(conn->shard, messages_dropped);
		chunk_destroy(chunk);
	}
	chain_move(&kept, &conn->out);
	conn->out = kept;
	conn_budget_give_back(conn, dropped);
}

static bool is_half_empty(const struct conn *conn)
{
	return atomic_load(&conn_slot(conn)->queued_bytes) <=
		conn->shard->home->send_queue_bytes / 2;
}

static void conn_warn(struct conn *conn)
{
	const struct ph_hub *hub = conn->shard->hub;

	conn_hold(conn)->slow_ns = conn->shard->now_ns;
	SHARD_COUNT(conn->shard, slow_consumers);
	limits_refused(hub->limits, PH_LIMIT_SEND_QUEUE, conn->shard->now_ns, &conn->peer_address);
	/* Its only timer: pings and the silence of the peer are looked at no later for it. */
	if (hub->options.slow == PH_SLOW_CLOSE)
		timer_arm_by(
			&conn->shard->timers, &conn->timer, conn->shard->now_ns + slow_ns(conn));
	if (hub->callbacks.on_slow != NULL)
		hub->callbacks.on_slow(hub->options.user, conn_id(conn), conn->user,
			atomic_load(&conn_slot(conn)->queued_bytes));
}

void conn_slow_look(struct conn *conn)
{
	assert(conn->state == CONN_OPEN);
	if (!(atomic_load(&conn_slot(conn)->flags) & SLOT_SLOW))
		return;
	if (is_half_empty(conn)) {
		conn_slow_over(conn); /* it was when the mark came */
		return;
	}
	if (conn_hold(conn)->slow_ns == 0)
		conn_warn(conn);
	if (slow_drops(conn->shard->hub) && conn->framing == PH_FRAMING_MESSAGE)
		conn_drop_oldest(conn);
}

void conn_slow_over(struct conn *conn)
{
	if (!(atomic_load(&conn_slot(conn)->flags) & SLOT_SLOW))
		return;
	atomic_fetch_and(&conn_slot(conn)->flags, ~SLOT_SLOW);
	conn_hold(conn)->slow_ns = 0;
}

/* A stream that is broken has an end of its own, which receive tells. */
static bool conn_has_slow_deadline(const struct conn *conn)
{
	return conn_hold(conn)->slow_ns != 0 && !conn->send_broken &&
		conn->shard->hub->options.slow == PH_SLOW_CLOSE;
}

/* Since when it has been full and the kernel has taken nothing of it. */
static uint64_t slow_since_ns(const struct conn *conn)
{
	uint64_t full_ns = conn_hold(conn)->slow_ns;

	return conn->time_sent_ns > full_ns ? conn->time_sent_ns : full_ns;
}

bool conn_slow_deadline(struct conn *conn)
{
	char text[PH_TEXT_BYTES_MAX];

	if (!conn_has_slow_deadline(conn))
		return true;
	/* Not by what was given back, which ends it at once: send_queue has been raised since. */
	if (is_half_empty(conn)) {
		conn_slow_over(conn);
		return true;
	}
	if (conn->shard->now_ns - slow_since_ns(conn) < slow_ns(conn))
		return true;
	snprintf(text, sizeof(text), "nothing of its full send queue was taken for %u ms",
		conn->shard->hub->options.slow_ms);
	conn_fail(conn, PH_REASON_LIMIT_SLOW, 0, text);
	return false;
}

uint64_t conn_slow_wait_ns(const struct conn *conn, uint64_t wait_ns)
{
	uint64_t until_ns, left_ns;

	if (!conn_has_slow_deadline(conn))
		return wait_ns;
	until_ns = slow_since_ns(conn) + slow_ns(conn);
	left_ns = until_ns > conn->shard->now_ns ? until_ns - conn->shard->now_ns : 0;
	return left_ns < wait_ns ? left_ns : wait_ns;
}
