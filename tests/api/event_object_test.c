/*
 * Event objects and waits, as documented for Windows. Where a test needs a waiter that surely waits it
 * uses a registered wait, which is armed when RegisterWaitForSingleObject returns; so nothing here
 * depends on how fast a thread is. `--seed N` repeats the random run.
 */
#include "api/event_object.h"

#include "api/handle.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "failing.h"

static uint64_t seed;

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static HANDLE auto_event(void)
{
	HANDLE event = CreateEventW(NULL, FALSE, FALSE, NULL);

	assert_non_null(event);
	return event;
}

static HANDLE manual_event(void)
{
	HANDLE event = CreateEventW(NULL, TRUE, FALSE, NULL);

	assert_non_null(event);
	return event;
}

static bool is_readable(HANDLE event)
{
	struct pollfd poller = {.events = POLLIN};

	assert_int_equal(PeerhubEventDescriptor(event, &poller.fd), S_OK);
	return poll(&poller, 1, 0) == 1 && (poller.revents & POLLIN) != 0;
}

/* Wait for a counter that other threads move. ctest ends a test that waits for ever. */
static void await(atomic_uint *counter, unsigned value)
{
	while (atomic_load(counter) < value)
		usleep(100);
}

/* ---- events ----------------------------------------------------------------------------- */

/* Two sets of an unwaited auto-reset event are one signal. */
static void event_auto_reset(void **state)
{
	HANDLE event = auto_event();

	(void)state;
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_TIMEOUT);
	assert_true(SetEvent(event));
	assert_true(SetEvent(event));
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_OBJECT_0);
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_TIMEOUT);
	assert_true(SetEvent(event));
	assert_true(ResetEvent(event));
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_TIMEOUT);
	assert_true(CloseHandle(event));
}

static void event_manual_reset(void **state)
{
	HANDLE event = manual_event();

	(void)state;
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_TIMEOUT);
	assert_true(SetEvent(event));
	for (int round = 0; round < 3; round++)
		assert_int_equal(WaitForSingleObject(event, INFINITE), WAIT_OBJECT_0);
	assert_true(ResetEvent(event));
	assert_true(ResetEvent(event));
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_TIMEOUT);
	assert_true(CloseHandle(event));
}

static void event_initially_signalled(void **state)
{
	HANDLE event = CreateEventW(NULL, FALSE, TRUE, NULL);

	(void)state;
	assert_int_equal(GetLastError(), ERROR_SUCCESS);
	assert_true(is_readable(event));
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_OBJECT_0);
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_TIMEOUT);
	assert_true(CloseHandle(event));
	event = CreateEvent(NULL, TRUE, TRUE, NULL);
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_OBJECT_0);
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_OBJECT_0);
	assert_true(CloseHandle(event));
}

static void event_named_is_not_supported(void **state)
{
	(void)state;
	assert_null(CreateEventW(NULL, FALSE, FALSE, u"name"));
	assert_int_equal(GetLastError(), ERROR_NOT_SUPPORTED);
}

/* NULL, closed, wrong kind, never a handle: each function says ERROR_INVALID_HANDLE. */
static void event_bad_handles(void **state)
{
	HANDLE closed = auto_event();
	HANDLE handles[] = {NULL, closed, INVALID_HANDLE_VALUE, &closed, (HANDLE)1};
	HANDLE wait;
	int fd;

	(void)state;
	assert_true(CloseHandle(closed));
	for (size_t index = 0; index < sizeof(handles) / sizeof(handles[0]); index++) {
		HANDLE bad = handles[index];

		SetLastError(0);
		assert_false(SetEvent(bad));
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		SetLastError(0);
		assert_false(ResetEvent(bad));
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		SetLastError(0);
		assert_false(CloseHandle(bad));
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		SetLastError(0);
		assert_int_equal(WaitForSingleObject(bad, INFINITE), WAIT_FAILED);
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		SetLastError(0);
		assert_false(UnregisterWaitEx(bad, INVALID_HANDLE_VALUE));
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		SetLastError(0);
		assert_false(UnregisterWait(bad));
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		wait = bad;
		assert_false(RegisterWaitForSingleObject(
			&wait, bad, (WAITORTIMERCALLBACK)(void (*)(void))abort, NULL, INFINITE, 0));
		assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
		assert_null(wait);
		assert_int_equal(PeerhubEventDescriptor(bad, &fd), E_HANDLE);
		assert_int_equal(fd, -1);
		assert_null(event_object_get(bad));
	}
}

static void event_out_of_descriptors(void **state)
{
	struct rlimit before, none;
	HANDLE event;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	event = CreateEventW(NULL, FALSE, FALSE, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_null(event);
	assert_int_equal(GetLastError(), ERROR_TOO_MANY_OPEN_FILES);
}

/* The descriptor is readable exactly while the event is signalled, whoever takes the signal. */
static void event_descriptor(void **state)
{
	HANDLE event = auto_event();
	HANDLE manual = manual_event();

	(void)state;
	assert_int_equal(PeerhubEventDescriptor(event, NULL), E_INVALIDARG);
	assert_false(is_readable(event));
	SetEvent(event);
	SetEvent(event);
	assert_true(is_readable(event));
	assert_int_equal(WaitForSingleObject(event, INFINITE), WAIT_OBJECT_0);
	assert_false(is_readable(event));
	SetEvent(event);
	ResetEvent(event);
	assert_false(is_readable(event));
	SetEvent(manual);
	assert_int_equal(WaitForSingleObject(manual, 0), WAIT_OBJECT_0);
	assert_true(is_readable(manual));
	ResetEvent(manual);
	assert_false(is_readable(manual));
	assert_true(CloseHandle(event));
	assert_true(CloseHandle(manual));
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A time-out is never early. */
static void event_wait_times_out(void **state)
{
	HANDLE event = auto_event();
	uint64_t begin = now_ms();

	(void)state;
	assert_int_equal(WaitForSingleObject(event, 30), WAIT_TIMEOUT);
	assert_true(now_ms() - begin >= 29);
	SetEvent(event);
	assert_int_equal(WaitForSingleObject(event, 1000000), WAIT_OBJECT_0);
	assert_true(CloseHandle(event));
}

/* ---- several at once -------------------------------------------------------------------- */

/* The first signalled one in the array releases the wait, and only that one is taken. */
static void event_wait_for_any(void **state)
{
	HANDLE events[3] = {auto_event(), auto_event(), auto_event()};

	(void)state;
	SetEvent(events[2]);
	SetEvent(events[1]);
	assert_int_equal(WaitForMultipleObjects(3, events, FALSE, INFINITE), WAIT_OBJECT_0 + 1);
	assert_int_equal(WaitForMultipleObjects(3, events, FALSE, INFINITE), WAIT_OBJECT_0 + 2);
	assert_int_equal(WaitForMultipleObjects(3, events, FALSE, 0), WAIT_TIMEOUT);
	for (int index = 0; index < 3; index++)
		assert_true(CloseHandle(events[index]));
}

/* All or none: what is signalled stays so until the last one is. */
static void event_wait_for_all(void **state)
{
	HANDLE events[3] = {auto_event(), manual_event(), auto_event()};

	(void)state;
	SetEvent(events[0]);
	SetEvent(events[1]);
	assert_int_equal(WaitForMultipleObjects(3, events, TRUE, 0), WAIT_TIMEOUT);
	assert_int_equal(WaitForMultipleObjects(3, events, TRUE, 5), WAIT_TIMEOUT);
	assert_true(is_readable(events[0]));
	SetEvent(events[2]);
	assert_int_equal(WaitForMultipleObjects(3, events, TRUE, INFINITE), WAIT_OBJECT_0);
	assert_false(is_readable(events[0]));
	assert_true(is_readable(events[1]));
	assert_false(is_readable(events[2]));
	for (int index = 0; index < 3; index++)
		assert_true(CloseHandle(events[index]));
}

static void event_wait_for_the_most(void **state)
{
	HANDLE events[MAXIMUM_WAIT_OBJECTS + 1];

	(void)state;
	for (int index = 0; index <= MAXIMUM_WAIT_OBJECTS; index++)
		events[index] = auto_event();
	SetEvent(events[MAXIMUM_WAIT_OBJECTS - 1]);
	assert_int_equal(WaitForMultipleObjects(MAXIMUM_WAIT_OBJECTS, events, FALSE, INFINITE),
		WAIT_OBJECT_0 + MAXIMUM_WAIT_OBJECTS - 1);
	assert_int_equal(
		WaitForMultipleObjects(MAXIMUM_WAIT_OBJECTS + 1, events, FALSE, 0), WAIT_FAILED);
	assert_int_equal(GetLastError(), ERROR_INVALID_PARAMETER);
	for (int index = 0; index <= MAXIMUM_WAIT_OBJECTS; index++)
		assert_true(CloseHandle(events[index]));
}

static void event_wait_bad_arguments(void **state)
{
	HANDLE events[3] = {auto_event(), NULL, NULL};

	(void)state;
	assert_int_equal(WaitForMultipleObjects(0, events, FALSE, 0), WAIT_FAILED);
	assert_int_equal(GetLastError(), ERROR_INVALID_PARAMETER);
	assert_int_equal(WaitForMultipleObjects(1, NULL, FALSE, 0), WAIT_FAILED);
	assert_int_equal(GetLastError(), ERROR_INVALID_PARAMETER);
	SetEvent(events[0]);
	assert_int_equal(WaitForMultipleObjects(2, events, FALSE, 0), WAIT_FAILED);
	assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
	assert_true(is_readable(events[0])); /* a failed wait takes nothing */
	/* The same event twice: not for all, but for any. */
	events[1] = events[0];
	assert_int_equal(WaitForMultipleObjects(2, events, TRUE, 0), WAIT_FAILED);
	assert_int_equal(GetLastError(), ERROR_INVALID_PARAMETER);
	assert_int_equal(WaitForMultipleObjects(2, events, FALSE, 0), WAIT_OBJECT_0);
	assert_int_equal(WaitForMultipleObjects(2, events, FALSE, 1), WAIT_TIMEOUT);
	assert_true(CloseHandle(events[0]));
}

struct sleeper {
	HANDLE events[3];
	DWORD count;
	BOOL is_all;
	atomic_uint *released;
	DWORD result;
};

static void *sleep_for(void *context)
{
	struct sleeper *sleeper = context;

	sleeper->result =
		WaitForMultipleObjects(sleeper->count, sleeper->events, sleeper->is_all, INFINITE);
	atomic_fetch_add(sleeper->released, 1);
	return NULL;
}

#define SLEEPERS 4

/* Each set of an auto-reset event releases one of the threads that wait, never two. */
static void event_auto_reset_releases_one(void **state)
{
	HANDLE event = auto_event();
	struct sleeper sleepers[SLEEPERS];
	pthread_t threads[SLEEPERS];
	atomic_uint released = 0;

	(void)state;
	for (int index = 0; index < SLEEPERS; index++) {
		sleepers[index] =
			(struct sleeper){.events = {event}, .count = 1, .released = &released};
		assert_int_equal(
			pthread_create(&threads[index], NULL, sleep_for, &sleepers[index]), 0);
	}
	for (unsigned set = 1; set <= SLEEPERS; set++) {
		SetEvent(event);
		await(&released, set);
		assert_int_equal(released, set);
	}
	for (int index = 0; index < SLEEPERS; index++) {
		assert_int_equal(pthread_join(threads[index], NULL), 0);
		assert_int_equal(sleepers[index].result, WAIT_OBJECT_0);
	}
	assert_false(is_readable(event));
	assert_true(CloseHandle(event));
}

static void event_manual_reset_releases_all(void **state)
{
	HANDLE event = manual_event();
	struct sleeper sleepers[SLEEPERS];
	pthread_t threads[SLEEPERS];
	atomic_uint released = 0;

	(void)state;
	for (int index = 0; index < SLEEPERS; index++) {
		sleepers[index] = (struct sleeper){
			.events = {event, event}, .count = 2, .released = &released};
		assert_int_equal(
			pthread_create(&threads[index], NULL, sleep_for, &sleepers[index]), 0);
	}
	SetEvent(event);
	for (int index = 0; index < SLEEPERS; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	assert_int_equal(released, SLEEPERS);
	assert_true(is_readable(event));
	assert_true(CloseHandle(event));
}

/* Threads that wait for all of crossed pairs: none holds one and waits for the other. */
static void event_wait_for_all_crossed(void **state)
{
	HANDLE left = auto_event(), right = auto_event();
	struct sleeper sleepers[2];
	pthread_t threads[2];
	atomic_uint released = 0;

	(void)state;
	sleepers[0] = (struct sleeper){{left, right}, 2, TRUE, &released, 0};
	sleepers[1] = (struct sleeper){{right, left}, 2, TRUE, &released, 0};
	for (int index = 0; index < 2; index++)
		assert_int_equal(
			pthread_create(&threads[index], NULL, sleep_for, &sleepers[index]), 0);
	for (unsigned round = 1; round <= 2; round++) {
		SetEvent(left);
		SetEvent(right);
		await(&released, round);
	}
	for (int index = 0; index < 2; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	assert_false(is_readable(left));
	assert_false(is_readable(right));
	assert_true(CloseHandle(left));
	assert_true(CloseHandle(right));
}

/* A reference keeps the object usable when the client closed its handle: the thread that waits on it
 * is still released by it. */
static void event_signal_after_close(void **state)
{
	HANDLE event = auto_event();
	struct event_object *object = event_object_get(event);
	struct sleeper sleeper;
	atomic_uint released = 0;
	pthread_t thread;
	uint32_t handles = handle_count(HANDLE_EVENT_OBJECT);

	(void)state;
	assert_non_null(object);
	sleeper = (struct sleeper){.events = {event}, .count = 1, .released = &released};
	event_object_signal(object);
	assert_int_equal(pthread_create(&thread, NULL, sleep_for, &sleeper), 0);
	await(&released, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sleeper.result, WAIT_OBJECT_0);
	assert_true(CloseHandle(event));
	event_object_signal(object);
	event_object_signal(object);
	assert_false(SetEvent(event));
	assert_int_equal(handle_count(HANDLE_EVENT_OBJECT), handles);
	event_object_put(object);
	assert_int_equal(handle_count(HANDLE_EVENT_OBJECT), handles - 1);
}

static void *last_error_of_a_new_thread(void *context)
{
	*(DWORD *)context = GetLastError();
	SetLastError(99);
	return NULL;
}

static void last_error_is_the_threads_own(void **state)
{
	pthread_t thread;
	DWORD other = 7;

	(void)state;
	SetLastError(ERROR_BUSY);
	assert_int_equal(pthread_create(&thread, NULL, last_error_of_a_new_thread, &other), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(other, 0);
	assert_int_equal(GetLastError(), ERROR_BUSY);
}

/* ---- registered waits ------------------------------------------------------------------- */

struct called {
	atomic_uint calls, timeouts, ended;
	atomic_uint running, running_max;
	HANDLE event; /* set by the callback, or waited for by it */
	HANDLE wait;
	atomic_uint result;
	atomic_uint error;
};

static void on_called(PVOID context, BOOLEAN is_timeout)
{
	struct called *called = context;

	if (is_timeout)
		atomic_fetch_add(&called->timeouts, 1);
	atomic_fetch_add(&called->calls, 1);
}

/* One callback for each signal that was taken; none is lost and none is made up. */
static void wait_calls_for_each_signal(void **state)
{
	HANDLE event = auto_event();
	struct called called = {0};
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called, &called, INFINITE, WT_EXECUTEDEFAULT));
	for (unsigned set = 1; set <= 200; set++) {
		assert_true(SetEvent(event));
		await(&called.calls, set);
	}
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_int_equal(called.calls, 200);
	assert_int_equal(called.timeouts, 0);
	assert_false(is_readable(event));
	/* Nothing is called any more, and the event is just an event. */
	SetEvent(event);
	assert_int_equal(WaitForSingleObject(event, 0), WAIT_OBJECT_0);
	assert_int_equal(called.calls, 200);
	assert_true(CloseHandle(event));
}

static void wait_registered_on_a_signalled_event(void **state)
{
	HANDLE event = CreateEventW(NULL, FALSE, TRUE, NULL);
	struct called called = {0};
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called, &called, INFINITE, WT_EXECUTEONLYONCE));
	await(&called.calls, 1);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_true(CloseHandle(event));
}

/* Set and reset at once: the waiter has its release, for it was handed over inside SetEvent. */
static void wait_released_by_a_short_signal(void **state)
{
	HANDLE event = manual_event();
	struct called called = {0};
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called, &called, INFINITE, WT_EXECUTEONLYONCE));
	SetEvent(event);
	ResetEvent(event);
	await(&called.calls, 1);
	SetEvent(event);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_int_equal(called.calls, 1); /* only once */
	assert_true(CloseHandle(event));
}

/* Two registered waits on one auto-reset event: two sets are two releases, one each. */
static void wait_each_set_releases_one(void **state)
{
	HANDLE event = auto_event();
	struct called first = {0}, second = {0};
	HANDLE waits[2];

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&waits[0], event, on_called, &first, INFINITE, WT_EXECUTEONLYONCE));
	assert_true(RegisterWaitForSingleObject(
		&waits[1], event, on_called, &second, INFINITE, WT_EXECUTEONLYONCE));
	SetEvent(event);
	SetEvent(event);
	await(&first.calls, 1);
	await(&second.calls, 1);
	assert_false(is_readable(event));
	SetEvent(event);
	assert_true(is_readable(event));
	for (int index = 0; index < 2; index++)
		assert_true(UnregisterWaitEx(waits[index], INVALID_HANDLE_VALUE));
	assert_int_equal(first.calls + second.calls, 2);
	assert_true(CloseHandle(event));
}

static void wait_times_out_again_and_again(void **state)
{
	HANDLE event = auto_event();
	struct called called = {0};
	struct called never = {0};
	HANDLE wait, other;

	(void)state;
	assert_true(RegisterWaitForSingleObject(&other, event, on_called, &never, 3600000, 0));
	assert_true(RegisterWaitForSingleObject(&wait, event, on_called, &called, 1, 0));
	await(&called.timeouts, 5);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_int_equal(called.calls, called.timeouts);
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called, &called, 0, WT_EXECUTEONLYONCE));
	await(&called.timeouts, 6);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_true(UnregisterWaitEx(other, INVALID_HANDLE_VALUE));
	assert_int_equal(never.calls, 0);
	assert_true(CloseHandle(event));
}

/* Many time-outs in random order: the earliest is always first out of the heap. */
static void wait_many_timeouts(void **state)
{
	HANDLE event = auto_event();
	static struct called called[100];
	HANDLE waits[100];
	uint64_t random = seed;

	(void)state;
	memset(called, 0, sizeof(called));
	for (int index = 0; index < 100; index++)
		assert_true(RegisterWaitForSingleObject(&waits[index], event, on_called,
			&called[index], 1 + random_next(&random) % 40, WT_EXECUTEONLYONCE));
	for (int index = 0; index < 50; index++)
		UnregisterWaitEx(waits[index * 2], INVALID_HANDLE_VALUE);
	for (int index = 0; index < 50; index++)
		await(&called[index * 2 + 1].timeouts, 1);
	for (int index = 0; index < 50; index++)
		assert_true(UnregisterWaitEx(waits[index * 2 + 1], INVALID_HANDLE_VALUE));
	for (int index = 0; index < 100; index++)
		assert_true(called[index].calls <= 1);
	assert_true(CloseHandle(event));
}

static void on_called_blocking(PVOID context, BOOLEAN is_timeout)
{
	struct called *called = context;
	unsigned running = atomic_fetch_add(&called->running, 1) + 1;
	unsigned max = atomic_load(&called->running_max);

	while (max < running && !atomic_compare_exchange_weak(&called->running_max, &max, running))
		;
	on_called(context, is_timeout);
	WaitForSingleObject(called->event, INFINITE);
	atomic_fetch_sub(&called->running, 1);
	atomic_fetch_add(&called->ended, 1);
}

/* A callback that does not come back holds up neither another wait nor its own. */
static void wait_slow_callback_blocks_nobody(void **state)
{
	HANDLE slow_event = auto_event(), fast_event = auto_event();
	struct called slow = {.event = manual_event()};
	struct called fast = {0};
	HANDLE slow_wait, fast_wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&slow_wait, slow_event, on_called_blocking, &slow, INFINITE, 0));
	assert_true(
		RegisterWaitForSingleObject(&fast_wait, fast_event, on_called, &fast, INFINITE, 0));
	SetEvent(slow_event);
	await(&slow.calls, 1);
	SetEvent(slow_event);
	await(&slow.calls, 2);
	assert_int_equal(slow.running_max, 2);
	for (unsigned set = 1; set <= 10; set++) {
		SetEvent(fast_event);
		await(&fast.calls, set);
	}
	assert_int_equal(slow.ended, 0);
	SetEvent(slow.event);
	assert_true(UnregisterWaitEx(slow_wait, INVALID_HANDLE_VALUE));
	assert_int_equal(slow.ended, 2); /* unregistering waited for both */
	assert_true(UnregisterWaitEx(fast_wait, INVALID_HANDLE_VALUE));
	assert_true(CloseHandle(slow.event));
	assert_true(CloseHandle(slow_event));
	assert_true(CloseHandle(fast_event));
}

/* WT_EXECUTEINWAITTHREAD: one after the other, and still none is lost. */
static void wait_in_wait_thread_is_serial(void **state)
{
	HANDLE event = auto_event();
	struct called called = {.event = auto_event()};
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called_blocking, &called, INFINITE, WT_EXECUTEINWAITTHREAD));
	SetEvent(event);
	await(&called.calls, 1);
	SetEvent(event); /* stays signalled: the wait is not armed now */
	assert_true(is_readable(event));
	SetEvent(called.event);
	await(&called.calls, 2);
	SetEvent(called.event);
	await(&called.ended, 2);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_int_equal(called.running_max, 1);
	assert_true(CloseHandle(event));
	assert_true(CloseHandle(called.event));
}

static void on_called_unregister(PVOID context, BOOLEAN is_timeout)
{
	struct called *called = context;

	SetLastError(0);
	atomic_store(
		&called->result, (unsigned)UnregisterWaitEx(called->wait, INVALID_HANDLE_VALUE));
	atomic_store(&called->error, GetLastError());
	on_called(context, is_timeout);
}

/* A callback that unregisters its own wait, waiting for all callbacks, would wait for itself: it is
 * told that one is pending, and the wait is over. */
static void wait_unregistered_in_its_callback(void **state)
{
	HANDLE event = auto_event();
	struct called called = {0};

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&called.wait, event, on_called_unregister, &called, INFINITE, 0));
	SetEvent(event);
	await(&called.calls, 1);
	assert_int_equal(called.result, FALSE);
	assert_int_equal(called.error, ERROR_IO_PENDING);
	assert_false(UnregisterWait(called.wait));
	assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
	SetEvent(event);
	assert_true(is_readable(event));
	assert_true(CloseHandle(event));
}

/* The three forms of unregistering while a callback runs. */
static void wait_unregistered_while_called(void **state)
{
	HANDLE event = auto_event();
	HANDLE done = auto_event();
	struct called called = {.event = auto_event()};
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called_blocking, &called, INFINITE, 0));
	SetEvent(event);
	await(&called.calls, 1);
	assert_false(UnregisterWait(wait));
	assert_int_equal(GetLastError(), ERROR_IO_PENDING);
	SetEvent(called.event);
	await(&called.ended, 1);

	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called_blocking, &called, INFINITE, 0));
	SetEvent(event);
	await(&called.calls, 2);
	assert_false(UnregisterWaitEx(wait, done));
	assert_int_equal(GetLastError(), ERROR_IO_PENDING);
	assert_int_equal(WaitForSingleObject(done, 0), WAIT_TIMEOUT);
	SetEvent(called.event);
	assert_int_equal(WaitForSingleObject(done, INFINITE), WAIT_OBJECT_0);
	assert_int_equal(called.ended, 2);

	/* Nothing runs: the completion event is set at once. */
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called_blocking, &called, INFINITE, 0));
	assert_true(UnregisterWaitEx(wait, done));
	assert_int_equal(WaitForSingleObject(done, 0), WAIT_OBJECT_0);

	/* A completion event that is none: refused, and the wait lives on. */
	assert_true(RegisterWaitForSingleObject(
		&wait, event, on_called, &called, INFINITE, WT_EXECUTEONLYONCE));
	assert_false(UnregisterWaitEx(wait, wait));
	assert_int_equal(GetLastError(), ERROR_INVALID_HANDLE);
	SetEvent(event);
	await(&called.calls, 3);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_true(CloseHandle(event));
	assert_true(CloseHandle(done));
	assert_true(CloseHandle(called.event));
}

/* The client may close the event before it unregisters the wait. */
static void wait_on_a_closed_event(void **state)
{
	HANDLE event = auto_event();
	struct called called = {0};
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(&wait, event, on_called, &called, INFINITE, 0));
	assert_true(CloseHandle(event));
	assert_false(SetEvent(event));
	assert_false(CloseHandle(wait)); /* a wait is no object to close */
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_int_equal(called.calls, 0);
}

static void wait_bad_arguments(void **state)
{
	HANDLE event = auto_event();
	HANDLE wait = event;

	(void)state;
	assert_false(RegisterWaitForSingleObject(NULL, event, on_called, NULL, INFINITE, 0));
	assert_int_equal(GetLastError(), ERROR_INVALID_PARAMETER);
	assert_false(RegisterWaitForSingleObject(&wait, event, NULL, NULL, INFINITE, 0));
	assert_int_equal(GetLastError(), ERROR_INVALID_PARAMETER);
	assert_null(wait);
	assert_true(CloseHandle(event));
}

#define WAITS_MAX 16384

static void wait_too_many(void **state)
{
	HANDLE *waits = calloc(WAITS_MAX, sizeof(HANDLE));
	HANDLE event = auto_event();
	HANDLE one_more;

	(void)state;
	assert_non_null(waits);
	for (int index = 0; index < WAITS_MAX; index++)
		if (!RegisterWaitForSingleObject(
			    &waits[index], event, on_called, NULL, INFINITE, 0))
			fail();
	assert_false(RegisterWaitForSingleObject(&one_more, event, on_called, NULL, INFINITE, 0));
	assert_int_equal(GetLastError(), ERROR_NOT_ENOUGH_MEMORY);
	for (int index = 0; index < WAITS_MAX; index++)
		if (!UnregisterWaitEx(waits[index], INVALID_HANDLE_VALUE))
			fail();
	assert_true(CloseHandle(event));
	free(waits);
}

/* More blocked callbacks than there are threads: the rest waits, and runs when they are let go. */
static void wait_more_callbacks_than_workers(void **state)
{
	struct called called = {.event = manual_event()};
	HANDLE events[48], waits[48];

	(void)state;
	for (int index = 0; index < 48; index++) {
		events[index] = auto_event();
		assert_true(RegisterWaitForSingleObject(&waits[index], events[index],
			on_called_blocking, &called, INFINITE, WT_EXECUTEONLYONCE));
		SetEvent(events[index]);
	}
	await(&called.calls, 32);
	SetEvent(called.event);
	await(&called.ended, 48);
	assert_int_equal(called.running_max, 32);
	for (int index = 0; index < 48; index++) {
		assert_true(UnregisterWaitEx(waits[index], INVALID_HANDLE_VALUE));
		assert_true(CloseHandle(events[index]));
	}
	assert_true(CloseHandle(called.event));
}

/* ---- races ------------------------------------------------------------------------------ */

#define PRODUCERS 3
#define CONSUMERS 2
#define ITEMS_EACH 5000

struct exchange {
	HANDLE ready; /* auto-reset: something was added */
	atomic_uint added, taken;
	atomic_bool is_over;
};

static void *produce(void *context)
{
	struct exchange *exchange = context;

	for (int item = 0; item < ITEMS_EACH; item++) {
		atomic_fetch_add(&exchange->added, 1);
		SetEvent(exchange->ready);
	}
	return NULL;
}

/* The pattern of every p2p client: wait, take all there is, wait again. */
static void take_all(struct exchange *exchange)
{
	unsigned taken = atomic_load(&exchange->taken);

	while (taken < atomic_load(&exchange->added))
		if (atomic_compare_exchange_weak(&exchange->taken, &taken, taken + 1))
			taken++;
}

static void *consume(void *context)
{
	struct exchange *exchange = context;

	while (!atomic_load(&exchange->is_over)) {
		assert_int_equal(WaitForSingleObject(exchange->ready, INFINITE), WAIT_OBJECT_0);
		take_all(exchange);
	}
	SetEvent(exchange->ready); /* let the next one see that it is over */
	return NULL;
}

/* Producers and consumers over one auto-reset event: were a wake-up lost, this would never end. */
static void event_no_wake_up_is_lost(void **state)
{
	struct exchange exchange = {.ready = auto_event()};
	pthread_t producers[PRODUCERS], consumers[CONSUMERS];

	(void)state;
	for (int index = 0; index < CONSUMERS; index++)
		assert_int_equal(pthread_create(&consumers[index], NULL, consume, &exchange), 0);
	for (int index = 0; index < PRODUCERS; index++)
		assert_int_equal(pthread_create(&producers[index], NULL, produce, &exchange), 0);
	for (int index = 0; index < PRODUCERS; index++)
		assert_int_equal(pthread_join(producers[index], NULL), 0);
	await(&exchange.taken, PRODUCERS * ITEMS_EACH);
	atomic_store(&exchange.is_over, true);
	SetEvent(exchange.ready);
	for (int index = 0; index < CONSUMERS; index++)
		assert_int_equal(pthread_join(consumers[index], NULL), 0);
	assert_true(CloseHandle(exchange.ready));
}

static void on_exchange(PVOID context, BOOLEAN is_timeout)
{
	assert_false(is_timeout);
	take_all(context);
}

/* The same with the pool as the consumer. */
static void wait_no_wake_up_is_lost(void **state)
{
	struct exchange exchange = {.ready = auto_event()};
	pthread_t producers[PRODUCERS];
	HANDLE wait;

	(void)state;
	assert_true(RegisterWaitForSingleObject(
		&wait, exchange.ready, on_exchange, &exchange, INFINITE, 0));
	for (int index = 0; index < PRODUCERS; index++)
		assert_int_equal(pthread_create(&producers[index], NULL, produce, &exchange), 0);
	for (int index = 0; index < PRODUCERS; index++)
		assert_int_equal(pthread_join(producers[index], NULL), 0);
	await(&exchange.taken, PRODUCERS * ITEMS_EACH);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_true(CloseHandle(exchange.ready));
}

#define PLAYERS 4
#define PLAYED_EVENTS 8
#define PLAYED_WAITS 8
#define PLAY_ROUNDS 4000

static _Atomic(HANDLE) played[PLAYED_EVENTS];
static _Atomic(HANDLE) played_waits[PLAYED_WAITS];
static atomic_uint played_calls;

static void on_played(PVOID context, BOOLEAN is_timeout)
{
	(void)context;
	(void)is_timeout;
	atomic_fetch_add(&played_calls, 1);
}

static void play_wait(uint64_t dice, HANDLE event)
{
	HANDLE wait = NULL, old;

	if (dice % 2 == 0)
		RegisterWaitForSingleObject(&wait, event, on_played, NULL,
			(dice >> 1) % 2 == 0 ? INFINITE : 1, WT_EXECUTEONLYONCE);
	old = atomic_exchange(&played_waits[(dice >> 8) % PLAYED_WAITS], wait);
	if (old != NULL)
		UnregisterWaitEx(old, (dice >> 16) % 2 == 0 ? NULL : INVALID_HANDLE_VALUE);
}

static void *play(void *context)
{
	uint64_t random = seed ^ (uintptr_t)context;

	for (int round = 0; round < PLAY_ROUNDS; round++) {
		uint64_t dice = random_next(&random);
		_Atomic(HANDLE) *cell = &played[(dice >> 32) % PLAYED_EVENTS];
		HANDLE event = atomic_load(cell);
		HANDLE both[2] = {event, atomic_load(&played[(dice >> 40) % PLAYED_EVENTS])};

		dice >>= 4;
		switch ((dice & 15)) {
		case 0:
			event = CreateEventW(NULL, (BOOL)(dice >> 4 & 1), FALSE, NULL);
			event = atomic_exchange(cell, event);
			CloseHandle(event);
			break;
		case 1:
			CloseHandle(event);
			break;
		case 2:
			ResetEvent(event);
			break;
		case 3:
			WaitForMultipleObjects(
				2, both, (BOOL)(dice >> 4 & 1), (DWORD)(dice >> 5 & 1));
			break;
		case 4:
		case 5:
		case 6:
			play_wait(dice >> 8, event);
			break;
		case 7:
			WaitForSingleObject(event, 0);
			break;
		default:
			SetEvent(event);
			break;
		}
	}
	return NULL;
}

/* Everything at once, on handles that others close: no crash, no leak, no deadlock. */
static void event_many_threads(void **state)
{
	pthread_t threads[PLAYERS];

	(void)state;
	for (size_t index = 0; index < PLAYERS; index++)
		assert_int_equal(pthread_create(&threads[index], NULL, play,
					 (void *)(uintptr_t)((index + 1) << 32)),
			0);
	for (size_t index = 0; index < PLAYERS; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	for (int index = 0; index < PLAYED_WAITS; index++)
		UnregisterWaitEx(atomic_load(&played_waits[index]), INVALID_HANDLE_VALUE);
	for (int index = 0; index < PLAYED_EVENTS; index++)
		CloseHandle(atomic_load(&played[index]));
	/* Callbacks that were pending at a plain UnregisterWait end on their own. */
	while (handle_count(HANDLE_WAIT) > 0 || handle_count(HANDLE_EVENT_OBJECT) > 0)
		usleep(100);
}

/* Runs first: no slots for handles and no threads yet. */
static void event_no_memory(void **state)
{
	struct called called = {0};
	HANDLE event, wait;

	(void)state;
	for (unsigned nth = 1; nth <= 2; nth++) {
		failing_in = nth;
		assert_null(CreateEventW(NULL, FALSE, FALSE, NULL));
		assert_int_equal(GetLastError(), ERROR_NOT_ENOUGH_MEMORY);
	}
	event = auto_event();
	/* The keeper; the first worker; then the wait and its slots, with threads there already. */
	for (unsigned nth = 1; nth <= 2; nth++) {
		failing_in = nth;
		assert_false(
			RegisterWaitForSingleObject(&wait, event, on_called, &called, INFINITE, 0));
		assert_int_equal(GetLastError(), ERROR_NOT_ENOUGH_MEMORY);
		assert_null(wait);
		failing_in = 0;
	}
	failing_in = 2;
	assert_false(RegisterWaitForSingleObject(&wait, event, on_called, &called, INFINITE, 0));
	failing_in = 2;
	assert_false(RegisterWaitForSingleObject(&wait, event, on_called, &called, INFINITE, 0));
	failing_in = 0;
	assert_int_equal(handle_count(HANDLE_WAIT), 0);
	assert_true(RegisterWaitForSingleObject(&wait, event, on_called, &called, INFINITE, 0));
	SetEvent(event);
	await(&called.calls, 1);
	assert_true(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE));
	assert_true(CloseHandle(event));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(event_no_memory),
		cmocka_unit_test(event_auto_reset),
		cmocka_unit_test(event_manual_reset),
		cmocka_unit_test(event_initially_signalled),
		cmocka_unit_test(event_named_is_not_supported),
		cmocka_unit_test(event_bad_handles),
		cmocka_unit_test(event_out_of_descriptors),
		cmocka_unit_test(event_descriptor),
		cmocka_unit_test(event_wait_times_out),
		cmocka_unit_test(event_wait_for_any),
		cmocka_unit_test(event_wait_for_all),
		cmocka_unit_test(event_wait_for_the_most),
		cmocka_unit_test(event_wait_bad_arguments),
		cmocka_unit_test(event_auto_reset_releases_one),
		cmocka_unit_test(event_manual_reset_releases_all),
		cmocka_unit_test(event_wait_for_all_crossed),
		cmocka_unit_test(event_signal_after_close),
		cmocka_unit_test(last_error_is_the_threads_own),
		cmocka_unit_test(wait_calls_for_each_signal),
		cmocka_unit_test(wait_registered_on_a_signalled_event),
		cmocka_unit_test(wait_released_by_a_short_signal),
		cmocka_unit_test(wait_each_set_releases_one),
		cmocka_unit_test(wait_times_out_again_and_again),
		cmocka_unit_test(wait_many_timeouts),
		cmocka_unit_test(wait_slow_callback_blocks_nobody),
		cmocka_unit_test(wait_in_wait_thread_is_serial),
		cmocka_unit_test(wait_unregistered_in_its_callback),
		cmocka_unit_test(wait_unregistered_while_called),
		cmocka_unit_test(wait_on_a_closed_event),
		cmocka_unit_test(wait_bad_arguments),
		cmocka_unit_test(wait_too_many),
		cmocka_unit_test(wait_more_callbacks_than_workers),
		cmocka_unit_test(event_no_wake_up_is_lost),
		cmocka_unit_test(wait_no_wake_up_is_lost),
		cmocka_unit_test(event_many_threads),
	};

	seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0)
							   : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
