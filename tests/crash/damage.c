/* Damage to copies of a store; see damage.h. */
#include "tests/crash/damage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 512u
#define FILE_BYTES_MAX (16u << 20)
#define SECTOR_BYTES 512u
#define KEYS_MAX 256u

struct bytes {
	uint8_t *data;
	size_t count;
};

static const char *damage_name(enum damage damage)
{
	static const char *const names[] = {
#define DAMAGE_NAME(name, text) text,
		DAMAGES(DAMAGE_NAME)
#undef DAMAGE_NAME
	};

	return names[damage];
}

/* ---- files --------------------------------------------------------------------------------- */

static bool bytes_read(const char *path, struct bytes *bytes)
{
	FILE *file = fopen(path, "rb");

	*bytes = (struct bytes){.data = malloc(FILE_BYTES_MAX)};
	if (file == NULL || bytes->data == NULL) {
		if (file != NULL)
			fclose(file);
		return false;
	}
	bytes->count = fread(bytes->data, 1, FILE_BYTES_MAX, file);
	fclose(file);
	return bytes->count < FILE_BYTES_MAX;
}

static bool bytes_write(const char *path, const struct bytes *bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *file = fd >= 0 ? fdopen(fd, "wb") : NULL;
	bool good;

	if (file == NULL)
		return false;
	good = fwrite(bytes->data, 1, bytes->count, file) == bytes->count;
	return fclose(file) == 0 && good;
}

static bool bytes_same(const char *path, const struct bytes *bytes)
{
	struct bytes now;
	bool same = bytes_read(path, &now) && now.count == bytes->count &&
		memcmp(now.data, bytes->data, now.count) == 0;

	free(now.data);
	return same;
}

static bool file_copy(const char *from, const char *to)
{
	struct bytes bytes;
	bool good = bytes_read(from, &bytes) && bytes_write(to, &bytes);

	free(bytes.data);
	return good;
}

static bool keys_copy(const char *from, const char *to)
{
	DIR *listing = opendir(from);
	const struct dirent *entry;
	bool good = listing != NULL && mkdir(to, 0700) == 0;

	while (good && (entry = readdir(listing)) != NULL) {
		char source[2 * PATH_BYTES], target[2 * PATH_BYTES];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(source, sizeof(source), "%s/%s", from, entry->d_name);
		snprintf(target, sizeof(target), "%s/%s", to, entry->d_name);
		good = file_copy(source, target);
	}
	if (listing != NULL)
		closedir(listing);
	return good;
}

/* Closed in order there is no log, so the store is one file and its keys. */
static bool store_copy(const char *home, const char *copy)
{
	char from[PATH_BYTES], to[PATH_BYTES];
	bool good = mkdir(copy, 0700) == 0;

	snprintf(from, sizeof(from), "%s/store.db", home);
	snprintf(to, sizeof(to), "%s/store.db", copy);
	good = good && file_copy(from, to);
	snprintf(from, sizeof(from), "%s/keys", home);
	snprintf(to, sizeof(to), "%s/keys", copy);
	return good && keys_copy(from, to);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

/* Any of the keys; "" when there is none. */
static void key_choose(const char *home, struct random *random, char path[PATH_BYTES])
{
	static char names[KEYS_MAX][64];
	char keys[PATH_BYTES - 80];
	const struct dirent *entry;
	uint32_t count = 0;
	DIR *listing;

	path[0] = '\0';
	if (snprintf(keys, sizeof(keys), "%s/keys", home) >= (int)sizeof(keys))
		return;
	listing = opendir(keys);
	if (listing == NULL)
		return;
	while ((entry = readdir(listing)) != NULL && count < KEYS_MAX)
		if (entry->d_name[0] != '.' && strlen(entry->d_name) < sizeof(names[0]))
			strcpy(names[count++], entry->d_name);
	closedir(listing);
	if (count > 0)
		snprintf(path, PATH_BYTES, "%s/%s", keys, names[random_below(random, count)]);
}

/* ---- damage -------------------------------------------------------------------------------- */

static size_t page_bytes(const struct bytes *bytes)
{
	size_t page = bytes->count > 18 ? (size_t)bytes->data[16] << 8 | bytes->data[17] : 4096;

	return page >= SECTOR_BYTES ? page : 4096;
}

static void zero(struct bytes *bytes, size_t unit, struct random *random)
{
	size_t at = random_below(random, (uint32_t)(bytes->count / unit)) * unit;

	memset(bytes->data + at, 0, unit);
}

static void flip(struct bytes *bytes, struct random *random, char where[64])
{
	size_t at = random_below(random, (uint32_t)bytes->count);
	uint32_t bit = random_below(random, 8);

	bytes->data[at] ^= (uint8_t)(1u << bit);
	snprintf(where, 64, "byte %zu bit %u", at, bit);
}

static void damage_bytes(
	enum damage damage, struct bytes *bytes, struct random *random, char where[64])
{
	static const char foreign[] = "# a text of somebody else, and longer than a header\n";

	switch (damage) {
	case DAMAGE_FLIP:
	case DAMAGE_KEY_FLIP:
		flip(bytes, random, where);
		break;
	case DAMAGE_ZERO_SECTOR:
		zero(bytes, SECTOR_BYTES, random);
		break;
	case DAMAGE_ZERO_PAGE:
		zero(bytes, page_bytes(bytes), random);
		break;
	case DAMAGE_TRUNCATE:
	case DAMAGE_KEY_TRUNCATE:
		bytes->count = random_below(random, (uint32_t)bytes->count);
		break;
	case DAMAGE_FOREIGN:
		memcpy(bytes->data, foreign, sizeof(foreign));
		bytes->count = sizeof(foreign);
		break;
	default:
		bytes->count = 0;
		break;
	}
}

static bool is_of_key(enum damage damage)
{
	return damage >= DAMAGE_KEY_FLIP;
}

/* Spoil one file of the copy; `bytes` is then what it holds. */
static bool damage_make(enum damage damage, const char *copy, struct random *random,
	char path[PATH_BYTES], struct bytes *bytes, char where[64])
{
	where[0] = '\0';
	if (is_of_key(damage))
		key_choose(copy, random, path);
	else
		snprintf(path, PATH_BYTES, "%s/store.db", copy);
	if (path[0] == '\0' || !bytes_read(path, bytes) || bytes->count == 0)
		return false;
	damage_bytes(damage, bytes, random, where);
	if (damage == DAMAGE_KEY_GONE)
		return unlink(path) == 0;
	return bytes_write(path, bytes);
}

/* ---- judging ------------------------------------------------------------------------------- */

static bool damage_judge(enum damage damage, int status, const char *path,
	const struct bytes *bytes, const struct model *should, const struct model *found,
	struct damage_tally *tally)
{
	tally->done++;
	if (status == 3) {
		tally->refused++;
		if (damage != DAMAGE_KEY_GONE && !bytes_same(path, bytes)) {
			fprintf(stderr, "crash: refused, and changed: %s\n", path);
			return false;
		}
		return true;
	}
	if (status == 4) {
		tally->unnoticed++;
		return true;
	}
	if (status != 0)
		return false;
	if (model_compare_but_group_texts(should, found)) {
		tally->unharmed += model_same(should, found);
		tally->unnoticed += !model_same(should, found);
		return true;
	}
	return model_compare(should, found, NULL, 0);
}

static bool damage_one(const char *home, const struct model *should, enum damage damage,
	struct random *random, damage_open open, void *context, struct damage_tally *tally)
{
	static struct model found;
	char copy[PATH_BYTES - 64], path[PATH_BYTES], where[64];
	struct bytes bytes = {0};
	int status = -1;
	bool good;

	snprintf(copy, sizeof(copy), "%s.damaged", home);
	(void)nftw(copy, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	good = store_copy(home, copy) && damage_make(damage, copy, random, path, &bytes, where);
	if (good) {
		status = open(context, copy, &found);
		good = damage_judge(damage, status, path, &bytes, should, &found, tally);
	}
	free(bytes.data);
	if (good)
		(void)nftw(copy, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	else
		fprintf(stderr, "crash: %s (%s): answer %d; the copy is %s\n", damage_name(damage),
			where, status, copy);
	return good;
}

bool damages_run(const char *home, const struct model *should, uint32_t count,
	struct random *random, damage_open open, void *context)
{
	struct damage_tally tallies[DAMAGE_COUNT] = {0};
	bool good = true;

	for (uint32_t i = 0; i < count && good; i++) {
		enum damage damage = (enum damage)(i % DAMAGE_COUNT);

		/* Half of all are bits of the store: they have the most places to be. */
		if (i % 2 == 1)
			damage = DAMAGE_FLIP;
		good = damage_one(home, should, damage, random, open, context, &tallies[damage]);
	}
	for (int damage = 0; damage < DAMAGE_COUNT; damage++)
		printf("store_crash: %s: %u, %u refused, %u unharmed, %u unnoticed\n",
			damage_name((enum damage)damage), tallies[damage].done,
			tallies[damage].refused, tallies[damage].unharmed,
			tallies[damage].unnoticed);
	return good;
}
