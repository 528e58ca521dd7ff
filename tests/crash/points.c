/*
 * Dying inside a system call; see points.h. These definitions take the place of the C library's for
 * the whole process, SQLite included, because the program comes first in the search for a name.
 */
#include "tests/crash/points.h"

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
static _Atomic int ignored = -1;
static _Atomic bool armed;

void points_arm(uint64_t at, enum points_when when)
{
	atomic_store(&seen, 0);
	atomic_store(&die_when, (int)when);
	atomic_store(&die_at, at);
	atomic_store(&armed, true);
}

uint64_t points_seen(void)
{
	return atomic_load(&seen);
}

void points_ignore(int fd)
{
	atomic_store(&ignored, fd);
}

static void die(void)
{
	(void)syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	for (;;)
		(void)syscall(SYS_pause);
}

/* Counts a call. true: this is the one to die at, and it is not `before`. */
static bool point(int fd)
{
	if (!atomic_load(&armed) || (fd >= 0 && fd == atomic_load(&ignored)))
		return false;
	if (atomic_fetch_add(&seen, 1) + 1 != atomic_load(&die_at))
		return false;
	if (atomic_load(&die_when) == POINTS_BEFORE)
		die();
	return true;
}

static size_t torn(size_t bytes)
{
	return atomic_load(&die_when) == POINTS_TORN ? bytes / 2 : bytes;
}

#define AFTER(fd, call)                 \
	do {                            \
		bool last_ = point(fd); \
		long result_ = (call);  \
		if (last_)              \
			die();          \
		return (int)result_;    \
	} while (0)

static ssize_t write_point(int fd, const void *data, size_t bytes, off_t offset)
{
	bool last = point(fd);

	if (last)
		bytes = torn(bytes);
	bytes = (size_t)(offset < 0 ? syscall(SYS_write, fd, data, bytes)
				    : syscall(SYS_pwrite64, fd, data, bytes, offset));
	if (last)
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
	AFTER(fd, syscall(SYS_fsync, fd));
}

int fdatasync(int fd)
{
	AFTER(fd, syscall(SYS_fdatasync, fd));
}

int ftruncate(int fd, off_t bytes)
{
	AFTER(fd, syscall(SYS_ftruncate, fd, bytes));
}

int ftruncate64(int fd, off_t bytes)
{
	AFTER(fd, syscall(SYS_ftruncate, fd, bytes));
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
	AFTER(-1, syscall(SYS_renameat2, from_directory, from, to_directory, to, 0));
}

int unlink(const char *path)
{
	AFTER(-1, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int unlinkat(int directory, const char *path, int flags)
{
	AFTER(-1, syscall(SYS_unlinkat, directory, path, flags));
}

int mkdir(const char *path, mode_t mode)
{
	AFTER(-1, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
