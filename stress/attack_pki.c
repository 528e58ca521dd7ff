/* The parties of an attack; see attack_pki.h. */
#include "attack_pki.h"

#include "../bench/echo/trust.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#define PKI_SECONDS 86400l

struct pki {
	EVP_PKEY *root_key; /* our own authority … */
	X509 *root;
	struct trust *trust; /* … or files */
	const char *cert_path, *key_path;
};

/* ---- making certificates ----------------------------------------------------------------- */

static X509 *cert_create(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *cert = X509_new();
	X509_NAME *subject;

	if (cert == NULL)
		return NULL;
	subject = X509_get_subject_name(cert);
	if (X509_set_version(cert, X509_VERSION_3) != 1 ||
		ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) != 1 ||
		X509_gmtime_adj(X509_getm_notBefore(cert), -PKI_SECONDS) == NULL ||
		X509_gmtime_adj(X509_getm_notAfter(cert), PKI_SECONDS) == NULL ||
		X509_set_pubkey(cert, key) != 1 ||
		X509_NAME_add_entry_by_txt(
			subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0) != 1 ||
		X509_set_issuer_name(
			cert, issuer != NULL ? X509_get_subject_name(issuer) : subject) != 1 ||
		X509_sign(cert, issuer_key, EVP_sha256()) == 0) {
		X509_free(cert);
		return NULL;
	}
	return cert;
}

int pki_create(struct pki **pki)
{
	struct pki *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return -ENOMEM;
	made->root_key = EVP_EC_gen("P-256");
	if (made->root_key != NULL)
		made->root = cert_create("attack authority", made->root_key, NULL, made->root_key);
	if (made->root == NULL) {
		pki_destroy(made);
		ERR_clear_error();
		return -EIO;
	}
	*pki = made;
	return 0;
}

int pki_create_files(const char *cert, const char *key, const char *ca, struct pki **pki, char *why)
{
	struct pki *made = calloc(1, sizeof(*made));

	if (made == NULL) {
		snprintf(why, TRUST_WHY_BYTES, "no memory");
		return -EINVAL;
	}
	made->cert_path = cert;
	made->key_path = key;
	if (trust_create(cert, key, ca, &made->trust, why) < 0) {
		free(made);
		return -EINVAL;
	}
	*pki = made;
	return 0;
}

void pki_destroy(struct pki *pki)
{
	if (pki == NULL)
		return;
	trust_destroy(pki->trust);
	X509_free(pki->root);
	EVP_PKEY_free(pki->root_key);
	free(pki);
}

X509 *pki_root(const struct pki *pki)
{
	return pki->root;
}

bool pki_leaf(const struct pki *pki, const char *name, EVP_PKEY **key, X509 **leaf)
{
	*key = EVP_EC_gen("P-256");
	*leaf = *key != NULL ? cert_create(name, *key, pki->root, pki->root_key) : NULL;
	if (*leaf != NULL)
		return true;
	EVP_PKEY_free(*key);
	*key = NULL;
	ERR_clear_error();
	return false;
}

/* ---- what is shown ----------------------------------------------------------------------- */

struct ph_credentials *pki_credentials(const struct pki *pki, const char *name)
{
	struct ph_credentials *credentials = NULL;
	uint8_t *leaf_der = NULL, *root_der = NULL, *key_der = NULL;
	PKCS8_PRIV_KEY_INFO *info = NULL;
	EVP_PKEY *key;
	X509 *leaf;
	int leaf_bytes, root_bytes, key_bytes;

	if (pki->trust != NULL)
		return ph_credentials_get(trust_credentials(pki->trust));
	if (!pki_leaf(pki, name, &key, &leaf))
		return NULL;
	info = EVP_PKEY2PKCS8(key);
	leaf_bytes = i2d_X509(leaf, &leaf_der);
	root_bytes = i2d_X509(pki->root, &root_der);
	key_bytes = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &key_der) : -1;
	if (leaf_bytes > 0 && root_bytes > 0 && key_bytes > 0) {
		const struct ph_bytes chain[2] = {
			{leaf_der, (size_t)leaf_bytes}, {root_der, (size_t)root_bytes}};

		if (ph_credentials_create(chain, 2, (struct ph_bytes){key_der, (size_t)key_bytes},
			    &credentials) < 0)
			credentials = NULL;
	}
	OPENSSL_free(leaf_der);
	OPENSSL_free(root_der);
	OPENSSL_free(key_der);
	PKCS8_PRIV_KEY_INFO_free(info);
	X509_free(leaf);
	EVP_PKEY_free(key);
	return credentials;
}

static bool context_fill(SSL_CTX *context, const struct pki *pki, const char *name)
{
	EVP_PKEY *key;
	X509 *leaf;
	bool is_filled;

	if (pki->trust != NULL)
		return SSL_CTX_use_certificate_chain_file(context, pki->cert_path) == 1 &&
			SSL_CTX_use_PrivateKey_file(context, pki->key_path, SSL_FILETYPE_PEM) == 1;
	if (!pki_leaf(pki, name, &key, &leaf))
		return false;
	is_filled = SSL_CTX_use_certificate(context, leaf) == 1 &&
		SSL_CTX_use_PrivateKey(context, key) == 1 &&
		SSL_CTX_add1_chain_cert(context, pki->root) == 1;
	X509_free(leaf);
	EVP_PKEY_free(key);
	return is_filled;
}

SSL_CTX *pki_client(const struct pki *pki, const char *name)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL)
		return NULL;
	SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* One suite, so that records can be sealed by hand. */
	if (SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
		!context_fill(context, pki, name)) {
		SSL_CTX_free(context);
		ERR_clear_error();
		return NULL;
	}
	return context;
}

const char *pki_name(const struct pki *pki, const char *name)
{
	return pki != NULL && pki->trust != NULL ? trust_identity(pki->trust) : name;
}

/* ---- whom we believe --------------------------------------------------------------------- */

int pki_verify(const struct pki *pki, const struct ph_chain *chain, int accepted, char *identity,
	char *refusal)
{
	X509 *leaf = chain->x509[0];
	int is_signed;

	if (pki->trust != NULL)
		return trust_judge(pki->trust, chain, accepted, identity, refusal);
	is_signed = X509_verify(leaf, pki->root_key);
	ERR_clear_error();
	if (is_signed != 1) {
		snprintf(refusal, PH_TEXT_BYTES_MAX, "not signed by the authority");
		return -EACCES;
	}
	if (X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, identity,
		    (int)PH_NAME_BYTES_MAX) <= 0) {
		snprintf(refusal, PH_TEXT_BYTES_MAX, "a leaf without a name");
		return -EACCES;
	}
	return 0;
}
