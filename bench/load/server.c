/* What the server process has used; see server.h. */
#include "bench/load/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The 14th and 15th field; the second one, the name, may hold spaces and parentheses. */
static int stat_read(pid_t pid, struct server_cpu *cpu)
{
	char path[64], text[1024];
	const char *name_end;
	FILE *file;
	size_t bytes;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	bytes = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[bytes] = '\0';
	name_end = strrchr(text, ')');
	if (name_end == NULL ||
		sscanf(name_end + 1,
			" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
			&cpu->user_ticks, &cpu->system_ticks) != 2)
		return -EIO;
	return 0;
}

int server_cpu_read(pid_t pid, struct server_cpu *cpu)
{
	struct timespec now;
	clockid_t clock;
	int status;

	*cpu = (struct server_cpu){0};
	if (pid == 0)
		return 0;
	status = clock_getcpuclockid(pid, &clock);
	if (status != 0)
		return -status;
	if (clock_gettime(clock, &now) < 0)
		return -errno;
	cpu->total_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	return stat_read(pid, cpu);
}

int server_memory_read(pid_t pid, struct server_memory *memory)
{
	char path[64], line[256];
	FILE *file;
	uint64_t kib;
	int found = 0;

	*memory = (struct server_memory){0};
	if (pid == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "Rss: %" SCNu64, &kib) == 1) {
			memory->rss_bytes = kib * 1024;
			found = 1;
		} else if (sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
			memory->pss_bytes = kib * 1024;
		} else if (sscanf(line, "Anonymous: %" SCNu64, &kib) == 1) {
			memory->anonymous_bytes = kib * 1024;
		}
	}
	fclose(file);
	return found ? 0 : -EIO;
}
