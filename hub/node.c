/*
 * node.c: see node.h.
 */
#include "node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "loop.h"
#include "names.h"
#include "peerhub.h"
#include "peerhub/extras.h"
#include "say.h"
#include "text.h"

#define ADDRESSES_MAX 16u

static void guid_from_type(const uint8_t type[16], GUID *guid)
{
	guid->Data1 = (uint32_t)type[0] << 24 | (uint32_t)type[1] << 16 | (uint32_t)type[2] << 8 |
		type[3];
	guid->Data2 = (uint16_t)(type[4] << 8 | type[5]);
	guid->Data3 = (uint16_t)(type[6] << 8 | type[7]);
	memcpy(guid->Data4, type + 8, 8);
}

void node_type_from_guid(const GUID *guid, uint8_t type[16])
{
	type[0] = (uint8_t)(guid->Data1 >> 24);
	type[1] = (uint8_t)(guid->Data1 >> 16);
	type[2] = (uint8_t)(guid->Data1 >> 8);
	type[3] = (uint8_t)guid->Data1;
	type[4] = (uint8_t)(guid->Data2 >> 8);
	type[5] = (uint8_t)guid->Data2;
	type[6] = (uint8_t)(guid->Data3 >> 8);
	type[7] = (uint8_t)guid->Data3;
	memcpy(type + 8, guid->Data4, 8);
}

/* Registering comes before going online, so that no event is missed. */
static int begin(struct node *node)
{
	PEER_GROUP_EVENT_REGISTRATION registrations[] = {
		{PEER_GROUP_EVENT_STATUS_CHANGED, NULL},
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL},
		{PEER_GROUP_EVENT_NEIGHBOR_CONNECTION, NULL},
		{PEER_GROUP_EVENT_INCOMING_DATA, NULL},
		{PEER_GROUP_EVENT_CONNECTION_FAILED, NULL},
	};
	HRESULT result;

	if (members_init(&node->members, node->group) < 0) {
		say_error("no random numbers");
		return -EIO;
	}
	node->event = CreateEventW(NULL, FALSE, FALSE, NULL);
	if (node->event == NULL) {
		say_error("cannot make an event object: error %u", GetLastError());
		return -EIO;
	}
	result = PeerhubEventDescriptor(node->event, &node->event_fd);
	if (SUCCEEDED(result))
		result = PeerGroupRegisterEvent(node->group, node->event,
			sizeof(registrations) / sizeof(registrations[0]), registrations,
			&node->registration);
	if (SUCCEEDED(result))
		result = PeerhubGroupNative(node->group, &node->hub, &node->tag);
	if (SUCCEEDED(result))
		return 0;
	say_result(result, "cannot register for the events of \"%s\"", node->name);
	return -EIO;
}

int node_open(struct node *node, const char *identity, const char *group)
{
	WCHAR *wide_identity = names_wide(identity), *wide_group = names_wide(group);
	HRESULT result = E_OUTOFMEMORY;

	*node = (struct node){.event_fd = -1};
	node->identity = strdup(identity);
	node->name = strdup(group);
	if (wide_identity != NULL && wide_group != NULL && node->identity != NULL &&
		node->name != NULL)
		result = PeerGroupOpen(wide_identity, wide_group, NULL, &node->group);
	free(wide_identity);
	free(wide_group);
	if (SUCCEEDED(result))
		return begin(node);
	say_result(result, "cannot open the group \"%s\"", group);
	node->group = NULL;
	return -EIO;
}

/* The group's name is in the invitation, which the library has just found to be true. */
static char *invited_group(const WCHAR *invitation)
{
	PPEER_INVITATION_INFO info = NULL;
	HRESULT result;
	char *name;

	result = PeerGroupParseInvitation(invitation, &info);
	if (FAILED(result)) {
		say_result(result, "cannot read the invitation");
		return NULL;
	}
	name = names_narrow(info->pwzGroupPeerName);
	PeerFreeData(info);
	return name;
}

int node_join(struct node *node, const char *identity, const char *invitation, const char *path)
{
	WCHAR *wide_identity = names_wide(identity), *wide = names_wide(invitation);
	HRESULT result;
	int status = -EIO;

	*node = (struct node){.event_fd = -1};
	node->identity = strdup(identity);
	if (wide_identity == NULL || wide == NULL || node->identity == NULL)
		goto done;
	result = PeerGroupJoin(wide_identity, wide, NULL, &node->group);
	if (FAILED(result)) {
		say_result(result, "cannot join with \"%s\"", path);
		node->group = NULL;
		goto done;
	}
	node->name = invited_group(wide);
	if (node->name != NULL)
		status = begin(node);
done:
	free(wide_identity);
	free(wide);
	return status;
}

void node_end(struct node *node)
{
	if (node->registration != NULL)
		(void)PeerGroupUnregisterEvent(node->registration);
	if (node->event != NULL)
		(void)CloseHandle(node->event);
	if (node->group != NULL)
		(void)PeerGroupClose(node->group);
	members_fini(&node->members);
	free(node->identity);
	free(node->name);
	*node = (struct node){.event_fd = -1};
}

void node_events_begin(struct node *node)
{
	/* Auto-reset: a signal taken here has its events behind it, and they are drained next. */
	(void)WaitForSingleObject(node->event, 0);
}

int node_event(struct node *node, PPEER_GROUP_EVENT_DATA *event)
{
	HRESULT result = PeerGroupGetEventData(node->registration, event);

	if (result == S_OK)
		return 1;
	if (result == PEER_S_NO_EVENT_DATA)
		return 0;
	say_result(result, "lost the group \"%s\"", node->name);
	return -EIO;
}

void node_on_connection(struct node *node, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	if (change->status != PEER_CONNECTED) {
		members_remove(&node->members, change->ullConnectionId);
		return;
	}
	if (members_add(&node->members, change->ullConnectionId) == 0)
		return;
	say_error("out of memory: connection refused");
	(void)PeerGroupCloseDirectConnection(node->group, change->ullConnectionId);
}

int node_send(struct node *node, uint64_t connection, const uint8_t type[16], const uint8_t *data,
	size_t bytes)
{
	static uint8_t nothing[1];
	HRESULT result;
	GUID guid;

	if (bytes > PEERHUB_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	guid_from_type(type, &guid);
	/* The parameter is not const in p2p.h, but the library only reads it. */
	result = PeerGroupSendData(node->group, connection, &guid, (ULONG)bytes,
		bytes > 0 ? (void *)(uintptr_t)data : nothing);
	if (SUCCEEDED(result))
		return 0;
	if (result == E_OUTOFMEMORY)
		return -EAGAIN;
	if (result == PEER_E_CONNECTION_NOT_FOUND || result == PEER_E_INVALID_GROUP)
		return -ENOENT;
	say_result(result, "cannot send");
	return -EIO;
}

void node_close_bad(struct node *node, uint64_t connection, uint32_t reason, const char *noun,
	const char *fault)
{
	struct member *member = members_at(&node->members, connection);
	char *shown = member != NULL ? names_word_narrow(member->identity) : NULL;
	char text[PH_TEXT_BYTES_MAX + 1];

	snprintf(text, sizeof(text), "%s: %s", noun, fault);
	/* A hub that logs must not wait here for whoever reads, nor write all that a peer makes it write. */
	if (!log_is_configured())
		say_error("closed the connection of %s: %s",
			shown != NULL ? shown : "an unknown peer", text);
	else if (log_end_may(loop_now_ms()))
		LOG(CONFIG_LOG_INFO, "peer_fault", LOG_N("id", connection),
			LOG_T("identity", member != NULL ? member->identity : ""),
			LOG_T("text", text));
	free(shown);
	/* Already gone is as good. */
	(void)ph_close(connection, node->tag, PH_GRACEFUL, reason, text);
}

DWORD node_status(struct node *node)
{
	DWORD status = 0;

	if (FAILED(PeerGroupGetStatus(node->group, &status)))
		return 0;
	return status;
}

size_t node_addresses(struct node *node, char **addresses, size_t count_max)
{
	struct names_list list = {0};
	const PEER_MEMBER *self;
	HPEERENUM enumeration;
	char text[PH_ADDRESS_TEXT_BYTES];
	size_t count = 0;
	HRESULT result;

	result = PeerGroupEnumMembers(node->group, PEER_MEMBER_PRESENT, NULL, &enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot read our own addresses");
		return 0;
	}
	/* This node comes first. */
	self = list.count > 0 ? list.items[0] : NULL;
	for (ULONG i = 0; self != NULL && i < self->cAddresses && count < count_max; i++) {
		addresses[count] = strdup(ph_address_text(&self->pAddresses[i].sin6, text));
		if (addresses[count] != NULL)
			count++;
	}
	PeerFreeData(list.items);
	return count;
}

int node_say_ready(struct node *node)
{
	char *addresses[ADDRESSES_MAX], *identity, *name;
	size_t count = node_addresses(node, addresses, ADDRESSES_MAX);
	int status = 0;

	identity = names_word_narrow(node->identity);
	name = names_word_narrow(node->name);
	for (size_t i = 1; i < count && status == 0; i++)
		status = say_line("address %s", addresses[i]);
	if (status == 0 && identity != NULL && name != NULL)
		status = say_line("ready %s identity %s group %s", count > 0 ? addresses[0] : "-",
			identity, name);
	for (size_t i = 0; i < count; i++)
		free(addresses[i]);
	free(identity);
	free(name);
	return status < 0 ? -EIO : 0;
}

static bool is_same_address(const PEER_ADDRESS *left, const PEER_ADDRESS *right)
{
	return left->sin6.sin6_port == right->sin6.sin6_port &&
		memcmp(&left->sin6.sin6_addr, &right->sin6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

char *node_neighbor(struct node *node, const PEER_ADDRESS *address, bool exactly)
{
	const PEER_CONNECTION_INFO *found = NULL;
	struct names_list list = {0};
	HPEERENUM enumeration;
	char *name = NULL;
	HRESULT result;

	result = PeerGroupEnumConnections(node->group, PEER_CONNECTION_NEIGHBOR, &enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the neighbors");
		return NULL;
	}
	if (list.count == 1 && !exactly)
		found = list.items[0];
	for (ULONG i = 0; i < list.count; i++)
		if (is_same_address(
			    &((const PEER_CONNECTION_INFO *)list.items[i])->address, address))
			found = list.items[i];
	if (found != NULL && found->pwzPeerId != NULL)
		name = names_narrow(found->pwzPeerId);
	PeerFreeData(list.items);
	return name;
}
