/*
 * What a p2p spin plays with: a store of its own in a temporary directory, a few identities, two
 * groups with all of them as members, and what is known of the library's state. The keys are made
 * once, before anything spins; a membership that is deleted comes back by its kept invitation.
 *
 * What is known, and how: PeerGroupStartup is counted by the library, and other threads' calls
 * overlap ours, so we keep two bounds of its count. `low` counts starts that have returned and whose
 * end has not been called, `high` those that have been called and whose end has not returned. A call
 * during which `low` was never 0 may not be told that nothing is started; a call during which `high`
 * was 0 throughout must be. Each bound has an epoch, one more each time it falls to 0, in one word
 * with it. Handles remember the epochs: see p2p_audit.h.
 */
#ifndef PEERHUB_STRESS_P2P_WORLD_H
#define PEERHUB_STRESS_P2P_WORLD_H

#include "p2p.h"
#include "random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define P2P_IDENTITIES 3u
#define P2P_GROUPS 2u
#define P2P_NODES (P2P_IDENTITIES * P2P_GROUPS)
#define P2P_PAYLOAD_MAX (64u * 1024u)
#define P2P_LANES 4u /* senders at once on one connection end */
#define P2P_WHY_BYTES 256u

/* A membership: the node of one identity in one group. Identity 0 created the group. */
struct p2p_node {
	uint32_t number, identity, group;
	const WCHAR *identity_name;
	WCHAR *group_name;
	WCHAR *invitation; /* NULL: the creator, which is never deleted */
	_Atomic uint32_t port; /* where it listened when we last asked; 0: never */
	_Atomic uint64_t deletes_begun, deletes_ended; /* PeerGroupDelete calls */
	_Atomic uint64_t
		delete_done; /* the latest one that succeeded, by its number in deletes_begun */
};

/* The memory of one thread that acts. */
struct p2p_hand {
	struct random random;
	bool is_in_callback; /* of a registered wait */
	bool is_taken;
	uint8_t payload[P2P_PAYLOAD_MAX];
};

struct p2p_world {
	uint64_t seed;
	char home[64];
	WCHAR *identities[P2P_IDENTITIES];
	WCHAR *identity_xml[P2P_IDENTITIES];
	struct p2p_node nodes[P2P_NODES];
	_Atomic uint64_t low, high; /* count in the low half, epoch in the high one */
	_Atomic uint64_t startups_begun;
	pthread_mutex_t listen_lock; /* PeerhubSetListen counts for the next Connect */
};

/* Make store, identities and groups; leaves the library stopped. 0 or a negative errno with a line. */
int p2p_world_create(struct p2p_world *world, uint64_t seed, char why[P2P_WHY_BYTES]);
void p2p_world_destroy(struct p2p_world *world); /* the store too */

/* PeerGroupStartup and PeerGroupShutdown with the bounds kept. */
HRESULT p2p_startup(struct p2p_world *world);
HRESULT p2p_shutdown(struct p2p_world *world);

static inline uint32_t p2p_bound_count(uint64_t bound)
{
	return (uint32_t)bound;
}
static inline uint32_t p2p_bound_epoch(uint64_t bound)
{
	return (uint32_t)(bound >> 32);
}

/* "127.1.group.identity:0", each node's own, so that no dial meets its own listening address. */
void p2p_listen_text(const struct p2p_node *node, char text[32]);
/* Where the node listens, as known; false: it never did. */
bool p2p_node_address(const struct p2p_node *node, PEER_ADDRESS *address);

#endif
