/*
 * A ring does what ring.h offers and nothing else: the kernel refuses every other operation, flag and
 * registration on it, whoever asks. The test reaches past ring.h for that: struct io_uring is what struct
 * ring begins with.
 */
#include "engine/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct ring *ring_of_test(bool direct)
{
	const struct ring_options options = {.submit_entries = 128,
		.complete_entries = 256,
		.file_count = 16,
		.buffer_count = 512,
		.buffer_bytes = 64,
		.direct = direct};
	struct ring_features features;
	struct ring *ring;
	char why[256];

	if (ring_probe(&features, why) < 0)
		skip(); /* io_uring is refused here, or too old: why says which */
	if (strstr(features.text, "restricted_rings yes") == NULL)
		skip(); /* a sandbox that does not let restrictions pass */
	if (direct && !features.direct)
		skip();
	assert_int_equal(ring_create(&options, &ring), 0);
	return ring;
}

static int complete_one(struct ring *ring)
{
	struct ring_completion completion;

	assert_int_equal(ring_enter(ring, 1, 60000000000u), 0);
	assert_true(ring_next(ring, &completion));
	return completion.result;
}

static void ring_refuses_operations(void **state)
{
	struct ring *ring = ring_of_test(*state != NULL);
	struct io_uring *uring = (struct io_uring *)ring;

	for (unsigned opcode = 0; opcode < IORING_OP_LAST; opcode++) {
		struct io_uring_sqe *sqe;

		switch (opcode) {
		case IORING_OP_NOP:
		case IORING_OP_POLL_ADD:
		case IORING_OP_ACCEPT:
		case IORING_OP_SOCKET:
		case IORING_OP_URING_CMD:
		case IORING_OP_CONNECT:
		case IORING_OP_RECV:
		case IORING_OP_SEND:
		case IORING_OP_SENDMSG:
		case IORING_OP_ASYNC_CANCEL:
		case IORING_OP_SHUTDOWN:
		case IORING_OP_CLOSE:
			continue;
		default:
			break;
		}
		sqe = io_uring_get_sqe(uring);
		io_uring_prep_rw(opcode, sqe, -1, NULL, 0, 0);
		sqe->user_data = opcode;
		assert_int_equal(complete_one(ring), -EACCES);
	}
	ring_destroy(ring);
}

static void ring_refuses_flags(void **state)
{
	struct ring *ring = ring_of_test(*state != NULL);
	struct io_uring_sqe *sqe = io_uring_get_sqe((struct io_uring *)ring);

	io_uring_prep_poll_add(sqe, 0, POLLIN);
	sqe->flags |= IOSQE_ASYNC;
	assert_int_equal(complete_one(ring), -EACCES);
	ring_destroy(ring);
}

static void ring_refuses_registrations(void **state)
{
	struct ring *ring = ring_of_test(*state != NULL);
	struct io_uring *uring = (struct io_uring *)ring;
	char space[16];
	struct iovec vector = {space, sizeof(space)};
	int file = 0;

	assert_int_equal(io_uring_register_buffers(uring, &vector, 1), -EACCES);
	assert_int_equal(io_uring_register_files(uring, &file, 1), -EACCES);
	assert_int_equal(io_uring_register_personality(uring), -EACCES);
	for (unsigned call = 0; call < IORING_REGISTER_LAST; call++)
		if (call != IORING_UNREGISTER_RING_FDS)
			assert_int_equal(io_uring_register((unsigned)uring->ring_fd, call, NULL, 0),
				-EACCES);
	ring_destroy(ring);
}

static void ring_does_the_rest(void **state)
{
	struct ring *ring = ring_of_test(*state != NULL);
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_true(ring_poll_arm(ring, pair[0], 7));
	assert_true(complete_one(ring) > 0);
	assert_true(ring_socket(ring, AF_INET6, 8));
	assert_true(complete_one(ring) >= 0);
	close(pair[0]);
	close(pair[1]);
	ring_destroy(ring);
}

int main(void)
{
	static bool direct = true;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(ring_refuses_operations, NULL),
		cmocka_unit_test_prestate(ring_refuses_operations, &direct),
		cmocka_unit_test_prestate(ring_refuses_flags, NULL),
		cmocka_unit_test_prestate(ring_refuses_registrations, &direct),
		cmocka_unit_test_prestate(ring_does_the_rest, NULL),
		cmocka_unit_test_prestate(ring_does_the_rest, &direct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
