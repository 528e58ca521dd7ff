/*
 * The scripted ring; see ring_script.h. Its own memory comes from the C library, so that failing
 * allocations of the engine do not fail the script. Only what a real ring allocates is asked of the seam.
 */
#include "tests/fake/ring_script.h"

#include "engine/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define SCRIPT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SCRIPT_ASAN 1
#endif
#endif
#ifdef SCRIPT_ASAN
#include <sanitizer/asan_interface.h>
#define SCRIPT_POISON(at, bytes) ASAN_POISON_MEMORY_REGION(at, bytes)
#define SCRIPT_UNPOISON(at, bytes) ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#else
#define SCRIPT_POISON(at, bytes) ((void)0)
#define SCRIPT_UNPOISON(at, bytes) ((void)0)
#endif

#define FILE_FIRST 100 /* so that a forgotten 0 is seen */
#define FILES_MAX 8192

enum buffer_place {
	BUFFER_KERNEL,
	BUFFER_OUT, /* with the engine */
	BUFFER_PUT, /* given back, the kernel's at the next enter */
};

struct script_bytes {
	uint8_t *data;
	size_t bytes, capacity, at;
};

struct script_file {
	bool closed, reset, cut; /* cut: its peer's side has ended */
	int32_t end; /* how, for a receive */
	int32_t peer; /* the file it is paired with, -1 none */
	int32_t unsent;
	struct script_bytes sent, inbox;
};

struct script_entry {
	struct ring_completion completion;
	struct script_op *op; /* NULL: a stray */
	bool last;
};

struct ring {
	struct ring_options options;
	struct script_op *ops; /* live, oldest first */
	struct script_op *ops_tail;
	uint64_t number, kinds_ever[SCRIPT_KIND_COUNT];
	uint32_t hold;
	struct script_entry *queue;
	size_t queue_head, queue_count, queue_capacity;
	struct script_file files[FILES_MAX];
	int32_t files_count;
	uint8_t *buffers;
	uint8_t *places; /* enum buffer_place */
	uint32_t buffers_out, buffers_allowed, buffer_at;
	uint32_t entries_left;
	bool entries_stuck, overflow;
	int enter_status;
	uint64_t waited_ns, waits;
	size_t send_max, slice_max;
	void (*on_wait)(void *context);
	void *on_wait_context;
};

static struct ring *ring_newest; /* whose poll a waker ends */
static int probe_status;
static bool probe_direct = true, probe_socket_cmd = true;
static int waker_status;
static int waker_next = 1000;
static uint64_t waker_wakes;

__attribute__((format(printf, 1, 2))) static _Noreturn void script_breach(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("scripted ring: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	abort();
}

static void *script_alloc(size_t bytes)
{
	void *block = calloc(1, bytes > 0 ? bytes : 1);

	if (block == NULL)
		script_breach("out of memory");
	return block;
}

static void bytes_add(struct script_bytes *to, const void *data, size_t bytes)
{
	if (bytes == 0)
		return;
	if (to->capacity - to->bytes < bytes) {
		to->capacity = 2 * (to->bytes + bytes);
		to->data = realloc(to->data, to->capacity);
		if (to->data == NULL)
			script_breach("out of memory");
	}
	memcpy(to->data + to->bytes, data, bytes);
	to->bytes += bytes;
}

/* ---- files ------------------------------------------------------------------------------- */

static struct script_file *file_get(const struct ring *ring, int32_t file)
{
	if (file < FILE_FIRST || file >= FILE_FIRST + ring->files_count)
		script_breach("file %d was never made", file);
	return (struct script_file *)&ring->files[file - FILE_FIRST];
}

int32_t script_file_create(struct ring *ring)
{
	struct script_file *file;

	if (ring->files_count == FILES_MAX)
		script_breach("more than %d files", FILES_MAX);
	file = &ring->files[ring->files_count++];
	memset(file, 0, sizeof(*file));
	file->peer = -1;
	return FILE_FIRST + ring->files_count - 1;
}

void script_pair(struct ring *ring, int32_t a, int32_t b)
{
	file_get(ring, a)->peer = b;
	file_get(ring, b)->peer = a;
}

void script_peer_data(struct ring *ring, int32_t file, const void *data, size_t bytes)
{
	bytes_add(&file_get(ring, file)->inbox, data, bytes);
}

void script_peer_end(struct ring *ring, int32_t file, int32_t error)
{
	file_get(ring, file)->cut = true;
	file_get(ring, file)->end = error;
}

bool script_is_closed(const struct ring *ring, int32_t file)
{
	return file_get(ring, file)->closed;
}

bool script_was_reset(const struct ring *ring, int32_t file)
{
	return file_get(ring, file)->reset;
}

const uint8_t *script_sent(const struct ring *ring, int32_t file, size_t *bytes)
{
	*bytes = file_get(ring, file)->sent.bytes;
	return file_get(ring, file)->sent.data;
}

void script_set_unsent(struct ring *ring, int32_t file, int32_t unsent)
{
	file_get(ring, file)->unsent = unsent;
}

uint32_t script_files_open(const struct ring *ring)
{
	uint32_t count = 0;

	for (int32_t i = 0; i < ring->files_count; i++)
		count += !ring->files[i].closed;
	return count;
}

int32_t script_file_newest(const struct ring *ring)
{
	return ring->files_count > 0 ? FILE_FIRST + ring->files_count - 1 : -1;
}

/* The other side of `file` sees our end. */
static void file_tell_peer(struct ring *ring, const struct script_file *file, int32_t error)
{
	if (file->peer >= 0 && !file_get(ring, file->peer)->cut)
		script_peer_end(ring, file->peer, error);
}

/* ---- operations in the list --------------------------------------------------------------- */

static bool op_is_on(const struct script_op *op, enum script_kind kind, int32_t file)
{
	return !op->answered && op->kind == kind && (file == SCRIPT_ANY_FILE || op->file == file);
}

struct script_op *script_find(const struct ring *ring, enum script_kind kind, int32_t file)
{
	for (struct script_op *op = ring->ops; op != NULL; op = op->next)
		if (op_is_on(op, kind, file))
			return op;
	return NULL;
}

struct script_op *script_find_data(const struct ring *ring, uint64_t user_data)
{
	for (struct script_op *op = ring->ops; op != NULL; op = op->next)
		if (!op->answered && op->user_data == user_data)
			return op;
	return NULL;
}

struct script_op *script_walk(const struct ring *ring, const struct script_op *after)
{
	struct script_op *op = after != NULL ? after->next : ring->ops;

	while (op != NULL && op->answered)
		op = op->next;
	return op;
}

uint32_t script_count(const struct ring *ring, enum script_kind kind, int32_t file)
{
	uint32_t count = 0;

	for (const struct script_op *op = ring->ops; op != NULL; op = op->next)
		count += op_is_on(op, kind, file);
	return count;
}

bool script_has_live(const struct ring *ring, uint32_t kinds, uint32_t slot, uint32_t generation)
{
	for (const struct script_op *op = ring->ops; op != NULL; op = op->next) {
		uint32_t kind = (uint32_t)(op->user_data >> 56);

		if (kind < 32 && (kinds & (1u << kind)) &&
			((op->user_data >> 32) & 0xffffffu) == slot &&
			(uint32_t)op->user_data == generation)
			return true;
	}
	return false;
}

uint64_t script_queued_ever(const struct ring *ring, enum script_kind kind)
{
	return ring->kinds_ever[kind];
}

uint64_t script_number(const struct ring *ring)
{
	return ring->number;
}

uint64_t script_waited_ns(const struct ring *ring)
{
	return ring->waited_ns;
}

uint64_t script_waits(const struct ring *ring)
{
	return ring->waits;
}

static void op_free(struct ring *ring, struct script_op *op)
{
	struct script_op **at = &ring->ops, *before = NULL;

	while (*at != op) {
		before = *at;
		at = &(*at)->next;
	}
	*at = op->next;
	if (ring->ops_tail == op)
		ring->ops_tail = before;
	free(op->copy);
	free(op);
}

static size_t op_gather(const struct script_op *op, uint8_t *out)
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

/* What the kernel may still read must be there and unchanged. */
static void op_check_source(const struct script_op *op)
{
	uint8_t *now;

	if (op->copy == NULL)
		return;
	now = script_alloc(op->bytes);
	if (op_gather(op, now) != op->bytes || memcmp(now, op->copy, op->bytes) != 0)
		script_breach("operation %d on file %d: its bytes changed while in flight",
			(int)op->kind, op->file);
	free(now);
}

static void op_complete(struct ring *ring, struct script_op *op, uint64_t user_data, int32_t result,
	bool more, int32_t buffer)
{
	struct script_entry *entry;

	if (op != NULL && op->answered)
		script_breach("operation %d answered twice", (int)op->kind);
	if (ring->queue_head + ring->queue_count == ring->queue_capacity) {
		size_t capacity = 2 * ring->queue_count + 64;
		struct script_entry *grown = script_alloc(capacity * sizeof(*grown));

		if (ring->queue_count > 0)
			memcpy(grown, ring->queue + ring->queue_head,
				ring->queue_count * sizeof(*grown));
		free(ring->queue);
		ring->queue = grown;
		ring->queue_head = 0;
		ring->queue_capacity = capacity;
	}
	entry = &ring->queue[ring->queue_head + ring->queue_count++];
	entry->completion = (struct ring_completion){
		.user_data = user_data,
		.result = result,
		.flags = more ? RING_MORE : 0,
		.buffer = buffer,
	};
	entry->op = op;
	entry->last = !more;
	if (op != NULL && !more) {
		op_check_source(op);
		op->answered = true;
	}
}

/* ---- answers ----------------------------------------------------------------------------- */

void script_hold(struct ring *ring, uint32_t kinds)
{
	ring->hold = kinds;
}

uint32_t script_held(const struct ring *ring)
{
	return ring->hold;
}

void script_answer(struct ring *ring, struct script_op *op, int32_t result)
{
	op_complete(ring, op, op->user_data, result, false, -1);
}

void script_answer_more(struct ring *ring, struct script_op *op, int32_t result)
{
	op_complete(ring, op, op->user_data, result, true, -1);
}

void script_end_silent(struct ring *ring, struct script_op *op)
{
	if (op->kind == SCRIPT_CLOSE)
		file_tell_peer(ring, file_get(ring, op->file), 0);
	op_free(ring, op);
}

void script_answer_sent(struct ring *ring, struct script_op *op, size_t bytes)
{
	struct script_file *file = file_get(ring, op->file);

	if (bytes > op->bytes)
		script_breach("a send of %zu bytes cannot have sent %zu", op->bytes, bytes);
	bytes_add(&file->sent, op->copy, bytes);
	if (file->peer >= 0)
		bytes_add(&file_get(ring, file->peer)->inbox, op->copy, bytes);
	script_answer(ring, op, (int32_t)bytes);
}

static int32_t buffer_take(struct ring *ring)
{
	uint32_t out = 0;

	for (uint32_t i = 0; i < ring->options.buffer_count; i++)
		out += ring->places[i] == BUFFER_OUT;
	if (out >= ring->buffers_allowed)
		return -1;
	for (uint32_t i = 0; i < ring->options.buffer_count; i++) {
		uint32_t buffer = (ring->buffer_at + i) % ring->options.buffer_count;

		if (ring->places[buffer] != BUFFER_KERNEL)
			continue;
		ring->places[buffer] = BUFFER_OUT;
		ring->buffer_at = buffer + 1;
		SCRIPT_UNPOISON(ring->buffers + (size_t)buffer * ring->options.buffer_bytes,
			ring->options.buffer_bytes);
		/* Counted out by ring_next, as with the kernel's ring. */
		return (int32_t)buffer;
	}
	return -1;
}

bool script_answer_data(
	struct ring *ring, struct script_op *op, const void *data, size_t bytes, bool more)
{
	int32_t buffer = buffer_take(ring);

	if (bytes > ring->options.buffer_bytes)
		script_breach("%zu bytes do not fit a buffer", bytes);
	if (buffer < 0) {
		script_answer(ring, op, -ENOBUFS);
		return false;
	}
	memcpy(ring->buffers + (size_t)buffer * ring->options.buffer_bytes, data, bytes);
	op_complete(ring, op, op->user_data, (int32_t)bytes, more, buffer);
	return true;
}

int32_t script_answer_accept(struct ring *ring, struct script_op *op, bool more)
{
	int32_t file = script_file_create(ring);

	op_complete(ring, op, op->user_data, file, more, -1);
	return file;
}

void script_stray(struct ring *ring, uint64_t user_data, int32_t result, bool with_buffer)
{
	op_complete(ring, NULL, user_data, result, false, with_buffer ? buffer_take(ring) : -1);
}

/* ---- the kernel at its best --------------------------------------------------------------- */

/* A cancel or a disconnect ends what is armed. */
static void op_end_by(struct ring *ring, struct script_op *op, int32_t error)
{
	if (!op->answered)
		script_answer(ring, op, error);
}

static void natural_cancel(struct ring *ring, struct script_op *op)
{
	for (struct script_op *other = ring->ops; other != NULL; other = other->next) {
		if (other->answered || other == op || other->user_data != op->target ||
			other->kind == SCRIPT_CANCEL)
			continue;
		op_end_by(ring, other, -ECANCELED);
		op_free(ring, op);
		return;
	}
	script_answer(ring, op, -ENOENT);
}

static void natural_disconnect(struct ring *ring, struct script_op *op)
{
	int32_t number = op->file;
	struct script_file *file = file_get(ring, number);

	file->reset = true;
	file_tell_peer(ring, file, -ECONNRESET);
	for (struct script_op *other = ring->ops; other != NULL; other = other->next) {
		if (other->answered || other->file != number)
			continue;
		if (other->kind == SCRIPT_RECV || other->kind == SCRIPT_CONNECT)
			op_end_by(ring, other, -ECONNRESET);
		else if (other->kind == SCRIPT_SEND)
			op_end_by(ring, other, -EPIPE);
	}
	op_free(ring, op);
}

static void natural_send(struct ring *ring, struct script_op *op)
{
	const struct script_file *file = file_get(ring, op->file);
	size_t bytes = op->bytes;

	if (file->end < 0 || file->reset ||
		(file->peer >= 0 && script_is_closed(ring, file->peer))) {
		script_answer(ring, op, file->end < 0 ? file->end : -EPIPE);
		return;
	}
	if (ring->send_max > 0 && bytes > ring->send_max)
		bytes = ring->send_max;
	script_answer_sent(ring, op, bytes);
}

void script_answer_natural(struct ring *ring, struct script_op *op)
{
	switch (op->kind) {
	case SCRIPT_SOCKET:
		script_answer(ring, op, script_file_create(ring));
		break;
	case SCRIPT_BIND:
	case SCRIPT_CONNECT:
	case SCRIPT_SHUTDOWN:
		if (op->kind == SCRIPT_SHUTDOWN)
			file_tell_peer(ring, file_get(ring, op->file), 0);
		script_answer(ring, op, 0);
		break;
	case SCRIPT_SEND:
		natural_send(ring, op);
		break;
	case SCRIPT_NAME: {
		struct sockaddr_in6 name = {.sin6_family = AF_INET6};

		name.sin6_addr = in6addr_loopback;
		name.sin6_port = htons((uint16_t)op->file);
		memcpy((void *)(uintptr_t)op->source, &name, sizeof(name));
		script_answer(ring, op, sizeof(name));
		break;
	}
	case SCRIPT_UNSENT:
		script_answer(ring, op, file_get(ring, op->file)->unsent);
		break;
	case SCRIPT_CANCEL:
		natural_cancel(ring, op);
		break;
	case SCRIPT_DISCONNECT:
		natural_disconnect(ring, op);
		break;
	case SCRIPT_OPTION:
	case SCRIPT_CLOSE:
		script_end_silent(ring, op);
		break;
	default:
		break; /* armed: something else ends them */
	}
}

/* Input for one armed receive. */
static void natural_receive(struct ring *ring, struct script_op *op)
{
	struct script_file *file = file_get(ring, op->file);
	size_t most = ring->options.buffer_bytes;

	if (ring->slice_max > 0 && ring->slice_max < most)
		most = ring->slice_max;
	while (file->inbox.at < file->inbox.bytes) {
		size_t bytes = file->inbox.bytes - file->inbox.at;

		if (bytes > most)
			bytes = most;
		if (!script_answer_data(ring, op, file->inbox.data + file->inbox.at, bytes, true))
			return;
		file->inbox.at += bytes;
	}
	if (file->cut)
		script_answer(ring, op, file->end);
}

/* Armed until something comes: nothing to answer. */
static bool is_waiting_kind(enum script_kind kind)
{
	return kind == SCRIPT_POLL || kind == SCRIPT_ACCEPT || kind == SCRIPT_RECV;
}

static void natural_all(struct ring *ring)
{
	uint64_t last = ring->number;
	struct script_op *op = ring->ops;

	/* Answers free operations, so after each one the walk begins again behind what was seen. */
	for (uint64_t seen = 0; op != NULL && op->number <= last;) {
		if (op->number <= seen || op->answered) {
			op = op->next;
			continue;
		}
		seen = op->number;
		op->submitted = true;
		if (ring->hold & (1u << op->kind) || is_waiting_kind(op->kind)) {
			op = op->next;
			continue;
		}
		script_answer_natural(ring, op);
		op = ring->ops;
	}
	if (ring->hold & (1u << SCRIPT_RECV))
		return;
	for (op = ring->ops; op != NULL; op = op->next)
		if (!op->answered && op->kind == SCRIPT_RECV)
			natural_receive(ring, op);
}

/* ---- ring.h: life ------------------------------------------------------------------------ */

int ring_probe(struct ring_features *features, char *why)
{
	memset(features, 0, sizeof(*features));
	if (probe_status < 0) {
		strcpy(why, "the script refuses");
		return probe_status;
	}
	features->direct = probe_direct;
	features->socket_cmd = probe_socket_cmd;
	features->bind = true;
	strcpy(features->text, "script yes\n");
	return 0;
}

void script_set_probe(int status, bool direct, bool socket_cmd)
{
	probe_status = status;
	probe_direct = direct;
	probe_socket_cmd = socket_cmd;
}

int ring_create(const struct ring_options *options, struct ring **out)
{
	size_t bytes = (size_t)options->buffer_count * options->buffer_bytes;
	struct ring *ring = memory_zalloc(sizeof(*ring));

	*out = NULL;
	if (ring == NULL)
		return -ENOMEM;
	ring->options = *options;
	ring->buffers = memory_map(bytes);
	if (ring->buffers == NULL) {
		memory_free(ring);
		return -ENOMEM;
	}
	ring->places = script_alloc(options->buffer_count); /* all BUFFER_KERNEL */
	ring->buffers_allowed = options->buffer_count;
	ring->entries_left = options->submit_entries;
	SCRIPT_POISON(ring->buffers, bytes);
	ring_newest = ring;
	*out = ring;
	return 0;
}

void ring_destroy(struct ring *ring)
{
	if (ring == NULL)
		return;
	if (script_files_open(ring) > 0)
		script_breach("%u files were never closed", script_files_open(ring));
	if (ring->buffers_out > 0)
		script_breach("%u buffers were never put back", ring->buffers_out);
	for (const struct script_op *op = ring->ops; op != NULL; op = op->next) {
		if (!op->submitted)
			script_breach("operation %d on file %d was never submitted", (int)op->kind,
				op->file);
		/* Those that are silent when they work may be under way. */
		if (op->kind != SCRIPT_POLL && op->kind != SCRIPT_OPTION &&
			op->kind != SCRIPT_CANCEL && op->kind != SCRIPT_DISCONNECT &&
			op->kind != SCRIPT_CLOSE)
			script_breach("operation %d on file %d outlives the ring", (int)op->kind,
				op->file);
	}
	while (ring->ops != NULL)
		op_free(ring, ring->ops);
	for (int32_t i = 0; i < ring->files_count; i++) {
		free(ring->files[i].sent.data);
		free(ring->files[i].inbox.data);
	}
	SCRIPT_UNPOISON(
		ring->buffers, (size_t)ring->options.buffer_count * ring->options.buffer_bytes);
	memory_unmap(ring->buffers, 0);
	free(ring->places);
	free(ring->queue);
	if (ring_newest == ring)
		ring_newest = NULL;
	memory_free(ring);
}

/* ---- ring.h: turn ------------------------------------------------------------------------ */

int ring_enter(struct ring *ring, uint32_t wait_count, uint64_t timeout_ns)
{
	if (ring->enter_status < 0)
		return ring->enter_status;
	for (uint32_t buffer = 0; buffer < ring->options.buffer_count; buffer++)
		if (ring->places[buffer] == BUFFER_PUT)
			ring->places[buffer] = BUFFER_KERNEL;
	if (!ring->entries_stuck)
		ring->entries_left = ring->options.submit_entries;
	natural_all(ring);
	ring->waited_ns = wait_count > 0 ? timeout_ns : 0;
	ring->waits += wait_count > 0;
	if (wait_count > 0 && ring->on_wait != NULL)
		ring->on_wait(ring->on_wait_context);
	return 0;
}

bool ring_next(struct ring *ring, struct ring_completion *completion)
{
	struct script_entry *entry;

	if (ring->queue_count == 0) {
		ring->queue_head = 0;
		return false;
	}
	entry = &ring->queue[ring->queue_head];
	*completion = entry->completion;
	if (entry->last && entry->op != NULL)
		op_free(ring, entry->op);
	if (completion->buffer >= 0)
		ring->buffers_out++;
	ring->queue_head++;
	ring->queue_count--;
	return true;
}

bool ring_overflowed(struct ring *ring)
{
	bool seen = ring->overflow;

	ring->overflow = false;
	return seen;
}

uint8_t *ring_buffer(struct ring *ring, uint32_t buffer)
{
	if (buffer >= ring->options.buffer_count || ring->places[buffer] != BUFFER_OUT)
		script_breach("buffer %u is not the engine's", buffer);
	return ring->buffers + (size_t)buffer * ring->options.buffer_bytes;
}

void ring_buffer_put(struct ring *ring, uint32_t buffer)
{
	uint8_t *data = ring_buffer(ring, buffer);

	memset(data, 0xa5, ring->options.buffer_bytes);
	SCRIPT_POISON(data, ring->options.buffer_bytes);
	ring->places[buffer] = BUFFER_PUT;
	ring->buffers_out--;
}

uint32_t ring_buffers_out(const struct ring *ring)
{
	return ring->buffers_out;
}

/* ---- ring.h: operations ------------------------------------------------------------------- */

static struct script_op *op_queue(
	struct ring *ring, enum script_kind kind, int32_t file, uint64_t user_data)
{
	bool ends = kind == SCRIPT_CANCEL || kind == SCRIPT_DISCONNECT || kind == SCRIPT_SHUTDOWN ||
		kind == SCRIPT_CLOSE || kind == SCRIPT_UNSENT;
	bool has_file = kind != SCRIPT_POLL && kind != SCRIPT_ACCEPT && kind != SCRIPT_SOCKET &&
		kind != SCRIPT_CANCEL;
	struct script_op *op;

	if (ring->entries_left <= (ends ? 0 : RING_RESERVE)) {
		if (ring->entries_stuck)
			return NULL;
		ring->entries_left = ring->options.submit_entries;
	}
	if (has_file && file_get(ring, file)->closed)
		script_breach("operation %d on file %d after its close", (int)kind, file);
	if ((kind == SCRIPT_RECV || kind == SCRIPT_SEND) && script_find(ring, kind, file) != NULL)
		script_breach("a second operation %d on file %d", (int)kind, file);
	if (kind == SCRIPT_ACCEPT && script_find(ring, kind, file) != NULL)
		script_breach("listener %d is armed twice", file);
	/* The kernel's worker looks for the descriptor when the shutdown's turn comes. */
	if (kind == SCRIPT_CLOSE && script_find(ring, SCRIPT_SHUTDOWN, file) != NULL)
		script_breach("file %d is closed under its shutdown", file);
	if (kind == SCRIPT_CLOSE)
		file_get(ring, file)->closed = true;
	ring->entries_left--;
	op = script_alloc(sizeof(*op));
	op->kind = kind;
	op->file = file;
	op->user_data = user_data;
	op->number = ++ring->number;
	ring->kinds_ever[kind]++;
	if (ring->ops_tail != NULL && ring->ops != NULL)
		ring->ops_tail->next = op;
	else
		ring->ops = op;
	ring->ops_tail = op;
	return op;
}

/* Keep what it points at, to compare later. */
static void op_points_at(struct script_op *op, const void *source, size_t bytes)
{
	op->source = source;
	op->bytes = bytes;
	op->copy = script_alloc(bytes);
	(void)op_gather(op, op->copy);
}

bool ring_poll_arm(struct ring *ring, int fd, uint64_t user_data)
{
	return op_queue(ring, SCRIPT_POLL, fd, user_data) != NULL;
}

bool ring_accept_arm(struct ring *ring, int listen_fd, uint64_t user_data)
{
	return op_queue(ring, SCRIPT_ACCEPT, listen_fd, user_data) != NULL;
}

bool ring_socket(struct ring *ring, int family, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_SOCKET, -1, user_data);

	if (op == NULL)
		return false;
	op->family = family;
	return true;
}

bool ring_option(
	struct ring *ring, int32_t file, int level, int name, const int *value, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_OPTION, file, user_data);

	if (op == NULL)
		return false;
	op->level = level;
	op->option = name;
	op->source = value;
	return true;
}

bool ring_bind(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_BIND, file, user_data);

	if (op == NULL)
		return false;
	op_points_at(op, address, address_bytes);
	return true;
}

bool ring_connect(struct ring *ring, int32_t file, const struct sockaddr *address,
	socklen_t address_bytes, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_CONNECT, file, user_data);

	if (op == NULL)
		return false;
	op_points_at(op, address, address_bytes);
	return true;
}

bool ring_recv_arm(struct ring *ring, int32_t file, bool poll_first, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_RECV, file, user_data);

	if (op == NULL)
		return false;
	op->poll_first = poll_first;
	return true;
}

bool ring_send(struct ring *ring, int32_t file, const void *data, size_t bytes, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_SEND, file, user_data);

	if (op == NULL)
		return false;
	if (bytes == 0)
		script_breach("a send of nothing on file %d", file);
	op_points_at(op, data, bytes);
	return true;
}

bool ring_sendmsg(struct ring *ring, int32_t file, const struct msghdr *message, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_SEND, file, user_data);
	size_t bytes = 0;

	if (op == NULL)
		return false;
	for (size_t i = 0; i < message->msg_iovlen; i++)
		bytes += message->msg_iov[i].iov_len;
	if (bytes == 0)
		script_breach("a send of nothing on file %d", file);
	op->is_message = true;
	op_points_at(op, message, bytes);
	return true;
}

bool ring_peer_name(
	struct ring *ring, int32_t file, struct sockaddr_storage *name, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_NAME, file, user_data);

	if (op == NULL)
		return false;
	op->source = name;
	return true;
}

bool ring_unsent(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, SCRIPT_UNSENT, file, user_data) != NULL;
}

bool ring_cancel(struct ring *ring, uint64_t target, uint64_t user_data)
{
	struct script_op *op = op_queue(ring, SCRIPT_CANCEL, -1, user_data);

	if (op == NULL)
		return false;
	op->target = target;
	return true;
}

bool ring_disconnect(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, SCRIPT_DISCONNECT, file, user_data) != NULL;
}

bool ring_shutdown(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, SCRIPT_SHUTDOWN, file, user_data) != NULL;
}

bool ring_close(struct ring *ring, int32_t file, uint64_t user_data)
{
	return op_queue(ring, SCRIPT_CLOSE, file, user_data) != NULL;
}

/* ---- wakers ------------------------------------------------------------------------------ */

int waker_create(void)
{
	return waker_status < 0 ? waker_status : waker_next++;
}

void waker_wake(int waker)
{
	struct script_op *op =
		ring_newest != NULL ? script_find(ring_newest, SCRIPT_POLL, waker) : NULL;

	waker_wakes++;
	if (op != NULL && op->submitted)
		script_answer_more(ring_newest, op, 1);
}

void script_set_waker_status(int status)
{
	waker_status = status;
}

uint64_t script_wakes(void)
{
	return waker_wakes;
}

/* ---- shortage and trouble ----------------------------------------------------------------- */

void script_set_send_max(struct ring *ring, size_t bytes)
{
	ring->send_max = bytes;
}

void script_set_slice_max(struct ring *ring, size_t bytes)
{
	ring->slice_max = bytes;
}

void script_set_entries(struct ring *ring, uint32_t left, bool stuck)
{
	ring->entries_left = left;
	ring->entries_stuck = stuck;
}

void script_set_buffers(struct ring *ring, uint32_t count)
{
	ring->buffers_allowed = count;
}

void script_set_overflow(struct ring *ring)
{
	ring->overflow = true;
}

void script_set_enter_status(struct ring *ring, int status)
{
	ring->enter_status = status;
}

void script_set_on_wait(struct ring *ring, void (*on_wait)(void *context), void *context)
{
	ring->on_wait = on_wait;
	ring->on_wait_context = context;
}
