/*
 * loop.c: see loop.h.
 */
#include "loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS_MAX 60000u /* a long sleep is cut: harmless, and keeps the int of poll in range */

static struct {
	int fd;
	int taken; /* the first one */
	unsigned count;
	int hangup_fd;
	bool is_ending;
} signals = {.fd = -1, .hangup_fd = -1};

uint64_t loop_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + 1;
}

int loop_begin(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return signals.fd < 0 ? -errno : 0;
}

int loop_signal_fd(void)
{
	return signals.fd;
}

unsigned loop_signals(void)
{
	struct signalfd_siginfo info;
	bool any = false;

	while (signals.fd >= 0 && read(signals.fd, &info, sizeof(info)) == sizeof(info)) {
		if (signals.taken == 0)
			signals.taken = (int)info.ssi_signo;
		any = true;
	}
	signals.count += any;
	return signals.count;
}

int loop_signal(void)
{
	if (signals.taken == 0)
		(void)loop_signals();
	if (signals.taken != 0)
		loop_end_soon();
	return signals.taken;
}

void loop_end_soon(void)
{
	if (signals.is_ending)
		return;
	signals.is_ending = true;
	(void)alarm(LOOP_END_S);
}

int loop_take_hangups(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signals.hangup_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return signals.hangup_fd < 0 ? -errno : 0;
}

int loop_hangup_fd(void)
{
	return signals.hangup_fd;
}

bool loop_hangup(void)
{
	struct signalfd_siginfo info;

	return signals.hangup_fd >= 0 &&
		read(signals.hangup_fd, &info, sizeof(info)) == sizeof(info);
}

int loop_wait(struct pollfd *polls, size_t count, uint64_t deadline_ms)
{
	uint64_t now = loop_now_ms(), left = 0;

	polls[0] = (struct pollfd){.fd = signals.fd, .events = POLLIN};
	if (deadline_ms > now)
		left = deadline_ms - now;
	if (left > WAIT_MS_MAX)
		left = WAIT_MS_MAX;
	if (poll(polls, count, (int)left) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

uint64_t loop_earlier(uint64_t left_ms, uint64_t right_ms)
{
	return left_ms < right_ms ? left_ms : right_ms;
}
