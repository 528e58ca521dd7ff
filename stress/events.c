/*
 * The callbacks of a spin's hubs, on their shards. Each tells the audit first and then, with some
 * probability, does from inside the callback what a client might do there: close this connection,
 * close another, send, open, refuse, or say that it cannot take the data now.
 */
#include "action.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERMILLE_REFUSE 5u
#define PERMILLE_CLOSE 20u
#define PERMILLE_ANSWER 250u
#define PERMILLE_AGAIN 5u
#define ANSWER_BYTES_MAX 2048u

static pthread_once_t hand_once = PTHREAD_ONCE_INIT;
static pthread_key_t hand_key; /* its end is the end of a shard's thread */

static void hand_end(void *hand)
{
	world_hand_give(hand);
}

static void hand_key_create(void)
{
	if (pthread_key_create(&hand_key, hand_end) != 0)
		abort();
}

/* A shard's hand, claimed at its first callback and given back when the hub stops. */
static struct hand *hand_of(struct world_hub *hub)
{
	struct hand *hand;

	pthread_once(&hand_once, hand_key_create);
	hand = pthread_getspecific(hand_key);
	if (hand == NULL) {
		hand = world_hand_claim(hub->world);
		hand->hub = (uint32_t)(hub - hub->world->hubs);
		if (pthread_setspecific(hand_key, hand) != 0)
			abort();
	}
	return hand;
}

/* Chance decides, but not while the world is being filled. */
static bool happens(struct world *world, struct hand *hand, uint32_t permille)
{
	return !atomic_load(&world->is_calm) && random_permille(&hand->random, permille);
}

static uint64_t serial_of(const void *user)
{
	return (uint64_t)(uintptr_t)user;
}

/* What a client may do inside any callback, to any connection. */
static void act(struct world *world, struct hand *hand, uint64_t serial)
{
	uint32_t dice = random_below(&hand->random, 1000);

	if (atomic_load(&world->is_calm))
		return;
	if (dice < PERMILLE_CLOSE)
		action_close(world, hand, serial, action_how(hand));
	else if (dice < PERMILLE_CLOSE + 5)
		action_close_some(world, hand);
	else if (dice < PERMILLE_CLOSE + 15)
		action_send(world, hand, action_pick(world, hand), ANSWER_BYTES_MAX);
	else if (dice < PERMILLE_CLOSE + 20)
		action_open(world, hand);
	else if (dice < PERMILLE_CLOSE + 22)
		action_stale(world, hand);
	else if (dice < PERMILLE_CLOSE + 24)
		action_look(world, hand);
}

/* "any.gN.p2p" -> N. */
static int group_of(const char *sni, uint32_t *group)
{
	char tail;

	if (sni == NULL || sscanf(sni, "any.g%u.p2%c", group, &tail) != 2 || tail != 'p' ||
		*group >= WORLD_GROUPS)
		return -EINVAL;
	return 0;
}

/* Which group the peer talks of: the server name's, or without TLS its own word, which the engine
 * has put into the verdict. A raw stream without TLS has no word: any group. */
static int group_of_peer(const struct world *world, struct hand *hand, const char *sni,
	int accepted, const struct ph_verdict *verdict, uint32_t *group)
{
	char tail;

	if (world->certs != NULL)
		return group_of(sni, group);
	if (!accepted)
		return 0;
	if (verdict->group[0] == '\0') {
		*group = random_below(&hand->random, WORLD_GROUPS);
		return 0;
	}
	if (sscanf(verdict->group, "g%u%c", group, &tail) != 1 || *group >= WORLD_GROUPS)
		return -EINVAL;
	return 0;
}

static int spin_on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;
	uint32_t group;

	if (group_of(sni, &group) < 0) {
		audit_violation(world->audit, 0, "on_hello with the server name \"%s\"", sni);
		return -EINVAL;
	}
	if (happens(world, hand_of(hub), PERMILLE_REFUSE))
		return -EACCES;
	answer->credentials = world_credentials_get(world);
	snprintf(answer->group, sizeof(answer->group), "g%u", group);
	snprintf(answer->identity, sizeof(answer->identity), "spinner");
	/* Who refuses after all: what the answer holds is given back by the hub. */
	return happens(world, hand_of(hub), PERMILLE_REFUSE) ? -EACCES : 0;
}

/* Dialled ends in another process's echo: its chain is checked against the files. */
static int verify_remote(
	struct world *world, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	int status = trust_judge(world->trust, chain, 0, verdict->identity, verdict->refusal);

	if (status == -EACCES)
		audit_violation(world->audit, 0, "the far end's certificate: %s", verdict->refusal);
	return status;
}

static int chain_check(struct world *world, const struct ph_chain *chain)
{
	if (world->certs == NULL)
		return chain->count == 0 ? 0 : -EACCES;
	return certs_verify(world->certs, chain);
}

static int spin_on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;
	struct hand *hand = hand_of(hub);
	uint32_t group = 0;
	uint64_t serial;

	(void)expected;
	if (world->trust != NULL)
		return verify_remote(world, chain, verdict);
	if (chain_check(world, chain) < 0) {
		audit_violation(world->audit, 0, "a chain that nobody made, %u long", chain->count);
		return -EACCES;
	}
	if (happens(world, hand, PERMILLE_REFUSE)) {
		snprintf(verdict->refusal, sizeof(verdict->refusal), "by chance");
		return -EACCES;
	}
	if (group_of_peer(world, hand, sni, accepted, verdict, &group) < 0) {
		audit_violation(world->audit, 0,
			"on_verify with the server name \"%s\", group \"%s\"",
			sni != NULL ? sni : "", verdict->group);
		return -EINVAL;
	}
	if (world->certs != NULL) {
		snprintf(verdict->group, sizeof(verdict->group), "g%u", group);
		snprintf(verdict->identity, sizeof(verdict->identity), "spinner");
	}
	if (!accepted)
		return 0;
	verdict->tag = atomic_load(&world->tags[group]);
	serial = audit_accept(world->audit, id, verdict->tag);
	verdict->user = (void *)(uintptr_t)serial;
	return serial != 0 ? 0 : -ENOMEM;
}

static enum ph_refuse spin_on_connect(void *hub_user, uint64_t id, uint64_t tag, void *user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;
	struct hand *hand = hand_of(hub);

	(void)tag;
	audit_on_connect(world->audit, serial_of(user), id, info->node_id);
	answer->node_id = serial_of(user);
	if (happens(world, hand, PERMILLE_REFUSE))
		return PH_REFUSE_BUSY;
	act(world, hand, serial_of(user));
	return PH_ACCEPT;
}

static void spin_on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;
	struct hand *hand = hand_of(hub);
	uint64_t serial = serial_of(user);

	if (info->kind == PH_KIND_RAW)
		audit_on_open_raw(world->audit, serial, id, info->tag, info->accepted != 0);
	else
		audit_on_open(world->audit, serial, id, info->tag, info->accepted != 0);
	if (info->accepted)
		atomic_store(
			&world->accepted[random_below(&hand->random, world->options.connections)],
			serial);
	/* A raw stream's first message is its name: who is at the other end waits for it. */
	if (info->kind == PH_KIND_RAW || happens(world, hand, PERMILLE_ANSWER))
		action_send(world, hand, serial, ANSWER_BYTES_MAX);
	act(world, hand, serial);
}

static int spin_on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;
	struct hand *hand = hand_of(hub);
	uint64_t serial = serial_of(user);

	/* Not taken: the same message must come again, so the audit does not hear of it yet. */
	if (happens(world, hand, PERMILLE_AGAIN))
		return -EAGAIN;
	audit_on_data(world->audit, serial, id, type, data, bytes);
	if (happens(world, hand, PERMILLE_ANSWER))
		action_send(world, hand, serial, ANSWER_BYTES_MAX);
	act(world, hand, serial);
	return 0;
}

static void spin_on_writable(void *hub_user, uint64_t id, void *user)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;

	audit_on_writable(world->audit, serial_of(user), id);
	act(world, hand_of(hub), serial_of(user));
}

static void spin_on_closed(
	void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct world_hub *hub = hub_user;
	struct world *world = hub->world;
	struct hand *hand = hand_of(hub);
	uint64_t serial = serial_of(user);

	audit_on_closed(world->audit, serial, id, receipt);
	if (happens(world, hand, 200))
		action_close(world, hand, serial, action_how(hand));
	if (happens(world, hand, 100))
		action_send(world, hand, serial, MESSAGE_HEAD_BYTES);
	act(world, hand, serial);
}

const struct ph_callbacks world_callbacks = {
	.on_hello = spin_on_hello,
	.on_verify = spin_on_verify,
	.on_connect = spin_on_connect,
	.on_open = spin_on_open,
	.on_data = spin_on_data,
	.on_writable = spin_on_writable,
	.on_closed = spin_on_closed,
};
