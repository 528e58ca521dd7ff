/*
 * Seeded pseudo-random numbers (xoshiro256**, seeded by splitmix64). Each thread has its own, made
 * from the run's seed and the thread's number, so a run's choices can be repeated. No locks.
 */
#ifndef PEERHUB_STRESS_RANDOM_H
#define PEERHUB_STRESS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
	uint64_t word[4];
};

static inline uint64_t random_mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15u;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
	return value ^ (value >> 31);
}

static inline void random_init(struct random *random, uint64_t seed, uint64_t stream)
{
	uint64_t state = random_mix(seed) ^ random_mix(stream * 2 + 1);

	for (int i = 0; i < 4; i++) {
		state = random_mix(state);
		random->word[i] = state;
	}
}

static inline uint64_t random_rotate(uint64_t value, int bits)
{
	return (value << bits) | (value >> (64 - bits));
}

static inline uint64_t random_next(struct random *random)
{
	uint64_t *word = random->word;
	uint64_t result = random_rotate(word[1] * 5, 7) * 9;
	uint64_t shifted = word[1] << 17;

	word[2] ^= word[0];
	word[3] ^= word[1];
	word[1] ^= word[2];
	word[0] ^= word[3];
	word[2] ^= shifted;
	word[3] = random_rotate(word[3], 45);
	return result;
}

/* 0..bound-1; bound > 0. The bias of a 32-bit multiplication does not matter here. */
static inline uint32_t random_below(struct random *random, uint32_t bound)
{
	return (uint32_t)(((random_next(random) >> 32) * bound) >> 32);
}

/* True in `parts` of 1,000 cases. */
static inline bool random_permille(struct random *random, uint32_t parts)
{
	return random_below(random, 1000) < parts;
}

#endif
