/* The bytes that travel; see pattern.h. */
#include "bench/load/pattern.h"

#include <string.h>

#define STREAM_STEP 7919u /* a prime: neighbours begin far from each other */

static uint8_t pattern[2 * PATTERN_PERIOD];

void pattern_init(void)
{
	uint64_t state = 0x9e3779b97f4a7c15u; /* xorshift64*, any seed but 0 */

	for (uint32_t i = 0; i < PATTERN_PERIOD; i++) {
		state ^= state >> 12;
		state ^= state << 25;
		state ^= state >> 27;
		pattern[i] = (uint8_t)((state * 0x2545f4914f6cdd1du) >> 56);
	}
	memcpy(pattern + PATTERN_PERIOD, pattern, PATTERN_PERIOD);
}

const uint8_t *pattern_at(uint32_t stream, uint64_t position)
{
	return pattern + ((uint64_t)stream * STREAM_STEP + position) % PATTERN_PERIOD;
}
