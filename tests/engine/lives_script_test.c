/*
 * Many lives at once, one seed: connections are dialled, accepted, sent on, paused and closed at random
 * while the ring answers at random, runs out of entries and buffers, and allocations fail. At the end of
 * each seed every id has had exactly one on_closed (the harness sees to that), and of all ph_close calls on
 * it at most one won: exactly one if the cause that was latched is a call's.
 */

#include "engine/wire.h"
#include "tests/engine/harness_tls.h"

#define STEPS 300

static uint64_t random_state;
static uint64_t seed_first = 1, seed_count = 40;
static uint64_t opened; /* over all seeds */
static uint32_t random_below(uint32_t count)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 20) % count;
}

/* What this test knows of an id. */
struct life {
	uint64_t id;
	uint32_t wins;
	bool dialled;
};
static struct life lives[HARNESS_PEERS_MAX];
static uint32_t lives_count;

static struct life *life_of(uint64_t id)
{
	for (uint32_t i = 0; i < lives_count; i++)
		if (lives[i].id == id)
			return &lives[i];
	assert_true(lives_count < HARNESS_PEERS_MAX);
	lives[lives_count] = (struct life){.id = id};
	return &lives[lives_count++];
}

/* Any id ever seen, most often a young one; 0 when there is none. */
static uint64_t any_id(void)
{
	uint32_t back;

	if (random_below(3) == 0 && it.shard->slot_count > 0) {
		const struct conn *conn = &it.shard->conns[random_below(it.shard->slot_count)];

		if (conn->state != CONN_FREE)
			return conn_id(conn);
	}
	if (lives_count == 0)
		return 0;
	back = random_below(lives_count < 12 ? lives_count : 12);
	return lives[lives_count - 1 - back].id;
}

static void try_close(uint64_t id, bool inside)
{
	enum ph_how how = random_below(2) ? PH_ABORT : PH_GRACEFUL;
	uint32_t reason = random_below(3) == 0 ? 1500 : 0;
	int status;

	if (inside)
		status = ph_close(id, HARNESS_TAG, how, reason, reason != 0 ? "r" : NULL);
	else
		status = harness_close_text(&it, id, how, reason, reason != 0 ? "r" : NULL);
	if (status == 0)
		life_of(id)->wins++;
	else
		assert_true(status == -ENOENT || (status == -EALREADY && how == PH_ABORT));
}

static void inside(struct harness *harness, uint64_t id)
{
	(void)harness;
	if (random_below(12) == 0)
		try_close(random_below(2) ? id : any_id(), true);
	if (random_below(8) == 0)
		(void)harness_send_inside(id, "inside", 6);
	it.data_status = random_below(10) == 0 ? -EAGAIN : 0;
	it.refuse = random_below(10) == 0 ? PH_REFUSE_BUSY : PH_ACCEPT;
	it.verify_status = random_below(12) == 0 ? -EACCES : 0;
}

static void inside_end(struct harness *harness, uint64_t id)
{
	(void)harness;
	assert_int_equal(ph_close(id, HARNESS_TAG, PH_ABORT, 0, NULL), -ENOENT);
	assert_int_equal(harness_send_inside(id, "inside", 6), -ENOENT);
	if (random_below(8) == 0)
		try_close(any_id(), true);
	if (random_below(4) == 0) {
		uint64_t fresh = harness_dial(&it, PH_FRAMING_MESSAGE);

		if (fresh != 0)
			life_of(fresh)->dialled = true;
	}
}

/* ---- what happens ------------------------------------------------------------------------- */

static void step_peer(void)
{
	static const uint8_t unknown[8] = {0, 0, 0, 8, 0x10, 0x7f, 0, 0};
	static const uint8_t much[3000];
	uint8_t message[HARNESS_MESSAGE_MAX];
	uint32_t open = 0, at;
	int32_t newest = script_file_newest(it.ring), file = -1;
	size_t bytes;

	for (int32_t i = newest; i >= 100 && open < 16; i--)
		open += !script_is_closed(it.ring, i);
	if (open == 0)
		return;
	at = random_below(open);
	for (int32_t i = newest; i >= 100; i--)
		if (!script_is_closed(it.ring, i) && at-- == 0) {
			file = i;
			break;
		}
	switch (random_below(16)) {
	case 0:
		script_peer_end(it.ring, file, 0);
		break;
	case 1:
		script_peer_end(it.ring, file, -ECONNRESET);
		break;
	case 2:
		peer_says_disconnect(&it, file);
		break;
	case 3:
		if (random_below(4) == 0)
			script_peer_data(it.ring, file, unknown, sizeof(unknown));
		break;
	case 4:
	case 5:
		peer_says_welcome(&it, file);
		break;
	case 6:
	case 7:
		peer_says_auth_info(&it, file);
		break;
	case 8:
	case 9:
		peer_says_connect(&it, file);
		break;
	case 10:
		bytes = peer_message(message, much, random_below(2000));
		script_peer_data(it.ring, file, message, random_below((uint32_t)bytes + 1));
		break;
	case 11:
		bytes = peer_notice(message, 1001, "so it is");
		script_peer_data(it.ring, file, message, bytes);
		break;
	default:
		peer_says_message(&it, file, much, random_below(3000));
		break;
	}
}

/* One of those held answers. */
static void step_answer(void)
{
	static const int errors[] = {-ECONNRESET, -EPIPE, -ECANCELED, -ETIMEDOUT};
	struct script_op *op, *picked = NULL;
	uint32_t count = 0;

	for (op = script_walk(it.ring, NULL); op != NULL; op = script_walk(it.ring, op))
		if (op->submitted && (script_held(it.ring) & (1u << op->kind)) &&
			op->kind != SCRIPT_POLL && op->kind != SCRIPT_ACCEPT &&
			random_below(++count) == 0)
			picked = op;
	if (picked == NULL)
		return;
	if (picked->kind == SCRIPT_SEND && random_below(3) == 0)
		script_answer_sent(it.ring, picked, 1 + random_below((uint32_t)picked->bytes));
	else if (random_below(8) == 0 && picked->kind != SCRIPT_CANCEL &&
		picked->kind != SCRIPT_CLOSE && picked->kind != SCRIPT_RECV)
		script_answer(it.ring, picked, errors[random_below(4)]);
	else if (picked->kind == SCRIPT_RECV)
		script_answer(it.ring, picked, random_below(2) ? -ENOBUFS : errors[0]);
	else
		script_answer_natural(it.ring, picked);
}

static void step_trouble(void)
{
	switch (random_below(12)) {
	case 0:
		script_set_entries(it.ring, random_below(80), true);
		break;
	case 1:
		script_set_buffers(it.ring, random_below(4));
		break;
	case 2:
		memory_script_fail(1 + random_below(12), random_below(3) == 0);
		break;
	case 3:
		script_hold(it.ring, (uint32_t)random_state & SCRIPT_ALL);
		break;
	case 4:
		script_set_send_max(it.ring, 1 + random_below(700));
		break;
	case 5:
		script_set_slice_max(it.ring, 1 + random_below(200));
		break;
	case 6:
		script_set_overflow(it.ring);
		break;
	case 7:
		clock_script_advance_ms(random_below(40000));
		break;
	default:
		/* And well again. */
		script_set_entries(it.ring, 1024, false);
		script_set_buffers(it.ring, 16);
		memory_script_fail(0, false);
		script_hold(it.ring, 0);
		script_set_send_max(it.ring, 0);
		script_set_slice_max(it.ring, 0);
		break;
	}
}

static bool listener_is_tls;

/* One dials the other: two ends on this shard, every byte of one an input of the other. */
static void step_meet(void)
{
	uint32_t held = script_held(it.ring);
	uint64_t id = listener_is_tls ? harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials)
				      : harness_dial(&it, PH_FRAMING_MESSAGE);
	int32_t a, b;

	if (id == 0)
		return;
	life_of(id)->dialled = true;
	script_hold(it.ring, held | 1u << SCRIPT_CONNECT);
	harness_turns(&it, 4);
	a = harness_conn(&it, id)->file;
	if (conn_id(harness_conn(&it, id)) == id && a != RING_FILE_NONE &&
		script_find(it.ring, SCRIPT_CONNECT, a) != NULL) {
		b = harness_accept(&it);
		if (b >= 0 && !script_is_closed(it.ring, a))
			script_pair(it.ring, a, b);
		if (b >= 0 && harness_newest_id(&it) != 0)
			(void)life_of(harness_newest_id(&it));
	}
	script_hold(it.ring, held & ~(1u << SCRIPT_CONNECT));
}

static void step(void)
{
	static const uint8_t much[4000];
	uint64_t id = any_id();

	switch (random_below(20)) {
	case 0:
	case 1:
		id = random_below(4)	  ? harness_dial(&it, PH_FRAMING_MESSAGE)
			: random_below(2) ? harness_dial(&it, PH_FRAMING_RAW)
					  : harness_dial_tls(&it, PH_FRAMING_MESSAGE, credentials);
		if (id != 0)
			life_of(id)->dialled = true;
		break;
	case 2:
		if (harness_accept(&it) >= 0 && harness_newest_id(&it) != 0)
			(void)life_of(harness_newest_id(&it));
		break;
	case 3:
	case 4:
		if (id != 0)
			try_close(id, false);
		break;
	case 5:
	case 6:
		if (id != 0)
			(void)harness_send(&it, id, much, random_below(sizeof(much)));
		break;
	case 7:
		if (id != 0)
			(void)!(random_below(2) ? ph_pause(id, HARNESS_TAG)
						: ph_resume(id, HARNESS_TAG));
		break;
	case 8:
		step_trouble();
		break;
	case 9:
		clock_script_advance_ms(random_below(300));
		break;
	case 10:
	case 11:
	case 12:
		step_answer();
		break;
	case 13:
		step_meet();
		break;
	case 14:
		harness_turns(&it, 3);
		break;
	default:
		step_peer();
		break;
	}
}

static void one_seed(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15u + 1;
	lives_count = 0;
	script_set_probe(0, random_below(4) > 0, random_below(4) > 0);
	case_begin(NULL);
	it.any_type = true; /* peers break off anywhere, so the rest may be read as anything */
	it.in_open = inside;
	it.in_data = inside;
	it.in_connect = inside;
	it.in_verify = inside;
	it.in_writable = inside;
	it.in_closed = inside_end;
	it.hello = credentials;
	listener_is_tls = random_below(4) == 0;
	harness_listen(&it, random_below(4) ? PH_FRAMING_MESSAGE : PH_FRAMING_RAW,
		listener_is_tls ? PH_TLS_MUTUAL : PH_TLS_NONE);
	for (int i = 0; i < STEPS; i++) {
		step();
		if (random_below(3) == 0)
			harness_turn(&it);
	}
	opened += harness_counter(&it, COUNTER_opened);
	harness_end(&it);
	for (uint32_t i = 0; i < lives_count; i++) {
		const struct harness_peer *peer = harness_peer(&it, lives[i].id);
		uint32_t reason = peer->receipt.reason;
		bool called = reason == PH_REASON_LOCAL_CLOSE || reason == PH_REASON_LOCAL_ABORT ||
			reason == 1500;

		if (lives[i].wins > 1 || (called && lives[i].wins != 1) ||
			(!called && lives[i].wins != 0) || peer->closed != 1)
			fail_msg("seed %llu: id %llx: %u calls won, reason %u, closed %u",
				(unsigned long long)seed, (unsigned long long)lives[i].id,
				lives[i].wins, reason, peer->closed);
	}
	case_end(NULL);
}

static void lives_of_many_seeds(void **state)
{
	(void)state;
	print_message("seeds %llu to %llu (--seed N runs one)\n", (unsigned long long)seed_first,
		(unsigned long long)(seed_first + seed_count - 1));
	for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		one_seed(seed);
	}
	script_set_probe(0, true, true);
	print_message("%llu connections were open\n", (unsigned long long)opened);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lives_of_many_seeds),
	};

	if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
		seed_first = strtoull(argv[2], NULL, 10);
		seed_count = 1;
	} else if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
		seed_count = strtoull(argv[2], NULL, 10);
	}
	return cmocka_run_group_tests(tests, group_begin, group_end);
}
