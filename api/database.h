/*
 * Database: one SQLite file, opened with care, and transactions on it.
 *
 * Opening proves that the file is a sound store of ours before anything is written: header, ids,
 * version, the tables (exactly those of `schema`), integrity_check (with it, names are proved by
 * their indexes). A file that is not is refused byte for byte as it was. Used by api/store.c under
 * its mutex: not thread-safe by itself.
 */
#ifndef PEERHUB_API_DATABASE_H
#define PEERHUB_API_DATABASE_H

#include "p2p.h"

#include <sqlite3.h>
#include <stdbool.h>

#define DATABASE_APPLICATION_ID 0x50485542 /* "PHUB" */
#define DATABASE_BUSY_MS 10000 /* waiting for another process; its transactions are short */

struct database {
	sqlite3 *handle; /* NULL = closed */
	char path[4096];
};

/*
 * Open, or make with `schema` (run once, in one transaction) and `version`.
 * may_create false: an absent or empty file is refused as damaged.
 * added: what this version of the schema has at its end and the one before had not; a file of that one gets it.
 * PEER_E_CERT_STORE_CORRUPTED, E_ACCESSDENIED, PEER_E_DISK_FULL, E_OUTOFMEMORY, ERROR_BUSY, …
 */
HRESULT database_open(struct database *database, const char *path, const char *schema,
	const char *added, int version, bool may_create);
void database_close(struct database *database); /* checkpoints; closed already: nothing */

/* One transaction. `write` takes the write lock at once, so that no later step waits for it. */
HRESULT database_begin(struct database *database, bool write);
HRESULT database_commit(struct database *database); /* a failure has rolled back */
void database_rollback(struct database *database);
/* Without memory even a rollback may fail: the transaction goes on, and only database_close ends it. */
bool database_is_stuck(const struct database *database);

/*
 * Prepare and bind: formats "t" text (NULL = SQL NULL), "i" int64_t, "b" pointer and int bytes.
 * database_step: S_OK with *row; database_run: prepare, step to the end, finalize.
 */
HRESULT database_prepare(struct database *database, sqlite3_stmt **statement, const char *sql,
	const char *format, ...);
HRESULT database_step(struct database *database, sqlite3_stmt *statement, bool *row);
HRESULT database_run(struct database *database, const char *sql, const char *format, ...);

HRESULT database_result(struct database *database, int code); /* SQLite's code, with detail */
HRESULT database_corrupted(const struct database *database, const char *why);

#endif
