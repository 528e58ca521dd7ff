/*
 * The ring on Linux io_uring through liburing 2.3.
 *
 * Setup: SINGLE_ISSUER | DEFER_TASKRUN | SUBMIT_ALL | CQSIZE | CLAMP, registered ring fd. NO_SQARRAY,
 * NO_MMAP and REGISTERED_FD_ONLY must never pass through liburing 2.3 (it would write over the ring's
 * head and tail), and io_uring_prep_accept_direct would turn ALLOC into a normal descriptor, so the
 * multishot forms are used.
 *
 * Completions are produced only inside ring_enter (DEFER_TASKRUN), so a shard that does not enter
 * sees a still world.
 *
 * A ring begins disabled (R_DISABLED), is told the operations it will ever be asked for (ring_restrict) and
 * is enabled for good: who takes over the process cannot open files or start anything through it, past all
 * filters of system calls. Registering comes before: afterwards only the ring's own descriptor may be
 * unregistered.
 */
#include "engine/ring.h"

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/tsan.h"
#include "engine/seam/compat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFFER_GROUP 0
/* Newer kernels (seen: 6.18) run at most 20 local task works an enter. One that brought nearly as many
 * has left some behind, so it is made again, until a turn has this many completions. */
#define ENTER_WORK 16u
#define ENTER_COMPLETIONS_MAX 1024u
/* Provided buffers go round: whatever the kernel has been given it touches, one after the other. So it
 * gets a part first, which stays in the caches and is all that idle connections cost, and more when few
 * are left: as many again, until it has all. An enter may take more than are left (33 a connection):
 * who then finds none is starved until the next. */
#define BUFFERS_FIRST 256u
#define BUFFERS_LOW (BUFFERS_FIRST / 2)

struct ring {
	struct io_uring uring;
	struct ring_options options;
	struct io_uring_buf_ring *buffer_ring; /* buffer_count entries, page aligned */
	size_t buffer_ring_bytes;
	uint8_t *buffers;
	size_t buffers_bytes;
	uint32_t buffers_given; /* those from here on the kernel has never had */
	uint32_t buffers_out; /* handed to us by completions and not put back */
	uint32_t buffers_pending; /* put back, tail not yet moved */
	bool overflow_seen;
};

static const char *const ring_cure =
	"allow it: sysctl kernel.io_uring_disabled=0, and a seccomp profile that lets io_uring_setup, "
	"io_uring_enter and io_uring_register pass";

/* ---- life ------------------------------------------------------------------------------- */

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	/* The kernel checks the direct table against the soft limit; liburing would ask for more than
	 * the hard one and fail. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* flags: IORING_SETUP_R_DISABLED or 0. */
static int ring_setup(
	struct io_uring *uring, uint32_t submit_entries, uint32_t complete_entries, unsigned flags)
{
	struct io_uring_params params;
	int status;

	memset(&params, 0, sizeof(params));
	params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | flags;
	params.cq_entries = complete_entries;
	status = io_uring_queue_init_params(submit_entries, uring, &params);
	PH_TSAN_PAGES_ACQUIRE();
	return status;
}

static void ring_teardown(struct io_uring *uring)
{
	PH_TSAN_PAGES_RELEASE();
	io_uring_queue_exit(uring);
}

/* All that the operations below ask for, and no more. The newest one comes last: a kernel that has never heard
 * of it refuses the whole list, and gets it without. */
static const uint8_t ring_opcodes[] = {IORING_OP_NOP, IORING_OP_POLL_ADD, IORING_OP_ACCEPT,
	IORING_OP_SOCKET, IORING_OP_URING_CMD, IORING_OP_CONNECT, IORING_OP_RECV, IORING_OP_SEND,
	IORING_OP_SENDMSG, IORING_OP_ASYNC_CANCEL, IORING_OP_SHUTDOWN, IORING_OP_CLOSE,
	COMPAT_OP_BIND};
#define OPCODE_COUNT (sizeof(ring_opcodes) / sizeof(ring_opcodes[0]))

/* io_uring_enable_rings and io_uring_register_restrictions are in liburing 2.3's header, and not in its shared
 * library. */
static int ring_enable(struct io_uring *uring)
{
	return io_uring_register((unsigned)uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int ring_restrictions(
	struct io_uring *uring, struct io_uring_restriction *list, size_t count)
{
	return io_uring_register(
		(unsigned)uring->ring_fd, IORING_REGISTER_RESTRICTIONS, list, (unsigned)count);
}

/* A ring that is still disabled. 0, or why the kernel has no restrictions: then it works without. */
static int ring_restrict(struct io_uring *uring)
{
	struct io_uring_restriction list[OPCODE_COUNT + 2];
	int status;

	memset(list, 0, sizeof(list));
	list[0].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	list[0].sqe_flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
	list[1].opcode = IORING_RESTRICTION_REGISTER_OP;
	list[1].register_op = IORING_UNREGISTER_RING_FDS;
	for (size_t i = 0; i < OPCODE_COUNT; i++) {
		list[2 + i].opcode = IORING_RESTRICTION_SQE_OP;
		list[2 + i].sqe_op = ring_opcodes[i];
	}
	status = ring_restrictions(uring, list, OPCODE_COUNT + 2);
	if (status == -EINVAL)
		status = ring_restrictions(uring, list, OPCODE_COUNT + 1);
	return status;
}

static void ring_buffers_give(struct ring *ring, uint32_t count)
{
	const struct ring_options *options = &ring->options;

	assert(ring->buffers_pending == 0);
	if (count > options->buffer_count - ring->buffers_given)
		count = options->buffer_count - ring->buffers_given;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t buffer = ring->buffers_given + i;

		io_uring_buf_ring_add(ring->buffer_ring,
			ring->buffers + (size_t)buffer * options->buffer_bytes,
			options->buffer_bytes, (unsigned short)buffer,
			(int)(options->buffer_count - 1), (int)i);
	}
	io_uring_buf_ring_advance(ring->buffer_ring, (int)count);
	ring->buffers_given += count;
}

/* Each completion that waits may hold one of those given and not yet handed to us. */
static void ring_buffers_refill(struct ring *ring)
{
	uint32_t used = ring->buffers_out + io_uring_cq_ready(&ring->uring);

	if (ring->buffers_given < ring->options.buffer_count &&
		used + BUFFERS_LOW > ring->buffers_given)
		ring_buffers_give(ring, ring->buffers_given);
}

static int ring_buffers_create(struct ring *ring)
{
	const struct ring_options *options = &ring->options;
	struct io_uring_buf_reg registration;
	int status;

	ring->buffer_ring_bytes = options->buffer_count * sizeof(struct io_uring_buf);
	ring->buffer_ring = memory_map(ring->buffer_ring_bytes);
	if (ring->buffer_ring == NULL)
		return -ENOMEM;
	ring->buffers_bytes = (size_t)options->buffer_count * options->buffer_bytes;
	ring->buffers = memory_map(ring->buffers_bytes);
	if (ring->buffers == NULL)
		return -ENOMEM;
	memset(&registration, 0, sizeof(registration));
	registration.ring_addr = (uint64_t)(uintptr_t)ring->buffer_ring;
	registration.ring_entries = options->buffer_count;
	registration.bgid = BUFFER_GROUP;
	status = io_uring_register_buf_ring(&ring->uring, &registration, 0);
	if (status < 0)
		return status;
	io_uring_buf_ring_init(ring->buffer_ring);
	ring_buffers_give(ring, BUFFERS_FIRST);
	return 0;
}

int ring_create(const struct ring_options *options, struct ring **out)
{
	struct ring *ring;
	int status;

	assert(options->submit_entries > RING_RESERVE);
	assert((options->buffer_count & (options->buffer_count - 1)) == 0);
	*out = NULL;
	ring = memory_zalloc(sizeof(*ring));
	if (ring == NULL)
		return -ENOMEM;
	ring->options = *options;
	status = ring_setup(&ring->uring, options->submit_entries, options->complete_entries,
		IORING_SETUP_R_DISABLED);
	if (status < 0)
		goto undo_memory;
	/* Saves the descriptor lookup of every enter; where it is refused all works without. */
	(void)io_uring_register_ring_fd(&ring->uring);
	if (options->direct) {
		raise_descriptor_limit();
		status = io_uring_register_files_sparse(&ring->uring, options->file_count);
		if (status < 0)
			goto undo_ring;
	}
	status = ring_buffers_create(ring);
	if (status < 0)
		goto undo_ring;
	(void)ring_restrict(&ring->uring); /* ring_probe tells whether it works here */
	status = ring_enable(&ring->uring);
	if (status < 0)
		goto undo_ring;
	*out = ring;
	return 0;

undo_ring:
	ring_teardown(&ring->uring);
	memory_unmap(ring->buffers, ring->buffers_bytes);
	memory_unmap(ring->buffer_ring, ring->buffer_ring_bytes);
undo_memory:
	memory_free(ring);
	return status;
}

void ring_destroy(struct ring *ring)
{
	if (ring == NULL)
		return;
	ring_teardown(&ring->uring);
	memory_unmap(ring->buffers, ring->buffers_bytes);
	memory_unmap(ring->buffer_ring, ring->buffer_ring_bytes);
	memory_free(ring);
}

/* ---- turn ------------------------------------------------------------------------------- */

/* Fetch what an enter has left behind: else a busy shard sees 20 connections a turn, however long the
 * turn, and the last events of a mass close wait until all its operations have been queued. */
static void ring_fetch(struct ring *ring, uint32_t brought)
{
	uint32_t most = ring->options.complete_entries / 2;
	uint32_t ready = io_uring_cq_ready(&ring->uring);

	if (most > ENTER_COMPLETIONS_MAX)
		most = ENTER_COMPLETIONS_MAX;
	while (brought >= ENTER_WORK && ready < most) {
		uint32_t before = ready;

		if (io_uring_get_events(&ring->uring) < 0)
			return; /* the next turn's enter tells why */
		ready = io_uring_cq_ready(&ring->uring);
		brought = ready - before;
		ring_buffers_refill(ring);
	}
}

int ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns)
{
	uint32_t before = io_uring_cq_ready(&ring->uring);
	struct __kernel_timespec timeout;
	struct io_uring_cqe *cqe;
	int status;

	if (ring->buffers_pending > 0) {
		io_uring_buf_ring_advance(ring->buffer_ring, (int)ring->buffers_pending);
		ring->buffers_pending = 0;
	}
	ring_buffers_refill(ring);
	if (wait_count == RING_NO_WAIT) {
		status = io_uring_submit_and_get_events(&ring->uring);
	} else if (timeout_ns == RING_FOREVER) {
		status = io_uring_submit_and_wait(&ring->uring, wait_count);
	} else {
		timeout.tv_sec = (long long)(timeout_ns / 1000000000u);
		timeout.tv_nsec = (long long)(timeout_ns % 1000000000u);
		status = io_uring_submit_and_wait_timeout(
			&ring->uring, &cqe, wait_count, &timeout, NULL);
	}
	/* An enter that could not submit all left before it looked for completions. */
	if (status == -EAGAIN || status == -EBUSY || io_uring_sq_ready(&ring->uring) > 0) {
		int looked = io_uring_get_events(&ring->uring);

		if (looked < 0)
			status = looked;
		else if (status == -EAGAIN || status == -EBUSY)
			status = 0;
	}
	ring_fetch(ring, io_uring_cq_ready(&ring->uring) - before);
	if (io_uring_cq_has_overflow(&ring->uring))
		ring->overflow_seen = true;
	return status >= 0 || status == -EINTR || status == -ETIME ? 0 : status;
}

bool ring_next(struct ring *ring, struct ring_completion *completion)
{
	struct io_uring_cqe *cqe;
	unsigned head = *ring->uring.cq.khead;

	if (head == io_uring_smp_load_acquire(ring->uring.cq.ktail))
		return false;
	cqe = &ring->uring.cq.cqes[head & *ring->uring.cq.kring_mask];
	completion->user_data = cqe->user_data;
	completion->result = cqe->res;
	completion->flags = ((cqe->flags & IORING_CQE_F_MORE) ? RING_MORE : 0) |
		((cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) ? RING_NONEMPTY : 0);
	completion->buffer = -1;
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		completion->buffer = (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
		ring->buffers_out++;
	}
	io_uring_cq_advance(&ring->uring, 1);
	return true;
}

bool ring_overflowed(struct ring *ring)
{
	bool seen = ring->overflow_seen;

	ring->overflow_seen = false;
	return seen;
}

uint8_t *ring_buffer(struct ring *ring, uint32_t buffer)
{
	assert(buffer < ring->options.buffer_count);
	return ring->buffers + (size_t)buffer * ring->options.buffer_bytes;
}

void ring_buffer_put(struct ring *ring, uint32_t buffer)
{
	assert(ring->buffers_out > 0);
	io_uring_buf_ring_add(ring->buffer_ring, ring_buffer(ring, buffer),
		ring->options.buffer_bytes, (unsigned short)buffer,
		(int)(ring->options.buffer_count - 1), (int)ring->buffers_pending);
	ring->buffers_pending++;
	ring->buffers_out--;
}

uint32_t ring_buffers_out(const struct ring *ring)
{
	return ring->buffers_out;
}

/* ---- operations ------------------------------------------------------------------------- */

static struct io_uring_sqe *ring_sqe(struct ring *ring, unsigned reserve)
{
	if (io_uring_sq_space_left(&ring->uring) <= reserve) {
		(void)io_uring_submit(&ring->uring);
		if (io_uring_sq_space_left(&ring->uring) <= reserve)
			return NULL;
	}
	return io_uring_get_sqe(&ring->uring);
}

static bool ring_queue(
	struct ring *ring, struct io_uring_sqe *sqe, uint64_t user_data, unsigned flags)
{
	if (ring->options.direct && (flags & IOSQE_FIXED_FILE))
		sqe->flags |= IOSQE_FIXED_FILE;
	sqe->flags |= (unsigned char)(flags & ~(unsigned)IOSQE_FIXED_FILE);
	sqe->user_data = user_data;
	return true;
}

bool ring_poll_arm(struct ring *ring, int fd, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	io_uring_prep_poll_multishot(sqe, fd, POLLIN);
	return ring_queue(ring, sqe, user_data, 0);
}

bool ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	if (ring->options.direct)
		io_uring_prep_multishot_accept_direct(sqe, listen_fd, NULL, NULL, 0);
	else
		io_uring_prep_multishot_accept(sqe, listen_fd, NULL, NULL, SOCK_CLOEXEC);
	return ring_queue(ring, sqe, user_data, 0);
}

bool ring_socket(struct ring *ring, int family, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	if (ring->options.direct)
		io_uring_prep_socket_direct_alloc(sqe, family, SOCK_STREAM, 0, 0);
	else
		io_uring_prep_socket(sqe, family, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
	return ring_queue(ring, sqe, user_data, 0);
}

bool ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data)
{
	struct io_uring_sqe *sqe;

	if (!ring->options.direct) {
		/* A normal descriptor needs no submission entry. A refused option is not fatal. */
		(void)setsockopt(file, level, name, value, sizeof(*value));
		return true;
	}
	sqe = ring_sqe(ring, RING_RESERVE);
	if (sqe == NULL)
		return false;
	compat_prep_socket_cmd(sqe, file, COMPAT_SOCKET_OP_SETSOCKOPT, level, name,
		(void *)(uintptr_t)value, sizeof(*value));
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS);
}

bool ring_bind(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	io_uring_prep_rw(COMPAT_OP_BIND, sqe, file, address, 0, address_bytes);
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	io_uring_prep_connect(sqe, file, address, address_bytes);
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	io_uring_prep_recv_multishot(sqe, file, NULL, 0, 0);
	sqe->buf_group = BUFFER_GROUP;
	if (poll_first)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT);
}

bool ring_send(struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	io_uring_prep_send(sqe, file, data, bytes, MSG_NOSIGNAL);
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_sendmsg(struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	io_uring_prep_sendmsg(sqe, file, message, MSG_NOSIGNAL);
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, RING_RESERVE);

	if (sqe == NULL)
		return false;
	if (ring->options.direct) {
		/* The kernel refuses to be asked for more than the family's address has. */
		compat_prep_socket_cmd(sqe, file, COMPAT_SOCKET_OP_GETSOCKOPT, SOL_SOCKET,
			COMPAT_SO_PEERNAME, name,
			name->ss_family == AF_INET ? sizeof(struct sockaddr_in)
						   : sizeof(struct sockaddr_in6));
	} else {
		socklen_t bytes = sizeof(*name);

		/* The answer still travels through the ring, so that callers know one way only. */
		if (getpeername(file, (struct sockaddr *)name, &bytes) < 0)
			name->ss_family = AF_UNSPEC;
		io_uring_prep_nop(sqe);
		return ring_queue(ring, sqe, user_data, 0);
	}
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_unsent(struct ring *ring, int32_t file, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, 0);

	if (sqe == NULL)
		return false;
	compat_prep_socket_cmd(sqe, file, COMPAT_SOCKET_OP_SIOCOUTQ, 0, 0, NULL, 0);
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, 0);

	if (sqe == NULL)
		return false;
	io_uring_prep_cancel64(sqe, target, 0);
	return ring_queue(ring, sqe, user_data, IOSQE_CQE_SKIP_SUCCESS);
}

bool ring_disconnect(struct ring *ring, int32_t file, uint64_t user_data)
{
	static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	struct io_uring_sqe *sqe = ring_sqe(ring, 0);

	if (sqe == NULL)
		return false;
	io_uring_prep_connect(sqe, file, &nowhere, sizeof(nowhere));
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS);
}

bool ring_shutdown(struct ring *ring, int32_t file, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, 0);

	if (sqe == NULL)
		return false;
	io_uring_prep_shutdown(sqe, file, SHUT_WR);
	return ring_queue(ring, sqe, user_data, IOSQE_FIXED_FILE);
}

bool ring_close(struct ring *ring, int32_t file, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, 0);

	if (sqe == NULL)
		return false;
	if (ring->options.direct)
		io_uring_prep_close_direct(sqe, (unsigned)file);
	else
		io_uring_prep_close(sqe, file);
	return ring_queue(ring, sqe, user_data, IOSQE_CQE_SKIP_SUCCESS);
}

int waker_create(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void waker_wake(int waker)
{
	uint64_t one = 1;
	int saved = errno;

	/* Nobody reads the counter: a multishot poll fires on each write. At 2^64 - 2 writes it would be
	 * full, and the write fail; that is more than five hundred years at a thousand million a second. */
	if (write(waker, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
	errno = saved;
}

/* ---- self-test -------------------------------------------------------------------------- */

struct probe {
	struct io_uring uring;
	bool direct, cancel, multishot, socket_cmd, bind;
};

/* Wait for the completion of `user_data`; others are dropped. -ETIME when it does not come. */
static int probe_wait(struct probe *probe, uint64_t user_data, unsigned *flags)
{
	for (int tries = 0; tries < 16; tries++) {
		struct __kernel_timespec timeout = {.tv_sec = 1};
		struct io_uring_cqe *cqe = NULL;
		int status =
			io_uring_submit_and_wait_timeout(&probe->uring, &cqe, 1, &timeout, NULL);

		if (status < 0 && status != -EINTR)
			return status;
		while (io_uring_peek_cqe(&probe->uring, &cqe) == 0) {
			uint64_t seen = cqe->user_data;
			int result = cqe->res;

			if (flags != NULL)
				*flags = cqe->flags;
			io_uring_cqe_seen(&probe->uring, cqe);
			if (seen == user_data)
				return result;
		}
	}
	return -ETIME;
}

/* A direct descriptor must be released by its close while another request of the ring is pending
 * and the task sleeps in the ring: older kernels kept it (axboe/liburing#1192, #1235). */
static void probe_direct(struct probe *probe)
{
	int pair_a[2] = {-1, -1}, pair_b[2] = {-1, -1};
	struct io_uring_sqe *sqe;
	int files[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair_a) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM, 0, pair_b) < 0)
		goto out;
	if (io_uring_register_files_sparse(&probe->uring, 8) < 0)
		goto out;
	files[0] = pair_a[0];
	files[1] = pair_b[0];
	if (io_uring_register_files_update(&probe->uring, 0, files, 2) != 2)
		goto out;
	close(pair_b[0]);
	pair_b[0] = -1;
	sqe = io_uring_get_sqe(&probe->uring);
	io_uring_prep_poll_add(sqe, 0, POLLIN);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = 1;
	sqe = io_uring_get_sqe(&probe->uring);
	io_uring_prep_close_direct(sqe, 1);
	sqe->user_data = 2;
	if (probe_wait(probe, 2, NULL) == 0) {
		sqe = io_uring_get_sqe(&probe->uring);
		io_uring_prep_poll_add(sqe, pair_b[1], POLLIN);
		sqe->user_data = 3;
		probe->direct = probe_wait(probe, 3, NULL) > 0 &&
			recv(pair_b[1], &byte, 1, MSG_DONTWAIT) == 0;
	}
	sqe = io_uring_get_sqe(&probe->uring);
	io_uring_prep_cancel64(sqe, 1, 0);
	sqe->user_data = 4;
	probe->cancel = probe_wait(probe, 4, NULL) == 0;
out:
	for (int i = 0; i < 2; i++) {
		if (pair_a[i] >= 0)
			close(pair_a[i]);
		if (pair_b[i] >= 0)
			close(pair_b[i]);
	}
}

/* Options of a socket that exists only in the ring's table. */
static void probe_socket_cmd(struct probe *probe)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&probe->uring);
	struct sockaddr_storage name;
	int one = 1, file, status;

	io_uring_prep_socket_direct_alloc(sqe, AF_INET, SOCK_STREAM, 0, 0);
	sqe->user_data = 5;
	file = probe_wait(probe, 5, NULL);
	if (file < 0)
		return;
	sqe = io_uring_get_sqe(&probe->uring);
	compat_prep_socket_cmd(sqe, file, COMPAT_SOCKET_OP_SETSOCKOPT, SOL_SOCKET, SO_KEEPALIVE,
		&one, sizeof(one));
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = 6;
	status = probe_wait(probe, 6, NULL);
	if (status == 0) {
		sqe = io_uring_get_sqe(&probe->uring);
		compat_prep_socket_cmd(sqe, file, COMPAT_SOCKET_OP_GETSOCKOPT, SOL_SOCKET,
			COMPAT_SO_PEERNAME, &name, sizeof(name));
		sqe->flags |= IOSQE_FIXED_FILE;
		sqe->user_data = 7;
		probe->socket_cmd = probe_wait(probe, 7, NULL) == -ENOTCONN;
	}
	sqe = io_uring_get_sqe(&probe->uring);
	io_uring_prep_close_direct(sqe, (unsigned)file);
	sqe->user_data = 8;
	(void)probe_wait(probe, 8, NULL);
}

/* A local socket without a name may be bound anywhere: the kernel makes one up. */
static void probe_bind(struct probe *probe)
{
	static const struct sockaddr nameless = {.sa_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct io_uring_sqe *sqe;

	if (fd < 0)
		return;
	sqe = io_uring_get_sqe(&probe->uring);
	io_uring_prep_rw(COMPAT_OP_BIND, sqe, fd, &nameless, 0, sizeof(nameless.sa_family));
	sqe->user_data = 10;
	probe->bind = probe_wait(probe, 10, NULL) == 0;
	close(fd);
}

/* 0, or what kept us from finding out: want of memory or descriptors is not an old kernel. */
static int probe_multishot(struct probe *probe)
{
	static const unsigned entries = 4;
	struct io_uring_buf_reg registration = {.ring_entries = entries, .bgid = 7};
	struct io_uring_buf_ring *buffers;
	struct io_uring_sqe *sqe;
	char space[256];
	unsigned flags = 0;
	int status = -ENOMEM;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -errno;
	buffers = memory_map(4096);
	if (buffers == NULL)
		goto out;
	registration.ring_addr = (uint64_t)(uintptr_t)buffers;
	status = io_uring_register_buf_ring(&probe->uring, &registration, 0);
	if (status < 0) {
		status = status == -ENOMEM ? status : 0; /* any other refusal is an answer */
		goto out;
	}
	io_uring_buf_ring_init(buffers);
	for (unsigned i = 0; i < entries; i++)
		io_uring_buf_ring_add(
			buffers, space + 64 * i, 64, (unsigned short)i, (int)entries - 1, (int)i);
	io_uring_buf_ring_advance(buffers, (int)entries);
	sqe = io_uring_get_sqe(&probe->uring);
	io_uring_prep_recv_multishot(sqe, pair[0], NULL, 0, 0);
	sqe->buf_group = 7;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->user_data = 9;
	if (write(pair[1], "x", 1) == 1 && probe_wait(probe, 9, &flags) == 1)
		probe->multishot =
			(flags & IORING_CQE_F_MORE) != 0 && (flags & IORING_CQE_F_BUFFER) != 0;
	close(pair[1]);
	pair[1] = -1;
	(void)probe_wait(probe, 9, NULL); /* its end, so that nothing points at our stack */
	(void)io_uring_unregister_buf_ring(&probe->uring, 7);
out:
	memory_unmap(buffers, 4096);
	close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	return status;
}

/* Is what is not on the list refused? Opening a file is what an intruder would like best. */
static bool probe_restrictions(void)
{
	struct probe probe;
	struct io_uring_sqe *sqe;
	int status = -ENOSYS;

	memset(&probe, 0, sizeof(probe));
	if (ring_setup(&probe.uring, 4, 8, IORING_SETUP_R_DISABLED) < 0)
		return false;
	if (ring_restrict(&probe.uring) == 0 && ring_enable(&probe.uring) == 0) {
		sqe = io_uring_get_sqe(&probe.uring);
		io_uring_prep_openat(sqe, AT_FDCWD, "/", O_RDONLY | O_CLOEXEC, 0);
		sqe->user_data = 11;
		status = probe_wait(&probe, 11, NULL);
	}
	if (status >= 0)
		close(status);
	ring_teardown(&probe.uring);
	return status == -EACCES;
}

int ring_probe(struct ring_features *features, char *why)
{
	struct probe probe;
	int status;

	memset(features, 0, sizeof(*features));
	memset(&probe, 0, sizeof(probe));
	status = ring_setup(&probe.uring, 16, 64, 0);
	if (status == -EPERM || status == -EACCES) {
		snprintf(why, 256, "io_uring is refused here (%s); %s", strerror(-status),
			ring_cure);
		return -EPERM;
	}
	if (status == -ENOSYS) {
		snprintf(why, 256, "this kernel has no io_uring, or a seccomp profile hides it; %s",
			ring_cure);
		return -EPERM;
	}
	if (status == -EINVAL) {
		snprintf(why, 256,
			"this kernel's io_uring lacks DEFER_TASKRUN; Linux 6.1 or newer is needed");
		return -ENOSYS;
	}
	if (status == -ENOMEM) {
		snprintf(why, 256,
			"no memory for an io_uring ring; RLIMIT_MEMLOCK (ulimit -l) may be too small");
		return -ENOMEM;
	}
	if (status < 0) {
		snprintf(why, 256, "io_uring_setup failed: %s", strerror(-status));
		return status;
	}
	status = probe_multishot(&probe);
	probe_direct(&probe);
	if (probe.direct)
		probe_socket_cmd(&probe);
	probe_bind(&probe);
	ring_teardown(&probe.uring);
	if (status < 0) {
		snprintf(why, 256, "cannot try out io_uring: %s", strerror(-status));
		return status;
	}
	if (!probe.multishot) {
		snprintf(why, 256,
			"this kernel's io_uring has no working multishot receive; Linux 6.1 or newer is "
			"needed");
		return -ENOSYS;
	}
	features->socket_cmd = probe.socket_cmd;
	features->bind = probe.bind;
	features->direct = probe.direct && probe.cancel && probe.socket_cmd;
	snprintf(features->text, sizeof(features->text),
		"multishot_receive yes\ndirect_descriptors %s\ncancel_by_user_data %s\n"
		"socket_commands %s\nlocal_address %s\nrestricted_rings %s\n",
		features->direct ? "yes" : "no", probe.cancel ? "yes" : "no",
		probe.socket_cmd ? "yes" : "no", probe.bind ? "yes" : "no",
		probe_restrictions() ? "yes" : "no");
	return 0;
}
