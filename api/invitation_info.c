/* PeerGroupParseInvitation: an invitation's content as p2p.h shows it. Needs no group handle. */
#include "api/block.h"
#include "api/detail.h"
#include "api/invitation.h"
#include "api/key_info.h"
#include "api/member.h"
#include "api/runtime.h"

#include <string.h>

#define PARTICIPANT "participant" /* the classifier of everybody but administrators */

/* An absent friendly name is the name itself, as for identities. */
static const char *friendly_or(const char *friendly_name, const char *name)
{
	return friendly_name[0] != '\0' ? friendly_name : name;
}

static const char *group_friendly(const struct invitation *invitation)
{
	const struct trust_result *trust = &invitation->trust;

	if (invitation->has_properties && invitation->properties.friendly_name[0] != '\0')
		return invitation->properties.friendly_name;
	return friendly_or(trust->group_friendly_name, trust->group);
}

static void *info_fill(struct block *block, const void *source)
{
	const struct invitation *invitation = source;
	const struct trust_result *trust = &invitation->trust;
	const struct certificate_info *leaf = &trust->leaf;
	PEER_INVITATION_INFO *info = block_take(block, sizeof(*info));
	WCHAR *cloud = block_text(block, invitation->cloud);
	WCHAR *group = block_text(block, trust->group);
	WCHAR *issuer = block_text(block, leaf->issuer);
	WCHAR *subject = block_text(block, trust->identity);
	WCHAR *group_name = block_text(block, group_friendly(invitation));
	WCHAR *issuer_name =
		block_text(block, friendly_or(trust->issuer_friendly_name, leaf->issuer));
	WCHAR *subject_name = block_text(block, friendly_or(leaf->friendly_name, trust->identity));
	PEER_ROLE_ID *role = block_copy(block, role_guid(trust->role), sizeof(*role));
	PWSTR *classifiers = block_take(block, sizeof(*classifiers));
	WCHAR *classifier = block_text(block, PARTICIPANT);
	CERT_PUBLIC_KEY_INFO *key = key_info_take(block, leaf->spki, leaf->spki_bytes);

	if (info == NULL || classifiers == NULL)
		return NULL;
	classifiers[0] = classifier;
	*info = (PEER_INVITATION_INFO){
		.dwSize = sizeof(*info),
		.pwzCloudName = cloud,
		.dwScope = invitation->scope,
		.dwCloudFlags = invitation->cloud_flags,
		.pwzGroupPeerName = group,
		.pwzIssuerPeerName = issuer,
		.pwzSubjectPeerName = subject,
		.pwzGroupFriendlyName = group_name,
		.pwzIssuerFriendlyName = issuer_name,
		.pwzSubjectFriendlyName = subject_name,
		.ftValidityStart = filetime_from_seconds(trust->valid_from_s),
		.ftValidityEnd = filetime_from_seconds(trust->valid_to_s),
		.cRoles = 1,
		.pRoles = role,
		.cClassifiers = leaf->has_classifiers ? 1 : 0,
		.ppwzClassifiers = leaf->has_classifiers ? classifiers : NULL,
		.pSubjectPublicKey = key,
		.authScheme = PEER_GROUP_GMC_AUTHENTICATION,
	};
	return info;
}

HRESULT WINAPI PeerGroupParseInvitation(
	PCWSTR pwzInvitation, PPEER_INVITATION_INFO *ppInvitationInfo)
{
	struct invitation *invitation;
	void *block;
	HRESULT result;
	int status;

	detail_clear();
	if (ppInvitationInfo != NULL)
		*ppInvitationInfo = NULL;
	if (!runtime_is_started())
		return detail_fail(PEER_E_NOT_INITIALIZED, "PeerGroupStartup was not called");
	if (ppInvitationInfo == NULL)
		return detail_fail(E_INVALIDARG, "ppInvitationInfo is NULL");
	result = invitation_read(pwzInvitation, &invitation);
	if (FAILED(result))
		return result;
	status = block_build(info_fill, invitation, &block);
	invitation_free(invitation);
	if (status < 0)
		return E_OUTOFMEMORY; /* all texts were found to be UTF-8 */
	*ppInvitationInfo = block;
	return S_OK;
}
