/*
 * http.h: what /metrics and the dashboard share: a small HTTP server on a loopback address, on a thread of its own
 * (libmicrohttpd), with bounds on connections, memory and time.
 *
 * Who has not finished a request HTTP_REQUEST_MS after it began to connect, or after its last one, is let go when
 * somebody else comes: slow ones never keep all places.
 */
#ifndef PEERHUB_HUB_HTTP_H
#define PEERHUB_HUB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <microhttpd.h>

#define HTTP_CONNECTIONS_MAX 32u /* of one server at once; the next are closed */
#define HTTP_IDLE_S 10u
#define HTTP_REQUEST_MS 15000u

struct http {
	const char *what; /* for the log: "metrics" */
	struct MHD_Daemon *daemon; /* NULL: not there */
	struct {
		bool is_used;
		int fd;
		uint64_t since_ms;
	} places[HTTP_CONNECTIONS_MAX]; /* the server's thread alone */
};

struct http_header {
	const char *name, *value;
};

/* Serve at `listen`, a numeric host:port. What on_request leaves in its state is freed with free() when the request
 * ends. 0 or -EIO (said). `http` is zeroed the first time, and lives until http_stop. */
int http_start(struct http *http, const char *what, const char *listen,
	MHD_AccessHandlerCallback on_request);
void http_stop(struct http *http);

/* Answer with a body from malloc, which is taken over even on failure; `headers` end with a NULL name. */
enum MHD_Result http_answer(struct MHD_Connection *connection, unsigned status, const char *type,
	const struct http_header *headers, char *body, size_t bytes);
/* The same with a body that lasts. */
enum MHD_Result http_answer_static(struct MHD_Connection *connection, unsigned status,
	const char *type, const struct http_header *headers, const char *body, size_t bytes);

#endif
