/*
 * receiver.h: files and lines that come from others, verified and put where the user said.
 *
 * Without threads: the owner hands over messages and losses, and runs receiver_step when its time
 * has come. A file is written under a temporary name, checked against the sender's SHA-256, and then
 * renamed to a name that does not exist yet; whatever does not get that far is removed. The number of
 * transfers is bounded in all and per sender; what is over the bound is answered "busy".
 */
#ifndef PEERHUB_HUB_RECEIVER_H
#define PEERHUB_HUB_RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "route.h"
#include "transfer.h"

struct receiver_options {
	const char *directory; /* files go here; "-": to standard output; NULL: refused */
	bool lines; /* print lines and notes; else they are refused */
	uint64_t count; /* take this many transfers, then answer "busy"; 0: no end */
};

struct incoming;
struct receiver {
	struct receiver_options options;
	int directory_fd;
	struct incoming *list;
	unsigned entry_count, open_count; /* open: still receiving */
	uint64_t files_done, files_failed, lines_done; /* lines: finished streams of lines */
	bool output_failed; /* standard output is gone: the program should end */
};

/* Makes the directory (0777 & ~umask) when missing. 0, or -EIO (said). */
int receiver_begin(struct receiver *receiver, const struct receiver_options *options);
/* Tell the senders that we leave, remove what is not complete. */
void receiver_end(struct receiver *receiver);

/* OFFER, DATA, END, CLOSE and NOTE from `source`, the verified identity behind this way.
 * NULL, or what is wrong with it: the connection should be closed. */
const char *receiver_on_message(struct receiver *receiver, const struct route *route,
	const char *source, const struct transfer_message *message, uint64_t now_ms);
/* The hub could not pass on an answer of ours. */
void receiver_on_status(struct receiver *receiver, const struct route *route, uint64_t id,
	uint32_t code, uint64_t now_ms);
/* A connection is gone, and with it every transfer over it. */
void receiver_on_lost(struct receiver *receiver, const struct node *node, uint64_t connection);

/* Send what is due; returns when to come back at the latest. */
uint64_t receiver_step(struct receiver *receiver, uint64_t now_ms);
/* Every sender knows its result (or we waited long enough): with a count reached, we may end. */
bool receiver_is_quiet(const struct receiver *receiver);

#endif
