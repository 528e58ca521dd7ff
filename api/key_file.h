/*
 * Key files: one private key (PKCS #8) per file in `keys/` below the home, 0600 in a directory of
 * 0700, both owned by us. A file comes into being whole and durable (written aside, synced,
 * renamed, directory synced) and is never changed; its name is random and never used again.
 *
 * A file is only as good as the database row that names it: one without a row is an orphan of a
 * process that died, and key_file_sweep removes it. Callers order things so (api/store.c).
 */
#ifndef PEERHUB_API_KEY_FILE_H
#define PEERHUB_API_KEY_FILE_H

#include "p2p.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_FILE_NAME_BYTES 40u /* 32 hex digits, ".key", NUL */

/* Make keys/ when missing. PEER_E_NO_KEY_ACCESS is not judged here but at each use. */
HRESULT key_file_directory_make(const char *home);
/* Are there any key files? A database that vanished beside them must not be made anew. */
HRESULT key_file_any(const char *home, bool *any);

/* Write a key under a new random name. PEER_E_NO_KEY_ACCESS (keys/ is not ours alone),
 * PEER_E_DISK_FULL, E_ACCESSDENIED, … */
HRESULT key_file_write(
	const char *home, const uint8_t *key, size_t key_bytes, char name[KEY_FILE_NAME_BYTES]);
/* Read a key: *key is malloc'd, the caller wipes it. PEER_E_NO_KEY_ACCESS: missing, not a regular
 * file of ours, or mode other than 0600 or 0400. */
HRESULT key_file_read(const char *home, const char *name, uint8_t **key, size_t *key_bytes);
/* Only whether key_file_read would get at it. */
HRESULT key_file_check(const char *home, const char *name);
/* Remove; a file that is not there is fine. Best effort: an orphan is swept later. */
void key_file_remove(const char *home, const char *name);

/* Remove every file for which is_used says no. Runs while no other process can add rows. */
void key_file_sweep(
	const char *home, bool (*is_used)(void *context, const char *name), void *context);
/* The same question without removing: is there any such file? */
bool key_file_has_orphans(
	const char *home, bool (*is_used)(void *context, const char *name), void *context);

#endif
