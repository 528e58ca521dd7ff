/*
 * say.c: see say.h.
 */
#include "say.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "peerhub/extras.h"
#include "text.h"

#define PROGRESS_LIVE_MS 200u /* a terminal: often enough to look alive */
#define PROGRESS_SPARSE_MS 5000u /* a log: rarely enough to stay readable */
#define WRITE_BYTES_MAX 4096u /* PIPE_BUF: a pipe that polls writable takes this without blocking */

static struct {
	const char *command;
	bool quiet;
	bool live; /* the cursor stands behind a progress line */
	int out;
	uint64_t progress_ms; /* when the last progress was shown */
	uint64_t progress_begin_ms;
	uint64_t progress_done; /* at the last one: a smaller number is another transfer */
} say = {.command = "peerhub", .out = STDOUT_FILENO};

void say_begin(const char *command, bool quiet)
{
	say.command = command;
	say.quiet = quiet;
}

bool say_is_quiet(void)
{
	return say.quiet;
}

void say_lines_on_stderr(void)
{
	say.out = STDERR_FILENO;
}

int say_bytes(int fd, const void *data, size_t bytes)
{
	const char *at = data;
	struct pollfd polls[2] = {
		{.fd = fd, .events = POLLOUT}, {.fd = loop_signal_fd(), .events = POLLIN}};
	ssize_t count;

	while (bytes > 0) {
		if (poll(polls, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (polls[0].revents == 0)
			return -EINTR;
		count = write(fd, at, bytes < WRITE_BYTES_MAX ? bytes : WRITE_BYTES_MAX);
		if (count < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			return -errno;
		}
		at += count;
		bytes -= (size_t)count;
	}
	return 0;
}

static void live_end(void)
{
	if (!say.live)
		return;
	say.live = false;
	(void)say_bytes(STDERR_FILENO, "\r\033[K", 4);
}

/* A failing stderr leaves nobody to tell: the exit code still says it. What a message quotes may be a
 * peer's word, so all of it is escaped here; text that is escaped already stays as it is. */
static void say_text(const char *prefix, const char *suffix, const char *format, va_list arguments)
{
	char *text = NULL, *clean, *line = NULL;
	int bytes;

	live_end();
	if (vasprintf(&text, format, arguments) < 0)
		return;
	clean = text_escape(text, strlen(text), false);
	free(text);
	if (clean == NULL)
		return;
	bytes = asprintf(&line, "%s%s%s%s\n", prefix, *prefix != 0 ? ": " : "", clean, suffix);
	if (bytes >= 0) {
		(void)say_bytes(STDERR_FILENO, line, (size_t)bytes);
		free(line);
	}
	free(clean);
}

void say_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_text(say.command, "", format, arguments);
	va_end(arguments);
}

void say_note(const char *format, ...)
{
	va_list arguments;

	if (say.quiet)
		return;
	va_start(arguments, format);
	say_text(say.command, "", format, arguments);
	va_end(arguments);
}

void say_result(HRESULT result, const char *format, ...)
{
	const char *detail = PeerhubLastErrorText();
	char suffix[512], *clean;
	va_list arguments;

	/* The detail may quote a file or a peer. */
	clean = text_escape(detail, strnlen(detail, 400), false);
	snprintf(suffix, sizeof(suffix), ": %s%s%.400s", PeerhubResultName(result),
		*detail != 0 ? ": " : "", clean != NULL ? clean : "");
	free(clean);
	va_start(arguments, format);
	say_text(say.command, suffix, format, arguments);
	va_end(arguments);
}

int say_line(const char *format, ...)
{
	char *text = NULL;
	va_list arguments;
	int bytes, status;

	live_end();
	va_start(arguments, format);
	bytes = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (bytes < 0)
		return -ENOMEM;
	text[bytes] = '\n'; /* instead of the NUL, so that the line is one write */
	status = say_bytes(say.out, text, (size_t)bytes + 1);
	free(text);
	if (status < 0 && status != -EINTR)
		say_error("cannot write to standard output: %s", strerror(-status));
	return status;
}

void say_progress(uint64_t now_ms, const char *what, uint64_t done, uint64_t size)
{
	bool live = isatty(STDERR_FILENO);
	char now_text[TEXT_SIZE_BYTES], all_text[TEXT_SIZE_BYTES], line[320], *clean;
	int bytes;

	if (say.quiet)
		return;
	if (say.progress_begin_ms == 0 || done < say.progress_done) {
		say.progress_begin_ms = now_ms;
		say.progress_ms = now_ms;
	}
	say.progress_done = done;
	if (now_ms - say.progress_ms < (live ? PROGRESS_LIVE_MS : PROGRESS_SPARSE_MS))
		return;
	say.progress_ms = now_ms;
	clean = text_escape(
		what, strnlen(what, 150), false); /* a file's name, or a peer's for it */
	what = clean != NULL ? clean : "?";
	if (size == UINT64_MAX)
		bytes = snprintf(line, sizeof(line), "%s%.150s: %s%s", live ? "\r\033[K" : "", what,
			text_size(done, now_text), live ? "" : "\n");
	else
		bytes = snprintf(line, sizeof(line), "%s%.150s: %s of %s, %u %%%s",
			live ? "\r\033[K" : "", what, text_size(done, now_text),
			text_size(size, all_text),
			size == 0 ? 100u : (unsigned)((double)done * 100 / (double)size),
			live ? "" : "\n");
	free(clean);
	(void)say_bytes(STDERR_FILENO, line, (size_t)bytes);
	say.live = live;
}
