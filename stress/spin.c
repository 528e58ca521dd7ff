/*
 * `peerhub-stress spin`: makes a world, lets actors loose on it for some seconds, brings it down and
 * says what the audit found. The main thread also ends groups and settles the audit while it waits.
 * A world is the native interface's (world.h), or the p2p interface's (p2p_spin.h), or there are both.
 */
#include "action.h"
#include "actor.h"
#include "command.h"
#include "fault_memory.h"
#include "p2p_spin.h"
#include "report.h"
#include "watch.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SPIN_TICK_MS 50u
#define SPIN_GROUP_END_ONE_OF 16u /* ticks between two ends of groups, on average */
#define SPIN_FILL_STEP 64u /* seats tried in a millisecond while filling */
#define SPIN_RESTART_ONE_OF 40u /* ticks between two restarts of the second hub */
#define SPIN_DRAIN_MS 30000u
#define SPIN_QUIET_TICKS 3u
#define SPIN_LOOP_SLOW_NS 200000000u
#define SPIN_RESUBMITS_MAX 64u /* about as many as are closing at once */
#define SPIN_THREADS_MAX 64u
#define SPIN_CONNECTIONS_MAX 500000u

static const char usage_text[] =
	"usage: peerhub-stress spin --connections N --threads M --seconds T [options]\n"
	"\n"
	"Random opens, sends, closes and worse by M threads and inside callbacks, against hubs in\n"
	"this process, over loopback. Every id, handle, call, event and message is audited.\n"
	"\n"
	"  --connections N     at most so many dialled connections at once\n"
	"  --threads M         threads that act (1 to 64)\n"
	"  --seconds T         length of the random part\n"
	"  --api WHICH         native (peerhub.h, the default), p2p (p2p.h), or both: half of the threads\n"
	"                      each. The p2p half keeps its store in a directory of its own under TMPDIR,\n"
	"                      goes by rounds, and stops and starts the library in some of them\n"
	"  --fail-allocations N  one in N of our allocations fails, and one in 100 N of OpenSSL's; closes,\n"
	"                      aborts and ends must work all the same, and only \"no memory\" is excused\n"
	"  --seed S            repeat the choices of an earlier run (default: a new one, printed)\n"
	"  --hubs 1|2          hubs in this process (default 1); they dial each other and themselves\n"
	"  --fill              open all N first, then begin: 2N ends are alive in this process\n"
	"  --shards N          shards of each hub (default 2)\n"
	"  --slots N           connection slots of a shard (default: enough; few ones run out)\n"
	"  --tls none|mutual   default mutual, with certificates made in memory\n"
	"  --remote HOST:PORT  dial a peerhub-echo --framing message there instead\n"
	"  --cert, --key, --ca with --remote and mutual TLS: PEM files as peerhub-echo takes them\n"
	"  --patience S        seconds without progress that are a hang (default 60)\n"
	"  --json FILE         write the result as JSON, too\n"
	"  --help              this text\n"
	"\n"
	"Exit codes: 0 nothing found, 1 a violation or it could not run, 2 wrong command line,\n"
	"3 a hang (the hubs' state is on standard error).\n";

struct spin {
	struct world_options world_options;
	bool has_native, has_p2p;
	uint64_t threads; /* of all kinds */
	uint32_t fail_one_of; /* 0: no allocation fails on purpose */
	uint64_t seconds;
	uint64_t patience_s;
	bool is_filling;
	const char *json_path;
	char command[512];
	struct world *world; /* NULL: p2p only */
	struct p2p_spin *p2p; /* NULL: native only */
	struct actors *actors;
	struct watch *watch;
	struct report report;
	struct random random;
	uint32_t descriptors; /* open ones before the world was made */
	uint64_t violations; /* of neither half */
};

/* ---- options --------------------------------------------------------------------------- */

enum {
	OPT_CONNECTIONS = 256,
	OPT_THREADS,
	OPT_SECONDS,
	OPT_SEED,
	OPT_HUBS,
	OPT_FILL,
	OPT_SHARDS,
	OPT_SLOTS,
	OPT_TLS,
	OPT_REMOTE,
	OPT_CERT,
	OPT_KEY,
	OPT_CA,
	OPT_PATIENCE,
	OPT_JSON,
	OPT_API,
	OPT_FAIL_ALLOCATIONS,
	OPT_HELP
};

static const struct option long_options[] = {
	{"connections", required_argument, NULL, OPT_CONNECTIONS},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"seed", required_argument, NULL, OPT_SEED},
	{"hubs", required_argument, NULL, OPT_HUBS},
	{"fill", no_argument, NULL, OPT_FILL},
	{"shards", required_argument, NULL, OPT_SHARDS},
	{"slots", required_argument, NULL, OPT_SLOTS},
	{"tls", required_argument, NULL, OPT_TLS},
	{"remote", required_argument, NULL, OPT_REMOTE},
	{"cert", required_argument, NULL, OPT_CERT},
	{"key", required_argument, NULL, OPT_KEY},
	{"ca", required_argument, NULL, OPT_CA},
	{"patience", required_argument, NULL, OPT_PATIENCE},
	{"json", required_argument, NULL, OPT_JSON},
	{"api", required_argument, NULL, OPT_API},
	{"fail-allocations", required_argument, NULL, OPT_FAIL_ALLOCATIONS},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "peerhub-stress spin: %s%s%s (--help shows the options)\n", what,
		value != NULL ? ": " : "", value != NULL ? value : "");
	return -EINVAL;
}

static int option_number(const char *text, uint64_t max, const char *what, uint64_t *number)
{
	return number_parse(text, 1, max, number) < 0 ? usage_error(what, text) : 0;
}

static int option_u32(const char *text, uint32_t max, const char *what, uint32_t *number)
{
	uint64_t value = 0;
	int status = option_number(text, max, what, &value);

	if (status == 0)
		*number = (uint32_t)value;
	return status;
}

static int option_api(struct spin *spin, const char *text)
{
	spin->has_native = strcmp(text, "native") == 0 || strcmp(text, "both") == 0;
	spin->has_p2p = strcmp(text, "p2p") == 0 || strcmp(text, "both") == 0;
	return spin->has_native || spin->has_p2p
		? 0
		: usage_error("--api takes native, p2p or both", text);
}

static int option_take(struct spin *spin, int opt, const char *text)
{
	struct world_options *world = &spin->world_options;

	switch (opt) {
	case OPT_CONNECTIONS:
		return option_u32(text, SPIN_CONNECTIONS_MAX, "--connections takes 1 to 500000",
			&world->connections);
	case OPT_THREADS:
		return option_number(
			text, SPIN_THREADS_MAX, "--threads takes 1 to 64", &spin->threads);
	case OPT_SECONDS:
		return option_number(
			text, 1000000, "--seconds takes a number from 1", &spin->seconds);
	case OPT_SEED:
		return number_parse(text, 0, UINT64_MAX, &world->seed) < 0
			? usage_error("--seed takes a number", text)
			: 0;
	case OPT_HUBS:
		return option_u32(text, WORLD_HUBS_MAX, "--hubs takes 1 or 2", &world->hub_count);
	case OPT_FILL:
		spin->is_filling = true;
		return 0;
	case OPT_SHARDS:
		return option_u32(
			text, PH_SHARDS_MAX, "--shards takes 1 to 64", &world->shard_count);
	case OPT_SLOTS:
		return option_u32(
			text, PH_SLOTS_MAX, "--slots takes 1 to 16777216", &world->slots_per_shard);
	case OPT_TLS:
		if (strcmp(text, "none") != 0 && strcmp(text, "mutual") != 0)
			return usage_error("--tls takes none or mutual", text);
		world->tls = text[0] == 'n' ? PH_TLS_NONE : PH_TLS_MUTUAL;
		return 0;
	case OPT_REMOTE:
		world->is_remote = true;
		return ph_address_parse(text, &world->remote) < 0
			? usage_error("--remote takes a numeric HOST:PORT", text)
			: 0;
	case OPT_CERT:
		world->cert_path = text;
		return 0;
	case OPT_KEY:
		world->key_path = text;
		return 0;
	case OPT_CA:
		world->ca_path = text;
		return 0;
	case OPT_PATIENCE:
		return option_number(
			text, 100000, "--patience takes a number from 1", &spin->patience_s);
	case OPT_JSON:
		spin->json_path = text;
		return 0;
	case OPT_API:
		return option_api(spin, text);
	case OPT_FAIL_ALLOCATIONS:
		return option_u32(text, 1000000000, "--fail-allocations takes a number from 1",
			&spin->fail_one_of);
	default:
		return -EINVAL; /* getopt has said why */
	}
}

static int options_check(const struct spin *spin)
{
	const struct world_options *world = &spin->world_options;
	bool has_files =
		world->cert_path != NULL && world->key_path != NULL && world->ca_path != NULL;

	if (world->connections == 0)
		return usage_error("--connections is missing", NULL);
	if (spin->threads == 0)
		return usage_error("--threads is missing", NULL);
	if (spin->seconds == 0)
		return usage_error("--seconds is missing", NULL);
	if (spin->has_p2p && spin->has_native && spin->threads < 2)
		return usage_error("--api both takes 2 threads", NULL);
	if (spin->has_p2p && (world->is_remote || spin->is_filling))
		return usage_error("--remote and --fill belong to --api native", NULL);
	if (has_files != (world->is_remote && world->tls == PH_TLS_MUTUAL))
		return usage_error(
			"--cert, --key and --ca belong to --remote with mutual TLS", NULL);
	return 0;
}

/* A line that repeats this run, seed included. */
static void command_write(struct spin *spin, int argc, char **argv)
{
	size_t at = (size_t)snprintf(spin->command, sizeof(spin->command),
		"peerhub-stress spin --seed %llu", (unsigned long long)spin->world_options.seed);

	for (int i = 1; i < argc && at < sizeof(spin->command); i++) {
		if (strcmp(argv[i], "--seed") == 0) {
			i++;
			continue;
		}
		if (strncmp(argv[i], "--seed=", 7) == 0)
			continue;
		at += (size_t)snprintf(
			spin->command + at, sizeof(spin->command) - at, " %s", argv[i]);
	}
}

static uint32_t threads_native(const struct spin *spin)
{
	if (!spin->has_p2p)
		return (uint32_t)spin->threads;
	return spin->has_native ? (uint32_t)(spin->threads + 1) / 2 : 0;
}

/* -1: run; else the exit code. */
static int options_parse(struct spin *spin, int argc, char **argv)
{
	int opt;

	if (getrandom(&spin->world_options.seed, sizeof(spin->world_options.seed), 0) < 0)
		spin->world_options.seed = now_ns();
	spin->world_options.hub_count = 1;
	spin->world_options.shard_count = 2;
	spin->world_options.tls = PH_TLS_MUTUAL;
	spin->patience_s = 60;
	spin->has_native = true;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (opt == OPT_HELP) {
			fputs(usage_text, stdout);
			return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FOUND;
		}
		if (option_take(spin, opt, optarg) < 0)
			return EXIT_USAGE;
	}
	if (optind < argc) {
		usage_error("takes no arguments", argv[optind]);
		return EXIT_USAGE;
	}
	if (options_check(spin) < 0)
		return EXIT_USAGE;
	spin->world_options.lanes = 1 + threads_native(spin) +
		spin->world_options.hub_count * spin->world_options.shard_count;
	command_write(spin, argc, argv);
	return -1;
}

/* ---- run ------------------------------------------------------------------------------- */

static void sleep_ms(uint32_t ms)
{
	const struct timespec duration = {
		.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000l};

	nanosleep(&duration, NULL);
}

static enum ph_how random_how(struct spin *spin)
{
	return random_permille(&spin->random, 500) ? PH_ABORT : PH_GRACEFUL;
}

static void peak_note(struct spin *spin)
{
	uint64_t live = audit_live(spin->world->audit);

	if (live > spin->report.peak_live)
		spin->report.peak_live = live;
}

/* Open seat after seat, gently, until both ends of all are open. The watchdog bounds it. */
static void spin_fill(struct spin *spin)
{
	struct world *world = spin->world;
	struct hand *hand = world_hand_claim(world);
	uint64_t wanted = (world->options.is_remote ? 1ull : 2ull) * world->options.connections;
	struct audit_counts counts;

	atomic_store(&world->is_calm, true);
	do {
		audit_counts(world->audit, &counts);
		/* Few enough under way to stay below the bound of handshakes in progress. */
		for (uint32_t i = 0; i < SPIN_FILL_STEP && counts.dialled < counts.opened + 1024;
			i++)
			action_open(world, hand);
		sleep_ms(1);
		peak_note(spin);
		atomic_fetch_add(&world->beats, 1);
		report_progress(&spin->report, 0);
	} while (counts.opened < wanted);
	atomic_store(&world->is_calm, false);
}

/* The second hub goes and comes back while the first goes on. */
static void hub_restart(struct spin *spin)
{
	char why[PH_WHY_BYTES] = "";
	int status;

	world_stats(spin->world, &spin->report.stats);
	status = world_hub_restart(spin->world, 1, random_how(spin), why);
	/* OpenSSL does not always say that memory was what it lacked: -EIO. */
	if (status < 0 && !(spin->fail_one_of != 0 && (status == -ENOMEM || status == -EIO)))
		audit_violation(spin->world->audit, 0, "a hub could not be started again: %d, %s",
			status, why);
}

static void spin_tick(struct spin *spin, uint64_t elapsed_ns)
{
	audit_tick(spin->world->audit);
	peak_note(spin);
	if (random_below(&spin->random, SPIN_GROUP_END_ONE_OF) == 0)
		world_group_end(
			spin->world, random_below(&spin->random, WORLD_GROUPS), random_how(spin));
	if (spin->world_options.hub_count > 1 &&
		random_below(&spin->random, SPIN_RESTART_ONE_OF) == 0)
		hub_restart(spin);
	report_progress(&spin->report, elapsed_ns);
}

static void spin_run(struct spin *spin)
{
	uint64_t begin_ns = now_ns();
	uint64_t elapsed_ns = 0;

	while (elapsed_ns < spin->seconds * 1000000000u) {
		sleep_ms(SPIN_TICK_MS);
		elapsed_ns = now_ns() - begin_ns;
		if (spin->world != NULL)
			spin_tick(spin, elapsed_ns);
	}
	spin->report.seconds = (double)elapsed_ns / 1e9;
}

/*
 * Close whatever is open until nothing is left. What is in its handshake gets there in between; and so do
 * strangers that a shard held until slots were free, whose other side may have ended long ago: one that reads
 * nothing stays until it is closed. A shard lets them in in the turn that frees the slots, so that none is left
 * when a few ticks in a row saw nothing live.
 */
static void spin_drain(struct spin *spin)
{
	const struct ph_filter everything = {.has_tag = 0};
	struct world *world = spin->world;
	struct ph_statistics *stats = &spin->report.stats;
	uint32_t quiet = 0;

	while (quiet < SPIN_QUIET_TICKS) {
		enum ph_how how = random_how(spin);

		for (uint32_t hub = 0; hub < world->options.hub_count; hub++)
			/* NULL: it could not be started again. */
			if (world->hubs[hub].hub != NULL &&
				ph_close_where(world->hubs[hub].hub, &everything, how, REASON_WHERE,
					0, 0) < 0)
				audit_violation(world->audit, 0, "ph_close_where of all failed");
		sleep_ms(SPIN_TICK_MS);
		audit_tick(world->audit);
		world_stats(world, stats);
		quiet = audit_live(world->audit) == 0 && stats->live == 0 ? quiet + 1 : 0;
	}
}

/* The hubs' own counters, when nothing of the run is left. What they count and what the callbacks saw must
 * be the same. */
static void stats_judge(struct spin *spin)
{
	struct audit *audit = spin->world->audit;
	struct ph_statistics *stats = &spin->report.stats;
	struct audit_counts counts;

	audit_counts(audit, &counts);
	if (stats->open != 0 || stats->handshakes != 0)
		audit_violation(audit, 0, "no slot is in use, but %llu are open, %llu in handshake",
			(unsigned long long)stats->open, (unsigned long long)stats->handshakes);
	/* A hub that was stopped took its counters along. */
	if (atomic_load(&spin->world->restarts) > 0)
		return;
	if (stats->opened != counts.opened || stats->closed != counts.opened)
		audit_violation(audit, 0,
			"on_open came %llu times, the hubs opened %llu, closed %llu",
			(unsigned long long)counts.opened, (unsigned long long)stats->opened,
			(unsigned long long)stats->closed);
	if (stats->closed + stats->failed != counts.finals)
		audit_violation(audit, 0, "on_closed came %llu times, the hubs count %llu and %llu",
			(unsigned long long)counts.finals, (unsigned long long)stats->closed,
			(unsigned long long)stats->failed);
	if (stats->dialled != counts.dialled)
		audit_violation(audit, 0, "ph_open worked %llu times, the hubs dialled %llu",
			(unsigned long long)counts.dialled, (unsigned long long)stats->dialled);
}

/* How many descriptors this process has open. */
static uint32_t descriptors_count(void)
{
	DIR *directory = opendir("/proc/self/fd");
	uint32_t count = 0;

	if (directory == NULL)
		return 0;
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count;
}

/* A stopped hub leaves one descriptor a shard, its wake-up, which lives as long as the process. The
 * p2p layer keeps its store open and has a hub with a shard for each processor. */
#define SPIN_STORE_DESCRIPTORS 4u

static uint32_t descriptors_kept(const struct spin *spin)
{
	uint32_t kept = 0;

	if (spin->has_native)
		kept += spin->world_options.hub_count * spin->world_options.shard_count;
	if (spin->has_p2p)
		kept += (uint32_t)sysconf(_SC_NPROCESSORS_ONLN) + SPIN_STORE_DESCRIPTORS;
	return kept;
}

static void spin_violation(struct spin *spin, const char *what, long long number, uint32_t before)
{
	fprintf(stderr, "VIOLATION: %s: %lld, not %u\n", what, number, before);
	spin->violations++;
}

static void descriptors_judge(struct spin *spin)
{
	uint32_t count = descriptors_count();

	if (count > spin->descriptors + descriptors_kept(spin))
		spin_violation(spin, "open descriptors", count, spin->descriptors);
}

/* What a close cancels ends at once; an operation that had to be told twice was forgotten the first
 * time, or the machine was away for the tenth of a second that the engine waits. So few are excused. */
static void resubmits_judge(struct spin *spin)
{
	const struct ph_statistics *stats = &spin->report.stats;

	/* Where a turn of a shard alone takes a good part of the watchdog's second, it says nothing. */
	if (stats->loop_ns_max < SPIN_LOOP_SLOW_NS &&
		stats->close_resubmits > SPIN_RESUBMITS_MAX + stats->closed / 100)
		audit_violation(spin->world->audit, 0, "%llu closes had to cancel a second time",
			(unsigned long long)stats->close_resubmits);
}

/* Half of all runs drain first; the others stop the hubs in full flight. */
static void native_end(struct spin *spin)
{
	uint32_t patience_ms = (uint32_t)spin->patience_s * 1000u;
	bool drains = random_permille(&spin->random, 500);
	int status;

	atomic_store(&spin->world->is_ending, true);
	actors_stop(spin->actors);
	if (drains) {
		watch_phase(spin->watch, "closing what is left", SPIN_DRAIN_MS + patience_ms);
		spin_drain(spin);
		stats_judge(spin);
	}
	world_stats(spin->world, &spin->report.stats);
	resubmits_judge(spin);
	watch_phase(spin->watch, "stopping the hubs", SPIN_DRAIN_MS + patience_ms);
	status = world_stop(spin->world, random_how(spin));
	if (status < 0)
		audit_violation(spin->world->audit, 0, "ph_hub_stop answered %d", status);
	audit_finish(spin->world->audit);
}

static void spin_end(struct spin *spin)
{
	uint32_t patience_ms = (uint32_t)spin->patience_s * 1000u;

	if (spin->p2p != NULL) {
		watch_phase(spin->watch, "ending the p2p round", SPIN_DRAIN_MS + patience_ms);
		p2p_spin_stop(spin->p2p);
	}
	watch_phase(spin->watch, "stopping the actors", patience_ms);
	if (spin->world != NULL)
		native_end(spin);
	fault_memory_set(0, 0);
	descriptors_judge(spin);
	watch_stop(spin->watch);
}

/* How many violations there were. */
static uint64_t spin_violations(struct spin *spin)
{
	uint64_t count = spin->violations;
	struct audit_counts native;
	struct p2p_counts p2p;

	if (spin->world != NULL) {
		audit_counts(spin->world->audit, &native);
		count += native.violations;
	}
	if (spin->p2p != NULL) {
		p2p_spin_counts(spin->p2p, &p2p);
		count += p2p.violations;
	}
	return count;
}

/* The native half's object, and the p2p half's in it or alone. */
static int spin_json(struct spin *spin)
{
	int status = spin->world != NULL ? report_json(&spin->report, spin->json_path) : 0;
	FILE *out;

	if (status < 0 || spin->p2p == NULL)
		return status;
	out = fopen(spin->json_path, spin->world != NULL ? "r+e" : "we");
	if (out == NULL)
		return -errno;
	if (spin->world == NULL)
		fprintf(out, "{\n  \"seed\": %llu", (unsigned long long)spin->report.seed);
	else if (fseek(out, -3, SEEK_END) < 0) /* before its last brace */
		status = -errno;
	fputs(",\n  \"p2p\": ", out);
	p2p_spin_json(spin->p2p, out);
	fputs("\n}\n", out);
	if (ferror(out) != 0 && status == 0)
		status = -EIO;
	if (fclose(out) != 0 && status == 0)
		status = -errno;
	return status;
}

static void spin_table(struct spin *spin)
{
	if (spin->world == NULL)
		printf("seed %llu, %.1f s; again: %s\n", (unsigned long long)spin->report.seed,
			spin->report.seconds, spin->report.command);
	if (spin->p2p != NULL)
		p2p_spin_table(spin->p2p, stdout);
	if (spin->fail_one_of != 0)
		printf("  %-34s %12llu\n", "allocations failed on purpose",
			(unsigned long long)fault_memory_count());
	if (spin->world != NULL)
		report_table(&spin->report, stdout);
}

static int spin_report(struct spin *spin)
{
	uint64_t violations = spin_violations(spin);
	int status;

	report_progress_end();
	spin_table(spin);
	printf("spin: %s, %llu violations\n", violations == 0 ? "OK" : "FAILED",
		(unsigned long long)violations);
	if (spin->json_path != NULL) {
		status = spin_json(spin);
		if (status < 0) {
			fprintf(stderr, "peerhub-stress: %s: %s\n", spin->json_path,
				strerror(-status));
			return EXIT_FOUND;
		}
	}
	return violations == 0 ? EXIT_SUCCESS : EXIT_FOUND;
}

static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		perror("peerhub-stress: cannot raise the limit of open files");
}

static int native_create(struct spin *spin)
{
	char why[PH_WHY_BYTES];
	int status;

	spin->world_options.has_plain_decode = spin->has_p2p || spin->fail_one_of != 0;
	status = world_create(&spin->world_options, &spin->world, why);

	if (status < 0)
		fprintf(stderr, "peerhub-stress: cannot start: %s\n", why);
	else
		spin->report.audit = spin->world->audit;
	return status;
}

static int p2p_create(struct spin *spin)
{
	const struct p2p_options options = {
		.seed = spin->world_options.seed,
		.threads = (uint32_t)spin->threads - threads_native(spin),
		.connections = spin->world_options.connections,
		.is_failing = spin->fail_one_of != 0,
	};
	char why[P2P_WHY_BYTES];
	int status = p2p_spin_create(&options, &spin->p2p, why);

	if (status < 0)
		fprintf(stderr, "peerhub-stress: cannot start: %s\n", why);
	return status;
}

static int spin_start(struct spin *spin)
{
	int status;

	spin->descriptors = descriptors_count();
	status = spin->has_native ? native_create(spin) : 0;
	if (status == 0 && spin->has_p2p)
		status = p2p_create(spin);
	if (status < 0)
		return status;
	status = watch_start(
		spin->world, spin->p2p, (uint32_t)spin->patience_s * 1000u, &spin->watch);
	if (status == 0 && spin->is_filling)
		spin_fill(spin);
	fault_memory_set(spin->world_options.seed, spin->fail_one_of);
	fault_memory_spare(); /* this thread, while it starts others */
	if (status == 0 && spin->world != NULL)
		status = actors_start(spin->world, threads_native(spin), &spin->actors);
	if (status == 0 && spin->p2p != NULL)
		status = p2p_spin_start(spin->p2p);
	fault_memory_spare_end();
	if (status < 0)
		fprintf(stderr, "peerhub-stress: cannot start a thread: %s\n", strerror(-status));
	return status;
}

int spin_command(int argc, char **argv)
{
	struct spin spin = {.world = NULL};
	int result;

	result = options_parse(&spin, argc, argv);
	if (result >= 0)
		return result;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return EXIT_FOUND;
	if (spin.fail_one_of != 0 && fault_memory_take_openssl() < 0)
		return EXIT_FOUND;
	descriptors_raise();
	printf("seed %llu\n", (unsigned long long)spin.world_options.seed);
	fflush(stdout);
	random_init(&spin.random, spin.world_options.seed, UINT32_MAX);
	spin.report.seed = spin.world_options.seed;
	spin.report.command = spin.command;
	if (spin_start(&spin) < 0)
		return EXIT_FOUND; /* the process ends, and with it what did start */
	spin_run(&spin);
	spin_end(&spin);
	result = spin_report(&spin);
	p2p_spin_destroy(spin.p2p);
	world_destroy(spin.world);
	return result;
}
