/*
 * metrics.h: /metrics (OpenMetrics text), /healthz and /readyz over HTTP, on a thread of its own
 * (libmicrohttpd). In clear and without a password, so a loopback address is what it is for; docs/metrics.md
 * has every name.
 */
#ifndef PEERHUB_HUB_METRICS_H
#define PEERHUB_HUB_METRICS_H

#include <stdbool.h>

#include "peerhub.h"

/* `listen` is a numeric host:port; the hub is valid until metrics_stop. 0 or -EIO (said). */
int metrics_start(const char *listen, struct ph_hub *hub);
void metrics_stop(void);
/* What /readyz answers. Any thread. */
void metrics_ready(bool is_ready);

#endif
