/*
 * `peerhub-stress attack`: a list of attacks, each a function that starts a victim, attacks it, and
 * says what it saw. An attack's run is used by the main thread only, but what is marked otherwise.
 *
 * Two sizes. The short form is for every test run: it judges what no machine's speed can change
 * (nobody crashes, everything ends, honest peers get in, exactly one final event each). The full form
 * has the sizes of docs/attacks.md and also judges times and ratios.
 */
#ifndef PEERHUB_STRESS_ATTACK_H
#define PEERHUB_STRESS_ATTACK_H

#include "peerhub.h"
#include "random.h"

#include <stdatomic.h>
#include <stdbool.h>

#define ATTACK_GROUP "attack" /* the one group of a native victim */
#define ATTACK_SNI "any.attack.p2p"

struct pki;

struct attack_run {
	const char *name;
	bool is_full;
	bool is_light; /* a build with sanitizers: as little as still shows the attack */
	bool is_remote;
	enum ph_tls tls; /* of the remote victim; our own speaks both */
	ph_address remote;
	struct pki *pki; /* who attackers and honest peers are */
	struct random random;
	char tried[160], expected[160], seen[1024], honest[96];
	uint64_t memory_begin, memory_peak; /* resident bytes of this process */
	unsigned fault_count;
	char fault[320]; /* the first */
	bool is_skipped;
	_Atomic(struct ph_hub *) watched; /* dumped by the watchdog, on a hang */
};

/* Something that must not be: printed at once, and the verdict is BROKEN. */
void attack_fault(struct attack_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void attack_tried(struct attack_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void attack_expected(struct attack_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Appends, with "; " between. */
void attack_seen(struct attack_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void attack_memory(struct attack_run *run); /* a look at our resident memory, for the peak */
uint64_t attack_memory_now(void);
uint64_t attack_cpu_ns(void); /* of all threads of this process */

/* full, short, light: the size that this run wants. */
uint32_t attack_size(const struct attack_run *run, uint32_t full, uint32_t small, uint32_t light);
void attack_sleep_ms(uint32_t ms);
uint64_t attack_now_ns(void);

typedef void attack_function(struct attack_run *run);
/* attack_flood.c */
attack_function attack_silent, attack_trickle, attack_half_open, attack_vanish, attack_backlog,
	attack_table, attack_descriptors;
/* attack_slow.c */
attack_function attack_stalled, attack_goodbye;
/* attack_protocol.c */
attack_function attack_messages, attack_pings, attack_resets, attack_growth;
/* attack_tls.c */
attack_function attack_key_updates, attack_records, attack_early;
/* attack_names.c */
attack_function attack_ids, attack_duplicates;
/* attack_chains.c */
attack_function attack_chains, attack_groups;
/* attack_storm.c */
attack_function attack_storm;

#endif
