/* What p2p calls answer and which events come; see p2p_audit.h. */
#include "p2p_audit.h"

#include "message.h"

#include "peerhub/extras.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIOLATIONS_SHOWN 20u
#define ANSWERS_MAX 3u

struct call_rule {
	const char *name;
	uint32_t situation;
	HRESULT answers[ANSWERS_MAX];
};

#define NONE 0u
#define NO_GROUP P2P_SITUATION_NO_GROUP
#define NEEDS_MEMORY P2P_SITUATION_NEEDS_MEMORY
#define ALWAYS P2P_SITUATION_ALWAYS
static const struct call_rule rules[] = {
#define CALL_RULE(name, situation, ...) {#name, situation, __VA_ARGS__},
	P2P_CALLS(CALL_RULE)
#undef CALL_RULE
};

/* ---- life ------------------------------------------------------------------------------ */

int p2p_audit_create(struct p2p_world *world, bool is_failing, struct p2p_audit **audit)
{
	struct p2p_audit *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return -ENOMEM;
	made->world = world;
	made->is_failing = is_failing;
	atomic_init(&made->tick, 1);
	pthread_mutex_init(&made->lock, NULL);
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++) {
		pthread_mutex_init(&made->registrations[i].lock, NULL);
		made->registrations[i].views =
			calloc(P2P_LINKS, sizeof(*made->registrations[i].views));
		if (made->registrations[i].views == NULL) {
			p2p_audit_destroy(made);
			return -ENOMEM;
		}
	}
	*audit = made;
	return 0;
}

void p2p_audit_destroy(struct p2p_audit *audit)
{
	if (audit == NULL)
		return;
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++)
		free(audit->registrations[i].views);
	free(audit);
}

void p2p_violation(struct p2p_audit *audit, const char *format, ...)
{
	va_list arguments;
	char text[320];

	if (P2P_COUNT(audit, violations) >= VIOLATIONS_SHOWN)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "VIOLATION: p2p: %s\n", text);
}

void p2p_counts(struct p2p_audit *audit, struct p2p_counts *counts)
{
#define P2P_READ(name) \
	counts->name = atomic_load_explicit(&audit->counts.name, memory_order_relaxed);
	P2P_COUNTERS(P2P_READ)
#undef P2P_READ
}

/* ---- calls ----------------------------------------------------------------------------- */

/* A deletion empties the store first and ends the handles then: in between both answers come. */
static bool is_being_deleted(const struct p2p_node *node)
{
	uint64_t ended = atomic_load(&node->deletes_ended);

	return atomic_load(&node->deletes_begun) != ended;
}

/* NULL: it may be alive. */
static const char *handle_death(const struct p2p_audit *audit, const struct p2p_handle *handle)
{
	const char *death = atomic_load(&handle->death);

	if (death == NULL && atomic_load(&handle->node->delete_done) > handle->deletes_after)
		death = "since its group was deleted";
	if (death == NULL && p2p_bound_epoch(atomic_load(&audit->world->high)) > handle->high_epoch)
		death = "since the library was stopped";
	return death;
}

void p2p_call_begin(struct p2p_audit *audit, enum p2p_call call, struct p2p_handle *handle,
	struct p2p_before *before)
{
	struct p2p_world *world = audit->world;

	before->call = call;
	before->handle = handle;
	before->death = handle != NULL ? handle_death(audit, handle) : NULL;
	before->startups = atomic_load(&world->startups_begun);
	before->high = atomic_load(&world->high);
	before->low = atomic_load(&world->low);
	P2P_COUNT(audit, calls);
	atomic_fetch_add_explicit(&audit->call_counts[call], 1, memory_order_relaxed);
}

/* Started during the whole call, for certain. */
static bool was_started(const struct p2p_audit *audit, const struct p2p_before *before)
{
	return p2p_bound_count(before->low) > 0 &&
		p2p_bound_epoch(before->low) == p2p_bound_epoch(atomic_load(&audit->world->low));
}

static bool was_down(const struct p2p_audit *audit, const struct p2p_before *before)
{
	return p2p_bound_count(before->high) == 0 &&
		before->startups == atomic_load(&audit->world->startups_begun);
}

/* The handle was good during the whole call, for certain. */
static bool was_alive(const struct p2p_audit *audit, const struct p2p_before *before)
{
	const struct p2p_handle *handle = before->handle;
	uint32_t ends = before->call == P2P_CALL_PeerGroupClose ? 1 : 0;

	return was_started(audit, before) && handle->was_low &&
		handle->low_epoch == p2p_bound_epoch(before->low) &&
		atomic_load(&handle->node->deletes_begun) == handle->deletes_before &&
		atomic_load(&handle->ends_begun) <= ends;
}

static bool is_among(const HRESULT *answers, HRESULT result)
{
	for (; answers != NULL && *answers != S_OK; answers++)
		if (*answers == result)
			return true;
	return false;
}

static bool may_answer(const struct p2p_audit *audit, const struct call_rule *rule, HRESULT result)
{
	if (result == S_OK)
		return true;
	if (result == E_OUTOFMEMORY && audit->is_failing &&
		(rule->situation & P2P_SITUATION_NEEDS_MEMORY) != 0)
		return true;
	/* Where OpenSSL makes its contexts it does not always say that memory was what it lacked. */
	if (result == PEER_E_CANNOT_START_SERVICE && audit->is_failing &&
		rule == &rules[P2P_CALL_PeerGroupStartup])
		return true;
	for (uint32_t i = 0; i < ANSWERS_MAX; i++)
		if (rule->answers[i] == result)
			return true;
	return false;
}

static void answer_wrong(
	struct p2p_audit *audit, const struct p2p_before *before, HRESULT result, const char *why)
{
	const struct p2p_handle *handle = before->handle;

	if (handle == NULL)
		p2p_violation(audit, "%s answered %s (%#x) %s (%s)", rules[before->call].name,
			PeerhubResultName(result), (unsigned)result, why, PeerhubLastErrorText());
	else
		p2p_violation(audit, "%s answered %s (%#x) %s: node %u%s (%s)",
			rules[before->call].name, PeerhubResultName(result), (unsigned)result, why,
			handle->node->number, handle->is_anchor ? ", its anchor" : "",
			PeerhubLastErrorText());
}

bool p2p_call_end(struct p2p_audit *audit, const struct p2p_before *before, HRESULT result,
	const HRESULT *also)
{
	const struct call_rule *rule = &rules[before->call];
	bool is_always = (rule->situation & P2P_SITUATION_ALWAYS) != 0;

	if (result == E_OUTOFMEMORY)
		P2P_COUNT(audit, out_of_memory);
	if (result == PEER_E_NOT_INITIALIZED) {
		P2P_COUNT(audit, calls_down);
		if (is_always || was_started(audit, before))
			answer_wrong(audit, before, result, "while it was started");
		else if (before->handle != NULL)
			atomic_store(&before->handle->death, "since it was told so (stopped)");
		return false;
	}
	if (!is_always && was_down(audit, before)) {
		answer_wrong(audit, before, result, "while nothing was started");
		return false;
	}
	if (before->handle != NULL && result == PEER_E_INVALID_GROUP) {
		P2P_COUNT(audit, calls_dead);
		if (was_alive(audit, before))
			answer_wrong(audit, before, result, "for a handle that is good");
		else if (!is_being_deleted(before->handle->node))
			atomic_store(&before->handle->death, "since it was told so (invalid)");
		return false;
	}
	if (before->death != NULL)
		answer_wrong(audit, before, result, before->death);
	else if (!may_answer(audit, rule, result) && !is_among(also, result))
		answer_wrong(audit, before, result, "which it may not");
	return result == S_OK;
}

void p2p_call_end_stranger(
	struct p2p_audit *audit, const struct p2p_before *before, HRESULT result, HRESULT wanted)
{
	bool is_down = result == PEER_E_NOT_INITIALIZED && !was_started(audit, before) &&
		(rules[before->call].situation & P2P_SITUATION_ALWAYS) == 0;

	if (result != wanted && !is_down)
		answer_wrong(audit, before, result, "for a made-up handle");
}

/* ---- handles --------------------------------------------------------------------------- */

struct p2p_handle *p2p_handle_begin(struct p2p_audit *audit, struct p2p_node *node)
{
	struct p2p_world *world = audit->world;
	struct p2p_handle *handle = NULL;
	uint32_t first = (uint32_t)atomic_fetch_add(&audit->tick, 1);
	uint64_t low;

	pthread_mutex_lock(&audit->lock);
	for (uint32_t i = 0; i < P2P_HANDLES && handle == NULL; i++) {
		struct p2p_handle *at = &audit->handles[(first + i) % P2P_HANDLES];

		if (!at->is_live && at->users == 0)
			handle = at;
	}
	if (handle != NULL) {
		handle->users = 1; /* ours, while it is made; no value yet, so nobody picks it */
		handle->value = NULL;
	}
	pthread_mutex_unlock(&audit->lock);
	if (handle == NULL)
		return NULL;
	handle->node = node;
	handle->is_anchor = false;
	atomic_store(&handle->ends_begun, 0);
	atomic_store(&handle->death, NULL);
	handle->deletes_before = atomic_load(&node->deletes_ended);
	low = atomic_load(&world->low);
	handle->was_low = p2p_bound_count(low) > 0;
	handle->low_epoch = p2p_bound_epoch(low);
	return handle;
}

void p2p_handle_end(struct p2p_audit *audit, struct p2p_handle *handle, HGROUP value)
{
	handle->deletes_after = atomic_load(&handle->node->deletes_begun);
	handle->high_epoch = p2p_bound_epoch(atomic_load(&audit->world->high));
	pthread_mutex_lock(&audit->lock);
	handle->value = value;
	handle->is_live = value != NULL;
	/* Who made it goes on using it, while others may close it: its place must not be another's yet. */
	if (value == NULL)
		handle->users--;
	pthread_mutex_unlock(&audit->lock);
}

struct p2p_handle *p2p_handle_pick(struct p2p_audit *audit, struct random *random, bool stale)
{
	uint32_t first = random_below(random, P2P_HANDLES);
	struct p2p_handle *handle = NULL;

	pthread_mutex_lock(&audit->lock);
	for (uint32_t i = 0; i < P2P_HANDLES && handle == NULL; i++) {
		struct p2p_handle *at = &audit->handles[(first + i) % P2P_HANDLES];

		if (at->value != NULL && at->is_live != stale)
			handle = at;
	}
	if (handle != NULL)
		handle->users++;
	pthread_mutex_unlock(&audit->lock);
	return handle;
}

void p2p_handle_put(struct p2p_audit *audit, struct p2p_handle *handle)
{
	pthread_mutex_lock(&audit->lock);
	assert(handle->users > 0);
	handle->users--;
	pthread_mutex_unlock(&audit->lock);
}

void p2p_handle_forget(struct p2p_audit *audit, struct p2p_handle *handle)
{
	pthread_mutex_lock(&audit->lock);
	handle->is_live = false;
	handle->is_anchor = false;
	pthread_mutex_unlock(&audit->lock);
}

uint32_t p2p_handles_live(struct p2p_audit *audit)
{
	uint32_t count = 0;

	pthread_mutex_lock(&audit->lock);
	for (uint32_t i = 0; i < P2P_HANDLES; i++)
		count += audit->handles[i].is_live;
	pthread_mutex_unlock(&audit->lock);
	return count;
}

/* ---- links; the audit's lock is held --------------------------------------------------- */

/* The link of an id. With a node it is made when it is new; NULL: unknown, or no room. */
static struct p2p_link *link_of(struct p2p_audit *audit, uint64_t id, struct p2p_node *node)
{
	uint32_t at = (uint32_t)random_mix(id) % P2P_LINKS;

	while (audit->links[at].id != 0 && audit->links[at].id != id)
		at = (at + 1) % P2P_LINKS;
	if (audit->links[at].id == id)
		return &audit->links[at];
	if (node == NULL || audit->link_count >= P2P_LINKS - P2P_LINKS / 8)
		return NULL;
	audit->link_count++;
	audit->links[at] = (struct p2p_link){.id = id, .node = node};
	return &audit->links[at];
}

/* May PeerGroupSendData or CloseDirectConnection of this node still work? */
static bool link_is_dead(const struct p2p_link *link, const struct p2p_node *node)
{
	return link->node != node || link->wins > 0 || link->has_last || link->has_failed;
}

uint32_t p2p_links_count(struct p2p_audit *audit)
{
	uint32_t count;

	pthread_mutex_lock(&audit->lock);
	count = audit->link_count;
	pthread_mutex_unlock(&audit->lock);
	return count;
}

void p2p_link_opened(struct p2p_audit *audit, struct p2p_node *node, uint64_t id, uint64_t tick)
{
	const char *wrong = NULL;
	struct p2p_link *link;

	pthread_mutex_lock(&audit->lock);
	link = id != 0 ? link_of(audit, id, node) : NULL;
	if (id == 0)
		wrong = "Open gave out the id 0";
	else if (link != NULL && (link->is_dialled || link->is_neighbor))
		wrong = "Open gave out an id twice";
	else if (link != NULL && link->node != node)
		wrong = "Open gave out an id of another node";
	if (link != NULL) {
		link->is_dialled = true;
		link->begin_tick = tick;
	}
	pthread_mutex_unlock(&audit->lock);
	P2P_COUNT(audit, dials);
	if (wrong != NULL)
		p2p_violation(audit, "%s (%#llx)", wrong, (unsigned long long)id);
}

uint64_t p2p_link_pick(
	struct p2p_audit *audit, struct random *random, const struct p2p_node *node, bool foreign)
{
	uint32_t first = random_below(random, P2P_LINKS);
	bool wants_dead = random_permille(random, 50);
	uint64_t id = 0;

	pthread_mutex_lock(&audit->lock);
	for (uint32_t i = 0; i < P2P_LINKS && id == 0; i++) {
		const struct p2p_link *link = &audit->links[(first + i) % P2P_LINKS];

		if (link->id == 0 || (link->node != node) != foreign)
			continue;
		if (foreign || link_is_dead(link, node) == wants_dead)
			id = link->id;
	}
	pthread_mutex_unlock(&audit->lock);
	return id;
}

/* ---- send and close -------------------------------------------------------------------- */

bool p2p_send_begin(struct p2p_audit *audit, const struct p2p_node *node, uint64_t id,
	struct random *random, struct p2p_send *send)
{
	uint32_t lane = random_below(random, P2P_LANES);
	struct p2p_link *link;
	bool is_free;

	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, id, NULL);
	is_free = link != NULL && !link->is_lane_busy[lane];
	if (is_free) {
		link->is_lane_busy[lane] = true;
		*send = (struct p2p_send){.id = id,
			.lane = lane,
			.sequence = link->sent[lane],
			.must_fail = link_is_dead(link, node)};
	}
	pthread_mutex_unlock(&audit->lock);
	return is_free;
}

void p2p_send_end(struct p2p_audit *audit, const struct p2p_send *send, bool is_sent)
{
	struct p2p_link *link;

	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, send->id, NULL);
	assert(link != NULL && link->is_lane_busy[send->lane]);
	link->is_lane_busy[send->lane] = false;
	if (is_sent)
		link->sent[send->lane]++;
	pthread_mutex_unlock(&audit->lock);
	if (!is_sent)
		return;
	P2P_COUNT(audit, messages_sent);
	if (send->must_fail)
		p2p_violation(audit, "SendData was accepted on the dead or foreign id %#llx",
			(unsigned long long)send->id);
}

bool p2p_close_begin(struct p2p_audit *audit, const struct p2p_node *node, uint64_t id)
{
	const struct p2p_link *link;
	bool must_fail;

	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, id, NULL);
	must_fail = link != NULL && (link->is_neighbor || link_is_dead(link, node));
	pthread_mutex_unlock(&audit->lock);
	return must_fail;
}

void p2p_close_end(struct p2p_audit *audit, uint64_t id, bool has_won, bool must_fail)
{
	struct p2p_link *link;
	bool is_neighbor = false;
	uint32_t wins = 0;

	if (!has_won) {
		P2P_COUNT(audit, closes_lost);
		return;
	}
	P2P_COUNT(audit, closes_won);
	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, id, NULL);
	if (link != NULL) {
		wins = ++link->wins;
		is_neighbor = link->is_neighbor;
	}
	pthread_mutex_unlock(&audit->lock);
	if (wins > 1)
		p2p_violation(audit, "CloseDirectConnection of %#llx won %u times",
			(unsigned long long)id, wins);
	else if (is_neighbor)
		p2p_violation(audit, "CloseDirectConnection of the neighbor %#llx won",
			(unsigned long long)id);
	else if (must_fail)
		p2p_violation(audit, "CloseDirectConnection of the dead or foreign id %#llx won",
			(unsigned long long)id);
}

/* ---- events ---------------------------------------------------------------------------- */

static struct p2p_view *view_of(
	struct p2p_audit *audit, struct p2p_registration *registration, const struct p2p_link *link)
{
	struct p2p_view *view = &registration->views[link - audit->links];

	if (view->generation != registration->generation)
		*view = (struct p2p_view){.generation = registration->generation};
	return view;
}

/* May this registration have missed the beginning of the connection? */
static bool may_be_late(const struct p2p_registration *registration, const struct p2p_link *link)
{
	if (registration->is_anchor)
		return false;
	return !(link->is_dialled && link->begin_tick > registration->tick);
}

static const char *connected_judge(struct p2p_link *link, struct p2p_view *view)
{
	if (view->seen != P2P_SEEN_NOTHING)
		return view->seen == P2P_SEEN_LAST ? "CONNECTED after the last event"
						   : "CONNECTED twice, or after data";
	view->seen = P2P_SEEN_CONNECTED;
	link->was_connected = true;
	return link->has_failed ? "CONNECTED here, FAILED there" : NULL;
}

static const char *failed_judge(struct p2p_link *link, struct p2p_view *view, HRESULT reason)
{
	bool was_seen = view->seen != P2P_SEEN_NOTHING;

	view->seen = P2P_SEEN_LAST;
	link->has_failed = true;
	link->failure = reason;
	if (was_seen)
		return "FAILED after something else";
	if (link->was_connected)
		return "FAILED here, CONNECTED there";
	if (reason != PEER_E_CONNECTION_FAILED && reason != PEER_E_CONNECTION_REFUSED &&
		reason != PEER_E_CONNECTION_NOT_AUTHENTICATED)
		return "FAILED for a reason that is none";
	return NULL;
}

static const char *disconnected_judge(
	struct p2p_link *link, struct p2p_view *view, bool may_miss, HRESULT reason)
{
	uint8_t seen = view->seen;

	view->seen = P2P_SEEN_LAST;
	link->has_last = true;
	if (seen == P2P_SEEN_LAST)
		return "a second last event";
	if (seen == P2P_SEEN_NOTHING && !may_miss)
		return "DISCONNECTED without CONNECTED";
	return reason != 0 ? "DISCONNECTED with a reason" : NULL;
}

static void change_event(struct p2p_audit *audit, struct p2p_registration *registration,
	const PEER_EVENT_CONNECTION_CHANGE_DATA *change, bool is_neighbor)
{
	const char *wrong = NULL;
	struct p2p_link *link;
	struct p2p_view *view;

	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, change->ullConnectionId, registration->node);
	if (link == NULL) {
		pthread_mutex_unlock(&audit->lock);
		return; /* no room: nobody dials any more in this round */
	}
	view = view_of(audit, registration, link);
	link->is_neighbor |= is_neighbor;
	if (link->node != registration->node)
		wrong = "an event of another node's connection";
	else if (change->status == PEER_CONNECTED)
		wrong = connected_judge(link, view);
	else if (change->status == PEER_CONNECTION_FAILED)
		wrong = failed_judge(link, view, change->hrConnectionFailedReason);
	else if (change->status == PEER_DISCONNECTED)
		wrong = disconnected_judge(link, view, may_be_late(registration, link),
			change->hrConnectionFailedReason);
	else
		wrong = "no such status";
	pthread_mutex_unlock(&audit->lock);
	if (change->dwSize != sizeof(*change) || change->ullNextConnectionId != 0)
		wrong = "a field of the event is wrong";
	if (wrong != NULL)
		p2p_violation(audit, "%s: status %d of id %#llx at node %u%s", wrong,
			(int)change->status, (unsigned long long)change->ullConnectionId,
			registration->node->number, registration->is_anchor ? " (anchor)" : "");
	if (!is_neighbor && change->status == PEER_CONNECTED)
		P2P_COUNT(audit, connected);
	if (!is_neighbor && change->status == PEER_CONNECTION_FAILED)
		P2P_COUNT(audit, failed);
	if (!is_neighbor && change->status == PEER_DISCONNECTED)
		P2P_COUNT(audit, disconnected);
}

/* Data comes while anybody at the node is registered for its connections, and then to all who want data:
 * one that is not registered for them itself depends on the others, who come and go. */
static bool may_miss_data(const struct p2p_registration *registration)
{
	return (registration->types & P2P_CONNECTION_TYPES) == 0;
}

/* Who sent it, and is it the next of its lane? */
static const char *message_judge(struct p2p_audit *audit,
	const struct p2p_registration *registration, struct p2p_link *link, struct p2p_view *view,
	const struct message_head *head)
{
	struct p2p_link *sender = link_of(audit, head->sender, NULL);

	if (sender == NULL || head->lane >= P2P_LANES)
		return "data of nobody";
	if (sender->node->group != link->node->group || sender->node == link->node)
		return "data of another group or of this node";
	if ((view->sender != 0 && view->sender != head->sender) ||
		(sender->peer != 0 && sender->peer != link->id))
		return "data of another connection";
	view->sender = head->sender;
	sender->peer = link->id;
	if (head->sequence > sender->sent[head->lane])
		return "data that was not sent";
	if (view->is_lane_known[head->lane] || view->seen == P2P_SEEN_CONNECTED) {
		if (head->sequence < view->next[head->lane])
			return "a message came twice or late";
		if (head->sequence > view->next[head->lane] && !may_miss_data(registration))
			return "a message is missing";
	}
	view->is_lane_known[head->lane] = true;
	view->next[head->lane] = head->sequence + 1;
	return NULL;
}

/* A registration without connection events never sees a beginning. */
static const char *data_place_judge(const struct p2p_registration *registration,
	const struct p2p_link *link, struct p2p_view *view)
{
	PEER_GROUP_EVENT_TYPE type = link->is_neighbor ? PEER_GROUP_EVENT_NEIGHBOR_CONNECTION
						       : PEER_GROUP_EVENT_DIRECT_CONNECTION;

	if (link->node != registration->node)
		return "data of another node's connection";
	if (view->seen == P2P_SEEN_LAST)
		return "data after the last event";
	if (view->seen == P2P_SEEN_NOTHING) {
		view->seen = P2P_SEEN_LATE;
		if ((registration->types & (1u << type)) != 0 && !may_be_late(registration, link))
			return "data before CONNECTED";
	}
	return NULL;
}

static void data_event(struct p2p_audit *audit, struct p2p_registration *registration,
	const PEER_EVENT_INCOMING_DATA *data)
{
	struct message_head head = {.sender = 0};
	const char *wrong = NULL;
	struct p2p_link *link;
	uint8_t type[16];

	memcpy(type, &data->type, sizeof(type));
	if (message_read(type, data->data.pbData, data->data.cbData, &head) < 0)
		wrong = "a message was damaged";
	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, data->ullConnectionId, registration->node);
	if (link != NULL && wrong == NULL) {
		struct p2p_view *view = view_of(audit, registration, link);

		wrong = data_place_judge(registration, link, view);
		if (wrong == NULL)
			wrong = message_judge(audit, registration, link, view, &head);
	}
	pthread_mutex_unlock(&audit->lock);
	P2P_COUNT(audit, messages_received);
	atomic_fetch_add_explicit(
		&audit->counts.bytes_received, data->data.cbData, memory_order_relaxed);
	if (wrong != NULL)
		p2p_violation(audit,
			"%s: id %#llx at node %u%s, sender %#llx lane %u sequence %u bytes %u",
			wrong, (unsigned long long)data->ullConnectionId,
			registration->node->number, registration->is_anchor ? " (anchor)" : "",
			(unsigned long long)head.sender, head.lane, head.sequence,
			(unsigned)data->data.cbData);
}

static bool other_event_is_valid(const PEER_GROUP_EVENT_DATA *event)
{
	switch (event->eventType) {
	case PEER_GROUP_EVENT_STATUS_CHANGED:
		return (event->dwStatus & ~3u) == 0;
	case PEER_GROUP_EVENT_MEMBER_CHANGED:
		return event->memberChangeData.changeType >= PEER_MEMBER_CONNECTED &&
			event->memberChangeData.changeType <= PEER_MEMBER_UPDATED &&
			event->memberChangeData.pwzIdentity != NULL;
	case PEER_GROUP_EVENT_CONNECTION_FAILED:
		return FAILED(event->hrConnectionFailedReason);
	case PEER_GROUP_EVENT_PROPERTY_CHANGED:
		return true;
	default:
		return false;
	}
}

void p2p_event(struct p2p_audit *audit, struct p2p_registration *registration,
	const PEER_GROUP_EVENT_DATA *event)
{
	P2P_COUNT(audit, events);
	if ((registration->types & (1u << event->eventType)) == 0)
		p2p_violation(audit, "an event %d that nobody asked for", (int)event->eventType);
	else if (event->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION)
		change_event(audit, registration, &event->connectionChangeData, false);
	else if (event->eventType == PEER_GROUP_EVENT_NEIGHBOR_CONNECTION)
		change_event(audit, registration, &event->connectionChangeData, true);
	else if (event->eventType == PEER_GROUP_EVENT_INCOMING_DATA)
		data_event(audit, registration, &event->incomingData);
	else if (!other_event_is_valid(event))
		p2p_violation(audit, "an event %d with wrong contents", (int)event->eventType);
}

/* ---- rounds ---------------------------------------------------------------------------- */

/* Of the anchor's node and to be accounted for. */
static bool link_counts(const struct p2p_link *link, const struct p2p_registration *anchor)
{
	return link->id != 0 && link->node == anchor->node && !link->is_neighbor;
}

static uint8_t seen_by(
	struct p2p_audit *audit, const struct p2p_registration *anchor, const struct p2p_link *link)
{
	const struct p2p_view *view = &anchor->views[link - audit->links];

	return view->generation == anchor->generation ? view->seen : P2P_SEEN_NOTHING;
}

uint8_t p2p_link_seen(
	struct p2p_audit *audit, const struct p2p_registration *registration, uint64_t id)
{
	const struct p2p_link *link;
	uint8_t seen = P2P_SEEN_NOTHING;

	pthread_mutex_lock(&audit->lock);
	link = link_of(audit, id, NULL);
	if (link != NULL)
		seen = seen_by(audit, registration, link);
	pthread_mutex_unlock(&audit->lock);
	return seen;
}

uint32_t p2p_links_open(struct p2p_audit *audit, const struct p2p_registration *anchor)
{
	uint32_t count = 0;

	pthread_mutex_lock(&audit->lock);
	for (uint32_t i = 0; i < P2P_LINKS; i++)
		if (link_counts(&audit->links[i], anchor) &&
			seen_by(audit, anchor, &audit->links[i]) != P2P_SEEN_LAST)
			count++;
	pthread_mutex_unlock(&audit->lock);
	return count;
}

static const char *link_judge(const struct p2p_link *link)
{
	if (link->has_failed && !link->is_dialled)
		return "FAILED of a connection that nobody opened";
	if (link->has_failed && link->has_last)
		return "FAILED and DISCONNECTED";
	if (link->has_failed && link->wins > 0 && link->failure != PEER_E_CONNECTION_FAILED)
		return "a cancelled attempt failed for another reason";
	if (link->has_last && !link->was_connected)
		return "DISCONNECTED, but never CONNECTED";
	return NULL;
}

void p2p_links_judge(struct p2p_audit *audit, const struct p2p_registration *anchor)
{
	for (uint32_t i = 0; i < P2P_LINKS; i++) {
		struct p2p_link link;
		const char *wrong;

		pthread_mutex_lock(&audit->lock);
		link = audit->links[i];
		pthread_mutex_unlock(&audit->lock);
		if (!link_counts(&link, anchor))
			continue;
		wrong = link_judge(&link);
		if (wrong != NULL)
			p2p_violation(audit, "%s: id %#llx of node %u, wins %u, failure %s", wrong,
				(unsigned long long)link.id, link.node->number, link.wins,
				PeerhubResultName(link.failure));
		P2P_COUNT(audit, links_proved);
	}
}

static const struct ph_receipt *receipt_of(
	const struct ph_receipt *receipts, uint32_t count, uint64_t id)
{
	for (uint32_t i = 0; i < count; i++)
		if (receipts[i].id == id)
			return &receipts[i];
	return NULL;
}

/* The anchor of a link's node; NULL: the node is not steady. */
static const struct p2p_registration *anchor_of(
	const struct p2p_audit *audit, const struct p2p_link *link)
{
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++)
		if (audit->registrations[i].is_live && audit->registrations[i].is_anchor &&
			audit->registrations[i].node == link->node)
			return &audit->registrations[i];
	return NULL;
}

/* All that was accepted arrived? The audit's lock is held. */
static bool is_complete(struct p2p_audit *audit, const struct p2p_link *from,
	const struct p2p_link *to, const struct p2p_registration *anchor)
{
	const struct p2p_view *view = &anchor->views[to - audit->links];

	for (uint32_t lane = 0; lane < P2P_LANES; lane++)
		if (view->next[lane] < from->sent[lane])
			return false;
	return true;
}

/* A graceful close of ours that the other end took as such loses nothing. */
static void receipt_judge(struct p2p_audit *audit, const struct ph_receipt *receipts,
	uint32_t count, const struct ph_receipt *receipt)
{
	const struct p2p_registration *anchor;
	const struct ph_receipt *other;
	struct p2p_link *from, *to = NULL;
	bool is_lost = false;

	if (!receipt->was_open || receipt->side != PH_SIDE_LOCAL || receipt->how != PH_GRACEFUL)
		return;
	pthread_mutex_lock(&audit->lock);
	from = link_of(audit, receipt->id, NULL);
	if (from != NULL && from->peer != 0)
		to = link_of(audit, from->peer, NULL);
	anchor = to != NULL ? anchor_of(audit, to) : NULL;
	other = anchor != NULL ? receipt_of(receipts, count, to->id) : NULL;
	if (other != NULL && other->side == PH_SIDE_REMOTE &&
		other->reason == PH_REASON_REMOTE_CLOSE && !to->is_neighbor) {
		is_lost = !is_complete(audit, from, to, anchor);
		P2P_COUNT(audit, graceful_proved);
	}
	pthread_mutex_unlock(&audit->lock);
	if (is_lost)
		p2p_violation(audit, "a graceful close lost what was sent before it: id %#llx",
			(unsigned long long)receipt->id);
}

void p2p_receipts_judge(struct p2p_audit *audit, const struct ph_receipt *receipts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		receipt_judge(audit, receipts, count, &receipts[i]);
}

void p2p_links_forget(struct p2p_audit *audit)
{
	pthread_mutex_lock(&audit->lock);
	memset(audit->links, 0, sizeof(audit->links));
	audit->link_count = 0;
	pthread_mutex_unlock(&audit->lock);
}
