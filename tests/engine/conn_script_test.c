/*
 * Connections on the scripted ring: every state, every order of completions, every shortage. The
 * harness checks for all of them that on_closed comes exactly once and last, that the kernel holds nothing
 * by then, and at its end that no file, buffer or block is left.
 */

#include "engine/wire.h"
#include "tests/engine/harness_tls.h"

/* ---- ways to be open ---------------------------------------------------------------------- */

/* A dialled connection: greeting out, WELCOME in, data both ways, and the peer's goodbye. */
static void dialled_talks_and_ends_by_the_peer(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	struct harness_peer *peer = harness_peer(&it, id);

	(void)state;
	assert_int_equal(peer_heard(&it, file, WIRE_AUTH_INFO), 1);
	assert_int_equal(peer_heard(&it, file, WIRE_CONNECT), 1);
	assert_int_equal(harness_send(&it, id, "hello", 5), 0);
	peer_says_message(&it, file, "there", 5);
	harness_turns(&it, 3);
	assert_int_equal(peer_heard(&it, file, WIRE_PT2PT), 1);
	assert_int_equal(peer->messages, 1);
	assert_memory_equal(peer->data, "there", 5);
	peer_says_disconnect(&it, file);
	harness_turns(&it, 4);
	assert_int_equal(peer->closed, 1);
	assert_int_equal(peer->receipt.reason, PH_REASON_REMOTE_CLOSE);
	assert_int_equal(peer->receipt.side, PH_SIDE_REMOTE);
	assert_int_equal(peer->receipt.how, PH_GRACEFUL);
	assert_int_equal(peer->receipt.messages_sent, 1);
	assert_int_equal(peer->receipt.messages_received, 1);
	assert_true(script_is_closed(it.ring, file));
	assert_int_equal(harness_close(&it, id, PH_ABORT), -ENOENT);
}

static void accepted_talks_and_closes(void **state)
{
	int32_t file;
	uint64_t id = harness_open_accepted(&it, PH_FRAMING_MESSAGE, &file);
	struct harness_peer *peer = harness_peer(&it, id);

	(void)state;
	assert_true(peer->accepted);
	assert_int_equal(peer_heard(&it, file, WIRE_WELCOME), 1);
	assert_int_equal(harness_send(&it, id, "last", 4), 0);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), -ENOENT);
	assert_int_equal(harness_send(&it, id, "late", 4), -ENOENT);
	harness_turns(&it, 3);
	assert_int_equal(peer_heard(&it, file, WIRE_PT2PT), 1);
	assert_int_equal(peer_heard(&it, file, WIRE_DISCONNECT), 1);
	assert_int_equal(peer->closed, 0);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(peer->closed, 1);
	assert_int_equal(peer->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(peer->receipt.side, PH_SIDE_LOCAL);
	assert_int_equal(peer->receipt.how, PH_GRACEFUL);
	assert_false(script_was_reset(it.ring, file));
}

static void raw_talks_and_aborts(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);
	struct harness_peer *peer = harness_peer(&it, id);

	(void)state;
	script_peer_data(it.ring, file, "bytes", 5);
	assert_int_equal(harness_send(&it, id, "stream", 6), 0);
	harness_turns(&it, 3);
	assert_memory_equal(peer->data, "bytes", 5);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 4);
	assert_int_equal(peer->closed, 1);
	assert_int_equal(peer->receipt.reason, PH_REASON_LOCAL_ABORT);
	assert_int_equal(peer->receipt.how, PH_ABORT);
	assert_true(script_was_reset(it.ring, file));
}

/* Closed before the shard has heard of it: no socket is ever made. */
static void close_before_dial(void **state)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	(void)state;
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SOCKET), 0);
}

/* The socket comes after the close: it is closed, unused. */
static void close_while_socket_is_pending(void **state)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
	struct script_op *op;

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_SOCKET);
	harness_turns(&it, 2);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 0);
	op = script_find(it.ring, SCRIPT_SOCKET, SCRIPT_ANY_FILE);
	script_answer_natural(it.ring, op);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_CONNECT), 0);
}

/* ---- who ends it ------------------------------------------------------------------------- */

/* The peer's end waits in the queue when ph_close comes: the call was first. */
static void close_before_a_remote_end_is_seen(void **state)
{
	static const int32_t ends[] = {0, -ECONNRESET};
	int32_t file;

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		struct harness_peer *peer = harness_peer(&it, id);

		script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), ends[i]);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 5);
		assert_int_equal(peer->closed, 1);
		assert_int_equal(peer->receipt.reason, PH_REASON_LOCAL_CLOSE);
		assert_int_equal(peer->receipt.side, PH_SIDE_LOCAL);
		assert_int_equal(peer->receipt.how, ends[i] < 0 ? PH_ABORT : PH_GRACEFUL);
		assert_int_equal(peer->receipt.error, ends[i]);
	}
}

/* Once the owner has seen the peer's end, every call is too late. */
static void close_after_a_remote_end_is_seen(void **state)
{
	static const struct {
		int32_t end;
		uint32_t reason;
		enum ph_how how;
	} ends[] = {
		{0, PH_REASON_REMOTE_TRUNCATED, PH_GRACEFUL},
		{-ECONNRESET, PH_REASON_REMOTE_RESET, PH_ABORT},
		{-EPIPE, PH_REASON_REMOTE_RESET, PH_ABORT},
		{-ETIMEDOUT, PH_REASON_TRANSPORT_ERROR, PH_ABORT},
	};
	int32_t file;

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		uint64_t id = harness_open_accepted(&it, PH_FRAMING_MESSAGE, &file);
		struct harness_peer *peer = harness_peer(&it, id);

		script_hold(it.ring, 1u << SCRIPT_CANCEL | 1u << SCRIPT_SEND);
		script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), ends[i].end);
		harness_turn(&it);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), -ENOENT);
		assert_int_equal(harness_close(&it, id, PH_ABORT), -ENOENT);
		script_hold(it.ring, 0);
		harness_turns(&it, 4);
		assert_int_equal(peer->closed, 1);
		assert_int_equal(peer->receipt.reason, ends[i].reason);
		assert_int_equal(peer->receipt.how, ends[i].how);
		assert_int_equal(peer->receipt.error, ends[i].end);
	}
}

/*
 * A raw stream's bare end while a send is in flight: the end of the peer's stream, unless that send turns out
 * to have taken a reset from the socket, whose completion came behind. Found by the simulator.
 */
static void raw_end_behind_a_reset_that_a_send_took(void **state)
{
	static const struct {
		int32_t sent;
		uint32_t reason;
		enum ph_how how;
		int32_t error;
	} ends[] = {
		{4, PH_REASON_REMOTE_CLOSE, PH_GRACEFUL, 0},
		{-ECONNRESET, PH_REASON_REMOTE_RESET, PH_ABORT, -ECONNRESET},
	};
	int32_t file;

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		uint64_t id = harness_open_accepted(&it, PH_FRAMING_RAW, &file);
		struct harness_peer *peer = harness_peer(&it, id);
		struct script_op *sending;

		script_hold(it.ring, 1u << SCRIPT_SEND);
		assert_int_equal(harness_send(&it, id, "four", 4), 0);
		harness_turns(&it, 2);
		sending = script_find(it.ring, SCRIPT_SEND, file);
		assert_non_null(sending);
		script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), 0);
		harness_turns(&it, 2);
		assert_int_equal(peer->closed, 0);
		script_answer(it.ring, sending, ends[i].sent);
		script_hold(it.ring, 0);
		harness_turns(&it, 4);
		assert_int_equal(peer->closed, 1);
		assert_int_equal(peer->receipt.reason, ends[i].reason);
		assert_int_equal(peer->receipt.side, PH_SIDE_REMOTE);
		assert_int_equal(peer->receipt.how, ends[i].how);
		assert_int_equal(peer->receipt.error, ends[i].error);
	}
}

static void close_it(struct harness *harness, uint64_t id)
{
	static uint64_t last;

	(void)harness;
	assert_int_equal(ph_close(id, HARNESS_TAG, PH_GRACEFUL, 0, NULL), last == id ? -ENOENT : 0);
	last = id;
}

static void abort_it(struct harness *harness, uint64_t id)
{
	(void)harness;
	(void)ph_close(id, HARNESS_TAG, PH_ABORT, 1700, "inside");
}

/* Message, goodbye and end of stream come in one turn; the close is made inside on_data. It was first, and
 * nothing more is delivered. */
static void close_inside_on_data_before_the_goodbye(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	struct harness_peer *peer = harness_peer(&it, id);

	(void)state;
	it.in_data = close_it;
	peer_says_message(&it, file, "one", 3);
	peer_says_message(&it, file, "two", 3);
	peer_says_disconnect(&it, file);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 6);
	assert_int_equal(peer->messages, 1);
	assert_int_equal(peer->closed, 1);
	assert_int_equal(peer->receipt.side, PH_SIDE_LOCAL);
	assert_int_equal(peer->receipt.reason, PH_REASON_LOCAL_CLOSE);
}

static void abort_inside_every_callback(void **state)
{
	int32_t file;
	uint64_t id;

	(void)state;
	it.in_open = abort_it;
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	harness_turns(&it, 5);
	file = harness_conn(&it, id)->file;
	peer_says_welcome(&it, file);
	harness_turns(&it, 5);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, 1700);
	assert_int_equal(harness_peer(&it, id)->receipt.was_open, 1);
	assert_string_equal(harness_peer(&it, id)->receipt.text, "inside");
	it.in_open = NULL;
	it.in_verify = abort_it; /* the tag is not its own yet: the listener's */
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	for (int i = 0; i < 2; i++) {
		file = harness_accept(&it);
		id = harness_newest_id(&it);
		peer_says_auth_info(&it, file);
		peer_says_connect(&it, file);
		harness_turns(&it, 5);
		assert_int_equal(harness_peer(&it, id)->opened, 0);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, 1700);
		assert_int_equal(peer_heard(&it, file, WIRE_WELCOME), 0);
		it.in_verify = NULL;
		it.in_connect = abort_it;
	}
	it.in_connect = NULL;
	it.in_closed = abort_it; /* too late: the answer is -ENOENT, and nothing follows */
	id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 5);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
}

/* A close inside on_connect wins over the opening. What the peer says until the mail arrives, a second
 * CONNECT too, is not looked at. */
static void close_inside_on_connect_and_the_peer_goes_on(void **state)
{
	int32_t file;
	uint64_t id;

	(void)state;
	it.in_connect = close_it;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	file = harness_accept(&it);
	id = harness_newest_id(&it);
	peer_says_auth_info(&it, file);
	peer_says_connect(&it, file);
	peer_says_connect(&it, file);
	peer_says_message(&it, file, "early", 5);
	harness_turns(&it, 6);
	assert_int_equal(harness_peer(&it, id)->opened, 0);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(harness_peer(&it, id)->receipt.time_open_ns, 0); /* it never was */
	assert_int_equal(peer_heard(&it, file, WIRE_WELCOME), 0);
}

/* The same at the opener: WELCOME comes twice while the close is under way. */
static void close_meets_two_welcomes(void **state)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
	int32_t file;

	(void)state;
	harness_turns(&it, 5);
	file = harness_conn(&it, id)->file;
	script_hold(it.ring, 1u << SCRIPT_RECV);
	peer_says_welcome(&it, file);
	peer_says_welcome(&it, file);
	peer_says_message(&it, file, "early", 5);
	/* Between the turn's mail and its input, as from another thread: inside another connection's
	 * callback. */
	for (int i = 0; i < 1; i++) {
		int32_t other_file;
		uint64_t other = harness_open_dialled(&it, PH_FRAMING_RAW, &other_file);

		(void)other;
		script_hold(it.ring, 0);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	}
	harness_turns(&it, 4);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->opened, 0);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
	assert_int_equal(peer_heard(&it, file, WIRE_DISCONNECT), 1);
}

static void upgrade_keeps_the_first_reason(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	assert_int_equal(harness_close_text(&it, id, PH_GRACEFUL, 1234, "first"), 0);
	assert_int_equal(harness_close_text(&it, id, PH_ABORT, 1235, "second"), -EALREADY);
	assert_int_equal(harness_close_text(&it, id, PH_ABORT, 1236, "third"), -ENOENT);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, 1234);
	assert_string_equal(harness_peer(&it, id)->receipt.text, "first");
	assert_int_equal(harness_peer(&it, id)->receipt.how, PH_ABORT);
	/* Without reasons too, however early the owner hears of it. */
	for (int turns = 0; turns < 3; turns++) {
		id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, (uint32_t)turns);
		assert_int_equal(harness_close(&it, id, PH_ABORT), -EALREADY);
		harness_turns(&it, 4);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
		assert_int_equal(harness_peer(&it, id)->receipt.how, PH_ABORT);
	}
}

/* A reason of the application goes to the peer as a NOTICE, and the peer's comes to us. */
static void reasons_travel(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	uint8_t message[HARNESS_MESSAGE_MAX];

	(void)state;
	assert_int_equal(harness_close_text(&it, id, PH_GRACEFUL, 1234, "bad \xff text"), 0);
	harness_turns(&it, 3);
	assert_int_equal(peer_heard(&it, file, WIRE_NOTICE), 1);
	assert_int_equal(peer_heard(&it, file, WIRE_DISCONNECT), 1);
	script_peer_data(it.ring, file, message, peer_notice(message, 2001, "so am I"));
	peer_says_disconnect(&it, file);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, 1234);
	assert_int_equal(harness_peer(&it, id)->receipt.peer_reason, 2001);
	assert_string_equal(harness_peer(&it, id)->receipt.peer_text, "so am I");
}

/* All that came before a remote end is delivered before on_closed. */
static void data_before_a_remote_end_is_delivered(void **state)
{
	int32_t file;
	uint64_t id;

	(void)state;
	for (int i = 0; i < 3; i++) {
		id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		peer_says_message(&it, file, "first", 5);
		peer_says_message(&it, file, "last", 4);
		if (i == 0)
			peer_says_disconnect(&it, file);
		script_peer_end(it.ring, file, i == 2 ? -ECONNRESET : 0);
		harness_turns(&it, 6);
		assert_int_equal(harness_peer(&it, id)->messages, 2);
		assert_memory_equal(harness_peer(&it, id)->data, "firstlast", 9);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_REMOTE);
	}
}

/* A send that meets the end first does not hide what the peer said before. */
static void send_fails_while_input_waits(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_SEND | 1u << SCRIPT_RECV);
	assert_int_equal(harness_send(&it, id, "x", 1), 0);
	harness_turns(&it, 2);
	peer_says_message(&it, file, "goodbye", 7);
	script_peer_end(it.ring, file, 0);
	script_answer(it.ring, script_find(it.ring, SCRIPT_SEND, file), -EPIPE);
	harness_turn(&it);
	assert_int_equal(harness_peer(&it, id)->closed, 0);
	script_hold(it.ring, 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_REMOTE_RESET);
	assert_int_equal(harness_peer(&it, id)->receipt.error, -EPIPE);
	assert_int_equal(harness_peer(&it, id)->receipt.bytes_dropped, WIRE_PT2PT_BYTES + 1);
}

/* ---- time --------------------------------------------------------------------------------- */

static void graceful_close_has_a_deadline(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 4);
	clock_script_advance_ms(4990);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 0);
	clock_script_advance_ms(20);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(harness_peer(&it, id)->receipt.how, PH_ABORT);
	assert_int_equal(harness_counter(&it, COUNTER_closes_deadline), 1);
	assert_true(script_was_reset(it.ring, file));
}

/* An operation that does not end is asked for again, and again, and counted. */
static void watchdog_asks_again(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_CANCEL | 1u << SCRIPT_DISCONNECT | 1u << SCRIPT_RECV);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 2);
	for (uint32_t i = 1; i <= 3; i++) {
		clock_script_advance_ms(1010);
		harness_turns(&it, 2);
		assert_int_equal(harness_counter(&it, COUNTER_close_resubmits), i);
		assert_int_equal(script_count(it.ring, SCRIPT_CANCEL, SCRIPT_ANY_FILE), i);
	}
	assert_int_equal(harness_peer(&it, id)->closed, 0);
	script_hold(it.ring, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_true(harness_counter(&it, COUNTER_cancel_none) > 0);
}

/* Nothing is heard: dead. But who does not read cannot hear. */
static void pings_and_silence(void **state)
{
	int32_t file, paused_file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	uint64_t paused = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &paused_file);
	uint64_t raw = harness_open_dialled(&it, PH_FRAMING_RAW, &file);

	(void)state;
	assert_int_equal(ph_pause(paused, HARNESS_TAG), 0);
	harness_turns(&it, 2);
	for (int i = 0; i < 5; i++) {
		clock_script_advance_ms(30001);
		harness_turns(&it, 2);
	}
	assert_true(harness_counter(&it, COUNTER_pings_sent) >= 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_DEAD);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, paused)->closed, 0);
	assert_int_equal(harness_peer(&it, raw)->closed, 0);
}

static void openings_have_deadlines(void **state)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	clock_script_advance_ms(20010);
	harness_turns(&it, 3);
	assert_int_equal(
		harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_CONNECT_TIMEOUT);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
	script_hold(it.ring, 0);
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	harness_turns(&it, 6);
	clock_script_advance_ms(60010);
	harness_turns(&it, 3);
	assert_int_equal(
		harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_WELCOME_TIMEOUT);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	(void)harness_accept(&it);
	id = harness_newest_id(&it);
	harness_turns(&it, 2);
	clock_script_advance_ms(20010);
	harness_turns(&it, 3);
	assert_int_equal(
		harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	(void)harness_accept(&it);
	id = harness_newest_id(&it);
	clock_script_advance_ms(20010);
	harness_turns(&it, 3);
	assert_int_equal(
		harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT);
	assert_int_equal(harness_counter(&it, COUNTER_handshakes_timed_out), 2);
}

static void connect_is_refused(void **state)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	script_answer(
		it.ring, script_find(it.ring, SCRIPT_CONNECT, SCRIPT_ANY_FILE), -ECONNREFUSED);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_CONNECT);
	assert_int_equal(harness_peer(&it, id)->receipt.error, -ECONNREFUSED);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
	script_hold(it.ring, 1u << SCRIPT_SOCKET);
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	harness_turns(&it, 2);
	script_answer(it.ring, script_find(it.ring, SCRIPT_SOCKET, SCRIPT_ANY_FILE), -ENFILE);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.error, -ENFILE);
	assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_ENGINE);
}

/* ---- other lives --------------------------------------------------------------------------- */

/* A silent operation that fails after its connection has gone meets another life of the slot. */
static void late_completion_of_an_old_generation(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	uint32_t slot = slot_id_slot(id), generation = slot_id_generation(id);
	uint64_t next;

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_CLOSE);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	script_answer(it.ring, script_find(it.ring, SCRIPT_CLOSE, file), -EIO);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_completions_stale), 1);
	script_hold(it.ring, 0);
	/* All slots once around: the same slot lives again. */
	do {
		next = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		if (slot_id_slot(next) != slot) {
			assert_int_equal(harness_close(&it, next, PH_ABORT), 0);
			harness_turns(&it, 3);
		}
	} while (slot_id_slot(next) != slot);
	assert_int_equal(slot_id_generation(next), generation + 1);
	script_stray(it.ring, op_data(OP_CANCEL, slot, generation), -EALREADY, false);
	script_stray(it.ring, op_data(OP_OPTION, slot, generation), -EINVAL, false);
	script_stray(it.ring, op_data(OP_CANCEL, 0xffffffu, 0), -ENOENT, false);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_completions_stale), 3);
	assert_int_equal(harness_peer(&it, next)->closed, 0);
	assert_int_equal(harness_close(&it, id, PH_ABORT), -ENOENT);
	assert_int_equal(harness_send(&it, id, "x", 1), -ENOENT);
	assert_int_equal(harness_conn(&it, next)->state, CONN_OPEN);
}

/* A slot at its last generation is never used again; what is left of the table goes on. */
static void generations_run_out(void **state)
{
	uint32_t slots = it.shard->slot_count, retired = 0, least = UINT32_MAX;
	uint64_t ids[128];
	int32_t file;

	(void)state;
	assert_true(slots <= 64);
	/* Those that lived least may live twice more, all others once: they wait in the queue already. */
	for (uint32_t i = 0; i < slots; i++) {
		uint32_t generation = slot_word_generation(atomic_load(&it.shard->slots[i].word));

		if (generation < least)
			least = generation;
	}
	it.shard->home->table.generation_last = least + 1;
	for (uint32_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		ids[i] = harness_dial(&it, PH_FRAMING_RAW);
		if (ids[i] == 0)
			break;
		retired = i + 1;
		harness_turns(&it, 5);
		file = harness_conn(&it, ids[i])->file;
		assert_int_equal(harness_close(&it, ids[i], PH_ABORT), 0);
		harness_turns(&it, 3);
		assert_int_equal(harness_peer(&it, ids[i])->closed, 1);
		assert_true(script_is_closed(it.ring, file));
	}
	assert_in_range(retired, slots, 2 * slots);
	assert_int_equal(it.shard->slots_usable, 0);
	assert_int_equal(harness_counter(&it, COUNTER_slots_retired), slots);
	for (uint32_t i = 0; i < retired; i++) {
		assert_int_equal(harness_close(&it, ids[i], PH_ABORT), -ENOENT);
		for (uint32_t j = 0; j < i; j++)
			assert_true(ids[i] != ids[j]);
	}
}

static void ids_that_never_were(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	uint64_t strangers[] = {0, 1, UINT64_MAX, id + (1ull << 32), id - (1ull << 32),
		id | 0xff000000u, id | 0xffffffu};

	(void)state;
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		assert_int_equal(harness_close(&it, strangers[i], PH_ABORT), -ENOENT);
		assert_int_equal(
			harness_close_text(&it, strangers[i], PH_GRACEFUL, 1, "x"), -ENOENT);
		assert_int_equal(harness_send(&it, strangers[i], "x", 1), -ENOENT);
		assert_int_equal(ph_pause(strangers[i], HARNESS_TAG), -ENOENT);
		assert_int_equal(ph_resume(strangers[i], HARNESS_TAG), -ENOENT);
	}
	/* The right id under another tag is as unknown. */
	assert_int_equal(ph_close(id, HARNESS_TAG + 1, PH_ABORT, 0, NULL), -ENOENT);
	assert_int_equal(ph_close(id, HARNESS_TAG + 1, PH_ABORT, 7, "x"), -ENOENT);
	assert_int_equal(ph_pause(id, HARNESS_TAG + 1), -ENOENT);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->closed, 0);
}

/* ---- over TLS ------------------------------------------------------------------------------ */

/* Both ends on one shard, their files paired. */
static void tls_pair(uint64_t *dialled, uint64_t *accepted, int32_t *dialled_file)
{
	int32_t accepted_file;

	it.hello = credentials;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	*dialled = harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);
	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	*dialled_file = harness_conn(&it, *dialled)->file;
	accepted_file = harness_accept(&it);
	*accepted = harness_newest_id(&it);
	script_pair(it.ring, *dialled_file, accepted_file);
	script_hold(it.ring, 0);
	harness_turns(&it, 16);
	assert_int_equal(harness_peer(&it, *dialled)->opened, 1);
	assert_int_equal(harness_peer(&it, *accepted)->opened, 1);
}

static void tls_both_ends_and_a_graceful_close(void **state)
{
	static uint8_t large[50000];
	uint64_t dialled, accepted;
	int32_t file;

	(void)state;
	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (uint8_t)(i * 7);
	tls_pair(&dialled, &accepted, &file);
	script_set_send_max(it.ring, 700);
	assert_int_equal(harness_send(&it, dialled, large, sizeof(large)), 0);
	assert_int_equal(harness_send(&it, dialled, "end", 3), 0);
	assert_int_equal(harness_close_text(&it, dialled, PH_GRACEFUL, 1234, "done"), 0);
	harness_turns(&it, 200);
	assert_int_equal(harness_peer(&it, accepted)->bytes, sizeof(large) + 3);
	assert_memory_equal(harness_peer(&it, accepted)->data, large, sizeof(large));
	assert_int_equal(harness_peer(&it, accepted)->receipt.reason, PH_REASON_REMOTE_CLOSE);
	assert_int_equal(harness_peer(&it, accepted)->receipt.peer_reason, 1234);
	assert_int_equal(harness_peer(&it, dialled)->receipt.reason, 1234);
	assert_int_equal(harness_peer(&it, dialled)->receipt.how, PH_GRACEFUL);
	assert_int_equal(harness_peer(&it, dialled)->receipt.bytes_dropped, 0);
	assert_int_equal(harness_counter(&it, COUNTER_protocol_errors), 0);
	assert_int_equal(harness_counter(&it, COUNTER_transport_errors), 0);
}

static void tls_abort_is_a_reset(void **state)
{
	uint64_t dialled, accepted;
	int32_t file;

	(void)state;
	tls_pair(&dialled, &accepted, &file);
	assert_int_equal(harness_close(&it, dialled, PH_ABORT), 0);
	harness_turns(&it, 6);
	assert_int_equal(harness_peer(&it, dialled)->receipt.how, PH_ABORT);
	assert_int_equal(harness_peer(&it, accepted)->receipt.reason, PH_REASON_REMOTE_RESET);
}

/* Both close at once: each is its own local close, both graceful. */
static void tls_both_close_at_once(void **state)
{
	uint64_t dialled, accepted;
	int32_t file;

	(void)state;
	tls_pair(&dialled, &accepted, &file);
	assert_int_equal(harness_close(&it, dialled, PH_GRACEFUL), 0);
	assert_int_equal(harness_close(&it, accepted, PH_GRACEFUL), 0);
	harness_turns(&it, 12);
	assert_int_equal(harness_peer(&it, dialled)->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(harness_peer(&it, accepted)->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(harness_peer(&it, dialled)->receipt.how, PH_GRACEFUL);
	assert_int_equal(harness_peer(&it, accepted)->receipt.how, PH_GRACEFUL);
}

static void tls_is_cut_without_a_goodbye(void **state)
{
	uint64_t dialled, accepted;
	int32_t file;

	(void)state;
	tls_pair(&dialled, &accepted, &file);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 6);
	assert_int_equal(harness_peer(&it, dialled)->receipt.reason, PH_REASON_REMOTE_TRUNCATED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(dialled_talks_and_ends_by_the_peer),
		CASE(accepted_talks_and_closes),
		CASE(raw_talks_and_aborts),
		CASE(close_before_dial),
		CASE(close_while_socket_is_pending),
		CASE(close_before_a_remote_end_is_seen),
		CASE(close_after_a_remote_end_is_seen),
		CASE(raw_end_behind_a_reset_that_a_send_took),
		CASE(close_inside_on_data_before_the_goodbye),
		CASE(abort_inside_every_callback),
		CASE(close_inside_on_connect_and_the_peer_goes_on),
		CASE(close_meets_two_welcomes),
		CASE(upgrade_keeps_the_first_reason),
		CASE(reasons_travel),
		CASE(data_before_a_remote_end_is_delivered),
		CASE(send_fails_while_input_waits),
		CASE(graceful_close_has_a_deadline),
		CASE(watchdog_asks_again),
		CASE(pings_and_silence),
		CASE(openings_have_deadlines),
		CASE(connect_is_refused),
		CASE(late_completion_of_an_old_generation),
		CASE(generations_run_out),
		CASE(ids_that_never_were),
		CASE(tls_both_ends_and_a_graceful_close),
		CASE(tls_abort_is_a_reset),
		CASE(tls_both_close_at_once),
		CASE(tls_is_cut_without_a_goodbye),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
