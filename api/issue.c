/*
 * Issuing: invitations and credentials, made by a member for somebody else. The rules of who may do
 * what are here and in role_may_issue; api/trust.c judges the same at the other end.
 */
#include "api/credential.h"

#include "api/block.h"
#include "api/detail.h"
#include "api/identity.h"
#include "api/invitation.h"
#include "api/membership.h"
#include "api/pkcs7.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- roles ------------------------------------------------------------------------------ */

static const GUID guid_member = {
	0xf12dc4c7, 0x0857, 0x4ca0, {0x93, 0xfc, 0xb1, 0xbb, 0x19, 0xa3, 0xd8, 0xc2}};
static const GUID guid_inviting = {
	0x4370fd89, 0xdc18, 0x4cfb, {0x8d, 0xbf, 0x98, 0x53, 0xa8, 0xa9, 0xf9, 0x05}};
static const GUID guid_admin = {
	0x04387127, 0xaa56, 0x450a, {0x8c, 0xe5, 0x4f, 0x56, 0x5c, 0x67, 0x90, 0xf4}};

const GUID *role_guid(enum peer_role role)
{
	switch (role) {
	case ROLE_MEMBER:
		return &guid_member;
	case ROLE_INVITING_MEMBER:
		return &guid_inviting;
	case ROLE_ADMIN:
		return &guid_admin;
	default:
		return NULL;
	}
}

#define ROLES_MAX 16u

HRESULT role_from_guids(ULONG count, const GUID *guids, enum peer_role *role)
{
	*role = ROLE_NONE;
	if (count == 0 || guids == NULL || count > ROLES_MAX)
		return detail_fail(E_INVALIDARG, "roles: none, or more than %u", ROLES_MAX);
	for (ULONG index = 0; index < count; index++) {
		enum peer_role each = ROLE_NONE;

		for (enum peer_role known = ROLE_MEMBER; known <= ROLE_ADMIN; known++)
			if (memcmp(&guids[index], role_guid(known), sizeof(GUID)) == 0)
				each = known;
		if (each == ROLE_NONE)
			return detail_fail(E_INVALIDARG, "roles: number %u is unknown", index);
		if (each > *role)
			*role = each;
	}
	return S_OK;
}

/* ---- who issues ---------------------------------------------------------------------------- */

/* Who issues: the membership, its chain as objects, and the key that will sign. */
struct issuer {
	struct store_membership stored;
	struct trust_result trust;
	X509 *chain[PH_CHAIN_MAX]; /* leaf (us) first */
	uint32_t chain_count;
	EVP_PKEY *key;
	const char *name; /* as the new certificate's issuer */
};

static void issuer_fini(struct issuer *issuer)
{
	pkcs7_free(issuer->chain, issuer->chain_count);
	store_membership_free(&issuer->stored);
	EVP_PKEY_free(issuer->key);
}

/* issuer is zeroed by the caller, who runs issuer_fini on success and failure alike. */
static HRESULT issuer_init(struct issuer *issuer, const char *identity, const char *group)
{
	char resolved[PH_NAME_BYTES_MAX];
	HRESULT result = identity_resolve(identity, resolved);

	if (result == PEER_E_NOT_FOUND || result == PEER_E_INVALID_PEER_NAME)
		return membership_gone(group);
	if (FAILED(result))
		return result;
	result = store_membership_get(resolved, group, &issuer->stored);
	if (result == PEER_E_NOT_FOUND)
		return membership_gone(group);
	if (SUCCEEDED(result))
		result = membership_chain(
			&issuer->stored, issuer->chain, &issuer->chain_count, &issuer->trust);
	return result;
}

static HRESULT issuer_judge(const struct issuer *issuer, enum peer_role role)
{
	int64_t now_s = identity_now_s();

	if (role < ROLE_MEMBER || role > ROLE_ADMIN)
		return detail_fail(E_INVALIDARG, "no role to give");
	if (!role_may_issue(issuer->trust.role, role))
		return detail_fail(PEER_E_NOT_AUTHORIZED, "our role (%s) may not make a %s",
			role_name(issuer->trust.role), role_name(role));
	if (now_s < issuer->trust.valid_from_s || now_s > issuer->trust.valid_to_s)
		return detail_fail(PEER_E_INVALID_TIME_PERIOD,
			"our own membership is expired or not yet valid");
	return S_OK;
}

/* Sign with our identity's key under our chain; a creator renews his own membership with the
 * group's key. Nobody else may appear twice in a chain. */
static HRESULT issuer_arm(struct issuer *issuer, const char *subject)
{
	struct store_bytes der;
	char authority[PEER_AUTHORITY_BYTES];
	HRESULT result;

	if (peer_name_authority(subject, authority) < 0)
		return detail_fail(E_INVALIDARG, "the subject is not a secure peer name");
	if (issuer->stored.is_creator && strcmp(subject, issuer->stored.identity) == 0) {
		result = store_group_key(issuer->stored.identity, issuer->stored.group, &der);
		if (SUCCEEDED(result))
			result = identity_key_decode(issuer->stored.group, &der, &issuer->key);
		store_bytes_free(&der);
		issuer->name = issuer->stored.group;
		pkcs7_free(issuer->chain, issuer->chain_count - 1);
		issuer->chain[0] = issuer->chain[issuer->chain_count - 1];
		issuer->chain_count = 1;
		return result;
	}
	for (uint32_t index = 0; index < issuer->trust.link_count; index++)
		if (strcmp(issuer->trust.links[index].authority, authority) == 0)
			return detail_fail(PEER_E_CIRCULAR_CHAIN_DETECTED,
				"%.200s is part of our own chain", subject);
	if (issuer->chain_count > TRUST_GMC_MAX)
		return detail_fail(PEER_E_CHAIN_TOO_LONG, "our chain has %u certificates already",
			issuer->chain_count);
	issuer->name = issuer->stored.identity;
	return identity_load_key(issuer->stored.identity, &issuer->key);
}

/* What is issued to whom; the same fields whether they come from XML or from the store. */
struct grant {
	const char *subject, *friendly_name;
	const uint8_t *spki;
	size_t spki_bytes;
	enum peer_role role;
	int64_t valid_from_s, valid_to_s;
	const ph_address *addresses;
	uint32_t address_count;
};

static HRESULT grant_write(struct issuer *issuer, X509 *made, const struct grant *grant, PWSTR *xml)
{
	X509 *chain[PH_CHAIN_MAX];
	struct invitation_parts parts = {.chain = chain,
		.chain_count = issuer->chain_count + 1,
		.properties = issuer->stored.properties,
		.addresses = grant->addresses,
		.address_count = grant->address_count,
		.signer = issuer->key};
	char *utf8;
	HRESULT result;

	chain[0] = made;
	memcpy(chain + 1, issuer->chain, issuer->chain_count * sizeof(*chain));
	result = invitation_write(&parts, &utf8);
	if (FAILED(result))
		return result;
	result = block_string(utf8, xml) < 0 ? E_OUTOFMEMORY : S_OK;
	free(utf8);
	return result;
}

/* Remembered, so that a later renewal by name alone knows the key. */
static HRESULT grant_remember(const struct issuer *issuer, const struct grant *grant)
{
	struct store_issued issued = {.role = grant->role,
		.spki_bytes = grant->spki_bytes,
		.valid_from_s = grant->valid_from_s,
		.valid_to_s = grant->valid_to_s};
	HRESULT result;

	memcpy(issued.group, issuer->stored.group, sizeof(issued.group));
	snprintf(issued.subject, sizeof(issued.subject), "%s", grant->subject);
	snprintf(issued.friendly_name, sizeof(issued.friendly_name), "%s", grant->friendly_name);
	memcpy(issued.spki, grant->spki, grant->spki_bytes);
	result = store_issued_put(&issued);
	return result == PEER_E_NOT_FOUND ? membership_gone(issued.group) : result;
}

static HRESULT grant_make(struct issuer *issuer, const struct grant *grant, PWSTR *xml)
{
	struct certificate_request request = {.kind = CERTIFICATE_GMC,
		.name = grant->subject,
		.friendly_name = grant->friendly_name,
		.group = issuer->stored.group,
		.issuer = issuer->name,
		.role = grant->role,
		.valid_from_s = grant->valid_from_s,
		.valid_to_s = grant->valid_to_s,
		.spki = grant->spki,
		.spki_bytes = grant->spki_bytes};
	PWSTR text = NULL;
	X509 *made;
	HRESULT result;
	int status = certificate_issue(&request, issuer->key, &made);

	if (status < 0)
		return identity_crypto_failure(status, "making a membership certificate");
	result = grant_write(issuer, made, grant, &text);
	X509_free(made);
	if (SUCCEEDED(result))
		result = grant_remember(issuer, grant);
	if (SUCCEEDED(result) && xml != NULL)
		*xml = text;
	else
		block_free(text);
	return result;
}

/* Our own remaining lifetime is the most that we can give. */
static HRESULT grant_period(const struct issuer *issuer, struct grant *grant)
{
	if (grant->valid_to_s == 0 || grant->valid_to_s > issuer->trust.valid_to_s)
		grant->valid_to_s = issuer->trust.valid_to_s;
	if (grant->valid_to_s <= identity_now_s() || grant->valid_to_s <= grant->valid_from_s)
		return detail_fail(E_INVALIDARG, "the expiration is not in the future");
	return S_OK;
}

static HRESULT invitation_make(
	struct issuer *issuer, const struct invitation_request *request, PWSTR *xml)
{
	int64_t now_s = identity_now_s();
	struct certificate_info info;
	struct grant grant = {.subject = info.name,
		.friendly_name = info.friendly_name,
		.spki = info.spki,
		.role = request->role,
		.valid_from_s = now_s - CERTIFICATE_BACKDATE_S,
		.valid_to_s = request->valid_to_s,
		.addresses = request->addresses,
		.address_count = request->address_count};
	HRESULT result = identity_from_xml(request->identity_xml, now_s, &info);

	if (FAILED(result))
		return result;
	grant.spki_bytes = info.spki_bytes;
	result = grant_period(issuer, &grant);
	if (SUCCEEDED(result))
		result = issuer_judge(issuer, request->role);
	if (SUCCEEDED(result))
		result = issuer_arm(issuer, info.name);
	if (SUCCEEDED(result))
		result = grant_make(issuer, &grant, xml);
	return result;
}

HRESULT invitation_create(const struct invitation_request *request, PWSTR *xml)
{
	struct issuer issuer = {.chain_count = 0};
	HRESULT result;

	*xml = NULL;
	result = issuer_init(&issuer, request->identity, request->group);
	if (SUCCEEDED(result))
		result = invitation_make(&issuer, request, xml);
	issuer_fini(&issuer);
	return result;
}

/* Fill what the request leaves out from what was issued before. */
static HRESULT grant_complete(
	const struct issue_request *request, const struct store_issued *before, struct grant *grant)
{
	bool has_before = before->spki_bytes > 0;
	int64_t lifetime_s = before->valid_to_s - before->valid_from_s;

	if (grant->spki == NULL && !has_before)
		return detail_fail(PEER_E_IDENTITY_NOT_FOUND, "no key of %.200s is given or known",
			request->subject);
	if (grant->spki == NULL) {
		grant->spki = before->spki;
		grant->spki_bytes = before->spki_bytes;
	}
	if (grant->friendly_name == NULL)
		grant->friendly_name = before->friendly_name;
	if (grant->role == ROLE_NONE)
		grant->role = has_before ? before->role : ROLE_MEMBER;
	if (grant->valid_from_s == 0) {
		grant->valid_from_s = identity_now_s() - CERTIFICATE_BACKDATE_S;
		if (has_before && grant->valid_from_s <= before->valid_from_s)
			grant->valid_from_s = before->valid_from_s + 1;
	} else if (has_before && grant->valid_from_s <= before->valid_from_s) {
		return detail_fail(E_INVALIDARG,
			"the validity does not start later than that of the present credentials");
	}
	if (grant->valid_to_s == 0 && has_before)
		grant->valid_to_s = grant->valid_from_s + lifetime_s;
	return S_OK;
}

static HRESULT subject_check(const struct grant *grant)
{
	char authority[PEER_AUTHORITY_BYTES];

	if (!key_spki_is_valid(grant->spki, grant->spki_bytes))
		return detail_fail(E_INVALIDARG, "the subject's key is neither P-256 nor Ed25519");
	peer_authority_of_key(grant->spki, grant->spki_bytes, authority);
	if (strncmp(grant->subject, authority, PEER_AUTHORITY_CHARS) != 0)
		return detail_fail(
			E_INVALIDARG, "the key is not the one of %.200s", grant->subject);
	return S_OK;
}

static HRESULT issue_make(struct issuer *issuer, const struct issue_request *request, PWSTR *xml)
{
	struct store_issued before;
	struct grant grant = {.subject = request->subject,
		.friendly_name = request->friendly_name,
		.spki = request->spki,
		.spki_bytes = request->spki_bytes,
		.role = request->role,
		.valid_from_s = request->valid_from_s,
		.valid_to_s = request->valid_to_s,
		.addresses = request->addresses,
		.address_count = request->address_count};
	HRESULT result = store_issued_get(request->group, request->subject, &before);

	if (FAILED(result) && result != PEER_E_NOT_FOUND)
		return result;
	result = grant_complete(request, &before, &grant);
	if (SUCCEEDED(result))
		result = subject_check(&grant);
	if (SUCCEEDED(result))
		result = grant_period(issuer, &grant);
	if (SUCCEEDED(result))
		result = issuer_judge(issuer, grant.role);
	if (SUCCEEDED(result))
		result = issuer_arm(issuer, request->subject);
	if (SUCCEEDED(result))
		result = grant_make(issuer, &grant, xml);
	return result;
}

HRESULT credential_issue(const struct issue_request *request, PWSTR *xml)
{
	struct issuer issuer = {.chain_count = 0};
	HRESULT result;

	if (xml != NULL)
		*xml = NULL;
	if (!peer_name_is_secure(request->subject))
		return detail_fail(E_INVALIDARG, "the subject is not a secure peer name");
	result = issuer_init(&issuer, request->identity, request->group);
	if (SUCCEEDED(result) && issuer.trust.role != ROLE_ADMIN)
		result = detail_fail(PEER_E_NOT_AUTHORIZED,
			"our role (%s) may not issue credentials", role_name(issuer.trust.role));
	if (SUCCEEDED(result))
		result = issue_make(&issuer, request, xml);
	issuer_fini(&issuer);
	return result;
}
