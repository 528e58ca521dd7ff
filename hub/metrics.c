/*
 * metrics.c: see metrics.h. Each request reads the counters anew; nothing is kept between two. Names and
 * types follow the OpenMetrics text format 1.0.0 and Prometheus' conventions: base units, _total behind
 * counters, labels only from fixed lists and the names of our groups.
 */
#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ends.h"
#include "http.h"
#include "log.h"

#define CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

static struct {
	struct http http;
	struct ph_hub *hub;
	atomic_bool is_ready;
} metrics;

/* ---- text ---------------------------------------------------------------------------------- */

struct text {
	char *at;
	size_t bytes, capacity;
	bool failed;
};

static void text_add(struct text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void text_add(struct text *text, const char *format, ...)
{
	va_list arguments;
	size_t room, capacity;
	char *grown;
	int bytes;

	for (int attempt = 0; attempt < 2 && !text->failed; attempt++) {
		room = text->capacity - text->bytes;
		va_start(arguments, format);
		bytes = vsnprintf(
			text->at != NULL ? text->at + text->bytes : NULL, room, format, arguments);
		va_end(arguments);
		if (bytes < 0) {
			text->failed = true;
		} else if ((size_t)bytes < room) {
			text->bytes += (size_t)bytes;
			return;
		} else {
			capacity = 2 * text->capacity + (size_t)bytes + 4096;
			grown = realloc(text->at, capacity);
			text->failed = grown == NULL;
			if (grown != NULL) {
				text->at = grown;
				text->capacity = capacity;
			}
		}
	}
}

static void family(struct text *text, const char *name, const char *type, const char *help)
{
	text_add(text, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static void gauge(struct text *text, const char *name, const char *help, double value)
{
	family(text, name, "gauge", help);
	text_add(text, "%s %.17g\n", name, value);
}

static void counter(struct text *text, const char *name, const char *help, uint64_t value)
{
	family(text, name, "counter", help);
	text_add(text, "%s_total %" PRIu64 "\n", name, value);
}

/* A label's value: \, " and line breaks are escaped. */
static void label_add(struct text *text, const char *value)
{
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			text_add(text, "\\%c", *value);
		else if (*value == '\n')
			text_add(text, "\\n");
		else
			text_add(text, "%c", *value);
	}
}

/* ---- connections by group ------------------------------------------------------------------ */

#define GROUPS_MAX 64u /* of one hub */

struct groups {
	char names[GROUPS_MAX][PH_NAME_BYTES_MAX];
	uint64_t counts[GROUPS_MAX];
	unsigned count;
	uint64_t queue_bytes;
};

static int group_visit(void *context, const struct ph_connection *connection)
{
	struct groups *groups = context;
	unsigned at = 0;

	groups->queue_bytes += connection->queue_bytes;
	while (at < groups->count && strcmp(groups->names[at], connection->group) != 0)
		at++;
	if (at == GROUPS_MAX)
		return 0;
	if (at == groups->count) {
		strcpy(groups->names[at], connection->group);
		groups->count++;
	}
	groups->counts[at]++;
	return 0;
}

static void add_groups(struct text *text)
{
	struct groups *groups = calloc(1, sizeof(*groups));

	if (groups == NULL) {
		text->failed = true;
		return;
	}
	(void)ph_connections(metrics.hub, NULL, group_visit, groups);
	family(text, "peerhub_group_connections", "gauge", "Open connections of a group.");
	for (unsigned i = 0; i < groups->count; i++) {
		text_add(text, "peerhub_group_connections{group=\"");
		label_add(text, groups->names[i]);
		text_add(text, "\"} %" PRIu64 "\n", groups->counts[i]);
	}
	gauge(text, "peerhub_send_queue_bytes",
		"Accepted for sending and not yet with the kernel, all connections.",
		(double)groups->queue_bytes);
	free(groups);
}

/* ---- everything ---------------------------------------------------------------------------- */

static void add_limits(struct text *text)
{
	struct ph_limit_state states[PH_LIMIT_COUNT];

	ph_limits_read(metrics.hub, states);
	family(text, "peerhub_refusals", "counter", "Refusals by the limit that refused.");
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		text_add(text, "peerhub_refusals_total{limit=\"%s\"} %" PRIu64 "\n",
			ph_limit_name((enum ph_limit)i), states[i].refusals);
	family(text, "peerhub_limit", "gauge", "Limits in force; +Inf where there is none.");
	for (int i = 0; i < PH_LIMIT_COUNT; i++) {
		bool is_none = states[i].value == 0 || states[i].value == PH_LIMIT_NONE;

		text_add(text, "peerhub_limit{limit=\"%s\"} ", ph_limit_name((enum ph_limit)i));
		if (is_none)
			text_add(text, "+Inf\n");
		else
			text_add(text, "%" PRIu64 "\n", states[i].value);
	}
	family(text, "peerhub_limit_use", "gauge",
		"What counts against a limit now; of limits by key, the key that has most.");
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		text_add(text, "peerhub_limit_use{limit=\"%s\"} %" PRIu64 "\n",
			ph_limit_name((enum ph_limit)i), states[i].use);
}

static void add_connections(struct text *text, const struct ph_statistics *stats)
{
	family(text, "peerhub_connections", "gauge", "Connections by state.");
	text_add(text,
		"peerhub_connections{state=\"open\"} %" PRIu64
		"\npeerhub_connections{state=\"opening_or_closing\"} %" PRIu64 "\n",
		stats->open, stats->handshakes);
	gauge(text, "peerhub_connection_slots", "Connections that there is room for.",
		(double)stats->slots);
	gauge(text, "peerhub_shards", "Threads that serve connections.", stats->shards);
	family(text, "peerhub_connections_begun", "counter", "Connections that were begun.");
	text_add(text,
		"peerhub_connections_begun_total{direction=\"in\"} %" PRIu64
		"\npeerhub_connections_begun_total{direction=\"out\"} %" PRIu64 "\n",
		stats->accepted, stats->dialled);
	counter(text, "peerhub_connections_opened", "Connections that became open.", stats->opened);
	family(text, "peerhub_closes", "counter", "Closes by who began them.");
	text_add(text,
		"peerhub_closes_total{by=\"local\"} %" PRIu64
		"\npeerhub_closes_total{by=\"remote\"} %" PRIu64 "\n",
		stats->closes_local, stats->closes_remote);
	counter(text, "peerhub_close_deadlines",
		"Graceful closes that became aborts at their time.", stats->closes_deadline);
	family(text, "peerhub_handshakes", "counter", "TLS handshakes by result.");
	text_add(text,
		"peerhub_handshakes_total{result=\"done\"} %" PRIu64
		"\npeerhub_handshakes_total{result=\"failed\"} %" PRIu64
		"\npeerhub_handshakes_total{result=\"timed_out\"} %" PRIu64 "\n",
		stats->handshakes_done, stats->handshakes_failed, stats->handshakes_timed_out);
	add_limits(text);
	family(text, "peerhub_refused_peers", "counter",
		"Peers that were refused, by who did not want them.");
	text_add(text,
		"peerhub_refused_peers_total{by=\"server_name\"} %" PRIu64
		"\npeerhub_refused_peers_total{by=\"certificate\"} %" PRIu64
		"\npeerhub_refused_peers_total{by=\"group\"} %" PRIu64
		"\npeerhub_refused_peers_total{by=\"peer\"} %" PRIu64 "\n",
		stats->hello_refused, stats->verify_refused, stats->refused_by_us,
		stats->refused_by_peer);
}

static void add_traffic(struct text *text, const struct ph_statistics *stats)
{
	family(text, "peerhub_messages", "counter", "Messages by direction.");
	text_add(text,
		"peerhub_messages_total{direction=\"in\"} %" PRIu64
		"\npeerhub_messages_total{direction=\"out\"} %" PRIu64 "\n",
		stats->messages_received, stats->messages_sent);
	family(text, "peerhub_traffic_bytes", "counter", "Payload bytes by direction.");
	text_add(text,
		"peerhub_traffic_bytes_total{direction=\"in\"} %" PRIu64
		"\npeerhub_traffic_bytes_total{direction=\"out\"} %" PRIu64 "\n",
		stats->bytes_received, stats->bytes_sent);
	counter(text, "peerhub_sends_would_block", "Sends that found a full queue.",
		stats->sends_would_block);
	counter(text, "peerhub_reads_paused", "Times that reading a connection paused.",
		stats->reads_paused);
	counter(text, "peerhub_protocol_errors", "Connections ended for what their peer sent.",
		stats->protocol_errors);
	counter(text, "peerhub_transport_errors", "Connections that the network ended.",
		stats->transport_errors);
}

static void add_engine(struct text *text, const struct ph_statistics *stats)
{
	counter(text, "peerhub_accept_pauses", "Times that accepting paused at a limit.",
		stats->accept_paused);
	counter(text, "peerhub_accept_errors", "Connections that could not be accepted.",
		stats->accept_errors);
	counter(text, "peerhub_receive_starved", "Receives that found no buffer.",
		stats->receive_starved);
	counter(text, "peerhub_completion_overflows", "Overflows of a completion queue.",
		stats->cq_overflows);
	counter(text, "peerhub_submission_full", "Times that a submission queue was full.",
		stats->sq_full);
	counter(text, "peerhub_mailbox_wakes", "System calls made to wake a shard.", stats->wakes);
	counter(text, "peerhub_mail_handled", "Mail that shards took.", stats->mail_handled);
	counter(text, "peerhub_shard_turns", "Turns of the shards' loops.", stats->turns);
	counter(text, "peerhub_no_memory", "Times that memory was refused.", stats->no_memory);
	gauge(text, "peerhub_shard_turn_seconds_max", "The longest turn of a shard so far.",
		(double)stats->loop_ns_max / 1e9);
	counter(text, "peerhub_log_lines_lost", "Log lines that could not be written.", log_lost());
	counter(text, "peerhub_log_ends_left_out", "Ended connections that were not logged.",
		log_left_out());
}

static void add_histogram(struct text *text, const char *name, const char *help,
	const struct ends_histogram *histogram)
{
	uint64_t count = 0;

	family(text, name, "histogram", help);
	for (size_t i = 0; i < ENDS_BOUNDS; i++) {
		count += histogram->counts[i];
		text_add(text, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, ends_bounds_s[i], count);
	}
	count += histogram->counts[ENDS_BOUNDS];
	text_add(text, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9g\n%s_count %" PRIu64 "\n",
		name, count, name, (double)histogram->sum_ns / 1e9, name, count);
}

static void add_ends(struct text *text)
{
	static const char *const names[ENDS_REASONS] = {
#define REASON(name, value, word) word,
		PH_REASONS(REASON)
#undef REASON
	};
	struct ends_figures figures;

	ends_figures(&figures);
	family(text, "peerhub_connection_ends", "counter", "Ended connections by reason.");
	for (size_t i = 0; i < ENDS_REASONS; i++)
		text_add(text, "peerhub_connection_ends_total{reason=\"%s\"} %" PRIu64 "\n",
			names[i], figures.by_reason[i]);
	add_histogram(text, "peerhub_opening_seconds",
		"From the first packet to open, of connections that have ended.", &figures.opening);
	add_histogram(text, "peerhub_closing_seconds",
		"From the first cause to the last event, of connections that were open.",
		&figures.closing);
}

static char *metrics_text(size_t *bytes)
{
	struct text text = {0};
	struct ph_statistics stats;

	ph_stats(metrics.hub, &stats);
	family(&text, "peerhub_build", "info", "The version.");
	text_add(&text, "peerhub_build_info{version=\"%u.%u.%u\"} 1\n", PH_VERSION_MAJOR,
		PH_VERSION_MINOR, PH_VERSION_PATCH);
	add_connections(&text, &stats);
	add_groups(&text);
	add_ends(&text);
	add_traffic(&text, &stats);
	add_engine(&text, &stats);
	text_add(&text, "# EOF\n");
	if (text.failed) {
		free(text.at);
		return NULL;
	}
	*bytes = text.bytes;
	return text.at;
}

/* ---- HTTP ---------------------------------------------------------------------------------- */

static enum MHD_Result answer_text(
	struct MHD_Connection *connection, unsigned status, const char *text)
{
	char *body = strdup(text);

	if (body == NULL)
		return MHD_NO;
	return http_answer(
		connection, status, "text/plain; charset=utf-8", NULL, body, strlen(body));
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **state)
{
	size_t bytes = 0;
	char *text;

	(void)context;
	(void)version;
	(void)upload;
	if (*state == NULL) {
		/* Answered before its end it would cost the connection. */
		*state = malloc(1);
		return *state != NULL ? MHD_YES : MHD_NO;
	}
	if (*upload_bytes > 0) {
		*upload_bytes = 0; /* nobody wants a body */
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (strcmp(url, "/healthz") == 0)
		return answer_text(connection, MHD_HTTP_OK, "alive\n");
	if (strcmp(url, "/readyz") == 0) {
		if (atomic_load(&metrics.is_ready))
			return answer_text(connection, MHD_HTTP_OK, "ready\n");
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "not ready\n");
	}
	if (strcmp(url, "/metrics") != 0)
		return answer_text(connection, MHD_HTTP_NOT_FOUND,
			"there are /metrics, /healthz and /readyz\n");
	text = metrics_text(&bytes);
	if (text == NULL)
		return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
	return http_answer(connection, MHD_HTTP_OK, CONTENT_TYPE, NULL, text, bytes);
}

int metrics_start(const char *listen, struct ph_hub *hub)
{
	metrics.hub = hub;
	return http_start(&metrics.http, "metrics", listen, on_request);
}

void metrics_stop(void)
{
	http_stop(&metrics.http);
}

void metrics_ready(bool is_ready)
{
	atomic_store(&metrics.is_ready, is_ready);
}
