/*
 * peerhub-bench: one question per benchmark, on Google Benchmark. Its own options apply
 * (--benchmark_filter=REGEX, --benchmark_format=json, --benchmark_out=FILE). Numbers are for
 * comparing two builds on one machine; whole-process comparisons are ci/bench's.
 *
 *	peerhub-bench --core-distance A B
 *
 * prints how many ns a cache line takes from core A to core B, and ends.
 *
 *	peerhub-bench memory [--to N]
 *
 * is peerhub-million's: bytes of idle connections by kind.
 */
#include "bench/distance.h"

#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/resource.h>
#include <unistd.h>

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

/* The program beside this one: it measures processes of its own. Returns only when it cannot. */
int run_memory(char **argv)
{
	char self[4096];
	ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
	std::string program(self, bytes > 0 ? static_cast<size_t>(bytes) : 0);

	program.resize(program.rfind('/') + 1);
	program += "peerhub-million";
	execv(program.c_str(), argv);
	std::fprintf(stderr, "peerhub-bench: cannot run %s\n", program.c_str());
	return 1;
}

} // namespace

int main(int argc, char **argv)
{
	if (argc == 4 && std::strcmp(argv[1], "--core-distance") == 0)
		return print_distance(argv[2], argv[3]);
	if (argc > 1 && std::strcmp(argv[1], "memory") == 0)
		return run_memory(argv);
	benchmark::Initialize(&argc, argv);
	if (benchmark::ReportUnrecognizedArguments(argc, argv))
		return 2;
	raise_file_limit();
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	return 0;
}
