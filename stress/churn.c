/*
 * `peerhub-stress churn`: opens, uses and closes connections at a steady rate, for so many cycles or
 * seconds, and checks that nothing is left behind: slots, descriptors, memory.
 *
 * One thread looks at every seat in turn: an empty one is dialled when the rate allows it, one that
 * has got open is sent its messages, one that has had them is closed.
 */
#include "command.h"
#include "load.h"
#include "stop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_US 100u
#define WARM_PART 8u /* the first part of a run: what it touches for the first time is no growth */
#define WARM_CYCLES_MIN 6000u /* until the audit's tables have been gone round */
#define WARM_CYCLES_MAX 20000u
#define RSS_SLACK (4u << 20) /* what allocators of threads keep, whatever the number of cycles */
#define LANE_CHURN 0u
#define SPOILED_MS 2000u /* what a fault keeps back, or has damaged, is not waited for any longer */

static const char usage_text[] =
	"usage: peerhub-stress churn [options]\n"
	"\n"
	"Open, use, close, again and again; at the end everything must be back: every slot free, no\n"
	"descriptor more, and no more memory than after the first part of the run.\n"
	"\n"
	"  --connections N      at once (default 64)\n"
	"  --cycles N           connections opened and closed in all (default 20000)\n"
	"  --seconds T          … or as many as fit into T seconds\n"
	"  --rate R             at most R openings a second (default 0: no limit)\n"
	"  --messages N         messages each way on each connection (default 2)\n"
	"  --by WHO             dialler, acceptor or any: who closes (default any)\n"
	"  --how HOW            graceful, abort or mixed (default mixed)\n"
	"  --early N            close 1 in N before it is open (default 16; 0: none)\n"
	"  --rss-percent P      growth of memory after the first part (6,000 cycles or more) that is a\n"
	"                       finding, beside 4 MiB (default 10; 0: do not judge; sanitizers keep\n"
	"                       freed memory)\n"
	"\n";

static const char usage_examples[] =
	"\n"
	"Examples:\n"
	"  peerhub-stress churn\n"
	"      20,000 connections, 64 at once\n"
	"  peerhub-stress churn --cycles 1000000 --tls none --rss-percent 2\n"
	"      a million, and memory must not have grown by 2 %\n"
	"  peerhub-stress churn --seconds 60 --rate 200 --fault 'errno:ECONNRESET,recv,50'\n"
	"      a minute of 200 a second, one receive in 50 answers that the peer has reset\n"
	"\n"
	"Exit codes: 0 nothing found, 1 a violation or not back to the baseline, 2 wrong command line,\n"
	"3 a hang, 4 could not run.\n";

enum churn_by {
	BY_DIALLER,
	BY_ACCEPTOR,
	BY_ANY
};
enum churn_how {
	HOW_GRACEFUL,
	HOW_ABORT,
	HOW_MIXED
};

enum visit {
	VISIT_EMPTY,
	VISIT_OPENING,
	VISIT_USED, /* its messages are on their way */
	VISIT_CLOSED
};

struct churn_baseline {
	bool is_taken;
	uint64_t cycles, rss;
	uint32_t descriptors;
};

struct churn {
	struct load_options load_options;
	uint64_t cycles, seconds, rate, messages, by, how, early, rss_percent;
	char command[512];
	struct load *load;
	struct random random;
	uint64_t begin_ns, begun, ended, closed_early;
	uint64_t loop_ns; /* from the first opening to the last end */
	struct churn_baseline warm, end;
	enum visit *visits; /* [connections] */
	uint64_t *used_ns; /* [connections] when its messages were sent */
};

/* ---- options --------------------------------------------------------------------------- */

static int churn_options(struct churn *churn, int argc, char **argv)
{
	static const char *const by_names[] = {"dialler", "acceptor", "any", NULL};
	static const char *const how_names[] = {"graceful", "abort", "mixed", NULL};
	static char usage[8192];
	struct options options = {.command = "churn", .usage = usage};
	int status;

	snprintf(usage, sizeof(usage), "%s%s%s%s", usage_text, load_usage_text, fault_usage_text,
		usage_examples);
	load_options_init(&churn->load_options, "churn", 64);
	churn->messages = 2;
	churn->by = BY_ANY;
	churn->how = HOW_MIXED;
	churn->early = 16;
	churn->rss_percent = 10;
	load_options_add(&options, &churn->load_options);
	options_number(&options, "cycles", &churn->cycles, 1, 1000000000000ull);
	options_number(&options, "seconds", &churn->seconds, 1, 10000000);
	options_number(&options, "rate", &churn->rate, 0, 10000000);
	options_number(&options, "messages", &churn->messages, 0, 10000);
	options_choice(&options, "by", &churn->by, by_names);
	options_choice(&options, "how", &churn->how, how_names);
	options_number(&options, "early", &churn->early, 0, 1000000);
	options_number(&options, "rss-percent", &churn->rss_percent, 0, 1000);
	status = options_parse(&options, argc, argv);
	if (status == OPTIONS_RUN && load_options_check(&options, &churn->load_options) != 0)
		status = EXIT_USAGE;
	if (status == OPTIONS_RUN && churn->load_options.is_remote && churn->by == BY_ACCEPTOR)
		status = options_refuse(
			&options, "with --remote only the dialler's side is ours: --by dialler");
	if (churn->load_options.is_remote)
		churn->by = BY_DIALLER;
	if (churn->cycles == 0)
		churn->cycles = churn->seconds != 0 ? UINT64_MAX : 20000;
	load_command_text(&churn->load_options, argc, argv, churn->command, sizeof(churn->command));
	return status;
}

/* ---- one seat --------------------------------------------------------------------------- */

static bool churn_may_begin(const struct churn *churn, uint64_t now)
{
	uint64_t elapsed = now - churn->begin_ns;

	if (stop_requested() || churn->begun >= churn->cycles ||
		(churn->seconds != 0 && elapsed >= churn->seconds * 1000000000u))
		return false;
	return churn->rate == 0 || churn->begun <= elapsed * churn->rate / 1000000000u;
}

static enum ph_how how_of(struct churn *churn)
{
	if (churn->how == HOW_MIXED)
		return random_below(&churn->random, 2) == 0 ? PH_GRACEFUL : PH_ABORT;
	return churn->how == HOW_ABORT ? PH_ABORT : PH_GRACEFUL;
}

static void seat_close(struct churn *churn, uint32_t seat)
{
	bool by_acceptor = churn->by == BY_ACCEPTOR ||
		(churn->by == BY_ANY && random_below(&churn->random, 2) == 0);

	/* The end may be gone already: a fault, or the other side. */
	(void)load_close(
		churn->load, seat, by_acceptor ? LOAD_ACCEPTOR : LOAD_DIALLER, how_of(churn));
	churn->visits[seat] = VISIT_CLOSED;
}

static void seat_use(struct churn *churn, uint32_t seat)
{
	for (uint64_t i = 0; i < churn->messages; i++)
		for (int end = 0; end < LOAD_ENDS; end++)
			(void)load_send(churn->load, seat, (enum load_end)end, LANE_CHURN);
	churn->visits[seat] = VISIT_USED;
	churn->used_ns[seat] = now_ns();
}

/* What was accepted for sending has arrived at the other end (or come back from an echo). */
static bool seat_has_all(const struct churn *churn, struct seat *seat)
{
	if (churn->load_options.is_remote)
		return atomic_load(&seat->received[LOAD_DIALLER]) >=
			atomic_load(&seat->sent[LOAD_DIALLER]);
	return atomic_load(&seat->received[LOAD_ACCEPTOR]) >=
		atomic_load(&seat->sent[LOAD_DIALLER]) &&
		atomic_load(&seat->received[LOAD_DIALLER]) >=
		atomic_load(&seat->sent[LOAD_ACCEPTOR]);
}

static void seat_begin(struct churn *churn, uint32_t seat)
{
	if (!load_open(churn->load, seat))
		return;
	churn->begun++;
	churn->visits[seat] = VISIT_OPENING;
	if (churn->early != 0 && random_below(&churn->random, (uint32_t)churn->early) == 0) {
		(void)load_close(churn->load, seat, LOAD_DIALLER, how_of(churn));
		churn->closed_early++;
		churn->visits[seat] = VISIT_CLOSED;
	}
}

static void seat_visit(struct churn *churn, uint32_t number, uint64_t now)
{
	struct seat *seat = &churn->load->seats[number];

	if (load_seat_is_empty(seat)) {
		if (churn->visits[number] != VISIT_EMPTY)
			churn->ended++;
		churn->visits[number] = VISIT_EMPTY;
		if (churn_may_begin(churn, now))
			seat_begin(churn, number);
		return;
	}
	if (churn->visits[number] == VISIT_OPENING && load_seat_is_open(churn->load, seat))
		seat_use(churn, number);
	else if (churn->visits[number] == VISIT_USED &&
		(seat_has_all(churn, seat) ||
			(seat->is_spoiled &&
				now > churn->used_ns[number] + SPOILED_MS * 1000000ull)))
		seat_close(churn, number);
	else if (churn->visits[number] == VISIT_USED && !load_seat_is_open(churn->load, seat))
		churn->visits[number] = VISIT_CLOSED; /* one end has ended by itself */
}

/* ---- the run ---------------------------------------------------------------------------- */

/* Visit all seats until nothing may begin any more (before `cycles_end`) and all are empty. */
static void churn_until(struct churn *churn, uint64_t cycles_end, const char *what)
{
	uint64_t cycles = churn->cycles, last = churn->ended;

	if (cycles_end < cycles)
		churn->cycles = cycles_end;
	for (;;) {
		uint64_t now = now_ns();

		for (uint32_t i = 0; i < churn->load_options.connections; i++)
			seat_visit(churn, i, now);
		/* As long as connections end, or none is there, nothing hangs. */
		if (churn->ended != last || atomic_load(&churn->load->live) == 0)
			load_phase(churn->load, what, 30000);
		last = churn->ended;
		if (atomic_load(&churn->load->live) == 0 && churn->ended == churn->begun &&
			(churn->begun >= churn->cycles || stop_requested() ||
				(churn->seconds != 0 &&
					now - churn->begin_ns >= churn->seconds * 1000000000u)))
			break;
		load_wait(churn->load, 0, what);
		load_sleep_us(STEP_US);
	}
	churn->cycles = cycles;
}

/* Everything is closed: what is still held? Slots are free a moment after the last event. */
static void baseline_take(struct churn *churn, struct churn_baseline *baseline)
{
	struct ph_statistics stats[LOAD_ENDS];
	uint32_t tries = 0;

	do {
		load_sleep_us(2000);
		for (int end = 0; end < LOAD_ENDS; end++)
			load_stats(churn->load, (enum load_end)end, &stats[end]);
	} while (stats[0].live + stats[1].live > 0 && ++tries < 5000);
	if (stats[0].live + stats[1].live > 0)
		load_violation(churn->load, "%llu slots are still in use when all is closed",
			(unsigned long long)(stats[0].live + stats[1].live));
	load_wait(churn->load, 100, "settling");
	*baseline = (struct churn_baseline){.is_taken = true,
		.cycles = churn->ended,
		.rss = process_rss(),
		.descriptors = process_descriptors()};
}

static void baseline_judge(struct churn *churn)
{
	const struct churn_baseline *warm = &churn->warm, *end = &churn->end;

	if (!warm->is_taken || !end->is_taken || end->cycles == warm->cycles)
		return;
	/* The relay's sockets come and go with the connections; those of our hubs are no descriptors. */
	if (churn->load->link == NULL && end->descriptors > warm->descriptors)
		load_violation(churn->load, "%u descriptors are open, %u were after the first part",
			end->descriptors, warm->descriptors);
	if (churn->rss_percent != 0 && warm->cycles >= WARM_CYCLES_MIN &&
		end->rss > warm->rss + warm->rss * churn->rss_percent / 100 + RSS_SLACK)
		load_violation(churn->load,
			"memory grew from %llu to %llu KiB in %llu cycles (--rss-percent %llu)",
			(unsigned long long)warm->rss / 1024, (unsigned long long)end->rss / 1024,
			(unsigned long long)(end->cycles - warm->cycles),
			(unsigned long long)churn->rss_percent);
}

static void churn_run(struct churn *churn)
{
	uint64_t warm = churn->cycles / WARM_PART;

	if (warm < WARM_CYCLES_MIN)
		warm = churn->cycles < 2 * WARM_CYCLES_MIN ? churn->cycles / 2 : WARM_CYCLES_MIN;
	if (warm > WARM_CYCLES_MAX)
		warm = WARM_CYCLES_MAX;
	if (churn->seconds != 0 && warm > WARM_CYCLES_MIN)
		warm = WARM_CYCLES_MIN;
	churn->begin_ns = now_ns();
	load_phase(churn->load, "churning", 30000);
	churn_until(churn, warm, "warming up");
	baseline_take(churn, &churn->warm);
	churn_until(churn, churn->cycles, "churning");
	churn->loop_ns = now_ns() - churn->begin_ns;
	baseline_take(churn, &churn->end);
	baseline_judge(churn);
}

static void churn_figures(struct churn *churn, struct figures *figures)
{
	load_figures_begin(churn->load, figures, churn->command, true);
	figures_section(figures, "churn", "churn");
	figures_count(figures, "cycles", "cycles", churn->ended);
	figures_count(figures, "early", "closed before they were open", churn->closed_early);
	figures_real(figures, "per_second", "cycles a second",
		churn->loop_ns == 0 ? 0 : (double)churn->ended * 1e9 / (double)churn->loop_ns,
		"/s");
	figures_section(
		figures, "baseline", "everything closed: after the first part, and at the end");
	figures_count(figures, "warm_cycles", "cycles of the first part", churn->warm.cycles);
	figures_count(figures, "warm_rss_kib", "memory (RSS) then, KiB", churn->warm.rss / 1024);
	figures_count(
		figures, "end_rss_kib", "memory (RSS) at the end, KiB", churn->end.rss / 1024);
	figures_count(
		figures, "warm_descriptors", "open descriptors then", churn->warm.descriptors);
	figures_count(
		figures, "end_descriptors", "open descriptors at the end", churn->end.descriptors);
	load_figures_latency(churn->load, figures);
	load_figures_end(churn->load, figures);
}

int churn_command(int argc, char **argv)
{
	struct churn churn = {.load = NULL};
	int result = churn_options(&churn, argc, argv);
	struct figures *figures = NULL;

	if (result != OPTIONS_RUN)
		return result;
	churn.visits = calloc(churn.load_options.connections, sizeof(*churn.visits));
	churn.used_ns = calloc(churn.load_options.connections, sizeof(*churn.used_ns));
	if (churn.visits == NULL || churn.used_ns == NULL || figures_create(&figures) < 0) {
		fprintf(stderr, "peerhub-stress: cannot start: %s\n", strerror(ENOMEM));
		result = EXIT_FAILED;
	} else {
		result = load_create(&churn.load_options, &churn.load);
	}
	if (result == 0) {
		random_init(&churn.random, churn.load_options.seed, 1);
		churn_run(&churn);
		load_end(churn.load);
		churn_figures(&churn, figures);
		result = load_report(churn.load, figures, true);
	}
	load_destroy(churn.load);
	figures_destroy(figures);
	free(churn.visits);
	free(churn.used_ns);
	return result;
}
