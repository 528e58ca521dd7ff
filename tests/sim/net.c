/* The simulated network; see net.h. The socket calls that engine/listen.c makes end here (--wrap). */
#include "tests/sim/net.h"

#include "tests/sim/sim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKETS_MAX 4096u
#define DESCRIPTORS_MAX 512
#define SEND_BUFFER_BYTES 3000u /* small, so that senders meet its end */
#define RECEIVE_BUFFER_BYTES 5000u
#define PORT_FIRST 40000u

static struct net_socket *sockets[SOCKETS_MAX];
static uint32_t sockets_count;
static struct net_socket *active[SOCKETS_MAX]; /* those that something can still happen to */
static uint32_t active_count;
static struct net_socket *descriptors[DESCRIPTORS_MAX];
static uint16_t port_next = PORT_FIRST;

/* ---- life ------------------------------------------------------------------------------------ */

struct net_socket *net_socket_create(void)
{
	struct net_socket *socket = calloc(1, sizeof(*socket));

	if (socket == NULL || sockets_count == SOCKETS_MAX)
		breach("more than %u sockets in one run", SOCKETS_MAX);
	socket->number = sockets_count;
	socket->references = 1;
	sockets[sockets_count++] = socket;
	active[active_count++] = socket;
	return socket;
}

void net_socket_get(struct net_socket *socket)
{
	if (socket->references == 0)
		breach("socket %u is used after its last reference", socket->number);
	socket->references++;
}

/* What has not arrived never will; it counts as unacknowledged all the same. */
static void pipe_purge(struct net_pipe *pipe)
{
	pipe->purged += pipe->written - pipe->arrived;
	pipe->written = pipe->arrived;
}

/* An RST travels to the other side. */
static void reset_send(struct net_socket *socket)
{
	struct net_socket *peer = socket->peer;

	if (peer != NULL && peer->state == NET_CONNECTED && !peer->closed)
		peer->reset_coming = true;
}

uint64_t net_sockets_closed;

static void socket_close(struct net_socket *socket)
{
	net_sockets_closed++;
	TRACE1("socket %llu is closed", socket->number);
	socket->closed = true;
	socket->next_ns = sim_now_ns;
	switch (socket->state) {
	case NET_LISTENING:
		for (uint32_t i = 0; i < socket->backlog_count; i++) {
			net_reset(socket->backlog[i]);
			net_socket_put(socket->backlog[i]);
		}
		socket->backlog_count = 0;
		break;
	case NET_CONNECTED:
		if (net_available(socket) > 0) {
			sim_count(SIM_reset_by_close_unread);
			net_reset(socket);
			break;
		}
		socket->out.shut = true;
		break;
	default:
		break;
	}
}

void net_socket_put(struct net_socket *socket)
{
	if (socket->references == 0)
		breach("a reference of socket %u is given back twice", socket->number);
	if (--socket->references == 0)
		socket_close(socket);
}

struct net_socket *net_find_owned(const void *ring, uint64_t owner)
{
	for (uint32_t i = sockets_count; i-- > 0;)
		if (sockets[i]->ring == ring && sockets[i]->owner == owner)
			return sockets[i];
	return NULL;
}

/* ---- descriptors ------------------------------------------------------------------------------ */

int net_descriptor_take(struct net_socket *socket)
{
	for (int i = 0; i < DESCRIPTORS_MAX; i++)
		if (descriptors[i] == NULL) {
			descriptors[i] = socket;
			return NET_DESCRIPTOR_FIRST + i;
		}
	return -EMFILE;
}

struct net_socket *net_descriptor(int descriptor)
{
	int at = descriptor - NET_DESCRIPTOR_FIRST;

	if (at < 0 || at >= DESCRIPTORS_MAX || descriptors[at] == NULL)
		breach("descriptor %d is not open", descriptor);
	return descriptors[at];
}

int net_descriptor_close(int descriptor)
{
	struct net_socket *socket = net_descriptor(descriptor);

	descriptors[descriptor - NET_DESCRIPTOR_FIRST] = NULL;
	net_socket_put(socket);
	return 0;
}

void net_end(void)
{
	for (int i = 0; i < DESCRIPTORS_MAX; i++)
		if (descriptors[i] != NULL)
			breach("descriptor %d (socket %u, state %d) was never closed",
				i + NET_DESCRIPTOR_FIRST, descriptors[i]->number,
				(int)descriptors[i]->state);
	for (uint32_t i = 0; i < sockets_count; i++)
		if (sockets[i]->references > 0)
			breach("socket %u (state %d) has %u references left", i,
				(int)sockets[i]->state, sockets[i]->references);
}

/* ---- connecting ------------------------------------------------------------------------------- */

void net_connect(struct net_socket *socket, uint16_t port)
{
	socket->state = NET_CONNECTING;
	socket->port = port;
	socket->next_ns = sim_now_ns + random_below(2000000);
	if (fault(sim_rates.partition, SIM_connect_hangs)) {
		socket->lost = true;
		socket->troubled = true;
	}
}

void net_connect_fail(struct net_socket *socket, int error)
{
	TRACE2("socket %llu: connect fails with %lld", socket->number, error);
	socket->state = NET_DEAD;
	socket->error = error;
}

int net_connect_result(const struct net_socket *socket)
{
	if (socket->state == NET_CONNECTING)
		return 1;
	if (socket->state == NET_CONNECTED)
		return 0;
	return socket->error < 0 ? socket->error : -ECONNRESET;
}

/* SO_REUSEPORT: one of the sockets of that port. */
static struct net_socket *listener_of(uint16_t port)
{
	struct net_socket *found[64];
	uint32_t count = 0;

	for (uint32_t i = 0; i < active_count && count < 64; i++)
		if (active[i]->state == NET_LISTENING && !active[i]->closed &&
			active[i]->port == port)
			found[count++] = active[i];
	return count > 0 ? found[random_below(count)] : NULL;
}

static void connect_arrives(struct net_socket *socket)
{
	struct net_socket *listener = listener_of(socket->port), *accepted;

	if (listener == NULL) {
		sim_count(SIM_connect_refused);
		net_connect_fail(socket, -ECONNREFUSED);
		return;
	}
	if (listener->backlog_count == listener->backlog_max) {
		sim_count(SIM_backlog_full);
		socket->next_ns = sim_now_ns + random_between(1, 200) * SIM_MS;
		return;
	}
	accepted = net_socket_create();
	accepted->state = NET_CONNECTED;
	accepted->peer = socket;
	socket->peer = accepted;
	socket->state = NET_CONNECTED;
	listener->backlog[listener->backlog_count++] = accepted;
	TRACE3("socket %llu is connected to %llu at listener %llu", socket->number,
		accepted->number, listener->number);
}

bool net_has_waiting(const struct net_socket *listener)
{
	return listener->backlog_count > 0;
}

struct net_socket *net_accept(struct net_socket *listener)
{
	struct net_socket *socket;

	if (listener->backlog_count == 0)
		return NULL;
	socket = listener->backlog[0];
	listener->backlog_count--;
	memmove(listener->backlog, listener->backlog + 1,
		listener->backlog_count * sizeof(listener->backlog[0]));
	return socket;
}

/* ---- reading and writing ------------------------------------------------------------------------ */

size_t net_available(const struct net_socket *socket)
{
	return socket->peer != NULL ? socket->peer->out.arrived - socket->peer->out.read : 0;
}

bool net_is_readable(const struct net_socket *socket)
{
	return net_available(socket) > 0 || socket->error < 0 || socket->state != NET_CONNECTED ||
		(socket->peer != NULL && socket->peer->out.end_arrived);
}

const uint8_t *net_peek(const struct net_socket *socket)
{
	return socket->peer->out.data + socket->peer->out.read;
}

void net_take(struct net_socket *socket, size_t bytes)
{
	socket->peer->out.read += bytes;
}

int net_read_end(struct net_socket *socket)
{
	int error = socket->error;

	socket->error = 0; /* reported once, as in the kernel: then it is a bare end */
	if (error < 0)
		return error;
	if (socket->state == NET_NEW || socket->state == NET_CONNECTING)
		return -ENOTCONN;
	return 0;
}

int net_write_state(struct net_socket *socket)
{
	int error = socket->error;

	if (socket->state == NET_CONNECTED && error == 0)
		return socket->out.shut ? -EPIPE : 0;
	socket->error = 0;
	return error < 0 ? error : -EPIPE;
}

size_t net_space(const struct net_socket *socket)
{
	size_t waits = socket->out.written - socket->out.arrived;

	return waits < SEND_BUFFER_BYTES ? SEND_BUFFER_BYTES - waits : 0;
}

void net_write(struct net_socket *socket, const uint8_t *data, size_t bytes)
{
	struct net_pipe *pipe = &socket->out;

	if (pipe->written + bytes > pipe->capacity) {
		pipe->written -= pipe->read;
		pipe->arrived -= pipe->read;
		if (pipe->read > 0)
			memmove(pipe->data, pipe->data + pipe->read, pipe->written);
		pipe->read = 0;
	}
	if (pipe->written + bytes > pipe->capacity) {
		pipe->capacity = 2 * (pipe->written + bytes);
		pipe->data = realloc(pipe->data, pipe->capacity);
		if (pipe->data == NULL)
			breach("the simulator itself has no memory");
	}
	memcpy(pipe->data + pipe->written, data, bytes);
	pipe->written += bytes;
	pipe->written_ever += bytes;
}

void net_shutdown(struct net_socket *socket)
{
	socket->out.shut = true;
}

/* What has not arrived is gone, in both directions; what has arrived can still be read over there. */
void net_reset(struct net_socket *socket)
{
	if (socket->state == NET_CONNECTED) {
		reset_send(socket);
		pipe_purge(&socket->out);
	}
	if (socket->state != NET_LISTENING)
		socket->state = NET_DEAD;
}

size_t net_unsent(const struct net_socket *socket)
{
	return socket->out.written - socket->out.arrived + socket->out.purged;
}

/* ---- what happens on the way ---------------------------------------------------------------------- */

static void reset_arrives(struct net_socket *socket)
{
	TRACE1("socket %llu is reset from outside", socket->number);
	socket->reset_coming = false;
	socket->state = NET_DEAD;
	socket->error = socket->out.shut && random_one_in(2) ? -EPIPE : -ECONNRESET;
	pipe_purge(&socket->out);
	if (socket->peer != NULL)
		pipe_purge(&socket->peer->out);
}

static bool pipe_has_news(const struct net_socket *socket)
{
	const struct net_pipe *pipe = &socket->out;

	if (socket->peer == NULL || socket->state == NET_NEW || socket->state == NET_CONNECTING)
		return false;
	if (pipe->written > pipe->arrived)
		return socket->peer->closed || socket->peer->state == NET_DEAD ||
			pipe->arrived - pipe->read < RECEIVE_BUFFER_BYTES;
	return pipe->shut && !pipe->end_arrived && socket->state == NET_CONNECTED;
}

static void pipe_step(struct net_socket *socket)
{
	struct net_pipe *pipe = &socket->out;
	size_t bytes = pipe->written - pipe->arrived, room;

	if (bytes == 0) {
		TRACE1("socket %llu: its end arrives", socket->number);
		pipe->end_arrived = true;
		return;
	}
	if (socket->peer->closed || socket->peer->state == NET_DEAD) {
		/* Nobody is there: the answer is an RST. */
		sim_count(SIM_reset_by_late_data);
		pipe_purge(pipe);
		if (socket->closed)
			socket->state = NET_DEAD;
		else if (socket->state == NET_CONNECTED)
			socket->reset_coming = true;
		return;
	}
	room = RECEIVE_BUFFER_BYTES - (pipe->arrived - pipe->read);
	if (bytes > room)
		bytes = room;
	if (fault(sim_rates.one_byte, SIM_one_byte_segment))
		bytes = 1;
	else if (random_one_in(2))
		bytes = random_size((uint32_t)bytes);
	TRACE2("socket %llu: %llu bytes arrive", socket->number, bytes);
	pipe->arrived += bytes;
	pipe->arrived_ever += bytes;
}

static bool socket_has_news(const struct net_socket *socket)
{
	if (socket->next_ns > sim_now_ns || socket->lost)
		return false;
	return socket->reset_coming || pipe_has_news(socket) ||
		(socket->state == NET_CONNECTING && !socket->closed);
}

static void trouble(struct net_socket *socket)
{
	if (socket->state != NET_CONNECTED || socket->peer == NULL)
		return;
	if (fault(sim_rates.network_reset, SIM_network_reset)) {
		TRACE1("the network resets socket %llu and its peer", socket->number);
		socket->troubled = socket->peer->troubled = true;
		reset_send(socket);
		if (!socket->closed)
			socket->reset_coming = true;
	}
	if (fault(sim_rates.half_open, SIM_half_open)) {
		TRACE1("the link of socket %llu is cut", socket->number);
		socket->lost = socket->peer->lost = true;
		socket->troubled = socket->peer->troubled = true;
	}
	if (fault(sim_rates.partition, SIM_partition)) {
		uint64_t until_ns = sim_now_ns + random_size(10000) * SIM_MS;

		socket->next_ns = until_ns;
		socket->peer->next_ns = until_ns;
	}
}

static void socket_step(struct net_socket *socket)
{
	if (socket->state == NET_CONNECTING) {
		connect_arrives(socket);
	} else if (socket->reset_coming && (random_one_in(2) || !pipe_has_news(socket))) {
		reset_arrives(socket);
	} else if (pipe_has_news(socket)) {
		pipe_step(socket);
	}
	if (random_one_in(sim_rates.delay) && socket->next_ns <= sim_now_ns)
		socket->next_ns = sim_now_ns + random_size(100) * SIM_MS / 4;
	trouble(socket);
}

/* Those that can change no more are not looked at again. */
static void active_forget(uint32_t at)
{
	const struct net_socket *socket = active[at];

	if (!socket->closed || (socket->state == NET_CONNECTED && pipe_has_news(socket)))
		return;
	if (socket->state == NET_CONNECTED && socket->lost && socket->peer != NULL &&
		!socket->peer->closed)
		return;
	active[at] = active[--active_count];
}

bool net_step(bool any)
{
	uint32_t from, tries;

	if (active_count == 0)
		return false;
	from = random_below(active_count);
	tries = any ? active_count : 1;
	while (tries-- > 0 && active_count > 0) {
		uint32_t at = from++ % active_count;

		if (socket_has_news(active[at])) {
			socket_step(active[at]);
			return true;
		}
		active_forget(at);
	}
	return false;
}

uint64_t net_next_ns(void)
{
	uint64_t next_ns = SIM_NEVER;

	for (uint32_t i = 0; i < active_count; i++) {
		const struct net_socket *socket = active[i];

		if (socket->lost || socket->next_ns <= sim_now_ns || socket->next_ns >= next_ns)
			continue;
		if (socket->reset_coming || pipe_has_news(socket) ||
			(socket->state == NET_CONNECTING && !socket->closed))
			next_ns = socket->next_ns;
	}
	return next_ns;
}

/* TCP gives up what the network has lost. */
void net_calm(void)
{
	for (uint32_t i = 0; i < active_count; i++) {
		struct net_socket *socket = active[i];

		if (!socket->lost)
			continue;
		socket->lost = false;
		if (socket->state == NET_CONNECTING) {
			net_connect_fail(socket, -ETIMEDOUT);
		} else if (socket->state == NET_CONNECTED) {
			socket->state = NET_DEAD;
			socket->error = -ETIMEDOUT;
			pipe_purge(&socket->out);
		}
	}
}

/* ---- the socket calls of engine/listen.c ------------------------------------------------------------ */

static int answer(int status)
{
	if (status >= 0)
		return status;
	errno = -status;
	return -1;
}

int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
	struct net_socket *made;
	int descriptor;

	(void)type, (void)protocol;
	if (fault(sim_rates.listen, SIM_listen_error))
		return answer(-EMFILE);
	made = net_socket_create();
	made->state = family == AF_UNIX ? NET_NAME : NET_NEW;
	descriptor = net_descriptor_take(made);
	if (descriptor < 0)
		net_socket_put(made);
	return answer(descriptor);
}

int __wrap_setsockopt(int descriptor, int level, int name, const void *value, socklen_t bytes);
int __wrap_setsockopt(int descriptor, int level, int name, const void *value, socklen_t bytes)
{
	(void)value, (void)bytes;
	if (level == SOL_SOCKET && name == SO_REUSEPORT)
		net_descriptor(descriptor)->shared = true;
	return 0;
}

int __wrap_getsockopt(int descriptor, int level, int name, void *value, socklen_t *bytes);
int __wrap_getsockopt(int descriptor, int level, int name, void *value, socklen_t *bytes)
{
	int listening = net_descriptor(descriptor)->state == NET_LISTENING;

	if (level != SOL_SOCKET || name != SO_ACCEPTCONN || *bytes < sizeof(listening))
		return answer(-ENOPROTOOPT);
	memcpy(value, &listening, sizeof(listening));
	return 0;
}

static bool port_is_taken(const struct net_socket *by, uint16_t port)
{
	for (uint32_t i = 0; i < sockets_count; i++) {
		const struct net_socket *other = sockets[i];

		if (other == by || other->closed || other->port != port || other->peer != NULL ||
			other->state == NET_CONNECTING || other->state == NET_DEAD ||
			(other->state == NET_NAME) != (by->state == NET_NAME))
			continue;
		if (by->state == NET_NAME || !by->shared || !other->shared)
			return true;
	}
	return false;
}

int __wrap_bind(int descriptor, const struct sockaddr *address, socklen_t bytes);
int __wrap_bind(int descriptor, const struct sockaddr *address, socklen_t bytes)
{
	struct net_socket *socket = net_descriptor(descriptor);
	uint16_t port = 0;

	(void)bytes;
	if (fault(sim_rates.listen, SIM_listen_error))
		return answer(random_one_in(2) ? -EADDRINUSE : -EACCES);
	if (address->sa_family == AF_UNIX)
		port = htons((uint16_t)strtoul(
			strrchr(((const struct sockaddr_un *)(const void *)address)->sun_path + 1,
				'-') +
				1,
			NULL, 10));
	else if (address->sa_family == AF_INET)
		port = ((const struct sockaddr_in *)(const void *)address)->sin_port;
	else
		port = ((const struct sockaddr_in6 *)(const void *)address)->sin6_port;
	if (port == 0)
		port = htons(port_next++);
	if (port_is_taken(socket, port))
		return answer(-EADDRINUSE);
	socket->port = port;
	return 0;
}

int __wrap_listen(int descriptor, int backlog);
int __wrap_listen(int descriptor, int backlog)
{
	struct net_socket *socket = net_descriptor(descriptor);

	(void)backlog;
	if (fault(sim_rates.listen, SIM_listen_error))
		return answer(-EADDRINUSE);
	socket->state = NET_LISTENING;
	socket->backlog_max = random_between(1, 8);
	return 0;
}

int __wrap_getsockname(int descriptor, struct sockaddr *address, socklen_t *bytes);
int __wrap_getsockname(int descriptor, struct sockaddr *address, socklen_t *bytes)
{
	struct sockaddr_in name = {.sin_family = AF_INET};

	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	name.sin_port = net_descriptor(descriptor)->port;
	memcpy(address, &name, sizeof(name));
	*bytes = sizeof(name);
	return 0;
}

int __real_fcntl(int descriptor, int command, ...);
int __wrap_fcntl(int descriptor, int command, ...);
int __wrap_fcntl(int descriptor, int command, ...)
{
	struct net_socket *socket;
	va_list arguments;
	int copy, status;

	/* A build that counts what was reached locks its files, and they are real. */
	if (descriptor < NET_DESCRIPTOR_FIRST && command == F_SETLKW) {
		va_start(arguments, command);
		status = __real_fcntl(descriptor, command, va_arg(arguments, struct flock *));
		va_end(arguments);
		return status;
	}
	if (descriptor < NET_DESCRIPTOR_FIRST || command != F_DUPFD_CLOEXEC)
		breach("fcntl(%d, %d) is not simulated", descriptor, command);
	if (fault(sim_rates.listen, SIM_listen_error))
		return answer(-EMFILE);
	socket = net_descriptor(descriptor);
	net_socket_get(socket);
	copy = net_descriptor_take(socket);
	if (copy < 0)
		net_socket_put(socket);
	return answer(copy);
}

int __real_close(int descriptor);
int __wrap_close(int descriptor);
int __wrap_close(int descriptor)
{
	if (descriptor < NET_DESCRIPTOR_FIRST)
		return __real_close(descriptor);
	return net_descriptor_close(descriptor);
}
