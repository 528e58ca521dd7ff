/*
 * drain.c: see drain.h.
 */
#include "drain.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "notify.h"
#include "peerhub/extras.h"

#define LAST_LOOK_MS 20u /* how often the last closes are looked at */
#define LAST_SPARE_MS 1000u /* beyond the deadline of a close, before the rest is reset */

struct place {
	uint64_t id, tag;
};

static struct {
	pthread_mutex_t
		lock; /* guards what other threads ask and see: the wishes and the progress */
	struct drain_wish wish;
	bool has_wish, has_cancel;
	struct drain_progress progress;
	/* The main thread's. */
	struct drain_wish plan;
	struct place *places; /* those told, then those to be closed */
	size_t count, capacity, at;
	uint64_t begin_ms; /* of the closing */
} drain = {.lock = PTHREAD_MUTEX_INITIALIZER};

void drain_ask(const struct drain_wish *wish)
{
	pthread_mutex_lock(&drain.lock);
	bool is_for_stop = wish->is_for_stop || (drain.has_wish && drain.wish.is_for_stop);

	drain.wish = *wish;
	drain.wish.is_for_stop = is_for_stop;
	drain.has_wish = true;
	drain.has_cancel = false;
	pthread_mutex_unlock(&drain.lock);
}

void drain_cancel(void)
{
	pthread_mutex_lock(&drain.lock);
	drain.has_cancel = true;
	drain.has_wish = false;
	pthread_mutex_unlock(&drain.lock);
}

void drain_look(struct drain_progress *progress)
{
	pthread_mutex_lock(&drain.lock);
	*progress = drain.progress;
	pthread_mutex_unlock(&drain.lock);
}

const char *drain_state_name(enum drain_state state)
{
	static const char *const names[] = {"serving", "notice", "closing", "last", "empty"};

	return names[state];
}

static void state_set(enum drain_state state, uint64_t now_ms, uint64_t end_ms)
{
	pthread_mutex_lock(&drain.lock);
	drain.progress.state = state;
	drain.progress.state_ms = now_ms;
	drain.progress.end_ms = end_ms;
	pthread_mutex_unlock(&drain.lock);
	LOG(CONFIG_LOG_INFO, "drain", LOG_T("state", drain_state_name(state)),
		LOG_N("told", drain.progress.told), LOG_N("total", drain.progress.total),
		LOG_N("closed", drain.progress.closed), LOG_N("left", drain.progress.left),
		LOG_N("reset", drain.progress.reset));
	notify_say("STATUS=%s", state == DRAIN_SERVING ? "serving" : "draining");
}

static void count(uint64_t *counter, uint64_t more)
{
	pthread_mutex_lock(&drain.lock);
	*counter += more;
	pthread_mutex_unlock(&drain.lock);
}

/* ---- who is there -------------------------------------------------------------------------- */

static int place_add(void *context, const struct ph_connection *connection)
{
	bool *failed = context;

	if (drain.count == drain.capacity) {
		size_t capacity = drain.capacity > 0 ? 2 * drain.capacity : 1024;
		struct place *grown = realloc(drain.places, capacity * sizeof(*grown));

		if (grown == NULL) {
			*failed = true;
			return 1;
		}
		drain.places = grown;
		drain.capacity = capacity;
	}
	drain.places[drain.count++] = (struct place){connection->id, connection->tag};
	return 0;
}

/* Without memory for all the list holds some: the others are closed at the end of the time. */
static void places_fill(struct ph_hub *hub)
{
	bool failed = false;

	drain.count = drain.at = 0;
	(void)ph_connections(hub, NULL, place_add, &failed);
	if (failed)
		LOG(CONFIG_LOG_ERROR, "drain_memory",
			LOG_T("text", "no memory to spread all closes"));
}

static int place_compare(const void *left, const void *right)
{
	const struct place *a = left, *b = right;

	return a->id < b->id ? -1 : a->id > b->id;
}

static void tell(const struct place *place)
{
	int status = ph_notice(place->id, place->tag, PH_REASON_LOCAL_DRAIN,
		(uint32_t)drain.plan.retry_after_ms, drain.plan.text);

	if (status == 0)
		count(&drain.progress.told, 1);
	else if (status != -ENOENT) /* it has just ended by itself */
		count(&drain.progress.untold, 1);
}

/* ---- the steps ----------------------------------------------------------------------------- */

static void notice_begin(struct ph_hub *hub, uint64_t now_ms)
{
	HRESULT result = PeerhubSetAccepting(FALSE);

	if (FAILED(result))
		LOG(CONFIG_LOG_ERROR, "drain_accepting", LOG_T("text", PeerhubLastErrorText()));
	metrics_ready(false);
	pthread_mutex_lock(&drain.lock);
	drain.progress = (struct drain_progress){.is_for_stop = drain.plan.is_for_stop};
	pthread_mutex_unlock(&drain.lock);
	places_fill(hub);
	for (size_t i = 0; i < drain.count; i++)
		tell(&drain.places[i]);
	if (drain.count > 0)
		qsort(drain.places, drain.count, sizeof(*drain.places), place_compare);
	state_set(DRAIN_NOTICE, now_ms, now_ms + drain.plan.grace_ms);
}

/* Each is told once: here those whose handshake ended since the notice. */
static void closing_begin(struct ph_hub *hub, uint64_t now_ms)
{
	struct place *told = drain.places;
	size_t told_count = drain.count;

	drain.places = NULL;
	drain.capacity = 0;
	places_fill(hub);
	for (size_t i = 0; i < drain.count; i++)
		if (told_count == 0 ||
			bsearch(&drain.places[i], told, told_count, sizeof(*told), place_compare) ==
				NULL)
			tell(&drain.places[i]);
	free(told);
	drain.begin_ms = now_ms;
	count(&drain.progress.total, drain.count);
	state_set(DRAIN_CLOSING, now_ms, now_ms + drain.plan.over_ms);
}

/* The k-th of n is due at k/n of the time. Returns when the next is. */
static uint64_t closing_step(uint64_t now_ms)
{
	uint64_t passed_ms = now_ms - drain.begin_ms, over_ms = drain.plan.over_ms;
	size_t due = drain.count;
	uint64_t closed = 0, left = 0;

	if (passed_ms < over_ms)
		due = (size_t)((double)drain.count * (double)passed_ms / (double)over_ms);
	for (; drain.at < due; drain.at++) {
		if (ph_close(drain.places[drain.at].id, drain.places[drain.at].tag, PH_GRACEFUL,
			    PH_REASON_LOCAL_DRAIN, NULL) == 0)
			closed++;
		else
			left++;
	}
	count(&drain.progress.closed, closed);
	count(&drain.progress.left, left);
	if (drain.at == drain.count)
		return 0;
	return drain.begin_ms +
		(uint64_t)((double)(drain.at + 1) * (double)over_ms / (double)drain.count) + 1;
}

static uint64_t open_count(struct ph_hub *hub)
{
	struct ph_statistics stats;

	ph_stats(hub, &stats);
	return stats.open;
}

static uint64_t live_count(struct ph_hub *hub)
{
	struct ph_statistics stats;

	ph_stats(hub, &stats);
	return stats.live;
}

static void empty_begin(uint64_t now_ms)
{
	free(drain.places);
	drain.places = NULL;
	drain.count = drain.capacity = drain.at = 0;
	state_set(DRAIN_EMPTY, now_ms, 0);
}

static void last_begin(struct ph_hub *hub, uint64_t close_ms, uint64_t now_ms)
{
	/* What the list had no room for, and what was dialled meanwhile. */
	int64_t more = ph_close_where(hub, NULL, PH_GRACEFUL, PH_REASON_LOCAL_DRAIN, 0, 0);

	if (more > 0)
		count(&drain.progress.closed, (uint64_t)more);
	state_set(DRAIN_LAST, now_ms, now_ms + close_ms + LAST_SPARE_MS);
}

static uint64_t last_step(struct ph_hub *hub, uint64_t now_ms)
{
	int64_t reset;

	if (live_count(hub) == 0) {
		empty_begin(now_ms);
		return now_ms;
	}
	if (now_ms < drain.progress.end_ms)
		return now_ms + LAST_LOOK_MS;
	reset = ph_close_where(hub, NULL, PH_ABORT, PH_REASON_LOCAL_DRAIN, 0, 0);
	if (reset > 0)
		count(&drain.progress.reset, (uint64_t)reset);
	empty_begin(now_ms);
	return now_ms;
}

static int place_reassure(void *context, const struct ph_connection *connection)
{
	(void)context;
	(void)!ph_notice(connection->id, connection->tag, PH_REASON_NONE, 0, NULL);
	return 0;
}

/* Back to serving: who is still here hears that he may stay. */
static void cancel(struct ph_hub *hub, uint64_t now_ms)
{
	HRESULT result;

	if (drain.progress.state == DRAIN_SERVING)
		return;
	result = PeerhubSetAccepting(TRUE);
	if (FAILED(result)) {
		/* The port is somebody else's by now: what was begun goes on. */
		pthread_mutex_lock(&drain.lock);
		(void)!snprintf(drain.progress.failure, sizeof(drain.progress.failure), "%s",
			PeerhubLastErrorText());
		pthread_mutex_unlock(&drain.lock);
		LOG(CONFIG_LOG_ERROR, "undrain_failed", LOG_T("text", drain.progress.failure));
		return;
	}
	(void)ph_connections(hub, NULL, place_reassure, NULL);
	empty_begin(now_ms);
	pthread_mutex_lock(&drain.lock);
	drain.progress.failure[0] = '\0';
	drain.progress.is_for_stop = false;
	pthread_mutex_unlock(&drain.lock);
	metrics_ready(true);
	state_set(DRAIN_SERVING, now_ms, 0);
}

static void wishes_take(struct ph_hub *hub, uint64_t now_ms)
{
	bool has_wish, has_cancel;
	struct drain_wish wish;

	pthread_mutex_lock(&drain.lock);
	has_wish = drain.has_wish;
	has_cancel = drain.has_cancel;
	wish = drain.wish;
	drain.has_wish = drain.has_cancel = false;
	pthread_mutex_unlock(&drain.lock);
	if (has_cancel)
		cancel(hub, now_ms);
	if (!has_wish)
		return;
	wish.is_for_stop = wish.is_for_stop ||
		(drain.progress.state != DRAIN_SERVING && drain.plan.is_for_stop);
	drain.plan = wish;
	if (drain.progress.state == DRAIN_SERVING) {
		notice_begin(hub, now_ms);
		return;
	}
	pthread_mutex_lock(&drain.lock);
	drain.progress.is_for_stop = wish.is_for_stop;
	if (drain.progress.state == DRAIN_NOTICE)
		drain.progress.end_ms = drain.progress.state_ms + wish.grace_ms;
	if (drain.progress.state == DRAIN_CLOSING)
		drain.progress.end_ms = drain.begin_ms + wish.over_ms;
	pthread_mutex_unlock(&drain.lock);
}

uint64_t drain_step(struct ph_hub *hub, uint64_t close_ms, uint64_t now_ms)
{
	uint64_t wake;

	wishes_take(hub, now_ms);
	switch (drain.progress.state) {
	case DRAIN_SERVING:
	case DRAIN_EMPTY:
		return LOOP_NEVER;
	case DRAIN_NOTICE:
		/* Nobody is there to be waited for; a handshake under way comes to nothing or to LAST. */
		if (open_count(hub) > 0 && now_ms < drain.progress.end_ms)
			return loop_earlier(drain.progress.end_ms, now_ms + 10 * LAST_LOOK_MS);
		closing_begin(hub, now_ms);
		return now_ms;
	case DRAIN_CLOSING:
		wake = closing_step(now_ms);
		if (wake != 0 && open_count(hub) > 0)
			return wake > now_ms ? wake : now_ms + 1;
		last_begin(hub, close_ms, now_ms);
		return now_ms;
	case DRAIN_LAST:
		return last_step(hub, now_ms);
	}
	return LOOP_NEVER;
}

void drain_end(void)
{
	free(drain.places);
	drain.places = NULL;
	drain.count = drain.capacity = drain.at = 0;
}
