/*
 * What does a record cost, sealed alone and sealed and opened, by our record layer and by OpenSSL's
 * (SSL_write, SSL_read over a pair of memory buffers), in both suites? One connection, keys warm.
 */
#include "bench/subject.h"

#include <benchmark/benchmark.h>

namespace
{

template <int (*act)(struct subject_records *, size_t)> void record_act(benchmark::State &state)
{
	struct subject_records *records = subject_records_create(
		static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
	const auto bytes = static_cast<size_t>(state.range(2));
	int status = 0;

	if (records == nullptr) {
		state.SkipWithError("the records would not start");
		return;
	}
	for (auto _ : state)
		status |= act(records, bytes);
	if (status != 0)
		state.SkipWithError("a record was lost");
	state.SetBytesProcessed(state.iterations() * state.range(2));
	subject_records_destroy(records);
}
BENCHMARK_TEMPLATE(record_act, subject_records_pass)
	->Name("record_seal_open")
	->ArgNames({"chacha", "openssl", "bytes"})
	->ArgsProduct({{0, 1}, {0, 1}, {64, 1024, 16384}});
/* Ours alone: SSL_write cannot be asked without the room that its reader makes. */
BENCHMARK_TEMPLATE(record_act, subject_records_seal)
	->Name("record_seal")
	->ArgNames({"chacha", "openssl", "bytes"})
	->ArgsProduct({{0, 1}, {0}, {64, 1024, 16384}});

} // namespace
