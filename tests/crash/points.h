/*
 * Dying inside a system call. points.c stands in for the calls by which a store reaches the disk (write,
 * pwrite, fsync, ftruncate, rename, unlink, mkdir): it counts them, and at a chosen one the process gets
 * SIGKILL, before it, in the middle of it (half of the bytes are written) or right after it. So a death
 * can be repeated exactly, where a clock cannot.
 */
#ifndef PEERHUB_TESTS_CRASH_POINTS_H
#define PEERHUB_TESTS_CRASH_POINTS_H

#include <stdint.h>

enum points_when {
	POINTS_BEFORE,
	POINTS_TORN, /* of a write: some of it; of the others: as after */
	POINTS_AFTER,
	POINTS_WHEN_COUNT,
};

/* Die at the at-th call from now; 0: only count. */
void points_arm(uint64_t at, enum points_when when);
uint64_t points_seen(void); /* calls since points_arm */
/* Writes to this descriptor are not counted: reports to a parent. */
void points_ignore(int fd);

#endif
