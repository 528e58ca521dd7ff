/*
 * notify.c: see notify.h.
 */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

#define FDS_START 3 /* SD_LISTEN_FDS_START */

static void notify_send(const char *text, size_t bytes)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	socklen_t to_bytes;
	size_t path_bytes;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@'))
		return;
	path_bytes = strlen(path);
	if (path_bytes >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, path_bytes);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* unix(7): abstract */
	to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_bytes);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* systemd that does not listen any more is no reason to stop. */
	(void)!sendto(fd, text, bytes, MSG_NOSIGNAL, (struct sockaddr *)&to, to_bytes);
	close(fd);
}

void notify_say(const char *format, ...)
{
	char text[512];
	va_list arguments;
	int bytes;

	va_start(arguments, format);
	bytes = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (bytes > 0)
		notify_send(text, (size_t)bytes < sizeof(text) ? (size_t)bytes : sizeof(text) - 1);
}

void notify_reloading(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) == 0)
		notify_say("RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
			(uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

/* A variable that is for this process only: its companion names the process. */
static const char *ours(const char *name, const char *pid_name)
{
	const char *value = getenv(name), *pid = getenv(pid_name);
	uint64_t number;

	if (value == NULL)
		return NULL;
	if (pid != NULL &&
		(!text_number(pid, 1, INT32_MAX, &number) || number != (uint64_t)getpid()))
		return NULL;
	return value;
}

uint64_t notify_watchdog_ms(void)
{
	const char *text = ours("WATCHDOG_USEC", "WATCHDOG_PID");
	uint64_t us;

	if (text == NULL || !text_number(text, 1, UINT64_MAX / 2, &us))
		return 0;
	return us / 2000 > 0 ? us / 2000 : 1;
}

int notify_listen_fd(void)
{
	const char *text = ours("LISTEN_FDS", "LISTEN_PID");
	uint64_t count = 0;

	if (text != NULL && !text_number(text, 0, 1024, &count))
		count = 0;
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	if (count == 0)
		return -1;
	if (count > 1)
		return -EINVAL;
	if (fcntl(FDS_START, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return FDS_START;
}
