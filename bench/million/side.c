/*
 * A process of a run: one hub of the engine, a book of its connections, and the orders of the board.
 *
 * Each connection of the peers has a number, from which its peer name, its source address and every
 * byte of its message follow. The hub's process checks a message against its number and answers
 * with the same bytes turned around; the peer checks the answer. So a message that is counted as
 * verified was looked at byte by byte at both ends.
 *
 * The book has a record for each connection. The callbacks of its connection write it (one at a time,
 * on its shard), and the closing threads. At the end the records are audited: for each connection that
 * was open exactly one final event, and exactly one ph_close that answered 0 where this side closed.
 */
#include "bench/million/side.h"

#include "bench/million/inside.h"
#include "bench/million/pace.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TAG_ACCEPTED 2u
#define TAG_DIALLED 1u
#define GROUP "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567.million"
#define LOOK_NS 2000000 /* how often the orders are read */
#define CLOSE_BATCH 64u
#define CLOSE_DEADLINE_MS 120000u /* a quick close is not asked for but a clean one */
#define REDIALS_PER_THOUSAND 20u

struct record {
	_Atomic uint64_t id; /* 0: not open yet */
	_Atomic uint16_t wins; /* calls of ph_close that answered 0 */
	_Atomic uint8_t opened, closed;
	_Atomic uint32_t
		close_ms; /* when this side's ph_close won, since close_begin_ns, + 1; 0: not */
	uint32_t number; /* the hub: as the peer says; the peers: their own, less the first */
};

struct book {
	const struct plan *plan;
	const struct trust *trust;
	struct board *board;
	struct side *side;
	struct ph_hub *hub;
	struct record *records;
	size_t record_count, record_bytes;
	_Atomic uint64_t record_next; /* the hub: the next one unused */
	uint64_t first; /* the peers: the number of their record 0 */
	uint32_t slots;
	bool is_hub;
	_Atomic uint64_t ended; /* final events, of openings that failed too */
	pthread_mutex_t pace_lock; /* the two below */
	struct pace pace;
	size_t pace_at; /* all records before it have ended, or were never to be closed */
	_Atomic uint64_t close_slowest_ns; /* of the closes that ended since the last look */
	pthread_mutex_t lock; /* the two below */
	uint64_t *again; /* records whose opening failed */
	size_t again_count, again_max;
};

static const uint8_t message_type[16] = {0x6d, 0x69, 0x6c, 0x6c, 0x69, 0x6f, 0x6e};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void look_later(void)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};

	nanosleep(&pause, NULL);
}

static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- messages ---------------------------------------------------------------------------- */

/* Eight bytes of number, then bytes that follow from it. */
static void message_fill(uint8_t *message, uint32_t bytes, uint64_t number, bool answer)
{
	uint64_t word = number * 0x9e3779b97f4a7c15u + 1;

	memcpy(message, &number, sizeof(number));
	for (uint32_t at = 8; at < bytes; at++) {
		word ^= word << 13;
		word ^= word >> 7;
		word ^= word << 17;
		message[at] = (uint8_t)(answer ? ~word : word);
	}
}

static bool message_is(const uint8_t *message, uint32_t bytes, uint64_t number, bool answer)
{
	uint8_t expected[65536];

	message_fill(expected, bytes, number, answer);
	return memcmp(message, expected, bytes) == 0;
}

static int message_send(const struct book *book, uint64_t id, uint64_t number)
{
	uint8_t message[65536];
	const struct ph_part part = {.data = message, .bytes = book->plan->message_bytes};

	message_fill(message, book->plan->message_bytes, number, book->is_hub);
	return ph_send(id, book->is_hub ? TAG_ACCEPTED : TAG_DIALLED, message_type, &part, 1);
}

/* ---- names ------------------------------------------------------------------------------- */

static const struct trust_identity *identity_of(const struct book *book, uint64_t number)
{
	return &book->trust->peers[number % TRUST_PEERS];
}

/* A peer's name is its key's authority and, as the classifier, its number. */
static void name_write(char *name, const struct trust_identity *identity, uint64_t number)
{
	snprintf(name, PH_NAME_BYTES_MAX, "%s.m%" PRIu64, identity->authority, number);
}

static void hub_name_write(char *name, const struct book *book)
{
	snprintf(name, PH_NAME_BYTES_MAX, "%s.hub", book->trust->hub.authority);
}

/* The server name carries the number in front: nNUMBER.GROUP.p2p. */
static void sni_write(char *sni, size_t bytes, uint64_t number)
{
	snprintf(sni, bytes, "n%" PRIu64 "." GROUP ".p2p", number);
}

static bool sni_read(const char *sni, uint64_t *number)
{
	char *end;

	if (sni[0] != 'n')
		return false;
	*number = strtoull(sni + 1, &end, 10);
	return end != sni + 1 && strcmp(end, "." GROUP ".p2p") == 0;
}

/* ---- callbacks, on the shards ------------------------------------------------------------ */

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	const struct book *book = hub_user;
	uint64_t number;

	if (!sni_read(sni, &number))
		return -EACCES;
	answer->credentials = ph_credentials_get(book->trust->hub.credentials);
	snprintf(answer->group, sizeof(answer->group), "%s", GROUP);
	hub_name_write(answer->identity, book);
	return 0;
}

/* The hub: the next unused record becomes this connection's. */
static int record_claim(struct book *book, uint64_t number, struct ph_verdict *verdict)
{
	uint64_t at = atomic_fetch_add_explicit(&book->record_next, 1, memory_order_relaxed);

	if (at >= book->record_count)
		return -EMFILE;
	book->records[at].number = (uint32_t)number;
	verdict->tag = TAG_ACCEPTED;
	verdict->user = &book->records[at];
	return 0;
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct book *book = hub_user;
	const struct trust_identity *found = trust_find(book->trust, chain);
	uint64_t number = 0;

	(void)id, (void)expected;
	snprintf(verdict->group, sizeof(verdict->group), "%s", GROUP);
	if (book->plan->tls == PH_TLS_NONE) {
		if (book->plan->raw)
			verdict->group[0] = '\0';
		return accepted ? record_claim(book, 0, verdict) : 0;
	}
	if (found == NULL || !sni_read(sni, &number))
		return -EACCES;
	if (!accepted) {
		hub_name_write(verdict->identity, book);
		return found == &book->trust->hub ? 0 : -EACCES;
	}
	if (found != identity_of(book, number))
		return -EACCES;
	name_write(verdict->identity, found, number);
	return record_claim(book, number, verdict);
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct book *book = hub_user;
	struct record *record = user;

	(void)info;
	atomic_fetch_add(&record->opened, 1);
	atomic_store(&record->id, id);
	count(&book->side->opened);
	if (!book->is_hub && message_send(book, id, book->first + record->number) < 0)
		count(&book->side->spoiled);
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct book *book = hub_user;
	const struct record *record = user;
	uint64_t number = book->first + record->number;
	bool is_right = bytes == book->plan->message_bytes &&
		(type == NULL || memcmp(type, message_type, sizeof(message_type)) == 0);

	/* Without TLS nobody has told the hub the number but the message. */
	if (is_right && book->is_hub && book->plan->tls == PH_TLS_NONE)
		memcpy(&number, data, sizeof(number));
	is_right = is_right && message_is(data, book->plan->message_bytes, number, !book->is_hub);
	if (is_right && book->is_hub) {
		int status = message_send(book, id, number);

		if (status == -EAGAIN)
			return -EAGAIN;
		is_right = status == 0;
	}
	count(is_right ? &book->side->verified : &book->side->spoiled);
	return 0;
}

static void again_add(struct book *book, const struct record *record)
{
	pthread_mutex_lock(&book->lock);
	if (book->again_count < book->again_max)
		book->again[book->again_count++] = record->number;
	pthread_mutex_unlock(&book->lock);
}

/* For the pace: how long this one has taken. */
static void close_took(struct book *book, const struct record *record)
{
	uint32_t begun_ms = atomic_load(&record->close_ms);
	uint64_t took_ns, slowest;

	if (begun_ms == 0)
		return;
	took_ns = now_ns() - atomic_load(&book->side->close_begin_ns);
	took_ns = took_ns > begun_ms * 1000000ull ? took_ns - begun_ms * 1000000ull : 0;
	slowest = atomic_load(&book->close_slowest_ns);
	while (took_ns > slowest &&
		!atomic_compare_exchange_weak(&book->close_slowest_ns, &slowest, took_ns))
		continue;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct book *book = hub_user;
	struct record *record = user;

	(void)id;
	atomic_store_explicit(&book->side->closed_last_ns, now_ns(), memory_order_relaxed);
	if (receipt->was_open) {
		atomic_fetch_add(&record->closed, 1);
		close_took(book, record);
		if (receipt->how != PH_GRACEFUL)
			count(&book->side->resets);
		count(&book->side->closed);
	} else {
		count(&book->side->failed);
		if (!book->is_hub)
			again_add(book, record);
	}
	count(&book->ended);
}

static const struct ph_callbacks callbacks = {
	.on_hello = on_hello,
	.on_verify = on_verify,
	.on_open = on_open,
	.on_data = on_data,
	.on_closed = on_closed,
};

/* ---- life -------------------------------------------------------------------------------- */

static int side_fail(struct book *book, const char *what, int status)
{
	if (book->side->why[0] == '\0')
		snprintf(book->side->why, sizeof(book->side->why), "%s: %s", what,
			strerror(-status));
	atomic_store(&book->side->state, SIDE_FAILED);
	return status;
}

static int book_create(struct book *book)
{
	const struct plan *plan = book->plan;
	uint32_t peer = (uint32_t)(book->side - book->board->sides) - 1;
	uint64_t mine = book->is_hub ? plan->connections : plan_share(plan, peer);

	book->again_max = (size_t)(mine * REDIALS_PER_THOUSAND / 1000 + 64);
	/* The hub takes a new record for each connection that got as far as on_verify. */
	book->record_count = (size_t)(mine + (book->is_hub ? 4 * book->again_max : 0));
	book->record_bytes = book->record_count * sizeof(*book->records);
	book->first = book->is_hub ? 0 : plan_first(plan, peer);
	book->records = mmap(NULL, book->record_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	book->again = calloc(book->again_max, sizeof(*book->again));
	return book->records == MAP_FAILED || book->again == NULL ? -ENOMEM : 0;
}

static int hub_start(struct book *book)
{
	const struct plan *plan = book->plan;
	uint32_t peer = (uint32_t)(book->side - book->board->sides) - 1;
	uint32_t shards = book->is_hub ? plan->hub_shards : plan->peer_shards;
	struct ph_options options = {.size = sizeof(options)};
	struct ph_listen_options listen = {
		.framing = plan->raw ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE,
		.tls = plan->tls,
		.tag = TAG_ACCEPTED};
	int status;

	book->slots =
		plan_slots(plan, shards, book->is_hub ? plan->connections : plan_share(plan, peer));
	options.shard_count = shards;
	options.connections_per_shard = book->slots;
	options.receive_buffer_count = plan->receive_buffer_count != 0 ? plan->receive_buffer_count
		: shards > 8					       ? PLAN_RECEIVE_BYTES / 4096u
								       : 0;
	/* Idle connections ping each other: a million of them every 30 s would be the load itself. */
	options.ping_interval_ms = 3600u * 1000u;
	options.timeout_dead_ms = 3u * 3600u * 1000u;
	options.timeout_close_ms = CLOSE_DEADLINE_MS; /* pace.h keeps away from it */
	options.timeout_handshake_ms = 60000;
	options.flags = plan->fast_decode ? PH_HUB_TLS_FAST_DECODE : 0;
	options.user = book;
	status = ph_hub_start(&options, &callbacks, &book->hub, book->side->why);
	if (status < 0 || !book->is_hub)
		return status;
	status = ph_address_parse("127.0.0.1:0", &listen.address);
	if (status == 0)
		status = ph_listen(book->hub, &listen, &book->side->bound);
	return status < 0 ? status : 0;
}

static void cpu_note(struct side *side)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	atomic_store(&side->cpu_us,
		(uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
			(uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
}

/* What any process does between its own orders. False: end now. */
static bool orders_follow(struct book *book)
{
	uint32_t wanted = atomic_load(&book->board->sample_wanted);

	cpu_note(book->side);
	if (wanted != atomic_load(&book->side->sample_done)) {
		inside_sample(&book->side->inside, book->slots, book->records, book->record_bytes);
		atomic_store(&book->side->sample_done, wanted);
	}
	return !atomic_load(&book->board->abort_wanted) && !atomic_load(&book->board->stop_wanted);
}

/* ---- dialling ---------------------------------------------------------------------------- */

/* 127.0.0.1, .2, …: towards one listener each has the ephemeral ports for itself. */
static ph_address source_of(uint64_t number)
{
	ph_address source = {.sin6_family = AF_INET6};
	uint8_t *octets = source.sin6_addr.s6_addr;

	octets[10] = 0xff;
	octets[11] = 0xff;
	octets[12] = 127;
	octets[15] = (uint8_t)(1 + number / PLAN_SOURCE_CONNECTIONS);
	return source;
}

static int dial(struct book *book, uint64_t at)
{
	struct record *record = &book->records[at];
	uint64_t number = book->first + at, id;
	char name[PH_NAME_BYTES_MAX], sni[PH_SNI_BYTES_MAX + 1];
	struct ph_open_options options = {
		.address = book->board->sides[SIDE_HUB].bound,
		.kind = book->plan->raw ? PH_KIND_RAW : PH_KIND_DIRECT,
		.framing = book->plan->raw ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE,
		.tls = book->plan->tls,
		.credentials = identity_of(book, number)->credentials,
		.sni = sni,
		.group = GROUP,
		.source = name,
		.tag = TAG_DIALLED,
		.user = record,
	};

	name_write(name, identity_of(book, number), number);
	sni_write(sni, sizeof(sni), number);
	record->number = (uint32_t)at;
	options.local_address = source_of(number);
	return ph_open(book->hub, &options, &id);
}

/* The next record to dial, those that failed first; -1: none within the target. */
static int64_t dial_next(struct book *book, uint64_t *fresh, uint64_t target)
{
	int64_t next = -1;

	pthread_mutex_lock(&book->lock);
	if (book->again_count > 0)
		next = (int64_t)book->again[--book->again_count];
	pthread_mutex_unlock(&book->lock);
	if (next < 0 && *fresh < target)
		next = (int64_t)(*fresh)++;
	return next;
}

static void dial_some(struct book *book, uint64_t *fresh, uint64_t target)
{
	struct side *side = book->side;
	uint64_t window = book->plan->window / book->plan->peers + 1;
	int64_t next;

	/* A message that is still on its way counts as an opening that is. */
	while (atomic_load(&side->dialled) -
			(atomic_load(&side->failed) + atomic_load(&side->verified) +
				atomic_load(&side->spoiled)) <
		window) {
		next = dial_next(book, fresh, target);
		if (next < 0)
			return;
		count(&side->dialled);
		if (dial(book, (uint64_t)next) < 0) {
			count(&side->failed);
			again_add(book, &book->records[next]);
			return;
		}
	}
}

/* ---- closing ----------------------------------------------------------------------------- */

struct closer {
	pthread_t thread;
	struct book *book;
	uint32_t index;
};

static uint64_t closes_on_their_way(const struct book *book)
{
	uint64_t wins = atomic_load(&book->side->wins), closed = atomic_load(&book->side->closed);

	return wins > closed ? wins - closed : 0;
}

static uint32_t close_clock_ms(const struct book *book)
{
	return (uint32_t)((now_ns() - atomic_load(&book->side->close_begin_ns)) / 1000000u) + 1;
}

static void close_one(struct book *book, struct record *record)
{
	uint64_t id = atomic_load(&record->id);
	uint32_t none = 0;
	int status;

	if (id == 0)
		return;
	/* Before the close: its end may come before ph_close returns. The rival's word is as good. */
	atomic_compare_exchange_strong(&record->close_ms, &none, close_clock_ms(book));
	status = ph_close(id, book->is_hub ? TAG_ACCEPTED : TAG_DIALLED, PH_GRACEFUL, 0, NULL);
	if (status == 0) {
		atomic_fetch_add(&record->wins, 1);
		count(&book->side->wins);
	} else if (status == -ENOENT) {
		count(&book->side->losses);
	} else {
		count(&book->side->faults);
	}
}

/* The age of the first record, in the order of closing, that has not ended. */
static uint64_t close_oldest_ns(struct book *book)
{
	while (book->pace_at < book->record_count) {
		const struct record *record = &book->records[book->pace_at];
		uint32_t begun_ms = atomic_load(&record->close_ms), now_ms;

		if (atomic_load(&record->id) != 0 && atomic_load(&record->closed) == 0) {
			now_ms = close_clock_ms(book);
			return begun_ms != 0 && now_ms > begun_ms
				? (uint64_t)(now_ms - begun_ms) * 1000000u
				: 0;
		}
		book->pace_at++;
	}
	return 0;
}

/* Whoever comes by when a look is due takes it. */
static void pace_keep(struct book *book)
{
	uint64_t now = now_ns();

	if (pthread_mutex_trylock(&book->pace_lock) != 0)
		return;
	if (pace_is_due(&book->pace, now)) {
		uint64_t slowest = atomic_exchange(&book->close_slowest_ns, 0);

		pace_look(&book->pace, now, slowest, close_oldest_ns(book));
		atomic_store(
			&book->side->close_allowed, book->pace.is_held ? 0 : book->pace.allowed);
		atomic_store(&book->side->close_slowest_ns, book->pace.slowest_ns);
		atomic_store(&book->side->close_holds, book->pace.holds);
	}
	pthread_mutex_unlock(&book->pace_lock);
}

/*
 * Threads close in pairs: both walk the same records, so each id is closed twice, often at the same
 * moment, and one of the two must win. (With an odd number of threads the last has no rival.)
 */
static void *closer_main(void *context)
{
	struct closer *closer = context;
	struct book *book = closer->book;
	uint32_t pairs = (book->plan->threads + 1) / 2, pair = closer->index / 2;

	for (size_t first = pair * CLOSE_BATCH; first < book->record_count;
		first += (size_t)pairs * CLOSE_BATCH) {
		pace_keep(book);
		while (closes_on_their_way(book) >= atomic_load(&book->side->close_allowed) ||
			atomic_load(&book->board->close_held)) {
			if (atomic_load(&book->board->abort_wanted))
				return NULL;
			look_later();
			pace_keep(book);
		}
		for (size_t i = first; i < first + CLOSE_BATCH && i < book->record_count; i++)
			close_one(book, &book->records[i]);
	}
	return NULL;
}

static int close_all(struct book *book)
{
	struct closer closers[64];
	uint32_t started;
	int status = 0;

	atomic_store(&book->side->close_begin_ns, now_ns());
	pace_init(&book->pace, book->plan->close_window, CLOSE_DEADLINE_MS * 1000000ull);
	atomic_store(&book->side->close_allowed, book->pace.allowed);
	for (started = 0; started < book->plan->threads && status == 0; started++) {
		closers[started].book = book;
		closers[started].index = started;
		status = pthread_create(
			&closers[started].thread, NULL, closer_main, &closers[started]);
	}
	if (status != 0)
		started--;
	for (uint32_t i = 0; i < started; i++)
		pthread_join(closers[i].thread, NULL);
	atomic_store(&book->side->close_issued_ns, now_ns());
	return -status;
}

/* All records of connections that were open, after their end. */
static void audit(struct book *book, bool closed_here)
{
	struct ph_statistics stats;

	ph_stats(book->hub, &stats);
	atomic_store(&book->side->deadlines, stats.closes_deadline);
	if (closed_here && atomic_load(&book->close_slowest_ns) > book->pace.slowest_ns)
		atomic_store(&book->side->close_slowest_ns, atomic_load(&book->close_slowest_ns));
	for (size_t i = 0; i < book->record_count; i++) {
		const struct record *record = &book->records[i];

		if (atomic_load(&record->opened) == 0 && atomic_load(&record->closed) == 0)
			continue;
		if (atomic_load(&record->opened) != 1 || atomic_load(&record->closed) != 1 ||
			(closed_here && atomic_load(&record->wins) != 1))
			count(&book->side->faults);
	}
	atomic_store(&book->side->audit_done, 1);
}

/* ---- the process ------------------------------------------------------------------------- */

static bool all_have_ended(const struct book *book)
{
	return atomic_load(&book->side->closed) >= atomic_load(&book->side->opened);
}

static void orders_serve(struct book *book, uint64_t share)
{
	bool closes = book->is_hub == book->plan->hub_closes, begun = false;
	uint64_t fresh = 0;

	while (orders_follow(book)) {
		uint64_t target = atomic_load(&book->board->dial_target);

		if (!book->is_hub && !begun) {
			uint64_t all = book->plan->connections;
			uint64_t mine = (target * share + all - 1) / all;

			dial_some(book, &fresh, mine < share ? mine : share);
		}
		if (atomic_load(&book->board->close_wanted) && !begun) {
			begun = true;
			if (closes && close_all(book) < 0)
				side_fail(book, "closing threads", -EAGAIN);
		}
		if (begun && !atomic_load(&book->side->audit_done) && all_have_ended(book))
			audit(book, closes);
		look_later();
	}
}

int side_run(
	const struct plan *plan, const struct trust *trust, struct board *board, uint32_t number)
{
	struct book book = {.plan = plan,
		.trust = trust,
		.board = board,
		.side = &board->sides[number],
		.is_hub = number == SIDE_HUB,
		.pace_lock = PTHREAD_MUTEX_INITIALIZER,
		.lock = PTHREAD_MUTEX_INITIALIZER};
	int status;

	/* The supervisor's Ctrl-C is the board's abort; should it die, so do we. */
	signal(SIGINT, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	book.side->pid = getpid();
	status = book_create(&book);
	if (status < 0) {
		side_fail(&book, "no memory for the book", status);
		return 1;
	}
	status = hub_start(&book);
	if (status < 0) {
		side_fail(&book, "the hub does not start", status);
		if (book.hub != NULL)
			(void)!ph_hub_stop(book.hub, PH_ABORT);
		return 1;
	}
	atomic_store(&book.side->state, SIDE_READY);
	orders_serve(&book, book.is_hub ? plan->connections : plan_share(plan, number - 1));
	(void)!ph_hub_stop(book.hub, PH_ABORT);
	munmap(book.records, book.record_bytes);
	free(book.again);
	pthread_mutex_destroy(&book.lock);
	pthread_mutex_destroy(&book.pace_lock);
	return atomic_load(&book.side->state) == SIDE_FAILED ? 1 : 0;
}
