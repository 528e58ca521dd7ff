/*
 * dashboard.c: see dashboard.h. Every request is checked in one order: rate, host, path, method, token, origin,
 * body; only then is anything looked at. What a path means is one of the administrator's calls (admin_calls.c), so
 * that page, socket and terminal cannot tell different things.
 */
#include "dashboard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "assets.h"
#include "check.h"
#include "http.h"
#include "log.h"
#include "loop.h"
#include "say.h"
#include "text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define JSON_TYPE "application/json; charset=utf-8"

static struct {
	struct http http;
	struct dashboard_options options;
	_Atomic uint64_t requests_per_second;
	char token[DASHBOARD_TOKEN_BYTES_MAX + 1]; /* "": none; zero behind its end */
	/* The server's thread alone: */
	uint64_t budget_us; /* when the next request is due: a bucket of one second's requests */
	uint64_t refused_logged_ms;
} dashboard;

/* ---- answers ------------------------------------------------------------------------------- */

/* Nothing but the page's own files, no frames, no forms; nobody else may read or keep it. */
static const struct http_header safe_headers[] = {
	{"Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
		"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	{"X-Frame-Options", "DENY"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cache-Control", "no-store"},
	{NULL, NULL},
};

static enum MHD_Result answer_json(struct MHD_Connection *connection, unsigned status, json_t *json,
	const struct http_header *extra)
{
	struct http_header headers[COUNT(safe_headers) + 1];
	char *body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	size_t count = COUNT(safe_headers) - 1;

	json_decref(json);
	if (body == NULL)
		return MHD_NO; /* no memory: the connection is closed */
	memcpy(headers, safe_headers, sizeof(safe_headers));
	if (extra != NULL)
		headers[count++] = *extra;
	headers[count] = (struct http_header){NULL, NULL};
	return http_answer(connection, status, JSON_TYPE, headers, body, strlen(body));
}

static enum MHD_Result refuse_with(struct MHD_Connection *connection, unsigned status,
	const char *error, const char *text, const struct http_header *extra)
{
	return answer_json(connection, status,
		json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error, "text", text), extra);
}

static enum MHD_Result refuse(
	struct MHD_Connection *connection, unsigned status, const char *error, const char *text)
{
	return refuse_with(connection, status, error, text, NULL);
}

static enum MHD_Result refuse_token(struct MHD_Connection *connection)
{
	static const struct http_header challenge = {
		MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"peerhub\""};
	uint64_t now_ms = loop_now_ms();

	if (now_ms >= dashboard.refused_logged_ms + 1000) {
		dashboard.refused_logged_ms = now_ms;
		LOG(CONFIG_LOG_WARNING, "dashboard_refused",
			LOG_T("text", "no token, or a wrong one"));
	}
	return refuse_with(connection, MHD_HTTP_UNAUTHORIZED, "unauthorized",
		"this needs the token of the hub's dashboard.token-file", &challenge);
}

/* One of the administrator's calls; takes the arguments. */
static enum MHD_Result answer_call(
	struct MHD_Connection *connection, const char *call, json_t *arguments)
{
	json_t *request = json_pack("{s:s, s:o}", "call", call, "arguments", arguments);
	json_t *answer = request != NULL ? admin_answer(&dashboard.options.admin, request) : NULL;
	const char *error = json_string_value(json_object_get(answer, "error"));
	unsigned status = MHD_HTTP_OK;

	json_decref(request);
	if (error != NULL)
		status = strcmp(error, "not_found") == 0  ? MHD_HTTP_NOT_FOUND
			: strcmp(error, "no_memory") == 0 ? MHD_HTTP_SERVICE_UNAVAILABLE
							  : MHD_HTTP_BAD_REQUEST;
	return answer_json(connection, status, answer, NULL);
}

/* ---- who may ------------------------------------------------------------------------------- */

static const char *header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* "localhost", "127.0.0.1" or "[::1]", with or without a port. Another name that leads here is somebody's who
 * wants the operator's browser to speak for him. */
static bool host_is_ours(const char *host)
{
	char name[64];
	size_t bytes = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	uint64_t port;
	struct in_addr v4;

	if (bytes >= sizeof(name) || bytes > strlen(host))
		return false;
	if (host[bytes] != '\0' &&
		(host[bytes] != ':' || !text_number(host + bytes + 1, 1, 65535, &port)))
		return false;
	memcpy(name, host, bytes);
	name[bytes] = '\0';
	if (strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* Of a browser that says so: the page's own script, or the address typed by hand. */
static bool fetch_is_ours(struct MHD_Connection *connection)
{
	const char *site = header(connection, "Sec-Fetch-Site");

	return site == NULL || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
}

static bool origin_is_ours(struct MHD_Connection *connection, const char *host)
{
	const char *origin = header(connection, MHD_HTTP_HEADER_ORIGIN);

	return origin != NULL && strncmp(origin, "http://", 7) == 0 &&
		strcmp(origin + 7, host) == 0;
}

static bool token_is_right(struct MHD_Connection *connection)
{
	const char *given = header(connection, MHD_HTTP_HEADER_AUTHORIZATION);
	char padded[sizeof(dashboard.token)] = "";

	if (dashboard.token[0] == '\0' || given == NULL || strncasecmp(given, "Bearer ", 7) != 0 ||
		strlen(given + 7) >= sizeof(padded))
		return false;
	memcpy(padded, given + 7, strlen(given + 7));
	return CRYPTO_memcmp(padded, dashboard.token, sizeof(padded)) == 0;
}

static bool is_over_rate(void)
{
	uint64_t now_us = loop_now_ms() * 1000;

	if (dashboard.budget_us > now_us + 1000000)
		return true;
	if (dashboard.budget_us < now_us)
		dashboard.budget_us = now_us;
	dashboard.budget_us += 1000000 / atomic_load(&dashboard.requests_per_second);
	return false;
}

/* ---- paths --------------------------------------------------------------------------------- */

static void take_text(struct MHD_Connection *connection, json_t *arguments, const char *name)
{
	const char *value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
	json_t *text = value != NULL ? json_string(value) : NULL;

	/* null is no text to the call, and so an error: never may it look as if it had not been given. */
	if (value != NULL)
		(void)json_object_set_new(arguments, name, text != NULL ? text : json_null());
}

static void take_number(struct MHD_Connection *connection, json_t *arguments, const char *name)
{
	const char *value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
	uint64_t number;

	if (value == NULL)
		return;
	(void)json_object_set_new(arguments, name,
		text_number(value, 0, INT64_MAX, &number) ? json_integer((json_int_t)number)
							  : json_null());
}

/* What the page asks first, and what it may do. */
static enum MHD_Result get_hub(struct MHD_Connection *connection, json_t *arguments)
{
	const struct admin_options *admin = &dashboard.options.admin;

	json_decref(arguments);
	return answer_json(connection, MHD_HTTP_OK,
		json_pack("{s:b, s:{s:s, s:s, s:I, s:b, s:b}}", "ok", 1, "result", "version",
			ADMIN_VERSION, "identity", admin->identity, "uptime_ms",
			(json_int_t)(loop_now_ms() - admin->begin_ms), "may_close",
			dashboard.options.may_close, "needs_token", dashboard.options.is_closed),
		NULL);
}

static enum MHD_Result get_overview(struct MHD_Connection *connection, json_t *arguments)
{
	take_number(connection, arguments, "since");
	return answer_call(connection, "overview", arguments);
}

static enum MHD_Result get_connections(struct MHD_Connection *connection, json_t *arguments)
{
	const char *order = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "order");

	take_text(connection, arguments, "search");
	take_text(connection, arguments, "sort");
	take_number(connection, arguments, "offset");
	take_number(connection, arguments, "limit");
	if (order != NULL)
		(void)json_object_set_new(arguments, "descending",
			strcmp(order, "desc") == 0	    ? json_true()
				: strcmp(order, "asc") == 0 ? json_false()
							    : json_null());
	return answer_call(connection, "page", arguments);
}

static enum MHD_Result get_ended(struct MHD_Connection *connection, json_t *arguments)
{
	(void)json_object_set_new(arguments, "last", json_integer(100));
	return answer_call(connection, "closed", arguments);
}

static enum MHD_Result get_explain(struct MHD_Connection *connection, json_t *arguments)
{
	take_text(connection, arguments, "what");
	return answer_call(connection, "explain", arguments);
}

static const struct {
	const char *url;
	enum MHD_Result (*get)(struct MHD_Connection *connection, json_t *arguments);
} gets[] = {
	{"/api/hub", get_hub},
	{"/api/overview", get_overview},
	{"/api/connections", get_connections},
	{"/api/ended", get_ended},
	{"/api/explain", get_explain},
};

static const struct asset *asset_find(const char *url)
{
	if (strcmp(url, "/") == 0)
		url = "/dashboard.html";
	for (size_t i = 0; i < COUNT(assets); i++)
		if (strcmp(url + 1, assets[i].name) == 0)
			return &assets[i];
	return NULL;
}

/* ---- closing ------------------------------------------------------------------------------- */

/* {"id":"…", "how":"graceful"|"abort", "text":"…"}; nothing else may be in it. */
static enum MHD_Result post_close(
	struct MHD_Connection *connection, const char *body, size_t body_bytes)
{
	static const char *const allowed[] = {"id", "how", "text"};
	json_t *arguments = json_loadb(body, body_bytes, JSON_REJECT_DUPLICATES, NULL), *value;
	const char *key;

	if (!json_is_object(arguments)) {
		json_decref(arguments);
		return refuse(connection, MHD_HTTP_BAD_REQUEST, "bad_request",
			"a close is {\"id\":ID, \"how\":\"graceful\" or \"abort\", \"text\":TEXT}");
	}
	json_object_foreach(arguments, key, value)
	{
		bool is_allowed = false;

		for (size_t i = 0; i < COUNT(allowed); i++)
			is_allowed = is_allowed || strcmp(allowed[i], key) == 0;
		if (is_allowed)
			continue;
		json_decref(arguments);
		return refuse(connection, MHD_HTTP_BAD_REQUEST, "bad_request",
			"a close has id, how and text");
	}
	return answer_call(connection, "close", arguments);
}

/* ---- requests ------------------------------------------------------------------------------ */

/* From its head on: libmicrohttpd keeps a connection only for requests that are not answered before their end. */
struct request {
	bool is_close; /* then it has a body */
	size_t bytes;
	char body[];
};

static enum MHD_Result request_begin(bool is_close, void **state)
{
	struct request *request =
		malloc(sizeof(*request) + (is_close ? DASHBOARD_BODY_BYTES_MAX : 0));

	if (request == NULL)
		return MHD_NO;
	request->is_close = is_close;
	request->bytes = 0;
	*state = request;
	return MHD_YES;
}

/* The head of a close: may it go on? Then *state is there, else it is answered. */
static enum MHD_Result close_begin(
	struct MHD_Connection *connection, const char *host, void **state)
{
	const char *length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
	const char *type = header(connection, MHD_HTTP_HEADER_CONTENT_TYPE);
	uint64_t bytes;

	if (!dashboard.options.may_close)
		return refuse(connection, MHD_HTTP_FORBIDDEN, "forbidden",
			"this hub's dashboard only shows: dashboard.allow-close is no");
	if (!origin_is_ours(connection, host))
		return refuse(connection, MHD_HTTP_FORBIDDEN, "forbidden",
			"a close comes from the dashboard's own page");
	if (!token_is_right(connection))
		return refuse_token(connection);
	if (length == NULL)
		return refuse(connection, MHD_HTTP_LENGTH_REQUIRED, "bad_request",
			"the length must be said first");
	if (!text_number(length, 0, DASHBOARD_BODY_BYTES_MAX, &bytes))
		return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
			"a request is at most 4096 bytes");
	if (type == NULL || strncmp(type, "application/json", 16) != 0)
		return refuse(connection, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "bad_request",
			"a close is application/json");
	return request_begin(true, state);
}

static enum MHD_Result close_go_on(struct MHD_Connection *connection, struct request *request,
	const char *upload, size_t *upload_bytes)
{
	if (*upload_bytes == 0)
		return post_close(connection, request->body, request->bytes);
	if (*upload_bytes > DASHBOARD_BODY_BYTES_MAX - request->bytes)
		return MHD_NO; /* more than it said */
	memcpy(request->body + request->bytes, upload, *upload_bytes);
	request->bytes += *upload_bytes;
	*upload_bytes = 0;
	return MHD_YES;
}

static enum MHD_Result refuse_method(struct MHD_Connection *connection, const char *allowed)
{
	const struct http_header allow = {MHD_HTTP_HEADER_ALLOW, allowed};

	return refuse_with(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "bad_method",
		"not with this method", &allow);
}

static enum MHD_Result on_get(struct MHD_Connection *connection, const char *url)
{
	const struct asset *asset = asset_find(url);
	json_t *arguments;

	if (asset != NULL)
		return http_answer_static(connection, MHD_HTTP_OK, asset->type, safe_headers,
			asset->bytes, asset->byte_count);
	for (size_t i = 0; i < COUNT(gets); i++) {
		if (strcmp(url, gets[i].url) != 0)
			continue;
		/* What the page may do is told to everybody: else it could not ask for the token. */
		if (dashboard.options.is_closed && gets[i].get != get_hub &&
			!token_is_right(connection))
			return refuse_token(connection);
		arguments = json_object();
		return arguments != NULL ? gets[i].get(connection, arguments) : MHD_NO;
	}
	return refuse(connection, MHD_HTTP_NOT_FOUND, "not_found", "there is nothing at this path");
}

static bool url_is_known(const char *url)
{
	for (size_t i = 0; i < COUNT(gets); i++)
		if (strcmp(url, gets[i].url) == 0)
			return true;
	return asset_find(url) != NULL;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **state)
{
	static const struct http_header later = {MHD_HTTP_HEADER_RETRY_AFTER, "1"};
	const char *host = header(connection, MHD_HTTP_HEADER_HOST);
	bool is_close = strcmp(url, "/api/close") == 0, is_read;
	struct request *request = *state;

	(void)context;
	(void)version;
	if (request != NULL && request->is_close)
		return close_go_on(connection, request, upload, upload_bytes);
	if (request != NULL) /* nobody wants a body */
		return *upload_bytes > 0 ? MHD_NO : on_get(connection, url);
	if (is_over_rate())
		return refuse_with(connection, MHD_HTTP_TOO_MANY_REQUESTS, "too_many",
			"too many requests in this second", &later);
	if (host == NULL || !host_is_ours(host))
		return refuse(connection, MHD_HTTP_FORBIDDEN, "forbidden",
			"only a loopback address or localhost is a name of this page");
	if (!fetch_is_ours(connection))
		return refuse(connection, MHD_HTTP_FORBIDDEN, "forbidden",
			"another site's page may not ask");
	is_read = strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
		strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	if (is_close && strcmp(method, MHD_HTTP_METHOD_POST) != 0)
		return refuse_method(connection, "POST");
	if (is_close)
		return close_begin(connection, host, state);
	if (!is_read && url_is_known(url))
		return refuse_method(connection, "GET, HEAD");
	return request_begin(false, state);
}

/* ---- life ---------------------------------------------------------------------------------- */

/* 0, or -EIO (said): only the hub's own user may be able to read it, or its secret is none. */
static int token_read(const char *path)
{
	char text[DASHBOARD_TOKEN_BYTES_MAX + 3];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *wrong = NULL;
	struct stat info;
	ssize_t bytes = -1;

	memset(dashboard.token, 0, sizeof(dashboard.token));
	if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
		bytes = read(fd, text, sizeof(text));
	else if (fd >= 0)
		errno = EINVAL;
	if (bytes < 0)
		wrong = strerror(errno);
	else if ((info.st_mode & 077) != 0)
		wrong = "others may read or write it: chmod 600";
	if (fd >= 0)
		close(fd);
	while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == '\r'))
		bytes--;
	if (wrong == NULL &&
		(bytes < (ssize_t)DASHBOARD_TOKEN_BYTES_MIN ||
			bytes > (ssize_t)DASHBOARD_TOKEN_BYTES_MAX))
		wrong = "a token has 16 to 200 characters";
	for (ssize_t i = 0; i < bytes && wrong == NULL; i++)
		if (text[i] <= ' ' || text[i] > '~')
			wrong = "a token is printable ASCII in one line";
	if (wrong == NULL) {
		memcpy(dashboard.token, text, (size_t)bytes);
		OPENSSL_cleanse(text, sizeof(text));
		return 0;
	}
	OPENSSL_cleanse(text, sizeof(text));
	say_error("dashboard.token-file \"%s\": %s", path, wrong);
	return -EIO;
}

int dashboard_start(const struct dashboard_options *options)
{
	dashboard.options = *options;
	dashboard_rate_set(options->requests_per_second);
	dashboard.budget_us = dashboard.refused_logged_ms = 0;
	if (options->token_file[0] == '\0' && (options->may_close || options->is_closed)) {
		say_error("dashboard.%s needs dashboard.token-file",
			options->may_close ? "allow-close" : "token-to-read");
		return -EIO;
	}
	if (options->token_file[0] != '\0' && token_read(options->token_file) < 0)
		return -EIO;
	return http_start(&dashboard.http, "dashboard", options->listen, on_request);
}

void dashboard_stop(void)
{
	http_stop(&dashboard.http);
	OPENSSL_cleanse(dashboard.token, sizeof(dashboard.token));
}

void dashboard_rate_set(uint64_t requests_per_second)
{
	assert(requests_per_second > 0);
	atomic_store(&dashboard.requests_per_second, requests_per_second);
}
