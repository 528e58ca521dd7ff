/*
 * Peers and users that do what nobody should: flood without reading, reset in the middle, say a thing twice,
 * end a listener while the hub stops. Plain sockets on loopback talk to a hub; each wait ends on an event and
 * has a generous limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peerhub.h"
#include "tests/engine/test_certs.h"

#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TAG 91
#define WAIT_SECONDS 60

/* AUTH_INFO (direct, group "g.g", source "s.s", any destination), CONNECT (direct, node 1), and a message
 * with a payload of one byte. */
static const uint8_t auth_info[] = {
	0, 0, 0, 24, 0x10, 1, 0, 0, 2, 0, 0, 16, 0, 20, 0, 24, 'g', '.', 'g', 0, 's', '.', 's', 0};
static const uint8_t connect_message[] = {
	0, 0, 0, 24, 0x10, 2, 0, 0, 4, 0, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t payload[] = {0, 0, 0, 29, 0x10, 13, 0, 0, 0, 28, 0, 0, 't', 't', 't', 't', 't',
	't', 't', 't', 't', 't', 't', 't', 't', 't', 't', 't', 'p'};

struct world {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ph_hub *hub;
	int listener;
	unsigned opened, closed, data, refused, connects, entered;
	uint64_t bytes;
	uint64_t last_id;
	struct ph_receipt receipt; /* the last */
	/* what on_data does */
	atomic_bool pauses; /* ph_pause, and takes it */
	atomic_bool echoes; /* -EAGAIN when the echo would block */
	atomic_bool refuses_first; /* the first connection's data: -EAGAIN for ever */
	uint64_t first_id;
	atomic_bool closes_in_connect;
	atomic_bool holds; /* waits for `released`, then ends the listener */
	bool released;
};

static void world_wait(struct world *world, const unsigned *counter, unsigned wanted)
{
	struct timespec until;
	int status = 0;
	bool reached;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&world->lock);
	while (*counter < wanted && status == 0)
		status = pthread_cond_timedwait(&world->changed, &world->lock, &until);
	reached = *counter >= wanted;
	if (!reached)
		fprintf(stderr, "waited for %u, saw %u\n", wanted, *counter);
	pthread_mutex_unlock(&world->lock);
	if (!reached)
		ph_hub_dump(world->hub, 2);
	assert_true(reached);
}

static unsigned world_count(struct world *world, const unsigned *counter)
{
	unsigned count;

	pthread_mutex_lock(&world->lock);
	count = *counter;
	pthread_mutex_unlock(&world->lock);
	return count;
}

static void world_tell(struct world *world, unsigned *counter)
{
	pthread_mutex_lock(&world->lock);
	(*counter)++;
	pthread_cond_broadcast(&world->changed);
	pthread_mutex_unlock(&world->lock);
}

static struct ph_credentials *own_credentials; /* of the cases with TLS */

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	(void)hub_user, (void)sni;
	answer->credentials = ph_credentials_get(own_credentials);
	return 0;
}

static void nap(long ms)
{
	struct timespec moment = {.tv_nsec = ms * 1000000};

	nanosleep(&moment, NULL);
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	(void)hub_user, (void)id, (void)sni, (void)expected, (void)chain;
	if (accepted)
		verdict->tag = TAG;
	return 0;
}

static enum ph_refuse on_connect(void *hub_user, uint64_t id, uint64_t tag, void *user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	struct world *world = hub_user;

	(void)user, (void)info, (void)answer;
	world_tell(world, &world->connects);
	if (world->closes_in_connect)
		(void)ph_close(id, tag, PH_GRACEFUL, 0, NULL);
	return PH_ACCEPT;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct world *world = hub_user;

	(void)user, (void)info;
	pthread_mutex_lock(&world->lock);
	if (world->first_id == 0)
		world->first_id = id;
	world->last_id = id;
	pthread_mutex_unlock(&world->lock);
	world_tell(world, &world->opened);
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct world *world = hub_user;
	struct ph_part part = {data, bytes};

	(void)user;
	if (world->echoes && ph_send(id, TAG, type, &part, 1) == -EAGAIN) {
		world_tell(world, &world->refused);
		return -EAGAIN;
	}
	if (world->refuses_first && id == world->first_id) {
		world_tell(world, &world->refused);
		return -EAGAIN;
	}
	if (world->refuses_first && id == world->last_id) {
		world_tell(world, &world->entered);
		nap(200); /* meanwhile the others' sockets fill */
	}
	if (world->pauses)
		assert_int_equal(ph_pause(id, TAG), 0);
	if (world->holds) {
		world_tell(world, &world->entered);
		pthread_mutex_lock(&world->lock);
		while (!world->released)
			pthread_cond_wait(&world->changed, &world->lock);
		pthread_mutex_unlock(&world->lock);
		(void)!ph_listen_end(world->hub, world->listener);
	}
	pthread_mutex_lock(&world->lock);
	world->bytes += bytes;
	pthread_mutex_unlock(&world->lock);
	world_tell(world, &world->data);
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct world *world = hub_user;

	(void)user, (void)id;
	pthread_mutex_lock(&world->lock);
	world->receipt = *receipt;
	pthread_mutex_unlock(&world->lock);
	world_tell(world, &world->closed);
}

static const struct ph_callbacks callbacks = {
	.on_hello = on_hello,
	.on_verify = on_verify,
	.on_connect = on_connect,
	.on_open = on_open,
	.on_data = on_data,
	.on_closed = on_closed,
};

static ph_address world_begin(
	struct world *world, enum ph_framing framing, struct ph_options options)
{
	struct ph_listen_options listen = {.framing = framing,
		.tls = own_credentials != NULL ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.tag = TAG};
	char why[PH_WHY_BYTES];
	ph_address bound;

	memset(world, 0, sizeof(*world));
	pthread_mutex_init(&world->lock, NULL);
	pthread_cond_init(&world->changed, NULL);
	options.user = world;
	if (ph_hub_start(&options, &callbacks, &world->hub, why) < 0)
		fail_msg("ph_hub_start: %s", why);
	assert_int_equal(ph_address_parse("[::1]:0", &listen.address), 0);
	world->listener = ph_listen(world->hub, &listen, &bound);
	assert_true(world->listener >= 0);
	return bound;
}

static void world_end(struct world *world)
{
	assert_int_equal(ph_hub_stop(world->hub, PH_ABORT), 0);
	pthread_cond_destroy(&world->changed);
	pthread_mutex_destroy(&world->lock);
}

static int stranger(const ph_address *to)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
	return fd;
}

static void say(int fd, const void *data, size_t bytes)
{
	assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), bytes);
}

static void reset(int fd)
{
	struct linger linger = {1, 0};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	close(fd);
}

/* Write until the peer has taken nothing for a while, or `bytes_max` are written. */
static size_t flood(int fd, size_t bytes_max, int patience_ms)
{
	static uint8_t block[65536];
	size_t written = 0;

	while (written < bytes_max) {
		struct pollfd wait = {fd, POLLOUT, 0};
		ssize_t n;

		if (poll(&wait, 1, patience_ms) <= 0)
			break;
		n = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			break;
		written += n > 0 ? (size_t)n : 0;
	}
	return written;
}

/* ---- cases ------------------------------------------------------------------------------ */

/* Three messages in one segment; the first is taken and pauses. What lies behind it comes with the resume,
 * though the socket has nothing more to say. */
static void hostile_resume_delivers_what_was_kept(void **state)
{
	struct ph_options options = {.shard_count = 1, .connections_per_shard = 64};
	uint8_t three[3 * sizeof(payload)];
	static struct world world;
	ph_address to = world_begin(&world, PH_FRAMING_MESSAGE, options);
	int fd = stranger(&to);

	(void)state;
	world.pauses = true;
	say(fd, auth_info, sizeof(auth_info));
	say(fd, connect_message, sizeof(connect_message));
	world_wait(&world, &world.opened, 1);
	for (size_t i = 0; i < 3; i++)
		memcpy(three + i * sizeof(payload), payload, sizeof(payload));
	say(fd, three, sizeof(three));
	for (unsigned i = 1; i <= 3; i++) {
		world_wait(&world, &world.data, i);
		nap(20); /* so that the pause has come to rest, as a rule */
		assert_int_equal(ph_resume(world.last_id, TAG), 0);
	}
	close(fd);
	world_wait(&world, &world.closed, 1);
	world_end(&world);
}

/* A peer that writes, never reads, and resets when we are full: we have stopped reading as nothing could be
 * sent, and still learn of the end. */
static void hostile_reset_while_blocked(void **state)
{
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 64,
		.send_queue_bytes = 65536,
		.socket_send_bytes = 16384,
		.socket_receive_bytes = 16384};
	static struct world world;
	ph_address to = world_begin(&world, PH_FRAMING_RAW, options);
	int fd = stranger(&to);

	(void)state;
	world.echoes = true;
	world_wait(&world, &world.opened, 1);
	while (world_count(&world, &world.refused) < 3)
		(void)flood(fd, 65536, 10);
	reset(fd);
	world_wait(&world, &world.closed, 1);
	assert_int_equal(world.receipt.reason, PH_REASON_REMOTE_RESET);
	assert_true(world.receipt.bytes_dropped > 0);
	world_end(&world);
}

/* Few buffers and many floods: who was short of buffers and over its share at once reads on later. */
static void hostile_floods_share_few_buffers(void **state)
{
	enum {
		FLOODS = 12,
		BYTES = 4 << 20
	};
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 64,
		.receive_buffer_count = 16,
		.receive_buffer_bytes = 32768};
	static struct world world;
	ph_address to = world_begin(&world, PH_FRAMING_RAW, options);
	size_t written[FLOODS] = {0}, done = 0;
	static uint8_t block[65536];
	struct pollfd floods[FLOODS];

	(void)state;
	for (int i = 0; i < FLOODS; i++)
		floods[i] = (struct pollfd){stranger(&to), POLLOUT, 0};
	while (done < FLOODS) {
		int ready = poll(floods, FLOODS, WAIT_SECONDS * 1000);

		if (ready == 0)
			ph_hub_dump(world.hub, 2);
		assert_true(ready > 0);
		for (int i = 0; i < FLOODS; i++) {
			size_t left = BYTES - written[i];
			ssize_t n;

			if (!(floods[i].revents & POLLOUT))
				continue;
			n = send(floods[i].fd, block, left < sizeof(block) ? left : sizeof(block),
				MSG_DONTWAIT | MSG_NOSIGNAL);
			written[i] += n > 0 ? (size_t)n : 0;
			if (written[i] == BYTES) {
				close(floods[i].fd);
				floods[i].fd = -1;
				floods[i].revents = 0;
				done++;
			}
		}
	}
	world_wait(&world, &world.closed, FLOODS);
	assert_int_equal(world.bytes, (uint64_t)FLOODS * BYTES);
	world_end(&world);
}

/* Nothing is taken from the first one, which has been short of buffers (the second took them): its socket
 * fills and stays full, and memory does not grow with what it sends. */
static void hostile_blocked_is_not_read(void **state)
{
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 64,
		.receive_buffer_count = 16,
		.receive_buffer_bytes = 1024,
		.socket_receive_bytes = 262144};
	size_t most = 64u << 20, written = 0;
	uint8_t block[14 * 1024] = {0};
	static struct world world;
	ph_address to = world_begin(&world, PH_FRAMING_RAW, options);
	int fds[3];

	(void)state;
	world.refuses_first = true;
	for (unsigned i = 0; i < 3; i++) {
		fds[i] = stranger(&to);
		world_wait(&world, &world.opened, i + 1);
	}
	/* The third one's callback takes its time; after it, one batch: 14 buffers, then more than are left. */
	say(fds[2], "x", 1);
	world_wait(&world, &world.entered, 1);
	say(fds[1], block, sizeof(block));
	nap(20);
	for (size_t now = 1; now > 0 && written < most; written += now)
		now = flood(fds[0], 1u << 20, 500);
	if (written >= most)
		ph_hub_dump(world.hub, 2);
	assert_true(written < most);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	world_end(&world);
}

/* A hub with room for very few goes on accepting after each of them. */
static void hostile_small_table_goes_on(void **state)
{
	for (uint32_t slots = 2; slots <= 24; slots += slots < 4 ? 1 : 4) {
		struct ph_options options = {.shard_count = 1,
			.connections_per_shard = slots,
			.handshakes_per_shard = 1};
		static struct world world;
		ph_address to = world_begin(&world, PH_FRAMING_RAW, options);

		(void)state;
		for (unsigned i = 1; i <= 40; i++) {
			int fd = stranger(&to);

			world_wait(&world, &world.opened, i);
			close(fd);
			world_wait(&world, &world.closed, i);
		}
		world_end(&world);
	}
}

/* on_connect closes its connection, and the peer says CONNECT twice: it never opens, and ends once. */
static void hostile_connect_twice(void **state)
{
	struct ph_options options = {.shard_count = 1, .connections_per_shard = 64};
	uint8_t all[sizeof(auth_info) + 2 * sizeof(connect_message)];
	static struct world world;
	ph_address to = world_begin(&world, PH_FRAMING_MESSAGE, options);
	int fd = stranger(&to);

	(void)state;
	world.closes_in_connect = true;
	memcpy(all, auth_info, sizeof(auth_info));
	memcpy(all + sizeof(auth_info), connect_message, sizeof(connect_message));
	memcpy(all + sizeof(auth_info) + sizeof(connect_message), connect_message,
		sizeof(connect_message));
	say(fd, all, sizeof(all));
	world_wait(&world, &world.closed, 1);
	assert_int_equal(world.opened, 0);
	assert_int_equal(world.connects, 1);
	assert_int_equal(world.receipt.reason, PH_REASON_LOCAL_CLOSE);
	close(fd);
	world_end(&world);
}

static void *stopper(void *context)
{
	struct world *world = context;

	assert_int_equal(ph_hub_stop(world->hub, PH_ABORT), 0);
	return NULL;
}

/* A callback that is still at work when the hub stops ends a listener: the other shards have nothing to do
 * any more, and what it posts to them must not outlive them. */
static void hostile_listen_end_while_stopping(void **state)
{
	struct ph_options options = {.shard_count = 4, .connections_per_shard = 64};
	(void)state;
	for (int round = 0; round < 2; round++) {
		static struct world world;
		ph_address to = world_begin(&world, PH_FRAMING_RAW, options);
		int fd = stranger(&to);
		pthread_t thread;

		world.holds = true;
		say(fd, "x", 1);
		world_wait(&world, &world.entered, 1);
		assert_int_equal(pthread_create(&thread, NULL, stopper, &world), 0);
		nap(300); /* the other shards are done by now, as a rule */
		pthread_mutex_lock(&world.lock);
		world.released = true;
		pthread_cond_broadcast(&world.changed);
		pthread_mutex_unlock(&world.lock);
		pthread_join(thread, NULL);
		assert_int_equal(world.closed, 1);
		close(fd);
	}
}

/* A TLS client with a raw connection to a hub that has TLS. */
struct client {
	struct world world;
	SSL_CTX *context;
	SSL *ssl;
	EVP_PKEY *key;
	X509 *certificate;
	int fd;
};

static void client_begin(struct client *client)
{
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 64,
		.socket_send_bytes = 16384,
		.socket_receive_bytes = 65536};
	int small = 16384;
	ph_address to;

	own_credentials = test_identity_create(TEST_P256, "hub");
	to = world_begin(&client->world, PH_FRAMING_RAW, options);
	client->fd = stranger(&to);
	assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	client->context = SSL_CTX_new(TLS_client_method());
	client->key = test_key_create(TEST_P256);
	client->certificate = test_certificate_create(client->key, "c", NULL, client->key, 0);
	assert_int_equal(SSL_CTX_use_certificate(client->context, client->certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(client->context, client->key), 1);
	client->ssl = SSL_new(client->context);
	assert_int_equal(SSL_set_fd(client->ssl, client->fd), 1);
	assert_int_equal(SSL_connect(client->ssl), 1);
	world_wait(&client->world, &client->world.opened, 1);
}

static void client_end(struct client *client)
{
	close(client->fd);
	world_wait(&client->world, &client->world.closed, 1);
	world_end(&client->world);
	SSL_free(client->ssl);
	SSL_CTX_free(client->context);
	X509_free(client->certificate);
	EVP_PKEY_free(client->key);
	ph_credentials_put(own_credentials);
	own_credentials = NULL;
}

/* A record that is no record: our alert reaches the peer, not just a reset. */
static void hostile_bad_record_is_told(void **state)
{
	static const uint8_t record[45] = {23, 3, 3, 0, 40};
	static struct client client;
	uint8_t alert[64];

	(void)state;
	client_begin(&client);
	say(client.fd, record, sizeof(record));
	/* Header, alert, its inner type, and the tag of AES-GCM. */
	assert_int_equal(recv(client.fd, alert, 5 + 2 + 1 + 16, MSG_WAITALL), 5 + 2 + 1 + 16);
	assert_int_equal(alert[0], 23);
	client_end(&client);
	assert_int_equal(client.world.receipt.reason, PH_REASON_PROTOCOL_TLS);
}

/* Our end is ended at once but lingers, so that it reads and drops for its close deadline: many may be sent. */
#define KEY_UPDATES_MAX 20000000u

static unsigned key_updates_flood(struct client *client, unsigned records_between)
{
	unsigned updates = 0;

	while (updates < KEY_UPDATES_MAX &&
		SSL_key_update(client->ssl, SSL_KEY_UPDATE_REQUESTED) == 1) {
		for (unsigned i = 0; i < records_between; i++)
			if (SSL_write(client->ssl, "x", 1) != 1)
				return updates;
		updates++;
	}
	return updates;
}

/* A byte with each does not buy key updates: they end as a flood. */
static void hostile_key_updates_are_charged(void **state)
{
	static struct client client;

	(void)state;
	client_begin(&client);
	assert_true(key_updates_flood(&client, 1) < KEY_UPDATES_MAX);
	client_end(&client);
	assert_int_equal(client.world.receipt.reason, PH_REASON_PROTOCOL_TLS);
}

/* Who pays for them with data and reads no answer is ended all the same: what waits for him has a bound. */
static void hostile_key_updates_have_a_bound(void **state)
{
	static struct client client;

	(void)state;
	client_begin(&client);
	/* 512 KiB of answers, the two sockets' buffers, and ours to send: far less than this. */
	assert_true(key_updates_flood(&client, 32) < KEY_UPDATES_MAX);
	client_end(&client);
	assert_int_equal(client.world.receipt.reason, PH_REASON_LIMIT_SLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_resume_delivers_what_was_kept),
		cmocka_unit_test(hostile_reset_while_blocked),
		cmocka_unit_test(hostile_floods_share_few_buffers),
		cmocka_unit_test(hostile_blocked_is_not_read),
		cmocka_unit_test(hostile_small_table_goes_on),
		cmocka_unit_test(hostile_connect_twice),
		cmocka_unit_test(hostile_listen_end_while_stopping),
		cmocka_unit_test(hostile_bad_record_is_told),
		cmocka_unit_test(hostile_key_updates_are_charged),
		cmocka_unit_test(hostile_key_updates_have_a_bound),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
