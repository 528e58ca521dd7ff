/* Credentials: every error code, counting, and what the engine reads back. */
#include "engine/credentials.h"
#include "engine/tls.h"
#include "tests/engine/test_certs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>

/* What goes in comes out, in order, as a copy. */
static void credentials_hold_a_copy(void **state)
{
	EVP_PKEY *root_key = test_key_create(TEST_P256), *key = test_key_create(TEST_ED25519);
	X509 *root = test_certificate_create(root_key, "root", NULL, root_key, 0);
	X509 *leaf = test_certificate_create(key, "leaf", root, root_key, 0);
	struct ph_bytes chain[2] = {test_certificate_der(leaf), test_certificate_der(root)};
	struct ph_bytes key_der = test_key_der(key), got;
	struct ph_credentials *credentials = NULL;

	(void)state;
	assert_int_equal(ph_credentials_create(chain, 2, key_der, &credentials), 0);
	assert_int_equal(credentials_chain_count(credentials), 2);
	for (uint32_t index = 0; index < 2; index++) {
		got = credentials_certificate(credentials, index);
		assert_ptr_not_equal(got.data, chain[index].data);
		assert_int_equal(got.bytes, chain[index].bytes);
		assert_memory_equal(got.data, chain[index].data, got.bytes);
		test_bytes_free(chain[index]);
	}
	got = credentials_key(credentials);
	assert_int_equal(got.bytes, key_der.bytes);
	assert_memory_equal(got.data, key_der.data, got.bytes);
	test_bytes_free(key_der);
	ph_credentials_put(credentials);
	X509_free(root);
	X509_free(leaf);
	EVP_PKEY_free(root_key);
	EVP_PKEY_free(key);
}

/* Each allowed kind of key works, each other one is refused at creation. */
static void credentials_by_kind_of_key(void **state)
{
	static const struct {
		enum test_key kind;
		int status;
	} cases[] = {
		{TEST_P256, 0},
		{TEST_ED25519, 0},
		{TEST_RSA2048, 0},
		{TEST_RSA1024, -EINVAL},
		{TEST_P384, -EINVAL},
		{TEST_P521, -EINVAL},
	};

	(void)state;
	for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
		EVP_PKEY *key = test_key_create(cases[index].kind);
		X509 *certificate = test_certificate_create(key, "k", NULL, key, 0);
		struct ph_credentials *credentials = NULL;

		assert_int_equal(test_credentials_try(&certificate, 1, key, &credentials),
			cases[index].status);
		assert_int_equal(credentials_is_key_allowed(certificate), cases[index].status == 0);
		ph_credentials_put(credentials);
		X509_free(certificate);
		EVP_PKEY_free(key);
	}
}

/* No chain, too long a chain, no place for the result. */
static void credentials_of_a_wrong_count(void **state)
{
	EVP_PKEY *key = test_key_create(TEST_P256);
	X509 *certificate = test_certificate_create(key, "k", NULL, key, 0);
	struct ph_bytes chain[PH_CHAIN_MAX + 1], key_der = test_key_der(key);
	struct ph_credentials *credentials = NULL;

	(void)state;
	for (uint32_t index = 0; index <= PH_CHAIN_MAX; index++)
		chain[index] = test_certificate_der(certificate);
	assert_int_equal(ph_credentials_create(chain, 0, key_der, &credentials), -EINVAL);
	assert_int_equal(ph_credentials_create(NULL, 1, key_der, &credentials), -EINVAL);
	assert_int_equal(ph_credentials_create(chain, 1, key_der, NULL), -EINVAL);
	assert_int_equal(
		ph_credentials_create(chain, PH_CHAIN_MAX + 1, key_der, &credentials), -EINVAL);
	assert_null(credentials);
	assert_int_equal(ph_credentials_create(chain, PH_CHAIN_MAX, key_der, &credentials), 0);
	ph_credentials_put(credentials);
	for (uint32_t index = 0; index <= PH_CHAIN_MAX; index++)
		test_bytes_free(chain[index]);
	test_bytes_free(key_der);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* Bytes that are not what they should be: cut, followed by more, empty, absent, huge, garbage. */
static void credentials_of_broken_bytes(void **state)
{
	EVP_PKEY *key = test_key_create(TEST_P256);
	X509 *certificate = test_certificate_create(key, "k", NULL, key, 0);
	X509 *large = test_certificate_create(key, "k", NULL, key, TLS_CERTIFICATE_BYTES_MAX);
	struct ph_bytes good = test_certificate_der(certificate), key_der = test_key_der(key);
	struct ph_bytes huge = test_certificate_der(large);
	struct ph_credentials *credentials = NULL;
	uint8_t longer[4096] = {0}, longer_key[4096] = {0};
	struct ph_bytes chains[] = {
		{good.data, good.bytes - 1},
		{longer, good.bytes + 1},
		{good.data, 0},
		{NULL, good.bytes},
		{NULL, 0},
		huge,
		{good.data, SIZE_MAX},
		key_der,
	};
	struct ph_bytes keys[] = {
		{key_der.data, key_der.bytes - 1},
		{longer_key, key_der.bytes + 1},
		{key_der.data, 0},
		{NULL, key_der.bytes},
		{key_der.data, SIZE_MAX},
		good,
	};

	(void)state;
	assert_true(good.bytes < sizeof(longer) && key_der.bytes < sizeof(longer_key));
	memcpy(longer, good.data, good.bytes);
	memcpy(longer_key, key_der.data, key_der.bytes);
	for (size_t index = 0; index < sizeof(chains) / sizeof(chains[0]); index++) {
		struct ph_bytes second[2] = {good, chains[index]};

		assert_int_equal(
			ph_credentials_create(&chains[index], 1, key_der, &credentials), -EINVAL);
		assert_int_equal(ph_credentials_create(second, 2, key_der, &credentials), -EINVAL);
	}
	for (size_t index = 0; index < sizeof(keys) / sizeof(keys[0]); index++)
		assert_int_equal(
			ph_credentials_create(&good, 1, keys[index], &credentials), -EINVAL);
	assert_null(credentials);
	test_bytes_free(good);
	test_bytes_free(huge);
	test_bytes_free(key_der);
	X509_free(certificate);
	X509_free(large);
	EVP_PKEY_free(key);
}

/* A key of the same kind, and one of another kind, that is not the leaf's. */
static void credentials_with_a_foreign_key(void **state)
{
	EVP_PKEY *key = test_key_create(TEST_P256);
	EVP_PKEY *others[2] = {test_key_create(TEST_P256), test_key_create(TEST_ED25519)};
	X509 *certificate = test_certificate_create(key, "k", NULL, key, 0);
	struct ph_credentials *credentials = NULL;

	(void)state;
	for (int index = 0; index < 2; index++) {
		assert_int_equal(test_credentials_try(&certificate, 1, others[index], &credentials),
			-EINVAL);
		EVP_PKEY_free(others[index]);
	}
	assert_null(credentials);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

#define COUNTING_ROUNDS 20000

static void *count_up_and_down(void *argument)
{
	struct ph_credentials *credentials = argument;

	for (int round = 0; round < COUNTING_ROUNDS; round++)
		ph_credentials_put(ph_credentials_get(credentials));
	ph_credentials_put(credentials);
	return NULL;
}

/* References taken and dropped on two threads; the last one frees (seen by the sanitizers). */
static void credentials_counted_on_threads(void **state)
{
	struct ph_credentials *credentials = test_identity_create(TEST_P256, "counted");
	pthread_t threads[2];

	(void)state;
	for (int index = 0; index < 2; index++)
		assert_int_equal(pthread_create(&threads[index], NULL, count_up_and_down,
					 ph_credentials_get(credentials)),
			0);
	ph_credentials_put(credentials);
	for (int index = 0; index < 2; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	ph_credentials_put(NULL);
}

/* A serial is never given twice, even when the memory is. */
static void credentials_serial_is_unique(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (int round = 0; round < 16; round++) {
		struct ph_credentials *credentials = test_identity_create(TEST_ED25519, "serial");

		assert_true(credentials_serial(credentials) > last);
		last = credentials_serial(credentials);
		ph_credentials_put(credentials);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(credentials_hold_a_copy),
		cmocka_unit_test(credentials_by_kind_of_key),
		cmocka_unit_test(credentials_of_a_wrong_count),
		cmocka_unit_test(credentials_of_broken_bytes),
		cmocka_unit_test(credentials_with_a_foreign_key),
		cmocka_unit_test(credentials_counted_on_threads),
		cmocka_unit_test(credentials_serial_is_unique),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
