/*
 * Connections on the scripted ring: every state, every order of completions, every shortage. The
 * harness checks for all of them that on_closed comes exactly once and last, that the kernel holds nothing
 * by then, and at its end that no file, buffer or block is left.
 */
#include "tests/fake/harness_case.h"

#include "engine/wire.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(dialled_talks_and_ends_by_the_peer),
		CASE(accepted_talks_and_closes),
		CASE(raw_talks_and_aborts),
		CASE(close_before_dial),
		CASE(close_while_socket_is_pending),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
