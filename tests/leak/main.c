/*
 * leak_cycles: open and close connections, groups and the library itself, then count what is left.
 *
 *   leak_cycles [--cycles N] [--tls PERMILLE] [--p2p N] [--groups N] [--lives N] [--seed S]
 *               [--memory] [--progress]
 *
 * Each part is run twice: the first, short run brings everything to its working size (pages of slots,
 * histories, pools, OpenSSL's caches), then the counts are taken, and after the second they must be the
 * same. --memory also judges resident memory: at most 2 % more (or 1 MiB). Exit code 0: all is back.
 */
#include "tests/leak/cycles.h"
#include "tests/leak/p2p.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROWTH_PERMILLE_MAX 20
/* Of a process as small as this one 2 % is half a megabyte, by which an allocator's arenas move without a byte
 * being lost; and each ended tag is remembered, 8 bytes. In a million cycles this is one byte each. */
#define GROWTH_KIB_FREE 1024
#define WARM_CYCLES 15000u /* several times round the slots of all shards */
#define WARM_P2P 300u
#define WARM_SHARE 10u /* of the long forms: a tenth */
#define WARM_GROUPS 64u
#define WARM_LIVES 12u

struct arguments {
	uint64_t cycles, p2p, groups, lives, seed;
	uint32_t tls_permille;
	bool judges_memory, shows_progress;
};

/* ---- arguments ----------------------------------------------------------------------------- */

static bool number_read(const char *text, uint64_t max, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 0);
	return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' && *number <= max;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: leak_cycles [--cycles N] [--tls PERMILLE] [--p2p N] [--groups N] "
		"[--lives N] [--seed S] [--memory] [--progress]\n");
	return 2;
}

static bool arguments_read(struct arguments *arguments, int argc, char **argv)
{
	static const struct option options[] = {
		{"cycles", required_argument, NULL, 'c'},
		{"tls", required_argument, NULL, 't'},
		{"p2p", required_argument, NULL, 'p'},
		{"groups", required_argument, NULL, 'g'},
		{"lives", required_argument, NULL, 'l'},
		{"seed", required_argument, NULL, 's'},
		{"memory", no_argument, NULL, 'm'},
		{"progress", no_argument, NULL, 'v'},
		{0},
	};
	uint64_t value = 0;
	int letter;

	while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (optarg != NULL &&
			!number_read(optarg, letter == 's' ? UINT64_MAX : 1000000000u, &value))
			return false;
		switch (letter) {
		case 'c':
			arguments->cycles = value;
			break;
		case 't':
			arguments->tls_permille = value < 1000 ? (uint32_t)value : 1000;
			break;
		case 'p':
			arguments->p2p = value;
			break;
		case 'g':
			arguments->groups = value;
			break;
		case 'l':
			arguments->lives = value;
			break;
		case 's':
			arguments->seed = value;
			break;
		case 'm':
			arguments->judges_memory = true;
			break;
		case 'v':
			arguments->shows_progress = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

/* ---- judging ------------------------------------------------------------------------------- */

static bool judge(const struct arguments *arguments, const char *what, const struct counts *before,
	const struct counts *now)
{
	int64_t growth = count_growth_permille(before, now);
	bool is_back = count_is_back(before, now);

	printf("%s: resident %" PRIu64 " KiB -> %" PRIu64 " KiB (%+.1f %%), allocated %" PRIu64
	       " KiB -> %" PRIu64 " KiB, descriptors %" PRIu64 ", SSL objects %" PRIu64 "\n",
		what, before->resident_kib, now->resident_kib, (double)growth / 10,
		before->allocated_kib, now->allocated_kib, now->descriptors, now->ssl);
	if (arguments->judges_memory && growth > GROWTH_PERMILLE_MAX &&
		now->resident_kib > before->resident_kib + GROWTH_KIB_FREE) {
		fprintf(stderr, "leak: %s: resident memory grew by more than 2 %%\n", what);
		is_back = false;
	}
	return is_back;
}

/* ---- native -------------------------------------------------------------------------------- */

static int native_phases(struct cycles *cycles, const struct arguments *arguments, uint64_t count)
{
	uint64_t tls = count * arguments->tls_permille / 1000, mixed = count / 5;
	struct cycles_options phases[] = {
		{.name = "plain", .count = count - tls - mixed / 2, .tls_permille = 0},
		{.name = "mutual TLS", .count = tls - mixed / 2, .tls_permille = 1000},
		{.name = "mixed", .count = mixed / 2 * 2, .tls_permille = 500},
	};
	int status = 0;

	/* All of one kind: there is nothing to mix. */
	if (tls < mixed / 2 || count - tls < mixed / 2) {
		phases[0].count = count - tls;
		phases[1].count = tls;
		phases[2].count = 0;
	}
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]) && status == 0; i++) {
		phases[i].shows_progress = arguments->shows_progress;
		if (phases[i].count > 0)
			status = cycles_run(cycles, &phases[i]);
	}
	return status < 0 ? status : cycles_check_rest(cycles);
}

static bool native(const struct arguments *arguments)
{
	uint64_t share = arguments->cycles / 2 + 1;
	uint64_t warm = share < WARM_CYCLES && !arguments->judges_memory
		? share
		: WARM_CYCLES + arguments->cycles / WARM_SHARE;
	struct counts before, now;
	struct cycles *cycles;
	bool is_good = false;

	if (cycles_start(arguments->seed, &cycles) == 0 &&
		native_phases(cycles, arguments, warm) == 0) {
		count_take(&before);
		if (native_phases(cycles, arguments, arguments->cycles) == 0) {
			count_take(&now);
			is_good = judge(arguments, "native", &before, &now);
		}
	}
	if (is_good)
		return cycles_stop(cycles) == 0;
	return false; /* a run that went wrong is not stopped: it might hang, and the process ends */
}

/* ---- p2p ----------------------------------------------------------------------------------- */

static bool p2p_part(const struct arguments *arguments, struct p2p *p2p, const char *what,
	int (*run)(struct p2p *p2p, uint64_t count, bool shows_progress), uint64_t warm,
	uint64_t count)
{
	struct counts before, now;

	if (count == 0)
		return true;
	if (warm < count / WARM_SHARE)
		warm = count / WARM_SHARE;
	if (run(p2p, warm < count ? warm : count, false) < 0 || !p2p_is_empty())
		return false;
	count_take(&before);
	if (run(p2p, count, arguments->shows_progress) < 0)
		return false;
	count_take(&now);
	return p2p_is_empty() && judge(arguments, what, &before, &now);
}

static bool p2p(const struct arguments *arguments)
{
	struct p2p *p2p;
	bool is_good = p2p_create(arguments->seed, &p2p) == 0 &&
		p2p_part(arguments, p2p, "p2p", p2p_cycles, WARM_P2P, arguments->p2p) &&
		p2p_part(arguments, p2p, "groups", p2p_groups, WARM_GROUPS, arguments->groups) &&
		p2p_part(arguments, p2p, "lives", p2p_lives, WARM_LIVES, arguments->lives);

	p2p_destroy(p2p);
	return is_good;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {
		.cycles = 2000, .tls_permille = 300, .seed = count_now_ns() % 1000000};
	bool is_good = true;

	if (!arguments_read(&arguments, argc, argv))
		return usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("leak_cycles: seed %" PRIu64 "\n", arguments.seed);
	count_begin();
	if (arguments.cycles > 0)
		is_good = native(&arguments);
	if (is_good && arguments.p2p + arguments.groups + arguments.lives > 0)
		is_good = p2p(&arguments);
	printf("leak_cycles: %s\n", is_good ? "OK" : "FAILED");
	return is_good ? 0 : 1;
}
