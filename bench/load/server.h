/*
 * What the server process has used, read from outside.
 *
 * CPU time comes from the process's CPU clock (clock_getcpuclockid): nanoseconds, all threads, those
 * that have ended and the kernel's io_uring workers of the process included. Its division into user
 * and system is that of /proc/PID/stat, whose ticks are too coarse to be used by themselves.
 */
#ifndef PEERHUB_LOAD_SERVER_H
#define PEERHUB_LOAD_SERVER_H

#include <stdint.h>
#include <sys/types.h>

struct server_cpu {
	uint64_t total_ns;
	uint64_t user_ticks, system_ticks;
};

struct server_memory {
	uint64_t rss_bytes, pss_bytes, anonymous_bytes;
};

/* 0 or a negative errno; pid 0 gives zeros. */
int server_cpu_read(pid_t pid, struct server_cpu *cpu);
int server_memory_read(pid_t pid, struct server_memory *memory);

#endif
