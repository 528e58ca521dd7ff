/* Public keys as p2p.h has them: algorithm and parameters by OID, key bits. */
#include "api/key_info.h"

#include "api/credential.h"
#include "api/detail.h"

#include <string.h>

#define OID_EC "1.2.840.10045.2.1"
#define OID_ED25519 "1.3.101.112"

/* OBJECT IDENTIFIER prime256v1, DER: the parameters of an EC key */
static const uint8_t p256_parameters[] = {
	0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t p256_head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce,
	0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42,
	0x00};
static const uint8_t ed25519_head[] = {
	0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

CERT_PUBLIC_KEY_INFO *key_info_take(struct block *block, const uint8_t *spki, size_t spki_bytes)
{
	CERT_PUBLIC_KEY_INFO *info = block_take(block, sizeof(*info));
	const uint8_t *bits;
	size_t bits_bytes;
	bool is_ed25519;
	char *oid;
	BYTE *parameters, *key;

	bits = key_spki_bits(spki, spki_bytes, &bits_bytes, &is_ed25519);
	oid = is_ed25519 ? block_copy(block, OID_ED25519, sizeof(OID_ED25519))
			 : block_copy(block, OID_EC, sizeof(OID_EC));
	parameters = block_copy(block, p256_parameters, is_ed25519 ? 0 : sizeof(p256_parameters));
	key = block_copy(block, bits, bits_bytes);
	if (info == NULL)
		return NULL;
	info->Algorithm.pszObjId = oid;
	info->Algorithm.Parameters.cbData = is_ed25519 ? 0 : sizeof(p256_parameters);
	info->Algorithm.Parameters.pbData = parameters;
	info->PublicKey.cbData = (DWORD)bits_bytes;
	info->PublicKey.pbData = key;
	return info;
}

HRESULT spki_from_key_info(
	const CERT_PUBLIC_KEY_INFO *key_info, uint8_t spki[KEY_SPKI_BYTES_MAX], size_t *spki_bytes)
{
	const CRYPT_ALGORITHM_IDENTIFIER *algorithm = &key_info->Algorithm;
	const CRYPT_BIT_BLOB *key = &key_info->PublicKey;
	const uint8_t *head = NULL;
	size_t head_bytes = 0;

	if (algorithm->pszObjId != NULL && strcmp(algorithm->pszObjId, OID_ED25519) == 0 &&
		algorithm->Parameters.cbData == 0 && key->cbData == 32) {
		head = ed25519_head;
		head_bytes = sizeof(ed25519_head);
	}
	if (algorithm->pszObjId != NULL && strcmp(algorithm->pszObjId, OID_EC) == 0 &&
		algorithm->Parameters.cbData == sizeof(p256_parameters) &&
		algorithm->Parameters.pbData != NULL &&
		memcmp(algorithm->Parameters.pbData, p256_parameters, sizeof(p256_parameters)) ==
			0 &&
		key->cbData == 65) {
		head = p256_head;
		head_bytes = sizeof(p256_head);
	}
	if (head == NULL || key->pbData == NULL || key->cUnusedBits != 0)
		return detail_fail(
			E_INVALIDARG, "the public key is neither P-256 nor Ed25519 in full");
	memcpy(spki, head, head_bytes);
	memcpy(spki + head_bytes, key->pbData, key->cbData);
	*spki_bytes = head_bytes + key->cbData;
	if (!key_spki_is_valid(spki, *spki_bytes))
		return detail_fail(E_INVALIDARG, "the public key is compressed");
	return S_OK;
}
