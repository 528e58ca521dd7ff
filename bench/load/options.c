/* The command line of peerhub-load; see options.h. */
#include "bench/load/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: peerhub-load --port P [options]\n"
	"\n"
	"Loads an echo server on 127.0.0.1, checks every byte that comes back, and measures latency,\n"
	"throughput and the server's CPU time. Writes one JSON object.\n"
	"\n"
	"  --port P            TCP port\n"
	"  --connections N     connections (1)\n"
	"  --size BYTES        payload of an operation (64)\n"
	"  --in-flight K       operations that one connection has under way (1)\n"
	"  --seconds S         how long it measures (3)\n"
	"  --warmup S          how long it runs before (1)\n"
	"  --rate R            open loop: R operations a second in total, each at its time; latency\n"
	"                      counts from that time, whether or not it could be sent then\n"
	"  --mode MODE         echo (default); connect: connect, one echo, close;\n"
	"                      handshake: the same with TLS and one byte (both N * K at once);\n"
	"                      idle: open N, say `holding N connections` on standard error,\n"
	"                      hold, read the server's memory;\n"
	"                      relay: senders and receivers, see --fan\n"
	"  --fan F             relay: every sender has F receivers; N is a multiple of F + 1 (1)\n"
	"  --framing KIND      raw (default), message, nng, zmq, nats\n"
	"  --tls --pki DIR     mutual TLS 1.3 with ca.pem, client.pem, client.key; zmq: CURVE\n"
	"  --resume            --mode handshake: with the session ticket of the last one\n"
	"  --settle CORE       when all are open, run on this core alone (cores are free before)\n"
	"  --source A[-B]      connect from these IPv4 addresses in turn\n"
	"  --server-pid PID    whose CPU time and memory is read\n"
	"  --help              this text\n"
	"\n"
	"Exit codes: 0 all came back right, 1 it could not run or something was wrong, 2 wrong\n"
	"command line.\n";

enum {
	OPT_PORT = 256,
	OPT_CONNECTIONS,
	OPT_SIZE,
	OPT_IN_FLIGHT,
	OPT_SECONDS,
	OPT_WARMUP,
	OPT_RATE,
	OPT_MODE,
	OPT_FAN,
	OPT_FRAMING,
	OPT_TLS,
	OPT_PKI,
	OPT_RESUME,
	OPT_SETTLE,
	OPT_SOURCE,
	OPT_SERVER_PID,
	OPT_HELP
};

static const struct option long_options[] = {
	{"port", required_argument, NULL, OPT_PORT},
	{"connections", required_argument, NULL, OPT_CONNECTIONS},
	{"size", required_argument, NULL, OPT_SIZE},
	{"in-flight", required_argument, NULL, OPT_IN_FLIGHT},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"warmup", required_argument, NULL, OPT_WARMUP},
	{"rate", required_argument, NULL, OPT_RATE},
	{"mode", required_argument, NULL, OPT_MODE},
	{"fan", required_argument, NULL, OPT_FAN},
	{"framing", required_argument, NULL, OPT_FRAMING},
	{"tls", no_argument, NULL, OPT_TLS},
	{"pki", required_argument, NULL, OPT_PKI},
	{"resume", no_argument, NULL, OPT_RESUME},
	{"settle", required_argument, NULL, OPT_SETTLE},
	{"source", required_argument, NULL, OPT_SOURCE},
	{"server-pid", required_argument, NULL, OPT_SERVER_PID},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

/* In the order of their enums. */
static const char *const mode_names[] = {"echo", "connect", "handshake", "idle", "relay"};
static const char *const framing_names[] = {"raw", "message", "nng", "zmq", "nats"};

const char *load_mode_name(enum load_mode mode)
{
	return mode_names[mode];
}

const char *load_framing_name(enum load_framing framing)
{
	return framing_names[framing];
}

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "peerhub-load: %s%s%s (--help shows the options)\n", what,
		value != NULL ? ": " : "", value != NULL ? value : "");
	return LOAD_EXIT_USAGE;
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

static bool name_parse(const char *text, const char *const *names, size_t count, uint32_t *index)
{
	for (*index = 0; *index < count; (*index)++)
		if (strcmp(text, names[*index]) == 0)
			return true;
	return false;
}

/* "127.0.0.1" or "127.0.0.1-127.0.0.40". */
static bool source_parse(const char *text, struct load_options *options)
{
	const char *dash = strchr(text, '-');
	char first[INET_ADDRSTRLEN];
	struct in_addr from, to;
	int bytes = dash != NULL ? (int)(dash - text) : (int)strlen(text);

	if (bytes >= (int)sizeof(first))
		return false;
	snprintf(first, sizeof(first), "%.*s", bytes, text);
	if (inet_pton(AF_INET, first, &from) != 1)
		return false;
	to = from;
	if (dash != NULL && inet_pton(AF_INET, dash + 1, &to) != 1)
		return false;
	if (ntohl(to.s_addr) < ntohl(from.s_addr) || ntohl(to.s_addr) - ntohl(from.s_addr) > 65535)
		return false;
	options->source_first = ntohl(from.s_addr);
	options->source_count = ntohl(to.s_addr) - ntohl(from.s_addr) + 1;
	return true;
}

/* One option; NULL, or what it takes. */
static const char *option_take(struct load_options *options, int opt, const char *value)
{
	uint32_t number = 0;

	switch (opt) {
	case OPT_PORT:
		if (!number_parse(value, 1, 65535, &number))
			return "--port takes 1 to 65535";
		options->port = (uint16_t)number;
		return NULL;
	case OPT_CONNECTIONS:
		return number_parse(value, 1, LOAD_CONNECTIONS_MAX, &options->connections)
			? NULL
			: "--connections takes 1 to 1000000";
	case OPT_SIZE:
		return number_parse(value, 1, LOAD_SIZE_MAX, &options->size)
			? NULL
			: "--size takes 1 to 60000";
	case OPT_IN_FLIGHT:
		return number_parse(value, 1, LOAD_IN_FLIGHT_MAX, &options->in_flight)
			? NULL
			: "--in-flight takes 1 to 65536";
	case OPT_FAN:
		return number_parse(value, 1, LOAD_CONNECTIONS_MAX, &options->fan)
			? NULL
			: "--fan takes 1 to 1000000";
	case OPT_SECONDS:
		return real_parse(value, 0.01, 86400, &options->seconds)
			? NULL
			: "--seconds takes 0.01 to 86400";
	case OPT_WARMUP:
		return real_parse(value, 0, 3600, &options->warmup_seconds)
			? NULL
			: "--warmup takes 0 to 3600";
	case OPT_RATE:
		return real_parse(value, 0.1, 1e8, &options->rate) ? NULL
								   : "--rate takes 0.1 to 1e8";
	case OPT_MODE:
		if (!name_parse(value, mode_names, 5, &number))
			return "--mode takes echo, connect, handshake, idle or relay";
		options->mode = (enum load_mode)number;
		return NULL;
	case OPT_FRAMING:
		if (!name_parse(value, framing_names, 5, &number))
			return "--framing takes raw, message, nng, zmq or nats";
		options->framing = (enum load_framing)number;
		return NULL;
	case OPT_TLS:
		options->tls = true;
		return NULL;
	case OPT_PKI:
		options->pki = value;
		return NULL;
	case OPT_RESUME:
		options->resume = true;
		return NULL;
	case OPT_SETTLE:
		if (!number_parse(value, 0, 1023, &number))
			return "--settle takes the number of a core";
		options->settle_core = (int)number;
		return NULL;
	case OPT_SOURCE:
		return source_parse(value, options) ? NULL : "--source takes A or A-B";
	case OPT_SERVER_PID:
		if (!number_parse(value, 1, 1u << 30, &number))
			return "--server-pid takes a process id";
		options->server_pid = (pid_t)number;
		return NULL;
	default:
		return "unknown option";
	}
}

static int options_check(struct load_options *options)
{
	bool relays = options->framing == FRAMING_MESSAGE || options->framing == FRAMING_NATS;

	if (options->port == 0)
		return usage_error("--port is missing", NULL);
	if (options->mode == MODE_HANDSHAKE) {
		options->size = 1;
		if (!options->tls)
			return usage_error("--mode handshake needs --tls", NULL);
	}
	if (options->resume && options->mode != MODE_HANDSHAKE)
		return usage_error("--resume is for --mode handshake", NULL);
	if (options->tls && options->framing == FRAMING_ZMQ &&
		(options->mode != MODE_ECHO || options->rate > 0 || options->connections > 10000))
		return usage_error("CURVE is for --mode echo in a closed loop", NULL);
	if (options->tls && options->framing == FRAMING_NNG)
		return usage_error("nng has no --tls here", NULL);
	if (options->tls && options->framing != FRAMING_ZMQ && options->pki == NULL)
		return usage_error("--tls needs --pki", NULL);
	if (options->mode == MODE_RELAY && !relays)
		return usage_error("--mode relay needs --framing message or nats", NULL);
	if (options->mode == MODE_RELAY && options->connections % (options->fan + 1) != 0)
		return usage_error("--mode relay needs a multiple of F + 1 connections", NULL);
	if (options->mode == MODE_RELAY && options->rate > 0)
		return usage_error("--mode relay has no --rate", NULL);
	return -1;
}

int load_options_parse(struct load_options *options, int argc, char **argv)
{
	int opt;

	*options = (struct load_options){.connections = 1,
		.size = 64,
		.in_flight = 1,
		.fan = 1,
		.settle_core = -1,
		.seconds = 3,
		.warmup_seconds = 1};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		const char *wrong;

		if (opt == OPT_HELP) {
			fputs(usage_text, stdout);
			return fflush(stdout) == 0 ? LOAD_EXIT_OK : LOAD_EXIT_FAILURE;
		}
		if (opt == '?')
			return LOAD_EXIT_USAGE;
		wrong = option_take(options, opt, optarg);
		if (wrong != NULL)
			return usage_error(wrong, optarg);
	}
	if (optind < argc)
		return usage_error("takes no arguments", argv[optind]);
	return options_check(options);
}
