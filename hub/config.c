/*
 * config.c: see config.h. inih splits the lines; what they mean is the table's.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include "check.h"
#include "peerhub.h"
#include "say.h"
#include "text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KEYS_MAX 64u

enum kind {
	KIND_TEXT,
	KIND_ADDRESS, /* numeric host:port, or "" */
	KIND_LOOPBACK, /* the same, of this machine alone */
	KIND_LIST, /* char *[CONFIG_LIST_MAX] and its count at `count` */
	KIND_NUMBER, /* uint64_t, min..max */
	KIND_BOOL,
	KIND_CHOICE, /* uint64_t: index of the word in `words`, separated by | */
};

struct key {
	const char *section, *name;
	enum kind kind;
	size_t offset, count; /* in struct config */
	uint64_t min, max;
	const char *unit; /* "" for none */
	const char *words;
	const char *value; /* the default, as it would be written; "" for none */
	bool is_live; /* a running hub takes a new value over */
	const char *meaning; /* may hold \n */
};

#define AT(field) offsetof(struct config, field)
#define TEXT(section, name, field, live, meaning)                                         \
	{                                                                                 \
		section, name, KIND_TEXT, AT(field), 0, 0, 0, "", NULL, "", live, meaning \
	}
#define ADDRESS(section, name, field, value, live, meaning)                                     \
	{                                                                                       \
		section, name, KIND_ADDRESS, AT(field), 0, 0, 0, "", NULL, value, live, meaning \
	}
#define NUMBER(section, name, field, min, max, unit, value, live, meaning)                   \
	{                                                                                    \
		section, name, KIND_NUMBER, AT(field), 0, min, max, unit, NULL, value, live, \
			meaning                                                              \
	}
#define CHOICE(section, name, field, words, value, live, meaning)                               \
	{                                                                                       \
		section, name, KIND_CHOICE, AT(field), 0, 0, 0, "", words, value, live, meaning \
	}
#define DAY_MS 86400000u
#define COUNT_MAX 16777215u /* of one key: what is counted has 24 bits (engine) */

/* clang-format off */
static const struct key config_keys[] = {
	TEXT("hub", "identity", identity, false,
		"Whose hub this is: peer name or friendly name of an identity of the store. Not set: the only one."),
	{"hub", "group", KIND_LIST, AT(groups), AT(group_count), 0, 0, "", NULL, "", true,
		"A group to serve, by name; may be repeated, at most 64. Not set: all of the identity's."},
	ADDRESS("hub", "listen", listen, "", false,
		"Where to listen, numeric; port 0: any free one. Not set: PEERHUB_LISTEN, then [::]:3587 or any\n"
		"free port. A socket that systemd hands over comes first."),
	ADDRESS("hub", "neighbor", neighbor, "", false,
		"A member to go online by, for a hub that did not create the group."),
	TEXT("hub", "store", store, false,
		"Directory of the store. Not set: PEERHUB_HOME, then the place for this user."),
	TEXT("hub", "receive", receive, false,
		"Directory for files that members send to the hub itself. Not set: refused."),
	{"hub", "lines", KIND_BOOL, AT(lines), 0, 0, 0, "", NULL, "no", false,
		"Print lines that members send to the hub itself."},
	NUMBER("hub", "shards", shards, 0, PH_SHARDS_MAX, "threads", "0", false,
		"Threads that serve connections. 0: one for each processor."),
	NUMBER("hub", "ready-timeout", timeout_ready_s, 1, 1000000, "seconds", "30", false,
		"How long getting ready may take before the start counts as failed."),
	NUMBER("limits", "connections-per-shard", connections_per_shard, 64, PH_SLOTS_MAX, "connections",
		"19968", false, "Connections of one shard, opening and closing ones too. Then accepting pauses."),
	NUMBER("limits", "handshakes-per-shard", handshakes_per_shard, 1, 1000000, "connections", "1024",
		false, "Accepted connections of one shard that are not open yet. Then accepting pauses."),
	NUMBER("limits", "connections", connections, 0, COUNT_MAX, "connections", "100000", true,
		"Accepted connections of the hub; one more is reset. 0, here and below: no limit."),
	NUMBER("limits", "group-connections", group_connections, 0, COUNT_MAX, "connections", "50000",
		true, "Of one group. One more is refused, and told so."),
	NUMBER("limits", "identity-connections", identity_connections, 0, COUNT_MAX, "connections",
		"1000", true, "Of one identity, in all groups. One more is refused, and told so."),
	NUMBER("limits", "subnet-connections", subnet_connections, 0, COUNT_MAX, "connections", "16384",
		true, "Of one IPv4 address or one IPv6 /56. One more is reset before its handshake."),
	NUMBER("limits", "handshakes", handshakes, 0, COUNT_MAX, "connections", "8192", true,
		"Accepted connections of the hub that are not open yet. One more is reset."),
	NUMBER("limits", "handshake-share", handshake_share, 1, 100, "percent", "90", true,
		"Of each shard's time that handshakes may take; more have to wait."),
	NUMBER("limits", "accept-rate", accept_rate, 0, 1000000, "connections a second", "20000", true,
		"New connections, one second's worth at once. One more is reset before its handshake."),
	NUMBER("limits", "message-bytes", message_bytes, 1024, PH_MESSAGE_BYTES_MAX, "bytes", "67108864",
		true, "The largest message that is received. A larger one ends its connection."),
	NUMBER("limits", "message-rate", message_rate, 0, 1000000000, "messages a second", "200000", true,
		"Received on one connection, one second's worth at once. More end it."),
	NUMBER("limits", "send-queue-bytes", send_queue_bytes, 4096, 1u << 30, "bytes", "1048576", true,
		"What may wait for one connection before sending to it has to wait."),
	NUMBER("limits", "send-total-bytes", send_total_bytes, 0, 1ull << 44, "bytes", "1073741824", true,
		"What may wait for all connections together. More is refused to who sends."),
	NUMBER("limits", "reassembly-bytes", reassembly_bytes, 1u << 20, 1ull << 40, "bytes",
		"1073741824", false, "Unfinished messages of all connections together."),
	NUMBER("limits", "memory-bytes", memory_bytes, 0, 1ull << 44, "bytes", "4294967296", true,
		"Connections, handshakes, queues and unfinished messages by what they cost."),
	NUMBER("limits", "loop-lag", loop_lag_ms, 0, DAY_MS, "milliseconds", "2000", true,
		"A shard whose turns take longer refuses new connections, with a time to come again."),
	NUMBER("limits", "retry-after", retry_after_ms, 1, DAY_MS, "milliseconds", "2000", false,
		"What a refused peer is told to wait before it tries again."),
	CHOICE("limits", "slow-consumer", slow_consumer, "close|drop-oldest|block", "close", false,
		"A connection whose send queue stays full: is closed, loses its oldest messages, or has its\n"
		"senders wait."),
	NUMBER("limits", "slow-consumer-time", slow_consumer_ms, 1, DAY_MS, "milliseconds", "10000",
		false, "How long a queue may be full, with close."),
	CHOICE("limits", "duplicates", duplicates, "allow|newest|oldest", "allow", false,
		"A second connection of one identity, group and kind: is let in, ends the older one, or is\n"
		"refused."),
	NUMBER("timeouts", "connect", timeout_connect_ms, 1, DAY_MS, "milliseconds", "20000", false,
		"TCP connect."),
	NUMBER("timeouts", "handshake", timeout_handshake_ms, 1, DAY_MS, "milliseconds", "20000", false,
		"From TCP established to the peer's greeting."),
	NUMBER("timeouts", "welcome", timeout_welcome_ms, 1, DAY_MS, "milliseconds", "60000", false,
		"From our greeting to the answer."),
	NUMBER("timeouts", "close", timeout_close_ms, 1, DAY_MS, "milliseconds", "5000", false,
		"A graceful close that takes longer becomes an abort."),
	NUMBER("timeouts", "dead", timeout_dead_ms, 1, DAY_MS, "milliseconds", "120000", false,
		"A peer that says nothing for so long, pings included, is gone."),
	NUMBER("timeouts", "ping", ping_interval_ms, 1, DAY_MS, "milliseconds", "30000", false,
		"How often an idle connection is pinged."),
	NUMBER("drain", "grace", drain_grace_ms, 0, DAY_MS, "milliseconds", "2000", true,
		"SIGTERM and \"peerhub ctl drain\": how long after the notice to the peers closing begins."),
	NUMBER("drain", "over", drain_over_ms, 0, DAY_MS, "milliseconds", "10000", true,
		"The time over which the closes are spread evenly then."),
	NUMBER("drain", "retry-after", drain_retry_after_ms, 0, 3600000, "milliseconds", "5000", true,
		"When the peers may come back here; until then they try other hubs. 0: nothing is asked."),
	CHOICE("log", "level", log_level, "error|warning|info|debug", "info", true,
		"What is logged: this and what is more severe."),
	CHOICE("log", "format", log_format, "text|logfmt|json|journal", "text", true,
		"How: lines on stderr, or fields for journald."),
	NUMBER("log", "ends-per-second", log_ends_per_second, 0, 1000000, "lines", "100", true,
		"Lines about ended connections, one for each; what is left out is counted. A tenth more for those\n"
		"that ended before their handshake. 0: none."),
	TEXT("admin", "socket", admin_socket, false,
		"Path of the Unix socket for \"peerhub ctl\". Not set: admin.sock in RUNTIME_DIRECTORY, else none."),
	NUMBER("admin", "requests-per-second", admin_requests_per_second, 1, 1000000, "requests", "200",
		true, "Of one administrator; more have to wait."),
	{"metrics", "listen", KIND_LOOPBACK, AT(metrics_listen), 0, 0, 0, "", NULL, "", false,
		"Where /metrics, /healthz and /readyz are served, in clear: a loopback address. Not set: nowhere."},
	{"dashboard", "listen", KIND_LOOPBACK, AT(dashboard_listen), 0, 0, 0, "", NULL, "", false,
		"Where the page for operators is served: a loopback address. Not set: nowhere."},
	{"dashboard", "allow-close", KIND_BOOL, AT(dashboard_allow_close), 0, 0, 0, "", NULL, "no", false,
		"Whether the page may close connections, for whoever has the token."},
	TEXT("dashboard", "token-file", dashboard_token_file, false,
		"File with the token, 16 to 200 printable characters in one line; only the hub's user may read it."),
	{"dashboard", "token-to-read", KIND_BOOL, AT(dashboard_token_to_read), 0, 0, 0, "", NULL, "no",
		false, "Whether looking needs the token, too: else every user of this machine may look."},
	NUMBER("dashboard", "requests-per-second", dashboard_requests_per_second, 1, 1000000, "requests",
		"50", true, "Of all browsers together; more are refused."),
	CHOICE("confinement", "mode", confinement, "full|no", "full", false,
		"What the hub forbids itself before it serves, as far as the kernel has it: files, ports and system\n"
		"calls that it has no use for. docs/confinement.md tells all."),
	NUMBER("history", "ends", history_ends, 16, 1000000, "connections", "10000", false,
		"Ended connections that \"peerhub ctl closed\" and \"explain\" remember."),
};
/* clang-format on */
static_assert(COUNT(config_keys) <= KEYS_MAX, "the parser's table of lines seen");

/* ---- values -------------------------------------------------------------------------------- */

static char **text_at(const struct config *config, const struct key *key)
{
	return (char **)((uintptr_t)config + key->offset);
}

static uint64_t *number_at(const struct config *config, const struct key *key)
{
	return (uint64_t *)((uintptr_t)config + key->offset);
}

static bool *bool_at(const struct config *config, const struct key *key)
{
	return (bool *)((uintptr_t)config + key->offset);
}

static size_t *count_at(const struct config *config, const struct key *key)
{
	return (size_t *)((uintptr_t)config + key->count);
}

/* The index of a word among "a|b|c", or -1. */
static int word_index(const char *words, const char *word)
{
	size_t bytes = strlen(word);

	for (int index = 0;; index++) {
		const char *end = strchrnul(words, '|');

		if ((size_t)(end - words) == bytes && memcmp(words, word, bytes) == 0)
			return index;
		if (*end == '\0')
			return -1;
		words = end + 1;
	}
}

static void word_at(const char *words, uint64_t index, char *out, size_t out_bytes)
{
	for (; index > 0; index--)
		words = strchrnul(words, '|') + 1;
	snprintf(out, out_bytes, "%.*s", (int)(strchrnul(words, '|') - words), words);
}

static int text_set(char **target, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static bool is_address(const char *value)
{
	ph_address address;

	return value[0] == '\0' || ph_address_parse(value, &address) == 0;
}

static bool is_loopback(const char *value)
{
	ph_address address;

	if (value[0] == '\0')
		return true;
	if (ph_address_parse(value, &address) < 0)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&address.sin6_addr) ||
		(IN6_IS_ADDR_V4MAPPED(&address.sin6_addr) && address.sin6_addr.s6_addr[12] == 127);
}

static int list_add(struct config *config, const struct key *key, const char *value)
{
	size_t *count = count_at(config, key);

	if (*count == CONFIG_LIST_MAX)
		return -ENOSPC;
	text_at(config, key)[*count] = NULL;
	if (text_set(&text_at(config, key)[*count], value) < 0)
		return -ENOMEM;
	++*count;
	return 0;
}

/* 0, -ENOMEM, -ENOSPC (a list is full), or -EINVAL (not what the key takes). */
static int value_set(struct config *config, const struct key *key, const char *value)
{
	int index;

	switch (key->kind) {
	case KIND_ADDRESS:
		if (!is_address(value))
			return -EINVAL;
		return text_set(text_at(config, key), value);
	case KIND_LOOPBACK:
		if (!is_loopback(value))
			return -EINVAL;
		return text_set(text_at(config, key), value);
	case KIND_TEXT:
		if (!text_is_utf8(value, strlen(value)))
			return -EINVAL;
		return text_set(text_at(config, key), value);
	case KIND_LIST:
		if (value[0] == '\0' || !text_is_utf8(value, strlen(value)))
			return -EINVAL;
		return list_add(config, key, value);
	case KIND_NUMBER:
		return text_number(value, key->min, key->max, number_at(config, key)) ? 0 : -EINVAL;
	case KIND_BOOL:
		index = word_index("no|yes", value);
		if (index >= 0)
			*bool_at(config, key) = index == 1;
		return index < 0 ? -EINVAL : 0;
	case KIND_CHOICE:
		index = word_index(key->words, value);
		if (index >= 0)
			*number_at(config, key) = (uint64_t)index;
		return index < 0 ? -EINVAL : 0;
	}
	return -EINVAL;
}

/* What a key takes, for people: into out[bytes]. */
static void allowed(const struct key *key, char *out, size_t bytes)
{
	switch (key->kind) {
	case KIND_ADDRESS:
		snprintf(out, bytes, "a numeric host:port, like 127.0.0.1:3587 or [::]:0");
		return;
	case KIND_LOOPBACK:
		snprintf(out, bytes,
			"a numeric host:port of this machine alone, like 127.0.0.1:9100");
		return;
	case KIND_TEXT:
	case KIND_LIST:
		snprintf(out, bytes, "a text in UTF-8");
		return;
	case KIND_NUMBER:
		snprintf(out, bytes, "a number from %" PRIu64 " to %" PRIu64 " (%s)", key->min,
			key->max, key->unit);
		return;
	case KIND_BOOL:
		snprintf(out, bytes, "yes or no");
		return;
	case KIND_CHOICE:
		snprintf(out, bytes, "one of %s", key->words);
		return;
	}
}

static bool value_is_equal(
	const struct config *left, const struct config *right, const struct key *key)
{
	switch (key->kind) {
	case KIND_ADDRESS:
	case KIND_LOOPBACK:
	case KIND_TEXT:
		return strcmp(*text_at(left, key), *text_at(right, key)) == 0;
	case KIND_LIST:
		if (*count_at(left, key) != *count_at(right, key))
			return false;
		for (size_t i = 0; i < *count_at(left, key); i++)
			if (strcmp(text_at(left, key)[i], text_at(right, key)[i]) != 0)
				return false;
		return true;
	case KIND_BOOL:
		return *bool_at(left, key) == *bool_at(right, key);
	case KIND_NUMBER:
	case KIND_CHOICE:
		return *number_at(left, key) == *number_at(right, key);
	}
	return false;
}

/* ---- life ---------------------------------------------------------------------------------- */

int config_init(struct config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];
		int status = key->kind == KIND_LIST ? 0 : value_set(config, key, key->value);

		assert(status == 0 || status == -ENOMEM);
		if (status < 0) {
			config_fini(config);
			return status;
		}
	}
	return 0;
}

void config_fini(struct config *config)
{
	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];

		if (key->kind == KIND_TEXT || key->kind == KIND_ADDRESS ||
			key->kind == KIND_LOOPBACK)
			free(*text_at(config, key));
		if (key->kind == KIND_LIST)
			for (size_t at = 0; at < *count_at(config, key); at++)
				free(text_at(config, key)[at]);
	}
	memset(config, 0, sizeof(*config));
}

/* ---- reading ------------------------------------------------------------------------------- */

struct reading {
	struct config *config;
	const char *path;
	FILE *file;
	unsigned line; /* the one that inih is at */
	unsigned seen[KEYS_MAX]; /* where each key was given; 0: not yet */
	unsigned errors;
	unsigned wrong_line; /* the last line that was found wrong: said once */
	int status; /* -ENOMEM, -EIO */
	char *buffer; /* of getline */
	size_t buffer_bytes;
};

#define WRONG(reading, ...)                            \
	do {                                           \
		(reading)->errors++;                   \
		(reading)->wrong_line = reading->line; \
		say_error(__VA_ARGS__);                \
	} while (0)

/* What inih takes for fgets. A line longer than it holds, or one with a NUL, is said and left out. */
static char *line_next(char *out, int out_bytes, void *stream)
{
	struct reading *reading = stream;
	ssize_t bytes = getline(&reading->buffer, &reading->buffer_bytes, reading->file);

	if (bytes < 0) {
		if (ferror(reading->file))
			reading->status = -EIO;
		return NULL;
	}
	reading->line++;
	if (bytes > (ssize_t)CONFIG_LINE_BYTES_MAX || bytes + 1 > out_bytes) {
		WRONG(reading, "%s:%u: the line is longer than %u bytes", reading->path,
			reading->line, CONFIG_LINE_BYTES_MAX);
		bytes = 0;
	} else if (memchr(reading->buffer, '\0', (size_t)bytes) != NULL) {
		WRONG(reading, "%s:%u: the line holds a zero byte", reading->path, reading->line);
		bytes = 0;
	}
	memcpy(out, reading->buffer, (size_t)bytes);
	out[bytes] = '\0';
	return out;
}

static const struct key *key_find(const char *section, const char *name)
{
	for (size_t i = 0; i < COUNT(config_keys); i++)
		if (strcmp(config_keys[i].section, section) == 0 &&
			strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	return NULL;
}

static bool section_is_known(const char *section)
{
	for (size_t i = 0; i < COUNT(config_keys); i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	return false;
}

/* inih's handler: 0 is an error to it; it goes on, and so all are found. */
static int on_value(void *context, const char *section, const char *name, const char *value)
{
	struct reading *reading = context;
	const struct key *key = key_find(section, name);
	char takes[160];
	size_t index;
	int status;

	if (key == NULL) {
		if (section[0] == '\0')
			WRONG(reading, "%s:%u: \"%s\" stands before the first [section]",
				reading->path, reading->line, name);
		else if (!section_is_known(section))
			WRONG(reading, "%s:%u: there is no section [%s]", reading->path,
				reading->line, section);
		else
			WRONG(reading, "%s:%u: there is no key \"%s\" in [%s]", reading->path,
				reading->line, name, section);
		return 0;
	}
	index = (size_t)(key - config_keys);
	if (key->kind != KIND_LIST && reading->seen[index] != 0) {
		WRONG(reading, "%s:%u: \"%s\" is given twice, first in line %u", reading->path,
			reading->line, name, reading->seen[index]);
		return 0;
	}
	reading->seen[index] = reading->line;
	status = value_set(reading->config, key, value);
	if (status == -ENOMEM)
		reading->status = status;
	if (status == -ENOSPC)
		WRONG(reading, "%s:%u: \"%s\" is given more than %u times", reading->path,
			reading->line, name, CONFIG_LIST_MAX);
	if (status == -EINVAL) {
		allowed(key, takes, sizeof(takes));
		WRONG(reading, "%s:%u: %s = %s: takes %s", reading->path, reading->line, name,
			value, takes);
	}
	return status == 0;
}

int config_read(struct config *config, const char *path)
{
	struct reading reading = {.config = config, .path = path, .file = fopen(path, "re")};
	int bad_line;

	if (reading.file == NULL) {
		say_error("cannot read \"%s\": %s", path, strerror(errno));
		return -EIO;
	}
	ini_allow_multiline = false; /* an indented line is a line like the others */
	bad_line = ini_parse_stream(line_next, &reading, on_value, &reading);
	/* inih tells the first bad line only; was it none of ours, it has neither section nor key. */
	if (bad_line > 0 && reading.errors == 0 && reading.status == 0) {
		reading.errors++;
		say_error("%s:%d: neither \"[section]\" nor \"key = value\"", path, bad_line);
	}
	fclose(reading.file);
	free(reading.buffer);
	if (reading.status == -EIO)
		say_error("cannot read \"%s\": %s", path, strerror(EIO));
	if (reading.status == -ENOMEM)
		say_error("out of memory");
	if (reading.status < 0)
		return reading.status;
	return reading.errors > 0 ? -EINVAL : 0;
}

int config_override(struct config *config, const char *text)
{
	size_t name = strcspn(text, "=");
	char takes[160], where[96];
	int status;

	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];

		snprintf(where, sizeof(where), "%s.%s", key->section, key->name);
		if (text[name] == '\0' || strlen(where) != name || memcmp(where, text, name) != 0)
			continue;
		status = value_set(config, key, text + name + 1);
		config->overridden |= 1ull << i;
		if (status == -EINVAL) {
			allowed(key, takes, sizeof(takes));
			say_error("--set %s: takes %s", text, takes);
		}
		return status == -ENOSPC ? -EINVAL : status;
	}
	say_error("--set %s: not SECTION.KEY=VALUE with a key of \"peerhub hub --print-config\"",
		text);
	return -EINVAL;
}

size_t config_fixed_changes(const struct config *from, const struct config *to,
	void (*visit)(const char *key, void *context), void *context)
{
	char name[96];
	size_t count = 0;

	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];

		if (key->is_live || value_is_equal(from, to, key))
			continue;
		snprintf(name, sizeof(name), "%s.%s", key->section, key->name);
		visit(name, context);
		count++;
	}
	return count;
}

static void text_swap(char **left, char **right)
{
	char *kept = *left;

	*left = *right;
	*right = kept;
}

static void list_swap(struct config *left, struct config *right, const struct key *key)
{
	size_t count = *count_at(left, key);

	for (size_t i = 0; i < CONFIG_LIST_MAX; i++)
		text_swap(&text_at(left, key)[i], &text_at(right, key)[i]);
	*count_at(left, key) = *count_at(right, key);
	*count_at(right, key) = count;
}

void config_take_live(struct config *in_force, struct config *from)
{
	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];

		if (!key->is_live)
			continue;
		switch (key->kind) {
		case KIND_ADDRESS:
		case KIND_LOOPBACK:
		case KIND_TEXT:
			text_swap(text_at(in_force, key), text_at(from, key));
			break;
		case KIND_LIST:
			list_swap(in_force, from, key);
			break;
		case KIND_BOOL:
			*bool_at(in_force, key) = *bool_at(from, key);
			break;
		case KIND_NUMBER:
		case KIND_CHOICE:
			*number_at(in_force, key) = *number_at(from, key);
			break;
		}
	}
}

/* ---- printing ------------------------------------------------------------------------------ */

static void print_meaning(FILE *out, const char *meaning)
{
	const char *end;

	for (; (end = strchr(meaning, '\n')) != NULL; meaning = end + 1)
		fprintf(out, "# %.*s\n", (int)(end - meaning), meaning);
	fprintf(out, "# %s\n", meaning);
}

int config_print(FILE *out)
{
	const char *section = "";
	char takes[160];

	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];

		if (strcmp(section, key->section) != 0) {
			section = key->section;
			fprintf(out, "%s[%s]\n", i == 0 ? "" : "\n", section);
		}
		fputc('\n', out);
		print_meaning(out, key->meaning);
		allowed(key, takes, sizeof(takes));
		fprintf(out, "# Takes %s; %s.\n", takes,
			key->is_live ? "a reload takes it over" : "counts from the next start");
		fprintf(out, "%s%s = %s\n", key->value[0] == '\0' ? "; " : "", key->name,
			key->value);
	}
	return fflush(out) == 0 && !ferror(out) ? 0 : -EIO;
}

static void value_text(
	const struct config *config, const struct key *key, char *out, size_t out_bytes)
{
	size_t used = 0;

	out[0] = '\0';
	switch (key->kind) {
	case KIND_ADDRESS:
	case KIND_LOOPBACK:
	case KIND_TEXT:
		snprintf(out, out_bytes, "%s", *text_at(config, key));
		return;
	case KIND_LIST:
		for (size_t i = 0; i < *count_at(config, key) && used < out_bytes; i++)
			used += (size_t)snprintf(out + used, out_bytes - used, "%s%s",
				i > 0 ? ", " : "", text_at(config, key)[i]);
		return;
	case KIND_NUMBER:
		snprintf(out, out_bytes, "%" PRIu64, *number_at(config, key));
		return;
	case KIND_BOOL:
		snprintf(out, out_bytes, "%s", *bool_at(config, key) ? "yes" : "no");
		return;
	case KIND_CHOICE:
		word_at(key->words, *number_at(config, key), out, out_bytes);
		return;
	}
}

void config_each(const struct config *config,
	void (*visit)(const char *key, const char *value, const char *unit,
		enum config_origin origin, void *context),
	void *context)
{
	enum config_origin origin;

	char name[96], value[CONFIG_LIST_MAX * (CONFIG_LINE_BYTES_MAX + 2)];

	for (size_t i = 0; i < COUNT(config_keys); i++) {
		const struct key *key = &config_keys[i];

		snprintf(name, sizeof(name), "%s.%s", key->section, key->name);
		value_text(config, key, value, sizeof(value));
		origin = strcmp(value, key->value) == 0 ? CONFIG_DEFAULT : CONFIG_FILE;
		if (config->overridden & 1ull << i)
			origin = CONFIG_COMMAND_LINE;
		visit(name, value, key->unit, origin, context);
	}
}
