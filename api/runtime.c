/*
 * The runtime: start and end of Grouping in this process, its hub and its endpoints. See runtime.h.
 */
#include "api/runtime.h"

#include "api/check.h"
#include "api/connection.h"
#include "api/detail.h"
#include "api/enumeration.h"
#include "api/group.h"
#include "api/hresult.h"
#include "api/persist.h"
#include "api/revocation.h"
#include "api/trust.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VERSION_FIRST MAKEWORD(1, 0) /* Windows XP's; its clients work unchanged */

/* One listening port; the lock of the runtime's endpoints guards it. */
struct endpoint {
	uint32_t users; /* 0: free */
	bool is_deaf; /* its listener has ended, for a drain */
	bool is_orphan; /* its hub has stopped: nobody joins it, and its last user only frees it */
	int number; /* of the engine */
	char text[PH_ADDRESS_TEXT_BYTES]; /* what was asked for */
	ph_address bound; /* constant while it has users */
};

static struct {
	pthread_mutex_t lifecycle; /* one Startup or Shutdown at a time; guards count and engine */
	uint32_t count;
	struct ph_options engine; /* PeerhubSetEngine; size 0: none */
	atomic_bool is_started;
	atomic_bool is_closed; /* PeerhubSetAccepting(FALSE) */

	pthread_rwlock_t hub_lock; /* shared while somebody hands the hub to the engine */
	struct ph_hub *hub;
	struct trust_cache *trust_cache; /* constant while there is a hub */
	peerhub_end_callback end_callback; /* these are constant while there is a hub */
	void *end_user;
	peerhub_open_callback open_callback;
	void *open_user;

	pthread_mutex_t endpoint_lock; /* guards the rest */
	struct endpoint endpoints[RUNTIME_ENDPOINTS_MAX];
	char environment[256]; /* PEERHUB_LISTEN as it was at start-up; "": not set */
	char chosen[PH_ADDRESS_TEXT_BYTES]; /* PeerhubSetListen; "": by the environment */
	int inherited; /* PeerhubSetListenDescriptor; -1: none */
} runtime = {
	.lifecycle = PTHREAD_MUTEX_INITIALIZER,
	.hub_lock = PTHREAD_RWLOCK_INITIALIZER,
	.endpoint_lock = PTHREAD_MUTEX_INITIALIZER,
	.inherited = -1,
};

bool runtime_is_started(void)
{
	return atomic_load(&runtime.is_started);
}

struct ph_hub *runtime_hub_get(void)
{
	struct ph_hub *hub;

	pthread_rwlock_rdlock(&runtime.hub_lock);
	hub = runtime.hub;
	if (hub == NULL)
		pthread_rwlock_unlock(&runtime.hub_lock);
	return hub;
}

void runtime_hub_put(void)
{
	pthread_rwlock_unlock(&runtime.hub_lock);
}

struct trust_cache *runtime_trust_cache(void)
{
	return runtime.trust_cache;
}

/* ---- start and end ----------------------------------------------------------------------- */

static bool has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno != EAFNOSUPPORT;
	close(fd);
	return true;
}

/* 0: not set, the engine's default. */
static HRESULT environment_timeout(const char *name, uint32_t *timeout_ms)
{
	const char *text = getenv(name);
	char *end = NULL;
	unsigned long value;

	*timeout_ms = 0;
	if (text == NULL || text[0] == '\0')
		return S_OK;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value == 0 ||
		value > RUNTIME_TIMEOUT_MS_MAX)
		return detail_fail(E_INVALIDARG, "%s=%.40s is not a number of milliseconds 1..%u",
			name, text, RUNTIME_TIMEOUT_MS_MAX);
	*timeout_ms = (uint32_t)value;
	return S_OK;
}

static HRESULT environment_timeouts(struct ph_options *options)
{
	HRESULT result =
		environment_timeout("PEERHUB_TIMEOUT_CONNECT_MS", &options->timeout_connect_ms);

	if (SUCCEEDED(result))
		result = environment_timeout(
			"PEERHUB_TIMEOUT_HANDSHAKE_MS", &options->timeout_handshake_ms);
	if (SUCCEEDED(result))
		result = environment_timeout(
			"PEERHUB_TIMEOUT_WELCOME_MS", &options->timeout_welcome_ms);
	return result;
}

/* What PeerhubSetEngine chose; time-outs it left at 0 stay the environment's. */
static void engine_options(struct ph_options *options)
{
	const struct ph_options environment = *options;

	*options = runtime.engine;
	options->flags |= environment.flags;
	options->user = NULL;
	if (options->timeout_connect_ms == 0)
		options->timeout_connect_ms = environment.timeout_connect_ms;
	if (options->timeout_handshake_ms == 0)
		options->timeout_handshake_ms = environment.timeout_handshake_ms;
	if (options->timeout_welcome_ms == 0)
		options->timeout_welcome_ms = environment.timeout_welcome_ms;
}

HRESULT PeerhubSetEngine(const struct ph_options *options)
{
	detail_clear();
	if (options != NULL && options->size != sizeof(*options))
		return detail_fail(E_INVALIDARG, "size is %u, not that of struct ph_options (%zu)",
			options->size, sizeof(*options));
	pthread_mutex_lock(&runtime.lifecycle);
	if (options != NULL)
		runtime.engine = *options;
	else
		memset(&runtime.engine, 0, sizeof(runtime.engine));
	pthread_mutex_unlock(&runtime.lifecycle);
	return S_OK;
}

HRESULT PeerhubSetEndCallback(peerhub_end_callback callback, void *user)
{
	HRESULT result = S_OK;

	detail_clear();
	pthread_mutex_lock(&runtime.lifecycle);
	if (runtime.count > 0) {
		result = detail_fail(PEER_E_GROUP_IN_USE, "Grouping is started");
	} else {
		runtime.end_callback = callback;
		runtime.end_user = user;
	}
	pthread_mutex_unlock(&runtime.lifecycle);
	return result;
}

HRESULT PeerhubSetOpenCallback(peerhub_open_callback callback, void *user)
{
	HRESULT result = S_OK;

	detail_clear();
	pthread_mutex_lock(&runtime.lifecycle);
	if (runtime.count > 0) {
		result = detail_fail(PEER_E_GROUP_IN_USE, "Grouping is started");
	} else {
		runtime.open_callback = callback;
		runtime.open_user = user;
	}
	pthread_mutex_unlock(&runtime.lifecycle);
	return result;
}

void runtime_tell_open(uint64_t id, const struct ph_open_info *info)
{
	if (runtime.open_callback != NULL)
		runtime.open_callback(
			runtime.open_user, id, info->group, info->identity, info->friendly_name);
}

void runtime_tell_end(const struct ph_receipt *receipt, const char *group, const char *identity)
{
	if (runtime.end_callback != NULL)
		runtime.end_callback(runtime.end_user, receipt, group, identity);
}

static HRESULT runtime_hub_start(struct ph_hub **hub)
{
	struct ph_options options = {.size = sizeof(options), .flags = PH_HUB_RESUME};
	char why[PH_WHY_BYTES] = "";
	HRESULT result = environment_timeouts(&options);
	int status;

	if (FAILED(result))
		return result;
	if (runtime.engine.size != 0)
		engine_options(&options);
	status = ph_hub_start(&options, &connection_callbacks, hub, why);
	if (status >= 0)
		return S_OK;
	return detail_fail(status == -ENOMEM ? E_OUTOFMEMORY : PEER_E_CANNOT_START_SERVICE,
		"the connection engine cannot start: %s", why[0] != '\0' ? why : strerror(-status));
}

static void environment_read(void)
{
	const char *text = getenv("PEERHUB_LISTEN");

	pthread_mutex_lock(&runtime.endpoint_lock);
	/* A text that is cut here is no address either, and shown as such. */
	(void)!snprintf(
		runtime.environment, sizeof(runtime.environment), "%s", text != NULL ? text : "");
	pthread_mutex_unlock(&runtime.endpoint_lock);
}

static HRESULT runtime_start(void)
{
	struct ph_hub *hub = NULL;
	HRESULT result;

	if (!has_ipv6())
		return detail_fail(PEER_E_IPV6_NOT_INSTALLED, "this system has no IPv6 sockets");
	environment_read();
	if (persist_start() < 0)
		return detail_fail(E_OUTOFMEMORY, "no thread for the store");
	runtime.trust_cache = trust_cache_create();
	result = runtime_hub_start(&hub);
	if (FAILED(result)) {
		trust_cache_destroy(runtime.trust_cache);
		runtime.trust_cache = NULL;
		persist_stop();
		return result;
	}
	pthread_rwlock_wrlock(&runtime.hub_lock);
	runtime.hub = hub;
	pthread_rwlock_unlock(&runtime.hub_lock);
	atomic_store(&runtime.is_closed, false);
	atomic_store(&runtime.is_started, true);
	return S_OK;
}

HRESULT WINAPI PeerGroupStartup(WORD wVersionRequested, PPEER_VERSION_DATA pVersionData)
{
	HRESULT result = S_OK;

	detail_clear();
	if (pVersionData == NULL)
		return detail_fail(E_INVALIDARG, "pVersionData is NULL");
	pVersionData->wVersion = PEER_GROUP_VERSION;
	pVersionData->wHighestVersion = PEER_GROUP_VERSION;
	if (wVersionRequested != PEER_GROUP_VERSION && wVersionRequested != VERSION_FIRST)
		return detail_fail(PEER_E_UNSUPPORTED_VERSION, "version 0x%04x is not served",
			wVersionRequested);
	pVersionData->wVersion = wVersionRequested;
	pthread_mutex_lock(&runtime.lifecycle);
	if (runtime.count == 0)
		result = runtime_start();
	if (SUCCEEDED(result))
		runtime.count++;
	pthread_mutex_unlock(&runtime.lifecycle);
	return result;
}

/* The hub took its listeners along. Whoever was on his way to end one, or had just made one, finds it
 * an orphan, whatever the next hub listens on by then. */
static void endpoints_orphan(void)
{
	pthread_mutex_lock(&runtime.endpoint_lock);
	for (uint32_t index = 0; index < RUNTIME_ENDPOINTS_MAX; index++)
		runtime.endpoints[index].is_orphan = runtime.endpoints[index].users > 0;
	pthread_mutex_unlock(&runtime.endpoint_lock);
}

/* Nothing new can begin: is_started is false, so that no node enters the table and no handle is
 * given out. What is open is aborted; what is already closing goes on to its deadline. */
static HRESULT runtime_stop(void)
{
	struct ph_hub *hub;
	int status;

	atomic_store(&runtime.is_started, false);
	node_end_all(PH_ABORT, PH_REASON_LOCAL_STOP);
	group_end_all();
	enumeration_end_all(ENUMERATION_GROUP);
	pthread_rwlock_wrlock(&runtime.hub_lock);
	hub = runtime.hub;
	runtime.hub = NULL;
	pthread_rwlock_unlock(&runtime.hub_lock);
	status = ph_hub_stop(hub, PH_GRACEFUL);
	if (status < 0) {
		/* A native callback of the client's is no place to wait in. What was open is gone, and
		 * Grouping is still started, for a Shutdown from elsewhere. */
		pthread_rwlock_wrlock(&runtime.hub_lock);
		runtime.hub = hub;
		pthread_rwlock_unlock(&runtime.hub_lock);
		runtime.count = 1;
		atomic_store(&runtime.is_started, true);
		return detail_fail(E_UNEXPECTED, "called inside a callback of the engine");
	}
	endpoints_orphan();
	persist_stop();
	revocation_forget();
	trust_cache_destroy(runtime.trust_cache);
	runtime.trust_cache = NULL;
	return S_OK;
}

HRESULT WINAPI PeerGroupShutdown(void)
{
	HRESULT result = S_OK;

	detail_clear();
	pthread_mutex_lock(&runtime.lifecycle);
	if (runtime.count == 0)
		result = PEER_E_NOT_INITIALIZED;
	else if (--runtime.count == 0)
		result = runtime_stop();
	pthread_mutex_unlock(&runtime.lifecycle);
	return result;
}

/* ---- listening --------------------------------------------------------------------------- */

/* The endpoint lock is held. */
static HRESULT endpoint_wanted(char text[PH_ADDRESS_TEXT_BYTES], ph_address *address)
{
	const char *wanted = RUNTIME_LISTEN_DEFAULT;

	if (runtime.inherited >= 0) {
		(void)!snprintf(text, PH_ADDRESS_TEXT_BYTES, "descriptor %d", runtime.inherited);
		return S_OK;
	}
	if (runtime.chosen[0] != '\0')
		wanted = runtime.chosen;
	else if (runtime.environment[0] != '\0')
		wanted = runtime.environment;
	if (strlen(wanted) >= PH_ADDRESS_TEXT_BYTES || ph_address_parse(wanted, address) < 0)
		return detail_fail(PEER_E_INVALID_ADDRESS,
			"PEERHUB_LISTEN=%s is not a numeric host:port", wanted);
	strcpy(text, wanted);
	return S_OK;
}

/* The endpoint lock is held. One with this text, else a free one, else NULL. */
static struct endpoint *endpoint_choose(const char *text)
{
	struct endpoint *unused = NULL;

	for (uint32_t index = 0; index < RUNTIME_ENDPOINTS_MAX; index++) {
		struct endpoint *endpoint = &runtime.endpoints[index];

		if (endpoint->users > 0 && !endpoint->is_orphan &&
			strcmp(endpoint->text, text) == 0)
			return endpoint;
		if (endpoint->users == 0 && unused == NULL)
			unused = endpoint;
	}
	return unused;
}

static HRESULT endpoint_start(struct endpoint *endpoint, const char *text, ph_address address)
{
	struct ph_listen_options options = {
		.address = address, .framing = PH_FRAMING_MESSAGE, .tls = PH_TLS_MUTUAL};
	struct ph_hub *hub = runtime_hub_get();
	int status;

	if (hub == NULL)
		return PEER_E_NOT_INITIALIZED;
	if (atomic_load(&runtime.is_closed)) {
		runtime_hub_put();
		return detail_fail(PEER_E_UNABLE_TO_LISTEN, "cannot listen on %s: draining", text);
	}
	if (runtime.inherited >= 0)
		status = ph_listen_fd(hub, runtime.inherited, &options, &endpoint->bound);
	else
		status = ph_listen(hub, &options, &endpoint->bound);
	if (status == -EADDRINUSE && strcmp(text, RUNTIME_LISTEN_DEFAULT) == 0) {
		options.address.sin6_port = 0;
		status = ph_listen(hub, &options, &endpoint->bound);
	}
	runtime_hub_put();
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return detail_fail(PEER_E_UNABLE_TO_LISTEN, "cannot listen on %s: %s", text,
			strerror(-status));
	endpoint->number = status;
	endpoint->is_orphan = false;
	endpoint->is_deaf = false;
	strcpy(endpoint->text, text);
	return S_OK;
}

HRESULT runtime_listen(struct endpoint **listening)
{
	char text[PH_ADDRESS_TEXT_BYTES];
	struct endpoint *endpoint = NULL;
	ph_address address = {0};
	HRESULT result;

	*listening = NULL;
	pthread_mutex_lock(&runtime.endpoint_lock);
	result = endpoint_wanted(text, &address);
	if (SUCCEEDED(result)) {
		endpoint = endpoint_choose(text);
		if (endpoint == NULL)
			result = detail_fail(PEER_E_UNABLE_TO_LISTEN,
				"a process listens on at most %u ports", RUNTIME_ENDPOINTS_MAX);
		else if (endpoint->users == 0)
			result = endpoint_start(endpoint, text, address);
	}
	if (SUCCEEDED(result)) {
		endpoint->users++;
		*listening = endpoint;
	}
	pthread_mutex_unlock(&runtime.endpoint_lock);
	return result;
}

void runtime_listen_end(struct endpoint *endpoint)
{
	struct ph_hub *hub;

	if (endpoint == NULL)
		return;
	pthread_mutex_lock(&runtime.endpoint_lock);
	assert(endpoint->users > 0);
	if (--endpoint->users == 0 && !endpoint->is_orphan) {
		hub = runtime_hub_get();
		if (hub != NULL) {
			/* -ENOENT: the hub has ended it. */
			if (!endpoint->is_deaf)
				(void)!ph_listen_end(hub, endpoint->number);
			runtime_hub_put();
		}
	}
	pthread_mutex_unlock(&runtime.endpoint_lock);
}

bool runtime_is_accepting(void)
{
	return !atomic_load(&runtime.is_closed);
}

/* The endpoint lock is held. Where an inherited socket was taken, the duplicate of it is taken anew. */
static int endpoint_hear(struct ph_hub *hub, struct endpoint *endpoint)
{
	struct ph_listen_options options = {
		.address = endpoint->bound, .framing = PH_FRAMING_MESSAGE, .tls = PH_TLS_MUTUAL};
	ph_address bound; /* the same one again */
	int status;

	if (runtime.inherited >= 0)
		status = ph_listen_fd(hub, runtime.inherited, &options, &bound);
	else
		status = ph_listen(hub, &options, &bound);
	if (status < 0)
		return status;
	endpoint->number = status;
	endpoint->is_deaf = false;
	return 0;
}

static HRESULT endpoints_accept(struct ph_hub *hub, bool accepting)
{
	HRESULT result = S_OK;

	for (uint32_t index = 0; index < RUNTIME_ENDPOINTS_MAX; index++) {
		struct endpoint *endpoint = &runtime.endpoints[index];
		int status = 0;

		if (endpoint->users == 0 || endpoint->is_orphan || endpoint->is_deaf != accepting)
			continue;
		if (accepting) {
			status = endpoint_hear(hub, endpoint);
		} else {
			(void)!ph_listen_end(hub, endpoint->number); /* -ENOENT: as good */
			endpoint->is_deaf = true;
		}
		if (status < 0)
			result = detail_fail(PEER_E_UNABLE_TO_LISTEN,
				"cannot listen on %s again: %s", endpoint->text, strerror(-status));
	}
	return result;
}

HRESULT PeerhubSetAccepting(BOOL accepting)
{
	struct ph_hub *hub;
	HRESULT result;

	detail_clear();
	pthread_mutex_lock(&runtime.endpoint_lock);
	hub = runtime_hub_get();
	if (hub == NULL) {
		pthread_mutex_unlock(&runtime.endpoint_lock);
		return PEER_E_NOT_INITIALIZED;
	}
	if (!accepting)
		atomic_store(&runtime.is_closed, true);
	result = endpoints_accept(hub, accepting != FALSE);
	if (accepting && SUCCEEDED(result))
		atomic_store(&runtime.is_closed, false);
	runtime_hub_put();
	pthread_mutex_unlock(&runtime.endpoint_lock);
	return result;
}

HRESULT PeerhubSetListen(const char *host_port)
{
	ph_address address;

	detail_clear();
	if (host_port != NULL &&
		(strlen(host_port) >= PH_ADDRESS_TEXT_BYTES || host_port[0] == '\0' ||
			ph_address_parse(host_port, &address) < 0))
		return detail_fail(E_INVALIDARG, "%.100s is not a numeric host:port", host_port);
	pthread_mutex_lock(&runtime.endpoint_lock);
	strcpy(runtime.chosen, host_port != NULL ? host_port : "");
	pthread_mutex_unlock(&runtime.endpoint_lock);
	return S_OK;
}

HRESULT PeerhubSetListenDescriptor(int fd)
{
	int listening = 0, type = 0;
	socklen_t bytes = sizeof(listening), type_bytes = sizeof(type);

	detail_clear();
	if (fd >= 0 &&
		(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) < 0 ||
			getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) < 0 || !listening ||
			type != SOCK_STREAM))
		return detail_fail(E_INVALIDARG, "descriptor %d is not a listening TCP socket", fd);
	pthread_mutex_lock(&runtime.endpoint_lock);
	runtime.inherited = fd < 0 ? -1 : fd;
	pthread_mutex_unlock(&runtime.endpoint_lock);
	return S_OK;
}

/* ---- addresses --------------------------------------------------------------------------- */

bool address_is_equal(const ph_address *left, const ph_address *right)
{
	/* The scope tells apart only link-local addresses, and a peer may leave it out. */
	return left->sin6_port == right->sin6_port &&
		memcmp(&left->sin6_addr, &right->sin6_addr, sizeof(left->sin6_addr)) == 0 &&
		(left->sin6_scope_id == right->sin6_scope_id || left->sin6_scope_id == 0 ||
			right->sin6_scope_id == 0);
}

static bool is_wildcard_v4(const struct in6_addr *address)
{
	static const uint8_t wildcard[16] = {[10] = 0xff, [11] = 0xff};

	return memcmp(address, wildcard, sizeof(wildcard)) == 0;
}

static bool is_wildcard(const struct in6_addr *address)
{
	return IN6_IS_ADDR_UNSPECIFIED(address) || is_wildcard_v4(address);
}

static void address_map_v4(const struct sockaddr_in *from, ph_address *to)
{
	memset(to, 0, sizeof(*to));
	to->sin6_addr.s6_addr[10] = 0xff;
	to->sin6_addr.s6_addr[11] = 0xff;
	memcpy(&to->sin6_addr.s6_addr[12], &from->sin_addr, 4);
}

/* An address of a network interface in our form. false: not of a family we know. */
static bool interface_address(const struct ifaddrs *interface, ph_address *address)
{
	if (interface->ifa_addr == NULL)
		return false;
	if (interface->ifa_addr->sa_family == AF_INET6)
		memcpy(address, interface->ifa_addr, sizeof(*address));
	else if (interface->ifa_addr->sa_family == AF_INET)
		address_map_v4(
			(const struct sockaddr_in *)(const void *)interface->ifa_addr, address);
	else
		return false;
	address->sin6_family = AF_INET6;
	return true;
}

/* How far an address carries: the best first. Link-local ones need a scope that only we know. */
enum reach {
	REACH_GLOBAL,
	REACH_V4,
	REACH_LOOPBACK, /* told only when there is nothing else */
	REACH_LINK,
};

static enum reach address_reach(const ph_address *address)
{
	const struct in6_addr *in6 = &address->sin6_addr;

	if (IN6_IS_ADDR_LINKLOCAL(in6))
		return REACH_LINK;
	if (IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127))
		return REACH_LOOPBACK;
	return IN6_IS_ADDR_V4MAPPED(in6) ? REACH_V4 : REACH_GLOBAL;
}

static uint32_t wildcard_addresses(const ph_address *bound, const struct ifaddrs *interfaces,
	ph_address addresses[PH_ADDRESSES_MAX])
{
	bool is_v4_only = is_wildcard_v4(&bound->sin6_addr);
	uint32_t count = 0;

	for (enum reach reach = REACH_GLOBAL; reach <= REACH_LOOPBACK; reach++) {
		if (reach == REACH_LOOPBACK && count > 0)
			break;
		for (const struct ifaddrs *at = interfaces; at != NULL; at = at->ifa_next) {
			ph_address address;

			if ((at->ifa_flags & IFF_UP) == 0 || !interface_address(at, &address) ||
				address_reach(&address) != reach || count >= PH_ADDRESSES_MAX)
				continue;
			if (is_v4_only && !IN6_IS_ADDR_V4MAPPED(&address.sin6_addr))
				continue;
			address.sin6_port = bound->sin6_port;
			addresses[count++] = address;
		}
	}
	return count;
}

uint32_t endpoint_addresses(struct endpoint *endpoint, ph_address addresses[PH_ADDRESSES_MAX])
{
	struct ifaddrs *interfaces;
	uint32_t count;

	if (!is_wildcard(&endpoint->bound.sin6_addr)) {
		addresses[0] = endpoint->bound;
		return 1;
	}
	if (getifaddrs(&interfaces) < 0)
		return 0;
	count = wildcard_addresses(&endpoint->bound, interfaces, addresses);
	freeifaddrs(interfaces);
	return count;
}

static bool interface_has(const ph_address *address)
{
	struct ifaddrs *interfaces;
	bool is_found = false;

	if (getifaddrs(&interfaces) < 0)
		return false;
	for (const struct ifaddrs *at = interfaces; at != NULL && !is_found; at = at->ifa_next) {
		ph_address own;

		if (interface_address(at, &own)) {
			own.sin6_port = address->sin6_port;
			is_found = address_is_equal(&own, address);
		}
	}
	freeifaddrs(interfaces);
	return is_found;
}

bool endpoint_is_at(struct endpoint *endpoint, const ph_address *address)
{
	if (endpoint->bound.sin6_port != address->sin6_port)
		return false;
	if (!is_wildcard(&endpoint->bound.sin6_addr))
		return address_is_equal(&endpoint->bound, address);
	if (is_wildcard_v4(&endpoint->bound.sin6_addr) &&
		!IN6_IS_ADDR_V4MAPPED(&address->sin6_addr))
		return false;
	/* All of 127.0.0.0/8 is ours, though only one of it stands at the interface. */
	return address_reach(address) == REACH_LOOPBACK || interface_has(address);
}
