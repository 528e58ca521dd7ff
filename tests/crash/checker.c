/*
 * A checker: opens a store after a death and proves that all of it can be used; see worker.h. First through
 * p2p.h, as any program would, then below it: keys, key files, and the database by SQLite's own eyes.
 */
#include "tests/crash/worker.h"

#include "api/credential.h"
#include "api/identity.h"
#include "api/store.h"
#include "api/text.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "tests/crash/points.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_BYTES_MAX (64l << 20) /* the write-ahead log is folded in long before */

static struct model found;
static bool is_probe; /* of a damaged store: to be refused is no fault */
static uint32_t keys_named; /* key files that the store's rows ask for */

/* Refused is an answer of its own: the store says that it, or a key of it, is damaged. */
static int failed(const char *what, const char *name, HRESULT result)
{
	if (is_probe && (result == PEER_E_CERT_STORE_CORRUPTED || result == PEER_E_NO_KEY_ACCESS))
		return CHECKER_REFUSED;
	fprintf(stderr, "crash: checker: %s %.60s: %s: %s\n", what, name, PeerhubResultName(result),
		PeerhubLastErrorText());
	return 1;
}

/* What only we can tell, because of this field the store has one copy that nothing signs. */
static int unsigned_field(const char *what, const char *detail)
{
	if (is_probe)
		return CHECKER_UNNOTICED;
	fprintf(stderr, "crash: checker: %s: %.300s\n", what, detail);
	return 1;
}

static int wrong(const char *what, const char *detail)
{
	fprintf(stderr, "crash: checker: %s: %.300s\n", what, detail);
	return 1;
}

/* ---- keys ---------------------------------------------------------------------------------- */

static bool signs(EVP_PKEY *key, const struct store_bytes *certificate)
{
	static const uint8_t text[] = "what was acknowledged is there";
	const uint8_t *der = certificate->data;
	X509 *x509 = d2i_X509(NULL, &der, (long)certificate->bytes);
	EVP_MD_CTX *signing = EVP_MD_CTX_new(), *verifying = EVP_MD_CTX_new();
	uint8_t signature[128];
	size_t bytes = sizeof(signature);
	bool good = x509 != NULL && signing != NULL && verifying != NULL &&
		EVP_DigestSignInit(signing, NULL, EVP_sha256(), NULL, key) == 1 &&
		EVP_DigestSign(signing, signature, &bytes, text, sizeof(text)) == 1 &&
		EVP_DigestVerifyInit(verifying, NULL, EVP_sha256(), NULL, X509_get0_pubkey(x509)) ==
			1 &&
		EVP_DigestVerify(verifying, signature, bytes, text, sizeof(text)) == 1;

	EVP_MD_CTX_free(verifying);
	EVP_MD_CTX_free(signing);
	X509_free(x509);
	return good;
}

static int check_identity_key(const char *name)
{
	struct store_identity identity;
	EVP_PKEY *key;
	HRESULT result = store_identity_get(name, &identity);
	bool good;

	if (FAILED(result))
		return failed("identity", name, result);
	result = identity_load_key(name, &key);
	if (FAILED(result)) {
		store_identity_free(&identity);
		return failed("the key of identity", name, result);
	}
	good = signs(key, &identity.certificate);
	EVP_PKEY_free(key);
	store_identity_free(&identity);
	keys_named++;
	return good ? 0 : wrong("an identity whose key does not sign for it", name);
}

static int check_group_key(const char *identity, const char *group)
{
	struct store_bytes der;
	EVP_PKEY *key;
	HRESULT result = store_group_key(identity, group, &der);

	if (FAILED(result))
		return failed("the key of group", group, result);
	result = identity_key_decode(group, &der, &key);
	store_bytes_free(&der);
	if (FAILED(result))
		return failed("the key of group", group, result);
	EVP_PKEY_free(key);
	keys_named++;
	return 0;
}

/* ---- through p2p.h ------------------------------------------------------------------------- */

static int copy_text(PCWSTR wide, char *text, size_t bytes)
{
	return text_utf8_copy(wide, text, bytes) < 0 ? wrong("a text that does not fit", "") : 0;
}

static int check_group(PCWSTR identity, const PEER_NAME_PAIR *pair)
{
	struct model_membership *membership = &found.memberships[found.membership_count];
	struct membership *loaded;
	PEER_GROUP_PROPERTIES *properties;
	bool is_ready;
	HGROUP group;
	HRESULT result;

	if (found.membership_count == MODEL_MEMBERSHIPS_MAX)
		return wrong("more memberships than anybody made", "");
	if (copy_text(identity, membership->identity, sizeof(membership->identity)) != 0 ||
		copy_text(pair->pwzPeerName, membership->group, sizeof(membership->group)) != 0 ||
		copy_text(pair->pwzFriendlyName, membership->text, sizeof(membership->text)) != 0)
		return 1;
	result = PeerGroupOpen(identity, pair->pwzPeerName, NULL, &group);
	if (FAILED(result))
		return failed("opening group", membership->group, result);
	/* A member that was never connected has none yet. */
	result = PeerGroupGetProperties(group, &properties);
	if (FAILED(result) && result != PEER_E_GROUP_NOT_READY)
		return failed("properties of group", membership->group, result);
	is_ready = SUCCEEDED(result);
	if (is_ready && !text_is_equal(properties->pwzFriendlyName, pair->pwzFriendlyName))
		return unsigned_field("properties and list differ", membership->group);
	if (is_ready)
		PeerFreeData(properties);
	result = PeerGroupClose(group);
	if (FAILED(result))
		return failed("closing group", membership->group, result);
	result = membership_load(membership->identity, membership->group, &loaded);
	if (FAILED(result))
		return failed("membership of group", membership->group, result);
	membership->is_creator = loaded->is_creator;
	membership_free(loaded);
	found.membership_count++;
	if (membership->is_creator && !is_ready)
		return wrong("a creator without properties", membership->group);
	return membership->is_creator ? check_group_key(membership->identity, membership->group)
				      : 0;
}

static int check_pairs(HPEERENUM enumeration, PCWSTR identity,
	int (*check)(PCWSTR identity, const PEER_NAME_PAIR *pair))
{
	PEER_NAME_PAIR **pairs = NULL;
	ULONG count = 4096;
	HRESULT result = PeerGetNextItem(enumeration, &count, (PVOID **)&pairs);
	int status = 0;

	(void)PeerEndEnumeration(enumeration);
	if (FAILED(result))
		return failed("enumerating", "", result);
	for (ULONG i = 0; i < count && status == 0; i++)
		status = check(identity, pairs[i]);
	PeerFreeData(pairs);
	return status;
}

static int check_identity(PCWSTR unused, const PEER_NAME_PAIR *pair)
{
	struct model_identity *identity = &found.identities[found.identity_count];
	HPEERENUM groups;
	HRESULT result;
	int status;
	PWSTR xml;

	(void)unused;
	if (found.identity_count == MODEL_IDENTITIES_MAX)
		return wrong("more identities than anybody made", "");
	if (copy_text(pair->pwzPeerName, identity->name, sizeof(identity->name)) != 0 ||
		copy_text(pair->pwzFriendlyName, identity->text, sizeof(identity->text)) != 0)
		return 1;
	found.identity_count++;
	result = PeerIdentityGetXML(pair->pwzPeerName, &xml);
	if (FAILED(result))
		return failed("the certificate of identity", identity->name, result);
	PeerFreeData(xml);
	status = check_identity_key(identity->name);
	if (status != 0)
		return status;
	result = PeerEnumGroups(pair->pwzPeerName, &groups);
	if (FAILED(result))
		return failed("groups of identity", identity->name, result);
	return check_pairs(groups, pair->pwzPeerName, check_group);
}

static int check_default(void)
{
	PWSTR name = NULL;
	HRESULT result = PeerIdentityGetDefault(&name);

	PeerFreeData(name);
	if (result == (found.identity_count == 0 ? PEER_E_NOT_FOUND : S_OK))
		return 0;
	return result == PEER_E_NOT_FOUND || SUCCEEDED(result)
		? unsigned_field("the default identity", PeerhubResultName(result))
		: failed("the default identity", "", result);
}

static int check_public(void)
{
	PEER_VERSION_DATA version;
	HPEERENUM identities;
	HRESULT result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	int status;

	if (FAILED(result))
		return failed("starting", "", result);
	result = PeerEnumIdentities(&identities);
	if (FAILED(result))
		return failed("identities", "", result);
	status = check_pairs(identities, NULL, check_identity);
	if (status == 0)
		status = check_default();
	result = PeerGroupShutdown();
	return status == 0 && FAILED(result) ? failed("stopping", "", result) : status;
}

/* ---- files --------------------------------------------------------------------------------- */

static bool has_mode(int directory, const char *name, mode_t wanted)
{
	struct stat status;

	return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		(status.st_mode & 07777) == wanted;
}

/* As many key files as rows ask for, each ours alone, and nothing else beside them. */
static int check_keys(const char *home)
{
	char path[4096];
	const struct dirent *entry;
	uint32_t count = 0;
	int status = 0;
	DIR *listing;

	snprintf(path, sizeof(path), "%s/keys", home);
	listing = opendir(path);
	if (listing == NULL)
		return wrong("no directory", path);
	if (!has_mode(dirfd(listing), ".", 0700))
		status = wrong("not 0700", path);
	while (status == 0 && (entry = readdir(listing)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (strlen(entry->d_name) != 36 || strcmp(entry->d_name + 32, ".key") != 0)
			status = wrong("a file that is no key", entry->d_name);
		else if (!has_mode(dirfd(listing), entry->d_name, 0600))
			status = wrong("a key that is not 0600", entry->d_name);
	}
	closedir(listing);
	if (status == 0 && count != keys_named) {
		fprintf(stderr, "crash: checker: %u key files, %u rows that name one\n", count,
			keys_named);
		status = 1;
	}
	return status;
}

static int check_home(const char *home)
{
	static const char *const known[] = {"keys", "store.db", "store.db-wal", "store.db-shm"};
	const struct dirent *entry;
	DIR *listing = opendir(home);
	int status = 0;

	if (listing == NULL)
		return wrong("no directory", home);
	while (status == 0 && (entry = readdir(listing)) != NULL) {
		struct stat file;
		bool is_known = entry->d_name[0] == '.';

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			is_known |= strcmp(entry->d_name, known[i]) == 0;
		if (!is_known)
			status = wrong("a file of nobody's", entry->d_name);
		else if (fstatat(dirfd(listing), entry->d_name, &file, 0) == 0 &&
			S_ISREG(file.st_mode) &&
			((file.st_mode & 077) != 0 || file.st_size > LOG_BYTES_MAX))
			status = wrong("a file that others may read, or that grows", entry->d_name);
	}
	closedir(listing);
	return status;
}

/* ---- the database, by SQLite's own eyes ---------------------------------------------------- */

static int take_issued(void *context, int columns, char **values, char **names)
{
	struct model_issued *issued = &found.issued[found.issued_count];

	(void)context, (void)columns, (void)names;
	if (found.issued_count == MODEL_ISSUED_MAX)
		return 1;
	snprintf(issued->group, sizeof(issued->group), "%s", values[0]);
	snprintf(issued->subject, sizeof(issued->subject), "%s", values[1]);
	found.issued_count++;
	return 0;
}

/* Any row but "ok" is a fault. */
static int take_fault(void *context, int columns, char **values, char **names)
{
	(void)columns, (void)names;
	if (values[0] == NULL || strcmp(values[0], "ok") == 0)
		return 0;
	fprintf(stderr, "crash: checker: %s: %s\n", (const char *)context, values[0]);
	return 1;
}

static int check_database(const char *home)
{
	static const char *const faults[] = {
		"PRAGMA integrity_check",
		"PRAGMA foreign_key_check",
		"SELECT name FROM identities WHERE name IN (SELECT name FROM deleted_identities)",
		"SELECT name FROM groups WHERE id NOT IN (SELECT group_id FROM memberships)",
		"SELECT count(*) FROM identities WHERE is_default HAVING count(*) > 1",
	};
	char path[4096];
	sqlite3 *database;
	int status = 0;

	snprintf(path, sizeof(path), "%s/store.db", home);
	if (sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
		sqlite3_close(database);
		return wrong("cannot open", path);
	}
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]) && status == 0; i++)
		if (sqlite3_exec(database, faults[i], take_fault, (void *)(uintptr_t)faults[i],
			    NULL) != SQLITE_OK)
			status = i < 2 ? wrong(faults[i], sqlite3_errmsg(database))
				       : unsigned_field(faults[i], sqlite3_errmsg(database));
	if (status == 0 &&
		sqlite3_exec(database,
			"SELECT g.name, s.subject FROM issued s JOIN groups g ON g.id=s.group_id",
			take_issued, NULL, NULL) != SQLITE_OK)
		status = wrong("issued", sqlite3_errmsg(database));
	sqlite3_close(database);
	return status;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static int model_write(int fd)
{
	FILE *out = fdopen(dup(fd), "w");
	bool good;

	if (out == NULL)
		return wrong("no pipe", "");
	good = fwrite(&found.identity_count, 3 * sizeof(uint32_t), 1, out) == 1 &&
		fwrite(found.identities, sizeof(found.identities[0]), found.identity_count, out) ==
			found.identity_count &&
		fwrite(found.memberships, sizeof(found.memberships[0]), found.membership_count,
			out) == found.membership_count &&
		fwrite(found.issued, sizeof(found.issued[0]), found.issued_count, out) ==
			found.issued_count;
	return fclose(out) == 0 && good ? 0 : wrong("no parent to report to", "");
}

bool checker_read(int fd, struct model *model)
{
	FILE *in = fdopen(dup(fd), "r");
	bool good;

	if (in == NULL)
		return false;
	good = fread(&model->identity_count, 3 * sizeof(uint32_t), 1, in) == 1 &&
		model->identity_count <= MODEL_IDENTITIES_MAX &&
		model->membership_count <= MODEL_MEMBERSHIPS_MAX &&
		model->issued_count <= MODEL_ISSUED_MAX &&
		fread(model->identities, sizeof(model->identities[0]), model->identity_count, in) ==
			model->identity_count &&
		fread(model->memberships, sizeof(model->memberships[0]), model->membership_count,
			in) == model->membership_count &&
		fread(model->issued, sizeof(model->issued[0]), model->issued_count, in) ==
			model->issued_count;
	fclose(in);
	return good;
}

int checker_run(const struct worker_options *options)
{
	int status;

	is_probe = options->is_probe;
	points_arm(options->die_at, (enum points_when)options->die_when);
	if (FAILED(PeerhubSetHome(options->home)))
		return 1;
	status = check_public();
	store_close();
	if (status == 0)
		status = check_keys(options->home);
	if (status == 0)
		status = check_home(options->home);
	if (status == 0)
		status = check_database(options->home);
	points_arm(0, POINTS_BEFORE);
	return status == 0 ? model_write(options->report_fd) : status;
}
