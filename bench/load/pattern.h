/*
 * The bytes that travel. Every connection has a stream of its own: byte number `position` of stream
 * `stream` is a fixed pseudo-random one, so that a byte lost, doubled, changed, moved or delivered
 * to another connection is seen. The period is a prime, so no message size divides it.
 */
#ifndef PEERHUB_LOAD_PATTERN_H
#define PEERHUB_LOAD_PATTERN_H

#include <stdint.h>

#define PATTERN_PERIOD 65521u

void pattern_init(void);
/* PATTERN_PERIOD bytes of the stream from this position. */
const uint8_t *pattern_at(uint32_t stream, uint64_t position);

#endif
