/*
 * Listeners. Every shard has its own socket on the same address (SO_REUSEPORT), so accepting needs no
 * lock and no hand-over.
 *
 * A second process of the same user must never take half of the connections: before the shards bind, a
 * socket without SO_REUSEPORT learns whether the port is free, and a name in the abstract Unix
 * namespace (gone with the process, and the network namespace's own, like the port) is held per port
 * for as long as we listen.
 *
 * Options are set on the listener: accepted sockets inherit them, which saves their system calls.
 */
#include "engine/hub.h"

#include "engine/address.h"
#include "engine/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096
#define PORT_TRIES 64 /* of "any free port" */

static int socket_address_get(int fd, ph_address *out)
{
	struct sockaddr_storage name;
	socklen_t bytes = sizeof(name);

	if (getsockname(fd, (struct sockaddr *)&name, &bytes) < 0)
		return -errno;
	return address_from_socket(&name, out) ? 0 : -EAFNOSUPPORT;
}

/* A bound socket, or a negative errno. */
static int socket_bound(const ph_address *address, bool shared)
{
	struct sockaddr_storage name;
	socklen_t bytes = address_to_socket(address, &name);
	int one = 1, status;
	int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		(shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0) ||
		bind(fd, (struct sockaddr *)&name, bytes) < 0) {
		status = -errno;
		close(fd);
		return status;
	}
	return fd;
}

/* A refused option makes connections slower, not wrong. */
static void socket_options(int fd, const struct ph_options *options)
{
	int one = 1, send = (int)options->socket_send_bytes;
	int receive = (int)options->socket_receive_bytes, dead = (int)options->timeout_dead_ms;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof(send));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
}

/* Hold the port's name. A descriptor, or -EADDRINUSE. */
static int port_lock_new(uint16_t port)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int length, status;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	length = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "peerhub-port-%u",
		(unsigned)ntohs(port));
	if (bind(fd, (struct sockaddr *)&name,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) < 0) {
		status = -errno;
		close(fd);
		return status;
	}
	return fd;
}

/* One hub may listen on several addresses of one port: they hold the same lock. */
static int port_lock(struct ph_hub *hub, uint16_t port)
{
	int fd = -1;

	pthread_mutex_lock(&hub->lock);
	for (uint32_t i = 0; i < LISTENERS_MAX && fd < 0; i++) {
		const struct hub_listener *other = &hub->listeners[i];

		if (other->used && other->lock_fd >= 0 && other->bound.sin6_port == port)
			fd = fcntl(other->lock_fd, F_DUPFD_CLOEXEC, 0);
	}
	pthread_mutex_unlock(&hub->lock);
	return fd >= 0 ? fd : port_lock_new(port);
}

/* ---- a place in the table ---------------------------------------------------------------- */

static int listener_reserve(struct ph_hub *hub)
{
	int found = -EMFILE;

	pthread_mutex_lock(&hub->lock);
	for (int i = 0; i < (int)LISTENERS_MAX && found < 0; i++) {
		struct hub_listener *listener = &hub->listeners[i];

		if (listener->used)
			continue;
		listener->used = true;
		listener->ending = true; /* until it is whole */
		listener->waited = false;
		listener->lock_fd = -1;
		listener->generation++;
		listener->shards_left = hub->shard_count;
		found = i;
	}
	pthread_mutex_unlock(&hub->lock);
	return found;
}

static void listener_unreserve(struct ph_hub *hub, int listener)
{
	pthread_mutex_lock(&hub->lock);
	if (hub->listeners[listener].lock_fd >= 0)
		close(hub->listeners[listener].lock_fd);
	hub->listeners[listener].lock_fd = -1;
	hub->listeners[listener].used = false;
	pthread_mutex_unlock(&hub->lock);
}

/* ---- on the shards ----------------------------------------------------------------------- */

static void listener_on_begin(struct shard *shard, struct command *command)
{
	struct listener *listener =
		(struct listener *)(void *)((char *)command - offsetof(struct listener, begin));

	listener->used = true;
	listener->armed = false;
	listener->ending = shard->stopping;
	if (shard->stopping)
		shard_listener_end(shard, listener);
	else
		shard_listener_arm(shard, listener);
}

static void listener_on_end(struct shard *shard, struct command *command)
{
	struct listener *listener =
		(struct listener *)(void *)((char *)command - offsetof(struct listener, end));

	shard_listener_end(shard, listener);
}

static int socket_family(int fd)
{
	socklen_t bytes = sizeof(int);
	int family = AF_INET6;

	/* Never refused for a socket; AF_INET6 would only cost the peers' addresses. */
	(void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes);
	return family;
}

/* All sockets exist: hand one to each shard. `fds` are taken over. */
static void listener_begin(
	struct ph_hub *hub, int number, const struct ph_listen_options *options, const int *fds)
{
	int family = socket_family(fds[0]);

	/* Under the lock, so that nobody's end gets into a mailbox before its beginning. */
	pthread_mutex_lock(&hub->lock);
	hub->listeners[number].ending = false;
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		struct listener *listener = &hub->shards[i]->listeners[number];

		listener->begin.run = listener_on_begin;
		listener->end.run = listener_on_end;
		listener->options = *options;
		listener->generation = hub->listeners[number].generation;
		listener->fd = fds[i];
		listener->family = family;
		shard_post(hub->shards[i]->home, &listener->begin);
	}
	pthread_mutex_unlock(&hub->lock);
}

void hub_listener_gone(struct ph_hub *hub, uint32_t number)
{
	struct hub_listener *listener = &hub->listeners[number];
	bool waited = false;

	pthread_mutex_lock(&hub->lock);
	assert(listener->shards_left > 0);
	listener->shards_left--;
	if (listener->shards_left == 0) {
		if (listener->lock_fd >= 0)
			close(listener->lock_fd);
		listener->lock_fd = -1;
		waited = listener->waited;
		if (!waited)
			listener->used = false;
	}
	pthread_mutex_unlock(&hub->lock);
	if (waited)
		sem_post(&listener->done);
}

/* ---- public ----------------------------------------------------------------------------- */

static bool options_are_valid(const struct ph_listen_options *options)
{
	return (options->framing == PH_FRAMING_MESSAGE || options->framing == PH_FRAMING_RAW) &&
		(options->tls == PH_TLS_MUTUAL || options->tls == PH_TLS_NONE);
}

/* One listening socket per shard on `address`, whose port is filled in by the first. */
static int sockets_open(struct ph_hub *hub, ph_address *address, int *fds)
{
	int status = 0;

	for (uint32_t i = 0; i < hub->shard_count; i++) {
		fds[i] = socket_bound(address, true);
		if (fds[i] < 0) {
			status = fds[i];
			goto undo;
		}
		socket_options(fds[i], &hub->options);
		if (i == 0)
			status = socket_address_get(fds[0], address);
		if (status < 0)
			goto undo;
	}
	return 0;

undo:
	for (uint32_t i = 0; i < hub->shard_count && fds[i] >= 0; i++)
		close(fds[i]);
	return status;
}

static void sockets_close(struct ph_hub *hub, int *fds)
{
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		close(fds[i]);
		fds[i] = -1;
	}
}

/* The sockets and the name of their port. When any port will do, the kernel may give one that another
 * process of this user shares in the same way (SO_REUSEPORT): its name is held, and we try the next. */
static int sockets_claim(struct ph_hub *hub, ph_address *address, int *fds, int *lock_fd)
{
	bool any = address->sin6_port == 0;
	int status;

	for (int tries = 1;; tries++) {
		status = sockets_open(hub, address, fds);
		if (status < 0)
			return status;
		/* A port of any kind must be nobody's, our own listeners' neither. */
		*lock_fd = any ? port_lock_new(address->sin6_port)
			       : port_lock(hub, address->sin6_port);
		if (*lock_fd >= 0)
			return 0;
		status = *lock_fd;
		sockets_close(hub, fds);
		if (!any || status != -EADDRINUSE || tries == PORT_TRIES)
			return status;
		address->sin6_port = 0;
	}
}

static int sockets_listen(struct ph_hub *hub, const int *fds)
{
	for (uint32_t i = 0; i < hub->shard_count; i++)
		if (listen(fds[i], LISTEN_BACKLOG) < 0)
			return -errno;
	return 0;
}

int ph_listen(struct ph_hub *hub, const struct ph_listen_options *options, ph_address *bound)
{
	int fds[PH_SHARDS_MAX];
	ph_address address;
	int number, probe, lock_fd, status;

	if (hub == NULL || options == NULL || !options_are_valid(options) ||
		options->address.sin6_family != AF_INET6)
		return -EINVAL;
	if (atomic_load(&hub->stopping))
		return -ESHUTDOWN;
	memset(fds, 0xff, sizeof(fds));
	address = options->address;
	number = listener_reserve(hub);
	if (number < 0)
		return number;
	if (address.sin6_port != 0) {
		/* Without SO_REUSEPORT: fails if anybody listens there. */
		probe = socket_bound(&address, false);
		if (probe < 0) {
			status = probe;
			goto undo_reserve;
		}
		close(probe);
	}
	status = sockets_claim(hub, &address, fds, &lock_fd);
	if (status < 0)
		goto undo_reserve;
	pthread_mutex_lock(&hub->lock);
	hub->listeners[number].lock_fd = lock_fd;
	hub->listeners[number].bound = address;
	pthread_mutex_unlock(&hub->lock);
	status = sockets_listen(hub, fds);
	if (status < 0)
		goto undo_sockets;
	if (bound != NULL)
		*bound = address;
	listener_begin(hub, number, options, fds);
	return number;

undo_sockets:
	sockets_close(hub, fds);
undo_reserve:
	listener_unreserve(hub, number);
	return status;
}

int ph_listen_fd(
	struct ph_hub *hub, int fd, const struct ph_listen_options *options, ph_address *bound)
{
	int fds[PH_SHARDS_MAX];
	int number, status, listening = 0;
	socklen_t bytes = sizeof(listening);
	ph_address address;

	if (hub == NULL || options == NULL || !options_are_valid(options))
		return -EINVAL;
	if (atomic_load(&hub->stopping))
		return -ESHUTDOWN;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) < 0 || !listening)
		return -EINVAL;
	status = socket_address_get(fd, &address);
	if (status < 0)
		return status;
	number = listener_reserve(hub);
	if (number < 0)
		return number;
	/* One socket for all shards: the kernel wakes one of the accepts that wait on it. */
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fds[i] < 0) {
			status = -errno;
			while (i-- > 0)
				close(fds[i]);
			listener_unreserve(hub, number);
			return status;
		}
	}
	socket_options(fd, &hub->options);
	hub->listeners[number].bound = address;
	if (bound != NULL)
		*bound = address;
	listener_begin(hub, number, options, fds);
	return number;
}

int ph_listen_end(struct ph_hub *hub, int number)
{
	bool wait = shard_self() == NULL;
	struct hub_listener *listener;

	if (hub == NULL || number < 0 || number >= (int)LISTENERS_MAX)
		return -ENOENT;
	listener = &hub->listeners[number];
	pthread_mutex_lock(&hub->lock);
	if (!listener->used || listener->ending) {
		pthread_mutex_unlock(&hub->lock);
		return -ENOENT;
	}
	listener->ending = true;
	listener->waited = wait;
	pthread_mutex_unlock(&hub->lock);
	for (uint32_t i = 0; i < hub->shard_count; i++)
		shard_post(hub->shards[i]->home, &hub->shards[i]->listeners[number].end);
	if (!wait)
		return 0;
	while (sem_wait(&listener->done) < 0)
		;
	pthread_mutex_lock(&hub->lock);
	listener->used = false;
	pthread_mutex_unlock(&hub->lock);
	return 0;
}
