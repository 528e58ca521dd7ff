/*
 * The slot word between any two instructions: a step of one thread is run an instruction at a time by the
 * processor's trap flag, and at the n-th of them another thread's step is made in full, for every n. So
 * each compare-and-swap that can lose does lose, in every run and on one core.
 *
 * Only where the processor has that flag and the sanitizer in use lets a trap be taken at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/slot.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define STEP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STEP_TSAN 1
#endif
#endif

#if defined(__x86_64__) && !defined(STEP_TSAN)

#define TAG 7
#define STEPS_MAX 20000u /* an instrumented step takes some hundred */

static struct slot slot;
static uint32_t generation;
static volatile sig_atomic_t step_now, step_at;
static void (*volatile other)(void);

static void on_trap(int number)
{
	(void)number;
	if (++step_now == step_at)
		other();
}

static inline void steps_begin(void)
{
	__asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

static inline void steps_end(void)
{
	__asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
}

static uint64_t word_of(void)
{
	return atomic_load(&slot.word);
}

/* ---- what one does, and what the other does in between --------------------------------------------- */

static bool answered; /* by the stepped call */

static void do_unpin(void)
{
	answered = slot_unpin(&slot);
}

static void do_end(void)
{
	answered = slot_end(&slot);
}

static void do_become_open(void)
{
	answered = slot_become_open(&slot);
}

static void do_free(void)
{
	answered = slot_free(&slot);
}

static void do_send_enter(void)
{
	answered = slot_send_enter(&slot, generation, TAG);
}

static void do_send_leave(void)
{
	answered = slot_send_leave(&slot);
}

static void do_pin(void)
{
	answered = slot_pin(&slot, generation);
}

static void do_close(void)
{
	answered = slot_close(&slot, generation, TAG, false) != SLOT_NOT_FOUND;
}

static void other_closes(void)
{
	(void)slot_close(&slot, generation, TAG, false);
}

static void other_aborts(void)
{
	(void)slot_close(&slot, generation, TAG, true);
}

static void other_pins(void)
{
	(void)slot_pin(&slot, generation);
}

/* ---- every place ------------------------------------------------------------------------------------ */

enum begin {
	OPENING,
	OPEN,
	PINNED,
	CLOSED_QUIET, /* gracefully, and the mail was taken: may be freed */
};

static void begin_at(enum begin begin)
{
	memset(&slot, 0, sizeof(slot));
	generation = slot_open(&slot, TAG, 0, false);
	if (begin != OPENING)
		assert_true(slot_become_open(&slot));
	if (begin == PINNED)
		assert_true(slot_pin(&slot, generation));
	if (begin == CLOSED_QUIET) {
		assert_int_equal(slot_close(&slot, generation, TAG, false), SLOT_PUSH);
		(void)slot_take_mail(&slot);
	}
}

/* Both orders and all that lies between: judged after each. Some place must have been in between, that is
 * neither before the call began nor after it had decided. */
static void every_place(
	enum begin begin, void (*mine)(void), void (*theirs)(void), void (*judge)(void))
{
	uint32_t at;

	other = theirs;
	for (at = 1; at < STEPS_MAX; at++) {
		begin_at(begin);
		step_now = 0;
		step_at = (sig_atomic_t)at;
		steps_begin();
		mine();
		steps_end();
		if (step_now < step_at)
			break; /* the call has fewer instructions than that */
		judge();
	}
	assert_true(at > 10);
	assert_true(at < STEPS_MAX);
}

static void judge_unpin_or_close(void)
{
	assert_int_equal(slot_word_senders(word_of()), 0);
	assert_true(word_of() & SLOT_CLOSE);
	/* The mail is under way, posted by one of them. */
	assert_true(word_of() & SLOT_MAILED);
}

static void pin_leaves_while_a_close_comes(void **state)
{
	(void)state;
	every_place(PINNED, do_unpin, other_closes, judge_unpin_or_close);
}

static void judge_end_or_close(void)
{
	assert_true(answered == (slot_word_state(word_of()) == SLOT_ENDING));
	assert_true(answered != ((word_of() & SLOT_CLOSE) != 0));
}

static void owner_ends_while_a_close_comes(void **state)
{
	(void)state;
	every_place(OPEN, do_end, other_closes, judge_end_or_close);
}

static void judge_end_and_pin(void)
{
	assert_true(answered);
	assert_int_equal(slot_word_state(word_of()), SLOT_ENDING);
	assert_true(slot_word_senders(word_of()) <= 1);
}

static void owner_ends_while_a_pin_comes(void **state)
{
	(void)state;
	every_place(OPEN, do_end, other_pins, judge_end_and_pin);
}

static void judge_open_or_close(void)
{
	assert_true(word_of() & SLOT_CLOSE);
	assert_true(answered == (slot_word_state(word_of()) == SLOT_OPEN));
}

static void it_opens_while_a_close_comes(void **state)
{
	(void)state;
	every_place(OPENING, do_become_open, other_closes, judge_open_or_close);
}

static void judge_free_or_abort(void)
{
	if (answered) {
		assert_int_equal(slot_word_state(word_of()), SLOT_FREE);
		assert_int_equal(slot_word_generation(word_of()), generation + 1);
		return;
	}
	assert_int_equal(slot_word_generation(word_of()), generation);
	assert_true(word_of() & SLOT_UPGRADED_BIT);
	assert_true(word_of() & SLOT_MAILED);
}

static void it_is_freed_while_an_abort_comes(void **state)
{
	(void)state;
	every_place(CLOSED_QUIET, do_free, other_aborts, judge_free_or_abort);
}

static void judge_enter_or_close(void)
{
	assert_true(word_of() & SLOT_CLOSE);
	assert_int_equal(slot_word_senders(word_of()), answered ? 1 : 0);
}

static void somebody_enters_while_a_close_comes(void **state)
{
	(void)state;
	every_place(OPEN, do_send_enter, other_closes, judge_enter_or_close);
	every_place(OPEN, do_pin, other_closes, judge_enter_or_close);
}

static void judge_leave_and_close(void)
{
	assert_int_equal(slot_word_senders(word_of()), 0);
	assert_true(word_of() & SLOT_MAILED);
}

static void a_sender_leaves_while_a_close_comes(void **state)
{
	(void)state;
	every_place(PINNED, do_send_leave, other_closes, judge_leave_and_close);
}

static void judge_close_and_abort(void)
{
	/* Whoever was first, the reset is wanted; and both never win. */
	assert_true(word_of() & SLOT_ABORT);
	assert_true(answered == ((word_of() & SLOT_UPGRADED_BIT) != 0));
}

static void a_close_meets_an_abort(void **state)
{
	(void)state;
	every_place(OPEN, do_close, other_aborts, judge_close_and_abort);
}

int main(void)
{
	const struct sigaction action = {.sa_handler = on_trap};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pin_leaves_while_a_close_comes),
		cmocka_unit_test(owner_ends_while_a_close_comes),
		cmocka_unit_test(owner_ends_while_a_pin_comes),
		cmocka_unit_test(it_opens_while_a_close_comes),
		cmocka_unit_test(it_is_freed_while_an_abort_comes),
		cmocka_unit_test(somebody_enters_while_a_close_comes),
		cmocka_unit_test(a_sender_leaves_while_a_close_comes),
		cmocka_unit_test(a_close_meets_an_abort),
	};

	if (sigaction(SIGTRAP, &action, NULL) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	printf("skipped: no trap flag, or a sanitizer that puts traps off\n");
	return 77;
}

#endif
