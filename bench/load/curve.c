/*
 * The load on a CURVE server of libzmq, through libzmq's own client: a DEALER for each connection.
 *
 * It is the one framing whose bytes this program does not write itself. A closed loop of echoes;
 * payloads, checks, times and the result are those of the other framings.
 */
#include "bench/load/load.h"

#include <stdio.h>

#ifdef LOAD_HAS_ZMQ

#include "bench/load/pattern.h"
#include "bench/peers/zmq_key.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#define NS 1000000000u
#define WAIT_MS 100
#define PATIENCE_NS (20ull * NS) /* for the first answers, and for the last ones */

struct dealer {
	void *socket;
	uint64_t sent, received;
	uint64_t *times;
};

static void *context;
static struct dealer *dealers;
static zmq_pollitem_t *items;

static int failure(const char *what)
{
	fprintf(stderr, "peerhub-load: %s: %s\n", what, zmq_strerror(zmq_errno()));
	return -1;
}

static int dealer_open(struct dealer *dealer)
{
	char url[64], public_key[41], secret_key[41];
	const int none = 0;

	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", load.options.port);
	dealer->socket = zmq_socket(context, ZMQ_DEALER);
	if (dealer->socket == NULL || zmq_curve_keypair(public_key, secret_key) < 0 ||
		zmq_setsockopt(dealer->socket, ZMQ_CURVE_SERVERKEY, PEER_ZMQ_PUBLIC, 41) < 0 ||
		zmq_setsockopt(dealer->socket, ZMQ_CURVE_PUBLICKEY, public_key, 41) < 0 ||
		zmq_setsockopt(dealer->socket, ZMQ_CURVE_SECRETKEY, secret_key, 41) < 0 ||
		zmq_setsockopt(dealer->socket, ZMQ_LINGER, &none, sizeof(none)) < 0 ||
		zmq_connect(dealer->socket, url) < 0)
		return failure("cannot connect with CURVE");
	return 0;
}

static void dealer_send(uint32_t index, uint64_t time_ns)
{
	struct dealer *dealer = &dealers[index];
	uint32_t size = load.options.size;

	dealer->times[dealer->sent % load.options.in_flight] = time_ns;
	if (zmq_send(dealer->socket, pattern_at(index, dealer->sent * size), size, ZMQ_DONTWAIT) <
		0) {
		failure("cannot send");
		load.errors++;
		load.failed = true;
		return;
	}
	dealer->sent++;
	load.outstanding++;
}

/* True when there was a message. */
static bool dealer_receive(uint32_t index, uint64_t time_ns)
{
	static uint8_t message[LOAD_SIZE_MAX + 1];
	struct dealer *dealer = &dealers[index];
	uint32_t size = load.options.size;
	int bytes = zmq_recv(dealer->socket, message, sizeof(message), ZMQ_DONTWAIT);

	if (bytes < 0)
		return false;
	if ((uint32_t)bytes != size ||
		memcmp(message, pattern_at(index, dealer->received * size), size) != 0) {
		fprintf(stderr,
			"peerhub-load: connection %u: what came back is not what was sent\n",
			index);
		load.errors++;
		load.failed = true;
		return false;
	}
	load.bytes_checked += size;
	load.outstanding--;
	if (load.measuring) {
		uint64_t begin_ns = dealer->times[dealer->received % load.options.in_flight];

		load.operations++;
		histogram_record(&load.latency, time_ns > begin_ns ? time_ns - begin_ns : 0);
	}
	dealer->received++;
	return true;
}

static void turn(void)
{
	uint64_t now;

	if (zmq_poll(items, (int)load.options.connections, WAIT_MS) <= 0)
		return;
	now = now_ns();
	for (uint32_t i = 0; i < load.options.connections; i++)
		while (items[i].revents != 0 && !load.failed && dealer_receive(i, now))
			if (!load.stopping)
				dealer_send(i, now);
}

static void turn_until(uint64_t end_ns)
{
	while (now_ns() < end_ns && !load.failed)
		turn();
}

/* Everybody has had an answer: the handshakes are over. */
static int open_all(void)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	for (uint32_t i = 0; i < load.options.connections; i++) {
		if (dealer_open(&dealers[i]) < 0)
			return -1;
		items[i] = (zmq_pollitem_t){.socket = dealers[i].socket, .events = ZMQ_POLLIN};
		for (uint32_t k = 0; k < load.options.in_flight && !load.failed; k++)
			dealer_send(i, now_ns());
	}
	for (uint32_t i = 0; i < load.options.connections && !load.failed; i++) {
		while (dealers[i].received == 0 && !load.failed) {
			if (now_ns() > end_ns) {
				fprintf(stderr, "peerhub-load: connection %u: no answer\n", i);
				return -1;
			}
			turn();
		}
	}
	return load.failed ? -1 : 0;
}

static uint64_t own_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

static int measure(struct load_result *result)
{
	uint64_t begin_ns, client_ns;

	turn_until(now_ns() + (uint64_t)(load.options.warmup_seconds * NS));
	if (server_cpu_read(load.options.server_pid, &result->server_begin) < 0)
		return -1;
	client_ns = own_cpu_ns();
	begin_ns = now_ns();
	load.measuring = true;
	turn_until(begin_ns + (uint64_t)(load.options.seconds * NS));
	load.measuring = false;
	result->seconds = (double)(now_ns() - begin_ns) / NS;
	result->client_cpu_ns = own_cpu_ns() - client_ns;
	if (server_cpu_read(load.options.server_pid, &result->server_end) < 0)
		return -1;
	load.stopping = true;
	for (uint64_t end_ns = now_ns() + PATIENCE_NS; load.outstanding > 0 && !load.failed;) {
		if (now_ns() > end_ns) {
			fprintf(stderr, "peerhub-load: %llu operations never came back\n",
				(unsigned long long)load.outstanding);
			return -1;
		}
		turn();
	}
	return load.failed ? -1 : 0;
}

int curve_run(struct load_result *result)
{
	uint32_t count = load.options.connections;
	uint64_t begin_ns = now_ns();
	int status = -1;

	histogram_init(&load.latency);
	dealers = calloc(count, sizeof(*dealers));
	items = calloc(count, sizeof(*items));
	load.times = calloc((size_t)count * load.options.in_flight, sizeof(*load.times));
	context = zmq_ctx_new();
	if (dealers != NULL && items != NULL && load.times != NULL && context != NULL &&
		zmq_ctx_set(context, ZMQ_MAX_SOCKETS, (int)count + 16) == 0) {
		for (uint32_t i = 0; i < count; i++)
			dealers[i].times = load.times + (size_t)i * load.options.in_flight;
		status = open_all();
		result->opening_seconds = (double)(now_ns() - begin_ns) / NS;
		if (status == 0)
			status = measure(result);
	} else {
		failure("cannot start libzmq");
	}
	for (uint32_t i = 0; dealers != NULL && i < count; i++)
		if (dealers[i].socket != NULL)
			zmq_close(dealers[i].socket);
	if (context != NULL)
		zmq_ctx_term(context);
	free(dealers);
	free(items);
	free(load.times);
	return status;
}

#else

int curve_run(struct load_result *result)
{
	(void)result;
	fputs("peerhub-load: CURVE needs libzmq, which was not there when this was built\n",
		stderr);
	return -1;
}

#endif
