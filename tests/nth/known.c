/* The list of OpenSSL's own leaks; see known.h. */
#include "tests/nth/known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 256u
#define LINE_BYTES 1024u

static struct entry {
	char failed[LINE_BYTES], leaked[LINE_BYTES];
} entries[ENTRIES_MAX];
static uint32_t entry_count;

static _Noreturn void known_fault(const char *path, uint32_t line, const char *what)
{
	fprintf(stderr, "%s:%u: %s\n", path, (unsigned)line, what);
	exit(2);
}

void known_load(const char *path)
{
	char text[LINE_BYTES];
	bool half = false;
	uint32_t line = 0;
	FILE *in = fopen(path, "r");

	if (in == NULL)
		known_fault(path, 0, "cannot be read");
	while (fgets(text, sizeof(text), in) != NULL) {
		struct entry *entry = &entries[entry_count];

		line++;
		text[strcspn(text, "\n")] = '\0';
		if (text[0] == '\0' || text[0] == '#')
			continue;
		if (entry_count == ENTRIES_MAX)
			known_fault(path, line, "too many entries");
		if (strncmp(text, "failed  ", 8) == 0 && !half)
			strcpy(entry->failed, text + 8);
		else if (strncmp(text, "leaked  ", 8) == 0 && half)
			strcpy(entry->leaked, text + 8);
		else
			known_fault(path, line, "neither a comment nor the line that belongs here");
		if (half)
			entry_count++;
		half = !half;
	}
	if (half)
		known_fault(path, line, "half an entry");
	fclose(in);
}

/* The next name of "a < b < c"; "" at the end. */
static const char *name_next(const char *at, char name[LINE_BYTES])
{
	size_t bytes = strcspn(at, " ");

	memcpy(name, at, bytes);
	name[bytes] = '\0';
	at += bytes;
	return at + strspn(at, " <");
}

/* The pattern's names in their order, and both end with the same: the function of ours. */
static bool is_matching(const char *pattern, const char *stack)
{
	char wanted[LINE_BYTES], name[LINE_BYTES];

	if (strcmp(pattern, "*") == 0)
		return true;
	pattern = name_next(pattern, wanted);
	for (;;) {
		if (stack[0] == '\0')
			return false;
		stack = name_next(stack, name);
		if (strcmp(wanted, "*") == 0 && pattern[0] == '\0')
			return true; /* whichever function of ours */
		if (strcmp(name, wanted) != 0)
			continue;
		if (pattern[0] == '\0')
			return stack[0] == '\0';
		pattern = name_next(pattern, wanted);
	}
}

bool known_has(const char *failed, const char *leaked)
{
	for (uint32_t i = 0; i < entry_count; i++)
		if (is_matching(entries[i].failed, failed) &&
			is_matching(entries[i].leaked, leaked))
			return true;
	return false;
}
