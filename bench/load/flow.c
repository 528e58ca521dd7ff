/*
 * What is sent when: the modes and the stages of a run. See load.h.
 *
 * Closed loop: every connection keeps in_flight operations under way and sends the next when one is
 * back. Open loop: operation number n belongs to connection n % N and is meant for n / rate seconds
 * after the beginning; it is sent then, or as soon after as possible, and its latency counts from
 * the time it was meant for, so a server that stalls pays for everybody who had to wait.
 */
#include "bench/load/load.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define NS 1000000000u
#define OPENING_MAX 128u /* connections that are being opened at once */
/* With TLS each waits for the handshakes before it, and some servers have little patience. */
#define OPENING_TLS_MAX 16u
#define OPENING_PATIENCE_NS (120ull * NS) /* for all of them */
#define DRAIN_PATIENCE_NS (10ull * NS)
#define SETTLE_NS (300ull * 1000 * 1000) /* before memory is read */
#define OPEN_LOOP_OUTSTANDING_MAX 4096u /* of one connection; later ones wait, their time running */

struct load load;

static uint64_t schedule_begin_ns; /* open loop: when number 0 is due */
static uint64_t schedule_next; /* the next number that is not due yet */
static bool running; /* warm-up and measuring: the closed loop turns */

static bool is_cyclic(void)
{
	return load.options.mode == MODE_CONNECT || load.options.mode == MODE_HANDSHAKE;
}

static bool is_open_loop(void)
{
	return load.options.rate > 0;
}

/* Connections at once: the cyclic modes have as many as there are operations at once. */
static uint32_t conn_count(void)
{
	return is_cyclic() ? load.options.connections * load.options.in_flight
			   : load.options.connections;
}

static uint64_t due_ns(uint64_t number)
{
	return schedule_begin_ns + (uint64_t)((double)number * (NS / load.options.rate));
}

static void latency_record(uint64_t begin_ns, uint64_t end_ns)
{
	if (!load.measuring)
		return;
	load.operations++;
	histogram_record(&load.latency, end_ns > begin_ns ? end_ns - begin_ns : 0);
}

/* ---- echo ------------------------------------------------------------------------------ */

/* Open loop: send what is due on this connection, as far as there is room. */
static void conn_catch_up(struct conn *conn)
{
	uint32_t count = load.options.connections;
	uint64_t due =
		schedule_next > conn->index ? (schedule_next - conn->index + count - 1) / count : 0;
	uint64_t room = OPEN_LOOP_OUTSTANDING_MAX - (conn->sent - conn->received);
	uint64_t send = due > conn->sent ? due - conn->sent : 0;

	if (send > room)
		send = room;
	if (send > 0 && conn->state == CONN_OPEN && !load.stopping)
		conn_emit(conn, (uint32_t)send, 0);
}

static void schedule_run(uint64_t now)
{
	uint64_t first = schedule_next, last;
	uint32_t count = load.options.connections;

	while (due_ns(schedule_next) <= now)
		schedule_next++;
	last = schedule_next - first > count ? first + count : schedule_next;
	for (uint64_t number = first; number < last; number++)
		conn_catch_up(&load.conns[number % count]);
}

static void echo_received(struct conn *conn, uint32_t count, uint64_t time_ns)
{
	uint64_t number = conn->received - count;

	for (; number < conn->received; number++) {
		if (is_open_loop())
			latency_record(
				due_ns(number * load.options.connections + conn->index), time_ns);
		else
			latency_record(conn->times[number % load.options.in_flight], time_ns);
	}
	if (load.stopping)
		return;
	if (is_open_loop())
		conn_catch_up(conn);
	else if (running)
		conn_emit(conn, count, time_ns);
}

/* ---- relay ----------------------------------------------------------------------------- */

/* A sender's place is free when the slowest of its receivers has the message. */
static void relay_received(struct conn *conn, uint32_t count, uint64_t time_ns)
{
	struct conn *sender = &load.conns[wire_sender_of(&load.options, conn->index)];
	uint64_t number = conn->received - count, slowest = UINT64_MAX, under_way;

	for (; number < conn->received; number++)
		latency_record(sender->times[number % load.options.in_flight], time_ns);
	if (load.stopping || sender->state != CONN_OPEN)
		return;
	if (conn->received - count > sender->received)
		return; /* another receiver is behind us: it frees the place */
	for (uint32_t i = 1; i <= load.options.fan; i++)
		if (sender[i].received < slowest)
			slowest = sender[i].received;
	sender->received = slowest;
	under_way = sender->sent - slowest;
	if (under_way < load.options.in_flight)
		conn_emit(sender, load.options.in_flight - (uint32_t)under_way, time_ns);
}

/* ---- what conn.c tells ------------------------------------------------------------------- */

void flow_on_open(struct conn *conn)
{
	if (is_cyclic())
		conn_emit(conn, 1, now_ns());
}

void flow_on_received(struct conn *conn, uint32_t count, uint64_t time_ns)
{
	load.outstanding -= count;
	if (is_cyclic())
		conn_finish(conn);
	else if (load.options.mode == MODE_RELAY)
		relay_received(conn, count, time_ns);
	else
		echo_received(conn, count, time_ns);
}

static void cycle_begin(struct conn *conn, uint64_t begin_ns)
{
	conn->begin_ns = begin_ns;
	conn_start(conn);
}

void flow_on_ended(struct conn *conn)
{
	uint64_t now = now_ns();

	latency_record(conn->begin_ns, now);
	if (load.stopping)
		return;
	if (!is_open_loop()) {
		cycle_begin(conn, now);
	} else if (due_ns(schedule_next) <= now) {
		cycle_begin(conn, due_ns(schedule_next));
		schedule_next++;
	}
}

void flow_on_lost(struct conn *conn)
{
	if (conn->sent > conn->received && load.options.mode != MODE_RELAY)
		load.outstanding -= conn->sent - conn->received;
	/* A server that is gone would be dialled for ever. */
	if (!is_cyclic() || load.lost > 1000)
		load.failed = true;
	else if (!load.stopping && !is_open_loop())
		conn->begin_ns = 0; /* the loop starts it again */
}

/* ---- stages ---------------------------------------------------------------------------- */

/* Start what is free, in the cyclic modes: lost ones, and those whose time has come. */
static void cycles_start(uint64_t now)
{
	for (uint32_t i = 0; i < conn_count() && !load.failed; i++) {
		struct conn *conn = &load.conns[i];

		if (conn->state != CONN_FREE)
			continue;
		if (!is_open_loop()) {
			cycle_begin(conn, now);
		} else if (due_ns(schedule_next) <= now) {
			cycle_begin(conn, due_ns(schedule_next));
			schedule_next++;
		}
	}
}

static void run_until(uint64_t end_ns)
{
	for (;;) {
		uint64_t now = now_ns(), wake = end_ns;

		if (now >= end_ns || load.failed)
			return;
		if (is_cyclic())
			cycles_start(now);
		else if (is_open_loop())
			schedule_run(now);
		if (is_open_loop() && due_ns(schedule_next) < wake)
			wake = due_ns(schedule_next);
		conn_poll(wake > now ? wake - now : 0);
	}
}

/* Open the connections up to number `count`. 0 or -1. */
static int open_until(uint32_t count)
{
	static uint32_t started;
	uint32_t opening_max = load.options.tls ? OPENING_TLS_MAX : OPENING_MAX;
	uint64_t end_ns = now_ns() + OPENING_PATIENCE_NS;

	while (load.opened < count && !load.failed) {
		while (started < count && load.opening < opening_max && !load.failed)
			conn_start(&load.conns[started++]);
		conn_poll(NS / 10);
		if (now_ns() > end_ns) {
			fprintf(stderr, "peerhub-load: %u of %u connections open after 120 s\n",
				load.opened, count);
			return -1;
		}
	}
	return load.failed ? -1 : 0;
}

static void drain(void)
{
	uint64_t end_ns = now_ns() + DRAIN_PATIENCE_NS;

	load.stopping = true;
	while ((load.outstanding > 0 || (is_cyclic() && load.opening > 0)) && !load.failed) {
		if (now_ns() > end_ns) {
			fprintf(stderr, "peerhub-load: %llu operations never came back\n",
				(unsigned long long)load.outstanding);
			load.errors++;
			return;
		}
		conn_poll(NS / 10);
	}
}

static void begin_traffic(void)
{
	uint64_t now = now_ns();

	running = true;
	schedule_begin_ns = now;
	if (is_cyclic() || is_open_loop())
		return;
	for (uint32_t i = 0; i < load.options.connections && !load.failed; i++)
		if (wire_is_sender(&load.options, i))
			conn_emit(&load.conns[i], load.options.in_flight, now_ns());
}

static uint64_t own_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

static int cpu_read(struct server_cpu *cpu)
{
	int status = server_cpu_read(load.options.server_pid, cpu);

	if (status < 0)
		fprintf(stderr, "peerhub-load: the server's CPU time: %s\n", strerror(-status));
	return status;
}

static int measure(struct load_result *result)
{
	uint64_t seconds_ns = (uint64_t)(load.options.seconds * NS), begin_ns, client_ns;

	begin_traffic();
	run_until(now_ns() + (uint64_t)(load.options.warmup_seconds * NS));
	if (load.failed || cpu_read(&result->server_begin) < 0)
		return -1;
	client_ns = own_cpu_ns();
	begin_ns = now_ns();
	load.measuring = true;
	run_until(begin_ns + seconds_ns);
	load.measuring = false;
	result->seconds = (double)(now_ns() - begin_ns) / NS;
	result->client_cpu_ns = own_cpu_ns() - client_ns;
	if (cpu_read(&result->server_end) < 0)
		return -1;
	drain();
	return 0;
}

static int memory_read(struct server_memory *memory)
{
	uint64_t end_ns = now_ns() + SETTLE_NS;
	int status;

	while (now_ns() < end_ns && !load.failed)
		conn_poll(SETTLE_NS / 10);
	status = server_memory_read(load.options.server_pid, memory);
	if (status < 0)
		fprintf(stderr, "peerhub-load: the server's memory: %s\n", strerror(-status));
	return status;
}

/* Opening was quick on all cores; what is measured happens on one. 0 or -1. */
static int settle(void)
{
	cpu_set_t cores;

	if (load.options.settle_core < 0)
		return 0;
	CPU_ZERO(&cores);
	CPU_SET((unsigned)load.options.settle_core, &cores);
	if (sched_setaffinity(0, sizeof(cores), &cores) == 0)
		return 0;
	fprintf(stderr, "peerhub-load: core %d: %s\n", load.options.settle_core, strerror(errno));
	return -1;
}

/* A tenth of them first: what a first connection costs once is not each one's. */
static int hold(struct load_result *result)
{
	uint64_t begin_ns;

	result->memory_part_count = load.options.connections / 10;
	if (memory_read(&result->memory_begin) < 0 || open_until(result->memory_part_count) < 0 ||
		memory_read(&result->memory_part) < 0 || cpu_read(&result->server_begin) < 0 ||
		open_until(load.options.connections) < 0 || settle() < 0)
		return -1;
	fprintf(stderr, "peerhub-load: holding %u connections\n", load.opened);
	begin_ns = now_ns();
	if (cpu_read(&result->server_begin) < 0)
		return -1;
	run_until(begin_ns + (uint64_t)(load.options.seconds * NS));
	result->seconds = (double)(now_ns() - begin_ns) / NS;
	if (cpu_read(&result->server_end) < 0)
		return -1;
	return memory_read(&result->memory_end);
}

static int load_init(void)
{
	uint32_t count = conn_count(), frame_count;
	bool own = load.options.mode == MODE_RELAY || load.options.framing == FRAMING_NATS;

	frame_count = own ? count : 1;
	load.conns = calloc(count, sizeof(*load.conns));
	load.times = calloc((size_t)count * load.options.in_flight, sizeof(*load.times));
	load.frames = calloc(2 * (size_t)frame_count, sizeof(*load.frames));
	load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (load.conns == NULL || load.times == NULL || load.frames == NULL || load.epoll_fd < 0) {
		fprintf(stderr, "peerhub-load: %s\n", strerror(errno));
		return -1;
	}
	for (uint32_t i = 0; i < frame_count; i++) {
		wire_frame_out(&load.options, i, &load.frames[2 * i]);
		wire_frame_in(&load.options, i, &load.frames[2 * i + 1]);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t frame = own ? i : 0;

		load.conns[i] = (struct conn){.fd = -1,
			.index = i,
			.times = load.times + (size_t)i * load.options.in_flight,
			.out = &load.frames[2 * frame],
			.in = &load.frames[2 * frame + 1]};
	}
	histogram_init(&load.latency);
	return load.options.tls ? conn_tls_init() : 0;
}

static void load_fini(void)
{
	for (uint32_t i = 0; load.conns != NULL && i < conn_count(); i++) {
		if (load.conns[i].state != CONN_FREE)
			conn_drop(&load.conns[i]);
		SSL_SESSION_free(load.conns[i].session);
	}
	SSL_CTX_free(load.tls);
	free(load.conns);
	free(load.times);
	free(load.frames);
}

int flow_run(struct load_result *result)
{
	uint64_t begin_ns = now_ns();
	int status = load_init();

	if (status == 0 && load.options.mode == MODE_IDLE) {
		status = hold(result);
	} else if (status == 0) {
		if (!is_cyclic())
			status = open_until(load.options.connections);
		if (status == 0)
			status = settle();
		result->opening_seconds = (double)(now_ns() - begin_ns) / NS;
		if (status == 0)
			status = measure(result);
	}
	load_fini();
	return status < 0 || load.failed ? -1 : 0;
}
