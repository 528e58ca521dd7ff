/*
 * engine/ring.h without a kernel, driven by the seed. What is queued is issued in order when the ring is
 * entered (or runs out of entries); from then on each operation is answered when rings_step comes to
 * it and the network allows it, and its answer reaches the queue at some later enter, in an order that
 * keeps only that of one operation's own answers. What real kernels do and simpler models leave out:
 *   - a cancel hits (silent), or finds nothing (-ENOENT), or finds its target running (-EALREADY); its
 *     answer and its target's come in either order, and the target may end with what it had done so far
 *   - a descriptor's index is free as soon as its close is issued, while operations on the file behind
 *     it still run; the file itself is closed with the last of them
 *   - receive without a provided buffer ends at once, unless it was told to wait for data first
 *   - multishots end when the completion queue is full, or for no reason
 *   - answers of silent operations that failed come late, into another life of the slot
 * A breach: an operation on a closed file, a second receive or send at once, a second close, memory that
 * changes while the kernel may read it, a buffer put back twice, anything left at the end.
 */
#include "tests/sim/ring_sim.h"

#include "engine/conn.h"
#include "engine/memory.h"
#include "engine/shard.h"
#include "tests/sim/net.h"
#include "tests/sim/point.h"
#include "tests/sim/sim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RINGS_MAX 64u
#define OPS_MAX 1024u
#define DONE_MAX 2048u
#define WAKERS_MAX 300
#define WAKER_FIRST 1
#define IDLE_TURNS_MAX 1000u

enum kind {
	KIND_POLL,
	KIND_ACCEPT,
	KIND_SOCKET,
	KIND_OPTION,
	KIND_CONNECT,
	KIND_RECV,
	KIND_SEND,
	KIND_NAME,
	KIND_UNSENT,
	KIND_CANCEL,
	KIND_DISCONNECT,
	KIND_SHUTDOWN,
	KIND_CLOSE,
	KIND_BIND,
};

struct op {
	enum kind kind;
	uint64_t number, user_data, target;
	int32_t file;
	struct net_socket *socket; /* a reference */
	int waker;
	const void *source;
	uint8_t *copy; /* of what it points at */
	size_t bytes;
	uint16_t port;
	bool is_message, poll_first;
	bool doomed; /* a cancel has found it: it ends soon, with what it has or -ECANCELED */
};

struct done {
	struct ring_completion completion;
	uint64_t op; /* its number */
	uint64_t from_ns; /* not before */
	bool last;
};

struct place {
	struct net_socket *socket; /* NULL: free */
	bool closing; /* its close is queued */
	bool used_before;
};

struct ring {
	struct ring_options options;
	uint32_t entries, reserve, completions_max;
	struct op *queue[OPS_MAX]; /* not yet submitted */
	uint32_t queue_count;
	struct op *ops[OPS_MAX]; /* issued */
	uint32_t ops_count;
	struct done pending[DONE_MAX]; /* answered, not yet in the completion queue */
	uint32_t pending_count;
	struct done taken[DONE_MAX]; /* the completion queue */
	uint32_t taken_at, taken_count;
	uint32_t refusing; /* so many more submits are refused */
	uint32_t dry_turns; /* for so many turns there is no entry at all, the reserve included */
	bool overflowed;
	uint32_t idle_turns; /* one after the other in which there was nothing at all */
	struct place *places; /* direct descriptors */
	uint8_t *buffers;
	uint8_t *buffer_states; /* 0 the kernel's, 1 with the engine, 2 put back, 3 on its way */
	uint32_t buffers_out, buffer_at;
	uint64_t numbers;
};

static struct ring *rings[RINGS_MAX];
static uint32_t rings_count;
static uint64_t waker_counts[WAKERS_MAX];
static int wakers;

bool ring_sim_direct = true;
uint32_t ring_sim_entries = 256, ring_sim_reserve = RING_RESERVE, ring_sim_completions = 1024;

/* ---- files ------------------------------------------------------------------------------------ */

static struct place *place_of(const struct ring *ring, int32_t file)
{
	if (file < 0 || (uint32_t)file >= ring->options.file_count ||
		ring->places[file].socket == NULL)
		breach("ring: an operation on file %d, which is not open", file);
	return &ring->places[file];
}

bool ring_sim_has_file(const struct ring *ring, int32_t file)
{
	if (!ring->options.direct)
		return file >= NET_DESCRIPTOR_FIRST;
	return file >= 0 && (uint32_t)file < ring->options.file_count &&
		ring->places[file].socket != NULL;
}

/* A new file for a socket, whose reference it takes over; -ENFILE. */
static int32_t file_take(struct ring *ring, struct net_socket *socket)
{
	if (!ring->options.direct)
		return net_descriptor_take(socket);
	for (uint32_t i = 0; i < ring->options.file_count; i++) {
		struct place *place = &ring->places[i];

		if (place->socket != NULL)
			continue;
		if (place->used_before)
			sim_count(SIM_file_index_reused);
		*place = (struct place){.socket = socket, .used_before = true};
		return (int32_t)i;
	}
	return -ENFILE;
}

static struct net_socket *file_socket(const struct ring *ring, int32_t file)
{
	return ring->options.direct ? place_of(ring, file)->socket : net_descriptor(file);
}

/* ---- operations: queue ------------------------------------------------------------------------ */

static void ring_submit(struct ring *ring);

static bool kind_ends(enum kind kind)
{
	return kind == KIND_CANCEL || kind == KIND_DISCONNECT || kind == KIND_SHUTDOWN ||
		kind == KIND_CLOSE || kind == KIND_UNSENT;
}

static bool op_is_on(const struct op *op, enum kind kind, const struct net_socket *socket)
{
	return op->kind == kind && op->socket == socket;
}

static void op_must_be_alone(
	const struct ring *ring, enum kind kind, const struct net_socket *socket)
{
	for (uint32_t i = 0; i < ring->queue_count; i++)
		if (op_is_on(ring->queue[i], kind, socket))
			breach("ring: a second operation %d on socket %u", (int)kind,
				socket->number);
	for (uint32_t i = 0; i < ring->ops_count; i++)
		if (op_is_on(ring->ops[i], kind, socket))
			breach("ring: a second operation %d on socket %u", (int)kind,
				socket->number);
}

static struct op *op_queue(struct ring *ring, enum kind kind, int32_t file, uint64_t user_data)
{
	uint32_t reserve = kind_ends(kind) ? 0 : ring->reserve;
	struct net_socket *socket = NULL;
	struct op *op;

	sim_point();
	if (ring->dry_turns > 0 || ring->entries - ring->queue_count <= reserve) {
		ring_submit(ring);
		if (ring->dry_turns > 0 || ring->entries - ring->queue_count <= reserve) {
			sim_count(kind_ends(kind) ? SIM_sq_reserve_used_up : SIM_sq_full);
			return NULL;
		}
	}
	if (file >= 0) {
		socket = file_socket(ring, file);
		if (ring->options.direct && ring->places[file].closing)
			breach("ring: operation %d on file %d after its close", (int)kind, file);
	}
	if (kind == KIND_RECV || kind == KIND_SEND || kind == KIND_ACCEPT || kind == KIND_CLOSE)
		op_must_be_alone(ring, kind, socket);
	if (kind == KIND_CLOSE && ring->options.direct)
		ring->places[file].closing = true;
	op = calloc(1, sizeof(*op));
	if (op == NULL || ring->queue_count == OPS_MAX)
		breach("ring: too many operations");
	op->kind = kind;
	op->file = file;
	op->user_data = user_data;
	op->number = ++ring->numbers;
	op->socket = socket;
	if (socket != NULL) {
		net_socket_get(socket);
		if (kind == KIND_RECV || kind == KIND_SEND || kind == KIND_CONNECT) {
			socket->ring = ring;
			socket->owner = user_data & 0xffffffffffffffull;
		}
	}
	ring->queue[ring->queue_count++] = op;
	return op;
}

static size_t op_gather(const struct op *op, uint8_t *out)
{
	const struct msghdr *message = op->source;
	size_t bytes = 0;

	if (!op->is_message) {
		memcpy(out, op->source, op->bytes);
		return op->bytes;
	}
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		memcpy(out + bytes, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
		bytes += message->msg_iov[i].iov_len;
	}
	return bytes;
}

static uint8_t *bytes_alloc(size_t bytes)
{
	uint8_t *made = malloc(bytes > 0 ? bytes : 1);

	if (made == NULL)
		breach("the simulator itself has no memory");
	return made;
}

static void op_points_at(struct op *op, const void *source, size_t bytes)
{
	if (bytes == 0)
		breach("ring: an operation %d on nothing", (int)op->kind);
	op->source = source;
	op->bytes = bytes;
	op->copy = bytes_alloc(bytes);
	(void)op_gather(op, op->copy);
}

/* What the kernel may still read must be there and unchanged. */
static void op_check_source(const struct op *op)
{
	uint8_t *now;

	if (op->copy == NULL)
		return;
	now = bytes_alloc(op->bytes);
	if (op_gather(op, now) != op->bytes || memcmp(now, op->copy, op->bytes) != 0)
		breach("ring: the bytes of operation %d (user_data %llx) changed while in flight",
			(int)op->kind, (unsigned long long)op->user_data);
	free(now);
}

/* ---- operations: answers ---------------------------------------------------------------------- */

static void op_free(struct ring *ring, struct op *op)
{
	for (uint32_t i = 0; i < ring->ops_count; i++) {
		if (ring->ops[i] != op)
			continue;
		memmove(&ring->ops[i], &ring->ops[i + 1],
			(ring->ops_count - i - 1) * sizeof(ring->ops[0]));
		ring->ops_count--;
		break;
	}
	if (op->socket != NULL)
		net_socket_put(op->socket);
	free(op->copy);
	free(op);
}

static bool ring_is_full(const struct ring *ring)
{
	return ring->pending_count + ring->taken_count >= ring->completions_max;
}

/* `later_ms` > 0: not before some of that. An answer without `more` frees the operation.
 * Whether it goes on: a full queue ends it, too. */
static bool op_answer(struct ring *ring, struct op *op, int32_t result, bool more, int32_t buffer,
	uint32_t later_ms)
{
	struct done *done;

	if (ring->pending_count == DONE_MAX)
		breach("ring: too many completions");
	if (ring_is_full(ring)) {
		sim_count(SIM_cq_overflow);
		ring->overflowed = true;
		more = false; /* a multishot ends there, as in the kernel */
	}
	done = &ring->pending[ring->pending_count++];
	*done = (struct done){
		.completion = {.user_data = op->user_data,
			.result = result,
			.flags = (more ? RING_MORE : 0) | (random_one_in(4) ? RING_NONEMPTY : 0),
			.buffer = buffer},
		.op = op->number,
		.from_ns = sim_now_ns,
		.last = !more,
	};
	if (later_ms > 0)
		done->from_ns += random_below(later_ms * 1000) * 1000ull;
	else if (fault(sim_rates.completion_late, SIM_completion_late))
		done->from_ns += random_below(20000) * 1000ull;
	TRACE5("kernel: %llx answers %lld (more %llu, buffer %lld, operation %llu)", op->user_data,
		result, more, buffer, op->number);
	if (!more) {
		op_check_source(op);
		op_free(ring, op);
	}
	return more;
}

/* It worked, and is silent then. */
static void op_end_silent(struct ring *ring, struct op *op)
{
	op_free(ring, op);
}

/* ---- buffers ----------------------------------------------------------------------------------- */

uint32_t ring_sim_buffers_free(const struct ring *ring)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ring->options.buffer_count; i++)
		count += ring->buffer_states[i] == 0 || ring->buffer_states[i] == 2;
	return count;
}

static bool buffers_are_there(const struct ring *ring)
{
	return memchr(ring->buffer_states, 0, ring->options.buffer_count) != NULL;
}

static int32_t buffer_take(struct ring *ring)
{
	for (uint32_t i = 0; i < ring->options.buffer_count; i++) {
		uint32_t at = (ring->buffer_at + i) % ring->options.buffer_count;

		if (ring->buffer_states[at] != 0)
			continue;
		ring->buffer_states[at] = 3;
		ring->buffer_at = at + 1;
		return (int32_t)at;
	}
	return -1;
}

/* ---- what each operation does when its time has come; false: nothing yet ------------------------- */

static bool recv_step(struct ring *ring, struct op *op)
{
	struct net_socket *socket = op->socket;
	size_t bytes = net_available(socket);
	int32_t buffer;
	bool more = true;

	if (!net_is_readable(socket)) {
		if (op->doomed) {
			op_answer(ring, op, -ECANCELED, false, -1, 0);
			return true;
		}
		return false;
	}
	if (op->doomed && random_one_in(2)) {
		op_answer(ring, op, -ECANCELED, false, -1, 0);
		return true;
	}
	if (bytes == 0) {
		op_answer(ring, op, net_read_end(socket), false, -1, 0);
		return true;
	}
	buffer = fault(sim_rates.no_buffers, SIM_no_buffers) ? -1 : buffer_take(ring);
	if (buffer < 0) {
		sim_count(SIM_no_buffers);
		op_answer(ring, op, -ENOBUFS, false, -1, 0);
		return true;
	}
	if (bytes > ring->options.buffer_bytes)
		bytes = ring->options.buffer_bytes;
	if (bytes > 1 && fault(sim_rates.short_receive, SIM_short_receive))
		bytes = random_size((uint32_t)bytes);
	memcpy(ring->buffers + (size_t)buffer * ring->options.buffer_bytes, net_peek(socket),
		bytes);
	net_take(socket, bytes);
	if (op->doomed || fault(sim_rates.receive_end, SIM_receive_multishot_ended))
		more = false;
	op_answer(ring, op, (int32_t)bytes, more, buffer, 0);
	return true;
}

static bool send_step(struct ring *ring, struct op *op)
{
	struct net_socket *socket = op->socket;
	int state = net_write_state(socket);
	size_t bytes = op->bytes, space = net_space(socket);

	if (state < 0) {
		sim_count(SIM_send_error_end);
		op_answer(ring, op, state, false, -1, 0);
		return true;
	}
	if (op->doomed && (space == 0 || random_one_in(2))) {
		op_answer(ring, op, -ECANCELED, false, -1, 0);
		return true;
	}
	if (space == 0) {
		sim_count(SIM_send_waits);
		return false;
	}
	if (fault(sim_rates.send_error, SIM_send_error_middle)) {
		socket->troubled = true;
		op_answer(ring, op, random_one_in(2) ? -ENOMEM : -ENOBUFS, false, -1, 0);
		return true;
	}
	if (op->doomed)
		sim_count(SIM_cancel_partial_send);
	if (bytes > space) {
		sim_count(SIM_short_send);
		bytes = space;
	}
	if (bytes > 1 && fault(sim_rates.short_send, SIM_short_send))
		bytes = random_size((uint32_t)bytes);
	net_write(socket, op->copy, bytes);
	op_answer(ring, op, (int32_t)bytes, false, -1, 0);
	return true;
}

static bool connect_step(struct ring *ring, struct op *op)
{
	int result;

	if (op->doomed && random_one_in(2)) {
		sim_count(SIM_connect_cancelled);
		net_connect_fail(op->socket, -ECANCELED);
		op_answer(ring, op, -ECANCELED, false, -1, 0);
		return true;
	}
	if (op->socket->state == NET_CONNECTING && fault(sim_rates.connect, SIM_connect_error)) {
		static const int errors[] = {
			ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, ECONNRESET, EADDRNOTAVAIL};

		op->socket->troubled = true;
		net_connect_fail(op->socket, -errors[random_below(5)]);
	}
	result = net_connect_result(op->socket);
	if (result > 0)
		return false;
	if (result < 0)
		op->socket->error = 0; /* it is reported here */
	op_answer(ring, op, result, false, -1, 0);
	return true;
}

static bool socket_step(struct ring *ring, struct op *op)
{
	static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
	struct net_socket *socket;
	int32_t file;

	if (op->doomed && random_one_in(2)) {
		op_answer(ring, op, -ECANCELED, false, -1, 0);
		return true;
	}
	if (fault(sim_rates.socket, SIM_socket_error)) {
		op_answer(ring, op, -errors[random_below(4)], false, -1, 0);
		return true;
	}
	socket = net_socket_create();
	file = file_take(ring, socket);
	if (file < 0) {
		sim_count(SIM_file_table_full);
		net_socket_put(socket);
	}
	op_answer(ring, op, file, false, -1, 0);
	return true;
}

/* Whether the operation goes on. */
static bool accept_one(struct ring *ring, struct op *op)
{
	static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ECONNABORTED, EPERM};
	struct net_socket *socket;
	bool goes_on;
	int32_t file;

	if (fault(sim_rates.accept, SIM_accept_error)) {
		op_answer(ring, op, -errors[random_below(5)], false, -1, 0);
		return false;
	}
	socket = net_accept(op->socket);
	file = fault(sim_rates.accept, SIM_file_table_full) ? -ENFILE : file_take(ring, socket);
	if (file < 0) {
		/* The kernel closes the stranger's connection. */
		net_reset(socket);
		net_socket_put(socket);
		op_answer(ring, op, file, false, -1, 0);
		return false;
	}
	goes_on = !op->doomed && !fault(sim_rates.accept, SIM_accept_multishot_ended);
	return op_answer(ring, op, file, goes_on, -1, 0);
}

/* One, or as the kernel does it: all that wait, in one go. */
static bool accept_step(struct ring *ring, struct op *op)
{
	bool takes_all;

	if (op->doomed && (random_one_in(2) || !net_has_waiting(op->socket))) {
		op_answer(ring, op, -ECANCELED, false, -1, 0);
		return true;
	}
	if (!net_has_waiting(op->socket))
		return false;
	takes_all = random_one_in(2);
	while (accept_one(ring, op) && takes_all && net_has_waiting(op->socket))
		sim_count(SIM_accept_batch);
	return true;
}

static bool name_step(struct ring *ring, struct op *op)
{
	struct sockaddr_in name = {.sin_family = AF_INET};

	if (fault(sim_rates.name, SIM_name_error)) {
		op_answer(ring, op, -ENOTCONN, false, -1, 0);
		return true;
	}
	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	name.sin_port = htons((uint16_t)(op->socket->number + 1));
	memcpy((void *)(uintptr_t)op->source, &name, sizeof(name));
	op_answer(ring, op, sizeof(name), false, -1, 0);
	return true;
}

static bool shutdown_step(struct ring *ring, struct op *op)
{
	int result = 0;

	if (op->socket->state != NET_CONNECTED)
		result = -ENOTCONN;
	else if (fault(sim_rates.shutdown, SIM_shutdown_error))
		result = -ENOTCONN;
	if (result == 0)
		net_shutdown(op->socket);
	op_answer(ring, op, result, false, -1, 0);
	return true;
}

static bool poll_step(struct ring *ring, struct op *op)
{
	(void)ring, (void)op;
	return false; /* waker_wake answers it */
}

static bool op_step(struct ring *ring, struct op *op)
{
	switch (op->kind) {
	case KIND_POLL:
		return poll_step(ring, op);
	case KIND_ACCEPT:
		return accept_step(ring, op);
	case KIND_SOCKET:
		return socket_step(ring, op);
	case KIND_CONNECT:
		return connect_step(ring, op);
	case KIND_RECV:
		return recv_step(ring, op);
	case KIND_SEND:
		return send_step(ring, op);
	case KIND_NAME:
		return name_step(ring, op);
	case KIND_SHUTDOWN:
		return shutdown_step(ring, op);
	default:
		breach("ring: an operation of kind %d waits", (int)op->kind);
	}
}

/* ---- issuing ------------------------------------------------------------------------------------- */

static struct op *op_find(const struct ring *ring, uint64_t user_data)
{
	for (uint32_t i = 0; i < ring->ops_count; i++)
		if (ring->ops[i]->user_data == user_data && ring->ops[i]->kind != KIND_CANCEL)
			return ring->ops[i];
	return NULL;
}

static void cancel_issue(struct ring *ring, struct op *op)
{
	struct op *target = op_find(ring, op->target);

	if (target == NULL) {
		sim_count(SIM_cancel_none);
		op_answer(ring, op, -ENOENT, false, -1, random_one_in(2) ? 200 : 0);
		return;
	}
	target->doomed = true;
	if (fault(sim_rates.cancel_already, SIM_cancel_already)) {
		if (random_one_in(2)) {
			sim_count(SIM_cancel_target_first);
			(void)op_step(ring, target);
		} else {
			sim_count(SIM_cancel_answer_first);
		}
		op_answer(ring, op, -EALREADY, false, -1, random_one_in(2) ? 200 : 0);
		return;
	}
	sim_count(SIM_cancel_hit);
	if (random_one_in(2))
		(void)op_step(ring, target);
	op_end_silent(ring, op);
}

static void disconnect_issue(struct ring *ring, struct op *op)
{
	struct net_socket *socket = op->socket;

	if (fault(sim_rates.disconnect, SIM_disconnect_refused)) {
		socket->refused_disconnect = true;
		op_answer(ring, op, -EOPNOTSUPP, false, -1, random_one_in(4) ? 200 : 0);
		return;
	}
	net_reset(socket);
	socket->error = random_one_in(2) ? -ECONNRESET : -ENOTCONN;
	if (socket->peer != NULL)
		socket->peer->out.read = socket->peer->out.arrived; /* purged */
	op_end_silent(ring, op);
}

static void close_issue(struct ring *ring, struct op *op)
{
	int32_t file = op->file;

	if (ring->options.direct) {
		struct net_socket *socket = place_of(ring, file)->socket;

		ring->places[file] = (struct place){.used_before = true};
		net_socket_put(socket);
	} else {
		(void)net_descriptor_close(file);
	}
	if (fault(sim_rates.close, SIM_close_error))
		op_answer(ring, op, -EIO, false, -1, 200);
	else
		op_end_silent(ring, op);
}

static void option_issue(struct ring *ring, struct op *op)
{
	if (fault(sim_rates.option, SIM_option_error))
		op_answer(ring, op, -ENOPROTOOPT, false, -1, 500);
	else
		op_end_silent(ring, op);
}

static void unsent_issue(struct ring *ring, struct op *op)
{
	int32_t result = (int32_t)net_unsent(op->socket);

	if (fault(sim_rates.unsent, SIM_unsent_error))
		result = -EINVAL;
	op_answer(ring, op, result, false, -1, 0);
}

static void poll_issue(struct ring *ring, struct op *op)
{
	/* Level at the arming: nobody reads the counter. */
	if (waker_counts[op->waker] > 0)
		op_answer(ring, op, 1, true, -1, 0);
}

static void op_issue(struct ring *ring, struct op *op)
{
	if (ring->ops_count == OPS_MAX)
		breach("ring: too many operations");
	ring->ops[ring->ops_count++] = op;
	switch (op->kind) {
	case KIND_CANCEL:
		cancel_issue(ring, op);
		break;
	case KIND_DISCONNECT:
		disconnect_issue(ring, op);
		break;
	case KIND_CLOSE:
		close_issue(ring, op);
		break;
	case KIND_OPTION:
		option_issue(ring, op);
		break;
	case KIND_UNSENT:
		unsent_issue(ring, op);
		break;
	case KIND_POLL:
		poll_issue(ring, op);
		break;
	case KIND_BIND:
		op_answer(ring, op, 0, false, -1, 0); /* one host has all addresses */
		break;
	case KIND_CONNECT:
		net_connect(op->socket, op->port);
		break;
	case KIND_RECV:
		/* The buffer is chosen first, even where no data waits. */
		if (!op->poll_first && !buffers_are_there(ring)) {
			sim_count(SIM_no_buffers_at_arm);
			op_answer(ring, op, -ENOBUFS, false, -1, 0);
		}
		break;
	case KIND_SEND:
		if (random_one_in(2))
			(void)op_step(ring, op);
		break;
	default:
		break;
	}
}

static void ring_submit(struct ring *ring)
{
	uint32_t count = ring->queue_count;
	struct op *queued[OPS_MAX];

	if (ring->refusing == 0 && fault(sim_rates.submit, SIM_submit_refused))
		ring->refusing = random_size(6);
	if (ring->refusing > 0) {
		ring->refusing--;
		return;
	}
	memcpy(queued, ring->queue, count * sizeof(queued[0]));
	ring->queue_count = 0;
	for (uint32_t i = 0; i < count; i++)
		op_issue(ring, queued[i]);
}

/* ---- the kernels' own steps ------------------------------------------------------------------------ */

static bool ring_kernel_step(struct ring *ring, bool any)
{
	uint32_t from, tries = any ? ring->ops_count : 2;

	if (ring->ops_count == 0)
		return false;
	from = random_below(ring->ops_count);
	while (tries-- > 0 && ring->ops_count > 0)
		if (op_step(ring, ring->ops[from++ % ring->ops_count]))
			return true;
	return false;
}

bool rings_step(bool any)
{
	uint32_t from, tries = any ? rings_count : 1;

	if (rings_count == 0)
		return false;
	from = random_below(rings_count);
	while (tries-- > 0)
		if (ring_kernel_step(rings[from++ % rings_count], any))
			return true;
	return false;
}

uint64_t rings_next_ns(void)
{
	uint64_t next_ns = SIM_NEVER;

	for (uint32_t r = 0; r < rings_count; r++)
		for (uint32_t i = 0; i < rings[r]->pending_count; i++)
			if (rings[r]->pending[i].from_ns < next_ns)
				next_ns = rings[r]->pending[i].from_ns;
	return next_ns;
}

/* ---- ring.h: life ------------------------------------------------------------------------------------ */

int ring_probe(struct ring_features *features, char *why)
{
	memset(features, 0, sizeof(*features));
	if (fault(sim_rates.listen, SIM_start_failed)) {
		strcpy(why, "refused by the simulator");
		return -EPERM;
	}
	features->direct = ring_sim_direct;
	features->socket_cmd = ring_sim_direct;
	features->bind = true;
	snprintf(features->text, sizeof(features->text), "direct_descriptors %s\n",
		ring_sim_direct ? "yes" : "no");
	return 0;
}

int ring_create(const struct ring_options *options, struct ring **out)
{
	struct ring *ring = memory_zalloc(sizeof(*ring));

	*out = NULL;
	if (ring == NULL)
		return -ENOMEM;
	ring->options = *options;
	ring->entries = ring_sim_entries + ring_sim_reserve;
	ring->reserve = ring_sim_reserve;
	ring->completions_max = ring_sim_completions;
	ring->buffers = memory_alloc((size_t)options->buffer_count * options->buffer_bytes);
	ring->buffer_states = memory_zalloc(options->buffer_count);
	ring->places = memory_zalloc(options->file_count * sizeof(*ring->places));
	if (ring->buffers == NULL || ring->buffer_states == NULL || ring->places == NULL) {
		memory_free(ring->buffers);
		memory_free(ring->buffer_states);
		memory_free(ring->places);
		memory_free(ring);
		return -ENOMEM;
	}
	if (rings_count == RINGS_MAX)
		breach("more than %u rings", RINGS_MAX);
	rings[rings_count++] = ring;
	*out = ring;
	return 0;
}

/* Only what is silent when it works, and the waker's poll, may be left. */
static void ring_check_end(const struct ring *ring)
{
	for (uint32_t i = 0; i < ring->options.file_count; i++)
		if (ring->places[i].socket != NULL)
			breach("ring: file %u was never closed", i);
	if (ring->buffers_out > 0)
		breach("ring: %u buffers were never put back", ring->buffers_out);
	for (uint32_t i = 0; i < ring->ops_count; i++)
		if (ring->ops[i]->kind != KIND_POLL)
			breach("ring: operation %d (user_data %llx) outlives the ring",
				(int)ring->ops[i]->kind,
				(unsigned long long)ring->ops[i]->user_data);
	for (uint32_t i = 0; i < ring->pending_count; i++)
		if (ring->pending[i].completion.user_data >> 56 < OP_COUNTED ||
			ring->pending[i].completion.buffer >= 0)
			breach("ring: the answer of %llx was never taken",
				(unsigned long long)ring->pending[i].completion.user_data);
}

void ring_destroy(struct ring *ring)
{
	if (ring == NULL)
		return;
	/* A last submit that the kernel refused: the files would go with the ring. */
	ring->refusing = 0;
	while (ring->queue_count > 0) {
		bool calm = sim_is_calm;

		sim_is_calm = true;
		ring_submit(ring);
		sim_is_calm = calm;
	}
	ring_check_end(ring);
	while (ring->ops_count > 0)
		op_free(ring, ring->ops[0]);
	for (uint32_t i = 0; i < rings_count; i++)
		if (rings[i] == ring) {
			rings[i] = rings[--rings_count];
			break;
		}
	memory_free(ring->buffers);
	memory_free(ring->buffer_states);
	memory_free(ring->places);
	memory_free(ring);
}

/* ---- ring.h: turn ------------------------------------------------------------------------------------- */

/* One answer whose time has come, and which is the first of its operation. */
static bool ring_take_one(struct ring *ring)
{
	uint32_t at, from = random_one_in(2) ? random_below(ring->pending_count) : 0;

	for (uint32_t tries = 0; tries < ring->pending_count; tries++) {
		at = (from + tries) % ring->pending_count;
		for (uint32_t i = 0; i < at; i++)
			if (ring->pending[i].op == ring->pending[at].op) {
				at = i;
				break;
			}
		if (ring->pending[at].from_ns > sim_now_ns)
			continue;
		if (at > 0)
			sim_count(SIM_completion_reordered);
		ring->taken[(ring->taken_at + ring->taken_count++) % DONE_MAX] = ring->pending[at];
		memmove(&ring->pending[at], &ring->pending[at + 1],
			(ring->pending_count - at - 1) * sizeof(ring->pending[0]));
		ring->pending_count--;
		return true;
	}
	return false;
}

static void ring_flush(struct ring *ring)
{
	/* Some may be late: they come with a later enter. */
	while (ring->pending_count > 0 && ring->taken_count < ring->completions_max) {
		if (!sim_is_calm && ring->taken_count > 0 && random_one_in(8))
			break;
		if (!ring_take_one(ring))
			break;
	}
}

bool ring_sim_has_done(const struct ring *ring)
{
	if (ring->taken_count > 0)
		return true;
	for (uint32_t i = 0; i < ring->pending_count; i++)
		if (ring->pending[i].from_ns <= sim_now_ns)
			return true;
	return false;
}

bool ring_sim_has_late(const struct ring *ring)
{
	return ring->pending_count > 0;
}

static bool ring_may_wake(void *on)
{
	return ring_sim_has_done(on);
}

/* A shard that does not wait must have had something to do. */
static void ring_check_idle(struct ring *ring, uint32_t wait_count)
{
	const struct shard *shard = shard_self();

	if (wait_count > 0 || ring->queue_count + ring->pending_count + ring->taken_count > 0 ||
		shard == NULL || mailbox_has_mail(&shard->home->mailbox)) {
		ring->idle_turns = 0;
		return;
	}
	if (++ring->idle_turns == IDLE_TURNS_MAX)
		breach("a shard turns %u times and has nothing to do", IDLE_TURNS_MAX);
}

int ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns)
{
	check_turn(shard_self());
	ring_check_idle(ring, wait_count);
	ring->dry_turns -= ring->dry_turns > 0;
	if (fault(sim_rates.enter, SIM_enter_error))
		return -ENOMEM;
	for (uint32_t i = 0; i < ring->options.buffer_count; i++)
		if (ring->buffer_states[i] == 2)
			ring->buffer_states[i] = 0;
	ring_submit(ring);
	for (uint32_t steps = random_below(4); steps > 0; steps--)
		(void)ring_kernel_step(ring, false);
	ring_flush(ring);
	if (wait_count == 0 || ring->queue_count > 0) {
		fiber_yield();
		return 0;
	}
	if (ring->taken_count == 0) {
		fiber_wait(ring_may_wake, ring,
			timeout_ns == RING_FOREVER || sim_now_ns + timeout_ns < sim_now_ns
				? SIM_NEVER
				: sim_now_ns + timeout_ns);
		ring_flush(ring);
	}
	return 0;
}

bool ring_next(struct ring *ring, struct ring_completion *completion)
{
	const struct done *done = &ring->taken[ring->taken_at];

	sim_point();
	if (ring->taken_count == 0)
		return false;
	*completion = done->completion;
	ring->taken_at = --ring->taken_count > 0 ? (ring->taken_at + 1) % DONE_MAX : 0;
	if (completion->buffer >= 0) {
		ring->buffers_out++;
		ring->buffer_states[completion->buffer] = 1;
	}
	return true;
}

bool ring_overflowed(struct ring *ring)
{
	bool seen = ring->overflowed;

	ring->overflowed = false;
	return seen;
}

uint8_t *ring_buffer(struct ring *ring, uint32_t buffer)
{
	if (buffer >= ring->options.buffer_count || ring->buffer_states[buffer] != 1)
		breach("ring: buffer %u is not the engine's", buffer);
	return ring->buffers + (size_t)buffer * ring->options.buffer_bytes;
}

void ring_buffer_put(struct ring *ring, uint32_t buffer)
{
	memset(ring_buffer(ring, buffer), 0xdd, ring->options.buffer_bytes);
	ring->buffer_states[buffer] = 2;
	ring->buffers_out--;
}

uint32_t ring_buffers_out(const struct ring *ring)
{
	return ring->buffers_out;
}

uint32_t ring_sim_live(const struct ring *ring, uint64_t user_data)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ring->queue_count; i++)
		count += ring->queue[i]->user_data == user_data;
	for (uint32_t i = 0; i < ring->ops_count; i++)
		count += ring->ops[i]->user_data == user_data;
	for (uint32_t i = 0; i < ring->pending_count; i++)
		count +=
			ring->pending[i].last && ring->pending[i].completion.user_data == user_data;
	for (uint32_t i = 0; i < ring->taken_count; i++) {
		const struct done *done = &ring->taken[(ring->taken_at + i) % DONE_MAX];

		count += done->last && done->completion.user_data == user_data;
	}
	return count;
}

bool ring_sim_ends(const struct ring *ring, uint64_t user_data)
{
	for (uint32_t i = 0; i < ring->queue_count; i++)
		if (ring->queue[i]->kind == KIND_CANCEL && ring->queue[i]->target == user_data)
			return true;
	for (uint32_t i = 0; i < ring->ops_count; i++)
		if (ring->ops[i]->user_data == user_data && ring->ops[i]->doomed)
			return true;
	return false;
}

bool ring_sim_holds(const struct ring *ring, uint32_t kinds, uint32_t slot, uint32_t generation)
{
	for (uint32_t kind = 0; kind < OP_KIND_COUNT; kind++)
		if ((kinds & (1u << kind)) != 0 &&
			ring_sim_live(ring, op_data((enum op_kind)kind, slot, generation)) > 0)
			return true;
	return false;
}

/* ---- ring.h: operations ---------------------------------------------------------------------------------- */

bool ring_poll_arm(struct ring *ring, int fd, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_POLL, -1, user_data);

	if (op == NULL)
		return false;
	op->waker = fd;
	return true;
}

bool ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_ACCEPT, -1, user_data);

	if (op == NULL)
		return false;
	op->socket = net_descriptor(listen_fd);
	net_socket_get(op->socket);
	return true;
}

bool ring_socket(struct ring *ring, int family, uint64_t user_data)
{
	(void)family;
	return op_queue(ring, KIND_SOCKET, -1, user_data) != NULL;
}

bool ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data)
{
	(void)level, (void)name, (void)value;
	if (!ring->options.direct)
		return true;
	return op_queue(ring, KIND_OPTION, file, user_data) != NULL;
}

bool ring_bind(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_BIND, file, user_data);

	if (op == NULL)
		return false;
	op_points_at(op, address, address_bytes);
	return true;
}

bool ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_CONNECT, file, user_data);

	if (op == NULL)
		return false;
	op_points_at(op, address, address_bytes);
	op->port = address->sa_family == AF_INET
		? ((const struct sockaddr_in *)(const void *)address)->sin_port
		: ((const struct sockaddr_in6 *)(const void *)address)->sin6_port;
	return true;
}

bool ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_RECV, file, user_data);

	if (op == NULL)
		return false;
	op->poll_first = poll_first;
	return true;
}

bool ring_send(struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_SEND, file, user_data);

	if (op == NULL)
		return false;
	op_points_at(op, data, bytes);
	return true;
}

bool ring_sendmsg(struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_SEND, file, user_data);
	size_t bytes = 0;

	if (op == NULL)
		return false;
	for (size_t i = 0; i < message->msg_iovlen; i++)
		bytes += message->msg_iov[i].iov_len;
	op->is_message = true;
	op_points_at(op, message, bytes);
	return true;
}

bool ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data)
{
	struct op *op = op_queue(ring, KIND_NAME, file, user_data);

	if (op == NULL)
		return false;
	op->source = name;
	return true;
}

bool ring_unsent(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, KIND_UNSENT, file, user_data) != NULL;
}

bool ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data)
{
	struct op *op;

	/* An accept is cancelled seldom: at its listener's end, or at a pause. */
	if (target >> 56 == OP_ACCEPT && fault(sim_rates.accept_cancel, SIM_accept_cancel_refused))
		ring->dry_turns = random_between(1, 3);
	op = op_queue(ring, KIND_CANCEL, -1, user_data);
	if (op == NULL)
		return false;
	op->target = target;
	return true;
}

bool ring_disconnect(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, KIND_DISCONNECT, file, user_data) != NULL;
}

bool ring_shutdown(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, KIND_SHUTDOWN, file, user_data) != NULL;
}

bool ring_close(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, KIND_CLOSE, file, user_data) != NULL;
}

/* ---- wakers ------------------------------------------------------------------------------------------------ */

int waker_create(void)
{
	if (fault(sim_rates.listen, SIM_start_failed))
		return -EMFILE;
	if (wakers + WAKER_FIRST == WAKERS_MAX)
		breach("more than %d wakers", WAKERS_MAX);
	return WAKER_FIRST + wakers++;
}

/* Whether an answer of that poll waits which the shard has not seen: another one adds nothing. */
static bool poll_is_answered(const struct ring *ring, const struct op *op)
{
	for (uint32_t i = 0; i < ring->pending_count; i++)
		if (ring->pending[i].op == op->number)
			return true;
	return false;
}

static void poll_fires(struct ring *ring, struct op *op)
{
	if (poll_is_answered(ring, op) && random_one_in(2)) {
		sim_count(SIM_waker_merged);
		return;
	}
	op_answer(ring, op, 1, !fault(sim_rates.receive_end, SIM_waker_poll_ended), -1, 0);
}

void waker_wake(int waker)
{
	sim_point();
	waker_counts[waker]++;
	sim_count(SIM_mail_to_sleeper);
	for (uint32_t r = 0; r < rings_count; r++)
		for (uint32_t i = 0; i < rings[r]->ops_count; i++) {
			struct op *op = rings[r]->ops[i];

			if (op->kind != KIND_POLL || op->waker != waker)
				continue;
			poll_fires(rings[r], op);
			return;
		}
}
