/* Credentials and trust anchors out of PEM files; see trust.h. */
#include "trust.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

struct trust {
	struct ph_credentials *credentials;
	X509_STORE *anchors;
	char identity[PH_NAME_BYTES_MAX];
};

/* A certificate chain as DER blocks that OPENSSL_free takes back. */
struct der_chain {
	uint32_t count;
	uint8_t *data[PH_CHAIN_MAX];
	struct ph_bytes bytes[PH_CHAIN_MAX];
};

static int why_set(char *why, const char *path, const char *what)
{
	snprintf(why, TRUST_WHY_BYTES, "%s: %s", path, what);
	return -EINVAL;
}

/* Encrypted keys are refused instead of asking: a server has nobody to ask. */
static int password_refuse(char *buffer, int bytes, int writing, void *context)
{
	(void)buffer;
	(void)bytes;
	(void)writing;
	(void)context;
	return -1;
}

static int der_chain_add(struct der_chain *chain, const X509 *cert)
{
	uint8_t *der = NULL;
	int bytes = i2d_X509(cert, &der);

	if (bytes <= 0)
		return -EINVAL;
	chain->data[chain->count] = der;
	chain->bytes[chain->count].data = der;
	chain->bytes[chain->count].bytes = (size_t)bytes;
	chain->count++;
	return 0;
}

static void der_chain_free(struct der_chain *chain)
{
	for (uint32_t i = 0; i < chain->count; i++)
		OPENSSL_free(chain->data[i]);
	chain->count = 0;
}

static void identity_set(X509 *leaf, char *identity)
{
	const X509_NAME *subject = X509_get_subject_name(leaf);

	if (X509_NAME_get_text_by_NID(
		    (X509_NAME *)subject, NID_commonName, identity, (int)PH_NAME_BYTES_MAX) <= 0)
		X509_NAME_oneline(subject, identity, (int)PH_NAME_BYTES_MAX);
}

/* The chain of a file; `identity` gets the leaf's. */
static int der_chain_read(struct der_chain *chain, const char *path, char *identity, char *why)
{
	FILE *file = fopen(path, "re");
	int status = 0;
	X509 *cert;

	if (file == NULL)
		return why_set(why, path, strerror(errno));
	while (status == 0 && (cert = PEM_read_X509(file, NULL, password_refuse, NULL)) != NULL) {
		if (chain->count == PH_CHAIN_MAX)
			status = why_set(why, path, "more than 25 certificates");
		else if (der_chain_add(chain, cert) < 0)
			status = why_set(why, path, "a certificate cannot be encoded");
		else if (chain->count == 1)
			identity_set(cert, identity);
		X509_free(cert);
	}
	/* The loop ends on "no start line" when all was read; anything else is a broken block. */
	if (status == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		status = why_set(why, path, "a certificate is damaged");
	if (status == 0 && chain->count == 0)
		status = why_set(why, path, "no certificate in this file");
	ERR_clear_error();
	fclose(file);
	return status;
}

static int key_read(const char *path, uint8_t **der, size_t *der_bytes, char *why)
{
	FILE *file = fopen(path, "re");
	PKCS8_PRIV_KEY_INFO *info;
	EVP_PKEY *key;
	int bytes;

	if (file == NULL)
		return why_set(why, path, strerror(errno));
	key = PEM_read_PrivateKey(file, NULL, password_refuse, NULL);
	fclose(file);
	ERR_clear_error();
	if (key == NULL)
		return why_set(why, path, "no private key without a password in this file");
	info = EVP_PKEY2PKCS8(key);
	EVP_PKEY_free(key);
	*der = NULL;
	bytes = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, der) : -1;
	PKCS8_PRIV_KEY_INFO_free(info);
	if (bytes <= 0)
		return why_set(why, path, "the private key cannot be encoded");
	*der_bytes = (size_t)bytes;
	return 0;
}

static int credentials_read(
	struct trust *trust, const char *cert_path, const char *key_path, char *why)
{
	struct der_chain chain = {.count = 0};
	uint8_t *key = NULL;
	size_t key_bytes = 0;
	int status;

	status = der_chain_read(&chain, cert_path, trust->identity, why);
	if (status < 0)
		goto undo_chain;
	status = key_read(key_path, &key, &key_bytes, why);
	if (status < 0)
		goto undo_chain;
	status = ph_credentials_create(chain.bytes, chain.count,
		(struct ph_bytes){.data = key, .bytes = key_bytes}, &trust->credentials);
	if (status < 0)
		status = why_set(why, key_path,
			status == -EINVAL ? "this is not the key of the certificate, or of a kind "
					    "that is not supported"
					  : strerror(-status));
	OPENSSL_clear_free(key, key_bytes);
undo_chain:
	der_chain_free(&chain);
	return status;
}

/* Have OpenSSL look at each certificate's extensions here and now: it keeps what it finds in the
 * certificate, and the shards, which share it, only read that then. False without memory. */
static bool anchors_prepare(X509_STORE *anchors)
{
	STACK_OF(X509) *all = X509_STORE_get1_all_certs(anchors);

	if (all == NULL)
		return false;
	for (int i = 0; i < sk_X509_num(all); i++)
		(void)X509_check_purpose(sk_X509_value(all, i), -1, 0); /* judged when it is used */
	sk_X509_pop_free(all, X509_free);
	ERR_clear_error();
	return true;
}

static int anchors_read(struct trust *trust, const char *path, char *why)
{
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return why_set(why, path, strerror(errno));
	fclose(file);
	trust->anchors = X509_STORE_new();
	if (trust->anchors == NULL)
		return why_set(why, path, strerror(ENOMEM));
	if (X509_STORE_load_file(trust->anchors, path) != 1) {
		ERR_clear_error();
		return why_set(why, path, "no certificate in this file, or a damaged one");
	}
	if (!anchors_prepare(trust->anchors))
		return why_set(why, path, strerror(ENOMEM));
	return 0;
}

int trust_create(const char *cert_path, const char *key_path, const char *ca_path,
	struct trust **trust, char *why)
{
	struct trust *made = calloc(1, sizeof(*made));
	int status;

	if (made == NULL)
		return why_set(why, cert_path, strerror(ENOMEM));
	status = credentials_read(made, cert_path, key_path, why);
	if (status == 0)
		status = anchors_read(made, ca_path, why);
	if (status < 0) {
		trust_destroy(made);
		return status;
	}
	*trust = made;
	return 0;
}

void trust_destroy(struct trust *trust)
{
	if (trust == NULL)
		return;
	ph_credentials_put(trust->credentials);
	X509_STORE_free(trust->anchors);
	free(trust);
}

struct ph_credentials *trust_credentials(const struct trust *trust)
{
	return trust->credentials;
}

const char *trust_identity(const struct trust *trust)
{
	return trust->identity;
}

static STACK_OF(X509) * intermediates_create(const struct ph_chain *chain)
{
	STACK_OF(X509) *stack = sk_X509_new_null();

	for (uint32_t i = 1; stack != NULL && i < chain->count; i++) {
		if (sk_X509_push(stack, chain->x509[i]) == 0) {
			sk_X509_free(stack);
			stack = NULL;
		}
	}
	return stack;
}

int trust_judge(const struct trust *trust, const struct ph_chain *chain, int accepted,
	char *identity, char *refusal)
{
	X509 *leaf = chain->x509[0];
	STACK_OF(X509) *intermediates = intermediates_create(chain);
	X509_STORE_CTX *path = X509_STORE_CTX_new();
	int status = -ENOMEM;

	if (intermediates == NULL || path == NULL ||
		X509_STORE_CTX_init(path, trust->anchors, leaf, intermediates) != 1 ||
		X509_STORE_CTX_set_default(path, accepted ? "ssl_client" : "ssl_server") != 1) {
		snprintf(refusal, PH_TEXT_BYTES_MAX, "no memory to check the chain");
	} else if (X509_verify_cert(path) == 1) {
		identity_set(leaf, identity);
		status = 0;
	} else {
		snprintf(refusal, PH_TEXT_BYTES_MAX, "%s",
			X509_verify_cert_error_string(X509_STORE_CTX_get_error(path)));
		status = -EACCES;
	}
	X509_STORE_CTX_free(path);
	sk_X509_free(intermediates);
	ERR_clear_error();
	return status;
}
