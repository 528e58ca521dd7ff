/* Single operations of a spin; see action.h. */
#include "action.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FLOOD_MESSAGES 8u /* of 128 KiB on average: more than any queue of ours takes */
#define LOOK_IDS 16u
#define LISTEN_DIALS 3u
#define LOOK_RECEIPTS 4u
#define LOOK_VISITS_MAX 64u

uint64_t action_pick(struct world *world, struct hand *hand)
{
	uint32_t seat = random_below(&hand->random, world->options.connections);
	uint64_t serial;

	if (random_permille(&hand->random, 500))
		serial = atomic_load(&world->dialled[seat]);
	else
		serial = atomic_load(&world->accepted[seat]);
	return serial == SEAT_RESERVED ? 0 : serial;
}

enum ph_how action_how(struct hand *hand)
{
	return random_permille(&hand->random, 350) ? PH_ABORT : PH_GRACEFUL;
}

/* ---- open ------------------------------------------------------------------------------ */

/* Names as the peer protocol wants them; groups differ by the tag's place, not by the tag. */
struct dial_names {
	char sni[64];
	char group[32];
	char source[32];
};

static void dial_names_set(struct dial_names *names, uint32_t group)
{
	snprintf(names->sni, sizeof(names->sni), "any.g%u.p2p", group);
	snprintf(names->group, sizeof(names->group), "g%u", group);
	snprintf(names->source, sizeof(names->source), "spinner");
}

static bool tag_has_ended(struct world *world, uint32_t group, uint64_t tag)
{
	return atomic_load(&world->tags[group]) != tag || atomic_load(&world->is_ending);
}

/* Where to, and how one speaks there. */
struct target {
	ph_address address;
	enum ph_framing framing;
};

static struct target target_choose(struct world *world, struct hand *hand)
{
	uint32_t hub = random_below(&hand->random, world->options.hub_count);
	uint32_t listener = random_below(&hand->random, WORLD_LISTENERS);

	if (world->options.is_remote)
		return (struct target){
			.address = world->options.remote, .framing = PH_FRAMING_MESSAGE};
	return (struct target){
		.address = world_address(world, hub, listener), .framing = world_framing(listener)};
}

static enum ph_kind kind_choose(struct hand *hand, enum ph_framing framing)
{
	if (framing == PH_FRAMING_RAW)
		return PH_KIND_RAW;
	return random_permille(&hand->random, 200) ? PH_KIND_NEIGHBOR : PH_KIND_DIRECT;
}

/* Returns the serial, or 0 when there is no connection. */
static uint64_t dial(struct world *world, struct hand *hand, uint32_t group, uint64_t tag,
	const struct target *target)
{
	uint32_t from = random_below(&hand->random, world->options.hub_count);
	struct dial_names names;
	struct ph_open_options options = {
		.address = target->address,
		.kind = kind_choose(hand, target->framing),
		.framing = target->framing,
		.tls = world->options.tls,
		.tag = tag,
	};
	uint64_t serial, *id;
	struct ph_hub *hub;
	int status;

	dial_names_set(&names, group);
	options.sni = names.sni;
	options.group = names.group;
	options.source = world->trust != NULL ? trust_identity(world->trust) : names.source;
	serial = audit_dial(world->audit, tag, &id);
	if (serial == 0)
		return 0;
	options.node_id = serial;
	options.user = (void *)(uintptr_t)serial;
	hub = world_hub_enter(world, hand, from);
	if (hub == NULL) {
		audit_dial_failed(world->audit, serial);
		return 0;
	}
	options.credentials = world_credentials_get(world);
	status = ph_open(hub, &options, id);
	ph_credentials_put(options.credentials);
	world_hub_leave(world, hand, from);
	if (status == 0) {
		audit_dial_done(world->audit, serial);
		return serial;
	}
	audit_dial_failed(world->audit, serial);
	/* Inside a callback of a hub that is stopping for a restart there is no tag that has not. */
	if (status == -ESHUTDOWN && !tag_has_ended(world, group, tag) &&
		!atomic_load(&world->hubs[from].is_closed))
		audit_violation(world->audit, 0, "ph_open: -ESHUTDOWN, but its tag has not ended");
	else if (status != -ESHUTDOWN && status != -EMFILE && status != -ENOMEM)
		audit_violation(world->audit, 0, "ph_open answered %d", status);
	return 0;
}

/* Take an empty seat, so that no other thread fills it too. */
static bool seat_reserve(struct world *world, uint32_t seat)
{
	uint64_t serial = atomic_load(&world->dialled[seat]);
	struct audit_ref ref;

	if (serial == SEAT_RESERVED)
		return false;
	if (serial != 0 && audit_enter(world->audit, serial, &ref)) {
		audit_leave(world->audit, &ref);
		if (!ref.had_ended)
			return false;
	}
	return atomic_compare_exchange_strong(&world->dialled[seat], &serial, SEAT_RESERVED);
}

static void open_at(struct world *world, struct hand *hand, const struct target *target)
{
	uint32_t seat = random_below(&hand->random, world->options.connections);
	uint32_t group = random_below(&hand->random, WORLD_GROUPS);
	uint64_t serial;

	if (atomic_load(&world->is_ending) || !seat_reserve(world, seat))
		return;
	serial = dial(world, hand, group, atomic_load(&world->tags[group]), target);
	atomic_store(&world->dialled[seat], serial);
	if (serial != 0 && random_permille(&hand->random, 60))
		action_close(world, hand, serial, action_how(hand));
}

void action_open(struct world *world, struct hand *hand)
{
	const struct target target = target_choose(world, hand);

	open_at(world, hand, &target);
}

void action_open_at(
	struct world *world, struct hand *hand, const ph_address *at, enum ph_framing framing)
{
	const struct target target = {.address = *at, .framing = framing};

	open_at(world, hand, &target);
}

void action_ended_group(struct world *world, struct hand *hand)
{
	const struct target target = target_choose(world, hand);
	uint64_t tag =
		atomic_load(&world->ended_tags[random_below(&hand->random, WORLD_ENDED_TAGS)]);

	if (tag == 0 || atomic_load(&world->is_ending))
		return;
	/* Tags only count up, so no group has this one now and -ESHUTDOWN is the right answer. */
	if (dial(world, hand, 0, tag, &target) != 0)
		audit_violation(world->audit, 0, "ph_open for the ended tag %llu was accepted",
			(unsigned long long)tag);
}

/* ---- send, close, pause ---------------------------------------------------------------- */

static int send_entered(
	struct world *world, struct hand *hand, const struct audit_ref *ref, uint32_t bytes_max)
{
	struct message_head head = {
		.sender = ref->serial,
		.lane = hand->lane,
		.sequence = audit_send_begin(world->audit, ref, hand->lane),
		.bytes = MESSAGE_HEAD_BYTES +
			random_below(&hand->random, bytes_max - MESSAGE_HEAD_BYTES + 1),
	};
	uint32_t cut = random_below(&hand->random, head.bytes + 1);
	struct ph_part parts[2];
	uint64_t begin_ns = now_ns();
	uint8_t type[16];
	int status;

	message_write(&head, hand->payload, type);
	parts[0] = (struct ph_part){.data = hand->payload, .bytes = cut};
	parts[1] = (struct ph_part){.data = hand->payload + cut, .bytes = head.bytes - cut};
	status = ph_send(ref->id, ref->tag, type, parts, 2);
	audit_send_result(world->audit, ref, hand->lane, head.bytes, status, begin_ns);
	return status;
}

void action_send(struct world *world, struct hand *hand, uint64_t serial, uint32_t bytes_max)
{
	struct audit_ref ref;

	if (!audit_enter(world->audit, serial, &ref))
		return;
	(void)send_entered(world, hand, &ref, bytes_max);
	audit_leave(world->audit, &ref);
}

void action_flood(struct world *world, struct hand *hand, uint64_t serial)
{
	struct audit_ref ref;
	int status = 0;

	if (!audit_enter(world->audit, serial, &ref))
		return;
	for (uint32_t i = 0; i < FLOOD_MESSAGES && status == 0; i++)
		status = send_entered(world, hand, &ref, MESSAGE_BYTES_MAX);
	audit_leave(world->audit, &ref);
}

void action_close(struct world *world, struct hand *hand, uint64_t serial, enum ph_how how)
{
	uint32_t reason = how == PH_ABORT ? REASON_CLOSE_ABORT : REASON_CLOSE;
	uint64_t begin_ns = now_ns();
	struct audit_ref ref;
	int status;

	(void)hand;
	if (!audit_enter(world->audit, serial, &ref))
		return;
	status = ph_close(ref.id, ref.tag, how, reason, "spin");
	audit_close_result(world->audit, &ref, how, reason, status, begin_ns);
	audit_leave(world->audit, &ref);
}

bool action_is_open(struct world *world, uint64_t serial)
{
	struct audit_ref ref;

	if (!audit_enter(world->audit, serial, &ref))
		return false;
	audit_leave(world->audit, &ref);
	return ref.is_open && !ref.had_ended;
}

void action_close_some(struct world *world, struct hand *hand)
{
	uint64_t serial = action_pick(world, hand);

	if (action_is_open(world, serial) || random_permille(&hand->random, 30))
		action_close(world, hand, serial, action_how(hand));
}

void action_pause(struct world *world, uint64_t serial)
{
	struct audit_ref ref;

	if (!audit_enter(world->audit, serial, &ref))
		return;
	audit_call_result(world->audit, &ref, "ph_pause", ph_pause(ref.id, ref.tag));
	audit_leave(world->audit, &ref);
}

void action_resume(struct world *world, uint64_t serial)
{
	struct audit_ref ref;

	if (!audit_enter(world->audit, serial, &ref))
		return;
	audit_call_result(world->audit, &ref, "ph_resume", ph_resume(ref.id, ref.tag));
	audit_leave(world->audit, &ref);
}

/* ---- calls that must not find anything ------------------------------------------------- */

void action_stale(struct world *world, struct hand *hand)
{
	uint64_t serial;

	if (!audit_pick_ended(world->audit, &hand->random, &serial))
		return;
	switch (random_below(&hand->random, 4)) {
	case 0:
		action_close(world, hand, serial, action_how(hand));
		break;
	case 1:
		action_send(world, hand, serial, MESSAGE_HEAD_BYTES);
		break;
	case 2:
		action_pause(world, serial);
		break;
	default:
		action_resume(world, serial);
		break;
	}
}

static int stranger_call(struct hand *hand, uint64_t id, uint64_t tag)
{
	const struct ph_part part = {.data = hand->payload, .bytes = 1};
	const uint8_t type[16] = {1};

	switch (random_below(&hand->random, 4)) {
	case 0:
		return ph_close(id, tag, action_how(hand), 0, NULL);
	case 1:
		return ph_send(id, tag, type, &part, 1);
	case 2:
		return ph_pause(id, tag);
	default:
		return ph_resume(id, tag);
	}
}

void action_stranger(struct world *world, struct hand *hand)
{
	uint64_t tag = random_next(&hand->random) | (1ull << 63); /* ours count up from 1 */
	uint64_t id = random_next(&hand->random) >> random_below(&hand->random, 60);
	struct audit_ref ref;
	int status;

	if (random_permille(&hand->random, 500)) {
		status = stranger_call(hand, id, tag);
		if (status != -ENOENT)
			audit_violation(world->audit, 0, "a call on the made-up id %#llx got %d",
				(unsigned long long)id, status);
		return;
	}
	if (!audit_enter(world->audit, action_pick(world, hand), &ref))
		return;
	status = stranger_call(hand, ref.id, tag);
	audit_leave(world->audit, &ref);
	if (status != -ENOENT)
		audit_violation(
			world->audit, ref.serial, "a call with a stranger's tag got %d", status);
}

/* ---- many at once ---------------------------------------------------------------------- */

static int look_visit(void *context, const struct ph_connection *connection)
{
	uint32_t *visits = context;

	(void)connection;
	return ++*visits >= LOOK_VISITS_MAX;
}

void action_look(struct world *world, struct hand *hand)
{
	uint32_t which = random_below(&hand->random, world->options.hub_count);
	struct ph_hub *hub = world_hub_enter(world, hand, which);
	struct ph_receipt receipts[LOOK_RECEIPTS];
	uint64_t ids[LOOK_IDS];
	struct ph_statistics stats;
	uint32_t visits = 0;
	char group[32];

	if (hub == NULL)
		return;
	switch (random_below(&hand->random, 4)) {
	case 0:
		snprintf(group, sizeof(group), "g%u", random_below(&hand->random, WORLD_GROUPS));
		ph_find(hub, group, "spinner", ids, LOOK_IDS);
		break;
	case 1:
		ph_connections(hub, NULL, look_visit, &visits);
		break;
	case 2:
		ph_stats(hub, &stats);
		break;
	default:
		if (ph_receipts(hub, receipts, LOOK_RECEIPTS) > LOOK_RECEIPTS)
			audit_violation(world->audit, 0, "ph_receipts wrote more than asked");
		break;
	}
	world_hub_leave(world, hand, which);
}

/* One or more conditions of every kind; the whole hub now and then, but only a dry run then. */
static void filter_choose(
	struct world *world, struct hand *hand, struct ph_filter *filter, char group[32])
{
	uint32_t chosen = random_below(&hand->random, WORLD_GROUPS);

	memset(filter, 0, sizeof(*filter));
	filter->age_ms_min = random_below(&hand->random, 3) * 20;
	filter->idle_ms_min = random_below(&hand->random, 3) * 10;
	snprintf(group, 32, "g%u", chosen);
	if (random_permille(&hand->random, 400)) {
		filter->has_tag = 1;
		filter->tag = atomic_load(&world->tags[chosen]);
	}
	if (random_permille(&hand->random, 400))
		filter->group = group;
	if (random_permille(&hand->random, 200))
		filter->identity = random_permille(&hand->random, 900) ? "spinner" : "nobody";
	if (random_permille(&hand->random, 300)) {
		filter->has_subnet = 1;
		filter->subnet = world_address(world, 0, chosen % WORLD_LISTENERS);
		filter->subnet_bits = 96 + random_below(&hand->random, 33);
	}
	if (!filter->has_tag && filter->group == NULL && !filter->has_subnet) {
		filter->has_tag = 1;
		filter->tag = atomic_load(&world->tags[chosen]);
	}
}

/* A listener that comes, is dialled and goes again, with what it accepts under way. */
void action_listen(struct world *world, struct hand *hand)
{
	uint32_t which = random_below(&hand->random, world->options.hub_count);
	struct ph_hub *hub = world_hub_enter(world, hand, which);
	struct ph_listen_options options = {
		.framing = world_framing(random_below(&hand->random, WORLD_LISTENERS)),
		.tls = world->options.tls};
	ph_address bound;
	int listener, status;

	if (hub == NULL)
		return;
	/* An address beside those of the hub's own listeners, any port. */
	options.address = world_address(world, which, 0);
	options.address.sin6_addr.s6_addr[15] = (uint8_t)(200 + random_below(&hand->random, 8));
	options.address.sin6_port = 0;
	listener = ph_listen(hub, &options, &bound);
	if (listener >= 0) {
		for (uint32_t i = 0; i < LISTEN_DIALS; i++)
			action_open_at(world, hand, &bound, options.framing);
		status = ph_listen_end(hub, listener);
		if (status != 0)
			audit_violation(world->audit, 0, "ph_listen_end answered %d", status);
	} else if (listener != -ENOMEM && listener != -EMFILE && listener != -EADDRINUSE) {
		audit_violation(world->audit, 0, "ph_listen answered %d", listener);
	}
	world_hub_leave(world, hand, which);
}

void action_close_where(struct world *world, struct hand *hand)
{
	uint32_t which = random_below(&hand->random, world->options.hub_count);
	struct ph_hub *hub = world_hub_enter(world, hand, which);
	struct ph_filter filter;
	char group[32];
	int64_t count;

	if (hub == NULL)
		return;
	filter_choose(world, hand, &filter, group);
	count = ph_close_where(hub, &filter, action_how(hand), REASON_WHERE,
		random_permille(&hand->random, 300),
		random_permille(&hand->random, 300) ? 1 + random_below(&hand->random, 50) : 0);
	world_hub_leave(world, hand, which);
	if (count < 0 && count != -ENOMEM)
		audit_violation(world->audit, 0, "ph_close_where answered %lld", (long long)count);
}
