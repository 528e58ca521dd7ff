/*
 * Homes: taken, given back, found by id; what happens without memory, without a waker, and when all of a
 * process are taken. On the scripted seam, for wakers and memory that fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/home.h"
#include "tests/fake/memory_script.h"
#include "tests/fake/ring_script.h"

#include <errno.h>
#include <stdlib.h>

static void home_life(void **state)
{
	struct home *first = NULL, *second = NULL, *again = NULL;
	uint64_t id;

	(void)state;
	assert_null(home_of(slot_id(0, 0, 1)));
	/* A waker, the slots, the free queue: what fails leaves nothing taken, and the next try works. */
	script_set_waker_status(-EMFILE);
	assert_int_equal(home_take(4, &first), -EMFILE);
	script_set_waker_status(0);
	for (uint64_t nth = 1; nth <= 2; nth++) {
		int64_t live = memory_script_live();

		memory_script_fail(nth, false);
		assert_int_equal(home_take(4, &first), -ENOMEM);
		assert_int_equal(memory_script_live(), live);
		assert_null(home_of(slot_id(0, 0, 1)));
	}
	memory_script_fail(0, false);
	assert_int_equal(home_take(4, &first), 0);
	assert_int_equal(first->index, 0);
	assert_ptr_equal(home_of(slot_id(0, 3, 1)), first);
	assert_null(home_of(slot_id(0, 4, 1))); /* no such slot */
	assert_null(home_of(slot_id(1, 0, 1))); /* no such home */
	assert_null(home_of(UINT64_MAX));
	assert_int_equal(home_take(2, &second), 0);
	assert_int_equal(second->index, 1);
	assert_true(second->mailbox.waker != first->mailbox.waker);
	/* Given back, it is still found: an id of it is only not open. */
	id = slot_id(0, 1, 1);
	home_give_back(first);
	assert_ptr_equal(home_of(id), first);
	/* Taken again where it is large enough; the generations go on. */
	atomic_store(&first->table.slots[1].word, 5ull << SLOT_GENERATION_SHIFT);
	home_give_back(second);
	assert_int_equal(home_take(3, &again), 0);
	assert_ptr_equal(again, first);
	assert_int_equal(slot_word_generation(atomic_load(&again->table.slots[1].word)), 5);
	assert_int_equal(home_take(2, &again), 0);
	assert_ptr_equal(again, second);
}

static void homes_run_out(void **state)
{
	struct home *home = NULL, *last = NULL;
	uint32_t count = 0;
	int status;

	(void)state;
	while ((status = home_take(1, &home)) == 0) {
		last = home;
		count++;
	}
	assert_int_equal(status, -EAGAIN);
	assert_int_equal(count, SLOT_HOMES_MAX - 2); /* two are taken by the case before */
	assert_int_equal(last->index, SLOT_HOMES_MAX - 1);
	assert_ptr_equal(home_of(slot_id(SLOT_HOMES_MAX - 1, 0, 1)), last);
	home_give_back(last);
	assert_int_equal(home_take(1, &home), 0);
	assert_ptr_equal(home, last);
	home_give_back(last);
	assert_int_equal(home_take(2, &home), -EAGAIN); /* the free one is too small */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(home_life),
		cmocka_unit_test(homes_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
