/* An authority and a leaf, made in memory; see certs.h. */
#include "certs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define CERTS_DAYS_BEFORE 1 /* clocks of two hubs of one machine agree; be generous all the same */
#define CERTS_DAYS_AFTER 30

struct certs {
	uint8_t *leaf_der;
	size_t leaf_bytes;
	uint8_t *root_der;
	size_t root_bytes;
	uint8_t *key_der; /* PKCS #8 */
	size_t key_bytes;
	struct ph_credentials *credentials;
};

static int extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;
	int added;

	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	if (extension == NULL)
		return -EIO;
	added = X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
	return added == 1 ? 0 : -EIO;
}

static int name_set(X509 *cert, const char *name)
{
	return X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
		       (const unsigned char *)name, -1, -1, 0) == 1
		? 0
		: -EIO;
}

static int cert_fill(X509 *cert, const char *name, long serial, EVP_PKEY *key, X509 *issuer)
{
	X509 *signer = issuer != NULL ? issuer : cert;

	if (X509_set_version(cert, 2) != 1 ||
		ASN1_INTEGER_set(X509_get_serialNumber(cert), serial) != 1 ||
		X509_gmtime_adj(X509_getm_notBefore(cert), -CERTS_DAYS_BEFORE * 86400L) == NULL ||
		X509_gmtime_adj(X509_getm_notAfter(cert), CERTS_DAYS_AFTER * 86400L) == NULL ||
		X509_set_pubkey(cert, key) != 1 || name_set(cert, name) < 0 ||
		X509_set_issuer_name(cert, X509_get_subject_name(signer)) != 1)
		return -EIO;
	if (issuer == NULL)
		return extension_add(cert, cert, NID_basic_constraints, "critical,CA:TRUE");
	if (extension_add(cert, issuer, NID_basic_constraints, "critical,CA:FALSE") < 0)
		return -EIO;
	return extension_add(cert, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
}

static X509 *cert_create(
	const char *name, long serial, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *cert = X509_new();

	if (cert == NULL)
		return NULL;
	if (cert_fill(cert, name, serial, key, issuer) < 0 ||
		X509_sign(cert, issuer_key, EVP_sha256()) == 0) {
		X509_free(cert);
		return NULL;
	}
	return cert;
}

static int der_of(const X509 *cert, uint8_t **der, size_t *bytes)
{
	int written;

	*der = NULL;
	written = i2d_X509(cert, der);
	if (written <= 0)
		return -EIO;
	*bytes = (size_t)written;
	return 0;
}

int certs_credentials_create(const struct certs *certs, struct ph_credentials **credentials)
{
	const struct ph_bytes chain[2] = {
		{.data = certs->leaf_der, .bytes = certs->leaf_bytes},
		{.data = certs->root_der, .bytes = certs->root_bytes},
	};

	return ph_credentials_create(chain, 2,
		(struct ph_bytes){.data = certs->key_der, .bytes = certs->key_bytes}, credentials);
}

static int key_keep(struct certs *certs, EVP_PKEY *key)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	int bytes;

	if (info == NULL)
		return -EIO;
	bytes = i2d_PKCS8_PRIV_KEY_INFO(info, &certs->key_der);
	PKCS8_PRIV_KEY_INFO_free(info);
	if (bytes <= 0)
		return -EIO;
	certs->key_bytes = (size_t)bytes;
	return 0;
}

static int certs_make(struct certs *certs)
{
	EVP_PKEY *root_key = EVP_EC_gen("P-256");
	EVP_PKEY *leaf_key = EVP_EC_gen("P-256");
	X509 *root = NULL, *leaf = NULL;
	int status = -EIO;

	if (root_key != NULL && leaf_key != NULL)
		root = cert_create("peerhub stress authority", 1, root_key, NULL, root_key);
	if (root != NULL)
		leaf = cert_create("peerhub stress", 2, leaf_key, root, root_key);
	if (leaf != NULL)
		status = der_of(leaf, &certs->leaf_der, &certs->leaf_bytes);
	if (status == 0)
		status = der_of(root, &certs->root_der, &certs->root_bytes);
	if (status == 0)
		status = key_keep(certs, leaf_key);
	if (status == 0)
		status = certs_credentials_create(certs, &certs->credentials);
	X509_free(leaf);
	X509_free(root);
	EVP_PKEY_free(leaf_key);
	EVP_PKEY_free(root_key);
	ERR_clear_error();
	return status;
}

int certs_create(struct certs **certs)
{
	struct certs *made = calloc(1, sizeof(*made));
	int status;

	if (made == NULL)
		return -ENOMEM;
	status = certs_make(made);
	if (status < 0) {
		certs_destroy(made);
		return status;
	}
	*certs = made;
	return 0;
}

void certs_destroy(struct certs *certs)
{
	if (certs == NULL)
		return;
	ph_credentials_put(certs->credentials);
	OPENSSL_clear_free(certs->key_der, certs->key_bytes);
	OPENSSL_free(certs->leaf_der);
	OPENSSL_free(certs->root_der);
	free(certs);
}

struct ph_credentials *certs_credentials(const struct certs *certs)
{
	return certs->credentials;
}

static int is_same(struct ph_bytes bytes, const uint8_t *data, size_t count)
{
	return bytes.bytes == count && memcmp(bytes.data, data, count) == 0;
}

int certs_verify(const struct certs *certs, const struct ph_chain *chain)
{
	if (chain->count != 2 || !is_same(chain->der[0], certs->leaf_der, certs->leaf_bytes) ||
		!is_same(chain->der[1], certs->root_der, certs->root_bytes))
		return -EACCES;
	return 0;
}
