/* Who is served when many shake hands at once: nobody who has gone again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/shard.h"
#include "peerhub.h"

#include <openssl/ssl.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SECONDS 60
#define STALE_COUNT 20u

struct world {
	atomic_uint hellos, closed, lost;
	atomic_bool released;
};

static void nap(long ms)
{
	const struct timespec moment = {.tv_nsec = ms * 1000000};

	nanosleep(&moment, NULL);
}

static bool reached(atomic_uint *counter, unsigned wanted)
{
	for (int i = 0; i < WAIT_SECONDS * 100 && atomic_load(counter) < wanted; i++)
		nap(10);
	return atomic_load(counter) >= wanted;
}

/* The first one holds the shard until the others have come and gone; all are refused. */
static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	struct world *world = hub_user;

	(void)sni, (void)answer;
	atomic_fetch_add(&world->hellos, 1);
	for (int i = 0; i < WAIT_SECONDS * 100 && !atomic_load(&world->released); i++)
		nap(10);
	return -1;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct world *world = hub_user;

	(void)id, (void)user;
	if (receipt->reason == PH_REASON_TRANSPORT_HANDSHAKE_LOST)
		atomic_fetch_add(&world->lost, 1);
	atomic_fetch_add(&world->closed, 1);
}

static int hello_make(uint8_t *out, int bytes_max)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	BIO *sent = BIO_new(BIO_s_mem());
	int bytes;

	assert_non_null(ssl);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), sent);
	assert_int_not_equal(SSL_connect(ssl), 1);
	bytes = BIO_read(sent, out, bytes_max);
	assert_true(bytes > 0);
	SSL_free(ssl);
	SSL_CTX_free(context);
	return bytes;
}

static int client(const ph_address *to, const uint8_t *hello, int bytes)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
	assert_int_equal(send(fd, hello, (size_t)bytes, MSG_NOSIGNAL), bytes);
	return fd;
}

/* They said hello and have gone before their turn: nobody is asked for their name. */
static void who_has_gone_is_not_served(void **state)
{
	const struct ph_callbacks callbacks = {.on_hello = on_hello, .on_closed = on_closed};
	struct ph_listen_options listen = {.framing = PH_FRAMING_RAW, .tls = PH_TLS_MUTUAL};
	struct world world = {.hellos = 0};
	struct ph_options options = {
		.shard_count = 1, .connections_per_shard = 128, .user = &world};
	char why[PH_WHY_BYTES];
	struct ph_hub *hub;
	uint8_t hello[2048];
	int bytes, first;
	ph_address bound;

	(void)state;
	if (ph_hub_start(&options, &callbacks, &hub, why) < 0)
		fail_msg("ph_hub_start: %s", why);
	assert_int_equal(ph_address_parse("[::1]:0", &listen.address), 0);
	assert_true(ph_listen(hub, &listen, &bound) >= 0);
	bytes = hello_make(hello, sizeof(hello));
	first = client(&bound, hello, bytes);
	assert_true(reached(&world.hellos, 1));
	for (unsigned i = 0; i < STALE_COUNT; i++)
		close(client(&bound, hello, bytes));
	atomic_store(&world.released, true);
	close(first);
	assert_true(reached(&world.closed, STALE_COUNT + 1));
	assert_int_equal(atomic_load(&world.hellos), 1);
	assert_int_equal(atomic_load(&world.lost), STALE_COUNT);
	assert_int_equal(ph_hub_stop(hub, PH_ABORT), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_has_gone_is_not_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
