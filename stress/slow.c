/*
 * `peerhub-stress slow`: peers that read slowly or not at all, among honest ones. Everybody is sent as
 * much as they take. First only to the honest ones, then to all: what do the honest ones still get,
 * how much memory do the others hold, and who is closed?
 *
 * The engine leaves to its user what to do about a peer that does not read; here the user is this
 * program, and it aborts a connection whose send queue has been full for --close-slow-ms, with the
 * reason limit_slow_consumer.
 */
#include "command.h"
#include "flood.h"
#include "load.h"
#include "stop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS 10u
#define WARM_MS 200u /* of each part: not measured */
#define HEAD_BYTES 28u /* of a message on the wire */

static const char usage_text[] =
	"usage: peerhub-stress slow [options]\n"
	"\n"
	"Peers that read slowly or not at all, among honest ones. Shows what the honest ones get with\n"
	"and without them, that memory stays bounded, and who was closed and why.\n"
	"\n"
	"  --connections N      in all (default 100)\n"
	"  --slow-percent P     of them read slowly or not at all (default 10; 0 to 100)\n"
	"  --read-rate B        every second slow one reads B bytes a second, the others nothing\n"
	"                       (default 1000; 0: none reads)\n"
	"  --seconds T          of each part, without and with them (default 3)\n"
	"  --rate M             messages a second in all (default 0: all they take)\n"
	"  --close-slow-ms N    close who does not take anything for so long (default 1000;\n"
	"                       0: nobody)\n"
	"  --min-percent P      a finding when the honest ones get less than P % of what they got\n"
	"                       alone (default 0: do not judge)\n"
	"\n";

static const char usage_examples[] =
	"\n"
	"Examples:\n"
	"  peerhub-stress slow --connections 1000 --seconds 5\n"
	"      100 slow ones among 1,000\n"
	"  peerhub-stress slow --slow-percent 50 --close-slow-ms 0 --queue-bytes 1048576\n"
	"      nobody is closed: what do 50 full queues of 1 MiB cost?\n"
	"\n"
	"Exit codes: 0 nothing found, 1 a violation, a queue above its bound or too little for the\n"
	"honest, 2 wrong command line, 3 a hang, 4 could not run.\n";

struct slow_part {
	uint64_t bytes, ns, messages; /* what the honest ones were given, in how long */
};

struct slow {
	struct load_options load_options;
	uint64_t slow_percent, read_rate, seconds, rate, close_slow_ms, min_percent;
	char command[512];
	struct load *load;
	uint32_t count, honest; /* seats; the first ones are honest */
	enum load_end sender; /* whose queue fills */
	struct slow_part alone, together;
	uint64_t closed_honest, closed_slow, closed_mute;
	uint64_t queue_max, queue_sum_max, rss_before, rss_max;
};

static int slow_options(struct slow *slow, int argc, char **argv)
{
	static char usage[8192];
	struct options options = {.command = "slow", .usage = usage};
	int status;

	snprintf(usage, sizeof(usage), "%s%s%s%s", usage_text, load_usage_text, fault_usage_text,
		usage_examples);
	load_options_init(&slow->load_options, "slow", 100);
	slow->load_options.message_bytes = 1024;
	slow->load_options.may_block = true;
	slow->slow_percent = 10;
	slow->read_rate = 1000;
	slow->seconds = 3;
	slow->close_slow_ms = 1000;
	load_options_add(&options, &slow->load_options);
	options_number(&options, "slow-percent", &slow->slow_percent, 0, 100);
	options_number(&options, "read-rate", &slow->read_rate, 0, 1000000000);
	options_number(&options, "seconds", &slow->seconds, 1, 1000000);
	options_number(&options, "rate", &slow->rate, 0, 100000000);
	options_number(&options, "close-slow-ms", &slow->close_slow_ms, 0, 1000000);
	options_number(&options, "min-percent", &slow->min_percent, 0, 100);
	status = options_parse(&options, argc, argv);
	if (status == OPTIONS_RUN && load_options_check(&options, &slow->load_options) != 0)
		status = EXIT_USAGE;
	slow->count = (uint32_t)slow->load_options.connections;
	slow->honest =
		slow->count - (uint32_t)(slow->load_options.connections * slow->slow_percent / 100);
	slow->sender = slow->load_options.is_remote ? LOAD_DIALLER : LOAD_ACCEPTOR;
	load_command_text(&slow->load_options, argc, argv, slow->command, sizeof(slow->command));
	return status;
}

/* ---- one moment ------------------------------------------------------------------------- */

static bool is_mute(const struct slow *slow, uint32_t seat)
{
	return slow->read_rate == 0 || (seat - slow->honest) % 2 == 0;
}

/* Who reads slowly may read up to its rate; on_data stops it there. */
static void readers_step(struct slow *slow, uint64_t begin_ns)
{
	uint64_t limit = (now_ns() - begin_ns) * slow->read_rate / 1000000000u;

	for (uint32_t i = slow->honest; i < slow->count; i++) {
		struct seat *seat = &slow->load->seats[i];

		if (is_mute(slow, i))
			continue;
		atomic_store(&seat->read_limit, limit);
		if (atomic_load(&seat->received_bytes[LOAD_DIALLER]) < limit)
			(void)load_pause(slow->load, i, LOAD_DIALLER, false);
	}
}

/* Who has not taken anything for too long is closed. */
static void policy_step(struct slow *slow)
{
	uint64_t now = now_ns();

	for (uint32_t i = 0; i < slow->count && slow->close_slow_ms != 0; i++) {
		struct seat *seat = &slow->load->seats[i];
		uint64_t since = atomic_load(&seat->blocked_ns[slow->sender]);

		if (since == 0 || now < since + slow->close_slow_ms * 1000000u)
			continue;
		atomic_store(&seat->blocked_ns[slow->sender], 0);
		if (load_close_reason(slow->load, i, slow->sender, PH_ABORT, PH_REASON_LIMIT_SLOW,
			    "its queue stayed full") != 0)
			continue;
		if (i < slow->honest)
			slow->closed_honest++;
		else if (is_mute(slow, i))
			slow->closed_mute++;
		else
			slow->closed_slow++;
	}
}

struct queues {
	uint64_t sum, max;
};

static int queue_visit(void *context, const struct ph_connection *connection)
{
	struct queues *queues = context;

	queues->sum += connection->queue_bytes;
	if (connection->queue_bytes > queues->max)
		queues->max = connection->queue_bytes;
	return 0;
}

static void memory_step(struct slow *slow)
{
	struct queues queues = {.sum = 0};
	uint64_t rss = process_rss();

	(void)ph_connections(slow->load->hubs[slow->sender].hub, NULL, queue_visit, &queues);
	if (queues.max > slow->queue_max)
		slow->queue_max = queues.max;
	if (queues.sum > slow->queue_sum_max)
		slow->queue_sum_max = queues.sum;
	if (rss > slow->rss_max)
		slow->rss_max = rss;
}

/* ---- the two parts ---------------------------------------------------------------------- */

static struct slow_part honest_sum(struct slow *slow)
{
	struct slow_part sum = {.ns = now_ns()};

	for (uint32_t i = 0; i < slow->honest; i++) {
		sum.bytes += atomic_load(&slow->load->seats[i].received_bytes[LOAD_DIALLER]);
		sum.messages += atomic_load(&slow->load->seats[i].received[LOAD_DIALLER]);
	}
	return sum;
}

static void part_run(struct slow *slow, uint32_t count, struct slow_part *part, const char *what)
{
	const struct flood_options options = {
		.count = count, .to = {true, false}, .rate = slow->rate};
	struct slow_part before = {.ns = 0}, after;
	struct flood *flood = NULL;
	uint64_t begin_ns = now_ns(), end_ns = begin_ns + WARM_MS * 1000000ull;
	int status = flood_start(slow->load, &options, &flood);

	if (status < 0)
		load_violation(slow->load, "cannot start the flood: %s", strerror(-status));
	end_ns += slow->seconds * 1000000000u;
	load_phase(slow->load, what, slow->seconds * 1000 + WARM_MS);
	while (now_ns() < end_ns && !stop_requested()) {
		load_wait(slow->load, TICK_MS, what);
		if (count > slow->honest) {
			readers_step(slow, begin_ns);
			policy_step(slow);
		}
		memory_step(slow);
		if (before.ns == 0 && now_ns() >= begin_ns + WARM_MS * 1000000ull)
			before = honest_sum(slow);
	}
	after = honest_sum(slow);
	flood_stop(flood);
	if (before.ns != 0)
		*part = (struct slow_part){.bytes = after.bytes - before.bytes,
			.messages = after.messages - before.messages,
			.ns = after.ns - before.ns};
}

static double part_rate(const struct slow_part *part)
{
	return part->ns == 0 ? 0 : (double)part->bytes * 1e3 / (double)part->ns; /* MB/s */
}

static double honest_percent(const struct slow *slow)
{
	double alone = part_rate(&slow->alone);

	return alone <= 0 ? 0 : 100 * part_rate(&slow->together) / alone;
}

static void slow_judge(struct slow *slow)
{
	uint64_t message = slow->load_options.message_bytes + HEAD_BYTES;
	uint64_t bound =
		slow->load_options.queue_bytes > message ? slow->load_options.queue_bytes : message;

	if (slow->queue_max > bound)
		load_violation(slow->load, "a send queue held %llu bytes, its bound is %llu",
			(unsigned long long)slow->queue_max, (unsigned long long)bound);
	if (slow->min_percent != 0 && slow->together.ns != 0 &&
		honest_percent(slow) < (double)slow->min_percent)
		load_violation(slow->load, "the honest ones got %.1f %% (--min-percent %llu)",
			honest_percent(slow), (unsigned long long)slow->min_percent);
}

static void slow_run(struct slow *slow)
{
	(void)load_open_all(slow->load, 0, slow->count);
	slow->rss_before = process_rss();
	if (!stop_requested())
		part_run(slow, slow->honest, &slow->alone, "without slow ones");
	for (uint32_t i = slow->honest; i < slow->count; i++) {
		atomic_store(&slow->load->seats[i].read_limit, 0);
		(void)load_pause(slow->load, i, LOAD_DIALLER, true);
	}
	if (!stop_requested() && slow->honest < slow->count)
		part_run(slow, slow->count, &slow->together, "with slow ones");
	slow_judge(slow);
	/* Who does not read does not hear of an end either. */
	for (uint32_t i = slow->honest; i < slow->count; i++) {
		atomic_store(&slow->load->seats[i].read_limit, UINT64_MAX);
		(void)load_pause(slow->load, i, LOAD_DIALLER, false);
	}
}

static void slow_figures(struct slow *slow, struct figures *figures)
{
	load_figures_begin(slow->load, figures, slow->command, true);
	figures_section(figures, "honest", "honest peers");
	figures_count(figures, "count", "honest peers", slow->honest);
	figures_real(figures, "alone_mb_per_s", "got alone", part_rate(&slow->alone), "MB/s");
	figures_real(figures, "together_mb_per_s", "got beside the slow ones",
		part_rate(&slow->together), "MB/s");
	figures_real(figures, "percent", "… of what they got alone", honest_percent(slow), "%");
	figures_section(figures, "slow", "slow peers");
	figures_count(figures, "count", "slow peers", slow->count - slow->honest);
	figures_count(figures, "closed_mute", "closed: read nothing", slow->closed_mute);
	figures_count(figures, "closed_slow", "closed: read too slowly", slow->closed_slow);
	figures_count(
		figures, "closed_honest", "closed: honest ones, by mistake", slow->closed_honest);
	figures_section(figures, "memory", "memory");
	figures_count(figures, "queue_bound", "bound of a send queue, bytes",
		slow->load_options.queue_bytes);
	figures_count(figures, "queue_max", "fullest send queue, bytes", slow->queue_max);
	figures_count(
		figures, "queue_sum_max", "all send queues, bytes, at most", slow->queue_sum_max);
	figures_count(
		figures, "rss_before_kib", "memory (RSS) before, KiB", slow->rss_before / 1024);
	figures_count(figures, "rss_max_kib", "memory (RSS) at most, KiB", slow->rss_max / 1024);
	load_figures_latency(slow->load, figures);
	load_figures_end(slow->load, figures);
}

int slow_command(int argc, char **argv)
{
	struct slow slow = {.load = NULL};
	int result = slow_options(&slow, argc, argv);
	struct figures *figures = NULL;

	if (result != OPTIONS_RUN)
		return result;
	if (figures_create(&figures) < 0) {
		fprintf(stderr, "peerhub-stress: cannot start: %s\n", strerror(ENOMEM));
		return EXIT_FAILED;
	}
	result = load_create(&slow.load_options, &slow.load);
	if (result == 0) {
		slow_run(&slow);
		load_end(slow.load);
		slow_figures(&slow, figures);
		result = load_report(slow.load, figures, true);
	}
	load_destroy(slow.load);
	figures_destroy(figures);
	return result;
}
