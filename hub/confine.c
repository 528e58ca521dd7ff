/*
 * confine.c: see confine.h.
 *
 * A filter that kills what is merely unusual would turn a new C library into an outage: what is not on the
 * list fails with EPERM and is logged by the kernel, and only what a hub never has a reason for ends it.
 *
 * A build with a sanitizer or with coverage asks for much more (tracing its own threads at the end, reading
 * symbols, writing counters). It gets the same steps with wider lists, so that all paths are gone through.
 */
#include "confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <seccomp.h>

#include "check.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PATH_BYTES 4096u

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(PEERHUB_COVERAGE)
#define IS_INSTRUMENTED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_INSTRUMENTED true
#endif
#endif
#ifndef IS_INSTRUMENTED
#define IS_INSTRUMENTED false
#endif

static struct {
	bool has_begun, is_whole, is_finished;
	bool no_new_privs, has_ports, has_seccomp;
	int landlock; /* the kernel's version; 0: none */
	int landlock_status, seccomp_status, finish_status; /* negative errno: why not */
	bool is_late; /* there were other threads already, which Landlock does not reach */
	char text[512];
} confine;

/* ---- Landlock ------------------------------------------------------------------------------ */

/* Numbers of Landlock that are newer than the headers of the C library's kernel. */
#define LL_VERSION_FLAG 1u
#define LL_RULE_PATH 1
#define LL_RULE_PORT 2
#define LL_EXECUTE (1ull << 0)
#define LL_WRITE_FILE (1ull << 1)
#define LL_READ_FILE (1ull << 2)
#define LL_READ_DIR (1ull << 3)
#define LL_REMOVE_DIR (1ull << 4)
#define LL_REMOVE_FILE (1ull << 5)
#define LL_MAKE_DIR (1ull << 7)
#define LL_MAKE_REG (1ull << 8)
#define LL_MAKE_SOCK (1ull << 9)
#define LL_REFER (1ull << 13) /* version 2 */
#define LL_TRUNCATE (1ull << 14) /* version 3 */
#define LL_IOCTL_DEV (1ull << 15) /* version 5 */
#define LL_BIND_TCP (1ull << 0) /* version 4 */
#define LL_SCOPE_ABSTRACT (1ull << 0) /* version 6 */
#define LL_SCOPE_SIGNAL (1ull << 1) /* version 6 */

#define LL_ALL_VERSION_1 ((1ull << 13) - 1)
#define LL_READ (LL_READ_FILE | LL_READ_DIR)
#define LL_KEEP                                                                                 \
	(LL_READ | LL_WRITE_FILE | LL_REMOVE_DIR | LL_REMOVE_FILE | LL_MAKE_DIR | LL_MAKE_REG | \
		LL_REFER | LL_TRUNCATE)
/* What a file that is no directory can be allowed. */
#define LL_OF_FILE (LL_EXECUTE | LL_WRITE_FILE | LL_READ_FILE | LL_TRUNCATE | LL_IOCTL_DEV)

struct ll_ruleset {
	uint64_t files, ports, scopes;
};

struct ll_path {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

struct ll_port {
	uint64_t access, port;
};

/* Read by the C library and OpenSSL, or by nobody: then it does no harm. */
static const char *const read_only[] = {"/dev/null", "/dev/random", "/dev/urandom", "/proc/self",
	"/proc/sys/vm/overcommit_memory", "/proc/sys/net/core/somaxconn", "/sys/devices/system/cpu",
	"/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/localtime", "/etc/nsswitch.conf",
	"/etc/resolv.conf", "/etc/services", "/usr/share/zoneinfo"};

static int landlock_version(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LL_VERSION_FLAG);

	return version < 0 ? -errno : (int)version;
}

static uint64_t landlock_files(int version)
{
	return LL_ALL_VERSION_1 | (version >= 2 ? LL_REFER : 0) | (version >= 3 ? LL_TRUNCATE : 0) |
		(version >= 5 ? LL_IOCTL_DEV : 0);
}

/* Signals and abstract sockets stay inside, but for a service manager that listens on an abstract one. */
static uint64_t landlock_scopes(int version)
{
	const char *notify = getenv("NOTIFY_SOCKET");

	if (version < 6)
		return 0;
	return LL_SCOPE_SIGNAL | (notify != NULL && notify[0] == '@' ? 0 : LL_SCOPE_ABSTRACT);
}

static int landlock_path(int ruleset, const char *path, uint64_t access)
{
	struct ll_path rule = {.fd = open(path, O_PATH | O_CLOEXEC)};
	struct stat info;
	int status = 0;

	if (rule.fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
	if (fstat(rule.fd, &info) < 0)
		status = -errno;
	rule.access = S_ISDIR(info.st_mode) ? access : access & LL_OF_FILE;
	if (status == 0 && syscall(SYS_landlock_add_rule, ruleset, LL_RULE_PATH, &rule, 0) < 0)
		status = -errno;
	close(rule.fd);
	return status;
}

/* The directory that holds `path`, and the one that holds what a symbolic link there points to. */
static int landlock_parent(int ruleset, const char *path, uint64_t access)
{
	char parent[PATH_BYTES], *real = realpath(path, NULL);
	const char *names[] = {path, real};
	int status = 0;

	for (size_t i = 0; i < COUNT(names) && status == 0; i++) {
		const char *slash = names[i] != NULL ? strrchr(names[i], '/') : NULL;
		size_t bytes = slash != NULL ? (size_t)(slash - names[i]) : 0;

		if (names[i] == NULL || bytes >= sizeof(parent))
			continue;
		if (slash == NULL)
			strcpy(parent, ".");
		else
			snprintf(parent, sizeof(parent), "%.*s", bytes > 0 ? (int)bytes : 1,
				names[i]);
		status = landlock_path(ruleset, parent, access);
	}
	free(real);
	return status;
}

static int landlock_rules(int ruleset, const struct confine_options *options, uint64_t files)
{
	int status = 0;

	for (size_t i = 0; i < COUNT(read_only) && status == 0; i++)
		status = landlock_path(ruleset, read_only[i], LL_READ & files);
	if (status == 0)
		status = landlock_path(ruleset, "/dev/null", (LL_READ | LL_WRITE_FILE) & files);
	if (status == 0 && IS_INSTRUMENTED)
		status = landlock_path(ruleset, "/", LL_READ & files);
	if (status == 0 && options->store != NULL)
		status = landlock_path(ruleset, options->store, LL_KEEP & files);
	if (status == 0 && options->receive != NULL)
		status = landlock_path(ruleset, options->receive, LL_KEEP & files);
	if (status == 0 && options->config != NULL)
		status = landlock_parent(ruleset, options->config, LL_READ & files);
	if (status == 0 && options->token != NULL && options->token[0] != '\0')
		status = landlock_parent(ruleset, options->token, LL_READ & files);
	if (status == 0 && options->admin_socket != NULL)
		status = landlock_parent(ruleset, options->admin_socket,
			(LL_MAKE_SOCK | LL_REMOVE_FILE | LL_READ_DIR) & files);
	return status;
}

static int landlock_ports(int ruleset, const struct confine_options *options)
{
	for (size_t i = 0; i < options->port_count; i++) {
		struct ll_port rule = {LL_BIND_TCP, options->ports[i]};

		if (syscall(SYS_landlock_add_rule, ruleset, LL_RULE_PORT, &rule, 0) < 0)
			return -errno;
	}
	return 0;
}

/* Returns the version in force, or a negative errno. */
static int landlock_begin(const struct confine_options *options)
{
	int version = landlock_version(), ruleset, status;
	bool has_ports = version >= 4 && !options->has_any_port;
	struct ll_ruleset wanted;
	size_t bytes;

#ifdef PEERHUB_COVERAGE
	return -ENOTSUP; /* counters are written to wherever the build was */
#endif
	if (version <= 0)
		return version < 0 ? version : -ENOSYS;
	wanted = (struct ll_ruleset){
		landlock_files(version), has_ports ? LL_BIND_TCP : 0, landlock_scopes(version)};
	/* An older kernel takes the structure it knows. */
	bytes = version >= 6 ? sizeof(wanted) : version >= 4 ? 16 : 8;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &wanted, bytes, 0);
	if (ruleset < 0)
		return -errno;
	status = landlock_rules(ruleset, options, wanted.files);
	if (status == 0 && has_ports)
		status = landlock_ports(ruleset, options);
	if (status == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		status = -errno;
	close(ruleset);
	confine.has_ports = status == 0 && has_ports;
	return status < 0 ? status : version;
}

/* ---- seccomp ------------------------------------------------------------------------------- */

/* A name that this kernel or processor does not have is passed over. */
static const char *const allowed[] = {
	/* files */
	"access",
	"close",
	"close_range",
	"copy_file_range",
	"dup",
	"dup2",
	"dup3",
	"faccessat",
	"faccessat2",
	"fadvise64",
	"fallocate",
	"fchmod",
	"fchmodat",
	"fchown",
	"fdatasync",
	"flock",
	"fstat",
	"fstatfs",
	"fsync",
	"ftruncate",
	"getcwd",
	"getdents64",
	"link",
	"linkat",
	"lseek",
	"lstat",
	"mkdir",
	"mkdirat",
	"newfstatat",
	"open",
	"openat",
	"pread64",
	"preadv",
	"pwrite64",
	"pwritev",
	"read",
	"readlink",
	"readlinkat",
	"readv",
	"rename",
	"renameat",
	"renameat2",
	"rmdir",
	"sendfile",
	"stat",
	"statfs",
	"statx",
	"sync_file_range",
	"truncate",
	"umask",
	"unlink",
	"unlinkat",
	"utimensat",
	"write",
	"writev",
	/* waiting */
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"eventfd2",
	"pipe2",
	"poll",
	"ppoll",
	"pselect6",
	"select",
	"signalfd4",
	"timerfd_create",
	"timerfd_settime",
	/* sockets; which kinds, see below */
	"accept",
	"accept4",
	"bind",
	"connect",
	"getpeername",
	"getsockname",
	"getsockopt",
	"listen",
	"recvfrom",
	"recvmmsg",
	"recvmsg",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"setsockopt",
	"shutdown",
	"io_uring_enter",
	"io_uring_register",
	"io_uring_setup",
	/* memory */
	"brk",
	"madvise",
	"mbind",
	"mincore",
	"mlock",
	"mlock2",
	"mremap",
	"msync",
	"munlock",
	"munmap",
	/* threads */
	"exit",
	"exit_group",
	"futex",
	"futex_waitv",
	"get_robust_list",
	"getcpu",
	"membarrier",
	"rseq",
	"sched_getaffinity",
	"sched_getparam",
	"sched_getscheduler",
	"sched_yield",
	"set_robust_list",
	"set_tid_address",
	/* time and signals */
	"alarm",
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"getitimer",
	"gettimeofday",
	"nanosleep",
	"restart_syscall",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigsuspend",
	"rt_sigtimedwait",
	"setitimer",
	"sigaltstack",
	"time",
	"times",
	/* asking */
	"capget",
	"getegid",
	"geteuid",
	"getgid",
	"getgroups",
	"getpgrp",
	"getpid",
	"getppid",
	"getpriority",
	"getrandom",
	"getresgid",
	"getresuid",
	"getrlimit",
	"getrusage",
	"getsid",
	"gettid",
	"getuid",
	"setrlimit",
	"sysinfo",
	"uname",
	/* the second step */
	"seccomp",
};

/* What no hub does: who asks is not the hub any more. */
static const char *const deadly[] = {"acct", "add_key", "bpf", "chroot", "delete_module", "execve",
	"execveat", "finit_module", "fsmount", "fsopen", "init_module", "ioperm", "iopl", "kcmp",
	"kexec_file_load", "kexec_load", "keyctl", "mount", "mount_setattr", "move_mount",
	"name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open",
	"pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl",
	"reboot", "request_key", "setns", "swapoff", "swapon", "umount2", "unshare", "userfaultfd",
	"vmsplice"};

static int rule_names(
	scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int number = seccomp_syscall_resolve_name(names[i]), status;

		if (number == __NR_SCMP_ERROR)
			continue; /* newer than this libseccomp */
		status = seccomp_rule_add(filter, action, number, 0);
		if (status < 0 && status != -EDOM)
			return status;
	}
	return 0;
}

/* Allow `name` when its argument at `index`, masked, is `value`. */
static int rule_masked(
	scmp_filter_ctx filter, int number, unsigned index, uint64_t mask, uint64_t value)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
		SCMP_CMP(index, SCMP_CMP_MASKED_EQ, mask, value));
}

static struct scmp_arg_cmp arg_is(unsigned index, uint64_t value)
{
	return (struct scmp_arg_cmp){.arg = index, .op = SCMP_CMP_EQ, .datum_a = value};
}

static int rule_equal(
	scmp_filter_ctx filter, int number, unsigned index, const uint64_t *values, size_t count)
{
	int status = 0;

	for (size_t i = 0; i < count && status == 0; i++)
		status = seccomp_rule_add(
			filter, SCMP_ACT_ALLOW, number, 1, arg_is(index, values[i]));
	return status;
}

/* Calls that depend on what they are asked for. */
static int rules_with_arguments(scmp_filter_ctx filter)
{
	static const uint64_t families[] = {AF_INET, AF_INET6, AF_UNIX};
	static const uint64_t local[] = {AF_UNIX};
	static const uint64_t requests[] = {FIONREAD, FIONBIO, FIOCLEX, TCGETS, TIOCGWINSZ, 0x5411,
		SIOCGIFINDEX /* an address with the name of an interface */};
	static const uint64_t names[] = {PR_SET_NAME, PR_GET_NAME, 0x53564d41 /* PR_SET_VMA */};
	uint64_t self[] = {0, (uint64_t)getpid()};
	int status;

	status = rule_equal(filter, SCMP_SYS(socket), 0, families, COUNT(families));
	/* getifaddrs. */
	if (status == 0)
		status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
			arg_is(0, AF_NETLINK), arg_is(2, NETLINK_ROUTE));
	if (status == 0)
		status = rule_equal(filter, SCMP_SYS(socketpair), 0, local, COUNT(local));
	if (status == 0)
		status = rule_equal(filter, SCMP_SYS(ioctl), 1, requests, COUNT(requests));
	if (status == 0)
		status = rule_equal(filter, SCMP_SYS(prctl), 0, names, COUNT(names));
	/* Signals and limits: its own. */
	if (status == 0)
		status = rule_equal(filter, SCMP_SYS(tgkill), 0, self + 1, 1);
	if (status == 0)
		status = rule_equal(filter, SCMP_SYS(kill), 0, self + 1, 1);
	if (status == 0)
		status = rule_equal(filter, SCMP_SYS(prlimit64), 0, self, COUNT(self));
	/* No memory that is run, and no process: threads only. */
	if (status == 0)
		status = rule_masked(filter, SCMP_SYS(mmap), 2, PROT_EXEC, 0);
	if (status == 0)
		status = rule_masked(filter, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);
	if (status == 0)
		status = rule_masked(filter, SCMP_SYS(clone), 0, CLONE_THREAD, CLONE_THREAD);
	/* clone3 hides its flags in memory: the C library falls back to clone. */
	if (status == 0)
		status = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* fcntl: no signals to others by F_SETOWN. */
	for (uint64_t command = 0; command <= 7 && status == 0; command++)
		status = rule_equal(filter, SCMP_SYS(fcntl), 1, &command, 1);
	if (status == 0) {
		static const uint64_t commands[] = {
			F_DUPFD_CLOEXEC, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_GETPIPE_SZ};

		status = rule_equal(filter, SCMP_SYS(fcntl), 1, commands, COUNT(commands));
	}
	return status;
}

static int filter_load(scmp_filter_ctx filter)
{
	int status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	/* The kernel logs what is refused (kernel.seccomp.actions_logged); one too old for it does not. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (status == 0)
		status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* set already */
	if (status == 0)
		status = seccomp_attr_set(
			filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
	if (status == 0)
		status = seccomp_load(filter);
	return status;
}

static int seccomp_begin(void)
{
	uint32_t otherwise = IS_INSTRUMENTED ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM);
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int status;

	if (filter == NULL)
		return -ENOMEM;
	status = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (status == 0 && IS_INSTRUMENTED) {
		static const char *const symbols[] = {"execve", "execveat"};

		/* A report of a sanitizer may start a reader of symbols: that fails, and the report comes. */
		status = rule_names(filter, SCMP_ACT_ERRNO(EPERM), symbols, COUNT(symbols));
		if (status == 0)
			status = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket),
				1, arg_is(0, AF_PACKET));
	} else if (status == 0) {
		status = rule_names(filter, SCMP_ACT_KILL_PROCESS, deadly, COUNT(deadly));
		if (status == 0)
			status = rule_names(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
		if (status == 0)
			status = rules_with_arguments(filter);
	}
	if (status == 0)
		status = filter_load(filter);
	seccomp_release(filter);
	return status;
}

/* On top of the first: rings are all there, and so is the last filter. */
static int seccomp_finish(void)
{
	static const char *const over[] = {"io_uring_setup", "seccomp"};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int status;

	if (filter == NULL)
		return -ENOMEM;
	status = rule_names(filter, SCMP_ACT_ERRNO(EPERM), over, COUNT(over));
	if (status == 0)
		status = filter_load(filter);
	seccomp_release(filter);
	return status;
}

/* ---- both ---------------------------------------------------------------------------------- */

/* What is read once in a life, and not again: configuration of OpenSSL, the time zone, random numbers. */
static void read_ahead(void)
{
	uint8_t byte;

	(void)OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS |
			OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS,
		NULL);
	(void)RAND_bytes(&byte, 1);
	tzset();
}

static bool has_other_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	if (tasks == NULL)
		return false;
	while (count < 4 && readdir(tasks) != NULL)
		count++;
	closedir(tasks);
	return count == 4; /* ".", "..", this one, and another */
}

static void text_make(void)
{
	char landlock[128], seccomp[64], rings[64];

	if (confine.landlock > 0)
		snprintf(landlock, sizeof(landlock), "yes (version %d: files%s%s)",
			confine.landlock, confine.has_ports ? ", ports" : "",
			confine.landlock >= 6 ? ", signals" : "");
	else
		snprintf(landlock, sizeof(landlock), "no (%s)", strerror(-confine.landlock_status));
	if (confine.has_seccomp)
		snprintf(seccomp, sizeof(seccomp), "yes%s",
			IS_INSTRUMENTED ? " (wide: instrumented)" : "");
	else
		snprintf(seccomp, sizeof(seccomp), "no (%s)", strerror(-confine.seccomp_status));
	if (confine.is_finished)
		snprintf(rings, sizeof(rings), "yes");
	else
		snprintf(rings, sizeof(rings), "no%s%s%s", confine.finish_status < 0 ? " (" : "",
			confine.finish_status < 0 ? strerror(-confine.finish_status) : "",
			confine.finish_status < 0 ? ")" : "");
	snprintf(confine.text, sizeof(confine.text),
		"no_new_privs %s; landlock %s; seccomp %s; no_new_rings %s",
		confine.no_new_privs ? "yes" : "no", landlock, seccomp, rings);
}

int confine_begin(const struct confine_options *options)
{
	assert(!confine.has_begun);
	confine.has_begun = true;
	read_ahead();
	confine.is_late = has_other_threads();
	confine.no_new_privs = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
	if (!confine.no_new_privs) {
		confine.landlock_status = confine.seccomp_status = -errno;
		text_make();
		return -EPERM;
	}
	confine.landlock_status = landlock_begin(options);
	if (confine.landlock_status > 0)
		confine.landlock = confine.landlock_status;
	confine.seccomp_status = seccomp_begin();
	confine.has_seccomp = confine.seccomp_status == 0;
	text_make();
	return confine.has_seccomp || confine.landlock > 0 ? 0 : confine.seccomp_status;
}

int confine_finish(void)
{
	if (!confine.has_begun || !confine.has_seccomp)
		return 0;
	confine.finish_status = seccomp_finish();
	confine.is_finished = confine.finish_status == 0;
	text_make();
	return confine.finish_status;
}

const char *confine_text(void)
{
	return confine.has_begun ? confine.text : "no";
}

bool confine_is_whole(void)
{
	return confine.no_new_privs && confine.landlock >= 4 && !confine.is_late &&
		confine.has_seccomp && confine.is_finished;
}
