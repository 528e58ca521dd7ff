/*
 * A link's turns: what a hub asked for is kept, waits are drawn, and the next place comes after a failure.
 */
#include "hub/link.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/asked.h"
#include "hub/loop.h"
#include "hub/say.h"

#define FIRST "127.0.0.1:4001"
#define SECOND "[::1]:4002"

/* Of node.c, which this test is without: nobody is there yet. */
char *node_neighbor(struct node *node, const PEER_ADDRESS *address, bool exactly)
{
	(void)node;
	(void)address;
	(void)exactly;
	return NULL;
}

static void fails(struct link *link, uint64_t now_ms)
{
	PEER_EVENT_CONNECTION_CHANGE_DATA change = {.status = PEER_CONNECTION_FAILED,
		.hrConnectionFailedReason = PEER_E_CONNECTION_REFUSED};

	link->state = LINK_OPENING;
	assert_false(link_on_change(link, &change, now_ms));
}

static void begin(struct link *link, bool two)
{
	assert_int_equal(link_init(link, "a", FIRST), 0);
	if (two)
		assert_int_equal(link_add(link, "b", SECOND), 0);
	link->give_up_ms = LOOP_NEVER;
	link->keep = true;
}

/* As the end callback hears it; a moment long ago asks for nothing any more. */
static void asked_is_of_an_address(void **state)
{
	struct ph_receipt receipt = {.peer_retry_after_ms = 60000};
	uint64_t now_ms = loop_now_ms();
	struct link link;

	(void)state;
	begin(&link, true);
	receipt.peer_address = link.places[0].address.sin6;
	receipt.accepted = 1; /* who dialled us asks for nothing */
	asked_on_end(NULL, &receipt, "", "");
	assert_int_equal(asked_until_ms(&receipt.peer_address, now_ms), 0);
	receipt.accepted = 0;
	asked_on_end(NULL, &receipt, "", "");
	assert_true(asked_until_ms(&receipt.peer_address, now_ms) >= now_ms + 60000);
	assert_int_equal(asked_until_ms(&link.places[1].address.sin6, now_ms), 0);
	assert_int_equal(asked_until_ms(&receipt.peer_address, now_ms + 1000000), 0);
	asked_put(&receipt.peer_address, 0, 0);
	link_fini(&link);
}

static void link_keeps_what_was_asked(void **state)
{
	uint64_t now_ms = 1000000, first_ms = 0;
	unsigned different = 0;
	struct link link;

	(void)state;
	for (int i = 0; i < 50; i++, now_ms += 100000) {
		begin(&link, false);
		asked_put(&link.address.sin6, now_ms, 30000);
		fails(&link, now_ms);
		assert_int_equal(link.state, LINK_DOWN);
		assert_in_range(link.retry_at_ms - now_ms, 30250, 30500);
		different += i > 0 && link.retry_at_ms - now_ms != first_ms;
		first_ms = link.retry_at_ms - now_ms;
		/* Nothing is dialled before; the other end is not there for who gives up earlier. */
		assert_int_equal(link_step(&link, NULL, link.retry_at_ms - 1), link.retry_at_ms);
		link.give_up_ms = now_ms + 30000;
		fails(&link, now_ms);
		assert_int_equal(link.state, LINK_DEAD);
		link_fini(&link);
	}
	assert_true(different > 10);
}

static void link_goes_elsewhere(void **state)
{
	uint64_t now_ms = 90000000;
	struct link link;

	(void)state;
	begin(&link, true);
	assert_string_equal(link.identity, "a");
	asked_put(&link.address.sin6, now_ms, 30000);
	fails(&link, now_ms);
	assert_string_equal(link.address_text, SECOND);
	assert_string_equal(link.identity, "b");
	assert_in_range(link.retry_at_ms - now_ms, 250, 500);
	/* The other one fails too, and asks for nothing: the first still waits. */
	fails(&link, now_ms);
	assert_string_equal(link.address_text, SECOND);
	assert_in_range(link.retry_at_ms - now_ms, 500, 1000);
	/* Both ask: the first to be free has its turn, and not before. */
	asked_put(&link.address.sin6, now_ms, 60000);
	fails(&link, now_ms);
	assert_string_equal(link.address_text, FIRST);
	assert_in_range(link.retry_at_ms - now_ms, 31000, 32000);
	/* Nobody asks any more: they take turns, also on the way online. */
	now_ms += 100000;
	fails(&link, now_ms);
	assert_string_equal(link.address_text, SECOND);
	assert_in_range(link_online_failed(&link, now_ms) - now_ms, 250, 500);
	assert_string_equal(link.address_text, FIRST);
	link_fini(&link);
}

static void link_refuses_what_is_no_address(void **state)
{
	struct link link;

	(void)state;
	assert_int_equal(link_init(&link, NULL, "nowhere"), -EINVAL);
	link_fini(&link);
	begin(&link, false);
	while (link.place_count < LINK_PLACES_MAX)
		assert_int_equal(link_add(&link, NULL, SECOND), 0);
	assert_int_equal(link_add(&link, NULL, SECOND), -ENOSPC);
	link_fini(&link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(asked_is_of_an_address),
		cmocka_unit_test(link_keeps_what_was_asked),
		cmocka_unit_test(link_goes_elsewhere),
		cmocka_unit_test(link_refuses_what_is_no_address),
	};

	say_begin("link_test", true);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
