/* Errors of the ring's; see fault_ring.h. */
#include "fault_ring.h"

#include "engine/ring.h"
#include "engine/shard.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#define ANSWERS_MAX 1024u /* made up and not yet taken; beyond it nothing is injected */
#define CANCELS_MAX 256u /* receives on their way to an error */
#define MARKS (1u << 16)
#define OURS UINT64_MAX /* user_data of operations of this file: no completion of them is shown */

/* The seam's own calls. */
int __real_ring_create(const struct ring_options *options, struct ring **ring);
int __real_ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns);
bool __real_ring_next(struct ring *ring, struct ring_completion *completion);
bool __real_ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data);
bool __real_ring_socket(struct ring *ring, int family, uint64_t user_data);
bool __real_ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data);
bool __real_ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data);
bool __real_ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data);
bool __real_ring_send(
	struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data);
bool __real_ring_sendmsg(
	struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data);
bool __real_ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data);
bool __real_ring_unsent(struct ring *ring, int32_t file, uint64_t user_data);
bool __real_ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data);
bool __real_ring_disconnect(struct ring *ring, int32_t file, uint64_t user_data);

/* What the linker calls in their place. */
int __wrap_ring_create(const struct ring_options *options, struct ring **ring);
int __wrap_ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns);
bool __wrap_ring_next(struct ring *ring, struct ring_completion *completion);
bool __wrap_ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data);
bool __wrap_ring_socket(struct ring *ring, int family, uint64_t user_data);
bool __wrap_ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data);
bool __wrap_ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data);
bool __wrap_ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data);
bool __wrap_ring_send(
	struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data);
bool __wrap_ring_sendmsg(
	struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data);
bool __wrap_ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data);
bool __wrap_ring_unsent(struct ring *ring, int32_t file, uint64_t user_data);
bool __wrap_ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data);
bool __wrap_ring_disconnect(struct ring *ring, int32_t file, uint64_t user_data);

/* One ring's, on its thread. */
struct injector {
	struct random random;
	uint32_t answer_head, answer_count;
	struct ring_completion answers[ANSWERS_MAX];
	uint32_t cancel_count;
	struct {
		uint64_t user_data;
		int error;
	} cancels[CANCELS_MAX];
};

static const struct faults *_Atomic faults_on; /* NULL: the wraps do nothing */
static _Atomic uint64_t faults_seed;
static _Atomic uint64_t rings;
static _Atomic uint64_t counts[FAULT_OP_COUNT];
static _Thread_local struct injector injector;

/* Which faults with a group hit an id: id and mask in two words of one place. */
static struct {
	_Atomic uint64_t id;
	_Atomic uint32_t mask;
} marks[MARKS];

void fault_ring_set(const struct faults *faults, uint64_t seed)
{
	atomic_store(&faults_seed, seed);
	for (uint32_t i = 0; i < MARKS; i++)
		atomic_store_explicit(&marks[i].id, 0, memory_order_relaxed);
	for (uint32_t i = 0; i < FAULT_OP_COUNT && faults != NULL; i++)
		atomic_store_explicit(&counts[i], 0, memory_order_relaxed);
	atomic_store(&faults_on, faults);
}

void fault_ring_group(uint64_t id, const char *group)
{
	const struct faults *faults = atomic_load(&faults_on);
	uint32_t place = (uint32_t)(random_mix(id) % MARKS);
	uint32_t mask = 0;

	for (uint32_t i = 0; faults != NULL && i < faults->count; i++)
		if (faults->items[i].has_group && strcmp(faults->items[i].group, group) == 0)
			mask |= 1u << i;
	if (mask == 0)
		return;
	atomic_store(&marks[place].id, 0);
	atomic_store(&marks[place].mask, mask);
	atomic_store(&marks[place].id, id);
}

uint64_t fault_ring_count(enum fault_op op)
{
	return atomic_load(&counts[op]);
}

/* ---- choosing -------------------------------------------------------------------------- */

/* user_data carries slot and generation as an id does, the home is our thread's shard's. */
static uint64_t id_of(uint64_t user_data)
{
	const struct shard *shard = shard_self();

	if (shard == NULL)
		return 0;
	return (uint64_t)shard->home->index << 56 | (user_data & 0x00ffffffffffffffu);
}

static bool is_marked(uint64_t id, uint32_t index)
{
	uint32_t place = (uint32_t)(random_mix(id) % MARKS);

	return atomic_load(&marks[place].id) == id &&
		(atomic_load(&marks[place].mask) & (1u << index)) != 0;
}

static bool is_in_scope(const struct faults *faults, uint32_t index, uint64_t user_data)
{
	const struct fault *fault = &faults->items[index];
	uint64_t id = id_of(user_data);

	if (fault->has_group)
		return is_marked(id, index);
	return fault->permille == 1000 ||
		fault_hits(faults, index, atomic_load(&faults_seed), id, "");
}

/* The fault of a kind that this operation shall meet; NULL: none. */
static const struct fault *choose(enum fault_kind kind, enum fault_op op, uint64_t user_data)
{
	const struct faults *faults = atomic_load_explicit(&faults_on, memory_order_acquire);

	if (faults == NULL || injector.answer_count == ANSWERS_MAX)
		return NULL;
	for (uint32_t i = 0; i < faults->count; i++) {
		const struct fault *fault = &faults->items[i];

		if (fault->kind != kind || fault->op != op ||
			random_below(&injector.random, fault->one_in) != 0 ||
			!is_in_scope(faults, i, user_data))
			continue;
		atomic_fetch_add_explicit(&counts[op], 1, memory_order_relaxed);
		return fault;
	}
	return NULL;
}

/* The error that this operation shall answer; 0: none. */
static int choose_error(enum fault_op op, uint64_t user_data)
{
	const struct fault *fault = choose(FAULT_ERRNO, op, user_data);

	return fault != NULL ? fault->error : 0;
}

static bool answer(uint64_t user_data, int error)
{
	uint32_t at = (injector.answer_head + injector.answer_count) % ANSWERS_MAX;

	assert(injector.answer_count < ANSWERS_MAX);
	injector.answers[at] =
		(struct ring_completion){.user_data = user_data, .result = -error, .buffer = -1};
	injector.answer_count++;
	return true;
}

/* ---- the ring's calls ------------------------------------------------------------------- */

int __wrap_ring_create(const struct ring_options *options, struct ring **ring)
{
	memset(&injector, 0, sizeof(injector));
	random_init(&injector.random, atomic_load(&faults_seed), 1 + atomic_fetch_add(&rings, 1));
	return __real_ring_create(options, ring);
}

int __wrap_ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns)
{
	/* A ring with an answer in it does not wait for one. */
	if (injector.answer_count > 0)
		return __real_ring_enter(ring, RING_NO_WAIT, 0);
	return __real_ring_enter(ring, wait_count, timeout_ns);
}

static int cancel_find(uint64_t user_data)
{
	for (uint32_t i = 0; i < injector.cancel_count; i++)
		if (injector.cancels[i].user_data == user_data)
			return (int)i;
	return -1;
}

/* The end of a receive that was cancelled for an error carries it, unless it ended by itself. */
static void recv_end(struct ring_completion *completion)
{
	int place = cancel_find(completion->user_data);

	if (place < 0 || (completion->flags & RING_MORE) != 0)
		return;
	if (completion->result == -ECANCELED)
		completion->result = -injector.cancels[place].error;
	injector.cancels[place] = injector.cancels[--injector.cancel_count];
}

/* Data has come by a receive that goes on: let it end with an error after this. */
static void recv_break(struct ring *ring, const struct ring_completion *completion)
{
	int error;

	if (completion->user_data >> 56 != OP_RECV || completion->result <= 0 ||
		(completion->flags & RING_MORE) == 0 || injector.cancel_count == CANCELS_MAX ||
		cancel_find(completion->user_data) >= 0)
		return;
	error = choose_error(FAULT_OP_RECV, completion->user_data);
	if (error == 0 || !__real_ring_cancel(ring, completion->user_data, OURS))
		return;
	injector.cancels[injector.cancel_count].user_data = completion->user_data;
	injector.cancels[injector.cancel_count].error = error;
	injector.cancel_count++;
}

/* An operation's last answer that shall never come; its buffer goes back. */
static bool is_lost(struct ring *ring, const struct ring_completion *completion)
{
	static const enum fault_op ops[] = {[OP_RECV] = FAULT_OP_RECV,
		[OP_SEND] = FAULT_OP_SEND,
		[OP_CONNECT] = FAULT_OP_CONNECT,
		[OP_NAME] = FAULT_OP_NAME};
	uint64_t kind = completion->user_data >> 56;

	if ((completion->flags & RING_MORE) != 0 ||
		(kind != OP_RECV && kind != OP_SEND && kind != OP_CONNECT && kind != OP_NAME) ||
		choose(FAULT_LOST, ops[kind], completion->user_data) == NULL)
		return false;
	if (completion->buffer >= 0)
		ring_buffer_put(ring, (uint32_t)completion->buffer);
	return true;
}

bool __wrap_ring_next(struct ring *ring, struct ring_completion *completion)
{
	while (__real_ring_next(ring, completion)) {
		if (completion->user_data == OURS || is_lost(ring, completion))
			continue;
		if (injector.cancel_count > 0)
			recv_end(completion);
		if (atomic_load_explicit(&faults_on, memory_order_relaxed) != NULL)
			recv_break(ring, completion);
		return true;
	}
	if (injector.answer_count == 0)
		return false;
	*completion = injector.answers[injector.answer_head];
	injector.answer_head = (injector.answer_head + 1) % ANSWERS_MAX;
	injector.answer_count--;
	return true;
}

bool __wrap_ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_ACCEPT, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_accept_arm(ring, listen_fd, user_data);
}

bool __wrap_ring_socket(struct ring *ring, int family, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_SOCKET, user_data);

	return error != 0 ? answer(user_data, error) : __real_ring_socket(ring, family, user_data);
}

bool __wrap_ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_OPTION, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_option(ring, file, level, name, value, user_data);
}

bool __wrap_ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_CONNECT, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_connect(ring, file, address, address_bytes, user_data);
}

bool __wrap_ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_RECV, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_recv_arm(ring, file, poll_first, user_data);
}

/* A stream whose send has failed is gone: the peer sees a reset, and so does our receive. */
static int send_error(struct ring *ring, int32_t file, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_SEND, user_data);

	return error != 0 && __real_ring_disconnect(ring, file, OURS) ? error : 0;
}

bool __wrap_ring_send(
	struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data)
{
	int error = send_error(ring, file, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_send(ring, file, data, bytes, user_data);
}

bool __wrap_ring_sendmsg(
	struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data)
{
	int error = send_error(ring, file, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_sendmsg(ring, file, message, user_data);
}

bool __wrap_ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_NAME, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_peer_name(ring, file, name, user_data);
}

bool __wrap_ring_unsent(struct ring *ring, int32_t file, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_UNSENT, user_data);

	return error != 0 ? answer(user_data, error) : __real_ring_unsent(ring, file, user_data);
}

bool __wrap_ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data)
{
	int error;

	if (!__real_ring_cancel(ring, target, user_data))
		return false;
	error = choose_error(FAULT_OP_CANCEL, user_data);
	return error == 0 || answer(user_data, error);
}

bool __wrap_ring_disconnect(struct ring *ring, int32_t file, uint64_t user_data)
{
	int error = choose_error(FAULT_OP_DISCONNECT, user_data);

	return error != 0 ? answer(user_data, error)
			  : __real_ring_disconnect(ring, file, user_data);
}
