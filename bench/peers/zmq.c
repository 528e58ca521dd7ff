/*
 * peer-zmq: the message echo on libzmq: a ROUTER sends each message back to whom it came from, plain
 * or with CURVE (--tls; its key is in zmq_key.h, any client's key is accepted). Parts are moved, not
 * copied; all that is there is served before the next wait.
 */
#include "bench/peers/peer.h"
#include "bench/peers/zmq_key.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#define TURN_MAX 1000 /* messages before the signals are looked at again */

static struct peer_options options;

static int failure(const char *what)
{
	return peer_failure(&options, what, zmq_strerror(zmq_errno()));
}

/* One part on; 1 moved, more follows; 0 moved, it was the last; -1 there is none. */
static int part_move(void *router)
{
	zmq_msg_t part;
	int more;

	zmq_msg_init(&part);
	if (zmq_msg_recv(&part, router, ZMQ_DONTWAIT) < 0)
		return -1;
	more = zmq_msg_more(&part);
	/* A ROUTER drops what is for a client that has gone. */
	if (zmq_msg_send(&part, router, more ? ZMQ_SNDMORE : 0) < 0)
		zmq_msg_close(&part);
	return more;
}

static void echo_turn(void *router)
{
	int moved;

	for (int count = 0; count < TURN_MAX; count++) {
		do
			moved = part_move(router);
		while (moved == 1);
		if (moved < 0)
			return;
	}
}

static int option_set(void *router, int option, int value)
{
	return zmq_setsockopt(router, option, &value, sizeof(value));
}

static int router_start(void *router)
{
	char url[64];
	int fd = peer_listen(&options);

	/* The number of a free port, for libzmq's own listener. */
	if (fd < 0)
		return -1;
	close(fd);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", options.port);
	if (option_set(router, ZMQ_SNDHWM, 0) < 0 || option_set(router, ZMQ_RCVHWM, 0) < 0 ||
		option_set(router, ZMQ_LINGER, 0) < 0 ||
		option_set(router, ZMQ_BACKLOG, PEER_BACKLOG) < 0)
		return failure("socket options");
	if (options.tls &&
		(option_set(router, ZMQ_CURVE_SERVER, 1) < 0 ||
			zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, PEER_ZMQ_SECRET,
				strlen(PEER_ZMQ_SECRET) + 1) < 0))
		return failure("CURVE");
	return zmq_bind(router, url) < 0 ? failure("cannot listen") : 0;
}

static int serve(void *router, int signals)
{
	zmq_pollitem_t items[2] = {
		{.socket = router, .events = ZMQ_POLLIN},
		{.fd = signals, .events = ZMQ_POLLIN},
	};

	for (;;) {
		if (zmq_poll(items, 2, -1) < 0 && zmq_errno() != EINTR)
			return failure("zmq_poll");
		if (items[1].revents != 0 && peer_signal_next(signals) != 0)
			return 0;
		echo_turn(router);
	}
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.message = true, .tls = true};
	int status = peer_options_parse(&options, "zmq", &abilities, argc, argv);
	void *context, *router;
	int signals;

	if (status >= 0)
		return status;
	/* Before libzmq starts its threads: they inherit the blocked signals. */
	signals = peer_signals(&options);
	context = zmq_ctx_new();
	router = context != NULL ? zmq_socket(context, ZMQ_ROUTER) : NULL;
	if (signals < 0 || router == NULL)
		return PEER_EXIT_FAILURE;
	zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 1023);
	status = router_start(router);
	if (status == 0)
		status = peer_ready(&options);
	if (status == 0)
		status = serve(router, signals);
	zmq_close(router);
	zmq_ctx_term(context);
	return status == 0 ? PEER_EXIT_OK : PEER_EXIT_FAILURE;
}
