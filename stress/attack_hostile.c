/* Hostile chains; see attack_chains.h. Each bend begins with the good base chain. */
#include "attack_chains.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#define OID_KIND "1.3.6.1.4.1.311.44.0.1"
#define OID_SUBJECT_NAME "2.5.29.17"
#define OID_ISSUER_NAME "2.5.29.18"
#define OID_GROUP_NAME "1.3.6.1.4.1.311.44.3.1"
#define OID_ROLES "1.3.6.1.4.1.311.44.3.3"
#define OID_CLASSIFIERS "1.3.6.1.4.1.311.44.3.5"
#define OID_AUTHORITY_KEY "2.5.29.35"
#define OID_USAGE "2.5.29.37"
#define OID_FRIENDLY "2.25.65306297556662368685046784727758577691"
#define OID_NAME_CONSTRAINTS "2.5.29.30"
#define OID_OTHER "1.2.3.4.5"

/* ---- extensions -------------------------------------------------------------------------- */

static bool extension_add(X509 *x509, const char *oid, int critical, const void *data, size_t bytes)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension = NULL;
	bool is_added = object != NULL && value != NULL &&
		ASN1_OCTET_STRING_set(value, data, (int)bytes) == 1;

	if (is_added)
		extension = X509_EXTENSION_create_by_OBJ(NULL, object, critical, value);
	is_added = extension != NULL && X509_add_ext(x509, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(object);
	return is_added;
}

/* Whether it was critical; false also when it was not there. */
static bool extension_drop(X509 *x509, const char *oid)
{
	ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
	int index = object != NULL ? X509_get_ext_by_OBJ(x509, object, -1) : -1;
	X509_EXTENSION *extension = index >= 0 ? X509_delete_ext(x509, index) : NULL;
	bool is_critical = extension != NULL && X509_EXTENSION_get_critical(extension) == 1;

	X509_EXTENSION_free(extension);
	ASN1_OBJECT_free(object);
	return is_critical;
}

static bool extension_set(X509 *x509, const char *oid, const void *data, size_t bytes)
{
	bool is_critical = extension_drop(x509, oid);

	return extension_add(x509, oid, is_critical, data, bytes);
}

/* GeneralNames of one otherName 1.3.6.1.4.1.311.44.0.2, UTF8String; names here are short. */
static bool name_set(X509 *x509, const char *oid, const char *name, size_t name_bytes)
{
	static const uint8_t object[] = {
		0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x2c, 0x00, 0x02};
	uint8_t der[128] = {0x30, (uint8_t)(name_bytes + 18), 0xa0, (uint8_t)(name_bytes + 16)};

	memcpy(der + 4, object, sizeof(object));
	der[16] = 0xa0;
	der[17] = (uint8_t)(name_bytes + 2);
	der[18] = 0x0c;
	der[19] = (uint8_t)name_bytes;
	memcpy(der + 20, name, name_bytes);
	return extension_set(x509, oid, der, name_bytes + 20);
}

static bool authority_key_set(X509 *x509, const char *authority)
{
	uint8_t der[24] = {0x30, 0x16, 0x80, 0x14};

	for (int i = 0; i < 20; i++) {
		unsigned value = 0;

		if (sscanf(authority + 2 * i, "%2x", &value) != 1)
			return false;
		der[4 + i] = (uint8_t)value;
	}
	return extension_set(x509, OID_AUTHORITY_KEY, der, sizeof(der));
}

/* ---- people and memberships -------------------------------------------------------------- */

static bool person_init(struct hostile_person *person, EVP_PKEY *key)
{
	uint8_t *der = NULL, digest[SHA256_DIGEST_LENGTH];
	int bytes = key != NULL ? i2d_PUBKEY(key, &der) : -1;

	person->key = key;
	if (bytes <= 0)
		return false;
	SHA256(der, (size_t)bytes, digest);
	OPENSSL_free(der);
	for (int i = 0; i < 20; i++)
		snprintf(person->authority + 2 * i, 3, "%02x", digest[i]);
	snprintf(person->name, sizeof(person->name), "%s.hostile", person->authority);
	return true;
}

static X509_NAME *common_name(const char *text, int bytes)
{
	X509_NAME *name = X509_NAME_new();

	if (name != NULL &&
		X509_NAME_add_entry_by_txt(name, "CN", V_ASN1_UTF8STRING,
			(const unsigned char *)text, bytes, -1, 0) != 1) {
		X509_NAME_free(name);
		return NULL;
	}
	return name;
}

static bool subject_set(X509 *x509, const char *text, int bytes)
{
	X509_NAME *name = common_name(text, bytes);
	bool is_set = name != NULL && X509_set_subject_name(x509, name) == 1;

	X509_NAME_free(name);
	return is_set;
}

static bool sign(X509 *x509, EVP_PKEY *key)
{
	return X509_sign(x509, key, EVP_sha256()) > 0;
}

/* A membership of `subject`, issued by `issuer`, whose certificate is `above`: the invited one's, with
 * other names and another key. NULL: no memory. */
static X509 *membership(const struct hostile_scene *scene, const struct hostile_person *subject,
	X509 *above, const char *issuer_name, const char *issuer_authority, EVP_PKEY *issuer_key)
{
	X509 *x509 = X509_dup(scene->admin.chain[0]);

	if (x509 != NULL && X509_set_pubkey(x509, subject->key) == 1 &&
		subject_set(x509, subject->authority, -1) &&
		X509_set_issuer_name(x509, X509_get_subject_name(above)) == 1 &&
		name_set(x509, OID_SUBJECT_NAME, subject->name, strlen(subject->name)) &&
		name_set(x509, OID_ISSUER_NAME, issuer_name, strlen(issuer_name)) &&
		authority_key_set(x509, issuer_authority) && sign(x509, issuer_key))
		return x509;
	X509_free(x509);
	return NULL;
}

static X509 *membership_below_admin(
	const struct hostile_scene *scene, const struct hostile_person *subject)
{
	char authority[41];

	snprintf(authority, sizeof(authority), "%.40s", scene->admin.name);
	return membership(scene, subject, scene->admin.chain[0], scene->admin.name, authority,
		scene->admin.key);
}

static X509 *membership_below(const struct hostile_scene *scene,
	const struct hostile_person *subject, const struct hostile_person *issuer, X509 *above)
{
	return membership(scene, subject, above, issuer->name, issuer->authority, issuer->key);
}

bool hostile_scene_init(struct hostile_scene *scene, struct p2p_victim *node)
{
	memset(scene, 0, sizeof(*scene));
	scene->node = node;
	return p2p_insider_create(node, 0, &PEER_GROUP_ROLE_ADMIN, &scene->admin) &&
		p2p_insider_create(node, 1, &PEER_GROUP_ROLE_ADMIN, &scene->other) &&
		person_init(&scene->b, EVP_EC_gen("P-256")) &&
		person_init(&scene->c, EVP_EC_gen("P-256"));
}

void hostile_scene_fini(struct hostile_scene *scene)
{
	p2p_insider_destroy(&scene->admin);
	p2p_insider_destroy(&scene->other);
	EVP_PKEY_free(scene->b.key);
	EVP_PKEY_free(scene->c.key);
	memset(scene, 0, sizeof(*scene));
}

static bool chain_push(struct hostile_chain *chain, X509 *x509)
{
	if (x509 == NULL || chain->count == HOSTILE_CERTS_MAX) {
		X509_free(x509);
		return false;
	}
	chain->x509[chain->count++] = x509;
	return true;
}

/* Certificates from `from` on, as they are. */
static bool chain_push_insider(
	struct hostile_chain *chain, const struct p2p_insider *insider, uint32_t from)
{
	for (uint32_t i = from; i < insider->count; i++) {
		X509_up_ref(insider->chain[i]);
		if (!chain_push(chain, insider->chain[i]))
			return false;
	}
	return true;
}

static void chain_cut(struct hostile_chain *chain, uint32_t count)
{
	while (chain->count > count)
		X509_free(chain->x509[--chain->count]);
}

bool hostile_base(struct hostile_scene *scene, struct hostile_chain *chain)
{
	X509 *b = membership_below_admin(scene, &scene->b);
	X509 *c = b != NULL ? membership_below(scene, &scene->c, &scene->b, b) : NULL;

	memset(chain, 0, sizeof(*chain));
	if (c == NULL) {
		X509_free(b);
		return false;
	}
	EVP_PKEY_up_ref(scene->c.key);
	chain->key = scene->c.key;
	chain->fitting = X509_dup(c);
	snprintf(chain->name, sizeof(chain->name), "%s", scene->c.name);
	return chain->fitting != NULL && chain_push(chain, c) && chain_push(chain, b) &&
		chain_push_insider(chain, &scene->admin, 0);
}

void hostile_chain_fini(struct hostile_chain *chain)
{
	chain_cut(chain, 0);
	X509_free(chain->fitting);
	EVP_PKEY_free(chain->key);
	memset(chain, 0, sizeof(*chain));
	ERR_clear_error();
}

/* ---- bends: shape ------------------------------------------------------------------------ */

#define BEND(name) static bool name(struct hostile_scene *scene, struct hostile_chain *chain)

/* `count` certificates: the leaf, the same administrator again and again, the root. */
static bool stretch(struct hostile_chain *chain, uint32_t count)
{
	X509 *root = chain->x509[--chain->count];

	while (chain->count < count - 1) {
		X509_up_ref(chain->x509[1]);
		if (!chain_push(chain, chain->x509[1])) {
			X509_free(root);
			return false;
		}
	}
	return chain_push(chain, root);
}

BEND(long_chain)
{
	(void)scene;
	return stretch(chain, PH_CHAIN_MAX + 1);
}

BEND(hundred_chain)
{
	(void)scene;
	return stretch(chain, 100);
}

BEND(endless_chain)
{
	(void)scene;
	return stretch(chain, 250);
}

/* 25 that hang together by name and key, of which all but two are administrators made on the spot. */
BEND(deep_forged)
{
	struct hostile_person people[PH_CHAIN_MAX] = {{.key = NULL}};
	uint32_t count = PH_CHAIN_MAX - scene->admin.count;
	bool is_made = true;

	chain_cut(chain, 0);
	for (uint32_t i = 0; i < count; i++)
		is_made = is_made && person_init(&people[i], EVP_EC_gen("P-256"));
	/* people[count - 1] is below A. The signature of that one is a stranger's. */
	for (uint32_t i = count; is_made && i-- > 0;) {
		X509 *made = i == count - 1
			? membership_below_admin(scene, &people[i])
			: membership_below(scene, &people[i], &people[i + 1], chain->x509[0]);

		if (made != NULL && i == count - 1)
			is_made = sign(made, people[0].key);
		memmove(chain->x509 + 1, chain->x509, chain->count * sizeof(chain->x509[0]));
		chain->x509[0] = made;
		chain->count++;
		is_made = is_made && made != NULL;
	}
	for (uint32_t i = 0; i < count; i++)
		EVP_PKEY_free(people[i].key);
	return is_made && chain_push_insider(chain, &scene->admin, 0);
}

BEND(empty_chain)
{
	(void)scene;
	chain_cut(chain, 0);
	return true;
}

BEND(root_only)
{
	X509 *root = chain->x509[--chain->count];

	(void)scene;
	chain_cut(chain, 0);
	return chain_push(chain, root);
}

BEND(leaf_only)
{
	(void)scene;
	chain_cut(chain, 1);
	return true;
}

BEND(no_root)
{
	(void)scene;
	chain_cut(chain, chain->count - 1);
	return true;
}

BEND(swapped)
{
	X509 *kept = chain->x509[1];

	(void)scene;
	chain->x509[1] = chain->x509[2];
	chain->x509[2] = kept;
	return true;
}

BEND(left_out)
{
	(void)scene;
	X509_free(chain->x509[1]);
	memmove(&chain->x509[1], &chain->x509[2], (chain->count - 2) * sizeof(chain->x509[0]));
	chain->count--;
	return true;
}

BEND(doubled)
{
	(void)scene;
	X509_up_ref(chain->x509[1]);
	memmove(&chain->x509[2], &chain->x509[1], (chain->count - 1) * sizeof(chain->x509[0]));
	chain->count++;
	return true;
}

/* B says C issued it, C says B did; both are right, and A stands above. */
BEND(loop)
{
	X509 *c = chain->x509[0];
	X509 *b = membership_below(scene, &scene->b, &scene->c, c);
	X509 *c_above = membership_below_admin(scene, &scene->c);

	chain->x509[0] = NULL;
	chain_cut(chain, 0);
	return chain_push(chain, c) && chain_push(chain, b) && chain_push(chain, c_above) &&
		chain_push_insider(chain, &scene->admin, 0);
}

BEND(own_issuer)
{
	X509 *self = membership_below(scene, &scene->b, &scene->b, chain->x509[1]);

	X509_free(chain->x509[0]);
	chain->x509[0] = self;
	return self != NULL;
}

BEND(other_group)
{
	chain_cut(chain, 0);
	EVP_PKEY_free(chain->key);
	X509_free(chain->fitting);
	EVP_PKEY_up_ref(scene->other.key);
	chain->key = scene->other.key;
	chain->fitting = X509_dup(scene->other.chain[0]);
	return chain->fitting != NULL && chain_push_insider(chain, &scene->other, 0);
}

BEND(two_groups)
{
	chain_cut(chain, 2);
	return chain_push_insider(chain, &scene->other, 0);
}

BEND(identity_leaf)
{
	X509_free(chain->x509[0]);
	X509_up_ref(scene->admin.identity);
	chain->x509[0] = scene->admin.identity;
	return true;
}

BEND(identity_root)
{
	chain_cut(chain, chain->count - 1);
	X509_up_ref(scene->admin.identity);
	return chain_push(chain, scene->admin.identity);
}

/* A member's chain, as it shows it to everybody: good, but we prove with another key. */
BEND(stolen)
{
	chain_cut(chain, 0);
	return chain_push_insider(chain, &scene->admin, 0);
}

/* The victim's own, as it shows it to everybody. */
BEND(stolen_own)
{
	chain_cut(chain, 0);
	return chain_push_insider(chain, &scene->admin, 1);
}

/* ---- bends: keys ------------------------------------------------------------------------- */

/* The leaf gets this key, and the issuer's good signature. The key is taken over. */
static bool leaf_key_set(struct hostile_scene *scene, struct hostile_chain *chain, EVP_PKEY *key)
{
	bool is_set = key != NULL && X509_set_pubkey(chain->x509[0], key) == 1 &&
		sign(chain->x509[0], scene->b.key);

	EVP_PKEY_free(key);
	return is_set;
}

/* A public key of that many bits: nobody needs to know a private one. */
static EVP_PKEY *rsa_made_up(int bits, int exponent_bits)
{
	BIGNUM *modulus = BN_new(), *exponent = BN_new();
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	OSSL_PARAM *parameters = NULL;
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	EVP_PKEY *key = NULL;

	if (modulus != NULL && exponent != NULL && builder != NULL && context != NULL &&
		BN_rand(modulus, bits, BN_RAND_TOP_TWO, BN_RAND_BOTTOM_ODD) == 1 &&
		BN_rand(exponent, exponent_bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD) == 1 &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
		parameters = OSSL_PARAM_BLD_to_param(builder);
	if (parameters != NULL && EVP_PKEY_fromdata_init(context) == 1)
		(void)EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters);
	EVP_PKEY_CTX_free(context);
	OSSL_PARAM_free(parameters);
	OSSL_PARAM_BLD_free(builder);
	BN_free(exponent);
	BN_free(modulus);
	return key;
}

BEND(rsa_2048)
{
	return leaf_key_set(scene, chain, rsa_made_up(2048, 17));
}

BEND(rsa_1024)
{
	return leaf_key_set(scene, chain, rsa_made_up(1024, 17));
}

BEND(rsa_16384)
{
	return leaf_key_set(scene, chain, rsa_made_up(16384, 17));
}

BEND(rsa_huge_exponent)
{
	return leaf_key_set(scene, chain, rsa_made_up(3072, 3071));
}

BEND(rsa_above)
{
	EVP_PKEY *key = rsa_made_up(16384, 17);
	bool is_set = key != NULL && X509_set_pubkey(chain->x509[1], key) == 1 &&
		sign(chain->x509[1], scene->admin.key);

	EVP_PKEY_free(key);
	return is_set;
}

BEND(curve_p521)
{
	return leaf_key_set(scene, chain, EVP_EC_gen("P-521"));
}

BEND(curve_secp256k1)
{
	return leaf_key_set(scene, chain, EVP_EC_gen("secp256k1"));
}

BEND(curve_brainpool)
{
	return leaf_key_set(scene, chain, EVP_EC_gen("brainpoolP256r1"));
}

BEND(curve_ed448)
{
	return leaf_key_set(scene, chain, EVP_PKEY_Q_keygen(NULL, NULL, "ED448"));
}

/* P-256 by its numbers instead of its name: where CVE-2020-0601 and CVE-2022-0778 lived. */
BEND(curve_explicit)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (key == NULL ||
		EVP_PKEY_set_utf8_string_param(
			key, OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PKEY_EC_ENCODING_EXPLICIT) != 1) {
		EVP_PKEY_free(key);
		return false;
	}
	return leaf_key_set(scene, chain, key);
}

BEND(point_compressed)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (key == NULL ||
		EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
			OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_COMPRESSED) != 1) {
		EVP_PKEY_free(key);
		return false;
	}
	return leaf_key_set(scene, chain, key);
}

BEND(key_mismatch)
{
	return leaf_key_set(scene, chain, EVP_EC_gen("P-256"));
}

/* ---- bends: names ------------------------------------------------------------------------ */

/* Our own key under the creator's name. */
BEND(anothers_name)
{
	const char *name = scene->node->groups[0].name;
	char creator[64];

	(void)name;
	snprintf(creator, sizeof(creator), "%.40s.victim", scene->other.name);
	return name_set(chain->x509[0], OID_SUBJECT_NAME, creator, strlen(creator)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(forged_issuer_name)
{
	return name_set(chain->x509[0], OID_ISSUER_NAME, scene->admin.name,
		       strlen(scene->admin.name)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(forged_issuer_field)
{
	return X509_set_issuer_name(
		       chain->x509[0], X509_get_subject_name(chain->x509[chain->count - 1])) == 1 &&
		sign(chain->x509[0], scene->b.key);
}

BEND(forged_authority_key)
{
	return authority_key_set(chain->x509[0], scene->c.authority) &&
		sign(chain->x509[0], scene->b.key);
}

/* A root of the group's name, signed by itself, with a key of ours. */
BEND(forged_root)
{
	X509 *root = X509_dup(chain->x509[chain->count - 1]);
	bool is_made = root != NULL && X509_set_pubkey(root, scene->b.key) == 1 &&
		sign(root, scene->b.key);

	X509_free(chain->x509[chain->count - 1]);
	chain->x509[chain->count - 1] = root;
	return is_made;
}

BEND(root_resigned)
{
	X509 *root = X509_dup(chain->x509[chain->count - 1]);
	bool is_made = root != NULL && sign(root, scene->b.key);

	X509_free(chain->x509[chain->count - 1]);
	chain->x509[chain->count - 1] = root;
	return is_made;
}

BEND(nul_in_name)
{
	char name[64];

	memcpy(name, scene->c.name, sizeof(name));
	name[43] = '\0';
	return name_set(chain->x509[0], OID_SUBJECT_NAME, name, strlen(scene->c.name)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(nul_in_common_name)
{
	char name[48];

	memcpy(name, scene->c.authority, 40);
	memcpy(name + 40, "\0evil", 6);
	return subject_set(chain->x509[0], name, 45) && sign(chain->x509[0], scene->b.key);
}

BEND(long_friendly_name)
{
	uint8_t der[4 + 1024] = {0x0c, 0x82, 0x04, 0x00};

	memset(der + 4, 'x', 1024);
	return extension_set(chain->x509[0], OID_FRIENDLY, der, sizeof(der)) &&
		sign(chain->x509[0], scene->b.key);
}

/* ---- bends: times and roles --------------------------------------------------------------- */

static bool time_bend(X509 *x509, long from_s, long to_s, EVP_PKEY *signer)
{
	return X509_gmtime_adj(X509_getm_notBefore(x509), from_s) != NULL &&
		X509_gmtime_adj(X509_getm_notAfter(x509), to_s) != NULL && sign(x509, signer);
}

BEND(expired)
{
	return time_bend(chain->x509[0], -7200, -3600, scene->b.key);
}

BEND(expired_above)
{
	return time_bend(chain->x509[1], -7200, -3600, scene->admin.key);
}

BEND(not_yet)
{
	return time_bend(chain->x509[0], 3600, 7200, scene->b.key);
}

BEND(ends_before_it_begins)
{
	return time_bend(chain->x509[0], 60, -60, scene->b.key);
}

/* PEER_GROUP_ROLE_MEMBER, as certificates have it. */
static const uint8_t role_member[16] = {0xc7, 0xc4, 0x2d, 0xf1, 0x57, 0x08, 0xa0, 0x4c, 0x93, 0xfc,
	0xb1, 0xbb, 0x19, 0xa3, 0xd8, 0xc2};

BEND(member_issues)
{
	/* SEQUENCE { UTF8String "participant" }: what goes with that role. */
	static const uint8_t participant[] = {
		0x30, 13, 0x0c, 11, 'p', 'a', 'r', 't', 'i', 'c', 'i', 'p', 'a', 'n', 't'};

	return extension_set(chain->x509[1], OID_ROLES, role_member, sizeof(role_member)) &&
		extension_set(chain->x509[1], OID_CLASSIFIERS, participant, sizeof(participant)) &&
		sign(chain->x509[1], scene->admin.key);
}

BEND(unknown_role)
{
	static const uint8_t role[16] = "god";

	return extension_set(chain->x509[0], OID_ROLES, role, sizeof(role)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(no_roles)
{
	(void)extension_drop(chain->x509[0], OID_ROLES);
	return sign(chain->x509[0], scene->b.key);
}

/* ---- bends: extensions, signatures, encoding ----------------------------------------------- */

BEND(twice_extension)
{
	return extension_add(chain->x509[0], OID_ROLES, 1, role_member, sizeof(role_member)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(unknown_critical)
{
	return extension_add(chain->x509[0], OID_OTHER, 1, "\x05\0", 2) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(name_constraints)
{
	return extension_add(chain->x509[1], OID_NAME_CONSTRAINTS, 1, "\x30\0", 2) &&
		sign(chain->x509[1], scene->admin.key);
}

BEND(server_only)
{
	/* SEQUENCE { serverAuth } */
	static const uint8_t der[] = {
		0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01};

	return extension_set(chain->x509[0], OID_USAGE, der, sizeof(der)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(no_kind)
{
	(void)extension_drop(chain->x509[0], OID_KIND);
	return sign(chain->x509[0], scene->b.key);
}

BEND(many_extensions)
{
	for (int i = 0; i < 64; i++) {
		char oid[32];

		snprintf(oid, sizeof(oid), "1.2.3.4.%d", i + 10);
		if (!extension_add(chain->x509[0], oid, 0, "\x05\0", 2))
			return false;
	}
	return sign(chain->x509[0], scene->b.key);
}

BEND(oversized)
{
	static const uint8_t ballast[20000];

	return extension_add(chain->x509[0], OID_OTHER, 0, ballast, sizeof(ballast)) &&
		sign(chain->x509[0], scene->b.key);
}

BEND(version_1)
{
	return X509_set_version(chain->x509[0], X509_VERSION_1) == 1 &&
		sign(chain->x509[0], scene->b.key);
}

BEND(long_serial)
{
	static const uint8_t number[20] = {0x5a};

	return ASN1_STRING_set(X509_get_serialNumber(chain->x509[0]), number, sizeof(number)) ==
		1 &&
		sign(chain->x509[0], scene->b.key);
}

BEND(anothers_signature)
{
	return sign(chain->x509[0], scene->c.key);
}

BEND(anothers_signature_above)
{
	return sign(chain->x509[1], scene->c.key);
}

/* What is inside is signed, and the signature has one bit changed. */
BEND(bent_signature)
{
	const ASN1_BIT_STRING *signature;
	uint8_t *data;

	(void)scene;
	X509_get0_signature(&signature, NULL, chain->x509[0]);
	data = (uint8_t *)(uintptr_t)ASN1_STRING_get0_data(signature);
	data[ASN1_STRING_length(signature) - 1] ^= 1;
	return true;
}

BEND(sha1_signature)
{
	return X509_sign(chain->x509[0], scene->b.key, EVP_sha1()) > 0;
}

BEND(sha512_signature_above)
{
	return X509_sign(chain->x509[1], scene->admin.key, EVP_sha512()) > 0;
}

BEND(md5_signature)
{
	EVP_PKEY *rsa = EVP_RSA_gen(2048);
	bool is_signed = rsa != NULL && X509_sign(chain->x509[0], rsa, EVP_md5()) > 0;

	(void)scene;
	EVP_PKEY_free(rsa);
	return is_signed;
}

/* ---- the list ---------------------------------------------------------------------------- */

#define TLS PH_REASON_PROTOCOL_TLS
#define VERIFY PH_REASON_PROTOCOL_VERIFY

/* clang-format off */
const struct hostile hostile_list[] = {
	{"26 certificates", long_chain, true, TLS, "certificate chain too long (alert sent: decode error)"},
	{"100 certificates", hundred_chain, true, TLS, "certificate chain too long (alert sent: decode error)"},
	{"250 certificates", endless_chain, true, TLS, ""},
	{"25 deep, a stranger's signature in it", deep_forged, false, VERIFY, "signature is not"},
	{"no certificate", empty_chain, true, TLS, ""},
	{"the root alone", root_only, false, VERIFY, "needs a membership"},
	{"the leaf alone", leaf_only, false, VERIFY, "needs a membership"},
	{"the root is missing", no_root, false, VERIFY, "not a group root"},
	{"two links swapped", swapped, false, VERIFY, "issuer name"},
	{"a link left out", left_out, false, VERIFY, "issuer name"},
	{"a link doubled", doubled, false, VERIFY, "issuer name"},
	{"a loop of two", loop, false, VERIFY, "same key again"},
	{"its own issuer", own_issuer, false, VERIFY, "same key again"},
	{"a good chain of another group", other_group, false, VERIFY, "not the group"},
	{"a link of another group", two_groups, false, VERIFY, "not the group"},
	{"an identity as the leaf", identity_leaf, false, VERIFY, "not a membership"},
	{"an identity as the root", identity_root, false, VERIFY, "not a group root"},
	{"a member's chain, not its key", stolen, false, TLS, ""},
	{"the victim's own chain", stolen_own, false, VERIFY, "our own identity"},
	{"RSA of 2048 bits", rsa_2048, false, VERIFY, "neither P-256 nor Ed25519"},
	{"RSA of 1024 bits", rsa_1024, true, TLS, "key kind not allowed"},
	{"RSA of 16384 bits", rsa_16384, true, TLS, "key kind not allowed"},
	{"RSA of 16384 bits as an issuer", rsa_above, true, TLS, "key kind not allowed"},
	{"RSA with an exponent of 3071 bits", rsa_huge_exponent, true, TLS, "key kind not allowed"},
	{"P-521", curve_p521, true, TLS, "key kind not allowed"},
	{"secp256k1", curve_secp256k1, true, TLS, "key kind not allowed"},
	{"brainpoolP256r1", curve_brainpool, true, TLS, "key kind not allowed"},
	{"Ed448", curve_ed448, true, TLS, "key kind not allowed"},
	{"P-256 by explicit parameters", curve_explicit, true, TLS, "key kind not allowed"},
	{"a compressed point", point_compressed, false, VERIFY, "neither P-256 nor Ed25519"},
	{"a leaf whose key is not ours", key_mismatch, false, VERIFY, "not the one its name stands for"},
	{"our key under another's name", anothers_name, false, VERIFY, "not the one its name stands for"},
	{"a forged issuer name", forged_issuer_name, false, VERIFY, "issuer name"},
	{"a forged issuer field", forged_issuer_field, false, VERIFY, "issuer field"},
	{"a forged authority key id", forged_authority_key, false, VERIFY, "authority key id"},
	{"a root of ours under the group's name", forged_root, false, VERIFY, "not the one its name stands for"},
	{"the root, signed by another", root_resigned, false, VERIFY, "not signed by itself"},
	{"a NUL in the peer name", nul_in_name, false, VERIFY, "subject alternative name is malformed"},
	{"a NUL in the common name", nul_in_common_name, false, VERIFY, "common name"},
	{"a friendly name of 1024", long_friendly_name, false, VERIFY, "friendly name is malformed"},
	{"expired", expired, false, VERIFY, "expired"},
	{"an expired issuer", expired_above, false, VERIFY, "expired"},
	{"not valid yet", not_yet, false, VERIFY, "not valid yet"},
	{"ends before it begins", ends_before_it_begins, false, VERIFY, ""},
	{"a member issues", member_issues, false, VERIFY, "role that its issuer may not give"},
	{"an unknown role", unknown_role, false, VERIFY, "roles is malformed"},
	{"no role", no_roles, false, VERIFY, "without extension roles"},
	{"an extension twice", twice_extension, false, VERIFY, "two extensions"},
	{"an unknown critical extension", unknown_critical, false, VERIFY, "unknown critical"},
	{"name constraints", name_constraints, false, VERIFY, "unknown critical"},
	{"for servers only", server_only, false, VERIFY, "usage is malformed"},
	{"no kind", no_kind, false, VERIFY, "not a peer certificate"},
	{"76 extensions", many_extensions, false, VERIFY, "too many extensions"},
	{"20 KB in one certificate", oversized, true, TLS, "certificate too large"},
	{"X.509 version 1", version_1, false, VERIFY, "version"},
	{"a serial number of 20 bytes", long_serial, false, VERIFY, "serial"},
	{"signed by another key", anothers_signature, false, VERIFY, "signature is not"},
	{"an issuer signed by another key", anothers_signature_above, false, VERIFY, "signature is not"},
	{"one bit of a signature", bent_signature, false, VERIFY, "signature is not"},
	{"ECDSA with SHA-1", sha1_signature, false, VERIFY, "signature algorithm"},
	{"ECDSA with SHA-512", sha512_signature_above, false, VERIFY, "signature algorithm"},
	{"RSA with MD5", md5_signature, false, VERIFY, "signature algorithm"},
	{NULL, NULL, false, 0, NULL},
};
/* clang-format on */
