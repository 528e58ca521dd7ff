/*
 * Callbacks: what the engine asks and tells, on its shard threads, several at once. For one connection
 * they come one at a time, and on_closed is the last.
 *
 * None of them blocks: the node's lock is held for lists and queues only, what belongs on disk goes to
 * persist.c. None needs memory for an event that must not be lost: that was taken in on_connect, where a
 * peer can still be refused, or before the dial.
 */
#include "api/connection.h"

#include "api/check.h"
#include "api/revocation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICKS_PER_SECOND 10000000ull
#define SECONDS_1601_TO_1970 11644473600ull

/* ---- who is asked for, who asks ----------------------------------------------------------- */

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	char identity[PEER_AUTHORITY_BYTES], group[PEER_AUTHORITY_BYTES];
	struct node *node;

	(void)hub_user;
	if (peer_sni_parse(sni, identity, group) < 0)
		return -EINVAL;
	node = node_find_listening(identity, group);
	if (node == NULL)
		return -ENOENT;
	answer->credentials = ph_credentials_get(node->credentials);
	strcpy(answer->group, node->membership->group);
	strcpy(answer->identity, node->membership->identity);
	node_put(node);
	return 0;
}

static void refuse(struct ph_verdict *verdict, const char *why)
{
	(void)!snprintf(verdict->refusal, sizeof(verdict->refusal), "%s", why);
}

/* The node that a peer which dialled us has reached; counted, NULL: it is gone. The engine says in
 * `expected` which identity on_hello answered with. */
static struct node *node_of_accepted(const char *identity, const char *group, const char *expected)
{
	char answered[PEER_AUTHORITY_BYTES];

	if (identity[0] == '\0' && expected != NULL && peer_name_authority(expected, answered) == 0)
		return node_find_listening(answered, group);
	return node_find_listening(identity, group);
}

/* What the chain proved, kept for events and enumerations. */
static int proof_create(
	const struct trust_result *trust, uint64_t revocation_epoch, struct proof **created)
{
	struct proof *proof = calloc(1, sizeof(*proof));

	if (proof == NULL)
		return -ENOMEM;
	proof->credential = peer_credential_create(trust);
	proof->member = member_create(trust->identity);
	if (proof->credential == NULL || proof->member == NULL) {
		peer_credential_put(proof->credential);
		if (proof->member != NULL)
			member_put(proof->member);
		free(proof);
		return -ENOMEM;
	}
	proof->credential->revocation_epoch = revocation_epoch;
	*created = proof;
	return 0;
}

static int verify_accepted(struct node *node, uint64_t id, const struct trust_result *trust,
	uint64_t revocation_epoch, struct ph_verdict *verdict)
{
	struct connection *connection;
	struct proof *proof;

	if (peer_name_same_authority(trust->identity, node->membership->identity)) {
		refuse(verdict, "the peer has our own identity");
		return -EACCES;
	}
	if (proof_create(trust, revocation_epoch, &proof) < 0)
		return -ENOMEM;
	connection = connection_create(node, 1); /* the engine's, until on_closed */
	if (connection == NULL) {
		peer_credential_put(proof->credential);
		member_put(proof->member);
		free(proof);
		return -ENOMEM;
	}
	connection->is_accepted = true;
	connection->id = id;
	atomic_store(&connection->has_id, true);
	connection->credential = proof->credential;
	connection->member = proof->member;
	free(proof);
	verdict->tag = node->tag;
	verdict->user = connection;
	return 0;
}

static int verify_dialled(uint64_t id, const char *expected, const struct trust_result *trust,
	uint64_t revocation_epoch, struct ph_verdict *verdict)
{
	struct proof *proof;

	if (expected != NULL && expected[0] != '\0' && strcmp(expected, trust->identity) != 0) {
		refuse(verdict, "the peer has another identity than the one that was dialled");
		return -EACCES;
	}
	if (proof_create(trust, revocation_epoch, &proof) < 0)
		return -ENOMEM;
	proof->id = id;
	proof_put(proof);
	return 0;
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	char identity[PEER_AUTHORITY_BYTES], group[PEER_AUTHORITY_BYTES];
	char refusal[REFUSAL_BYTES];
	struct trust_result trust;
	struct trust_request request = {.now_s = (int64_t)time(NULL),
		.group_authority = group,
		.cache = runtime_trust_cache()};
	uint64_t epoch = revocation_epoch();
	struct node *node = NULL;
	int status;

	(void)hub_user;
	if (peer_sni_parse(sni, identity, group) < 0) {
		refuse(verdict, "the server name is not one of ours");
		return -EINVAL;
	}
	if (trust_verify_chain(chain, &request, &trust, refusal) != TRUST_OK) {
		refuse(verdict, refusal);
		return -EACCES;
	}
	strcpy(verdict->group, trust.group);
	strcpy(verdict->identity, trust.identity);
	verdict->role = trust.role;
	if (revocation_refuses(&trust, verdict->refusal))
		return -EACCES;
	if (!accepted)
		return verify_dialled(id, expected, &trust, epoch, verdict);
	node = node_of_accepted(identity, group, expected);
	if (node == NULL) {
		refuse(verdict, "the group has been closed");
		return -ENOENT;
	}
	status = verify_accepted(node, id, &trust, epoch, verdict);
	node_put(node);
	return status;
}

/* ---- members ------------------------------------------------------------------------------ */

static void events_member(struct connection *connection, PEER_MEMBER_CHANGE_TYPE change)
{
	for (struct reservation *at = connection->reservations; at != NULL;
		at = at->connection_next)
		event_member(at, change, connection->member);
}

/* The peer has one open connection more. */
static void member_attach(struct connection *connection, const struct ph_open_info *info)
{
	struct member *fresh = connection->member;
	struct member *member = node_member(connection->node, fresh);

	member_get(member);
	member_put(fresh);
	connection->member = member;
	peer_credential_get(connection->credential);
	peer_credential_put(member->credential);
	member->credential = connection->credential;
	member->node_id = info->node_id;
	if (connection->kind == PH_KIND_NEIGHBOR) {
		member->neighbor_count++;
		member->neighbor_node_id = info->node_id;
	}
	if (info->address_count > 0) {
		member->address_count = info->address_count < PH_ADDRESSES_MAX ? info->address_count
									       : PH_ADDRESSES_MAX;
		memcpy(member->addresses, info->addresses,
			member->address_count * sizeof(*member->addresses));
	} else if (!info->accepted && member->address_count == 0) {
		member->address_count = 1; /* it answered there */
		member->addresses[0] = connection->address;
	}
	if (member->open_count++ == 0)
		events_member(connection, PEER_MEMBER_CONNECTED);
}

static void member_detach(struct connection *connection)
{
	struct member *member = connection->member;

	assert(member->open_count > 0);
	if (connection->kind == PH_KIND_NEIGHBOR) {
		assert(member->neighbor_count > 0);
		member->neighbor_count--;
	}
	if (--member->open_count > 0)
		return;
	events_member(connection, PEER_MEMBER_DISCONNECTED);
	node_member_leave(connection->node, member);
}

/* ---- the life of a connection ------------------------------------------------------------- */

static uint64_t peer_time_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec + SECONDS_1601_TO_1970) * TICKS_PER_SECOND +
		(uint64_t)now.tv_nsec / 100;
}

/* A neighbor that is the same node as one we have: the second link would carry nothing new. */
static bool has_neighbor(struct node *node, const struct connection *connection)
{
	const struct member *member = node_member_find(node, connection->credential->identity);

	return member != NULL && member->neighbor_count > 0 &&
		member->neighbor_node_id == connection->node_id;
}

/* The node's lock is held exclusively. */
static enum ph_refuse connection_admit(struct connection *connection)
{
	struct node *node = connection->node;

	if (atomic_load(&node->is_ended) || !runtime_is_accepting())
		return PH_REFUSE_BUSY;
	if (connection->kind == PH_KIND_DIRECT && node->direct_registration_count == 0)
		return PH_REFUSE_DIRECT_DISALLOWED;
	if (connection->kind == PH_KIND_NEIGHBOR && has_neighbor(node, connection))
		return PH_REFUSE_ALREADY_CONNECTED;
	return connection_enter(connection) ? PH_ACCEPT : PH_REFUSE_BUSY;
}

static enum ph_refuse on_connect(void *hub_user, uint64_t id, uint64_t tag, void *user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	static _Thread_local ph_address addresses[PH_ADDRESSES_MAX]; /* outlives the call */
	struct connection *connection = user;
	struct node *node = connection->node;
	enum ph_refuse refusal;

	(void)hub_user;
	assert(connection->id == id);
	assert(node->tag == tag);
	pthread_rwlock_wrlock(&node->lock);
	connection->kind = info->kind;
	connection->node_id = info->node_id;
	connection->address = info->address_count > 0 ? info->addresses[0] : info->peer_address;
	refusal = connection_admit(connection);
	pthread_rwlock_unlock(&node->lock);
	if (refusal != PH_ACCEPT)
		return refusal;
	answer->node_id = node->membership->node_id;
	answer->peer_time = peer_time_now();
	if (info->kind == PH_KIND_NEIGHBOR) {
		answer->addresses = addresses;
		answer->address_count = node_addresses(node, addresses);
	}
	return PH_ACCEPT;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct connection *connection = user;
	struct node *node = connection->node;
	bool is_revoked;

	(void)hub_user;
	if (!connection->is_accepted)
		proof_take(connection);
	assert(connection->credential != NULL); /* no open without a verified chain */
	runtime_tell_open(id, info);
	connection_publish(connection, false);
	pthread_rwlock_wrlock(&node->lock);
	assert(connection->state == CONNECTION_OPENING);
	connection->state = CONNECTION_OPEN;
	connection->node_id = info->node_id;
	for (struct reservation *at = connection->reservations; at != NULL;
		at = at->connection_next)
		event_connected(at, id, info->node_id);
	member_attach(connection, info);
	if (connection->kind == PH_KIND_NEIGHBOR)
		node_on_neighbor(node, connection->is_accepted ? NULL : &connection->address);
	if (connection->is_attempt)
		node_on_dial_end(node, true);
	/* Somebody was revoked since on_verify: whom the walk did not find is found here. See revocation.h. */
	is_revoked = connection->credential->revocation_epoch != revocation_epoch() &&
		revocation_reaches(node->group_authority, connection->credential->chain);
	pthread_rwlock_unlock(&node->lock);
	if (is_revoked)
		(void)ph_close(id, node->tag, PH_ABORT, PH_REASON_LOCAL_REVOKED, REVOCATION_WORDS);
	else
		revocation_on_open(connection);
}

/* GUID of 16 bytes in big-endian field order. */
static GUID guid_from_wire(const uint8_t type[16])
{
	GUID guid = {.Data1 = (uint32_t)type[0] << 24 | (uint32_t)type[1] << 16 |
			(uint32_t)type[2] << 8 | type[3],
		.Data2 = (uint16_t)(type[4] << 8 | type[5]),
		.Data3 = (uint16_t)(type[6] << 8 | type[7])};

	memcpy(guid.Data4, type + 8, sizeof(guid.Data4));
	return guid;
}

struct message {
	uint64_t id;
	GUID type;
	const uint8_t *data;
	size_t bytes;
};

/* A copy for every matching registration, or for none: what was refused comes again as a whole. The
 * node's lock is held. */
static bool message_deliver(const struct node *node, const struct message *message)
{
	struct event_item *items = NULL, **tail = &items, *item;
	const struct registration *refused = NULL;

	for (struct registration *at = node->registrations; at != NULL; at = at->next) {
		if (!registration_wants_data(at, &message->type))
			continue;
		item = event_data_create(
			at, message->id, &message->type, message->data, message->bytes);
		if (item == NULL) {
			refused = at;
			break;
		}
		*tail = item;
		tail = &item->next;
	}
	for (struct registration *at = node->registrations; items != NULL; at = at->next) {
		if (!registration_wants_data(at, &message->type))
			continue;
		item = items;
		items = item->next;
		if (refused != NULL)
			event_data_cancel(at, item);
		else
			event_data_queue(at, item);
	}
	return refused == NULL;
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct connection *connection = user;
	struct node *node = connection->node;
	struct message message = {
		.id = id, .type = guid_from_wire(type), .data = data, .bytes = bytes};
	bool is_taken = true;

	(void)hub_user;
	if (memcmp(type, revocation_type, sizeof(revocation_type)) == 0) {
		revocation_on_message(connection, data, bytes);
		return 0;
	}
	pthread_rwlock_rdlock(&node->lock);
	/* Without any registration for connections the peer gets no data, and nobody is told. */
	if (node->connection_registration_count > 0) {
		/* Before the attempt: whoever makes room after it must find the flag. */
		atomic_store(&connection->is_paused, true);
		is_taken = message_deliver(node, &message);
		if (is_taken)
			atomic_store(&connection->is_paused, false);
	}
	pthread_rwlock_unlock(&node->lock);
	return is_taken ? 0 : -EAGAIN;
}

static void on_writable(void *hub_user, uint64_t id, void *user)
{
	(void)hub_user;
	(void)id;
	revocation_on_writable(user);
}

static HRESULT failure_reason(const struct ph_receipt *receipt)
{
	switch (receipt->failure) {
	case PH_FAILURE_AUTHENTICATION:
		return PEER_E_CONNECTION_NOT_AUTHENTICATED;
	case PH_FAILURE_REFUSED:
		return PEER_E_CONNECTION_REFUSED;
	default:
		return PEER_E_CONNECTION_FAILED;
	}
}

static void connection_end_open(struct connection *connection)
{
	struct node *node = connection->node;

	for (struct reservation *at = connection->reservations; at != NULL;
		at = at->connection_next)
		event_last(at, PEER_DISCONNECTED, connection->id, connection->node_id, S_OK);
	member_detach(connection);
	if (connection->kind == PH_KIND_NEIGHBOR) {
		assert(node->neighbor_count > 0);
		node->neighbor_count--;
		node_status_update(node);
	}
}

/* A peer that we accepted and that never came to be open is nobody's business but the engine's. */
static void connection_end_opening(struct connection *connection, HRESULT reason)
{
	if (connection->is_accepted)
		return;
	for (struct reservation *at = connection->reservations; at != NULL;
		at = at->connection_next)
		event_last(at, PEER_CONNECTION_FAILED, connection->id, 0, reason);
	if (connection->is_attempt)
		node_on_dial_end(connection->node, false);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct connection *connection = user;
	struct node *node;

	(void)hub_user;
	(void)id;
	if (connection == NULL) { /* it ended before its chain was verified */
		runtime_tell_end(receipt, "", "");
		return;
	}
	node = connection->node;
	if (!connection->is_accepted && connection->credential == NULL)
		proof_take(connection);
	runtime_tell_end(receipt, node->membership->group,
		connection->credential != NULL ? connection->credential->identity : "");
	connection_publish(connection, true);
	pthread_rwlock_wrlock(&node->lock);
	if (connection->state == CONNECTION_OPEN)
		connection_end_open(connection);
	else
		connection_end_opening(connection, failure_reason(receipt));
	connection_leave(connection);
	pthread_rwlock_unlock(&node->lock);
	connection_put(connection);
}

const struct ph_callbacks connection_callbacks = {
	.on_hello = on_hello,
	.on_verify = on_verify,
	.on_connect = on_connect,
	.on_open = on_open,
	.on_data = on_data,
	.on_writable = on_writable,
	.on_closed = on_closed,
};
