/*
 * peerhub-sim: the whole engine, several hubs with their shards and users, on one thread, in a world where one
 * 64-bit number decides everything.
 *
 * Real
 *   all of engine/ but its seam, compiled once more with a place to switch threads at each atomic step
 *   (point.h); in mode tls OpenSSL too, with random numbers from the seed.
 * Simulated
 *   the kernel's rings (ring_sim.c), the network and the socket calls (net.c), clock, entropy and memory
 *   (world.c), threads, locks and their waits (fiber.c); in mode plain TLS is a stub (tls_sim.c).
 *   Users and callbacks (app.c) call the public functions at random from several threads; a switch may
 *   come in the middle of each of their steps.
 * Checked
 *   the reference model of what a caller was promised (rules 1 to 8 at the head of model.c), the engine's
 *   own invariants after every step, every turn and at rest (check.c), what a kernel would punish
 *   (ring_sim.c), use of freed memory (world.c), and at the end that nothing is left: memory, files,
 *   operations, connections. The engine's assertions count as well.
 *
 * Every seed runs in a process of its own, forked from the same beginning, so that a seed is the same run
 * whatever ran before it. A failing one writes its last steps, its number and the command that replays it.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 120u /* of one run, before it counts as hung */
#define JOBS_MAX 64u
#define COMPLETE_SEEDS 2000u /* from so many on every kind of event must have come */

enum mode {
	MODE_PLAIN,
	MODE_TLS,
	MODE_BOTH,
};
static const char *const mode_names[] = {"plain", "tls", "both"};

struct order {
	uint64_t from, count;
	enum mode mode;
	uint32_t jobs;
	uint64_t failures_max;
	bool trace, hash, quiet, twice;
	const char *list; /* a file of seeds, instead of from and count */
};
static uint64_t *last_hash; /* shared: of the run that ended last */

static const char *const event_names[] = {
#define EVENT_NAME(name) #name,
	SIM_EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

/* ---- one seed ----------------------------------------------------------------------------------- */

static void on_signal(int number)
{
	breach_report(number == SIGALRM	    ? "hang: too many seconds"
			: number == SIGABRT ? "abort: a broken promise of the engine"
					    : "crash");
	_exit(1);
}

static void signals_catch(void)
{
	static char stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESETHAND};

	(void)sigaltstack(&alternative, NULL);
	(void)sigaction(SIGABRT, &action, NULL);
	(void)sigaction(SIGALRM, &action, NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	(void)sigaction(SIGSEGV, &action, NULL);
	(void)sigaction(SIGBUS, &action, NULL);
	(void)sigaction(SIGFPE, &action, NULL);
	(void)sigaction(SIGILL, &action, NULL);
#endif
}

static bool seed_is_tls(uint64_t seed, enum mode mode)
{
	return mode == MODE_TLS || (mode == MODE_BOTH && seed % 4 == 3);
}

static _Noreturn void seed_run(uint64_t seed, const struct order *order)
{
	sim_seed = seed;
	sim_tls_is_real = seed_is_tls(seed, order->mode);
	sim_trace_all = order->trace;
	random_seed(seed);
	signals_catch();
	(void)alarm(SECONDS_MAX);
	(void)fiber_start(app_main, NULL);
	fiber_run_all();
	*last_hash = sim_trace_hash();
	if (order->hash)
		printf("seed %" PRIu64 " mode %s hash %016" PRIx64 " steps %" PRIu64 "\n", seed,
			mode_names[sim_tls_is_real], sim_trace_hash(), sim_steps);
	fflush(stdout);
	_exit(0);
}

/* ---- many seeds ------------------------------------------------------------------------------------ */

struct job {
	pid_t process; /* 0: none */
	uint64_t seed;
};

static bool job_start(struct job *job, uint64_t seed, const struct order *order)
{
	pid_t process;

	fflush(stdout);
	process = fork();
	if (process < 0) {
		fprintf(stderr, "sim: fork: %s\n", strerror(errno));
		return false;
	}
	if (process == 0)
		seed_run(seed, order);
	job->process = process;
	job->seed = seed;
	return true;
}

/* Wait for any of them. 1: it failed, 0: it did not, -1: there is none. */
static int job_end(struct job *jobs, const struct order *order)
{
	int status;
	pid_t process = wait(&status);

	if (process < 0)
		return -1;
	for (uint32_t i = 0; i < order->jobs; i++) {
		if (jobs[i].process != process)
			continue;
		jobs[i].process = 0;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return 0;
		if (WIFEXITED(status))
			printf("sim: FAILED seed %" PRIu64 " mode %s (exit code %d)\n",
				jobs[i].seed, mode_names[seed_is_tls(jobs[i].seed, order->mode)],
				WEXITSTATUS(status));
		else
			printf("sim: FAILED seed %" PRIu64 " mode %s (signal %d)\n", jobs[i].seed,
				mode_names[seed_is_tls(jobs[i].seed, order->mode)],
				WTERMSIG(status));
		return 1;
	}
	return 0;
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool counts_print(const struct order *order, bool is_whole)
{
	bool complete = true;

	for (int i = 0; i < SIM_EVENT_COUNT; i++) {
		if (!order->quiet)
			printf("  %-26s %12" PRIu64 "%s", event_names[i], sim_counts[i],
				i % 3 == 2 || i == SIM_EVENT_COUNT - 1 ? "\n" : "");
		/* The cancel of a send is rare: it takes a quiet end while the kernel holds our bytes. */
		if (is_whole && sim_counts[i] == 0 && order->mode == MODE_BOTH &&
			order->count >= COMPLETE_SEEDS * (i == SIM_cancel_partial_send ? 10 : 1)) {
			printf("%ssim: %s never happened in %" PRIu64 " seeds\n",
				order->quiet ? "" : "\n", event_names[i], order->count);
			complete = false;
		}
	}
	return complete;
}

/* Every seed twice, one after the other: the same run to the last step. */
static int seeds_replay(const struct order *order)
{
	struct job job = {0};

	for (uint64_t i = 0; i < order->count; i++) {
		uint64_t hash[2];

		for (int run = 0; run < 2; run++) {
			if (!job_start(&job, order->from + i, order))
				return 2;
			if (job_end(&job, order) != 0)
				return 1;
			hash[run] = *last_hash;
		}
		if (hash[0] != hash[1]) {
			printf("sim: seed %" PRIu64 " mode %s is not the same run twice\n",
				order->from + i,
				mode_names[seed_is_tls(order->from + i, order->mode)]);
			return 1;
		}
	}
	printf("sim: %" PRIu64 " seeds from %" PRIu64 " replayed\n", order->count, order->from);
	return 0;
}

/* Lines `seed mode`, the rest of a line after # is a remark. */
static int list_run(const struct order *order)
{
	FILE *file = fopen(order->list, "r");
	char line[512], mode[16];
	uint64_t seed, count = 0;
	int status = 0;

	if (file == NULL) {
		fprintf(stderr, "sim: %s: %s\n", order->list, strerror(errno));
		return 2;
	}
	while (status == 0 && fgets(line, sizeof(line), file) != NULL) {
		struct order one = *order;
		struct job job = {0};

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (sscanf(line, "%" SCNu64 " %15s", &seed, mode) != 2 ||
			(strcmp(mode, "tls") != 0 && strcmp(mode, "plain") != 0)) {
			fprintf(stderr, "sim: %s: not a seed and a mode: %s", order->list, line);
			status = 2;
			break;
		}
		one.mode = strcmp(mode, "tls") == 0 ? MODE_TLS : MODE_PLAIN;
		one.jobs = 1;
		status = !job_start(&job, seed, &one) ? 2 : job_end(&job, &one);
		count++;
	}
	(void)fclose(file);
	printf("sim: %" PRIu64 " kept seeds\n", count);
	return status;
}

static int seeds_run(const struct order *order)
{
	struct job jobs[JOBS_MAX] = {{0}};
	uint64_t begun = 0, failed = 0, ended = 0;
	double start = seconds_now(), spent;
	struct rusage usage;
	bool complete;

	while (begun < order->count || begun > ended) {
		uint32_t running = (uint32_t)(begun - ended), at = 0;
		int status;

		if (begun < order->count && running < order->jobs && failed < order->failures_max) {
			while (jobs[at].process != 0)
				at++;
			if (!job_start(&jobs[at], order->from + begun, order))
				return 2;
			begun++;
			continue;
		}
		if (running == 0)
			break;
		status = job_end(jobs, order);
		if (status < 0)
			break;
		ended++;
		failed += (uint64_t)status;
	}
	spent = seconds_now() - start;
	complete = counts_print(order, failed == 0) || failed > 0;
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("sim: seeds %" PRIu64 " from %" PRIu64 " mode %s: %" PRIu64
	       " failed, %.1f s, %.1f seeds/s, CPU %.1f s\n",
		ended, order->from, mode_names[order->mode], failed, spent,
		(double)ended / (spent > 0 ? spent : 1),
		(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	return failed > 0 || !complete;
}

/* ---- command line ------------------------------------------------------------------------------------ */

static _Noreturn void usage(int code)
{
	fprintf(code == 0 ? stdout : stderr,
		"usage: peerhub-sim --seeds FROM COUNT [--mode plain|tls|both] [--jobs J]\n"
		"                   [--failures N] [--quiet] [--hash] [--twice]\n"
		"       peerhub-sim --seed SEED [--mode plain|tls|both] [--trace] [--hash]\n"
		"       peerhub-sim --list FILE\n"
		"Simulates the whole engine; docs/simulator.md explains it. Exit code 0: no rule was\n"
		"broken; 1: one was (or a kind of event never came in %u seeds or more); 2: not run.\n"
		"  --seeds   run COUNT seeds, from FROM on; FROM may be 'random'\n"
		"  --mode    both: every fourth seed with the real TLS, the others with a stub\n"
		"  --failures  stop after so many failing seeds (1)\n"
		"  --twice   run each seed twice and compare\n"
		"  --list    run the seeds of a file, a seed and its mode on each line\n"
		"  --trace   write every step; --hash a number that tells two runs apart\n",
		COMPLETE_SEEDS);
	exit(code);
}

static uint64_t number_of(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0')
		usage(2);
	return value;
}

static enum mode mode_of(const char *text)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(text, mode_names[i]) == 0)
			return (enum mode)i;
	usage(2);
}

int main(int argc, char **argv)
{
	struct order order = {.mode = MODE_BOTH, .jobs = 1, .failures_max = 1};
	bool given = false;

	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];

		if (strcmp(name, "--help") == 0)
			usage(0);
		if (strcmp(name, "--trace") == 0) {
			order.trace = true;
		} else if (strcmp(name, "--hash") == 0) {
			order.hash = true;
		} else if (strcmp(name, "--quiet") == 0) {
			order.quiet = true;
		} else if (strcmp(name, "--twice") == 0) {
			order.twice = true;
		} else if (i + 1 >= argc) {
			usage(2);
		} else if (strcmp(name, "--seed") == 0) {
			order.from = number_of(argv[++i]);
			order.count = 1;
			given = true;
		} else if (strcmp(name, "--seeds") == 0 && i + 2 < argc) {
			i++;
			order.from = strcmp(argv[i], "random") == 0
				? (uint64_t)time(NULL) * 1000000u +
					(uint64_t)getpid() % 1000u * 1000u
				: number_of(argv[i]);
			order.count = number_of(argv[++i]);
			given = true;
		} else if (strcmp(name, "--list") == 0) {
			order.list = argv[++i];
			given = true;
		} else if (strcmp(name, "--mode") == 0) {
			order.mode = mode_of(argv[++i]);
		} else if (strcmp(name, "--jobs") == 0) {
			order.jobs = (uint32_t)number_of(argv[++i]);
		} else if (strcmp(name, "--failures") == 0) {
			order.failures_max = number_of(argv[++i]);
		} else {
			usage(2);
		}
	}
	if (!given || order.jobs == 0 || order.jobs > JOBS_MAX || order.failures_max == 0)
		usage(2);
	sim_counts = mmap(NULL, (SIM_EVENT_COUNT + 1) * sizeof(*sim_counts), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sim_counts == MAP_FAILED) {
		perror("sim: mmap");
		return 2;
	}
	last_hash = &sim_counts[SIM_EVENT_COUNT];
	random_seed(1);
	app_init();
	if (order.list != NULL)
		return list_run(&order);
	if (order.twice) {
		order.jobs = 1;
		return seeds_replay(&order);
	}
	printf("sim: seeds from %" PRIu64 "\n", order.from);
	return seeds_run(&order);
}
