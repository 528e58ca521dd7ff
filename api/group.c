/*
 * Groups: create, open, join, connect, close, delete, status, members, peer time. See group.h.
 */
#include "api/group.h"

#include "api/check.h"
#include "api/connection.h"
#include "api/detail.h"
#include "api/enumeration.h"
#include "api/handle.h"
#include "api/hresult.h"
#include "api/text.h"
#include "peerhub/extras.h"

#include <stdlib.h>
#include <string.h>

/* ---- handles ------------------------------------------------------------------------------ */

HRESULT group_enter(HGROUP handle, struct group **entered)
{
	struct group *group;

	if (!runtime_is_started())
		return PEER_E_NOT_INITIALIZED;
	group = handle_get(HANDLE_GROUP, handle);
	if (group == NULL)
		return detail_fail(PEER_E_INVALID_GROUP, "no handle of a group, or a closed one");
	if (atomic_load_explicit(&group->node->is_ended, memory_order_acquire)) {
		handle_put(handle);
		return detail_fail(
			PEER_E_INVALID_GROUP, "the group was deleted, or all were closed");
	}
	*entered = group;
	return S_OK;
}

void group_leave(HGROUP handle)
{
	handle_put(handle);
}

static void group_destroy(void *object)
{
	struct group *group = object;

	node_put(group->node);
	free(group);
}

/* The handle is revoked and this thread ends it. */
static void group_end(struct group *group)
{
	/* A registration under way sees this flag, or we see the registration. */
	atomic_store(&group->is_closed, true);
	node_unregister_owner(group->node, group);
	node_close(group->node);
}

/* What ended a node that was being opened: a deletion or the last PeerGroupShutdown. S_FALSE: neither
 * of them is true any more, the group was joined or the library started again meanwhile. */
static HRESULT group_gone(const struct node *node)
{
	HRESULT result = membership_check(node->membership->identity, node->membership->group);

	if (result == PEER_E_INVALID_GROUP)
		return PEER_E_NOT_FOUND;
	if (FAILED(result))
		return result;
	return runtime_is_started() ? S_FALSE : PEER_E_NOT_INITIALIZED;
}

/* It has a handle; now it may be used. Whoever ends nodes sees the handle, or we see that the node has
 * ended: a handle that is handed out is good, or is taken away again. */
static HRESULT group_start(struct group *group, HGROUP handle)
{
	bool is_ended = false;
	HRESULT result;

	/* A read-modify-write, as the ender's: one of both sees what the other has written before. */
	if (atomic_compare_exchange_strong(&group->node->is_ended, &is_ended, false))
		return S_OK;
	result = group_gone(group->node);
	if (handle_revoke(HANDLE_GROUP, handle)) {
		group_end(group);
		handle_put(handle);
	}
	return result;
}

/* A handle for a node; takes over the handle count that node_open gave. */
static HRESULT group_create_handle(struct node *node, HGROUP *handle)
{
	struct group *group = calloc(1, sizeof(*group));
	HRESULT result;
	HGROUP made;
	int status;

	if (group == NULL) {
		node_close(node);
		return E_OUTOFMEMORY;
	}
	group->node = node;
	node_get(node);
	status = handle_create_held(HANDLE_GROUP, group, group_destroy, &made);
	if (status < 0) {
		group_destroy(group);
		node_close(node);
		return hresult_from_status(status);
	}
	result = group_start(group, made);
	if (result == S_OK)
		*handle = made;
	handle_put(made);
	return result;
}

/* S_FALSE: what was opened has gone and come again. */
static HRESULT group_open_once(const char *identity, const char *group, HGROUP *handle)
{
	struct node *node;
	HRESULT result = node_open(identity, group, &node);

	if (FAILED(result))
		return result;
	/* Deleted between our reading and the node's entering the table, where a deletion looks for it. */
	result = membership_check(node->membership->identity, node->membership->group);
	if (FAILED(result)) {
		node_close(node);
		return result == PEER_E_INVALID_GROUP ? PEER_E_NOT_FOUND : result;
	}
	return group_create_handle(node, handle);
}

/* Each turn of the loop is somebody's deletion and joining, or stop and start, in between. */
static HRESULT group_open(const char *identity, const char *group, HGROUP *handle)
{
	HRESULT result;

	do {
		result = group_open_once(identity, group, handle);
	} while (result == S_FALSE);
	return result;
}

/* ---- what clients hand in ----------------------------------------------------------------- */

HRESULT name_from_client(PCWSTR wide, HRESULT wrong, char name[PH_NAME_BYTES_MAX])
{
	name[0] = '\0';
	if (wide == NULL)
		return S_OK;
	if (text_utf8_copy(wide, name, PH_NAME_BYTES_MAX) < 0)
		return detail_fail(wrong, "a peer name is too long or not well-formed UTF-16");
	return S_OK;
}

HRESULT text_from_client(PCWSTR wide, HRESULT wrong, char text[PEER_TEXT_BYTES])
{
	text[0] = '\0';
	if (wide == NULL)
		return S_OK;
	if (text_units_bounded(wide, PEER_TEXT_UNITS_MAX) > PEER_TEXT_UNITS_MAX ||
		text_utf8_copy(wide, text, PEER_TEXT_BYTES) < 0)
		return detail_fail(wrong, "a text is over %u units or not well-formed UTF-16",
			PEER_TEXT_UNITS_MAX);
	return S_OK;
}

HRESULT cloud_from_client(PCWSTR cloud, char text[PEER_TEXT_BYTES])
{
	HRESULT result = text_from_client(cloud, PEER_E_NO_CLOUD, text);

	if (FAILED(result))
		return result;
	/* A scope without its suffix names every such cloud of the machine, not one of them. */
	if (strcmp(text, "LinkLocal_") == 0 || strcmp(text, "SiteLocal_") == 0)
		return detail_fail(
			PEER_E_CLOUD_NAME_AMBIGUOUS, "%s names a scope, not a cloud", text);
	return group_cloud_check(text);
}

/* ---- create, open, join ------------------------------------------------------------------- */

/* Started, and the out-parameter: common to Create, Open and Join. */
static HRESULT group_begin(HGROUP *handle)
{
	detail_clear();
	if (handle != NULL)
		*handle = NULL;
	if (!runtime_is_started())
		return PEER_E_NOT_INITIALIZED;
	return handle != NULL ? S_OK : detail_fail(E_INVALIDARG, "phGroup is NULL");
}

static HRESULT create(const PEER_GROUP_PROPERTIES *from, HGROUP *handle)
{
	struct group_properties properties;
	HRESULT result = properties_password_check(from, E_NOTIMPL);

	if (SUCCEEDED(result))
		result = properties_from_client(from, &properties);
	if (SUCCEEDED(result))
		result = group_create(&properties);
	if (FAILED(result))
		return result;
	result = group_open(properties.creator, properties.group, handle);
	if (FAILED(result)) /* a failure has changed nothing */
		(void)membership_delete(properties.creator, properties.group);
	return result;
}

HRESULT WINAPI PeerGroupCreate(PPEER_GROUP_PROPERTIES pProperties, HGROUP *phGroup)
{
	HRESULT result = group_begin(phGroup);

	if (FAILED(result))
		return result;
	if (pProperties == NULL || !properties_size_is_valid(pProperties))
		return detail_fail(E_INVALIDARG, "pProperties is NULL or its dwSize is wrong");
	return create(pProperties, phGroup);
}

HRESULT WINAPI PeerGroupOpen(
	PCWSTR pwzIdentity, PCWSTR pwzGroupPeerName, PCWSTR pwzCloud, HGROUP *phGroup)
{
	char identity[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX], cloud[PEER_TEXT_BYTES];
	HRESULT result = group_begin(phGroup);

	if (FAILED(result))
		return result;
	if (pwzGroupPeerName == NULL)
		return detail_fail(E_INVALIDARG, "pwzGroupPeerName is NULL");
	result = name_from_client(pwzIdentity, E_INVALIDARG, identity);
	if (SUCCEEDED(result))
		result = name_from_client(pwzGroupPeerName, E_INVALIDARG, group);
	if (SUCCEEDED(result))
		result = cloud_from_client(pwzCloud, cloud);
	return SUCCEEDED(result) ? group_open(identity, group, phGroup) : result;
}

/* Joining replaces the chain of a membership, which an open node goes on using. */
static HRESULT join_in_use_check(const char *identity, PCWSTR invitation)
{
	char resolved[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	PEER_INVITATION_INFO *info;
	struct node *node = NULL;
	HRESULT result;

	/* What is wrong with either of the two is told by the join itself. */
	if (FAILED(identity_resolve(identity, resolved)) ||
		FAILED(PeerGroupParseInvitation(invitation, &info)))
		return S_OK;
	result = name_from_client(info->pwzGroupPeerName, E_INVALIDARG, group);
	PeerFreeData(info);
	if (SUCCEEDED(result))
		node = node_find(resolved, group);
	if (node == NULL)
		return result;
	node_put(node);
	return detail_fail(PEER_E_GROUP_IN_USE, "group %s is open; close it before joining", group);
}

static HRESULT join(PCWSTR wide_identity, PCWSTR invitation, PCWSTR wide_cloud, HGROUP *handle)
{
	char identity[PH_NAME_BYTES_MAX], cloud[PEER_TEXT_BYTES];
	char joined_identity[PH_NAME_BYTES_MAX], joined_group[PH_NAME_BYTES_MAX];
	HRESULT result = name_from_client(wide_identity, PEER_E_INVALID_PEER_NAME, identity);

	if (SUCCEEDED(result))
		result = cloud_from_client(wide_cloud, cloud);
	if (SUCCEEDED(result))
		result = join_in_use_check(identity, invitation);
	if (FAILED(result))
		return result;
	detail_clear();
	result = membership_join(identity, invitation, cloud, joined_identity, joined_group);
	return SUCCEEDED(result) ? group_open(joined_identity, joined_group, handle) : result;
}

HRESULT WINAPI PeerGroupJoin(
	PCWSTR pwzIdentity, PCWSTR pwzInvitation, PCWSTR pwzCloud, HGROUP *phGroup)
{
	HRESULT result = group_begin(phGroup);

	if (FAILED(result))
		return result;
	if (pwzInvitation == NULL)
		return detail_fail(E_INVALIDARG, "pwzInvitation is NULL");
	return join(pwzIdentity, pwzInvitation, pwzCloud, phGroup);
}

/* ---- connect ------------------------------------------------------------------------------ */

HRESULT WINAPI PeerGroupConnect(HGROUP hGroup)
{
	struct group *group;
	HRESULT result;

	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = node_connect(group->node, NULL, 0);
	group_leave(hGroup);
	return result;
}

static HRESULT connect_by_address(
	struct node *node, ULONG address_count, const PEER_ADDRESS *client_addresses)
{
	ph_address *addresses;
	HRESULT result = S_OK;

	if (client_addresses == NULL || address_count == 0 || address_count > NODE_DIALS_MAX)
		return detail_fail(E_INVALIDARG,
			"cAddresses is 0 or over %u, or pAddresses is NULL", NODE_DIALS_MAX);
	addresses = calloc(address_count, sizeof(*addresses));
	if (addresses == NULL)
		return E_OUTOFMEMORY;
	for (ULONG index = 0; index < address_count && SUCCEEDED(result); index++)
		if (!address_from_client(&client_addresses[index], &addresses[index]))
			result = detail_fail(E_INVALIDARG, "pAddresses[%u] is not usable", index);
	if (SUCCEEDED(result))
		result = node_connect(node, addresses, address_count);
	free(addresses);
	return result;
}

HRESULT WINAPI PeerGroupConnectByAddress(HGROUP hGroup, ULONG cAddresses, PPEER_ADDRESS pAddresses)
{
	struct group *group;
	HRESULT result;

	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = connect_by_address(group->node, cAddresses, pAddresses);
	group_leave(hGroup);
	return result;
}

/* ---- close, delete ------------------------------------------------------------------------ */

HRESULT WINAPI PeerGroupClose(HGROUP hGroup)
{
	struct group *group;
	HRESULT result;

	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	if (handle_revoke(HANDLE_GROUP, hGroup)) {
		group_end(group);
		handle_put(hGroup);
	} else {
		result = PEER_E_INVALID_GROUP; /* another thread was first */
	}
	group_leave(hGroup);
	return result;
}

/* context: the node whose handles end, NULL: all of them. */
static bool group_revoke(void *context, HANDLE handle, void *object)
{
	struct group *group = object;

	if ((context == NULL || group->node == context) && handle_revoke(HANDLE_GROUP, handle)) {
		group_end(group);
		handle_put(handle);
	}
	return true;
}

void group_end_all(void)
{
	(void)handle_visit(HANDLE_GROUP, group_revoke, NULL);
}

static HRESULT group_delete(const char *identity, const char *group)
{
	char resolved[PH_NAME_BYTES_MAX];
	struct node *node;
	HRESULT result = identity_resolve(identity, resolved);

	if (result == PEER_E_INVALID_PEER_NAME)
		return E_INVALIDARG;
	if (result == PEER_E_IDENTITY_DELETED)
		return PEER_E_NOT_FOUND;
	if (FAILED(result))
		return result;
	result = membership_delete(resolved, group);
	if (FAILED(result))
		return result;
	node = node_find(resolved, group);
	if (node != NULL) {
		node_end(node, PH_ABORT, PH_REASON_LOCAL_GROUP_END);
		(void)handle_visit(HANDLE_GROUP, group_revoke, node);
		node_put(node);
	}
	return S_OK;
}

HRESULT WINAPI PeerGroupDelete(PCWSTR pwzIdentity, PCWSTR pwzGroupPeerName)
{
	char identity[PH_NAME_BYTES_MAX], group[PH_NAME_BYTES_MAX];
	HRESULT result;

	detail_clear();
	if (!runtime_is_started())
		return PEER_E_NOT_INITIALIZED;
	if (pwzGroupPeerName == NULL)
		return detail_fail(E_INVALIDARG, "pwzGroupPeerName is NULL");
	result = name_from_client(pwzIdentity, E_INVALIDARG, identity);
	if (SUCCEEDED(result))
		result = name_from_client(pwzGroupPeerName, E_INVALIDARG, group);
	return SUCCEEDED(result) ? group_delete(identity, group) : result;
}

HRESULT WINAPI PeerGroupGetStatus(HGROUP hGroup, DWORD *pdwStatus)
{
	struct group *group;
	HRESULT result;

	if (pdwStatus != NULL)
		*pdwStatus = 0;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	if (pdwStatus == NULL)
		result = detail_fail(E_INVALIDARG, "pdwStatus is NULL");
	else
		*pdwStatus = atomic_load(&group->node->status);
	group_leave(hGroup);
	return result;
}

/* ---- members ------------------------------------------------------------------------------ */

static const struct enumeration_type member_enumeration = {
	.scope = ENUMERATION_GROUP,
	.item_bytes = sizeof(struct member_item),
	.fill = member_item_fill,
	.fini = member_item_fini,
};

static void member_item_own(struct node *node, struct member_item *item)
{
	item->credential = node->credential;
	peer_credential_get(item->credential);
	item->node_id = node->membership->node_id;
	item->flags = atomic_load(&node->status) != 0 ? PEER_MEMBER_PRESENT : 0;
	if (atomic_load(&node->is_listening))
		item->address_count = node_addresses(node, item->addresses);
}

static void member_item_peer(const struct member *member, struct member_item *item)
{
	item->credential = member->credential;
	peer_credential_get(item->credential);
	item->node_id = member->node_id;
	item->flags = PEER_MEMBER_PRESENT;
	item->address_count = member->address_count;
	memcpy(item->addresses, member->addresses, sizeof(item->addresses));
}

/* The peers connected now, one or all; the lock is held. Returns how many there are; with `items`
 * NULL it only counts. */
static uint32_t members_collect(
	const struct node *node, const char *identity, struct member_item *items)
{
	uint32_t count = 0;

	for (uint32_t bucket = 0; bucket < NODE_MEMBER_BUCKETS; bucket++)
		for (struct member *at = node->members[bucket]; at != NULL; at = at->next) {
			if (at->open_count == 0 ||
				(identity[0] != '\0' && strcmp(at->identity, identity) != 0))
				continue;
			if (items != NULL)
				member_item_peer(at, &items[count]);
			count++;
		}
	return count;
}

static HRESULT members_snapshot(struct node *node, uint32_t flags, const char *identity,
	struct member_item **items, uint32_t *count)
{
	bool is_own_wanted =
		identity[0] == '\0' || strcmp(node->membership->identity, identity) == 0;

	*count = 0;
	if ((flags & PEER_MEMBER_PRESENT) != 0 && atomic_load(&node->status) == 0)
		is_own_wanted = false;
	pthread_rwlock_rdlock(&node->lock);
	*items = calloc(members_collect(node, identity, NULL) + 1, sizeof(**items));
	if (*items != NULL)
		*count = members_collect(node, identity, *items + is_own_wanted);
	pthread_rwlock_unlock(&node->lock);
	if (*items == NULL)
		return E_OUTOFMEMORY;
	if (is_own_wanted) {
		member_item_own(node, *items); /* first */
		(*count)++;
	}
	return S_OK;
}

static HRESULT enum_members(
	struct node *node, DWORD flags, PCWSTR wide_identity, HPEERENUM *enumeration)
{
	char identity[PH_NAME_BYTES_MAX];
	struct member_item *items;
	uint32_t count;
	HRESULT result;

	if (enumeration == NULL || (flags & ~(DWORD)PEER_MEMBER_PRESENT) != 0)
		return detail_fail(E_INVALIDARG, "phPeerEnum is NULL or dwFlags has unknown bits");
	result = name_from_client(wide_identity, E_INVALIDARG, identity);
	if (FAILED(result))
		return result;
	if (wide_identity != NULL && !peer_name_is_valid(identity))
		return detail_fail(E_INVALIDARG, "pwzIdentity is not a peer name");
	result = membership_check(node->membership->identity, node->membership->group);
	if (SUCCEEDED(result))
		result = members_snapshot(node, flags, identity, &items, &count);
	if (FAILED(result))
		return result;
	return hresult_from_status(
		enumeration_create(&member_enumeration, items, count, enumeration));
}

HRESULT WINAPI PeerGroupEnumMembers(
	HGROUP hGroup, DWORD dwFlags, PCWSTR pwzIdentity, HPEERENUM *phPeerEnum)
{
	struct group *group;
	HRESULT result;

	if (phPeerEnum != NULL)
		*phPeerEnum = NULL;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = enum_members(group->node, dwFlags, pwzIdentity, phPeerEnum);
	group_leave(hGroup);
	return result;
}

/* ---- peer time ---------------------------------------------------------------------------- */

/* Both directions: peer time is this machine's UTC. In and out may be the same variable. */
static HRESULT peer_time(HGROUP handle, const FILETIME *from, FILETIME *to)
{
	struct group *group;
	HRESULT result;

	detail_clear();
	result = group_enter(handle, &group);
	if (FAILED(result))
		return result;
	if (from == NULL || to == NULL)
		result = detail_fail(E_INVALIDARG, "a FILETIME is NULL");
	else if (!atomic_load(&group->node->is_synchronised))
		result = PEER_E_GROUP_NOT_READY;
	else
		*to = *from;
	group_leave(handle);
	return result;
}

HRESULT WINAPI PeerGroupUniversalTimeToPeerTime(
	HGROUP hGroup, FILETIME *pftUniversalTime, FILETIME *pftPeerTime)
{
	return peer_time(hGroup, pftUniversalTime, pftPeerTime);
}

HRESULT WINAPI PeerGroupPeerTimeToUniversalTime(
	HGROUP hGroup, FILETIME *pftPeerTime, FILETIME *pftUniversalTime)
{
	return peer_time(hGroup, pftPeerTime, pftUniversalTime);
}

/* ---- beside Windows ----------------------------------------------------------------------- */

HRESULT PeerhubGroupNative(HGROUP hGroup, struct ph_hub **hub, uint64_t *tag)
{
	struct group *group;
	HRESULT result;

	if (hub != NULL)
		*hub = NULL;
	if (tag != NULL)
		*tag = 0;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	if (hub == NULL || tag == NULL) {
		result = detail_fail(E_INVALIDARG, "hub or tag is NULL");
	} else {
		*hub = runtime_hub_get();
		if (*hub == NULL)
			result = PEER_E_NOT_INITIALIZED;
		else
			runtime_hub_put(); /* it lives as long as the group is open */
		*tag = SUCCEEDED(result) ? group->node->tag : 0;
	}
	group_leave(hGroup);
	return result;
}
