/*
 * The rare turns of the close path: calls that come late and change nothing, ends that meet other ends, and
 * what a goodbye carries in each case. Some of these reach into the engine (engine/conn.h), because no
 * kernel would bring them about on purpose.
 */

#include "engine/memory.h"
#include "engine/wire.h"
#include "tests/engine/harness_tls.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

/* What ends a connection may be said again at any later time. */
static void late_endings_change_nothing(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	struct conn *conn = harness_conn(&it, id);

	(void)state;
	conn_on_peer_end(conn); /* open: not its time */
	conn_close_queue(conn);
	assert_int_equal(conn->state, CONN_OPEN);
	script_hold(it.ring, 1u << SCRIPT_RECV | 1u << SCRIPT_DISCONNECT);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(conn->state, i == 0 ? CONN_CLOSING : CONN_FREE);
		conn_fail(conn, PH_REASON_TRANSPORT_ERROR, -EIO, "late");
		conn_leave(conn, PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE, true, "late");
		conn_local_close(conn, SLOT_CLOSE | SLOT_ABORT);
		conn_close_queue(conn);
		conn_on_peer_end(conn);
		if (i == 0)
			conn_close_begin(conn, false);
		script_hold(it.ring, 0);
		harness_turns(&it, 3);
	}
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_ABORT);
	assert_int_equal(harness_peer(&it, id)->receipt.text[0], '\0');
}

/* A goodbye is done once; its shutdown is asked for once, however often the owner looks. */
static void goodbye_is_looked_at_again(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);
	struct slot *slot = conn_slot(harness_conn(&it, id));

	(void)state;
	/* Two readers are inside: their leaving mails the owner. */
	assert_true(slot_pin(slot, slot_id_generation(id)));
	assert_true(slot_pin(slot, slot_id_generation(id)));
	assert_true(slot_pin(slot, slot_id_generation(id)));
	script_hold(it.ring, 1u << SCRIPT_SHUTDOWN);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 3);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SHUTDOWN), 0); /* somebody is inside */
	for (int i = 0; i < 3; i++) {
		if (slot_unpin(slot))
			shard_post_slot(it.shard->home, slot);
		harness_turns(&it, 2);
	}
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SHUTDOWN), 1);
	/* Look again while it is under way, and after it. */
	conn_flush(harness_conn(&it, id));
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	conn_flush(harness_conn(&it, id));
	harness_turns(&it, 2);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SHUTDOWN), 1);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.how, PH_GRACEFUL);
}

/* The peer's end, or an abort, comes while our shutdown is with the kernel's worker, which finds the
 * descriptor only when it gets there: closed before, it would be another connection's. */
static void close_waits_for_the_shutdown(void **state)
{
	(void)state;
	for (int abort = 0; abort < 2; abort++) {
		int32_t file;
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);
		uint64_t closes = script_queued_ever(it.ring, SCRIPT_CLOSE);

		script_hold(it.ring, 1u << SCRIPT_SHUTDOWN);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 4);
		assert_int_equal(harness_conn(&it, id)->ops[OP_SHUTDOWN], 1);
		if (abort)
			assert_int_equal(harness_close(&it, id, PH_ABORT), -EALREADY);
		else
			script_peer_end(it.ring, file, 0);
		harness_turns(&it, 4);
		assert_int_equal(harness_conn(&it, id)->state, CONN_CLOSING);
		assert_int_equal(script_queued_ever(it.ring, SCRIPT_CLOSE), closes);
		assert_int_equal(harness_peer(&it, id)->closed, 0);
		script_hold(it.ring, 0);
		harness_turns(&it, 4);
		assert_int_equal(script_queued_ever(it.ring, SCRIPT_CLOSE), closes + 1);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
	}
}

/* The shutdown finds no submission entry: asked for again. */
static void goodbye_without_an_entry(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);

	(void)state;
	script_set_entries(it.ring, 0, true);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 3);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SHUTDOWN), 0);
	script_set_entries(it.ring, 1024, false);
	harness_turns(&it, 2);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SHUTDOWN), 1);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
}

/* A quiet end that meets a send in flight cancels it by its own name, with and without entries. */
static void quiet_close_with_a_send_in_flight(void **state)
{
	int32_t file;

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

		script_hold(it.ring, 1u << SCRIPT_SEND);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 2);
		assert_int_equal(harness_conn(&it, id)->ops[OP_SEND], 1);
		conn_close_begin(harness_conn(&it, id), false);
		script_set_entries(it.ring, (uint32_t)i, i < 2);
		harness_turns(&it, 2);
		script_set_entries(it.ring, 1024, false);
		harness_turns(&it, 4);
		script_hold(it.ring, 0);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_false(script_was_reset(it.ring, file));
	}
	assert_int_equal(harness_counter(&it, COUNTER_close_resubmits), 0);
}

/* The peer's goodbye crosses ours, so it proves nothing: what is acknowledged is asked of the kernel, and is
 * unknown where that cannot be asked. */
static void goodbyes_cross(void **state)
{
	int32_t file;

	(void)state;
	for (int i = 0; i < 3; i++) {
		uint64_t id;

		harness_end(&it);
		script_set_probe(0, i != 1, i != 2);
		harness_begin(&it);
		id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		assert_int_equal(harness_send(&it, id, "12345678", 8), 0);
		harness_turns(&it, 2);
		script_set_unsent(it.ring, file, 3);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 4);
		peer_says_disconnect(&it, file);
		harness_turns(&it, 4);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.bytes_sent, WIRE_PT2PT_BYTES + 8);
		assert_int_equal(harness_peer(&it, id)->receipt.bytes_acknowledged,
			i == 0 ? WIRE_PT2PT_BYTES + 8 - 3 : 0);
	}
	script_set_probe(0, true, true);
}

/* Two raw ends close their sides at once: a FIN that crosses ours is no receipt for what we sent. */
static void raw_ends_cross(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);

	(void)state;
	assert_int_equal(harness_send(&it, id, "12345678", 8), 0);
	harness_turns(&it, 2);
	script_set_unsent(it.ring, file, 8);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 6);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(harness_peer(&it, id)->receipt.bytes_sent, 8);
	assert_int_equal(harness_peer(&it, id)->receipt.bytes_acknowledged, 0);
}

/* The peer's FIN was there before our goodbye was: it answers nothing, so the kernel is asked. */
static void end_before_our_goodbye(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	assert_int_equal(harness_send(&it, id, "12345678", 8), 0);
	harness_turns(&it, 2);
	script_set_unsent(it.ring, file, WIRE_PT2PT_BYTES + 8);
	script_hold(it.ring, 1u << SCRIPT_SEND);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 2);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 2);
	script_answer_natural(it.ring, script_find(it.ring, SCRIPT_SEND, file));
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.how, PH_GRACEFUL);
	assert_int_equal(harness_peer(&it, id)->receipt.bytes_acknowledged, 0);
}

/* The kernel refuses the disconnect (kTLS): what is armed is cancelled one by one. */
static void disconnect_is_refused(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_DISCONNECT | 1u << SCRIPT_SEND);
	assert_int_equal(harness_send(&it, id, "x", 1), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 2);
	script_answer(it.ring, script_find(it.ring, SCRIPT_DISCONNECT, file), -EOPNOTSUPP);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_counter(&it, COUNTER_close_resubmits), 0);
	assert_true(script_is_closed(it.ring, file));
}

/* A stranger that was turned away may stay for the time-out of a close, and never over a second. */
static void strangers_do_not_linger(void **state)
{
	static const uint32_t timeouts[] = {5000, 500};
	struct ph_options options;

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t id;
		int32_t file;

		harness_end(&it);
		harness_options(&options);
		options.timeout_close_ms = timeouts[i];
		assert_int_equal(harness_start(&it, &options), 0);
		harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
		it.refuse = PH_REFUSE_BUSY;
		file = harness_accept(&it);
		id = harness_newest_id(&it);
		peer_says_auth_info(&it, file);
		peer_says_connect(&it, file);
		harness_turns(&it, 4);
		clock_script_advance_ms(i == 0 ? 995 : 495);
		harness_turns(&it, 2);
		assert_int_equal(harness_peer(&it, id)->closed, 0);
		clock_script_advance_ms(10);
		harness_turns(&it, 3);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_REFUSED);
	}
}

static uint8_t goodbye_of(int32_t file)
{
	size_t bytes;
	const uint8_t *sent = script_sent(it.ring, file, &bytes);
	struct wire_disconnect_message parsed;

	assert_true(bytes > 12);
	assert_int_equal(wire_disconnect_parse(sent + bytes - 12, 12, &parsed), 0);
	return parsed.reason;
}

/* A text of its own goes out even under the ordinary reason. A group's end and the hub's stop say that we
 * are leaving, not that the application closed. */
static void goodbyes_say_why(void **state)
{
	int32_t files[4];
	uint64_t ids[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		ids[i] = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &files[i]);
	assert_int_equal(harness_close_text(&it, ids[0], PH_GRACEFUL, 0, "bye"), 0);
	assert_int_equal(harness_close(&it, ids[1], PH_GRACEFUL), 0);
	harness_turns(&it, 3);
	assert_int_equal(peer_heard(&it, files[0], WIRE_NOTICE), 1);
	assert_int_equal(goodbye_of(files[0]), WIRE_DISCONNECT_APPLICATION);
	assert_int_equal(peer_heard(&it, files[1], WIRE_NOTICE), 0);
	assert_int_equal(goodbye_of(files[1]), WIRE_DISCONNECT_APPLICATION);
	assert_int_equal(
		harness_close_text(&it, ids[2], PH_GRACEFUL, PH_REASON_LOCAL_GROUP_END, NULL), 0);
	harness_turns(&it, 3);
	assert_int_equal(goodbye_of(files[2]), WIRE_DISCONNECT_LEAVING);
	/* A stop that lets them end in peace. */
	atomic_store(&it.hub.stopping, true);
	it.shard->stop_how = PH_GRACEFUL;
	shard_post(it.shard->home, &it.shard->stop_command);
	harness_turns(&it, 4);
	assert_int_equal(goodbye_of(files[3]), WIRE_DISCONNECT_LEAVING);
	for (int i = 0; i < 4; i++)
		script_peer_end(it.ring, files[i], 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, ids[3])->receipt.reason, PH_REASON_LOCAL_STOP);
	assert_int_equal(harness_peer(&it, ids[3])->receipt.how, PH_GRACEFUL);
	assert_true(shard_is_done(it.shard));
}

/* Dialled after the hub began to stop, or under a tag that has ended meanwhile: no socket is made. */
static void dial_meets_an_end(void **state)
{
	uint64_t sockets = script_queued_ever(it.ring, SCRIPT_SOCKET), id;

	(void)state;
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	it.hub.tags_ended = NULL;
	it.hub.tags_count = 0;
	it.hub.tags_capacity = 0;
	{
		/* ph_tag_end has put the tag into its list and not yet come to the slots. */
		uint64_t *tags = memory_alloc(sizeof(*tags));

		assert_non_null(tags);
		tags[0] = HARNESS_TAG;
		it.hub.tags_ended = tags;
		it.hub.tags_count = it.hub.tags_capacity = 1;
	}
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_GROUP_END);
	assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_LOCAL);
	it.hub.tags_count = 0;
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	atomic_store(&it.hub.stopping, true);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_STOP);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SOCKET), sockets);
	assert_int_equal(harness_dial(&it, PH_FRAMING_MESSAGE), 0);
}

/* Nobody listens to the callbacks: connections live and end all the same. */
static void nobody_listens(void **state)
{
	uint64_t id;
	int32_t file;

	(void)state;
	it.hub.callbacks = (struct ph_callbacks){0};
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	harness_turns(&it, 5);
	file = harness_conn(&it, id)->file;
	peer_says_welcome(&it, file);
	peer_says_message(&it, file, "unheard", 7);
	harness_turns(&it, 3);
	assert_int_equal(harness_conn(&it, id)->state, CONN_OPEN);
	assert_int_equal(harness_counter(&it, COUNTER_messages_received), 1);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_counter(&it, COUNTER_closed), 1);
	assert_int_equal(harness_conn(&it, id)->state, CONN_FREE);
}

/* A connection over TLS to ourselves: the files of both ends are one stream. */
static void open_pair(enum ph_framing framing, uint64_t *dialled, uint64_t *accepted)
{
	int32_t a, b;

	it.hello = credentials;
	harness_listen(&it, framing, PH_TLS_MUTUAL);
	*dialled = harness_dial_tls(&it, framing, credentials);
	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	a = harness_conn(&it, *dialled)->file;
	b = harness_accept(&it);
	*accepted = harness_newest_id(&it);
	script_pair(it.ring, a, b);
	script_hold(it.ring, 0);
	harness_turns(&it, 16);
	assert_int_equal(harness_peer(&it, *dialled)->opened, 1);
	assert_int_equal(harness_peer(&it, *accepted)->opened, 1);
}

/* Data, goodbye and close_notify arrive in one slice, and the callback does not take the data yet, or has
 * paused: data first, then the goodbye, then the end, as in clear. */
static void close_notify_behind_what_is_not_taken(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		enum ph_framing framing = i % 2 == 0 ? PH_FRAMING_MESSAGE : PH_FRAMING_RAW;
		uint64_t dialled, accepted;

		case_again();
		open_pair(framing, &dialled, &accepted);
		if (i < 2)
			it.data_status = -EAGAIN;
		else
			assert_int_equal(ph_pause(accepted, HARNESS_TAG), 0);
		assert_int_equal(harness_send(&it, dialled, "kept", 4), 0);
		assert_int_equal(harness_close(&it, dialled, PH_GRACEFUL), 0);
		harness_turns(&it, 8);
		assert_int_equal(harness_peer(&it, accepted)->closed, 0);
		it.data_status = 0;
		if (i < 2)
			clock_script_advance_ms(101);
		else
			assert_int_equal(ph_resume(accepted, HARNESS_TAG), 0);
		harness_turns(&it, 12);
		assert_int_equal(harness_peer(&it, accepted)->messages, 1);
		assert_memory_equal(harness_peer(&it, accepted)->data, "kept", 4);
		assert_int_equal(harness_peer(&it, accepted)->closed, 1);
		assert_int_equal(
			harness_peer(&it, accepted)->receipt.reason, PH_REASON_REMOTE_CLOSE);
		assert_int_equal(harness_peer(&it, dialled)->closed, 1);
		assert_int_equal(harness_peer(&it, dialled)->receipt.how, PH_GRACEFUL);
	}
}

/* A raw stream over TLS says goodbye with close_notify, and no shutdown. */
static void raw_over_tls(void **state)
{
	uint64_t dialled, accepted;
	int32_t a, b;

	(void)state;
	it.hello = credentials;
	harness_listen(&it, PH_FRAMING_RAW, PH_TLS_MUTUAL);
	dialled = harness_dial_tls(&it, PH_FRAMING_RAW, credentials);
	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	a = harness_conn(&it, dialled)->file;
	b = harness_accept(&it);
	accepted = harness_newest_id(&it);
	script_pair(it.ring, a, b);
	script_hold(it.ring, 0);
	harness_turns(&it, 16);
	assert_int_equal(harness_send(&it, dialled, "stream", 6), 0);
	assert_int_equal(harness_close(&it, dialled, PH_GRACEFUL), 0);
	harness_turns(&it, 12);
	assert_memory_equal(harness_peer(&it, accepted)->data, "stream", 6);
	assert_int_equal(harness_peer(&it, accepted)->receipt.reason, PH_REASON_REMOTE_CLOSE);
	assert_int_equal(harness_peer(&it, dialled)->receipt.how, PH_GRACEFUL);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_SHUTDOWN), 0);
}

/* The same, answered by the end of the stream alone, on a kernel that cannot be asked what has arrived: over
 * TLS that end is an answer to our close_notify, as it is to a goodbye of the message protocol. */
static void raw_over_tls_answered_by_an_end(void **state)
{
	const struct ph_receipt *receipt;
	uint64_t dialled, accepted;

	(void)state;
	it.hub.features.socket_cmd = false;
	open_pair(PH_FRAMING_RAW, &dialled, &accepted);
	assert_int_equal(ph_pause(accepted, HARNESS_TAG), 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_send(&it, dialled, "stream", 6), 0);
	assert_int_equal(harness_close(&it, dialled, PH_GRACEFUL), 0);
	harness_turns(&it, 6);
	assert_true(harness_conn(&it, dialled)->goodbye_done);
	script_peer_end(it.ring, harness_conn(&it, dialled)->file, 0);
	harness_turns(&it, 6);
	assert_int_equal(harness_peer(&it, dialled)->closed, 1);
	receipt = &harness_peer(&it, dialled)->receipt;
	assert_int_equal(receipt->how, PH_GRACEFUL);
	assert_int_equal(receipt->bytes_sent, 6);
	assert_int_equal(receipt->bytes_acknowledged, 6);
}

/* An end with a transport's reason that is not a reset: it says what it knows, and goes. */
static void leaving_for_the_transport(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	conn_leave(harness_conn(&it, id), PH_REASON_TRANSPORT_ERROR, PH_SIDE_ENGINE, false, "why");
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_ERROR);
	assert_int_equal(peer_heard(&it, file, WIRE_NOTICE), 1);
	assert_int_equal(harness_counter(&it, COUNTER_protocol_errors), 0);
}

#define UPGRADE_TURNS 1000000 /* far more than a scheduler keeps a thread away */
#define UPGRADE_ROUNDS 4000
#define UPGRADE_MS 400

static _Atomic uint64_t upgrade_id;
static atomic_bool upgrade_stop;

static void *upgrader(void *context)
{
	(void)context;
	while (!atomic_load(&upgrade_stop)) {
		int status = ph_close(atomic_load(&upgrade_id), HARNESS_TAG, PH_ABORT, 0, NULL);

		assert_true(status == -ENOENT || status == -EALREADY);
	}
	return NULL;
}

/* Another thread makes an abort of a graceful close at any moment up to the very last: the slot is then not
 * freed before that mail has been read, and there is one on_closed. */
static void upgrade_meets_the_last_step(void **state)
{
	struct timespec begin, now;
	pthread_t thread;
	int32_t file;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	assert_int_equal(pthread_create(&thread, NULL, upgrader, NULL), 0);
	for (int i = 0; i < UPGRADE_ROUNDS; i++) {
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);

		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		script_peer_end(it.ring, file, 0);
		if (i & 1)
			harness_turns(&it, 2);
		atomic_store(&upgrade_id, id);
		harness_turns(&it, 6);
		/* The upgrader may stand between its step and its post: the end waits for that mail. */
		for (int turn = 0; turn < UPGRADE_TURNS && harness_peer(&it, id)->closed == 0;
			turn++) {
			sched_yield();
			harness_turns(&it, 1);
		}
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
		it.peer_count = 0; /* each round is a life of its own */
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 >
			UPGRADE_MS)
			break;
	}
	atomic_store(&upgrade_stop, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(late_endings_change_nothing),
		CASE(goodbye_is_looked_at_again),
		CASE(close_waits_for_the_shutdown),
		CASE(goodbye_without_an_entry),
		CASE(quiet_close_with_a_send_in_flight),
		CASE(goodbyes_cross),
		CASE(raw_ends_cross),
		CASE(end_before_our_goodbye),
		CASE(disconnect_is_refused),
		CASE(strangers_do_not_linger),
		CASE(goodbyes_say_why),
		CASE(dial_meets_an_end),
		CASE(nobody_listens),
		CASE(close_notify_behind_what_is_not_taken),
		CASE(raw_over_tls),
		CASE(raw_over_tls_answered_by_an_end),
		CASE(leaving_for_the_transport),
		CASE(upgrade_meets_the_last_step),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
