/*
 * Going online: PeerGroupConnect and PeerGroupConnectByAddress of a node. See node.h for its states.
 *
 * An attempt is a number of dials under way, and one for the call that is still at work
 * (connect_pending). The first connection that opens makes it a success; when the last has ended
 * without one, and the attempt is one that reports, CONNECTION_FAILED says why.
 */
#include "api/node.h"

#include "api/check.h"
#include "api/connection.h"
#include "api/credential.h"

#include <string.h>

static void node_connect_settle(struct node *node)
{
	HRESULT reason =
		node->connect_dialled > 0 ? PEER_E_NO_MEMBER_CONNECTIONS : PEER_E_NO_MEMBERS_FOUND;

	assert(node->connect_pending > 0);
	if (--node->connect_pending > 0)
		return;
	if (node->connect_reports && !node->connect_has_succeeded)
		for (struct registration *at = node->registrations; at != NULL; at = at->next)
			event_connection_failed(at, reason);
}

void node_on_dial_end(struct node *node, bool has_succeeded)
{
	node->connect_has_succeeded |= has_succeeded;
	node_connect_settle(node);
}

/* ---- going online ------------------------------------------------------------------------ */

uint32_t node_addresses(struct node *node, ph_address addresses[PH_ADDRESSES_MAX])
{
	uint32_t count = 0;

	pthread_rwlock_rdlock(&node->lock);
	if (node->endpoint != NULL)
		count = endpoint_addresses(node->endpoint, addresses);
	pthread_rwlock_unlock(&node->lock);
	return count;
}

bool node_is_at(struct node *node, const ph_address *address)
{
	bool is_there;

	pthread_rwlock_rdlock(&node->lock);
	is_there = node->endpoint != NULL && endpoint_is_at(node->endpoint, address);
	pthread_rwlock_unlock(&node->lock);
	return is_there;
}

/* Begin an attempt, or find that there is nothing to begin. S_FALSE: go on. */
static HRESULT node_connect_begin(struct node *node, bool is_by_address)
{
	HRESULT result = S_FALSE;

	pthread_rwlock_wrlock(&node->lock);
	if (atomic_load(&node->is_ended))
		result = PEER_E_INVALID_GROUP;
	else if (!is_by_address && atomic_load(&node->status) != 0)
		result = PEER_S_ALREADY_CONNECTED;
	else if (!is_by_address && node->connect_pending > 0)
		result = S_OK;
	if (result == S_FALSE) {
		if (node->connect_pending++ == 0) {
			node->connect_dialled = 0;
			node->connect_reports = false;
			node->connect_has_succeeded = false;
		}
	}
	pthread_rwlock_unlock(&node->lock);
	return result;
}

/* The port is there; who may listen does so. Returns the status flags from before. */
static uint32_t node_connect_listen(struct node *node, struct endpoint **endpoint)
{
	uint32_t before;

	pthread_rwlock_wrlock(&node->lock);
	before = atomic_load(&node->status);
	if (node->endpoint == NULL && !atomic_load(&node->is_ended)) {
		node->endpoint = *endpoint;
		*endpoint = NULL;
	}
	if (node->endpoint != NULL && atomic_load(&node->is_synchronised))
		atomic_store(&node->is_listening, true);
	node_status_update(node);
	pthread_rwlock_unlock(&node->lock);
	return before;
}

/* What cannot be dialled counts as a dial that failed. */
static void node_connect_dial(struct node *node, const ph_address *addresses, uint32_t count)
{
	for (uint32_t index = 0; index < count; index++) {
		struct connection_request request = {
			.kind = PH_KIND_NEIGHBOR, .address = addresses[index], .is_attempt = true};

		pthread_rwlock_wrlock(&node->lock);
		node->connect_pending++;
		node->connect_dialled++;
		pthread_rwlock_unlock(&node->lock);
		if (FAILED(connection_open(node, &request))) {
			pthread_rwlock_wrlock(&node->lock);
			node_on_dial_end(node, false);
			pthread_rwlock_unlock(&node->lock);
		}
	}
}

/* The port cannot be had: an event of its own, instead of the outcome of the dials. */
static void node_connect_refuse(struct node *node, HRESULT reason)
{
	pthread_rwlock_wrlock(&node->lock);
	if (reason == PEER_E_UNABLE_TO_LISTEN)
		for (struct registration *at = node->registrations; at != NULL; at = at->next)
			event_connection_failed(at, reason);
	node_connect_settle(node);
	pthread_rwlock_unlock(&node->lock);
}

static HRESULT node_connect_run(struct node *node, const ph_address *addresses, uint32_t count)
{
	ph_address known[STORE_ADDRESSES_MAX];
	bool is_by_address = addresses != NULL;
	struct endpoint *endpoint = NULL;
	uint32_t before;
	HRESULT result = runtime_listen(&endpoint);

	if (FAILED(result)) {
		node_connect_refuse(node, result);
		return result == PEER_E_UNABLE_TO_LISTEN ? S_OK : result;
	}
	before = node_connect_listen(node, &endpoint);
	runtime_listen_end(endpoint); /* it had one already: this was one use too many */

	pthread_rwlock_wrlock(&node->lock);
	if (is_by_address || !atomic_load(&node->is_listening))
		node->connect_reports = true;
	if (!is_by_address) {
		count = node->address_count;
		memcpy(known, node->addresses, count * sizeof(*known));
		addresses = known;
	}
	pthread_rwlock_unlock(&node->lock);
	node_connect_dial(node, addresses, count);

	pthread_rwlock_wrlock(&node->lock);
	node_connect_settle(node);
	pthread_rwlock_unlock(&node->lock);
	return before != 0 ? PEER_S_ALREADY_CONNECTED : S_OK;
}

HRESULT node_connect(struct node *node, const ph_address *addresses, uint32_t count)
{
	HRESULT result = membership_check(node->membership->identity, node->membership->group);

	if (FAILED(result))
		return result;
	result = node_connect_begin(node, addresses != NULL);
	if (result != S_FALSE)
		return result;
	return node_connect_run(node, addresses, count);
}
