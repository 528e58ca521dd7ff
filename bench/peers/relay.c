/*
 * peer-relay: what a hub relays (docs/relay.md), on the engine alone, to compare with a message
 * broker. One shard; a member is known by what it says of itself (plain) or by its server name
 * `MEMBER.GROUP.p2p` (TLS, where every client of a measurement shows the same certificate).
 *
 * All of this but main runs on the one shard, so nothing is locked. A member remembers whom it sent
 * to last: that connection's id either still works or ph_send says that it is gone.
 */
#include "bench/echo/trust.h"
#include "bench/peers/peer.h"
#include "hub/relay.h"
#include "peerhub.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RELAY_TAG 1u
#define MEMBER_NAME_BYTES 64u

struct member {
	struct group *group;
	struct member *next, **at; /* in its group, once open */
	uint64_t id;
	uint64_t target_id; /* 0: nobody yet */
	char target[MEMBER_NAME_BYTES];
	char name[MEMBER_NAME_BYTES];
};

struct group {
	struct group *next;
	struct member *members;
	char name[MEMBER_NAME_BYTES];
};

static struct peer_options options;
static struct trust *trust;
static struct ph_hub *hub;
static struct group *groups;
static const uint8_t relay_type[16] = RELAY_TYPE_BYTES;

/* ---- members --------------------------------------------------------------------------- */

/* By a name of less than MEMBER_NAME_BYTES. */
static struct group *group_get(const char *name)
{
	struct group *group;

	for (group = groups; group != NULL; group = group->next)
		if (strcmp(group->name, name) == 0)
			return group;
	group = calloc(1, sizeof(*group));
	if (group == NULL)
		return NULL;
	memcpy(group->name, name, strlen(name) + 1);
	group->next = groups;
	groups = group;
	return group;
}

static struct member *member_create(const char *group, const char *name)
{
	struct member *member;

	if (strlen(group) >= MEMBER_NAME_BYTES || strlen(name) >= MEMBER_NAME_BYTES)
		return NULL;
	member = calloc(1, sizeof(*member));
	if (member == NULL)
		return NULL;
	member->group = group_get(group);
	if (member->group == NULL) {
		free(member);
		return NULL;
	}
	memcpy(member->name, name, strlen(name) + 1);
	return member;
}

/* `MEMBER.GROUP.p2p`. False when it is not of this form or too long. */
static bool sni_split(
	const char *sni, char member[MEMBER_NAME_BYTES], char group[MEMBER_NAME_BYTES])
{
	const char *dot = strchr(sni, '.');
	const char *end = dot != NULL ? strchr(dot + 1, '.') : NULL;

	if (end == NULL || dot - sni >= (int)MEMBER_NAME_BYTES ||
		end - dot > (int)MEMBER_NAME_BYTES || strcmp(end, ".p2p") != 0)
		return false;
	snprintf(member, MEMBER_NAME_BYTES, "%.*s", (int)(dot - sni), sni);
	snprintf(group, MEMBER_NAME_BYTES, "%.*s", (int)(end - dot - 1), dot + 1);
	return true;
}

/* ---- relaying -------------------------------------------------------------------------- */

static int deliver(uint64_t id, const struct relay_message *message)
{
	uint8_t head[RELAY_HEADER_BYTES_MAX];
	struct relay_message envelope = *message;
	struct ph_part parts[2] = {{.data = head}, {message->payload, message->payload_bytes}};
	int status;

	envelope.payload_bytes = message->kind == RELAY_STATUS ? message->payload_bytes : 0;
	status = relay_encode(&envelope, head, sizeof(head), &parts[0].bytes);
	if (status < 0)
		return status;
	return ph_send(id, RELAY_TAG, relay_type, parts, message->kind == RELAY_STATUS ? 1 : 2);
}

/* What did not reach `name`; lost itself when the sender's queue is full, too. */
static void status_send(const struct member *source, const struct relay_message *message,
	const char *name, size_t name_bytes, enum relay_code code)
{
	struct relay_message answer = {.kind = RELAY_STATUS,
		.name = name,
		.name_bytes = name_bytes,
		.tag = message->tag,
		.payload_bytes = 4};
	uint8_t payload[4];

	relay_code_put(code, payload);
	memcpy(answer.type, message->type, sizeof(answer.type));
	answer.payload = payload;
	if (deliver(source->id, &answer) < 0)
		fprintf(stderr, "peer-relay: a status for %s is lost\n", source->name);
}

static bool target_find(struct member *source, const struct relay_message *message)
{
	if (message->name_bytes >= sizeof(source->target))
		return false;
	memcpy(source->target, message->name, message->name_bytes);
	source->target[message->name_bytes] = '\0';
	source->target_id = 0;
	return ph_find(hub, source->group->name, source->target, &source->target_id, 1) > 0;
}

static void relay_one(struct member *source, const struct relay_message *message)
{
	struct relay_message delivered = *message;
	bool known = source->target_id != 0 && strlen(source->target) == message->name_bytes &&
		memcmp(source->target, message->name, message->name_bytes) == 0;
	int status = -ENOENT;

	delivered.kind = RELAY_DELIVER;
	delivered.name = source->name;
	delivered.name_bytes = strlen(source->name);
	if (known)
		status = deliver(source->target_id, &delivered);
	if (status == -ENOENT && target_find(source, message))
		status = deliver(source->target_id, &delivered);
	if (status < 0)
		status_send(source, message, message->name, message->name_bytes,
			status == -ENOENT ? RELAY_ABSENT : RELAY_SLOW);
}

static void relay_all(struct member *source, const struct relay_message *message)
{
	struct relay_message delivered = *message;

	delivered.kind = RELAY_DELIVER;
	delivered.name = source->name;
	delivered.name_bytes = strlen(source->name);
	for (struct member *to = source->group->members; to != NULL; to = to->next)
		if (to != source && deliver(to->id, &delivered) < 0)
			status_send(source, message, to->name, strlen(to->name), RELAY_SLOW);
}

/* ---- callbacks, on the shard ----------------------------------------------------------- */

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	char member[MEMBER_NAME_BYTES];

	(void)hub_user;
	if (!sni_split(sni, member, answer->group))
		return -EINVAL;
	snprintf(answer->identity, sizeof(answer->identity), "%s", trust_identity(trust));
	answer->credentials = ph_credentials_get(trust_credentials(trust));
	return 0;
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	int status;

	(void)hub_user;
	(void)id;
	(void)expected;
	verdict->tag = RELAY_TAG;
	if (options.tls) {
		status = trust_judge(trust, chain, accepted, verdict->identity, verdict->refusal);
		if (status < 0)
			return status;
		if (sni == NULL || !sni_split(sni, verdict->identity, verdict->group))
			return -EINVAL;
	}
	verdict->user = member_create(verdict->group, verdict->identity);
	return verdict->user != NULL ? 0 : -ENOMEM;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct member *member = user;

	(void)hub_user;
	(void)info;
	member->id = id;
	member->at = &member->group->members;
	member->next = member->group->members;
	if (member->next != NULL)
		member->next->at = &member->next;
	*member->at = member;
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct relay_message message;

	(void)hub_user;
	if (memcmp(type, relay_type, sizeof(relay_type)) != 0)
		return 0; /* a message to the hub itself: nobody is at home */
	if (relay_decode(data, bytes, &message, NULL) < 0)
		ph_close(id, RELAY_TAG, PH_GRACEFUL, PH_REASON_APP_ERROR, "not a relay message");
	else if (message.kind == RELAY_SEND)
		relay_one(user, &message);
	else if (message.kind == RELAY_BROADCAST)
		relay_all(user, &message);
	else
		ph_close(id, RELAY_TAG, PH_GRACEFUL, PH_REASON_APP_ERROR, "not to a hub");
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct member *member = user;

	(void)hub_user;
	(void)id;
	(void)receipt;
	if (member == NULL)
		return; /* it was never verified */
	if (member->at != NULL) {
		*member->at = member->next;
		if (member->next != NULL)
			member->next->at = member->at;
	}
	free(member);
}

static const struct ph_callbacks callbacks = {.on_hello = on_hello,
	.on_verify = on_verify,
	.on_open = on_open,
	.on_data = on_data,
	.on_closed = on_closed};

/* ---- run ------------------------------------------------------------------------------- */

static int trust_start(void)
{
	char cert[PATH_MAX], key[PATH_MAX], ca[PATH_MAX], why[TRUST_WHY_BYTES];

	if (!options.tls)
		return 0;
	snprintf(cert, sizeof(cert), "%s/server.pem", options.pki);
	snprintf(key, sizeof(key), "%s/server.key", options.pki);
	snprintf(ca, sizeof(ca), "%s/ca.pem", options.pki);
	return trust_create(cert, key, ca, &trust, why) < 0
		? peer_failure(&options, "cannot set up TLS", why)
		: 0;
}

static int hub_start(void)
{
	struct ph_options hub_options = {
		.size = sizeof(hub_options), .shard_count = 1, .flags = PH_HUB_TLS_FAST_DECODE};
	struct ph_listen_options listen_options = {.framing = PH_FRAMING_MESSAGE,
		.tls = options.tls ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.tag = RELAY_TAG};
	char text[PH_ADDRESS_TEXT_BYTES], why[PH_WHY_BYTES] = "";
	ph_address bound;
	int status;

	status = ph_hub_start(&hub_options, &callbacks, &hub, why);
	if (status < 0)
		return peer_failure(&options, "cannot start the engine", why);
	snprintf(text, sizeof(text), "127.0.0.1:%u", options.port);
	status = ph_address_parse(text, &listen_options.address);
	if (status == 0)
		status = ph_listen(hub, &listen_options, &bound);
	if (status < 0)
		return peer_failure(&options, "cannot listen", strerror(-status));
	options.port = ntohs(bound.sin6_port);
	return peer_ready(&options);
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.message = true, .tls = true};
	int status = peer_options_parse(&options, "relay", &abilities, argc, argv);
	struct pollfd watch = {.events = POLLIN};

	if (status >= 0)
		return status;
	watch.fd = peer_signals(&options);
	if (watch.fd < 0 || trust_start() < 0)
		return PEER_EXIT_FAILURE;
	peer_descriptors_raise();
	status = hub_start();
	while (status == 0 && (poll(&watch, 1, -1) < 0 || peer_signal_next(watch.fd) == 0))
		continue;
	if (hub != NULL && ph_hub_stop(hub, PH_GRACEFUL) < 0)
		status = -1;
	trust_destroy(trust);
	while (groups != NULL) {
		struct group *group = groups;

		groups = group->next;
		free(group);
	}
	return status == 0 ? PEER_EXIT_OK : PEER_EXIT_FAILURE;
}
