/*
 * Runs a test that needs io_uring, or skips it: with_ring PROGRAM [ARGUMENT...]
 *
 * Where the kernel or its rules refuse io_uring the reason is printed and the exit code is 77, which ctest
 * counts as skipped; else the program takes this one's place. A kernel that is too old, or without memory
 * for a ring, is no reason: the test itself says so, and fails.
 */
#include "engine/ring.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct ring_features features;
	char why[256];

	if (argc < 2) {
		fprintf(stderr, "usage: with_ring PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	if (ring_probe(&features, why) == -EPERM) {
		printf("skipped: %s\n", why);
		return 77;
	}
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 1;
}
