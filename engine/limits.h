/*
 * Limits and admission: what of a hub is counted for all shards together, and who is turned away.
 *
 * What always holds
 *   1. A unit is taken before anything is spent on it and given back exactly once, at the last event of
 *      what it was taken for (an open or a close for a handshake, the final event for a connection, the
 *      kernel's taking or the final event for bytes). So when no connection is left every count is 0;
 *      limits_destroy asserts it, and with it every test that stops a hub.
 *   2. No count ever passes its limit by a taking: no overshoot, however many threads take at once. A limit
 *      that is set lower than what is in use ends nobody; it refuses until enough has been given back.
 *   3. Nobody waits: all is compare-and-swap, no lock.
 *   4. Memory is bounded: a table of keys (subnets, groups, identities) has a fixed number of cells, four
 *      for each connection that the hub has room for.
 *
 * Off (0 at the start) means not counted, and stays so; PH_LIMIT_NONE is counted and refuses nobody.
 * NULL is a hub without limits. Any thread, but where it says otherwise.
 */
#ifndef PEERHUB_ENGINE_LIMITS_H
#define PEERHUB_ENGINE_LIMITS_H

#include "engine/hash.h"
#include "peerhub.h"

#include <stdatomic.h>
#include <stdbool.h>

#define LIMITS_CONNECTION_BYTES 2048u /* what one connection counts against the memory budget … */
#define LIMITS_HANDSHAKE_BYTES 32768u /* … and how much more until it is open */

/* The limits whose counts are by key. */
enum limit_key {
	LIMIT_KEY_SUBNET,
	LIMIT_KEY_GROUP,
	LIMIT_KEY_IDENTITY,
	LIMIT_KEY_TWIN, /* (group, identity, kind), at most one: PH_DUPLICATES_OLDEST */
	LIMIT_KEY_COUNT,
};

struct limits;
struct limits_options {
	const uint64_t *values; /* PH_LIMIT_COUNT of them */
	uint64_t connections; /* that the hub has room for */
	const _Atomic uint64_t *reassembly_bytes; /* the hub's: part of the memory budget */
	bool twins; /* LIMIT_KEY_TWIN is counted */
};
int limits_create(const struct limits_options *options, struct limits **limits); /* 0 or -ENOMEM */
void limits_destroy(struct limits *limits); /* NULL allowed; all counts are 0 */

bool limits_is_gate(const struct limits *limits); /* who comes is judged before TLS */
bool limits_is_on(const struct limits *limits, enum ph_limit limit);
uint64_t limits_value(const struct limits *limits, enum ph_limit limit); /* off: PH_LIMIT_NONE */
/* 0, or -EINVAL: one would turn from off to on or from on to off; nothing has changed. */
int limits_set(struct limits *limits, const uint64_t values[PH_LIMIT_COUNT]);

/* Connections, handshakes: one unit. False: the limit is reached, nothing was taken. */
bool limits_take(struct limits *limits, enum ph_limit limit);
void limits_give(struct limits *limits, enum ph_limit limit);

/* Bytes that are queued for sending, against the total and the memory budget. False: *limit has refused. */
bool limits_take_bytes(struct limits *limits, uint64_t bytes, enum ph_limit *limit);
void limits_give_bytes(struct limits *limits, uint64_t bytes);
/* Whether what is taken already, the asker's own part too, is within the memory budget. */
bool limits_memory_fits(const struct limits *limits);

/* One unit of a key. 0 and its cell, -EDQUOT (the limit is reached), -ENOSPC (no cell is free near it). */
int limits_take_key(
	struct limits *limits, enum limit_key kind, struct hash_key key, uint32_t *cell);
void limits_give_key(struct limits *limits, enum limit_key kind, uint32_t cell);
/* What subnet an address counts for: /32 of IPv4, /56 of IPv6. */
struct hash_key limits_subnet(const ph_address *address);

/* The accept rate: a bucket of one second's worth. */
bool limits_take_rate(struct limits *limits, uint64_t now_ns);

/* Somebody was refused; address may be NULL. */
void limits_refused(
	struct limits *limits, enum ph_limit limit, uint64_t now_ns, const ph_address *address);
void limits_read(const struct limits *limits, struct ph_limit_state states[PH_LIMIT_COUNT]);
uint64_t limits_next_number(struct limits *limits); /* 1, 2, …: the order in which twins opened */

#endif
