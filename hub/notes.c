/*
 * notes.c: see notes.h.
 */
#include "notes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "say.h"
#include "text.h"

#define RETRY_MS 10u
#define CONFIRM_MS 30000u /* for the hub's answer at the end */

int notes_input_fd(const struct notes *notes)
{
	if (notes->ended || notes->readable || notes->bytes == sizeof(notes->text))
		return -1;
	return STDIN_FILENO;
}

void notes_readable(struct notes *notes)
{
	notes->readable = true;
}

bool notes_are_over(const struct notes *notes)
{
	return notes->failed || notes->confirmed;
}

bool notes_have_failed(const struct notes *notes)
{
	return notes->failed;
}

static void read_some(struct notes *notes)
{
	ssize_t count;

	if (!notes->readable || notes->ended || notes->bytes == sizeof(notes->text))
		return;
	notes->readable = false;
	count = read(STDIN_FILENO, notes->text + notes->bytes, sizeof(notes->text) - notes->bytes);
	if (count > 0)
		notes->bytes += (size_t)count;
	else if (count == 0)
		notes->ended = true;
	else if (errno != EINTR && errno != EAGAIN) {
		say_error("cannot read standard input: %s", strerror(errno));
		notes->failed = true;
	}
}

/* The first line without its end, and how much of the text it takes; 0: there is no whole line. */
static size_t first_line(const struct notes *notes, size_t *used)
{
	const char *end = memchr(notes->text, '\n', notes->bytes);

	if (end != NULL) {
		*used = (size_t)(end - notes->text) + 1;
		return *used - 1;
	}
	*used = notes->ended || notes->bytes == sizeof(notes->text) ? notes->bytes : 0;
	return *used;
}

/* What failed; 0: go on, else try again at hold_until_ms. */
static int notes_result(struct notes *notes, int status, uint64_t now_ms)
{
	if (status == -EAGAIN) {
		notes->hold_until_ms = now_ms + RETRY_MS;
	} else if (status < 0) {
		say_error("the lines were not sent: the connection is gone");
		notes->failed = true;
	}
	return status;
}

static int send_line(struct notes *notes, const struct route *route, size_t bytes, uint64_t now_ms)
{
	struct transfer_message message = {
		.kind = TRANSFER_NOTE, .text = notes->text, .text_bytes = bytes};

	if (!text_is_utf8(notes->text, bytes)) {
		say_error("a line that is not UTF-8 is left out");
		return 0;
	}
	return notes_result(notes, route_broadcast(route, &message), now_ms);
}

static void ask(struct notes *notes, const struct route *route, uint64_t now_ms)
{
	const struct transfer_message message = {.kind = TRANSFER_NOTE};
	struct route nobody = *route;

	nobody.name = ROUTE_NOBODY;
	notes->asked = notes_result(notes, route_send(&nobody, &message), now_ms) == 0;
	notes->give_up_ms = now_ms + CONFIRM_MS;
}

/* Everything that was read is out: ask for the confirmation, wait for it. */
static uint64_t confirm(struct notes *notes, const struct route *route, uint64_t now_ms)
{
	if (!notes->asked)
		ask(notes, route, now_ms);
	if (!notes->asked)
		return notes->hold_until_ms;
	if (notes->confirmed || now_ms < notes->give_up_ms)
		return notes->give_up_ms;
	say_error("the hub does not confirm the lines");
	notes->failed = true;
	return LOOP_NEVER;
}

void notes_on_status(struct notes *notes, const char *name, uint32_t code)
{
	char *shown;

	if (strcmp(name, ROUTE_NOBODY) == 0) {
		notes->confirmed = notes->confirmed || notes->asked;
		return;
	}
	shown = text_escape(name, strlen(name), true);
	say_error("%s did not get a line: %s", shown != NULL ? shown : "?", relay_code_name(code));
	free(shown);
}

uint64_t notes_step(struct notes *notes, const struct route *route, uint64_t now_ms)
{
	size_t bytes, used;

	read_some(notes);
	if (now_ms < notes->hold_until_ms)
		return notes->hold_until_ms;
	while (!notes->failed) {
		bytes = first_line(notes, &used);
		if (used == 0)
			return notes->ended ? confirm(notes, route, now_ms) : LOOP_NEVER;
		if (send_line(notes, route, bytes, now_ms) < 0)
			break;
		notes->bytes -= used;
		memmove(notes->text, notes->text + used, notes->bytes);
	}
	return notes->failed ? LOOP_NEVER : notes->hold_until_ms;
}
