/* SipHash-2-4-128 against published vectors and OpenSSL's own, and the keyed digest of a pair. */
#include "engine/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define INPUT_MAX 80

static void key_and_input(uint8_t key[16], uint8_t input[INPUT_MAX])
{
	for (unsigned i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	for (unsigned i = 0; i < INPUT_MAX; i++)
		input[i] = (uint8_t)i;
}

/* The paper's key 00..0f with the inputs of 0, 1 and 15 bytes (00..0e) of the reference vectors. */
static void digest_published_vectors(void **state)
{
	static const struct {
		size_t bytes;
		uint8_t out[16];
	} vectors[] = {
		{0,
			{0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14,
				0xc7, 0x55, 0x02, 0x93}},
		{1,
			{0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11,
				0x9b, 0x22, 0xfc, 0x45}},
		{15,
			{0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11, 0x7e, 0x08, 0xec, 0x0f,
				0x97, 0xcf, 0xc3, 0xd9}},
	};
	uint8_t key[16], input[INPUT_MAX], out[16];

	(void)state;
	key_and_input(key, input);
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		siphash128(key, input, vectors[i].bytes, out);
		assert_memory_equal(out, vectors[i].out, 16);
	}
}

static void openssl_siphash(
	const uint8_t key[16], const uint8_t *data, size_t bytes, uint8_t out[16])
{
	size_t size = 16, written = 0;
	OSSL_PARAM params[] = {
		OSSL_PARAM_size_t(OSSL_MAC_PARAM_SIZE, &size),
		OSSL_PARAM_END,
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	EVP_MAC_CTX *ctx;

	assert_non_null(mac);
	ctx = EVP_MAC_CTX_new(mac);
	assert_non_null(ctx);
	assert_int_equal(EVP_MAC_init(ctx, key, 16, params), 1);
	assert_int_equal(EVP_MAC_update(ctx, data, bytes), 1);
	assert_int_equal(EVP_MAC_final(ctx, out, &written, 16), 1);
	assert_int_equal(written, 16);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
}

/* Every length over several words, at every alignment of the tail. */
static void digest_same_as_openssl(void **state)
{
	uint8_t key[16], input[INPUT_MAX], ours[16], theirs[16];

	(void)state;
	key_and_input(key, input);
	for (size_t bytes = 0; bytes <= INPUT_MAX; bytes++) {
		siphash128(key, input, bytes, ours);
		openssl_siphash(key, input, bytes, theirs);
		assert_memory_equal(ours, theirs, 16);
		key[bytes % 16] ^= (uint8_t)(bytes * 37);
	}
}

static bool is_same(struct hash_key one, struct hash_key other)
{
	return one.word[0] == other.word[0] && one.word[1] == other.word[1];
}

/* Where the group ends counts, also when a part is empty. */
static void digest_pair_keeps_parts_apart(void **state)
{
	(void)state;
	assert_int_equal(digest_init(), 0);
	assert_true(is_same(digest_pair("a", "bc"), digest_pair("a", "bc")));
	assert_false(is_same(digest_pair("a", "bc"), digest_pair("ab", "c")));
	assert_false(is_same(digest_pair("", "abc"), digest_pair("abc", "")));
	assert_false(is_same(digest_pair("", ""), digest_pair("", "a")));
	assert_false(is_same(digest_pair("x", "y"), digest_pair("y", "x")));
}

static void *init_and_digest(void *key)
{
	if (digest_init() == 0)
		*(struct hash_key *)key = digest_pair("group", "identity");
	return NULL;
}

/* Whoever comes first draws the key; all threads have the same one. */
static void digest_init_on_many_threads(void **state)
{
	pthread_t threads[4];
	struct hash_key keys[4] = {{{0, 0}}};

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, init_and_digest, &keys[i]), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < 4; i++)
		assert_true(is_same(keys[i], digest_pair("group", "identity")));
	assert_false(is_same(keys[0], (struct hash_key){{0, 0}}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_init_on_many_threads),
		cmocka_unit_test(digest_published_vectors),
		cmocka_unit_test(digest_same_as_openssl),
		cmocka_unit_test(digest_pair_keeps_parts_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
