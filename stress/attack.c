/*
 * `peerhub-stress attack`: runs the attacks that were named, one after the other, and shows for each what
 * was tried, what had to happen, what was seen, how much memory it took and how honest peers fared.
 */
#include "attack.h"

#include "attack_pki.h"
#include "command.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FAULTS_SHOWN 20u /* of one attack; all are counted */
#define PATIENCE_S 600u /* one attack may take so long; its own limits are far below */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BUILD_IS_LIGHT true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BUILD_IS_LIGHT true
#endif
#endif
#ifndef BUILD_IS_LIGHT
#define BUILD_IS_LIGHT false
#endif

struct attack {
	const char *name;
	const char *what;
	attack_function *run;
	bool may_be_remote;
};

/* clang-format off */
static const struct attack attacks[] = {
	{"silent", "handshakes that never say a byte", attack_silent, true},
	{"trickle", "handshakes that say a byte a second", attack_trickle, true},
	{"half-open", "more silent connections than there is room for", attack_half_open, false},
	{"vanish", "connect, and be gone: with and without a reset", attack_vanish, true},
	{"backlog", "an accept queue that overflows", attack_backlog, false},
	{"table", "a table of connections that is full", attack_table, false},
	{"descriptors", "no descriptor left to accept with", attack_descriptors, false},
	{"stalled", "readers that stop reading among many that read", attack_stalled, false},
	{"goodbye", "a peer that reads nothing during a graceful close", attack_goodbye, false},
	{"messages", "oversized, truncated, overlapping, unknown, misplaced messages", attack_messages, false},
	{"growth", "huge messages announced and never sent", attack_growth, false},
	{"pings", "floods of pings", attack_pings, true},
	{"resets", "a reset at each step of the protocol", attack_resets, true},
	{"key-updates", "floods of KeyUpdate, read and unread", attack_key_updates, false},
	{"records", "floods of alerts, of empty records, of padding; renegotiation", attack_records, false},
	{"early", "early data, old TLS, ClientHellos that are none", attack_early, false},
	{"ids", "ids guessed, and used with a stranger's tag", attack_ids, false},
	{"groups", "ids of one p2p group used through another", attack_groups, false},
	{"duplicates", "one identity that connects in turn and at once", attack_duplicates, false},
	{"chains", "hostile certificate chains", attack_chains, false},
	{"storm", "many clients that give up after a second and come back at once", attack_storm, false},
};
/* clang-format on */
#define ATTACK_COUNT (sizeof(attacks) / sizeof(attacks[0]))

static const char usage_text[] =
	"usage: peerhub-stress attack [NAME... | all] [options]\n"
	"\n"
	"Attacks a hub of this process (or another one) over loopback with plain sockets and with TLS\n"
	"clients that do what nobody should, while honest peers use it. Without a name: all.\n"
	"\n"
	"  --list              the attacks and what each does\n"
	"  --full              full size, times and ratios judged; default: small, safety judged only\n"
	"  --seed S            repeat the choices of an earlier run (default: a new one, printed)\n"
	"  --remote HOST:PORT  attack a peerhub-echo --framing message there; only what can be seen\n"
	"                      from outside is judged, and attacks that need more are left out\n"
	"  --tls none|mutual   with --remote; default mutual\n"
	"  --cert, --key, --ca with --remote and mutual TLS: PEM files as peerhub-echo takes them\n"
	"  --patience S        seconds after which an attack that does not end is a hang (default 600)\n"
	"  --json FILE         write the result as JSON, too\n"
	"  --help              this text\n"
	"\n"
	"Exit codes: 0 every attack was withstood, 1 one was not, 2 wrong command line, 3 a hang (the\n"
	"hub's state is on standard error), 4 it could not run.\n";

struct options {
	bool is_chosen[ATTACK_COUNT];
	bool is_full, is_remote;
	enum ph_tls tls;
	ph_address remote;
	uint64_t seed, patience_s;
	const char *json_path, *cert, *key, *ca;
};

/* ---- what attacks use -------------------------------------------------------------------- */

static void text_put(char *text, size_t bytes, const char *format, va_list arguments)
{
	size_t have = strlen(text);

	if (have + 1 < bytes)
		vsnprintf(text + have, bytes - have, format, arguments);
}

#define TEXT_PUT(text)                                           \
	do {                                                     \
		va_list arguments;                               \
                                                                 \
		va_start(arguments, format);                     \
		text_put(text, sizeof(text), format, arguments); \
		va_end(arguments);                               \
	} while (0)

void attack_fault(struct attack_run *run, const char *format, ...)
{
	char text[sizeof(run->fault)] = "";

	TEXT_PUT(text);
	if (run->fault_count++ == 0)
		memcpy(run->fault, text, sizeof(run->fault));
	if (run->fault_count <= FAULTS_SHOWN)
		fprintf(stderr, "%s: %s\n", run->name, text);
}

void attack_tried(struct attack_run *run, const char *format, ...)
{
	run->tried[0] = '\0';
	TEXT_PUT(run->tried);
}

void attack_expected(struct attack_run *run, const char *format, ...)
{
	run->expected[0] = '\0';
	TEXT_PUT(run->expected);
}

void attack_seen(struct attack_run *run, const char *format, ...)
{
	if (run->seen[0] != '\0')
		strncat(run->seen, "; ", sizeof(run->seen) - strlen(run->seen) - 1);
	TEXT_PUT(run->seen);
}

uint64_t attack_memory_now(void)
{
	unsigned long total = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%lu %lu", &total, &resident) != 2)
		resident = 0;
	fclose(file);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void attack_memory(struct attack_run *run)
{
	uint64_t now = attack_memory_now();

	if (now > run->memory_peak)
		run->memory_peak = now;
}

uint64_t attack_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t attack_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void attack_sleep_ms(uint32_t ms)
{
	const struct timespec duration = {
		.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000l};

	nanosleep(&duration, NULL);
}

uint32_t attack_size(const struct attack_run *run, uint32_t full, uint32_t small, uint32_t light)
{
	return run->is_full ? full : run->is_light ? light : small;
}

/* ---- command line ------------------------------------------------------------------------ */

static int usage_fail(const char *what, const char *value)
{
	fprintf(stderr, "peerhub-stress attack: %s%s%s\n", what, value[0] != '\0' ? ": " : "",
		value);
	fputs("peerhub-stress attack --help shows the options.\n", stderr);
	return EXIT_USAGE;
}

static int list_show(void)
{
	for (size_t i = 0; i < ATTACK_COUNT; i++)
		printf("%-12s %s%s\n", attacks[i].name, attacks[i].what,
			attacks[i].may_be_remote ? " (also --remote)" : "");
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED;
}

static int name_choose(struct options *options, const char *name)
{
	bool is_all = strcmp(name, "all") == 0, is_found = false;

	for (size_t i = 0; i < ATTACK_COUNT; i++) {
		if (!is_all && strcmp(name, attacks[i].name) != 0)
			continue;
		options->is_chosen[i] = is_found = true;
	}
	return is_found ? -1 : usage_fail("no such attack", name);
}

enum {
	OPTION_LIST = 1,
	OPTION_FULL,
	OPTION_SEED,
	OPTION_REMOTE,
	OPTION_TLS,
	OPTION_CERT,
	OPTION_KEY,
	OPTION_CA,
	OPTION_PATIENCE,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{"list", no_argument, NULL, OPTION_LIST},
	{"full", no_argument, NULL, OPTION_FULL},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"remote", required_argument, NULL, OPTION_REMOTE},
	{"tls", required_argument, NULL, OPTION_TLS},
	{"cert", required_argument, NULL, OPTION_CERT},
	{"key", required_argument, NULL, OPTION_KEY},
	{"ca", required_argument, NULL, OPTION_CA},
	{"patience", required_argument, NULL, OPTION_PATIENCE},
	{"json", required_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0},
};

/* An exit code, or -1: go on. */
static int option_take(struct options *options, int option, char *value)
{
	switch (option) {
	case OPTION_LIST:
		return list_show();
	case OPTION_FULL:
		options->is_full = true;
		return -1;
	case OPTION_SEED:
		return number_parse(value, 0, UINT64_MAX, &options->seed) < 0
			? usage_fail("not a seed", value)
			: -1;
	case OPTION_REMOTE:
		options->is_remote = true;
		return ph_address_parse(value, &options->remote) < 0
			? usage_fail("not an address", value)
			: -1;
	case OPTION_TLS:
		if (strcmp(value, "none") != 0 && strcmp(value, "mutual") != 0)
			return usage_fail("--tls is none or mutual", value);
		options->tls = value[0] == 'n' ? PH_TLS_NONE : PH_TLS_MUTUAL;
		return -1;
	case OPTION_CERT:
		options->cert = value;
		return -1;
	case OPTION_KEY:
		options->key = value;
		return -1;
	case OPTION_CA:
		options->ca = value;
		return -1;
	case OPTION_PATIENCE:
		return number_parse(value, 1, 86400, &options->patience_s) < 0
			? usage_fail("not a number of seconds", value)
			: -1;
	case OPTION_JSON:
		options->json_path = value;
		return -1;
	case OPTION_HELP:
		fputs(usage_text, stdout);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILED;
	default:
		return EXIT_USAGE; /* getopt has said why */
	}
}

static int options_parse(struct options *options, int argc, char **argv)
{
	bool has_files;
	int option, result = -1;

	optind = 1;
	while (result < 0 && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		result = option_take(options, option, optarg);
	if (result >= 0)
		return result;
	if (optind == argc)
		result = name_choose(options, "all");
	for (int i = optind; result < 0 && i < argc; i++)
		result = name_choose(options, argv[i]);
	if (result >= 0)
		return result;
	has_files = options->cert != NULL && options->key != NULL && options->ca != NULL;
	if (!options->is_remote &&
		(options->cert != NULL || options->key != NULL || options->ca != NULL ||
			options->tls != PH_TLS_MUTUAL))
		return usage_fail("--tls, --cert, --key and --ca go with --remote", "");
	if (options->is_remote && options->tls == PH_TLS_MUTUAL && !has_files)
		return usage_fail("--remote with mutual TLS needs --cert, --key and --ca", "");
	return -1;
}

/* ---- watchdog ---------------------------------------------------------------------------- */

/* An attack that does not end is a hang: its limits are far below this one. */
struct guard {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	struct attack_run *run; /* now; NULL between two */
	uint64_t end_ns, patience_s;
	bool is_ending;
};

static void *guard_main(void *argument)
{
	struct guard *guard = argument;
	struct timespec until;
	struct ph_hub *hub;

	pthread_mutex_lock(&guard->lock);
	while (!guard->is_ending) {
		if (guard->run != NULL && attack_now_ns() > guard->end_ns) {
			fprintf(stderr, "HANG: %s does not end; its hub:\n", guard->run->name);
			fflush(stderr);
			hub = atomic_load(&guard->run->watched);
			if (hub != NULL)
				ph_hub_dump(hub, STDERR_FILENO);
			_exit(EXIT_HANG);
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 1;
		pthread_cond_timedwait(&guard->wake, &guard->lock, &until);
	}
	pthread_mutex_unlock(&guard->lock);
	return NULL;
}

static void guard_set(struct guard *guard, struct attack_run *run)
{
	pthread_mutex_lock(&guard->lock);
	guard->run = run;
	guard->end_ns = attack_now_ns() + guard->patience_s * 1000000000ull;
	pthread_mutex_unlock(&guard->lock);
}

static bool guard_start(struct guard *guard, uint64_t patience_s)
{
	memset(guard, 0, sizeof(*guard));
	guard->patience_s = patience_s;
	pthread_mutex_init(&guard->lock, NULL);
	pthread_cond_init(&guard->wake, NULL);
	return pthread_create(&guard->thread, NULL, guard_main, guard) == 0;
}

static void guard_stop(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	guard->is_ending = true;
	pthread_cond_signal(&guard->wake);
	pthread_mutex_unlock(&guard->lock);
	pthread_join(guard->thread, NULL);
	pthread_cond_destroy(&guard->wake);
	pthread_mutex_destroy(&guard->lock);
}

/* ---- the table --------------------------------------------------------------------------- */

static const char *verdict_of(const struct attack_run *run)
{
	return run->fault_count > 0 ? "BROKEN" : run->is_skipped ? "left out" : "held";
}

static double memory_mib(const struct attack_run *run)
{
	return run->memory_peak > run->memory_begin
		? (double)(run->memory_peak - run->memory_begin) / (1 << 20)
		: 0;
}

static void row_show(const struct attack_run *run)
{
	printf("%-12s %s\n", run->name, verdict_of(run));
	printf("  tried      %s\n  expected   %s\n  seen       %s\n", run->tried, run->expected,
		run->seen);
	printf("  memory     %.1f MiB more at the peak\n  honest     %s\n", memory_mib(run),
		run->honest[0] != '\0' ? run->honest : "none beside");
	if (run->fault_count > 0)
		printf("  faults     %u, first: %s\n", run->fault_count, run->fault);
	fflush(stdout);
}

static void json_text(FILE *out, const char *name, const char *text, const char *tail)
{
	fprintf(out, "\"%s\": \"", name);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(out, "\\u%04x", (unsigned char)*text);
		else
			fputc(*text, out);
	}
	fprintf(out, "\"%s", tail);
}

static int json_write(const struct options *options, const struct attack_run *runs, size_t count)
{
	FILE *out = fopen(options->json_path, "we");
	int status = 0;

	if (out == NULL)
		return -errno;
	fprintf(out, "{\n  \"seed\": %llu,\n  \"full\": %s,\n  \"attacks\": [",
		(unsigned long long)options->seed, options->is_full ? "true" : "false");
	for (size_t i = 0; i < count; i++) {
		fprintf(out, "%s\n    {", i == 0 ? "" : ",");
		json_text(out, "name", runs[i].name, ", ");
		json_text(out, "verdict", verdict_of(&runs[i]), ", ");
		json_text(out, "tried", runs[i].tried, ", ");
		json_text(out, "expected", runs[i].expected, ", ");
		json_text(out, "seen", runs[i].seen, ", ");
		json_text(out, "honest", runs[i].honest, ", ");
		json_text(out, "fault", runs[i].fault, ", ");
		fprintf(out, "\"memory_mib\": %.1f, \"faults\": %u}", memory_mib(&runs[i]),
			runs[i].fault_count);
	}
	fprintf(out, "\n  ]\n}\n");
	if (ferror(out) != 0)
		status = -EIO;
	if (fclose(out) != 0 && status == 0)
		status = -errno;
	return status;
}

/* ---- run --------------------------------------------------------------------------------- */

static void run_init(struct attack_run *run, const struct options *options, struct pki *pki,
	const struct attack *attack)
{
	memset(run, 0, sizeof(*run));
	run->name = attack->name;
	run->is_full = options->is_full;
	run->is_light = BUILD_IS_LIGHT;
	run->is_remote = options->is_remote;
	run->tls = options->tls;
	run->remote = options->remote;
	run->pki = pki;
	random_init(&run->random, options->seed, (uint64_t)(attack - attacks));
	if (options->is_remote && !attack->may_be_remote) {
		run->is_skipped = true;
		attack_seen(run, "needs a hub of this process");
	}
}

/* Runs those that were chosen; the exit code. */
static int attacks_run(const struct options *options, struct pki *pki, struct guard *guard)
{
	static struct attack_run runs[ATTACK_COUNT];
	unsigned broken = 0, held = 0;
	size_t count = 0;
	int status;

	for (size_t i = 0; i < ATTACK_COUNT; i++) {
		struct attack_run *run = &runs[count];

		if (!options->is_chosen[i])
			continue;
		count++;
		run_init(run, options, pki, &attacks[i]);
		guard_set(guard, run);
		if (!run->is_skipped)
			attacks[i].run(run);
		guard_set(guard, NULL);
		row_show(run);
		broken += run->fault_count > 0;
		held += run->fault_count == 0 && !run->is_skipped;
	}
	printf("attacks %zu, held %u, broken %u\n%s\n", count, held, broken,
		broken == 0 ? "OK" : "FAILED");
	if (options->json_path != NULL) {
		status = json_write(options, runs, count);
		if (status < 0) {
			fprintf(stderr, "peerhub-stress: %s: %s\n", options->json_path,
				strerror(-status));
			return EXIT_FAILED;
		}
	}
	return broken == 0 ? EXIT_SUCCESS : EXIT_FOUND;
}

static struct pki *parties_create(const struct options *options)
{
	struct pki *pki = NULL;
	char why[512] = "the crypto library refused";
	int status = 0;

	if (!options->is_remote)
		status = pki_create(&pki);
	else if (options->tls == PH_TLS_MUTUAL)
		status = pki_create_files(options->cert, options->key, options->ca, &pki, why);
	else
		status = pki_create(&pki); /* unused, but there */
	if (status < 0) {
		fprintf(stderr, "peerhub-stress: %s\n", why);
		return NULL;
	}
	return pki;
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

int attack_command(int argc, char **argv)
{
	struct options options = {.patience_s = PATIENCE_S, .tls = PH_TLS_MUTUAL};
	struct guard guard;
	struct pki *pki;
	int result;

	if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed))
		options.seed = attack_now_ns();
	options.seed &= UINT32_MAX;
	result = options_parse(&options, argc, argv);
	if (result >= 0)
		return result;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return EXIT_FAILED;
	descriptors_raise();
	printf("seed %llu\n", (unsigned long long)options.seed);
	fflush(stdout);
	pki = parties_create(&options);
	if (pki == NULL)
		return EXIT_FAILED;
	if (!guard_start(&guard, options.patience_s)) {
		fprintf(stderr, "peerhub-stress: cannot start a thread\n");
		pki_destroy(pki);
		return EXIT_FAILED;
	}
	result = attacks_run(&options, pki, &guard);
	guard_stop(&guard);
	pki_destroy(pki);
	return result;
}
