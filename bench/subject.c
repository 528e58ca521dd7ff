/* The engine's insides for the micro-benchmarks; see subject.h. */
#include "bench/subject.h"

#include "engine/chain.h"
#include "engine/digest.h"
#include "engine/hash.h"
#include "engine/mailbox.h"
#include "engine/tls.h"
#include "engine/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

/* ---- mailbox --------------------------------------------------------------------------- */

struct subject_mailbox {
	struct mailbox mailbox;
	int waker;
	struct ck_stack_entry entries[];
};

struct subject_mailbox *subject_mailbox_create(uint32_t entry_count)
{
	struct subject_mailbox *made = NULL;

	if (posix_memalign((void **)&made, 64,
		    sizeof(*made) + entry_count * sizeof(made->entries[0])) != 0)
		return NULL;
	made->waker = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (made->waker < 0) {
		free(made);
		return NULL;
	}
	mailbox_init(&made->mailbox, made->waker);
	return made;
}

void subject_mailbox_destroy(struct subject_mailbox *subject)
{
	close(subject->waker);
	free(subject);
}

void subject_mailbox_post(struct subject_mailbox *subject, uint32_t entry)
{
	mailbox_post(&subject->mailbox, &subject->entries[entry]);
}

uint32_t subject_mailbox_drain(struct subject_mailbox *subject)
{
	uint32_t count = 0;

	while (mailbox_take(&subject->mailbox) != NULL)
		count++;
	return count;
}

/* ---- hash ------------------------------------------------------------------------------ */

struct subject_hash {
	struct hash *hash;
	uint32_t count;
	struct hash_key keys[]; /* 2 * count: the second half is not in the table */
};

static const char hash_group[] = "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567.bench";

static void hash_name(uint32_t number, char name[64])
{
	snprintf(name, 64, "%040x.member", number);
}

static bool hash_id_is_open(uint64_t id)
{
	return id != 0;
}

struct subject_hash *subject_hash_create(uint32_t count)
{
	struct subject_hash *made = calloc(1, sizeof(*made) + 2 * count * sizeof(made->keys[0]));
	char name[64];

	if (made == NULL)
		return NULL;
	made->count = count;
	if (digest_init() < 0 || hash_create(count + 1, &made->hash) < 0) {
		free(made);
		return NULL;
	}
	for (uint32_t i = 0; i < 2 * count; i++) {
		hash_name(i, name);
		made->keys[i] = digest_pair(hash_group, name);
		if (i < count && hash_insert(made->hash, made->keys[i], i, i + 1) < 0) {
			subject_hash_destroy(made);
			return NULL;
		}
	}
	return made;
}

void subject_hash_destroy(struct subject_hash *subject)
{
	hash_destroy(subject->hash);
	free(subject);
}

uint32_t subject_hash_find(const struct subject_hash *subject, uint32_t number)
{
	uint64_t id;

	return hash_find(subject->hash, subject->keys[number], hash_id_is_open, &id, 1);
}

uint32_t subject_hash_find_names(const struct subject_hash *subject, uint32_t number)
{
	char name[64];
	uint64_t id;

	hash_name(number, name);
	return hash_find(subject->hash, digest_pair(hash_group, name), hash_id_is_open, &id, 1);
}

int subject_hash_insert_remove(struct subject_hash *subject, uint32_t number)
{
	struct hash_key key = subject->keys[subject->count + number];
	uint64_t id = (uint64_t)subject->count + 1;
	int status = hash_insert(subject->hash, key, subject->count, id);

	if (status == 0)
		hash_remove(subject->hash, key, subject->count, id);
	return status;
}

/* ---- wire ------------------------------------------------------------------------------ */

size_t subject_wire_pt2pt(uint8_t *message, size_t capacity, uint32_t payload_bytes)
{
	const uint8_t type[16] = {1, 2, 3};

	if (capacity < WIRE_PT2PT_BYTES + payload_bytes)
		return 0;
	memset(message, 0x5a, capacity);
	wire_pt2pt_head_write(message, type, payload_bytes);
	return WIRE_PT2PT_BYTES + payload_bytes;
}

#define FRIENDLY "a friendly name of usual length"
#define PEER "76543210f1e2d3c4b5a69788796a5b4c3d2e1f00.member"

static ssize_t wire_write(
	enum subject_message kind, uint8_t *message, size_t capacity, const ph_address addresses[2])
{
	const struct wire_auth_info auth_info = {
		.kind = 2, .graph = hash_group, .source = PEER, .destination = PEER};
	struct wire_connect connect = {.flags = WIRE_CONNECT_DIRECT,
		.node_id = 42,
		.address_count = 2,
		.friendly_name = FRIENDLY};
	struct wire_welcome welcome = {.node_id = 42,
		.peer_time = 132000000000000000u,
		.address_count = 2,
		.peer_id = PEER,
		.friendly_name = FRIENDLY};
	const struct wire_notice notice = {
		.code = PH_REASON_APP_NORMAL, .text = "done", .text_bytes = 4};

	memcpy(connect.addresses, addresses, 2 * sizeof(*addresses));
	memcpy(welcome.addresses, addresses, 2 * sizeof(*addresses));
	switch (kind) {
	case SUBJECT_AUTH_INFO:
		return wire_auth_info_write(message, capacity, &auth_info);
	case SUBJECT_CONNECT:
		return wire_connect_write(message, capacity, &connect);
	case SUBJECT_WELCOME:
		return wire_welcome_write(message, capacity, &welcome);
	case SUBJECT_REFUSE:
		return wire_refuse_write(message, capacity, PH_REFUSE_BUSY);
	case SUBJECT_DISCONNECT:
		return wire_disconnect_write(message, capacity, WIRE_DISCONNECT_APPLICATION);
	default:
		return wire_notice_write(message, capacity, &notice);
	}
}

size_t subject_wire_write(enum subject_message kind, uint8_t *message, size_t capacity)
{
	static ph_address addresses[2];
	ssize_t bytes;

	if (addresses[0].sin6_family == 0 &&
		(ph_address_parse("[::1]:3587", &addresses[0]) < 0 ||
			ph_address_parse("127.0.0.1:3587", &addresses[1]) < 0))
		return 0;
	bytes = wire_write(kind, message, capacity, addresses);
	return bytes > 0 ? (size_t)bytes : 0;
}

static int wire_parse(enum wire_type type, const uint8_t *message, size_t bytes)
{
	union {
		struct wire_auth_info auth_info;
		struct wire_connect connect;
		struct wire_welcome welcome;
		struct wire_refuse refuse;
		struct wire_disconnect_message disconnect;
		struct wire_notice notice;
		struct wire_pt2pt pt2pt;
	} out;

	switch (type) {
	case WIRE_AUTH_INFO:
		return wire_auth_info_parse(message, bytes, &out.auth_info);
	case WIRE_CONNECT:
		return wire_connect_parse(message, bytes, &out.connect);
	case WIRE_WELCOME:
		return wire_welcome_parse(message, bytes, &out.welcome);
	case WIRE_REFUSE:
		return wire_refuse_parse(message, bytes, &out.refuse);
	case WIRE_DISCONNECT:
		return wire_disconnect_parse(message, bytes, &out.disconnect);
	case WIRE_NOTICE:
		return wire_notice_parse(message, bytes, &out.notice);
	case WIRE_PT2PT:
		return wire_pt2pt_parse(message, bytes, &out.pt2pt);
	default:
		return -EPROTO;
	}
}

int subject_wire_parse(const uint8_t *message, size_t bytes)
{
	struct wire_header header;
	int status = wire_header_parse(message, PH_MESSAGE_BYTES_MAX, &header);

	if (status < 0)
		return status;
	if (header.bytes != bytes)
		return -EMSGSIZE;
	return wire_parse((enum wire_type)header.type, message, bytes);
}

/* ---- TLS ------------------------------------------------------------------------------- */

struct subject_tls {
	struct ph_credentials *credentials;
	struct tls_shard *client, *server;
	struct tls **ends; /* [2 * count]: a client's, its server's, the next client's … */
	uint32_t count;
	uint8_t sent[TLS_RECORD_BYTES_MAX], received[TLS_RECORD_BYTES_MAX + 1];
};

/* Certificates as a membership chain would be, as far as the handshake's cost goes: P-256, SHA-256. */
static X509 *certificate_create(EVP_PKEY *key)
{
	X509 *cert = X509_new();

	if (cert == NULL)
		return NULL;
	if (X509_set_version(cert, 2) != 1 ||
		ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) != 1 ||
		X509_gmtime_adj(X509_getm_notBefore(cert), -86400) == NULL ||
		X509_gmtime_adj(X509_getm_notAfter(cert), 86400) == NULL ||
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
			(const unsigned char *)"peerhub bench", -1, -1, 0) != 1 ||
		X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
		X509_set_pubkey(cert, key) != 1 || X509_sign(cert, key, EVP_sha256()) == 0) {
		X509_free(cert);
		return NULL;
	}
	return cert;
}

static struct ph_credentials *credentials_encode(EVP_PKEY *key, X509 *cert)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	struct ph_credentials *credentials = NULL;
	uint8_t *key_der = NULL, *cert_der = NULL;
	int key_bytes = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &key_der) : -1;
	int cert_bytes = i2d_X509(cert, &cert_der);

	if (key_bytes > 0 && cert_bytes > 0) {
		const struct ph_bytes chain = {.data = cert_der, .bytes = (size_t)cert_bytes};

		if (ph_credentials_create(&chain, 1,
			    (struct ph_bytes){.data = key_der, .bytes = (size_t)key_bytes},
			    &credentials) < 0)
			credentials = NULL;
	}
	PKCS8_PRIV_KEY_INFO_free(info);
	OPENSSL_free(key_der);
	OPENSSL_free(cert_der);
	return credentials;
}

struct ph_credentials *subject_credentials_create(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key != NULL ? certificate_create(key) : NULL;
	struct ph_credentials *credentials = cert != NULL ? credentials_encode(key, cert) : NULL;

	X509_free(cert);
	EVP_PKEY_free(key);
	return credentials;
}

static int tls_hello(void *context, const char *sni, struct ph_credentials **credentials)
{
	struct subject_tls *subject = context;

	(void)sni;
	*credentials = ph_credentials_get(subject->credentials);
	return 0;
}

static int tls_verify(void *context, const struct ph_chain *chain)
{
	(void)context;
	return chain->count == 1 ? 0 : -EACCES;
}

struct subject_tls *subject_tls_create(uint32_t hub_flags)
{
	static const struct tls_events events = {.on_hello = tls_hello, .on_verify = tls_verify};
	struct subject_tls *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return NULL;
	made->credentials = subject_credentials_create();
	if (made->credentials == NULL || tls_shard_create(&events, hub_flags, &made->client) < 0 ||
		tls_shard_create(&events, hub_flags, &made->server) < 0) {
		subject_tls_destroy(made);
		return NULL;
	}
	return made;
}

void subject_tls_destroy(struct subject_tls *subject)
{
	for (uint32_t end = 0; end < 2 * subject->count; end++)
		tls_destroy(subject->ends[end]);
	free(subject->ends);
	tls_shard_destroy(subject->client);
	tls_shard_destroy(subject->server);
	ph_credentials_put(subject->credentials);
	free(subject);
}

/* Give one end what the other wrote, chunk by chunk. 0 done, TLS_AGAIN, or a failure. */
static int tls_feed(struct tls *tls, struct chain *in, struct chain *out)
{
	int status = tls_handshake(tls, out);

	while (status == TLS_AGAIN && in->head != NULL) {
		struct chunk *chunk = chain_pop(in);

		tls_input(tls, chunk->data + chunk->offset, chunk->bytes - chunk->offset);
		status = tls_handshake(tls, out);
		tls_input_drop(tls);
		chunk_destroy(chunk);
	}
	return status;
}

static int tls_run(struct tls *client, struct tls *server)
{
	struct chain to_server = {0}, to_client = {0};
	int here = TLS_AGAIN, there = TLS_AGAIN;

	/* Two flights each way are enough; a fifth turn would mean that they wait for each other. */
	for (int turn = 0; turn < 5 && (here == TLS_AGAIN || there == TLS_AGAIN); turn++) {
		if (here == TLS_AGAIN)
			here = tls_feed(client, &to_client, &to_server);
		if (there == TLS_AGAIN)
			there = tls_feed(server, &to_server, &to_client);
	}
	chain_clear(&to_server);
	chain_clear(&to_client);
	return here != 0 ? here : there;
}

/* Both ends, open; the caller destroys them, after a failure too. */
static int tls_connect(struct subject_tls *subject, struct tls **client, struct tls **server)
{
	int status = tls_open(subject->client, TLS_CLIENT, subject->credentials, "any.bench.p2p",
		subject, client);

	if (status == 0)
		status = tls_open(subject->server, TLS_SERVER, NULL, NULL, subject, server);
	return status == 0 ? tls_run(*client, *server) : status;
}

int subject_tls_handshake(struct subject_tls *subject)
{
	struct tls *client = NULL, *server = NULL;
	int status = tls_connect(subject, &client, &server);

	tls_destroy(client);
	tls_destroy(server);
	return status;
}

int subject_tls_connect(struct subject_tls *subject, uint32_t count)
{
	int status = 0;

	subject->ends = calloc(2 * (size_t)count, sizeof(*subject->ends));
	if (subject->ends == NULL)
		return -ENOMEM;
	subject->count = count;
	for (uint32_t at = 0; at < count && status == 0; at++)
		status = tls_connect(subject, &subject->ends[2 * at], &subject->ends[2 * at + 1]);
	return status;
}

int subject_tls_message(struct subject_tls *subject, uint32_t connection, size_t bytes)
{
	struct tls *client = subject->ends[2 * connection];
	struct tls *server = subject->ends[2 * connection + 1];
	struct chain wire = {0}, back = {0};
	ssize_t got = -EPROTO;

	if (tls_write(client, subject->sent, bytes, &wire) == 0 && wire.head->next == NULL) {
		struct chunk *chunk = wire.head;

		tls_input(server, chunk->data + chunk->offset, chunk->bytes - chunk->offset);
		got = tls_read(server, subject->received, sizeof(subject->received), &back);
		tls_input_drop(server);
	}
	chain_clear(&wire);
	chain_clear(&back);
	return got == (ssize_t)bytes ? 0 : -EPROTO;
}
