/*
 * replay: give every file of a corpus directory to a fuzz target, once each.
 *
 * Linked in place of libFuzzer, so that gcc, ASan and TSan builds run the kept inputs too. An
 * argument is a file or a directory; the target may crash or abort, which is the failure.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX (16u << 20) /* a kept input is small: larger means a wrong file */
#define PATH_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Returns 0, or 1 when the file cannot be read. */
static int replay_file(const char *path)
{
	uint8_t *data;
	size_t bytes;
	FILE *file = fopen(path, "rb");

	if (file == NULL) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return 1;
	}
	data = malloc(INPUT_BYTES_MAX);
	if (data == NULL) {
		fclose(file);
		fprintf(stderr, "replay: no memory\n");
		return 1;
	}
	bytes = fread(data, 1, INPUT_BYTES_MAX, file);
	fclose(file);
	/* A copy of the exact size: reading one byte past it is seen by ASan. */
	uint8_t *exact = malloc(bytes > 0 ? bytes : 1);
	if (exact == NULL) {
		free(data);
		fprintf(stderr, "replay: no memory\n");
		return 1;
	}
	memcpy(exact, data, bytes);
	free(data);
	(void)LLVMFuzzerTestOneInput(exact, bytes);
	free(exact);
	return 0;
}

static int replay_directory(const char *path, unsigned *count)
{
	int failed = 0;
	struct dirent *entry;
	DIR *directory = opendir(path);

	if (directory == NULL) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return 1;
	}
	while ((entry = readdir(directory)) != NULL) {
		char name[PATH_BYTES];
		int length = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);

		if (entry->d_name[0] == '.')
			continue;
		if (length < 0 || length >= PATH_BYTES) {
			fprintf(stderr, "replay: %s: name too long\n", entry->d_name);
			failed = 1;
			continue;
		}
		failed |= replay_file(name);
		*count += 1;
	}
	closedir(directory);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;
	unsigned count = 0;

	for (int i = 1; i < argc; i++) {
		struct stat status;

		if (stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode)) {
			failed |= replay_directory(argv[i], &count);
		} else {
			failed |= replay_file(argv[i]);
			count += 1;
		}
	}
	printf("replayed %u inputs\n", count);
	return failed || count == 0;
}
