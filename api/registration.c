/*
 * Event registrations: the queue of one HPEEREVENT. See registration.h for what always holds.
 *
 * Items are never allocated when an event happens, but for INCOMING_DATA, whose item lies behind the
 * data in the same block. Whatever must not be lost has its item in the registration itself or in a
 * reservation, and these outlive the connection while an item of theirs is unread.
 */
#include "api/registration.h"

#include "api/block.h"
#include "api/check.h"
#include "api/event_object.h"
#include "api/handle.h"
#include "api/node.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(PEER_GROUP_EVENT_AUTHENTICATION_FAILED < 32, "a bit per event type");

static bool event_type_is_known(PEER_GROUP_EVENT_TYPE type)
{
	switch (type) {
	case PEER_GROUP_EVENT_STATUS_CHANGED:
	case PEER_GROUP_EVENT_PROPERTY_CHANGED:
	case PEER_GROUP_EVENT_RECORD_CHANGED:
	case PEER_GROUP_EVENT_DIRECT_CONNECTION:
	case PEER_GROUP_EVENT_NEIGHBOR_CONNECTION:
	case PEER_GROUP_EVENT_INCOMING_DATA:
	case PEER_GROUP_EVENT_MEMBER_CHANGED:
	case PEER_GROUP_EVENT_CONNECTION_FAILED:
	case PEER_GROUP_EVENT_AUTHENTICATION_FAILED:
		return true;
	}
	return false;
}

/* ---- life ------------------------------------------------------------------------------- */

static HRESULT registration_fill(struct registration *registration, DWORD count,
	const PEER_GROUP_EVENT_REGISTRATION *entries)
{
	for (DWORD index = 0; index < count; index++) {
		if (!event_type_is_known(entries[index].eventType))
			return E_INVALIDARG;
		registration->types |= 1u << entries[index].eventType;
		if (entries[index].eventType != PEER_GROUP_EVENT_INCOMING_DATA)
			continue;
		if (entries[index].pType == NULL)
			registration->takes_all_data = true;
		else
			registration->filters[registration->filter_count++] = *entries[index].pType;
	}
	return S_OK;
}

HRESULT registration_create(struct node *node, struct event_object *object, DWORD count,
	const PEER_GROUP_EVENT_REGISTRATION *entries, struct registration **created)
{
	struct registration *registration;
	HRESULT result;

	*created = NULL;
	if (entries == NULL || count == 0 || count > EVENT_ENTRIES_MAX)
		return E_INVALIDARG;
	registration = calloc(1, sizeof(*registration));
	if (registration == NULL)
		return E_OUTOFMEMORY;
	registration->filters = malloc(count * sizeof(*registration->filters));
	if (registration->filters == NULL) {
		result = E_OUTOFMEMORY;
		goto undo_registration;
	}
	result = registration_fill(registration, count, entries);
	if (FAILED(result))
		goto undo_filters;
	if (pthread_mutex_init(&registration->lock, NULL) != 0) {
		result = E_OUTOFMEMORY;
		goto undo_filters;
	}
	atomic_init(&registration->references, 1);
	registration->tail = &registration->head;
	registration->status.kind = ITEM_STATUS;
	registration->property.kind = ITEM_PROPERTY;
	registration->failed.kind = ITEM_FAILED;
	registration->object = object;
	registration->node = node;
	node_get(node);
	*created = registration;
	return S_OK;

undo_filters:
	free(registration->filters);
undo_registration:
	free(registration);
	return result;
}

void registration_get(struct registration *registration)
{
	atomic_fetch_add_explicit(&registration->references, 1, memory_order_relaxed);
}

void registration_put(struct registration *registration)
{
	if (atomic_fetch_sub_explicit(&registration->references, 1, memory_order_acq_rel) > 1)
		return;
	assert(registration->head == NULL);
	assert(registration->reservations == NULL);
	event_object_put(registration->object);
	node_put(registration->node);
	pthread_mutex_destroy(&registration->lock);
	free(registration->filters);
	free(registration);
}

bool registration_wants_data(const struct registration *registration, const GUID *type)
{
	if (!registration_wants(registration, PEER_GROUP_EVENT_INCOMING_DATA))
		return false;
	if (registration->takes_all_data)
		return true;
	for (uint32_t index = 0; index < registration->filter_count; index++)
		if (IsEqualGUID(&registration->filters[index], type))
			return true;
	return false;
}

/* ---- the queue; the registration's lock is held ------------------------------------------ */

static void queue_push(struct registration *registration, struct event_item *item)
{
	assert(!item->is_queued);
	item->is_queued = true;
	item->next = NULL;
	*registration->tail = item;
	registration->tail = &item->next;
	if (item->reservation != NULL)
		item->reservation->queued++;
}

static void queue_pop(struct registration *registration, struct event_item *item)
{
	assert(item == registration->head);
	assert(item->is_queued);
	item->is_queued = false;
	registration->head = item->next;
	if (registration->head == NULL)
		registration->tail = &registration->head;
	if (item->kind == ITEM_DATA) {
		assert(registration->data_count > 0);
		assert(registration->data_bytes >= item->bytes);
		registration->data_count--;
		registration->data_bytes -= item->bytes;
	}
}

static void reservation_free(struct reservation *reservation)
{
	block_free(reservation->connected.block);
	block_free(reservation->last.block);
	free(reservation);
}

/* After an item was popped and read, under the registration's lock: let go of the member and, with its last item, the reservation
 * of a connection that has ended. */
static void queue_settle(struct event_item *item)
{
	struct reservation *reservation = item->reservation;

	if (item->kind == ITEM_MEMBER) {
		member_unread_put(item->member);
		item->member = NULL;
	}
	if (reservation == NULL)
		return;
	assert(reservation->queued > 0);
	if (--reservation->queued == 0 && reservation->is_released) {
		assert(reservation->registration->ended_count > 0);
		reservation->registration->ended_count--;
		reservation_free(reservation);
	}
}

bool registration_is_ended(struct registration *registration)
{
	bool is_ended;

	pthread_mutex_lock(&registration->lock);
	is_ended = registration->is_ended;
	pthread_mutex_unlock(&registration->lock);
	return is_ended;
}

void registration_handle_end(struct registration *registration)
{
	if (handle_revoke(HANDLE_PEER_EVENT, registration->handle))
		handle_put(registration->handle);
}

void registration_end(struct registration *registration)
{
	struct event_item *item;

	pthread_mutex_lock(&registration->lock);
	registration->is_ended = true;
	while ((item = registration->head) != NULL) {
		PEER_GROUP_EVENT_DATA *block = item->block;

		queue_pop(registration, item);
		if (item->kind != ITEM_DATA) {
			item->block = NULL;
			queue_settle(item);
		}
		block_free(block);
	}
	pthread_mutex_unlock(&registration->lock);
}

/* Queue it and wake the client; the caller holds the registration's lock, which ends here. */
static void queue_publish(struct registration *registration, struct event_item *item)
{
	if (!item->is_queued)
		queue_push(registration, item);
	pthread_mutex_unlock(&registration->lock);
	event_object_signal(registration->object);
}

/* ---- reservations ------------------------------------------------------------------------ */

static PEER_GROUP_EVENT_TYPE connection_event_type(enum ph_kind kind)
{
	return kind == PH_KIND_DIRECT ? PEER_GROUP_EVENT_DIRECT_CONNECTION
				      : PEER_GROUP_EVENT_NEIGHBOR_CONNECTION;
}

/* An event without anything behind it; `source` is an event to copy, or NULL. */
static void *plain_fill(struct block *block, const void *source)
{
	PEER_GROUP_EVENT_DATA *event = block_take(block, sizeof(*event));

	if (event != NULL && source != NULL)
		memcpy(event, source, sizeof(*event));
	return event;
}

static bool item_init(
	struct event_item *item, enum event_item_kind kind, struct reservation *reservation)
{
	item->kind = kind;
	item->reservation = reservation;
	if (kind == ITEM_MEMBER)
		return true;
	return block_build(plain_fill, NULL, (void **)&item->block) == 0;
}

bool reservation_create(struct registration *registration, struct connection *connection,
	enum ph_kind kind, struct reservation **created)
{
	struct reservation *reservation;
	bool has_events = registration_wants(registration, connection_event_type(kind));
	bool is_full;

	*created = NULL;
	if (!has_events && !registration_wants(registration, PEER_GROUP_EVENT_MEMBER_CHANGED))
		return true;
	pthread_mutex_lock(&registration->lock);
	is_full = registration->ended_count >= EVENT_ENDED_MAX;
	pthread_mutex_unlock(&registration->lock);
	if (is_full)
		return false;
	reservation = calloc(1, sizeof(*reservation));
	if (reservation == NULL)
		return false;
	if (has_events &&
		(!item_init(&reservation->connected, ITEM_CONNECTED, reservation) ||
			!item_init(&reservation->last, ITEM_LAST, reservation))) {
		reservation_free(reservation);
		return false;
	}
	if (has_events) {
		reservation->connected.block->eventType = connection_event_type(kind);
		reservation->last.block->eventType = connection_event_type(kind);
	}
	item_init(&reservation->member_up, ITEM_MEMBER, reservation);
	item_init(&reservation->member_down, ITEM_MEMBER, reservation);
	reservation->registration = registration;
	reservation->connection = connection;
	reservation->registration_next = registration->reservations;
	reservation->registration_link = &registration->reservations;
	if (registration->reservations != NULL)
		registration->reservations->registration_link = &reservation->registration_next;
	registration->reservations = reservation;
	*created = reservation;
	return true;
}

void reservation_release(struct reservation *reservation)
{
	struct registration *registration = reservation->registration;
	bool is_unused;

	*reservation->registration_link = reservation->registration_next;
	if (reservation->registration_next != NULL)
		reservation->registration_next->registration_link = reservation->registration_link;
	reservation->connection = NULL;
	pthread_mutex_lock(&registration->lock);
	reservation->is_released = true;
	is_unused = reservation->queued == 0;
	if (!is_unused)
		registration->ended_count++;
	pthread_mutex_unlock(&registration->lock);
	if (is_unused)
		reservation_free(reservation);
}

static void event_connection(struct reservation *reservation, struct event_item *item,
	const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	struct registration *registration = reservation->registration;

	if (item->block == NULL) /* this registration does not want them */
		return;
	item->block->connectionChangeData = *change;
	item->block->connectionChangeData.dwSize = sizeof(*change);
	pthread_mutex_lock(&registration->lock);
	queue_publish(registration, item);
}

void event_connected(struct reservation *reservation, uint64_t id, uint64_t node_id)
{
	PEER_EVENT_CONNECTION_CHANGE_DATA change = {
		.status = PEER_CONNECTED, .ullConnectionId = id, .ullNodeId = node_id};

	event_connection(reservation, &reservation->connected, &change);
}

void event_last(struct reservation *reservation, PEER_CONNECTION_STATUS status, uint64_t id,
	uint64_t node_id, HRESULT reason)
{
	PEER_EVENT_CONNECTION_CHANGE_DATA change = {.status = status,
		.ullConnectionId = id,
		.ullNodeId = node_id,
		.hrConnectionFailedReason = reason};

	event_connection(reservation, &reservation->last, &change);
}

void event_member(
	struct reservation *reservation, PEER_MEMBER_CHANGE_TYPE change, struct member *member)
{
	struct registration *registration = reservation->registration;
	struct event_item *item = change == PEER_MEMBER_CONNECTED ? &reservation->member_up
								  : &reservation->member_down;

	if (!registration_wants(registration, PEER_GROUP_EVENT_MEMBER_CHANGED))
		return;
	pthread_mutex_lock(&registration->lock);
	if (member_is_unread(member)) { /* somewhere; perhaps here */
		struct event_item *queued = registration->head;

		while (queued != NULL && queued->member != member)
			queued = queued->next;
		if (queued != NULL) {
			queued->change = change;
			queue_publish(registration, queued);
			return;
		}
	}
	member_unread_get(member);
	item->member = member;
	item->change = change;
	queue_publish(registration, item);
}

/* ---- events of the node ------------------------------------------------------------------ */

void event_status(struct registration *registration, DWORD flags)
{
	if (!registration_wants(registration, PEER_GROUP_EVENT_STATUS_CHANGED))
		return;
	pthread_mutex_lock(&registration->lock);
	registration->status_flags = flags;
	queue_publish(registration, &registration->status);
}

void event_property(struct registration *registration)
{
	if (!registration_wants(registration, PEER_GROUP_EVENT_PROPERTY_CHANGED))
		return;
	pthread_mutex_lock(&registration->lock);
	queue_publish(registration, &registration->property);
}

void event_connection_failed(struct registration *registration, HRESULT reason)
{
	if (!registration_wants(registration, PEER_GROUP_EVENT_CONNECTION_FAILED))
		return;
	pthread_mutex_lock(&registration->lock);
	registration->failed_reason = reason;
	queue_publish(registration, &registration->failed);
}

/* ---- data -------------------------------------------------------------------------------- */

/* What a data block is made of; the item is placed behind the data. */
struct data_source {
	uint64_t id;
	const GUID *type;
	const void *data;
	size_t bytes;
	struct event_item **item;
};

static void *data_fill(struct block *block, const void *context)
{
	const struct data_source *source = context;
	PEER_GROUP_EVENT_DATA *event = block_take(block, sizeof(*event));
	/* Clients read text from here: one UTF-16 NUL behind it, and never a NULL pointer. */
	uint8_t *data = block_take(block, source->bytes + sizeof(WCHAR));
	struct event_item *item = block_take(block, sizeof(*item));

	if (event == NULL || data == NULL || item == NULL) /* measuring */
		return NULL;
	event->eventType = PEER_GROUP_EVENT_INCOMING_DATA;
	event->incomingData.dwSize = sizeof(event->incomingData);
	event->incomingData.ullConnectionId = source->id;
	event->incomingData.type = *source->type;
	event->incomingData.data.cbData = (ULONG)source->bytes;
	event->incomingData.data.pbData = data;
	if (source->bytes > 0)
		memcpy(data, source->data, source->bytes);
	item->kind = ITEM_DATA;
	item->block = event;
	*source->item = item;
	return event;
}

/* NULL: no memory. */
static struct event_item *data_block_create(
	uint64_t id, const GUID *type, const void *data, size_t bytes)
{
	struct event_item *item = NULL;
	struct data_source source = {
		.id = id, .type = type, .data = data, .bytes = bytes, .item = &item};
	void *block;

	if (block_build(data_fill, &source, &block) < 0)
		return NULL;
	assert(item != NULL);
	return item;
}

static bool data_admit(struct registration *registration, size_t bytes)
{
	if (registration->data_count >= EVENT_DATA_COUNT_MAX)
		return false;
	return registration->data_count == 0 ||
		registration->data_bytes + bytes <= EVENT_DATA_BYTES_MAX;
}

struct event_item *event_data_create(struct registration *registration, uint64_t id,
	const GUID *type, const void *data, size_t bytes)
{
	struct event_item *item = NULL;
	size_t charge = sizeof(PEER_GROUP_EVENT_DATA) + bytes;
	bool is_admitted;

	pthread_mutex_lock(&registration->lock);
	is_admitted = data_admit(registration, charge);
	if (is_admitted) {
		registration->data_count++;
		registration->data_bytes += charge;
	} else {
		registration->is_starved = true;
	}
	pthread_mutex_unlock(&registration->lock);
	if (!is_admitted)
		return NULL;
	item = data_block_create(id, type, data, bytes);
	if (item != NULL) {
		item->bytes = charge;
		return item;
	}
	pthread_mutex_lock(&registration->lock);
	registration->data_count--;
	registration->data_bytes -= charge;
	registration->is_starved = true;
	pthread_mutex_unlock(&registration->lock);
	return NULL;
}

void event_data_cancel(struct registration *registration, struct event_item *item)
{
	assert(!item->is_queued);
	pthread_mutex_lock(&registration->lock);
	registration->data_count--;
	registration->data_bytes -= item->bytes;
	pthread_mutex_unlock(&registration->lock);
	block_free(item->block);
}

void event_data_queue(struct registration *registration, struct event_item *item)
{
	pthread_mutex_lock(&registration->lock);
	queue_publish(registration, item);
}

/* ---- taking ------------------------------------------------------------------------------ */

static void *member_fill(struct block *block, const void *context)
{
	const struct event_item *item = context;
	PEER_GROUP_EVENT_DATA *event = block_take(block, sizeof(*event));
	WCHAR *name = block_text(block, item->member->identity);

	if (event == NULL)
		return NULL;
	event->eventType = PEER_GROUP_EVENT_MEMBER_CHANGED;
	event->memberChangeData.dwSize = sizeof(event->memberChangeData);
	event->memberChangeData.changeType = item->change;
	event->memberChangeData.pwzIdentity = name;
	return event;
}

/* The block of an item that has none yet; NULL when there is no memory. */
static PEER_GROUP_EVENT_DATA *item_block_create(
	const struct registration *registration, const struct event_item *item)
{
	PEER_GROUP_EVENT_DATA event, *block;

	if (item->kind == ITEM_MEMBER)
		return block_build(member_fill, item, (void **)&block) == 0 ? block : NULL;
	memset(&event, 0, sizeof(event));
	switch (item->kind) {
	case ITEM_STATUS:
		event.eventType = PEER_GROUP_EVENT_STATUS_CHANGED;
		event.dwStatus = (PEER_GROUP_STATUS)registration->status_flags;
		break;
	case ITEM_PROPERTY:
		event.eventType = PEER_GROUP_EVENT_PROPERTY_CHANGED;
		break;
	default:
		assert(item->kind == ITEM_FAILED);
		event.eventType = PEER_GROUP_EVENT_CONNECTION_FAILED;
		event.hrConnectionFailedReason = registration->failed_reason;
		break;
	}
	return block_build(plain_fill, &event, (void **)&block) == 0 ? block : NULL;
}

static HRESULT queue_take(struct registration *registration, PEER_GROUP_EVENT_DATA **event)
{
	struct event_item *item = registration->head;
	PEER_GROUP_EVENT_DATA *block;

	if (registration->is_ended)
		return E_INVALIDARG;
	if (item == NULL)
		return PEER_S_NO_EVENT_DATA;
	block = item->block;
	if (block == NULL)
		block = item_block_create(registration, item);
	if (block == NULL)
		return E_OUTOFMEMORY;
	queue_pop(registration, item);
	if (item->kind !=
		ITEM_DATA) { /* a data item is inside the block, which is the client's now */
		item->block = NULL;
		queue_settle(item);
	}
	*event = block;
	return S_OK;
}

HRESULT registration_take(
	struct registration *registration, PEER_GROUP_EVENT_DATA **event, bool *resume)
{
	HRESULT result;

	*event = NULL;
	*resume = false;
	pthread_mutex_lock(&registration->lock);
	result = queue_take(registration, event);
	if (registration->is_starved && registration->data_count <= EVENT_DATA_COUNT_MAX / 2 &&
		registration->data_bytes <= EVENT_DATA_BYTES_MAX / 2) {
		registration->is_starved = false;
		*resume = true;
	}
	pthread_mutex_unlock(&registration->lock);
	return result;
}
