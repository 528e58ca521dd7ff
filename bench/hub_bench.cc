/*
 * What do ph_close and a round trip cost in a running hub? One hub with two shards dials itself over
 * loopback; see world.h.
 */
#include "bench/world.h"

#include <cerrno>

namespace
{

/* ---- close by id: the caller's cost ---- */

void close_by_id(benchmark::State &state)
{
	std::vector<uint64_t> ids(256);
	struct world world;
	uint64_t closed = 0;

	if (world_start(&world, state)) {
		while (state.KeepRunningBatch(static_cast<int64_t>(ids.size()))) {
			int lost = 0;

			state.PauseTiming();
			if (!open_some(&world, &ids)) {
				state.SkipWithError("connections do not open");
				break;
			}
			state.ResumeTiming();
			for (uint64_t id : ids)
				lost |= ph_close(id, kDialled, PH_ABORT, 0, nullptr);
			state.PauseTiming();
			closed += ids.size();
			if (lost != 0 || !wait_for(&world, &world.closed, closed)) {
				state.SkipWithError("a close was lost");
				break;
			}
			state.ResumeTiming();
		}
	}
	world_stop(&world, state);
}
BENCHMARK(close_by_id);

/* An id that is no more: the answer without any shard. */
void close_stale_id(benchmark::State &state)
{
	std::vector<uint64_t> ids(1);
	struct world world;

	if (world_start(&world, state) && open_some(&world, &ids) &&
		ph_close(ids[0], kDialled, PH_ABORT, 0, nullptr) == 0 &&
		wait_for(&world, &world.closed, 1)) {
		for (auto _ : state)
			if (ph_close(ids[0], kDialled, PH_ABORT, 0, nullptr) != -ENOENT)
				state.SkipWithError("a dead id was alive");
	} else {
		state.SkipWithError("no dead id to close");
	}
	world_stop(&world, state);
}
BENCHMARK(close_stale_id);

/* ---- round trip over loopback, two shards ---- */

void echo_round_trip(benchmark::State &state, enum ph_framing framing, enum ph_tls tls)
{
	constexpr uint64_t kBatch = 500;
	std::vector<uint64_t> ids(1);
	uint64_t batches = 0;
	struct world world;

	world.framing = framing;
	world.tls = tls;
	world.payload.assign(static_cast<size_t>(state.range(0)), 0x2a);
	if (!world_start(&world, state) || !open_some(&world, &ids)) {
		state.SkipWithError("no connection");
		world_stop(&world, state);
		return;
	}
	while (state.KeepRunningBatch(kBatch)) {
		world.turns_left.store(kBatch);
		if (!ping(&world, ids[0]) || !wait_for(&world, &world.batches, ++batches) ||
			world.turns_left.load() != 0) {
			state.SkipWithError("an answer was lost");
			break;
		}
	}
	world_stop(&world, state);
}
BENCHMARK_CAPTURE(echo_round_trip, raw_plain, PH_FRAMING_RAW, PH_TLS_NONE)
	->Arg(64)
	->Arg(4096)
	->UseRealTime()
	->MeasureProcessCPUTime()
	->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(echo_round_trip, message_tls, PH_FRAMING_MESSAGE, PH_TLS_MUTUAL)
	->Arg(64)
	->Arg(4096)
	->UseRealTime()
	->MeasureProcessCPUTime()
	->Unit(benchmark::kMicrosecond);

} // namespace
