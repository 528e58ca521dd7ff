/* The command line of peerhub-dial; see options.h. */
#include "bench/dial/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: peerhub-dial --port P --pki DIR [options]\n"
	"\n"
	"The engine as a dialler: opens mutual-TLS connections to an echo server on 127.0.0.1, sends one\n"
	"byte on each, checks that it comes back, closes, and begins anew. Writes one JSON object in the\n"
	"form of peerhub-load's.\n"
	"\n"
	"  --port P            TCP port\n"
	"  --pki DIR           ca.pem, client.pem and client.key, as peer-pki makes them\n"
	"  --at-once K         connections at once, 1 to 1024 (16)\n"
	"  --framing KIND      raw (default), message\n"
	"  --resume            come back with the secret of the last visit (framing message)\n"
	"  --seconds S         how long it measures (3)\n"
	"  --warmup S          how long it runs before (1)\n"
	"  --server-pid PID    whose CPU time is read, too\n"
	"  --help              this text\n"
	"\n"
	"Exit codes: 0 all came back right, 1 it could not run or something was wrong, 2 wrong command\n"
	"line.\n";

enum {
	OPT_PORT = 256,
	OPT_PKI,
	OPT_AT_ONCE,
	OPT_FRAMING,
	OPT_RESUME,
	OPT_SECONDS,
	OPT_WARMUP,
	OPT_SERVER_PID,
	OPT_HELP
};

static const struct option long_options[] = {
	{"port", required_argument, NULL, OPT_PORT},
	{"pki", required_argument, NULL, OPT_PKI},
	{"at-once", required_argument, NULL, OPT_AT_ONCE},
	{"framing", required_argument, NULL, OPT_FRAMING},
	{"resume", no_argument, NULL, OPT_RESUME},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"warmup", required_argument, NULL, OPT_WARMUP},
	{"server-pid", required_argument, NULL, OPT_SERVER_PID},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "peerhub-dial: %s%s%s (--help shows the options)\n", what,
		value != NULL ? ": " : "", value != NULL ? value : "");
	return DIAL_EXIT_USAGE;
}

static bool number_parse(const char *text, unsigned long min, unsigned long max, uint32_t *number)
{
	unsigned long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < min || value > max)
		return false;
	*number = (uint32_t)value;
	return true;
}

static bool real_parse(const char *text, double min, double max, double *number)
{
	char *end;

	if ((text[0] < '0' || text[0] > '9') && text[0] != '.')
		return false;
	errno = 0;
	*number = strtod(text, &end);
	return errno == 0 && *end == '\0' && *number >= min && *number <= max;
}

/* One option; NULL, or what it takes. */
static const char *option_take(struct dial_options *options, int opt, const char *value)
{
	uint32_t number = 0;

	switch (opt) {
	case OPT_PORT:
		if (!number_parse(value, 1, 65535, &number))
			return "--port takes 1 to 65535";
		options->port = (uint16_t)number;
		return NULL;
	case OPT_PKI:
		options->pki = value;
		return NULL;
	case OPT_AT_ONCE:
		return number_parse(value, 1, DIAL_AT_ONCE_MAX, &options->at_once)
			? NULL
			: "--at-once takes 1 to 1024";
	case OPT_FRAMING:
		if (strcmp(value, "raw") != 0 && strcmp(value, "message") != 0)
			return "--framing takes raw or message";
		options->framing = value[0] == 'r' ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE;
		return NULL;
	case OPT_RESUME:
		options->resume = true;
		return NULL;
	case OPT_SECONDS:
		return real_parse(value, 0.01, 86400, &options->seconds)
			? NULL
			: "--seconds takes 0.01 to 86400";
	case OPT_WARMUP:
		return real_parse(value, 0, 3600, &options->warmup_seconds)
			? NULL
			: "--warmup takes 0 to 3600";
	case OPT_SERVER_PID:
		if (!number_parse(value, 1, 1u << 30, &number))
			return "--server-pid takes a process id";
		options->server_pid = (pid_t)number;
		return NULL;
	default:
		return "unknown option";
	}
}

int dial_options_parse(struct dial_options *options, int argc, char **argv)
{
	int opt;

	*options = (struct dial_options){
		.at_once = 16, .framing = PH_FRAMING_RAW, .seconds = 3, .warmup_seconds = 1};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		const char *wrong;

		if (opt == OPT_HELP) {
			fputs(usage_text, stdout);
			return fflush(stdout) == 0 ? DIAL_EXIT_OK : DIAL_EXIT_FAILURE;
		}
		if (opt == '?')
			return DIAL_EXIT_USAGE;
		wrong = option_take(options, opt, optarg);
		if (wrong != NULL)
			return usage_error(wrong, optarg);
	}
	if (optind < argc)
		return usage_error("takes no arguments", argv[optind]);
	if (options->port == 0 || options->pki == NULL)
		return usage_error("--port and --pki are missing", NULL);
	if (options->resume && options->framing != PH_FRAMING_MESSAGE)
		return usage_error("--resume is for --framing message", NULL);
	return -1;
}
