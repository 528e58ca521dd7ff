/* How long does it take to write one complete message, and to check and parse it? */
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

/* The 28 bytes before a payload, in place. */
void wire_write_data(benchmark::State &state)
{
	std::vector<uint8_t> message(128);

	for (auto _ : state) {
		if (subject_wire_pt2pt(message.data(), 28, 0) != 28)
			state.SkipWithError("the head was not written");
		benchmark::ClobberMemory();
	}
}
BENCHMARK(wire_write_data);

void wire_parse_control(benchmark::State &state, enum subject_message kind)
{
	std::vector<uint8_t> message(4096);

	parse(state, message.data(), subject_wire_write(kind, message.data(), message.size()));
}
void wire_write_control(benchmark::State &state, enum subject_message kind)
{
	std::vector<uint8_t> message(4096);
	size_t bytes = 1;

	for (auto _ : state) {
		bytes = subject_wire_write(kind, message.data(), message.size());
		benchmark::ClobberMemory();
	}
	if (bytes == 0)
		state.SkipWithError("the message was not written");
}
#define CONTROL(name, kind)                                \
	BENCHMARK_CAPTURE(wire_parse_control, name, kind); \
	BENCHMARK_CAPTURE(wire_write_control, name, kind)
CONTROL(auth_info, SUBJECT_AUTH_INFO);
CONTROL(connect, SUBJECT_CONNECT);
CONTROL(welcome, SUBJECT_WELCOME);
CONTROL(refuse, SUBJECT_REFUSE);
CONTROL(disconnect, SUBJECT_DISCONNECT);
CONTROL(notice, SUBJECT_NOTICE);

} // namespace
