/*
 * A provider made of the standard one; see tls_provider.h.
 *
 * Each library has a second context, `base`, with the standard provider in it. Ours answers with that
 * one's implementations and hands them its context, so they work as they always do, on random numbers and
 * digests of base. Which of them are offered is filtered once for the process: the tables hold pointers to
 * functions of libcrypto only.
 *
 * Ours are TLS13-KDF (RFC 8446 section 7.1, RFC 5869) and HMAC (RFC 2104). Both do nothing but call
 * SHA-256 of libcrypto, whose plain functions are deprecated but present in all of OpenSSL 3. Before they are
 * offered they have to agree with the standard ones (check_own); otherwise those stay.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "engine/tls_provider.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/prov_ssl.h>
#include <openssl/provider.h>
#include <openssl/sha.h>

#include <pthread.h>
#include <stdint.h>
#include <string.h>

/* ---- HMAC on SHA-256 --------------------------------------------------------------------- */

#define DIGEST_BYTES SHA256_DIGEST_LENGTH
#define BLOCK_BYTES SHA256_CBLOCK

struct hmac {
	SHA256_CTX inner, outer;
	SHA256_CTX inner_begin, outer_begin; /* keyed: where each message starts */
	bool is_keyed;
};

static int hmac_restart(struct hmac *hmac)
{
	hmac->inner = hmac->inner_begin;
	hmac->outer = hmac->outer_begin;
	return hmac->is_keyed;
}

static int hmac_key(struct hmac *hmac, const uint8_t *key, size_t bytes)
{
	uint8_t block[BLOCK_BYTES] = {0};

	if (bytes > sizeof(block))
		SHA256(key, bytes, block);
	else if (bytes > 0)
		memcpy(block, key, bytes);
	for (size_t index = 0; index < sizeof(block); index++)
		block[index] ^= 0x36;
	hmac->is_keyed = SHA256_Init(&hmac->inner_begin) == 1 &&
		SHA256_Update(&hmac->inner_begin, block, sizeof(block)) == 1;
	for (size_t index = 0; index < sizeof(block); index++)
		block[index] ^= 0x36 ^ 0x5c;
	hmac->is_keyed = hmac->is_keyed && SHA256_Init(&hmac->outer_begin) == 1 &&
		SHA256_Update(&hmac->outer_begin, block, sizeof(block)) == 1;
	OPENSSL_cleanse(block, sizeof(block));
	return hmac_restart(hmac);
}

static int hmac_add(struct hmac *hmac, const void *data, size_t bytes)
{
	return hmac->is_keyed && SHA256_Update(&hmac->inner, data, bytes) == 1;
}

static int hmac_end(struct hmac *hmac, uint8_t out[DIGEST_BYTES])
{
	return hmac->is_keyed && SHA256_Final(out, &hmac->inner) == 1 &&
		SHA256_Update(&hmac->outer, out, DIGEST_BYTES) == 1 &&
		SHA256_Final(out, &hmac->outer) == 1;
}

/* Only SHA-256 is spoken here: another digest is refused where it is named. */
static int is_digest_ours(const OSSL_PARAM params[])
{
	const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, OSSL_ALG_PARAM_DIGEST);
	const char *name = NULL;

	if (param == NULL)
		return 1;
	return OSSL_PARAM_get_utf8_string_ptr(param, &name) == 1 && name != NULL &&
		(OPENSSL_strcasecmp(name, "SHA256") == 0 ||
			OPENSSL_strcasecmp(name, "SHA2-256") == 0 ||
			OPENSSL_strcasecmp(name, "SHA-256") == 0);
}

static void *on_mac_new(void *provider)
{
	(void)provider;
	return OPENSSL_zalloc(sizeof(struct hmac));
}

static void on_mac_free(void *mac)
{
	OPENSSL_clear_free(mac, sizeof(struct hmac));
}

static void *on_mac_copy(void *mac)
{
	return OPENSSL_memdup(mac, sizeof(struct hmac));
}

static int on_mac_set(void *mac, const OSSL_PARAM params[])
{
	const OSSL_PARAM *key;

	if (params == NULL)
		return 1;
	if (!is_digest_ours(params))
		return 0;
	key = OSSL_PARAM_locate_const(params, OSSL_MAC_PARAM_KEY);
	if (key == NULL)
		return 1;
	return key->data_type == OSSL_PARAM_OCTET_STRING &&
		hmac_key(mac, key->data, key->data_size);
}

static int on_mac_begin(
	void *mac, const unsigned char *key, size_t bytes, const OSSL_PARAM params[])
{
	if (!on_mac_set(mac, params))
		return 0;
	return key != NULL ? hmac_key(mac, key, bytes) : hmac_restart(mac);
}

static int on_mac_update(void *mac, const unsigned char *data, size_t bytes)
{
	return hmac_add(mac, data, bytes);
}

static int on_mac_end(void *mac, unsigned char *out, size_t *bytes, size_t room)
{
	if (room < DIGEST_BYTES || !hmac_end(mac, out))
		return 0;
	*bytes = DIGEST_BYTES;
	return 1;
}

static int on_mac_get(void *mac, OSSL_PARAM params[])
{
	OSSL_PARAM *size = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_SIZE);
	OSSL_PARAM *block = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_BLOCK_SIZE);

	(void)mac;
	return (size == NULL || OSSL_PARAM_set_size_t(size, DIGEST_BYTES)) &&
		(block == NULL || OSSL_PARAM_set_size_t(block, BLOCK_BYTES));
}

static const OSSL_PARAM mac_gettable[] = {
	OSSL_PARAM_DEFN(OSSL_MAC_PARAM_SIZE, OSSL_PARAM_UNSIGNED_INTEGER, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_MAC_PARAM_BLOCK_SIZE, OSSL_PARAM_UNSIGNED_INTEGER, NULL, 0),
	OSSL_PARAM_END,
};
static const OSSL_PARAM mac_settable[] = {
	OSSL_PARAM_DEFN(OSSL_MAC_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_MAC_PARAM_KEY, OSSL_PARAM_OCTET_STRING, NULL, 0),
	OSSL_PARAM_END,
};

static const OSSL_PARAM *on_mac_gettable(void *mac, void *provider)
{
	(void)mac;
	(void)provider;
	return mac_gettable;
}

static const OSSL_PARAM *on_mac_settable(void *mac, void *provider)
{
	(void)mac;
	(void)provider;
	return mac_settable;
}

/* Tables of functions are of this one type in OpenSSL; each is called as what its number says. */
#define FUNCTION(function) ((void (*)(void))(function))

static const OSSL_DISPATCH mac_functions[] = {
	{OSSL_FUNC_MAC_NEWCTX, FUNCTION(on_mac_new)},
	{OSSL_FUNC_MAC_DUPCTX, FUNCTION(on_mac_copy)},
	{OSSL_FUNC_MAC_FREECTX, FUNCTION(on_mac_free)},
	{OSSL_FUNC_MAC_INIT, FUNCTION(on_mac_begin)},
	{OSSL_FUNC_MAC_UPDATE, FUNCTION(on_mac_update)},
	{OSSL_FUNC_MAC_FINAL, FUNCTION(on_mac_end)},
	{OSSL_FUNC_MAC_GETTABLE_CTX_PARAMS, FUNCTION(on_mac_gettable)},
	{OSSL_FUNC_MAC_GET_CTX_PARAMS, FUNCTION(on_mac_get)},
	{OSSL_FUNC_MAC_SETTABLE_CTX_PARAMS, FUNCTION(on_mac_settable)},
	{OSSL_FUNC_MAC_SET_CTX_PARAMS, FUNCTION(on_mac_set)},
	{0, NULL},
};

/* ---- the key schedule of TLS 1.3 --------------------------------------------------------- */

/* What a derivation is given; borrowed, as libssl gives all of it with the call that derives. */
struct schedule {
	int mode;
	struct span {
		const uint8_t *data;
		size_t bytes;
	} key, salt, prefix, label, data;
};

/* HKDF-Expand-Label; label and prefix are ASCII. */
static int schedule_expand(const struct schedule *schedule, struct span secret, struct span data,
	uint8_t *out, size_t bytes)
{
	uint8_t info[2 + 1 + 255 + 1 + 255 + 1], block[DIGEST_BYTES];
	size_t label_bytes = schedule->prefix.bytes + schedule->label.bytes, at = 0, done = 0;
	struct hmac hmac;
	int good;

	if (label_bytes > 255 || data.bytes > 255 || bytes > 255 * DIGEST_BYTES)
		return 0;
	info[at++] = (uint8_t)(bytes >> 8);
	info[at++] = (uint8_t)bytes;
	info[at++] = (uint8_t)label_bytes;
	if (schedule->prefix.bytes > 0)
		memcpy(info + at, schedule->prefix.data, schedule->prefix.bytes);
	at += schedule->prefix.bytes;
	if (schedule->label.bytes > 0)
		memcpy(info + at, schedule->label.data, schedule->label.bytes);
	at += schedule->label.bytes;
	info[at++] = (uint8_t)data.bytes;
	if (data.bytes > 0)
		memcpy(info + at, data.data, data.bytes);
	at += data.bytes;
	good = hmac_key(&hmac, secret.data, secret.bytes);
	for (uint8_t round = 1; good && done < bytes; round++) {
		size_t part = bytes - done < DIGEST_BYTES ? bytes - done : DIGEST_BYTES;

		info[at] = round;
		good = (round == 1 ||
			       (hmac_restart(&hmac) && hmac_add(&hmac, block, sizeof(block)))) &&
			hmac_add(&hmac, info, at + 1) && hmac_end(&hmac, block);
		memcpy(out + done, block, part);
		done += part;
	}
	OPENSSL_cleanse(&hmac, sizeof(hmac));
	OPENSSL_cleanse(block, sizeof(block));
	return good;
}

/* The next secret of the schedule: HKDF-Extract of the key under what is derived from the one before, or,
 * where there is none before, under zeros. */
static int schedule_extract(const struct schedule *schedule, uint8_t *out, size_t bytes)
{
	static const uint8_t zeros[DIGEST_BYTES];
	uint8_t before[DIGEST_BYTES] = {0}, nothing[DIGEST_BYTES];
	struct span key = schedule->key;
	struct hmac hmac;
	int good = 1;

	if (bytes != DIGEST_BYTES)
		return 0;
	if (key.data == NULL)
		key = (struct span){zeros, sizeof(zeros)};
	if (schedule->salt.data != NULL) {
		SHA256(zeros, 0, nothing);
		good = schedule_expand(schedule, schedule->salt,
			(struct span){nothing, sizeof(nothing)}, before, sizeof(before));
	}
	good = good && hmac_key(&hmac, before, sizeof(before)) &&
		hmac_add(&hmac, key.data, key.bytes) && hmac_end(&hmac, out);
	OPENSSL_cleanse(&hmac, sizeof(hmac));
	OPENSSL_cleanse(before, sizeof(before));
	return good;
}

static void *on_kdf_new(void *provider)
{
	(void)provider;
	return OPENSSL_zalloc(sizeof(struct schedule));
}

static void on_kdf_free(void *kdf)
{
	OPENSSL_free(kdf); /* nothing secret is in it but where the caller keeps it */
}

static void on_kdf_reset(void *kdf)
{
	memset(kdf, 0, sizeof(struct schedule));
}

static int take_span(const OSSL_PARAM params[], const char *name, struct span *span)
{
	const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, name);

	if (param == NULL || param->data_size == 0)
		return 1;
	if (param->data_type != OSSL_PARAM_OCTET_STRING || param->data == NULL)
		return 0;
	*span = (struct span){param->data, param->data_size};
	return 1;
}

static int on_kdf_derive(void *kdf, unsigned char *out, size_t bytes, const OSSL_PARAM params[])
{
	struct schedule *schedule = kdf;
	const OSSL_PARAM *mode;
	int good;

	if (params == NULL)
		return 0;
	mode = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_MODE);
	good = mode != NULL && OSSL_PARAM_get_int(mode, &schedule->mode) &&
		is_digest_ours(params) && take_span(params, OSSL_KDF_PARAM_KEY, &schedule->key) &&
		take_span(params, OSSL_KDF_PARAM_SALT, &schedule->salt) &&
		take_span(params, OSSL_KDF_PARAM_PREFIX, &schedule->prefix) &&
		take_span(params, OSSL_KDF_PARAM_LABEL, &schedule->label) &&
		take_span(params, OSSL_KDF_PARAM_DATA, &schedule->data);
	if (good && schedule->mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
		good = schedule_extract(schedule, out, bytes);
	else if (good && schedule->mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY)
		good = schedule->key.data != NULL &&
			schedule_expand(schedule, schedule->key, schedule->data, out, bytes);
	else
		good = 0;
	on_kdf_reset(schedule); /* what was borrowed is gone */
	return good;
}

/* Nothing is kept from here to a derivation: a caller that sets its parameters first is refused there,
 * for it names no mode. Libssl gives all of them with the derivation. */
static int on_kdf_set(void *kdf, const OSSL_PARAM params[])
{
	(void)kdf;
	return params == NULL || params[0].key == NULL;
}

static const OSSL_PARAM kdf_settable[] = {
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_MODE, OSSL_PARAM_INTEGER, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_DIGEST, OSSL_PARAM_UTF8_STRING, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_KEY, OSSL_PARAM_OCTET_STRING, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_SALT, OSSL_PARAM_OCTET_STRING, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_PREFIX, OSSL_PARAM_OCTET_STRING, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_LABEL, OSSL_PARAM_OCTET_STRING, NULL, 0),
	OSSL_PARAM_DEFN(OSSL_KDF_PARAM_DATA, OSSL_PARAM_OCTET_STRING, NULL, 0),
	OSSL_PARAM_END,
};

static const OSSL_PARAM *on_kdf_settable(void *kdf, void *provider)
{
	(void)kdf;
	(void)provider;
	return kdf_settable;
}

static const OSSL_DISPATCH kdf_functions[] = {
	{OSSL_FUNC_KDF_NEWCTX, FUNCTION(on_kdf_new)},
	{OSSL_FUNC_KDF_FREECTX, FUNCTION(on_kdf_free)},
	{OSSL_FUNC_KDF_RESET, FUNCTION(on_kdf_reset)},
	{OSSL_FUNC_KDF_DERIVE, FUNCTION(on_kdf_derive)},
	{OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, FUNCTION(on_kdf_settable)},
	{OSSL_FUNC_KDF_SET_CTX_PARAMS, FUNCTION(on_kdf_set)},
	{0, NULL},
};

/* ---- what is offered --------------------------------------------------------------------- */

#define OFFERS_MAX 24 /* of one operation */
static const struct offer {
	int operation;
	const char *name; /* the first of its names */
	const char *property; /* part of its properties; NULL: any */
} offers[] = {
	{OSSL_OP_DIGEST, "SHA2-256", NULL},
	{OSSL_OP_DIGEST, "SHA2-384", NULL},
	{OSSL_OP_DIGEST, "SHA2-512", NULL},
	{OSSL_OP_DIGEST, "SHA1", NULL}, /* X509_cmp's fingerprints */
	{OSSL_OP_CIPHER, "AES-128-GCM", NULL},
	{OSSL_OP_CIPHER, "id-aes128-GCM", NULL},
	{OSSL_OP_CIPHER, "ChaCha20-Poly1305", NULL},
	{OSSL_OP_CIPHER, "AES-256-CTR", NULL}, /* the random generator's */
	{OSSL_OP_MAC, "HMAC", NULL},
	{OSSL_OP_KDF, "TLS13-KDF", NULL},
	{OSSL_OP_RAND, "CTR-DRBG", NULL},
	{OSSL_OP_RAND, "SEED-SRC", NULL},
	{OSSL_OP_KEYMGMT, "EC", NULL},
	{OSSL_OP_KEYMGMT, "RSA", NULL},
	{OSSL_OP_KEYMGMT, "RSA-PSS", NULL}, /* else libssl thinks that RSA cannot sign */
	{OSSL_OP_KEYMGMT, "ED25519", NULL},
	{OSSL_OP_KEYMGMT, "X25519", NULL},
	{OSSL_OP_KEYMGMT, "HMAC", NULL}, /* the binders of pre-shared keys */
	{OSSL_OP_KEYEXCH, "ECDH", NULL},
	{OSSL_OP_KEYEXCH, "X25519", NULL},
	{OSSL_OP_SIGNATURE, "ECDSA", NULL},
	{OSSL_OP_SIGNATURE, "RSA", NULL},
	{OSSL_OP_SIGNATURE, "ED25519", NULL},
	{OSSL_OP_SIGNATURE, "HMAC", NULL},
	/* By this order of few a public key is found at once: DER only, the two forms that we read. */
	{OSSL_OP_DECODER, "EC", "input=der,structure=SubjectPublicKeyInfo"},
	{OSSL_OP_DECODER, "EC", "input=der,structure=PrivateKeyInfo"},
	{OSSL_OP_DECODER, "RSA", "input=der,structure=SubjectPublicKeyInfo"},
	{OSSL_OP_DECODER, "RSA", "input=der,structure=PrivateKeyInfo"},
	{OSSL_OP_DECODER, "ED25519", "input=der,structure=SubjectPublicKeyInfo"},
	{OSSL_OP_DECODER, "ED25519", "input=der,structure=PrivateKeyInfo"},
	/* For those who look into the certificates that on_verify is given. */
	{OSSL_OP_ENCODER, "EC", "output=der,structure=SubjectPublicKeyInfo"},
	{OSSL_OP_ENCODER, "RSA", "output=der,structure=SubjectPublicKeyInfo"},
	{OSSL_OP_ENCODER, "ED25519", "output=der,structure=SubjectPublicKeyInfo"},
	{OSSL_OP_ENCODER, "EC", "output=text"},
	{OSSL_OP_ENCODER, "RSA", "output=text"},
	{OSSL_OP_ENCODER, "ED25519", "output=text"},
};
#define OFFER_COUNT (sizeof(offers) / sizeof(offers[0]))

static const OSSL_ALGORITHM own_mac = {"HMAC", "provider=peerhub", mac_functions, NULL};
static const OSSL_ALGORITHM own_kdf = {"TLS13-KDF", "provider=peerhub", kdf_functions, NULL};

/* Filled once, under the lock; then read only. One more for the end of each list. */
#define OPERATIONS_MAX (OSSL_OP__HIGHEST + 1)
static OSSL_ALGORITHM tables[OPERATIONS_MAX][OFFERS_MAX + 1];
static bool are_tables_filled;
static void *provider_context; /* of the standard provider being wrapped: while the lock is held */
static pthread_mutex_t provider_lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_offered(int operation, const OSSL_ALGORITHM *algorithm)
{
	for (size_t index = 0; index < OFFER_COUNT; index++) {
		size_t bytes = strlen(offers[index].name);
		const char *names = algorithm->algorithm_names;

		if (offers[index].operation == operation &&
			strncmp(names, offers[index].name, bytes) == 0 &&
			(names[bytes] == '\0' || names[bytes] == ':') &&
			(offers[index].property == NULL ||
				strstr(algorithm->property_definition, offers[index].property) !=
					NULL))
			return true;
	}
	return false;
}

static bool fill_table(OSSL_PROVIDER *standard, int operation)
{
	int no_cache = 0, count = 0;
	const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(standard, operation, &no_cache);

	for (; all != NULL && all->algorithm_names != NULL; all++) {
		if (!is_offered(operation, all))
			continue;
		if (count == OFFERS_MAX)
			return false;
		tables[operation][count++] = *all;
	}
	return !no_cache;
}

/* ---- ours against the standard ones ------------------------------------------------------ */

enum agreement {
	AGREE,
	DISAGREE,
	UNKNOWN, /* one of them could not be computed: no memory, as a rule */
};

static enum agreement agreement_of(bool is_computed, const uint8_t *ours, const uint8_t *theirs)
{
	if (!is_computed)
		return UNKNOWN;
	return memcmp(ours, theirs, DIGEST_BYTES) == 0 ? AGREE : DISAGREE;
}

/* One derivation by the KDF of a library context and by ours; NULL data stands for none. */
static enum agreement check_schedule(EVP_KDF *kdf, int mode, struct span salt, struct span data)
{
	static uint8_t key[DIGEST_BYTES] = {1, 2, 3};
	static char label[] = "derived", prefix[] = "tls13 ", digest[] = "SHA256";
	uint8_t theirs[DIGEST_BYTES], ours[DIGEST_BYTES];
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
	struct schedule schedule = {0};
	OSSL_PARAM params[8], *at = params;
	bool is_computed;

	*at++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, sizeof(key));
	*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix, 6);
	*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, label, 7);
	if (salt.data != NULL)
		*at++ = OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.data, salt.bytes);
	if (data.data != NULL)
		*at++ = OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_DATA, (void *)(uintptr_t)data.data, data.bytes);
	*at = OSSL_PARAM_construct_end();
	is_computed = context != NULL &&
		EVP_KDF_derive(context, theirs, sizeof(theirs), params) == 1 &&
		on_kdf_derive(&schedule, ours, sizeof(ours), params) == 1;
	EVP_KDF_CTX_free(context);
	return agreement_of(is_computed, ours, theirs);
}

static enum agreement check_mac(OSSL_LIB_CTX *base, size_t key_bytes)
{
	uint8_t key[100], data[200], theirs[DIGEST_BYTES], ours[DIGEST_BYTES];
	bool is_computed;
	size_t bytes = 0;
	struct hmac hmac;

	memset(key, 7, sizeof(key));
	memset(data, 8, sizeof(data));
	is_computed = EVP_Q_mac(base, "HMAC", NULL, "SHA256", NULL, key, key_bytes, data,
			      sizeof(data), theirs, sizeof(theirs), &bytes) != NULL &&
		hmac_key(&hmac, key, key_bytes) && hmac_add(&hmac, data, sizeof(data)) &&
		hmac_end(&hmac, ours);
	return agreement_of(is_computed, ours, theirs);
}

static enum agreement check_own(OSSL_LIB_CTX *base)
{
	static const uint8_t some[DIGEST_BYTES] = {9, 8, 7};
	const struct span none = {NULL, 0}, given = {some, sizeof(some)};
	EVP_KDF *kdf = EVP_KDF_fetch(base, "TLS13-KDF", NULL);
	enum agreement agreement = kdf != NULL ? AGREE : UNKNOWN;

	if (agreement == AGREE)
		agreement = check_schedule(kdf, EVP_KDF_HKDF_MODE_EXTRACT_ONLY, none, none);
	if (agreement == AGREE)
		agreement = check_schedule(kdf, EVP_KDF_HKDF_MODE_EXTRACT_ONLY, given, none);
	if (agreement == AGREE)
		agreement = check_schedule(kdf, EVP_KDF_HKDF_MODE_EXPAND_ONLY, none, none);
	if (agreement == AGREE)
		agreement = check_schedule(kdf, EVP_KDF_HKDF_MODE_EXPAND_ONLY, none, given);
	if (agreement == AGREE)
		agreement = check_mac(base, 32);
	if (agreement == AGREE)
		agreement = check_mac(base, 100);
	EVP_KDF_free(kdf);
	return agreement;
}

/* The lock is held. AGREE and DISAGREE: filled, with ours or without. UNKNOWN: not now. */
static enum agreement tables_fill(OSSL_LIB_CTX *base, OSSL_PROVIDER *standard)
{
	enum agreement agreement;

	if (are_tables_filled)
		return AGREE;
	memset(tables, 0, sizeof(tables));
	for (int operation = 1; operation < OPERATIONS_MAX; operation++)
		if (!fill_table(standard, operation))
			return UNKNOWN;
	agreement = check_own(base);
	if (agreement == AGREE) {
		tables[OSSL_OP_MAC][0] = own_mac;
		tables[OSSL_OP_KDF][0] = own_kdf;
	}
	are_tables_filled = agreement != UNKNOWN;
	return agreement;
}

/* ---- the provider ------------------------------------------------------------------------ */

static const OSSL_ALGORITHM *on_query(void *provider, int operation, int *no_cache)
{
	(void)provider;
	*no_cache = 0;
	return operation > 0 && operation < OPERATIONS_MAX ? tables[operation] : NULL;
}

/* The two groups of key exchange as libssl wants to be told of them (provider-base(7), TLS-GROUP). */
struct group {
	char *name, *internal, *algorithm;
	unsigned int number, security_bits;
};
static int min_tls = TLS1_3_VERSION, max_tls = 0, no_dtls = -1;

static int tell_group(struct group group, OSSL_CALLBACK *callback, void *argument)
{
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME, group.name, 0),
		OSSL_PARAM_construct_utf8_string(
			OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL, group.internal, 0),
		OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_ALG, group.algorithm, 0),
		OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_ID, &group.number),
		OSSL_PARAM_construct_uint(
			OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, &group.security_bits),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, &min_tls),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, &max_tls),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, &no_dtls),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, &no_dtls),
		OSSL_PARAM_construct_end(),
	};

	return callback(params, argument);
}

static int on_capabilities(
	void *provider, const char *capability, OSSL_CALLBACK *callback, void *argument)
{
	static char x25519[] = "x25519", x25519_name[] = "X25519";
	static char p256[] = "secp256r1", p256_again[] = "P-256", p256_name[] = "prime256v1",
		    ec[] = "EC";

	(void)provider;
	if (OPENSSL_strcasecmp(capability, "TLS-GROUP") != 0)
		return 0;
	return tell_group((struct group){p256, p256_name, ec, 23, 128}, callback, argument) &&
		tell_group(
			(struct group){p256_again, p256_name, ec, 23, 128}, callback, argument) &&
		tell_group((struct group){x25519, x25519_name, x25519_name, 29, 128}, callback,
			argument);
}

static void on_teardown(void *provider)
{
	(void)provider; /* base's, which outlives this */
}

static const OSSL_DISPATCH provider_functions[] = {
	{OSSL_FUNC_PROVIDER_TEARDOWN, FUNCTION(on_teardown)},
	{OSSL_FUNC_PROVIDER_QUERY_OPERATION, FUNCTION(on_query)},
	{OSSL_FUNC_PROVIDER_GET_CAPABILITIES, FUNCTION(on_capabilities)},
	{0, NULL},
};

static int on_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *from,
	const OSSL_DISPATCH **functions, void **provider)
{
	(void)handle;
	(void)from;
	assert(provider_context != NULL);
	*functions = provider_functions;
	*provider = provider_context;
	return 1;
}

/* ---- a library --------------------------------------------------------------------------- */

/* False: no memory, or OpenSSL refuses what it is documented to allow. */
static bool load_ours(struct tls_library *library)
{
	library->base = OSSL_LIB_CTX_new();
	if (library->base == NULL)
		return false;
	library->standard = OSSL_PROVIDER_load(library->base, "default");
	if (library->standard == NULL)
		return false;
	pthread_mutex_lock(&provider_lock);
	if (tables_fill(library->base, library->standard) != UNKNOWN) {
		provider_context = OSSL_PROVIDER_get0_provider_ctx(library->standard);
		if (OSSL_PROVIDER_add_builtin(library->library, "peerhub", on_provider_init) == 1)
			library->provider = OSSL_PROVIDER_load(library->library, "peerhub");
		provider_context = NULL;
	}
	pthread_mutex_unlock(&provider_lock);
	return library->provider != NULL;
}

bool tls_library_init(struct tls_library *library)
{
	*library = (struct tls_library){0};
	library->library = OSSL_LIB_CTX_new();
	return library->library != NULL && load_ours(library);
}

void tls_library_fini(struct tls_library *library)
{
	if (library->provider != NULL)
		OSSL_PROVIDER_unload(library->provider);
	OSSL_LIB_CTX_free(library->library);
	/* After those that are made of it. */
	if (library->standard != NULL)
		OSSL_PROVIDER_unload(library->standard);
	OSSL_LIB_CTX_free(library->base);
	*library = (struct tls_library){0};
}
