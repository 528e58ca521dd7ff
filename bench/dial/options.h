/* The command line of peerhub-dial. */
#ifndef PEERHUB_BENCH_DIAL_OPTIONS_H
#define PEERHUB_BENCH_DIAL_OPTIONS_H

#include "peerhub.h"

#include <stdbool.h>
#include <sys/types.h>

#define DIAL_EXIT_OK 0
#define DIAL_EXIT_FAILURE 1 /* it could not run, or something was wrong */
#define DIAL_EXIT_USAGE 2
#define DIAL_AT_ONCE_MAX 1024u

struct dial_options {
	uint16_t port;
	uint32_t at_once;
	enum ph_framing framing;
	bool resume;
	double seconds, warmup_seconds;
	const char *pki; /* directory with ca.pem, client.pem, client.key */
	pid_t server_pid; /* 0: nobody's CPU time is read */
};

/* Returns -1 when the program shall run, else its exit code: the message is written. */
int dial_options_parse(struct dial_options *options, int argc, char **argv);

#endif
