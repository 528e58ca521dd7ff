/* Faults as options; see fault.h. */
#include "fault.h"

#include "command.h"
#include "options.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AMOUNT_MAX 1000000000ull
#define STALL_DEFAULT_MS 1000u
#define ERRNO_DEFAULT_ONE_IN 100u

const char fault_usage_text[] =
	"Faults (repeatable; up to 8): --fault KIND[:ARGUMENT][@SCOPE]\n"
	"  delay:MS[+JITTER]    every piece arrives MS to MS+JITTER milliseconds late\n"
	"  stall:BYTES[,MS]     after BYTES nothing passes for MS (default 1000; 0: for ever)\n"
	"  truncate:BYTES       after BYTES both streams end in order (FIN)\n"
	"  reset:BYTES          after BYTES both streams are reset; reset:MSms: after so long\n"
	"  slow:BYTES           so many bytes a second, each way\n"
	"  segment[:BYTES]      pieces of so many bytes (default 1)\n"
	"  damage:BYTES         after BYTES one byte is changed: TLS ends the connection; without TLS\n"
	"                       nobody but our audit can notice\n"
	"  errno:NAME,OP[,N]    a ring operation OP answers NAME once in N times (default 100);\n"
	"                       OP: recv send socket connect accept cancel disconnect option name\n"
	"                       unsent; NAME: ECONNRESET, ENOBUFS, ETIMEDOUT, ENOMEM, EPIPE, …\n"
	"  lost:OP[,N]          the last answer of OP never comes, once in N times: no kernel does\n"
	"                       that, and it must be found as a hang. OP: recv send connect name\n"
	"  BYTES and MS may be a range, 100-5000: drawn anew for each connection.\n"
	"  SCOPE: a share, @10% (default 100%), or @group=NAME (groups are g0, g1, …; --groups)\n"
	"  All but errno and lost pass through a relay in this process; it has 2 of our descriptors for each\n"
	"  connection and so serves at most 9,000 at once.\n";

static const char *const kind_names[] = {
	"delay", "stall", "truncate", "reset", "slow", "segment", "damage", "errno", "lost"};
static const char *const op_names[] = {"recv", "send", "socket", "connect", "accept", "cancel",
	"disconnect", "option", "name", "unsent"};
static_assert(sizeof(kind_names) / sizeof(kind_names[0]) == FAULT_KIND_COUNT, "one a kind");
static_assert(sizeof(op_names) / sizeof(op_names[0]) == FAULT_OP_COUNT, "one an operation");

static const struct {
	const char *name;
	int error;
} errors[] = {{"ECONNRESET", ECONNRESET}, {"EPIPE", EPIPE}, {"ETIMEDOUT", ETIMEDOUT},
	{"ENOBUFS", ENOBUFS}, {"ENOMEM", ENOMEM}, {"EIO", EIO}, {"ECONNREFUSED", ECONNREFUSED},
	{"EMFILE", EMFILE}, {"ENFILE", ENFILE}, {"EINTR", EINTR}, {"EAGAIN", EAGAIN},
	{"ECANCELED", ECANCELED}, {"ENOENT", ENOENT}, {"EALREADY", EALREADY},
	{"ENETUNREACH", ENETUNREACH}, {"EHOSTUNREACH", EHOSTUNREACH}, {"ENOTCONN", ENOTCONN},
	{"EINVAL", EINVAL}, {"EOPNOTSUPP", EOPNOTSUPP}, {"ENOPROTOOPT", ENOPROTOOPT}};

const char *fault_kind_name(enum fault_kind kind)
{
	return kind_names[kind];
}

const char *fault_op_name(enum fault_op op)
{
	return op_names[op];
}

/* ---- reading --------------------------------------------------------------------------- */

static int wrong(char *why, const char *what)
{
	snprintf(why, OPTIONS_WHY_BYTES, "%s", what);
	return -EINVAL;
}

static int amount_parse(const char *text, size_t bytes, uint64_t *amount)
{
	char copy[24];

	if (bytes == 0 || bytes >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, bytes);
	copy[bytes] = '\0';
	return number_parse(copy, 0, AMOUNT_MAX, amount);
}

/* "100" or "100-5000". */
static int range_parse(const char *text, size_t bytes, struct fault_range *range)
{
	const char *dash = memchr(text, '-', bytes);
	size_t first = dash != NULL ? (size_t)(dash - text) : bytes;

	if (amount_parse(text, first, &range->low) < 0)
		return -EINVAL;
	range->high = range->low;
	if (dash != NULL && amount_parse(dash + 1, bytes - first - 1, &range->high) < 0)
		return -EINVAL;
	return range->low <= range->high ? 0 : -EINVAL;
}

/* "A" or "A<mark>B": two ranges. */
static int pair_parse(struct fault *fault, const char *text, char mark)
{
	const char *second = strchr(text, mark);
	size_t first = second != NULL ? (size_t)(second - text) : strlen(text);

	if (range_parse(text, first, &fault->amount) < 0)
		return -EINVAL;
	if (second == NULL)
		return 0;
	return range_parse(second + 1, strlen(second + 1), &fault->duration);
}

static int op_parse(struct fault *fault, const char *op, const char *many, char *why)
{
	uint64_t one_in = ERRNO_DEFAULT_ONE_IN;

	if (number_parse(many, 1, AMOUNT_MAX, &one_in) < 0)
		return wrong(why, "once in N: N is a whole number from 1 to 1000000000");
	fault->one_in = (uint32_t)one_in;
	fault->op = FAULT_OP_COUNT;
	for (uint32_t i = 0; i < FAULT_OP_COUNT; i++)
		if (strcmp(op, op_names[i]) == 0)
			fault->op = (enum fault_op)i;
	return fault->op == FAULT_OP_COUNT
		? wrong(why,
			  "the operation is none of recv, send, socket, connect, accept, "
			  "cancel, disconnect, option, name, unsent")
		: 0;
}

static int lost_parse(struct fault *fault, const char *text, char *why)
{
	char op[24], many[24] = "100";
	int fields, used = 0;

	fields = sscanf(text, "%23[a-z]%n,%23[0-9]%n", op, &used, many, &used);
	if (fields < 1 || text[used] != '\0')
		return wrong(why, "lost takes OP[,N], as in lost:recv,1000");
	if (op_parse(fault, op, many, why) < 0)
		return -EINVAL;
	if (fault->op != FAULT_OP_RECV && fault->op != FAULT_OP_SEND &&
		fault->op != FAULT_OP_CONNECT && fault->op != FAULT_OP_NAME)
		return wrong(why, "lost takes recv, send, connect or name");
	return 0;
}

static int errno_parse(struct fault *fault, const char *text, char *why)
{
	char name[24], op[24], many[24] = "100";
	int fields, used = 0;

	fields = sscanf(text, "%23[A-Z],%23[a-z]%n,%23[0-9]%n", name, op, &used, many, &used);
	if (fields < 2 || text[used] != '\0')
		return wrong(why, "errno takes NAME,OP[,N], as in errno:ECONNRESET,recv,1000");
	if (op_parse(fault, op, many, why) < 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(name, errors[i].name) == 0)
			fault->error = errors[i].error;
	if (fault->error == 0)
		return wrong(why, "no such error is known here");
	return 0;
}

static int argument_parse(struct fault *fault, const char *text, char *why)
{
	size_t bytes = strlen(text);
	int status = 0;

	switch (fault->kind) {
	case FAULT_DELAY:
		status = pair_parse(fault, text, '+');
		break;
	case FAULT_STALL:
		fault->duration = (struct fault_range){STALL_DEFAULT_MS, STALL_DEFAULT_MS};
		status = pair_parse(fault, text, ',');
		break;
	case FAULT_RESET:
		fault->is_time = bytes > 2 && strcmp(text + bytes - 2, "ms") == 0;
		status = range_parse(text, fault->is_time ? bytes - 2 : bytes, &fault->amount);
		break;
	case FAULT_SEGMENT:
		fault->amount = (struct fault_range){1, 1};
		if (bytes > 0)
			status = range_parse(text, bytes, &fault->amount);
		break;
	case FAULT_ERRNO:
		return errno_parse(fault, text, why);
	case FAULT_LOST:
		return lost_parse(fault, text, why);
	default:
		status = range_parse(text, bytes, &fault->amount);
		break;
	}
	if (status == 0 && (fault->kind == FAULT_SLOW || fault->kind == FAULT_SEGMENT) &&
		fault->amount.low == 0)
		status = -EINVAL;
	return status < 0 ? wrong(why, "its argument is a number or a range, as --help shows") : 0;
}

static int scope_parse(struct fault *fault, const char *text, char *why)
{
	uint64_t percent;
	size_t bytes = strlen(text);

	if (strncmp(text, "group=", 6) == 0 && bytes > 6 && bytes - 6 < FAULT_GROUP_BYTES) {
		fault->has_group = true;
		memcpy(fault->group, text + 6, bytes - 6 + 1);
		return 0;
	}
	if (bytes < 2 || text[bytes - 1] != '%' || amount_parse(text, bytes - 1, &percent) < 0 ||
		percent < 1 || percent > 100)
		return wrong(why, "the scope is 1% to 100%, or group=NAME");
	fault->permille = (uint32_t)percent * 10;
	return 0;
}

static int fault_parse(struct fault *fault, const char *text, char *why)
{
	char copy[FAULT_TEXT_BYTES], *scope, *argument;
	uint32_t kind = 0;

	if (strlen(text) >= sizeof(copy))
		return wrong(why, "too long");
	memcpy(copy, text, strlen(text) + 1);
	memcpy(fault->text, copy, sizeof(copy));
	fault->permille = 1000;
	scope = strchr(copy, '@');
	if (scope != NULL)
		*scope++ = '\0';
	argument = strchr(copy, ':');
	if (argument != NULL)
		*argument++ = '\0';
	while (kind < FAULT_KIND_COUNT && strcmp(copy, kind_names[kind]) != 0)
		kind++;
	if (kind == FAULT_KIND_COUNT)
		return wrong(why,
			"the kind is none of delay, stall, truncate, reset, slow, "
			"segment, damage, errno, lost");
	fault->kind = (enum fault_kind)kind;
	if (argument_parse(fault, argument != NULL ? argument : "", why) < 0)
		return -EINVAL;
	return scope != NULL ? scope_parse(fault, scope, why) : 0;
}

int fault_take(void *context, const char *text, char *why)
{
	struct faults *faults = context;
	struct fault fault = {.kind = FAULT_DELAY};
	uint32_t links = 0;

	if (faults->count == FAULTS_MAX)
		return wrong(why, "at most 8 faults");
	if (fault_parse(&fault, text, why) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < faults->count; i++)
		links += fault_is_link(&faults->items[i]);
	if (fault_is_link(&fault) && links == FAULT_LINKS_MAX)
		return wrong(why, "at most 6 faults beside errno and lost");
	faults->items[faults->count++] = fault;
	return 0;
}

/* ---- whom they hit --------------------------------------------------------------------- */

bool fault_hits(const struct faults *faults, uint32_t index, uint64_t seed, uint64_t number,
	const char *group)
{
	const struct fault *fault = &faults->items[index];

	if (fault->has_group)
		return strcmp(fault->group, group) == 0;
	return random_mix(random_mix(seed + index) ^ number) % 1000 < fault->permille;
}

uint64_t fault_draw(const struct fault_range *range, struct random *random)
{
	return range->low + random_next(random) % (range->high - range->low + 1);
}

bool fault_is_link(const struct fault *fault)
{
	return fault->kind < FAULT_ERRNO;
}

bool faults_have_links(const struct faults *faults)
{
	for (uint32_t i = 0; i < faults->count; i++)
		if (fault_is_link(&faults->items[i]))
			return true;
	return false;
}
