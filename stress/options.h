/*
 * Command lines of the load subcommands: each option is added to a list with what it takes, then
 * the list reads argv. A refusal names the option, what it takes and what it got. Main thread.
 */
#ifndef PEERHUB_STRESS_OPTIONS_H
#define PEERHUB_STRESS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_MAX 48u
#define OPTIONS_WHY_BYTES 256u
#define OPTIONS_RUN (-1) /* options_parse: go on */

/* Takes the text of an option; 0, or -EINVAL with a line in why[OPTIONS_WHY_BYTES]. */
typedef int (*option_take)(void *context, const char *text, char *why);

struct option_item {
	const char *name; /* without the dashes; static */
	enum {
		OPTION_NUMBER,
		OPTION_FLAG,
		OPTION_CHOICE,
		OPTION_TEXT,
		OPTION_CALL
	} kind;
	uint64_t min, max;
	const char *const *choices; /* NULL-ended; the number of the chosen one is stored */
	option_take take;
	union {
		uint64_t *number;
		bool *flag;
		const char **text;
		void *context;
	} target;
};

struct options {
	const char *command; /* "storm" */
	const char *usage; /* --help */
	uint32_t count;
	struct option_item items[OPTIONS_MAX];
};

void options_number(
	struct options *options, const char *name, uint64_t *number, uint64_t min, uint64_t max);
void options_flag(struct options *options, const char *name, bool *flag);
void options_choice(
	struct options *options, const char *name, uint64_t *number, const char *const *choices);
void options_text(struct options *options, const char *name, const char **text);
void options_call(struct options *options, const char *name, option_take take, void *context);

/* OPTIONS_RUN, or the exit code: --help was shown, or the reason was written to stderr. */
int options_parse(const struct options *options, int argc, char **argv);
/* The same way of refusing, for what only several options together make wrong. EXIT_USAGE. */
int options_refuse(const struct options *options, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
