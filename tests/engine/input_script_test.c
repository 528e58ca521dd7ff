/*
 * What comes in, on the scripted ring: cut anywhere, more than buffers, too much, not due, not a message;
 * paused, blocked, starved. A fault ends the connection that made it, with its reason, and no other.
 */
#include "tests/fake/harness_case.h"

#include "engine/wire.h"

static uint64_t input_bystander;
static int32_t input_bystander_file;

static void bystander_begin(void)
{
	input_bystander = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &input_bystander_file);
}

/* It is still open and hears. */
static void bystander_check(void)
{
	uint32_t messages = harness_peer(&it, input_bystander)->messages;

	peer_says_message(&it, input_bystander_file, "still", 5);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, input_bystander)->messages, messages + 1);
	assert_int_equal(harness_peer(&it, input_bystander)->closed, 0);
}

/* ---- cut anywhere ------------------------------------------------------------------------- */

static void messages_cut_anywhere(void **state)
{
	static uint8_t large[5000];
	static const size_t slices[] = {1, 2, 7, 8, 27, 28, 29, 100, 512};
	int32_t file;

	(void)state;
	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (uint8_t)(i * 13);
	for (size_t i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		struct harness_peer *peer = harness_peer(&it, id);

		script_set_slice_max(it.ring, slices[i]);
		peer_says_message(&it, file, large, 300);
		peer_says_message(&it, file, "", 0);
		peer_says_message(&it, file, large, sizeof(large));
		peer_says_message(&it, file, "end", 3);
		for (int turn = 0; turn < 3000 && peer->messages < 4; turn++)
			harness_turn(&it);
		assert_int_equal(peer->messages, 4);
		assert_int_equal(peer->bytes, 300 + sizeof(large) + 3);
		assert_memory_equal(peer->data, large, 300);
		assert_memory_equal(peer->data + 300, large, sizeof(large));
		assert_memory_equal(peer->data + 300 + sizeof(large), "end", 3);
		assert_int_equal(atomic_load(&it.hub.reassembly_bytes), 0);
		script_set_slice_max(it.ring, 0);
		assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
		harness_turns(&it, 3);
	}
}

static void greeting_cut_anywhere(void **state)
{
	int32_t file;
	uint64_t id;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_set_slice_max(it.ring, 1);
	file = harness_accept(&it);
	id = harness_newest_id(&it);
	peer_says_auth_info(&it, file);
	peer_says_connect(&it, file);
	peer_says_message(&it, file, "eager", 5);
	harness_turns(&it, 400);
	assert_int_equal(harness_peer(&it, id)->opened, 1);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	file = harness_conn(&it, id)->file;
	id = harness_dial(&it, PH_FRAMING_MESSAGE);
	harness_turns(&it, 5);
	file = harness_conn(&it, id)->file;
	peer_says_welcome(&it, file);
	harness_turns(&it, 400);
	assert_int_equal(harness_peer(&it, id)->opened, 1);
}

/* ---- faults ------------------------------------------------------------------------------- */

struct fault {
	const char *name;
	uint32_t reason;
	uint8_t bytes[48];
	size_t count;
};

static const struct fault faults[] = {
	{"unknown type", PH_REASON_PROTOCOL_TYPE, {0, 0, 0, 8, 0x10, 0x7f}, 8},
	{"under a head", PH_REASON_PROTOCOL_SIZE, {0, 0, 0, 7, 0x10, WIRE_PT2PT}, 8},
	{"over the limit", PH_REASON_PROTOCOL_SIZE, {0xff, 0xff, 0xff, 0xff, 0x10, WIRE_PT2PT}, 8},
	{"other version", PH_REASON_PROTOCOL_MESSAGE, {0, 0, 0, 28, 0x77, WIRE_PT2PT}, 28},
	{"malformed data", PH_REASON_PROTOCOL_MESSAGE, {0, 0, 0, 12, 0x10, WIRE_PT2PT}, 12},
	{"malformed goodbye", PH_REASON_PROTOCOL_MESSAGE, {0, 0, 0, 8, 0x10, WIRE_DISCONNECT}, 8},
	{"malformed notice", PH_REASON_PROTOCOL_MESSAGE, {0, 0, 0, 8, 0x10, WIRE_NOTICE}, 8},
	{"not due", PH_REASON_PROTOCOL_STATE, {0, 0, 0, 12, 0x10, WIRE_CONNECT}, 12},
	{"not due", PH_REASON_PROTOCOL_STATE, {0, 0, 0, 12, 0x10, WIRE_AUTH_INFO}, 12},
	{"not due", PH_REASON_PROTOCOL_STATE, {0, 0, 0, 12, 0x10, WIRE_REFUSE}, 12},
};

static void faults_while_open(void **state)
{
	int32_t file;

	(void)state;
	bystander_begin();
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		uint64_t id = harness_open_accepted(&it, PH_FRAMING_MESSAGE, &file);
		struct harness_peer *peer = harness_peer(&it, id);

		peer_says_message(&it, file, "before", 6);
		script_peer_data(it.ring, file, faults[i].bytes, faults[i].count);
		peer_says_message(&it, file, "after", 5);
		harness_turns(&it, 4);
		assert_int_equal(peer->messages, 1);
		assert_int_equal(peer_heard(&it, file, WIRE_NOTICE), 1);
		assert_int_equal(peer_heard(&it, file, WIRE_DISCONNECT), 1);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 3);
		assert_int_equal(peer->closed, 1);
		assert_int_equal(peer->receipt.reason, faults[i].reason);
		assert_int_equal(peer->receipt.side, PH_SIDE_ENGINE);
		assert_int_equal(harness_counter(&it, COUNTER_protocol_errors), i + 1);
	}
	bystander_check();
}

/* The same while we are closing: then there is nothing to wait for. */
static void faults_while_draining(void **state)
{
	int32_t file;

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		struct harness_peer *peer = harness_peer(&it, id);

		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 3);
		script_peer_data(it.ring, file, faults[i].bytes, faults[i].count);
		harness_turns(&it, 3);
		assert_int_equal(peer->closed, 1);
		assert_int_equal(peer->receipt.reason, PH_REASON_LOCAL_CLOSE);
		assert_int_equal(peer->receipt.how, PH_ABORT);
	}
}

static void faults_while_greeting(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;
	uint64_t id;

	(void)state;
	bystander_begin();
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		file = harness_accept(&it);
		id = harness_newest_id(&it);
		script_peer_data(it.ring, file, faults[i].bytes, faults[i].count);
		harness_turns(&it, 4);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 3);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->opened, 0);
		assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_ENGINE);
		assert_in_range(harness_peer(&it, id)->receipt.reason, 6000, 6999);
	}
	/* The right messages with the wrong content. */
	for (int i = 0; i < 4; i++) {
		size_t bytes;

		file = harness_accept(&it);
		id = harness_newest_id(&it);
		if (i > 0)
			peer_says_auth_info(&it, file);
		bytes = i == 0 ? peer_auth_info(message) : peer_connect(message);
		if (i == 0)
			message[8] = 99; /* offset of the names */
		else if (i == 1)
			message[9] ^= 0xff;
		else if (i == 2)
			bytes = peer_message(message, "x", 1);
		else
			bytes = peer_auth_info(message); /* a second one */
		script_peer_data(it.ring, file, message, bytes);
		harness_turns(&it, 4);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 3);
		assert_int_equal(harness_peer(&it, id)->opened, 0);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_not_equal(harness_peer(&it, id)->receipt.reason, 0);
	}
	bystander_check();
}

/* What a dialled connection hears instead of a proper WELCOME. */
static void answers_that_are_no_welcome(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;

	(void)state;
	for (int i = 0; i < 8; i++) {
		static const uint32_t reasons[] = {PH_REASON_PROTOCOL_HELLO,
			PH_REASON_PROTOCOL_MESSAGE, PH_REASON_REMOTE_REFUSED,
			PH_REASON_PROTOCOL_MESSAGE, PH_REASON_REMOTE_CLOSE,
			PH_REASON_PROTOCOL_STATE, PH_REASON_TRANSPORT_HANDSHAKE_LOST,
			PH_REASON_TRANSPORT_HANDSHAKE_LOST};
		struct wire_welcome other = {.node_id = 9, .peer_id = "somebody.else"};
		uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
		size_t bytes = 0;

		harness_turns(&it, 5);
		file = harness_conn(&it, id)->file;
		if (i == 0)
			bytes = (size_t)wire_welcome_write(message, sizeof(message), &other);
		else if (i == 1)
			memcpy(message, "\0\0\0\x0c\x10\x03\0\0....", bytes = 12);
		else if (i == 2)
			bytes = peer_refuse(message, PH_REFUSE_BUSY);
		else if (i == 3)
			memcpy(message, "\0\0\0\x08\x10\x04\0\0", bytes = 8);
		else if (i == 4)
			bytes = peer_disconnect(message, WIRE_DISCONNECT_APPLICATION);
		else if (i == 5)
			bytes = peer_message(message, "x", 1);
		if (bytes > 0)
			script_peer_data(it.ring, file, message, bytes);
		harness_turns(&it, 3);
		if (harness_peer(&it, id)->closed == 0)
			script_peer_end(it.ring, file, i == 7 ? -ECONNRESET : 0);
		harness_turns(&it, 4);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, reasons[i]);
		assert_int_equal(harness_peer(&it, id)->receipt.failure,
			i == 2 ? PH_FAILURE_REFUSED : PH_FAILURE_AUTHENTICATION);
		assert_int_equal(
			harness_peer(&it, id)->receipt.refuse_code, i == 2 ? PH_REFUSE_BUSY : 0);
	}
}

/* A close has won and its mail is on its way when REFUSE comes: cancelled, not refused. */
static void refused_behind_a_close(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
	struct slot *slot;

	(void)state;
	harness_turns(&it, 5);
	slot = conn_slot(harness_conn(&it, id));
	assert_int_equal(slot_close(slot, slot_id_generation(id), HARNESS_TAG, false), SLOT_PUSH);
	script_peer_data(it.ring, harness_conn(&it, id)->file, message,
		peer_refuse(message, PH_REFUSE_BUSY));
	harness_turns(&it, 3);
	shard_post_slot(it.shard->home, slot);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.side, PH_SIDE_LOCAL);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
}

static void strangers_are_refused(void **state)
{
	int32_t file;
	uint64_t id;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	it.refuse = PH_REFUSE_DUPLICATE;
	file = harness_accept(&it);
	id = harness_newest_id(&it);
	peer_says_auth_info(&it, file);
	peer_says_connect(&it, file);
	harness_turns(&it, 4);
	assert_int_equal(peer_heard(&it, file, WIRE_REFUSE), 1);
	assert_int_equal(peer_heard(&it, file, WIRE_DISCONNECT), 0);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_REFUSED);
	assert_int_equal(harness_peer(&it, id)->receipt.refuse_code, PH_REFUSE_DUPLICATE);
	it.refuse = PH_ACCEPT;
	it.verify_status = -EACCES;
	it.verify_refusal = "not you";
	for (int i = 0; i < 2; i++) {
		file = harness_accept(&it);
		id = harness_newest_id(&it);
		if (i == 0)
			peer_says_auth_info(&it, file);
		harness_turns(&it, 4);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 3);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_PROTOCOL_VERIFY);
		assert_string_equal(harness_peer(&it, id)->receipt.text, "not you");
		harness_listen(&it, PH_FRAMING_RAW, PH_TLS_NONE);
	}
}

/* RESUME comes to who dialled, in one size, with a life of a second to a day. Where it is of no use (there is
 * no TLS here) a good one is passed over, and a bad one is a fault all the same. */
static void resumes_are_checked(void **state)
{
	static const struct {
		uint32_t bytes, lifetime_s, reason; /* reason 0: well-formed */
	} cases[] = {
		{WIRE_RESUME_BYTES, 1, 0},
		{WIRE_RESUME_BYTES, 86400, 0},
		{WIRE_RESUME_BYTES, 0, PH_REASON_PROTOCOL_MESSAGE},
		{WIRE_RESUME_BYTES, 86401, PH_REASON_PROTOCOL_MESSAGE},
		{WIRE_RESUME_BYTES - 1, 1, PH_REASON_PROTOCOL_MESSAGE},
		{WIRE_RESUME_BYTES + 1, 1, PH_REASON_PROTOCOL_MESSAGE},
		{WIRE_HEADER_BYTES, 1, PH_REASON_PROTOCOL_MESSAGE},
		{WIRE_CONTROL_BYTES_MAX + 1, 1, PH_REASON_PROTOCOL_SIZE},
	};
	int32_t file;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t message[WIRE_RESUME_BYTES + 1] = {0, 0, 0, 0, 0x10, WIRE_RESUME};
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
		struct harness_peer *peer = harness_peer(&it, id);

		message[2] = (uint8_t)(cases[i].bytes >> 8);
		message[3] = (uint8_t)cases[i].bytes;
		message[9] = (uint8_t)(cases[i].lifetime_s >> 16);
		message[10] = (uint8_t)(cases[i].lifetime_s >> 8);
		message[11] = (uint8_t)cases[i].lifetime_s;
		script_peer_data(it.ring, file, message,
			cases[i].bytes < sizeof(message) ? cases[i].bytes : sizeof(message));
		peer_says_message(&it, file, "x", 1);
		harness_turns(&it, 4);
		if (cases[i].reason == 0) {
			assert_int_equal(peer->messages, 1);
			assert_int_equal(harness_counter(&it, COUNTER_notices_skipped), i + 1);
			continue;
		}
		assert_int_equal(peer->messages, 0);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 3);
		assert_int_equal(peer->receipt.reason, cases[i].reason);
	}
}

/* It never goes to a hub, not even its head. */
static void resume_to_a_hub(void **state)
{
	static const uint8_t head[WIRE_HEADER_BYTES] = {0, 0, 0, 76, 0x10, WIRE_RESUME};
	int32_t file;
	uint64_t id = harness_open_accepted(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_peer_data(it.ring, file, head, sizeof(head));
	harness_turns(&it, 4);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_PROTOCOL_STATE);
}

/* RESUME before WELCOME: it would be for nobody yet. */
static void resume_before_welcome(void **state)
{
	static const uint8_t early[12] = {0, 0, 0, 76, 0x10, WIRE_RESUME, 0, 0, 0, 0, 0, 9};
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
	int32_t file;

	(void)state;
	harness_turns(&it, 3);
	file = harness_conn(&it, id)->file;
	script_peer_data(it.ring, file, early, sizeof(early));
	harness_turns(&it, 4);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_PROTOCOL_STATE);
	assert_int_equal(harness_peer(&it, id)->receipt.was_open, 0);
}

/* Types of the range that later versions use are skipped. */
static void unknown_notices_are_skipped(void **state)
{
	static const uint8_t later[12] = {0, 0, 0, 12, 0x10, 0x4f, 0, 0, 1, 2, 3, 4};
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_peer_data(it.ring, file, later, sizeof(later));
	wire_pt2pt_head_write(message, wire_ping_type, 0);
	script_peer_data(it.ring, file, message, WIRE_PT2PT_BYTES);
	peer_says_message(&it, file, "x", 1);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	assert_int_equal(harness_counter(&it, COUNTER_notices_skipped), 1);
	assert_int_equal(harness_counter(&it, COUNTER_pings_received), 1);
	/* A ping carries nothing. */
	wire_pt2pt_head_write(message, wire_ping_type, 1);
	message[WIRE_PT2PT_BYTES] = 1;
	script_peer_data(it.ring, file, message, WIRE_PT2PT_BYTES + 1);
	harness_turns(&it, 3);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_PROTOCOL_MESSAGE);
}

/* ---- paused, blocked ------------------------------------------------------------------------ */

static void paused_input_waits_and_keeps_its_order(void **state)
{
	static const enum ph_framing framings[] = {PH_FRAMING_MESSAGE, PH_FRAMING_RAW};
	int32_t file;

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t id = harness_open_dialled(&it, framings[i], &file);
		struct harness_peer *peer = harness_peer(&it, id);

		assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
		if (i == 0)
			peer_says_message(&it, file, "one", 3);
		else
			script_peer_data(it.ring, file, "one", 3);
		harness_turns(&it, 3);
		assert_int_equal(peer->messages, 0);
		assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 0);
		assert_int_equal(ring_buffers_out(it.ring), 0);
		if (i == 0)
			peer_says_message(&it, file, "two", 3);
		else
			script_peer_data(it.ring, file, "two", 3);
		harness_turns(&it, 3);
		assert_int_equal(peer->messages, 0);
		assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
		harness_turns(&it, 4);
		assert_int_equal(peer->bytes, 6);
		assert_memory_equal(peer->data, "onetwo", 6);
		/* The end is seen while paused, and kept until then. */
		assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
		assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 5);
		assert_int_equal(peer->closed, 1);
	}
}

/* The cancel of a pause comes too late: data and all. */
static void pause_meets_data_under_way(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	struct script_op *recv;

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_RECV | 1u << SCRIPT_CANCEL);
	assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
	harness_turns(&it, 2);
	recv = script_find(it.ring, SCRIPT_RECV, file);
	assert_true(
		script_answer_data(it.ring, recv, message, peer_message(message, "late", 4), true));
	script_answer(it.ring, script_find(it.ring, SCRIPT_CANCEL, SCRIPT_ANY_FILE), -EALREADY);
	script_answer(it.ring, recv, -ECANCELED);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 0);
	assert_int_equal(harness_counter(&it, COUNTER_cancel_already), 1);
	/* Resumed and paused again before the turn: the last word counts. */
	assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
	assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 0);
	assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	script_hold(it.ring, 0);
}

static void pause_at_the_fourth(struct harness *harness, uint64_t id)
{
	if (harness_peer(harness, id)->messages == 3)
		assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
}

/* So much came at once that receive was stopped, and the callback pauses at the last of it: reading goes on
 * after the resume all the same. */
static void pause_while_too_much_waits(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	it.in_data = pause_at_the_fourth;
	script_set_slice_max(it.ring, WIRE_PT2PT_BYTES + 4);
	for (int i = 0; i < 4; i++)
		peer_says_message(&it, file, "more", 4);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->messages, 4);
	assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 0);
	assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
	harness_turns(&it, 2);
	assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 1);
	peer_says_message(&it, file, "last", 4);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 5);
}

static void blocked_input_is_offered_again(void **state)
{
	static const enum ph_framing framings[] = {PH_FRAMING_MESSAGE, PH_FRAMING_RAW};
	int32_t file;

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t id = harness_open_dialled(&it, framings[i], &file);
		struct harness_peer *peer = harness_peer(&it, id);
		uint32_t offered = it.offered;

		it.data_status = -EAGAIN;
		if (i == 0)
			peer_says_message(&it, file, "one", 3);
		else
			script_peer_data(it.ring, file, "one", 3);
		harness_turns(&it, 3);
		assert_int_equal(it.offered, offered + 1);
		if (i == 0)
			peer_says_message(&it, file, "two", 3);
		else
			script_peer_data(it.ring, file, "two", 3);
		harness_turns(&it, 3);
		assert_int_equal(it.offered, offered + 1);
		/* By time, */
		clock_script_advance_ms(101);
		harness_turns(&it, 3);
		assert_int_equal(it.offered, offered + 2);
		/* by ph_resume, */
		assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
		harness_turns(&it, 3);
		assert_int_equal(it.offered, offered + 3);
		/* and at last it is taken. */
		it.data_status = 0;
		assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
		harness_turns(&it, 4);
		assert_int_equal(peer->bytes, 6);
		assert_memory_equal(peer->data, "onetwo", 6);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 4);
		assert_int_equal(peer->closed, 1);
	}
}

/* The stream ends behind a message that is not taken: the message first, then the end. */
static void blocked_input_before_an_end(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	it.data_status = -EAGAIN;
	peer_says_message(&it, file, "kept", 4);
	peer_says_disconnect(&it, file);
	script_peer_end(it.ring, file, 0);
	harness_turns(&it, 5);
	assert_int_equal(harness_peer(&it, id)->closed, 0);
	it.data_status = 0;
	clock_script_advance_ms(101);
	harness_turns(&it, 5);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_REMOTE_CLOSE);
}

/* ---- receive ends by itself ------------------------------------------------------------------ */

static void receive_that_ends_is_armed_again(void **state)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	for (uint32_t i = 1; i <= 3; i++) {
		assert_true(script_answer_data(it.ring, script_find(it.ring, SCRIPT_RECV, file),
			message, peer_message(message, "again", 5), false));
		harness_turns(&it, 2);
		assert_int_equal(harness_peer(&it, id)->messages, i);
		assert_int_equal(harness_counter(&it, COUNTER_receive_rearmed), i);
		assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 1);
	}
	script_answer(it.ring, script_find(it.ring, SCRIPT_RECV, file), -ECANCELED);
	harness_turns(&it, 2);
	assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 1);
	script_set_overflow(it.ring);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_cq_overflows), 1);
}

/* No buffers: who is starved is armed again when half of them are back, waiting for data first. */
static void starved_receives_go_on_later(void **state)
{
	uint64_t holders[8], id;
	int32_t files[8], file;
	struct script_op *recv;

	(void)state;
	it.data_status = 0;
	for (int i = 0; i < 8; i++)
		holders[i] = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &files[i]);
	id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	script_set_buffers(it.ring, 0);
	peer_says_message(&it, file, "waits", 5);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_receive_starved), 1);
	assert_int_equal(harness_peer(&it, id)->messages, 0);
	recv = script_find(it.ring, SCRIPT_RECV, file);
	assert_non_null(recv); /* none is out, so it is armed at once */
	assert_true(recv->poll_first);
	script_set_buffers(it.ring, 16);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->messages, 1);
	for (int i = 0; i < 8; i++) {
		peer_says_message(&it, files[i], "x", 1);
		harness_turns(&it, 2);
		assert_int_equal(harness_peer(&it, holders[i])->messages, 1);
	}
}

/* With buffers held by others, the starved wait until half of them are back. */
static void starved_receives_wait_for_half_of_the_buffers(void **state)
{
	static uint8_t much[4 * 65536];
	struct ph_options options;
	uint64_t holders[4], id;
	int32_t files[4], file;
	struct script_op *recv;

	(void)state;
	harness_end(&it);
	harness_options(&options);
	options.receive_buffer_bytes = 65536; /* one is all that a connection looks at in a turn */
	assert_int_equal(harness_start(&it, &options), 0);
	for (int i = 0; i < 4; i++)
		holders[i] = harness_open_dialled(&it, PH_FRAMING_RAW, &files[i]);
	id = harness_open_dialled(&it, PH_FRAMING_RAW, &file);
	for (int i = 0; i < 4; i++)
		script_peer_data(it.ring, files[i], much, sizeof(much));
	script_peer_data(it.ring, file, "waits", 5);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_receive_starved), 1);
	assert_int_equal(ring_buffers_out(it.ring), 12);
	assert_int_equal(script_count(it.ring, SCRIPT_RECV, file), 0);
	harness_turn(&it);
	assert_int_equal(ring_buffers_out(it.ring), 8);
	recv = script_find(it.ring, SCRIPT_RECV, file);
	assert_non_null(recv);
	assert_true(recv->poll_first);
	harness_turns(&it, 2);
	assert_int_equal(harness_peer(&it, id)->bytes, 5);
	harness_turns(&it, 8);
	for (int i = 0; i < 4; i++)
		assert_int_equal(harness_peer(&it, holders[i])->bytes, sizeof(much));
	/* Those that held too many were stopped, and read on. */
	assert_true(harness_counter(&it, COUNTER_reads_paused) > 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(script_count(it.ring, SCRIPT_RECV, files[i]), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(messages_cut_anywhere),
		CASE(greeting_cut_anywhere),
		CASE(faults_while_open),
		CASE(faults_while_draining),
		CASE(faults_while_greeting),
		CASE(answers_that_are_no_welcome),
		CASE(refused_behind_a_close),
		CASE(strangers_are_refused),
		CASE(resumes_are_checked),
		CASE(resume_to_a_hub),
		CASE(resume_before_welcome),
		CASE(unknown_notices_are_skipped),
		CASE(paused_input_waits_and_keeps_its_order),
		CASE(pause_meets_data_under_way),
		CASE(pause_while_too_much_waits),
		CASE(blocked_input_is_offered_again),
		CASE(blocked_input_before_an_end),
		CASE(receive_that_ends_is_armed_again),
		CASE(starved_receives_go_on_later),
		CASE(starved_receives_wait_for_half_of_the_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
