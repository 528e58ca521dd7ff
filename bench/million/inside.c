/* User memory by kind; see inside.h. */
#include "bench/million/inside.h"

#include "engine/conn.h"
#include "engine/memory.h"
#include "engine/slot.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef PEERHUB_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

/* ---- the engine's tables ----------------------------------------------------------------- */

/* A hub of 64 shards has some 700; those of a hub that ended are forgotten. */
#define MAPS_MAX 4096u

static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map {
	void *pages;
	size_t bytes;
} maps[MAPS_MAX];
static uint32_t maps_count;

void *__real_memory_map(size_t bytes);
void *__wrap_memory_map(size_t bytes);
void __real_memory_unmap(void *pages, size_t bytes);
void __wrap_memory_unmap(void *pages, size_t bytes);

void *__wrap_memory_map(size_t bytes)
{
	void *pages = __real_memory_map(bytes);

	pthread_mutex_lock(&maps_lock);
	if (pages != NULL && maps_count < MAPS_MAX)
		maps[maps_count++] = (struct map){pages, bytes};
	pthread_mutex_unlock(&maps_lock);
	return pages;
}

void __wrap_memory_unmap(void *pages, size_t bytes)
{
	pthread_mutex_lock(&maps_lock);
	for (uint32_t i = 0; i < maps_count; i++) {
		if (maps[i].pages == pages) {
			maps[i] = maps[--maps_count];
			break;
		}
	}
	pthread_mutex_unlock(&maps_lock);
	__real_memory_unmap(pages, bytes);
}

/*
 * Bytes of pages that are ours alone, by the flags of proc(5)'s pagemap: present and exclusively mapped.
 * (mincore would count the zero page behind what was only read.)
 */
static uint64_t resident(int pagemap, const void *pages, size_t bytes)
{
	static const uint64_t ours = 1ull << 63 | 1ull << 56;
	static uint64_t marks[8192]; /* one thread samples */
	size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (bytes + page - 1) / page, at = 0;
	uint64_t first = (uintptr_t)pages / page, sum = 0;

	while (at < count) {
		size_t want = count - at < 8192 ? count - at : 8192;
		ssize_t got = pread(pagemap, marks, want * 8, (off_t)((first + at) * 8));

		if (got < 8)
			return sum;
		for (size_t i = 0; i < (size_t)got / 8; i++)
			sum += (marks[i] & ours) == ours ? page : 0;
		at += (size_t)got / 8;
	}
	return sum;
}

static void kind_add(struct sample_inside *sample, const char *name, uint64_t bytes)
{
	for (uint32_t i = 0; i < sample->kind_count; i++) {
		if (strcmp(sample->kinds[i].name, name) == 0) {
			sample->kinds[i].bytes += bytes;
			return;
		}
	}
	if (sample->kind_count == KINDS_MAX)
		return;
	snprintf(sample->kinds[sample->kind_count].name, sizeof(sample->kinds[0].name), "%s", name);
	sample->kinds[sample->kind_count++].bytes = bytes;
}

/* Tables have an entry for each slot: the entry's size says which it is. */
static const char *table_name(size_t bytes, uint32_t slots)
{
	static const struct {
		size_t entry;
		const char *name;
	} tables[] = {
		{sizeof(struct slot), "slots"},
		{sizeof(struct conn), "connections"},
		{sizeof(struct conn_cold), "reasons of closes"},
		{32, "hash pairs"},
		{16, "hash links"},
		{4, "queues"},
	};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (bytes == tables[i].entry * slots)
			return tables[i].name;
	return "other tables and buffers";
}

static void sample_maps(struct sample_inside *sample, uint32_t slots, int pagemap)
{
	pthread_mutex_lock(&maps_lock);
	for (uint32_t i = 0; i < maps_count; i++)
		kind_add(sample, table_name(maps[i].bytes, slots),
			resident(pagemap, maps[i].pages, maps[i].bytes));
	pthread_mutex_unlock(&maps_lock);
}

/* ---- the allocator ----------------------------------------------------------------------- */

#ifdef PEERHUB_JEMALLOC
static size_t heap_size(const char *name)
{
	size_t value = 0, bytes = sizeof(value);

	return mallctl(name, &value, &bytes, NULL, 0) == 0 ? value : 0;
}

static void sample_heap(struct sample_inside *sample)
{
	uint64_t epoch = 1;
	unsigned bins = 0;
	size_t bytes = sizeof(epoch);
	char name[80];

	(void)mallctl("epoch", &epoch, &bytes, &epoch, sizeof(epoch));
	sample->heap_allocated = heap_size("stats.allocated");
	sample->heap_resident = heap_size("stats.resident");
	bytes = sizeof(bins);
	if (mallctl("arenas.nbins", &bins, &bytes, NULL, 0) != 0)
		return;
	for (unsigned bin = 0; bin < bins && sample->class_count < CLASSES_MAX; bin++) {
		struct size_class *class = &sample->classes[sample->class_count++];

		snprintf(name, sizeof(name), "arenas.bin.%u.size", bin);
		class->bytes = (uint32_t)heap_size(name);
		snprintf(name, sizeof(name), "stats.arenas.%u.bins.%u.curregs", MALLCTL_ARENAS_ALL,
			bin);
		class->count = heap_size(name);
	}
}
#else
static void sample_heap(struct sample_inside *sample)
{
	(void)sample;
}
#endif

void inside_sample(
	struct sample_inside *sample, uint32_t slots, const void *records, size_t record_bytes)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	memset(sample, 0, sizeof(*sample));
	sample_heap(sample);
	if (pagemap < 0)
		return;
	sample_maps(sample, slots, pagemap);
	kind_add(sample, "this program's book", resident(pagemap, records, record_bytes));
	close(pagemap);
}
