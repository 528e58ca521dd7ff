/* How far two cores are apart: what it takes to pass a cache line from one to the other. */
#ifndef PEERHUB_BENCH_DISTANCE_H
#define PEERHUB_BENCH_DISTANCE_H

#ifdef __cplusplus
extern "C" {
#endif

/* ns one way, the best of several tries; negative when a core cannot be had. */
double distance_measure(int core_here, int core_there);
/* Let the calling thread, and those that it starts from now on, run on this core only. 0 or -1. */
int distance_pin(int core);
/* The first two cores that this process may run on; both the same when there is only one. */
void distance_cores(int cores[2]);

#ifdef __cplusplus
}
#endif
#endif
