/* Key files. See key_file.h; the order of the system calls in write_whole is the proof. */
#include "api/key_file.h"

#include "api/detail.h"
#include "api/store_path.h"
#include "api/key.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS "keys"
#define PATH_BYTES (STORE_PATH_BYTES + 64u)
#define NAME_DIGITS 32u
#define SWEEP_FILES_MAX 100000u /* a bound for the loop, above anything a store can hold */

static void keys_path(const char *home, const char *name, char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "%s/" KEYS "%s%s", home, name[0] != '\0' ? "/" : "", name);
}

HRESULT key_file_directory_make(const char *home)
{
	char path[PATH_BYTES];
	int error;

	keys_path(home, "", path);
	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? S_OK : store_path_failure(errno, "make directory", path);
	error = store_path_sync(home);
	return error < 0 ? store_path_failure(-error, "sync directory", home) : S_OK;
}

static HRESULT no_access(const char *path, const char *why)
{
	return detail_fail(PEER_E_NO_KEY_ACCESS, "private key %.300s: %s", path, why);
}

/* The directory, opened, when it is ours alone. */
static HRESULT directory_open(const char *home, int *fd)
{
	char path[PATH_BYTES];
	struct stat status;

	keys_path(home, "", path);
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return no_access(path, strerror(errno));
	if (fstat(*fd, &status) == 0 && status.st_uid == geteuid() && (status.st_mode & 077) == 0)
		return S_OK;
	close(*fd);
	*fd = -1;
	return no_access(path, "the directory must be ours with mode 0700");
}

/* ---- writing ---------------------------------------------------------------------------- */

static int name_draw(char name[KEY_FILE_NAME_BYTES], char aside[KEY_FILE_NAME_BYTES])
{
	uint8_t bytes[NAME_DIGITS / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t index = 0; index < sizeof(bytes); index++)
		snprintf(name + 2 * index, 3, "%02x", bytes[index]);
	memcpy(aside, name, NAME_DIGITS);
	memcpy(aside + NAME_DIGITS, ".tmp", 5);
	memcpy(name + NAME_DIGITS, ".key", 5);
	return 0;
}

static int write_all(int fd, const uint8_t *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t done = write(fd, data, bytes);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		data += done;
		bytes -= (size_t)done;
	}
	return 0;
}

/*
 * After a crash at any line the file is absent, an aside (.tmp, swept), or whole: the data is
 * synced before the name exists, and the name is synced before we return.
 */
static int write_whole(
	int directory, const char *aside, const char *name, const uint8_t *key, size_t key_bytes)
{
	int fd = openat(
		directory, aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int status;

	if (fd < 0)
		return -errno;
	status = write_all(fd, key, key_bytes);
	if (status == 0 && fsync(fd) < 0)
		status = -errno;
	if (close(fd) < 0 && status == 0)
		status = -errno;
	if (status == 0 && renameat(directory, aside, directory, name) < 0)
		status = -errno;
	if (status < 0) {
		unlinkat(directory, aside, 0);
		return status;
	}
	if (fsync(directory) < 0) {
		status = -errno;
		unlinkat(directory, name, 0);
	}
	return status;
}

HRESULT key_file_write(
	const char *home, const uint8_t *key, size_t key_bytes, char name[KEY_FILE_NAME_BYTES])
{
	char aside[KEY_FILE_NAME_BYTES];
	char path[PATH_BYTES];
	HRESULT result;
	int directory, status;

	result = directory_open(home, &directory);
	if (FAILED(result))
		return result;
	status = name_draw(name, aside);
	if (status == 0)
		status = write_whole(directory, aside, name, key, key_bytes);
	close(directory);
	if (status == 0)
		return S_OK;
	keys_path(home, name, path);
	return store_path_failure(-status, "write", path);
}

/* ---- reading ---------------------------------------------------------------------------- */

static bool name_is_valid(const char *name)
{
	return strspn(name, "0123456789abcdef") == NAME_DIGITS &&
		strcmp(name + NAME_DIGITS, ".key") == 0;
}

static HRESULT file_open(const char *home, const char *name, int *fd, size_t *bytes)
{
	char path[PATH_BYTES];
	struct stat status;
	int directory;
	HRESULT result;
	const char *why = NULL;

	*fd = -1;
	if (!name_is_valid(name))
		return detail_fail(PEER_E_CERT_STORE_CORRUPTED, "the store names no key file");
	result = directory_open(home, &directory);
	if (FAILED(result))
		return result;
	keys_path(home, name, path);
	*fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &status) < 0)
		why = strerror(errno);
	else if (!S_ISREG(status.st_mode))
		why = "not a regular file";
	else if (status.st_uid != geteuid())
		why = "belongs to another user";
	else if ((status.st_mode & 07777) != 0600 && (status.st_mode & 07777) != 0400)
		why = "mode must be 0600";
	else if (status.st_size <= 0 || status.st_size > (off_t)KEY_DER_BYTES_MAX)
		why = "not a key by its size";
	close(directory);
	if (why == NULL) {
		*bytes = (size_t)status.st_size;
		return S_OK;
	}
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return no_access(path, why);
}

HRESULT key_file_check(const char *home, const char *name)
{
	size_t bytes;
	int fd;
	HRESULT result = file_open(home, name, &fd, &bytes);

	if (fd >= 0)
		close(fd);
	return result;
}

HRESULT key_file_read(const char *home, const char *name, uint8_t **key, size_t *key_bytes)
{
	HRESULT result;
	size_t bytes, done = 0;
	uint8_t *data;
	int fd;

	*key = NULL;
	*key_bytes = 0;
	result = file_open(home, name, &fd, &bytes);
	if (FAILED(result))
		return result;
	data = malloc(bytes);
	while (data != NULL && done < bytes) {
		ssize_t got = read(fd, data + done, bytes - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	close(fd);
	if (data == NULL)
		return E_OUTOFMEMORY;
	if (done < bytes) {
		OPENSSL_cleanse(data, bytes);
		free(data);
		return no_access(name, "cannot be read");
	}
	*key = data;
	*key_bytes = bytes;
	return S_OK;
}

/* ---- removing --------------------------------------------------------------------------- */

void key_file_remove(const char *home, const char *name)
{
	int directory;

	if (!name_is_valid(name) || FAILED(directory_open(home, &directory)))
		return;
	if (unlinkat(directory, name, 0) == 0)
		(void)fsync(
			directory); /* not durable: an orphan again, swept at the next opening */
	close(directory);
}

/* Only names that we ourselves give; anything else in there is not ours to touch. */
static bool name_is_ours(const char *name)
{
	return strspn(name, "0123456789abcdef") == NAME_DIGITS &&
		(strcmp(name + NAME_DIGITS, ".key") == 0 ||
			strcmp(name + NAME_DIGITS, ".tmp") == 0);
}

/* Visit files of ours until visit says stop. false: the directory cannot be read. */
static bool visit_files(const char *home, bool (*visit)(void *, int, const char *), void *context)
{
	struct dirent *entry;
	DIR *listing;
	int directory;

	if (FAILED(directory_open(home, &directory)))
		return false;
	listing = fdopendir(directory);
	if (listing == NULL) {
		close(directory);
		return false;
	}
	for (uint32_t count = 0; count < SWEEP_FILES_MAX; count++) {
		entry = readdir(listing);
		if (entry == NULL)
			break;
		if (name_is_ours(entry->d_name) && !visit(context, directory, entry->d_name))
			break;
	}
	closedir(listing);
	return true;
}

struct orphan_search {
	bool (*is_used)(void *context, const char *name);
	void *context;
	bool remove, found;
};

static bool visit_orphan(void *context, int directory, const char *name)
{
	struct orphan_search *search = context;

	if (search->is_used(search->context, name))
		return true;
	search->found = true;
	if (!search->remove)
		return false;
	(void)unlinkat(directory, name, 0); /* harmless when it stays: tried again next time */
	return true;
}

bool key_file_has_orphans(
	const char *home, bool (*is_used)(void *context, const char *name), void *context)
{
	struct orphan_search search = {.is_used = is_used, .context = context};

	return visit_files(home, visit_orphan, &search) && search.found;
}

void key_file_sweep(
	const char *home, bool (*is_used)(void *context, const char *name), void *context)
{
	struct orphan_search search = {.is_used = is_used, .context = context, .remove = true};

	(void)visit_files(home, visit_orphan, &search);
}

static bool visit_key(void *context, int directory, const char *name)
{
	(void)directory;
	*(bool *)context = strcmp(name + NAME_DIGITS, ".key") == 0;
	return !*(bool *)context;
}

HRESULT key_file_any(const char *home, bool *any)
{
	char path[PATH_BYTES];

	*any = false;
	keys_path(home, "", path);
	if (access(path, F_OK) < 0)
		return errno == ENOENT ? S_OK : store_path_failure(errno, "look at", path);
	(void)visit_files(home, visit_key, any);
	return S_OK;
}
