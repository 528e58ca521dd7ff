/*
 * Invitations of an open group: PeerGroupCreateInvitation and PeerGroupIssueCredentials. What they
 * check of identities, roles and chains is in credential.c; here is what needs the handle.
 */
#include "api/group.h"

#include "api/block.h"
#include "api/detail.h"
#include "api/hresult.h"

#include <string.h>

static HRESULT invitation_ready(struct node *node)
{
	char resolved[PH_NAME_BYTES_MAX];
	HRESULT result = membership_check(node->membership->identity, node->membership->group);

	/* The group can only have gone before its identity: the latter says more. */
	if (result == PEER_E_INVALID_GROUP &&
		identity_resolve(node->membership->identity, resolved) == PEER_E_IDENTITY_DELETED)
		return PEER_E_IDENTITY_DELETED;
	if (SUCCEEDED(result) && !atomic_load(&node->is_synchronised))
		result = detail_fail(PEER_E_GROUP_NOT_READY, "the group was never connected");
	return result;
}

struct invitation_arguments {
	PCWSTR identity_xml;
	const FILETIME *expiration;
	ULONG role_count;
	const GUID *roles;
	PWSTR *invitation;
};

static HRESULT create_invitation(struct node *node, const struct invitation_arguments *arguments)
{
	ph_address addresses[PH_ADDRESSES_MAX];
	struct invitation_request request = {.identity = node->membership->identity,
		.group = node->membership->group,
		.identity_xml = arguments->identity_xml,
		.addresses = addresses};
	HRESULT result;

	if (arguments->identity_xml == NULL || arguments->invitation == NULL)
		return detail_fail(E_INVALIDARG, "pwzIdentityInfo or ppwzInvitation is NULL");
	result = role_from_guids(arguments->role_count, arguments->roles, &request.role);
	if (FAILED(result))
		return result;
	if (arguments->expiration != NULL) {
		request.valid_to_s = filetime_to_seconds(*arguments->expiration);
		if (request.valid_to_s <= 0) /* 0 would mean our own end */
			return detail_fail(E_INVALIDARG, "pftExpiration is not in the future");
	}
	result = invitation_ready(node);
	if (FAILED(result))
		return result;
	/* It says where this node listens now, so that the invitee can find it. */
	request.address_count = node_addresses(node, addresses);
	return invitation_create(&request, arguments->invitation);
}

HRESULT WINAPI PeerGroupCreateInvitation(HGROUP hGroup, PCWSTR pwzIdentityInfo,
	FILETIME *pftExpiration, ULONG cRoles, const GUID *pRoles, PWSTR *ppwzInvitation)
{
	const struct invitation_arguments arguments = {.identity_xml = pwzIdentityInfo,
		.expiration = pftExpiration,
		.role_count = cRoles,
		.roles = pRoles,
		.invitation = ppwzInvitation};
	struct group *group;
	HRESULT result;

	if (ppwzInvitation != NULL)
		*ppwzInvitation = NULL;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = create_invitation(group->node, &arguments);
	group_leave(hGroup);
	return result;
}

/* ---- issue -------------------------------------------------------------------------------- */

static int64_t seconds_from_client(FILETIME time)
{
	return time.dwLowDateTime == 0 && time.dwHighDateTime == 0 ? 0 : filetime_to_seconds(time);
}

/* Issuer fields are ignored; what is missing is taken from what is known of the subject. */
static HRESULT issue_from_client(const PEER_CREDENTIAL_INFO *info, struct issue_request *request,
	char friendly_name[PEER_TEXT_BYTES], uint8_t spki[KEY_SPKI_BYTES_MAX])
{
	HRESULT result;

	if (info->dwSize != sizeof(*info))
		return detail_fail(E_INVALIDARG, "the dwSize of pCredentialInfo is wrong");
	result = text_from_client(info->pwzFriendlyName, E_INVALIDARG, friendly_name);
	if (SUCCEEDED(result) && info->pwzFriendlyName != NULL)
		request->friendly_name = friendly_name;
	if (SUCCEEDED(result) && info->pPublicKey != NULL) {
		result = spki_from_key_info(info->pPublicKey, spki, &request->spki_bytes);
		request->spki = spki;
	}
	if (SUCCEEDED(result) && info->cRoles > 0)
		result = role_from_guids(info->cRoles, info->pRoles, &request->role);
	request->valid_from_s = seconds_from_client(info->ftValidityStart);
	request->valid_to_s = seconds_from_client(info->ftValidityEnd);
	return result;
}

struct issue_arguments {
	PCWSTR subject;
	const PEER_CREDENTIAL_INFO *info;
	DWORD flags;
	PWSTR *invitation;
};

static HRESULT issue_credentials(struct node *node, const struct issue_arguments *arguments)
{
	char subject[PH_NAME_BYTES_MAX], friendly_name[PEER_TEXT_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	ph_address addresses[PH_ADDRESSES_MAX];
	struct issue_request request = {.identity = node->membership->identity,
		.group = node->membership->group,
		.subject = subject,
		.addresses = addresses};
	HRESULT result;

	if (arguments->subject == NULL)
		return detail_fail(E_INVALIDARG, "pwzSubjectIdentity is NULL");
	if ((arguments->flags & ~(DWORD)PEER_GROUP_STORE_CREDENTIALS) != 0)
		return detail_fail(E_INVALIDARG, "dwFlags has unknown bits");
	if (arguments->flags != 0)
		return detail_fail(E_NOTIMPL, "credentials cannot be published in the group");
	result = name_from_client(arguments->subject, E_INVALIDARG, subject);
	if (SUCCEEDED(result) && arguments->info != NULL)
		result = issue_from_client(arguments->info, &request, friendly_name, spki);
	if (SUCCEEDED(result))
		result = invitation_ready(node);
	if (FAILED(result))
		return result;
	request.address_count = node_addresses(node, addresses);
	return credential_issue(&request, arguments->invitation);
}

HRESULT WINAPI PeerGroupIssueCredentials(HGROUP hGroup, PCWSTR pwzSubjectIdentity,
	PEER_CREDENTIAL_INFO *pCredentialInfo, DWORD dwFlags, PWSTR *ppwzInvitation)
{
	const struct issue_arguments arguments = {.subject = pwzSubjectIdentity,
		.info = pCredentialInfo,
		.flags = dwFlags,
		.invitation = ppwzInvitation};
	struct group *group;
	HRESULT result;

	if (ppwzInvitation != NULL)
		*ppwzInvitation = NULL;
	detail_clear();
	result = group_enter(hGroup, &group);
	if (FAILED(result))
		return result;
	result = issue_credentials(group->node, &arguments);
	group_leave(hGroup);
	return result;
}
