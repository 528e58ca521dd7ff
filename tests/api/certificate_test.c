/* Certificates: what is made can be read and says what was asked for; nothing bent gets through. */
#include "api/certificate.h"
#include "api/der.h"
#include "api/pkcs7.h"

#include "chain_fixture.h"

#include <openssl/err.h>

static void read_back(X509 *x509, struct certificate_info *info)
{
	char refusal[REFUSAL_BYTES];

	if (certificate_read(x509, info, refusal) < 0)
		fail_msg("refused: %s", refusal);
	assert_string_equal(refusal, "");
}

static X509 *identity_of(struct world *world, struct person *person, const char *friendly_name)
{
	struct certificate_request request = {.kind = CERTIFICATE_IDC,
		.name = person->name,
		.friendly_name = friendly_name,
		.valid_from_s = NOW,
		.valid_to_s = NOW + CERTIFICATE_LIFETIME_MAX_S,
		.spki = person->spki,
		.spki_bytes = person->spki_bytes};

	return issue(world, &request, person->key);
}

/* ---- the three kinds ---------------------------------------------------------------------- */

static void identity_certificate(void **state)
{
	struct world *world = *state;
	struct person *someone = person(world, 0);
	X509 *x509 = identity_of(world, someone, "Fr\xc3\xa4nk");
	struct certificate_info info;
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
	char name[128];

	read_back(x509, &info);
	assert_int_equal(info.kind, CERTIFICATE_IDC);
	assert_string_equal(info.name, someone->name);
	assert_string_equal(info.friendly_name, "Fr\xc3\xa4nk");
	assert_string_equal(info.group, "");
	assert_string_equal(info.issuer, "");
	assert_int_equal(info.role, ROLE_NONE);
	assert_int_equal(info.valid_from_s, NOW);
	assert_int_equal(info.valid_to_s, NOW + CERTIFICATE_LIFETIME_MAX_S); /* the year 3027 */
	assert_memory_equal(info.spki, someone->spki, someone->spki_bytes);
	assert_int_equal(certificate_verify(x509, x509), 0);
	assert_int_equal(ASN1_STRING_length(serial), 16);
	assert_true(X509_NAME_get_text_by_NID(
			    X509_get_subject_name(x509), NID_commonName, name, sizeof(name)) == 40);
	assert_memory_equal(name, someone->name, 40);
}

static void group_and_member_certificates(void **state)
{
	struct world *world = *state;
	X509 *root = root_of(world, &world->group);
	X509 *admin = member_of(world, person(world, 0), &world->group, ROLE_ADMIN);
	X509 *member = member_of(world, person(world, 1), person(world, 0), ROLE_MEMBER);
	struct certificate_info info;

	read_back(root, &info);
	assert_int_equal(info.kind, CERTIFICATE_GRC);
	assert_int_equal(info.role, ROLE_GROUP);
	assert_string_equal(info.name, world->group.name);
	assert_string_equal(info.group, world->group.name);
	assert_string_equal(info.friendly_name, "The group");
	read_back(admin, &info);
	assert_int_equal(info.kind, CERTIFICATE_GMC);
	assert_int_equal(info.role, ROLE_ADMIN);
	assert_false(info.has_classifiers);
	assert_string_equal(info.issuer, world->group.name);
	assert_memory_equal(info.issuer_authority, world->group.name, 40);
	assert_int_equal(certificate_verify(admin, root), 0);
	assert_int_equal(certificate_verify(admin, admin), -EINVAL);
	read_back(member, &info);
	assert_int_equal(info.role, ROLE_MEMBER);
	assert_true(info.has_classifiers);
	assert_string_equal(info.issuer, person(world, 0)->name);
	assert_int_equal(certificate_verify(member, admin), 0);
	assert_int_equal(certificate_verify(member, root), -EINVAL);
}

/* The longest names and texts there may be. */
static void longest_texts_fit(void **state)
{
	struct world *world = *state;
	char classifier[150 * 3], friendly_name[256 * 3];
	struct person *someone = &world->people[0];
	struct certificate_info info;
	struct certificate_request request;

	for (int index = 0; index < 149; index++)
		memcpy(classifier + 3 * index, "\xe2\x82\xac", 3);
	classifier[3 * 149] = '\0';
	for (int index = 0; index < 255; index++)
		memcpy(friendly_name + 3 * index, "\xe2\x82\xac", 3);
	friendly_name[3 * 255] = '\0';
	person_of_key(someone, key_create(), classifier);
	read_back(identity_of(world, someone, friendly_name), &info);
	assert_string_equal(info.name, someone->name);
	assert_string_equal(info.friendly_name, friendly_name);
	EVP_PKEY_free(world->group.key);
	person_of_key(&world->group, key_create(), classifier);
	request = member_request(world, someone, &world->group, ROLE_INVITING_MEMBER);
	request.friendly_name = friendly_name;
	read_back(issue(world, &request, world->group.key), &info);
	assert_string_equal(info.group, world->group.name);
	assert_string_equal(info.issuer, world->group.name);
}

static void ed25519_is_read_and_made(void **state)
{
	struct world *world = *state;
	struct certificate_info info;
	X509 *x509;

	person_of_key(&world->people[0], EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "ed");
	x509 = identity_of(world, &world->people[0], NULL);
	read_back(x509, &info);
	assert_int_equal(info.spki_bytes, 44);
	assert_int_equal(certificate_verify(x509, x509), 0);
}

/* ---- requests that cannot be met ----------------------------------------------------------- */

static void requests_are_checked(void **state)
{
	struct world *world = *state;
	struct person *someone = person(world, 0);
	EVP_PKEY *rsa = EVP_RSA_gen(1024);
	struct certificate_request good =
		member_request(world, someone, &world->group, ROLE_MEMBER);
	struct certificate_request request;
	char text[260];
	X509 *x509;

#define refuses(change, signer)                                                        \
	do {                                                                           \
		request = good;                                                        \
		change;                                                                \
		assert_int_equal(certificate_issue(&request, signer, &x509), -EINVAL); \
		assert_null(x509);                                                     \
	} while (0)
	memset(text, 'x', sizeof(text));
	text[256] = '\0';
	refuses(request.name = "0.x", world->group.key);
	refuses(request.group = "x", world->group.key);
	refuses(request.issuer = "x", world->group.key);
	refuses(request.role = ROLE_NONE, world->group.key);
	refuses(request.role = ROLE_GROUP, world->group.key);
	refuses(request.friendly_name = text, world->group.key);
	refuses(request.friendly_name = "\xff", world->group.key);
	refuses(request.valid_to_s = request.valid_from_s - 1, world->group.key);
	refuses(request.spki_bytes = 20, world->group.key);
	refuses(request.name = request.name, rsa);
#undef refuses
	assert_int_equal(certificate_issue(&good, world->group.key, &x509), 0);
	X509_free(x509);
	EVP_PKEY_free(rsa);
}

/* A key of the right form that is no point of the curve. */
static void point_off_the_curve(void **state)
{
	struct world *world = *state;
	struct certificate_request request =
		member_request(world, person(world, 0), &world->group, ROLE_MEMBER);
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	X509 *x509;

	memcpy(spki, request.spki, request.spki_bytes);
	spki[60] ^= 1;
	request.spki = spki;
	assert_int_equal(certificate_issue(&request, world->group.key, &x509), -EINVAL);
}

/* ---- bent certificates --------------------------------------------------------------------- */

static void expect_refusal(X509 *x509, const char *part)
{
	struct certificate_info info;
	char refusal[REFUSAL_BYTES];

	assert_int_equal(certificate_read(x509, &info, refusal), -EINVAL);
	if (strstr(refusal, part) == NULL)
		fail_msg("refusal \"%s\" lacks \"%s\"", refusal, part);
}

static X509 *fresh(struct world *world)
{
	return member_of(world, person(world, 1), person(world, 0), ROLE_MEMBER);
}

static void every_extension_is_needed(void **state)
{
	static const char *const oids[] = {OID_KIND, OID_VERSION, OID_SUBJECT_NAME, OID_ISSUER_NAME,
		OID_GROUP_NAME, OID_GROUP_FLAGS, OID_ROLES, OID_CLASSIFIERS, OID_AUTHORITY_KEY,
		OID_KEY_USAGE};
	struct world *world = *state;

	for (size_t index = 0; index < sizeof(oids) / sizeof(oids[0]); index++) {
		X509 *x509 = fresh(world);

		extension_drop(x509, oids[index]);
		expect_refusal(x509, index == 0 ? "missing" : "without extension");
	}
}

static void foreign_extensions(void **state)
{
	struct world *world = *state;
	struct certificate_info info;
	X509 *x509 = fresh(world);
	uint8_t zero[4] = {0};

	extension_add(x509, "1.2.3.4.5", 0, "\x05\x00", 2);
	read_back(x509, &info); /* unknown, but not critical */
	extension_add(x509, "1.2.3.4.6", 1, "\x05\x00", 2);
	expect_refusal(x509, "unknown critical");
	x509 = fresh(world);
	extension_add(x509, OID_IDENTITY_FLAGS, 1, zero, 4);
	expect_refusal(x509, "with extension identity flags");
	x509 = fresh(world);
	extension_add(x509, OID_GROUP_FLAGS, 1, zero, 4);
	expect_refusal(x509, "two extensions");
	x509 = fresh(world);
	for (int index = 0; index < 40; index++) {
		char oid[32];

		(void)!snprintf(oid, sizeof(oid), "1.2.3.5.%d", index);
		extension_add(x509, oid, 0, "\x05\x00", 2);
	}
	expect_refusal(x509, "too many extensions");
}

static void peer_extensions_are_critical(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);
	uint8_t zero[4] = {0};

	extension_replace(x509, OID_GROUP_FLAGS, 0, zero, 4);
	expect_refusal(x509, "not critical");
}

static void numbers_are_exact(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);

	extension_replace(x509, OID_GROUP_FLAGS, 1, "\1\0\0\0", 4);
	expect_refusal(x509, "group flags is malformed");
	x509 = fresh(world);
	extension_replace(x509, OID_GROUP_FLAGS, 1, "\0\0\0\0\0", 5);
	expect_refusal(x509, "group flags is malformed");
	x509 = fresh(world);
	extension_replace(x509, OID_KIND, 1, "\4\0\0\0", 4);
	expect_refusal(x509, "kind is malformed");
	x509 = fresh(world);
	extension_replace(x509, OID_KIND, 1, "\2\0\0\0", 4);
	expect_refusal(x509, "group root certificate with extension");
	x509 = fresh(world);
	extension_replace(x509, OID_VERSION, 1, "\0\2\0\2", 4);
	expect_refusal(x509, "version is malformed");
}

static void roles_are_known(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);
	uint8_t roles[80] = {0};

	extension_replace(x509, OID_ROLES, 1, roles, 16);
	expect_refusal(x509, "roles is malformed");
	x509 = fresh(world);
	extension_replace(x509, OID_ROLES, 1, roles, 0);
	expect_refusal(x509, "roles is malformed");
	x509 = fresh(world);
	extension_replace(x509, OID_ROLES, 1, roles, 15);
	expect_refusal(x509, "roles is malformed");
	x509 = fresh(world);
	extension_replace(x509, OID_ROLES, 1, roles, 80);
	expect_refusal(x509, "roles is malformed");
}

/* An administrator has no classifiers, everybody else has the one. */
static void classifiers_fit_the_role(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);

	extension_replace(x509, OID_CLASSIFIERS, 1, "\x30\x00", 2);
	expect_refusal(x509, "classifiers do not fit");
	x509 = fresh(world);
	extension_replace(x509, OID_CLASSIFIERS, 1, "\x30\x07\x0c\x05other", 9);
	expect_refusal(x509, "classifiers is malformed");
	x509 = member_of(world, person(world, 0), &world->group, ROLE_ADMIN);
	extension_replace(x509, OID_CLASSIFIERS, 1, "\x30\x0d\x0c\x0bparticipant", 15);
	expect_refusal(x509, "classifiers do not fit");
}

static void alternative_name(struct der_writer *writer, const char *name, size_t bytes)
{
	static const uint8_t oid[] = {0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x2c, 0, 2};
	size_t begin;

	memset(writer, 0, sizeof(*writer));
	der_put_value(writer, DER_OID, oid, sizeof(oid));
	begin = writer->bytes;
	der_put_value(writer, DER_UTF8, name, bytes);
	der_wrap(writer, begin, DER_CONTEXT_CONSTRUCTED(0));
	der_wrap(writer, 0, DER_CONTEXT_CONSTRUCTED(0));
}

static void alternative_names_are_strict(void **state)
{
	struct world *world = *state;
	struct person *someone = person(world, 1);
	struct certificate_info info;
	struct der_writer writer;
	char longest[900];
	X509 *x509 = fresh(world);

	/* Somebody else's name: the key gives it away. */
	alternative_name(&writer, person(world, 5)->name, strlen(person(world, 5)->name));
	der_wrap(&writer, 0, DER_SEQUENCE);
	extension_replace(x509, OID_SUBJECT_NAME, 1, writer.data, writer.bytes);
	expect_refusal(x509, "not the one its name stands for");
	/* NUL inside. */
	x509 = fresh(world);
	memcpy(longest, someone->name, 41);
	memcpy(longest + 41, "a\0b", 3);
	alternative_name(&writer, longest, 44);
	der_wrap(&writer, 0, DER_SEQUENCE);
	extension_replace(x509, OID_SUBJECT_NAME, 1, writer.data, writer.bytes);
	expect_refusal(x509, "subject alternative name is malformed");
	/* Longer than any name. */
	x509 = fresh(world);
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, someone->name, 41);
	alternative_name(&writer, longest, sizeof(longest));
	der_wrap(&writer, 0, DER_SEQUENCE);
	extension_replace(x509, OID_SUBJECT_NAME, 1, writer.data, writer.bytes);
	expect_refusal(x509, "subject alternative name is malformed");
	/* None. */
	x509 = fresh(world);
	extension_replace(x509, OID_SUBJECT_NAME, 1, "\x30\x00", 2);
	expect_refusal(x509, "subject alternative name is malformed");
	/* Bytes behind it. */
	x509 = fresh(world);
	alternative_name(&writer, someone->name, strlen(someone->name));
	der_wrap(&writer, 0, DER_SEQUENCE);
	der_put(&writer, "\0", 1);
	extension_replace(x509, OID_SUBJECT_NAME, 1, writer.data, writer.bytes);
	expect_refusal(x509, "subject alternative name is malformed");
	/* A DNS form beside it is fine. */
	x509 = fresh(world);
	alternative_name(&writer, someone->name, strlen(someone->name));
	der_put_value(&writer, DER_CONTEXT(2), "a.example", 9);
	der_wrap(&writer, 0, DER_SEQUENCE);
	extension_replace(x509, OID_SUBJECT_NAME, 1, writer.data, writer.bytes);
	read_back(x509, &info);
}

static void usage_is_complete(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);

	extension_replace(x509, OID_KEY_USAGE, 0,
		"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01", 12); /* serverAuth alone */
	expect_refusal(x509, "extended key usage is malformed");
}

static void friendly_names_are_bounded(void **state)
{
	struct world *world = *state;
	struct der_writer writer = {.bytes = 0};
	char text[300];
	X509 *x509 = fresh(world);

	memset(text, 'x', sizeof(text));
	der_put_value(&writer, DER_UTF8, text, 256);
	extension_replace(x509, OID_FRIENDLY_NAME, 0, writer.data, writer.bytes);
	expect_refusal(x509, "friendly name is malformed");
}

static void fields_are_strict(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);
	BIGNUM *number = NULL;

	assert_int_equal(X509_set_version(x509, X509_VERSION_1), 1);
	expect_refusal(x509, "version 3");
	x509 = fresh(world);
	assert_true(BN_hex2bn(&number, "0101010101010101010101010101010101") > 0); /* 17 bytes */
	assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)));
	expect_refusal(x509, "serial number");
	assert_true(BN_hex2bn(&number, "-5") > 0);
	assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)));
	expect_refusal(x509, "serial number");
	BN_free(number);
	x509 = fresh(world);
	assert_non_null(ASN1_TIME_set(X509_getm_notAfter(x509), NOW - 5000));
	expect_refusal(x509, "validity period");
}

static void keys_of_other_kinds(void **state)
{
	struct world *world = *state;
	EVP_PKEY *rsa = EVP_RSA_gen(2048);
	EVP_PKEY *curve = EVP_EC_gen("P-384");
	EVP_PKEY *compressed = EVP_EC_gen("P-256");
	X509 *x509 = fresh(world);

	assert_int_equal(X509_set_pubkey(x509, rsa), 1);
	expect_refusal(x509, "neither P-256 nor Ed25519");
	assert_int_equal(X509_set_pubkey(x509, curve), 1);
	expect_refusal(x509, "neither P-256 nor Ed25519");
	assert_int_equal(
		EVP_PKEY_set_utf8_string_param(compressed, "point-format", "compressed"), 1);
	assert_int_equal(X509_set_pubkey(x509, compressed), 1);
	expect_refusal(x509, "neither P-256 nor Ed25519");
	x509 = fresh(world);
	assert_true(X509_sign(x509, rsa, EVP_sha256()) > 0);
	expect_refusal(x509, "signature algorithm");
	assert_true(X509_sign(x509, world->group.key, EVP_sha384()) > 0);
	expect_refusal(x509, "signature algorithm");
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(curve);
	EVP_PKEY_free(compressed);
}

/* ---- containers ------------------------------------------------------------------------- */

static void der_is_exact(void **state)
{
	struct world *world = *state;
	X509 *x509 = fresh(world);
	uint8_t *der, *more;
	size_t bytes;
	X509 *again;

	assert_int_equal(certificate_to_der(x509, &der, &bytes), 0);
	assert_int_equal(certificate_from_der(der, bytes, &again), 0);
	assert_int_equal(X509_cmp(again, x509), 0);
	X509_free(again);
	assert_int_equal(certificate_from_der(der, bytes - 1, &again), -EINVAL);
	assert_null(again);
	more = calloc(1, bytes + 1);
	memcpy(more, der, bytes);
	assert_int_equal(certificate_from_der(more, bytes + 1, &again), -EINVAL);
	assert_null(again);
	assert_int_equal(certificate_from_der(der, 0, &again), -EINVAL);
	assert_int_equal(certificate_from_der(der, CERTIFICATE_DER_BYTES_MAX + 1, &again), -EINVAL);
	assert_int_equal(ERR_peek_error(), 0);
	free(more);
	OPENSSL_free(der);
}

static void pkcs7_keeps_the_order(void **state)
{
	struct world *world = *state;
	X509 *chain[3] = {fresh(world),
		member_of(world, person(world, 0), &world->group, ROLE_ADMIN),
		root_of(world, &world->group)};
	X509 *got[3];
	uint32_t count;
	uint8_t *der;
	size_t bytes;

	assert_int_equal(pkcs7_pack(chain, 3, &der, &bytes), 0);
	assert_int_equal(pkcs7_unpack(der, bytes, got, 3, &count), 0);
	assert_int_equal(count, 3);
	for (uint32_t index = 0; index < 3; index++)
		assert_int_equal(X509_cmp(chain[index], got[index]), 0);
	pkcs7_free(got, count);
	assert_int_equal(pkcs7_unpack(der, bytes, got, 2, &count), -E2BIG);
	assert_int_equal(pkcs7_unpack(der, bytes - 1, got, 3, &count), -EINVAL);
	assert_int_equal(pkcs7_unpack((const uint8_t *)"\x30\x00", 2, got, 3, &count), -EINVAL);
	assert_int_equal(pkcs7_unpack(der, 0, got, 3, &count), -EINVAL);
	OPENSSL_free(der);
	assert_int_equal(pkcs7_pack(chain, 0, &der, &bytes), 0);
	assert_int_equal(pkcs7_unpack(der, bytes, got, 3, &count), -EINVAL);
	OPENSSL_free(der);
}

static void keys_as_bytes(void **state)
{
	EVP_PKEY *key = key_create();
	EVP_PKEY *rsa = EVP_RSA_gen(1024);
	EVP_PKEY *again;
	uint8_t *der;
	size_t bytes;

	(void)state;
	assert_int_equal(key_to_der(key, &der, &bytes), 0);
	assert_int_equal(key_from_der(der, bytes, &again), 0);
	assert_int_equal(EVP_PKEY_eq(key, again), 1);
	EVP_PKEY_free(again);
	assert_int_equal(key_from_der(der, bytes - 1, &again), -EINVAL);
	assert_null(again);
	assert_int_equal(key_from_der(der, 0, &again), -EINVAL);
	assert_int_equal(key_from_der(der, KEY_DER_BYTES_MAX + 1, &again), -EINVAL);
	key_der_free(der, bytes);
	assert_int_equal(key_to_der(rsa, &der, &bytes), 0);
	assert_int_equal(key_from_der(der, bytes, &again), -EINVAL);
	key_der_free(der, bytes);
	EVP_PKEY_free(key);
	EVP_PKEY_free(rsa);
}

static void roles_issue_downwards(void **state)
{
	(void)state;
	for (enum peer_role role = ROLE_MEMBER; role <= ROLE_ADMIN; role++) {
		assert_true(role_may_issue(ROLE_GROUP, role));
		assert_true(role_may_issue(ROLE_ADMIN, role));
		assert_false(role_may_issue(ROLE_MEMBER, role));
		assert_false(role_may_issue(ROLE_NONE, role));
	}
	assert_true(role_may_issue(ROLE_INVITING_MEMBER, ROLE_MEMBER));
	assert_true(role_may_issue(ROLE_INVITING_MEMBER, ROLE_INVITING_MEMBER));
	assert_false(role_may_issue(ROLE_INVITING_MEMBER, ROLE_ADMIN));
	assert_false(role_may_issue(ROLE_GROUP, ROLE_GROUP));
	assert_false(role_may_issue(ROLE_GROUP, ROLE_NONE));
}

#define world_test(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(identity_certificate),
		world_test(group_and_member_certificates),
		world_test(longest_texts_fit),
		world_test(ed25519_is_read_and_made),
		world_test(requests_are_checked),
		world_test(point_off_the_curve),
		world_test(every_extension_is_needed),
		world_test(foreign_extensions),
		world_test(peer_extensions_are_critical),
		world_test(numbers_are_exact),
		world_test(roles_are_known),
		world_test(classifiers_fit_the_role),
		world_test(alternative_names_are_strict),
		world_test(usage_is_complete),
		world_test(friendly_names_are_bounded),
		world_test(fields_are_strict),
		world_test(keys_of_other_kinds),
		world_test(der_is_exact),
		world_test(pkcs7_keeps_the_order),
		cmocka_unit_test(keys_as_bytes),
		cmocka_unit_test(roles_issue_downwards),
	};

	return cmocka_run_group_tests_name("certificate", tests, NULL, NULL);
}
