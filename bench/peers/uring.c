/*
 * peer-uring: the echo server as a bare io_uring program, the limit for everything built on it.
 *
 * One ring; multishot accept into a direct descriptor, multishot receive into provided buffers, and
 * in plain text the send goes straight out of the buffer that was received into.
 *
 * A send does not wait (MSG_DONTWAIT) and is heard of only when it could not be all (MSG_WAITALL makes
 * a short one a failure, IOSQE_CQE_SKIP_SUCCESS drops the others' completions). So the enter that
 * submits a turn's sends ends them, too: its wait is for what comes in, where a send's completion
 * would wake it at once for nothing, and a message costs one enter and one completion instead of two.
 * What could not be sent is sent once more, waiting. One send of a connection is under way, the
 * others wait in order.
 */
#include "bench/peers/peer.h"
#include "bench/peers/session.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define SUBMIT_ENTRIES 4096
#define COMPLETE_ENTRIES 32768
#define SLOTS_MAX \
	20000 /* the kernel's limit of a direct table here: the hard limit of descriptors */
#define BUFFER_COUNT 2048
#define BUFFER_BYTES 4096
/* Buffers one page apart would fall into the same few cache sets. */
#define BUFFER_STRIDE (BUFFER_BYTES + 64)
/* One encrypted answer: what one buffer may complete (a record begun earlier) and its overhead. */
#define CHUNK_BYTES (BUFFER_BYTES + 20480 + 4096)

/* Something to send: a received buffer, or a chunk with ciphertext. */
struct out {
	struct out *next; /* of the same connection, or in the list of free chunks */
	uint8_t *data;
	uint32_t at, bytes;
	uint32_t slot, generation; /* whose; a connection that has gone meanwhile is not asked */
	int buffer; /* -1: a chunk */
	struct out *
		*place; /* in the list of what an enter ends; NULL: it is late, see send_late_arm */
};

struct slot {
	struct out *head, *tail; /* head is in flight */
	struct session *session;
	uint32_t generation;
	bool open, receiving;
	bool ends; /* close it when the last send has ended */
	bool counted; /* it belongs to the mass close */
};

enum op {
	OP_ACCEPT = 1,
	OP_SIGNAL,
	OP_RECEIVE, /* generation and slot below it */
	OP_SEND, /* a pointer below it */
	OP_QUIET, /* cancel, connect and close: heard of only when they fail */
};
#define OP_SHIFT 56

static struct peer_options options;
static SSL_CTX *tls;
static int listener, signals;
static struct io_uring ring;
static struct io_uring_buf_ring *buffer_ring;
static uint8_t *buffers;
static struct out buffer_outs[BUFFER_COUNT];
static uint32_t buffers_back; /* given back, not yet published */
static uint32_t buffers_free = BUFFER_COUNT;
static struct slot slots[SLOTS_MAX];
static uint32_t starved[SLOTS_MAX]; /* connections whose receive ended for want of a buffer */
static uint32_t starved_count;
static struct out *chunks_free;
static struct out *sent[2][SLOTS_MAX]; /* submitted by the last enter; queued for the next one */
static uint32_t sent_count[2];
static int sent_now; /* which of the two is queued */
static uint8_t cipher[SESSION_OUT_BYTES];
static uint64_t closing_count, closed_count, closing_begin_ns; /* the mass close */
static bool ended;

/* ---- operations ------------------------------------------------------------------------ */

static struct io_uring_sqe *sqe_next(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (sqe == NULL) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	assert(sqe != NULL); /* submitting empties the queue */
	return sqe;
}

static uint64_t receive_data(uint32_t index)
{
	return (uint64_t)OP_RECEIVE << OP_SHIFT |
		(uint64_t)(slots[index].generation & 0xffffffu) << 32 | index;
}

static void receive_arm(uint32_t index, bool poll_first)
{
	struct io_uring_sqe *sqe = sqe_next();

	io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
	sqe->buf_group = 0;
	if (poll_first)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	sqe->user_data = receive_data(index);
	slots[index].receiving = true;
}

static void send_arm(struct out *out)
{
	struct io_uring_sqe *sqe = sqe_next();

	io_uring_prep_send(sqe, (int)out->slot, out->data + out->at, out->bytes - out->at,
		MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = (uint64_t)OP_SEND << OP_SHIFT | (uint64_t)(uintptr_t)out;
	out->place = &sent[sent_now][sent_count[sent_now]++];
	*out->place = out;
}

/* The rest of what could not be sent at once: it waits in the kernel and has a completion. */
static void send_late_arm(struct out *out)
{
	struct io_uring_sqe *sqe = sqe_next();

	if (out->place != NULL)
		*out->place = NULL;
	out->place = NULL;
	io_uring_prep_send(sqe, (int)out->slot, out->data + out->at, out->bytes - out->at,
		MSG_WAITALL | MSG_NOSIGNAL);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = (uint64_t)OP_SEND << OP_SHIFT | (uint64_t)(uintptr_t)out;
}

static void accept_arm(void)
{
	struct io_uring_sqe *sqe = sqe_next();

	io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
	sqe->user_data = (uint64_t)OP_ACCEPT << OP_SHIFT;
}

static void signal_arm(void)
{
	struct io_uring_sqe *sqe = sqe_next();

	io_uring_prep_poll_multishot(sqe, signals, POLLIN);
	sqe->user_data = (uint64_t)OP_SIGNAL << OP_SHIFT;
}

/* ---- buffers --------------------------------------------------------------------------- */

static uint8_t *buffer_data(int buffer)
{
	return buffers + (size_t)buffer * BUFFER_STRIDE;
}

static void buffer_put(int buffer)
{
	io_uring_buf_ring_add(buffer_ring, buffer_data(buffer), BUFFER_BYTES,
		(unsigned short)buffer, BUFFER_COUNT - 1, (int)buffers_back);
	buffers_back++;
}

static void out_put(struct out *out)
{
	if (out->buffer >= 0) {
		buffer_put(out->buffer);
		return;
	}
	out->next = chunks_free;
	chunks_free = out;
}

static struct out *chunk_get(void)
{
	struct out *out = chunks_free;

	if (out != NULL) {
		chunks_free = out->next;
		return out;
	}
	out = malloc(sizeof(*out) + CHUNK_BYTES);
	if (out == NULL)
		return NULL;
	out->data = (uint8_t *)(out + 1);
	out->buffer = -1;
	return out;
}

/* ---- connections ----------------------------------------------------------------------- */

static void slot_reset(uint32_t index)
{
	static const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	struct io_uring_sqe *sqe = sqe_next();

	/* A connect to nobody drops the connection with a reset. */
	io_uring_prep_connect(sqe, (int)index, &nobody, sizeof(nobody));
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = (uint64_t)OP_QUIET << OP_SHIFT;
}

static void slot_close(uint32_t index)
{
	struct slot *slot = &slots[index];
	struct out *out = slot->head != NULL ? slot->head->next : NULL;
	struct io_uring_sqe *sqe;

	while (out != NULL) {
		struct out *next = out->next;

		out_put(out);
		out = next;
	}
	if (slot->receiving) {
		/* Without it the kernel would keep the socket open for the receive. */
		sqe = sqe_next();
		io_uring_prep_cancel64(sqe, receive_data(index), 0);
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
		sqe->user_data = (uint64_t)OP_QUIET << OP_SHIFT;
	}
	sqe = sqe_next();
	io_uring_prep_close_direct(sqe, index);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = (uint64_t)OP_QUIET << OP_SHIFT;
	session_destroy(slot->session);
	closed_count += slot->counted && !slot->receiving;
	*slot = (struct slot){.generation = slot->generation + 1};
}

static void slot_send(uint32_t index, struct out *out)
{
	struct slot *slot = &slots[index];

	out->next = NULL;
	out->at = 0;
	out->slot = index;
	out->generation = slot->generation;
	if (slot->head == NULL) {
		slot->head = slot->tail = out;
		send_arm(out);
	} else {
		slot->tail->next = out;
		slot->tail = out;
	}
}

/* Encrypted output as a chunk of its own; false without memory. */
static bool slot_send_copy(uint32_t index, const uint8_t *data, size_t bytes)
{
	struct out *out;

	if (bytes == 0)
		return true;
	assert(bytes <= CHUNK_BYTES);
	out = chunk_get();
	if (out == NULL)
		return false;
	memcpy(out->data, data, bytes);
	out->bytes = (uint32_t)bytes;
	slot_send(index, out);
	return true;
}

static void slot_end(uint32_t index)
{
	slots[index].ends = true;
	if (slots[index].head == NULL)
		slot_close(index);
}

static void slot_received(uint32_t index, int buffer, uint32_t bytes)
{
	struct slot *slot = &slots[index];
	enum session_state state;
	size_t out_bytes;

	if (slot->session == NULL) {
		buffer_outs[buffer].bytes = bytes;
		slot_send(index, &buffer_outs[buffer]);
		return;
	}
	state = session_echo(slot->session, buffer_data(buffer), bytes, cipher, &out_bytes);
	buffer_put(buffer);
	if (!slot_send_copy(index, cipher, out_bytes) || state != SESSION_GOES_ON)
		slot_end(index);
}

static void on_accept(const struct io_uring_cqe *cqe)
{
	uint32_t index = (uint32_t)cqe->res;
	struct slot *slot;

	if (!(cqe->flags & IORING_CQE_F_MORE))
		accept_arm();
	if (cqe->res < 0)
		return;
	slot = &slots[index];
	slot->open = true;
	if (options.tls && (slot->session = session_create(tls)) == NULL) {
		slot_close(index);
		return;
	}
	receive_arm(index, true);
}

static void on_receive(const struct io_uring_cqe *cqe)
{
	uint32_t index = (uint32_t)cqe->user_data;
	struct slot *slot = &slots[index];
	int buffer = cqe->flags & IORING_CQE_F_BUFFER ? (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT)
						      : -1;

	if (buffer >= 0)
		buffers_free--;
	if (cqe->user_data != receive_data(index) || slot->ends || cqe->res <= 0) {
		if (buffer >= 0)
			buffer_put(buffer);
	}
	if (cqe->user_data != receive_data(index)) {
		closed_count += !(cqe->flags & IORING_CQE_F_MORE);
		return;
	}
	if (!(cqe->flags & IORING_CQE_F_MORE))
		slot->receiving = false;
	if (slot->ends)
		return;
	if (cqe->res > 0)
		slot_received(index, buffer, (uint32_t)cqe->res);
	if (cqe->user_data != receive_data(index) || slot->receiving || slot->ends)
		return;
	if (cqe->res > 0)
		receive_arm(index, false);
	else if (cqe->res == -ENOBUFS && starved_count < SLOTS_MAX)
		starved[starved_count++] = index;
	else
		slot_end(index);
}

/* This out has ended, one way or the other; the next of its connection goes. */
static void out_done(struct out *out)
{
	struct slot *slot = &slots[out->slot];
	uint32_t index = out->slot;

	if (slot->generation == out->generation) {
		assert(slot->head == out);
		slot->head = out->next;
		if (slot->head != NULL)
			send_arm(slot->head);
		else if (slot->ends)
			slot_close(index);
	}
	out_put(out);
}

/* Some of it, or nothing, could be sent; or a late one has ended. */
static void on_send(const struct io_uring_cqe *cqe)
{
	struct out *out = (struct out *)(uintptr_t)(cqe->user_data & ((1ull << OP_SHIFT) - 1));
	bool current = slots[out->slot].generation == out->generation;

	if (cqe->res > 0)
		out->at += (uint32_t)cqe->res;
	if (current && out->at < out->bytes && (cqe->res > 0 || cqe->res == -EAGAIN)) {
		send_late_arm(out);
		return;
	}
	if (current && out->at < out->bytes)
		slot_close(out->slot);
	if (out->place == NULL)
		out_done(out); /* else it is settled with the others */
}

/* The last enter has ended its sends; those that failed have been taken out. */
static void sent_settle(void)
{
	int last = 1 - sent_now;

	for (uint32_t i = 0; i < sent_count[last]; i++)
		if (sent[last][i] != NULL)
			out_done(sent[last][i]);
	sent_count[last] = 0;
}

/* ---- the mass close -------------------------------------------------------------------- */

static void close_all(void)
{
	closing_begin_ns = peer_cpu_ns();
	closing_count = closed_count = 0;
	for (uint32_t index = 0; index < SLOTS_MAX; index++) {
		struct slot *slot = &slots[index];

		if (!slot->open)
			continue;
		slot->counted = true;
		closing_count++;
		/* The goodbye goes with a call, as the close is to come right behind it. */
		if (slot->session != NULL && slot->head == NULL &&
			slot_send_copy(index, cipher, session_goodbye(slot->session, cipher)) &&
			slot->head != NULL) {
			slot->ends = true;
			continue;
		}
		if (options.close_abort)
			slot_reset(index);
		slot_close(index);
	}
}

static void close_all_report(void)
{
	if (closing_begin_ns == 0 || closed_count < closing_count)
		return;
	peer_closed_print(closed_count, peer_cpu_ns() - closing_begin_ns);
	closing_begin_ns = 0;
}

static void on_signal(const struct io_uring_cqe *cqe)
{
	int number;

	if (!(cqe->flags & IORING_CQE_F_MORE))
		signal_arm();
	while ((number = peer_signal_next(signals)) != 0) {
		if (number == options.close_signal)
			close_all();
		else
			ended = true;
	}
}

/* ---- run ------------------------------------------------------------------------------- */

static void buffers_publish(void)
{
	uint32_t count = starved_count;

	if (buffers_back > 0) {
		io_uring_buf_ring_advance(buffer_ring, (int)buffers_back);
		buffers_free += buffers_back;
		buffers_back = 0;
	}
	if (count == 0 || buffers_free < BUFFER_COUNT / 2)
		return;
	starved_count = 0;
	for (uint32_t i = 0; i < count; i++)
		if (slots[starved[i]].open && !slots[starved[i]].receiving &&
			!slots[starved[i]].ends)
			receive_arm(starved[i], true);
}

static void completion(const struct io_uring_cqe *cqe)
{
	switch ((enum op)(cqe->user_data >> OP_SHIFT)) {
	case OP_ACCEPT:
		on_accept(cqe);
		break;
	case OP_SIGNAL:
		on_signal(cqe);
		break;
	case OP_RECEIVE:
		on_receive(cqe);
		break;
	case OP_SEND:
		on_send(cqe);
		break;
	case OP_QUIET: /* the connection had ended by itself */
		break;
	}
}

/* What is there now, failed sends first: the others of that enter are then known to be done. */
static void completions_serve(void)
{
	unsigned head, count = 0, left;
	struct io_uring_cqe *cqe;

	io_uring_for_each_cqe(&ring, head, cqe)
	{
		if (cqe->user_data >> OP_SHIFT == OP_SEND)
			completion(cqe);
		count++;
	}
	sent_settle();
	left = count;
	io_uring_for_each_cqe(&ring, head, cqe)
	{
		if (left-- == 0)
			break;
		if (cqe->user_data >> OP_SHIFT != OP_SEND)
			completion(cqe);
	}
	io_uring_cq_advance(&ring, count);
}

/* Whether the enter may wait: not when the end of one of its sends lets us do more at once. */
static unsigned wait_count(void)
{
	if (starved_count > 0 && sent_count[sent_now] > 0)
		return 0;
	for (uint32_t i = 0; i < sent_count[sent_now]; i++) {
		const struct out *out = sent[sent_now][i];

		if (out != NULL && (out->next != NULL || slots[out->slot].ends))
			return 0;
	}
	return 1;
}

static int serve(void)
{
	while (!ended) {
		unsigned wait = wait_count();
		int status;

		sent_now = 1 - sent_now;
		status = wait > 0 ? io_uring_submit_and_wait(&ring, wait)
				  : io_uring_submit_and_get_events(&ring);

		if (status < 0 && status != -EINTR && status != -EBUSY && status != -EAGAIN)
			return peer_failure(&options, "io_uring_enter", strerror(-status));
		completions_serve();
		buffers_publish();
		close_all_report();
	}
	return 0;
}

static int buffers_create(void)
{
	struct io_uring_buf_reg registration = {.ring_entries = BUFFER_COUNT, .bgid = 0};
	size_t bytes = (size_t)BUFFER_COUNT * BUFFER_STRIDE;

	buffer_ring = mmap(NULL, BUFFER_COUNT * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffer_ring == MAP_FAILED || buffers == MAP_FAILED)
		return -ENOMEM;
	registration.ring_addr = (uint64_t)(uintptr_t)buffer_ring;
	for (int buffer = 0; buffer < BUFFER_COUNT; buffer++) {
		buffer_outs[buffer] = (struct out){.data = buffer_data(buffer), .buffer = buffer};
		buffer_put(buffer);
	}
	buffers_free = 0;
	return io_uring_register_buf_ring(&ring, &registration, 0);
}

static int ring_start(void)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
			IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
			IORING_SETUP_CLAMP,
		.cq_entries = COMPLETE_ENTRIES};
	int status = io_uring_queue_init_params(SUBMIT_ENTRIES, &ring, &params);

	if (status < 0)
		return peer_failure(&options, "io_uring_setup", strerror(-status));
	if (io_uring_register_ring_fd(&ring) < 0)
		fprintf(stderr, "peer-uring: no registered ring descriptor, slower\n");
	status = io_uring_register_files_sparse(&ring, SLOTS_MAX);
	if (status == 0)
		status = buffers_create();
	if (status < 0)
		return peer_failure(&options, "cannot set up the ring", strerror(-status));
	buffers_publish();
	return 0;
}

int main(int argc, char **argv)
{
	const struct peer_abilities abilities = {.raw = true, .tls = true, .close_all = true};
	int status = peer_options_parse(&options, "uring", &abilities, argc, argv);

	if (status >= 0)
		return status;
	signals = peer_signals(&options);
	listener = peer_listen(&options);
	if (signals < 0 || listener < 0)
		return PEER_EXIT_FAILURE;
	if (options.tls && (session_init() < 0 || (tls = peer_tls_context(&options)) == NULL))
		return PEER_EXIT_FAILURE;
	if (ring_start() < 0)
		return PEER_EXIT_FAILURE;
	accept_arm();
	signal_arm();
	status = peer_ready(&options);
	if (status == 0)
		status = serve();
	io_uring_queue_exit(&ring);
	for (uint32_t index = 0; index < SLOTS_MAX; index++)
		session_destroy(slots[index].session);
	SSL_CTX_free(tls);
	session_fini();
	return status == 0 ? PEER_EXIT_OK : PEER_EXIT_FAILURE;
}
