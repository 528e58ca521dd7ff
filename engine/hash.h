/*
 * The hash part of one shard: (group, identity) -> ids of this shard's open connections. Written by
 * the owning shard only, read from any thread without a lock (ck_rhs, single writer; preallocated
 * for all slots, so that it never grows, see the ck notes in hash.c).
 *
 * Entries are type-stable: {sequence, key, newest id} in atomic words, so that a reader never sees a
 * torn entry. More ids of the same pair chain through a per-slot array of next ids. A reader's hit is
 * a hint only: the slot word is the final judge (is the id open?).
 */
#ifndef PEERHUB_ENGINE_HASH_H
#define PEERHUB_ENGINE_HASH_H

#include <stdbool.h>
#include <stdint.h>

struct hash_key {
	uint64_t word[2]; /* keyed digest of (group, identity), see digest.h */
};

struct hash;
/* slot_count: entries and chain links for that many slots. 0 or -ENOMEM. */
int hash_create(uint32_t slot_count, struct hash **hash);
void hash_destroy(struct hash *hash); /* no reader may be left */
/* Owner. slot_index < slot_count, in use by at most one id at a time. 0 or -ENOMEM (fatal to that
 * connection only). The newest id of a pair comes first. */
int hash_insert(struct hash *hash, struct hash_key key, uint32_t slot_index, uint64_t id);
void hash_remove(struct hash *hash, struct hash_key key, uint32_t slot_index, uint64_t id);
/* Any thread. `is_open` judges each id. Writes at most id_max ids, newest first; returns how many
 * there are. Bounded: gives up a chain that changes under it after some retries and reports what it
 * saw consistently last. */
uint32_t hash_find(const struct hash *hash, struct hash_key key, bool (*is_open)(uint64_t id),
	uint64_t *ids, uint32_t id_max);
uint32_t hash_count(const struct hash *hash); /* pairs; owner */

#endif
