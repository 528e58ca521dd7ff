/*
 * sender.c: see sender.h and docs/transfer.md.
 */
#include "sender.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "check.h"
#include "loop.h"
#include "names.h"
#include "say.h"
#include "text.h"

#define CHUNK_BYTES (64u << 10) /* small enough that two fit a hub's queue beside others' */
#define CHUNKS_MAX 16u /* with CHUNK_BYTES the library's send budget of 1 MiB */
#define WINDOW_HUB_FIRST 4u /* the way through a hub is shared: begin low and grow */
#define BACKOFF_MS_MIN 2u /* our own queue is full: a loopback empties it in this time */
#define BACKOFF_MS_MAX 256u
#define ABSENT_RETRY_MS 250u
#define BUSY_RETRY_MS 250u
#define RESEND_MS_MIN \
	1000u /* a lost status or answer: TCP below hardly ever lets it come to this */
#define RESEND_MS_MAX 8000u
#define IDLE_MS 60000u /* no answer for so long: give up */
#define HELLO_MS 20000u /* a silent line sender shows through a hub that it is alive */

struct chunk {
	uint64_t offset;
	uint32_t bytes;
	uint8_t *data;
};

struct sender {
	enum sender_state state;
	struct route route;
	char *route_name, *peer, *name;
	enum transfer_content content;
	int fd;
	bool may_block, readable, source_ended;
	uint64_t id, size;
	uint64_t read_bytes, acked;
	EVP_MD_CTX *hash;
	uint8_t digest[32];

	struct chunk chunks[CHUNKS_MAX]; /* a ring of what is not acknowledged */
	unsigned first, count, next; /* next: how many of them are out */
	unsigned window, window_credit; /* credit: acknowledged since the window last grew */
	bool said; /* OFFERING: the offer is out; ENDING: END is out */

	uint64_t begin_ms, wait_until_ms;
	uint64_t hold_until_ms; /* send nothing before: back-off */
	uint64_t resend_at_ms, resend_ms; /* through a hub: answers may have been lost */
	uint64_t idle_at_ms;
	uint64_t backoff_ms;
	bool waiting_said;
};

static uint64_t random_number(void)
{
	uint64_t number = 0;

	return getrandom(&number, sizeof(number), 0) == sizeof(number) ? number : 0;
}

static bool is_reliable(const struct sender *sender)
{
	return sender->route.name == NULL;
}

static void progressed(struct sender *sender, uint64_t now_ms)
{
	sender->idle_at_ms = now_ms + IDLE_MS;
	sender->resend_ms = RESEND_MS_MIN;
	sender->resend_at_ms = now_ms + sender->resend_ms;
	sender->backoff_ms = BACKOFF_MS_MIN;
	sender->hold_until_ms = 0;
}

static void close_source(struct sender *sender)
{
	if (sender->fd > STDERR_FILENO)
		close(sender->fd);
	sender->fd = -1;
}

struct sender *sender_create(const struct sender_options *options, uint64_t now_ms)
{
	struct sender *sender = calloc(1, sizeof(*sender));

	if (sender == NULL)
		goto no_memory;
	sender->fd = options->fd;
	sender->route = options->route;
	sender->content = options->content;
	sender->may_block = options->may_block;
	sender->size = options->size;
	sender->peer = strdup(options->peer);
	sender->name = strdup(options->name);
	sender->hash = EVP_MD_CTX_new();
	sender->id = random_number();
	if (sender->peer == NULL || sender->name == NULL || sender->hash == NULL || sender->id == 0)
		goto no_memory;
	if (options->route.name != NULL) {
		sender->route_name = strdup(options->route.name);
		if (sender->route_name == NULL)
			goto no_memory;
		sender->route.name = sender->route_name;
	}
	if (EVP_DigestInit_ex(sender->hash, EVP_sha256(), NULL) != 1)
		goto no_memory;
	sender->window = is_reliable(sender) ? CHUNKS_MAX : WINDOW_HUB_FIRST;
	sender->begin_ms = now_ms;
	sender->wait_until_ms = now_ms + options->wait_ms;
	progressed(sender, now_ms);
	return sender;

no_memory:
	say_error("cannot send \"%s\": out of memory", options->name);
	if (sender != NULL)
		sender_destroy(sender);
	else if (options->fd > STDERR_FILENO)
		close(options->fd);
	return NULL;
}

void sender_destroy(struct sender *sender)
{
	if (sender == NULL)
		return;
	close_source(sender);
	for (unsigned i = 0; i < CHUNKS_MAX; i++)
		free(sender->chunks[i].data);
	EVP_MD_CTX_free(sender->hash);
	free(sender->route_name);
	free(sender->peer);
	free(sender->name);
	free(sender);
}

enum sender_state sender_state(const struct sender *sender)
{
	return sender->state;
}

bool sender_is(const struct sender *sender, const struct route *route, uint64_t id)
{
	return sender->id == id && route_is(&sender->route, route);
}

static bool is_over(const struct sender *sender)
{
	return sender->state == SENDER_DONE || sender->state == SENDER_FAILED;
}

void sender_fail(struct sender *sender, enum transfer_code code, bool told, const char *why)
{
	struct transfer_message message = {.kind = TRANSFER_CLOSE, .id = sender->id, .code = code};
	char *name, *peer;

	if (is_over(sender))
		return;
	if (told) /* best effort: the receiver also has its own timer and sees a lost connection */
		(void)route_send(&sender->route, &message);
	sender->state = SENDER_FAILED;
	close_source(sender);
	name = names_word_narrow(sender->name);
	peer = names_word_narrow(sender->peer);
	say_error("\"%s\" was not sent to %s: %s", name != NULL ? name : "?",
		peer != NULL ? peer : "?", why);
	free(name);
	free(peer);
}

/* Our own queue or the hub's is full. A random part keeps senders from coming back in step. */
static void back_off(struct sender *sender, uint64_t now_ms)
{
	sender->hold_until_ms =
		now_ms + sender->backoff_ms + random_number() % (sender->backoff_ms / 2 + 1);
	if (sender->backoff_ms < BACKOFF_MS_MAX)
		sender->backoff_ms *= 2;
}

/* Send everything unacknowledged again, more slowly. */
static void go_back(struct sender *sender)
{
	sender->next = 0;
	sender->said = false;
	sender->window = sender->window > 1 ? sender->window / 2 : 1;
	sender->window_credit = 0;
}

/* False: nothing more can go out now. */
static bool send_one(struct sender *sender, const struct transfer_message *message, uint64_t now_ms)
{
	int status = route_send(&sender->route, message);

	switch (status) {
	case 0:
		return true;
	case -EAGAIN:
		back_off(sender, now_ms);
		return false;
	case -ENOENT:
		sender_fail(sender, TRANSFER_STOPPED, false, "the connection is gone");
		return false;
	default:
		sender_fail(sender, TRANSFER_STOPPED, false, "it cannot be sent");
		return false;
	}
}

/* ---- reading the source --------------------------------------------------------------------- */

static bool wants_input(const struct sender *sender)
{
	return sender->state == SENDER_SENDING && !sender->source_ended &&
		sender->count < sender->window && sender->count < CHUNKS_MAX;
}

int sender_input_fd(const struct sender *sender)
{
	return sender->may_block && !sender->readable && wants_input(sender) ? sender->fd : -1;
}

void sender_readable(struct sender *sender)
{
	sender->readable = true;
}

static void end_source(struct sender *sender)
{
	unsigned bytes = 0;

	sender->source_ended = true;
	close_source(sender);
	if (sender->size != TRANSFER_SIZE_UNKNOWN && sender->size != sender->read_bytes)
		sender_fail(sender, TRANSFER_SOURCE, true, "the file became shorter meanwhile");
	else if (EVP_DigestFinal_ex(sender->hash, sender->digest, &bytes) != 1 || bytes != 32)
		sender_fail(sender, TRANSFER_SOURCE, true, "SHA-256 failed");
}

/* How much to read into the next chunk: never past the size that was offered. */
static size_t next_bytes(const struct sender *sender)
{
	uint64_t left = CHUNK_BYTES;

	if (sender->size != TRANSFER_SIZE_UNKNOWN && sender->size - sender->read_bytes < left)
		left = sender->size - sender->read_bytes;
	return (size_t)left;
}

/* Read one chunk. False: the source ended, failed, or has nothing now. */
static bool fill_one(struct sender *sender)
{
	struct chunk *chunk = &sender->chunks[(sender->first + sender->count) % CHUNKS_MAX];
	size_t wanted = next_bytes(sender);
	ssize_t count = 0;

	if (wanted > 0) {
		if (sender->may_block && !sender->readable)
			return false;
		sender->readable = false;
		if (chunk->data == NULL)
			chunk->data = malloc(CHUNK_BYTES);
		if (chunk->data == NULL) {
			sender_fail(sender, TRANSFER_SOURCE, true, "out of memory");
			return false;
		}
		count = read(sender->fd, chunk->data, wanted);
	}
	if (count < 0) {
		if (errno != EINTR && errno != EAGAIN)
			sender_fail(sender, TRANSFER_SOURCE, true, strerror(errno));
		return false;
	}
	if (count == 0) {
		end_source(sender);
		return false;
	}
	if (EVP_DigestUpdate(sender->hash, chunk->data, (size_t)count) != 1) {
		sender_fail(sender, TRANSFER_SOURCE, true, "SHA-256 failed");
		return false;
	}
	chunk->offset = sender->read_bytes;
	chunk->bytes = (uint32_t)count;
	sender->read_bytes += (uint64_t)count;
	sender->count++;
	return true;
}

/* ---- sending -------------------------------------------------------------------------------- */

static void send_offer(struct sender *sender, uint64_t now_ms)
{
	struct transfer_message message = {.kind = TRANSFER_OFFER,
		.id = sender->id,
		.content = (uint8_t)sender->content,
		.size = sender->size,
		.text = sender->name,
		.text_bytes = strlen(sender->name)};

	if (!sender->said)
		sender->said = send_one(sender, &message, now_ms);
}

static void send_data(struct sender *sender, uint64_t now_ms)
{
	while (wants_input(sender) && fill_one(sender))
		;
	while (sender->state == SENDER_SENDING && sender->next < sender->count &&
		sender->next < sender->window) {
		const struct chunk *chunk =
			&sender->chunks[(sender->first + sender->next) % CHUNKS_MAX];
		struct transfer_message message = {.kind = TRANSFER_DATA,
			.id = sender->id,
			.offset = chunk->offset,
			.data = chunk->data,
			.data_bytes = chunk->bytes};

		if (sender->next == 0 && sender->acked == chunk->offset)
			sender->resend_at_ms = now_ms + sender->resend_ms;
		if (!send_one(sender, &message, now_ms))
			return;
		sender->next++;
	}
	if (sender->state == SENDER_SENDING && sender->source_ended && sender->count == 0) {
		sender->state = SENDER_ENDING;
		sender->said = false;
	}
}

static void send_end(struct sender *sender, uint64_t now_ms)
{
	struct transfer_message message = {
		.kind = TRANSFER_END, .id = sender->id, .size = sender->read_bytes};

	memcpy(message.digest, sender->digest, 32);
	if (!sender->said)
		sender->said = send_one(sender, &message, now_ms);
}

/* Nothing is under way and nothing is there to be sent: lines that nobody has typed yet. */
static bool is_resting(const struct sender *sender)
{
	return sender->state == SENDER_SENDING && sender->count == 0;
}

static void send_hello(struct sender *sender, uint64_t now_ms)
{
	sender->said = false;
	send_offer(sender, now_ms);
	sender->resend_at_ms = now_ms + HELLO_MS;
}

/* The timers. False: failed, or nothing may go out yet. */
static bool run_timers(struct sender *sender, uint64_t now_ms)
{
	if (is_resting(sender))
		sender->idle_at_ms = now_ms + IDLE_MS;
	if (now_ms >= sender->idle_at_ms) {
		sender_fail(sender, TRANSFER_IDLE, true, "no answer for 60 seconds");
		return false;
	}
	if (!is_reliable(sender) && now_ms >= sender->resend_at_ms) {
		if (is_resting(sender)) {
			send_hello(sender, now_ms);
		} else {
			go_back(sender);
			if (sender->resend_ms < RESEND_MS_MAX)
				sender->resend_ms *= 2;
			sender->resend_at_ms = now_ms + sender->resend_ms;
		}
	}
	return !is_over(sender) && now_ms >= sender->hold_until_ms;
}

uint64_t sender_step(struct sender *sender, uint64_t now_ms)
{
	uint64_t wake;

	if (is_over(sender))
		return LOOP_NEVER;
	if (run_timers(sender, now_ms)) {
		if (sender->state == SENDER_OFFERING)
			send_offer(sender, now_ms);
		if (sender->state == SENDER_SENDING)
			send_data(sender, now_ms);
		if (sender->state == SENDER_ENDING)
			send_end(sender, now_ms);
	}
	if (is_over(sender))
		return LOOP_NEVER;
	if (sender->content == TRANSFER_FILE && sender->state != SENDER_OFFERING)
		say_progress(now_ms, sender->name, sender->acked, sender->size);
	wake = sender->idle_at_ms;
	if (!is_reliable(sender))
		wake = loop_earlier(wake, sender->resend_at_ms);
	if (sender->hold_until_ms > now_ms)
		wake = loop_earlier(wake, sender->hold_until_ms);
	return wake;
}

/* ---- answers -------------------------------------------------------------------------------- */

static bool on_ack(struct sender *sender, uint64_t offset, uint64_t now_ms)
{
	if (offset > sender->read_bytes)
		return false;
	if (sender->state == SENDER_OFFERING) {
		sender->state = SENDER_SENDING;
		progressed(sender, now_ms);
		return true;
	}
	if (offset <= sender->acked)
		return true;
	sender->acked = offset;
	while (sender->count > 0 &&
		sender->chunks[sender->first].offset + sender->chunks[sender->first].bytes <=
			offset) {
		sender->first = (sender->first + 1) % CHUNKS_MAX;
		sender->count--;
		if (sender->next > 0)
			sender->next--;
		if (++sender->window_credit >= sender->window && sender->window < CHUNKS_MAX) {
			sender->window++;
			sender->window_credit = 0;
		}
	}
	progressed(sender, now_ms);
	return true;
}

static void say_sent(const struct sender *sender, uint64_t now_ms)
{
	char hex[65], *name = names_word_narrow(sender->name),
		      *peer = names_word_narrow(sender->peer);

	if (name != NULL && peer != NULL && sender->content == TRANSFER_FILE)
		(void)say_line("sent %s size %" PRIu64 " sha256 %s to %s via %s ms %" PRIu64, name,
			sender->read_bytes, text_digest(sender->digest, hex), peer,
			route_word(&sender->route), now_ms - sender->begin_ms);
	else if (name != NULL && peer != NULL && !say_is_quiet())
		say_note("all lines reached %s: %" PRIu64 " bytes, sha256 %s", peer,
			sender->read_bytes, text_digest(sender->digest, hex));
	free(name);
	free(peer);
}

static void on_done(struct sender *sender, const uint8_t digest[32], uint64_t now_ms)
{
	struct transfer_message message = {
		.kind = TRANSFER_CLOSE, .id = sender->id, .code = TRANSFER_OK};

	if (sender->state != SENDER_ENDING || memcmp(digest, sender->digest, 32) != 0) {
		sender_fail(sender, TRANSFER_DIGEST, true, "the receiver's SHA-256 is not ours");
		return;
	}
	/* Lets the receiver forget the result at once; without it, it does so after a while. */
	(void)route_send(&sender->route, &message);
	sender->state = SENDER_DONE;
	close_source(sender);
	say_sent(sender, now_ms);
}

/* An answer that may change: ask again a little later, while we still want to wait. */
static bool ask_again(struct sender *sender, uint64_t now_ms, uint64_t after_ms, const char *what)
{
	if (sender->state != SENDER_OFFERING || now_ms + after_ms > sender->wait_until_ms)
		return false;
	if (!sender->waiting_said)
		say_note("waiting for %s: %s", sender->peer, what);
	sender->waiting_said = true;
	sender->said = false;
	sender->hold_until_ms = now_ms + after_ms;
	sender->resend_at_ms = sender->hold_until_ms + sender->resend_ms;
	sender->idle_at_ms = sender->hold_until_ms + IDLE_MS;
	return true;
}

static void on_result(
	struct sender *sender, const struct transfer_message *message, uint64_t now_ms)
{
	char *text, why[600];

	if (message->code == TRANSFER_OK) {
		on_done(sender, message->digest, now_ms);
		return;
	}
	if (message->code == TRANSFER_BUSY &&
		ask_again(sender, now_ms, BUSY_RETRY_MS, "it is busy"))
		return;
	text = text_escape(message->text, message->text_bytes, false);
	snprintf(why, sizeof(why), "%s%s%.500s", transfer_code_name(message->code),
		message->text_bytes > 0 && text != NULL ? ": " : "", text != NULL ? text : "");
	free(text);
	sender_fail(sender, TRANSFER_STOPPED, false, why);
}

bool sender_on_message(
	struct sender *sender, const struct transfer_message *message, uint64_t now_ms)
{
	if (is_over(sender))
		return true;
	if (message->kind == TRANSFER_ACK)
		return on_ack(sender, message->offset, now_ms);
	assert(message->kind == TRANSFER_RESULT);
	on_result(sender, message, now_ms);
	return true;
}

void sender_on_status(struct sender *sender, uint32_t code, uint64_t now_ms)
{
	char why[128];

	if (is_over(sender))
		return;
	if (code == RELAY_SLOW) {
		/* A full queue refuses a burst: its other statuses say nothing new. */
		if (now_ms < sender->hold_until_ms)
			return;
		go_back(sender);
		back_off(sender, now_ms);
		return;
	}
	if (code == RELAY_ABSENT &&
		ask_again(sender, now_ms, ABSENT_RETRY_MS, "it is not at the hub yet"))
		return;
	if (code == RELAY_ABSENT)
		snprintf(why, sizeof(why), "%s", "it is not connected to the hub");
	else
		snprintf(why, sizeof(why), "the hub says: %s", relay_code_name(code));
	sender_fail(sender, TRANSFER_STOPPED, false, why);
}
