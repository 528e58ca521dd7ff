/* Rounds of a p2p spin; see p2p_spin.h. */
#include "p2p_spin.h"

#include "audit.h"

#include "api/block.h"
#include "api/handle.h"

#include "peerhub/extras.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUND_MS_MIN 300u
#define ROUND_MS_SPREAD 1200u
#define TICK_MS 2u
#define DIALS_PER_CONNECTION 4u /* of a round; most of them end within it */
#define MESSAGE_BYTES 256u
#define CONNECT_AGAIN_NS 200000000ull
#define CONNECT_AGAIN_NS_MAX 3200000000ull /* often enough within the watchdog's patience */
#define LISTED_MAX 64u
#define RECEIPTS_MAX 4096u
#define RECEIPTS_SHOWN 8u /* in a dump */
#define THREADS_MAX 64u

struct p2p_spin {
	struct p2p_options options;
	struct p2p_world world;
	struct p2p_audit *audit;
	struct p2p_play play;
	_Atomic uint64_t beats;
	const char *_Atomic phase; /* static text, for dumps */
	_Atomic bool is_ending;
	size_t blocks; /* live ones when nothing runs: the names of the world */
	struct ph_receipt *receipts; /* [RECEIPTS_MAX] */
	pthread_mutex_t gate_lock; /* the next three */
	pthread_cond_t gate_changed;
	bool is_gate_open, is_gate_gone;
	uint32_t parked;
	uint32_t thread_count; /* actors that run */
	bool has_conductor;
	pthread_t conductor;
	pthread_t actors[THREADS_MAX];
};

static void sleep_ms(uint32_t ms)
{
	const struct timespec duration = {
		.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000l};

	nanosleep(&duration, NULL);
}

/* ---- actors and the gate --------------------------------------------------------------- */

/* False: the end. */
static bool gate_pass(struct p2p_spin *spin)
{
	bool goes_on;

	pthread_mutex_lock(&spin->gate_lock);
	if (!spin->is_gate_open) {
		spin->parked++;
		pthread_cond_broadcast(&spin->gate_changed);
		while (!spin->is_gate_open && !spin->is_gate_gone)
			pthread_cond_wait(&spin->gate_changed, &spin->gate_lock);
		spin->parked--;
	}
	goes_on = !spin->is_gate_gone;
	pthread_mutex_unlock(&spin->gate_lock);
	return goes_on;
}

static void gate_open(struct p2p_spin *spin)
{
	pthread_mutex_lock(&spin->gate_lock);
	spin->is_gate_open = true;
	pthread_cond_broadcast(&spin->gate_changed);
	pthread_mutex_unlock(&spin->gate_lock);
}

/* Returns when every actor stands at it. */
static void gate_close(struct p2p_spin *spin)
{
	pthread_mutex_lock(&spin->gate_lock);
	spin->is_gate_open = false;
	while (spin->parked < spin->thread_count)
		pthread_cond_wait(&spin->gate_changed, &spin->gate_lock);
	pthread_mutex_unlock(&spin->gate_lock);
}

static void *actor_main(void *argument)
{
	struct p2p_spin *spin = argument;
	struct p2p_hand *hand = p2p_hand_take(&spin->play, false);

	while (gate_pass(spin))
		p2p_step(&spin->play, hand);
	p2p_hand_give(&spin->play, hand);
	return NULL;
}

/* ---- a steady group -------------------------------------------------------------------- */

static struct p2p_registration *anchor_find(struct p2p_spin *spin, const struct p2p_node *node)
{
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++) {
		struct p2p_registration *registration = &spin->audit->registrations[i];

		if (registration->is_live && registration->is_anchor && registration->node == node)
			return registration;
	}
	return NULL;
}

static void anchors_pump(struct p2p_spin *spin)
{
	for (uint32_t i = 0; i < P2P_IDENTITIES; i++) {
		struct p2p_registration *anchor = anchor_find(spin, &spin->world.nodes[i]);

		if (anchor != NULL)
			p2p_pump(&spin->play, anchor, UINT32_MAX);
	}
}

/* Until it works, for allocations may fail; the watchdog bounds it. */
static struct p2p_handle *anchor_make(
	struct p2p_spin *spin, struct p2p_hand *hand, struct p2p_node *node)
{
	struct p2p_node *creator = &spin->world.nodes[node->group * P2P_IDENTITIES];
	struct p2p_handle *handle;
	DWORD status = 0;

	do {
		handle = p2p_group_open(&spin->play, node, true);
		if (handle == NULL) { /* deleted in a wild round: it comes back as a common one */
			struct p2p_handle *joined = p2p_group_open(&spin->play, node, false);

			if (joined != NULL) {
				p2p_group_close(&spin->play, joined);
				p2p_handle_put(spin->audit, joined);
			}
		}
	} while (handle == NULL);
	while (!p2p_register(&spin->play, hand, handle, true))
		;
	atomic_store(&node->port, 0); /* that of an earlier round */
	for (uint64_t next_ns = 0, wait_ns = CONNECT_AGAIN_NS;;) {
		if (p2p_group_status(&spin->play, handle, &status) &&
			(status & PEER_GROUP_STATUS_LISTENING) != 0) {
			p2p_address_learn(&spin->play, handle);
			if (atomic_load(&node->port) != 0)
				break;
		}
		/* Later and later: on a slow machine the first dial is still under way. */
		if (now_ns() >= next_ns) {
			p2p_group_connect(&spin->play, handle, node != creator ? creator : NULL);
			next_ns = now_ns() + wait_ns;
			if (wait_ns < CONNECT_AGAIN_NS_MAX)
				wait_ns *= 2;
		}
		sleep_ms(TICK_MS);
		anchors_pump(spin);
	}
	return handle;
}

/* Before anybody disturbs it, connections must come about. One that fails is tried again (time or
 * memory may have run out); the watchdog bounds it. */
static void anchors_prove(struct p2p_spin *spin, struct p2p_hand *hand, struct p2p_handle *from)
{
	const struct p2p_registration *anchor = anchor_find(spin, from->node);
	uint8_t seen;

	do {
		uint64_t id = p2p_dial(&spin->play, from, &spin->world.nodes[0]);

		seen = P2P_SEEN_LAST;
		while (id != 0 &&
			(seen = p2p_link_seen(spin->audit, anchor, id)) == P2P_SEEN_NOTHING) {
			sleep_ms(TICK_MS);
			anchors_pump(spin);
		}
		if (seen == P2P_SEEN_CONNECTED)
			p2p_send_one(&spin->play, hand, from, id, MESSAGE_BYTES);
	} while (seen != P2P_SEEN_CONNECTED);
}

/* All connections of the anchors end, and all their events are taken. */
static void anchors_drain(struct p2p_spin *spin, struct p2p_handle *const *anchors)
{
	uint32_t left, left_last = UINT32_MAX;

	do {
		left = 0;
		for (uint32_t i = 0; i < P2P_IDENTITIES; i++) {
			p2p_close_listed(&spin->play, anchors[i], LISTED_MAX);
			anchors_pump(spin);
			left += p2p_links_open(spin->audit, anchor_find(spin, anchors[i]->node));
		}
		if (left != left_last)
			atomic_fetch_add(&spin->beats, 1);
		left_last = left;
		sleep_ms(TICK_MS);
	} while (left > 0);
}

/* What a steady round must have brought. */
static void anchors_judge(struct p2p_spin *spin, struct p2p_handle *const *anchors)
{
	struct ph_hub *hub = NULL;
	uint64_t tag;

	for (uint32_t i = 0; i < P2P_IDENTITIES; i++)
		p2p_links_judge(spin->audit, anchor_find(spin, anchors[i]->node));
	if (FAILED(PeerhubGroupNative(anchors[0]->value, &hub, &tag))) {
		p2p_violation(spin->audit, "PeerhubGroupNative of an anchor failed");
		return;
	}
	p2p_receipts_judge(
		spin->audit, spin->receipts, ph_receipts(hub, spin->receipts, RECEIPTS_MAX));
}

/* ---- the end of a round ---------------------------------------------------------------- */

/* From now on they may end like others. */
static void anchors_release(struct p2p_spin *spin)
{
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++) {
		struct p2p_registration *registration = &spin->audit->registrations[i];

		pthread_mutex_lock(&registration->lock);
		registration->is_anchor = false;
		pthread_mutex_unlock(&registration->lock);
	}
}

static void registrations_end(struct p2p_spin *spin)
{
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++)
		p2p_unregister(&spin->play, &spin->audit->registrations[i], true);
}

static void handles_close(struct p2p_spin *spin)
{
	for (uint32_t i = 0; i < P2P_HANDLES; i++)
		if (spin->audit->handles[i].is_live)
			p2p_group_close(&spin->play, &spin->audit->handles[i]);
}

/* Whatever was not closed died with the library, and says so. */
static void handles_forget(struct p2p_spin *spin)
{
	DWORD status;

	for (uint32_t i = 0; i < P2P_HANDLES; i++) {
		struct p2p_handle *handle = &spin->audit->handles[i];

		if (handle->value == NULL)
			continue;
		(void)p2p_group_status(&spin->play, handle, &status);
		p2p_handle_forget(spin->audit, handle);
	}
}

static void count_judge(struct p2p_spin *spin, const char *what, size_t count, size_t wanted)
{
	if (count != wanted)
		p2p_violation(spin->audit, "%zu %s are left at the end of a round, not %zu", count,
			what, wanted);
}

/* The pool lets go of its waits a moment after the last callback; the watchdog bounds that. */
static void leftovers_judge(struct p2p_spin *spin)
{
	count_judge(spin, "group handles", handle_count(HANDLE_GROUP), 0);
	count_judge(spin, "registrations", handle_count(HANDLE_PEER_EVENT), 0);
	count_judge(spin, "enumerations", handle_count(HANDLE_ENUMERATION), 0);
	while (atomic_load(&spin->play.callbacks) > 0 || handle_count(HANDLE_WAIT) > 0 ||
		handle_count(HANDLE_EVENT_OBJECT) > 0)
		sleep_ms(TICK_MS);
	count_judge(spin, "blocks", block_count(), spin->blocks);
}

static void round_end(struct p2p_spin *spin, struct p2p_hand *hand)
{
	bool is_orderly = random_permille(&hand->random, 500);

	anchors_release(spin);
	spin->phase = is_orderly ? "ending a round in order" : "ending a round at once";
	if (is_orderly && random_permille(&hand->random, 500))
		registrations_end(spin);
	if (is_orderly)
		handles_close(spin);
	p2p_library_stop(&spin->play);
	registrations_end(spin);
	handles_forget(spin);
	for (uint32_t i = 0; i < P2P_ENUMERATIONS; i++)
		p2p_enumeration_end(&spin->play, i);
	spin->phase = "waiting for callbacks and handles";
	leftovers_judge(spin);
	p2p_links_forget(spin->audit);
}

/* ---- rounds ---------------------------------------------------------------------------- */

static void round_spin(struct p2p_spin *spin, struct p2p_hand *hand)
{
	uint64_t end_ns = now_ns() +
		1000000ull * (ROUND_MS_MIN + random_below(&hand->random, ROUND_MS_SPREAD));

	spin->phase = atomic_load(&spin->play.is_steady) ? "in a steady round" : "in a wild round";
	atomic_store(&spin->play.is_calm, false);
	gate_open(spin);
	while (now_ns() < end_ns && !atomic_load(&spin->is_ending))
		sleep_ms(TICK_MS);
	atomic_store(&spin->play.is_calm, true);
	gate_close(spin);
	/* A callback that had begun to act may be in the middle of it. */
	while (atomic_load(&spin->play.callbacks) > 0)
		sleep_ms(TICK_MS);
}

static void round_run(struct p2p_spin *spin, struct p2p_hand *hand)
{
	bool is_steady = random_permille(&hand->random, 600);
	struct p2p_handle *anchors[P2P_IDENTITIES] = {NULL};

	spin->phase = "beginning a round";
	atomic_store(&spin->play.dials, 0);
	atomic_store(&spin->play.is_steady, is_steady);
	p2p_library_start(&spin->play);
	if (is_steady) {
		for (uint32_t i = 0; i < P2P_IDENTITIES; i++)
			anchors[i] = anchor_make(spin, hand, &spin->world.nodes[i]);
		spin->phase = "connecting a quiet group";
		anchors_prove(spin, hand, anchors[1]);
	}
	round_spin(spin, hand);
	if (is_steady) {
		spin->phase = "closing what is left of a steady round";
		anchors_drain(spin, anchors);
		anchors_judge(spin, anchors);
		for (uint32_t i = 0; i < P2P_IDENTITIES; i++)
			p2p_handle_put(spin->audit, anchors[i]);
	}
	round_end(spin, hand);
	P2P_COUNT(spin->audit, rounds);
}

static void *conductor_main(void *argument)
{
	struct p2p_spin *spin = argument;
	struct p2p_hand *hand = p2p_hand_take(&spin->play, false);

	while (!atomic_load(&spin->is_ending))
		round_run(spin, hand);
	pthread_mutex_lock(&spin->gate_lock);
	spin->is_gate_gone = true;
	pthread_cond_broadcast(&spin->gate_changed);
	pthread_mutex_unlock(&spin->gate_lock);
	p2p_hand_give(&spin->play, hand);
	return NULL;
}

/* ---- life ------------------------------------------------------------------------------ */

static void play_init(struct p2p_spin *spin)
{
	struct p2p_play *play = &spin->play;

	play->world = &spin->world;
	play->audit = spin->audit;
	play->beats = &spin->beats;
	play->connections = spin->options.connections * DIALS_PER_CONNECTION;
	if (play->connections > P2P_LINKS / 8)
		play->connections = P2P_LINKS / 8;
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++)
		spin->audit->registrations[i].play = play;
	atomic_init(&play->is_calm, true);
	pthread_mutex_init(&play->base_lock, NULL);
	pthread_mutex_init(&play->hands_lock, NULL);
	for (uint32_t i = 0; i < P2P_HANDS; i++)
		random_init(&play->hands[i].random, spin->options.seed, 1000 + i);
}

int p2p_spin_create(
	const struct p2p_options *options, struct p2p_spin **spin, char why[P2P_WHY_BYTES])
{
	struct p2p_spin *made = calloc(1, sizeof(*made));
	int status = -ENOMEM;

	snprintf(why, P2P_WHY_BYTES, "%s", strerror(ENOMEM));
	if (made == NULL)
		return -ENOMEM;
	made->options = *options;
	made->phase = "not yet begun";
	pthread_mutex_init(&made->gate_lock, NULL);
	pthread_cond_init(&made->gate_changed, NULL);
	made->receipts = calloc(RECEIPTS_MAX, sizeof(*made->receipts));
	made->play.hands = calloc(P2P_HANDS, sizeof(*made->play.hands));
	if (made->receipts != NULL && made->play.hands != NULL)
		status = p2p_audit_create(&made->world, options->is_failing, &made->audit);
	if (status == 0)
		status = p2p_world_create(&made->world, options->seed, why);
	if (status < 0) {
		p2p_spin_destroy(made);
		return status;
	}
	play_init(made);
	made->blocks = block_count();
	*spin = made;
	return 0;
}

void p2p_spin_destroy(struct p2p_spin *spin)
{
	if (spin == NULL)
		return;
	p2p_world_destroy(&spin->world);
	p2p_audit_destroy(spin->audit);
	pthread_cond_destroy(&spin->gate_changed);
	pthread_mutex_destroy(&spin->gate_lock);
	free(spin->play.hands);
	free(spin->receipts);
	free(spin);
}

int p2p_spin_start(struct p2p_spin *spin)
{
	int error = 0;

	for (uint32_t i = 0; i < spin->options.threads && error == 0; i++) {
		error = pthread_create(&spin->actors[i], NULL, actor_main, spin);
		if (error == 0)
			spin->thread_count++;
	}
	if (error == 0)
		error = pthread_create(&spin->conductor, NULL, conductor_main, spin);
	spin->has_conductor = error == 0;
	return -error;
}

void p2p_spin_stop(struct p2p_spin *spin)
{
	atomic_store(&spin->is_ending, true);
	if (!spin->has_conductor)
		return;
	pthread_join(spin->conductor, NULL);
	for (uint32_t i = 0; i < spin->thread_count; i++)
		pthread_join(spin->actors[i], NULL);
}

/* ---- what is seen from outside --------------------------------------------------------- */

_Atomic uint64_t *p2p_spin_beats(struct p2p_spin *spin)
{
	return &spin->beats;
}

void p2p_spin_counts(struct p2p_spin *spin, struct p2p_counts *counts)
{
	p2p_counts(spin->audit, counts);
}

void p2p_spin_table(struct p2p_spin *spin, FILE *out)
{
	struct p2p_counts counts;

	p2p_counts(spin->audit, &counts);
	fprintf(out, "  %-34s %12llu in %llu rounds\n", "p2p calls",
		(unsigned long long)counts.calls, (unsigned long long)counts.rounds);
	fprintf(out, "  %-34s %12llu for dead handles, %llu while stopped, %llu without memory\n",
		"  of these refused", (unsigned long long)counts.calls_dead,
		(unsigned long long)counts.calls_down, (unsigned long long)counts.out_of_memory);
	fprintf(out, "  %-34s %12llu opened, %llu closed, %llu deleted, %llu joined\n",
		"p2p groups", (unsigned long long)counts.groups_opened,
		(unsigned long long)counts.groups_closed, (unsigned long long)counts.groups_deleted,
		(unsigned long long)counts.groups_joined);
	fprintf(out, "  %-34s %12llu dialled, %llu won a close\n", "p2p connections",
		(unsigned long long)counts.dials, (unsigned long long)counts.closes_won);
	fprintf(out, "  %-34s %12llu connected, %llu disconnected, %llu failed\n",
		"p2p events about them", (unsigned long long)counts.connected,
		(unsigned long long)counts.disconnected, (unsigned long long)counts.failed);
	fprintf(out, "  %-34s %12llu sent, %llu received\n", "p2p messages",
		(unsigned long long)counts.messages_sent,
		(unsigned long long)counts.messages_received);
	fprintf(out, "  %-34s %12llu ends, %llu graceful\n", "p2p accounted for in full",
		(unsigned long long)counts.links_proved,
		(unsigned long long)counts.graceful_proved);
	fprintf(out, "  %-34s %12llu\n", "p2p violations", (unsigned long long)counts.violations);
}

void p2p_spin_json(struct p2p_spin *spin, FILE *out)
{
	struct p2p_counts counts;
	const char *comma = "";

	p2p_counts(spin->audit, &counts);
	fputs("{", out);
#define P2P_JSON(name)                                                                       \
	fprintf(out, "%s\n    \"" #name "\": %llu", comma, (unsigned long long)counts.name); \
	comma = ",";
	P2P_COUNTERS(P2P_JSON)
#undef P2P_JSON
	fputs("\n  }", out);
}

/* Without locks where it can: whoever hangs may hold them. The figures are those of a moment. */
static void state_print(struct p2p_spin *spin, FILE *out)
{
	const struct p2p_world *world = &spin->world;
	uint64_t low = atomic_load(&world->low), high = atomic_load(&world->high);

	fprintf(out, "p2p: %s; actors at the gate %u of %u, callbacks %u\n", spin->phase,
		spin->parked, spin->thread_count, atomic_load(&spin->play.callbacks));
	fprintf(out, "p2p: starts %u to %u (ended %u times, %u for certain), links %u, dials %u\n",
		p2p_bound_count(low), p2p_bound_count(high), p2p_bound_epoch(low),
		p2p_bound_epoch(high), spin->audit->link_count, atomic_load(&spin->play.dials));
	fprintf(out,
		"p2p: handles: groups %u, registrations %u, enumerations %u, events %u, waits %u; "
		"blocks %zu, %zu of them ours\n",
		handle_count(HANDLE_GROUP), handle_count(HANDLE_PEER_EVENT),
		handle_count(HANDLE_ENUMERATION), handle_count(HANDLE_EVENT_OBJECT),
		handle_count(HANDLE_WAIT), block_count(), spin->blocks);
	for (uint32_t i = 0; i < P2P_NODES; i++)
		fprintf(out, "p2p: node %u: port %u, deletes %llu begun, %llu ended\n", i,
			atomic_load(&world->nodes[i].port),
			(unsigned long long)atomic_load(&world->nodes[i].deletes_begun),
			(unsigned long long)atomic_load(&world->nodes[i].deletes_ended));
}

static void lists_print(struct p2p_spin *spin, FILE *out)
{
	for (uint32_t i = 0; i < P2P_HANDLES; i++) {
		const struct p2p_handle *handle = &spin->audit->handles[i];

		if (handle->is_live)
			fprintf(out, "p2p: group %p of node %u%s%s, %u users\n", handle->value,
				handle->node->number, handle->is_anchor ? ", anchor" : "",
				atomic_load(&handle->death) != NULL ? ", dead" : "", handle->users);
	}
	for (uint32_t i = 0; i < P2P_REGISTRATIONS; i++) {
		const struct p2p_registration *at = &spin->audit->registrations[i];

		if (at->is_live || at->is_busy)
			fprintf(out, "p2p: registration %p of node %u, types %#x%s%s\n", at->value,
				at->node->number, at->types, at->is_anchor ? ", anchor" : "",
				at->is_busy ? ", busy" : "");
	}
	for (uint32_t i = 0; i < P2P_LINKS; i++) {
		const struct p2p_link *link = &spin->audit->links[i];

		if (link->id != 0 && !link->has_last && !link->has_failed)
			fprintf(out, "p2p: id %#llx of node %u%s%s%s, wins %u\n",
				(unsigned long long)link->id, link->node->number,
				link->is_neighbor ? ", neighbor" : "",
				link->is_dialled ? ", dialled" : "",
				link->was_connected ? ", connected" : "", link->wins);
	}
}

/* How the latest connections ended: where all of them end the same way, that is why nothing moves. */
static void receipts_print(struct ph_hub *hub, FILE *out)
{
	struct ph_receipt receipts[RECEIPTS_SHOWN];
	uint32_t count = ph_receipts(hub, receipts, RECEIPTS_SHOWN);

	for (uint32_t i = 0; i < count; i++)
		fprintf(out, "p2p: id %#llx %s ended: %s, side %u failure %u error %d %s\n",
			(unsigned long long)receipts[i].id,
			receipts[i].accepted ? "accepted" : "dialled",
			ph_reason_name(receipts[i].reason), receipts[i].side, receipts[i].failure,
			receipts[i].error, receipts[i].text);
}

void p2p_spin_dump(struct p2p_spin *spin, int fd)
{
	struct ph_hub *hub = atomic_load(&spin->play.hub);
	int copy = dup(fd);
	FILE *out = copy >= 0 ? fdopen(copy, "w") : NULL;

	if (out == NULL) {
		if (copy >= 0)
			close(copy);
		return;
	}
	state_print(spin, out);
	lists_print(spin, out);
	fflush(out);
	if (hub != NULL) {
		ph_hub_dump(hub, fd);
		receipts_print(hub, out);
	}
	fclose(out);
}
