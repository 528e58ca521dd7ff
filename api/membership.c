/*
 * Memberships: groups made, joined, loaded and left (credentials are issued in api/issue.c). All of
 * it is "read the store, compute, write the store"; the store's lock is never held while a key
 * works.
 */
#include "api/credential.h"

#include "api/detail.h"
#include "api/identity.h"
#include "api/invitation.h"
#include "api/membership.h"
#include "api/pkcs7.h"
#include "api/properties.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- small things ------------------------------------------------------------------------ */

static HRESULT node_id_draw(uint64_t *node_id)
{
	do {
		if (getrandom(node_id, sizeof(*node_id), 0) != (ssize_t)sizeof(*node_id))
			return detail_fail(E_OUTOFMEMORY, "no randomness for a node id");
	} while (*node_id == 0);
	return S_OK;
}

/* A copy of OpenSSL's bytes that store_bytes_free can free. */
static HRESULT bytes_adopt(uint8_t *der, size_t der_bytes, struct store_bytes *bytes)
{
	bytes->data = malloc(der_bytes);
	if (bytes->data != NULL) {
		memcpy(bytes->data, der, der_bytes);
		bytes->bytes = der_bytes;
	}
	OPENSSL_free(der);
	return bytes->data != NULL ? S_OK : E_OUTOFMEMORY;
}

static HRESULT chain_pack(X509 *const *chain, uint32_t count, struct store_bytes *bytes)
{
	uint8_t *der;
	size_t der_bytes;

	if (pkcs7_pack(chain, count, &der, &der_bytes) < 0)
		return E_OUTOFMEMORY;
	return bytes_adopt(der, der_bytes, bytes);
}

HRESULT membership_gone(const char *group)
{
	return detail_fail(
		PEER_E_INVALID_GROUP, "group %.200s is not in the store any more", group);
}

/* ---- making a group ---------------------------------------------------------------------- */

static HRESULT creator_resolve(struct group_properties *properties)
{
	HRESULT result = identity_resolve(properties->creator, properties->creator);

	if (result == PEER_E_IDENTITY_DELETED)
		return HRESULT_FROM_WIN32(ERROR_DELETE_PENDING);
	if (result == PEER_E_NOT_FOUND)
		return PEER_E_INVALID_PEER_NAME;
	return result;
}

/* The group's root certificate, its name filled in. */
static int root_make(struct group_properties *properties, EVP_PKEY *group_key, X509 **root)
{
	char authority[PEER_AUTHORITY_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	struct certificate_request request = {.kind = CERTIFICATE_GRC,
		.name = properties->group,
		.group = properties->group,
		.friendly_name = properties->friendly_name,
		.valid_from_s = identity_now_s() - CERTIFICATE_BACKDATE_S,
		.valid_to_s = identity_now_s() + CERTIFICATE_LIFETIME_MAX_S,
		.spki = spki};
	int status = key_spki(group_key, spki, &request.spki_bytes);

	if (status < 0)
		return status;
	peer_authority_of_key(spki, request.spki_bytes, authority);
	status = peer_name_make(authority, properties->classifier, properties->group);
	if (status < 0)
		return status;
	return certificate_issue(&request, group_key, root);
}

/* The creator's own membership, signed by the group. */
static int creator_certify(const struct group_properties *properties, EVP_PKEY *identity_key,
	EVP_PKEY *group_key, X509 **member)
{
	char friendly_name[PEER_TEXT_BYTES] = "";
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	struct certificate_request request = {.kind = CERTIFICATE_GMC,
		.name = properties->creator,
		.group = properties->group,
		.issuer = properties->group,
		.friendly_name = friendly_name,
		.role = ROLE_ADMIN,
		.valid_from_s = identity_now_s() - CERTIFICATE_BACKDATE_S,
		.valid_to_s = identity_now_s() + CERTIFICATE_LIFETIME_MAX_S,
		.spki = spki};
	struct store_identity identity;
	int status;

	status = key_spki(identity_key, spki, &request.spki_bytes);
	if (status < 0)
		return status;
	if (SUCCEEDED(store_identity_get(properties->creator, &identity)))
		memcpy(friendly_name, identity.friendly_name, sizeof(friendly_name));
	store_identity_free(&identity);
	return certificate_issue(&request, group_key, member);
}

static HRESULT group_store(
	const struct group_properties *properties, X509 *const *chain, EVP_PKEY *group_key)
{
	struct store_membership membership = {.is_creator = true, .is_synchronised = true};
	struct store_bytes secret = {0};
	HRESULT result = node_id_draw(&membership.node_id);

	memcpy(membership.identity, properties->creator, sizeof(membership.identity));
	memcpy(membership.group, properties->group, sizeof(membership.group));
	memcpy(membership.group_friendly_name, properties->friendly_name,
		sizeof(membership.group_friendly_name));
	if (SUCCEEDED(result))
		result = chain_pack(chain, 2, &membership.chain);
	if (SUCCEEDED(result) && properties_pack(properties, group_key, &membership.properties) < 0)
		result = E_OUTOFMEMORY;
	if (SUCCEEDED(result) && key_to_der(group_key, &secret.data, &secret.bytes) < 0)
		result = E_OUTOFMEMORY;
	if (SUCCEEDED(result))
		result = store_membership_put(&membership, secret);
	if (result == PEER_E_NOT_FOUND) /* the creator vanished since it was looked up */
		result = HRESULT_FROM_WIN32(ERROR_DELETE_PENDING);
	key_der_free(secret.data, secret.bytes);
	store_membership_free(&membership);
	return result;
}

static HRESULT group_make(
	struct group_properties *properties, EVP_PKEY *identity_key, EVP_PKEY *group_key)
{
	X509 *chain[2] = {NULL, NULL};
	HRESULT result;
	int status = root_make(properties, group_key, &chain[1]);

	if (status == 0)
		status = creator_certify(properties, identity_key, group_key, &chain[0]);
	result = status == 0 ? group_store(properties, chain, group_key)
			     : identity_crypto_failure(status, "making a group's certificates");
	pkcs7_free(chain, 2);
	return result;
}

static HRESULT group_create_checked(struct group_properties *properties)
{
	EVP_PKEY *identity_key = NULL;
	EVP_PKEY *group_key;
	HRESULT result = creator_resolve(properties);

	if (SUCCEEDED(result))
		result = identity_load_key(properties->creator, &identity_key);
	if (FAILED(result))
		return result;
	group_key = key_create();
	result = group_key != NULL ? group_make(properties, identity_key, group_key)
				   : identity_crypto_failure(-ENOMEM, "making a group's key pair");
	EVP_PKEY_free(group_key);
	EVP_PKEY_free(identity_key);
	return result;
}

HRESULT group_create(struct group_properties *properties)
{
	struct group_properties made = *properties;
	HRESULT result;

	if (made.group[0] != '\0')
		return detail_fail(PEER_E_INVALID_GROUP_PROPERTIES,
			"group properties: the group's name is given by its key");
	if (made.presence_lifetime_s == 0)
		made.presence_lifetime_s = 300; /* the documented default */
	made.sequence = 1;
	result = properties_check(&made);
	if (SUCCEEDED(result))
		result = group_cloud_check(made.cloud);
	if (SUCCEEDED(result))
		result = group_create_checked(&made);
	if (SUCCEEDED(result))
		*properties = made;
	return result;
}

/* ---- loading ---------------------------------------------------------------------------- */

static HRESULT damaged(const char *group, const char *why)
{
	return detail_fail(
		PEER_E_CERT_STORE_CORRUPTED, "store: membership of %.160s: %.150s", group, why);
}

HRESULT membership_chain(const struct store_membership *stored, X509 *chain[PH_CHAIN_MAX],
	uint32_t *count, struct trust_result *trust)
{
	struct trust_request request = {.any_time = true};
	char refusal[REFUSAL_BYTES];
	enum trust_status judged;
	int status =
		pkcs7_unpack(stored->chain.data, stored->chain.bytes, chain, PH_CHAIN_MAX, count);

	if (status < 0) {
		*count = 0;
		return status == -ENOMEM ? E_OUTOFMEMORY
					 : damaged(stored->group, "the chain is not PKCS #7");
	}
	judged = trust_verify(chain, *count, &request, trust, refusal);
	if (judged == TRUST_NO_MEMORY)
		return E_OUTOFMEMORY;
	if (judged != TRUST_OK)
		return damaged(stored->group, refusal);
	if (strcmp(trust->group, stored->group) != 0 ||
		strcmp(trust->identity, stored->identity) != 0)
		return damaged(stored->group, "the chain is somebody else's");
	return S_OK;
}

static HRESULT chain_export(struct membership *membership, X509 *const *chain, uint32_t count)
{
	for (uint32_t index = 0; index < count; index++) {
		uint8_t *der;
		size_t der_bytes;

		if (certificate_to_der(chain[index], &der, &der_bytes) < 0)
			return E_OUTOFMEMORY;
		membership->chain[index] = (struct ph_bytes){der, der_bytes};
		membership->chain_count = index + 1;
	}
	return S_OK;
}

static HRESULT key_attach(struct membership *membership)
{
	struct store_bytes der;
	EVP_PKEY *key = NULL;
	HRESULT result = store_identity_key(membership->identity, &der);

	if (FAILED(result))
		return result;
	membership->key = (struct ph_bytes){der.data, der.bytes}; /* ours from here */
	result = identity_key_decode(membership->identity, &der, &key);
	EVP_PKEY_free(key);
	return result;
}

static HRESULT fill_from_store(struct membership *membership, const struct store_membership *stored)
{
	X509 *chain[PH_CHAIN_MAX];
	uint32_t count = 0;
	HRESULT result;

	memcpy(membership->identity, stored->identity, sizeof(membership->identity));
	memcpy(membership->group, stored->group, sizeof(membership->group));
	membership->node_id = stored->node_id;
	membership->is_creator = stored->is_creator;
	membership->is_synchronised = stored->is_synchronised || stored->is_creator;
	membership->address_count = stored->address_count;
	memcpy(membership->addresses, stored->addresses, sizeof(membership->addresses));
	result = membership_chain(stored, chain, &count, &membership->trust);
	if (SUCCEEDED(result))
		result = chain_export(membership, chain, count);
	if (SUCCEEDED(result) && stored->properties.bytes > 0) {
		int status = properties_unpack(stored->properties.data, stored->properties.bytes,
			chain[count - 1], &membership->properties);

		membership->has_properties = status == 0;
		if (status < 0)
			result = status == -ENOMEM
				? E_OUTOFMEMORY
				: damaged(stored->group, "the properties are not the group's");
	}
	pkcs7_free(chain, count);
	return result;
}

/* Malformed names are the caller's fault, unknown ones are not there. */
static HRESULT names_resolve(
	const char *identity, const char *group, char resolved[PH_NAME_BYTES_MAX])
{
	HRESULT result;

	if (group == NULL || !peer_name_is_secure(group))
		return detail_fail(E_INVALIDARG, "the group's name is not a secure peer name");
	result = identity_resolve(identity, resolved);
	if (result == PEER_E_INVALID_PEER_NAME)
		return E_INVALIDARG;
	return result == PEER_E_IDENTITY_DELETED ? PEER_E_NOT_FOUND : result;
}

static void membership_destroy(struct membership *membership)
{
	struct store_bytes key = {(uint8_t *)membership->key.data, membership->key.bytes};

	for (uint32_t index = 0; index < membership->chain_count; index++)
		OPENSSL_free((void *)membership->chain[index].data);
	store_bytes_free(&key);
	free(membership);
}

HRESULT membership_load(const char *identity, const char *group, struct membership **membership)
{
	struct store_membership stored;
	char resolved[PH_NAME_BYTES_MAX];
	struct membership *made;
	HRESULT result = names_resolve(identity, group, resolved);

	*membership = NULL;
	if (SUCCEEDED(result))
		result = store_membership_get(resolved, group, &stored);
	if (FAILED(result))
		return result;
	made = calloc(1, sizeof(*made));
	result = made != NULL ? fill_from_store(made, &stored) : E_OUTOFMEMORY;
	store_membership_free(&stored);
	if (SUCCEEDED(result))
		result = key_attach(made);
	if (SUCCEEDED(result))
		result = identity_friendly_name(made->identity, made->friendly_name);
	if (FAILED(result)) {
		if (made != NULL)
			membership_destroy(made);
		return result;
	}
	store_pin();
	*membership = made;
	return S_OK;
}

void membership_free(struct membership *membership)
{
	if (membership == NULL)
		return;
	store_unpin();
	membership_destroy(membership);
}

HRESULT membership_check(const char *identity, const char *group)
{
	HRESULT result = store_membership_exists(identity, group);

	return result == PEER_E_NOT_FOUND ? membership_gone(group) : result;
}

HRESULT membership_delete(const char *identity, const char *group)
{
	char resolved[PH_NAME_BYTES_MAX];
	HRESULT result = names_resolve(identity, group, resolved);

	if (SUCCEEDED(result))
		result = store_membership_exists(resolved, group);
	/* Who cannot use the identity's key does not get to erase what belongs to it. */
	if (SUCCEEDED(result))
		result = store_identity_key_check(resolved);
	if (SUCCEEDED(result))
		result = store_membership_delete(resolved, group);
	return result;
}

/* ---- joining ---------------------------------------------------------------------------- */

static HRESULT joiner_resolve(const char *identity, char resolved[PH_NAME_BYTES_MAX])
{
	HRESULT result = identity_resolve(identity, resolved);

	if (result == PEER_E_NOT_FOUND || result == PEER_E_IDENTITY_DELETED)
		return PEER_E_INVALID_PEER_NAME;
	return result;
}

static HRESULT invitation_judge(const struct invitation *invitation, const char *identity)
{
	int64_t now_s = identity_now_s();

	if (strcmp(invitation->trust.identity, identity) != 0)
		return detail_fail(PEER_E_INVITATION_NOT_TRUSTED,
			"invitation: it is for %.150s, not for %.150s", invitation->trust.identity,
			identity);
	if (now_s < invitation->trust.valid_from_s)
		return detail_fail(PEER_E_INVALID_TIME_PERIOD,
			"invitation: not valid yet (do the clocks agree?)");
	if (now_s > invitation->trust.valid_to_s)
		return detail_fail(PEER_E_INVALID_TIME_PERIOD, "invitation: expired");
	return S_OK;
}

/* Keep the properties that another invitation brought if they are newer. */
static HRESULT properties_choose(
	const struct invitation *invitation, struct store_membership *membership)
{
	X509 *root = invitation->chain[invitation->chain_count - 1];
	struct group_properties present;
	struct store_bytes packed;
	int status = -EINVAL;
	HRESULT result = store_properties_get(invitation->trust.group, &packed);

	if (FAILED(result))
		return result == PEER_E_NOT_FOUND ? S_OK : result;
	if (packed.bytes > 0)
		status = properties_unpack(packed.data, packed.bytes, root, &present);
	if (status == 0 && invitation->properties.sequence < present.sequence)
		membership->properties = (struct store_bytes){0};
	store_bytes_free(&packed);
	return status == -ENOMEM ? E_OUTOFMEMORY : S_OK;
}

static HRESULT join_store(const struct invitation *invitation, const char *identity)
{
	/* Borrowed from the invitation: nothing here is freed. */
	struct store_membership membership = {
		.chain = invitation->chain_der,
		.properties = invitation->packed_properties,
		.address_count = invitation->address_count,
	};
	HRESULT result = node_id_draw(&membership.node_id);

	memcpy(membership.identity, identity, sizeof(membership.identity));
	memcpy(membership.group, invitation->trust.group, sizeof(membership.group));
	memcpy(membership.addresses, invitation->addresses, sizeof(membership.addresses));
	snprintf(membership.group_friendly_name, sizeof(membership.group_friendly_name), "%s",
		invitation->has_properties ? invitation->properties.friendly_name
					   : invitation->trust.group_friendly_name);
	if (SUCCEEDED(result))
		result = properties_choose(invitation, &membership);
	if (SUCCEEDED(result))
		result = store_membership_put(&membership, (struct store_bytes){0});
	return result == PEER_E_NOT_FOUND ? PEER_E_INVALID_PEER_NAME : result;
}
_Static_assert(STORE_ADDRESSES_MAX == PH_ADDRESSES_MAX, "an invitation's addresses fit the store");

HRESULT membership_join(const char *identity, PCWSTR invitation, const char *cloud,
	char joined_identity[PH_NAME_BYTES_MAX], char joined_group[PH_NAME_BYTES_MAX])
{
	char resolved[PH_NAME_BYTES_MAX];
	struct invitation *read = NULL;
	EVP_PKEY *key = NULL;
	HRESULT result = joiner_resolve(identity, resolved);

	if (SUCCEEDED(result))
		result = invitation_read(invitation, &read);
	if (SUCCEEDED(result))
		result = invitation_judge(read, resolved);
	if (SUCCEEDED(result))
		result = group_cloud_check(cloud != NULL && cloud[0] != '\0' ? cloud : read->cloud);
	if (SUCCEEDED(result))
		result = identity_load_key(resolved, &key);
	EVP_PKEY_free(key);
	if (SUCCEEDED(result))
		result = join_store(read, resolved);
	if (SUCCEEDED(result) && joined_identity != NULL)
		memcpy(joined_identity, resolved, PH_NAME_BYTES_MAX);
	if (SUCCEEDED(result) && joined_group != NULL)
		memcpy(joined_group, read->trust.group, PH_NAME_BYTES_MAX);
	invitation_free(read);
	return result;
}

HRESULT membership_synchronised(const char *identity, const char *group)
{
	struct store_membership stored;
	bool is_set;
	HRESULT result = store_membership_get(identity, group, &stored);

	if (SUCCEEDED(result)) {
		is_set = stored.is_synchronised;
		store_membership_free(&stored);
		result = is_set ? S_OK : store_synchronised_set(identity, group);
	}
	return result == PEER_E_NOT_FOUND ? membership_gone(group) : result;
}

HRESULT membership_addresses(
	const char *identity, const char *group, const ph_address *addresses, uint32_t count)
{
	HRESULT result = store_addresses_set(identity, group, addresses, count);

	return result == PEER_E_NOT_FOUND ? membership_gone(group) : result;
}

/* ---- properties ------------------------------------------------------------------------- */

/* What is stored and its verified form; `stored` is the caller's to free. */
static HRESULT properties_load(const char *identity, const char *group,
	struct store_membership *stored, struct group_properties *properties)
{
	struct trust_result trust;
	X509 *chain[PH_CHAIN_MAX];
	uint32_t count = 0;
	int status;
	HRESULT result = store_membership_get(identity, group, stored);

	if (FAILED(result))
		return result == PEER_E_NOT_FOUND ? membership_gone(group) : result;
	if (stored->properties.bytes == 0)
		return detail_fail(PEER_E_GROUP_NOT_READY,
			"the properties of group %.200s are not known yet", group);
	result = membership_chain(stored, chain, &count, &trust);
	if (SUCCEEDED(result)) {
		status = properties_unpack(stored->properties.data, stored->properties.bytes,
			chain[count - 1], properties);
		if (status < 0)
			result = status == -ENOMEM
				? E_OUTOFMEMORY
				: damaged(group, "the properties are not the group's");
	}
	pkcs7_free(chain, count);
	return result;
}

HRESULT group_properties_get(
	const char *identity, const char *group, struct group_properties *properties)
{
	struct store_membership stored;
	HRESULT result = properties_load(identity, group, &stored, properties);

	store_membership_free(&stored);
	return result;
}

static HRESULT properties_frozen(
	const struct group_properties *wanted, const struct group_properties *present)
{
	const char *what = NULL;

	if (strcmp(wanted->cloud, present->cloud) != 0)
		what = "cloud";
	else if (strcmp(wanted->classifier, present->classifier) != 0)
		what = "classifier";
	else if (strcmp(wanted->creator, present->creator) != 0)
		what = "creator";
	else if (wanted->member_data_lifetime_s != present->member_data_lifetime_s)
		what = "member data lifetime";
	else if (wanted->presence_lifetime_s != present->presence_lifetime_s)
		what = "presence lifetime";
	else if (wanted->authentication_schemes != present->authentication_schemes)
		what = "authentication schemes";
	if (what == NULL)
		return S_OK;
	return detail_fail(
		PEER_E_INVALID_GROUP_PROPERTIES, "group properties: %s cannot be changed", what);
}

static HRESULT properties_write(const char *identity, struct group_properties *properties)
{
	struct store_bytes der = {0}, packed = {0};
	EVP_PKEY *key = NULL;
	HRESULT result = store_group_key(identity, properties->group, &der);

	if (SUCCEEDED(result))
		result = identity_key_decode(properties->group, &der, &key);
	store_bytes_free(&der);
	if (FAILED(result))
		return result;
	if (properties_pack(properties, key, &packed) < 0)
		result = E_OUTOFMEMORY;
	else
		result = store_properties_set(properties->group, packed, properties->friendly_name);
	EVP_PKEY_free(key);
	store_bytes_free(&packed);
	return result == PEER_E_NOT_FOUND ? membership_gone(properties->group) : result;
}

HRESULT group_properties_set(const char *identity, struct group_properties *properties)
{
	struct store_membership stored;
	struct group_properties present;
	struct group_properties wanted = *properties;
	HRESULT result = properties_load(identity, wanted.group, &stored, &present);

	if (SUCCEEDED(result) && !stored.is_creator)
		result = detail_fail(PEER_E_NOT_AUTHORIZED,
			"only the creator may change the properties of a group");
	store_membership_free(&stored);
	if (SUCCEEDED(result))
		result = properties_check(&wanted);
	if (SUCCEEDED(result))
		result = properties_frozen(&wanted, &present);
	wanted.sequence = present.sequence + 1;
	if (SUCCEEDED(result))
		result = properties_write(identity, &wanted);
	if (SUCCEEDED(result))
		properties->sequence = wanted.sequence;
	return result;
}
