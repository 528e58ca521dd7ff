/*
 * What the close path relies on in the kernel, asked of the kernel that runs: cancel, close, disconnect
 * and descriptors that are used again, through engine/ring.h alone. When one of these changes with a
 * kernel, this test names it; docs/proof.md says which part of the engine leans on which.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/ring.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BUFFERS 8u
#define BUFFER_BYTES 64u
#define SEEN_MAX 64
#define ACCEPT 1u
#define WAIT_MS 60000

enum {
	RECV_A = 100,
	RECV_B,
	SEND_A,
	CANCEL,
	CLOSE,
	OTHER
};

struct pair {
	int32_t file; /* in the ring's table */
	int peer; /* an ordinary socket */
};

static struct ring_features features;
static struct ring *ring;
static int listener = -1;
static struct sockaddr_in address;
static struct ring_completion seen[SEEN_MAX]; /* all completions of the case so far, in order */
static int seen_count;
static uint8_t bytes[SEEN_MAX][BUFFER_BYTES]; /* what each brought */

/* ---- the fixture -------------------------------------------------------------------------- */

static void drain(void)
{
	while (seen_count < SEEN_MAX && ring_next(ring, &seen[seen_count])) {
		struct ring_completion *done = &seen[seen_count];

		if (done->buffer >= 0) {
			if (done->result > 0)
				memcpy(bytes[seen_count], ring_buffer(ring, (uint32_t)done->buffer),
					(size_t)done->result);
			ring_buffer_put(ring, (uint32_t)done->buffer);
		}
		seen_count++;
	}
	assert_true(seen_count < SEEN_MAX);
}

static void turn(void)
{
	assert_int_equal(ring_enter(ring, RING_NO_WAIT, 0), 0);
	drain();
}

/* The first completion of that operation from `from` on; NULL after the time is over. */
static const struct ring_completion *await_from(int from, uint64_t user_data)
{
	for (int tries = 0; tries < WAIT_MS; tries++) {
		for (int i = from; i < seen_count; i++)
			if (seen[i].user_data == user_data)
				return &seen[i];
		assert_int_equal(ring_enter(ring, 1, 1000000), 0);
		drain();
	}
	return NULL;
}

static const struct ring_completion *await(uint64_t user_data)
{
	return await_from(0, user_data);
}

static int count_of(uint64_t user_data)
{
	int count = 0;

	for (int i = 0; i < seen_count; i++)
		count += seen[i].user_data == user_data;
	return count;
}

/* Its last completion, whatever came before; NULL when it did not end in time. */
static const struct ring_completion *await_end(uint64_t user_data)
{
	for (int from = 0; from <= seen_count;) {
		const struct ring_completion *done = await_from(from, user_data);

		if (done == NULL || !(done->flags & RING_MORE))
			return done;
		from = (int)(done - seen) + 1;
	}
	return NULL;
}

static struct pair pair_open(void)
{
	struct pair pair = {.peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	int from = seen_count;
	const struct ring_completion *done;

	assert_true(pair.peer >= 0);
	assert_int_equal(connect(pair.peer, (const struct sockaddr *)&address, sizeof(address)), 0);
	done = await_from(from, ACCEPT);
	assert_non_null(done);
	assert_true(done->result >= 0);
	assert_true(done->flags & RING_MORE);
	pair.file = done->result;
	return pair;
}

static bool peer_sees_end(int peer, int timeout_ms, int *error)
{
	struct pollfd waiter = {.fd = peer, .events = POLLIN};
	char byte;
	ssize_t got;

	for (int elapsed = 0;; elapsed++) {
		if (poll(&waiter, 1, 1) > 0)
			break;
		if (elapsed >= timeout_ms)
			return false;
		turn();
	}
	got = recv(peer, &byte, 1, MSG_DONTWAIT);
	*error = got < 0 ? errno : 0;
	return got <= 0;
}

static void pair_close(struct pair *pair, bool file_too)
{
	if (file_too)
		assert_true(ring_close(ring, pair->file, CLOSE));
	turn();
	close(pair->peer);
}

static int ring_begin(void **state)
{
	const struct ring_options options = {.submit_entries = 128,
		.complete_entries = 256,
		.file_count = 4,
		.buffer_count = BUFFERS,
		.buffer_bytes = BUFFER_BYTES,
		.direct = features.direct};
	socklen_t length = sizeof(address);

	(void)state;
	seen_count = 0;
	assert_int_equal(ring_create(&options, &ring), 0);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	assert_true(ring_accept_arm(ring, listener, ACCEPT));
	turn();
	return 0;
}

static int ring_finish(void **state)
{
	(void)state;
	assert_int_equal(ring_buffers_out(ring), 0);
	ring_destroy(ring);
	close(listener);
	return 0;
}

/* ---- cancel ------------------------------------------------------------------------------- */

/* A cancel by user_data ends an armed receive with -ECANCELED and is silent itself. */
static void cancel_ends_a_receive(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	turn();
	assert_int_equal(count_of(RECV_A), 0);
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	done = await_end(RECV_A);
	assert_non_null(done);
	assert_int_equal(done->result, -ECANCELED);
	turn();
	assert_int_equal(count_of(CANCEL), 0);
	pair_close(&a, true);
}

/* Queued in one batch, the cancel finds the receive that stands before it. */
static void cancel_finds_what_is_queued_before_it(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	done = await_end(RECV_A);
	assert_non_null(done);
	assert_int_equal(done->result, -ECANCELED);
	pair_close(&a, true);
}

/* Nothing to cancel: -ENOENT, and the close behind it in the batch works all the same. */
static void cancel_of_nothing(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;
	int error;

	(void)state;
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_true(ring_close(ring, a.file, CLOSE));
	done = await(CANCEL);
	assert_non_null(done);
	assert_int_equal(done->result, -ENOENT);
	assert_true(peer_sees_end(a.peer, WAIT_MS, &error));
	assert_int_equal(error, 0);
	assert_int_equal(count_of(CLOSE), 0);
	pair_close(&a, false);
}

/* Bytes that were there when the cancel came are delivered before its end, or stay in the socket: none is lost. */
static void cancel_loses_no_bytes(void **state)
{
	struct pair a = pair_open();
	int got = 0, ends = 0;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	turn();
	assert_int_equal(write(a.peer, "12345", 5), 5);
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_non_null(await_end(RECV_A));
	assert_true(ring_recv_arm(ring, a.file, false, RECV_B));
	for (int tries = 0; tries < WAIT_MS && got < 5; tries++) {
		got = 0;
		for (int i = 0; i < seen_count; i++)
			if (seen[i].user_data == RECV_A || seen[i].user_data == RECV_B)
				got += seen[i].result > 0 ? seen[i].result : 0;
		if (got < 5)
			assert_int_equal(ring_enter(ring, 1, 1000000), 0);
		drain();
	}
	assert_int_equal(got, 5);
	for (int i = 0; i < seen_count; i++)
		ends += seen[i].user_data == RECV_A && !(seen[i].flags & RING_MORE);
	assert_int_equal(ends, 1);
	assert_true(ring_cancel(ring, RECV_B, CANCEL));
	assert_non_null(await_end(RECV_B));
	pair_close(&a, true);
}

/* ---- close -------------------------------------------------------------------------------- */

/* Close alone ends nothing: no FIN leaves, and bytes go on arriving under the old user_data. */
static void close_alone_does_not_end_a_receive(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;
	int error;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	turn();
	assert_true(ring_close(ring, a.file, CLOSE));
	turn();
	assert_false(peer_sees_end(a.peer, 50, &error));
	assert_int_equal(write(a.peer, "late", 4), 4);
	done = await(RECV_A);
	assert_non_null(done);
	assert_int_equal(done->result, 4);
	assert_true(done->flags & RING_MORE);
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_non_null(await_end(RECV_A));
	assert_true(peer_sees_end(a.peer, WAIT_MS, &error));
	pair_close(&a, false);
}

/* A descriptor's number is given away at once, while the old receive lives: the old bytes keep the old
 * user_data, and a cancel by user_data hits the old one only. */
static void descriptor_is_used_again(void **state)
{
	struct pair a, b;
	int from;

	(void)state;
	if (!features.direct)
		skip(); /* without direct descriptors the number is the process's, given away by others too */
	a = pair_open();
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	assert_true(ring_close(ring, a.file, CLOSE));
	turn();
	b = pair_open();
	assert_int_equal(b.file, a.file);
	assert_true(ring_recv_arm(ring, b.file, false, RECV_B));
	turn();
	from = seen_count;
	assert_int_equal(write(a.peer, "old", 3), 3);
	assert_non_null(await_from(from, RECV_A));
	assert_int_equal(write(b.peer, "newer", 5), 5);
	assert_non_null(await_from(from, RECV_B));
	for (int i = from; i < seen_count; i++)
		if (seen[i].result > 0)
			assert_memory_equal(
				bytes[i], seen[i].user_data == RECV_A ? "old" : "newer", 3);
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_non_null(await_end(RECV_A));
	from = seen_count;
	assert_int_equal(write(b.peer, "still", 5), 5);
	assert_non_null(await_from(from, RECV_B));
	assert_true(ring_cancel(ring, RECV_B, CANCEL));
	assert_non_null(await_end(RECV_B));
	pair_close(&a, false);
	pair_close(&b, true);
}

/* The second close of a descriptor finds nothing, as long as nobody else has its number. */
static void second_close_is_refused(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;

	(void)state;
	assert_true(ring_close(ring, a.file, CLOSE));
	turn();
	assert_int_equal(count_of(CLOSE), 0);
	assert_true(ring_close(ring, a.file, CLOSE));
	done = await(CLOSE);
	assert_non_null(done);
	assert_int_equal(done->result, -EBADF);
	pair_close(&a, false);
}

/* Cancel, then close, in one batch and unlinked: the peer sees the end of the stream. */
static void cancel_and_close_in_one_batch(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;
	int error;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	turn();
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_true(ring_close(ring, a.file, CLOSE));
	done = await_end(RECV_A);
	assert_non_null(done);
	assert_int_equal(done->result, -ECANCELED);
	assert_true(peer_sees_end(a.peer, WAIT_MS, &error));
	assert_int_equal(error, 0);
	assert_int_equal(count_of(CLOSE), 0);
	pair_close(&a, false);
}

/* Closing with unread input resets the connection; that is why a graceful close reads on to the peer's end. */
static void close_with_unread_input_is_a_reset(void **state)
{
	struct pair a = pair_open();
	int error = 0;

	(void)state;
	assert_int_equal(write(a.peer, "unread", 6), 6);
	assert_true(ring_close(ring, a.file, CLOSE));
	turn();
	assert_true(peer_sees_end(a.peer, WAIT_MS, &error));
	assert_int_equal(error, ECONNRESET);
	pair_close(&a, false);
}

/* ---- disconnect --------------------------------------------------------------------------- */

/* A disconnect ends a receive and a blocked send at once, and the peer sees a reset. */
static void disconnect_ends_what_is_armed(void **state)
{
	static uint8_t much[8u << 20];
	struct pair a = pair_open();
	const struct ring_completion *done;
	int error = 0;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	assert_true(ring_send(ring, a.file, much, sizeof(much), SEND_A));
	turn();
	if (count_of(SEND_A) > 0) /* it took a part at once: fill it until one waits */
		for (int tries = 0; tries < 64 && count_of(SEND_A) == tries + 1; tries++) {
			assert_true(ring_send(ring, a.file, much, sizeof(much), SEND_A));
			turn();
		}
	assert_true(ring_disconnect(ring, a.file, OTHER));
	assert_true(ring_close(ring, a.file, CLOSE));
	done = await_end(RECV_A);
	assert_non_null(done);
	assert_true(done->result <= 0);
	assert_non_null(await_end(SEND_A));
	assert_int_equal(count_of(OTHER), 0);
	assert_int_equal(count_of(CLOSE), 0);
	for (int tries = 0; tries < 1 << 20 && error == 0; tries++)
		if (recv(a.peer, much, sizeof(much), 0) < 0)
			error = errno;
	assert_int_equal(error, ECONNRESET);
	pair_close(&a, false);
}

/* ---- receive ------------------------------------------------------------------------------ */

/* The end of the stream carries no buffer; who gave one back would give back another's. */
static void end_of_stream_has_no_buffer(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;

	(void)state;
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	assert_int_equal(shutdown(a.peer, SHUT_WR), 0);
	done = await_end(RECV_A);
	assert_non_null(done);
	assert_int_equal(done->result, 0);
	assert_int_equal(done->buffer, -1);
	pair_close(&a, true);
}

/* Data and the end of the stream at once: the multishot receive tells both, or ends with the data and the next
 * one tells the end. */
static void data_and_end_together(void **state)
{
	struct pair a = pair_open();
	const struct ring_completion *done;
	bool ended = false;

	(void)state;
	assert_int_equal(write(a.peer, "bye", 3), 3);
	assert_int_equal(shutdown(a.peer, SHUT_WR), 0);
	for (int tries = 0; tries < 3 && !ended; tries++) {
		int from = seen_count;

		assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
		do {
			done = await_from(from, RECV_A);
			assert_non_null(done);
			from = (int)(done - seen) + 1;
		} while (done->flags & RING_MORE);
		ended = done->result == 0;
	}
	assert_true(ended);
	assert_memory_equal(bytes[(int)(await(RECV_A) - seen)], "bye", 3);
	pair_close(&a, true);
}

/* Without buffers a receive that is not told to wait for data ends at once with -ENOBUFS; one that is told waits. */
static void no_buffers(void **state)
{
	static const uint8_t much[BUFFERS * BUFFER_BYTES];
	struct pair a = pair_open(), b = pair_open();
	struct ring_completion done;
	uint32_t held[BUFFERS], held_count = 0;
	int ends = 0;

	(void)state;
	assert_int_equal(write(a.peer, much, sizeof(much)), (ssize_t)sizeof(much));
	assert_true(ring_recv_arm(ring, a.file, false, RECV_A));
	for (int tries = 0; tries < WAIT_MS && held_count < BUFFERS; tries++) {
		assert_int_equal(ring_enter(ring, 1, 1000000), 0);
		while (ring_next(ring, &done)) {
			if (done.buffer >= 0)
				held[held_count++] = (uint32_t)done.buffer;
			ends += done.user_data == RECV_A && !(done.flags & RING_MORE);
		}
	}
	assert_int_equal(held_count, BUFFERS);
	/* Nothing is there for b, and no buffer: waiting for data first, it waits. */
	assert_true(ring_recv_arm(ring, b.file, true, RECV_B));
	turn();
	turn();
	assert_int_equal(count_of(RECV_B), 0);
	assert_int_equal(write(b.peer, "x", 1), 1);
	assert_int_equal(await_end(RECV_B)->result, -ENOBUFS);
	while (held_count > 0)
		ring_buffer_put(ring, held[--held_count]);
	turn();
	/* With buffers again the byte is still there. */
	assert_true(ring_recv_arm(ring, b.file, true, OTHER));
	assert_int_equal(await(OTHER)->result, 1);
	assert_true(ring_cancel(ring, OTHER, CANCEL));
	if (ends == 0)
		assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_non_null(await_end(OTHER));
	turn();
	pair_close(&a, true);
	pair_close(&b, true);
}

/* ---- the waker ---------------------------------------------------------------------------- */

/* Nobody reads the waker: its poll fires at each write, and one that is armed after a write fires at once. */
static void waker_fires_each_time(void **state)
{
	int waker = waker_create();
	int from;

	(void)state;
	assert_true(waker >= 0);
	assert_true(ring_poll_arm(ring, waker, RECV_A));
	turn();
	assert_int_equal(count_of(RECV_A), 0);
	for (int i = 0; i < 5; i++) {
		from = seen_count;
		waker_wake(waker);
		assert_non_null(await_from(from, RECV_A));
	}
	from = seen_count;
	assert_true(ring_poll_arm(ring, waker, RECV_B));
	assert_non_null(await_from(from, RECV_B));
	assert_true(ring_cancel(ring, RECV_A, CANCEL));
	assert_true(ring_cancel(ring, RECV_B, CANCEL));
	assert_non_null(await_end(RECV_A));
	assert_non_null(await_end(RECV_B));
	close(waker);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, ring_begin, ring_finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(cancel_ends_a_receive),
		CASE(cancel_finds_what_is_queued_before_it),
		CASE(cancel_of_nothing),
		CASE(cancel_loses_no_bytes),
		CASE(close_alone_does_not_end_a_receive),
		CASE(descriptor_is_used_again),
		CASE(second_close_is_refused),
		CASE(cancel_and_close_in_one_batch),
		CASE(close_with_unread_input_is_a_reset),
		CASE(disconnect_ends_what_is_armed),
		CASE(end_of_stream_has_no_buffer),
		CASE(data_and_end_together),
		CASE(no_buffers),
		CASE(waker_fires_each_time),
	};
	char why[256];
	int status = ring_probe(&features, why);

	if (status < 0) {
		print_message("skipped: %s\n", why);
		return status == -EPERM ? 77 : 1;
	}
	print_message("%s", features.text);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
