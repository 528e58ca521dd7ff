/*
 * Shared by the tests of certificates and chains: a group with keys and certificates made by hand,
 * and X509 objects whose extensions and fields a test may bend before they are signed again.
 */
#ifndef PEERHUB_TESTS_CHAIN_FIXTURE_H
#define PEERHUB_TESTS_CHAIN_FIXTURE_H

#include "api/trust.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define NOW 1800000000ll /* the clock of these tests */
#define PEOPLE_MAX 26u

struct person {
	EVP_PKEY *key;
	char name[PH_NAME_BYTES_MAX];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
};

/* People and certificates are made by one test and freed together at its end. */
struct world {
	struct person group;
	struct person people[PEOPLE_MAX];
	X509 *made[256];
	uint32_t made_count;
};

static inline void person_of_key(struct person *person, EVP_PKEY *key, const char *classifier)
{
	char authority[PEER_AUTHORITY_BYTES];

	assert_non_null(key);
	person->key = key;
	assert_int_equal(key_spki(key, person->spki, &person->spki_bytes), 0);
	peer_authority_of_key(person->spki, person->spki_bytes, authority);
	assert_int_equal(peer_name_make(authority, classifier, person->name), 0);
}

static inline struct person *person(struct world *world, uint32_t index)
{
	assert_true(index < PEOPLE_MAX);
	if (world->people[index].key == NULL)
		person_of_key(&world->people[index], key_create(), "person");
	return &world->people[index];
}

static inline int world_setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	person_of_key(&world->group, key_create(), "group");
	*state = world;
	return 0;
}

static inline int world_teardown(void **state)
{
	struct world *world = *state;

	for (uint32_t index = 0; index < world->made_count; index++)
		X509_free(world->made[index]);
	for (uint32_t index = 0; index < PEOPLE_MAX; index++)
		EVP_PKEY_free(world->people[index].key);
	EVP_PKEY_free(world->group.key);
	free(world);
	return 0;
}

static inline X509 *keep(struct world *world, X509 *x509)
{
	assert_non_null(x509);
	assert_true(world->made_count < sizeof(world->made) / sizeof(world->made[0]));
	world->made[world->made_count++] = x509;
	return x509;
}

static inline X509 *issue(
	struct world *world, const struct certificate_request *request, EVP_PKEY *signer)
{
	X509 *x509;

	assert_int_equal(certificate_issue(request, signer, &x509), 0);
	return keep(world, x509);
}

static inline X509 *root_of(struct world *world, struct person *group)
{
	struct certificate_request request = {.kind = CERTIFICATE_GRC,
		.name = group->name,
		.group = group->name,
		.friendly_name = "The group",
		.valid_from_s = NOW - 1000,
		.valid_to_s = NOW + 1000000,
		.spki = group->spki,
		.spki_bytes = group->spki_bytes};

	return issue(world, &request, group->key);
}

static inline struct certificate_request member_request(
	struct world *world, struct person *subject, struct person *issuer, enum peer_role role)
{
	return (struct certificate_request){.kind = CERTIFICATE_GMC,
		.name = subject->name,
		.group = world->group.name,
		.issuer = issuer->name,
		.friendly_name = "Somebody",
		.role = role,
		.valid_from_s = NOW - 1000,
		.valid_to_s = NOW + 10000,
		.spki = subject->spki,
		.spki_bytes = subject->spki_bytes};
}

static inline X509 *member_of(
	struct world *world, struct person *subject, struct person *issuer, enum peer_role role)
{
	struct certificate_request request = member_request(world, subject, issuer, role);

	return issue(world, &request, issuer->key);
}

/* Sign anew after bending. */
static inline X509 *resign(X509 *x509, EVP_PKEY *key)
{
	const EVP_MD *digest = key_is_ed25519(key) ? NULL : EVP_sha256();

	assert_true(X509_sign(x509, key, digest) > 0);
	return x509;
}

static inline int extension_index(X509 *x509, const char *oid)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	int index = X509_get_ext_by_OBJ(x509, object, -1);

	ASN1_OBJECT_free(object);
	return index;
}

static inline void extension_drop(X509 *x509, const char *oid)
{
	int index = extension_index(x509, oid);

	assert_true(index >= 0);
	X509_EXTENSION_free(X509_delete_ext(x509, index));
}

static inline void extension_add(
	X509 *x509, const char *oid, int critical, const void *data, size_t bytes)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;

	assert_int_equal(ASN1_OCTET_STRING_set(value, data, (int)bytes), 1);
	extension = X509_EXTENSION_create_by_OBJ(NULL, object, critical, value);
	assert_int_equal(X509_add_ext(x509, extension, -1), 1);
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(object);
}

static inline void extension_replace(
	X509 *x509, const char *oid, int critical, const void *data, size_t bytes)
{
	extension_drop(x509, oid);
	extension_add(x509, oid, critical, data, bytes);
}

#define OID_KIND "1.3.6.1.4.1.311.44.0.1"
#define OID_VERSION "1.3.6.1.4.1.311.44.0.4"
#define OID_SUBJECT_NAME "2.5.29.17"
#define OID_ISSUER_NAME "2.5.29.18"
#define OID_GROUP_NAME "1.3.6.1.4.1.311.44.3.1"
#define OID_IDENTITY_FLAGS "1.3.6.1.4.1.311.44.2.2"
#define OID_GROUP_FLAGS "1.3.6.1.4.1.311.44.3.2"
#define OID_ROLES "1.3.6.1.4.1.311.44.3.3"
#define OID_CLASSIFIERS "1.3.6.1.4.1.311.44.3.5"
#define OID_AUTHORITY_KEY "2.5.29.35"
#define OID_KEY_USAGE "2.5.29.37"
#define OID_FRIENDLY_NAME "2.25.65306297556662368685046784727758577691"

#endif
