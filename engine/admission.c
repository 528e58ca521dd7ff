/* Admission; what is taken when stands in admission.h, how it is counted in limits.h. */
#include "engine/admission.h"

#include "engine/check.h"
#include "engine/digest.h"
#include "engine/hub.h"
#include "engine/shard.h"
#include "engine/tsan.h"
#include "engine/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LAG_HARD 4u /* so many times the limit: not even a handshake is begun */
#define TWINS_MAX 64u /* closed for one newer connection */
#define SECOND_NS 1000000000ull

static struct conn_hold *conn_hold(const struct conn *conn)
{
	return &conn->shard->holds[conn->slot_index];
}

static struct limits *conn_limits(const struct conn *conn)
{
	return conn->shard->hub->limits;
}

/* ---- giving back ------------------------------------------------------------------------ */

void conn_handshake_over(struct conn *conn)
{
	struct conn_hold *hold = conn_hold(conn);

	if (!hold->has_handshake)
		return;
	hold->has_handshake = false;
	limits_give(conn_limits(conn), PH_LIMIT_HANDSHAKES);
}

static void conn_give_back(struct conn *conn)
{
	struct conn_hold *hold = conn_hold(conn);

	conn_handshake_over(conn);
	for (int kind = 0; kind < LIMIT_KEY_COUNT; kind++) {
		if (hold->cells[kind] == 0)
			continue;
		limits_give_key(conn_limits(conn), (enum limit_key)kind, hold->cells[kind] - 1);
		hold->cells[kind] = 0;
	}
	if (hold->has_connection)
		limits_give(conn_limits(conn), PH_LIMIT_CONNECTIONS);
	hold->has_connection = false;
}

void conn_release(struct conn *conn)
{
	struct conn_hold *hold = conn_hold(conn);
	uint32_t queued;

	if (conn_limits(conn) == NULL)
		return;
	conn_give_back(conn);
	if (limits_is_on(conn_limits(conn), PH_LIMIT_SEND_TOTAL)) {
		/* What the kernel took has gone back already; nobody adds any more. */
		queued = atomic_load_explicit(&conn_slot(conn)->queued_bytes, memory_order_relaxed);
		limits_give_bytes(conn_limits(conn), queued);
	}
	/* Pages of holds that nobody wrote stay untouched. */
	if (hold->rate_ns != 0)
		hold->rate_ns = 0;
	if (hold->slow_ns != 0)
		hold->slow_ns = 0;
	if (atomic_load_explicit(&hold->twin, memory_order_relaxed) != 0)
		atomic_store_explicit(&hold->twin, 0, memory_order_relaxed);
}

/* ---- refusing --------------------------------------------------------------------------- */

static void refusal_text(enum ph_limit limit, char *text, size_t bytes)
{
	if (limit == PH_LIMIT_DUPLICATE)
		snprintf(text, bytes, "the identity is connected already");
	else
		snprintf(text, bytes, "the limit %s is reached", ph_limit_name(limit));
}

/* What it holds goes back at once: it is not in, and others may be. */
static void conn_refuse_reset(struct conn *conn, enum ph_limit limit)
{
	char text[PH_TEXT_BYTES_MAX];

	conn_give_back(conn);
	limits_refused(conn_limits(conn), limit, conn->shard->now_ns, &conn->peer_address);
	refusal_text(limit, text, sizeof(text));
	conn_fail(conn, ph_limit_reason(limit), 0, text);
}

/* NOTICE and REFUSE: reason, words, and when to come again. */
static void conn_refuse_told(struct conn *conn, enum ph_limit limit)
{
	char text[PH_TEXT_BYTES_MAX];
	uint8_t message[WIRE_CONTROL_BYTES_MAX];
	struct wire_notice notice = {.code = ph_limit_reason(limit), .text = text};
	enum ph_refuse code = limit == PH_LIMIT_DUPLICATE ? PH_REFUSE_DUPLICATE : PH_REFUSE_BUSY;
	ssize_t bytes;

	conn_give_back(conn);
	limits_refused(conn_limits(conn), limit, conn->shard->now_ns, &conn->peer_address);
	refusal_text(limit, text, sizeof(text));
	notice.text_bytes = (uint32_t)strlen(text);
	notice.retry_after_ms = conn->shard->hub->options.retry_after_ms;
	SHARD_COUNT(conn->shard, refused_by_us);
	conn->refuse_code = (uint8_t)code;
	bytes = wire_notice_write(message, sizeof(message), &notice);
	assert(bytes > 0);
	if (conn_control(conn, message, (size_t)bytes) < 0)
		goto no_memory;
	bytes = wire_refuse_write(message, sizeof(message), (uint8_t)code);
	assert(bytes > 0);
	if (conn_control(conn, message, (size_t)bytes) < 0)
		goto no_memory;
	conn_leave(conn, ph_limit_reason(limit), PH_SIDE_ENGINE, true, text);
	return;

no_memory:
	conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, NULL);
}

/* ---- before TLS ------------------------------------------------------------------------- */

bool conn_awaits_name(const struct conn *conn)
{
	return conn->accepted && limits_is_gate(conn_limits(conn)) && conn->ops[OP_NAME] > 0;
}

static bool is_lagging(const struct conn *conn, uint64_t times)
{
	uint64_t most_ms = limits_value(conn_limits(conn), PH_LIMIT_LOOP_LAG);

	return most_ms < SECOND_NS && shard_lag_ns(conn->shard) > most_ms * 1000000u * times;
}

static bool take_key(struct conn *conn, enum limit_key kind, struct hash_key key)
{
	uint32_t cell;

	if (limits_take_key(conn_limits(conn), kind, key, &cell) < 0)
		return false;
	conn_hold(conn)->cells[kind] = cell + 1;
	return true;
}

bool conn_admit(struct conn *conn)
{
	struct limits *limits = conn_limits(conn);
	struct conn_hold *hold = conn_hold(conn);
	enum ph_limit refused = PH_LIMIT_COUNT;

	if (!limits_is_gate(limits))
		return true;
	if (is_lagging(conn, LAG_HARD))
		refused = PH_LIMIT_LOOP_LAG;
	else if (limits_is_on(limits, PH_LIMIT_SUBNET) &&
		!take_key(conn, LIMIT_KEY_SUBNET, limits_subnet(&conn->peer_address)))
		refused = PH_LIMIT_SUBNET;
	else if (limits_is_on(limits, PH_LIMIT_CONNECTIONS) &&
		!(hold->has_connection = limits_take(limits, PH_LIMIT_CONNECTIONS)))
		refused = PH_LIMIT_CONNECTIONS;
	else if (limits_is_on(limits, PH_LIMIT_HANDSHAKES) &&
		!(hold->has_handshake = limits_take(limits, PH_LIMIT_HANDSHAKES)))
		refused = PH_LIMIT_HANDSHAKES;
	else if (!limits_memory_fits(limits))
		refused = PH_LIMIT_MEMORY;
	else if (!limits_take_rate(limits, conn->shard->now_ns))
		refused = PH_LIMIT_ACCEPT_RATE;
	if (refused == PH_LIMIT_COUNT)
		return true;
	conn_refuse_reset(conn, refused);
	return false;
}

bool conn_waited_for_share(struct conn *conn)
{
	if (!conn->is_hello || limits_value(conn_limits(conn), PH_LIMIT_HANDSHAKE_SHARE) >= 100)
		return false;
	conn_refuse_reset(conn, PH_LIMIT_HANDSHAKE_SHARE);
	return true;
}

/* ---- behind TLS ------------------------------------------------------------------------- */

static struct hash_key twin_key(const struct conn *conn)
{
	const struct ph_verdict *verdict = &conn->setup->verdict;
	struct hash_key key = digest_pair(verdict->group, verdict->identity);

	key.word[1] ^= (uint64_t)conn->kind << 60;
	return key;
}

bool conn_admit_named(struct conn *conn)
{
	struct limits *limits = conn_limits(conn);
	const struct ph_verdict *verdict = &conn->setup->verdict;
	bool has_identity = verdict->identity[0] != '\0';
	enum ph_limit refused = PH_LIMIT_COUNT;

	if (limits == NULL || !conn->accepted)
		return true;
	if (is_lagging(conn, 1))
		refused = PH_LIMIT_LOOP_LAG;
	else if (limits_is_on(limits, PH_LIMIT_GROUP) &&
		!take_key(conn, LIMIT_KEY_GROUP, digest_pair(verdict->group, "")))
		refused = PH_LIMIT_GROUP;
	else if (has_identity && limits_is_on(limits, PH_LIMIT_IDENTITY) &&
		!take_key(conn, LIMIT_KEY_IDENTITY, digest_pair("", verdict->identity)))
		refused = PH_LIMIT_IDENTITY;
	else if (has_identity && conn->shard->hub->options.duplicates == PH_DUPLICATES_OLDEST &&
		!take_key(conn, LIMIT_KEY_TWIN, twin_key(conn)))
		refused = PH_LIMIT_DUPLICATE;
	if (refused == PH_LIMIT_COUNT)
		return true;
	if (conn->framing == PH_FRAMING_MESSAGE)
		conn_refuse_told(conn, refused);
	else
		conn_refuse_reset(conn, refused);
	return false;
}

/* ---- open ------------------------------------------------------------------------------- */

static uint64_t twin_of(uint64_t id)
{
	struct home *home = home_of(id);

	return atomic_load(&home->shard->holds[slot_id_slot(id)].twin);
}

static void twin_close(struct conn *conn, uint64_t id)
{
	struct home *home = home_of(id);
	struct slot *slot = &home->table.slots[slot_id_slot(id)];

	if (hub_close(home, slot_id_slot(id), slot_id_generation(id),
		    atomic_load_explicit(&slot->tag, memory_order_relaxed), PH_GRACEFUL,
		    PH_REASON_LIMIT_DUPLICATE, "a newer connection of the same identity") == 0)
		limits_refused(conn->shard->hub->limits, PH_LIMIT_DUPLICATE, conn->shard->now_ns,
			&conn->peer_address);
}

/*
 * Newest wins: each that is open draws a number and looks for others of the same identity and kind. It closes
 * those with a lower number, and itself where one has a higher.
 *
 * Drawing and storing are two steps, so who draws the lower number may store it last, and the other then has
 * found nobody to close. But each is in the hash and open, stores, and then looks, with a full fence between
 * the two. In the single order of the fences one of two comes last: that one finds the other and its number,
 * and whichever of them has the lower one is closed by it. So exactly the highest stays.
 *
 * A higher number is another's where the slot was given away meanwhile; a slot that is still open in the
 * generation that was found after its number was read has not been.
 */
static void conn_close_twins(struct conn *conn)
{
	struct ph_hub *hub = conn->shard->hub;
	uint64_t ids[TWINS_MAX], own, twin;
	uint32_t count;

	own = limits_next_number(hub->limits) * 4 + conn->kind;
	atomic_store(&conn_hold(conn)->twin, own);
	ph_fence_full();
	count = ph_find(hub, conn->names->text, conn->names->text + conn->names->identity_offset,
		ids, TWINS_MAX);
	for (uint32_t i = 0; i < count && i < TWINS_MAX; i++) {
		const struct slot *slot = &home_of(ids[i])->table.slots[slot_id_slot(ids[i])];

		twin = twin_of(ids[i]);
		if (ids[i] == conn_id(conn) || twin == 0 || twin % 4 != own % 4)
			continue;
		if (twin < own)
			twin_close(conn, ids[i]);
		else if (slot_is_open(slot, slot_id_generation(ids[i])))
			twin_close(conn, conn_id(conn));
	}
}

void conn_admitted(struct conn *conn)
{
	const struct ph_hub *hub = conn->shard->hub;

	if (hub->limits != NULL && conn->accepted && conn->hashed &&
		hub->options.duplicates == PH_DUPLICATES_NEWEST)
		conn_close_twins(conn);
}

/* One second's worth at once; then as they are allowed. */
bool conn_message_rate(struct conn *conn)
{
	uint64_t most = limits_value(conn_limits(conn), PH_LIMIT_MESSAGE_RATE);
	uint64_t now_ns = conn->shard->now_ns, next_ns;
	struct conn_hold *hold;

	if (most >= SECOND_NS)
		return true;
	hold = conn_hold(conn);
	next_ns = (hold->rate_ns > now_ns ? hold->rate_ns : now_ns) + SECOND_NS / most;
	if (next_ns - now_ns > SECOND_NS) {
		limits_refused(
			conn_limits(conn), PH_LIMIT_MESSAGE_RATE, now_ns, &conn->peer_address);
		return false;
	}
	hold->rate_ns = next_ns;
	return true;
}
