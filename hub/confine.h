/*
 * confine.h: what a hub may do to the machine it runs on, once somebody has taken it over: next to nothing.
 *
 * In two steps, since a hub needs more to start than to serve:
 *   confine_begin   before the first thread: no new privileges; Landlock (files below the given directories,
 *                   ports to listen on, signals to itself only); seccomp (a list of system calls)
 *   confine_finish  when all rings and threads are there: no new io_uring ring, no further filter
 * The rings themselves take only the operations that the engine uses (engine/seam/ring_uring.c).
 *
 * What the kernel does not have is left out and told by confine_text. Nothing of this can be undone.
 */
#ifndef PEERHUB_HUB_CONFINE_H
#define PEERHUB_HUB_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFINE_PORTS_MAX 8u

/* Paths may be NULL; one that does not exist is left out. */
struct confine_options {
	const char *store, *receive; /* read, write, make, remove */
	const char *config,
		*token; /* files: their directories are read, so that an editor may replace them */
	const char *admin_socket; /* in its directory sockets are made and files removed */
	bool has_any_port; /* listens on a port that is not known before: ports are free */
	uint16_t ports[CONFINE_PORTS_MAX]; /* else: those to listen on */
	size_t port_count;
};

/* 0, or a negative errno when the kernel took none of it; then and in part confine_text tells what is. */
int confine_begin(const struct confine_options *options);
/* 0, or a negative errno. Nothing to do without confine_begin. */
int confine_finish(void);

/* What is in force, in one line ("no_new_privs yes; landlock yes (…); …"; "no"), and whether that is all
 * there is. Any thread that was begun after confine_finish. */
const char *confine_text(void);
bool confine_is_whole(void);

#endif
