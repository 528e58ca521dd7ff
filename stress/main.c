/* peerhub-stress: chooses the subcommand. */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: peerhub-stress COMMAND [options]\n"
	"\n"
	"Loads peerhub's connection engine and checks everything it does. Each command runs its own\n"
	"hubs in this process, over loopback; most can dial another machine's peerhub-echo instead.\n"
	"\n"
	"  spin    random calls from many threads, everything audited: does it ever go wrong?\n"
	"  storm   mass open and mass close: how long does a close take, and what does it cost?\n"
	"  churn   open, use and close at a steady rate: does everything come back?\n"
	"  slow    peers that read slowly or not at all: do the others notice?\n"
	"  attack  floods, bad chains, broken messages, storms: does the hub stand, who suffers?\n"
	"  job     many direct connections between two processes, closed by every path\n"
	"  soak    all of these in turn, for as long as you like\n"
	"\n"
	"peerhub-stress COMMAND --help shows what a command does, its options and examples.\n"
	"Faults (late, slow, stalled, cut and reset streams, errors of the kernel's) can be added to\n"
	"storm, churn, slow and soak with --fault.\n"
	"\n"
	"Start here:  peerhub-stress storm\n"
	"\n"
	"Exit codes: 0 nothing found, 1 a violation or a failed check, 2 wrong command line,\n"
	"3 a hang, 4 it could not run.\n";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"spin", spin_command},
	{"storm", storm_command},
	{"churn", churn_command},
	{"slow", slow_command},
	{"attack", attack_command},
	{"job", job_command},
	{"soak", soak_command},
};

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
	unsigned long long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < min || value > max)
		return -EINVAL;
	*number = value;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage_text, stdout);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED;
	}
	for (size_t i = 0; argc >= 2 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (argc >= 2)
		fprintf(stderr, "peerhub-stress: no such command: %s\n", argv[1]);
	fputs(usage_text, stderr);
	return EXIT_USAGE;
}
