/*
 * What do ph_close, ph_send and PeerGroupCloseDirectConnection cost their caller? The caller has one
 * core, the hub's shard the other. Each call is timed by itself:
 *
 *   p50_ns, p99_ns    of single calls, the cost of reading the counter taken off
 *   allocated         bytes that the caller allocated, for each call (jemalloc builds)
 *   wakes_per_call    how often the caller had to wake the shard: its only system call
 *   switches_per_call how often the caller gave up its core
 *   distance_ns       between the two cores, the mean of before and after: near is about 40, far 230
 *
 * warm: the lines that the call writes were brought into the caller's cache just before. Calls follow
 * each other, so the shard is busy with the first when the others come.
 */
#include "bench/distance.h"
#include "bench/subject.h"
#include "bench/tick.h"
#include "bench/world.h"

#include <algorithm>
#include <benchmark/benchmark.h>
#include <cerrno>
#include <sys/resource.h>

namespace
{

/* The caller on the first core, what it starts on the second; the affinity as before afterwards. */
struct placement {
	int cores[2];
	double distance_before_ns;
	cpu_set_t before;
	placement()
	{
		sched_getaffinity(0, sizeof(before), &before);
		distance_cores(cores);
		distance_before_ns = distance_measure(cores[0], cores[1]);
		distance_pin(cores[1]);
	}
	void started()
	{
		distance_pin(cores[0]);
	}
	~placement()
	{
		sched_setaffinity(0, sizeof(before), &before);
	}
};

/* The times of single calls and what else they cost. */
struct calls {
	struct tick_scale scale = tick_measure();
	std::vector<double> ns;
	uint64_t allocated = 0, wakes = 0, switches = 0;

	static uint64_t switches_now()
	{
		struct rusage usage;

		getrusage(RUSAGE_THREAD, &usage);
		return static_cast<uint64_t>(usage.ru_nvcsw);
	}

	/* One batch on the ids of one shard; false when a call failed. */
	template <typename Call>
	bool batch(const std::vector<uint64_t> &ids, bool is_warm, Call call)
	{
		uint64_t allocated_before, wakes_before = subject_id_wakes(ids[0]);
		uint64_t switches_before;
		bool is_good = true;

		ns.reserve(ns.size() + ids.size());
		allocated_before = subject_thread_allocated();
		switches_before = switches_now();
		for (uint64_t id : ids) {
			uint64_t begin;

			if (is_warm)
				subject_id_warm(id);
			begin = tick_now();
			is_good &= call(id);
			ns.push_back(tick_ns(&scale, tick_now() - begin));
		}
		switches += switches_now() - switches_before;
		allocated += subject_thread_allocated() - allocated_before;
		wakes += subject_id_wakes(ids[0]) - wakes_before;
		return is_good;
	}

	void report(benchmark::State &state, const struct placement &placement)
	{
		double after = distance_measure(placement.cores[0], placement.cores[1]);

		if (ns.empty())
			return;
		std::sort(ns.begin(), ns.end());
		state.counters["p50_ns"] = ns[ns.size() / 2];
		state.counters["p99_ns"] = ns[ns.size() * 99 / 100];
		state.counters["calls"] = static_cast<double>(ns.size());
		state.counters["allocated"] = static_cast<double>(allocated) / ns.size();
		state.counters["wakes_per_call"] = static_cast<double>(wakes) / ns.size();
		state.counters["switches_per_call"] = static_cast<double>(switches) / ns.size();
		state.counters["distance_ns"] = (placement.distance_before_ns + after) / 2;
	}
};

/* ---- ph_close ---- */

void close_call(benchmark::State &state, bool is_warm, enum ph_how how)
{
	std::vector<uint64_t> ids(256);
	struct placement placement;
	struct world world;
	struct calls calls;
	uint64_t closed = 0;

	world.shards = 1;
	if (world_start(&world, state)) {
		placement.started();
		for (auto _ : state) {
			if (!open_some(&world, &ids)) {
				state.SkipWithError("connections do not open");
				break;
			}
			closed += ids.size();
			if (!calls.batch(ids, is_warm,
				    [how](uint64_t id) {
					    return ph_close(id, kDialled, how, 0, nullptr) == 0;
				    }) ||
				!wait_for(&world, &world.closed, closed)) {
				state.SkipWithError("a close was lost");
				break;
			}
		}
		calls.report(state, placement);
	}
	world_stop(&world, state);
}
BENCHMARK_CAPTURE(close_call, warm, true, PH_ABORT)->Name("close_warm/abort")->Iterations(20);
BENCHMARK_CAPTURE(close_call, warm_graceful, true, PH_GRACEFUL)
	->Name("close_warm/graceful")
	->Iterations(20);
BENCHMARK_CAPTURE(close_call, busy, false, PH_GRACEFUL)->Name("close_busy")->Iterations(20);

/* One close at a time, the shard asleep before each: the wake-up is in it. */
void close_idle(benchmark::State &state)
{
	std::vector<uint64_t> one(1), ids(64);
	struct placement placement;
	struct world world;
	struct calls calls;
	uint64_t closed = 0;

	world.shards = 1;
	if (world_start(&world, state)) {
		placement.started();
		for (auto _ : state) {
			bool is_good = open_some(&world, &ids);

			for (uint64_t id : ids) {
				one[0] = id;
				is_good = is_good && calls.batch(one, false, [](uint64_t here) {
					return ph_close(here, kDialled, PH_GRACEFUL, 0, nullptr) ==
						0;
				}) && wait_for(&world, &world.closed, ++closed);
				rest_us(200);
			}
			if (!is_good) {
				state.SkipWithError("a close was lost");
				break;
			}
		}
		calls.report(state, placement);
	}
	world_stop(&world, state);
}
BENCHMARK(close_idle)->Iterations(4);

/* ---- ph_send ---- */

/* Rounds over 64 connections that answer; the queue is given time to empty after each. */
void send_call(benchmark::State &state, bool is_warm)
{
	std::vector<uint64_t> ids(64);
	std::vector<uint8_t> payload(static_cast<size_t>(state.range(0)), 0x2a);
	const struct ph_part part = {payload.data(), payload.size()};
	struct placement placement;
	struct world world;
	struct calls calls;

	world.shards = 1;
	world.framing = PH_FRAMING_MESSAGE;
	world.payload.assign(1, 0);
	if (world_start(&world, state) && open_some(&world, &ids)) {
		placement.started();
		for (auto _ : state) {
			if (!calls.batch(ids, is_warm, [&part](uint64_t id) {
				    return ph_send(id, kDialled, message_type, &part, 1) == 0;
			    })) {
				state.SkipWithError("a message was refused");
				break;
			}
			rest_us(500);
		}
		calls.report(state, placement);
	} else {
		state.SkipWithError("no connections");
	}
	world_stop(&world, state);
}
BENCHMARK_CAPTURE(send_call, warm, true)->Name("send_warm")->Arg(64)->Arg(1024)->Iterations(200);
BENCHMARK_CAPTURE(send_call, busy, false)->Name("send_busy")->Arg(64)->Arg(1024)->Iterations(200);

/* ---- p2p.h: before any benchmark that turns the fast key decoding on, as files come by their names ---- */

void p2p_close(benchmark::State &state, bool is_warm)
{
	std::vector<uint64_t> ids(64);
	struct placement placement;
	struct subject_p2p *nodes = subject_p2p_create();
	struct calls calls;

	placement.started();
	if (nodes == nullptr) {
		state.SkipWithError("no group");
		return;
	}
	for (auto _ : state) {
		if (subject_p2p_open(nodes, ids.data(), static_cast<uint32_t>(ids.size())) != 0) {
			state.SkipWithError("direct connections do not open");
			break;
		}
		if (!calls.batch(ids, is_warm,
			    [nodes](uint64_t id) { return subject_p2p_close(nodes, id) == 0; }) ||
			subject_p2p_await_closed(nodes) != 0) {
			state.SkipWithError("a close was lost");
			break;
		}
	}
	calls.report(state, placement);
	subject_p2p_destroy(nodes);
}
BENCHMARK_CAPTURE(p2p_close, warm, true)->Name("p2p_close_warm")->Iterations(6);
BENCHMARK_CAPTURE(p2p_close, busy, false)->Name("p2p_close_busy")->Iterations(6);

/* ---- ph_find ---- */

void find_id(benchmark::State &state)
{
	std::vector<uint64_t> ids(static_cast<size_t>(state.range(0)));
	struct world world;
	uint64_t found = 0, count = 0;

	world.shards = 1;
	if (world_start(&world, state) && open_some(&world, &ids)) {
		for (auto _ : state)
			count += ph_find(world.hub, kGroup, kIdentity, &found, 1) > 0;
		if (count != static_cast<uint64_t>(state.iterations()))
			state.SkipWithError("an identity was not found");
	} else {
		state.SkipWithError("no connections");
	}
	world_stop(&world, state);
}
BENCHMARK(find_id)->Arg(1);

} // namespace
