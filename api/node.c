/*
 * Nodes: the table of them, going online, what they tell their registrations. See node.h.
 */
#include "api/node.h"

#include "api/check.h"
#include "api/connection.h"
#include "api/detail.h"
#include "api/hresult.h"
#include "api/persist.h"
#include "api/revocation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODE_BUCKETS 1024u

/* Nodes that have not ended, by group authority. A node is in it as long as it has handles. */
static struct {
	pthread_mutex_t lock; /* guards the buckets and each node's handle_count */
	struct node *buckets[NODE_BUCKETS];
	uint64_t tag_last; /* tags start at 1 and are never used again */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t text_hash(const char *text)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *text != '\0'; text++)
		hash = (hash ^ (uint8_t)*text) * 16777619u;
	return hash;
}

static struct node **table_bucket(const char *group_authority)
{
	return &table.buckets[text_hash(group_authority) % NODE_BUCKETS];
}

/* ---- life -------------------------------------------------------------------------------- */

static int node_lock_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attributes;
	int error = pthread_rwlockattr_init(&attributes);

	if (error != 0)
		return -error;
	/* Data comes under the shared lock all the time: a connection that comes or goes must not
	 * wait for a pause in it. No thread takes the lock twice. */
	error = pthread_rwlockattr_setkind_np(
		&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	if (error == 0)
		error = pthread_rwlock_init(lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	return -error;
}

static HRESULT node_credentials_create(struct node *node)
{
	const struct membership *membership = node->membership;
	int status = ph_credentials_create(
		membership->chain, membership->chain_count, membership->key, &node->credentials);

	if (status < 0)
		return detail_fail(hresult_from_status(status),
			"group %s: the chain and key of %s cannot be used", membership->group,
			membership->identity);
	node->credential = peer_credential_create(&membership->trust);
	if (node->credential == NULL) {
		ph_credentials_put(node->credentials);
		return E_OUTOFMEMORY;
	}
	return S_OK;
}

/* Takes over the membership on success. */
static HRESULT node_create(struct membership *membership, struct node **created)
{
	struct node *node = calloc(1, sizeof(*node));
	HRESULT result = E_OUTOFMEMORY;

	if (node == NULL)
		return E_OUTOFMEMORY;
	atomic_init(&node->references, 1);
	atomic_init(&node->is_synchronised, membership->is_synchronised || membership->is_creator);
	node->membership = membership;
	node->address_count = membership->address_count;
	memcpy(node->addresses, membership->addresses, sizeof(node->addresses));
	if (peer_name_authority(membership->identity, node->identity_authority) < 0 ||
		peer_name_authority(membership->group, node->group_authority) < 0) {
		result = E_INVALIDARG;
		goto undo_node;
	}
	if (node_lock_init(&node->lock) < 0)
		goto undo_node;
	result = node_credentials_create(node);
	if (FAILED(result))
		goto undo_lock;
	*created = node;
	return S_OK;

undo_lock:
	pthread_rwlock_destroy(&node->lock);
undo_node:
	free(node);
	return result;
}

void node_get(struct node *node)
{
	atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
}

void node_put(struct node *node)
{
	if (atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) > 1)
		return;
	assert(node->connections == NULL);
	assert(node->registrations == NULL);
	assert(node->endpoint == NULL);
	for (uint32_t bucket = 0; bucket < NODE_MEMBER_BUCKETS; bucket++)
		assert(node->members[bucket] == NULL);
	peer_credential_put(node->credential);
	ph_credentials_put(node->credentials);
	membership_free(node->membership);
	pthread_rwlock_destroy(&node->lock);
	free(node);
}

/* ---- the table --------------------------------------------------------------------------- */

/* The table's lock is held. */
static struct node *table_find(const char *identity, const char *group)
{
	char authority[PEER_AUTHORITY_BYTES];
	struct node *node;

	if (peer_name_authority(group, authority) < 0)
		return NULL;
	for (node = *table_bucket(authority); node != NULL; node = node->next)
		if (strcmp(node->membership->group, group) == 0 &&
			strcmp(node->membership->identity, identity) == 0)
			return node;
	return NULL;
}

/* The table's lock is held. */
static void table_add(struct node *node)
{
	struct node **bucket = table_bucket(node->group_authority);

	node->tag = ++table.tag_last;
	node->next = *bucket;
	*bucket = node;
}

/* The table's lock is held. false: it is not in it. */
static bool table_remove(struct node *node)
{
	struct node **at = table_bucket(node->group_authority);

	while (*at != NULL && *at != node)
		at = &(*at)->next;
	if (*at == NULL)
		return false;
	*at = node->next;
	node->next = NULL;
	return true;
}

static HRESULT node_enter(struct membership *membership, struct node **opened)
{
	struct node *fresh = NULL, *node;
	HRESULT result = node_create(membership, &fresh);

	if (FAILED(result)) {
		membership_free(membership);
		return result;
	}
	pthread_mutex_lock(&table.lock);
	node = table_find(membership->identity, membership->group);
	if (node != NULL) {
		node_get(node);
		node->handle_count++;
	} else if (runtime_is_started()) {
		/* Shutdown clears that flag before it empties the table under this lock. */
		node = fresh;
		fresh = NULL;
		node->handle_count = 1;
		node_get(node); /* the table's reference, and the handle's */
		table_add(node);
	}
	pthread_mutex_unlock(&table.lock);
	if (fresh != NULL)
		node_put(fresh);
	*opened = node;
	return node != NULL ? S_OK : PEER_E_NOT_INITIALIZED;
}

HRESULT node_open(const char *identity, const char *group, struct node **node)
{
	struct membership *membership;
	HRESULT result = membership_load(identity, group, &membership);

	*node = NULL;
	if (FAILED(result))
		return result;
	result = revocation_load(membership->group);
	if (FAILED(result)) {
		membership_free(membership);
		return result;
	}
	return node_enter(membership, node);
}

struct node *node_find(const char *identity, const char *group)
{
	struct node *node;

	pthread_mutex_lock(&table.lock);
	node = table_find(identity, group);
	if (node != NULL)
		node_get(node);
	pthread_mutex_unlock(&table.lock);
	return node;
}

void node_each(
	const char *group_authority, void (*visit)(struct node *node, void *context), void *context)
{
	pthread_mutex_lock(&table.lock);
	for (struct node *node = *table_bucket(group_authority); node != NULL; node = node->next)
		if (strcmp(node->group_authority, group_authority) == 0)
			visit(node, context);
	pthread_mutex_unlock(&table.lock);
}

/* Is `node` the better answer to a peer that knows no identity? Creators before others, then the one
 * that came first: the choice changes only when a node comes or goes. */
static bool node_is_preferred(const struct node *node, const struct node *other)
{
	if (other == NULL)
		return true;
	if (node->membership->is_creator != other->membership->is_creator)
		return node->membership->is_creator;
	return node->tag < other->tag;
}

struct node *node_find_listening(const char *identity_authority, const char *group_authority)
{
	struct node *best = NULL;

	pthread_mutex_lock(&table.lock);
	for (struct node *node = *table_bucket(group_authority); node != NULL; node = node->next) {
		if (strcmp(node->group_authority, group_authority) != 0 ||
			!atomic_load(&node->is_listening))
			continue;
		if (identity_authority[0] != '\0' &&
			strcmp(node->identity_authority, identity_authority) != 0)
			continue;
		if (node_is_preferred(node, best))
			best = node;
	}
	if (best != NULL)
		node_get(best);
	pthread_mutex_unlock(&table.lock);
	return best;
}

/* Those that only waited for their events to be read. */
static void node_members_sweep(struct node *node)
{
	for (uint32_t bucket = 0; bucket < NODE_MEMBER_BUCKETS; bucket++) {
		struct member **at = &node->members[bucket];

		while (*at != NULL) {
			struct member *member = *at;

			if (member->open_count > 0) {
				at = &member->next;
				continue;
			}
			*at = member->next;
			member_put(member);
		}
	}
}

/* Without memory to remember the tag's end: no handshake can end well any more, because a node that
 * has ended admits nobody; so what is listed is all there is. */
static void node_close_each(struct node *node, enum ph_how how, uint32_t reason)
{
	pthread_rwlock_rdlock(&node->lock);
	for (struct connection *at = node->connections; at != NULL; at = at->next)
		if (atomic_load(&at->has_id))
			(void)ph_close(at->id, node->tag, how, reason, NULL);
	pthread_rwlock_unlock(&node->lock);
}

/* It has left the table and this thread ends it; the table's reference is put. */
static void node_finish(struct node *node, enum ph_how how, uint32_t reason)
{
	struct endpoint *endpoint;
	struct ph_hub *hub;

	pthread_rwlock_wrlock(&node->lock);
	(void)atomic_exchange(&node->is_ended, true); /* read-modify-write: see group_start */
	atomic_store(&node->is_listening, false);
	atomic_store(&node->status, 0);
	endpoint = node->endpoint;
	node->endpoint = NULL;
	pthread_rwlock_unlock(&node->lock);
	node_unregister_owner(node, NULL);
	pthread_rwlock_wrlock(&node->lock);
	node_members_sweep(node);
	pthread_rwlock_unlock(&node->lock);

	hub = runtime_hub_get();
	if (hub != NULL) { /* else it is stopping, which closes everything */
		if (ph_tag_end(hub, node->tag, how, reason) < 0)
			node_close_each(node, how, reason);
		runtime_hub_put();
	}
	runtime_listen_end(endpoint);
	persist_flush();
	node_put(node);
}

void node_end(struct node *node, enum ph_how how, uint32_t reason)
{
	bool is_mine;

	pthread_mutex_lock(&table.lock);
	is_mine = table_remove(node);
	pthread_mutex_unlock(&table.lock);
	if (is_mine)
		node_finish(node, how, reason);
}

void node_close(struct node *node)
{
	bool is_last;

	pthread_mutex_lock(&table.lock);
	assert(node->handle_count > 0);
	/* Not in the table any more: somebody ended it before. */
	is_last = --node->handle_count == 0 && table_remove(node);
	pthread_mutex_unlock(&table.lock);
	if (is_last)
		node_finish(node, PH_GRACEFUL, PH_REASON_LOCAL_GROUP_END);
	node_put(node);
}

/* The table's lock is held. */
static struct node *table_any(void)
{
	for (uint32_t bucket = 0; bucket < NODE_BUCKETS; bucket++)
		if (table.buckets[bucket] != NULL)
			return table.buckets[bucket];
	return NULL;
}

void node_end_all(enum ph_how how, uint32_t reason)
{
	struct node *node;

	for (;;) {
		pthread_mutex_lock(&table.lock);
		node = table_any();
		if (node != NULL)
			(void)table_remove(node);
		pthread_mutex_unlock(&table.lock);
		if (node == NULL)
			return;
		node_finish(node, how, reason);
	}
}

/* ---- status, with the lock held exclusively ---------------------------------------------- */

void node_status_update(struct node *node)
{
	uint32_t flags = 0;

	if (atomic_load(&node->is_ended))
		return;
	if (atomic_load(&node->is_listening))
		flags |= PEER_GROUP_STATUS_LISTENING;
	if (node->neighbor_count > 0)
		flags |= PEER_GROUP_STATUS_HAS_CONNECTIONS;
	if (atomic_load(&node->status) == flags)
		return;
	atomic_store(&node->status, flags);
	for (struct registration *at = node->registrations; at != NULL; at = at->next)
		event_status(at, flags);
}

/* The address that worked goes to the front. */
static void node_remember(struct node *node, const ph_address *address)
{
	uint32_t index = 0;

	while (index < node->address_count && !address_is_equal(&node->addresses[index], address))
		index++;
	if (index == node->address_count) {
		if (node->address_count < STORE_ADDRESSES_MAX)
			node->address_count++;
		else
			index--;
	}
	memmove(&node->addresses[1], &node->addresses[0], index * sizeof(*address));
	node->addresses[0] = *address;
}

void node_on_neighbor(struct node *node, const ph_address *dialled)
{
	node->neighbor_count++;
	if (atomic_load(&node->is_ended)) /* its membership may be another one by now */
		return;
	if (dialled != NULL)
		node_remember(node, dialled);
	if (dialled != NULL || !atomic_load(&node->is_synchronised)) {
		atomic_store(&node->is_synchronised, true);
		persist_post(node);
	}
	if (node->endpoint != NULL)
		atomic_store(&node->is_listening, true);
	node_status_update(node);
}

/* ---- members, with the lock held exclusively --------------------------------------------- */

static struct member **member_bucket(struct node *node, const char *identity)
{
	return &node->members[text_hash(identity) % NODE_MEMBER_BUCKETS];
}

struct member *node_member(struct node *node, struct member *fresh)
{
	struct member **bucket = member_bucket(node, fresh->identity);
	struct member **at = bucket;

	while (*at != NULL) {
		struct member *member = *at;

		if (strcmp(member->identity, fresh->identity) == 0)
			return member;
		if (member->open_count == 0 && !member_is_unread(member)) {
			*at = member->next;
			member_put(member);
			continue;
		}
		at = &member->next;
	}
	fresh->next = *bucket;
	*bucket = fresh;
	member_get(fresh);
	return fresh;
}

struct member *node_member_find(struct node *node, const char *identity)
{
	struct member *member = *member_bucket(node, identity);

	while (member != NULL && strcmp(member->identity, identity) != 0)
		member = member->next;
	return member;
}

void node_member_leave(struct node *node, struct member *member)
{
	struct member **at = member_bucket(node, member->identity);

	assert(member->open_count == 0);
	if (member_is_unread(member))
		return; /* should it come back, its unread event is found by the same member */
	while (*at != member)
		at = &(*at)->next;
	*at = member->next;
	member->next = NULL;
	member_put(member);
}

/* ---- registrations ----------------------------------------------------------------------- */

/* Take its room out of the connections; the lock is held exclusively. */
static void registration_detach(struct registration *registration)
{
	struct reservation *reservation;

	while ((reservation = registration->reservations) != NULL) {
		struct reservation **at = &reservation->connection->reservations;

		while (*at != reservation)
			at = &(*at)->connection_next;
		*at = reservation->connection_next;
		reservation_release(reservation);
	}
}

/* Room for every connection there is; the lock is held exclusively. */
static HRESULT registration_attach(struct node *node, struct registration *registration)
{
	for (struct connection *at = node->connections; at != NULL; at = at->next) {
		struct reservation *reservation;

		if (!reservation_create(registration, at, at->kind, &reservation)) {
			registration_detach(registration);
			return E_OUTOFMEMORY;
		}
		if (reservation != NULL) {
			reservation->connection_next = at->reservations;
			at->reservations = reservation;
		}
	}
	return S_OK;
}

static HRESULT node_register_locked(struct node *node, struct registration *registration)
{
	HRESULT result;

	if (atomic_load(&node->is_ended))
		return PEER_E_INVALID_GROUP;
	if (registration_is_ended(registration))
		return E_INVALIDARG;
	if (node->registration_count >= EVENT_REGISTRATIONS_MAX)
		return detail_fail(E_OUTOFMEMORY, "a group has at most %u event registrations",
			EVENT_REGISTRATIONS_MAX);
	result = registration_attach(node, registration);
	if (FAILED(result))
		return result;
	node->registration_count++;
	if (registration->types & EVENT_CONNECTION_TYPES)
		node->connection_registration_count++;
	if (registration_wants(registration, PEER_GROUP_EVENT_DIRECT_CONNECTION))
		node->direct_registration_count++;
	registration_get(registration);
	registration->next = node->registrations;
	node->registrations = registration;
	return S_OK;
}

HRESULT node_register(struct node *node, struct registration *registration)
{
	HRESULT result;

	pthread_rwlock_wrlock(&node->lock);
	result = node_register_locked(node, registration);
	pthread_rwlock_unlock(&node->lock);
	return result;
}

/* The lock is held exclusively; the node's reference is the caller's to put afterwards. */
static bool node_unlink(struct node *node, struct registration *registration)
{
	struct registration **at = &node->registrations;

	while (*at != NULL && *at != registration)
		at = &(*at)->next;
	if (*at == NULL)
		return false;
	*at = registration->next;
	registration->next = NULL;
	node->registration_count--;
	if (registration->types & EVENT_CONNECTION_TYPES)
		node->connection_registration_count--;
	if (registration_wants(registration, PEER_GROUP_EVENT_DIRECT_CONNECTION))
		node->direct_registration_count--;
	registration_detach(registration);
	return true;
}

void node_unregister(struct registration *registration)
{
	struct node *node = registration->node;
	bool is_mine;

	pthread_rwlock_wrlock(&node->lock);
	is_mine = node_unlink(node, registration);
	registration_end(registration);
	pthread_rwlock_unlock(&node->lock);
	node_resume(node); /* its full queue may have stopped readers that others wait for */
	if (is_mine)
		registration_put(registration);
}

void node_unregister_owner(struct node *node, const void *owner)
{
	struct registration *ended = NULL, *registration, **at;

	pthread_rwlock_wrlock(&node->lock);
	for (at = &node->registrations; *at != NULL;) {
		registration = *at;
		if (owner != NULL && registration->owner != owner) {
			at = &registration->next;
			continue;
		}
		(void)node_unlink(node, registration); /* *at is the next one now */
		registration_end(registration);
		registration->next = ended;
		ended = registration;
	}
	pthread_rwlock_unlock(&node->lock);
	if (ended != NULL)
		node_resume(node);
	while ((registration = ended) != NULL) {
		ended = registration->next;
		registration_handle_end(registration);
		registration_put(registration);
	}
}

void node_resume(struct node *node)
{
	pthread_rwlock_rdlock(&node->lock);
	for (struct connection *at = node->connections; at != NULL; at = at->next)
		if (atomic_exchange(&at->is_paused, false))
			(void)!ph_resume(
				at->id, node->tag); /* it may have ended: nothing to resume */
	pthread_rwlock_unlock(&node->lock);
}

/* The table's lock comes before a node's. */
void node_on_properties(const char *group)
{
	char authority[PEER_AUTHORITY_BYTES];

	if (peer_name_authority(group, authority) < 0)
		return;
	pthread_mutex_lock(&table.lock);
	for (struct node *node = *table_bucket(authority); node != NULL; node = node->next) {
		if (strcmp(node->membership->group, group) != 0)
			continue;
		pthread_rwlock_rdlock(&node->lock);
		for (struct registration *at = node->registrations; at != NULL; at = at->next)
			event_property(at);
		pthread_rwlock_unlock(&node->lock);
	}
	pthread_mutex_unlock(&table.lock);
}
