/*
 * log.h: what a running hub logs: one line an event, as text, logfmt, JSON, or fields for journald.
 *
 * A line is a level, an event ("connection_end") and fields. All text may come from a peer: it is escaped
 * for the format. A line goes out in one write, so that lines of several threads never mix. Any thread;
 * what a line costs is one lock and one system call. Lines that stderr does not take at once are counted,
 * not waited for.
 */
#ifndef PEERHUB_HUB_LOG_H
#define PEERHUB_HUB_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

enum log_kind {
	LOG_TEXT,
	LOG_NUMBER,
	LOG_SIGNED,
};

struct log_field {
	const char *name; /* a-z and _ */
	enum log_kind kind;
	const char *text;
	uint64_t number;
	int64_t signed_number;
};
#define LOG_T(name, value)                  \
	{                                   \
		name, LOG_TEXT, value, 0, 0 \
	}
#define LOG_N(name, value)                       \
	{                                        \
		name, LOG_NUMBER, NULL, value, 0 \
	}
#define LOG_I(name, value)                       \
	{                                        \
		name, LOG_SIGNED, NULL, 0, value \
	}
#define LOG_FIELDS_MAX 32u

/* Choose level and format; again at every reload. The first call, before any thread that logs, takes stderr.
 * Before it: info, text. */
void log_configure(
	enum config_log_level level, enum config_log_format format, uint64_t ends_per_second);
bool log_is_configured(
	void); /* has it been called? Then events are logged, not said to a person. */
enum config_log_level log_level(void);
void log_level_set(enum config_log_level level);
/* "info", …; -1 when the word is none. */
const char *log_level_name(enum config_log_level level);
int log_level_of(const char *word);

/* `count` <= LOG_FIELDS_MAX. */
void log_event(enum config_log_level level, const char *event, const struct log_field *fields,
	unsigned count);
#define LOG(level, event, ...)                                                                    \
	do {                                                                                      \
		const struct log_field log_fields_[] = {__VA_ARGS__};                             \
		log_event(                                                                        \
			level, event, log_fields_, sizeof(log_fields_) / sizeof(log_fields_[0])); \
	} while (0)

/* May a line about an ended connection be written now? At most ends-per-second may; the others are
 * counted, and the next second begins with a line that says how many were left out. */
bool log_end_may(uint64_t now_ms);
/* The same for a connection that ended before its handshake: beside those, a tenth as many may. */
bool log_stranger_may(uint64_t now_ms);

/* Lines that could not be written, and lines about ends that were left out. */
uint64_t log_lost(void);
uint64_t log_left_out(void);

#endif
