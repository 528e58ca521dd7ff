/*
 * What do ph_close and a round trip cost in a running hub? One hub with two shards dials itself over
 * loopback. Dialled connections carry the tag kDialled, accepted ones kAccepted, which give back
 * what comes. Callbacks run on the shards; the benchmark thread waits for counts.
 */
#include "bench/subject.h"

#include <atomic>
#include <benchmark/benchmark.h>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

namespace
{

constexpr uint64_t kDialled = 1, kAccepted = 2;
constexpr auto kPatience = std::chrono::seconds(20);

struct world {
	struct ph_hub *hub = nullptr;
	ph_address address = {};
	struct ph_credentials *credentials = nullptr;
	enum ph_framing framing = PH_FRAMING_RAW;
	enum ph_tls tls = PH_TLS_NONE;
	std::mutex lock; /* the three counts */
	std::condition_variable changed;
	uint64_t opened = 0, closed = 0, batches = 0;
	std::atomic<uint64_t> turns_left{0}; /* of the round trips under way */
	std::atomic<size_t> bytes_back{0};
	std::vector<uint8_t> payload;
};

const uint8_t message_type[16] = {7};

bool wait_for(struct world *world, const uint64_t *count, uint64_t wanted)
{
	std::unique_lock<std::mutex> guard(world->lock);

	return world->changed.wait_for(guard, kPatience, [=] { return *count >= wanted; });
}

void count_up(struct world *world, uint64_t *count)
{
	std::lock_guard<std::mutex> guard(world->lock);

	++*count;
	world->changed.notify_all();
}

bool ping(struct world *world, uint64_t id)
{
	const struct ph_part part = {world->payload.data(), world->payload.size()};

	return ph_send(id, kDialled, message_type, &part, 1) == 0;
}

/* ---- callbacks ---- */

int on_hello(void *user, const char *, struct ph_hello_answer *answer)
{
	struct world *world = static_cast<struct world *>(user);

	answer->credentials = ph_credentials_get(world->credentials);
	std::snprintf(answer->group, sizeof(answer->group), "bench");
	std::snprintf(answer->identity, sizeof(answer->identity), "bench");
	return 0;
}

int on_verify(void *user, uint64_t, int, const char *, const char *, const struct ph_chain *,
	struct ph_verdict *verdict)
{
	const struct world *world = static_cast<struct world *>(user);

	if (world->tls == PH_TLS_MUTUAL) {
		std::snprintf(verdict->group, sizeof(verdict->group), "bench");
		std::snprintf(verdict->identity, sizeof(verdict->identity), "bench");
	}
	verdict->tag = kAccepted;
	return 0;
}

void on_open(void *user, uint64_t, void *, const struct ph_open_info *info)
{
	struct world *world = static_cast<struct world *>(user);

	if (!info->accepted)
		count_up(world, &world->opened);
}

void on_closed(void *user, uint64_t, void *, const struct ph_receipt *receipt)
{
	struct world *world = static_cast<struct world *>(user);

	if (!receipt->accepted)
		count_up(world, &world->closed);
}

/* The dialler: a whole answer is one round trip; start the next until the batch is done. */
void on_answer(struct world *world, uint64_t id, size_t bytes)
{
	size_t back = world->bytes_back.load(std::memory_order_relaxed) + bytes;

	if (back < world->payload.size()) {
		world->bytes_back.store(back, std::memory_order_relaxed);
		return;
	}
	world->bytes_back.store(0, std::memory_order_relaxed);
	if (world->turns_left.fetch_sub(1, std::memory_order_relaxed) == 1 || !ping(world, id))
		count_up(world, &world->batches);
}

int on_data(void *user, uint64_t id, void *connection, const uint8_t *type, const uint8_t *data,
	size_t bytes)
{
	struct world *world = static_cast<struct world *>(user);
	const struct ph_part part = {data, bytes};

	/* Only dialled connections were given a user of their own. */
	if (connection != nullptr)
		on_answer(world, id, bytes);
	else if (ph_send(id, kAccepted, type, &part, 1) == -EAGAIN)
		return -EAGAIN;
	return 0;
}

const struct ph_callbacks callbacks = {
	on_hello, on_verify, nullptr, on_open, on_data, nullptr, on_closed};

/* ---- life ---- */

bool world_start(struct world *world, benchmark::State &state)
{
	struct ph_options options = {};
	struct ph_listen_options listen = {};
	char why[PH_WHY_BYTES] = "";

	options.size = sizeof(options);
	options.shard_count = 2;
	options.flags = PH_HUB_TLS_FAST_DECODE;
	options.user = world;
	if (world->tls == PH_TLS_MUTUAL) {
		world->credentials = subject_credentials_create();
		if (world->credentials == nullptr) {
			state.SkipWithError("no credentials");
			return false;
		}
	}
	if (ph_hub_start(&options, &callbacks, &world->hub, why) < 0) {
		std::fprintf(stderr, "peerhub-bench: %s\n", why);
		state.SkipWithError("the hub does not start");
		return false;
	}
	listen.framing = world->framing;
	listen.tls = world->tls;
	listen.tag = kAccepted;
	if (ph_address_parse("127.0.0.1:0", &listen.address) < 0 ||
		ph_listen(world->hub, &listen, &world->address) < 0) {
		state.SkipWithError("cannot listen");
		return false;
	}
	return true;
}

void world_stop(struct world *world, benchmark::State &state)
{
	if (world->hub != nullptr && ph_hub_stop(world->hub, PH_ABORT) < 0)
		state.SkipWithError("the hub does not stop");
	ph_credentials_put(world->credentials);
}

bool open_some(struct world *world, std::vector<uint64_t> *ids)
{
	struct ph_open_options options = {};
	uint64_t wanted;

	options.address = world->address;
	options.kind = world->framing == PH_FRAMING_RAW ? PH_KIND_RAW : PH_KIND_DIRECT;
	options.framing = world->framing;
	options.tls = world->tls;
	options.credentials = world->credentials;
	options.sni = "any.bench.p2p";
	options.group = "bench";
	options.source = "bench";
	options.tag = kDialled;
	options.user = world;
	{
		std::lock_guard<std::mutex> guard(world->lock);
		wanted = world->opened + ids->size();
	}
	for (uint64_t &id : *ids)
		if (ph_open(world->hub, &options, &id) < 0)
			return false;
	return wait_for(world, &world->opened, wanted);
}

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
