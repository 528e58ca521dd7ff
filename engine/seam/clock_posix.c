/* The clock and the random source of the seam on a real machine: clock_gettime(2), getrandom(2). */
#include "engine/clock.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

uint64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t clock_real_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec;
}

int entropy_fill(void *out, size_t bytes)
{
	uint8_t *at = out;

	while (bytes > 0) {
		ssize_t got = getrandom(at, bytes, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EIO;
		at += got;
		bytes -= (size_t)got;
	}
	return 0;
}
