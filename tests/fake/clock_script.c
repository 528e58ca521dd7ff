/* A clock and a random source that a test decides; see clock_script.h. One thread. */
#include "tests/fake/clock_script.h"

#include "engine/clock.h"

static uint64_t script_now_ns = 1000000000u;
static uint64_t script_entropy = 1;
static int script_entropy_status;

void clock_script_set_ns(uint64_t now_ns)
{
	script_now_ns = now_ns;
}

void clock_script_advance_ms(uint64_t milliseconds)
{
	script_now_ns += milliseconds * 1000000u;
}

void entropy_script_seed(uint64_t seed)
{
	script_entropy = seed;
}

void entropy_script_fail(int status)
{
	script_entropy_status = status;
}

uint64_t clock_now_ns(void)
{
	return script_now_ns;
}

/* The day on which the script's clock began was the first of 2026. */
int64_t clock_real_s(void)
{
	return 1767225600 + (int64_t)(script_now_ns / 1000000000u);
}

/* splitmix64: every seed, 0 included, gives a good sequence. */
static uint64_t entropy_next(void)
{
	uint64_t mixed = script_entropy += 0x9e3779b97f4a7c15u;

	mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
	return mixed ^ (mixed >> 31);
}

int entropy_fill(void *out, size_t bytes)
{
	uint8_t *at = out;

	if (script_entropy_status != 0)
		return script_entropy_status;
	while (bytes-- > 0)
		*at++ = (uint8_t)entropy_next();
	return 0;
}
