/* Progress, table and JSON of a run; see report.h. */
#include "report.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool has_terminal(void)
{
	return isatty(STDERR_FILENO) == 1;
}

char *report_duration(uint64_t ns, char *text)
{
	if (ns < 10000)
		snprintf(text, 16, "%llu ns", (unsigned long long)ns);
	else if (ns < 10000000)
		snprintf(text, 16, "%.1f us", (double)ns / 1e3);
	else if (ns < 10000000000u)
		snprintf(text, 16, "%.1f ms", (double)ns / 1e6);
	else
		snprintf(text, 16, "%.1f s", (double)ns / 1e9);
	return text;
}

void report_progress(const struct report *report, uint64_t elapsed_ns)
{
	struct audit_counts counts;

	if (!has_terminal())
		return;
	audit_counts(report->audit, &counts);
	fprintf(stderr,
		"\r\033[K%6.1f s  live %llu  opened %llu  ended %llu  messages %llu  violations %llu",
		(double)elapsed_ns / 1e9, (unsigned long long)audit_live(report->audit),
		(unsigned long long)counts.opened, (unsigned long long)counts.finals,
		(unsigned long long)counts.messages_received,
		(unsigned long long)counts.violations);
	fflush(stderr);
}

void report_progress_end(void)
{
	if (has_terminal())
		fputs("\r\033[K", stderr);
}

static void latency_row(const struct report *report, FILE *out, enum audit_path path)
{
	const struct histogram *histogram = audit_latency(report->audit, path);
	char p50[16], p99[16], max[16];

	fprintf(out, "  %-10s %10llu %12s %12s %12s\n", audit_path_name(path),
		(unsigned long long)histogram_count(histogram),
		report_duration(histogram_quantile(histogram, 500), p50),
		report_duration(histogram_quantile(histogram, 990), p99),
		report_duration(histogram_max(histogram), max));
}

void report_table(const struct report *report, FILE *out)
{
	uint64_t expected;
	struct audit_counts counts;

	audit_counts(report->audit, &counts);
	expected = counts.dialled + counts.accepted + counts.anonymous;
	fprintf(out, "seed %llu, %.1f s; again: %s\n", (unsigned long long)report->seed,
		report->seconds, report->command);
	fprintf(out, "  %-34s %12llu\n", "connection ends dialled",
		(unsigned long long)counts.dialled);
	fprintf(out, "  %-34s %12llu\n", "connection ends accepted",
		(unsigned long long)(counts.accepted + counts.anonymous));
	fprintf(out, "  %-34s %12llu (%.0f/s)\n", "opened", (unsigned long long)counts.opened,
		(double)counts.opened / report->seconds);
	fprintf(out, "  %-34s %12llu\n", "ended before they were open",
		(unsigned long long)(counts.failed + counts.anonymous));
	fprintf(out, "  %-34s %12llu of %llu\n", "final events seen of expected",
		(unsigned long long)counts.finals, (unsigned long long)expected);
	fprintf(out, "  %-34s %12llu\n", "alive at once, at most",
		(unsigned long long)report->peak_live);
	fprintf(out, "  %-34s %12llu (%.0f/s)\n", "messages sent",
		(unsigned long long)counts.messages_sent,
		(double)counts.messages_sent / report->seconds);
	fprintf(out, "  %-34s %12llu, %llu of them out of raw streams\n",
		"messages received, checked", (unsigned long long)counts.messages_received,
		(unsigned long long)counts.messages_raw);
	fprintf(out, "  %-34s %12llu, %llu told writable\n", "sends that would block",
		(unsigned long long)counts.sends_would_block, (unsigned long long)counts.writables);
	fprintf(out, "  %-34s %12llu won, %llu lost, %llu upgraded\n", "ph_close calls",
		(unsigned long long)counts.closes_won, (unsigned long long)counts.closes_lost,
		(unsigned long long)counts.upgrades);
	fprintf(out, "  %-34s %12llu\n", "calls on ended ids",
		(unsigned long long)counts.stale_calls);
	fprintf(out, "  %-34s %12llu\n", "graceful ends proved complete",
		(unsigned long long)counts.graceful_proved);
	fprintf(out, "  close latency        count          p50          p99          max\n");
	for (int path = 0; path < AUDIT_PATH_COUNT; path++)
		latency_row(report, out, (enum audit_path)path);
	fprintf(out, "  %-34s %12llu\n", "violations", (unsigned long long)counts.violations);
	fprintf(out, "%s\n", counts.violations == 0 ? "OK" : "FAILED");
}

/* ---- JSON ------------------------------------------------------------------------------ */

/* The command line goes in as a string: escape what JSON wants escaped. */
static void json_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(out, "\\u%04x", (unsigned char)*text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void json_latency(const struct report *report, FILE *out)
{
	for (int path = 0; path < AUDIT_PATH_COUNT; path++) {
		const struct histogram *histogram =
			audit_latency(report->audit, (enum audit_path)path);

		fprintf(out,
			"%s\n    \"%s\": {\"count\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, "
			"\"max_ns\": %llu}",
			path == 0 ? "" : ",", audit_path_name((enum audit_path)path),
			(unsigned long long)histogram_count(histogram),
			(unsigned long long)histogram_quantile(histogram, 500),
			(unsigned long long)histogram_quantile(histogram, 990),
			(unsigned long long)histogram_max(histogram));
	}
}

static void json_write(const struct report *report, FILE *out)
{
	struct audit_counts counts;

	audit_counts(report->audit, &counts);
	fprintf(out,
		"{\n  \"seed\": %llu,\n  \"seconds\": %.3f,\n  \"peak_live\": %llu,\n  \"command\": ",
		(unsigned long long)report->seed, report->seconds,
		(unsigned long long)report->peak_live);
	json_text(out, report->command);
	fprintf(out, ",\n  \"close_latency\": {");
	json_latency(report, out);
	fprintf(out, "\n  },\n  \"audit\": {");
#define JSON_COUNT(name) \
	fprintf(out, "\n    \"" #name "\": %llu,", (unsigned long long)counts.name);
	AUDIT_COUNTERS(JSON_COUNT)
#undef JSON_COUNT
	fprintf(out, "\n    \"live\": %llu\n  },\n  \"hub\": {",
		(unsigned long long)audit_live(report->audit));
#define JSON_STAT(name) \
	fprintf(out, "\n    \"" #name "\": %llu,", (unsigned long long)report->stats.name);
	PH_COUNTERS(JSON_STAT)
#undef JSON_STAT
	fprintf(out, "\n    \"live\": %llu\n  }\n}\n", (unsigned long long)report->stats.live);
}

int report_json(const struct report *report, const char *path)
{
	FILE *out = fopen(path, "we");
	int status = 0;

	if (out == NULL)
		return -errno;
	json_write(report, out);
	if (ferror(out) != 0)
		status = -EIO;
	if (fclose(out) != 0 && status == 0)
		status = -errno;
	return status;
}
