/* Store, identities and groups of a p2p spin; see p2p_world.h. */
#include "p2p_world.h"

#include "peerhub/extras.h"
#include "scratch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_FILES_OPEN 16

/* ---- bounds ---------------------------------------------------------------------------- */

static void bound_raise(_Atomic uint64_t *bound)
{
	atomic_fetch_add(bound, 1);
}

static void bound_lower(_Atomic uint64_t *bound)
{
	uint64_t now = atomic_load(bound), next;

	do {
		next = now - 1;
		if (p2p_bound_count(next) == 0)
			next += (uint64_t)1 << 32;
	} while (!atomic_compare_exchange_weak(bound, &now, next));
}

HRESULT p2p_startup(struct p2p_world *world)
{
	PEER_VERSION_DATA version;
	HRESULT result;

	atomic_fetch_add(&world->startups_begun, 1);
	bound_raise(&world->high);
	result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (SUCCEEDED(result))
		bound_raise(&world->low);
	else
		bound_lower(&world->high);
	return result;
}

HRESULT p2p_shutdown(struct p2p_world *world)
{
	HRESULT result;

	bound_lower(&world->low);
	result = PeerGroupShutdown();
	bound_lower(&world->high);
	return result;
}

/* ---- addresses ------------------------------------------------------------------------- */

void p2p_listen_text(const struct p2p_node *node, char text[32])
{
	snprintf(text, 32, "127.1.%u.%u:0", node->group, node->identity + 1);
}

bool p2p_node_address(const struct p2p_node *node, PEER_ADDRESS *address)
{
	uint8_t bytes[16] = {[10] = 0xff,
		[11] = 0xff,
		[12] = 127,
		[13] = 1,
		[14] = (uint8_t)node->group,
		[15] = (uint8_t)(node->identity + 1)};
	uint32_t port = atomic_load(&node->port);

	memset(address, 0, sizeof(*address));
	address->dwSize = sizeof(*address);
	address->sin6.sin6_family = AF_INET6;
	address->sin6.sin6_port = htons((uint16_t)port);
	memcpy(&address->sin6.sin6_addr, bytes, sizeof(bytes));
	return port != 0;
}

/* ---- store ----------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status;
	(void)kind;
	(void)walk;
	return remove(path);
}

static HRESULT home_make(struct p2p_world *world)
{
	if (!scratch_create(world->home, NULL, "spin"))
		return E_ACCESSDENIED;
	return PeerhubSetHome(world->home);
}

static HRESULT identities_make(struct p2p_world *world)
{
	for (uint32_t i = 0; i < P2P_IDENTITIES; i++) {
		HRESULT result = PeerIdentityCreate(NULL, u"spinner", 0, &world->identities[i]);

		if (SUCCEEDED(result))
			result = PeerIdentityGetXML(world->identities[i], &world->identity_xml[i]);
		if (FAILED(result))
			return result;
	}
	return S_OK;
}

/* What PeerGroupCreate named the group. */
static HRESULT group_name_get(HGROUP group, WCHAR **name)
{
	PEER_GROUP_PROPERTIES *properties;
	HRESULT result = PeerGroupGetProperties(group, &properties);
	size_t units = 0;

	if (FAILED(result))
		return result;
	while (properties->pwzGroupPeerName[units] != 0)
		units++;
	*name = malloc((units + 1) * sizeof(WCHAR));
	if (*name != NULL)
		memcpy(*name, properties->pwzGroupPeerName, (units + 1) * sizeof(WCHAR));
	PeerFreeData(properties);
	return *name != NULL ? S_OK : E_OUTOFMEMORY;
}

static HRESULT member_join(struct p2p_world *world, HGROUP creator, struct p2p_node *node)
{
	HGROUP joined = NULL;
	HRESULT result = PeerGroupCreateInvitation(creator, world->identity_xml[node->identity],
		NULL, 1, &PEER_GROUP_ROLE_ADMIN, &node->invitation);

	if (SUCCEEDED(result))
		result = PeerGroupJoin(node->identity_name, node->invitation, NULL, &joined);
	return SUCCEEDED(result) ? PeerGroupClose(joined) : result;
}

static HRESULT group_make(struct p2p_world *world, uint32_t number)
{
	PEER_GROUP_PROPERTIES properties = {
		.dwSize = sizeof(properties), .pwzCreatorPeerName = world->identities[0]};
	WCHAR *name = NULL;
	HGROUP group = NULL;
	HRESULT result = PeerGroupCreate(&properties, &group);

	for (uint32_t i = 0; i < P2P_IDENTITIES && SUCCEEDED(result); i++) {
		struct p2p_node *node = &world->nodes[number * P2P_IDENTITIES + i];

		node->number = number * P2P_IDENTITIES + i;
		node->identity = i;
		node->group = number;
		node->identity_name = world->identities[i];
		result = group_name_get(group, &name);
		node->group_name = name;
		if (SUCCEEDED(result) && i > 0)
			result = member_join(world, group, node);
	}
	if (SUCCEEDED(result))
		result = PeerGroupClose(group);
	return result;
}

/* Loopback answers at once or not at all: what is dialled in vain ends soon. */
static bool timeouts_set(void)
{
	return setenv("PEERHUB_TIMEOUT_CONNECT_MS", "10000", 1) == 0 &&
		setenv("PEERHUB_TIMEOUT_HANDSHAKE_MS", "20000", 1) == 0 &&
		setenv("PEERHUB_TIMEOUT_WELCOME_MS", "20000", 1) == 0;
}

int p2p_world_create(struct p2p_world *world, uint64_t seed, char why[P2P_WHY_BYTES])
{
	HRESULT result;

	memset(world, 0, sizeof(*world));
	world->seed = seed;
	pthread_mutex_init(&world->listen_lock, NULL);
	result = timeouts_set() ? home_make(world) : E_OUTOFMEMORY;
	if (SUCCEEDED(result))
		result = identities_make(world);
	if (SUCCEEDED(result))
		result = p2p_startup(world);
	for (uint32_t i = 0; i < P2P_GROUPS && SUCCEEDED(result); i++)
		result = group_make(world, i);
	if (SUCCEEDED(result))
		result = p2p_shutdown(world);
	if (SUCCEEDED(result))
		return 0;
	snprintf(why, P2P_WHY_BYTES, "%s: %.200s", PeerhubResultName(result),
		PeerhubLastErrorText());
	return -EIO;
}

void p2p_world_destroy(struct p2p_world *world)
{
	for (uint32_t i = 0; i < P2P_NODES; i++) {
		free(world->nodes[i].group_name);
		PeerFreeData(world->nodes[i].invitation);
	}
	for (uint32_t i = 0; i < P2P_IDENTITIES; i++) {
		PeerFreeData(world->identities[i]);
		PeerFreeData(world->identity_xml[i]);
	}
	pthread_mutex_destroy(&world->listen_lock);
	if (world->home[0] != '\0')
		(void)nftw(world->home, remove_one, STORE_FILES_OPEN, FTW_DEPTH | FTW_PHYS);
}
