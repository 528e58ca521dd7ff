/*
 * What goes out. Two chains: `out` holds what senders handed over and control messages in clear; `wire`
 * holds bytes for the kernel (cipher text with TLS). At most one send is in flight, and it covers the
 * front of `wire`; a second one could interleave with it. `wire` may grow at its end meanwhile: blocks
 * never move.
 *
 * Order: whatever is put into out or wire goes out in that order; TLS flights and alerts are appended to
 * wire by tls.c itself.
 *
 * The send budget is given back when the kernel has taken the bytes.
 */
#include "engine/conn.h"

#include "engine/check.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/shard.h"
#include "engine/slow.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#define FLUSH_BYTES_MAX (256u * 1024u) /* encrypted or gathered ahead of one send */
#define GATHER_BYTES_MAX 4096u /* chunks up to this size share a record */

void conn_flush_later(struct conn *conn)
{
	shard_list_add(conn->shard, LIST_FLUSH, conn);
}

int conn_control(struct conn *conn, const void *message, size_t bytes)
{
	int status;

	/* A chunk of its own: chain_append would add to a sender's chunk, whose weight must be given back
	 * only when its own last byte has gone. */
	struct chunk *chunk = chunk_create(bytes);

	if (chunk == NULL) {
		status = -ENOMEM;
		SHARD_COUNT(conn->shard, no_memory);
		return status;
	}
	memcpy(chunk->data, message, bytes);
	chunk->bytes = (uint32_t)bytes;
	chain_push(&conn->out, chunk);
	conn->time_sent_ns = conn->shard->now_ns;
	conn_flush_later(conn);
	return 0;
}

/* ---- out -> wire ------------------------------------------------------------------------ */

/* Control messages weigh nothing and are not the user's. */
static void message_count(struct conn *conn, const struct chunk *chunk)
{
	if (chunk->weight == 0)
		return;
	conn->messages_sent++;
	SHARD_COUNT(conn->shard, messages_sent);
}

/* Control messages go wiped: a RESUME among them is a secret, and none is long. */
static void out_destroy(struct chunk *chunk)
{
	if (chunk->weight == 0)
		OPENSSL_cleanse(chunk->data, chunk->bytes);
	chunk_destroy(chunk);
}

static void out_clear(struct conn *conn)
{
	struct chunk *chunk;

	while ((chunk = chain_pop(&conn->out)) != NULL)
		out_destroy(chunk);
	assert(conn->out.bytes == 0);
}

/* Gather small chunks from the front of out into one record's worth of scratch. */
static size_t out_gather(struct conn *conn, bool *has_control)
{
	struct shard *shard = conn->shard;
	size_t bytes = 0;

	*has_control = false;
	while (conn->out.head != NULL) {
		struct chunk *chunk = conn->out.head;
		size_t here = chunk->bytes - chunk->offset;

		if (bytes + here > sizeof(shard->scratch) || here > GATHER_BYTES_MAX)
			break;
		memcpy(shard->scratch + bytes, chunk->data + chunk->offset, here);
		bytes += here;
		*has_control |= chunk->weight == 0;
		conn->wire_weight += chunk->weight;
		message_count(conn, chunk);
		out_destroy(chain_pop(&conn->out));
	}
	return bytes;
}

static int out_encrypt(struct conn *conn)
{
	while (conn->out.head != NULL && conn->wire.bytes < FLUSH_BYTES_MAX) {
		bool has_control;
		struct chunk *chunk;
		size_t bytes = out_gather(conn, &has_control);
		int status;

		if (bytes > 0) {
			status = tls_write(conn->tls, conn->shard->scratch, bytes, &conn->wire);
			if (has_control)
				OPENSSL_cleanse(conn->shard->scratch, bytes);
			if (status < 0)
				return status;
			continue;
		}
		/* A large chunk goes record by record, so that one message cannot fill memory twice. */
		chunk = conn->out.head;
		bytes = chunk->bytes - chunk->offset;
		if (bytes > TLS_RECORD_BYTES_MAX)
			bytes = TLS_RECORD_BYTES_MAX;
		status = tls_write(conn->tls, chunk->data + chunk->offset, bytes, &conn->wire);
		if (status < 0)
			return status;
		if (bytes == chunk->bytes - chunk->offset) {
			conn->wire_weight += chunk->weight;
			message_count(conn, chunk);
			out_destroy(chain_pop(&conn->out));
		} else {
			chunk->offset += (uint32_t)bytes;
			conn->out.bytes -= bytes;
		}
	}
	return 0;
}

static int out_to_wire(struct conn *conn)
{
	if (conn->out.head == NULL || conn->goodbye_queued)
		return 0; /* nothing follows a goodbye */
	if (conn->secure) {
		if (!conn->handshake_done)
			return 0; /* a REFUSE cannot be said before it */
		return out_encrypt(conn);
	}
	if (!slow_drops(conn->shard->hub)) {
		for (struct chunk *chunk = conn->out.head; chunk != NULL; chunk = chunk->next)
			message_count(conn, chunk);
		chain_move(&conn->wire, &conn->out);
		return 0;
	}
	/* What is in wire is on its way; the rest can still make room. */
	while (conn->out.head != NULL && conn->wire.bytes < FLUSH_BYTES_MAX) {
		message_count(conn, conn->out.head);
		chain_push(&conn->wire, chain_pop(&conn->out));
	}
	return 0;
}

/* ---- goodbye ---------------------------------------------------------------------------- */

/* Whether nothing more can be accepted from senders: all that was is in out or already gone. */
static bool conn_is_sent_out(struct conn *conn)
{
	struct slot *slot = conn_slot(conn);
	uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);

	if (slot_word_senders(word) > 0)
		return false; /* its leaving mails us */
	/* Pushed before the last sender left, which the acquire above has seen. */
	slot_take_chunks(slot, &conn->out);
	return conn->out.head == NULL;
}

/* Queue the goodbye when its time has come. 0, or a negative errno: it cannot be said. */
static int conn_goodbye(struct conn *conn)
{
	int status;

	/* Below the limit of one flush, so that the goodbye is encrypted as a whole with it. */
	if (conn->goodbye_queued || conn->wire.bytes >= FLUSH_BYTES_MAX || !conn_is_sent_out(conn))
		return 0;
	status = conn_goodbye_write(conn);
	if (status < 0)
		return status;
	status = out_to_wire(conn);
	if (status < 0)
		return status;
	assert(conn->out.head == NULL || !conn->handshake_done);
	if (conn->secure && conn->tls != NULL && conn->handshake_done) {
		status = tls_goodbye(conn->tls, &conn->wire);
		if (status < 0)
			return status;
	}
	conn->goodbye_queued = true;
	return 0;
}

/* ---- wire -> kernel --------------------------------------------------------------------- */

static struct send_block *block_get(struct shard *shard)
{
	struct send_block *block = shard->blocks;

	if (block != NULL) {
		shard->blocks = block->next;
		shard->blocks_count--;
		return block;
	}
	return memory_alloc(sizeof(*block));
}

static void block_put(struct shard *shard, struct send_block *block)
{
	if (shard->blocks_count >= SHARD_SEND_BLOCKS_KEPT) {
		memory_free(block);
		return;
	}
	block->next = shard->blocks;
	shard->blocks = block;
	shard->blocks_count++;
}

/* Send the front of wire. False: no submission entry, try next turn. */
static bool wire_send(struct conn *conn)
{
	struct shard *shard = conn->shard;
	struct chunk *chunk = conn->wire.head;
	struct send_block *block = NULL;
	uint64_t data = op_data(OP_SEND, conn->slot_index, conn->generation);
	unsigned count = 0;

	while (chunk->bytes == chunk->offset && chunk->next != NULL)
		chunk = chunk->next; /* consumed with the send that ends before it */
	if (chunk->next != NULL)
		block = block_get(shard);
	if (block ==
		NULL) /* one block of bytes, or no memory: then one block at a time still moves */
		return ring_send(shard->ring, conn->file, chunk->data + chunk->offset,
			chunk->bytes - chunk->offset, data);
	for (chunk = conn->wire.head; chunk != NULL && count < SEND_VECTOR_MAX;
		chunk = chunk->next) {
		if (chunk->bytes == chunk->offset)
			continue;
		block->vector[count].iov_base = chunk->data + chunk->offset;
		block->vector[count].iov_len = chunk->bytes - chunk->offset;
		count++;
	}
	memset(&block->message, 0, sizeof(block->message));
	block->message.msg_iov = block->vector;
	block->message.msg_iovlen = count;
	if (!ring_sendmsg(shard->ring, conn->file, &block->message, data)) {
		block_put(shard, block);
		return false;
	}
	conn->block = block;
	return true;
}

static bool conn_may_send(const struct conn *conn)
{
	return conn->state >= CONN_HANDSHAKE && conn->state <= CONN_LEAVING &&
		conn->ops[OP_SEND] == 0;
}

/* ---- kernel -> budget ------------------------------------------------------------------- */

void conn_budget_give_back(struct conn *conn, size_t weight)
{
	struct slot *slot = conn_slot(conn);
	const struct home *home = conn->shard->home;
	struct ph_hub *hub;
	uint32_t left;

	if (weight == 0)
		return;
	/* seq_cst with the sender: it sets WANT_WRITABLE, then reads queued_bytes; we subtract, then read
	 * the flag. One of us sees the other. */
	left = atomic_fetch_sub(&slot->queued_bytes, (uint32_t)weight) - (uint32_t)weight;
	if (home->counts_send)
		limits_give_bytes(conn->shard->hub->limits, weight);
	if (left > home->send_queue_bytes / 2 || conn->state != CONN_OPEN)
		return;
	conn_slow_over(conn);
	if (!(atomic_load(&slot->flags) & SLOT_WANT_WRITABLE))
		return;
	if (!(atomic_fetch_and(&slot->flags, ~SLOT_WANT_WRITABLE) & SLOT_WANT_WRITABLE))
		return; /* the sender saw the room itself */
	hub = conn->shard->hub;
	if (hub->callbacks.on_writable != NULL)
		hub->callbacks.on_writable(hub->options.user, conn_id(conn), conn->user);
}

/* The stream is broken. What senders still hand over is dropped, and their budget comes back: a callback that
 * takes no data because its answer finds no room would else never let receive reach the end. But not
 * while the user has paused: then nobody reads, and who only writes would go on for ever. */
static void conn_flush_broken(struct conn *conn)
{
	size_t weight = conn->wire_weight + chain_weight(&conn->wire) + chain_weight(&conn->out);

	if (conn->state == CONN_DRAINING || conn->state == CONN_LEAVING) {
		conn_end(conn)->error = conn->receive_error;
		conn->how = PH_ABORT;
		conn_close_begin(conn, true);
		return;
	}
	if (conn->state == CONN_OPEN &&
		(atomic_load_explicit(&conn_slot(conn)->flags, memory_order_relaxed) & SLOT_PAUSED))
		return;
	chain_clear(&conn->wire);
	out_clear(conn);
	conn->wire_weight = 0;
	conn_budget_give_back(conn, weight);
}

/* At most one send per connection and turn. */
void conn_flush(struct conn *conn)
{
	int status;

	if (!conn_may_send(conn))
		return;
	if (conn->send_broken) {
		conn_flush_broken(conn);
		return;
	}
	status = conn->wire.bytes < FLUSH_BYTES_MAX ? out_to_wire(conn) : 0;
	if (status == 0 && (conn->state == CONN_DRAINING || conn->state == CONN_LEAVING))
		status = conn_goodbye(conn);
	if (status < 0) {
		/* No memory for it, or TLS is beyond it: what is queued cannot be said, the end is a reset. */
		SHARD_COUNT(conn->shard, no_memory);
		conn_fail(conn, status == -ENOMEM ? PH_REASON_LIMIT_MEMORY : PH_REASON_PROTOCOL_TLS,
			status, "no memory to encrypt");
		return;
	}
	if (conn->wire.bytes > 0) {
		if (!wire_send(conn)) {
			SHARD_COUNT(conn->shard, sq_full);
			conn_flush_later(conn);
			return;
		}
		conn->ops[OP_SEND]++;
		return;
	}
	if (conn->goodbye_queued)
		conn_on_goodbye_done(conn);
}

/* TCP itself has ended: receive will see it too. After anything else (no memory, say) bytes are missing in the
 * middle of a stream that goes on. */
static bool send_error_is_end(int32_t error)
{
	return error == -EPIPE || error == -ECONNRESET || error == -ETIMEDOUT ||
		error == -EHOSTUNREACH || error == -ENETUNREACH || error == -ENOTCONN;
}

/* The stream is broken for sending. What the peer sent before may still wait in the socket, an alert that
 * tells why among it, and is delivered first: receive meets the same end and tells. */
static void conn_on_send_error(struct conn *conn, int32_t result)
{
	/* This send took the reset from the socket, and the bare end that receive then saw was heard of first:
	 * it was no end of the peer's stream. */
	if (conn->end_unsure && result == -ECONNRESET && !conn->local_cause) {
		conn_end(conn)->reason = PH_REASON_REMOTE_RESET;
		conn_end(conn)->error = result;
	}
	if (conn->state == CONN_CLOSING)
		return;
	conn->send_broken = true;
	if (conn->receive_error == 0)
		conn->receive_error = result;
	if (send_error_is_end(result))
		conn_flush_broken(conn);
	else
		conn_fail(conn, PH_REASON_TRANSPORT_ERROR, result, NULL);
}

void conn_on_sent(struct conn *conn, int32_t result)
{
	size_t weight;

	if (conn->block != NULL) {
		block_put(conn->shard, conn->block);
		conn->block = NULL;
	}
	if (result < 0) {
		conn_on_send_error(conn, result);
		return;
	}
	conn->end_unsure = false;
	assert((size_t)result <= conn->wire.bytes);
	weight = chain_consume(&conn->wire, (size_t)result);
	if (conn->wire.bytes == 0) {
		weight += conn->wire_weight;
		conn->wire_weight = 0;
	}
	if (conn->state == CONN_CLOSING) {
		atomic_store_explicit(&conn->bytes_sent,
			atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed) + weight,
			memory_order_relaxed);
		return;
	}
	conn->time_sent_ns = conn->shard->now_ns;
	atomic_store_explicit(&conn->bytes_sent,
		atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed) + weight,
		memory_order_relaxed);
	shard_count(conn->shard, COUNTER_bytes_sent, weight);
	conn_budget_give_back(conn, weight);
	if (conn->wire.bytes > 0 || conn->out.head != NULL || conn->state == CONN_DRAINING ||
		conn->state == CONN_LEAVING)
		conn_flush_later(conn);
}

void conn_output_clear(struct conn *conn)
{
	assert(conn->ops[OP_SEND] == 0);
	out_clear(conn);
	chain_clear(&conn->wire);
	conn->wire_weight = 0;
	if (conn->block != NULL) {
		block_put(conn->shard, conn->block);
		conn->block = NULL;
	}
}
