/*
 * sender.h: one file (or the lines of standard input) on its way to one peer.
 *
 * A state machine without threads: its owner runs sender_step when its time has come or its input
 * can be read, and hands it the messages, statuses and losses that concern it. It keeps the chunks
 * that the receiver has not acknowledged, so that anything readable can be sent, and sends them
 * again when a hub could not pass them on (go back to the first, halve the window, wait longer).
 *
 *   OFFERING --> SENDING --> ENDING --> DONE        any of the first three --> FAILED
 *
 *   OFFERING  the offer is out or about to be; the receiver has not answered
 *   SENDING   data flows; at most `window` chunks are unacknowledged
 *   ENDING    all data is acknowledged; END is out or about to be; the result is awaited
 *   DONE      the receiver has everything, with our digest; it was told that we know
 *   FAILED    said on stderr; nothing more is sent
 */
#ifndef PEERHUB_HUB_SENDER_H
#define PEERHUB_HUB_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "route.h"
#include "transfer.h"

struct sender;

enum sender_state {
	SENDER_OFFERING,
	SENDER_SENDING,
	SENDER_ENDING,
	SENDER_DONE,
	SENDER_FAILED,
};

struct sender_options {
	struct route route; /* name is copied */
	const char *peer; /* who gets it, for people; copied */
	const char *name; /* offered file name; copied */
	enum transfer_content content;
	int fd; /* the sender closes it, standard input excepted */
	bool may_block; /* not a regular file: read only when sender_input_fd polls readable */
	uint64_t size; /* or TRANSFER_SIZE_UNKNOWN */
	uint64_t wait_ms; /* how long an absent or busy receiver is waited for */
};

/* NULL: no memory or no random numbers (said); the descriptor is closed then too. */
struct sender *sender_create(const struct sender_options *options, uint64_t now_ms);
void sender_destroy(struct sender *sender);

/* Do what can be done now; returns when to come back at the latest. */
uint64_t sender_step(struct sender *sender, uint64_t now_ms);
/* The descriptor to poll for reading now, or -1; sender_readable when it polled readable. */
int sender_input_fd(const struct sender *sender);
void sender_readable(struct sender *sender);

/* Whether a message or status that came this way belongs here. */
bool sender_is(const struct sender *sender, const struct route *route, uint64_t id);
/* ACK and RESULT. False: the message cannot be true, and its sender is faulty. */
bool sender_on_message(
	struct sender *sender, const struct transfer_message *message, uint64_t now_ms);
void sender_on_status(struct sender *sender, uint32_t code, uint64_t now_ms);

/* Give up: tell the receiver (when told is set) and say why. Nothing in DONE or FAILED. */
void sender_fail(struct sender *sender, enum transfer_code code, bool told, const char *why);

enum sender_state sender_state(const struct sender *sender);

#endif
