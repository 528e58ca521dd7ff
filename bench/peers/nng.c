/*
 * peer-nng: the message echo on nng, as a raw replier: a request goes back as it came, without the
 * bookkeeping of a cooked socket and with as many under way as a client likes. One asynchronous
 * operation receives and sends in turn: with several, answers of one client would change their order.
 * No byte is copied by us.
 */
#include "bench/peers/peer.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct peer_options options;
static nng_socket service;
static nng_aio *operation;
static bool sends; /* what the operation does; else it receives */

static void on_done(void *context)
{
	int status = nng_aio_result(operation);

	(void)context;
	if (sends && status != 0) /* the requester has gone; the message is still ours */
		nng_msg_free(nng_aio_get_msg(operation));
	if (status == NNG_ECLOSED || status == NNG_ECANCELED)
		return; /* the socket has ended */
	sends = !sends && status == 0;
	if (sends)
		nng_send_aio(service, operation); /* the message is where it was received */
	else
		nng_recv_aio(service, operation);
}

static int start(void)
{
	char url[64];
	int fd = peer_listen(&options), status;

	/* The number of a free port, for nng's own listener. */
	if (fd < 0)
		return -1;
	close(fd);
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", options.port);
	status = nng_rep0_open_raw(&service);
	if (status == 0)
		status = nng_listen(service, url, NULL, 0);
	if (status == 0)
		status = nng_aio_alloc(&operation, on_done, NULL);
	if (status == 0)
		nng_recv_aio(service, operation);
	return status != 0 ? peer_failure(&options, "cannot start", nng_strerror(status)) : 0;
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.message = true};
	int status = peer_options_parse(&options, "nng", &abilities, argc, argv);
	struct pollfd watch = {.events = POLLIN};

	if (status >= 0)
		return status;
	/* Before nng starts its threads: they inherit the blocked signals. */
	watch.fd = peer_signals(&options);
	if (watch.fd < 0 || start() < 0 || peer_ready(&options) < 0)
		return PEER_EXIT_FAILURE;
	while (poll(&watch, 1, -1) < 0 || peer_signal_next(watch.fd) == 0)
		continue;
	/* nng_close may wait for a client that does not read; the kernel takes everything back. */
	_Exit(PEER_EXIT_OK);
}
