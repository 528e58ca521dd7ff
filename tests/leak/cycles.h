/*
 * Open/close cycles: connections that are opened and ended in every way there is, two hubs of one
 * process facing each other, until a number of them have come and gone. Nothing is measured here but
 * the run itself; what is left behind is counted by count.h and looked for by inspect.h.
 */
#ifndef PEERHUB_TESTS_LEAK_CYCLES_H
#define PEERHUB_TESTS_LEAK_CYCLES_H

#include "tests/leak/count.h"

struct cycles_options {
	const char *name; /* of the phase, for the report */
	uint64_t count;
	uint32_t tls_permille; /* connections over mutual TLS, the others are clear */
	uint64_t seed;
	bool shows_progress;
};

struct cycles;

int cycles_start(uint64_t seed, struct cycles **cycles); /* two hubs that listen; 0 or an errno */
/* Run `count` cycles to their last event. 0, or -ETIMEDOUT / -EPROTO with the cause on stderr. */
int cycles_run(struct cycles *cycles, const struct cycles_options *options);
/* Both hubs at rest, every id with its one last event. 0, or -EBUSY / -EPROTO, said on stderr. */
int cycles_check_rest(struct cycles *cycles);
int cycles_stop(struct cycles *cycles); /* frees it */

#endif
