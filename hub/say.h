/*
 * say.h: everything the program says. Results on stdout as plain lines, errors and progress on
 * stderr, exit codes in one place.
 *
 * A line is written whole or not at all as far as the descriptor allows, and never blocks the end
 * of the program: while the other side of a pipe does not read, a pending SIGINT or SIGTERM wins.
 * One thread.
 */
#ifndef PEERHUB_HUB_SAY_H
#define PEERHUB_HUB_SAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "p2p.h"

enum exit_code {
	EXIT_OK = 0, /* everything asked for was done */
	EXIT_FAILED = 1, /* something failed; stderr names it */
	EXIT_USAGE = 2, /* the command line is wrong */
	EXIT_TIMEOUT = 3, /* --timeout passed first */
};

/* Begin: the words before every error ("peerhub id create"), and whether only results count. */
void say_begin(const char *command, bool quiet);
bool say_is_quiet(void);
/* Result lines go to stderr from now on, because stdout carries received data. */
void say_lines_on_stderr(void);

/* stderr: "peerhub peer: ...". Never suppressed. */
void say_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* stderr, for people only: suppressed by --quiet. */
void say_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* stderr: what failed, the result's name and what the library knows about it. */
void say_result(HRESULT result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* stdout: one result line. 0, or a negative errno (said already). */
int say_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Bytes as they are to a descriptor. 0, -EINTR (a signal is pending) or a negative errno. */
int say_bytes(int fd, const void *data, size_t bytes);

/*
 * Progress of a long transfer: a live line on a terminal, else one line every few seconds.
 * Ended by the next error, note or line. Nothing with --quiet.
 */
void say_progress(uint64_t now_ms, const char *what, uint64_t done, uint64_t size);

#endif
