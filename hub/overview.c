/*
 * overview.c: see overview.h. Three things with a lock each, never held together but table before names: the
 * samples, the table, the names. The engine's threads take the names' lock alone, and only for a look-up.
 */
#include "overview.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "ends.h"
#include "log.h"
#include "loop.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GROUPS_MAX 65u /* 64 of a hub, and one for all that might come beyond */
#define NAME_BYTES_MAX 256u /* of what a peer calls itself; the rest is cut off */
#define BUCKETS_MIN 1024u

static uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		return 0;
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- names --------------------------------------------------------------------------------- */

struct named {
	struct named *next;
	uint64_t id;
	char name[];
};

static struct {
	pthread_mutex_t lock;
	struct named **buckets;
	size_t bucket_count, count; /* a power of two, or 0 */
} names = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t bucket_of(uint64_t id, size_t bucket_count)
{
	return (size_t)(id * 0x9e3779b97f4a7c15u >> 32) & (bucket_count - 1);
}

/* Room for one more. The lock is held. */
static bool names_grow(void)
{
	size_t count = names.bucket_count == 0 ? BUCKETS_MIN : 2 * names.bucket_count;
	struct named **buckets, *next;

	if (names.count < names.bucket_count)
		return true;
	buckets = calloc(count, sizeof(*buckets));
	if (buckets == NULL)
		return names.bucket_count > 0; /* longer chains do, too */
	for (size_t i = 0; i < names.bucket_count; i++)
		for (struct named *at = names.buckets[i]; at != NULL; at = next) {
			size_t to = bucket_of(at->id, count);

			next = at->next;
			at->next = buckets[to];
			buckets[to] = at;
		}
	free(names.buckets);
	names.buckets = buckets;
	names.bucket_count = count;
	return true;
}

void overview_on_open(
	void *user, uint64_t id, const char *group, const char *identity, const char *friendly_name)
{
	size_t bytes = strlen(friendly_name), at;
	struct named *named;

	(void)user;
	(void)group;
	(void)identity;
	if (bytes == 0)
		return;
	if (bytes >= NAME_BYTES_MAX) {
		bytes = NAME_BYTES_MAX - 1;
		while (bytes > 0 && ((unsigned char)friendly_name[bytes] & 0xc0) == 0x80)
			bytes--; /* never inside a character */
	}
	named = malloc(sizeof(*named) + bytes + 1);
	if (named == NULL)
		return; /* then it has no name here */
	named->id = id;
	memcpy(named->name, friendly_name, bytes);
	named->name[bytes] = '\0';
	pthread_mutex_lock(&names.lock);
	if (names_grow()) {
		at = bucket_of(id, names.bucket_count);
		named->next = names.buckets[at];
		names.buckets[at] = named;
		names.count++;
		named = NULL;
	}
	pthread_mutex_unlock(&names.lock);
	free(named);
}

void overview_on_end(uint64_t id)
{
	struct named *found = NULL;

	pthread_mutex_lock(&names.lock);
	if (names.bucket_count > 0) {
		struct named **at = &names.buckets[bucket_of(id, names.bucket_count)];

		while (*at != NULL && (*at)->id != id)
			at = &(*at)->next;
		found = *at;
		if (found != NULL) {
			*at = found->next;
			names.count--;
		}
	}
	pthread_mutex_unlock(&names.lock);
	free(found);
}

/* Into out[NAME_BYTES_MAX]; "" when it has none. */
static void name_of(uint64_t id, char *out)
{
	out[0] = '\0';
	pthread_mutex_lock(&names.lock);
	if (names.bucket_count > 0)
		for (const struct named *at = names.buckets[bucket_of(id, names.bucket_count)];
			at != NULL; at = at->next)
			if (at->id == id) {
				strcpy(out, at->name);
				break;
			}
	pthread_mutex_unlock(&names.lock);
}

void overview_forget(void)
{
	struct named *next;

	for (size_t i = 0; i < names.bucket_count; i++)
		for (struct named *at = names.buckets[i]; at != NULL; at = next) {
			next = at->next;
			free(at);
		}
	free(names.buckets);
	names.buckets = NULL;
	names.bucket_count = names.count = 0;
}

/* ---- the table ----------------------------------------------------------------------------- */

struct row {
	uint64_t id, open_ns, active_ns, sent, received, queue, per_second;
	ph_address address;
	uint32_t shard;
	uint8_t kind, accepted;
	uint16_t group; /* index of table.groups */
	size_t identity, name; /* offsets in table.text */
};

struct part { /* of a group or a shard */
	uint64_t connections, queue, sent, received;
};

struct table {
	uint64_t time_ns; /* 0: none yet */
	struct row *rows; /* by id */
	size_t row_count, row_capacity;
	uint64_t total; /* those without a row, too */
	char *text;
	size_t text_bytes, text_capacity;
	char groups[GROUPS_MAX][PH_NAME_BYTES_MAX];
	struct part by_group[GROUPS_MAX], by_shard[PH_SHARDS_MAX];
	size_t group_count;
	uint32_t shard_count;
	bool failed;
};

static struct {
	pthread_mutex_t lock;
	struct ph_hub *hub;
	struct table now, before; /* `before` only for the rates */
} tables = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t text_keep(struct table *table, const char *text)
{
	size_t bytes = strlen(text) + 1, at = table->text_bytes, capacity;
	char *grown;

	if (table->text_capacity - at < bytes) {
		capacity = 2 * table->text_capacity + bytes + 65536;
		grown = realloc(table->text, capacity);
		if (grown == NULL) {
			table->failed = true;
			return 0;
		}
		table->text = grown;
		table->text_capacity = capacity;
	}
	memcpy(table->text + at, text, bytes);
	table->text_bytes = at + bytes;
	return at;
}

static size_t group_index(struct table *table, const char *group)
{
	for (size_t i = 0; i < table->group_count; i++)
		if (strcmp(table->groups[i], group) == 0)
			return i;
	if (table->group_count == GROUPS_MAX)
		return GROUPS_MAX - 1;
	snprintf(table->groups[table->group_count], PH_NAME_BYTES_MAX, "%s",
		table->group_count == GROUPS_MAX - 1 ? "(others)" : group);
	return table->group_count++;
}

static void part_add(struct part *part, const struct ph_connection *connection)
{
	part->connections++;
	part->queue += connection->queue_bytes;
	part->sent += connection->bytes_sent;
	part->received += connection->bytes_received;
}

static bool rows_grow(struct table *table)
{
	size_t capacity = 2 * table->row_capacity + 256;
	struct row *grown;

	if (table->row_count < table->row_capacity)
		return true;
	grown = realloc(table->rows, capacity * sizeof(*grown));
	if (grown == NULL)
		return false;
	table->rows = grown;
	table->row_capacity = capacity;
	return true;
}

static int row_visit(void *context, const struct ph_connection *connection)
{
	struct table *table = context;
	size_t group = group_index(table, connection->group);
	char name[NAME_BYTES_MAX];

	table->total++;
	part_add(&table->by_group[group], connection);
	if (connection->shard < PH_SHARDS_MAX)
		part_add(&table->by_shard[connection->shard], connection);
	if (table->row_count == OVERVIEW_ROWS_MAX)
		return 0;
	if (!rows_grow(table)) {
		table->failed = true;
		return 1;
	}
	name_of(connection->id, name);
	table->rows[table->row_count++] = (struct row){.id = connection->id,
		.open_ns = connection->time_open_ns,
		.active_ns = connection->time_active_ns,
		.sent = connection->bytes_sent,
		.received = connection->bytes_received,
		.queue = connection->queue_bytes,
		.address = connection->peer_address,
		.shard = connection->shard,
		.kind = (uint8_t)connection->kind,
		.accepted = (uint8_t)(connection->accepted != 0),
		.group = (uint16_t)group,
		.identity = text_keep(table, connection->identity),
		.name = text_keep(table, name)};
	return table->failed;
}

static int row_by_id(const void *left, const void *right)
{
	uint64_t a = ((const struct row *)left)->id, b = ((const struct row *)right)->id;

	return a < b ? -1 : a > b;
}

/* Bytes a second since the table before; a connection that was not in it: since it opened. */
static void rates_fill(struct table *table, const struct table *before)
{
	size_t old = 0;

	for (size_t i = 0; i < table->row_count; i++) {
		struct row *row = &table->rows[i];
		uint64_t bytes = row->sent + row->received, then = row->open_ns;

		while (old < before->row_count && before->rows[old].id < row->id)
			old++;
		if (old < before->row_count && before->rows[old].id == row->id) {
			bytes -= before->rows[old].sent + before->rows[old].received;
			then = before->time_ns;
		}
		if (table->time_ns > then)
			row->per_second =
				(uint64_t)((double)bytes * 1e9 / (double)(table->time_ns - then));
	}
}

static void table_drop(struct table *table)
{
	free(table->rows);
	free(table->text);
	memset(table, 0, sizeof(*table));
}

/* The table of now, or of a moment ago. NULL: no memory. The lock is held. */
static const struct table *table_get(void)
{
	struct ph_statistics stats;
	struct table swap;

	if (tables.now.time_ns != 0 &&
		now_ns() < tables.now.time_ns + OVERVIEW_TABLE_MS * 1000000ull)
		return &tables.now;
	swap = tables.before;
	tables.before = tables.now;
	tables.now = (struct table){.rows = swap.rows,
		.row_capacity = swap.row_capacity,
		.text = swap.text,
		.text_capacity = swap.text_capacity};
	tables.now.time_ns = now_ns();
	ph_stats(tables.hub, &stats);
	tables.now.shard_count = stats.shards;
	(void)ph_connections(tables.hub, NULL, row_visit, &tables.now);
	if (tables.now.failed) {
		table_drop(&tables.now);
		return NULL;
	}
	if (tables.now.row_count > 0)
		qsort(tables.now.rows, tables.now.row_count, sizeof(*tables.now.rows), row_by_id);
	rates_fill(&tables.now, &tables.before);
	return &tables.now;
}

/* ---- a page of it -------------------------------------------------------------------------- */

enum column {
	COLUMN_ID,
	COLUMN_IDENTITY,
	COLUMN_NAME,
	COLUMN_GROUP,
	COLUMN_ADDRESS,
	COLUMN_DIRECTION,
	COLUMN_KIND,
	COLUMN_SHARD,
	COLUMN_AGE,
	COLUMN_IDLE,
	COLUMN_SENT,
	COLUMN_RECEIVED,
	COLUMN_QUEUE,
	COLUMN_RATE,
	COLUMN_COUNT,
};

static const char *const column_names[COLUMN_COUNT] = {"id", "identity", "name", "group", "address",
	"direction", "kind", "shard", "age_ms", "idle_ms", "bytes_sent", "bytes_received",
	"queue_bytes", "bytes_per_second"};

static int column_of(const char *name)
{
	for (int i = 0; i < COLUMN_COUNT; i++)
		if (strcmp(column_names[i], name) == 0)
			return i;
	return -1;
}

/* qsort has no context of its own: the table's lock guards it. */
static struct {
	const struct table *table;
	int column;
	bool descending;
} ordering;

static int number_compare(uint64_t left, uint64_t right)
{
	return left < right ? -1 : left > right;
}

static int rows_compare(const struct row *a, const struct row *b)
{
	const struct table *table = ordering.table;

	switch (ordering.column) {
	case COLUMN_IDENTITY:
		return strcmp(table->text + a->identity, table->text + b->identity);
	case COLUMN_NAME:
		return strcmp(table->text + a->name, table->text + b->name);
	case COLUMN_GROUP:
		return strcmp(table->groups[a->group], table->groups[b->group]);
	case COLUMN_ADDRESS:
		return memcmp(
			&a->address.sin6_addr, &b->address.sin6_addr, sizeof(a->address.sin6_addr));
	case COLUMN_DIRECTION:
		return number_compare(b->accepted, a->accepted);
	case COLUMN_KIND:
		return number_compare(a->kind, b->kind);
	case COLUMN_SHARD:
		return number_compare(a->shard, b->shard);
	case COLUMN_AGE:
		return number_compare(b->open_ns, a->open_ns);
	case COLUMN_IDLE:
		return number_compare(b->active_ns, a->active_ns);
	case COLUMN_SENT:
		return number_compare(a->sent, b->sent);
	case COLUMN_RECEIVED:
		return number_compare(a->received, b->received);
	case COLUMN_QUEUE:
		return number_compare(a->queue, b->queue);
	case COLUMN_RATE:
		return number_compare(a->per_second, b->per_second);
	default:
		return 0;
	}
}

/* Equal ones by id, so that a page shows the same rows again. */
static int row_order(const void *left, const void *right)
{
	const struct row *a = *(const struct row *const *)left;
	const struct row *b = *(const struct row *const *)right;
	int order = rows_compare(a, b);

	if (order == 0 && ordering.column != COLUMN_ID)
		return number_compare(a->id, b->id);
	if (order == 0)
		order = number_compare(a->id, b->id);
	return ordering.descending ? -order : order;
}

static bool text_has(const char *text, const char *part)
{
	return strcasestr(text, part) != NULL;
}

static bool row_is_meant(const struct table *table, const struct row *row, const char *search)
{
	char address[PH_ADDRESS_TEXT_BYTES], id[24];

	if (search[0] == '\0')
		return true;
	snprintf(id, sizeof(id), "%" PRIu64, row->id);
	return strstr(id, search) != NULL || text_has(table->text + row->identity, search) ||
		text_has(table->text + row->name, search) ||
		text_has(table->groups[row->group], search) ||
		text_has(ph_address_text(&row->address, address), search);
}

static json_int_t since_ms(uint64_t now, uint64_t then)
{
	return now > then ? (json_int_t)((now - then) / 1000000) : 0;
}

/* A text that is not UTF-8 becomes null. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);

	return value != NULL ? value : json_null();
}

static json_t *row_json(const struct table *table, const struct row *row, uint64_t now)
{
	char address[PH_ADDRESS_TEXT_BYTES];

	return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I}",
		"id", json_sprintf("%" PRIu64, row->id), "identity",
		text_json(table->text + row->identity), "name", text_json(table->text + row->name),
		"group", text_json(table->groups[row->group]), "address",
		ph_address_text(&row->address, address), "direction", row->accepted ? "in" : "out",
		"kind",
		row->kind == PH_KIND_DIRECT	   ? "direct"
			: row->kind == PH_KIND_RAW ? "raw"
						   : "neighbor",
		"shard", (int)row->shard, "age_ms", since_ms(now, row->open_ns), "idle_ms",
		since_ms(now, row->active_ns), "bytes_sent", (json_int_t)row->sent,
		"bytes_received", (json_int_t)row->received, "queue_bytes", (json_int_t)row->queue,
		"bytes_per_second", (json_int_t)row->per_second);
}

/* The lock is held. */
static json_t *page_json(const struct table *table, const struct overview_query *query)
{
	const struct row **found = calloc(table->row_count + 1, sizeof(*found));
	json_t *rows = json_array(), *page;
	uint64_t now = now_ns();
	size_t matched = 0;
	bool failed = found == NULL || rows == NULL;

	for (size_t i = 0; i < table->row_count && !failed; i++)
		if (row_is_meant(table, &table->rows[i], query->search))
			found[matched++] = &table->rows[i];
	if (!failed)
		qsort(found, matched, sizeof(*found), row_order);
	for (size_t i = 0; i < query->limit && !failed && query->offset < matched - i; i++) {
		failed = json_array_append_new(
				 rows, row_json(table, found[query->offset + i], now)) < 0;
	}
	free(found);
	if (failed) {
		json_decref(rows);
		return NULL;
	}
	page = json_pack("{s:I, s:I, s:I, s:b, s:o}", "total", (json_int_t)table->total, "matched",
		(json_int_t)matched, "offset", (json_int_t)query->offset, "truncated",
		table->total > table->row_count, "connections", rows);
	return page;
}

json_t *overview_page(const struct overview_query *query, char why[OVERVIEW_WHY_BYTES])
{
	int column = column_of(query->sort);
	const struct table *table;
	json_t *page = NULL;

	why[0] = '\0';
	assert(query->limit >= 1 && query->limit <= OVERVIEW_PAGE_MAX);
	if (column < 0) {
		snprintf(why, OVERVIEW_WHY_BYTES, "cannot sort by that: there are");
		for (int i = 0; i < COLUMN_COUNT; i++)
			snprintf(why + strlen(why), OVERVIEW_WHY_BYTES - strlen(why), "%s %s",
				i > 0 ? "," : "", column_names[i]);
		return NULL;
	}
	pthread_mutex_lock(&tables.lock);
	table = table_get();
	if (table != NULL) {
		ordering.table = table;
		ordering.column = column;
		ordering.descending = query->descending;
		page = page_json(table, query);
	}
	pthread_mutex_unlock(&tables.lock);
	return page;
}

/* ---- samples ------------------------------------------------------------------------------- */

struct sample {
	int64_t time_ms; /* Unix */
	uint64_t at_ns, open, opening;
	uint64_t opened, ended, failed, sent, received, messages_sent, messages_received;
	struct ends_figures figures;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	bool is_running, is_ending;
	struct ph_hub *hub;
	struct sample *ring;
	uint64_t count; /* taken so far; the newest is number `count` */
} samples = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void sample_take(struct ph_hub *hub, struct sample *sample)
{
	struct ph_statistics stats;
	struct timespec now;

	ph_stats(hub, &stats);
	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		now = (struct timespec){0};
	*sample = (struct sample){.time_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
		.at_ns = now_ns(),
		.open = stats.open,
		.opening = stats.handshakes,
		.opened = stats.opened,
		.ended = ends_total(),
		.failed = stats.failed,
		.sent = stats.bytes_sent,
		.received = stats.bytes_received,
		.messages_sent = stats.messages_sent,
		.messages_received = stats.messages_received};
	ends_figures(&sample->figures);
}

static void *samples_main(void *argument)
{
	struct timespec next;
	struct sample sample;

	(void)argument;
	if (clock_gettime(CLOCK_MONOTONIC, &next) < 0)
		return NULL;
	pthread_mutex_lock(&samples.lock);
	while (!samples.is_ending) {
		pthread_mutex_unlock(&samples.lock);
		sample_take(samples.hub, &sample);
		pthread_mutex_lock(&samples.lock);
		samples.ring[samples.count++ % OVERVIEW_SAMPLES] = sample;
		next.tv_sec += OVERVIEW_SAMPLE_MS / 1000;
		while (!samples.is_ending &&
			pthread_cond_timedwait(&samples.wake, &samples.lock, &next) == 0)
			continue;
	}
	pthread_mutex_unlock(&samples.lock);
	return NULL;
}

int overview_start(struct ph_hub *hub)
{
	pthread_condattr_t clock;
	int status;

	assert(!samples.is_running);
	samples.ring = calloc(OVERVIEW_SAMPLES, sizeof(*samples.ring));
	if (samples.ring == NULL)
		return -ENOMEM;
	samples.hub = tables.hub = hub;
	samples.count = 0;
	samples.is_ending = false;
	status = -pthread_condattr_init(&clock);
	if (status == 0) {
		status = -pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
		if (status == 0)
			status = -pthread_cond_init(&samples.wake, &clock);
		pthread_condattr_destroy(&clock);
	}
	if (status < 0)
		goto undo_ring;
	status = -pthread_create(&samples.thread, NULL, samples_main, NULL);
	if (status < 0)
		goto undo_wake;
	samples.is_running = true;
	return 0;

undo_wake:
	pthread_cond_destroy(&samples.wake);
undo_ring:
	free(samples.ring);
	samples.ring = NULL;
	return status;
}

void overview_stop(void)
{
	if (!samples.is_running)
		return;
	pthread_mutex_lock(&samples.lock);
	samples.is_ending = true;
	pthread_cond_signal(&samples.wake);
	pthread_mutex_unlock(&samples.lock);
	pthread_join(samples.thread, NULL);
	pthread_cond_destroy(&samples.wake);
	free(samples.ring);
	samples.ring = NULL;
	samples.is_running = false;
	table_drop(&tables.now);
	table_drop(&tables.before);
}

/* ---- at a glance --------------------------------------------------------------------------- */

static double per_second(uint64_t newer, uint64_t older, uint64_t took_ns)
{
	if (newer < older || took_ns == 0)
		return 0;
	return (double)(newer - older) * 1e9 / (double)took_ns;
}

static json_t *rates_json(const struct sample *newer, const struct sample *older)
{
	uint64_t took = newer->at_ns - older->at_ns;

	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "opened",
		per_second(newer->opened, older->opened, took), "ended",
		per_second(newer->ended, older->ended, took), "failed",
		per_second(newer->failed, older->failed, took), "bytes_in",
		per_second(newer->received, older->received, took), "bytes_out",
		per_second(newer->sent, older->sent, took), "messages_in",
		per_second(newer->messages_received, older->messages_received, took),
		"messages_out", per_second(newer->messages_sent, older->messages_sent, took));
}

/* Reasons that ever were, with how often since the start and in the samples' time. */
static json_t *reasons_json(const struct sample *newer, const struct sample *oldest)
{
	static const char *const reason_names[ENDS_REASONS] = {
#define REASON(name, value, word) word,
		PH_REASONS(REASON)
#undef REASON
	};
	json_t *list = json_array();
	bool failed = list == NULL;

	for (size_t i = 0; i < ENDS_REASONS && !failed; i++) {
		uint64_t total = newer->figures.by_reason[i];

		if (total > 0)
			failed = json_array_append_new(list,
					 json_pack("{s:s, s:I, s:I}", "reason", reason_names[i],
						 "total", (json_int_t)total, "recent",
						 (json_int_t)(total -
							 oldest->figures.by_reason[i]))) < 0;
	}
	if (!failed)
		return list;
	json_decref(list);
	return NULL;
}

/* A quantile of a histogram in ms, between the bounds of its bucket. */
static double quantile_ms(const uint64_t counts[ENDS_BOUNDS + 1], uint64_t total, double quantile)
{
	double want = quantile * (double)total, below = 0;

	for (size_t i = 0; i < ENDS_BOUNDS; i++) {
		double from = i == 0 ? 0 : ends_bounds_s[i - 1], to = ends_bounds_s[i];

		if (counts[i] > 0 && below + (double)counts[i] >= want)
			return 1e3 * (from + (to - from) * (want - below) / (double)counts[i]);
		below += (double)counts[i];
	}
	return 1e3 * ends_bounds_s[ENDS_BOUNDS - 1];
}

/* Of the samples' time; of all time when nothing happened in it. */
static json_t *latency_json(const struct ends_histogram *newer, const struct ends_histogram *oldest)
{
	uint64_t counts[ENDS_BOUNDS + 1], recent = 0, total = 0;
	json_t *list = json_array(), *json;
	bool failed = list == NULL;

	for (size_t i = 0; i <= ENDS_BOUNDS; i++) {
		recent += newer->counts[i] - oldest->counts[i];
		total += newer->counts[i];
	}
	for (size_t i = 0; i <= ENDS_BOUNDS && !failed; i++) {
		counts[i] = newer->counts[i] - (recent > 0 ? oldest->counts[i] : 0);
		failed = json_array_append_new(list, json_integer((json_int_t)counts[i])) < 0;
	}
	if (failed) {
		json_decref(list);
		return NULL;
	}
	json = json_pack("{s:b, s:I, s:o}", "is_recent", recent > 0, "count",
		(json_int_t)(recent > 0 ? recent : total), "counts", list);
	if (json == NULL || total == 0)
		return json;
	total = recent > 0 ? recent : total;
	if (json_object_set_new(json, "p50_ms", json_real(quantile_ms(counts, total, 0.5))) == 0 &&
		json_object_set_new(json, "p90_ms", json_real(quantile_ms(counts, total, 0.9))) ==
			0 &&
		json_object_set_new(json, "p99_ms", json_real(quantile_ms(counts, total, 0.99))) ==
			0)
		return json;
	json_decref(json);
	return NULL;
}

static json_t *bounds_json(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ENDS_BOUNDS; i++)
		if (json_array_append_new(list, json_real(1e3 * ends_bounds_s[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* Numbers above `since`, the oldest first, each as the rates since the one before it. The lock is held. */
static json_t *samples_json(uint64_t since)
{
	uint64_t first = samples.count > OVERVIEW_SAMPLES ? samples.count - OVERVIEW_SAMPLES : 0;
	json_t *list = json_array();
	bool failed = list == NULL;

	/* The oldest one has nothing before it. */
	for (uint64_t i = first + 1; i < samples.count && !failed; i++) {
		const struct sample *now = &samples.ring[i % OVERVIEW_SAMPLES];
		const struct sample *before = &samples.ring[(i - 1) % OVERVIEW_SAMPLES];
		uint64_t took = now->at_ns - before->at_ns;

		if (i + 1 <= since)
			continue;
		failed = json_array_append_new(list,
				 json_pack("[I, I, f, f, f, f, f]", (json_int_t)now->time_ms,
					 (json_int_t)now->open,
					 per_second(now->opened, before->opened, took),
					 per_second(now->ended, before->ended, took),
					 per_second(now->failed, before->failed, took),
					 per_second(now->received, before->received, took),
					 per_second(now->sent, before->sent, took))) < 0;
	}
	if (!failed)
		return json_pack("{s:i, s:I, s:o}", "interval_ms", (int)OVERVIEW_SAMPLE_MS,
			"newest", (json_int_t)samples.count, "rows", list);
	json_decref(list);
	return NULL;
}

/* What the samples say. */
static json_t *history_json(uint64_t since)
{
	const struct sample *newer, *before, *oldest;
	json_t *json = NULL;

	pthread_mutex_lock(&samples.lock);
	if (samples.count > 0) {
		newer = &samples.ring[(samples.count - 1) % OVERVIEW_SAMPLES];
		before = samples.count > 1 ? &samples.ring[(samples.count - 2) % OVERVIEW_SAMPLES]
					   : newer;
		oldest = samples.count > OVERVIEW_SAMPLES
			? &samples.ring[samples.count % OVERVIEW_SAMPLES]
			: &samples.ring[0];
		json = json_pack("{s:I, s:o, s:o, s:o, s:{s:o, s:o, s:o}}", "recent_ms",
			(json_int_t)((newer->at_ns - oldest->at_ns) / 1000000), "rates",
			rates_json(newer, before), "reasons", reasons_json(newer, oldest),
			"samples", samples_json(since), "latencies", "bounds_ms", bounds_json(),
			"opening", latency_json(&newer->figures.opening, &oldest->figures.opening),
			"closing", latency_json(&newer->figures.closing, &oldest->figures.closing));
	} else {
		json = json_object(); /* the first one is being taken */
	}
	pthread_mutex_unlock(&samples.lock);
	return json;
}

static json_t *part_json(json_t *name, const char *key, const struct part *part)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I}", key, name, "connections",
		(json_int_t)part->connections, "queue_bytes", (json_int_t)part->queue, "bytes_sent",
		(json_int_t)part->sent, "bytes_received", (json_int_t)part->received);
}

/* Groups and shards. */
static json_t *parts_json(void)
{
	json_t *groups = json_array(), *shards = json_array();
	const struct table *table;
	bool failed = groups == NULL || shards == NULL;

	pthread_mutex_lock(&tables.lock);
	table = failed ? NULL : table_get();
	failed = table == NULL;
	for (size_t i = 0; !failed && i < table->group_count; i++)
		failed = json_array_append_new(groups,
				 part_json(text_json(table->groups[i]), "group",
					 &table->by_group[i])) < 0;
	for (uint32_t i = 0; !failed && i < table->shard_count && i < PH_SHARDS_MAX; i++)
		failed = json_array_append_new(shards,
				 part_json(json_integer(i), "shard", &table->by_shard[i])) < 0;
	pthread_mutex_unlock(&tables.lock);
	if (!failed)
		return json_pack("{s:o, s:o}", "groups", groups, "shards", shards);
	json_decref(groups);
	json_decref(shards);
	return NULL;
}

static json_t *health_json(const struct ph_statistics *stats)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "accept_paused",
		(json_int_t)stats->accept_paused, "accept_errors", (json_int_t)stats->accept_errors,
		"receive_starved", (json_int_t)stats->receive_starved, "sends_would_block",
		(json_int_t)stats->sends_would_block, "no_memory", (json_int_t)stats->no_memory,
		"cq_overflows", (json_int_t)stats->cq_overflows, "log_lines_lost",
		(json_int_t)log_lost(), "turn_us_max", (json_int_t)(stats->loop_ns_max / 1000));
}

json_t *overview_json(uint64_t samples_since)
{
	struct ph_statistics stats;
	json_t *json, *parts = parts_json(), *history = history_json(samples_since);

	ph_stats(tables.hub, &stats);
	json = json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "open", (json_int_t)stats.open,
		"opening", (json_int_t)stats.handshakes, "slots", (json_int_t)stats.slots, "opened",
		(json_int_t)stats.opened, "ended", (json_int_t)ends_total(), "health",
		health_json(&stats));
	if (json == NULL || parts == NULL || history == NULL ||
		json_object_update(json, parts) < 0 || json_object_update(json, history) < 0) {
		json_decref(json);
		json = NULL;
	}
	json_decref(parts);
	json_decref(history);
	return json;
}
