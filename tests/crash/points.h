/*
 * Dying inside a system call. points.c stands in for the calls by which a store reaches the disk (write,
 * pwrite, fsync, ftruncate, rename, unlink, mkdir): it counts those on files and directories, and at a chosen one the process gets
 * SIGKILL, before it, in the middle of it (half of the bytes are written) or right after it. So a death
 * can be repeated exactly, where a clock cannot. In the same way a disk becomes full, or fails.
 */
#ifndef PEERHUB_TESTS_CRASH_POINTS_H
#define PEERHUB_TESTS_CRASH_POINTS_H

#include <stdbool.h>
#include <stdint.h>

enum points_when {
	POINTS_BEFORE,
	POINTS_TORN, /* of a write: some of it; of the others: as after */
	POINTS_AFTER,
	POINTS_DEATHS,
	POINTS_FULL = POINTS_DEATHS, /* no death: from here on the disk is full, ENOSPC */
	POINTS_BROKEN, /* no death: this one call, and the next, fail with EIO */
	POINTS_WHEN_COUNT,
};

/* Die, or begin to fail, at the at-th call from now; 0: only count. */
void points_arm(uint64_t at, enum points_when when);
bool points_have_failed(void); /* a call was made to fail since points_arm */

#endif
