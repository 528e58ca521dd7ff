/*
 * The engine on the real kernel, through its public calls: open, send, close in every way, from callbacks
 * and from threads, without TLS (trust and TLS have tests of their own). Nothing here depends on timing:
 * each wait ends on an event and has a generous limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peerhub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TAG 77
#define WAIT_SECONDS 60

/* What a hub's callbacks saw, under one lock; waits are on its condition. */
struct seen {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ph_hub *hub;
	unsigned opened, closed, data, writable, accepted_open;
	uint64_t bytes;
	uint64_t ids[64]; /* of on_open, in order */
	unsigned id_count;
	struct ph_receipt receipts[64];
	unsigned receipt_count;
	uint64_t sum; /* of data bytes */
	/* behaviour */
	int echo;
	int close_in_open, close_in_data;
	int refuse; /* on_connect's answer */
	int take_nothing; /* on_data says -EAGAIN while set */
	uint8_t last[64];
	size_t last_bytes;
};

static void seen_init(struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	pthread_mutex_init(&seen->lock, NULL);
	pthread_cond_init(&seen->changed, NULL);
}

/* Wait until *counter >= wanted; fails the test when it does not come. */
static void seen_wait(struct seen *seen, const unsigned *counter, unsigned wanted)
{
	struct timespec until;
	int status = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&seen->lock);
	while (*counter < wanted && status == 0)
		status = pthread_cond_timedwait(&seen->changed, &seen->lock, &until);
	if (*counter < wanted) {
		fprintf(stderr, "waited for %u, saw %u\n", wanted, *counter);
		ph_hub_dump(seen->hub, 2);
	}
	pthread_mutex_unlock(&seen->lock);
	assert_int_equal(status, 0);
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
	struct seen *seen = hub_user;

	(void)id, (void)tag, (void)user, (void)info;
	answer->node_id = 4711;
	return (enum ph_refuse)seen->refuse;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct seen *seen = hub_user;

	(void)user;
	pthread_mutex_lock(&seen->lock);
	if (seen->id_count < 64)
		seen->ids[seen->id_count++] = id;
	seen->opened++;
	seen->accepted_open += info->accepted != 0;
	pthread_cond_broadcast(&seen->changed);
	pthread_mutex_unlock(&seen->lock);
	if (seen->close_in_open)
		assert_int_equal(ph_close(id, info->tag, PH_GRACEFUL, 0, NULL), 0);
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct seen *seen = hub_user;
	struct ph_part part = {data, bytes};
	int status = 0;

	(void)user;
	pthread_mutex_lock(&seen->lock);
	if (seen->take_nothing) {
		pthread_mutex_unlock(&seen->lock);
		return -EAGAIN;
	}
	pthread_mutex_unlock(&seen->lock);
	if (seen->echo) {
		status = ph_send(id, TAG, type, &part, 1);
		if (status == -EAGAIN)
			return -EAGAIN;
	}
	pthread_mutex_lock(&seen->lock);
	seen->data++;
	seen->bytes += bytes;
	for (size_t i = 0; i < bytes; i++)
		seen->sum += data[i];
	seen->last_bytes = bytes < sizeof(seen->last) ? bytes : sizeof(seen->last);
	memcpy(seen->last, data, seen->last_bytes);
	pthread_cond_broadcast(&seen->changed);
	pthread_mutex_unlock(&seen->lock);
	if (seen->close_in_data)
		ph_close(id, TAG, PH_ABORT, 0, NULL);
	return 0;
}

static void on_writable(void *hub_user, uint64_t id, void *user)
{
	struct seen *seen = hub_user;

	(void)user;
	(void)!ph_resume(id, TAG);
	pthread_mutex_lock(&seen->lock);
	seen->writable++;
	pthread_cond_broadcast(&seen->changed);
	pthread_mutex_unlock(&seen->lock);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct seen *seen = hub_user;

	(void)user;
	assert_int_equal(id, receipt->id);
	pthread_mutex_lock(&seen->lock);
	if (seen->receipt_count < 64)
		seen->receipts[seen->receipt_count++] = *receipt;
	seen->closed++;
	pthread_cond_broadcast(&seen->changed);
	pthread_mutex_unlock(&seen->lock);
}

static const struct ph_callbacks callbacks = {
	.on_verify = on_verify,
	.on_connect = on_connect,
	.on_open = on_open,
	.on_data = on_data,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

static ph_address hub_begin_with(
	struct seen *seen, enum ph_framing framing, struct ph_options options)
{
	struct ph_listen_options listen = {.framing = framing, .tls = PH_TLS_NONE, .tag = TAG};
	char why[PH_WHY_BYTES];
	ph_address bound;
	int status;

	options.user = seen;
	status = ph_hub_start(&options, &callbacks, &seen->hub, why);
	if (status < 0)
		fail_msg("ph_hub_start: %d %s", status, why);
	assert_int_equal(ph_address_parse("[::1]:0", &listen.address), 0);
	assert_true(ph_listen(seen->hub, &listen, &bound) >= 0);
	assert_int_not_equal(bound.sin6_port, 0);
	return bound;
}

static ph_address hub_begin(struct seen *seen, enum ph_framing framing)
{
	struct ph_options options = {.shard_count = 2, .connections_per_shard = 512};

	return hub_begin_with(seen, framing, options);
}

static uint64_t dial(struct seen *seen, ph_address to, enum ph_framing framing)
{
	struct ph_open_options options = {.address = to,
		.kind = PH_KIND_DIRECT,
		.framing = framing,
		.tls = PH_TLS_NONE,
		.group = "g.group",
		.source = "a.opener",
		.tag = TAG};
	uint64_t id = 0;

	assert_int_equal(ph_open(seen->hub, &options, &id), 0);
	assert_int_not_equal(id, 0);
	return id;
}

static const struct ph_receipt *receipt_of(struct seen *seen, uint64_t id)
{
	for (unsigned i = 0; i < seen->receipt_count; i++)
		if (seen->receipts[i].id == id)
			return &seen->receipts[i];
	fail_msg("no receipt");
	return NULL;
}

static const uint8_t type[16] = "0123456789abcde";

static int send_text(uint64_t id, const char *text)
{
	struct ph_part part = {text, strlen(text)};

	return ph_send(id, TAG, type, &part, 1);
}

/* ---- cases ------------------------------------------------------------------------------ */

/* Both ends open, data arrives once, each id ends once with the right side and reason. */
static void hub_open_send_close(void **state)
{
	struct seen seen;
	ph_address to;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	assert_int_equal(seen.accepted_open, 1);
	assert_int_equal(send_text(id, "hello"), 0);
	seen_wait(&seen, &seen.data, 1);
	assert_memory_equal(seen.last, "hello", 5);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), 0);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), -ENOENT);
	assert_int_equal(send_text(id, "late"), -ENOENT);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(receipt_of(&seen, id)->reason, PH_REASON_LOCAL_CLOSE);
	assert_int_equal(receipt_of(&seen, id)->side, PH_SIDE_LOCAL);
	assert_int_equal(receipt_of(&seen, id)->how, PH_GRACEFUL);
	assert_int_equal(receipt_of(&seen, id)->bytes_dropped, 0);
	assert_int_equal(receipt_of(&seen, id)->bytes_acknowledged, 28 + 5);
	for (unsigned i = 0; i < 2; i++) {
		if (seen.receipts[i].id == id)
			continue;
		assert_int_equal(seen.receipts[i].reason, PH_REASON_REMOTE_CLOSE);
		assert_int_equal(seen.receipts[i].side, PH_SIDE_REMOTE);
	}
	assert_int_equal(ph_close(id, TAG, PH_ABORT, 0, NULL), -ENOENT);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
	assert_int_equal(seen.closed, 2);
}

/* All that was accepted before a graceful close arrives, also from another thread and in order. */
static void hub_close_delivers_what_was_accepted(void **state)
{
	struct seen seen;
	ph_address to;
	uint64_t id;
	unsigned sent = 0;
	char text[32];

	(void)state;
	seen_init(&seen);
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	for (; sent < 5000; sent++) {
		snprintf(text, sizeof(text), "message %u", sent);
		if (send_text(id, text) == -EAGAIN)
			break;
	}
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), 0);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(seen.data, sent);
	snprintf(text, sizeof(text), "message %u", sent - 1);
	assert_memory_equal(seen.last, text, strlen(text));
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* A reason and a text travel to the other end in a NOTICE. */
static void hub_close_reason_reaches_the_peer(void **state)
{
	struct seen seen;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	id = dial(&seen, hub_begin(&seen, PH_FRAMING_MESSAGE), PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 1234, "enough"), 0);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(receipt_of(&seen, id)->reason, 1234);
	assert_string_equal(receipt_of(&seen, id)->text, "enough");
	for (unsigned i = 0; i < 2; i++) {
		if (seen.receipts[i].id == id)
			continue;
		assert_int_equal(seen.receipts[i].reason, PH_REASON_REMOTE_CLOSE);
		assert_int_equal(seen.receipts[i].peer_reason, 1234);
		assert_string_equal(seen.receipts[i].peer_text, "enough");
	}
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* A notice ahead of the end stands in the peer's receipt, its time too: the goodbye of the same reason leaves
 * that alone. The newest counts, 0 takes it back; how many there may be is bounded. */
static void hub_notice_reaches_the_peer(void **state)
{
	static const uint32_t reasons[] = {PH_REASON_LOCAL_DRAIN, 0};
	struct seen seen;
	uint64_t id;

	(void)state;
	for (int round = 0; round < 2; round++) {
		seen_init(&seen);
		id = dial(&seen, hub_begin(&seen, PH_FRAMING_MESSAGE), PH_FRAMING_MESSAGE);
		seen_wait(&seen, &seen.opened, 2);
		assert_int_equal(ph_notice(id, TAG + 1, 1, 1, NULL), -ENOENT);
		assert_int_equal(ph_notice(0, TAG, 1, 1, NULL), -ENOENT);
		assert_int_equal(ph_notice(id, TAG, 1111, 7, "first"), 0);
		assert_int_equal(ph_notice(id, TAG, PH_REASON_LOCAL_DRAIN, 30000, "soon"), 0);
		if (round == 1)
			assert_int_equal(ph_notice(id, TAG, 0, 0, NULL), 0);
		assert_int_equal(ph_close(id, TAG, PH_GRACEFUL,
					 round == 0 ? PH_REASON_LOCAL_DRAIN : 0, NULL),
			0);
		assert_int_equal(ph_notice(id, TAG, 1, 1, NULL), -ENOENT);
		seen_wait(&seen, &seen.closed, 2);
		for (unsigned i = 0; i < 2; i++) {
			const struct ph_receipt *receipt = &seen.receipts[i];

			assert_int_equal(receipt->messages_sent, 0);
			assert_int_equal(receipt->bytes_queued, 0);
			if (receipt->id == id)
				continue;
			assert_int_equal(receipt->peer_reason, reasons[round]);
			assert_int_equal(receipt->peer_retry_after_ms, round == 0 ? 30000 : 0);
			assert_string_equal(receipt->peer_text, round == 0 ? "soon" : "");
			assert_int_equal(receipt->reason,
				round == 0 ? PH_REASON_REMOTE_LEAVING : PH_REASON_REMOTE_CLOSE);
		}
		assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
	}
	seen_init(&seen);
	id = dial(&seen, hub_begin(&seen, PH_FRAMING_MESSAGE), PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	for (unsigned i = 0; i < PH_NOTICES_MAX; i++)
		assert_int_equal(ph_notice(id, TAG, 1, 1, "again"), 0);
	assert_int_equal(ph_notice(id, TAG, 1, 1, "again"), -EAGAIN);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
	seen_init(&seen);
	id = dial(&seen, hub_begin(&seen, PH_FRAMING_RAW), PH_FRAMING_RAW);
	seen_wait(&seen, &seen.opened, 2);
	assert_int_equal(ph_notice(id, TAG, 1, 1, NULL), -EOPNOTSUPP);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

static void hub_abort_resets(void **state)
{
	struct seen seen;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	id = dial(&seen, hub_begin(&seen, PH_FRAMING_MESSAGE), PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	assert_int_equal(ph_close(id, TAG, PH_ABORT, 0, NULL), 0);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(receipt_of(&seen, id)->reason, PH_REASON_LOCAL_ABORT);
	for (unsigned i = 0; i < 2; i++)
		if (seen.receipts[i].id != id)
			assert_int_equal(seen.receipts[i].reason, PH_REASON_REMOTE_RESET);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* Nobody answers: FAILED with the TCP error; a close of an attempt in progress is S_OK and one event. */
static void hub_dial_fails_and_is_closed(void **state)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t bytes = sizeof(name);
	/* A port that is ours and does not listen: nobody else can. */
	int quiet = socket(AF_INET6, SOCK_STREAM, 0);
	struct seen seen;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	(void)hub_begin(&seen, PH_FRAMING_MESSAGE);
	assert_int_equal(bind(quiet, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(getsockname(quiet, (struct sockaddr *)&name, &bytes), 0);
	id = dial(&seen, name, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.closed, 1);
	assert_int_equal(receipt_of(&seen, id)->failure, PH_FAILURE_CONNECT);
	assert_int_equal(receipt_of(&seen, id)->error, -ECONNREFUSED);
	assert_int_equal(receipt_of(&seen, id)->reason, PH_REASON_TRANSPORT_CONNECT);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), -ENOENT);
	close(quiet);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* A listener that never answers: WELCOME does not come; closing graceful and by abort end it once. */
static void hub_close_while_greeting(void **state)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t bytes = sizeof(name);
	int silent = socket(AF_INET6, SOCK_STREAM, 0);
	struct seen seen;
	uint64_t ids[3];

	(void)state;
	seen_init(&seen);
	(void)hub_begin(&seen, PH_FRAMING_MESSAGE);
	assert_int_equal(bind(silent, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(silent, 8), 0);
	assert_int_equal(getsockname(silent, (struct sockaddr *)&name, &bytes), 0);
	for (int i = 0; i < 3; i++)
		ids[i] = dial(&seen, name, PH_FRAMING_MESSAGE);
	assert_int_equal(ph_close(ids[0], TAG, PH_ABORT, 0, NULL), 0);
	for (int i = 0; i < 3; i++) {
		int peer = accept(silent, NULL, NULL);

		if (peer >= 0 && i == 2)
			assert_int_equal(close(peer), 0);
		else if (peer >= 0)
			assert_int_equal(close(peer), 0);
		if (i == 1)
			break;
	}
	ph_close(ids[1], TAG, PH_ABORT, 0, NULL);
	ph_close(ids[2], TAG, PH_ABORT, 0, NULL);
	seen_wait(&seen, &seen.closed, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(receipt_of(&seen, ids[i])->was_open, 0);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
	assert_int_equal(seen.closed, 3);
	close(silent);
}

static void hub_refuse(void **state)
{
	struct seen seen;
	uint64_t id;
	ph_address to;

	(void)state;
	seen_init(&seen);
	seen.refuse = PH_REFUSE_DIRECT_DISALLOWED;
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(receipt_of(&seen, id)->failure, PH_FAILURE_REFUSED);
	assert_int_equal(receipt_of(&seen, id)->refuse_code, 4);
	assert_int_equal(receipt_of(&seen, id)->reason, PH_REASON_REMOTE_REFUSED);
	assert_int_equal(seen.opened, 0);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* Close inside on_open and inside on_data. */
static void hub_close_inside_callbacks(void **state)
{
	struct seen seen;
	unsigned before;
	ph_address to;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	seen.close_in_open = 1;
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	(void)dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.closed, 2);
	seen.close_in_open = 0;
	seen.close_in_data = 1;
	before = seen.opened;
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, before + 2);
	while (send_text(id, "x") == 0)
		;
	seen_wait(&seen, &seen.closed, 4);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
	assert_int_equal(seen.closed, 4);
}

/* Raw framing gives every byte back through a budget much smaller than the stream. */
static void hub_raw_echo_backpressure(void **state)
{
	struct ph_options options = {
		.shard_count = 1, .connections_per_shard = 16, .send_queue_bytes = 4096};
	enum {
		TOTAL = 4 << 20
	};
	uint64_t sent_sum = 0, got_sum = 0;
	size_t sent = 0, got = 0;
	uint8_t out[8192], in[8192];
	struct seen seen;
	ph_address to;
	int fd;

	(void)state;
	seen_init(&seen);
	seen.echo = 1;
	to = hub_begin_with(&seen, PH_FRAMING_RAW, options);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	while (got < TOTAL) {
		struct pollfd wait = {fd, POLLIN | (sent < TOTAL ? POLLOUT : 0), 0};

		assert_true(poll(&wait, 1, WAIT_SECONDS * 1000) > 0);
		if (wait.revents & POLLOUT) {
			ssize_t n;

			for (size_t i = 0; i < sizeof(out); i++)
				out[i] = (uint8_t)((sent + i) * 131 >> 3);
			n = send(fd, out, sent + sizeof(out) > TOTAL ? TOTAL - sent : sizeof(out),
				MSG_DONTWAIT);
			for (ssize_t i = 0; i < n; i++)
				sent_sum = sent_sum * 31 + out[i];
			sent += n > 0 ? (size_t)n : 0;
		}
		if (wait.revents & POLLIN) {
			ssize_t n = recv(fd, in, sizeof(in), MSG_DONTWAIT);

			assert_true(n > 0);
			for (ssize_t i = 0; i < n; i++)
				got_sum = got_sum * 31 + in[i];
			got += (size_t)n;
		}
	}
	assert_int_equal(sent_sum, got_sum);
	/* Half-close: what is owed has come, then the end. */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(recv(fd, in, sizeof(in), 0), 0);
	close(fd);
	seen_wait(&seen, &seen.closed, 1);
	assert_int_equal(seen.receipts[0].reason, PH_REASON_REMOTE_CLOSE);
	assert_int_equal(seen.receipts[0].bytes_dropped, 0);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* -EAGAIN at the budget, then exactly one on_writable. */
static void hub_send_would_block_then_writable(void **state)
{
	struct seen seen;
	ph_address to;
	uint64_t id;
	int status;

	(void)state;
	seen_init(&seen);
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	pthread_mutex_lock(&seen.lock);
	seen.take_nothing = 1;
	pthread_mutex_unlock(&seen.lock);
	do
		status = send_text(id, "a message that nobody takes away for a while ..........");
	while (status == 0);
	assert_int_equal(status, -EAGAIN);
	pthread_mutex_lock(&seen.lock);
	seen.take_nothing = 0;
	pthread_mutex_unlock(&seen.lock);
	seen_wait(&seen, &seen.writable, 1);
	assert_int_equal(send_text(id, "again"), 0);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), 0);
	seen_wait(&seen, &seen.closed, 2);
	assert_memory_equal(seen.last, "again", 5);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

static void *closer(void *context)
{
	uint64_t id = *(uint64_t *)context;

	return (void *)(intptr_t)(ph_close(id, TAG, PH_GRACEFUL, 0, NULL) == 0);
}

/* Of many concurrent closes of one id exactly one wins. */
static void hub_concurrent_closes_one_winner(void **state)
{
	struct seen seen;
	ph_address to;

	(void)state;
	seen_init(&seen);
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	for (unsigned round = 0; round < 30; round++) {
		pthread_t threads[4];
		intptr_t wins = 0;
		uint64_t id = dial(&seen, to, PH_FRAMING_MESSAGE);

		seen_wait(&seen, &seen.opened, 2 * round + 2);
		for (int i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, closer, &id);
		for (int i = 0; i < 4; i++) {
			void *won;

			pthread_join(threads[i], &won);
			wins += (intptr_t)won;
		}
		assert_int_equal(wins, 1);
		seen_wait(&seen, &seen.closed, 2 * round + 2);
	}
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

static int visit_count(void *context, const struct ph_connection *connection)
{
	assert_int_equal(connection->tag, TAG);
	(*(unsigned *)context)++;
	return 0;
}

/* Snapshots, close_where with dry run and spread, and the end of a tag. */
static void hub_find_connections_tag_end(void **state)
{
	struct ph_filter filter = {.has_tag = 1, .tag = TAG};
	struct ph_open_options again = {.kind = PH_KIND_DIRECT,
		.tls = PH_TLS_NONE,
		.group = "g.group",
		.source = "a.opener",
		.tag = TAG};
	struct ph_statistics stats;
	struct seen seen;
	ph_address to;
	uint64_t ids[32], id;
	unsigned visited = 0;

	(void)state;
	seen_init(&seen);
	to = hub_begin(&seen, PH_FRAMING_MESSAGE);
	for (int i = 0; i < 10; i++)
		(void)dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 20);
	assert_int_equal(ph_connections(seen.hub, &filter, visit_count, &visited), 20);
	assert_int_equal(visited, 20);
	/* The acceptors know the opener's name. */
	assert_int_equal(ph_find(seen.hub, "g.group", "a.opener", ids, 32), 10);
	assert_int_equal(ph_find(seen.hub, "g.group", "nobody", ids, 32), 0);
	assert_int_equal(ph_close_where(seen.hub, &filter, PH_GRACEFUL, 0, 1, 0), 20);
	filter.identity = "a.opener";
	assert_int_equal(ph_close_where(seen.hub, &filter, PH_GRACEFUL, 1001, 0, 50), 10);
	seen_wait(&seen, &seen.closed, 20);
	for (int i = 0; i < 10; i++)
		(void)dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 40);
	assert_int_equal(ph_tag_end(seen.hub, TAG, PH_GRACEFUL, 0), 0);
	seen_wait(&seen, &seen.closed, 40);
	again.address = to;
	assert_int_equal(ph_open(seen.hub, &again, &id), -ESHUTDOWN);
	ph_stats(seen.hub, &stats);
	assert_int_equal(stats.opened, 40);
	assert_int_equal(stats.closed, 40);
	assert_int_equal(stats.open, 0);
	assert_int_equal(stats.close_resubmits, 0);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* Every line of the error contracts that needs no scripted kernel. */
static void hub_error_codes(void **state)
{
	struct ph_part part = {NULL, 4}, parts[PH_PARTS_MAX + 1];
	struct ph_options options = {.shard_count = PH_SHARDS_MAX + 1};
	struct ph_listen_options listen = {.tls = PH_TLS_NONE};
	struct ph_open_options open = {0};
	char why[PH_WHY_BYTES], big[1];
	struct ph_hub *hub;
	struct seen seen;
	ph_address bound;
	uint64_t id;
	int listener;

	(void)state;
	assert_int_equal(ph_hub_start(&options, &callbacks, &hub, why), -EINVAL);
	assert_non_null(strstr(why, "shard_count"));
	assert_int_equal(ph_hub_start(NULL, NULL, &hub, why), -EINVAL);
	seen_init(&seen);
	bound = hub_begin(&seen, PH_FRAMING_MESSAGE);
	assert_int_equal(ph_open(seen.hub, &open, &id), -EINVAL);
	listen.address = bound;
	assert_int_equal(ph_listen(seen.hub, &listen, NULL), -EADDRINUSE);
	listen.address.sin6_port = 0;
	listener = ph_listen(seen.hub, &listen, &bound);
	assert_true(listener > 0);
	assert_int_equal(ph_listen_end(seen.hub, listener), 0);
	assert_int_equal(ph_listen_end(seen.hub, listener), -ENOENT);
	assert_int_equal(ph_listen_end(seen.hub, 9999), -ENOENT);
	/* Free again at once; and another address of the same port is no conflict. */
	listen.address = bound;
	assert_true(ph_listen(seen.hub, &listen, NULL) >= 0);
	assert_int_equal(ph_address_parse("127.0.0.1:0", &listen.address), 0);
	listen.address.sin6_port = bound.sin6_port;
	assert_true(ph_listen(seen.hub, &listen, NULL) >= 0);
	id = dial(&seen, bound, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	assert_int_equal(ph_send(id, TAG, type, &part, 1), -EINVAL);
	assert_int_equal(ph_send(id, TAG, NULL, NULL, 0), -EINVAL);
	memset(parts, 0, sizeof(parts));
	assert_int_equal(ph_send(id, TAG, type, parts, PH_PARTS_MAX + 1), -EINVAL);
	part.data = big;
	part.bytes = PH_MESSAGE_BYTES_MAX + 1;
	assert_int_equal(ph_send(id, TAG, type, &part, 1), -EMSGSIZE);
	part.bytes = 1;
	big[0] = 1;
	assert_int_equal(ph_send(id, TAG + 1, type, &part, 1), -ENOENT);
	assert_int_equal(ph_send(0, TAG, type, &part, 1), -ENOENT);
	assert_int_equal(ph_send(~0ull, TAG, type, &part, 1), -ENOENT);
	assert_int_equal(ph_close(id, TAG + 1, PH_GRACEFUL, 0, NULL), -ENOENT);
	assert_int_equal(ph_close(id + (1ull << 32), TAG, PH_GRACEFUL, 0, NULL), -ENOENT);
	assert_int_equal(ph_pause(id, TAG + 1), -ENOENT);
	assert_int_equal(ph_pause(id, TAG), 0);
	assert_int_equal(ph_resume(id, TAG), 0);
	assert_int_equal(ph_send(id, TAG, type, NULL, 0), 0);
	seen_wait(&seen, &seen.data, 1);
	assert_int_equal(ph_hub_stop(seen.hub, PH_ABORT), 0);
	assert_int_equal(seen.closed, 2);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), -ENOENT);
}

/* The same with normal descriptors. */
static void hub_without_direct_descriptors(void **state)
{
	struct ph_options options = {.shard_count = 2,
		.connections_per_shard = 64,
		.flags = PH_HUB_NO_DIRECT_DESCRIPTORS};
	struct seen seen;
	ph_address to;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	seen.echo = 0;
	to = hub_begin_with(&seen, PH_FRAMING_MESSAGE, options);
	for (unsigned i = 0; i < 8; i++) {
		id = dial(&seen, to, PH_FRAMING_MESSAGE);
		seen_wait(&seen, &seen.opened, 2 * i + 2);
		assert_int_equal(send_text(id, "hello"), 0);
		seen_wait(&seen, &seen.data, i + 1);
		assert_int_equal(ph_close(id, TAG, i % 2 ? PH_ABORT : PH_GRACEFUL, 0, NULL), 0);
		seen_wait(&seen, &seen.closed, 2 * i + 2);
	}
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* In a process of its own: how many places a hub has under a hard limit; one connection opens and closes. */
static unsigned places_under_limit(rlim_t files, unsigned shards, uint32_t flags)
{
	struct ph_options options = {
		.shard_count = shards, .connections_per_shard = 512, .flags = flags};
	const struct rlimit limit = {.rlim_cur = files, .rlim_max = files};
	struct ph_statistics stats;
	static struct seen seen;
	unsigned places = 0;
	int ends[2], status;
	ph_address to;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		/* Whatever fails here ends the process without the last word. */
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			_exit(1);
		seen_init(&seen);
		to = hub_begin_with(&seen, PH_FRAMING_MESSAGE, options);
		ph_stats(seen.hub, &stats);
		places = (unsigned)stats.slots;
		(void)dial(&seen, to, PH_FRAMING_MESSAGE);
		seen_wait(&seen, &seen.opened, 2);
		if (ph_hub_stop(seen.hub, PH_GRACEFUL) < 0 || seen.closed != 2)
			_exit(1);
		_exit(write(ends[1], &places, sizeof(places)) != sizeof(places));
	}
	close(ends[1]);
	if (read(ends[0], &places, sizeof(places)) != sizeof(places))
		places = 0;
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? places : 0;
}

/* A low limit makes the tables small, and leaves descriptors for the strangers held behind a pause; where
 * there is no room for a table of direct descriptors the hub works without. */
static void hub_under_low_descriptor_limits(void **state)
{
	(void)state;
	assert_int_equal(places_under_limit(100, 1, 0), 32);
	assert_int_equal(places_under_limit(191, 1, 0), 32);
	assert_int_equal(places_under_limit(192, 1, 0), 32);
	assert_in_range(
		places_under_limit(300, 1, 0), 76, 140); /* without direct descriptors: 76 */
	assert_int_equal(places_under_limit(1024, 4, PH_HUB_NO_DIRECT_DESCRIPTORS), 320);
	assert_int_equal(places_under_limit(1024, 1, PH_HUB_NO_DIRECT_DESCRIPTORS), 512);
}

/* Pings keep an idle connection alive beyond the time after which silence is called dead. */
static void hub_pings_keep_alive(void **state)
{
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 16,
		.ping_interval_ms = 20,
		.timeout_dead_ms = 1000};
	struct ph_statistics stats;
	struct seen seen;
	ph_address to;
	uint64_t id;

	(void)state;
	seen_init(&seen);
	to = hub_begin_with(&seen, PH_FRAMING_MESSAGE, options);
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	do {
		usleep(1000);
		ph_stats(seen.hub, &stats);
	} while (stats.pings_received < 120 && stats.open == 2); /* over a second of silence */
	assert_int_equal(stats.open, 2);
	assert_int_equal(seen.data, 0); /* pings are nobody's data */
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), 0);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* One that connects and says nothing: before the greeting the handshake's deadline ends it, after it the
 * silence does. Both are this connection's end only. */
static void hub_silent_peers_are_ended(void **state)
{
	static const uint8_t hello[] = {
		/* AUTH_INFO: direct, group "g.g", source "s.s", any destination */
		0, 0, 0, 24, 0x10, 1, 0, 0, 2, 0, 0, 16, 0, 20, 0, 24, 'g', '.', 'g', 0, 's', '.',
		's', 0,
		/* CONNECT: direct, no addresses, node 1 */
		0, 0, 0, 24, 0x10, 2, 0, 0, 4, 0, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 16,
		.ping_interval_ms = 50,
		.timeout_dead_ms = 200,
		.timeout_handshake_ms = 200};
	struct seen seen;
	ph_address to;
	int silent, mute;

	(void)state;
	seen_init(&seen);
	to = hub_begin_with(&seen, PH_FRAMING_MESSAGE, options);
	silent = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(silent, (struct sockaddr *)&to, sizeof(to)), 0);
	seen_wait(&seen, &seen.closed, 1);
	assert_int_equal(seen.receipts[0].reason, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT);
	assert_int_equal(seen.receipts[0].was_open, 0);
	mute = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(mute, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(mute, hello, sizeof(hello), 0), sizeof(hello));
	seen_wait(&seen, &seen.opened, 1);
	seen_wait(&seen, &seen.closed, 2);
	assert_int_equal(seen.receipts[1].reason, PH_REASON_TRANSPORT_DEAD);
	assert_int_equal(seen.receipts[1].was_open, 1);
	close(silent);
	close(mute);
	assert_int_equal(ph_hub_stop(seen.hub, PH_GRACEFUL), 0);
}

/* A peer that stops reading: the graceful close ends at its deadline, by reset, and the receipt says what
 * was not sent. */
static void hub_graceful_close_has_a_deadline(void **state)
{
	struct ph_options options = {.shard_count = 1,
		.connections_per_shard = 16,
		.timeout_close_ms = 100,
		.socket_send_bytes = 4096,
		.socket_receive_bytes = 4096};
	const struct ph_receipt *receipt;
	struct seen seen;
	ph_address to;
	uint64_t id;
	char big[20000];

	(void)state;
	memset(big, 'b', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	seen_init(&seen);
	seen.take_nothing = 1;
	to = hub_begin_with(&seen, PH_FRAMING_MESSAGE, options);
	id = dial(&seen, to, PH_FRAMING_MESSAGE);
	seen_wait(&seen, &seen.opened, 2);
	while (send_text(id, big) == 0)
		;
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), 0);
	/* A second, impatient caller makes no difference but to know. */
	seen_wait(&seen, &seen.closed, 1);
	receipt = receipt_of(&seen, id);
	assert_int_equal(receipt->how, PH_ABORT);
	assert_int_equal(receipt->reason, PH_REASON_LOCAL_CLOSE);
	assert_true(receipt->bytes_dropped > 0);
	assert_int_equal(receipt->bytes_dropped, receipt->bytes_queued - receipt->bytes_sent);
	assert_int_equal(ph_hub_stop(seen.hub, PH_ABORT), 0);
	assert_int_equal(seen.closed, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hub_open_send_close),
		cmocka_unit_test(hub_close_delivers_what_was_accepted),
		cmocka_unit_test(hub_close_reason_reaches_the_peer),
		cmocka_unit_test(hub_notice_reaches_the_peer),
		cmocka_unit_test(hub_abort_resets),
		cmocka_unit_test(hub_dial_fails_and_is_closed),
		cmocka_unit_test(hub_close_while_greeting),
		cmocka_unit_test(hub_refuse),
		cmocka_unit_test(hub_close_inside_callbacks),
		cmocka_unit_test(hub_raw_echo_backpressure),
		cmocka_unit_test(hub_send_would_block_then_writable),
		cmocka_unit_test(hub_concurrent_closes_one_winner),
		cmocka_unit_test(hub_find_connections_tag_end),
		cmocka_unit_test(hub_error_codes),
		cmocka_unit_test(hub_without_direct_descriptors),
		cmocka_unit_test(hub_under_low_descriptor_limits),
		cmocka_unit_test(hub_pings_keep_alive),
		cmocka_unit_test(hub_silent_peers_are_ended),
		cmocka_unit_test(hub_graceful_close_has_a_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
