/*
 * Attacks before authentication: strangers that hold places, and places that run out. What must hold:
 * strangers are reaped at the deadline, what they cost is bounded and small, who is in stays in, who is
 * honest gets in, and the hub says in its counters what happened.
 */
#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 60000u
/* Resident bytes of one stranger: an SSL object in the middle of its handshake, slot and buffers. */
#define STRANGER_BYTES_MAX (64u * 1024u)
#define WAVE 64u /* attackers between two looks of the hub: half of SHARD_HELD_MAX */
#define DESCRIPTORS_MAX 64u /* that a process with two hubs may have beside its own */

static void memory_judge(struct attack_run *run, uint64_t before, uint32_t count)
{
	uint64_t now = attack_memory_now(), more = now > before ? now - before : 0;

	attack_memory(run);
	attack_seen(run, "%.1f KiB a stranger", (double)more / 1024.0 / count);
	if (!run->is_light && more > (uint64_t)count * STRANGER_BYTES_MAX)
		attack_fault(run, "%llu bytes for %u strangers", (unsigned long long)more, count);
}

/* ---- silent and trickling handshakes ----------------------------------------------------- */

static void reaping_judge(struct attack_run *run, const struct crowd *crowd, uint32_t deadline_ms)
{
	uint64_t least = UINT64_MAX, most = 0;

	for (uint32_t i = 0; i < crowd->count; i++) {
		uint64_t took = crowd->members[i].end_ns - crowd->members[i].begin_ns;

		if (crowd->members[i].end_ns == 0)
			continue;
		least = took < least ? took : least;
		most = took > most ? took : most;
	}
	attack_seen(run, "reaped %u of %u after %.2f to %.2f s", crowd->count - crowd->live,
		crowd->count, (double)least / 1e9, (double)most / 1e9);
	if (crowd->live > 0)
		attack_fault(run, "%u strangers were not reaped", crowd->live);
	if (run->is_full && !run->is_remote &&
		(least < deadline_ms * 900000ull || most > deadline_ms * 1100000ull))
		attack_fault(run, "reaped after %.2f to %.2f s, not %.2f s within a tenth",
			(double)least / 1e9, (double)most / 1e9, deadline_ms / 1e3);
}

static void reap(struct attack_run *run, uint32_t step_ms)
{
	uint32_t deadline_ms = attack_size(run, 10000, 1500, 2500);
	uint32_t count = attack_size(run, 1000, 300, 80), honest_count = run->is_full ? 50 : 10;
	struct ph_options options = {.timeout_handshake_ms = deadline_ms};
	static struct victim victim;
	static struct honest honest;
	struct crowd crowd = {.count = 0};
	uint8_t hello[2048];
	SSL_CTX *context = pki_client(run->pki, "stranger");
	size_t hello_bytes = context != NULL ? client_hello_make(context, hello, sizeof(hello)) : 0;
	uint64_t memory;

	memset(&victim, 0, sizeof(victim));
	attack_tried(run, "%u connections, %s, for %.1f s", count,
		step_ms > 0 ? "each saying its ClientHello at a byte a second"
			    : "each without a word",
		deadline_ms / 1e3);
	attack_expected(run,
		"each reaped at the deadline%s; at most %u KiB each; honest peers get in",
		run->is_full ? " within a tenth" : "", STRANGER_BYTES_MAX / 1024);
	if (hello_bytes == 0) {
		attack_fault(run, "no ClientHello");
		return;
	}
	if (victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 2 * honest_count, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		memory = attack_memory_now();
		if (crowd_open(&crowd, run, &victim.secure, count)) {
			crowd_run(&crowd, 200, step_ms, hello, (uint32_t)hello_bytes);
			(void)!(honest_dial(&honest, honest_count) &&
				honest_wait(&honest, WAIT_MS, "meanwhile") &&
				honest_ask(&honest, WAIT_MS, "meanwhile"));
			if (!run->is_remote)
				memory_judge(run, memory, count);
			crowd_run(&crowd, deadline_ms + WAIT_MS, step_ms, hello,
				(uint32_t)hello_bytes);
			reaping_judge(run, &crowd, deadline_ms);
			(void)honest_ask(&honest, WAIT_MS, "afterwards");
		}
		honest_judge(&honest);
		if (!run->is_remote &&
			victim_reason_count(&victim, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT) <
				crowd.count) /* honest ones that were too slow come on top */
			attack_fault(run, "%u receipts say transport_handshake_timeout, not %u",
				victim_reason_count(&victim, PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT),
				crowd.count);
		crowd_close(&crowd, false);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	SSL_CTX_free(context);
}

void attack_silent(struct attack_run *run)
{
	reap(run, 0);
}

void attack_trickle(struct attack_run *run)
{
	reap(run, 1000);
}

/* ---- more than there is room for --------------------------------------------------------- */

/*
 * They come in waves, and the hub, of one shard, answers questions between two of them. Then there are never more
 * handshakes than may be, exactly:
 *   - A shard that answers what was asked after a wave has accepted the wave, and so has decided to pause if
 *     the wave filled its places.
 *   - The pause is queued in that turn, before the answer or in the same submission: whoever has the answer
 *     to a second question has the pause behind him, too.
 *   - So behind a decision to pause come the rest of its wave and one more, 2 * WAVE in all, and so many are
 *     held without a place. Only beyond them is one let in without room (shard_hold), which a flood without
 *     waves can bring about, as many as the kernel's queue holds in one go.
 * Those that time out meanwhile are not handshakes any more but still live.
 */
static bool half_open_come(
	struct crowd *crowd, struct honest *honest, const ph_address *to, uint32_t count)
{
	while (crowd->count + crowd->refused < count) {
		uint32_t left = count - crowd->count - crowd->refused;

		crowd_add(crowd, to, left < WAVE ? left : WAVE);
		if (!honest_ask(honest, WAIT_MS, "after a wave") ||
			!honest_ask(honest, WAIT_MS, "after a wave"))
			return false;
	}
	return crowd->count > 0;
}

static void half_open_judge(struct attack_run *run, const struct victim *victim,
	const struct crowd *crowd, uint32_t handshakes_max)
{
	struct ph_statistics stats;

	victim_stats(victim, &stats);
	attack_seen(run, "%llu handshakes at once, %u could not connect",
		(unsigned long long)stats.handshakes, crowd->refused);
	if (stats.handshakes > handshakes_max + stats.handshakes_timed_out)
		attack_fault(run, "%llu handshakes at once, %u may be",
			(unsigned long long)stats.handshakes, handshakes_max);
}

void attack_half_open(struct attack_run *run)
{
	struct ph_options options = {.shard_count = 1,
		.timeout_handshake_ms = attack_size(run, 5000, 1000, 2000),
		.handshakes_per_shard = attack_size(run, 2048, WAVE, WAVE / 2)};
	uint32_t count = attack_size(run, 5000, 300, 100), honest_count = run->is_full ? 50 : 8;
	static struct victim victim;
	static struct honest honest;
	struct ph_statistics stats;
	struct crowd crowd = {.count = 0};
	uint64_t memory;

	memset(&victim, 0, sizeof(victim));
	attack_tried(run, "%u silent connections where %u handshakes may be under way", count,
		options.handshakes_per_shard);
	attack_expected(run,
		"no more than that; accepting pauses and goes on; who is in works on; honest peers get "
		"in when strangers are reaped");
	if (victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 2 * honest_count, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		memory = attack_memory_now();
		if (crowd_create(&crowd, run, count) &&
			half_open_come(&crowd, &honest, &victim.secure, count)) {
			half_open_judge(run, &victim, &crowd, options.handshakes_per_shard);
			memory_judge(run, memory, count);
			(void)honest_dial(&honest, honest_count);
			crowd_run(&crowd, 2 * WAIT_MS, 0, NULL, 0);
			(void)!(honest_wait(&honest, WAIT_MS, "afterwards") &&
				honest_ask(&honest, WAIT_MS, "afterwards"));
			if (crowd.live > 0)
				attack_fault(run, "%u strangers were not reaped", crowd.live);
		}
		victim_stats(&victim, &stats);
		if (stats.accept_paused == 0)
			attack_fault(run, "accepting never paused");
		attack_seen(run, "accepting paused %llu times, %llu timed out",
			(unsigned long long)stats.accept_paused,
			(unsigned long long)stats.handshakes_timed_out);
		honest_judge(&honest);
		crowd_close(&crowd, false);
		honest_stop(&honest);
	}
	victim_stop(&victim);
}

/* ---- connect and be gone ----------------------------------------------------------------- */

static void vanish_once(
	struct attack_run *run, const ph_address *to, const uint8_t *hello, size_t hello_bytes)
{
	int fd = client_socket(to);
	uint32_t how = random_below(&run->random, 6);

	if (fd < 0) {
		attack_fault(run, "connect: %s", strerror(errno));
		return;
	}
	/* Nothing, a part, or all of a ClientHello; then FIN or reset. Refused writes are the victim's
	 * answer. */
	if (how % 3 != 0 &&
		send(fd, hello, how % 3 == 1 ? hello_bytes / 2 : hello_bytes, MSG_NOSIGNAL) < 0)
		errno = 0;
	if (how < 3)
		close(fd);
	else
		client_socket_reset(fd);
}

void attack_vanish(struct attack_run *run)
{
	uint32_t count = attack_size(run, 20000, 2000, 300), honest_count = 10;
	struct ph_options options = {.timeout_handshake_ms = 10000};
	static struct victim victim;
	static struct honest honest;
	struct ph_statistics stats;
	uint8_t hello[2048];
	SSL_CTX *context = pki_client(run->pki, "stranger");
	size_t hello_bytes = context != NULL ? client_hello_make(context, hello, sizeof(hello)) : 0;
	uint64_t cpu;

	memset(&victim, 0, sizeof(victim));
	attack_tried(run,
		"%u times: connect, say nothing, half or all of a ClientHello, FIN or reset",
		count);
	attack_expected(run, "each ends at once and once; honest peers notice nothing");
	if (victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 2 * honest_count, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		cpu = attack_cpu_ns();
		for (uint32_t i = 0; i < count && run->fault_count == 0; i++)
			vanish_once(run, &victim.secure, hello, hello_bytes);
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "meanwhile") &&
			honest_ask(&honest, WAIT_MS, "meanwhile"));
		attack_memory(run);
		if (!run->is_remote) {
			(void)victim_wait(&victim, &victim.ended, count, WAIT_MS, "last events");
			attack_seen(run, "%.0f us of CPU each, both sides",
				(double)(attack_cpu_ns() - cpu) / 1e3 / count);
			victim_stats(&victim, &stats);
			attack_seen(run, "lost %u, failed TLS %llu",
				victim_reason_count(&victim, PH_REASON_TRANSPORT_HANDSHAKE_LOST),
				(unsigned long long)stats.handshakes_failed);
		}
		(void)honest_ask(&honest, WAIT_MS, "afterwards");
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	SSL_CTX_free(context);
}

/* ---- an accept queue that overflows ------------------------------------------------------ */

/* The kernel's own count of connections that found the queue full; 0 when it does not tell. */
static uint64_t overflows_count(void)
{
	char names[4096], values[4096];
	FILE *file = fopen("/proc/net/netstat", "re");
	char *name, *value, *name_rest, *value_rest;
	uint64_t count = 0;

	if (file == NULL)
		return 0;
	if (fgets(names, sizeof(names), file) == NULL ||
		fgets(values, sizeof(values), file) == NULL)
		names[0] = values[0] = '\0';
	fclose(file);
	name = strtok_r(names, " \n", &name_rest);
	value = strtok_r(values, " \n", &value_rest);
	while (name != NULL && value != NULL) {
		if (strcmp(name, "ListenOverflows") == 0)
			count = strtoull(value, NULL, 10);
		name = strtok_r(NULL, " \n", &name_rest);
		value = strtok_r(NULL, " \n", &value_rest);
	}
	return count;
}

/* Sockets that try to connect; those the victim's queue has no room for go on trying. */
static uint32_t rush(int *fds, uint32_t count, const ph_address *to)
{
	const struct sockaddr_in four = {.sin_family = AF_INET,
		.sin_port = to->sin6_port,
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	uint32_t tried = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (fds[i] < 0)
			fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fds[i] >= 0 &&
			(connect(fds[i], (const struct sockaddr *)&four, sizeof(four)) == 0 ||
				errno == EINPROGRESS))
			tried++;
	}
	return tried;
}

static void fds_close(int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
}

static int *fds_create(struct attack_run *run, uint32_t count)
{
	int *fds = malloc(count * sizeof(*fds));

	if (fds == NULL)
		attack_fault(run, "no memory for %u sockets", count);
	else
		memset(fds, 0xff, count * sizeof(*fds));
	return fds;
}

void attack_backlog(struct attack_run *run)
{
	/* The last place of a small table is kept free, so the queue of 16 is what fills. */
	struct ph_options options = {.connections_per_shard = 32, .timeout_handshake_ms = 60000};
	uint32_t count = attack_size(run, 5000, 400, 200), honest_count = 4, tried;
	uint64_t overflows = overflows_count(), deadline_ns;
	int *fds = fds_create(run, count);
	static struct victim victim;
	static struct honest honest;
	struct ph_statistics stats;

	memset(&victim, 0, sizeof(victim));
	if (fds == NULL)
		return;
	attack_tried(run, "%u connects at a queue of 16 in front of a hub with 64 places", count);
	attack_expected(run,
		"the queue overflows, who is in works on, and when the strangers leave "
		"honest peers get in");
	if (victim_start_backlog(&victim, run, &options, 16) &&
		honest_start(&honest, &victim, 2 * honest_count, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		tried = rush(fds, count, &victim.secure);
		deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull;
		do {
			attack_sleep_ms(20);
			victim_stats(&victim, &stats);
		} while (stats.accept_paused == 0 && attack_now_ns() < deadline_ns);
		if (stats.accept_paused == 0)
			attack_fault(run, "accepting never paused");
		(void)honest_ask(&honest, WAIT_MS, "meanwhile");
		attack_seen(run, "%u tried, %llu in, %llu overflows of the kernel's queue", tried,
			(unsigned long long)stats.live,
			(unsigned long long)(overflows_count() - overflows));
		attack_memory(run);
		fds_close(fds, count);
		fds = NULL;
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "afterwards") &&
			honest_ask(&honest, WAIT_MS, "afterwards"));
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	if (fds != NULL)
		fds_close(fds, count);
}

/* ---- a full table ------------------------------------------------------------------------ */

static void table_fill(struct attack_run *run, uint32_t flags)
{
	struct ph_options options = {
		.connections_per_shard = 48, .timeout_handshake_ms = 60000, .flags = flags};
	uint32_t count = attack_size(run, 2000, 300, 150), honest_count = 4, greeted = 0;
	uint8_t greeting[2 * CLIENT_MESSAGE_BYTES_MAX];
	size_t bytes = client_auth_info(greeting, ATTACK_GROUP, "glutton");
	struct crowd crowd = {.count = 0};
	static struct victim victim;
	static struct honest honest;
	struct ph_statistics stats;
	uint64_t deadline_ns;

	bytes += client_connect_message(greeting + bytes, 5);
	memset(&victim, 0, sizeof(victim));
	if (victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 2 * honest_count, false)) {
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "before"));
		if (crowd_open(&crowd, run, &victim.plain, count)) {
			for (uint32_t i = 0; i < crowd.count; i++)
				greeted += send(crowd.members[i].fd, greeting, bytes,
						   MSG_NOSIGNAL) == (ssize_t)bytes;
			deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull;
			do {
				attack_sleep_ms(20);
				victim_stats(&victim, &stats);
			} while (stats.open < stats.slots / 2 && attack_now_ns() < deadline_ns);
			(void)honest_ask(&honest, WAIT_MS, "meanwhile");
			victim_stats(&victim, &stats);
			attack_seen(run,
				"%u greeted, %llu of %llu places in use, paused %llu, %llu "
				"not accepted",
				greeted, (unsigned long long)stats.live,
				(unsigned long long)stats.slots,
				(unsigned long long)stats.accept_paused,
				(unsigned long long)stats.accept_errors);
			if (stats.accept_paused == 0)
				attack_fault(run, "accepting never paused");
		}
		attack_memory(run);
		crowd_close(&crowd, true);
		(void)!(honest_dial(&honest, honest_count) &&
			honest_wait(&honest, WAIT_MS, "afterwards") &&
			honest_ask(&honest, WAIT_MS, "afterwards"));
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
}

void attack_table(struct attack_run *run)
{
	attack_tried(run, "%u open connections for 96 places, direct descriptors, then normal ones",
		attack_size(run, 2000, 300, 150));
	attack_expected(run,
		"accepting pauses before the table is full; who is in works on; when "
		"they leave honest peers get in");
	table_fill(run, 0);
	table_fill(run, PH_HUB_NO_DIRECT_DESCRIPTORS);
}

/* ---- no descriptor left ------------------------------------------------------------------ */

/* An accept that is armed keeps the limit it was armed under, so the limit comes before the victim. */
static bool descriptors_limit(struct rlimit *old, uint32_t spare)
{
	struct rlimit limit;
	int next = dup(STDERR_FILENO);

	if (next < 0 || getrlimit(RLIMIT_NOFILE, old) < 0) {
		if (next >= 0)
			close(next);
		return false;
	}
	close(next);
	limit = *old;
	limit.rlim_cur = (rlim_t)next + spare;
	return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* Take all descriptors but `spare`; returns how many were taken. */
static uint32_t descriptors_take(int *taken, uint32_t count_max, uint32_t spare)
{
	uint32_t count = 0;

	while (count < count_max && (taken[count] = dup(STDERR_FILENO)) >= 0)
		count++;
	while (spare-- > 0 && count > 0)
		close(taken[--count]);
	return count;
}

static void descriptors_want(struct attack_run *run, struct victim *victim, struct honest *honest,
	int *fds, uint32_t count)
{
	uint32_t spare = 12, tried, taken_count, honest_count = 4;
	int taken[DESCRIPTORS_MAX];
	struct ph_statistics stats;
	uint64_t deadline_ns;

	honest->victim = victim;
	(void)!(honest_dial(honest, honest_count) && honest_wait(honest, WAIT_MS, "before"));
	taken_count = descriptors_take(taken, DESCRIPTORS_MAX, spare);
	tried = rush(fds, count, &victim->secure);
	deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull;
	do {
		attack_sleep_ms(20);
		victim_stats(victim, &stats);
	} while (stats.accept_errors == 0 && attack_now_ns() < deadline_ns);
	if (stats.accept_errors == 0)
		attack_fault(run, "nothing was refused for want of descriptors");
	(void)honest_ask(honest, WAIT_MS, "meanwhile");
	attack_sleep_ms(run->is_full ? 3000 : 300);
	victim_stats(victim, &stats);
	attack_seen(run, "%u tried, %llu in, accept_errors %llu, turns %llu", tried,
		(unsigned long long)stats.live, (unsigned long long)stats.accept_errors,
		(unsigned long long)stats.turns);
	/* The descriptors stay taken: what the strangers leave is all there is. */
	for (uint32_t i = 0; i < count; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	(void)!(honest_dial(honest, honest_count) && honest_wait(honest, WAIT_MS, "afterwards") &&
		honest_ask(honest, WAIT_MS, "afterwards"));
	while (taken_count > 0)
		close(taken[--taken_count]);
}

void attack_descriptors(struct attack_run *run)
{
	struct ph_options options = {
		.timeout_handshake_ms = 60000, .flags = PH_HUB_NO_DIRECT_DESCRIPTORS};
	uint32_t count = attack_size(run, 500, 100, 60);
	int *fds = fds_create(run, count);
	static struct victim victim, nobody;
	static struct honest honest;
	struct rlimit old;

	memset(&victim, 0, sizeof(victim));
	memset(&nobody, 0, sizeof(nobody));
	nobody.run = run;
	if (fds == NULL)
		return;
	attack_tried(
		run, "%u connects at a hub with normal descriptors that may open 12 more", count);
	attack_expected(run,
		"accept_errors says so, who is in works on, and when the strangers "
		"leave honest peers get in");
	for (uint32_t i = 0; i < count; i++)
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!honest_start(&honest, &nobody, 8, false)) {
		attack_fault(run, "no honest peers");
	} else if (!descriptors_limit(&old, DESCRIPTORS_MAX)) {
		attack_fault(run, "cannot lower the limit of open files");
	} else {
		if (victim_start(&victim, run, &options))
			descriptors_want(run, &victim, &honest, fds, count);
		honest_judge(&honest);
		honest_stop(&honest);
		fds_close(fds, count);
		fds = NULL;
		if (setrlimit(RLIMIT_NOFILE, &old) < 0)
			attack_fault(run, "the limit of open files stays lowered");
		victim_stop(&victim);
	}
	if (fds != NULL)
		fds_close(fds, count);
}
