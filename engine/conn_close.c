/*
 * The ends of a connection. Teardown is always: refuse new work (conn_close_begin), wait for what is
 * in flight (conn_close_join), give back once (conn_close_finish).
 *
 * What always holds
 *   - The cause is latched once. A local ph_close and the owner's own ending meet on the slot word: if
 *     the owner's CAS to ENDING fails, the local close came first and the cause is his.
 *   - on_closed is called at one place, conn_close_finish, after slot_free succeeded: operations in flight
 *     are zero, nobody is inside, no mail is under way. Nothing follows it for that id.
 *   - A close allocates nothing: the list link is part of the conn, the operations come out of the
 *     ring's reserve, and when even that is used up the conn stays on LIST_CLOSE for the next turn.
 *   - The reason and text that ph_close brought are read at senders = 0 only (slot.h, 4).
 */
#include "engine/conn.h"

#include "engine/admission.h"
#include "engine/check.h"
#include "engine/digest.h"
#include "engine/history.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/shard.h"
#include "engine/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STRANGER_LINGER_MS 1000u
#define CLOSING_WATCHDOG_NS 1000000000u /* should never fire: cancels again, counts */

static enum ph_side reason_side(uint32_t reason)
{
	assert(reason >= 3000); /* an application's own comes with ph_close alone */
	if (reason < 4000)
		return PH_SIDE_LOCAL;
	return reason < 5000 ? PH_SIDE_REMOTE : PH_SIDE_ENGINE;
}

/* Contract of the p2p layer: what an opening that failed is called. */
static enum ph_failure failure_of(const struct conn *conn, uint32_t reason, enum ph_side side)
{
	if (reason == PH_REASON_REMOTE_REFUSED)
		return PH_FAILURE_REFUSED;
	if (side == PH_SIDE_LOCAL || conn->state == CONN_CONNECTING ||
		reason == PH_REASON_TRANSPORT_WELCOME_TIMEOUT)
		return PH_FAILURE_CONNECT;
	return PH_FAILURE_AUTHENTICATION;
}

static void conn_latch(struct conn *conn, uint32_t reason, enum ph_side side, enum ph_how how,
	int error, const char *text)
{
	assert(!conn->latched);
	conn->latched = true;
	conn_end(conn)->reason = reason;
	conn->side = (uint8_t)side;
	conn->how = (uint8_t)how;
	conn_end(conn)->error = error;
	conn_end(conn)->time_close_ns = conn->shard->now_ns;
	if (!conn->was_open)
		conn->failure = (uint8_t)failure_of(conn, reason, side);
	if (text != NULL && text[0] != '\0')
		snprintf(conn_cold(conn)->text, sizeof(conn_cold(conn)->text), "%s", text);
}

/* A ph_close decided it. Its reason, if it brought one, is still being written: conn_local_reason. */
static void conn_latch_local(struct conn *conn, uint64_t word)
{
	enum ph_how how = (word & SLOT_ABORT) ? PH_ABORT : PH_GRACEFUL;
	bool graceful = how == PH_GRACEFUL || (word & SLOT_UPGRADED_BIT);

	if (conn->latched)
		return;
	conn_latch(conn, graceful ? PH_REASON_LOCAL_CLOSE : PH_REASON_LOCAL_ABORT, PH_SIDE_LOCAL,
		how, 0, NULL);
	conn->local_cause = true;
	SHARD_COUNT(conn->shard, closes_local);
	if (how == PH_ABORT)
		SHARD_COUNT(conn->shard, aborts_local);
}

/* At senders = 0: take over the reason and the text of the ph_close that won. */
static void conn_local_reason(struct conn *conn)
{
	struct conn_cold *cold = conn_cold(conn);

	if (!conn->local_cause || !cold->close_reason_given)
		return;
	conn_end(conn)->reason = cold->close_reason;
	memcpy(cold->text, cold->close_text, sizeof(cold->text));
}

/* The owner ends it for this cause, unless a local close was first. */
static void conn_claim(struct conn *conn, uint32_t reason, enum ph_side side, enum ph_how how,
	int error, const char *text)
{
	struct slot *slot = conn_slot(conn);

	if (conn->latched)
		return;
	if (slot_end(slot))
		conn_latch(conn, reason, side, how, error, text);
	else
		conn_latch_local(conn, atomic_load_explicit(&slot->word, memory_order_acquire));
}

/* Made anew from the names: cheaper than sixteen bytes of every connection. */
static struct hash_key conn_key(const struct conn *conn)
{
	const struct conn_names *names = conn->names;

	return digest_pair(names->text, names->text + names->identity_offset);
}

/* No lookup finds it any more. */
static void conn_withdraw(struct conn *conn)
{
	if (!conn->hashed)
		return;
	hash_remove(conn->shard->hash, conn_key(conn), conn->slot_index, conn_id(conn));
	conn->hashed = false;
}

static void conn_deadline_arm(struct conn *conn)
{
	struct shard *shard = conn->shard;
	uint64_t timeout_ms = shard->hub->options.timeout_close_ms;

	/* A stranger that was turned away gets time to read why, not time to hold our memory. */
	if (!conn->was_open && conn->accepted && timeout_ms > STRANGER_LINGER_MS)
		timeout_ms = STRANGER_LINGER_MS;
	timer_arm(&shard->timers, &conn->timer, shard->now_ns + timeout_ms * 1000000u);
}

/* ---- the owner's own endings ------------------------------------------------------------ */

void conn_fail(struct conn *conn, uint32_t reason, int error, const char *text)
{
	if (conn->state == CONN_CLOSING || conn->state == CONN_FREE)
		return;
	conn_claim(conn, reason, reason_side(reason), PH_ABORT, error, text);
	if (reason >= 6000 && reason < 7000)
		SHARD_COUNT(conn->shard, protocol_errors);
	else if (reason >= 7000)
		SHARD_COUNT(conn->shard, transport_errors);
	conn->how = PH_ABORT;
	if (conn_end(conn)->error == 0)
		conn_end(conn)->error = error;
	conn_close_begin(conn, true);
}

void conn_leave(
	struct conn *conn, uint32_t reason, enum ph_side side, bool linger, const char *text)
{
	if (conn->state >= CONN_DRAINING || conn->state == CONN_FREE)
		return;
	conn_claim(conn, reason, side, PH_GRACEFUL, 0, text);
	if (reason >= 6000 && reason < 7000)
		SHARD_COUNT(conn->shard, protocol_errors);
	if (side == PH_SIDE_REMOTE)
		SHARD_COUNT(conn->shard, closes_remote);
	/* An abort that won the word meanwhile wants a reset. */
	if (conn->local_cause && conn->how == PH_ABORT) {
		conn_close_begin(conn, true);
		return;
	}
	/* A peer of the message protocol that has said goodbye reads no more. A raw one that closed its
	 * side is still owed what was accepted. */
	if (conn->framing == PH_FRAMING_MESSAGE && conn->was_open && side == PH_SIDE_REMOTE)
		chain_clear(&conn->out);
	conn_withdraw(conn);
	conn->linger = linger;
	conn->blocked = false;
	conn_enter(conn, CONN_LEAVING);
	conn_deadline_arm(conn);
	conn_reading_update(conn);
	shard_list_add(conn->shard, LIST_WORK, conn);
	conn_flush_later(conn);
}

/* ---- ph_close arrives ------------------------------------------------------------------- */

void conn_local_close(struct conn *conn, uint64_t word)
{
	bool abort = (word & SLOT_ABORT) != 0;

	switch ((enum conn_state)conn->state) {
	case CONN_CONNECTING:
	case CONN_HANDSHAKE:
		conn_latch_local(conn, word);
		conn->how = PH_ABORT;
		conn_close_begin(conn, true);
		return;
	case CONN_GREETING:
		/* Only an opener that has sent CONNECT can say goodbye; its peer may be open already. */
		if (abort || conn->accepted)
			break;
		conn_drain(conn);
		return;
	case CONN_OPEN:
		if (abort)
			break;
		conn_drain(conn);
		return;
	case CONN_DRAINING:
	case CONN_LEAVING:
		if (!abort)
			return; /* already on its way; conn_on_mail looks at the goodbye again */
		break;
	default:
		return; /* FREE, CLOSING */
	}
	conn_latch_local(conn, word);
	conn->how = PH_ABORT;
	conn_close_begin(conn, true);
}

void conn_drain(struct conn *conn)
{
	conn_latch_local(conn, atomic_load_explicit(&conn_slot(conn)->word, memory_order_acquire));
	conn_withdraw(conn);
	/* What was received and not yet taken is discarded with the rest of the input. */
	conn->blocked = false;
	if (conn->framing == PH_FRAMING_RAW)
		conn_carry_drop(conn);
	conn_enter(conn, CONN_DRAINING);
	conn_deadline_arm(conn);
	conn_reading_update(conn);
	shard_list_add(conn->shard, LIST_WORK, conn);
	conn_flush_later(conn);
}

/* Both sides have ended, or the stream is broken. */
static void drain_end(struct conn *conn, bool answered)
{
	if (conn->receive_error < 0) {
		conn_end(conn)->error = conn->receive_error;
		conn->how = PH_ABORT;
		conn_close_begin(conn, true);
		return;
	}
	if (!conn->goodbye_done)
		return;
	if (answered) {
		conn_end(conn)->bytes_acknowledged =
			atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed);
		conn->unacknowledged_known = true;
	}
	conn_close_begin(conn, false);
}

/* Our last bytes are with the kernel. */
void conn_on_goodbye_done(struct conn *conn)
{
	if (!conn->goodbye_done) {
		conn->goodbye_done = true;
		conn_end(conn)->time_goodbye_ns = conn->shard->now_ns;
	}
	if (conn->state == CONN_LEAVING) {
		/* Nothing is read or written any more; the rest of the stay costs no TLS object. */
		conn_input_discard(conn);
		tls_destroy(conn->tls);
		conn->tls = NULL;
		if (!conn->linger || conn->eof)
			conn_close_begin(conn, false);
		return;
	}
	assert(conn->state == CONN_DRAINING);
	if (conn->eof || conn->peer_goodbye) {
		drain_end(conn, false);
		return;
	}
	if (conn->framing == PH_FRAMING_RAW && !conn->secure && conn->ops[OP_SHUTDOWN] == 0 &&
		conn->close_stage == 0) {
		/* Without TLS there is no goodbye but the end of our side of the stream. */
		if (!ring_shutdown(conn->shard->ring, conn->file,
			    op_data(OP_SHUTDOWN, conn->slot_index, conn->generation))) {
			conn_flush_later(conn);
			return;
		}
		conn->ops[OP_SHUTDOWN]++;
		conn->close_stage = 1;
	}
}

/* The peer's side has ended while ours was ending. */
void conn_on_peer_end(struct conn *conn)
{
	const struct ph_hub *hub = conn->shard->hub;

	if (conn->state == CONN_LEAVING) {
		if (conn->receive_error < 0)
			conn_close_begin(conn, true);
		else if (conn->goodbye_done)
			conn_close_begin(conn, false);
		return;
	}
	if (conn->state != CONN_DRAINING)
		return;
	/* A FIN seen behind our goodbye may answer it, and then all before that has arrived; or it has crossed
	 * ours on the way. So the kernel is asked; the FIN is taken for the answer only where it cannot be, and
	 * never on a raw stream without TLS, which has no goodbye. */
	drain_end(conn,
		!(hub->features.direct && hub->features.socket_cmd) && conn->eof &&
			(conn->framing == PH_FRAMING_MESSAGE || conn->secure));
}

void conn_deadline(struct conn *conn)
{
	struct shard *shard = conn->shard;

	if (conn->state == CONN_CLOSING) {
		timer_arm(&shard->timers, &conn->timer, shard->now_ns + CLOSING_WATCHDOG_NS);
		if (!conn->close_queued)
			return; /* among very many: its turn has not come */
		/* An operation did not end: ask again. A test that sees this counter fails. */
		SHARD_COUNT(shard, close_resubmits);
		for (int kind = 0; kind < OP_COUNTED; kind++) {
			if (conn->ops[kind] > 0)
				(void)ring_cancel(shard->ring,
					op_data((enum op_kind)kind, conn->slot_index,
						conn->generation),
					op_data(OP_CANCEL, conn->slot_index, conn->generation));
		}
		return;
	}
	SHARD_COUNT(shard, closes_deadline);
	if (conn->state == CONN_DRAINING || !conn->goodbye_done)
		conn->how = PH_ABORT;
	conn_close_begin(conn, true);
}

/* ---- teardown: begin, join, finish ------------------------------------------------------- */

void conn_close_begin(struct conn *conn, bool reset)
{
	struct shard *shard = conn->shard;

	if (conn->state == CONN_CLOSING)
		return;
	assert(conn->latched);
	conn_withdraw(conn);
	if (conn->counted_handshake) {
		/* Until here it counts: the bound on strangers covers those being turned away. */
		conn->counted_handshake = false;
		shard->handshakes--;
		conn_handshake_over(conn);
		shard_accept_update(shard);
	}
	conn->reset = reset;
	conn->close_stage = 0;
	conn_enter(conn, CONN_CLOSING);
	conn_input_clear(conn);
	timer_arm(&shard->timers, &conn->timer, shard->now_ns + CLOSING_WATCHDOG_NS);
	shard_list_add(shard, LIST_CLOSE, conn);
}

/*
 * The last operations, unlinked and in this order in one batch: reset: [how much was not acknowledged],
 * disconnect (ends what is armed), close. Quiet: cancel what is armed by its own user_data, close.
 * When the ring has no entry left the stage remembers where to go on next turn.
 */
void conn_close_queue(struct conn *conn)
{
	struct shard *shard = conn->shard;
	uint64_t silent = op_data(OP_CANCEL, conn->slot_index, conn->generation);
	enum {
		STAGE_UNSENT,
		STAGE_RECV,
		STAGE_SEND,
		STAGE_CLOSE
	};

	if (conn->state != CONN_CLOSING || conn->close_queued)
		return;
	if (conn->file == RING_FILE_NONE) {
		if (conn->ops[OP_SOCKET] == 0)
			conn->close_queued = true; /* there never was a socket */
		conn_close_join(conn);
		return; /* else its completion brings us here again */
	}
	if (conn->close_stage == STAGE_UNSENT) {
		if (!conn->unacknowledged_known && shard->hub->features.socket_cmd &&
			shard->hub->features.direct &&
			atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed) > 0) {
			if (!ring_unsent(shard->ring, conn->file,
				    op_data(OP_UNSENT, conn->slot_index, conn->generation)))
				goto again;
			conn->ops[OP_UNSENT]++;
		}
		conn->close_stage = STAGE_RECV;
	}
	if (conn->close_stage == STAGE_RECV) {
		if (conn->reset) {
			if (!ring_disconnect(shard->ring, conn->file,
				    op_data(OP_DISCONNECT, conn->slot_index, conn->generation)))
				goto again;
		} else if (conn->ops[OP_RECV] > 0) {
			if (!ring_cancel(shard->ring,
				    op_data(OP_RECV, conn->slot_index, conn->generation), silent))
				goto again;
		}
		conn->close_stage = STAGE_SEND;
	}
	if (conn->close_stage == STAGE_SEND) {
		if (!conn->reset && conn->ops[OP_SEND] > 0) {
			if (!ring_cancel(shard->ring,
				    op_data(OP_SEND, conn->slot_index, conn->generation), silent))
				goto again;
		}
		conn->close_stage = STAGE_CLOSE;
	}
	assert(conn->close_stage == STAGE_CLOSE);
	/* The kernel hands a shutdown to a worker, and only there looks for the descriptor: behind our close it
	 * would find the next connection's and end that one's stream. */
	if (conn->ops[OP_SHUTDOWN] > 0)
		return; /* its completion brings us here again */
	if (!ring_close(
		    shard->ring, conn->file, op_data(OP_CLOSE, conn->slot_index, conn->generation)))
		goto again;
	conn->close_queued = true;
	timer_arm(&shard->timers, &conn->timer, shard->now_ns + CLOSING_WATCHDOG_NS);
	conn_close_join(conn);
	return;

again:
	SHARD_COUNT(shard, sq_full);
	shard_list_add(shard, LIST_CLOSE, conn);
}

static void conn_receipt(struct conn *conn, struct ph_receipt *receipt)
{
	struct conn_cold *cold = conn_cold(conn);
	struct slot *slot = conn_slot(conn);

	memset(receipt, 0, sizeof(*receipt));
	receipt->id = conn_id(conn);
	receipt->tag = atomic_load_explicit(&slot->tag, memory_order_relaxed);
	receipt->reason = conn_end(conn)->reason;
	receipt->side = conn->side;
	receipt->how = conn->how;
	receipt->failure = conn->was_open ? PH_FAILURE_NONE : conn->failure;
	receipt->kind = conn->kind;
	receipt->accepted = conn->accepted;
	receipt->was_open = conn->was_open;
	receipt->handshake_done = conn->handshake_done;
	receipt->refuse_code = conn->refuse_code;
	receipt->error = conn_end(conn)->error;
	receipt->peer_reason = conn_end(conn)->peer_reason;
	receipt->time_begin_ns = conn->time_begin_ns;
	receipt->time_open_ns = conn->time_open_ns;
	receipt->time_close_ns = conn_end(conn)->time_close_ns;
	receipt->time_goodbye_ns = conn_end(conn)->time_goodbye_ns;
	receipt->time_end_ns = conn->shard->now_ns;
	receipt->bytes_queued = atomic_load_explicit(&slot->bytes_queued, memory_order_relaxed);
	receipt->bytes_sent = atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed);
	receipt->bytes_acknowledged = conn_end(conn)->bytes_acknowledged;
	receipt->bytes_dropped = receipt->bytes_queued - receipt->bytes_sent;
	receipt->bytes_received = atomic_load_explicit(&conn->bytes_received, memory_order_relaxed);
	receipt->messages_sent = conn->messages_sent;
	receipt->messages_received = conn->messages_received;
	receipt->peer_retry_after_ms = conn_end(conn)->peer_retry_after_ms;
	receipt->peer_address = conn->peer_address;
	memcpy(receipt->text, cold->text, sizeof(receipt->text));
	memcpy(receipt->peer_text, cold->peer_text, sizeof(receipt->peer_text));
}

/*
 * The limits count whom they refuse before a handshake. Anybody can make so many of these that they would
 * write over all that the history has of others.
 */
static bool is_worth_history(const struct ph_receipt *receipt)
{
	return !receipt->accepted || receipt->handshake_done ||
		receipt->reason < PH_REASON_LIMIT_CONNECTIONS ||
		receipt->reason > PH_REASON_LIMIT_LOOP_LAG;
}

/* The slot is FREE for the world and not yet in the free queue: the conn is still ours alone. */
static void conn_close_finish(struct conn *conn, const struct ph_receipt *receipt)
{
	struct shard *shard = conn->shard;
	struct conn_cold *cold = conn_cold(conn);
	struct ph_hub *hub = shard->hub;

	timer_cancel(&shard->timers, &conn->timer);
	conn_output_clear(conn);
	conn_input_clear(conn);
	memory_free(conn->peer_name);
	conn->peer_name = NULL;
	if (is_worth_history(receipt))
		history_put(shard->history, receipt);
	if (conn->was_open) {
		SHARD_COUNT(shard, closed);
		atomic_store_explicit(&shard->open,
			atomic_load_explicit(&shard->open, memory_order_relaxed) - 1,
			memory_order_relaxed);
	} else {
		SHARD_COUNT(shard, failed);
	}
	if (hub->callbacks.on_closed != NULL)
		hub->callbacks.on_closed(hub->options.user, receipt->id, conn->user, receipt);
	tls_destroy(conn->tls);
	conn->tls = NULL;
	conn_setup_destroy(conn->setup);
	conn->setup = NULL;
	conn_resume_drop(conn);
	conn_release(conn);
	conn_names_drop(conn);
	/* Written back only where something was written: idle cold pages stay untouched. */
	if (cold->close_reason_given || cold->text[0] != '\0' || cold->peer_text[0] != '\0')
		memset(cold, 0, sizeof(*cold));
	*conn_end(conn) = (struct conn_end){0};
	conn->file = RING_FILE_NONE;
	conn_enter(conn, CONN_FREE);
	shard_slot_done(shard, conn);
}

/* Runs when CLOSING begins, after each completion and after each mail; the last of them goes through. */
void conn_close_join(struct conn *conn)
{
	struct slot *slot = conn_slot(conn);
	struct ph_receipt receipt;

	assert(conn->state == CONN_CLOSING);
	if (!conn->close_queued)
		return;
	for (int kind = 0; kind < OP_COUNTED; kind++)
		if (conn->ops[kind] > 0)
			return; /* the kernel may still touch our buffers */
	if (!slot_is_quiet(slot))
		return; /* a sender is inside or mail is under way: that mail runs us again */
	slot_take_chunks(slot, &conn->out);
	conn_local_reason(conn);
	conn_receipt(conn, &receipt);
	if (!slot_free(slot))
		return; /* an abort upgraded it in this very moment: its mail is under way */
	conn_close_finish(conn, &receipt);
}

/* ---- goodbye ---------------------------------------------------------------------------- */

/* Put our last message behind everything queued; the caller encrypts it and adds close_notify.
 * 0 or -ENOMEM. Only at senders = 0. */
int conn_goodbye_write(struct conn *conn)
{
	const struct conn_cold *cold = conn_cold(conn);
	bool local = conn->state == CONN_DRAINING;
	uint8_t message[WIRE_CONTROL_BYTES_MAX];
	struct wire_notice notice;
	bool leaving;
	ssize_t bytes;
	int status;

	conn_local_reason(conn);
	if (conn->framing == PH_FRAMING_RAW || conn->peer_goodbye || conn->refuse_code != 0)
		return 0;
	if (!conn->handshake_done || (!local && conn->side == PH_SIDE_REMOTE))
		return 0;
	if (conn->accepted && !conn->was_open)
		return 0; /* the peer has not been welcomed: the end of the stream says enough */
	/* A reason of the application's own, or a fault, is worth a NOTICE. */
	if (conn_end(conn)->reason != PH_REASON_LOCAL_CLOSE || cold->text[0] != '\0') {
		notice.code = conn_end(conn)->reason;
		notice.retry_after_ms = 0;
		notice.text = cold->text;
		notice.text_bytes = (uint32_t)strnlen(cold->text, PH_TEXT_BYTES_MAX);
		bytes = wire_notice_write(message, sizeof(message), &notice);
		assert(bytes > 0);
		status = conn_control(conn, message, (size_t)bytes);
		if (status < 0)
			return status;
	}
	leaving = !conn->local_cause || conn_end(conn)->reason == PH_REASON_LOCAL_GROUP_END ||
		conn_end(conn)->reason == PH_REASON_LOCAL_STOP ||
		conn_end(conn)->reason == PH_REASON_LOCAL_DRAIN;
	bytes = wire_disconnect_write(message, sizeof(message),
		leaving ? WIRE_DISCONNECT_LEAVING : WIRE_DISCONNECT_APPLICATION);
	assert(bytes > 0);
	return conn_control(conn, message, (size_t)bytes);
}
