/*
 * Slow consumers, twins, notices and the handshakes' share on the scripted ring: the cases where who comes first,
 * or when, decides.
 */
#include "tests/fake/harness_case.h"

#include "engine/admission.h"
#include "engine/wire.h"

#define SLOW_MS 1000u
#define QUEUE_BYTES 65536u
#define SENDS_HELD (1u << SCRIPT_SEND)

/* ---- slow consumers ---------------------------------------------------------------------- */

static void slow_begin(uint32_t slow_ms)
{
	struct ph_options options;

	(void)case_end(NULL);
	harness_options(&options);
	options.slow = PH_SLOW_CLOSE;
	options.slow_ms = slow_ms;
	assert_int_equal(harness_start(&it, &options), 0);
}

/* Until the queue takes no more, and the owner has heard of it. */
static void fill(uint64_t id)
{
	static const uint8_t data[4096];
	int status = 0;

	for (int i = 0; i < 1000 && status == 0; i++)
		status = harness_send(&it, id, data, sizeof(data));
	assert_int_equal(status, -EAGAIN);
	harness_turn(&it);
}

static bool is_slow(uint64_t id)
{
	return (atomic_load(&conn_slot(harness_conn(&it, id))->flags) & SLOT_SLOW) != 0;
}

/* Open, its queue full, and the kernel takes nothing. */
static uint64_t slow_open(enum ph_framing framing, int32_t *file)
{
	uint64_t id = harness_open_dialled(&it, framing, file);

	script_hold(it.ring, SENDS_HELD);
	fill(id);
	assert_true(is_slow(id));
	return id;
}

static void pass_ms(uint64_t milliseconds)
{
	clock_script_advance_ms(milliseconds);
	harness_turns(&it, 2);
}

static bool is_open(uint64_t id)
{
	return harness_peer(&it, id)->closed == 0 && harness_conn(&it, id)->state == CONN_OPEN;
}

static void send_answers(int32_t file, int32_t result)
{
	struct script_op *send = script_find(it.ring, SCRIPT_SEND, file);

	assert_non_null(send);
	if (result > 0)
		script_answer_sent(it.ring, send, (size_t)result);
	else
		script_answer(it.ring, send, result);
	harness_turn(&it);
}

/* It is on its way out, whatever the held sends still have to say. */
static void ends_with(uint64_t id, uint32_t reason)
{
	script_hold(it.ring, 0);
	for (struct script_op *send;
		(send = script_find(it.ring, SCRIPT_SEND, SCRIPT_ANY_FILE)) != NULL;)
		script_answer(it.ring, send, -ECONNRESET);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_string_equal(
		ph_reason_name(harness_peer(&it, id)->receipt.reason), ph_reason_name(reason));
}

static const enum ph_framing framings[] = {PH_FRAMING_MESSAGE, PH_FRAMING_RAW};

static void who_takes_nothing_is_closed(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		int32_t file;
		uint64_t id;

		slow_begin(SLOW_MS);
		id = slow_open(framings[i], &file);
		pass_ms(SLOW_MS - 2);
		assert_true(is_open(id));
		pass_ms(4);
		assert_false(is_open(id));
		ends_with(id, PH_REASON_LIMIT_SLOW);
	}
}

/* The queue that was full is half empty without a byte given back: that is over, and the next is found again. */
static void a_larger_queue_ends_it(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		int32_t file;
		uint64_t id;

		slow_begin(SLOW_MS);
		id = slow_open(framings[i], &file);
		atomic_store(&it.shard->home->send_queue_bytes, 4 * QUEUE_BYTES);
		pass_ms(SLOW_MS + 2);
		assert_true(is_open(id));
		assert_false(is_slow(id));
		assert_int_equal(it.shard->holds[slot_id_slot(id)].slow_ns, 0);
		/* Nothing wakes the shard for it before the next ping is due. */
		if (timer_is_armed(&harness_conn(&it, id)->timer))
			assert_true(harness_conn(&it, id)->timer.expiry_tick >
				it.shard->now_ns / 1000000u + SLOW_MS);
		fill(id);
		assert_true(is_slow(id));
		pass_ms(SLOW_MS + 2);
		assert_false(is_open(id));
		ends_with(id, PH_REASON_LIMIT_SLOW);
	}
}

/* However slowly: the time begins anew with what the kernel takes. */
static void who_takes_a_little_stays(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		int32_t file;
		uint64_t id;

		slow_begin(SLOW_MS);
		id = slow_open(framings[i], &file);
		for (int round = 0; round < 5; round++) {
			pass_ms(SLOW_MS - 100);
			assert_true(is_open(id));
			assert_true(is_slow(id));
			send_answers(file, 1);
		}
		pass_ms(SLOW_MS - 100);
		assert_true(is_open(id));
		pass_ms(200);
		assert_false(is_open(id));
		ends_with(id, PH_REASON_LIMIT_SLOW);
	}
}

/* A broken stream that is paused keeps its queue, until receive may tell the end. */
static void a_broken_stream_is_not_slow(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		int32_t file;
		uint64_t id;

		slow_begin(SLOW_MS);
		id = slow_open(framings[i], &file);
		assert_int_equal(ph_pause(id, HARNESS_TAG), 0);
		harness_turn(&it);
		send_answers(file, -EPIPE);
		assert_true(harness_conn(&it, id)->send_broken);
		for (int round = 0; round < 3; round++) {
			pass_ms(SLOW_MS + 2);
			assert_true(is_open(id));
			assert_true(is_slow(id));
		}
		if (timer_is_armed(&harness_conn(&it, id)->timer))
			assert_true(harness_conn(&it, id)->timer.expiry_tick >
				it.shard->now_ns / 1000000u + SLOW_MS);
		script_peer_end(it.ring, file, -ECONNRESET);
		assert_int_equal(ph_resume(id, HARNESS_TAG), 0);
		harness_turns(&it, 4);
		ends_with(id, PH_REASON_REMOTE_RESET);
	}
}

/* A warning pushes nothing back: the peer's silence ends it first. */
static void the_dead_are_found_among_the_slow(void **state)
{
	uint64_t tick;
	int32_t file;
	uint64_t id;

	(void)state;
	slow_begin(600000);
	id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	tick = harness_conn(&it, id)->timer.expiry_tick;
	pass_ms(1000);
	script_hold(it.ring, SENDS_HELD);
	fill(id);
	assert_true(is_slow(id));
	assert_int_equal(harness_conn(&it, id)->timer.expiry_tick, tick);
	for (int round = 0; round < 16 && is_open(id); round++)
		pass_ms(10000);
	assert_false(is_open(id));
	ends_with(id, PH_REASON_TRANSPORT_DEAD);
}

/* ---- twins ------------------------------------------------------------------------------- */

static struct limits *twins_begin(void)
{
	static const uint64_t values[PH_LIMIT_COUNT];
	struct limits_options limits = {.values = values, .connections = 32, .twins = true};

	limits.reassembly_bytes = &it.hub.reassembly_bytes;
	assert_int_equal(limits_create(&limits, &it.hub.limits), 0);
	it.hub.options.duplicates = PH_DUPLICATES_NEWEST;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	return it.hub.limits;
}

static uint64_t twin_open(void)
{
	int32_t file = harness_accept(&it);
	uint64_t id = harness_newest_id(&it);

	assert_true(file >= 0);
	peer_says_auth_info(&it, file);
	peer_says_connect(&it, file);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->opened, 1);
	return id;
}

static bool is_duplicate(uint64_t id)
{
	return atomic_load(&conn_slot(harness_conn(&it, id))->word) & SLOT_CLOSE
		? harness_conn(&it, id)->state >= CONN_DRAINING
		: harness_peer(&it, id)->closed > 0;
}

/* Who drew the lower number stores it last: the other found nobody, so it must go by itself. */
static void the_older_of_two_finds_the_newer(void **state)
{
	struct limits *limits = twins_begin();
	struct ph_limit_state states[PH_LIMIT_COUNT];
	uint64_t newer = twin_open(), older, twin;

	(void)state;
	/* As if this one had drawn the number after the next. */
	twin = atomic_load(&it.shard->holds[slot_id_slot(newer)].twin);
	assert_true(twin > 0);
	atomic_store(&it.shard->holds[slot_id_slot(newer)].twin, twin + 100 * 4);
	older = twin_open();
	assert_true(is_duplicate(older));
	assert_false(is_duplicate(newer));
	limits_read(limits, states);
	assert_int_equal(states[PH_LIMIT_DUPLICATE].refusals, 1);
	/* What is newer still ends it, and one that is ending ends nobody. */
	atomic_store(&it.shard->holds[slot_id_slot(newer)].twin, twin);
	older = newer;
	newer = twin_open();
	assert_true(is_duplicate(older));
	assert_false(is_duplicate(newer));
	harness_end(&it);
	limits_destroy(limits);
}

/* ---- notices ----------------------------------------------------------------------------- */

static void notice_comes(int32_t file, uint32_t code, uint32_t retry_after_ms, const char *text)
{
	uint8_t message[HARNESS_MESSAGE_MAX];
	struct wire_notice notice = {.code = code,
		.retry_after_ms = retry_after_ms,
		.text = text,
		.text_bytes = (uint32_t)strlen(text)};
	ssize_t bytes = wire_notice_write(message, sizeof(message), &notice);

	assert_true(bytes > 0);
	script_peer_data(it.ring, file, message, (size_t)bytes);
	harness_turns(&it, 2);
}

/* The goodbye has its own reason and knows of no time: what was asked before stays. */
static void a_goodbye_keeps_the_time(void **state)
{
	static const uint32_t codes[] = {1234, 0};

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		const struct ph_receipt *receipt;
		int32_t file;
		uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

		notice_comes(file, PH_REASON_LOCAL_DRAIN, 5000, "soon");
		notice_comes(file, codes[i], 0, "enough");
		peer_says_disconnect(&it, file);
		script_peer_end(it.ring, file, 0);
		harness_turns(&it, 6);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		receipt = &harness_peer(&it, id)->receipt;
		assert_int_equal(receipt->peer_reason, codes[i]);
		assert_int_equal(receipt->peer_retry_after_ms, codes[i] != 0 ? 5000 : 0);
		assert_string_equal(receipt->peer_text, "enough");
	}
}

/* ---- the handshakes' share --------------------------------------------------------------- */

static void a_debt_is_paid_by_the_share_alone(void **state)
{
	const int64_t ms = 1000000, saved = 100 * ms;

	(void)state;
	/* Ten percent of 101 ms pay off ten of forty, and so on, however it is cut. */
	assert_int_equal(shard_handshake_credit(-40 * ms, 101 * ms, 10), -40 * ms + 101 * ms / 10);
	assert_int_equal(shard_handshake_credit(-40 * ms, 400 * ms, 10), 0);
	assert_int_equal(shard_handshake_credit(-40 * ms, 50 * ms, 10), -35 * ms);
	/* A tenth of a second is saved up and no more, by one percent within ten seconds. */
	assert_int_equal(shard_handshake_credit(0, 10000 * ms, 1), saved);
	assert_int_equal(shard_handshake_credit(0, UINT64_MAX, 1), saved);
	assert_int_equal(shard_handshake_credit(saved, UINT64_MAX, 99), saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(who_takes_nothing_is_closed),
		CASE(a_larger_queue_ends_it),
		CASE(who_takes_a_little_stays),
		CASE(a_broken_stream_is_not_slow),
		CASE(the_dead_are_found_among_the_slow),
		CASE(the_older_of_two_finds_the_newer),
		CASE(a_goodbye_keeps_the_time),
		CASE(a_debt_is_paid_by_the_share_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
