/*
 * quota.h: the limits of the hub: from the configuration to the engine, at the start and with every reload; and
 * back, for administrators. docs/limits.md says what each one does.
 */
#ifndef PEERHUB_HUB_QUOTA_H
#define PEERHUB_HUB_QUOTA_H

#include <jansson.h>

#include "config.h"
#include "peerhub.h"

/* The engine's options: limits, slow consumers, duplicates. */
void quota_choose(const struct config *config, struct ph_options *options);
/* Of the configuration in force, to a running hub. */
void quota_reload(const struct config *config, struct ph_hub *hub);
/* The key of the configuration ("limits.connections") of a limit. */
const char *quota_key(enum ph_limit limit);
/* An array of {limit, key, value, use, keys, refusals, last, address, reason}; NULL: no memory. Any thread. */
json_t *quota_json(struct ph_hub *hub);

#endif
