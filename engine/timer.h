/*
 * A hierarchical timer wheel, one per shard, owner only. Arm, re-arm and cancel are O(1); nodes live
 * in their connections. Tick: 1 ms; 4 levels of 64 (about 4.6 hours; longer times wait in the last
 * level and are put in again). A timer never fires early, and at most one tick late of the turn in
 * which timer_run is called.
 */
#ifndef PEERHUB_ENGINE_TIMER_H
#define PEERHUB_ENGINE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
	struct timer *next, *prev; /* NULL: not armed */
	uint64_t expiry_tick;
};

#define TIMER_LEVELS 4
#define TIMER_SLOTS 64
struct timer_wheel {
	struct timer slots[TIMER_LEVELS][TIMER_SLOTS]; /* list heads */
	uint64_t occupied[TIMER_LEVELS]; /* a bit per slot with timers */
	uint64_t tick; /* all ticks before this one have run */
	uint64_t count;
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns);
void timer_arm(
	struct timer_wheel *wheel, struct timer *timer, uint64_t expiry_ns); /* re-arms too */
/* The same, but where it is armed for an earlier time that stays. */
void timer_arm_by(struct timer_wheel *wheel, struct timer *timer, uint64_t expiry_ns);
void timer_cancel(struct timer_wheel *wheel, struct timer *timer); /* idempotent */
bool timer_is_armed(const struct timer *timer);
/* Calls on_timer for each expired timer (disarmed before the call; the callback may arm or cancel
 * any timer, its own included). At most count_max calls; returns how many. */
uint32_t timer_run(struct timer_wheel *wheel, uint64_t now_ns, uint32_t count_max,
	void (*on_timer)(void *context, struct timer *timer), void *context);
/* A time not later than the next expiry (a lower bound), UINT64_MAX when none is armed. Never
 * causes a busy loop: once timer_run has run at that time, it moves on. */
uint64_t timer_next_ns(const struct timer_wheel *wheel);

#endif
