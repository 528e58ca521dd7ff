/* Records of both suites, by our layer and by OpenSSL's, for the micro-benchmarks; see subject.h. */
#include "bench/subject.h"

#include "engine/record.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <stdlib.h>
#include <string.h>

#define RECORDS_PER_KEY ((uint64_t)1 << 40) /* no KeyUpdate among what is measured */
#define BIO_BYTES (2u * RECORD_PLAIN_BYTES_MAX + 1024u)
#define STEPS_MAX 20

struct subject_records {
	/* ours */
	struct record_shard *shard;
	struct record *writer, *reader;
	/* OpenSSL's */
	SSL_CTX *server_context, *client_context;
	SSL *server, *client;
	uint8_t sent[RECORD_PLAIN_BYTES_MAX], received[RECORD_PLAIN_BYTES_MAX + 1];
};

static int ours_begin(struct subject_records *subject, int suite)
{
	static const uint8_t secret[2][RECORD_SECRET_BYTES] = {{1}, {2}};
	struct record_options options = {
		.suite = suite == 0 ? RECORD_AES_128_GCM : RECORD_CHACHA20_POLY1305,
		.secret_read = secret[0],
		.secret_write = secret[1],
		.records_per_key = RECORDS_PER_KEY};
	int status = record_shard_create(NULL, &subject->shard);

	if (status == 0)
		status = record_create(subject->shard, &options, &subject->writer);
	options.is_server = true;
	options.secret_read = secret[1];
	options.secret_write = secret[0];
	if (status == 0)
		status = record_create(subject->shard, &options, &subject->reader);
	return status;
}

static X509 *certificate_create(EVP_PKEY *key)
{
	X509 *certificate = X509_new();

	if (certificate != NULL && X509_set_pubkey(certificate, key) == 1 &&
		X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
		X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL &&
		X509_sign(certificate, key, EVP_sha256()) != 0)
		return certificate;
	X509_free(certificate);
	return NULL;
}

static int context_certify(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = key != NULL ? certificate_create(key) : NULL;
	int done = certificate != NULL && SSL_CTX_use_certificate(context, certificate) == 1 &&
		SSL_CTX_use_PrivateKey(context, key) == 1;

	X509_free(certificate);
	EVP_PKEY_free(key);
	return done ? 0 : -1;
}

static SSL_CTX *context_create(const SSL_METHOD *method, int suite)
{
	SSL_CTX *context = SSL_CTX_new(method);

	if (context == NULL)
		return NULL;
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
		SSL_CTX_set_num_tickets(context, 0) == 1 &&
		SSL_CTX_set_ciphersuites(context,
			suite == 0 ? "TLS_AES_128_GCM_SHA256" : "TLS_CHACHA20_POLY1305_SHA256") ==
			1)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static int openssl_begin(struct subject_records *subject, int suite)
{
	BIO *here = NULL, *there = NULL;

	subject->server_context = context_create(TLS_server_method(), suite);
	subject->client_context = context_create(TLS_client_method(), suite);
	if (subject->server_context == NULL || subject->client_context == NULL ||
		context_certify(subject->server_context) < 0)
		return -1;
	subject->server = SSL_new(subject->server_context);
	subject->client = SSL_new(subject->client_context);
	if (subject->server == NULL || subject->client == NULL ||
		BIO_new_bio_pair(&here, BIO_BYTES, &there, BIO_BYTES) != 1)
		return -1;
	SSL_set_bio(subject->client, here, here);
	SSL_set_bio(subject->server, there, there);
	SSL_set_connect_state(subject->client);
	SSL_set_accept_state(subject->server);
	for (int step = 0; step < STEPS_MAX; step++) {
		int client = SSL_do_handshake(subject->client);
		int server = SSL_do_handshake(subject->server);

		if (client == 1 && server == 1)
			return 0;
		ERR_clear_error();
	}
	return -1;
}

struct subject_records *subject_records_create(int suite, int openssl)
{
	struct subject_records *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return NULL;
	memset(made->sent, 0x5a, sizeof(made->sent));
	if ((openssl ? openssl_begin(made, suite) : ours_begin(made, suite)) == 0)
		return made;
	subject_records_destroy(made);
	return NULL;
}

void subject_records_destroy(struct subject_records *subject)
{
	record_destroy(subject->writer);
	record_destroy(subject->reader);
	record_shard_destroy(subject->shard);
	SSL_free(subject->client);
	SSL_free(subject->server);
	SSL_CTX_free(subject->client_context);
	SSL_CTX_free(subject->server_context);
	free(subject);
}

int subject_records_seal(struct subject_records *subject, size_t bytes)
{
	struct chain wire = {0};
	int status = record_write(subject->writer, subject->sent, bytes, &wire);

	chain_clear(&wire);
	return status;
}

static int openssl_pass(struct subject_records *subject, size_t bytes)
{
	if (SSL_write(subject->client, subject->sent, (int)bytes) != (int)bytes)
		return -1;
	return SSL_read(subject->server, subject->received, sizeof(subject->received)) == (int)bytes
		? 0
		: -1;
}

int subject_records_pass(struct subject_records *subject, size_t bytes)
{
	struct chain wire = {0}, back = {0};
	struct record_input input;
	ssize_t got;

	if (subject->client != NULL)
		return openssl_pass(subject, bytes);
	if (record_write(subject->writer, subject->sent, bytes, &wire) != 0) {
		chain_clear(&wire);
		return -1;
	}
	/* One record is one chunk. */
	input = (struct record_input){wire.head->data + wire.head->offset, wire.bytes};
	got = record_read(
		subject->reader, &input, subject->received, sizeof(subject->received), &back);
	chain_clear(&wire);
	chain_clear(&back);
	return got == (ssize_t)bytes ? 0 : -1;
}
