/*
 * where.c: see where.h.
 */
#include "where.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define YEAR_MS (366ull * 86400000)

static int wrong(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int wrong(char *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, WHERE_WHY_BYTES, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

bool where_duration(const char *text, uint64_t *ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {
		{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	size_t digits = strspn(text, "0123456789");
	char number[16];
	uint64_t value;

	if (digits == 0 || digits >= sizeof(number))
		return false;
	memcpy(number, text, digits);
	number[digits] = '\0';
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + digits, units[i].unit) != 0)
			continue;
		if (!text_number(number, 0, YEAR_MS / units[i].ms, &value))
			return false;
		*ms = value * units[i].ms;
		return true;
	}
	return false;
}

/* "192.0.2.0/24", "2001:db8::/56", "192.0.2.7". */
static bool subnet_parse(const char *text, struct ph_filter *filter)
{
	const char *slash = strchrnul(text, '/');
	char host[64], with_port[80];
	uint64_t bits;
	bool is_v4;

	if ((size_t)(slash - text) >= sizeof(host))
		return false;
	memcpy(host, text, (size_t)(slash - text));
	host[slash - text] = '\0';
	is_v4 = strchr(host, ':') == NULL;
	snprintf(with_port, sizeof(with_port), is_v4 ? "%s:0" : "[%s]:0", host);
	if (ph_address_parse(with_port, &filter->subnet) < 0)
		return false;
	bits = is_v4 ? 32 : 128;
	if (*slash == '/' && !text_number(slash + 1, 0, bits, &bits))
		return false;
	filter->subnet_bits = (uint32_t)(is_v4 ? 96 + bits : bits);
	filter->has_subnet = 1;
	return true;
}

static int name_take(char *target, const char *name, const char *key, char *why)
{
	if (name[0] == '\0' || strlen(name) >= PH_NAME_BYTES_MAX)
		return wrong(
			why, "%s= needs a name of at most %u bytes", key, PH_NAME_BYTES_MAX - 1);
	strcpy(target, name);
	return 0;
}

static int condition_take(struct where *where, const char *text, char *why)
{
	struct ph_filter *filter = &where->filter;

	if (strncmp(text, "group=", 6) == 0)
		return name_take(where->group, text + 6, "group", why);
	if (strncmp(text, "identity=", 9) == 0)
		return name_take(where->identity, text + 9, "identity", why);
	if (strncmp(text, "subnet=", 7) == 0)
		return subnet_parse(text + 7, filter)
			? 0
			: wrong(why, "\"%.80s\": takes subnet=ADDRESS/BITS", text);
	if (strncmp(text, "age>", 4) == 0)
		return where_duration(text + 4, &filter->age_ms_min)
			? 0
			: wrong(why, "\"%.80s\": takes a time like age>60s, 5m, 2h, 1d", text);
	if (strncmp(text, "idle>", 5) == 0)
		return where_duration(text + 5, &filter->idle_ms_min)
			? 0
			: wrong(why, "\"%.80s\": takes a time like idle>60s, 5m, 2h, 1d", text);
	return wrong(why, "\"%.80s\" is none of group= identity= subnet= age> idle>", text);
}

int where_parse(const char *text, struct where *where, char why[WHERE_WHY_BYTES])
{
	char *copy = strdup(text), *rest = NULL;
	int status = 0;

	memset(where, 0, sizeof(*where));
	where->is_everything = true;
	if (copy == NULL)
		return wrong(why, "out of memory");
	for (char *at = strtok_r(copy, " ", &rest); at != NULL && status == 0;
		at = strtok_r(NULL, " ", &rest)) {
		where->is_everything = false;
		status = condition_take(where, at, why);
	}
	free(copy);
	return status;
}

struct completion {
	const char *begin;
	size_t begin_bytes;
	size_t field; /* in struct ph_connection */
	char found[PH_NAME_BYTES_MAX];
	bool is_exact, is_ambiguous;
};

static int completion_visit(void *context, const struct ph_connection *connection)
{
	struct completion *completion = context;
	const char *name = (const char *)connection + completion->field;

	if (strncmp(name, completion->begin, completion->begin_bytes) != 0)
		return 0;
	if (name[completion->begin_bytes] == '\0') {
		completion->is_exact = true;
		return 1;
	}
	if (completion->found[0] != '\0' && strcmp(completion->found, name) != 0)
		completion->is_ambiguous = true;
	strcpy(completion->found, name);
	return 0;
}

static int name_complete(char *name, size_t field, const char *key, struct ph_hub *hub, char *why)
{
	struct completion completion = {.begin = name, .begin_bytes = strlen(name), .field = field};

	if (name[0] == '\0')
		return 0;
	(void)ph_connections(hub, NULL, completion_visit, &completion);
	if (completion.is_exact)
		return 0;
	if (completion.is_ambiguous)
		return wrong(why, "several names begin with %s=%.80s", key, name);
	if (completion.found[0] != '\0')
		strcpy(name, completion.found);
	return 0;
}

int where_complete(struct where *where, struct ph_hub *hub, char why[WHERE_WHY_BYTES])
{
	int status = name_complete(
		where->group, offsetof(struct ph_connection, group), "group", hub, why);

	if (status == 0)
		status = name_complete(where->identity, offsetof(struct ph_connection, identity),
			"identity", hub, why);
	where->filter.group = where->group[0] != '\0' ? where->group : NULL;
	where->filter.identity = where->identity[0] != '\0' ? where->identity : NULL;
	return status;
}
