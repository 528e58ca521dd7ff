/*
 * admin.c: the socket and its clients; see admin.h. What the calls mean is in admin_calls.c.
 *
 * Each client has one input buffer of ADMIN_REQUEST_BYTES_MAX and one answer on its way out. While an
 * answer waits the next request is not read, so a client that does not read costs one answer and
 * nothing else. A client over its rate is served when its time has come.
 */
#include "admin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "log.h"
#include "loop.h"
#include "say.h"

#define TURNS_MAX 64u /* requests of one client before the others have their turn */
#define IDLE_MS_MAX 600000u /* a client that says nothing for ten minutes is let go */

struct client {
	int fd; /* -1: free */
	pid_t pid;
	uint64_t heard_ms;
	uint64_t tokens_us; /* when its next request is due: a token bucket of one second */
	char in[ADMIN_REQUEST_BYTES_MAX];
	size_t in_bytes;
	bool is_skipping; /* the rest of a line that was too long, and is answered already */
	char *out;
	size_t out_bytes, out_done;
};

static struct {
	struct admin_options options;
	_Atomic uint64_t requests_per_second;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	bool has_path; /* the socket file there is ours: these two tell */
	dev_t path_device;
	ino_t path_inode;
	int listen_fd, end_fd, wish_fd; /* -1: not there */
	pthread_t thread;
	bool is_running;
	_Atomic unsigned wishes;
	struct client *clients;
	pthread_mutex_t lock; /* guards the rest */
	bool reload_tried, reload_done;
	char reload_text[256];
	json_t *config;
} admin = {.listen_fd = -1, .end_fd = -1, .wish_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- one client ---------------------------------------------------------------------------- */

static void client_end(struct client *client)
{
	close(client->fd);
	free(client->out);
	client->fd = -1;
	client->out = NULL;
	client->in_bytes = client->out_bytes = client->out_done = 0;
	client->is_skipping = false;
}

static json_t *answer_error(const char *error, const char *text)
{
	return json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error, "text", text);
}

/* Put one answer up for sending. False: no memory, let the client go. */
static bool client_answer(struct client *client, json_t *answer)
{
	char *text;
	size_t bytes;

	if (answer == NULL)
		return false;
	text = json_dumps(answer, JSON_COMPACT);
	json_decref(answer);
	if (text == NULL)
		return false;
	bytes = strlen(text);
	if (bytes > ADMIN_ANSWER_BYTES_MAX) {
		free(text);
		return client_answer(
			client, answer_error("too_large", "the answer is too large: ask for less"));
	}
	text[bytes] = '\n'; /* in the place of the NUL */
	client->out = text;
	client->out_bytes = bytes + 1;
	client->out_done = 0;
	return true;
}

static bool client_request(struct client *client, const char *line, size_t bytes)
{
	json_error_t error;
	json_t *request = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &error), *answer;

	if (request == NULL)
		return client_answer(client, answer_error("bad_request", error.text));
	answer = admin_answer(&admin.options, request);
	json_decref(request);
	return client_answer(client, answer);
}

static bool client_is_over_rate(const struct client *client, uint64_t now_ms)
{
	return client->tokens_us > (now_ms + 1000) * 1000;
}

/* The next request, if there is a whole one and its time has come. False: let the client go. */
static bool client_turn(struct client *client, uint64_t now_ms)
{
	char *end;
	size_t bytes;
	bool is_good;

	if (client->out != NULL)
		return true;
	end = memchr(client->in, '\n', client->in_bytes);
	if (end == NULL) {
		if (client->in_bytes < sizeof(client->in))
			return true;
		client->in_bytes = 0;
		if (client->is_skipping)
			return true;
		client->is_skipping = true;
		return client_answer(
			client, answer_error("bad_request", "a request is at most 16384 bytes"));
	}
	bytes = (size_t)(end - client->in);
	if (client->is_skipping) {
		client->is_skipping = false;
		client->in_bytes -= bytes + 1;
		memmove(client->in, end + 1, client->in_bytes);
		return true;
	}
	if (client_is_over_rate(client, now_ms))
		return true;
	if (client->tokens_us < now_ms * 1000)
		client->tokens_us = now_ms * 1000;
	client->tokens_us += 1000000 / atomic_load(&admin.requests_per_second);
	is_good = client_request(client, client->in, bytes);
	client->in_bytes -= bytes + 1;
	memmove(client->in, end + 1, client->in_bytes);
	return is_good;
}

static bool client_read(struct client *client, uint64_t now_ms)
{
	ssize_t bytes;

	if (client->in_bytes == sizeof(client->in))
		return true;
	bytes = recv(client->fd, client->in + client->in_bytes,
		sizeof(client->in) - client->in_bytes, MSG_DONTWAIT);
	if (bytes < 0)
		return errno == EAGAIN || errno == EINTR;
	if (bytes == 0)
		return false;
	client->heard_ms = now_ms;
	client->in_bytes += (size_t)bytes;
	return true;
}

static bool client_write(struct client *client, uint64_t now_ms)
{
	ssize_t bytes = send(client->fd, client->out + client->out_done,
		client->out_bytes - client->out_done, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (bytes < 0)
		return errno == EAGAIN || errno == EINTR;
	client->heard_ms = now_ms;
	client->out_done += (size_t)bytes;
	if (client->out_done < client->out_bytes)
		return true;
	free(client->out);
	client->out = NULL;
	return true;
}

/* ---- accepting ----------------------------------------------------------------------------- */

static bool peer_may(int fd, pid_t *pid)
{
	struct ucred credentials;
	socklen_t bytes = sizeof(credentials);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) < 0)
		return false;
	*pid = credentials.pid;
	return credentials.uid == 0 || credentials.uid == geteuid();
}

/* Tell a client why it is not served; it may not read it. */
static void turn_away(int fd, const char *error, const char *text)
{
	json_t *answer = answer_error(error, text);
	char *line = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;

	json_decref(answer);
	if (line != NULL) {
		size_t bytes = strlen(line);

		line[bytes] = '\n';
		(void)!send(fd, line, bytes + 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	free(line);
	close(fd);
}

static void accept_one(uint64_t now_ms)
{
	int fd = accept4(admin.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	pid_t pid = 0;

	if (fd < 0)
		return; /* gone again, or no descriptor: it will be seen again */
	if (!peer_may(fd, &pid)) {
		turn_away(fd, "forbidden", "only root and the hub's own user may");
		return;
	}
	for (unsigned i = 0; i < ADMIN_CLIENTS_MAX; i++) {
		struct client *client = &admin.clients[i];

		if (client->fd >= 0)
			continue;
		client->fd = fd;
		client->pid = pid;
		client->heard_ms = now_ms;
		client->tokens_us = 0;
		LOG(CONFIG_LOG_DEBUG, "admin_connected", LOG_N("pid", (uint64_t)pid));
		return;
	}
	turn_away(fd, "busy", "too many administrators at once");
}

/* ---- the thread ---------------------------------------------------------------------------- */

static void client_serve(struct client *client, short events, uint64_t now_ms)
{
	bool is_good = true;

	if (events & (POLLIN | POLLHUP | POLLERR))
		is_good = client_read(client, now_ms);
	if (is_good && client->out != NULL)
		is_good = client_write(client, now_ms);
	for (unsigned i = 0; i < TURNS_MAX && is_good && client->out == NULL; i++) {
		is_good = client_turn(client, now_ms);
		if (client->out == NULL)
			break;
		is_good = is_good && client_write(client, now_ms);
	}
	if (!is_good || now_ms > client->heard_ms + IDLE_MS_MAX)
		client_end(client);
}

static bool client_has_request(const struct client *client)
{
	return client->out == NULL && memchr(client->in, '\n', client->in_bytes) != NULL;
}

/* How long to wait for events when only this one is looked at. */
static int client_wait_ms(const struct client *client, uint64_t now_ms)
{
	if (client->fd < 0 || !client_has_request(client))
		return 1000;
	return client_is_over_rate(client, now_ms) ? 10 : 0;
}

static void *admin_main(void *argument)
{
	struct pollfd polls[2 + ADMIN_CLIENTS_MAX];
	uint64_t now_ms;
	int wait_ms, client_ms;

	(void)argument;
	for (;;) {
		wait_ms = 1000;
		now_ms = loop_now_ms();
		polls[0] = (struct pollfd){.fd = admin.end_fd, .events = POLLIN};
		polls[1] = (struct pollfd){.fd = admin.listen_fd, .events = POLLIN};
		for (unsigned i = 0; i < ADMIN_CLIENTS_MAX; i++) {
			const struct client *client = &admin.clients[i];
			bool is_full = client->in_bytes == sizeof(client->in);

			polls[2 + i] = (struct pollfd){.fd = client->fd,
				.events = client->out != NULL ? POLLOUT
					: is_full	      ? 0
							      : POLLIN};
			client_ms = client_wait_ms(client, now_ms);
			if (client_ms < wait_ms)
				wait_ms = client_ms;
		}
		if (poll(polls, 2 + ADMIN_CLIENTS_MAX, wait_ms) < 0 && errno != EINTR)
			break;
		if (polls[0].revents != 0)
			break;
		now_ms = loop_now_ms();
		for (unsigned i = 0; i < ADMIN_CLIENTS_MAX; i++)
			if (admin.clients[i].fd >= 0)
				client_serve(&admin.clients[i], polls[2 + i].revents, now_ms);
		if (polls[1].revents != 0)
			accept_one(now_ms);
	}
	return NULL;
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Does nobody listen at this path any more? Only the kernel's own word for that counts: a hub that we may not
 * ask, or that is too busy to be asked, is there. */
static bool path_is_dead(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool is_dead = fd >= 0 &&
		connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
		errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return is_dead;
}

/* A socket file that a killed hub left is removed; anything else at that path stays. */
static int path_clear(const struct sockaddr_un *address)
{
	struct stat info;

	if (lstat(address->sun_path, &info) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(info.st_mode))
		return -EEXIST;
	if (!path_is_dead(address))
		return -EADDRINUSE;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static void path_remember(void)
{
	struct stat info;

	admin.has_path = lstat(admin.path, &info) == 0;
	if (!admin.has_path)
		return; /* somebody was quick to remove it */
	admin.path_device = info.st_dev;
	admin.path_inode = info.st_ino;
}

/* Remove our socket file, and never one that somebody else has put in its place. */
static void path_forget(void)
{
	struct stat info;

	if (admin.has_path && lstat(admin.path, &info) == 0 && info.st_dev == admin.path_device &&
		info.st_ino == admin.path_inode)
		(void)unlink(admin.path);
	admin.has_path = false;
}

static int admin_listen(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int status;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	strcpy(admin.path, path);
	status = path_clear(&address);
	if (status < 0)
		return status;
	admin.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (admin.listen_fd < 0)
		return -errno;
	/* Never, not even for a moment, a socket that others may connect to. No thread of ours makes files
	 * meanwhile that would want another mask. */
	mask = umask(0177);
	status = bind(admin.listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno
											 : 0;
	umask(mask);
	if (status == 0)
		path_remember();
	if (status == 0 && listen(admin.listen_fd, 16) < 0)
		status = -errno;
	return status;
}

static void admin_release(void)
{
	path_forget();
	if (admin.listen_fd >= 0)
		close(admin.listen_fd);
	if (admin.end_fd >= 0)
		close(admin.end_fd);
	if (admin.wish_fd >= 0)
		close(admin.wish_fd);
	admin.listen_fd = admin.end_fd = admin.wish_fd = -1;
	free(admin.clients);
	admin.clients = NULL;
}

int admin_start(const struct admin_options *options)
{
	int status;

	assert(!admin.is_running);
	admin.options = *options;
	atomic_store(&admin.requests_per_second, options->requests_per_second);
	atomic_store(&admin.wishes, 0);
	admin.clients = calloc(ADMIN_CLIENTS_MAX, sizeof(*admin.clients));
	admin.end_fd = eventfd(0, EFD_CLOEXEC);
	admin.wish_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	status = admin.clients == NULL			? -ENOMEM
		: admin.end_fd < 0 || admin.wish_fd < 0 ? -EMFILE
							: admin_listen(options->path);
	for (unsigned i = 0; admin.clients != NULL && i < ADMIN_CLIENTS_MAX; i++)
		admin.clients[i].fd = -1;
	if (status == 0)
		status = -pthread_create(&admin.thread, NULL, admin_main, NULL);
	if (status < 0) {
		say_error("cannot serve administrators at \"%s\": %s", options->path,
			status == -EADDRINUSE ? "another hub does" : strerror(-status));
		admin_release();
		return status;
	}
	admin.is_running = true;
	return 0;
}

void admin_stop(void)
{
	const uint64_t one = 1;

	if (!admin.is_running)
		return;
	(void)!write(admin.end_fd, &one, sizeof(one)); /* an eventfd at 0 takes it */
	pthread_join(admin.thread, NULL);
	for (unsigned i = 0; i < ADMIN_CLIENTS_MAX; i++)
		if (admin.clients[i].fd >= 0)
			client_end(&admin.clients[i]);
	admin_release();
	admin.is_running = false;
}

void admin_rate_set(uint64_t requests_per_second)
{
	atomic_store(&admin.requests_per_second, requests_per_second);
}

/* ---- wishes -------------------------------------------------------------------------------- */

void admin_wish(enum admin_wish wish)
{
	const uint64_t one = 1;

	atomic_fetch_or(&admin.wishes, wish);
	(void)!write(admin.wish_fd, &one, sizeof(one)); /* full: it is readable already */
}

int admin_wish_fd(void)
{
	return admin.wish_fd;
}

unsigned admin_wishes(void)
{
	uint64_t count;

	if (admin.wish_fd < 0)
		return 0;
	(void)!read(admin.wish_fd, &count, sizeof(count)); /* nothing to read: no wish */
	return atomic_exchange(&admin.wishes, 0);
}

void admin_reload_said(bool is_done, const char *text)
{
	pthread_mutex_lock(&admin.lock);
	admin.reload_tried = true;
	admin.reload_done = is_done;
	strncpy(admin.reload_text, text, sizeof(admin.reload_text) - 1);
	pthread_mutex_unlock(&admin.lock);
}

void admin_config_said(json_t *config)
{
	json_t *old;

	pthread_mutex_lock(&admin.lock);
	old = admin.config;
	admin.config = config;
	pthread_mutex_unlock(&admin.lock);
	json_decref(old);
}

json_t *admin_config(void)
{
	json_t *config;

	pthread_mutex_lock(&admin.lock);
	config = json_deep_copy(admin.config);
	pthread_mutex_unlock(&admin.lock);
	return config;
}

json_t *admin_reload_state(void)
{
	json_t *state;

	pthread_mutex_lock(&admin.lock);
	state = admin.reload_tried
		? json_pack("{s:b, s:s}", "done", admin.reload_done, "text", admin.reload_text)
		: json_null();
	pthread_mutex_unlock(&admin.lock);
	return state;
}
