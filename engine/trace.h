/*
 * trace.h: where a tracer may look in (USDT, <sys/sdt.h>). A probe that nobody looks at is one no-op and a note in the
 * library; docs/monitoring.md shows how to look. With -DPEERHUB_PROBES=OFF, or without the header, nothing at all.
 */
#ifndef PEERHUB_ENGINE_TRACE_H
#define PEERHUB_ENGINE_TRACE_H

#if defined(PEERHUB_PROBES)
#include <sys/sdt.h>

/* peerhub:conn_state(id, from, to, shard, reason): enum conn_state; the reason is 0 until the end has one, and
 * again when the connection is free. */
#define TRACE_CONN_STATE(id, from, to, shard, reason) \
	DTRACE_PROBE5(peerhub, conn_state, id, from, to, shard, reason)
#else
#define TRACE_CONN_STATE(id, from, to, shard, reason) ((void)0)
#endif

#endif
