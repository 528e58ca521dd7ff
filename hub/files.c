/*
 * files.c: see files.h.
 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "say.h"

#define PASSWORD_BYTES_MAX 1024u

static bool is_standard(const char *path)
{
	return strcmp(path, "-") == 0;
}

/* Up to bytes_max, and one more to see that there is more. Negative errno or the count. */
static ssize_t read_up_to(int fd, char *out, size_t bytes_max)
{
	size_t count = 0;
	ssize_t got;

	while (count <= bytes_max) {
		got = read(fd, out + count, bytes_max + 1 - count);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		count += (size_t)got;
	}
	return (ssize_t)count;
}

char *files_read_text(const char *path)
{
	const char *shown = is_standard(path) ? "standard input" : path;
	char *text;
	ssize_t count;
	int fd = STDIN_FILENO;

	if (!is_standard(path))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		say_error("cannot open \"%s\": %s", shown, strerror(errno));
		return NULL;
	}
	text = malloc(FILES_TEXT_BYTES_MAX + 2);
	count = text != NULL ? read_up_to(fd, text, FILES_TEXT_BYTES_MAX) : -ENOMEM;
	if (fd != STDIN_FILENO)
		close(fd);
	if (count < 0) {
		say_error("cannot read \"%s\": %s", shown, strerror((int)-count));
	} else if ((size_t)count > FILES_TEXT_BYTES_MAX) {
		say_error("\"%s\" is larger than %u bytes", shown, FILES_TEXT_BYTES_MAX);
	} else if (memchr(text, 0, (size_t)count) != NULL) {
		say_error("\"%s\" is not text", shown);
	} else {
		text[count] = 0;
		return text;
	}
	free(text);
	return NULL;
}

static int write_all(int fd, const char *text, size_t bytes)
{
	ssize_t count;

	while (bytes > 0) {
		count = write(fd, text, bytes);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		text += count;
		bytes -= (size_t)count;
	}
	return 0;
}

int files_write_text(const char *path, const char *text, bool is_private)
{
	char *temporary = NULL;
	int fd, status;

	if (is_standard(path)) {
		status = say_bytes(STDOUT_FILENO, text, strlen(text));
		if (status < 0)
			say_error("cannot write to standard output: %s", strerror(-status));
		return status;
	}
	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		say_error("cannot write \"%s\": %s", path, strerror(ENOMEM));
		return -ENOMEM;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		status = -errno;
		goto said;
	}
	status = write_all(fd, text, strlen(text));
	if (status == 0 && fchmod(fd, is_private ? 0600 : 0644) < 0)
		status = -errno;
	if (status == 0 && fsync(fd) < 0 && errno != EINVAL)
		status = -errno;
	if (close(fd) < 0 && status == 0)
		status = -errno;
	if (status == 0 && rename(temporary, path) < 0)
		status = -errno;
	if (status < 0)
		(void)unlink(temporary);
said:
	if (status < 0)
		say_error("cannot write \"%s\": %s", path, strerror(-status));
	free(temporary);
	return status;
}

/* The first line; the rest of the file is not ours. */
static char *first_line(char *text)
{
	text[strcspn(text, "\r\n")] = 0;
	return text;
}

static char *ask_password(void)
{
	struct termios before, quiet;
	char *password = NULL;
	ssize_t count;
	int fd;

	fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || tcgetattr(fd, &before) < 0) {
		say_error("no password: use --password-file FILE or PEERHUB_PASSWORD");
		goto close_fd;
	}
	password = calloc(1, PASSWORD_BYTES_MAX + 2);
	if (password == NULL)
		goto close_fd;
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	(void)write_all(fd, "password: ", 10);
	(void)tcsetattr(fd, TCSAFLUSH, &quiet);
	do
		count = read(fd, password, PASSWORD_BYTES_MAX);
	while (count < 0 && errno == EINTR);
	(void)tcsetattr(fd, TCSAFLUSH, &before);
	(void)write_all(fd, "\n", 1);
	if (count <= 0) {
		say_error("no password was typed");
		free(password);
		password = NULL;
	}
close_fd:
	if (fd >= 0)
		close(fd);
	return password != NULL ? first_line(password) : NULL;
}

char *files_read_password(const char *path)
{
	const char *environment = getenv("PEERHUB_PASSWORD");
	char *text;

	if (path != NULL) {
		text = files_read_text(path);
	} else if (environment != NULL) {
		text = strdup(environment);
	} else {
		return ask_password();
	}
	if (text == NULL)
		return NULL;
	first_line(text);
	if (*text == 0) {
		say_error("the password is empty");
		free(text);
		return NULL;
	}
	return text;
}

void files_forget(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
}
