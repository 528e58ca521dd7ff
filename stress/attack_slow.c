/*
 * Peers that do not read. While others read, and while they are closed. What must hold: their memory is
 * bounded, the others keep their throughput, they are closed by the application's policy with a reason,
 * and a graceful close that they block becomes an abort at its deadline.
 */
#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <stdlib.h>
#include <string.h>

#define WAIT_MS 60000u
#define SLOTS 2048u
#define MESSAGE_BYTES 8192u
#define QUEUE_BYTES 65536u
/* Of one stalled reader: its queue, the records made of it, the SSL object. */
#define STALLED_BYTES_MAX (4u * QUEUE_BYTES)

/* Connected, welcomed, and from then on they read nothing. */
static struct client *sleepers_create(
	struct attack_run *run, const struct victim *victim, uint32_t count, bool is_secure)
{
	struct client *clients = calloc(count, sizeof(*clients));
	SSL_CTX *context = is_secure ? pki_client(run->pki, "sleeper") : NULL;

	for (uint32_t i = 0; clients != NULL && i < count; i++) {
		bool entered = (!is_secure || context != NULL) &&
			client_enter(&clients[i], is_secure ? &victim->secure : &victim->plain,
				context, "sleeper");

		if (!entered)
			attack_fault(run, "sleeper %u is not let in", i);
	}
	if (clients == NULL)
		attack_fault(run, "no memory for %u sleepers", count);
	SSL_CTX_free(context);
	return clients;
}

static void sleepers_destroy(struct client *clients, uint32_t count)
{
	for (uint32_t i = 0; clients != NULL && i < count; i++)
		client_close(&clients[i]);
	free(clients);
}

/* ---- stalled among many ------------------------------------------------------------------ */

/* Bytes that honest peers receive in a second, over ms. */
static double throughput(struct honest *honest, uint32_t ms)
{
	uint64_t begin_ns, begin_bytes;

	attack_sleep_ms(ms / 5); /* queues fill first */
	begin_ns = attack_now_ns();
	begin_bytes = atomic_load(&honest->received_bytes);
	attack_sleep_ms(ms);
	return (double)(atomic_load(&honest->received_bytes) - begin_bytes) * 1e9 /
		(double)(attack_now_ns() - begin_ns);
}

static void stalled_memory_judge(struct attack_run *run, uint64_t before, uint32_t count)
{
	uint64_t now = attack_memory_now(), more = now > before ? now - before : 0;

	attack_memory(run);
	attack_seen(run, "%.0f KiB a stalled one, both sides", (double)more / 1024.0 / count);
	if (!run->is_light && more > (uint64_t)count * STALLED_BYTES_MAX + (32u << 20))
		attack_fault(
			run, "%llu bytes for %u stalled readers", (unsigned long long)more, count);
}

/* All of the quota has reached every honest peer: nobody waits for the stalled. */
static void quota_judge(struct honest *honest, uint64_t quota)
{
	uint64_t deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull;
	uint64_t wanted = quota * honest->count;

	while (atomic_load(&honest->received_bytes) < wanted && attack_now_ns() < deadline_ns)
		attack_sleep_ms(20);
	if (atomic_load(&honest->received_bytes) < wanted)
		attack_fault(honest->run, "honest peers received %llu of %llu bytes",
			(unsigned long long)atomic_load(&honest->received_bytes),
			(unsigned long long)wanted);
}

static void policy_judge(struct victim *victim, uint32_t count, uint32_t patience_ms)
{
	uint64_t deadline_ns = attack_now_ns() + (patience_ms + WAIT_MS) * 1000000ull;
	struct attack_run *run = victim->run;
	uint32_t closed = 0;

	while (closed < count && attack_now_ns() < deadline_ns) {
		closed += victim_slow_close(victim, patience_ms);
		attack_sleep_ms(20);
	}
	(void)victim_wait(victim, &victim->ended, count, WAIT_MS, "the stalled to end");
	attack_seen(run, "%u closed by policy after %.1f s, %u receipts with its reason", closed,
		patience_ms / 1e3, victim_reason_count(victim, VICTIM_SLOW));
	if (closed != count || victim_reason_count(victim, VICTIM_SLOW) != count)
		attack_fault(run, "%u of %u stalled readers were closed by policy", closed, count);
}

void attack_stalled(struct attack_run *run)
{
	struct ph_options options = {.connections_per_shard = SLOTS,
		.send_queue_bytes = QUEUE_BYTES,
		.socket_send_bytes = QUEUE_BYTES,
		.socket_receive_bytes = QUEUE_BYTES};
	uint32_t count = attack_size(run, 100, 20, 5), honest_count = attack_size(run, 900, 60, 15);
	uint32_t patience_ms = run->is_full ? 15000 : 1000, measure_ms = 8000;
	struct client *clients = NULL;
	static struct victim victim;
	static struct honest honest;
	double alone = 0, beside = 0;
	uint64_t memory;

	memset(&victim, 0, sizeof(victim));
	victim.behaviour = VICTIM_POURS;
	victim.pour_bytes = MESSAGE_BYTES;
	victim.pour_quota = run->is_full ? 0 : 64ull * MESSAGE_BYTES;
	attack_tried(run, "%u readers of %u stop reading, mutual TLS, a hub that sends what it can",
		count, count + honest_count);
	attack_expected(run, "memory bounded, %s, the stalled closed by policy with its reason",
		run->is_full ? "the others keep 95 % of their throughput" : "the others get all");
	if (victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, honest_count, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		memory = attack_memory_now();
		if (run->is_full) {
			victim_pour(&victim, true);
			alone = throughput(&honest, measure_ms);
			memory = attack_memory_now();
		}
		clients = sleepers_create(run, &victim, count, true);
		victim_pour(&victim, true);
		if (run->is_full) {
			beside = throughput(&honest, measure_ms);
			stalled_memory_judge(run, memory, count);
		} else {
			quota_judge(&honest, victim.pour_quota);
			stalled_memory_judge(run, memory, count);
		}
		policy_judge(&victim, count, patience_ms);
		if (run->is_full) {
			alone = (alone + throughput(&honest, measure_ms)) / 2;
			attack_seen(run, "others %.0f MB/s alone, %.0f MB/s beside: %.1f %%",
				alone / 1e6, beside / 1e6, 100 * beside / alone);
			if (beside < 0.95 * alone)
				attack_fault(run, "the others kept %.1f %% of their throughput",
					100 * beside / alone);
		}
		victim_pour(&victim, false);
		honest_judge(&honest);
		honest_stop(&honest);
	}
	sleepers_destroy(clients, count);
	victim_stop(&victim);
}

/* ---- a graceful close that nobody reads -------------------------------------------------- */

static void goodbye_receipts_judge(struct victim *victim, uint32_t count, uint32_t deadline_ms)
{
	static struct ph_receipt receipts[512];
	struct attack_run *run = victim->run;
	uint32_t have = ph_receipts(victim->hub, receipts, 512), aborted = 0;
	uint64_t least = UINT64_MAX, most = 0, dropped = 0;

	for (uint32_t i = 0; i < have; i++) {
		uint64_t took = receipts[i].time_end_ns - receipts[i].time_close_ns;

		if (!receipts[i].was_open || receipts[i].reason != PH_REASON_APP_NORMAL + 7)
			continue;
		aborted += receipts[i].how == PH_ABORT;
		dropped += receipts[i].bytes_dropped;
		least = took < least ? took : least;
		most = took > most ? took : most;
		if (receipts[i].bytes_dropped + receipts[i].bytes_sent != receipts[i].bytes_queued)
			attack_fault(run, "a receipt that does not add up");
	}
	attack_seen(run, "%u aborted after %.2f to %.2f s, %llu bytes dropped", aborted,
		(double)least / 1e9, (double)most / 1e9, (unsigned long long)dropped);
	if (aborted != count || dropped == 0)
		attack_fault(run, "%u of %u closes became aborts", aborted, count);
	if (least < deadline_ms * 990000ull)
		attack_fault(run, "a close gave up after %.3f s", (double)least / 1e9);
	if (run->is_full && most > deadline_ms * 1100000ull)
		attack_fault(run, "a close took %.3f s", (double)most / 1e9);
}

void attack_goodbye(struct attack_run *run)
{
	uint32_t deadline_ms = attack_size(run, 5000, 500, 1000), each = run->is_full ? 100 : 10;
	struct ph_options options = {.timeout_close_ms = deadline_ms,
		.send_queue_bytes = QUEUE_BYTES,
		.socket_send_bytes = QUEUE_BYTES,
		.socket_receive_bytes = QUEUE_BYTES};
	const struct ph_filter all = {.has_tag = 1, .tag = VICTIM_TAG};
	struct client *secure = NULL, *plain = NULL;
	static struct victim victim;
	uint64_t deadline_ns;
	uint32_t full = 0;

	memset(&victim, 0, sizeof(victim));
	victim.behaviour = VICTIM_POURS;
	victim.pour_bytes = MESSAGE_BYTES;
	attack_tried(run, "%u peers read nothing, their queues are full, then a graceful close",
		2 * each);
	attack_expected(run, "reset at the deadline of %.1f s, the receipt says what was dropped",
		deadline_ms / 1e3);
	if (victim_start(&victim, run, &options)) {
		secure = sleepers_create(run, &victim, each, true);
		plain = sleepers_create(run, &victim, each, false);
		victim_pour(&victim, true);
		/* Sockets full, too: a queue that stays full for half a second. */
		deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull;
		while (full < 2 * each && attack_now_ns() < deadline_ns) {
			uint64_t now_ns = attack_now_ns();

			attack_sleep_ms(20);
			full = 0;
			for (uint32_t i = 0; i < 2 * each; i++) {
				uint64_t since = atomic_load(&victim.peers[i].blocked_ns);

				full += since != 0 && now_ns > since + 500000000ull;
			}
		}
		if (full < 2 * each)
			attack_fault(run, "%u of %u queues are full", full, 2 * each);
		attack_memory(run);
		if (ph_close_where(victim.hub, &all, PH_GRACEFUL, PH_REASON_APP_NORMAL + 7, 0, 0) !=
			2 * (int64_t)each)
			attack_fault(run, "not all peers were open to be closed");
		(void)victim_wait(
			&victim, &victim.ended, 2ull * each, WAIT_MS, "the closes to end");
		goodbye_receipts_judge(&victim, 2 * each, deadline_ms);
	}
	sleepers_destroy(secure, each);
	sleepers_destroy(plain, each);
	victim_stop(&victim);
}
