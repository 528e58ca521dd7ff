/*
 * options.c: see options.h.
 */
#include "options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "peerhub/extras.h"
#include "say.h"
#include "text.h"

#define COMMON_COUNT 3u

/* The options that every subcommand has, as a table like the others. */
static void common_specs(struct option_spec *specs, struct common *common, bool *help)
{
	specs[0] = (struct option_spec){"home", OPTION_TEXT, "DIR",
		"the store; default PEERHUB_HOME, then $XDG_DATA_HOME/peerhub", &common->home, 0,
		0};
	specs[1] = (struct option_spec){"quiet", OPTION_FLAG, NULL,
		"results only: no notes, no progress", &common->quiet, 0, 0};
	specs[2] = (struct option_spec){"help", OPTION_FLAG, NULL, "this text", help, 0, 0};
}

static void print_option(const struct option_spec *spec)
{
	char left[64];
	const char *at = spec->help, *end;

	snprintf(left, sizeof(left), "--%s%s%s", spec->name, spec->argument != NULL ? " " : "",
		spec->argument != NULL ? spec->argument : "");
	printf("  %-26s ", left);
	if (strlen(left) > 26)
		printf("\n%29s", "");
	while ((end = strchr(at, '\n')) != NULL) {
		printf("%.*s\n%29s", (int)(end - at), at, "");
		at = end + 1;
	}
	printf("%s\n", at);
}

static void print_help(const struct command *command, const struct option_spec *common)
{
	printf("usage: %s [options]%s%s\n\n%s\n\noptions:\n", command->name,
		*command->operands != 0 ? " " : "", command->operands, command->summary);
	for (size_t i = 0; i < command->option_count; i++)
		print_option(&command->options[i]);
	for (size_t i = 0; i < COMMON_COUNT; i++)
		print_option(&common[i]);
	printf("\nexit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out\n");
}

static const struct option_spec *find_spec(
	const struct option_spec *specs, size_t count, const char *name, size_t bytes)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(specs[i].name) == bytes && memcmp(specs[i].name, name, bytes) == 0)
			return &specs[i];
	return NULL;
}

static bool store_value(const struct option_spec *spec, const char *value)
{
	struct option_list *list;

	switch (spec->kind) {
	case OPTION_FLAG:
		*(bool *)spec->target = true;
		return true;
	case OPTION_TEXT:
		*(const char **)spec->target = value;
		return true;
	case OPTION_NUMBER:
		if (text_number(value, spec->min, spec->max, spec->target))
			return true;
		say_error("--%s must be a number from %" PRIu64 " to %" PRIu64 ", not \"%s\"",
			spec->name, spec->min, spec->max, value);
		return false;
	case OPTION_LIST:
		list = spec->target;
		if (list->count == OPTION_LIST_MAX) {
			say_error("--%s is given more than %u times", spec->name, OPTION_LIST_MAX);
			return false;
		}
		list->items[list->count++] = value;
		return true;
	}
	return false;
}

/* One option at argv[*at]; moves *at past what it used. */
static bool take_option(const struct command *command, const struct option_spec *common, int argc,
	char **argv, int *at)
{
	const char *name = argv[*at] + 2, *equals = strchr(name, '='), *value = NULL;
	size_t bytes = equals != NULL ? (size_t)(equals - name) : strlen(name);
	const struct option_spec *spec;

	spec = find_spec(command->options, command->option_count, name, bytes);
	if (spec == NULL)
		spec = find_spec(common, COMMON_COUNT, name, bytes);
	if (spec == NULL) {
		say_error("unknown option \"%s\"", argv[*at]);
		return false;
	}
	if (spec->kind == OPTION_FLAG) {
		if (equals != NULL) {
			say_error("--%s takes no value", spec->name);
			return false;
		}
	} else if (equals != NULL) {
		value = equals + 1;
	} else if (*at + 1 < argc) {
		value = argv[++*at];
	} else {
		say_error("--%s needs a value: %s", spec->name, spec->argument);
		return false;
	}
	return store_value(spec, value);
}

static enum options_verdict bad_usage(const struct command *command)
{
	fprintf(stderr, "try \"%s --help\"\n", command->name);
	return OPTIONS_BAD;
}

enum options_verdict options_parse(const struct command *command, int argc, char **argv,
	struct common *common, struct option_list *operands)
{
	struct option_spec specs[COMMON_COUNT];
	bool help = false, options_ended = false;
	HRESULT result;

	*common = (struct common){0};
	*operands = (struct option_list){0};
	common_specs(specs, common, &help);
	say_begin(command->name, false);
	for (int at = 1; at < argc; at++) {
		if (!options_ended && strcmp(argv[at], "--") == 0) {
			options_ended = true;
		} else if (!options_ended && strncmp(argv[at], "--", 2) == 0) {
			if (!take_option(command, specs, argc, argv, &at))
				return bad_usage(command);
		} else if (!options_ended && argv[at][0] == '-' && argv[at][1] != 0) {
			say_error("unknown option \"%s\"", argv[at]);
			return bad_usage(command);
		} else if (operands->count == command->operand_max) {
			say_error("\"%s\" is one operand too many", argv[at]);
			return bad_usage(command);
		} else {
			operands->items[operands->count++] = argv[at];
		}
	}
	if (help) {
		print_help(command, specs);
		return OPTIONS_DONE;
	}
	if (operands->count < command->operand_min) {
		say_error("missing: %s", command->operands);
		return bad_usage(command);
	}
	say_begin(command->name, common->quiet);
	if (common->home == NULL)
		return OPTIONS_GO;
	result = PeerhubSetHome(common->home);
	if (SUCCEEDED(result))
		return OPTIONS_GO;
	say_result(result, "cannot use the store \"%s\"", common->home);
	return OPTIONS_FAILED;
}

int options_exit(enum options_verdict verdict)
{
	switch (verdict) {
	case OPTIONS_BAD:
		return EXIT_USAGE;
	case OPTIONS_FAILED:
		return EXIT_FAILED;
	default:
		return EXIT_OK;
	}
}
