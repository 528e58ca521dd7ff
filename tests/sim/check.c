/*
 * The rules of design that can be seen from outside while the engine runs: of slot words and mailboxes after
 * every step, of a shard's own tables between its turns, of the whole world when it rests.
 *
 *   every step    a generation only grows, by one, and only to FREE; within one: the state only moves on,
 *                 CLOSE, ABORT and UPGRADED stay once set, ABORT and UPGRADED come with CLOSE; a FREE word
 *                 is nothing but a generation; never more senders inside than threads; a link in the mailbox
 *                 has its MAILED bit
 *   every turn    operations that a connection counts are the ring's; every provided buffer that is
 *                 out waits at exactly one connection; lists, live, open and handshakes add up; what is
 *                 hashed is open, and the other way round
 *   at rest       nobody sleeps over mail, chunks, senders or work; who reads has a receive armed or
 *                 waits for buffers that are really out; what has bytes to send sends, and what has none has
 *                 its whole budget back and owes no on_writable; a lookup finds all open connections of
 *                 a pair and no other; an ending that has sent all has said goodbye; a listener that ends
 *                 has its accept cancelled, or will have; and a shard with nothing to do does rest
 */
#include "tests/sim/app.h"

#include "engine/digest.h"
#include "engine/hash.h"
#include "engine/hub.h"
#include "engine/limits.h"
#include "engine/shard.h"
#include "tests/sim/net.h"
#include "tests/sim/ring_sim.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_SEEN_MAX 64u

static uint64_t seen[SLOT_HOMES_MAX]
		    [SLOTS_SEEN_MAX]; /* the word of each slot after the last step */

static uint64_t closed_seen; /* net_sockets_closed then */

static uint64_t word_now(const struct slot *slot)
{
	return __atomic_load_n((const uint64_t *)(const void *)&slot->word, __ATOMIC_RELAXED);
}

static uint64_t load64(const _Atomic uint64_t *at)
{
	return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
}

static uint32_t load32(const _Atomic uint32_t *at)
{
	return __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED);
}

static struct home *home_number(uint32_t index)
{
	return home_of(slot_id(index, 0, 1));
}

/* ---- slot words -------------------------------------------------------------------------------- */

static _Noreturn void word_breach(uint32_t home, uint32_t index, uint64_t before, uint64_t now)
{
	breach("slot %u of home %u: its word went from %llx to %llx", index, home,
		(unsigned long long)before, (unsigned long long)now);
}

static void word_check(const struct home *home, uint32_t index, uint64_t before, uint64_t now)
{
	const uint64_t sticky = SLOT_CLOSE | SLOT_ABORT | SLOT_UPGRADED_BIT;
	uint32_t generation = slot_word_generation(now), last = slot_word_generation(before);
	enum slot_state state = slot_word_state(now);

	if (slot_word_senders(now) > fiber_count() || state > SLOT_ENDING)
		word_breach(home->index, index, before, now);
	if ((now & (SLOT_ABORT | SLOT_UPGRADED_BIT)) && !(now & SLOT_CLOSE) &&
		!(generation == 0 && now == SLOT_ABORT))
		word_breach(home->index, index, before, now);
	if (state == SLOT_FREE && generation != 0 && (uint32_t)now != 0)
		word_breach(home->index, index, before, now);
	if (generation == last) {
		if (state < slot_word_state(before) || (before & sticky & ~now) != 0)
			word_breach(home->index, index, before, now);
		if ((now & SLOT_DIAL) && !(now & SLOT_MAILED))
			word_breach(home->index, index, before, now);
		return;
	}
	if (generation == last + 1 || (last == 0 && generation <= 1))
		return;
	/* More than one step may lie between two looks: a life, and as many more as sockets were closed, where a
	 * shard that nobody interrupts lets one held stranger in after the other. */
	if (generation < last || generation - last > 2 + net_sockets_closed - closed_seen)
		word_breach(home->index, index, before, now);
}

static void words_check(const struct home *home)
{
	for (uint32_t i = 0; i < home->table.slot_count && i < SLOTS_SEEN_MAX; i++) {
		uint64_t now = word_now(&home->table.slots[i]);

		if (now == seen[home->index][i])
			continue;
		word_check(home, i, seen[home->index][i], now);
		if (slot_word_senders(now) > 0)
			sim_count(SIM_sender_preempted_inside);
		seen[home->index][i] = now;
	}
}

static bool link_is_slot(
	const struct home *home, const struct ck_stack_entry *link, uint32_t *index)
{
	uintptr_t at = (uintptr_t)link, begin = (uintptr_t)home->table.slots;

	if (at < begin || at >= begin + home->table.slot_count * sizeof(struct slot))
		return false;
	*index = (uint32_t)((at - begin) / sizeof(struct slot));
	return true;
}

static void links_check(
	const struct home *home, const struct ck_stack_entry *link, const char *where)
{
	uint32_t index, count = 0;

	for (; link != NULL; link = link->next) {
		if (++count > home->table.slot_count + 2 * LISTENERS_MAX + 64)
			breach("home %u: the links of %s never end", home->index, where);
		if (link_is_slot(home, link, &index) &&
			!(word_now(&home->table.slots[index]) & SLOT_MAILED))
			breach("slot %u of home %u is in %s and not MAILED", index, home->index,
				where);
	}
}

static void homes_check(void)
{
	for (uint32_t i = 0; i < SLOT_HOMES_MAX; i++) {
		const struct home *home = home_number(i);

		if (home == NULL)
			return;
		words_check(home);
		if (sim_steps % 16 == 0) {
			links_check(home, home->mailbox.mail.head, "the mailbox");
			links_check(home, home->mailbox.taken, "the mail taken");
		}
	}
}

void check_step(void)
{
	homes_check();
	closed_seen = net_sockets_closed;
}

/* ---- a shard between two turns ------------------------------------------------------------------- */

static void conn_check_ops(const struct shard *shard, const struct conn *conn)
{
	for (uint32_t kind = 0; kind < OP_COUNTED; kind++) {
		uint32_t live = ring_sim_live(shard->ring,
			op_data((enum op_kind)kind, conn->slot_index, conn->generation));

		if (live != conn->ops[kind])
			breach("%llx counts %u operations of kind %u, the ring has %u",
				(unsigned long long)slot_id(
					shard->home->index, conn->slot_index, conn->generation),
				conn->ops[kind], kind, live);
	}
}

static void shard_check_buffers(const struct shard *shard)
{
	uint8_t held[64] = {0};
	uint32_t count = 0;

	for (uint32_t i = 0; i < shard->slot_count; i++) {
		const struct conn *conn = &shard->conns[i];
		uint32_t own = 0;

		if (conn->state == CONN_FREE)
			continue;
		for (int32_t at = conn->input_head; at >= 0; at = shard->notes[at].next) {
			if ((uint32_t)at >= shard->buffer_count || held[at]++ > 0)
				breach("buffer %d waits at two connections", at);
			own++;
		}
		if (own != conn->input_count)
			breach("a connection counts %u buffers and has %u", conn->input_count, own);
		count += own;
	}
	if (count != ring_buffers_out(shard->ring))
		breach("%u provided buffers wait at connections, %u are out", count,
			ring_buffers_out(shard->ring));
}

static void shard_check_hellos(const struct shard *shard)
{
	uint32_t at = shard->hellos.head, before = LIST_END, count = 0, conns = 0;

	for (; at != LIST_END; before = at, at = shard->conns[at].hello.next) {
		const struct conn *conn = &shard->conns[at];

		if (at >= shard->slot_count || ++count > shard->slot_count)
			breach("the list of hellos never ends");
		if (!conn->is_hello || conn->hello.before != before || conn->tls != NULL ||
			conn->state != CONN_HANDSHAKE)
			breach("the list of hellos has a connection in state %d", conn->state);
	}
	for (uint32_t i = 0; i < shard->slot_count; i++)
		conns += shard->conns[i].state != CONN_FREE && shard->conns[i].is_hello;
	if (count != shard->hellos.count || conns != count || shard->hellos.tail != before)
		breach("the list of hellos counts %u, has %u, and %u are on it",
			shard->hellos.count, count, conns);
}

static void shard_check_lists(const struct shard *shard)
{
	shard_check_hellos(shard);
	for (int kind = 0; kind < LIST_COUNT; kind++) {
		const struct list *list = &shard->lists[kind];
		uint32_t count = 0;

		for (uint32_t at = list->head; at != LIST_END; at = shard->conns[at].next[kind]) {
			if (at >= shard->slot_count || ++count > shard->slot_count)
				breach("list %d of a shard never ends", kind);
			if (!(shard->conns[at].lists & (1u << kind)))
				breach("list %d has a connection that is not on it", kind);
		}
		if (count != list->count)
			breach("list %d counts %u and has %u", kind, list->count, count);
	}
}

void check_turn(void *context)
{
	const struct shard *shard = context;
	uint32_t live = 0, open = 0, handshakes = 0;

	if (shard == NULL || shard->ring == NULL)
		return;
	for (uint32_t i = 0; i < shard->slot_count; i++) {
		const struct conn *conn = &shard->conns[i];

		if (conn->state == CONN_FREE)
			continue;
		live++;
		open += conn->was_open;
		handshakes += conn->counted_handshake;
		conn_check_ops(shard, conn);
		if (conn->hashed && conn->state != CONN_OPEN && conn->state != CONN_GREETING)
			breach("a connection in state %d is hashed", conn->state);
	}
	if (live != load64(&shard->live) || open != load64(&shard->open) ||
		handshakes != shard->handshakes)
		breach("a shard counts %llu live, %llu open, %u handshakes and has %u, %u, %u",
			(unsigned long long)load64(&shard->live),
			(unsigned long long)load64(&shard->open), shard->handshakes, live, open,
			handshakes);
	shard_check_buffers(shard);
	shard_check_lists(shard);
}

/* ---- the world at rest ------------------------------------------------------------------------------ */

static void rest_check_conn(const struct shard *shard, const struct conn *conn)
{
	const struct slot *slot = &shard->slots[conn->slot_index];
	uint64_t word = word_now(slot);
	unsigned long long id = slot_id(shard->home->index, conn->slot_index, conn->generation);
	bool paused = conn->state == CONN_OPEN &&
		(conn->blocked ||
			(__atomic_load_n(
				 (const uint32_t *)(const void *)&slot->flags, __ATOMIC_RELAXED) &
				SLOT_PAUSED));

	if (slot_word_senders(word) > 0)
		breach("rest: a thread is inside %llx and nobody runs", id);
	if (slot->chunks.head != NULL)
		breach("rest: chunks of %llx were never taken", id);
	if ((word & SLOT_CLOSE) && conn->state < CONN_DRAINING)
		breach("rest: %llx is closed and in state %d", id, conn->state);
	if (conn->state >= CONN_HANDSHAKE && conn->state <= CONN_DRAINING && !conn->eof &&
		!paused && conn->ops[OP_RECV] == 0 && !(conn->lists & (1u << LIST_STARVED)))
		breach("rest: %llx in state %d reads and has no receive armed", id, conn->state);
	if (conn->state >= CONN_GREETING && conn->state <= CONN_LEAVING && !conn->send_broken &&
		conn->ops[OP_SEND] == 0 && conn->wire.bytes + conn->out.bytes > 0 &&
		!conn->goodbye_done)
		breach("rest: %llx in state %d has bytes to send and sends nothing", id,
			conn->state);
	if ((conn->state == CONN_DRAINING || conn->state == CONN_LEAVING) && !conn->send_broken &&
		!conn->goodbye_queued && conn->ops[OP_SEND] == 0 &&
		conn->wire.bytes + conn->out.bytes == 0)
		breach("rest: %llx in state %d has sent all and says no goodbye", id, conn->state);
	if (conn->state == CONN_OPEN && !conn->send_broken && conn->ops[OP_SEND] == 0 &&
		conn->wire.bytes + conn->out.bytes == 0) {
		if (load32(&slot->queued_bytes) != 0)
			breach("rest: %llx has sent all and %u bytes of its budget are gone", id,
				load32(&slot->queued_bytes));
		if (load32(&slot->flags) & SLOT_WANT_WRITABLE)
			breach("rest: %llx owes an on_writable", id);
	}
	if (conn->state == CONN_CLOSING && conn->close_queued) {
		uint32_t ops = 0;

		for (int kind = 0; kind < OP_COUNTED; kind++)
			ops += conn->ops[kind];
		if (ops == 0)
			breach("rest: %llx has nothing to wait for and was not freed", id);
	}
}

static void rest_check_listener(const struct shard *shard, const struct listener *listener)
{
	if (listener->used && listener->ending && listener->armed &&
		!timer_is_armed(&shard->retry_timer) &&
		!ring_sim_ends(
			shard->ring, op_data(OP_ACCEPT, listener->index, listener->generation)))
		breach("rest: listener %u ends and nobody ends its accept", listener->index);
}

/* Its handshakes have taken more than their share: it waits until that is paid off, never longer than ten seconds
 * (a tenth of one, at one percent). */
static bool shard_pays_handshakes(const struct shard *shard)
{
	return shard->handshake_credit_ns <= 0 && shard->handshake_credit_ns >= -100000000 &&
		limits_value(shard->hub->limits, PH_LIMIT_HANDSHAKE_SHARE) < 100;
}

static void rest_check_shard(const struct shard *shard)
{
	const struct home *home = shard->home;

	if (mailbox_has_mail(&home->mailbox))
		breach("rest: a shard sleeps over its mail");
	for (uint32_t i = 0; i < shard->slot_count; i++)
		if (word_now(&shard->slots[i]) & SLOT_MAILED)
			breach("rest: slot %u of home %u is MAILED and in no mailbox", i,
				home->index);
	for (int kind = 0; kind < LIST_COUNT; kind++) {
		if (kind == LIST_BLOCKED || kind == LIST_STARVED ||
			(kind == LIST_HANDSHAKE && shard_pays_handshakes(shard)))
			continue; /* their timer, or buffers that come back, wake them */
		if (shard->lists[kind].count > 0)
			breach("rest: a shard sleeps over work on list %d", kind);
	}
	if (shard->hellos.count > 0 && !shard_pays_handshakes(shard))
		breach("rest: a shard sleeps over hellos");
	if (shard->lists[LIST_STARVED].count > 0 &&
		ring_buffers_out(shard->ring) <= shard->buffer_count / 2)
		breach("rest: connections starve and the buffers are there");
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		rest_check_listener(shard, &shard->listeners[i]);
	for (uint32_t i = 0; i < shard->slot_count; i++)
		if (shard->conns[i].state != CONN_FREE)
			rest_check_conn(shard, &shard->conns[i]);
}

static void rest_check_find(const struct app_hub *hub)
{
	static const char *const names[MODEL_NAMES] = {"p0.peer", "p1.peer", "p2.peer", "p3.peer"};
	static const char *const groups[MODEL_GROUPS] = {"g0.group", "g1.group"};
	uint64_t ids[128];

	for (uint32_t g = 0; g < MODEL_GROUPS; g++)
		for (uint32_t n = 0; n < MODEL_NAMES; n++) {
			uint32_t count = ph_find(hub->hub, groups[g], names[n], ids, 128);
			uint32_t expected = 0;

			for (uint32_t s = 0; s < hub->hub->shard_count; s++) {
				const struct shard *shard = hub->hub->shards[s];

				for (uint32_t i = 0; i < shard->slot_count; i++) {
					const struct conn *conn = &shard->conns[i];
					const struct conn_names *who = conn->names;

					if (conn->state == CONN_OPEN && who != NULL &&
						strcmp(who->text, groups[g]) == 0 &&
						strcmp(who->text + who->identity_offset,
							names[n]) == 0)
						expected++;
				}
			}
			if (count != expected)
				breach("rest: ph_find finds %u connections, %u are open", count,
					expected);
			for (uint32_t i = 0; i < count && i < 128; i++)
				for (uint32_t k = i + 1; k < count && k < 128; k++)
					if (ids[i] == ids[k])
						breach("rest: ph_find gave %llx twice",
							(unsigned long long)ids[i]);
		}
}

/* Who has an answer on its way is about to wake, and who could not arm its waker looks by itself. */
static bool may_check(const struct shard *shard)
{
	return shard->ring != NULL && shard->wake_armed && !ring_sim_has_late(shard->ring);
}

void check_quiet(void)
{
	for (uint32_t h = 0; h < app_hubs_count; h++) {
		const struct app_hub *hub = &app_hubs[h];
		bool all = true;

		if (hub->hub == NULL || hub->stopping)
			continue;
		for (uint32_t s = 0; s < hub->hub->shard_count; s++) {
			if (may_check(hub->hub->shards[s]))
				rest_check_shard(hub->hub->shards[s]);
			else
				all = false;
		}
		if (all)
			rest_check_find(hub);
	}
}
