/*
 * admin_calls.c: what an administrator may ask and tell (docs/admin.md). Each call takes its arguments from
 * JSON, checks them all, and answers; none changes anything when an argument is wrong. The administrator's
 * thread.
 */
#include "admin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin_change.h"
#include "confine.h"
#include "ends.h"
#include "log.h"
#include "loop.h"
#include "overview.h"
#include "quota.h"
#include "text.h"
#include "where.h"

#define LIMIT_DEFAULT 10000
#define LIMIT_MAX 100000
#define SPREAD_MS_MAX 86400000u

struct call {
	const struct admin_options *options;
	json_t *arguments; /* an object, or NULL */
	char text[256]; /* what is wrong */
};

/* ---- arguments ----------------------------------------------------------------------------- */

/* The text may quote what was asked, cut inside a character. NULL: no memory. */
static json_t *fail(const char *error, const char *text)
{
	char *clean = text_escape(text, strlen(text), false);
	json_t *answer = NULL;

	if (clean != NULL)
		answer = json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error, "text", clean);
	free(clean);
	return answer;
}

static json_t *done(json_t *result)
{
	if (result == NULL)
		return fail("no_memory", "out of memory");
	return json_pack("{s:b, s:o}", "ok", 1, "result", result);
}

static const char *argument_text(struct call *call, const char *name, const char *otherwise)
{
	json_t *value = json_object_get(call->arguments, name);

	if (value == NULL)
		return otherwise;
	if (json_is_string(value))
		return json_string_value(value);
	snprintf(call->text, sizeof(call->text), "\"%s\" must be a text", name);
	return NULL;
}

static bool argument_number(struct call *call, const char *name, uint64_t min, uint64_t max,
	uint64_t otherwise, uint64_t *number)
{
	json_t *value = json_object_get(call->arguments, name);

	*number = otherwise;
	if (value == NULL)
		return true;
	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*number = (uint64_t)json_integer_value(value);
		if (*number >= min && *number <= max)
			return true;
	}
	snprintf(call->text, sizeof(call->text),
		"\"%s\" must be a number from %" PRIu64 " to %" PRIu64, name, min, max);
	return false;
}

static bool argument_how(struct call *call, enum ph_how *how)
{
	const char *text = argument_text(call, "how", "graceful");

	if (text != NULL && strcmp(text, "graceful") == 0)
		*how = PH_GRACEFUL;
	else if (text != NULL && strcmp(text, "abort") == 0)
		*how = PH_ABORT;
	else {
		snprintf(call->text, sizeof(call->text), "\"how\" must be graceful or abort");
		return false;
	}
	return true;
}

/* An application's reason; 0 is the engine's own for a local close. */
static bool argument_reason(struct call *call, uint64_t *reason)
{
	if (!argument_number(call, "reason", 0, 2999, 0, reason))
		return false;
	if (*reason == 0 || *reason >= 1000)
		return true;
	snprintf(call->text, sizeof(call->text), "\"reason\" must be a number from 1000 to 2999");
	return false;
}

/* Ids are texts of decimal digits: JSON numbers do not hold 64 bits everywhere. */
static bool argument_id(struct call *call, uint64_t *id)
{
	const char *text = argument_text(call, "id", "");

	if (text != NULL && text_number(text, 1, UINT64_MAX, id))
		return true;
	snprintf(call->text, sizeof(call->text), "\"id\" must be the digits of a connection's id");
	return false;
}

static bool argument_where(struct call *call, struct where *where)
{
	const char *text = argument_text(call, "where", "");

	return text != NULL && where_parse(text, where, call->text) == 0 &&
		where_complete(where, call->options->hub, call->text) == 0;
}

/* ---- connections --------------------------------------------------------------------------- */

static json_t *id_json(uint64_t id)
{
	return json_sprintf("%" PRIu64, id);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		return 0;
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static json_int_t since_ms(uint64_t now, uint64_t then)
{
	return now > then ? (json_int_t)((now - then) / 1000000) : 0;
}

/* Peers' names are UTF-8 by the library's check; a text that is not becomes null. */
static json_t *text_json(const char *text)
{
	json_t *value = json_string(text);

	return value != NULL ? value : json_null();
}

static json_t *connection_json(const struct ph_connection *connection)
{
	char address[PH_ADDRESS_TEXT_BYTES];
	uint64_t now = now_ns();

	return json_pack("{s:o, s:o, s:o, s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "id",
		id_json(connection->id), "group", text_json(connection->group), "identity",
		text_json(connection->identity), "address",
		ph_address_text(&connection->peer_address, address), "kind",
		connection->kind == PH_KIND_DIRECT	  ? "direct"
			: connection->kind == PH_KIND_RAW ? "raw"
							  : "neighbor",
		"direction", connection->accepted ? "in" : "out", "shard", (int)connection->shard,
		"age_ms", since_ms(now, connection->time_open_ns), "idle_ms",
		since_ms(now, connection->time_active_ns), "bytes_sent",
		(json_int_t)connection->bytes_sent, "bytes_received",
		(json_int_t)connection->bytes_received, "queue_bytes",
		(json_int_t)connection->queue_bytes);
}

struct listing {
	json_t *list;
	uint64_t limit, matched;
	bool failed;
};

static int listing_visit(void *context, const struct ph_connection *connection)
{
	struct listing *listing = context;

	if (listing->matched++ >= listing->limit)
		return 0;
	listing->failed = json_array_append_new(listing->list, connection_json(connection)) < 0;
	return listing->failed;
}

static json_t *call_connections(struct call *call)
{
	struct listing listing = {0};
	struct where where;

	if (!argument_where(call, &where) ||
		!argument_number(call, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &listing.limit))
		return fail("bad_argument", call->text);
	listing.list = json_array();
	if (listing.list != NULL)
		(void)ph_connections(call->options->hub, &where.filter, listing_visit, &listing);
	if (listing.list == NULL || listing.failed) {
		json_decref(listing.list);
		return fail("no_memory", "out of memory");
	}
	return done(json_pack(
		"{s:I, s:o}", "matched", (json_int_t)listing.matched, "connections", listing.list));
}

/* ---- ended ones ---------------------------------------------------------------------------- */

static json_t *end_json(const struct end *end)
{
	static const char *const sides[] = {"", "local", "remote", "engine"};
	const struct ph_receipt *receipt = &end->receipt;
	char address[PH_ADDRESS_TEXT_BYTES];
	json_t *json = json_pack("{s:I, s:o, s:I, s:o, s:o, s:s, s:s, s:s, s:s, s:b, s:b, s:b}",
		"number", (json_int_t)end->number, "id", id_json(receipt->id), "time",
		(json_int_t)end->time_s, "group", text_json(end->group), "identity",
		text_json(end->identity), "address",
		ph_address_text(&receipt->peer_address, address), "direction",
		receipt->accepted ? "in" : "out", "how",
		receipt->how == PH_ABORT ? "abort" : "graceful", "side", sides[receipt->side & 3],
		"was_open", receipt->was_open, "handshake_done", receipt->handshake_done,
		"refused_by_peer", receipt->failure == PH_FAILURE_REFUSED);
	json_t *more = json_pack("{s:s, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"reason", ph_reason_name(receipt->reason), "reason_number",
		(json_int_t)receipt->reason, "peer_reason", (json_int_t)receipt->peer_reason,
		"text", text_json(receipt->text), "peer_text", text_json(receipt->peer_text),
		"error", (json_int_t)receipt->error, "lived_ms",
		since_ms(receipt->time_end_ns, receipt->time_begin_ns), "open_ms",
		receipt->was_open ? since_ms(receipt->time_end_ns, receipt->time_open_ns) : 0,
		"bytes_sent", (json_int_t)receipt->bytes_sent, "bytes_received",
		(json_int_t)receipt->bytes_received, "bytes_dropped",
		(json_int_t)receipt->bytes_dropped, "bytes_acknowledged",
		(json_int_t)receipt->bytes_acknowledged);

	if (json == NULL || more == NULL || json_object_update(json, more) < 0) {
		json_decref(json);
		json = NULL;
	}
	json_decref(more);
	return json;
}

struct ends_listing {
	json_t *list;
	uint64_t limit;
	const char *name; /* identity's beginning or host; NULL: all */
	uint64_t id; /* 0: any */
	bool failed;
};

static bool end_is_meant(const struct ends_listing *listing, const struct end *end)
{
	char address[PH_ADDRESS_TEXT_BYTES];
	size_t bytes;

	if (listing->id != 0 && end->receipt.id != listing->id)
		return false;
	if (listing->name == NULL)
		return true;
	bytes = strlen(listing->name);
	if (strncmp(end->identity, listing->name, bytes) == 0)
		return true;
	ph_address_text(&end->receipt.peer_address, address);
	/* "192.0.2.7" of "192.0.2.7:4711", "2001:db8::1" of "[2001:db8::1]:4711". */
	if (address[0] == '[')
		return strncmp(address + 1, listing->name, bytes) == 0 && address[1 + bytes] == ']';
	return strncmp(address, listing->name, bytes) == 0 &&
		(address[bytes] == ':' || address[bytes] == '\0');
}

static bool ends_visit(const struct end *end, void *context)
{
	struct ends_listing *listing = context;

	if (!end_is_meant(listing, end))
		return true;
	listing->failed = json_array_append_new(listing->list, end_json(end)) < 0;
	return !listing->failed && json_array_size(listing->list) < listing->limit;
}

/* The list, or NULL: no memory. */
static json_t *ends_list(struct ends_listing *listing)
{
	listing->list = json_array();
	if (listing->list != NULL && ends_each(ends_visit, listing) >= 0 && !listing->failed)
		return listing->list;
	json_decref(listing->list);
	return NULL;
}

static json_t *call_closed(struct call *call)
{
	struct ends_listing listing = {0};
	json_t *list;

	if (!argument_number(call, "last", 1, LIMIT_MAX, 100, &listing.limit))
		return fail("bad_argument", call->text);
	list = ends_list(&listing);
	if (list == NULL)
		return fail("no_memory", "out of memory");
	return done(
		json_pack("{s:I, s:o}", "total", (json_int_t)ends_total(), "connections", list));
}

/* ---- one of them --------------------------------------------------------------------------- */

struct search {
	uint64_t id;
	bool is_found;
	struct ph_connection connection;
};

static int search_visit(void *context, const struct ph_connection *connection)
{
	struct search *search = context;

	if (connection->id != search->id)
		return 0;
	search->connection = *connection;
	search->is_found = true;
	return 1;
}

static bool connection_find(const struct call *call, struct search *search)
{
	(void)ph_connections(call->options->hub, NULL, search_visit, search);
	return search->is_found;
}

static json_t *call_show(struct call *call)
{
	struct search search = {0};
	struct ends_listing listing = {.limit = 1};
	json_t *list, *end = NULL;

	if (!argument_id(call, &search.id))
		return fail("bad_argument", call->text);
	if (connection_find(call, &search))
		return done(json_pack("{s:s, s:o}", "state", "open", "connection",
			connection_json(&search.connection)));
	listing.id = search.id;
	list = ends_list(&listing);
	if (list == NULL)
		return fail("no_memory", "out of memory");
	if (json_array_size(list) > 0)
		end = json_incref(json_array_get(list, 0));
	json_decref(list);
	if (end == NULL)
		return fail("not_found", "no connection with this id is open or remembered");
	return done(json_pack("{s:s, s:o}", "state", "ended", "connection", end));
}

struct naming {
	const char *name;
	struct listing listing;
};

static int naming_visit(void *context, const struct ph_connection *connection)
{
	struct naming *naming = context;
	char address[PH_ADDRESS_TEXT_BYTES], host[PH_ADDRESS_TEXT_BYTES];
	size_t bytes = strlen(naming->name);

	ph_address_text(&connection->peer_address, address);
	snprintf(host, sizeof(host), address[0] == '[' ? "[%s]" : "%s", naming->name);
	if (strncmp(connection->identity, naming->name, bytes) != 0 &&
		!(strncmp(address, host, strlen(host)) == 0 && address[strlen(host)] == ':'))
		return 0;
	return listing_visit(&naming->listing, connection);
}

static json_t *call_explain(struct call *call)
{
	const char *what = argument_text(call, "what", "");
	struct naming naming = {.listing = {.limit = 100}};
	struct ends_listing ended = {.limit = 100};
	uint64_t id;
	json_t *list;

	if (what == NULL || what[0] == '\0')
		return fail("bad_argument", "\"what\" must be an id, an identity or an address");
	if (strlen(what) >= PH_ADDRESS_TEXT_BYTES - 3)
		return fail("bad_argument", "\"what\" is too long: give the beginning");
	if (text_number(what, 1, UINT64_MAX, &id)) {
		json_t *shown;

		json_object_set_new(call->arguments, "id", json_string(what));
		shown = call_show(call);
		if (shown == NULL || json_is_true(json_object_get(shown, "ok")))
			return shown;
		json_decref(shown); /* the digits may begin an identity, too */
	}
	naming.name = ended.name = what;
	naming.listing.list = json_array();
	if (naming.listing.list == NULL)
		return fail("no_memory", "out of memory");
	(void)ph_connections(call->options->hub, NULL, naming_visit, &naming);
	list = naming.listing.failed ? NULL : ends_list(&ended);
	if (list == NULL) {
		json_decref(naming.listing.list);
		return fail("no_memory", "out of memory");
	}
	return done(json_pack("{s:o, s:o}", "open", naming.listing.list, "ended", list));
}

/* ---- closing ------------------------------------------------------------------------------- */

static const char *close_text(struct call *call)
{
	const char *text = argument_text(call, "text", "closed by an administrator");

	if (text != NULL && strlen(text) > PH_TEXT_BYTES_MAX) {
		snprintf(call->text, sizeof(call->text), "\"text\" is at most %u bytes",
			PH_TEXT_BYTES_MAX);
		return NULL;
	}
	return text;
}

static json_t *call_close(struct call *call)
{
	struct search search = {0};
	const char *text = close_text(call);
	enum ph_how how = PH_GRACEFUL;
	uint64_t reason;
	int status;

	if (text == NULL || !argument_id(call, &search.id) || !argument_how(call, &how) ||
		!argument_reason(call, &reason))
		return fail("bad_argument", call->text);
	if (!connection_find(call, &search))
		return fail("not_found", "no open connection has this id");
	status = ph_close(search.id, search.connection.tag, how, (uint32_t)reason, text);
	if (status == -ENOENT)
		return fail("not_found", "it has just ended by itself");
	LOG(CONFIG_LOG_INFO, "admin_close", LOG_N("id", search.id),
		LOG_T("how", how == PH_ABORT ? "abort" : "graceful"), LOG_T("text", text));
	return done(json_pack("{s:s}", "close", status == 0 ? "begun" : "made an abort"));
}

static json_t *call_close_where(struct call *call)
{
	json_t *dry = json_object_get(call->arguments, "dry_run");
	enum ph_how how = PH_GRACEFUL;
	uint64_t reason, spread_ms;
	struct where where;
	int64_t count;

	if (!argument_where(call, &where) || !argument_how(call, &how) ||
		!argument_reason(call, &reason) ||
		!argument_number(call, "over_ms", 0, SPREAD_MS_MAX, 0, &spread_ms))
		return fail("bad_argument", call->text);
	if (dry != NULL && !json_is_boolean(dry))
		return fail("bad_argument", "\"dry_run\" must be true or false");
	if (where.is_everything && !json_is_true(json_object_get(call->arguments, "all")))
		return fail("bad_argument",
			"without a condition all connections are meant: say \"all\":true");
	count = ph_close_where(call->options->hub, &where.filter, how, (uint32_t)reason,
		json_is_true(dry), (uint32_t)spread_ms);
	if (count < 0)
		return fail("no_memory", "out of memory");
	if (!json_is_true(dry))
		LOG(CONFIG_LOG_INFO, "admin_close_where", LOG_N("count", (uint64_t)count),
			LOG_T("where", argument_text(call, "where", "")));
	return done(json_pack(
		"{s:I, s:b}", "matched", (json_int_t)count, "closed", !json_is_true(dry)));
}

/* ---- the hub ------------------------------------------------------------------------------- */

static json_t *counters_json(const struct ph_statistics *stats)
{
	json_t *json = json_object();
	bool failed = json == NULL;

#define COUNTER(name)      \
	failed = failed || \
		json_object_set_new(json, #name, json_integer((json_int_t)stats->name)) < 0;
	PH_COUNTERS(COUNTER)
#undef COUNTER
	if (!failed)
		return json;
	json_decref(json);
	return NULL;
}

static json_t *call_status(struct call *call)
{
	struct ph_statistics stats;

	ph_stats(call->options->hub, &stats);
	return done(json_pack("{s:s, s:i, s:o, s:o, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:s, s:o, "
			      "s:o, s:s, s:o, s:s}",
		"version", ADMIN_VERSION, "pid", (int)getpid(), "identity",
		text_json(call->options->identity), "config", text_json(call->options->config_path),
		"uptime_ms", (json_int_t)(loop_now_ms() - call->options->begin_ms), "shards",
		(int)stats.shards, "open", (json_int_t)stats.open, "live", (json_int_t)stats.live,
		"handshakes", (json_int_t)stats.handshakes, "slots", (json_int_t)stats.slots,
		"ends", (json_int_t)ends_total(), "log_level", log_level_name(log_level()),
		"reload", admin_reload_state(), "drain", admin_change_drain_json(), "features",
		ph_features(call->options->hub), "counters", counters_json(&stats), "confinement",
		confine_text()));
}

static json_t *call_overview(struct call *call)
{
	uint64_t since;

	if (!argument_number(call, "since", 0, INT64_MAX, 0, &since))
		return fail("bad_argument", call->text);
	return done(overview_json(since));
}

/* One page of the table, searched and sorted. */
static json_t *call_page(struct call *call)
{
	json_t *descending = json_object_get(call->arguments, "descending"), *page;
	struct overview_query query = {.search = argument_text(call, "search", ""),
		.descending = json_is_true(descending)};
	char why[OVERVIEW_WHY_BYTES];

	if (query.search == NULL)
		return fail("bad_argument", call->text);
	query.sort = argument_text(call, "sort", "id");
	if (query.sort == NULL ||
		!argument_number(call, "offset", 0, INT32_MAX, 0, &query.offset) ||
		!argument_number(call, "limit", 1, OVERVIEW_PAGE_MAX, 50, &query.limit))
		return fail("bad_argument", call->text);
	if (descending != NULL && !json_is_boolean(descending))
		return fail("bad_argument", "\"descending\" must be true or false");
	if (strlen(query.search) > OVERVIEW_SEARCH_BYTES_MAX)
		return fail("bad_argument", "\"search\" is at most 200 bytes");
	page = overview_page(&query, why);
	if (page == NULL && why[0] != '\0')
		return fail("bad_argument", why);
	return done(page);
}

static json_t *call_limits(struct call *call)
{
	struct ph_statistics stats;

	ph_stats(call->options->hub, &stats);
	return done(json_pack("{s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "keys",
		admin_config(), "limits", quota_json(call->options->hub), "use", "live",
		(json_int_t)stats.live, "slots", (json_int_t)stats.slots, "handshakes",
		(json_int_t)stats.handshakes, "accept_paused", (json_int_t)stats.accept_paused,
		"accept_errors", (json_int_t)stats.accept_errors, "sends_would_block",
		(json_int_t)stats.sends_would_block));
}

static json_t *call_reload(struct call *call)
{
	if (call->options->config_path[0] == '\0')
		return fail("no_config", "the hub was started without --config");
	admin_wish(ADMIN_RELOAD);
	return done(json_pack("{s:s}", "reload", "asked for: see status"));
}

static json_t *call_stop(struct call *call)
{
	(void)call;
	admin_wish(ADMIN_STOP);
	return done(json_pack("{s:s}", "stop", "asked for"));
}

static json_t *call_log_level(struct call *call)
{
	const char *word = argument_text(call, "level", "");
	int level = word != NULL ? log_level_of(word) : -1;

	if (level < 0)
		return fail("bad_argument", "\"level\" must be error, warning, info or debug");
	log_level_set((enum config_log_level)level);
	return done(json_pack("{s:s}", "log_level", word));
}

json_t *admin_answer(const struct admin_options *options, json_t *request)
{
	static const struct {
		const char *name;
		json_t *(*answer)(struct call *call);
	} calls[] = {
		{"status", call_status},
		{"connections", call_connections},
		{"show", call_show},
		{"explain", call_explain},
		{"closed", call_closed},
		{"close", call_close},
		{"close_where", call_close_where},
		{"overview", call_overview},
		{"page", call_page},
		{"limits", call_limits},
		{"reload", call_reload},
		{"stop", call_stop},
		{"log_level", call_log_level},
	};
	const char *name = json_string_value(json_object_get(request, "call"));
	json_t *arguments = json_object_get(request, "arguments"), *empty = NULL, *answer = NULL;
	struct call call = {.options = options};
	bool is_known = false;

	if (name == NULL || (arguments != NULL && !json_is_object(arguments)))
		return fail("bad_request", "a request is {\"call\":NAME, \"arguments\":{…}}");
	if (arguments == NULL)
		arguments = empty = json_object();
	call.arguments = arguments;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (strcmp(calls[i].name, name) == 0) {
			answer = calls[i].answer(&call);
			is_known = true;
		}
	if (!is_known)
		answer = admin_change(options, name, arguments, &is_known);
	json_decref(empty);
	if (!is_known)
		return fail("unknown_call", "there is no such call");
	return answer != NULL ? answer : fail("no_memory", "out of memory: ask what was done");
}
