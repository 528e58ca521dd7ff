/*
 * Fuzzing what a peer or an invitation brings as certificates: one certificate, a PKCS #7 chain, the
 * judgement of both, the properties of a group, server names; as bytes, and as a chain that was made in
 * order (member, inviting member, administrator, root) and then bent in its fields and extensions and
 * signed again, so that only what the bending broke is refused.
 *
 * What must hold: a chain that proves something was built as it should have been.
 */
#include "api/der.h"
#include "api/pkcs7.h"
#include "api/properties.h"
#include "tests/fuzz/failing.h"
#include "tests/fuzz/group.h"
#include "tests/fuzz/libcrypto_memory.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define PEOPLE 4u /* the last one's key is Ed25519 */

static struct member group, people[PEOPLE];
/* Leaf first: people[0] by people[1] by people[2] by the group. */
static X509 *links[PEOPLE];
static X509 *identity;
static struct trust_cache *cache;

static void finish(void)
{
	for (uint32_t index = 0; index < PEOPLE; index++) {
		X509_free(links[index]);
		EVP_PKEY_free(people[index].key);
	}
	X509_free(identity);
	EVP_PKEY_free(group.key);
	trust_cache_destroy(cache);
}

static enum trust_status judge(X509 *const *chain, uint32_t count, uint8_t how);

static void prepare(void)
{
	X509 *missing[2] = {NULL, NULL};

	random_is_ours();
	random_state = 5;
	member_make(&group, false, "group");
	for (uint32_t index = 0; index < PEOPLE; index++)
		member_make(&people[index], index == PEOPLE - 1, "person");
	links[0] = member_certify(&people[0], &people[1], &group, ROLE_MEMBER);
	links[1] = member_certify(&people[1], &people[2], &group, ROLE_INVITING_MEMBER);
	links[2] = member_certify(&people[2], &group, &group, ROLE_ADMIN);
	links[3] = member_certify(&group, &group, &group, ROLE_GROUP);
	identity = member_certify(&people[3], &people[3], NULL, ROLE_NONE);
	cache = trust_cache_create();
	FUZZ_MUST(cache != NULL && atexit(finish) == 0);
	failing_set(1);
	FUZZ_MUST(trust_cache_create() == NULL);
	failing_set(0);
	trust_cache_destroy(NULL);
	missing[1] = links[3];
	FUZZ_MUST(judge(missing, 2, 1) == TRUST_REFUSED);
}

static enum trust_status judge(X509 *const *chain, uint32_t count, uint8_t how)
{
	struct trust_request request = {.now_s = GROUP_NOW_S,
		.any_time = how & 1,
		.group_authority = how & 2 ? people[0].name : NULL,
		.identity_authority = how & 4 ? people[1].name : NULL,
		.cache = how & 8 ? cache : NULL};
	struct trust_result result;
	char refusal[REFUSAL_BYTES], wanted[2][PEER_AUTHORITY_BYTES];
	enum trust_status status;

	/* The right ones as well. */
	if (how & 16) {
		FUZZ_MUST(peer_name_authority(group.name, wanted[0]) == 0);
		FUZZ_MUST(peer_name_authority(people[0].name, wanted[1]) == 0);
		request.group_authority = wanted[0];
		request.identity_authority = wanted[1];
	}
	status = trust_verify(chain, count, &request, &result, refusal);
	FUZZ_MUST((status == TRUST_OK) == (refusal[0] == '\0') || status == TRUST_NO_MEMORY);
	if (status == TRUST_OK) {
		FUZZ_MUST(
			peer_name_is_secure(result.group) && peer_name_is_secure(result.identity));
		FUZZ_MUST(result.role >= ROLE_MEMBER && result.role < ROLE_GROUP);
		FUZZ_MUST(result.link_count == count);
		FUZZ_MUST(request.any_time ||
			(result.valid_from_s <= GROUP_NOW_S && result.valid_to_s >= GROUP_NOW_S));
	}
	return status;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void as_certificate(const uint8_t *data, size_t bytes)
{
	X509 *x509;
	struct certificate_info info;
	struct group_properties properties;
	char refusal[REFUSAL_BYTES];
	X509 *chain[2];
	uint8_t *der;
	size_t der_bytes;

	if (certificate_from_der(data, bytes, &x509) < 0)
		return;
	chain[0] = chain[1] = x509;
	if (certificate_read(x509, &info, refusal) == 0)
		FUZZ_MUST(peer_name_is_secure(info.name));
	(void)judge(chain, 2, 1);
	(void)properties_unpack(data, bytes, x509, &properties);
	if (certificate_to_der(x509, &der, &der_bytes) == 0)
		OPENSSL_free(der);
	X509_free(x509);
}

static void as_chain(const uint8_t *data, size_t bytes)
{
	X509 *chain[PH_CHAIN_MAX];
	struct group_properties properties;
	uint32_t count;

	if (pkcs7_unpack(data, bytes, chain, PH_CHAIN_MAX, &count) < 0)
		return;
	(void)judge(chain, count, 1);
	(void)properties_unpack(data, bytes, chain[count - 1], &properties);
	pkcs7_free(chain, count);
}

static void as_server_name(const uint8_t *data, size_t bytes)
{
	char one[PEER_AUTHORITY_BYTES], two[PEER_AUTHORITY_BYTES];
	char text[PH_SNI_BYTES_MAX + 1], again[PEER_SNI_BYTES];

	if (bytes > PH_SNI_BYTES_MAX)
		return;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	if (peer_sni_parse(text, one, two) == 0)
		FUZZ_MUST(peer_authority_is_valid(two) &&
			(one[0] == '\0' || peer_authority_is_valid(one)));
	/* As a peer name, too. */
	if (peer_name_is_secure(text)) {
		FUZZ_MUST(peer_name_authority(text, one) == 0 && peer_name_is_valid(text));
		FUZZ_MUST(peer_name_same_authority(text, text));
		FUZZ_MUST(peer_classifier_is_valid(peer_name_classifier(text)));
		FUZZ_MUST(peer_sni_format(text, text, again) == 0);
		FUZZ_MUST(peer_sni_parse(again, one, two) == 0 && strcmp(one, two) == 0);
	} else {
		FUZZ_MUST(peer_name_authority(text, one) == -EINVAL);
		FUZZ_MUST(peer_sni_format(NULL, text, again) == -EINVAL);
		FUZZ_MUST(peer_sni_format(text, group.name, again) == -EINVAL);
		FUZZ_MUST(!peer_name_same_authority(text, group.name));
		(void)peer_name_classifier(text);
	}
	(void)peer_name_is_valid(text);
}

/* Names put together from two halves of the bytes. */
static void as_name(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	char *authority = input_text(&input, bytes > 40 ? 40 : bytes / 2);
	char *classifier = input_text(&input, input.left);
	char name[PH_NAME_BYTES_MAX];

	if (peer_name_make(authority, classifier, name) == 0)
		FUZZ_MUST(peer_name_is_valid(name) &&
			strcmp(peer_name_classifier(name), classifier) == 0);
	else
		FUZZ_MUST(!peer_authority_is_valid(authority) ||
			!peer_classifier_is_valid(classifier));
	FUZZ_MUST(peer_name_make(group.name, NULL, name) == -EINVAL); /* that is no authority */
	FUZZ_MUST(peer_name_make("0", NULL, name) == 0);
	FUZZ_MUST(peer_text_units(classifier) < 0 ||
		peer_text_fits(classifier, (size_t)peer_text_units(classifier)));
	free(authority);
	free(classifier);
}

/* DER values one after the other, written again as they were read. */
static void as_der(const uint8_t *data, size_t bytes)
{
	struct der_span span = {data, bytes}, content, again;
	struct der_writer writer = {.bytes = 0};
	const uint8_t *begin = span.data;
	uint8_t tag;

	while (der_take_any(&span, &tag, &content)) {
		size_t here = (size_t)(span.data - begin), at = writer.bytes;

		FUZZ_MUST(content.data + content.bytes == span.data);
		again = (struct der_span){begin, here};
		FUZZ_MUST(!der_take(&again, (uint8_t)(tag + 1), &content) && again.data == begin);
		FUZZ_MUST(der_take(&again, tag, &content) && again.bytes == 0);
		if (tag & 1) {
			der_put_value(&writer, tag, content.data, content.bytes);
		} else {
			der_put(&writer, content.data, content.bytes);
			der_wrap(&writer, at, tag);
		}
		if (writer.overflow)
			break;
		FUZZ_MUST(writer.bytes - at == here && memcmp(writer.data + at, begin, here) == 0);
		begin = span.data;
	}
}

static void as_key(const uint8_t *data, size_t bytes)
{
	EVP_PKEY *key;
	size_t bits;
	bool is_ed25519;
	int status = key_from_der(data, bytes, &key);

	if (key_spki_is_valid(data, bytes))
		FUZZ_MUST(key_spki_bits(data, bytes, &bits, &is_ed25519) != NULL &&
			bits == (is_ed25519 ? 32 : 65));
	FUZZ_MUST(status == 0 ? key_is_allowed(key) : status == -EINVAL && key == NULL);
	EVP_PKEY_free(key);
}

/* ---- bent and signed again -------------------------------------------------------------------- */

static X509 *copy(X509 *x509)
{
	X509 *made = X509_dup(x509);

	FUZZ_MUST(made != NULL);
	return made;
}

/* Written and read with memory running out, and as the engine's callback gets it. */
static void through_der(X509 **chain, uint32_t count, struct input *input)
{
	struct trust_request request = {.any_time = true, .cache = cache};
	struct trust_result result;
	struct ph_chain given = {.count = count < PH_CHAIN_MAX ? count : PH_CHAIN_MAX};
	X509 *read[PH_CHAIN_MAX];
	char refusal[REFUSAL_BYTES];
	uint8_t *der[PH_CHAIN_MAX] = {NULL}, *packed;
	size_t bytes;
	uint32_t got;

	libcrypto_fail(input_byte(input));
	if (pkcs7_pack(chain, count, &packed, &bytes) == 0) {
		libcrypto_fail(input_number(input, 2) % 2000);
		if (pkcs7_unpack(packed, bytes, read, PH_CHAIN_MAX, &got) == 0)
			pkcs7_free(read, got);
		OPENSSL_free(packed);
	}
	libcrypto_fail(input_byte(input) % 8);
	for (uint32_t index = 0; index < given.count; index++) {
		given.x509[index] = chain[index];
		if (certificate_to_der(chain[index], &der[index], &bytes) < 0)
			given.count = index;
		else
			given.der[index] = (struct ph_bytes){der[index], bytes};
	}
	libcrypto_fail(0);
	(void)trust_verify_chain(&given, &request, &result, refusal);
	for (uint32_t index = 0; index < given.count; index++)
		OPENSSL_free(der[index]);
}

/* A certificate with any content that may be asked for. */
static void issued(struct input *input)
{
	uint8_t what = input_byte(input);
	char *name = what & 1 ? input_text(input, input_byte(input)) : NULL;
	char *friendly = what & 2 ? input_text(input, input_byte(input)) : NULL;
	struct certificate_request request = {
		.kind = (enum certificate_kind)(1 + input_byte(input) % 4),
		.name = name != NULL ? name : people[what >> 6].name,
		.friendly_name = friendly,
		.group = what & 8 ? people[1].name : group.name,
		.issuer = what & 16 ? group.name : people[1].name,
		.role = (enum peer_role)(input_byte(input) % 6),
		.valid_from_s = (int64_t)input_number(input, 4) * (what & 32 ? 1000 : 1),
		.valid_to_s = (int64_t)input_number(input, 4) * (what & 32 ? 1000 : 1),
		.spki = people[what >> 6].spki,
		.spki_bytes = people[what >> 6].spki_bytes,
	};
	const struct member *signer = request.kind == CERTIFICATE_GMC && (what & 16)
		? &group
		: &people[request.kind == CERTIFICATE_GMC ? 1 : what >> 6];
	struct certificate_info info;
	char refusal[REFUSAL_BYTES];
	X509 *x509;

	libcrypto_fail(input_number(input, 2) % 1500);
	if (certificate_issue(&request, signer->key, &x509) == 0) {
		if (certificate_read(x509, &info, refusal) == 0) {
			FUZZ_MUST(
				info.kind == request.kind && strcmp(info.name, request.name) == 0);
			FUZZ_MUST(
				strcmp(info.friendly_name, friendly != NULL ? friendly : "") == 0);
		}
		X509_free(x509);
	}
	libcrypto_fail(0);
	FUZZ_MUST(role_name(request.role)[0] != '\0');
	(void)role_may_issue(request.role, (enum peer_role)(what % 6));
	free(name);
	free(friendly);
}

/* Links taken in the input's order, each bent or not and signed by whom the input says. */
static void bent_chain(struct input *input)
{
	X509 *chain[PH_CHAIN_MAX + 2];
	uint8_t how = input_byte(input), shape = input_byte(input);
	uint32_t count = shape == 0 ? PEOPLE : 1u + shape % (PH_CHAIN_MAX + 2);
	bool is_bent = false;
	uint8_t *der;
	size_t der_bytes;

	for (uint32_t index = 0; index < count; index++) {
		uint8_t what = input_byte(input);
		uint32_t which = what & 128 ? what % 5u : index < PEOPLE ? index : PEOPLE - 1;
		const struct member *issuer = which + 1 < PEOPLE - 1 ? &people[which + 1]
			: which == 4				     ? &people[3]
								     : &group;

		chain[index] = copy(which == 4 ? identity : links[which]);
		is_bent = is_bent || which != index;
		for (int bends = what >> 5 & 3; bends > 0; bends--) {
			uint8_t where = input_byte(input);

			is_bent = true;
			if (where & 1)
				extension_bend(chain[index], input);
			else
				field_bend(chain[index], input, &people[where % PEOPLE]);
			if (where & 64)
				issuer = where & 128 ? &group : &people[where >> 1 & 3];
		}
		if (what & 96)
			member_sign(chain[index], issuer);
	}
	/* Through DER, as they come. */
	if (how & 32) {
		if (pkcs7_pack(chain, count, &der, &der_bytes) == 0) {
			as_chain(der, der_bytes);
			OPENSSL_free(der);
		}
	}
	for (uint32_t index = 0; index < count; index++) {
		struct certificate_info info;
		char refusal[REFUSAL_BYTES];

		(void)certificate_read(chain[index], &info, refusal);
	}
	failing_set(how & 64 ? input_byte(input) : 0);
	libcrypto_fail(how & 128 ? input_number(input, 2) % 1500 : 0);
	if (judge(chain, count, how & 31) != TRUST_OK)
		FUZZ_MUST(is_bent || count != PEOPLE || (how & 6) || (how & 192));
	failing_set(0);
	if (how & 128)
		through_der(chain, count, input);
	libcrypto_fail(0);
	pkcs7_free(chain, count);
}

/* ---- properties --------------------------------------------------------------------------------- */

static void take(struct input *input, char *text, size_t room)
{
	char *taken = input_text(input, input_byte(input));

	snprintf(text, room, "%s", taken);
	free(taken);
}

static bool is_same(const struct group_properties *one, const struct group_properties *other)
{
	return one->sequence == other->sequence && one->flags == other->flags &&
		one->member_data_lifetime_s == other->member_data_lifetime_s &&
		one->presence_lifetime_s == other->presence_lifetime_s &&
		one->authentication_schemes == other->authentication_schemes &&
		strcmp(one->group, other->group) == 0 &&
		strcmp(one->creator, other->creator) == 0 &&
		strcmp(one->cloud, other->cloud) == 0 &&
		strcmp(one->classifier, other->classifier) == 0 &&
		strcmp(one->friendly_name, other->friendly_name) == 0 &&
		strcmp(one->comment, other->comment) == 0;
}

/* Packed in order and read back; or fields of the input's own under a good signature. */
static void as_properties(struct input *input)
{
	struct group_properties properties, again;
	struct store_bytes packed;
	uint8_t what = input_byte(input), *signature;
	size_t signature_bytes, at, bytes;
	const uint8_t *taken;
	int status;

	group_properties_init(&properties);
	snprintf(properties.group, sizeof(properties.group), "%s", group.name);
	snprintf(properties.creator, sizeof(properties.creator), "%s", people[0].name);
	if (what & 1)
		take(input, properties.friendly_name, sizeof(properties.friendly_name));
	if (what & 2)
		take(input, properties.comment, sizeof(properties.comment));
	if (what & 4)
		take(input, properties.classifier, sizeof(properties.classifier));
	if (what & 8)
		take(input, properties.cloud, sizeof(properties.cloud));
	if (what & 16) {
		properties.flags = input_number(input, 4);
		properties.member_data_lifetime_s = input_number(input, 4);
		properties.presence_lifetime_s = input_number(input, 4);
		properties.authentication_schemes = input_number(input, 4);
	}
	if (what & 32)
		take(input, properties.creator, sizeof(properties.creator));
	(void)group_cloud_check(properties.cloud);
	failing_set(what & 64 ? input_byte(input) : 0);
	status = properties_pack(&properties, group.key, &packed);
	failing_set(0);
	if (status < 0)
		return;
	if (what & 128) {
		/* Bent, and signed once more. */
		EVP_PKEY *key = group.key;

		bytes = packed.bytes - 72 < packed.bytes ? packed.bytes - 72 : packed.bytes;
		at = input_number(input, 2) % bytes;
		taken = input_take(input, bytes - at < 40 ? bytes - at : 40, &signature_bytes);
		if (signature_bytes > 0)
			memcpy(packed.data + at, taken, signature_bytes);
		bytes -= input_byte(input) % bytes;
		FUZZ_MUST(key_sign(key, packed.data, bytes, &signature, &signature_bytes) == 0);
		packed.data = realloc(packed.data, bytes + signature_bytes);
		FUZZ_MUST(packed.data != NULL);
		memcpy(packed.data + bytes, signature, signature_bytes);
		packed.bytes = bytes + signature_bytes;
		OPENSSL_free(signature);
	}
	status = properties_unpack(packed.data, packed.bytes, links[PEOPLE - 1], &again);
	if (status == 0)
		FUZZ_MUST(SUCCEEDED(properties_check(&again)) &&
			((what & 128) || is_same(&properties, &again)));
	else
		FUZZ_MUST(what != 0);
	store_bytes_free(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	uint8_t mode = input_byte(&input);

	if (identity == NULL)
		prepare();
	random_state = 6;
	switch (mode % 4) {
	case 0:
		failing_set(mode >> 4);
		as_certificate(input.at, input.left);
		as_chain(input.at, input.left);
		as_server_name(input.at, input.left);
		as_key(input.at, input.left);
		as_name(input.at, input.left);
		as_der(input.at, input.left);
		failing_set(0);
		break;
	case 3:
		as_properties(&input);
		break;
	case 2:
		if (mode & 4) {
			issued(&input);
			break;
		}
		bent_chain(&input);
		break;
	default:
		bent_chain(&input);
		break;
	}
	return 0;
}
