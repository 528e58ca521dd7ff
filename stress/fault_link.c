/* A relay with faults; see fault_link.h. */
#include "fault_link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MASKS (1u << FAULTS_MAX)
#define EVENTS_PER_TURN 256
#define ACCEPTS_PER_TURN 64
#define PIECE_BYTES 16384u
#define QUEUE_BYTES (256u * 1024u) /* read ahead of one direction: beyond it the sender waits */
#define QUEUE_SLOW_BYTES 8192u /* … of a slow one: it must feel it */
#define SOCKET_SLOW_BYTES 8192
#define SEGMENTS_PER_TURN 256u
#define LINGER_NS 5000000000ull /* a truncated stream waits so long for its ends */
#define STALLED_NS 30000000000ull /* one stalled for ever is given up after so long */
#define FOREVER UINT64_MAX

/* One direction: what was read on fds[n] and is not yet written to fds[1 - n]. */
struct piece {
	struct piece *next;
	uint64_t due_ns;
	uint32_t bytes, at;
	uint8_t data[];
};
struct flow {
	struct piece *head, *tail;
	uint32_t queued;
	uint64_t due_last_ns; /* late pieces keep their order */
	double credit; /* bytes a slow one may write now */
	uint64_t credit_ns;
	bool is_eof; /* read side has ended */
	bool is_ended; /* … and the other end was told */
	bool is_blocked; /* the socket took no more */
};

enum pipe_state {
	PIPE_CONNECTING,
	PIPE_RELAYING,
	PIPE_STALLED, /* nothing passes, nobody is told */
	PIPE_TRUNCATED, /* both streams have ended; what still comes is dropped */
	PIPE_DEAD, /* closed; freed after the turn */
};

struct pipe {
	struct pipe *next, *previous;
	struct end {
		struct pipe *pipe;
		int number;
	} ends[2]; /* what epoll names */
	int fds[2];
	uint32_t events[2];
	struct flow flows[2];
	enum pipe_state state;
	uint32_t mask;
	uint64_t begun_ns, passed, until_ns;
	bool has_stalled;
	/* Drawn from the faults' ranges; FOREVER: that fault is not ours. */
	uint64_t stall_bytes, truncate_bytes, reset_bytes, reset_ns, slow_rate, segment_bytes,
		damage_bytes;
	struct random random;
};

struct fault_link {
	struct fault_link_options options;
	int listeners[MASKS];
	ph_address addresses[MASKS];
	int epoll;
	uint64_t serial; /* of connections: chooses target, source and luck */
	struct pipe *pipes;
	atomic_bool is_ending;
	_Atomic uint64_t connections, refused, bytes;
	_Atomic uint64_t hits[FAULT_KIND_COUNT];
	pthread_t thread;
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void hit(struct fault_link *link, enum fault_kind kind)
{
	atomic_fetch_add_explicit(&link->hits[kind], 1, memory_order_relaxed);
}

/* ---- pipes: life ------------------------------------------------------------------------ */

static void flow_clear(struct flow *flow)
{
	while (flow->head != NULL) {
		struct piece *piece = flow->head;

		flow->head = piece->next;
		free(piece);
	}
	flow->tail = NULL;
	flow->queued = 0;
}

static void fd_reset(int fd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void pipe_end(struct pipe *pipe, bool is_reset)
{
	if (pipe->state == PIPE_DEAD)
		return;
	for (int i = 0; i < 2; i++) {
		if (is_reset)
			fd_reset(pipe->fds[i]);
		close(pipe->fds[i]);
		flow_clear(&pipe->flows[i]);
	}
	pipe->state = PIPE_DEAD;
}

static void pipe_unlink(struct fault_link *link, struct pipe *pipe)
{
	if (pipe->previous != NULL)
		pipe->previous->next = pipe->next;
	else
		link->pipes = pipe->next;
	if (pipe->next != NULL)
		pipe->next->previous = pipe->previous;
	free(pipe);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void pipe_draw(struct fault_link *link, struct pipe *pipe)
{
	const struct faults *faults = link->options.faults;

	pipe->stall_bytes = pipe->truncate_bytes = pipe->reset_bytes = FOREVER;
	pipe->reset_ns = pipe->slow_rate = pipe->segment_bytes = pipe->damage_bytes = FOREVER;
	for (uint32_t i = 0; i < faults->count; i++) {
		const struct fault *fault = &faults->items[i];
		uint64_t amount;

		if ((pipe->mask & (1u << i)) == 0 || !fault_is_link(fault))
			continue;
		amount = fault_draw(&fault->amount, &pipe->random);
		if (fault->kind == FAULT_STALL)
			pipe->stall_bytes = smaller(pipe->stall_bytes, amount);
		else if (fault->kind == FAULT_TRUNCATE)
			pipe->truncate_bytes = smaller(pipe->truncate_bytes, amount);
		else if (fault->kind == FAULT_RESET && fault->is_time)
			pipe->reset_ns = pipe->begun_ns + amount * 1000000u;
		else if (fault->kind == FAULT_RESET)
			pipe->reset_bytes = smaller(pipe->reset_bytes, amount);
		else if (fault->kind == FAULT_SLOW)
			pipe->slow_rate = smaller(pipe->slow_rate, amount);
		else if (fault->kind == FAULT_DAMAGE)
			pipe->damage_bytes = smaller(pipe->damage_bytes, amount);
		else if (fault->kind == FAULT_SEGMENT)
			pipe->segment_bytes = smaller(pipe->segment_bytes, amount);
		if (fault->kind == FAULT_SLOW || fault->kind == FAULT_SEGMENT ||
			fault->kind == FAULT_DELAY)
			hit(link, fault->kind);
	}
}

/* Sets what epoll reports for one end. */
static void end_watch(struct fault_link *link, struct pipe *pipe, int n, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = &pipe->ends[n]};

	if (pipe->events[n] == events)
		return;
	if (epoll_ctl(link->epoll, EPOLL_CTL_MOD, pipe->fds[n], &event) == 0)
		pipe->events[n] = events;
}

/* An end that epoll shall not even report as broken. */
static void end_unwatch(struct fault_link *link, struct pipe *pipe, int n)
{
	(void)epoll_ctl(link->epoll, EPOLL_CTL_DEL, pipe->fds[n], NULL);
}

static int end_add(struct fault_link *link, struct pipe *pipe, int n, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = &pipe->ends[n]};

	pipe->events[n] = events;
	return epoll_ctl(link->epoll, EPOLL_CTL_ADD, pipe->fds[n], &event) < 0 ? -errno : 0;
}

static int socket_to(const ph_address *target, uint64_t serial)
{
	struct sockaddr_in address4 = {.sin_family = AF_INET, .sin_port = target->sin6_port};
	bool is_4 = IN6_IS_ADDR_V4MAPPED(&target->sin6_addr);
	const struct sockaddr *address =
		is_4 ? (const struct sockaddr *)&address4 : (const struct sockaddr *)target;
	int fd = socket(is_4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int one = 1;

	if (fd < 0)
		return -errno;
	if (is_4)
		memcpy(&address4.sin_addr, target->sin6_addr.s6_addr + 12, 4);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (is_4 && (ntohl(address4.sin_addr.s_addr) >> 24) == 127) {
		/* Local ports last 200 times as long. */
		struct sockaddr_in source = {.sin_family = AF_INET};

		source.sin_addr.s_addr = htonl(0x7f000201u + (uint32_t)(serial % 200));
		(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		(void)bind(fd, (const struct sockaddr *)&source, sizeof(source));
	}
	if (connect(fd, address, is_4 ? sizeof(address4) : sizeof(*target)) < 0 &&
		errno != EINPROGRESS) {
		int status = -errno;

		close(fd);
		return status;
	}
	return fd;
}

static void pipe_open(struct fault_link *link, int client, uint32_t mask)
{
	uint64_t serial = link->serial++;
	struct pipe *pipe = calloc(1, sizeof(*pipe));
	int server = socket_to(&link->options.targets[serial % link->options.target_count], serial);
	const int one = 1, small = SOCKET_SLOW_BYTES;

	if (pipe == NULL || server < 0) {
		atomic_fetch_add(&link->refused, 1);
		fd_reset(client);
		close(client);
		if (server >= 0)
			close(server);
		free(pipe);
		return;
	}
	(void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pipe->fds[0] = client;
	pipe->fds[1] = server;
	pipe->mask = mask;
	pipe->begun_ns = clock_ns();
	random_init(&pipe->random, link->options.seed, serial);
	pipe_draw(link, pipe);
	for (int i = 0; i < 2; i++) {
		pipe->ends[i] = (struct end){.pipe = pipe, .number = i};
		pipe->flows[i].credit_ns = pipe->begun_ns;
		if (pipe->slow_rate != FOREVER)
			(void)setsockopt(
				pipe->fds[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	}
	pipe->next = link->pipes;
	if (pipe->next != NULL)
		pipe->next->previous = pipe;
	link->pipes = pipe;
	atomic_fetch_add(&link->connections, 1);
	if (end_add(link, pipe, 0, 0) < 0 || end_add(link, pipe, 1, EPOLLOUT) < 0)
		pipe_end(pipe, true);
}

/* ---- pipes: work ------------------------------------------------------------------------ */

static uint32_t flow_room(const struct pipe *pipe, const struct flow *flow)
{
	uint32_t limit = pipe->slow_rate != FOREVER ? QUEUE_SLOW_BYTES : QUEUE_BYTES;

	return flow->is_eof || flow->queued >= limit ? 0 : limit - flow->queued;
}

static uint64_t piece_due(
	struct fault_link *link, struct pipe *pipe, struct flow *flow, uint64_t now)
{
	const struct faults *faults = link->options.faults;
	uint64_t due = now;

	for (uint32_t i = 0; i < faults->count; i++) {
		const struct fault *fault = &faults->items[i];

		if ((pipe->mask & (1u << i)) != 0 && fault->kind == FAULT_DELAY)
			due += (fault_draw(&fault->amount, &pipe->random) +
				       fault_draw(&fault->duration, &pipe->random)) *
				1000000u;
	}
	if (due < flow->due_last_ns)
		due = flow->due_last_ns;
	flow->due_last_ns = due;
	return due;
}

/* Read what there is room for. False: the stream is broken. */
static bool flow_read(struct fault_link *link, struct pipe *pipe, int n, uint64_t now)
{
	struct flow *flow = &pipe->flows[n];
	uint8_t data[PIECE_BYTES];
	uint32_t room;

	while ((room = flow_room(pipe, flow)) > 0) {
		ssize_t got = recv(pipe->fds[n], data, smaller(room, sizeof(data)), 0);
		struct piece *piece;

		if (got < 0)
			return errno == EAGAIN || errno == EINTR;
		if (got == 0) {
			flow->is_eof = true;
			return true;
		}
		piece = malloc(sizeof(*piece) + (size_t)got);
		if (piece == NULL)
			return false;
		*piece = (struct piece){
			.bytes = (uint32_t)got, .due_ns = piece_due(link, pipe, flow, now)};
		memcpy(piece->data, data, (size_t)got);
		if (flow->tail != NULL)
			flow->tail->next = piece;
		else
			flow->head = piece;
		flow->tail = piece;
		flow->queued += (uint32_t)got;
	}
	return true;
}

/* How many bytes of the head may be written now. */
static uint32_t flow_allowance(struct pipe *pipe, struct flow *flow, uint64_t now)
{
	uint64_t allowed = flow->head->bytes - flow->head->at;

	if (flow->head->due_ns > now)
		return 0;
	allowed = smaller(allowed, pipe->segment_bytes);
	if (pipe->slow_rate != FOREVER) {
		double most = (double)pipe->slow_rate / 20 + 1; /* 50 ms' worth */

		flow->credit += (double)(now - flow->credit_ns) * (double)pipe->slow_rate / 1e9;
		flow->credit_ns = now;
		if (flow->credit > most)
			flow->credit = most;
		allowed = smaller(allowed, (uint64_t)flow->credit);
	}
	allowed = smaller(allowed, pipe->has_stalled ? FOREVER : pipe->stall_bytes - pipe->passed);
	allowed = smaller(allowed, pipe->truncate_bytes - pipe->passed);
	return (uint32_t)smaller(allowed, pipe->reset_bytes - pipe->passed);
}

/* Change one byte of what is about to be written, once. */
static void flow_damage(
	struct fault_link *link, struct pipe *pipe, struct flow *flow, uint32_t bytes)
{
	if (pipe->damage_bytes < pipe->passed || pipe->damage_bytes >= pipe->passed + bytes)
		return;
	flow->head->data[flow->head->at + (pipe->damage_bytes - pipe->passed)] ^= 0x20;
	pipe->damage_bytes = FOREVER; /* even when the socket takes fewer: once is once */
	hit(link, FAULT_DAMAGE);
}

static void flow_taken(struct flow *flow, uint32_t bytes)
{
	struct piece *piece = flow->head;

	flow->queued -= bytes;
	piece->at += bytes;
	if (piece->at < piece->bytes)
		return;
	flow->head = piece->next;
	if (flow->head == NULL)
		flow->tail = NULL;
	free(piece);
}

/* Write what is due. False: the stream is broken. */
static bool flow_write(struct fault_link *link, struct pipe *pipe, int n, uint64_t now)
{
	struct flow *flow = &pipe->flows[n];
	uint32_t count = 0;

	flow->is_blocked = false;
	while (flow->head != NULL && count++ < SEGMENTS_PER_TURN) {
		uint32_t allowed = flow_allowance(pipe, flow, now);
		ssize_t put;

		if (allowed == 0)
			return true;
		flow_damage(link, pipe, flow, allowed);
		put = send(
			pipe->fds[1 - n], flow->head->data + flow->head->at, allowed, MSG_NOSIGNAL);
		if (put < 0) {
			flow->is_blocked = errno == EAGAIN;
			return errno == EAGAIN || errno == EINTR;
		}
		if (pipe->slow_rate != FOREVER)
			flow->credit -= (double)put;
		pipe->passed += (uint64_t)put;
		atomic_fetch_add_explicit(&link->bytes, (uint64_t)put, memory_order_relaxed);
		flow_taken(flow, (uint32_t)put);
	}
	if (flow->head == NULL && flow->is_eof && !flow->is_ended) {
		flow->is_ended = true;
		(void)shutdown(pipe->fds[1 - n], SHUT_WR);
	}
	return true;
}

static void pipe_stall(struct fault_link *link, struct pipe *pipe, uint64_t now)
{
	const struct faults *faults = link->options.faults;
	uint64_t ms = 0;

	for (uint32_t i = 0; i < faults->count; i++)
		if ((pipe->mask & (1u << i)) != 0 && faults->items[i].kind == FAULT_STALL)
			ms = fault_draw(&faults->items[i].duration, &pipe->random);
	pipe->has_stalled = true;
	pipe->state = PIPE_STALLED;
	pipe->until_ns = now + (ms == 0 ? STALLED_NS : ms * 1000000u);
	hit(link, FAULT_STALL);
	end_unwatch(link, pipe, 0);
	end_unwatch(link, pipe, 1);
}

static void pipe_truncate(struct fault_link *link, struct pipe *pipe, uint64_t now)
{
	pipe->state = PIPE_TRUNCATED;
	pipe->until_ns = now + LINGER_NS;
	hit(link, FAULT_TRUNCATE);
	for (int i = 0; i < 2; i++) {
		flow_clear(&pipe->flows[i]);
		(void)shutdown(pipe->fds[i], SHUT_WR);
		end_watch(link, pipe, i, EPOLLIN);
	}
}

/* Both ends of a truncated pipe are read to their end, so that what is said to them is FIN. */
static void pipe_drop(struct fault_link *link, struct pipe *pipe)
{
	uint8_t data[PIECE_BYTES];

	for (int i = 0; i < 2; i++) {
		ssize_t got = 1;

		while (!pipe->flows[i].is_eof && got > 0) {
			got = recv(pipe->fds[i], data, sizeof(data), 0);
			if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
				pipe->flows[i].is_eof = true;
		}
		if (pipe->flows[i].is_eof && pipe->events[i] != 0) {
			end_unwatch(link, pipe, i);
			pipe->events[i] = 0;
		}
	}
	if (pipe->flows[0].is_eof && pipe->flows[1].is_eof)
		pipe_end(pipe, false);
}

/* What the bytes that passed, or the time, have triggered. */
static void pipe_triggers(struct fault_link *link, struct pipe *pipe, uint64_t now)
{
	if (pipe->passed >= pipe->reset_bytes || now >= pipe->reset_ns) {
		hit(link, FAULT_RESET);
		pipe_end(pipe, true);
	} else if (pipe->passed >= pipe->truncate_bytes) {
		pipe_truncate(link, pipe, now);
	} else if (!pipe->has_stalled && pipe->passed >= pipe->stall_bytes) {
		pipe_stall(link, pipe, now);
	}
}

static void pipe_watch(struct fault_link *link, struct pipe *pipe)
{
	for (int i = 0; i < 2; i++) {
		uint32_t events = flow_room(pipe, &pipe->flows[i]) > 0 ? EPOLLIN : 0;

		if (pipe->flows[1 - i].is_blocked)
			events |= EPOLLOUT;
		end_watch(link, pipe, i, events);
	}
}

static void pipe_relay(struct fault_link *link, struct pipe *pipe, uint64_t now)
{
	for (int i = 0; i < 2; i++) {
		if (!flow_read(link, pipe, i, now) || !flow_write(link, pipe, i, now)) {
			pipe_end(pipe, true);
			return;
		}
	}
	pipe_triggers(link, pipe, now);
	if (pipe->state != PIPE_RELAYING)
		return;
	if (pipe->flows[0].is_ended && pipe->flows[1].is_ended)
		pipe_end(pipe, false);
	else
		pipe_watch(link, pipe);
}

static void pipe_connected(struct fault_link *link, struct pipe *pipe)
{
	socklen_t bytes = sizeof(int);
	int error = 0;

	if (getsockopt(pipe->fds[1], SOL_SOCKET, SO_ERROR, &error, &bytes) < 0 || error != 0) {
		pipe_end(pipe, true);
		return;
	}
	pipe->state = PIPE_RELAYING;
	pipe_watch(link, pipe);
	pipe_triggers(link, pipe, clock_ns()); /* a limit of 0 bytes */
}

static void pipe_event(struct fault_link *link, const struct end *end, uint32_t events)
{
	struct pipe *pipe = end->pipe;
	bool is_broken = (events & (EPOLLERR | EPOLLHUP)) != 0;

	switch (pipe->state) {
	case PIPE_CONNECTING:
		if (end->number == 1)
			pipe_connected(link, pipe);
		else if (is_broken)
			pipe_end(pipe, true);
		break;
	case PIPE_RELAYING:
		/* An end that is broken and has nothing more to say, or none who reads it. */
		if (is_broken && flow_room(pipe, &pipe->flows[end->number]) == 0)
			pipe_end(pipe, true);
		else
			pipe_relay(link, pipe, clock_ns());
		break;
	case PIPE_TRUNCATED:
		pipe_drop(link, pipe);
		break;
	case PIPE_STALLED:
	case PIPE_DEAD:
		break;
	}
}

static bool pipe_is_timed(const struct pipe *pipe)
{
	return pipe->state == PIPE_STALLED || pipe->state == PIPE_TRUNCATED ||
		pipe->reset_ns != FOREVER || pipe->flows[0].head != NULL ||
		pipe->flows[1].head != NULL;
}

/* What the clock does to a pipe. */
static void pipe_tick(struct fault_link *link, struct pipe *pipe, uint64_t now)
{
	if (pipe->state == PIPE_RELAYING) {
		pipe_relay(link, pipe, now);
	} else if (pipe->state == PIPE_TRUNCATED && now >= pipe->until_ns) {
		pipe_end(pipe, true);
	} else if (pipe->state == PIPE_STALLED && now >= pipe->until_ns) {
		if (pipe->until_ns >= pipe->begun_ns + STALLED_NS ||
			end_add(link, pipe, 0, EPOLLIN) < 0 || end_add(link, pipe, 1, EPOLLIN) < 0)
			pipe_end(pipe, true);
		else
			pipe->state = PIPE_RELAYING;
	}
}

/* ---- the thread ------------------------------------------------------------------------- */

static void listener_accept(struct fault_link *link, uint32_t mask)
{
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(link->listeners[mask], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			pipe_open(link, fd, mask);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			const struct timespec moment = {.tv_nsec = 1000000};

			atomic_fetch_add(&link->refused, 1);
			nanosleep(&moment, NULL); /* it stays ready: not a busy loop */
		}
		return;
	}
}

/* Whether a listener is meant: their addresses lie inside the array. */
static bool is_listener(const struct fault_link *link, const void *named)
{
	return (const char *)named >= (const char *)link->listeners &&
		(const char *)named < (const char *)(link->listeners + MASKS);
}

static bool pipes_tick(struct fault_link *link)
{
	uint64_t now = clock_ns();
	bool is_timed = false;

	for (struct pipe *pipe = link->pipes, *next; pipe != NULL; pipe = next) {
		next = pipe->next;
		if (pipe->state != PIPE_DEAD && pipe_is_timed(pipe))
			pipe_tick(link, pipe, now);
		if (pipe->state == PIPE_DEAD)
			pipe_unlink(link, pipe);
		else
			is_timed |= pipe_is_timed(pipe);
	}
	return is_timed;
}

static void *link_main(void *argument)
{
	struct fault_link *link = argument;
	struct epoll_event events[EVENTS_PER_TURN];
	bool is_timed = false;

	while (!atomic_load(&link->is_ending)) {
		int count = epoll_wait(link->epoll, events, EVENTS_PER_TURN, is_timed ? 1 : 20);

		for (int i = 0; i < count; i++) {
			if (is_listener(link, events[i].data.ptr))
				listener_accept(link,
					(uint32_t)((int *)events[i].data.ptr - link->listeners));
			else
				pipe_event(link, events[i].data.ptr, events[i].events);
		}
		is_timed = pipes_tick(link);
	}
	while (link->pipes != NULL) {
		pipe_end(link->pipes, true);
		pipe_unlink(link, link->pipes);
	}
	return NULL;
}

/* ---- start and stop --------------------------------------------------------------------- */

static int listener_open(struct fault_link *link, uint32_t mask)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t bytes = sizeof(address);
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &link->listeners[mask]};
	char text[PH_ADDRESS_TEXT_BYTES];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	link->listeners[mask] = fd;
	address.sin_addr.s_addr = htonl(0x7f000301u + mask % 200);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(fd, 4096) < 0 || getsockname(fd, (struct sockaddr *)&address, &bytes) < 0 ||
		epoll_ctl(link->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	snprintf(text, sizeof(text), "127.0.3.%u:%u", 1 + mask % 200, ntohs(address.sin_port));
	return ph_address_parse(text, &link->addresses[mask]);
}

static uint32_t link_bits(const struct faults *faults)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < faults->count; i++)
		if (fault_is_link(&faults->items[i]))
			bits |= 1u << i;
	return bits;
}

static int link_open(struct fault_link *link)
{
	uint32_t bits = link_bits(link->options.faults);
	int status = 0;

	link->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (link->epoll < 0)
		return -errno;
	for (uint32_t mask = 1; mask < MASKS && status == 0; mask++)
		if ((mask & ~bits) == 0)
			status = listener_open(link, mask);
	if (status == 0)
		status = -pthread_create(&link->thread, NULL, link_main, link);
	return status;
}

static void link_close(struct fault_link *link)
{
	for (uint32_t mask = 0; mask < MASKS; mask++)
		if (link->listeners[mask] >= 0)
			close(link->listeners[mask]);
	if (link->epoll >= 0)
		close(link->epoll);
	free(link);
}

int fault_link_start(const struct fault_link_options *options, struct fault_link **link, char *why)
{
	struct fault_link *made = calloc(1, sizeof(*made));
	int status = made == NULL ? -ENOMEM : 0;

	if (made != NULL) {
		made->options = *options;
		made->epoll = -1;
		for (uint32_t mask = 0; mask < MASKS; mask++)
			made->listeners[mask] = -1;
		status = link_open(made);
	}
	if (status < 0) {
		snprintf(why, PH_WHY_BYTES, "cannot start the relay for the faults: %s",
			strerror(-status));
		if (made != NULL)
			link_close(made);
		return status;
	}
	*link = made;
	return 0;
}

const ph_address *fault_link_address(const struct fault_link *link, uint32_t mask)
{
	mask &= link_bits(link->options.faults);
	return mask != 0 ? &link->addresses[mask] : NULL;
}

void fault_link_counts(struct fault_link *link, struct fault_link_counts *counts)
{
	counts->connections = atomic_load(&link->connections);
	counts->refused = atomic_load(&link->refused);
	counts->bytes = atomic_load(&link->bytes);
	for (int kind = 0; kind < FAULT_KIND_COUNT; kind++)
		counts->hits[kind] = atomic_load(&link->hits[kind]);
}

void fault_link_stop(struct fault_link *link)
{
	if (link == NULL)
		return;
	atomic_store(&link->is_ending, true);
	pthread_join(link->thread, NULL);
	link_close(link);
}
