/*
 * trial.c: see trial.h.
 */
#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "confine.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECONDS_MAX 20u

/* What a child tells: it exits with one of these. */
#define SAID_DONE 0
#define SAID_REFUSED 41
#define SAID_BROKEN 42

/* 0: it was let; a negative errno: refused. */
static int said(long result)
{
	return result < 0 ? -errno : 0;
}

static int read_outside(const char *directory)
{
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	(void)directory;
	return said(fd);
}

static int write_outside(const char *directory)
{
	int fd = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	(void)directory;
	return said(fd);
}

static int list_outside(const char *directory)
{
	(void)directory;
	return said(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/* Let, it does not come back: the program says so itself, with exit code 0. */
static int run_program(const char *directory)
{
	char name[] = "true", *arguments[] = {name, NULL}, *environment[] = {NULL};

	(void)directory;
	(void)execve("/bin/true", arguments, environment);
	return -errno;
}

static int start_process(const char *directory)
{
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	(void)directory;
	if (child == 0)
		_exit(0);
	if (child < 0)
		return -errno;
	return waitpid(child, NULL, 0) == child ? 0 : -errno;
}

static int trace_parent(const char *directory)
{
	(void)directory;
	return said(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int packet_socket(const char *directory)
{
	(void)directory;
	return said(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static int signal_parent(const char *directory)
{
	(void)directory;
	return said(kill(getppid(), 0));
}

static int run_memory(const char *directory)
{
	void *page = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)directory;
	return page == MAP_FAILED ? -errno : 0;
}

static int new_ring(const char *directory)
{
	struct io_uring_params params = {0};

	(void)directory;
	return said(syscall(SYS_io_uring_setup, 4, &params));
}

static int other_port(const char *directory)
{
	struct sockaddr_in6 address = {
		.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = htons(0)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)directory;
	if (fd < 0)
		return -EIO;
	return said(bind(fd, (struct sockaddr *)&address, sizeof(address)));
}

/* ---- what a hub needs ---------------------------------------------------------------------- */

static int keep_file(const char *directory)
{
	char path[4096], moved[4096];
	int fd, status = -EIO;

	snprintf(path, sizeof(path), "%s/trial-%d", directory, (int)getpid());
	snprintf(moved, sizeof(moved), "%s/trial-%d-moved", directory, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && fsync(fd) == 0 &&
		rename(path, moved) == 0)
		status = unlink(moved) < 0 ? -errno : 0;
	close(fd);
	return status;
}

static void *thread_main(void *context)
{
	*(bool *)context = true;
	return NULL;
}

static int start_thread(const char *directory)
{
	bool has_run = false;
	pthread_t thread;
	int status = pthread_create(&thread, NULL, thread_main, &has_run);

	(void)directory;
	if (status != 0)
		return -status;
	pthread_join(thread, NULL);
	return has_run ? 0 : -EIO;
}

static int inet_socket(const char *directory)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)directory;
	return fd >= 0 && listen(fd, 1) < 0 ? -errno : said(fd);
}

static const struct {
	const char *what;
	int (*run)(const char *directory);
	bool is_hostile;
} trials[] = {
	{"read a file outside its directories", read_outside, true},
	{"write a file outside its directories", write_outside, true},
	{"list a directory outside its own", list_outside, true},
	{"run a program", run_program, true},
	{"start a process", start_process, true},
	{"trace", trace_parent, true},
	{"open a packet socket", packet_socket, true},
	{"send a signal to another process", signal_parent, true},
	{"make memory that is written and run", run_memory, true},
	{"make an io_uring ring of its own", new_ring, true},
	{"listen on another port", other_port, true},
	{"keep files in its store", keep_file, false},
	{"start a thread", start_thread, false},
	{"listen for connections", inet_socket, false},
};

size_t trial_count(void)
{
	return COUNT(trials);
}

/* ---- children ------------------------------------------------------------------------------ */

static _Noreturn void child(size_t index, const char *directory, bool is_confined, int text_fd)
{
	struct confine_options options = {.store = directory, .ports = {1}, .port_count = 1};
	const struct rlimit none = {0, 0};
	int status = 0;

	(void)alarm(SECONDS_MAX);
	(void)setrlimit(RLIMIT_CORE, &none);
	if (is_confined) {
		if (confine_begin(&options) < 0 || confine_finish() < 0)
			status = -EIO;
		(void)!write(text_fd, confine_text(), strlen(confine_text()));
	}
	if (status < 0)
		_exit(SAID_BROKEN);
	status = trials[index].run(directory);
	_exit(status == 0 ? SAID_DONE : SAID_REFUSED);
}

static enum trial_end run_child(size_t index, const char *directory, bool is_confined, int text_fd)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		child(index, directory, is_confined, text_fd);
	if (pid < 0)
		return TRIAL_BROKEN;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return TRIAL_BROKEN;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? TRIAL_KILLED : TRIAL_BROKEN;
	switch (WEXITSTATUS(status)) {
	case SAID_DONE:
		return TRIAL_DONE;
	case SAID_REFUSED:
		return TRIAL_REFUSED;
	default:
		return TRIAL_BROKEN;
	}
}

void trial_run(size_t index, const char *directory, struct trial_result *result)
{
	int pipes[2];
	ssize_t bytes;

	assert(index < COUNT(trials));
	*result = (struct trial_result){.what = trials[index].what,
		.is_hostile = trials[index].is_hostile,
		.free = TRIAL_BROKEN,
		.confined = TRIAL_BROKEN};
	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	result->free = run_child(index, directory, false, pipes[1]);
	result->confined = run_child(index, directory, true, pipes[1]);
	bytes = read(pipes[0], result->text, sizeof(result->text) - 1);
	result->text[bytes > 0 ? bytes : 0] = '\0';
	close(pipes[0]);
	close(pipes[1]);
}
