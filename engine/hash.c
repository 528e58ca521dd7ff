/*
 * The hash part of one shard; see hash.h. One writer (the owning shard), any number of readers.
 *
 * Three layers, all of them type-stable (no memory is given back before hash_destroy):
 *   map      a ck_rhs of pointers to entries, keyed by the pair's digest
 *   entries  one per pair: {sequence, key, newest}. `newest` is the slot of the pair's newest id
 *   links    one per slot: {id, next}. `next` is the slot of the next older id of the same pair
 * Entries without a pair wait in a list of the owner's.
 *
 * Invariant, at every single step of the writer: whoever follows newest and next from an entry sees
 * exactly the ids of its pair, newest first, or all but the one that is being inserted or removed.
 *   insert  the link's id and next are written first; ONE store of newest makes it part of the pair
 *   remove  ONE store (of newest, or of the newer link's next) takes it out; then the sequence goes up
 *           by one; only after that may the slot's link, or the entry when it is empty, be used again
 *   reuse   of an entry: its key is written while newest is 0, then the sequence goes up once more, then
 *           newest is written
 * All these stores are releases and all of a reader's loads are acquires.
 *
 * A reader takes s = sequence, then the key, newest and the links, and asks for the sequence again after
 * each link. Proof that what it has read belongs to its pair if the sequence still is s:
 *   - The key. Were one of its words from another pair than the other, or both from another pair than
 *     newest, then the entry was emptied or reused in between, and newest was written after the
 *     second step of the sequence. The reader has seen that newest, so it sees that step too: not s.
 *     (A newest of 0 gives no ids, so nothing of a stranger either.)
 *   - A link. Say the reader followed a pointer to a link that has since been removed and reused. It
 *     has then read a word written at reuse, which releases what came before it: the step of
 *     the sequence at the removal. So it would see that step: not s. Had it taken s only after that
 *     step, it would also have seen the store that took the link out, and not got there: by
 *     induction along the chain, beginning at the entry.
 * If the sequence has moved the reader begins again. The writer never has to be waited for: it may
 * stop between any two steps, and what a reader finds then is a whole chain. A reader begins again only
 * because a removal in this very pair ended meanwhile. After ATTEMPTS_MAX of those it is
 * content with the part of the chain it could confirm in the last attempt.
 *
 * The map's own protocol is ck's: a lookup that passed an entry which the writer was moving sees a changed
 * generation count and probes again. Its compare callback reads the keys of entries that may be
 * recycled at that moment; these are atomic words, and what ck_rhs_get answers is only a candidate, which is
 * then judged as above. What we keep clear of in ck 0.7.1:
 *   - growing (with no memory it leaves a damaged map, and the old map would have to outlive its
 *     readers): the map has room for twice the pairs there can be, so its load never passes the 50 %
 *     at which it would grow. Its other reason, no room within its probe limit (64 or more places), takes
 *     65 pairs around one place, which at this load and with keyed digests does not happen; the
 *     allocator refuses, and the insert is -ENOMEM.
 *   - fewer than 1,024 places: writers count generations by place and readers by hash, which is the
 *     same only if the map is at least as large as the table of those counts.
 *   - ck_rhs_fas and ck_rhs_set: replacing while readers look on loses entries. We only put and remove.
 * ck's accesses are inline assembly in its library, invisible to the thread sanitizer: the hand-over of an
 * entry through the map is annotated.
 */
#include "engine/hash.h"

#include "engine/check.h"
#include "engine/memory.h"
#include "engine/tsan.h"

#include <ck_rhs.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#define PLACES_MIN 1024u
#define ATTEMPTS_MAX 16u

/* Slots in newest, next and newer are written plus 1, so that 0 is none. */
struct entry {
	_Atomic uint64_t sequence;
	_Atomic uint64_t key[2];
	_Atomic uint32_t newest;
	uint32_t free_next; /* the owner only */
};

struct link {
	_Atomic uint64_t id;
	_Atomic uint32_t next;
	uint32_t newer; /* the owner only: the way back */
};

struct hash {
	struct ck_rhs map; /* written by the owner, probed by any thread */
	struct entry *entries; /* slot_count of them, like the links */
	struct link *links;
	uint32_t slot_count;
	uint32_t entry_free; /* the owner only, as all below */
	uint32_t entry_unused; /* entries from here on have never been touched */
	uint32_t count;
};

/* ---- the map ---------------------------------------------------------------------------- */

static void *map_alloc(size_t bytes)
{
	return memory_alloc(bytes);
}

static void *map_alloc_never(size_t bytes)
{
	(void)bytes;
	return NULL;
}

static void map_free(void *block, size_t bytes, bool defer)
{
	(void)bytes;
	assert(!defer);
	memory_free(block);
}

static struct ck_malloc map_memory_once = {.malloc = map_alloc, .free = map_free};
static struct ck_malloc map_memory_never = {.malloc = map_alloc_never, .free = map_free};

static unsigned long entry_hash(const void *object, unsigned long seed)
{
	const struct entry *entry = object;

	(void)seed;
	return (unsigned long)atomic_load_explicit(&entry->key[0], memory_order_acquire);
}

static bool entry_has_key(const struct entry *entry, struct hash_key key)
{
	return atomic_load_explicit(&entry->key[0], memory_order_acquire) == key.word[0] &&
		atomic_load_explicit(&entry->key[1], memory_order_acquire) == key.word[1];
}

/* `stored` is in the map and may be recycled as we read it; `wanted` is the caller's own. */
static bool entry_equal(const void *stored, const void *wanted)
{
	const struct entry *entry = wanted;
	struct hash_key key;

	key.word[0] = atomic_load_explicit(&entry->key[0], memory_order_relaxed);
	key.word[1] = atomic_load_explicit(&entry->key[1], memory_order_relaxed);
	return entry_has_key(stored, key);
}

static struct entry *map_find(const struct hash *hash, struct hash_key key)
{
	/* ck's readers take the map without const, but write nothing of it. */
	struct ck_rhs *map = (struct ck_rhs *)(uintptr_t)&hash->map;
	struct entry wanted, *entry;

	atomic_init(&wanted.key[0], key.word[0]);
	atomic_init(&wanted.key[1], key.word[1]);
	entry = ck_rhs_get(map, (unsigned long)key.word[0], &wanted);
	if (entry != NULL)
		PH_TSAN_ACQUIRE(entry);
	return entry;
}

int hash_create(uint32_t slot_count, struct hash **out)
{
	struct hash *hash;
	unsigned long places = PLACES_MIN;

	assert(slot_count > 0);
	while (places < 2ul * slot_count)
		places *= 2;
	hash = memory_zalloc(sizeof(*hash));
	if (hash == NULL)
		return -ENOMEM;
	hash->slot_count = slot_count;
	hash->entries = memory_map(slot_count * sizeof(*hash->entries));
	if (hash->entries == NULL)
		goto undo_hash;
	hash->links = memory_map(slot_count * sizeof(*hash->links));
	if (hash->links == NULL)
		goto undo_entries;
	if (!ck_rhs_init(&hash->map, CK_RHS_MODE_SPMC | CK_RHS_MODE_OBJECT, entry_hash, entry_equal,
		    &map_memory_once, places, 0))
		goto undo_links;
	hash->map.m = &map_memory_never;
	*out = hash;
	return 0;

undo_links:
	memory_unmap(hash->links, slot_count * sizeof(*hash->links));
undo_entries:
	memory_unmap(hash->entries, slot_count * sizeof(*hash->entries));
undo_hash:
	memory_free(hash);
	return -ENOMEM;
}

void hash_destroy(struct hash *hash)
{
	if (hash == NULL)
		return;
	ck_rhs_destroy(&hash->map);
	memory_unmap(hash->links, hash->slot_count * sizeof(*hash->links));
	memory_unmap(hash->entries, hash->slot_count * sizeof(*hash->entries));
	memory_free(hash);
}

/* ---- the owner -------------------------------------------------------------------------- */

/* One step of the sequence: what was taken out before it may be used again after it. */
static void entry_step(struct entry *entry)
{
	uint64_t sequence = atomic_load_explicit(&entry->sequence, memory_order_relaxed);

	atomic_store_explicit(&entry->sequence, sequence + 1, memory_order_release);
}

/* An empty entry for the key. There is one: each pair has a slot of its own at least. */
static struct entry *entry_take(struct hash *hash, struct hash_key key)
{
	struct entry *entry;

	if (hash->entry_free != 0) {
		entry = &hash->entries[hash->entry_free - 1];
		hash->entry_free = entry->free_next;
	} else {
		assert(hash->entry_unused < hash->slot_count);
		entry = &hash->entries[hash->entry_unused++];
	}
	assert(atomic_load_explicit(&entry->newest, memory_order_relaxed) == 0);
	atomic_store_explicit(&entry->key[0], key.word[0], memory_order_release);
	atomic_store_explicit(&entry->key[1], key.word[1], memory_order_release);
	entry_step(entry);
	return entry;
}

/* An entry that is empty, out of the map, and a step further since its last id left. */
static void entry_put(struct hash *hash, struct entry *entry)
{
	assert(atomic_load_explicit(&entry->newest, memory_order_relaxed) == 0);
	entry->free_next = hash->entry_free;
	hash->entry_free = (uint32_t)(entry - hash->entries) + 1;
}

int hash_insert(struct hash *hash, struct hash_key key, uint32_t slot_index, uint64_t id)
{
	struct entry *entry = map_find(hash, key);
	struct link *link = &hash->links[slot_index];
	uint32_t older;

	assert(slot_index < hash->slot_count);
	assert(id != 0);
	assert(atomic_load_explicit(&link->id, memory_order_relaxed) == 0);
	if (entry == NULL) {
		entry = entry_take(hash, key);
		PH_TSAN_RELEASE(entry);
		if (!ck_rhs_put(&hash->map, (unsigned long)key.word[0], entry)) {
			entry_put(hash, entry);
			return -ENOMEM;
		}
		hash->count++;
	}
	older = atomic_load_explicit(&entry->newest, memory_order_relaxed);
	atomic_store_explicit(&link->id, id, memory_order_release);
	atomic_store_explicit(&link->next, older, memory_order_release);
	link->newer = 0;
	if (older != 0)
		hash->links[older - 1].newer = slot_index + 1;
	atomic_store_explicit(&entry->newest, slot_index + 1, memory_order_release);
	return 0;
}

void hash_remove(struct hash *hash, struct hash_key key, uint32_t slot_index, uint64_t id)
{
	struct entry *entry = map_find(hash, key);
	struct link *link = &hash->links[slot_index];
	uint32_t older;

	assert(slot_index < hash->slot_count);
	assert(entry != NULL);
	assert(atomic_load_explicit(&link->id, memory_order_relaxed) == id);
	older = atomic_load_explicit(&link->next, memory_order_relaxed);
	if (older != 0)
		hash->links[older - 1].newer = link->newer;
	if (link->newer != 0) {
		atomic_store_explicit(
			&hash->links[link->newer - 1].next, older, memory_order_release);
	} else {
		assert(atomic_load_explicit(&entry->newest, memory_order_relaxed) ==
			slot_index + 1);
		if (older == 0) {
			void *removed =
				ck_rhs_remove(&hash->map, (unsigned long)key.word[0], entry);

			assert(removed == entry);
		}
		atomic_store_explicit(&entry->newest, older, memory_order_release);
	}
	entry_step(entry);
	/* From here on the link, and an empty entry, may be somebody else's. */
	atomic_store_explicit(&link->id, 0, memory_order_release);
	if (link->newer == 0 && older == 0) {
		entry_put(hash, entry);
		hash->count--;
	}
}

uint32_t hash_count(const struct hash *hash)
{
	return hash->count;
}

/* ---- any thread ------------------------------------------------------------------------- */

struct hash_reader {
	bool (*is_open)(uint64_t id);
	uint64_t *ids;
	uint32_t id_max;
	uint32_t count; /* of the open ids confirmed in this attempt */
};

static bool entry_is_at(const struct entry *entry, uint64_t sequence)
{
	return atomic_load_explicit(&entry->sequence, memory_order_acquire) == sequence;
}

/* One attempt at a whole chain; false when it changed under us (reader->count is what held). */
static bool entry_read(const struct hash *hash, const struct entry *entry, struct hash_key key,
	struct hash_reader *reader)
{
	uint64_t sequence = atomic_load_explicit(&entry->sequence, memory_order_acquire);
	uint32_t next, steps = 0;

	reader->count = 0;
	if (!entry_has_key(entry, key))
		return false; /* recycled since the map named it */
	next = atomic_load_explicit(&entry->newest, memory_order_acquire);
	while (next != 0) {
		const struct link *link = &hash->links[next - 1];
		uint64_t id = atomic_load_explicit(&link->id, memory_order_acquire);

		next = atomic_load_explicit(&link->next, memory_order_acquire);
		if (!entry_is_at(entry, sequence))
			return false;
		/* A confirmed chain is no longer than there are slots, however it grows meanwhile. */
		assert(steps < hash->slot_count);
		steps++;
		if (!reader->is_open(id))
			continue;
		if (reader->count < reader->id_max)
			reader->ids[reader->count] = id;
		reader->count++;
	}
	return entry_is_at(entry, sequence);
}

uint32_t hash_find(const struct hash *hash, struct hash_key key, bool (*is_open)(uint64_t id),
	uint64_t *ids, uint32_t id_max)
{
	struct hash_reader reader = {.is_open = is_open, .ids = ids, .id_max = id_max};

	for (uint32_t attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
		const struct entry *entry = map_find(hash, key);

		if (entry == NULL)
			return 0;
		if (entry_read(hash, entry, key, &reader))
			break;
	}
	return reader.count;
}
