/*
 * overview.h: a running hub at a glance, as JSON: what is open by group and shard, rates, reasons and latencies
 * of the last minutes, and a page of the table of connections, searched and sorted. The administrator's socket and
 * the dashboard answer from it.
 *
 * A thread of its own samples the counters every OVERVIEW_SAMPLE_MS. The table is a copy that serves everybody
 * for OVERVIEW_TABLE_MS, so many askers cost no more walks than one. No call stops a shard. Any thread.
 */
#ifndef PEERHUB_HUB_OVERVIEW_H
#define PEERHUB_HUB_OVERVIEW_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "peerhub.h"

#define OVERVIEW_SAMPLE_MS 2000u
#define OVERVIEW_SAMPLES 300u /* ten minutes */
#define OVERVIEW_TABLE_MS 1000u
#define OVERVIEW_ROWS_MAX 100000u /* of the table; more are counted, not listed */
#define OVERVIEW_PAGE_MAX 500u /* rows of one answer */
#define OVERVIEW_SEARCH_BYTES_MAX 200u
#define OVERVIEW_WHY_BYTES 256u

/* Samples begin with start; `hub` is valid until stop. 0 or a negative errno. */
int overview_start(struct ph_hub *hub);
void overview_stop(void);

/* What peers call themselves, by connection: peerhub_open_callback, and to be told of each end. */
void overview_on_open(void *user, uint64_t id, const char *group, const char *identity,
	const char *friendly_name);
void overview_on_end(uint64_t id);
void overview_forget(void); /* all of them; when nobody calls any more */

/* Everything but the table. Samples are numbered; those above `samples_since` are told. A new reference; NULL:
 * no memory. */
json_t *overview_json(uint64_t samples_since);

struct overview_query {
	const char *search; /* part of id, identity, name, group or address; "" for all */
	const char *sort; /* a column's name */
	bool descending;
	uint64_t offset, limit; /* limit 1..OVERVIEW_PAGE_MAX */
};
/* A new reference; NULL with `why` filled (there is no such column), or with why "" (no memory). */
json_t *overview_page(const struct overview_query *query, char why[OVERVIEW_WHY_BYTES]);

#endif
