/*
 * What we show and whom we trust: credentials in the form of this shard's library context, the answer
 * to a ClientHello, and the limits of a peer's chain before its judges see it. See tls_parts.h.
 */
#include "engine/tls_parts.h"

#include "engine/check.h"
#include "engine/credentials.h"
#include "engine/memory.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <errno.h>
#include <string.h>

/* ---- credentials ------------------------------------------------------------------------ */

static void parsed_fini(struct tls_parsed *parsed)
{
	X509_free(parsed->leaf);
	sk_X509_pop_free(parsed->issuers, X509_free);
	EVP_PKEY_free(parsed->key);
	*parsed = (struct tls_parsed){0};
}

/* 0, -EINVAL, -ENOMEM. */
static int parsed_init(struct tls_shard *shard, struct tls_parsed *parsed,
	const struct ph_credentials *credentials)
{
	uint32_t count = credentials_chain_count(credentials);

	*parsed = (struct tls_parsed){.serial = credentials_serial(credentials)};
	parsed->key = credentials_parse_key(shard->library, credentials_key(credentials));
	parsed->leaf = credentials_parse_certificate(
		shard->library, credentials_certificate(credentials, 0));
	parsed->issuers = sk_X509_new_null();
	if (parsed->key == NULL || parsed->leaf == NULL || parsed->issuers == NULL)
		goto undo;
	for (uint32_t index = 1; index < count; index++) {
		X509 *issuer = credentials_parse_certificate(
			shard->library, credentials_certificate(credentials, index));

		if (issuer == NULL)
			goto undo;
		if (sk_X509_push(parsed->issuers, issuer) == 0) {
			X509_free(issuer);
			goto undo;
		}
	}
	return 0;

undo:
	parsed_fini(parsed);
	return credentials_openssl_failure(-EINVAL);
}

static int parsed_find(struct tls_shard *shard, const struct ph_credentials *credentials,
	const struct tls_parsed **found)
{
	uint64_t serial = credentials_serial(credentials);
	struct tls_parsed *oldest = &shard->parsed[0], fresh;
	int status;

	for (uint32_t index = 0; index < TLS_CREDENTIALS_CACHED; index++) {
		struct tls_parsed *parsed = &shard->parsed[index];

		if (parsed->serial == serial) {
			parsed->used = ++shard->uses;
			*found = parsed;
			return 0;
		}
		if (parsed->used < oldest->used)
			oldest = parsed;
	}
	status = parsed_init(shard, &fresh, credentials);
	if (status < 0)
		return status;
	parsed_fini(oldest); /* connections that use it hold references of their own */
	*oldest = fresh;
	oldest->used = ++shard->uses;
	*found = oldest;
	return 0;
}

void tls_parsed_clear(struct tls_shard *shard)
{
	for (uint32_t index = 0; index < TLS_CREDENTIALS_CACHED; index++)
		parsed_fini(&shard->parsed[index]);
}

int tls_use_credentials(struct tls_shard *shard, SSL *ssl, const struct ph_credentials *credentials)
{
	const struct tls_parsed *parsed;
	int status = parsed_find(shard, credentials, &parsed);

	if (status < 0)
		return status;
	if (SSL_use_cert_and_key(ssl, parsed->leaf, parsed->key, parsed->issuers, 1) == 1)
		return 0;
	return credentials_openssl_failure(-EINVAL);
}

/* ---- the server's ClientHello ----------------------------------------------------------- */

/*
 * RFC 6066 section 3: a list (u16 bytes) of one entry: u8 type 0 (host name), u16 bytes, name. sni has
 * room for PH_SNI_BYTES_MAX and a NUL. Absent is "". False if malformed.
 */
static bool parse_sni(SSL *ssl, char *sni)
{
	const unsigned char *data = NULL;
	size_t bytes = 0, name_bytes;

	sni[0] = 0;
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &bytes) != 1)
		return true;
	if (bytes < 5 || (size_t)(data[0] << 8 | data[1]) != bytes - 2 || data[2] != 0)
		return false;
	name_bytes = (size_t)(data[3] << 8 | data[4]);
	if (name_bytes != bytes - 5 || name_bytes == 0 || name_bytes > PH_SNI_BYTES_MAX)
		return false;
	for (size_t index = 0; index < name_bytes; index++)
		if (data[5 + index] <= 0x20 || data[5 + index] >= 0x7F)
			return false; /* names are ASCII: no NUL, no control bytes reach a log */
	memcpy(sni, data + 5, name_bytes);
	sni[name_bytes] = 0;
	return true;
}

/* Returns 0 or the alert to send. */
static int answer_hello(struct tls *tls)
{
	struct ph_credentials *credentials = NULL;
	char sni[PH_SNI_BYTES_MAX + 1];
	int status;

	if (!parse_sni(tls->ssl, sni)) {
		tls_note_failure(tls, "malformed server name");
		return SSL_AD_DECODE_ERROR;
	}
	if (tls->shard->events.on_hello(tls->context, sni, &credentials) < 0 ||
		credentials == NULL) {
		tls->refused = TLS_REFUSED_HELLO;
		tls_note_failure(tls, "server name refused");
		return SSL_AD_UNRECOGNIZED_NAME;
	}
	status = tls_use_credentials(tls->shard, tls->ssl, credentials);
	ph_credentials_put(credentials);
	if (status == 0)
		return 0;
	tls->is_out_of_memory = status == -ENOMEM;
	tls_note_failure(tls, "own credentials cannot be used");
	return SSL_AD_INTERNAL_ERROR;
}

/* Runs again for the second ClientHello after a HelloRetryRequest: the first one's name counts. */
int tls_on_client_hello(SSL *ssl, int *alert, void *context)
{
	struct tls_shard *shard = context;
	struct tls *tls = shard->current;

	(void)ssl;
	assert(tls != NULL);
	if (tls->has_hello)
		return SSL_CLIENT_HELLO_SUCCESS;
	tls->has_hello = true;
	ERR_set_mark();
	*alert = answer_hello(tls);
	ERR_pop_to_mark();
	return *alert == 0 ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
}

/* Only called when the client offers protocols at all. */
int tls_on_protocol(SSL *ssl, const unsigned char **selected, unsigned char *selected_bytes,
	const unsigned char *offered, unsigned int offered_bytes, void *context)
{
	struct tls_shard *shard = context;
	unsigned int at = 0;

	(void)ssl;
	while (at < offered_bytes && offered[at] < offered_bytes - at) {
		if (offered[at] == TLS_PROTOCOL_BYTES &&
			memcmp(offered + at + 1, TLS_PROTOCOL, TLS_PROTOCOL_BYTES) == 0) {
			*selected = (const unsigned char *)TLS_PROTOCOL;
			*selected_bytes = TLS_PROTOCOL_BYTES;
			return SSL_TLSEXT_ERR_OK;
		}
		at += 1u + offered[at];
	}
	tls_note_failure(shard->current, "no common application protocol");
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

bool tls_is_protocol_ours(const SSL *ssl)
{
	const unsigned char *selected = NULL;
	unsigned int bytes = 0;

	SSL_get0_alpn_selected(ssl, &selected, &bytes);
	return bytes == 0 ||
		(bytes == TLS_PROTOCOL_BYTES &&
			memcmp(selected, TLS_PROTOCOL, TLS_PROTOCOL_BYTES) == 0);
}

/* ---- the peer's chain ------------------------------------------------------------------- */

/* The limits, none of which costs a signature. NULL, or what is wrong; *bytes is the chain's DER. */
static const char *check_chain(STACK_OF(X509) * certificates, size_t *bytes)
{
	int count = sk_X509_num(certificates);

	*bytes = 0;
	if (count < 1)
		return "no certificate";
	if (count > (int)PH_CHAIN_MAX)
		return "certificate chain too long";
	for (int index = 0; index < count; index++) {
		X509 *certificate = sk_X509_value(certificates, index);
		int size = i2d_X509(certificate, NULL);

		if (size <= 0)
			return "certificate cannot be encoded";
		if ((uint32_t)size > TLS_CERTIFICATE_BYTES_MAX)
			return "certificate too large";
		if (!credentials_is_key_allowed(certificate))
			return "key kind not allowed";
		*bytes += (size_t)size;
	}
	return NULL;
}

/* data has room for all of them, as check_chain counted. */
static bool fill_chain(struct ph_chain *chain, STACK_OF(X509) * certificates, uint8_t *data)
{
	*chain = (struct ph_chain){.count = (uint32_t)sk_X509_num(certificates)};
	for (uint32_t index = 0; index < chain->count; index++) {
		X509 *certificate = sk_X509_value(certificates, (int)index);
		uint8_t *begin = data;
		int size = i2d_X509(certificate, &data);

		if (size <= 0)
			return false;
		chain->der[index] = (struct ph_bytes){begin, (size_t)size};
		chain->x509[index] = certificate;
	}
	return true;
}

/* Returns X509_V_OK or an error whose alert goes to the peer. */
static int judge_chain(struct tls *tls, STACK_OF(X509) * certificates)
{
	struct ph_chain chain;
	size_t bytes;
	const char *failure = check_chain(certificates, &bytes);
	uint8_t *data;
	bool is_full;
	int status = -EPROTO;

	if (failure != NULL) {
		tls_note_failure(tls, failure);
		return X509_V_ERR_CERT_REJECTED;
	}
	data = memory_alloc(bytes);
	if (data == NULL) {
		tls->is_out_of_memory = true;
		return X509_V_ERR_OUT_OF_MEM;
	}
	is_full = fill_chain(&chain, certificates, data);
	if (is_full)
		status = tls->shard->events.on_verify(tls->context, &chain);
	memory_free(data);
	if (!is_full)
		return X509_V_ERR_CERT_REJECTED;
	if (status >= 0)
		return X509_V_OK;
	tls->refused = TLS_REFUSED_VERIFY;
	tls_note_failure(tls, "certificate chain refused");
	return X509_V_ERR_APPLICATION_VERIFICATION;
}

int tls_on_verify(X509_STORE_CTX *store, void *context)
{
	struct tls_shard *shard = context;
	int error;

	assert(shard->current != NULL);
	ERR_set_mark();
	error = judge_chain(shard->current, X509_STORE_CTX_get0_untrusted(store));
	ERR_pop_to_mark();
	X509_STORE_CTX_set_error(store, error);
	return error == X509_V_OK;
}
