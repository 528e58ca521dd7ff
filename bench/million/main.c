/*
 * peerhub-million: how many connections fit on this machine, and what each costs. `ci/million` builds
 * and runs it. docs/scale.md explains the numbers.
 */
#include "bench/million/run.h"

#include "bench/million/preflight.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jemalloc: pages that are free go back to the kernel while the shards sleep, too. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0";

static const char usage_text[] =
	"usage: peerhub-million [OPTIONS] [N]     N connections (100,000), both ends on this machine\n"
	"       peerhub-million --preflight [N]   only what the machine has and needs\n"
	"       peerhub-million memory [--to N]   bytes of idle connections, plain and with TLS\n"
	"\n"
	"  --peers N          processes that dial (one for each 1,000,000)\n"
	"  --hub-shards N     shards of the hub (one for each 15,625 connections, at least 2)\n"
	"  --peer-shards N    shards of each process of peers (the same)\n"
	"  --threads N        threads that close (4)\n"
	"  --window N         openings under way at once (512)\n"
	"  --close-window N   closes under way at once (24,000)\n"
	"  --message-bytes N  of the message that each connection answers (64)\n"
	"  --close-by WHO     hub (default) or peers\n"
	"  --buffers N        receive buffers of a shard, 4 KiB each (1 MiB of them beyond 8 shards)\n"
	"  --plain            no TLS\n"
	"  --slow-decode      without the short cut for public keys\n"
	"  --json FILE        the result, too\n"
	"  --force            run in spite of the preflight\n";

enum option_value {
	OPTION_PEERS = 256,
	OPTION_HUB_SHARDS,
	OPTION_PEER_SHARDS,
	OPTION_THREADS,
	OPTION_WINDOW,
	OPTION_CLOSE_WINDOW,
	OPTION_MESSAGE_BYTES,
	OPTION_CLOSE_BY,
	OPTION_BUFFERS,
	OPTION_PLAIN,
	OPTION_SLOW_DECODE,
	OPTION_JSON,
	OPTION_FORCE,
	OPTION_PREFLIGHT,
	OPTION_HELP,
};

static const struct option options_long[] = {
	{"peers", required_argument, NULL, OPTION_PEERS},
	{"hub-shards", required_argument, NULL, OPTION_HUB_SHARDS},
	{"peer-shards", required_argument, NULL, OPTION_PEER_SHARDS},
	{"threads", required_argument, NULL, OPTION_THREADS},
	{"window", required_argument, NULL, OPTION_WINDOW},
	{"close-window", required_argument, NULL, OPTION_CLOSE_WINDOW},
	{"message-bytes", required_argument, NULL, OPTION_MESSAGE_BYTES},
	{"close-by", required_argument, NULL, OPTION_CLOSE_BY},
	{"buffers", required_argument, NULL, OPTION_BUFFERS},
	{"plain", no_argument, NULL, OPTION_PLAIN},
	{"slow-decode", no_argument, NULL, OPTION_SLOW_DECODE},
	{"json", required_argument, NULL, OPTION_JSON},
	{"force", no_argument, NULL, OPTION_FORCE},
	{"preflight", no_argument, NULL, OPTION_PREFLIGHT},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0},
};

static bool number_parse(const char *text, uint64_t most, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *number <= most;
}

static bool number32_parse(const char *text, uint32_t *number)
{
	uint64_t value;

	if (!number_parse(text, UINT32_MAX, &value) || value == 0)
		return false;
	*number = (uint32_t)value;
	return true;
}

static bool close_by_parse(const char *text, struct plan *plan)
{
	plan->hub_closes = strcmp(text, "hub") == 0;
	return plan->hub_closes || strcmp(text, "peers") == 0;
}

static bool option_take(int value, struct plan *plan, bool *preflight_only)
{
	switch (value) {
	case OPTION_PEERS:
		return number32_parse(optarg, &plan->peers);
	case OPTION_HUB_SHARDS:
		return number32_parse(optarg, &plan->hub_shards);
	case OPTION_PEER_SHARDS:
		return number32_parse(optarg, &plan->peer_shards);
	case OPTION_THREADS:
		return number32_parse(optarg, &plan->threads);
	case OPTION_WINDOW:
		return number32_parse(optarg, &plan->window);
	case OPTION_CLOSE_WINDOW:
		return number32_parse(optarg, &plan->close_window);
	case OPTION_MESSAGE_BYTES:
		return number32_parse(optarg, &plan->message_bytes);
	case OPTION_CLOSE_BY:
		return close_by_parse(optarg, plan);
	case OPTION_BUFFERS:
		return number32_parse(optarg, &plan->receive_buffer_count);
	case OPTION_PLAIN:
		plan->tls = PH_TLS_NONE;
		return true;
	case OPTION_SLOW_DECODE:
		plan->fast_decode = false;
		return true;
	case OPTION_JSON:
		plan->json = optarg;
		return true;
	case OPTION_FORCE:
		plan->force = true;
		return true;
	case OPTION_PREFLIGHT:
		*preflight_only = true;
		return true;
	default:
		return false;
	}
}

static int usage_fault(void)
{
	fputs(usage_text, stderr);
	return 2;
}

static int preflight_alone(struct plan *plan)
{
	char why[PLAN_WHY_BYTES];

	if (plan_complete(plan, why) < 0) {
		fprintf(stderr, "peerhub-million: %s\n", why);
		return 2;
	}
	return preflight(plan, stdout) ? 0 : 2;
}

int main(int argument_count, char **arguments)
{
	struct plan plan = {.connections = 100000,
		.threads = 4,
		.window = 512,
		.close_window = 24000,
		.message_bytes = 64,
		.settle_seconds = 1,
		.tls = PH_TLS_MUTUAL,
		.hub_closes = true,
		.fast_decode = true,
		.command = "peerhub-million"};
	bool preflight_only = false;
	int value;

	if (argument_count > 1 && strcmp(arguments[1], "memory") == 0)
		return run_memory(argument_count - 2, arguments + 2);
	while ((value = getopt_long(argument_count, arguments, "", options_long, NULL)) != -1) {
		if (value == OPTION_HELP) {
			fputs(usage_text, stdout);
			return 0;
		}
		if (!option_take(value, &plan, &preflight_only))
			return usage_fault();
	}
	if (optind < argument_count - 1 ||
		(optind == argument_count - 1 &&
			!number_parse(arguments[optind], UINT32_MAX, &plan.connections)))
		return usage_fault();
	return preflight_only ? preflight_alone(&plan) : run_million(&plan);
}
