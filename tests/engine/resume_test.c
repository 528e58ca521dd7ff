/*
 * Resumption secrets: the table of them by itself, then two hubs on the real kernel that come back to each
 * other. Nothing depends on timing: each wait ends on an event and has a generous limit.
 */
#include "engine/resume.h"
#include "engine/clock.h"
#include "engine/hub.h"
#include "tests/engine/test_certs.h"

#include <openssl/sha.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define TAG 77
#define WAIT_SECONDS 60
#define GROUP "g.group"

/* ---- the table --------------------------------------------------------------------------- */

struct material {
	EVP_PKEY *key;
	X509 *x509;
	struct ph_bytes der;
	struct ph_chain chain;
	uint8_t authority[SHA256_DIGEST_LENGTH];
};

/* A chain of one that ends `lifetime_s` from now. */
static void material_init(struct material *material, long lifetime_s, long serial)
{
	uint8_t *spki = NULL;
	int bytes;

	material->key = test_key_create(TEST_P256);
	material->x509 = test_certificate_create(material->key, "peer", NULL, material->key, 0);
	TEST_MUST(X509_gmtime_adj(X509_getm_notAfter(material->x509), lifetime_s) != NULL);
	TEST_MUST(ASN1_INTEGER_set(X509_get_serialNumber(material->x509), serial) == 1);
	TEST_MUST(X509_sign(material->x509, material->key, EVP_sha256()) > 0);
	material->der = test_certificate_der(material->x509);
	material->chain =
		(struct ph_chain){.count = 1, .der = {material->der}, .x509 = {material->x509}};
	bytes = i2d_PUBKEY(material->key, &spki);
	TEST_MUST(bytes > 0);
	SHA256(spki, (size_t)bytes, material->authority);
	OPENSSL_free(spki);
}

static void material_fini(struct material *material)
{
	test_bytes_free(material->der);
	X509_free(material->x509);
	EVP_PKEY_free(material->key);
}

static struct resume_entry *entry_of(struct resume_chain *chain, uint8_t name, const char *identity,
	uint64_t tag, uint32_t generation)
{
	const struct resume_facts facts = {.own_group = GROUP,
		.own_identity = "us",
		.group = GROUP,
		.identity = identity,
		.role = 3,
		.tag = tag};
	struct resume_entry *entry = resume_entry_create(&facts, chain, generation);

	assert_non_null(entry);
	memset(entry->name, name, sizeof(entry->name));
	memset(entry->secret, name ^ 0xff, sizeof(entry->secret));
	entry->expires_ns = 1000;
	return entry;
}

static const uint8_t *name_of(uint8_t name)
{
	static uint8_t made[RESUME_ID_BYTES];

	memset(made, name, sizeof(made));
	return made;
}

static bool has(struct resume *resume, enum resume_side side, uint8_t name)
{
	struct resume_entry *entry = resume_take(resume, side, name_of(name), 999, clock_real_s());
	bool is_there = entry != NULL;

	if (is_there)
		assert_int_equal(entry->secret[7], name ^ 0xff);
	resume_entry_destroy(entry);
	return is_there;
}

/* One use: whoever takes it has it, the next finds nothing; and the two sides never see each other's. */
static void resume_is_taken_once(void **state)
{
	struct resume *resume = resume_create(8);
	struct resume_chain *chain;
	struct material material;

	(void)state;
	material_init(&material, 3600, 1);
	chain = resume_chain_create(&material.chain);
	assert_non_null(chain);
	resume_put(resume, RESUME_ISSUED, entry_of(chain, 1, "a", TAG, 0));
	resume_put(resume, RESUME_KEPT, entry_of(chain, 2, "a", TAG, 0));
	assert_false(has(resume, RESUME_KEPT, 1)); /* reflection: what was issued is no client's */
	assert_false(has(resume, RESUME_ISSUED, 2)); /* and what is kept no server's */
	assert_true(has(resume, RESUME_ISSUED, 1));
	assert_false(has(resume, RESUME_ISSUED, 1));
	assert_true(has(resume, RESUME_KEPT, 2));
	assert_false(has(resume, RESUME_KEPT, 2));
	resume_chain_put(chain);
	resume_destroy(resume);
	material_fini(&material);
}

/* Its own time and the chain's: either ends it, and a day ends any. */
static void resume_ends_in_time(void **state)
{
	struct resume *resume = resume_create(8);
	int64_t now_s = clock_real_s();
	struct resume_chain *chain;
	struct material material;

	(void)state;
	material_init(&material, 3600, 1);
	chain = resume_chain_create(&material.chain);
	resume_put(resume, RESUME_ISSUED, entry_of(chain, 1, "a", TAG, 0));
	assert_null(resume_take(resume, RESUME_ISSUED, name_of(1), 1000, now_s));
	resume_put(resume, RESUME_ISSUED, entry_of(chain, 1, "a", TAG, 0));
	assert_null(resume_take(resume, RESUME_ISSUED, name_of(1), 999, chain->valid_to_s));
	assert_int_equal(resume_count(resume, RESUME_ISSUED), 0);
	assert_true(chain->valid_to_s >= now_s + 3590 && chain->valid_to_s <= now_s + 3610);
	assert_int_equal(resume_lifetime_s(chain, chain->valid_to_s - 7), 7);
	assert_int_equal(resume_lifetime_s(chain, chain->valid_to_s), 0);
	assert_int_equal(resume_lifetime_s(chain, chain->valid_to_s + 5), 0);
	assert_int_equal(resume_lifetime_s(chain, 0), RESUME_LIFETIME_MAX_S);
	resume_chain_put(chain);
	resume_destroy(resume);
	material_fini(&material);
}

/* Never more than was asked for: the oldest goes, a name has one entry only. */
static void resume_is_bounded(void **state)
{
	struct resume *resume = resume_create(3);
	struct resume_chain *chain;
	struct material material;

	(void)state;
	material_init(&material, 3600, 1);
	chain = resume_chain_create(&material.chain);
	for (uint8_t name = 1; name <= 100; name++) {
		resume_put(resume, RESUME_ISSUED, entry_of(chain, name, "a", TAG, 0));
		resume_put(resume, RESUME_ISSUED, entry_of(chain, name, "a", TAG, 0));
		assert_int_equal(resume_count(resume, RESUME_ISSUED), name < 3 ? name : 3);
	}
	assert_false(has(resume, RESUME_ISSUED, 97));
	for (uint8_t name = 98; name <= 100; name++)
		assert_true(has(resume, RESUME_ISSUED, name));
	assert_int_equal(atomic_load(&chain->count), 1); /* all others have let go of it */
	resume_chain_put(chain);
	resume_destroy(resume);
	material_fini(&material);
}

/* Each of 20,000 has a name of its own. */
static struct resume_entry *entry_of_visit(struct resume_chain *chain, uint32_t visit)
{
	struct resume_entry *entry = entry_of(chain, 0, "often", TAG, 0);

	memcpy(entry->name, &visit, sizeof(visit));
	entry->name[31] = 0xaa;
	return entry;
}

/* Who comes again and again pushes out its own oldest; the few of others, older than all of them, stay. What
 * it takes makes room for as many; and a peer by the same name elsewhere, or of another of our identities, is
 * another one. */
static void resume_of_one_peer_leaves_the_others(void **state)
{
	struct resume *resume = resume_create(64);
	struct resume_facts facts = {.own_group = GROUP,
		.own_identity = "us, too",
		.group = GROUP,
		.identity = "often",
		.tag = TAG};
	struct resume_entry *entry;
	struct resume_chain *chain;
	struct material material;

	(void)state;
	material_init(&material, 3600, 1);
	chain = resume_chain_create(&material.chain);
	for (uint8_t name = 1; name <= 3; name++)
		resume_put(resume, RESUME_ISSUED, entry_of(chain, name, "seldom", TAG, 0));
	for (uint8_t name = 4; name <= 5; name++) {
		entry = resume_entry_create(&facts, chain, 0);
		assert_non_null(entry);
		memset(entry->name, name, sizeof(entry->name));
		memset(entry->secret, name ^ 0xff, sizeof(entry->secret));
		entry->expires_ns = 1000;
		resume_put(resume, RESUME_ISSUED, entry);
		facts.own_identity = "us";
		facts.group = "another";
	}
	for (uint32_t visit = 0; visit < 20000; visit++) {
		resume_put(resume, RESUME_ISSUED, entry_of_visit(chain, visit));
		if (visit % 7 == 6) { /* now and then it uses one: not always its newest */
			entry = entry_of_visit(chain, visit - visit % 3);
			resume_entry_destroy(resume_take(
				resume, RESUME_ISSUED, entry->name, 999, clock_real_s()));
			resume_entry_destroy(entry);
		}
		assert_true(resume_count(resume, RESUME_ISSUED) <= 5 + RESUME_ISSUED_PER_PEER);
	}
	for (uint32_t visit = 20000; visit < 20004; visit++)
		resume_put(resume, RESUME_ISSUED, entry_of_visit(chain, visit));
	assert_int_equal(resume_count(resume, RESUME_ISSUED), 5 + RESUME_ISSUED_PER_PEER);
	for (uint32_t visit = 19999; visit < 20004; visit++) {
		struct resume_entry *taken;

		entry = entry_of_visit(chain, visit);
		taken = resume_take(resume, RESUME_ISSUED, entry->name, 999, clock_real_s());
		assert_true((taken != NULL) == (visit >= 20000)); /* its newest four */
		resume_entry_destroy(taken);
		resume_entry_destroy(entry);
	}
	for (uint8_t name = 1; name <= 5; name++)
		assert_true(has(resume, RESUME_ISSUED, name));
	assert_int_equal(resume_count(resume, RESUME_ISSUED), 0);
	/* Where we dial the limit is the table's alone. */
	for (uint32_t visit = 0; visit < 100; visit++)
		resume_put(resume, RESUME_KEPT, entry_of_visit(chain, visit));
	assert_int_equal(resume_count(resume, RESUME_KEPT), 64);
	resume_destroy(resume);
	assert_int_equal(atomic_load(&chain->count), 1);
	resume_chain_put(chain);
	material_fini(&material);
}

/* Each condition of a revocation by itself and together, on both sides; what was verified before it and comes
 * after it stays out. */
static void resume_drops_what_is_revoked(void **state)
{
	static const uint8_t one[] = {1}, two[] = {2};
	struct resume *resume = resume_create(64);
	struct material first, second;
	struct resume_chain *chains[2];
	struct ph_resume_filter filters[8];
	uint32_t count = 0;

	(void)state;
	material_init(&first, 3600, 1);
	material_init(&second, 3600, 2);
	chains[0] = resume_chain_create(&first.chain);
	chains[1] = resume_chain_create(&second.chain);
	filters[count++] = (struct ph_resume_filter){.authority = first.authority};
	filters[count++] = (struct ph_resume_filter){.serial = {one, 1}};
	filters[count++] = (struct ph_resume_filter){.identity = "a", .group = ""};
	filters[count++] = (struct ph_resume_filter){.has_tag = 1, .tag = 10, .group = GROUP};
	filters[count++] =
		(struct ph_resume_filter){.authority = first.authority, .serial = {one, 1}};
	for (uint32_t index = 0; index < count; index++) {
		uint32_t generation = resume_generation(resume);

		for (int side = RESUME_ISSUED; side <= RESUME_KEPT; side++) {
			resume_put(resume, side, entry_of(chains[0], 1, "a", 10, generation));
			resume_put(resume, side, entry_of(chains[1], 2, "b", 11, generation));
		}
		assert_int_equal(resume_drop(resume, &filters[index]), 2);
		for (int side = RESUME_ISSUED; side <= RESUME_KEPT; side++) {
			assert_false(has(resume, side, 1));
			assert_true(has(resume, side, 2));
		}
		resume_put(resume, RESUME_ISSUED, entry_of(chains[0], 1, "a", 10, generation));
		assert_int_equal(resume_count(resume, RESUME_ISSUED), 0);
	}
	resume_put(
		resume, RESUME_ISSUED, entry_of(chains[0], 1, "a", 10, resume_generation(resume)));
	filters[0] = (struct ph_resume_filter){.authority = first.authority, .serial = {two, 1}};
	assert_int_equal(resume_drop(resume, &filters[0]), 0);
	filters[0] = (struct ph_resume_filter){.identity = "a", .group = "another"};
	assert_int_equal(resume_drop(resume, &filters[0]), 0);
	assert_int_equal(resume_drop_tag(resume, 11), 0);
	assert_int_equal(resume_drop_tag(resume, 10), 1);
	resume_chain_put(chains[0]);
	resume_chain_put(chains[1]);
	resume_destroy(resume);
	material_fini(&first);
	material_fini(&second);
}

/* What is shown again is what was seen, and a chain that is too large to keep is not kept. */
static void resume_chain_is_kept_as_it_was(void **state)
{
	struct material material;
	struct resume_chain *chain;
	struct ph_chain shown, large;
	EVP_PKEY *key = test_key_create(TEST_P256);
	X509 *x509 = test_certificate_create(key, "large", NULL, key, RESUME_CHAIN_BYTES_MAX);

	(void)state;
	material_init(&material, 3600, 0x123456);
	chain = resume_chain_create(&material.chain);
	assert_non_null(chain);
	resume_chain_show(chain, &shown);
	assert_int_equal(shown.resumed, 1);
	assert_int_equal(shown.count, 1);
	assert_null(shown.x509[0]);
	assert_int_equal(shown.der[0].bytes, material.der.bytes);
	assert_memory_equal(shown.der[0].data, material.der.data, material.der.bytes);
	assert_int_equal(chain->links[0].serial_bytes, 3);
	assert_memory_equal(chain->links[0].serial, "\x12\x34\x56", 3);
	assert_memory_equal(chain->links[0].authority, material.authority, RESUME_AUTHORITY_BYTES);
	assert_null(
		resume_chain_create(&shown)); /* without parsed certificates there are no facts */
	large = (struct ph_chain){.count = 1, .der = {test_certificate_der(x509)}, .x509 = {x509}};
	assert_null(resume_chain_create(&large));
	test_bytes_free(large.der[0]);
	X509_free(x509);
	EVP_PKEY_free(key);
	resume_chain_put(chain);
	material_fini(&material);
}

/* ---- two hubs ---------------------------------------------------------------------------- */

struct side {
	struct ph_hub *hub;
	struct ph_credentials *credentials; /* the server's: shown to those who dial */
	uint64_t tag; /* given to accepted ones */
	uint32_t role; /* given to peers */
	bool refuse_resumed, refuse_all;
	unsigned opened, closed, resumed, verified, verified_resumed;
	uint64_t ids[64];
	bool was_resumed[64];
	struct ph_receipt last; /* receipt */
	uint8_t chain[4096]; /* of the peer, as last seen */
	size_t chain_bytes;
};

/* Under one lock; waits are on its condition. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct side server, client;
static ph_address server_address;

static void wait_for(const unsigned *counter, unsigned wanted)
{
	struct timespec until;
	int status = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&lock);
	while (*counter < wanted && status == 0)
		status = pthread_cond_timedwait(&changed, &lock, &until);
	pthread_mutex_unlock(&lock);
	if (status != 0)
		fail_msg("waited for %u, saw %u (last end: %s, %s)", wanted, *counter,
			ph_reason_name(client.last.reason), client.last.text);
}

static int on_hello(void *hub_user, const char *sni, struct ph_hello_answer *answer)
{
	struct side *side = hub_user;

	if (strcmp(sni, "b.g.p2p") != 0)
		return -ENOENT;
	pthread_mutex_lock(&lock);
	answer->credentials = ph_credentials_get(side->credentials);
	pthread_mutex_unlock(&lock);
	strcpy(answer->group, GROUP);
	strcpy(answer->identity, "b.server");
	return 0;
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct side *side = hub_user;
	int status = 0;

	(void)id, (void)sni, (void)expected;
	TEST_MUST(chain->count == 1 && (chain->x509[0] == NULL) == (chain->resumed != 0));
	pthread_mutex_lock(&lock);
	side->verified++;
	if (chain->resumed) {
		side->verified_resumed++;
		TEST_MUST(strcmp(verdict->group, GROUP) == 0);
		TEST_MUST(strcmp(verdict->identity, accepted ? "a.client" : "b.server") == 0);
	}
	TEST_MUST(chain->der[0].bytes <= sizeof(side->chain));
	memcpy(side->chain, chain->der[0].data, chain->der[0].bytes);
	side->chain_bytes = chain->der[0].bytes;
	if (side->refuse_all || (chain->resumed && side->refuse_resumed)) {
		strcpy(verdict->refusal, "not today");
		status = -EACCES;
	}
	strcpy(verdict->group, GROUP);
	strcpy(verdict->identity, accepted ? "a.client" : "b.server");
	verdict->role = side->role;
	if (accepted)
		verdict->tag = side->tag;
	pthread_mutex_unlock(&lock);
	return status;
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct side *side = hub_user;

	(void)user;
	pthread_mutex_lock(&lock);
	TEST_MUST(side->opened < 64);
	side->ids[side->opened] = id;
	side->was_resumed[side->opened++] = info->resumed;
	side->resumed += info->resumed != 0;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct side *side = hub_user;

	(void)id, (void)user;
	pthread_mutex_lock(&lock);
	side->closed++;
	side->last = *receipt;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static const struct ph_callbacks callbacks = {
	.on_hello = on_hello,
	.on_verify = on_verify,
	.on_open = on_open,
	.on_closed = on_closed,
};

static void side_start(struct side *side, uint32_t flags)
{
	struct ph_options options = {.shard_count = 2,
		.connections_per_shard = 64,
		.flags = flags,
		.user = side,
		.resumptions_max = 4};
	char why[PH_WHY_BYTES];

	if (ph_hub_start(&options, &callbacks, &side->hub, why) < 0)
		fail_msg("ph_hub_start: %s", why);
}

static void server_listen(void)
{
	struct ph_listen_options listen = {.framing = PH_FRAMING_MESSAGE, .tls = PH_TLS_MUTUAL};

	listen.address = server_address;
	assert_true(ph_listen(server.hub, &listen, &server_address) >= 0);
}

static void pair_start(uint32_t server_flags, uint32_t client_flags)
{
	memset(&server, 0, sizeof(server));
	memset(&client, 0, sizeof(client));
	server.credentials = test_identity_create(TEST_P256, "server");
	client.credentials = test_identity_create(TEST_P256, "client");
	server.tag = TAG;
	server.role = client.role = 3;
	side_start(&server, server_flags);
	side_start(&client, client_flags);
	assert_int_equal(ph_address_parse("127.0.0.1:0", &server_address), 0);
	server_listen();
}

static void pair_stop(void)
{
	assert_int_equal(ph_hub_stop(client.hub, PH_GRACEFUL), 0);
	assert_int_equal(ph_hub_stop(server.hub, PH_GRACEFUL), 0);
	ph_credentials_put(server.credentials);
	ph_credentials_put(client.credentials);
}

static struct ph_open_options dial_options(void)
{
	return (struct ph_open_options){.address = server_address,
		.kind = PH_KIND_DIRECT,
		.credentials = client.credentials,
		.sni = "b.g.p2p",
		.group = GROUP,
		.source = "a.client",
		.expected = "b.server",
		.tag = TAG};
}

static uint64_t dial(void)
{
	struct ph_open_options options = dial_options();
	uint64_t id = 0;

	assert_int_equal(ph_open(client.hub, &options, &id), 0);
	return id;
}

static uint64_t kept_count(void)
{
	struct ph_statistics stats;

	ph_stats(client.hub, &stats);
	return stats.resumes_kept;
}

/* Dial, wait until both are open and the secret has come, say whether it was resumed, and close. */
static bool visit(void)
{
	unsigned opened_there = server.opened, opened_here = client.opened, closed = client.closed;
	unsigned closed_there = server.closed;
	uint64_t kept = kept_count(), id = dial();
	struct timespec pause = {.tv_nsec = 1000000};
	bool was_resumed;

	wait_for(&client.opened, opened_here + 1);
	wait_for(&server.opened, opened_there + 1);
	for (int tries = 0; kept_count() == kept && tries < 1000 * WAIT_SECONDS; tries++)
		nanosleep(&pause, NULL);
	was_resumed = client.was_resumed[opened_here];
	assert_int_equal(was_resumed, server.was_resumed[opened_there]);
	assert_int_equal(ph_close(id, TAG, PH_GRACEFUL, 0, NULL), 0);
	wait_for(&client.closed, closed + 1);
	wait_for(&server.closed, closed_there + 1);
	return was_resumed;
}

/* Who comes back is known, each time by a new secret; on_verify hears of it with the chain of the first
 * time, on both ends. */
static void resume_of_a_peer_that_comes_back(void **state)
{
	struct ph_statistics stats;
	uint8_t chain[sizeof(server.chain)];
	size_t bytes;

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	bytes = server.chain_bytes;
	memcpy(chain, server.chain, bytes);
	server.chain_bytes = 0;
	for (unsigned round = 1; round <= 5; round++) {
		assert_true(visit());
		assert_int_equal(server.verified_resumed, round);
		assert_int_equal(client.verified_resumed, round);
		assert_int_equal(server.verified, round + 1);
		assert_int_equal(server.chain_bytes, bytes);
		assert_memory_equal(server.chain, chain, bytes);
	}
	ph_stats(server.hub, &stats);
	assert_int_equal(stats.resumes_issued, 6);
	assert_int_equal(stats.resumes_accepted, 5);
	assert_int_equal(stats.resumes_missed, 0);
	ph_stats(client.hub, &stats);
	assert_int_equal(stats.resumes_dialled, 5);
	assert_int_equal(stats.resumes_kept, 6);
	pair_stop();
}

/* The secret that the client has now, twice. */
static void secret_copy(struct resume_entry *copies[2])
{
	struct ph_open_options options = dial_options();
	uint8_t name[RESUME_ID_BYTES];
	struct conn_setup *setup;

	assert_int_equal(conn_setup_create(&options, &setup), 0);
	conn_resume_name(setup, name);
	conn_setup_destroy(setup);
	copies[0] =
		resume_take(client.hub->resume, RESUME_KEPT, name, clock_now_ns(), clock_real_s());
	assert_non_null(copies[0]);
	copies[1] = entry_of(copies[0]->chain, 0, "b.server", TAG, copies[0]->generation);
	memcpy(copies[1]->name, copies[0]->name, sizeof(copies[1]->name));
	memcpy(copies[1]->id, copies[0]->id, sizeof(copies[1]->id));
	memcpy(copies[1]->secret, copies[0]->secret, sizeof(copies[1]->secret));
	copies[1]->expires_ns = copies[0]->expires_ns;
}

/* One secret used twice: good for one connection, the other shows its certificates. */
static void resume_twice_by_one_secret(void **state)
{
	struct resume_entry *copies[2];
	struct ph_statistics stats;

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	secret_copy(copies);
	resume_put(client.hub->resume, RESUME_KEPT, copies[0]);
	assert_true(visit());
	resume_put(client.hub->resume, RESUME_KEPT, copies[1]);
	assert_false(visit());
	ph_stats(server.hub, &stats);
	assert_int_equal(stats.resumes_missed, 1);
	assert_true(visit());
	pair_stop();
}

/* What ends at the hub ends there, whatever its peer believes: its own clock counts. */
static void resume_past_its_end(void **state)
{
	struct resume_entry *copies[2], *issued;

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	secret_copy(copies);
	issued = resume_take(
		server.hub->resume, RESUME_ISSUED, copies[0]->id, clock_now_ns(), clock_real_s());
	assert_non_null(issued);
	assert_true(issued->expires_ns > clock_now_ns() + 40000ull * 1000000000u);
	assert_true(issued->expires_ns < clock_now_ns() + 86401ull * 1000000000u);
	issued->expires_ns = clock_now_ns();
	resume_put(server.hub->resume, RESUME_ISSUED, issued);
	resume_put(client.hub->resume, RESUME_KEPT, copies[0]);
	assert_false(visit());
	/* And an end at the client is not even offered. */
	copies[1]->expires_ns = clock_now_ns();
	resume_put(client.hub->resume, RESUME_KEPT, copies[1]);
	assert_false(visit());
	pair_stop();
}

/* The secret of another, by the right id: refused, and nobody is open. */
static void resume_by_another_secret(void **state)
{
	struct resume_entry *copies[2];

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	secret_copy(copies);
	copies[0]->secret[5] ^= 1;
	resume_put(client.hub->resume, RESUME_KEPT, copies[0]);
	(void)dial();
	wait_for(&client.closed, 2);
	wait_for(&server.closed, 2);
	assert_int_equal(server.opened, 1);
	assert_int_equal(server.verified, 1);
	assert_int_equal(client.last.failure, PH_FAILURE_AUTHENTICATION);
	/* It is gone now, for its owner, too: a guess costs it, and a full handshake gets another. */
	resume_put(client.hub->resume, RESUME_KEPT, copies[1]);
	assert_false(visit());
	assert_true(visit());
	pair_stop();
}

/* Only one of the two wants it: nothing is lost. */
static void resume_with_one_side_without(void **state)
{
	struct ph_statistics stats;

	(void)state;
	for (int round = 0; round < 3; round++) {
		pair_start(round == 0 ? PH_HUB_RESUME : 0, round == 1 ? PH_HUB_RESUME : 0);
		for (unsigned time = 1; time <= 2; time++) {
			(void)dial();
			wait_for(&client.opened, time);
			wait_for(&server.opened, time);
		}
		assert_int_equal(client.resumed + server.resumed, 0);
		ph_stats(server.hub, &stats);
		assert_int_equal(stats.resumes_issued, round == 0 ? 2 : 0);
		pair_stop();
	}
}

/* A hub that has begun anew knows none of its secrets; what it is offered costs a full handshake. */
static void resume_after_a_restart(void **state)
{
	struct ph_statistics stats;

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	assert_int_equal(ph_hub_stop(server.hub, PH_GRACEFUL), 0);
	side_start(&server, PH_HUB_RESUME);
	server_listen();
	assert_false(visit());
	ph_stats(server.hub, &stats);
	assert_int_equal(stats.resumes_missed, 1);
	assert_true(visit());
	pair_stop();
}

static void server_credentials_change(void)
{
	struct ph_credentials *fresh = test_identity_create(TEST_P256, "server"), *old;

	pthread_mutex_lock(&lock);
	old = server.credentials;
	server.credentials = fresh;
	pthread_mutex_unlock(&lock);
	ph_credentials_put(old);
}

/* A secret goes with our own credentials, of either end. */
static void resume_after_new_credentials(void **state)
{
	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	server_credentials_change();
	assert_false(visit());
	assert_true(visit());
	ph_credentials_put(client.credentials);
	client.credentials = test_identity_create(TEST_P256, "client");
	assert_false(visit());
	assert_true(visit());
	pair_stop();
}

/* Revoked on either side: full handshakes, in which the chain is looked at anew. */
static void resume_after_a_revocation(void **state)
{
	static const uint8_t serial[] = {4711 >> 8, 4711 & 0xff}, other[] = {1, 2};
	struct ph_resume_filter filter = {.serial = {other, sizeof(other)}};

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	assert_int_equal(ph_resume_drop(server.hub, &filter), 0);
	assert_true(visit());
	filter.serial = (struct ph_bytes){serial, sizeof(serial)};
	assert_int_equal(ph_resume_drop(server.hub, &filter), 1);
	assert_false(visit());
	assert_true(visit());
	assert_int_equal(ph_resume_drop(client.hub, &filter), 1);
	assert_false(visit());
	pair_stop();
}

/* The group whose member got it has ended: its secrets end with it. */
static void resume_after_the_end_of_its_group(void **state)
{
	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	assert_false(visit());
	assert_int_equal(ph_tag_end(server.hub, TAG, PH_ABORT, 0), 0);
	server.tag = TAG + 1;
	assert_false(visit());
	assert_true(visit());
	pair_stop();
}

/* The application's no at a resumption ends the opening on both ends, and the secret with it; so does another
 * role than that of then. The next time is a full handshake. */
static void resume_refused_by_the_application(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
		assert_false(visit());
		server.refuse_resumed = round == 0;
		client.refuse_resumed = round == 1;
		if (round == 2)
			server.role = 4;
		(void)dial();
		wait_for(&client.closed, 2);
		wait_for(&server.closed, 2);
		assert_int_equal(client.last.failure, PH_FAILURE_AUTHENTICATION);
		assert_int_equal(client.last.was_open, 0);
		if (round == 1) {
			assert_int_equal(client.last.reason, PH_REASON_PROTOCOL_VERIFY);
			assert_string_equal(client.last.text, "not today");
		} else {
			assert_int_equal(server.last.reason, PH_REASON_PROTOCOL_VERIFY);
			assert_int_equal(server.last.was_open, 0);
		}
		assert_int_equal(client.opened, 1);
		assert_false(visit());
		server.refuse_resumed = client.refuse_resumed = false;
		assert_true(visit());
		pair_stop();
	}
}

/* No more than asked for, however many come: five peers, room for four. */
static void resume_forgets_the_oldest(void **state)
{
	struct ph_credentials *many[5];

	(void)state;
	pair_start(PH_HUB_RESUME, PH_HUB_RESUME);
	ph_credentials_put(client.credentials);
	for (int index = 0; index < 5; index++) {
		many[index] = test_identity_create(TEST_P256, "one of many");
		client.credentials = many[index];
		assert_false(visit());
	}
	for (int index = 4; index > 0; index--) {
		client.credentials = many[index];
		assert_true(visit());
	}
	client.credentials = many[0];
	assert_false(visit());
	for (int index = 1; index < 5; index++)
		ph_credentials_put(many[index]);
	pair_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(resume_is_taken_once),
		cmocka_unit_test(resume_ends_in_time),
		cmocka_unit_test(resume_is_bounded),
		cmocka_unit_test(resume_of_one_peer_leaves_the_others),
		cmocka_unit_test(resume_drops_what_is_revoked),
		cmocka_unit_test(resume_chain_is_kept_as_it_was),
		cmocka_unit_test(resume_of_a_peer_that_comes_back),
		cmocka_unit_test(resume_twice_by_one_secret),
		cmocka_unit_test(resume_past_its_end),
		cmocka_unit_test(resume_by_another_secret),
		cmocka_unit_test(resume_with_one_side_without),
		cmocka_unit_test(resume_after_a_restart),
		cmocka_unit_test(resume_after_new_credentials),
		cmocka_unit_test(resume_after_a_revocation),
		cmocka_unit_test(resume_after_the_end_of_its_group),
		cmocka_unit_test(resume_refused_by_the_application),
		cmocka_unit_test(resume_forgets_the_oldest),
	};

	return cmocka_run_group_tests_name("resumption", tests, NULL, NULL);
}
