/*
 * admin_change.h: what an administrator may change of the hub as a whole: who is revoked, and whether it drains.
 * docs/admin.md has the calls. The administrator's thread.
 */
#ifndef PEERHUB_HUB_ADMIN_CHANGE_H
#define PEERHUB_HUB_ADMIN_CHANGE_H

#include "admin.h"

/* The whole answer, as admin_answer's; NULL: no such call here, or no memory (*is_known tells). */
json_t *admin_change(
	const struct admin_options *options, const char *call, json_t *arguments, bool *is_known);
/* What the configuration says of drains; the main thread, at each start and reload. */
void admin_change_configure(uint64_t grace_ms, uint64_t over_ms, uint64_t retry_after_ms);
/* A drain by these; the main thread, for SIGTERM. */
void admin_change_drain_for_stop(void);
json_t *admin_change_drain_json(void); /* where a drain is; for "status" */

#endif
