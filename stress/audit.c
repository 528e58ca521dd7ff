/* The exactly-once audit; see audit.h. */
#include "audit.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STRIPES 256u
#define SEEN_IDS (1u << 18) /* direct-mapped memory of the last ids, for "never handed out twice" */
#define VIOLATIONS_SHOWN 20u /* the first ones tell the story; the rest is only counted */

enum entry_state {
	ENTRY_FREE, /* never used */
	ENTRY_LIVE, /* between its first sight and its final event */
	ENTRY_FINAL, /* the final event came; its calls or its partner are awaited */
	ENTRY_DONE, /* settled; kept until the ring comes round, to recognise late events */
};

struct entry {
	uint64_t serial;
	uint64_t id; /* 0 until it is known */
	uint64_t tag;
	uint64_t partner; /* serial of the other end, 0 = not known (yet) */
	uint64_t begin_ns;
	uint64_t blocked_ns; /* when the last send that was told to wait was called */
	uint64_t writable_ns; /* when on_writable came last */
	uint64_t win_ns; /* when the ph_close that won was called */
	uint64_t final_ns;
	uint32_t win_reason;
	uint32_t calls_inside; /* ph_ calls under way on this entry */
	uint32_t wins;
	uint32_t upgrades;
	uint64_t messages; /* delivered by on_data */
	uint8_t state;
	uint8_t win_how;
	bool accepted;
	bool is_known; /* the id may be used by others: ph_open has returned or a callback came */
	bool opened;
	bool is_raw; /* framing raw; known when it opens */
	bool is_broken; /* raw: bytes that nobody sent have come, and what follows means nothing */
	/* From the receipt. */
	uint8_t side, how, failure, was_open;
	uint32_t reason;
	uint64_t bytes_dropped;
};

struct audit {
	struct audit_options options;
	struct entry *entries;
	uint64_t *dialled_ids; /* [entry] where ph_open stores the id, before any callback of it */
	uint32_t *sent; /* [entry][lane] accepted messages */
	uint32_t *received; /* [entry][lane] delivered messages of the partner's lane */
	struct message_stream *streams; /* [entry] raw: its shard's alone while it lives */
	pthread_mutex_t stripes[STRIPES]; /* an entry's fields and lanes: the stripe of its index */
	pthread_mutex_t alloc_lock; /* next_serial */
	uint64_t next_serial;
	pthread_mutex_t ended_lock; /* ended[], a ring of serials that is never full */
	uint64_t *ended; /* twice as long: a settled partner may linger until its turn */
	uint32_t ended_head, ended_count;
	_Atomic uint64_t seen[SEEN_IDS];
	_Atomic uint64_t live;
	struct {
#define AUDIT_ATOMIC(name) _Atomic uint64_t name;
		AUDIT_COUNTERS(AUDIT_ATOMIC)
#undef AUDIT_ATOMIC
	} counts;
	struct histogram latency[AUDIT_PATH_COUNT];
};

#define COUNT(audit, name) atomic_fetch_add_explicit(&(audit)->counts.name, 1, memory_order_relaxed)
#define COUNT_ADD(audit, name, value) \
	atomic_fetch_add_explicit(&(audit)->counts.name, (value), memory_order_relaxed)

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *audit_path_name(enum audit_path path)
{
	static const char *const names[] = {"local", "remote", "abort", "reset", "handshake"};

	static_assert(sizeof(names) / sizeof(names[0]) == AUDIT_PATH_COUNT, "one name a path");
	return names[path];
}

/* ---- create ---------------------------------------------------------------------------- */

int audit_create(const struct audit_options *options, struct audit **audit)
{
	struct audit *made = calloc(1, sizeof(*made));
	size_t lanes = (size_t)options->entry_count * options->lane_count;

	assert((options->entry_count & (options->entry_count - 1)) == 0);
	if (made == NULL)
		return -ENOMEM;
	made->options = *options;
	made->next_serial = 1;
	made->entries = calloc(options->entry_count, sizeof(*made->entries));
	made->dialled_ids = calloc(options->entry_count, sizeof(*made->dialled_ids));
	made->ended = calloc((size_t)options->entry_count * 2, sizeof(*made->ended));
	made->sent = calloc(lanes, sizeof(*made->sent));
	made->received = calloc(lanes, sizeof(*made->received));
	made->streams = calloc(options->entry_count, sizeof(*made->streams));
	if (made->streams == NULL || made->entries == NULL || made->dialled_ids == NULL ||
		made->ended == NULL || made->sent == NULL || made->received == NULL) {
		audit_destroy(made);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < STRIPES; i++)
		pthread_mutex_init(&made->stripes[i], NULL);
	pthread_mutex_init(&made->alloc_lock, NULL);
	pthread_mutex_init(&made->ended_lock, NULL);
	for (int i = 0; i < AUDIT_PATH_COUNT; i++)
		histogram_init(&made->latency[i]);
	*audit = made;
	return 0;
}

void audit_destroy(struct audit *audit)
{
	if (audit == NULL)
		return;
	free(audit->entries);
	free(audit->dialled_ids);
	free(audit->ended);
	free(audit->sent);
	free(audit->received);
	free(audit->streams);
	free(audit);
}

/* ---- entries --------------------------------------------------------------------------- */

static uint32_t index_of(const struct audit *audit, uint64_t serial)
{
	return (uint32_t)(serial & (audit->options.entry_count - 1));
}

static pthread_mutex_t *stripe_of(struct audit *audit, uint64_t serial)
{
	return &audit->stripes[index_of(audit, serial) % STRIPES];
}

/* The entry of a serial with its stripe locked, or NULL (unlocked) when the ring went past it. */
static struct entry *entry_lock(struct audit *audit, uint64_t serial)
{
	struct entry *entry = &audit->entries[index_of(audit, serial)];

	pthread_mutex_lock(stripe_of(audit, serial));
	if (serial != 0 && entry->serial == serial)
		return entry;
	pthread_mutex_unlock(stripe_of(audit, serial));
	return NULL;
}

static void entry_unlock(struct audit *audit, const struct entry *entry)
{
	pthread_mutex_unlock(stripe_of(audit, entry->serial));
}

static uint32_t *lanes_of(const struct audit *audit, uint32_t *all, uint64_t serial)
{
	return all + (size_t)index_of(audit, serial) * audit->options.lane_count;
}

/* Claim the next place of the ring whose old story is told. */
static struct entry *entry_take(struct audit *audit, uint64_t tag, bool accepted)
{
	struct entry *entry = NULL;

	pthread_mutex_lock(&audit->alloc_lock);
	for (uint32_t i = 0; i < audit->options.entry_count && entry == NULL; i++) {
		uint64_t serial = audit->next_serial++;
		struct entry *candidate = &audit->entries[index_of(audit, serial)];

		pthread_mutex_lock(stripe_of(audit, serial));
		if ((candidate->state == ENTRY_FREE || candidate->state == ENTRY_DONE) &&
			candidate->calls_inside == 0) {
			memset(candidate, 0, sizeof(*candidate));
			candidate->serial = serial;
			candidate->tag = tag;
			candidate->accepted = accepted;
			candidate->state = ENTRY_LIVE;
			candidate->begin_ns = now_ns();
			memset(lanes_of(audit, audit->sent, serial), 0,
				audit->options.lane_count * sizeof(uint32_t));
			memset(lanes_of(audit, audit->received, serial), 0,
				audit->options.lane_count * sizeof(uint32_t));
			audit->streams[index_of(audit, serial)] = (struct message_stream){.at = 0};
			entry = candidate;
		}
		pthread_mutex_unlock(stripe_of(audit, serial));
	}
	pthread_mutex_unlock(&audit->alloc_lock);
	return entry;
}

/* ---- findings -------------------------------------------------------------------------- */

static void entry_print(const struct entry *entry)
{
	static const char *const states[] = {"free", "live", "final", "done"};

	fprintf(stderr,
		"  id %#llx serial %llu tag %llu partner %llu %s %s%s wins %u (how %u reason %u) "
		"upgrades %u inside %u messages %llu; receipt reason %u %s side %u how %u failure %u "
		"was_open %u dropped %llu\n",
		(unsigned long long)entry->id, (unsigned long long)entry->serial,
		(unsigned long long)entry->tag, (unsigned long long)entry->partner,
		entry->accepted ? "accepted" : "dialled", states[entry->state],
		entry->opened ? " opened" : "", entry->wins, entry->win_how, entry->win_reason,
		entry->upgrades, entry->calls_inside, (unsigned long long)entry->messages,
		entry->reason, ph_reason_name(entry->reason), entry->side, entry->how,
		entry->failure, entry->was_open, (unsigned long long)entry->bytes_dropped);
}

void audit_violation(struct audit *audit, uint64_t serial, const char *format, ...)
{
	struct entry copy = {.serial = 0};
	struct entry *entry;
	va_list arguments;
	char text[256];

	if (COUNT(audit, violations) >= VIOLATIONS_SHOWN)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	entry = entry_lock(audit, serial);
	if (entry != NULL) {
		copy = *entry;
		entry_unlock(audit, entry);
	}
	flockfile(stderr);
	fprintf(stderr, "VIOLATION: %s\n", text);
	if (copy.serial != 0)
		entry_print(&copy);
	funlockfile(stderr);
}

/* The first sight of an id: it must be new. The memory is lossy (an id pushes another out), so it
 * can miss a repeated id, but never invents one. */
static void id_first_seen(struct audit *audit, uint64_t serial, uint64_t id)
{
	_Atomic uint64_t *place = &audit->seen[random_mix(id) % SEEN_IDS];

	if (id == 0)
		audit_violation(audit, serial, "the id 0 was handed out");
	if (atomic_exchange_explicit(place, id, memory_order_relaxed) == id)
		audit_violation(
			audit, serial, "id %#llx was handed out twice", (unsigned long long)id);
}

/* ---- lives ----------------------------------------------------------------------------- */

uint64_t audit_dial(struct audit *audit, uint64_t tag, uint64_t **id)
{
	struct entry *entry = entry_take(audit, tag, false);

	if (entry == NULL)
		return 0;
	atomic_fetch_add(&audit->live, 1);
	*id = &audit->dialled_ids[index_of(audit, entry->serial)];
	**id = 0;
	return entry->serial;
}

void audit_dial_failed(struct audit *audit, uint64_t serial)
{
	struct entry *entry = entry_lock(audit, serial);
	bool was_used;

	assert(entry != NULL);
	was_used = entry->is_known;
	entry->state = ENTRY_DONE;
	entry_unlock(audit, entry);
	atomic_fetch_sub(&audit->live, 1);
	if (was_used)
		audit_violation(audit, serial, "ph_open failed and made an event all the same");
}

/* The id becomes usable by others: by ph_open's return or the first callback, whichever is first. */
static bool entry_make_known(struct audit *audit, struct entry *entry)
{
	if (entry->is_known)
		return false;
	entry->is_known = true;
	entry->id = audit->dialled_ids[index_of(audit, entry->serial)];
	return true;
}

void audit_dial_done(struct audit *audit, uint64_t serial)
{
	struct entry *entry = entry_lock(audit, serial);
	uint64_t id = 0;

	/* It can have ended, even been settled, meanwhile, but not be forgotten: the ring is long. */
	if (entry != NULL) {
		if (entry_make_known(audit, entry))
			id = entry->id;
		entry_unlock(audit, entry);
	}
	COUNT(audit, dialled);
	if (id != 0)
		id_first_seen(audit, serial, id);
}

uint64_t audit_accept(struct audit *audit, uint64_t id, uint64_t tag)
{
	struct entry *entry = entry_take(audit, tag, true);
	uint64_t serial;

	if (entry == NULL)
		return 0;
	serial = entry->serial;
	entry_lock(audit, serial);
	entry->id = id;
	entry->is_known = true;
	entry_unlock(audit, entry);
	atomic_fetch_add(&audit->live, 1);
	COUNT(audit, accepted);
	id_first_seen(audit, serial, id);
	return serial;
}

/* ---- events ---------------------------------------------------------------------------- */

/* What holds at every event: the entry is known, has this id, and has not ended. NULL after a
 * finding; else locked. */
static struct entry *event_begin(
	struct audit *audit, uint64_t serial, uint64_t id, const char *event)
{
	struct entry *entry = entry_lock(audit, serial);
	const char *wrong = NULL;
	bool is_new;

	if (entry == NULL) {
		audit_violation(audit, 0, "%s of id %#llx with user %llu, which nobody has", event,
			(unsigned long long)id, (unsigned long long)serial);
		return NULL;
	}
	is_new = entry_make_known(audit, entry);
	if (entry->id != id)
		wrong = "belongs to another id";
	else if (entry->state != ENTRY_LIVE)
		wrong = "came after the final event";
	if (wrong == NULL && !is_new)
		return entry;
	entry_unlock(audit, entry);
	if (is_new)
		id_first_seen(audit, serial, id);
	if (wrong == NULL)
		return entry_lock(audit, serial);
	audit_violation(audit, serial, "%s of id %#llx %s", event, (unsigned long long)id, wrong);
	return NULL;
}

static void partner_set(struct audit *audit, uint64_t serial, uint64_t partner)
{
	struct entry *entry = entry_lock(audit, serial);
	uint64_t other = 0;

	if (entry == NULL)
		return; /* the dialler is long gone, its place in the ring taken */
	if (entry->partner != 0 || entry->accepted)
		other = entry->serial;
	else if (entry->state != ENTRY_DONE)
		entry->partner = partner;
	entry_unlock(audit, entry);
	if (other != 0)
		audit_violation(audit, other, "two accepted ends for one dialled one");
}

void audit_on_connect(struct audit *audit, uint64_t serial, uint64_t id, uint64_t partner)
{
	struct entry *entry = event_begin(audit, serial, id, "on_connect");
	bool is_second;

	if (entry == NULL)
		return;
	is_second = entry->partner != 0 || entry->opened || !entry->accepted;
	entry->partner = partner;
	entry_unlock(audit, entry);
	if (is_second)
		audit_violation(audit, serial, "on_connect out of place");
	else
		partner_set(audit, partner, serial);
}

static void opened(
	struct audit *audit, uint64_t serial, uint64_t id, uint64_t tag, bool accepted, bool is_raw)
{
	struct entry *entry = event_begin(audit, serial, id, "on_open");
	const char *wrong = NULL;

	if (entry == NULL)
		return;
	if (entry->opened)
		wrong = "a second on_open";
	else if (entry->tag != tag || entry->accepted != accepted)
		wrong = "on_open with another tag or direction";
	entry->opened = true;
	entry->is_raw = is_raw;
	entry_unlock(audit, entry);
	COUNT(audit, opened);
	if (is_raw)
		COUNT(audit, raw_opened);
	if (wrong != NULL)
		audit_violation(audit, serial, "%s", wrong);
}

void audit_on_open(struct audit *audit, uint64_t serial, uint64_t id, uint64_t tag, bool accepted)
{
	opened(audit, serial, id, tag, accepted, false);
}

void audit_on_open_raw(
	struct audit *audit, uint64_t serial, uint64_t id, uint64_t tag, bool accepted)
{
	opened(audit, serial, id, tag, accepted, true);
}

/* Runs under the entry's lock; the text of what is wrong, or NULL. */
static const char *data_check(
	struct audit *audit, const struct entry *entry, const struct message_head *head)
{
	uint64_t sender = audit->options.is_echo ? entry->serial : entry->partner;
	uint32_t *received;

	if (head->sender != sender)
		return "data of another connection";
	if (head->lane >= audit->options.lane_count)
		return "data of no lane";
	received = lanes_of(audit, audit->received, entry->serial);
	if (head->sequence != received[head->lane])
		return head->sequence < received[head->lane] ? "a message came twice or late"
							     : "a message is missing";
	received[head->lane]++;
	return NULL;
}

/* The first message of a raw stream tells who is at its other end. NULL, or what is wrong. */
static const char *raw_partner_set(struct audit *audit, uint64_t serial, uint64_t sender)
{
	struct entry *entry = entry_lock(audit, serial), *other;
	const char *wrong = NULL;
	bool is_accepted;

	assert(entry != NULL);
	is_accepted = entry->accepted;
	if (entry->partner != 0) {
		entry_unlock(audit, entry);
		return NULL; /* data_check compares it */
	}
	entry->partner = sender;
	entry_unlock(audit, entry);
	other = entry_lock(audit, sender);
	if (other == NULL)
		return NULL; /* long gone, its place in the ring taken */
	if ((other->opened && !other->is_raw) || other->accepted == is_accepted ||
		(other->partner != 0 && other->partner != serial))
		wrong = "data of a connection that is another's";
	else if (other->state != ENTRY_DONE)
		other->partner = serial;
	entry_unlock(audit, other);
	return wrong;
}

static void message_seen(struct audit *audit, uint64_t serial, const struct message_head *head)
{
	const char *wrong = NULL;
	struct entry *entry;

	entry = entry_lock(audit, serial);
	assert(entry != NULL);
	wrong = data_check(audit, entry, head);
	entry_unlock(audit, entry);
	COUNT(audit, messages_received);
	if (wrong != NULL)
		audit_violation(audit, serial, "%s (lane %u sequence %u bytes %u sender %llu)",
			wrong, head->lane, head->sequence, head->bytes,
			(unsigned long long)head->sender);
}

/* Spans of one connection come one at a time, and its entry stays until its last event. */
static void raw_data(struct audit *audit, uint64_t serial, const uint8_t *data, size_t bytes)
{
	struct message_stream *stream = &audit->streams[index_of(audit, serial)];
	struct message_head head = {.sender = 0};
	const char *wrong = NULL;
	struct entry *entry;
	size_t used;
	int status;

	while ((status = message_stream_read(stream, data, bytes, &used, &head)) > 0) {
		data += used;
		bytes -= used;
		COUNT(audit, messages_raw);
		wrong = raw_partner_set(audit, serial, head.sender);
		if (wrong != NULL)
			break;
		message_seen(audit, serial, &head);
	}
	if (status < 0)
		wrong = "bytes of a raw stream are not what was sent";
	if (wrong == NULL)
		return;
	entry = entry_lock(audit, serial);
	assert(entry != NULL);
	entry->is_broken = true;
	entry_unlock(audit, entry);
	audit_violation(audit, serial, "%s (byte %u of a message of sender %llu)", wrong,
		stream->at, (unsigned long long)stream->head.sender);
}

void audit_on_data(struct audit *audit, uint64_t serial, uint64_t id, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct message_head head = {.sender = 0};
	bool is_raw, is_broken, is_open;
	const char *wrong = NULL;
	struct entry *entry;

	entry = event_begin(audit, serial, id, "on_data");
	if (entry == NULL)
		return;
	entry->messages++;
	is_raw = entry->is_raw;
	is_broken = entry->is_broken;
	is_open = entry->opened;
	entry_unlock(audit, entry);
	COUNT_ADD(audit, bytes_received, bytes);
	if (!is_open)
		wrong = "data before on_open";
	else if (is_raw != (type == NULL))
		wrong = is_raw ? "a raw stream with a type" : "a message without a type";
	else if (!is_raw && message_read(type, data, bytes, &head) < 0)
		wrong = "a message was damaged";
	if (wrong != NULL)
		audit_violation(audit, serial, "%s (bytes %zu)", wrong, bytes);
	else if (!is_raw)
		message_seen(audit, serial, &head);
	else if (!is_broken)
		raw_data(audit, serial, data, bytes);
}

void audit_on_writable(struct audit *audit, uint64_t serial, uint64_t id)
{
	struct entry *entry = event_begin(audit, serial, id, "on_writable");

	if (entry == NULL)
		return;
	entry->writable_ns = now_ns();
	entry_unlock(audit, entry);
	COUNT(audit, writables);
}

static const char *receipt_check(
	const struct entry *entry, uint64_t id, const struct ph_receipt *receipt)
{
	if (receipt->id != id)
		return "the receipt names another id";
	if (receipt->tag != entry->tag)
		return "the receipt has another tag";
	if ((receipt->accepted != 0) != entry->accepted)
		return "the receipt has the other direction";
	if ((receipt->was_open != 0) != entry->opened)
		return "was_open is not what on_open said";
	if (receipt->was_open && receipt->failure != PH_FAILURE_NONE)
		return "a failure code although it was open";
	if (!receipt->was_open && !entry->accepted && receipt->failure == PH_FAILURE_NONE)
		return "an opening failed without a failure code";
	if (receipt->reason == PH_REASON_NONE)
		return "the receipt has no reason";
	if (receipt->was_open && receipt->messages_received < entry->messages)
		return "the receipt counts fewer messages than on_data";
	if (receipt->time_open_ns > receipt->time_end_ns ||
		receipt->time_close_ns > receipt->time_end_ns)
		return "the times of the receipt run backwards";
	if (receipt->error == -ENOBUFS && receipt->reason == PH_REASON_TRANSPORT_ERROR)
		return "a want of receive buffers was taken for its end";
	return NULL;
}

static void ended_push(struct audit *audit, uint64_t serial)
{
	uint32_t capacity = audit->options.entry_count * 2;

	pthread_mutex_lock(&audit->ended_lock);
	assert(audit->ended_count < capacity);
	audit->ended[(audit->ended_head + audit->ended_count) % capacity] = serial;
	audit->ended_count++;
	pthread_mutex_unlock(&audit->ended_lock);
}

static void anonymous_closed(struct audit *audit, uint64_t id, const struct ph_receipt *receipt)
{
	id_first_seen(audit, 0, id);
	COUNT(audit, anonymous);
	if (!receipt->accepted || receipt->was_open)
		audit_violation(
			audit, 0, "on_closed of id %#llx lost its user", (unsigned long long)id);
}

void audit_on_closed(
	struct audit *audit, uint64_t serial, uint64_t id, const struct ph_receipt *receipt)
{
	struct entry *entry;
	const char *wrong;

	COUNT(audit, finals);
	if (serial == 0) {
		/* Accepted, and ended before on_verify gave it a serial. */
		anonymous_closed(audit, id, receipt);
		return;
	}
	entry = event_begin(audit, serial, id, "on_closed");
	if (entry == NULL)
		return;
	wrong = receipt_check(entry, id, receipt);
	entry->state = ENTRY_FINAL;
	entry->final_ns = now_ns();
	entry->side = receipt->side;
	entry->how = receipt->how;
	entry->failure = receipt->failure;
	entry->was_open = receipt->was_open;
	entry->reason = receipt->reason;
	entry->bytes_dropped = receipt->bytes_dropped;
	entry_unlock(audit, entry);
	if (!receipt->was_open)
		COUNT(audit, failed);
	atomic_fetch_sub(&audit->live, 1);
	if (wrong != NULL)
		audit_violation(audit, serial, "%s", wrong);
	ended_push(audit, serial);
}

/* ---- calls ----------------------------------------------------------------------------- */

bool audit_enter(struct audit *audit, uint64_t serial, struct audit_ref *ref)
{
	struct entry *entry = entry_lock(audit, serial);
	bool is_usable;

	if (entry == NULL)
		return false;
	is_usable = entry->is_known && entry->id != 0;
	if (is_usable) {
		entry->calls_inside++;
		ref->serial = serial;
		ref->id = entry->id;
		ref->tag = entry->tag;
		ref->had_ended = entry->state != ENTRY_LIVE;
		ref->had_lost = ref->had_ended || entry->wins > 0;
		ref->is_open = entry->opened;
	}
	entry_unlock(audit, entry);
	return is_usable;
}

void audit_leave(struct audit *audit, const struct audit_ref *ref)
{
	struct entry *entry = entry_lock(audit, ref->serial);

	assert(entry != NULL && entry->calls_inside > 0);
	entry->calls_inside--;
	entry_unlock(audit, entry);
}

bool audit_pick_ended(struct audit *audit, struct random *random, uint64_t *serial)
{
	uint32_t index = random_below(random, audit->options.entry_count);
	bool is_ended;

	pthread_mutex_lock(&audit->stripes[index % STRIPES]);
	is_ended = audit->entries[index].state >= ENTRY_FINAL && audit->entries[index].id != 0;
	*serial = audit->entries[index].serial;
	pthread_mutex_unlock(&audit->stripes[index % STRIPES]);
	return is_ended;
}

static void stale_check(
	struct audit *audit, const struct audit_ref *ref, const char *call, int result)
{
	if (!ref->had_ended)
		return;
	COUNT(audit, stale_calls);
	if (result != -ENOENT)
		audit_violation(audit, ref->serial, "%s of an ended id answered %d", call, result);
}

void audit_close_result(struct audit *audit, const struct audit_ref *ref, enum ph_how how,
	uint32_t reason, int result, uint64_t begin_ns)
{
	struct entry *entry = entry_lock(audit, ref->serial);
	const char *wrong = NULL;

	assert(entry != NULL);
	if (result == 0) {
		entry->wins++;
		entry->win_how = (uint8_t)how;
		entry->win_reason = reason;
		entry->win_ns = begin_ns;
		if (entry->wins > 1)
			wrong = "a second ph_close won";
	} else if (result == -EALREADY) {
		entry->upgrades++;
		if (how != PH_ABORT || entry->upgrades > 1)
			wrong = "a ph_close upgraded what could not be";
	} else if (result != -ENOENT) {
		wrong = "ph_close answered something else";
	}
	entry_unlock(audit, entry);
	stale_check(audit, ref, "ph_close", result);
	if (result == 0)
		COUNT(audit, closes_won);
	else if (result == -EALREADY)
		COUNT(audit, upgrades);
	else
		COUNT(audit, closes_lost);
	if (wrong != NULL)
		audit_violation(audit, ref->serial, "%s (%d)", wrong, result);
}

uint32_t audit_send_begin(struct audit *audit, const struct audit_ref *ref, uint32_t lane)
{
	struct entry *entry = entry_lock(audit, ref->serial);
	uint32_t sequence;

	assert(entry != NULL && lane < audit->options.lane_count);
	sequence = lanes_of(audit, audit->sent, ref->serial)[lane];
	entry_unlock(audit, entry);
	return sequence;
}

void audit_send_result(struct audit *audit, const struct audit_ref *ref, uint32_t lane,
	uint32_t bytes, int result, uint64_t begin_ns)
{
	struct entry *entry = entry_lock(audit, ref->serial);

	assert(entry != NULL);
	if (result == 0)
		lanes_of(audit, audit->sent, ref->serial)[lane]++;
	if (result == -EAGAIN) {
		if (begin_ns > entry->blocked_ns)
			entry->blocked_ns = begin_ns;
	}
	entry_unlock(audit, entry);
	stale_check(audit, ref, "ph_send", result);
	if (result == 0) {
		COUNT(audit, messages_sent);
		COUNT_ADD(audit, bytes_sent, bytes);
		if (ref->had_lost)
			audit_violation(
				audit, ref->serial, "ph_send was accepted after a close had won");
	} else if (result == -EAGAIN) {
		COUNT(audit, sends_would_block);
	} else if (result != -ENOENT && result != -ENOMEM) {
		audit_violation(audit, ref->serial, "ph_send answered %d", result);
	}
}

void audit_call_result(
	struct audit *audit, const struct audit_ref *ref, const char *call, int result)
{
	stale_check(audit, ref, call, result);
	if (result != 0 && result != -ENOENT)
		audit_violation(audit, ref->serial, "%s answered %d", call, result);
}

/* ---- judging --------------------------------------------------------------------------- */

/* One end by itself, when no call on it is under way. */
static const char *entry_judge(const struct entry *entry)
{
	if (entry->wins == 0 && entry->upgrades == 0 && entry->reason >= 1000 &&
		entry->reason < 3000 && entry->reason % 10 == 1 && entry->side == PH_SIDE_LOCAL)
		return "the receipt has a ph_close's reason, but no ph_close won";
	if (entry->wins == 0)
		return NULL;
	if (entry->side != PH_SIDE_LOCAL)
		return "a ph_close won, but the receipt says another began the end";
	if (entry->reason != entry->win_reason)
		return "a ph_close won, but the receipt has another reason";
	if (entry->win_how == PH_ABORT && entry->how != PH_ABORT)
		return "an abort became graceful";
	return NULL;
}

static bool closed_gracefully(const struct entry *entry)
{
	return entry->was_open && entry->side == PH_SIDE_LOCAL && entry->how == PH_GRACEFUL;
}

static bool saw_remote_close(const struct entry *entry)
{
	return entry->was_open && entry->side == PH_SIDE_REMOTE &&
		entry->reason == PH_REASON_REMOTE_CLOSE;
}

/* What `from` accepted for sending against what `to` was given. */
static const char *lanes_judge(
	struct audit *audit, const struct entry *from, const struct entry *to, bool is_complete)
{
	const uint32_t *sent = lanes_of(audit, audit->sent, from->serial);
	const uint32_t *received = lanes_of(audit, audit->received, to->serial);

	for (uint32_t lane = 0; lane < audit->options.lane_count; lane++) {
		if (received[lane] > sent[lane])
			return "more arrived than was sent";
		if (is_complete && received[lane] < sent[lane])
			return "a graceful close lost what was sent before it";
	}
	return NULL;
}

static void pair_latency(struct audit *audit, const struct entry *closer, const struct entry *other)
{
	bool is_abort = closer->win_how == PH_ABORT;

	if (closer->wins == 0)
		return;
	if (!closer->was_open) {
		if (!closer->accepted)
			histogram_record(&audit->latency[AUDIT_PATH_HANDSHAKE],
				closer->final_ns - closer->win_ns);
		return;
	}
	if (closer->upgrades == 0)
		histogram_record(&audit->latency[is_abort ? AUDIT_PATH_ABORT : AUDIT_PATH_LOCAL],
			closer->final_ns - closer->win_ns);
	if (other == NULL || other->side != PH_SIDE_REMOTE || other->final_ns < closer->win_ns)
		return;
	if (is_abort && other->reason == PH_REASON_REMOTE_RESET)
		histogram_record(
			&audit->latency[AUDIT_PATH_RESET], other->final_ns - closer->win_ns);
	if (!is_abort && saw_remote_close(other))
		histogram_record(
			&audit->latency[AUDIT_PATH_REMOTE], other->final_ns - closer->win_ns);
}

static const char *pair_judge(
	struct audit *audit, const struct entry *dialled, const struct entry *accepted)
{
	bool down = closed_gracefully(dialled) && saw_remote_close(accepted);
	bool up = closed_gracefully(accepted) && saw_remote_close(dialled);
	const char *wrong = lanes_judge(audit, dialled, accepted, down);

	if (wrong == NULL)
		wrong = lanes_judge(audit, accepted, dialled, up);
	if (wrong == NULL && dialled->was_open && !accepted->was_open)
		wrong = "open at the dialler, never open at the acceptor";
	if (wrong == NULL && saw_remote_close(dialled) && saw_remote_close(accepted))
		wrong = "both ends say that the other one closed";
	if (down || up)
		COUNT(audit, graceful_proved);
	return wrong;
}

static void entry_settle(struct audit *audit, uint64_t serial)
{
	struct entry *entry = entry_lock(audit, serial);

	assert(entry != NULL && entry->state == ENTRY_FINAL);
	entry->state = ENTRY_DONE;
	entry_unlock(audit, entry);
	COUNT(audit, settled);
}

/* False: the ring went past it. */
static bool entry_copy(struct audit *audit, uint64_t serial, struct entry *copy)
{
	struct entry *entry = entry_lock(audit, serial);

	if (entry == NULL)
		return false;
	*copy = *entry;
	entry_unlock(audit, entry);
	return true;
}

static bool is_quiet(const struct entry *entry)
{
	return entry->state >= ENTRY_FINAL && entry->calls_inside == 0;
}

static void settle_alone(struct audit *audit, const struct entry *entry)
{
	const char *wrong = entry_judge(entry);

	/* A raw stream is open for the dialler before anybody has accepted it, and says who it is with its
	 * first message, which may never have arrived. */
	if (wrong == NULL && !entry->accepted && entry->was_open && !entry->is_raw &&
		!audit->options.is_echo)
		wrong = "open, but nobody accepted it";
	pair_latency(audit, entry, NULL);
	if (wrong != NULL)
		audit_violation(audit, entry->serial, "%s", wrong);
	entry_settle(audit, entry->serial);
}

static void settle_pair(
	struct audit *audit, const struct entry *dialled, const struct entry *accepted)
{
	const char *wrong = pair_judge(audit, dialled, accepted);

	pair_latency(audit, dialled, accepted);
	pair_latency(audit, accepted, dialled);
	if (wrong != NULL) {
		audit_violation(audit, dialled->serial, "%s", wrong);
		audit_violation(audit, accepted->serial, "(its other end)");
	}
	wrong = entry_judge(dialled);
	if (wrong != NULL)
		audit_violation(audit, dialled->serial, "%s", wrong);
	wrong = entry_judge(accepted);
	if (wrong != NULL)
		audit_violation(audit, accepted->serial, "%s", wrong);
	COUNT(audit, pairs);
	if (dialled->is_raw)
		COUNT(audit, raw_pairs);
	entry_settle(audit, dialled->serial);
	entry_settle(audit, accepted->serial);
}

/* Settle one ended entry; false: not yet. A pair is settled from its dialled end. */
static bool settle_try(struct audit *audit, uint64_t serial)
{
	struct entry entry, partner;

	if (!entry_copy(audit, serial, &entry) || entry.state == ENTRY_DONE)
		return true; /* settled with its partner */
	if (!is_quiet(&entry))
		return false;
	if (entry.partner == 0 || !entry_copy(audit, entry.partner, &partner)) {
		settle_alone(audit, &entry);
		return true;
	}
	if (entry.accepted) {
		if (partner.partner == serial && partner.state != ENTRY_DONE)
			return false; /* its dialled end settles both */
		settle_alone(audit, &entry); /* that one was settled before it knew us */
		return true;
	}
	if (partner.state == ENTRY_DONE) {
		settle_alone(audit, &entry); /* raw: the other end was, before it knew of us */
		return true;
	}
	if (!is_quiet(&partner))
		return false;
	settle_pair(audit, &entry, &partner);
	return true;
}

static uint64_t ended_pop(struct audit *audit)
{
	uint64_t serial;

	pthread_mutex_lock(&audit->ended_lock);
	assert(audit->ended_count > 0);
	serial = audit->ended[audit->ended_head];
	audit->ended_head = (audit->ended_head + 1) % (audit->options.entry_count * 2);
	audit->ended_count--;
	pthread_mutex_unlock(&audit->ended_lock);
	return serial;
}

void audit_tick(struct audit *audit)
{
	uint32_t count;

	pthread_mutex_lock(&audit->ended_lock);
	count = audit->ended_count;
	pthread_mutex_unlock(&audit->ended_lock);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t serial = ended_pop(audit);

		if (!settle_try(audit, serial))
			ended_push(audit, serial);
	}
}

static bool is_overdue(const struct entry *entry, uint64_t now, uint64_t close_ns, uint64_t open_ns)
{
	if (entry->wins > 0)
		return now > entry->win_ns + close_ns;
	if (!entry->opened)
		return now > entry->begin_ns + open_ns;
	return entry->blocked_ns > entry->writable_ns && now > entry->blocked_ns + close_ns;
}

uint32_t audit_overdue(struct audit *audit, uint64_t close_ns, uint64_t open_ns, bool say)
{
	uint64_t now = now_ns();
	uint32_t count = 0;

	for (uint32_t i = 0; i < audit->options.entry_count; i++) {
		struct entry copy;

		pthread_mutex_lock(&audit->stripes[i % STRIPES]);
		copy = audit->entries[i];
		pthread_mutex_unlock(&audit->stripes[i % STRIPES]);
		if (copy.state != ENTRY_LIVE)
			continue;
		if (!is_overdue(&copy, now, close_ns, open_ns))
			continue;
		if (count++ == 0 && say)
			entry_print(&copy);
	}
	return count;
}

static void live_report(struct audit *audit)
{
	for (uint32_t i = 0; i < audit->options.entry_count; i++) {
		uint64_t serial = 0;

		pthread_mutex_lock(&audit->stripes[i % STRIPES]);
		if (audit->entries[i].state == ENTRY_LIVE)
			serial = audit->entries[i].serial;
		pthread_mutex_unlock(&audit->stripes[i % STRIPES]);
		if (serial != 0)
			audit_violation(audit, serial, "no final event came");
	}
}

void audit_finish(struct audit *audit)
{
	audit_tick(audit);
	audit_tick(audit); /* accepted ends that stood before their dialled ones */
	live_report(audit);
	if (audit->ended_count > 0 && atomic_load(&audit->live) == 0)
		audit_violation(audit, audit->ended[audit->ended_head],
			"%u ended entries could not be settled", audit->ended_count);
}

uint64_t audit_live(struct audit *audit)
{
	return atomic_load(&audit->live);
}

void audit_counts(struct audit *audit, struct audit_counts *counts)
{
#define AUDIT_READ(name) \
	counts->name = atomic_load_explicit(&audit->counts.name, memory_order_relaxed);
	AUDIT_COUNTERS(AUDIT_READ)
#undef AUDIT_READ
}

struct histogram *audit_latency(struct audit *audit, enum audit_path path)
{
	return &audit->latency[path];
}
