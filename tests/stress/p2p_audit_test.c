/*
 * The audit of p2p spins: stories of calls and events, good or with one thing wrong, and the number of
 * violations at their end. What a good story may look like was learned from stories that the spinner
 * took for bad ones. (What the audit writes to stderr is part of the game.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stress/message.h"
#include "stress/p2p_audit.h"

#include <stdlib.h>
#include <string.h>

#define VALUE ((HGROUP)(uintptr_t)0x100000000000001ull)
#define SENDER_ID 0x100000001ull
#define RECEIVER_ID 0x101000001ull
#define TYPE_BIT(name) (1u << PEER_GROUP_EVENT_##name)

/* Node 0 dialled node 1 of its group; the library is started. */
struct story {
	struct p2p_world world;
	struct p2p_audit *audit;
	struct random random;
	struct p2p_registration *registration; /* at node 1 */
};

static int story_setup(void **state)
{
	struct story *story = calloc(1, sizeof(*story));

	if (story == NULL || p2p_audit_create(&story->world, false, &story->audit) < 0)
		return -1;
	random_init(&story->random, 1, 1);
	for (uint32_t i = 0; i < P2P_NODES; i++) {
		story->world.nodes[i].number = i;
		story->world.nodes[i].group = i / P2P_IDENTITIES;
	}
	atomic_store(&story->world.low, 1);
	atomic_store(&story->world.high, 1);
	p2p_link_opened(story->audit, &story->world.nodes[0], SENDER_ID, 1);
	story->registration = &story->audit->registrations[0];
	story->registration->node = &story->world.nodes[1];
	story->registration->generation = 1;
	story->registration->tick = 1;
	*state = story;
	return 0;
}

static int story_teardown(void **state)
{
	struct story *story = *state;

	p2p_audit_destroy(story->audit);
	free(story);
	return 0;
}

static uint64_t violations(struct story *story)
{
	struct p2p_counts counts;

	p2p_counts(story->audit, &counts);
	return counts.violations;
}

/* ---- calls and handles ---- */

static struct p2p_handle *handle_make(struct story *story)
{
	struct p2p_handle *handle = p2p_handle_begin(story->audit, &story->world.nodes[0]);

	assert_non_null(handle);
	p2p_handle_end(story->audit, handle, VALUE);
	return handle;
}

static void call_refused(struct story *story, struct p2p_handle *handle)
{
	struct p2p_before before;

	p2p_call_begin(story->audit, P2P_CALL_PeerGroupGetStatus, handle, &before);
	assert_false(p2p_call_end(story->audit, &before, PEER_E_INVALID_GROUP, NULL));
}

/* A good handle that is refused is a finding; one that somebody begins to close meanwhile is none. */
static void p2p_audit_finds_refused_handle(void **state)
{
	struct story *story = *state;
	struct p2p_handle *handle = handle_make(story);

	call_refused(story, handle);
	assert_int_equal(violations(story), 1);
	atomic_fetch_add(&handle->ends_begun, 1);
	call_refused(story, handle);
	assert_int_equal(violations(story), 1);
}

/* Whoever made a handle goes on using it while another thread closes it: until he lets go, its place is
 * no other handle's, or his next call is made on that one, with no value yet. */
static void p2p_audit_handle_keeps_its_place(void **state)
{
	struct story *story = *state;
	struct p2p_handle *made = handle_make(story);
	struct p2p_handle *picked = p2p_handle_pick(story->audit, &story->random, false);
	struct p2p_handle *next;
	uint32_t count = 0;

	assert_ptr_equal(picked, made);
	p2p_handle_forget(story->audit, picked); /* closed */
	p2p_handle_put(story->audit, picked);
	while ((next = p2p_handle_begin(story->audit, &story->world.nodes[3])) != NULL) {
		assert_ptr_not_equal(next, made);
		count++;
	}
	assert_int_equal(count, P2P_HANDLES - 1);
	assert_ptr_equal(made->value, VALUE);
	assert_ptr_equal(made->node, &story->world.nodes[0]);
	p2p_handle_put(story->audit, made);
	assert_ptr_equal(p2p_handle_begin(story->audit, &story->world.nodes[3]), made);
}

/* What failed holds no place. */
static void p2p_audit_handle_that_failed(void **state)
{
	struct story *story = *state;

	for (uint32_t i = 0; i < 2 * P2P_HANDLES; i++) {
		struct p2p_handle *handle = p2p_handle_begin(story->audit, &story->world.nodes[0]);

		assert_non_null(handle);
		p2p_handle_end(story->audit, handle, NULL);
	}
	assert_int_equal(p2p_handles_live(story->audit), 0);
}

/* ---- events ---- */

static void event_take(struct story *story, const PEER_GROUP_EVENT_DATA *event)
{
	pthread_mutex_lock(&story->registration->lock);
	p2p_event(story->audit, story->registration, event);
	pthread_mutex_unlock(&story->registration->lock);
}

static void connection_event(
	struct story *story, PEER_GROUP_EVENT_TYPE type, PEER_CONNECTION_STATUS status)
{
	const PEER_GROUP_EVENT_DATA event = {.eventType = type,
		.connectionChangeData = {.dwSize = sizeof(event.connectionChangeData),
			.status = status,
			.ullConnectionId = RECEIVER_ID}};

	event_take(story, &event);
}

/* The next number of lane 0; it is in the test's hands that lane 0 is what comes. */
static void message_send(struct story *story)
{
	struct p2p_send send = {.lane = 1};

	while (send.lane != 0)
		if (p2p_send_begin(
			    story->audit, &story->world.nodes[0], SENDER_ID, &story->random, &send))
			p2p_send_end(story->audit, &send, send.lane == 0);
}

static void message_receive(struct story *story, uint32_t sequence)
{
	const struct message_head head = {.sender = SENDER_ID, .sequence = sequence, .bytes = 64};
	uint8_t payload[64], type[16];
	PEER_GROUP_EVENT_DATA event = {.eventType = PEER_GROUP_EVENT_INCOMING_DATA};

	message_write(&head, payload, type);
	event.incomingData.ullConnectionId = RECEIVER_ID;
	memcpy(&event.incomingData.type, type, sizeof(type));
	event.incomingData.data.cbData = sizeof(payload);
	event.incomingData.data.pbData = payload;
	event_take(story, &event);
}

static void messages_send(struct story *story, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		message_send(story);
}

/* Whoever is told of connections misses nothing that comes on them. */
static void p2p_audit_finds_missing_message(void **state)
{
	struct story *story = *state;

	story->registration->types = TYPE_BIT(DIRECT_CONNECTION) | TYPE_BIT(INCOMING_DATA);
	connection_event(story, PEER_GROUP_EVENT_DIRECT_CONNECTION, PEER_CONNECTED);
	messages_send(story, 3);
	message_receive(story, 0);
	assert_int_equal(violations(story), 0);
	message_receive(story, 2);
	assert_int_equal(violations(story), 1);
}

/* Data comes to a node as long as somebody there is registered for connections. A registration for data
 * alone does not hear what comes while nobody is; but nothing twice, and nothing late. */
static void p2p_audit_allows_a_gap_to_data_alone(void **state)
{
	struct story *story = *state;

	story->registration->types = TYPE_BIT(INCOMING_DATA);
	messages_send(story, 4);
	message_receive(story, 0);
	message_receive(story, 2);
	message_receive(story, 3);
	assert_int_equal(violations(story), 0);
	message_receive(story, 3);
	assert_int_equal(violations(story), 1);
	message_receive(story, 1);
	assert_int_equal(violations(story), 2);
}

static void p2p_audit_finds_data_after_the_end(void **state)
{
	struct story *story = *state;

	story->registration->types = TYPE_BIT(DIRECT_CONNECTION) | TYPE_BIT(INCOMING_DATA);
	messages_send(story, 1);
	connection_event(story, PEER_GROUP_EVENT_DIRECT_CONNECTION, PEER_CONNECTED);
	connection_event(story, PEER_GROUP_EVENT_DIRECT_CONNECTION, PEER_DISCONNECTED);
	assert_int_equal(violations(story), 0);
	message_receive(story, 0);
	assert_int_equal(violations(story), 1);
}

/* ---- closes ---- */

static void close_won(struct story *story)
{
	bool must_fail = p2p_close_begin(story->audit, &story->world.nodes[1], RECEIVER_ID);

	p2p_close_end(story->audit, RECEIVER_ID, true, must_fail);
}

static void p2p_audit_finds_second_win(void **state)
{
	struct story *story = *state;

	story->registration->types = TYPE_BIT(DIRECT_CONNECTION);
	connection_event(story, PEER_GROUP_EVENT_DIRECT_CONNECTION, PEER_CONNECTED);
	close_won(story);
	assert_int_equal(violations(story), 0);
	close_won(story);
	assert_int_equal(violations(story), 1);
}

/* PeerGroupCloseDirectConnection is for direct connections: a neighbor stays. */
static void p2p_audit_finds_closed_neighbor(void **state)
{
	struct story *story = *state;

	story->registration->types = TYPE_BIT(NEIGHBOR_CONNECTION);
	connection_event(story, PEER_GROUP_EVENT_NEIGHBOR_CONNECTION, PEER_CONNECTED);
	close_won(story);
	assert_int_equal(violations(story), 1);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, story_setup, story_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(p2p_audit_finds_refused_handle),
		STORY(p2p_audit_handle_keeps_its_place),
		STORY(p2p_audit_handle_that_failed),
		STORY(p2p_audit_finds_missing_message),
		STORY(p2p_audit_allows_a_gap_to_data_alone),
		STORY(p2p_audit_finds_data_after_the_end),
		STORY(p2p_audit_finds_second_win),
		STORY(p2p_audit_finds_closed_neighbor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
