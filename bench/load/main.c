/*
 * peerhub-load: loads a server, checks every byte that comes back, and writes one JSON object.
 * The measuring is in flow.c; here are the process's own matters and the report.
 */
#include "bench/load/load.h"
#include "bench/load/pattern.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		fprintf(stderr, "peerhub-load: limit of open files: %s\n", strerror(errno));
}

static uint64_t per_operation(uint64_t total)
{
	return load.operations > 0 ? total / load.operations : 0;
}

static void latency_print(void)
{
	const char *comma = "";

	printf("\"latency_ns\":{\"p50\":%" PRIu64 ",\"p90\":%" PRIu64 ",\"p99\":%" PRIu64
	       ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 ",\"histogram\":[",
		histogram_quantile(&load.latency, 500), histogram_quantile(&load.latency, 900),
		histogram_quantile(&load.latency, 990), histogram_quantile(&load.latency, 999),
		histogram_max(&load.latency));
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t count = load.latency.buckets[i];

		if (count == 0)
			continue;
		printf("%s[%" PRIu64 ",%" PRIu64 "]", comma, histogram_bucket_top(i), count);
		comma = ",";
	}
	printf("]}");
}

static void cpu_print(const struct load_result *result)
{
	uint64_t total = result->server_end.total_ns - result->server_begin.total_ns;
	uint64_t user = result->server_end.user_ticks - result->server_begin.user_ticks;
	uint64_t system = result->server_end.system_ticks - result->server_begin.system_ticks;
	double user_share = user + system > 0 ? (double)user / (double)(user + system) : 0;

	printf("\"server_cpu_ns_per_operation\":%" PRIu64 ",\"server_user_ns\":%.0f,"
	       "\"server_system_ns\":%.0f,\"server_cpu_source\":\"process CPU clock\","
	       "\"client_cpu_ns_per_operation\":%" PRIu64 ",",
		per_operation(total), (double)total * user_share, (double)total * (1 - user_share),
		per_operation(result->client_cpu_ns));
}

static int64_t per_connection(uint64_t end, uint64_t begin, uint32_t count)
{
	return count > 0 ? ((int64_t)end - (int64_t)begin) / (int64_t)count : 0;
}

static void memory_print(const struct load_result *result)
{
	uint32_t all = load.options.connections, rest = all - result->memory_part_count;

	printf("\"server_rss_bytes_per_connection\":%" PRId64
	       ",\"server_pss_bytes_per_connection\":%" PRId64
	       ",\"server_rss_bytes_per_connection_from_none\":%" PRId64
	       ",\"server_rss_before\":%" PRIu64 ",\"server_rss_after\":%" PRIu64
	       ",\"server_pss_before\":%" PRIu64 ",\"server_pss_after\":%" PRIu64 ",",
		per_connection(result->memory_end.rss_bytes, result->memory_part.rss_bytes, rest),
		per_connection(result->memory_end.pss_bytes, result->memory_part.pss_bytes, rest),
		per_connection(result->memory_end.rss_bytes, result->memory_begin.rss_bytes, all),
		result->memory_begin.rss_bytes, result->memory_end.rss_bytes,
		result->memory_begin.pss_bytes, result->memory_end.pss_bytes);
}

static void result_print(const struct load_result *result)
{
	const struct load_options *options = &load.options;

	printf("{\"mode\":\"%s\",\"framing\":\"%s\",\"tls\":%s,\"connections\":%u,\"size\":%u,"
	       "\"in_flight\":%u,\"fan\":%u,\"rate\":%.3f,\"seconds\":%.6f,"
	       "\"opening_seconds\":%.6f,\"operations\":%" PRIu64 ","
	       "\"operations_per_second\":%.1f,\"resumed\":%" PRIu64 ",",
		load_mode_name(options->mode), load_framing_name(options->framing),
		options->tls ? "true" : "false", options->connections, options->size,
		options->in_flight, options->fan, options->rate, result->seconds,
		result->opening_seconds, load.operations,
		result->seconds > 0 ? (double)load.operations / result->seconds : 0, load.resumed);
	cpu_print(result);
	if (options->mode == MODE_IDLE)
		memory_print(result);
	latency_print();
	printf(",\"errors\":%" PRIu64 ",\"bytes_checked\":%" PRIu64 "}\n", load.errors,
		load.bytes_checked);
}

int main(int argc, char **argv)
{
	struct load_result result = {.seconds = 0};
	int status = load_options_parse(&load.options, argc, argv);

	if (status >= 0)
		return status;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return LOAD_EXIT_FAILURE;
	/* The open loop's waits end when they should, not up to 50 us later. */
	if (prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul) < 0)
		fprintf(stderr, "peerhub-load: timer slack: %s\n", strerror(errno));
	descriptors_raise();
	pattern_init();
	if (load.options.framing == FRAMING_ZMQ && load.options.tls)
		status = curve_run(&result);
	else
		status = flow_run(&result);
	if (status < 0)
		load.errors += load.errors == 0;
	result_print(&result);
	if (fflush(stdout) != 0)
		return LOAD_EXIT_FAILURE;
	return load.errors == 0 ? LOAD_EXIT_OK : LOAD_EXIT_FAILURE;
}
