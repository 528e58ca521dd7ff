/*
 * hub.c: peerhub hub. Serves one or more groups on one address: members meet here, and it passes
 * relay messages on between the members of one group (docs/relay.md).
 *
 * The source of what it delivers is never what a message claims but the identity that the library
 * verified for the connection it came by. A group is a node of its own with a table of its own, so
 * that no message can cross. What cannot be delivered is answered with a status; a member that does
 * not read its statuses loses its connection, so that nothing piles up here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "commands.h"
#include "config.h"
#include "loop.h"
#include "names.h"
#include "node.h"
#include "notify.h"
#include "options.h"
#include "p2p.h"
#include "peerhub.h"
#include "peerhub/extras.h"
#include "receiver.h"
#include "relay.h"
#include "route.h"
#include "say.h"
#include "service.h"
#include "transfer.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define EVENTS_A_TURN 256u /* of one group before the others and the timers have their turn */
#define OWED_MAX 64u /* statuses that one member may leave unread */
#define OWED_RETRY_MS 20u

/* A status that its addressee's queue had no room for. */
struct owed_status {
	uint64_t tag;
	uint8_t type[16];
	enum relay_code code;
	uint16_t name_bytes;
	char name[RELAY_NAME_BYTES_MAX];
};

/* Hangs at member->user while there is something owed. */
struct owed {
	unsigned count;
	struct owed_status statuses[OWED_MAX];
};

struct totals {
	uint64_t delivered, bytes, absent, slow, errors;
};

struct served {
	bool is_used; /* a place in the hub's table */
	struct node node;
	struct receiver receiver;
	bool is_ready;
	bool has_failed; /* said; it ends with this turn */
	bool is_owing; /* some member may have something owed */
	struct totals totals;
	uint8_t *scratch; /* one message on its way out, grown as needed */
	size_t scratch_bytes;
};

struct hub_options;

struct hub {
	struct served groups[OPTION_LIST_MAX];
	const char *identity;
	const struct hub_options *options;
	unsigned signals; /* to end, that service.c has heard of */
	bool was_ready; /* all groups of the start were: from then on one that fails ends alone */
	bool failed;
};

/* ---- status --------------------------------------------------------------------------------- */

static int status_send(struct served *served, uint64_t connection, const struct owed_status *status)
{
	uint8_t out[RELAY_HEADER_BYTES_MAX + 4], payload[4];
	struct relay_message message = {.kind = RELAY_STATUS,
		.name = status->name,
		.name_bytes = status->name_bytes,
		.tag = status->tag,
		.payload = payload,
		.payload_bytes = 4};
	size_t written;
	int result;

	memcpy(message.type, status->type, 16);
	relay_code_put(status->code, payload);
	result = relay_encode(&message, out, sizeof(out), &written);
	assert(result == 0);
	return node_send(&served->node, connection, relay_type, out, written);
}

/* Send it after those that wait already, or let it wait too. */
static void status_post(
	struct served *served, struct member *member, const struct owed_status *status)
{
	struct owed *owed = member->user;

	if (owed == NULL && status_send(served, member->connection, status) != -EAGAIN)
		return;
	if (owed == NULL) {
		owed = calloc(1, sizeof(*owed));
		member->user = owed;
		served->is_owing = owed != NULL || served->is_owing;
	}
	if (owed == NULL || owed->count == OWED_MAX) {
		node_close_bad(&served->node, member->connection, NODE_REASON_STATUSES, "relay",
			"statuses are not read");
		return;
	}
	owed->statuses[owed->count++] = *status;
}

static void status_pay_one(struct member *member, void *context)
{
	struct served *served = context;
	struct owed *owed = member->user;
	unsigned sent = 0;

	if (owed == NULL)
		return;
	while (sent < owed->count &&
		status_send(served, member->connection, &owed->statuses[sent]) != -EAGAIN)
		sent++;
	owed->count -= sent;
	memmove(owed->statuses, owed->statuses + sent, owed->count * sizeof(owed->statuses[0]));
	if (owed->count > 0) {
		served->is_owing = true;
		return;
	}
	free(owed);
	member->user = NULL;
}

/* Tell the source that its message did not reach `name`. */
static void status_report(struct served *served, struct member *source,
	const struct relay_message *message, const char *name, size_t name_bytes,
	enum relay_code code)
{
	struct owed_status status = {
		.tag = message->tag, .code = code, .name_bytes = (uint16_t)name_bytes};

	if (code == RELAY_ABSENT)
		served->totals.absent++;
	else
		served->totals.slow++;
	memcpy(status.type, message->type, 16);
	memcpy(status.name, name, name_bytes);
	status_post(served, source, &status);
}

/* ---- passing on ----------------------------------------------------------------------------- */

/* Write DELIVER of `message`, stamped with its true source, into the scratch buffer. */
static int deliver_encode(struct served *served, const struct member *source,
	const struct relay_message *message, size_t *written)
{
	struct relay_message deliver = *message;
	size_t bytes;
	uint8_t *grown;

	deliver.kind = RELAY_DELIVER;
	deliver.name = source->identity;
	deliver.name_bytes = strlen(source->identity);
	bytes = relay_bytes(&deliver);
	if (bytes > RELAY_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	if (bytes > served->scratch_bytes) {
		grown = realloc(served->scratch, bytes);
		if (grown == NULL)
			return -EAGAIN; /* as good as a full queue: the source tries again */
		served->scratch = grown;
		served->scratch_bytes = bytes;
	}
	return relay_encode(&deliver, served->scratch, served->scratch_bytes, written);
}

static enum relay_code code_of(int status)
{
	switch (status) {
	case -EMSGSIZE:
		return RELAY_TOO_LARGE;
	case -EAGAIN:
		return RELAY_SLOW;
	default:
		return RELAY_ABSENT; /* it is leaving this moment */
	}
}

static void relay_send(
	struct served *served, struct member *source, const struct relay_message *message)
{
	struct member *target;
	size_t written = 0;
	int status = -ENOENT;

	target = members_named(&served->node.members, message->name, message->name_bytes);
	if (target != NULL)
		status = deliver_encode(served, source, message, &written);
	if (status == 0)
		status = node_send(
			&served->node, target->connection, relay_type, served->scratch, written);
	if (status == 0) {
		served->totals.delivered++;
		served->totals.bytes += message->payload_bytes;
		return;
	}
	status_report(served, source, message, message->name, message->name_bytes, code_of(status));
}

struct broadcast {
	struct served *served;
	struct member *source;
	const struct relay_message *message;
	size_t written;
};

static void broadcast_one(struct member *member, void *context)
{
	struct broadcast *broadcast = context;
	struct served *served = broadcast->served;
	int status;

	if (strcmp(member->identity, broadcast->source->identity) == 0)
		return;
	status = node_send(
		&served->node, member->connection, relay_type, served->scratch, broadcast->written);
	if (status == 0) {
		served->totals.delivered++;
		served->totals.bytes += broadcast->message->payload_bytes;
	} else if (status == -EAGAIN) {
		status_report(served, broadcast->source, broadcast->message, member->identity,
			strlen(member->identity), RELAY_SLOW);
	}
}

static void relay_broadcast(
	struct served *served, struct member *source, const struct relay_message *message)
{
	struct broadcast broadcast = {served, source, message, 0};
	int status = deliver_encode(served, source, message, &broadcast.written);

	if (status != 0)
		status_report(served, source, message, source->identity, strlen(source->identity),
			code_of(status));
	else
		members_each(&served->node.members, true, broadcast_one, &broadcast);
}

static void on_relay(struct served *served, uint64_t connection, const uint8_t *data, size_t bytes)
{
	struct member *source = members_at(&served->node.members, connection);
	const char *why = "only send and broadcast go to a hub";
	struct relay_message message;

	/* Not a direct connection (a neighbor's), or one that ended meanwhile: there is nobody whom a
	 * status could reach. */
	if (source == NULL)
		return;
	if (relay_decode(data, bytes, &message, &why) == 0) {
		if (message.kind == RELAY_SEND) {
			relay_send(served, source, &message);
			return;
		}
		if (message.kind == RELAY_BROADCAST) {
			relay_broadcast(served, source, &message);
			return;
		}
	}
	served->totals.errors++;
	node_close_bad(&served->node, connection, NODE_REASON_RELAY, "relay", why);
}

/* ---- files and lines for the hub itself ----------------------------------------------------- */

static void on_transfer(struct served *served, uint64_t connection, enum transfer_kind kind,
	const uint8_t *data, size_t bytes, uint64_t now_ms)
{
	struct route route = {.node = &served->node, .connection = connection};
	struct member *source = members_at(&served->node.members, connection);
	struct transfer_message message;
	const char *why = NULL;

	if (source == NULL)
		return;
	if (kind == TRANSFER_ACK || kind == TRANSFER_RESULT)
		why = "an answer without a transfer";
	else if (transfer_decode(kind, data, bytes, &message, &why) == 0)
		why = receiver_on_message(
			&served->receiver, &route, source->identity, &message, now_ms);
	if (why != NULL)
		node_close_bad(&served->node, connection, NODE_REASON_TRANSFER, "transfer", why);
}

static void on_data(
	struct served *served, const PEER_EVENT_INCOMING_DATA *incoming, uint64_t now_ms)
{
	const uint8_t *data = incoming->data.pbData;
	uint8_t type[16];
	unsigned kind;

	node_type_from_guid(&incoming->type, type);
	kind = transfer_kind_of(type);
	if (memcmp(type, relay_type, 16) == 0)
		on_relay(served, incoming->ullConnectionId, data, incoming->data.cbData);
	else if (kind != 0)
		on_transfer(served, incoming->ullConnectionId, (enum transfer_kind)kind, data,
			incoming->data.cbData, now_ms);
	else if (served->node.unread_types++ == 0)
		say_note("messages of types that are not peerhub's own are ignored");
}

/* ---- events --------------------------------------------------------------------------------- */

static void on_connection(struct served *served, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	if (change->status != PEER_CONNECTED)
		receiver_on_lost(&served->receiver, &served->node, change->ullConnectionId);
	node_on_connection(&served->node, change);
}

static void on_status(struct hub *hub, struct served *served)
{
	if (served->is_ready || !(node_status(&served->node) & PEER_GROUP_STATUS_LISTENING))
		return;
	served->is_ready = true;
	if (node_say_ready(&served->node) < 0)
		hub->failed = true;
}

static void on_event(
	struct hub *hub, struct served *served, const PEER_GROUP_EVENT_DATA *event, uint64_t now_ms)
{
	switch (event->eventType) {
	case PEER_GROUP_EVENT_STATUS_CHANGED:
		on_status(hub, served);
		return;
	case PEER_GROUP_EVENT_DIRECT_CONNECTION:
		on_connection(served, &event->connectionChangeData);
		return;
	case PEER_GROUP_EVENT_INCOMING_DATA:
		on_data(served, &event->incomingData, now_ms);
		return;
	case PEER_GROUP_EVENT_CONNECTION_FAILED:
		say_result(event->hrConnectionFailedReason, "cannot serve the group \"%s\"",
			served->node.name);
		served->has_failed = true;
		return;
	default:
		return;
	}
}

/* Some of a group's events. True: there may be more. */
static bool turn(struct hub *hub, struct served *served, uint64_t now_ms)
{
	PPEER_GROUP_EVENT_DATA event;
	int status = 0;

	node_events_begin(&served->node);
	for (unsigned i = 0; i < EVENTS_A_TURN && !hub->failed && !served->has_failed; i++) {
		status = node_event(&served->node, &event);
		if (status <= 0)
			break;
		on_event(hub, served, event, now_ms);
		PeerFreeData(event);
	}
	if (status < 0)
		served->has_failed = true;
	return status > 0;
}

/* The timers of a group; returns when to come back. */
static uint64_t step(struct hub *hub, struct served *served, uint64_t now_ms)
{
	uint64_t wake = receiver_step(&served->receiver, now_ms);

	if (served->receiver.output_failed)
		hub->failed = true;
	if (!served->is_owing)
		return wake;
	served->is_owing = false;
	members_each(&served->node.members, false, status_pay_one, served);
	return served->is_owing ? loop_earlier(wake, now_ms + OWED_RETRY_MS) : wake;
}

static bool is_all_ready(const struct hub *hub)
{
	for (size_t i = 0; i < OPTION_LIST_MAX; i++)
		if (hub->groups[i].is_used && !hub->groups[i].is_ready)
			return false;
	return true;
}

static uint64_t groups_count(const struct hub *hub)
{
	uint64_t count = 0;

	for (size_t i = 0; i < OPTION_LIST_MAX; i++)
		count += hub->groups[i].is_used;
	return count;
}

/* ---- begin and end -------------------------------------------------------------------------- */

struct hub_options {
	const char *identity, *listen, *receive, *neighbor;
	struct option_list groups;
	uint64_t timeout_s, for_s;
	bool lines;
	bool has_groups; /* of the command line: they win over every configuration */
};

static int go_online(struct served *served, const struct hub_options *options)
{
	PEER_ADDRESS address;
	HRESULT result;

	if (options->neighbor == NULL) {
		result = PeerGroupConnect(served->node.group);
	} else {
		if (names_address(options->neighbor, &address) < 0)
			return -EIO;
		result = PeerGroupConnectByAddress(served->node.group, 1, &address);
	}
	if (SUCCEEDED(result))
		return 0;
	say_result(result, "cannot bring \"%s\" online", served->node.name);
	return -EIO;
}

static void serve_end(struct served *served)
{
	const struct totals *totals = &served->totals;
	char *name = names_word_narrow(served->node.name);

	receiver_end(&served->receiver);
	if (served->is_ready && name != NULL)
		(void)say_line("relayed %" PRIu64 " bytes %" PRIu64 " absent %" PRIu64
			       " slow %" PRIu64 " errors %" PRIu64 " group %s",
			totals->delivered, totals->bytes, totals->absent, totals->slow,
			totals->errors, name);
	free(name);
	node_end(&served->node);
	free(served->scratch);
	served->is_used = false;
}

/* One more group. 0, or -EIO (said): then it has no place. */
static int serve(struct hub *hub, const char *group)
{
	struct receiver_options receiver = {.directory = hub->options->receive,
		.lines = hub->options->lines || hub->options->receive != NULL};
	struct served *served = NULL;
	int status;

	for (size_t i = 0; i < OPTION_LIST_MAX && served == NULL; i++)
		if (!hub->groups[i].is_used)
			served = &hub->groups[i];
	if (served == NULL) {
		say_error("a hub serves at most %u groups", OPTION_LIST_MAX);
		return -EIO;
	}
	memset(served, 0, sizeof(*served));
	served->receiver.directory_fd = -1;
	status = node_open(&served->node, hub->identity, group);
	if (status == 0)
		status = receiver_begin(&served->receiver, &receiver);
	if (status == 0)
		status = go_online(served, hub->options);
	if (status < 0) {
		serve_end(served);
		return status;
	}
	served->is_used = true;
	return 0;
}

/* Names of the groups to serve, each for free(): those given, else all of the identity's. */
static int choose_groups(
	const char *identity, const struct option_list *given, char **names, size_t *count)
{
	struct names_list list = {0};
	HPEERENUM enumeration;
	HRESULT result;
	WCHAR *wide;

	*count = 0;
	for (size_t i = 0; i < given->count; i++) {
		names[*count] = names_group(identity, given->items[i]);
		if (names[*count] == NULL)
			return -EIO;
		++*count;
	}
	if (*count > 0)
		return 0;
	wide = names_wide(identity);
	if (wide == NULL)
		return -EIO;
	result = PeerEnumGroups(wide, &enumeration);
	free(wide);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the groups of \"%s\"", identity);
		return -EIO;
	}
	for (ULONG i = 0; i < list.count && *count < OPTION_LIST_MAX; i++) {
		names[*count] = names_narrow(((PEER_NAME_PAIR *)list.items[i])->pwzPeerName);
		if (names[*count] != NULL)
			++*count;
	}
	PeerFreeData(list.items);
	if (*count > 0)
		return 0;
	say_error("\"%s\" is in no group: create or join one first", identity);
	return -EIO;
}

/* ---- reload ---------------------------------------------------------------------------------- */

static struct served *served_named(struct hub *hub, const char *name)
{
	for (size_t i = 0; i < OPTION_LIST_MAX; i++)
		if (hub->groups[i].is_used && strcmp(hub->groups[i].node.name, name) == 0)
			return &hub->groups[i];
	return NULL;
}

/* A group that the configuration no longer names ends; one that is new begins. One that cannot begin is
 * said, and the others go on. */
static void groups_follow(struct hub *hub, char **names, size_t count)
{
	for (size_t i = 0; i < OPTION_LIST_MAX; i++) {
		bool is_named = false;

		for (size_t at = 0; at < count && hub->groups[i].is_used; at++)
			is_named = is_named || strcmp(hub->groups[i].node.name, names[at]) == 0;
		if (hub->groups[i].is_used && !is_named)
			serve_end(&hub->groups[i]);
	}
	for (size_t at = 0; at < count; at++)
		if (served_named(hub, names[at]) == NULL)
			(void)serve(hub, names[at]);
}

/* Another process may have revoked somebody in our store: a list that cannot be read is said, and what was in
 * force stays. */
static void revocations_reload(struct hub *hub)
{
	HRESULT result;

	for (size_t i = 0; i < OPTION_LIST_MAX; i++) {
		if (!hub->groups[i].is_used)
			continue;
		result = PeerhubRevocationsReload(hub->groups[i].node.name);
		if (FAILED(result))
			say_result(result, "cannot read who is revoked in \"%s\"",
				hub->groups[i].node.name);
		else if (result == S_FALSE)
			say_note("%s", PeerhubLastErrorText());
	}
}

static void on_reload(const struct config *config, void *context)
{
	struct hub *hub = context;
	struct option_list given = {.count = config->group_count};
	char *names[OPTION_LIST_MAX];
	size_t count = 0;

	revocations_reload(hub);
	if (hub->options->has_groups)
		return;
	for (size_t i = 0; i < config->group_count; i++)
		given.items[i] = config->groups[i];
	/* Names that cannot be told are said; then the groups stay as they are. */
	if (choose_groups(hub->identity, &given, names, &count) == 0)
		groups_follow(hub, names, count);
	while (count > 0)
		free(names[--count]);
	service_groups(groups_count(hub));
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* A group that could not be served any more. While the hub starts, or when it was the last, that is the end
 * of the hub; else the others go on, and the next reload tries it again. */
static void serve_failed(struct hub *hub, struct served *served)
{
	serve_end(served);
	if (!hub->was_ready || groups_count(hub) == 0)
		hub->failed = true;
	service_groups(groups_count(hub));
}

/* All groups in turn; fills polls with their descriptors. Returns when to come back. */
static uint64_t turn_all(struct hub *hub, uint64_t now_ms, struct pollfd *polls, size_t *count)
{
	uint64_t wake = LOOP_NEVER;
	bool more = false;

	for (size_t i = 0; i < OPTION_LIST_MAX; i++) {
		struct served *served = &hub->groups[i];

		if (!served->is_used)
			continue;
		more = turn(hub, served, now_ms) || more;
		if (served->has_failed) {
			serve_failed(hub, served);
			continue;
		}
		wake = loop_earlier(wake, step(hub, served, now_ms));
		polls[(*count)++] = (struct pollfd){.fd = served->node.event_fd, .events = POLLIN};
	}
	return more ? now_ms : wake;
}

static int run(struct hub *hub, uint64_t timeout_ms, uint64_t for_ms)
{
	uint64_t begin_ms = loop_now_ms(), now_ms = begin_ms, wake;
	struct pollfd polls[1 + OPTION_LIST_MAX + SERVICE_FDS_MAX];
	int fds[SERVICE_FDS_MAX];
	size_t count;

	while (!hub->failed && !service_is_stopping()) {
		for (; hub->signals < loop_signals(); hub->signals++)
			service_end_wish();
		if (service_is_stopping())
			break;
		count = 1;
		now_ms = loop_now_ms();
		wake = turn_all(hub, now_ms, polls, &count);
		wake = loop_earlier(wake, service_step(now_ms, on_reload, hub));
		if (!is_all_ready(hub) && !hub->was_ready) {
			if (now_ms >= begin_ms + timeout_ms) {
				say_error("not ready after %" PRIu64 " seconds", timeout_ms / 1000);
				return EXIT_TIMEOUT;
			}
			wake = loop_earlier(wake, begin_ms + timeout_ms);
		} else if (!hub->was_ready && !hub->failed) {
			hub->was_ready = true;
			service_ready(groups_count(hub));
		}
		if (for_ms != 0 && now_ms >= begin_ms + for_ms)
			break;
		if (for_ms != 0)
			wake = loop_earlier(wake, begin_ms + for_ms);
		service_fds(fds);
		for (size_t i = 0; i < SERVICE_FDS_MAX; i++)
			polls[count++] = (struct pollfd){.fd = fds[i], .events = POLLIN};
		if (loop_wait(polls, count, wake) < 0)
			hub->failed = true;
	}
	return hub->failed ? EXIT_FAILED : EXIT_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int serve_all(struct hub *hub, char **names, size_t count)
{
	struct ph_hub *native = NULL;
	int code = EXIT_FAILED;
	size_t begun = 0;

	/* A group may be named twice, in two ways, too; serving it twice would deliver all twice. */
	while (begun < count &&
		(served_named(hub, names[begun]) != NULL || serve(hub, names[begun]) == 0))
		begun++;
	/* One hub serves all groups of a process, until PeerGroupShutdown. */
	if (begun > 0)
		native = hub->groups[0].node.hub;
	if (begun == count && native != NULL && service_start(native, hub->identity) == 0)
		code = run(hub, hub->options->timeout_s * 1000, hub->options->for_s * 1000);
	loop_end_soon();
	service_stop();
	for (size_t i = 0; i < OPTION_LIST_MAX; i++)
		if (hub->groups[i].is_used)
			serve_end(&hub->groups[i]);
	return code;
}

/* What the command line leaves open is the configuration's, whose texts last until service_end: a reload
 * leaves those of keys that it does not take over where they are. */
static void options_complete(struct hub_options *given, const struct config *config)
{
	if (given->identity == NULL && config->identity[0] != '\0')
		given->identity = config->identity;
	if (given->receive == NULL && config->receive[0] != '\0')
		given->receive = config->receive;
	if (given->neighbor == NULL && config->neighbor[0] != '\0')
		given->neighbor = config->neighbor;
	given->lines = given->lines || config->lines;
	if (given->timeout_s == 0)
		given->timeout_s = config->timeout_ready_s;
	given->has_groups = given->groups.count > 0;
	for (size_t i = 0; !given->has_groups && i < config->group_count; i++)
		given->groups.items[given->groups.count++] = config->groups[i];
}

static int hub_serve(struct hub_options *given)
{
	static struct hub hub; /* large */
	char *names[OPTION_LIST_MAX], *identity;
	int code = EXIT_FAILED;
	size_t count = 0;

	if (given->receive != NULL && strcmp(given->receive, "-") == 0)
		say_lines_on_stderr();
	identity = names_identity(given->identity);
	hub = (struct hub){.identity = identity, .options = given};
	if (identity != NULL && choose_groups(identity, &given->groups, names, &count) == 0 &&
		service_confine(given->receive, given->listen) == 0 && names_startup()) {
		code = serve_all(&hub, names, count);
		(void)PeerGroupShutdown();
	}
	while (count > 0)
		free(names[--count]);
	free(identity);
	return code;
}

static int check_config(const char *path)
{
	struct config config;
	int status;

	if (config_init(&config) < 0) {
		say_error("out of memory");
		return EXIT_FAILED;
	}
	status = config_read(&config, path);
	config_fini(&config);
	if (status == 0)
		say_note("\"%s\" is good", path);
	return status == 0 ? EXIT_OK : status == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

int hub_main(int argc, char **argv)
{
	const char *config = NULL;
	bool check = false, print = false;
	struct hub_options given = {0};
	struct option_list sets = {0};
	const struct option_spec options[] = {
		{"config", OPTION_TEXT, "FILE",
			"read a configuration; options given here win over it", &config, 0, 0},
		{"check-config", OPTION_FLAG, NULL, "only say whether --config FILE is good",
			&check, 0, 0},
		{"print-config", OPTION_FLAG, NULL,
			"print every key of a configuration with its default", &print, 0, 0},
		{"listen", OPTION_TEXT, "HOST:PORT",
			"where to listen, numeric; port 0: any free one;\n"
			"default PEERHUB_LISTEN, then [::]:3587 or any free port",
			&given.listen, 0, 0},
		{"group", OPTION_LIST, "GROUP",
			"a group to serve, may be repeated; default all of the identity's",
			&given.groups, 0, 0},
		{"identity", OPTION_TEXT, "ID", "who serves; default the default identity",
			&given.identity, 0, 0},
		{"receive", OPTION_TEXT, "DIR",
			"take files sent to the hub itself into DIR; - is standard output",
			&given.receive, 0, 0},
		{"receive-lines", OPTION_FLAG, NULL, "print lines sent to the hub itself",
			&given.lines, 0, 0},
		{"neighbor", OPTION_TEXT, "HOST:PORT",
			"go online by a member there (a hub that did not create the group)",
			&given.neighbor, 0, 0},
		{"timeout", OPTION_NUMBER, "SECONDS", "how long getting ready may take; default 30",
			&given.timeout_s, 1, 1000000},
		{"set", OPTION_LIST, "SECTION.KEY=VALUE",
			"a key of the configuration, wins over --config; may be repeated", &sets, 0,
			0},
		{"for", OPTION_NUMBER, "SECONDS", "end by itself after this time", &given.for_s, 1,
			1000000000},
	};
	const struct command command = {"peerhub hub", "",
		"Serve groups: members connect here, and messages between them are relayed.\n"
		"Prints \"ready ADDRESS identity ID group GROUP\" for each group, ends on SIGINT\n"
		"and SIGTERM.",
		options, COUNT(options), 0, 0};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	HRESULT result;
	int code, inherited;

	/* Before anything of ours could have its number. */
	inherited = notify_listen_fd();
	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (print)
		return config_print(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
	if (check && config == NULL) {
		say_error("--check-config needs --config FILE");
		return EXIT_USAGE;
	}
	if (check)
		return check_config(config);
	if (loop_begin() < 0 || (config != NULL && loop_take_hangups() < 0)) {
		say_error("cannot take signals: %s", strerror(errno));
		return EXIT_FAILED;
	}
	service_override(sets.items, sets.count);
	code = service_begin(config, inherited);
	if (code == 0 && common.home != NULL && FAILED(result = PeerhubSetHome(common.home))) {
		say_result(result, "cannot use the store \"%s\"", common.home);
		code = EXIT_FAILED;
	}
	if (code == 0 && given.listen != NULL && FAILED(result = PeerhubSetListen(given.listen))) {
		say_result(result, "--listen \"%s\"", given.listen);
		code = EXIT_USAGE;
	}
	if (code == 0) {
		options_complete(&given, service_config());
		code = hub_serve(&given);
	}
	service_end();
	return code;
}
