/*
 * Identities: a P-256 key, a self-signed certificate that names it, a friendly name. The
 * certificate carries the friendly name, so a new name means a new certificate of the same key.
 */
#include "api/identity.h"

#include "api/crypto.h"
#include "api/detail.h"
#include "api/pkcs7.h"
#include "api/text.h"
#include "api/xml.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define XML_ROOT "PEERIDENTITYINFO"
#define XML_VERSION "1.0"
#define XML_CERTIFICATE "IDC"
#define XML_UNITS_MAX 65535u

int64_t identity_now_s(void)
{
	return (int64_t)time(NULL);
}

HRESULT identity_text(const char *what, PCWSTR wide, size_t units_max, char **utf8)
{
	*utf8 = NULL;
	if (wide == NULL)
		return detail_fail(E_INVALIDARG, "%s is NULL", what);
	if (text_units_bounded(wide, units_max) > units_max)
		return detail_fail(E_INVALIDARG, "%s is longer than %zu units", what, units_max);
	switch (text_utf8_dup(wide, utf8)) {
	case 0:
		return S_OK;
	case -ENOMEM:
		return E_OUTOFMEMORY;
	default:
		return detail_fail(E_INVALIDARG, "%s is not well-formed UTF-16", what);
	}
}

HRESULT identity_crypto_failure(int status, const char *doing)
{
	if (status == -ENOMEM)
		return detail_fail(E_OUTOFMEMORY, "%s: no memory or no randomness", doing);
	return detail_fail(E_INVALIDARG, "%s: not possible with these names and keys", doing);
}

HRESULT identity_resolve(const char *name, char resolved[PH_NAME_BYTES_MAX])
{
	bool is_default = name == NULL || name[0] == '\0';
	struct store_identity identity;
	bool was_deleted = false;
	HRESULT result;

	if (!is_default && !peer_name_is_secure(name))
		return detail_fail(
			PEER_E_INVALID_PEER_NAME, "%.200s is not a secure peer name", name);
	result = store_identity_get(name, &identity);
	if (SUCCEEDED(result)) {
		memcpy(resolved, identity.name, PH_NAME_BYTES_MAX);
		store_identity_free(&identity);
		return S_OK;
	}
	if (result != PEER_E_NOT_FOUND || is_default)
		return result;
	result = store_identity_was_deleted(name, &was_deleted);
	if (FAILED(result))
		return result;
	if (was_deleted)
		return detail_fail(
			PEER_E_IDENTITY_DELETED, "identity %.200s was deleted here", name);
	return detail_fail(PEER_E_NOT_FOUND, "identity %.200s is not in the store", name);
}

/* ---- keys ------------------------------------------------------------------------------- */

/* A key file holds both halves, and the name is made of the public one: a bit turned in the private one
 * would show only in signatures that nobody accepts. */
static int halves_check(EVP_PKEY *key)
{
	EVP_PKEY_CTX *check;
	bool fit;

	ERR_clear_error();
	check = EVP_PKEY_CTX_new(key, NULL);
	fit = check != NULL && EVP_PKEY_pairwise_check(check) == 1;
	EVP_PKEY_CTX_free(check);
	if (!fit)
		return crypto_failure(-EINVAL);
	ERR_clear_error();
	return 0;
}

int identity_key_check(const char *name, EVP_PKEY *key)
{
	char authority[PEER_AUTHORITY_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
	int status = key_spki(key, spki, &spki_bytes);

	if (status < 0)
		return status;
	peer_authority_of_key(spki, spki_bytes, authority);
	if (strncmp(name, authority, PEER_AUTHORITY_CHARS) != 0)
		return -EINVAL;
	return halves_check(key);
}

HRESULT identity_key_decode(const char *name, const struct store_bytes *der, EVP_PKEY **key)
{
	int status = key_from_der(der->data, der->bytes, key);

	if (status == 0)
		status = identity_key_check(name, *key);
	if (status == 0)
		return S_OK;
	EVP_PKEY_free(*key);
	*key = NULL;
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	return detail_fail(PEER_E_NO_KEY_ACCESS, "the private key file of %.200s is damaged", name);
}

HRESULT identity_load_key(const char *name, EVP_PKEY **key)
{
	struct store_bytes der;
	HRESULT result = store_identity_key(name, &der);

	*key = NULL;
	if (FAILED(result))
		return result;
	result = identity_key_decode(name, &der, key);
	store_bytes_free(&der);
	return result;
}

/* ---- making ----------------------------------------------------------------------------- */

/* The certificate of a name and its key, into *certificate. */
static HRESULT certify(
	const char *name, const char *friendly_name, EVP_PKEY *key, struct store_bytes *certificate)
{
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	struct certificate_request request = {.kind = CERTIFICATE_IDC,
		.name = name,
		.friendly_name = friendly_name,
		.valid_from_s = identity_now_s() - CERTIFICATE_BACKDATE_S,
		.valid_to_s = identity_now_s() + CERTIFICATE_LIFETIME_MAX_S,
		.spki = spki};
	X509 *x509 = NULL;
	uint8_t *der = NULL;
	size_t der_bytes = 0;
	int status = key_spki(key, spki, &request.spki_bytes);

	if (status == 0)
		status = certificate_issue(&request, key, &x509);
	if (status == 0)
		status = certificate_to_der(x509, &der, &der_bytes);
	X509_free(x509);
	if (status < 0)
		return identity_crypto_failure(status, "making an identity certificate");
	certificate->data = malloc(der_bytes);
	if (certificate->data != NULL) {
		memcpy(certificate->data, der, der_bytes);
		certificate->bytes = der_bytes;
	}
	OPENSSL_free(der);
	return certificate->data != NULL ? S_OK : E_OUTOFMEMORY;
}

void identity_draft_free(struct identity_draft *draft)
{
	store_identity_free(&draft->identity);
	key_der_free(draft->key, draft->key_bytes);
	draft->key = NULL;
}

HRESULT identity_draft_store(const struct identity_draft *draft)
{
	/* store_identity_add only reads it */
	struct store_bytes key = {draft->key, draft->key_bytes};

	return store_identity_add(&draft->identity, key);
}

static HRESULT draft_with_key(struct identity_draft *draft, const char *classifier,
	const char *friendly_name, EVP_PKEY *key)
{
	char authority[PEER_AUTHORITY_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
	int status = key_spki(key, spki, &spki_bytes);

	if (status < 0)
		return identity_crypto_failure(status, "naming a key");
	peer_authority_of_key(spki, spki_bytes, authority);
	if (peer_name_make(authority, classifier, draft->identity.name) < 0)
		return detail_fail(E_INVALIDARG, "classifier is malformed or too long");
	snprintf(draft->identity.friendly_name, PEER_TEXT_BYTES, "%s", friendly_name);
	if (key_to_der(key, &draft->key, &draft->key_bytes) < 0)
		return E_OUTOFMEMORY;
	return certify(draft->identity.name, friendly_name, key, &draft->identity.certificate);
}

/* A peer name stands in XML and on terminals: no control characters in what we make. */
static bool has_controls(const char *text)
{
	for (const unsigned char *at = (const unsigned char *)text; *at != 0; at++)
		if (*at < 0x20 || *at == 0x7f)
			return true;
	return false;
}

HRESULT identity_draft_create(
	struct identity_draft *draft, const char *classifier, const char *friendly_name)
{
	EVP_PKEY *key;
	HRESULT result;

	classifier = classifier != NULL ? classifier : "";
	friendly_name = friendly_name != NULL ? friendly_name : "";
	if (!peer_classifier_is_valid(classifier) || has_controls(classifier))
		return detail_fail(E_INVALIDARG,
			"classifier: over %u units, malformed, or with control characters",
			PEER_CLASSIFIER_UNITS_MAX);
	if (!peer_text_fits(friendly_name, PEER_TEXT_UNITS_MAX))
		return detail_fail(E_INVALIDARG, "friendly name: over %u units or malformed",
			PEER_TEXT_UNITS_MAX);
	key = key_create();
	if (key == NULL)
		return identity_crypto_failure(-ENOMEM, "making a key pair");
	result = draft_with_key(draft, classifier, friendly_name, key);
	EVP_PKEY_free(key);
	return result;
}

HRESULT identity_create(
	const char *classifier, const char *friendly_name, char name[PH_NAME_BYTES_MAX])
{
	struct identity_draft draft = {.key = NULL};
	HRESULT result = identity_draft_create(&draft, classifier, friendly_name);

	name[0] = '\0';
	if (SUCCEEDED(result))
		result = identity_draft_store(&draft);
	if (SUCCEEDED(result))
		memcpy(name, draft.identity.name, PH_NAME_BYTES_MAX);
	identity_draft_free(&draft);
	return result;
}

/* ---- friendly name ---------------------------------------------------------------------- */

HRESULT identity_friendly_name(const char *name, char friendly_name[PEER_TEXT_BYTES])
{
	struct store_identity identity;
	HRESULT result = store_identity_get(name, &identity);

	if (SUCCEEDED(result))
		result = store_identity_key_check(identity.name);
	if (SUCCEEDED(result))
		snprintf(friendly_name, PEER_TEXT_BYTES, "%s",
			identity.friendly_name[0] != '\0' ? identity.friendly_name : identity.name);
	store_identity_free(&identity);
	return result;
}

HRESULT identity_rename(const char *name, const char *friendly_name)
{
	struct store_identity identity = {.is_default = false};
	EVP_PKEY *key;
	HRESULT result;

	friendly_name = friendly_name != NULL ? friendly_name : "";
	if (!peer_text_fits(friendly_name, PEER_TEXT_UNITS_MAX))
		return detail_fail(E_INVALIDARG, "friendly name: over %u units or malformed",
			PEER_TEXT_UNITS_MAX);
	result = identity_load_key(name, &key);
	if (FAILED(result))
		return result;
	snprintf(identity.name, sizeof(identity.name), "%s", name);
	snprintf(identity.friendly_name, sizeof(identity.friendly_name), "%s", friendly_name);
	result = certify(name, friendly_name, key, &identity.certificate);
	EVP_PKEY_free(key);
	if (SUCCEEDED(result))
		result = store_identity_update(&identity);
	store_identity_free(&identity);
	return result;
}

/* ---- XML -------------------------------------------------------------------------------- */

static HRESULT write_info(X509 *x509, char **xml)
{
	struct xml_writer writer = {.status = 0};
	uint8_t *der;
	size_t der_bytes;

	if (pkcs7_pack(&x509, 1, &der, &der_bytes) < 0)
		return E_OUTOFMEMORY;
	xml_open(&writer, XML_ROOT, XML_VERSION);
	xml_base64(&writer, XML_CERTIFICATE, der, der_bytes);
	xml_close(&writer, XML_ROOT);
	OPENSSL_free(der);
	if (writer.status < 0) {
		free(writer.text);
		return E_OUTOFMEMORY; /* base64 has no character that XML cannot hold */
	}
	*xml = writer.text;
	return S_OK;
}

HRESULT identity_certificate(const struct store_identity *identity, X509 **x509)
{
	struct certificate_info *info = malloc(sizeof(*info));
	char refusal[REFUSAL_BYTES] = "not DER";
	int status = -ENOMEM;

	*x509 = NULL;
	if (info != NULL)
		status = certificate_from_der(
			identity->certificate.data, identity->certificate.bytes, x509);
	if (status == 0)
		status = certificate_read(*x509, info, refusal);
	if (status == 0) {
		snprintf(refusal, sizeof(refusal), "not signed by its key, or of another name");
		status = info->kind == CERTIFICATE_IDC && strcmp(info->name, identity->name) == 0 &&
				strcmp(info->friendly_name, identity->friendly_name) == 0
			? certificate_verify(*x509, *x509)
			: -EINVAL;
	}
	free(info);
	if (status == 0)
		return S_OK;
	X509_free(*x509);
	*x509 = NULL;
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	return detail_fail(PEER_E_CERT_STORE_CORRUPTED,
		"store: the certificate of %.200s is damaged: %s", identity->name, refusal);
}

HRESULT identity_to_xml(const char *name, char **xml)
{
	struct store_identity identity;
	HRESULT result = store_identity_get(name, &identity);
	X509 *x509;

	*xml = NULL;
	if (FAILED(result))
		return result;
	result = identity_certificate(&identity, &x509);
	if (SUCCEEDED(result))
		result = write_info(x509, xml);
	X509_free(x509);
	store_identity_free(&identity);
	return result;
}

static HRESULT not_identity(const char *why)
{
	return detail_fail(E_INVALIDARG, "identity text: %s", why);
}

HRESULT identity_certificate_check(X509 *x509, int64_t now_s, struct certificate_info *info)
{
	char refusal[REFUSAL_BYTES];
	int status = certificate_read(x509, info, refusal);

	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_identity(refusal);
	if (info->kind != CERTIFICATE_IDC)
		return not_identity("not an identity certificate");
	if (now_s < info->valid_from_s || now_s > info->valid_to_s)
		return not_identity("the certificate is expired or not yet valid");
	status = certificate_verify(x509, x509);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_identity("the certificate is not signed by its own key");
	return S_OK;
}

static HRESULT read_certificate(const char *base64, int64_t now_s, struct certificate_info *info)
{
	uint32_t count = 0;
	X509 *x509 = NULL;
	uint8_t *der;
	size_t der_bytes;
	HRESULT result;
	int status = base64_decode(base64, &der, &der_bytes);

	if (status == 0)
		status = pkcs7_unpack(der, der_bytes, &x509, 1, &count);
	free(der);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_identity("IDC is not base64 of PKCS #7 with one certificate");
	result = identity_certificate_check(x509, now_s, info);
	X509_free(x509);
	return result;
}

static HRESULT read_document(
	const struct xml_document *document, int64_t now_s, struct certificate_info *info)
{
	const char *certificate = xml_child_text(document, XML_CERTIFICATE);

	if (strcmp(document->root, XML_ROOT) != 0)
		return not_identity("the root element is not " XML_ROOT);
	if (strcmp(document->version, XML_VERSION) != 0)
		return not_identity("VERSION is not " XML_VERSION);
	if (certificate == NULL)
		return not_identity("element " XML_CERTIFICATE " is missing");
	return read_certificate(certificate, now_s, info);
}

HRESULT identity_from_xml(PCWSTR xml, int64_t now_s, struct certificate_info *info)
{
	struct xml_document document;
	char why[XML_WHY_BYTES];
	char *utf8;
	int status;
	HRESULT result = identity_text("identity text", xml, XML_UNITS_MAX, &utf8);

	if (FAILED(result))
		return result;
	status = xml_parse(utf8, strlen(utf8), &document, why);
	free(utf8);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_identity(why);
	result = read_document(&document, now_s, info);
	xml_document_free(&document);
	return result;
}
