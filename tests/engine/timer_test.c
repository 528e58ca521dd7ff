/*
 * The timer wheel: single situations, then a seeded random run against a plain table that is searched
 * from end to end. `--seed N` repeats a random run.
 */
#include "engine/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define MS 1000000ull
#define HOUR (3600ull * 1000 * MS)

static uint64_t seed;

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

struct fired {
	struct timer *timers[256];
	uint32_t count;
};

static void on_fired(void *context, struct timer *timer)
{
	struct fired *fired = context;

	assert_false(timer_is_armed(timer));
	assert_true(fired->count < 256);
	fired->timers[fired->count++] = timer;
}

static uint32_t run(struct timer_wheel *wheel, uint64_t now_ns, struct fired *fired)
{
	fired->count = 0;
	return timer_run(wheel, now_ns, UINT32_MAX, on_fired, fired);
}

/* Never early, not even by a nanosecond; at the tick it is there. */
static void timer_fires_at_its_tick(void **state)
{
	struct timer_wheel wheel;
	struct timer timer = {0};
	struct fired fired;

	(void)state;
	timer_wheel_init(&wheel, 1000 * MS);
	assert_true(timer_next_ns(&wheel) == UINT64_MAX);
	timer_arm(&wheel, &timer, 1005 * MS + 1);
	assert_true(timer_is_armed(&timer));
	assert_int_equal(wheel.count, 1);
	assert_int_equal(run(&wheel, 1005 * MS + 1, &fired), 0);
	assert_int_equal(run(&wheel, 1006 * MS - 1, &fired), 0);
	assert_int_equal(run(&wheel, 1006 * MS, &fired), 1);
	assert_ptr_equal(fired.timers[0], &timer);
	assert_int_equal(wheel.count, 0);
	assert_true(timer_next_ns(&wheel) == UINT64_MAX);
}

/* Arming for the past or for now fires in the next run, even if the clock stands still. */
static void timer_armed_for_the_past(void **state)
{
	struct timer_wheel wheel;
	struct timer past = {0}, now = {0}, zero = {0};
	struct fired fired;

	(void)state;
	timer_wheel_init(&wheel, 77 * MS);
	assert_int_equal(run(&wheel, 77 * MS, &fired), 0);
	timer_arm(&wheel, &past, 5 * MS);
	timer_arm(&wheel, &now, 77 * MS);
	timer_arm(&wheel, &zero, 0);
	assert_true(timer_next_ns(&wheel) <= 77 * MS);
	assert_int_equal(run(&wheel, 77 * MS, &fired), 3);
	assert_int_equal(run(&wheel, 77 * MS, &fired), 0);
}

/* A clock that goes back fires nothing and breaks nothing. */
static void timer_clock_goes_back(void **state)
{
	struct timer_wheel wheel;
	struct timer timer = {0};
	struct fired fired;

	(void)state;
	timer_wheel_init(&wheel, 5000 * MS);
	timer_arm(&wheel, &timer, 5100 * MS);
	assert_int_equal(run(&wheel, 5050 * MS, &fired), 0);
	assert_int_equal(run(&wheel, 3 * MS, &fired), 0);
	assert_int_equal(run(&wheel, 5100 * MS, &fired), 1);
}

/* Cancel twice, cancel what was never armed, arm again before and after the expiry. */
static void timer_cancel_and_arm_again(void **state)
{
	struct timer_wheel wheel;
	struct timer timer = {0}, other = {0};
	struct fired fired;

	(void)state;
	timer_wheel_init(&wheel, 0);
	timer_cancel(&wheel, &timer);
	timer_arm(&wheel, &timer, 10 * MS);
	timer_arm(&wheel, &other, 10 * MS);
	timer_cancel(&wheel, &timer);
	timer_cancel(&wheel, &timer);
	assert_int_equal(wheel.count, 1);
	assert_int_equal(run(&wheel, 20 * MS, &fired), 1);
	assert_ptr_equal(fired.timers[0], &other);
	timer_arm(&wheel, &timer, 30 * MS);
	timer_arm(&wheel, &timer, 90000 * MS);
	timer_arm(&wheel, &timer, 40 * MS);
	assert_int_equal(wheel.count, 1);
	assert_int_equal(run(&wheel, 39 * MS, &fired), 0);
	assert_int_equal(run(&wheel, 40 * MS, &fired), 1);
	assert_int_equal(run(&wheel, 100000 * MS, &fired), 0);
	for (uint32_t level = 0; level < TIMER_LEVELS; level++)
		assert_int_equal(wheel.occupied[level], 0);
}

/* Every distance around the borders of the levels, from starts around the same borders. */
static void timer_borders_of_levels(void **state)
{
	static const uint64_t borders[] = {
		0, 64, 128, 4096, 1u << 18, 2u << 18, 1u << 24, 3u << 24};
	struct fired fired;

	(void)state;
	for (size_t a = 0; a < sizeof(borders) / sizeof(borders[0]); a++) {
		for (size_t b = 0; b < sizeof(borders) / sizeof(borders[0]); b++) {
			for (uint64_t step = 0; step < 25; step++) {
				uint64_t start = (1ull << 25) + borders[a] + step / 5 - 2;
				uint64_t expiry = start + borders[b] + 2 + step % 5 - 2;
				struct timer_wheel wheel;
				struct timer timer = {0};

				timer_wheel_init(&wheel, start * MS);
				timer_arm(&wheel, &timer, expiry * MS);
				assert_int_equal(run(&wheel, (expiry - 1) * MS, &fired),
					expiry <= start - 1);
				if (expiry > start)
					assert_int_equal(run(&wheel, expiry * MS, &fired), 1);
			}
		}
	}
}

/* Far beyond the wheel: followed by timer_next_ns alone, in few steps, to the exact tick. */
static void timer_beyond_the_wheel(void **state)
{
	static const uint64_t distances[] = {4 * HOUR, 5 * HOUR, 24 * HOUR, 1000 * HOUR};
	struct fired fired;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct timer_wheel wheel;
		struct timer timer = {0};
		uint64_t now = 123456789, expiry = now + distances[i], steps = 0;

		timer_wheel_init(&wheel, now);
		timer_arm(&wheel, &timer, expiry);
		while (timer_is_armed(&timer)) {
			uint64_t next = timer_next_ns(&wheel);

			assert_true(next > now);
			assert_true(next < expiry + MS);
			now = next;
			run(&wheel, now, &fired);
			steps++;
		}
		assert_true(now >= expiry && now < expiry + MS);
		assert_true(steps < 4 + distances[i] / (4 * HOUR) * 2);
	}
}

/* The end of time itself can be armed and cancelled. */
static void timer_at_the_end_of_time(void **state)
{
	struct timer_wheel wheel;
	struct timer timer = {0};
	struct fired fired;

	(void)state;
	timer_wheel_init(&wheel, HOUR);
	timer_arm(&wheel, &timer, UINT64_MAX);
	assert_true(timer_next_ns(&wheel) > HOUR);
	timer_cancel(&wheel, &timer);
	assert_true(timer_next_ns(&wheel) == UINT64_MAX);

	timer_wheel_init(&wheel, UINT64_MAX);
	timer_arm(&wheel, &timer, UINT64_MAX);
	assert_true(timer_next_ns(&wheel) == UINT64_MAX);
	assert_int_equal(run(&wheel, UINT64_MAX, &fired), 0);
	timer_cancel(&wheel, &timer);
	assert_int_equal(wheel.count, 0);
}

/* A jump of years over a wheel that is empty, then over one with timers on every level. */
static void timer_clock_jumps(void **state)
{
	struct timer_wheel wheel;
	struct timer timers[TIMER_LEVELS] = {{0}}, later = {0};
	struct fired fired;
	uint64_t now = 50 * MS;

	(void)state;
	timer_wheel_init(&wheel, now);
	for (int i = 0; i < 100000; i++) {
		now += 10000 * HOUR / 100000;
		assert_int_equal(run(&wheel, now, &fired), 0);
	}
	for (uint32_t level = TIMER_LEVELS; level-- > 0;)
		timer_arm(&wheel, &timers[level], now + (1ull << 6 * level) * MS);
	timer_arm(&wheel, &later, now + 2000 * HOUR);
	now += 1000 * HOUR;
	assert_int_equal(run(&wheel, now, &fired), TIMER_LEVELS);
	for (uint32_t level = 0; level < TIMER_LEVELS; level++)
		assert_ptr_equal(fired.timers[level], &timers[level]);
	assert_true(timer_is_armed(&later));
	assert_int_equal(run(&wheel, now + 1000 * HOUR, &fired), 1);
}

/* Over count_max the rest stays due: the next run, at the same time, goes on in order. */
static void timer_count_max(void **state)
{
	struct timer_wheel wheel;
	struct timer timers[10] = {{0}};
	struct fired fired = {.count = 0};

	(void)state;
	timer_wheel_init(&wheel, 0);
	for (int i = 0; i < 10; i++)
		timer_arm(&wheel, &timers[i], (uint64_t)(i / 2 * 40 + 1) * MS);
	assert_int_equal(timer_run(&wheel, 500 * MS, 0, on_fired, &fired), 0);
	assert_int_equal(timer_run(&wheel, 500 * MS, 3, on_fired, &fired), 3);
	assert_int_equal(wheel.count, 7);
	assert_true(timer_next_ns(&wheel) <= 500 * MS);
	assert_int_equal(timer_run(&wheel, 500 * MS, 3, on_fired, &fired), 3);
	timer_cancel(&wheel, &timers[7]);
	assert_int_equal(timer_run(&wheel, 700 * MS, 100, on_fired, &fired), 3);
	assert_int_equal(timer_run(&wheel, 700 * MS, 100, on_fired, &fired), 0);
	assert_int_equal(fired.count, 9);
	for (uint32_t i = 0; i < 9; i++)
		assert_ptr_equal(fired.timers[i], &timers[i < 7 ? i : i + 1]);
	assert_true(timer_next_ns(&wheel) == UINT64_MAX);
}

struct meddler {
	struct timer_wheel *wheel;
	struct timer timers[4];
	uint64_t now_ns;
	uint32_t calls[4];
};

/* 0 arms itself for the past, 1 cancels 2 (due in the same run) and arms 3. */
static void on_meddle(void *context, struct timer *timer)
{
	struct meddler *meddler = context;
	ptrdiff_t index = timer - meddler->timers;

	meddler->calls[index]++;
	if (index == 0)
		timer_arm(meddler->wheel, timer, 0);
	if (index == 1) {
		timer_cancel(meddler->wheel, timer);
		timer_cancel(meddler->wheel, &meddler->timers[2]);
		timer_arm(meddler->wheel, &meddler->timers[3], meddler->now_ns);
	}
}

/* What a callback arms waits for the next run; what it cancels does not run. */
static void timer_callbacks_arm_and_cancel(void **state)
{
	struct timer_wheel wheel;
	struct meddler meddler = {.wheel = &wheel, .now_ns = 640 * MS};

	(void)state;
	timer_wheel_init(&wheel, 0);
	for (int i = 0; i < 3; i++)
		timer_arm(&wheel, &meddler.timers[i], 10 * MS);
	assert_int_equal(timer_run(&wheel, 640 * MS, 100, on_meddle, &meddler), 2);
	assert_int_equal(meddler.calls[2], 0);
	assert_int_equal(wheel.count, 2);
	assert_int_equal(timer_run(&wheel, 640 * MS, 100, on_meddle, &meddler), 2);
	assert_int_equal(meddler.calls[0], 2);
	assert_int_equal(meddler.calls[3], 1);
	timer_cancel(&wheel, &meddler.timers[0]);
	assert_true(timer_next_ns(&wheel) == UINT64_MAX);
}

/* ---- against a plain table ------------------------------------------------------------------- */

#define RANDOM_TIMERS 200

struct model {
	struct timer_wheel wheel;
	struct timer timers[RANDOM_TIMERS];
	uint64_t due_tick[RANDOM_TIMERS]; /* UINT64_MAX: not armed */
	bool must_fire[RANDOM_TIMERS]; /* due when the run began and not touched since */
	uint64_t now_ns, random;
	uint32_t fired;
};

static uint64_t model_expiry(struct model *model)
{
	uint64_t reach = 1ull << random_next(&model->random) % 27; /* in ms: up to 18 hours */
	uint64_t ns = random_next(&model->random) % (reach * MS);

	if (random_next(&model->random) % 16 == 0)
		return ns > model->now_ns ? 0 : model->now_ns - ns;
	return model->now_ns + ns;
}

static void model_arm(struct model *model, uint32_t index)
{
	uint64_t expiry = model_expiry(model);

	timer_arm(&model->wheel, &model->timers[index], expiry);
	model->must_fire[index] = false;
	model->due_tick[index] = expiry / MS + (expiry % MS != 0);
}

static void model_cancel(struct model *model, uint32_t index)
{
	timer_cancel(&model->wheel, &model->timers[index]);
	model->must_fire[index] = false;
	model->due_tick[index] = UINT64_MAX;
}

static void on_model(void *context, struct timer *timer)
{
	struct model *model = context;
	uint32_t index = (uint32_t)(timer - model->timers);

	assert_true(model->due_tick[index] <= model->now_ns / MS);
	assert_true(model->must_fire[index]); /* nothing armed inside a run fires in it */
	model->must_fire[index] = false;
	model->due_tick[index] = UINT64_MAX;
	model->fired++;
	switch (random_next(&model->random) % 8) {
	case 0:
		model_arm(model, index);
		break;
	case 1:
		model_arm(model, (uint32_t)(random_next(&model->random) % RANDOM_TIMERS));
		break;
	case 2:
		model_cancel(model, (uint32_t)(random_next(&model->random) % RANDOM_TIMERS));
		break;
	default:
		break;
	}
}

static void on_model_end(void *context, struct timer *timer)
{
	struct model *model = context;

	model->due_tick[timer - model->timers] = UINT64_MAX;
}

static void model_check(struct model *model)
{
	uint64_t next = UINT64_MAX;
	uint32_t armed = 0;

	for (uint32_t i = 0; i < RANDOM_TIMERS; i++) {
		assert_int_equal(
			timer_is_armed(&model->timers[i]), model->due_tick[i] != UINT64_MAX);
		if (model->due_tick[i] == UINT64_MAX)
			continue;
		armed++;
		if (model->due_tick[i] < next)
			next = model->due_tick[i];
	}
	assert_int_equal(model->wheel.count, armed);
	if (armed == 0)
		assert_true(timer_next_ns(&model->wheel) == UINT64_MAX);
	else if (next * MS > model->now_ns)
		assert_true(timer_next_ns(&model->wheel) <= next * MS);
	else
		assert_true(timer_next_ns(&model->wheel) <= model->now_ns);
}

static void model_run(struct model *model, uint32_t count_max)
{
	uint32_t due = 0, ran;

	for (uint32_t i = 0; i < RANDOM_TIMERS; i++) {
		model->must_fire[i] = model->due_tick[i] <= model->now_ns / MS;
		due += model->must_fire[i];
	}
	model->fired = 0;
	ran = timer_run(&model->wheel, model->now_ns, count_max, on_model, model);
	assert_int_equal(ran, model->fired);
	assert_true(ran <= due && ran <= count_max);
	for (uint32_t i = 0; i < RANDOM_TIMERS && ran < count_max; i++)
		assert_false(model->must_fire[i]);
}

static void timer_random_against_table(void **state)
{
	struct model *model = calloc(1, sizeof(*model));

	(void)state;
	assert_non_null(model);
	model->random = seed;
	model->now_ns = random_next(&model->random) >> 14;
	timer_wheel_init(&model->wheel, model->now_ns);
	for (uint32_t i = 0; i < RANDOM_TIMERS; i++)
		model->due_tick[i] = UINT64_MAX;
	for (int step = 0; step < 30000; step++) {
		uint64_t what = random_next(&model->random);
		uint64_t next = timer_next_ns(&model->wheel);

		if (what % 8 < 3)
			model_arm(model, (uint32_t)(what >> 8) % RANDOM_TIMERS);
		else if (what % 8 == 3)
			model_cancel(model, (uint32_t)(what >> 8) % RANDOM_TIMERS);
		else if (what % 8 == 4 && next != UINT64_MAX && next > model->now_ns)
			model->now_ns = next;
		else if (what % 8 == 5)
			model->now_ns += (what >> 8) % (MS << (what >> 4) % 24);
		else
			model_run(model, what % 3 == 0 ? (uint32_t)(what >> 8) % 4 : UINT32_MAX);
		model_check(model);
	}
	/* Following timer_next_ns alone, with nothing armed any more, empties the wheel in few turns. */
	for (uint32_t turns = 0; model->wheel.count > 0; turns++) {
		uint64_t next = timer_next_ns(&model->wheel);

		assert_true(turns < RANDOM_TIMERS * 8);
		if (next > model->now_ns)
			model->now_ns = next;
		timer_run(&model->wheel, model->now_ns, UINT32_MAX, on_model_end, model);
		model_check(model);
	}
	assert_int_equal(model->wheel.count, 0);
	free(model);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timer_fires_at_its_tick),
		cmocka_unit_test(timer_armed_for_the_past),
		cmocka_unit_test(timer_clock_goes_back),
		cmocka_unit_test(timer_cancel_and_arm_again),
		cmocka_unit_test(timer_borders_of_levels),
		cmocka_unit_test(timer_beyond_the_wheel),
		cmocka_unit_test(timer_at_the_end_of_time),
		cmocka_unit_test(timer_clock_jumps),
		cmocka_unit_test(timer_count_max),
		cmocka_unit_test(timer_callbacks_arm_and_cancel),
		cmocka_unit_test(timer_random_against_table),
	};

	seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0)
							   : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
