/*
 * What event_object.c (events, waiters) and wait_pool.c (registered waits) share: the dispatcher's
 * lock and the waiters under it. Nobody else includes this.
 */
#ifndef PEERHUB_API_WAIT_POOL_H
#define PEERHUB_API_WAIT_POOL_H

#include "api/event_object.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define WAITER_NONE UINT32_MAX

struct waiter;

/* One event that a waiter waits for; on that event's list while linked. */
struct wait_link {
	struct wait_link *next, *previous;
	struct event_object *object; /* the waiter's owner holds a reference */
	struct waiter *waiter;
};

struct waiter {
	struct wait_link *links; /* count of them */
	uint32_t count;
	bool is_all;
	uint32_t satisfied; /* which event released it, or WAITER_NONE */
	void (*on_satisfied)(
		struct waiter *waiter); /* unlinked by then; under the lock: only notes */
};

extern pthread_mutex_t dispatcher_lock;

/* All three under the lock. waiter_take takes its signals now if it can; else the caller may link it,
 * and then either on_satisfied comes (unlinked) or the caller unlinks it. */
bool waiter_take(struct waiter *waiter);
void waiter_link(struct waiter *waiter);
void waiter_unlink(struct waiter *waiter);

/* Conditions that time out by CLOCK_MONOTONIC. 0 or a negative errno. */
int condition_init(pthread_cond_t *condition);
void deadline_after(uint32_t milliseconds, struct timespec *deadline);

BOOL event_fail(DWORD error); /* sets the last error; FALSE */

#endif
