/*
 * Identity export: PEERIDENTITYEXPORT around PKCS #12 (RFC 7292) with the private key and the
 * identity certificate, both under PBES2 with AES-256-CBC, and a MAC over SHA-256.
 *
 * Reading takes the container apart by hand instead of with PKCS12_parse: the text comes from
 * outside, and every key derivation's iteration count in it is looked at before it is run, so that
 * no text can make us compute for hours. Other encryptions than PBES2 with PBKDF2 are refused.
 */
#include "api/identity.h"

#include "api/crypto.h"
#include "api/detail.h"
#include "api/text.h"
#include "api/xml.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XML_ROOT "PEERIDENTITYEXPORT"
#define XML_VERSION "1.0"
#define XML_UNITS_MAX 65535u
#define ITERATIONS 100000 /* PBKDF2-HMAC-SHA256: about 30 ms each */
#define ITERATIONS_MAX 1000000
#define BAGS_MAX 8 /* ours has two */

/* ---- writing ---------------------------------------------------------------------------- */

/* DER of the container, OPENSSL_malloc'd. */
static int pack(const char *password, EVP_PKEY *key, X509 *x509, uint8_t **der, size_t *der_bytes)
{
	PKCS12 *container = PKCS12_create(password, NULL, key, x509, NULL, NID_aes_256_cbc,
		NID_aes_256_cbc, ITERATIONS, -1, 0);
	unsigned char *out = NULL;
	int bytes = -1;

	if (container != NULL &&
		PKCS12_set_mac(container, password, -1, NULL, 0, ITERATIONS, EVP_sha256()) == 1)
		bytes = i2d_PKCS12(container, &out);
	PKCS12_free(container);
	ERR_clear_error();
	if (bytes <= 0)
		return -ENOMEM;
	*der = out;
	*der_bytes = (size_t)bytes;
	return 0;
}

static HRESULT write_export(const char *name, const uint8_t *der, size_t der_bytes, char **xml)
{
	struct xml_writer writer = {.status = 0};

	xml_open(&writer, XML_ROOT, XML_VERSION);
	xml_element(&writer, "PEERNAME", name);
	xml_base64(&writer, "DATA", der, der_bytes);
	xml_close(&writer, XML_ROOT);
	if (writer.status == 0) {
		*xml = writer.text;
		return S_OK;
	}
	free(writer.text);
	if (writer.status == -ENOMEM)
		return E_OUTOFMEMORY;
	return detail_fail(E_INVALIDARG, "%.200s has characters that XML cannot hold", name);
}

static HRESULT export_with_key(
	const struct store_identity *identity, const char *password, EVP_PKEY *key, char **xml)
{
	uint8_t *der = NULL;
	size_t der_bytes;
	X509 *x509;
	HRESULT result = identity_certificate(identity, &x509);

	if (FAILED(result))
		return result;
	result = pack(password, key, x509, &der, &der_bytes) < 0
		? E_OUTOFMEMORY
		: write_export(identity->name, der, der_bytes, xml);
	OPENSSL_free(der);
	X509_free(x509);
	return result;
}

HRESULT identity_export(const char *name, const char *password, char **xml)
{
	struct store_identity identity;
	EVP_PKEY *key = NULL;
	HRESULT result = store_identity_get(name, &identity);

	*xml = NULL;
	if (SUCCEEDED(result))
		result = identity_load_key(identity.name, &key);
	if (SUCCEEDED(result))
		result = export_with_key(&identity, password, key, xml);
	EVP_PKEY_free(key);
	store_identity_free(&identity);
	return result;
}

/* ---- reading ---------------------------------------------------------------------------- */

struct found {
	EVP_PKEY *key;
	X509 *x509;
};

static void found_free(struct found *found)
{
	EVP_PKEY_free(found->key);
	X509_free(found->x509);
}

/* PBES2 with PBKDF2 and a bearable number of iterations. */
static bool is_bearable(const X509_ALGOR *algorithm)
{
	const ASN1_OBJECT *object;
	const void *parameter;
	PBE2PARAM *scheme = NULL;
	PBKDF2PARAM *derivation = NULL;
	int kind;
	bool good = false;

	X509_ALGOR_get0(&object, &kind, &parameter, algorithm);
	if (OBJ_obj2nid(object) != NID_pbes2 || kind != V_ASN1_SEQUENCE)
		return false;
	scheme = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), algorithm->parameter);
	if (scheme != NULL && OBJ_obj2nid(scheme->keyfunc->algorithm) == NID_id_pbkdf2 &&
		scheme->keyfunc->parameter != NULL)
		derivation = ASN1_TYPE_unpack_sequence(
			ASN1_ITEM_rptr(PBKDF2PARAM), scheme->keyfunc->parameter);
	if (derivation != NULL) {
		int64_t iterations = 0;

		good = ASN1_INTEGER_get_int64(&iterations, derivation->iter) == 1 &&
			iterations >= 1 && iterations <= ITERATIONS_MAX;
	}
	PBKDF2PARAM_free(derivation);
	PBE2PARAM_free(scheme);
	return good;
}

static int take_key(const PKCS12_SAFEBAG *bag, const char *password, struct found *found)
{
	const X509_SIG *shroud = PKCS12_SAFEBAG_get0_pkcs8(bag);
	PKCS8_PRIV_KEY_INFO *info;
	const X509_ALGOR *algorithm;

	if (shroud == NULL || found->key != NULL)
		return -EINVAL;
	X509_SIG_get0(shroud, &algorithm, NULL);
	if (!is_bearable(algorithm))
		return -EINVAL;
	info = PKCS12_decrypt_skey(bag, password, (int)strlen(password));
	if (info == NULL)
		return -EINVAL;
	found->key = EVP_PKCS82PKEY(info);
	PKCS8_PRIV_KEY_INFO_free(info);
	return found->key != NULL && key_is_allowed(found->key) ? 0 : -EINVAL;
}

static int take_bag(const PKCS12_SAFEBAG *bag, const char *password, struct found *found)
{
	switch (PKCS12_SAFEBAG_get_nid(bag)) {
	case NID_pkcs8ShroudedKeyBag:
		return take_key(bag, password, found);
	case NID_certBag:
		if (found->x509 != NULL || PKCS12_SAFEBAG_get_bag_nid(bag) != NID_x509Certificate)
			return -EINVAL;
		found->x509 = PKCS12_SAFEBAG_get1_cert(bag);
		return found->x509 != NULL ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static STACK_OF(PKCS12_SAFEBAG) * open_safe(PKCS7 *safe, const char *password)
{
	if (PKCS7_type_is_data(safe))
		return PKCS12_unpack_p7data(safe);
	if (!PKCS7_type_is_encrypted(safe) || safe->d.encrypted == NULL ||
		safe->d.encrypted->enc_data == NULL ||
		!is_bearable(safe->d.encrypted->enc_data->algorithm))
		return NULL;
	return PKCS12_unpack_p7encdata(safe, password, (int)strlen(password));
}

static int take_safe(PKCS7 *safe, const char *password, struct found *found)
{
	STACK_OF(PKCS12_SAFEBAG) *bags = open_safe(safe, password);
	int status = bags != NULL && sk_PKCS12_SAFEBAG_num(bags) <= BAGS_MAX ? 0 : -EINVAL;

	for (int index = 0; status == 0 && index < sk_PKCS12_SAFEBAG_num(bags); index++)
		status = take_bag(sk_PKCS12_SAFEBAG_value(bags, index), password, found);
	sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
	return status;
}

static bool mac_is_good(PKCS12 *container, const char *password)
{
	const ASN1_INTEGER *iterations = NULL;
	int64_t count = 1; /* what an absent field means */

	if (PKCS12_mac_present(container) != 1)
		return false;
	PKCS12_get0_mac(NULL, NULL, NULL, &iterations, container);
	if (iterations != NULL && ASN1_INTEGER_get_int64(&count, iterations) != 1)
		return false;
	if (count < 1 || count > ITERATIONS_MAX)
		return false;
	return PKCS12_verify_mac(container, password, (int)strlen(password)) == 1;
}

static int unpack(const uint8_t *der, size_t der_bytes, const char *password, struct found *found)
{
	const unsigned char *at = der;
	STACK_OF(PKCS7) *safes = NULL;
	PKCS12 *container;
	int status = -EINVAL;

	ERR_clear_error();
	container = d2i_PKCS12(NULL, &at, (long)der_bytes);
	if (container != NULL && at == der + der_bytes && mac_is_good(container, password))
		safes = PKCS12_unpack_authsafes(container);
	if (safes != NULL && sk_PKCS7_num(safes) <= BAGS_MAX)
		status = 0;
	for (int index = 0; status == 0 && index < sk_PKCS7_num(safes); index++)
		status = take_safe(sk_PKCS7_value(safes, index), password, found);
	sk_PKCS7_pop_free(safes, PKCS7_free);
	PKCS12_free(container);
	if (status == 0 && (found->key == NULL || found->x509 == NULL))
		status = -EINVAL;
	if (status < 0)
		return crypto_failure(status);
	ERR_clear_error();
	return 0;
}

static HRESULT not_export(const char *why)
{
	return detail_fail(E_INVALIDARG, "identity export: %s", why);
}

static HRESULT draft_found(
	struct identity_draft *draft, const struct found *found, const char *name)
{
	struct certificate_info info;
	uint8_t *der;
	size_t der_bytes;
	int status;
	HRESULT result = identity_certificate_check(found->x509, identity_now_s(), &info);

	if (FAILED(result))
		return result;
	if (strcmp(info.name, name) != 0)
		return not_export("PEERNAME is not the name in the certificate");
	status = identity_key_check(info.name, found->key);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_export("the key is not the one in the certificate");
	memcpy(draft->identity.name, info.name, sizeof(info.name));
	memcpy(draft->identity.friendly_name, info.friendly_name, sizeof(info.friendly_name));
	if (key_to_der(found->key, &draft->key, &draft->key_bytes) < 0 ||
		certificate_to_der(found->x509, &der, &der_bytes) < 0)
		return E_OUTOFMEMORY;
	draft->identity.certificate.data = malloc(der_bytes);
	if (draft->identity.certificate.data != NULL) {
		memcpy(draft->identity.certificate.data, der, der_bytes);
		draft->identity.certificate.bytes = der_bytes;
	}
	OPENSSL_free(der);
	return draft->identity.certificate.data != NULL ? S_OK : E_OUTOFMEMORY;
}

static HRESULT import_data(
	struct identity_draft *draft, const char *name, const char *base64, const char *password)
{
	struct found found = {0};
	uint8_t *der;
	size_t der_bytes;
	HRESULT result;
	int status = base64_decode(base64, &der, &der_bytes);

	if (status == 0)
		status = unpack(der, der_bytes, password, &found);
	free(der);
	if (status == -ENOMEM)
		result = E_OUTOFMEMORY;
	else if (status < 0)
		result = not_export("altered, not PKCS #12 of ours, or another password");
	else
		result = draft_found(draft, &found, name);
	found_free(&found);
	return result;
}

/* Export and its concept page say PEERNAME and DATA, the import page IDENTITY and IDENTITYDATA. */
static HRESULT import_document(
	struct identity_draft *draft, const struct xml_document *document, const char *password)
{
	const char *peer_name = xml_child_text(document, "PEERNAME");
	const char *data = xml_child_text(document, "DATA");

	if (strcmp(document->root, XML_ROOT) != 0)
		return not_export("the root element is not " XML_ROOT);
	if (document->version[0] != '\0' && strcmp(document->version, XML_VERSION) != 0)
		return not_export("VERSION is not " XML_VERSION);
	if (peer_name == NULL)
		peer_name = xml_child_text(document, "IDENTITY");
	if (data == NULL)
		data = xml_child_text(document, "IDENTITYDATA");
	if (peer_name == NULL || data == NULL)
		return not_export("element PEERNAME or DATA is missing");
	if (!peer_name_is_secure(peer_name))
		return not_export("PEERNAME is not a secure peer name");
	return import_data(draft, peer_name, data, password);
}

HRESULT identity_draft_import(struct identity_draft *draft, PCWSTR xml, const char *password)
{
	struct xml_document document;
	char why[XML_WHY_BYTES];
	char *utf8;
	int status;
	HRESULT result = identity_text("identity export", xml, XML_UNITS_MAX, &utf8);

	if (FAILED(result))
		return result;
	status = xml_parse(utf8, strlen(utf8), &document, why);
	free(utf8);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_export(why);
	result = import_document(draft, &document, password);
	xml_document_free(&document);
	return result;
}
