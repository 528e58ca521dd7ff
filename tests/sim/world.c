/* Random numbers, faults, trace, breach; and of the seam clock, entropy and memory. See sim.h. */
#include "tests/sim/sim.h"

#include "engine/clock.h"
#include "engine/memory.h"
#include "tests/sim/point.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define WORLD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WORLD_ASAN 1
#endif
#endif
#ifndef WORLD_ASAN
#define WORLD_ASAN 0
#endif

/* ---- random numbers (splitmix64) ---------------------------------------------------------- */

static uint64_t random_state, entropy_state;

static uint64_t mix(uint64_t *state)
{
	uint64_t mixed = *state += 0x9e3779b97f4a7c15u;

	mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
	return mixed ^ (mixed >> 31);
}

void random_seed(uint64_t seed)
{
	random_state = seed;
	entropy_state = ~seed;
}

uint64_t random_next(void)
{
	return mix(&random_state);
}

uint32_t random_below(uint32_t count)
{
	return (uint32_t)(((random_next() >> 32) * count) >> 32);
}

bool random_one_in(uint32_t count)
{
	return count != 0 && random_below(count) == 0;
}

uint32_t random_between(uint32_t least, uint32_t most)
{
	return least + random_below(most - least + 1);
}

uint32_t random_size(uint32_t most)
{
	uint32_t bits = 0;

	while (bits < 31 && (2u << bits) <= most)
		bits++;
	bits = random_between(0, bits);
	most = most < (2u << bits) - 1 ? most : (2u << bits) - 1;
	return random_between(1, most > 0 ? most : 1);
}

/* ---- faults -------------------------------------------------------------------------------- */

uint64_t *sim_counts;
struct sim_rates sim_rates;
bool sim_is_calm;

void sim_count(enum sim_event event)
{
	__atomic_fetch_add(&sim_counts[event], 1, __ATOMIC_RELAXED);
}

bool fault(uint32_t rate, enum sim_event event)
{
	if (sim_is_calm || !random_one_in(rate))
		return false;
	sim_count(event);
	return true;
}

bool sim_spurious(void)
{
	return fault(sim_rates.spurious, SIM_cas_spurious);
}

/* ---- trace --------------------------------------------------------------------------------- */

#define TRACE_KEPT 4096u
struct line {
	const char *format;
	uint64_t step, now_ns, values[5];
	uint32_t fiber;
};
static struct line lines[TRACE_KEPT];
static uint64_t lines_written, lines_hash;
bool sim_trace_all;
uint64_t sim_seed, sim_steps, sim_now_ns = 1000000000u, sim_jumped_ns;
bool sim_tls_is_real;

static void line_print(FILE *out, const struct line *line)
{
	fprintf(out, "%8llu %12.6f %2u  ", (unsigned long long)line->step,
		(double)line->now_ns / 1e9, line->fiber);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	fprintf(out, line->format, line->values[0], line->values[1], line->values[2],
		line->values[3], line->values[4]);
#pragma GCC diagnostic pop
	fputc('\n', out);
}

void sim_trace(const char *format, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	struct line *line = &lines[lines_written++ % TRACE_KEPT];

	*line = (struct line){format, sim_steps, sim_now_ns, {a, b, c, d, e}, fiber_number()};
	for (const char *at = format; *at != '\0'; at++)
		lines_hash = (lines_hash ^ (uint8_t)*at) * 0x100000001b3u;
	for (int i = 0; i < 5; i++)
		lines_hash = (lines_hash ^ line->values[i]) * 0x100000001b3u + (lines_hash >> 47);
	lines_hash ^= line->step + line->now_ns;
	if (sim_trace_all)
		line_print(stdout, line);
}

uint64_t sim_trace_hash(void)
{
	return lines_hash;
}

void sim_trace_print(uint32_t count)
{
	uint64_t from = lines_written > count ? lines_written - count : 0;

	if (count > TRACE_KEPT)
		count = TRACE_KEPT;
	if (lines_written > count)
		from = lines_written - count;
	for (; from < lines_written; from++)
		line_print(stderr, &lines[from % TRACE_KEPT]);
}

/* ---- breach -------------------------------------------------------------------------------- */

#define TRACE_SHOWN 60u

void breach_report(const char *what)
{
	const char *mode = sim_tls_is_real ? "tls" : "plain";

	fflush(stdout);
	fprintf(stderr, "---- the last steps (step, time, fiber)\n");
	if (!sim_trace_all)
		sim_trace_print(TRACE_SHOWN);
	fprintf(stderr,
		"sim: seed %llu mode %s: %s\nsim: replay: peerhub-sim --seed %llu --mode %s --trace\n",
		(unsigned long long)sim_seed, mode, what, (unsigned long long)sim_seed, mode);
	fflush(stderr);
}

void breach(const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	breach_report(text);
	_exit(1);
}

/* ---- clock, entropy ------------------------------------------------------------------------ */

uint64_t clock_now_ns(void)
{
	sim_point();
	if (fault(sim_rates.clock_jump, SIM_clock_jump)) {
		uint64_t jump = random_between(1, 40000) * SIM_MS;

		TRACE1("the clock jumps by %llu ns", jump);
		sim_now_ns += jump;
		sim_jumped_ns += jump;
	}
	return sim_now_ns;
}

/* Certificates are judged by a day that goes on with the run. */
int64_t clock_real_s(void)
{
	return 1767225600 + (int64_t)(sim_now_ns / 1000000000u);
}

int entropy_fill(void *out, size_t bytes)
{
	uint8_t *at = out;

	if (fault(sim_rates.entropy, SIM_entropy_failed))
		return -EIO;
	while (bytes-- > 0)
		*at++ = (uint8_t)mix(&entropy_state);
	return 0;
}

/* ---- memory -------------------------------------------------------------------------------- */

/* A block: its size in front, guards at both ends; what is freed is overwritten and looked at again some
 * frees later. Under ASan its own redzones and quarantine do better. */
#define GUARD 0x5afe5afe5afe5afeull
#define FREED 0xdd
#define FRESH 0xa5
#define QUARANTINE 256u
#define QUARANTINE_BYTES_MAX 8192u

struct block {
	uint64_t bytes, guard;
	uint8_t data[];
};

static int64_t live;
static uint32_t drought; /* so many more allocations fail */
static struct block *quarantine[QUARANTINE];
static uint32_t quarantine_at;

int64_t memory_sim_live(void)
{
	return live;
}

static bool memory_is_refused(void)
{
	sim_point();
	if (sim_is_calm)
		drought = 0;
	if (drought > 0) {
		drought--;
		sim_count(SIM_allocation_failed);
		return true;
	}
	if (fault(sim_rates.drought, SIM_allocation_drought))
		drought = random_size(200);
	if (!fault(sim_rates.memory, SIM_allocation_failed))
		return false;
	TRACE0("an allocation fails");
	return true;
}

static struct block *block_of(void *data)
{
	return (struct block *)(void *)((char *)data - offsetof(struct block, data));
}

static void *block_make(size_t bytes, bool zeroed)
{
	struct block *block;
	uint64_t guard = GUARD;

	live++;
	if (WORLD_ASAN) {
		void *data =
			zeroed ? calloc(1, bytes > 0 ? bytes : 1) : malloc(bytes > 0 ? bytes : 1);

		if (data == NULL)
			breach("the simulator itself has no memory");
		return data;
	}
	block = zeroed ? calloc(1, sizeof(*block) + bytes + sizeof(guard))
		       : malloc(sizeof(*block) + bytes + sizeof(guard));
	if (block == NULL)
		breach("the simulator itself has no memory");
	block->bytes = bytes;
	block->guard = GUARD;
	if (!zeroed)
		memset(block->data, FRESH, bytes);
	memcpy(block->data + bytes, &guard, sizeof(guard));
	return block->data;
}

static void block_check(const struct block *block)
{
	uint64_t guard;

	if (block->guard != GUARD)
		breach("memory: freed twice, or written in front of a block");
	memcpy(&guard, block->data + block->bytes, sizeof(guard));
	if (guard != GUARD)
		breach("memory: written behind a block of %llu bytes",
			(unsigned long long)block->bytes);
}

static void quarantine_leave(struct block *block)
{
	if (block == NULL)
		return;
	for (uint64_t i = 0; i < block->bytes; i++)
		if (block->data[i] != FREED)
			breach("memory: a block of %llu bytes was written to after it was freed",
				(unsigned long long)block->bytes);
	free(block);
}

void memory_sim_check(void)
{
	for (uint32_t i = 0; i < QUARANTINE; i++) {
		quarantine_leave(quarantine[i]);
		quarantine[i] = NULL;
	}
}

void *memory_alloc(size_t bytes)
{
	return memory_is_refused() ? NULL : block_make(bytes, false);
}

void *memory_zalloc(size_t bytes)
{
	return memory_is_refused() ? NULL : block_make(bytes, true);
}

void *memory_realloc(void *data, size_t bytes)
{
	void *grown = memory_alloc(bytes);
	size_t before;

	if (grown == NULL || data == NULL)
		return grown;
	if (WORLD_ASAN) {
		/* Never smaller than before: the engine only grows. */
		free(grown);
		live--;
		grown = realloc(data, bytes > 0 ? bytes : 1);
		if (grown == NULL)
			breach("the simulator itself has no memory");
		return grown;
	}
	before = block_of(data)->bytes;
	memcpy(grown, data, before < bytes ? before : bytes);
	memory_free(data);
	return grown;
}

void memory_free(void *data)
{
	struct block *block;

	if (data == NULL)
		return;
	live--;
	if (WORLD_ASAN) {
		free(data);
		return;
	}
	block = block_of(data);
	block_check(block);
	block->guard = 0;
	if (block->bytes > QUARANTINE_BYTES_MAX) {
		free(block);
		return;
	}
	memset(block->data, FREED, block->bytes);
	quarantine_leave(quarantine[quarantine_at]);
	quarantine[quarantine_at] = block;
	quarantine_at = (quarantine_at + 1) % QUARANTINE;
}

void *memory_map(size_t bytes)
{
	size_t whole = (bytes + 4095) & ~(size_t)4095;
	void *pages;

	if (memory_is_refused())
		return NULL;
	live++;
	/* Under ASan a block of the C library, whose edges it sees. */
	if (WORLD_ASAN) {
		pages = aligned_alloc(4096, whole > 0 ? whole : 4096);
		if (pages != NULL)
			memset(pages, 0, bytes);
	} else {
		pages = mmap(NULL, whole > 0 ? whole : 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (pages == MAP_FAILED)
			pages = NULL;
	}
	if (pages == NULL)
		breach("the simulator itself has no memory");
	return pages;
}

void memory_unmap(void *pages, size_t bytes)
{
	size_t whole = (bytes + 4095) & ~(size_t)4095;

	live -= pages != NULL;
	if (WORLD_ASAN)
		free(pages);
	else if (pages != NULL)
		(void)munmap(pages, whole > 0 ? whole : 4096);
}

void memory_arena_begin(void)
{
}

void memory_arena_end(void)
{
}
