/* Hubs, listeners, groups and seats of a spin; see world.h. */
#include "world.h"

#include "fault_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Short times, so that a run of seconds meets them; all are far above what loopback needs. */
#define WORLD_TIMEOUT_CONNECT_MS 5000u
#define WORLD_TIMEOUT_HANDSHAKE_MS 10000u
#define WORLD_TIMEOUT_WELCOME_MS 10000u
#define WORLD_TIMEOUT_CLOSE_MS 2000u
#define WORLD_PING_MS 1000u
#define WORLD_QUEUE_TOTAL (256ull << 20) /* all send queues together, when every one is full */
#define WORLD_QUEUE_MIN (32u << 10)
#define WORLD_QUEUE_MAX (256u << 10)

static uint32_t queue_bytes(uint32_t connections)
{
	uint64_t share = WORLD_QUEUE_TOTAL / (2ull * connections);

	if (share < WORLD_QUEUE_MIN)
		return WORLD_QUEUE_MIN;
	return share > WORLD_QUEUE_MAX ? WORLD_QUEUE_MAX : (uint32_t)share;
}

/* In every third world receive buffers run out all the time; 0: the hub's own number of them. */
static uint32_t receive_buffers(const struct world_options *options)
{
	return options->connections <= 1000 && random_mix(options->seed) % 3 == 0 ? 16 : 0;
}

static int hub_start(struct world *world, uint32_t hub, char *why)
{
	const struct world_options *options = &world->options;
	/* Both ends of everything may meet on one shard; closing ones keep their slot a while. */
	uint64_t slots = options->slots_per_shard != 0 ? options->slots_per_shard
						       : 4ull * options->connections + 256;
	struct ph_options hub_options = {
		.size = sizeof(hub_options),
		.shard_count = options->shard_count,
		.connections_per_shard = slots > PH_SLOTS_MAX ? PH_SLOTS_MAX : (uint32_t)slots,
		.receive_buffer_count = receive_buffers(options),
		.send_queue_bytes = queue_bytes(options->connections),
		.message_bytes_max = MESSAGE_BYTES_MAX,
		.timeout_connect_ms = WORLD_TIMEOUT_CONNECT_MS,
		.timeout_handshake_ms = WORLD_TIMEOUT_HANDSHAKE_MS,
		.timeout_welcome_ms = WORLD_TIMEOUT_WELCOME_MS,
		.timeout_close_ms = WORLD_TIMEOUT_CLOSE_MS,
		.ping_interval_ms = WORLD_PING_MS,
		.flags = options->has_plain_decode ? 0 : PH_HUB_TLS_FAST_DECODE,
		.user = &world->hubs[hub],
	};

	world->hubs[hub].world = world;
	return ph_hub_start(&hub_options, &world_callbacks, &world->hubs[hub].hub, why);
}

static int hub_listen(struct world *world, uint32_t hub, char *why)
{
	for (uint32_t i = 0; i < WORLD_LISTENERS; i++) {
		struct ph_listen_options options = {
			.framing = world_framing(i),
			.tls = world->options.tls,
		};
		char text[PH_ADDRESS_TEXT_BYTES];
		ph_address bound;
		int status;

		snprintf(text, sizeof(text), "127.0.%u.%u:0", hub, i + 1);
		status = ph_address_parse(text, &options.address);
		if (status == 0)
			status = ph_listen(world->hubs[hub].hub, &options, &bound);
		if (status >= 0)
			atomic_store(&world->ports[hub][i], ntohs(bound.sin6_port));
		if (status < 0) {
			snprintf(why, PH_WHY_BYTES, "cannot listen on %s: %s", text,
				strerror(-status));
			return status;
		}
	}
	return 0;
}

static int hubs_start(struct world *world, char *why)
{
	for (uint32_t hub = 0; hub < world->options.hub_count; hub++) {
		int status = hub_start(world, hub, why);

		if (status == 0 && !world->options.is_remote)
			status = hub_listen(world, hub, why);
		if (status < 0)
			return status;
	}
	return 0;
}

static uint32_t power_above(uint64_t value)
{
	uint32_t power = 1;

	while (power < value && power < (1u << 24))
		power *= 2;
	return power;
}

/* Whom we believe: ourselves, or the authority that the far end's operator named. */
static int trust_start(struct world *world, char *why)
{
	const struct world_options *options = &world->options;
	char text[TRUST_WHY_BYTES] = "";
	int status;

	if (!options->is_remote) {
		status = certs_create(&world->certs);
		return status < 0 ? status
				  : certs_credentials_create(world->certs, &world->credentials);
	}
	status = trust_create(
		options->cert_path, options->key_path, options->ca_path, &world->trust, text);
	if (status < 0)
		snprintf(why, PH_WHY_BYTES, "%.*s", (int)PH_WHY_BYTES - 1, text);
	return status;
}

static int world_init(struct world *world, char *why)
{
	const struct audit_options audit_options = {
		/* Both ends of all connections, several times over: the rest remembers ended ones. */
		.entry_count = power_above(12ull * world->options.connections + 8192),
		.lane_count = world->options.lanes,
		.is_echo = world->options.is_remote,
	};
	int status;

	for (uint32_t i = 0; i < WORLD_GROUPS; i++)
		atomic_init(&world->tags[i], i + 1);
	atomic_init(&world->tag_last, WORLD_GROUPS);
	world->dialled = calloc(world->options.connections, sizeof(*world->dialled));
	world->accepted = calloc(world->options.connections, sizeof(*world->accepted));
	world->hands = calloc(world->options.lanes, sizeof(*world->hands));
	status = world->dialled == NULL || world->accepted == NULL || world->hands == NULL
		? -ENOMEM
		: audit_create(&audit_options, &world->audit);
	if (status == 0 && world->options.tls == PH_TLS_MUTUAL)
		status = trust_start(world, why);
	if (status < 0) {
		if (why[0] == '\0')
			snprintf(why, PH_WHY_BYTES, "%s", strerror(-status));
		return status;
	}
	return hubs_start(world, why);
}

int world_create(const struct world_options *options, struct world **world, char *why)
{
	struct world *made = calloc(1, sizeof(*made));
	int status;

	why[0] = '\0';
	if (made == NULL) {
		snprintf(why, PH_WHY_BYTES, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	made->options = *options;
	pthread_mutex_init(&made->hands_lock, NULL);
	pthread_mutex_init(&made->credentials_lock, NULL);
	status = world_init(made, why);
	if (status < 0) {
		if (why[0] == '\0')
			snprintf(why, PH_WHY_BYTES, "%s", strerror(-status));
		if (world_stop(made, PH_ABORT) == 0)
			world_destroy(made);
		return status;
	}
	*world = made;
	return 0;
}

/* Nobody else calls it any more, and all its ids get their last event. */
static int hub_stop(struct world_hub *hub, enum ph_how how)
{
	const struct timespec pause = {.tv_nsec = 100000};
	int status = 0;

	atomic_store(&hub->is_closed, true);
	while (atomic_load(&hub->callers) > 0)
		nanosleep(&pause, NULL);
	if (hub->hub != NULL)
		status = ph_hub_stop(hub->hub, how);
	if (status == 0)
		hub->hub = NULL;
	return status;
}

int world_stop(struct world *world, enum ph_how how)
{
	for (uint32_t i = 0; i < WORLD_HUBS_MAX; i++) {
		int status = hub_stop(&world->hubs[i], how);

		if (status < 0)
			return status;
	}
	return 0;
}

/* A new hub has not heard of the groups that ended before it. */
static int hub_tags_end(struct world *world, uint32_t hub)
{
	int status = 0;

	fault_memory_spare();
	for (uint32_t i = 0; i < WORLD_ENDED_TAGS && status == 0; i++) {
		uint64_t tag = atomic_load(&world->ended_tags[i]);

		if (tag != 0)
			status = ph_tag_end(world->hubs[hub].hub, tag, PH_ABORT, REASON_GROUP);
	}
	fault_memory_spare_end();
	return status;
}

int world_hub_restart(struct world *world, uint32_t hub, enum ph_how how, char *why)
{
	int status = hub_stop(&world->hubs[hub], how);

	if (status < 0) {
		snprintf(why, PH_WHY_BYTES, "ph_hub_stop: %s", strerror(-status));
		return status;
	}
	atomic_fetch_add(&world->restarts, 1);
	status = hub_start(world, hub, why);
	if (status < 0) {
		world->hubs[hub].hub = NULL;
		return status;
	}
	status = hub_tags_end(world, hub);
	if (status == 0)
		status = hub_listen(world, hub, why);
	if (status < 0) {
		(void)hub_stop(&world->hubs[hub], PH_ABORT);
		return status;
	}
	atomic_store(&world->hubs[hub].is_closed, false);
	return 0;
}

void world_destroy(struct world *world)
{
	if (world == NULL)
		return;
	ph_credentials_put(world->credentials);
	pthread_mutex_destroy(&world->credentials_lock);
	pthread_mutex_destroy(&world->hands_lock);
	certs_destroy(world->certs);
	trust_destroy(world->trust);
	audit_destroy(world->audit);
	free(world->hands);
	free(world->dialled);
	free(world->accepted);
	free(world);
}

struct hand *world_hand_claim(struct world *world)
{
	struct hand *hand;

	pthread_mutex_lock(&world->hands_lock);
	hand = world->hands_idle;
	if (hand != NULL) {
		world->hands_idle = hand->next;
	} else {
		assert(world->hands_claimed < world->options.lanes);
		hand = &world->hands[world->hands_claimed];
		hand->lane = world->hands_claimed++;
		hand->world = world;
		random_init(&hand->random, world->options.seed, hand->lane);
	}
	pthread_mutex_unlock(&world->hands_lock);
	hand->hub = WORLD_HUBS_MAX;
	return hand;
}

void world_hand_give(struct hand *hand)
{
	struct world *world = hand->world;

	pthread_mutex_lock(&world->hands_lock);
	hand->next = world->hands_idle;
	world->hands_idle = hand;
	pthread_mutex_unlock(&world->hands_lock);
}

struct ph_hub *world_hub_enter(struct world *world, const struct hand *hand, uint32_t hub)
{
	struct world_hub *entered = &world->hubs[hub];

	if (hand->hub == hub)
		return entered->hub;
	atomic_fetch_add(&entered->callers, 1);
	if (!atomic_load(&entered->is_closed))
		return entered->hub;
	atomic_fetch_sub(&entered->callers, 1);
	return NULL;
}

void world_hub_leave(struct world *world, const struct hand *hand, uint32_t hub)
{
	if (hand->hub != hub)
		atomic_fetch_sub(&world->hubs[hub].callers, 1);
}

struct ph_credentials *world_credentials_get(struct world *world)
{
	struct ph_credentials *credentials = NULL;

	if (world->trust != NULL)
		return ph_credentials_get(trust_credentials(world->trust));
	if (world->certs == NULL)
		return NULL;
	pthread_mutex_lock(&world->credentials_lock);
	credentials = ph_credentials_get(world->credentials);
	pthread_mutex_unlock(&world->credentials_lock);
	return credentials;
}

void world_credentials_exchange(struct world *world)
{
	struct ph_credentials *fresh = NULL, *old;

	if (world->certs == NULL || certs_credentials_create(world->certs, &fresh) < 0)
		return;
	pthread_mutex_lock(&world->credentials_lock);
	old = world->credentials;
	world->credentials = fresh;
	pthread_mutex_unlock(&world->credentials_lock);
	ph_credentials_put(old);
}

ph_address world_address(struct world *world, uint32_t hub, uint32_t listener)
{
	ph_address address = {.sin6_family = AF_INET6,
		.sin6_port = htons((uint16_t)atomic_load(&world->ports[hub][listener]))};
	const uint8_t bytes[16] = {[10] = 0xff,
		[11] = 0xff,
		[12] = 127,
		[14] = (uint8_t)hub,
		[15] = (uint8_t)(listener + 1)};

	memcpy(&address.sin6_addr, bytes, sizeof(bytes));
	return address;
}

enum ph_framing world_framing(uint32_t listener)
{
	return listener < WORLD_LISTENERS - WORLD_LISTENERS_RAW ? PH_FRAMING_MESSAGE
								: PH_FRAMING_RAW;
}

void world_group_end(struct world *world, uint32_t group, enum ph_how how)
{
	uint64_t tag = atomic_fetch_add(&world->tag_last, 1) + 1;
	uint64_t ended = atomic_exchange(&world->tags[group], tag);

	for (uint32_t hub = 0; hub < world->options.hub_count; hub++) {
		int status = 0;

		if (world->hubs[hub].hub != NULL)
			status = ph_tag_end(world->hubs[hub].hub, ended, how, REASON_GROUP);

		/* Without memory to remember the tag, the hub has not ended it. */
		if (status == -ENOMEM)
			return;
		if (status < 0)
			audit_violation(world->audit, 0, "ph_tag_end answered %d", status);
	}
	atomic_store(&world->ended_tags[ended % WORLD_ENDED_TAGS], ended);
}

void world_stats(struct world *world, struct ph_statistics *stats)
{
	struct ph_statistics one;

	memset(stats, 0, sizeof(*stats));
	for (uint32_t hub = 0; hub < world->options.hub_count; hub++) {
		if (world->hubs[hub].hub == NULL)
			continue;
		ph_stats(world->hubs[hub].hub, &one);
#define STATS_ADD(name) stats->name += one.name;
		PH_COUNTERS(STATS_ADD)
#undef STATS_ADD
		stats->live += one.live;
		stats->open += one.open;
		stats->handshakes += one.handshakes;
	}
}

void world_dump(struct world *world, int fd)
{
	for (uint32_t hub = 0; hub < WORLD_HUBS_MAX; hub++)
		if (world->hubs[hub].hub != NULL)
			ph_hub_dump(world->hubs[hub].hub, fd);
}
