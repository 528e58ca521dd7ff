/* What a process holds; see count.h. */
#include "tests/leak/count.h"

#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef PEERHUB_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#define LOOKS 9 /* at resident memory: their median */
#define LOOK_PAUSE_NS 20000000

static _Atomic uint64_t objects[CRYPTO_EX_INDEX__COUNT];

static void on_new(
	void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long class, void *arg)
{
	(void)parent, (void)pointer, (void)data, (void)index, (void)arg;
	atomic_fetch_add_explicit(&objects[class], 1, memory_order_relaxed);
}

static void on_free(
	void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long class, void *arg)
{
	(void)parent, (void)pointer, (void)data, (void)index, (void)arg;
	atomic_fetch_sub_explicit(&objects[class], 1, memory_order_relaxed);
}

void count_begin(void)
{
	static const int classes[] = {CRYPTO_EX_INDEX_SSL, CRYPTO_EX_INDEX_SSL_CTX,
		CRYPTO_EX_INDEX_SSL_SESSION, CRYPTO_EX_INDEX_X509, CRYPTO_EX_INDEX_EVP_PKEY,
		CRYPTO_EX_INDEX_BIO};

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (CRYPTO_get_ex_new_index(classes[i], classes[i], NULL, on_new, NULL, on_free) <
			0) {
			fprintf(stderr, "leak: no ex_data index of class %d\n", classes[i]);
			exit(1);
		}
	}
}

static uint64_t entries_of(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	uint64_t count = 0;

	if (directory == NULL)
		return 0;
	while ((entry = readdir(directory)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(directory);
	return count;
}

/* Without the kernel's own workers (iou-wrk-...), which come and go as it likes. */
static uint64_t threads_of_ours(void)
{
	DIR *directory = opendir("/proc/self/task");
	const struct dirent *entry;
	uint64_t count = 0;

	if (directory == NULL)
		return 0;
	while ((entry = readdir(directory)) != NULL) {
		char path[300], name[16] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
		if (file == NULL)
			continue;
		count += fgets(name, sizeof(name), file) != NULL && strncmp(name, "iou-", 4) != 0;
		fclose(file);
	}
	closedir(directory);
	return count;
}

static uint64_t resident_kib(void)
{
	uint64_t size = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* Pages that the allocator keeps although nothing is in them are no leak: give them back first. */
static void allocator_trim(void)
{
#ifdef PEERHUB_JEMALLOC
	char name[48];

	(void)mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	snprintf(name, sizeof(name), "arena.%u.purge", (unsigned)MALLCTL_ARENAS_ALL);
	(void)mallctl(name, NULL, NULL, NULL, 0);
#else
	(void)malloc_trim(0);
#endif
}

static uint64_t allocated_kib(void)
{
#ifdef PEERHUB_JEMALLOC
	uint64_t epoch = 1;
	size_t allocated = 0, bytes = sizeof(allocated);

	(void)mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	(void)mallctl("stats.allocated", &allocated, &bytes, NULL, 0);
	return allocated / 1024;
#else
	struct mallinfo2 info = mallinfo2();

	return (info.uordblks + info.hblkhd) / 1024;
#endif
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static uint64_t resident_median_kib(void)
{
	const struct timespec pause = {.tv_nsec = LOOK_PAUSE_NS};
	uint64_t looks[LOOKS];

	allocator_trim();
	for (int i = 0; i < LOOKS; i++) {
		nanosleep(&pause, NULL);
		looks[i] = resident_kib();
	}
	qsort(looks, LOOKS, sizeof(looks[0]), compare);
	return looks[LOOKS / 2];
}

void count_take(struct counts *counts)
{
	/* Opening the directory is itself one descriptor, the same in every count. */
	*counts = (struct counts){
		.descriptors = entries_of("/proc/self/fd"),
		.threads = threads_of_ours(),
		.ssl = atomic_load(&objects[CRYPTO_EX_INDEX_SSL]),
		.ssl_contexts = atomic_load(&objects[CRYPTO_EX_INDEX_SSL_CTX]),
		.sessions = atomic_load(&objects[CRYPTO_EX_INDEX_SSL_SESSION]),
		.certificates = atomic_load(&objects[CRYPTO_EX_INDEX_X509]),
		.keys = atomic_load(&objects[CRYPTO_EX_INDEX_EVP_PKEY]),
		.bios = atomic_load(&objects[CRYPTO_EX_INDEX_BIO]),
	};
	counts->resident_kib = resident_median_kib();
	counts->allocated_kib = allocated_kib();
}

bool count_is_back(const struct counts *before, const struct counts *now)
{
	bool is_back = true;

#define COUNTS_COMPARE(field, text)                                                      \
	if (now->field != before->field) {                                               \
		fprintf(stderr, "leak: %s: %" PRIu64 " before, %" PRIu64 " now\n", text, \
			before->field, now->field);                                      \
		is_back = false;                                                         \
	}
	COUNTS(COUNTS_COMPARE)
#undef COUNTS_COMPARE
	return is_back;
}

int64_t count_growth_permille(const struct counts *before, const struct counts *now)
{
	if (before->resident_kib == 0)
		return 0;
	return ((int64_t)now->resident_kib - (int64_t)before->resident_kib) * 1000 /
		(int64_t)before->resident_kib;
}

uint64_t count_cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t count_now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
