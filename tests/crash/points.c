/*
 * Dying inside a system call; see points.h. These definitions take the place of the C library's for
 * the whole process, SQLite included, because the program comes first in the search for a name.
 */
#include "tests/crash/points.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic uint64_t seen;
static _Atomic uint64_t die_at;
static _Atomic int die_when;
static _Atomic bool armed;
static _Atomic bool has_failed;

void points_arm(uint64_t at, enum points_when when)
{
	atomic_store(&seen, 0);
	atomic_store(&has_failed, false);
	atomic_store(&die_when, (int)when);
	atomic_store(&die_at, at);
	atomic_store(&armed, true);
}

bool points_have_failed(void)
{
	return atomic_load(&has_failed);
}

/* A pipe, an eventfd or a terminal is not the disk. fd < 0: a call by name, which always is. */
static bool is_disk(int fd)
{
	struct stat status;

	return fd < 0 ||
		(fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)));
}

static void die(void)
{
	(void)syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	for (;;)
		(void)syscall(SYS_pause);
}

/*
 * Counts a call. 0: it is made as usual. 1: it is the last one, after which we die. Negative: it
 * fails with that errno; `makes` says whether it would need room on the disk.
 */
static int point(int fd, bool makes)
{
	uint64_t at = atomic_load(&die_at), number;
	int when = atomic_load(&die_when);

	if (!atomic_load(&armed) || !is_disk(fd))
		return 0;
	number = atomic_fetch_add(&seen, 1) + 1;
	if (at == 0 || number < at)
		return 0;
	if (when == POINTS_FULL && makes) {
		atomic_store(&has_failed, true);
		return -ENOSPC;
	}
	if (when == POINTS_BROKEN && number < at + 2) {
		atomic_store(&has_failed, true);
		return -EIO;
	}
	if (when >= POINTS_DEATHS || number > at)
		return 0;
	if (when == POINTS_BEFORE)
		die();
	return 1;
}

static size_t torn(size_t bytes)
{
	return atomic_load(&die_when) == POINTS_TORN ? bytes / 2 : bytes;
}

#define AROUND(fd, makes, call)                \
	do {                                   \
		int point_ = point(fd, makes); \
		long result_;                  \
		if (point_ < 0) {              \
			errno = -point_;       \
			return -1;             \
		}                              \
		result_ = (call);              \
		if (point_ > 0)                \
			die();                 \
		return (int)result_;           \
	} while (0)

static ssize_t write_point(int fd, const void *data, size_t bytes, off_t offset)
{
	int last = point(fd, true);

	if (last < 0) {
		errno = -last;
		return -1;
	}
	if (last > 0)
		bytes = torn(bytes);
	bytes = (size_t)(offset < 0 ? syscall(SYS_write, fd, data, bytes)
				    : syscall(SYS_pwrite64, fd, data, bytes, offset));
	if (last > 0)
		die();
	return (ssize_t)bytes;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
	return write_point(fd, data, bytes, -1);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
	return write_point(fd, data, bytes, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
	return write_point(fd, data, bytes, offset);
}

int fsync(int fd)
{
	AROUND(fd, true, syscall(SYS_fsync, fd));
}

int fdatasync(int fd)
{
	AROUND(fd, true, syscall(SYS_fdatasync, fd));
}

int ftruncate(int fd, off_t bytes)
{
	AROUND(fd, true, syscall(SYS_ftruncate, fd, bytes));
}

int ftruncate64(int fd, off_t bytes)
{
	AROUND(fd, true, syscall(SYS_ftruncate, fd, bytes));
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
	AROUND(-1, true, syscall(SYS_renameat2, from_directory, from, to_directory, to, 0));
}

int unlink(const char *path)
{
	AROUND(-1, false, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int unlinkat(int directory, const char *path, int flags)
{
	AROUND(-1, false, syscall(SYS_unlinkat, directory, path, flags));
}

int mkdir(const char *path, mode_t mode)
{
	AROUND(-1, true, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
