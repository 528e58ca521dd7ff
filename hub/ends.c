/*
 * ends.c: see ends.h.
 */
#include "ends.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "log.h"
#include "loop.h"

#define STRANGERS_MAX 256u

struct ended {
	uint64_t number; /* of all ends, 1 is the first; 0: an empty place */
	int64_t time_s;
	struct ph_receipt receipt;
	char *names; /* group, NUL, identity, NUL; NULL: no memory */
};

struct ring {
	struct ended *cells;
	size_t count_max;
	uint64_t count; /* ever put */
};

/* Whoever never got through a handshake can be without number: these ends have a ring of their own. */
enum ring_kind {
	RING_KNOWN,
	RING_STRANGERS,
	RINGS,
};

static struct {
	pthread_mutex_t lock;
	struct ring rings[RINGS];
	uint64_t total;
	struct ends_figures figures;
} ends = {.lock = PTHREAD_MUTEX_INITIALIZER};

const double ends_bounds_s[ENDS_BOUNDS] = {
	0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};

int ends_begin(size_t count_max)
{
	const size_t counts[RINGS] = {
		count_max, count_max < STRANGERS_MAX ? count_max : STRANGERS_MAX};

	assert(ends.rings[0].cells == NULL && count_max > 0);
	for (size_t i = 0; i < RINGS; i++) {
		struct ended *cells = calloc(counts[i], sizeof(*cells));

		if (cells == NULL) {
			ends_end();
			return -ENOMEM;
		}
		ends.rings[i] = (struct ring){.cells = cells, .count_max = counts[i]};
	}
	ends.total = 0;
	memset(&ends.figures, 0, sizeof(ends.figures));
	return 0;
}

void ends_end(void)
{
	for (size_t i = 0; i < RINGS; i++) {
		struct ring *ring = &ends.rings[i];

		for (size_t at = 0; at < ring->count_max; at++)
			free(ring->cells[at].names);
		free(ring->cells);
		*ring = (struct ring){0};
	}
}

static char *names_join(const char *group, const char *identity)
{
	size_t group_bytes = strlen(group) + 1, identity_bytes = strlen(identity) + 1;
	char *names = malloc(group_bytes + identity_bytes);

	if (names == NULL)
		return NULL;
	memcpy(names, group, group_bytes);
	memcpy(names + group_bytes, identity, identity_bytes);
	return names;
}

static uint64_t lived_ms(const struct ph_receipt *receipt)
{
	return (receipt->time_end_ns - receipt->time_begin_ns) / 1000000;
}

/* The one canonical line of a connection. */
static void end_log(const struct ph_receipt *receipt, const char *group, const char *identity)
{
	static const char *const sides[] = {"", "local", "remote", "engine"};
	char address[PH_ADDRESS_TEXT_BYTES];

	LOG(CONFIG_LOG_INFO, "connection_end", LOG_N("id", receipt->id),
		LOG_T("reason", ph_reason_name(receipt->reason)),
		LOG_N("reason_number", receipt->reason), LOG_T("side", sides[receipt->side & 3]),
		LOG_T("how", receipt->how == PH_ABORT ? "abort" : "graceful"),
		LOG_T("opened", receipt->was_open ? "yes" : "no"),
		LOG_T("dialled", receipt->accepted ? "no" : "yes"), LOG_T("group", group),
		LOG_T("identity", identity),
		LOG_T("address", ph_address_text(&receipt->peer_address, address)),
		LOG_N("lived_ms", lived_ms(receipt)), LOG_N("bytes_sent", receipt->bytes_sent),
		LOG_N("bytes_received", receipt->bytes_received),
		LOG_N("bytes_dropped", receipt->bytes_dropped), LOG_I("error", receipt->error),
		LOG_T("text", receipt->text), LOG_T("peer_text", receipt->peer_text));
}

static void histogram_add(struct ends_histogram *histogram, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t took_ns = to_ns > from_ns ? to_ns - from_ns : 0;
	size_t at = 0;

	while (at < ENDS_BOUNDS && (double)took_ns > ends_bounds_s[at] * 1e9)
		at++;
	histogram->counts[at]++;
	histogram->sum_ns += took_ns;
}

/* The lock is held. */
static void figures_add(const struct ph_receipt *receipt)
{
	static const uint32_t reasons[ENDS_REASONS] = {
#define REASON(name, value, text) value,
		PH_REASONS(REASON)
#undef REASON
	};
	uint32_t reason = receipt->reason;
	size_t at = 0;

	if (reason >= 1000 && reason < 3000)
		reason -= reason % 1000;
	while (at < ENDS_REASONS && reasons[at] != reason)
		at++;
	ends.figures.by_reason[at < ENDS_REASONS ? at : 0]++;
	if (!receipt->was_open)
		return;
	histogram_add(&ends.figures.opening, receipt->time_begin_ns, receipt->time_open_ns);
	histogram_add(&ends.figures.closing, receipt->time_close_ns, receipt->time_end_ns);
}

void ends_figures(struct ends_figures *figures)
{
	pthread_mutex_lock(&ends.lock);
	*figures = ends.figures;
	pthread_mutex_unlock(&ends.lock);
}

static bool is_stranger(const struct ph_receipt *receipt)
{
	return receipt->accepted && !receipt->was_open && !receipt->handshake_done;
}

void ends_on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity)
{
	bool stranger = is_stranger(receipt);
	struct ring *ring = &ends.rings[stranger ? RING_STRANGERS : RING_KNOWN];
	char *names = names_join(group, identity), *old;
	struct ended *ended;

	(void)user;
	pthread_mutex_lock(&ends.lock);
	ended = &ring->cells[ring->count++ % ring->count_max];
	old = ended->names;
	ended->number = ++ends.total;
	ended->time_s = (int64_t)time(NULL);
	ended->receipt = *receipt;
	ended->names = names;
	figures_add(receipt);
	pthread_mutex_unlock(&ends.lock);
	free(old);
	if (stranger ? log_stranger_may(loop_now_ms()) : log_end_may(loop_now_ms()))
		end_log(receipt, group, identity);
}

/* The newest of a ring that is not newer than `number`, or NULL. *back moves there. The lock is held. */
static const struct ended *ring_at(const struct ring *ring, uint64_t number, uint64_t *back)
{
	uint64_t have = ring->count < ring->count_max ? ring->count : ring->count_max;
	const struct ended *ended;

	for (; *back > 0 && *back + have > ring->count; (*back)--) {
		ended = &ring->cells[(*back - 1) % ring->count_max];
		if (ended->number <= number)
			return ended;
	}
	return NULL;
}

/* A copy of the newest that is not newer than `number`; false: there is none, or no memory (then *status). */
static bool end_copy(uint64_t number, uint64_t backs[RINGS], struct ended *copy, int *status)
{
	const struct ended *newest = NULL, *ended;
	size_t group_bytes;

	pthread_mutex_lock(&ends.lock);
	for (size_t i = 0; i < RINGS; i++) {
		ended = ring_at(&ends.rings[i], number, &backs[i]);
		if (ended != NULL && (newest == NULL || ended->number > newest->number))
			newest = ended;
	}
	if (newest != NULL) {
		*copy = *newest;
		copy->names = NULL;
		if (newest->names != NULL) {
			group_bytes = strlen(newest->names) + 1;
			copy->names = names_join(newest->names, newest->names + group_bytes);
			if (copy->names == NULL)
				*status = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&ends.lock);
	return newest != NULL && *status == 0;
}

int64_t ends_each(bool (*visit)(const struct end *end, void *context), void *context)
{
	uint64_t number = UINT64_MAX, backs[RINGS];
	struct ended copy;
	int64_t count = 0;
	bool goes_on = true;
	int status = 0;

	pthread_mutex_lock(&ends.lock);
	for (size_t i = 0; i < RINGS; i++)
		backs[i] = ends.rings[i].count;
	pthread_mutex_unlock(&ends.lock);
	while (goes_on && end_copy(number, backs, &copy, &status)) {
		struct end end = {
			.number = copy.number, .time_s = copy.time_s, .receipt = copy.receipt};

		end.group = copy.names != NULL ? copy.names : "";
		end.identity = copy.names != NULL ? copy.names + strlen(copy.names) + 1 : "";
		goes_on = visit(&end, context);
		free(copy.names);
		count++;
		number = copy.number - 1;
	}
	return status < 0 ? status : count;
}

uint64_t ends_total(void)
{
	uint64_t total;

	pthread_mutex_lock(&ends.lock);
	total = ends.total;
	pthread_mutex_unlock(&ends.lock);
	return total;
}
