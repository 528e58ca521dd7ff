/* Slots, timers, chunks, digests and histograms for the micro-benchmarks; see subject.h. */
#include "bench/subject.h"

#include "engine/chain.h"
#include "engine/digest.h"
#include "engine/slot.h"
#include "engine/timer.h"
#include "stress/histogram.h"

#include <stdlib.h>
#include <string.h>

#define TAG 7u
#define SLOTS 4096u

/* ---- slots ----------------------------------------------------------------------------- */

struct subject_slots {
	struct slot_table table;
	struct slot *open; /* one that stays open */
	uint32_t generation;
};

static struct slot *slot_begin(struct slot_table *table, uint32_t *generation)
{
	int64_t index = slot_take(table);
	struct slot *slot;

	if (index < 0)
		return NULL;
	slot = &table->slots[index];
	*generation = slot_open(slot, TAG, 0, false);
	return slot_become_open(slot) ? slot : NULL;
}

/* A table is type-stable memory that lives as long as the process: one for all. */
struct subject_slots *subject_slots_get(void)
{
	static struct subject_slots slots;

	if (slots.open != NULL)
		return &slots;
	if (slot_table_init(&slots.table, SLOTS) < 0 ||
		slot_table_fill(&slots.table, SLOTS) != SLOTS)
		return NULL;
	slots.open = slot_begin(&slots.table, &slots.generation);
	return slots.open != NULL ? &slots : NULL;
}

/* The whole life of a slot: taken, opened, closed by its id, its mail taken, freed, given back. */
int subject_slots_live(struct subject_slots *subject)
{
	uint32_t generation;
	struct slot *slot = slot_begin(&subject->table, &generation);

	if (slot == NULL || slot_close(slot, generation, TAG, true) != SLOT_PUSH)
		return -1;
	(void)slot_take_mail(slot);
	if (!slot_free(slot))
		return -1;
	return slot_put(&subject->table, (uint32_t)(slot - subject->table.slots)) ? 0 : -1;
}

/* A sender goes in and out; its mail is under way already. */
int subject_slots_send(struct subject_slots *subject)
{
	if (!slot_send_enter(subject->open, subject->generation, TAG))
		return -1;
	(void)slot_send_leave(subject->open);
	return 0;
}

/* The same when each one finds no mail under way, and the owner takes it. */
int subject_slots_send_mailed(struct subject_slots *subject)
{
	if (!slot_send_enter(subject->open, subject->generation, TAG))
		return -1;
	if (slot_send_leave(subject->open))
		(void)slot_take_mail(subject->open);
	return 0;
}

int subject_slots_pin(struct subject_slots *subject)
{
	if (!slot_pin(subject->open, subject->generation))
		return -1;
	return slot_unpin(subject->open) ? -1 : 0;
}

/* A close that comes too late: the answer alone. */
int subject_slots_close_stale(struct subject_slots *subject)
{
	return slot_close(subject->open, subject->generation + 1, TAG, true) == SLOT_NOT_FOUND ? 0
											       : -1;
}

/* A number out of the free queue and back. */
int subject_slots_take_put(struct subject_slots *subject)
{
	int64_t index = slot_take(&subject->table);

	return index >= 0 && slot_put(&subject->table, (uint32_t)index) ? 0 : -1;
}

/* ---- timers ---------------------------------------------------------------------------- */

struct subject_timers {
	struct timer_wheel wheel;
	uint64_t now_ns;
	uint32_t count;
	struct timer timers[];
};

struct subject_timers *subject_timers_create(uint32_t count)
{
	struct subject_timers *made = calloc(1, sizeof(*made) + count * sizeof(made->timers[0]));

	if (made == NULL)
		return NULL;
	made->count = count;
	made->now_ns = 1000000000u;
	timer_wheel_init(&made->wheel, made->now_ns);
	return made;
}

void subject_timers_destroy(struct subject_timers *subject)
{
	free(subject);
}

/* As the idle timer of a connection: armed again, far ahead. */
void subject_timers_arm(struct subject_timers *subject, uint32_t index)
{
	timer_arm(&subject->wheel, &subject->timers[index],
		subject->now_ns + 30000000000u + (uint64_t)index * 1000000u);
}

void subject_timers_cancel(struct subject_timers *subject, uint32_t index)
{
	timer_cancel(&subject->wheel, &subject->timers[index]);
}

static void on_timer(void *context, struct timer *timer)
{
	(void)timer;
	++*(uint32_t *)context;
}

/* Arm all over the next second, let it pass in turns of 1 ms; returns how many fired. */
uint32_t subject_timers_expire(struct subject_timers *subject)
{
	uint32_t fired = 0;

	for (uint32_t index = 0; index < subject->count; index++)
		timer_arm(&subject->wheel, &subject->timers[index],
			subject->now_ns + (uint64_t)(index % 1000u) * 1000000u);
	for (uint32_t turn = 0; turn < 1002; turn++) {
		subject->now_ns += 1000000u;
		(void)timer_run(&subject->wheel, subject->now_ns, UINT32_MAX, on_timer, &fired);
	}
	return fired;
}

/* ---- chunks ---------------------------------------------------------------------------- */

int subject_chunk_cycle(size_t bytes)
{
	struct chunk *chunk = chunk_create(bytes);

	if (chunk == NULL)
		return -1;
	chunk_destroy(chunk);
	return 0;
}

/* So many live at once, as when a turn's messages wait to be sent. */
int subject_chunk_batch(size_t bytes, uint32_t count)
{
	struct chain chain = {0};

	for (uint32_t index = 0; index < count; index++) {
		struct chunk *chunk = chunk_create(bytes);

		if (chunk == NULL) {
			chain_clear(&chain);
			return -1;
		}
		chunk->bytes = (uint32_t)bytes;
		chain_push(&chain, chunk);
	}
	(void)chain_consume(&chain, chain.bytes);
	return chain.head == NULL ? 0 : -1;
}

/* ---- digest, histogram ------------------------------------------------------------------ */

uint64_t subject_digest(const char *group, const char *identity)
{
	return digest_init() == 0 ? digest_pair(group, identity).word[0] : 0;
}

struct subject_histogram {
	struct histogram histogram;
};

struct subject_histogram *subject_histogram_create(void)
{
	struct subject_histogram *made = malloc(sizeof(*made));

	if (made != NULL)
		histogram_init(&made->histogram);
	return made;
}

void subject_histogram_destroy(struct subject_histogram *subject)
{
	free(subject);
}

void subject_histogram_record(struct subject_histogram *subject, uint64_t value)
{
	histogram_record(&subject->histogram, value);
}

uint64_t subject_histogram_quantile(const struct subject_histogram *subject, uint32_t permille)
{
	return histogram_quantile(&subject->histogram, permille);
}
