/*
 * SipHash-2-4 with 128-bit output, after Aumasson and Bernstein, "SipHash: a fast short-input PRF",
 * section 2: c = 2 rounds a word, d = 4 rounds at the end. The 128-bit variant differs by 0xee in v1 at
 * the beginning, 0xee instead of 0xff before the end, and a second output after 0xdd in v1 and four
 * more rounds.
 */
#include "engine/digest.h"

#include "engine/check.h"
#include "engine/clock.h"

#include <pthread.h>
#include <string.h>

struct sip {
	uint64_t v0, v1, v2, v3;
	uint64_t tail; /* bytes that do not fill a word yet, little-endian */
	uint64_t bytes; /* seen so far */
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static uint64_t load_little(const uint8_t *data)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)data[i] << (8 * i);
	return value;
}

static void store_little(uint8_t *out, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static void sip_rounds(struct sip *sip, unsigned count)
{
	while (count-- > 0) {
		sip->v0 += sip->v1;
		sip->v1 = rotate(sip->v1, 13) ^ sip->v0;
		sip->v0 = rotate(sip->v0, 32);
		sip->v2 += sip->v3;
		sip->v3 = rotate(sip->v3, 16) ^ sip->v2;
		sip->v0 += sip->v3;
		sip->v3 = rotate(sip->v3, 21) ^ sip->v0;
		sip->v2 += sip->v1;
		sip->v1 = rotate(sip->v1, 17) ^ sip->v2;
		sip->v2 = rotate(sip->v2, 32);
	}
}

static void sip_word(struct sip *sip, uint64_t word)
{
	sip->v3 ^= word;
	sip_rounds(sip, 2);
	sip->v0 ^= word;
}

static void sip_begin(struct sip *sip, const uint8_t key[16])
{
	uint64_t k0 = load_little(key), k1 = load_little(key + 8);

	sip->v0 = k0 ^ 0x736f6d6570736575u;
	sip->v1 = k1 ^ 0x646f72616e646f6du ^ 0xee;
	sip->v2 = k0 ^ 0x6c7967656e657261u;
	sip->v3 = k1 ^ 0x7465646279746573u;
	sip->tail = 0;
	sip->bytes = 0;
}

static void sip_add(struct sip *sip, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		sip->tail |= (uint64_t)data[i] << (8 * (sip->bytes % 8));
		sip->bytes++;
		if (sip->bytes % 8 == 0) {
			sip_word(sip, sip->tail);
			sip->tail = 0;
		}
	}
}

static void sip_end(struct sip *sip, uint64_t out[2])
{
	sip_word(sip, sip->tail | sip->bytes << 56);
	sip->v2 ^= 0xee;
	sip_rounds(sip, 4);
	out[0] = sip->v0 ^ sip->v1 ^ sip->v2 ^ sip->v3;
	sip->v1 ^= 0xdd;
	sip_rounds(sip, 4);
	out[1] = sip->v0 ^ sip->v1 ^ sip->v2 ^ sip->v3;
}

void siphash128(const uint8_t key[16], const void *data, size_t bytes, uint8_t out[16])
{
	struct sip sip;
	uint64_t words[2];

	sip_begin(&sip, key);
	sip_add(&sip, data, bytes);
	sip_end(&sip, words);
	store_little(out, words[0]);
	store_little(out + 8, words[1]);
}

/* ---- the process key -------------------------------------------------------------------- */

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static bool process_key_drawn; /* under the lock; the key is constant once digest_init returned 0 */
static uint8_t process_key[16];

int digest_init(void)
{
	int status = 0;

	pthread_mutex_lock(&process_lock);
	if (!process_key_drawn)
		status = entropy_fill(process_key, sizeof(process_key));
	if (status == 0)
		process_key_drawn = true;
	pthread_mutex_unlock(&process_lock);
	return status;
}

struct hash_key digest_pair(const char *group, const char *identity)
{
	size_t group_bytes = strlen(group), identity_bytes = strlen(identity);
	uint8_t lengths[16];
	struct hash_key key;
	struct sip sip;

	store_little(lengths, group_bytes);
	store_little(lengths + 8, identity_bytes);
	sip_begin(&sip, process_key);
	sip_add(&sip, lengths, sizeof(lengths));
	sip_add(&sip, (const uint8_t *)group, group_bytes);
	sip_add(&sip, (const uint8_t *)identity, identity_bytes);
	sip_end(&sip, key.word);
	return key;
}
