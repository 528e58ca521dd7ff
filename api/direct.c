/*
 * Direct connections: open, close, send, enumerate. Each call checks started, handle, arguments,
 * state, keys, in this order; then it is one call of the engine.
 */
#include "api/group.h"

#include "api/connection.h"
#include "api/detail.h"
#include "api/enumeration.h"
#include "api/hresult.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <string.h>

_Static_assert(PEERHUB_MESSAGE_BYTES_MAX == PH_MESSAGE_BYTES_MAX, "one limit, two names");

/* The type of the engine's own pings; as data of an application it would vanish at the peer. */
static const GUID ping_type = {
	0x0ccbb0d2, 0xbe41, 0x4bd6, {0x91, 0x4b, 0x05, 0x8e, 0xc5, 0xdc, 0xce, 0x64}};

/* The type of revocation.c's messages, in the order of a GUID's fields. */
static const GUID revocation_guid = {
	0x7a1c53be, 0x90d2, 0x4d0f, {0xa6, 0x3e, 0x1b, 0x58, 0xc4, 0x07, 0xe9, 0x62}};

/* ---- open --------------------------------------------------------------------------------- */

struct open_arguments {
	PCWSTR identity;
	const PEER_ADDRESS *address;
	ULONGLONG *id;
};

static HRESULT open_read(const struct open_arguments *arguments, char identity[PH_NAME_BYTES_MAX],
	ph_address *address)
{
	HRESULT result;

	if (arguments->identity == NULL || arguments->address == NULL || arguments->id == NULL)
		return detail_fail(
			E_INVALIDARG, "pwzIdentity, pAddress or pullConnectionId is NULL");
	result = name_from_client(arguments->identity, E_INVALIDARG, identity);
	if (FAILED(result))
		return result;
	/* A member always has a secure name; without an authority nobody could be asked for. */
	if (!peer_name_is_secure(identity))
		return detail_fail(E_INVALIDARG, "pwzIdentity is not a secure peer name");
	if (!address_from_client(arguments->address, address))
		return detail_fail(E_INVALIDARG, "pAddress is not usable");
	return S_OK;
}

static HRESULT open_direct(struct node *node, const struct open_arguments *arguments)
{
	char identity[PH_NAME_BYTES_MAX];
	struct connection_request request = {
		.kind = PH_KIND_DIRECT, .expected = identity, .id = arguments->id};
	HRESULT result = open_read(arguments, identity, &request.address);

	if (FAILED(result))
		return result;
	if (peer_name_same_authority(identity, node->membership->identity))
		return detail_fail(PEER_E_CONNECT_SELF, "pwzIdentity is this node's own");
	if (atomic_load(&node->status) == 0)
		return detail_fail(PEER_E_GROUP_NOT_READY, "the group is offline");
	if (node_is_at(node, &request.address))
		return detail_fail(PEER_E_CONNECT_SELF, "pAddress is this node's own");
	result = store_identity_key_check(node->membership->identity);
	if (FAILED(result))
		return result == PEER_E_NOT_FOUND ? PEER_E_NO_KEY_ACCESS : result;
	return connection_open(node, &request);
}

HRESULT WINAPI PeerGroupOpenDirectConnection(
	HGROUP hGroup, PCWSTR pwzIdentity, PPEER_ADDRESS pAddress, ULONGLONG *pullConnectionId)
{
	const struct open_arguments arguments = {
		.identity = pwzIdentity, .address = pAddress, .id = pullConnectionId};
	struct group *group;
	HRESULT result;

	/* Atomic here and when it is published: programs compare it in their event handlers meanwhile. */
	if (pullConnectionId != NULL)
		__atomic_store_n(pullConnectionId, 0, __ATOMIC_RELAXED);
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = open_direct(group->node, &arguments);
	group_leave(hGroup);
	return result;
}

/* ---- close -------------------------------------------------------------------------------- */

HRESULT WINAPI PeerGroupCloseDirectConnection(HGROUP hGroup, ULONGLONG ullConnectionId)
{
	struct group *group;
	HRESULT result = group_enter(hGroup, &group);

	if (FAILED(result))
		return result;
	result = connection_close(group->node, ullConnectionId);
	group_leave(hGroup);
	return result;
}

/* ---- send --------------------------------------------------------------------------------- */

/* GUID as 16 bytes in big-endian field order. */
static void guid_to_wire(const GUID *guid, uint8_t type[16])
{
	type[0] = (uint8_t)(guid->Data1 >> 24);
	type[1] = (uint8_t)(guid->Data1 >> 16);
	type[2] = (uint8_t)(guid->Data1 >> 8);
	type[3] = (uint8_t)guid->Data1;
	type[4] = (uint8_t)(guid->Data2 >> 8);
	type[5] = (uint8_t)guid->Data2;
	type[6] = (uint8_t)(guid->Data3 >> 8);
	type[7] = (uint8_t)guid->Data3;
	memcpy(type + 8, guid->Data4, sizeof(guid->Data4));
}

static HRESULT send_check(const GUID *type, ULONG bytes, const void *data)
{
	if (type == NULL || data == NULL)
		return detail_fail(E_INVALIDARG, "pType or pvData is NULL");
	if (IsEqualGUID(type, &ping_type) || IsEqualGUID(type, &revocation_guid))
		return detail_fail(E_INVALIDARG, "this type is the protocol's own");
	if (bytes > PEERHUB_MESSAGE_BYTES_MAX)
		return detail_fail(E_INVALIDARG, "cbData is over %u", PEERHUB_MESSAGE_BYTES_MAX);
	return S_OK;
}

HRESULT WINAPI PeerGroupSendData(
	HGROUP hGroup, ULONGLONG ullConnectionId, const GUID *pType, ULONG cbData, PVOID pvData)
{
	struct ph_part part = {.data = pvData, .bytes = cbData};
	struct group *group;
	uint8_t type[16];
	HRESULT result = group_enter(hGroup, &group);

	if (FAILED(result))
		return result;
	result = send_check(pType, cbData, pvData);
	if (SUCCEEDED(result)) {
		guid_to_wire(pType, type);
		/* -EAGAIN, a full queue, is E_OUTOFMEMORY: there is no code for it, and no waiting. */
		result = hresult_from_connection_status(
			ph_send(ullConnectionId, group->node->tag, type, &part, 1));
	}
	group_leave(hGroup);
	return result;
}

/* ---- enumerate ---------------------------------------------------------------------------- */

static const struct enumeration_type connection_enumeration = {
	.scope = ENUMERATION_GROUP,
	.item_bytes = sizeof(struct connection_item),
	.fill = connection_item_fill,
	.fini = connection_item_fini,
};

static HRESULT enum_connections(struct node *node, DWORD flags, HPEERENUM *enumeration)
{
	const DWORD known = PEER_CONNECTION_NEIGHBOR | PEER_CONNECTION_DIRECT;
	struct connection_item *items;
	uint32_t count;
	HRESULT result;

	if (enumeration == NULL || flags == 0 || (flags & ~known) != 0)
		return detail_fail(
			E_INVALIDARG, "phPeerEnum is NULL, or dwFlags is 0 or has unknown bits");
	result = connection_snapshot(node, flags, &items, &count);
	if (FAILED(result))
		return result;
	return hresult_from_status(
		enumeration_create(&connection_enumeration, items, count, enumeration));
}

HRESULT WINAPI PeerGroupEnumConnections(HGROUP hGroup, DWORD dwFlags, HPEERENUM *phPeerEnum)
{
	struct group *group;
	HRESULT result;

	if (phPeerEnum != NULL)
		*phPeerEnum = NULL;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = enum_connections(group->node, dwFlags, phPeerEnum);
	group_leave(hGroup);
	return result;
}
