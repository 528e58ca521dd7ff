/* The world of a scenario; see world.h. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "tests/nth/world.h"

#include "engine/digest.h"
#include "engine/memory.h"
#include "engine/resume.h"
#include "engine/wire.h"
#include "tests/engine/test_certs.h"
#include "tests/nth/inject.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define END_TURNS_MAX 4000u
#define CLOSE_TURNS_MAX 400u /* of 100 ms: longer than every deadline of an end */
#define ENTER_TROUBLE 10u /* turns; a kernel that never lets us in again has no end */

/* Answered by errno_step alone: so they are counted the same in every run. */
#define HELD (SCRIPT_ALL & ~(1u << SCRIPT_POLL | 1u << SCRIPT_ACCEPT | 1u << SCRIPT_RECV))

static struct ph_credentials *credentials;
static SSL_CTX *peer_contexts[2]; /* client, server */

/* ---- randomness ------------------------------------------------------------------------------ */

/* OpenSSL's, so that the n-th allocation is the same one in every run. */
static uint64_t random_state = 1;

static int random_bytes(unsigned char *out, int bytes)
{
	for (int i = 0; i < bytes; i++) {
		random_state = random_state * 6364136223846793005u + 1442695040888963407u;
		out[i] = (unsigned char)(random_state >> 56);
	}
	return 1;
}

static int random_seed(const void *data, int bytes)
{
	(void)data, (void)bytes;
	return 1;
}

static int random_add(const void *data, int bytes, double entropy)
{
	(void)data, (void)bytes, (void)entropy;
	return 1;
}

static int random_status(void)
{
	return 1;
}

static const RAND_METHOD random_method = {
	random_seed, random_bytes, NULL, random_add, random_bytes, random_status};

/* ---- far ends -------------------------------------------------------------------------------- */

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_bytes,
	const unsigned char *in, unsigned int in_bytes, void *context)
{
	(void)ssl, (void)in_bytes, (void)context;
	*out = in + 1;
	*out_bytes = in[0];
	return SSL_TLSEXT_ERR_OK;
}

static int accept_any(X509_STORE_CTX *store, void *context)
{
	(void)store, (void)context;
	return 1;
}

static SSL_CTX *peer_context(const SSL_METHOD *method, EVP_PKEY *key, X509 *certificate)
{
	SSL_CTX *context = SSL_CTX_new(method);

	TEST_MUST(context != NULL);
	TEST_MUST(SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1);
	TEST_MUST(SSL_CTX_use_certificate(context, certificate) == 1);
	TEST_MUST(SSL_CTX_use_PrivateKey(context, key) == 1);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(context, accept_any, NULL);
	SSL_CTX_set_alpn_select_cb(context, select_protocol, NULL);
	TEST_MUST(SSL_CTX_set_num_tickets(context, 0) == 1);
	return context;
}

struct world_peer *world_peer_begin(struct world *world, int32_t file, bool is_server)
{
	static const unsigned char protocols[] = "\x09peerhub/1";
	struct world_peer *peer = &world->peers[world->peer_count++];

	TEST_MUST(world->peer_count <= WORLD_PEERS_MAX);
	inject_pause();
	*peer = (struct world_peer){.file = file};
	peer->ssl = SSL_new(peer_contexts[is_server]);
	peer->in = BIO_new(BIO_s_mem());
	peer->out = BIO_new(BIO_s_mem());
	TEST_MUST(peer->ssl != NULL && peer->in != NULL && peer->out != NULL);
	SSL_set_bio(peer->ssl, peer->in, peer->out);
	if (is_server) {
		SSL_set_accept_state(peer->ssl);
	} else {
		SSL_set_connect_state(peer->ssl);
		TEST_MUST(SSL_set_tlsext_host_name(peer->ssl, "hub") == 1);
		TEST_MUST(SSL_set_alpn_protos(peer->ssl, protocols, sizeof(protocols) - 1) == 0);
	}
	inject_resume();
	return peer;
}

/* Its bytes to the file; the file's bytes to it. */
static void peer_pump(struct world *world, struct world_peer *peer)
{
	static uint8_t buffer[16384];
	const uint8_t *sent;
	size_t bytes;
	int got;

	inject_pause();
	sent = script_sent(world->it.ring, peer->file, &bytes);
	if (bytes > peer->taken)
		TEST_MUST(BIO_write(peer->in, sent + peer->taken, (int)(bytes - peer->taken)) > 0);
	peer->taken = bytes;
	if (!peer->is_done && !peer->has_failed) {
		got = SSL_do_handshake(peer->ssl);
		peer->is_done = got == 1;
		peer->has_failed = got <= 0 && SSL_get_error(peer->ssl, got) != SSL_ERROR_WANT_READ;
	}
	if (peer->is_done)
		while ((got = SSL_read(peer->ssl, buffer, sizeof(buffer))) > 0)
			peer->heard += (size_t)got;
	while ((got = BIO_read(peer->out, buffer, sizeof(buffer))) > 0)
		script_peer_data(world->it.ring, peer->file, buffer, (size_t)got);
	ERR_clear_error();
	inject_resume();
}

void world_peer_write(struct world_peer *peer, const void *data, size_t bytes)
{
	inject_pause();
	if (peer->is_done && bytes > 0)
		(void)SSL_write(peer->ssl, data, (int)bytes);
	ERR_clear_error();
	inject_resume();
}

static size_t must_write(ssize_t bytes)
{
	TEST_MUST(bytes > 0);
	return (size_t)bytes;
}

void world_peer_greet(struct world_peer *peer)
{
	struct wire_auth_info auth_info = {.kind = PH_KIND_DIRECT,
		.graph = HARNESS_GROUP,
		.source = HARNESS_OWN,
		.destination = NULL};
	uint8_t message[HARNESS_MESSAGE_MAX];

	world_peer_write(peer, message,
		must_write(wire_auth_info_write(message, sizeof(message), &auth_info)));
	world_peer_write(peer, message, peer_connect(message));
}

void world_peer_welcome(struct world_peer *peer)
{
	struct wire_welcome welcome = {.node_id = 9, .peer_time = 5, .peer_id = HARNESS_OWN};
	uint8_t message[HARNESS_MESSAGE_MAX];

	world_peer_write(
		peer, message, must_write(wire_welcome_write(message, sizeof(message), &welcome)));
}

static uint8_t *pattern_create(size_t from, size_t bytes)
{
	uint8_t *data = malloc(bytes + 1);

	TEST_MUST(data != NULL);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)((from + i) % WORLD_PATTERN);
	return data;
}

void world_peer_message(struct world_peer *peer, size_t bytes)
{
	uint8_t *message = malloc(WIRE_PT2PT_BYTES + bytes);
	uint8_t *data = pattern_create(peer->said, bytes);

	TEST_MUST(message != NULL);
	peer->said += bytes;
	world_peer_write(peer, message, peer_message(message, data, bytes));
	free(data);
	free(message);
}

void world_peer_goodbye(struct world_peer *peer)
{
	uint8_t message[HARNESS_MESSAGE_MAX];

	world_peer_write(peer, message, peer_disconnect(message, WIRE_DISCONNECT_APPLICATION));
	inject_pause();
	if (peer->is_done)
		(void)SSL_shutdown(peer->ssl);
	ERR_clear_error();
	inject_resume();
}

void world_peer_rekey(struct world_peer *peer)
{
	inject_pause();
	if (peer->is_done) {
		TEST_MUST(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
		(void)SSL_do_handshake(peer->ssl);
	}
	ERR_clear_error();
	inject_resume();
}

/* ---- completions ------------------------------------------------------------------------------ */

static bool is_chosen(const struct world *world, uint32_t op)
{
	const struct nth_point *point = world->point;
	uint64_t number = world->seen[op];

	return point->nth > 0 && point->op == op &&
		(number == point->nth || (point->for_ever && number > point->nth));
}

static void answer_with_error(struct world *world, struct script_op *op)
{
	struct ring *ring = world->it.ring;
	int error = world->point->error;

	world->result->failed++;
	if (op->kind == SCRIPT_CANCEL) {
		struct script_op *target = script_find_data(ring, op->target);
		/* Once it may be that nothing was cancelled; but what it says of the target is true. */
		bool ends = error != EINVAL || world->point->for_ever;

		if (target != NULL && ends && error == ENOENT)
			script_answer(ring, target, -ECANCELED);
		script_answer(ring, op, -error);
		if (target != NULL && ends && error != ENOENT)
			script_answer(ring, target, -ECANCELED);
		return;
	}
	if (op->kind == SCRIPT_CLOSE && world->pair[0] != 0) {
		/* Linux gives the descriptor up whatever close says. */
		if (op->file == world->pair[0])
			script_peer_end(ring, world->pair[1], 0);
		else if (op->file == world->pair[1])
			script_peer_end(ring, world->pair[0], 0);
	}
	script_answer(ring, op, -error);
}

/* One answer for each operation that waits; what is armed could end in any turn. */
static void errno_step(struct world *world)
{
	struct ring *ring = world->it.ring;
	uint64_t last = script_number(ring), number = 0;
	struct script_op *op;

	for (;;) {
		/* An answer may have freed it and ended others: on from the next number. */
		for (op = script_walk(ring, NULL); op != NULL && op->number <= number;)
			op = script_walk(ring, op);
		if (op == NULL || op->number > last)
			break;
		number = op->number;
		if (!op->submitted)
			continue;
		world->seen[op->kind]++;
		if (is_chosen(world, op->kind))
			answer_with_error(world, op);
		else
			script_answer_natural(ring, op);
	}
	world->seen[OPCODE_ENTER]++;
	if (is_chosen(world, OPCODE_ENTER) &&
		world->seen[OPCODE_ENTER] < world->point->nth + ENTER_TROUBLE) {
		world->result->failed++;
		script_set_enter_status(ring, -world->point->error);
	} else {
		script_set_enter_status(ring, 0);
	}
}

/* ---- arming ------------------------------------------------------------------------------------ */

/* Kind "any": with the first of OpenSSL's allocations ours fail too. */
static void fail_ours_too(void)
{
	memory_script_fail(1, true);
}

static bool is_kind(const struct world *world, uint32_t pools)
{
	return world->point->kind->pools == pools;
}

#define POOLS_OURS (1u << POOL_OURS)
#define POOLS_OPENSSL (1u << POOL_OPENSSL)

void world_arm(struct world *world)
{
	struct inject_options options = {
		.pools = POOLS_OPENSSL,
		.nth = world->point->nth,
		.for_ever = world->point->for_ever,
		.on_first = is_kind(world, POOLS_OURS | POOLS_OPENSSL) ? fail_ours_too : NULL,
	};

	random_state = 1;
	entropy_script_seed(1);
	world->is_armed = true;
	if (is_kind(world, POOLS_OURS))
		memory_script_fail(world->point->nth, world->point->for_ever);
	else if (world->point->kind->pools != 0)
		inject_arm(&options);
	else if (world->has_begun)
		script_hold(world->it.ring, HELD);
}

void world_disarm(struct world *world)
{
	if (!world->is_armed)
		return;
	world->is_armed = false;
	inject_disarm();
	if (is_kind(world, POOLS_OURS)) {
		world->result->tries = memory_script_tries();
		world->result->failed = memory_script_failed();
	} else if (world->point->kind->pools != 0) {
		world->result->tries = inject_tries();
		world->result->failed = inject_failed();
	} else {
		memcpy(world->result->ops, world->seen, sizeof(world->seen));
	}
	memory_script_fail(0, false);
	if (world->has_begun) {
		script_hold(world->it.ring, 0);
		script_set_enter_status(world->it.ring, 0);
	}
}

/* ---- life --------------------------------------------------------------------------------------- */

void world_warm(void)
{
	static bool is_warm;
	EVP_PKEY *key;
	X509 *certificate;

	if (is_warm)
		return;
	is_warm = true;
	RAND_set_rand_method(&random_method);
	OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
	credentials = test_identity_create(TEST_P256, "own");
	key = test_key_create(TEST_P256);
	certificate = test_certificate_create(key, "peer", NULL, key, 0);
	peer_contexts[0] = peer_context(TLS_client_method(), key, certificate);
	peer_contexts[1] = peer_context(TLS_server_method(), key, certificate);
	X509_free(certificate);
	EVP_PKEY_free(key);
	(void)ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_BAD_LENGTH));
}

struct ph_credentials *world_credentials(void)
{
	return credentials;
}

void world_begin(struct world *world)
{
	struct ph_options options;

	clock_script_set_ns(1000000000u);
	harness_options(&options);
	options.flags = world->hub_flags;
	TEST_MUST(harness_start(&world->it, &options) == 0);
	world->it.hello = credentials;
	world->has_begun = true;
	random_state = 7;
}

void world_turn(struct world *world)
{
	harness_turn(&world->it);
	if (world->is_armed && world->point->kind->pools == 0)
		errno_step(world);
	for (uint32_t i = 0; i < world->peer_count; i++)
		peer_pump(world, &world->peers[i]);
}

void world_turns(struct world *world, uint32_t count)
{
	while (count-- > 0)
		world_turn(world);
}

static void check_data(struct world *world)
{
	/* Every byte sent in these tests is its place in the stream, modulo 251. */
	for (uint32_t i = 0; i < world->it.peer_count; i++) {
		const struct harness_peer *peer = &world->it.peers[i];

		for (size_t at = 0; at < peer->bytes; at++)
			if (peer->data[at] != (uint8_t)(at % WORLD_PATTERN))
				nth_fault(
					"byte %zu of %zu that arrived is not the one that was sent",
					at, peer->bytes);
	}
}

static void check_ends(struct world *world)
{
	uint64_t begun = harness_counter(&world->it, COUNTER_accepted) +
		harness_counter(&world->it, COUNTER_dialled);
	uint64_t ended = harness_counter(&world->it, COUNTER_closed) +
		harness_counter(&world->it, COUNTER_failed);

	if (begun != ended)
		nth_fault(
			"%" PRIu64 " connections have begun, %" PRIu64 " have ended", begun, ended);
	for (uint32_t i = 0; i < world->id_count; i++)
		if (harness_peer(&world->it, world->ids[i])->closed != 1)
			nth_fault("id %" PRIx64 " has %u last events", world->ids[i],
				harness_peer(&world->it, world->ids[i])->closed);
	for (uint32_t i = 0; i < world->it.peer_count; i++)
		if (world->it.peers[i].closed != 1)
			nth_fault("id %" PRIx64 " had events and %u last ones",
				world->it.peers[i].id, world->it.peers[i].closed);
}

/* "open, then local_close", "failed: limit_memory", "call: -12". */
static void label_make(struct world *world)
{
	char *label = world->result->label;

	if (world->label != NULL) {
		snprintf(label, NTH_LABEL_BYTES, "%s", world->label);
	} else if (world->id_count == 0) {
		snprintf(label, NTH_LABEL_BYTES, "%s",
			world->call_status == 0 ? "no connection"
						: strerrorname_np(-world->call_status));
	} else {
		const struct harness_peer *peer = harness_peer(&world->it, world->ids[0]);

		snprintf(label, NTH_LABEL_BYTES, "%s %s", peer->opened ? "open," : "failed,",
			ph_reason_name(peer->receipt.reason));
	}
}

void world_end(struct world *world)
{
	struct harness *it = &world->it;
	struct shard *shard = it->shard;
	uint32_t turns = 0;

	atomic_store(&it->hub.stopping, true);
	shard->stop_how = world->stop_how;
	shard_post(shard->home, &shard->stop_command);
	do {
		world_turn(world);
		clock_script_advance_ms(100);
		if (++turns == END_TURNS_MAX) {
			shard_dump(shard, stderr);
			nth_fault("the shard does not come to its end");
		}
	} while (!shard_is_done(shard));
	shard->home->table.generation_last = UINT32_MAX;
	check_data(world);
	check_ends(world);
	label_make(world);
	if (atomic_load(&it->hub.reassembly_bytes) != 0)
		nth_fault("bytes of partial messages are left");
	/* Where OpenSSL cannot allocate while it frees a library context, it loses all of it: only the
	 * scenarios of a stop ask for that. */
	if (is_kind(world, 0) || (!world->fails_to_the_end && !is_kind(world, POOLS_OURS)))
		world_disarm(world);
	shard_end(shard);
	shard_destroy(shard);
	world->has_begun = false;
	world_disarm(world);
	for (uint32_t i = 0; i < it->peer_count; i++)
		free(it->peers[i].data);
	memory_free(it->hub.tags_ended);
	resume_destroy(it->hub.resume);
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		sem_destroy(&it->hub.listeners[i].done);
	pthread_mutex_destroy(&it->hub.lock);
	for (uint32_t i = 0; i < world->peer_count; i++)
		SSL_free(world->peers[i].ssl);
	world->peer_count = 0;
	if (memory_script_live() != it->memory_before)
		nth_fault("%" PRId64 " blocks of ours are lost",
			memory_script_live() - it->memory_before);
}

/* ---- connections --------------------------------------------------------------------------------- */

static void remember(struct world *world, uint64_t id)
{
	TEST_MUST(world->id_count < WORLD_IDS_MAX);
	world->ids[world->id_count++] = id;
}

uint64_t world_dial(struct world *world, enum ph_framing framing, bool tls)
{
	struct ph_open_options options = {
		.kind = PH_KIND_DIRECT,
		.framing = framing,
		.tls = tls ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.credentials = tls ? credentials : NULL,
		.sni = "hub",
		.group = HARNESS_GROUP,
		.source = HARNESS_OWN,
		.tag = HARNESS_TAG,
		.user = HARNESS_USER,
	};
	uint64_t id = 0;
	int status;

	TEST_MUST(ph_address_parse("[::1]:7", &options.address) == 0);
	status = ph_open(&world->it.hub, &options, &id);
	world->call_status = status;
	if (status != 0 && status != -ENOMEM)
		nth_fault("ph_open answers %d", status);
	if (status < 0)
		return 0;
	remember(world, id);
	return id;
}

void world_listen(struct world *world, enum ph_framing framing, bool tls)
{
	struct ph_listen_options options = {.framing = framing,
		.tls = tls ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.tag = HARNESS_TAG,
		.user = HARNESS_USER};
	int status;

	TEST_MUST(ph_address_parse("127.0.0.1:0", &options.address) == 0);
	status = ph_listen(&world->it.hub, &options, NULL);
	world->call_status = status < 0 ? status : 0;
	if (status < 0 && status != -ENOMEM)
		nth_fault("ph_listen answers %d", status);
	if (status < 0)
		return;
	world->it.listener = status;
	world->it.listen_fd = world->it.shard->listeners[status].fd;
	world_turns(world, 2);
}

int32_t world_accept(struct world *world, uint64_t *id)
{
	struct script_op *op = NULL;
	uint64_t live = atomic_load(&world->it.shard->live);
	int32_t file;

	*id = 0;
	if (world->it.listener < 0)
		return -1;
	/* Not armed after an error: it is tried again every 100 ms. */
	for (uint32_t i = 0; i < 4 && op == NULL; i++) {
		op = script_find(world->it.ring, SCRIPT_ACCEPT, world->it.listen_fd);
		if (op == NULL) {
			clock_script_advance_ms(101);
			world_turns(world, 2);
		}
	}
	if (op == NULL)
		return -1;
	file = script_answer_accept(world->it.ring, op, true);
	/* Without the errno step: the connection is looked at before anything can end it. */
	harness_turn(&world->it);
	if (atomic_load(&world->it.shard->live) == live)
		return -1;
	*id = harness_newest_id(&world->it);
	remember(world, *id);
	return file;
}

bool world_is_over(struct world *world, uint64_t id)
{
	return id == 0 || harness_peer(&world->it, id)->closed > 0;
}

bool world_is_open(struct world *world, uint64_t id)
{
	return id != 0 && harness_peer(&world->it, id)->opened > 0 && !world_is_over(world, id);
}

int32_t world_file(struct world *world, uint64_t id)
{
	const struct conn *conn;

	if (world_is_over(world, id))
		return -1;
	conn = harness_conn(&world->it, id);
	return conn->file != RING_FILE_NONE && !script_is_closed(world->it.ring, conn->file)
		? conn->file
		: -1;
}

void world_send(struct world *world, uint64_t id, size_t bytes)
{
	uint8_t *data = pattern_create(world->sent_bytes, bytes);
	int status = id != 0 ? harness_send(&world->it, id, data, bytes) : -ENOENT;

	free(data);
	if (status == 0)
		world->sent_bytes += bytes;
	if (status != 0 && status != -ENOENT && status != -ENOMEM && status != -EAGAIN)
		nth_fault("ph_send answers %d", status);
}

static void expect_over(struct world *world, uint64_t id)
{
	for (uint32_t turn = 0; turn < CLOSE_TURNS_MAX; turn++) {
		if (world_is_over(world, id))
			return;
		world_turn(world);
		/* The first turns in no time; then those that linger come to their deadline. */
		if (turn >= 8)
			clock_script_advance_ms(100);
	}
	shard_dump(world->it.shard, stderr);
	nth_fault("a closed id has no last event after %u turns", CLOSE_TURNS_MAX);
}

void world_expect_over(struct world *world)
{
	for (uint32_t i = 0; i < world->id_count; i++)
		expect_over(world, world->ids[i]);
}

void world_close(struct world *world, uint64_t id, enum ph_how how)
{
	struct slot *slot;
	uint64_t word;
	bool ending;
	int status, wanted;

	if (id == 0)
		return;
	slot = &world->it.shard->slots[slot_id_slot(id)];
	word = atomic_load(&slot->word);
	ending = slot_word_generation(word) != slot_id_generation(id) ||
		(slot_word_state(word) != SLOT_OPENING && slot_word_state(word) != SLOT_OPEN) ||
		(word & SLOT_CLOSE);
	wanted = ending ? -ENOENT : 0;
	status = harness_close(&world->it, id, how);
	/* An abort of a graceful close that is under way upgrades it. */
	if (status != wanted && !(ending && how == PH_ABORT && status == -EALREADY))
		nth_fault("ph_close answers %d instead of %d", status, wanted);
	expect_over(world, id);
}

uint64_t world_open_dialled(struct world *world, struct world_peer **peer)
{
	uint64_t id = world_dial(world, PH_FRAMING_MESSAGE, true);

	world_turns(world, 4);
	*peer = world_peer_begin(world, world_file(world, id), true);
	WORLD_UNTIL(world, (*peer)->is_done);
	world_peer_welcome(*peer);
	WORLD_UNTIL(world, world_is_open(world, id));
	if (!world_is_open(world, id))
		nth_fault("the dialled connection does not open");
	return id;
}

uint64_t world_open_accepted(struct world *world, struct world_peer **peer)
{
	uint64_t id;
	int32_t file;

	if (world->it.listener < 0)
		world_listen(world, PH_FRAMING_MESSAGE, true);
	file = world_accept(world, &id);
	*peer = world_peer_begin(world, file, false);
	WORLD_UNTIL(world, (*peer)->is_done);
	world_peer_greet(*peer);
	WORLD_UNTIL(world, world_is_open(world, id));
	if (!world_is_open(world, id))
		nth_fault("the accepted connection does not open");
	return id;
}
