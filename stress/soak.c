/*
 * `peerhub-stress soak`: the other commands in turn, with other choices each time, for as long as
 * asked for. storm, churn and slow run in this process, so that what they leave behind adds up and
 * is seen: after every rotation descriptors and memory are compared with those after the first one.
 * spin and attack run in processes of their own: one process runs one of their worlds.
 */
#include "command.h"
#include "figures.h"
#include "load.h"
#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 40
#define ARGUMENT_BYTES 96
#define RSS_SLACK (16u << 20)
#define OUTPUT_SHOWN 65536u /* of a child's that found something */

static const char usage_text[] =
	"usage: peerhub-stress soak [options]\n"
	"\n"
	"storm, churn, slow, spin and attack in turn, with TLS and without, with faults and without, with\n"
	"other sizes and seeds each time. After every rotation descriptors and memory must be what\n"
	"they were after the first one. Ends at the first finding, with the command that repeats it.\n"
	"\n"
	"  --seconds T          how long (default 60); a rotation that has begun is cut short\n"
	"  --minutes T          the same in minutes\n"
	"  --connections N      most connections of a stage (default 500, at most 9000)\n"
	"  --fault …            add this fault to storm, churn and slow; see storm --help\n"
	"  --rss-percent P      growth of memory between rotations that is a finding, beside 16 MiB\n"
	"                       (default 25; 0: do not judge)\n"
	"  --patience S         as the stages take it (default 30)\n"
	"  --seed S             repeat the stages of an earlier run (default: a new one, printed)\n"
	"  --json FILE          write the report as JSON, too\n"
	"  --help               this text\n"
	"\n"
	"Examples:\n"
	"  peerhub-stress soak\n"
	"      a minute of everything\n"
	"  peerhub-stress soak --minutes 480 --connections 5000 --json night.json\n"
	"      a night of it\n"
	"\n"
	"Exit codes: 0 nothing found, 1 a violation or not back to the baseline, 2 wrong command line,\n"
	"3 a hang, 4 could not run.\n";

enum stage_kind {
	STAGE_STORM,
	STAGE_CHURN,
	STAGE_SLOW,
	STAGE_SPIN,
	STAGE_ATTACK,
	STAGE_KINDS
};
static const char *const kind_names[STAGE_KINDS] = {"storm", "churn", "slow", "spin", "attack"};

/* What is tried in a rotation: %u is a number of connections, chosen anew each time. */
static const struct stage {
	enum stage_kind kind;
	const char *arguments;
} stages[] = {
	{STAGE_STORM, "--connections %u --tls none --how mixed --by both"},
	{STAGE_CHURN, "--connections %u --cycles 1500 --tls mutual"},
	{STAGE_SPIN, "--connections %u --threads 4 --seconds 5 --hubs 2"},
	{STAGE_STORM, "--connections %u --tls mutual --flood --by acceptor --rounds 2"},
	{STAGE_SLOW, "--connections %u --tls mutual --seconds 1 --close-slow-ms 300"},
	{STAGE_CHURN,
		"--connections %u --cycles 2000 --tls none --fault reset:0-5000@20% "
		"--fault delay:0-5+3@20% --fault segment:1-40@10% --fault truncate:0-3000@10%"},
	{STAGE_SPIN, "--connections %u --threads 4 --seconds 5 --tls none"},
	{STAGE_ATTACK, "messages resets ids"},
	{STAGE_STORM,
		"--connections %u --tls none --how mixed --flood --shards 2 --rounds 2 "
		"--fault errno:ECONNRESET,recv,500 --fault errno:EPIPE,send,500 "
		"--fault errno:ENOBUFS,recv,100"},
	{STAGE_CHURN,
		"--connections %u --cycles 1000 --tls mutual --fault errno:EALREADY,cancel,4 "
		"--fault errno:EINVAL,disconnect,4 --fault errno:EMFILE,socket,50 "
		"--fault errno:ECONNREFUSED,connect,50 --fault errno:ENOBUFS,recv,20"},
	{STAGE_STORM,
		"--connections %u --tls mutual --how mixed --by both "
		"--fault stall:0-4000,300@20% --fault slow:20000-200000@20%"},
	{STAGE_SLOW,
		"--connections %u --tls none --seconds 1 --slow-percent 40 "
		"--close-slow-ms 0"},
};
#define STAGES (sizeof(stages) / sizeof(stages[0]))

struct soak {
	uint64_t seconds, minutes, connections, rss_percent, patience, seed;
	struct faults faults;
	const char *json_path;
	uint64_t begin_ns, rotations, runs[STAGE_KINDS];
	uint64_t rss_first, rss_last;
	uint32_t descriptors_first, descriptors_last;
	struct random random;
	char arguments[ARGUMENTS_MAX][ARGUMENT_BYTES];
	char *argv[ARGUMENTS_MAX + 1];
	int argc;
	char found[1024]; /* the command that found something */
	int result;
};

static int soak_options(struct soak *soak, int argc, char **argv)
{
	struct options options = {.command = "soak", .usage = usage_text};
	struct load_options defaults;
	int status;

	load_options_init(&defaults, "soak", 500);
	soak->seed = defaults.seed;
	soak->connections = defaults.connections;
	soak->patience = defaults.patience_s;
	soak->rss_percent = 25;
	options_number(&options, "seconds", &soak->seconds, 1, 100000000);
	options_number(&options, "minutes", &soak->minutes, 1, 1000000);
	options_number(&options, "connections", &soak->connections, 20, FAULT_LINK_CONNECTIONS_MAX);
	options_call(&options, "fault", fault_take, &soak->faults);
	options_number(&options, "rss-percent", &soak->rss_percent, 0, 1000);
	options_number(&options, "patience", &soak->patience, 1, 100000);
	options_number(&options, "seed", &soak->seed, 0, UINT64_MAX);
	options_text(&options, "json", &soak->json_path);
	status = options_parse(&options, argc, argv);
	/* A stage of its own has up to four faults. */
	if (status == OPTIONS_RUN && soak->faults.count > 2)
		status = options_refuse(&options, "--fault: at most 2 beside those of the stages");
	if (soak->seconds == 0)
		soak->seconds = soak->minutes != 0 ? soak->minutes * 60 : 60;
	return status;
}

/* ---- one stage -------------------------------------------------------------------------- */

static bool is_over(const struct soak *soak)
{
	return stop_requested() || soak->result != 0 ||
		now_ns() >= soak->begin_ns + soak->seconds * 1000000000u;
}

static void argument_add(struct soak *soak, const char *text)
{
	if (soak->argc == ARGUMENTS_MAX)
		return;
	snprintf(soak->arguments[soak->argc], ARGUMENT_BYTES, "%s", text);
	soak->argv[soak->argc] = soak->arguments[soak->argc];
	soak->argv[++soak->argc] = NULL;
}

static void stage_arguments(struct soak *soak, const struct stage *stage)
{
	uint32_t least = 16, most = (uint32_t)soak->connections, count;
	char text[512], number[32], seed[32], *rest = NULL;

	/* TLS handshakes are dear: such stages are smaller, so that they are many. */
	if (strstr(stage->arguments, "mutual") != NULL && most > 300)
		most = 300 + (most - 300) / 10;
	/* The engine keeps its shard records, each with a table of slots and a descriptor, for later hubs of at
	 * most that size: the first rotation, which the others are compared with, has the largest. */
	count = least + random_below(&soak->random, most - least + 1);
	snprintf(number, sizeof(number), "%u", soak->rotations == 0 ? most : count);
	snprintf(text, sizeof(text), "%s", stage->arguments);
	soak->argc = 0;
	argument_add(soak, kind_names[stage->kind]);
	argument_add(soak, "--seed");
	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)random_next(&soak->random));
	argument_add(soak, seed);
	for (char *word = strtok_r(text, " ", &rest); word != NULL;
		word = strtok_r(NULL, " ", &rest))
		argument_add(soak, strcmp(word, "%u") == 0 ? number : word);
	if (stage->kind == STAGE_ATTACK)
		return; /* it knows its own patience */
	argument_add(soak, "--patience");
	snprintf(number, sizeof(number), "%llu", (unsigned long long)soak->patience);
	argument_add(soak, number);
	if (stage->kind == STAGE_SPIN)
		return;
	argument_add(soak, "--quiet");
	for (uint32_t i = 0; i < soak->faults.count; i++) {
		const struct fault fault = soak->faults.items[i];

		argument_add(soak, "--fault");
		argument_add(soak, fault.text);
	}
}

static void output_show(int fd)
{
	char text[4096];
	size_t shown = 0;
	ssize_t got;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return;
	while (shown < OUTPUT_SHOWN && (got = read(fd, text, sizeof(text))) > 0) {
		fwrite(text, 1, (size_t)got, stderr);
		shown += (size_t)got;
	}
}

/* Wait for a child; Ctrl-C is passed on, since only a terminal tells a whole group. */
static int child_wait(pid_t child)
{
	bool is_told = false;
	int status;

	for (;;) {
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended == child)
			break;
		if (ended < 0 && errno != EINTR)
			return EXIT_FAILED;
		if (stop_requested() && !is_told) {
			(void)kill(child, SIGINT);
			is_told = true;
		}
		load_sleep_us(10000);
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return is_told ? EXIT_SUCCESS : EXIT_FOUND; /* ended by our signal, or by a crash */
}

static int child_run(struct soak *soak)
{
	posix_spawn_file_actions_t actions;
	int fd = memfd_create("peerhub-soak", MFD_CLOEXEC), result, status;
	static char program[] = "peerhub-stress";
	char *argv[ARGUMENTS_MAX + 2] = {program};
	pid_t child;

	if (fd < 0)
		return EXIT_FAILED;
	memcpy(argv + 1, soak->argv, sizeof(soak->argv));
	status = posix_spawn_file_actions_init(&actions);
	if (status == 0) {
		status = posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
		if (status == 0)
			status = posix_spawn_file_actions_adddup2(&actions, fd, STDERR_FILENO);
		if (status == 0)
			status = posix_spawn(
				&child, "/proc/self/exe", &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	result = status == 0 ? child_wait(child) : EXIT_FAILED;
	if (result != 0)
		output_show(fd);
	close(fd);
	return result;
}

static void stage_run(struct soak *soak, const struct stage *stage)
{
	size_t at = 0;

	stage_arguments(soak, stage);
	switch (stage->kind) {
	case STAGE_STORM:
		soak->result = storm_command(soak->argc, soak->argv);
		break;
	case STAGE_CHURN:
		soak->result = churn_command(soak->argc, soak->argv);
		break;
	case STAGE_SLOW:
		soak->result = slow_command(soak->argc, soak->argv);
		break;
	default:
		soak->result = child_run(soak);
		break;
	}
	soak->runs[stage->kind]++;
	if (soak->result == 0)
		return;
	for (int i = 0; i < soak->argc && at < sizeof(soak->found); i++)
		at += (size_t)snprintf(soak->found + at, sizeof(soak->found) - at, "%s%s",
			i == 0 ? "peerhub-stress " : " ", soak->argv[i]);
	fprintf(stderr, "peerhub-stress soak: exit code %d from: %s\n", soak->result, soak->found);
}

/* ---- the soak --------------------------------------------------------------------------- */

static void rotation_judge(struct soak *soak)
{
	soak->rotations++;
	soak->rss_last = process_rss();
	soak->descriptors_last = process_descriptors();
	if (soak->rotations == 1) {
		soak->rss_first = soak->rss_last;
		soak->descriptors_first = soak->descriptors_last;
		return;
	}
	if (soak->descriptors_last > soak->descriptors_first) {
		fprintf(stderr, "peerhub-stress soak: %u descriptors are open, %u were\n",
			soak->descriptors_last, soak->descriptors_first);
		soak->result = EXIT_FOUND;
	}
	if (soak->rss_percent != 0 &&
		soak->rss_last >
			soak->rss_first + soak->rss_first * soak->rss_percent / 100 + RSS_SLACK) {
		fprintf(stderr,
			"peerhub-stress soak: memory grew from %llu to %llu KiB in %llu rotations\n",
			(unsigned long long)soak->rss_first / 1024,
			(unsigned long long)soak->rss_last / 1024,
			(unsigned long long)soak->rotations - 1);
		soak->result = EXIT_FOUND;
	}
}

static void progress_say(const struct soak *soak, size_t stage)
{
	if (isatty(STDERR_FILENO) != 1)
		return;
	fprintf(stderr, "\r\033[K%6.0f s of %llu  rotation %llu, stage %zu of %zu: %s",
		(double)(now_ns() - soak->begin_ns) / 1e9, (unsigned long long)soak->seconds,
		(unsigned long long)soak->rotations + 1, stage + 1, STAGES,
		kind_names[stages[stage].kind]);
	fflush(stderr);
}

static void soak_run(struct soak *soak)
{
	while (!is_over(soak)) {
		size_t stage;

		for (stage = 0; stage < STAGES && !is_over(soak); stage++) {
			progress_say(soak, stage);
			stage_run(soak, &stages[stage]);
		}
		if (stage == STAGES && soak->result == 0)
			rotation_judge(soak);
	}
	progress_end();
}

static void soak_figures(const struct soak *soak, const char *command, struct figures *figures)
{
	figures_text(figures, "program", "program", "peerhub-stress");
	figures_text(figures, "subcommand", "subcommand", "soak");
	figures_text(figures, "command", "again", command);
	figures_count(figures, "seed", "seed", soak->seed);
	figures_real(figures, "seconds", "seconds", (double)(now_ns() - soak->begin_ns) / 1e9, "s");
	figures_flag(figures, "interrupted", "interrupted", stop_requested());
	figures_flag(figures, "ok", "nothing found", soak->result == 0);
	figures_text(figures, "found_by", "found by", soak->found);
	figures_section(figures, "stages", "stages run");
	for (int kind = 0; kind < STAGE_KINDS; kind++)
		figures_count(figures, kind_names[kind], kind_names[kind], soak->runs[kind]);
	figures_section(figures, "baseline", "after the first rotation, and after the last");
	figures_count(figures, "rotations", "whole rotations", soak->rotations);
	figures_count(figures, "first_descriptors", "descriptors first", soak->descriptors_first);
	figures_count(figures, "last_descriptors", "descriptors last", soak->descriptors_last);
	figures_count(figures, "first_rss_kib", "memory (RSS) first, KiB", soak->rss_first / 1024);
	figures_count(figures, "last_rss_kib", "memory (RSS) last, KiB", soak->rss_last / 1024);
}

static int soak_report(struct soak *soak, const char *command)
{
	struct figures *figures;
	int status = figures_create(&figures);

	if (status == 0) {
		soak_figures(soak, command, figures);
		figures_table(figures, stdout);
		if (soak->json_path != NULL)
			status = figures_json(figures, soak->json_path);
		figures_destroy(figures);
	}
	printf("%s\n", soak->result == 0 ? "OK" : "FAILED");
	if (status < 0)
		fprintf(stderr, "peerhub-stress: %s: %s\n",
			soak->json_path != NULL ? soak->json_path : "report", strerror(-status));
	if (fflush(stdout) != 0)
		status = -errno;
	if (soak->result != 0)
		return soak->result;
	return status < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

int soak_command(int argc, char **argv)
{
	static struct soak soak;
	struct load_options repeat = {.name = "soak"};
	char command[512];
	int result;

	memset(&soak, 0, sizeof(soak));
	result = soak_options(&soak, argc, argv);
	if (result != OPTIONS_RUN)
		return result;
	repeat.seed = soak.seed;
	load_command_text(&repeat, argc, argv, command, sizeof(command));
	if (stop_catch() < 0) {
		perror("peerhub-stress: cannot start");
		return EXIT_FAILED;
	}
	printf("seed %llu\n", (unsigned long long)soak.seed);
	fflush(stdout);
	random_init(&soak.random, soak.seed, 2);
	soak.begin_ns = now_ns();
	soak_run(&soak);
	return soak_report(&soak, command);
}
