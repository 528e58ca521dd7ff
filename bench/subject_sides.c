/* The sides of a handshake for the micro-benchmarks; see subject_sides.h. */
#include "bench/subject_sides.h"

#include "api/certificate.h"
#include "api/trust.h"
#include "engine/chain.h"
#include "engine/clock.h"
#include "engine/resume.h"
#include "engine/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct subject_sides {
	/* plain */
	SSL_CTX *plain[2]; /* by enum tls_role */
	/* ours */
	struct tls_shard *shards[2];
	struct ph_credentials *credentials;
	struct trust_cache *cache;
	struct resume_chain *chain; /* as the peers have shown it once */
	struct trust_result result;
	uint8_t id[TLS_RESUME_BYTES], secret[TLS_RESUME_BYTES];
	enum subject_way way;
};

/* ---- certificates ------------------------------------------------------------------------ */

static bool mark_authority(X509 *x509)
{
	X509_EXTENSION *extension =
		X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
	bool is_marked = extension != NULL && X509_add_ext(x509, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return is_marked;
}

static X509 *plain_certificate(
	EVP_PKEY *key, EVP_PKEY *signer, const char *name, const char *issuer)
{
	X509 *made = X509_new();

	if (made == NULL || X509_set_version(made, 2) != 1 ||
		ASN1_INTEGER_set(X509_get_serialNumber(made), 7) != 1 ||
		X509_gmtime_adj(X509_getm_notBefore(made), -86400) == NULL ||
		X509_gmtime_adj(X509_getm_notAfter(made), 86400) == NULL ||
		X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC,
			(const unsigned char *)name, -1, -1, 0) != 1 ||
		X509_NAME_add_entry_by_txt(X509_get_issuer_name(made), "CN", MBSTRING_ASC,
			(const unsigned char *)issuer, -1, -1, 0) != 1 ||
		X509_set_pubkey(made, key) != 1 || (key == signer && !mark_authority(made)) ||
		X509_sign(made, signer, EVP_sha256()) == 0) {
		X509_free(made);
		return NULL;
	}
	return made;
}

static SSL_CTX *plain_role(const SSL_METHOD *method, X509 *leaf, EVP_PKEY *key, X509 *authority)
{
	SSL_CTX *role = SSL_CTX_new(method);

	if (role == NULL)
		return NULL;
	SSL_CTX_set_session_cache_mode(role, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(role, SSL_OP_NO_TICKET);
	SSL_CTX_set_verify(role, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (SSL_CTX_set_min_proto_version(role, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_num_tickets(role, 0) != 1 ||
		SSL_CTX_set_ciphersuites(role, "TLS_AES_128_GCM_SHA256") != 1 ||
		SSL_CTX_set1_groups_list(role, "X25519") != 1 ||
		SSL_CTX_use_certificate(role, leaf) != 1 ||
		SSL_CTX_use_PrivateKey(role, key) != 1 ||
		X509_STORE_add_cert(SSL_CTX_get_cert_store(role), authority) != 1) {
		SSL_CTX_free(role);
		return NULL;
	}
	return role;
}

static int plain_init(struct subject_sides *sides)
{
	EVP_PKEY *root = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
	X509 *authority = NULL, *leaf = NULL;

	if (root != NULL && key != NULL) {
		authority = plain_certificate(root, root, "authority", "authority");
		leaf = plain_certificate(key, root, "peer", "authority");
	}
	if (authority != NULL && leaf != NULL) {
		sides->plain[TLS_CLIENT] = plain_role(TLS_client_method(), leaf, key, authority);
		sides->plain[TLS_SERVER] = plain_role(TLS_server_method(), leaf, key, authority);
	}
	X509_free(leaf);
	X509_free(authority);
	EVP_PKEY_free(key);
	EVP_PKEY_free(root);
	return sides->plain[TLS_CLIENT] != NULL && sides->plain[TLS_SERVER] != NULL ? 0 : -EIO;
}

/* A group and a member of it, as this library makes them. */
static int member_create(X509 *x509[2], EVP_PKEY **key)
{
	EVP_PKEY *root = key_create(), *member = key_create();
	int64_t now_s = clock_real_s();
	struct certificate_request grc = {.kind = CERTIFICATE_GRC,
		.friendly_name = "The group",
		.valid_from_s = now_s - 300,
		.valid_to_s = now_s + 86400};
	struct certificate_request gmc = {.kind = CERTIFICATE_GMC,
		.friendly_name = "A member",
		.role = ROLE_MEMBER,
		.valid_from_s = now_s - 300,
		.valid_to_s = now_s + 86400};
	uint8_t spki[2][KEY_SPKI_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX], name[PH_NAME_BYTES_MAX];
	char authority[PEER_AUTHORITY_BYTES];
	int status = -EIO;

	if (root == NULL || member == NULL || key_spki(root, spki[0], &grc.spki_bytes) < 0 ||
		key_spki(member, spki[1], &gmc.spki_bytes) < 0)
		goto out;
	grc.spki = spki[0];
	gmc.spki = spki[1];
	peer_authority_of_key(grc.spki, grc.spki_bytes, authority);
	snprintf(group, sizeof(group), "%s.group", authority);
	peer_authority_of_key(gmc.spki, gmc.spki_bytes, authority);
	snprintf(name, sizeof(name), "%s.member", authority);
	grc.name = grc.group = gmc.group = gmc.issuer = group;
	gmc.name = name;
	status = certificate_issue(&gmc, root, &x509[0]);
	if (status == 0)
		status = certificate_issue(&grc, root, &x509[1]);
	if (status == 0) {
		*key = member;
		member = NULL;
	}
out:
	EVP_PKEY_free(member);
	EVP_PKEY_free(root);
	return status;
}

static int member_init(struct subject_sides *sides)
{
	X509 *x509[2] = {NULL, NULL};
	EVP_PKEY *key = NULL;
	uint8_t *der[2] = {NULL, NULL}, *key_der = NULL;
	struct ph_chain chain = {.count = 2};
	struct ph_bytes key_bytes = {0};
	int status = member_create(x509, &key);

	for (int index = 0; index < 2 && status == 0; index++) {
		status = certificate_to_der(x509[index], &der[index], &chain.der[index].bytes);
		chain.der[index].data = der[index];
		chain.x509[index] = x509[index];
	}
	if (status == 0)
		status = key_to_der(key, &key_der, &key_bytes.bytes);
	key_bytes.data = key_der;
	if (status == 0)
		status = ph_credentials_create(chain.der, 2, key_bytes, &sides->credentials);
	if (status == 0)
		sides->chain = resume_chain_create(&chain);
	if (key_der != NULL)
		key_der_free(key_der, key_bytes.bytes);
	for (int index = 0; index < 2; index++) {
		OPENSSL_free(der[index]);
		X509_free(x509[index]);
	}
	EVP_PKEY_free(key);
	return status == 0 && sides->chain != NULL ? 0 : -EIO;
}

/* ---- ours -------------------------------------------------------------------------------- */

static int on_hello(void *context, const char *sni, struct ph_credentials **credentials)
{
	struct subject_sides *sides = context;

	(void)sni;
	*credentials = ph_credentials_get(sides->credentials);
	return 0;
}

static int judge(struct subject_sides *sides, const struct ph_chain *chain)
{
	struct trust_request request = {
		.now_s = clock_real_s(), .cache = sides->way == SUBJECT_FULL ? NULL : sides->cache};
	char refusal[REFUSAL_BYTES];

	return trust_verify_chain(chain, &request, &sides->result, refusal) == TRUST_OK ? 0
											: -EACCES;
}

static int on_verify(void *context, const struct ph_chain *chain)
{
	return judge(context, chain);
}

static int on_resume(void *context, const uint8_t *id, uint8_t *secret)
{
	struct subject_sides *sides = context;

	if (memcmp(id, sides->id, sizeof(sides->id)) != 0)
		return -ENOENT;
	memcpy(secret, sides->secret, sizeof(sides->secret));
	return 0;
}

/* Steps of one end, timed. */
struct end {
	struct tls *tls;
	SSL *ssl;
	struct chain out;
	uint64_t ns;
	int status;
};

static int end_open(struct subject_sides *sides, struct end *end, enum tls_role role)
{
	int status = tls_open(sides->shards[role], role,
		role == TLS_CLIENT ? sides->credentials : NULL, "any.bench.p2p", sides, &end->tls);

	if (status == 0 && role == TLS_CLIENT && sides->way == SUBJECT_RESUMED)
		status = tls_resume(end->tls, sides->id, sides->secret);
	return status;
}

static int end_resumed(struct subject_sides *sides, const struct end *end)
{
	struct ph_chain chain;

	if (tls_is_resumed(end->tls) != (sides->way == SUBJECT_RESUMED))
		return -EPROTO;
	if (sides->way != SUBJECT_RESUMED)
		return 0;
	resume_chain_show(sides->chain, &chain);
	return judge(sides, &chain);
}

static void end_step(struct subject_sides *sides, struct end *end, struct end *from)
{
	uint64_t begin = clock_now_ns();

	end->status = tls_handshake(end->tls, &end->out);
	while (end->status == TLS_AGAIN && from->out.head != NULL) {
		struct chunk *chunk = chain_pop(&from->out);

		tls_input(end->tls, chunk->data + chunk->offset, chunk->bytes - chunk->offset);
		end->status = tls_handshake(end->tls, &end->out);
		tls_input_drop(end->tls);
		chunk_destroy(chunk);
	}
	if (end->status == 0)
		end->status = end_resumed(sides, end);
	end->ns += clock_now_ns() - begin;
}

static int ours_run(struct subject_sides *sides, struct end *server, struct end *client)
{
	uint64_t begin = clock_now_ns(), middle;
	int status = end_open(sides, server, TLS_SERVER);

	middle = clock_now_ns();
	server->ns += middle - begin;
	if (status == 0)
		status = end_open(sides, client, TLS_CLIENT);
	client->ns += clock_now_ns() - middle;
	server->status = client->status = TLS_AGAIN;
	for (int turn = 0; turn < 5 && status == 0; turn++) {
		if (client->status == TLS_AGAIN)
			end_step(sides, client, server);
		if (server->status == TLS_AGAIN)
			end_step(sides, server, client);
		if (client->status != TLS_AGAIN && server->status != TLS_AGAIN)
			break;
	}
	begin = clock_now_ns();
	tls_destroy(server->tls);
	middle = clock_now_ns();
	tls_destroy(client->tls);
	server->ns += middle - begin;
	client->ns += clock_now_ns() - middle;
	chain_clear(&server->out);
	chain_clear(&client->out);
	return status == 0 && server->status == 0 ? client->status : -EPROTO;
}

/* ---- plain ------------------------------------------------------------------------------- */

static int plain_open(struct end *end, SSL_CTX *role, BIO *in, BIO *out)
{
	uint64_t begin = clock_now_ns();

	end->ssl = SSL_new(role);
	if (end->ssl == NULL || BIO_up_ref(in) != 1 || BIO_up_ref(out) != 1)
		return -ENOMEM;
	SSL_set_bio(end->ssl, in, out);
	end->status = -1;
	end->ns += clock_now_ns() - begin;
	return 0;
}

static void plain_step(struct end *end)
{
	uint64_t begin = clock_now_ns();

	end->status = SSL_do_handshake(end->ssl);
	end->ns += clock_now_ns() - begin;
}

static int plain_run(struct subject_sides *sides, struct end *server, struct end *client)
{
	BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
	uint64_t begin, middle;
	int status = up != NULL && down != NULL ? 0 : -ENOMEM;

	if (status == 0)
		status = plain_open(server, sides->plain[TLS_SERVER], up, down);
	if (status == 0)
		status = plain_open(client, sides->plain[TLS_CLIENT], down, up);
	if (status == 0) {
		SSL_set_accept_state(server->ssl);
		SSL_set_connect_state(client->ssl);
	}
	for (int turn = 0; turn < 5 && status == 0; turn++) {
		if (client->status != 1)
			plain_step(client);
		if (server->status != 1)
			plain_step(server);
	}
	if (server->status != 1 || client->status != 1)
		status = -EPROTO;
	begin = clock_now_ns();
	SSL_free(server->ssl);
	middle = clock_now_ns();
	SSL_free(client->ssl);
	server->ns += middle - begin;
	client->ns += clock_now_ns() - middle;
	BIO_free(up);
	BIO_free(down);
	ERR_clear_error();
	return status;
}

/* ---- all --------------------------------------------------------------------------------- */

struct subject_sides *subject_sides_create(uint32_t hub_flags)
{
	static const struct tls_events events = {
		.on_hello = on_hello, .on_verify = on_verify, .on_resume = on_resume};
	struct subject_sides *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return NULL;
	memset(made->id, 1, sizeof(made->id));
	memset(made->secret, 2, sizeof(made->secret));
	made->cache = trust_cache_create();
	if (made->cache == NULL || plain_init(made) < 0 || member_init(made) < 0 ||
		tls_shard_create(&events, hub_flags, &made->shards[TLS_CLIENT]) < 0 ||
		tls_shard_create(&events, hub_flags, &made->shards[TLS_SERVER]) < 0) {
		subject_sides_destroy(made);
		return NULL;
	}
	return made;
}

void subject_sides_destroy(struct subject_sides *sides)
{
	tls_shard_destroy(sides->shards[TLS_CLIENT]);
	tls_shard_destroy(sides->shards[TLS_SERVER]);
	SSL_CTX_free(sides->plain[TLS_CLIENT]);
	SSL_CTX_free(sides->plain[TLS_SERVER]);
	ph_credentials_put(sides->credentials);
	resume_chain_put(sides->chain);
	trust_cache_destroy(sides->cache);
	free(sides);
}

int subject_sides_run(
	struct subject_sides *sides, enum subject_way way, uint64_t *accept_ns, uint64_t *dial_ns)
{
	struct end server = {0}, client = {0};
	int status;

	sides->way = way;
	status = way == SUBJECT_PLAIN ? plain_run(sides, &server, &client)
				      : ours_run(sides, &server, &client);
	*accept_ns = server.ns;
	*dial_ns = client.ns;
	return status;
}
