/*
 * A shard with more to do than it can: who is served first, who waits, who is declared dead; and what
 * one sees from outside meanwhile.
 */
#include "tests/fake/harness_case.h"

#include "engine/shard.h"
#include "tests/engine/test_certs.h"

#include <openssl/ssl.h>

#include <sys/resource.h>
#include <unistd.h>

#define STRANGERS 100u
#define STEPS SHARD_HANDSHAKES_PER_TURN

static struct ph_credentials *credentials;

static void begin_wide(uint32_t connections_per_shard, uint32_t handshakes_per_shard)
{
	struct ph_options options;

	harness_end(&it);
	harness_options(&options);
	options.connections_per_shard = connections_per_shard;
	options.handshakes_per_shard = handshakes_per_shard;
	options.receive_buffer_count = 256;
	options.receive_buffer_bytes = 4096;
	assert_int_equal(harness_start(&it, &options), 0);
}

static void begin_with(uint32_t handshakes_per_shard)
{
	begin_wide(256, handshakes_per_shard);
}

/* ---- hellos ------------------------------------------------------------------------------- */

static int hello_make(uint8_t *out, int bytes_max)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	BIO *sent = BIO_new(BIO_s_mem());
	int bytes;

	assert_non_null(ssl);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), sent);
	assert_int_equal(SSL_set_tlsext_host_name(ssl, "somebody"), 1);
	assert_int_not_equal(SSL_connect(ssl), 1);
	bytes = BIO_read(sent, out, bytes_max);
	assert_true(bytes > 0);
	SSL_free(ssl);
	SSL_CTX_free(context);
	return bytes;
}

/* Strangers connect one after the other, and say hello all at once. */
static void strangers_come(uint64_t *ids, int32_t *files, uint32_t count)
{
	uint8_t hello[2048];
	int bytes = hello_make(hello, sizeof(hello));

	for (uint32_t i = 0; i < count; i++) {
		files[i] = harness_accept(&it);
		assert_true(files[i] >= 0);
		ids[i] = harness_newest_id(&it);
	}
	for (uint32_t i = 0; i < count; i++)
		script_peer_data(it.ring, files[i], hello, (size_t)bytes);
}

static bool waits(uint64_t id)
{
	return harness_conn(&it, id)->state == CONN_HANDSHAKE;
}

/* While more than so many wait the newest is next; then the oldest. Each is refused, which shows. */
static void newest_hello_first_under_overload(void **state)
{
	uint64_t ids[STRANGERS];
	int32_t files[STRANGERS];
	uint32_t first = 0, behind = STRANGERS;

	(void)state;
	begin_with(128);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	strangers_come(ids, files, STRANGERS);
	while (first < behind) {
		harness_turn(&it);
		for (uint32_t i = 0; i < STEPS && first < behind; i++)
			if (behind - first > SHARD_HELLOS_IN_ORDER)
				behind--;
			else
				first++;
		for (uint32_t i = 0; i < STRANGERS; i++)
			assert_int_equal(waits(ids[i]), i >= first && i < behind);
	}
	assert_int_equal(harness_counter(&it, COUNTER_hello_refused), STRANGERS);
}

/* Who has gone is let go at once, not when the queue comes to him, and his place goes with him. */
static void gone_hellos_leave_the_queue(void **state)
{
	uint64_t ids[STRANGERS];
	int32_t files[STRANGERS];
	uint32_t lost = 0;

	(void)state;
	begin_with(128);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	strangers_come(ids, files, STRANGERS);
	harness_turn(&it);
	for (uint32_t i = 0; i < STRANGERS; i += 2)
		if (waits(ids[i])) {
			script_peer_end(it.ring, files[i], 0);
			lost++;
		}
	harness_turns(&it, 2);
	for (uint32_t i = 0; i < STRANGERS; i += 2)
		assert_false(waits(ids[i]));
	assert_int_equal(it.shard->hellos.count, STRANGERS - lost - 3 * STEPS);
	harness_turns(&it, 1 + STRANGERS / STEPS);
	assert_int_equal(it.shard->hellos.count, 0);
	assert_int_equal(harness_counter(&it, COUNTER_hello_refused), STRANGERS - lost);
}

/* A handshake under way is finished first, however many strangers come. */
static void handshake_under_way_goes_before_hellos(void **state)
{
	uint64_t ids[STRANGERS], dialled, accepted;
	int32_t files[STRANGERS], a, b;

	(void)state;
	begin_with(128);
	it.hello = credentials;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL);
	dialled = harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);
	script_hold(it.ring, 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	a = harness_conn(&it, dialled)->file;
	b = harness_accept(&it);
	accepted = harness_newest_id(&it);
	script_pair(it.ring, a, b);
	script_hold(it.ring, 0);
	for (int i = 0; i < 8 && harness_conn(&it, accepted)->tls == NULL; i++)
		harness_turn(&it);
	assert_non_null(harness_conn(&it, accepted)->tls);
	assert_int_equal(harness_conn(&it, accepted)->state, CONN_HANDSHAKE);
	script_hold(it.ring, 1u << SCRIPT_RECV);
	strangers_come(ids, files, STRANGERS);
	script_hold(it.ring, 0);
	harness_turns(&it, 8);
	assert_int_equal(harness_peer(&it, accepted)->opened, 1);
	assert_int_equal(harness_peer(&it, dialled)->opened, 1);
	assert_true(it.shard->hellos.count > STRANGERS / 2);
}

/* ---- accepting ---------------------------------------------------------------------------- */

/* What the kernel accepts behind a pause waits, unread, and is let in in order: no more shake hands than may. */
static void accepted_behind_a_pause_wait(void **state)
{
	int32_t files[8 + SHARD_HELD_MAX];
	uint64_t ids[8];

	(void)state;
	begin_with(8);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	for (uint32_t i = 0; i < 8 + SHARD_HELD_MAX; i++) {
		files[i] = harness_accept(&it);
		assert_true(files[i] >= 0);
		if (i < 8)
			ids[i] = harness_newest_id(&it);
		assert_true(it.shard->handshakes <= 8);
	}
	assert_int_equal(it.shard->handshakes, 8);
	assert_int_equal(it.shard->held_count, SHARD_HELD_MAX);
	assert_int_equal(harness_counter(&it, COUNTER_accept_errors), 0);
	/* Three go, three come, the oldest first. */
	for (int i = 0; i < 3; i++)
		script_peer_end(it.ring, files[i], 0);
	harness_turns(&it, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(harness_peer(&it, ids[i])->closed, 1);
	assert_int_equal(it.shard->handshakes, 8);
	assert_int_equal(it.shard->held_count, SHARD_HELD_MAX - 3);
	for (int i = 8; i < 11; i++)
		assert_non_null(script_find(it.ring, SCRIPT_RECV, files[i]));
	assert_null(script_find(it.ring, SCRIPT_RECV, files[11]));
	/* Accepting goes on only when nobody waits, and there is room. */
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	for (uint32_t i = 3; i < SHARD_HELD_MAX + 2; i++) {
		assert_null(script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd));
		script_peer_end(it.ring, files[i], 0);
		harness_turns(&it, 3);
	}
	assert_int_equal(it.shard->held_count, 0);
	assert_int_equal(it.shard->handshakes, 6); /* a quarter is free */
	assert_non_null(script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd));
}

/* One accept brings a whole backlog: as many as can wait do, and they are the last; for the others there are
 * slots. Only when there are none somebody is refused. */
static void backlog_at_once_loses_nobody(void **state)
{
	enum {
		BACKLOG = 600,
		SLOTS = 640
	};
	int32_t files[SLOTS + SHARD_HELD_MAX + 1];
	struct script_op *accept;

	(void)state;
	begin_wide(SLOTS, 16);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	accept = script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd);
	assert_non_null(accept);
	for (uint32_t i = 0; i < BACKLOG; i++)
		files[i] = script_answer_accept(it.ring, accept, true);
	harness_turn(&it);
	assert_int_equal(harness_counter(&it, COUNTER_accept_errors), 0);
	assert_int_equal(it.shard->held_count, SHARD_HELD_MAX);
	assert_int_equal(it.shard->handshakes, BACKLOG - SHARD_HELD_MAX);
	harness_turn(&it);
	for (uint32_t i = 0; i < BACKLOG; i++) {
		assert_false(script_is_closed(it.ring, files[i]));
		assert_int_equal(script_find(it.ring, SCRIPT_RECV, files[i]) != NULL,
			i < BACKLOG - SHARD_HELD_MAX);
	}
	/* To the last slot, and one more. */
	for (uint32_t i = BACKLOG; i < SLOTS + SHARD_HELD_MAX + 1; i++)
		files[i] = script_answer_accept(it.ring, accept, true);
	harness_turns(&it, 2);
	assert_int_equal(it.shard->handshakes, SLOTS);
	assert_int_equal(it.shard->held_count, SHARD_HELD_MAX);
	assert_int_equal(harness_counter(&it, COUNTER_accept_errors), 1);
	for (uint32_t i = 0; i < SLOTS + SHARD_HELD_MAX + 1; i++)
		assert_int_equal(script_is_closed(it.ring, files[i]), i == SLOTS + SHARD_HELD_MAX);
	/* They go, those behind them come, and then the backlog. */
	script_hold(it.ring, 0);
	for (uint32_t i = 0; i < SLOTS + SHARD_HELD_MAX; i++)
		script_peer_end(it.ring, files[i], 0);
	harness_turns(&it, 80);
	assert_int_equal(it.shard->held_count, 0);
	assert_int_equal(it.shard->handshakes, 0);
	assert_int_equal(harness_counter(&it, COUNTER_accept_errors), 1);
	assert_non_null(script_find(it.ring, SCRIPT_ACCEPT, it.listen_fd));
}

/* Those who wait go with their listener, and with the hub (case_end looks). */
static void accepted_behind_a_pause_go_with_their_listener(void **state)
{
	int32_t files[6], other, number;

	(void)state;
	begin_with(2);
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	number = it.listener;
	other = it.listen_fd;
	harness_listen(&it, PH_FRAMING_MESSAGE, PH_TLS_NONE);
	script_hold(it.ring, 1u << SCRIPT_CANCEL);
	for (int i = 0; i < 6; i++) {
		struct script_op *op =
			script_find(it.ring, SCRIPT_ACCEPT, i % 2 == 0 ? other : it.listen_fd);

		assert_non_null(op);
		files[i] = script_answer_accept(it.ring, op, true);
		harness_turn(&it);
	}
	assert_int_equal(it.shard->held_count, 4);
	shard_listener_end(it.shard, &it.shard->listeners[number]);
	harness_turns(&it, 2);
	assert_int_equal(it.shard->held_count, 2);
	for (int i = 2; i < 6; i++)
		assert_int_equal(script_is_closed(it.ring, files[i]), i % 2 == 0);
	script_hold(it.ring, 0);
}

/* ---- silence ------------------------------------------------------------------------------ */

static void slow_enter(void *context)
{
	(void)context;
	clock_script_advance_ms(200000);
}

/* Our own thread stood still inside the kernel: what the peer said meanwhile is looked at first. */
static void our_own_silence_is_no_death(void **state)
{
	int32_t talking, silent;
	uint64_t heard = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &talking);
	uint64_t unheard = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &silent);

	(void)state;
	harness_turns(&it, 2);
	script_set_on_wait(it.ring, slow_enter, NULL);
	shard_turn(it.shard, true);
	script_set_on_wait(it.ring, NULL, NULL);
	assert_int_equal(harness_peer(&it, heard)->closed, 0);
	assert_int_equal(harness_peer(&it, unheard)->closed, 0);
	peer_says_message(&it, talking, "here", 4);
	for (int i = 0; i < 4; i++) {
		harness_turns(&it, 2);
		clock_script_advance_ms(60);
	}
	assert_int_equal(harness_peer(&it, heard)->closed, 0);
	assert_int_equal(harness_peer(&it, heard)->messages, 1);
	assert_int_equal(harness_peer(&it, unheard)->closed, 1);
	assert_int_equal(harness_peer(&it, unheard)->receipt.reason, PH_REASON_TRANSPORT_DEAD);
}

/* As long as turns bring many completions there may be more behind them; but not without an end. */
static void silence_counts_when_all_was_heard(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_MESSAGE, &file);
	uint32_t turns = 0;

	(void)state;
	harness_turns(&it, 2);
	clock_script_advance_ms(200000);
	while (harness_peer(&it, id)->closed == 0 && turns < SHARD_HEARD_EACH * 32) {
		for (uint32_t i = 0; i < SHARD_HEARD_BATCH; i++)
			script_stray(it.ring, op_data(OP_CANCEL, 0xffffffu, 0), 0, false);
		harness_turn(&it);
		clock_script_advance_ms(60);
		turns++;
	}
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_DEAD);
	/* So many completions for each slot, 16 a turn. */
	assert_in_range(turns, SHARD_HEARD_EACH * it.shard->slot_count / SHARD_HEARD_BATCH,
		SHARD_HEARD_EACH * it.shard->slot_count / SHARD_HEARD_BATCH + 6);
}

/* ---- seen from outside -------------------------------------------------------------------- */

static void mail_is_counted(void **state)
{
	int32_t file;
	uint64_t id = harness_open_dialled(&it, PH_FRAMING_RAW, &file), before;
	struct ph_statistics stats;

	(void)state;
	harness_turns(&it, 2);
	before = harness_counter(&it, COUNTER_mail_posted);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(harness_send(&it, id, "x", 1), 0);
		assert_int_equal(harness_send(&it, id, "x", 1), 0); /* the same link */
		harness_turn(&it);
	}
	assert_int_equal(harness_counter(&it, COUNTER_mail_posted), before + 3);
	ph_stats(&it.hub, &stats);
	assert_true(stats.mail_posted >= stats.mail_handled);
}

/* A dump is asked for when something is wrong: it takes no descriptor. */
static void dump_without_descriptors(void **state)
{
	struct rlimit limit, none;
	char text[16384];
	ssize_t bytes;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(dup(0), -1);
	ph_hub_dump(&it.hub, ends[1]);
	ph_hub_dump(&it.hub, -1); /* nowhere: nothing happens */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(ends[1]);
	bytes = read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	assert_true(bytes > 0);
	text[bytes] = '\0';
	assert_non_null(strstr(text, "hub shards 1"));
	assert_non_null(strstr(text, "shard 0 home"));
}

static int group_begin(void **state)
{
	(void)state;
	credentials = test_identity_create(TEST_P256, "own");
	return credentials == NULL;
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
		CASE(newest_hello_first_under_overload),
		CASE(gone_hellos_leave_the_queue),
		CASE(handshake_under_way_goes_before_hellos),
		CASE(accepted_behind_a_pause_wait),
		CASE(backlog_at_once_loses_nobody),
		CASE(accepted_behind_a_pause_go_with_their_listener),
		CASE(our_own_silence_is_no_death),
		CASE(silence_counts_when_all_was_heard),
		CASE(mail_is_counted),
		CASE(dump_without_descriptors),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
