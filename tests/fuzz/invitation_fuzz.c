/*
 * Invitations, identities and exports whose wrapping is right and whose content the input chooses: the
 * XML is written by us, the invitation is signed by its issuer over whatever stands in it, the export
 * is a PKCS #12 container with a good MAC. So what lies behind the signatures is reached, too.
 *
 * What must hold: what was bent is refused or is what it says; what was not is read as it was written.
 */
#include "api/identity.h"
#include "api/invitation.h"
#include "api/pkcs7.h"
#include "api/properties.h"
#include "api/text.h"
#include "api/xml.h"
#include "tests/fuzz/failing.h"
#include "tests/fuzz/group.h"
#include "tests/fuzz/libcrypto_memory.h"

#include <errno.h>
#include <openssl/pkcs12.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define PASSWORD "password"

static struct member group, issuer, guest;
static X509 *chain[3]; /* guest by issuer by group */
static X509 *identity; /* of the guest */
static struct store_bytes properties;
static uint8_t *pkcs7;
static size_t pkcs7_bytes;

static void finish(void)
{
	for (uint32_t index = 0; index < 3; index++)
		X509_free(chain[index]);
	X509_free(identity);
	EVP_PKEY_free(group.key);
	EVP_PKEY_free(issuer.key);
	EVP_PKEY_free(guest.key);
	store_bytes_free(&properties);
	OPENSSL_free(pkcs7);
}

static void prepare(void)
{
	struct group_properties plain;

	random_is_ours();
	random_state = 7;
	member_make(&group, false, "group");
	member_make(&issuer, false, "issuer");
	member_make(&guest, false, "guest");
	chain[0] = member_certify(&guest, &issuer, &group, ROLE_MEMBER);
	chain[1] = member_certify(&issuer, &group, &group, ROLE_ADMIN);
	chain[2] = member_certify(&group, &group, &group, ROLE_GROUP);
	identity = member_certify(&guest, &guest, NULL, ROLE_NONE);
	/* Valid whenever the test runs: exports are judged by the present time. */
	FUZZ_MUST(ASN1_TIME_set_string(X509_getm_notBefore(identity), "20200101000000Z") == 1);
	FUZZ_MUST(ASN1_TIME_set_string(X509_getm_notAfter(identity), "21200101000000Z") == 1);
	member_sign(identity, &guest);
	group_properties_init(&plain);
	memcpy(plain.group, group.name, sizeof(plain.group));
	memcpy(plain.creator, issuer.name, sizeof(plain.creator));
	FUZZ_MUST(properties_pack(&plain, group.key, &properties) == 0);
	FUZZ_MUST(pkcs7_pack(chain, 3, &pkcs7, &pkcs7_bytes) == 0);
	FUZZ_MUST(atexit(finish) == 0);
}

static WCHAR *wide_of(const char *text)
{
	WCHAR *wide;
	int status = text_wide_dup(text, &wide);

	FUZZ_MUST(status == 0 || status == -EILSEQ);
	return wide;
}

/* ---- invitations ------------------------------------------------------------------------------ */

static HRESULT read_invitation(const char *xml, uint8_t failing)
{
	struct invitation *invitation;
	WCHAR *wide = wide_of(xml);
	HRESULT result;

	if (wide == NULL)
		return E_INVALIDARG;
	failing_set(failing);
	libcrypto_fail(failing > 63 ? (failing - 63u) * 13u : 0);
	result = invitation_read(wide, &invitation);
	failing_set(0);
	libcrypto_fail(0);
	FUZZ_MUST(result == S_OK || result == E_INVALIDARG || result == E_OUTOFMEMORY ||
		result == PEER_E_UNSUPPORTED_VERSION || result == PEER_E_INVITATION_NOT_TRUSTED);
	FUZZ_MUST((result == S_OK) == (invitation != NULL));
	if (invitation != NULL) {
		FUZZ_MUST(invitation->address_count <= PH_ADDRESSES_MAX);
		FUZZ_MUST(invitation->scope >= PNRP_GLOBAL_SCOPE &&
			invitation->scope <= PNRP_LINK_LOCAL_SCOPE);
		FUZZ_MUST(invitation->chain_count >= 2);
		FUZZ_MUST(!invitation->has_properties ||
			strcmp(invitation->properties.group, invitation->trust.group) == 0);
	}
	invitation_free(invitation);
	free(wide);
	return result;
}

/* What an issuer signs: the prefix with its NUL, then each part behind its length in 4 bytes. */
static void signed_part(struct store_bytes *to, const void *data, size_t bytes)
{
	to->data = realloc(to->data, to->bytes + 4 + bytes);
	FUZZ_MUST(to->data != NULL);
	for (int index = 0; index < 4; index++)
		to->data[to->bytes++] = (uint8_t)(bytes >> (24 - 8 * index));
	if (bytes > 0)
		memcpy(to->data + to->bytes, data, bytes);
	to->bytes += bytes;
}

static char *text_or(struct input *input, bool is_bent, const char *usual)
{
	char *text;

	if (is_bent)
		return input_text(input, input_byte(input));
	text = malloc(strlen(usual) + 1);
	FUZZ_MUST(text != NULL);
	strcpy(text, usual);
	return text;
}

static struct store_bytes bytes_or(
	struct input *input, bool is_bent, const uint8_t *usual, size_t usual_bytes)
{
	struct store_bytes made = {malloc(usual_bytes + 40), usual_bytes};
	size_t at, bytes;
	const uint8_t *taken;

	FUZZ_MUST(made.data != NULL);
	memcpy(made.data, usual, usual_bytes);
	if (is_bent) {
		at = input_number(input, 2) % usual_bytes;
		taken = input_take(input, input_byte(input) % 40, &bytes);
		if (bytes > 0)
			memcpy(made.data + at, taken, bytes);
		made.bytes -= input_byte(input) % 3;
	}
	return made;
}

static void signed_invitation(struct input *input)
{
	static const char *const versions[] = {"1.0", "1.0", "1.0", "1.1", "", NULL};
	uint8_t what = input_byte(input), more = input_byte(input);
	const char *version = versions[more & 128 ? input_byte(input) % 6 : 0];
	char *cloud = text_or(input, what & 1, "Global_");
	char *scope = text_or(input, what & 2, more & 2 ? "LINKLOCAL" : "GLOBAL");
	char *flags = text_or(input, what & 4, more & 4 ? "1" : "0");
	char *addresses = text_or(input, what & 8, "127.0.0.1:1 [fe80::1%3]:2");
	struct store_bytes der = bytes_or(input, what & 16, pkcs7, pkcs7_bytes);
	struct store_bytes packed = bytes_or(input, what & 32, properties.data, properties.bytes);
	struct store_bytes signing = {0};
	struct xml_writer writer = {.status = 0};
	uint8_t *signature;
	size_t signature_bytes;
	HRESULT result;

	if (more & 1)
		packed.bytes = 0;
	signing.data = malloc(21);
	FUZZ_MUST(signing.data != NULL);
	memcpy(signing.data, "peerhub invitation 1", 21);
	signing.bytes = 21;
	signed_part(&signing, version, version != NULL ? strlen(version) : 0);
	signed_part(&signing, cloud, strlen(cloud));
	signed_part(&signing, scope, strlen(scope));
	signed_part(&signing, flags, strlen(flags));
	signed_part(&signing, addresses, strlen(addresses));
	signed_part(&signing, der.data, der.bytes);
	signed_part(&signing, packed.data, packed.bytes);
	FUZZ_MUST(key_sign(more & 8 ? guest.key : issuer.key, signing.data, signing.bytes,
			  &signature, &signature_bytes) == 0);
	xml_open(&writer, more & 16 ? "PEERIDENTITYINFO" : "PEERINVITATION", version);
	xml_element(&writer, "CLOUDNAME", cloud);
	xml_element(&writer, "SCOPE", scope);
	if (!(more & 32))
		xml_element(&writer, "CLOUDFLAGS", flags);
	if (!(what & 64))
		xml_base64(&writer, "GMC", der.data, der.bytes);
	else
		xml_element(&writer, more & 64 ? "GROUPPEERNAME" : "GMC", "=");
	if (packed.bytes > 0)
		xml_base64(&writer, "PROPERTIES", packed.data, packed.bytes);
	xml_element(&writer, "ADDRESSES", addresses);
	if (!(what & 128))
		xml_base64(&writer, "SIGNATURE", signature, signature_bytes);
	xml_close(&writer, "PEERINVITATION");
	if (writer.status == 0) {
		result = read_invitation(writer.text, more & 64 ? input_byte(input) : 0);
		FUZZ_MUST(result == S_OK || what != 0 || (more & ~7u) != 0);
		FUZZ_MUST(result != S_OK || (!(more & 8) && !(what & 192)));
	}
	free(writer.text);
	OPENSSL_free(signature);
	store_bytes_free(&signing);
	store_bytes_free(&der);
	store_bytes_free(&packed);
	free(cloud);
	free(scope);
	free(flags);
	free(addresses);
}

/* What invitation_write makes, invitation_read reads. */
static void written_invitation(struct input *input)
{
	uint8_t failing = input_byte(input);
	ph_address addresses[PH_ADDRESSES_MAX];
	struct invitation_parts parts = {.chain = chain,
		.chain_count = 3,
		.properties = input_byte(input) & 1 ? properties : (struct store_bytes){0},
		.addresses = addresses,
		.address_count = input_byte(input) % (PH_ADDRESSES_MAX + 1),
		.signer = issuer.key};
	static X509 *long_chain[PH_CHAIN_MAX];
	char *xml;
	HRESULT result;

	memset(addresses, 0, sizeof(addresses));
	for (uint32_t index = 0; index < parts.address_count; index++) {
		addresses[index].sin6_family = AF_INET6;
		addresses[index].sin6_port = (in_port_t)input_number(input, 2);
		for (int at = 0; at < 16; at++)
			addresses[index].sin6_addr.s6_addr[at] = input_byte(input);
	}
	if (input_byte(input) == 255) {
		for (uint32_t index = 0; index < PH_CHAIN_MAX; index++)
			long_chain[index] = chain[1];
		parts.chain = long_chain;
		parts.chain_count = PH_CHAIN_MAX;
	}
	failing_set(failing);
	libcrypto_fail(failing > 63 ? input_byte(input) : 0);
	result = invitation_write(&parts, &xml);
	failing_set(0);
	libcrypto_fail(0);
	FUZZ_MUST(SUCCEEDED(result) == (xml != NULL));
	FUZZ_MUST(SUCCEEDED(result) || failing != 0);
	if (xml != NULL && parts.chain_count == 3)
		FUZZ_MUST(read_invitation(xml, 0) == S_OK);
	free(xml);
}

/* ---- identities -------------------------------------------------------------------------------- */

static void bent_identity(struct input *input)
{
	X509 *made = X509_dup(identity), *two[2] = {made, made};
	struct xml_writer writer = {.status = 0};
	struct certificate_info info;
	uint8_t what = input_byte(input), *der;
	size_t der_bytes;
	WCHAR *wide;
	HRESULT result;

	FUZZ_MUST(made != NULL);
	for (int bends = what & 3; bends > 0; bends--) {
		if (input_byte(input) & 1)
			extension_bend(made, input);
		else
			field_bend(made, input, &issuer);
	}
	if (what & 3)
		member_sign(made, what & 4 ? &issuer : &guest);
	FUZZ_MUST(pkcs7_pack(two, what & 8 ? 2 : 1, &der, &der_bytes) == 0);
	xml_open(&writer, what & 16 ? "PEERINVITATION" : "PEERIDENTITYINFO",
		what & 32 ? "2.0" : "1.0");
	xml_base64(&writer, what & 64 ? "GMC" : "IDC", der, der_bytes);
	xml_close(&writer, what & 16 ? "PEERINVITATION" : "PEERIDENTITYINFO");
	FUZZ_MUST(writer.status == 0);
	wide = wide_of(writer.text);
	failing_set(what & 128 ? input_byte(input) : 0);
	result = identity_from_xml(wide, GROUP_NOW_S, &info);
	failing_set(0);
	if (SUCCEEDED(result))
		FUZZ_MUST(peer_name_same_authority(info.name, guest.name) ||
			peer_name_same_authority(info.name, issuer.name));
	else
		FUZZ_MUST(what != 0);
	free(wide);
	free(writer.text);
	OPENSSL_free(der);
	X509_free(made);
}

/* ---- exports ------------------------------------------------------------------------------------ */

static void add_bags(STACK_OF(PKCS12_SAFEBAG) * *bags, struct input *input, int iterations)
{
	static const int kinds[] = {NID_aes_256_cbc, NID_aes_256_cbc, NID_aes_128_cbc,
		NID_pbe_WithSHA1And3_Key_TripleDES_CBC, -1};
	int kind = kinds[input_byte(input) % 5];

	switch (input_byte(input) % 6) {
	case 0:
	case 1:
		(void)PKCS12_add_cert(bags, identity);
		break;
	case 2:
	case 3:
		(void)PKCS12_add_key(bags, guest.key, 0, iterations, kind, PASSWORD);
		break;
	case 4:
		(void)PKCS12_add_key(bags, issuer.key, 0, iterations, kind, PASSWORD);
		break;
	default:
		(void)PKCS12_add_secret(bags, NID_data, (const uint8_t *)"x", 1);
		break;
	}
}

static PKCS12 *make_container(struct input *input)
{
	static const int iterations[] = {1, 1, 1, 2, 1000001};
	STACK_OF(PKCS7) *safes = NULL;
	PKCS12 *container;
	uint8_t what = input_byte(input);

	for (int count = what & 3; count >= 0; count--) {
		STACK_OF(PKCS12_SAFEBAG) *bags = NULL;
		uint8_t each = input_byte(input);

		for (int index = each & 15; index > 0; index--)
			add_bags(&bags, input, 1);
		if (bags != NULL)
			(void)PKCS12_add_safe(&safes, bags,
				each & 16	    ? NID_aes_256_cbc
					: each & 32 ? NID_pbe_WithSHA1And40BitRC2_CBC
						    : -1,
				1, PASSWORD);
		sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
	}
	if (safes == NULL)
		return NULL;
	container = PKCS12_add_safes(safes, 0);
	sk_PKCS7_pop_free(safes, PKCS7_free);
	if (container != NULL && !(what & 4))
		(void)PKCS12_set_mac(container, what & 8 ? "other" : PASSWORD, -1, NULL, 0,
			iterations[0], EVP_sha256());
	if (container != NULL && !(what & 4) && (what & 16)) {
		/* A count that would take hours is written, not run. */
		const ASN1_INTEGER *count = NULL;

		PKCS12_get0_mac(NULL, NULL, NULL, &count, container);
		if (count != NULL)
			(void)ASN1_INTEGER_set(
				(ASN1_INTEGER *)(uintptr_t)count, what & 32 ? -1 : iterations[4]);
	}
	return container;
}

static void import(const char *xml, uint8_t failing)
{
	struct identity_draft draft = {.key = NULL};
	WCHAR *wide = wide_of(xml);
	HRESULT result;

	if (wide == NULL)
		return;
	failing_set(failing);
	libcrypto_fail(failing > 63 ? failing * 7u : 0);
	result = identity_draft_import(&draft, wide, PASSWORD);
	failing_set(0);
	libcrypto_fail(0);
	FUZZ_MUST(result == S_OK || result == E_INVALIDARG || result == E_OUTOFMEMORY);
	if (SUCCEEDED(result))
		FUZZ_MUST(strcmp(draft.identity.name, guest.name) == 0 && draft.key != NULL &&
			draft.identity.certificate.bytes > 0);
	identity_draft_free(&draft);
	free(wide);
}

static void made_export(struct input *input)
{
	static const char *const roots[] = {
		"PEERIDENTITYEXPORT", "PEERIDENTITYEXPORT", "PEERIDENTITYEXPORT", "PEERINVITATION"};
	struct xml_writer writer = {.status = 0};
	uint8_t what = input_byte(input), failing = input_byte(input);
	PKCS12 *container = make_container(input);
	unsigned char *der = NULL;
	int bytes = container != NULL ? i2d_PKCS12(container, &der) : -1;
	size_t at;

	PKCS12_free(container);
	if (bytes <= 0)
		return;
	if (what & 8) {
		at = input_number(input, 2) % (uint32_t)bytes;
		der[at] = input_byte(input);
	}
	xml_open(&writer, roots[what & 3], what & 16 ? "2.0" : what & 32 ? NULL : "1.0");
	if (!(what & 4))
		xml_element(&writer, what & 64 ? "IDENTITY" : "PEERNAME",
			what & 128 ? issuer.name : guest.name);
	xml_base64(&writer, what & 64 ? "IDENTITYDATA" : "DATA", der, (size_t)bytes);
	xml_close(&writer, roots[what & 3]);
	FUZZ_MUST(writer.status == 0);
	import(writer.text, failing);
	free(writer.text);
	OPENSSL_free(der);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};

	if (identity == NULL)
		prepare();
	random_state = 8;
	switch (input_byte(&input) % 5) {
	case 0:
	case 1:
		signed_invitation(&input);
		break;
	case 2:
		written_invitation(&input);
		break;
	case 3:
		bent_identity(&input);
		break;
	default:
		made_export(&input);
		break;
	}
	return 0;
}
