/*
 * store_crash: kill processes that change a store, and look at what the next one finds.
 *
 *   store_crash [--kills N] [--damages N] [--seed S] [--home DIR] [--progress]
 *
 * Each round starts one worker, or two at once, on the same store; one dies, by a kill from outside after
 * a random time or inside a chosen system call (points.h), or it meets a disk that is full or fails, and
 * lives: then the operation must have been refused and have changed nothing. Sometimes the process that recovers is killed
 * as well. Then a fresh process opens the store, proves that all of it can be used, and tells what it
 * found; this must be exactly what was acknowledged, with each operation under way whole or absent.
 * The store goes on from round to round. A round is decided by its seed, but for the kills from outside.
 * Then copies of the store are damaged (damage.h). Exit code 0: every round was good.
 */
#include "stress/random.h"
#include "stress/scratch.h"
#include "tests/crash/damage.h"
#include "tests/crash/points.h"
#include "tests/crash/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX 2u
#define OPERATIONS_MAX 24u /* of one life */
#define POINT_MAX 160u /* system calls of about as many operations */
#define RECOVERY_POINT_MAX 24u /* a recovery has that few */
#define KILL_US_MAX 60000u
#define RECOVERY_KILL_US_MAX 30000u
#define RECORDS_MAX (2u * OPERATIONS_MAX + 8u)
#define CHILD_MS_MAX 120000 /* a child that takes longer hangs */
#define PROGRESS_S 5

struct child {
	pid_t pid;
	int fd; /* its reports */
	bool killed; /* it died as planned, by SIGKILL */
	uint32_t record_count;
	struct record records[RECORDS_MAX];
};

/* What befalls the first worker of a round. */
enum trouble {
	TROUBLE_KILL, /* from outside, after a random time */
	TROUBLE_INSIDE, /* in a chosen system call */
	TROUBLE_DISK, /* the disk becomes full, or fails for a moment */
};

struct run {
	const char *program;
	char home[256];
	bool keeps_home; /* given by the caller */
	uint64_t seed, damages, kills, kills_max, rounds, recoveries_killed, operations,
		operations_failed, pairs, inside;
	uint64_t per_operation[OPERATION_COUNT];
	bool shows_progress;
	struct random random;
	struct model should;
};

/* ---- children ------------------------------------------------------------------------------ */

static bool child_start(struct run *run, struct child *child, const char *what,
	const struct worker_options *options)
{
	char text[6][32];
	int ends[2];

	*child = (struct child){.fd = -1};
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	snprintf(text[0], sizeof(text[0]), "%" PRIu64, options->seed);
	snprintf(text[1], sizeof(text[1]), "%u", options->index);
	snprintf(text[2], sizeof(text[2]), "%u", options->operations);
	snprintf(text[3], sizeof(text[3]), "%" PRIu64, options->die_at);
	snprintf(text[4], sizeof(text[4]), "%u", options->die_when);
	child->pid = fork();
	if (child->pid == 0) {
		int fd = dup(ends[1]); /* without CLOEXEC */

		snprintf(text[5], sizeof(text[5]), "%d", fd);
		execl(run->program, run->program, what,
			options->home != NULL ? options->home : run->home, text[0], text[1],
			text[2], text[3], text[4], text[5], (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	child->fd = ends[0];
	return child->pid > 0;
}

static uint64_t now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

/* Read records until the child is gone; kill it when kill_us have passed (0: never). */
static bool child_follow(struct child *child, uint64_t kill_us)
{
	uint64_t begin_us = now_us();

	for (;;) {
		struct pollfd poll_fd = {.fd = child->fd, .events = POLLIN};
		uint64_t spent_us = now_us() - begin_us;
		struct timespec wait = {.tv_sec = CHILD_MS_MAX / 1000};
		struct record record;
		ssize_t got;

		if (kill_us != 0 && spent_us >= kill_us) {
			(void)kill(child->pid, SIGKILL);
			kill_us = 0;
		}
		if (kill_us != 0)
			wait = (struct timespec){
				.tv_nsec = (long)((kill_us - spent_us) * 1000u % 1000000000u)};
		got = ppoll(&poll_fd, 1, &wait, NULL);
		if (got == 0 && kill_us == 0) {
			fprintf(stderr, "crash: a child hangs\n");
			(void)kill(child->pid, SIGKILL);
			return false;
		}
		if (got <= 0)
			continue;
		got = read(child->fd, &record, sizeof(record));
		if (got == 0)
			return true;
		if (got != (ssize_t)sizeof(record) || child->record_count == RECORDS_MAX) {
			fprintf(stderr, "crash: a report of %zd bytes\n", got);
			return false;
		}
		child->records[child->record_count++] = record;
	}
}

/* Its exit code; the signal that ended it as a negative number. */
static int child_status(struct child *child)
{
	int status = 0;
	pid_t pid;

	close(child->fd);
	do
		pid = waitpid(child->pid, &status, 0);
	while (pid < 0 && errno == EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* true: it ended by itself with 0, or by SIGKILL. */
static bool child_reap(struct child *child)
{
	int status = child_status(child);

	child->killed = status == -SIGKILL;
	if (child->killed || status == 0)
		return true;
	fprintf(stderr, "crash: a child ended with %d\n", status);
	return false;
}

/* ---- what was acknowledged ----------------------------------------------------------------- */

/* Apply what is done; the operation under way, if any, is left in *pending. */
static bool child_account(struct run *run, const struct child *child, struct record *pending)
{
	*pending = (struct record){0};
	for (uint32_t i = 0; i < child->record_count; i++) {
		const struct record *record = &child->records[i];

		if (record->phase == RECORD_INTENT) {
			*pending = *record;
			continue;
		}
		if (record->phase == RECORD_FAILED && pending->phase == RECORD_INTENT &&
			record->operation == pending->operation) {
			pending->phase = 0;
			run->operations_failed++;
			continue;
		}
		if (pending->phase == 0 || record->phase != RECORD_DONE ||
			record->operation != pending->operation ||
			!model_apply(&run->should, record)) {
			fprintf(stderr, "crash: a report that makes no sense: %s\n",
				operation_name(record->operation));
			return false;
		}
		pending->phase = 0;
		run->operations++;
		run->per_operation[record->operation]++;
	}
	return true;
}

static void child_trace(const struct child *child, uint32_t index)
{
	for (uint32_t i = 0; i < child->record_count; i++)
		fprintf(stderr, "crash: worker %u: %s %s '%s' %.12s %.12s\n", index,
			child->records[i].phase == RECORD_DONE		   ? "done"
				: child->records[i].phase == RECORD_FAILED ? "fails"
									   : "begins",
			operation_name(child->records[i].operation), child->records[i].text,
			child->records[i].identity, child->records[i].group);
}

/* ---- a round ------------------------------------------------------------------------------- */

/* Of two workers the first is meant to die; the other goes on to its end. */
static bool workers_run(
	struct run *run, struct child *children, uint32_t count, enum trouble trouble)
{
	uint64_t kill_us =
		trouble == TROUBLE_KILL ? 1 + random_below(&run->random, KILL_US_MAX) : 0;
	bool good = true;

	for (uint32_t i = 0; i < count; i++) {
		struct worker_options options = {.seed = random_next(&run->random) >> 16,
			.index = i,
			.operations = i == 0 ? OPERATIONS_MAX : 1 + OPERATIONS_MAX / 4};

		if (i == 0 && trouble != TROUBLE_KILL)
			options.die_at = 1 + random_below(&run->random, POINT_MAX);
		if (i == 0 && trouble == TROUBLE_INSIDE)
			options.die_when = random_below(&run->random, POINTS_DEATHS);
		if (i == 0 && trouble == TROUBLE_DISK)
			options.die_when = POINTS_FULL + random_below(&run->random, 2);
		if (!child_start(run, &children[i], "--worker", &options))
			return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		good &= child_follow(&children[i], i == 0 ? kill_us : 0);
		good &= child_reap(&children[i]);
	}
	return good;
}

/* A process that opens the store, and dies over it. */
static bool recovery_killed(struct run *run)
{
	struct worker_options options = {0};
	struct child child;
	uint64_t kill_us = 0;
	uint8_t rest[4096];
	bool good;

	if (random_below(&run->random, 2) == 0) {
		options.die_at = 1 + random_below(&run->random, RECOVERY_POINT_MAX);
		options.die_when = random_below(&run->random, POINTS_DEATHS);
	} else {
		kill_us = 1 + random_below(&run->random, RECOVERY_KILL_US_MAX);
	}
	if (!child_start(run, &child, "--check", &options))
		return false;
	if (kill_us != 0) {
		usleep((useconds_t)kill_us);
		(void)kill(child.pid, SIGKILL);
	}
	while (read(child.fd, rest, sizeof(rest)) > 0)
		; /* what it found is of no interest: the next one tells */
	good = child_reap(&child);
	run->recoveries_killed += child.killed;
	return good;
}

static bool recovery(struct run *run, struct model *found)
{
	struct worker_options options = {0};
	struct child child;
	bool good;

	if (!child_start(run, &child, "--check", &options))
		return false;
	good = checker_read(child.fd, found);
	return child_reap(&child) && good && !child.killed;
}

static bool round_run(struct run *run, struct child *children)
{
	static struct model found;
	struct record pending[WORKERS_MAX];
	uint32_t count = random_below(&run->random, 4) == 0 ? 2 : 1;
	uint32_t dice = random_below(&run->random, 10);
	enum trouble trouble = dice < 4 ? TROUBLE_INSIDE : dice < 8 ? TROUBLE_KILL : TROUBLE_DISK;
	bool good = workers_run(run, children, count, trouble);

	for (uint32_t i = 0; i < count; i++)
		good = good && child_account(run, &children[i], &pending[i]);
	for (uint32_t i = 0; good && i < 3 && random_below(&run->random, 3) == 0; i++)
		good = recovery_killed(run);
	good = good && recovery(run, &found) && model_compare(&run->should, &found, pending, count);
	if (!good) {
		for (uint32_t i = 0; i < count; i++)
			child_trace(&children[i], i);
		return false;
	}
	run->should = found;
	run->kills += children[0].killed;
	run->inside += children[0].killed && trouble == TROUBLE_INSIDE;
	run->pairs += children[0].killed && count == 2;
	return true;
}

static bool rounds_run(struct run *run)
{
	static struct child children[WORKERS_MAX];
	time_t begin = time(NULL), shown = begin;

	while (run->kills < run->kills_max) {
		random_init(&run->random, run->seed, run->rounds);
		if (!round_run(run, children)) {
			fprintf(stderr,
				"crash: FAILED in round %" PRIu64
				"; again: store_crash --seed %" PRIu64 " --kills %" PRIu64
				"; the store is %s\n",
				run->rounds, run->seed, run->kills + 1, run->home);
			return false;
		}
		run->rounds++;
		if (run->rounds > 10 * run->kills_max + 100) {
			fprintf(stderr, "crash: hardly anybody dies\n");
			return false;
		}
		if (run->shows_progress && time(NULL) - shown >= PROGRESS_S) {
			shown = time(NULL);
			fprintf(stderr, "crash: %" PRIu64 " of %" PRIu64 " kills, %ld s\n",
				run->kills, run->kills_max, (long)(shown - begin));
		}
	}
	return true;
}

/* A damaged copy, opened by a fresh process. */
static int probe(void *context, const char *home, struct model *found)
{
	struct run *run = context;
	struct worker_options options = {.home = home};
	struct child child;
	bool is_read;
	int status;

	if (!child_start(run, &child, "--probe", &options))
		return -1;
	is_read = checker_read(child.fd, found);
	status = child_status(&child);
	return status == 0 && !is_read ? -1 : status;
}

/* ---- the program --------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

static bool number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

/* store_crash --worker|--check|--probe HOME SEED INDEX OPERATIONS DIE_AT DIE_WHEN FD: what child_start gives. */
static int child_main(char **argv)
{
	uint64_t values[6];
	struct worker_options options = {.home = argv[2]};

	for (int i = 0; i < 6; i++)
		if (!number(argv[3 + i], &values[i]))
			return 2;
	options.seed = values[0];
	options.index = (uint32_t)values[1];
	options.operations = (uint32_t)values[2];
	options.die_at = values[3];
	options.die_when = (uint32_t)values[4];
	options.report_fd = (int)values[5];
	options.is_probe = strcmp(argv[1], "--probe") == 0;
	return strcmp(argv[1], "--worker") == 0 ? worker_run(&options) : checker_run(&options);
}

static int usage(void)
{
	fprintf(stderr,
		"usage: store_crash [--kills N] [--damages N] [--seed S] [--home DIR] "
		"[--progress]\n");
	return 2;
}

static bool arguments_read(struct run *run, int argc, char **argv)
{
	static const struct option options[] = {
		{"kills", required_argument, NULL, 'k'},
		{"damages", required_argument, NULL, 'd'},
		{"seed", required_argument, NULL, 's'},
		{"home", required_argument, NULL, 'h'},
		{"progress", no_argument, NULL, 'v'},
		{0},
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (letter == 'k' && number(optarg, &run->kills_max) && run->kills_max <= 1000000)
			continue;
		if (letter == 'd' && number(optarg, &run->damages) && run->damages <= 1000000)
			continue;
		if (letter == 's' && number(optarg, &run->seed))
			continue;
		if (letter == 'h' && strlen(optarg) < sizeof(run->home)) {
			strcpy(run->home, optarg);
			run->keeps_home = true;
			continue;
		}
		if (letter != 'v')
			return false;
		run->shows_progress = true;
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	static struct run run = {.program = "/proc/self/exe", .kills_max = 100};
	bool good;

	if (argc == 9 &&
		(strcmp(argv[1], "--worker") == 0 || strcmp(argv[1], "--check") == 0 ||
			strcmp(argv[1], "--probe") == 0))
		return child_main(argv);
	run.seed = (uint64_t)getpid() ^ now_us();
	if (!arguments_read(&run, argc, argv))
		return usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("store_crash: seed %" PRIu64 "\n", run.seed);
	if (!run.keeps_home && !scratch_create(run.home, NULL, "crash")) {
		perror("store_crash: a temporary directory");
		return 1;
	}
	good = rounds_run(&run);
	random_init(&run.random, run.seed, UINT32_MAX);
	if (good && run.damages > 0)
		good = damages_run(
			run.home, &run.should, (uint32_t)run.damages, &run.random, probe, &run);
	printf("store_crash: %" PRIu64 " kills in %" PRIu64 " rounds: %" PRIu64
	       " inside a system call, %" PRIu64 " with a second process at work; %" PRIu64
	       " recoveries killed; %" PRIu64 " operations acknowledged, %" PRIu64
	       " refused by a failing disk\n",
		run.kills, run.rounds, run.inside, run.pairs, run.recoveries_killed, run.operations,
		run.operations_failed);
	for (uint32_t i = 0; i < OPERATION_COUNT; i++)
		printf("store_crash: %s %" PRIu64 "\n", operation_name(i), run.per_operation[i]);
	if (good && !run.keeps_home)
		(void)nftw(run.home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	printf("store_crash: %s\n", good ? "OK" : "FAILED");
	return good ? 0 : 1;
}
