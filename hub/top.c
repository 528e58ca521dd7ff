/*
 * top.c: peerhub top. The administrator's view of a running hub in a terminal (ncurses), through its socket: totals,
 * rates, reasons, shards, and the table of connections, sorted and searched at the hub, so that 10,000 cost no more
 * than a screenful. With --once or --batch the same as plain text, for scripts.
 *
 * One thread. The socket never blocks the keyboard: an answer is awaited beside it. When the hub goes, the last
 * picture stays, says so, and the next hub at the same path is taken up again. Every text of a peer's is escaped.
 */
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wchar.h>

#include <curses.h>
#include <jansson.h>

#include "check.h"
#include "commands.h"
#include "loop.h"
#include "options.h"
#include "say.h"
#include "text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SOCKET_DEFAULT "/run/peerhub/admin.sock"
#define ANSWER_BYTES_MAX (8u << 20) /* a page is far below */
#define ANSWER_MS 10000u /* a hub that does not answer so long is asked anew */
#define PAGE_MAX 500u /* the hub's own bound */
#define SEARCH_BYTES_MAX 100u
#define CELL_BYTES 400u

/* ---- the table's columns ------------------------------------------------------------------- */

enum shape {
	SHAPE_TEXT,
	SHAPE_DURATION,
	SHAPE_SIZE,
	SHAPE_NUMBER,
};

/* In the order of their worth: a narrow screen leaves out the last ones first. */
static const struct column {
	const char *key, *title;
	enum shape shape;
	int width; /* 0: shares what is left */
	int worth; /* 1: always shown */
} columns[] = {
	{"name", "NAME", SHAPE_TEXT, 18, 1},
	{"identity", "IDENTITY", SHAPE_TEXT, 0, 2},
	{"address", "ADDRESS", SHAPE_TEXT, 22, 1},
	{"group", "GROUP", SHAPE_TEXT, 12, 7},
	{"direction", "WAY", SHAPE_TEXT, 3, 8},
	{"shard", "SH", SHAPE_NUMBER, 2, 6},
	{"age_ms", "AGE", SHAPE_DURATION, 7, 1},
	{"idle_ms", "IDLE", SHAPE_DURATION, 7, 3},
	{"bytes_received", "IN", SHAPE_SIZE, 8, 2},
	{"bytes_sent", "OUT", SHAPE_SIZE, 8, 4},
	{"bytes_per_second", "RATE/S", SHAPE_SIZE, 8, 1},
	{"queue_bytes", "QUEUE", SHAPE_SIZE, 8, 5},
};

static int column_of(const char *key)
{
	for (size_t i = 0; i < COUNT(columns); i++)
		if (strcmp(columns[i].key, key) == 0)
			return (int)i;
	return -1;
}

/* ---- what it is ---------------------------------------------------------------------------- */

enum mode {
	MODE_TABLE,
	MODE_SEARCH, /* typing into the search line */
	MODE_CLOSE, /* "really?" */
	MODE_HELP,
};

struct top {
	const char *socket;
	uint64_t interval_ms;
	bool has_color, is_paused;
	enum mode mode;
	/* the table */
	char search[SEARCH_BYTES_MAX + 1], typed[SEARCH_BYTES_MAX + 1];
	int sort; /* index of columns */
	bool descending;
	uint64_t offset; /* of the first row on the screen */
	uint64_t chosen; /* row on the screen */
	char chosen_id[24]; /* follows its connection */
	bool abort; /* the close that is asked about */
	/* the hub: one request under way at a time */
	int fd; /* -1: not connected */
	char *in;
	size_t in_bytes, in_capacity;
	unsigned asked; /* index of what is under way; 0: nothing */
	uint64_t asked_ms, next_ms;
	json_t *status, *overview, *page; /* the last answers; NULL: none yet */
	bool is_stale; /* the hub has gone */
	char message[200];
	uint64_t message_ms; /* until when it is shown */
};

/* ---- the hub ------------------------------------------------------------------------------- */

static void message_set(struct top *top, const char *text)
{
	snprintf(top->message, sizeof(top->message), "%s", text);
	top->message_ms = loop_now_ms() + 5000;
}

static void hub_drop(struct top *top)
{
	if (top->fd >= 0)
		close(top->fd);
	top->fd = -1;
	top->asked = 0;
	top->in_bytes = 0;
	top->is_stale = true;
	top->next_ms = loop_now_ms() + 500;
}

static bool hub_connect(struct top *top)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, top->socket); /* top_main has looked at its length */
	/* The queue of a hub that is stuck fills: then this is tried again later. */
	top->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (top->fd >= 0 && connect(top->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return true;
	if (top->fd >= 0)
		close(top->fd);
	top->fd = -1;
	return false;
}

/* Send one call; takes the arguments. A request is far below the socket's buffer. */
static bool hub_send(struct top *top, const char *call, json_t *arguments)
{
	json_t *request = json_pack("{s:s, s:o}", "call", call, "arguments", arguments);
	char *text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
	bool is_sent = false;
	size_t bytes;

	json_decref(request);
	if (text != NULL) {
		bytes = strlen(text);
		text[bytes] = '\n'; /* in the place of the NUL */
		is_sent = send(top->fd, text, bytes + 1, MSG_NOSIGNAL | MSG_DONTWAIT) ==
			(ssize_t)(bytes + 1);
	}
	free(text);
	return is_sent;
}

/* What is asked in turn. */
enum ask {
	ASK_NOTHING,
	ASK_STATUS,
	ASK_OVERVIEW,
	ASK_PAGE,
	ASK_CLOSE, /* only when it is wanted */
};

static uint64_t rows_on_screen(void)
{
	int rows = stdscr != NULL ? LINES - 9 : 20;

	return rows < 1 ? 1 : rows > (int)PAGE_MAX ? PAGE_MAX : (uint64_t)rows;
}

static json_t *page_arguments(const struct top *top, uint64_t limit)
{
	/* What is typed may end inside a character. */
	char *search =
		text_is_utf8(top->search, strlen(top->search)) ? strdup(top->search) : strdup("");
	json_t *arguments = search == NULL
		? NULL
		: json_pack("{s:s, s:s, s:b, s:I, s:I}", "search", search, "sort",
			  columns[top->sort].key, "descending", top->descending, "offset",
			  (json_int_t)top->offset, "limit", (json_int_t)limit);

	free(search);
	return arguments;
}

static bool hub_ask(struct top *top, enum ask ask)
{
	json_t *arguments = ask == ASK_PAGE ? page_arguments(top, rows_on_screen())
		: ask == ASK_CLOSE
		? json_pack("{s:s, s:s, s:s}", "id", top->chosen_id, "how",
			  top->abort ? "abort" : "graceful", "text", "closed by an administrator")
		: ask == ASK_OVERVIEW ? json_pack("{s:I}", "since", (json_int_t)INT64_MAX)
				      : json_object();
	static const char *const calls[] = {
		[ASK_STATUS] = "status",
		[ASK_OVERVIEW] = "overview",
		[ASK_PAGE] = "page",
		[ASK_CLOSE] = "close",
	};

	if (arguments == NULL || !hub_send(top, calls[ask], arguments)) {
		hub_drop(top);
		return false;
	}
	top->asked = ask;
	top->asked_ms = loop_now_ms();
	return true;
}

static void answer_keep(json_t **place, json_t *result)
{
	json_decref(*place);
	*place = json_incref(result);
}

/* The chosen row follows its connection; when that is gone it stays where it is. */
static void chosen_follow(struct top *top)
{
	json_t *rows = json_object_get(top->page, "connections"), *row;
	size_t count = json_array_size(rows), i;
	const char *id;

	json_array_foreach(rows, i, row)
	{
		id = json_string_value(json_object_get(row, "id"));
		if (id != NULL && strcmp(id, top->chosen_id) == 0) {
			top->chosen = i;
			return;
		}
	}
	if (top->chosen >= count)
		top->chosen = count > 0 ? count - 1 : 0;
}

static void chosen_remember(struct top *top)
{
	json_t *rows = json_object_get(top->page, "connections");
	const char *id =
		json_string_value(json_object_get(json_array_get(rows, (size_t)top->chosen), "id"));

	snprintf(top->chosen_id, sizeof(top->chosen_id), "%s", id != NULL ? id : "");
}

static void page_take(struct top *top, json_t *result)
{
	json_int_t matched = json_integer_value(json_object_get(result, "matched"));

	answer_keep(&top->page, result);
	if (top->offset > 0 && top->offset >= (uint64_t)matched) {
		top->offset = 0;
		top->next_ms = 0;
	}
	if (top->mode != MODE_CLOSE) {
		chosen_follow(top);
		chosen_remember(top);
	}
}

/* One whole answer. */
static void answer_take(struct top *top, const char *line, size_t bytes)
{
	json_t *answer = json_loadb(line, bytes, 0, NULL);
	json_t *result = json_object_get(answer, "result");
	const char *text = json_string_value(json_object_get(answer, "text"));
	unsigned asked = top->asked;

	top->asked = ASK_NOTHING;
	if (!json_is_true(json_object_get(answer, "ok"))) {
		message_set(top, text != NULL ? text : "the hub's answer is not understood");
		if (asked == ASK_NOTHING || answer == NULL)
			hub_drop(top);
		json_decref(answer);
		return;
	}
	top->is_stale = false;
	if (asked == ASK_STATUS)
		answer_keep(&top->status, result);
	if (asked == ASK_OVERVIEW)
		answer_keep(&top->overview, result);
	if (asked == ASK_PAGE)
		page_take(top, result);
	if (asked == ASK_CLOSE) {
		message_set(top, "it is closing");
		top->next_ms = loop_now_ms() + 1100; /* the hub's table is at most a second old */
	}
	json_decref(answer);
	if (asked == ASK_STATUS || asked == ASK_OVERVIEW)
		(void)hub_ask(top, (enum ask)(asked + 1));
}

/* Something is there to be read. */
static void hub_read(struct top *top)
{
	char *end, *grown;
	ssize_t bytes;

	if (top->in_capacity - top->in_bytes < 65536) {
		grown = realloc(top->in, top->in_capacity + 262144);
		if (grown == NULL || top->in_capacity > ANSWER_BYTES_MAX) {
			free(grown == NULL ? NULL : grown);
			top->in = grown == NULL ? top->in : NULL;
			top->in_capacity = grown == NULL ? top->in_capacity : 0;
			hub_drop(top);
			return;
		}
		top->in = grown;
		top->in_capacity += 262144;
	}
	bytes = recv(
		top->fd, top->in + top->in_bytes, top->in_capacity - top->in_bytes, MSG_DONTWAIT);
	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (bytes <= 0) {
		hub_drop(top);
		return;
	}
	top->in_bytes += (size_t)bytes;
	end = memchr(top->in, '\n', top->in_bytes);
	if (end == NULL)
		return;
	bytes = end - top->in;
	top->in_bytes = 0; /* one answer at a time: nothing may follow it */
	answer_take(top, top->in, (size_t)bytes);
}

/* Connect, ask, notice what takes too long. Returns when to come back. */
static uint64_t hub_step(struct top *top, uint64_t now_ms)
{
	if (top->asked != ASK_NOTHING && now_ms >= top->asked_ms + ANSWER_MS)
		hub_drop(top);
	if (top->asked != ASK_NOTHING)
		return top->asked_ms + ANSWER_MS;
	if (now_ms < top->next_ms)
		return top->next_ms;
	if (top->is_paused && top->page != NULL && top->next_ms != 0)
		return LOOP_NEVER;
	top->next_ms = now_ms + top->interval_ms;
	if (top->fd < 0 && !hub_connect(top)) {
		hub_drop(top);
		return top->next_ms;
	}
	(void)hub_ask(top, ASK_STATUS);
	return top->next_ms;
}

/* ---- values as text ------------------------------------------------------------------------ */

static uint64_t number_at(json_t *object, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(object, key));

	return number > 0 ? (uint64_t)number : 0;
}

static const char *duration_text(uint64_t ms, char out[32])
{
	if (ms < 1000)
		snprintf(out, 32, "%" PRIu64 "ms", ms);
	else if (ms < 120000)
		snprintf(out, 32, "%.1fs", (double)ms / 1e3);
	else if (ms < 7200000)
		snprintf(out, 32, "%.1fm", (double)ms / 6e4);
	else if (ms < 172800000)
		snprintf(out, 32, "%.1fh", (double)ms / 3.6e6);
	else
		snprintf(out, 32, "%.1fd", (double)ms / 8.64e7);
	return out;
}

/* "512", "1.5K", "20M": at most 7 places. */
static const char *size_short(double bytes, char out[32])
{
	static const char units[] = " KMGTPE";
	size_t at = 0;

	while (bytes >= 1000 && at + 1 < sizeof(units) - 1) {
		bytes /= 1024;
		at++;
	}
	if (at == 0)
		snprintf(out, 32, "%.0f", bytes);
	else
		snprintf(out, 32, bytes < 100 ? "%.1f%c" : "%.0f%c", bytes, units[at]);
	return out;
}

static const char *rate_text(double rate, char out[32])
{
	snprintf(out, 32, rate < 10 && rate > 0 ? "%.1f" : "%.0f", rate);
	return out;
}

/* A cell, escaped, into out[CELL_BYTES]. */
static void cell_text(json_t *row, const struct column *column, char *out)
{
	json_t *value = json_object_get(row, column->key);
	const char *text = json_string_value(value);
	char *clean, buffer[32];

	switch (column->shape) {
	case SHAPE_TEXT:
		clean = text != NULL ? text_escape(text, strlen(text), false) : NULL;
		snprintf(out, CELL_BYTES, "%s", clean != NULL && clean[0] != '\0' ? clean : "-");
		free(clean);
		break;
	case SHAPE_DURATION:
		snprintf(out, CELL_BYTES, "%s", duration_text(number_at(row, column->key), buffer));
		break;
	case SHAPE_SIZE:
		snprintf(out, CELL_BYTES, "%s",
			size_short((double)number_at(row, column->key), buffer));
		break;
	case SHAPE_NUMBER:
		snprintf(out, CELL_BYTES, "%" PRIu64, number_at(row, column->key));
		break;
	}
}

/* Cut or fill a text to `width` places of a terminal, into out; what cannot be shown is a '?'. */
static void place(const char *text, int width, bool is_right, char *out, size_t out_bytes)
{
	size_t used = 0;
	int places = 0, one;
	mbstate_t state;
	char part[CELL_BYTES] = "";
	wchar_t wide;
	size_t bytes;

	memset(&state, 0, sizeof(state));
	while (*text != '\0') {
		bytes = mbrtowc(&wide, text, strlen(text), &state);
		if (bytes == (size_t)-1 || bytes == (size_t)-2 || bytes == 0) {
			memset(&state, 0, sizeof(state));
			wide = L'?';
			bytes = 1;
		}
		one = wcwidth(wide);
		if (one < 0 || (bytes == 1 && (unsigned char)*text >= 0x80))
			one = -1;
		if (places + (one < 0 ? 1 : one) > width || used + bytes + 1 >= sizeof(part))
			break;
		if (one < 0) {
			part[used++] = '?';
			places++;
		} else {
			memcpy(part + used, text, bytes);
			used += bytes;
			places += one;
		}
		text += bytes;
	}
	part[used] = '\0';
	/* Cut: the last place says so. */
	if (*text != '\0' && width > 1 && used > 0) {
		while (used > 1 && ((unsigned char)part[used - 1] & 0xc0) == 0x80)
			used--;
		memset(&state, 0, sizeof(state));
		if (mbrtowc(&wide, part + used - 1, strlen(part + used - 1), &state) < (size_t)-2 &&
			wcwidth(wide) > 0)
			places -= wcwidth(wide) - 1;
		part[used - 1] = '~';
		part[used] = '\0';
	}
	one = places < width ? width - places : 0;
	if (is_right)
		snprintf(out, out_bytes, "%*s%s", one, "", part);
	else
		snprintf(out, out_bytes, "%s%*s", part, one, "");
}

/* ---- the lines, for screen and script alike ------------------------------------------------- */

/* Which columns fit, and how wide they are. */
static void layout(int width, int widths[COUNT(columns)])
{
	int left, flexible;

	for (int worth = 8; worth >= 1; worth--) {
		left = width;
		flexible = -1;
		for (size_t i = 0; i < COUNT(columns); i++) {
			widths[i] = columns[i].worth <= worth ? columns[i].width : -1;
			if (widths[i] == 0) {
				flexible = (int)i;
				left -= 12 + 1; /* at least */
			} else if (widths[i] > 0) {
				left -= widths[i] + 1;
			}
		}
		if (left < -1)
			continue;
		if (flexible >= 0)
			widths[flexible] = 12 + (left > 0 ? left : 0);
		if (flexible >= 0 && widths[flexible] > 60)
			widths[flexible] = 60;
		return;
	}
}

#define LINE_BYTES 4096u

static void line_add(char *line, const char *text)
{
	size_t used = strlen(line);

	snprintf(line + used, LINE_BYTES - used, "%s", text);
}

static void line_titles(const struct top *top, const int *widths, char *line)
{
	char title[32], cell[CELL_BYTES + 64];

	line[0] = '\0';
	for (size_t i = 0; i < COUNT(columns); i++) {
		if (widths[i] < 0)
			continue;
		snprintf(title, sizeof(title), "%s%s", columns[i].title,
			(int)i != top->sort	  ? ""
				: top->descending ? "-"
						  : "+");
		place(title, widths[i], columns[i].shape != SHAPE_TEXT, cell, sizeof(cell));
		if (line[0] != '\0')
			line_add(line, " ");
		line_add(line, cell);
	}
}

static void line_row(json_t *row, const int *widths, char *line)
{
	char text[CELL_BYTES], cell[CELL_BYTES + 64];
	bool is_first = true;

	line[0] = '\0';
	for (size_t i = 0; i < COUNT(columns); i++) {
		if (widths[i] < 0)
			continue;
		cell_text(row, &columns[i], text);
		place(text, widths[i], columns[i].shape != SHAPE_TEXT, cell, sizeof(cell));
		if (!is_first)
			line_add(line, " ");
		line_add(line, cell);
		is_first = false;
	}
}

static double rate_at(const struct top *top, const char *key)
{
	return json_number_value(json_object_get(json_object_get(top->overview, "rates"), key));
}

#define HEAD_LINES 5u

static void head_reasons(const struct top *top, char *line)
{
	json_t *reasons = json_object_get(top->overview, "reasons"), *reason, *best;
	const char *shown[4] = {NULL};
	char part[128];
	size_t i;

	snprintf(line, LINE_BYTES, "ended    ");
	for (size_t n = 0; n < COUNT(shown); n++) {
		best = NULL;
		json_array_foreach(reasons, i, reason)
		{
			const char *name = json_string_value(json_object_get(reason, "reason"));
			bool was_shown = name == NULL;

			for (size_t k = 0; k < n; k++)
				was_shown = was_shown || strcmp(shown[k], name) == 0;
			if (!was_shown &&
				(best == NULL ||
					number_at(reason, "recent") > number_at(best, "recent") ||
					(number_at(reason, "recent") == number_at(best, "recent") &&
						number_at(reason, "total") >
							number_at(best, "total"))))
				best = reason;
		}
		if (best == NULL)
			break;
		shown[n] = json_string_value(json_object_get(best, "reason"));
		snprintf(part, sizeof(part), "%s %" PRIu64 " (%" PRIu64 ")  ", shown[n],
			number_at(best, "recent"), number_at(best, "total"));
		line_add(line, part);
	}
	if (shown[0] == NULL)
		line_add(line, "none yet");
}

static void head_shards(const struct top *top, char *line)
{
	json_t *shards = json_object_get(top->overview, "shards"), *shard;
	char part[96], size[32];
	size_t i;

	snprintf(line, LINE_BYTES, "shards   ");
	json_array_foreach(shards, i, shard)
	{
		snprintf(part, sizeof(part), "%zu: %" PRIu64, i, number_at(shard, "connections"));
		line_add(line, part);
		if (number_at(shard, "queue_bytes") > 0) {
			snprintf(part, sizeof(part), " (%s waits)",
				size_short((double)number_at(shard, "queue_bytes"), size));
			line_add(line, part);
		}
		line_add(line, "  ");
	}
}

static void head_latencies(const struct top *top, char *line)
{
	static const char *const whats[] = {"opening", "closing"};
	json_t *latencies = json_object_get(top->overview, "latencies");
	json_t *health = json_object_get(top->overview, "health"), *one;
	char part[160];

	snprintf(line, LINE_BYTES, "took     ");
	for (size_t i = 0; i < COUNT(whats); i++) {
		one = json_object_get(latencies, whats[i]);
		if (json_object_get(one, "p50_ms") == NULL)
			snprintf(part, sizeof(part), "%s -   ", whats[i]);
		else
			snprintf(part, sizeof(part), "%s p50 %.3gms p99 %.3gms   ", whats[i],
				json_number_value(json_object_get(one, "p50_ms")),
				json_number_value(json_object_get(one, "p99_ms")));
		line_add(line, part);
	}
	snprintf(part, sizeof(part),
		"longest turn %.3gms   faults: %" PRIu64 " memory, %" PRIu64 " accept, %" PRIu64
		" log",
		(double)number_at(health, "turn_us_max") / 1e3, number_at(health, "no_memory"),
		number_at(health, "accept_errors"), number_at(health, "log_lines_lost"));
	line_add(line, part);
}

/* The lines above the table; true: there is something to tell. */
static bool head_lines(const struct top *top, char lines[HEAD_LINES][LINE_BYTES])
{
	const char *identity = json_string_value(json_object_get(top->status, "identity"));
	char uptime[32], rates[5][32];

	for (size_t i = 0; i < HEAD_LINES; i++)
		lines[i][0] = '\0';
	if (top->status == NULL || top->overview == NULL)
		return false;
	snprintf(lines[0], LINE_BYTES,
		"peerhub %s  %.12s  up %s   open %" PRIu64 " of %" PRIu64
		"  opening/ending %" PRIu64,
		json_string_value(json_object_get(top->status, "version")),
		identity != NULL ? identity : "-",
		duration_text(number_at(top->status, "uptime_ms"), uptime),
		number_at(top->overview, "open"), number_at(top->overview, "slots"),
		number_at(top->overview, "opening"));
	snprintf(lines[1], LINE_BYTES,
		"rates/s  opened %s  ended %s   in %sB %s messages   out %sB %s messages",
		rate_text(rate_at(top, "opened"), rates[0]),
		rate_text(rate_at(top, "ended"), rates[1]),
		size_short(rate_at(top, "bytes_in"), rates[2]),
		rate_text(rate_at(top, "messages_in"), rates[3]),
		size_short(rate_at(top, "bytes_out"), rates[4]),
		rate_text(rate_at(top, "messages_out"), uptime));
	head_reasons(top, lines[2]);
	head_latencies(top, lines[3]);
	head_shards(top, lines[4]);
	return true;
}

/* ---- for scripts --------------------------------------------------------------------------- */

static int batch_print(const struct top *top)
{
	static char lines[HEAD_LINES][LINE_BYTES];
	json_t *rows = json_object_get(top->page, "connections"), *row;
	int widths[COUNT(columns)];
	char line[LINE_BYTES];
	size_t i;

	(void)head_lines(top, lines);
	for (i = 0; i < HEAD_LINES; i++)
		printf("%s\n", lines[i]);
	layout(160, widths);
	line_titles(top, widths, line);
	printf("\n%s\n", line);
	json_array_foreach(rows, i, row)
	{
		line_row(row, widths, line);
		printf("%s\n", line);
	}
	printf("\n");
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_OK : EXIT_FAILED;
}

/* Print `count` pictures, one an interval. */
static int batch(struct top *top, uint64_t count)
{
	uint64_t begin_ms = loop_now_ms(), now_ms;
	struct pollfd polls[2];
	int code = EXIT_OK;

	while (count > 0 && code == EXIT_OK && loop_signal() == 0) {
		now_ms = loop_now_ms();
		(void)hub_step(top, now_ms);
		if (top->fd < 0 && (top->page == NULL || now_ms >= begin_ms + ANSWER_MS)) {
			say_error("no hub answers at \"%s\": %s", top->socket, strerror(errno));
			return EXIT_FAILED;
		}
		polls[1] = (struct pollfd){.fd = top->fd, .events = POLLIN};
		if (loop_wait(polls, 2, top->asked != ASK_NOTHING ? now_ms + 100 : top->next_ms) <
			0)
			return EXIT_FAILED;
		if (top->fd < 0 || (polls[1].revents & (POLLIN | POLLHUP | POLLERR)) == 0)
			continue;
		hub_read(top);
		/* A picture is whole with its page. */
		if (top->asked == ASK_NOTHING && top->page != NULL && !top->is_stale) {
			code = batch_print(top);
			begin_ms = loop_now_ms();
			count--;
		}
		if (top->asked == ASK_NOTHING && top->page == NULL && top->message[0] != '\0') {
			say_error("%s", top->message);
			return EXIT_FAILED;
		}
	}
	return code;
}

/* ---- the screen ---------------------------------------------------------------------------- */

enum paint {
	PAINT_PLAIN,
	PAINT_TITLE,
	PAINT_CHOSEN,
	PAINT_BAD,
	PAINT_QUIET,
};

static void paint_begin(const struct top *top, enum paint paint)
{
	static const attr_t mono[] = {A_NORMAL, A_BOLD, A_REVERSE, A_BOLD, A_NORMAL};

	if (top->has_color && paint != PAINT_CHOSEN)
		attrset(COLOR_PAIR(paint) | (paint == PAINT_TITLE ? A_BOLD : A_NORMAL));
	else
		attrset(mono[paint]);
}

/* One line of the screen, whole. */
static void draw(const struct top *top, int y, enum paint paint, const char *text)
{
	char fitted[LINE_BYTES];

	if (y < 0 || y >= LINES)
		return;
	/* place() keeps to CELL_BYTES; a line is longer, and cut where the screen ends. */
	snprintf(fitted, sizeof(fitted), "%s", text);
	paint_begin(top, paint);
	move(y, 0);
	clrtoeol();
	addnstr(fitted, COLS > 0 ? (int)sizeof(fitted) - 1 : 0);
	attrset(A_NORMAL);
}

static void draw_help(const struct top *top)
{
	static const char *const lines[] = {
		"peerhub top: keys",
		"",
		"  up, down, j, k        choose a connection",
		"  PgUp, PgDn, g, G      a page, to the first, to the last",
		"  <, >, left, right     sort by the column before, after",
		"  r                     turn the order around",
		"  /                     search: part of name, identity, group, address or id",
		"  Escape                forget the search",
		"  c                     close the chosen connection gracefully",
		"  a                     abort the chosen connection",
		"  p                     pause, go on",
		"  space                 ask now",
		"  ?, h                  this help",
		"  q                     leave",
		"",
		"ended: by reason, in the last ten minutes (and ever)",
		"took: of connections that have ended",
		"",
		"any key goes back",
	};

	erase();
	for (size_t i = 0; i < COUNT(lines); i++)
		draw(top, (int)i, i == 0 ? PAINT_TITLE : PAINT_PLAIN, lines[i]);
}

static void draw_foot(const struct top *top)
{
	uint64_t matched = number_at(top->page, "matched"), shown;
	char line[LINE_BYTES], *clean;

	shown = json_array_size(json_object_get(top->page, "connections"));
	switch (top->mode) {
	case MODE_SEARCH:
		clean = text_escape(top->typed, strlen(top->typed), false);
		snprintf(line, sizeof(line), "search: %s_", clean != NULL ? clean : "");
		free(clean);
		draw(top, LINES - 1, PAINT_TITLE, line);
		return;
	case MODE_CLOSE:
		snprintf(line, sizeof(line), "%s connection %s? y: yes, any other key: no",
			top->abort ? "abort" : "close", top->chosen_id);
		draw(top, LINES - 1, PAINT_BAD, line);
		return;
	default:
		break;
	}
	if (loop_now_ms() < top->message_ms) {
		clean = text_escape(top->message, strlen(top->message), false);
		draw(top, LINES - 1, PAINT_TITLE, clean != NULL ? clean : "");
		free(clean);
		return;
	}
	snprintf(line, sizeof(line),
		"%" PRIu64 "-%" PRIu64 " of %" PRIu64 "%s%s%s   ? help  q quit",
		shown > 0 ? top->offset + 1 : 0, top->offset + shown, matched,
		top->search[0] != '\0' ? "   search " : "", top->search,
		top->is_paused ? "   paused" : "");
	draw(top, LINES - 1, PAINT_QUIET, line);
}

static void draw_all(const struct top *top)
{
	static char lines[HEAD_LINES][LINE_BYTES];
	json_t *rows = json_object_get(top->page, "connections"), *row;
	int widths[COUNT(columns)], y = HEAD_LINES + 1;
	char line[LINE_BYTES];
	size_t i;

	if (top->mode == MODE_HELP) {
		draw_help(top);
		refresh();
		return;
	}
	erase();
	if (!head_lines(top, lines))
		snprintf(lines[0], LINE_BYTES, "peerhub top: waiting for a hub at %s", top->socket);
	for (i = 0; i < HEAD_LINES; i++)
		draw(top, (int)i, i == 0 ? PAINT_TITLE : PAINT_PLAIN, lines[i]);
	if (top->is_stale && top->status != NULL)
		draw(top, HEAD_LINES, PAINT_BAD,
			"the hub does not answer: what is below is old; trying again");
	layout(COLS - 1, widths);
	line_titles(top, widths, line);
	draw(top, y++, PAINT_TITLE, line);
	json_array_foreach(rows, i, row)
	{
		if (y >= LINES - 1)
			break;
		line_row(row, widths, line);
		draw(top, y++, i == top->chosen ? PAINT_CHOSEN : PAINT_PLAIN, line);
	}
	if (json_array_size(rows) == 0 && top->page != NULL)
		draw(top, y, PAINT_QUIET,
			top->search[0] != '\0' ? "no open connection matches"
					       : "nobody is connected");
	draw_foot(top);
	refresh();
}

/* ---- keys ---------------------------------------------------------------------------------- */

static void ask_soon(struct top *top)
{
	top->next_ms = 0;
	if (top->asked != ASK_NOTHING)
		top->next_ms = 1; /* as soon as the present answer is there */
}

static void chosen_move(struct top *top, int64_t by)
{
	uint64_t count = json_array_size(json_object_get(top->page, "connections"));
	uint64_t matched = number_at(top->page, "matched");
	int64_t to = (int64_t)(top->offset + top->chosen) + by;

	if (to < 0)
		to = 0;
	if (matched > 0 && to >= (int64_t)matched)
		to = (int64_t)matched - 1;
	if (matched == 0 || count == 0)
		return;
	top->chosen_id[0] = '\0';
	if ((uint64_t)to >= top->offset && (uint64_t)to < top->offset + count) {
		top->chosen = (uint64_t)to - top->offset;
		chosen_remember(top);
		return;
	}
	if ((uint64_t)to < top->offset) {
		top->offset = (uint64_t)to;
		top->chosen = 0;
	} else {
		top->chosen = rows_on_screen() - 1;
		top->offset = (uint64_t)to > top->chosen ? (uint64_t)to - top->chosen : 0;
	}
	ask_soon(top);
}

static void sort_move(struct top *top, int by)
{
	int count = (int)COUNT(columns), widths[COUNT(columns)];

	/* To the next one that the screen shows. */
	layout(COLS - 1, widths);
	for (int i = 0; i < count; i++) {
		top->sort = (top->sort + count + by) % count;
		if (widths[top->sort] >= 0)
			break;
	}
	top->descending = columns[top->sort].shape == SHAPE_SIZE;
	top->offset = top->chosen = 0;
	top->chosen_id[0] = '\0';
	ask_soon(top);
}

static void on_search_key(struct top *top, int key)
{
	size_t bytes = strlen(top->typed);

	if (key == '\n' || key == '\r' || key == KEY_ENTER || key == 27) {
		if (key != 27)
			strcpy(top->search, top->typed);
		top->mode = MODE_TABLE;
		top->offset = top->chosen = 0;
		top->chosen_id[0] = '\0';
		ask_soon(top);
	} else if (key == KEY_BACKSPACE || key == 127 || key == 8) {
		while (bytes > 0 && ((unsigned char)top->typed[bytes - 1] & 0xc0) == 0x80)
			bytes--;
		top->typed[bytes > 0 ? bytes - 1 : 0] = '\0';
	} else if (key >= ' ' && key < 256 && bytes < SEARCH_BYTES_MAX) {
		top->typed[bytes] = (char)key;
		top->typed[bytes + 1] = '\0';
	}
}

static void on_close_key(struct top *top, int key)
{
	top->mode = MODE_TABLE;
	if (key != 'y' && key != 'Y')
		return;
	if (top->fd < 0)
		message_set(top, "the hub does not answer");
	else if (top->asked != ASK_NOTHING)
		top->mode = MODE_CLOSE; /* an answer is on its way: press again */
	else
		(void)hub_ask(top, ASK_CLOSE);
}

/* False: leave. */
static bool on_key(struct top *top, int key)
{
	if (key == KEY_RESIZE) {
		ask_soon(top);
		return true;
	}
	if (top->mode == MODE_SEARCH) {
		on_search_key(top, key);
		return true;
	}
	if (top->mode == MODE_CLOSE) {
		on_close_key(top, key);
		return true;
	}
	if (top->mode == MODE_HELP) {
		top->mode = MODE_TABLE;
		return true;
	}
	switch (key) {
	case 'q':
		return false;
	case '?':
	case 'h':
		top->mode = MODE_HELP;
		break;
	case KEY_UP:
	case 'k':
		chosen_move(top, -1);
		break;
	case KEY_DOWN:
	case 'j':
		chosen_move(top, 1);
		break;
	case KEY_PPAGE:
		chosen_move(top, -(int64_t)rows_on_screen());
		break;
	case KEY_NPAGE:
		chosen_move(top, (int64_t)rows_on_screen());
		break;
	case KEY_HOME:
	case 'g':
		chosen_move(top, -INT32_MAX);
		break;
	case KEY_END:
	case 'G':
		chosen_move(top, INT32_MAX);
		break;
	case '<':
	case KEY_LEFT:
		sort_move(top, -1);
		break;
	case '>':
	case KEY_RIGHT:
		sort_move(top, 1);
		break;
	case 'r':
		top->descending = !top->descending;
		ask_soon(top);
		break;
	case '/':
		top->mode = MODE_SEARCH;
		strcpy(top->typed, top->search);
		break;
	case 27:
		top->search[0] = '\0';
		top->offset = top->chosen = 0;
		ask_soon(top);
		break;
	case 'c':
	case 'a':
		if (top->chosen_id[0] != '\0') {
			top->abort = key == 'a';
			top->mode = MODE_CLOSE;
		}
		break;
	case 'p':
		top->is_paused = !top->is_paused;
		ask_soon(top);
		break;
	case ' ':
		ask_soon(top);
		break;
	default:
		break;
	}
	return true;
}

/* ---- the loop ------------------------------------------------------------------------------ */

static volatile sig_atomic_t was_resized;

static void on_resize(int number)
{
	(void)number;
	was_resized = 1;
}

/* The size of the terminal, by the kernel's word. */
static void take_size(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		(void)resizeterm(size.ws_row, size.ws_col);
	clear();
}

static bool screen_begin(struct top *top, bool wants_color)
{
	struct sigaction action = {.sa_handler = on_resize};

	if (sigaction(SIGWINCH, &action, NULL) < 0)
		return false;
	if (newterm(NULL, stdout, stdin) == NULL)
		return false;
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(50);
	(void)curs_set(0);
	top->has_color =
		wants_color && has_colors() && start_color() == OK && use_default_colors() == OK;
	if (top->has_color) {
		(void)init_pair(PAINT_TITLE, COLOR_CYAN, -1);
		(void)init_pair(PAINT_BAD, COLOR_RED, -1);
		(void)init_pair(PAINT_QUIET, COLOR_BLUE, -1);
	}
	return true;
}

static int screen(struct top *top)
{
	struct pollfd polls[3];
	uint64_t now_ms, wake_ms;
	int key;

	for (;;) {
		now_ms = loop_now_ms();
		if (was_resized) {
			was_resized = 0;
			take_size();
			ask_soon(top);
		}
		while ((key = getch()) != ERR)
			if (!on_key(top, key))
				return EXIT_OK;
		wake_ms = hub_step(top, now_ms);
		draw_all(top);
		polls[1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
		polls[2] = (struct pollfd){.fd = top->fd, .events = POLLIN};
		/* A resize is a signal: seen within a second even when it comes just before the wait. */
		if (loop_wait(polls, 3, loop_earlier(wake_ms, now_ms + 1000)) < 0 && errno != EINTR)
			return EXIT_FAILED;
		if (loop_signal() != 0)
			return EXIT_OK;
		if (polls[1].revents & (POLLHUP | POLLERR | POLLNVAL))
			return EXIT_FAILED; /* the terminal has gone */
		if (top->fd >= 0 && (polls[2].revents & (POLLIN | POLLHUP | POLLERR)))
			hub_read(top);
	}
}

/* ---- the command --------------------------------------------------------------------------- */

static int top_run(struct top *top, uint64_t count, bool wants_color)
{
	int code;

	if (count > 0)
		return batch(top, count);
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		say_error("this is no terminal: --once and --batch N print for scripts");
		return EXIT_USAGE;
	}
	if (!screen_begin(top, wants_color)) {
		say_error("the terminal \"%s\" is not known",
			getenv("TERM") != NULL ? getenv("TERM") : "");
		return EXIT_FAILED;
	}
	code = screen(top);
	endwin();
	return code;
}

int top_main(int argc, char **argv)
{
	struct top top = {.fd = -1, .is_stale = true};
	const char *sort = NULL, *search = NULL;
	bool once = false, no_color = false;
	uint64_t batch_count = 0, interval_ms = 0;
	const struct option_spec options[] = {
		{"socket", OPTION_TEXT, "PATH",
			"the hub's; default PEERHUB_ADMIN, then " SOCKET_DEFAULT, &top.socket, 0,
			0},
		{"interval", OPTION_NUMBER, "MS", "how often the hub is asked; default 2000",
			&interval_ms, 200, 3600000},
		{"sort", OPTION_TEXT, "COLUMN",
			"name, identity, address, group, direction, shard, age_ms, idle_ms,\n"
			"bytes_received, bytes_sent, bytes_per_second (default), queue_bytes",
			&sort, 0, 0},
		{"search", OPTION_TEXT, "TEXT", "only what has this in one of its names", &search,
			0, 0},
		{"once", OPTION_FLAG, NULL, "print one picture as text and end", &once, 0, 0},
		{"batch", OPTION_NUMBER, "N", "print N pictures, one an interval, and end",
			&batch_count, 1, 1000000000},
		{"no-color", OPTION_FLAG, NULL, "as when NO_COLOR is set", &no_color, 0, 0},
	};
	const struct command command = {"peerhub top", "",
		"Watch a running hub in a terminal: totals, rates, why connections ended, and the\n"
		"connections, which can be sorted, searched and closed. \"?\" shows the keys.",
		options, COUNT(options), 0, 0};
	const char *path = getenv("PEERHUB_ADMIN"), *quiet = getenv("NO_COLOR");
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code;

	(void)setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		(void)setlocale(LC_CTYPE, "C.UTF-8"); /* names are UTF-8 whatever the place */
	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (top.socket == NULL)
		top.socket = path != NULL && path[0] != '\0' ? path : SOCKET_DEFAULT;
	if (strlen(top.socket) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		say_error("\"%s\" is too long for a socket's path", top.socket);
		return EXIT_USAGE;
	}
	top.sort = column_of(sort != NULL ? sort : "bytes_per_second");
	if (top.sort < 0) {
		say_error("cannot sort by \"%s\": --help names the columns", sort);
		return EXIT_USAGE;
	}
	top.descending = columns[top.sort].shape == SHAPE_SIZE;
	if (search != NULL &&
		(strlen(search) > SEARCH_BYTES_MAX || !text_is_utf8(search, strlen(search)))) {
		say_error("--search takes at most %u bytes of UTF-8", SEARCH_BYTES_MAX);
		return EXIT_USAGE;
	}
	if (search != NULL)
		strcpy(top.search, search);
	top.interval_ms = interval_ms != 0 ? interval_ms : 2000;
	if (loop_begin() < 0) {
		say_error("cannot take signals: %s", strerror(errno));
		return EXIT_FAILED;
	}
	code = top_run(
		&top, once ? 1 : batch_count, !no_color && (quiet == NULL || quiet[0] == '\0'));
	hub_drop(&top);
	free(top.in);
	json_decref(top.status);
	json_decref(top.overview);
	json_decref(top.page);
	return code;
}
