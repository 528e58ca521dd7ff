/*
 * notes.h: the lines of standard input to everybody at the hub, each one message, unconfirmed.
 */
#ifndef PEERHUB_HUB_NOTES_H
#define PEERHUB_HUB_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "route.h"
#include "transfer.h"

/* Zeroed is ready. */
struct notes {
	char text[TRANSFER_NOTE_BYTES_MAX]; /* read, not yet sent */
	size_t bytes;
	bool readable, ended, failed;
	uint64_t hold_until_ms; /* our queue was full */
};

/* Read and send what is there; returns when to come back. */
uint64_t notes_step(struct notes *notes, const struct route *route, uint64_t now_ms);
/* Standard input while there is room to read into, else -1. */
int notes_input_fd(const struct notes *notes);
void notes_readable(struct notes *notes);
/* Everything was sent, or sending failed. */
bool notes_are_over(const struct notes *notes);
bool notes_have_failed(const struct notes *notes);

#endif
