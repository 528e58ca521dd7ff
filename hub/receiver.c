/*
 * receiver.c: see receiver.h and docs/transfer.md.
 *
 * An entry is open while data comes; afterwards it stays for a while as the memory of its result, so
 * that a sender which lost the answer can ask again.
 */
#include "receiver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "check.h"
#include "loop.h"
#include "names.h"
#include "say.h"
#include "text.h"

#define OPEN_MAX_ALL 256u /* open transfers: each has a descriptor */
#define OPEN_MAX_SOURCE 16u /* of one member by all its ways, so that one cannot use up all */
#define ENTRIES_MAX 1024u /* with the remembered results */
#define ENTRIES_MAX_SOURCE 64u
#define REMEMBER_MS 10000u /* a result is kept so long for a sender that did not get it */
#define IDLE_MS 120000u /* through a hub nothing else tells that a sender is gone */
#define PROBE_MS 5000u /* a silent sender is asked so often; absent from the hub, it is gone */
#define RETRY_MS 5u /* our queue was full */
#define RETRY_SLOW_MS 50u /* the hub's was */
#define SUFFIX_MAX 9999u /* name.1 ... name.9999 */
#define LINE_BYTES_MAX (64u << 10) /* a longer line is printed in pieces */

struct incoming {
	struct incoming *next;
	struct route route;
	char *route_name, *source;
	uint64_t id, size, offset;
	enum transfer_content content;
	bool is_open;
	bool ack_due, result_due;
	uint64_t send_at_ms; /* what is due goes out at this time */
	uint64_t expires_ms; /* open: idle for too long; else: the result may be forgotten */
	uint64_t probe_ms; /* open, through a hub: when to say again where we are */

	int fd; /* -1: standard output, or lines */
	char temporary[48]; /* "": the file has no name yet, and vanishes with its descriptor */
	char name[TRANSFER_STORE_BYTES_MAX + 1];
	EVP_MD_CTX *hash;
	char *line; /* LINE_BYTES_MAX: the beginning of a line */
	size_t line_bytes;

	uint32_t code;
	uint8_t digest[32];
	char why[128];
};

int receiver_begin(struct receiver *receiver, const struct receiver_options *options)
{
	*receiver = (struct receiver){.options = *options, .directory_fd = -1};
	if (options->directory == NULL || strcmp(options->directory, "-") == 0)
		return 0;
	if (mkdir(options->directory, 0777) < 0 && errno != EEXIST) {
		say_error("cannot make \"%s\": %s", options->directory, strerror(errno));
		return -EIO;
	}
	receiver->directory_fd = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (receiver->directory_fd < 0) {
		say_error("cannot open \"%s\": %s", options->directory, strerror(errno));
		return -EIO;
	}
	return 0;
}

static void drop_file(struct receiver *receiver, struct incoming *incoming)
{
	if (incoming->fd < 0)
		return;
	close(incoming->fd);
	incoming->fd = -1;
	if (incoming->temporary[0] != 0)
		(void)unlinkat(receiver->directory_fd, incoming->temporary, 0);
}

static void free_incoming(struct receiver *receiver, struct incoming *incoming)
{
	drop_file(receiver, incoming);
	if (incoming->is_open)
		receiver->open_count--;
	receiver->entry_count--;
	EVP_MD_CTX_free(incoming->hash);
	free(incoming->line);
	free(incoming->route_name);
	free(incoming->source);
	free(incoming);
}

static struct incoming *find(struct receiver *receiver, const struct route *route, uint64_t id)
{
	struct incoming *incoming;

	for (incoming = receiver->list; incoming != NULL; incoming = incoming->next)
		if (incoming->id == id && route_is(&incoming->route, route))
			return incoming;
	return NULL;
}

/* The transfer is over, one way or the other; the entry now remembers the result. */
static void finish(struct receiver *receiver, struct incoming *incoming, enum transfer_code code,
	const char *why, uint64_t now_ms)
{
	char *source, *name;

	assert(incoming->is_open);
	drop_file(receiver, incoming);
	incoming->is_open = false;
	receiver->open_count--;
	incoming->code = code;
	snprintf(incoming->why, sizeof(incoming->why), "%s", why);
	incoming->ack_due = false;
	incoming->result_due = true;
	incoming->send_at_ms = now_ms;
	incoming->expires_ms = now_ms + REMEMBER_MS;
	if (code == TRANSFER_OK)
		return;
	if (incoming->content == TRANSFER_FILE)
		receiver->files_failed++;
	source = names_word_narrow(incoming->source);
	name = names_word_narrow(incoming->name);
	say_error("\"%s\" from %s was not received: %s%s%s", name != NULL ? name : "?",
		source != NULL ? source : "?", transfer_code_name(code), *why != 0 ? ": " : "",
		why);
	free(source);
	free(name);
}

/* ---- lines ---------------------------------------------------------------------------------- */

static void print_line(
	struct receiver *receiver, const char *source, const char *text, size_t bytes)
{
	char *line = text_escape(text, bytes, false), *from = names_word_narrow(source);
	int status = -ENOMEM;

	if (line != NULL && from != NULL)
		status = say_is_quiet() ? say_line("%s", line) : say_line("line %s %s", from, line);
	if (status < 0)
		receiver->output_failed = true;
	free(line);
	free(from);
}

static void take_lines(
	struct receiver *receiver, struct incoming *incoming, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (data[i] != '\n')
			incoming->line[incoming->line_bytes++] = (char)data[i];
		if (data[i] != '\n' && incoming->line_bytes < LINE_BYTES_MAX)
			continue;
		print_line(receiver, incoming->source, incoming->line, incoming->line_bytes);
		incoming->line_bytes = 0;
	}
}

/* ---- files ---------------------------------------------------------------------------------- */

static int write_file(int fd, const uint8_t *data, size_t bytes)
{
	ssize_t count;

	while (bytes > 0) {
		count = write(fd, data, bytes);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		data += count;
		bytes -= (size_t)count;
	}
	return 0;
}

/*
 * A file without a name where the file system can do that: then not even SIGKILL leaves half of one
 * behind. Else under a name of our own, not yet taken, that nobody can have prepared as a link.
 */
static int open_temporary(struct receiver *receiver, struct incoming *incoming)
{
	uint64_t number;

	incoming->fd = openat(receiver->directory_fd, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
	if (incoming->fd >= 0)
		return 0;
	for (int attempt = 0; attempt < 16; attempt++) {
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return -EIO;
		snprintf(incoming->temporary, sizeof(incoming->temporary),
			".peerhub-%016" PRIx64 ".part", number);
		incoming->fd = openat(receiver->directory_fd, incoming->temporary,
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
		if (incoming->fd >= 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* Give the file a name that does not exist, in one step: nothing is ever overwritten. */
static int name_file(int directory_fd, struct incoming *incoming, const char *name)
{
	char path[32];

	if (incoming->temporary[0] == 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", incoming->fd);
		return linkat(AT_FDCWD, path, directory_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno
											 : 0;
	}
	if (renameat2(directory_fd, incoming->temporary, directory_fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* A file system without that flag: a link fails on an existing name just as well. */
	if (linkat(directory_fd, incoming->temporary, directory_fd, name, 0) < 0)
		return -errno;
	(void)unlinkat(directory_fd, incoming->temporary, 0);
	return 0;
}

static int store_file(struct receiver *receiver, struct incoming *incoming)
{
	char base[TRANSFER_STORE_BYTES_MAX + 1];
	int status = -EEXIST;

	memcpy(base, incoming->name, sizeof(base));
	for (unsigned suffix = 1; status == -EEXIST && suffix <= SUFFIX_MAX; suffix++) {
		status = name_file(receiver->directory_fd, incoming, incoming->name);
		/* 200 bytes of name leave room for the dot and four digits. */
		if (status == -EEXIST)
			snprintf(incoming->name, sizeof(incoming->name), "%.*s.%u",
				(int)(TRANSFER_STORE_BYTES_MAX - 5), base, suffix);
	}
	if (status < 0)
		return status; /* and the caller drops it */
	status = close(incoming->fd) < 0 ? -errno : 0;
	incoming->fd = -1;
	if (status < 0)
		(void)unlinkat(receiver->directory_fd, incoming->name, 0);
	return status;
}

static void say_received(struct receiver *receiver, const struct incoming *incoming)
{
	char hex[65], *name = names_word_narrow(incoming->name),
		      *source = names_word_narrow(incoming->source),
		      *directory = names_word_narrow(receiver->options.directory);
	int status = -ENOMEM;

	if (name != NULL && source != NULL && directory != NULL)
		status = say_line("received %s size %" PRIu64
				  " sha256 %s from %s via %s file %s%s%s",
			name, incoming->offset, text_digest(incoming->digest, hex), source,
			route_word(&incoming->route), directory,
			receiver->directory_fd < 0 ? "" : "/",
			receiver->directory_fd < 0 ? "" : name);
	if (status < 0)
		receiver->output_failed = true;
	free(name);
	free(source);
	free(directory);
}

/* ---- messages ------------------------------------------------------------------------------- */

static bool is_to_stdout(const struct receiver *receiver)
{
	return receiver->options.directory != NULL && receiver->directory_fd < 0;
}

/* Whether this offer can be taken now: TRANSFER_OK or the answer. */
static enum transfer_code judge(
	const struct receiver *receiver, const char *source, const struct transfer_message *message)
{
	unsigned open_here = 0, entries_here = 0;
	uint64_t transfers = receiver->files_done + receiver->lines_done;

	if (message->content == TRANSFER_FILE && receiver->options.directory == NULL)
		return TRANSFER_REFUSED;
	if (message->content == TRANSFER_LINES && !receiver->options.lines)
		return TRANSFER_REFUSED;
	for (const struct incoming *at = receiver->list; at != NULL; at = at->next) {
		bool is_here = at->source != NULL && strcmp(at->source, source) == 0;

		entries_here += is_here;
		if (!at->is_open)
			continue;
		transfers++;
		open_here += is_here;
		if (is_to_stdout(receiver) && at->content == TRANSFER_FILE &&
			message->content == TRANSFER_FILE)
			return TRANSFER_BUSY;
	}
	if (receiver->open_count >= OPEN_MAX_ALL || receiver->entry_count >= ENTRIES_MAX)
		return TRANSFER_BUSY;
	if (open_here >= OPEN_MAX_SOURCE || entries_here >= ENTRIES_MAX_SOURCE)
		return TRANSFER_BUSY;
	if (receiver->options.count > 0 && transfers >= receiver->options.count)
		return TRANSFER_BUSY;
	return TRANSFER_OK;
}

static void answer_now(const struct route *route, uint64_t id, enum transfer_code code)
{
	struct transfer_message message = {.kind = TRANSFER_RESULT, .id = id, .code = code};

	/* Best effort: the sender asks again, or its connection is in trouble anyway. */
	(void)route_send(route, &message);
}

/* Copies what the entry needs. 0 or a negative errno; *incoming is complete enough to be freed. */
static int prepare(struct receiver *receiver, struct incoming *incoming, const char *source)
{
	incoming->fd = -1;
	incoming->source = strdup(source);
	incoming->hash = EVP_MD_CTX_new();
	if (incoming->source == NULL || incoming->hash == NULL ||
		EVP_DigestInit_ex(incoming->hash, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	if (incoming->route.name != NULL) {
		incoming->route_name = strdup(incoming->route.name);
		if (incoming->route_name == NULL)
			return -ENOMEM;
		incoming->route.name = incoming->route_name;
	}
	if (incoming->content == TRANSFER_LINES) {
		incoming->line = malloc(LINE_BYTES_MAX);
		return incoming->line != NULL ? 0 : -ENOMEM;
	}
	return is_to_stdout(receiver) ? 0 : open_temporary(receiver, incoming);
}

/* The sender is there. */
static void heard(struct incoming *incoming, uint64_t now_ms)
{
	incoming->expires_ms = now_ms + IDLE_MS;
	incoming->probe_ms = now_ms + PROBE_MS;
}

static void on_offer(struct receiver *receiver, const struct route *route, const char *source,
	const struct transfer_message *message, uint64_t now_ms)
{
	struct incoming *incoming;
	enum transfer_code code;
	int status;

	code = judge(receiver, source, message);
	if (code != TRANSFER_OK) {
		answer_now(route, message->id, code);
		return;
	}
	incoming = calloc(1, sizeof(*incoming));
	if (incoming == NULL) {
		answer_now(route, message->id, TRANSFER_BUSY);
		return;
	}
	incoming->route = *route;
	incoming->id = message->id;
	incoming->size = message->size;
	incoming->content = message->content;
	transfer_name_clean(message->text, message->text_bytes, incoming->name);
	status = prepare(receiver, incoming, source);
	incoming->next = receiver->list;
	receiver->list = incoming;
	receiver->entry_count++;
	receiver->open_count++;
	incoming->is_open = true;
	if (status < 0) {
		finish(receiver, incoming, TRANSFER_STORAGE, strerror(-status), now_ms);
		return;
	}
	incoming->ack_due = true;
	incoming->send_at_ms = now_ms;
	heard(incoming, now_ms);
}

static void on_data(struct receiver *receiver, struct incoming *incoming,
	const struct transfer_message *message, uint64_t now_ms)
{
	int status = 0;

	heard(incoming, now_ms);
	incoming->ack_due = true;
	/* A piece that the hub dropped leaves a gap, one sent again an overlap: the answer says where
	 * we are, and the sender goes back there. */
	if (message->offset != incoming->offset)
		return;
	if (incoming->size != TRANSFER_SIZE_UNKNOWN &&
		message->data_bytes > incoming->size - incoming->offset) {
		finish(receiver, incoming, TRANSFER_SIZE, "more came than was offered", now_ms);
		return;
	}
	if (EVP_DigestUpdate(incoming->hash, message->data, message->data_bytes) != 1)
		status = -EIO;
	else if (incoming->content == TRANSFER_LINES)
		take_lines(receiver, incoming, message->data, message->data_bytes);
	else if (incoming->fd >= 0)
		status = write_file(incoming->fd, message->data, message->data_bytes);
	else
		status = say_bytes(STDOUT_FILENO, message->data, message->data_bytes);
	if (status < 0) {
		receiver->output_failed = receiver->output_failed || incoming->fd < 0;
		finish(receiver, incoming, TRANSFER_STORAGE, strerror(-status), now_ms);
		return;
	}
	incoming->offset += message->data_bytes;
}

static void complete(struct receiver *receiver, struct incoming *incoming, uint64_t now_ms)
{
	int status = 0;

	if (incoming->content == TRANSFER_LINES) {
		if (incoming->line_bytes > 0)
			print_line(
				receiver, incoming->source, incoming->line, incoming->line_bytes);
		incoming->line_bytes = 0;
		receiver->lines_done++;
	} else {
		if (incoming->fd >= 0)
			status = store_file(receiver, incoming);
		if (status < 0) {
			finish(receiver, incoming, TRANSFER_STORAGE, strerror(-status), now_ms);
			return;
		}
		receiver->files_done++;
		say_received(receiver, incoming);
	}
	finish(receiver, incoming, TRANSFER_OK, "", now_ms);
}

static void on_end(struct receiver *receiver, struct incoming *incoming,
	const struct transfer_message *message, uint64_t now_ms)
{
	unsigned bytes = 0;

	heard(incoming, now_ms);
	if (message->size > incoming->offset) {
		incoming->ack_due = true; /* some of it is still missing */
		return;
	}
	if (message->size != incoming->offset ||
		(incoming->size != TRANSFER_SIZE_UNKNOWN && incoming->size != incoming->offset)) {
		finish(receiver, incoming, TRANSFER_SIZE, "", now_ms);
		return;
	}
	if (EVP_DigestFinal_ex(incoming->hash, incoming->digest, &bytes) != 1 || bytes != 32)
		finish(receiver, incoming, TRANSFER_STORAGE, "SHA-256 failed", now_ms);
	else if (memcmp(incoming->digest, message->digest, 32) != 0)
		finish(receiver, incoming, TRANSFER_DIGEST, "", now_ms);
	else
		complete(receiver, incoming, now_ms);
}

static void on_close(struct receiver *receiver, struct incoming *incoming,
	const struct transfer_message *message, uint64_t now_ms)
{
	if (incoming->is_open)
		finish(receiver, incoming,
			message->code == TRANSFER_SOURCE ? TRANSFER_SOURCE : TRANSFER_STOPPED, "",
			now_ms);
	/* Nobody asks for the result any more. */
	incoming->result_due = false;
	incoming->expires_ms = now_ms;
}

const char *receiver_on_message(struct receiver *receiver, const struct route *route,
	const char *source, const struct transfer_message *message, uint64_t now_ms)
{
	struct incoming *incoming;

	if (message->kind == TRANSFER_NOTE) {
		if (receiver->options.lines)
			print_line(receiver, source, message->text, message->text_bytes);
		return NULL;
	}
	incoming = find(receiver, route, message->id);
	if (incoming == NULL) {
		if (message->kind == TRANSFER_OFFER)
			on_offer(receiver, route, source, message, now_ms);
		else if (message->kind != TRANSFER_CLOSE)
			answer_now(route, message->id, TRANSFER_UNKNOWN);
		return NULL;
	}
	if (!incoming->is_open && message->kind != TRANSFER_CLOSE) {
		incoming->result_due = true; /* the sender has missed it */
		return NULL;
	}
	switch (message->kind) {
	case TRANSFER_OFFER:
		incoming->ack_due = true; /* the sender has missed our answer, or says hello */
		heard(incoming, now_ms);
		return NULL;
	case TRANSFER_DATA:
		on_data(receiver, incoming, message, now_ms);
		return NULL;
	case TRANSFER_END:
		on_end(receiver, incoming, message, now_ms);
		return NULL;
	case TRANSFER_CLOSE:
		on_close(receiver, incoming, message, now_ms);
		return NULL;
	default:
		return "an answer without a transfer";
	}
}

void receiver_on_status(struct receiver *receiver, const struct route *route, uint64_t id,
	uint32_t code, uint64_t now_ms)
{
	struct incoming *incoming = find(receiver, route, id);

	if (incoming == NULL)
		return;
	if (code != RELAY_SLOW) {
		if (incoming->is_open)
			finish(receiver, incoming, TRANSFER_STOPPED, "the sender left the hub",
				now_ms);
		incoming->result_due = false;
		incoming->expires_ms = now_ms;
		return;
	}
	if (incoming->is_open)
		incoming->ack_due = true;
	else
		incoming->result_due = true;
	incoming->send_at_ms = now_ms + RETRY_SLOW_MS;
}

void receiver_on_lost(struct receiver *receiver, const struct node *node, uint64_t connection)
{
	struct incoming **link = &receiver->list, *incoming;

	while ((incoming = *link) != NULL) {
		if (incoming->route.node != node || incoming->route.connection != connection) {
			link = &incoming->next;
			continue;
		}
		*link = incoming->next;
		if (incoming->is_open)
			finish(receiver, incoming, TRANSFER_STOPPED, "the connection is gone", 0);
		free_incoming(receiver, incoming);
	}
}

/* ---- what is due ---------------------------------------------------------------------------- */

static int send_due(struct incoming *incoming)
{
	struct transfer_message message = {.id = incoming->id};

	if (incoming->result_due) {
		message.kind = TRANSFER_RESULT;
		message.code = incoming->code;
		memcpy(message.digest, incoming->digest, 32);
		message.text = incoming->why;
		message.text_bytes = strlen(incoming->why);
	} else {
		message.kind = TRANSFER_ACK;
		message.offset = incoming->offset;
	}
	return route_send(&incoming->route, &message);
}

static uint64_t step_one(struct receiver *receiver, struct incoming *incoming, uint64_t now_ms)
{
	int status;

	if (incoming->is_open && incoming->route.name != NULL && now_ms >= incoming->expires_ms)
		finish(receiver, incoming, TRANSFER_IDLE, "", now_ms);
	if (incoming->is_open && incoming->route.name != NULL && now_ms >= incoming->probe_ms) {
		incoming->ack_due = true;
		incoming->probe_ms = now_ms + PROBE_MS;
	}
	if (incoming->is_open && incoming->content == TRANSFER_FILE &&
		incoming->size != TRANSFER_SIZE_UNKNOWN)
		say_progress(now_ms, incoming->name, incoming->offset, incoming->size);
	if (!incoming->ack_due && !incoming->result_due)
		return incoming->is_open ? loop_earlier(incoming->expires_ms, incoming->probe_ms)
					 : incoming->expires_ms;
	if (now_ms < incoming->send_at_ms)
		return incoming->send_at_ms;
	status = send_due(incoming);
	if (status == -EAGAIN) {
		incoming->send_at_ms = now_ms + RETRY_MS;
		return incoming->send_at_ms;
	}
	/* Any other failure: the loss of the connection is on its way to us. */
	incoming->ack_due = false;
	incoming->result_due = false;
	return incoming->is_open ? loop_earlier(incoming->expires_ms, incoming->probe_ms)
				 : incoming->expires_ms;
}

uint64_t receiver_step(struct receiver *receiver, uint64_t now_ms)
{
	struct incoming **link = &receiver->list, *incoming;
	uint64_t wake = LOOP_NEVER;

	while ((incoming = *link) != NULL) {
		uint64_t next = step_one(receiver, incoming, now_ms);

		if (!incoming->is_open && !incoming->result_due && now_ms >= incoming->expires_ms) {
			*link = incoming->next;
			free_incoming(receiver, incoming);
			continue;
		}
		/* Over a direct connection an idle transfer ends with the connection only. */
		if (!incoming->is_open || incoming->route.name != NULL || incoming->ack_due)
			wake = loop_earlier(wake, next);
		link = &incoming->next;
	}
	return wake;
}

bool receiver_is_quiet(const struct receiver *receiver)
{
	const struct incoming *at;

	for (at = receiver->list; at != NULL; at = at->next)
		if (at->is_open || at->result_due || at->route.name != NULL)
			return false;
	return true;
}

void receiver_end(struct receiver *receiver)
{
	struct incoming *incoming;

	while ((incoming = receiver->list) != NULL) {
		receiver->list = incoming->next;
		if (incoming->is_open)
			finish(receiver, incoming, TRANSFER_LEAVING, "", 0);
		if (incoming->result_due)
			(void)send_due(incoming);
		free_incoming(receiver, incoming);
	}
	if (receiver->directory_fd >= 0)
		close(receiver->directory_fd);
	receiver->directory_fd = -1;
}
