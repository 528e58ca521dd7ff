/*
 * The store: identities, groups, memberships and keys of one user on one machine, on disk.
 *
 * A directory (0700) with `store.db` (SQLite, WAL, synchronous=FULL) and `keys/` (0700) with one
 * file (0600) per private key. The directory is, in this order: store_home_set(), PEERHUB_HOME,
 * $XDG_DATA_HOME/peerhub, /var/lib/peerhub for root, $HOME/.local/share/peerhub. It is made when
 * missing, and opened at the first call.
 *
 * What always holds: a change is on disk before the call that made it returns; a process that
 * dies at any point leaves the whole change or nothing of it. A store that is damaged or made by
 * a newer version is refused and not touched. Several processes may use one store at once.
 *
 * Any thread; one connection guarded by one mutex; a process may fork (the connection is closed
 * around fork and opened again). Text is UTF-8. Every call may also return the store's own codes:
 *   PEER_E_CERT_STORE_CORRUPTED  damaged, newer, or not a store of ours (detail says which)
 *   PEER_E_DISK_FULL, E_ACCESSDENIED (read-only or no permission), E_OUTOFMEMORY,
 *   HRESULT_FROM_WIN32(ERROR_BUSY) (another process holds the lock for longer than 10 s),
 *   HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND) (no directory can be chosen or made)
 */
#ifndef PEERHUB_API_STORE_H
#define PEERHUB_API_STORE_H

#include "api/certificate.h"
#include "p2p.h"

#define STORE_IDENTITIES_MAX 1000u /* PEER_E_TOO_MANY_IDENTITIES beyond */
#define STORE_GROUPS_MAX 10000u /* memberships; E_OUTOFMEMORY beyond */
#define STORE_ADDRESSES_MAX PH_ADDRESSES_MAX /* known addresses of one membership */

/* Bytes owned by the holder: free with store_bytes_free, which wipes them. */
struct store_bytes {
	uint8_t *data;
	size_t bytes;
};
void store_bytes_free(struct store_bytes *bytes);

/* Choose the directory; NULL = by the environment. Closes the store that was open.
 * S_OK, E_INVALIDARG (empty or longer than a path may be), PEER_E_GROUP_IN_USE (pinned). */
HRESULT store_home_set(const char *path);
/* The directory in use; S_OK or the store's codes. */
HRESULT store_home(char *path, size_t path_bytes);
/* Close the connection; the next call opens it again. For tests and for process end. */
void store_close(void);
/* While pinned (counted: a group is open), store_home_set answers PEER_E_GROUP_IN_USE. */
void store_pin(void);
void store_unpin(void);

/* ---- identities ------------------------------------------------------------------------- */

struct store_identity {
	char name[PH_NAME_BYTES_MAX];
	char friendly_name[PEER_TEXT_BYTES]; /* "" = same as the name */
	bool is_default;
	struct store_bytes certificate; /* IDC, DER */
};
void store_identity_free(struct store_identity *identity); /* what it points to */

/* Key (PKCS #8) and row, both or none. The first identity becomes the default.
 * PEER_E_ALREADY_EXISTS, PEER_E_TOO_MANY_IDENTITIES, PEER_E_NO_KEY_ACCESS (keys/ not private). */
HRESULT store_identity_add(const struct store_identity *identity, struct store_bytes key);
/* name NULL or "" = the default one. PEER_E_NOT_FOUND. */
HRESULT store_identity_get(const char *name, struct store_identity *identity);
/* PEER_E_NOT_FOUND, PEER_E_NO_KEY_ACCESS (missing, not ours, or readable by others). */
HRESULT store_identity_key(const char *name, struct store_bytes *key);
/* Only checks that the key could be read. */
HRESULT store_identity_key_check(const char *name);
HRESULT store_identity_update(const struct store_identity *identity); /* PEER_E_NOT_FOUND */
/* PEER_E_NOT_FOUND, PEER_E_GROUPS_EXIST. The oldest remaining one becomes the default. */
HRESULT store_identity_delete(const char *name);
HRESULT store_identity_was_deleted(const char *name, bool *was_deleted);

struct store_name_pair {
	char name[PH_NAME_BYTES_MAX];
	char friendly_name[PEER_TEXT_BYTES]; /* never "": the name when there is none */
};
/* All identities, oldest first; *pairs is malloc'd, free() it. */
HRESULT store_identities(struct store_name_pair **pairs, uint32_t *count);
/* All groups of one identity, oldest first. */
HRESULT store_groups(const char *identity, struct store_name_pair **pairs, uint32_t *count);

/* ---- memberships ------------------------------------------------------------------------ */

struct store_membership {
	char identity[PH_NAME_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX];
	char group_friendly_name[PEER_TEXT_BYTES];
	uint64_t node_id; /* drawn once when the membership is made, never 0 */
	bool is_creator; /* this store holds the group's private key */
	bool is_synchronised; /* was connected to a member once */
	struct store_bytes chain; /* PKCS #7, root first */
	struct store_bytes properties; /* signed by the group's key; may be empty */
	uint32_t address_count;
	ph_address addresses[STORE_ADDRESSES_MAX]; /* to try, the last successful first */
};
void store_membership_free(struct store_membership *membership);

/* Insert, or replace the chain, properties and addresses of what is there. group_key non-empty:
 * this identity created the group. PEER_E_NOT_FOUND (identity). */
HRESULT store_membership_put(
	const struct store_membership *membership, struct store_bytes group_key);
HRESULT store_membership_get(const char *identity, const char *group,
	struct store_membership *membership); /* NOT_FOUND */
HRESULT store_membership_exists(const char *identity, const char *group); /* S_OK, NOT_FOUND */
HRESULT store_membership_delete(const char *identity, const char *group); /* NOT_FOUND */
/* The group's private key, of its creator. PEER_E_NOT_FOUND, PEER_E_NO_KEY_ACCESS. */
HRESULT store_group_key(const char *identity, const char *group, struct store_bytes *key);
HRESULT store_properties_get(const char *group, struct store_bytes *properties); /* NOT_FOUND */
HRESULT store_properties_set(const char *group, struct store_bytes properties,
	const char *friendly_name); /* NOT_FOUND */
HRESULT store_synchronised_set(const char *identity, const char *group); /* NOT_FOUND */
HRESULT store_addresses_set(const char *identity, const char *group, const ph_address *addresses,
	uint32_t count); /* NOT_FOUND */

/* ---- credentials that were issued here --------------------------------------------------- */

struct store_issued {
	char group[PH_NAME_BYTES_MAX];
	char subject[PH_NAME_BYTES_MAX];
	char friendly_name[PEER_TEXT_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
	enum peer_role role;
	int64_t valid_from_s, valid_to_s;
};
HRESULT store_issued_put(const struct store_issued *issued);
HRESULT store_issued_get(const char *group, const char *subject, struct store_issued *issued);

/* ---- lists of revocations ---------------------------------------------------------------- */

/* The list of one signer (an authority), in place of an older one. S_OK; S_FALSE: one of this or a higher
 * sequence is there, and stays; PEER_E_NOT_FOUND (group). */
HRESULT store_revocation_put(
	const char *group, const char *signer, uint64_t sequence, struct store_bytes list);
/* The lists of a group, its own first, none for a group that is not there. S_FALSE: there are more than
 * count_max. */
HRESULT store_revocations_get(
	const char *group, struct store_bytes lists[], uint32_t count_max, uint32_t *count);

#endif
