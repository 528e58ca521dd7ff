/* Hubs, options, watchdog and report of the load subcommands; see load.h. */
#include "load.h"

#include "command.h"
#include "fault_ring.h"
#include "stop.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Far above what loopback needs, even on a machine that does much else. */
#define TIMEOUT_CONNECT_MS 20000u
#define TIMEOUT_HANDSHAKE_MS 30000u
#define TIMEOUT_WELCOME_MS 30000u
#define TIMEOUT_DEAD_MS 60000u
#define TIMEOUT_DEAD_FAULTS_MS 10000u /* where faults make half-open connections */
#define PING_MS 1000u
#define OPEN_UNDER_WAY 256u /* below the bound of handshakes in progress */
#define OPEN_TRIES 3u
#define WATCH_MS 200u

extern const struct ph_callbacks load_callbacks; /* load_events.c */

const char load_usage_text[] =
	"  --tls mutual|none    default mutual: TLS 1.3 with certificates made in memory\n"
	"  --shards N           threads of each hub, 1 to 64 (default 1)\n"
	"  --slots N            connection slots of a shard (default: enough)\n"
	"  --groups N           groups g0, g1, …: connections take turns, 1 to 16 (default 4)\n"
	"  --message-bytes N    32 to 65536 (default 64)\n"
	"  --queue-bytes N      send queue of a connection, 4096 to 67108864 (default 65536)\n"
	"  --close-ms N         deadline of a graceful close, 10 to 600000 (default 2000)\n"
	"  --remote HOST:PORT   dial a peerhub-echo --framing message there; with mutual TLS\n"
	"                       --cert, --key and --ca name PEM files as peerhub-echo takes them\n"
	"  --fault …            see below\n"
	"  --seed S             repeat the choices of an earlier run (default: a new one, printed)\n"
	"  --patience S         seconds beyond the deadlines that are a hang (default 30)\n"
	"  --json FILE          write the report as JSON, too\n"
	"  --quiet              nothing on standard output unless something is found\n"
	"  --help               this text\n"
	"\n";

/* ---- options --------------------------------------------------------------------------- */

void load_options_init(struct load_options *load, const char *name, uint64_t connections)
{
	*load = (struct load_options){
		.name = name,
		.connections = connections,
		.groups = 4,
		.shards = 1,
		.message_bytes = 64,
		.patience_s = 30,
		.close_ms = 2000,
		.queue_bytes = 65536,
	};
	if (getrandom(&load->seed, sizeof(load->seed), 0) < 0)
		load->seed = now_ns();
}

static int remote_take(void *context, const char *text, char *why)
{
	struct load_options *load = context;

	load->is_remote = true;
	if (ph_address_parse(text, &load->remote) == 0)
		return 0;
	snprintf(why, OPTIONS_WHY_BYTES, "it takes a numeric HOST:PORT, as 127.0.0.1:7000");
	return -EINVAL;
}

void load_options_add(struct options *options, struct load_options *load)
{
	static const char *const tls_names[] = {"mutual", "none", NULL};

	options_number(options, "connections", &load->connections, 1, LOAD_CONNECTIONS_MAX);
	options_choice(options, "tls", &load->tls, tls_names);
	options_number(options, "shards", &load->shards, 1, PH_SHARDS_MAX);
	options_number(options, "slots", &load->slots, 1, PH_SLOTS_MAX);
	options_number(options, "groups", &load->groups, 1, LOAD_GROUPS_MAX);
	options_number(options, "message-bytes", &load->message_bytes, MESSAGE_HEAD_BYTES,
		LOAD_PAYLOAD_MAX);
	options_number(options, "queue-bytes", &load->queue_bytes, 4096, 64u << 20);
	options_number(options, "close-ms", &load->close_ms, 10, 600000);
	options_call(options, "remote", remote_take, load);
	options_text(options, "cert", &load->cert_path);
	options_text(options, "key", &load->key_path);
	options_text(options, "ca", &load->ca_path);
	options_call(options, "fault", fault_take, &load->faults);
	options_number(options, "seed", &load->seed, 0, UINT64_MAX);
	options_number(options, "patience", &load->patience_s, 1, 100000);
	options_text(options, "json", &load->json_path);
	options_flag(options, "quiet", &load->is_quiet);
}

static int faults_check(const struct options *options, const struct load_options *load)
{
	for (uint32_t i = 0; i < load->faults.count; i++) {
		const struct fault *fault = &load->faults.items[i];
		uint32_t group = LOAD_GROUPS_MAX;
		char tail;

		if (fault->has_group &&
			(sscanf(fault->group, "g%u%c", &group, &tail) != 1 ||
				group >= load->groups))
			return options_refuse(options,
				"--fault %s: there is no group %s; there are g0 to g%llu (--groups)",
				fault->text, fault->group, (unsigned long long)load->groups - 1);
		if (fault_is_link(fault) &&
			load->connections * fault->permille / 1000 > FAULT_LINK_CONNECTIONS_MAX)
			return options_refuse(options,
				"--fault %s: the relay serves at most %u connections at once",
				fault->text, FAULT_LINK_CONNECTIONS_MAX);
	}
	return 0;
}

int load_options_check(const struct options *options, const struct load_options *load)
{
	bool has_files = load->cert_path != NULL && load->key_path != NULL && load->ca_path != NULL;
	bool has_one = load->cert_path != NULL || load->key_path != NULL || load->ca_path != NULL;

	if (has_one != (load->is_remote && load->tls == 0) || has_one != has_files)
		return options_refuse(
			options, "--cert, --key and --ca belong to --remote with --tls mutual");
	return faults_check(options, load);
}

void load_command_text(
	const struct load_options *load, int argc, char **argv, char *text, size_t bytes)
{
	size_t at = (size_t)snprintf(text, bytes, "peerhub-stress %s --seed %llu", load->name,
		(unsigned long long)load->seed);

	for (int i = 1; i < argc && at < bytes; i++) {
		if (strcmp(argv[i], "--seed") == 0) {
			i++;
			continue;
		}
		if (strncmp(argv[i], "--seed=", 7) != 0)
			at += (size_t)snprintf(text + at, bytes - at, " %s", argv[i]);
	}
}

/* ---- the process ------------------------------------------------------------------------ */

void load_sleep_us(uint32_t us)
{
	const struct timespec duration = {
		.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

	nanosleep(&duration, NULL); /* a signal may shorten it: callers look at their clock */
}

uint64_t process_cpu_ns(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

uint64_t process_rss(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%*u %llu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint32_t process_descriptors(void)
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

static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		perror("peerhub-stress: cannot raise the limit of open files");
}

uint64_t load_cpu_ns(struct load *load, enum load_end end)
{
	struct load_hub *hub = &load->hubs[end];
	uint32_t count = atomic_load(&hub->clock_count);
	uint64_t total = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct timespec spent;

		if (hub->hub != NULL && clock_gettime(hub->clocks[i], &spent) == 0)
			total += (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
	}
	return total;
}

/* ---- watchdog --------------------------------------------------------------------------- */

_Noreturn static void hang(struct load *load, const char *what)
{
	progress_end();
	fprintf(stderr, "HANG: %s (while %s); the hubs:\n", what, atomic_load(&load->phase));
	fflush(stderr);
	for (int end = 0; end < LOAD_ENDS; end++)
		if (load->hubs[end].hub != NULL)
			ph_hub_dump(load->hubs[end].hub, STDERR_FILENO);
	_exit(EXIT_HANG);
}

static void watch_look(struct load *load)
{
	uint64_t patience_ns = load->options.patience_s * 1000000000ull;
	uint64_t close_ns = load->options.close_ms * 1000000ull + patience_ns;
	uint64_t open_ns =
		(TIMEOUT_CONNECT_MS + TIMEOUT_HANDSHAKE_MS + TIMEOUT_WELCOME_MS) * 1000000ull +
		patience_ns;
	uint64_t end_ns = atomic_load(&load->phase_end_ns);

	if (end_ns != 0 && now_ns() > end_ns)
		hang(load, "this takes too long");
	if (load->options.may_block)
		close_ns = open_ns = UINT32_MAX * 1000000000ull;
	if (audit_overdue(load->audit, close_ns, open_ns, false) > 0) {
		audit_overdue(load->audit, close_ns, open_ns, true);
		hang(load, "the last event of a connection is overdue");
	}
}

static void *watch_main(void *argument)
{
	struct load *load = argument;

	while (!atomic_load(&load->watch_ends)) {
		load_sleep_us(WATCH_MS * 1000);
		watch_look(load);
	}
	return NULL;
}

void load_phase(struct load *load, const char *phase, uint64_t limit_ms)
{
	uint64_t patience_ns = load->options.patience_s * 1000000000ull;

	atomic_store(&load->phase_end_ns, 0);
	atomic_store(&load->phase, phase);
	atomic_store(&load->phase_end_ns, now_ns() + limit_ms * 1000000ull + patience_ns);
}

void load_violation(struct load *load, const char *format, ...)
{
	va_list arguments;
	char text[200];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	progress_end();
	audit_violation(load->audit, 0, "%s", text);
}

bool load_is_ok(struct load *load)
{
	struct audit_counts counts;

	audit_counts(load->audit, &counts);
	return counts.violations == 0;
}

/* ---- life ------------------------------------------------------------------------------- */

static int hub_start(struct load *load, enum load_end end, char *why)
{
	const struct load_options *options = &load->options;
	/* One shard may get all; closing ones keep their slot a while. */
	uint64_t slots = options->slots != 0 ? options->slots : 2 * options->connections + 256;
	struct load_hub *hub = &load->hubs[end];
	struct ph_options hub_options = {
		.size = sizeof(hub_options),
		.shard_count = (uint32_t)options->shards,
		.connections_per_shard = slots > PH_SLOTS_MAX ? PH_SLOTS_MAX : (uint32_t)slots,
		.send_queue_bytes = (uint32_t)options->queue_bytes,
		.message_bytes_max = LOAD_PAYLOAD_MAX,
		.timeout_connect_ms = TIMEOUT_CONNECT_MS,
		.timeout_handshake_ms = TIMEOUT_HANDSHAKE_MS,
		.timeout_welcome_ms = TIMEOUT_WELCOME_MS,
		.timeout_close_ms = (uint32_t)options->close_ms,
		.timeout_dead_ms =
			options->faults.count > 0 ? TIMEOUT_DEAD_FAULTS_MS : TIMEOUT_DEAD_MS,
		.ping_interval_ms = PING_MS,
		.flags = PH_HUB_TLS_FAST_DECODE,
		.user = hub,
	};

	return ph_hub_start(&hub_options, &load_callbacks, &hub->hub, why);
}

static int hub_listen(struct load *load, char *why)
{
	for (uint32_t i = 0; i < LOAD_LISTENERS; i++) {
		struct ph_listen_options options = {
			.framing = PH_FRAMING_MESSAGE,
			.tls = load->options.tls == 0 ? PH_TLS_MUTUAL : PH_TLS_NONE,
		};
		char text[PH_ADDRESS_TEXT_BYTES];
		int status;

		snprintf(text, sizeof(text), "127.0.1.%u:0", i + 1);
		status = ph_address_parse(text, &options.address);
		if (status == 0)
			status = ph_listen(
				load->hubs[LOAD_ACCEPTOR].hub, &options, &load->addresses[i]);
		if (status < 0) {
			snprintf(why, PH_WHY_BYTES, "cannot listen on %s: %s", text,
				strerror(-status));
			return status;
		}
	}
	return 0;
}

/* Whom we believe: ourselves, or the authority that the far end's operator named. */
static int trust_start(struct load *load, char *why)
{
	const struct load_options *options = &load->options;
	char text[TRUST_WHY_BYTES] = "";
	int status;

	if (options->tls != 0)
		return 0;
	if (!options->is_remote)
		return certs_create(&load->certs);
	status = trust_create(
		options->cert_path, options->key_path, options->ca_path, &load->trust, text);
	if (status < 0)
		snprintf(why, PH_WHY_BYTES, "%.*s", (int)PH_WHY_BYTES - 1, text);
	return status;
}

static int tables_create(struct load *load)
{
	struct audit_options audit = {
		.entry_count = 8192, .lane_count = LOAD_LANES, .is_echo = load->options.is_remote};

	/* Both ends of all connections, several times over: the rest remembers ended ones. */
	while (audit.entry_count < 6 * load->options.connections)
		audit.entry_count *= 2;
	load->serial_mask = audit.entry_count - 1;
	load->seats = calloc(load->options.connections, sizeof(*load->seats));
	load->seat_of = calloc(audit.entry_count, sizeof(*load->seat_of));
	if (load->seats == NULL || load->seat_of == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i < load->options.connections; i++)
		pthread_mutex_init(&load->seats[i].lock, NULL);
	histogram_init(&load->open_latency);
	return audit_create(&audit, &load->audit);
}

static int link_start(struct load *load, char *why)
{
	const struct fault_link_options options = {
		.faults = &load->options.faults,
		.targets = load->addresses,
		.target_count = LOAD_LISTENERS,
		.seed = load->options.seed,
	};

	if (!faults_have_links(&load->options.faults))
		return 0;
	return fault_link_start(&options, &load->link, why);
}

static int load_start(struct load *load, char *why)
{
	int status = tables_create(load);

	if (status == 0)
		status = trust_start(load, why);
	fault_ring_set(&load->options.faults, load->options.seed);
	for (uint32_t i = 0; i < LOAD_LISTENERS; i++)
		load->addresses[i] = load->options.remote;
	if (status == 0 && !load->options.is_remote) {
		status = hub_start(load, LOAD_ACCEPTOR, why);
		if (status == 0)
			status = hub_listen(load, why);
	}
	if (status == 0)
		status = hub_start(load, LOAD_DIALLER, why);
	if (status == 0)
		status = link_start(load, why);
	if (status == 0)
		status = -pthread_create(&load->watch, NULL, watch_main, load);
	load->has_watch = status == 0;
	return status;
}

static int load_stop(struct load *load)
{
	int status = 0;

	for (int end = 0; end < LOAD_ENDS; end++) {
		int stopped = 0;

		if (load->hubs[end].hub != NULL)
			stopped = ph_hub_stop(load->hubs[end].hub, PH_ABORT);
		if (stopped < 0)
			status = stopped;
		load->hubs[end].hub = NULL;
	}
	if (load->link != NULL)
		fault_link_counts(load->link, &load->link_counts);
	fault_link_stop(load->link);
	load->link = NULL;
	fault_ring_set(NULL, 0);
	return status;
}

int load_create(const struct load_options *options, struct load **load)
{
	struct load *made = calloc(1, sizeof(*made));
	char why[PH_WHY_BYTES] = "";
	int status;

	if (made == NULL) {
		fprintf(stderr, "peerhub-stress: cannot start: %s\n", strerror(ENOMEM));
		return EXIT_FAILED;
	}
	made->options = *options;
	made->phase = "starting";
	for (int end = 0; end < LOAD_ENDS; end++) {
		made->hubs[end].load = made;
		made->hubs[end].end = (enum load_end)end;
	}
	for (int how = 0; how < 2; how++) {
		histogram_init(&made->latency[how].call);
		histogram_init(&made->latency[how].goodbye);
		histogram_init(&made->latency[how].seen);
		histogram_init(&made->latency[how].final_here);
		histogram_init(&made->latency[how].final_there);
	}
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || stop_catch() < 0)
		status = -errno;
	else
		status = 0;
	descriptors_raise();
	if (!options->is_quiet)
		printf("seed %llu\n", (unsigned long long)options->seed);
	fflush(stdout);
	made->descriptors = process_descriptors();
	made->begin_ns = now_ns();
	if (status == 0)
		status = load_start(made, why);
	if (status < 0) {
		fprintf(stderr, "peerhub-stress: cannot start: %s\n",
			why[0] != '\0' ? why : strerror(-status));
		(void)load_stop(made);
		load_destroy(made);
		return EXIT_FAILED;
	}
	*load = made;
	return 0;
}

void load_destroy(struct load *load)
{
	if (load == NULL)
		return;
	atomic_store(&load->watch_ends, true);
	if (load->has_watch)
		pthread_join(load->watch, NULL);
	certs_destroy(load->certs);
	trust_destroy(load->trust);
	audit_destroy(load->audit);
	if (load->seats != NULL)
		for (uint64_t i = 0; i < load->options.connections; i++)
			pthread_mutex_destroy(&load->seats[i].lock);
	free(load->seats);
	free(load->seat_of);
	free(load);
}

/* ---- opening ---------------------------------------------------------------------------- */

static uint32_t open_count(struct load *load, uint32_t first, uint32_t count)
{
	uint32_t open = 0;

	for (uint32_t i = first; i < first + count; i++)
		open += load_seat_is_open(load, &load->seats[i]);
	return open;
}

/* Dial again what is empty, as long as it has tries left. True: something is still to be expected. */
static bool open_pass(struct load *load, uint32_t first, uint32_t count, uint8_t *tries)
{
	bool is_busy = false;

	for (uint32_t i = first; i < first + count && !stop_requested(); i++) {
		struct seat *seat = &load->seats[i];
		uint64_t live = atomic_load(&load->live), open = atomic_load(&load->open);
		uint64_t open_seats = load->options.is_remote ? open : open / 2;

		if (load_seat_is_empty(seat)) {
			if (tries[i - first] == OPEN_TRIES)
				continue;
			is_busy = true;
			if (live > open_seats + OPEN_UNDER_WAY)
				return true;
			if (load_open(load, i))
				tries[i - first]++;
		} else if (!load_seat_is_open(load, seat)) {
			is_busy = true;
		}
	}
	return is_busy;
}

uint32_t load_open_all(struct load *load, uint32_t first, uint32_t count)
{
	uint8_t *tries = calloc(count, sizeof(*tries));

	if (tries == NULL) {
		load_violation(load, "no memory to open %u connections", count);
		return 0;
	}
	/* A handshake takes both ends some milliseconds in the slowest build. */
	load_phase(load, "opening", 60000 + 20ull * count);
	while (!stop_requested() && open_pass(load, first, count, tries))
		load_wait(load, 1, "opening");
	free(tries);
	return open_count(load, first, count);
}

/* ---- ending ----------------------------------------------------------------------------- */

void load_stats(struct load *load, enum load_end end, struct ph_statistics *stats)
{
	memset(stats, 0, sizeof(*stats));
	if (load->hubs[end].hub != NULL)
		ph_stats(load->hubs[end].hub, stats);
}

static void stats_sum(struct load *load)
{
	struct ph_statistics *sum = &load->stats, one;

	memset(sum, 0, sizeof(*sum));
	for (int end = 0; end < LOAD_ENDS; end++) {
		load_stats(load, (enum load_end)end, &one);
#define STATS_ADD(name) sum->name += one.name;
		PH_COUNTERS(STATS_ADD)
#undef STATS_ADD
		sum->live += one.live;
		sum->open += one.open;
		sum->handshakes += one.handshakes;
	}
}

/* What the hubs count and what the callbacks saw must be the same. */
static void stats_judge(struct load *load)
{
	const struct ph_statistics *stats = &load->stats;
	struct audit_counts counts;

	do {
		load_sleep_us(2000);
		stats_sum(load);
	} while (stats->live > 0); /* the watchdog bounds it */
	audit_counts(load->audit, &counts);
	if (stats->open != 0 || stats->handshakes != 0)
		load_violation(load, "no slot is in use, but %llu are open, %llu in handshake",
			(unsigned long long)stats->open, (unsigned long long)stats->handshakes);
	if (stats->opened != counts.opened || stats->closed != counts.opened ||
		stats->closed + stats->failed != counts.finals || stats->dialled != counts.dialled)
		load_violation(load,
			"the hubs count %llu dialled, %llu opened, %llu closed, %llu failed; events "
			"%llu, %llu, %llu ended",
			(unsigned long long)stats->dialled, (unsigned long long)stats->opened,
			(unsigned long long)stats->closed, (unsigned long long)stats->failed,
			(unsigned long long)counts.dialled, (unsigned long long)counts.opened,
			(unsigned long long)counts.finals);
}

/* Who was late, and whom it made give up, prove nothing but a busy machine. */
static bool had_timeouts(struct load *load)
{
	const struct ph_statistics *stats = &load->stats;

	for (int end = 0; end < LOAD_ENDS; end++)
		if (load_ended_by(load, (enum load_end)end, PH_REASON_TRANSPORT_DEAD) > 0)
			return true;
	return stats->handshakes_timed_out > 0 || stats->closes_deadline > 0;
}

static void suspects_judge(struct load *load)
{
	uint64_t suspects = atomic_load(&load->suspects);

	if (suspects > 0 && !had_timeouts(load))
		audit_violation(load->audit, atomic_load(&load->suspect_serial),
			"%llu ended though nobody closed them, the last one by %s",
			(unsigned long long)suspects,
			ph_reason_name(atomic_load(&load->suspect_reason)));
}

void load_end(struct load *load)
{
	const struct ph_filter everything = {.has_tag = 0};
	int status;

	atomic_store(&load->is_ending, true);
	load_phase(load, "closing what is left",
		TIMEOUT_HANDSHAKE_MS + TIMEOUT_WELCOME_MS + load->options.close_ms);
	while (audit_live(load->audit) > 0) {
		for (int end = 0; end < LOAD_ENDS; end++)
			if (load->hubs[end].hub != NULL &&
				ph_close_where(load->hubs[end].hub, &everything, PH_ABORT,
					PH_REASON_APP_NORMAL, 0, 0) < 0)
				load_violation(load, "ph_close_where of all failed");
		load_wait(load, 10, "ending");
	}
	stats_judge(load);
	suspects_judge(load);
	load_phase(load, "stopping the hubs", load->options.close_ms);
	status = load_stop(load);
	if (status < 0)
		load_violation(load, "ph_hub_stop answered %d", status);
	audit_finish(load->audit);
	/* A stopped hub leaves one descriptor a shard: its wake-up, which lives with the process. */
	if (process_descriptors() > load->descriptors + LOAD_ENDS * load->options.shards)
		load_violation(load, "%u descriptors are open, %u were before",
			process_descriptors(), load->descriptors);
	load_phase(load, "reporting", 60000);
	progress_end();
}
