/*
 * target.h: one receiver of what this peer sends: every thing of the list, one after the other, over
 * one link.
 */
#ifndef PEERHUB_HUB_TARGET_H
#define PEERHUB_HUB_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link.h"
#include "node.h"
#include "options.h"
#include "sender.h"

/* What is sent to each target: files in order ("-": standard input), then perhaps lines. */
struct things {
	struct option_list files;
	bool lines;
	uint64_t wait_ms; /* for a receiver that is absent or busy */
};
size_t things_count(const struct things *things);

struct target {
	struct link *link; /* borrowed */
	char *name; /* behind the hub; NULL: the other end of the link */
	const char *shown; /* as on the command line */
	size_t next; /* which thing is next */
	struct sender *sender; /* of the thing before it; NULL: none is under way */
	bool failed;
};

void target_fini(struct target *target);

/* Go on; returns when to come back. */
uint64_t target_step(
	struct target *target, struct node *node, const struct things *things, uint64_t now_ms);
/* Everything was sent, or will never be (then `failed` is set). */
bool target_is_over(const struct target *target, const struct things *things);

#endif
