/*
 * peer.c: peerhub peer. Joins a group, goes online, and sends and receives files and lines: to the
 * hub, through the hub, or straight to other members.
 *
 * Links are the connections that we dial (link.h), targets those to whom something is sent over them
 * (target.h). Relay messages are taken only from the link to the hub (docs/relay.md): whoever else
 * sends one loses its connection.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "check.h"
#include "commands.h"
#include "files.h"
#include "link.h"
#include "loop.h"
#include "names.h"
#include "node.h"
#include "notes.h"
#include "options.h"
#include "p2p.h"
#include "peerhub.h"
#include "peerhub/extras.h"
#include "receiver.h"
#include "relay.h"
#include "route.h"
#include "say.h"
#include "sender.h"
#include "target.h"
#include "transfer.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define EVENTS_A_TURN 256u
#define LINGER_MS 3000u /* for senders that have not confirmed our last result */
#define LINKS_MAX (OPTION_LIST_MAX + 1)

struct peer_options {
	const char *identity, *group, *invitation, *listen, *receive;
	struct option_list hubs, to;
	bool via_hub, broadcast, receive_lines;
	uint64_t count, wait_s, timeout_s, for_s;
};

struct peer {
	struct peer_options options;
	struct things things;
	struct node node;
	struct receiver receiver;
	struct notes notes;
	struct link links[LINKS_MAX];
	size_t link_count;
	struct link *hub; /* one of links, or NULL */
	struct target targets[OPTION_LIST_MAX];
	size_t target_count;
	bool is_receiving, is_online, is_ready, failed;
	bool has_address; /* we go online by addresses, not by discovery */
	uint64_t online_retry_ms; /* 0: no attempt is waiting */
	uint64_t online_give_up_ms;
	HRESULT neighbor_error; /* how the last neighbor connection failed: says more than the group */
	uint64_t linger_until_ms; /* 0: not lingering */
};

/* ---- what the command line says ------------------------------------------------------------- */

/* Sends, and ends when that is done. */
static bool is_sender_only(const struct peer *peer)
{
	return !peer->is_receiving && (things_count(&peer->things) > 0 || peer->options.broadcast);
}

/* A link to this address as this identity (NULL: any); one that exists is used again. NULL: said. */
static struct link *link_to(struct peer *peer, const char *identity, const char *address_text)
{
	struct link *link = &peer->links[peer->link_count], *other;

	assert(peer->link_count < LINKS_MAX);
	if (link_init(link, identity, address_text) < 0)
		return NULL;
	for (other = peer->links; other < link; other++) {
		if (identity == NULL || other->identity == NULL || other->is_hub ||
			strcmp(other->identity, identity) != 0 ||
			memcmp(&other->address.sin6, &link->address.sin6,
				sizeof(link->address.sin6)) != 0)
			continue;
		link_fini(link);
		return other;
	}
	peer->link_count++;
	return link;
}

/* IDENTITY@HOST:PORT in its two parts; the identity may itself hold an @. For free(). */
static char *split_at(const char *text, const char **address)
{
	const char *at = strrchr(text, '@');

	if (at == NULL) {
		*address = text;
		return NULL;
	}
	*address = at + 1;
	return strndup(text, (size_t)(at - text));
}

static bool add_hub(struct peer *peer, const char *text)
{
	const char *address;
	char *identity = split_at(text, &address);

	int status = 0;

	if (peer->hub == NULL)
		peer->hub = link_to(peer, identity, address);
	else
		status = link_add(peer->hub, identity, address);
	free(identity);
	if (peer->hub == NULL || status < 0)
		return false;
	peer->hub->is_hub = true;
	return true;
}

static bool add_target(struct peer *peer, const char *text)
{
	struct target *target = &peer->targets[peer->target_count];
	bool is_behind = peer->options.via_hub || strrchr(text, '@') == NULL;
	bool is_hub = strcmp(text, "hub") == 0;
	const char *address;
	char *identity;

	*target = (struct target){.shown = text};
	if (is_behind || is_hub) {
		if (peer->hub == NULL) {
			say_error("--to \"%s\" needs --hub HOST:PORT, or an address: "
				  "IDENTITY@HOST:PORT",
				text);
			return false;
		}
		target->link = peer->hub;
		if (!is_hub && (target->name = strdup(text)) == NULL)
			return false;
	} else {
		identity = split_at(text, &address);
		if (identity != NULL)
			target->link = link_to(peer, identity, address);
		free(identity);
		if (target->link == NULL)
			return false;
	}
	peer->target_count++;
	return true;
}

/* Everything that can be wrong with the command line alone. */
static bool check_options(struct peer *peer)
{
	const struct peer_options *options = &peer->options;
	unsigned stdin_users = (peer->things.lines ? 1 : 0) + (options->broadcast ? 1 : 0);

	for (size_t i = 0; i < peer->things.files.count; i++)
		if (strcmp(peer->things.files.items[i], "-") == 0)
			stdin_users++;
	for (size_t i = 0; i < options->hubs.count; i++)
		if (!add_hub(peer, options->hubs.items[i]))
			return false;
	for (size_t i = 0; i < options->to.count; i++)
		if (!add_target(peer, options->to.items[i]))
			return false;
	if (peer->target_count == 0 && things_count(&peer->things) > 0 && !add_target(peer, "hub"))
		return false;
	if (peer->target_count > 0 && things_count(&peer->things) == 0) {
		say_error("--to is given, but nothing to send: use --send FILE or --lines");
		return false;
	}
	if (options->broadcast && peer->hub == NULL) {
		say_error("--broadcast needs --hub HOST:PORT");
		return false;
	}
	if (stdin_users > 1 || (stdin_users == 1 && peer->target_count > 1)) {
		say_error("standard input can be sent once, to one receiver");
		return false;
	}
	peer->is_receiving = options->receive != NULL || options->receive_lines;
	if (options->count > 0 && !peer->is_receiving) {
		say_error("--count needs --receive DIR or --receive-lines");
		return false;
	}
	if (peer->hub != NULL)
		peer->hub->keep = !is_sender_only(peer);
	peer->has_address = peer->link_count > 0;
	return true;
}

/* ---- going online --------------------------------------------------------------------------- */

static void go_online(struct peer *peer)
{
	PEER_ADDRESS addresses[LINKS_MAX];
	HRESULT result;

	peer->online_retry_ms = 0;
	for (size_t i = 0; i < peer->link_count; i++)
		addresses[i] = peer->links[i].address;
	if (peer->hub != NULL)
		addresses[0] = peer->hub->address;
	if (peer->has_address)
		result = PeerGroupConnectByAddress(peer->node.group,
			peer->hub != NULL ? 1 : (ULONG)peer->link_count, addresses);
	else
		result = PeerGroupConnect(peer->node.group);
	if (SUCCEEDED(result))
		return;
	say_result(result, "cannot bring \"%s\" online", peer->node.name);
	peer->failed = true;
}

static void on_online_failed(struct peer *peer, HRESULT reason, uint64_t now_ms)
{
	if (peer->is_online) {
		if (peer->hub != NULL)
			link_neighbor_failed(peer->hub, reason, now_ms);
		return;
	}
	if (peer->has_address) {
		peer->online_retry_ms = link_online_failed(&peer->links[0], now_ms);
		if (peer->online_retry_ms <= peer->online_give_up_ms)
			return;
		peer->online_retry_ms = 0;
	}
	if (peer->has_address && FAILED(peer->neighbor_error))
		reason = peer->neighbor_error;
	if (peer->has_address)
		say_error("cannot reach %s: %s%s", peer->links[0].address_text,
			PeerhubResultName(reason),
			reason == PEER_E_CONNECTION_REFUSED
				? " (is another process with this identity connected there?)"
				: "");
	else
		say_error("cannot bring \"%s\" online: %s (a member who was never connected needs "
			  "--hub HOST:PORT)",
			peer->node.name, PeerhubResultName(reason));
	peer->failed = true;
}

static void on_status(struct peer *peer)
{
	DWORD wanted =
		peer->has_address ? PEER_GROUP_STATUS_HAS_CONNECTIONS : PEER_GROUP_STATUS_LISTENING;

	if (node_status(&peer->node) & wanted)
		peer->is_online = true;
}

/* ---- links and targets ---------------------------------------------------------------------- */

static struct link *link_at(struct peer *peer, ULONGLONG connection)
{
	for (size_t i = 0; i < peer->link_count; i++)
		if (peer->links[i].connection == connection && connection != 0)
			return &peer->links[i];
	return NULL;
}

static uint64_t links_step(struct peer *peer, uint64_t now_ms)
{
	uint64_t wake = LOOP_NEVER;

	if (peer->online_retry_ms != 0 && now_ms >= peer->online_retry_ms)
		go_online(peer);
	if (peer->online_retry_ms != 0)
		wake = peer->online_retry_ms;
	for (size_t i = 0; peer->is_online && i < peer->link_count; i++)
		wake = loop_earlier(wake, link_step(&peer->links[i], &peer->node, now_ms));
	/* What we wait for would have come from there. */
	if (peer->hub != NULL && peer->hub->state == LINK_DEAD && !is_sender_only(peer))
		peer->failed = true;
	return wake;
}

static void on_link_lost(struct peer *peer, const struct link *link)
{
	for (size_t i = 0; i < peer->target_count; i++)
		if (peer->targets[i].link == link && peer->targets[i].sender != NULL)
			sender_fail(peer->targets[i].sender, TRANSFER_STOPPED, false,
				"the connection is gone");
}

static struct sender *sender_at(struct peer *peer, const struct route *route, uint64_t id)
{
	for (size_t i = 0; i < peer->target_count; i++)
		if (peer->targets[i].sender != NULL &&
			sender_is(peer->targets[i].sender, route, id))
			return peer->targets[i].sender;
	return NULL;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* A message of a transfer, straight or out of the hub's envelope. NULL or what is wrong. */
static const char *on_transfer(struct peer *peer, const struct route *route, const char *source,
	enum transfer_kind kind, const uint8_t *data, size_t bytes, uint64_t now_ms)
{
	struct transfer_message message;
	struct sender *sender;
	const char *why = NULL;

	if (transfer_decode(kind, data, bytes, &message, &why) != 0)
		return why;
	if (kind != TRANSFER_ACK && kind != TRANSFER_RESULT)
		return receiver_on_message(&peer->receiver, route, source, &message, now_ms);
	sender = sender_at(peer, route, message.id);
	/* The last answers of a transfer that has just ended may cross with its end. */
	if (sender == NULL || sender_on_message(sender, &message, now_ms))
		return NULL;
	sender_fail(sender, TRANSFER_PROTOCOL, true, "an answer cannot be true");
	return "an answer cannot be true";
}

/* For free(); NULL: no memory. */
static char *copy_name(const struct relay_message *message)
{
	return strndup(message->name, message->name_bytes);
}

static void on_deliver(
	struct peer *peer, struct link *hub, const struct relay_message *message, uint64_t now_ms)
{
	unsigned kind = transfer_kind_of(message->type);
	char *source = copy_name(message);
	struct route route = {.node = &peer->node, .connection = hub->connection, .name = source};
	const char *why = NULL;

	if (source == NULL) {
		say_error("out of memory: a message is dropped");
		return;
	}
	if (kind == 0)
		say_note("a message of a foreign type is ignored");
	else
		why = on_transfer(peer, &route, source, (enum transfer_kind)kind, message->payload,
			message->payload_bytes, now_ms);
	/* The hub is not to blame for what a member wrote. */
	if (why != NULL)
		say_error("a message of %s is ignored: %s", source, why);
	free(source);
}

static void on_relay_status(
	struct peer *peer, struct link *hub, const struct relay_message *message, uint64_t now_ms)
{
	char *name = copy_name(message);
	struct route route = {.node = &peer->node, .connection = hub->connection, .name = name};
	uint32_t code = relay_code_get(message);
	struct sender *sender;

	if (name == NULL) {
		say_error("out of memory: a message is dropped");
		return;
	}
	sender = sender_at(peer, &route, message->tag);
	if (transfer_kind_of(message->type) == TRANSFER_NOTE)
		notes_on_status(&peer->notes, name, code);
	else if (sender != NULL)
		sender_on_status(sender, code, now_ms);
	else
		receiver_on_status(&peer->receiver, &route, message->tag, code, now_ms);
	free(name);
}

static void on_relay(
	struct peer *peer, ULONGLONG connection, const uint8_t *data, size_t bytes, uint64_t now_ms)
{
	struct relay_message message;
	const char *why = "only a hub that was dialled may deliver";

	if (peer->hub != NULL && peer->hub->connection == connection) {
		if (relay_decode(data, bytes, &message, &why) == 0) {
			if (message.kind == RELAY_DELIVER) {
				on_deliver(peer, peer->hub, &message, now_ms);
				return;
			}
			if (message.kind == RELAY_STATUS) {
				on_relay_status(peer, peer->hub, &message, now_ms);
				return;
			}
			why = "a hub sends only deliver and status";
		}
	}
	node_close_bad(&peer->node, connection, NODE_REASON_RELAY, "relay", why);
}

static void on_data(struct peer *peer, const PEER_EVENT_INCOMING_DATA *incoming, uint64_t now_ms)
{
	ULONGLONG connection = incoming->ullConnectionId;
	struct route route = {.node = &peer->node, .connection = connection};
	struct member *source = members_at(&peer->node.members, connection);
	const char *why;
	uint8_t type[16];
	unsigned kind;

	/* A neighbor's, or a connection that has ended meanwhile. */
	if (source == NULL)
		return;
	node_type_from_guid(&incoming->type, type);
	kind = transfer_kind_of(type);
	if (memcmp(type, relay_type, 16) == 0) {
		on_relay(peer, connection, incoming->data.pbData, incoming->data.cbData, now_ms);
	} else if (kind != 0) {
		why = on_transfer(peer, &route, source->identity, (enum transfer_kind)kind,
			incoming->data.pbData, incoming->data.cbData, now_ms);
		if (why != NULL)
			node_close_bad(
				&peer->node, connection, NODE_REASON_TRANSFER, "transfer", why);
	} else if (peer->node.unread_types++ == 0) {
		say_note("messages of types that are not peerhub's own are ignored");
	}
}

/* ---- events --------------------------------------------------------------------------------- */

static void on_connection(
	struct peer *peer, const PEER_EVENT_CONNECTION_CHANGE_DATA *change, uint64_t now_ms)
{
	struct link *link = link_at(peer, change->ullConnectionId);

	if (change->status != PEER_CONNECTED)
		receiver_on_lost(&peer->receiver, &peer->node, change->ullConnectionId);
	if (link != NULL && link_on_change(link, change, now_ms))
		on_link_lost(peer, link);
	node_on_connection(&peer->node, change);
}

static void on_event(struct peer *peer, const PEER_GROUP_EVENT_DATA *event, uint64_t now_ms)
{
	switch (event->eventType) {
	case PEER_GROUP_EVENT_STATUS_CHANGED:
		on_status(peer);
		return;
	case PEER_GROUP_EVENT_DIRECT_CONNECTION:
		on_connection(peer, &event->connectionChangeData, now_ms);
		return;
	case PEER_GROUP_EVENT_INCOMING_DATA:
		on_data(peer, &event->incomingData, now_ms);
		return;
	case PEER_GROUP_EVENT_NEIGHBOR_CONNECTION:
		if (event->connectionChangeData.status == PEER_CONNECTION_FAILED)
			peer->neighbor_error = event->connectionChangeData.hrConnectionFailedReason;
		return;
	case PEER_GROUP_EVENT_CONNECTION_FAILED:
		on_online_failed(peer, event->hrConnectionFailedReason, now_ms);
		return;
	default:
		return;
	}
}

/* Some of the events. True: there may be more. */
static bool turn(struct peer *peer, uint64_t now_ms)
{
	PPEER_GROUP_EVENT_DATA event;
	int status = 0;

	node_events_begin(&peer->node);
	for (unsigned i = 0; i < EVENTS_A_TURN && !peer->failed; i++) {
		status = node_event(&peer->node, &event);
		if (status <= 0)
			break;
		on_event(peer, event, now_ms);
		PeerFreeData(event);
	}
	if (status < 0)
		peer->failed = true;
	return status > 0;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static bool is_all_sent(const struct peer *peer)
{
	for (size_t i = 0; i < peer->target_count; i++)
		if (!target_is_over(&peer->targets[i], &peer->things))
			return false;
	return !peer->options.broadcast || notes_are_over(&peer->notes);
}

static bool has_failed_target(const struct peer *peer)
{
	for (size_t i = 0; i < peer->target_count; i++)
		if (peer->targets[i].failed)
			return true;
	return peer->options.broadcast && notes_have_failed(&peer->notes);
}

/* Everything that was asked for is done. */
static bool is_done(struct peer *peer, uint64_t now_ms)
{
	const struct receiver *receiver = &peer->receiver;

	if (!is_all_sent(peer))
		return false;
	if (!peer->is_receiving)
		return is_sender_only(peer);
	if (peer->options.count == 0 ||
		receiver->files_done + receiver->lines_done < peer->options.count)
		return false;
	if (peer->linger_until_ms == 0)
		peer->linger_until_ms = now_ms + LINGER_MS;
	return receiver_is_quiet(receiver) || now_ms >= peer->linger_until_ms;
}

/* Listening for others, or only connected: say so once. */
static void say_ready_once(struct peer *peer)
{
	if (peer->is_ready || !peer->is_online ||
		(peer->hub != NULL && peer->hub->state != LINK_OPEN))
		return;
	peer->is_ready = true;
	/* Who only sends has nothing to be waited for. */
	if (!is_sender_only(peer) && node_say_ready(&peer->node) < 0)
		peer->failed = true;
}

static uint64_t step(struct peer *peer, uint64_t now_ms)
{
	uint64_t wake = links_step(peer, now_ms);

	say_ready_once(peer);
	for (size_t i = 0; i < peer->target_count; i++)
		wake = loop_earlier(
			wake, target_step(&peer->targets[i], &peer->node, &peer->things, now_ms));
	if (peer->options.broadcast && peer->hub->state == LINK_OPEN) {
		struct route route = {.node = &peer->node, .connection = peer->hub->connection};

		wake = loop_earlier(wake, notes_step(&peer->notes, &route, now_ms));
	}
	if (peer->options.broadcast && peer->hub->state == LINK_DEAD)
		peer->failed = true;
	wake = loop_earlier(wake, receiver_step(&peer->receiver, now_ms));
	if (peer->receiver.output_failed)
		peer->failed = true;
	if (peer->linger_until_ms != 0)
		wake = loop_earlier(wake, peer->linger_until_ms);
	return wake;
}

/* The one descriptor that somebody wants to read: standard input, or -1. */
static int input_fd(const struct peer *peer)
{
	if (peer->options.broadcast)
		return notes_input_fd(&peer->notes);
	for (size_t i = 0; i < peer->target_count; i++)
		if (peer->targets[i].sender != NULL &&
			sender_input_fd(peer->targets[i].sender) >= 0)
			return sender_input_fd(peer->targets[i].sender);
	return -1;
}

static void input_readable(struct peer *peer)
{
	if (peer->options.broadcast)
		notes_readable(&peer->notes);
	for (size_t i = 0; i < peer->target_count; i++)
		if (peer->targets[i].sender != NULL &&
			sender_input_fd(peer->targets[i].sender) >= 0)
			sender_readable(peer->targets[i].sender);
}

static const char *what_is_missing(const struct peer *peer)
{
	if (!peer->is_online)
		return "for a member to answer";
	if (peer->hub != NULL && peer->hub->state != LINK_OPEN)
		return "for the hub";
	return is_all_sent(peer) ? "for something to receive" : "for a transfer to end";
}

static int run(struct peer *peer)
{
	uint64_t begin_ms = loop_now_ms(), now_ms, wake;
	uint64_t timeout_ms = LOOP_NEVER, end_ms = LOOP_NEVER;
	struct pollfd polls[3];
	bool more;

	if (peer->options.timeout_s != 0)
		timeout_ms = begin_ms + peer->options.timeout_s * 1000;
	if (peer->options.for_s != 0)
		end_ms = begin_ms + peer->options.for_s * 1000;
	while (loop_signal() == 0) {
		now_ms = loop_now_ms();
		more = turn(peer, now_ms);
		wake = step(peer, now_ms);
		if (peer->failed)
			return EXIT_FAILED;
		if (is_done(peer, now_ms))
			return has_failed_target(peer) ? EXIT_FAILED : EXIT_OK;
		if (now_ms >= timeout_ms) {
			say_error("timed out after %" PRIu64 " second%s, waiting %s",
				peer->options.timeout_s, peer->options.timeout_s == 1 ? "" : "s",
				what_is_missing(peer));
			return EXIT_TIMEOUT;
		}
		if (now_ms >= end_ms)
			break;
		wake = loop_earlier(wake, loop_earlier(timeout_ms, end_ms));
		polls[1] = (struct pollfd){.fd = peer->node.event_fd, .events = POLLIN};
		polls[2] = (struct pollfd){.fd = input_fd(peer), .events = POLLIN};
		if (loop_wait(polls, COUNT(polls), more ? 0 : wake) < 0)
			return EXIT_FAILED;
		if (polls[2].fd >= 0 && polls[2].revents != 0)
			input_readable(peer);
	}
	/* Told to end: that is well for who only receives, not for what is still to be sent. */
	return is_all_sent(peer) && !has_failed_target(peer) ? EXIT_OK : EXIT_FAILED;
}

/* ---- begin and end -------------------------------------------------------------------------- */

static int begin(struct peer *peer)
{
	const struct receiver_options receiver = {.directory = peer->options.receive,
		.lines = peer->is_receiving,
		.count = peer->options.count};
	char *identity = names_identity(peer->options.identity), *text = NULL, *group = NULL;
	int status = -EIO;

	if (identity == NULL)
		return -EIO;
	if (peer->options.invitation != NULL) {
		text = files_read_text(peer->options.invitation);
		if (text != NULL)
			status = node_join(&peer->node, identity, text, peer->options.invitation);
	} else {
		group = names_group(identity, peer->options.group);
		if (group != NULL)
			status = node_open(&peer->node, identity, group);
	}
	free(text);
	free(group);
	free(identity);
	return status == 0 ? receiver_begin(&peer->receiver, &receiver) : status;
}

static void set_deadlines(struct peer *peer)
{
	uint64_t give_up_ms = loop_now_ms() + peer->options.wait_s * 1000;

	peer->things.wait_ms = peer->options.wait_s * 1000;
	peer->online_give_up_ms = give_up_ms;
	for (size_t i = 0; i < peer->link_count; i++)
		peer->links[i].give_up_ms = give_up_ms;
}

static void end(struct peer *peer)
{
	for (size_t i = 0; i < peer->target_count; i++) {
		struct target *target = &peer->targets[i];

		if (target->sender != NULL)
			sender_fail(target->sender, TRANSFER_STOPPED, true, "stopped");
		target_fini(target);
	}
	receiver_end(&peer->receiver);
	node_end(&peer->node);
	for (size_t i = 0; i < peer->link_count; i++)
		link_fini(&peer->links[i]);
}

static int peer_run(struct peer *peer)
{
	int code = EXIT_FAILED;

	if (loop_begin() < 0) {
		say_error("cannot take signals: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (FAILED(PeerhubSetEndCallback(asked_on_end, NULL)) || !names_startup())
		return EXIT_FAILED;
	if (begin(peer) == 0) {
		set_deadlines(peer);
		go_online(peer);
		if (!peer->failed)
			code = run(peer);
	}
	end(peer);
	(void)PeerGroupShutdown();
	return code;
}

static const char summary[] =
	"Join a group, connect, send and receive.\n"
	"\n"
	"IDENTITY is the whole peer name of the receiver. \"--to IDENTITY\" goes through the hub,\n"
	"\"--to IDENTITY@HOST:PORT\" straight there, \"--to hub\" (or no --to) to the hub itself.\n"
	"A peer that does not only send prints \"ready ADDRESS identity ID group GROUP\". A sender\n"
	"ends when every receiver has confirmed the SHA-256.";

int peer_main(int argc, char **argv)
{
	static struct peer peer;
	struct peer_options *given = &peer.options;
	const struct option_spec options[] = {
		{"invitation", OPTION_TEXT, "FILE", "join with this invitation first",
			&given->invitation, 0, 0},
		{"group", OPTION_TEXT, "GROUP", "which group; default the only one", &given->group,
			0, 0},
		{"identity", OPTION_TEXT, "ID", "who we are; default the default identity",
			&given->identity, 0, 0},
		{"hub", OPTION_LIST, "[ID@]HOST:PORT",
			"connect to the hub there (ID: and to no other); repeated:\n"
			"to one of them, the next when one fails or sends us away",
			&given->hubs, 0, 0},
		{"listen", OPTION_TEXT, "HOST:PORT",
			"where to listen, numeric; port 0: any free one;\n"
			"default PEERHUB_LISTEN, then [::]:3587 or any free port",
			&given->listen, 0, 0},
		{"to", OPTION_LIST, "IDENTITY[@HOST:PORT]", "a receiver; may be repeated",
			&given->to, 0, 0},
		{"via-hub", OPTION_FLAG, NULL,
			"every --to is a name behind the hub, also with an @", &given->via_hub, 0,
			0},
		{"send", OPTION_LIST, "FILE",
			"a file to send; may be repeated; - is standard input", &peer.things.files,
			0, 0},
		{"lines", OPTION_FLAG, NULL, "send the lines of standard input", &peer.things.lines,
			0, 0},
		{"broadcast", OPTION_FLAG, NULL,
			"send each line of standard input to everybody at the hub;\n"
			"only the hub confirms them",
			&given->broadcast, 0, 0},
		{"receive", OPTION_TEXT, "DIR",
			"take files into DIR (- is standard output) and print lines",
			&given->receive, 0, 0},
		{"receive-lines", OPTION_FLAG, NULL, "print lines, take no files",
			&given->receive_lines, 0, 0},
		{"count", OPTION_NUMBER, "N", "end after N transfers were received", &given->count,
			1, 1000000000},
		{"wait", OPTION_NUMBER, "SECONDS",
			"how long to wait for a hub or receiver that is not there\nyet; default 10",
			&given->wait_s, 0, 1000000},
		{"timeout", OPTION_NUMBER, "SECONDS",
			"give up (exit code 3) when not done after this time", &given->timeout_s, 1,
			1000000000},
		{"for", OPTION_NUMBER, "SECONDS", "end by itself after this time", &given->for_s, 1,
			1000000000},
	};
	const struct command command = {"peerhub peer", "", summary, options, COUNT(options), 0, 0};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	HRESULT result;

	peer = (struct peer){.receiver = {.directory_fd = -1}, .node = {.event_fd = -1}};
	given->wait_s = 10;
	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (!check_options(&peer))
		return EXIT_USAGE;
	if (given->listen != NULL && FAILED(result = PeerhubSetListen(given->listen))) {
		say_result(result, "--listen \"%s\"", given->listen);
		return EXIT_USAGE;
	}
	if (given->receive != NULL && strcmp(given->receive, "-") == 0)
		say_lines_on_stderr();
	return peer_run(&peer);
}
