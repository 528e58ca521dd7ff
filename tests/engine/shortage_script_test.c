/*
 * Shortages on the scripted ring: no memory at any one allocation, no submission entries, no slots, no
 * room for handshakes. A close always succeeds, and everything else fails by itself and cleanly.
 */
#include "tests/fake/harness_case.h"

#include "engine/wire.h"
#include "tests/engine/test_certs.h"

#include <openssl/crypto.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#ifdef TEST_ASAN
#include <sanitizer/lsan_interface.h>
#define LEAKS_IGNORED() __lsan_disable()
#define LEAKS_SEEN() __lsan_enable()
#else
#define LEAKS_IGNORED() ((void)0)
#define LEAKS_SEEN() ((void)0)
#endif

static struct ph_credentials *credentials;

/* ---- OpenSSL's own memory ------------------------------------------------------------------- */

static uint64_t ssl_nth, ssl_tries;
static bool ssl_for_ever;

static bool ssl_is_refused(void)
{
	ssl_tries++;
	return ssl_nth != 0 && (ssl_tries == ssl_nth || (ssl_for_ever && ssl_tries > ssl_nth));
}

static void *ssl_malloc(size_t bytes, const char *file, int line)
{
	(void)file, (void)line;
	return bytes == 0 || ssl_is_refused() ? NULL : malloc(bytes);
}

static void *ssl_realloc(void *block, size_t bytes, const char *file, int line)
{
	(void)file, (void)line;
	if (bytes == 0) {
		free(block);
		return NULL;
	}
	return ssl_is_refused() ? NULL : realloc(block, bytes);
}

static void ssl_free(void *block, const char *file, int line)
{
	(void)file, (void)line;
	free(block);
}

static void ssl_fail(uint64_t nth, bool for_ever)
{
	ssl_nth = nth;
	ssl_for_ever = for_ever;
	ssl_tries = 0;
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Ends an id whatever has become of it: each has its one on_closed, and the harness looks on. */
static void must_close(uint64_t id, enum ph_how how)
{
	int status;

	if (id == 0)
		return;
	status = harness_close(&it, id, how);
	if (harness_peer(&it, id)->closed > 0)
		assert_int_equal(status, -ENOENT);
	harness_turns(&it, 4);
	for (int turn = 0; turn < 80 && harness_peer(&it, id)->closed == 0; turn++) {
		clock_script_advance_ms(100);
		harness_turn(&it);
	}
	assert_int_equal(harness_peer(&it, id)->closed, 1);
}

static void life_dialled(void)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_MESSAGE);
	int32_t file;

	harness_turns(&it, 6);
	if (id != 0 && harness_peer(&it, id)->closed == 0) {
		file = harness_conn(&it, id)->file;
		peer_says_welcome(&it, file);
		harness_turns(&it, 3);
		(void)harness_send(&it, id, "one", 3);
		(void)harness_send(&it, id, "two", 3);
		peer_says_message(&it, file, "three", 5);
		script_set_slice_max(it.ring, 11);
		harness_turns(&it, 12);
		script_peer_end(it.ring, file, 0);
	}
	must_close(id, PH_GRACEFUL);
}

static void life_accepted(void)
{
	int32_t file = harness_accept(&it);
	uint64_t id = file >= 0 ? harness_newest_id(&it) : 0;

	if (id != 0) {
		peer_says_auth_info(&it, file);
		peer_says_connect(&it, file);
		peer_says_message(&it, file, "eager", 5);
		harness_turns(&it, 4);
		(void)harness_send(&it, id, "one", 3);
		assert_true(ph_pause(id, HARNESS_TAG) <= 0);
		harness_turn(&it);
		if (harness_peer(&it, id)->closed == 0) {
			peer_says_message(&it, file, "paused", 6);
			harness_turns(&it, 2);
			script_peer_end(it.ring, file, 0);
		}
	}
	must_close(id, PH_GRACEFUL);
}

static void life_raw(void)
{
	uint64_t id = harness_dial(&it, PH_FRAMING_RAW);

	harness_turns(&it, 5);
	if (id != 0 && harness_peer(&it, id)->closed == 0) {
		int32_t file = harness_conn(&it, id)->file;

		it.data_status = -EAGAIN;
		script_peer_data(it.ring, file, "kept", 4);
		harness_turns(&it, 2);
		(void)harness_send(&it, id, "one", 3);
		it.data_status = 0;
		clock_script_advance_ms(101);
		harness_turns(&it, 3);
	}
	must_close(id, PH_ABORT);
}

static void life_tls(void)
{
	uint64_t dialled = harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);
	uint64_t accepted = 0;

	harness_turns(&it, 4);
	if (dialled != 0 && harness_peer(&it, dialled)->closed == 0) {
		int32_t a = harness_conn(&it, dialled)->file, b = harness_accept(&it);

		if (b >= 0) {
			accepted = harness_newest_id(&it);
			script_pair(it.ring, a, b);
		}
		/* The hello went out before there was anybody; say it again. */
		if (b >= 0) {
			size_t bytes;
			const uint8_t *sent = script_sent(it.ring, a, &bytes);

			script_peer_data(it.ring, b, sent, bytes);
		}
		harness_turns(&it, 14);
		(void)harness_send(&it, dialled, "one", 3);
		harness_turns(&it, 3);
	}
	must_close(dialled, PH_GRACEFUL);
	must_close(accepted, PH_GRACEFUL);
}

struct life {
	const char *name;
	void (*live)(void);
	enum ph_tls listen; /* what it accepts */
};

static void no_memory_at_any_allocation(void **state)
{
	static const struct life ways[] = {
		{"dialled", life_dialled, PH_TLS_NONE},
		{"accepted", life_accepted, PH_TLS_NONE},
		{"raw", life_raw, PH_TLS_NONE},
		{"over TLS", life_tls, PH_TLS_MUTUAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		uint64_t nth = 0, failed;

		do {
			nth++;
			failed = 0;
			for (int for_ever = 0; for_ever < 2; for_ever++) {
				it.hello = credentials;
				harness_listen(&it, PH_FRAMING_MESSAGE, ways[i].listen);
				memory_script_fail(nth, for_ever);
				ways[i].live();
				failed += memory_script_failed();
				if (memory_script_failed() == 0)
					assert_in_range(harness_counter(&it, COUNTER_opened), 1, 2);
				case_again();
			}
		} while (failed > 0 && nth < 1000);
		print_message(
			"%s: %llu allocations\n", ways[i].name, (unsigned long long)(nth - 1));
		assert_in_range(nth, 3, 999);
	}
}

#define SSL_POINTS 60u

/* The same for OpenSSL's allocations, at points spread over a whole life: handshake, data, goodbye. What
 * OpenSSL itself then forgets to free is its own (tests/engine/tls_test.c lists it); ours is counted. */
static void no_memory_inside_openssl(void **state)
{
	uint64_t count, step;

	(void)state;
	it.hello = credentials;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	ssl_fail(0, false);
	life_tls();
	count = ssl_tries;
	assert_int_equal(harness_counter(&it, COUNTER_opened), 2); /* it is a whole life */
	case_again();
	assert_true(count > SSL_POINTS);
	step = count / SSL_POINTS;
	print_message("%llu allocations, every %llu-th\n", (unsigned long long)count,
		(unsigned long long)step);
	for (uint64_t nth = 1; nth < count; nth += step) {
		for (int for_ever = 0; for_ever < 2; for_ever++) {
			it.hello = credentials;
			harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
			LEAKS_IGNORED();
			ssl_fail(nth, for_ever);
			life_tls();
			ssl_fail(0, false);
			LEAKS_SEEN();
			case_again();
		}
	}
}

/* Memory gone for good at the moment of the close: it is still 0, and one on_closed. */
static void close_needs_no_memory(void **state)
{
	static const enum ph_framing framings[] = {PH_FRAMING_MESSAGE, PH_FRAMING_RAW};
	int32_t file;

	(void)state;
	for (int i = 0; i < 8; i++) {
		uint64_t id = i & 2 ? harness_open_accepted(&it, PH_FRAMING_MESSAGE, &file)
				    : harness_open_dialled(&it, framings[i & 1], &file);
		struct harness_peer *peer = harness_peer(&it, id);
		bool raw = !(i & 2) && (i & 1);

		memory_script_fail(1, true);
		assert_int_equal(harness_close(&it, id, i & 4 ? PH_ABORT : PH_GRACEFUL), 0);
		harness_turns(&it, 4);
		/* Raw without TLS says nothing, so it needs nothing even when it is graceful. */
		if (raw && !(i & 4)) {
			script_peer_end(it.ring, file, 0);
			harness_turns(&it, 4);
		}
		assert_int_equal(peer->closed, 1);
		assert_int_equal(peer->receipt.side, PH_SIDE_LOCAL);
		assert_int_equal(peer->receipt.how, raw && !(i & 4) ? PH_GRACEFUL : PH_ABORT);
		memory_script_fail(0, false);
	}
}

static void shard_starts_without_memory(void **state)
{
	struct ph_options options;
	int status = -ENOMEM;
	uint64_t nth;

	(void)state;
	harness_options(&options);
	options.connections_per_shard = 40; /* a home of its own, made here */
	for (nth = 1; status < 0 && nth < 200; nth++) {
		harness_end(&it);
		memory_script_fail(nth, false);
		status = harness_start(&it, &options);
		memory_script_fail(0, false);
		if (status < 0) {
			assert_int_equal(status, -ENOMEM);
			harness_begin(&it);
		}
	}
	assert_int_equal(status, 0);
	assert_true(nth > 8);
}

/* ---- submission entries --------------------------------------------------------------------- */

/* Only the reserve is left: nothing is armed, dialled or sent, but all can close. */
static void reserve_is_for_closes(void **state)
{
	uint64_t ids[20], dialled;
	int32_t files[20];

	(void)state;
	for (int i = 0; i < 20; i++)
		ids[i] = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &files[i]);
	script_set_entries(it.ring, RING_RESERVE, true);
	dialled = harness_dial(&it, PH_FRAMING_MESSAGE);
	assert_int_equal(harness_send(&it, ids[0], "waits", 5), 0);
	harness_turns(&it, 3);
	assert_int_equal(peer_heard(&it, files[0], WIRE_PT2PT), 0);
	assert_true(harness_counter(&it, COUNTER_sq_full) > 0);
	for (int i = 10; i < 20; i++)
		assert_int_equal(harness_close(&it, ids[i], PH_ABORT), 0);
	harness_turns(&it, 4);
	for (int i = 10; i < 20; i++) {
		assert_int_equal(harness_peer(&it, ids[i])->closed, 1);
		assert_true(script_is_closed(it.ring, files[i]));
	}
	script_set_entries(it.ring, 1024, false);
	harness_turns(&it, 5);
	assert_int_equal(peer_heard(&it, files[0], WIRE_PT2PT), 1);
	assert_int_equal(harness_conn(&it, dialled)->state, CONN_GREETING);
}

/* Not one entry, for everybody at once: the close list is worked off when they come back, in parts. */
static void full_ring_during_a_mass_close(void **state)
{
	uint64_t ids[24];
	int32_t files[24];

	(void)state;
	for (int i = 0; i < 24; i++)
		ids[i] = i % 3 == 2 ? harness_open_dialled(&it, PH_FRAMING_RAW, &files[i])
				    : harness_open_dialled(&it, PH_FRAMING_MESSAGE, &files[i]);
	script_set_entries(it.ring, 0, true);
	for (int i = 0; i < 24; i++)
		assert_int_equal(harness_close(&it, ids[i], i % 2 ? PH_GRACEFUL : PH_ABORT), 0);
	harness_turns(&it, 5);
	for (int i = 0; i < 24; i++)
		assert_int_equal(harness_peer(&it, ids[i])->closed, 0);
	for (uint32_t left = 1; left < 200; left += 3) {
		script_set_entries(it.ring, left % 7, true);
		harness_turn(&it);
		clock_script_advance_ms(100);
	}
	script_set_entries(it.ring, 1024, false);
	for (int i = 0; i < 24; i++)
		if (!script_is_closed(it.ring, files[i]))
			script_peer_end(it.ring, files[i], 0);
	harness_turns(&it, 5);
	for (int i = 0; i < 24; i++) {
		assert_int_equal(harness_peer(&it, ids[i])->closed, 1);
		assert_int_equal(harness_peer(&it, ids[i])->receipt.side, PH_SIDE_LOCAL);
	}
}

static void stuck_stages_of_one_close(void **state)
{
	int32_t file;

	(void)state;
	/* One entry a turn: unacknowledged bytes, disconnect or cancels, close, each in its turn. */
	for (int i = 0; i < 4; i++) {
		uint64_t id = harness_open_dialled(
			&it, i & 2 ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE, &file);

		assert_int_equal(harness_send(&it, id, "x", 1), 0);
		harness_turns(&it, 2);
		if (i & 1) {
			/* A quiet end with a receive still armed and a send in flight. */
			script_hold(it.ring, 1u << SCRIPT_SEND);
			assert_int_equal(harness_send(&it, id, "y", 1), 0);
			harness_turns(&it, 2);
		}
		script_set_unsent(it.ring, file, 5);
		script_set_entries(it.ring, 0, true);
		if (i & 1)
			script_peer_data(it.ring, file, "", 0);
		assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
		for (int turn = 0; turn < 12 && harness_peer(&it, id)->closed == 0; turn++) {
			script_set_entries(it.ring, turn % 2, true);
			harness_turn(&it);
		}
		script_hold(it.ring, 0);
		harness_turns(&it, 3);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		script_set_entries(it.ring, 1024, false);
		harness_turns(&it, 1);
	}
}

/* The peer's goodbye ends it quietly; its cancels find no entry, then do. */
static void stuck_stages_of_a_quiet_close(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);

	(void)state;
	script_hold(it.ring, 1u << SCRIPT_SEND);
	assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
	harness_turns(&it, 2);
	script_answer_natural(it.ring, script_find(it.ring, SCRIPT_SEND, file));
	peer_says_disconnect(&it, file);
	script_set_entries(it.ring, 0, true);
	for (int turn = 0; turn < 12 && harness_peer(&it, id)->closed == 0; turn++) {
		harness_turn(&it);
		script_set_entries(it.ring, turn % 2, true);
	}
	script_set_entries(it.ring, 1024, false);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.how, PH_GRACEFUL);
}

/* ---- accepting ------------------------------------------------------------------------------ */

/* Handshakes at their bound: accepting pauses, the backlog waits, and goes on below it. */
static void handshakes_have_a_bound(void **state)
{
	struct ph_options options;
	uint64_t ids[8];
	int32_t files[8];

	(void)state;
	harness_end(&it);
	harness_options(&options);
	options.handshakes_per_shard = 8;
	assert_int_equal(harness_start(&it, &options), 0);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	for (int i = 0; i < 8; i++) {
		files[i] = harness_accept(&it);
		assert_true(files[i] >= 0);
		ids[i] = harness_newest_id(&it);
	}
	harness_turns(&it, 2);
	assert_int_equal(harness_counter(&it, COUNTER_accept_paused), 1);
	assert_int_equal(harness_accept(&it), -1);
	/* One that becomes open makes room, but a quarter must be free. */
	peer_says_auth_info(&it, files[0]);
	peer_says_connect(&it, files[0]);
	harness_turns(&it, 3);
	assert_int_equal(harness_peer(&it, ids[0])->opened, 1);
	assert_null(script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd));
	script_peer_end(it.ring, files[1], 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, ids[1])->closed, 1);
	assert_non_null(script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd));
	/* An accept that was under way when accepting paused is still served. */
	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	for (int i = 0; i < 2; i++)
		assert_true(harness_accept(&it) >= 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_counter(&it, COUNTER_accept_paused), 2);
	assert_true(harness_accept(&it) >= 0);
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_accept(&it), -1);
}

/* No more slots than a reserve: accepting pauses; dialling goes on to the last, then says -EMFILE. */
static void table_has_a_bound(void **state)
{
	uint64_t ids[64], first = 0;
	int32_t file;
	uint32_t dialled = 0;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	while (slot_free_count(&it.shard->home->table) > SHARD_SLOTS_RESERVE + 1)
		first = harness_open_dialled(&it, PH_FRAMING_RAW, &file);
	assert_non_null(script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd));
	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	assert_true(harness_accept(&it) >= 0);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_accept_paused), 1);
	for (;;) {
		ids[dialled] = harness_dial(&it, PH_FRAMING_RAW);
		if (ids[dialled] == 0)
			break;
		dialled++;
		harness_turn(&it);
	}
	assert_int_equal(dialled, SHARD_SLOTS_RESERVE);
	/* Nothing left for one more that was on its way: it waits until there is. */
	file = harness_accept(&it);
	assert_true(file >= 0);
	harness_turn(&it);
	assert_false(script_is_closed(it.ring, file));
	assert_null(script_find(it.ring, SCRIPT_RECV, file));
	assert_int_equal(it.shard->held_count, 1);
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	assert_int_equal(harness_accept(&it), -1);
	assert_int_equal(harness_close(&it, first, PH_ABORT), 0);
	for (uint32_t i = 0; i < dialled; i++)
		assert_int_equal(harness_close(&it, ids[i], PH_ABORT), 0);
	harness_turns(&it, 5);
	/* Twice the reserve must be free again. */
	for (uint32_t i = 0; i < it.shard->slot_count &&
		script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd) == NULL;
		i++) {
		struct conn *conn = &it.shard->conns[i];

		if (conn->state == CONN_OPEN)
			(void)harness_close(&it, conn_id(conn), PH_ABORT);
		harness_turns(&it, 3);
	}
	assert_true(slot_free_count(&it.shard->home->table) >= 2 * SHARD_SLOTS_RESERVE);
	assert_true(harness_accept(&it) >= 0);
}

/* Refused without a slot and without a submission entry: closed when there is one. */
static void refused_stranger_waits_for_an_entry(void **state)
{
	struct script_op *accept;
	int32_t file;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	accept = script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd);
	while (harness_dial(&it, PH_FRAMING_RAW) != 0)
		;
	harness_turns(&it, 5);
	/* No slot for anybody, and as many as may wait for one do. */
	for (uint32_t i = 0; i < SHARD_HELD_MAX; i++) {
		file = script_answer_accept(it.ring, accept, true);
		harness_turn(&it);
		assert_false(script_is_closed(it.ring, file));
	}
	script_set_entries(it.ring, 0, true);
	file = script_answer_accept(it.ring, accept, true);
	harness_turns(&it, 2);
	assert_int_equal(harness_counter(&it, COUNTER_accept_errors), 1);
	assert_false(script_is_closed(it.ring, file));
	script_set_entries(it.ring, 1024, false);
	harness_turn(&it);
	assert_true(script_is_closed(it.ring, file));
	script_hold(it.ring, 0);
}

/* An accept that fails is tried again after a while, not in a loop. */
static void accept_fails_and_goes_on(void **state)
{
	uint64_t armed;

	(void)state;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	armed = script_queued_ever(it.ring, SCRIPT_ACCEPT);
	script_answer(it.ring, script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd), -ENFILE);
	harness_turns(&it, 5);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_ACCEPT), armed);
	clock_script_advance_ms(101);
	harness_turns(&it, 2);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_ACCEPT), armed + 1);
	assert_int_equal(harness_counter(&it, COUNTER_accept_errors), 1);
	script_answer_more(
		it.ring, script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd), -ECONNABORTED);
	harness_turn(&it);
	assert_true(harness_accept(&it) >= 0);
	/* No entry to arm it with: also a while. */
	script_answer(it.ring, script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd), -ECANCELED);
	script_set_entries(it.ring, 0, true);
	harness_turn(&it);
	script_set_entries(it.ring, 1024, false);
	clock_script_advance_ms(101);
	harness_turns(&it, 2);
	assert_true(harness_accept(&it) >= 0);
}

/* ---- waiting ------------------------------------------------------------------------------ */

static void mail_while_waiting(void *context)
{
	uint64_t *id = context;

	*id = harness_dial(&it, PH_FRAMING_RAW);
}

/* The shard waits only when nothing is to be done, until its next timer, and mail wakes it. */
static void waiting_and_waking(void **state)
{
	uint64_t id = 0, wakes = script_wakes();
	int32_t file;

	(void)state;
	for (int i = 0; i < 3; i++)
		shard_turn(it.shard, true);
	assert_true(script_waits(it.ring) > 0);
	assert_int_equal(script_waited_ns(it.ring), RING_FOREVER);
	script_set_on_wait(it.ring, mail_while_waiting, &id);
	shard_turn(it.shard, true);
	script_set_on_wait(it.ring, NULL, NULL);
	assert_true(id != 0);
	assert_int_equal(script_wakes(), wakes + 1);
	assert_int_equal(harness_conn(&it, id)->state, CONN_CONNECTING); /* seen in the same turn */
	for (int i = 0; i < 8; i++)
		shard_turn(it.shard, true);
	assert_int_equal(harness_peer(&it, id)->opened, 1);
	file = harness_conn(&it, id)->file;
	(void)file;
	assert_in_range(script_waited_ns(it.ring), 1, 31ull * 1000000000u);
	/* Awake, a poster does not wake it. */
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	assert_int_equal(script_wakes(), wakes + 1);
	script_set_enter_status(it.ring, -EBADF);
	shard_turn(it.shard, true);
	assert_true(harness_counter(&it, COUNTER_transport_errors) > 0);
	script_set_enter_status(it.ring, 0);
	harness_turns(&it, 4);
	/* The poll of the waker ends, and no entry is there to arm it again: short waits then. */
	script_answer(it.ring, script_find(it.ring, SCRIPT_POLL, SCRIPT_ANY_FILE), -ECANCELED);
	harness_turn(&it);
	script_set_entries(it.ring, 0, true);
	shard_turn(it.shard, true);
	assert_in_range(script_waited_ns(it.ring), 0, 1000000);
	script_set_entries(it.ring, 1024, false);
	harness_turn(&it);
	assert_non_null(script_find(it.ring, SCRIPT_POLL, SCRIPT_ANY_FILE));
}

static int group_begin(void **state)
{
	(void)state;
	credentials = test_identity_create(TEST_P256, "own");
	return 0;
}

static int group_end(void **state)
{
	(void)state;
	ph_credentials_put(credentials);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(no_memory_at_any_allocation),
		CASE(no_memory_inside_openssl),
		CASE(close_needs_no_memory),
		CASE(shard_starts_without_memory),
		CASE(reserve_is_for_closes),
		CASE(full_ring_during_a_mass_close),
		CASE(stuck_stages_of_one_close),
		CASE(stuck_stages_of_a_quiet_close),
		CASE(handshakes_have_a_bound),
		CASE(table_has_a_bound),
		CASE(refused_stranger_waits_for_an_entry),
		CASE(accept_fails_and_goes_on),
		CASE(waiting_and_waking),
	};

	CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free);
	return cmocka_run_group_tests(tests, group_begin, group_end);
}
