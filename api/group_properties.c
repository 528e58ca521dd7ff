/*
 * Group properties: between the client's structure and the store.
 */
#include "api/group.h"

#include "api/detail.h"
#include "api/handle.h"
#include "api/hresult.h"

#include <stddef.h>
#include <string.h>

/* Before Windows Vista the structure ended before the authentication schemes. */
#define PROPERTIES_BYTES_FIRST offsetof(PEER_GROUP_PROPERTIES, dwAuthenticationSchemes)

bool properties_size_is_valid(const PEER_GROUP_PROPERTIES *properties)
{
	return properties->dwSize == sizeof(*properties) ||
		properties->dwSize == PROPERTIES_BYTES_FIRST;
}

static bool properties_has_schemes(const PEER_GROUP_PROPERTIES *properties)
{
	return properties->dwSize == sizeof(*properties);
}

HRESULT properties_password_check(const PEER_GROUP_PROPERTIES *properties, HRESULT result)
{
	if (!properties_has_schemes(properties) ||
		(properties->dwAuthenticationSchemes & PEER_GROUP_PASSWORD_AUTHENTICATION) == 0)
		return S_OK;
	if (properties->pwzGroupPassword == NULL || properties->pwzGroupPassword[0] == 0)
		return detail_fail(
			PEER_E_PASSWORD_DOES_NOT_MEET_POLICY, "the group password is empty");
	return detail_fail(result, "password authentication is not served");
}

HRESULT properties_from_client(const PEER_GROUP_PROPERTIES *from, struct group_properties *to)
{
	HRESULT result;

	group_properties_init(to);
	to->flags = from->dwFlags;
	to->member_data_lifetime_s = from->ulMemberDataLifetime;
	to->presence_lifetime_s =
		from->ulPresenceLifetime != 0 ? from->ulPresenceLifetime : to->presence_lifetime_s;
	if (properties_has_schemes(from)) {
		to->authentication_schemes = from->dwAuthenticationSchemes != 0
			? from->dwAuthenticationSchemes
			: to->authentication_schemes;
		to->password_role = from->groupPasswordRole;
	}
	result = cloud_from_client(from->pwzCloud, to->cloud);
	if (SUCCEEDED(result))
		result = text_from_client(
			from->pwzClassifier, PEER_E_INVALID_CLASSIFIER, to->classifier);
	if (SUCCEEDED(result))
		result = name_from_client(
			from->pwzGroupPeerName, PEER_E_INVALID_GROUP_PROPERTIES, to->group);
	if (SUCCEEDED(result))
		result = name_from_client(
			from->pwzCreatorPeerName, PEER_E_INVALID_PEER_NAME, to->creator);
	if (SUCCEEDED(result))
		result = text_from_client(
			from->pwzFriendlyName, PEER_E_INVALID_GROUP_PROPERTIES, to->friendly_name);
	if (SUCCEEDED(result))
		result = text_from_client(
			from->pwzComment, PEER_E_INVALID_GROUP_PROPERTIES, to->comment);
	return result;
}

/* ---- get ---------------------------------------------------------------------------------- */

static void *properties_fill(struct block *block, const void *source)
{
	const struct group_properties *from = source;
	PEER_GROUP_PROPERTIES *to = block_take(block, sizeof(*to));
	WCHAR *cloud = block_text(block, from->cloud[0] != '\0' ? from->cloud : "Global_");
	WCHAR *classifier = block_text(block, from->classifier);
	WCHAR *group = block_text(block, from->group);
	WCHAR *creator = block_text(block, from->creator);
	WCHAR *friendly_name = block_text(block, from->friendly_name);
	WCHAR *comment = block_text(block, from->comment);

	if (to == NULL)
		return NULL;
	to->dwSize = sizeof(*to);
	to->dwFlags = from->flags;
	to->pwzCloud = cloud;
	to->pwzClassifier = classifier;
	to->pwzGroupPeerName = group;
	to->pwzCreatorPeerName = creator;
	to->pwzFriendlyName = friendly_name;
	to->pwzComment = comment;
	to->ulMemberDataLifetime = from->member_data_lifetime_s;
	to->ulPresenceLifetime = from->presence_lifetime_s;
	to->dwAuthenticationSchemes = from->authentication_schemes;
	to->groupPasswordRole = from->password_role;
	return to;
}

static HRESULT properties_load(struct node *node, struct group_properties *properties)
{
	const struct membership *membership = node->membership;
	HRESULT result = membership_check(membership->identity, membership->group);

	if (FAILED(result))
		return result;
	if (!atomic_load(&node->is_synchronised))
		return detail_fail(PEER_E_GROUP_NOT_READY, "the group was never connected");
	return group_properties_get(membership->identity, membership->group, properties);
}

static HRESULT properties_get(struct node *node, PEER_GROUP_PROPERTIES **properties)
{
	struct group_properties loaded;
	HRESULT result;

	if (properties == NULL)
		return detail_fail(E_INVALIDARG, "ppProperties is NULL");
	result = properties_load(node, &loaded);
	if (FAILED(result))
		return result;
	return hresult_from_status(block_build(properties_fill, &loaded, (void **)properties));
}

HRESULT WINAPI PeerGroupGetProperties(HGROUP hGroup, PPEER_GROUP_PROPERTIES *ppProperties)
{
	struct group *group;
	HRESULT result;

	if (ppProperties != NULL)
		*ppProperties = NULL;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = properties_get(group->node, ppProperties);
	group_leave(hGroup);
	return result;
}

/* ---- set ---------------------------------------------------------------------------------- */

static HRESULT immutable(const char *name)
{
	return detail_fail(PEER_E_INVALID_GROUP_PROPERTIES, "%s cannot be changed", name);
}

/* What may not change must be as it is; a text left NULL is as it is. */
static HRESULT properties_compare(const PEER_GROUP_PROPERTIES *client,
	const struct group_properties *next, const struct group_properties *present)
{
	if (client->pwzGroupPeerName != NULL && strcmp(next->group, present->group) != 0)
		return immutable("pwzGroupPeerName");
	if (client->pwzCreatorPeerName != NULL && strcmp(next->creator, present->creator) != 0)
		return immutable("pwzCreatorPeerName");
	if (client->pwzClassifier != NULL && strcmp(next->classifier, present->classifier) != 0)
		return immutable("pwzClassifier");
	if (next->member_data_lifetime_s != present->member_data_lifetime_s)
		return immutable("ulMemberDataLifetime");
	if (next->presence_lifetime_s != present->presence_lifetime_s)
		return immutable("ulPresenceLifetime");
	if (properties_has_schemes(client) &&
		next->authentication_schemes != present->authentication_schemes)
		return immutable("dwAuthenticationSchemes");
	return S_OK;
}

/* The client's wishes over what there is. */
static HRESULT properties_merge(
	const PEER_GROUP_PROPERTIES *client, struct group_properties *properties)
{
	struct group_properties next;
	HRESULT result = properties_from_client(client, &next);

	if (result == PEER_E_INVALID_CLASSIFIER || result == PEER_E_INVALID_PEER_NAME ||
		result == PEER_E_NO_CLOUD || result == PEER_E_CLOUD_NAME_AMBIGUOUS)
		result = PEER_E_INVALID_GROUP_PROPERTIES;
	if (SUCCEEDED(result))
		result = properties_compare(client, &next, properties);
	if (FAILED(result))
		return result;
	properties->flags = next.flags;
	strcpy(properties->friendly_name, next.friendly_name);
	strcpy(properties->comment, next.comment);
	return S_OK;
}

static HRESULT properties_set(struct node *node, const PEER_GROUP_PROPERTIES *client)
{
	struct group_properties properties;
	HRESULT result;

	if (client == NULL)
		return detail_fail(E_INVALIDARG, "pProperties is NULL");
	if (!properties_size_is_valid(client))
		return detail_fail(PEER_E_INVALID_GROUP_PROPERTIES, "dwSize is wrong");
	result = properties_load(node, &properties);
	if (FAILED(result))
		return result;
	if (!node->membership->is_creator)
		return detail_fail(PEER_E_NOT_AUTHORIZED, "only the creator changes properties");
	result = properties_password_check(client, PEER_E_INVALID_GROUP_PROPERTIES);
	if (SUCCEEDED(result))
		result = properties_merge(client, &properties);
	if (SUCCEEDED(result))
		result = group_properties_set(node->membership->identity, &properties);
	if (SUCCEEDED(result))
		node_on_properties(node->membership->group);
	return result;
}

HRESULT WINAPI PeerGroupSetProperties(HGROUP hGroup, PPEER_GROUP_PROPERTIES pProperties)
{
	struct group *group;
	HRESULT result;

	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = properties_set(group->node, pProperties);
	group_leave(hGroup);
	return result;
}
