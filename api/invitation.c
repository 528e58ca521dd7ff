/*
 * Invitations as text. Reading goes from cheap to dear: XML, base64, PKCS #7, the chain's rules,
 * the issuer's signature over the whole, the group's signature over its properties.
 */
#include "api/invitation.h"

#include "api/detail.h"
#include "api/identity.h"
#include "api/pkcs7.h"
#include "api/properties.h"
#include "api/xml.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XML_ROOT "PEERINVITATION"
#define XML_VERSION "1.0"
#define SIGNED_PREFIX "peerhub invitation 1" /* with its NUL: what else this key signs differs */
#define ADDRESSES_TEXT_BYTES (PH_ADDRESSES_MAX * PH_ADDRESS_TEXT_BYTES)

static const char *const scopes[] = {
	[PNRP_GLOBAL_SCOPE] = "GLOBAL",
	[PNRP_SITE_LOCAL_SCOPE] = "SITELOCAL",
	[PNRP_LINK_LOCAL_SCOPE] = "LINKLOCAL",
};

/* ---- what is signed ---------------------------------------------------------------------- */

struct signed_parts {
	const char *version, *cloud, *scope, *cloud_flags, *addresses;
	const uint8_t *chain, *properties;
	size_t chain_bytes, properties_bytes;
};

static void put(uint8_t **at, const void *data, size_t bytes)
{
	for (uint32_t shift = 32; shift > 0; shift -= 8)
		*(*at)++ = (uint8_t)(bytes >> (shift - 8));
	if (bytes > 0)
		memcpy(*at, data, bytes);
	*at += bytes;
}

/* Prefix, then each part behind its length. malloc'd; NULL without memory. */
static uint8_t *signed_bytes(const struct signed_parts *parts, size_t *bytes)
{
	const char *texts[] = {
		parts->version, parts->cloud, parts->scope, parts->cloud_flags, parts->addresses};
	size_t total = sizeof(SIGNED_PREFIX) + 7 * 4 + parts->chain_bytes + parts->properties_bytes;
	uint8_t *data, *at;

	for (uint32_t index = 0; index < 5; index++)
		total += strlen(texts[index]);
	data = at = malloc(total);
	if (data == NULL)
		return NULL;
	memcpy(at, SIGNED_PREFIX, sizeof(SIGNED_PREFIX));
	at += sizeof(SIGNED_PREFIX);
	for (uint32_t index = 0; index < 5; index++)
		put(&at, texts[index], strlen(texts[index]));
	put(&at, parts->chain, parts->chain_bytes);
	put(&at, parts->properties, parts->properties_bytes);
	*bytes = total;
	return data;
}

/* ---- reading ---------------------------------------------------------------------------- */

static HRESULT not_trusted(const char *why)
{
	return detail_fail(PEER_E_INVITATION_NOT_TRUSTED, "invitation: %s", why);
}

/* Base64 of a child into *bytes; an absent child is empty. */
static HRESULT read_bytes(
	const struct xml_document *document, const char *name, struct store_bytes *bytes)
{
	const char *text = xml_child_text(document, name);
	int status;

	if (text == NULL)
		return S_OK;
	status = base64_decode(text, &bytes->data, &bytes->bytes);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	return status < 0 ? not_trusted("an element is not base64") : S_OK;
}

static HRESULT read_chain(const struct xml_document *document, struct invitation *invitation)
{
	struct trust_request request = {.any_time = true};
	char refusal[REFUSAL_BYTES];
	HRESULT result = read_bytes(document, "GMC", &invitation->chain_der);
	int status;

	if (FAILED(result))
		return result;
	status = pkcs7_unpack(invitation->chain_der.data, invitation->chain_der.bytes,
		invitation->chain, PH_CHAIN_MAX, &invitation->chain_count);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return not_trusted("GMC is not PKCS #7 with at most 25 certificates");
	switch (trust_verify(invitation->chain, invitation->chain_count, &request,
		&invitation->trust, refusal)) {
	case TRUST_OK:
		return S_OK;
	case TRUST_NO_MEMORY:
		return E_OUTOFMEMORY;
	default:
		return not_trusted(refusal);
	}
}

static HRESULT read_cloud(const struct xml_document *document, struct invitation *invitation)
{
	const char *cloud = xml_child_text(document, "CLOUDNAME");
	const char *scope = xml_child_text(document, "SCOPE");
	const char *flags = xml_child_text(document, "CLOUDFLAGS");

	if (cloud == NULL || scope == NULL || flags == NULL)
		return not_trusted("CLOUDNAME, SCOPE or CLOUDFLAGS is missing");
	if (!peer_text_fits(cloud, PEER_TEXT_UNITS_MAX))
		return not_trusted("CLOUDNAME is too long");
	snprintf(invitation->cloud, sizeof(invitation->cloud), "%s", cloud);
	for (uint32_t each = PNRP_GLOBAL_SCOPE; each <= PNRP_LINK_LOCAL_SCOPE; each++)
		if (strcmp(scope, scopes[each]) == 0)
			invitation->scope = each;
	if (invitation->scope == PNRP_SCOPE_ANY)
		return not_trusted("SCOPE is not GLOBAL, SITELOCAL or LINKLOCAL");
	if (strcmp(flags, "0") != 0 && strcmp(flags, "1") != 0)
		return not_trusted("CLOUDFLAGS is not 0 or 1");
	invitation->cloud_flags = flags[0] == '1' ? PNRP_CLOUD_NAME_LOCAL : PNRP_CLOUD_NO_FLAGS;
	return S_OK;
}

static HRESULT read_addresses(const char *text, struct invitation *invitation)
{
	while (*text != '\0') {
		char each[PH_ADDRESS_TEXT_BYTES];
		size_t bytes = strcspn(text, " ");

		if (bytes >= sizeof(each) || invitation->address_count == PH_ADDRESSES_MAX)
			return not_trusted("ADDRESSES has too many or too long ones");
		memcpy(each, text, bytes);
		each[bytes] = '\0';
		if (ph_address_parse(each, &invitation->addresses[invitation->address_count]) < 0)
			return not_trusted("ADDRESSES holds something else");
		invitation->address_count++;
		text += bytes + (text[bytes] == ' ');
	}
	return S_OK;
}

static HRESULT check_signature(const struct xml_document *document, struct invitation *invitation)
{
	const char *addresses = xml_child_text(document, "ADDRESSES");
	struct signed_parts parts = {
		.version = document->version,
		.cloud = xml_child_text(document, "CLOUDNAME"),
		.scope = xml_child_text(document, "SCOPE"),
		.cloud_flags = xml_child_text(document, "CLOUDFLAGS"),
		.addresses = addresses != NULL ? addresses : "",
		.chain = invitation->chain_der.data,
		.chain_bytes = invitation->chain_der.bytes,
		.properties = invitation->packed_properties.data,
		.properties_bytes = invitation->packed_properties.bytes,
	};
	EVP_PKEY *issuer;
	struct store_bytes signature = {0};
	uint8_t *data;
	size_t bytes;
	int status = -EINVAL; /* none */
	HRESULT result = read_bytes(document, "SIGNATURE", &signature);

	if (FAILED(result))
		return result;
	data = signed_bytes(&parts, &bytes);
	if (data == NULL) {
		store_bytes_free(&signature);
		return E_OUTOFMEMORY;
	}
	if (signature.bytes > 0)
		status = certificate_key(invitation->chain[1], &issuer);
	if (status == 0)
		status = key_verify(issuer, data, bytes, signature.data, signature.bytes);
	free(data);
	store_bytes_free(&signature);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	return status == 0 ? S_OK : not_trusted("SIGNATURE is missing or not the issuer's");
}

static HRESULT read_properties(struct invitation *invitation)
{
	X509 *root = invitation->chain[invitation->chain_count - 1];
	int status;

	if (invitation->packed_properties.bytes == 0)
		return S_OK;
	status = properties_unpack(invitation->packed_properties.data,
		invitation->packed_properties.bytes, root, &invitation->properties);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0 || strcmp(invitation->properties.group, invitation->trust.group) != 0)
		return not_trusted("PROPERTIES is not signed by the group");
	invitation->has_properties = true;
	return S_OK;
}

static HRESULT read_version(const struct xml_document *document)
{
	bool is_password = xml_child_text(document, "GROUPPEERNAME") != NULL;

	if (strcmp(document->root, XML_ROOT) != 0)
		return detail_fail(E_INVALIDARG, "invitation: the root element is not " XML_ROOT);
	if (document->version[0] == '\0')
		return detail_fail(E_INVALIDARG, "invitation: VERSION is missing");
	if (strcmp(document->version, XML_VERSION) != 0 || is_password)
		return detail_fail(PEER_E_UNSUPPORTED_VERSION,
			is_password ? "invitation: password invitations are not served"
				    : "invitation: VERSION is not " XML_VERSION);
	if (xml_child_text(document, "GMC") == NULL)
		return detail_fail(E_INVALIDARG, "invitation: element GMC is missing");
	return S_OK;
}

static HRESULT read_document(const struct xml_document *document, struct invitation *invitation)
{
	const char *addresses = xml_child_text(document, "ADDRESSES");
	HRESULT result = read_version(document);

	if (SUCCEEDED(result))
		result = read_cloud(document, invitation);
	if (SUCCEEDED(result))
		result = read_chain(document, invitation);
	if (SUCCEEDED(result))
		result = read_bytes(document, "PROPERTIES", &invitation->packed_properties);
	if (SUCCEEDED(result))
		result = check_signature(document, invitation);
	if (SUCCEEDED(result))
		result = read_properties(invitation);
	if (SUCCEEDED(result) && addresses != NULL)
		result = read_addresses(addresses, invitation);
	return result;
}

HRESULT invitation_read(PCWSTR xml, struct invitation **invitation)
{
	struct xml_document document;
	struct invitation *made;
	char why[XML_WHY_BYTES];
	char *utf8;
	int status;
	HRESULT result = identity_text("invitation", xml, INVITATION_UNITS_MAX, &utf8);

	*invitation = NULL;
	if (FAILED(result))
		return result;
	status = xml_parse(utf8, strlen(utf8), &document, why);
	free(utf8);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return detail_fail(E_INVALIDARG, "invitation: %s", why);
	made = calloc(1, sizeof(*made));
	result = made != NULL ? read_document(&document, made) : E_OUTOFMEMORY;
	xml_document_free(&document);
	if (FAILED(result)) {
		invitation_free(made);
		return result;
	}
	*invitation = made;
	return S_OK;
}

void invitation_free(struct invitation *invitation)
{
	if (invitation == NULL)
		return;
	pkcs7_free(invitation->chain, invitation->chain_count);
	store_bytes_free(&invitation->chain_der);
	store_bytes_free(&invitation->packed_properties);
	free(invitation);
}

/* ---- writing ---------------------------------------------------------------------------- */

static void addresses_text(const struct invitation_parts *parts, char text[ADDRESSES_TEXT_BYTES])
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t index = 0; index < parts->address_count && index < PH_ADDRESSES_MAX;
		index++) {
		char each[PH_ADDRESS_TEXT_BYTES];

		ph_address_text(&parts->addresses[index], each);
		used += (size_t)snprintf(text + used, ADDRESSES_TEXT_BYTES - used, "%s%s",
			used > 0 ? " " : "", each);
	}
}

static HRESULT write_document(
	const struct signed_parts *parts, const uint8_t *signature, size_t bytes, char **xml)
{
	struct xml_writer writer = {.status = 0};

	xml_open(&writer, XML_ROOT, parts->version);
	xml_element(&writer, "CLOUDNAME", parts->cloud);
	xml_element(&writer, "SCOPE", parts->scope);
	xml_element(&writer, "CLOUDFLAGS", parts->cloud_flags);
	xml_base64(&writer, "GMC", parts->chain, parts->chain_bytes);
	if (parts->properties_bytes > 0)
		xml_base64(&writer, "PROPERTIES", parts->properties, parts->properties_bytes);
	if (parts->addresses[0] != '\0')
		xml_element(&writer, "ADDRESSES", parts->addresses);
	xml_base64(&writer, "SIGNATURE", signature, bytes);
	xml_close(&writer, XML_ROOT);
	if (writer.status < 0) {
		free(writer.text);
		return E_OUTOFMEMORY; /* all of it is ASCII of ours */
	}
	if (writer.bytes > INVITATION_UNITS_MAX) {
		free(writer.text);
		return detail_fail(PEER_E_CHAIN_TOO_LONG,
			"invitation: the chain does not fit %u characters", INVITATION_UNITS_MAX);
	}
	*xml = writer.text;
	return S_OK;
}

static HRESULT sign_and_write(const struct signed_parts *parts, EVP_PKEY *signer, char **xml)
{
	size_t bytes, signature_bytes;
	uint8_t *signature;
	uint8_t *data = signed_bytes(parts, &bytes);
	HRESULT result;
	int status;

	if (data == NULL)
		return E_OUTOFMEMORY;
	status = key_sign(signer, data, bytes, &signature, &signature_bytes);
	free(data);
	if (status < 0)
		return E_OUTOFMEMORY;
	result = write_document(parts, signature, signature_bytes, xml);
	OPENSSL_free(signature);
	return result;
}

HRESULT invitation_write(const struct invitation_parts *parts, char **xml)
{
	char addresses[ADDRESSES_TEXT_BYTES];
	struct signed_parts written = {
		.version = XML_VERSION,
		.cloud = INVITATION_CLOUD,
		.scope = scopes[PNRP_GLOBAL_SCOPE],
		.cloud_flags = "0",
		.addresses = addresses,
		.properties = parts->properties.data,
		.properties_bytes = parts->properties.bytes,
	};
	uint8_t *chain;
	HRESULT result;

	*xml = NULL;
	addresses_text(parts, addresses);
	if (pkcs7_pack(parts->chain, parts->chain_count, &chain, &written.chain_bytes) < 0)
		return E_OUTOFMEMORY;
	written.chain = chain;
	result = sign_and_write(&written, parts->signer, xml);
	OPENSSL_free(chain);
	return result;
}
