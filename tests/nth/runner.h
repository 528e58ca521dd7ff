/*
 * Runs points of failure: a scenario in which the n-th allocation, or the n-th operation of a kind, fails,
 * once or from there on. Every point runs in a child process; one child runs many, until one of them
 * goes wrong, so a crash names its point and cannot spoil another.
 *
 * A program gives its scenarios and kinds, and a function that runs one point and describes how it
 * ended. What went wrong is told with nth_fault, which ends the child; the runner prints the command
 * that runs that one point again.
 */
#ifndef PEERHUB_TESTS_NTH_RUNNER_H
#define PEERHUB_TESTS_NTH_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#define NTH_OPS_MAX 16u
#define NTH_LABEL_BYTES 64u

struct nth_scenario {
	const char *name;
	const char *what; /* one line */
	void (*run)(void *world);
	uint32_t flags; /* NTH_* */
	uint32_t thin; /* with --every: only every thin-th of those; 0 is 1. For what is dear */
};
#define NTH_ALONE 1u /* each point in a child of its own: it changes the process */
#define NTH_SELF_TEST 2u /* breaks on purpose; only --self-test runs it, and it must be found */
#define NTH_THREADS 4u /* other threads work for it: the n-th is not the same one in each run */
#define NTH_NO_ERRNO 8u /* no errno kind: there is no ring in it */

struct nth_kind {
	const char *name; /* "alloc", "openssl", ... */
	uint32_t pools; /* of inject.h; 0: completions of the ring */
	bool only_for_ever;
	bool all_threads; /* only for scenarios with NTH_THREADS */
};

struct nth_point {
	const struct nth_scenario *scenario;
	const struct nth_kind *kind;
	uint64_t nth; /* 0: nothing fails, only count */
	bool for_ever;
	uint32_t op; /* completions: which operation, and with what */
	int error;
	const char *error_name;
	bool record; /* this run keeps stacks */
};

/* How a point ended; the child fills it in. */
struct nth_result {
	uint64_t tries, failed;
	uint64_t ops[NTH_OPS_MAX]; /* completions that could have failed, by operation */
	char label[NTH_LABEL_BYTES]; /* for the histogram */
	bool leaks_unseen; /* something leaked: run it again with stacks */
	uint32_t leaks_known; /* blocks lost by OpenSSL that the kept list has */
	char fault[8192]; /* "": all is well */
};

/* What an operation may answer. */
struct nth_errno {
	int number;
	const char *name;
};
struct nth_op {
	const char *name;
	const struct nth_errno *errnos;
	uint32_t errno_count;
};

struct nth_program {
	const char *name;
	const struct nth_scenario *scenarios;
	uint32_t scenario_count;
	const struct nth_kind *kinds;
	uint32_t kind_count;
	const struct nth_op *ops;
	uint32_t op_count;
	void (*run)(const struct nth_point *point, struct nth_result *result);
};

/* Inside nth_program.run: this point has failed. Does not return. */
__attribute__((format(printf, 1, 2))) _Noreturn void nth_fault(const char *format, ...);
/* Blocks of OpenSSL made since the mark that still live are leaks: known ones are counted, unknown ones a
 * fault; without stacks the point is run again with them. */
void nth_check_leaks(const struct nth_point *point, struct nth_result *result, uint64_t mark);

/* After inject_init and whatever must be warm. The exit code of the program. */
int nth_main(const struct nth_program *program, int argc, char **argv);

#endif
