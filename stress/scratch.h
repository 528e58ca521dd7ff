/*
 * A temporary directory of this process: PLACE/peerhub-NOUN-PID-RANDOM, removed by who made it. A process
 * that is killed cannot, so the next one of the same noun removes what processes that are gone have left.
 * For peerhub-stress and for tests; no thread calls it twice at once.
 */
#ifndef PEERHUB_STRESS_SCRATCH_H
#define PEERHUB_STRESS_SCRATCH_H

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRATCH_BYTES 64u /* of a path that scratch_create makes, at most */

static inline int scratch_remove_one(
	const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

static inline void scratch_remove(const char *path)
{
	(void)nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Whether this is "peerhub-NOUN-PID-…" of a process that is gone. */
static inline bool scratch_is_stale(const char *name, const char *prefix)
{
	const char *digits = name + strlen(prefix);
	char *end;
	long pid;

	if (strncmp(name, prefix, strlen(prefix)) != 0 || *digits < '1' || *digits > '9')
		return false;
	pid = strtol(digits, &end, 10);
	return *end == '-' && pid > 0 && pid < 1 << 30 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

static inline void scratch_sweep(const char *place, const char *noun)
{
	char prefix[SCRATCH_BYTES], path[512];
	struct dirent *entry;
	struct stat status;
	DIR *listing = opendir(place);

	if (listing == NULL)
		return;
	(void)!snprintf(prefix, sizeof(prefix), "peerhub-%s-", noun);
	while ((entry = readdir(listing)) != NULL) {
		if (!scratch_is_stale(entry->d_name, prefix))
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", place, entry->d_name) >=
			(int)sizeof(path))
			continue;
		if (lstat(path, &status) == 0 && S_ISDIR(status.st_mode) &&
			status.st_uid == getuid())
			scratch_remove(path);
	}
	closedir(listing);
}

/* place: NULL is TMPDIR, or /tmp when that is not set or too long. False: path is "" then. */
static inline bool scratch_create(char path[SCRATCH_BYTES], const char *place, const char *noun)
{
	if (place == NULL)
		place = getenv("TMPDIR");
	if (place == NULL || place[0] == '\0' || strlen(place) > 30)
		place = "/tmp";
	scratch_sweep(place, noun);
	if (snprintf(path, SCRATCH_BYTES, "%s/peerhub-%s-%d-XXXXXX", place, noun, (int)getpid()) <
			(int)SCRATCH_BYTES &&
		mkdtemp(path) != NULL)
		return true;
	path[0] = '\0';
	return false;
}

#endif
