/*
 * Hostile certificate chains. The attacker is an insider: an administrator of the group by invitation, who
 * holds its own key and so can sign memberships below its own. Each chain is signed as well as such an
 * attacker can, so that the rule meant is the one that refuses. Two victims see each chain: a p2p.h node,
 * whose rules are those of docs/certificates.md, and a hub with the native interface, whose on_verify
 * believes one authority. What must hold: refused by both, for the right reason, and cheaply.
 *
 *   base chain   C (member) <- B (administrator) <- A (administrator, invited) <- … <- group root
 *   keys held    C, B, A; what lies above A is the victim's
 */
#include "attack_chains.h"

#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <openssl/err.h>

#define WAIT_MS 60000u

/* ---- one try ----------------------------------------------------------------------------- */

/* CPU that others than this thread have used: hubs, above all the victim. */
static uint64_t others_cpu_ns(void)
{
	struct timespec own;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own);
	return attack_cpu_ns() - (uint64_t)own.tv_sec * 1000000000ull - (uint64_t)own.tv_nsec;
}

/* Make `object` say what `wanted` says, in place: an SSL object that holds it shows that. */
static bool certificate_become(X509 *object, X509 *wanted)
{
	uint8_t *der = NULL;
	int bytes = i2d_X509(wanted, &der);
	const uint8_t *at = der;
	bool is_done = bytes > 0 && d2i_X509(&object, &at, bytes) != NULL;

	OPENSSL_free(der);
	return is_done;
}

/* An SSL object that shows the chain; a leaf that does not fit the key gets in by the back door. */
static SSL *chain_ssl(SSL_CTX *context, const struct hostile_chain *chain)
{
	X509 *shown = X509_dup(chain->fitting);
	SSL *ssl = SSL_new(context);
	bool is_made = ssl != NULL && shown != NULL;

	if (is_made && chain->count > 0) {
		is_made = SSL_use_certificate(ssl, shown) == 1 &&
			SSL_use_PrivateKey(ssl, chain->key) == 1;
		for (uint32_t i = 1; is_made && i < chain->count; i++)
			is_made = SSL_add1_chain_cert(ssl, chain->x509[i]) == 1;
		is_made = is_made && certificate_become(shown, chain->x509[0]);
	}
	X509_free(shown);
	ERR_clear_error();
	if (is_made)
		return ssl;
	SSL_free(ssl);
	return NULL;
}

struct target {
	struct ph_hub *hub;
	ph_address address;
	const char *sni, *group;
};

static uint16_t own_port(int fd)
{
	struct sockaddr_storage name;
	socklen_t bytes = sizeof(name);

	if (getsockname(fd, (struct sockaddr *)&name, &bytes) < 0)
		return 0;
	return name.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&name)->sin_port
					 : ((struct sockaddr_in6 *)(void *)&name)->sin6_port;
}

/* The victim's receipt of the connection from this port. */
static bool receipt_find(
	struct ph_hub *hub, uint16_t port, uint64_t since_ns, struct ph_receipt *receipt)
{
	static struct ph_receipt receipts[512];
	uint64_t deadline_ns = attack_now_ns() + WAIT_MS * 1000000ull;

	do {
		uint32_t count = ph_receipts(hub, receipts, 512);

		for (uint32_t i = 0; i < count; i++) {
			if (receipts[i].peer_address.sin6_port != port || !receipts[i].accepted ||
				receipts[i].time_end_ns < since_ns)
				continue;
			*receipt = receipts[i];
			return true;
		}
		attack_sleep_ms(1);
	} while (attack_now_ns() < deadline_ns);
	return false;
}

/* Connect with the chain, and greet if that is possible. Returns whether it got in. */
static bool chain_try(SSL_CTX *context, const struct hostile_chain *chain,
	const struct target *target, struct ph_receipt *receipt, uint64_t *cpu_ns, bool *is_told)
{
	uint64_t since_ns = attack_now_ns(), cpu = others_cpu_ns();
	SSL *ssl = chain_ssl(context, chain);
	struct client client;
	bool is_in = false, is_found;
	uint16_t port;

	*is_told = false;
	memset(receipt, 0, sizeof(*receipt));
	if (ssl == NULL || !client_open(&client, &target->address)) {
		SSL_free(ssl);
		return false;
	}
	port = own_port(client.fd);
	is_in = client_handshake(&client, ssl, target->sni) &&
		client_greet_group(&client, target->group, chain->name);
	if (is_in) {
		client_close(&client);
	} else {
		/* Who refused us waits, a second at most, for us to have read why. */
		shutdown(client.fd, SHUT_WR);
		*is_told = client_wait_end(&client) != CLIENT_STILL_OPEN;
		client_close(&client);
	}
	is_found = receipt_find(target->hub, port, since_ns, receipt);
	*cpu_ns = others_cpu_ns() - cpu;
	if (!is_found)
		receipt->reason = UINT32_MAX;
	return is_in;
}

/* ---- judging ------------------------------------------------------------------------------ */

struct chains {
	struct attack_run *run;
	SSL_CTX *context;
	struct hostile_scene scene;
	uint64_t good_ns; /* CPU of a good chain at the p2p victim */
	uint64_t sum_ns, most_ns;
	uint32_t tries;
	const char *most_name;
};

static void refusal_judge(struct chains *chains, const struct hostile *hostile, const char *victim,
	const struct ph_receipt *receipt, uint32_t reason, const char *text)
{
	if (receipt->reason != reason || strstr(receipt->text, text) == NULL)
		attack_fault(chains->run, "%s, %s: the receipt says %s (%s), not %s (%s)",
			hostile->name, victim, ph_reason_name(receipt->reason), receipt->text,
			ph_reason_name(reason), text);
}

/* By one victim, as often as the CPU is wanted to be steady; the least counts. */
static void chain_judge(struct chains *chains, const struct hostile *hostile,
	const struct hostile_chain *chain, const struct target *target, bool is_p2p)
{
	uint32_t rounds = chains->run->is_full ? 5 : 1;
	const char *victim = is_p2p ? "p2p" : "native";
	struct attack_run *run = chains->run;
	uint64_t cpu_ns = UINT64_MAX, each_ns;
	struct ph_receipt receipt;
	bool is_told;

	for (uint32_t i = 0; i < rounds; i++) {
		if (chain_try(chains->context, chain, target, &receipt, &each_ns, &is_told)) {
			attack_fault(run, "%s, %s: got in", hostile->name, victim);
			return;
		}
		if (!is_told)
			attack_fault(
				run, "%s, %s: the attacker was not told", hostile->name, victim);
		cpu_ns = each_ns < cpu_ns ? each_ns : cpu_ns;
	}
	if (hostile->by_engine || is_p2p)
		refusal_judge(chains, hostile, victim, &receipt, hostile->reason, hostile->text);
	else
		refusal_judge(chains, hostile, victim, &receipt, PH_REASON_PROTOCOL_VERIFY,
			"not signed by the authority");
	chains->sum_ns += cpu_ns;
	chains->tries++;
	if (cpu_ns > chains->most_ns) {
		chains->most_ns = cpu_ns;
		chains->most_name = hostile->name;
	}
	if (run->is_full)
		printf("  chain %-42s %-6s %6.0f us  %s\n", hostile->name, victim,
			(double)cpu_ns / 1e3, receipt.text);
}

/* A good one gets in: before and after, an honest member. */
static void good_judge(struct chains *chains, const struct target *target, const char *when)
{
	struct hostile_chain chain;
	struct ph_receipt receipt;
	uint64_t best_ns = UINT64_MAX, cpu_ns;
	bool is_told;

	if (!hostile_base(&chains->scene, &chain)) {
		attack_fault(chains->run, "no memory for a chain");
		return;
	}
	for (int i = 0; i < 5; i++) {
		if (!chain_try(chains->context, &chain, target, &receipt, &cpu_ns, &is_told))
			attack_fault(
				chains->run, "%s: a good chain is refused: %s", when, receipt.text);
		best_ns = cpu_ns < best_ns ? cpu_ns : best_ns;
	}
	if (chains->good_ns == 0)
		chains->good_ns = best_ns;
	hostile_chain_fini(&chain);
}

static void chains_run(struct chains *chains, struct p2p_victim *node, struct victim *victim)
{
	const struct target p2p = {.hub = node->groups[0].hub,
		.address = node->groups[0].address,
		.sni = node->groups[0].sni,
		.group = node->groups[0].name};
	const struct target native = {.hub = victim->hub,
		.address = victim->secure,
		.sni = ATTACK_SNI,
		.group = ATTACK_GROUP};
	struct attack_run *run = chains->run;
	uint32_t count = 0;

	good_judge(chains, &p2p, "before");
	for (const struct hostile *each = hostile_list; each->name != NULL; each++) {
		struct hostile_chain chain;

		count++;
		if (!hostile_base(&chains->scene, &chain) || !each->bend(&chains->scene, &chain)) {
			attack_fault(run, "%s: cannot be made", each->name);
		} else {
			chain_judge(chains, each, &chain, &p2p, true);
			chain_judge(chains, each, &chain, &native, false);
		}
		hostile_chain_fini(&chain);
		attack_memory(run);
	}
	good_judge(chains, &p2p, "afterwards");
	attack_tried(
		run, "%u hostile chains by an insider, at a p2p.h node and at a native hub", count);
	attack_seen(run,
		"%u refusals, hub's CPU %.0f us on average, most %.0f us (%s), a good chain "
		"let in %.0f us",
		chains->tries, (double)chains->sum_ns / 1e3 / (chains->tries + !chains->tries),
		(double)chains->most_ns / 1e3, chains->most_name != NULL ? chains->most_name : "-",
		(double)chains->good_ns / 1e3);
	/* A refusal may cost what a good handshake costs, and parsing of up to 96 KiB on top. */
	if (run->is_full && chains->most_ns > 4 * chains->good_ns)
		attack_fault(
			run, "%s costs %.0f us", chains->most_name, (double)chains->most_ns / 1e3);
	snprintf(run->honest, sizeof(run->honest), "a good chain got in 5 times before and after");
}

void attack_chains(struct attack_run *run)
{
	struct ph_options options = {.shard_count = 1};
	static struct p2p_victim node;
	static struct victim victim;
	struct chains chains = {.run = run};

	memset(&victim, 0, sizeof(victim));
	attack_tried(run, "hostile certificate chains");
	attack_expected(run, "refused, the receipt names the rule, %s",
		run->is_full ? "at most 4 times a good handshake's CPU" : "cheaply (printed)");
	chains.context = SSL_CTX_new(TLS_client_method());
	if (chains.context == NULL) {
		attack_fault(run, "no TLS context");
		return;
	}
	/* We show what no decent client shows. */
	SSL_CTX_set_security_level(chains.context, 0);
	SSL_CTX_set_verify(chains.context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_mode(chains.context, SSL_MODE_NO_AUTO_CHAIN);
	if (victim_start(&victim, run, &options) && p2p_start(&node, run) &&
		hostile_scene_init(&chains.scene, &node))
		chains_run(&chains, &node, &victim);
	hostile_scene_fini(&chains.scene);
	p2p_stop(&node);
	victim_stop(&victim);
	SSL_CTX_free(chains.context);
}

/* ---- ids of one p2p group, used through another ------------------------------------------- */

/* Everything of p2p.h that takes an id. */
static void group_use(struct attack_run *run, HGROUP group, uint64_t id, const char *what)
{
	GUID type = {0x12345678, 1, 2, {3, 4, 5, 6, 7, 8, 9, 10}};
	HRESULT sent = PeerGroupSendData(group, id, &type, 1, (PVOID)(uintptr_t) "x");
	HRESULT closed = PeerGroupCloseDirectConnection(group, id);

	if (sent != PEER_E_CONNECTION_NOT_FOUND || closed != PEER_E_CONNECTION_NOT_FOUND)
		attack_fault(run, "%s: send %#x, close %#x on id %llx", what, (unsigned)sent,
			(unsigned)closed, (unsigned long long)id);
}

static void groups_run(struct attack_run *run, struct p2p_victim *node, struct client *client,
	struct hostile_scene *scene, SSL_CTX *context)
{
	uint32_t guesses = attack_size(run, 1000000, 50000, 5000), ended = 0;
	struct p2p_group *own = &node->groups[0], *other = &node->groups[1];
	GUID type = {0x12345678, 1, 2, {3, 4, 5, 6, 7, 8, 9, 10}};
	uint8_t answer[64];
	struct hostile_chain chain;
	uint64_t id = 0;

	if (!hostile_base(scene, &chain) || !client_open(client, &own->address) ||
		!client_handshake(client, chain_ssl(context, &chain), own->sni) ||
		!client_greet_group(client, own->name, chain.name)) {
		attack_fault(run, "the member is not let in");
		hostile_chain_fini(&chain);
		return;
	}
	hostile_chain_fini(&chain);
	for (int i = 0; i < 3000 && id == 0; i++) {
		attack_sleep_ms(10);
		id = p2p_events(own, &ended);
	}
	if (id == 0) {
		attack_fault(run, "no PEER_CONNECTED came");
		return;
	}
	for (int i = 0; i < 100; i++)
		group_use(run, other->handle, id, "another group's handle");
	for (uint32_t i = 0; i < guesses && run->fault_count == 0; i++) {
		uint64_t guess = i % 2 == 0 ? random_next(&run->random)
					    : id ^ 1ull << random_below(&run->random, 64);

		group_use(run, own->handle, guess, "a guessed id");
		group_use(run, other->handle, guess, "a guessed id");
	}
	/* Still there, and still this one's. */
	if (PeerGroupSendData(own->handle, id, &type, 1, (PVOID)(uintptr_t) "y") != S_OK ||
		client_read(client, answer, sizeof(answer)) != 29 || answer[28] != 'y')
		attack_fault(run, "the connection has been touched");
	(void)p2p_events(own, &ended);
	if (ended != 0)
		attack_fault(run, "%u ends came", ended);
	if (PeerGroupCloseDirectConnection(own->handle, id) != S_OK)
		attack_fault(run, "its own group cannot close it");
	group_use(run, own->handle, id, "an id that is closing");
	attack_seen(run, "100 uses through another group, %u guesses through both", guesses);
}

void attack_groups(struct attack_run *run)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	static struct p2p_victim node;
	struct hostile_scene scene = {.node = NULL};
	struct client client = {.fd = -1};

	attack_tried(
		run, "a direct connection's id with another group's handle; guessed ids with both");
	attack_expected(
		run, "PEER_E_CONNECTION_NOT_FOUND each time; the connection does not notice");
	if (context != NULL && p2p_start(&node, run) && hostile_scene_init(&scene, &node))
		groups_run(run, &node, &client, &scene, context);
	client_close(&client);
	hostile_scene_fini(&scene);
	if (context != NULL)
		p2p_stop(&node);
	SSL_CTX_free(context);
}
