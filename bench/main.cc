/*
 * peerhub-bench: one question per benchmark, on Google Benchmark. Its own options apply
 * (--benchmark_filter=REGEX, --benchmark_format=json, --benchmark_out=FILE). Numbers are for
 * comparing two builds on one machine; whole-process comparisons use peerhub-echo.
 */
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();
