/*
 * Database: opening, transactions, statements.
 *
 * Why a refused file stays untouched: until it is accepted the connection only reads, and it must
 * not fold a write-ahead log into the file when it is closed again (NO_CKPT_ON_CLOSE). The switch
 * to a write-ahead log and the schema come only for a file that is empty.
 */
#include "api/database.h"

#include "api/detail.h"
#include "api/store_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "SQLite format 3" /* with its NUL: the first 16 bytes */
#define WAL_TRIES 100 /* of 50 ms: SQLite does not wait for this one lock by itself */

/* ---- results ---------------------------------------------------------------------------- */

HRESULT database_corrupted(const struct database *database, const char *why)
{
	return detail_fail(
		PEER_E_CERT_STORE_CORRUPTED, "store %.300s: %.120s", database->path, why);
}

HRESULT database_result(struct database *database, int code)
{
	int last = errno; /* SQLite keeps none for a failed commit; see database_step */
	int error = database->handle != NULL ? sqlite3_system_errno(database->handle) : 0;
	const char *why =
		database->handle != NULL ? sqlite3_errmsg(database->handle) : sqlite3_errstr(code);

	if (error == 0)
		error = last;
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return S_OK;
	case SQLITE_NOMEM:
		return detail_fail(E_OUTOFMEMORY, "store %.300s: no memory", database->path);
	case SQLITE_FULL:
		return store_path_failure(ENOSPC, "write store", database->path);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		return detail_fail(HRESULT_FROM_WIN32(ERROR_BUSY),
			"store %.300s: another process holds its lock", database->path);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return store_path_failure(EACCES, "write store", database->path);
	case SQLITE_CANTOPEN:
		return store_path_failure(
			error != 0 ? error : EACCES, "open store", database->path);
	case SQLITE_IOERR:
		if (code == SQLITE_IOERR_NOMEM)
			return detail_fail(
				E_OUTOFMEMORY, "store %.300s: no memory", database->path);
		return store_path_failure(error != 0 ? error : EIO, "use store", database->path);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* a table that our own SQL names is not there */
	case SQLITE_MISMATCH:
	case SQLITE_SCHEMA:
		return database_corrupted(database, why);
	default:
		return detail_fail(E_UNEXPECTED, "store %.300s: %.120s", database->path, why);
	}
}

/* ---- statements ------------------------------------------------------------------------- */

static int bind_one(sqlite3_stmt *statement, int index, char kind, va_list *arguments)
{
	const void *data;
	int bytes;

	switch (kind) {
	case 't':
		return sqlite3_bind_text(
			statement, index, va_arg(*arguments, const char *), -1, SQLITE_TRANSIENT);
	case 'i':
		return sqlite3_bind_int64(statement, index, va_arg(*arguments, int64_t));
	case 'b':
		data = va_arg(*arguments, const void *);
		bytes = va_arg(*arguments, int);
		if (bytes == 0)
			return sqlite3_bind_zeroblob(statement, index, 0);
		return sqlite3_bind_blob(statement, index, data, bytes, SQLITE_TRANSIENT);
	default:
		return SQLITE_MISUSE;
	}
}

static HRESULT prepare(struct database *database, sqlite3_stmt **statement, const char *sql,
	const char *format, va_list *arguments)
{
	int code = sqlite3_prepare_v2(database->handle, sql, -1, statement, NULL);

	for (int index = 0; code == SQLITE_OK && format[index] != '\0'; index++)
		code = bind_one(*statement, index + 1, format[index], arguments);
	if (code == SQLITE_OK)
		return S_OK;
	sqlite3_finalize(*statement);
	*statement = NULL;
	return database_result(database, code);
}

HRESULT database_prepare(struct database *database, sqlite3_stmt **statement, const char *sql,
	const char *format, ...)
{
	va_list arguments;
	HRESULT result;

	va_start(arguments, format);
	result = prepare(database, statement, sql, format, &arguments);
	va_end(arguments);
	return result;
}

HRESULT database_step(struct database *database, sqlite3_stmt *statement, bool *row)
{
	int code;

	errno = 0;
	code = sqlite3_step(statement);
	*row = code == SQLITE_ROW;
	return database_result(database, code);
}

HRESULT database_run(struct database *database, const char *sql, const char *format, ...)
{
	sqlite3_stmt *statement;
	va_list arguments;
	HRESULT result;
	bool row = true;

	va_start(arguments, format);
	result = prepare(database, &statement, sql, format, &arguments);
	va_end(arguments);
	if (FAILED(result))
		return result;
	while (SUCCEEDED(result) && row)
		result = database_step(database, statement, &row);
	sqlite3_finalize(statement);
	return result;
}

/* The one number that a pragma or query answers. */
static HRESULT query_number(struct database *database, const char *sql, int64_t *number)
{
	sqlite3_stmt *statement;
	HRESULT result = database_prepare(database, &statement, sql, "");
	bool row;

	if (FAILED(result))
		return result;
	result = database_step(database, statement, &row);
	if (SUCCEEDED(result))
		*number = row ? sqlite3_column_int64(statement, 0) : 0;
	sqlite3_finalize(statement);
	return result;
}

/* ---- transactions ----------------------------------------------------------------------- */

HRESULT database_begin(struct database *database, bool write)
{
	return database_run(database, write ? "BEGIN IMMEDIATE" : "BEGIN", "");
}

void database_rollback(struct database *database)
{
	/* Fails when there is no transaction any more, which is what we want, or for want of memory: see
	 * database_is_stuck. */
	(void)sqlite3_exec(database->handle, "ROLLBACK", NULL, NULL, NULL);
}

bool database_is_stuck(const struct database *database)
{
	return database->handle != NULL && sqlite3_get_autocommit(database->handle) == 0;
}

HRESULT database_commit(struct database *database)
{
	HRESULT result = database_run(database, "COMMIT", "");

	if (FAILED(result))
		database_rollback(database);
	return result;
}

/* ---- opening ---------------------------------------------------------------------------- */

/* Look at the first bytes without SQLite. No connection of this process is open on the file, so
 * closing this descriptor drops nobody's locks. */
static HRESULT look_at_file(struct database *database, bool may_create)
{
	/* Without waiting: it may be a pipe, in a place where others can make one. */
	int fd = open(database->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat status;
	char head[16];
	ssize_t got;

	if (fd < 0 && errno == ENOENT)
		return may_create ? S_OK
				  : database_corrupted(database,
					    "is missing, yet there are private keys beside it");
	if (fd < 0)
		return store_path_failure(errno, "open store", database->path);
	if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
		close(fd);
		return database_corrupted(database, "is not a file");
	}
	got = read(fd, head, sizeof(head));
	close(fd);
	if (got < 0)
		return store_path_failure(errno, "read store", database->path);
	if (got == 0)
		return may_create ? S_OK
				  : database_corrupted(database,
					    "is empty, yet there are private keys beside it");
	if (got < (ssize_t)sizeof(head) || memcmp(head, MAGIC, sizeof(head)) != 0)
		return database_corrupted(database, "is not a database");
	return S_OK;
}

/* The file with our mode; SQLite gives its log and index the same one. */
static HRESULT make_file(struct database *database)
{
	int fd = open(database->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return store_path_failure(errno, "open store", database->path);
	close(fd);
	return S_OK;
}

static HRESULT connect_file(struct database *database)
{
	int code = sqlite3_open_v2(database->path, &database->handle,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_extended_result_codes(database->handle, 1);
	if (code == SQLITE_OK)
		code = sqlite3_busy_timeout(database->handle, DATABASE_BUSY_MS);
	if (code == SQLITE_OK)
		code = sqlite3_db_config(
			database->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
	if (code == SQLITE_OK)
		code = sqlite3_db_config(
			database->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	if (code == SQLITE_OK)
		code = sqlite3_db_config(
			database->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
	if (code != SQLITE_OK)
		return database_result(database, code);
	return database_run(database, "PRAGMA cell_size_check=ON", "");
}

/* What a file of ours is. */
enum content {
	CONTENT_PRESENT, /* of this version */
	CONTENT_FRESH, /* nothing in it yet */
	CONTENT_BEFORE, /* of the version before */
};

/* Whose file, and of which version. */
static HRESULT judge_version(struct database *database, int version, enum content *content)
{
	int64_t application = 0, found = 0, tables = 0;
	char why[96];
	HRESULT result = query_number(database, "PRAGMA application_id", &application);

	if (SUCCEEDED(result))
		result = query_number(database, "PRAGMA user_version", &found);
	if (SUCCEEDED(result))
		result = query_number(database, "SELECT count(*) FROM sqlite_schema", &tables);
	if (FAILED(result))
		return result;
	*content = CONTENT_PRESENT;
	if (application == 0 && found == 0 && tables == 0) {
		*content = CONTENT_FRESH;
		return S_OK;
	}
	if (application != DATABASE_APPLICATION_ID)
		return database_corrupted(database, "is a database of another program");
	if (found == version - 1)
		*content = CONTENT_BEFORE;
	if (found == version || found == version - 1)
		return S_OK;
	snprintf(why, sizeof(why), "was made by a %s version (format %lld, we know %d)",
		found > version ? "newer" : "different", (long long)found, version);
	return database_corrupted(database, why);
}

/* In one transaction: another process may be making the same new file at this moment. */
static HRESULT judge_snapshot(struct database *database, int version, enum content *content)
{
	HRESULT result = database_begin(database, false);

	if (FAILED(result))
		return result;
	result = judge_version(database, version, content);
	database_rollback(database);
	if (SUCCEEDED(result) && database_is_stuck(database))
		return database_result(database, SQLITE_NOMEM);
	return result;
}

/* The next statement of a schema, without its semicolon. */
static bool schema_take(const char **schema, const char *sql)
{
	size_t bytes = strlen(sql);

	if (strncmp(*schema, sql, bytes) != 0 || (*schema)[bytes] != ';')
		return false;
	*schema += bytes + 1;
	return true;
}

/*
 * The tables are the ones that our schema makes, word for word as SQLite keeps it, and nothing is
 * beside them. A view that counts for ever in a table's place, a trigger, an index on an expression:
 * all of them are programs that our own statements would run.
 *
 * missing: what of the schema's end is not there yet, "" for nothing
 */
static HRESULT check_schema(struct database *database, const char *schema, const char *missing)
{
	static const char sequence[] = "CREATE TABLE sqlite_sequence(name,seq)";
	sqlite3_stmt *statement;
	bool row = true, good = true;
	HRESULT result = database_prepare(database, &statement,
		"SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid", "");

	if (FAILED(result))
		return result;
	while (good && SUCCEEDED(result)) {
		const char *sql;

		result = database_step(database, statement, &row);
		if (FAILED(result) || !row)
			break;
		sql = (const char *)sqlite3_column_text(statement, 0);
		if (sql == NULL)
			result = E_OUTOFMEMORY;
		else if (strcmp(sql, sequence) != 0)
			good = schema_take(&schema, sql);
	}
	sqlite3_finalize(statement);
	if (SUCCEEDED(result) && (!good || strcmp(schema, missing) != 0))
		return database_corrupted(database, "holds other tables than ours");
	return result;
}

static HRESULT check_content(struct database *database)
{
	sqlite3_stmt *statement;
	const char *answer;
	bool row;
	HRESULT result = database_prepare(database, &statement, "PRAGMA integrity_check(1)", "");

	if (FAILED(result))
		return result;
	result = database_step(database, statement, &row);
	answer = row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
	if (SUCCEEDED(result) && (answer == NULL || strcmp(answer, "ok") != 0))
		result = database_corrupted(database, answer != NULL ? answer : "is damaged");
	sqlite3_finalize(statement);
	return result;
}

/* Two processes may make the same new file: whoever gets the lock first does, the other sees it. */
static HRESULT switch_to_log(struct database *database)
{
	int code = SQLITE_BUSY;

	for (int attempt = 0; attempt < WAL_TRIES && (code & 0xff) == SQLITE_BUSY; attempt++) {
		if (attempt > 0)
			usleep(50000);
		code = sqlite3_exec(database->handle, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
	}
	return database_result(database, code);
}

static HRESULT make_content(struct database *database, const char *schema, int version)
{
	char stamps[128];
	enum content content;
	HRESULT result = database_begin(database, true);

	if (FAILED(result))
		return result;
	result = judge_version(database, version, &content);
	if (SUCCEEDED(result) && content == CONTENT_FRESH) {
		snprintf(stamps, sizeof(stamps), "PRAGMA application_id=%d; PRAGMA user_version=%d",
			DATABASE_APPLICATION_ID, version);
		result = database_result(
			database, sqlite3_exec(database->handle, schema, NULL, NULL, NULL));
		if (SUCCEEDED(result))
			result = database_result(
				database, sqlite3_exec(database->handle, stamps, NULL, NULL, NULL));
	}
	if (SUCCEEDED(result))
		return database_commit(database);
	database_rollback(database);
	return result;
}

static HRESULT accept_file(struct database *database)
{
	HRESULT result = database_run(database, "PRAGMA synchronous=FULL", "");

	if (SUCCEEDED(result))
		result = database_run(database, "PRAGMA foreign_keys=ON", "");
	if (SUCCEEDED(result))
		result = database_result(database,
			sqlite3_db_config(database->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0,
				(int *)NULL));
	return result;
}

/* From the version before to this one, whole or not at all; another process may be first. */
static HRESULT bring_up(
	struct database *database, const char *schema, const char *added, int version)
{
	enum content content;
	char stamp[64];
	HRESULT result = database_begin(database, true);

	if (FAILED(result))
		return result;
	result = judge_version(database, version, &content);
	if (SUCCEEDED(result) && content == CONTENT_BEFORE) {
		snprintf(stamp, sizeof(stamp), "PRAGMA user_version=%d", version);
		result = check_schema(database, schema, added);
		if (SUCCEEDED(result))
			result = database_result(
				database, sqlite3_exec(database->handle, added, NULL, NULL, NULL));
		if (SUCCEEDED(result))
			result = database_result(
				database, sqlite3_exec(database->handle, stamp, NULL, NULL, NULL));
	}
	if (SUCCEEDED(result))
		return database_commit(database);
	database_rollback(database);
	return result;
}

static HRESULT open_steps(struct database *database, const char *schema, const char *added,
	int version, bool may_create)
{
	enum content content = CONTENT_PRESENT;
	HRESULT result = look_at_file(database, may_create);

	if (SUCCEEDED(result) && may_create)
		result = make_file(database);
	if (SUCCEEDED(result))
		result = connect_file(database);
	if (SUCCEEDED(result))
		result = judge_snapshot(database, version, &content);
	if (SUCCEEDED(result) && content == CONTENT_FRESH && !may_create)
		result = database_corrupted(
			database, "holds nothing, yet there are private keys beside it");
	if (SUCCEEDED(result) && content == CONTENT_FRESH)
		result = database_run(database, "PRAGMA synchronous=FULL", "");
	if (SUCCEEDED(result) && content == CONTENT_FRESH)
		result = switch_to_log(database);
	if (SUCCEEDED(result) && content == CONTENT_FRESH)
		result = make_content(database, schema, version);
	if (SUCCEEDED(result))
		result = check_schema(database, schema, content == CONTENT_BEFORE ? added : "");
	if (SUCCEEDED(result))
		result = check_content(database);
	if (SUCCEEDED(result))
		result = accept_file(database);
	if (SUCCEEDED(result) && content == CONTENT_BEFORE)
		result = bring_up(database, schema, added, version);
	return result;
}

HRESULT database_open(struct database *database, const char *path, const char *schema,
	const char *added, int version, bool may_create)
{
	HRESULT result;

	database->handle = NULL;
	snprintf(database->path, sizeof(database->path), "%s", path);
	result = open_steps(database, schema, added, version, may_create);
	if (FAILED(result))
		database_close(database);
	return result;
}

void database_close(struct database *database)
{
	if (database->handle == NULL)
		return;
	/* All statements are finalized by their functions, so this cannot be refused. */
	(void)sqlite3_close(database->handle);
	database->handle = NULL;
}
