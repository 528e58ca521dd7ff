/* Single operations of a p2p spin; see p2p_action.h. */
#include "p2p_action.h"

#include "fault_memory.h"
#include "message.h"

#include "peerhub/extras.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUMP_MAX 64u
#define BURST_MAX 4u
#define SMALL_BYTES_MAX 2048u
#define LISTED_MAX 64u
#define ANSWERS(...) ((const HRESULT[]){__VA_ARGS__, S_OK})

static void rest(struct p2p_hand *hand, uint32_t us_max)
{
	const struct timespec duration = {
		.tv_nsec = (long)random_below(&hand->random, us_max) * 1000};

	nanosleep(&duration, NULL);
}

/* ---- hands ----------------------------------------------------------------------------- */

struct p2p_hand *p2p_hand_take(struct p2p_play *play, bool is_in_callback)
{
	struct p2p_hand *hand = NULL;

	fault_memory_spare_openssl();
	pthread_mutex_lock(&play->hands_lock);
	for (uint32_t i = 0; i < P2P_HANDS && hand == NULL; i++)
		if (!play->hands[i].is_taken)
			hand = &play->hands[i];
	if (hand != NULL) {
		hand->is_taken = true;
		hand->is_in_callback = is_in_callback;
	}
	pthread_mutex_unlock(&play->hands_lock);
	return hand;
}

void p2p_hand_give(struct p2p_play *play, struct p2p_hand *hand)
{
	pthread_mutex_lock(&play->hands_lock);
	hand->is_taken = false;
	pthread_mutex_unlock(&play->hands_lock);
}

/* ---- nodes ----------------------------------------------------------------------------- */

/* In a steady round group 0 is left in peace. */
static bool node_is_steady(const struct p2p_play *play, const struct p2p_node *node)
{
	return atomic_load(&play->is_steady) && node->group == 0;
}

static struct p2p_node *node_any(struct p2p_play *play, struct p2p_hand *hand)
{
	return &play->world->nodes[random_below(&hand->random, P2P_NODES)];
}

static struct p2p_node *node_of_group(struct p2p_play *play, struct p2p_hand *hand, uint32_t group)
{
	return &play->world->nodes[group * P2P_IDENTITIES +
		random_below(&hand->random, P2P_IDENTITIES)];
}

/* What a membership that comes and goes may make of a call: it is not there. */
static const HRESULT *gone_answers(const struct p2p_node *node)
{
	static const HRESULT gone[] = {PEER_E_NOT_FOUND, S_OK};

	return node->invitation != NULL && atomic_load(&node->deletes_begun) > 0 ? gone : NULL;
}

/* ---- groups ---------------------------------------------------------------------------- */

static struct p2p_handle *group_join(struct p2p_play *play, struct p2p_node *node)
{
	struct p2p_handle *handle = p2p_handle_begin(play->audit, node);
	struct p2p_before before;
	HGROUP value = NULL;
	HRESULT result;

	if (handle == NULL)
		return NULL;
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupJoin, NULL, &before);
	result = PeerGroupJoin(node->identity_name, node->invitation, NULL, &value);
	/* Deleted again before it was opened. */
	if (p2p_call_end(play->audit, &before, result, gone_answers(node)))
		P2P_COUNT(play->audit, groups_joined);
	else
		value = NULL;
	p2p_handle_end(play->audit, handle, value);
	return value != NULL ? handle : NULL;
}

struct p2p_handle *p2p_group_open(struct p2p_play *play, struct p2p_node *node, bool is_anchor)
{
	struct p2p_handle *handle = p2p_handle_begin(play->audit, node);
	struct p2p_before before;
	HGROUP value = NULL;
	HRESULT result;

	if (handle == NULL)
		return NULL;
	handle->is_anchor = is_anchor;
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupOpen, NULL, &before);
	result = PeerGroupOpen(node->identity_name, node->group_name, NULL, &value);
	if (p2p_call_end(play->audit, &before, result, gone_answers(node)))
		P2P_COUNT(play->audit, groups_opened);
	else
		value = NULL;
	p2p_handle_end(play->audit, handle, value);
	if (result == PEER_E_NOT_FOUND && node->invitation != NULL && !is_anchor)
		return group_join(play, node);
	return value != NULL ? handle : NULL;
}

void p2p_group_close(struct p2p_play *play, struct p2p_handle *handle)
{
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupClose, handle, &before);
	atomic_fetch_add(&handle->ends_begun, 1);
	if (p2p_call_end(play->audit, &before, PeerGroupClose(handle->value), NULL)) {
		atomic_store(&handle->death, "since it was closed");
		P2P_COUNT(play->audit, groups_closed);
	}
	p2p_handle_forget(play->audit, handle);
}

void p2p_address_learn(struct p2p_play *play, struct p2p_handle *handle)
{
	struct p2p_node *node = handle->node;
	struct p2p_before before;
	PEER_MEMBER **items = NULL;
	HPEERENUM members = NULL;
	ULONG count = 1;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupEnumMembers, handle, &before);
	if (!p2p_call_end(play->audit, &before,
		    PeerGroupEnumMembers(handle->value, 0, node->identity_name, &members), NULL))
		return;
	if (SUCCEEDED(PeerGetNextItem(members, &count, (PVOID **)&items)) && count == 1 &&
		items[0]->cAddresses > 0)
		atomic_store(&node->port, ntohs(items[0]->pAddresses[0].sin6.sin6_port));
	PeerFreeData(items);
	(void)PeerEndEnumeration(members);
}

void p2p_group_connect(struct p2p_play *play, struct p2p_handle *handle, const struct p2p_node *by)
{
	struct p2p_before before;
	PEER_ADDRESS address;
	struct ph_hub *hub;
	HRESULT result;
	uint64_t tag;
	char text[32];

	p2p_listen_text(handle->node, text);
	pthread_mutex_lock(&play->world->listen_lock);
	if (FAILED(PeerhubSetListen(text)))
		p2p_violation(play->audit, "PeerhubSetListen refused %s", text);
	if (by != NULL && p2p_node_address(by, &address)) {
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupConnectByAddress, handle, &before);
		result = PeerGroupConnectByAddress(handle->value, 1, &address);
	} else {
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupConnect, handle, &before);
		result = PeerGroupConnect(handle->value);
	}
	(void)p2p_call_end(play->audit, &before, result, NULL);
	pthread_mutex_unlock(&play->world->listen_lock);
	if (FAILED(result))
		return;
	p2p_address_learn(play, handle);
	if (SUCCEEDED(PeerhubGroupNative(handle->value, &hub, &tag)))
		atomic_store(&play->hub, hub);
}

bool p2p_group_status(struct p2p_play *play, struct p2p_handle *handle, DWORD *status)
{
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupGetStatus, handle, &before);
	return p2p_call_end(play->audit, &before, PeerGroupGetStatus(handle->value, status), NULL);
}

/* ---- registrations --------------------------------------------------------------------- */

static void pump_locked(
	struct p2p_play *play, struct p2p_registration *registration, uint32_t count_max)
{
	for (uint32_t i = 0; i < count_max; i++) {
		PEER_GROUP_EVENT_DATA *event = NULL;
		struct p2p_before before;
		HRESULT result;

		p2p_call_begin(play->audit, P2P_CALL_PeerGroupGetEventData, NULL, &before);
		result = PeerGroupGetEventData(registration->value, &event);
		if (result == E_INVALIDARG && registration->is_anchor)
			p2p_violation(play->audit, "the anchor of node %u has ended",
				registration->node->number);
		if (!p2p_call_end(play->audit, &before, result, NULL)) {
			if (event != NULL)
				p2p_violation(play->audit, "GetEventData failed and left a block");
			return;
		}
		p2p_event(play->audit, registration, event);
		PeerFreeData(event);
		atomic_fetch_add(play->beats, 1);
	}
}

void p2p_pump(struct p2p_play *play, struct p2p_registration *registration, uint32_t count_max)
{
	pthread_mutex_lock(&registration->lock);
	if (registration->value != NULL)
		pump_locked(play, registration, count_max);
	pthread_mutex_unlock(&registration->lock);
}

static void act_in_callback(struct p2p_play *play, struct p2p_registration *registration);

/* On a thread of the wait pool. The place may be another registration's by now: then that one's
 * events are taken, which does no harm. */
static VOID CALLBACK on_signal(PVOID context, BOOLEAN has_timed_out)
{
	struct p2p_registration *registration = context;
	struct p2p_play *play = registration->play;

	(void)has_timed_out;
	atomic_fetch_add(&play->callbacks, 1);
	p2p_pump(play, registration, PUMP_MAX);
	act_in_callback(play, registration);
	/* An auto-reset event is signalled once for all that were queued: leave none behind. */
	p2p_pump(play, registration, UINT32_MAX);
	atomic_fetch_sub(&play->callbacks, 1);
}

static struct p2p_registration *registration_take(
	struct p2p_play *play, struct p2p_node *node, bool is_anchor)
{
	struct p2p_audit *audit = play->audit;
	struct p2p_registration *registration = NULL;

	pthread_mutex_lock(&audit->lock);
	for (uint32_t i = 0; i < P2P_REGISTRATIONS && registration == NULL; i++)
		if (!audit->registrations[i].is_live && !audit->registrations[i].is_busy)
			registration = &audit->registrations[i];
	if (registration != NULL)
		registration->is_busy = true;
	pthread_mutex_unlock(&audit->lock);
	if (registration == NULL)
		return NULL;
	pthread_mutex_lock(&registration->lock);
	registration->node = node;
	registration->generation++;
	registration->value = NULL;
	registration->event = NULL;
	registration->wait = NULL;
	registration->is_anchor = is_anchor;
	pthread_mutex_unlock(&registration->lock);
	return registration;
}

static void registration_give(
	struct p2p_play *play, struct p2p_registration *registration, bool is_live)
{
	pthread_mutex_lock(&play->audit->lock);
	registration->is_live = is_live;
	registration->is_busy = false;
	pthread_mutex_unlock(&play->audit->lock);
}

static uint32_t types_choose(struct p2p_hand *hand, bool is_anchor,
	PEER_GROUP_EVENT_REGISTRATION entries[8], uint32_t *types)
{
	static const PEER_GROUP_EVENT_TYPE all[] = {PEER_GROUP_EVENT_DIRECT_CONNECTION,
		PEER_GROUP_EVENT_INCOMING_DATA, PEER_GROUP_EVENT_NEIGHBOR_CONNECTION,
		PEER_GROUP_EVENT_STATUS_CHANGED, PEER_GROUP_EVENT_MEMBER_CHANGED,
		PEER_GROUP_EVENT_CONNECTION_FAILED, PEER_GROUP_EVENT_PROPERTY_CHANGED};
	uint32_t count = 0;

	*types = 0;
	for (uint32_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		/* The first three are the subject; the anchor has it all. */
		if (!is_anchor && !random_permille(&hand->random, i < 2 ? 800 : 300))
			continue;
		entries[count++] = (PEER_GROUP_EVENT_REGISTRATION){.eventType = all[i]};
		*types |= 1u << all[i];
	}
	if (count == 0) {
		entries[count++] = (PEER_GROUP_EVENT_REGISTRATION){.eventType = all[0]};
		*types = 1u << all[0];
	}
	return count;
}

/* Under the registration's lock: events of the time before it is released are judged as its own. */
static bool register_locked(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle,
	struct p2p_registration *registration)
{
	PEER_GROUP_EVENT_REGISTRATION entries[8];
	uint32_t count = types_choose(hand, registration->is_anchor, entries, &registration->types);
	struct p2p_before before;
	HRESULT result;

	registration->event = CreateEventW(NULL, FALSE, FALSE, NULL);
	if (registration->event == NULL)
		return false;
	/* A wait that is there before the registration sees its very first signal. */
	if (random_permille(&hand->random, 700) &&
		!RegisterWaitForSingleObject(&registration->wait, registration->event, on_signal,
			registration, INFINITE, 0))
		registration->wait = NULL;
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupRegisterEvent, handle, &before);
	result = PeerGroupRegisterEvent(
		handle->value, registration->event, count, entries, &registration->value);
	registration->tick = atomic_fetch_add(&play->audit->tick, 1);
	/* Ended while it was being made: its group was closed meanwhile. */
	if (!p2p_call_end(play->audit, &before, result,
		    registration->is_anchor ? NULL : ANSWERS(E_INVALIDARG)))
		registration->value = NULL;
	return registration->value != NULL;
}

static void wait_end(struct p2p_registration *registration, bool is_last)
{
	if (registration->wait != NULL)
		(void)UnregisterWaitEx(registration->wait, is_last ? INVALID_HANDLE_VALUE : NULL);
	if (registration->event != NULL)
		(void)CloseHandle(registration->event);
	registration->wait = NULL;
	registration->event = NULL;
}

bool p2p_register(
	struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle, bool is_anchor)
{
	struct p2p_registration *registration = registration_take(play, handle->node, is_anchor);
	bool is_made;

	if (registration == NULL)
		return false;
	pthread_mutex_lock(&registration->lock);
	is_made = register_locked(play, hand, handle, registration);
	if (!is_made) {
		registration->is_anchor = false;
		wait_end(registration, false);
	}
	pthread_mutex_unlock(&registration->lock);
	registration_give(play, registration, is_made);
	if (is_made)
		P2P_COUNT(play->audit, registrations);
	return is_made;
}

/* For its end, or (not `is_ending`) for a moment: some live one that nobody ends. */
static struct p2p_registration *registration_pick(
	struct p2p_play *play, struct p2p_hand *hand, bool is_ending)
{
	uint32_t first = random_below(&hand->random, P2P_REGISTRATIONS);
	struct p2p_registration *registration = NULL;

	pthread_mutex_lock(&play->audit->lock);
	for (uint32_t i = 0; i < P2P_REGISTRATIONS && registration == NULL; i++) {
		struct p2p_registration *at =
			&play->audit->registrations[(first + i) % P2P_REGISTRATIONS];

		if (at->is_live && !at->is_busy && !(is_ending && at->is_anchor))
			registration = at;
	}
	if (registration != NULL && is_ending)
		registration->is_busy = true;
	pthread_mutex_unlock(&play->audit->lock);
	return registration;
}

/* It is busy, and ours. Without its lock: an event may be under way, and somebody taking it. */
static void registration_finish(
	struct p2p_play *play, struct p2p_registration *registration, bool is_last)
{
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupUnregisterEvent, NULL, &before);
	(void)p2p_call_end(
		play->audit, &before, PeerGroupUnregisterEvent(registration->value), NULL);
	if (is_last)
		wait_end(registration, true);
	pthread_mutex_lock(&registration->lock);
	registration->value = NULL;
	registration->is_anchor = false;
	wait_end(registration, false);
	pthread_mutex_unlock(&registration->lock);
	registration_give(play, registration, false);
}

void p2p_unregister(struct p2p_play *play, struct p2p_registration *registration, bool is_last)
{
	bool is_mine;

	pthread_mutex_lock(&play->audit->lock);
	is_mine = registration->is_live && !registration->is_busy;
	registration->is_busy |= is_mine;
	pthread_mutex_unlock(&play->audit->lock);
	if (is_mine)
		registration_finish(play, registration, is_last);
}

/* ---- connections ----------------------------------------------------------------------- */

uint64_t p2p_dial(struct p2p_play *play, struct p2p_handle *handle, const struct p2p_node *target)
{
	uint64_t tick = atomic_fetch_add(&play->audit->tick, 1);
	bool is_self = target->identity == handle->node->identity;
	struct p2p_before before;
	PEER_ADDRESS address;
	ULONGLONG id = 0;
	HRESULT result;

	if (!p2p_node_address(target, &address))
		return 0;
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupOpenDirectConnection, handle, &before);
	result = PeerGroupOpenDirectConnection(handle->value, target->identity_name, &address, &id);
	if (is_self && result == S_OK)
		p2p_violation(play->audit, "OpenDirectConnection to oneself was accepted");
	if (is_self)
		(void)p2p_call_end(play->audit, &before, result, ANSWERS(PEER_E_CONNECT_SELF));
	else if (node_is_steady(play, handle->node))
		(void)p2p_call_end(play->audit, &before, result, NULL);
	else
		(void)p2p_call_end(play->audit, &before, result, ANSWERS(PEER_E_GROUP_NOT_READY));
	if (is_self)
		P2P_COUNT(play->audit, dials_refused_self);
	if (result == S_OK) {
		atomic_fetch_add(&play->dials, 1);
		p2p_link_opened(play->audit, handle->node, id, tick);
	} else if (id != 0)
		p2p_violation(play->audit, "OpenDirectConnection failed and left an id");
	return id;
}

void p2p_send_one(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle,
	uint64_t id, uint32_t bytes_max)
{
	struct p2p_before before;
	struct message_head head;
	struct p2p_send send;
	uint8_t type[16];
	GUID guid;
	bool is_sent;

	if (!p2p_send_begin(play->audit, handle->node, id, &hand->random, &send))
		return;
	head = (struct message_head){.sender = id,
		.lane = send.lane,
		.sequence = send.sequence,
		.bytes = MESSAGE_HEAD_BYTES +
			random_below(&hand->random, bytes_max - MESSAGE_HEAD_BYTES + 1)};
	message_write(&head, hand->payload, type);
	memcpy(&guid, type, sizeof(guid));
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupSendData, handle, &before);
	is_sent = p2p_call_end(play->audit, &before,
		PeerGroupSendData(handle->value, id, &guid, head.bytes, hand->payload), NULL);
	p2p_send_end(play->audit, &send, is_sent);
}

void p2p_close_one(struct p2p_play *play, struct p2p_handle *handle, uint64_t id)
{
	bool must_fail = p2p_close_begin(play->audit, handle->node, id);
	struct p2p_before before;
	bool has_won;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupCloseDirectConnection, handle, &before);
	has_won = p2p_call_end(
		play->audit, &before, PeerGroupCloseDirectConnection(handle->value, id), NULL);
	p2p_close_end(play->audit, id, has_won, must_fail);
}

uint32_t p2p_close_listed(struct p2p_play *play, struct p2p_handle *handle, uint32_t count_max)
{
	struct p2p_before before;
	PEER_CONNECTION_INFO **items = NULL;
	HPEERENUM connections = NULL;
	ULONG count = count_max;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupEnumConnections, handle, &before);
	if (!p2p_call_end(play->audit, &before,
		    PeerGroupEnumConnections(handle->value, PEER_CONNECTION_DIRECT, &connections),
		    NULL))
		return 0;
	if (FAILED(PeerGetNextItem(connections, &count, (PVOID **)&items)))
		count = 0;
	for (ULONG i = 0; i < count; i++) {
		if (items[i]->dwFlags != PEER_CONNECTION_DIRECT || items[i]->pwzPeerId == NULL)
			p2p_violation(play->audit, "a listed connection has wrong fields");
		p2p_close_one(play, handle, items[i]->ullConnectionId);
	}
	PeerFreeData(items);
	(void)PeerEndEnumeration(connections);
	return count;
}

/* ---- enumerations ---------------------------------------------------------------------- */

static void enumeration_keep(struct p2p_play *play, struct p2p_hand *hand, HPEERENUM value)
{
	uint32_t place = random_below(&hand->random, P2P_ENUMERATIONS);
	uint64_t old = atomic_exchange(&play->enumerations[place], (uint64_t)(uintptr_t)value);
	struct p2p_before before;

	if (old == 0)
		return;
	p2p_call_begin(play->audit, P2P_CALL_PeerEndEnumeration, NULL, &before);
	(void)p2p_call_end(
		play->audit, &before, PeerEndEnumeration((HPEERENUM)(uintptr_t)old), NULL);
}

void p2p_enumeration_end(struct p2p_play *play, uint32_t place)
{
	uint64_t old = atomic_exchange(&play->enumerations[place], 0);

	if (old != 0) /* the library may have ended it */
		(void)PeerEndEnumeration((HPEERENUM)(uintptr_t)old);
}

/* Two threads may read one enumeration, a third end it. */
static void enumeration_read(struct p2p_play *play, struct p2p_hand *hand)
{
	uint32_t place = random_below(&hand->random, P2P_ENUMERATIONS);
	HPEERENUM value = (HPEERENUM)(uintptr_t)atomic_load(&play->enumerations[place]);
	ULONG wanted = random_below(&hand->random, 4), count = wanted;
	struct p2p_before before;
	PVOID *items = NULL;
	HRESULT result;

	if (random_permille(&hand->random, 300)) {
		p2p_call_begin(play->audit, P2P_CALL_PeerGetItemCount, NULL, &before);
		(void)p2p_call_end(play->audit, &before, PeerGetItemCount(value, &count), NULL);
		return;
	}
	p2p_call_begin(play->audit, P2P_CALL_PeerGetNextItem, NULL, &before);
	result = PeerGetNextItem(value, &count, &items);
	if (p2p_call_end(play->audit, &before, result, NULL) &&
		(count > wanted || (count == 0) != (items == NULL)))
		p2p_violation(play->audit, "GetNextItem gave %u of %u", count, wanted);
	PeerFreeData(items);
	/* What was given back is left alone when it is given back again. */
	if (random_permille(&hand->random, 20))
		PeerFreeData((const void *)(uintptr_t)random_next(&hand->random));
}

static void enumeration_make(
	struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	const struct p2p_node *node = handle->node;
	struct p2p_before before;
	HPEERENUM value = NULL;
	bool is_made;

	switch (random_below(&hand->random, 4)) {
	case 0:
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupEnumConnections, handle, &before);
		is_made = p2p_call_end(play->audit, &before,
			PeerGroupEnumConnections(
				handle->value, 1 + random_below(&hand->random, 3), &value),
			NULL);
		break;
	case 1:
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupEnumMembers, handle, &before);
		is_made = p2p_call_end(play->audit, &before,
			PeerGroupEnumMembers(handle->value, random_below(&hand->random, 2),
				random_permille(&hand->random, 500) ? node->identity_name : NULL,
				&value),
			NULL);
		break;
	case 2:
		p2p_call_begin(play->audit, P2P_CALL_PeerEnumIdentities, NULL, &before);
		is_made = p2p_call_end(play->audit, &before, PeerEnumIdentities(&value), NULL);
		break;
	default:
		p2p_call_begin(play->audit, P2P_CALL_PeerEnumGroups, NULL, &before);
		is_made = p2p_call_end(
			play->audit, &before, PeerEnumGroups(node->identity_name, &value), NULL);
		break;
	}
	if (is_made)
		enumeration_keep(play, hand, value);
}

/* ---- identities, invitations, properties ----------------------------------------------- */

/* One call that hands out a text. */
#define TEXT_CALL(name, handle, also, ...)                                                    \
	do {                                                                                  \
		struct p2p_before before_;                                                    \
		PWSTR text_ = NULL;                                                           \
		p2p_call_begin(play->audit, P2P_CALL_##name, (handle), &before_);             \
		if (p2p_call_end(play->audit, &before_, name(__VA_ARGS__, &text_), (also)) == \
			(text_ == NULL))                                                      \
			p2p_violation(play->audit, #name " and its text do not agree");       \
		PeerFreeData(text_);                                                          \
	} while (0)

/* Out with a password and in again: it is there already. */
static void identity_copy(struct p2p_play *play, const WCHAR *name)
{
	struct p2p_before before;
	PWSTR text = NULL, imported = NULL;

	p2p_call_begin(play->audit, P2P_CALL_PeerIdentityExport, NULL, &before);
	if (!p2p_call_end(play->audit, &before, PeerIdentityExport(name, u"secret", &text), NULL))
		return;
	p2p_call_begin(play->audit, P2P_CALL_PeerIdentityImport, NULL, &before);
	if (p2p_call_end(
		    play->audit, &before, PeerIdentityImport(text, u"secret", &imported), NULL))
		p2p_violation(
			play->audit, "PeerIdentityImport of an identity that is there worked");
	PeerFreeData(imported);
	PeerFreeData(text);
}

static void identity_look(struct p2p_play *play, struct p2p_hand *hand)
{
	const WCHAR *name = play->world->identities[random_below(&hand->random, P2P_IDENTITIES)];
	struct p2p_before before;
	PWSTR text = NULL;

	if (random_permille(&hand->random, 5)) {
		identity_copy(play, name);
		return;
	}
	switch (random_below(&hand->random, 5)) {
	case 0:
		TEXT_CALL(PeerIdentityGetXML, NULL, NULL, name);
		break;
	case 1:
		TEXT_CALL(PeerIdentityGetFriendlyName, NULL, NULL, name);
		break;
	case 2:
		p2p_call_begin(play->audit, P2P_CALL_PeerIdentitySetFriendlyName, NULL, &before);
		(void)p2p_call_end(play->audit, &before,
			PeerIdentitySetFriendlyName(name, u"a spinner"), NULL);
		break;
	case 3:
		TEXT_CALL(PeerCreatePeerName, NULL, NULL, name, u"of a spinner");
		break;
	default:
		p2p_call_begin(play->audit, P2P_CALL_PeerIdentityGetDefault, NULL, &before);
		(void)p2p_call_end(play->audit, &before, PeerIdentityGetDefault(&text), NULL);
		PeerFreeData(text);
		break;
	}
}

/* An identity, and sometimes a group of it, that come and go. */
static void identity_passing(struct p2p_play *play, struct p2p_hand *hand)
{
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties)};
	struct p2p_before before;
	PWSTR name = NULL;
	HGROUP group = NULL;

	p2p_call_begin(play->audit, P2P_CALL_PeerIdentityCreate, NULL, &before);
	if (!p2p_call_end(play->audit, &before, PeerIdentityCreate(NULL, NULL, 0, &name), NULL))
		return;
	properties.pwzCreatorPeerName = name;
	if (random_permille(&hand->random, 500)) {
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupCreate, NULL, &before);
		if (p2p_call_end(play->audit, &before, PeerGroupCreate(&properties, &group), NULL))
			P2P_COUNT(play->audit, groups_opened);
	}
	if (group != NULL)
		(void)PeerGroupClose(group); /* or the library ended it */
	/* Its group, if there is one, keeps it from being deleted; the store goes with the run. */
	p2p_call_begin(play->audit, P2P_CALL_PeerIdentityDelete, NULL, &before);
	(void)p2p_call_end(play->audit, &before, PeerIdentityDelete(name),
		group != NULL ? ANSWERS(PEER_E_GROUPS_EXIST) : NULL);
	PeerFreeData(name);
}

static void invite(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	/* Whoever was never online cannot invite. */
	const HRESULT *also =
		node_is_steady(play, handle->node) ? NULL : ANSWERS(PEER_E_GROUP_NOT_READY);
	/* Nobody of one's own chain can be invited: neither the creator nor oneself. */
	uint32_t guest = handle->node->identity == 1 ? 2 : 1;
	PEER_INVITATION_INFO *info = NULL;
	struct p2p_before before;
	PWSTR text = NULL;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupCreateInvitation, handle, &before);
	if (!p2p_call_end(play->audit, &before,
		    PeerGroupCreateInvitation(handle->value, play->world->identity_xml[guest], NULL,
			    1, &PEER_GROUP_ROLE_MEMBER, &text),
		    also))
		return;
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupParseInvitation, NULL, &before);
	(void)p2p_call_end(play->audit, &before, PeerGroupParseInvitation(text, &info), NULL);
	PeerFreeData(info);
	PeerFreeData(text);
	if (random_permille(&hand->random, 300))
		TEXT_CALL(PeerGroupIssueCredentials, handle, also, handle->value,
			play->world->identities[guest], NULL, 0);
}

static void properties_look(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	const HRESULT *also =
		node_is_steady(play, handle->node) ? NULL : ANSWERS(PEER_E_GROUP_NOT_READY);
	PEER_GROUP_PROPERTIES *properties = NULL;
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupGetProperties, handle, &before);
	if (!p2p_call_end(
		    play->audit, &before, PeerGroupGetProperties(handle->value, &properties), also))
		return;
	if (random_permille(&hand->random, 300)) {
		WCHAR comment[] = u"a comment";

		properties->pwzComment = comment;
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupSetProperties, handle, &before);
		(void)p2p_call_end(play->audit, &before,
			PeerGroupSetProperties(handle->value, properties),
			handle->node->invitation == NULL
				? also
				: ANSWERS(PEER_E_NOT_AUTHORIZED, PEER_E_GROUP_NOT_READY));
	}
	PeerFreeData(properties);
}

static void time_convert(struct p2p_play *play, struct p2p_handle *handle)
{
	const HRESULT *also =
		node_is_steady(play, handle->node) ? NULL : ANSWERS(PEER_E_GROUP_NOT_READY);
	FILETIME time = {.dwLowDateTime = 1, .dwHighDateTime = 2};
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupPeerTimeToUniversalTime, handle, &before);
	(void)p2p_call_end(play->audit, &before,
		PeerGroupPeerTimeToUniversalTime(handle->value, &time, &time), also);
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupUniversalTimeToPeerTime, handle, &before);
	(void)p2p_call_end(play->audit, &before,
		PeerGroupUniversalTimeToPeerTime(handle->value, &time, &time), also);
}

/* ---- handles and ids that are none ----------------------------------------------------- */

static void stranger(struct p2p_play *play, struct p2p_hand *hand)
{
	HANDLE made_up =
		(HANDLE)(uintptr_t)(random_next(&hand->random) >> random_below(&hand->random, 60));
	PEER_GROUP_EVENT_DATA *event = NULL;
	enum p2p_call call;
	struct p2p_before before;
	HRESULT result, wanted = PEER_E_INVALID_GROUP;
	DWORD status;

	switch (random_below(&hand->random, 6)) {
	case 0:
		call = P2P_CALL_PeerGroupClose;
		p2p_call_begin(play->audit, call, NULL, &before);
		result = PeerGroupClose(made_up);
		break;
	case 1:
		call = P2P_CALL_PeerGroupCloseDirectConnection;
		p2p_call_begin(play->audit, call, NULL, &before);
		result = PeerGroupCloseDirectConnection(made_up, random_next(&hand->random));
		break;
	case 2:
		call = P2P_CALL_PeerGroupGetStatus;
		p2p_call_begin(play->audit, call, NULL, &before);
		result = PeerGroupGetStatus(made_up, &status);
		break;
	case 3:
		call = P2P_CALL_PeerGroupUnregisterEvent;
		wanted = E_INVALIDARG;
		p2p_call_begin(play->audit, call, NULL, &before);
		result = PeerGroupUnregisterEvent(made_up);
		break;
	case 4:
		call = P2P_CALL_PeerGroupGetEventData;
		wanted = E_INVALIDARG;
		p2p_call_begin(play->audit, call, NULL, &before);
		result = PeerGroupGetEventData(made_up, &event);
		break;
	default:
		call = P2P_CALL_PeerEndEnumeration;
		wanted = E_INVALIDARG;
		p2p_call_begin(play->audit, call, NULL, &before);
		result = PeerEndEnumeration(made_up);
		break;
	}
	p2p_call_end_stranger(play->audit, &before, result, wanted);
}

/* Ids of other nodes, of none, and ended ones. */
static void stale_id(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	uint64_t id = p2p_link_pick(play->audit, &hand->random, handle->node, true);
	struct p2p_before before;
	HRESULT result;

	if (id != 0 && random_permille(&hand->random, 500)) {
		if (random_permille(&hand->random, 500))
			p2p_send_one(play, hand, handle, id, SMALL_BYTES_MAX);
		else
			p2p_close_one(play, handle, id);
		return;
	}
	id = random_next(&hand->random) >> random_below(&hand->random, 60);
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupSendData, handle, &before);
	result = PeerGroupSendData(handle->value, id, &PEER_GROUP_ROLE_ADMIN, 1, hand->payload);
	if (p2p_call_end(play->audit, &before, result, NULL))
		p2p_violation(play->audit, "SendData on the made-up id %#llx was accepted",
			(unsigned long long)id);
}

/* ---- the library and memberships come and go ------------------------------------------- */

static HRESULT startup(struct p2p_play *play)
{
	HRESULT result;

	fault_memory_spare_making();
	result = p2p_startup(play->world);
	fault_memory_spare_making_end();
	return result;
}

/* A start and its end around a few calls: the count may keep the library up alone. */
static void pair(struct p2p_play *play, struct p2p_hand *hand)
{
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupStartup, NULL, &before);
	if (!p2p_call_end(play->audit, &before, startup(play), NULL))
		return;
	P2P_COUNT(play->audit, startups);
	rest(hand, 3000);
	p2p_call_begin(play->audit, P2P_CALL_PeerGroupShutdown, NULL, &before);
	if (!p2p_call_end(play->audit, &before, p2p_shutdown(play->world), NULL))
		p2p_violation(play->audit, "a PeerGroupShutdown for a start of ours failed");
}

void p2p_library_start(struct p2p_play *play)
{
	struct p2p_before before;
	bool is_started;

	do {
		p2p_call_begin(play->audit, P2P_CALL_PeerGroupStartup, NULL, &before);
		is_started = p2p_call_end(play->audit, &before, startup(play), NULL);
	} while (!is_started && play->audit->is_failing);
	P2P_COUNT(play->audit, startups);
}

void p2p_library_stop(struct p2p_play *play)
{
	struct p2p_before before;

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupShutdown, NULL, &before);
	if (!p2p_call_end(play->audit, &before, p2p_shutdown(play->world), NULL))
		p2p_violation(play->audit, "a PeerGroupShutdown for a start of ours failed");
	atomic_store(&play->hub, NULL);
}

/* The last end, if nobody else has a pair open, while others are inside calls. */
static void cycle(struct p2p_play *play, struct p2p_hand *hand)
{
	if (pthread_mutex_trylock(&play->base_lock) != 0)
		return;
	p2p_library_stop(play);
	if (random_permille(&hand->random, 500))
		rest(hand, 2000);
	p2p_library_start(play);
	pthread_mutex_unlock(&play->base_lock);
}

static void membership_delete(struct p2p_play *play, struct p2p_node *node)
{
	struct p2p_before before;
	uint64_t number = atomic_fetch_add(&node->deletes_begun, 1) + 1;
	uint64_t done = atomic_load(&node->delete_done);

	p2p_call_begin(play->audit, P2P_CALL_PeerGroupDelete, NULL, &before);
	if (p2p_call_end(play->audit, &before,
		    PeerGroupDelete(node->identity_name, node->group_name), gone_answers(node))) {
		P2P_COUNT(play->audit, groups_deleted);
		while (done < number &&
			!atomic_compare_exchange_weak(&node->delete_done, &done, number))
			;
	}
	atomic_fetch_add(&node->deletes_ended, 1);
}

/* Another handle of some node, online or on its way there. */
static void raise_node(struct p2p_play *play, struct p2p_hand *hand)
{
	struct p2p_node *node = node_any(play, hand);
	struct p2p_node *by =
		random_permille(&hand->random, 600) ? node_of_group(play, hand, node->group) : NULL;
	struct p2p_handle *handle;

	if (p2p_handles_live(play->audit) >= P2P_HANDLES / 2) {
		handle = p2p_handle_pick(play->audit, &hand->random, false);
		if (handle != NULL && !handle->is_anchor)
			p2p_group_close(play, handle);
		if (handle != NULL)
			p2p_handle_put(play->audit, handle);
		return;
	}
	handle = p2p_group_open(play, node, false);
	if (handle == NULL)
		return;
	if (random_permille(&hand->random, 600))
		(void)p2p_register(play, hand, handle, false);
	if (!node_is_steady(play, node))
		p2p_group_connect(play, handle, by != node ? by : NULL);
	p2p_handle_put(play->audit, handle);
}

/* ---- an actor's operation -------------------------------------------------------------- */

static void burst(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	uint64_t id = p2p_link_pick(play->audit, &hand->random, handle->node, false);
	uint32_t count = 1 + random_below(&hand->random, BURST_MAX);

	if (id == 0)
		return;
	for (uint32_t i = 0; i < count; i++)
		p2p_send_one(play, hand, handle, id,
			random_permille(&hand->random, 20) ? P2P_PAYLOAD_MAX : SMALL_BYTES_MAX);
	/* What was sent a moment ago must still arrive. */
	if (random_permille(&hand->random, 50))
		p2p_close_one(play, handle, id);
}

static void dial(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	struct p2p_node *target = node_of_group(play, hand, handle->node->group);
	uint64_t id;

	if (atomic_load(&play->dials) >= play->connections ||
		p2p_links_count(play->audit) > P2P_LINKS / 2) {
		(void)p2p_close_listed(play, handle, 4);
		return;
	}
	id = p2p_dial(play, handle, target);
	if (id == 0)
		return;
	/* Somewhere in its handshake. */
	if (random_permille(&hand->random, 150)) {
		if (random_permille(&hand->random, 600))
			rest(hand, 3000);
		p2p_close_one(play, handle, id);
	}
}

/* On any handle, live or not; a dead one answers as such. */
static void step_on_group(struct p2p_play *play, struct p2p_hand *hand, struct p2p_handle *handle)
{
	uint32_t dice = random_below(&hand->random, 1000);
	uint64_t id;
	DWORD status;

	if (dice < 240) {
		dial(play, hand, handle);
	} else if (dice < 640) {
		burst(play, hand, handle);
	} else if (dice < 780) {
		id = p2p_link_pick(play->audit, &hand->random, handle->node, false);
		if (id != 0)
			p2p_close_one(play, handle, id);
	} else if (dice < 810) {
		(void)p2p_group_status(play, handle, &status);
	} else if (dice < 870) {
		enumeration_make(play, hand, handle);
	} else if (dice < 910) {
		(void)p2p_register(play, hand, handle, false);
	} else if (dice < 950) {
		stale_id(play, hand, handle);
	} else if (dice < 960) {
		invite(play, hand, handle);
	} else if (dice < 975) {
		properties_look(play, hand, handle);
	} else if (dice < 985) {
		time_convert(play, handle);
	} else if (!node_is_steady(play, handle->node)) {
		p2p_group_connect(play, handle, node_of_group(play, hand, handle->node->group));
	}
}

static void step_elsewhere(struct p2p_play *play, struct p2p_hand *hand)
{
	uint32_t dice = random_below(&hand->random, 1000);
	bool is_steady = atomic_load(&play->is_steady);
	struct p2p_registration *registration;
	struct p2p_node *node;

	if (dice < 350) {
		registration = registration_pick(play, hand, false);
		if (registration != NULL)
			p2p_pump(play, registration, PUMP_MAX);
	} else if (dice < 500) {
		raise_node(play, hand);
	} else if (dice < 560) {
		registration = registration_pick(play, hand, true);
		if (registration != NULL)
			registration_finish(play, registration, false);
	} else if (dice < 660) {
		enumeration_read(play, hand);
	} else if (dice < 760) {
		stranger(play, hand);
	} else if (dice < 840) {
		identity_look(play, hand);
	} else if (dice < 843) {
		identity_passing(play, hand);
	} else if (dice < 880) {
		if (!is_steady)
			pair(play, hand);
	} else if (dice < 900) {
		if (!is_steady)
			cycle(play, hand);
	} else if (dice < 930) {
		node = node_any(play, hand);
		if (node->invitation != NULL && !node_is_steady(play, node))
			membership_delete(play, node);
	} else {
		rest(hand, 1000);
	}
}

/* Close some handle, of its node perhaps the last. */
static void close_some(struct p2p_play *play, struct p2p_handle *handle)
{
	if (!handle->is_anchor)
		p2p_group_close(play, handle);
}

void p2p_step(struct p2p_play *play, struct p2p_hand *hand)
{
	bool is_stale = random_permille(&hand->random, 40);
	struct p2p_handle *handle;

	atomic_fetch_add(play->beats, 1);
	handle = p2p_handle_pick(play->audit, &hand->random, is_stale);
	if (handle == NULL || random_permille(&hand->random, 250))
		step_elsewhere(play, hand);
	else if (random_permille(&hand->random, is_stale ? 200 : 15))
		close_some(play, handle);
	else
		step_on_group(play, hand, handle);
	if (handle != NULL)
		p2p_handle_put(play->audit, handle);
}

/* What a client does where its events are handled: answer, close this or that, leave. */
static void act_in_callback(struct p2p_play *play, struct p2p_registration *registration)
{
	struct p2p_hand *hand;

	(void)registration;
	if (atomic_load(&play->is_calm))
		return;
	hand = p2p_hand_take(play, true);
	if (hand == NULL)
		return;
	if (random_permille(&hand->random, 300))
		p2p_step(play, hand);
	p2p_hand_give(play, hand);
}
