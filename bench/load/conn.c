/*
 * One connection of the load: connect, TLS, greeting, frames out and in, end. See load.h.
 *
 * Edge-triggered and armed once for both directions. Reading goes on until the socket is empty; what
 * the kernel does not take at once waits in the connection's own memory.
 */
#include "bench/load/load.h"
#include "bench/load/pattern.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#define EVENTS_MAX 1024
#define READ_BYTES (256u * 1024)
#define SCRATCH_BYTES (256u * 1024) /* of one write */
#define ERRORS_SAID_MAX 10u

static_assert(LOAD_SIZE_MAX <= PATTERN_PERIOD, "a payload is compared in one piece");
static_assert(SCRATCH_BYTES > LOAD_SIZE_MAX + WIRE_HEAD_MAX + 2, "one frame fits");

/* One thread: shared by all connections within one call. */
static uint8_t read_buffer[READ_BYTES];
static uint8_t scratch[SCRATCH_BYTES];

static void conn_deliver(struct conn *conn, const uint8_t *data, size_t bytes);

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void load_error(const struct conn *conn, const char *what)
{
	if (load.errors++ < ERRORS_SAID_MAX)
		fprintf(stderr, "peerhub-load: connection %u: %s\n", conn->index, what);
}

/* ---- TLS ------------------------------------------------------------------------------- */

/* A ticket has come: kept for this connection's next socket (RFC 8446 appendix C.4: one use). */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct conn *conn = SSL_get_app_data(ssl);

	SSL_SESSION_free(conn->session);
	conn->session = session;
	return 1; /* the reference is ours */
}

int conn_tls_init(void)
{
	const char *pki = load.options.pki;
	char cert[PATH_MAX], key[PATH_MAX], ca[PATH_MAX];

	snprintf(cert, sizeof(cert), "%s/client.pem", pki);
	snprintf(key, sizeof(key), "%s/client.key", pki);
	snprintf(ca, sizeof(ca), "%s/ca.pem", pki);
	load.tls = SSL_CTX_new(TLS_client_method());
	if (load.tls == NULL || SSL_CTX_set_min_proto_version(load.tls, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_ciphersuites(load.tls, "TLS_AES_128_GCM_SHA256") != 1 ||
		SSL_CTX_set1_groups_list(load.tls, "X25519:P-256") != 1 ||
		SSL_CTX_use_certificate_chain_file(load.tls, cert) != 1 ||
		SSL_CTX_use_PrivateKey_file(load.tls, key, SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_load_verify_file(load.tls, ca) != 1) {
		fprintf(stderr, "peerhub-load: cannot set up TLS from %s: %s\n", pki,
			ERR_reason_error_string(ERR_peek_last_error()));
		return -1;
	}
	SSL_CTX_set_mode(load.tls,
		SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(load.tls,
		load.options.resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL
				    : SSL_SESS_CACHE_OFF);
	if (load.options.resume)
		SSL_CTX_sess_set_new_cb(load.tls, on_session);
	SSL_CTX_set_read_ahead(load.tls, 1);
	SSL_CTX_set_verify(load.tls, SSL_VERIFY_PEER, NULL);
	return 0;
}

static bool conn_tls_open(struct conn *conn)
{
	const char *alpn = wire_alpn(&load.options);
	char name[64];

	wire_server_name(&load.options, conn->index, name);
	conn->ssl = SSL_new(load.tls);
	if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1 ||
		SSL_set_tlsext_host_name(conn->ssl, name) != 1)
		return false;
	if (alpn != NULL &&
		SSL_set_alpn_protos(
			conn->ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn)) != 0)
		return false;
	if (SSL_set_app_data(conn->ssl, conn) != 1 ||
		(conn->session != NULL && SSL_set_session(conn->ssl, conn->session) != 1))
		return false;
	SSL_SESSION_free(conn->session);
	conn->session = NULL;
	SSL_set_connect_state(conn->ssl);
	return true;
}

/* ---- end ------------------------------------------------------------------------------- */

void conn_drop(struct conn *conn)
{
	SSL_free(conn->ssl);
	free(conn->pending);
	free(conn->hello);
	if (conn->fd >= 0)
		close(conn->fd);
	if (conn->state != CONN_FREE && conn->state < CONN_OPEN)
		load.opening--;
	if (conn->state == CONN_OPEN)
		load.opened--;
	conn->ssl = NULL;
	conn->pending = NULL;
	conn->hello = NULL;
	conn->fd = -1;
	conn->state = CONN_FREE;
	conn->generation++;
}

static void conn_lose(struct conn *conn, const char *what)
{
	load_error(conn, what);
	conn_drop(conn);
	load.lost++;
	flow_on_lost(conn);
}

void conn_finish(struct conn *conn)
{
	assert(conn->state == CONN_OPEN);
	load.opened--;
	conn->state = CONN_ENDING;
	if (conn->ssl != NULL && SSL_shutdown(conn->ssl) < 0)
		ERR_clear_error();
	if (shutdown(conn->fd, SHUT_WR) < 0) {
		conn_drop(conn);
		flow_on_ended(conn);
	}
}

/* Everything after our goodbye is the server's goodbye. */
static void conn_end_read(struct conn *conn)
{
	for (;;) {
		ssize_t got = recv(conn->fd, read_buffer, sizeof(read_buffer), 0);

		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0)
			break;
	}
	conn_drop(conn);
	flow_on_ended(conn);
}

/* ---- output ---------------------------------------------------------------------------- */

static bool pending_add(struct conn *conn, const uint8_t *data, size_t bytes)
{
	size_t waiting = conn->pending != NULL ? conn->pending_bytes - conn->pending_at : 0;
	uint8_t *grown;

	if (conn->pending != NULL && conn->pending_at > 0) {
		memmove(conn->pending, conn->pending + conn->pending_at, waiting);
		conn->pending_at = 0;
		conn->pending_bytes = waiting;
	}
	if (conn->pending == NULL || waiting + bytes > conn->pending_room) {
		grown = realloc(conn->pending, 2 * (waiting + bytes));
		if (grown == NULL)
			return false;
		conn->pending = grown;
		conn->pending_room = 2 * (waiting + bytes);
		conn->pending_at = 0;
	}
	memcpy(conn->pending + waiting, data, bytes);
	conn->pending_bytes = waiting + bytes;
	return true;
}

/* How many bytes the kernel took; -1 when the connection is lost. */
static ssize_t conn_push(struct conn *conn, const uint8_t *data, size_t bytes)
{
	size_t done = 0, written;

	if (conn->ssl == NULL) {
		ssize_t sent = send(conn->fd, data, bytes, MSG_NOSIGNAL);

		return sent < 0 && errno == EAGAIN ? 0 : sent;
	}
	while (done < bytes) {
		int error;

		ERR_clear_error();
		if (SSL_write_ex(conn->ssl, data + done, bytes - done, &written) == 1) {
			done += written;
			continue;
		}
		error = SSL_get_error(conn->ssl, 0);
		if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
			return -1;
		break;
	}
	return (ssize_t)done;
}

static void conn_write(struct conn *conn, const uint8_t *data, size_t bytes)
{
	ssize_t sent = 0;

	if (conn->pending == NULL) {
		sent = conn_push(conn, data, bytes);
		if (sent < 0) {
			conn_lose(conn, "cannot send");
			return;
		}
	}
	if ((size_t)sent < bytes && !pending_add(conn, data + sent, bytes - (size_t)sent))
		conn_lose(conn, "no memory");
}

static void conn_flush(struct conn *conn)
{
	ssize_t sent = conn_push(
		conn, conn->pending + conn->pending_at, conn->pending_bytes - conn->pending_at);

	if (sent < 0) {
		conn_lose(conn, "cannot send");
		return;
	}
	conn->pending_at += (size_t)sent;
	if (conn->pending_at == conn->pending_bytes) {
		free(conn->pending);
		conn->pending = NULL;
	}
}

void conn_emit(struct conn *conn, uint32_t count, uint64_t time_ns)
{
	const struct wire_frame *frame = conn->out;
	uint32_t size = load.options.size;
	size_t bytes = frame->head_bytes + size + frame->tail_bytes, at = 0;

	load.outstanding +=
		(uint64_t)count * (load.options.mode == MODE_RELAY ? load.options.fan : 1);
	for (uint32_t i = 0; i < count && conn->state == CONN_OPEN; i++) {
		uint8_t *to;

		if (at + bytes > sizeof(scratch)) {
			conn_write(conn, scratch, at);
			at = 0;
		}
		to = scratch + at;
		memcpy(to, frame->head, frame->head_bytes);
		memcpy(to + frame->head_bytes,
			pattern_at(conn->index, conn->base + conn->sent * size), size);
		memcpy(to + frame->head_bytes + size, frame->tail, frame->tail_bytes);
		conn->times[conn->sent % load.options.in_flight] = time_ns;
		conn->sent++;
		at += bytes;
	}
	if (at > 0 && conn->state == CONN_OPEN)
		conn_write(conn, scratch, at);
}

/* ---- input ----------------------------------------------------------------------------- */

/* One byte of what is no frame. False: the connection is lost. */
static bool conn_stray(struct conn *conn, uint8_t byte)
{
	const char *reply = NULL;
	size_t reply_bytes;
	ssize_t taken;

	conn->stray[conn->stray_bytes++] = byte;
	taken = wire_stray(&load.options, conn->stray, conn->stray_bytes, &reply, &reply_bytes);
	if (taken < 0 || conn->stray_bytes == WIRE_STRAY_MAX) {
		conn_lose(conn, "what came back is not what was sent (outside a payload)");
		return false;
	}
	if (taken > 0) {
		conn->stray_bytes = 0;
		conn->in_at = 0;
	}
	if (reply_bytes > 0)
		conn_write(conn, (const uint8_t *)reply, reply_bytes);
	return conn->state == CONN_OPEN;
}

static size_t equal_bytes(const uint8_t *left, const uint8_t *right, size_t bytes)
{
	size_t equal = 0;

	if (memcmp(left, right, bytes) == 0)
		return bytes;
	while (left[equal] == right[equal])
		equal++;
	return equal;
}

/* Compare the head or tail, from in_at; returns the bytes used, 0 when the connection is lost. */
static size_t conn_check_wrap(struct conn *conn, const uint8_t *wrap, uint32_t wrap_at,
	uint32_t wrap_bytes, const uint8_t *data, size_t bytes)
{
	size_t want = wrap_bytes - wrap_at;
	size_t look = want < bytes ? want : bytes;
	size_t equal = equal_bytes(data, wrap + wrap_at, look);

	conn->in_at += (uint32_t)equal;
	if (equal == look)
		return equal;
	if (wrap != conn->in->head || conn->in_at >= WIRE_STRAY_MAX) {
		conn_lose(conn, "what came back is not what was sent (around a payload)");
		return 0;
	}
	memcpy(conn->stray, wrap, conn->in_at);
	conn->stray_bytes = conn->in_at;
	return conn_stray(conn, data[equal]) ? equal + 1 : 0;
}

static size_t conn_check_payload(struct conn *conn, uint32_t at, const uint8_t *data, size_t bytes)
{
	uint32_t size = load.options.size, stream = wire_sender_of(&load.options, conn->index);
	size_t look = size - at < bytes ? size - at : bytes;

	if (memcmp(data, pattern_at(stream, conn->base + conn->received * size + at), look) != 0) {
		conn_lose(conn, "what came back is not what was sent");
		return 0;
	}
	load.bytes_checked += look;
	conn->in_at += (uint32_t)look;
	return look;
}

/* Frames; counts the whole ones and hands them to the flow. */
static void conn_check(struct conn *conn, const uint8_t *data, size_t bytes)
{
	const struct wire_frame *frame = conn->in;
	uint32_t size = load.options.size, all = frame->head_bytes + size + frame->tail_bytes;
	uint32_t count = 0;
	size_t used;

	if (bytes > 0 && frame->head_bytes == 0 && conn->received + 1 > conn->sent &&
		load.options.mode != MODE_RELAY) {
		conn_lose(conn, "something came that nobody asked for");
		return;
	}
	while (bytes > 0) {
		uint32_t at = conn->in_at;

		if (conn->stray_bytes > 0)
			used = conn_stray(conn, data[0]) ? 1 : 0;
		else if (at < frame->head_bytes)
			used = conn_check_wrap(
				conn, frame->head, at, frame->head_bytes, data, bytes);
		else if (at < frame->head_bytes + size)
			used = conn_check_payload(conn, at - frame->head_bytes, data, bytes);
		else
			used = conn_check_wrap(conn, frame->tail, at - frame->head_bytes - size,
				frame->tail_bytes, data, bytes);
		if (used == 0)
			return; /* it is lost */
		data += used;
		bytes -= used;
		if (conn->in_at == all) {
			conn->in_at = 0;
			conn->received++;
			count++;
		}
	}
	if (count > 0)
		flow_on_received(conn, count, now_ns());
}

static bool conn_gather(struct conn *conn, const uint8_t *data, size_t bytes)
{
	if (conn->hello == NULL) {
		conn->hello = malloc(WIRE_HELLO_MAX);
		conn->hello_bytes = 0;
	}
	if (conn->hello == NULL || bytes > WIRE_HELLO_MAX - conn->hello_bytes) {
		conn_lose(conn, "the server's greeting is too long");
		return false;
	}
	memcpy(conn->hello + conn->hello_bytes, data, bytes);
	conn->hello_bytes += (uint32_t)bytes;
	return true;
}

static void conn_opened(struct conn *conn)
{
	conn->state = CONN_OPEN;
	load.opening--;
	load.opened++;
	load.connects++;
	flow_on_open(conn);
}

static void conn_hello_begin(struct conn *conn)
{
	uint8_t hello[WIRE_HELLO_MAX];

	if (!wire_has_hello(&load.options)) {
		conn_opened(conn);
		return;
	}
	conn->state = CONN_HELLO;
	conn_write(conn, hello, wire_hello(&load.options, conn->index, hello));
}

static void conn_secure(struct conn *conn)
{
	if (load.tls == NULL) {
		conn_hello_begin(conn);
	} else {
		conn->state = CONN_TLS;
		if (!conn_tls_open(conn))
			conn_lose(conn, "no TLS object");
	}
}

static void conn_hello_input(struct conn *conn)
{
	ssize_t taken = wire_hello_read(&load.options, conn->hello, conn->hello_bytes);
	uint8_t *hello = conn->hello;
	uint32_t rest;

	if (taken < 0)
		conn_lose(conn, "the server does not greet as it should");
	if (taken <= 0)
		return;
	rest = conn->hello_bytes - (uint32_t)taken;
	conn->hello = NULL;
	conn_opened(conn);
	if (rest > 0 && conn->state == CONN_OPEN)
		conn_check(conn, hello + taken, rest);
	free(hello);
}

static void conn_deliver(struct conn *conn, const uint8_t *data, size_t bytes)
{
	if (conn->state == CONN_OPEN) {
		conn_check(conn, data, bytes);
		return;
	}
	if (!conn_gather(conn, data, bytes))
		return;
	if (conn->state == CONN_HELLO) {
		conn_hello_input(conn);
	} else if (conn->hello[conn->hello_bytes - 1] == '\n') {
		conn->hello_bytes = 0;
		conn_secure(conn);
	}
}

/* Read once. More than 0: bytes; 0: nothing now; -1: it is over. */
static ssize_t conn_pull(struct conn *conn)
{
	size_t bytes = 0, got;
	int error;

	if (conn->ssl == NULL) {
		ssize_t received = recv(conn->fd, read_buffer, sizeof(read_buffer), 0);

		if (received > 0)
			return received;
		return received < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	while (bytes < sizeof(read_buffer) &&
		SSL_read_ex(conn->ssl, read_buffer + bytes, sizeof(read_buffer) - bytes, &got) == 1)
		bytes += got;
	if (bytes > 0)
		return (ssize_t)bytes;
	error = SSL_get_error(conn->ssl, 0);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void conn_read(struct conn *conn)
{
	uint32_t generation = conn->generation;

	for (;;) {
		ssize_t got = conn_pull(conn);

		if (got < 0) {
			conn_lose(conn, "the server closed it");
			return;
		}
		if (got == 0)
			return;
		conn_deliver(conn, read_buffer, (size_t)got);
		if (conn->generation != generation)
			return;
		if (conn->state == CONN_ENDING) {
			conn_end_read(conn); /* its end may be here already */
			return;
		}
		if (conn->state == CONN_TLS)
			return; /* the event goes on with the handshake */
		if (conn->ssl == NULL && (size_t)got < sizeof(read_buffer))
			return; /* it was empty; what comes now is a new edge */
	}
}

/* ---- life ------------------------------------------------------------------------------ */

static void conn_handshake(struct conn *conn)
{
	int status, error;

	ERR_clear_error();
	status = SSL_do_handshake(conn->ssl);
	if (status == 1) {
		load.resumed += load.measuring && SSL_session_reused(conn->ssl) == 1;
		conn_hello_begin(conn);
		return;
	}
	error = SSL_get_error(conn->ssl, status);
	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		conn_lose(conn, "the TLS handshake failed");
}

static bool conn_socket(struct conn *conn)
{
	static uint32_t turn;
	struct sockaddr_in address = {.sin_family = AF_INET};
	const int on = 1;

	conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (conn->fd < 0 || setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return false;
	if (load.options.source_count > 0) {
		/* The port is chosen at connect, where the kernel knows the whole four-tuple. */
		address.sin_addr.s_addr =
			htonl(load.options.source_first + turn++ % load.options.source_count);
		if (setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) <
				0 ||
			bind(conn->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
			return false;
	}
	address.sin_port = htons(load.options.port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return connect(conn->fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ||
		errno == EINPROGRESS;
}

void conn_start(struct conn *conn)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = (uint64_t)conn->generation << 32 | conn->index};

	assert(conn->state == CONN_FREE);
	conn->state = CONN_CONNECTING;
	conn->in_at = conn->stray_bytes = 0;
	conn->base += conn->sent * load.options.size;
	conn->sent = conn->received = 0;
	load.opening++;
	if (!conn_socket(conn) || epoll_ctl(load.epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
		conn_lose(conn, strerror(errno));
}

static void conn_connected(struct conn *conn)
{
	socklen_t bytes = sizeof(int);
	int error = 0;

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0 || error != 0) {
		conn_lose(conn, error != 0 ? strerror(error) : "cannot connect");
		return;
	}
	if (wire_has_banner(&load.options))
		conn->state = CONN_BANNER;
	else
		conn_secure(conn);
}

static void conn_event(struct conn *conn, uint32_t events)
{
	uint32_t generation = conn->generation;

	if (conn->state == CONN_CONNECTING)
		conn_connected(conn);
	if (conn->generation == generation && conn->state == CONN_BANNER)
		conn_read(conn);
	if (conn->generation == generation && conn->state == CONN_TLS)
		conn_handshake(conn);
	if (conn->generation == generation && conn->pending != NULL && (events & EPOLLOUT))
		conn_flush(conn);
	if (conn->generation != generation || conn->state == CONN_TLS)
		return;
	if (conn->state == CONN_ENDING)
		conn_end_read(conn);
	else if (conn->ssl != NULL || (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		conn_read(conn);
}

void conn_poll(uint64_t timeout_ns)
{
	static struct epoll_event events[EVENTS_MAX];
	const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u)};
	int count = epoll_pwait2(load.epoll_fd, events, EVENTS_MAX, &timeout, NULL);

	for (int i = 0; i < count; i++) {
		struct conn *conn = &load.conns[(uint32_t)events[i].data.u64];

		if (conn->generation == (uint32_t)(events[i].data.u64 >> 32))
			conn_event(conn, events[i].events);
	}
}
