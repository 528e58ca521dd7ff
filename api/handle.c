/*
 * Handle tables: one per kind, made of chunks of slots that are allocated when first needed and kept
 * for the life of the process.
 *
 * The slot word is all there is to race for:
 *
 *	bits 63..32 generation    31 live    30..0 references
 *
 * handle_get adds a reference by compare-and-swap on a word that is live and of the handle's
 * generation. The object pointer is written before the word becomes live (release) and read after a
 * successful swap (acquire); it cannot change while references are held. Free slots are on a list
 * under the table's mutex, which no lookup takes.
 */
#include "api/handle.h"

#include "api/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CHUNK_SLOTS 1024u
#define CHUNKS_MAX (HANDLES_PER_KIND_MAX / CHUNK_SLOTS)

#define WORD_LIVE 0x80000000u
#define WORD_REFS 0x7FFFFFFFu
#define REFS_MAX (1u << 30) /* far from the live bit: more threads than any machine has */
#define GENERATION_LAST UINT32_MAX /* a slot that reached it retires: no handle ever comes back */
#define INDEX_NONE UINT32_MAX

_Static_assert(HANDLES_PER_KIND_MAX <= 1u << 24, "an index has 24 bits in a handle");
_Static_assert(sizeof(HANDLE) == sizeof(uint64_t), "a handle holds kind, index and generation");

struct handle_slot {
	_Atomic uint64_t
		word; /* any thread; FREE: generation of the next use, not live, 0 references */
	void *object; /* written by handle_create before the word goes live */
	void (*destroy)(void *object); /* likewise */
	uint32_t next_free; /* under the table's lock, while free */
};

struct handle_table {
	pthread_mutex_t lock; /* free list, growth */
	_Atomic(struct handle_slot *) chunks[CHUNKS_MAX]; /* set once, under the lock */
	uint32_t slot_count; /* in chunks, under the lock */
	uint32_t free_first; /* index of a free slot or INDEX_NONE */
	atomic_uint used;
};

#define TABLE                                                                \
	{                                                                    \
		.lock = PTHREAD_MUTEX_INITIALIZER, .free_first = INDEX_NONE, \
	}
static struct handle_table handle_tables[HANDLE_KIND_COUNT] = {
	[HANDLE_GROUP] = TABLE,
	[HANDLE_PEER_EVENT] = TABLE,
	[HANDLE_ENUMERATION] = TABLE,
	[HANDLE_EVENT_OBJECT] = TABLE,
	[HANDLE_WAIT] = TABLE,
};

static uint32_t handle_index(uint64_t value)
{
	return (uint32_t)(value >> 32) & 0xFFFFFFu;
}

static enum handle_kind handle_kind(uint64_t value)
{
	return (enum handle_kind)(value >> 56);
}

static HANDLE handle_make(enum handle_kind kind, uint32_t index, uint32_t generation)
{
	return (HANDLE)(uintptr_t)((uint64_t)kind << 56 | (uint64_t)index << 32 | generation);
}

/* The slot a handle names, whether or not it is that handle's any more; NULL: never was a slot. */
static struct handle_slot *handle_slot(enum handle_kind kind, HANDLE handle)
{
	uint64_t value = (uint64_t)(uintptr_t)handle;
	uint32_t index = handle_index(value);
	struct handle_slot *chunk;

	if (handle_kind(value) != kind || kind < HANDLE_GROUP || kind >= HANDLE_KIND_COUNT)
		return NULL;
	if (index >= HANDLES_PER_KIND_MAX)
		return NULL;
	chunk = atomic_load_explicit(
		&handle_tables[kind].chunks[index / CHUNK_SLOTS], memory_order_acquire);
	return chunk == NULL ? NULL : &chunk[index % CHUNK_SLOTS];
}

/* The slot of a handle on which the caller holds a reference. */
static struct handle_slot *handle_slot_held(HANDLE handle)
{
	struct handle_slot *slot = handle_slot(handle_kind((uint64_t)(uintptr_t)handle), handle);
	uint64_t word;

	assert(slot != NULL);
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	assert((uint32_t)(word >> 32) == (uint32_t)(uintptr_t)handle);
	assert((word & WORD_REFS) > 0);
	return slot;
}

/* ---- slots ------------------------------------------------------------------------------ */

static struct handle_slot *table_slot(struct handle_table *table, uint32_t index)
{
	struct handle_slot *chunk =
		atomic_load_explicit(&table->chunks[index / CHUNK_SLOTS], memory_order_acquire);

	assert(chunk != NULL);
	return &chunk[index % CHUNK_SLOTS];
}

static int table_grow(struct handle_table *table)
{
	uint32_t first = table->slot_count;
	struct handle_slot *chunk;

	if (first == HANDLES_PER_KIND_MAX)
		return -EMFILE;
	chunk = calloc(CHUNK_SLOTS, sizeof(*chunk));
	if (chunk == NULL)
		return -ENOMEM;
	for (uint32_t index = 0; index < CHUNK_SLOTS; index++) {
		/* Generation 0 is never handed out: a handle's low half is not 0 either. */
		atomic_init(&chunk[index].word, (uint64_t)1 << 32);
		chunk[index].next_free =
			index + 1 < CHUNK_SLOTS ? first + index + 1 : table->free_first;
	}
	atomic_store_explicit(&table->chunks[first / CHUNK_SLOTS], chunk, memory_order_release);
	table->slot_count = first + CHUNK_SLOTS;
	table->free_first = first;
	return 0;
}

static int table_take(struct handle_table *table, uint32_t *index)
{
	int status = 0;

	pthread_mutex_lock(&table->lock);
	if (table->free_first == INDEX_NONE)
		status = table_grow(table);
	if (status == 0) {
		*index = table->free_first;
		table->free_first = table_slot(table, *index)->next_free;
		atomic_fetch_add_explicit(&table->used, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&table->lock);
	return status;
}

static void table_give(struct handle_table *table, struct handle_slot *slot, uint32_t index)
{
	uint32_t generation =
		(uint32_t)(atomic_load_explicit(&slot->word, memory_order_relaxed) >> 32);

	pthread_mutex_lock(&table->lock);
	atomic_fetch_sub_explicit(&table->used, 1, memory_order_relaxed);
	if (generation != GENERATION_LAST) {
		atomic_store_explicit(
			&slot->word, (uint64_t)(generation + 1) << 32, memory_order_relaxed);
		slot->next_free = table->free_first;
		table->free_first = index;
	}
	pthread_mutex_unlock(&table->lock);
}

/* ---- the life of a handle --------------------------------------------------------------- */

static int handle_publish(enum handle_kind kind, void *object, void (*destroy)(void *object),
	HANDLE *handle, uint32_t references)
{
	struct handle_table *table = &handle_tables[kind];
	struct handle_slot *slot;
	uint64_t word;
	uint32_t index;
	int status;

	assert(kind >= HANDLE_GROUP && kind < HANDLE_KIND_COUNT);
	assert(object != NULL);
	status = table_take(table, &index);
	if (status < 0)
		return status;
	slot = table_slot(table, index);
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	assert((word & (WORD_LIVE | WORD_REFS)) == 0);
	slot->object = object;
	slot->destroy = destroy;
	*handle = handle_make(kind, index, (uint32_t)(word >> 32));
	atomic_store_explicit(&slot->word, word | WORD_LIVE | references, memory_order_release);
	return 0;
}

int handle_create(
	enum handle_kind kind, void *object, void (*destroy)(void *object), HANDLE *handle)
{
	return handle_publish(kind, object, destroy, handle, 1);
}

int handle_create_held(
	enum handle_kind kind, void *object, void (*destroy)(void *object), HANDLE *handle)
{
	return handle_publish(kind, object, destroy, handle, 2);
}

void *handle_get(enum handle_kind kind, HANDLE handle)
{
	struct handle_slot *slot = handle_slot(kind, handle);
	uint32_t generation = (uint32_t)(uintptr_t)handle;
	uint64_t word;

	if (slot == NULL)
		return NULL;
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	do {
		if ((uint32_t)(word >> 32) != generation || (word & WORD_LIVE) == 0)
			return NULL;
		assert((word & WORD_REFS) < REFS_MAX);
	} while (!atomic_compare_exchange_weak_explicit(
		&slot->word, &word, word + 1, memory_order_acquire, memory_order_relaxed));
	return slot->object;
}

void handle_hold(HANDLE handle)
{
	struct handle_slot *slot = handle_slot_held(handle);
	uint64_t word = atomic_fetch_add_explicit(&slot->word, 1, memory_order_relaxed);

	assert((word & WORD_REFS) < REFS_MAX);
}

void handle_put(HANDLE handle)
{
	uint64_t value = (uint64_t)(uintptr_t)handle;
	struct handle_slot *slot = handle_slot_held(handle);
	uint64_t word = atomic_fetch_sub_explicit(&slot->word, 1, memory_order_acq_rel);
	void *object;
	void (*destroy)(void *object);

	if ((word & WORD_REFS) > 1)
		return;
	assert((word & WORD_LIVE) == 0); /* the table's own reference goes with handle_revoke */
	object = slot->object;
	destroy = slot->destroy;
	table_give(&handle_tables[handle_kind(value)], slot, handle_index(value));
	destroy(object);
}

bool handle_revoke(enum handle_kind kind, HANDLE handle)
{
	struct handle_slot *slot = handle_slot(kind, handle);
	uint32_t generation = (uint32_t)(uintptr_t)handle;
	uint64_t word;

	if (slot == NULL)
		return false;
	word = atomic_load_explicit(&slot->word, memory_order_relaxed);
	do {
		if ((uint32_t)(word >> 32) != generation || (word & WORD_LIVE) == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&slot->word, &word,
		word & ~(uint64_t)WORD_LIVE, memory_order_acq_rel, memory_order_relaxed));
	return true;
}

/* ---- all of them ------------------------------------------------------------------------ */

uint32_t handle_visit(enum handle_kind kind,
	bool (*visit)(void *context, HANDLE handle, void *object), void *context)
{
	struct handle_table *table = &handle_tables[kind];
	uint32_t slot_count;
	uint32_t seen = 0;

	assert(kind >= HANDLE_GROUP && kind < HANDLE_KIND_COUNT);
	pthread_mutex_lock(&table->lock);
	slot_count = table->slot_count;
	pthread_mutex_unlock(&table->lock);
	for (uint32_t index = 0; index < slot_count; index++) {
		uint64_t word =
			atomic_load_explicit(&table_slot(table, index)->word, memory_order_relaxed);
		HANDLE handle = handle_make(kind, index, (uint32_t)(word >> 32));
		void *object = handle_get(kind, handle);
		bool go_on;

		if (object == NULL)
			continue;
		seen++;
		go_on = visit(context, handle, object);
		handle_put(handle);
		if (!go_on)
			break;
	}
	return seen;
}

uint32_t handle_count(enum handle_kind kind)
{
	return atomic_load_explicit(&handle_tables[kind].used, memory_order_relaxed);
}
