/* The subcommands of peerhub-stress. Each parses its own argv (argv[0] is its name) and returns
 * the exit code. */
#ifndef PEERHUB_STRESS_COMMAND_H
#define PEERHUB_STRESS_COMMAND_H

#include <stdint.h>

#define EXIT_FOUND 1 /* a violation, a mismatch, or it could not run */
#define EXIT_USAGE 2

int spin_command(int argc, char **argv);
int job_command(int argc, char **argv);

/* A whole decimal number between the bounds; 0 or -EINVAL. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *number);

#endif
