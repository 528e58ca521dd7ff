/*
 * notes.c: see notes.h.
 */
#include "notes.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "say.h"
#include "text.h"

#define RETRY_MS 10u

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
	return notes->failed || (notes->ended && notes->bytes == 0);
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

static bool send_line(struct notes *notes, const struct route *route, size_t bytes, uint64_t now_ms)
{
	struct transfer_message message = {
		.kind = TRANSFER_NOTE, .text = notes->text, .text_bytes = bytes};
	int status;

	if (!text_is_utf8(notes->text, bytes)) {
		say_error("a line that is not UTF-8 is left out");
		return true;
	}
	status = route_broadcast(route, &message);
	if (status == -EAGAIN) {
		notes->hold_until_ms = now_ms + RETRY_MS;
		return false;
	}
	if (status < 0) {
		say_error("the lines were not sent: the connection is gone");
		notes->failed = true;
	}
	return status == 0;
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
			return LOOP_NEVER;
		if (!send_line(notes, route, bytes, now_ms))
			break;
		notes->bytes -= used;
		memmove(notes->text, notes->text + used, notes->bytes);
	}
	return notes->failed ? LOOP_NEVER : notes->hold_until_ms;
}
