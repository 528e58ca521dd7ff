/* Table and JSON of a run; see figures.h. */
#include "figures.h"

#include "report.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct figure {
	enum {
		FIGURE_SECTION,
		FIGURE_COUNT,
		FIGURE_REAL,
		FIGURE_TEXT,
		FIGURE_FLAG,
		FIGURE_LATENCY
	} kind;
	const char *name, *label, *unit;
	uint64_t count;
	double real;
	char *text;
	uint64_t p50, p99, max;
};

struct figures {
	uint32_t count;
	struct figure items[FIGURES_MAX];
};

int figures_create(struct figures **figures)
{
	*figures = calloc(1, sizeof(**figures));
	return *figures != NULL ? 0 : -ENOMEM;
}

void figures_destroy(struct figures *figures)
{
	if (figures == NULL)
		return;
	for (uint32_t i = 0; i < figures->count; i++)
		free(figures->items[i].text);
	free(figures);
}

static struct figure *figure_add(
	struct figures *figures, int kind, const char *name, const char *label)
{
	struct figure *figure = &figures->items[figures->count++];

	assert(figures->count <= FIGURES_MAX);
	*figure = (struct figure){.name = name, .label = label};
	figure->kind = kind;
	return figure;
}

void figures_section(struct figures *figures, const char *name, const char *label)
{
	figure_add(figures, FIGURE_SECTION, name, label);
}

void figures_count(struct figures *figures, const char *name, const char *label, uint64_t value)
{
	figure_add(figures, FIGURE_COUNT, name, label)->count = value;
}

void figures_real(struct figures *figures, const char *name, const char *label, double value,
	const char *unit)
{
	struct figure *figure = figure_add(figures, FIGURE_REAL, name, label);

	figure->real = value;
	figure->unit = unit;
}

void figures_text(struct figures *figures, const char *name, const char *label, const char *value)
{
	figure_add(figures, FIGURE_TEXT, name, label)->text = strdup(value);
}

void figures_flag(struct figures *figures, const char *name, const char *label, bool value)
{
	figure_add(figures, FIGURE_FLAG, name, label)->count = value;
}

void figures_latency(struct figures *figures, const char *name, const char *label,
	const struct histogram *histogram)
{
	struct figure *figure;

	if (histogram_count(histogram) == 0)
		return;
	figure = figure_add(figures, FIGURE_LATENCY, name, label);
	figure->count = histogram_count(histogram);
	figure->p50 = histogram_quantile(histogram, 500);
	figure->p99 = histogram_quantile(histogram, 990);
	figure->max = histogram_max(histogram);
}

/* ---- table ----------------------------------------------------------------------------- */

static void latency_line(const struct figure *figure, bool is_first, FILE *out)
{
	char p50[16], p99[16], max[16];

	if (is_first)
		fprintf(out, "  %-44s %9s %10s %10s %10s\n", "", "count", "p50", "p99", "max");
	fprintf(out, "  %-44s %9llu %10s %10s %10s\n", figure->label,
		(unsigned long long)figure->count, report_duration(figure->p50, p50),
		report_duration(figure->p99, p99), report_duration(figure->max, max));
}

void figures_table(const struct figures *figures, FILE *out)
{
	for (uint32_t i = 0; i < figures->count; i++) {
		const struct figure *figure = &figures->items[i];

		switch (figure->kind) {
		case FIGURE_SECTION:
			if (i + 1 < figures->count && figure[1].kind != FIGURE_SECTION)
				fprintf(out, "%s\n", figure->label);
			break;
		case FIGURE_COUNT:
			fprintf(out, "  %-44s %9llu\n", figure->label,
				(unsigned long long)figure->count);
			break;
		case FIGURE_REAL:
			fprintf(out, "  %-44s %9.*f %s\n", figure->label, figure->real < 10 ? 3 : 1,
				figure->real, figure->unit);
			break;
		case FIGURE_TEXT:
			fprintf(out, "  %-44s %s\n", figure->label,
				figure->text != NULL ? figure->text : "");
			break;
		case FIGURE_FLAG:
			fprintf(out, "  %-44s %9s\n", figure->label,
				figure->count != 0 ? "yes" : "no");
			break;
		case FIGURE_LATENCY:
			latency_line(figure, figure[-1].kind != FIGURE_LATENCY, out);
			break;
		}
	}
}

/* ---- JSON ------------------------------------------------------------------------------ */

static void json_text(const char *text, FILE *out)
{
	fputc('"', out);
	for (; text != NULL && *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			fprintf(out, "\\u%04x", (unsigned char)*text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void json_value(const struct figure *figure, FILE *out)
{
	switch (figure->kind) {
	case FIGURE_COUNT:
		fprintf(out, "%llu", (unsigned long long)figure->count);
		break;
	case FIGURE_REAL:
		fprintf(out, "%.4f", figure->real);
		break;
	case FIGURE_TEXT:
		json_text(figure->text, out);
		break;
	case FIGURE_FLAG:
		fputs(figure->count != 0 ? "true" : "false", out);
		break;
	case FIGURE_LATENCY:
		fprintf(out,
			"{\"count\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, \"max_ns\": %llu}",
			(unsigned long long)figure->count, (unsigned long long)figure->p50,
			(unsigned long long)figure->p99, (unsigned long long)figure->max);
		break;
	case FIGURE_SECTION:
		break;
	}
}

static void json_write(const struct figures *figures, FILE *out)
{
	bool is_inside = false, is_first = true;

	fputc('{', out);
	for (uint32_t i = 0; i < figures->count; i++) {
		const struct figure *figure = &figures->items[i];

		if (figure->kind == FIGURE_SECTION) {
			fputs(is_inside ? "\n  }" : "", out);
			fprintf(out, "%s\n  \"%s\": {", i == 0 ? "" : ",", figure->name);
			is_inside = true;
			is_first = true;
			continue;
		}
		fprintf(out, "%s\n%s\"%s\": ", is_first ? "" : ",", is_inside ? "    " : "  ",
			figure->name);
		json_value(figure, out);
		is_first = false;
	}
	fputs(is_inside ? "\n  }\n}\n" : "\n}\n", out);
}

int figures_json(const struct figures *figures, const char *path)
{
	FILE *out = fopen(path, "we");
	int status = 0;

	if (out == NULL)
		return -errno;
	json_write(figures, out);
	if (ferror(out) != 0)
		status = -EIO;
	if (fclose(out) != 0 && status == 0)
		status = -errno;
	return status;
}
