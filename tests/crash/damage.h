/*
 * Damage: copies of a sound store with a bit turned, a page zeroed, a tail cut off, a key spoilt. Each is
 * opened by a fresh process, which must either refuse with a code that says so, and leave the files as
 * they are, or find everything as it was. Anything else is a finding.
 */
#ifndef PEERHUB_TESTS_CRASH_DAMAGE_H
#define PEERHUB_TESTS_CRASH_DAMAGE_H

#include "stress/random.h"
#include "tests/crash/record.h"

#define DAMAGES(X)                                     \
	X(FLIP, "a bit of the store turned")           \
	X(ZERO_SECTOR, "a sector of the store zeroed") \
	X(ZERO_PAGE, "a page of the store zeroed")     \
	X(TRUNCATE, "the store cut short")             \
	X(EMPTY, "the store emptied")                  \
	X(FOREIGN, "another file in its place")        \
	X(KEY_FLIP, "a bit of a key turned")           \
	X(KEY_TRUNCATE, "a key cut short")             \
	X(KEY_GONE, "a key gone")

enum damage {
#define DAMAGE_INDEX(name, text) DAMAGE_##name,
	DAMAGES(DAMAGE_INDEX)
#undef DAMAGE_INDEX
	DAMAGE_COUNT,
};

struct damage_tally {
	uint32_t done, refused, unharmed;
	uint32_t unnoticed; /* a text that nothing signs and no index repeats: docs/store.md */
};

/* What a process that opened the store says: 0 sound (found is filled), 3 refused, 4 a field differs of
 * which there is one copy, else wrong. */
typedef int (*damage_open)(void *context, const char *home, struct model *found);

/*
 * `count` damages to copies of the store in `home`, whose content is `should`. False: one was neither
 * refused nor harmless, or its files were touched (said on stderr; the copy stays).
 */
bool damages_run(const char *home, const struct model *should, uint32_t count,
	struct random *random, damage_open open, void *context);

#endif
