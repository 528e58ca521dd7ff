/*
 * limits.c: see limits.h.
 *
 * Counts by key. A cell is one word: 40 bits of the key's digest, 24 bits of count; 0 is free. The cells that a key
 * may stand in are WINDOW consecutive ones, from a place that its digest names.
 *   take  look through the whole window. Where the key stands: one CAS adds 1 if that keeps to the limit.
 *         Where it does not: one CAS turns the first free cell into (key, 1). Then look through the window
 *         again and add up all cells of the key: more than the limit, and the unit goes back.
 *   give  one CAS takes 1 off the cell that the unit was taken in; the last one frees the cell.
 * Why the sum: a cell may become free between two takers' looks, and then both may begin a cell for the same
 * new key. Units never move from cell to cell and all steps are sequentially consistent. Of the units
 * held at one moment let the last one taken be u: its look came after its own CAS, so after those of all the
 * others, and saw them all (they are still held): their sum was within the limit. So there is no
 * overshoot. The price is that two takers who meet like that at the very limit may both be refused.
 *
 * Two keys with the same 40 bits in one window are counted as one: the digest is keyed and nobody outside can
 * look for such pairs; by chance it is one in 10^10 for each key. Cells are four times as many as
 * keys, so a window without a free one does not happen either (-ENOSPC).
 *
 * The memory budget has no count of its own: it is the sum of the others, and the same reasoning holds.
 *
 * (ck's hash tables have one writer at a time; here every shard writes.)
 */
#include "engine/limits.h"

#include "engine/check.h"
#include "engine/digest.h"
#include "engine/memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define WINDOW 32u
#define CELLS_MIN 64u
#define CELLS_EACH 4u /* for each connection */
#define COUNT_BITS 24u
#define COUNT_MASK ((1ull << COUNT_BITS) - 1)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECOND_NS 1000000000ull

struct table {
	_Atomic uint64_t *cells; /* NULL: off */
	uint64_t cell_count; /* a power of two */
};

struct limits {
	_Atomic uint64_t values[PH_LIMIT_COUNT];
	bool was_set[PH_LIMIT_COUNT]; /* constant, like the next */
	bool is_on[PH_LIMIT_COUNT]; /* counted */
	bool is_gate;
	_Alignas(64) _Atomic uint64_t connections;
	_Alignas(64) _Atomic uint64_t handshakes;
	_Alignas(64) _Atomic uint64_t queued_bytes;
	_Alignas(64) _Atomic uint64_t rate_ns; /* when the accept rate's bucket is full again */
	_Atomic uint64_t numbers;
	const _Atomic uint64_t *reassembly_bytes; /* the hub's */
	struct table tables[LIMIT_KEY_COUNT];
	_Atomic uint64_t refusals[PH_LIMIT_COUNT];
	/* The last refusal: odd while one writes; who finds it odd leaves it to him. */
	struct {
		_Atomic uint64_t sequence, time_ns;
		_Atomic uint64_t address[2], port;
	} last[PH_LIMIT_COUNT];
};

static const enum ph_limit key_limits[LIMIT_KEY_COUNT] = {
	[LIMIT_KEY_SUBNET] = PH_LIMIT_SUBNET,
	[LIMIT_KEY_GROUP] = PH_LIMIT_GROUP,
	[LIMIT_KEY_IDENTITY] = PH_LIMIT_IDENTITY,
	[LIMIT_KEY_TWIN] = PH_LIMIT_DUPLICATE,
};

static const enum ph_limit gates[] = {PH_LIMIT_CONNECTIONS, PH_LIMIT_SUBNET, PH_LIMIT_HANDSHAKES,
	PH_LIMIT_ACCEPT_RATE, PH_LIMIT_MEMORY, PH_LIMIT_LOOP_LAG};
static const enum ph_limit summed[] = {
	PH_LIMIT_CONNECTIONS, PH_LIMIT_HANDSHAKES, PH_LIMIT_SEND_TOTAL};

const char *ph_limit_name(enum ph_limit limit)
{
	static const char *const names[PH_LIMIT_COUNT] = {
#define NAME(name, text, reason) text,
		PH_LIMITS(NAME)
#undef NAME
	};

	return (unsigned)limit < PH_LIMIT_COUNT ? names[limit] : NULL;
}

enum ph_reason ph_limit_reason(enum ph_limit limit)
{
	static const enum ph_reason reasons[PH_LIMIT_COUNT] = {
#define REASON(name, text, reason) reason,
		PH_LIMITS(REASON)
#undef REASON
	};

	return (unsigned)limit < PH_LIMIT_COUNT ? reasons[limit] : PH_REASON_NONE;
}

/* ---- life ------------------------------------------------------------------------------- */

static size_t table_bytes(const struct table *table)
{
	return (size_t)table->cell_count * sizeof(*table->cells);
}

static int table_create(struct table *table, uint64_t connections)
{
	table->cell_count = CELLS_MIN;
	while (table->cell_count < CELLS_EACH * connections)
		table->cell_count *= 2;
	table->cells = memory_map(table_bytes(table));
	return table->cells != NULL ? 0 : -ENOMEM;
}

static void table_destroy(struct table *table)
{
	if (table->cells == NULL)
		return;
	memory_unmap(table->cells, table_bytes(table));
}

static bool table_is_empty(const struct table *table)
{
	if (table->cells == NULL)
		return true;
	for (uint64_t i = 0; i < table->cell_count; i++)
		if (atomic_load_explicit(&table->cells[i], memory_order_relaxed) != 0)
			return false;
	return true;
}

int limits_create(const struct limits_options *options, struct limits **out)
{
	struct limits *limits = memory_zalloc(sizeof(*limits));

	*out = NULL;
	if (limits == NULL)
		return -ENOMEM;
	for (int i = 0; i < PH_LIMIT_COUNT; i++) {
		atomic_init(&limits->values[i], options->values[i]);
		limits->was_set[i] = options->values[i] != 0;
		limits->is_on[i] = limits->was_set[i];
	}
	for (size_t i = 0; i < COUNT(gates); i++)
		limits->is_gate |= limits->was_set[gates[i]];
	/* The memory budget is their sum. */
	for (size_t i = 0; limits->is_on[PH_LIMIT_MEMORY] && i < COUNT(summed); i++)
		limits->is_on[summed[i]] = true;
	atomic_init(&limits->values[PH_LIMIT_DUPLICATE], options->twins);
	limits->is_on[PH_LIMIT_DUPLICATE] = options->twins;
	limits->reassembly_bytes = options->reassembly_bytes;
	for (int i = 0; i < LIMIT_KEY_COUNT; i++) {
		if (!limits->is_on[key_limits[i]])
			continue;
		if (table_create(&limits->tables[i], options->connections) < 0) {
			limits_destroy(limits);
			return -ENOMEM;
		}
	}
	*out = limits;
	return 0;
}

void limits_destroy(struct limits *limits)
{
	if (limits == NULL)
		return;
	assert(atomic_load(&limits->connections) == 0);
	assert(atomic_load(&limits->handshakes) == 0);
	assert(atomic_load(&limits->queued_bytes) == 0);
	for (int i = 0; i < LIMIT_KEY_COUNT; i++) {
		assert(table_is_empty(&limits->tables[i]));
		table_destroy(&limits->tables[i]);
	}
	memory_free(limits);
}

/* ---- values ----------------------------------------------------------------------------- */

bool limits_is_gate(const struct limits *limits)
{
	return limits != NULL && limits->is_gate;
}

bool limits_is_on(const struct limits *limits, enum ph_limit limit)
{
	return limits != NULL && limits->is_on[limit];
}

uint64_t limits_value(const struct limits *limits, enum ph_limit limit)
{
	uint64_t value;

	if (!limits_is_on(limits, limit))
		return PH_LIMIT_NONE;
	value = atomic_load_explicit(&limits->values[limit], memory_order_relaxed);
	return value != 0 ? value : PH_LIMIT_NONE; /* counted for the memory budget's sake */
}

int limits_set(struct limits *limits, const uint64_t values[PH_LIMIT_COUNT])
{
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		if (i != PH_LIMIT_DUPLICATE && limits->was_set[i] != (values[i] != 0))
			return -EINVAL;
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		if (i != PH_LIMIT_DUPLICATE)
			atomic_store_explicit(&limits->values[i], values[i], memory_order_relaxed);
	return 0;
}

/* ---- plain counts ------------------------------------------------------------------------ */

static bool count_take(_Atomic uint64_t *count, uint64_t by, uint64_t most)
{
	uint64_t now = atomic_load(count);

	do {
		if (now >= most || by > most - now)
			return false;
	} while (!atomic_compare_exchange_weak(count, &now, now + by));
	return true;
}

static void count_give(_Atomic uint64_t *count, uint64_t by)
{
	uint64_t before = atomic_fetch_sub(count, by);

	assert(before >= by);
}

static _Atomic uint64_t *count_of(struct limits *limits, enum ph_limit limit)
{
	return limit == PH_LIMIT_CONNECTIONS ? &limits->connections : &limits->handshakes;
}

static uint64_t memory_used(const struct limits *limits)
{
	return atomic_load(&limits->connections) * LIMITS_CONNECTION_BYTES +
		atomic_load(&limits->handshakes) * LIMITS_HANDSHAKE_BYTES +
		atomic_load(&limits->queued_bytes) + atomic_load(limits->reassembly_bytes);
}

bool limits_take(struct limits *limits, enum ph_limit limit)
{
	return count_take(count_of(limits, limit), 1, limits_value(limits, limit));
}

void limits_give(struct limits *limits, enum ph_limit limit)
{
	count_give(count_of(limits, limit), 1);
}

bool limits_memory_fits(const struct limits *limits)
{
	uint64_t most = limits_value(limits, PH_LIMIT_MEMORY);

	if (most == PH_LIMIT_NONE)
		return true;
	return memory_used(limits) <= most;
}

bool limits_take_bytes(struct limits *limits, uint64_t bytes, enum ph_limit *limit)
{
	uint64_t most = limits_value(limits, PH_LIMIT_SEND_TOTAL);
	uint64_t now = atomic_load(&limits->queued_bytes);

	*limit = PH_LIMIT_SEND_TOTAL;
	do {
		/* One that is over the whole limit is let in alone. */
		if (now != 0 && (now >= most || bytes > most - now))
			return false;
	} while (!atomic_compare_exchange_weak(&limits->queued_bytes, &now, now + bytes));
	if (limits_memory_fits(limits))
		return true;
	count_give(&limits->queued_bytes, bytes);
	*limit = PH_LIMIT_MEMORY;
	return false;
}

void limits_give_bytes(struct limits *limits, uint64_t bytes)
{
	count_give(&limits->queued_bytes, bytes);
}

bool limits_take_rate(struct limits *limits, uint64_t now_ns)
{
	uint64_t most = limits_value(limits, PH_LIMIT_ACCEPT_RATE);
	uint64_t full_ns = atomic_load_explicit(&limits->rate_ns, memory_order_relaxed);
	uint64_t next_ns;

	if (most >= SECOND_NS)
		return true;
	do {
		next_ns = (full_ns > now_ns ? full_ns : now_ns) + SECOND_NS / most;
		if (next_ns - now_ns > SECOND_NS)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&limits->rate_ns, &full_ns, next_ns, memory_order_relaxed, memory_order_relaxed));
	return true;
}

uint64_t limits_next_number(struct limits *limits)
{
	return atomic_fetch_add(&limits->numbers, 1) + 1;
}

/* ---- counts by key ---------------------------------------------------------------------- */

static uint64_t key_print(struct hash_key key)
{
	uint64_t print = key.word[1] >> COUNT_BITS;

	return print != 0 ? print : 1;
}

static _Atomic uint64_t *cell_at(const struct table *table, struct hash_key key, uint32_t step)
{
	return &table->cells[(key.word[0] + step) & (table->cell_count - 1)];
}

static uint64_t key_sum(const struct table *table, struct hash_key key)
{
	uint64_t print = key_print(key), sum = 0;

	for (uint32_t step = 0; step < WINDOW; step++) {
		uint64_t word = atomic_load(cell_at(table, key, step));

		if (word >> COUNT_BITS == print)
			sum += word & COUNT_MASK;
	}
	return sum;
}

/* Where the key stands; else a free cell; else NULL. Its word as it was seen is in *word. */
static _Atomic uint64_t *key_look(const struct table *table, struct hash_key key, uint64_t *word)
{
	_Atomic uint64_t *empty = NULL;

	for (uint32_t step = 0; step < WINDOW; step++) {
		_Atomic uint64_t *cell = cell_at(table, key, step);

		*word = atomic_load(cell);
		if (*word >> COUNT_BITS == key_print(key))
			return cell;
		if (*word == 0 && empty == NULL)
			empty = cell;
	}
	*word = 0;
	return empty;
}

static void cell_give(_Atomic uint64_t *cell)
{
	uint64_t word = atomic_load(cell);

	do
		assert((word & COUNT_MASK) > 0);
	while (!atomic_compare_exchange_weak(cell, &word, (word & COUNT_MASK) == 1 ? 0 : word - 1));
}

int limits_take_key(struct limits *limits, enum limit_key kind, struct hash_key key, uint32_t *at)
{
	const struct table *table = &limits->tables[kind];
	uint64_t most = limits_value(limits, key_limits[kind]);
	_Atomic uint64_t *cell;
	uint64_t word;

	do {
		cell = key_look(table, key, &word);
		if (cell == NULL)
			return -ENOSPC;
		if ((word & COUNT_MASK) >= most || (word & COUNT_MASK) == COUNT_MASK)
			return -EDQUOT;
	} while (!atomic_compare_exchange_strong(
		cell, &word, word != 0 ? word + 1 : key_print(key) << COUNT_BITS | 1));
	if (key_sum(table, key) > most) {
		cell_give(cell);
		return -EDQUOT;
	}
	*at = (uint32_t)(cell - table->cells);
	return 0;
}

void limits_give_key(struct limits *limits, enum limit_key kind, uint32_t cell)
{
	assert(cell < limits->tables[kind].cell_count);
	cell_give(&limits->tables[kind].cells[cell]);
}

struct hash_key limits_subnet(const ph_address *address)
{
	const uint8_t *from = address->sin6_addr.s6_addr;
	char text[2 * sizeof(address->sin6_addr) + 1];
	size_t bytes = IN6_IS_ADDR_V4MAPPED(&address->sin6_addr) ? 16 : 7;

	for (size_t i = 0; i < bytes; i++)
		snprintf(text + 2 * i, 3, "%02x", from[i]);
	return digest_pair("subnet", text);
}

/* ---- what the operator sees -------------------------------------------------------------- */

void limits_refused(
	struct limits *limits, enum ph_limit limit, uint64_t now_ns, const ph_address *address)
{
	uint64_t sequence, words[2] = {0, 0};

	if (limits == NULL)
		return;
	atomic_fetch_add_explicit(&limits->refusals[limit], 1, memory_order_relaxed);
	sequence = atomic_load_explicit(&limits->last[limit].sequence, memory_order_relaxed);
	/* Who comes at the same moment as another is no later than he. */
	if ((sequence & 1) != 0 ||
		!atomic_compare_exchange_strong(
			&limits->last[limit].sequence, &sequence, sequence + 1))
		return;
	if (address != NULL)
		memcpy(words, &address->sin6_addr, sizeof(words));
	atomic_store(&limits->last[limit].time_ns, now_ns);
	atomic_store(&limits->last[limit].address[0], words[0]);
	atomic_store(&limits->last[limit].address[1], words[1]);
	atomic_store(&limits->last[limit].port, address != NULL ? address->sin6_port : 0);
	atomic_store(&limits->last[limit].sequence, sequence + 2);
}

/* As it was when nobody wrote; after some attempts as it is: each part of it is true for some refusal. */
static void last_read(
	const struct limits *limits, enum ph_limit limit, struct ph_limit_state *state)
{
	uint64_t sequence, words[2];

	for (int attempt = 0; attempt < 16; attempt++) {
		sequence = atomic_load(&limits->last[limit].sequence);
		state->last_ns = atomic_load(&limits->last[limit].time_ns);
		words[0] = atomic_load(&limits->last[limit].address[0]);
		words[1] = atomic_load(&limits->last[limit].address[1]);
		state->last_address.sin6_port = (in_port_t)atomic_load(&limits->last[limit].port);
		if ((sequence & 1) == 0 && atomic_load(&limits->last[limit].sequence) == sequence)
			break;
	}
	state->last_address.sin6_family = AF_INET6;
	memcpy(&state->last_address.sin6_addr, words, sizeof(words));
}

static void keys_read(const struct table *table, struct ph_limit_state *state)
{
	for (uint64_t i = 0; i < table->cell_count; i++) {
		uint64_t word = atomic_load_explicit(&table->cells[i], memory_order_relaxed);

		state->keys += word != 0;
		if ((word & COUNT_MASK) > state->use)
			state->use = word & COUNT_MASK;
	}
}

void limits_read(const struct limits *limits, struct ph_limit_state states[PH_LIMIT_COUNT])
{
	memset(states, 0, PH_LIMIT_COUNT * sizeof(*states));
	if (limits == NULL)
		return;
	for (int i = 0; i < PH_LIMIT_COUNT; i++) {
		states[i].value = atomic_load_explicit(&limits->values[i], memory_order_relaxed);
		states[i].refusals =
			atomic_load_explicit(&limits->refusals[i], memory_order_relaxed);
		last_read(limits, (enum ph_limit)i, &states[i]);
	}
	states[PH_LIMIT_CONNECTIONS].use = atomic_load(&limits->connections);
	states[PH_LIMIT_HANDSHAKES].use = atomic_load(&limits->handshakes);
	states[PH_LIMIT_SEND_TOTAL].use = atomic_load(&limits->queued_bytes);
	states[PH_LIMIT_MEMORY].use = memory_used(limits);
	for (int i = 0; i < LIMIT_KEY_COUNT; i++)
		if (limits->tables[i].cells != NULL)
			keys_read(&limits->tables[i], &states[key_limits[i]]);
}
