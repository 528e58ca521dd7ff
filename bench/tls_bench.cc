/* What does TLS 1.3 cost without any socket: a whole mutual handshake, both ends; a message, sealed by one
 * end and opened by the other, by our record layer and by OpenSSL's, on few connections and on many? */
#include "bench/subject.h"
#include "bench/subject_sides.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace
{

void tls_handshake(benchmark::State &state)
{
	struct subject_tls *tls = subject_tls_create(static_cast<uint32_t>(state.range(0)));

	if (tls == nullptr) {
		state.SkipWithError("TLS would not start");
		return;
	}
	for (auto _ : state) {
		if (subject_tls_handshake(tls) != 0) {
			state.SkipWithError("a handshake failed");
			break;
		}
	}
	subject_tls_destroy(tls);
}
BENCHMARK(tls_handshake)
	->ArgName("flags")
	->Arg(0)
	->Arg(PH_HUB_TLS_FAST_DECODE)
	->Unit(benchmark::kMicrosecond);

/*
 * Each side of a handshake, all ways in turn in each iteration, so that they meet the same machine; medians in
 * us, and how they stand to plain OpenSSL. The decoding short cut serves the whole process once it is on, plain
 * OpenSSL too: run each by itself (--benchmark_filter=tls_sides/0, then /2).
 */
void tls_sides(benchmark::State &state)
{
	static const std::array<const char *, SUBJECT_WAYS> names = {
		"plain", "full", "known", "resumed"};
	std::array<std::vector<double>, 2 * SUBJECT_WAYS> times;
	struct subject_sides *sides = subject_sides_create(static_cast<uint32_t>(state.range(0)));

	if (sides == nullptr) {
		state.SkipWithError("TLS would not start");
		return;
	}
	for (auto _ : state) {
		for (size_t way = 0; way < SUBJECT_WAYS; way++) {
			uint64_t accept_ns = 0, dial_ns = 0;

			if (subject_sides_run(sides, static_cast<enum subject_way>(way), &accept_ns,
				    &dial_ns) != 0) {
				state.SkipWithError("a handshake failed");
				break;
			}
			times[2 * way].push_back(static_cast<double>(accept_ns) / 1000);
			times[2 * way + 1].push_back(static_cast<double>(dial_ns) / 1000);
		}
	}
	for (size_t index = 0; index < times.size() && !times[index].empty(); index++) {
		const std::string name =
			std::string(names[index / 2]) + (index % 2 == 0 ? "_accept" : "_dial");
		auto middle =
			times[index].begin() + static_cast<std::ptrdiff_t>(times[index].size() / 2);

		std::nth_element(times[index].begin(), middle, times[index].end());
		state.counters[name + "_us"] = *middle;
		if (index >= 2)
			state.counters[name + "_ratio"] = *middle /
				state.counters[index % 2 == 0 ? "plain_accept_us"
							      : "plain_dial_us"];
	}
	subject_sides_destroy(sides);
}
BENCHMARK(tls_sides)
	->ArgName("flags")
	->Arg(0)
	->Arg(PH_HUB_TLS_FAST_DECODE)
	->Iterations(400)
	->Unit(benchmark::kMicrosecond);

void tls_message(benchmark::State &state)
{
	struct subject_tls *tls =
		subject_tls_create(PH_HUB_TLS_FAST_DECODE | static_cast<uint32_t>(state.range(0)));
	const auto bytes = static_cast<size_t>(state.range(1));
	const auto count = static_cast<uint32_t>(state.range(2));
	uint32_t connection = 0;

	if (tls == nullptr || subject_tls_connect(tls, count) != 0) {
		state.SkipWithError("TLS would not start");
		return;
	}
	for (auto _ : state) {
		if (subject_tls_message(tls, connection, bytes) != 0) {
			state.SkipWithError("a message was lost");
			break;
		}
		connection = connection + 1 < count ? connection + 1 : 0;
	}
	state.SetBytesProcessed(state.iterations() * state.range(1));
	subject_tls_destroy(tls);
}
BENCHMARK(tls_message)
	->ArgNames({"openssl", "bytes", "connections"})
	->ArgsProduct({{PH_HUB_TLS_OPENSSL, 0}, {64, 1024, 16384}, {1, 64, 1000}});

} // namespace
