/* The parent of `peerhub-stress job`: options, two processes, phases, progress, table; see job.h. */
#include "job.h"

#include "audit.h"
#include "command.h"
#include "report.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VIOLATIONS_SHOWN 20u
#define PROGRESS_TTY_MS 100u
#define PROGRESS_PLAIN_MS 2000u

static const char usage_text[] =
	"usage: peerhub-stress job --acceptor-home DIR --dialler-home DIR [options]\n"
	"\n"
	"Opens many direct connections between two processes through p2p.h, exchanges messages and\n"
	"closes them by every path from several threads at once. Each store has one identity with one\n"
	"group; it is the same group, and the acceptor created it.\n"
	"\n"
	"  --connections N     default 10000, at most 15000\n"
	"  --handshakes N      more openings, closed while they open (default 500)\n"
	"  --threads N         threads of each side (default 4, at least 2)\n"
	"  --messages N        each connection sends so many, each comes back (default 8)\n"
	"  --message-bytes N   32 to 4096 (default 512)\n"
	"  --json FILE         write the result as JSON, too\n"
	"  --help              this text\n"
	"\n"
	"Exit codes: 0 everything was as expected, 1 not, 2 wrong command line.\n";

static const char *const phase_names[] = {
	"going online", "opening", "talking", "closing", "ending the group", "leaving"};
static const char *const path_names[] = {"local", "remote", "abort", "reset", "handshake", "group"};
static const char *const side_names[] = {"dialler", "acceptor"};

/* ---- shared with the sides ------------------------------------------------------------- */

uint32_t job_total(const struct job *job)
{
	return job->connection_count + job->handshake_count;
}

enum job_share job_share_of(uint32_t index)
{
	return (enum job_share)(index % JOB_SHARES);
}

static void say(enum job_side side, const char *kind, const char *format, va_list arguments)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, arguments);
	fprintf(stderr, "%s (%s): %s\n", kind, side_names[side], text);
}

void job_violation(struct job *job, enum job_side side, const char *format, ...)
{
	va_list arguments;

	if (atomic_fetch_add(&job->counts[side].violations, 1) >= VIOLATIONS_SHOWN)
		return;
	va_start(arguments, format);
	say(side, "VIOLATION", format, arguments);
	va_end(arguments);
}

void job_fail(struct job *job, enum job_side side, const char *format, ...)
{
	va_list arguments;

	if (atomic_exchange(&job->is_failed, true))
		return;
	va_start(arguments, format);
	say(side, "FAILED", format, arguments);
	va_end(arguments);
}

static void nap(uint32_t us)
{
	const struct timespec duration = {.tv_nsec = (long)us * 1000};

	nanosleep(&duration, NULL);
}

bool job_phase_wait(struct job *job, enum job_phase phase)
{
	while (atomic_load(&job->phase) < phase) {
		if (atomic_load(&job->is_failed))
			return false;
		nap(500);
	}
	return true;
}

void job_phase_done(struct job *job, enum job_side side, enum job_phase phase)
{
	atomic_store(&job->done[side], phase + 1);
}

void job_final(struct job *job, enum job_side side, uint32_t index, bool was_connected)
{
	uint64_t close_ns = atomic_load(&job->connections[index].close_ns);
	enum job_share share = job_share_of(index);
	bool by_dialler = share == JOB_SHARE_DIALLER || share == JOB_SHARE_DIALLER_ABORT;
	bool is_abort = share == JOB_SHARE_DIALLER_ABORT || share == JOB_SHARE_ACCEPTOR_ABORT;
	bool is_caller = by_dialler == (side == JOB_DIALLER);
	enum job_path path;

	if (close_ns == 0) {
		job_violation(job, side, "connection %u ended before anybody closed it", index);
		return;
	}
	if (index >= job->connection_count) {
		atomic_fetch_add(&job->counts[side].closes_ended, 1);
		if (was_connected)
			return; /* the close came too late to meet the handshake */
		path = JOB_PATH_HANDSHAKE;
	} else if (share == JOB_SHARE_GROUP) {
		path = JOB_PATH_GROUP;
	} else if (is_caller) {
		atomic_fetch_add(&job->counts[side].closes_ended, 1);
		path = is_abort ? JOB_PATH_ABORT : JOB_PATH_LOCAL;
	} else {
		path = is_abort ? JOB_PATH_RESET : JOB_PATH_REMOTE;
	}
	histogram_record(&job->latency[path], now_ns() - close_ns);
}

/* ---- options --------------------------------------------------------------------------- */

struct job_options {
	const char *homes[JOB_SIDES];
	uint64_t connections, handshakes, threads, messages, message_bytes;
	const char *json_path;
};

enum {
	OPT_ACCEPTOR = 256,
	OPT_DIALLER,
	OPT_CONNECTIONS,
	OPT_HANDSHAKES,
	OPT_THREADS,
	OPT_MESSAGES,
	OPT_MESSAGE_BYTES,
	OPT_JSON,
	OPT_HELP
};

static const struct option long_options[] = {
	{"acceptor-home", required_argument, NULL, OPT_ACCEPTOR},
	{"dialler-home", required_argument, NULL, OPT_DIALLER},
	{"connections", required_argument, NULL, OPT_CONNECTIONS},
	{"handshakes", required_argument, NULL, OPT_HANDSHAKES},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"messages", required_argument, NULL, OPT_MESSAGES},
	{"message-bytes", required_argument, NULL, OPT_MESSAGE_BYTES},
	{"json", required_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static int usage_error(const char *what)
{
	fprintf(stderr, "peerhub-stress job: %s (--help shows the options)\n", what);
	return -EINVAL;
}

static int option_number(
	const char *text, uint64_t min, uint64_t max, const char *what, uint64_t *number)
{
	return number_parse(text, min, max, number) < 0 ? usage_error(what) : 0;
}

static int option_take(struct job_options *options, int opt, const char *text)
{
	switch (opt) {
	case OPT_ACCEPTOR:
		options->homes[JOB_ACCEPTOR] = text;
		return 0;
	case OPT_DIALLER:
		options->homes[JOB_DIALLER] = text;
		return 0;
	case OPT_CONNECTIONS:
		return option_number(text, 1, JOB_CONNECTIONS_MAX, "--connections takes 1 to 15000",
			&options->connections);
	case OPT_HANDSHAKES:
		return option_number(
			text, 0, 5000, "--handshakes takes 0 to 5000", &options->handshakes);
	case OPT_THREADS:
		return option_number(
			text, 2, JOB_THREADS_MAX, "--threads takes 2 to 16", &options->threads);
	case OPT_MESSAGES:
		return option_number(
			text, 0, 10000, "--messages takes 0 to 10000", &options->messages);
	case OPT_MESSAGE_BYTES:
		return option_number(text, 32, 4096, "--message-bytes takes 32 to 4096",
			&options->message_bytes);
	case OPT_JSON:
		options->json_path = text;
		return 0;
	default:
		return -EINVAL;
	}
}

/* -1: run; else the exit code. */
static int options_parse(struct job_options *options, int argc, char **argv)
{
	int opt;

	*options = (struct job_options){.connections = 10000,
		.handshakes = 500,
		.threads = 4,
		.messages = 8,
		.message_bytes = 512};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (opt == OPT_HELP) {
			fputs(usage_text, stdout);
			return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FOUND;
		}
		if (option_take(options, opt, optarg) < 0)
			return EXIT_USAGE;
	}
	if (optind < argc) {
		usage_error("takes no arguments");
		return EXIT_USAGE;
	}
	if (options->homes[JOB_ACCEPTOR] == NULL || options->homes[JOB_DIALLER] == NULL) {
		usage_error("--acceptor-home and --dialler-home are needed");
		return EXIT_USAGE;
	}
	return -1;
}

static struct job *job_create(const struct job_options *options)
{
	size_t bytes = sizeof(struct job) +
		(options->connections + options->handshakes) * sizeof(struct job_connection);
	struct job *job =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (job == MAP_FAILED) {
		perror("peerhub-stress: shared memory");
		return NULL;
	}
	for (int side = 0; side < JOB_SIDES; side++)
		job->homes[side] = options->homes[side];
	job->connection_count = (uint32_t)options->connections;
	job->handshake_count = (uint32_t)options->handshakes;
	job->thread_count = (uint32_t)options->threads;
	job->message_count = (uint32_t)options->messages;
	job->message_bytes = (uint32_t)options->message_bytes;
	for (int path = 0; path < JOB_PATHS; path++)
		histogram_init(&job->latency[path]);
	return job; /* the mapping ends with the process */
}

/* ---- the two processes ----------------------------------------------------------------- */

static pid_t side_start(struct job *job, enum job_side side)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0)
		perror("peerhub-stress: fork");
	if (pid != 0)
		return pid;
	/* Die with the parent, also when it died just before this line. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_FOUND);
	exit(side == JOB_DIALLER ? job_dialler_main(job) : job_acceptor_main(job));
}

/* True while the process runs; notes a bad end. */
static bool side_is_running(struct job *job, enum job_side side, pid_t *pid)
{
	int status;

	if (*pid <= 0)
		return false;
	if (waitpid(*pid, &status, WNOHANG) != *pid)
		return true;
	*pid = 0;
	if (WIFSIGNALED(status))
		job_fail(job, side, "ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		job_fail(job, side, "ended with exit code %d", WEXITSTATUS(status));
	return false;
}

static void sides_kill(pid_t pids[JOB_SIDES])
{
	for (int side = 0; side < JOB_SIDES; side++) {
		if (pids[side] <= 0)
			continue;
		kill(pids[side], SIGKILL);
		waitpid(pids[side], NULL, 0);
		pids[side] = 0;
	}
}

static void progress(const struct job *job, uint64_t *shown_ns)
{
	const struct job_counts *dialler = &job->counts[JOB_DIALLER];
	const struct job_counts *acceptor = &job->counts[JOB_ACCEPTOR];
	bool has_terminal = isatty(STDERR_FILENO) == 1;
	uint64_t now = now_ns();

	if (now < *shown_ns + (has_terminal ? PROGRESS_TTY_MS : PROGRESS_PLAIN_MS) * 1000000ull)
		return;
	*shown_ns = now;
	fprintf(stderr,
		"%s%-16s connected %llu of %u  answers %llu of %llu  ended %llu here, %llu there%s",
		has_terminal ? "\r\033[K" : "", phase_names[atomic_load(&job->phase)],
		(unsigned long long)atomic_load(&dialler->connected), job->connection_count,
		(unsigned long long)atomic_load(&dialler->received),
		(unsigned long long)job->connection_count * (1 + job->message_count),
		(unsigned long long)(atomic_load(&dialler->disconnected) +
			atomic_load(&dialler->failed)),
		(unsigned long long)atomic_load(&acceptor->disconnected), has_terminal ? "" : "\n");
	fflush(stderr);
}

static bool phase_is_done(const struct job *job, enum job_phase phase)
{
	return atomic_load(&job->done[JOB_DIALLER]) > phase &&
		atomic_load(&job->done[JOB_ACCEPTOR]) > phase;
}

/* One phase: until both sides have done it, one of them failed, or its time is over. */
static bool phase_run(
	struct job *job, enum job_phase phase, pid_t pids[JOB_SIDES], uint64_t *shown_ns)
{
	uint64_t begin_ns = now_ns();

	atomic_store(&job->phase_begin_ns[phase], begin_ns);
	atomic_store(&job->phase, phase);
	while (!phase_is_done(job, phase)) {
		for (int side = 0; side < JOB_SIDES; side++)
			if (!side_is_running(job, (enum job_side)side, &pids[side]) &&
				atomic_load(&job->done[side]) < JOB_PHASES)
				job_fail(job, (enum job_side)side, "it is gone");
		if (now_ns() > begin_ns + JOB_PHASE_MS * 1000000ull)
			job_fail(job, JOB_DIALLER, "%s takes too long", phase_names[phase]);
		if (atomic_load(&job->is_failed))
			return false;
		progress(job, shown_ns);
		nap(2000);
	}
	atomic_store(&job->phase_begin_ns[phase + 1], now_ns());
	return true;
}

static bool sides_end(struct job *job, pid_t pids[JOB_SIDES])
{
	uint64_t end_ns = now_ns() + 20000000000ull;

	for (int side = 0; side < JOB_SIDES; side++) {
		while (side_is_running(job, (enum job_side)side, &pids[side])) {
			if (now_ns() > end_ns) {
				job_fail(job, (enum job_side)side, "it does not end");
				return false;
			}
			nap(2000);
		}
	}
	return !atomic_load(&job->is_failed);
}

static void job_run(struct job *job)
{
	pid_t pids[JOB_SIDES] = {0};
	uint64_t shown_ns = 0;
	bool is_good = true;

	for (int side = 0; side < JOB_SIDES; side++) {
		pids[side] = side_start(job, (enum job_side)side);
		if (pids[side] < 0)
			job_fail(job, (enum job_side)side, "cannot be started");
	}
	for (uint32_t phase = JOB_START; is_good && phase < JOB_PHASES; phase++)
		is_good = phase_run(job, (enum job_phase)phase, pids, &shown_ns);
	if (is_good)
		sides_end(job, pids);
	sides_kill(pids);
	if (isatty(STDERR_FILENO) == 1)
		fputs("\r\033[K", stderr);
}

/* ---- judging and reporting ------------------------------------------------------------- */

struct job_result {
	double open_s, talk_s, close_s;
	uint64_t messages; /* there and back */
	uint64_t events_expected[JOB_SIDES], events_seen[JOB_SIDES];
	bool is_good;
};

static double seconds_of(const struct job *job, enum job_phase phase)
{
	uint64_t begin_ns = atomic_load(&job->phase_begin_ns[phase]);
	uint64_t end_ns = atomic_load(&job->phase_begin_ns[phase + 1]);

	return end_ns > begin_ns ? (double)(end_ns - begin_ns) / 1e9 : 0.0;
}

/* Each connection by itself: events once at each end, one winning close, all messages. */
static void connections_judge(struct job *job)
{
	for (uint32_t i = 0; i < job->connection_count; i++) {
		const struct job_connection *one = &job->connections[i];
		bool is_group = job_share_of(i) == JOB_SHARE_GROUP;

		if (atomic_load(&one->connected[JOB_DIALLER]) != 1 ||
			atomic_load(&one->connected[JOB_ACCEPTOR]) != 1 ||
			atomic_load(&one->finals[JOB_DIALLER]) != (is_group ? 0u : 1u) ||
			atomic_load(&one->finals[JOB_ACCEPTOR]) != 1)
			job_violation(job, JOB_DIALLER,
				"connection %u: connected %u, %u; ended %u, %u", i,
				atomic_load(&one->connected[JOB_DIALLER]),
				atomic_load(&one->connected[JOB_ACCEPTOR]),
				atomic_load(&one->finals[JOB_DIALLER]),
				atomic_load(&one->finals[JOB_ACCEPTOR]));
		if (atomic_load(&one->wins) != (is_group ? 0u : 1u))
			job_violation(job, JOB_DIALLER, "connection %u: %u closes won", i,
				atomic_load(&one->wins));
		if (atomic_load(&one->received[JOB_DIALLER]) != job->message_count + 1)
			job_violation(job, JOB_DIALLER, "connection %u: %u answers", i,
				atomic_load(&one->received[JOB_DIALLER]));
	}
	for (uint32_t i = job->connection_count; i < job_total(job); i++)
		if (atomic_load(&job->connections[i].finals[JOB_DIALLER]) != 1 ||
			atomic_load(&job->connections[i].wins) > 1)
			job_violation(job, JOB_DIALLER,
				"handshake %u: ended %u times, %u closes won", i,
				atomic_load(&job->connections[i].finals[JOB_DIALLER]),
				atomic_load(&job->connections[i].wins));
}

static void job_judge(struct job *job, struct job_result *result)
{
	const struct job_counts *dialler = &job->counts[JOB_DIALLER];
	const struct job_counts *acceptor = &job->counts[JOB_ACCEPTOR];
	uint64_t late = 0, group = 0;

	if (!atomic_load(&job->is_failed))
		connections_judge(job);
	for (uint32_t i = 0; i < job->connection_count; i++)
		group += job_share_of(i) == JOB_SHARE_GROUP;
	/* Handshakes whose close came too late have a CONNECTED of their own. */
	for (uint32_t i = job->connection_count; i < job_total(job); i++)
		late += atomic_load(&job->connections[i].connected[JOB_DIALLER]);
	result->open_s = seconds_of(job, JOB_OPEN);
	result->talk_s = seconds_of(job, JOB_TALK);
	result->close_s = seconds_of(job, JOB_CLOSE) + seconds_of(job, JOB_GROUP);
	result->messages = atomic_load(&dialler->received) + atomic_load(&acceptor->received);
	result->events_expected[JOB_DIALLER] =
		job->connection_count + late + job_total(job) - group;
	result->events_seen[JOB_DIALLER] = atomic_load(&dialler->connected) +
		atomic_load(&dialler->disconnected) + atomic_load(&dialler->failed);
	/* A handshake may have been open at the acceptor before it heard of the close. */
	late = atomic_load(&acceptor->connected) > job->connection_count
		? atomic_load(&acceptor->connected) - job->connection_count
		: 0;
	result->events_expected[JOB_ACCEPTOR] = 2 * (job->connection_count + late);
	result->events_seen[JOB_ACCEPTOR] =
		atomic_load(&acceptor->connected) + atomic_load(&acceptor->disconnected);
	result->is_good = !atomic_load(&job->is_failed) && atomic_load(&dialler->violations) == 0 &&
		atomic_load(&acceptor->violations) == 0 &&
		result->events_expected[JOB_DIALLER] == result->events_seen[JOB_DIALLER] &&
		result->events_expected[JOB_ACCEPTOR] == result->events_seen[JOB_ACCEPTOR];
}

static double per_second(uint64_t count, double seconds)
{
	return seconds > 0 ? (double)count / seconds : 0;
}

static void job_table(struct job *job, const struct job_result *result)
{
	uint64_t messages = (uint64_t)job->connection_count * job->message_count * 2;
	char p50[16], p99[16], max[16];

	printf("connections        %8u opened, %u more closed while opening\n",
		job->connection_count, job->handshake_count);
	printf("handshakes/s       %8.0f  (mutual TLS 1.3, %.1f s)\n",
		per_second(job->connection_count, result->open_s), result->open_s);
	printf("messages/s         %8.0f  (%llu of %u bytes there and back, %.1f s)\n",
		per_second(messages, result->talk_s), (unsigned long long)result->messages,
		job->message_bytes, result->talk_s);
	printf("closes/s           %8.0f  (the group's end included, %.1f s)\n",
		per_second(job_total(job), result->close_s), result->close_s);
	printf("close latency         count         p50         p99         max\n");
	for (int path = 0; path < JOB_PATHS; path++)
		printf("  %-16s %8llu %11s %11s %11s\n", path_names[path],
			(unsigned long long)histogram_count(&job->latency[path]),
			report_duration(histogram_quantile(&job->latency[path], 500), p50),
			report_duration(histogram_quantile(&job->latency[path], 990), p99),
			report_duration(histogram_max(&job->latency[path]), max));
	for (int side = 0; side < JOB_SIDES; side++)
		printf("events, %-9s  %8llu expected, %llu seen: %s\n", side_names[side],
			(unsigned long long)result->events_expected[side],
			(unsigned long long)result->events_seen[side],
			result->events_expected[side] == result->events_seen[side] ? "equal"
										   : "DIFFERENT");
	printf("violations         %8llu\n",
		(unsigned long long)(atomic_load(&job->counts[JOB_DIALLER].violations) +
			atomic_load(&job->counts[JOB_ACCEPTOR].violations)));
}

static int job_json(struct job *job, const struct job_result *result, const char *path)
{
	FILE *out = fopen(path, "we");
	bool is_written;

	if (out == NULL)
		return -errno;
	fprintf(out,
		"{\n  \"connections\": %u,\n  \"handshakes\": %u,\n  \"open_s\": %.3f,\n"
		"  \"talk_s\": %.3f,\n  \"close_s\": %.3f,\n  \"messages\": %llu,\n",
		job->connection_count, job->handshake_count, result->open_s, result->talk_s,
		result->close_s, (unsigned long long)result->messages);
	for (int side = 0; side < JOB_SIDES; side++)
		fprintf(out, "  \"%s\": {\"events_expected\": %llu, \"events_seen\": %llu},\n",
			side_names[side], (unsigned long long)result->events_expected[side],
			(unsigned long long)result->events_seen[side]);
	fprintf(out, "  \"close_latency\": {");
	for (int i = 0; i < JOB_PATHS; i++)
		fprintf(out,
			"%s\n    \"%s\": {\"count\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, "
			"\"max_ns\": %llu}",
			i == 0 ? "" : ",", path_names[i],
			(unsigned long long)histogram_count(&job->latency[i]),
			(unsigned long long)histogram_quantile(&job->latency[i], 500),
			(unsigned long long)histogram_quantile(&job->latency[i], 990),
			(unsigned long long)histogram_max(&job->latency[i]));
	fprintf(out, "\n  },\n  \"ok\": %s\n}\n", result->is_good ? "true" : "false");
	is_written = ferror(out) == 0;
	if (fclose(out) != 0 || !is_written)
		return -EIO;
	return 0;
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

int job_command(int argc, char **argv)
{
	struct job_options options;
	struct job_result result;
	struct job *job;
	int status;

	status = options_parse(&options, argc, argv);
	if (status >= 0)
		return status;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return EXIT_FOUND;
	descriptors_raise();
	job = job_create(&options);
	if (job == NULL)
		return EXIT_FOUND;
	job_run(job);
	memset(&result, 0, sizeof(result));
	job_judge(job, &result);
	job_table(job, &result);
	if (options.json_path != NULL) {
		status = job_json(job, &result, options.json_path);
		if (status < 0) {
			fprintf(stderr, "peerhub-stress: %s: %s\n", options.json_path,
				strerror(-status));
			return EXIT_FOUND;
		}
	}
	return result.is_good ? EXIT_SUCCESS : EXIT_FOUND;
}
