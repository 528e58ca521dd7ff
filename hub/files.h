/*
 * files.h: small text files on the command line, "-" meaning standard input or output.
 */
#ifndef PEERHUB_HUB_FILES_H
#define PEERHUB_HUB_FILES_H

#include <stdbool.h>
#include <stddef.h>

#define FILES_TEXT_BYTES_MAX (1u << 20) /* identity, export and invitation texts stay below */

/* The whole file with a NUL behind it, for free(). NULL: said on stderr (unreadable, larger than
 * FILES_TEXT_BYTES_MAX, with a NUL inside). */
char *files_read_text(const char *path);

/*
 * Write text to a new file: all of it or no file. An existing file is replaced in one step.
 * `private`: mode 0600 instead of 0644. 0, or a negative errno (said on stderr).
 */
int files_write_text(const char *path, const char *text, bool is_private);

/*
 * A password: the first line of the file, or PEERHUB_PASSWORD when path is NULL, or asked for on
 * the terminal without echo. For free(), after files_forget. NULL: said on stderr.
 */
char *files_read_password(const char *path);
/* Overwrite a secret before it is freed. NULL is allowed. */
void files_forget(char *secret);

#endif
