/*
 * main.c: peerhub, the runnable node. Built from the public headers alone, and so also the example
 * of how to use them. The first word chooses the subcommand.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "peerhub.h"
#include "say.h"

static const char usage[] =
	"usage: peerhub COMMAND [options]\n"
	"\n"
	"  id      create, list, show, export, import, delete identities\n"
	"  group   create, list, invite, join, delete groups\n"
	"  hub     serve groups on an address: members meet here, and it relays between them\n"
	"  peer    join, connect, send and receive files and lines\n"
	"  ctl     ask and steer a running hub\n"
	"  top     watch a running hub in a terminal\n"
	"  doctor  say why a hub cannot run, or not run fast, on this machine\n"
	"\n"
	"\"peerhub COMMAND --help\" tells more. \"peerhub --version\" names the version.\n"
	"\n"
	"exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out\n";

static int run(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {
		{"id", id_main},
		{"group", group_main},
		{"hub", hub_main},
		{"peer", peer_main},
		{"ctl", ctl_main},
		{"top", top_main},
		{"doctor", doctor_main},
	};

	if (argc < 2) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		fputs(usage, stdout);
		return EXIT_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("peerhub %u.%u.%u\n", PH_VERSION_MAJOR, PH_VERSION_MINOR, PH_VERSION_PATCH);
		return EXIT_OK;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	say_error("unknown command \"%s\"", argv[1]);
	fputs("try \"peerhub --help\"\n", stderr);
	return EXIT_USAGE;
}

/* What was printed counts as done only when it has left. */
int main(int argc, char **argv)
{
	int code = run(argc, argv);

	if (fflush(stdout) == 0)
		return code;
	say_error("cannot write to standard output");
	return EXIT_FAILED;
}
