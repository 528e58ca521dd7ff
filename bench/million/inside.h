/*
 * Where a process's user memory is, seen from inside: how much of each of the engine's tables is
 * resident, and what the allocator has given out by size class.
 *
 * The engine asks the seam for its tables (memory_map); the linker brings those calls here first,
 * and their sizes tell which table each is.
 */
#ifndef PEERHUB_MILLION_INSIDE_H
#define PEERHUB_MILLION_INSIDE_H

#include "bench/million/board.h"

/* slots: connections_per_shard of this process's hub. records: the program's own book. */
void inside_sample(
	struct sample_inside *sample, uint32_t slots, const void *records, size_t record_bytes);

#endif
