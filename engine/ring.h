/*
 * The ring: all that a shard asks of the kernel, as operations that complete later. This header is
 * the seam: engine/seam/ring_uring.c is the kernel's io_uring, tests/fake/ring_script.c a scripted
 * one, chosen at link time. A ring belongs to the thread that created it.
 *
 * Operations return true when they are queued, false when there is no submission entry to be had
 * even after submitting (the caller keeps its object on a list and tries again next turn). Those
 * that end a connection may use the last RING_RESERVE entries, the others may not, so a full ring
 * never stops a close. What is queued runs in order at the next ring_enter (or earlier).
 *
 * A file is a direct descriptor's index or a normal descriptor, by ring_features.direct.
 */
#ifndef PEERHUB_ENGINE_RING_H
#define PEERHUB_ENGINE_RING_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define RING_RESERVE 64u /* submission entries kept for closes */
#define RING_FILE_NONE (-1)
#define RING_NO_WAIT 0u
#define RING_FOREVER UINT64_MAX

struct ring;

struct ring_features {
	bool direct; /* direct descriptors pass the self-test */
	bool socket_cmd; /* set/getsockopt, SIOCOUTQ on ring files */
	bool bind; /* ring_bind */
	char text[256]; /* one line per feature */
};

struct ring_options {
	uint32_t submit_entries; /* power of two, > RING_RESERVE */
	uint32_t complete_entries; /* power of two */
	uint32_t file_count; /* direct descriptors */
	uint32_t buffer_count; /* provided buffers, power of two, at most 32,768 */
	uint32_t buffer_bytes;
	bool direct;
};

#define RING_MORE 1u /* the operation goes on */
#define RING_NONEMPTY 2u /* the socket had more data */
struct ring_completion {
	uint64_t user_data;
	int32_t result; /* >= 0, or a negative errno */
	uint32_t flags; /* RING_* */
	int32_t buffer; /* provided buffer's number, -1: none */
};

/* Behaviour self-tests against the running kernel. 0; -EPERM (io_uring refused); -ENOSYS (older than
 * needed); `why` (256 bytes) names the cause and the cure. */
int ring_probe(struct ring_features *features, char *why);

int ring_create(const struct ring_options *options, struct ring **ring); /* 0 or negative errno */
void ring_destroy(struct ring *ring); /* all operations have ended, or are ended by this */

/* Submit, then wait for wait_count completions or timeout_ns. 0, or a negative errno that is not
 * -EINTR, -ETIME, -EAGAIN or -EBUSY (those are 0). */
int ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns);
bool ring_next(struct ring *ring, struct ring_completion *completion);
bool ring_overflowed(struct ring *ring); /* true once after each overflow of the completion queue */

uint8_t *ring_buffer(struct ring *ring, uint32_t buffer);
void ring_buffer_put(struct ring *ring, uint32_t buffer); /* given back at the next enter */
uint32_t ring_buffers_out(const struct ring *ring); /* in our hands now */

bool ring_poll_arm(struct ring *ring, int fd, uint64_t user_data); /* multishot */
bool ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data); /* multishot */
bool ring_socket(struct ring *ring, int family, uint64_t user_data);
/* Set an int option; silent unless it fails, then user_data completes with the error. */
bool ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data);
/* address: valid until the completion, like ring_connect's. Only where features.bind. */
bool ring_bind(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data);
bool ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data);
/* Into provided buffers, multishot; poll_first: wait for data before trying. */
bool ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data);
/* data / message: valid until the completion. */
bool ring_send(struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data);
bool ring_sendmsg(
	struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data);
/* name->ss_family: the socket's, AF_INET or AF_INET6. Completes with the length. */
bool ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data);
bool ring_unsent(
	struct ring *ring, int32_t file, uint64_t user_data); /* SIOCOUTQ: not yet acknowledged */

/* Endings: may use the reserve. */
bool ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data); /* silent when it hits */
bool ring_disconnect(
	struct ring *ring, int32_t file, uint64_t user_data); /* reset; silent if it works */
bool ring_shutdown(struct ring *ring, int32_t file, uint64_t user_data); /* our side; completes */
bool ring_close(struct ring *ring, int32_t file, uint64_t user_data); /* silent if it works */

/* A waker ends a shard's wait from any thread. Wakers live as long as the process. */
int waker_create(void); /* a descriptor for ring_poll_arm, or a negative errno */
void waker_wake(int waker); /* any thread, async-signal-safe */

#endif
