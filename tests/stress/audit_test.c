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

static int story_begin(struct story *story)
{
	const struct audit_options options = {.entry_count = 64, .lane_count = LANES};

	return audit_create(&options, &story->audit);
}

static int story_setup(void **state)
{
	struct story *story = calloc(1, sizeof(*story));

	if (story == NULL || story_begin(story) < 0)
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

/* ---- raw streams ---- */

/* Both ends are open; nobody knows yet that they belong together. */
static void story_open_raw(struct story *story)
{
	uint64_t *id;

	story->dialled = audit_dial(story->audit, TAG, &id);
	*id = DIALLED_ID;
	audit_dial_done(story->audit, story->dialled);
	story->accepted = audit_accept(story->audit, ACCEPTED_ID, TAG);
	audit_on_open_raw(story->audit, story->accepted, ACCEPTED_ID, TAG, true);
	audit_on_open_raw(story->audit, story->dialled, DIALLED_ID, TAG, false);
}

#define STREAM_MESSAGES 4u
#define STREAM_BYTES_MAX 512u

/* Messages 0, 1, … of the dialled end, one behind the other, of several sizes: no whole words, too. */
static size_t stream_write(const struct story *story, uint8_t stream[STREAM_BYTES_MAX])
{
	static const uint32_t bytes[STREAM_MESSAGES] = {64, MESSAGE_HEAD_BYTES, 99, 41};
	uint8_t type[16];
	size_t at = 0;

	for (uint32_t i = 0; i < STREAM_MESSAGES; i++) {
		const struct message_head head = {
			.sender = story->dialled, .sequence = i, .bytes = bytes[i]};

		message_write(&head, stream + at, type);
		at += bytes[i];
	}
	return at;
}

static void stream_receive(struct story *story, const uint8_t *data, size_t bytes)
{
	audit_on_data(story->audit, story->accepted, ACCEPTED_ID, NULL, data, bytes);
}

static struct ph_receipt receipt_of(uint64_t id, uint32_t reason, enum ph_side side)
{
	return (struct ph_receipt){.id = id,
		.tag = TAG,
		.reason = reason,
		.side = (uint8_t)side,
		.was_open = 1,
		.accepted = id == ACCEPTED_ID,
		.messages_received = 1000,
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

static void raw_story_tell(size_t span)
{
	struct story story = {.audit = NULL};
	uint8_t stream[STREAM_BYTES_MAX];
	size_t bytes;
	struct audit_counts counts;

	assert_int_equal(story_begin(&story), 0);
	story_open_raw(&story);
	bytes = stream_write(&story, stream);
	for (uint32_t i = 0; i < STREAM_MESSAGES; i++)
		story_send(&story, story.dialled, 0);
	for (size_t at = 0; at < bytes; at += span)
		stream_receive(&story, stream + at, at + span < bytes ? span : bytes - at);
	story_close(&story, story.dialled, PH_GRACEFUL, 0);
	story_end(&story);
	audit_counts(story.audit, &counts);
	assert_int_equal(counts.violations, 0);
	assert_int_equal(counts.raw_opened, 2);
	assert_int_equal(counts.messages_raw, STREAM_MESSAGES);
	assert_int_equal(counts.raw_pairs, 1);
	assert_int_equal(counts.graceful_proved, 1);
	audit_destroy(story.audit);
}

/* Wherever a stream is cut, its messages are found, and the first tells who sends it. */
static void audit_good_raw_story(void **state)
{
	(void)state;
	for (size_t span = 1; span < STREAM_BYTES_MAX; span++)
		raw_story_tell(span);
}

/* How many messages are found before something is wrong. */
static uint32_t stream_count(const uint8_t *stream, size_t bytes)
{
	struct message_stream reader = {.at = 0};
	struct message_head head;
	uint32_t count = 0;
	size_t used;

	while (message_stream_read(&reader, stream, bytes, &used, &head) > 0) {
		stream += used;
		bytes -= used;
		count++;
	}
	return count;
}

/* Every byte of a stream counts, of heads and of what is behind them. */
static void audit_finds_every_damaged_byte(void **state)
{
	struct story *story = *state;
	uint8_t stream[STREAM_BYTES_MAX];
	size_t bytes;

	story_open_raw(story);
	bytes = stream_write(story, stream);
	assert_int_equal(stream_count(stream, bytes), STREAM_MESSAGES);
	for (size_t at = 0; at < bytes; at++) {
		stream[at] ^= 0x10;
		assert_true(stream_count(stream, bytes) < STREAM_MESSAGES);
		stream[at] ^= 0x10;
	}
	stream[70] ^= 1;
	stream_receive(story, stream, bytes);
	assert_int_equal(violations(story->audit), 1);
	stream_receive(story, stream, bytes); /* told once: what follows means nothing */
	assert_int_equal(violations(story->audit), 1);
}

/* A raw stream whose last message did not arrive whole, though it was closed gracefully. */
static void audit_finds_cut_stream(void **state)
{
	struct story *story = *state;
	uint8_t stream[STREAM_BYTES_MAX];
	size_t bytes;

	story_open_raw(story);
	bytes = stream_write(story, stream);
	for (uint32_t i = 0; i < STREAM_MESSAGES; i++)
		story_send(story, story->dialled, 0);
	stream_receive(story, stream, bytes - 1);
	assert_int_equal(violations(story->audit), 0);
	story_close(story, story->dialled, PH_GRACEFUL, 0);
	story_end(story);
	assert_int_equal(violations(story->audit), 2); /* told of both ends */
}

/* Bytes that were meant for another connection. */
static void audit_finds_stream_of_another(void **state)
{
	struct story *story = *state;
	uint8_t stream[STREAM_BYTES_MAX];
	size_t bytes;
	uint64_t third;

	story_open_raw(story);
	third = audit_accept(story->audit, ACCEPTED_ID + 1, TAG);
	audit_on_open_raw(story->audit, third, ACCEPTED_ID + 1, TAG, true);
	bytes = stream_write(story, stream);
	for (uint32_t i = 0; i < STREAM_MESSAGES; i++)
		story_send(story, story->dialled, 0);
	stream_receive(story, stream, bytes);
	assert_int_equal(violations(story->audit), 0);
	audit_on_data(story->audit, third, ACCEPTED_ID + 1, NULL, stream, bytes);
	assert_int_equal(violations(story->audit), 1);
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
		STORY(audit_good_raw_story),
		STORY(audit_finds_every_damaged_byte),
		STORY(audit_finds_cut_stream),
		STORY(audit_finds_stream_of_another),
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
