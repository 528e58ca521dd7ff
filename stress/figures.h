/*
 * What a run found, in order: sections of named figures, written once as a table for people and
 * once as JSON for machines. Labels and names are static text; the rest is copied. Main thread.
 */
#ifndef PEERHUB_STRESS_FIGURES_H
#define PEERHUB_STRESS_FIGURES_H

#include "histogram.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define FIGURES_MAX 256u /* of one run; more would be a mistake of ours */

struct figures;

int figures_create(struct figures **figures); /* 0 or -ENOMEM */
void figures_destroy(struct figures *figures); /* NULL allowed */

/* name: the JSON member; label: the table's line. Those before the first section are the run's. */
void figures_section(struct figures *figures, const char *name, const char *label);
void figures_count(struct figures *figures, const char *name, const char *label, uint64_t value);
void figures_real(struct figures *figures, const char *name, const char *label, double value,
	const char *unit);
void figures_text(struct figures *figures, const char *name, const char *label, const char *value);
void figures_flag(struct figures *figures, const char *name, const char *label, bool value);
/* Nothing is added when nothing was recorded. */
void figures_latency(struct figures *figures, const char *name, const char *label,
	const struct histogram *histogram);

void figures_table(const struct figures *figures, FILE *out);
int figures_json(const struct figures *figures, const char *path); /* 0 or negative errno */

#endif
