/* The clock and the random source of the seam. Any thread. */
#ifndef PEERHUB_ENGINE_CLOCK_H
#define PEERHUB_ENGINE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_now_ns(void); /* monotonic, never 0 */
int64_t clock_real_s(void); /* seconds since 1970, as certificates count */
int entropy_fill(void *out, size_t bytes); /* 0, or -EIO when the kernel has none */

#endif
