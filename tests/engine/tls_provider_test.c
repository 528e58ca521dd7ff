/*
 * The provider of a shard's handshakes: ours and the standard algorithms agree wherever libssl asks, what is not
 * offered is refused, and keys of every kind that we speak still come out of their bytes.
 *
 *   tls_provider_test --seed S   the random cases again
 */
#include "engine/tls_provider.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t test_seed;
static struct tls_library ours;

static uint32_t random_below(uint32_t bound)
{
	test_seed ^= test_seed << 13;
	test_seed ^= test_seed >> 7;
	test_seed ^= test_seed << 17;
	return (uint32_t)((test_seed >> 32) % bound);
}

static void random_fill(uint8_t *data, size_t bytes)
{
	for (size_t index = 0; index < bytes; index++)
		data[index] = (uint8_t)random_below(256);
}

static int begin(void **state)
{
	(void)state;
	assert_true(tls_library_init(&ours));
	return 0;
}

static int end(void **state)
{
	(void)state;
	tls_library_fini(&ours);
	return 0;
}

/* What is measured as cheap is what is used: both of ours passed their check and are found by name. */
static void provider_offers_its_own(void **state)
{
	EVP_KDF *kdf = EVP_KDF_fetch(ours.library, "TLS13-KDF", NULL);
	EVP_MAC *mac = EVP_MAC_fetch(ours.library, "HMAC", NULL);

	(void)state;
	assert_non_null(ours.base);
	assert_non_null(kdf);
	assert_non_null(mac);
	assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "peerhub");
	assert_non_null(EVP_KDF_fetch(ours.library, "TLS13-KDF", "provider=peerhub"));
	EVP_KDF_free(kdf); /* as often as it was fetched */
	EVP_KDF_free(kdf);
	assert_non_null(EVP_MAC_fetch(ours.library, "HMAC", "provider=peerhub"));
	EVP_MAC_free(mac);
	EVP_MAC_free(mac);
}

/* What no handshake of ours uses is not there, so nothing looks through it. */
static void provider_leaves_out_the_rest(void **state)
{
	EVP_MD *md5;
	EVP_CIPHER *cbc;

	(void)state;
	md5 = EVP_MD_fetch(ours.library, "MD5", NULL);
	cbc = EVP_CIPHER_fetch(ours.library, "AES-128-CBC", NULL);
	assert_null(md5);
	assert_null(cbc);
	ERR_clear_error();
}

struct derivation {
	int mode;
	const char *digest;
	uint8_t *key, *salt, *data;
	size_t key_bytes, salt_bytes, data_bytes;
	char label[256];
};

static int derive(OSSL_LIB_CTX *library, const struct derivation *what, uint8_t *out, size_t bytes)
{
	EVP_KDF *kdf = EVP_KDF_fetch(library, "TLS13-KDF", NULL);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
	OSSL_PARAM params[8], *at = params;
	char prefix[] = "tls13 ";
	int mode = what->mode, result;

	assert_non_null(context);
	*at++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	*at++ = OSSL_PARAM_construct_utf8_string(
		OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)what->digest, 0);
	if (what->key != NULL)
		*at++ = OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_KEY, what->key, what->key_bytes);
	if (what->salt != NULL)
		*at++ = OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SALT, what->salt, what->salt_bytes);
	*at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix, 6);
	*at++ = OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)what->label, strlen(what->label));
	if (what->data != NULL)
		*at++ = OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_DATA, what->data, what->data_bytes);
	*at = OSSL_PARAM_construct_end();
	result = EVP_KDF_derive(context, out, bytes, params);
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
	return result;
}

/* Every derivation that libssl may ask for, and lengths beyond them, come out as the standard one says. */
static void provider_derives_as_the_standard(void **state)
{
	uint8_t key[32], salt[32], data[64], here[600], there[600];

	(void)state;
	for (int round = 0; round < 2000; round++) {
		bool is_extract = random_below(3) == 0;
		struct derivation what = {
			.mode = is_extract ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY
					   : EVP_KDF_HKDF_MODE_EXPAND_ONLY,
			.digest = random_below(2) ? "SHA256" : "SHA2-256",
			.key = is_extract && random_below(2) ? NULL : key,
			.key_bytes = sizeof(key),
			.salt = is_extract && random_below(2) ? salt : NULL,
			.salt_bytes = sizeof(salt),
			.data = random_below(3) ? data : NULL,
			.data_bytes = 1 + random_below(sizeof(data)),
		};
		size_t bytes = is_extract ? 32 : 1 + random_below(sizeof(here));
		uint32_t label_bytes = 1 + random_below(random_below(8) ? 18 : 240);

		for (uint32_t index = 0; index < label_bytes; index++)
			what.label[index] = (char)('a' + random_below(26));
		random_fill(key, sizeof(key));
		random_fill(salt, sizeof(salt));
		random_fill(data, sizeof(data));
		assert_int_equal(derive(ours.base, &what, there, bytes), 1);
		assert_int_equal(derive(ours.library, &what, here, bytes), 1);
		assert_memory_equal(here, there, bytes);
	}
}

/* Another digest, no key, no mode, a size that cannot be: refused, not computed wrongly. */
static void provider_refuses_other_derivations(void **state)
{
	uint8_t key[32] = {1}, data[256] = {2}, out[64];
	struct derivation what = {.mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY,
		.digest = "SHA384",
		.key = key,
		.key_bytes = sizeof(key),
		.label = "derived"};

	(void)state;
	assert_true(derive(ours.library, &what, out, 32) <= 0);
	what.digest = "SHA256";
	assert_int_equal(derive(ours.library, &what, out, 32), 1);
	what.mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
	assert_true(derive(ours.library, &what, out, 32) <= 0);
	what.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
	assert_true(derive(ours.library, &what, out, 31) <= 0);
	what.mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	what.key = NULL;
	assert_true(derive(ours.library, &what, out, 32) <= 0);
	what.key = key;
	what.data = data;
	what.data_bytes = sizeof(data);
	assert_true(derive(ours.library, &what, out, 32) <= 0);
	ERR_clear_error();
}

/* A message in pieces under a key of any length, from a context that was used, and copied on the way. */
static void provider_authenticates_as_the_standard(void **state)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(ours.library, "HMAC", NULL);
	EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
	uint8_t key[150], data[300], here[64], there[64];

	(void)state;
	assert_non_null(context);
	for (int round = 0; round < 500; round++) {
		size_t key_bytes = 1 + random_below(sizeof(key)),
		       bytes = random_below(sizeof(data));
		size_t cut = random_below((uint32_t)bytes + 1), here_bytes = 0, there_bytes = 0;
		EVP_MAC_CTX *copy;

		random_fill(key, key_bytes);
		random_fill(data, bytes);
		assert_int_equal(EVP_MAC_init(context, key, key_bytes, params), 1);
		assert_int_equal(EVP_MAC_CTX_get_mac_size(context), 32);
		assert_int_equal(EVP_MAC_update(context, data, cut), 1);
		copy = EVP_MAC_CTX_dup(context);
		assert_non_null(copy);
		assert_int_equal(EVP_MAC_update(copy, data + cut, bytes - cut), 1);
		assert_int_equal(EVP_MAC_final(copy, here, &here_bytes, sizeof(here)), 1);
		EVP_MAC_CTX_free(copy);
		assert_non_null(EVP_Q_mac(ours.base, "HMAC", NULL, "SHA256", NULL, key, key_bytes,
			data, bytes, there, sizeof(there), &there_bytes));
		assert_int_equal(here_bytes, there_bytes);
		assert_memory_equal(here, there, here_bytes);
		/* The same key again, without naming it. */
		assert_int_equal(EVP_MAC_init(context, NULL, 0, NULL), 1);
		assert_int_equal(EVP_MAC_update(context, data, bytes), 1);
		assert_int_equal(EVP_MAC_final(context, here, &here_bytes, sizeof(here)), 1);
		assert_memory_equal(here, there, here_bytes);
	}
	EVP_MAC_CTX_free(context);
	EVP_MAC_free(mac);
}

static void provider_refuses_another_digest(void **state)
{
	uint8_t key[32] = {1}, out[64];
	size_t bytes = 0;

	(void)state;
	assert_null(EVP_Q_mac(ours.library, "HMAC", NULL, "SHA384", NULL, key, sizeof(key), key,
		sizeof(key), out, sizeof(out), &bytes));
	assert_non_null(EVP_Q_mac(ours.library, "HMAC", NULL, "SHA2-256", NULL, key, sizeof(key),
		key, sizeof(key), out, sizeof(out), &bytes));
	ERR_clear_error();
}

/* Each kind of key: made elsewhere, decoded here from both forms, and good for a signature. */
static void provider_decodes_keys(void **state)
{
	static const char *const kinds[] = {"EC", "ED25519", "RSA"};

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		EVP_PKEY *key = kind == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
			: kind == 1	  ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
					  : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
		PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
		EVP_PKEY *mine = EVP_PKCS82PKEY_ex(info, ours.library, NULL), *theirs;
		EVP_MD_CTX *context = EVP_MD_CTX_new();
		uint8_t *der = NULL, signature[512];
		size_t bytes = sizeof(signature);
		int der_bytes = i2d_PUBKEY(key, &der);
		const uint8_t *at = der;

		assert_true(key != NULL && mine != NULL && context != NULL && der_bytes > 0);
		assert_int_equal(EVP_PKEY_is_a(mine, kinds[kind]), 1);
		theirs = d2i_PUBKEY_ex(NULL, &at, der_bytes, ours.library, NULL);
		assert_non_null(theirs);
		assert_int_equal(EVP_DigestSignInit_ex(context, NULL, kind == 1 ? NULL : "SHA256",
					 ours.library, NULL, mine, NULL),
			1);
		assert_int_equal(EVP_DigestSign(context, signature, &bytes, at - 8, 8), 1);
		EVP_MD_CTX_reset(context);
		assert_int_equal(EVP_DigestVerifyInit_ex(context, NULL, kind == 1 ? NULL : "SHA256",
					 ours.library, NULL, theirs, NULL),
			1);
		assert_int_equal(EVP_DigestVerify(context, signature, bytes, at - 8, 8), 1);
		signature[bytes / 2] ^= 1;
		EVP_MD_CTX_reset(context);
		assert_int_equal(EVP_DigestVerifyInit_ex(context, NULL, kind == 1 ? NULL : "SHA256",
					 ours.library, NULL, theirs, NULL),
			1);
		assert_int_not_equal(EVP_DigestVerify(context, signature, bytes, at - 8, 8), 1);
		/* And written again, as those who look into a peer's certificate may wish. */
		OPENSSL_free(der);
		der = NULL;
		assert_int_equal(i2d_PUBKEY(theirs, &der), der_bytes);
		OPENSSL_free(der);
		EVP_MD_CTX_free(context);
		EVP_PKEY_free(theirs);
		EVP_PKEY_free(mine);
		EVP_PKEY_free(key);
		PKCS8_PRIV_KEY_INFO_free(info);
	}
	ERR_clear_error();
}

static void *make_and_end(void *argument)
{
	for (int round = 0; round < 5; round++) {
		struct tls_library library;
		uint8_t key[32] = {1}, out[32];
		size_t bytes;

		if (!tls_library_init(&library) || library.base == NULL ||
			EVP_Q_mac(library.library, "HMAC", NULL, "SHA256", NULL, key, sizeof(key),
				key, sizeof(key), out, sizeof(out), &bytes) == NULL)
			return argument;
		tls_library_fini(&library);
	}
	return NULL;
}

/* Many at once: the tables are filled by one of them and then only read. */
static void provider_on_threads(void **state)
{
	pthread_t threads[4];
	void *result;

	(void)state;
	for (int index = 0; index < 4; index++)
		assert_int_equal(
			pthread_create(&threads[index], NULL, make_and_end, &threads[0]), 0);
	for (int index = 0; index < 4; index++) {
		assert_int_equal(pthread_join(threads[index], &result), 0);
		assert_null(result);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(provider_offers_its_own),
		cmocka_unit_test(provider_leaves_out_the_rest),
		cmocka_unit_test(provider_derives_as_the_standard),
		cmocka_unit_test(provider_refuses_other_derivations),
		cmocka_unit_test(provider_authenticates_as_the_standard),
		cmocka_unit_test(provider_refuses_another_digest),
		cmocka_unit_test(provider_decodes_keys),
		cmocka_unit_test(provider_on_threads),
	};

	test_seed = (uint64_t)time(NULL) * 2654435761u | 1;
	if (argc == 3 && strcmp(argv[1], "--seed") == 0)
		test_seed = strtoull(argv[2], NULL, 10) | 1;
	printf("seed %llu\n", (unsigned long long)test_seed);
	return cmocka_run_group_tests_name("tls provider", tests, begin, end);
}
