/*
 * The mailbox: mail in the order of its arrival, sleeping only when it is empty, and no wake-up lost with
 * several producers at once. The owner here waits on the real waker (an eventfd), so a lost wake-up shows
 * as a wait that ends by its limit with mail in the box.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/mailbox.h"
#include "engine/ring.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct letter {
	struct ck_stack_entry link; /* first */
	uint32_t producer;
	uint32_t number;
};

static struct mailbox mailbox;

static int mailbox_begin(void **state)
{
	int waker = waker_create();

	(void)state;
	assert_true(waker >= 0);
	mailbox_init(&mailbox, waker);
	return 0;
}

static int mailbox_end(void **state)
{
	(void)state;
	close(mailbox.waker);
	return 0;
}

static bool waker_has_fired(void)
{
	struct pollfd waker = {.fd = mailbox.waker, .events = POLLIN};
	uint64_t count;

	if (poll(&waker, 1, 0) != 1)
		return false;
	assert_int_equal(read(mailbox.waker, &count, sizeof(count)), sizeof(count));
	return true;
}

static void mail_comes_in_order(void **state)
{
	struct letter letters[6];

	(void)state;
	assert_null(mailbox_take(&mailbox));
	assert_false(mailbox_has_mail(&mailbox));
	for (int i = 0; i < 4; i++)
		mailbox_post(&mailbox, &letters[i].link);
	assert_true(mailbox_has_mail(&mailbox));
	assert_ptr_equal(mailbox_take(&mailbox), &letters[0].link);
	assert_ptr_equal(mailbox_take(&mailbox), &letters[1].link);
	/* What comes meanwhile waits behind what was taken. */
	mailbox_post(&mailbox, &letters[4].link);
	mailbox_post(&mailbox, &letters[0].link); /* taken, so it may be posted again */
	assert_ptr_equal(mailbox_take(&mailbox), &letters[2].link);
	assert_ptr_equal(mailbox_take(&mailbox), &letters[3].link);
	assert_ptr_equal(mailbox_take(&mailbox), &letters[4].link);
	assert_true(mailbox_has_mail(&mailbox));
	assert_ptr_equal(mailbox_take(&mailbox), &letters[0].link);
	assert_false(mailbox_has_mail(&mailbox));
	assert_null(mailbox_take(&mailbox));
	assert_false(waker_has_fired());
	assert_int_equal(atomic_load(&mailbox.wakes), 0);
}

static void sleeping_only_when_empty(void **state)
{
	struct letter letters[3];

	(void)state;
	mailbox_post(&mailbox, &letters[0].link);
	assert_false(mailbox_sleep(&mailbox)); /* in the stack */
	assert_false(atomic_load(&mailbox.sleeping));
	mailbox_post(&mailbox, &letters[1].link);
	assert_ptr_equal(mailbox_take(&mailbox), &letters[0].link);
	assert_false(mailbox_sleep(&mailbox)); /* taken and not handled */
	assert_ptr_equal(mailbox_take(&mailbox), &letters[1].link);
	assert_true(mailbox_sleep(&mailbox));
	assert_true(atomic_load(&mailbox.sleeping));
	/* The first poster wakes, the others need not. */
	mailbox_post(&mailbox, &letters[0].link);
	mailbox_post(&mailbox, &letters[1].link);
	assert_int_equal(atomic_load(&mailbox.wakes), 1);
	assert_true(waker_has_fired());
	assert_false(atomic_load(&mailbox.sleeping));
	mailbox_awake(&mailbox);
	assert_ptr_equal(mailbox_take(&mailbox), &letters[0].link);
	assert_ptr_equal(mailbox_take(&mailbox), &letters[1].link);
	/* Awake by itself: nobody writes. */
	assert_true(mailbox_sleep(&mailbox));
	mailbox_awake(&mailbox);
	mailbox_post(&mailbox, &letters[2].link);
	assert_int_equal(atomic_load(&mailbox.wakes), 1);
	assert_false(waker_has_fired());
}

/* ---- many producers -------------------------------------------------------------------------- */

#define PRODUCERS 4u
#define LETTERS 4000u
#define WAIT_MS 60000

static struct letter all[PRODUCERS][LETTERS];
static atomic_uint begun;

static void *producer_main(void *context)
{
	uint32_t producer = (uint32_t)(uintptr_t)context;

	atomic_fetch_add(&begun, 1);
	while (atomic_load(&begun) < PRODUCERS)
		sched_yield();
	for (uint32_t i = 0; i < LETTERS; i++) {
		mailbox_post(&mailbox, &all[producer][i].link);
		/* Some alone, some in bursts, so that the owner sleeps often. */
		if (i % 8 == producer)
			sched_yield();
	}
	return NULL;
}

static void no_wake_up_is_lost(void **state)
{
	uint32_t next[PRODUCERS] = {0}, seen = 0, waits = 0;
	pthread_t threads[PRODUCERS];

	(void)state;
	for (uintptr_t producer = 0; producer < PRODUCERS; producer++) {
		for (uint32_t i = 0; i < LETTERS; i++) {
			all[producer][i].producer = (uint32_t)producer;
			all[producer][i].number = i;
		}
		assert_int_equal(
			pthread_create(&threads[producer], NULL, producer_main, (void *)producer),
			0);
	}
	while (seen < PRODUCERS * LETTERS) {
		struct ck_stack_entry *link = mailbox_take(&mailbox);
		struct letter *letter = (struct letter *)(void *)link;

		if (link != NULL) {
			/* Those of one producer come in his order. */
			assert_int_equal(letter->number, next[letter->producer]);
			next[letter->producer]++;
			seen++;
			continue;
		}
		if (mailbox_sleep(&mailbox)) {
			struct pollfd waker = {.fd = mailbox.waker, .events = POLLIN};
			uint64_t count;

			waits++;
			if (poll(&waker, 1, WAIT_MS) != 1)
				fail_msg("asleep with %u of %u letters seen, mail in the box: %d",
					seen, PRODUCERS * LETTERS, mailbox_has_mail(&mailbox));
			assert_int_equal(read(mailbox.waker, &count, sizeof(count)), sizeof(count));
			mailbox_awake(&mailbox);
		}
	}
	for (uint32_t producer = 0; producer < PRODUCERS; producer++)
		pthread_join(threads[producer], NULL);
	print_message(
		"%u letters, %u waits, %lu wakes\n", seen, waits, atomic_load(&mailbox.wakes));
	/* A poster may still wake an owner that has just found its mail and does not wait: the next wait then
	 * ends for nothing. So there are as many wakes as waits, or some more. */
	assert_true(atomic_load(&mailbox.wakes) >= waits);
	assert_false(mailbox_has_mail(&mailbox));
}

/* ---- two posters at once ---------------------------------------------------------------------- */

#define ROUNDS 20000u
#define ROUNDS_MS 500u

static _Atomic uint32_t round_begun, round_done;
static struct letter pair[2];

static void *poster_main(void *context)
{
	uint32_t mine = (uint32_t)(uintptr_t)context;

	for (uint32_t round = 1;; round++) {
		uint32_t now;

		while ((now = atomic_load(&round_begun)) < round)
			;
		if (now == UINT32_MAX)
			return NULL;
		mailbox_post(&mailbox, &pair[mine].link);
		atomic_fetch_add(&round_done, 1);
	}
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Both see the owner asleep; one of them wakes it, once. */
static void two_posters_wake_once(void **state)
{
	uint64_t until = now_ms() + ROUNDS_MS;
	pthread_t threads[2];
	uint32_t round = 0;

	(void)state;
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, poster_main, (void *)i), 0);
	while (round < ROUNDS && now_ms() < until) {
		uint64_t count;

		round++;
		assert_true(mailbox_sleep(&mailbox));
		atomic_store(&round_begun, round);
		while (atomic_load(&round_done) < 2 * round)
			sched_yield();
		assert_int_equal(read(mailbox.waker, &count, sizeof(count)), sizeof(count));
		assert_int_equal(count, 1);
		mailbox_awake(&mailbox);
		assert_non_null(mailbox_take(&mailbox));
		assert_non_null(mailbox_take(&mailbox));
		assert_null(mailbox_take(&mailbox));
	}
	atomic_store(&round_begun, UINT32_MAX);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&mailbox.wakes), round);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, mailbox_begin, mailbox_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(mail_comes_in_order),
		CASE(sleeping_only_when_empty),
		CASE(no_wake_up_is_lost),
		CASE(two_posters_wake_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
