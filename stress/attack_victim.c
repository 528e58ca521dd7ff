/* Victim and honest peers; see attack_victim.h. */
#include "attack_victim.h"

#include "attack_pki.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_MS 60000u /* generous: machines are slow and sanitizers slower */
#define STOP_KEEPS_PER_SHARD 1u /* the wake-up of a shard lives as long as the process */
#define VICTIM_SHARDS 2u

static const uint8_t question_type[16] = "attack question";

static uint32_t descriptors_count(void)
{
	DIR *directory = opendir("/proc/self/fd");
	uint32_t count = 0;

	if (directory == NULL)
		return 0;
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count;
}

/* ---- the victim's callbacks -------------------------------------------------------------- */

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	struct victim *victim = hub_user;
	clockid_t clock;

	(void)sni;
	atomic_fetch_add(&victim->hellos, 1);
	if (pthread_getcpuclockid(pthread_self(), &clock) == 0)
		atomic_store(&victim->shard_clock, clock);
	answer->credentials = ph_credentials_get(victim->credentials);
	snprintf(answer->group, sizeof(answer->group), "%s", ATTACK_GROUP);
	snprintf(answer->identity, sizeof(answer->identity), "victim");
	return 0;
}

/* In clear text the verdict holds the peer's own words already. */
static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct victim *victim = hub_user;

	(void)id, (void)sni, (void)expected;
	if (accepted) {
		uint32_t number = victim->behaviour == VICTIM_POURS
			? atomic_fetch_add(&victim->peer_count, 1)
			: VICTIM_PEERS_MAX;

		verdict->tag = VICTIM_TAG;
		verdict->user = number < VICTIM_PEERS_MAX ? &victim->peers[number] : NULL;
	}
	if (chain->count == 0)
		return 0;
	snprintf(verdict->group, sizeof(verdict->group), "%s", ATTACK_GROUP);
	return pki_verify(victim->run->pki, chain, accepted, verdict->identity, verdict->refusal);
}

/* As much as the queue takes; on_writable goes on. */
static void peer_pour(struct victim *victim, struct victim_peer *peer)
{
	static const uint8_t payload[VICTIM_POUR_BYTES_MAX], type[16] = "attack pours";
	const struct ph_part part = {payload, victim->pour_bytes};
	uint64_t id = atomic_load(&peer->id);
	int status = 0;

	while (status == 0 && id != 0 && atomic_load(&victim->is_pouring) &&
		(victim->pour_quota == 0 || atomic_load(&peer->poured) < victim->pour_quota)) {
		status = ph_send(id, VICTIM_TAG, type, &part, 1);
		if (status == 0) {
			atomic_fetch_add(&peer->poured, part.bytes);
			atomic_fetch_add(&victim->poured, part.bytes);
		}
	}
	if (status == -EAGAIN) {
		uint64_t never = 0;

		atomic_compare_exchange_strong(&peer->blocked_ns, &never, attack_now_ns());
	}
}

static void on_writable(void *hub_user, uint64_t id, void *user)
{
	struct victim_peer *peer = user;

	(void)id;
	if (peer == NULL)
		return;
	atomic_store(&peer->blocked_ns, 0);
	peer_pour(hub_user, peer);
}

void victim_pour(struct victim *victim, bool is_on)
{
	uint32_t count = atomic_load(&victim->peer_count);

	atomic_store(&victim->is_pouring, is_on);
	for (uint32_t i = 0; is_on && i < count && i < VICTIM_PEERS_MAX; i++)
		peer_pour(victim, &victim->peers[i]);
}

uint32_t victim_slow_close(struct victim *victim, uint32_t patience_ms)
{
	uint32_t count = atomic_load(&victim->peer_count), closed = 0;
	uint64_t now_ns = attack_now_ns();

	for (uint32_t i = 0; i < count && i < VICTIM_PEERS_MAX; i++) {
		struct victim_peer *peer = &victim->peers[i];
		uint64_t since = atomic_load(&peer->blocked_ns);

		if (since != 0 && now_ns > since + patience_ms * 1000000ull &&
			ph_close(atomic_load(&peer->id), VICTIM_TAG, PH_ABORT, VICTIM_SLOW,
				"does not read") == 0)
			closed++;
	}
	return closed;
}

static void victim_tell(struct victim *victim)
{
	pthread_mutex_lock(&victim->lock);
	pthread_cond_broadcast(&victim->changed);
	pthread_mutex_unlock(&victim->lock);
}

/* The newest connection of an identity stays; the others are told why they go, whoever opened first. */
static void older_close(struct victim *victim, const struct ph_open_info *info)
{
	uint64_t ids[256];
	uint32_t count = ph_find(victim->hub, info->group, info->identity, ids, 256);

	for (uint32_t i = 1; i < count && i < 256; i++)
		(void)ph_close(ids[i], info->tag, PH_GRACEFUL, VICTIM_OLDER,
			"a newer connection of this identity");
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct victim *victim = hub_user;
	struct victim_peer *peer = user;

	atomic_store(&victim->last_id, id);
	if (victim->newest_wins != NULL && strcmp(victim->newest_wins, info->identity) == 0)
		older_close(victim, info);
	if (peer != NULL) {
		atomic_store(&peer->id, id);
		peer_pour(victim, peer);
	}
	atomic_fetch_add(&victim->opened, 1);
	victim_tell(victim);
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct victim *victim = hub_user;
	const struct ph_part part = {data, bytes};

	bool is_question = memcmp(type, question_type, sizeof(question_type)) == 0;

	(void)user;
	if ((victim->behaviour == VICTIM_ECHOES || is_question) &&
		ph_send(id, VICTIM_TAG, type, &part, 1) == -EAGAIN)
		return -EAGAIN;
	atomic_fetch_add(&victim->messages, 1);
	atomic_fetch_add(&victim->bytes, bytes);
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct victim *victim = hub_user;
	struct victim_peer *peer = user;

	if (peer != NULL) {
		atomic_store(&peer->id, 0);
		atomic_store(&peer->blocked_ns, 0);
	}
	if (receipt->reason < VICTIM_REASONS)
		atomic_fetch_add(&victim->reasons[receipt->reason], 1);
	pthread_mutex_lock(&victim->lock);
	if (id_map_put(victim->finals, id, 0) == -EEXIST)
		atomic_fetch_add(&victim->twice, 1);
	victim->receipt = *receipt;
	atomic_fetch_add(&victim->ended, 1);
	pthread_cond_broadcast(&victim->changed);
	pthread_mutex_unlock(&victim->lock);
}

static const struct ph_callbacks victim_callbacks = {
	.on_hello = on_hello,
	.on_verify = on_verify,
	.on_open = on_open,
	.on_data = on_data,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

/* ---- the victim's life ------------------------------------------------------------------- */

static void victim_init(struct victim *victim, struct attack_run *run)
{
	pthread_mutex_init(&victim->lock, NULL);
	pthread_cond_init(&victim->changed, NULL);
	victim->run = run;
	victim->secure = victim->plain = run->remote;
	victim->descriptors = descriptors_count();
	run->memory_begin = attack_memory_now();
	attack_memory(run);
}

static bool victim_hub_start(struct victim *victim, const struct ph_options *options)
{
	struct attack_run *run = victim->run;
	struct ph_options filled = *options;
	char why[PH_WHY_BYTES];
	int status;

	filled.user = victim;
	if (filled.shard_count == 0)
		filled.shard_count = VICTIM_SHARDS;
	if (filled.connections_per_shard == 0)
		filled.connections_per_shard = 4096;
	victim->credentials = pki_credentials(run->pki, "victim");
	victim->peers = calloc(VICTIM_PEERS_MAX, sizeof(*victim->peers));
	if (victim->credentials == NULL || victim->peers == NULL ||
		id_map_create(VICTIM_FINALS_MAX, &victim->finals) < 0) {
		attack_fault(run, "no memory for the victim");
		return false;
	}
	status = ph_hub_start(&filled, &victim_callbacks, &victim->hub, why);
	if (status < 0) {
		attack_fault(run, "cannot start: %s", why);
		return false;
	}
	atomic_store(&run->watched, victim->hub);
	return true;
}

static bool victim_listen(struct victim *victim, enum ph_tls tls, ph_address *bound)
{
	struct ph_listen_options listen = {
		.framing = PH_FRAMING_MESSAGE, .tls = tls, .tag = VICTIM_TAG};
	int listener;

	if (ph_address_parse("127.0.0.1:0", &listen.address) < 0)
		return false;
	listener = ph_listen(victim->hub, &listen, bound);
	if (listener < 0)
		attack_fault(victim->run, "ph_listen: %s", strerror(-listener));
	return listener >= 0;
}

bool victim_start(struct victim *victim, struct attack_run *run, const struct ph_options *options)
{
	victim_init(victim, run);
	if (run->is_remote)
		return true;
	return victim_hub_start(victim, options) &&
		victim_listen(victim, PH_TLS_MUTUAL, &victim->secure) &&
		victim_listen(victim, PH_TLS_NONE, &victim->plain);
}

bool victim_start_backlog(struct victim *victim, struct attack_run *run,
	const struct ph_options *options, int backlog)
{
	struct ph_listen_options listen_options = {
		.framing = PH_FRAMING_MESSAGE, .tls = PH_TLS_MUTUAL, .tag = VICTIM_TAG};
	struct sockaddr_in any = {
		.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	int fd, listener = -1;

	victim_init(victim, run);
	if (run->is_remote)
		return true;
	if (!victim_hub_start(victim, options))
		return false;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 &&
		listen(fd, backlog) == 0)
		listener = ph_listen_fd(victim->hub, fd, &listen_options, &victim->secure);
	if (fd >= 0)
		close(fd);
	if (listener < 0)
		attack_fault(run, "cannot listen on a socket of our own");
	return listener >= 0;
}

void victim_stats(const struct victim *victim, struct ph_statistics *stats)
{
	memset(stats, 0, sizeof(*stats));
	if (victim->hub != NULL)
		ph_stats(victim->hub, stats);
}

uint32_t victim_reason_count(const struct victim *victim, uint32_t reason)
{
	return reason < VICTIM_REASONS ? atomic_load(&victim->reasons[reason]) : 0;
}

static bool victim_wait_once(struct victim *victim, uint64_t deadline_ns)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 50000000;
	until.tv_sec += until.tv_nsec / 1000000000l;
	until.tv_nsec %= 1000000000l;
	pthread_cond_timedwait(&victim->changed, &victim->lock, &until);
	return attack_now_ns() < deadline_ns;
}

bool victim_wait(struct victim *victim, const _Atomic uint64_t *counter, uint64_t wanted,
	uint32_t ms, const char *what)
{
	uint64_t deadline_ns = attack_now_ns() + ms * 1000000ull;

	pthread_mutex_lock(&victim->lock);
	while (atomic_load(counter) < wanted && victim_wait_once(victim, deadline_ns))
		;
	pthread_mutex_unlock(&victim->lock);
	if (atomic_load(counter) >= wanted)
		return true;
	attack_fault(victim->run, "waited %u ms for %s: %llu of %llu", ms, what,
		(unsigned long long)atomic_load(counter), (unsigned long long)wanted);
	return false;
}

bool victim_wait_end(struct victim *victim, uint64_t ended_before, struct ph_receipt *receipt)
{
	if (!victim_wait(victim, &victim->ended, ended_before + 1, SETTLE_MS, "a last event"))
		return false;
	pthread_mutex_lock(&victim->lock);
	*receipt = victim->receipt;
	pthread_mutex_unlock(&victim->lock);
	return true;
}

/* What the hub counts and what its callbacks saw must be the same, once nobody is left. */
static void victim_settle(struct victim *victim)
{
	struct attack_run *run = victim->run;
	uint64_t deadline_ns = attack_now_ns() + SETTLE_MS * 1000000ull;
	struct ph_statistics stats;
	uint64_t ended;

	do {
		victim_stats(victim, &stats);
		if (stats.live == 0)
			break;
		attack_sleep_ms(20);
	} while (attack_now_ns() < deadline_ns);
	ended = atomic_load(&victim->ended);
	if (stats.live != 0 || stats.open != 0 || stats.handshakes != 0) {
		attack_fault(run, "everybody has left, but %llu slots are in use",
			(unsigned long long)stats.live);
		ph_hub_dump(victim->hub, STDERR_FILENO);
	} else if (stats.accepted + stats.dialled != ended) {
		attack_fault(run, "%llu ids were given out, %llu last events came",
			(unsigned long long)(stats.accepted + stats.dialled),
			(unsigned long long)ended);
	}
	if (stats.opened != atomic_load(&victim->opened))
		attack_fault(run, "the hub opened %llu, on_open came %llu times",
			(unsigned long long)stats.opened,
			(unsigned long long)atomic_load(&victim->opened));
	if (atomic_load(&victim->twice) != 0)
		attack_fault(run, "%llu ids ended twice",
			(unsigned long long)atomic_load(&victim->twice));
	/* On a machine that is too busy for them, closes are asked for again: told, not judged. */
	if (stats.close_resubmits != 0)
		attack_seen(run, "%llu closes asked for again",
			(unsigned long long)stats.close_resubmits);
}

void victim_stop(struct victim *victim)
{
	struct attack_run *run = victim->run;
	uint32_t count;

	attack_memory(run);
	if (victim->hub != NULL) {
		victim_settle(victim);
		atomic_store(&run->watched, NULL);
		if (ph_hub_stop(victim->hub, PH_ABORT) < 0)
			attack_fault(run, "ph_hub_stop failed");
		count = descriptors_count();
		/* Two hubs of two shards each leave their wake-ups behind. */
		if (count > victim->descriptors + 2 * VICTIM_SHARDS * STOP_KEEPS_PER_SHARD)
			attack_fault(run, "%u descriptors are open, %u were before", count,
				victim->descriptors);
	}
	ph_credentials_put(victim->credentials);
	id_map_destroy(victim->finals);
	free(victim->peers);
	pthread_cond_destroy(&victim->changed);
	pthread_mutex_destroy(&victim->lock);
}

/* ---- honest peers' callbacks: `user` is the connection's number + 1 ----------------------- */

static int honest_on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct honest *honest = hub_user;

	(void)id, (void)sni, (void)expected;
	if (chain->count == 0)
		return 0;
	snprintf(verdict->group, sizeof(verdict->group), "%s", ATTACK_GROUP);
	return pki_verify(honest->run->pki, chain, accepted, verdict->identity, verdict->refusal);
}

static uint32_t number_of(const void *user)
{
	return (uint32_t)(uintptr_t)user - 1;
}

static void honest_on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct honest *honest = hub_user;

	(void)id, (void)info;
	atomic_store(&honest->is_up[number_of(user)], 1);
	atomic_fetch_add(&honest->opened, 1);
}

static int honest_on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct honest *honest = hub_user;
	uint64_t asked = atomic_exchange(&honest->asked_ns[number_of(user)], 0);

	(void)id, (void)type, (void)data;
	atomic_fetch_add(&honest->received_bytes, bytes);
	if (asked == 0)
		return 0;
	if (atomic_load(&honest->is_recording))
		histogram_record(honest->delay, attack_now_ns() - asked);
	atomic_fetch_add(&honest->answered, 1);
	return 0;
}

static void honest_on_closed(
	void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct honest *honest = hub_user;

	(void)id;
	atomic_store(&honest->is_up[number_of(user)], receipt->was_open ? 3 : 2);
	atomic_fetch_add(receipt->was_open ? &honest->closed : &honest->failed, 1);
}

static const struct ph_callbacks honest_callbacks = {
	.on_verify = honest_on_verify,
	.on_open = honest_on_open,
	.on_data = honest_on_data,
	.on_closed = honest_on_closed,
};

/* ---- honest peers' life ------------------------------------------------------------------ */

bool honest_start(
	struct honest *honest, const struct victim *victim, uint32_t count_max, bool is_plain)
{
	struct ph_options options = {
		.shard_count = 1, .connections_per_shard = count_max + 64, .user = honest};
	struct attack_run *run = victim->run;
	char why[PH_WHY_BYTES];

	memset(honest, 0, sizeof(*honest));
	honest->run = run;
	honest->victim = victim;
	honest->count_max = count_max;
	honest->is_plain = run->is_remote ? run->tls == PH_TLS_NONE : is_plain;
	honest->ids = calloc(count_max, sizeof(*honest->ids));
	honest->asked_ns = calloc(count_max, sizeof(*honest->asked_ns));
	honest->is_up = calloc(count_max, sizeof(*honest->is_up));
	honest->delay = malloc(sizeof(*honest->delay));
	if (!honest->is_plain)
		honest->credentials = pki_credentials(run->pki, "honest");
	if (honest->ids == NULL || honest->asked_ns == NULL || honest->is_up == NULL ||
		honest->delay == NULL || (!honest->is_plain && honest->credentials == NULL)) {
		attack_fault(run, "no memory for honest peers");
		return false;
	}
	histogram_init(honest->delay);
	if (ph_hub_start(&options, &honest_callbacks, &honest->hub, why) < 0) {
		attack_fault(run, "cannot start honest peers: %s", why);
		return false;
	}
	return true;
}

static bool honest_dial_one(struct honest *honest, uint32_t number)
{
	const struct ph_open_options options = {
		.address = honest->is_plain ? honest->victim->plain : honest->victim->secure,
		.kind = PH_KIND_DIRECT,
		.framing = PH_FRAMING_MESSAGE,
		.tls = honest->is_plain ? PH_TLS_NONE : PH_TLS_MUTUAL,
		.credentials = honest->credentials,
		.sni = ATTACK_SNI,
		.group = ATTACK_GROUP,
		.source = pki_name(honest->run->pki, "honest"),
		.node_id = number + 1,
		.tag = 1,
		.user = (void *)(uintptr_t)(number + 1),
	};
	int status;

	atomic_store(&honest->is_up[number], 0);
	status = ph_open(honest->hub, &options, &honest->ids[number]);
	if (status < 0)
		attack_fault(honest->run, "an honest ph_open: %s", strerror(-status));
	return status == 0;
}

bool honest_dial(struct honest *honest, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (honest->count == honest->count_max || !honest_dial_one(honest, honest->count))
			return false;
		honest->count++;
	}
	return true;
}

bool honest_wait(struct honest *honest, uint32_t ms, const char *when)
{
	uint64_t deadline_ns = attack_now_ns() + ms * 1000000ull;
	uint32_t up;

	do {
		up = 0;
		for (uint32_t i = 0; i < honest->count; i++) {
			uint8_t state = atomic_load(&honest->is_up[i]);

			up += state == 1;
			if (state >= 2 && !honest_dial_one(honest, i))
				return false;
		}
		if (up == honest->count)
			return true;
		attack_sleep_ms(10);
	} while (attack_now_ns() < deadline_ns);
	attack_fault(honest->run, "%s: %u of %u honest peers are in", when, up, honest->count);
	return false;
}

/* A question that the queue has no room for is asked at the next try. */
static bool honest_ask_one(struct honest *honest, uint32_t number)
{
	const struct ph_part part = {"?", 1};
	uint64_t never = 0;

	if (!atomic_compare_exchange_strong(&honest->asked_ns[number], &never, attack_now_ns()))
		return false; /* the last one is still out */
	if (ph_send(honest->ids[number], 1, question_type, &part, 1) == 0)
		return true;
	atomic_store(&honest->asked_ns[number], 0);
	return false;
}

bool honest_ask(struct honest *honest, uint32_t ms, const char *when)
{
	uint64_t deadline_ns = attack_now_ns() + ms * 1000000ull;
	uint32_t left;

	for (uint32_t i = 0; i < honest->count; i++)
		if (!honest_ask_one(honest, i))
			attack_fault(honest->run, "%s: an honest peer cannot send", when);
	do {
		left = 0;
		for (uint32_t i = 0; i < honest->count; i++)
			left += atomic_load(&honest->asked_ns[i]) != 0;
		if (left == 0)
			return true;
		attack_sleep_ms(5);
	} while (attack_now_ns() < deadline_ns);
	attack_fault(honest->run, "%s: %u of %u honest peers got no answer in %u ms", when, left,
		honest->count, ms);
	return false;
}

void honest_measure(struct honest *honest, uint32_t ms, uint32_t per_second)
{
	uint64_t begin_ns = attack_now_ns(), end_ns = begin_ns + ms * 1000000ull;
	uint64_t step_ns = 1000000000ull / ((uint64_t)per_second * honest->count);
	uint64_t next_ns = begin_ns;

	histogram_init(honest->delay);
	atomic_store(&honest->is_recording, true);
	for (uint32_t i = 0; next_ns < end_ns; i++, next_ns += step_ns) {
		uint64_t now_ns = attack_now_ns();

		if (now_ns < next_ns) {
			const struct timespec pause = {.tv_nsec = (long)(next_ns - now_ns)};

			nanosleep(&pause, NULL);
		}
		(void)honest_ask_one(honest, i % honest->count);
	}
	attack_sleep_ms(200);
	atomic_store(&honest->is_recording, false);
}

void honest_judge(struct honest *honest)
{
	uint64_t closed = atomic_load(&honest->closed), failed = atomic_load(&honest->failed);
	char *text = honest->run->honest;

	if (closed != 0)
		attack_fault(honest->run, "%llu honest connections were lost",
			(unsigned long long)closed);
	snprintf(text, sizeof(honest->run->honest), "%u of %u in, %llu answers, %llu redialled",
		honest->count - (uint32_t)closed, honest->count,
		(unsigned long long)atomic_load(&honest->answered), (unsigned long long)failed);
}

void honest_stop(struct honest *honest)
{
	if (honest->hub != NULL && ph_hub_stop(honest->hub, PH_GRACEFUL) < 0)
		attack_fault(honest->run, "ph_hub_stop of honest peers failed");
	ph_credentials_put(honest->credentials);
	free(honest->ids);
	free(honest->asked_ns);
	free(honest->is_up);
	free(honest->delay);
	honest->hub = NULL;
}
