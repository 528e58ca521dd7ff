/*
 * A run: forks the hub and the peers, gives the orders in turn, watches, and reports; see run.h. The
 * supervisor itself has no connection and no thread. Whatever happens it ends its processes: an abort
 * order first (they reset what they have and leave), a kill by pid for one that does not follow.
 */
#include "bench/million/run.h"

#include "bench/million/board.h"
#include "bench/million/outside.h"
#include "bench/million/preflight.h"
#include "bench/million/report.h"
#include "bench/million/side.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 20000000
#define STALL_SECONDS 180.0 /* nothing moved for so long: the run is given up */
#define SETTLE_SECONDS_MAX 30.0
#define LEAVE_SECONDS 60.0 /* what an abort may take before the kill */
#define SOCKETS_SECONDS 60.0

struct run {
	const struct plan *plan;
	struct trust *trust;
	struct board *board;
	pid_t pids[SIDES_MAX]; /* 0: not running */
	uint32_t side_count;
	struct outcome outcome;
	uint64_t begin_ns, line_ns, sockets_before;
	uint64_t phase_ns,
		phase_done; /* when what is under way began, and what had been done by then */
	uint64_t moved, moved_ns; /* the stall's watch */
	bool is_terminal;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double seconds_since(uint64_t then_ns)
{
	return (double)(now_ns() - then_ns) / 1e9;
}

static void look_later(void)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};

	nanosleep(&pause, NULL);
}

/* ---- processes --------------------------------------------------------------------------- */

static int side_launch(struct run *run, uint32_t number)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(side_run(run->plan, run->trust, run->board, number));
	run->pids[number] = pid;
	run->side_count = number + 1;
	return 0;
}

/* Notes who has ended. False: one has that should not, and it has been said. */
static bool sides_are_well(struct run *run)
{
	for (uint32_t i = 0; i < run->side_count; i++) {
		int status;

		if (atomic_load(&run->board->sides[i].state) == SIDE_FAILED) {
			fprintf(stderr, "peerhub-million: process %u: %s\n", i,
				run->board->sides[i].why);
			return false;
		}
		if (run->pids[i] != 0 && waitpid(run->pids[i], &status, WNOHANG) == run->pids[i]) {
			run->pids[i] = 0;
			fprintf(stderr, "peerhub-million: process %u has ended (%s %d)\n", i,
				WIFSIGNALED(status) ? "signal" : "exit code",
				WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
			return false;
		}
	}
	return true;
}

/* All processes end; those that do not within LEAVE_SECONDS are killed. False: one had to be, or
 * ended badly. */
static bool sides_end(struct run *run, bool abort)
{
	uint64_t begin_ns = now_ns();
	bool is_good = true;
	uint32_t left;

	atomic_store(abort ? &run->board->abort_wanted : &run->board->stop_wanted, 1);
	do {
		left = 0;
		for (uint32_t i = 0; i < run->side_count; i++) {
			int status;

			if (run->pids[i] == 0)
				continue;
			if (waitpid(run->pids[i], &status, WNOHANG) != run->pids[i]) {
				left++;
				continue;
			}
			is_good = is_good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
			run->pids[i] = 0;
		}
		if (left > 0)
			look_later();
	} while (left > 0 && seconds_since(begin_ns) < LEAVE_SECONDS);
	for (uint32_t i = 0; i < run->side_count; i++) {
		if (run->pids[i] == 0)
			continue;
		fprintf(stderr, "peerhub-million: process %u does not end, killed\n", i);
		kill(run->pids[i], SIGKILL);
		(void)waitpid(run->pids[i], NULL, 0);
		run->pids[i] = 0;
		is_good = false;
	}
	return is_good;
}

/* ---- watching ---------------------------------------------------------------------------- */

static uint64_t peers_sum(const struct run *run, size_t offset)
{
	uint64_t sum = 0;

	for (uint32_t i = 1; i < run->side_count; i++)
		sum += atomic_load((const _Atomic uint64_t *)(const void
				*)((const char *)&run->board->sides[i] + offset));
	return sum;
}
#define PEERS(run, field) peers_sum(run, offsetof(struct side, field))

static const struct side *hub_of(const struct run *run)
{
	return &run->board->sides[SIDE_HUB];
}

static void phase_begin(struct run *run, uint64_t done)
{
	run->phase_ns = now_ns();
	run->phase_done = done;
}

/* "about 12 min left" from what this phase has done so far; "" where nothing can be said yet. */
static const char *left_text(
	const struct run *run, uint64_t done, uint64_t all, char *text, size_t bytes)
{
	double seconds = seconds_since(run->phase_ns), left;

	text[0] = '\0';
	if (done <= run->phase_done || done >= all || seconds < 2)
		return text;
	left = (double)(all - done) * seconds / (double)(done - run->phase_done);
	if (left < 100)
		snprintf(text, bytes, ", about %.0f s left", left);
	else
		snprintf(text, bytes, ", about %.0f min left", left / 60);
	return text;
}

static void progress(struct run *run, const char *phase, uint64_t done, uint64_t all)
{
	double seconds = seconds_since(run->begin_ns);
	char left[64];

	if (seconds_since(run->line_ns) < (run->is_terminal ? 0.2 : 10.0))
		return;
	run->line_ns = now_ns();
	fprintf(stderr,
		"%s%s %" PRIu64 " of %" PRIu64 " (%.1f %%), %.0f s, hub open %" PRIu64
		", failed %" PRIu64 "%s%s",
		run->is_terminal ? "\r\033[K" : "", phase, done, all,
		100.0 * (double)done / (double)all, seconds,
		atomic_load(&hub_of(run)->opened) - atomic_load(&hub_of(run)->closed),
		PEERS(run, failed), left_text(run, done, all, left, sizeof(left)),
		run->is_terminal ? "" : "\n");
	fflush(stderr);
}

/* 0: go on; -EINTR, -ECHILD, -ETIMEDOUT. `moved`: what must grow. */
static int watch(struct run *run, uint64_t moved)
{
	if (interrupted)
		return -EINTR;
	if (!sides_are_well(run))
		return -ECHILD;
	if (moved != run->moved) {
		run->moved = moved;
		run->moved_ns = now_ns();
	} else if (seconds_since(run->moved_ns) > STALL_SECONDS) {
		fprintf(stderr, "peerhub-million: nothing has moved for %.0f s\n", STALL_SECONDS);
		return -ETIMEDOUT;
	}
	look_later();
	return 0;
}

static int settle(struct run *run, double seconds)
{
	uint64_t begin_ns = now_ns();
	int status = 0;

	while (status == 0 && seconds_since(begin_ns) < seconds)
		status = watch(run, now_ns());
	return status;
}

static uint64_t rss_sum(const struct run *run)
{
	struct process_memory memory;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < run->side_count; i++)
		if (process_memory_read(run->pids[i], &memory) == 0)
			sum += memory.rss;
	return sum;
}

/* Until the allocator has given back what it will: no change of 0.1 % from look to look. */
static int settle_memory(struct run *run)
{
	uint64_t begin_ns = now_ns(), before, after = rss_sum(run);
	int status;

	do {
		before = after;
		status = settle(run, run->plan->settle_seconds);
		after = rss_sum(run);
	} while (status == 0 && before > after + after / 1000 &&
		seconds_since(begin_ns) < SETTLE_SECONDS_MAX);
	return status;
}

/* ---- phases ------------------------------------------------------------------------------ */

static int sides_start(struct run *run)
{
	int status = 0;

	run->moved_ns = now_ns();
	for (uint32_t i = 0; i <= run->plan->peers && status == 0; i++) {
		status = side_launch(run, i);
		while (status == 0 && atomic_load(&run->board->sides[i].state) == SIDE_STARTING)
			status = watch(run, 0);
		if (status == 0 && !sides_are_well(run))
			status = -ECHILD;
	}
	return status;
}

static int sample(struct run *run, uint64_t connections)
{
	struct checkpoint *now = &run->outcome.checkpoints[run->outcome.checkpoint_count];
	uint32_t wanted = atomic_load(&run->board->sample_wanted) + 1;
	struct process_memory one;
	int status = 0;

	now->connections = connections;
	now->seconds = run->begin_ns != 0 ? seconds_since(run->begin_ns) : 0;
	atomic_store(&run->board->sample_wanted, wanted);
	for (uint32_t i = 0; i < run->side_count; i++) {
		struct side *side = &run->board->sides[i];
		int at = i == SIDE_HUB ? 0 : 1;

		while (status == 0 && atomic_load(&side->sample_done) != wanted)
			status = watch(run, 0);
		if (status == 0)
			status = process_memory_read(run->pids[i], &one);
		if (status < 0)
			return status;
		now->processes[at].rss += one.rss;
		now->processes[at].anonymous += one.anonymous;
		now->processes[at].page_tables += one.page_tables;
		now->cpu_us[at] += atomic_load(&side->cpu_us);
		if (i <= 1) {
			now->inside[at] = side->inside;
			now->inside_connections[at] =
				atomic_load(&side->opened) - atomic_load(&side->closed);
		}
	}
	status = machine_memory_read(&now->machine);
	if (status == 0)
		run->outcome.checkpoint_count++;
	return status;
}

/* Until so many connections are open and have had their message. */
static int open_to(struct run *run, uint64_t target)
{
	int status = 0;

	run->moved_ns = now_ns();
	phase_begin(run, PEERS(run, verified));
	atomic_store(&run->board->dial_target, target);
	for (;;) {
		uint64_t done = PEERS(run, verified);

		if (done >= target)
			break;
		progress(run, "opening", done, run->plan->connections);
		status = watch(run, done + PEERS(run, failed));
		if (status < 0)
			return status;
	}
	run->outcome.seconds_open = seconds_since(run->begin_ns);
	return settle_memory(run);
}

static int open_all(struct run *run)
{
	const struct plan *plan = run->plan;
	int status = sample(run, 0);

	run->sockets_before = run->outcome.checkpoints[0].machine.sockets;
	run->begin_ns = now_ns();
	for (uint32_t i = 0; i < plan->checkpoint_count && status == 0; i++) {
		status = open_to(run, plan->checkpoints[i]);
		if (status == 0)
			status = sample(run, plan->checkpoints[i]);
		if (status < 0)
			break;
		if (run->is_terminal)
			fprintf(stderr, "\r\033[K");
		report_checkpoint(&run->outcome.checkpoints[0],
			&run->outcome.checkpoints[run->outcome.checkpoint_count - 1], stdout);
		fflush(stdout);
	}
	return status;
}

/* Holds the closers back while the kernel has half as many orphans as it bears. */
static void orphans_watch(struct run *run, uint64_t orphans_limit)
{
	uint64_t sockets, orphans = 0, time_waits, pages;

	if (!sockets_read(&sockets, &orphans, &time_waits, &pages))
		return;
	if (orphans > run->outcome.orphans_max)
		run->outcome.orphans_max = orphans;
	atomic_store(&run->board->close_held, orphans > orphans_limit / 2 ? 1 : 0);
}

static int sockets_wait(struct run *run, uint64_t begin_ns)
{
	uint64_t sockets = UINT64_MAX, orphans, time_waits, pages, waited_ns = now_ns();
	int status = 0;

	run->outcome.seconds_sockets = -1;
	while (status == 0 && seconds_since(waited_ns) < SOCKETS_SECONDS) {
		if (!sockets_read(&sockets, &orphans, &time_waits, &pages))
			return 0;
		if (sockets <= run->sockets_before) {
			run->outcome.seconds_sockets = seconds_since(begin_ns);
			return 0;
		}
		status = watch(run, now_ns());
	}
	return status;
}

static bool all_audited(const struct run *run)
{
	for (uint32_t i = 0; i < run->side_count; i++)
		if (!atomic_load(&run->board->sides[i].audit_done))
			return false;
	return true;
}

static void close_times(struct run *run)
{
	uint64_t begin_ns = UINT64_MAX, issued_ns = 0, last_ns[2] = {0, 0}, cpu_us[2] = {0, 0};
	uint64_t slowest_ns = 0;
	const struct checkpoint *open =
		&run->outcome.checkpoints[run->outcome.checkpoint_count - 1];

	for (uint32_t i = 0; i < run->side_count; i++) {
		const struct side *side = &run->board->sides[i];
		int at = i == SIDE_HUB ? 0 : 1;
		uint64_t begin = atomic_load(&side->close_begin_ns);
		uint64_t issued = atomic_load(&side->close_issued_ns);
		uint64_t last = atomic_load(&side->closed_last_ns);

		begin_ns = begin != 0 && begin < begin_ns ? begin : begin_ns;
		issued_ns = issued > issued_ns ? issued : issued_ns;
		last_ns[at] = last > last_ns[at] ? last : last_ns[at];
		cpu_us[at] += atomic_load(&side->cpu_us);
		if (atomic_load(&side->close_slowest_ns) > slowest_ns)
			slowest_ns = atomic_load(&side->close_slowest_ns);
		run->outcome.close_holds += atomic_load(&side->close_holds);
	}
	run->outcome.seconds_slowest = (double)slowest_ns / 1e9;
	run->outcome.seconds_issued = (double)(issued_ns - begin_ns) / 1e9;
	for (int at = 0; at < 2; at++) {
		run->outcome.seconds_closed[at] = (double)(last_ns[at] - begin_ns) / 1e9;
		run->outcome.cpu_us_close[at] = cpu_us[at] - open->cpu_us[at];
	}
}

static int close_all(struct run *run)
{
	uint64_t orphans_limit = number_read("/proc/sys/net/ipv4/tcp_max_orphans", 131072);
	uint64_t begin_ns = now_ns(), looked_ns = 0;
	int status = 0;

	run->moved_ns = begin_ns;
	phase_begin(run, 0);
	atomic_store(&run->board->close_wanted, 1);
	while (status == 0 && !all_audited(run)) {
		uint64_t done = atomic_load(&hub_of(run)->closed) + PEERS(run, closed);

		progress(run, "closing", done / 2, run->plan->connections);
		/* The kernel counts orphans by walking its CPUs: not at every look. */
		if (seconds_since(looked_ns) > 0.05) {
			orphans_watch(run, orphans_limit);
			looked_ns = now_ns();
		}
		status = watch(run, done);
	}
	if (status < 0)
		return status;
	close_times(run);
	run->outcome.is_closed = true;
	if (run->is_terminal)
		fprintf(stderr, "\r\033[K");
	return sockets_wait(run, begin_ns);
}

/* ---- life -------------------------------------------------------------------------------- */

static int run_init(struct run *run, const struct plan *plan)
{
	struct sigaction action = {.sa_handler = on_signal};

	memset(run, 0, sizeof(*run));
	run->plan = plan;
	run->is_terminal = isatty(STDERR_FILENO);
	interrupted = 0;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	run->board = mmap(NULL, sizeof(*run->board), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run->board == MAP_FAILED)
		return -ENOMEM;
	run->outcome.board = run->board;
	run->outcome.checkpoints =
		calloc(plan->checkpoint_count + 1u, sizeof(*run->outcome.checkpoints));
	if (run->outcome.checkpoints == NULL || trust_create(&run->trust) < 0)
		return -ENOMEM;
	return 0;
}

static void run_fini(struct run *run)
{
	trust_destroy(run->trust);
	free(run->outcome.checkpoints);
	if (run->board != MAP_FAILED)
		munmap(run->board, sizeof(*run->board));
}

/* Through all phases; the processes have ended when it returns. 0 or a negative errno. */
static int run_phases(struct run *run)
{
	int status = sides_start(run);

	if (status == 0)
		status = open_all(run);
	if (status == 0)
		status = close_all(run);
	if (run->is_terminal)
		fprintf(stderr, "\r\033[K");
	if (!sides_end(run, status < 0) && status == 0)
		status = -ECHILD;
	return status;
}

static int exit_code(int status, bool is_good)
{
	if (status == -EINTR) {
		printf("interrupted: all connections were reset, all processes have ended\n");
		return 130;
	}
	if (status < 0) {
		printf("peerhub-million: FAILED: %s\n", strerror(-status));
		return 1;
	}
	return is_good ? 0 : 1;
}

static void run_report(struct run *run)
{
	const struct outcome *outcome = &run->outcome;
	uint32_t last = outcome->checkpoint_count - 1;

	report_kinds(&outcome->checkpoints[last > 1 ? 1 : 0], &outcome->checkpoints[last], stdout);
	printf("opening: %.1f s, %.0f a second; CPU for each connection: hub %.0f us, peers %.0f us\n",
		outcome->seconds_open, (double)run->plan->connections / outcome->seconds_open,
		(double)(outcome->checkpoints[last].cpu_us[0] - outcome->checkpoints[0].cpu_us[0]) /
			(double)run->plan->connections,
		(double)(outcome->checkpoints[last].cpu_us[1] - outcome->checkpoints[0].cpu_us[1]) /
			(double)run->plan->connections);
	report_close(run->plan, outcome, stdout);
}

int run_million(struct plan *plan)
{
	char why[PLAN_WHY_BYTES];
	struct run run;
	bool is_good = false;
	int status = plan_complete(plan, why);

	if (status < 0) {
		fprintf(stderr, "peerhub-million: %s\n", why);
		return 2;
	}
	printf("%" PRIu64
	       " connections, %s: a hub of %u shards, %u process%s of peers with %u shards "
	       "each\n",
		plan->connections, plan->tls == PH_TLS_MUTUAL ? "mutual TLS" : "no TLS",
		plan->hub_shards, plan->peers, plan->peers == 1 ? "" : "es", plan->peer_shards);
	if (!preflight(plan, stdout) && !plan->force)
		return 2;
	fflush(stdout);
	status = run_init(&run, plan);
	if (status == 0)
		status = run_phases(&run);
	if (status == 0) {
		run_report(&run);
		is_good = report_verdict(plan, &run.outcome, stdout);
		if (plan->json != NULL && report_json(plan, &run.outcome, is_good) < 0) {
			fprintf(stderr, "peerhub-million: cannot write %s\n", plan->json);
			is_good = false;
		}
		printf("peerhub-million: %s\n", is_good ? "OK" : "FAULTS FOUND");
	}
	run_fini(&run);
	return exit_code(status, is_good);
}
