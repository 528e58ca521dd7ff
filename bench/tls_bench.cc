/* What does TLS 1.3 cost without any socket: a whole mutual handshake, both ends; a message, sealed by one
 * end and opened by the other, by our record layer and by OpenSSL's, on few connections and on many? */
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
