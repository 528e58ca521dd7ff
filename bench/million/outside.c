/* /proc, read; see outside.h. Lines that are not there leave their field 0. */
#include "bench/million/outside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 512

/* "Name:   123 kB" */
static bool line_is(const char *line, const char *name, uint64_t *bytes)
{
	size_t length = strlen(name);
	uint64_t value;

	if (strncmp(line, name, length) != 0 || line[length] != ':' ||
		sscanf(line + length + 1, "%" SCNu64, &value) != 1)
		return false;
	*bytes = value * 1024;
	return true;
}

int process_memory_read(int pid, struct process_memory *memory)
{
	char path[64], line[LINE_BYTES];
	FILE *file;

	memset(memory, 0, sizeof(*memory));
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	while (fgets(line, sizeof(line), file) != NULL)
		if (!line_is(line, "Rss", &memory->rss))
			(void)line_is(line, "Anonymous", &memory->anonymous);
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	while (fgets(line, sizeof(line), file) != NULL)
		(void)line_is(line, "VmPTE", &memory->page_tables);
	fclose(file);
	return memory->rss > 0 ? 0 : -EIO;
}

static void slabs_read(struct machine_memory *memory)
{
	FILE *file = fopen("/proc/slabinfo", "re");
	char line[LINE_BYTES];

	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL && memory->cache_count < CACHES_MAX) {
		struct slab_cache *cache = &memory->caches[memory->cache_count];

		if (line[0] != '#' &&
			sscanf(line, "%39s %" SCNu64 " %*u %u", cache->name, &cache->objects,
				&cache->object_bytes) == 3)
			memory->cache_count++;
	}
	fclose(file);
}

bool sockets_read(uint64_t *sockets, uint64_t *orphans, uint64_t *time_waits, uint64_t *tcp_pages)
{
	FILE *file = fopen("/proc/net/sockstat", "re");
	char line[LINE_BYTES];
	bool found = false;

	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = sscanf(line,
				"TCP: inuse %" SCNu64 " orphan %" SCNu64 " tw %" SCNu64
				" alloc %*u mem %" SCNu64,
				sockets, orphans, time_waits, tcp_pages) == 4;
	fclose(file);
	return found;
}

int machine_memory_read(struct machine_memory *memory)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[LINE_BYTES];

	memset(memory, 0, sizeof(*memory));
	if (file == NULL)
		return -errno;
	while (fgets(line, sizeof(line), file) != NULL) {
		(void)line_is(line, "MemFree", &memory->free);
		(void)line_is(line, "MemAvailable", &memory->available);
		(void)line_is(line, "Slab", &memory->slab);
		(void)line_is(line, "PageTables", &memory->page_tables);
		(void)line_is(line, "Percpu", &memory->percpu);
	}
	fclose(file);
	(void)sockets_read(
		&memory->sockets, &memory->orphans, &memory->time_waits, &memory->tcp_pages);
	memory->files = number_read("/proc/sys/fs/file-nr", 0);
	slabs_read(memory);
	return 0;
}

uint64_t number_read(const char *path, uint64_t fallback)
{
	FILE *file = fopen(path, "re");
	uint64_t value;

	if (file == NULL)
		return fallback;
	if (fscanf(file, "%" SCNu64, &value) != 1)
		value = fallback;
	fclose(file);
	return value;
}
