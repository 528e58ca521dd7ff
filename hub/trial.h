/*
 * trial.h: does the confinement hold? Each trial is a child of its own that confines itself as a hub does and
 * then does what an intruder would; the same without confinement tells whether it could have at all.
 */
#ifndef PEERHUB_HUB_TRIAL_H
#define PEERHUB_HUB_TRIAL_H

#include <stdbool.h>
#include <stddef.h>

enum trial_end {
	TRIAL_DONE, /* it was let */
	TRIAL_REFUSED, /* with an error */
	TRIAL_KILLED, /* the kernel ended the process */
	TRIAL_BROKEN, /* the trial itself failed */
};

struct trial_result {
	const char *what; /* "read a file outside its directories" */
	bool is_hostile; /* else a hub needs it, and it must be let */
	enum trial_end free, confined;
	char text[160]; /* what is in force in the confined child */
};

size_t trial_count(void);
/* Run one, index < trial_count(). `directory` is one that may be written to. */
void trial_run(size_t index, const char *directory, struct trial_result *result);

#endif
