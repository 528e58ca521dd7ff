/*
 * where.h: "group=friends identity=ab12 subnet=192.0.2.0/24 age>60s idle>5m": which connections are meant.
 * Conditions are separated by spaces and must all hold. A group or an identity may be given by the
 * beginning of its name when only one name among the open connections begins so. Any thread.
 */
#ifndef PEERHUB_HUB_WHERE_H
#define PEERHUB_HUB_WHERE_H

#include <stdbool.h>
#include <stddef.h>

#include "peerhub.h"

#define WHERE_WHY_BYTES 200u

struct where {
	struct ph_filter filter; /* points at the names below */
	char group[PH_NAME_BYTES_MAX], identity[PH_NAME_BYTES_MAX];
	bool is_everything; /* no condition at all */
};

/* 0, or -EINVAL: `why` tells the condition and what is allowed. */
int where_parse(const char *text, struct where *where, char why[WHERE_WHY_BYTES]);
/* Beginnings of names to whole ones, by the open connections. 0, or -EINVAL (more than one fits). A name that
 * none has stays as it is: nothing will match it. */
int where_complete(struct where *where, struct ph_hub *hub, char why[WHERE_WHY_BYTES]);

/* "1500ms", "60s", "5m", "2h", "1d", "60" (seconds). */
bool where_duration(const char *text, uint64_t *ms);

#endif
