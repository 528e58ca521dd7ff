/*
 * peerhub-bench: one question per benchmark, on Google Benchmark. Its own options apply
 * (--benchmark_filter=REGEX, --benchmark_format=json, --benchmark_out=FILE). Numbers are for
 * comparing two builds on one machine; whole-process comparisons are ci/bench's.
 *
 *	peerhub-bench --core-distance A B
 *
 * prints how many ns a cache line takes from core A to core B, and ends.
 */
#include "bench/distance.h"

#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/resource.h>

namespace
{

int print_distance(const char *here, const char *there)
{
	double ns = distance_measure(std::atoi(here), std::atoi(there));

	if (ns < 0) {
		std::fprintf(
			stderr, "peerhub-bench: no two cores %s and %s to run on\n", here, there);
		return 1;
	}
	std::printf("%.1f\n", ns);
	return 0;
}

/* Direct descriptors count against the soft limit of open files when a hub starts. */
void raise_file_limit()
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

} // namespace

int main(int argc, char **argv)
{
	if (argc == 4 && std::strcmp(argv[1], "--core-distance") == 0)
		return print_distance(argv[2], argv[3]);
	benchmark::Initialize(&argc, argv);
	if (benchmark::ReportUnrecognizedArguments(argc, argv))
		return 2;
	raise_file_limit();
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	return 0;
}
