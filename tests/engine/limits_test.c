/*
 * Limits: the counts alone with many threads, then each limit of a hub, refused with its reason, told to the peer
 * where it can be told, counted, and back at 0 at the end (ph_hub_stop asserts that).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/digest.h"
#include "engine/limits.h"
#include "peerhub.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the counts ------------------------------------------------------------------------- */

#define THREADS 4u
#define ROUNDS 20000u
#define KEYS 3u
#define MOST 2u

static struct limits *shared;
static _Atomic uint64_t inside[KEYS + 1], admitted;
static atomic_bool overshot;
static _Atomic uint64_t reassembly;

static struct limits *limits_with(enum ph_limit limit, uint64_t value, uint64_t connections)
{
	uint64_t values[PH_LIMIT_COUNT] = {0};
	struct limits_options options = {.values = values,
		.connections = connections,
		.reassembly_bytes = &reassembly,
		.twins = true};
	struct limits *limits;

	values[limit] = value;
	assert_int_equal(digest_init(), 0);
	assert_int_equal(limits_create(&options, &limits), 0);
	return limits;
}

/* More than are let in at once, that is: more than the limit at one moment. */
static void enter(uint32_t place)
{
	if (atomic_fetch_add(&inside[place], 1) >= MOST)
		atomic_store(&overshot, true);
	atomic_fetch_add(&admitted, 1);
}

static void *keys_main(void *argument)
{
	unsigned seed = (unsigned)(uintptr_t)argument;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t number = (uint32_t)rand_r(&seed) % KEYS, cell = 0, twin = 0;
		char name[8];

		snprintf(name, sizeof(name), "%u", number);
		/* Other keys come and go around it, so that cells become free at every moment. */
		bool has_twin = limits_take_key(shared, LIMIT_KEY_TWIN, digest_pair(name, name),
					&twin) == 0;

		if (limits_take_key(shared, LIMIT_KEY_GROUP, digest_pair(name, ""), &cell) == 0) {
			enter(number);
			atomic_fetch_sub(&inside[number], 1);
			limits_give_key(shared, LIMIT_KEY_GROUP, cell);
		}
		if (has_twin)
			limits_give_key(shared, LIMIT_KEY_TWIN, twin);
	}
	return NULL;
}

static void *connections_main(void *argument)
{
	(void)argument;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		if (!limits_take(shared, PH_LIMIT_CONNECTIONS))
			continue;
		enter(KEYS);
		atomic_fetch_sub(&inside[KEYS], 1);
		limits_give(shared, PH_LIMIT_CONNECTIONS);
	}
	return NULL;
}

static void threads_run(void *(*run)(void *))
{
	pthread_t threads[THREADS];

	atomic_store(&admitted, 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, (void *)(i + 1)), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_false(atomic_load(&overshot));
	assert_true(atomic_load(&admitted) > 0);
	limits_destroy(shared); /* asserts that all is back */
}

static void no_overshoot_by_key(void **state)
{
	(void)state;
	shared = limits_with(PH_LIMIT_GROUP, MOST, 4);
	threads_run(keys_main);
}

static void no_overshoot_of_the_hub(void **state)
{
	(void)state;
	shared = limits_with(PH_LIMIT_CONNECTIONS, MOST, 4);
	threads_run(connections_main);
}

static void keys_are_exact(void **state)
{
	struct limits *limits = limits_with(PH_LIMIT_IDENTITY, 3, 100);
	struct ph_limit_state states[PH_LIMIT_COUNT];
	uint32_t cells[300], more, count = 0;
	char name[16];

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "peer-%u", i);
		for (uint32_t times = 0; times < 3; times++)
			assert_int_equal(limits_take_key(limits, LIMIT_KEY_IDENTITY,
						 digest_pair("", name), &cells[count++]),
				0);
		assert_int_equal(
			limits_take_key(limits, LIMIT_KEY_IDENTITY, digest_pair("", name), &more),
			-EDQUOT);
	}
	limits_read(limits, states);
	assert_int_equal(states[PH_LIMIT_IDENTITY].keys, 100);
	assert_int_equal(states[PH_LIMIT_IDENTITY].use, 3);
	while (count > 0)
		limits_give_key(limits, LIMIT_KEY_IDENTITY, cells[--count]);
	limits_destroy(limits);
}

static struct hash_key subnet_of(const char *text)
{
	ph_address address;

	assert_int_equal(ph_address_parse(text, &address), 0);
	return limits_subnet(&address);
}

static void subnets_are_32_and_56_bits(void **state)
{
	struct hash_key keys[] = {subnet_of("192.0.2.1:1"), subnet_of("192.0.2.1:9"),
		subnet_of("192.0.2.2:1"), subnet_of("[2001:db8:0:aaff::1]:1"),
		subnet_of("[2001:db8:0:aa00:ffff::9]:2"), subnet_of("[2001:db8:0:ab00::1]:1")};

	(void)state;
	assert_memory_equal(&keys[0], &keys[1], sizeof(keys[0]));
	assert_memory_not_equal(&keys[0], &keys[2], sizeof(keys[0]));
	assert_memory_equal(&keys[3], &keys[4], sizeof(keys[0]));
	assert_memory_not_equal(&keys[3], &keys[5], sizeof(keys[0]));
}

static void the_rate_is_one_second_at_once(void **state)
{
	struct limits *limits = limits_with(PH_LIMIT_ACCEPT_RATE, 10, 4);
	uint64_t now_ns = 5000000000ull;
	uint32_t taken = 0;

	(void)state;
	while (limits_take_rate(limits, now_ns))
		taken++;
	assert_int_equal(taken, 10);
	assert_false(limits_take_rate(limits, now_ns + 99999999));
	assert_true(limits_take_rate(limits, now_ns + 100000000));
	assert_false(limits_take_rate(limits, now_ns + 100000000));
	limits_destroy(limits);
}

static void the_memory_budget_is_a_sum(void **state)
{
	struct limits *limits = limits_with(
		PH_LIMIT_MEMORY, LIMITS_CONNECTION_BYTES + LIMITS_HANDSHAKE_BYTES + 1000, 4);
	enum ph_limit refused;

	(void)state;
	assert_true(limits_take(limits, PH_LIMIT_CONNECTIONS));
	assert_true(limits_take(limits, PH_LIMIT_HANDSHAKES));
	assert_true(limits_memory_fits(limits));
	assert_true(limits_take_bytes(limits, 600, &refused));
	assert_false(limits_take_bytes(limits, 600, &refused));
	assert_int_equal(refused, PH_LIMIT_MEMORY);
	atomic_store(&reassembly, 500);
	assert_false(limits_memory_fits(limits));
	atomic_store(&reassembly, 0);
	limits_give_bytes(limits, 600);
	limits_give(limits, PH_LIMIT_HANDSHAKES);
	limits_give(limits, PH_LIMIT_CONNECTIONS);
	limits_destroy(limits);
}

static void values_change_but_not_what_is_counted(void **state)
{
	struct limits *limits = limits_with(PH_LIMIT_CONNECTIONS, 1, 4);
	uint64_t values[PH_LIMIT_COUNT] = {[PH_LIMIT_CONNECTIONS] = 2};

	(void)state;
	assert_true(limits_take(limits, PH_LIMIT_CONNECTIONS));
	assert_false(limits_take(limits, PH_LIMIT_CONNECTIONS));
	assert_int_equal(limits_set(limits, values), 0);
	assert_true(limits_take(limits, PH_LIMIT_CONNECTIONS));
	values[PH_LIMIT_GROUP] = 1;
	assert_int_equal(limits_set(limits, values), -EINVAL);
	values[PH_LIMIT_GROUP] = 0;
	values[PH_LIMIT_CONNECTIONS] = 0;
	assert_int_equal(limits_set(limits, values), -EINVAL);
	limits_give(limits, PH_LIMIT_CONNECTIONS);
	limits_give(limits, PH_LIMIT_CONNECTIONS);
	limits_destroy(limits);
}

/* ---- a hub ------------------------------------------------------------------------------ */

#define CLIENTS 8u
#define NUMBER_BYTES 16383u /* of a message that carries a number */

struct end {
	bool opened, closed;
	struct ph_receipt receipt;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ph_hub *hub, *client;
	ph_address address;
	uint64_t ids[CLIENTS];
	struct end ends[CLIENTS]; /* the clients', by their number */
	uint32_t count;
	uint32_t accepted_open, slow;
	uint64_t last_accepted;
	struct ph_receipt last; /* the last end on the hub's side */
	atomic_bool stuck; /* the clients take nothing */
	uint32_t numbers, number_last, number_wanted; /* messages that a client took */
	bool out_of_order;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	(void)hub_user;
	(void)id;
	(void)accepted;
	(void)sni;
	(void)expected;
	(void)chain;
	(void)verdict; /* the peer's own words */
	return 0;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	(void)hub_user;
	pthread_mutex_lock(&world.lock);
	if (info->accepted) {
		world.accepted_open++;
		world.last_accepted = id;
	} else {
		((struct end *)user)->opened = true;
	}
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static void number_take(const uint8_t *data)
{
	uint32_t number;

	memcpy(&number, data, sizeof(number));
	pthread_mutex_lock(&world.lock);
	if (world.numbers++ > 0 && number <= world.number_last)
		world.out_of_order = true;
	world.number_last = number;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	(void)hub_user;
	(void)id;
	(void)user;
	(void)type;
	if (atomic_load(&world.stuck))
		return -EAGAIN;
	if (bytes == NUMBER_BYTES)
		number_take(data);
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct end *end = user;

	(void)hub_user;
	(void)id;
	pthread_mutex_lock(&world.lock);
	if (receipt->accepted) {
		world.accepted_open -= receipt->was_open;
		world.last = *receipt;
	} else {
		end->receipt = *receipt;
		end->closed = true;
	}
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static void on_slow(void *hub_user, uint64_t id, void *user, uint64_t queued_bytes)
{
	(void)hub_user;
	(void)id;
	(void)user;
	assert_true(queued_bytes > 0);
	pthread_mutex_lock(&world.lock);
	world.slow++;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static const struct ph_callbacks callbacks = {.on_verify = on_verify,
	.on_open = on_open,
	.on_data = on_data,
	.on_closed = on_closed,
	.on_slow = on_slow};

static void wait_until(bool (*is_so)(void))
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	pthread_mutex_lock(&world.lock);
	while (!is_so())
		assert_int_equal(pthread_cond_timedwait(&world.changed, &world.lock, &until), 0);
	pthread_mutex_unlock(&world.lock);
}

static void world_begin(struct ph_options options, enum ph_framing framing)
{
	struct ph_listen_options listen = {.tls = PH_TLS_NONE, .framing = framing, .tag = 1};
	struct ph_options client = {.shard_count = 1, .connections_per_shard = 64};
	char why[PH_WHY_BYTES];

	options.shard_count = 2;
	options.connections_per_shard = 64;
	world.count = world.accepted_open = world.slow = 0;
	atomic_store(&world.stuck, false);
	world.numbers = world.number_last = 0;
	world.out_of_order = false;
	memset(world.ends, 0, sizeof(world.ends));
	memset(&world.last, 0, sizeof(world.last));
	if (ph_hub_start(&options, &callbacks, &world.hub, why) < 0 ||
		ph_hub_start(&client, &callbacks, &world.client, why) < 0)
		fail_msg("%s", why);
	assert_int_equal(ph_address_parse("127.0.0.1:0", &listen.address), 0);
	assert_true(ph_listen(world.hub, &listen, &world.address) >= 0);
}

static void world_end(void)
{
	assert_int_equal(ph_hub_stop(world.client, PH_ABORT), 0);
	assert_int_equal(ph_hub_stop(world.hub, PH_ABORT), 0);
}

static bool has_ended(void)
{
	return world.ends[world.count - 1].closed;
}

static bool has_opened_or_ended(void)
{
	return world.ends[world.count - 1].opened || has_ended();
}

/* One more client; whether it is open. */
static bool dial(enum ph_framing framing, const char *group, const char *identity)
{
	struct ph_open_options options = {.address = world.address,
		.kind = PH_KIND_DIRECT,
		.framing = framing,
		.tls = PH_TLS_NONE,
		.group = group,
		.source = identity,
		.tag = 2};
	struct end *end = &world.ends[world.count];

	assert_true(world.count < CLIENTS);
	options.user = end;
	assert_int_equal(ph_open(world.client, &options, &world.ids[world.count++]), 0);
	wait_until(has_opened_or_ended);
	return end->opened;
}

static bool both_have_ended(void)
{
	return has_ended() && world.last.reason != 0;
}

/* The last client was refused: what each side says, and that it was counted. */
static void refused(enum ph_limit limit, bool told)
{
	struct ph_limit_state states[PH_LIMIT_COUNT];
	struct ph_receipt last, end;
	struct ph_receipt receipts[CLIENTS];
	bool is_kept = false;

	wait_until(both_have_ended);
	pthread_mutex_lock(&world.lock);
	last = world.last;
	end = world.ends[world.count - 1].receipt;
	pthread_mutex_unlock(&world.lock);
	for (uint32_t i = ph_receipts(world.hub, receipts, CLIENTS); i > 0; i--)
		is_kept = is_kept || receipts[i - 1].id == last.id;
	/* Whom the limits end before a handshake is counted, and writes over nobody's receipt. */
	assert_int_equal(is_kept, last.handshake_done);
	assert_string_equal(ph_reason_name(last.reason), ph_reason_name(ph_limit_reason(limit)));
	assert_int_equal(last.side, PH_SIDE_ENGINE);
	assert_true(last.text[0] != '\0');
	if (told) {
		assert_int_equal(end.reason, PH_REASON_REMOTE_REFUSED);
		assert_int_equal(end.refuse_code,
			limit == PH_LIMIT_DUPLICATE ? PH_REFUSE_DUPLICATE : PH_REFUSE_BUSY);
		assert_int_equal(end.peer_reason, ph_limit_reason(limit));
		assert_int_equal(end.peer_retry_after_ms, 2000);
		assert_string_equal(end.peer_text, last.text);
	}
	ph_limits_read(world.hub, states);
	assert_int_equal(states[limit].refusals, 1);
	assert_true(states[limit].last_ns > 0);
	assert_true(IN6_IS_ADDR_V4MAPPED(&states[limit].last_address.sin6_addr));
}

static struct ph_options with(enum ph_limit limit, uint64_t value)
{
	struct ph_options options = {0};

	options.limits[limit] = value;
	return options;
}

static bool all_accepted_are_over(void)
{
	return world.accepted_open == 0;
}

/* The one that is in ends; then there is room for another. */
static void room_again(const char *group, const char *identity)
{
	pthread_mutex_lock(&world.lock);
	world.last.reason = 0;
	pthread_mutex_unlock(&world.lock);
	assert_int_equal(ph_close(world.ids[0], 2, PH_GRACEFUL, 0, NULL), 0);
	wait_until(all_accepted_are_over);
	/* The unit goes back right behind its last event. */
	for (int i = 0; i < 60000; i++) {
		struct ph_limit_state states[PH_LIMIT_COUNT];

		ph_limits_read(world.hub, states);
		if (states[PH_LIMIT_CONNECTIONS].use + states[PH_LIMIT_SUBNET].use +
				states[PH_LIMIT_GROUP].use + states[PH_LIMIT_IDENTITY].use +
				states[PH_LIMIT_DUPLICATE].use ==
			0)
			break;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_true(dial(PH_FRAMING_MESSAGE, group, identity));
}

static void the_hub_is_full(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_CONNECTIONS, 1), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_false(dial(PH_FRAMING_MESSAGE, "g.x", "b.x"));
	refused(PH_LIMIT_CONNECTIONS, false);
	room_again("g.x", "b.x");
	world_end();
}

static void a_subnet_is_full(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_SUBNET, 1), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_false(dial(PH_FRAMING_MESSAGE, "g.x", "b.x"));
	refused(PH_LIMIT_SUBNET, false);
	room_again("g.x", "b.x");
	world_end();
}

static void a_group_is_full(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_GROUP, 1), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "h.x", "a.x"));
	assert_false(dial(PH_FRAMING_MESSAGE, "h.x", "b.x"));
	refused(PH_LIMIT_GROUP, true);
	world_end();
}

static void an_identity_has_enough(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_IDENTITY, 1), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_false(dial(PH_FRAMING_MESSAGE, "h.x", "a.x"));
	refused(PH_LIMIT_IDENTITY, true);
	room_again("g.x", "a.x");
	world_end();
}

static void accepting_is_too_fast(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_ACCEPT_RATE, 1), PH_FRAMING_MESSAGE);
	/* The second one of one second is refused; a slow machine needs some tries for that. */
	for (uint32_t i = 0; i + 1 < CLIENTS && (i == 0 || world.ends[i - 1].opened); i++)
		(void)dial(PH_FRAMING_MESSAGE, "g.x", "a.x");
	if (world.ends[world.count - 1].opened)
		skip();
	refused(PH_LIMIT_ACCEPT_RATE, false);
	world_end();
}

static void memory_is_used_up(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_MEMORY, 42000), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "b.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "c.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "d.x"));
	/* Five connections and one handshake are more than that. */
	assert_false(dial(PH_FRAMING_MESSAGE, "g.x", "e.x"));
	refused(PH_LIMIT_MEMORY, false);
	world_end();
}

static void say(uint32_t client, size_t bytes)
{
	static const uint8_t type[16] = {1};
	static uint8_t data[65536];
	struct ph_part part = {data, bytes};

	assert_int_equal(ph_send(world.ids[client], 2, type, &part, 1), 0);
}

static void a_message_is_too_large(void **state)
{
	(void)state;
	world_begin(with(PH_LIMIT_MESSAGE_BYTES, 1000), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	say(0, 1001);
	refused(PH_LIMIT_MESSAGE_BYTES, false);
	assert_int_equal(world.ends[0].receipt.peer_reason, PH_REASON_PROTOCOL_SIZE);
	world_end();
}

static void messages_are_too_many(void **state)
{
	static const uint8_t type[16] = {1};
	struct ph_part part = {type, 1};
	int status = 0;

	(void)state;
	world_begin(with(PH_LIMIT_MESSAGE_RATE, 1), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	/* On a busy machine the end is here before all are sent. */
	for (int i = 0; i < 200 && status == 0; i++)
		status = ph_send(world.ids[0], 2, type, &part, 1);
	assert_true(status == 0 || status == -ENOENT);
	refused(PH_LIMIT_MESSAGE_RATE, false);
	assert_int_equal(world.ends[0].receipt.peer_reason, PH_REASON_LIMIT_MESSAGE_RATE);
	world_end();
}

/* Sent until the queue or the hub's budget takes no more: the answer. */
static int fill(size_t bytes)
{
	static const uint8_t type[16] = {1};
	static uint8_t data[65536];
	struct ph_part part = {data, bytes};
	int status = 0;

	for (int i = 0; i < 100000 && status == 0; i++)
		status = ph_send(world.last_accepted, 1, type, &part, 1);
	return status;
}

/* The number as a message; whether it was accepted. */
static uint32_t number_send(uint32_t number)
{
	static const uint8_t type[16] = {1};
	static uint8_t data[NUMBER_BYTES];
	struct ph_part part = {data, sizeof(data)};
	int status;

	memcpy(data, &number, sizeof(number));
	status = ph_send(world.last_accepted, 1, type, &part, 1);
	assert_true(status == 0 || status == -EAGAIN);
	return status == 0;
}

static bool the_last_number_has_come(void)
{
	return world.numbers > 0 && world.number_last == world.number_wanted;
}

static void all_queues_are_full(void **state)
{
	struct ph_limit_state states[PH_LIMIT_COUNT];

	(void)state;
	world_begin(with(PH_LIMIT_SEND_TOTAL, 300000), PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	atomic_store(&world.stuck, true);
	assert_int_equal(fill(65536), -ENOMEM);
	ph_limits_read(world.hub, states);
	assert_true(states[PH_LIMIT_SEND_TOTAL].use <= 300000);
	assert_int_equal(states[PH_LIMIT_SEND_TOTAL].refusals, 1);
	world_end();
}

/* ---- slow consumers ---------------------------------------------------------------------- */

static uint32_t slow_count(void)
{
	uint32_t count;

	pthread_mutex_lock(&world.lock);
	count = world.slow;
	pthread_mutex_unlock(&world.lock);
	return count;
}

static bool the_hub_has_ended_it(void)
{
	return world.last.reason != 0;
}

/* Whatever the kernel takes is filled up again, until it has been warned of, or has ended. */
static void keep_full(bool until_end)
{
	for (int i = 0; i < 60000; i++) {
		if (fill(16384) == -ENOENT || (!until_end && slow_count() > 0))
			return;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	fail_msg("a minute is over");
}

static void who_stays_slow_is_closed(void **state)
{
	struct ph_options options = {
		.slow = PH_SLOW_CLOSE, .slow_ms = 50, .send_queue_bytes = 65536};

	(void)state;
	world_begin(options, PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	atomic_store(&world.stuck, true);
	keep_full(true);
	wait_until(the_hub_has_ended_it);
	assert_true(slow_count() > 0); /* before the end */
	assert_int_equal(world.last.reason, PH_REASON_LIMIT_SLOW);
	assert_int_equal(world.last.how, PH_ABORT);
	world_end();
}

static void who_blocks_is_only_warned_of(void **state)
{
	struct ph_options options = {.slow_ms = 1, .send_queue_bytes = 65536};

	(void)state;
	world_begin(options, PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	atomic_store(&world.stuck, true);
	keep_full(false);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_true(slow_count() > 0);
	pthread_mutex_lock(&world.lock);
	assert_int_equal(world.last.reason, 0);
	pthread_mutex_unlock(&world.lock);
	world_end();
}

/* What arrives is in order and ends with the newest; what was dropped is counted. */
static void the_oldest_messages_make_room(void **state)
{
	struct ph_options options = {.slow = PH_SLOW_DROP, .send_queue_bytes = 65536};
	struct ph_statistics stats;
	uint32_t sent = 0, accepted, naps = 0;

	(void)state;
	world_begin(options, PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	atomic_store(&world.stuck, true);
	do {
		accepted = number_send(sent);
		sent += accepted;
		if (!accepted)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_true(accepted || naps++ < 60000);
		ph_stats(world.hub, &stats);
	} while (stats.messages_dropped < 100);
	assert_true(slow_count() > 0);
	atomic_store(&world.stuck, false);
	world.number_wanted = sent - 1;
	wait_until(the_last_number_has_come);
	assert_false(world.out_of_order);
	ph_stats(world.hub, &stats);
	assert_int_equal(world.numbers + stats.messages_dropped, sent);
	world_end();
}

/* ---- duplicates -------------------------------------------------------------------------- */

static void the_oldest_wins(void **state)
{
	struct ph_options options = {.duplicates = PH_DUPLICATES_OLDEST};

	(void)state;
	world_begin(options, PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "h.x", "a.x"));
	assert_false(dial(PH_FRAMING_MESSAGE, "h.x", "a.x"));
	refused(PH_LIMIT_DUPLICATE, true);
	world_end();
}

static bool the_first_has_ended(void)
{
	return world.ends[0].closed;
}

static void the_newest_wins(void **state)
{
	struct ph_options options = {.duplicates = PH_DUPLICATES_NEWEST};

	(void)state;
	world_begin(options, PH_FRAMING_MESSAGE);
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "h.x", "a.x"));
	assert_true(dial(PH_FRAMING_MESSAGE, "g.x", "a.x"));
	wait_until(the_first_has_ended);
	assert_int_equal(world.ends[0].receipt.reason, PH_REASON_REMOTE_CLOSE);
	assert_int_equal(world.ends[0].receipt.peer_reason, PH_REASON_LIMIT_DUPLICATE);
	assert_false(world.ends[1].closed);
	assert_false(world.ends[2].closed);
	world_end();
}

/* ---- options ----------------------------------------------------------------------------- */

static void wrong_values_are_named(void **state)
{
	struct ph_options options = with(PH_LIMIT_HANDSHAKE_SHARE, 101);
	char why[PH_WHY_BYTES];
	struct ph_hub *hub;

	(void)state;
	assert_int_equal(ph_hub_start(&options, &callbacks, &hub, why), -EINVAL);
	assert_non_null(strstr(why, "handshake_share"));
	options = (struct ph_options){.duplicates = 3};
	assert_int_equal(ph_hub_start(&options, &callbacks, &hub, why), -EINVAL);
	assert_non_null(strstr(why, "duplicates"));
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		assert_non_null(ph_limit_name((enum ph_limit)i));
	assert_null(ph_limit_name(PH_LIMIT_COUNT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_overshoot_by_key),
		cmocka_unit_test(no_overshoot_of_the_hub),
		cmocka_unit_test(keys_are_exact),
		cmocka_unit_test(subnets_are_32_and_56_bits),
		cmocka_unit_test(the_rate_is_one_second_at_once),
		cmocka_unit_test(the_memory_budget_is_a_sum),
		cmocka_unit_test(values_change_but_not_what_is_counted),
		cmocka_unit_test(the_hub_is_full),
		cmocka_unit_test(a_subnet_is_full),
		cmocka_unit_test(a_group_is_full),
		cmocka_unit_test(an_identity_has_enough),
		cmocka_unit_test(accepting_is_too_fast),
		cmocka_unit_test(memory_is_used_up),
		cmocka_unit_test(a_message_is_too_large),
		cmocka_unit_test(messages_are_too_many),
		cmocka_unit_test(all_queues_are_full),
		cmocka_unit_test(who_stays_slow_is_closed),
		cmocka_unit_test(who_blocks_is_only_warned_of),
		cmocka_unit_test(the_oldest_messages_make_room),
		cmocka_unit_test(the_oldest_wins),
		cmocka_unit_test(the_newest_wins),
		cmocka_unit_test(wrong_values_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
