/*
 * Credentials: what the group functions need of identities, groups, memberships and invitations.
 *
 * This joins the store (what is on disk), certificates (how it is written) and trust (what it
 * proves). Key generation, signatures and verification never run under the store's lock. All calls
 * are blocking file and CPU work of milliseconds, none of network; any thread. Text is UTF-8,
 * except where the type says PCWSTR/PWSTR; PWSTR results are blocks for PeerFreeData. Peer names
 * given in may be NULL or "" where "default" is said.
 *
 * Every call may also return the store's codes (api/store.h) and E_OUTOFMEMORY; a failure has
 * changed nothing, and detail (api/detail.h) says which thing was wrong.
 */
#ifndef PEERHUB_API_CREDENTIAL_H
#define PEERHUB_API_CREDENTIAL_H

#include "api/store.h"
#include "api/trust.h"

/* ---- identities ------------------------------------------------------------------------- */

/*
 * The full name of an identity of this store; NULL or "" = the default one.
 * PEER_E_INVALID_PEER_NAME (not a secure peer name), PEER_E_IDENTITY_DELETED (was deleted here),
 * PEER_E_NOT_FOUND (unknown, or there is no default).
 */
HRESULT identity_resolve(const char *name, char resolved[PH_NAME_BYTES_MAX]);

/* A new identity with a new P-256 key. friendly_name NULL or "" = the peer name.
 * E_INVALIDARG (classifier or name too long), PEER_E_TOO_MANY_IDENTITIES, PEER_E_NO_KEY_ACCESS. */
HRESULT identity_create(
	const char *classifier, const char *friendly_name, char name[PH_NAME_BYTES_MAX]);

/* ---- groups ----------------------------------------------------------------------------- */

/* PEER_GROUP_PROPERTIES in UTF-8, with defaults filled in. */
struct group_properties {
	uint32_t flags; /* PEER_GROUP_PROPERTY_FLAGS */
	char cloud[PEER_TEXT_BYTES]; /* "" = global */
	char classifier[PEER_TEXT_BYTES];
	char group[PH_NAME_BYTES_MAX];
	char creator[PH_NAME_BYTES_MAX];
	char friendly_name[PEER_TEXT_BYTES];
	char comment[PEER_TEXT_BYTES];
	uint32_t member_data_lifetime_s; /* 0 = maximum */
	uint32_t presence_lifetime_s;
	uint32_t authentication_schemes; /* PEER_GROUP_AUTHENTICATION_SCHEME bits */
	GUID password_role; /* stored; password groups are not part of this library */
	uint64_t sequence; /* grows with every change by the creator */
};

/* Fill in the documented defaults: 28 days, 300 s, GMC authentication. */
void group_properties_init(struct group_properties *properties);

/*
 * Create a group: key, root certificate, the creator's own administrator membership.
 * In: creator ("" = default identity), cloud, classifier, friendly_name, comment, flags, lifetimes,
 * schemes; group must be "". Out: group and creator are filled in.
 * PEER_E_INVALID_PEER_NAME (creator malformed or unknown), HRESULT_FROM_WIN32(ERROR_DELETE_PENDING)
 * (creator deleted), PEER_E_INVALID_CLASSIFIER, PEER_E_INVALID_GROUP_PROPERTIES (group not "",
 * texts too long, lifetimes or flags out of range), PEER_E_NO_CLOUD (unknown cloud),
 * PEER_E_NO_KEY_ACCESS.
 */
HRESULT group_create(struct group_properties *properties);

/* "" and "Global_" are the only clouds without a name service. S_OK or PEER_E_NO_CLOUD. */
HRESULT group_cloud_check(const char *cloud);

/* A membership ready for use, with its own copy of everything. */
struct membership {
	char identity[PH_NAME_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX];
	char friendly_name[PEER_TEXT_BYTES]; /* of the identity; never "" */
	uint64_t node_id;
	bool is_creator;
	bool is_synchronised; /* true for a creator */
	struct trust_result trust; /* our own chain as others will judge it */
	uint32_t chain_count; /* leaf first, root last: ready for ph_credentials_create */
	struct ph_bytes chain[PH_CHAIN_MAX];
	struct ph_bytes key; /* PKCS #8; wiped by membership_free */
	uint32_t address_count;
	ph_address addresses[STORE_ADDRESSES_MAX]; /* to try */
	bool has_properties;
	struct group_properties properties;
};

/*
 * Load a membership; identity NULL or "" = default.
 * E_INVALIDARG (a name is malformed), PEER_E_NOT_FOUND (identity or group unknown),
 * PEER_E_NO_KEY_ACCESS, PEER_E_CERT_STORE_CORRUPTED (stored chain does not fit its identity).
 * An expired chain loads; trust.valid_to_s tells. The store stays the one in use until it is freed
 * (PeerhubSetHome answers PEER_E_GROUP_IN_USE).
 */
HRESULT membership_load(const char *identity, const char *group, struct membership **membership);
void membership_free(struct membership *membership); /* NULL allowed */

/* Is it still there? Another process may have deleted it. S_OK, PEER_E_INVALID_GROUP. */
HRESULT membership_check(const char *identity, const char *group);

/* Erase the local data of a group; identity NULL or "" = default.
 * E_INVALIDARG (malformed names), PEER_E_NOT_FOUND, PEER_E_NO_KEY_ACCESS. */
HRESULT membership_delete(const char *identity, const char *group);

/*
 * Take an invitation; identity NULL or "" = default, cloud NULL or "" = the invitation's.
 * Out (full names; may be NULL): joined_identity, joined_group. Joining again replaces the chain.
 * E_INVALIDARG (NULL, not an invitation, over 65,535 units, not well-formed),
 * PEER_E_INVALID_PEER_NAME (identity malformed or unknown), PEER_E_INVITATION_NOT_TRUSTED (altered,
 * forged, or for somebody else), PEER_E_INVALID_TIME_PERIOD (expired or not yet valid),
 * PEER_E_UNSUPPORTED_VERSION, PEER_E_NO_CLOUD, PEER_E_NO_KEY_ACCESS.
 */
HRESULT membership_join(const char *identity, PCWSTR invitation, const char *cloud,
	char joined_identity[PH_NAME_BYTES_MAX], char joined_group[PH_NAME_BYTES_MAX]);

/* WELCOME came, or a neighbor called: remembered for good. Idempotent, cheap when already set.
 * PEER_E_INVALID_GROUP. */
HRESULT membership_synchronised(const char *identity, const char *group);
/* Addresses that worked, newest first; replaces the list. At most STORE_ADDRESSES_MAX are kept.
 * PEER_E_INVALID_GROUP. */
HRESULT membership_addresses(
	const char *identity, const char *group, const ph_address *addresses, uint32_t count);

/* PEER_E_INVALID_GROUP (not there any more), PEER_E_GROUP_NOT_READY (properties not known yet). */
HRESULT group_properties_get(
	const char *identity, const char *group, struct group_properties *properties);
/*
 * Creator only. properties->group names the group; cloud, classifier, creator, lifetimes and
 * schemes must equal what is stored. The new sequence is written back.
 * PEER_E_NOT_AUTHORIZED, PEER_E_INVALID_GROUP_PROPERTIES, PEER_E_INVALID_GROUP,
 * PEER_E_GROUP_NOT_READY, PEER_E_NO_KEY_ACCESS.
 */
HRESULT group_properties_set(const char *identity, struct group_properties *properties);

/* ---- roles ------------------------------------------------------------------------------ */

/* Highest of the given role GUIDs. E_INVALIDARG (none, NULL, unknown, over 16). */
HRESULT role_from_guids(ULONG count, const GUID *guids, enum peer_role *role);
const GUID *role_guid(enum peer_role role); /* member, inviting member, admin; else NULL */

/* ---- invitations and credentials -------------------------------------------------------- */

struct invitation_request {
	const char *identity; /* the issuer: our own identity; full name */
	const char *group;
	PCWSTR identity_xml; /* of the invitee, from PeerIdentityGetXML */
	int64_t valid_to_s; /* 0 = as long as the issuer's own; later ones are clipped to that */
	enum peer_role role;
	const ph_address *addresses; /* where to find us or others; may be empty */
	uint32_t address_count; /* at most PH_ADDRESSES_MAX */
};
/*
 * PeerGroupCreateInvitation without its handle checks. *xml is a block, NULL on failure.
 * E_INVALIDARG (identity XML, role, expiry not in the future, over 65,535 units),
 * PEER_E_NOT_AUTHORIZED (our role may not issue that one), PEER_E_CHAIN_TOO_LONG,
 * PEER_E_CIRCULAR_CHAIN_DETECTED (the invitee is in our own chain), PEER_E_INVALID_TIME_PERIOD
 * (our own chain is expired), PEER_E_IDENTITY_DELETED, PEER_E_INVALID_GROUP, PEER_E_NO_KEY_ACCESS.
 */
HRESULT invitation_create(const struct invitation_request *request, PWSTR *xml);

struct issue_request {
	const char *identity; /* the issuer */
	const char *group;
	const char *subject; /* full peer name of the subject */
	/* What is NULL, 0 or ROLE_NONE is taken from what was issued to the subject before. */
	const char *friendly_name;
	const uint8_t *spki; /* DER SubjectPublicKeyInfo */
	size_t spki_bytes;
	enum peer_role role;
	int64_t valid_from_s, valid_to_s;
	const ph_address *addresses;
	uint32_t address_count;
};
/*
 * PeerGroupIssueCredentials, invitation form; xml may be NULL.
 * As invitation_create, and PEER_E_NOT_AUTHORIZED (we are not an administrator),
 * PEER_E_IDENTITY_NOT_FOUND (no key given and none known), E_INVALIDARG (subject malformed, key
 * is not the subject's, valid_from not later than that of the current credentials, empty period).
 */
HRESULT credential_issue(const struct issue_request *request, PWSTR *xml);

/* SubjectPublicKeyInfo DER of a CERT_PUBLIC_KEY_INFO. E_INVALIDARG. */
HRESULT spki_from_key_info(
	const CERT_PUBLIC_KEY_INFO *key_info, uint8_t spki[KEY_SPKI_BYTES_MAX], size_t *spki_bytes);

#endif
