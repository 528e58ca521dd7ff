/*
 * Registered waits: RegisterWaitForSingleObject, and the threads that run their callbacks.
 *
 *   IDLE --wait_arm--> ARMED --signal, timeout--> QUEUED --worker--> running; armed again or IDLE
 *
 *   ARMED   linked at its event (and in the timer heap, with a timeout)
 *   QUEUED  its signal is taken; it stands in the pool's queue, at most once
 *   A worker that picks a wait arms it again before the call (with WT_EXECUTEINWAITTHREAD after it;
 *   with WT_EXECUTEONLYONCE never), so a signal during a callback runs another callback of the same
 *   wait on another thread, as on Windows. A manual-reset event that stays set therefore calls again
 *   and again: WT_EXECUTEONLYONCE is for those.
 *
 * Unregistering ends a wait at once: it is taken off its event, out of the heap and out of the queue.
 * Only callbacks that run already are left to wait for.
 *
 * The threads are one keeper, which runs the timeouts and starts workers when more waits are queued than
 * workers idle, and up to WORKERS_MAX workers. They start with the first registration, block all
 * signals and stay for the life of the process. Everything here is under the dispatcher's lock.
 */
#include "api/wait_pool.h"

#include "api/check.h"
#include "api/handle.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define WAITS_MAX 16384u /* registered at a time in a process: bounds queue and heap */
#define WORKERS_MAX 32u /* callbacks at a time: that many may block before others have to wait */
#define HEAP_NONE UINT32_MAX

struct wait {
	struct waiter waiter; /* first: on_satisfied gets back to us by a cast */
	struct wait_link link;
	HANDLE handle;
	WAITORTIMERCALLBACK callback;
	PVOID context;
	uint32_t interval_ms; /* INFINITE: none */
	ULONG flags;
	bool is_armed;
	bool is_queued;
	bool is_ended; /* unregistered: nothing new begins */
	bool is_timeout; /* what the queued callback will be told */
	uint32_t running; /* callbacks inside the client now */
	struct event_object *completion; /* UnregisterWaitEx: set when running falls to 0 */
	struct timespec deadline; /* while in the heap */
	uint32_t heap_index;
	struct wait *queue_next;
};

static struct {
	pthread_once_t once;
	int status; /* of the initialisation */
	pthread_cond_t keeper_wake; /* a new first deadline, or workers wanted */
	pthread_cond_t work; /* the queue got something */
	pthread_cond_t quiet; /* some ended wait has no callback running any more */
	struct wait *heap[WAITS_MAX]; /* by deadline, soonest first */
	uint32_t heap_count;
	struct wait *queue_first, *queue_last;
	uint32_t queue_count;
	uint32_t wait_count; /* waits that exist */
	uint32_t workers; /* threads that exist, of which ... */
	uint32_t starting; /* ... these did not look at the queue yet */
	uint32_t idle; /* ... and these sleep */
	bool has_keeper;
} pool = {.once = PTHREAD_ONCE_INIT};

static _Thread_local struct wait *wait_current; /* whose callback this thread is in */

/* ---- timer heap ------------------------------------------------------------------------- */

static bool is_before(const struct timespec *left, const struct timespec *right)
{
	if (left->tv_sec != right->tv_sec)
		return left->tv_sec < right->tv_sec;
	return left->tv_nsec < right->tv_nsec;
}

static void heap_place(struct wait *wait, uint32_t index)
{
	pool.heap[index] = wait;
	wait->heap_index = index;
}

static void heap_up(struct wait *wait, uint32_t index)
{
	while (index > 0) {
		struct wait *parent = pool.heap[(index - 1) / 2];

		if (!is_before(&wait->deadline, &parent->deadline))
			break;
		heap_place(parent, index);
		index = (index - 1) / 2;
	}
	heap_place(wait, index);
}

static void heap_down(struct wait *wait, uint32_t index)
{
	for (;;) {
		uint32_t child = 2 * index + 1;

		if (child >= pool.heap_count)
			break;
		if (child + 1 < pool.heap_count &&
			is_before(&pool.heap[child + 1]->deadline, &pool.heap[child]->deadline))
			child++;
		if (!is_before(&pool.heap[child]->deadline, &wait->deadline))
			break;
		heap_place(pool.heap[child], index);
		index = child;
	}
	heap_place(wait, index);
}

static void heap_add(struct wait *wait)
{
	assert(pool.heap_count < WAITS_MAX); /* a wait is in it once, and waits are bounded */
	heap_up(wait, pool.heap_count++);
	if (pool.heap[0] == wait)
		pthread_cond_signal(&pool.keeper_wake);
}

static void heap_remove(struct wait *wait)
{
	uint32_t index = wait->heap_index;
	struct wait *last;

	if (index == HEAP_NONE)
		return;
	wait->heap_index = HEAP_NONE;
	last = pool.heap[--pool.heap_count];
	if (last == wait)
		return;
	/* The last one fills the hole; it may belong above or below it. */
	heap_down(last, index);
	heap_up(last, last->heap_index);
}

/* ---- queue ------------------------------------------------------------------------------ */

/* More waits are queued than there are workers on their way to them. */
static bool is_worker_wanted(void)
{
	return pool.queue_count > pool.idle + pool.starting && pool.workers < WORKERS_MAX;
}

/* The queue holds a reference on what stands in it; the worker takes it over. */
static void queue_add(struct wait *wait, bool is_timeout)
{
	assert(!wait->is_queued && !wait->is_ended && !wait->is_armed);
	handle_hold(wait->handle);
	wait->is_queued = true;
	wait->is_timeout = is_timeout;
	wait->queue_next = NULL;
	if (pool.queue_last != NULL)
		pool.queue_last->queue_next = wait;
	else
		pool.queue_first = wait;
	pool.queue_last = wait;
	pool.queue_count++;
	pthread_cond_signal(&pool.work);
	if (is_worker_wanted())
		pthread_cond_signal(&pool.keeper_wake);
}

static struct wait *queue_pop(void)
{
	struct wait *wait = pool.queue_first;

	pool.queue_first = wait->queue_next;
	if (pool.queue_first == NULL)
		pool.queue_last = NULL;
	pool.queue_count--;
	wait->is_queued = false;
	return wait;
}

static void queue_remove(struct wait *wait)
{
	struct wait *before = NULL;
	struct wait *each = pool.queue_first;

	while (each != wait) {
		before = each;
		each = each->queue_next;
		assert(each != NULL);
	}
	if (before == NULL) {
		queue_pop();
		return;
	}
	before->queue_next = wait->queue_next;
	if (pool.queue_last == wait)
		pool.queue_last = before;
	pool.queue_count--;
	wait->is_queued = false;
}

/* ---- waits ------------------------------------------------------------------------------ */

static void wait_arm(struct wait *wait)
{
	if (wait->is_ended)
		return;
	assert(!wait->is_armed && !wait->is_queued);
	if (waiter_take(&wait->waiter)) {
		queue_add(wait, false);
		return;
	}
	wait->is_armed = true;
	waiter_link(&wait->waiter);
	if (wait->interval_ms != INFINITE) {
		deadline_after(wait->interval_ms, &wait->deadline);
		heap_add(wait);
	}
}

static void wait_disarm(struct wait *wait)
{
	if (!wait->is_armed)
		return;
	waiter_unlink(&wait->waiter);
	heap_remove(wait);
	wait->is_armed = false;
}

static void on_wait_satisfied(struct waiter *waiter)
{
	struct wait *wait = (struct wait *)waiter;

	heap_remove(wait);
	wait->is_armed = false;
	queue_add(wait, false);
}

static void wait_destroy(void *object)
{
	struct wait *wait = object;

	assert(!wait->is_armed && !wait->is_queued && wait->running == 0);
	event_object_put(wait->link.object);
	free(wait);
	pthread_mutex_lock(&dispatcher_lock);
	pool.wait_count--;
	pthread_mutex_unlock(&dispatcher_lock);
}

/* ---- threads ---------------------------------------------------------------------------- */

/* One callback. Lock held on entry and exit, not during the call. */
static void worker_call(struct wait *wait)
{
	bool is_timeout = wait->is_timeout;
	bool is_serial = (wait->flags & WT_EXECUTEINWAITTHREAD) != 0;
	bool is_repeated = (wait->flags & WT_EXECUTEONLYONCE) == 0;
	struct event_object *completion = NULL;

	wait->running++;
	if (is_repeated && !is_serial)
		wait_arm(wait);
	pthread_mutex_unlock(&dispatcher_lock);

	wait_current = wait;
	wait->callback(wait->context, is_timeout ? TRUE : FALSE);
	wait_current = NULL;

	pthread_mutex_lock(&dispatcher_lock);
	wait->running--;
	if (is_repeated && is_serial)
		wait_arm(wait);
	if (wait->is_ended && wait->running == 0) {
		completion = wait->completion;
		wait->completion = NULL;
		pthread_cond_broadcast(&pool.quiet);
	}
	pthread_mutex_unlock(&dispatcher_lock);
	if (completion != NULL) {
		event_object_signal(completion);
		event_object_put(completion);
	}
	handle_put(wait->handle);
	pthread_mutex_lock(&dispatcher_lock);
}

static void *worker_main(void *context)
{
	(void)context;
	pthread_setname_np(pthread_self(), "peerhub-worker");
	pthread_mutex_lock(&dispatcher_lock);
	pool.starting--;
	for (;;) {
		while (pool.queue_count == 0) {
			pool.idle++;
			pthread_cond_wait(&pool.work, &dispatcher_lock);
			pool.idle--;
		}
		worker_call(queue_pop());
	}
	return NULL;
}

static int thread_begin(void *(*run)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;
	int status = -pthread_attr_init(&attributes);

	if (status < 0)
		return status;
	/* The client's signals are for the client's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	status = -pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (status == 0)
		status = -pthread_create(&thread, &attributes, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return status;
}

static int worker_begin(void)
{
	int status = thread_begin(worker_main);

	if (status == 0) {
		pool.workers++;
		pool.starting++;
	}
	return status;
}

static void keeper_expire(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	while (pool.heap_count > 0 && !is_before(&now, &pool.heap[0]->deadline)) {
		struct wait *wait = pool.heap[0];

		wait_disarm(wait);
		queue_add(wait, true);
	}
}

static void *keeper_main(void *context)
{
	(void)context;
	pthread_setname_np(pthread_self(), "peerhub-keeper");
	pthread_mutex_lock(&dispatcher_lock);
	for (;;) {
		keeper_expire();
		/* A refused thread is asked for again at the next wake: the workers there are go on. */
		while (is_worker_wanted())
			if (worker_begin() < 0)
				break;
		if (pool.heap_count == 0) {
			pthread_cond_wait(&pool.keeper_wake, &dispatcher_lock);
		} else {
			/* A copy: the wait may be gone while we sleep. */
			struct timespec deadline = pool.heap[0]->deadline;

			pthread_cond_timedwait(&pool.keeper_wake, &dispatcher_lock, &deadline);
		}
	}
	return NULL;
}

static void pool_init(void)
{
	pool.status = condition_init(&pool.keeper_wake);
	if (pool.status == 0)
		pool.status = condition_init(&pool.work);
	if (pool.status == 0)
		pool.status = condition_init(&pool.quiet);
}

/* One more wait: room for it, a keeper and at least one worker. */
static DWORD pool_enter(void)
{
	int status = 0;

	pthread_once(&pool.once, pool_init);
	if (pool.status < 0)
		return ERROR_NOT_ENOUGH_MEMORY;
	pthread_mutex_lock(&dispatcher_lock);
	if (pool.wait_count == WAITS_MAX)
		status = -EMFILE;
	if (status == 0 && !pool.has_keeper) {
		status = thread_begin(keeper_main);
		pool.has_keeper = status == 0;
	}
	if (status == 0 && pool.workers == 0)
		status = worker_begin();
	if (status == 0)
		pool.wait_count++;
	pthread_mutex_unlock(&dispatcher_lock);
	return status == 0 ? ERROR_SUCCESS : ERROR_NOT_ENOUGH_MEMORY;
}

static void pool_leave(void)
{
	pthread_mutex_lock(&dispatcher_lock);
	pool.wait_count--;
	pthread_mutex_unlock(&dispatcher_lock);
}

/* ---- win32.h ---------------------------------------------------------------------------- */

static struct wait *wait_create(struct event_object *object)
{
	struct wait *wait = calloc(1, sizeof(*wait));

	if (wait == NULL)
		return NULL;
	wait->link.object = object;
	wait->waiter = (struct waiter){
		.links = &wait->link,
		.count = 1,
		.satisfied = WAITER_NONE,
		.on_satisfied = on_wait_satisfied,
	};
	wait->heap_index = HEAP_NONE;
	return wait;
}

BOOL RegisterWaitForSingleObject(PHANDLE phNewWaitObject, HANDLE hObject,
	WAITORTIMERCALLBACK Callback, PVOID Context, ULONG dwMilliseconds, ULONG dwFlags)
{
	struct event_object *object;
	struct wait *wait;
	DWORD error;

	if (phNewWaitObject == NULL)
		return event_fail(ERROR_INVALID_PARAMETER);
	*phNewWaitObject = NULL;
	if (Callback == NULL)
		return event_fail(ERROR_INVALID_PARAMETER);
	object = event_object_get(hObject);
	if (object == NULL)
		return event_fail(ERROR_INVALID_HANDLE);
	error = pool_enter();
	if (error != ERROR_SUCCESS)
		goto undo_object;
	error = ERROR_NOT_ENOUGH_MEMORY;
	wait = wait_create(object);
	if (wait == NULL)
		goto undo_pool;
	wait->callback = Callback;
	wait->context = Context;
	/* A timeout of 0 would keep a processor busy with calling: once in a millisecond is enough. */
	wait->interval_ms = dwMilliseconds > 0 ? dwMilliseconds : 1;
	wait->flags = dwFlags;
	if (handle_create_held(HANDLE_WAIT, wait, wait_destroy, &wait->handle) < 0)
		goto undo_wait;
	/* The callback may look at the variable: it is written before the first one can run. */
	*phNewWaitObject = wait->handle;
	pthread_mutex_lock(&dispatcher_lock);
	wait_arm(wait);
	pthread_mutex_unlock(&dispatcher_lock);
	handle_put(wait->handle);
	return TRUE;

undo_wait:
	free(wait);
undo_pool:
	pool_leave();
undo_object:
	event_object_put(object);
	return event_fail(error);
}

/* Take a wait off everything. true: callbacks of it are still running. */
static bool wait_end(struct wait *wait)
{
	wait->is_ended = true;
	wait_disarm(wait);
	if (wait->is_queued) {
		queue_remove(wait);
		handle_put(wait->handle); /* never the last: our caller holds the table's */
	}
	return wait->running > 0;
}

/* Never from a callback of this very wait: it would wait for itself. */
static void wait_quiet(struct wait *wait)
{
	assert(wait != wait_current);
	while (wait->running > 0)
		pthread_cond_wait(&pool.quiet, &dispatcher_lock);
}

BOOL UnregisterWaitEx(HANDLE WaitHandle, HANDLE CompletionEvent)
{
	struct event_object *completion = NULL;
	bool is_blocking = CompletionEvent == INVALID_HANDLE_VALUE;
	bool is_running;
	struct wait *wait = handle_get(HANDLE_WAIT, WaitHandle);

	if (wait == NULL)
		return event_fail(ERROR_INVALID_HANDLE);
	if (CompletionEvent != NULL && !is_blocking) {
		completion = event_object_get(CompletionEvent);
		if (completion == NULL)
			goto refuse;
	}
	if (!handle_revoke(HANDLE_WAIT, WaitHandle))
		goto refuse; /* another thread was first */

	pthread_mutex_lock(&dispatcher_lock);
	is_running = wait_end(wait);
	if (is_running && is_blocking && wait != wait_current) {
		wait_quiet(wait);
		is_running = false;
	}
	if (is_running) {
		wait->completion = completion;
		completion = NULL;
	}
	pthread_mutex_unlock(&dispatcher_lock);

	if (completion != NULL) {
		event_object_signal(completion);
		event_object_put(completion);
	}
	handle_put(WaitHandle); /* the table's */
	handle_put(WaitHandle); /* ours */
	return is_running ? event_fail(ERROR_IO_PENDING) : TRUE;

refuse:
	if (completion != NULL)
		event_object_put(completion);
	handle_put(WaitHandle);
	return event_fail(ERROR_INVALID_HANDLE);
}

BOOL UnregisterWait(HANDLE WaitHandle)
{
	return UnregisterWaitEx(WaitHandle, NULL);
}
