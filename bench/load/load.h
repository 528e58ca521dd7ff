/*
 * The load generator's one state: a thread, an epoll set, its connections and what it counted.
 *
 *   conn.c   one connection: connect, TLS, greeting, frames out and in, end
 *   flow.c   what is sent when: the modes, the stages opening, warm-up, measuring, draining
 *   curve.c  all of that for CURVE, through libzmq
 *
 * It shares no code with the engine, so that a fault of the engine cannot hide itself here.
 */
#ifndef PEERHUB_LOAD_LOAD_H
#define PEERHUB_LOAD_LOAD_H

#include "bench/load/options.h"
#include "bench/load/server.h"
#include "bench/load/wire.h"
#include "stress/histogram.h"

#include <openssl/ssl.h>

enum conn_state {
	CONN_FREE,
	CONN_CONNECTING,
	CONN_BANNER, /* the server speaks first, in clear text */
	CONN_TLS, /* handshake */
	CONN_HELLO, /* greeting of the framing */
	CONN_OPEN,
	CONN_ENDING, /* we have said goodbye and wait for the server's end */
};

struct conn {
	enum conn_state state;
	int fd;
	uint32_t index;
	uint32_t generation; /* of the index: an event of an earlier socket is not ours */
	SSL *ssl;
	SSL_SESSION *session; /* to resume with: one use; NULL: none */
	uint8_t *pending; /* what the kernel did not take yet; NULL when nothing waits */
	size_t pending_at, pending_bytes, pending_room;
	uint8_t *hello; /* banner or greeting so far; freed when open */
	uint32_t hello_bytes;
	const struct wire_frame *out, *in;
	uint32_t in_at; /* within the frame that is being received */
	uint32_t stray_bytes;
	uint8_t stray[WIRE_STRAY_MAX];
	uint64_t base; /* position in the stream where this socket's payload begins */
	uint64_t sent, received; /* operations of this socket */
	uint64_t *times; /* when the last in_flight operations were sent; a ring */
	uint64_t begin_ns; /* connect modes: when this operation began, or was meant to */
};

struct load {
	struct load_options options;
	int epoll_fd;
	SSL_CTX *tls;
	struct conn *conns;
	uint64_t *times; /* of all connections */
	struct wire_frame
		*frames; /* own ones: out and in for each connection; or one pair for all */
	uint32_t opened, opening, lost;
	uint64_t errors, bytes_checked, operations, connects, resumed;
	uint64_t outstanding; /* operations sent and not back */
	struct histogram latency;
	bool measuring; /* operations that end now count */
	bool stopping; /* nothing new is sent */
	bool failed; /* the load cannot go on */
};

extern struct load load;

uint64_t now_ns(void);

/* Count an error and say the first few. */
void load_error(const struct conn *conn, const char *what);

/* ---- conn.c ---------------------------------------------------------------------------- */

int conn_tls_init(void); /* the context, when there is TLS; 0 or -1, the message is written */
void conn_start(struct conn *conn); /* from CONN_FREE; a failure is an error counted */
/* Send `count` operations; the times of all are `time_ns`. */
void conn_emit(struct conn *conn, uint32_t count, uint64_t time_ns);
void conn_finish(struct conn *conn); /* goodbye, then wait for the server's */
void conn_drop(struct conn *conn); /* close at once; not reported */
/* Wait up to timeout_ns and serve what came. */
void conn_poll(uint64_t timeout_ns);

/* ---- flow.c: called by conn.c ------------------------------------------------------------ */

void flow_on_open(struct conn *conn);
void flow_on_received(struct conn *conn, uint32_t count, uint64_t time_ns);
void flow_on_ended(struct conn *conn); /* after conn_finish: the server has ended, too */
void flow_on_lost(struct conn *conn); /* an error, already counted; it is free */

/* ---- flow.c: the whole run --------------------------------------------------------------- */

struct load_result {
	double seconds; /* really measured */
	double opening_seconds;
	struct server_cpu server_begin, server_end;
	struct server_memory memory_begin, memory_part, memory_end;
	uint32_t memory_part_count; /* connections at memory_part */
	uint64_t client_cpu_ns;
};

int flow_run(struct load_result *result); /* 0, or -1: it could not run; the message is written */

/* ---- curve.c: the same for zmq with CURVE, echoes in a closed loop ----------------------- */

int curve_run(struct load_result *result);

#endif
