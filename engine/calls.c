/*
 * The public calls that work on ids: open, send, close, pause, find, snapshots. Any thread; what is
 * shared is the slot word (slot.h) and the mailbox. Nobody here touches a conn but its constant part,
 * and that only from inside (a sender counted, or a pin).
 */
#include "engine/check.h"
#include "engine/clock.h"
#include "engine/digest.h"
#include "engine/hub.h"
#include "engine/memory.h"
#include "engine/slow.h"
#include "engine/stack.h"
#include "engine/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- open ------------------------------------------------------------------------------- */

int ph_open(struct ph_hub *hub, const struct ph_open_options *options, uint64_t *id)
{
	struct conn_setup *setup;
	uint32_t first, generation;
	int status;

	if (hub == NULL || options == NULL || id == NULL)
		return -EINVAL;
	if (atomic_load(&hub->stopping) || hub_tag_has_ended(hub, options->tag))
		return -ESHUTDOWN;
	if (options->local_address.sin6_family != 0 && !hub->features.bind)
		return -EOPNOTSUPP;
	status = conn_setup_create(options, &setup);
	if (status < 0)
		return status;
	first = atomic_fetch_add_explicit(&hub->shard_next, 1, memory_order_relaxed);
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		struct shard *shard = hub->shards[(first + i) % hub->shard_count];
		int64_t index = slot_take(&shard->home->table);
		struct slot *slot;

		if (index < 0)
			continue;
		slot = &shard->slots[index];
		/* The owner looks at setup only after the mail below. */
		shard->conns[index].setup = setup;
		generation = slot_word_generation(
			atomic_load_explicit(&slot->word, memory_order_relaxed));
		if (generation == 0)
			generation = 1;
		*id = slot_id(shard->home->index, (uint32_t)index, generation);
		(void)slot_open(slot, options->tag,
			options->framing == PH_FRAMING_RAW ? SLOT_RAW : 0, true);
		shard_post_slot(shard->home, slot);
		return 0;
	}
	conn_setup_destroy(setup);
	return -EMFILE;
}

/* ---- send ------------------------------------------------------------------------------- */

/* Take `weight` of the connection's budget. A message over the whole budget is let in alone. */
static bool budget_take(struct slot *slot, uint32_t budget, uint32_t weight)
{
	uint32_t queued = atomic_load(&slot->queued_bytes);

	for (;;) {
		do {
			if (queued != 0 && (weight > budget || queued > budget - weight))
				break;
			if (atomic_compare_exchange_weak(
				    &slot->queued_bytes, &queued, queued + weight))
				return true;
		} while (true);
		/* Full: one on_writable is owed. Either the owner, which subtracts and then looks at the flag, sees
		 * it, or we see here what it subtracted. Bytes that are still in our way it has yet to subtract.
		 * With room the flag stays all the same: it may be another sender's by now, whose on_writable
		 * must not get lost (so one may come that nobody waits for). */
		atomic_fetch_or(&slot->flags, SLOT_WANT_WRITABLE);
		queued = atomic_load(&slot->queued_bytes);
		if (queued != 0 && (weight > budget || queued > budget - weight))
			return false;
	}
}

/* Full. Where the oldest are dropped a queue may be over its budget by as much again, until its owner makes room.
 * From inside. */
static bool queue_overdraw(struct home *home, struct slot *slot, uint32_t budget, uint32_t weight)
{
	if (!slow_drops(home->shard->hub) ||
		(atomic_load_explicit(&slot->flags, memory_order_relaxed) & SLOT_RAW) ||
		!budget_take(slot, 2 * budget, weight))
		return false;
	(void)slow_mark(slot);
	return true;
}

static inline bool queue_take(struct home *home, struct slot *slot, uint32_t weight)
{
	uint32_t budget = atomic_load_explicit(&home->send_queue_bytes, memory_order_relaxed);

	return budget_take(slot, budget, weight) || queue_overdraw(home, slot, budget, weight);
}

/* The hub's budgets first: their being undone wakes nobody, and nobody waits for them. From inside. */
static int budgets_take_counted(struct home *home, struct slot *slot, uint32_t weight)
{
	struct limits *limits = home->shard->hub->limits;
	enum ph_limit refused;

	if (!limits_take_bytes(limits, weight, &refused)) {
		limits_refused(limits, refused, clock_now_ns(), NULL);
		return -ENOMEM;
	}
	if (queue_take(home, slot, weight))
		return 0;
	limits_give_bytes(limits, weight);
	return -EAGAIN;
}

static inline int budgets_take(struct home *home, struct slot *slot, uint32_t weight)
{
	if (home->counts_send)
		return budgets_take_counted(home, slot, weight);
	return queue_take(home, slot, weight) ? 0 : -EAGAIN;
}

/* The queue was full: the owner is to know. From inside; true: leave with mail. */
static bool is_news(const struct home *home, struct slot *slot)
{
	return slow_is_watched(home->shard->hub) && slow_mark(slot);
}

static struct chunk *chunk_fill(const uint8_t *type, const struct ph_part *parts,
	uint32_t part_count, size_t bytes, bool raw)
{
	size_t head = raw ? 0 : WIRE_PT2PT_BYTES;
	struct chunk *chunk = chunk_create(head + bytes);

	if (chunk == NULL)
		return NULL;
	if (!raw)
		wire_pt2pt_head_write(chunk->data, type, (uint32_t)bytes);
	chunk->bytes = (uint32_t)head;
	for (uint32_t i = 0; i < part_count; i++) {
		if (parts[i].bytes == 0)
			continue;
		memcpy(chunk->data + chunk->bytes, parts[i].data, parts[i].bytes);
		chunk->bytes += (uint32_t)parts[i].bytes;
	}
	chunk->weight = chunk->bytes;
	return chunk;
}

static int parts_measure(const struct ph_part *parts, uint32_t part_count, size_t *bytes)
{
	size_t sum = 0;

	if (part_count > PH_PARTS_MAX || (part_count > 0 && parts == NULL))
		return -EINVAL;
	for (uint32_t i = 0; i < part_count; i++) {
		if (parts[i].bytes > 0 && parts[i].data == NULL)
			return -EINVAL;
		if (parts[i].bytes > PH_MESSAGE_BYTES_MAX)
			return -EMSGSIZE;
		sum += parts[i].bytes;
	}
	if (sum > PH_MESSAGE_BYTES_MAX)
		return -EMSGSIZE;
	*bytes = sum;
	return 0;
}

static void slot_count_queued(struct slot *slot, uint32_t weight)
{
	atomic_fetch_add_explicit(&slot->bytes_queued, weight, memory_order_relaxed);
	atomic_fetch_add_explicit(&slot->messages_queued, 1, memory_order_relaxed);
}

/* By mail, also from the owner's own thread: not from inside the user's call. */
static void tell_owner(struct home *home, struct slot *slot, uint64_t id, uint64_t tag)
{
	if (slot_send_enter(slot, slot_id_generation(id), tag) && slot_send_leave(slot))
		shard_post_slot(home, slot);
}

/* On the owning shard nobody can free the connection under us: no counting in, no mail. What other
 * threads pushed before goes first. */
static int send_as_owner(
	struct home *home, struct slot *slot, uint64_t id, uint64_t tag, struct chunk *chunk)
{
	struct conn *conn = &home->conns[slot_id_slot(id)];
	int status;

	if (!slot_is_open(slot, slot_id_generation(id)) ||
		atomic_load_explicit(&slot->tag, memory_order_relaxed) != tag)
		return -ENOENT;
	status = budgets_take(home, slot, chunk->weight);
	if (status == -EAGAIN) {
		SHARD_COUNT(conn->shard, sends_would_block);
		if (is_news(home, slot))
			tell_owner(home, slot, id, tag);
	}
	if (status < 0)
		return status;
	slot_count_queued(slot, chunk->weight);
	slot_take_chunks(slot, &conn->out);
	chain_push(&conn->out, chunk);
	conn_flush_later(conn);
	if (slow_drops(home->shard->hub) &&
		(atomic_load_explicit(&slot->flags, memory_order_relaxed) & SLOT_SLOW))
		tell_owner(home, slot, id, tag); /* there may be something to drop */
	return 0;
}

static int send_from_outside(
	struct home *home, struct slot *slot, uint64_t id, uint64_t tag, struct chunk *chunk)
{
	int status;

	if (!slot_send_enter(slot, slot_id_generation(id), tag))
		return -ENOENT;
	status = budgets_take(home, slot, chunk->weight);
	if (status < 0) {
		bool is_mail = status == -EAGAIN && is_news(home, slot);

		if (is_mail ? slot_send_leave(slot) : slot_unpin(slot))
			shard_post_slot(home, slot);
		return status;
	}
	slot_count_queued(slot, chunk->weight);
	stack_push(&slot->chunks, &chunk->entry);
	if (slot_send_leave(slot))
		shard_post_slot(home, slot);
	return 0;
}

int ph_send(uint64_t id, uint64_t tag, const uint8_t *type, const struct ph_part *parts,
	uint32_t part_count)
{
	struct home *home = home_of(id);
	struct slot *slot;
	struct chunk *chunk;
	size_t bytes;
	bool raw;
	int status = parts_measure(parts, part_count, &bytes);

	if (status < 0)
		return status;
	if (home == NULL)
		return -ENOENT;
	slot = &home->table.slots[slot_id_slot(id)];
	/* Cheap refusal before the copy; what counts is decided again below. */
	if (!slot_is_open(slot, slot_id_generation(id)) ||
		atomic_load_explicit(&slot->tag, memory_order_relaxed) != tag)
		return -ENOENT;
	raw = (atomic_load_explicit(&slot->flags, memory_order_relaxed) & SLOT_RAW) != 0;
	if (!raw && type == NULL)
		return -EINVAL;
	if (raw && bytes == 0)
		return 0;
	chunk = chunk_fill(type, parts, part_count, bytes, raw);
	if (chunk == NULL)
		return -ENOMEM;
	if (shard_self() != NULL && shard_self()->home == home)
		status = send_as_owner(home, slot, id, tag, chunk);
	else
		status = send_from_outside(home, slot, id, tag, chunk);
	if (status < 0)
		chunk_destroy(chunk);
	return status;
}

/* ---- notice ----------------------------------------------------------------------------- */

/* One more notice of this connection; inside its slot. */
static bool notice_count(struct slot *slot)
{
	uint32_t flags = atomic_load(&slot->flags);

	do {
		if (flags / SLOT_NOTICE_ONE >= PH_NOTICES_MAX)
			return false;
	} while (!atomic_compare_exchange_weak(&slot->flags, &flags, flags + SLOT_NOTICE_ONE));
	return true;
}

int ph_notice(uint64_t id, uint64_t tag, uint32_t reason, uint32_t retry_after_ms, const char *text)
{
	struct wire_notice notice = {
		.code = reason, .retry_after_ms = retry_after_ms, .text = text};
	struct home *home = home_of(id);
	struct chunk *chunk;
	struct slot *slot;
	ssize_t bytes;

	if (home == NULL)
		return -ENOENT;
	slot = &home->table.slots[slot_id_slot(id)];
	notice.text_bytes = text != NULL ? (uint32_t)strnlen(text, PH_TEXT_BYTES_MAX) : 0;
	chunk = chunk_create(WIRE_NOTICE_BYTES + PH_TEXT_BYTES_MAX);
	if (chunk == NULL)
		return -ENOMEM;
	bytes = wire_notice_write(chunk->data, chunk->capacity, &notice);
	assert(bytes > 0);
	chunk->bytes = (uint32_t)bytes; /* its weight is 0: a control message */
	if (!slot_send_enter(slot, slot_id_generation(id), tag)) {
		chunk_destroy(chunk);
		return -ENOENT;
	}
	if ((atomic_load(&slot->flags) & SLOT_RAW) != 0 || !notice_count(slot)) {
		int status = (atomic_load(&slot->flags) & SLOT_RAW) != 0 ? -EOPNOTSUPP : -EAGAIN;

		chunk_destroy(chunk);
		if (slot_unpin(slot))
			shard_post_slot(home, slot);
		return status;
	}
	stack_push(&slot->chunks, &chunk->entry);
	if (slot_send_leave(slot))
		shard_post_slot(home, slot);
	return 0;
}

/* ---- pause ------------------------------------------------------------------------------ */

static int pause_set(uint64_t id, uint64_t tag, bool paused)
{
	struct home *home = home_of(id);
	struct slot *slot;

	if (home == NULL)
		return -ENOENT;
	slot = &home->table.slots[slot_id_slot(id)];
	if (!slot_send_enter(slot, slot_id_generation(id), tag))
		return -ENOENT;
	if (paused)
		atomic_fetch_or(&slot->flags, SLOT_PAUSED);
	else
		atomic_fetch_and(&slot->flags, ~SLOT_PAUSED);
	if (slot_send_leave(slot))
		shard_post_slot(home, slot);
	return 0;
}

int ph_pause(uint64_t id, uint64_t tag)
{
	return pause_set(id, tag, true);
}

int ph_resume(uint64_t id, uint64_t tag)
{
	return pause_set(id, tag, false);
}

/* ---- close ------------------------------------------------------------------------------ */

static int close_plain(
	struct home *home, struct slot *slot, uint32_t generation, uint64_t tag, enum ph_how how)
{
	switch (slot_close(slot, generation, tag, how == PH_ABORT)) {
	case SLOT_DONE:
		return 0;
	case SLOT_PUSH:
		shard_post_slot(home, slot);
		return 0;
	case SLOT_UPGRADED_PUSH:
		shard_post_slot(home, slot);
		return -EALREADY;
	case SLOT_UPGRADED:
		return -EALREADY;
	default:
		return -ENOENT;
	}
}

/* The winner is inside: it writes its reason, then leaves like a sender. */
static int close_reasoned(struct home *home, uint32_t slot_index, uint32_t generation, uint64_t tag,
	enum ph_how how, uint32_t reason, const char *text)
{
	struct slot *slot = &home->table.slots[slot_index];
	struct conn_cold *cold;
	size_t bytes;

	switch (slot_close_enter(slot, generation, tag, how == PH_ABORT)) {
	case SLOT_UPGRADED_PUSH:
		shard_post_slot(home, slot);
		return -EALREADY;
	case SLOT_UPGRADED:
		return -EALREADY;
	case SLOT_NOT_FOUND:
		return -ENOENT;
	default:
		break;
	}
	cold = &home->shard->colds[slot_index];
	if (reason == 0)
		reason = how == PH_ABORT ? PH_REASON_LOCAL_ABORT : PH_REASON_LOCAL_CLOSE;
	cold->close_reason = reason;
	bytes = text != NULL ? strnlen(text, PH_TEXT_BYTES_MAX) : 0;
	/* A character that the limit would cut in two goes as a whole. */
	if (bytes == PH_TEXT_BYTES_MAX)
		while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80)
			bytes--;
	if (bytes > 0)
		memcpy(cold->close_text, text, bytes);
	cold->close_text[bytes] = '\0';
	cold->close_reason_given = true;
	if (slot_send_leave(slot))
		shard_post_slot(home, slot);
	return 0;
}

int hub_close(struct home *home, uint32_t slot_index, uint32_t generation, uint64_t tag,
	enum ph_how how, uint32_t reason, const char *text)
{
	if (reason == 0 && (text == NULL || text[0] == '\0'))
		return close_plain(home, &home->table.slots[slot_index], generation, tag, how);
	return close_reasoned(home, slot_index, generation, tag, how, reason, text);
}

int ph_close(uint64_t id, uint64_t tag, enum ph_how how, uint32_t reason, const char *text)
{
	struct home *home = home_of(id);

	if (home == NULL)
		return -ENOENT;
	return hub_close(home, slot_id_slot(id), slot_id_generation(id), tag, how, reason, text);
}

/* ---- find ------------------------------------------------------------------------------- */

static bool id_is_open(uint64_t id)
{
	struct home *home = home_of(id);

	return home != NULL &&
		slot_is_open(&home->table.slots[slot_id_slot(id)], slot_id_generation(id));
}

uint32_t ph_find(
	struct ph_hub *hub, const char *group, const char *identity, uint64_t *ids, uint32_t id_max)
{
	struct hash_key key;
	uint32_t count = 0;

	if (group == NULL || identity == NULL)
		return 0;
	key = digest_pair(group, identity);
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		uint32_t room = count < id_max ? id_max - count : 0;

		count += hash_find(
			hub->shards[i]->hash, key, id_is_open, room > 0 ? ids + count : NULL, room);
	}
	return count;
}

/* ---- snapshots -------------------------------------------------------------------------- */

/* From inside a pin: all that is read is constant while the connection is open, or atomic. */
static void connection_read(
	const struct shard *shard, uint32_t index, uint64_t word, struct ph_connection *out)
{
	const struct slot *slot = &shard->slots[index];
	const struct conn *conn = &shard->conns[index];
	const char *identity = conn->names->text + conn->names->identity_offset;

	memset(out, 0, sizeof(*out));
	out->id = slot_id(shard->home->index, index, slot_word_generation(word));
	out->tag = atomic_load_explicit(&slot->tag, memory_order_relaxed);
	out->kind = (enum ph_kind)conn->kind;
	out->accepted = conn->accepted;
	out->shard = shard->index;
	out->node_id = conn->node_id;
	out->time_open_ns = conn->time_open_ns;
	out->time_active_ns = atomic_load_explicit(&conn->time_active_ns, memory_order_relaxed);
	out->bytes_sent = atomic_load_explicit(&conn->bytes_sent, memory_order_relaxed);
	out->bytes_received = atomic_load_explicit(&conn->bytes_received, memory_order_relaxed);
	out->queue_bytes = atomic_load_explicit(&slot->queued_bytes, memory_order_relaxed);
	out->peer_address = conn->peer_address;
	strncpy(out->group, conn->names->text, sizeof(out->group) - 1);
	strncpy(out->identity, identity, sizeof(out->identity) - 1);
}

static bool subnet_has(const ph_address *subnet, uint32_t bits, const ph_address *address)
{
	const uint8_t *a = subnet->sin6_addr.s6_addr, *b = address->sin6_addr.s6_addr;

	if (bits > 128)
		bits = 128;
	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8)) == 0;
}

static uint64_t ms_between(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? (to_ns - from_ns) / 1000000u : 0;
}

static bool filter_has(
	const struct ph_filter *filter, const struct ph_connection *connection, uint64_t now_ns)
{
	if (filter == NULL)
		return true;
	if (filter->has_tag && filter->tag != connection->tag)
		return false;
	if (filter->group != NULL && strcmp(filter->group, connection->group) != 0)
		return false;
	if (filter->identity != NULL && strcmp(filter->identity, connection->identity) != 0)
		return false;
	if (filter->has_subnet &&
		!subnet_has(&filter->subnet, filter->subnet_bits, &connection->peer_address))
		return false;
	return ms_between(connection->time_open_ns, now_ns) >= filter->age_ms_min &&
		ms_between(connection->time_active_ns, now_ns) >= filter->idle_ms_min;
}

uint64_t ph_connections(struct ph_hub *hub, const struct ph_filter *filter,
	int (*visit)(void *context, const struct ph_connection *connection), void *context)
{
	uint64_t now_ns = clock_now_ns(), count = 0;
	struct ph_connection connection;

	for (uint32_t i = 0; i < hub->shard_count; i++) {
		struct shard *shard = hub->shards[i];

		for (uint32_t index = 0; index < shard->slot_count; index++) {
			struct slot *slot = &shard->slots[index];
			uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);

			if (slot_word_state(word) != SLOT_OPEN ||
				!slot_pin(slot, slot_word_generation(word)))
				continue;
			connection_read(shard, index, word, &connection);
			if (slot_unpin(slot))
				shard_post_slot(shard->home, slot);
			if (!filter_has(filter, &connection, now_ns))
				continue;
			count++;
			if (visit != NULL && visit(context, &connection) != 0)
				return count;
		}
	}
	return count;
}

/* ---- close where ------------------------------------------------------------------------ */

struct close_where {
	enum ph_how how;
	uint32_t reason;
	struct ph_hub *hub;
	struct spread_job *job; /* NULL: close at once */
	bool no_memory;
};

/* Closes that are spread over a time: a list of ids that one shard's timer works off. */
struct spread_id {
	uint64_t id, tag;
};

static struct spread_job *spread_job_create(void)
{
	return memory_zalloc(sizeof(struct spread_job));
}

static void spread_job_destroy(struct spread_job *job)
{
	if (job == NULL)
		return;
	memory_free(job->ids);
	memory_free(job);
}

static int spread_job_add(struct spread_job *job, uint64_t id, uint64_t tag)
{
	if (job->count == job->capacity) {
		size_t capacity = job->capacity > 0 ? job->capacity * 2 : 256;
		struct spread_id *grown = memory_realloc(job->ids, capacity * sizeof(*job->ids));

		if (grown == NULL)
			return -ENOMEM;
		job->ids = grown;
		job->capacity = capacity;
	}
	job->ids[job->count++] = (struct spread_id){.id = id, .tag = tag};
	return 0;
}

/* The k-th of n closes is due at k/n of the time. */
void spread_job_run(struct shard *shard, struct spread_job *job)
{
	uint64_t passed_ns = shard->now_ns - job->begin_ns;
	size_t due = job->count;

	if (passed_ns < job->spread_ns)
		due = (size_t)((double)job->count * (double)passed_ns / (double)job->spread_ns);
	for (; job->at < due; job->at++)
		(void)ph_close(
			job->ids[job->at].id, job->ids[job->at].tag, job->how, job->reason, NULL);
	if (job->at < job->count) {
		timer_arm(&shard->timers, &job->timer,
			job->begin_ns +
				(uint64_t)((double)(job->at + 1) * (double)job->spread_ns /
					(double)job->count));
		return;
	}
	spread_job_end(shard, job);
}

void spread_job_end(struct shard *shard, struct spread_job *job)
{
	struct spread_job **at = &shard->jobs;

	timer_cancel(&shard->timers, &job->timer);
	while (*at != NULL && *at != job)
		at = &(*at)->next;
	if (*at == job)
		*at = job->next;
	spread_job_destroy(job);
}

static void spread_job_begin(struct shard *shard, struct command *command)
{
	struct spread_job *job = (struct spread_job *)(void *)command;

	job->next = shard->jobs;
	shard->jobs = job;
	job->begin_ns = shard->now_ns;
	spread_job_run(shard, job);
}

static int close_where_visit(void *context, const struct ph_connection *connection)
{
	struct close_where *where = context;

	if (where->job == NULL) {
		(void)ph_close(connection->id, connection->tag, where->how, where->reason, NULL);
		return 0;
	}
	if (spread_job_add(where->job, connection->id, connection->tag) < 0) {
		where->no_memory = true;
		return 1;
	}
	return 0;
}

int64_t ph_close_where(struct ph_hub *hub, const struct ph_filter *filter, enum ph_how how,
	uint32_t reason, int dry_run, uint32_t spread_ms)
{
	struct close_where where = {.how = how, .reason = reason, .hub = hub};
	uint64_t count;

	if (dry_run)
		return (int64_t)ph_connections(hub, filter, NULL, NULL);
	if (spread_ms > 0) {
		where.job = spread_job_create();
		if (where.job == NULL)
			return -ENOMEM;
	}
	count = ph_connections(hub, filter, close_where_visit, &where);
	if (where.job == NULL)
		return (int64_t)count;
	if (where.no_memory || where.job->count == 0) {
		spread_job_destroy(where.job);
		return where.no_memory ? -ENOMEM : 0;
	}
	where.job->command.run = spread_job_begin;
	where.job->how = how;
	where.job->reason = reason;
	where.job->spread_ns = (uint64_t)spread_ms * 1000000u;
	shard_post(hub->shards[0]->home, &where.job->command);
	return (int64_t)count;
}
