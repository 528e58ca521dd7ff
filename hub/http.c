/*
 * http.c: see http.h.
 */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "log.h"
#include "loop.h"
#include "peerhub.h"
#include "say.h"

/* ---- answers ------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
	const struct http_header *headers, struct MHD_Response *response)
{
	enum MHD_Result result =
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);

	if (result == MHD_YES)
		result = MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	for (; headers != NULL && headers->name != NULL && result == MHD_YES; headers++)
		result = MHD_add_response_header(response, headers->name, headers->value);
	if (result == MHD_YES)
		result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result http_answer(struct MHD_Connection *connection, unsigned status, const char *type,
	const struct http_header *headers, char *body, size_t bytes)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(bytes, body, MHD_RESPMEM_MUST_FREE);

	if (response != NULL)
		return answer(connection, status, type, headers, response);
	free(body);
	return MHD_NO;
}

enum MHD_Result http_answer_static(struct MHD_Connection *connection, unsigned status,
	const char *type, const struct http_header *headers, const char *body, size_t bytes)
{
	/* libmicrohttpd only reads it. */
	struct MHD_Response *response = MHD_create_response_from_buffer(
		bytes, (void *)(uintptr_t)body, MHD_RESPMEM_PERSISTENT);

	return response != NULL ? answer(connection, status, type, headers, response) : MHD_NO;
}

/* ---- places -------------------------------------------------------------------------------- */

/* Somebody wants to come in: who had his time makes room. The place itself becomes free with its close. */
static enum MHD_Result on_accept(
	void *context, const struct sockaddr *address, socklen_t address_bytes)
{
	struct http *http = context;
	uint64_t now_ms = loop_now_ms();
	bool has_room = false;

	(void)address;
	(void)address_bytes;
	for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		if (!http->places[i].is_used)
			has_room = true;
		else if (now_ms > http->places[i].since_ms + HTTP_REQUEST_MS)
			(void)shutdown(http->places[i].fd, SHUT_RDWR); /* gone already: good */
	}
	return has_room ? MHD_YES : MHD_NO;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **state,
	enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct http *http = context;
	uintptr_t place = (uintptr_t)*state; /* 1 + index */

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (place > 0)
			http->places[place - 1].is_used = false;
		return;
	}
	for (unsigned i = 0; info != NULL && i < HTTP_CONNECTIONS_MAX; i++)
		if (!http->places[i].is_used) {
			http->places[i].is_used = true;
			http->places[i].fd = info->connect_fd;
			http->places[i].since_ms = loop_now_ms();
			*state = (void *)(uintptr_t)(i + 1);
			return;
		}
}

/* A request has ended: its connection has time for another. */
static void on_request_end(void *context, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode code)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	uintptr_t place = info != NULL ? (uintptr_t)info->socket_context : 0;
	struct http *http = context;

	if (place > 0 && code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
		http->places[place - 1].since_ms = loop_now_ms();
	free(*state);
	*state = NULL;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void on_log(void *context, const char *format, va_list arguments)
{
	const struct http *http = context;
	char text[256];

	vsnprintf(text, sizeof(text), format, arguments);
	LOG(CONFIG_LOG_DEBUG, http->what, LOG_T("text", text));
}

/* The address in the family that the socket will have. */
static const struct sockaddr *socket_address(
	const ph_address *address, struct sockaddr_in *v4, unsigned *flags)
{
	if (!IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
		*flags |= MHD_USE_IPv6;
		return (const struct sockaddr *)address;
	}
	memset(v4, 0, sizeof(*v4));
	v4->sin_family = AF_INET;
	v4->sin_port = address->sin6_port;
	memcpy(&v4->sin_addr, &address->sin6_addr.s6_addr[12], 4);
	return (const struct sockaddr *)v4;
}

int http_start(struct http *http, const char *what, const char *listen,
	MHD_AccessHandlerCallback on_request)
{
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG;
	const struct sockaddr *address;
	struct sockaddr_in v4;
	ph_address parsed;

	assert(http->daemon == NULL);
	if (ph_address_parse(listen, &parsed) < 0) {
		say_error("%s: \"%s\" is not a numeric host:port", what, listen);
		return -EIO;
	}
	memset(http, 0, sizeof(*http));
	http->what = what;
	address = socket_address(&parsed, &v4, &flags);
	http->daemon = MHD_start_daemon(flags, ntohs(parsed.sin6_port), on_accept, http, on_request,
		NULL, MHD_OPTION_EXTERNAL_LOGGER, on_log, http, MHD_OPTION_SOCK_ADDR, address,
		MHD_OPTION_CONNECTION_LIMIT, 2 * HTTP_CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)16384, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
		MHD_OPTION_NOTIFY_COMPLETED, on_request_end, http, MHD_OPTION_END);
	if (http->daemon != NULL)
		return 0;
	say_error("cannot serve %s on \"%s\": %s", what, listen, strerror(errno));
	return -EIO;
}

void http_stop(struct http *http)
{
	if (http->daemon != NULL)
		MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
}
