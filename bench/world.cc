/* A hub that dials itself; see world.h. */
#include "bench/world.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

const uint8_t message_type[16] = {7};

namespace
{
constexpr auto kPatience = std::chrono::seconds(20);
constexpr uint32_t kConnections = 8192; /* of a shard: more than any benchmark opens */
} // namespace

bool wait_for(struct world *world, const uint64_t *count, uint64_t wanted)
{
	std::unique_lock<std::mutex> guard(world->lock);

	return world->changed.wait_for(guard, kPatience, [=] { return *count >= wanted; });
}

static void count_up(struct world *world, uint64_t *count)
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

static int on_hello(void *user, const char *, struct ph_hello_answer *answer)
{
	struct world *world = static_cast<struct world *>(user);

	answer->credentials = ph_credentials_get(world->credentials);
	std::snprintf(answer->group, sizeof(answer->group), "%s", kGroup);
	std::snprintf(answer->identity, sizeof(answer->identity), "%s", kIdentity);
	return 0;
}

static int on_verify(void *user, uint64_t, int, const char *, const char *, const struct ph_chain *,
	struct ph_verdict *verdict)
{
	(void)user;
	std::snprintf(verdict->group, sizeof(verdict->group), "%s", kGroup);
	std::snprintf(verdict->identity, sizeof(verdict->identity), "%s", kIdentity);
	verdict->tag = kAccepted;
	return 0;
}

static void on_open(void *user, uint64_t, void *, const struct ph_open_info *info)
{
	struct world *world = static_cast<struct world *>(user);

	if (!info->accepted)
		count_up(world, &world->opened);
}

static void on_closed(void *user, uint64_t, void *, const struct ph_receipt *receipt)
{
	struct world *world = static_cast<struct world *>(user);

	if (!receipt->accepted)
		count_up(world, &world->closed);
}

/* The dialler: a whole answer is one round trip; start the next until the batch is done. */
static void on_answer(struct world *world, uint64_t id, size_t bytes)
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

static int on_data(void *user, uint64_t id, void *connection, const uint8_t *type,
	const uint8_t *data, size_t bytes)
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

static const struct ph_callbacks callbacks = {
	on_hello, on_verify, nullptr, on_open, on_data, nullptr, on_closed, nullptr};

/* ---- life ---- */

bool world_start(struct world *world, benchmark::State &state)
{
	struct ph_options options = {};
	struct ph_listen_options listen = {};
	char why[PH_WHY_BYTES] = "";

	options.size = sizeof(options);
	options.shard_count = world->shards;
	options.connections_per_shard = kConnections;
	/* For the whole process and for good: p2p.h's keys, measured before these, know nothing of it. */
	options.flags = world->tls == PH_TLS_MUTUAL ? PH_HUB_TLS_FAST_DECODE : 0;
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
	options.group = kGroup;
	options.source = kIdentity;
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

void rest_us(uint32_t us)
{
	std::this_thread::sleep_for(std::chrono::microseconds(us));
}
