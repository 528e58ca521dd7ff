/*
 * log.c: see log.h. A line is composed on the writer's stack; only the rate of lines about ends is shared
 * state under a lock.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "text.h"

/* PIPE_BUF: a pipe that polls writable takes this whole and without blocking. A receipt fits, but for one whose
 * texts are all control characters. */
#define LINE_BYTES_MAX 4096u
#define JOURNAL_PATH "/run/systemd/journal/socket"

static struct {
	_Atomic unsigned level, format;
	_Atomic uint64_t ends_per_second;
	_Atomic uint64_t lost, left_out;
	bool is_configured; /* with `out` written before there are threads */
	int out; /* stderr, opened anew so that a write never waits; -1: none, or no need */
	pthread_mutex_t ends_lock; /* guards the rest */
	uint64_t second, ends, strangers, left_out_now; /* `ends` and `strangers` of this second */
	int journal; /* -1: not opened */
} logging = {.level = CONFIG_LOG_INFO,
	.format = CONFIG_LOG_TEXT,
	.ends_per_second = 100,
	.ends_lock = PTHREAD_MUTEX_INITIALIZER,
	.out = -1,
	.journal = -1};

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const int level_priorities[] = {3, 4, 6, 7}; /* syslog's numbers, RFC 5424 section 6.2.1 */

/* ---- a line -------------------------------------------------------------------------------- */

struct line {
	char text[LINE_BYTES_MAX];
	size_t bytes;
};

static void line_add(struct line *line, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What does not fit is cut. */
static void line_add(struct line *line, const char *format, ...)
{
	va_list arguments;
	int bytes;

	va_start(arguments, format);
	bytes = vsnprintf(
		line->text + line->bytes, sizeof(line->text) - line->bytes, format, arguments);
	va_end(arguments);
	if (bytes > 0)
		line->bytes += (size_t)bytes;
	if (line->bytes > sizeof(line->text) - 2)
		line->bytes = sizeof(line->text) - 2;
}

/* RFC 8259 section 7; `clean` is escaped for a terminal already, and so valid UTF-8 without controls. */
static void line_add_json(struct line *line, const char *clean)
{
	line_add(line, "\"");
	for (const char *at = clean; *at != '\0'; at++) {
		if (*at == '"' || *at == '\\')
			line_add(line, "\\%c", *at);
		else
			line_add(line, "%c", *at);
	}
	line_add(line, "\"");
}

/* A value that is no plain word is quoted, with " and \ behind a \. */
static void line_add_word(struct line *line, const char *clean)
{
	if (clean[0] != '\0' && strpbrk(clean, " \"=\\") == NULL)
		line_add(line, "%s", clean);
	else
		line_add_json(line, clean);
}

static void line_add_text(struct line *line, unsigned format, const char *text)
{
	char *clean = text_escape(text, strlen(text), false);
	const char *shown = clean != NULL ? clean : "?";

	if (format == CONFIG_LOG_JSON)
		line_add_json(line, shown);
	else if (format == CONFIG_LOG_JOURNAL)
		line_add(line, "%s", shown);
	else
		line_add_word(line, shown);
	free(clean);
}

static void line_add_time(struct line *line)
{
	struct timespec now;
	struct tm utc;
	char text[32];

	if (clock_gettime(CLOCK_REALTIME, &now) < 0 || gmtime_r(&now.tv_sec, &utc) == NULL)
		return;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	line_add(line, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

static void line_add_value(struct line *line, unsigned format, const struct log_field *field)
{
	if (field->kind == LOG_NUMBER)
		line_add(line, "%" PRIu64, field->number);
	else if (field->kind == LOG_SIGNED)
		line_add(line, "%" PRId64, field->signed_number);
	else
		line_add_text(line, format, field->text);
}

/* "connection_end id=7 reason=…", behind a head of the format. */
static void compose_words(struct line *line, unsigned format, enum config_log_level level,
	const char *event, const struct log_field *fields, unsigned count)
{
	if (format == CONFIG_LOG_LOGFMT) {
		line_add(line, "ts=");
		line_add_time(line);
		line_add(line, " level=%s event=%s", level_names[level], event);
	} else {
		/* journald and others that read stderr take the level from a head like this. */
		if (getenv("JOURNAL_STREAM") != NULL)
			line_add(line, "<%d>", level_priorities[level]);
		line_add(line, "peerhub hub: %s", event);
	}
	for (unsigned i = 0; i < count; i++) {
		line_add(line, " %s=", fields[i].name);
		line_add_value(line, format, &fields[i]);
	}
	line->text[line->bytes++] = '\n';
}

static void compose_json(struct line *line, enum config_log_level level, const char *event,
	const struct log_field *fields, unsigned count)
{
	line_add(line, "{\"ts\":\"");
	line_add_time(line);
	line_add(line, "\",\"level\":\"%s\",\"event\":\"%s\"", level_names[level], event);
	for (unsigned i = 0; i < count; i++) {
		line_add(line, ",\"%s\":", fields[i].name);
		line_add_value(line, CONFIG_LOG_JSON, &fields[i]);
	}
	/* Cut in the middle it would be no JSON: say so instead. */
	if (line->bytes >= sizeof(line->text) - 2) {
		line->bytes = 0;
		line_add(line, "{\"level\":\"%s\",\"event\":\"%s\",\"cut\":true",
			level_names[level], event);
	}
	line_add(line, "}");
	line->text[line->bytes++] = '\n';
}

/* journald's own protocol: KEY=value lines in one datagram; values hold no line breaks (escaped). */
static void compose_journal(struct line *line, enum config_log_level level, const char *event,
	const struct log_field *fields, unsigned count)
{
	line_add(line, "PRIORITY=%d\nSYSLOG_IDENTIFIER=peerhub\nPEERHUB_EVENT=%s\nMESSAGE=%s",
		level_priorities[level], event, event);
	for (unsigned i = 0; i < count; i++) {
		line_add(line, " %s=", fields[i].name);
		line_add_value(line, CONFIG_LOG_TEXT, &fields[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		line_add(line, "\nPEERHUB_");
		for (const char *at = fields[i].name; *at != '\0'; at++)
			line_add(line, "%c", *at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at);
		line_add(line, "=");
		line_add_value(line, CONFIG_LOG_JOURNAL, &fields[i]);
	}
	line->text[line->bytes++] = '\n';
}

/* ---- out ----------------------------------------------------------------------------------- */

static bool journal_send(const struct line *line)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = JOURNAL_PATH};
	bool is_sent;

	pthread_mutex_lock(&logging.ends_lock);
	if (logging.journal < 0)
		logging.journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	is_sent = logging.journal >= 0 &&
		sendto(logging.journal, line->text, line->bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
			(struct sockaddr *)&to, sizeof(to)) == (ssize_t)line->bytes;
	pthread_mutex_unlock(&logging.ends_lock);
	return is_sent;
}

/* A pipe or a terminal is opened anew: O_NONBLOCK on stderr itself would be everybody's who shares it. A file
 * stays as it is, since a second description would have an offset of its own. */
static void out_open(void)
{
	struct stat info;

	if (fstat(STDERR_FILENO, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)))
		logging.out = open(
			"/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY);
}

/* To stderr, whatever it is, without waiting for it: a reader that sleeps must not stop a shard. A pipe or a
 * terminal that could not be opened anew is asked first, which leaves a moment for other writers. */
static bool line_write(const struct line *line)
{
	struct pollfd poll_out = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t written;

	if (logging.out >= 0) {
		do {
			written = write(logging.out, line->text, line->bytes);
		} while (written < 0 && errno == EINTR);
		return written == (ssize_t)line->bytes;
	}
	do {
		written = send(STDERR_FILENO, line->text, line->bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (written < 0 && errno == ENOTSOCK) {
			if (poll(&poll_out, 1, 0) != 1 || !(poll_out.revents & POLLOUT))
				return false;
			written = write(STDERR_FILENO, line->text, line->bytes);
		}
	} while (written < 0 && errno == EINTR);
	return written == (ssize_t)line->bytes;
}

void log_event(enum config_log_level level, const char *event, const struct log_field *fields,
	unsigned count)
{
	unsigned format = atomic_load(&logging.format);
	struct line line;

	assert(count <= LOG_FIELDS_MAX);
	if (level > atomic_load(&logging.level))
		return;
	line.bytes = 0;
	if (format == CONFIG_LOG_JSON)
		compose_json(&line, level, event, fields, count);
	else if (format == CONFIG_LOG_JOURNAL)
		compose_journal(&line, level, event, fields, count);
	else
		compose_words(&line, format, level, event, fields, count);
	if (format == CONFIG_LOG_JOURNAL && journal_send(&line))
		return;
	if (format == CONFIG_LOG_JOURNAL) {
		line.bytes = 0; /* no journald here: plain text is better than nothing */
		compose_words(&line, CONFIG_LOG_TEXT, level, event, fields, count);
	}
	if (!line_write(&line))
		atomic_fetch_add(&logging.lost, 1);
}

/* ---- settings ------------------------------------------------------------------------------ */

void log_configure(
	enum config_log_level level, enum config_log_format format, uint64_t ends_per_second)
{
	if (!logging.is_configured)
		out_open();
	logging.is_configured = true;
	atomic_store(&logging.level, level);
	atomic_store(&logging.format, format);
	atomic_store(&logging.ends_per_second, ends_per_second);
}

bool log_is_configured(void)
{
	return logging.is_configured;
}

enum config_log_level log_level(void)
{
	return (enum config_log_level)atomic_load(&logging.level);
}

void log_level_set(enum config_log_level level)
{
	atomic_store(&logging.level, level);
}

const char *log_level_name(enum config_log_level level)
{
	return level_names[level];
}

int log_level_of(const char *word)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
		if (strcmp(level_names[i], word) == 0)
			return (int)i;
	return -1;
}

/* `count` is one of logging's. */
static bool end_may(uint64_t now_ms, uint64_t *count, uint64_t limit)
{
	uint64_t left_out = 0;
	bool may;

	if (limit == 0 || atomic_load(&logging.level) < CONFIG_LOG_INFO)
		return false;
	pthread_mutex_lock(&logging.ends_lock);
	if (logging.second != now_ms / 1000) {
		logging.second = now_ms / 1000;
		logging.ends = 0;
		logging.strangers = 0;
		left_out = logging.left_out_now;
		logging.left_out_now = 0;
	}
	may = *count < limit;
	if (may)
		(*count)++;
	else
		logging.left_out_now++;
	pthread_mutex_unlock(&logging.ends_lock);
	if (!may)
		atomic_fetch_add(&logging.left_out, 1);
	if (left_out > 0)
		LOG(CONFIG_LOG_INFO, "connection_ends_left_out", LOG_N("count", left_out));
	return may;
}

bool log_end_may(uint64_t now_ms)
{
	return end_may(now_ms, &logging.ends, atomic_load(&logging.ends_per_second));
}

bool log_stranger_may(uint64_t now_ms)
{
	return end_may(
		now_ms, &logging.strangers, (atomic_load(&logging.ends_per_second) + 9) / 10);
}

uint64_t log_lost(void)
{
	return atomic_load(&logging.lost);
}

uint64_t log_left_out(void)
{
	return atomic_load(&logging.left_out);
}
