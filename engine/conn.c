/*
 * A connection's state and the way in for mail, completions and timers. The states and their moves
 * are drawn in conn.h; the verbs live in conn_open.c, conn_input.c, conn_output.c, conn_close.c.
 */
#include "engine/conn.h"

#include "engine/admission.h"
#include "engine/check.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/shard.h"
#include "engine/slow.h"
#include "engine/trace.h"
#include "engine/wire.h"

#include <errno.h>
#include <string.h>

#define DEAD_AGAIN_NS 50000000u
#define MOVE(state) (1u << (state))

/* From each state, where conn_enter may go. */
static const uint16_t conn_moves[CONN_STATE_COUNT] = {
	[CONN_FREE] = MOVE(CONN_CONNECTING) | MOVE(CONN_HANDSHAKE),
	[CONN_CONNECTING] = MOVE(CONN_HANDSHAKE) | MOVE(CONN_LEAVING) | MOVE(CONN_CLOSING),
	[CONN_HANDSHAKE] = MOVE(CONN_GREETING) | MOVE(CONN_LEAVING) | MOVE(CONN_CLOSING),
	[CONN_GREETING] =
		MOVE(CONN_OPEN) | MOVE(CONN_DRAINING) | MOVE(CONN_LEAVING) | MOVE(CONN_CLOSING),
	[CONN_OPEN] = MOVE(CONN_DRAINING) | MOVE(CONN_LEAVING) | MOVE(CONN_CLOSING),
	[CONN_DRAINING] = MOVE(CONN_CLOSING),
	[CONN_LEAVING] = MOVE(CONN_CLOSING),
	[CONN_CLOSING] = MOVE(CONN_FREE),
};

static const char *const conn_state_names[CONN_STATE_COUNT] = {
	[CONN_FREE] = "free",
	[CONN_CONNECTING] = "connecting",
	[CONN_HANDSHAKE] = "handshake",
	[CONN_GREETING] = "greeting",
	[CONN_OPEN] = "open",
	[CONN_DRAINING] = "draining",
	[CONN_LEAVING] = "leaving",
	[CONN_CLOSING] = "closing",
};

const char *conn_state_name(enum conn_state state)
{
	return (unsigned)state < CONN_STATE_COUNT ? conn_state_names[state] : "?";
}

struct slot *conn_slot(const struct conn *conn)
{
	return &conn->shard->slots[conn->slot_index];
}

struct conn_cold *conn_cold(const struct conn *conn)
{
	return &conn->shard->colds[conn->slot_index];
}

struct conn_end *conn_end(const struct conn *conn)
{
	return &conn->shard->ends[conn->slot_index];
}

uint64_t conn_id(const struct conn *conn)
{
	return slot_id(conn->shard->home->index, conn->slot_index, conn->generation);
}

/* What each state promises. */
static void conn_check(const struct conn *conn)
{
	switch ((enum conn_state)conn->state) {
	case CONN_FREE:
		for (int kind = 0; kind < OP_COUNTED; kind++)
			assert(conn->ops[kind] == 0);
		assert(!conn->hashed);
		assert(!timer_is_armed(&conn->timer));
		break;
	case CONN_CONNECTING:
		assert(conn->setup != NULL);
		assert(!conn->accepted);
		break;
	case CONN_OPEN:
		assert(conn->was_open);
		assert(conn->handshake_done);
		assert(conn->file != RING_FILE_NONE);
		break;
	case CONN_DRAINING:
	case CONN_LEAVING:
	case CONN_CLOSING:
		assert(conn->latched);
		assert(!conn->hashed);
		break;
	default:
		assert(conn->file != RING_FILE_NONE);
		break;
	}
}

void conn_enter(struct conn *conn, enum conn_state next)
{
	assert(conn->shard == shard_self());
	assert(conn_moves[conn->state] & MOVE(next));
	if (conn->state == CONN_HANDSHAKE)
		shard_hello_remove(conn->shard, conn);
	TRACE_CONN_STATE(conn_id(conn), conn->state, (uint8_t)next, conn->shard->index,
		conn_end(conn)->reason);
	conn->state = (uint8_t)next;
	conn_check(conn);
}

/* Everything but list membership, which outlives a generation, and setup, which ph_open left. */
void conn_init(struct conn *conn, struct shard *shard, uint32_t slot_index, uint32_t generation)
{
	struct conn_setup *setup = conn->setup;
	uint32_t next[LIST_COUNT];
	uint8_t lists = conn->lists;

	assert(conn->state == CONN_FREE);
	memcpy(next, conn->next, sizeof(next));
	memset(conn, 0, sizeof(*conn));
	memcpy(conn->next, next, sizeof(next));
	conn->lists = lists;
	conn->setup = setup;
	conn->shard = shard;
	conn->slot_index = slot_index;
	conn->generation = generation;
	conn->file = RING_FILE_NONE;
	conn->input_head = -1;
	conn->input_tail = -1;
	conn->time_begin_ns = shard->now_ns;
	atomic_store_explicit(&conn->time_active_ns, shard->now_ns, memory_order_relaxed);
}

bool conn_is_receiving(const struct conn *conn)
{
	return conn->state >= CONN_HANDSHAKE && conn->state <= CONN_LEAVING;
}

/* Of those without a name, shared and never written: role 0, the identity behind an empty group. */
static const uint32_t names_none[] = {0, 1, 0};
static_assert(offsetof(struct conn_names, text) == 2 * sizeof(uint32_t), "names_none has its form");

int conn_names_set(struct conn *conn, const char *group, const char *identity, uint32_t role)
{
	size_t group_bytes = strlen(group) + 1, identity_bytes = strlen(identity) + 1;
	struct conn_names *names;

	assert(conn->names == NULL);
	/* Plain raw streams, as a rule: nobody has a name. */
	if (group_bytes + identity_bytes == 2 && role == 0) {
		conn->names = (struct conn_names *)(uintptr_t)names_none;
		return 0;
	}
	names = memory_alloc(sizeof(*names) + group_bytes + identity_bytes);
	if (names == NULL)
		return -ENOMEM;
	names->role = role;
	names->identity_offset = (uint32_t)group_bytes;
	memcpy(names->text, group, group_bytes);
	memcpy(names->text + group_bytes, identity, identity_bytes);
	conn->names = names;
	return 0;
}

void conn_names_drop(struct conn *conn)
{
	if (conn->names != (const struct conn_names *)(const void *)names_none)
		memory_free(conn->names);
	conn->names = NULL;
}

/* ---- mail ------------------------------------------------------------------------------- */

/* `word` is the slot word as it was when MAILED was cleared. */
void conn_on_mail(struct conn *conn, uint64_t word)
{
	SHARD_COUNT(conn->shard, mail_handled);
	if (word & SLOT_DIAL)
		conn_dial(conn, word);
	switch ((enum conn_state)conn->state) {
	case CONN_FREE:
		return; /* never, as slot_free waits for mail under way: there is nothing to look at */
	case CONN_OPEN:
	case CONN_DRAINING:
	case CONN_LEAVING:
		slot_take_chunks(conn_slot(conn), &conn->out);
		conn_flush_later(conn);
		break;
	default:
		break;
	}
	if (word & SLOT_CLOSE)
		conn_local_close(conn, word);
	if (conn->state == CONN_OPEN) {
		uint32_t flags =
			atomic_load_explicit(&conn_slot(conn)->flags, memory_order_relaxed);

		if (!(flags & SLOT_PAUSED) && conn->blocked)
			conn_unblock(conn);
		conn_reading_update(conn);
		conn_slow_look(conn);
	}
	if (conn->state == CONN_CLOSING)
		conn_close_join(conn);
}

/* ---- completions ------------------------------------------------------------------------ */

/* The kernel answered for this generation. Decrement first: what follows may end the connection. */
void conn_on_completion(struct conn *conn, enum op_kind kind, const struct ring_completion *done)
{
	if (kind < OP_COUNTED && !(done->flags & RING_MORE)) {
		assert(conn->ops[kind] > 0);
		conn->ops[kind]--;
	}
	switch (kind) {
	case OP_RECV:
		conn_on_recv(conn, done);
		break;
	case OP_SEND:
		conn_on_sent(conn, done->result);
		break;
	case OP_SOCKET:
		conn_on_socket(conn, done->result);
		break;
	case OP_CONNECT:
		conn_on_connected(conn, done->result);
		break;
	case OP_SHUTDOWN:
		/* The peer's end, or the deadline, comes by itself; where it has come, the close waits for this. */
		if (conn->state == CONN_CLOSING)
			shard_list_add(conn->shard, LIST_CLOSE, conn);
		break;
	case OP_NAME:
		if (done->result < 0 && conn->peer_name != NULL)
			conn->peer_name->ss_family = AF_UNSPEC; /* not answered */
		conn_on_name(conn);
		break;
	case OP_UNSENT:
		if (done->result >= 0) {
			uint64_t sent =
				atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed);
			uint64_t left = (uint64_t)done->result;

			/* Cipher text on the way is never less than its plain text. */
			conn_end(conn)->bytes_acknowledged = left < sent ? sent - left : 0;
			conn->unacknowledged_known = true;
		}
		break;
	case OP_DISCONNECT:
		/* Refused (a kTLS socket, an older kernel): end what is armed one by one. */
		for (int op = 0; op < OP_COUNTED && conn->state == CONN_CLOSING; op++) {
			if (conn->ops[op] > 0)
				(void)ring_cancel(conn->shard->ring,
					op_data((enum op_kind)op, conn->slot_index,
						conn->generation),
					op_data(OP_CANCEL, conn->slot_index, conn->generation));
		}
		break;
	default:
		break;
	}
	if (conn->state == CONN_CLOSING)
		conn_close_join(conn);
}

/* ---- timers ----------------------------------------------------------------------------- */

static void conn_on_ping_timer(struct conn *conn)
{
	struct shard *shard = conn->shard;
	const struct ph_options *options = &shard->hub->options;
	uint64_t interval_ns = (uint64_t)options->ping_interval_ms * 1000000u;
	uint64_t dead_ns = (uint64_t)options->timeout_dead_ms * 1000000u;
	uint64_t active = atomic_load_explicit(&conn->time_active_ns, memory_order_relaxed);

	if (!conn_slow_deadline(conn))
		return;
	if (conn->framing == PH_FRAMING_RAW) {
		uint64_t wait_ns = conn_slow_wait_ns(conn, UINT64_MAX);

		if (wait_ns != UINT64_MAX)
			timer_arm(&shard->timers, &conn->timer, shard->now_ns + wait_ns);
		return;
	}
	conn_resume_drop(conn); /* it would have come behind WELCOME */
	/* Who does not read cannot hear: silence counts while receive is armed, from when it was. */
	if (active < conn->time_armed_ns)
		active = conn->time_armed_ns;
	if (conn->ops[OP_RECV] > 0 && !conn->recv_cancelled && shard->now_ns - active >= dead_ns) {
		if (shard->heard_ns < active + dead_ns) {
			/* We were slow ourselves: what it said may still wait in the kernel. */
			timer_arm(&shard->timers, &conn->timer, shard->now_ns + DEAD_AGAIN_NS);
			return;
		}
		conn_fail(conn, PH_REASON_TRANSPORT_DEAD, -ETIMEDOUT, "nothing was received");
		return;
	}
	if (shard->now_ns - conn->time_sent_ns >= interval_ns && conn->out.bytes == 0 &&
		conn->ops[OP_SEND] == 0) {
		uint8_t ping[WIRE_PT2PT_BYTES];

		wire_pt2pt_head_write(ping, wire_ping_type, 0);
		if (conn_control(conn, ping, sizeof(ping)) == 0)
			SHARD_COUNT(shard, pings_sent);
	}
	timer_arm(
		&shard->timers, &conn->timer, shard->now_ns + conn_slow_wait_ns(conn, interval_ns));
}

void conn_on_timer(struct conn *conn)
{
	switch ((enum conn_state)conn->state) {
	case CONN_CONNECTING:
		conn_fail(conn, PH_REASON_TRANSPORT_CONNECT_TIMEOUT, -ETIMEDOUT,
			"no answer to the TCP connection");
		break;
	case CONN_HANDSHAKE:
		SHARD_COUNT(conn->shard, handshakes_timed_out);
		if (conn_waited_for_share(conn))
			break;
		conn_fail(conn, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT, -ETIMEDOUT,
			"the TLS handshake took too long");
		break;
	case CONN_GREETING:
		if (conn->accepted) {
			SHARD_COUNT(conn->shard, handshakes_timed_out);
			conn_fail(conn, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT, -ETIMEDOUT,
				"no CONNECT in time");
		} else {
			conn_fail(conn, PH_REASON_TRANSPORT_WELCOME_TIMEOUT, -ETIMEDOUT,
				"no WELCOME in time");
		}
		break;
	case CONN_OPEN:
		conn_on_ping_timer(conn);
		break;
	case CONN_DRAINING:
	case CONN_LEAVING:
	case CONN_CLOSING:
		conn_deadline(conn);
		break;
	default:
		break;
	}
}
