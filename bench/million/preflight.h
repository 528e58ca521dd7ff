/* Whether this machine can hold a plan: what it has, what the plan needs, and what would fit. */
#ifndef PEERHUB_MILLION_PREFLIGHT_H
#define PEERHUB_MILLION_PREFLIGHT_H

#include "bench/million/plan.h"

#include <stdbool.h>
#include <stdio.h>

/* Prints a line for each limit. False: at least one is too small (the last line says what fits). */
bool preflight(const struct plan *plan, FILE *out);

#endif
