/*
 * A peer of the record layer made of libcrypto's own parts, for the tests that need one that seals
 * whatever it likes. Stops the process where libcrypto or our records are not as they must be.
 */
#ifndef PEERHUB_TESTS_RECORD_PEER_H
#define PEERHUB_TESTS_RECORD_PEER_H

#include "engine/record.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEER_IS(what)                                                              \
	do {                                                                       \
		if (!(what)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
			abort();                                                   \
		}                                                                  \
	} while (0)
#define PEER_MUST(got, wanted) PEER_IS((long long)(got) == (long long)(wanted))

struct peer_keys {
	uint8_t secret[32], key[32], iv[12];
	uint64_t sequence;
};

struct peer {
	enum record_suite suite;
	struct peer_keys seals, opens;
};

static inline void peer_expand(const uint8_t *secret, const char *label, uint8_t *out, size_t bytes)
{
	static EVP_KDF *kdf; /* kept: fetching costs more than using */
	EVP_KDF_CTX *context;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, 32),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (char[]){"tls13 "}, 6),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	if (kdf == NULL)
		kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	context = EVP_KDF_CTX_new(kdf);
	PEER_MUST(EVP_KDF_derive(context, out, bytes, params), 1);
	EVP_KDF_CTX_free(context);
}

static inline void keys_derive(const struct peer *peer, struct peer_keys *keys)
{
	peer_expand(keys->secret, "key", keys->key, peer->suite == RECORD_AES_128_GCM ? 16 : 32);
	peer_expand(keys->secret, "iv", keys->iv, 12);
	keys->sequence = 0;
}

static inline void keys_update(const struct peer *peer, struct peer_keys *keys)
{
	uint8_t next[32];

	peer_expand(keys->secret, "traffic upd", next, 32);
	memcpy(keys->secret, next, 32);
	keys_derive(peer, keys);
}

static inline const EVP_CIPHER *peer_cipher(const struct peer *peer)
{
	return peer->suite == RECORD_AES_128_GCM ? EVP_aes_128_gcm() : EVP_chacha20_poly1305();
}

static inline void peer_nonce(const struct peer_keys *keys, uint8_t *nonce)
{
	memcpy(nonce, keys->iv, 12);
	for (int at = 0; at < 8; at++)
		nonce[11 - at] ^= (uint8_t)(keys->sequence >> (8 * at));
}

/* A record with this inner text, type and padding included. Returns its bytes. */
static inline size_t peer_seal(struct peer *peer, const uint8_t *inner, size_t bytes, uint8_t *out)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	uint8_t nonce[12],
		header[5] = {23, 3, 3, (uint8_t)((bytes + 16) >> 8), (uint8_t)(bytes + 16)};
	int done;

	peer_nonce(&peer->seals, nonce);
	memcpy(out, header, 5);
	PEER_MUST(EVP_EncryptInit_ex(context, peer_cipher(peer), NULL, peer->seals.key, nonce), 1);
	PEER_MUST(EVP_EncryptUpdate(context, NULL, &done, header, 5), 1);
	PEER_MUST(EVP_EncryptUpdate(context, out + 5, &done, inner, (int)bytes), 1);
	PEER_MUST(EVP_EncryptFinal_ex(context, out + 5 + bytes, &done), 1);
	PEER_MUST(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, out + 5 + bytes), 1);
	EVP_CIPHER_CTX_free(context);
	peer->seals.sequence++;
	return 5 + bytes + 16;
}

/* One record at the front of data: its inner text; returns the inner text's bytes. */
static inline size_t peer_open(struct peer *peer, const uint8_t *data, size_t bytes, uint8_t *inner)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	size_t cipher_bytes = (size_t)data[3] << 8 | data[4];
	uint8_t nonce[12];
	int done;

	PEER_IS(bytes >= 5 + cipher_bytes);
	PEER_MUST(data[0], 23);
	PEER_MUST(data[1], 3);
	PEER_MUST(data[2], 3);
	peer_nonce(&peer->opens, nonce);
	PEER_MUST(EVP_DecryptInit_ex(context, peer_cipher(peer), NULL, peer->opens.key, nonce), 1);
	PEER_MUST(EVP_DecryptUpdate(context, NULL, &done, data, 5), 1);
	PEER_MUST(EVP_DecryptUpdate(context, inner, &done, data + 5, (int)cipher_bytes - 16), 1);
	PEER_MUST(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16,
			  (void *)(uintptr_t)(data + 5 + cipher_bytes - 16)),
		1);
	PEER_MUST(EVP_DecryptFinal_ex(context, inner + done, &done), 1);
	EVP_CIPHER_CTX_free(context);
	peer->opens.sequence++;
	return cipher_bytes - 16;
}

#endif
