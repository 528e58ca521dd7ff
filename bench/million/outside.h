/* Memory and sockets as the kernel tells them: of a process, and of the machine. */
#ifndef PEERHUB_MILLION_OUTSIDE_H
#define PEERHUB_MILLION_OUTSIDE_H

#include <stdbool.h>
#include <stdint.h>

#define CACHES_MAX 512u

struct process_memory {
	uint64_t rss, anonymous; /* bytes, smaps_rollup */
	uint64_t page_tables; /* kernel memory, VmPTE */
};

struct slab_cache {
	char name[40];
	uint64_t objects; /* in use */
	uint32_t object_bytes;
};

struct machine_memory {
	uint64_t free, available, slab, page_tables, percpu; /* bytes, meminfo */
	uint64_t sockets, orphans, time_waits, tcp_pages; /* sockstat */
	uint64_t files; /* file-nr */
	struct slab_cache caches[CACHES_MAX];
	uint32_t cache_count; /* 0: slabinfo cannot be read (it is root's) */
};

/* 0 or a negative errno. */
int process_memory_read(int pid, struct process_memory *memory);
int machine_memory_read(struct machine_memory *memory);
bool sockets_read(uint64_t *sockets, uint64_t *orphans, uint64_t *time_waits, uint64_t *tcp_pages);

/* The first number of a file, `fallback` when there is none. */
uint64_t number_read(const char *path, uint64_t fallback);

#endif
