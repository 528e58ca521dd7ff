/* A run from preflight to report. Returns the program's exit code: 0 all is well, 1 a fault was found
 * or the run could not be finished, 2 the machine or the arguments do not allow it, 130 interrupted. */
#ifndef PEERHUB_MILLION_RUN_H
#define PEERHUB_MILLION_RUN_H

#include "bench/million/plan.h"

int run_million(struct plan *plan);

/* `memory`: idle connections plain and with TLS, by kind. arguments: what follows the word. */
int run_memory(int argument_count, char **arguments);

#endif
