/*
 * Hubs: options, threads, ended tags. The calls that only need an id are in calls.c, listeners in
 * listen.c.
 *
 * A tag that has ended and a handshake that gets it at the same time: conn_verify (and ph_open) stores the
 * tag in the slot, then looks for it in the ended tags under the lock; ph_tag_end adds it under the
 * lock, then looks at all slots. Whoever takes the lock second sees the other's work, so no connection
 * of an ended tag stays.
 */
#include "engine/hub.h"

#include "engine/check.h"
#include "engine/clock.h"
#include "engine/digest.h"
#include "engine/memory.h"
#include "engine/resume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TAGS_SPARE 64u /* room kept ready, so that a group can end when memory is short */
#define PLACES_MIN 32u /* of a shard, however low the descriptor limit is */
#define FILES_OF_OTHERS 64u /* normal descriptors left to the rest of the process */

/* ---- options ---------------------------------------------------------------------------- */

static int option_fault(char *why, const char *name, const char *allowed)
{
	if (why != NULL)
		snprintf(why, PH_WHY_BYTES, "option %s: %s", name, allowed);
	return -EINVAL;
}

static void option_default(uint32_t *value, uint32_t standard)
{
	if (*value == 0)
		*value = standard;
}

/* The largest value of a limit; it may be PH_LIMIT_NONE but for those of one connection. */
static bool limit_is_good(enum ph_limit limit, uint64_t value)
{
	switch (limit) {
	case PH_LIMIT_MESSAGE_BYTES:
		return value <= PH_MESSAGE_BYTES_MAX;
	case PH_LIMIT_SEND_QUEUE:
		return value >= 1024 && value <= 1u << 30;
	case PH_LIMIT_HANDSHAKE_SHARE:
		return value <= 100 || value == PH_LIMIT_NONE;
	default:
		return true;
	}
}

/* Two limits have options of their own, older ones; the newer form wins. */
static int limits_fill(struct ph_options *options, char *why)
{
	uint64_t *limits = options->limits;

	if (limits[PH_LIMIT_MESSAGE_BYTES] == 0)
		limits[PH_LIMIT_MESSAGE_BYTES] = options->message_bytes_max;
	if (limits[PH_LIMIT_SEND_QUEUE] == 0)
		limits[PH_LIMIT_SEND_QUEUE] = options->send_queue_bytes;
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		if (!limit_is_good((enum ph_limit)i, limits[i]))
			return option_fault(why, ph_limit_name((enum ph_limit)i),
				"a limit that is out of its range");
	options->message_bytes_max = (uint32_t)limits[PH_LIMIT_MESSAGE_BYTES];
	options->send_queue_bytes = (uint32_t)limits[PH_LIMIT_SEND_QUEUE];
	return 0;
}

static int options_fill(struct ph_options *options, char *why)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	option_default(&options->shard_count,
		online < 1			       ? 1
			: online > (long)PH_SHARDS_MAX ? PH_SHARDS_MAX
						       : (uint32_t)online);
	option_default(&options->connections_per_shard, 19968);
	option_default(&options->handshakes_per_shard, 1024);
	option_default(&options->receive_buffer_count, 2048);
	option_default(&options->receive_buffer_bytes, 4096);
	option_default(&options->send_queue_bytes, 1u << 20);
	option_default(&options->message_bytes_max, PH_MESSAGE_BYTES_MAX);
	if (options->reassembly_bytes_max == 0)
		options->reassembly_bytes_max = 1ull << 30;
	option_default(&options->socket_send_bytes, 256u << 10);
	option_default(&options->socket_receive_bytes, 256u << 10);
	option_default(&options->timeout_connect_ms, 20000);
	option_default(&options->timeout_handshake_ms, 20000);
	option_default(&options->timeout_welcome_ms, 60000);
	option_default(&options->timeout_close_ms, 5000);
	option_default(&options->ping_interval_ms, 30000);
	option_default(&options->timeout_dead_ms, 120000);
	option_default(&options->receipts_per_shard, 1024);
	option_default(&options->resumptions_max, 16384);
	option_default(&options->retry_after_ms, 2000);
	option_default(&options->slow_ms, 10000);
	if (options->shard_count > PH_SHARDS_MAX)
		return option_fault(why, "shard_count", "1 to 64");
	if (options->connections_per_shard < 2 || options->connections_per_shard > PH_SLOTS_MAX)
		return option_fault(why, "connections_per_shard", "2 to 16,777,216");
	if ((options->receive_buffer_count & (options->receive_buffer_count - 1)) != 0 ||
		options->receive_buffer_count > 32768)
		return option_fault(why, "receive_buffer_count", "a power of two up to 32,768");
	if (options->receive_buffer_bytes < 64 || options->receive_buffer_bytes > 1u << 20)
		return option_fault(why, "receive_buffer_bytes", "64 to 1,048,576");
	if (options->send_queue_bytes < 1024 || options->send_queue_bytes > 1u << 30)
		return option_fault(why, "send_queue_bytes", "1,024 to 1,073,741,824");
	if (options->message_bytes_max > PH_MESSAGE_BYTES_MAX)
		return option_fault(why, "message_bytes_max", "at most 67,108,864");
	if (options->socket_send_bytes > 1u << 30 || options->socket_receive_bytes > 1u << 30)
		return option_fault(
			why, "socket_send_bytes and socket_receive_bytes", "at most 1,073,741,824");
	if (options->receipts_per_shard > 1u << 20)
		return option_fault(why, "receipts_per_shard", "at most 1,048,576");
	if (options->resumptions_max > 1u << 24)
		return option_fault(why, "resumptions_max", "at most 16,777,216");
	if (options->duplicates > PH_DUPLICATES_OLDEST)
		return option_fault(why, "duplicates", "one of PH_DUPLICATES_*");
	if (options->slow > PH_SLOW_DROP)
		return option_fault(why, "slow", "one of PH_SLOW_*");
	return limits_fill(options, why);
}

/* The kernel wants a table of direct descriptors within the limit. */
static bool direct_table_fits(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
		limit.rlim_max >= SHARD_FILES_SPARE + PLACES_MIN;
}

/* What the descriptor limit allows: a table per shard with direct descriptors, else one for all. */
static void options_clamp(struct ph_options *options, bool direct)
{
	struct rlimit limit;
	uint64_t most;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max == RLIM_INFINITY)
		return;
	if (direct)
		most = limit.rlim_max;
	else
		most = limit.rlim_max > FILES_OF_OTHERS
			? (limit.rlim_max - FILES_OF_OTHERS) / options->shard_count
			: 0;
	/* Those held behind a pause have descriptors, too. */
	most = most > SHARD_FILES_SPARE + PLACES_MIN ? most - SHARD_FILES_SPARE : PLACES_MIN;
	if (options->connections_per_shard > most)
		options->connections_per_shard = (uint32_t)most;
}

/* ---- threads ---------------------------------------------------------------------------- */

static void *shard_main(void *context)
{
	struct shard *shard = context;
	char name[16];

	/* By itself: another thread's name is a file in /proc, which a confined program does not write. */
	snprintf(name, sizeof(name), "ph-shard-%u", shard->index % 1000);
	(void)pthread_setname_np(pthread_self(), name);
	memory_arena_begin();
	shard->start_status = shard_begin(shard);
	sem_post(&shard->started);
	if (shard->start_status == 0) {
		do
			shard_turn(shard, true);
		while (!shard_is_done(shard));
		/* A callback on another shard may still be at work and post to us (the end of a listener): only
		 * when all are done is this the last of our mail. */
		sem_post(&shard->hub->quiet);
		while (!shard->released)
			shard_turn(shard, true);
		shard_end(shard);
	}
	shard_self_set(NULL);
	memory_arena_end();
	return NULL;
}

static int shard_launch(struct shard *shard)
{
	int status;

	if (sem_init(&shard->started, 0, 0) < 0)
		return -errno;
	status = pthread_create(&shard->thread, NULL, shard_main, shard);
	if (status != 0) {
		sem_destroy(&shard->started);
		return -status;
	}
	while (sem_wait(&shard->started) < 0)
		;
	sem_destroy(&shard->started);
	if (shard->start_status < 0)
		pthread_join(shard->thread, NULL);
	return shard->start_status;
}

static void start_fault(char *why, int status)
{
	if (why == NULL)
		return;
	if (status == -ENOMEM)
		snprintf(why, PH_WHY_BYTES,
			"a shard could not start: out of memory, or RLIMIT_MEMLOCK (ulimit -l) is too "
			"small for its ring");
	else if (status == -EMFILE)
		snprintf(why, PH_WHY_BYTES,
			"a shard could not start: RLIMIT_NOFILE (ulimit -n) is too small for its "
			"connections");
	else
		snprintf(why, PH_WHY_BYTES, "a shard could not start: %s", strerror(-status));
}

static void hub_stop_shards(struct ph_hub *hub, uint32_t count, enum ph_how how)
{
	atomic_store(&hub->stopping, true);
	for (uint32_t i = 0; i < count; i++) {
		hub->shards[i]->stop_how = how;
		shard_post(hub->shards[i]->home, &hub->shards[i]->stop_command);
	}
	for (uint32_t i = 0; i < count; i++)
		while (sem_wait(&hub->quiet) < 0)
			;
	for (uint32_t i = 0; i < count; i++)
		shard_post(hub->shards[i]->home, &hub->shards[i]->release_command);
	for (uint32_t i = 0; i < count; i++)
		pthread_join(hub->shards[i]->thread, NULL);
}

static void hub_destroy(struct ph_hub *hub)
{
	for (uint32_t i = 0; i < hub->shard_count; i++)
		shard_destroy(hub->shards[i]);
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		sem_destroy(&hub->listeners[i].done);
	sem_destroy(&hub->quiet);
	limits_destroy(hub->limits);
	resume_destroy(hub->resume);
	memory_free(hub->tags_ended);
	pthread_mutex_destroy(&hub->lock);
	memory_free(hub);
}

static int hub_limits_create(struct ph_hub *hub)
{
	const struct ph_options *options = &hub->options;
	struct limits_options limits = {
		.values = options->limits,
		.connections = (uint64_t)options->shard_count * options->connections_per_shard,
		.reassembly_bytes = &hub->reassembly_bytes,
		.twins = options->duplicates == PH_DUPLICATES_OLDEST,
	};

	return limits_create(&limits, &hub->limits);
}

int ph_hub_start(const struct ph_options *options, const struct ph_callbacks *callbacks,
	struct ph_hub **out, char *why)
{
	char text[PH_WHY_BYTES] = "";
	struct ph_hub *hub;
	uint32_t started = 0;
	int status;

	if (why != NULL)
		why[0] = '\0';
	if (out == NULL || callbacks == NULL)
		return option_fault(why, "callbacks and hub", "must not be NULL");
	*out = NULL;
	if (options != NULL && options->size != 0 && options->size != sizeof(*options))
		return option_fault(why, "size", "must be sizeof(struct ph_options)");
	hub = memory_zalloc(sizeof(*hub));
	if (hub == NULL)
		return -ENOMEM;
	if (options != NULL)
		hub->options = *options;
	hub->callbacks = *callbacks;
	pthread_mutex_init(&hub->lock, NULL);
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		sem_init(&hub->listeners[i].done, 0, 0);
	sem_init(&hub->quiet, 0, 0);
	status = options_fill(&hub->options, why);
	if (status < 0)
		goto undo_hub;
	status = digest_init();
	if (status < 0)
		goto undo_hub;
	status = ring_probe(&hub->features, text);
	if (status < 0) {
		if (why != NULL)
			memcpy(why, text, sizeof(text));
		goto undo_hub;
	}
	if ((hub->options.flags & PH_HUB_NO_DIRECT_DESCRIPTORS) || !direct_table_fits())
		hub->features.direct = false;
	options_clamp(&hub->options, hub->features.direct);
	status = hub_limits_create(hub);
	if (status < 0)
		goto undo_hub;
	hub->tags_capacity = 4 * TAGS_SPARE;
	hub->tags_ended = memory_alloc(hub->tags_capacity * sizeof(*hub->tags_ended));
	if (hub->tags_ended == NULL) {
		status = -ENOMEM;
		goto undo_hub;
	}
	if (hub->options.flags & PH_HUB_RESUME) {
		hub->resume = resume_create(hub->options.resumptions_max);
		if (hub->resume == NULL) {
			status = -ENOMEM;
			goto undo_hub;
		}
	}
	for (uint32_t i = 0; i < hub->options.shard_count; i++) {
		status = shard_create(hub, i, &hub->shards[i]);
		if (status < 0) {
			start_fault(why, status);
			goto undo_hub;
		}
		hub->shard_count++;
	}
	for (started = 0; started < hub->shard_count; started++) {
		status = shard_launch(hub->shards[started]);
		if (status < 0) {
			start_fault(why, status);
			goto undo_shards;
		}
	}
	*out = hub;
	return 0;

undo_shards:
	hub_stop_shards(hub, started, PH_ABORT);
undo_hub:
	hub_destroy(hub);
	return status;
}

int ph_hub_stop(struct ph_hub *hub, enum ph_how how)
{
	if (shard_self() != NULL)
		return -EDEADLK;
	hub_stop_shards(hub, hub->shard_count, how);
	hub_destroy(hub);
	return 0;
}

/* ---- ended tags ------------------------------------------------------------------------- */

/* Where the tag stands or would stand. */
static size_t tags_find(const struct ph_hub *hub, uint64_t tag)
{
	size_t low = 0, high = hub->tags_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (hub->tags_ended[middle] < tag)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool hub_tag_has_ended(struct ph_hub *hub, uint64_t tag)
{
	size_t at;
	bool ended;

	pthread_mutex_lock(&hub->lock);
	at = tags_find(hub, tag);
	ended = at < hub->tags_count && hub->tags_ended[at] == tag;
	pthread_mutex_unlock(&hub->lock);
	return ended;
}

static int tags_add(struct ph_hub *hub, uint64_t tag)
{
	size_t at;
	int status = 0;

	pthread_mutex_lock(&hub->lock);
	at = tags_find(hub, tag);
	if (at < hub->tags_count && hub->tags_ended[at] == tag)
		goto out;
	if (hub->tags_capacity - hub->tags_count <= TAGS_SPARE) {
		uint64_t *grown = memory_realloc(
			hub->tags_ended, hub->tags_capacity * 2 * sizeof(*hub->tags_ended));

		if (grown != NULL) {
			hub->tags_ended = grown;
			hub->tags_capacity *= 2;
		} else if (hub->tags_count == hub->tags_capacity) {
			status = -ENOMEM;
			goto out;
		}
	}
	memmove(&hub->tags_ended[at + 1], &hub->tags_ended[at],
		(hub->tags_count - at) * sizeof(*hub->tags_ended));
	hub->tags_ended[at] = tag;
	hub->tags_count++;
out:
	pthread_mutex_unlock(&hub->lock);
	return status;
}

int ph_tag_end(struct ph_hub *hub, uint64_t tag, enum ph_how how, uint32_t reason)
{
	int status = tags_add(hub, tag);

	if (status < 0)
		return status;
	if (hub->resume != NULL)
		(void)resume_drop_tag(hub->resume, tag);
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		struct shard *shard = hub->shards[i];

		for (uint32_t index = 0; index < shard->slot_count; index++) {
			struct slot *slot = &shard->slots[index];
			uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);

			/* What is closing already is left to its own end: an abort here must not take back
			 * what an earlier graceful close has promised. */
			if ((slot_word_state(word) != SLOT_OPENING &&
				    slot_word_state(word) != SLOT_OPEN) ||
				(word & SLOT_CLOSE))
				continue;
			if (atomic_load_explicit(&slot->tag, memory_order_relaxed) != tag)
				continue;
			(void)hub_close(shard->home, index, slot_word_generation(word), tag, how,
				reason != 0 ? reason : PH_REASON_LOCAL_GROUP_END, NULL);
		}
	}
	return 0;
}

uint64_t ph_resume_drop(struct ph_hub *hub, const struct ph_resume_filter *filter)
{
	return hub->resume != NULL ? resume_drop(hub->resume, filter) : 0;
}

/* ---- limits ----------------------------------------------------------------------------- */

int ph_limits_set(struct ph_hub *hub, const uint64_t limits[PH_LIMIT_COUNT])
{
	uint64_t values[PH_LIMIT_COUNT];
	int status;

	memcpy(values, limits, sizeof(values));
	if (values[PH_LIMIT_MESSAGE_BYTES] == 0)
		values[PH_LIMIT_MESSAGE_BYTES] = hub->options.message_bytes_max;
	if (values[PH_LIMIT_SEND_QUEUE] == 0)
		values[PH_LIMIT_SEND_QUEUE] = hub->options.send_queue_bytes;
	for (int i = 0; i < PH_LIMIT_COUNT; i++)
		if (!limit_is_good((enum ph_limit)i, values[i]))
			return -EINVAL;
	status = limits_set(hub->limits, values);
	if (status < 0)
		return status;
	for (uint32_t i = 0; i < hub->shard_count; i++)
		atomic_store_explicit(&hub->shards[i]->home->send_queue_bytes,
			(uint32_t)values[PH_LIMIT_SEND_QUEUE], memory_order_relaxed);
	return 0;
}

void ph_limits_read(struct ph_hub *hub, struct ph_limit_state states[PH_LIMIT_COUNT])
{
	limits_read(hub->limits, states);
}

/* ---- looking in ------------------------------------------------------------------------- */

void ph_stats(struct ph_hub *hub, struct ph_statistics *stats)
{
	memset(stats, 0, sizeof(*stats));
	for (uint32_t i = 0; i < hub->shard_count; i++) {
		struct shard *shard = hub->shards[i];
		uint64_t loop_ns_max = stats->loop_ns_max;
		uint64_t value;

#define STATS_ADD(name)                                                                       \
	value = atomic_load_explicit(&shard->counters[COUNTER_##name], memory_order_relaxed); \
	stats->name += value;
		PH_COUNTERS(STATS_ADD)
#undef STATS_ADD
		value = atomic_load_explicit(
			&shard->counters[COUNTER_loop_ns_max], memory_order_relaxed);
		stats->loop_ns_max = value > loop_ns_max ? value : loop_ns_max;
		stats->wakes +=
			atomic_load_explicit(&shard->home->mailbox.wakes, memory_order_relaxed);
		stats->live += atomic_load_explicit(&shard->live, memory_order_relaxed);
		stats->open += atomic_load_explicit(&shard->open, memory_order_relaxed);
		stats->slots += atomic_load_explicit(&shard->slots_usable, memory_order_relaxed);
	}
	stats->handshakes = stats->live > stats->open ? stats->live - stats->open : 0;
	stats->shards = hub->shard_count;
}

uint32_t ph_receipts(struct ph_hub *hub, struct ph_receipt *receipts, uint32_t count_max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < hub->shard_count && count < count_max; i++)
		count += history_read(hub->shards[i]->history, receipts + count, count_max - count);
	return count;
}

const char *ph_features(struct ph_hub *hub)
{
	return hub->features.text;
}

static ssize_t dump_write(void *cookie, const char *data, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t here = write(*(const int *)cookie, data + done, bytes - done);

		if (here < 0 && errno == EINTR)
			continue;
		if (here <= 0)
			return 0; /* the stream's word for an error */
		done += (size_t)here;
	}
	return (ssize_t)bytes;
}

/* It is asked for when something is wrong, perhaps that no descriptor is left: so it takes none. */
void ph_hub_dump(struct ph_hub *hub, int fd)
{
	FILE *out = fopencookie(&fd, "w", (cookie_io_functions_t){.write = dump_write});

	if (out == NULL)
		return;
	fprintf(out, "hub shards %u stopping %d reassembly_bytes %" PRIu64 "\n%s", hub->shard_count,
		atomic_load(&hub->stopping), atomic_load(&hub->reassembly_bytes),
		hub->features.text);
	for (uint32_t i = 0; i < hub->shard_count; i++)
		shard_dump(hub->shards[i], out);
	fclose(out);
}
