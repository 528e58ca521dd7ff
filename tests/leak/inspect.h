/*
 * Looks inside the shards of a hub at rest: each shard looks at itself, on its own thread, by a command
 * in its mailbox, and names the first thing that is not as in a shard that has nothing to do.
 */
#ifndef PEERHUB_TESTS_LEAK_INSPECT_H
#define PEERHUB_TESTS_LEAK_INSPECT_H

#include "engine/hub.h"

#define INSPECT_TEXT_BYTES 160u

/* 0: every shard is at rest. -EBUSY: `text` says what is left, and in which shard. */
int inspect_once(struct ph_hub *hub, char text[INSPECT_TEXT_BYTES]);
/* Asks again until it is at rest or the time is up. */
int inspect_wait(struct ph_hub *hub, unsigned timeout_ms, char text[INSPECT_TEXT_BYTES]);

#endif
