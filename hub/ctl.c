/*
 * ctl.c: peerhub ctl. Asks a running hub through its administrator's socket and prints what it answers: tables
 * for people, the answer's JSON with --json. Every text that a peer may have chosen is escaped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "check.h"
#include "commands.h"
#include "options.h"
#include "say.h"
#include "text.h"
#include "where.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SOCKET_DEFAULT "/run/peerhub/admin.sock"
#define ANSWER_TIMEOUT_S 60

/* What all subcommands know. */
struct ctl {
	const char *socket;
	bool json;
	/* Their own options, as far as each has them. */
	const char *where, *how, *text, *sort, *over;
	uint64_t limit, reason, last;
	bool dry_run, all;
	const char *group, *until, *grace, *retry_after; /* of revoke and drain */
	bool list, stop;
	struct option_list operands;
};

/* ---- asking -------------------------------------------------------------------------------- */

static int ctl_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		say_error("\"%s\" is too long for a socket's path", path);
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
		connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	say_error("no hub answers at \"%s\": %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool send_line(int fd, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t bytes, done = 0;
	ssize_t count;

	if (text == NULL)
		return false;
	bytes = strlen(text) + 1;
	text[bytes - 1] = '\n';
	while (done < bytes) {
		count = send(fd, text + done, bytes - done, MSG_NOSIGNAL);
		if (count <= 0 && errno != EINTR)
			break;
		done += count > 0 ? (size_t)count : 0;
	}
	free(text);
	return done == bytes;
}

/* One line of any length; for free(). NULL: the other side ended, or took too long. */
static char *receive_line(int fd, size_t *bytes)
{
	size_t capacity = 65536;
	char *text = malloc(capacity), *grown;
	ssize_t count;

	*bytes = 0;
	while (text != NULL) {
		if (*bytes == capacity) {
			grown = realloc(text, 2 * capacity);
			if (grown == NULL)
				break;
			text = grown;
			capacity *= 2;
		}
		count = recv(fd, text + *bytes, capacity - *bytes, 0);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		*bytes += (size_t)count;
		if (text[*bytes - 1] == '\n')
			return text;
	}
	free(text);
	return NULL;
}

/* The "result" of a call, borrowed from *answer; NULL: said. */
static json_t *ctl_ask(const struct ctl *ctl, const char *call, json_t *arguments, json_t **answer)
{
	json_t *request = json_pack("{s:s, s:o}", "call", call, "arguments", arguments);
	int fd = request != NULL ? ctl_connect(ctl->socket) : -1;
	char *line = NULL;
	size_t bytes = 0;

	*answer = NULL;
	if (fd >= 0 && send_line(fd, request))
		line = receive_line(fd, &bytes);
	json_decref(request);
	if (fd < 0)
		return NULL;
	close(fd);
	if (line != NULL)
		*answer = json_loadb(line, bytes, 0, NULL);
	free(line);
	if (*answer == NULL) {
		say_error("the hub at \"%s\" did not answer", ctl->socket);
		return NULL;
	}
	if (json_is_true(json_object_get(*answer, "ok")))
		return json_object_get(*answer, "result");
	say_error("%s",
		json_string_value(json_object_get(*answer, "text")) != NULL
			? json_string_value(json_object_get(*answer, "text"))
			: "the hub refused");
	return NULL;
}

/* ---- tables -------------------------------------------------------------------------------- */

/* A value as a word for people; for free(). */
static char *value_text(json_t *value)
{
	char *text = NULL;
	const char *string = json_string_value(value);

	if (string != NULL)
		return string[0] != '\0' ? text_escape(string, strlen(string), false) : strdup("-");
	if (json_is_boolean(value))
		return strdup(json_is_true(value) ? "yes" : "no");
	if (json_is_integer(value) &&
		asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(value)) >= 0)
		return text;
	return strdup("-");
}

static char *duration_text(json_int_t ms)
{
	char *text = NULL;
	int status;

	if (ms < 1000)
		status = asprintf(&text, "%" JSON_INTEGER_FORMAT "ms", ms);
	else if (ms < 120000)
		status = asprintf(&text, "%.1fs", (double)ms / 1e3);
	else if (ms < 7200000)
		status = asprintf(&text, "%.1fm", (double)ms / 6e4);
	else
		status = asprintf(&text, "%.1fh", (double)ms / 3.6e6);
	return status >= 0 ? text : NULL;
}

static char *time_text(json_int_t seconds)
{
	time_t time = (time_t)seconds;
	char text[32];
	struct tm local;

	if (localtime_r(&time, &local) == NULL ||
		strftime(text, sizeof(text), "%m-%d %H:%M:%S", &local) == 0)
		return strdup("-");
	return strdup(text);
}

static bool name_ends(const char *name, const char *end)
{
	size_t bytes = strlen(name), end_bytes = strlen(end);

	return bytes >= end_bytes && strcmp(name + bytes - end_bytes, end) == 0;
}

static char *cell_text(json_t *row, const char *column)
{
	json_t *value = json_object_get(row, column);
	char *size;

	if (json_is_integer(value) && name_ends(column, "_ms"))
		return duration_text(json_integer_value(value));
	if (json_is_integer(value) && strcmp(column, "time") == 0)
		return time_text(json_integer_value(value));
	if (json_is_integer(value) &&
		(name_ends(column, "_bytes") || strncmp(column, "bytes_", 6) == 0)) {
		size = malloc(TEXT_SIZE_BYTES);
		return size != NULL ? text_size((uint64_t)json_integer_value(value), size) : NULL;
	}
	return value_text(value);
}

/* Rows of objects under the columns' names, as wide as their longest cell. 0 or -EIO. */
static int table_print(json_t *rows, const char *const *columns, size_t column_count)
{
	size_t row_count = json_array_size(rows), widths[32];
	char **cells = calloc(row_count * column_count + 1, sizeof(*cells));
	int status = cells != NULL ? 0 : -EIO;

	assert(column_count <= COUNT(widths));
	for (size_t column = 0; column < column_count; column++)
		widths[column] = strlen(columns[column]);
	for (size_t at = 0; status == 0 && at < row_count * column_count; at++) {
		size_t column = at % column_count, bytes;

		cells[at] = cell_text(json_array_get(rows, at / column_count), columns[column]);
		bytes = cells[at] != NULL ? strlen(cells[at]) : 0;
		status = cells[at] != NULL ? 0 : -EIO;
		if (bytes > widths[column])
			widths[column] = bytes;
	}
	for (size_t row = 0; status == 0 && row <= row_count; row++) {
		for (size_t column = 0; column < column_count; column++) {
			const char *cell = row == 0 ? columns[column]
						    : cells[(row - 1) * column_count + column];

			printf("%s%-*s", column > 0 ? "  " : "",
				column + 1 < column_count ? (int)widths[column] : 0, cell);
		}
		putchar('\n');
	}
	for (size_t at = 0; cells != NULL && at < row_count * column_count; at++)
		free(cells[at]);
	free(cells);
	return status;
}

static void object_print(json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		char *text = cell_text(object, key);

		if (!json_is_object(value) && !json_is_array(value) && text != NULL)
			printf("%-18s %s\n", key, text);
		free(text);
	}
}

static const char *const connection_columns[] = {"id", "identity", "group", "address", "direction",
	"kind", "age_ms", "idle_ms", "bytes_sent", "bytes_received", "queue_bytes"};
static const char *const end_columns[] = {"time", "id", "identity", "address", "reason", "side",
	"how", "was_open", "lived_ms", "bytes_dropped", "text", "peer_text"};

/* ---- sorting ------------------------------------------------------------------------------- */

static const char *sort_column;

static int row_compare(const void *left, const void *right)
{
	json_t *a = json_object_get(*(json_t *const *)left, sort_column);
	json_t *b = json_object_get(*(json_t *const *)right, sort_column);

	if (json_is_string(a) && json_is_string(b))
		return strcmp(json_string_value(a), json_string_value(b));
	/* The largest first. */
	return json_integer_value(a) < json_integer_value(b)
		? 1
		: -(json_integer_value(a) > json_integer_value(b));
}

/* A sorted copy of an array; NULL: no memory, or no such column (said). */
static json_t *rows_sorted(json_t *rows, const char *column)
{
	size_t count = json_array_size(rows);
	json_t **all = calloc(count + 1, sizeof(*all)), *sorted = json_array();
	bool is_known = false;

	for (size_t i = 0; i < COUNT(connection_columns); i++)
		is_known = is_known || strcmp(column, connection_columns[i]) == 0;
	if (!is_known)
		say_error("cannot sort by \"%s\": there are id, identity, group, address, "
			  "direction, kind, age_ms, idle_ms, bytes_sent, bytes_received, "
			  "queue_bytes",
			column);
	for (size_t i = 0; all != NULL && i < count; i++)
		all[i] = json_array_get(rows, i);
	sort_column = column;
	if (all != NULL && is_known)
		qsort(all, count, sizeof(*all), row_compare);
	for (size_t i = 0; all != NULL && sorted != NULL && i < count; i++)
		(void)json_array_append(sorted, all[i]);
	free(all);
	if (is_known && sorted != NULL && json_array_size(sorted) == count)
		return sorted;
	json_decref(sorted);
	return NULL;
}

/* ---- the commands -------------------------------------------------------------------------- */

/* null stands for a text that JSON cannot carry: never may it look as if it had not been given. */
static void set_text(json_t *arguments, const char *name, const char *text)
{
	json_t *value = text != NULL ? json_string(text) : NULL;

	if (text != NULL)
		(void)json_object_set_new(arguments, name, value != NULL ? value : json_null());
}

/* Every argument is there as it was given; what is not is said. */
static bool arguments_are_whole(json_t *arguments)
{
	const char *name;
	json_t *value;

	if (arguments == NULL) {
		say_error("out of memory");
		return false;
	}
	json_object_foreach(arguments, name, value)
	{
		if (!json_is_null(value))
			continue;
		say_error("%s: not a text in UTF-8", name);
		return false;
	}
	return true;
}

static void set_number(json_t *arguments, const char *name, uint64_t number)
{
	if (number != 0)
		(void)json_object_set_new(arguments, name, json_integer((json_int_t)number));
}

static void ask_nothing(const struct ctl *ctl, json_t *arguments)
{
	(void)ctl;
	(void)arguments;
}

static int show_object(const struct ctl *ctl, json_t *result)
{
	(void)ctl;
	object_print(result);
	return EXIT_OK;
}

static int show_status(const struct ctl *ctl, json_t *result)
{
	json_t *reload = json_object_get(result, "reload");
	const char *text = json_string_value(json_object_get(reload, "text"));

	json_t *drain = json_object_get(result, "drain");
	const char *state = json_string_value(json_object_get(drain, "state"));

	(void)json_object_del(result, "features");
	object_print(result);
	if (state != NULL && strcmp(state, "serving") != 0) {
		printf("\ndrain\n");
		object_print(drain);
		printf("\n");
	}
	if (text != NULL)
		printf("%-18s %s\n", "last reload", text);
	(void)ctl;
	return EXIT_OK;
}

static void ask_connections(const struct ctl *ctl, json_t *arguments)
{
	set_text(arguments, "where", ctl->where);
	set_number(arguments, "limit", ctl->limit);
}

static int show_connections(const struct ctl *ctl, json_t *result)
{
	json_t *rows = json_object_get(result, "connections"), *sorted;
	json_int_t matched = json_integer_value(json_object_get(result, "matched"));
	int status;

	sorted = ctl->sort != NULL ? rows_sorted(rows, ctl->sort) : json_incref(rows);
	if (sorted == NULL)
		return EXIT_USAGE;
	status = table_print(sorted, connection_columns, COUNT(connection_columns));
	if (matched > (json_int_t)json_array_size(sorted))
		say_note("%" JSON_INTEGER_FORMAT " connections match; shown are %zu", matched,
			json_array_size(sorted));
	json_decref(sorted);
	return status == 0 ? EXIT_OK : EXIT_FAILED;
}

static void ask_id(const struct ctl *ctl, json_t *arguments)
{
	set_text(arguments, "id", ctl->operands.items[0]);
}

static int show_one(const struct ctl *ctl, json_t *result)
{
	(void)ctl;
	printf("%-18s %s\n", "state", json_string_value(json_object_get(result, "state")));
	object_print(json_object_get(result, "connection"));
	return EXIT_OK;
}

static void ask_closed(const struct ctl *ctl, json_t *arguments)
{
	set_number(arguments, "last", ctl->last);
}

static int show_closed(const struct ctl *ctl, json_t *result)
{
	(void)ctl;
	return table_print(
		       json_object_get(result, "connections"), end_columns, COUNT(end_columns)) == 0
		? EXIT_OK
		: EXIT_FAILED;
}

static void ask_explain(const struct ctl *ctl, json_t *arguments)
{
	set_text(arguments, "what", ctl->operands.items[0]);
}

/* One sentence an ended connection. */
static void explain_end(json_t *end)
{
	char *time = time_text(json_integer_value(json_object_get(end, "time")));
	char *lived = duration_text(json_integer_value(json_object_get(end, "lived_ms")));
	char *text = value_text(json_object_get(end, "text"));
	char *peer_text = value_text(json_object_get(end, "peer_text"));
	char *identity = value_text(json_object_get(end, "identity"));
	const char *side = json_string_value(json_object_get(end, "side"));
	bool was_open = json_is_true(json_object_get(end, "was_open"));

	printf("%s  %s %s (%s), %s: %s by %s, %s, after %s%s%s%s%s%s\n", time != NULL ? time : "-",
		json_string_value(json_object_get(end, "id")), identity != NULL ? identity : "-",
		json_string_value(json_object_get(end, "address")),
		was_open ? "was open, ended" : "was never open, ended",
		json_string_value(json_object_get(end, "reason")),
		side != NULL && strcmp(side, "local") == 0	      ? "us"
			: side != NULL && strcmp(side, "remote") == 0 ? "the peer"
								      : "the engine",
		json_string_value(json_object_get(end, "how")), lived != NULL ? lived : "-",
		text != NULL && strcmp(text, "-") != 0 ? ": " : "",
		text != NULL && strcmp(text, "-") != 0 ? text : "",
		peer_text != NULL && strcmp(peer_text, "-") != 0 ? "; the peer said \"" : "",
		peer_text != NULL && strcmp(peer_text, "-") != 0 ? peer_text : "",
		peer_text != NULL && strcmp(peer_text, "-") != 0 ? "\"" : "");
	free(time);
	free(lived);
	free(text);
	free(peer_text);
	free(identity);
}

static int show_explain(const struct ctl *ctl, json_t *result)
{
	json_t *open = json_object_get(result, "open"), *ended = json_object_get(result, "ended");
	json_t *one = json_object_get(result, "connection"), *end;
	const char *state = json_string_value(json_object_get(result, "state"));
	size_t i;

	if (one != NULL && state != NULL && strcmp(state, "ended") == 0) {
		explain_end(one);
		return EXIT_OK;
	}
	if (one != NULL)
		return show_one(ctl, result);
	if (json_array_size(open) > 0)
		(void)table_print(open, connection_columns, COUNT(connection_columns));
	json_array_foreach(ended, i, end) explain_end(end);
	if (json_array_size(open) + json_array_size(ended) > 0)
		return EXIT_OK;
	say_error("nothing is open or remembered for \"%s\"", ctl->operands.items[0]);
	return EXIT_FAILED;
}

static void ask_close(const struct ctl *ctl, json_t *arguments)
{
	uint64_t over_ms = 0;

	set_text(arguments, "how", ctl->how);
	set_number(arguments, "reason", ctl->reason);
	if (ctl->operands.count > 0) {
		set_text(arguments, "id", ctl->operands.items[0]);
		set_text(arguments, "text", ctl->text);
		return;
	}
	set_text(arguments, "where", ctl->where);
	if (ctl->over != NULL && where_duration(ctl->over, &over_ms))
		set_number(arguments, "over_ms", over_ms);
	if (ctl->dry_run)
		(void)json_object_set_new(arguments, "dry_run", json_true());
	if (ctl->all)
		(void)json_object_set_new(arguments, "all", json_true());
}

static int show_close(const struct ctl *ctl, json_t *result)
{
	const char *close = json_string_value(json_object_get(result, "close"));

	if (close != NULL)
		printf("close %s\n", close);
	else
		printf("%s %" JSON_INTEGER_FORMAT "\n", ctl->dry_run ? "would close" : "closing",
			json_integer_value(json_object_get(result, "matched")));
	return EXIT_OK;
}

static int show_limits(const struct ctl *ctl, json_t *result)
{
	static const char *const columns[] = {"key", "value", "unit", "set"};
	static const char *const limit_columns[] = {"limit", "value", "use", "refusals",
		"last_refusal_ago_ms", "last_refused", "reason"};

	(void)ctl;
	if (table_print(json_object_get(result, "keys"), columns, COUNT(columns)) < 0)
		return EXIT_FAILED;
	printf("\n");
	if (table_print(json_object_get(result, "limits"), limit_columns, COUNT(limit_columns)) < 0)
		return EXIT_FAILED;
	printf("\nin use now\n");
	object_print(json_object_get(result, "use"));
	return EXIT_OK;
}

/* ---- revoke, drain ------------------------------------------------------------------------- */

/* "2030-01-31", "2030-01-31T12:00" (UTC), or a time from now like 30d. false: neither, or past. */
static bool until_read(const char *text, uint64_t *seconds)
{
	static const char *const formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
	uint64_t ms, now = (uint64_t)time(NULL);

	if (where_duration(text, &ms)) {
		*seconds = now + ms / 1000;
		return ms >= 1000;
	}
	for (size_t i = 0; i < COUNT(formats); i++) {
		struct tm broken = {0};
		const char *end = strptime(text, formats[i], &broken);
		time_t at = end != NULL && *end == '\0' ? timegm(&broken) : (time_t)-1;

		if (at == (time_t)-1)
			continue;
		*seconds = (uint64_t)at;
		return at > (time_t)now;
	}
	return false;
}

static void ask_revoke(const struct ctl *ctl, json_t *arguments)
{
	uint64_t until = 0;

	set_text(arguments, "group", ctl->group);
	if (ctl->operands.count > 0)
		set_text(arguments, "identity", ctl->operands.items[0]);
	if (ctl->until != NULL && until_read(ctl->until, &until))
		set_number(arguments, "until", until);
}

static int show_revoke(const struct ctl *ctl, json_t *result)
{
	static const char *const list_columns[] = {
		"revoked", "by", "signer", "since_time", "until_time", "in_force", "group"};
	static const char *const columns[] = {"group", "done", "closed", "text"};
	json_t *list = json_object_get(result, "revocations"), *row;
	size_t i;

	(void)ctl;
	if (list == NULL)
		return table_print(json_object_get(result, "groups"), columns, COUNT(columns)) == 0
			? EXIT_OK
			: EXIT_FAILED;
	json_array_foreach(list, i, row)
	{
		json_int_t until = json_integer_value(json_object_get(row, "until"));
		char *since = time_text(json_integer_value(json_object_get(row, "since")));
		char *end = until != 0 ? time_text(until) : strdup("for ever");

		(void)json_object_set_new(
			row, "since_time", json_string(since != NULL ? since : "-"));
		(void)json_object_set_new(row, "until_time", json_string(end != NULL ? end : "-"));
		free(since);
		free(end);
	}
	return table_print(list, list_columns, COUNT(list_columns)) == 0 ? EXIT_OK : EXIT_FAILED;
}

static void set_duration(json_t *arguments, const char *name, const char *text)
{
	uint64_t ms;

	if (text != NULL && where_duration(text, &ms))
		(void)json_object_set_new(arguments, name, json_integer((json_int_t)ms));
}

static void ask_drain(const struct ctl *ctl, json_t *arguments)
{
	set_duration(arguments, "over_ms", ctl->over);
	set_duration(arguments, "grace_ms", ctl->grace);
	set_duration(arguments, "retry_after_ms", ctl->retry_after);
	set_text(arguments, "text", ctl->text);
	if (ctl->stop)
		(void)json_object_set_new(arguments, "stop", json_true());
}

static void ask_level(const struct ctl *ctl, json_t *arguments)
{
	set_text(arguments, "level", ctl->operands.items[0]);
}

struct ctl_command {
	const char *name, *operands, *summary;
	const char *call;
	unsigned options; /* OPT_* */
	size_t operand_min, operand_max;
	void (*ask)(const struct ctl *ctl, json_t *arguments);
	int (*show)(const struct ctl *ctl, json_t *result);
};

#define OPT_WHERE 1u
#define OPT_SORT 2u
#define OPT_CLOSE 4u
#define OPT_LAST 8u
#define OPT_DRAIN 256u
#define OPT_GROUP 512u
#define OPT_REVOKE 1024u

static const struct ctl_command ctl_commands[] = {
	{"status", "", "What the hub is and does.", "status", 0, 0, 0, ask_nothing, show_status},
	{"connections", "", "The open connections.", "connections", OPT_WHERE | OPT_SORT, 0, 0,
		ask_connections, show_connections},
	{"show", "ID", "One connection, open or ended.", "show", 0, 1, 1, ask_id, show_one},
	{"closed", "", "The last ended connections, the newest first.", "closed", OPT_LAST, 0, 0,
		ask_closed, show_closed},
	{"explain", "ID|IDENTITY|ADDRESS", "Why connections are there, ended, or were refused.",
		"explain", 0, 1, 1, ask_explain, show_explain},
	{"close", "[ID]", "Close one connection, or with --where all that match.", "close",
		OPT_WHERE | OPT_CLOSE, 0, 1, ask_close, show_close},
	{"limits", "", "Every key in force, where it was set, and what is in use.", "limits", 0, 0,
		0, ask_nothing, show_limits},
	{"drain", "", "Accept nobody, tell the peers, then close all, evenly over a time.", "drain",
		OPT_DRAIN, 0, 0, ask_drain, show_object},
	{"undrain", "", "Take a drain back: who is still here stays.", "undrain", 0, 0, 0,
		ask_nothing, show_object},
	{"revoke", "[IDENTITY]", "Throw an identity, and all it vouched for, out of its groups.",
		"revoke", OPT_GROUP | OPT_REVOKE, 0, 1, ask_revoke, show_revoke},
	{"unrevoke", "IDENTITY", "Take a revocation back.", "unrevoke", OPT_GROUP, 1, 1, ask_revoke,
		show_revoke},
	{"reload", "", "Read the configuration again.", "reload", 0, 0, 0, ask_nothing,
		show_object},
	{"stop", "", "End the hub, as SIGTERM does.", "stop", 0, 0, 0, ask_nothing, show_object},
	{"log-level", "LEVEL", "error, warning, info or debug, until the next reload.", "log_level",
		0, 1, 1, ask_level, show_object},
};

static int ctl_run(const struct ctl_command *command, struct ctl *ctl)
{
	json_t *arguments = json_object(), *answer = NULL, *result;
	const char *call = command->call;
	int code = EXIT_FAILED;

	if (command->options & OPT_CLOSE && ctl->operands.count == 0)
		call = "close_where";
	if (ctl->list)
		call = "revocations";
	command->ask(ctl, arguments);
	if (!arguments_are_whole(arguments)) {
		json_decref(arguments);
		return EXIT_USAGE;
	}
	result = ctl_ask(ctl, call, arguments, &answer);
	if (result != NULL && ctl->json)
		code = json_dumpf(result, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF
			? EXIT_OK
			: EXIT_FAILED;
	else if (result != NULL)
		code = command->show(ctl, result);
	json_decref(answer);
	return code;
}

static bool duration_is_good(const char *option, const char *text)
{
	uint64_t ms;

	if (text == NULL || where_duration(text, &ms))
		return true;
	say_error("%s takes a time like 60s, 5m, 2h, not \"%s\"", option, text);
	return false;
}

static bool ctl_change_is_good(const struct ctl_command *command, const struct ctl *ctl)
{
	uint64_t until;

	if (!duration_is_good("--grace", ctl->grace) ||
		!duration_is_good("--retry-after", ctl->retry_after))
		return false;
	if (command->options & OPT_REVOKE && ctl->list == (ctl->operands.count > 0)) {
		say_error("either an IDENTITY or --list");
		return false;
	}
	if (ctl->until != NULL && !until_read(ctl->until, &until)) {
		say_error("--until takes a time to come: 2030-01-31, 2030-01-31T12:00 or 30d, not "
			  "\"%s\"",
			ctl->until);
		return false;
	}
	return true;
}

/* What the parser cannot see. */
static bool ctl_is_good(const struct ctl_command *command, const struct ctl *ctl)
{
	uint64_t ms;

	if (ctl->over != NULL && !where_duration(ctl->over, &ms)) {
		say_error("--over takes a time like 60s, 5m, 2h, not \"%s\"", ctl->over);
		return false;
	}
	if (!ctl_change_is_good(command, ctl))
		return false;
	if ((command->options & OPT_CLOSE) == 0)
		return true;
	if (ctl->operands.count == 1 && (ctl->where != NULL || ctl->dry_run || ctl->all)) {
		say_error("either an ID or --where, not both");
		return false;
	}
	if (ctl->where != NULL && ctl->all) {
		say_error("either --where or --all, not both");
		return false;
	}
	if (ctl->operands.count == 0 && ctl->where == NULL && !ctl->all) {
		say_error("which? give an ID, --where CONDITIONS, or --all");
		return false;
	}
	return true;
}

static const char *socket_default(void)
{
	const char *path = getenv("PEERHUB_ADMIN");

	return path != NULL && path[0] != '\0' ? path : SOCKET_DEFAULT;
}

static int ctl_parse_and_run(const struct ctl_command *command, int argc, char **argv)
{
	struct ctl ctl = {.socket = socket_default()};
	struct option_spec options[16];
	struct command parsed = {.operands = command->operands,
		.summary = command->summary,
		.options = options,
		.operand_min = command->operand_min,
		.operand_max = command->operand_max};
	enum options_verdict verdict;
	struct common common;
	char name[64];
	size_t count = 0;

	snprintf(name, sizeof(name), "peerhub ctl %s", command->name);
	parsed.name = name;
	options[count++] = (struct option_spec){"socket", OPTION_TEXT, "PATH",
		"the hub's; default PEERHUB_ADMIN, then " SOCKET_DEFAULT, &ctl.socket, 0, 0};
	options[count++] = (struct option_spec){
		"json", OPTION_FLAG, NULL, "the answer as JSON, for scripts", &ctl.json, 0, 0};
	if (command->options & OPT_WHERE)
		options[count++] = (struct option_spec){"where", OPTION_TEXT, "CONDITIONS",
			"group=G identity=I subnet=A/BITS age>60s idle>5m,\n"
			"separated by spaces, all of them",
			&ctl.where, 0, 0};
	if (command->options & OPT_SORT) {
		options[count++] = (struct option_spec){
			"sort", OPTION_TEXT, "COLUMN", "by a column's name", &ctl.sort, 0, 0};
		options[count++] = (struct option_spec){"limit", OPTION_NUMBER, "N",
			"how many at most; default 10000", &ctl.limit, 1, 100000};
	}
	if (command->options & OPT_LAST)
		options[count++] = (struct option_spec){"last", OPTION_NUMBER, "N",
			"how many at most; default 100", &ctl.last, 1, 100000};
	if (command->options & OPT_CLOSE) {
		options[count++] = (struct option_spec){
			"how", OPTION_TEXT, "graceful|abort", "default graceful", &ctl.how, 0, 0};
		options[count++] = (struct option_spec){"reason", OPTION_NUMBER, "N",
			"an application's number, 1000 to 2999", &ctl.reason, 1000, 2999};
		options[count++] = (struct option_spec){"text", OPTION_TEXT, "TEXT",
			"for the peer and the log, with an ID", &ctl.text, 0, 0};
		options[count++] = (struct option_spec){"dry-run", OPTION_FLAG, NULL,
			"only count, with --where", &ctl.dry_run, 0, 0};
		options[count++] = (struct option_spec){"over", OPTION_TEXT, "TIME",
			"spread the closes evenly over this time", &ctl.over, 0, 0};
		options[count++] = (struct option_spec){
			"all", OPTION_FLAG, NULL, "all connections", &ctl.all, 0, 0};
	}
	if (command->options & OPT_GROUP)
		options[count++] = (struct option_spec){"group", OPTION_TEXT, "GROUP",
			"in this group, by its peer name; default all of the hub's identity",
			&ctl.group, 0, 0};
	if (command->options & OPT_REVOKE) {
		options[count++] = (struct option_spec){"until", OPTION_TEXT, "TIME",
			"2030-01-31, 2030-01-31T12:00 (UTC) or 30d; default for ever", &ctl.until,
			0, 0};
		options[count++] = (struct option_spec){"list", OPTION_FLAG, NULL,
			"only list who is revoked, by whom, until when", &ctl.list, 0, 0};
	}
	if (command->options & OPT_DRAIN) {
		options[count++] = (struct option_spec){"over", OPTION_TEXT, "TIME",
			"spread the closes evenly over this time; default drain.over", &ctl.over, 0,
			0};
		options[count++] = (struct option_spec){"grace", OPTION_TEXT, "TIME",
			"between the notice and the first close; default drain.grace", &ctl.grace,
			0, 0};
		options[count++] = (struct option_spec){"retry-after", OPTION_TEXT, "TIME",
			"when the peers may come back here; default drain.retry-after",
			&ctl.retry_after, 0, 0};
		options[count++] = (struct option_spec){"text", OPTION_TEXT, "TEXT",
			"for the peers: why, and where to go meanwhile", &ctl.text, 0, 0};
		options[count++] = (struct option_spec){"stop", OPTION_FLAG, NULL,
			"end the hub when nobody is left, as SIGTERM does", &ctl.stop, 0, 0};
	}
	assert(count <= COUNT(options));
	parsed.option_count = count;
	verdict = options_parse(&parsed, argc, argv, &common, &ctl.operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (!ctl_is_good(command, &ctl))
		return EXIT_USAGE;
	return ctl_run(command, &ctl);
}

static void ctl_usage(FILE *out)
{
	fputs("usage: peerhub ctl COMMAND [options]\n\n"
	      "Ask and steer a running hub (peerhub hub --config FILE).\n\n",
		out);
	for (size_t i = 0; i < COUNT(ctl_commands); i++)
		fprintf(out, "  %-12s %s%s%s\n", ctl_commands[i].name, ctl_commands[i].summary,
			ctl_commands[i].operands[0] != '\0' ? "  " : "", ctl_commands[i].operands);
	fputs("\n\"peerhub ctl COMMAND --help\" tells more.\n"
	      "exit codes: 0 done, 1 failed or not found, 2 wrong usage\n",
		out);
}

int ctl_main(int argc, char **argv)
{
	say_begin("peerhub ctl", false);
	if (argc < 2) {
		ctl_usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0) {
		ctl_usage(stdout);
		return EXIT_OK;
	}
	for (size_t i = 0; i < COUNT(ctl_commands); i++)
		if (strcmp(ctl_commands[i].name, argv[1]) == 0)
			return ctl_parse_and_run(&ctl_commands[i], argc - 1, argv + 1);
	say_error("unknown command \"%s\"", argv[1]);
	fputs("try \"peerhub ctl --help\"\n", stderr);
	return EXIT_USAGE;
}
