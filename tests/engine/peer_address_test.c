/*
 * Where an accepted connection comes from. Direct descriptors have no getpeername: the ring is asked, and
 * what it answers must be what the peer's own socket says, on IPv4 and IPv6, in the list of connections,
 * to on_open and in the receipt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peerhub.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SECONDS 60

struct world {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned opened, closed;
	ph_address at_open, at_close;
};

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct world *world = hub_user;

	(void)id, (void)user;
	pthread_mutex_lock(&world->lock);
	world->at_open = info->peer_address;
	world->opened++;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct world *world = hub_user;

	(void)id, (void)user;
	pthread_mutex_lock(&world->lock);
	world->at_close = receipt->peer_address;
	world->closed++;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

static void world_wait(struct world *world, const unsigned *counter)
{
	struct timespec until;
	int status = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&world->lock);
	while (*counter == 0 && status == 0)
		status = pthread_cond_timedwait(&world->changed, &world->lock, &until);
	pthread_mutex_unlock(&world->lock);
	assert_int_equal(status, 0);
}

static int visit(void *context, const struct ph_connection *connection)
{
	*(ph_address *)context = connection->peer_address;
	return 0;
}

static void address_assert(const ph_address *found, const ph_address *expected)
{
	char found_text[PH_ADDRESS_TEXT_BYTES], expected_text[PH_ADDRESS_TEXT_BYTES];

	assert_int_equal(found->sin6_family, AF_INET6);
	assert_string_equal(
		ph_address_text(found, found_text), ph_address_text(expected, expected_text));
}

static void peer_address_of(const char *listen, uint32_t flags)
{
	const struct ph_callbacks callbacks = {.on_open = on_open, .on_closed = on_closed};
	struct ph_listen_options listen_options = {
		.framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE, .tag = 7};
	struct world world = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct ph_options options = {
		.shard_count = 1, .connections_per_shard = 64, .flags = flags, .user = &world};
	ph_address bound, own, listed = {0};
	struct sockaddr_storage name = {0};
	socklen_t bytes = sizeof(name);
	char why[PH_WHY_BYTES];
	struct ph_hub *hub;
	bool is_four;
	int fd;

	if (ph_hub_start(&options, &callbacks, &hub, why) < 0)
		fail_msg("ph_hub_start: %s", why);
	assert_int_equal(ph_address_parse(listen, &listen_options.address), 0);
	assert_true(ph_listen(hub, &listen_options, &bound) >= 0);
	is_four = IN6_IS_ADDR_V4MAPPED(&bound.sin6_addr);
	fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	if (is_four) {
		struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = bound.sin6_port};

		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	} else {
		assert_int_equal(connect(fd, (struct sockaddr *)&bound, sizeof(bound)), 0);
	}
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &bytes), 0);
	if (is_four) {
		own = bound;
		own.sin6_port = ((struct sockaddr_in *)&name)->sin_port;
	} else {
		memcpy(&own, &name, sizeof(own));
	}
	world_wait(&world, &world.opened);
	assert_int_equal(ph_connections(hub, NULL, visit, &listed), 1);
	close(fd);
	world_wait(&world, &world.closed);
	address_assert(&world.at_open, &own);
	address_assert(&listed, &own);
	address_assert(&world.at_close, &own);
	assert_int_equal(ph_hub_stop(hub, PH_ABORT), 0);
}

static void peer_address_ipv4(void **state)
{
	(void)state;
	peer_address_of("127.0.0.1:0", 0);
}

static void peer_address_ipv6(void **state)
{
	(void)state;
	peer_address_of("[::1]:0", 0);
}

static void peer_address_normal_descriptors(void **state)
{
	(void)state;
	peer_address_of("127.0.0.1:0", PH_HUB_NO_DIRECT_DESCRIPTORS);
	peer_address_of("[::1]:0", PH_HUB_NO_DIRECT_DESCRIPTORS);
}

/* Dialled from an address of ours: the accepting end sees it, and its port where one was asked for. */
static void dialled_from(const char *listen, const char *local, uint32_t flags)
{
	const struct ph_callbacks callbacks = {.on_open = on_open, .on_closed = on_closed};
	struct ph_listen_options listen_options = {
		.framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE, .tag = 7};
	struct ph_open_options open_options = {
		.framing = PH_FRAMING_RAW, .kind = PH_KIND_RAW, .tls = PH_TLS_NONE, .tag = 8};
	struct world here = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct world there = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct ph_options options = {
		.shard_count = 1, .connections_per_shard = 64, .flags = flags, .user = &here};
	char why[PH_WHY_BYTES];
	struct ph_hub *hub, *other;
	uint64_t id;
	int status;

	if (ph_hub_start(&options, &callbacks, &hub, why) < 0)
		fail_msg("ph_hub_start: %s", why);
	options.user = &there;
	if (ph_hub_start(&options, &callbacks, &other, why) < 0)
		fail_msg("ph_hub_start: %s", why);
	assert_int_equal(ph_address_parse(listen, &listen_options.address), 0);
	assert_true(ph_listen(hub, &listen_options, &open_options.address) >= 0);
	assert_int_equal(ph_address_parse(local, &open_options.local_address), 0);
	status = ph_open(other, &open_options, &id);
	if (status == 0) {
		world_wait(&here, &here.opened);
		if (open_options.local_address.sin6_port == 0)
			open_options.local_address.sin6_port = here.at_open.sin6_port;
		address_assert(&here.at_open, &open_options.local_address);
	}
	assert_int_equal(ph_hub_stop(other, PH_ABORT), 0);
	assert_int_equal(ph_hub_stop(hub, PH_ABORT), 0);
	if (status != 0) {
		assert_int_equal(status, -EOPNOTSUPP);
		skip(); /* a kernel before 6.11 */
	}
}

static void local_address_is_seen(void **state)
{
	(void)state;
	dialled_from("127.0.0.1:0", "127.0.0.77:0", 0);
	dialled_from("[::1]:0", "[::1]:0", 0);
}

static void local_port_is_seen_normal_descriptors(void **state)
{
	(void)state;
	dialled_from("127.0.0.1:0", "127.0.0.78:23456", PH_HUB_NO_DIRECT_DESCRIPTORS);
}

static void failed_wait(struct world *world)
{
	world_wait(world, &world->closed);
	assert_int_equal(world->opened, 0);
}

/* An address that is not this machine's: the opening fails, nothing is dialled from elsewhere. */
static void local_address_of_others_fails(void **state)
{
	const struct ph_callbacks callbacks = {.on_open = on_open, .on_closed = on_closed};
	struct world world = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct ph_options options = {.shard_count = 1, .connections_per_shard = 64, .user = &world};
	struct ph_open_options open_options = {
		.framing = PH_FRAMING_RAW, .kind = PH_KIND_RAW, .tls = PH_TLS_NONE, .tag = 8};
	char why[PH_WHY_BYTES];
	struct ph_hub *hub;
	uint64_t id;
	int status;

	(void)state;
	if (ph_hub_start(&options, &callbacks, &hub, why) < 0)
		fail_msg("ph_hub_start: %s", why);
	assert_int_equal(ph_address_parse("127.0.0.1:9", &open_options.address), 0);
	assert_int_equal(ph_address_parse("192.0.2.1:0", &open_options.local_address), 0);
	status = ph_open(hub, &open_options, &id);
	if (status == 0)
		failed_wait(&world);
	assert_int_equal(ph_hub_stop(hub, PH_ABORT), 0);
	if (status != 0) {
		assert_int_equal(status, -EOPNOTSUPP);
		skip(); /* a kernel before 6.11 says so, and that is checked */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peer_address_ipv4),
		cmocka_unit_test(peer_address_ipv6),
		cmocka_unit_test(peer_address_normal_descriptors),
		cmocka_unit_test(local_address_is_seen),
		cmocka_unit_test(local_port_is_seen_normal_descriptors),
		cmocka_unit_test(local_address_of_others_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
