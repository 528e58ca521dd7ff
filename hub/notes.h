/*
 * notes.h: the lines of standard input to everybody at the hub, each one message. No receiver confirms
 * them; at the end the hub does, by its answer to a note that goes to nobody.
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
	bool asked, confirmed; /* the note to nobody is out; the hub has answered it */
	uint64_t hold_until_ms; /* our queue was full */
	uint64_t give_up_ms; /* asked: no answer until then is a failure */
};

/* Read and send what is there; returns when to come back. */
uint64_t notes_step(struct notes *notes, const struct route *route, uint64_t now_ms);
/* Standard input while there is room to read into, else -1. */
int notes_input_fd(const struct notes *notes);
void notes_readable(struct notes *notes);
/* A status for a note to `name`: some receiver's (said), or the hub's confirmation. */
void notes_on_status(struct notes *notes, const char *name, uint32_t code);
/* The hub has everything, or sending failed. */
bool notes_are_over(const struct notes *notes);
bool notes_have_failed(const struct notes *notes);

#endif
