/*
 * peer-libuv: the echo server on libuv.
 *
 * Reading fills one buffer that everybody shares (alloc_cb hands it out again and again), and an
 * answer goes out by uv_try_write; only what the kernel does not take is copied into a uv_write,
 * and the connection is not read from until that has ended.
 */
#include "bench/peers/peer.h"
#include "bench/peers/session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

struct conn {
	uv_tcp_t tcp; /* first: a handle is its connection */
	struct session *session;
	struct conn *next, **at; /* in the list of all */
	bool ends; /* close it once its last write has ended */
};

struct late {
	uv_write_t write;
	uint8_t data[];
};

static struct peer_options options;
static SSL_CTX *tls;
static uv_loop_t *loop;
static struct conn *conns;
static uint64_t closing_count, closing_begin_ns; /* the mass close; 0: none under way */
static uint64_t closing_left;
static uint8_t in[SESSION_IN_BYTES], out[SESSION_OUT_BYTES];

static void on_closed(uv_handle_t *handle)
{
	struct conn *conn = (struct conn *)handle;

	session_destroy(conn->session);
	free(conn);
	if (closing_left > 0 && --closing_left == 0)
		peer_closed_print(closing_count, peer_cpu_ns() - closing_begin_ns);
}

static void conn_close(struct conn *conn)
{
	if (uv_is_closing((uv_handle_t *)conn))
		return;
	*conn->at = conn->next;
	if (conn->next != NULL)
		conn->next->at = conn->at;
	uv_close((uv_handle_t *)conn, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	(void)handle;
	(void)suggested;
	*buffer = uv_buf_init((char *)in, sizeof(in));
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer);

static void on_written(uv_write_t *write, int status)
{
	struct conn *conn = (struct conn *)write->handle;

	free(write);
	if (status < 0 || conn->ends ||
		uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) < 0)
		conn_close(conn);
}

/* False when the connection is lost. */
static bool conn_send(struct conn *conn, uint8_t *data, size_t bytes)
{
	uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)bytes);
	int sent = uv_try_write((uv_stream_t *)&conn->tcp, &buffer, 1);
	struct late *late;

	if (sent == (int)bytes)
		return true;
	if (sent < 0 && sent != UV_EAGAIN)
		return false;
	if (sent < 0)
		sent = 0;
	late = malloc(sizeof(*late) + bytes - (size_t)sent);
	if (late == NULL)
		return false;
	memcpy(late->data, data + sent, bytes - (size_t)sent);
	buffer = uv_buf_init((char *)late->data, (unsigned)(bytes - (size_t)sent));
	if (uv_write(&late->write, (uv_stream_t *)&conn->tcp, &buffer, 1, on_written) < 0) {
		free(late);
		return false;
	}
	uv_read_stop((uv_stream_t *)&conn->tcp);
	return true;
}

static bool conn_echo(struct conn *conn, size_t bytes)
{
	enum session_state state;
	size_t out_bytes;

	if (conn->session == NULL)
		return conn_send(conn, in, bytes);
	state = session_echo(conn->session, in, bytes, out, &out_bytes);
	if (out_bytes > 0 && !conn_send(conn, out, out_bytes))
		return false;
	conn->ends = state != SESSION_GOES_ON;
	return !conn->ends || uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp) > 0;
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer)
{
	struct conn *conn = (struct conn *)stream;

	(void)buffer;
	if (bytes == 0)
		return; /* nothing there */
	if (bytes < 0 || !conn_echo(conn, (size_t)bytes))
		conn_close(conn);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct conn *conn;

	if (status < 0)
		return;
	conn = calloc(1, sizeof(*conn));
	if (conn == NULL)
		return;
	if (uv_tcp_init(loop, &conn->tcp) < 0) {
		free(conn);
		return;
	}
	conn->at = &conns;
	conn->next = conns;
	if (conns != NULL)
		conns->at = &conn->next;
	conns = conn;
	if (uv_accept(listener, (uv_stream_t *)&conn->tcp) < 0 ||
		(options.tls && (conn->session = session_create(tls)) == NULL) ||
		uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) < 0)
		conn_close(conn);
}

static void close_one(struct conn *conn)
{
	uv_buf_t buffer;

	if (conn->session != NULL) {
		buffer = uv_buf_init((char *)out, (unsigned)session_goodbye(conn->session, out));
		if (buffer.len > 0 &&
			uv_try_write((uv_stream_t *)&conn->tcp, &buffer, 1) == UV_ENOTCONN)
			fprintf(stderr, "peer-libuv: goodbye to nobody\n");
	}
	if (options.close_abort) {
		*conn->at = conn->next;
		if (conn->next != NULL)
			conn->next->at = conn->at;
		if (uv_tcp_close_reset(&conn->tcp, on_closed) == 0)
			return;
		uv_close((uv_handle_t *)conn, on_closed);
		return;
	}
	conn_close(conn);
}

static void close_all(void)
{
	closing_begin_ns = peer_cpu_ns();
	closing_count = 0;
	for (struct conn *conn = conns; conn != NULL; conn = conn->next)
		closing_count++;
	closing_left = closing_count;
	if (closing_count == 0)
		peer_closed_print(0, 0);
	while (conns != NULL)
		close_one(conns);
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
	int number;

	(void)status;
	(void)events;
	while ((number = peer_signal_next((int)(intptr_t)poll->data)) != 0) {
		if (number == options.close_signal)
			close_all();
		else
			uv_stop(loop);
	}
}

static int listen_start(uv_tcp_t *listener)
{
	int fd = peer_listen(&options), status;

	if (fd < 0)
		return -1;
	status = uv_tcp_init(loop, listener);
	if (status == 0)
		status = uv_tcp_open(listener, fd);
	if (status == 0)
		status = uv_listen((uv_stream_t *)listener, PEER_BACKLOG, on_connection);
	return status < 0 ? peer_failure(&options, "cannot listen", uv_strerror(status)) : 0;
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.raw = true, .tls = true, .close_all = true};
	int status = peer_options_parse(&options, "libuv", &abilities, argc, argv);
	static uv_tcp_t listener;
	static uv_poll_t poll;
	int signals;

	if (status >= 0)
		return status;
	loop = uv_default_loop();
	signals = peer_signals(&options);
	if (loop == NULL || signals < 0 || listen_start(&listener) < 0)
		return PEER_EXIT_FAILURE;
	if (options.tls && (session_init() < 0 || (tls = peer_tls_context(&options)) == NULL))
		return PEER_EXIT_FAILURE;
	poll.data = (void *)(intptr_t)signals;
	if (uv_poll_init(loop, &poll, signals) < 0 ||
		uv_poll_start(&poll, UV_READABLE, on_signal) < 0)
		return PEER_EXIT_FAILURE;
	if (peer_ready(&options) < 0)
		return PEER_EXIT_FAILURE;
	uv_run(loop, UV_RUN_DEFAULT); /* until uv_stop */
	while (conns != NULL)
		conn_close(conns);
	uv_close((uv_handle_t *)&listener, NULL);
	uv_close((uv_handle_t *)&poll, NULL);
	uv_run(loop, UV_RUN_DEFAULT); /* until all is closed */
	SSL_CTX_free(tls);
	session_fini();
	return PEER_EXIT_OK;
}
