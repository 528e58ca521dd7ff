/*
 * Closing in every state of the drawing in engine/conn.h, by every call, against every order of
 * completions. First the kernel at its best, with the exact outcome of each (the table of
 * docs/close.md); then the same places with answers in a random order and of random kinds.
 */

#include "engine/wire.h"
#include "tests/engine/harness_tls.h"

/* A place where a close may find a connection, and what comes of it. */
struct place {
	const char *name;
	uint64_t (*go)(int32_t *file); /* the id, its file or -1 */
	int graceful, abort; /* what ph_close answers */
	enum ph_how how; /* a graceful one ends like this, the peer doing its part */
	enum ph_failure failure; /* when it was not open */
	uint32_t reason; /* 0: the close's own */
	enum ph_side side;
};

static uint64_t go_unborn(int32_t *file)
{
	*file = -1;
	return harness_dial(&it, PH_FRAMING_MESSAGE);
}

static uint64_t go_socket_pending(int32_t *file)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	script_hold(it.ring, 1u << SCRIPT_SOCKET);
	harness_turns(&it, 2);
	*file = -1;
	return id;
}

static uint64_t go_connect_pending(int32_t *file)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	*file = script_file_newest(it.ring);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CONNECTING);
	return id;
}

static uint64_t go_handshake_dialled(int32_t *file)
{
	uint64_t id = harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);

	harness_turns(&it, 5);
	*file = script_file_newest(it.ring);
	assert_int_equal(harness_conn(&it, id)->state, CONN_HANDSHAKE);
	return id;
}

static uint64_t go_handshake_hello_in_flight(int32_t *file)
{
	uint64_t id = harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);

	script_hold(it.ring, 1u << SCRIPT_SEND);
	harness_turns(&it, 5);
	*file = script_file_newest(it.ring);
	assert_int_equal(harness_conn(&it, id)->ops[OP_SEND], 1);
	return id;
}

static uint64_t go_handshake_accepted(int32_t *file)
{
	uint64_t id;

	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	script_hold(it.ring, 1u << SCRIPT_NAME);
	*file = harness_accept(&it);
	id = harness_newest_id(&it);
	assert_int_equal(harness_conn(&it, id)->state, CONN_HANDSHAKE);
	return id;
}

static uint64_t go_greeting_opener(int32_t *file)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	harness_turns(&it, 5);
	*file = script_file_newest(it.ring);
	assert_int_equal(harness_conn(&it, id)->state, CONN_GREETING);
	return id;
}

static uint64_t go_greeting_opener_sending(int32_t *file)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);

	script_hold(it.ring, 1u << SCRIPT_SEND);
	harness_turns(&it, 5);
	*file = script_file_newest(it.ring);
	assert_int_equal(harness_conn(&it, id)->ops[OP_SEND], 1);
	return id;
}

static uint64_t go_greeting_acceptor(int32_t *file)
{
	uint64_t id;

	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	*file = harness_accept(&it);
	id = harness_newest_id(&it);
	peer_says_auth_info(&it, *file);
	harness_turns(&it, 2);
	assert_int_equal(harness_conn(&it, id)->state, CONN_GREETING);
	return id;
}

static uint64_t go_open(int32_t *file)
{
	return harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);
}

static uint64_t go_open_accepted(int32_t *file)
{
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	return harness_open_accepted(&it, PH_FRAMING_MESSAGE, file);
}

static uint64_t go_open_sending(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_hold(it.ring, 1u << SCRIPT_SEND);
	assert_int_equal(harness_send(&it, id, "first", 5), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_send(&it, id, "second", 6), 0);
	assert_int_equal(harness_send(&it, id, "third", 5), 0);
	harness_turn(&it);
	assert_int_equal(harness_conn(&it, id)->ops[OP_SEND], 1);
	return id;
}

static uint64_t go_open_paused(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
	harness_turns(&it, 3);
	peer_says_message(&it, *file, "unread", 6);
	assert_int_equal(harness_conn(&it, id)->ops[OP_RECV], 0);
	return id;
}

static uint64_t go_open_blocked(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	it.data_status = -EAGAIN;
	peer_says_message(&it, *file, "refused", 7);
	harness_turns(&it, 3);
	assert_true(harness_conn(&it, id)->blocked);
	return id;
}

static uint64_t go_open_partial(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);
	uint8_t message[HARNESS_MESSAGE_MAX];

	script_peer_data(it.ring, *file, message, peer_message(message, "half a message", 14) - 7);
	harness_turns(&it, 2);
	assert_non_null(harness_conn(&it, id)->carry);
	return id;
}

static uint64_t go_open_raw(int32_t *file)
{
	return harness_open_dialled(&it, PH_FRAMING_RAW, file);
}

static uint64_t go_draining(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_hold(it.ring, 1u << SCRIPT_SEND);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_conn(&it, id)->state, CONN_DRAINING);
	assert_false(harness_conn(&it, id)->goodbye_done);
	return id;
}

static uint64_t go_draining_said(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_conn(&it, id)->state, CONN_DRAINING);
	assert_true(harness_conn(&it, id)->goodbye_done);
	return id;
}

static uint64_t go_draining_raw(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, file);

	script_hold(it.ring, 1u << SCRIPT_SHUTDOWN);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_conn(&it, id)->ops[OP_SHUTDOWN], 1);
	return id;
}

/* The engine ends it: a message that nobody knows. It says so, then waits for the peer's end. */
static uint64_t go_leaving_fault(int32_t *file)
{
	static const uint8_t unknown[8] = {0, 0, 0, 8, 0x10, 0x7f, 0, 0};
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_peer_data(it.ring, *file, unknown, sizeof(unknown));
	harness_turns(&it, 4);
	assert_int_equal(harness_conn(&it, id)->state, CONN_LEAVING);
	return id;
}

/* A raw peer has ended its side; ours is still owed. */
static uint64_t go_leaving_raw(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, file);

	script_hold(it.ring, 1u << SCRIPT_SEND);
	assert_int_equal(harness_send(&it, id, "owed", 4), 0);
	script_peer_end(it.ring, *file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_conn(&it, id)->state, CONN_LEAVING);
	return id;
}

static uint64_t go_closing_abort(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_hold(it.ring, 1u << SCRIPT_RECV | 1u << SCRIPT_DISCONNECT);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CLOSING);
	return id;
}

/* The goodbye is said and answered; only the cancel of the receive is still awaited. */
static uint64_t go_closing_graceful(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 3);
	peer_says_disconnect(&it, *file);
	harness_turns(&it, 2);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CLOSING);
	return id;
}

static uint64_t go_closing_remote(int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, file);

	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	peer_says_disconnect(&it, *file);
	harness_turns(&it, 3);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CLOSING);
	return id;
}

static const struct place places[] = {
	{"unborn", go_unborn, 0, 0, PH_ABORT, PH_FAILURE_CONNECT, 0, PH_SIDE_LOCAL},
	{"socket pending", go_socket_pending, 0, 0, PH_ABORT, PH_FAILURE_CONNECT, 0, PH_SIDE_LOCAL},
	{"connect pending", go_connect_pending, 0, 0, PH_ABORT, PH_FAILURE_CONNECT, 0,
		PH_SIDE_LOCAL},
	{"handshake, dialled", go_handshake_dialled, 0, 0, PH_ABORT, PH_FAILURE_CONNECT, 0,
		PH_SIDE_LOCAL},
	{"handshake, hello in flight", go_handshake_hello_in_flight, 0, 0, PH_ABORT,
		PH_FAILURE_CONNECT, 0, PH_SIDE_LOCAL},
	{"handshake, accepted", go_handshake_accepted, 0, 0, PH_ABORT, PH_FAILURE_CONNECT, 0,
		PH_SIDE_LOCAL},
	{"greeting, opener", go_greeting_opener, 0, 0, PH_GRACEFUL, PH_FAILURE_CONNECT, 0,
		PH_SIDE_LOCAL},
	{"greeting, opener sending", go_greeting_opener_sending, 0, 0, PH_GRACEFUL,
		PH_FAILURE_CONNECT, 0, PH_SIDE_LOCAL},
	{"greeting, acceptor", go_greeting_acceptor, 0, 0, PH_ABORT, PH_FAILURE_CONNECT, 0,
		PH_SIDE_LOCAL},
	{"open", go_open, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0, PH_SIDE_LOCAL},
	{"open, accepted", go_open_accepted, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0, PH_SIDE_LOCAL},
	{"open, sending", go_open_sending, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0, PH_SIDE_LOCAL},
	{"open, paused", go_open_paused, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0, PH_SIDE_LOCAL},
	{"open, blocked", go_open_blocked, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0, PH_SIDE_LOCAL},
	{"open, half a message", go_open_partial, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0,
		PH_SIDE_LOCAL},
	{"open, raw", go_open_raw, 0, 0, PH_GRACEFUL, PH_FAILURE_NONE, 0, PH_SIDE_LOCAL},
	{"draining", go_draining, -ENOENT, -EALREADY, PH_GRACEFUL, PH_FAILURE_NONE,
		PH_REASON_LOCAL_CLOSE, PH_SIDE_LOCAL},
	{"draining, goodbye said", go_draining_said, -ENOENT, -EALREADY, PH_GRACEFUL,
		PH_FAILURE_NONE, PH_REASON_LOCAL_CLOSE, PH_SIDE_LOCAL},
	{"draining, raw", go_draining_raw, -ENOENT, -EALREADY, PH_GRACEFUL, PH_FAILURE_NONE,
		PH_REASON_LOCAL_CLOSE, PH_SIDE_LOCAL},
	{"leaving, a fault", go_leaving_fault, -ENOENT, -ENOENT, PH_GRACEFUL, PH_FAILURE_NONE,
		PH_REASON_PROTOCOL_TYPE, PH_SIDE_ENGINE},
	{"leaving, raw", go_leaving_raw, -ENOENT, -ENOENT, PH_GRACEFUL, PH_FAILURE_NONE,
		PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE},
	{"closing, abort", go_closing_abort, -ENOENT, -ENOENT, PH_ABORT, PH_FAILURE_NONE,
		PH_REASON_LOCAL_ABORT, PH_SIDE_LOCAL},
	{"closing, graceful", go_closing_graceful, -ENOENT, -EALREADY, PH_GRACEFUL, PH_FAILURE_NONE,
		PH_REASON_LOCAL_CLOSE, PH_SIDE_LOCAL},
	{"closing, remote", go_closing_remote, -ENOENT, -ENOENT, PH_GRACEFUL, PH_FAILURE_NONE,
		PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE},
};
#define PLACES (sizeof(places) / sizeof(places[0]))

/* Its receipt, where `how` is how the close under test was asked for. */
static void check_end(const struct place *place, const struct harness_peer *peer, enum ph_how how,
	uint32_t reason, bool exact)
{
	const struct ph_receipt *receipt = &peer->receipt;
	int answer = how == PH_ABORT ? place->abort : place->graceful;

	assert_int_equal(peer->closed, 1);
	assert_int_equal(receipt->side, place->side);
	if (place->reason != 0)
		assert_int_equal(receipt->reason, place->reason);
	else if (reason != 0)
		assert_int_equal(receipt->reason, reason);
	else
		assert_int_equal(receipt->reason,
			how == PH_ABORT ? PH_REASON_LOCAL_ABORT : PH_REASON_LOCAL_CLOSE);
	assert_int_equal(receipt->was_open, place->failure == PH_FAILURE_NONE);
	assert_int_equal(receipt->failure, place->failure);
	if (!exact)
		return;
	/* An abort that was let in ends as one, except where a graceful end had already begun its last
	 * step: then there is nothing left to reset. */
	if (how == PH_ABORT && answer != -ENOENT && place->go != go_closing_graceful)
		assert_int_equal(receipt->how, PH_ABORT);
	else
		assert_int_equal(receipt->how, place->how);
}

static int close_under_test(uint64_t id, enum ph_how how, uint32_t reason)
{
	return harness_close_text(&it, id, how, reason, reason != 0 ? "because" : NULL);
}

static void check_answer(const struct place *place, uint64_t id, enum ph_how how, uint32_t reason)
{
	int answer = how == PH_ABORT ? place->abort : place->graceful;

	assert_int_equal(close_under_test(id, how, reason), answer);
	/* Whatever it was, it is decided: no other call wins, no send gets in. */
	assert_int_equal(close_under_test(id, PH_GRACEFUL, reason), -ENOENT);
	assert_int_equal(harness_send(&it, id, "x", 1), -ENOENT);
	assert_int_equal(ph_pause(id, HARNESS_TAG), -ENOENT);
}

/* ---- the kernel at its best ---------------------------------------------------------------- */

static void close_at_its_best(const struct place *place, enum ph_how how, uint32_t reason)
{
	int32_t file;
	uint64_t id = place->go(&file);
	struct harness_peer *peer = harness_peer(&it, id);
	uint32_t messages = peer->messages;
	size_t sent_before = 0, sent_after = 0;

	check_answer(place, id, how, reason);
	if (file >= 0)
		(void)script_sent(it.ring, file, &sent_before);
	script_hold(it.ring, 0);
	harness_turns(&it, 3);
	if (file >= 0 && peer->closed == 0) {
		/* Data that comes after the close is not delivered; the peer then does its part. */
		if (place->go != go_open_raw && place->go != go_draining_raw &&
			place->go != go_leaving_raw && place->go != go_open_partial)
			peer_says_message(&it, file, "too late", 8);
		script_peer_end(it.ring, file, 0);
	}
	harness_turns(&it, 6);
	check_end(place, peer, how, reason, true);
	assert_int_equal(peer->messages, messages);
	assert_int_equal(harness_conn(&it, id)->state, CONN_FREE);
	assert_int_equal(harness_counter(&it, COUNTER_close_resubmits), 0);
	if (file < 0)
		return;
	assert_true(script_is_closed(it.ring, file));
	assert_int_equal(script_was_reset(it.ring, file), peer->receipt.how == PH_ABORT);
	(void)script_sent(it.ring, file, &sent_after);
	if (how == PH_ABORT && place->abort == 0 && place->go != go_open_sending &&
		place->go != go_greeting_opener_sending &&
		place->go != go_handshake_hello_in_flight)
		assert_int_equal(sent_after, sent_before); /* nothing goes out after an abort */
}

static void close_everywhere_at_its_best(void **state)
{
	(void)state;
	for (size_t i = 0; i < PLACES; i++) {
		for (int variant = 0; variant < 4; variant++) {
			print_message("%s, %s%s\n", places[i].name,
				(variant & 1) ? "abort" : "graceful",
				(variant & 2) ? " with a reason" : "");
			close_at_its_best(&places[i], (variant & 1) ? PH_ABORT : PH_GRACEFUL,
				(variant & 2) ? 1234 : 0);
			case_again();
		}
	}
}

/* ---- any order ------------------------------------------------------------------------------ */

static uint64_t random_state;

static uint32_t random_below(uint32_t count)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 20) % count;
}

static void answer_recv(struct script_op *op)
{
	static const uint8_t unknown[8] = {0, 0, 0, 8, 0x10, 0x7f, 0, 0};
	uint8_t message[HARNESS_MESSAGE_MAX];

	switch (random_below(8)) {
	case 0:
		script_answer_data(it.ring, op, message, peer_message(message, "late", 4), true);
		break;
	case 1:
		script_answer_data(it.ring, op, message, peer_message(message, "last", 4), false);
		break;
	case 2:
		script_answer_data(it.ring, op, unknown, sizeof(unknown), random_below(2) == 0);
		break;
	case 3:
		script_answer_data(it.ring, op, message,
			peer_disconnect(message, WIRE_DISCONNECT_APPLICATION),
			random_below(2) == 0);
		break;
	case 4:
		script_answer(it.ring, op, -ECONNRESET);
		break;
	case 5:
		script_answer(it.ring, op, -ENOBUFS);
		break;
	default:
		script_answer(it.ring, op, 0);
		break;
	}
}

/* A cancel hits, in either order, or says that it is too late or that there is nothing. */
static void answer_cancel(struct script_op *op)
{
	struct script_op *target = script_find_data(it.ring, op->target);

	if (target == NULL || target == op) {
		script_answer(it.ring, op, -ENOENT);
		return;
	}
	switch (random_below(3)) {
	case 0:
		script_answer(it.ring, target, -ECANCELED);
		script_end_silent(it.ring, op);
		break;
	case 1:
		script_answer(it.ring, op, -EALREADY);
		script_answer(it.ring, target, target->kind == SCRIPT_SEND ? -EPIPE : -ECANCELED);
		break;
	default:
		script_answer(it.ring, target, -ECANCELED);
		script_answer(it.ring, op, -ENOENT);
		break;
	}
}

static void answer_any(struct script_op *op)
{
	static const int connects[] = {0, 0, -ECONNREFUSED, -ETIMEDOUT, -ECANCELED, -ECONNRESET};
	static const int sends[] = {-EPIPE, -ECONNRESET, -ECANCELED, -ENOBUFS};

	switch (op->kind) {
	case SCRIPT_SOCKET:
		if (random_below(3) == 0)
			script_answer(it.ring, op, -ENFILE);
		else
			script_answer_natural(it.ring, op);
		break;
	case SCRIPT_CONNECT:
		script_answer(it.ring, op, connects[random_below(6)]);
		break;
	case SCRIPT_RECV:
		answer_recv(op);
		break;
	case SCRIPT_SEND:
		if (random_below(4) == 0)
			script_answer(it.ring, op, sends[random_below(4)]);
		else
			script_answer_sent(it.ring, op, 1 + random_below((uint32_t)op->bytes));
		break;
	case SCRIPT_NAME:
		script_answer(it.ring, op, -ENOTCONN);
		break;
	case SCRIPT_UNSENT:
		script_answer(it.ring, op, random_below(2) ? -EINVAL : 3);
		break;
	case SCRIPT_CANCEL:
		answer_cancel(op);
		break;
	case SCRIPT_DISCONNECT:
		if (random_below(3) == 0)
			script_answer(it.ring, op, -EOPNOTSUPP); /* a kTLS socket */
		else
			script_answer_natural(it.ring, op);
		break;
	case SCRIPT_SHUTDOWN:
		script_answer(it.ring, op, random_below(2) ? -ENOTCONN : 0);
		break;
	case SCRIPT_CLOSE:
		if (random_below(8) == 0)
			script_answer(it.ring, op, -EIO);
		else
			script_end_silent(it.ring, op);
		break;
	default:
		break;
	}
}

/* Pick one of those that wait, answer it; false when none waits. */
static bool answer_one(void)
{
	struct script_op *op, *picked = NULL;
	uint32_t count = 0;

	for (op = script_walk(it.ring, NULL); op != NULL; op = script_walk(it.ring, op)) {
		if (!op->submitted || op->kind == SCRIPT_POLL || op->kind == SCRIPT_ACCEPT ||
			op->kind == SCRIPT_OPTION)
			continue;
		if (random_below(++count) == 0)
			picked = op;
	}
	if (picked == NULL)
		return false;
	answer_any(picked);
	return true;
}

static void close_in_any_order(const struct place *place, enum ph_how how, uint32_t reason)
{
	int32_t file;
	uint64_t id = place->go(&file);
	struct harness_peer *peer = harness_peer(&it, id);

	/* What the receive would give by itself must not come in between. */
	check_answer(place, id, how, reason);
	script_hold(it.ring, SCRIPT_ALL & ~(1u << SCRIPT_OPTION));
	for (int turn = 0; turn < 400 && peer->closed == 0; turn++) {
		uint32_t answers = random_below(4);

		while (answers-- > 0)
			(void)answer_one();
		clock_script_advance_ms(random_below(60));
		harness_turn(&it);
	}
	if (peer->closed == 0)
		shard_dump(it.shard, stderr);
	check_end(place, peer, how, reason, false);
	if (file >= 0)
		assert_true(script_is_closed(it.ring, file));
	/* What is silent and still under way is none of the next one's. */
	script_hold(it.ring, 0);
	it.data_status = 0;
	harness_turns(&it, 2);
}

static uint64_t seed_first = 1, seed_count = 12;

static void close_everywhere_in_any_order(void **state)
{
	(void)state;
	print_message("seeds %llu to %llu (--seed N runs one)\n", (unsigned long long)seed_first,
		(unsigned long long)(seed_first + seed_count - 1));
	for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
		for (size_t i = 0; i < PLACES; i++) {
			for (int variant = 0; variant < 4; variant++) {
				random_state = seed * 1000 + i * 4 + (uint64_t)variant + 1;
				if (seed_count == 1)
					print_message("%s, variant %d\n", places[i].name, variant);
				close_in_any_order(&places[i],
					(variant & 1) ? PH_ABORT : PH_GRACEFUL,
					(variant & 2) ? 1234 : 0);
			}
		}
		case_again();
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(close_everywhere_at_its_best),
		CASE(close_everywhere_in_any_order),
	};

	if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
		seed_first = strtoull(argv[2], NULL, 10);
		seed_count = 1;
	} else if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
		seed_count = strtoull(argv[2], NULL, 10);
	}
	return cmocka_run_group_tests(tests, group_begin, group_end);
}
