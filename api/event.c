/*
 * Events for the client: register, unregister, take. The queues are in registration.c.
 */
#include "api/group.h"

#include "api/detail.h"
#include "api/event_object.h"
#include "api/handle.h"
#include "api/hresult.h"

struct register_arguments {
	HANDLE event;
	DWORD count;
	const PEER_GROUP_EVENT_REGISTRATION *entries;
	HPEEREVENT *handle;
};

/* The handle table's reference is gone. */
static void registration_destroy(void *object)
{
	registration_put(object);
}

/* It has a handle; now it gets events. A group that is closed meanwhile takes it away again, or we
 * do: one of the two sees the other. */
static HRESULT register_start(struct group *group, struct registration *registration)
{
	HRESULT result = node_register(group->node, registration);

	if (SUCCEEDED(result) && atomic_load(&group->is_closed)) {
		node_unregister(registration);
		result = PEER_E_INVALID_GROUP;
	}
	return result;
}

static HRESULT register_create(struct group *group, const struct register_arguments *arguments,
	struct registration **created)
{
	struct event_object *object = event_object_get(arguments->event);
	HRESULT result;
	int status;

	if (object == NULL)
		return detail_fail(E_INVALIDARG, "hEvent is not an event object");
	result = registration_create(
		group->node, object, arguments->count, arguments->entries, created);
	if (FAILED(result)) {
		event_object_put(object);
		return detail_fail(result, "the registrations: none, too many, or an unknown type");
	}
	(*created)->owner = group;
	registration_get(*created); /* the handle's */
	status = handle_create(
		HANDLE_PEER_EVENT, *created, registration_destroy, &(*created)->handle);
	if (status == 0)
		return S_OK;
	registration_put(*created);
	registration_put(*created);
	return hresult_from_status(status);
}

static HRESULT register_event(struct group *group, const struct register_arguments *arguments)
{
	struct registration *registration;
	HRESULT result;

	if (arguments->handle == NULL || arguments->entries == NULL || arguments->count == 0)
		return detail_fail(E_INVALIDARG,
			"phPeerEvent or pEventRegistrations is NULL, or there are no entries");
	result = register_create(group, arguments, &registration);
	if (FAILED(result))
		return result;
	result = register_start(group, registration);
	if (SUCCEEDED(result))
		*arguments->handle = registration->handle;
	else
		registration_handle_end(registration);
	registration_put(registration);
	return result;
}

HRESULT WINAPI PeerGroupRegisterEvent(HGROUP hGroup, HANDLE hEvent, DWORD cEventRegistration,
	PEER_GROUP_EVENT_REGISTRATION *pEventRegistrations, HPEEREVENT *phPeerEvent)
{
	const struct register_arguments arguments = {.event = hEvent,
		.count = cEventRegistration,
		.entries = pEventRegistrations,
		.handle = phPeerEvent};
	struct group *group;
	HRESULT result;

	if (phPeerEvent != NULL)
		*phPeerEvent = NULL;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = register_event(group, &arguments);
	group_leave(hGroup);
	return result;
}

HRESULT WINAPI PeerGroupUnregisterEvent(HPEEREVENT hPeerEvent)
{
	struct registration *registration;

	detail_clear();
	if (!runtime_is_started())
		return PEER_E_NOT_INITIALIZED;
	registration = handle_get(HANDLE_PEER_EVENT, hPeerEvent);
	if (registration == NULL)
		return detail_fail(E_INVALIDARG, "hPeerEvent is not a registration");
	if (!handle_revoke(HANDLE_PEER_EVENT, hPeerEvent)) {
		handle_put(hPeerEvent);
		return detail_fail(E_INVALIDARG, "hPeerEvent is not a registration any more");
	}
	node_unregister(registration);
	handle_put(hPeerEvent); /* the table's */
	handle_put(hPeerEvent);
	return S_OK;
}

HRESULT WINAPI PeerGroupGetEventData(HPEEREVENT hPeerEvent, PPEER_GROUP_EVENT_DATA *ppEventData)
{
	struct registration *registration;
	bool resume;
	HRESULT result;

	if (ppEventData != NULL)
		*ppEventData = NULL;
	if (!runtime_is_started())
		return PEER_E_NOT_INITIALIZED;
	registration = handle_get(HANDLE_PEER_EVENT, hPeerEvent);
	if (registration == NULL || ppEventData == NULL) {
		if (registration != NULL)
			handle_put(hPeerEvent);
		detail_clear();
		return detail_fail(E_INVALIDARG, "hPeerEvent or ppEventData");
	}
	result = registration_take(registration, ppEventData, &resume);
	if (resume)
		node_resume(registration->node);
	handle_put(hPeerEvent);
	return result;
}
