/* Points of failure, one after the other; see runner.h. */
#include "tests/nth/runner.h"

#include "tests/nth/inject.h"
#include "tests/nth/known.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef NTH_KNOWN
#error "NTH_KNOWN is the path of the kept list"
#endif
#if defined(__SANITIZE_ADDRESS__)
#define NTH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NTH_ASAN 1
#endif
#endif
#ifdef NTH_ASAN
#include <sanitizer/lsan_interface.h>
const char *__asan_default_options(void);
/* Faults come to our own handler, which names the point. */
const char *__asan_default_options(void)
{
	return "handle_segv=0:handle_abort=0:handle_sigbus=0:allocator_may_return_null=1";
}
#endif

#define BATCH 128u /* points of one child */
#define POINT_SECONDS 120u /* the last resort: scenarios bound their turns themselves */
#define LABELS_MAX 64u
#define FAULTS_SHOWN 20u
#define EXIT_FAULT 10
#define EXIT_AGAIN 11
#define DRIFT_TRIES 4u

struct counted {
	char label[NTH_LABEL_BYTES];
	uint64_t count;
};

/* Seen by parent and child. */
struct shared {
	uint32_t at; /* the point under way */
	uint64_t failures;
	uint64_t known;
	struct counted labels[LABELS_MAX];
	struct nth_result result;
};

struct options {
	const char *scenario, *kind, *op, *error, *known, *points;
	uint64_t point, every, seed;
	bool has_seed, once, for_ever, list, self_test, learn;
};

struct total {
	uint64_t points, failures, known, faults;
};

static const struct nth_program *program;
static struct options options = {.every = 1, .known = NTH_KNOWN};
static struct shared *shared;
static const char *program_path;
static int child_errors = -1; /* what a child says on its standard error */

/* ---- in the child ---------------------------------------------------------------------------- */

_Noreturn void nth_fault(const char *format, ...)
{
	va_list arguments;

	inject_disarm();
	va_start(arguments, format);
	vsnprintf(shared->result.fault, sizeof(shared->result.fault), format, arguments);
	va_end(arguments);
	_exit(EXIT_FAULT);
}

static void on_crash(int number)
{
	struct inject_stack stack;
	char text[4096];

	signal(number, SIG_DFL);
	inject_disarm();
	inject_stack_here(&stack);
	inject_stack_text(&stack, text, sizeof(text), false);
	nth_fault("%s: %s", strsignal(number), text);
}

#define FAILED_BYTES 1024u
#define FAILED_SHOWN 4u

struct leak_search {
	char (*failed)[FAILED_BYTES]; /* texts of the failed allocations, each once */
	uint32_t failed_count;
	char leaked[2048];
	uint32_t unknown, known;
	char *out;
	size_t out_bytes, at;
};

static bool on_leak(void *context, size_t bytes, const struct inject_stack *stack)
{
	struct leak_search *search = context;

	inject_stack_text(stack, search->leaked, sizeof(search->leaked), true);
	for (uint32_t i = 0; i < search->failed_count; i++)
		if (known_has(search->failed[i], search->leaked)) {
			search->known++;
			return true;
		}
	if (options.learn) {
		fprintf(stdout, "LEARN\t%s\t%s\n", search->failed[0], search->leaked);
		search->known++;
		return true;
	}
	if (++search->unknown > 6)
		return true;
	inject_stack_text(stack, search->leaked, sizeof(search->leaked), false);
	search->at += (size_t)snprintf(search->out + search->at, search->out_bytes - search->at,
		"\n  leaked  %s  (%zu bytes)", search->leaked, bytes);
	if (search->at >= search->out_bytes)
		search->at = search->out_bytes - 1;
	return true;
}

/* The failed allocations by the library's part of their stacks, each text once. */
static void failed_texts(struct leak_search *search)
{
	static char texts[INJECT_FAILED_MAX][FAILED_BYTES];
	const struct inject_stack *stack;

	search->failed = texts;
	for (uint32_t i = 0; (stack = inject_failed_stack(i)) != NULL; i++) {
		char *text = texts[search->failed_count];
		uint32_t other = 0;

		inject_stack_text(stack, text, FAILED_BYTES, true);
		while (strcmp(texts[other], text) != 0)
			other++;
		search->failed_count += other == search->failed_count;
	}
}

void nth_check_leaks(const struct nth_point *point, struct nth_result *result, uint64_t mark)
{
	static struct leak_search search;
	static char text[6000], causes[FAILED_SHOWN * (FAILED_BYTES + 16)];
	size_t count = inject_live_since(POOL_OPENSSL, mark), at = 0;

	if (count == 0)
		return;
	if (!point->record) {
		result->leaks_unseen = true;
		return;
	}
	search = (struct leak_search){.out = text, .out_bytes = sizeof(text)};
	text[0] = '\0';
	failed_texts(&search);
	inject_walk(POOL_OPENSSL, mark, on_leak, &search);
	result->leaks_known = search.known;
	if (options.learn)
		fflush(stdout);
	if (search.unknown == 0)
		return;
	for (uint32_t i = 0; i < search.failed_count && i < FAILED_SHOWN; i++)
		at += (size_t)sprintf(causes + at, "\n  failed  %s", search.failed[i]);
	nth_fault("%u of %zu blocks of OpenSSL's are lost and not listed; %u other causes%s%s",
		search.unknown, count, search.failed_count, causes, text);
}

static void label_count(const char *label)
{
	uint32_t i = 0;

	while (i < LABELS_MAX - 1 && shared->labels[i].label[0] != '\0' &&
		strcmp(shared->labels[i].label, label) != 0)
		i++;
	if (shared->labels[i].label[0] == '\0')
		snprintf(shared->labels[i].label, NTH_LABEL_BYTES, "%s", label);
	shared->labels[i].count++;
}

static _Noreturn void child_run(const struct nth_point *points, uint32_t count, uint32_t from)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};

	if (child_errors >= 0)
		(void)dup2(child_errors, STDERR_FILENO);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], on_crash);
	for (uint32_t i = from; i < count && i < from + BATCH; i++) {
		struct nth_result *result = &shared->result;

		shared->at = i;
		memset(result, 0, sizeof(*result));
		alarm(POINT_SECONDS);
		program->run(&points[i], result);
		alarm(0);
		if (result->leaks_unseen)
			_exit(EXIT_AGAIN);
		if (result->failed == 0 && points[i].nth > 0)
			strcat(result->label, " (not reached)");
		if (points[i].nth > 0) {
			label_count(result->label);
			shared->failures += result->failed;
			shared->known += result->leaks_known > 0;
		}
		/* What OpenSSL lost stays in this process. */
		if (result->leaks_known > 0 || (points[i].scenario->flags & NTH_ALONE)) {
			shared->at = i + 1;
			_exit(0);
		}
	}
	shared->at = from + BATCH < count ? from + BATCH : count;
#ifdef NTH_ASAN
	if (__lsan_do_recoverable_leak_check() != 0)
		nth_fault("LeakSanitizer found a leak in points %u to %u of this batch", from,
			shared->at - 1);
#endif
	_exit(0);
}

/* ---- in the parent ---------------------------------------------------------------------------- */

static void print_child_errors(void)
{
	char text[8192];
	off_t end = child_errors >= 0 ? lseek(child_errors, 0, SEEK_END) : 0;
	off_t from = end > (off_t)sizeof(text) ? end - (off_t)sizeof(text) : 0;
	ssize_t bytes;

	if (end <= 0)
		return;
	bytes = pread(child_errors, text, sizeof(text), from);
	if (bytes > 0)
		printf("%.*s\n", (int)bytes, text);
}

static void print_point(const struct nth_point *point)
{
	printf("%s --scenario %s --kind %s", program_path, point->scenario->name,
		point->kind->name);
	if (point->kind->pools == 0)
		printf(" --op %s --errno %s", program->ops[point->op].name, point->error_name);
	printf(" --point %" PRIu64 " %s\n", point->nth, point->for_ever ? "--forever" : "--once");
}

/* One child. How it ended: 0, EXIT_FAULT, EXIT_AGAIN. */
static int child_start(const struct nth_point *points, uint32_t count, uint32_t from)
{
	int status;
	pid_t child;

	if (child_errors >= 0) {
		if (ftruncate(child_errors, 0) < 0)
			perror("ftruncate");
		(void)lseek(child_errors, 0, SEEK_SET);
	}
	fflush(NULL);
	shared->at = from;
	child = fork();
	if (child < 0) {
		perror("fork");
		exit(2);
	}
	if (child == 0)
		child_run(points, count, from);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR) {
			perror("waitpid");
			exit(2);
		}
	if (WIFEXITED(status) &&
		(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_FAULT ||
			WEXITSTATUS(status) == EXIT_AGAIN))
		return WEXITSTATUS(status);
	if (shared->result.fault[0] == '\0')
		snprintf(shared->result.fault, sizeof(shared->result.fault),
			WIFSIGNALED(status) ? "ended by signal %d" : "ended with code %d",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return EXIT_FAULT;
}

/* A leak: the same point once more, with stacks. Threads may bring another order, so more than once. */
static int point_again(const struct nth_point *point)
{
	uint32_t tries = (point->scenario->flags & NTH_THREADS) ? DRIFT_TRIES : 1;
	struct nth_point again = *point;

	again.record = true;
	for (uint32_t i = 0; i < tries; i++) {
		int status = child_start(&again, 1, 0);

		if (status == EXIT_FAULT || shared->result.leaks_known > 0)
			return status;
	}
	snprintf(shared->result.fault, sizeof(shared->result.fault),
		"blocks were lost that another run does not lose");
	return EXIT_FAULT;
}

static void points_run(const struct nth_point *points, uint32_t count, struct total *total)
{
	uint32_t from = 0;

	memset(shared->labels, 0, sizeof(shared->labels));
	shared->failures = 0;
	shared->known = 0;
	while (from < count) {
		int status = child_start(points, count, from);
		uint32_t at = shared->at;

		if (status == EXIT_AGAIN) {
			status = point_again(&points[at]);
			shared->at = at + 1;
		} else if (status == EXIT_FAULT) {
			shared->at = at + 1;
		}
		if (status == EXIT_FAULT) {
			total->faults++;
			label_count("FAULT");
			if (total->faults <= FAULTS_SHOWN) {
				printf("FAULT: %s\n", shared->result.fault);
				print_child_errors();
				printf("again: ");
				print_point(&points[at]);
			}
		}
		from = shared->at;
	}
	total->points += count;
	total->failures += shared->failures;
	total->known += shared->known;
}

static void print_labels(void)
{
	bool first = true;

	for (uint32_t i = 0; i < LABELS_MAX && shared->labels[i].label[0] != '\0'; i++) {
		printf("%s%s %" PRIu64, first ? "    " : ", ", shared->labels[i].label,
			shared->labels[i].count);
		first = false;
	}
	if (!first)
		printf("\n");
}

/* ---- which points ------------------------------------------------------------------------------ */

struct point_list {
	struct nth_point *points;
	uint32_t count, capacity;
	uint64_t number; /* of all, chosen or not: decides who is chosen */
	uint64_t every;
};

static void list_add(struct point_list *list, const struct nth_point *point)
{
	if ((options.point != 0 && point->nth != options.point) ||
		(options.once && point->for_ever) || (options.for_ever && !point->for_ever))
		return;
	if (options.op != NULL && strcmp(options.op, program->ops[point->op].name) != 0)
		return;
	if (options.error != NULL && strcmp(options.error, point->error_name) != 0)
		return;
	if (list->number++ % list->every != options.seed % list->every)
		return;
	if (list->count == list->capacity) {
		list->capacity = 2 * list->capacity + 256;
		list->points = realloc(list->points, list->capacity * sizeof(*list->points));
		if (list->points == NULL) {
			perror("realloc");
			exit(2);
		}
	}
	list->points[list->count++] = *point;
}

/* How often the scenario could fail when nothing does. */
static bool points_measure(const struct nth_point *point, struct nth_result *measured)
{
	uint32_t tries = (point->scenario->flags & NTH_THREADS) ? 2 : 1;

	memset(measured, 0, sizeof(*measured));
	for (uint32_t i = 0; i < tries; i++) {
		if (child_start(point, 1, 0) != 0) {
			printf("FAULT without any failure: %s\n", shared->result.fault);
			print_child_errors();
			return false;
		}
		if (shared->result.tries > measured->tries)
			*measured = shared->result;
	}
	if (measured->label[0] == '\0')
		*measured = shared->result;
	return true;
}

static void points_list(
	struct point_list *list, const struct nth_point *base, const struct nth_result *measured)
{
	struct nth_point point = *base;

	for (int for_ever = base->kind->only_for_ever; for_ever < 2; for_ever++) {
		point.for_ever = for_ever;
		if (base->kind->pools != 0) {
			for (point.nth = 1; point.nth <= measured->tries; point.nth++)
				list_add(list, &point);
			continue;
		}
		for (point.op = 0; point.op < program->op_count; point.op++)
			for (uint32_t e = 0; e < program->ops[point.op].errno_count; e++) {
				point.error = program->ops[point.op].errnos[e].number;
				point.error_name = program->ops[point.op].errnos[e].name;
				for (point.nth = 1; point.nth <= measured->ops[point.op];
					point.nth++)
					list_add(list, &point);
			}
	}
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void scenario_run(const struct nth_scenario *scenario, const struct nth_kind *kind,
	struct point_list *list, struct total *total)
{
	struct nth_point base = {.scenario = scenario, .kind = kind};
	struct total before = *total;
	struct nth_result measured;
	double begin = cpu_seconds();

	if (!points_measure(&base, &measured)) {
		total->faults++;
		return;
	}
	list->count = 0;
	list->every = options.every;
	if (list->every > 1 && scenario->thin > 1)
		list->every *= scenario->thin;
	points_list(list, &base, &measured);
	points_run(list->points, list->count, total);
	printf("%-20s %-8s %6" PRIu64 " points of %6" PRIu64 " places, %8" PRIu64
	       " failures, %.1f s\n",
		scenario->name, kind->name, total->points - before.points,
		kind->pools != 0 ? measured.tries : measured.ops[0],
		total->failures - before.failures, cpu_seconds() - begin);
	print_labels();
	fflush(stdout);
}

/* ---- options ------------------------------------------------------------------------------------ */

static void usage(FILE *out)
{
	fprintf(out,
		"usage: %s [--scenario NAME] [--kind KIND] [--every K] [--seed S]\n"
		"       %s --scenario NAME --kind KIND [--op OP --errno NAME] --point N "
		"--once|--forever\n"
		"  --every K    every K-th point, beginning at a place that the seed decides\n"
		"  --point N    only the N-th allocation or operation\n"
		"  --points F   those of the file, one a line: SCENARIO KIND OP ERRNO N once|forever;\n"
		"               OP and ERRNO are - but for kind errno\n"
		"  --known F    another list of OpenSSL's own leaks\n"
		"  --learn      print the stacks of leaks that are not listed, instead of failing\n"
		"  --self-test  scenarios that break on purpose must be found\n"
		"  --list       scenarios and kinds\n",
		program->name, program->name);
}

static void list_print(void)
{
	for (uint32_t i = 0; i < program->scenario_count; i++)
		if (!(program->scenarios[i].flags & NTH_SELF_TEST))
			printf("%-20s %s\n", program->scenarios[i].name,
				program->scenarios[i].what);
	printf("kinds:");
	for (uint32_t i = 0; i < program->kind_count; i++)
		printf(" %s", program->kinds[i].name);
	printf("\n");
}

static uint64_t number_of(const char *text)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = text != NULL ? strtoull(text, &end, 0) : 0;
	if (text == NULL || end == text || *end != '\0' || errno != 0) {
		usage(stderr);
		exit(2);
	}
	return number;
}

static void options_parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		bool has_value = true;

		if (strcmp(name, "--scenario") == 0)
			options.scenario = value;
		else if (strcmp(name, "--kind") == 0)
			options.kind = value;
		else if (strcmp(name, "--op") == 0)
			options.op = value;
		else if (strcmp(name, "--errno") == 0)
			options.error = value;
		else if (strcmp(name, "--known") == 0)
			options.known = value;
		else if (strcmp(name, "--points") == 0)
			options.points = value;
		else if (strcmp(name, "--point") == 0)
			options.point = number_of(value);
		else if (strcmp(name, "--every") == 0)
			options.every = number_of(value);
		else if (strcmp(name, "--seed") == 0) {
			options.seed = number_of(value);
			options.has_seed = true;
		} else
			has_value = false;
		if (has_value) {
			if (value == NULL) {
				usage(stderr);
				exit(2);
			}
			i++;
			continue;
		}
		if (strcmp(name, "--once") == 0)
			options.once = true;
		else if (strcmp(name, "--forever") == 0)
			options.for_ever = true;
		else if (strcmp(name, "--list") == 0)
			options.list = true;
		else if (strcmp(name, "--learn") == 0)
			options.learn = true;
		else if (strcmp(name, "--self-test") == 0)
			options.self_test = true;
		else {
			usage(strcmp(name, "--help") == 0 ? stdout : stderr);
			exit(strcmp(name, "--help") == 0 ? 0 : 2);
		}
	}
	if (options.every == 0)
		options.every = 1;
	if (!options.has_seed)
		options.seed = (uint64_t)time(NULL);
}

/* What the options choose. How many pairs of scenario and kind there were. */
static uint32_t chosen_run(struct point_list *list, struct total *total)
{
	uint32_t run = 0;

	for (uint32_t s = 0; s < program->scenario_count; s++) {
		const struct nth_scenario *scenario = &program->scenarios[s];

		if (options.scenario != NULL ? strcmp(options.scenario, scenario->name) != 0
					     : (scenario->flags & NTH_SELF_TEST) != 0)
			continue;
		for (uint32_t k = 0; k < program->kind_count; k++) {
			const struct nth_kind *kind = &program->kinds[k];

			if (options.kind != NULL && strcmp(options.kind, kind->name) != 0)
				continue;
			if ((kind->pools == 0 && (scenario->flags & NTH_NO_ERRNO)) ||
				(kind->all_threads && !(scenario->flags & NTH_THREADS)))
				continue;
			scenario_run(scenario, kind, list, total);
			run++;
		}
	}
	return run;
}

/* The points of a file, kept because each of them was a fault once. */
static uint32_t file_run(struct point_list *list, struct total *total)
{
	char line[512], scenario[64], kind[64], op[64], error[64], mode[64];
	FILE *in = fopen(options.points, "r");
	uint32_t run = 0;
	uint64_t before;

	if (in == NULL) {
		perror(options.points);
		exit(2);
	}
	options.every = 1;
	while (fgets(line, sizeof(line), in) != NULL) {
		unsigned long long point;

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (sscanf(line, "%63s %63s %63s %63s %llu %63s", scenario, kind, op, error, &point,
			    mode) != 6) {
			fprintf(stderr, "%s: not a point: %s", options.points, line);
			exit(2);
		}
		options.scenario = scenario;
		options.kind = kind;
		options.op = strcmp(op, "-") != 0 ? op : NULL;
		options.error = strcmp(error, "-") != 0 ? error : NULL;
		options.point = point;
		options.once = strcmp(mode, "once") == 0;
		options.for_ever = !options.once;
		before = total->points;
		if (chosen_run(list, total) != 1) {
			fprintf(stderr, "%s: no such scenario or kind: %s", options.points, line);
			exit(2);
		}
		if (total->points == before) {
			fprintf(stderr, "%s: there is no such point any more: %s", options.points,
				line);
			exit(2);
		}
		run++;
	}
	fclose(in);
	return run;
}

/* Every scenario of the self-test must be found, each by its own kind of failure. */
static int self_test_run(struct point_list *list)
{
	int status = 0;

	for (uint32_t s = 0; s < program->scenario_count; s++) {
		const struct nth_scenario *scenario = &program->scenarios[s];
		struct total total = {0};

		if (!(scenario->flags & NTH_SELF_TEST))
			continue;
		for (uint32_t k = 0; k < program->kind_count; k++)
			if (program->kinds[k].pools != 0)
				scenario_run(scenario, &program->kinds[k], list, &total);
		printf("self-test %s: %s\n", scenario->name,
			total.faults > 0 ? "found" : "NOT FOUND");
		if (total.faults == 0)
			status = 1;
	}
	printf("%s self-test: %s\n", program->name, status == 0 ? "OK" : "FAILED");
	return status;
}

int nth_main(const struct nth_program *of, int argc, char **argv)
{
	struct point_list list = {0};
	struct total total = {0};
	uint32_t run;

	program = of;
	program_path = argv[0];
	options_parse(argc, argv);
	if (options.list) {
		list_print();
		return 0;
	}
	known_load(options.known);
	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	child_errors = memfd_create("errors", MFD_CLOEXEC);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%s: seed %" PRIu64 ", every %" PRIu64 "\n", program->name, options.seed,
		options.every);
	if (options.self_test) {
		int status = self_test_run(&list);

		free(list.points);
		return status;
	}
	run = options.points != NULL ? file_run(&list, &total) : chosen_run(&list, &total);
	free(list.points);
	if (run == 0) {
		fprintf(stderr, "%s: no such scenario or kind; see --list\n", program->name);
		return 2;
	}
	printf("%s: %s: %" PRIu64 " points, %" PRIu64 " failures injected, %" PRIu64
	       " with a leak of OpenSSL's own, %" PRIu64 " faults\n",
		program->name, total.faults == 0 ? "OK" : "FAILED", total.points, total.failures,
		total.known, total.faults);
	return total.faults == 0 ? 0 : 1;
}
