/*
 * The ends that a hub remembers: order, bounds, and strangers beside members.
 */
#include "hub/ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/log.h"

enum {
	ROOM = 512,
	FLOOD = 20000,
	STRANGERS_KEPT = 256
};

struct seen {
	uint64_t numbers[2 * ROOM];
	size_t count, members, strangers, stop_at;
};

static void member_end(uint64_t id)
{
	struct ph_receipt receipt = {
		.id = id, .accepted = 1, .was_open = 1, .handshake_done = 1, .reason = 4000};

	ends_on_end(NULL, &receipt, "group", "member");
}

static void stranger_end(uint64_t id)
{
	struct ph_receipt receipt = {
		.id = id, .accepted = 1, .reason = PH_REASON_LIMIT_ACCEPT_RATE};

	ends_on_end(NULL, &receipt, "", "");
}

static bool see(const struct end *end, void *context)
{
	struct seen *seen = context;

	assert_true(seen->count < 2 * ROOM);
	assert_true(end->number > 0);
	if (seen->count > 0)
		assert_true(end->number < seen->numbers[seen->count - 1]);
	seen->numbers[seen->count++] = end->number;
	if (end->receipt.was_open) {
		assert_string_equal(end->group, "group");
		assert_string_equal(end->identity, "member");
		seen->members++;
	} else {
		assert_string_equal(end->identity, "");
		seen->strangers++;
	}
	return seen->count != seen->stop_at;
}

static int begin(void **state)
{
	(void)state;
	/* Nothing of this test is to be read. */
	log_level_set(CONFIG_LOG_ERROR);
	return ends_begin(ROOM);
}

static int end(void **state)
{
	(void)state;
	ends_end();
	return 0;
}

/* Newest first over both kinds, and no further than the visitor wants. */
static void ends_come_newest_first(void **state)
{
	struct seen seen = {0}, some = {.stop_at = 3};

	(void)state;
	assert_int_equal(ends_each(see, &seen), 0);
	for (uint64_t id = 1; id <= 20; id++) {
		member_end(id);
		stranger_end(id);
		if (id % 3 == 0)
			member_end(id);
	}
	assert_int_equal(ends_each(see, &seen), 46);
	assert_int_equal(seen.numbers[0], 46);
	assert_int_equal(seen.numbers[45], 1);
	assert_int_equal(ends_each(see, &some), 3);
	assert_int_equal(ends_total(), 46);
}

/* A flood of those who prove nothing takes no member's end away, and is bounded. */
static void ends_of_members_outlive_a_flood(void **state)
{
	struct seen seen = {0};

	(void)state;
	for (uint64_t id = 1; id <= 10; id++)
		member_end(id);
	for (uint64_t id = 1; id <= FLOOD; id++)
		stranger_end(id);
	assert_int_equal(ends_each(see, &seen), 10 + STRANGERS_KEPT);
	assert_int_equal(seen.members, 10);
	assert_int_equal(seen.numbers[0], 10 + FLOOD);
	assert_int_equal(seen.numbers[9 + STRANGERS_KEPT], 1);
	assert_int_equal(ends_total(), 10 + FLOOD);
}

static void ends_of_members_make_room(void **state)
{
	struct seen seen = {0};

	(void)state;
	stranger_end(1);
	for (uint64_t id = 1; id <= 3 * ROOM; id++)
		member_end(id);
	assert_int_equal(ends_each(see, &seen), ROOM + 1);
	assert_int_equal(seen.strangers, 1);
	assert_int_equal(seen.numbers[ROOM - 1], 2 * ROOM + 2);
}

/* What strangers use up of the lines of a second is their own. */
static void ends_of_members_are_logged_in_a_flood(void **state)
{
	unsigned lines = 0;

	(void)state;
	log_level_set(CONFIG_LOG_INFO);
	for (int i = 0; i < 1000; i++)
		lines += log_stranger_may(1000);
	assert_int_equal(lines, 10);
	for (int i = 0; i < 1000; i++)
		lines += log_end_may(1500);
	assert_int_equal(lines, 110);
	assert_true(log_stranger_may(2000));
	assert_int_equal(log_left_out(), 1890);
	log_level_set(CONFIG_LOG_ERROR);
	assert_false(log_end_may(3000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ends_come_newest_first, begin, end),
		cmocka_unit_test_setup_teardown(ends_of_members_outlive_a_flood, begin, end),
		cmocka_unit_test_setup_teardown(ends_of_members_make_room, begin, end),
		cmocka_unit_test(ends_of_members_are_logged_in_a_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
