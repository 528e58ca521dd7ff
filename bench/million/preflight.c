/*
 * The preflight; see preflight.h. The needs are those of docs/scale.md: for each connection two sockets,
 * two files, a port of a source address, and the bytes below.
 */
#include "bench/million/preflight.h"

#include "bench/million/outside.h"

#include <inttypes.h>
#include <sys/resource.h>
#include <unistd.h>

/* Measured, rounded up (docs/scale.md): a socket's kernel memory with its armed receive, and user memory. */
#define KERNEL_BYTES_SOCKET 5200u
#define USER_BYTES_CONNECTION 1200u
#define SHARD_BYTES (6u << 20) /* rings, buffers, TLS contexts, allocator */
#define SHARD_LOCKED_BYTES (320u << 10) /* counted against RLIMIT_MEMLOCK */
#define TCP_PAGES_THOUSAND 40u /* pages of socket buffers for 1,000 connections while they open */
#define FILES_SPARE 4096u

struct need {
	const char *name;
	uint64_t have, need, fits; /* fits: connections */
	const char *remedy;
};

static bool need_print(const struct need *need, FILE *out)
{
	bool is_met = need->have >= need->need;

	fprintf(out, "  %-26s %14" PRIu64 " %14" PRIu64 "   %s%s\n", need->name, need->have,
		need->need, is_met ? "ok" : "TOO SMALL: ", is_met ? "" : need->remedy);
	return is_met;
}

static uint64_t limit_of(int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return 0;
	return limit.rlim_max == RLIM_INFINITY ? UINT64_MAX / 4 : limit.rlim_max;
}

/* The second and third number of a file with three, or of one with two the second. */
static uint64_t ports_of_range(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	uint64_t low = 0, high = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%" SCNu64 " %" SCNu64, &low, &high) != 2)
		high = low;
	fclose(file);
	return high > low ? high - low + 1 : 0;
}

static uint64_t tcp_pages_high(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_mem", "re");
	uint64_t high = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%*u %*u %" SCNu64, &high) != 1)
		high = 0;
	fclose(file);
	return high;
}

bool preflight(const struct plan *plan, FILE *out)
{
	static struct machine_memory memory; /* large; one thread */
	uint64_t n = plan->connections;
	uint64_t shards = plan->hub_shards + (uint64_t)plan->peers * plan->peer_shards;
	uint64_t each = 2u * KERNEL_BYTES_SOCKET + 2u * USER_BYTES_CONNECTION;
	uint64_t fixed = shards * SHARD_BYTES + (64u << 20), fits = UINT64_MAX, file_max, available;
	uint32_t slots = plan_slots(plan, plan->hub_shards, n);
	bool is_met = true;

	if (machine_memory_read(&memory) < 0)
		return false;
	file_max = number_read("/proc/sys/fs/file-max", 0);
	available = memory.available > fixed ? memory.available - fixed : 0;
	const struct need needs[] = {
		{"RLIMIT_NOFILE, each ring", limit_of(RLIMIT_NOFILE), slots + 32u,
			(limit_of(RLIMIT_NOFILE) - 32u) * PH_SHARDS_MAX * 4 / 5, "ulimit -n"},
		{"fs.file-max", file_max, memory.files + 2 * n + FILES_SPARE,
			(file_max - memory.files - FILES_SPARE) / 2, "sysctl fs.file-max"},
		{"ports, half of a source's", ports_of_range() / 2,
			n < PLAN_SOURCE_CONNECTIONS ? n : PLAN_SOURCE_CONNECTIONS,
			ports_of_range() / 2 * PLAN_SOURCES_MAX,
			"sysctl net.ipv4.ip_local_port_range"},
		{"memory available, MiB", memory.available >> 20, (n * each + fixed) >> 20,
			available / each, "a larger machine"},
		{"tcp_mem, pages", tcp_pages_high(),
			memory.tcp_pages + n * TCP_PAGES_THOUSAND / 1000,
			tcp_pages_high() * 1000 / TCP_PAGES_THOUSAND, "sysctl net.ipv4.tcp_mem"},
		{"tcp_max_orphans", number_read("/proc/sys/net/ipv4/tcp_max_orphans", 0),
			2u * plan->close_window, UINT64_MAX,
			"sysctl net.ipv4.tcp_max_orphans, or a smaller --close-window"},
		{"RLIMIT_MEMLOCK, KiB",
			geteuid() == 0 ? UINT64_MAX / 4096 : limit_of(RLIMIT_MEMLOCK) >> 10,
			shards * (SHARD_LOCKED_BYTES >> 10), UINT64_MAX,
			"ulimit -l, or run as root (CAP_IPC_LOCK)"},
	};

	fprintf(out, "  %-26s %14s %14s\n", "limit", "has", "needs");
	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		is_met = need_print(&needs[i], out) && is_met;
		if (needs[i].fits < fits)
			fits = needs[i].fits;
	}
	fprintf(out, "  this machine fits about %" PRIu64 " connections, both ends\n", fits);
	return is_met;
}
