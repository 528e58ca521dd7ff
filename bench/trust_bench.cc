/* What does it cost to judge a member's chain: with nothing remembered, and with the shared links'
 * signatures remembered? The certificates are parsed already. */
#include "bench/subject.h"

#include <benchmark/benchmark.h>

namespace
{

void chain_verify(benchmark::State &state)
{
	struct subject_chain *chain = subject_chain_create(
		static_cast<uint32_t>(state.range(0)), static_cast<int>(state.range(1)));
	int status = 0;

	if (chain == nullptr) {
		state.SkipWithError("no chain");
		return;
	}
	for (auto _ : state)
		status |= subject_chain_verify(chain);
	if (status != 0)
		state.SkipWithError("a good chain was refused");
	subject_chain_destroy(chain);
}
BENCHMARK(chain_verify)
	->ArgNames({"issuers", "cached"})
	->ArgsProduct({{0, 2}, {0, 1}})
	->Unit(benchmark::kMicrosecond);

} // namespace
