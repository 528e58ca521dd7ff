/* A broken promise of ours ends the process at once, with the place on stderr: going on could hand one
 * client another's memory. */
#include "api/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void api_check_failed(const char *expression, const char *file, int line)
{
	fprintf(stderr, "peerhub: %s:%d: broken promise: %s\n", file, line, expression);
	abort();
}
