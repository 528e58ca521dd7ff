/*
 * Event objects and the calls that wait for them, as on Windows.
 *
 * One mutex, the dispatcher's, guards all events and waiters; so waiting for all of several events
 * takes them all or none. It is held for a few instructions and two system calls at most, and never
 * while a client's code runs.
 *
 *   set, somebody waits    the signal is handed over under the lock: a waiter is released even if the
 *                          event is reset before its thread runs, and two sets release two waiters
 *   set, nobody waits      the event stays signalled; a second set changes nothing
 *   auto-reset             each signal releases one waiter, the one that waits longest
 *   manual-reset           releases all waiters and stays until ResetEvent
 *
 * Behind each event is an eventfd that is readable exactly while the event is signalled, for
 * pollers of the outside; object_sync() alone writes and drains it.
 *
 * Waits of RegisterWaitForSingleObject are waiters too, served by the pool of wait_pool.c: when one is
 * satisfied it is queued there. Their life is described in that file.
 */
#include "api/event_object.h"

#include "api/check.h"
#include "api/detail.h"
#include "api/handle.h"
#include "api/wait_pool.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct event_object {
	HANDLE handle;
	int fd;
	bool is_manual;
	bool is_signalled; /* this and the rest under the dispatcher's lock */
	bool is_raised; /* fd is readable; differs from is_signalled only inside a call */
	struct wait_link *first, *last; /* waiters, longest first */
};

pthread_mutex_t dispatcher_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- last error ------------------------------------------------------------------------- */

static _Thread_local DWORD last_error;

DWORD GetLastError(void)
{
	return last_error;
}

VOID SetLastError(DWORD dwErrCode)
{
	last_error = dwErrCode;
}

BOOL event_fail(DWORD error)
{
	last_error = error;
	return FALSE;
}

/* ---- the dispatcher, all under its lock ------------------------------------------------- */

/* Make the descriptor tell what the event is. An eventfd that is not full cannot refuse a 1, and a
 * read that finds nothing finds what we wanted. */
static void object_sync(struct event_object *object)
{
	uint64_t value = 1;
	ssize_t result;

	if (object->is_signalled == object->is_raised)
		return;
	do {
		result = object->is_signalled ? write(object->fd, &value, sizeof(value))
					      : read(object->fd, &value, sizeof(value));
	} while (result < 0 && errno == EINTR);
	object->is_raised = object->is_signalled;
}

/* A waiter got its signal: an auto-reset event gives it up. */
static void object_consume(struct event_object *object)
{
	assert(object->is_signalled);
	if (object->is_manual)
		return;
	object->is_signalled = false;
	object_sync(object);
}

static void link_add(struct wait_link *link)
{
	struct event_object *object = link->object;

	link->next = NULL;
	link->previous = object->last;
	if (object->last != NULL)
		object->last->next = link;
	else
		object->first = link;
	object->last = link;
}

static void link_remove(struct wait_link *link)
{
	struct event_object *object = link->object;

	if (link->previous != NULL)
		link->previous->next = link->next;
	else
		object->first = link->next;
	if (link->next != NULL)
		link->next->previous = link->previous;
	else
		object->last = link->previous;
}

/* Which of the waiter's events releases it now; WAITER_NONE if it has to wait on. */
static uint32_t waiter_ready(const struct waiter *waiter)
{
	for (uint32_t index = 0; index < waiter->count; index++) {
		if (waiter->links[index].object->is_signalled != waiter->is_all)
			return waiter->is_all ? WAITER_NONE : index;
	}
	return waiter->is_all ? 0 : WAITER_NONE;
}

bool waiter_take(struct waiter *waiter)
{
	uint32_t index = waiter_ready(waiter);

	if (index == WAITER_NONE)
		return false;
	if (waiter->is_all) {
		for (uint32_t each = 0; each < waiter->count; each++)
			object_consume(waiter->links[each].object);
	} else {
		object_consume(waiter->links[index].object);
	}
	waiter->satisfied = index;
	return true;
}

void waiter_link(struct waiter *waiter)
{
	waiter->satisfied = WAITER_NONE;
	for (uint32_t index = 0; index < waiter->count; index++) {
		waiter->links[index].waiter = waiter;
		link_add(&waiter->links[index]);
	}
}

void waiter_unlink(struct waiter *waiter)
{
	for (uint32_t index = 0; index < waiter->count; index++)
		link_remove(&waiter->links[index]);
}

/* Hand a signal to those who wait. After a hand-over the list may have lost any of its links (a
 * waiter can be on it twice), so the search starts again; each round removes a waiter. */
static void object_set(struct event_object *object)
{
	struct wait_link *link = object->first;

	object->is_signalled = true;
	while (link != NULL && object->is_signalled) {
		struct waiter *waiter = link->waiter;

		if (!waiter_take(waiter)) {
			link = link->next;
			continue;
		}
		waiter_unlink(waiter);
		waiter->on_satisfied(waiter);
		link = object->first;
	}
	object_sync(object);
}

/* ---- references ------------------------------------------------------------------------- */

static void object_destroy(void *context)
{
	struct event_object *object = context;

	assert(object->first == NULL); /* each waiter holds a reference */
	close(object->fd);
	free(object);
}

struct event_object *event_object_get(HANDLE handle)
{
	return handle_get(HANDLE_EVENT_OBJECT, handle);
}

void event_object_signal(struct event_object *object)
{
	pthread_mutex_lock(&dispatcher_lock);
	if (!object->is_signalled)
		object_set(object);
	pthread_mutex_unlock(&dispatcher_lock);
}

void event_object_put(struct event_object *object)
{
	handle_put(object->handle);
}

/* ---- win32.h: events -------------------------------------------------------------------- */

HANDLE CreateEventW(LPSECURITY_ATTRIBUTES lpEventAttributes, BOOL bManualReset, BOOL bInitialState,
	PCWSTR lpName)
{
	struct event_object *object;
	HANDLE handle;
	int status;

	(void)lpEventAttributes; /* nothing is inherited and there is nobody to keep out */
	if (lpName != NULL) {
		event_fail(ERROR_NOT_SUPPORTED);
		return NULL;
	}
	object = calloc(1, sizeof(*object));
	if (object == NULL) {
		event_fail(ERROR_NOT_ENOUGH_MEMORY);
		return NULL;
	}
	object->fd = eventfd(bInitialState ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (object->fd < 0) {
		event_fail(errno == ENOMEM ? ERROR_NOT_ENOUGH_MEMORY : ERROR_TOO_MANY_OPEN_FILES);
		goto undo_object;
	}
	object->is_manual = bManualReset != FALSE;
	object->is_signalled = bInitialState != FALSE;
	object->is_raised = object->is_signalled;
	status = handle_create_held(HANDLE_EVENT_OBJECT, object, object_destroy, &object->handle);
	if (status < 0) {
		event_fail(status == -ENOMEM ? ERROR_NOT_ENOUGH_MEMORY : ERROR_TOO_MANY_OPEN_FILES);
		goto undo_fd;
	}
	last_error = ERROR_SUCCESS;
	handle = object->handle;
	handle_put(handle);
	return handle;

undo_fd:
	close(object->fd);
undo_object:
	free(object);
	return NULL;
}

BOOL SetEvent(HANDLE hEvent)
{
	struct event_object *object = event_object_get(hEvent);

	if (object == NULL)
		return event_fail(ERROR_INVALID_HANDLE);
	event_object_signal(object);
	handle_put(hEvent);
	return TRUE;
}

BOOL ResetEvent(HANDLE hEvent)
{
	struct event_object *object = event_object_get(hEvent);

	if (object == NULL)
		return event_fail(ERROR_INVALID_HANDLE);
	pthread_mutex_lock(&dispatcher_lock);
	object->is_signalled = false;
	object_sync(object);
	pthread_mutex_unlock(&dispatcher_lock);
	handle_put(hEvent);
	return TRUE;
}

BOOL CloseHandle(HANDLE hObject)
{
	if (!handle_revoke(HANDLE_EVENT_OBJECT, hObject))
		return event_fail(ERROR_INVALID_HANDLE);
	handle_put(hObject);
	return TRUE;
}

HRESULT PeerhubEventDescriptor(HANDLE event, int *fd)
{
	struct event_object *object;

	if (fd == NULL)
		return detail_fail(E_INVALIDARG, "PeerhubEventDescriptor: fd is NULL");
	*fd = -1;
	object = event_object_get(event);
	if (object == NULL)
		return detail_fail(E_HANDLE, "PeerhubEventDescriptor: not an event object");
	*fd = object->fd;
	handle_put(event);
	return S_OK;
}

/* ---- win32.h: waiting ------------------------------------------------------------------- */

/* A thread inside WaitFor*: on its own stack, off all lists when the call returns. */
struct thread_waiter {
	struct waiter waiter;
	pthread_cond_t released;
	struct wait_link links[MAXIMUM_WAIT_OBJECTS];
};

static void on_thread_satisfied(struct waiter *waiter)
{
	struct thread_waiter *thread = (struct thread_waiter *)waiter;

	pthread_cond_signal(&thread->released);
}

void deadline_after(uint32_t milliseconds, struct timespec *deadline)
{
	clock_gettime(CLOCK_MONOTONIC, deadline);
	deadline->tv_sec += milliseconds / 1000;
	deadline->tv_nsec += (long)(milliseconds % 1000) * 1000000L;
	if (deadline->tv_nsec >= 1000000000L) {
		deadline->tv_nsec -= 1000000000L;
		deadline->tv_sec++;
	}
}

int condition_init(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;
	int status = -pthread_condattr_init(&attributes);

	if (status < 0)
		return status;
	status = -pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	if (status == 0)
		status = -pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
	return status;
}

/* Under the lock: sleep until satisfied or the deadline; NULL: no deadline. */
static void thread_sleep(struct thread_waiter *thread, const struct timespec *deadline)
{
	int status = 0;

	waiter_link(&thread->waiter);
	while (thread->waiter.satisfied == WAITER_NONE && status != ETIMEDOUT)
		status = deadline == NULL
			? pthread_cond_wait(&thread->released, &dispatcher_lock)
			: pthread_cond_timedwait(&thread->released, &dispatcher_lock, deadline);
	if (thread->waiter.satisfied == WAITER_NONE)
		waiter_unlink(&thread->waiter);
}

static DWORD thread_wait(struct thread_waiter *thread, DWORD milliseconds)
{
	struct timespec deadline;
	DWORD result;

	if (condition_init(&thread->released) < 0) {
		event_fail(ERROR_NOT_ENOUGH_MEMORY);
		return WAIT_FAILED;
	}
	if (milliseconds != INFINITE)
		deadline_after(milliseconds, &deadline);
	pthread_mutex_lock(&dispatcher_lock);
	if (!waiter_take(&thread->waiter) && milliseconds > 0)
		thread_sleep(thread, milliseconds == INFINITE ? NULL : &deadline);
	result = thread->waiter.satisfied == WAITER_NONE ? WAIT_TIMEOUT
							 : WAIT_OBJECT_0 + thread->waiter.satisfied;
	pthread_mutex_unlock(&dispatcher_lock);
	pthread_cond_destroy(&thread->released);
	return result;
}

static bool handles_repeat(const HANDLE *handles, DWORD count)
{
	for (DWORD index = 1; index < count; index++)
		for (DWORD before = 0; before < index; before++)
			if (handles[index] == handles[before])
				return true;
	return false;
}

DWORD WaitForMultipleObjects(
	DWORD nCount, const HANDLE *lpHandles, BOOL bWaitAll, DWORD dwMilliseconds)
{
	struct thread_waiter thread;
	HANDLE handles[MAXIMUM_WAIT_OBJECTS]; /* the caller's array may change while we wait */
	DWORD held = 0;
	DWORD result = WAIT_FAILED;

	if (nCount == 0 || nCount > MAXIMUM_WAIT_OBJECTS || lpHandles == NULL) {
		event_fail(ERROR_INVALID_PARAMETER);
		return WAIT_FAILED;
	}
	memcpy(handles, lpHandles, nCount * sizeof(HANDLE));
	if (bWaitAll && handles_repeat(handles, nCount)) {
		event_fail(ERROR_INVALID_PARAMETER);
		return WAIT_FAILED;
	}
	thread.waiter = (struct waiter){
		.links = thread.links,
		.count = nCount,
		.is_all = bWaitAll != FALSE,
		.satisfied = WAITER_NONE,
		.on_satisfied = on_thread_satisfied,
	};
	for (; held < nCount; held++) {
		thread.links[held].object = event_object_get(handles[held]);
		if (thread.links[held].object == NULL)
			break;
	}
	if (held == nCount)
		result = thread_wait(&thread, dwMilliseconds);
	else
		event_fail(ERROR_INVALID_HANDLE);
	while (held > 0)
		handle_put(handles[--held]);
	return result;
}

DWORD WaitForSingleObject(HANDLE hHandle, DWORD dwMilliseconds)
{
	return WaitForMultipleObjects(1, &hHandle, FALSE, dwMilliseconds);
}
