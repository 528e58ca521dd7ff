/* How long does it take to parse one complete message? */
#include "bench/subject.h"

#include <benchmark/benchmark.h>
#include <vector>

namespace
{

void parse(benchmark::State &state, const uint8_t *message, size_t bytes)
{
	int status = 0;

	if (bytes == 0) {
		state.SkipWithError("the message was not written");
		return;
	}
	for (auto _ : state) {
		benchmark::DoNotOptimize(message);
		status |= subject_wire_parse(message, bytes);
		benchmark::ClobberMemory();
	}
	if (status != 0)
		state.SkipWithError("a good message was refused");
	state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

void wire_parse_data(benchmark::State &state)
{
	std::vector<uint8_t> message(static_cast<size_t>(state.range(0)) + 64);

	parse(state, message.data(),
		subject_wire_pt2pt(
			message.data(), message.size(), static_cast<uint32_t>(state.range(0))));
}
BENCHMARK(wire_parse_data)->Arg(64)->Arg(65536);

void wire_parse_connect(benchmark::State &state)
{
	std::vector<uint8_t> message(4096);

	parse(state, message.data(), subject_wire_connect(message.data(), message.size()));
}
BENCHMARK(wire_parse_connect);

} // namespace
