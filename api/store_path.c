/* Store path: the directory of the store, chosen and made. */
#include "api/store_path.h"

#include "api/detail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOME_ROOT "/var/lib/peerhub"

HRESULT store_path_failure(int error, const char *doing, const char *path)
{
	HRESULT result;

	switch (error) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG: /* a file size limit is a full disk to whoever writes */
		result = PEER_E_DISK_FULL;
		break;
	case EACCES:
	case EPERM:
	case EROFS:
		result = E_ACCESSDENIED;
		break;
	case ENOMEM:
	case ENOBUFS:
		result = E_OUTOFMEMORY;
		break;
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
	case EEXIST:
		result = HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND);
		break;
	case EMFILE:
	case ENFILE:
		result = HRESULT_FROM_WIN32(ERROR_TOO_MANY_OPEN_FILES);
		break;
	default:
		result = HRESULT_FROM_WIN32(ERROR_IO_DEVICE);
		break;
	}
	return detail_fail(result, "%s %.300s: %s", doing, path, strerror(error));
}

static HRESULT join(char path[STORE_PATH_BYTES], const char *left, const char *right)
{
	int bytes = snprintf(path, STORE_PATH_BYTES, "%s%s", left, right);

	if (bytes < 0 || bytes >= (int)STORE_PATH_BYTES)
		return detail_fail(HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND),
			"the store's directory: path of more than %u bytes", STORE_PATH_BYTES - 1);
	return S_OK;
}

/* A relative name counts from the working directory of this moment, not of a later one. */
static HRESULT absolute(const char *given, char path[STORE_PATH_BYTES])
{
	char here[STORE_PATH_BYTES];
	char tail[STORE_PATH_BYTES + 1];
	int bytes;

	if (given[0] == '/')
		return join(path, given, "");
	if (getcwd(here, sizeof(here)) == NULL)
		return store_path_failure(errno, "find", "the working directory");
	bytes = snprintf(tail, sizeof(tail), "/%s", given);
	if (bytes < 0 || bytes >= (int)sizeof(tail))
		return join(path, given, ""); /* too long by itself: refused there */
	return join(path, here, tail);
}

static const char *environment(const char *name)
{
	const char *value = secure_getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

HRESULT store_path_choose(const char *chosen, char path[STORE_PATH_BYTES])
{
	const char *data;

	if (chosen == NULL)
		chosen = environment("PEERHUB_HOME");
	if (chosen != NULL)
		return absolute(chosen, path);
	data = environment("XDG_DATA_HOME");
	if (data != NULL && data[0] == '/') /* the XDG rules ignore relative ones */
		return join(path, data, "/peerhub");
	if (geteuid() == 0)
		return join(path, HOME_ROOT, "");
	data = environment("HOME");
	if (data != NULL && data[0] == '/')
		return join(path, data, "/.local/share/peerhub");
	return detail_fail(HRESULT_FROM_WIN32(ERROR_PATH_NOT_FOUND),
		"no directory for the store: set PEERHUB_HOME");
}

int store_path_sync(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int status = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		status = -errno;
	close(fd);
	return status;
}

/* Make one directory. Its name is durable when its parent is synced. */
static HRESULT make_one(const char *path, const char *parent)
{
	struct stat status;
	int error;

	if (mkdir(path, 0700) == 0) {
		error = store_path_sync(parent);
		/* A parent that may be entered but not read cannot be synced by us. */
		if (error < 0 && error != -EACCES)
			return store_path_failure(-error, "sync directory", parent);
		return S_OK;
	}
	error = errno;
	if (stat(path, &status) < 0)
		return store_path_failure(error, "make directory", path);
	if (!S_ISDIR(status.st_mode))
		return store_path_failure(ENOTDIR, "make directory", path);
	return S_OK;
}

HRESULT store_path_make(const char *path)
{
	char part[STORE_PATH_BYTES];
	char parent[STORE_PATH_BYTES] = "/";
	size_t bytes = strlen(path);

	for (size_t at = 1; at <= bytes; at++) {
		HRESULT result;

		if (path[at] != '/' && path[at] != '\0')
			continue;
		if (path[at - 1] == '/')
			continue; /* doubled or trailing slash */
		memcpy(part, path, at);
		part[at] = '\0';
		result = make_one(part, parent);
		if (FAILED(result))
			return result;
		memcpy(parent, part, at + 1);
	}
	return S_OK;
}
