/*
 * The shard loop. One turn: enter (submit, wait if nothing is to be done) -> mail -> completions, decoded
 * into per-connection input -> work -> handshakes -> timers -> the starved -> at most one send per
 * connection -> closes. Two passes over input, so that one TLS read and one send serve a whole batch.
 *
 * Sleeping is allowed only when no list holds work; the protocol is the mailbox's.
 */
#include "engine/shard.h"

#include "engine/admission.h"
#include "engine/check.h"
#include "engine/clock.h"
#include "engine/hub.h"
#include "engine/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RING_SUBMIT_ENTRIES 1024u
#define HANDSHAKE_SAVED_NS 100000000
#define HANDSHAKE_SINCE_NS 10000000000ull /* even one percent of it is all that is saved */
#define UNARMED_WAIT_NS 1000000u

static _Thread_local struct shard *shard_of_thread;

struct shard *shard_self(void)
{
	return shard_of_thread;
}

void shard_self_set(struct shard *shard)
{
	shard_of_thread = shard;
}

/* ---- lists ------------------------------------------------------------------------------ */

void shard_list_add(struct shard *shard, enum conn_list kind, struct conn *conn)
{
	struct list *list = &shard->lists[kind];

	if (conn->lists & (1u << kind))
		return;
	conn->lists |= (uint8_t)(1u << kind);
	conn->next[kind] = LIST_END;
	if (list->tail != LIST_END)
		shard->conns[list->tail].next[kind] = conn->slot_index;
	else
		list->head = conn->slot_index;
	list->tail = conn->slot_index;
	list->count++;
	if (kind == LIST_BLOCKED && !timer_is_armed(&shard->retry_timer))
		timer_arm(&shard->timers, &shard->retry_timer,
			shard->now_ns + SHARD_BLOCKED_RETRY_NS);
}

static struct conn *shard_list_take(struct shard *shard, enum conn_list kind)
{
	struct list *list = &shard->lists[kind];
	struct conn *conn;

	if (list->head == LIST_END)
		return NULL;
	conn = &shard->conns[list->head];
	list->head = conn->next[kind];
	if (list->head == LIST_END)
		list->tail = LIST_END;
	list->count--;
	conn->lists &= (uint8_t) ~(1u << kind);
	return conn;
}

/*
 * The list of hellos: strangers whose first bytes wait. Nothing has been spent on them. It is left from the
 * middle by who leaves HANDSHAKE, so that a place in it never outlives its connection.
 */
void shard_hello_add(struct shard *shard, struct conn *conn)
{
	struct list *list = &shard->hellos;

	if (conn->is_hello)
		return;
	conn->is_hello = true;
	conn->hello.before = list->tail;
	conn->hello.next = LIST_END;
	if (list->tail != LIST_END)
		shard->conns[list->tail].hello.next = conn->slot_index;
	else
		list->head = conn->slot_index;
	list->tail = conn->slot_index;
	list->count++;
}

void shard_hello_remove(struct shard *shard, struct conn *conn)
{
	struct list *list = &shard->hellos;
	uint32_t before = conn->hello.before, next = conn->hello.next;

	if (!conn->is_hello)
		return;
	conn->is_hello = false;
	conn->time_open_ns = 0; /* it was links */
	if (before != LIST_END)
		shard->conns[before].hello.next = next;
	else
		list->head = next;
	if (next != LIST_END)
		shard->conns[next].hello.before = before;
	else
		list->tail = before;
	list->count--;
}

/* ---- life ------------------------------------------------------------------------------- */

static void shard_on_stop(struct shard *shard, struct command *command);
static void shard_on_release(struct shard *shard, struct command *command);

int shard_create(struct ph_hub *hub, uint32_t index, struct shard **out)
{
	const struct ph_options *options = &hub->options;
	struct shard *shard = memory_zalloc(sizeof(*shard));
	int status = -ENOMEM;

	*out = NULL;
	if (shard == NULL)
		return -ENOMEM;
	shard->hub = hub;
	shard->index = index;
	shard->slot_count = options->connections_per_shard;
	shard->buffer_count = options->receive_buffer_count;
	shard->stop_command.run = shard_on_stop;
	shard->release_command.run = shard_on_release;
	for (int kind = 0; kind < LIST_COUNT; kind++)
		shard->lists[kind].head = shard->lists[kind].tail = LIST_END;
	shard->hellos.head = shard->hellos.tail = LIST_END;
	for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
		shard->listeners[i].index = i;
		shard->listeners[i].fd = -1;
	}
	shard->conns = memory_map(shard->slot_count * sizeof(*shard->conns));
	shard->colds = memory_map(shard->slot_count * sizeof(*shard->colds));
	shard->ends = memory_map(shard->slot_count * sizeof(*shard->ends));
	shard->holds = memory_map(shard->slot_count * sizeof(*shard->holds));
	shard->notes = memory_map(shard->buffer_count * sizeof(*shard->notes));
	shard->refused_max = shard->slot_count + SHARD_FILES_SPARE;
	shard->refused = memory_map(shard->refused_max * sizeof(*shard->refused));
	if (shard->conns == NULL || shard->colds == NULL || shard->ends == NULL ||
		shard->holds == NULL || shard->notes == NULL || shard->refused == NULL)
		goto undo_maps;
	status = hash_create(shard->slot_count, &shard->hash);
	if (status < 0)
		goto undo_maps;
	status = history_create(options->receipts_per_shard, &shard->history);
	if (status < 0)
		goto undo_hash;
	status = home_take(shard->slot_count, &shard->home);
	if (status < 0)
		goto undo_history;
	shard->slots = shard->home->table.slots;
	shard->home->conns = shard->conns;
	shard->home->shard = shard;
	shard->home->send_queue_bytes = options->send_queue_bytes;
	shard->home->counts_send = limits_is_on(shard->hub->limits, PH_LIMIT_SEND_TOTAL);
	shard->slots_usable = slot_table_fill(&shard->home->table, shard->slot_count);
	*out = shard;
	return 0;

undo_history:
	history_destroy(shard->history);
undo_hash:
	hash_destroy(shard->hash);
undo_maps:
	memory_unmap(shard->conns, shard->slot_count * sizeof(*shard->conns));
	memory_unmap(shard->colds, shard->slot_count * sizeof(*shard->colds));
	memory_unmap(shard->ends, shard->slot_count * sizeof(*shard->ends));
	memory_unmap(shard->holds, shard->slot_count * sizeof(*shard->holds));
	memory_unmap(shard->notes, shard->buffer_count * sizeof(*shard->notes));
	memory_unmap(shard->refused, shard->refused_max * sizeof(*shard->refused));
	memory_free(shard);
	return status;
}

void shard_destroy(struct shard *shard)
{
	if (shard == NULL)
		return;
	/* A shard that never ran still has its slots in the free queue: nobody may find them there. */
	while (slot_take(&shard->home->table) >= 0)
		;
	home_give_back(shard->home);
	history_destroy(shard->history);
	hash_destroy(shard->hash);
	memory_unmap(shard->conns, shard->slot_count * sizeof(*shard->conns));
	memory_unmap(shard->colds, shard->slot_count * sizeof(*shard->colds));
	memory_unmap(shard->ends, shard->slot_count * sizeof(*shard->ends));
	memory_unmap(shard->holds, shard->slot_count * sizeof(*shard->holds));
	memory_unmap(shard->notes, shard->buffer_count * sizeof(*shard->notes));
	memory_unmap(shard->refused, shard->refused_max * sizeof(*shard->refused));
	memory_free(shard);
}

int shard_begin(struct shard *shard)
{
	const struct ph_options *options = &shard->hub->options;
	struct ring_options ring_options = {
		.submit_entries = RING_SUBMIT_ENTRIES,
		.complete_entries = RING_SUBMIT_ENTRIES * 2,
		.file_count = shard->refused_max,
		.buffer_count = options->receive_buffer_count,
		.buffer_bytes = options->receive_buffer_bytes,
		.direct = shard->hub->features.direct,
	};
	int status;

	/* An overflow of the completion queue ends multishots early (they are armed again), so it should
	 * hold every data completion: one per provided buffer, and a send for each of those. */
	while (ring_options.complete_entries < options->receive_buffer_count * 4)
		ring_options.complete_entries *= 2;
	shard_self_set(shard);
	shard->now_ns = clock_now_ns();
	timer_wheel_init(&shard->timers, shard->now_ns);
	status = ring_create(&ring_options, &shard->ring);
	if (status < 0)
		return status;
	status = tls_shard_create(&conn_tls_events, shard->hub->options.flags, &shard->tls);
	if (status < 0) {
		ring_destroy(shard->ring);
		shard->ring = NULL;
	}
	return status;
}

void shard_end(struct shard *shard)
{
	struct send_block *block;

	timer_cancel(&shard->timers, &shard->retry_timer);
	while (shard->jobs != NULL)
		spread_job_end(shard, shard->jobs);
	assert(!mailbox_has_mail(&shard->home->mailbox));
	/* The last closes may have been queued in the last turn: without this a normal descriptor of
	 * theirs would stay open. */
	(void)ring_enter(shard->ring, RING_NO_WAIT, 0);
	ring_destroy(shard->ring);
	shard->ring = NULL;
	tls_shard_destroy(shard->tls);
	shard->tls = NULL;
	while ((block = shard->blocks) != NULL) {
		shard->blocks = block->next;
		memory_free(block);
	}
	shard_self_set(NULL);
}

/* ---- mail ------------------------------------------------------------------------------- */

void shard_post(struct home *home, struct command *command)
{
	mailbox_post(&home->mailbox, &command->link);
}

void shard_post_slot(struct home *home, struct slot *slot)
{
	mailbox_post(&home->mailbox, &slot->link);
}

/* A mailbox holds the links of our own slots and of commands; the address tells them apart. */
static bool link_is_slot(const struct shard *shard, const struct ck_stack_entry *link)
{
	uintptr_t at = (uintptr_t)link, begin = (uintptr_t)shard->slots;

	return at >= begin && at < begin + shard->slot_count * sizeof(struct slot);
}

static void shard_on_slot_mail(struct shard *shard, struct slot *slot)
{
	uint32_t index = (uint32_t)(slot - shard->slots);
	struct conn *conn = &shard->conns[index];
	uint64_t word = slot_take_mail(slot);

	if (word & SLOT_DIAL) {
		conn_init(conn, shard, index, slot_word_generation(word));
		atomic_fetch_add_explicit(&shard->live, 1, memory_order_relaxed);
	}
	if (conn->shard != NULL)
		conn_on_mail(conn, word);
}

static void shard_drain_mail(struct shard *shard)
{
	struct ck_stack_entry *link;

	for (uint32_t i = 0; i < SHARD_MAIL_PER_TURN; i++) {
		link = mailbox_take(&shard->home->mailbox);
		if (link == NULL)
			return;
		SHARD_COUNT(
			shard, mail_posted); /* by the taker: a poster would share a line for it */
		if (link_is_slot(shard, link)) {
			shard_on_slot_mail(shard,
				(struct slot *)(void *)((char *)link -
					offsetof(struct slot, link)));
		} else {
			struct command *command = (struct command *)(void *)((char *)link -
				offsetof(struct command, link));

			command->run(shard, command);
		}
	}
}

/* ---- listeners -------------------------------------------------------------------------- */

static void listener_gone(struct shard *shard, struct listener *listener)
{
	close(listener->fd);
	listener->fd = -1;
	listener->used = false;
	hub_listener_gone(shard->hub, listener->index);
}

void shard_listener_arm(struct shard *shard, struct listener *listener)
{
	if (!listener->used || listener->armed || listener->ending || shard->accept_paused)
		return;
	if (!ring_accept_arm(shard->ring, listener->fd,
		    op_data(OP_ACCEPT, listener->index, listener->generation))) {
		SHARD_COUNT(shard, sq_full);
		shard->accept_paused = true; /* the retry timer takes it up */
		if (!timer_is_armed(&shard->retry_timer))
			timer_arm(&shard->timers, &shard->retry_timer,
				shard->now_ns + SHARD_BLOCKED_RETRY_NS);
		return;
	}
	listener->armed = true;
}

static void listeners_retry_later(struct shard *shard)
{
	if (!timer_is_armed(&shard->retry_timer))
		timer_arm(&shard->timers, &shard->retry_timer,
			shard->now_ns + SHARD_BLOCKED_RETRY_NS);
}

static void listener_cancel(struct shard *shard, struct listener *listener)
{
	if (!listener->used || !listener->armed)
		return;
	if (!ring_cancel(shard->ring, op_data(OP_ACCEPT, listener->index, listener->generation),
		    op_data(OP_CANCEL, 0xffffffu, 0)))
		listeners_retry_later(shard);
}

/* A small table keeps a share of it free, or nobody would ever be let in. */
static uint32_t accept_reserve(const struct shard *shard)
{
	uint32_t share = shard->slots_usable / 4;

	return share < SHARD_SLOTS_RESERVE ? share : SHARD_SLOTS_RESERVE;
}

static bool accept_has_room(const struct shard *shard)
{
	return shard->handshakes < shard->hub->options.handshakes_per_shard &&
		slot_free_count(&shard->home->table) > accept_reserve(shard);
}

/* Pause accepting before the tables are full: the kernel would accept, find no room, and close the
 * stranger's connection. The backlog keeps them instead; whom the kernel accepts before it hears of the
 * pause we keep (shard_hold). One accept may bring a whole backlog: then there are more handshakes than
 * handshakes_per_shard, for nobody is refused whom a slot can hold. */
void shard_accept_update(struct shard *shard)
{
	uint32_t handshakes_max = shard->hub->options.handshakes_per_shard;
	uint32_t handshakes_low = handshakes_max - (handshakes_max + 3) / 4;
	uint32_t free_count = slot_free_count(&shard->home->table);
	uint32_t reserve = accept_reserve(shard);

	if (!shard->accept_paused) {
		if (accept_has_room(shard))
			return;
		shard->accept_paused = true;
		SHARD_COUNT(shard, accept_paused);
		for (uint32_t i = 0; i < LISTENERS_MAX; i++)
			listener_cancel(shard, &shard->listeners[i]);
		return;
	}
	if (shard->handshakes > handshakes_low || free_count <= reserve ||
		free_count < 2 * reserve || shard->held_count > 0 ||
		timer_is_armed(&shard->retry_timer))
		return;
	shard->accept_paused = false;
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		shard_listener_arm(shard, &shard->listeners[i]);
}

static bool refused_close(struct shard *shard, int32_t file)
{
	return ring_close(shard->ring, file, op_data(OP_CLOSE, 0xffffffu, 0));
}

/* No place for this one. Its close is kept for later when the ring has no entry left. */
static void shard_refuse(struct shard *shard, int32_t file)
{
	SHARD_COUNT(shard, accept_errors);
	if (refused_close(shard, file))
		return;
	SHARD_COUNT(shard, sq_full);
	if (shard->refused_count < shard->refused_max)
		shard->refused[shard->refused_count++] = file;
	else
		close(file); /* a normal descriptor: of direct ones there are no more than that */
}

static void shard_refused_retry(struct shard *shard)
{
	while (shard->refused_count > 0 &&
		refused_close(shard, shard->refused[shard->refused_count - 1]))
		shard->refused_count--;
}

static void shard_let_in(struct shard *shard, struct listener *listener, int32_t file)
{
	int64_t index = slot_take(&shard->home->table);
	struct slot *slot;
	uint32_t generation;

	if (index < 0) {
		shard_refuse(shard, file); /* other threads' ph_open were quicker */
		return;
	}
	slot = &shard->slots[index];
	generation = slot_open(slot, listener->options.tag,
		listener->options.framing == PH_FRAMING_RAW ? SLOT_RAW : 0, false);
	atomic_fetch_add_explicit(&shard->live, 1, memory_order_relaxed);
	conn_init(&shard->conns[index], shard, (uint32_t)index, generation);
	conn_accept(&shard->conns[index], listener, file);
}

static void shard_held_next_in(struct shard *shard)
{
	struct held held = shard->held[shard->held_at];

	shard->held_at = (shard->held_at + 1) % SHARD_HELD_MAX;
	shard->held_count--;
	shard_let_in(shard, &shard->listeners[held.listener], held.file);
}

/* When the queue is full the oldest is let in without room for handshakes; without a slot the last is refused. */
static void shard_hold(struct shard *shard, const struct listener *listener, int32_t file)
{
	struct held *held;

	if (shard->held_count == SHARD_HELD_MAX) {
		if (slot_free_count(&shard->home->table) == 0) {
			shard_refuse(shard, file);
			return;
		}
		shard_held_next_in(shard);
	}
	held = &shard->held[(shard->held_at + shard->held_count++) % SHARD_HELD_MAX];
	*held = (struct held){file, listener->index, listener->generation};
}

static void shard_accept(struct shard *shard, struct listener *listener, int32_t file)
{
	/* Where all slots are retired nobody's turn will come. */
	if (shard->stopping || listener->ending || shard->slots_usable == 0)
		shard_refuse(shard, file);
	else if (shard->held_count > 0 || !accept_has_room(shard))
		shard_hold(shard, listener, file);
	else
		shard_let_in(shard, listener, file);
}

/* There may be room again: the oldest first, then the backlog. */
static void shard_held_let_in(struct shard *shard)
{
	if (shard->held_count == 0)
		return;
	while (shard->held_count > 0 && accept_has_room(shard))
		shard_held_next_in(shard);
	shard_accept_update(shard);
}

/* Their listener ends: those behind it go with it, as the backlog does. */
static void shard_held_refuse(struct shard *shard, const struct listener *listener)
{
	for (uint32_t left = shard->held_count; left > 0; left--) {
		struct held held = shard->held[shard->held_at];

		shard->held_at = (shard->held_at + 1) % SHARD_HELD_MAX;
		shard->held_count--;
		if (held.listener == listener->index && held.generation == listener->generation)
			shard_refuse(shard, held.file);
		else
			shard->held[(shard->held_at + shard->held_count++) % SHARD_HELD_MAX] = held;
	}
}

static void shard_on_accept(struct shard *shard, const struct ring_completion *done)
{
	uint32_t index = (uint32_t)(done->user_data >> 32) & 0xffffffu;
	struct listener *listener = &shard->listeners[index];

	assert(index < LISTENERS_MAX && listener->used);
	assert(listener->generation == (uint32_t)done->user_data);
	if (done->result >= 0) {
		shard_accept(shard, listener, done->result);
	} else if (done->result != -ECANCELED) {
		SHARD_COUNT(shard, accept_errors);
		if (!(done->flags & RING_MORE)) {
			/* No room, or an error that may stay: not a busy loop, a look every 100 ms. */
			shard->accept_paused = true;
			timer_arm(&shard->timers, &shard->retry_timer,
				shard->now_ns + SHARD_BLOCKED_RETRY_NS);
		}
	}
	if (done->flags & RING_MORE) {
		shard_accept_update(shard);
		return;
	}
	listener->armed = false;
	if (listener->ending) {
		listener_gone(shard, listener);
		return;
	}
	shard_accept_update(shard);
	shard_listener_arm(shard, listener);
}

/* Stop accepting and give the socket back, at once or when its accept has ended. */
void shard_listener_end(struct shard *shard, struct listener *listener)
{
	if (!listener->used)
		return; /* the hub's stop was first */
	listener->ending = true;
	shard_held_refuse(shard, listener);
	if (listener->armed)
		listener_cancel(shard, listener);
	else
		listener_gone(shard, listener);
}

/* A cancel that found no submission entry, or failed, is asked for again. */
static void listeners_retry(struct shard *shard)
{
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		if (shard->listeners[i].ending || shard->accept_paused)
			listener_cancel(shard, &shard->listeners[i]);
}

/* ---- completions ------------------------------------------------------------------------ */

static void shard_on_completion(struct shard *shard, const struct ring_completion *done)
{
	enum op_kind kind = (enum op_kind)(done->user_data >> 56);
	uint32_t index = (uint32_t)(done->user_data >> 32) & 0xffffffu;
	struct conn *conn;

	if (kind == OP_WAKE) {
		if (!(done->flags & RING_MORE))
			shard->wake_armed = false;
		return;
	}
	if (kind == OP_ACCEPT) {
		shard_on_accept(shard, done);
		return;
	}
	if (kind == OP_CANCEL && done->result == -ENOENT)
		SHARD_COUNT(shard, cancel_none);
	else if (kind == OP_CANCEL && done->result == -EALREADY)
		SHARD_COUNT(shard, cancel_already);
	if (index >= shard->slot_count) {
		/* A silent one of the shard's own has failed. When that was the cancel of an accept, and the
		 * accept is still armed, the end of its listener would wait for ever. */
		if (kind == OP_CANCEL)
			listeners_retry_later(shard);
		return;
	}
	conn = &shard->conns[index];
	if (conn->generation != (uint32_t)done->user_data || conn->state == CONN_FREE) {
		/* Of another life of this slot: only silent operations can be so late. */
		assert(kind >= OP_COUNTED);
		SHARD_COUNT(shard, completions_stale);
		return;
	}
	conn_on_completion(conn, kind, done);
}

/*
 * How far back silence is silence. A turn that got few completions has got all that there were when it
 * entered the kernel. After one that got many there may be more, handed over bit by bit, in order: before
 * all have had their turn no more than SHARD_HEARD_EACH for each connection; and what accepts bring, of
 * which there is no such bound, so they are counted only to tell few from many.
 */
static void shard_heard(struct shard *shard, uint32_t count, uint32_t accepts)
{
	if (count < SHARD_HEARD_BATCH) {
		shard->heard_ns = shard->entered_ns;
		shard->unheard_ns = 0;
	} else if (shard->unheard_ns == 0) {
		shard->unheard_ns = shard->entered_ns;
		shard->unheard_count = SHARD_HEARD_EACH * shard->slot_count;
	} else if (count - accepts < shard->unheard_count) {
		shard->unheard_count -= count - accepts;
	} else {
		shard->heard_ns = shard->unheard_ns;
		shard->unheard_ns = 0;
	}
}

static void shard_decode(struct shard *shard)
{
	struct ring_completion done;
	uint32_t count = 0, accepts = 0;

	while (ring_next(shard->ring, &done)) {
		count++;
		accepts += done.user_data >> 56 == OP_ACCEPT;
		shard_on_completion(shard, &done);
	}
	shard_count(shard, COUNTER_completions, count);
	shard_heard(shard, count, accepts);
	if (ring_overflowed(shard->ring))
		SHARD_COUNT(shard, cq_overflows);
}

/* ---- passes over the lists --------------------------------------------------------------- */

static void shard_pass(struct shard *shard, enum conn_list kind, uint32_t count_max,
	void (*visit)(struct conn *conn))
{
	/* Only what is there now: what a visit adds waits for the next turn. */
	uint32_t count = shard->lists[kind].count;
	struct conn *conn;

	if (count > count_max)
		count = count_max;
	while (count-- > 0 && (conn = shard_list_take(shard, kind)) != NULL)
		if (conn->state != CONN_FREE)
			visit(conn);
}

static bool shard_has_handshakes(const struct shard *shard)
{
	return shard->lists[LIST_HANDSHAKE].count > 0 || shard->hellos.count > 0;
}

/* Percent of the time; 0: no limit. */
static uint64_t handshake_share(const struct shard *shard)
{
	uint64_t share = limits_value(shard->hub->limits, PH_LIMIT_HANDSHAKE_SHARE);

	return share < 100 ? share : 0;
}

/* A debt is paid off by the share of the time alone, however seldom it is looked at. */
int64_t shard_handshake_credit(int64_t credit_ns, uint64_t since_ns, uint64_t share)
{
	if (since_ns > HANDSHAKE_SINCE_NS)
		since_ns = HANDSHAKE_SINCE_NS;
	credit_ns += (int64_t)(since_ns * share / 100);
	return credit_ns < HANDSHAKE_SAVED_NS ? credit_ns : HANDSHAKE_SAVED_NS;
}

static bool shard_may_handshake(struct shard *shard)
{
	uint64_t share = handshake_share(shard);
	uint64_t since_ns = shard->now_ns - shard->handshake_seen_ns;

	if (share == 0)
		return true;
	shard->handshake_seen_ns = shard->now_ns;
	shard->handshake_credit_ns =
		shard_handshake_credit(shard->handshake_credit_ns, since_ns, share);
	return shard->handshake_credit_ns > 0;
}

/* How long none may be gone on with. */
static uint64_t shard_handshakes_wait_ns(const struct shard *shard)
{
	uint64_t share = handshake_share(shard);

	if (share == 0 || shard->handshake_credit_ns > 0)
		return 0;
	return (uint64_t)(1 - shard->handshake_credit_ns) * 100 / share;
}

/*
 * Handshakes under way go first, in order: work was spent on them. But who trickles bytes into many of them
 * must not keep strangers out: every eighth step is theirs. Of strangers the oldest is next; when so many
 * wait that the oldest will have given up, the newest is, who has waited least.
 */
static void shard_handshake_step(struct shard *shard)
{
	const struct list *hellos = &shard->hellos;
	bool is_under_way = shard->lists[LIST_HANDSHAKE].count > 0;
	struct conn *conn;

	if (hellos->count == 0 ||
		(is_under_way && ++shard->steps_under_way < SHARD_STRANGERS_SHARE)) {
		shard_pass(shard, LIST_HANDSHAKE, 1, conn_handshake);
		return;
	}
	shard->steps_under_way = 0;
	conn = &shard->conns[hellos->count > SHARD_HELLOS_IN_ORDER ? hellos->tail : hellos->head];
	shard_hello_remove(shard, conn);
	conn_handshake(conn);
}

/*
 * What the open connections have to say leaves before a step that they would wait for; an enter that
 * fails is tried again by the turn's own.
 */
static void shard_handshakes(struct shard *shard)
{
	bool has_output = shard->lists[LIST_FLUSH].count > 0;
	uint64_t begun_ns, spent_ns;

	if (!shard_has_handshakes(shard) || !shard_may_handshake(shard))
		return;
	shard_pass(shard, LIST_FLUSH, UINT32_MAX, conn_flush);
	if (has_output)
		(void)ring_enter(shard->ring, RING_NO_WAIT, 0);
	begun_ns = handshake_share(shard) != 0 ? clock_now_ns() : 0;
	for (uint32_t step = 0; step < SHARD_HANDSHAKES_PER_TURN; step++)
		shard_handshake_step(shard);
	if (begun_ns == 0)
		return;
	/* No step takes so long: the rest of it the machine was away, and nobody is to pay for that. */
	spent_ns = clock_now_ns() - begun_ns;
	shard->handshake_credit_ns -=
		spent_ns < HANDSHAKE_SAVED_NS ? (int64_t)spent_ns : HANDSHAKE_SAVED_NS;
}

/* Enough buffers are back for those who wait for them. */
static bool shard_may_feed(const struct shard *shard)
{
	return shard->lists[LIST_STARVED].count > 0 &&
		ring_buffers_out(shard->ring) <= shard->buffer_count / 2;
}

static void conn_rearm_starved(struct conn *conn)
{
	bool armed = conn->ops[OP_RECV] > 0;

	/* Waits for data first: see recv_starved there. Who is paused or has input enough is armed by what ends
	 * that, now that it is not on the list any more. */
	conn_recv_arm(conn);
	if (!armed && conn->ops[OP_RECV] > 0)
		SHARD_COUNT(conn->shard, receive_rearmed);
}

static void shard_on_timer(void *context, struct timer *timer)
{
	struct shard *shard = context;

	if (timer == &shard->retry_timer) {
		shard_pass(shard, LIST_BLOCKED, UINT32_MAX, conn_unblock);
		shard_accept_update(shard); /* a pause that is over is not asked for again */
		listeners_retry(shard);
		return;
	}
	for (struct spread_job *job = shard->jobs; job != NULL; job = job->next) {
		if (timer == &job->timer) {
			spread_job_run(shard, job);
			return;
		}
	}
	conn_on_timer((struct conn *)(void *)((char *)timer - offsetof(struct conn, timer)));
}

static bool shard_may_step(const struct shard *shard)
{
	return shard_has_handshakes(shard) && shard_handshakes_wait_ns(shard) == 0;
}

static bool shard_is_idle(const struct shard *shard)
{
	return shard->lists[LIST_WORK].count == 0 && !shard_may_step(shard) &&
		shard->lists[LIST_FLUSH].count == 0 && shard->lists[LIST_CLOSE].count == 0 &&
		shard->refused_count == 0 && !shard_may_feed(shard);
}

static void shard_wait(struct shard *shard, bool may_wait)
{
	uint64_t next_ns = timer_next_ns(&shard->timers);
	uint64_t timeout_ns = RING_FOREVER, now_ns = clock_now_ns();
	int status;

	if (!shard->wake_armed)
		shard->wake_armed = ring_poll_arm(
			shard->ring, shard->home->mailbox.waker, op_data(OP_WAKE, 0, 0));
	SHARD_COUNT(shard, enters);
	if (next_ns != UINT64_MAX)
		timeout_ns = next_ns > now_ns ? next_ns - now_ns : 0;
	if (shard_has_handshakes(shard) && timeout_ns > shard_handshakes_wait_ns(shard))
		timeout_ns = shard_handshakes_wait_ns(shard);
	if (!shard->wake_armed && timeout_ns > UNARMED_WAIT_NS)
		timeout_ns = UNARMED_WAIT_NS;
	if (!may_wait || timeout_ns == 0 || !shard_is_idle(shard) ||
		!mailbox_sleep(&shard->home->mailbox)) {
		status = ring_enter(shard->ring, RING_NO_WAIT, 0);
	} else {
		status = ring_enter(shard->ring, 1, timeout_ns);
		mailbox_awake(&shard->home->mailbox);
	}
	if (status < 0)
		SHARD_COUNT(shard, transport_errors);
	else
		shard->entered_ns = now_ns;
}

/* What it was, halved for each second since. */
uint64_t shard_lag_ns(const struct shard *shard)
{
	uint64_t seconds = (shard->now_ns - shard->lag_seen_ns) / 1000000000u;

	return seconds < 64 ? shard->lag_ns >> seconds : 0;
}

static void shard_lag_update(struct shard *shard, uint64_t now_ns, uint64_t spent_ns)
{
	if (spent_ns < shard_lag_ns(shard))
		return;
	shard->lag_ns = spent_ns;
	shard->lag_seen_ns = now_ns;
}

void shard_turn(struct shard *shard, bool may_wait)
{
	uint64_t begun_ns, spent_ns;

	shard_wait(shard, may_wait);
	begun_ns = clock_now_ns();
	shard->now_ns = begun_ns;
	SHARD_COUNT(shard, turns);
	shard_drain_mail(shard);
	shard_decode(shard);
	shard_pass(shard, LIST_WORK, UINT32_MAX, conn_work);
	shard_handshakes(shard);
	(void)timer_run(
		&shard->timers, shard->now_ns, SHARD_TIMERS_PER_TURN, shard_on_timer, shard);
	if (shard_may_feed(shard))
		shard_pass(shard, LIST_STARVED, UINT32_MAX, conn_rearm_starved);
	shard_pass(shard, LIST_FLUSH, UINT32_MAX, conn_flush);
	shard_pass(shard, LIST_CLOSE, SHARD_CLOSES_PER_TURN, conn_close_queue);
	shard_held_let_in(shard);
	shard_refused_retry(shard);
	spent_ns = clock_now_ns() - begun_ns;
	shard_lag_update(shard, begun_ns, spent_ns);
	if (spent_ns >
		atomic_load_explicit(&shard->counters[COUNTER_loop_ns_max], memory_order_relaxed))
		atomic_store_explicit(
			&shard->counters[COUNTER_loop_ns_max], spent_ns, memory_order_relaxed);
}

/* ---- the end of a connection, and of the shard -------------------------------------------- */

void shard_slot_done(struct shard *shard, struct conn *conn)
{
	atomic_fetch_sub_explicit(&shard->live, 1, memory_order_relaxed);
	if (!slot_put(&shard->home->table, conn->slot_index)) {
		SHARD_COUNT(shard, slots_retired);
		shard->slots_usable--;
	}
	if (shard->accept_paused)
		shard_accept_update(shard);
}

static void shard_on_stop(struct shard *shard, struct command *command)
{
	uint32_t generation;

	(void)command;
	shard->stopping = true;
	for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
		struct listener *listener = &shard->listeners[i];

		if (listener->used)
			shard_listener_end(shard, listener);
	}
	for (uint32_t index = 0; index < shard->slot_count; index++) {
		struct slot *slot = &shard->slots[index];
		uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);

		if (slot_word_state(word) == SLOT_FREE)
			continue;
		generation = slot_word_generation(word);
		(void)hub_close(shard->home, index, generation,
			atomic_load_explicit(&slot->tag, memory_order_relaxed), shard->stop_how,
			PH_REASON_LOCAL_STOP, NULL);
	}
}

static void shard_on_release(struct shard *shard, struct command *command)
{
	(void)command;
	shard->released = true;
}

bool shard_is_done(struct shard *shard)
{
	if (!shard->stopping)
		return false;
	/* Take the free slots out for good: when all are here nobody can open one any more. */
	while (slot_take(&shard->home->table) >= 0)
		shard->stop_taken++;
	if (shard->stop_taken < shard->slots_usable || shard->refused_count > 0)
		return false;
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		if (shard->listeners[i].used)
			return false;
	return !mailbox_has_mail(&shard->home->mailbox);
}

/* Words and counters only: safe from any thread while the shard runs. */
void shard_dump(struct shard *shard, FILE *out)
{
	static const char *const names[] = {
#define COUNTER_NAME(name) #name,
		PH_COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
	};
	uint32_t shown = 0;

	fprintf(out, "shard %u home %u live %" PRIu64 " open %" PRIu64 " free %u sleeping %d\n",
		shard->index, shard->home->index,
		atomic_load_explicit(&shard->live, memory_order_relaxed),
		atomic_load_explicit(&shard->open, memory_order_relaxed),
		slot_free_count(&shard->home->table),
		atomic_load_explicit(&shard->home->mailbox.sleeping, memory_order_relaxed));
	for (int i = 0; i < COUNTER_COUNT; i++) {
		uint64_t value = atomic_load_explicit(&shard->counters[i], memory_order_relaxed);

		if (value > 0)
			fprintf(out, "  %s %" PRIu64 "\n", names[i], value);
	}
	for (uint32_t index = 0; index < shard->slot_count && shown < 64; index++) {
		uint64_t word =
			atomic_load_explicit(&shard->slots[index].word, memory_order_relaxed);

		if (slot_word_state(word) == SLOT_FREE)
			continue;
		fprintf(out,
			"  slot %u generation %u state %d senders %u%s%s%s%s tag %" PRIx64 "\n",
			index, slot_word_generation(word), (int)slot_word_state(word),
			slot_word_senders(word), (word & SLOT_DIAL) ? " dial" : "",
			(word & SLOT_CLOSE) ? " close" : "", (word & SLOT_ABORT) ? " abort" : "",
			(word & SLOT_MAILED) ? " mailed" : "",
			atomic_load_explicit(&shard->slots[index].tag, memory_order_relaxed));
		shown++;
	}
}
