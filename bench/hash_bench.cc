/* How long does it take to find an identity's connections? */
#include "bench/subject.h"

#include <benchmark/benchmark.h>

namespace
{

/* A walk through the table that no prefetcher follows. */
uint32_t next_of(uint32_t number, uint32_t count)
{
	return (number * 1664525u + 1013904223u) % count;
}

template <uint32_t (*find)(const struct subject_hash *, uint32_t), bool kHit>
void hash_find(benchmark::State &state)
{
	uint32_t count = static_cast<uint32_t>(state.range(0));
	struct subject_hash *hash = subject_hash_create(count);
	uint32_t number = 0, wrong = 0;

	if (hash == nullptr) {
		state.SkipWithError("no memory");
		return;
	}
	for (auto _ : state) {
		number = next_of(number, count);
		wrong += find(hash, number + (kHit ? 0 : count)) != (kHit ? 1 : 0);
	}
	if (wrong != 0)
		state.SkipWithError("a lookup found the wrong thing");
	subject_hash_destroy(hash);
}
BENCHMARK_TEMPLATE(hash_find, subject_hash_find, true)->Name("hash_hit")->Arg(1000)->Arg(16000);
BENCHMARK_TEMPLATE(hash_find, subject_hash_find, false)->Name("hash_miss")->Arg(1000)->Arg(16000);
BENCHMARK_TEMPLATE(hash_find, subject_hash_find_names, true)
	->Name("hash_hit_from_names")
	->Arg(16000);

void hash_insert_remove(benchmark::State &state)
{
	uint32_t count = static_cast<uint32_t>(state.range(0)), number = 0;
	struct subject_hash *hash = subject_hash_create(count);
	int status = 0;

	if (hash == nullptr) {
		state.SkipWithError("no memory");
		return;
	}
	for (auto _ : state) {
		number = next_of(number, count);
		status |= subject_hash_insert_remove(hash, number);
	}
	if (status != 0)
		state.SkipWithError("an insert was refused");
	subject_hash_destroy(hash);
}
BENCHMARK(hash_insert_remove)->Arg(1000)->Arg(16000);

} // namespace
