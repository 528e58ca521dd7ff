/*
 * A run: what the seed makes of faults, hubs and users, from start to end. Users are threads of the
 * simulated process that call the public functions on live, stale, foreign and made-up ids; callbacks do
 * the same from inside.
 */
#include "tests/sim/app.h"

#include "engine/check.h"
#include "engine/shard.h"
#include "tests/sim/ring_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX 20000u
#define USERS_MAX 6u
#define LISTENER_USER ((void *)0x11)

struct app_hub app_hubs[APP_HUBS_MAX];
uint32_t app_hubs_count;

static uint64_t tag_next = 1000;
static uint32_t message_bytes_max; /* of this run */
static uint32_t refuse_rate; /* callbacks that say no */
static bool kernel_is_slow; /* in this run operations may take longer than the watchdog waits */
static bool users_stop; /* callbacks begin nothing new any more */
static uint64_t tempting; /* an id: a thread stands still inside it; 0 none */

static const char *const names[MODEL_NAMES] = {"p0.peer", "p1.peer", "p2.peer", "p3.peer"};
static const char *const groups[MODEL_GROUPS] = {"g0.group", "g1.group"};

/* ---- picking ------------------------------------------------------------------------------------ */

/* A connection that is or was, the newer and the living the likelier; NULL when there is none. */
static struct record *pick_record(void)
{
	uint32_t span = model_count < 24 ? model_count : random_one_in(8) ? model_count : 24;
	struct record *record = NULL;

	for (uint32_t tries = random_below(8); span > 0; tries--) {
		record = &model_records[model_count - 1 - random_below(span)];
		if (tries == 0 || (record->opened && !record->closed))
			break;
	}
	return record != NULL && record->has_id ? record : NULL;
}

static struct app_hub *pick_hub(void)
{
	return &app_hubs[random_below(app_hubs_count)];
}

static const struct slot *slot_of(uint64_t id)
{
	struct home *home = home_of(id);

	return home != NULL ? &home->table.slots[slot_id_slot(id)] : NULL;
}

static uint64_t word_of(uint64_t id)
{
	const struct slot *slot = slot_of(id);

	return slot != NULL
		? __atomic_load_n((const uint64_t *)(const void *)&slot->word, __ATOMIC_RELAXED)
		: 0;
}

/* An accepted connection gets its own tag only when on_verify has returned. */
static uint64_t tag_of(uint64_t id)
{
	const struct slot *slot = slot_of(id);

	return slot != NULL
		? __atomic_load_n((const uint64_t *)(const void *)&slot->tag, __ATOMIC_RELAXED)
		: 0;
}

static bool word_is_live(uint64_t word, uint64_t id)
{
	return slot_word_generation(word) == slot_id_generation(id) && !(word & SLOT_CLOSE) &&
		(slot_word_state(word) == SLOT_OPENING || slot_word_state(word) == SLOT_OPEN);
}

/* Which state a close meets, for the table's sake. */
static void count_state(uint64_t id)
{
	static const enum sim_event events[CONN_STATE_COUNT] = {
		[CONN_CONNECTING] = SIM_close_in_connecting,
		[CONN_HANDSHAKE] = SIM_close_in_handshake,
		[CONN_GREETING] = SIM_close_in_greeting,
		[CONN_OPEN] = SIM_close_in_open,
		[CONN_DRAINING] = SIM_close_in_draining,
		[CONN_LEAVING] = SIM_close_in_leaving,
		[CONN_CLOSING] = SIM_close_in_closing,
	};
	const struct home *home = home_of(id);
	const struct conn *conn;

	if (home == NULL || slot_word_generation(word_of(id)) != slot_id_generation(id) ||
		slot_word_state(word_of(id)) == SLOT_FREE)
		return;
	conn = &home->conns[slot_id_slot(id)];
	if (conn->generation == slot_id_generation(id) && conn->state != CONN_FREE)
		sim_count(events[conn->state]);
}

/* ---- calls on ids --------------------------------------------------------------------------------- */

static void user_send(struct record *record)
{
	static uint8_t buffers[FIBERS_MAX + 1][MESSAGE_BYTES_MAX];
	uint8_t *data = buffers[fiber_number()];
	bool was_dead = record->dead;
	uint64_t before = word_of(record->id), tag = tag_of(record->id);
	struct ph_part parts[3];
	size_t bytes = model_message(record, data, random_size(message_bytes_max)), cut;
	int status;

	cut = random_below((uint32_t)bytes);
	parts[0] = (struct ph_part){data, cut};
	parts[1] = (struct ph_part){NULL, 0};
	parts[2] = (struct ph_part){data + cut, bytes - cut};
	TRACE3("send %llu bytes on %llx (%llu)", bytes, record->id, record->number);
	status = ph_send(record->id, record->tag, model_type(), parts, 3);
	TRACE3("send of %llu bytes on %llx: %lld", bytes, record->id, status);
	model_accepted(record, status, bytes, was_dead);
	if (status == -ENOENT && tag == record->tag && slot_word_state(before) == SLOT_OPEN &&
		word_is_live(before, record->id) && word_is_live(word_of(record->id), record->id))
		breach("an open connection, %llx, was not found by a send",
			(unsigned long long)record->id);
	if (status == -ENOENT)
		sim_count(record->closed ? SIM_send_stale : SIM_send_dead);
	else
		sim_count(status == 0		    ? SIM_send_accepted
				: status == -EAGAIN ? SIM_send_full
						    : SIM_send_no_memory);
}

static void close_won(struct record *record, enum ph_how how, uint32_t reason, const char *text)
{
	sim_count(SIM_close_won);
	record->wins++;
	record->dead = true;
	/* The owner may stand between its step to OPEN and on_open: then that still comes. */
	record->dead_unopened = slot_word_state(word_of(record->id)) != SLOT_OPEN;
	record->how = how;
	record->reason = reason;
	if (text != NULL)
		snprintf(record->text, sizeof(record->text), "%s", text);
	if (shard_self() != NULL && shard_self()->home->index == slot_id_home(record->id))
		record->no_more_data = true;
}

static void user_close(struct record *record)
{
	static const char *const texts[] = {"", "enough", "moved away",
		("a long text, as long as it may be: 0123456789 0123456789 0123456789 0123456789 "
		 "0123456789 0123456789 0123456789 01234567")};
	enum ph_how how = random_one_in(3) ? PH_ABORT : PH_GRACEFUL;
	uint32_t reason = random_one_in(3) ? APP_REASON_CLOSE + random_below(100) : 0;
	const char *text = random_one_in(3) ? texts[random_below(4)] : NULL;
	uint64_t before = word_of(record->id), tag = tag_of(record->id);
	int status;

	count_state(record->id);
	if (shard_self() != NULL)
		sim_count(SIM_close_in_callback);
	if (reason != 0)
		sim_count(SIM_close_with_reason);
	TRACE4("close %llx (%llu) how %llu reason %llu", record->id, record->number, how, reason);
	status = ph_close(record->id, record->tag, how, reason, text);
	TRACE2("close of %llx: %lld", record->id, status);
	switch (status) {
	case 0:
		close_won(record, how, reason, text);
		break;
	case -EALREADY:
		if (how != PH_ABORT || word_is_live(word_of(record->id), record->id))
			breach("rule 2: a close of %llx returned -EALREADY without a cause",
				(unsigned long long)record->id);
		record->upgrades++;
		sim_count(SIM_close_upgraded);
		break;
	case -ENOENT:
		sim_count(SIM_close_lost);
		if (tag == record->tag && word_is_live(before, record->id) &&
			word_is_live(word_of(record->id), record->id))
			breach("a live connection, %llx, was not found by a close",
				(unsigned long long)record->id);
		break;
	default:
		breach("ph_close of %llx returned %d", (unsigned long long)record->id, status);
	}
}

static void must_not_find(int status, const char *what)
{
	if (status != -ENOENT)
		breach("%s returned %d instead of -ENOENT", what, status);
}

/* Ids that are nobody's, or not under this tag: nothing may happen. */
static void user_close_wrong(void)
{
	struct record *record = pick_record();
	uint64_t id;

	if (record == NULL)
		return;
	switch (random_below(3)) {
	case 0:
		sim_count(SIM_close_wrong_tag);
		must_not_find(ph_close(record->id, record->tag + 1000000, PH_ABORT, 0, NULL),
			"ph_close with another tag");
		break;
	case 1:
		id = record->id ^ (uint64_t)(1 + random_below(7)) << 32;
		id ^= random_below(4);
		if (model_find(id) != NULL ||
			slot_id_generation(id) == slot_word_generation(word_of(id)))
			break;
		sim_count(SIM_close_made_up);
		must_not_find(
			ph_close(id, record->tag, PH_ABORT, 0, NULL), "ph_close of a made-up id");
		break;
	default:
		if (!record->closed)
			break;
		sim_count(SIM_close_stale);
		must_not_find(ph_close(record->id, record->tag, PH_ABORT, 0, NULL),
			"ph_close of a stale id");
		must_not_find(ph_pause(record->id, record->tag), "ph_pause of a stale id");
		break;
	}
}

static void user_pause(struct record *record, bool pause)
{
	int status = pause ? ph_pause(record->id, record->tag) : ph_resume(record->id, record->tag);

	TRACE3("pause %llu of %llx: %lld", pause, record->id, status);
	if (status == 0 && pause)
		sim_count(SIM_paused);
	if (status != 0 && status != -ENOENT)
		breach("ph_pause of %llx returned %d", (unsigned long long)record->id, status);
}

/* ---- calls on hubs ---------------------------------------------------------------------------------- */

static bool hub_enter(struct app_hub *hub)
{
	if (hub->hub == NULL || hub->stopping)
		return false;
	hub->callers++;
	return true;
}

static void hub_leave(struct app_hub *hub)
{
	hub->callers--;
}

static uint64_t pick_tag(struct app_hub *hub)
{
	return hub->tags[random_below(hub->tags_count)];
}

static bool tag_is_ended(const struct app_hub *hub, uint64_t tag)
{
	for (uint32_t i = 0; i < hub->tags_count; i++)
		if (hub->tags[i] == tag)
			return hub->ended[i];
	return true; /* another has its place by now */
}

/* Every other dial is to where a hub's last one was, by the same to the same: only so are there secrets to
 * resume with. The listener may have ended meanwhile. */
static void come_back(
	struct record *record, const struct app_hub *hub, const struct app_listener **listener)
{
	static struct {
		const struct app_listener *listener;
		uint32_t source, target, group;
	} lasts[APP_HUBS_MAX];
	uint32_t number = (uint32_t)(hub - app_hubs);

	if (record->number % 2 == 1 && lasts[number].listener != NULL) {
		*listener = lasts[number].listener;
		record->source = lasts[number].source;
		record->target = lasts[number].target;
		record->group = lasts[number].group;
	}
	lasts[number].listener = *listener;
	lasts[number].source = record->source;
	lasts[number].target = record->target;
	lasts[number].group = record->group;
}

static void user_open(struct app_hub *hub)
{
	struct app_hub *other = pick_hub();
	const struct app_listener *listener = &other->listeners[0];
	struct ph_open_options options = {.kind = PH_KIND_DIRECT};
	struct record *record;
	char sni[32];
	int status;

	if (!hub_enter(hub))
		return;
	for (uint32_t tries = 0; tries < 6 && (tries == 0 || listener->number < 0); tries++)
		listener = &other->listeners[random_below(APP_LISTENERS_MAX)];
	record = model_new(hub, true);
	record->tag = pick_tag(hub);
	record->source = random_below(MODEL_NAMES);
	record->target = random_below(MODEL_NAMES);
	record->group = random_below(MODEL_GROUPS);
	come_back(record, hub, &listener);
	record->framing = listener->framing;
	record->tls = listener->tls;
	options.framing = record->framing;
	options.tls = record->tls;
	options.kind = random_one_in(2) ? PH_KIND_DIRECT : PH_KIND_NEIGHBOR;
	if (record->tls == PH_TLS_MUTUAL)
		options.credentials = tls_sim_credentials(record->source);
	snprintf(sni, sizeof(sni), "%c-%c", (char)('0' + record->target),
		(char)('0' + record->group));
	options.sni = sni;
	options.group = groups[record->group];
	options.source = names[record->source];
	if (random_one_in(2))
		options.expected =
			names[random_one_in(10) ? random_below(MODEL_NAMES) : record->target];
	options.node_id = record->number + 1;
	options.tag = record->tag;
	options.user = record;
	if (ph_address_parse("127.0.0.1:1", &options.address) < 0)
		breach("an address");
	if (listener->number >= 0 && !random_one_in(20))
		options.address.sin6_port = listener->port;
	TRACE4("open (%llu) framing %llu tls %llu to hub %llu", record->number, record->framing,
		record->tls, other->number);
	status = ph_open(hub->hub, &options, &record->id);
	TRACE3("open (%llu): %lld, id %llx", record->number, status, record->id);
	if (status == 0) {
		model_id(record, record->id);
	} else {
		record->id = 0;
		if (record->has_id)
			breach("ph_open failed with %d and has an id", status);
		if (status == -EMFILE)
			sim_count(SIM_table_full);
		else if (status == -ESHUTDOWN && !tag_is_ended(hub, record->tag))
			breach("ph_open: the tag %llu has not ended",
				(unsigned long long)record->tag);
		else if (status != -ENOMEM && status != -ESHUTDOWN)
			breach("ph_open returned %d", status);
	}
	hub_leave(hub);
}

static void user_tag_end(struct app_hub *hub)
{
	uint32_t at = random_below(hub->tags_count);
	enum ph_how how = random_one_in(3) ? PH_ABORT : PH_GRACEFUL;
	uint64_t tag;
	int status;

	if (!hub_enter(hub))
		return;
	tag = hub->tags[at];
	hub->ended[at] = true;
	status = ph_tag_end(hub->hub, tag, how, 0);
	TRACE3("tag %llu of hub %llu ends: %lld", tag, hub->number, status);
	sim_count(SIM_tag_ended);
	if (status != 0 && status != -ENOMEM)
		breach("ph_tag_end returned %d", status);
	if (status == 0 && hub->tags[at] == tag) { /* else another fiber ended it, too */
		hub->tags[at] = tag_next++;
		hub->ended[at] = false;
	}
	hub_leave(hub);
}

static void user_close_where(struct app_hub *hub)
{
	struct ph_filter filter = {.tag = pick_tag(hub)};
	struct ph_resume_filter secrets = {.tag = filter.tag};
	uint32_t spread_ms = random_one_in(2) ? random_size(1000) : 0;
	enum ph_how how = random_one_in(2) ? PH_ABORT : PH_GRACEFUL;
	uint32_t reason = APP_REASON_WHERE + random_below(10);
	bool dry_run = random_one_in(4);
	int64_t status;

	if (!hub_enter(hub))
		return;
	filter.has_tag = random_one_in(2);
	filter.idle_ms_min = random_one_in(3) ? random_size(200) : 0;
	secrets.has_tag = filter.has_tag;
	if (filter.idle_ms_min > 100)
		(void)ph_resume_drop(hub->hub, &secrets);
	status = ph_close_where(hub->hub, &filter, how, reason, dry_run, spread_ms);
	TRACE3("close where on hub %llu, spread %llu: %lld", hub->number, spread_ms, status);
	sim_count(spread_ms > 0 ? SIM_close_where_spread : SIM_close_where);
	if (status < 0 && status != -ENOMEM)
		breach("ph_close_where returned %lld", (long long)status);
	hub_leave(hub);
}

static int visit_one(void *context, const struct ph_connection *connection)
{
	struct record *record = model_find(connection->id);

	(void)context;
	if (record == NULL || record->opened == 0)
		return 0; /* on_open comes right behind */
	if (record->tag != connection->tag || connection->accepted == record->dialled)
		breach("ph_connections shows %llx with another tag or direction",
			(unsigned long long)connection->id);
	return 0;
}

/* Some limits of every third hub, small enough to be met. */
static void limits_random(uint64_t limits[PH_LIMIT_COUNT])
{
	static const struct {
		enum ph_limit limit;
		uint32_t least, most;
	} ranges[] = {
		{PH_LIMIT_CONNECTIONS, 1, 8},
		{PH_LIMIT_GROUP, 1, 6},
		{PH_LIMIT_IDENTITY, 1, 4},
		{PH_LIMIT_SUBNET, 2, 8},
		{PH_LIMIT_HANDSHAKES, 1, 4},
		{PH_LIMIT_HANDSHAKE_SHARE, 5, 100},
		{PH_LIMIT_ACCEPT_RATE, 1, 20},
		{PH_LIMIT_MESSAGE_RATE, 1, 10},
		{PH_LIMIT_SEND_TOTAL, 2000, 100000},
		{PH_LIMIT_MEMORY, 100000, 400000},
		{PH_LIMIT_LOOP_LAG, 1, 100},
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (random_one_in(3))
			limits[ranges[i].limit] = random_between(ranges[i].least, ranges[i].most);
}

/* As a reload does: those that are on get other values. */
static void limits_change(struct app_hub *hub)
{
	uint64_t limits[PH_LIMIT_COUNT] = {0};

	limits_random(limits);
	for (int i = 0; i < PH_LIMIT_COUNT; i++) {
		if (hub->options.limits[i] == 0)
			limits[i] = 0;
		else if (limits[i] == 0)
			limits[i] = hub->options.limits[i];
		if (limits[i] > hub->limits_most[i])
			hub->limits_most[i] = limits[i];
	}
	if (ph_limits_set(hub->hub, limits) < 0)
		breach("ph_limits_set refuses what it was given at the start");
	sim_count(SIM_limits_changed);
}

static void user_look(struct app_hub *hub)
{
	static struct ph_receipt receipts[64];
	struct ph_limit_state states[PH_LIMIT_COUNT];
	struct ph_statistics stats;
	uint64_t ids[8];
	uint32_t count, group;

	if (!hub_enter(hub))
		return;
	switch (random_below(5)) {
	case 0:
		group = random_below(MODEL_GROUPS);
		count = ph_find(hub->hub, groups[group], names[random_below(MODEL_NAMES)], ids, 8);
		for (uint32_t i = 0; i < count && i < 8; i++)
			if (ids[i] == 0 || home_of(ids[i]) == NULL)
				breach("ph_find gave %llx", (unsigned long long)ids[i]);
		sim_count(SIM_find);
		break;
	case 1:
		sim_count(SIM_snapshot);
		(void)ph_connections(hub->hub, NULL, visit_one, NULL);
		break;
	case 2:
		ph_stats(hub->hub, &stats);
		if (stats.live > stats.slots)
			breach("more live connections than slots");
		break;
	case 3:
		ph_limits_read(hub->hub, states);
		if (states[PH_LIMIT_CONNECTIONS].use > states[PH_LIMIT_CONNECTIONS].value &&
			states[PH_LIMIT_CONNECTIONS].value ==
				hub->limits_most[PH_LIMIT_CONNECTIONS] &&
			hub->limits_most[PH_LIMIT_CONNECTIONS] != 0)
			breach("rule 9: more connections are counted than the limit allows");
		limits_change(hub);
		break;
	default:
		count = ph_receipts(hub->hub, receipts, 64);
		for (uint32_t i = 0; i < count; i++) {
			struct record *record = model_find(receipts[i].id);

			if (record != NULL && record->closed &&
				record->receipt.reason != receipts[i].reason)
				breach("the kept receipt of %llx is not the one that was given",
					(unsigned long long)receipts[i].id);
		}
		break;
	}
	hub_leave(hub);
}

static void listen_begin(struct app_hub *hub, struct app_listener *listener)
{
	struct ph_listen_options options = {.tag = hub->tags[0], .user = LISTENER_USER};
	ph_address bound;
	int status;

	options.framing = listener->framing;
	options.tls = listener->tls;
	if (ph_address_parse("127.0.0.1:0", &options.address) < 0)
		breach("an address");
	status = ph_listen(hub->hub, &options, &bound);
	TRACE3("listen on hub %llu: %lld port %llu", hub->number, status,
		status >= 0 ? bound.sin6_port : 0);
	if (status >= 0) {
		listener->port = bound.sin6_port;
		listener->number = status;
	}
}

static void user_listen(struct app_hub *hub)
{
	struct app_listener *listener = &hub->listeners[random_below(APP_LISTENERS_MAX)];
	int number = listener->number, status;

	if (!hub_enter(hub))
		return;
	if (number < 0) {
		listener->number = -2; /* another user keeps its hands off */
		if (number == -1) {
			listener->number = -1;
			listen_begin(hub, listener);
		} else {
			listener->number = number;
		}
	} else {
		listener->number = -2;
		status = ph_listen_end(hub->hub, number);
		TRACE2("listener %llu ends: %lld", number, status);
		if (status != 0)
			breach("ph_listen_end returned %d", status);
		sim_count(shard_self() != NULL ? SIM_listen_ended_in_callback : SIM_listen_ended);
		listener->number = -1;
	}
	hub_leave(hub);
}

/* ---- callbacks ------------------------------------------------------------------------------------- */

/* Whatever a user may do inside a callback. */
static void inside(struct record *own)
{
	struct record *other = pick_record();

	if (users_stop)
		return;
	switch (random_below(24)) {
	case 0:
	case 1:
		if (own != NULL && own->has_id)
			user_close(own);
		break;
	case 2:
		if (other != NULL)
			user_close(other);
		break;
	case 3:
	case 4:
	case 5:
		if (own != NULL && own->opened)
			user_send(own);
		break;
	case 6:
		if (other != NULL && other->opened)
			user_send(other);
		break;
	case 7:
		if (own != NULL && own->has_id)
			user_pause(own, random_one_in(2));
		break;
	case 8:
		user_close_wrong();
		break;
	case 9:
		if (random_one_in(2))
			user_open(pick_hub());
		break;
	case 10:
		user_look(pick_hub());
		break;
	case 11:
		if (random_one_in(4))
			user_listen(pick_hub());
		break;
	case 12:
		if (own != NULL && own->hub->hub != NULL) {
			sim_count(SIM_stop_in_callback);
			if (ph_hub_stop(own->hub->hub, PH_ABORT) != -EDEADLK)
				breach("ph_hub_stop inside a callback was not refused");
		}
		break;
	default:
		break;
	}
}

static struct record *record_of(struct app_hub *hub, uint64_t id, void *user, const char *event)
{
	struct record *record = user;

	if (user == LISTENER_USER || user == NULL) {
		record = model_find(id);
		if (record == NULL) {
			record = model_new(hub, false);
			record->tag = tag_of(id);
		}
	}
	if (record < model_records || record >= model_records + model_count)
		breach("%s of %llx with a stranger's user", event, (unsigned long long)id);
	model_id(record, id);
	if (record->hub != hub)
		breach("%s of %llx at another hub", event, (unsigned long long)id);
	if (record->closed)
		breach("rule 1: %s of %llx after its on_closed", event, (unsigned long long)id);
	if (shard_self() == NULL || shard_self()->home->index != slot_id_home(id))
		breach("%s of %llx on a strange thread", event, (unsigned long long)id);
	return record;
}

static int on_hello(void *context, const char *sni, struct ph_hello_answer *answer)
{
	uint32_t target = (uint32_t)(sni[0] - '0'), group;

	(void)context;
	if (target >= MODEL_NAMES || sni[1] != '-' || fault(refuse_rate, SIM_hello_refused))
		return -EACCES;
	group = (uint32_t)(sni[2] - '0');
	if (group >= MODEL_GROUPS)
		return -EACCES;
	answer->credentials = ph_credentials_get(tls_sim_credentials(target));
	strcpy(answer->group, groups[group]);
	strcpy(answer->identity, names[target]);
	return 0;
}

static int on_verify(void *context, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct app_hub *hub = context;
	struct record *record = model_find(id);
	int name;

	if (record == NULL) {
		if (!accepted)
			breach("on_verify of %llx, which nobody opened", (unsigned long long)id);
		record = model_new(hub, false);
		record->tag = tag_of(id);
	}
	(void)record_of(hub, id, record, "on_verify");
	TRACE2("on_verify of %llx (%llu)", id, record->number);
	inside(record);
	if (accepted) {
		record->tag = verdict->tag = pick_tag(hub);
		verdict->user = record;
	}
	if (fault(refuse_rate, SIM_verify_refused)) {
		record->verify_refused = true;
		strcpy(verdict->refusal, "the user refuses");
		return -EACCES;
	}
	record->tls = chain->count == 0 ? PH_TLS_NONE : PH_TLS_MUTUAL;
	if (chain->count == 0)
		return 0;
	name = tls_sim_name(&chain->der[0]);
	if (name < 0)
		breach("on_verify of %llx with a chain that nobody showed", (unsigned long long)id);
	if (!accepted && expected != NULL && strcmp(expected, names[name]) != 0) {
		record->verify_refused = true;
		return -EACCES;
	}
	if (chain->resumed) {
		sim_count(SIM_resumed);
		if (strcmp(verdict->identity, names[name]) != 0 || chain->x509[0] != NULL)
			breach("%llx was resumed as another peer", (unsigned long long)id);
	}
	strcpy(verdict->identity, names[name]);
	strcpy(verdict->group, groups[(uint32_t)(sni[2] - '0') % MODEL_GROUPS]);
	return 0;
}

static enum ph_refuse on_connect(void *context, uint64_t id, uint64_t tag, void *user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	struct record *record = record_of(context, id, user, "on_connect");

	(void)info;
	TRACE2("on_connect of %llx (%llu)", id, record->number);
	if (tag != record->tag)
		breach("on_connect of %llx with another tag", (unsigned long long)id);
	answer->node_id = record->number + 1;
	inside(record);
	if (fault(refuse_rate, SIM_connect_refused_by_user)) {
		record->connect_refused = true;
		return (enum ph_refuse)random_between(1, 4);
	}
	return PH_ACCEPT;
}

static void on_open(void *context, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct record *record = record_of(context, id, user, "on_open");

	TRACE2("on_open of %llx (%llu)", id, record->number);
	record->framing = info->kind == PH_KIND_RAW ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE;
	model_on_open(record, info);
	for (uint32_t i = random_below(3); i > 0; i--)
		inside(record);
}

static int on_data(void *context, uint64_t id, void *user, const uint8_t *type, const uint8_t *data,
	size_t bytes)
{
	struct record *record = record_of(context, id, user, "on_data");

	TRACE3("on_data of %llx (%llu): %llu bytes", id, record->number, bytes);
	if (record->opened == 0)
		breach("rule 1: on_data of %llx before its on_open", (unsigned long long)id);
	if (record->no_more_data)
		breach("on_data of %llx, which was closed on this very thread",
			(unsigned long long)id);
	if (fault(refuse_rate, SIM_data_refused)) {
		inside(record);
		return -EAGAIN;
	}
	model_delivered(record, type, data, bytes);
	inside(record);
	return 0;
}

static void on_writable(void *context, uint64_t id, void *user)
{
	struct record *record = record_of(context, id, user, "on_writable");

	TRACE1("on_writable of %llx", id);
	sim_count(SIM_writable);
	if (record->opened == 0)
		breach("rule 1: on_writable of %llx before its on_open", (unsigned long long)id);
	inside(record);
}

static void on_closed(void *context, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct record *record = record_of(context, id, user, "on_closed");

	TRACE5("on_closed of %llx (%llu): reason %llu how %llu, dropped %llu", id, record->number,
		receipt->reason, receipt->how, receipt->bytes_dropped);
	model_on_closed(record, receipt);
	must_not_find(ph_close(id, record->tag, PH_ABORT, 0, NULL), "ph_close in on_closed");
	inside(record);
}

/* ---- inside ------------------------------------------------------------------------------------------ */

/*
 * A user's thread that has entered a connection, to send or to look at it, may lose its processor right
 * there. It stands still for long, and the others are told, so that one of them closes just that one: the
 * owner has to wait for who is inside, and to be told when he leaves.
 */
static void app_inside(const struct slot *slot, uint32_t generation)
{
	uint64_t id = 0;

	if (shard_self() != NULL || !fault(sim_rates.hold, SIM_held_inside))
		return;
	for (uint32_t i = 0; i < SLOT_HOMES_MAX && id == 0; i++) {
		const struct home *home = home_of(slot_id(i, 0, 1));

		if (home != NULL && slot >= home->table.slots &&
			slot < home->table.slots + home->table.slot_count)
			id = slot_id(i, (uint32_t)(slot - home->table.slots), generation);
	}
	tempting = id;
	fiber_hold(random_size(4000));
	if (tempting == id)
		tempting = 0;
}

bool __real_slot_send_enter(struct slot *slot, uint32_t generation, uint64_t tag);
bool __wrap_slot_send_enter(struct slot *slot, uint32_t generation, uint64_t tag);
bool __wrap_slot_send_enter(struct slot *slot, uint32_t generation, uint64_t tag)
{
	bool inside = __real_slot_send_enter(slot, generation, tag);

	if (inside)
		app_inside(slot, generation);
	return inside;
}

bool __real_slot_pin(struct slot *slot, uint32_t generation);
bool __wrap_slot_pin(struct slot *slot, uint32_t generation);
bool __wrap_slot_pin(struct slot *slot, uint32_t generation)
{
	bool inside = __real_slot_pin(slot, generation);

	if (inside)
		app_inside(slot, generation);
	return inside;
}

static bool somebody_is_inside(void *on)
{
	(void)on;
	return tempting != 0;
}

static bool user_tempted(void)
{
	struct record *record;

	if (tempting == 0 || random_one_in(4))
		return false;
	record = model_find(tempting);
	tempting = 0;
	if (record == NULL)
		return false;
	sim_count(SIM_closed_while_inside);
	user_close(record);
	return true;
}

/* ---- users ------------------------------------------------------------------------------------------- */

struct user {
	struct app_hub *hub;
	uint32_t actions;
	uint32_t pace_ms;
};

static void user_act(const struct user *user)
{
	struct app_hub *hub = random_one_in(4) ? pick_hub() : user->hub;
	struct record *record = pick_record();
	uint32_t what = random_below(100);

	if (user_tempted())
		return;
	if (what < 20)
		user_open(hub);
	else if (what < 54 && record != NULL)
		user_send(record);
	else if (what < 66 && record != NULL)
		user_close(record);
	else if (what < 69)
		user_close_wrong();
	else if (what < 74 && record != NULL)
		user_pause(record, random_one_in(2));
	else if (what < 78)
		user_look(hub);
	else if (what < 79)
		user_close_where(hub);
	else if (what == 80 && random_one_in(3))
		user_tag_end(hub);
	else if (what == 81)
		user_listen(hub);
	else if (what < 92)
		fiber_wait(
			somebody_is_inside, NULL, sim_now_ns + random_size(user->pace_ms) * SIM_MS);
	else
		fiber_yield();
}

static void *user_main(void *argument)
{
	struct user *user = argument;

	for (uint32_t i = 0; i < user->actions; i++)
		user_act(user);
	return NULL;
}

/* ---- a run --------------------------------------------------------------------------------------------- */

/* In half of the runs a fault never comes; else once in so many. */
static uint32_t rate(uint32_t often, uint32_t seldom)
{
	uint32_t value = often;

	if (random_one_in(2))
		return 0;
	while (value < seldom && random_one_in(2))
		value *= 4;
	return value;
}

static void run_rates(void)
{
	static const uint32_t preempts[] = {4, 16, 64, 400};

	/* One statement each: the members of an initializer have no order, and a seed is to be one run. */
	sim_rates = (struct sim_rates){.preempt = preempts[random_below(4)]};
	sim_rates.spurious = rate(4, 64);
	sim_rates.memory = random_one_in(3) ? rate(100, 5000) : 0;
	sim_rates.drought = random_one_in(4) ? rate(500, 5000) : 0;
	sim_rates.short_send = rate(2, 16);
	sim_rates.send_error = random_one_in(2) ? rate(50, 500) : 0;
	sim_rates.short_receive = rate(2, 16);
	sim_rates.receive_end = rate(2, 16);
	sim_rates.one_byte = random_one_in(3) ? rate(2, 16) : 0;
	sim_rates.network_reset = random_one_in(2) ? rate(50, 1000) : 0;
	sim_rates.half_open = random_one_in(2) ? rate(50, 1000) : 0;
	sim_rates.partition = random_one_in(2) ? rate(20, 500) : 0;
	sim_rates.delay = rate(4, 64);
	sim_rates.no_buffers = rate(4, 64);
	sim_rates.submit = rate(4, 64);
	sim_rates.enter = random_one_in(4) ? rate(20, 200) : 0;
	sim_rates.cancel_already = rate(2, 8);
	sim_rates.completion_late = rate(4, 64);
	sim_rates.disconnect = random_one_in(3) ? rate(4, 32) : 0;
	sim_rates.option = rate(4, 64);
	sim_rates.name = rate(4, 32);
	sim_rates.unsent = rate(4, 32);
	sim_rates.close = rate(4, 64);
	sim_rates.shutdown = random_one_in(2) ? rate(4, 32) : 0;
	sim_rates.socket = random_one_in(3) ? rate(8, 64) : 0;
	sim_rates.connect = random_one_in(2) ? rate(8, 64) : 0;
	sim_rates.accept = random_one_in(2) ? rate(8, 64) : 0;
	sim_rates.clock_jump = random_one_in(4) ? rate(100, 2000) : 0;
	sim_rates.entropy = random_one_in(4) ? 1 : 0;
	sim_rates.listen = random_one_in(4) ? rate(8, 64) : 0;
	sim_rates.hold = rate(2, 128);
	sim_rates.accept_cancel = rate(2, 8);
	kernel_is_slow = sim_rates.clock_jump + sim_rates.completion_late + sim_rates.disconnect +
			sim_rates.submit + sim_rates.enter + sim_rates.accept_cancel >
		0;
	message_bytes_max = random_one_in(4) ? MESSAGE_BYTES_MAX : random_one_in(2) ? 2000 : 200;
	refuse_rate = rate(8, 64);
	ring_sim_entries = random_one_in(2) ? random_between(1, 8) : 256;
	ring_sim_reserve = random_one_in(2) ? random_between(1, 8) : RING_RESERVE;
	ring_sim_completions = random_one_in(2) ? random_between(1, 16) : 1024;
}

static uint32_t timeout_ms(void)
{
	return random_one_in(2) ? random_between(50, 2000) : random_between(2000, 20000);
}

static void hub_limits(struct app_hub *hub)
{
	memset(hub->limits_most, 0, sizeof(hub->limits_most));
	if (!random_one_in(3))
		return;
	hub->options.duplicates = random_below(3);
	hub->options.slow = random_below(2); /* no gaps: the model knows of none */
	hub->options.slow_ms = timeout_ms();
	limits_random(hub->options.limits);
	memcpy(hub->limits_most, hub->options.limits, sizeof(hub->limits_most));
}

static void hub_options(struct app_hub *hub)
{
	static const uint32_t buffer_counts[] = {2, 4, 8, 32};
	static const uint32_t buffer_bytes[] = {64, 512, 4096};

	hub->options = (struct ph_options){
		.size = sizeof(hub->options),
		.message_bytes_max = 65536,
		.socket_send_bytes = 65536,
		.socket_receive_bytes = 65536,
		.user = hub,
	};
	hub->options.shard_count = random_between(1, 2);
	hub->options.connections_per_shard = random_one_in(2) ? random_between(2, 8) : 24;
	hub->options.handshakes_per_shard = random_one_in(2) ? random_between(1, 4) : 16;
	hub->options.receive_buffer_count = buffer_counts[random_below(4)];
	hub->options.receive_buffer_bytes = buffer_bytes[random_below(3)];
	hub->options.send_queue_bytes = random_one_in(2) ? 1024 : 65536;
	hub->options.reassembly_bytes_max = random_one_in(4) ? 40000 : 1u << 20;
	hub->options.timeout_connect_ms = timeout_ms();
	hub->options.timeout_handshake_ms = timeout_ms();
	hub->options.timeout_welcome_ms = timeout_ms();
	hub->options.timeout_close_ms = timeout_ms();
	hub->options.ping_interval_ms = timeout_ms();
	hub->options.timeout_dead_ms = 2 * timeout_ms();
	hub->options.receipts_per_shard = random_one_in(2) ? 4 : 256;
	hub->options.flags = hub->number % 4 != 3 ? PH_HUB_RESUME : 0;
	hub->options.resumptions_max = 1 + 3 * ((uint32_t)hub->number % 4);
	hub_limits(hub);
	ring_sim_direct = !random_one_in(4);
}

static bool hub_start(struct app_hub *hub)
{
	const struct ph_callbacks callbacks = {
		.on_hello = on_hello,
		.on_verify = on_verify,
		.on_connect = on_connect,
		.on_open = on_open,
		.on_data = on_data,
		.on_writable = on_writable,
		.on_closed = on_closed,
	};
	struct ph_hub *made = NULL;
	char why[PH_WHY_BYTES];
	int status;

	hub_options(hub);
	status = ph_hub_start(&hub->options, &callbacks, &made, why);
	TRACE2("hub %llu starts: %lld", hub->number, status);
	if (status < 0) {
		sim_count(SIM_start_failed);
		if (made != NULL || memchr(why, '\0', sizeof(why)) == NULL)
			breach("ph_hub_start failed with %d and gave a hub", status);
		return false;
	}
	if (random_one_in(6)) {
		/* Slots retire after a few lives. */
		for (uint32_t i = 0; i < made->shard_count; i++)
			made->shards[i]->home->table.generation_last = random_between(1, 8);
	}
	hub->tags_count = random_between(1, 4);
	for (uint32_t i = 0; i < hub->tags_count; i++) {
		hub->tags[i] = tag_next++;
		hub->ended[i] = false;
	}
	hub->stopping = false;
	hub->hub = made;
	for (uint32_t i = 0; i < APP_LISTENERS_MAX; i++) {
		struct app_listener *listener = &hub->listeners[i];

		listener->number = -1;
		listener->framing = random_one_in(3) ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE;
		listener->tls = i % 3 == 0 ? PH_TLS_NONE : PH_TLS_MUTUAL;
		if (i < 3)
			listen_begin(hub, listener);
	}
	return true;
}

static bool hub_is_left(void *on)
{
	return ((struct app_hub *)on)->callers == 0;
}

static void hub_stop(struct app_hub *hub)
{
	struct ph_hub *made = hub->hub;
	struct ph_statistics stats;

	hub->stopping = true;
	if (hub->callers > 0)
		fiber_wait(hub_is_left, hub, SIM_NEVER);
	TRACE1("hub %llu stops", hub->number);
	ph_stats(made, &stats);
	if (stats.slots_retired > 0)
		sim_count(SIM_generation_retired);
	/* The watchdog of CLOSING asks again for what should have ended by itself: only where the kernel was
	 * slow, or refused, is that in order. */
	if (stats.close_resubmits > 0 && !kernel_is_slow)
		breach("hub %u waited for operations that nobody had ended", hub->number);
	if (ph_hub_stop(made, random_one_in(2) ? PH_ABORT : PH_GRACEFUL) != 0)
		breach("ph_hub_stop failed");
	hub->hub = NULL;
	TRACE1("hub %llu has stopped", hub->number);
	for (uint32_t i = 0; i < model_count; i++)
		if (model_records[i].has_id && model_records[i].hub == hub &&
			model_records[i].closed != 1)
			breach("rule 1: hub %u has stopped and %llx had no last event", hub->number,
				(unsigned long long)model_records[i].id);
}

static void run_calm(void)
{
	sim_is_calm = true;
	sim_rates.delay = 0;
	net_calm();
}

/* Of homes, tables stay for the life of the process. */
static int64_t memory_of_homes(void)
{
	int64_t count = 0;

	for (uint32_t i = 0; i < SLOT_HOMES_MAX; i++)
		if (home_of(slot_id(i, 0, 1)) != NULL)
			count += 2;
	return count;
}

static void run_end(int64_t memory_before)
{
	net_end();
	memory_sim_check();
	model_end();
	if (memory_sim_live() != memory_before + memory_of_homes())
		breach("%lld blocks of memory are left",
			(long long)(memory_sim_live() - memory_before - memory_of_homes()));
}

void *app_main(void *argument)
{
	struct fiber *fibers[USERS_MAX];
	struct user users[USERS_MAX];
	uint32_t users_count = random_between(1, USERS_MAX);
	int64_t memory_before = memory_sim_live();

	(void)argument;
	run_rates();
	app_hubs_count = random_between(2, APP_HUBS_MAX);
	for (uint32_t i = 0; i < app_hubs_count; i++) {
		app_hubs[i].number = i;
		for (uint32_t tries = 0; !hub_start(&app_hubs[i]); tries++)
			if (tries == 3)
				sim_is_calm = true;
		sim_is_calm = false;
	}
	sim_rates.entropy = 0;
	for (uint32_t i = 0; i < users_count; i++) {
		users[i] = (struct user){.hub = &app_hubs[i % app_hubs_count]};
		users[i].actions = random_size(sim_tls_is_real ? 60 : 150);
		users[i].pace_ms = random_one_in(4) ? 20000 : 300;
		fibers[i] = fiber_start(user_main, &users[i]);
	}
	if (random_one_in(4)) {
		fiber_sleep(random_size(2000) * SIM_MS);
		sim_count(SIM_hub_restarted);
		hub_stop(&app_hubs[0]);
		while (!hub_start(&app_hubs[0]))
			fiber_sleep(SIM_MS);
	}
	for (uint32_t i = 0; i < users_count; i++)
		fiber_join(fibers[i]);
	if (random_one_in(2))
		fiber_sleep(random_size(5000) * SIM_MS);
	run_calm();
	users_stop = random_one_in(2);
	fiber_sleep(random_size(30000) * SIM_MS);
	users_stop = true;
	for (uint32_t i = 0; i < app_hubs_count; i++)
		hub_stop(&app_hubs[i]);
	run_end(memory_before);
	return NULL;
}

void app_init(void)
{
	tls_sim_init();
}
