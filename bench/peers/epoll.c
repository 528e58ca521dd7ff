/*
 * peer-epoll: the echo server as it is written by hand on epoll.
 *
 * Edge-triggered, armed once for both directions, so that a message costs one recv and one send and
 * nothing else; a short recv has emptied the socket and is not asked again. Everybody shares one
 * buffer; a connection gets one of its own only while its peer does not read, and is not read from
 * until that is gone. Connections live in a table by descriptor.
 */
#include "bench/peers/peer.h"
#include "bench/peers/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 512
#define READS_MAX 16 /* a turn of one connection; then it waits behind the others */

struct conn {
	bool open;
	bool ends; /* close it once the pending bytes are gone */
	uint8_t *pending; /* what the kernel did not take; NULL almost always */
	size_t pending_at, pending_bytes;
	struct session *session; /* with TLS */
};

static struct peer_options options;
static SSL_CTX *tls;
static int epoll_fd, listener, signals;
static struct conn *conns; /* by descriptor */
static int conns_max;
static int *again; /* descriptors with more to read: stopped by READS_MAX */
static int again_count;
static uint8_t in[SESSION_IN_BYTES], out[SESSION_OUT_BYTES];

static void conn_close(int fd)
{
	struct conn *conn = &conns[fd];

	session_destroy(conn->session);
	free(conn->pending);
	*conn = (struct conn){.open = false};
	close(fd);
}

/* Send or keep; false when the connection is lost. */
static bool conn_send(int fd, const uint8_t *data, size_t bytes)
{
	struct conn *conn = &conns[fd];
	ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);

	if (sent == (ssize_t)bytes)
		return true;
	if (sent < 0) {
		if (errno != EAGAIN)
			return false;
		sent = 0;
	}
	conn->pending = malloc(bytes - (size_t)sent);
	if (conn->pending == NULL)
		return false;
	conn->pending_at = 0;
	conn->pending_bytes = bytes - (size_t)sent;
	memcpy(conn->pending, data + sent, conn->pending_bytes);
	return true;
}

/* Go on with the pending bytes; false when the connection is lost. */
static bool conn_flush(int fd)
{
	struct conn *conn = &conns[fd];
	ssize_t sent = send(fd, conn->pending + conn->pending_at,
		conn->pending_bytes - conn->pending_at, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN;
	conn->pending_at += (size_t)sent;
	if (conn->pending_at == conn->pending_bytes) {
		free(conn->pending);
		conn->pending = NULL;
	}
	return true;
}

/* What was received goes back; false when the connection is over. */
static bool conn_echo(int fd, size_t bytes)
{
	struct conn *conn = &conns[fd];
	enum session_state state;
	size_t out_bytes;

	if (conn->session == NULL)
		return conn_send(fd, in, bytes);
	state = session_echo(conn->session, in, bytes, out, &out_bytes);
	if (out_bytes > 0 && !conn_send(fd, out, out_bytes))
		return false;
	conn->ends = state != SESSION_GOES_ON;
	return !conn->ends || conn->pending != NULL;
}

static void conn_read(int fd)
{
	struct conn *conn = &conns[fd];

	for (int reads = 0; reads < READS_MAX; reads++) {
		ssize_t got;

		if (conn->pending != NULL)
			return;
		got = recv(fd, in, sizeof(in), 0);
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0 || !conn_echo(fd, (size_t)got)) {
			conn_close(fd);
			return;
		}
		if ((size_t)got < sizeof(in))
			return; /* empty; what comes now is a new edge */
	}
	again[again_count++] = fd;
}

static void conn_event(int fd)
{
	struct conn *conn = &conns[fd];

	if (!conn->open)
		return; /* closed earlier in this batch */
	if (conn->pending != NULL) {
		if (!conn_flush(fd) || (conn->pending == NULL && conn->ends)) {
			conn_close(fd);
			return;
		}
	}
	conn_read(fd);
}

static void conn_open(int fd)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.fd = fd};

	conns[fd].open = true;
	if (options.tls) {
		conns[fd].session = session_create(tls);
		if (conns[fd].session == NULL) {
			conn_close(fd);
			return;
		}
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		conn_close(fd);
}

static void accept_all(void)
{
	for (int count = 0; count < PEER_ACCEPTS_MAX; count++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return; /* EAGAIN; at a limit the next turn tries again */
		if (fd >= conns_max)
			close(fd);
		else
			conn_open(fd);
	}
}

static void close_one(int fd)
{
	if (options.close_abort)
		peer_linger_off(fd);
	if (conns[fd].session != NULL) {
		size_t bytes = session_goodbye(conns[fd].session, out);

		if (bytes > 0 && send(fd, out, bytes, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			fprintf(stderr, "peer-epoll: goodbye: %s\n", strerror(errno));
	}
	conn_close(fd);
}

static void close_all(void)
{
	uint64_t begin = peer_cpu_ns(), count = 0;

	for (int fd = 0; fd < conns_max; fd++) {
		if (conns[fd].open) {
			close_one(fd);
			count++;
		}
	}
	peer_closed_print(count, peer_cpu_ns() - begin);
}

/* False when the peer shall end. */
static bool signals_serve(void)
{
	int number;

	while ((number = peer_signal_next(signals)) != 0) {
		if (number != options.close_signal)
			return false;
		close_all();
	}
	return true;
}

static int serve(void)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int count = epoll_wait(epoll_fd, events, EVENTS_MAX, again_count > 0 ? 0 : -1);
		int leftovers = again_count;

		if (count < 0 && errno != EINTR)
			return peer_failure(&options, "epoll_wait", strerror(errno));
		again_count = 0;
		for (int i = 0; i < leftovers; i++)
			conn_event(again[i]);
		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == listener)
				accept_all();
			else if (events[i].data.fd != signals)
				conn_event(events[i].data.fd);
			else if (!signals_serve())
				return 0;
		}
	}
}

static int watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return peer_failure(&options, "epoll_ctl", strerror(errno));
	return 0;
}

static int start(void)
{
	struct rlimit limit;

	signals = peer_signals(&options);
	listener = peer_listen(&options);
	if (signals < 0 || listener < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -1;
	if (options.tls && (session_init() < 0 || (tls = peer_tls_context(&options)) == NULL))
		return -1;
	conns_max = limit.rlim_cur < PEER_DESCRIPTORS_MAX ? (int)limit.rlim_cur
							  : (int)PEER_DESCRIPTORS_MAX;
	conns = calloc((size_t)conns_max, sizeof(*conns));
	again = calloc((size_t)conns_max + EVENTS_MAX, sizeof(*again));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (conns == NULL || again == NULL || epoll_fd < 0)
		return peer_failure(&options, "cannot start", strerror(errno));
	if (watch(listener) < 0 || watch(signals) < 0)
		return -1;
	return peer_ready(&options);
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.raw = true, .tls = true, .close_all = true};
	int status = peer_options_parse(&options, "epoll", &abilities, argc, argv);

	if (status >= 0)
		return status;
	status = start();
	if (status == 0)
		status = serve();
	for (int fd = 0; fd < conns_max; fd++)
		if (conns != NULL && conns[fd].open)
			conn_close(fd);
	SSL_CTX_free(tls);
	session_fini();
	free(conns);
	free(again);
	return status == 0 ? PEER_EXIT_OK : PEER_EXIT_FAILURE;
}
