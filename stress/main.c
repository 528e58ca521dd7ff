/* peerhub-stress: chooses the subcommand. */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: peerhub-stress COMMAND [options]\n"
	"\n"
	"  spin    random calls from many threads against one or two hubs, everything audited\n"
	"  job     many direct connections between two processes, opened, used and closed by every path\n"
	"\n"
	"peerhub-stress COMMAND --help shows the options of a command.\n"
	"Exit codes: 0 nothing found, 1 a violation or a failure, 2 wrong command line, 3 a hang.\n";

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
	if (argc >= 2 && strcmp(argv[1], "spin") == 0)
		return spin_command(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "job") == 0)
		return job_command(argc - 1, argv + 1);
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage_text, stdout);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FOUND;
	}
	if (argc >= 2)
		fprintf(stderr, "peerhub-stress: no such command: %s\n", argv[1]);
	fputs(usage_text, stderr);
	return EXIT_USAGE;
}
