/*
 * The audit of stress/ must find what it promises to find: each test tells it a story of events and
 * calls, good or with one thing wrong, and looks at the number of violations. (What it writes to
 * stderr about them is part of the game.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stress/audit.h"
#include "stress/message.h"

#include <errno.h>
#include <stdlib.h>

#define LANES 2u
#define TAG 5u
#define DIALLED_ID 0x100000001u
#define ACCEPTED_ID 0x100000002u

/* Two ends of one connection. */
struct story {
	struct audit *audit;
	uint64_t dialled, accepted; /* serials */
};

static uint64_t violations(struct audit *audit)
{
	struct audit_counts counts;

	audit_counts(audit, &counts);
	return counts.violations;
}

static int story_setup(void **state)
{
	const struct audit_options options = {.entry_count = 64, .lane_count = LANES};
	struct story *story = calloc(1, sizeof(*story));

	if (story == NULL || audit_create(&options, &story->audit) < 0)
		return -1;
	*state = story;
	return 0;
}

static int story_teardown(void **state)
{
	struct story *story = *state;

	audit_destroy(story->audit);
	free(story);
	return 0;
}

static void story_open(struct story *story)
{
	uint64_t *id;

	story->dialled = audit_dial(story->audit, TAG, &id);
	assert_int_not_equal(story->dialled, 0);
	*id = DIALLED_ID;
	audit_dial_done(story->audit, story->dialled);
	story->accepted = audit_accept(story->audit, ACCEPTED_ID, TAG);
	assert_int_not_equal(story->accepted, 0);
	audit_on_connect(story->audit, story->accepted, ACCEPTED_ID, story->dialled);
	audit_on_open(story->audit, story->accepted, ACCEPTED_ID, TAG, true);
	audit_on_open(story->audit, story->dialled, DIALLED_ID, TAG, false);
}

static void story_close(struct story *story, uint64_t serial, enum ph_how how, int result)
{
	struct audit_ref ref;

	assert_true(audit_enter(story->audit, serial, &ref));
	audit_close_result(story->audit, &ref, how, 1001, result, now_ns());
	audit_leave(story->audit, &ref);
}

static void story_send(struct story *story, uint64_t serial, int result)
{
	struct audit_ref ref;

	assert_true(audit_enter(story->audit, serial, &ref));
	(void)audit_send_begin(story->audit, &ref, 0);
	audit_send_result(story->audit, &ref, 0, 64, result, now_ns());
	audit_leave(story->audit, &ref);
}

/* The accepted end gets message `sequence` of the dialled end. */
static void story_receive(struct story *story, uint32_t sequence, bool is_damaged)
{
	const struct message_head head = {
		.sender = story->dialled, .sequence = sequence, .bytes = 64};
	uint8_t payload[64], type[16];

	message_write(&head, payload, type);
	if (is_damaged)
		payload[60] ^= 1;
	audit_on_data(story->audit, story->accepted, ACCEPTED_ID, type, payload, sizeof(payload));
}

static struct ph_receipt receipt_of(uint64_t id, uint32_t reason, enum ph_side side)
{
	return (struct ph_receipt){.id = id,
		.tag = TAG,
		.reason = reason,
		.side = (uint8_t)side,
		.was_open = 1,
		.accepted = id == ACCEPTED_ID,
		.messages_received = 100,
		.time_open_ns = 1,
		.time_close_ns = 2,
		.time_end_ns = 3};
}

/* The dialled end closes gracefully, the accepted one sees it. */
static void story_end(struct story *story)
{
	struct ph_receipt dialled = receipt_of(DIALLED_ID, 1001, PH_SIDE_LOCAL);
	struct ph_receipt accepted =
		receipt_of(ACCEPTED_ID, PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE);

	audit_on_closed(story->audit, story->accepted, ACCEPTED_ID, &accepted);
	audit_on_closed(story->audit, story->dialled, DIALLED_ID, &dialled);
	audit_finish(story->audit);
}

/* A life without fault: no finding, and the graceful close counts as proved. */
static void audit_good_story(void **state)
{
	struct story *story = *state;
	struct audit_counts counts;

	story_open(story);
	story_send(story, story->dialled, 0);
	story_send(story, story->dialled, -EAGAIN);
	story_send(story, story->dialled, 0);
	story_receive(story, 0, false);
	story_receive(story, 1, false);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_close(story, story->dialled, PH_GRACEFUL, -ENOENT);
	story_end(story);
	story_close(story, story->dialled, PH_ABORT, -ENOENT);
	audit_counts(story->audit, &counts);
	assert_int_equal(counts.violations, 0);
	assert_int_equal(counts.pairs, 1);
	assert_int_equal(counts.graceful_proved, 1);
	assert_int_equal(counts.stale_calls, 1);
	assert_int_equal(audit_live(story->audit), 0);
}

static void audit_finds_second_win(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_second_final(void **state)
{
	struct ph_receipt receipt = receipt_of(DIALLED_ID, 1001, PH_SIDE_LOCAL);
	struct story *story = *state;

	story_open(story);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_end(story);
	assert_int_equal(violations(story->audit), 0);
	audit_on_closed(story->audit, story->dialled, DIALLED_ID, &receipt);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_data_after_final(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_send(story, story->dialled, 0);
	story_receive(story, 0, false);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_end(story);
	story_receive(story, 1, false);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_missing_final(void **state)
{
	struct story *story = *state;

	story_open(story);
	audit_finish(story->audit);
	assert_int_equal(violations(story->audit), 2); /* both ends */
}

static void audit_finds_lost_message(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_send(story, story->dialled, 0);
	story_send(story, story->dialled, 0);
	story_receive(story, 0, false);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_end(story);
	assert_int_equal(violations(story->audit), 2); /* told of both ends */
}

static void audit_finds_order(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_receive(story, 1, false);
	assert_int_equal(violations(story->audit), 1);
	story_receive(story, 0, false);
	story_receive(story, 0, false);
	assert_int_equal(violations(story->audit), 2);
}

static void audit_finds_damage(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_receive(story, 0, true);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_send_after_close(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_send(story, story->dialled, 0);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_live_answer_of_dead_id(void **state)
{
	struct story *story = *state;

	story_open(story);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_end(story);
	story_send(story, story->dialled, -EAGAIN);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_wrong_reason(void **state)
{
	struct ph_receipt dialled = receipt_of(DIALLED_ID, PH_REASON_REMOTE_CLOSE, PH_SIDE_REMOTE);
	struct ph_receipt accepted =
		receipt_of(ACCEPTED_ID, PH_REASON_REMOTE_RESET, PH_SIDE_REMOTE);
	struct story *story = *state;

	story_open(story);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	audit_on_closed(story->audit, story->dialled, DIALLED_ID, &dialled);
	audit_on_closed(story->audit, story->accepted, ACCEPTED_ID, &accepted);
	audit_finish(story->audit);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_repeated_id(void **state)
{
	struct story *story = *state;

	story_open(story);
	(void)audit_accept(story->audit, ACCEPTED_ID, TAG);
	assert_int_equal(violations(story->audit), 1);
}

static void audit_finds_stranger(void **state)
{
	struct ph_receipt receipt = receipt_of(0x77, 1001, PH_SIDE_LOCAL);
	struct story *story = *state;

	audit_on_closed(story->audit, 12345, 0x77, &receipt);
	assert_int_equal(violations(story->audit), 1);
}

/* The ring comes round many times: old entries make place, nothing is found that is not there. */
static void audit_ring_comes_round(void **state)
{
	struct story *story = *state;
	struct audit *audit = story->audit;

	for (uint32_t i = 0; i < 1000; i++) {
		uint64_t id_here = 0x200000000u + i, *id;
		struct ph_receipt receipt = {.id = id_here,
			.tag = TAG,
			.reason = PH_REASON_TRANSPORT_CONNECT,
			.side = PH_SIDE_ENGINE,
			.failure = PH_FAILURE_CONNECT,
			.time_end_ns = 1};
		uint64_t serial = audit_dial(audit, TAG, &id);

		assert_int_not_equal(serial, 0);
		*id = id_here;
		audit_on_closed(audit, serial, id_here, &receipt);
		audit_dial_done(audit, serial);
		audit_tick(audit);
	}
	audit_finish(audit);
	assert_int_equal(violations(audit), 0);
	assert_int_equal(audit_live(audit), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define STORY(name) cmocka_unit_test_setup_teardown(name, story_setup, story_teardown)
		STORY(audit_good_story),
		STORY(audit_finds_second_win),
		STORY(audit_finds_second_final),
		STORY(audit_finds_data_after_final),
		STORY(audit_finds_missing_final),
		STORY(audit_finds_lost_message),
		STORY(audit_finds_order),
		STORY(audit_finds_damage),
		STORY(audit_finds_send_after_close),
		STORY(audit_finds_live_answer_of_dead_id),
		STORY(audit_finds_wrong_reason),
		STORY(audit_finds_repeated_id),
		STORY(audit_finds_stranger),
		STORY(audit_ring_comes_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
