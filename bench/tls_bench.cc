/* What does a whole mutual TLS 1.3 handshake cost, both ends, without any socket? */
#include "bench/subject.h"

#include <benchmark/benchmark.h>

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

} // namespace
