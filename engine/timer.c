/*
 * The timer wheel of a shard; see timer.h. Owner only.
 *
 * A tick is written in digits of 6 bits; level L looks at digit L. A timer sits on the level of the
 * highest digit in which its tick differs from the wheel's, in the slot of its own digit there. So
 * this always holds, and every function below keeps it:
 *
 *   level 0     the timer's tick and the wheel's agree in all digits above 0, and the timer's digit 0
 *               is not below the wheel's. A timer that was due already stands in the wheel's own slot.
 *   levels 1, 2 they agree in all digits above L, and the timer's digit L is above the wheel's.
 *   level 3     the slot stands for a block of 2^18 ticks, 1 to 63 blocks ahead of the wheel's own; it
 *               is the timer's block, or the 63rd when the timer's lies further away.
 *
 * Hence the first occupied slot of the lowest occupied level comes before everything else, and the
 * wheel's tick may jump to it at once, however far: nothing is skipped and no empty tick is walked.
 * Arriving at a slot above level 0, its timers are put in again and land lower (or, those beyond the
 * reach of the wheel, once more on the last level).
 */
#include "engine/timer.h"

#include "engine/check.h"

#include <stddef.h>

#define TICK_NS 1000000u
#define DIGIT_BITS 6u
#define LAST (TIMER_LEVELS - 1)
#define LAST_SHIFT (DIGIT_BITS * LAST)

_Static_assert(TIMER_SLOTS == 1u << DIGIT_BITS, "a slot per value of a digit");
_Static_assert(TIMER_SLOTS == 64, "a slot per bit of occupied");

static uint32_t tick_digit(uint64_t tick, uint32_t level)
{
	return (uint32_t)(tick >> (DIGIT_BITS * level)) & (TIMER_SLOTS - 1);
}

static uint64_t tick_ceiling(uint64_t ns)
{
	return ns / TICK_NS + (ns % TICK_NS != 0);
}

static void list_init(struct timer *head)
{
	head->next = head;
	head->prev = head;
}

static bool list_is_empty(const struct timer *head)
{
	return head->next == head;
}

static void list_append(struct timer *head, struct timer *timer)
{
	timer->prev = head->prev;
	timer->next = head;
	head->prev->next = timer;
	head->prev = timer;
}

/* All of `from` between `after` and its successor; from is empty then. */
static void list_splice(struct timer *after, struct timer *from)
{
	if (list_is_empty(from))
		return;
	from->prev->next = after->next;
	after->next->prev = from->prev;
	after->next = from->next;
	from->next->prev = after;
	list_init(from);
}

static struct timer *list_pop(struct timer *head)
{
	struct timer *timer = head->next;

	head->next = timer->next;
	timer->next->prev = head;
	timer->next = NULL;
	timer->prev = NULL;
	return timer;
}

/* The place of an armed timer under the wheel's present tick. */
static void wheel_place(struct timer_wheel *wheel, struct timer *timer)
{
	uint64_t tick = timer->expiry_tick > wheel->tick ? timer->expiry_tick : wheel->tick;
	uint64_t differs = tick ^ wheel->tick;
	uint32_t level = 0, slot;

	while (level < LAST && differs >> (DIGIT_BITS * (level + 1)) != 0)
		level++;
	if (level == LAST) {
		uint64_t block = wheel->tick >> LAST_SHIFT;
		uint64_t ahead = (tick >> LAST_SHIFT) - block;

		assert(ahead > 0);
		if (ahead > TIMER_SLOTS - 1)
			ahead = TIMER_SLOTS - 1;
		slot = (uint32_t)(block + ahead) & (TIMER_SLOTS - 1);
	} else {
		slot = tick_digit(tick, level);
	}
	list_append(&wheel->slots[level][slot], timer);
	wheel->occupied[level] |= 1ull << slot;
}

struct wheel_stop {
	uint64_t tick; /* where the slot begins */
	uint32_t level, slot;
};

/* The first occupied slot; false if there is none. */
static bool wheel_next(const struct timer_wheel *wheel, struct wheel_stop *stop)
{
	uint64_t bits;
	uint32_t shift, ahead;

	for (stop->level = 0; stop->level < LAST; stop->level++) {
		bits = wheel->occupied[stop->level];
		if (bits == 0)
			continue;
		shift = DIGIT_BITS * stop->level;
		stop->slot = (uint32_t)__builtin_ctzll(bits);
		stop->tick = (wheel->tick >> (shift + DIGIT_BITS)) << (shift + DIGIT_BITS);
		stop->tick |= (uint64_t)stop->slot << shift;
		assert(stop->tick >= wheel->tick);
		return true;
	}
	bits = wheel->occupied[LAST];
	if (bits == 0)
		return false;
	/* Turn the bits so that the block after ours is bit 0. Our own bit, now the highest, is clear. */
	shift = (tick_digit(wheel->tick, LAST) + 1) & (TIMER_SLOTS - 1);
	if (shift != 0)
		bits = bits >> shift | bits << (TIMER_SLOTS - shift);
	ahead = (uint32_t)__builtin_ctzll(bits) + 1;
	assert(ahead < TIMER_SLOTS);
	stop->tick = ((wheel->tick >> LAST_SHIFT) + ahead) << LAST_SHIFT;
	stop->slot = tick_digit(stop->tick, LAST);
	return true;
}

/* Move the wheel to now, all timers that are due on the way to the end of `due`, in order. */
static void wheel_gather(struct timer_wheel *wheel, uint64_t tick_now, struct timer *due)
{
	struct timer fallen;
	struct wheel_stop stop;

	list_init(&fallen);
	while (wheel_next(wheel, &stop) && stop.tick <= tick_now) {
		wheel->tick = stop.tick;
		wheel->occupied[stop.level] &= ~(1ull << stop.slot);
		if (stop.level == 0) {
			list_splice(due->prev, &wheel->slots[0][stop.slot]);
			continue;
		}
		list_splice(&fallen, &wheel->slots[stop.level][stop.slot]);
		while (!list_is_empty(&fallen))
			wheel_place(wheel, list_pop(&fallen));
	}
	if (wheel->tick < tick_now)
		wheel->tick = tick_now;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns)
{
	for (uint32_t level = 0; level < TIMER_LEVELS; level++) {
		wheel->occupied[level] = 0;
		for (uint32_t slot = 0; slot < TIMER_SLOTS; slot++)
			list_init(&wheel->slots[level][slot]);
	}
	wheel->tick = now_ns / TICK_NS;
	wheel->count = 0;
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t expiry_ns)
{
	timer_cancel(wheel, timer);
	timer->expiry_tick = tick_ceiling(expiry_ns);
	wheel_place(wheel, timer);
	wheel->count++;
}

void timer_arm_by(struct timer_wheel *wheel, struct timer *timer, uint64_t expiry_ns)
{
	if (!timer_is_armed(timer) || tick_ceiling(expiry_ns) < timer->expiry_tick)
		timer_arm(wheel, timer, expiry_ns);
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
	struct timer *next = timer->next;
	uintptr_t first = (uintptr_t)wheel->slots;
	uintptr_t place = (uintptr_t)next;

	if (!timer_is_armed(timer))
		return;
	timer->prev->next = next;
	next->prev = timer->prev;
	timer->next = NULL;
	timer->prev = NULL;
	assert(wheel->count > 0);
	wheel->count--;
	if (!list_is_empty(next))
		return;
	/* What is left is a head: that of a slot, whose bit must go, or that of timer_run's due list. */
	if (place < first || place >= first + sizeof(wheel->slots))
		return;
	place = (place - first) / sizeof(struct timer);
	wheel->occupied[place / TIMER_SLOTS] &= ~(1ull << place % TIMER_SLOTS);
}

bool timer_is_armed(const struct timer *timer)
{
	return timer->next != NULL;
}

uint32_t timer_run(struct timer_wheel *wheel, uint64_t now_ns, uint32_t count_max,
	void (*on_timer)(void *context, struct timer *timer), void *context)
{
	struct timer due;
	uint32_t count = 0, slot;

	/* Callbacks never reach what they arm themselves: the list of this run is complete before the
	 * first of them, so a timer armed for the past waits for the next run. */
	list_init(&due);
	wheel_gather(wheel, now_ns / TICK_NS, &due);
	while (count < count_max && !list_is_empty(&due)) {
		struct timer *timer = list_pop(&due);

		assert(wheel->count > 0);
		wheel->count--;
		count++;
		on_timer(context, timer);
	}
	if (list_is_empty(&due))
		return count;
	/* Over the limit: the rest is first in line at the wheel's present tick, before new ones. */
	slot = tick_digit(wheel->tick, 0);
	list_splice(&wheel->slots[0][slot], &due);
	wheel->occupied[0] |= 1ull << slot;
	return count;
}

uint64_t timer_next_ns(const struct timer_wheel *wheel)
{
	struct wheel_stop stop;

	if (!wheel_next(wheel, &stop))
		return UINT64_MAX;
	if (stop.tick > UINT64_MAX / TICK_NS)
		return UINT64_MAX; /* later than any clock can say */
	return stop.tick * TICK_NS;
}
