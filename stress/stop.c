/* The first SIGINT or SIGTERM; see stop.h. */
#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_bool is_requested;

static void on_signal(int number)
{
	(void)number;
	atomic_store(&is_requested, true);
}

int stop_catch(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0)
		return -errno;
	return 0;
}

bool stop_requested(void)
{
	return atomic_load(&is_requested);
}
