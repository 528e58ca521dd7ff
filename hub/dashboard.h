/*
 * dashboard.h: a page for operators, served by the hub itself: what it does now and did in the last minutes, a table
 * of connections, why they ended, and, where it is allowed, a button that closes one. docs/dashboard.md.
 *
 * The page and its JSON are one origin on a loopback address. Requests must name a loopback host (DNS rebinding);
 * a close needs allow-close, the token, and an Origin that is the page's own. A thread of its own; no request
 * stops a shard.
 */
#ifndef PEERHUB_HUB_DASHBOARD_H
#define PEERHUB_HUB_DASHBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "admin.h"

#define DASHBOARD_BODY_BYTES_MAX 4096u /* of a request */
#define DASHBOARD_TOKEN_BYTES_MIN 16u
#define DASHBOARD_TOKEN_BYTES_MAX 200u

struct dashboard_options {
	const char *listen;
	const char *token_file; /* "": none */
	bool may_close; /* needs a token */
	bool is_closed; /* reading needs the token, too */
	uint64_t requests_per_second;
	struct admin_options
		admin; /* for the calls behind it; what it points to lasts until dashboard_stop */
};

/* 0, or -EIO (said). */
int dashboard_start(const struct dashboard_options *options);
void dashboard_stop(void);
void dashboard_rate_set(uint64_t requests_per_second); /* any thread */

#endif
