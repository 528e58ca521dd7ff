/*
 * `peerhub-stress storm`: opens many connections, then closes many of them, all at once or a few at a
 * time, by either side or both, with data arriving everywhere if asked for; and again, for as many
 * rounds as asked for. It measures how long every part of a close takes, and what it costs.
 */
#include "command.h"
#include "flood.h"
#include "load.h"
#include "stop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOSERS_MAX 16u
#define CALM_MS 100u /* between opening and closing: nothing of the handshakes is left */

static const char usage_text[] =
	"usage: peerhub-stress storm [options]\n"
	"\n"
	"Mass open, mass close. Opens N connections, closes them, and says how long each part of a\n"
	"close took: the call, the last goodbye byte, what the far end saw, the final events. Every\n"
	"id is audited: exactly one final event, nothing lost before a graceful close.\n"
	"\n"
	"  --connections N      open so many (default 1000, at most 100000)\n"
	"  --close K            close so many of them in a round (default all)\n"
	"  --rounds N           open what is missing and close again (default 1)\n"
	"  --by WHO             dialler, acceptor or both: who closes (default dialler)\n"
	"  --how HOW            graceful, abort or mixed (default graceful)\n"
	"  --window W           at most W closes under way at once (default 0: no limit)\n"
	"  --rate R             at most R closes a second (default 0: no limit)\n"
	"  --closers N          threads that close, of each side that does (default 1, at most 16)\n"
	"  --flood              data arrives on every connection at the side that closes\n"
	"  --flood-rate M       … M messages a second in all (default 50000; 0: all it can)\n"
	"  --flood-ms N         … for so long before the first close (default 300)\n"
	"\n";

static const char usage_examples[] =
	"\n"
	"Examples:\n"
	"  peerhub-stress storm --connections 10000 --tls none\n"
	"      10,000 connections, closed all at once\n"
	"  peerhub-stress storm --connections 100 --close 20 --rounds 100 --window 1 --flood\n"
	"      2,000 single closes among 100 live connections, with data arriving\n"
	"  peerhub-stress storm --by both --how mixed --fault 'reset:0-4000@30%'\n"
	"      both sides close, and a third of the streams is reset somewhere\n"
	"\n"
	"Exit codes: 0 nothing found, 1 a violation, 2 wrong command line, 3 a hang, 4 could not run.\n";

enum storm_by {
	BY_DIALLER,
	BY_ACCEPTOR,
	BY_BOTH
};
enum storm_how {
	HOW_GRACEFUL,
	HOW_ABORT,
	HOW_MIXED
};

struct storm {
	struct load_options load_options;
	uint64_t close, rounds, by, how, window, rate, closers, flood_rate, flood_ms;
	bool is_flooding;
	char command[512];
	struct load *load;
	struct flood *flood;
	struct random random;
	uint32_t *picked; /* the seats of this round, in their order */
	uint8_t *picked_how;
	uint32_t picked_count;
	_Atomic uint32_t next[LOAD_ENDS]; /* of picked, for the closers of each side */
	_Atomic uint64_t first_ns; /* the first call of this round */
	uint64_t closes, rounds_done;
	uint64_t opened_all, open_ns, mass_ns, mass_ns_max;
	uint64_t cpu_ns[LOAD_ENDS], cpu_process_ns, flood_messages, flood_ns;
};

/* ---- options --------------------------------------------------------------------------- */

/* OPTIONS_RUN, or the exit code. */
static int storm_options(struct storm *storm, int argc, char **argv)
{
	static const char *const by_names[] = {"dialler", "acceptor", "both", NULL};
	static const char *const how_names[] = {"graceful", "abort", "mixed", NULL};
	static char usage[8192];
	struct options options = {.command = "storm", .usage = usage};
	int status;

	snprintf(usage, sizeof(usage), "%s%s%s%s", usage_text, load_usage_text, fault_usage_text,
		usage_examples);
	load_options_init(&storm->load_options, "storm", 1000);
	storm->rounds = storm->closers = 1;
	storm->flood_rate = 50000;
	storm->flood_ms = 300;
	load_options_add(&options, &storm->load_options);
	options_number(&options, "close", &storm->close, 1, LOAD_CONNECTIONS_MAX);
	options_number(&options, "rounds", &storm->rounds, 1, 1000000);
	options_choice(&options, "by", &storm->by, by_names);
	options_choice(&options, "how", &storm->how, how_names);
	options_number(&options, "window", &storm->window, 0, LOAD_CONNECTIONS_MAX);
	options_number(&options, "rate", &storm->rate, 0, 10000000);
	options_number(&options, "closers", &storm->closers, 1, CLOSERS_MAX);
	options_flag(&options, "flood", &storm->is_flooding);
	options_number(&options, "flood-rate", &storm->flood_rate, 0, 100000000);
	options_number(&options, "flood-ms", &storm->flood_ms, 0, 600000);
	status = options_parse(&options, argc, argv);
	if (status == OPTIONS_RUN && load_options_check(&options, &storm->load_options) != 0)
		status = EXIT_USAGE;
	if (status == OPTIONS_RUN && storm->close > storm->load_options.connections)
		status = options_refuse(&options, "--close %llu is more than --connections %llu",
			(unsigned long long)storm->close,
			(unsigned long long)storm->load_options.connections);
	if (status == OPTIONS_RUN && storm->load_options.is_remote && storm->by != BY_DIALLER)
		status = options_refuse(
			&options, "with --remote only the dialler's side is ours: --by dialler");
	if (storm->close == 0)
		storm->close = storm->load_options.connections;
	load_command_text(&storm->load_options, argc, argv, storm->command, sizeof(storm->command));
	return status;
}

/* ---- closing --------------------------------------------------------------------------- */

struct closer {
	struct storm *storm;
	enum load_end end;
	pthread_t thread;
};

/* Wait until the window and the rate allow another close. False: a stop was asked for. */
static bool closer_may(struct storm *storm, uint32_t place)
{
	uint64_t never = 0, now;

	while (storm->window != 0 && atomic_load(&storm->load->closing) >= storm->window) {
		if (stop_requested())
			return false;
		load_sleep_us(20);
	}
	now = now_ns();
	(void)atomic_compare_exchange_strong(&storm->first_ns, &never, now);
	while (storm->rate != 0 &&
		now < atomic_load(&storm->first_ns) + place * 1000000000ull / storm->rate) {
		if (stop_requested())
			return false;
		load_sleep_us(100);
		now = now_ns();
	}
	return !stop_requested();
}

static void *closer_main(void *argument)
{
	struct closer *closer = argument;
	struct storm *storm = closer->storm;
	uint32_t place;

	while ((place = atomic_fetch_add(&storm->next[closer->end], 1)) < storm->picked_count) {
		if (!closer_may(storm, place))
			break;
		(void)load_close(storm->load, storm->picked[place], closer->end,
			(enum ph_how)storm->picked_how[place]);
	}
	return NULL;
}

/* Choose the seats of a round: K different open ones, in a random order. */
static void seats_pick(struct storm *storm)
{
	uint32_t count = (uint32_t)storm->load_options.connections, open = 0;

	for (uint32_t i = 0; i < count; i++)
		if (load_seat_is_open(storm->load, &storm->load->seats[i]))
			storm->picked[open++] = i;
	for (uint32_t i = 0; i < open; i++) {
		uint32_t other = i + random_below(&storm->random, open - i);
		uint32_t seat = storm->picked[i];

		storm->picked[i] = storm->picked[other];
		storm->picked[other] = seat;
		storm->picked_how[i] = storm->how == HOW_MIXED
			? (uint8_t)random_below(&storm->random, 2)
			: (uint8_t)(storm->how == HOW_ABORT ? PH_ABORT : PH_GRACEFUL);
	}
	storm->picked_count = open < storm->close ? open : (uint32_t)storm->close;
	for (int end = 0; end < LOAD_ENDS; end++)
		atomic_store(&storm->next[end], 0);
	atomic_store(&storm->first_ns, 0);
}

static uint32_t closers_start(struct storm *storm, struct closer *closers)
{
	uint32_t started = 0;

	for (int end = 0; end < LOAD_ENDS; end++) {
		if ((end == LOAD_DIALLER && storm->by == BY_ACCEPTOR) ||
			(end == LOAD_ACCEPTOR && storm->by == BY_DIALLER))
			continue;
		for (uint32_t i = 0; i < storm->closers; i++) {
			struct closer *closer = &closers[started];

			*closer = (struct closer){.storm = storm, .end = (enum load_end)end};
			if (pthread_create(&closer->thread, NULL, closer_main, closer) != 0) {
				load_violation(storm->load, "cannot start a thread that closes");
				return started;
			}
			started++;
		}
	}
	return started;
}

static void round_close(struct storm *storm)
{
	struct closer closers[CLOSERS_MAX * LOAD_ENDS];
	uint64_t cpu[LOAD_ENDS], cpu_process = process_cpu_ns(), first_ns;
	uint32_t started;

	seats_pick(storm);
	load_phase(storm->load, "closing",
		storm->load_options.close_ms + 20ull * storm->picked_count +
			(storm->rate != 0 ? storm->picked_count * 1000 / storm->rate : 0) +
			(storm->window != 0 ? storm->picked_count * storm->load_options.close_ms
					    : 0));
	for (int end = 0; end < LOAD_ENDS; end++)
		cpu[end] = load_cpu_ns(storm->load, (enum load_end)end);
	started = closers_start(storm, closers);
	for (uint32_t i = 0; i < started; i++)
		pthread_join(closers[i].thread, NULL);
	while (atomic_load(&storm->load->closing) > 0)
		load_sleep_us(200); /* the watchdog bounds it */
	for (int end = 0; end < LOAD_ENDS; end++)
		storm->cpu_ns[end] += load_cpu_ns(storm->load, (enum load_end)end) - cpu[end];
	storm->cpu_process_ns += process_cpu_ns() - cpu_process;
	first_ns = atomic_load(&storm->first_ns);
	if (storm->picked_count > 0 && first_ns != 0) {
		uint64_t took = atomic_load(&storm->load->emptied_ns) - first_ns;

		storm->mass_ns += took;
		if (took > storm->mass_ns_max)
			storm->mass_ns_max = took;
	}
	storm->closes += storm->picked_count;
	storm->rounds_done++;
	audit_tick(storm->load->audit);
}

/* ---- rounds ----------------------------------------------------------------------------- */

static void round_open(struct storm *storm)
{
	uint64_t begin_ns = now_ns(), before = atomic_load(&storm->load->opened);

	(void)load_open_all(storm->load, 0, (uint32_t)storm->load_options.connections);
	storm->open_ns += now_ns() - begin_ns;
	storm->opened_all += atomic_load(&storm->load->opened) - before;
}

static void storm_flood(struct storm *storm)
{
	struct flood_options options = {
		.count = (uint32_t)storm->load_options.connections,
		.to = {storm->by != BY_ACCEPTOR, storm->by != BY_DIALLER},
		.rate = storm->flood_rate,
	};
	int status;

	storm->flood_ns = now_ns();
	status = flood_start(storm->load, &options, &storm->flood);
	if (status < 0)
		load_violation(storm->load, "cannot start the flood: %s", strerror(-status));
	load_phase(storm->load, "flooding", storm->flood_ms);
	load_wait(storm->load, (uint32_t)storm->flood_ms, "flooding");
}

static void storm_run(struct storm *storm)
{
	for (uint64_t i = 0; i < storm->rounds && !stop_requested(); i++) {
		round_open(storm);
		load_phase(storm->load, "between opening and closing", CALM_MS);
		load_wait(storm->load, i == 0 ? CALM_MS : 1, "calm");
		if (storm->is_flooding && storm->flood == NULL)
			storm_flood(storm);
		if (!stop_requested())
			round_close(storm);
	}
	if (storm->flood != NULL) {
		storm->flood_messages = flood_sent(storm->flood);
		storm->flood_ns = now_ns() - storm->flood_ns;
	}
	flood_stop(storm->flood);
}

/* ---- report ----------------------------------------------------------------------------- */

static double per(uint64_t ns, uint64_t count)
{
	return count == 0 ? 0 : (double)ns / 1e3 / (double)count;
}

static void storm_figures(struct storm *storm, struct figures *figures)
{
	struct load *load = storm->load;

	load_figures_begin(load, figures, storm->command, true);
	figures_real(figures, "rate", "opened a second (both ends here)",
		storm->open_ns == 0 ? 0 : (double)storm->opened_all * 1e9 / (double)storm->open_ns,
		"/s");
	figures_section(figures, "close", "closing");
	figures_count(figures, "rounds", "rounds", storm->rounds_done);
	figures_count(figures, "closes", "connections closed", storm->closes);
	figures_real(figures, "mass_ms", "a round, first call to last event, mean",
		storm->rounds_done == 0 ? 0
					: (double)storm->mass_ns / 1e6 / (double)storm->rounds_done,
		"ms");
	figures_real(
		figures, "mass_ms_max", "… and at most", (double)storm->mass_ns_max / 1e6, "ms");
	figures_real(figures, "per_close_us", "a round per close",
		per(storm->mass_ns, storm->closes), "us");
	figures_real(figures, "cpu_dialler_us", "CPU of the dialling hub per close",
		per(storm->cpu_ns[LOAD_DIALLER], storm->closes), "us");
	figures_real(figures, "cpu_acceptor_us", "CPU of the accepting hub per close",
		per(storm->cpu_ns[LOAD_ACCEPTOR], storm->closes), "us");
	figures_real(figures, "cpu_process_us", "CPU of the whole process per close",
		per(storm->cpu_process_ns, storm->closes), "us");
	if (storm->is_flooding)
		figures_real(figures, "flood_per_second", "flood, messages a second",
			storm->flood_ns == 0
				? 0
				: (double)storm->flood_messages * 1e9 / (double)storm->flood_ns,
			"/s");
	load_figures_latency(load, figures);
	load_figures_end(load, figures);
}

int storm_command(int argc, char **argv)
{
	struct storm storm = {.load = NULL};
	int result = storm_options(&storm, argc, argv);
	struct figures *figures = NULL;

	if (result != OPTIONS_RUN)
		return result;
	storm.picked = calloc(storm.load_options.connections, sizeof(*storm.picked));
	storm.picked_how = calloc(storm.load_options.connections, sizeof(*storm.picked_how));
	if (storm.picked == NULL || storm.picked_how == NULL || figures_create(&figures) < 0) {
		fprintf(stderr, "peerhub-stress: cannot start: %s\n", strerror(ENOMEM));
		result = EXIT_FAILED;
	} else {
		result = load_create(&storm.load_options, &storm.load);
	}
	if (result == 0) {
		random_init(&storm.random, storm.load_options.seed, 1);
		storm_run(&storm);
		load_end(storm.load);
		storm_figures(&storm, figures);
		result = load_report(storm.load, figures, true);
	}
	load_destroy(storm.load);
	figures_destroy(figures);
	free(storm.picked);
	free(storm.picked_how);
	return result;
}
