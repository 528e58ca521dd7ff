/* The subcommands of peerhub-stress. Each parses its own argv (argv[0] is its name) and returns
 * the exit code. */
#ifndef PEERHUB_STRESS_COMMAND_H
#define PEERHUB_STRESS_COMMAND_H

#include <stdint.h>

/* Exit codes, the same for all; 0: it ran and found nothing. */
#define EXIT_FOUND 1 /* a violation, a mismatch, a limit that did not hold */
#define EXIT_USAGE 2
#define EXIT_HANG 3 /* something did not end in its time; the hubs' state is on stderr */
#define EXIT_FAILED 4 /* it could not run, or not write its report */

int spin_command(int argc, char **argv);
int job_command(int argc, char **argv);
int attack_command(int argc, char **argv);
int storm_command(int argc, char **argv);
int churn_command(int argc, char **argv);
int slow_command(int argc, char **argv);
int soak_command(int argc, char **argv);

/* A whole decimal number between the bounds; 0 or -EINVAL. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *number);

#endif
