/* The command line of peerhub-echo; see options.h. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: peerhub-echo --port P --threads N [options]\n"
	"\n"
	"A server that gives back what it receives, on the peerhub engine.\n"
	"\n"
	"  --port P            TCP port, 0 for any free one\n"
	"  --threads N         shards (threads), 1 to 64\n"
	"  --address A         numeric address to listen on (default: every address)\n"
	"  --framing KIND      raw (default): every byte comes back as it came\n"
	"                      message: the peer protocol, every message comes back\n"
	"  --tls               mutual TLS 1.3; needs --cert, --key and --ca\n"
	"  --cert FILE         our certificate, PEM, leaf first, intermediates after it\n"
	"  --key FILE          its private key, PEM, not encrypted\n"
	"  --ca FILE           clients must show a certificate that one of these signed, PEM\n"
	"  --resume            give peers a secret for their next visit (framing message, TLS)\n"
	"  --connections N     room for so many connections (default: 19968 a thread)\n"
	"  --help              this text\n"
	"\n"
	"Writes `ready ADDRESS PORT` to standard output when it listens. SIGUSR1 closes all its\n"
	"connections gracefully, SIGUSR2 aborts them, SIGTERM and SIGINT end the program.\n"
	"Exit codes: 0 ended by a signal, 1 could not run, 2 wrong command line.\n";

enum {
	OPT_PORT = 256,
	OPT_THREADS,
	OPT_ADDRESS,
	OPT_FRAMING,
	OPT_TLS,
	OPT_CERT,
	OPT_KEY,
	OPT_CA,
	OPT_RESUME,
	OPT_CONNECTIONS,
	OPT_HELP
};

static const struct option long_options[] = {
	{"port", required_argument, NULL, OPT_PORT},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"address", required_argument, NULL, OPT_ADDRESS},
	{"framing", required_argument, NULL, OPT_FRAMING},
	{"tls", no_argument, NULL, OPT_TLS},
	{"cert", required_argument, NULL, OPT_CERT},
	{"key", required_argument, NULL, OPT_KEY},
	{"ca", required_argument, NULL, OPT_CA},
	{"resume", no_argument, NULL, OPT_RESUME},
	{"connections", required_argument, NULL, OPT_CONNECTIONS},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "peerhub-echo: %s%s%s (--help shows the options)\n", what,
		value != NULL ? ": " : "", value != NULL ? value : "");
	return ECHO_EXIT_USAGE;
}

/* A whole decimal number between the bounds; 0 or -EINVAL. */
static int number_parse(const char *text, unsigned long min, unsigned long max, uint32_t *number)
{
	unsigned long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < min || value > max)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

static int address_parse(struct echo_options *options, const char *host, uint32_t port)
{
	char text[128];
	int bytes;

	bytes = snprintf(text, sizeof(text),
		strchr(host, ':') != NULL && host[0] != '[' ? "[%s]:%u" : "%s:%u", host, port);
	if (bytes < 0 || (size_t)bytes >= sizeof(text))
		return -EINVAL;
	return ph_address_parse(text, &options->address);
}

static int files_check(const struct echo_options *options)
{
	int given = (options->cert_path != NULL) + (options->key_path != NULL) +
		(options->ca_path != NULL);

	if (options->tls && given != 3)
		return usage_error("--tls needs --cert, --key and --ca", NULL);
	if (!options->tls && given != 0)
		return usage_error("--cert, --key and --ca are for --tls", NULL);
	if (options->resume && (!options->tls || options->framing != PH_FRAMING_MESSAGE))
		return usage_error("--resume is for --tls and --framing message", NULL);
	return -1;
}

int echo_options_parse(struct echo_options *options, int argc, char **argv)
{
	const char *host = NULL;
	uint32_t port = 0;
	int port_given = 0;
	int opt;

	memset(options, 0, sizeof(*options));
	options->framing = PH_FRAMING_RAW;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (opt) {
		case OPT_PORT:
			if (number_parse(optarg, 0, 65535, &port) < 0)
				return usage_error("--port takes a number from 0 to 65535", optarg);
			port_given = 1;
			break;
		case OPT_THREADS:
			if (number_parse(optarg, 1, PH_SHARDS_MAX, &options->thread_count) < 0)
				return usage_error("--threads takes a number from 1 to 64", optarg);
			break;
		case OPT_ADDRESS:
			host = optarg;
			break;
		case OPT_FRAMING:
			if (strcmp(optarg, "raw") == 0)
				options->framing = PH_FRAMING_RAW;
			else if (strcmp(optarg, "message") == 0)
				options->framing = PH_FRAMING_MESSAGE;
			else
				return usage_error("--framing takes raw or message", optarg);
			break;
		case OPT_TLS:
			options->tls = 1;
			break;
		case OPT_CERT:
			options->cert_path = optarg;
			break;
		case OPT_KEY:
			options->key_path = optarg;
			break;
		case OPT_CA:
			options->ca_path = optarg;
			break;
		case OPT_RESUME:
			options->resume = 1;
			break;
		case OPT_CONNECTIONS:
			if (number_parse(optarg, 1, 1u << 24, &options->connections) < 0)
				return usage_error(
					"--connections takes a number from 1 to 16777216", optarg);
			break;
		case OPT_HELP:
			fputs(usage_text, stdout);
			return fflush(stdout) == 0 ? ECHO_EXIT_OK : ECHO_EXIT_FAILURE;
		default:
			fputs("peerhub-echo: --help shows the options\n", stderr);
			return ECHO_EXIT_USAGE;
		}
	}
	if (optind < argc)
		return usage_error("takes no arguments", argv[optind]);
	if (!port_given)
		return usage_error("--port is missing", NULL);
	if (options->thread_count == 0)
		return usage_error("--threads is missing", NULL);
	options->address_given = host != NULL;
	if (address_parse(options, host != NULL ? host : "::", port) < 0)
		return usage_error("--address takes a numeric IPv4 or IPv6 address", host);
	return files_check(options);
}
