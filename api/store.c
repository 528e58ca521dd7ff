/*
 * The store: rows in SQLite and keys in files, changed together.
 *
 * Why nothing is ever half, wherever a process dies:
 *   adding    under the write lock: the key file is written and synced, then the row is inserted,
 *             then the commit makes the row durable. Before the commit there is no row, so the file
 *             is an orphan; after it both are there.
 *   deleting  the row goes with the commit, then the file is removed. In between the file is an
 *             orphan.
 *   orphans   are removed at the next opening, under the write lock, which every adder holds from
 *             before its file exists until its row is committed: no file of an adder at work is
 *             ever seen. File names are random and never used again.
 *   A commit whose own result is an error leaves the file alone: if the row did reach the disk, the
 *   key is there; if not, the file is an orphan.
 * Why a fork is safe: SQLite's file locks do not survive it, so the connection is closed before
 * (pthread_atfork) and both sides open their own again when they need it.
 */
#include "api/store.h"

#include "api/check.h"
#include "api/database.h"
#include "api/detail.h"
#include "api/store_path.h"
#include "api/key_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_FILE "store.db"
#define STORE_VERSION 2 /* 2 added the lists of revocations */
#define BLOB_BYTES_MAX (1u << 20) /* a chain of 25 certificates is under 64 KiB */
#define ADDRESS_BYTES 22u /* 16 address, 2 port, 4 scope; port in network order, scope big-endian */

/* What version 2 has more than version 1, which is read and brought up. */
#define SCHEMA_ADDED                                                            \
	"CREATE TABLE revocations("                                             \
	" group_id INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,"   \
	" signer TEXT NOT NULL, sequence INTEGER NOT NULL, list BLOB NOT NULL," \
	" PRIMARY KEY(group_id, signer)) WITHOUT ROWID;"

static const char schema[] =
	"CREATE TABLE identities("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
	" friendly_name TEXT NOT NULL, is_default INTEGER NOT NULL, certificate BLOB NOT NULL,"
	" key_file TEXT NOT NULL UNIQUE);"
	"CREATE TABLE deleted_identities(name TEXT PRIMARY KEY) WITHOUT ROWID;"
	"CREATE TABLE groups("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
	" friendly_name TEXT NOT NULL, properties BLOB NOT NULL);"
	"CREATE TABLE memberships("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" identity INTEGER NOT NULL REFERENCES identities(id) ON DELETE RESTRICT,"
	" group_id INTEGER NOT NULL REFERENCES groups(id) ON DELETE RESTRICT,"
	" node_id INTEGER NOT NULL, is_synchronised INTEGER NOT NULL, chain BLOB NOT NULL,"
	" addresses BLOB NOT NULL, key_file TEXT UNIQUE, UNIQUE(identity, group_id));"
	"CREATE TABLE issued("
	" group_id INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,"
	" subject TEXT NOT NULL, friendly_name TEXT NOT NULL, spki BLOB NOT NULL,"
	" role INTEGER NOT NULL, valid_from INTEGER NOT NULL, valid_to INTEGER NOT NULL,"
	" PRIMARY KEY(group_id, subject)) WITHOUT ROWID;" SCHEMA_ADDED;

/* All of it is guarded by `lock`. */
static struct {
	pthread_mutex_t lock;
	struct database database;
	char chosen[STORE_PATH_BYTES]; /* by store_home_set; "" = by the environment */
	char home[STORE_PATH_BYTES]; /* in use; "" = not chosen yet. Survives closing for a fork */
	uint32_t pins;
	bool fork_is_handled;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- opening and closing ----------------------------------------------------------------- */

static void before_fork(void)
{
	pthread_mutex_lock(&store.lock);
	database_close(&store.database);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&store.lock);
}

static bool key_is_used(void *context, const char *name)
{
	struct database *database = context;
	sqlite3_stmt *statement;
	bool row = false;
	HRESULT result = database_prepare(database, &statement,
		"SELECT 1 FROM identities WHERE key_file=?1"
		" UNION ALL SELECT 1 FROM memberships WHERE key_file=?1",
		"t", name);

	if (FAILED(result))
		return true; /* not known: keep it */
	result = database_step(database, statement, &row);
	sqlite3_finalize(statement);
	return FAILED(result) || row;
}

/* Ask without the lock first: opening a store in order takes no lock and writes nothing. */
static void sweep(void)
{
	if (!key_file_has_orphans(store.home, key_is_used, &store.database))
		return;
	if (FAILED(database_begin(&store.database, true)))
		return; /* it can wait for the next opening */
	key_file_sweep(store.home, key_is_used, &store.database);
	database_rollback(&store.database); /* nothing was written */
}

static HRESULT open_home(void)
{
	char path[STORE_PATH_BYTES + sizeof(STORE_FILE) + 1];
	bool any_keys;
	HRESULT result = store_path_make(store.home);

	if (SUCCEEDED(result))
		result = key_file_any(store.home, &any_keys);
	if (FAILED(result))
		return result;
	snprintf(path, sizeof(path), "%s/" STORE_FILE, store.home);
	result = database_open(
		&store.database, path, schema, SCHEMA_ADDED, STORE_VERSION, !any_keys);
	if (FAILED(result))
		return result;
	result = key_file_directory_make(store.home);
	if (SUCCEEDED(result) && store_path_sync(store.home) < 0)
		result = store_path_failure(EIO, "sync directory", store.home);
	if (FAILED(result)) {
		database_close(&store.database);
		return result;
	}
	sweep();
	if (database_is_stuck(&store.database)) {
		result = database_result(&store.database, SQLITE_NOMEM);
		database_close(&store.database);
		return result;
	}
	return S_OK;
}

static HRESULT ensure_open(void)
{
	HRESULT result;

	if (store.database.handle != NULL)
		return S_OK;
	if (!store.fork_is_handled) {
		if (pthread_atfork(before_fork, after_fork, after_fork) != 0)
			return E_OUTOFMEMORY;
		store.fork_is_handled = true;
	}
	if (store.home[0] == '\0') {
		result = store_path_choose(
			store.chosen[0] != '\0' ? store.chosen : NULL, store.home);
		if (FAILED(result)) {
			store.home[0] = '\0';
			return result;
		}
	}
	return open_home();
}

HRESULT store_home_set(const char *path)
{
	char absolute[STORE_PATH_BYTES] = "";
	HRESULT result = S_OK;

	if (path != NULL && path[0] == '\0')
		return detail_fail(E_INVALIDARG, "the store's directory is an empty name");
	if (path != NULL && FAILED(store_path_choose(path, absolute)))
		return E_INVALIDARG;
	pthread_mutex_lock(&store.lock);
	if (store.pins > 0) {
		result = detail_fail(PEER_E_GROUP_IN_USE, "a group of the present store is open");
	} else {
		database_close(&store.database);
		memcpy(store.chosen, absolute, sizeof(store.chosen));
		store.home[0] = '\0';
	}
	pthread_mutex_unlock(&store.lock);
	return result;
}

HRESULT store_home(char *path, size_t path_bytes)
{
	HRESULT result;

	pthread_mutex_lock(&store.lock);
	result = ensure_open();
	if (SUCCEEDED(result) && snprintf(path, path_bytes, "%s", store.home) >= (int)path_bytes)
		result = E_INVALIDARG;
	pthread_mutex_unlock(&store.lock);
	return result;
}

void store_close(void)
{
	pthread_mutex_lock(&store.lock);
	database_close(&store.database);
	if (store.pins == 0)
		store.home[0] = '\0'; /* the environment may have changed */
	pthread_mutex_unlock(&store.lock);
}

void store_pin(void)
{
	pthread_mutex_lock(&store.lock);
	store.pins++;
	pthread_mutex_unlock(&store.lock);
}

void store_unpin(void)
{
	pthread_mutex_lock(&store.lock);
	assert(store.pins > 0);
	store.pins--;
	pthread_mutex_unlock(&store.lock);
}

/* Every call is one transaction between these two, with the mutex held. */
static HRESULT enter(bool write)
{
	HRESULT result;

	pthread_mutex_lock(&store.lock);
	result = ensure_open();
	if (SUCCEEDED(result))
		result = database_begin(&store.database, write);
	if (FAILED(result))
		pthread_mutex_unlock(&store.lock);
	return result;
}

static HRESULT leave(HRESULT result)
{
	if (SUCCEEDED(result))
		result = database_commit(&store.database);
	else
		database_rollback(&store.database);
	/* A file that turned bad under us is not asked again: the next call judges it anew. And a transaction
	 * that could not be ended for want of memory ends here, with its lock. */
	if (result == PEER_E_CERT_STORE_CORRUPTED || database_is_stuck(&store.database))
		database_close(&store.database);
	pthread_mutex_unlock(&store.lock);
	return result;
}

/* ---- bytes and columns -------------------------------------------------------------------- */

void store_bytes_free(struct store_bytes *bytes)
{
	if (bytes->data != NULL)
		OPENSSL_cleanse(bytes->data, bytes->bytes);
	free(bytes->data);
	*bytes = (struct store_bytes){0};
}

static HRESULT column_text(sqlite3_stmt *statement, int column, char *text, size_t text_bytes)
{
	const unsigned char *value = sqlite3_column_text(statement, column);
	int bytes = sqlite3_column_bytes(statement, column);

	text[0] = '\0';
	if (value == NULL)
		return sqlite3_column_type(statement, column) == SQLITE_NULL ? S_OK : E_OUTOFMEMORY;
	if (bytes < 0 || (size_t)bytes >= text_bytes ||
		strlen((const char *)value) != (size_t)bytes)
		return database_corrupted(&store.database, "a text is too long");
	memcpy(text, value, (size_t)bytes + 1);
	if (peer_text_units(text) < 0)
		return database_corrupted(&store.database, "a text is not UTF-8");
	return S_OK;
}

static HRESULT column_name(sqlite3_stmt *statement, int column, char name[PH_NAME_BYTES_MAX])
{
	HRESULT result = column_text(statement, column, name, PH_NAME_BYTES_MAX);

	if (SUCCEEDED(result) && !peer_name_is_secure(name))
		return database_corrupted(&store.database, "a name is not a peer name");
	return result;
}

static HRESULT column_bytes(sqlite3_stmt *statement, int column, struct store_bytes *bytes)
{
	const void *value = sqlite3_column_blob(statement, column);
	int length = sqlite3_column_bytes(statement, column);

	*bytes = (struct store_bytes){0};
	if (length <= 0)
		return S_OK;
	if (value == NULL)
		return E_OUTOFMEMORY;
	if ((uint32_t)length > BLOB_BYTES_MAX)
		return database_corrupted(&store.database, "a value is too long");
	bytes->data = malloc((size_t)length);
	if (bytes->data == NULL)
		return E_OUTOFMEMORY;
	memcpy(bytes->data, value, (size_t)length);
	bytes->bytes = (size_t)length;
	return S_OK;
}

static HRESULT not_found(const char *what, const char *name)
{
	return detail_fail(PEER_E_NOT_FOUND, "%s %.200s is not in the store", what, name);
}

/* First column of the first row of a query about names; *row false when there is none. */
static HRESULT query_id(
	const char *sql, const char *first, const char *second, int64_t *id, bool *row)
{
	sqlite3_stmt *statement;
	HRESULT result = database_prepare(
		&store.database, &statement, sql, second != NULL ? "tt" : "t", first, second);

	*row = false;
	if (FAILED(result))
		return result;
	result = database_step(&store.database, statement, row);
	if (SUCCEEDED(result) && *row)
		*id = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return result;
}

static HRESULT query_count(const char *sql, int64_t *count)
{
	sqlite3_stmt *statement;
	HRESULT result = database_prepare(&store.database, &statement, sql, "");
	bool row;

	if (FAILED(result))
		return result;
	result = database_step(&store.database, statement, &row);
	*count = SUCCEEDED(result) && row ? sqlite3_column_int64(statement, 0) : 0;
	sqlite3_finalize(statement);
	return result;
}

/* ---- identities ------------------------------------------------------------------------- */

void store_identity_free(struct store_identity *identity)
{
	store_bytes_free(&identity->certificate);
}

static HRESULT identity_room(const char *name)
{
	int64_t id, count;
	bool row;
	HRESULT result = query_id("SELECT id FROM identities WHERE name=?1", name, NULL, &id, &row);

	if (FAILED(result))
		return result;
	if (row)
		return detail_fail(
			PEER_E_ALREADY_EXISTS, "identity %.200s is already in the store", name);
	result = query_count("SELECT count(*) FROM identities", &count);
	if (SUCCEEDED(result) && count >= (int64_t)STORE_IDENTITIES_MAX)
		return detail_fail(PEER_E_TOO_MANY_IDENTITIES, "the store holds %u identities",
			STORE_IDENTITIES_MAX);
	return result;
}

static HRESULT identity_insert(const struct store_identity *identity, const char *key_file)
{
	HRESULT result = database_run(&store.database,
		"INSERT INTO identities(name, friendly_name, is_default, certificate, key_file)"
		" VALUES(?1, ?2, NOT EXISTS(SELECT 1 FROM identities WHERE is_default), ?3, ?4)",
		"ttbt", identity->name, identity->friendly_name, identity->certificate.data,
		(int)identity->certificate.bytes, key_file);

	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"DELETE FROM deleted_identities WHERE name=?1", "t", identity->name);
	return result;
}

HRESULT store_identity_add(const struct store_identity *identity, struct store_bytes key)
{
	char key_file[KEY_FILE_NAME_BYTES];
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = identity_room(identity->name);
	if (FAILED(result))
		return leave(result);
	result = key_file_write(store.home, key.data, key.bytes, key_file);
	if (FAILED(result))
		return leave(result);
	result = identity_insert(identity, key_file);
	if (FAILED(result))
		key_file_remove(store.home, key_file); /* no row was committed */
	return leave(result);
}

static HRESULT identity_columns(sqlite3_stmt *statement, struct store_identity *identity)
{
	HRESULT result = column_name(statement, 0, identity->name);

	if (SUCCEEDED(result))
		result = column_text(statement, 1, identity->friendly_name, PEER_TEXT_BYTES);
	identity->is_default = sqlite3_column_int(statement, 2) != 0;
	if (SUCCEEDED(result))
		result = column_bytes(statement, 3, &identity->certificate);
	return result;
}

HRESULT store_identity_get(const char *name, struct store_identity *identity)
{
	bool is_default = name == NULL || name[0] == '\0';
	sqlite3_stmt *statement;
	bool row;
	HRESULT result = enter(false);

	memset(identity, 0, sizeof(*identity));
	if (FAILED(result))
		return result;
	result = database_prepare(&store.database, &statement,
		is_default ? "SELECT name, friendly_name, is_default, certificate FROM identities"
			     " WHERE is_default ORDER BY id LIMIT 1"
			   : "SELECT name, friendly_name, is_default, certificate FROM identities"
			     " WHERE name=?1",
		is_default ? "" : "t", name);
	if (FAILED(result))
		return leave(result);
	result = database_step(&store.database, statement, &row);
	if (SUCCEEDED(result))
		result = row ? identity_columns(statement, identity)
			     : not_found(is_default ? "a default identity" : "identity",
				       is_default ? "" : name);
	sqlite3_finalize(statement);
	result = leave(result);
	if (FAILED(result))
		store_identity_free(identity);
	return result;
}

/* The key file that a query names. */
static HRESULT query_key_file(const char *sql, const char *what, const char *first,
	const char *second, char key_file[KEY_FILE_NAME_BYTES])
{
	sqlite3_stmt *statement;
	bool row;
	HRESULT result = database_prepare(
		&store.database, &statement, sql, second != NULL ? "tt" : "t", first, second);

	if (FAILED(result))
		return result;
	result = database_step(&store.database, statement, &row);
	if (SUCCEEDED(result) && row)
		result = column_text(statement, 0, key_file, KEY_FILE_NAME_BYTES);
	if (SUCCEEDED(result) && (!row || key_file[0] == '\0'))
		result = not_found(what, second != NULL ? second : first);
	sqlite3_finalize(statement);
	return result;
}

#define IDENTITY_KEY "SELECT key_file FROM identities WHERE name=?1"

/* A key that was read is given out or wiped, whatever became of the transaction. */
static HRESULT key_leave(HRESULT result, struct store_bytes *key)
{
	result = leave(result);
	if (FAILED(result))
		store_bytes_free(key);
	return result;
}

HRESULT store_identity_key(const char *name, struct store_bytes *key)
{
	char key_file[KEY_FILE_NAME_BYTES];
	HRESULT result = enter(false);

	*key = (struct store_bytes){0};
	if (FAILED(result))
		return result;
	result = query_key_file(IDENTITY_KEY, "identity", name, NULL, key_file);
	if (SUCCEEDED(result))
		result = key_file_read(store.home, key_file, &key->data, &key->bytes);
	return key_leave(result, key);
}

HRESULT store_identity_key_check(const char *name)
{
	char key_file[KEY_FILE_NAME_BYTES];
	HRESULT result = enter(false);

	if (FAILED(result))
		return result;
	result = query_key_file(IDENTITY_KEY, "identity", name, NULL, key_file);
	if (SUCCEEDED(result))
		result = key_file_check(store.home, key_file);
	return leave(result);
}

HRESULT store_identity_update(const struct store_identity *identity)
{
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = database_run(&store.database,
		"UPDATE identities SET friendly_name=?1, certificate=?2 WHERE name=?3", "tbt",
		identity->friendly_name, identity->certificate.data,
		(int)identity->certificate.bytes, identity->name);
	if (SUCCEEDED(result) && sqlite3_changes(store.database.handle) == 0)
		result = not_found("identity", identity->name);
	return leave(result);
}

static HRESULT identity_erase(const char *name, int64_t id)
{
	HRESULT result =
		database_run(&store.database, "DELETE FROM identities WHERE id=?1", "i", id);

	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"INSERT OR IGNORE INTO deleted_identities(name) VALUES(?1)", "t", name);
	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"UPDATE identities SET is_default=1"
			" WHERE id=(SELECT min(id) FROM identities)"
			" AND NOT EXISTS(SELECT 1 FROM identities WHERE is_default)",
			"");
	return result;
}

HRESULT store_identity_delete(const char *name)
{
	char key_file[KEY_FILE_NAME_BYTES];
	char home[STORE_PATH_BYTES];
	int64_t id = 0;
	bool row;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	memcpy(home, store.home, sizeof(home));
	result = query_key_file(IDENTITY_KEY, "identity", name, NULL, key_file);
	if (SUCCEEDED(result))
		result = query_id("SELECT i.id FROM identities i JOIN memberships m"
				  " ON m.identity=i.id WHERE i.name=?1",
			name, NULL, &id, &row);
	if (SUCCEEDED(result) && row)
		result = detail_fail(
			PEER_E_GROUPS_EXIST, "identity %.200s is a member of groups", name);
	if (SUCCEEDED(result))
		result = query_id("SELECT id FROM identities WHERE name=?1", name, NULL, &id, &row);
	if (SUCCEEDED(result))
		result = identity_erase(name, id);
	result = leave(result);
	if (SUCCEEDED(result))
		key_file_remove(home, key_file);
	return result;
}

HRESULT store_identity_was_deleted(const char *name, bool *was_deleted)
{
	int64_t id;
	HRESULT result = enter(false);

	*was_deleted = false;
	if (FAILED(result))
		return result;
	return leave(query_id(
		"SELECT 1 FROM deleted_identities WHERE name=?1", name, NULL, &id, was_deleted));
}

/* ---- lists ------------------------------------------------------------------------------ */

static HRESULT pair_columns(sqlite3_stmt *statement, struct store_name_pair *pair)
{
	HRESULT result = column_name(statement, 0, pair->name);

	if (SUCCEEDED(result))
		result = column_text(statement, 1, pair->friendly_name, PEER_TEXT_BYTES);
	if (SUCCEEDED(result) && pair->friendly_name[0] == '\0')
		memcpy(pair->friendly_name, pair->name, strlen(pair->name) + 1);
	return result;
}
_Static_assert(PH_NAME_BYTES_MAX <= PEER_TEXT_BYTES, "a name fits where a friendly name does");

static HRESULT pairs_collect(
	sqlite3_stmt *statement, struct store_name_pair **pairs, uint32_t *count)
{
	uint32_t room = 0;
	bool row = true;

	for (;;) {
		HRESULT result = database_step(&store.database, statement, &row);

		if (FAILED(result) || !row)
			return result;
		if (*count == room) {
			uint32_t more = room == 0 ? 16 : 2 * room;
			struct store_name_pair *grown = realloc(*pairs, more * sizeof(**pairs));

			if (grown == NULL)
				return E_OUTOFMEMORY;
			*pairs = grown;
			room = more;
		}
		result = pair_columns(statement, &(*pairs)[*count]);
		if (FAILED(result))
			return result;
		(*count)++;
	}
}

static HRESULT pairs_query(
	const char *sql, const char *name, struct store_name_pair **pairs, uint32_t *count)
{
	sqlite3_stmt *statement;
	HRESULT result =
		database_prepare(&store.database, &statement, sql, name != NULL ? "t" : "", name);

	if (FAILED(result))
		return result;
	result = pairs_collect(statement, pairs, count);
	sqlite3_finalize(statement);
	return result;
}

static HRESULT pairs_leave(HRESULT result, struct store_name_pair **pairs, uint32_t *count)
{
	result = leave(result);
	if (FAILED(result)) {
		free(*pairs);
		*pairs = NULL;
		*count = 0;
	}
	return result;
}

HRESULT store_identities(struct store_name_pair **pairs, uint32_t *count)
{
	HRESULT result = enter(false);

	*pairs = NULL;
	*count = 0;
	if (FAILED(result))
		return result;
	return pairs_leave(pairs_query("SELECT name, friendly_name FROM identities ORDER BY id",
				   NULL, pairs, count),
		pairs, count);
}

HRESULT store_groups(const char *identity, struct store_name_pair **pairs, uint32_t *count)
{
	int64_t id;
	bool row;
	HRESULT result = enter(false);

	*pairs = NULL;
	*count = 0;
	if (FAILED(result))
		return result;
	result = query_id("SELECT id FROM identities WHERE name=?1", identity, NULL, &id, &row);
	if (SUCCEEDED(result) && !row)
		result = not_found("identity", identity);
	if (SUCCEEDED(result))
		result = pairs_query("SELECT g.name, g.friendly_name FROM memberships m"
				     " JOIN groups g ON g.id=m.group_id"
				     " JOIN identities i ON i.id=m.identity"
				     " WHERE i.name=?1 ORDER BY m.id",
			identity, pairs, count);
	return pairs_leave(result, pairs, count);
}

/* ---- memberships ------------------------------------------------------------------------ */

void store_membership_free(struct store_membership *membership)
{
	store_bytes_free(&membership->chain);
	store_bytes_free(&membership->properties);
}

static uint32_t addresses_pack(const ph_address *addresses, uint32_t count,
	uint8_t packed[STORE_ADDRESSES_MAX * ADDRESS_BYTES])
{
	if (count > STORE_ADDRESSES_MAX)
		count = STORE_ADDRESSES_MAX;
	for (uint32_t index = 0; index < count; index++) {
		uint8_t *at = packed + index * ADDRESS_BYTES;
		uint32_t scope = htonl(addresses[index].sin6_scope_id);

		memcpy(at, &addresses[index].sin6_addr, 16);
		memcpy(at + 16, &addresses[index].sin6_port, 2);
		memcpy(at + 18, &scope, 4);
	}
	return count * ADDRESS_BYTES;
}

static HRESULT addresses_unpack(
	const struct store_bytes *packed, struct store_membership *membership)
{
	if (packed->bytes % ADDRESS_BYTES != 0 ||
		packed->bytes / ADDRESS_BYTES > STORE_ADDRESSES_MAX)
		return database_corrupted(&store.database, "an address list is malformed");
	membership->address_count = (uint32_t)(packed->bytes / ADDRESS_BYTES);
	for (uint32_t index = 0; index < membership->address_count; index++) {
		const uint8_t *at = packed->data + index * ADDRESS_BYTES;
		ph_address *address = &membership->addresses[index];
		uint32_t scope;

		memset(address, 0, sizeof(*address));
		address->sin6_family = AF_INET6;
		memcpy(&address->sin6_addr, at, 16);
		memcpy(&address->sin6_port, at + 16, 2);
		memcpy(&scope, at + 18, 4);
		address->sin6_scope_id = ntohl(scope);
	}
	return S_OK;
}

#define MEMBERSHIP_ID                                                         \
	"SELECT m.id FROM memberships m JOIN identities i ON i.id=m.identity" \
	" JOIN groups g ON g.id=m.group_id WHERE i.name=?1 AND g.name=?2"

static HRESULT membership_id(const char *identity, const char *group, int64_t *id)
{
	bool row;
	HRESULT result = query_id(MEMBERSHIP_ID, identity, group, id, &row);

	if (SUCCEEDED(result) && !row)
		return not_found("group", group);
	return result;
}

/* The group's row: made, or given newer texts. Empty properties leave what is known. */
static HRESULT group_put(const struct store_membership *membership, int64_t *id)
{
	bool row;
	HRESULT result =
		query_id("SELECT id FROM groups WHERE name=?1", membership->group, NULL, id, &row);

	if (FAILED(result))
		return result;
	if (!row) {
		result = database_run(&store.database,
			"INSERT INTO groups(name, friendly_name, properties) VALUES(?1, ?2, ?3)",
			"ttb", membership->group, membership->group_friendly_name,
			membership->properties.data, (int)membership->properties.bytes);
		*id = sqlite3_last_insert_rowid(store.database.handle);
		return result;
	}
	if (membership->properties.bytes == 0)
		return S_OK;
	return database_run(&store.database,
		"UPDATE groups SET friendly_name=?1, properties=?2 WHERE id=?3", "tbi",
		membership->group_friendly_name, membership->properties.data,
		(int)membership->properties.bytes, *id);
}

static HRESULT membership_room(void)
{
	int64_t count;
	HRESULT result = query_count("SELECT count(*) FROM memberships", &count);

	if (SUCCEEDED(result) && count >= (int64_t)STORE_GROUPS_MAX)
		return detail_fail(
			E_OUTOFMEMORY, "the store holds %u memberships", STORE_GROUPS_MAX);
	return result;
}

static HRESULT membership_insert(const struct store_membership *membership, int64_t identity,
	int64_t group, const char *key_file)
{
	uint8_t packed[STORE_ADDRESSES_MAX * ADDRESS_BYTES];
	uint32_t packed_bytes =
		addresses_pack(membership->addresses, membership->address_count, packed);

	return database_run(&store.database,
		"INSERT INTO memberships"
		"(identity, group_id, node_id, is_synchronised, chain, addresses, key_file)"
		" VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
		"iiiibbt", identity, group, (int64_t)membership->node_id,
		(int64_t)membership->is_synchronised, membership->chain.data,
		(int)membership->chain.bytes, packed, (int)packed_bytes, key_file);
}

/* Node id, synchronised and the group's key stay; known addresses stay when none are given. */
static HRESULT membership_replace(const struct store_membership *membership, int64_t id)
{
	uint8_t packed[STORE_ADDRESSES_MAX * ADDRESS_BYTES];
	uint32_t packed_bytes =
		addresses_pack(membership->addresses, membership->address_count, packed);
	HRESULT result =
		database_run(&store.database, "UPDATE memberships SET chain=?1 WHERE id=?2", "bi",
			membership->chain.data, (int)membership->chain.bytes, id);

	if (SUCCEEDED(result) && packed_bytes > 0)
		result = database_run(&store.database,
			"UPDATE memberships SET addresses=?1 WHERE id=?2", "bi", packed,
			(int)packed_bytes, id);
	return result;
}

static HRESULT membership_put(const struct store_membership *membership, const char *key_file)
{
	int64_t identity = 0, group = 0, id = 0;
	bool row;
	HRESULT result = query_id("SELECT id FROM identities WHERE name=?1", membership->identity,
		NULL, &identity, &row);

	if (FAILED(result))
		return result;
	if (!row)
		return not_found("identity", membership->identity);
	result = query_id(MEMBERSHIP_ID, membership->identity, membership->group, &id, &row);
	if (SUCCEEDED(result) && !row)
		result = membership_room();
	if (SUCCEEDED(result))
		result = group_put(membership, &group);
	if (FAILED(result))
		return result;
	if (row)
		return membership_replace(membership, id);
	return membership_insert(membership, identity, group, key_file);
}

HRESULT store_membership_put(
	const struct store_membership *membership, struct store_bytes group_key)
{
	char key_file[KEY_FILE_NAME_BYTES];
	bool has_key = group_key.bytes > 0;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	if (has_key)
		result = key_file_write(store.home, group_key.data, group_key.bytes, key_file);
	if (FAILED(result))
		return leave(result);
	result = membership_put(membership, has_key ? key_file : NULL);
	if (FAILED(result) && has_key)
		key_file_remove(store.home, key_file);
	return leave(result);
}

static HRESULT membership_columns(sqlite3_stmt *statement, struct store_membership *membership)
{
	struct store_bytes packed = {0};
	HRESULT result = column_name(statement, 0, membership->identity);

	if (SUCCEEDED(result))
		result = column_name(statement, 1, membership->group);
	if (SUCCEEDED(result))
		result =
			column_text(statement, 2, membership->group_friendly_name, PEER_TEXT_BYTES);
	membership->node_id = (uint64_t)sqlite3_column_int64(statement, 3);
	membership->is_synchronised = sqlite3_column_int(statement, 4) != 0;
	membership->is_creator = sqlite3_column_type(statement, 5) != SQLITE_NULL;
	if (SUCCEEDED(result))
		result = column_bytes(statement, 6, &membership->chain);
	if (SUCCEEDED(result))
		result = column_bytes(statement, 7, &membership->properties);
	if (SUCCEEDED(result))
		result = column_bytes(statement, 8, &packed);
	if (SUCCEEDED(result))
		result = addresses_unpack(&packed, membership);
	store_bytes_free(&packed);
	return result;
}

HRESULT store_membership_get(
	const char *identity, const char *group, struct store_membership *membership)
{
	sqlite3_stmt *statement;
	bool row;
	HRESULT result = enter(false);

	memset(membership, 0, sizeof(*membership));
	if (FAILED(result))
		return result;
	result = database_prepare(&store.database, &statement,
		"SELECT i.name, g.name, g.friendly_name, m.node_id, m.is_synchronised, m.key_file,"
		" m.chain, g.properties, m.addresses FROM memberships m"
		" JOIN identities i ON i.id=m.identity JOIN groups g ON g.id=m.group_id"
		" WHERE i.name=?1 AND g.name=?2",
		"tt", identity, group);
	if (FAILED(result))
		return leave(result);
	result = database_step(&store.database, statement, &row);
	if (SUCCEEDED(result))
		result =
			row ? membership_columns(statement, membership) : not_found("group", group);
	sqlite3_finalize(statement);
	result = leave(result);
	if (FAILED(result))
		store_membership_free(membership);
	return result;
}

HRESULT store_membership_exists(const char *identity, const char *group)
{
	int64_t id;
	HRESULT result = enter(false);

	if (FAILED(result))
		return result;
	return leave(membership_id(identity, group, &id));
}

HRESULT store_membership_delete(const char *identity, const char *group)
{
	char key_file[KEY_FILE_NAME_BYTES] = "";
	char home[STORE_PATH_BYTES];
	int64_t id = 0;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	memcpy(home, store.home, sizeof(home));
	result = membership_id(identity, group, &id);
	if (SUCCEEDED(result)) {
		HRESULT found = query_key_file(
			"SELECT m.key_file FROM memberships m JOIN identities i ON i.id=m.identity"
			" JOIN groups g ON g.id=m.group_id WHERE i.name=?1 AND g.name=?2",
			"group", identity, group, key_file);

		if (found != PEER_E_NOT_FOUND) /* only a creator has one */
			result = found;
	}
	if (SUCCEEDED(result))
		result = database_run(
			&store.database, "DELETE FROM memberships WHERE id=?1", "i", id);
	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"DELETE FROM groups WHERE name=?1 AND NOT EXISTS"
			" (SELECT 1 FROM memberships WHERE group_id=groups.id)",
			"t", group);
	result = leave(result);
	if (SUCCEEDED(result) && key_file[0] != '\0')
		key_file_remove(home, key_file);
	return result;
}

HRESULT store_group_key(const char *identity, const char *group, struct store_bytes *key)
{
	char key_file[KEY_FILE_NAME_BYTES];
	HRESULT result = enter(false);

	*key = (struct store_bytes){0};
	if (FAILED(result))
		return result;
	result = query_key_file(
		"SELECT m.key_file FROM memberships m JOIN identities i ON i.id=m.identity"
		" JOIN groups g ON g.id=m.group_id WHERE i.name=?1 AND g.name=?2",
		"the key of group", identity, group, key_file);
	if (SUCCEEDED(result))
		result = key_file_read(store.home, key_file, &key->data, &key->bytes);
	return key_leave(result, key);
}

HRESULT store_properties_get(const char *group, struct store_bytes *properties)
{
	sqlite3_stmt *statement;
	bool row;
	HRESULT result = enter(false);

	*properties = (struct store_bytes){0};
	if (FAILED(result))
		return result;
	result = database_prepare(&store.database, &statement,
		"SELECT properties FROM groups WHERE name=?1", "t", group);
	if (FAILED(result))
		return leave(result);
	result = database_step(&store.database, statement, &row);
	if (SUCCEEDED(result))
		result = row ? column_bytes(statement, 0, properties) : not_found("group", group);
	sqlite3_finalize(statement);
	result = leave(result);
	if (FAILED(result))
		store_bytes_free(properties);
	return result;
}

HRESULT store_properties_set(
	const char *group, struct store_bytes properties, const char *friendly_name)
{
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = database_run(&store.database,
		"UPDATE groups SET properties=?1, friendly_name=?2 WHERE name=?3", "btt",
		properties.data, (int)properties.bytes, friendly_name, group);
	if (SUCCEEDED(result) && sqlite3_changes(store.database.handle) == 0)
		result = not_found("group", group);
	return leave(result);
}

HRESULT store_synchronised_set(const char *identity, const char *group)
{
	int64_t id = 0;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = membership_id(identity, group, &id);
	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"UPDATE memberships SET is_synchronised=1"
			" WHERE id=?1 AND NOT is_synchronised",
			"i", id);
	return leave(result);
}

HRESULT store_addresses_set(
	const char *identity, const char *group, const ph_address *addresses, uint32_t count)
{
	uint8_t packed[STORE_ADDRESSES_MAX * ADDRESS_BYTES];
	uint32_t packed_bytes = addresses_pack(addresses, count, packed);
	int64_t id = 0;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = membership_id(identity, group, &id);
	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"UPDATE memberships SET addresses=?1 WHERE id=?2", "bi", packed,
			(int)packed_bytes, id);
	return leave(result);
}

/* ---- credentials that were issued here --------------------------------------------------- */

HRESULT store_issued_put(const struct store_issued *issued)
{
	int64_t group = 0;
	bool row;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = query_id("SELECT id FROM groups WHERE name=?1", issued->group, NULL, &group, &row);
	if (SUCCEEDED(result) && !row)
		result = not_found("group", issued->group);
	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"INSERT OR REPLACE INTO issued"
			"(group_id, subject, friendly_name, spki, role, valid_from, valid_to)"
			" VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
			"ittbiii", group, issued->subject, issued->friendly_name, issued->spki,
			(int)issued->spki_bytes, (int64_t)issued->role, issued->valid_from_s,
			issued->valid_to_s);
	return leave(result);
}

static HRESULT issued_columns(sqlite3_stmt *statement, struct store_issued *issued)
{
	struct store_bytes spki = {0};
	HRESULT result = column_text(statement, 0, issued->friendly_name, PEER_TEXT_BYTES);

	if (SUCCEEDED(result))
		result = column_bytes(statement, 1, &spki);
	if (SUCCEEDED(result) && !key_spki_is_valid(spki.data, spki.bytes))
		result = database_corrupted(&store.database, "a public key is malformed");
	if (SUCCEEDED(result)) {
		memcpy(issued->spki, spki.data, spki.bytes);
		issued->spki_bytes = spki.bytes;
	}
	issued->role = (enum peer_role)sqlite3_column_int(statement, 2);
	issued->valid_from_s = sqlite3_column_int64(statement, 3);
	issued->valid_to_s = sqlite3_column_int64(statement, 4);
	if (SUCCEEDED(result) && (issued->role < ROLE_MEMBER || issued->role > ROLE_ADMIN))
		result = database_corrupted(&store.database, "a role is unknown");
	store_bytes_free(&spki);
	return result;
}

HRESULT store_issued_get(const char *group, const char *subject, struct store_issued *issued)
{
	sqlite3_stmt *statement;
	bool row;
	HRESULT result = enter(false);

	memset(issued, 0, sizeof(*issued));
	if (FAILED(result))
		return result;
	snprintf(issued->group, sizeof(issued->group), "%s", group);
	snprintf(issued->subject, sizeof(issued->subject), "%s", subject);
	result = database_prepare(&store.database, &statement,
		"SELECT s.friendly_name, s.spki, s.role, s.valid_from, s.valid_to FROM issued s"
		" JOIN groups g ON g.id=s.group_id WHERE g.name=?1 AND s.subject=?2",
		"tt", group, subject);
	if (FAILED(result))
		return leave(result);
	result = database_step(&store.database, statement, &row);
	if (SUCCEEDED(result))
		result = row ? issued_columns(statement, issued)
			     : not_found("a credential for", subject);
	sqlite3_finalize(statement);
	return leave(result);
}

/* ---- lists of revocations ---------------------------------------------------------------- */

HRESULT store_revocation_put(
	const char *group, const char *signer, uint64_t sequence, struct store_bytes list)
{
	int64_t id = 0;
	bool row;
	HRESULT result = enter(true);

	if (FAILED(result))
		return result;
	result = query_id("SELECT id FROM groups WHERE name=?1", group, NULL, &id, &row);
	if (SUCCEEDED(result) && !row)
		result = not_found("group", group);
	if (SUCCEEDED(result))
		result = database_run(&store.database,
			"INSERT INTO revocations(group_id, signer, sequence, list)"
			" VALUES(?1, ?2, ?3, ?4) ON CONFLICT(group_id, signer) DO UPDATE"
			" SET sequence=excluded.sequence, list=excluded.list"
			" WHERE excluded.sequence>revocations.sequence",
			"itib", id, signer, (int64_t)sequence, list.data, (int)list.bytes);
	if (SUCCEEDED(result) && sqlite3_changes(store.database.handle) == 0) {
		result = leave(result);
		return SUCCEEDED(result) ? S_FALSE : result;
	}
	return leave(result);
}

static HRESULT revocations_read(
	sqlite3_stmt *statement, struct store_bytes lists[], uint32_t count_max, uint32_t *count)
{
	bool row = true;
	HRESULT result = S_OK;

	while (SUCCEEDED(result) && row) {
		result = database_step(&store.database, statement, &row);
		if (FAILED(result) || !row)
			break;
		if (*count == count_max)
			return S_FALSE;
		result = column_bytes(statement, 0, &lists[*count]);
		if (SUCCEEDED(result))
			++*count;
	}
	return result;
}

HRESULT store_revocations_get(
	const char *group, struct store_bytes lists[], uint32_t count_max, uint32_t *count)
{
	sqlite3_stmt *statement;
	HRESULT result = enter(false);
	bool is_whole;

	*count = 0;
	if (FAILED(result))
		return result;
	result = database_prepare(&store.database, &statement,
		"SELECT r.list FROM revocations r JOIN groups g ON g.id=r.group_id"
		" WHERE g.name=?1"
		" ORDER BY substr(g.name, 1, length(r.signer))<>r.signer, r.signer",
		"t", group);
	if (SUCCEEDED(result)) {
		result = revocations_read(statement, lists, count_max, count);
		sqlite3_finalize(statement);
	}
	is_whole = result != S_FALSE;
	result = leave(result);
	while (FAILED(result) && *count > 0)
		store_bytes_free(&lists[--*count]);
	return result == S_OK && !is_whole ? S_FALSE : result;
}
