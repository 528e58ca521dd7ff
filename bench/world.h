/*
 * A hub that dials itself over loopback, for benchmarks. Dialled connections carry the tag kDialled,
 * accepted ones kAccepted, which give back what comes. Callbacks run on the shards; the benchmark's
 * thread waits for counts.
 */
#ifndef PEERHUB_BENCH_WORLD_H
#define PEERHUB_BENCH_WORLD_H

#include "bench/subject.h"

#include <atomic>
#include <benchmark/benchmark.h>
#include <condition_variable>
#include <mutex>
#include <vector>

constexpr uint64_t kDialled = 1, kAccepted = 2;
/* Both ends of every connection are members of this name. */
constexpr const char *kGroup = "bench", *kIdentity = "bench";

struct world {
	uint32_t shards = 2; /* this and the next three: before world_start */
	enum ph_framing framing = PH_FRAMING_RAW;
	enum ph_tls tls = PH_TLS_NONE;
	std::vector<uint8_t> payload;
	struct ph_hub *hub = nullptr;
	ph_address address = {};
	struct ph_credentials *credentials = nullptr;
	std::mutex lock; /* the three counts */
	std::condition_variable changed;
	uint64_t opened = 0, closed = 0, batches = 0;
	std::atomic<uint64_t> turns_left{0}; /* of the round trips under way */
	std::atomic<size_t> bytes_back{0};
};

extern const uint8_t message_type[16];

/* False, and the benchmark is skipped, when it cannot be; world_stop is due either way. */
bool world_start(struct world *world, benchmark::State &state);
void world_stop(struct world *world, benchmark::State &state);
/* Open one for each place of ids and wait for all. */
bool open_some(struct world *world, std::vector<uint64_t> *ids);
/* Until *count, one of the three, has reached `wanted`; false after 20 s. */
bool wait_for(struct world *world, const uint64_t *count, uint64_t wanted);
bool ping(struct world *world, uint64_t id); /* send the payload */
void rest_us(uint32_t us);

#endif
