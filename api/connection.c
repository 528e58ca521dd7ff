/*
 * Connections: their records, the table of them, and what clients do with them. See connection.h.
 *
 * Two indexes lead to a record: its node's list, under the node's lock, and the table by id below,
 * whose bucket locks are held for a few instructions only. For one connection the engine calls back
 * from one thread, one call at a time, and on_closed is the last.
 */
#include "api/connection.h"

#include "api/check.h"
#include "api/detail.h"
#include "api/hresult.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <stdlib.h>

#define TABLE_BUCKETS 65536u /* chains stay short at 40,000 connections; 512 KiB */
#define TABLE_LOCKS 256u

static struct {
	struct connection *connections[TABLE_BUCKETS];
	struct proof *proofs[TABLE_BUCKETS];
	pthread_mutex_t locks[TABLE_LOCKS];
} table = {.locks = {[0 ... TABLE_LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER}};

static uint32_t table_index(uint64_t id)
{
	return (uint32_t)(id * 0x9e3779b97f4a7c15ull >> 48); /* 16 bits */
}

static pthread_mutex_t *table_lock(uint64_t id)
{
	pthread_mutex_t *lock = &table.locks[table_index(id) % TABLE_LOCKS];

	pthread_mutex_lock(lock);
	return lock;
}

/* ---- records ------------------------------------------------------------------------------ */

struct connection *connection_create(struct node *node, uint32_t references)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (connection == NULL)
		return NULL;
	atomic_init(&connection->references, references);
	connection->state = CONNECTION_NEW;
	connection->node = node;
	node_get(node);
	return connection;
}

void connection_put(struct connection *connection)
{
	if (atomic_fetch_sub_explicit(&connection->references, 1, memory_order_acq_rel) > 1)
		return;
	assert(connection->reservations == NULL);
	assert(!connection->is_listed);
	if (connection->member != NULL)
		member_put(connection->member);
	peer_credential_put(connection->credential);
	node_put(connection->node);
	free(connection);
}

void connection_publish(struct connection *connection, bool has_ended)
{
	struct connection **at = &table.connections[table_index(connection->id)];
	pthread_mutex_t *lock = table_lock(connection->id);

	if (connection->id_out != NULL)
		__atomic_store_n(connection->id_out, connection->id, __ATOMIC_RELAXED);
	connection->id_out = NULL;
	atomic_store(&connection->has_id, true);
	connection->has_ended |= has_ended;
	if (!connection->has_ended && !connection->is_listed) {
		connection->bucket_next = *at;
		*at = connection;
		connection->is_listed = true;
	}
	if (has_ended && connection->is_listed) {
		while (*at != connection)
			at = &(*at)->bucket_next;
		*at = connection->bucket_next;
		connection->is_listed = false;
	}
	pthread_mutex_unlock(lock);
}

/* ---- proofs ------------------------------------------------------------------------------- */

void proof_put(struct proof *proof)
{
	struct proof **at = &table.proofs[table_index(proof->id)];
	pthread_mutex_t *lock = table_lock(proof->id);

	proof->next = *at;
	*at = proof;
	pthread_mutex_unlock(lock);
}

void proof_take(struct connection *connection)
{
	struct proof **at = &table.proofs[table_index(connection->id)];
	pthread_mutex_t *lock = table_lock(connection->id);
	struct proof *proof;

	while (*at != NULL && (*at)->id != connection->id)
		at = &(*at)->next;
	proof = *at;
	if (proof != NULL)
		*at = proof->next;
	pthread_mutex_unlock(lock);
	if (proof == NULL)
		return;
	connection->credential = proof->credential;
	connection->member = proof->member;
	free(proof);
}

/* ---- at the node; its lock is held exclusively -------------------------------------------- */

static void connection_release_room(struct connection *connection)
{
	struct reservation *reservation;

	while ((reservation = connection->reservations) != NULL) {
		connection->reservations = reservation->connection_next;
		reservation_release(reservation);
	}
}

bool connection_enter(struct connection *connection)
{
	struct node *node = connection->node;

	assert(connection->state == CONNECTION_NEW);
	for (struct registration *at = node->registrations; at != NULL; at = at->next) {
		struct reservation *reservation;

		if (!reservation_create(at, connection, connection->kind, &reservation)) {
			connection_release_room(connection);
			return false;
		}
		if (reservation != NULL) {
			reservation->connection_next = connection->reservations;
			connection->reservations = reservation;
		}
	}
	connection->next = node->connections;
	connection->link = &node->connections;
	if (node->connections != NULL)
		node->connections->link = &connection->next;
	node->connections = connection;
	connection->state = CONNECTION_OPENING;
	return true;
}

void connection_leave(struct connection *connection)
{
	connection_release_room(connection);
	if (connection->state == CONNECTION_OPENING || connection->state == CONNECTION_OPEN) {
		*connection->link = connection->next;
		if (connection->next != NULL)
			connection->next->link = connection->link;
	}
	connection->state = CONNECTION_ENDED;
}

/* ---- dialling ----------------------------------------------------------------------------- */

/* NEW -> OPENING, if the node may dial. */
static HRESULT connection_begin(struct connection *connection)
{
	struct node *node = connection->node;
	HRESULT result = S_OK;

	pthread_rwlock_wrlock(&node->lock);
	if (atomic_load(&node->is_ended))
		result = PEER_E_INVALID_GROUP;
	else if (connection->kind == PH_KIND_DIRECT && atomic_load(&node->status) == 0)
		result = PEER_E_GROUP_NOT_READY;
	else if (!connection_enter(connection))
		result = E_OUTOFMEMORY;
	pthread_rwlock_unlock(&node->lock);
	return result;
}

static HRESULT connection_dial(
	struct connection *connection, const struct connection_request *request)
{
	struct node *node = connection->node;
	ph_address addresses[PH_ADDRESSES_MAX];
	char sni[PEER_SNI_BYTES];
	struct ph_open_options options = {.address = request->address,
		.kind = request->kind,
		.framing = PH_FRAMING_MESSAGE,
		.tls = PH_TLS_MUTUAL,
		.credentials = node->credentials,
		.sni = sni,
		.group = node->membership->group,
		.source = node->membership->identity,
		.expected = request->expected,
		.friendly_name = node->membership->friendly_name,
		.addresses = addresses,
		.address_count = node_addresses(node, addresses),
		.node_id = node->membership->node_id,
		.tag = node->tag,
		.user = connection};
	struct ph_hub *hub;
	int status;

	if (peer_sni_format(request->expected, node->membership->group, sni) < 0)
		return E_INVALIDARG;
	hub = runtime_hub_get();
	if (hub == NULL)
		return PEER_E_NOT_INITIALIZED;
	status = ph_open(hub, &options, &connection->id);
	runtime_hub_put();
	if (status == -EMFILE)
		return detail_fail(E_OUTOFMEMORY, "all connection slots are in use");
	return hresult_from_connection_status(status);
}

HRESULT connection_open(struct node *node, const struct connection_request *request)
{
	struct connection *connection = connection_create(node, 2); /* the engine's and ours */
	HRESULT result;

	if (connection == NULL)
		return E_OUTOFMEMORY;
	connection->kind = request->kind;
	connection->is_attempt = request->is_attempt;
	connection->address = request->address;
	connection->id_out = request->id;
	result = connection_begin(connection);
	if (SUCCEEDED(result)) {
		result = connection_dial(connection, request);
		if (SUCCEEDED(result)) {
			connection_publish(connection, false);
			/* Ended meanwhile: either node_end saw the id, or we see that. */
			if (atomic_load(&node->is_ended))
				(void)ph_close(connection->id, node->tag, PH_ABORT,
					PH_REASON_LOCAL_GROUP_END, NULL);
			connection_put(connection);
			return S_OK;
		}
		pthread_rwlock_wrlock(&node->lock);
		connection_leave(connection);
		pthread_rwlock_unlock(&node->lock);
	}
	connection_put(connection); /* the engine never heard of it */
	connection_put(connection);
	return result;
}

/* ---- closing ------------------------------------------------------------------------------ */

HRESULT connection_close(struct node *node, uint64_t id)
{
	pthread_mutex_t *lock = table_lock(id);
	struct connection *at = table.connections[table_index(id)];
	int status = -ENOENT;

	while (at != NULL && at->id != id)
		at = at->bucket_next;
	/* ph_close never blocks nor calls back; under the lock the record cannot go away. */
	if (at != NULL && at->node == node && at->kind == PH_KIND_DIRECT)
		status = ph_close(id, node->tag, PH_GRACEFUL, 0, NULL);
	if (status == 0)
		atomic_store(&at->is_closing, true);
	pthread_mutex_unlock(lock);
	return status == 0 ? S_OK : PEER_E_CONNECTION_NOT_FOUND;
}

/* ---- enumeration -------------------------------------------------------------------------- */

static bool connection_is_shown(const struct connection *connection, uint32_t flags)
{
	uint32_t flag = connection->kind == PH_KIND_DIRECT ? PEER_CONNECTION_DIRECT
							   : PEER_CONNECTION_NEIGHBOR;

	return connection->state == CONNECTION_OPEN && (flags & flag) != 0 &&
		!atomic_load(&connection->is_closing);
}

static void item_init(struct connection_item *item, const struct connection *connection)
{
	item->flags = connection->kind == PH_KIND_DIRECT ? PEER_CONNECTION_DIRECT
							 : PEER_CONNECTION_NEIGHBOR;
	item->id = connection->id;
	item->node_id = connection->node_id;
	item->address = connection->address;
	item->credential = connection->credential;
	peer_credential_get(item->credential);
}

HRESULT connection_snapshot(
	struct node *node, uint32_t flags, struct connection_item **items, uint32_t *count)
{
	uint32_t shown = 0;

	*items = NULL;
	*count = 0;
	pthread_rwlock_rdlock(&node->lock);
	for (struct connection *at = node->connections; at != NULL; at = at->next)
		shown += at->state == CONNECTION_OPEN;
	if (shown > 0)
		*items = calloc(shown, sizeof(**items));
	if (shown > 0 && *items == NULL) {
		pthread_rwlock_unlock(&node->lock);
		return E_OUTOFMEMORY;
	}
	for (struct connection *at = node->connections; at != NULL; at = at->next)
		if (connection_is_shown(at, flags))
			item_init(&(*items)[(*count)++], at);
	pthread_rwlock_unlock(&node->lock);
	return S_OK;
}

void *connection_item_fill(struct block *block, const void *context)
{
	const struct connection_item *item = context;
	PEER_CONNECTION_INFO *info = block_take(block, sizeof(*info));
	WCHAR *identity = block_text(block, item->credential->identity);

	if (info == NULL)
		return NULL;
	info->dwSize = sizeof(*info);
	info->dwFlags = item->flags;
	info->ullConnectionId = item->id;
	info->ullNodeId = item->node_id;
	info->pwzPeerId = identity;
	address_to_client(&item->address, &info->address);
	return info;
}

void connection_item_fini(void *context)
{
	struct connection_item *item = context;

	peer_credential_put(item->credential);
}
