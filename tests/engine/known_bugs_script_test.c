/*
 * Bugs that others had with cancel and close, each brought about here on purpose: docs/proof.md lists
 * them by number, with the test of ours that covers each. The scripted ring answers as the kernel did
 * there; what must hold is the same in every case: one last event, after everything has ended, nothing
 * delivered that came too late, and every buffer and descriptor given back (the harness and the ring
 * watch that in each case).
 */

#include "engine/wire.h"
#include "tests/engine/harness_tls.h"

#define BIT(kind) (1u << (kind))

/* A graceful close whose goodbye is out and answered: CLOSING, its receive still armed, and the cancel
 * of it unanswered. */
static uint64_t closing_quietly(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_hold(it.ring, BIT(SCRIPT_CANCEL));
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 2);
	peer_says_disconnect(&it, *file);
	harness_turns(&it, 2);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CLOSING);
	assert_true(harness_conn(&it, id)->close_queued);
	assert_int_equal(harness_conn(&it, id)->ops[OP_RECV], 1);
	assert_non_null(script_find(it.ring, SCRIPT_CANCEL, SCRIPT_ANY_FILE));
	return id;
}

static void closed_cleanly(uint64_t id)
{
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->messages, 0);
	assert_int_equal(harness_peer(&it, id)->receipt.how, PH_GRACEFUL);
	assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_LOCAL);
	assert_int_equal(ring_buffers_out(it.ring), 0);
	assert_int_equal(harness_counter(&it, COUNTER_close_resubmits), 0);
	script_hold(it.ring, 0);
}

/* ---- the cancel's answer and its target's end -------------------------------------------- */

static void cancel_answers(int32_t answer)
{
	struct script_op *cancel = script_find(it.ring, SCRIPT_CANCEL, SCRIPT_ANY_FILE);

	assert_non_null(cancel);
	if (answer == 0)
		script_end_silent(it.ring, cancel);
	else
		script_answer(it.ring, cancel, answer);
}

/* 1: there were data in its last completion. */
static void receive_ends(int32_t file, int32_t answer)
{
	struct script_op *recv = script_find(it.ring, SCRIPT_RECV, file);
	uint8_t message[HARNESS_MESSAGE_MAX];

	assert_non_null(recv);
	if (answer == 1)
		assert_true(script_answer_data(
			it.ring, recv, message, peer_message(message, "late", 4), false));
	else
		script_answer(it.ring, recv, answer);
}

/* tigerbeetle#6, tigerbeetle#2430, liburing#984, liburing#1375, libfabric#6761, helio: a cancel that
 * hits, misses (-ENOENT) or comes too late (-EALREADY), answered before or after its target, which
 * ends with -ECANCELED, for want of buffers, with data, or with the end of the stream. */
static void cancel_in_every_order(void **state)
{
	static const int32_t cancels[] = {0, -ENOENT, -EALREADY};
	static const int32_t receives[] = {-ECANCELED, -ENOBUFS, 1, 0, -ECONNRESET};
	int32_t file;

	(void)state;
	for (int c = 0; c < 3; c++)
		for (int r = 0; r < 5; r++)
			for (int first = 0; first < 2; first++) {
				uint64_t id = closing_quietly(&file);

				if (first == 0)
					cancel_answers(cancels[c]);
				else
					receive_ends(file, receives[r]);
				harness_turns(&it, 2);
				/* The receive's own end decides, never the cancel's answer. */
				assert_int_equal(harness_peer(&it, id)->closed, (uint32_t)first);
				if (first == 0)
					receive_ends(file, receives[r]);
				else
					cancel_answers(cancels[c]);
				closed_cleanly(id);
			}
}

/* liburing#1048, #932, #568: closing the descriptor ends no receive; bytes go on coming under the old
 * user_data. They are nobody's, their buffers go back, and the connection waits for the end. */
static void close_does_not_end_a_receive(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;
	uint64_t id = closing_quietly(&file);
	size_t bytes = peer_message(message, "after the close", 15);

	(void)state;
	assert_true(script_is_closed(it.ring, file));
	for (int i = 0; i < 40; i++) { /* more than there are buffers */
		assert_true(script_answer_data(
			it.ring, script_find(it.ring, SCRIPT_RECV, file), message, bytes, true));
		harness_turn(&it);
		assert_int_equal(harness_peer(&it, id)->closed, 0);
		assert_int_equal(ring_buffers_out(it.ring), 0);
	}
	cancel_answers(0);
	receive_ends(file, -ECANCELED);
	closed_cleanly(id);
}

/* liburing#363, ntex#911: while the kernel holds an operation of a connection nobody gets its slot,
 * however short slots are; the next life has another generation, and late answers do not reach it. */
static void nobody_gets_a_slot_that_lingers(void **state)
{
	int32_t file, other;
	uint64_t id = closing_quietly(&file), next = 0;
	uint32_t slot = slot_id_slot(id);

	(void)state;
	for (uint32_t i = 1; i < 32; i++)
		assert_int_not_equal(slot_id_slot(harness_dial(&it, PH_FRAMING_MESSAGE)), slot);
	assert_int_equal(
		harness_dial(&it, PH_FRAMING_MESSAGE), 0); /* -EMFILE rather than that one */
	receive_ends(file, -ECANCELED);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	next = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &other);
	assert_int_equal(slot_id_slot(next), slot);
	assert_int_equal(slot_id_generation(next), slot_id_generation(id) + 1);
	cancel_answers(-ENOENT); /* the old life's, as late as can be */
	harness_turns(&it, 2);
	assert_int_equal(harness_conn(&it, next)->state, CONN_OPEN);
	assert_int_equal(harness_conn(&it, next)->ops[OP_RECV], 1);
	assert_int_equal(harness_counter(&it, COUNTER_completions_stale), 1);
	script_hold(it.ring, 0);
}

/* libxev#233: a receive that has a cancel under way is not armed again under the same user_data before it has
 * ended, or the cancel would hit the younger one. */
static void no_receive_is_armed_under_a_cancel(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	uint64_t armed = script_queued_ever(it.ring, SCRIPT_RECV);

	(void)state;
	script_hold(it.ring, BIT(SCRIPT_CANCEL));
	for (int i = 0; i < 5; i++) {
		shard_self_set(NULL);
		assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
		shard_self_set(it.shard);
		harness_turn(&it);
		shard_self_set(NULL);
		assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
		shard_self_set(it.shard);
		harness_turn(&it);
	}
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_RECV), armed);
	assert_int_equal(script_count(it.ring, SCRIPT_CANCEL, SCRIPT_ANY_FILE), 1);
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_RECV), armed + 1);
	peer_says_message(&it, file, "on", 2);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
}

/* ---- buffers of operations in flight ------------------------------------------------------ */

/* photon#1270, tokio#8255, foyer#1286, commonware#3287: what a send points at stays, unchanged, until its own
 * completion, through abort, the peer's goodbye, an upgrade and the deadline (the ring compares the
 * bytes). A partial result counts exactly. */
static void send_buffers_outlive_the_close(void **state)
{
	static uint8_t much[20000];
	int32_t file;

	(void)state;
	memset(much, 'm', sizeof(much));
	for (int way = 0; way < 4; way++) {
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		const struct harness_peer *peer = harness_peer(&it, id);
		struct script_op *send;

		script_hold(it.ring, BIT(SCRIPT_SEND) | BIT(SCRIPT_DISCONNECT));
		assert_int_equal(harness_send(&it, id, much, sizeof(much)), 0);
		assert_int_equal(harness_send(&it, id, much, 100), 0);
		harness_turns(&it, 2);
		send = script_find(it.ring, SCRIPT_SEND, file);
		assert_non_null(send);
		if (way == 0)
			assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
		else if (way == 1)
			peer_says_disconnect(&it, file);
		else
			assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 2);
		if (way == 2)
			assert_int_equal(harness_close(&it, id, PH_ABORT), -EALREADY);
		if (way == 1 || way == 3)
			clock_script_advance_ms(6000);
		harness_turns(&it, 3);
		assert_int_equal(peer->closed, 0);
		assert_ptr_equal(script_find(it.ring, SCRIPT_SEND, file), send);
		assert_non_null(script_find(it.ring, SCRIPT_DISCONNECT, file));
		script_answer_sent(it.ring, send, 5000);
		script_hold(it.ring, 0);
		harness_turns(&it, 3);
		assert_int_equal(peer->closed, 1);
		/* Without TLS every byte is known; a message counts when its last byte has gone. */
		assert_true(peer->receipt.bytes_sent <= 5000);
		assert_int_equal(peer->receipt.bytes_sent + peer->receipt.bytes_dropped,
			peer->receipt.bytes_queued);
	}
}

/* dragonfly#6466: a TLS object is not destroyed while its connection has operations pending. */
static void tls_outlives_what_is_pending(void **state)
{
	int32_t file;
	uint64_t id = harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);

	(void)state;
	script_hold(it.ring, BIT(SCRIPT_SEND));
	harness_turns(&it, 5);
	file = script_file_newest(it.ring);
	assert_int_equal(harness_conn(&it, id)->state, CONN_HANDSHAKE);
	assert_int_equal(harness_conn(&it, id)->ops[OP_SEND], 1);
	script_hold(it.ring, BIT(SCRIPT_SEND) | BIT(SCRIPT_RECV) | BIT(SCRIPT_DISCONNECT));
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CLOSING);
	receive_ends(file, 1); /* garbage, from a peer that has not heard of it */
	harness_turns(&it, 2);
	assert_non_null(harness_conn(&it, id)->tls);
	assert_int_equal(harness_peer(&it, id)->closed, 0);
	script_answer(it.ring, script_find(it.ring, SCRIPT_SEND, file), -EPIPE);
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_null(harness_conn(&it, id)->tls);
}

/* ---- receiving ---------------------------------------------------------------------------- */

/* liburing#778, liburing#1275, #688, ioxide#93: -ENOBUFS out of the blue is no end: the connection reads on. */
static void no_buffers_is_no_end(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	for (uint32_t i = 1; i <= 5; i++) {
		script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), -ENOBUFS);
		harness_turns(&it, 2);
		assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 1);
		assert_true(script_find(it.ring, SCRIPT_RECV, file)->poll_first);
		peer_says_message(&it, file, "still here", 10);
		harness_turns(&it, 2);
		assert_int_equal(harness_peer(&it, id)->messages, i);
	}
	assert_int_equal(harness_peer(&it, id)->closed, 0);
}

/* liburing#1549: a multishot receive that ends with data and says nothing of the end of the stream: the one that
 * is armed next tells it. */
static void end_of_stream_that_comes_later(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_hold(it.ring, BIT(SCRIPT_RECV));
	assert_true(script_answer_data(it.ring, script_find(it.ring, SCRIPT_RECV, file), message,
		peer_message(message, "last", 4), false));
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 1);
	script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), 0);
	script_hold(it.ring, 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_REMOTE_TRUNCATED);
}

/* ---- accepting ---------------------------------------------------------------------------- */

/* liburing#1062: an accept gives a descriptor that is none: every operation on it fails, its close too. */
static void accepted_file_is_bogus(void **state)
{
	int32_t file;
	uint64_t id;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_hold(it.ring,
		BIT(SCRIPT_RECV) | BIT(SCRIPT_NAME) | BIT(SCRIPT_DISCONNECT) | BIT(SCRIPT_CLOSE));
	file = harness_accept(&it);
	id = harness_newest_id(&it);
	script_answer(it.ring, script_find(it.ring, SCRIPT_NAME, file), -EBADF);
	harness_turns(&it, 2);
	script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), -EBADF);
	harness_turns(&it, 2);
	script_answer(it.ring, script_find(it.ring, SCRIPT_DISCONNECT, file), -EBADF);
	script_answer(it.ring, script_find(it.ring, SCRIPT_CLOSE, file), -EBADF);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->opened, 0);
	script_hold(it.ring, 0);
	assert_true(harness_accept(&it) >= 0); /* and the listener goes on */
}

/* occlum/ngo#62 to #64: the cancel of an accept gets lost: here for want of a submission entry. The listener
 * must end all the same, and its socket be given back. */
static void cancel_of_an_accept_is_lost(void **state)
{
	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_set_entries(it.ring, 0, true);
	assert_int_equal(ph_listen_end(&it.hub, it.listener), 0); /* as in a callback: no waiting */
	harness_turns(&it, 3);
	assert_true(it.shard->listeners[it.listener].used);
	script_set_entries(it.ring, 1024, false);
	harness_turns(&it, 1);
	clock_script_advance_ms(101);
	harness_turns(&it, 4);
	assert_false(it.shard->listeners[it.listener].used);
	assert_int_equal(it.shard->listeners[it.listener].fd, -1);
}

/* A connection that is accepted after its listener's end was asked for is closed, not kept. */
static void accept_comes_after_the_end(void **state)
{
	int32_t file;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_hold(it.ring, BIT(SCRIPT_CANCEL));
	assert_int_equal(ph_listen_end(&it.hub, it.listener), 0);
	harness_turns(&it, 2);
	file = script_answer_accept(
		it.ring, script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd), true);
	harness_turns(&it, 2);
	assert_true(script_is_closed(it.ring, file));
	assert_int_equal(atomic_load(&it.shard->live), 0);
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	assert_false(it.shard->listeners[it.listener].used);
}

/* ---- connecting --------------------------------------------------------------------------- */

/* seastar#2302, seastar#1633: a connect that hangs is ended by a close, at once, whatever answers come and
 * in which order: the connect's own, the disconnect's, both. */
static void connect_is_ended_by_a_close(void **state)
{
	static const int32_t answers[] = {-ECONNRESET, -ECANCELED, 0, -ETIMEDOUT};

	(void)state;
	for (int i = 0; i < 8; i++) {
		uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
		int32_t file;

		script_hold(it.ring, BIT(SCRIPT_CONNECT) | BIT(SCRIPT_DISCONNECT));
		harness_turns(&it, 4);
		file = script_file_newest(it.ring);
		assert_int_equal(harness_conn(&it, id)->state, CONN_CONNECTING);
		assert_int_equal(harness_close(&it, id, i & 1 ? PH_ABORT : PH_GRACEFUL), 0);
		harness_turns(&it, 2);
		assert_non_null(script_find(it.ring, SCRIPT_DISCONNECT, file));
		assert_int_equal(harness_peer(&it, id)->closed, 0);
		script_answer(it.ring, script_find(it.ring, SCRIPT_CONNECT, file), answers[i / 2]);
		harness_turns(&it, 2);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
		assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_LOCAL);
		script_hold(it.ring, 0);
		harness_turns(&it, 1);
	}
	assert_int_equal(harness_counter(&it, COUNTER_close_resubmits), 0);
}

/* ---- the waker ---------------------------------------------------------------------------- */

/* netty#10615: a waker that is closed with its loop while others still write to its number. Ours lives on: the
 * next hub has the same one, and calls on ids of the old hub go nowhere. */
static void waker_outlives_its_hub(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	const struct home *home = it.shard->home;
	int waker = home->mailbox.waker;

	(void)state;
	for (int i = 0; i < 3; i++) {
		harness_end(&it);
		assert_int_equal(ph_close(id, HARNESS_TAG, PH_ABORT, 0, NULL), -ENOENT);
		assert_int_equal(harness_send_inside(id, "x", 1), -ENOENT);
		assert_int_equal(ph_pause(id, HARNESS_TAG), -ENOENT);
		harness_begin(&it);
		assert_ptr_equal(it.shard->home, home);
		assert_int_equal(home->mailbox.waker, waker);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), -ENOENT);
		id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(cancel_in_every_order),
		CASE(close_does_not_end_a_receive),
		CASE(nobody_gets_a_slot_that_lingers),
		CASE(no_receive_is_armed_under_a_cancel),
		CASE(send_buffers_outlive_the_close),
		CASE(tls_outlives_what_is_pending),
		CASE(no_buffers_is_no_end),
		CASE(end_of_stream_that_comes_later),
		CASE(accepted_file_is_bogus),
		CASE(cancel_of_an_accept_is_lost),
		CASE(accept_comes_after_the_end),
		CASE(connect_is_ended_by_a_close),
		CASE(waker_outlives_its_hub),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
