/*
 * Store path: which directory the store is in, and the files of it that are not the database.
 * Everything is done by path from the directory's absolute name. Any thread; no state of its own.
 */
#ifndef PEERHUB_API_STORE_PATH_H
#define PEERHUB_API_STORE_PATH_H

#include "p2p.h"

#include <stdbool.h>
#include <stddef.h>

#define STORE_PATH_BYTES 3072u /* with NUL; file names below it then fit PATH_MAX (4096) */

/* The code for a file that could not be used, and detail with its path. */
HRESULT store_path_failure(int error, const char *doing, const char *path);

/*
 * The absolute path of the directory: `chosen`, or by the environment when NULL.
 * S_OK; HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND) (no way to choose one, too long); codes of
 * store_path_failure (the working directory is gone).
 */
HRESULT store_path_choose(const char *chosen, char path[STORE_PATH_BYTES]);

/* Make the directory and its missing parents with mode 0700, each one durably. S_OK or
 * store_path_failure's codes. */
HRESULT store_path_make(const char *path);

/* fsync of a directory: names made or removed in it are on disk. 0 or -errno. */
int store_path_sync(const char *path);

#endif
