/*
 * SipHash-2-4 with 128-bit output (Aumasson, Bernstein: SipHash, section 2 and the 128-bit variant),
 * keyed once per process from the random source: nobody outside can aim at one hash bucket.
 * Any thread.
 */
#ifndef PEERHUB_ENGINE_DIGEST_H
#define PEERHUB_ENGINE_DIGEST_H

#include "engine/hash.h"

#include <stddef.h>

void siphash128(const uint8_t key[16], const void *data, size_t bytes, uint8_t out[16]);
/* Draw the process key; 0 or -EIO. Idempotent, any thread. */
int digest_init(void);
/* The key of a pair: lengths are part of it, so ("a","bc") and ("ab","c") differ. */
struct hash_key digest_pair(const char *group, const char *identity);

#endif
