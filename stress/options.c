/* Command lines of the load subcommands; see options.h. */
#include "options.h"

#include "command.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct option_item *item_add(struct options *options, const char *name)
{
	struct option_item *item = &options->items[options->count++];

	assert(options->count <= OPTIONS_MAX);
	*item = (struct option_item){.name = name};
	return item;
}

void options_number(
	struct options *options, const char *name, uint64_t *number, uint64_t min, uint64_t max)
{
	struct option_item *item = item_add(options, name);

	item->kind = OPTION_NUMBER;
	item->min = min;
	item->max = max;
	item->target.number = number;
}

void options_flag(struct options *options, const char *name, bool *flag)
{
	struct option_item *item = item_add(options, name);

	item->kind = OPTION_FLAG;
	item->target.flag = flag;
}

void options_choice(
	struct options *options, const char *name, uint64_t *number, const char *const *choices)
{
	struct option_item *item = item_add(options, name);

	item->kind = OPTION_CHOICE;
	item->choices = choices;
	item->target.number = number;
}

void options_text(struct options *options, const char *name, const char **text)
{
	struct option_item *item = item_add(options, name);

	item->kind = OPTION_TEXT;
	item->target.text = text;
}

void options_call(struct options *options, const char *name, option_take take, void *context)
{
	struct option_item *item = item_add(options, name);

	item->kind = OPTION_CALL;
	item->take = take;
	item->target.context = context;
}

int options_refuse(const struct options *options, const char *format, ...)
{
	va_list arguments;
	char text[512];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "peerhub-stress %s: %s (--help shows the options)\n", options->command,
		text);
	return EXIT_USAGE;
}

static int choice_take(
	const struct options *options, const struct option_item *item, const char *text)
{
	char all[160] = "";

	for (uint64_t i = 0; item->choices[i] != NULL; i++) {
		size_t at = strlen(all);

		if (strcmp(item->choices[i], text) == 0) {
			*item->target.number = i;
			return 0;
		}
		snprintf(all + at, sizeof(all) - at, "%s%s",
			i == 0				       ? ""
				: item->choices[i + 1] == NULL ? " or "
							       : ", ",
			item->choices[i]);
	}
	return options_refuse(options, "--%s takes %s, not '%s'", item->name, all, text);
}

/* 0 or EXIT_USAGE. */
static int item_take(
	const struct options *options, const struct option_item *item, const char *text)
{
	char why[OPTIONS_WHY_BYTES] = "";

	switch (item->kind) {
	case OPTION_NUMBER:
		if (number_parse(text, item->min, item->max, item->target.number) == 0)
			return 0;
		return options_refuse(options,
			"--%s takes a whole number from %llu to %llu, not '%s'", item->name,
			(unsigned long long)item->min, (unsigned long long)item->max, text);
	case OPTION_CHOICE:
		return choice_take(options, item, text);
	case OPTION_TEXT:
		*item->target.text = text;
		return 0;
	case OPTION_CALL:
		if (item->take(item->target.context, text, why) == 0)
			return 0;
		return options_refuse(options, "--%s %s: %s", item->name, text, why);
	case OPTION_FLAG:
		break;
	}
	return 0;
}

static const struct option_item *item_find(
	const struct options *options, const char *name, size_t bytes)
{
	for (uint32_t i = 0; i < options->count; i++)
		if (strlen(options->items[i].name) == bytes &&
			memcmp(options->items[i].name, name, bytes) == 0)
			return &options->items[i];
	return NULL;
}

/* One argument, or two. 0 or EXIT_USAGE. */
static int argument_take(const struct options *options, int argc, char **argv, int *at)
{
	const char *name = argv[*at] + 2;
	const char *equals = strchr(name, '=');
	size_t bytes = equals != NULL ? (size_t)(equals - name) : strlen(name);
	const struct option_item *item = item_find(options, name, bytes);

	if (item == NULL)
		return options_refuse(options, "there is no option --%.*s", (int)bytes, name);
	if (item->kind == OPTION_FLAG) {
		if (equals != NULL)
			return options_refuse(options, "--%s takes no value", item->name);
		*item->target.flag = true;
		return 0;
	}
	if (equals != NULL)
		return item_take(options, item, equals + 1);
	if (*at + 1 >= argc)
		return options_refuse(options, "--%s wants a value", item->name);
	(*at)++;
	return item_take(options, item, argv[*at]);
}

int options_parse(const struct options *options, int argc, char **argv)
{
	for (int at = 1; at < argc; at++) {
		if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
			fputs(options->usage, stdout);
			return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED;
		}
		if (strncmp(argv[at], "--", 2) != 0)
			return options_refuse(options, "'%s' is no option", argv[at]);
		if (argument_take(options, argc, argv, &at) != 0)
			return EXIT_USAGE;
	}
	return OPTIONS_RUN;
}
