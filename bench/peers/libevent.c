/*
 * peer-libevent: the echo server on libevent's bufferevents, and bufferevent_openssl for TLS.
 *
 * The received buffer is moved to the output, not copied (evbuffer_add_buffer); changes of the epoll
 * set are collected (EPOLL_USE_CHANGELIST). A connection whose peer does not read is not read from
 * until half of what waits has gone.
 */
#include "bench/peers/peer.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_MAX (1024 * 1024)

struct conn {
	struct bufferevent *events;
	struct conn *next, **at; /* in the list of all */
};

static struct peer_options options;
static SSL_CTX *tls;
static struct event_base *base;
static struct conn *conns;

static void conn_close(struct conn *conn)
{
	*conn->at = conn->next;
	if (conn->next != NULL)
		conn->next->at = conn->at;
	bufferevent_free(conn->events);
	free(conn);
}

static void on_read(struct bufferevent *events, void *context)
{
	struct evbuffer *output = bufferevent_get_output(events);

	(void)context;
	if (evbuffer_add_buffer(output, bufferevent_get_input(events)) < 0) {
		conn_close(context);
		return;
	}
	if (evbuffer_get_length(output) > OUTPUT_MAX) {
		bufferevent_setwatermark(events, EV_WRITE, OUTPUT_MAX / 2, 0);
		bufferevent_disable(events, EV_READ);
	}
}

static void on_written(struct bufferevent *events, void *context)
{
	(void)context;
	if (!(bufferevent_get_enabled(events) & EV_READ)) {
		bufferevent_setwatermark(events, EV_WRITE, 0, 0);
		bufferevent_enable(events, EV_READ);
	}
}

static void on_event(struct bufferevent *events, short what, void *context)
{
	SSL *ssl = bufferevent_openssl_get_ssl(events);

	if (what & BEV_EVENT_CONNECTED)
		return; /* the handshake has ended */
	if ((what & BEV_EVENT_EOF) && ssl != NULL)
		SSL_shutdown(ssl); /* answers the goodbye; a failure changes nothing */
	conn_close(context);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
	int address_bytes, void *context)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	SSL *ssl = options.tls ? SSL_new(tls) : NULL;

	(void)listener;
	(void)address;
	(void)address_bytes;
	(void)context;
	if (conn != NULL && ssl != NULL)
		conn->events = bufferevent_openssl_socket_new(
			base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
	else if (conn != NULL && !options.tls)
		conn->events = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (conn == NULL || conn->events == NULL) {
		SSL_free(ssl);
		free(conn);
		close(fd);
		return;
	}
	conn->at = &conns;
	conn->next = conns;
	if (conns != NULL)
		conns->at = &conn->next;
	conns = conn;
	bufferevent_setcb(conn->events, on_read, on_written, on_event, conn);
	if (bufferevent_enable(conn->events, EV_READ | EV_WRITE) < 0)
		conn_close(conn);
}

static void close_one(struct conn *conn)
{
	SSL *ssl = bufferevent_openssl_get_ssl(conn->events);

	if (ssl != NULL && SSL_is_init_finished(ssl))
		SSL_shutdown(ssl); /* our goodbye; a failure changes nothing */
	if (options.close_abort)
		peer_linger_off(bufferevent_getfd(conn->events));
	conn_close(conn);
}

/* bufferevent_free ends what it can at once and the rest in a turn of the loop. */
static void close_all(void)
{
	uint64_t begin = peer_cpu_ns(), count = 0;

	while (conns != NULL) {
		close_one(conns);
		count++;
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	peer_closed_print(count, peer_cpu_ns() - begin);
}

static bool close_all_wanted;

static void on_signal(evutil_socket_t signals, short what, void *context)
{
	int number;

	(void)what;
	(void)context;
	while ((number = peer_signal_next((int)signals)) != 0) {
		close_all_wanted = close_all_wanted || number == options.close_signal;
		event_base_loopbreak(base);
	}
}

static struct event_base *base_create(void)
{
	struct event_config *config = event_config_new();
	struct event_base *made;

	if (config == NULL ||
		event_config_set_flag(
			config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST | EVENT_BASE_FLAG_NOLOCK) < 0)
		return NULL;
	made = event_base_new_with_config(config);
	event_config_free(config);
	return made;
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.raw = true, .tls = true, .close_all = true};
	int status = peer_options_parse(&options, "libevent", &abilities, argc, argv);
	struct evconnlistener *acceptor;
	struct event *watch;
	int signals, listener;

	if (status >= 0)
		return status;
	signals = peer_signals(&options);
	listener = peer_listen(&options);
	if (signals < 0 || listener < 0)
		return PEER_EXIT_FAILURE;
	if (options.tls && (tls = peer_tls_context(&options)) == NULL)
		return PEER_EXIT_FAILURE;
	base = base_create();
	if (base == NULL)
		return PEER_EXIT_FAILURE;
	acceptor = evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 0, listener);
	watch = event_new(base, signals, EV_READ | EV_PERSIST, on_signal, NULL);
	if (acceptor == NULL || watch == NULL || event_add(watch, NULL) < 0 ||
		peer_ready(&options) < 0)
		return PEER_EXIT_FAILURE;
	do {
		if (close_all_wanted)
			close_all();
		close_all_wanted = false;
		if (event_base_dispatch(base) < 0)
			return PEER_EXIT_FAILURE;
	} while (close_all_wanted);
	while (conns != NULL)
		conn_close(conns);
	evconnlistener_free(acceptor);
	event_free(watch);
	event_base_free(base);
	SSL_CTX_free(tls);
	return PEER_EXIT_OK;
}
