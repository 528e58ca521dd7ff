/* The command line of peerhub-echo: parsed and checked, nothing else. */
#ifndef PEERHUB_ECHO_OPTIONS_H
#define PEERHUB_ECHO_OPTIONS_H

#include "peerhub.h"

struct echo_options {
	ph_address address; /* port included */
	int address_given; /* --address was said; else every address of the machine */
	uint32_t thread_count;
	uint32_t connections; /* of the whole program; 0 = the engine's default */
	int tls;
	int resume; /* PH_HUB_RESUME */
	enum ph_framing framing;
	const char *cert_path; /* borrowed from argv */
	const char *key_path;
	const char *ca_path;
};

#define ECHO_EXIT_OK 0
#define ECHO_EXIT_FAILURE 1 /* it could not start or run */
#define ECHO_EXIT_USAGE 2 /* the command line */

/* Returns -1 when the program shall run, else the exit code: the message (or --help) is written. */
int echo_options_parse(struct echo_options *options, int argc, char **argv);

#endif
