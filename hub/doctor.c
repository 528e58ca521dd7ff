/*
 * doctor.c: peerhub doctor. Looks at this machine as a hub would use it and says, line by line, what is good,
 * what makes it slow, and what keeps it from running, each with the command that mends it. Nothing is changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include <jansson.h>

#include "commands.h"
#include "options.h"
#include "peerhub.h"
#include "say.h"
#include "text.h"
#include "trial.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOFILE_WANTED 65536u
#define SHARD_MEMLOCK_BYTES (1u << 20) /* of one ring, rounded up: what older kernels count */

enum verdict {
	VERDICT_GOOD,
	VERDICT_SLOW, /* runs, but less well */
	VERDICT_BAD, /* cannot run */
};

struct doctor {
	bool is_json;
	json_t *findings;
	unsigned slow, bad;
};

static void finding(struct doctor *doctor, enum verdict verdict, const char *what, const char *fix,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

/* `fix` is a command or a sentence, NULL when there is nothing to mend. */
static void finding(struct doctor *doctor, enum verdict verdict, const char *what, const char *fix,
	const char *format, ...)
{
	static const char *const words[] = {"good", "slow", "bad"};
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	doctor->slow += verdict == VERDICT_SLOW;
	doctor->bad += verdict == VERDICT_BAD;
	if (doctor->is_json) {
		(void)json_array_append_new(doctor->findings,
			json_pack("{s:s, s:s, s:s, s:s*}", "verdict", words[verdict], "what", what,
				"text", text, "fix", fix));
		return;
	}
	printf("%-5s %-18s %s\n", words[verdict], what, text);
	if (fix != NULL)
		printf("%-24s mend: %s\n", "", fix);
}

/* ---- reading the machine ------------------------------------------------------------------- */

/* The first line of a file, without its end. False: it cannot be read. */
static bool file_line(const char *path, char *line, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count = fd >= 0 ? read(fd, line, bytes - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (count < 0)
		return false;
	line[count] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static bool file_number(const char *path, uint64_t *number)
{
	char line[64];

	return file_line(path, line, sizeof(line)) && text_number(line, 0, UINT64_MAX, number);
}

/* ---- what keeps a hub from running --------------------------------------------------------- */

static void check_kernel(struct doctor *doctor)
{
	struct utsname name;
	unsigned major = 0, minor = 0;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return;
	if (major > 6 || (major == 6 && minor >= 1))
		finding(doctor, VERDICT_GOOD, "kernel", NULL, "Linux %s", name.release);
	else
		finding(doctor, VERDICT_BAD, "kernel", "install Linux 6.1 or newer",
			"Linux %s is older than 6.1", name.release);
}

static void check_io_uring(struct doctor *doctor)
{
	uint64_t disabled = 0;

	if (!file_number("/proc/sys/kernel/io_uring_disabled", &disabled))
		return; /* older kernels have no such switch */
	if (disabled == 0)
		finding(doctor, VERDICT_GOOD, "io_uring", NULL, "not restricted by sysctl");
	else
		finding(doctor, disabled == 2 ? VERDICT_BAD : VERDICT_SLOW, "io_uring",
			"sysctl -w kernel.io_uring_disabled=0",
			"kernel.io_uring_disabled is %" PRIu64 ": %s", disabled,
			disabled == 2 ? "for nobody"
				      : "only for CAP_SYS_ADMIN and kernel.io_uring_group");
}

/* The engine's own self-tests, by starting one shard of it. */
static void check_engine(struct doctor *doctor)
{
	struct ph_options options = {
		.size = sizeof(options), .shard_count = 1, .connections_per_shard = 64};
	struct ph_callbacks callbacks = {0};
	char why[PH_WHY_BYTES] = "", features[512], *rest = NULL;
	struct ph_hub *hub = NULL;
	int status = ph_hub_start(&options, &callbacks, &hub, why);

	if (status < 0) {
		finding(doctor, VERDICT_BAD, "engine",
			status == -EPERM
				? "allow io_uring_setup, io_uring_enter and io_uring_register to "
				  "this process (sysctl, seccomp profile of the container)"
				: NULL,
			"does not start: %s", why[0] != '\0' ? why : strerror(-status));
		return;
	}
	finding(doctor, VERDICT_GOOD, "engine", NULL, "starts and stops");
	snprintf(features, sizeof(features), "%s", ph_features(hub));
	for (char *line = strtok_r(features, "\n", &rest); line != NULL;
		line = strtok_r(NULL, "\n", &rest)) {
		bool is_there = strstr(line, " no") == NULL;

		finding(doctor, is_there ? VERDICT_GOOD : VERDICT_SLOW, "feature",
			is_there ? NULL : "a newer kernel", "%s", line);
	}
	if (ph_hub_stop(hub, PH_ABORT) < 0)
		finding(doctor, VERDICT_BAD, "engine", NULL, "does not stop");
}

static void check_limits(struct doctor *doctor)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct rlimit limit;
	char text[TEXT_SIZE_BYTES];

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		finding(doctor, limit.rlim_max < NOFILE_WANTED ? VERDICT_SLOW : VERDICT_GOOD,
			"descriptors",
			limit.rlim_max < NOFILE_WANTED
				? "LimitNOFILE=1048576 in the unit, or ulimit -n"
				: NULL,
			"at most %" PRIu64 " (%" PRIu64 " now); a shard's direct descriptors are "
			"bounded by it, too",
			(uint64_t)limit.rlim_max, (uint64_t)limit.rlim_cur);
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && processors > 0) {
		bool is_enough = limit.rlim_cur == RLIM_INFINITY || geteuid() == 0 ||
			limit.rlim_cur >= (uint64_t)processors * SHARD_MEMLOCK_BYTES;

		finding(doctor, is_enough ? VERDICT_GOOD : VERDICT_SLOW, "locked memory",
			is_enough ? NULL : "LimitMEMLOCK=64M in the unit, or ulimit -l",
			"%s for %ld processors",
			limit.rlim_cur == RLIM_INFINITY ? "no limit"
							: text_size(limit.rlim_cur, text),
			processors);
	}
}

/* ---- what makes it slow -------------------------------------------------------------------- */

static void check_sysctl(struct doctor *doctor, const char *name, uint64_t wanted, const char *why)
{
	char path[128], fix[128];
	uint64_t value;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	for (char *at = path + strlen("/proc/sys/"); *at != '\0'; at++)
		if (*at == '.')
			*at = '/';
	if (!file_number(path, &value))
		return;
	snprintf(fix, sizeof(fix), "sysctl -w %s=%" PRIu64, name, wanted);
	finding(doctor, value < wanted ? VERDICT_SLOW : VERDICT_GOOD, name,
		value < wanted ? fix : NULL, "%" PRIu64 "%s%s", value, value < wanted ? ": " : "",
		value < wanted ? why : "");
}

static void check_ktls(struct doctor *doctor)
{
	char why[PH_WHY_BYTES];
	int status = ph_kernel_tls(why);

	finding(doctor, VERDICT_GOOD, "kTLS", NULL, "%s; %s", why,
		status == 0 ? "a hub uses its own record layer all the same (docs/tls.md)"
			    : "peerhub's own record layer is used");
}

static void check_openssl(struct doctor *doctor)
{
	unsigned major = OPENSSL_version_major(), minor = OPENSSL_version_minor();

	if (major > 3 || (major == 3 && minor >= 5))
		finding(doctor, VERDICT_GOOD, "OpenSSL", NULL, "%s",
			OpenSSL_version(OPENSSL_VERSION));
	else
		finding(doctor, VERDICT_GOOD, "OpenSSL", NULL,
			"%s; handshakes cost less with 3.5 or newer",
			OpenSSL_version(OPENSSL_VERSION));
}

static void check_clock(struct doctor *doctor)
{
	char source[64] = "";

	if (!file_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
		    sizeof(source)))
		return;
	if (strcmp(source, "tsc") == 0 || strcmp(source, "kvm-clock") == 0 ||
		strcmp(source, "arch_sys_counter") == 0)
		finding(doctor, VERDICT_GOOD, "clock", NULL, "%s", source);
	else
		finding(doctor, VERDICT_SLOW, "clock",
			"echo tsc >/sys/devices/system/clocksource/clocksource0/"
			"current_clocksource, if it is available",
			"%s: reading the time is a system call", source);
}

static void check_ipv6(struct doctor *doctor)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		close(fd);
		finding(doctor, VERDICT_GOOD, "IPv6", NULL, "there are IPv6 sockets");
		return;
	}
	finding(doctor, VERDICT_BAD, "IPv6", "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
		"no IPv6 sockets: %s", strerror(errno));
}

/* ---- does the confinement hold ------------------------------------------------------------- */

static void check_trial(struct doctor *doctor, const struct trial_result *trial)
{
	static const char *const ends[] = {"let", "refused", "ends the hub", "could not be tried"};
	bool is_good = trial->is_hostile
		? trial->confined == TRIAL_REFUSED || trial->confined == TRIAL_KILLED
		: trial->confined == TRIAL_DONE;

	finding(doctor, is_good ? VERDICT_GOOD : VERDICT_BAD,
		trial->is_hostile ? "intruder" : "hub",
		is_good ? NULL
			: trial->is_hostile
			? "a kernel with seccomp and Landlock 4 or newer (Linux 6.7), "
			  "and \"landlock\" in its lsm= parameter"
			: "[confinement] mode = no, and tell us",
		"%s: %s (unconfined: %s)", trial->what, ends[trial->confined], ends[trial->free]);
}

static void check_confinement(struct doctor *doctor)
{
	char directory[] = "/tmp/peerhub-doctor-XXXXXX";
	struct trial_result trial;

	if (mkdtemp(directory) == NULL) {
		finding(doctor, VERDICT_BAD, "confinement", NULL, "cannot make \"%s\": %s",
			directory, strerror(errno));
		return;
	}
	for (size_t i = 0; i < trial_count(); i++) {
		trial_run(i, directory, &trial);
		if (i == 0)
			finding(doctor, VERDICT_GOOD, "confinement", NULL, "%s",
				trial.text[0] != '\0' ? trial.text : "none");
		check_trial(doctor, &trial);
	}
	(void)rmdir(directory);
}

static int doctor_end(struct doctor *doctor, const char *bad, const char *slow, const char *good)
{
	if (doctor->is_json) {
		(void)!json_dumpf(doctor->findings, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(doctor->findings);
	} else {
		printf("\n%s\n", doctor->bad > 0 ? bad : doctor->slow > 0 ? slow : good);
	}
	return doctor->bad > 0 ? EXIT_FAILED : EXIT_OK;
}

int doctor_main(int argc, char **argv)
{
	bool confinement = false;
	struct doctor doctor = {0};
	const struct option_spec options[] = {
		{"json", OPTION_FLAG, NULL, "the findings as JSON, for scripts", &doctor.is_json, 0,
			0},
		{"confinement", OPTION_FLAG, NULL,
			"only try whether a confined process is let do what an intruder would",
			&confinement, 0, 0},
	};
	const struct command command = {"peerhub doctor", "",
		"Say why a hub cannot run, or not run fast, on this machine, and what mends it.\n"
		"Run it as the user and in the place (unit, container) where the hub runs.\n"
		"Exit code 0: a hub runs here (--confinement: it holds); 1: it cannot (it does not).",
		options, COUNT(options), 0, 0};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (doctor.is_json)
		doctor.findings = json_array();
	if (confinement) {
		check_confinement(&doctor);
		check_engine(&doctor); /* its rings: restricted_rings */
		return doctor_end(&doctor, "the confinement does not hold", "the confinement holds",
			"the confinement holds");
	}
	check_kernel(&doctor);
	check_io_uring(&doctor);
	check_engine(&doctor);
	check_ipv6(&doctor);
	check_limits(&doctor);
	check_sysctl(&doctor, "net.core.somaxconn", 4096,
		"a burst of connects overflows the queue of a listener");
	check_sysctl(&doctor, "net.ipv4.tcp_max_syn_backlog", 1024,
		"a burst of connects is answered with cookies");
	check_sysctl(&doctor, "net.core.wmem_max", 262144,
		"send buffers are smaller than the 256 KiB that are asked for");
	check_sysctl(&doctor, "net.core.rmem_max", 262144,
		"receive buffers are smaller than the 256 KiB that are asked for");
	check_sysctl(&doctor, "net.ipv4.tcp_max_orphans", 16384,
		"closing many connections at once makes the kernel reset some");
	check_ktls(&doctor);
	check_openssl(&doctor);
	check_clock(&doctor);
	return doctor_end(&doctor, "a hub cannot run here", "a hub runs here, and could run better",
		"a hub runs well here");
}
