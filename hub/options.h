/*
 * options.h: one table per subcommand drives both the parsing and the --help text.
 *
 * "--name value" and "--name=value" are the same; "--" ends the options. Every subcommand also has
 * --home, --quiet and --help.
 */
#ifndef PEERHUB_HUB_OPTIONS_H
#define PEERHUB_HUB_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_LIST_MAX 64u /* how often one option may be repeated */

struct option_list {
	const char *items[OPTION_LIST_MAX];
	size_t count;
};

enum option_kind {
	OPTION_FLAG, /* target: bool */
	OPTION_TEXT, /* target: const char * */
	OPTION_NUMBER, /* target: uint64_t, min..max */
	OPTION_LIST, /* target: struct option_list */
};

struct option_spec {
	const char *name; /* without the dashes */
	enum option_kind kind;
	const char *argument; /* as shown: "HOST:PORT"; NULL for flags */
	const char *help; /* may hold \n: continued lines are indented */
	void *target;
	uint64_t min, max; /* OPTION_NUMBER */
};

struct command {
	const char *name; /* "peerhub id create" */
	const char *operands; /* as shown: "IDENTITY [FILE]"; "" for none */
	const char *summary; /* what it does; one or more lines */
	const struct option_spec *options;
	size_t option_count;
	size_t operand_min, operand_max; /* at most OPTION_LIST_MAX */
};

/* What is common to all, filled by options_parse. */
struct common {
	const char *home;
	bool quiet;
};

enum options_verdict {
	OPTIONS_GO, /* parsed; say_begin was called and the home set */
	OPTIONS_DONE, /* --help was printed */
	OPTIONS_BAD, /* said on stderr: exit with EXIT_USAGE */
	OPTIONS_FAILED, /* said on stderr: exit with EXIT_FAILED */
};

/* argv[0] is the last word of the command. Operands point into argv. */
enum options_verdict options_parse(const struct command *command, int argc, char **argv,
	struct common *common, struct option_list *operands);

/* The exit code of a verdict that is not OPTIONS_GO. */
int options_exit(enum options_verdict verdict);

#endif
