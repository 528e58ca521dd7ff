/*
 * Chains: what a good one proves, and hostile ones, each refused for its own reason. The hostile
 * chains are signed as well as an attacker could sign them, so that the rule meant is the one that
 * refuses.
 */
#include "chain_fixture.h"

#include <openssl/err.h>
#include <pthread.h>

#define CHAIN_ROOM 30u

struct chain {
	X509 *x509[CHAIN_ROOM];
	uint32_t count;
};

static enum trust_status judge_as(const struct chain *chain, const struct trust_request *request,
	struct trust_result *result, char refusal[REFUSAL_BYTES])
{
	enum trust_status status =
		trust_verify(chain->x509, chain->count, request, result, refusal);

	assert_int_equal(ERR_peek_error(), 0);
	assert_true(strlen(refusal) < REFUSAL_BYTES);
	assert_int_equal(status == TRUST_OK, refusal[0] == '\0');
	return status;
}

static void expect_good(struct world *world, const struct chain *chain, struct trust_result *result)
{
	struct trust_request request = {.now_s = NOW};
	char authority[PEER_AUTHORITY_BYTES], refusal[REFUSAL_BYTES];

	assert_int_equal(peer_name_authority(world->group.name, authority), 0);
	request.group_authority = authority;
	if (judge_as(chain, &request, result, refusal) != TRUST_OK)
		fail_msg("refused: %s", refusal);
}

static void expect_bad(const struct chain *chain, const char *part)
{
	struct trust_request request = {.now_s = NOW};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];

	assert_int_equal(judge_as(chain, &request, &result, refusal), TRUST_REFUSED);
	if (strstr(refusal, part) == NULL)
		fail_msg("refusal \"%s\" lacks \"%s\"", refusal, part);
}

/* member <- inviting member <- administrator <- group */
static struct chain good_chain(struct world *world)
{
	return (struct chain){
		{member_of(world, person(world, 2), person(world, 1), ROLE_MEMBER),
			member_of(world, person(world, 1), person(world, 0), ROLE_INVITING_MEMBER),
			member_of(world, person(world, 0), &world->group, ROLE_ADMIN),
			root_of(world, &world->group)},
		4};
}

/* ---- good ones ---------------------------------------------------------------------------- */

static void good_chain_proves(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	struct trust_result result;

	expect_good(world, &chain, &result);
	assert_string_equal(result.group, world->group.name);
	assert_string_equal(result.identity, person(world, 2)->name);
	assert_int_equal(result.role, ROLE_MEMBER);
	assert_string_equal(result.leaf.issuer, person(world, 1)->name);
	assert_string_equal(result.issuer_friendly_name, "Somebody");
	assert_string_equal(result.group_friendly_name, "The group");
	assert_int_equal(result.link_count, 4);
	assert_memory_equal(result.links[0].authority, person(world, 2)->name, 40);
	assert_int_equal(result.links[1].role, ROLE_INVITING_MEMBER);
	assert_int_equal(result.links[2].role, ROLE_ADMIN);
	assert_int_equal(result.links[3].role, ROLE_GROUP);
	assert_int_equal(result.links[3].valid_to_s, NOW + 1000000);
	assert_int_equal(result.valid_from_s, NOW - 1000);
	assert_int_equal(result.valid_to_s, NOW + 10000);
}

static void shortest_chain(void **state)
{
	struct world *world = *state;
	struct chain chain = {{member_of(world, person(world, 0), &world->group, ROLE_ADMIN),
				      root_of(world, &world->group)},
		2};
	struct trust_result result;

	expect_good(world, &chain, &result);
	assert_int_equal(result.role, ROLE_ADMIN);
}

/* count - 1 administrators in a row, and the root. */
static struct chain long_chain(struct world *world, uint32_t count)
{
	struct chain chain = {.count = count};

	chain.x509[count - 1] = root_of(world, &world->group);
	for (uint32_t index = count - 1; index-- > 0;)
		chain.x509[index] = member_of(world, person(world, index),
			index == count - 2 ? &world->group : person(world, index + 1), ROLE_ADMIN);
	return chain;
}

static void longest_chain(void **state)
{
	struct world *world = *state;
	struct chain chain = long_chain(world, PH_CHAIN_MAX);
	struct trust_result result;

	expect_good(world, &chain, &result);
	assert_int_equal(result.link_count, PH_CHAIN_MAX);
}

static void ed25519_anywhere(void **state)
{
	struct world *world = *state;
	struct chain chain;
	struct trust_result result;

	person_of_key(&world->people[0], EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "ed");
	person_of_key(&world->people[2], EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "ed");
	chain = good_chain(world);
	expect_good(world, &chain, &result);
}

/* ---- expectations ------------------------------------------------------------------------- */

static void expected_names(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	char group[PEER_AUTHORITY_BYTES], identity[PEER_AUTHORITY_BYTES], refusal[REFUSAL_BYTES];
	struct trust_request request = {.now_s = NOW};
	struct trust_result result;

	assert_int_equal(peer_name_authority(world->group.name, group), 0);
	assert_int_equal(peer_name_authority(person(world, 2)->name, identity), 0);
	request.group_authority = group;
	request.identity_authority = identity;
	assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
	request.identity_authority = group;
	assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_REFUSED);
	assert_non_null(strstr(refusal, "not the identity"));
	request.identity_authority = "";
	request.group_authority = identity;
	assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_REFUSED);
	assert_non_null(strstr(refusal, "not the group"));
}

/* The same person in another group: a good chain, and not this group's. */
static void chain_of_another_group(void **state)
{
	struct world *world = *state;
	struct person ours = world->group;
	struct person other;
	struct chain chain;
	char authority[PEER_AUTHORITY_BYTES], refusal[REFUSAL_BYTES];
	struct trust_request request = {.now_s = NOW, .group_authority = authority};
	struct trust_result result;

	person_of_key(&other, key_create(), "group");
	assert_int_equal(peer_name_authority(ours.name, authority), 0);
	world->group = other;
	chain = good_chain(world);
	world->group = ours;
	assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_REFUSED);
	assert_non_null(strstr(refusal, "not the group"));
	EVP_PKEY_free(other.key);
}

/* ---- time ------------------------------------------------------------------------------- */

static void validity_of_each_link(void **state)
{
	struct world *world = *state;

	for (uint32_t link = 0; link < 4; link++) {
		struct chain chain = good_chain(world);
		EVP_PKEY *signer = link == 0 ? person(world, 1)->key
			: link == 1	     ? person(world, 0)->key
					     : world->group.key;
		struct trust_request request = {.now_s = NOW};
		struct trust_result result;
		char refusal[REFUSAL_BYTES];

		assert_non_null(ASN1_TIME_set(X509_getm_notAfter(chain.x509[link]), NOW - 1));
		resign(chain.x509[link], signer);
		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_TIME);
		assert_non_null(strstr(refusal, "expired"));
		request.any_time = true;
		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
		assert_int_equal(result.valid_to_s, NOW - 1);
		request.any_time = false;
		assert_non_null(ASN1_TIME_set(X509_getm_notAfter(chain.x509[link]), NOW));
		resign(chain.x509[link], signer);
		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
		assert_non_null(ASN1_TIME_set(X509_getm_notAfter(chain.x509[link]), NOW + 9));
		assert_non_null(ASN1_TIME_set(X509_getm_notBefore(chain.x509[link]), NOW + 1));
		resign(chain.x509[link], signer);
		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_TIME);
		assert_non_null(strstr(refusal, "not valid yet"));
	}
}

/* ---- shape ------------------------------------------------------------------------------- */

static void too_short(void **state)
{
	struct world *world = *state;
	struct chain chain = {{root_of(world, &world->group)}, 1};

	expect_bad(&chain, "needs a membership");
	chain.count = 0;
	expect_bad(&chain, "needs a membership");
}

static void too_long(void **state)
{
	struct world *world = *state;
	struct chain chain = long_chain(world, PH_CHAIN_MAX + 1);

	expect_bad(&chain, "more than 25");
}

static void root_is_missing(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	chain.count = 3;
	expect_bad(&chain, "not a group root");
}

static void swapped_order(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	X509 *kept = chain.x509[1];

	chain.x509[1] = chain.x509[2];
	chain.x509[2] = kept;
	expect_bad(&chain, "issuer name");
	chain = good_chain(world);
	kept = chain.x509[0];
	chain.x509[0] = chain.x509[3];
	chain.x509[3] = kept;
	expect_bad(&chain, "not a membership");
}

static void link_is_left_out(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	chain.x509[1] = chain.x509[2];
	chain.x509[2] = chain.x509[3];
	chain.count = 3;
	expect_bad(&chain, "issuer name");
}

static void link_is_doubled(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	chain.x509[4] = chain.x509[3];
	chain.x509[3] = chain.x509[2];
	chain.count = 5;
	expect_bad(&chain, "issuer name");
	chain.x509[2] = chain.x509[3] = chain.x509[4];
	expect_bad(&chain, "not a membership");
}

static void identity_certificate_as_leaf(void **state)
{
	struct world *world = *state;
	struct person *someone = person(world, 2);
	struct certificate_request request = {.kind = CERTIFICATE_IDC,
		.name = someone->name,
		.valid_from_s = NOW - 9,
		.valid_to_s = NOW + 9,
		.spki = someone->spki,
		.spki_bytes = someone->spki_bytes};
	struct chain chain = good_chain(world);

	chain.x509[0] = issue(world, &request, someone->key);
	expect_bad(&chain, "not a membership");
}

static void null_certificate(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	chain.x509[1] = NULL;
	expect_bad(&chain, "missing");
}

/* ---- names and keys ----------------------------------------------------------------------- */

/* An inviting member certifies its own key under the name of somebody else. */
static void own_key_under_anothers_name(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	struct certificate_request request =
		member_request(world, person(world, 2), person(world, 1), ROLE_MEMBER);

	request.spki = person(world, 1)->spki;
	chain.x509[0] = issue(world, &request, person(world, 1)->key);
	expect_bad(&chain, "not the one its name stands for");
}

/* Signed by a member who writes somebody else as the issuer. */
static void forged_issuer_name(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	struct certificate_request request =
		member_request(world, person(world, 2), person(world, 0), ROLE_MEMBER);

	chain.x509[0] = issue(world, &request, person(world, 1)->key);
	expect_bad(&chain, "issuer name");
}

/* The right issuer in the name, another in the issuer field. */
static void forged_issuer_field(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	assert_int_equal(
		X509_set_issuer_name(chain.x509[0], X509_get_subject_name(chain.x509[3])), 1);
	resign(chain.x509[0], person(world, 1)->key);
	expect_bad(&chain, "issuer field");
}

/* Another common name than the authority: a NUL with something behind it, a second entry, another key's. */
static void forged_common_name(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	X509_NAME *subject = X509_get_subject_name(chain.x509[0]);
	unsigned char text[46] = {0};

	assert_int_equal(peer_name_authority(person(world, 2)->name, (char *)text), 0);
	memcpy(text + 41, "evil", 4);
	X509_NAME_ENTRY_free(X509_NAME_delete_entry(subject, 0));
	assert_int_equal(X509_NAME_add_entry_by_NID(
				 subject, NID_commonName, V_ASN1_UTF8STRING, text, 45, -1, 0),
		1);
	resign(chain.x509[0], person(world, 1)->key);
	expect_bad(&chain, "common name");
	chain = good_chain(world);
	subject = X509_get_subject_name(chain.x509[0]);
	assert_int_equal(X509_NAME_add_entry_by_NID(subject, NID_commonName, V_ASN1_UTF8STRING,
				 (const unsigned char *)"evil", 4, -1, 0),
		1);
	resign(chain.x509[0], person(world, 1)->key);
	expect_bad(&chain, "common name");
	chain = good_chain(world);
	assert_int_equal(
		X509_set_subject_name(chain.x509[0], X509_get_subject_name(chain.x509[1])), 1);
	resign(chain.x509[0], person(world, 1)->key);
	expect_bad(&chain, "common name");
}

static void forged_authority_key(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	uint8_t value[24] = {0x30, 0x16, 0x80, 0x14};

	extension_replace(chain.x509[0], OID_AUTHORITY_KEY, 0, value, sizeof(value));
	resign(chain.x509[0], person(world, 1)->key);
	expect_bad(&chain, "authority key id");
}

/* A member of one group brings its issuer's chain of another. */
static void two_groups_in_one_chain(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	struct certificate_request request =
		member_request(world, person(world, 2), person(world, 1), ROLE_MEMBER);

	request.group = person(world, 9)->name;
	chain.x509[0] = issue(world, &request, person(world, 1)->key);
	expect_bad(&chain, "another group");
}

/* A made-up root of the same name, with another key. */
static void root_with_another_key(void **state)
{
	struct world *world = *state;
	struct person impostor = world->group;
	struct chain chain;
	struct certificate_request request = {.kind = CERTIFICATE_GRC,
		.name = world->group.name,
		.group = world->group.name,
		.valid_from_s = NOW - 9,
		.valid_to_s = NOW + 9};

	chain = good_chain(world);
	impostor.key = person(world, 7)->key;
	request.spki = person(world, 7)->spki;
	request.spki_bytes = person(world, 7)->spki_bytes;
	chain.x509[3] = issue(world, &request, impostor.key);
	expect_bad(&chain, "not the one its name stands for");
}

static void root_not_signed_by_itself(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	resign(chain.x509[3], person(world, 7)->key);
	expect_bad(&chain, "not signed by itself");
}

static void root_with_another_issuer(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	assert_int_equal(
		X509_set_issuer_name(chain.x509[3], X509_get_subject_name(chain.x509[0])), 1);
	resign(chain.x509[3], world->group.key);
	expect_bad(&chain, "issuer is not itself");
}

/* Two administrators who certify each other. */
static void circle(void **state)
{
	struct world *world = *state;
	struct chain chain = {
		{member_of(world, person(world, 0), person(world, 1), ROLE_ADMIN),
			member_of(world, person(world, 1), person(world, 0), ROLE_ADMIN),
			member_of(world, person(world, 0), &world->group, ROLE_ADMIN),
			root_of(world, &world->group)},
		4};

	expect_bad(&chain, "same key again");
}

static void own_issuer(void **state)
{
	struct world *world = *state;
	struct chain chain = {{member_of(world, person(world, 0), person(world, 0), ROLE_ADMIN),
				      member_of(world, person(world, 0), &world->group, ROLE_ADMIN),
				      root_of(world, &world->group)},
		3};

	expect_bad(&chain, "same key again");
}

/* The same key as another name: two classifiers, one authority. */
static void same_key_under_two_classifiers(void **state)
{
	struct world *world = *state;
	struct person twin = *person(world, 0);
	struct chain chain;

	assert_int_equal(EVP_PKEY_up_ref(twin.key), 1);
	person_of_key(&twin, twin.key, "twin");
	chain = (struct chain){
		{member_of(world, &twin, person(world, 0), ROLE_MEMBER),
			member_of(world, person(world, 0), &world->group, ROLE_ADMIN),
			root_of(world, &world->group)},
		3};
	expect_bad(&chain, "same key again");
	EVP_PKEY_free(twin.key);
}

/* The group's own key as a member. */
static void group_as_member(void **state)
{
	struct world *world = *state;
	struct chain chain = {{member_of(world, &world->group, &world->group, ROLE_ADMIN),
				      root_of(world, &world->group)},
		2};

	expect_bad(&chain, "same key again");
}

/* ---- roles ------------------------------------------------------------------------------- */

static void roles_beyond_the_issuers(void **state)
{
	static const struct {
		enum peer_role issuer, subject;
	} cases[] = {{ROLE_MEMBER, ROLE_MEMBER}, {ROLE_MEMBER, ROLE_INVITING_MEMBER},
		{ROLE_MEMBER, ROLE_ADMIN}, {ROLE_INVITING_MEMBER, ROLE_ADMIN}};
	struct world *world = *state;

	for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
		struct chain chain = {
			{member_of(world, person(world, 1), person(world, 0), cases[index].subject),
				member_of(world, person(world, 0), &world->group,
					cases[index].issuer),
				root_of(world, &world->group)},
			3};

		expect_bad(&chain, "role that its issuer may not give");
	}
}

/* ---- signatures --------------------------------------------------------------------------- */

static void signature_of_a_stranger(void **state)
{
	struct world *world = *state;

	for (uint32_t link = 0; link < 3; link++) {
		struct chain chain = good_chain(world);

		resign(chain.x509[link], person(world, 8)->key);
		expect_bad(&chain, "signature is not");
	}
}

/* One bit of each certificate's signed part changed after signing. */
static void content_changed_after_signing(void **state)
{
	struct world *world = *state;

	for (uint32_t link = 0; link < 4; link++) {
		struct chain chain = good_chain(world);
		uint8_t *der;
		size_t bytes;
		X509 *bent;

		assert_int_equal(certificate_to_der(chain.x509[link], &der, &bytes), 0);
		for (size_t at = 0; at + 16 < bytes; at++)
			if (memcmp(der + at, "Somebody", 8) == 0 ||
				memcmp(der + at, "The group", 9) == 0) {
				der[at] ^= 1;
				break;
			}
		assert_int_equal(certificate_from_der(der, bytes, &bent), 0);
		keep(world, bent);
		OPENSSL_free(der);
		chain.x509[link] = bent;
		expect_bad(&chain, "sign");
	}
}

static void missing_and_unknown_extensions(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);

	extension_drop(chain.x509[1], OID_ROLES);
	resign(chain.x509[1], person(world, 0)->key);
	expect_bad(&chain, "without extension roles");
	chain = good_chain(world);
	extension_add(chain.x509[2], "1.2.3.4", 1, "\x05\x00", 2);
	resign(chain.x509[2], world->group.key);
	expect_bad(&chain, "unknown critical");
}

/* A key that would cost much to verify with is refused by its kind, before any of that. */
static void huge_keys(void **state)
{
	struct world *world = *state;
	struct chain chain = good_chain(world);
	EVP_PKEY *rsa = EVP_RSA_gen(4096);

	assert_int_equal(X509_set_pubkey(chain.x509[2], rsa), 1);
	resign(chain.x509[2], world->group.key);
	expect_bad(&chain, "neither P-256 nor Ed25519");
	chain = good_chain(world);
	resign(chain.x509[1], rsa);
	expect_bad(&chain, "signature algorithm");
	EVP_PKEY_free(rsa);
}

/* ---- cache and threads --------------------------------------------------------------------- */

/* A cached signature does not make another certificate good, nor an expired one valid. */
static void cache_remembers_signatures_only(void **state)
{
	struct world *world = *state;
	struct trust_cache *cache = trust_cache_create();
	struct trust_request request = {.now_s = NOW, .cache = cache};
	struct chain chain = good_chain(world);
	struct chain other = good_chain(world);
	struct trust_result result;
	char refusal[REFUSAL_BYTES];

	assert_non_null(cache);
	for (int round = 0; round < 3; round++)
		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
	resign(other.x509[0], person(world, 8)->key);
	other.x509[1] = chain.x509[1];
	for (int round = 0; round < 2; round++)
		assert_int_equal(judge_as(&other, &request, &result, refusal), TRUST_REFUSED);
	request.now_s = NOW + 10001;
	assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_TIME);
	trust_cache_destroy(cache);
	trust_cache_destroy(NULL);
}

/* More entries than a set holds: the oldest are forgotten, the answers stay right. */
static void cache_is_bounded(void **state)
{
	struct world *world = *state;
	struct trust_cache *cache = trust_cache_create();
	struct trust_request request = {.now_s = NOW, .cache = cache};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];

	assert_non_null(cache);
	for (int round = 0; round < 40; round++) {
		struct chain chain = good_chain(world);

		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
		assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
	}
	trust_cache_destroy(cache);
}

struct load {
	struct chain chain; /* this thread's own X509 objects */
	struct trust_cache *cache;
	uint32_t good;
};

static void *load_run(void *context)
{
	struct load *load = context;
	struct trust_request request = {.now_s = NOW, .cache = load->cache};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];

	for (int round = 0; round < 50; round++)
		if (trust_verify(load->chain.x509, load->chain.count, &request, &result, refusal) ==
			TRUST_OK)
			load->good++;
	return NULL;
}

static void threads_share_the_cache(void **state)
{
	struct world *world = *state;
	struct trust_cache *cache = trust_cache_create();
	struct load loads[4] = {{.good = 0}};
	pthread_t threads[4];

	assert_non_null(cache);
	for (int index = 0; index < 4; index++) {
		loads[index].chain = good_chain(world);
		loads[index].cache = cache;
		assert_int_equal(pthread_create(&threads[index], NULL, load_run, &loads[index]), 0);
	}
	for (int index = 0; index < 4; index++) {
		pthread_join(threads[index], NULL);
		assert_int_equal(loads[index].good, 50);
	}
	trust_cache_destroy(cache);
}

/* What the engine's callback hands over: the same with DER beside the objects. */
static void chain_of_the_engine(void **state)
{
	struct world *world = *state;
	struct trust_cache *cache = trust_cache_create();
	struct trust_request request = {.now_s = NOW, .cache = cache};
	struct chain chain = good_chain(world);
	struct ph_chain given = {.count = chain.count};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];
	uint8_t *der[4];

	for (uint32_t index = 0; index < chain.count; index++) {
		assert_int_equal(
			certificate_to_der(chain.x509[index], &der[index], &given.der[index].bytes),
			0);
		given.der[index].data = der[index];
		given.x509[index] = chain.x509[index];
	}
	for (int round = 0; round < 2; round++)
		assert_int_equal(trust_verify_chain(&given, &request, &result, refusal), TRUST_OK);
	/* Both ways to the digest agree: the objects alone hit what the DER filled. */
	assert_int_equal(judge_as(&chain, &request, &result, refusal), TRUST_OK);
	for (uint32_t index = 0; index < chain.count; index++)
		OPENSSL_free(der[index]);
	trust_cache_destroy(cache);
}

/*
 * A chain that was found good is known again, by its bytes alone as at a resumption, from memory and without any;
 * but not for another group or peer than it proves, not out of its time, and not with a bit changed.
 */
static void chain_known_again(void **state)
{
	struct world *world = *state;
	struct trust_cache *cache = trust_cache_create();
	struct trust_request request = {.now_s = NOW, .cache = cache};
	struct chain chain = good_chain(world);
	struct ph_chain given = {.count = chain.count};
	struct trust_result first, again;
	char refusal[REFUSAL_BYTES];
	uint8_t *der[4];

	for (uint32_t index = 0; index < chain.count; index++) {
		assert_int_equal(
			certificate_to_der(chain.x509[index], &der[index], &given.der[index].bytes),
			0);
		given.der[index].data = der[index];
		given.x509[index] = chain.x509[index];
	}
	assert_int_equal(trust_verify_chain(&given, &request, &first, refusal), TRUST_OK);
	memset(given.x509, 0, sizeof(given.x509));
	given.resumed = 1;
	for (int round = 0; round < 2; round++) {
		memset(&again, 0xff, sizeof(again));
		strcpy(refusal, "left over");
		assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_OK);
		assert_string_equal(refusal, "");
		assert_string_equal(again.identity, first.identity);
		assert_string_equal(again.group, first.group);
		assert_string_equal(again.issuer_friendly_name, first.issuer_friendly_name);
		assert_int_equal(again.role, first.role);
		assert_int_equal(again.link_count, first.link_count);
		assert_int_equal(again.valid_to_s, first.valid_to_s);
		request.cache = NULL; /* read anew */
	}
	request.cache = cache;
	request.group_authority = first.links[first.link_count - 1].authority;
	request.identity_authority = first.links[0].authority;
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_OK);
	request.identity_authority = first.links[1].authority;
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_REFUSED);
	request.identity_authority = NULL;
	request.group_authority = first.links[0].authority;
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_REFUSED);
	request.group_authority = NULL;
	request.now_s = first.valid_to_s;
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_OK);
	request.now_s++;
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_TIME);
	request.now_s = first.valid_from_s - 1;
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_TIME);
	request.now_s = NOW;
	der[0][given.der[0].bytes - 1] ^= 1; /* in its signature */
	assert_int_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_REFUSED);
	given.der[0].bytes--;
	assert_int_not_equal(trust_verify_chain(&given, &request, &again, refusal), TRUST_OK);
	for (uint32_t index = 0; index < chain.count; index++)
		OPENSSL_free(der[index]);
	trust_cache_destroy(cache);
}

/* Far more chains than there is room for: each is judged rightly, and memory does not grow. */
static void chains_known_are_bounded(void **state)
{
	struct world *world = *state;
	struct trust_cache *cache = trust_cache_create();
	struct trust_request request = {.now_s = NOW, .cache = cache};
	struct chain chain = good_chain(world);
	struct ph_chain given = {.count = chain.count};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];
	uint8_t *der[4];

	for (uint32_t index = 0; index < chain.count; index++) {
		assert_int_equal(
			certificate_to_der(chain.x509[index], &der[index], &given.der[index].bytes),
			0);
		given.der[index].data = der[index];
		given.x509[index] = chain.x509[index];
	}
	/* The same objects under bytes that differ: as many chains to the cache. */
	for (int round = 0; round < 2000; round++) {
		der[1][0] = (uint8_t)round;
		der[1][1] = (uint8_t)(round >> 8);
		assert_int_equal(trust_verify_chain(&given, &request, &result, refusal), TRUST_OK);
		assert_int_equal(trust_verify_chain(&given, &request, &result, refusal), TRUST_OK);
		assert_string_equal(result.identity, person(world, 2)->name);
	}
	for (uint32_t index = 0; index < chain.count; index++)
		OPENSSL_free(der[index]);
	trust_cache_destroy(cache);
}

#define world_test(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(good_chain_proves),
		world_test(shortest_chain),
		world_test(longest_chain),
		world_test(ed25519_anywhere),
		world_test(expected_names),
		world_test(chain_of_another_group),
		world_test(validity_of_each_link),
		world_test(too_short),
		world_test(too_long),
		world_test(root_is_missing),
		world_test(swapped_order),
		world_test(link_is_left_out),
		world_test(link_is_doubled),
		world_test(identity_certificate_as_leaf),
		world_test(null_certificate),
		world_test(own_key_under_anothers_name),
		world_test(forged_issuer_name),
		world_test(forged_issuer_field),
		world_test(forged_common_name),
		world_test(forged_authority_key),
		world_test(two_groups_in_one_chain),
		world_test(root_with_another_key),
		world_test(root_not_signed_by_itself),
		world_test(root_with_another_issuer),
		world_test(circle),
		world_test(own_issuer),
		world_test(same_key_under_two_classifiers),
		world_test(group_as_member),
		world_test(roles_beyond_the_issuers),
		world_test(signature_of_a_stranger),
		world_test(content_changed_after_signing),
		world_test(missing_and_unknown_extensions),
		world_test(huge_keys),
		world_test(cache_remembers_signatures_only),
		world_test(cache_is_bounded),
		world_test(threads_share_the_cache),
		world_test(chain_of_the_engine),
		world_test(chain_known_again),
		world_test(chains_known_are_bounded),
	};

	return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
