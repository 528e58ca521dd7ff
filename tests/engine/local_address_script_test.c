/*
 * A connection that is bound to an address of ours before it dials: the order of its operations, and its
 * end when the address is refused, or when it is closed in between.
 */
#include "tests/fake/harness_case.h"

#define BIT(kind) (1u << (kind))

static int dial_from(const char *local, const char *remote, uint64_t *id)
{
	struct ph_open_options options = {.kind = PH_KIND_RAW,
		.framing = PH_FRAMING_RAW,
		.tls = PH_TLS_NONE,
		.tag = HARNESS_TAG,
		.user = HARNESS_USER};

	assert_int_equal(ph_address_parse(remote, &options.address), 0);
	assert_int_equal(ph_address_parse(local, &options.local_address), 0);
	return ph_open(&it.hub, &options, id);
}

/* Connect waits for the bind's answer. */
static void bound_then_connected(void **state)
{
	uint64_t id;
	int32_t file;

	(void)state;
	script_hold(it.ring, BIT(SCRIPT_BIND));
	assert_int_equal(dial_from("127.0.0.2:0", "127.0.0.1:9", &id), 0);
	harness_turns(&it, 4);
	file = harness_conn(&it, id)->file;
	assert_non_null(script_find(it.ring, SCRIPT_BIND, file));
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_CONNECT), 0);
	script_answer(it.ring, script_find(it.ring, SCRIPT_BIND, file), 0);
	harness_turns(&it, 4);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_BIND), 1);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_CONNECT), 1);
	assert_int_equal(harness_peer(&it, id)->opened, 1);
	assert_int_equal(harness_close(&it, id, PH_ABORT), 0);
	harness_turns(&it, 4);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
}

static void refused_address_fails_the_opening(void **state)
{
	uint64_t id;

	(void)state;
	script_hold(it.ring, BIT(SCRIPT_BIND));
	assert_int_equal(dial_from("127.0.0.2:0", "127.0.0.1:9", &id), 0);
	harness_turns(&it, 4);
	script_answer(it.ring, script_find(it.ring, SCRIPT_BIND, SCRIPT_ANY_FILE), -EADDRNOTAVAIL);
	harness_turns(&it, 4);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_CONNECT), 0);
	assert_int_equal(harness_peer(&it, id)->closed, 1);
	assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_TRANSPORT_CONNECT);
	assert_int_equal(harness_peer(&it, id)->receipt.error, -EADDRNOTAVAIL);
	assert_int_equal(harness_peer(&it, id)->receipt.failure, PH_FAILURE_CONNECT);
}

/* The end waits for the bind's answer, whatever it is, and nothing is connected. */
static void closed_while_it_is_bound(void **state)
{
	static const int answers[] = {0, -EADDRINUSE};

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		uint64_t id;

		script_hold(it.ring, BIT(SCRIPT_BIND));
		assert_int_equal(dial_from("[::2]:5", "[::1]:9", &id), 0);
		harness_turns(&it, 4);
		assert_int_equal(harness_close(&it, id, PH_GRACEFUL), 0);
		harness_turns(&it, 4);
		assert_int_equal(harness_peer(&it, id)->closed, 0);
		script_answer(
			it.ring, script_find(it.ring, SCRIPT_BIND, SCRIPT_ANY_FILE), answers[i]);
		harness_turns(&it, 4);
		assert_int_equal(harness_peer(&it, id)->closed, 1);
		assert_int_equal(harness_peer(&it, id)->receipt.reason, PH_REASON_LOCAL_CLOSE);
		assert_int_equal(script_queued_ever(it.ring, SCRIPT_CONNECT), 0);
	}
}

/* Without an entry for the bind the next turn tries again. */
static void bound_when_there_is_an_entry(void **state)
{
	uint64_t id;

	(void)state;
	script_hold(it.ring, BIT(SCRIPT_SOCKET));
	assert_int_equal(dial_from("127.0.0.2:0", "127.0.0.1:9", &id), 0);
	harness_turns(&it, 4);
	script_set_entries(it.ring, RING_RESERVE, true);
	script_answer(it.ring, script_find(it.ring, SCRIPT_SOCKET, SCRIPT_ANY_FILE),
		script_file_create(it.ring));
	harness_turns(&it, 3);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_BIND), 0);
	script_set_entries(it.ring, 256, false);
	script_hold(it.ring, 0);
	harness_turns(&it, 6);
	assert_int_equal(script_queued_ever(it.ring, SCRIPT_BIND), 1);
	assert_int_equal(harness_peer(&it, id)->opened, 1);
}

static void what_cannot_be_is_refused_at_once(void **state)
{
	uint64_t id;

	(void)state;
	assert_int_equal(dial_from("127.0.0.2:0", "[::1]:9", &id), -EINVAL);
	assert_int_equal(dial_from("[::1]:0", "127.0.0.1:9", &id), -EINVAL);
	it.hub.features.bind = false;
	assert_int_equal(dial_from("127.0.0.2:0", "127.0.0.1:9", &id), -EOPNOTSUPP);
	it.hub.features.bind = true;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(bound_then_connected),
		CASE(refused_address_fails_the_opening),
		CASE(closed_while_it_is_bound),
		CASE(bound_when_there_is_an_entry),
		CASE(what_cannot_be_is_refused_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
