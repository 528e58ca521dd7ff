/*
 * The kernel's ring hands over all that is ready in one enter, not the 20 things that newer kernels do
 * at a time: the turns of a shard with thousands of busy connections are long.
 */
#include "engine/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS 200u
#define ENTERS_MAX 3u /* one is enough; a kernel may put off a little */

/* 200 armed receives, data on every one of them, then one look: they are all there. */
static void ring_enter_brings_all(void **state)
{
	const struct ring_options options = {.submit_entries = 1024,
		.complete_entries = 4096,
		.file_count = 16,
		.buffer_count = 512,
		.buffer_bytes = 64};
	int pairs[STREAMS][2];
	struct ring_features features;
	struct ring_completion completion;
	struct ring *ring;
	uint32_t seen = 0;
	char why[256];

	(void)state;
	if (ring_probe(&features, why) < 0)
		skip(); /* io_uring is refused here, or too old: why says which */
	assert_int_equal(ring_create(&options, &ring), 0);
	for (uint32_t i = 0; i < STREAMS; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]), 0);
		assert_true(ring_recv_arm(ring, pairs[i][0], false, i));
	}
	assert_int_equal(ring_enter(ring, RING_NO_WAIT, 0), 0);
	assert_false(ring_next(ring, &completion));
	for (uint32_t i = 0; i < STREAMS; i++)
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
	for (uint32_t enter = 0; enter < ENTERS_MAX; enter++) {
		assert_int_equal(ring_enter(ring, RING_NO_WAIT, 0), 0);
		while (ring_next(ring, &completion)) {
			assert_int_equal(completion.result, 1);
			ring_buffer_put(ring, (uint32_t)completion.buffer);
			seen++;
		}
	}
	assert_int_equal(seen, STREAMS);
	ring_destroy(ring);
	for (uint32_t i = 0; i < STREAMS; i++) {
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring_enter_brings_all),
	};

	return cmocka_run_group_tests_name("ring_batch", tests, NULL, NULL);
}
