/*
 * TLS over buffers: two ends in memory, and ends of plain OpenSSL that do what ours never would.
 *
 *   tls_test --measure N   N handshakes: CPU time a side, and bytes held by an idle connection
 *   tls_test --fast        not the round without the decoding short cut
 *   tls_test --openssl     not the round with our own record layer
 *   tls_test --seed S      the random cases again
 */
#include "engine/tls.h"
#include "engine/credentials.h"
#include "engine/memory.h"
#include "engine/tls_decode.h"
#include "tests/engine/test_certs.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* Allocations between these two may stay: only where OpenSSL is known to lose its own. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAKS_MAY_BE_SEEN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define LEAKS_MAY_BE_SEEN
#endif
#ifdef LEAKS_MAY_BE_SEEN
#include <sanitizer/lsan_interface.h>
#define LEAKS_IGNORED() __lsan_disable()
#define LEAKS_SEEN() __lsan_enable()
#else
#define LEAKS_IGNORED() ((void)0)
#define LEAKS_SEEN() ((void)0)
#endif

static uint32_t test_flags; /* of the round */
static uint64_t test_seed;
static bool is_plain_verify; /* measuring: the callback does nothing */

static uint64_t random_next(void)
{
	test_seed ^= test_seed << 13;
	test_seed ^= test_seed >> 7;
	test_seed ^= test_seed << 17;
	return test_seed;
}

/* ---- OpenSSL's allocations, counted and failed on demand -------------------------------- */

static atomic_int_fast64_t held_bytes;
static atomic_uint_fast64_t allocations;
static atomic_uint_fast64_t
	fail_at; /* 0: never; this allocation fails, and with fail_on all after it */
static bool fail_on;

static bool must_fail(void)
{
	uint64_t number = ++allocations, first = fail_at;

	return first > 0 && (number == first || (fail_on && number > first));
}

static void *counted_malloc(size_t bytes, const char *file, int line)
{
	void *block = must_fail() ? NULL : malloc(bytes);

	(void)file;
	(void)line;
	if (block != NULL)
		held_bytes += (int64_t)malloc_usable_size(block);
	return block;
}

static void *counted_realloc(void *block, size_t bytes, const char *file, int line)
{
	int64_t before = block != NULL ? (int64_t)malloc_usable_size(block) : 0;
	void *moved = must_fail() ? NULL : realloc(block, bytes);

	(void)file;
	(void)line;
	if (moved != NULL)
		held_bytes += (int64_t)malloc_usable_size(moved) - before;
	return moved;
}

static void counted_free(void *block, const char *file, int line)
{
	(void)file;
	(void)line;
	if (block != NULL)
		held_bytes -= (int64_t)malloc_usable_size(block);
	free(block);
}

/* ---- one end of ours -------------------------------------------------------------------- */

#define RECEIVED_MAX (4u << 20)

struct end {
	struct tls_shard *shard;
	struct tls *tls;
	struct chain out;
	struct ph_credentials *credentials;
	int hello_status, verify_status;
	bool is_messy; /* the callbacks leave errors in OpenSSL's queue */
	int hellos, verifies, resumes;
	bool has_secret; /* on_resume knows one */
	uint8_t id[TLS_RESUME_BYTES], secret[TLS_RESUME_BYTES];
	char sni[PH_SNI_BYTES_MAX + 1];
	uint32_t chain_count;
	bool is_open;
	int status; /* TLS_AGAIN while it lives */
	uint8_t *received;
	size_t received_bytes;
};

static int on_hello(void *context, const char *sni, struct ph_credentials **credentials)
{
	struct end *end = context;

	end->hellos++;
	if (end->is_messy)
		ERR_raise(ERR_LIB_X509, ERR_R_MALLOC_FAILURE);
	snprintf(end->sni, sizeof(end->sni), "%s", sni);
	if (end->hello_status < 0)
		return end->hello_status;
	*credentials = ph_credentials_get(end->credentials);
	return 0;
}

static int on_verify(void *context, const struct ph_chain *chain)
{
	struct end *end = context;

	end->verifies++;
	if (end->is_messy)
		ERR_raise(ERR_LIB_X509, ERR_R_MALLOC_FAILURE);
	end->chain_count = chain->count;
	for (uint32_t index = 0; !is_plain_verify && fail_at == 0 && index < chain->count;
		index++) {
		const uint8_t *cursor = chain->der[index].data;
		X509 *copy = d2i_X509(NULL, &cursor, (long)chain->der[index].bytes);

		assert_non_null(copy);
		assert_int_equal(X509_cmp(copy, chain->x509[index]), 0);
		X509_free(copy);
	}
	return end->verify_status;
}

static int on_resume(void *context, const uint8_t *id, uint8_t *secret)
{
	struct end *end = context;

	end->resumes++;
	if (end->is_messy)
		ERR_raise(ERR_LIB_X509, ERR_R_MALLOC_FAILURE);
	if (!end->has_secret || memcmp(id, end->id, sizeof(end->id)) != 0)
		return -ENOENT;
	memcpy(secret, end->secret, sizeof(end->secret));
	return 0;
}

static const struct tls_events events = {
	.on_hello = on_hello, .on_verify = on_verify, .on_resume = on_resume};

static void end_init(struct end *end, enum test_key kind)
{
	*end = (struct end){.status = TLS_AGAIN};
	assert_int_equal(tls_shard_create(&events, test_flags, &end->shard), 0);
	end->credentials = test_identity_create(kind, "end");
	end->received = malloc(RECEIVED_MAX);
	assert_non_null(end->received);
}

/* A new connection on the same shard. */
static void end_open(struct end *end, enum tls_role role, const char *sni)
{
	tls_destroy(end->tls);
	end->tls = NULL;
	chain_clear(&end->out);
	end->is_open = false;
	end->status = TLS_AGAIN;
	end->hellos = end->verifies = end->resumes = 0;
	end->received_bytes = 0;
	assert_int_equal(tls_open(end->shard, role, role == TLS_CLIENT ? end->credentials : NULL,
				 sni, end, &end->tls),
		0);
}

static void end_fini(struct end *end)
{
	tls_destroy(end->tls);
	chain_clear(&end->out);
	tls_shard_destroy(end->shard);
	ph_credentials_put(end->credentials);
	free(end->received);
}

/* Go as far as the input carries. */
static void end_step(struct end *end)
{
	ssize_t got;

	if (!end->is_open && end->status == TLS_AGAIN) {
		int status = tls_handshake(end->tls, &end->out);

		end->is_open = status == 0;
		end->status = status == 0 ? TLS_AGAIN : status;
	}
	while (end->is_open && end->status == TLS_AGAIN) {
		got = tls_read(end->tls, end->received + end->received_bytes,
			RECEIVED_MAX - end->received_bytes, &end->out);
		if (got <= 0) {
			end->status = (int)got;
			break;
		}
		end->received_bytes += (size_t)got;
	}
}

static void end_feed(struct end *end, const uint8_t *data, size_t bytes, size_t slice_bytes)
{
	while (bytes > 0 && end->status == TLS_AGAIN) {
		size_t step = bytes < slice_bytes ? bytes : slice_bytes;
		uint8_t *slice = malloc(step); /* its own block: reading past it is seen */

		assert_non_null(slice);
		memcpy(slice, data, step);
		tls_input(end->tls, slice, step);
		end_step(end);
		if (end->status == TLS_AGAIN)
			assert_int_equal(tls_input_left(end->tls), 0);
		else
			tls_input_drop(end->tls);
		free(slice);
		data += step;
		bytes -= step;
	}
}

/* All that waits in a chain, as one block; freed by the caller. */
static uint8_t *chain_take(struct chain *chain, size_t *bytes)
{
	uint8_t *block = malloc(chain->bytes + 1);
	size_t at = 0;

	assert_non_null(block);
	for (struct chunk *chunk = chain->head; chunk != NULL; chunk = chunk->next) {
		memcpy(block + at, chunk->data + chunk->offset, chunk->bytes - chunk->offset);
		at += chunk->bytes - chunk->offset;
	}
	assert_int_equal(at, chain->bytes);
	*bytes = at;
	chain_clear(chain);
	return block;
}

static void shuttle(struct end *from, struct end *to, size_t slice_bytes)
{
	size_t bytes;
	uint8_t *block = chain_take(&from->out, &bytes);

	end_feed(to, block, bytes, slice_bytes);
	free(block);
}

/* Until nothing moves any more; the client begins. */
static void converse(struct end *client, struct end *server, size_t slice_bytes)
{
	end_step(client);
	for (int round = 0; round < 32; round++) {
		if (client->out.bytes == 0 && server->out.bytes == 0)
			return;
		shuttle(client, server, slice_bytes);
		shuttle(server, client, slice_bytes);
	}
	fail_msg("the conversation does not end");
}

static void assert_open(const struct end *client, const struct end *server)
{
	assert_true(client->is_open);
	assert_true(server->is_open);
	assert_int_equal(client->status, TLS_AGAIN);
	assert_int_equal(server->status, TLS_AGAIN);
}

static void assert_text(const struct end *end, const char *part)
{
	char text[PH_TEXT_BYTES_MAX];

	tls_failure_text(end->tls, text, sizeof(text));
	if (strstr(text, part) == NULL)
		fail_msg("'%s' does not say '%s'", text, part);
}

static void pair_init(struct end *client, struct end *server)
{
	end_init(client, TEST_P256);
	end_init(server, TEST_P256);
	end_open(client, TLS_CLIENT, "b.a.p2p");
	end_open(server, TLS_SERVER, NULL);
}

static void pair_fini(struct end *client, struct end *server)
{
	end_fini(client);
	end_fini(server);
}

/* The client's last flight takes a server three steps: certificates, signature, Finished. Its first, and
 * all of the server's for the client, is one. */
static void tls_handshake_step_by_step(void **state)
{
	struct end client, server;
	int steps = 0, status;
	uint8_t *flight;
	size_t bytes;

	(void)state;
	pair_init(&client, &server);
	end_step(&client);
	flight = chain_take(&client.out, &bytes);
	tls_input(server.tls, flight, bytes);
	assert_int_equal(tls_handshake_step(server.tls, &server.out), TLS_AGAIN);
	assert_int_equal(tls_input_left(server.tls), 0);
	free(flight);
	flight = chain_take(&server.out, &bytes);
	tls_input(client.tls, flight, bytes);
	assert_int_equal(tls_handshake_step(client.tls, &client.out), 0);
	assert_int_equal(tls_input_left(client.tls), 0);
	free(flight);
	flight = chain_take(&client.out, &bytes);
	tls_input(server.tls, flight, bytes);
	do {
		assert_int_equal(server.verifies, steps > 0);
		status = tls_handshake_step(server.tls, &server.out);
		steps++;
		assert_true(status == 0 || tls_input_left(server.tls) > 0);
	} while (status == TLS_AGAIN);
	assert_int_equal(status, 0);
	assert_int_equal(steps, 3);
	free(flight);
	client.is_open = server.is_open = true;
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	pair_fini(&client, &server);
}

static void pair_open(struct end *client, struct end *server)
{
	pair_init(client, server);
	converse(client, server, 4096);
	assert_open(client, server);
}

/* ---- one end of plain OpenSSL ----------------------------------------------------------- */

struct raw {
	SSL_CTX *role;
	SSL *ssl;
	BIO *in, *out;
	int error; /* SSL_get_error of the last step */
	unsigned long reason; /* and the first in the queue */
};

static void raw_init(struct raw *raw, const SSL_METHOD *method)
{
	*raw = (struct raw){.role = SSL_CTX_new(method)};
	assert_non_null(raw->role);
	SSL_CTX_set_security_level(raw->role, 0);
	SSL_CTX_set_verify(raw->role, SSL_VERIFY_NONE, NULL);
}

static void raw_use(struct raw *raw, X509 *const *chain, int count, EVP_PKEY *key)
{
	assert_int_equal(SSL_CTX_use_certificate(raw->role, chain[0]), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(raw->role, key), 1);
	for (int index = 1; index < count; index++)
		assert_int_equal(SSL_CTX_add1_chain_cert(raw->role, chain[index]), 1);
}

static void raw_open(struct raw *raw, enum tls_role role)
{
	raw->ssl = SSL_new(raw->role);
	raw->in = BIO_new(BIO_s_mem());
	raw->out = BIO_new(BIO_s_mem());
	assert_true(raw->ssl != NULL && raw->in != NULL && raw->out != NULL);
	SSL_set_bio(raw->ssl, raw->in, raw->out);
	if (role == TLS_CLIENT)
		SSL_set_connect_state(raw->ssl);
	else
		SSL_set_accept_state(raw->ssl);
}

static void raw_fini(struct raw *raw)
{
	SSL_free(raw->ssl);
	SSL_CTX_free(raw->role);
	ERR_clear_error();
}

static void raw_step(struct raw *raw)
{
	uint8_t data[256];
	size_t done;
	int returned;

	ERR_clear_error();
	returned = SSL_is_init_finished(raw->ssl) ? SSL_read_ex(raw->ssl, data, sizeof(data), &done)
						  : SSL_do_handshake(raw->ssl);
	raw->error = SSL_get_error(raw->ssl, returned);
	if (raw->error != SSL_ERROR_WANT_READ && raw->reason == 0)
		raw->reason = ERR_peek_error();
}

static void raw_give(struct raw *raw, struct end *end)
{
	char *data;
	long bytes = BIO_get_mem_data(raw->out, &data);
	uint8_t *copy;

	if (bytes <= 0)
		return;
	copy = malloc((size_t)bytes);
	assert_non_null(copy);
	memcpy(copy, data, (size_t)bytes);
	assert_int_equal(BIO_reset(raw->out), 1);
	end_feed(end, copy, (size_t)bytes, 4096);
	free(copy);
}

static void raw_take(struct raw *raw, struct end *end)
{
	size_t bytes;
	uint8_t *block = chain_take(&end->out, &bytes);

	if (bytes > 0)
		assert_int_equal(BIO_write(raw->in, block, (int)bytes), (int)bytes);
	free(block);
}

static void raw_converse(struct raw *raw, struct end *end)
{
	for (int round = 0; round < 16; round++) {
		raw_step(raw);
		raw_give(raw, end);
		end_step(end);
		raw_take(raw, end);
	}
	raw_step(raw);
}

/* A server of ours has to refuse this plain client before anybody is asked about its chain. */
static void refuse_raw_client(struct raw *client, const char *text)
{
	struct end server;

	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	raw_open(client, TLS_CLIENT);
	raw_converse(client, &server);
	assert_false(server.is_open);
	assert_int_equal(server.status, TLS_FAILED);
	assert_text(&server, text);
	assert_int_equal(tls_verify_refused(server.tls), TLS_REFUSED_NOT);
	assert_int_equal(server.verifies, 0);
	end_fini(&server);
}

/* ---- cases: opening --------------------------------------------------------------------- */

/* Slices of every size from one byte up; each side sees the other's chain; SNI arrives. */
static void tls_handshake_in_slices(void **state)
{
	static const size_t slices[] = {1, 2, 3, 7, 64, 511, 4096, 1u << 20};
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	for (size_t index = 0; index < sizeof(slices) / sizeof(slices[0]); index++) {
		end_open(&client, TLS_CLIENT, "b.a.p2p");
		end_open(&server, TLS_SERVER, NULL);
		converse(&client, &server, slices[index]);
		assert_open(&client, &server);
		assert_string_equal(server.sni, "b.a.p2p");
		assert_int_equal(server.hellos, 1);
		assert_int_equal(server.verifies, 1);
		assert_int_equal(client.verifies, 1);
		assert_int_equal(client.chain_count, 1);
		assert_int_equal(tls_verify_refused(client.tls), TLS_REFUSED_NOT);
		assert_true(tls_bytes_estimate(client.tls) > 0);
	}
	pair_fini(&client, &server);
}

/* Every allowed kind of key on either side. */
static void tls_handshake_with_kinds_of_keys(void **state)
{
	static const enum test_key kinds[] = {TEST_P256, TEST_ED25519, TEST_RSA2048};
	struct end client, server;

	(void)state;
	for (int first = 0; first < 3; first++)
		for (int second = 0; second < 3; second++) {
			end_init(&client, kinds[first]);
			end_init(&server, kinds[second]);
			end_open(&client, TLS_CLIENT, NULL);
			end_open(&server, TLS_SERVER, NULL);
			converse(&client, &server, 4096);
			assert_open(&client, &server);
			assert_string_equal(server.sni, "");
			pair_fini(&client, &server);
		}
}

static struct ph_credentials *chain_create(uint32_t count, size_t ballast_bytes)
{
	X509 *certificates[PH_CHAIN_MAX];
	EVP_PKEY *key = test_key_create(TEST_P256), *root_key = test_key_create(TEST_P256);
	struct ph_credentials *credentials;

	certificates[count - 1] = test_certificate_create(count == 1 ? key : root_key, "root", NULL,
		count == 1 ? key : root_key, ballast_bytes);
	for (uint32_t index = count - 1; index-- > 0;)
		certificates[index] = test_certificate_create(index == 0 ? key : root_key, "link",
			certificates[index + 1], root_key, ballast_bytes);
	credentials = test_credentials_create(certificates, count, key);
	for (uint32_t index = 0; index < count; index++)
		X509_free(certificates[index]);
	EVP_PKEY_free(key);
	EVP_PKEY_free(root_key);
	return credentials;
}

/* The longest chain, and one that does not fit the handshake's bound. */
static void tls_handshake_with_long_chains(void **state)
{
	struct end client, server;
	size_t bytes = 0;

	(void)state;
	pair_init(&client, &server);
	ph_credentials_put(client.credentials);
	client.credentials = chain_create(PH_CHAIN_MAX, 1400);
	end_open(&client, TLS_CLIENT, NULL);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	assert_int_equal(server.chain_count, PH_CHAIN_MAX);

	ph_credentials_put(client.credentials);
	client.credentials = chain_create(PH_CHAIN_MAX, 5000);
	end_open(&client, TLS_CLIENT, NULL);
	end_open(&server, TLS_SERVER, NULL);
	converse(&client, &server, 4096);
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(server.verifies, 0);
	assert_text(&server, "excessive message size");

	/* Below the bound of one message, above that of all. */
	ph_credentials_put(client.credentials);
	client.credentials = chain_create(6, 15000);
	for (uint32_t index = 0; index < 6; index++)
		bytes += credentials_certificate(client.credentials, index).bytes + 5;
	ph_credentials_put(client.credentials);
	client.credentials = chain_create(6, 15000 + (TLS_HANDSHAKE_BYTES_MAX - 150 - bytes) / 6);
	end_open(&client, TLS_CLIENT, NULL);
	end_open(&server, TLS_SERVER, NULL);
	converse(&client, &server, 4096);
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(server.verifies, 0);
	assert_text(&server, "handshake too long");
	pair_fini(&client, &server);
}

/* More identities than the cache of parsed ones holds, used in turns while connections live. */
static void tls_open_with_many_credentials(void **state)
{
	enum {
		COUNT = 40
	};
	struct ph_credentials *many[COUNT];
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	for (int index = 0; index < COUNT; index++)
		many[index] = test_identity_create(TEST_P256, "one of many");
	for (int index = 0; index < 2 * COUNT; index++) {
		ph_credentials_put(client.credentials);
		client.credentials = ph_credentials_get(many[index % COUNT]);
		end_open(&client, TLS_CLIENT, NULL);
		end_open(&server, TLS_SERVER, NULL);
		converse(&client, &server, 4096);
		assert_open(&client, &server);
	}
	for (int index = 0; index < COUNT; index++)
		ph_credentials_put(many[index]);
	pair_fini(&client, &server);
}

/* What tls_open refuses: no credentials, a name too long. */
static void tls_open_with_wrong_arguments(void **state)
{
	char name[PH_SNI_BYTES_MAX + 2];
	struct tls *tls = NULL;
	struct end client;

	(void)state;
	end_init(&client, TEST_P256);
	memset(name, 'n', sizeof(name));
	name[PH_SNI_BYTES_MAX + 1] = 0;
	assert_int_equal(tls_open(client.shard, TLS_CLIENT, NULL, NULL, &client, &tls), -EINVAL);
	assert_int_equal(
		tls_open(client.shard, TLS_CLIENT, client.credentials, name, &client, &tls),
		-EINVAL);
	assert_null(tls);
	tls_destroy(NULL);
	tls_shard_destroy(NULL);
	end_fini(&client);
}

/* The listener does not know the name: unrecognized_name, and both ends say so. */
static void tls_hello_refused(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	server.hello_status = -ENOENT;
	converse(&client, &server, 4096);
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(client.status, TLS_FAILED);
	assert_int_equal(tls_verify_refused(server.tls), TLS_REFUSED_HELLO);
	assert_int_equal(tls_verify_refused(client.tls), TLS_REFUSED_NOT);
	assert_text(&server, "server name refused (alert sent: unrecognized name)");
	assert_text(&client, "alert received: unrecognized name");
	assert_int_equal(server.verifies, 0);
	/* Failed is failed. */
	assert_int_equal(tls_handshake(server.tls, &server.out), TLS_FAILED);
	assert_int_equal(tls_goodbye(server.tls, &server.out), TLS_FAILED);
	assert_int_equal(tls_write(server.tls, (const uint8_t *)"x", 1, &server.out), TLS_FAILED);
	pair_fini(&client, &server);
}

/* The server refuses the client's chain: the client, done already, learns it from the alert. */
static void tls_verify_refused_by_server(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	server.verify_status = -EACCES;
	converse(&client, &server, 4096);
	assert_int_equal(server.status, TLS_FAILED);
	assert_false(server.is_open);
	assert_int_equal(tls_verify_refused(server.tls), TLS_REFUSED_VERIFY);
	assert_text(&server, "certificate chain refused (alert sent: handshake failure)");
	assert_int_equal(client.status, TLS_FAILED);
	assert_int_equal(tls_verify_refused(client.tls), TLS_REFUSED_NOT);
	assert_text(&client, "alert received: handshake failure");
	pair_fini(&client, &server);
}

static void tls_verify_refused_by_client(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	client.verify_status = -EACCES;
	converse(&client, &server, 4096);
	assert_int_equal(client.status, TLS_FAILED);
	assert_int_equal(tls_verify_refused(client.tls), TLS_REFUSED_VERIFY);
	assert_text(&client, "certificate chain refused");
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(server.verifies, 0);
	assert_text(&server, "alert received: handshake failure");
	pair_fini(&client, &server);
}

/* ---- cases: strangers ------------------------------------------------------------------- */

static void raw_identity(struct raw *raw, enum test_key kind, size_t ballast_bytes)
{
	EVP_PKEY *key = test_key_create(kind);
	X509 *certificate = test_certificate_create(key, "raw", NULL, key, ballast_bytes);

	raw_use(raw, &certificate, 1, key);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* As openssl s_client comes: no protocol offered, no name. */
static void tls_client_without_alpn(void **state)
{
	struct raw client;
	struct end server;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	raw_open(&client, TLS_CLIENT);
	raw_converse(&client, &server);
	assert_true(server.is_open);
	assert_int_equal(SSL_version(client.ssl), TLS1_3_VERSION);
	assert_int_equal(SSL_write(client.ssl, "hello", 5), 5);
	raw_converse(&client, &server);
	assert_int_equal(server.received_bytes, 5);
	assert_memory_equal(server.received, "hello", 5);
	raw_fini(&client);
	end_fini(&server);
}

/* Ours among others is chosen; only others is no_application_protocol. */
static void tls_client_with_other_alpn(void **state)
{
	static const uint8_t both[] = "\002h2\011peerhub/1", others[] = "\002h2\010http/1.1";
	const unsigned char *selected;
	unsigned int bytes;
	struct raw client;
	struct end server;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	assert_int_equal(SSL_CTX_set_alpn_protos(client.role, both, sizeof(both) - 1), 0);
	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	raw_open(&client, TLS_CLIENT);
	raw_converse(&client, &server);
	assert_true(server.is_open);
	SSL_get0_alpn_selected(client.ssl, &selected, &bytes);
	assert_int_equal(bytes, 9);
	assert_memory_equal(selected, "peerhub/1", 9);
	raw_fini(&client);
	end_fini(&server);

	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	assert_int_equal(SSL_CTX_set_alpn_protos(client.role, others, sizeof(others) - 1), 0);
	refuse_raw_client(
		&client, "no common application protocol (alert sent: no application protocol)");
	assert_int_equal(ERR_GET_REASON(client.reason),
		SSL_AD_REASON_OFFSET + TLS1_AD_NO_APPLICATION_PROTOCOL);
	raw_fini(&client);
}

static void tls_client_without_certificate(void **state)
{
	struct raw client;

	(void)state;
	raw_init(&client, TLS_client_method());
	refuse_raw_client(
		&client, "peer did not return a certificate (alert sent: certificate required)");
	raw_fini(&client);
}

static void tls_client_of_an_older_version(void **state)
{
	struct raw client;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	assert_int_equal(SSL_CTX_set_max_proto_version(client.role, TLS1_2_VERSION), 1);
	refuse_raw_client(&client, "unsupported protocol (alert sent: protocol version)");
	raw_fini(&client);
}

/* Key kinds out of bounds in the leaf or above it, before any signature is looked at. */
static void tls_client_with_forbidden_keys(void **state)
{
	static const enum test_key kinds[] = {TEST_RSA1024, TEST_P384, TEST_P521};

	(void)state;
	for (size_t index = 0; index < sizeof(kinds) / sizeof(kinds[0]); index++) {
		EVP_PKEY *key = test_key_create(TEST_P256), *root_key;
		X509 *chain[2];
		struct raw client;

		root_key = test_key_create(kinds[index]);
		chain[1] = test_certificate_create(root_key, "root", NULL, root_key, 0);
		chain[0] = test_certificate_create(key, "leaf", chain[1], root_key, 0);
		raw_init(&client, TLS_client_method());
		raw_use(&client, chain, 2, key);
		refuse_raw_client(&client, "key kind not allowed (alert sent: bad certificate)");
		raw_fini(&client);
		X509_free(chain[0]);
		X509_free(chain[1]);
		EVP_PKEY_free(key);
		EVP_PKEY_free(root_key);
	}
}

/* A leaf that no allowed signature algorithm fits. Ours as the client, where the server's leaf
 * decides: the server finds no common algorithm, or we refuse its key. */
static void tls_server_with_forbidden_keys(void **state)
{
	static const enum test_key kinds[] = {TEST_RSA1024, TEST_P384, TEST_P521};

	(void)state;
	for (size_t index = 0; index < sizeof(kinds) / sizeof(kinds[0]); index++) {
		struct raw server;
		struct end client;

		raw_init(&server, TLS_server_method());
		raw_identity(&server, kinds[index], 0);
		end_init(&client, TEST_P256);
		end_open(&client, TLS_CLIENT, NULL);
		raw_open(&server, TLS_SERVER);
		end_step(&client);
		raw_take(&server, &client);
		raw_converse(&server, &client);
		assert_false(client.is_open);
		assert_int_equal(client.status, TLS_FAILED);
		assert_int_equal(client.verifies, 0);
		raw_fini(&server);
		end_fini(&client);
	}
}

static void tls_client_with_a_chain_too_long(void **state)
{
	X509 *chain[PH_CHAIN_MAX + 1];
	EVP_PKEY *key = test_key_create(TEST_P256);
	struct raw client;

	(void)state;
	for (uint32_t index = 0; index <= PH_CHAIN_MAX; index++)
		chain[index] = test_certificate_create(key, "link", NULL, key, 0);
	raw_init(&client, TLS_client_method());
	raw_use(&client, chain, (int)PH_CHAIN_MAX + 1, key);
	refuse_raw_client(&client, "certificate chain too long");
	raw_fini(&client);
	for (uint32_t index = 0; index <= PH_CHAIN_MAX; index++)
		X509_free(chain[index]);
	EVP_PKEY_free(key);
}

static void tls_client_with_a_large_certificate(void **state)
{
	struct raw client;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, TLS_CERTIFICATE_BYTES_MAX);
	refuse_raw_client(&client, "certificate too large");
	raw_fini(&client);
}

/* A plain OpenSSL server without ALPN, with tickets after its handshake: accepted and read over. */
static void tls_server_of_another_kind(void **state)
{
	struct raw server;
	struct end client;

	(void)state;
	raw_init(&server, TLS_server_method());
	raw_identity(&server, TEST_P256, 0);
	end_init(&client, TEST_P256);
	end_open(&client, TLS_CLIENT, "plain.example");
	raw_open(&server, TLS_SERVER);
	end_step(&client);
	raw_take(&server, &client);
	raw_converse(&server, &client);
	assert_true(client.is_open);
	assert_string_equal(
		SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name), "plain.example");
	assert_int_equal(SSL_write(server.ssl, "data", 4), 4);
	raw_converse(&server, &client);
	assert_int_equal(client.received_bytes, 4);
	assert_int_equal(client.status, TLS_AGAIN);
	raw_fini(&server);
	end_fini(&client);
}

/* A client that first offers only P-256 in its key share, or a share we do not take: the second
 * ClientHello of a HelloRetryRequest asks nobody again. */
static void tls_hello_retry(void **state)
{
	struct raw client;
	struct end server;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	assert_int_equal(SSL_CTX_set1_groups_list(client.role, "P-384:P-256"), 1);
	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	raw_open(&client, TLS_CLIENT);
	assert_int_equal(SSL_set_tlsext_host_name(client.ssl, "retry.p2p"), 1);
	raw_converse(&client, &server);
	assert_true(server.is_open);
	assert_int_equal(server.hellos, 1);
	assert_string_equal(server.sni, "retry.p2p");
	assert_true(SSL_is_init_finished(client.ssl));
	raw_fini(&client);
	end_fini(&server);
}

/* A name with a byte that belongs in no name. */
static void tls_hello_with_a_malformed_name(void **state)
{
	struct raw client;
	struct end server;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	raw_open(&client, TLS_CLIENT);
	assert_int_equal(SSL_set_tlsext_host_name(client.ssl, "a\nb"), 1);
	raw_converse(&client, &server);
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(server.hellos, 0);
	assert_text(&server, "malformed server name (alert sent: decode error)");
	end_fini(&server);
	raw_fini(&client);
}

/* ---- cases: data ------------------------------------------------------------------------ */

/* Both ways, small and large, records cut at every size. */
static void tls_data_both_ways(void **state)
{
	static const size_t sizes[] = {1, 2, 100, 16384, 16385, 100000, 1u << 20};
	static const size_t slices[] = {1, 5, 4096, 65536};
	uint8_t *data = malloc(1u << 20);
	struct end client, server;

	(void)state;
	assert_non_null(data);
	for (size_t index = 0; index < 1u << 20; index++)
		data[index] = (uint8_t)(index * 31 >> 3);
	pair_open(&client, &server);
	for (size_t slice = 0; slice < sizeof(slices) / sizeof(slices[0]); slice++)
		for (size_t index = 0; index < sizeof(sizes) / sizeof(sizes[0]); index++) {
			size_t bytes = sizes[index];

			if (slices[slice] < 100 && bytes > 20000)
				continue;
			client.received_bytes = server.received_bytes = 0;
			assert_int_equal(tls_write(client.tls, data, bytes, &client.out), 0);
			assert_int_equal(tls_write(server.tls, data, bytes, &server.out), 0);
			converse(&client, &server, slices[slice]);
			assert_open(&client, &server);
			assert_int_equal(server.received_bytes, bytes);
			assert_int_equal(client.received_bytes, bytes);
			assert_memory_equal(server.received, data, bytes);
			assert_memory_equal(client.received, data, bytes);
		}
	assert_int_equal(tls_write(client.tls, data, 0, &client.out), 0);
	assert_int_equal(client.out.bytes, 0);
	free(data);
	pair_fini(&client, &server);
}

/* A reader with little room gets a record in pieces, without new input. */
static void tls_read_in_pieces(void **state)
{
	uint8_t data[1000], piece[7];
	struct end client, server;
	size_t bytes, got = 0;
	uint8_t *block;
	ssize_t done;

	(void)state;
	for (size_t index = 0; index < sizeof(data); index++)
		data[index] = (uint8_t)index;
	pair_open(&client, &server);
	assert_int_equal(tls_write(client.tls, data, sizeof(data), &client.out), 0);
	block = chain_take(&client.out, &bytes);
	tls_input(server.tls, block, bytes);
	while ((done = tls_read(server.tls, piece, sizeof(piece), &server.out)) > 0) {
		assert_memory_equal(piece, data + got, (size_t)done);
		got += (size_t)done;
	}
	assert_int_equal(done, TLS_AGAIN);
	assert_int_equal(got, sizeof(data));
	assert_int_equal(tls_input_left(server.tls), 0);
	free(block);
	pair_fini(&client, &server);
}

/* Data that arrives with the end of the handshake, in the same slice. */
static void tls_data_behind_the_handshake(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	end_step(&client);
	shuttle(&client, &server, 4096);
	shuttle(&server, &client, 1u << 20);
	assert_true(client.is_open);
	assert_int_equal(tls_write(client.tls, (const uint8_t *)"first", 5, &client.out), 0);
	shuttle(&client, &server, 1u << 20);
	assert_true(server.is_open);
	assert_int_equal(server.received_bytes, 5);
	pair_fini(&client, &server);
}

/* close_notify one way leaves the other way open; then the other. */
static void tls_goodbye_each_way(void **state)
{
	struct end client, server;

	(void)state;
	pair_open(&client, &server);
	assert_int_equal(tls_write(client.tls, (const uint8_t *)"last", 4, &client.out), 0);
	assert_int_equal(tls_goodbye(client.tls, &client.out), 0);
	assert_int_equal(tls_goodbye(client.tls, &client.out), 0);
	shuttle(&client, &server, 4096);
	assert_int_equal(server.received_bytes, 4);
	assert_int_equal(server.status, TLS_CLOSED);
	assert_int_equal(tls_write(server.tls, (const uint8_t *)"late", 4, &server.out), 0);
	assert_int_equal(tls_goodbye(server.tls, &server.out), 0);
	shuttle(&server, &client, 4096);
	assert_int_equal(client.received_bytes, 4);
	assert_int_equal(client.status, TLS_CLOSED);
	assert_int_equal(client.out.bytes, 0);
	pair_fini(&client, &server);
}

static void tls_goodbye_during_the_handshake(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	end_step(&client);
	assert_int_equal(tls_goodbye(client.tls, &client.out), TLS_FAILED);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	pair_fini(&client, &server);
}

/* ---- cases: keys ------------------------------------------------------------------------ */

/* Our own KeyUpdate after so many records; the data goes on. */
static void tls_rekey_by_count(void **state)
{
	uint8_t data[64] = {7};
	struct end client, server;

	(void)state;
	pair_open(&client, &server);
	tls_shard_rekey_after(client.shard, 3);
	for (int round = 0; round < 100; round++) {
		assert_int_equal(tls_write(client.tls, data, sizeof(data), &client.out), 0);
		assert_int_equal(tls_write(server.tls, data, sizeof(data), &server.out), 0);
		converse(&client, &server, 1000);
		assert_open(&client, &server);
	}
	assert_int_equal(server.received_bytes, 100 * sizeof(data));
	assert_int_equal(client.received_bytes, 100 * sizeof(data));
	pair_fini(&client, &server);
}

static void raw_client_open(struct raw *client, struct end *server)
{
	raw_init(client, TLS_client_method());
	raw_identity(client, TEST_P256, 0);
	end_init(server, TEST_P256);
	end_open(server, TLS_SERVER, NULL);
	raw_open(client, TLS_CLIENT);
	raw_converse(client, server);
	assert_true(server->is_open);
}

static void raw_key_update(struct raw *raw)
{
	assert_int_equal(SSL_key_update(raw->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(raw->ssl), 1);
}

/* A peer's KeyUpdate that asks for ours is answered at once, and data goes on both ways. */
static void tls_key_update_answered(void **state)
{
	struct raw client;
	struct end server;

	(void)state;
	raw_client_open(&client, &server);
	for (int round = 0; round < 30; round++) {
		uint8_t data[8];

		raw_key_update(&client);
		raw_give(&client, &server);
		assert_true(server.out.bytes > 0);
		raw_take(&client, &server);
		assert_int_equal(SSL_write(client.ssl, "x", 1), 1);
		raw_give(&client, &server);
		assert_int_equal(server.status, TLS_AGAIN);
		assert_int_equal(tls_write(server.tls, (const uint8_t *)"y", 1, &server.out), 0);
		raw_take(&client, &server);
		assert_int_equal(SSL_read(client.ssl, data, sizeof(data)), 1);
	}
	assert_int_equal(server.received_bytes, 30);
	raw_fini(&client);
	end_fini(&server);
}

/* A byte behind each does not pay for a KeyUpdate; 32 records do, or 64 KiB. */
static void tls_key_update_is_paid_by_data(void **state)
{
	static const struct {
		int records;
		size_t bytes;
		bool is_enough;
	} payments[] = {{1, 1, false}, {16, 1, false}, {32, 1, true}, {4, 16384, true}};
	static const uint8_t data[16384];

	(void)state;
	for (size_t i = 0; i < sizeof(payments) / sizeof(payments[0]); i++) {
		struct raw client;
		struct end server;
		int round;

		raw_client_open(&client, &server);
		for (round = 0; round < 100 && server.status == TLS_AGAIN; round++) {
			raw_key_update(&client);
			for (int record = 0; record < payments[i].records; record++)
				assert_int_equal(
					SSL_write(client.ssl, data, (int)payments[i].bytes),
					(int)payments[i].bytes);
			raw_give(&client, &server);
			server.received_bytes = 0;
		}
		if (payments[i].is_enough) {
			assert_int_equal(round, 100);
			assert_int_equal(server.status, TLS_AGAIN);
		} else {
			assert_in_range(round, 33, 70);
			assert_int_equal(server.status, TLS_FAILED);
			assert_text(&server, "too many key updates");
		}
		raw_fini(&client);
		end_fini(&server);
	}
}

/* KeyUpdates with nothing in between end the connection, in one slice and in many. */
static void tls_key_update_flood(void **state)
{
	(void)state;
	for (int is_split = 0; is_split < 2; is_split++) {
		struct raw client;
		struct end server;
		int round;

		raw_client_open(&client, &server);
		for (round = 0; round < 200 && server.status == TLS_AGAIN; round++) {
			raw_key_update(&client);
			if (is_split)
				raw_give(&client, &server);
		}
		raw_give(&client, &server);
		assert_int_equal(server.status, TLS_FAILED);
		assert_text(&server, "too many key updates");
		if (is_split)
			assert_int_equal(round, 33);
		else
			assert_true(server.out.bytes < 2000); /* one answer for many */
		raw_fini(&client);
		end_fini(&server);
	}
}

/* ---- cases: broken input ---------------------------------------------------------------- */

/* Garbage instead of TLS, also when it looks like the beginning of a record. */
static void tls_garbage_instead_of_hello(void **state)
{
	struct end server;
	uint8_t data[600];

	(void)state;
	end_init(&server, TEST_P256);
	for (int round = 0; round < 200; round++) {
		size_t bytes = 5 + random_next() % (sizeof(data) - 5);

		for (size_t index = 0; index < bytes; index++)
			data[index] = (uint8_t)random_next();
		if (round % 2 == 0) { /* a handshake record with a plausible size */
			data[0] = 22;
			data[1] = 3;
			data[2] = 1;
			data[3] = (uint8_t)((bytes - 5) >> 8);
			data[4] = (uint8_t)(bytes - 5);
		}
		if (round % 4 == 0 && bytes > 9) { /* a ClientHello with a plausible size */
			data[5] = 1;
			data[6] = 0;
			data[7] = (uint8_t)((bytes - 9) >> 8);
			data[8] = (uint8_t)(bytes - 9);
		}
		end_open(&server, TLS_SERVER, NULL);
		end_feed(&server, data, bytes, 1 + random_next() % bytes);
		assert_false(server.is_open);
		assert_int_equal(server.hellos, 0);
		assert_true(server.status == TLS_FAILED || server.status == TLS_AGAIN);
	}
	/* Plain HTTP is told apart at once. */
	end_open(&server, TLS_SERVER, NULL);
	end_feed(&server, (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18, 18);
	assert_int_equal(server.status, TLS_FAILED);
	assert_text(&server, "http request");
	end_fini(&server);
}

/* One flipped bit anywhere in any flight: an error or a wait, never an opening on the side that
 * read it (a flipped byte of the padding-free protocol is always seen). */
static void tls_handshake_with_a_flipped_bit(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	for (int round = 0; round < 60; round++) {
		struct end *ends[2] = {&client, &server};
		int flight = round % 3;

		end_open(&client, TLS_CLIENT, "b.a.p2p");
		end_open(&server, TLS_SERVER, NULL);
		end_step(&client);
		for (int step = 0; step < 4; step++) {
			struct end *from = ends[step & 1], *to = ends[~step & 1];
			size_t bytes;
			uint8_t *block = chain_take(&from->out, &bytes);

			if (step == flight && bytes > 0)
				block[random_next() % bytes] ^= (uint8_t)(1u << random_next() % 8);
			end_feed(to, block, bytes, 4096);
			free(block);
		}
		/* The record layer's version and a CCS are not covered by the transcript; all
		 * else is. So at most both are open and agree. */
		if (client.is_open && server.is_open && client.status == TLS_AGAIN &&
			server.status == TLS_AGAIN) {
			client.received_bytes = server.received_bytes = 0;
			assert_int_equal(
				tls_write(client.tls, (const uint8_t *)"ok", 2, &client.out), 0);
			converse(&client, &server, 4096);
			assert_true(server.received_bytes == 2 || server.status < 0);
		}
	}
	pair_fini(&client, &server);
}

/* The input ends at any point: nothing but a wait. */
static void tls_handshake_truncated(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	for (int round = 0; round < 30; round++) {
		size_t bytes, kept;
		uint8_t *block;

		end_open(&client, TLS_CLIENT, NULL);
		end_open(&server, TLS_SERVER, NULL);
		end_step(&client);
		block = chain_take(&client.out, &bytes);
		kept = random_next() % bytes;
		end_feed(&server, block, kept, 4096);
		assert_int_equal(server.status, TLS_AGAIN);
		assert_false(server.is_open);
		assert_int_equal(server.out.bytes, 0);
		end_feed(&server, block + kept, bytes - kept, 4096);
		free(block);
		block = chain_take(&server.out, &bytes);
		kept = random_next() % bytes;
		end_feed(&client, block, kept, 4096);
		assert_int_equal(client.status, TLS_AGAIN);
		assert_false(client.is_open);
		free(block);
	}
	pair_fini(&client, &server);
}

/* A changed record after the handshake is bad_record_mac, and the error stays with its connection:
 * another one of the same shard goes on. */
static void tls_data_changed(void **state)
{
	struct end client, server, other_client, other_server;
	struct tls_shard *shard;
	size_t bytes;
	uint8_t *block;

	(void)state;
	pair_open(&client, &server);
	pair_init(&other_client, &other_server);
	tls_destroy(other_server.tls);
	other_server.tls = NULL;
	shard = other_server.shard;
	other_server.shard = server.shard; /* two connections of one shard */
	end_open(&other_server, TLS_SERVER, NULL);
	converse(&other_client, &other_server, 4096);
	assert_open(&other_client, &other_server);

	assert_int_equal(tls_write(client.tls, (const uint8_t *)"data", 4, &client.out), 0);
	block = chain_take(&client.out, &bytes);
	block[bytes - 1] ^= 1;
	end_feed(&server, block, bytes, 4096);
	free(block);
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(server.received_bytes, 0);
	assert_text(&server, "bad record mac (alert sent: bad record mac)");
	assert_int_equal(ERR_peek_error(), 0);
	shuttle(&server, &client, 4096);
	assert_int_equal(client.status, TLS_FAILED);
	assert_text(&client, "alert received: bad record mac");

	assert_int_equal(
		tls_write(other_client.tls, (const uint8_t *)"data", 4, &other_client.out), 0);
	converse(&other_client, &other_server, 4096);
	assert_open(&other_client, &other_server);
	assert_int_equal(other_server.received_bytes, 4);
	tls_destroy(other_server.tls);
	other_server.tls = NULL;
	other_server.shard = shard;
	pair_fini(&other_client, &other_server);
	pair_fini(&client, &server);
}

/* Errors of others in the thread's queue, put there between our calls or inside our callbacks, do not
 * become ours. */
static void tls_errors_of_others(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	client.is_messy = server.is_messy = true;
	ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
	assert_int_equal(tls_write(client.tls, (const uint8_t *)"data", 4, &client.out), 0);
	ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	assert_int_equal(server.received_bytes, 4);
	pair_fini(&client, &server);
}

/* ---- cases: memory ---------------------------------------------------------------------- */

/*
 * Some allocation of OpenSSL fails, once or from then on, at a random point of a whole life: the call
 * says so or the connection fails, nothing crashes, and all is given back (the sanitizers look).
 */
static void tls_without_memory(void **state)
{
	struct end client, server;
	uint64_t begin, span;
	int64_t before;
	int opened = 0;

	(void)state;
	pair_init(&client, &server);
	converse(&client, &server, 4096); /* caches are warm now */
	begin = allocations;
	end_open(&client, TLS_CLIENT, "b.a.p2p");
	end_open(&server, TLS_SERVER, NULL);
	converse(&client, &server, 4096);
	span = allocations - begin;
	for (int round = 0; round < 120; round++) {
		int status = 0;

		tls_destroy(client.tls);
		tls_destroy(server.tls);
		client.tls = server.tls = NULL;
		chain_clear(&client.out);
		chain_clear(&server.out);
		client.is_open = server.is_open = false;
		client.status = server.status = TLS_AGAIN;
		client.received_bytes = server.received_bytes = 0;
		fail_on = round % 2 == 1;
		fail_at = allocations + 1 + random_next() % (span + 20);
		status = tls_open(client.shard, TLS_CLIENT, client.credentials, "b.a.p2p", &client,
			&client.tls);
		if (status == 0)
			status = tls_open(
				server.shard, TLS_SERVER, NULL, NULL, &server, &server.tls);
		if (status == 0) {
			converse(&client, &server, 4096);
			if (client.is_open && server.is_open && client.status == TLS_AGAIN &&
				server.status == TLS_AGAIN) {
				opened++;
				(void)tls_write(
					client.tls, (const uint8_t *)"data", 4, &client.out);
				converse(&client, &server, 4096);
			}
		} else {
			assert_true(status == -ENOMEM || status == -EINVAL);
		}
		fail_at = 0;
	}
	assert_true(opened > 0);
	/* And afterwards all is well again. */
	end_open(&client, TLS_CLIENT, "b.a.p2p");
	end_open(&server, TLS_SERVER, NULL);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	before = held_bytes;
	end_open(&client, TLS_CLIENT, "b.a.p2p");
	end_open(&server, TLS_SERVER, NULL);
	converse(&client, &server, 4096);
	assert_true(held_bytes - before < 1024);
	pair_fini(&client, &server);
}

/*
 * The same while a shard is made: it is made, or there is an error. OpenSSL 3.0 loses blocks of its own
 * when a library context fills its tables of names without memory, and all of the context when
 * OSSL_LIB_CTX_free, which allocates, cannot: so one failure at a time, and leaks are not looked for.
 */
static void tls_shard_without_memory(void **state)
{
	struct tls_shard *shard = NULL;
	uint64_t span;
	int made = 0;

	(void)state;
	span = allocations;
	assert_int_equal(tls_shard_create(&events, test_flags, &shard), 0);
	span = allocations - span;
	tls_shard_destroy(shard);
	for (int round = 0; round < 50; round++) {
		int status;

		fail_on = false;
		/* The first is the library context itself, which nothing can be made without; OpenSSL does
		 * without what many of the others are for. */
		fail_at = allocations + 1 + (round == 0 ? 0 : random_next() % span);
		shard = NULL;
		LEAKS_IGNORED();
		status = tls_shard_create(&events, test_flags, &shard);
		LEAKS_SEEN();
		fail_at = 0;
		assert_true(status == 0 || status == -ENOMEM || status == -EIO);
		assert_int_equal(status == 0, shard != NULL);
		made += status == 0;
		tls_shard_destroy(shard);
	}
	assert_true(made < 50);
}

/* A peer that ends TLS before its handshake is done. */
static void tls_closed_during_the_handshake(void **state)
{
	struct raw client;
	struct end server;

	(void)state;
	raw_init(&client, TLS_client_method());
	raw_identity(&client, TEST_P256, 0);
	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	/* close_notify in the clear, as a ClientHello would come. */
	end_feed(&server, (const uint8_t *)"\x15\x03\x01\x00\x02\x01\x00", 7, 7);
	assert_int_equal(server.status, TLS_FAILED);
	assert_false(server.is_open);
	end_fini(&server);
	raw_fini(&client);
}

static int select_other(SSL *ssl, const unsigned char **selected, unsigned char *bytes,
	const unsigned char *offered, unsigned int offered_bytes, void *context)
{
	(void)ssl;
	(void)offered;
	(void)offered_bytes;
	(void)context;
	*selected = (const unsigned char *)"h2";
	*bytes = 2;
	return SSL_TLSEXT_ERR_OK;
}

/* A server that chooses a protocol which was not offered: newer releases see it before we do. */
static void tls_server_with_other_alpn(void **state)
{
	struct raw server;
	struct end client;

	(void)state;
	raw_init(&server, TLS_server_method());
	raw_identity(&server, TEST_P256, 0);
	SSL_CTX_set_alpn_select_cb(server.role, select_other, NULL);
	end_init(&client, TEST_P256);
	end_open(&client, TLS_CLIENT, NULL);
	raw_open(&server, TLS_SERVER);
	end_step(&client);
	raw_take(&server, &client);
	raw_converse(&server, &client);
	assert_false(client.is_open);
	assert_int_equal(client.status, TLS_FAILED);
	raw_fini(&server);
	end_fini(&client);
}

/* A KeyUpdate that comes after our goodbye is no failure of the goodbye. */
static void tls_key_update_after_goodbye(void **state)
{
	struct raw client;
	struct end server;

	(void)state;
	raw_client_open(&client, &server);
	assert_int_equal(tls_goodbye(server.tls, &server.out), 0);
	raw_key_update(&client);
	raw_give(&client, &server);
	assert_int_equal(server.status, TLS_AGAIN);
	raw_fini(&client);
	end_fini(&server);
}

/* A shard leaves nothing behind, whatever its connections did. */
static void tls_shard_gives_all_back(void **state)
{
	int64_t before = 0;

	(void)state;
	for (int round = 0; round < 6; round++) {
		struct end client, server;

		if (round == 2) /* the library's own caches are filled by now */
			before = held_bytes;
		pair_init(&client, &server);
		server.verify_status = round % 2 == 0 ? -EACCES : 0;
		converse(&client, &server, 4096);
		pair_fini(&client, &server);
	}
	assert_true(held_bytes - before < 4096);
}

/* Connections on the shard of a thread that is not the one that made it, nor the one that ends it. */
static void *open_on_shards(void *argument)
{
	struct end *ends = argument;

	for (int round = 0; round < 10; round++) {
		end_open(&ends[0], TLS_CLIENT, "b.a.p2p");
		end_open(&ends[1], TLS_SERVER, NULL);
		converse(&ends[0], &ends[1], 4096);
		TEST_MUST(ends[0].is_open && ends[1].is_open);
	}
	return NULL;
}

/* The whole life of two shards on one thread. */
static void *live_on_a_thread(void *argument)
{
	struct ph_credentials *credentials = argument;
	struct end ends[2];

	pair_init(&ends[0], &ends[1]);
	for (int index = 0; index < 2; index++) {
		ph_credentials_put(ends[index].credentials);
		ends[index].credentials = ph_credentials_get(credentials);
	}
	open_on_shards(ends);
	pair_fini(&ends[0], &ends[1]);
	return NULL;
}

/* Shards on several threads at once, with credentials in common, and handed from thread to thread. */
static void tls_shards_on_threads(void **state)
{
	struct ph_credentials *credentials = test_identity_create(TEST_P256, "shared");
	struct end ends[2];
	pthread_t threads[4];

	(void)state;
	pair_init(&ends[0], &ends[1]);
	for (int index = 0; index < 4; index++)
		assert_int_equal(pthread_create(&threads[index], NULL,
					 index == 0 ? open_on_shards : live_on_a_thread,
					 index == 0 ? (void *)ends : (void *)credentials),
			0);
	for (int index = 0; index < 4; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	pair_fini(&ends[0], &ends[1]);
	ph_credentials_put(credentials);
}

/* ---- resumption by a secret --------------------------------------------------------------- */

/* Both ends have the same secret; the client offers it. */
static void secret_share(struct end *client, struct end *server)
{
	for (size_t index = 0; index < TLS_RESUME_BYTES; index++) {
		server->id[index] = (uint8_t)random_next();
		server->secret[index] = (uint8_t)random_next();
	}
	server->has_secret = true;
	memcpy(client->secret, server->secret, sizeof(client->secret));
	assert_int_equal(tls_resume(client->tls, server->id, client->secret), 0);
}

static void exchange(struct end *client, struct end *server)
{
	assert_int_equal(tls_write(client->tls, (const uint8_t *)"there", 5, &client->out), 0);
	assert_int_equal(tls_write(server->tls, (const uint8_t *)"back!", 5, &server->out), 0);
	shuttle(client, server, 3);
	shuttle(server, client, 4096);
	assert_int_equal(server->received_bytes, 5);
	assert_memory_equal(server->received, "there", 5);
	assert_int_equal(client->received_bytes, 5);
	assert_memory_equal(client->received, "back!", 5);
}

/* A secret that both know: no certificate goes over the wire, nobody is asked about one, data goes both ways
 * in whichever record layer, and in whichever slices the handshake comes. */
static void tls_resumes_by_a_secret(void **state)
{
	static const size_t slices[] = {1, 7, 4096};
	struct end client, server;

	(void)state;
	for (int round = 0; round < 3; round++) {
		pair_init(&client, &server);
		secret_share(&client, &server);
		converse(&client, &server, slices[round]);
		assert_open(&client, &server);
		assert_true(tls_is_resumed(client.tls));
		assert_true(tls_is_resumed(server.tls));
		assert_int_equal(server.hellos, 1);
		assert_int_equal(server.resumes, 1);
		assert_int_equal(client.verifies + server.verifies, 0);
		assert_string_equal(server.sni, "b.a.p2p");
		exchange(&client, &server);
		pair_fini(&client, &server);
	}
}

/* A secret that the server does not know, any more or at all: certificates, in the same connection. */
static void tls_resume_unknown_is_a_full_handshake(void **state)
{
	struct end client, server;

	(void)state;
	for (int round = 0; round < 2; round++) {
		pair_init(&client, &server);
		secret_share(&client, &server);
		if (round == 0)
			server.has_secret = false;
		else
			server.id[31] ^= 1;
		server.is_messy = true;
		converse(&client, &server, 4096);
		assert_open(&client, &server);
		assert_false(tls_is_resumed(client.tls));
		assert_false(tls_is_resumed(server.tls));
		assert_int_equal(server.resumes, 1);
		assert_int_equal(client.verifies, 1);
		assert_int_equal(server.verifies, 1);
		exchange(&client, &server);
		pair_fini(&client, &server);
	}
}

/* The id without the secret opens nothing; it is no reason to fall back either, for then a thief of ids could
 * choose. */
static void tls_resume_with_another_secret_fails(void **state)
{
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	secret_share(&client, &server);
	server.secret[0] ^= 1;
	converse(&client, &server, 4096);
	assert_false(client.is_open);
	assert_false(server.is_open);
	assert_int_equal(server.status, TLS_FAILED);
	assert_int_equal(server.verifies, 0);
	pair_fini(&client, &server);
}

/* Without an on_resume (a hub that does not want it) a client's offer is passed over. */
static void tls_resume_where_nobody_answers(void **state)
{
	static const struct tls_events deaf = {.on_hello = on_hello, .on_verify = on_verify};
	struct end client, server;

	(void)state;
	pair_init(&client, &server);
	tls_destroy(server.tls);
	server.tls = NULL;
	tls_shard_destroy(server.shard);
	assert_int_equal(tls_shard_create(&deaf, test_flags, &server.shard), 0);
	end_open(&server, TLS_SERVER, NULL);
	secret_share(&client, &server);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	assert_false(tls_is_resumed(client.tls));
	pair_fini(&client, &server);
}

struct raw_secret {
	uint8_t id[TLS_RESUME_BYTES], secret[TLS_RESUME_BYTES];
	size_t id_bytes;
};
static struct raw_secret raw_secret;

static int raw_use_secret(SSL *ssl, const EVP_MD *digest, const unsigned char **id, size_t *bytes,
	SSL_SESSION **session)
{
	static const uint8_t suite[2] = {0x13, 0x01};

	(void)digest;
	*session = SSL_SESSION_new();
	assert_true(SSL_SESSION_set1_master_key(
			    *session, raw_secret.secret, sizeof(raw_secret.secret)) == 1 &&
		SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, suite)) == 1 &&
		SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION) == 1);
	*id = raw_secret.id;
	*bytes = raw_secret.id_bytes;
	return 1;
}

/* A plain client whose first key share is for a group that we do not speak: HelloRetryRequest, the same offer
 * again, one secret for both. Then ids of lengths that are none of ours. */
static void tls_resume_of_a_plain_client(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		static const size_t lengths[] = {32, 32, 1, 31};
		struct end server;
		struct raw client;

		raw_init(&client, TLS_client_method());
		assert_int_equal(SSL_CTX_set1_groups_list(
					 client.role, round == 0 ? "P-384:X25519" : "X25519"),
			1);
		SSL_CTX_set_psk_use_session_callback(client.role, raw_use_secret);
		memset(&raw_secret, round + 1, sizeof(raw_secret));
		raw_secret.id_bytes = lengths[round];
		end_init(&server, TEST_P256);
		end_open(&server, TLS_SERVER, NULL);
		memcpy(server.id, raw_secret.id, sizeof(server.id));
		memcpy(server.secret, raw_secret.secret, sizeof(server.secret));
		server.has_secret = true;
		raw_open(&client, TLS_CLIENT);
		raw_converse(&client, &server);
		assert_int_equal(server.hellos, 1);
		assert_int_equal(server.is_open, raw_secret.id_bytes == 32);
		assert_int_equal(server.resumes, raw_secret.id_bytes == 32);
		if (server.is_open)
			assert_true(tls_is_resumed(server.tls));
		raw_fini(&client);
		end_fini(&server);
	}
}

/* A key without a fresh key exchange (psk_ke) is not taken: such a client shows its certificate or goes. */
static void tls_resume_without_key_exchange(void **state)
{
	struct end server;
	struct raw client;

	(void)state;
	raw_init(&client, TLS_client_method());
	SSL_CTX_set_options(client.role, SSL_OP_ALLOW_NO_DHE_KEX);
	SSL_CTX_set_psk_use_session_callback(client.role, raw_use_secret);
	memset(&raw_secret, 3, sizeof(raw_secret));
	raw_secret.id_bytes = 32;
	end_init(&server, TEST_P256);
	end_open(&server, TLS_SERVER, NULL);
	memcpy(server.id, raw_secret.id, sizeof(server.id));
	memcpy(server.secret, raw_secret.secret, sizeof(server.secret));
	server.has_secret = true;
	raw_open(&client, TLS_CLIENT);
	raw_converse(&client, &server);
	/* Both ways were offered: the one with a key exchange was chosen. */
	assert_true(server.is_open);
	assert_true(SSL_get_peer_signature_type_nid(client.ssl, &(int){0}) == 0);
	assert_int_equal(SSL_get_negotiated_group(client.ssl), NID_X25519);
	raw_fini(&client);
	end_fini(&server);
}

/* OpenSSL's allocations fail one after the other: opened or refused, and nothing lost. */
static void tls_resume_without_memory(void **state)
{
	struct end client, server;
	uint64_t begin, span;

	(void)state;
	pair_init(&client, &server);
	secret_share(&client, &server);
	converse(&client, &server, 4096);
	begin = allocations;
	end_open(&client, TLS_CLIENT, "b.a.p2p");
	end_open(&server, TLS_SERVER, NULL);
	secret_share(&client, &server);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	span = allocations - begin;
	for (uint64_t at = 1; at <= span; at += 1 + random_next() % 7) {
		end_open(&client, TLS_CLIENT, "b.a.p2p");
		end_open(&server, TLS_SERVER, NULL);
		secret_share(&client, &server);
		fail_at = allocations + at;
		fail_on = at % 2 == 1;
		converse(&client, &server, 4096);
		fail_at = 0;
	}
	fail_on = false;
	end_open(&client, TLS_CLIENT, "b.a.p2p");
	end_open(&server, TLS_SERVER, NULL);
	secret_share(&client, &server);
	converse(&client, &server, 4096);
	assert_open(&client, &server);
	assert_true(tls_is_resumed(server.tls));
	pair_fini(&client, &server);
}

/* ---- measuring -------------------------------------------------------------------------- */

static double cpu_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* The server's bytes and time of one connection; the client's likewise. */
static void measure(int count)
{
	struct end client, server;
	struct tls **held = calloc((size_t)count * 2, sizeof(*held));
	double client_us = 0, server_us = 0, begin;
	int64_t before;

	TEST_MUST(held != NULL);
	is_plain_verify = true;
	pair_init(&client, &server);
	converse(&client, &server, 4096);
	tls_destroy(client.tls);
	tls_destroy(server.tls);
	client.tls = server.tls = NULL;
	before = held_bytes;
	for (int index = 0; index < count; index++) {
		client.tls = server.tls = NULL;
		begin = cpu_us();
		end_open(&client, TLS_CLIENT, "b.a.p2p");
		end_step(&client);
		client_us += cpu_us() - begin;
		begin = cpu_us();
		end_open(&server, TLS_SERVER, NULL);
		shuttle(&client, &server, 4096);
		server_us += cpu_us() - begin;
		begin = cpu_us();
		shuttle(&server, &client, 4096);
		client_us += cpu_us() - begin;
		begin = cpu_us();
		shuttle(&client, &server, 4096);
		server_us += cpu_us() - begin;
		TEST_MUST(client.is_open && server.is_open);
		held[2 * index] = client.tls;
		held[2 * index + 1] = server.tls;
	}
	printf("handshakes %d, decoding short cut %s, records %s\n", count,
		(test_flags & PH_HUB_TLS_FAST_DECODE) != 0 ? "on" : "off",
		(test_flags & PH_HUB_TLS_OPENSSL) == 0 ? "ours" : "OpenSSL's");
	printf("cpu per handshake: server %.0f us, client %.0f us\n", server_us / count,
		client_us / count);
	printf("bytes of OpenSSL per idle connection: %.0f\n",
		(double)(held_bytes - before) / (2 * count));
	client.tls = server.tls = NULL;
	for (int index = 0; index < 2 * count; index++)
		tls_destroy(held[index]);
	free(held);
	pair_fini(&client, &server);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tls_handshake_step_by_step),
		cmocka_unit_test(tls_handshake_in_slices),
		cmocka_unit_test(tls_handshake_with_kinds_of_keys),
		cmocka_unit_test(tls_handshake_with_long_chains),
		cmocka_unit_test(tls_open_with_many_credentials),
		cmocka_unit_test(tls_open_with_wrong_arguments),
		cmocka_unit_test(tls_hello_refused),
		cmocka_unit_test(tls_verify_refused_by_server),
		cmocka_unit_test(tls_verify_refused_by_client),
		cmocka_unit_test(tls_client_without_alpn),
		cmocka_unit_test(tls_client_with_other_alpn),
		cmocka_unit_test(tls_client_without_certificate),
		cmocka_unit_test(tls_client_of_an_older_version),
		cmocka_unit_test(tls_client_with_forbidden_keys),
		cmocka_unit_test(tls_server_with_forbidden_keys),
		cmocka_unit_test(tls_client_with_a_chain_too_long),
		cmocka_unit_test(tls_client_with_a_large_certificate),
		cmocka_unit_test(tls_server_of_another_kind),
		cmocka_unit_test(tls_hello_retry),
		cmocka_unit_test(tls_hello_with_a_malformed_name),
		cmocka_unit_test(tls_data_both_ways),
		cmocka_unit_test(tls_read_in_pieces),
		cmocka_unit_test(tls_data_behind_the_handshake),
		cmocka_unit_test(tls_goodbye_each_way),
		cmocka_unit_test(tls_goodbye_during_the_handshake),
		cmocka_unit_test(tls_rekey_by_count),
		cmocka_unit_test(tls_key_update_answered),
		cmocka_unit_test(tls_key_update_is_paid_by_data),
		cmocka_unit_test(tls_key_update_flood),
		cmocka_unit_test(tls_garbage_instead_of_hello),
		cmocka_unit_test(tls_handshake_with_a_flipped_bit),
		cmocka_unit_test(tls_handshake_truncated),
		cmocka_unit_test(tls_data_changed),
		cmocka_unit_test(tls_errors_of_others),
		cmocka_unit_test(tls_without_memory),
		cmocka_unit_test(tls_shard_without_memory),
		cmocka_unit_test(tls_closed_during_the_handshake),
		cmocka_unit_test(tls_server_with_other_alpn),
		cmocka_unit_test(tls_key_update_after_goodbye),
		cmocka_unit_test(tls_resumes_by_a_secret),
		cmocka_unit_test(tls_resume_unknown_is_a_full_handshake),
		cmocka_unit_test(tls_resume_with_another_secret_fails),
		cmocka_unit_test(tls_resume_where_nobody_answers),
		cmocka_unit_test(tls_resume_of_a_plain_client),
		cmocka_unit_test(tls_resume_without_key_exchange),
		cmocka_unit_test(tls_resume_without_memory),
		cmocka_unit_test(tls_shard_gives_all_back),
		cmocka_unit_test(tls_shards_on_threads),
	};
	int count = 0, failures = 0;
	bool is_fast = false, is_openssl = false;

	CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free);
	test_seed = (uint64_t)time(NULL) * 2654435761u | 1;
	for (int index = 1; index < argc; index++) {
		if (strcmp(argv[index], "--fast") == 0)
			is_fast = true;
		else if (strcmp(argv[index], "--openssl") == 0)
			is_openssl = true;
		else if (strcmp(argv[index], "--measure") == 0 && index + 1 < argc)
			count = atoi(argv[++index]);
		else if (strcmp(argv[index], "--seed") == 0 && index + 1 < argc)
			test_seed = strtoull(argv[++index], NULL, 10) | 1;
	}
	test_flags = (is_fast ? PH_HUB_TLS_FAST_DECODE : 0) | (is_openssl ? PH_HUB_TLS_OPENSSL : 0);
	if (count > 0) {
		measure(count);
		return 0;
	}
	printf("seed %llu\n", (unsigned long long)test_seed);
	if (!is_fast) {
		test_flags = PH_HUB_TLS_OPENSSL;
		failures = cmocka_run_group_tests_name("tls, plain", tests, NULL, NULL);
	}
	test_flags = PH_HUB_TLS_FAST_DECODE | PH_HUB_TLS_OPENSSL; /* stays on for the process */
	failures += cmocka_run_group_tests_name("tls, fast", tests, NULL, NULL);
	if (is_openssl)
		return failures;
	test_flags = PH_HUB_TLS_FAST_DECODE;
	return failures + cmocka_run_group_tests_name("tls, own records", tests, NULL, NULL);
}
