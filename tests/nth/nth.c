/*
 * Nth-failure loops of the engine on the scripted ring: every allocation (ours, OpenSSL's, both), and every
 * errno of every operation, at every place of every scenario, once and from there on.
 *
 *   nth                       all points (ci/soak nth); --every 16 is what ci/test takes
 *   nth --scenario dial --kind alloc --point 3 --once
 *   nth --self-test           a leak, a crash, a hang and a lost event made on purpose are found
 *
 * What holds at every point is checked by world.c; here is only what happens in each scenario.
 */
#include "tests/nth/world.h"

#include "engine/memory.h"
#include "tests/engine/test_certs.h"
#include "tests/nth/inject.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <stdlib.h>
#include <string.h>

/* ---- start, credentials ------------------------------------------------------------------------- */

/* OpenSSL often forgets that memory was the cause of what it could not do; then the answer is -EIO. */
static bool is_openssl(const struct world *world)
{
	return (world->point->kind->pools & 1u << POOL_OPENSSL) != 0;
}

/* A shard with a home, a ring and TLS. What failed once works the next time. */
static void run_start(void *context)
{
	struct world *world = context;
	struct ph_options options;
	int status;

	harness_options(&options);
	options.connections_per_shard =
		40; /* more than the home of other scenarios: its own is made */
	world->stop_how = PH_GRACEFUL;
	world->fails_to_the_end = true;
	world_arm(world);
	status = harness_start(&world->it, &options);
	world->call_status = status;
	if (status < 0 && status != -ENOMEM && !(status == -EIO && is_openssl(world)))
		nth_fault("the start of a shard answers %d", status);
	if (status == 0) {
		world->has_begun = true;
		world_turns(world, 2);
		world_end(world);
		return;
	}
	world_disarm(world);
	snprintf(world->result->label, NTH_LABEL_BYTES, "%s", strerrorname_np(-status));
	if (memory_script_live() != world->it.memory_before)
		nth_fault("a start that failed has lost blocks of ours");
}

static void run_start_again(void *context)
{
	struct world *world = context;

	run_start(world);
	harness_begin(&world->it);
	world->has_begun = true;
	world->id_count = 0;
	world_end(world);
}

/* Without anything of ours. */
static bool openssl_works(void)
{
	OSSL_LIB_CTX *library = OSSL_LIB_CTX_new();
	OSSL_PROVIDER *provider = library != NULL ? OSSL_PROVIDER_load(library, "default") : NULL;
	SSL_CTX *role =
		provider != NULL ? SSL_CTX_new_ex(library, NULL, TLS_server_method()) : NULL;
	SSL *ssl = role != NULL ? SSL_new(role) : NULL;
	EVP_CIPHER *cipher =
		library != NULL ? EVP_CIPHER_fetch(library, "AES-128-GCM", NULL) : NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	bool works = ssl != NULL && cipher != NULL && bio != NULL && BIO_get_new_index() > 0 &&
		SSL_CTX_set1_groups_list(role, "X25519:P-256") == 1 &&
		SSL_CTX_set_ciphersuites(role, "TLS_AES_128_GCM_SHA256") == 1;

	BIO_free(bio);
	EVP_CIPHER_free(cipher);
	SSL_free(ssl);
	SSL_CTX_free(role);
	if (provider != NULL)
		OSSL_PROVIDER_unload(provider);
	OSSL_LIB_CTX_free(library);
	return works;
}

/* The first start of the process: what is made once, lazily, fails too. The next start must work. */
static void run_first_start(void *context)
{
	struct world *world = context;
	struct ph_options options;
	int status, status_again;

	harness_options(&options);
	world_arm(world);
	status = harness_start(&world->it, &options);
	world_disarm(world);
	if (status < 0 && status != -ENOMEM && !(status == -EIO && is_openssl(world)))
		nth_fault("the first start answers %d", status);
	if (status == 0)
		harness_end(&world->it);
	if (memory_script_live() != world->it.memory_before)
		nth_fault("%lld blocks of ours are lost",
			(long long)(memory_script_live() - world->it.memory_before));
	status_again = harness_start(&world->it, &options);
	if (status_again == 0) {
		harness_end(&world->it);
		snprintf(world->result->label, NTH_LABEL_BYTES, "%s",
			status == 0 ? "started" : strerrorname_np(-status));
		return;
	}
	/* What OpenSSL initialises once and could not, it never tries again: that is not ours to mend. */
	if (!is_openssl(world) || openssl_works())
		nth_fault("a start fails for ever, with %d, because one allocation failed once",
			status_again);
	snprintf(world->result->label, NTH_LABEL_BYTES, "OpenSSL gave up for good");
}

static struct ph_bytes own_der, own_key;

static void own_der_make(void)
{
	EVP_PKEY *key = test_key_create(TEST_P256);
	X509 *certificate = test_certificate_create(key, "own", NULL, key, 0);

	own_der = test_certificate_der(certificate);
	own_key = test_key_der(key);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void run_credentials(void *context)
{
	struct world *world = context;
	struct ph_credentials *made = NULL;
	int64_t blocks = memory_script_live();
	int status;

	world_arm(world);
	status = ph_credentials_create(&own_der, 1, own_key, &made);
	if ((status == 0) != (made != NULL))
		nth_fault("credentials: %d and %p", status, (void *)made);
	if (status < 0 && status != -ENOMEM && !(status == -EINVAL && is_openssl(world)))
		nth_fault("ph_credentials_create answers %d", status);
	ph_credentials_put(made);
	world_disarm(world);
	if (memory_script_live() != blocks)
		nth_fault("blocks of ours are lost");
	snprintf(world->result->label, NTH_LABEL_BYTES, "%s",
		status == 0 ? "made" : strerrorname_np(-status));
}

/* ---- openings ------------------------------------------------------------------------------------- */

static void run_listen(void *context)
{
	struct world *world = context;

	world_begin(world);
	world_arm(world);
	world_listen(world, PH_FRAMING_MESSAGE, true);
	world_turns(world, 3);
	if (world->it.listener >= 0) {
		shard_self_set(world->it.shard); /* as in a callback: it does not wait */
		if (ph_listen_end(&world->it.hub, world->it.listener) != 0)
			nth_fault("ph_listen_end fails");
		world_turns(world, 3);
	}
	world_end(world);
}

static void run_dial(void *context)
{
	struct world *world = context;
	uint64_t id;

	world_begin(world);
	world_arm(world);
	id = world_dial(world, PH_FRAMING_MESSAGE, false);
	WORLD_UNTIL(world,
		world_is_over(world, id) ||
			world->it.hub.shards[0]->conns[slot_id_slot(id)].state == CONN_GREETING);
	if (world_file(world, id) >= 0)
		peer_says_welcome(&world->it, world_file(world, id));
	WORLD_UNTIL(world, world_is_over(world, id) || world_is_open(world, id));
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

static void run_accept(void *context)
{
	struct world *world = context;
	uint64_t id, second;
	int32_t file;

	world_begin(world);
	world_listen(world, PH_FRAMING_MESSAGE, false);
	world_arm(world);
	world_turns(world, 2);
	file = world_accept(world, &id);
	world_turns(world, 2);
	if (file >= 0 && world_file(world, id) >= 0) {
		peer_says_auth_info(&world->it, file);
		peer_says_connect(&world->it, file);
	}
	WORLD_UNTIL(world, world_is_over(world, id) || world_is_open(world, id));
	(void)world_accept(world, &second); /* and one that says nothing */
	world_close(world, second, PH_ABORT);
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

static void run_handshake_client(void *context)
{
	struct world *world = context;
	struct world_peer *peer = NULL;
	uint64_t id;

	world_begin(world);
	world_arm(world);
	id = world_dial(world, PH_FRAMING_MESSAGE, true);
	WORLD_UNTIL(world,
		world_is_over(world, id) ||
			world->it.hub.shards[0]->conns[slot_id_slot(id)].state == CONN_HANDSHAKE);
	if (world_file(world, id) >= 0)
		peer = world_peer_begin(world, world_file(world, id), true);
	WORLD_UNTIL(world, world_is_over(world, id) || (peer != NULL && peer->is_done));
	if (peer != NULL)
		world_peer_welcome(peer);
	WORLD_UNTIL(world, world_is_over(world, id) || world_is_open(world, id));
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

static void run_handshake_server(void *context)
{
	struct world *world = context;
	struct world_peer *peer = NULL;
	uint64_t id;
	int32_t file;

	world_begin(world);
	world_listen(world, PH_FRAMING_MESSAGE, true);
	world_arm(world);
	file = world_accept(world, &id);
	if (file >= 0)
		peer = world_peer_begin(world, file, false);
	WORLD_UNTIL(world, world_is_over(world, id) || (peer != NULL && peer->is_done));
	if (peer != NULL)
		world_peer_greet(peer);
	WORLD_UNTIL(world, world_is_over(world, id) || world_is_open(world, id));
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

/* A second connection of the same peers: what the first left in caches is used. */
static void run_second(void *context)
{
	struct world *world = context;
	struct world_peer *first, *peer = NULL;
	uint64_t before, id;
	int32_t file;

	world_begin(world);
	before = world_open_accepted(world, &first);
	world_arm(world);
	file = world_accept(world, &id);
	if (file >= 0)
		peer = world_peer_begin(world, file, false);
	WORLD_UNTIL(world, world_is_over(world, id) || (peer != NULL && peer->is_done));
	if (peer != NULL)
		world_peer_greet(peer);
	WORLD_UNTIL(world, world_is_over(world, id) || world_is_open(world, id));
	if (world->point->kind->pools != 0 && !world_is_open(world, before))
		nth_fault("an open connection ended because another one could not open");
	world_close(world, id, PH_ABORT);
	world_close(world, before, PH_ABORT);
	world_end(world);
}

/* ---- data ------------------------------------------------------------------------------------------ */

static const size_t send_sizes[] = {0, 1, 100, 5000, 40000};

static void run_send(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;

	world_begin(world);
	id = world_open_dialled(world, &peer);
	world_arm(world);
	for (size_t i = 0; i < sizeof(send_sizes) / sizeof(send_sizes[0]); i++) {
		world_send(world, id, send_sizes[i]);
		world_turns(world, 2);
	}
	for (int i = 0; i < 3; i++)
		world_send(world, id, 3000);
	world_turns(world, 4);
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

static void send_inside(struct harness *harness, uint64_t id)
{
	static const uint8_t data[700];
	int status = harness_send_inside(id, data, sizeof(data));

	if (status != 0 && status != -ENOMEM && status != -EAGAIN && status != -ENOENT)
		nth_fault("ph_send in a callback answers %d", status);
	(void)harness;
}

static void run_receive(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;

	world_begin(world);
	id = world_open_accepted(world, &peer);
	script_set_slice_max(world->it.ring, 300);
	world->it.in_data = send_inside; /* and answers */
	world_arm(world);
	for (size_t i = 1; i < sizeof(send_sizes) / sizeof(send_sizes[0]) - 1; i++) {
		world_peer_message(peer, send_sizes[i]);
		world_turns(world, 3);
	}
	world_peer_rekey(peer);
	world_peer_message(peer, 10);
	world_turns(world, 4);
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

/* What is not taken is kept; a pause and its end. */
static void run_paused(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;
	int status;

	world_begin(world);
	id = world_open_accepted(world, &peer);
	world_arm(world);
	world->it.data_status = -EAGAIN;
	world_peer_message(peer, 2000);
	world_turns(world, 3);
	world->it.data_status = 0;
	clock_script_advance_ms(101);
	world_turns(world, 3);
	status = ph_pause(id, HARNESS_TAG);
	if (status != 0 && status != -ENOENT)
		nth_fault("ph_pause answers %d", status);
	world_turns(world, 2);
	world_peer_message(peer, 4000);
	world_turns(world, 3);
	status = ph_resume(id, HARNESS_TAG);
	if (status != 0 && status != -ENOENT)
		nth_fault("ph_resume answers %d", status);
	world_turns(world, 6);
	world_close(world, id, PH_ABORT);
	world_end(world);
}

static void run_raw(void *context)
{
	struct world *world = context;
	uint64_t id;

	world_begin(world);
	world_arm(world);
	id = world_dial(world, PH_FRAMING_RAW, false);
	WORLD_UNTIL(world, world_is_over(world, id) || world_is_open(world, id));
	world_send(world, id, 1000);
	world_turns(world, 2);
	if (world_file(world, id) >= 0) {
		world->it.data_status = -EAGAIN;
		script_peer_data(world->it.ring, world_file(world, id), "\x00\x01\x02\x03", 4);
		world_turns(world, 2);
		world->it.data_status = 0;
		clock_script_advance_ms(101);
		world_turns(world, 3);
	}
	if (world_file(world, id) >= 0)
		script_peer_end(world->it.ring, world_file(world, id), 0);
	world_turns(world, 2);
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

/* ---- ends ------------------------------------------------------------------------------------------- */

static void run_close(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;

	world_begin(world);
	id = world_open_dialled(world, &peer);
	world_arm(world);
	world_send(world, id, 5000);
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

/* The far end answers the goodbye. */
static void run_close_answered(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;
	int32_t file;

	world_begin(world);
	id = world_open_accepted(world, &peer);
	file = world_file(world, id);
	world_arm(world);
	world_send(world, id, 3000);
	if (harness_close_text(&world->it, id, PH_GRACEFUL, 1234, "enough for today") != 0)
		nth_fault("a close of an open connection fails");
	world_turns(world, 4);
	world_peer_goodbye(peer);
	world_turns(world, 2);
	script_peer_end(world->it.ring, file, 0);
	world_turns(world, 2);
	world_expect_over(world);
	world_end(world);
}

static void run_closed_by_peer(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;
	int32_t file;

	world_begin(world);
	id = world_open_dialled(world, &peer);
	file = world_file(world, id);
	world_arm(world);
	world_send(world, id, 100);
	world_peer_message(peer, 1500);
	world_peer_goodbye(peer);
	world_turns(world, 4);
	script_peer_end(world->it.ring, file, 0);
	world_turns(world, 4);
	world_close(world, id, PH_GRACEFUL);
	world_end(world);
}

static void run_abort(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;

	world_begin(world);
	id = world_open_accepted(world, &peer);
	world_arm(world);
	world_send(world, id, 5000);
	world_peer_message(peer, 3000);
	world_turn(world);
	world_close(world, id, PH_ABORT);
	world_end(world);
}

/* A graceful close that an abort overtakes. */
static void run_upgrade(void *context)
{
	struct world *world = context;
	struct world_peer *peer;
	uint64_t id;
	int status;

	world_begin(world);
	id = world_open_dialled(world, &peer);
	world_arm(world);
	world_send(world, id, 30000);
	if (harness_close(&world->it, id, PH_GRACEFUL) != 0)
		nth_fault("a close of an open connection fails");
	world_turn(world);
	status = harness_close(&world->it, id, PH_ABORT);
	if (status != -EALREADY && status != -ENOENT)
		nth_fault("the abort of a close answers %d", status);
	world_expect_over(world);
	world_end(world);
}

/* Three connections of one group, in three states; the list of ended tags is full to its spare room. */
static void run_group_close(void *context)
{
	struct world *world = context;
	struct world_peer *dialled, *accepted;
	uint64_t late;
	int status;

	world_begin(world);
	/* As ph_hub_start makes it, and so small that the next tag but 60 makes it grow. */
	world->it.hub.tags_capacity = 124;
	world->it.hub.tags_ended =
		memory_alloc(world->it.hub.tags_capacity * sizeof(*world->it.hub.tags_ended));
	TEST_MUST(world->it.hub.tags_ended != NULL);
	(void)world_open_dialled(world, &dialled);
	(void)world_open_accepted(world, &accepted);
	for (uint64_t tag = 1000; tag < 1060; tag++)
		if (ph_tag_end(&world->it.hub, tag, PH_ABORT, 0) != 0)
			nth_fault("a tag cannot end");
	(void)world_dial(world, PH_FRAMING_MESSAGE, true); /* opening */
	world_turns(world, 2);
	world_arm(world);
	world_send(world, world->ids[0], 3000);
	shard_self_set(NULL);
	status = ph_tag_end(&world->it.hub, HARNESS_TAG, PH_GRACEFUL, 0);
	shard_self_set(world->it.shard);
	world->call_status = status;
	if (status != 0)
		nth_fault("ph_tag_end answers %d", status);
	late = 1;
	if (world->point->kind->pools == 0) {
		struct ph_open_options options = {.kind = PH_KIND_RAW,
			.framing = PH_FRAMING_RAW,
			.tls = PH_TLS_NONE,
			.tag = HARNESS_TAG};

		TEST_MUST(ph_address_parse("[::1]:7", &options.address) == 0);
		if (ph_open(&world->it.hub, &options, &late) != -ESHUTDOWN)
			nth_fault("a group that is gone opens a connection");
	}
	world_turns(world, 3);
	world_peer_goodbye(dialled);
	world_peer_goodbye(accepted);
	world_turns(world, 3);
	world_expect_over(world);
	world_end(world);
}

static void run_close_where(void *context)
{
	struct world *world = context;
	struct ph_filter filter = {.has_tag = 1, .tag = HARNESS_TAG};
	struct world_peer *peer;
	int64_t count;

	world_begin(world);
	(void)world_open_dialled(world, &peer);
	(void)world_open_accepted(world, &peer);
	(void)world_open_accepted(world, &peer);
	world_arm(world);
	shard_self_set(NULL);
	count = ph_close_where(&world->it.hub, &filter, PH_GRACEFUL, 0, 0, 1000);
	shard_self_set(world->it.shard);
	if (count != 3 && count != -ENOMEM)
		nth_fault("ph_close_where answers %lld", (long long)count);
	for (int i = 0; i < 12; i++) {
		clock_script_advance_ms(100);
		world_turns(world, 2);
	}
	for (uint32_t i = 0; i < world->id_count; i++)
		if (!world_is_over(world, world->ids[i]))
			(void)harness_close(&world->it, world->ids[i], PH_ABORT);
	world_expect_over(world);
	world_end(world);
}

/* OpenSSL to the end instead of our record layer: it allocates for every record then. */
static void with_openssl(struct world *world, void (*scenario)(void *context))
{
	world->hub_flags = PH_HUB_TLS_OPENSSL;
	scenario(world);
}

static void run_openssl_send(void *context)
{
	with_openssl(context, run_send);
}

static void run_openssl_receive(void *context)
{
	with_openssl(context, run_receive);
}

static void run_openssl_answered(void *context)
{
	with_openssl(context, run_close_answered);
}

static void run_openssl_peer(void *context)
{
	with_openssl(context, run_closed_by_peer);
}

static void run_openssl_group(void *context)
{
	with_openssl(context, run_group_close);
}

static void run_stop_with(struct world *world, enum ph_how how)
{
	struct world_peer *peer;

	world_begin(world);
	world->stop_how = how;
	world->fails_to_the_end = true;
	(void)world_open_dialled(world, &peer);
	(void)world_open_accepted(world, &peer);
	(void)world_dial(world, PH_FRAMING_MESSAGE, true);
	world_turns(world, 3);
	world_arm(world);
	world_send(world, world->ids[0], 3000);
	world_end(world);
}

static void run_stop(void *context)
{
	run_stop_with(context, PH_GRACEFUL);
}

static void run_stop_abort(void *context)
{
	run_stop_with(context, PH_ABORT);
}

/* Both ends are the engine's: a whole life of two connections in one shard. */
static void live_once(struct world *world, bool has_data)
{
	uint64_t dialled, accepted = 0;
	int32_t a, b = -1;

	dialled = world_dial(world, PH_FRAMING_MESSAGE, true);
	WORLD_UNTIL(world,
		world_is_over(world, dialled) ||
			world->it.hub.shards[0]->conns[slot_id_slot(dialled)].state ==
				CONN_HANDSHAKE);
	a = world_file(world, dialled);
	if (a >= 0)
		b = world_accept(world, &accepted);
	if (b >= 0 && !script_is_closed(world->it.ring, b)) {
		size_t bytes;
		const uint8_t *sent = script_sent(world->it.ring, a, &bytes);

		/* What went out before there was anybody. */
		script_peer_data(world->it.ring, b, sent, bytes);
		script_pair(world->it.ring, a, b);
		world->pair[0] = a;
		world->pair[1] = b;
	}
	WORLD_UNTIL(world,
		world_is_over(world, dialled) ||
			(world_is_open(world, dialled) && world_is_open(world, accepted)));
	if (has_data) {
		world_send(world, dialled, 5000);
		world_turns(world, 2);
		world_send(world, dialled, 10);
	}
	world_turns(world, 2);
	if (dialled != 0)
		(void)harness_close(&world->it, dialled, PH_GRACEFUL);
	world_turns(world, 4);
	if (accepted != 0)
		(void)harness_close(&world->it, accepted, PH_GRACEFUL);
	world_expect_over(world);
}

static void run_life(void *context)
{
	struct world *world = context;

	world_begin(world);
	world_listen(world, PH_FRAMING_MESSAGE, true);
	world_arm(world);
	live_once(world, true);
	world_end(world);
}

/* Who was there once comes back by its secret, and gets another. */
static void run_resume(void *context)
{
	struct world *world = context;

	world->hub_flags = PH_HUB_RESUME;
	world_begin(world);
	world_listen(world, PH_FRAMING_MESSAGE, true);
	live_once(world, false);
	world_arm(world);
	live_once(world, true);
	if (world->point->nth == 0 && harness_counter(&world->it, COUNTER_resumes_accepted) != 1)
		nth_fault("nobody came back by a secret");
	world_end(world);
}

/* ---- mistakes on purpose ------------------------------------------------------------------------------ */

static void broken_run(void (*broken)(void))
{
	void *block = memory_alloc(8);

	if (block == NULL)
		broken();
	memory_free(block);
}

/* A block of ours is forgotten where another allocation fails. */
static void run_broken_leak(void *context)
{
	struct world *world = context;
	int64_t before = memory_script_live();
	void *first, *second;

	world_arm(world);
	first = memory_alloc(8);
	second = memory_alloc(8);
	if (second != NULL)
		memory_free(first);
	memory_free(second);
	world_disarm(world);
	if (memory_script_live() != before)
		nth_fault("a block of ours is lost");
}

/* A certificate of OpenSSL's is forgotten by us: the kept list must not hide it. */
static void run_broken_openssl_leak(void *context)
{
	struct world *world = context;
	EVP_PKEY_CTX *forgotten;
	BIO *bio;

	world_arm(world);
	forgotten = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
	bio = BIO_new(BIO_s_mem());
	if (bio != NULL)
		EVP_PKEY_CTX_free(forgotten);
	BIO_free(bio);
	ERR_clear_error();
	world_disarm(world);
}

static void broken_crash(void)
{
	abort();
}

static void run_broken_crash(void *context)
{
	world_arm(context);
	broken_run(broken_crash);
	world_disarm(context);
}

/* A dialled connection that is never closed: its last event does not come. */
static void run_broken_event(void *context)
{
	struct world *world = context;

	world_begin(world);
	(void)world_dial(world, PH_FRAMING_MESSAGE, false);
	world_turns(world, 5);
	world_arm(world);
	world_send(world, world->ids[0], 1);
	if (memory_script_failed() == 0 && inject_failed() == 0) {
		void *block = memory_alloc(1);

		if (block != NULL)
			(void)harness_close(&world->it, world->ids[0], PH_ABORT);
		memory_free(block);
	}
	world_expect_over(world);
	world_end(world);
}

/* ---- the program ---------------------------------------------------------------------------------------- */

#define COLD 0x100u /* nothing is warm: the first of everything in this process */

static const struct nth_scenario scenarios[] = {
	{"first_start", "the very first start of a shard in a process", run_first_start,
		NTH_ALONE | NTH_NO_ERRNO | COLD, 16},
	{"start", "a shard's start and stop", run_start_again, NTH_ALONE | NTH_NO_ERRNO, 4},
	{"credentials", "ph_credentials_create", run_credentials, NTH_NO_ERRNO, 0},
	{"listen", "ph_listen and ph_listen_end", run_listen, 0, 0},
	{"dial", "a connection dialled without TLS", run_dial, 0, 0},
	{"accept", "two connections accepted without TLS", run_accept, 0, 0},
	{"handshake_client", "a TLS handshake and greeting as client", run_handshake_client, 0, 0},
	{"handshake_server", "a TLS handshake and greeting as server", run_handshake_server, 0, 0},
	{"second", "a second handshake beside an open connection", run_second, 0, 4},
	{"send", "messages of many sizes over TLS", run_send, 0, 0},
	{"receive", "messages in slices, a KeyUpdate, answers in the callback", run_receive, 0, 0},
	{"paused", "data that is not taken, a pause and its end", run_paused, 0, 0},
	{"raw", "a raw stream without TLS, ended by its peer", run_raw, 0, 0},
	{"close", "a graceful close with data under way, the peer silent", run_close, 0, 0},
	{"close_answered", "a graceful close with a reason, the peer answers", run_close_answered,
		0, 0},
	{"closed_by_peer", "the peer says goodbye", run_closed_by_peer, 0, 0},
	{"abort", "an abort with data both ways", run_abort, 0, 0},
	{"upgrade", "a graceful close that an abort overtakes", run_upgrade, 0, 0},
	{"group_close", "ph_tag_end with connections in three states", run_group_close, 0, 0},
	{"close_where", "ph_close_where, spread over a second", run_close_where, 0, 2},
	{"stop", "the stop of a shard, gracefully", run_stop, 0, 2},
	{"stop_abort", "the stop of a shard, by aborts", run_stop_abort, 0, 0},
	{"life", "a whole life, both ends the engine's", run_life, 0, 4},
	{"resume", "a life, and another by the secret of the first", run_resume, 0, 4},
	{"openssl_send", "send, with OpenSSL instead of our record layer", run_openssl_send, 0, 2},
	{"openssl_receive", "receive, the same", run_openssl_receive, 0, 2},
	{"openssl_answered", "close_answered, the same", run_openssl_answered, 0, 0},
	{"openssl_peer", "closed_by_peer, the same", run_openssl_peer, 0, 0},
	{"openssl_group", "group_close, the same", run_openssl_group, 0, 2},
	{"broken_leak", "", run_broken_leak, NTH_SELF_TEST | NTH_NO_ERRNO, 0},
	{"broken_openssl_leak", "", run_broken_openssl_leak, NTH_SELF_TEST | NTH_NO_ERRNO, 0},
	{"broken_crash", "", run_broken_crash, NTH_SELF_TEST | NTH_NO_ERRNO, 0},
	{"broken_event", "", run_broken_event, NTH_SELF_TEST | NTH_NO_ERRNO, 0},
};

static const struct nth_kind kinds[] = {
	{"alloc", 1u << POOL_OURS, false, false},
	{"openssl", 1u << POOL_OPENSSL, false, false},
	{"any", 1u << POOL_OURS | 1u << POOL_OPENSSL, true, false},
	{"errno", 0, false, false},
};

static void run(const struct nth_point *point, struct nth_result *result)
{
	static struct world world;
	bool is_cold = (point->scenario->flags & COLD) != 0;

	if (!is_cold) {
		static bool is_warm;

		world_warm();
		if (!is_warm) {
			struct nth_result unused = {0};
			struct nth_point nothing = *point;

			/* Everything that a whole life makes lazily, and the scenario's own. */
			is_warm = true;
			own_der_make();
			nothing.nth = 0;
			world = (struct world){.point = &nothing, .result = &unused};
			run_life(&world);
			if (!(point->scenario->flags & NTH_SELF_TEST)) {
				memset(&world, 0, sizeof(world));
				world.point = &nothing;
				world.result = &unused;
				point->scenario->run(&world);
			}
		}
	}
	memset(&world, 0, sizeof(world));
	world.point = point;
	world.result = result;
	world.stop_how = PH_ABORT;
	OPENSSL_thread_stop();
	inject_record(point->record);
	world.mark = inject_mark();
	point->scenario->run(&world);
	ERR_clear_error();
	OPENSSL_thread_stop(); /* the buffers of its error queue */
	if (!is_cold)
		nth_check_leaks(point, result, world.mark);
}

int main(int argc, char **argv)
{
	static const struct nth_program program = {
		.name = "nth",
		.scenarios = scenarios,
		.scenario_count = sizeof(scenarios) / sizeof(scenarios[0]),
		.kinds = kinds,
		.kind_count = sizeof(kinds) / sizeof(kinds[0]),
		.ops = errnos_of,
		.op_count = OPCODE_COUNT,
		.run = run,
	};

	inject_init();
	if (!inject_openssl())
		return 2;
	return nth_main(&program, argc, argv);
}
