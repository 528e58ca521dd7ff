/*
 * Generations that run out, on the kernel's ring. Two hubs with a few slots whose last generation is a small
 * number open and close connections until one side has no slot left. Meanwhile every id that was ever
 * handed out, by either side, is tried in every call: it must be unknown, and must not disturb the
 * connection that has its slot now. Each connection's receipt tells whether a stranger ended it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stress/random.h"
#include "tests/engine/test_certs.h"
#include "tests/leak/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SLOTS 16u
#define SLOTS_LARGE 64u
#define LIVES 5u /* of the slot that lived least before; the others have fewer */
#define IDS_MAX 8192u
#define TAG 9u
#define GROUP "0.wrap"
#define REASON_MEANT 1234u /* the reason of every close this test means */
#define REASON_STALE 2666u /* the reason of every close of a stale id */
#define WAIT_TURNS 120000
#define ALIVE 4u /* connections open at a time */

struct seen {
	_Atomic uint64_t id;
	_Atomic uint32_t opened, closed;
	_Atomic uint32_t reason;
};

static struct seen seen[IDS_MAX]; /* of both hubs, as they come */
static _Atomic uint32_t seen_count;
static struct ph_credentials *credentials;
static struct ph_hub *hubs[2]; /* 0 dials, 1 accepts */
static uint32_t lives_left[2]; /* of all slots of that hub together, when it began */
static ph_address addresses[3]; /* raw, message, message over TLS */
static struct random dice;
static _Atomic uint32_t strangers; /* receipts with the reason of a stale close */

/* Shards and the test meet here, each of them may be the first to name an id. */
static struct seen *seen_of(uint64_t id)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint32_t index;

	pthread_mutex_lock(&lock);
	for (index = 0; index < atomic_load(&seen_count); index++)
		if (atomic_load(&seen[index].id) == id)
			break;
	if (index == IDS_MAX)
		abort();
	if (index == atomic_load(&seen_count)) {
		atomic_store(&seen[index].id, id);
		atomic_store(&seen_count, index + 1);
	}
	pthread_mutex_unlock(&lock);
	return &seen[index];
}

/* ---- callbacks ----------------------------------------------------------------------------- */

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	(void)hub_user, (void)sni;
	answer->credentials = ph_credentials_get(credentials);
	strcpy(answer->group, GROUP);
	strcpy(answer->identity, GROUP);
	return 0;
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	(void)hub_user, (void)id, (void)sni, (void)expected, (void)chain;
	strcpy(verdict->group, GROUP);
	strcpy(verdict->identity, GROUP);
	if (accepted)
		verdict->tag = TAG;
	return 0;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	(void)hub_user, (void)user, (void)info;
	atomic_fetch_add(&seen_of(id)->opened, 1);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct seen *one = seen_of(id);

	(void)hub_user, (void)user;
	if (receipt->reason == REASON_STALE || receipt->peer_reason == REASON_STALE)
		atomic_fetch_add(&strangers, 1);
	atomic_store(&one->reason, receipt->reason);
	atomic_fetch_add(&one->closed, 1);
}

static const struct ph_callbacks callbacks = {
	.on_hello = on_hello, .on_verify = on_verify, .on_open = on_open, .on_closed = on_closed};

/* ---- hubs ---------------------------------------------------------------------------------- */

/* Let no slot of the hub live longer than to `lives` generations from the youngest; 0: for ever. Its home
 * may have served another hub before, so generations begin anywhere. Returns the lives left. */
static uint32_t hub_narrow(struct ph_hub *hub, uint32_t slots, uint32_t lives)
{
	struct slot_table *table = &hub->shards[0]->home->table;
	uint32_t least = UINT32_MAX, left = 0;

	table->generation_last = UINT32_MAX;
	if (lives == 0)
		return UINT32_MAX;
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < slots; i++) {
			uint32_t generation =
				slot_word_generation(atomic_load(&table->slots[i].word));

			generation += generation == 0;
			if (pass == 0)
				least = generation < least ? generation : least;
			else
				/* One that is beyond already waits in the queue, for one more life. */
				left += generation >= least + lives ? 1
								    : least + lives - generation;
		}
	}
	table->generation_last = least + lives - 1;
	return left;
}

static struct ph_hub *hub_start(uint32_t slots, uint32_t lives, uint32_t *left)
{
	struct ph_options options = {
		.size = sizeof(options),
		.shard_count = 1,
		.connections_per_shard = slots,
		.receive_buffer_count = 64,
		.timeout_handshake_ms = 5000,
		.timeout_welcome_ms = 5000,
		.timeout_close_ms = 2000,
	};
	char why[PH_WHY_BYTES];
	struct ph_hub *hub;

	if (ph_hub_start(&options, &callbacks, &hub, why) < 0)
		fail_msg("%s", why);
	/* Nothing has been opened: the shard has not looked at it yet. */
	*left = hub_narrow(hub, slots, lives);
	return hub;
}

static void listen_on(struct ph_hub *hub)
{
	for (int kind = 0; kind < 3; kind++) {
		struct ph_listen_options options = {
			.framing = kind == 0 ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE,
			.tls = kind == 2 ? PH_TLS_MUTUAL : PH_TLS_NONE,
			.tag = TAG,
		};

		assert_int_equal(ph_address_parse("127.0.5.1:0", &options.address), 0);
		assert_true(ph_listen(hub, &options, &addresses[kind]) >= 0);
	}
}

static int dial(int kind, uint64_t *id)
{
	struct ph_open_options options = {
		.address = addresses[kind],
		.kind = PH_KIND_DIRECT,
		.framing = kind == 0 ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE,
		.tls = kind == 2 ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.credentials = kind == 2 ? credentials : NULL,
		.sni = "wrap",
		.group = GROUP,
		.source = GROUP,
		.tag = TAG,
	};

	return ph_open(hubs[0], &options, id);
}

static bool wait_until(const _Atomic uint32_t *value, uint32_t wanted)
{
	const struct timespec pause = {.tv_nsec = 500000};

	for (int turn = 0; turn < WAIT_TURNS && atomic_load(value) < wanted; turn++)
		nanosleep(&pause, NULL);
	return atomic_load(value) >= wanted;
}

static void wait_rest(struct ph_hub *hub)
{
	char text[INSPECT_TEXT_BYTES];

	if (inspect_wait(hub, 10000, text) < 0)
		fail_msg("not at rest: %s", text);
}

/* ---- stale ids ----------------------------------------------------------------------------- */

static void try_one(uint64_t id)
{
	const struct ph_part part = {.data = "x", .bytes = 1};
	static const uint8_t type[16] = {1};

	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), -ENOENT);
	assert_int_equal(ph_close(id, TAG, PH_ABORT, REASON_STALE, "stale"), -ENOENT);
	assert_int_equal(ph_send(id, TAG, type, &part, 1), -ENOENT);
	assert_int_equal(ph_pause(id, TAG), -ENOENT);
	assert_int_equal(ph_resume(id, TAG), -ENOENT);
}

static int visit_open(void *context, const struct ph_connection *connection)
{
	struct seen *one = seen_of(connection->id);

	(void)context;
	return atomic_load(&one->opened) == 1 ? 0 : 1;
}

/* Every id whose last event has been: unknown to every call, and no lookup names it. */
static uint32_t try_stale(void)
{
	uint32_t count = atomic_load(&seen_count), stale = 0;
	uint64_t found[4 * SLOTS_LARGE];

	for (uint32_t i = 0; i < count; i++) {
		if (atomic_load(&seen[i].closed) == 0)
			continue;
		stale++;
		try_one(atomic_load(&seen[i].id));
	}
	for (int h = 0; h < 2; h++) {
		uint32_t have = ph_find(hubs[h], GROUP, GROUP, found, 4 * SLOTS_LARGE);

		assert_true(have <= 4 * SLOTS_LARGE);
		for (uint32_t i = 0; i < have; i++)
			assert_int_equal(atomic_load(&seen_of(found[i])->opened), 1);
		(void)ph_connections(hubs[h], NULL, visit_open, NULL);
	}
	return stale;
}

/* The same from another thread and at any moment, while slots change hands. */
static pthread_t hammer_thread;
static atomic_bool hammer_ends;
static _Atomic uint32_t hammer_hits; /* a stale id that was known to a call */
static _Atomic uint64_t hammer_calls;

static void *hammer(void *context)
{
	const struct ph_part part = {.data = "x", .bytes = 1};
	static const uint8_t type[16] = {1};
	struct random random;

	(void)context;
	random_init(&random, 1, 1);
	while (!atomic_load(&hammer_ends)) {
		uint32_t count = atomic_load(&seen_count);
		struct seen *one = count > 0 ? &seen[random_below(&random, count)] : NULL;
		uint64_t id;

		if (one == NULL || atomic_load(&one->closed) == 0) {
			sched_yield();
			continue;
		}
		id = atomic_load(&one->id);
		if (ph_close(id, TAG, PH_ABORT, REASON_STALE, "stale") != -ENOENT ||
			ph_close(id, TAG, PH_GRACEFUL, 0, NULL) != -ENOENT ||
			ph_send(id, TAG, type, &part, 1) != -ENOENT || ph_pause(id, TAG) != -ENOENT)
			atomic_fetch_add(&hammer_hits, 1);
		/* It shall disturb, not starve: the machine may have one core for all of this. */
		if (atomic_fetch_add(&hammer_calls, 1) % 64 == 63)
			nanosleep(&(const struct timespec){.tv_nsec = 100000}, NULL);
	}
	return NULL;
}

/* ---- the run ------------------------------------------------------------------------------- */

struct open_one {
	uint64_t id;
	int kind;
};

/* Open up to ALIVE at once. Returns how many; fewer only when there is no slot any more. */
static uint32_t open_some(struct open_one *open, bool *exhausted)
{
	uint32_t count = 0;

	while (count < ALIVE && !*exhausted) {
		int status;

		open[count].kind = (int)random_below(&dice, 3);
		status = dial(open[count].kind, &open[count].id);
		if (status == -EMFILE) {
			*exhausted = true;
			break;
		}
		assert_int_equal(status, 0);
		count++;
	}
	return count;
}

/* Each is open and stays so while all stale ids are tried; then it ends, for our reason alone. */
static bool round_run(bool *exhausted)
{
	struct open_one open[ALIVE];
	uint32_t count = open_some(open, exhausted);
	bool all_open = true;

	for (uint32_t i = 0; i < count; i++)
		all_open &= wait_until(&seen_of(open[i].id)->opened, 1);
	(void)try_stale();
	for (uint32_t i = 0; i < count; i++)
		if (atomic_load(&seen_of(open[i].id)->closed) == 0)
			(void)ph_close(open[i].id, TAG,
				random_below(&dice, 2) == 0 ? PH_GRACEFUL : PH_ABORT, REASON_MEANT,
				NULL);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(wait_until(&seen_of(open[i].id)->closed, 1));
		assert_int_equal(atomic_load(&seen_of(open[i].id)->closed), 1);
		if (all_open)
			assert_int_equal(atomic_load(&seen_of(open[i].id)->reason), REASON_MEANT);
	}
	return all_open;
}

static void begin(
	uint32_t dial_slots, uint32_t dial_lives, uint32_t accept_slots, uint32_t accept_lives)
{
	uint64_t seed = (uint64_t)time(NULL);

	printf("seed %" PRIu64 "\n", seed);
	random_init(&dice, seed, 0);
	memset(seen, 0, sizeof(seen));
	atomic_store(&seen_count, 0);
	atomic_store(&strangers, 0);
	hubs[0] = hub_start(dial_slots, dial_lives, &lives_left[0]);
	hubs[1] = hub_start(accept_slots, accept_lives, &lives_left[1]);
	listen_on(hubs[1]);
	atomic_store(&hammer_ends, false);
	assert_int_equal(pthread_create(&hammer_thread, NULL, hammer, NULL), 0);
}

static void finish(void)
{
	/* A second pair of hubs of a case has none. */
	if (!atomic_exchange(&hammer_ends, true))
		assert_int_equal(pthread_join(hammer_thread, NULL), 0);
	assert_int_equal(atomic_load(&hammer_hits), 0);
	for (int h = 0; h < 2; h++)
		assert_int_equal(ph_hub_stop(hubs[h], PH_GRACEFUL), 0);
	assert_int_equal(atomic_load(&strangers), 0);
	for (uint32_t i = 0; i < atomic_load(&seen_count); i++) {
		assert_int_equal(atomic_load(&seen[i].closed), 1);
		for (uint32_t j = 0; j < i; j++)
			assert_true(atomic_load(&seen[i].id) != atomic_load(&seen[j].id));
	}
}

/* The dialling side runs out: every slot lived as often as it may, and ph_open says so. */
static void dialler_runs_out(void **state)
{
	struct ph_statistics stats;
	bool exhausted = false;
	uint32_t rounds = 0;
	uint64_t id, slots_before;

	(void)state;
	begin(SLOTS, LIVES, SLOTS_LARGE, 0);
	ph_stats(hubs[0], &stats);
	slots_before = stats.slots;
	assert_int_equal(slots_before, SLOTS);
	while (!exhausted) {
		assert_true(round_run(&exhausted));
		assert_true(++rounds <= lives_left[0]);
		ph_stats(hubs[0], &stats);
		assert_int_equal(stats.slots, slots_before - stats.slots_retired);
	}
	wait_rest(hubs[0]);
	wait_rest(hubs[1]);
	ph_stats(hubs[0], &stats);
	assert_int_equal(stats.slots_retired, SLOTS);
	assert_int_equal(stats.slots, 0);
	assert_int_equal(stats.dialled, lives_left[0]);
	assert_int_equal(try_stale(), 2 * lives_left[0]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(dial(i, &id), -EMFILE);
	/* All else goes on. */
	assert_int_equal(ph_find(hubs[0], GROUP, GROUP, &id, 1), 0);
	assert_int_equal(ph_tag_end(hubs[0], TAG, PH_ABORT, 0), 0);
	finish();
	/* A hub that starts later has all the slots it asks for, and none of the old ids. */
	hubs[0] = hub_start(SLOTS, 0, &lives_left[0]);
	hubs[1] = hub_start(SLOTS_LARGE, 0, &lives_left[1]);
	listen_on(hubs[1]);
	ph_stats(hubs[0], &stats);
	assert_int_equal(stats.slots, SLOTS);
	exhausted = false;
	for (int i = 0; i < 8; i++)
		assert_true(round_run(&exhausted));
	assert_false(exhausted);
	finish();
}

/* The accepting side runs out: strangers wait in the kernel's queue and time out, nobody else suffers. */
static void acceptor_runs_out(void **state)
{
	struct ph_statistics stats;
	bool exhausted = false;
	uint64_t id;

	(void)state;
	begin(SLOTS_LARGE, 0, SLOTS, LIVES);
	for (uint32_t rounds = 0;; rounds++) {
		assert_true(rounds <= lives_left[1]);
		ph_stats(hubs[1], &stats);
		assert_int_equal(stats.slots, SLOTS - stats.slots_retired);
		/* Accepting keeps a share of the table free, so the last slots are used one by one. */
		if (stats.slots < 2 * ALIVE)
			break;
		assert_true(round_run(&exhausted));
		wait_rest(hubs[1]);
	}
	/* One at a time, until the last is gone. */
	for (uint32_t turn = 0; stats.slots > 0; turn++) {
		assert_true(turn <= lives_left[1]);
		assert_int_equal(dial(1, &id), 0);
		assert_true(wait_until(&seen_of(id)->opened, 1));
		(void)try_stale();
		assert_int_equal(ph_close(id, TAG, PH_ABORT, REASON_MEANT, NULL), 0);
		assert_true(wait_until(&seen_of(id)->closed, 1));
		wait_rest(hubs[1]);
		ph_stats(hubs[1], &stats);
	}
	assert_int_equal(stats.slots_retired, SLOTS);
	assert_int_equal(stats.accepted, lives_left[1]);
	assert_true(stats.accept_paused > 0);
	/* Nobody answers: the opener's timers end it. */
	assert_int_equal(dial(2, &id), 0);
	assert_true(wait_until(&seen_of(id)->closed, 1));
	assert_int_equal(atomic_load(&seen_of(id)->opened), 0);
	assert_int_equal(atomic_load(&seen_of(id)->reason), PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT);
	(void)try_stale();
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dialler_runs_out),
		cmocka_unit_test(acceptor_runs_out),
	};
	int status;

	credentials = test_identity_create(TEST_P256, "wrap");
	status = cmocka_run_group_tests(tests, NULL, NULL);
	ph_credentials_put(credentials);
	return status;
}
