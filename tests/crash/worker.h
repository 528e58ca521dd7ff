/*
 * The two things a child process does with a store: change it at random until it is killed, and open it
 * after a death to see what is there.
 */
#ifndef PEERHUB_TESTS_CRASH_WORKER_H
#define PEERHUB_TESTS_CRASH_WORKER_H

#include "tests/crash/record.h"

struct worker_options {
	const char *home;
	int report_fd; /* records, or the found model, are written here */
	uint64_t seed;
	uint32_t index; /* of several workers on one store: each keeps to identities of its own */
	uint32_t operations; /* then it ends by itself */
	uint64_t
		die_at; /* a call of points.h, 0: none; where it dies, or the disk begins to fail */
	uint32_t die_when; /* enum points_when */
	bool is_probe; /* checker: a damaged store, CHECKER_REFUSED is an answer */
};

/* Random operations through p2p.h. 0: it came to its end; else an operation failed (said). */
int worker_run(const struct worker_options *options);
#define CHECKER_REFUSED 3
#define CHECKER_UNNOTICED 4 /* of a probe: a field differs that has one copy and no signature */
/* Open, prove that all that is listed can be used, write the found model. 0, 1 (said), CHECKER_REFUSED. */
int checker_run(const struct worker_options *options);
/* The parent's side: read what checker_run wrote. */
bool checker_read(int fd, struct model *found);

#endif
