/*
 * What comes in. Received bytes wait in provided buffers (linked by number in shard->notes), or, when
 * those must go back early, copied in `spill`. conn_work takes them one slice at a time through TLS to
 * the framing, and the framing to the callbacks. `carry` holds plain bytes of a message that is not yet
 * complete or that the callback could not take; it grows with what was received, never by what a
 * header announces, and its total is bounded for the whole hub.
 *
 * What always holds
 *   - Order: spill before provided buffers; carry before both. The peer's end comes after all of them.
 *   - While blocked (on_data said -EAGAIN) or paused nothing is delivered; receive is cancelled, so the
 *     socket fills and the peer's TCP stops.
 *   - A provided buffer goes back exactly once: when its slice is used up, or at the end.
 *   - A receive is re-armed whenever it has ended and more is wanted, whatever ended it; when buffers
 *     were wanting, only after half of them are back, and then waiting for data first.
 */
#include "engine/conn.h"

#include "engine/admission.h"
#include "engine/check.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/shard.h"
#include "engine/wire.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#define CARRY_FIRST_BYTES 256u
/* Cipher text that waits: twice what conn_output.c encrypts ahead, so only answers to key updates get there. */
#define ANSWERS_BYTES_MAX (512u * 1024u)

/* ---- provided buffers and spill ---------------------------------------------------------- */

static bool input_next(struct conn *conn, const uint8_t **data, size_t *bytes)
{
	struct shard *shard = conn->shard;

	if (conn->spill.head != NULL) {
		*data = conn->spill.head->data + conn->spill.head->offset;
		*bytes = conn->spill.head->bytes - conn->spill.head->offset;
		return true;
	}
	if (conn->input_head < 0)
		return false;
	*data = ring_buffer(shard->ring, (uint32_t)conn->input_head);
	*bytes = shard->notes[conn->input_head].bytes;
	return true;
}

static void input_done(struct conn *conn)
{
	struct shard *shard = conn->shard;
	int32_t buffer = conn->input_head;

	conn->slice_taken = false;
	if (conn->spill.head != NULL) {
		chunk_destroy(chain_pop(&conn->spill));
		return;
	}
	assert(buffer >= 0);
	conn->input_count--;
	conn->input_head = shard->notes[buffer].next;
	if (conn->input_head < 0)
		conn->input_tail = -1;
	ring_buffer_put(shard->ring, (uint32_t)buffer);
}

/* Receive ended for want of buffers, and is armed again when there are some: until then by nobody else. */
static bool conn_is_starved(const struct conn *conn)
{
	return (conn->lists & (1u << LIST_STARVED)) != 0;
}

static bool input_is_empty(const struct conn *conn)
{
	return conn->spill.head == NULL && conn->input_head < 0;
}

static void input_add(struct conn *conn, uint32_t buffer, uint32_t bytes)
{
	struct shard *shard = conn->shard;

	shard->notes[buffer].next = -1;
	shard->notes[buffer].bytes = bytes;
	conn->input_count++;
	if (conn->input_tail >= 0)
		shard->notes[conn->input_tail].next = (int32_t)buffer;
	else
		conn->input_head = (int32_t)buffer;
	conn->input_tail = (int32_t)buffer;
}

bool conn_has_input(const struct conn *conn)
{
	return !input_is_empty(conn);
}

bool conn_input_feed(struct conn *conn)
{
	const uint8_t *data;
	size_t bytes;

	if (conn->slice_taken)
		input_done(conn);
	if (!input_next(conn, &data, &bytes))
		return false;
	conn->slice_taken = true;
	tls_input(conn->tls, data, bytes);
	return true;
}

/* Copy what waits in provided buffers, all but a slice that TLS is reading. Without memory they stay
 * where they are: slower for others, never wrong. */
void conn_input_spill(struct conn *conn)
{
	struct shard *shard = conn->shard;

	if (conn->slice_taken)
		return;
	while (conn->input_head >= 0) {
		int32_t buffer = conn->input_head;
		struct chunk *chunk = chunk_create(shard->notes[buffer].bytes);

		if (chunk == NULL) {
			SHARD_COUNT(shard, no_memory);
			return;
		}
		chunk->bytes = shard->notes[buffer].bytes;
		memcpy(chunk->data, ring_buffer(shard->ring, (uint32_t)buffer), chunk->bytes);
		conn->input_count--;
		conn->input_head = shard->notes[buffer].next;
		if (conn->input_head < 0)
			conn->input_tail = -1;
		ring_buffer_put(shard->ring, (uint32_t)buffer);
		chain_push(&conn->spill, chunk);
	}
}

void conn_carry_drop(struct conn *conn)
{
	if (conn->carry == NULL)
		return;
	atomic_fetch_sub_explicit(
		&conn->shard->hub->reassembly_bytes, conn->carry->capacity, memory_order_relaxed);
	chunk_destroy(conn->carry);
	conn->carry = NULL;
}

void conn_input_clear(struct conn *conn)
{
	if (conn->tls != NULL)
		tls_input_drop(conn->tls);
	while (!input_is_empty(conn))
		input_done(conn);
	conn_carry_drop(conn);
}

/* ---- receive ---------------------------------------------------------------------------- */

static bool conn_is_paused(const struct conn *conn)
{
	return conn->state == CONN_OPEN &&
		(conn->blocked ||
			(atomic_load_explicit(&conn_slot(conn)->flags, memory_order_relaxed) &
				SLOT_PAUSED));
}

static void recv_arm(struct conn *conn, bool poll_first)
{
	struct shard *shard = conn->shard;

	assert(conn->ops[OP_RECV] == 0);
	if (!ring_recv_arm(shard->ring, conn->file, poll_first,
		    op_data(OP_RECV, conn->slot_index, conn->generation))) {
		SHARD_COUNT(shard, sq_full);
		shard_list_add(shard, LIST_WORK, conn); /* looked at again next turn */
		return;
	}
	conn->ops[OP_RECV]++;
	conn->time_armed_ns = shard->now_ns;
	conn->recv_cancelled = false;
	conn->recv_starved = false;
}

void conn_recv_arm(struct conn *conn)
{
	if (conn->ops[OP_RECV] > 0 || conn->eof || conn->throttled ||
		conn->file == RING_FILE_NONE || !conn_is_receiving(conn) || conn_is_paused(conn) ||
		(conn->tls_closed && conn->state == CONN_OPEN))
		return;
	recv_arm(conn, conn->recv_starved);
}

/* Not re-armed before its last completion is seen, so the cancel cannot hit a younger one. */
static void recv_cancel(struct conn *conn)
{
	struct shard *shard = conn->shard;

	if (conn->ops[OP_RECV] == 0 || conn->recv_cancelled)
		return;
	if (!ring_cancel(shard->ring, op_data(OP_RECV, conn->slot_index, conn->generation),
		    op_data(OP_CANCEL, conn->slot_index, conn->generation)))
		return;
	conn->recv_cancelled = true;
	SHARD_COUNT(shard, reads_paused);
}

/* One connection may hold an eighth of the shard's buffers unread; a stranger, what one handshake may
 * take. Beyond that its socket waits until its input has been looked at. */
static void input_limit(struct conn *conn)
{
	struct shard *shard = conn->shard;
	size_t held = (size_t)conn->input_count * shard->hub->options.receive_buffer_bytes;
	bool stranger = conn->state == CONN_HANDSHAKE;

	if (stranger && ring_buffers_out(shard->ring) > shard->buffer_count / 4)
		conn_input_spill(conn);
	if (conn->input_count <= shard->buffer_count / 8 &&
		!(stranger && held + conn->spill.bytes > TLS_HANDSHAKE_BYTES_MAX))
		return;
	conn->throttled = true;
	recv_cancel(conn);
}

void conn_input_drained(struct conn *conn)
{
	if (!input_is_empty(conn))
		return;
	conn->throttled = false;
	if (!conn_is_starved(conn))
		conn_recv_arm(conn);
}

void conn_reading_update(struct conn *conn)
{
	struct shard *shard = conn->shard;

	if (!conn_is_receiving(conn))
		return;
	if (!conn_is_paused(conn)) {
		/* The limit may have stopped it first, and a pause inside the callback have kept conn_work from
		 * lifting that when the input was used up. */
		if (input_is_empty(conn))
			conn->throttled = false;
		if (!conn_is_starved(conn))
			conn_recv_arm(conn);
		/* What the pause cut off lies in carry, and may be whole messages. */
		if (conn->carry != NULL || !input_is_empty(conn) || conn->eof || conn->tls_closed)
			shard_list_add(shard, LIST_WORK, conn);
		return;
	}
	recv_cancel(conn);
	conn_input_spill(conn);
}

void conn_unblock(struct conn *conn)
{
	conn->blocked = false;
	SHARD_COUNT(conn->shard, callback_retries);
	shard_list_add(conn->shard, LIST_WORK, conn);
}

void conn_on_recv(struct conn *conn, const struct ring_completion *done)
{
	struct shard *shard = conn->shard;
	bool ended = !(done->flags & RING_MORE);
	bool wanted = conn_is_receiving(conn) && !conn->eof;

	if (done->buffer >= 0) {
		if (wanted && !conn->tls_closed && done->result > 0)
			input_add(conn, (uint32_t)done->buffer, (uint32_t)done->result);
		else
			ring_buffer_put(shard->ring, (uint32_t)done->buffer);
	}
	if (!wanted)
		return;
	if (done->result > 0) {
		atomic_store_explicit(&conn->time_active_ns, shard->now_ns, memory_order_relaxed);
		atomic_store_explicit(&conn->bytes_received,
			atomic_load_explicit(&conn->bytes_received, memory_order_relaxed) +
				(uint64_t)done->result,
			memory_order_relaxed);
		shard_count(shard, COUNTER_bytes_received, (uint64_t)done->result);
	} else if (done->result == -ENOBUFS) {
		SHARD_COUNT(shard, receive_starved);
		conn->recv_starved = true;
		shard_list_add(shard, LIST_STARVED, conn);
	} else if (ended && done->result != -ECANCELED) {
		conn->eof = true;
		/* A send that met the error first has taken it from the socket: receive then sees a bare end. */
		if (conn->receive_error == 0)
			conn->receive_error = done->result;
	}
	if (ended) {
		conn->recv_cancelled = false;
		if (done->result > 0)
			SHARD_COUNT(shard, receive_rearmed);
		if (!conn->eof)
			conn_reading_update(conn);
	}
	input_limit(conn);
	if (conn_is_paused(conn)) {
		recv_cancel(conn); /* again, when there was no entry for the first */
		conn_input_spill(conn);
	} else if (conn->state == CONN_HANDSHAKE) {
		conn_handshake_later(conn);
	} else {
		conn_work_later(conn);
	}
}

/* ---- carry ------------------------------------------------------------------------------ */

/* A hub that a test has made by hand has no limits but its options. */
static uint32_t message_bytes_max(const struct conn *conn)
{
	const struct ph_hub *hub = conn->shard->hub;

	return hub->limits != NULL ? (uint32_t)limits_value(hub->limits, PH_LIMIT_MESSAGE_BYTES)
				   : hub->options.message_bytes_max;
}

static int carry_grow(struct conn *conn, size_t wanted)
{
	struct ph_hub *hub = conn->shard->hub;
	size_t most = (size_t)message_bytes_max(conn) + WIRE_PT2PT_BYTES;
	size_t have = conn->carry != NULL ? conn->carry->capacity : 0;
	size_t capacity = have > 0 ? have : CARRY_FIRST_BYTES;
	struct chunk *grown;

	while (capacity < wanted)
		capacity *= 2;
	/* Never far beyond the largest message. */
	if (capacity > most && have < wanted)
		capacity = wanted > most ? wanted : most;
	if (capacity == have)
		return 0;
	/* Added first, then judged: the memory budget is a sum (limits.c). */
	if (atomic_fetch_add(&hub->reassembly_bytes, capacity - have) + capacity - have >
			hub->options.reassembly_bytes_max ||
		!limits_memory_fits(hub->limits)) {
		atomic_fetch_sub_explicit(
			&hub->reassembly_bytes, capacity - have, memory_order_relaxed);
		limits_refused(
			hub->limits, PH_LIMIT_MEMORY, conn->shard->now_ns, &conn->peer_address);
		return -ENOBUFS;
	}
	grown = chunk_create(capacity);
	if (grown == NULL) {
		atomic_fetch_sub_explicit(
			&hub->reassembly_bytes, capacity - have, memory_order_relaxed);
		return -ENOMEM;
	}
	if (conn->carry != NULL) {
		grown->bytes = conn->carry->bytes - conn->carry->offset;
		memcpy(grown->data, conn->carry->data + conn->carry->offset, grown->bytes);
		chunk_destroy(conn->carry);
	}
	conn->carry = grown;
	return 0;
}

static bool carry_append(struct conn *conn, const uint8_t *data, size_t bytes)
{
	size_t have = conn->carry != NULL ? conn->carry->bytes - conn->carry->offset : 0;
	int status;

	if (bytes == 0)
		return true;
	if (conn->carry == NULL || conn->carry->capacity - conn->carry->bytes < bytes) {
		status = carry_grow(conn, have + bytes);
		if (status < 0) {
			SHARD_COUNT(conn->shard, no_memory);
			conn_fail(conn, PH_REASON_LIMIT_MEMORY, status,
				"no memory for a partial message");
			return false;
		}
		/* Same capacity, used front: move what is left to the front. */
		if (conn->carry->capacity - conn->carry->bytes < bytes) {
			memmove(conn->carry->data, conn->carry->data + conn->carry->offset, have);
			conn->carry->offset = 0;
			conn->carry->bytes = (uint32_t)have;
		}
	}
	memcpy(conn->carry->data + conn->carry->bytes, data, bytes);
	conn->carry->bytes += (uint32_t)bytes;
	return true;
}

/* ---- messages --------------------------------------------------------------------------- */

static void conn_protocol_fault(struct conn *conn, uint32_t reason, const char *text)
{
	if (conn->state == CONN_DRAINING) {
		/* We are going anyway; nothing sensible comes from there any more. */
		conn_fail(conn, reason, 0, text);
		return;
	}
	conn_leave(conn, reason, PH_SIDE_ENGINE, true, text);
}

/* The peer closes: before a WELCOME that is a failed opening. */
static void conn_on_disconnect(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct wire_disconnect_message parsed;

	if (wire_disconnect_parse(message, bytes, &parsed) < 0) {
		conn_protocol_fault(conn, PH_REASON_PROTOCOL_MESSAGE, "malformed DISCONNECT");
		return;
	}
	conn->peer_goodbye = true;
	if (conn->state == CONN_DRAINING) {
		conn_on_peer_end(conn);
		return;
	}
	conn_leave(conn,
		parsed.reason == WIRE_DISCONNECT_APPLICATION ? PH_REASON_REMOTE_CLOSE
							     : PH_REASON_REMOTE_LEAVING,
		PH_SIDE_REMOTE, false, NULL);
}

/* Its size and fields are checked, whether we use it or not, and what it lay in is wiped: memory of ours, which
 * nobody reads again behind this. */
static void conn_on_resume_given(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct wire_resume resume;
	int status = wire_resume_parse(message, bytes, &resume);

	OPENSSL_cleanse((uint8_t *)message, bytes);
	if (status < 0) {
		conn_protocol_fault(conn, PH_REASON_PROTOCOL_MESSAGE, "malformed RESUME");
		return;
	}
	conn_resume_keep(conn, &resume);
}

static void conn_on_notice(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct wire_notice notice;
	char *text = conn_cold(conn)->peer_text;

	if (wire_notice_parse(message, bytes, &notice) < 0) {
		conn_protocol_fault(conn, PH_REASON_PROTOCOL_MESSAGE, "malformed NOTICE");
		return;
	}
	/* The goodbye after a notice repeats its reason, and neither the time nor the text. */
	if (notice.retry_after_ms == 0 && notice.text_bytes == 0 &&
		notice.code == conn_end(conn)->peer_reason)
		return;
	conn_end(conn)->peer_reason = notice.code;
	/* A goodbye of another reason knows of no time either: one that was told stays until another is, or
	 * until all is taken back. */
	if (notice.retry_after_ms != 0 || notice.code == 0)
		conn_end(conn)->peer_retry_after_ms = notice.retry_after_ms;
	memcpy(text, notice.text, notice.text_bytes);
	text[notice.text_bytes] = '\0';
}

/* 0, or -EAGAIN: the callback could not take it. */
static int conn_on_pt2pt(struct conn *conn, const uint8_t *message, size_t bytes)
{
	struct ph_hub *hub = conn->shard->hub;
	struct wire_pt2pt parsed;
	int status = 0;

	if (wire_pt2pt_parse(message, bytes, &parsed) < 0) {
		conn_protocol_fault(conn, PH_REASON_PROTOCOL_MESSAGE, "malformed PT2PT");
		return 0;
	}
	if (memcmp(parsed.type, wire_ping_type, sizeof(parsed.type)) == 0) {
		if (parsed.bytes != 0)
			conn_protocol_fault(conn, PH_REASON_PROTOCOL_MESSAGE, "a ping with data");
		else
			SHARD_COUNT(conn->shard, pings_received);
		return 0;
	}
	if (conn->state != CONN_OPEN)
		return 0;
	/* A local close that was decided on this very thread, inside a callback, ends delivery at once. */
	if (atomic_load_explicit(&conn_slot(conn)->word, memory_order_relaxed) & SLOT_CLOSE)
		return 0;
	if (hub->callbacks.on_data != NULL)
		status = hub->callbacks.on_data(hub->options.user, conn_id(conn), conn->user,
			parsed.type, parsed.data, parsed.bytes);
	if (status < 0)
		return -EAGAIN;
	conn->messages_received++;
	SHARD_COUNT(conn->shard, messages_received);
	if (!conn_message_rate(conn))
		conn_protocol_fault(conn, PH_REASON_LIMIT_MESSAGE_RATE,
			"more messages a second than the limit message_rate");
	return 0;
}

/* The greeting is complete but a local close has won the slot word: its mail is under way, and what comes
 * until then is skipped, a second CONNECT or WELCOME too. */
static bool conn_is_overtaken(const struct conn *conn)
{
	return conn->state == CONN_GREETING && conn->names != NULL;
}

/* Whether a message of this type may come now; judged by the header, before anything is kept. */
static bool message_is_due(const struct conn *conn, uint8_t type)
{
	switch ((enum conn_state)conn->state) {
	case CONN_GREETING:
		if (conn_is_overtaken(conn))
			return true;
		if (!conn->accepted)
			return type == WIRE_WELCOME || type == WIRE_REFUSE ||
				type == WIRE_DISCONNECT ||
				(type >= WIRE_NOTICE && type != WIRE_RESUME);
		return conn->setup == NULL || !conn->setup->auth_info_seen ? type == WIRE_AUTH_INFO
									   : type == WIRE_CONNECT;
	case CONN_OPEN:
		/* RESUME is for who dialled alone. */
		return type == WIRE_PT2PT || type == WIRE_DISCONNECT ||
			(type >= WIRE_NOTICE && !(type == WIRE_RESUME && conn->accepted));
	case CONN_DRAINING:
		/* After an early close of ours WELCOME or REFUSE may still come. */
		return type == WIRE_PT2PT || type == WIRE_DISCONNECT || type >= WIRE_NOTICE ||
			(!conn->was_open && (type == WIRE_WELCOME || type == WIRE_REFUSE));
	default:
		return false;
	}
}

static int conn_on_message(struct conn *conn, uint8_t type, const uint8_t *message, size_t bytes)
{
	if (conn_is_overtaken(conn))
		return 0;
	switch (type) {
	case WIRE_AUTH_INFO:
		conn_on_auth_info(conn, message, bytes);
		return 0;
	case WIRE_CONNECT:
		conn_on_connect_message(conn, message, bytes);
		return 0;
	case WIRE_WELCOME:
		if (conn->state == CONN_GREETING)
			conn_on_welcome(conn, message, bytes);
		return 0;
	case WIRE_REFUSE:
		if (conn->state == CONN_GREETING)
			conn_on_refuse(conn, message, bytes);
		return 0;
	case WIRE_DISCONNECT:
		conn_on_disconnect(conn, message, bytes);
		return 0;
	case WIRE_PT2PT:
		return conn_on_pt2pt(conn, message, bytes);
	case WIRE_NOTICE:
		conn_on_notice(conn, message, bytes);
		return 0;
	case WIRE_RESUME:
		conn_on_resume_given(conn, message, bytes);
		return 0;
	default:
		SHARD_COUNT(conn->shard, notices_skipped);
		return 0;
	}
}

static void conn_over_size(struct conn *conn)
{
	limits_refused(conn->shard->hub->limits, PH_LIMIT_MESSAGE_BYTES, conn->shard->now_ns,
		&conn->peer_address);
	conn_protocol_fault(conn, PH_REASON_PROTOCOL_SIZE, "a message over its size limit");
}

/* The head of a message: 0 and header filled, or the connection has been ended. */
static int conn_header(struct conn *conn, const uint8_t *data, struct wire_header *header)
{
	int status = wire_header_parse(data, message_bytes_max(conn), header);

	if (status == 0 && message_is_due(conn, header->type))
		return 0;
	if (status == 0)
		conn_protocol_fault(
			conn, PH_REASON_PROTOCOL_STATE, "a message that is not due in this state");
	else if (status == -EMSGSIZE)
		conn_over_size(conn);
	else if (status == -ENOTSUP)
		conn_protocol_fault(conn, PH_REASON_PROTOCOL_TYPE, "an unknown message type");
	else
		conn_protocol_fault(conn, PH_REASON_PROTOCOL_MESSAGE, "a malformed message head");
	return -EPROTO;
}

static bool conn_is_listening(const struct conn *conn)
{
	return conn->state >= CONN_GREETING && conn->state <= CONN_DRAINING;
}

/* As many whole messages as there are. Returns the bytes used; all of them once nobody listens. */
static size_t conn_parse(struct conn *conn, const uint8_t *data, size_t bytes)
{
	struct wire_header header;
	size_t at = 0;

	while (bytes - at >= WIRE_HEADER_BYTES) {
		if (conn_header(conn, data + at, &header) < 0)
			return bytes;
		if (bytes - at < header.bytes)
			return at;
		if (conn_on_message(conn, header.type, data + at, header.bytes) == -EAGAIN) {
			conn->blocked = true;
			return at;
		}
		at += header.bytes;
		if (!conn_is_listening(conn))
			return bytes;
		if (conn_is_paused(conn))
			return at;
	}
	return at;
}

/* How many bytes the first message in carry still lacks; 0 complete, -1 the connection has ended. */
static int64_t carry_missing(struct conn *conn)
{
	const struct chunk *carry = conn->carry;
	size_t have = carry->bytes - carry->offset;
	struct wire_header header;

	if (have < WIRE_HEADER_BYTES)
		return (int64_t)(WIRE_HEADER_BYTES - have);
	if (conn_header(conn, carry->data + carry->offset, &header) < 0)
		return -1;
	return have >= header.bytes ? 0 : (int64_t)(header.bytes - have);
}

/* Raw bytes to the callback. False: it could not take them, and the connection is blocked. */
static bool raw_offer(struct conn *conn, const uint8_t *data, size_t bytes)
{
	struct ph_hub *hub = conn->shard->hub;

	/* On our way out, or closed by a callback on this very thread: discarded. */
	if (conn->state != CONN_OPEN ||
		(atomic_load_explicit(&conn_slot(conn)->word, memory_order_relaxed) & SLOT_CLOSE))
		return true;
	if (hub->callbacks.on_data != NULL &&
		hub->callbacks.on_data(
			hub->options.user, conn_id(conn), conn->user, NULL, data, bytes) < 0) {
		conn->blocked = true;
		return false;
	}
	conn->messages_received++;
	SHARD_COUNT(conn->shard, messages_received);
	return true;
}

/* Deliver what carry holds as far as it goes. */
static void carry_deliver(struct conn *conn)
{
	struct chunk *carry = conn->carry;
	size_t bytes = carry->bytes - carry->offset, used;

	if (conn->framing == PH_FRAMING_RAW) {
		if (raw_offer(conn, carry->data + carry->offset, bytes))
			conn_carry_drop(conn);
		return;
	}
	used = conn_parse(conn, carry->data + carry->offset, bytes);
	if (conn->carry == NULL)
		return; /* the connection ended, and with it its carry */
	conn->carry->offset += (uint32_t)used;
	if (conn->carry->offset == conn->carry->bytes)
		conn_carry_drop(conn);
}

static void conn_plain_raw(struct conn *conn, const uint8_t *data, size_t bytes)
{
	if (conn_is_paused(conn) || conn->carry != NULL || !raw_offer(conn, data, bytes))
		(void)carry_append(conn, data, bytes);
}

/* Plain bytes in order. */
static void conn_plain(struct conn *conn, const uint8_t *data, size_t bytes)
{
	size_t used;

	if (conn->framing == PH_FRAMING_RAW) {
		conn_plain_raw(conn, data, bytes);
		return;
	}
	while (conn->carry != NULL && bytes > 0 && !conn_is_paused(conn)) {
		int64_t missing = carry_missing(conn);
		size_t take;

		if (missing < 0 || !conn_is_listening(conn))
			return;
		take = (size_t)missing < bytes ? (size_t)missing : bytes;
		if (!carry_append(conn, data, take))
			return;
		data += take;
		bytes -= take;
		missing = carry_missing(conn);
		if (missing < 0)
			return;
		if (missing == 0)
			carry_deliver(conn);
		if (!conn_is_listening(conn))
			return;
	}
	if (conn->carry == NULL && bytes > 0 && !conn_is_paused(conn)) {
		used = conn_parse(conn, data, bytes);
		data += used;
		bytes -= used;
	}
	if (bytes > 0 && conn_is_listening(conn))
		(void)carry_append(conn, data, bytes);
}

/* ---- work ------------------------------------------------------------------------------- */

/* The stream has ended and all that came before it has been looked at. */
static void conn_on_stream_end(struct conn *conn)
{
	int32_t error = conn->receive_error;

	if (conn->state == CONN_DRAINING || conn->state == CONN_LEAVING) {
		conn_on_peer_end(conn);
		return;
	}
	if (conn->state == CONN_HANDSHAKE || conn->state == CONN_GREETING) {
		conn_fail(conn, PH_REASON_TRANSPORT_HANDSHAKE_LOST, error,
			"the stream ended before the connection was open");
		return;
	}
	if (error < 0) {
		conn_fail(conn,
			error == -ECONNRESET || error == -EPIPE ? PH_REASON_REMOTE_RESET
								: PH_REASON_TRANSPORT_ERROR,
			error, NULL);
		return;
	}
	if (conn->framing != PH_FRAMING_RAW || conn->secure) {
		conn_leave(conn, PH_REASON_REMOTE_TRUNCATED, PH_SIDE_REMOTE, false, NULL);
		return;
	}
	conn->end_unsure = conn->ops[OP_SEND] > 0;
	conn_leave(conn, PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE, false, NULL);
}

/* close_notify: the end, once everything before it has been delivered. */
static void conn_on_tls_closed(struct conn *conn)
{
	conn->peer_goodbye = true;
	if (conn_is_paused(conn)) {
		/* A slice is decrypted to its end, so this may overtake messages that the callback could not
		 * take: they, and the DISCONNECT among them, come first. conn_work brings us here again. */
		conn->tls_closed = true;
		conn_input_discard(conn);
	} else if (conn->state == CONN_DRAINING) {
		conn_input_discard(
			conn); /* nothing counts after it, and none of it is looked at again */
		conn_on_peer_end(conn);
	} else if (conn->state == CONN_GREETING)
		conn_fail(conn, PH_REASON_TRANSPORT_HANDSHAKE_LOST, 0,
			"the peer ended TLS before the connection was open");
	else if (conn->framing == PH_FRAMING_RAW)
		conn_leave(conn, PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE, false, NULL);
	else
		conn_leave(conn, PH_REASON_REMOTE_TRUNCATED, PH_SIDE_REMOTE, false,
			"TLS ended without DISCONNECT");
}

static void conn_on_tls_failed(struct conn *conn)
{
	char text[PH_TEXT_BYTES_MAX];

	tls_failure_text(conn->tls, text, sizeof(text));
	if (conn->state == CONN_GREETING && !conn->accepted) {
		/* The server judges our chain after our side has finished: its alert comes here. */
		conn_fail(conn, PH_REASON_TRANSPORT_HANDSHAKE_LOST, -EPROTO, text);
		return;
	}
	if (conn->state == CONN_DRAINING) {
		conn_fail(conn, PH_REASON_PROTOCOL_TLS, -EPROTO, text);
		return;
	}
	/* An alert is the last that TLS says: no data and no goodbye could be encrypted behind it. */
	conn->goodbye_queued = true;
	conn_leave(conn, PH_REASON_PROTOCOL_TLS, PH_SIDE_ENGINE, conn->wire.bytes > 0, text);
}

/* Plain bytes out of TLS until it wants more input. False: the connection has ended or is leaving. */
static bool conn_decrypt(struct conn *conn)
{
	struct shard *shard = conn->shard;

	for (;;) {
		ssize_t got = tls_read(conn->tls, shard->plain, sizeof(shard->plain), &conn->wire);

		if (conn->wire.bytes > ANSWERS_BYTES_MAX) {
			conn_fail(conn, PH_REASON_LIMIT_SLOW, 0,
				"the peer asks for key updates and does not read them");
			return false;
		}
		if (got > 0) {
			conn_plain(conn, shard->plain, (size_t)got);
			if (!conn_is_listening(conn))
				return false;
			continue;
		}
		if (conn->wire.bytes > 0)
			conn_flush_later(conn); /* a KeyUpdate's answer, an alert */
		if (got == TLS_AGAIN)
			return true;
		if (got == TLS_CLOSED)
			conn_on_tls_closed(conn);
		else if (got == TLS_NO_MEMORY)
			conn_fail(conn, PH_REASON_LIMIT_MEMORY, -ENOMEM, "no memory to decrypt");
		else
			conn_on_tls_failed(conn);
		return false;
	}
}

void conn_input_discard(struct conn *conn)
{
	if (conn->tls != NULL)
		tls_input_drop(conn->tls);
	while (!input_is_empty(conn))
		input_done(conn);
}

/* Whether a slice may be begun: one begun under TLS is always decrypted to its end (into carry). */
static bool conn_may_take(const struct conn *conn)
{
	return conn_is_listening(conn) && !conn_is_paused(conn) &&
		conn->shard->budget_used < SHARD_WORK_BYTES;
}

static void conn_take_slices(struct conn *conn)
{
	const uint8_t *data;
	size_t bytes;

	if (conn->carry != NULL && !conn_is_paused(conn))
		carry_deliver(conn);
	/* What the handshake left in TLS's hands comes first. */
	if (conn->slice_taken) {
		if (!conn_decrypt(conn))
			return;
		input_done(conn);
	}
	while (conn_may_take(conn) && input_next(conn, &data, &bytes)) {
		conn->shard->budget_used += (uint32_t)bytes;
		if (conn->secure) {
			conn->slice_taken = true;
			tls_input(conn->tls, data, bytes);
			if (!conn_decrypt(conn))
				return;
		} else {
			conn_plain(conn, data, bytes);
			if (!conn_is_listening(conn))
				return;
		}
		input_done(conn);
	}
}

void conn_work_later(struct conn *conn)
{
	shard_list_add(conn->shard, LIST_WORK, conn);
}

void conn_work(struct conn *conn)
{
	struct shard *shard = conn->shard;

	conn->shard->budget_used = 0;
	if (conn->state == CONN_CONNECTING) {
		conn_dial(conn, 0); /* an operation that found no submission entry */
		return;
	}
	if (conn->state == CONN_HANDSHAKE) {
		if (conn->eof && input_is_empty(conn))
			conn_on_stream_end(conn);
		else
			conn_handshake_later(conn);
		return;
	}
	if (conn_is_listening(conn))
		conn_take_slices(conn);
	if (conn->state == CONN_LEAVING)
		conn_input_discard(conn);
	if (conn->state == CONN_CLOSING || conn->state == CONN_FREE)
		return;
	if (conn_is_paused(conn)) {
		if (conn->blocked)
			shard_list_add(shard, LIST_BLOCKED, conn);
		conn_reading_update(conn);
		return;
	}
	if (!input_is_empty(conn)) {
		shard_list_add(shard, LIST_WORK, conn); /* leftovers to the tail */
		return;
	}
	if (conn->tls_closed && conn->state == CONN_OPEN)
		conn_on_tls_closed(conn);
	else if (conn->eof)
		conn_on_stream_end(conn);
	else
		conn_input_drained(conn);
}
