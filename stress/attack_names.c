/*
 * Attacks on names: ids that were guessed, that have ended, that are right but used with a stranger's tag;
 * and one identity that is there twice. What must hold: a wrong id or tag finds nothing and does nothing,
 * and of one identity's connections the newest stays, whatever order they come in.
 */
#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define WAIT_MS 60000u
#define IDS_MAX 64u
#define STRANGER_TAG (VICTIM_TAG + 1)

/* ---- ids --------------------------------------------------------------------------------- */

struct targets {
	uint64_t ids[IDS_MAX];
	uint32_t count;
};

static int target_visit(void *context, const struct ph_connection *connection)
{
	struct targets *targets = context;

	if (targets->count < IDS_MAX)
		targets->ids[targets->count++] = connection->id;
	return 0;
}

/* Every call that takes an id. Nothing may be found. */
static void id_use(struct attack_run *run, uint64_t id, uint64_t tag, const char *what)
{
	static const uint8_t type[16] = "of a stranger";
	const struct ph_part part = {"x", 1};
	const int answers[] = {ph_send(id, tag, type, &part, 1), ph_pause(id, tag),
		ph_resume(id, tag), ph_close(id, tag, PH_GRACEFUL, PH_REASON_APP_ERROR, "stranger"),
		ph_close(id, tag, PH_ABORT, 0, NULL)};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (answers[i] != -ENOENT)
			attack_fault(run, "%s: call %zu on id %llx answered %d", what, i,
				(unsigned long long)id, answers[i]);
}

static bool is_target(const struct targets *targets, uint64_t id)
{
	for (uint32_t i = 0; i < targets->count; i++)
		if (targets->ids[i] == id)
			return true;
	return false;
}

/* Ids near those that live, and any at all; those of honest peers' own hub live, too, under tag 1. */
static uint64_t id_guess(struct attack_run *run, const struct targets *targets)
{
	uint64_t id = targets->ids[random_below(&run->random, targets->count)];

	switch (random_below(&run->random, 5)) {
	case 0:
		return id ^ 1ull << random_below(&run->random, 64);
	case 1:
		return id + 1 + random_below(&run->random, 1000);
	case 2:
		return id - 1 - random_below(&run->random, 1000);
	case 3:
		return id ^ (uint64_t)random_below(&run->random, 65536) << 32;
	default:
		return random_next(&run->random);
	}
}

/* Connections that have ended, and whose slots others have now. */
static void stale_try(struct attack_run *run, struct victim *victim, uint32_t count)
{
	uint64_t opened, ended;

	for (uint32_t i = 0; i < count; i++) {
		struct client client;
		uint64_t id;

		opened = atomic_load(&victim->opened);
		ended = atomic_load(&victim->ended);
		if (!client_enter(&client, &victim->plain, NULL, "passer-by")) {
			attack_fault(run, "a passer-by is not let in");
			client_close(&client);
			return;
		}
		(void)victim_wait(victim, &victim->opened, opened + 1, WAIT_MS, "an opening");
		id = atomic_load(&victim->last_id);
		client_abort(&client);
		(void)victim_wait(victim, &victim->ended, ended + 1, WAIT_MS, "an end");
		id_use(run, id, VICTIM_TAG, "an ended id");
	}
}

void attack_ids(struct attack_run *run)
{
	uint32_t guesses = attack_size(run, 5000000, 200000, 20000), guessed = 0;
	uint32_t stale = attack_size(run, 2000, 100, 20);
	struct ph_options options = {.connections_per_shard = 256};
	struct targets targets = {.count = 0};
	static struct victim victim;
	static struct honest honest;
	uint64_t begin;

	memset(&victim, 0, sizeof(victim));
	attack_tried(run,
		"every call on %u live ids with another tag, %u guessed ids, %u ended ones",
		IDS_MAX, guesses, stale);
	attack_expected(run, "-ENOENT each time; the connections do not notice");
	if (victim_start(&victim, run, &options) && honest_start(&honest, &victim, IDS_MAX, true) &&
		honest_dial(&honest, IDS_MAX) && honest_wait(&honest, WAIT_MS, "before")) {
		(void)victim_wait(&victim, &victim.opened, IDS_MAX, WAIT_MS, "openings");
		(void)ph_connections(victim.hub, NULL, target_visit, &targets);
		if (targets.count != IDS_MAX)
			attack_fault(run, "%u connections are listed", targets.count);
		for (uint32_t i = 0; i < targets.count; i++) {
			id_use(run, targets.ids[i], STRANGER_TAG, "another tag");
			id_use(run, targets.ids[i], 0, "no tag");
		}
		begin = attack_now_ns();
		while (targets.count > 0 && guessed < guesses && run->fault_count == 0) {
			uint64_t id = id_guess(run, &targets);

			if (is_target(&targets, id))
				continue;
			id_use(run, id, VICTIM_TAG, "a guessed id");
			guessed++;
		}
		attack_seen(run, "%u guesses of 5 calls, %.0f ns a call", guessed,
			(double)(attack_now_ns() - begin) / 5 / guesses);
		stale_try(run, &victim, stale);
		if (!honest_ask(&honest, WAIT_MS, "afterwards"))
			attack_fault(run, "a stranger's call has done something");
		honest_judge(&honest);
	}
	honest_stop(&honest);
	victim_stop(&victim);
}

/* ---- one identity, twice ----------------------------------------------------------------- */

static void one_left_judge(struct victim *victim, uint64_t twins, const char *when)
{
	uint64_t deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull, ids[4];
	struct attack_run *run = victim->run;
	uint32_t there;

	/* All have opened, all but one have ended. */
	(void)victim_wait(victim, &victim->ended, twins - 1, WAIT_MS, "older twins to end");
	do {
		there = ph_find(victim->hub, ATTACK_GROUP, "twin", ids, 4);
		if (there == 1)
			break;
		attack_sleep_ms(10);
	} while (attack_now_ns() < deadline_ns);
	if (there != 1 || atomic_load(&victim->ended) != twins - 1)
		attack_fault(run, "%s: %u connections of the identity are there, %llu ended", when,
			there, (unsigned long long)atomic_load(&victim->ended));
}

/* Each comes when the one before is in. */
static void twins_in_turn(struct victim *victim, struct client *clients, uint32_t count)
{
	SSL_CTX *context = pki_client(victim->run->pki, "twin");

	for (uint32_t i = 0; i < count; i++)
		if (context == NULL || !client_enter(&clients[i], &victim->secure, context, "twin"))
			attack_fault(victim->run, "twin %u is not let in", i);
	SSL_CTX_free(context);
}

/* All of them greet at once, on all shards. */
static void twins_at_once(struct victim *victim, struct crowd *crowd)
{
	uint8_t greeting[2 * CLIENT_MESSAGE_BYTES_MAX];
	size_t bytes = client_auth_info(greeting, ATTACK_GROUP, "twin");

	bytes += client_connect_message(greeting + bytes, 8);
	for (uint32_t i = 0; i < crowd->count; i++)
		if (send(crowd->members[i].fd, greeting, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
			attack_fault(victim->run, "a twin cannot greet");
}

void attack_duplicates(struct attack_run *run)
{
	uint32_t turns = attack_size(run, 500, 40, 10), rounds = attack_size(run, 200, 20, 4);
	uint32_t at_once = 100;
	struct ph_options options = {.connections_per_shard = 1024, .timeout_close_ms = 200};
	struct client *clients = calloc(turns, sizeof(*clients));
	struct crowd crowd = {.count = 0};
	static struct victim victim;
	static struct honest honest;
	uint64_t twins = 0;

	memset(&victim, 0, sizeof(victim));
	victim.newest_wins = "twin";
	attack_tried(run, "%u connections of one identity in turn, then %u times %u at once", turns,
		rounds, at_once);
	attack_expected(run, "the newest stays, each other ends once and is told why");
	if (clients != NULL && victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 8, true)) {
		(void)!(honest_dial(&honest, 8) && honest_wait(&honest, WAIT_MS, "before"));
		twins_in_turn(&victim, clients, turns);
		twins = turns;
		one_left_judge(&victim, twins, "in turn");
		for (uint32_t i = 0; i < rounds && run->fault_count == 0; i++) {
			if (!crowd_open(&crowd, run, &victim.plain, at_once))
				break;
			twins_at_once(&victim, &crowd);
			twins += at_once;
			(void)victim_wait(
				&victim, &victim.opened, twins + 8, WAIT_MS, "twins to open");
			one_left_judge(&victim, twins, "at once");
			crowd_close(&crowd, true);
			/* The one that was left goes with its crowd. */
			(void)victim_wait(&victim, &victim.ended, twins, WAIT_MS, "the last twin");
			twins = atomic_load(&victim.ended);
		}
		attack_seen(run, "%llu twins, %u closed for a newer one", (unsigned long long)twins,
			victim_reason_count(&victim, VICTIM_OLDER));
		attack_memory(run);
		(void)honest_ask(&honest, WAIT_MS, "afterwards");
		honest_judge(&honest);
		honest_stop(&honest);
	}
	for (uint32_t i = 0; clients != NULL && i < turns; i++)
		client_close(&clients[i]);
	free(clients);
	victim_stop(&victim);
}
