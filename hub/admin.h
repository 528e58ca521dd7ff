/*
 * admin.h: the administrator's socket of a running hub. JSON, one request and one answer a line:
 *
 *   {"call":"connections","arguments":{"where":"group=friends"}}
 *   {"ok":true,"result":{…}}        {"ok":false,"error":"not_found","text":"…"}
 *
 * A Unix socket, 0600 from its birth; who connects must be root or the hub's own user (SO_PEERCRED).
 * A thread of its own serves up to ADMIN_CLIENTS_MAX at once and never waits for one of them; what it asks
 * of the engine are calls that stop no shard. What only the main thread may do (reload, drain) is handed to
 * it through a descriptor. docs/admin.md has the calls.
 */
#ifndef PEERHUB_HUB_ADMIN_H
#define PEERHUB_HUB_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "peerhub.h"

#define ADMIN_CLIENTS_MAX 16u /* administrators at once; the next is told so */
#define ADMIN_REQUEST_BYTES_MAX 16384u /* of one line */
#define ADMIN_ANSWER_BYTES_MAX (64u << 20) /* 100,000 connections fit */

#define TEXT_OF_(number) #number
#define TEXT_OF(number) TEXT_OF_(number)
#define ADMIN_VERSION \
	TEXT_OF(PH_VERSION_MAJOR) "." TEXT_OF(PH_VERSION_MINOR) "." TEXT_OF(PH_VERSION_PATCH)

/* What a request may want of the main thread. */
enum admin_wish {
	ADMIN_RELOAD = 1,
	ADMIN_STOP = 2,
	ADMIN_DRAIN = 4, /* drain.h has been asked for something */
};

struct admin_options {
	const char *path;
	uint64_t requests_per_second;
	struct ph_hub *hub; /* valid until admin_stop */
	const char *identity; /* whose hub; borrowed until admin_stop */
	const char *config_path; /* "" for none */
	uint64_t begin_ms; /* when the hub began, loop_now_ms */
};

/* Listen and start the thread. 0, or a negative errno (said on stderr, with the path). A socket that nobody
 * listens on any more is replaced; one that is in use is -EADDRINUSE. */
int admin_start(const struct admin_options *options);
void admin_stop(void); /* ends the thread, removes the socket */
void admin_rate_set(uint64_t requests_per_second);

/* Readable when there are wishes; admin_wishes takes them (bits of enum admin_wish). Main thread. */
int admin_wish_fd(void);
unsigned admin_wishes(void);
/* The configuration in force, told by "limits": an array of {key, value, unit, set}. Main thread; takes the
 * reference. */
void admin_config_said(json_t *config);
json_t *admin_config(void); /* a new reference */
/* The outcome of the last reload, told by "status". Main thread; copied. */
void admin_reload_said(bool is_done, const char *text);

/*
 * Answer one request (admin_calls.c); any JSON. A new reference: an object with "ok"; NULL: no memory.
 */
json_t *admin_answer(const struct admin_options *options, json_t *request);
void admin_wish(enum admin_wish wish);
json_t *admin_reload_state(void);

#endif
