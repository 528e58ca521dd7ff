/*
 * Open/close cycles; see cycles.h. One driver thread opens, looks at a fixed window of connections and
 * ends each as its plan says; callbacks on the shards end the others. The accepting side makes mischief of
 * its own (refuses, closes at once), so that every plan also meets an end that came from elsewhere.
 */
#include "tests/leak/cycles.h"

#include "stress/random.h"
#include "tests/engine/test_certs.h"
#include "tests/leak/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HUBS 2u
#define SHARDS 2u
#define SLOTS 512u /* of a shard: few, so that generations go up and every page is known early */
#define WINDOW 256u
#define ADDRESSES 6u /* of each listener kind: a port pair in TIME_WAIT cannot be used again */
#define BATCH 16u /* connections that one tag end or one close_where ends together */
#define LOAD_BYTES 16384u
#define LOAD_MESSAGES 4u
#define STALL_NS 60000000000u
#define REST_MS 30000u
#define PROGRESS_NS 5000000000u
#define TAG_ACCEPTED 1u
#define GROUP "0.leak"

/* How a cycle is meant to end. */
#define PLANS(X)                               \
	X(GRACEFUL, "graceful")                \
	X(ABORT, "abort")                      \
	X(UPGRADE, "graceful, then abort")     \
	X(HANDSHAKE, "while opening")          \
	X(REMOTE_GRACEFUL, "remote, graceful") \
	X(REMOTE_ABORT, "remote, abort")       \
	X(IN_OPEN, "inside on_open")           \
	X(IN_DATA, "inside on_data")           \
	X(GROUP_END, "group end")              \
	X(WHERE, "close_where")                \
	X(NOBODY, "nobody listens")            \
	X(LOADED, "graceful, data queued")

enum plan {
#define PLAN_INDEX(name, text) PLAN_##name,
	PLANS(PLAN_INDEX)
#undef PLAN_INDEX
	PLAN_COUNT,
};

enum cycle_state {
	CYCLE_IDLE,
	CYCLE_DIALLING,
	CYCLE_OPEN,
	CYCLE_ENDED,
};

/* One place of the window. The driver owns it but for `state` and `finals`, which callbacks advance. */
struct cycle {
	_Atomic uint32_t state;
	_Atomic uint32_t finals; /* on_closed of the present id */
	uint64_t id, tag;
	uint32_t hub; /* that dials */
	uint8_t plan, framing;
	bool closed_by_us; /* the driver has asked; what follows is the engine's */
};

struct side {
	struct cycles *cycles;
	struct ph_hub *hub;
	uint32_t index;
	ph_address addresses[2][2][ADDRESSES]; /* [framing][tls] */
	uint64_t tag_group, tag_where; /* of the batch being gathered */
	uint32_t in_group, in_where;
	_Atomic uint64_t closed; /* on_closed, both kinds */
	_Atomic uint64_t bytes; /* that on_data saw */
};

struct cycles {
	struct side sides[HUBS];
	struct cycle window[WINDOW];
	struct ph_credentials *credentials;
	ph_address nobody;
	uint64_t seed, tag_last;
	uint64_t begun, ended, refused_full;
	uint64_t planned[PLAN_COUNT];
	struct random random; /* the driver's */
	_Atomic uint32_t threads; /* that have drawn a random stream */
	_Atomic uint32_t faults;
	uint8_t load[LOAD_BYTES];
};

static const uint8_t message_type[16] = "leak-cycle-type";
static _Thread_local struct random thread_random;
static _Thread_local bool thread_random_begun;

static struct random *random_of(struct cycles *cycles)
{
	if (!thread_random_begun) {
		thread_random_begun = true;
		random_init(
			&thread_random, cycles->seed, 1 + atomic_fetch_add(&cycles->threads, 1));
	}
	return &thread_random;
}

static void fault(struct cycles *cycles, const char *what, uint64_t id)
{
	if (atomic_fetch_add(&cycles->faults, 1) < 10)
		fprintf(stderr, "leak: %s: id %016" PRIx64 "\n", what, id);
}

/* ---- callbacks ----------------------------------------------------------------------------- */

static int say(uint64_t id, uint64_t tag, const void *data, size_t bytes)
{
	const struct ph_part part = {.data = data, .bytes = bytes};

	return ph_send(id, tag, message_type, &part, 1);
}

static enum ph_how any_how(struct cycles *cycles)
{
	return random_below(random_of(cycles), 2) == 0 ? PH_GRACEFUL : PH_ABORT;
}

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	struct side *side = hub_user;

	(void)sni;
	if (random_permille(random_of(side->cycles), 10))
		return -EACCES;
	answer->credentials = ph_credentials_get(side->cycles->credentials);
	strcpy(answer->group, GROUP);
	strcpy(answer->identity, GROUP);
	return 0;
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct side *side = hub_user;

	(void)id, (void)sni, (void)expected, (void)chain;
	if (random_permille(random_of(side->cycles), 10))
		return -EACCES;
	strcpy(verdict->group, GROUP);
	strcpy(verdict->identity, GROUP);
	if (accepted) {
		verdict->tag = TAG_ACCEPTED;
		verdict->user = NULL;
	}
	return 0;
}

static enum ph_refuse on_connect(void *hub_user, uint64_t id, uint64_t tag, void *user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	struct side *side = hub_user;

	(void)id, (void)tag, (void)user, (void)info, (void)answer;
	return random_permille(random_of(side->cycles), 10) ? PH_REFUSE_BUSY : PH_ACCEPT;
}

static void dialled_open(struct cycles *cycles, struct cycle *cycle, uint64_t id)
{
	static const char commands[PLAN_COUNT] = {
		[PLAN_REMOTE_GRACEFUL] = 'g', [PLAN_REMOTE_ABORT] = 'a', [PLAN_IN_DATA] = 'e'};
	char command = commands[cycle->plan];

	/* It may end under our hands, so that nothing but a breach of the contract is an error here. */
	if (command != 0)
		(void)!say(id, cycle->tag, &command, 1);
	for (uint32_t i = 0; cycle->plan == PLAN_LOADED && i < LOAD_MESSAGES; i++)
		(void)!say(id, cycle->tag, cycles->load, LOAD_BYTES);
	if (cycle->plan == PLAN_IN_OPEN)
		(void)ph_close(id, cycle->tag, any_how(cycles), 0, NULL);
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct side *side = hub_user;
	struct cycle *cycle = user;
	uint32_t expected = CYCLE_DIALLING;

	if (info->accepted) {
		if (random_permille(random_of(side->cycles), 60))
			(void)ph_close(id, TAG_ACCEPTED, any_how(side->cycles), 0, "mischief");
		return;
	}
	if (!atomic_compare_exchange_strong(&cycle->state, &expected, CYCLE_OPEN))
		fault(side->cycles, "on_open of a connection that is not opening", id);
	dialled_open(side->cycles, cycle, id);
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct side *side = hub_user;
	struct cycle *cycle = user;

	(void)type;
	atomic_fetch_add_explicit(&side->bytes, bytes, memory_order_relaxed);
	if (cycle != NULL) {
		if (cycle->plan == PLAN_IN_DATA)
			(void)ph_close(id, cycle->tag, any_how(side->cycles), 0, NULL);
		return 0;
	}
	/* One byte is a command, the load is none: its first byte is 0. */
	if (bytes > 0 && data[0] == 'e')
		(void)!say(id, TAG_ACCEPTED, data, bytes);
	if (bytes > 0 && (data[0] == 'g' || data[0] == 'a'))
		(void)ph_close(id, TAG_ACCEPTED, data[0] == 'g' ? PH_GRACEFUL : PH_ABORT, 0, NULL);
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct side *side = hub_user;
	struct cycle *cycle = user;

	atomic_fetch_add(&side->closed, 1);
	if (receipt->accepted)
		return;
	if (receipt->id != id || id != cycle->id)
		fault(side->cycles, "on_closed of a stranger", id);
	if (atomic_fetch_add(&cycle->finals, 1) != 0)
		fault(side->cycles, "a second on_closed", id);
	atomic_store(&cycle->state, CYCLE_ENDED);
}

static const struct ph_callbacks callbacks = {
	.on_hello = on_hello,
	.on_verify = on_verify,
	.on_connect = on_connect,
	.on_open = on_open,
	.on_data = on_data,
	.on_closed = on_closed,
};

/* ---- hubs ---------------------------------------------------------------------------------- */

static int side_listen(struct side *side)
{
	for (uint32_t kind = 0; kind < 2 * 2 * ADDRESSES; kind++) {
		struct ph_listen_options options = {.tag = TAG_ACCEPTED};
		uint32_t framing = kind % 2, tls = kind / 2 % 2, place = kind / 4;
		char text[PH_ADDRESS_TEXT_BYTES];
		int status;

		options.framing = framing == 0 ? PH_FRAMING_MESSAGE : PH_FRAMING_RAW;
		options.tls = tls == 0 ? PH_TLS_NONE : PH_TLS_MUTUAL;
		snprintf(text, sizeof(text), "127.0.%u.%u:0", side->index + 1, kind + 1);
		status = ph_address_parse(text, &options.address);
		if (status == 0)
			status = ph_listen(
				side->hub, &options, &side->addresses[framing][tls][place]);
		if (status < 0) {
			fprintf(stderr, "leak: cannot listen on %s: %s\n", text, strerror(-status));
			return status;
		}
	}
	return 0;
}

static int side_start(struct cycles *cycles, uint32_t index)
{
	struct side *side = &cycles->sides[index];
	struct ph_options options = {
		.size = sizeof(options),
		.shard_count = SHARDS,
		.connections_per_shard = SLOTS,
		.receive_buffer_count = 256,
		.receipts_per_shard = 64,
		.timeout_connect_ms = 20000,
		.timeout_close_ms = 3000,
		.user = side,
	};
	char why[PH_WHY_BYTES];
	int status;

	side->cycles = cycles;
	side->index = index;
	side->tag_group = ++cycles->tag_last;
	side->tag_where = ++cycles->tag_last;
	status = ph_hub_start(&options, &callbacks, &side->hub, why);
	if (status < 0) {
		fprintf(stderr, "leak: cannot start: %s\n", why);
		return status;
	}
	return side_listen(side);
}

int cycles_start(uint64_t seed, struct cycles **out)
{
	struct cycles *cycles = calloc(1, sizeof(*cycles));
	int status = 0;

	*out = cycles;
	if (cycles == NULL)
		return -ENOMEM;
	cycles->seed = seed;
	cycles->tag_last = 100;
	random_init(&cycles->random, seed, 0);
	cycles->credentials = test_identity_create(TEST_P256, "leak");
	for (uint32_t i = 0; i < HUBS && status == 0; i++)
		status = side_start(cycles, i);
	/* A port just given back and, on that address, never ours again: connects to it are refused. */
	if (status == 0)
		status = ph_address_parse("127.0.3.1:1", &cycles->nobody);
	return status;
}

int cycles_stop(struct cycles *cycles)
{
	int status = 0;

	if (cycles == NULL)
		return 0;
	for (uint32_t i = 0; i < HUBS; i++)
		if (cycles->sides[i].hub != NULL &&
			ph_hub_stop(cycles->sides[i].hub, PH_GRACEFUL) < 0)
			status = -EPROTO;
	ph_credentials_put(cycles->credentials);
	free(cycles);
	return status;
}

/* ---- one cycle ----------------------------------------------------------------------------- */

static uint64_t tag_of(struct side *side, uint8_t plan)
{
	if (plan == PLAN_GROUP_END)
		return side->tag_group;
	return plan == PLAN_WHERE ? side->tag_where : 50;
}

/* 0, or what ph_open answered: -EMFILE when the table is full for the moment. */
static int cycle_begin(struct cycles *cycles, struct cycle *cycle, uint32_t tls_permille)
{
	struct random *random = &cycles->random;
	struct side *side, *other;
	struct ph_open_options options = {.kind = PH_KIND_DIRECT,
		.group = GROUP,
		.source = GROUP,
		.sni = "leak",
		.user = cycle};
	uint32_t framing = random_below(random, 2);
	uint32_t tls = random_permille(random, tls_permille);
	int status;

	cycle->hub = random_below(random, HUBS);
	cycle->plan = (uint8_t)random_below(random, PLAN_COUNT);
	/* A refused connect costs next to nothing, and no slot of the other side. */
	if (cycle->plan == PLAN_NOBODY && random_below(random, 4) != 0)
		cycle->plan = PLAN_GRACEFUL;
	side = &cycles->sides[cycle->hub];
	other = &cycles->sides[1 - cycle->hub];
	cycle->tag = tag_of(side, cycle->plan);
	cycle->closed_by_us = false;
	options.framing = framing == 0 ? PH_FRAMING_MESSAGE : PH_FRAMING_RAW;
	options.tls = tls == 0 ? PH_TLS_NONE : PH_TLS_MUTUAL;
	options.credentials = tls == 0 ? NULL : cycles->credentials;
	options.address = cycle->plan == PLAN_NOBODY
		? cycles->nobody
		: other->addresses[framing][tls][random_below(random, ADDRESSES)];
	options.tag = cycle->tag;
	atomic_store(&cycle->finals, 0);
	atomic_store(&cycle->state, CYCLE_DIALLING);
	status = ph_open(side->hub, &options, &cycle->id);
	if (status < 0) {
		atomic_store(&cycle->state, CYCLE_IDLE);
		return status;
	}
	cycles->begun++;
	cycles->planned[cycle->plan]++;
	side->in_group += cycle->plan == PLAN_GROUP_END;
	side->in_where += cycle->plan == PLAN_WHERE;
	return 0;
}

static void cycle_close(struct cycles *cycles, struct cycle *cycle, enum ph_how how)
{
	int status = ph_close(cycle->id, cycle->tag, how, 0, NULL);

	cycle->closed_by_us = true;
	if (status != 0 && status != -ENOENT && status != -EALREADY)
		fault(cycles, "ph_close answered nonsense", cycle->id);
}

/* The dead id is tried in every way: nobody may answer to it, whoever has its slot now. */
static void cycle_after(struct cycles *cycles, struct cycle *cycle)
{
	uint64_t id = cycle->id, tag = cycle->tag;

	if (atomic_load(&cycle->finals) != 1)
		fault(cycles, "not exactly one on_closed", id);
	if (ph_close(id, tag, PH_ABORT, 0, NULL) != -ENOENT || say(id, tag, "x", 1) != -ENOENT ||
		ph_pause(id, tag) != -ENOENT || ph_resume(id, tag) != -ENOENT)
		fault(cycles, "a dead id answers", id);
	atomic_store(&cycle->state, CYCLE_IDLE);
	cycles->ended++;
}

static void cycle_step(struct cycles *cycles, struct cycle *cycle)
{
	uint32_t state = atomic_load(&cycle->state);

	if (state == CYCLE_ENDED) {
		cycle_after(cycles, cycle);
		return;
	}
	if (state == CYCLE_IDLE || cycle->closed_by_us)
		return;
	switch ((enum plan)cycle->plan) {
	case PLAN_HANDSHAKE:
		if (random_below(&cycles->random, 3) == 0)
			cycle_close(cycles, cycle, (enum ph_how)random_below(&cycles->random, 2));
		break;
	case PLAN_GRACEFUL:
	case PLAN_LOADED:
		if (state == CYCLE_OPEN)
			cycle_close(cycles, cycle, PH_GRACEFUL);
		break;
	case PLAN_ABORT:
		if (state == CYCLE_OPEN)
			cycle_close(cycles, cycle, PH_ABORT);
		break;
	case PLAN_UPGRADE:
		if (state == CYCLE_OPEN) {
			cycle_close(cycles, cycle, PH_GRACEFUL);
			cycle_close(cycles, cycle, PH_ABORT);
		}
		break;
	default:
		break; /* somebody else ends it */
	}
}

/* ---- batches ------------------------------------------------------------------------------- */

static void batch_group(struct cycles *cycles, struct side *side)
{
	uint64_t tag = side->tag_group;

	side->tag_group = ++cycles->tag_last;
	side->in_group = 0;
	if (ph_tag_end(side->hub, tag, (enum ph_how)random_below(&cycles->random, 2), 0) != 0)
		fault(cycles, "ph_tag_end failed for tag", tag);
}

/* It ends those that are open; the others are opening still, and the next call finds them. */
static void batch_where(struct cycles *cycles, struct side *side)
{
	struct ph_filter filter = {.has_tag = 1, .tag = side->tag_where};
	uint32_t spread_ms = random_below(&cycles->random, 2) * 3;

	side->in_where = 0;
	if (ph_close_where(side->hub, &filter, (enum ph_how)random_below(&cycles->random, 2), 0, 0,
		    spread_ms) < 0)
		fault(cycles, "ph_close_where failed for tag", side->tag_where);
}

static void batches_step(struct cycles *cycles, bool is_last)
{
	for (uint32_t i = 0; i < HUBS; i++) {
		struct side *side = &cycles->sides[i];

		if (side->in_group >= BATCH || (is_last && side->in_group > 0))
			batch_group(cycles, side);
		if (side->in_where >= BATCH || is_last)
			batch_where(cycles, side);
	}
}

/* ---- run ----------------------------------------------------------------------------------- */

static void dump(struct cycles *cycles)
{
	for (uint32_t i = 0; i < HUBS; i++)
		ph_hub_dump(cycles->sides[i].hub, STDERR_FILENO);
	for (uint32_t i = 0; i < WINDOW; i++) {
		const struct cycle *cycle = &cycles->window[i];

		if (atomic_load(&cycle->state) != CYCLE_IDLE)
			fprintf(stderr, "leak: id %016" PRIx64 " plan %u state %u\n", cycle->id,
				cycle->plan, atomic_load(&cycle->state));
	}
}

/* One look at the whole window. Returns whether anything began or ended. */
static bool window_step(
	struct cycles *cycles, const struct cycles_options *options, uint64_t begun_max)
{
	uint64_t before = cycles->begun + cycles->ended;

	for (uint32_t i = 0; i < WINDOW; i++) {
		struct cycle *cycle = &cycles->window[i];

		cycle_step(cycles, cycle);
		if (atomic_load(&cycle->state) == CYCLE_IDLE && cycles->begun < begun_max) {
			int status = cycle_begin(cycles, cycle, options->tls_permille);

			if (status == -EMFILE)
				cycles->refused_full++;
			else if (status < 0)
				fault(cycles, strerror(-status), 0);
		}
	}
	batches_step(cycles, cycles->begun == begun_max);
	return cycles->begun + cycles->ended != before;
}

static void progress(const struct cycles_options *options, uint64_t done, uint64_t spent_ns)
{
	fprintf(stderr, "leak: %s: %" PRIu64 " of %" PRIu64 " cycles, %" PRIu64 " s, %.0f/s\n",
		options->name, done, options->count, spent_ns / 1000000000u,
		(double)done * 1e9 / (double)spent_ns);
}

int cycles_run(struct cycles *cycles, const struct cycles_options *options)
{
	const struct timespec pause = {.tv_nsec = 100000};
	uint64_t first = cycles->ended, begun_max = cycles->begun + options->count;
	uint64_t begin_ns = count_now_ns(), moved_ns = begin_ns, shown_ns = begin_ns, now_ns;
	uint64_t cpu_ns = count_cpu_ns(), spent_ns;

	while (cycles->ended < begun_max) {
		bool moved = window_step(cycles, options, begun_max);

		if (atomic_load(&cycles->faults) > 0)
			return -EPROTO;
		now_ns = count_now_ns();
		if (moved)
			moved_ns = now_ns;
		else
			nanosleep(&pause, NULL);
		if (now_ns - moved_ns > STALL_NS) {
			fprintf(stderr, "leak: nothing has ended for a minute\n");
			dump(cycles);
			return -ETIMEDOUT;
		}
		if (options->shows_progress && now_ns - shown_ns > PROGRESS_NS) {
			shown_ns = now_ns;
			progress(options, cycles->ended - first, now_ns - begin_ns);
		}
	}
	spent_ns = count_now_ns() - begin_ns;
	cpu_ns = count_cpu_ns() - cpu_ns;
	printf("%s: %" PRIu64 " cycles in %.1f s, %.0f cycles/s, %.1f us of CPU each (both ends)\n",
		options->name, options->count, (double)spent_ns / 1e9,
		(double)options->count * 1e9 / (double)spent_ns,
		options->count > 0 ? (double)cpu_ns / 1e3 / (double)options->count : 0);
	return 0;
}

static bool counters_agree(struct cycles *cycles)
{
	uint64_t dialled = 0;
	bool agree = true;

	for (uint32_t i = 0; i < HUBS; i++) {
		struct side *side = &cycles->sides[i];
		uint64_t closed = atomic_load(&side->closed);
		struct ph_statistics stats;

		ph_stats(side->hub, &stats);
		dialled += stats.dialled;
		if (stats.live != 0 || stats.open != 0 || stats.handshakes != 0 ||
			stats.accepted + stats.dialled != closed || stats.slots_retired != 0) {
			fprintf(stderr,
				"leak: hub %u: live %" PRIu64 " open %" PRIu64 " accepted %" PRIu64
				" dialled %" PRIu64 " closed events %" PRIu64 " retired %" PRIu64
				"\n",
				i, stats.live, stats.open, stats.accepted, stats.dialled, closed,
				stats.slots_retired);
			agree = false;
		}
	}
	if (dialled != cycles->begun) {
		fprintf(stderr, "leak: %" PRIu64 " begun, %" PRIu64 " dialled\n", cycles->begun,
			dialled);
		agree = false;
	}
	return agree;
}

int cycles_check_rest(struct cycles *cycles)
{
	char text[INSPECT_TEXT_BYTES];

	for (uint32_t i = 0; i < HUBS; i++) {
		int status = inspect_wait(cycles->sides[i].hub, REST_MS, text);

		if (status < 0) {
			fprintf(stderr, "leak: hub %u is not at rest: %s\n", i, text);
			dump(cycles);
			return status;
		}
	}
	return counters_agree(cycles) && atomic_load(&cycles->faults) == 0 ? 0 : -EPROTO;
}
