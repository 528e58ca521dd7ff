/*
 * The send budget of a connection: whoever is told -EAGAIN gets an on_writable, however large the message
 * is that did not fit and however many wait at once. A plain socket reads at the other end.
 */
#include "peerhub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define TAG 5
#define BUDGET 1000000u
#define WAIT_SECONDS 60

struct run {
	struct ph_hub *hub;
	uint64_t id;
	int listener;
	pthread_t reader;
	uint64_t bytes_read; /* the reader's, until it is joined */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned opened, closed, writable;
	size_t message_bytes[2]; /* of every even and every odd message */
	unsigned message_count;
};

static void run_tell(struct run *run, unsigned *counter)
{
	pthread_mutex_lock(&run->lock);
	(*counter)++;
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
}

/* Until *counter is no longer `was`; false after WAIT_SECONDS. */
static bool run_wait(struct run *run, const unsigned *counter, unsigned was)
{
	struct timespec until;
	int status = 0;
	bool changed;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&run->lock);
	while (*counter == was && status == 0)
		status = pthread_cond_timedwait(&run->changed, &run->lock, &until);
	changed = *counter != was;
	pthread_mutex_unlock(&run->lock);
	return changed;
}

static unsigned run_writable(struct run *run)
{
	unsigned writable;

	pthread_mutex_lock(&run->lock);
	writable = run->writable;
	pthread_mutex_unlock(&run->lock);
	return writable;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct run *run = hub_user;

	(void)id, (void)user, (void)info;
	run_tell(run, &run->opened);
}

static void on_writable(void *hub_user, uint64_t id, void *user)
{
	struct run *run = hub_user;

	(void)id, (void)user;
	run_tell(run, &run->writable);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct run *run = hub_user;

	(void)id, (void)user, (void)receipt;
	run_tell(run, &run->closed);
}

static void *reader_main(void *context)
{
	struct run *run = context;
	static uint8_t data[65536];
	int fd = accept(run->listener, NULL, NULL);
	ssize_t bytes;

	while (fd >= 0 && (bytes = recv(fd, data, sizeof(data), 0)) > 0)
		run->bytes_read += (uint64_t)bytes;
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void run_begin(struct run *run)
{
	static const struct ph_callbacks callbacks = {
		.on_open = on_open, .on_writable = on_writable, .on_closed = on_closed};
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 64,
		.send_queue_bytes = BUDGET,
		.socket_send_bytes = 131072,
		.user = run};
	struct ph_open_options open = {
		.kind = PH_KIND_RAW, .framing = PH_FRAMING_RAW, .tls = PH_TLS_NONE, .tag = TAG};
	socklen_t size = sizeof(open.address);
	char why[PH_WHY_BYTES];

	memset(run, 0, sizeof(*run));
	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->changed, NULL);
	run->listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(run->listener >= 0);
	assert_int_equal(ph_address_parse("[::1]:0", &open.address), 0);
	assert_int_equal(bind(run->listener, (struct sockaddr *)&open.address, size), 0);
	assert_int_equal(listen(run->listener, 1), 0);
	assert_int_equal(getsockname(run->listener, (struct sockaddr *)&open.address, &size), 0);
	assert_int_equal(pthread_create(&run->reader, NULL, reader_main, run), 0);
	if (ph_hub_start(&options, &callbacks, &run->hub, why) < 0)
		fail_msg("%s", why);
	assert_int_equal(ph_open(run->hub, &open, &run->id), 0);
	assert_true(run_wait(run, &run->opened, 0));
}

static void run_end(struct run *run, uint64_t bytes)
{
	assert_int_equal(ph_close(run->id, TAG, PH_GRACEFUL, 0, NULL), 0);
	assert_true(run_wait(run, &run->closed, 0));
	assert_int_equal(pthread_join(run->reader, NULL), 0);
	assert_int_equal(run->bytes_read, bytes);
	assert_int_equal(ph_hub_stop(run->hub, PH_GRACEFUL), 0);
	close(run->listener);
	pthread_cond_destroy(&run->changed);
	pthread_mutex_destroy(&run->lock);
}

/* Send all messages, waiting after each -EAGAIN; what went wrong, or NULL. Any thread. */
static const char *send_all(struct run *run)
{
	static const uint8_t data[BUDGET * 2];
	for (unsigned sent = 0; sent < run->message_count;) {
		struct ph_part part = {data, run->message_bytes[sent % 2]};
		unsigned writable = run_writable(run);
		int status = ph_send(run->id, TAG, NULL, &part, 1);

		if (status == 0)
			sent++;
		else if (status != -EAGAIN)
			return "ph_send failed";
		else if (!run_wait(run, &run->writable, writable))
			return "no on_writable after -EAGAIN";
	}
	return NULL;
}

static void send_and_expect(size_t even_bytes, size_t odd_bytes, unsigned message_count)
{
	struct run run;
	const char *wrong;

	run_begin(&run);
	run.message_bytes[0] = even_bytes;
	run.message_bytes[1] = odd_bytes;
	run.message_count = message_count;
	wrong = send_all(&run);
	if (wrong != NULL)
		fail_msg("%s", wrong);
	run_end(&run, (uint64_t)(even_bytes + odd_bytes) * (message_count / 2));
}

static void send_small_messages(void **state)
{
	(void)state;
	send_and_expect(1000, 1000, 3000);
}

/* Over half of the budget: it does not fit beside what is queued even when on_writable is due. */
static void send_messages_over_half_the_budget(void **state)
{
	(void)state;
	send_and_expect(BUDGET / 3, BUDGET - BUDGET / 8, 60);
}

/* Over the whole budget: each is let in alone. */
static void send_messages_over_the_budget(void **state)
{
	(void)state;
	send_and_expect(BUDGET / 8, BUDGET * 2, 30);
}

struct sender {
	struct run *run;
	const char *wrong;
	pthread_t thread;
};

static void *sender_main(void *context)
{
	struct sender *sender = context;

	sender->wrong = send_all(sender->run);
	return NULL;
}

/* Several senders wait at once: one that finds room takes no other's on_writable away. */
static void send_from_several_threads(void **state)
{
	struct sender senders[3];
	struct run run;

	(void)state;
	run_begin(&run);
	run.message_bytes[0] = BUDGET / 3;
	run.message_bytes[1] = BUDGET / 3;
	run.message_count = 60;
	for (int i = 0; i < 3; i++) {
		senders[i] = (struct sender){.run = &run};
		assert_int_equal(
			pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]), 0);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
	for (int i = 0; i < 3; i++)
		if (senders[i].wrong != NULL)
			fail_msg("%s", senders[i].wrong);
	run_end(&run, 3ull * run.message_bytes[0] * run.message_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(send_small_messages),
		cmocka_unit_test(send_messages_over_half_the_budget),
		cmocka_unit_test(send_messages_over_the_budget),
		cmocka_unit_test(send_from_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
