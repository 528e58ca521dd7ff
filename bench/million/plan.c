/* The plan of a run; see plan.h. */
#include "bench/million/plan.h"

#include "bench/million/board.h"

#include <errno.h>
#include <stdio.h>

/* Enough for the listeners' unevenness: six deviations of a fair draw, and never below 64. */
uint32_t plan_slots(const struct plan *plan, uint32_t shards, uint64_t connections)
{
	uint64_t mean = (connections + shards - 1) / shards;
	uint64_t slots = mean + mean / 4 + 64;

	(void)plan;
	return slots > 19968 ? 19968 : (uint32_t)slots;
}

uint64_t plan_share(const struct plan *plan, uint32_t peer)
{
	return plan->connections / plan->peers + (peer < plan->connections % plan->peers ? 1 : 0);
}

uint64_t plan_first(const struct plan *plan, uint32_t peer)
{
	uint64_t first = 0;

	for (uint32_t before = 0; before < peer; before++)
		first += plan_share(plan, before);
	return first;
}

static uint32_t shards_for(uint64_t connections)
{
	uint64_t shards = (connections + PLAN_SHARD_CONNECTIONS - 1) / PLAN_SHARD_CONNECTIONS;

	return shards < 2 ? 2 : shards > PH_SHARDS_MAX ? PH_SHARDS_MAX : (uint32_t)shards;
}

static int fault(char *why, const char *text)
{
	snprintf(why, PLAN_WHY_BYTES, "%s", text);
	return -EINVAL;
}

/* Where memory is looked at: powers of ten, and the end. */
static void checkpoints_fill(struct plan *plan)
{
	plan->checkpoint_count = 0;
	for (uint64_t at = 1000; at < plan->connections; at *= 10)
		plan->checkpoints[plan->checkpoint_count++] = at;
	plan->checkpoints[plan->checkpoint_count++] = plan->connections;
}

int plan_complete(struct plan *plan, char *why)
{
	if (plan->connections < 1 || plan->connections > 2500000)
		return fault(why, "the number of connections is 1 to 2,500,000");
	if (plan->peers == 0)
		plan->peers = (uint32_t)((plan->connections + 999999) / 1000000);
	if (plan->peers > SIDES_MAX - 1)
		return fault(why, "at most 16 processes of peers");
	if (plan->peers > plan->connections)
		return fault(why, "more processes of peers than connections");
	if (plan->hub_shards == 0)
		plan->hub_shards = shards_for(plan->connections);
	if (plan->peer_shards == 0)
		plan->peer_shards = shards_for(plan_share(plan, 0));
	if (plan->hub_shards > PH_SHARDS_MAX || plan->peer_shards > PH_SHARDS_MAX)
		return fault(why, "a hub has at most 64 shards");
	if (plan->threads < 1 || plan->threads > 64)
		return fault(why, "1 to 64 closing threads");
	if (plan->message_bytes < 16 || plan->message_bytes > 65536)
		return fault(why, "a message has 16 to 65,536 bytes");
	if (plan->window < 1 || plan->close_window < 1)
		return fault(why, "a window is at least 1");
	if ((uint64_t)plan->hub_shards * plan_slots(plan, plan->hub_shards, plan->connections) <
		plan->connections)
		return fault(why, "more connections than 19,968 for each shard of the hub");
	if ((uint64_t)plan->peer_shards * plan_slots(plan, plan->peer_shards, plan_share(plan, 0)) <
		plan_share(plan, 0))
		return fault(why, "more connections than 19,968 for each shard of a peer");
	if (plan->connections > (uint64_t)PLAN_SOURCES_MAX * PLAN_SOURCE_CONNECTIONS)
		return fault(why, "more connections than the source addresses have ports");
	if (plan->checkpoint_count == 0)
		checkpoints_fill(plan);
	return 0;
}
