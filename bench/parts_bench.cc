/* What do the engine's small parts cost, one by one, on one thread with everything in the cache? */
#include "bench/subject.h"

#include <benchmark/benchmark.h>

namespace
{

/* ---- slots: one word, one compare-and-swap a step ---- */

template <int (*act)(struct subject_slots *)> void slot_act(benchmark::State &state)
{
	struct subject_slots *slots = subject_slots_get();
	int status = 0;

	if (slots == nullptr) {
		state.SkipWithError("no memory");
		return;
	}
	for (auto _ : state)
		status |= act(slots);
	if (status != 0)
		state.SkipWithError("a slot refused what it must allow");
}
BENCHMARK_TEMPLATE(slot_act, subject_slots_live)->Name("slot_open_close_free");
BENCHMARK_TEMPLATE(slot_act, subject_slots_send)->Name("slot_send_enter_leave");
BENCHMARK_TEMPLATE(slot_act, subject_slots_send_mailed)->Name("slot_send_enter_leave_mailed");
BENCHMARK_TEMPLATE(slot_act, subject_slots_pin)->Name("slot_pin_unpin");
BENCHMARK_TEMPLATE(slot_act, subject_slots_close_stale)->Name("slot_close_stale");
BENCHMARK_TEMPLATE(slot_act, subject_slots_take_put)->Name("free_queue_take_put");

/* ---- timer wheel ---- */

struct subject_timers *timers_or_skip(benchmark::State &state, uint32_t count)
{
	struct subject_timers *timers = subject_timers_create(count);

	if (timers == nullptr)
		state.SkipWithError("no memory");
	return timers;
}

/* Arming what is armed: what an active connection's idle timer does. */
void timer_arm(benchmark::State &state)
{
	uint32_t count = static_cast<uint32_t>(state.range(0)), index = 0;
	struct subject_timers *timers = timers_or_skip(state, count);

	if (timers == nullptr)
		return;
	for (auto _ : state) {
		subject_timers_arm(timers, index);
		index = index + 1 < count ? index + 1 : 0;
	}
	subject_timers_destroy(timers);
}
BENCHMARK(timer_arm)->Arg(1000)->Arg(16000);

void timer_arm_cancel(benchmark::State &state)
{
	uint32_t count = static_cast<uint32_t>(state.range(0)), index = 0;
	struct subject_timers *timers = timers_or_skip(state, count);

	if (timers == nullptr)
		return;
	for (auto _ : state) {
		subject_timers_arm(timers, index);
		subject_timers_cancel(timers, index);
		index = index + 1 < count ? index + 1 : 0;
	}
	subject_timers_destroy(timers);
}
BENCHMARK(timer_arm_cancel)->Arg(1000)->Arg(16000);

/* From arming to firing, a second of 1 ms turns included: for each timer. */
void timer_expire(benchmark::State &state)
{
	uint32_t count = static_cast<uint32_t>(state.range(0));
	struct subject_timers *timers = timers_or_skip(state, count);

	if (timers == nullptr)
		return;
	while (state.KeepRunningBatch(count))
		if (subject_timers_expire(timers) != count)
			state.SkipWithError("a timer did not fire");
	subject_timers_destroy(timers);
}
BENCHMARK(timer_expire)->Arg(16000);

/* ---- chunks ---- */

void chunk_cycle(benchmark::State &state)
{
	int status = 0;

	for (auto _ : state)
		status |= subject_chunk_cycle(static_cast<size_t>(state.range(0)));
	if (status != 0)
		state.SkipWithError("no memory");
}
BENCHMARK(chunk_cycle)->Arg(92)->Arg(1052)->Arg(16412);

void chunk_batch(benchmark::State &state)
{
	constexpr uint32_t kBatch = 256;
	int status = 0;

	while (state.KeepRunningBatch(kBatch))
		status |= subject_chunk_batch(static_cast<size_t>(state.range(0)), kBatch);
	if (status != 0)
		state.SkipWithError("no memory");
}
BENCHMARK(chunk_batch)->Arg(92)->Arg(1052);

/* ---- digest, histogram ---- */

void digest_pair(benchmark::State &state)
{
	const char *group = "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567.bench";
	const char *identity = "76543210f1e2d3c4b5a69788796a5b4c3d2e1f00.member";

	for (auto _ : state) {
		benchmark::DoNotOptimize(group);
		benchmark::DoNotOptimize(subject_digest(group, identity));
	}
}
BENCHMARK(digest_pair);

void histogram_record(benchmark::State &state)
{
	struct subject_histogram *histogram = subject_histogram_create();
	uint64_t value = 0x9e3779b97f4a7c15u;

	if (histogram == nullptr) {
		state.SkipWithError("no memory");
		return;
	}
	for (auto _ : state) {
		subject_histogram_record(histogram, value >> 40);
		value = value * 6364136223846793005u + 1442695040888963407u;
	}
	if (subject_histogram_quantile(histogram, 500) == 0)
		state.SkipWithError("nothing was recorded");
	subject_histogram_destroy(histogram);
}
BENCHMARK(histogram_record);

} // namespace
