/*
 * Ctrl-C: the first SIGINT or SIGTERM asks a run to end early, with its report; the second one ends
 * the process as it always does. The commands look at stop_requested wherever they wait.
 */
#ifndef PEERHUB_STRESS_STOP_H
#define PEERHUB_STRESS_STOP_H

#include <stdbool.h>

int stop_catch(void); /* 0 or -errno */
bool stop_requested(void); /* any thread */

#endif
