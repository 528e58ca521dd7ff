/*
 * PKCS #7 SignedData with certificates only. OpenSSL keeps the certificates in the order they were
 * added, and that order is part of what we read: root first, so a shuffled one is a broken chain.
 */
#include "api/pkcs7.h"

#include "api/crypto.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>

int pkcs7_pack(X509 *const *leaf_first, uint32_t count, uint8_t **der, size_t *der_bytes)
{
	PKCS7 *pkcs7 = PKCS7_new();
	unsigned char *out = NULL;
	int bytes = -1;

	if (pkcs7 == NULL || PKCS7_set_type(pkcs7, NID_pkcs7_signed) != 1 ||
		PKCS7_content_new(pkcs7, NID_pkcs7_data) != 1)
		goto done;
	for (uint32_t index = count; index-- > 0;)
		if (PKCS7_add_certificate(pkcs7, leaf_first[index]) != 1)
			goto done;
	if (PKCS7_set_detached(pkcs7, 1) != 1)
		goto done;
	bytes = i2d_PKCS7(pkcs7, &out);
done:
	PKCS7_free(pkcs7);
	if (bytes <= 0) {
		ERR_clear_error();
		return -ENOMEM;
	}
	*der = out;
	*der_bytes = (size_t)bytes;
	return 0;
}

void pkcs7_free(X509 **chain, uint32_t count)
{
	for (uint32_t index = 0; index < count; index++)
		X509_free(chain[index]);
}

int pkcs7_unpack(const uint8_t *der, size_t der_bytes, X509 **leaf_first, uint32_t count_max,
	uint32_t *count)
{
	const unsigned char *at = der;
	STACK_OF(X509) * certificates;
	PKCS7 *pkcs7;
	int status = -EINVAL;
	int total;

	if (der_bytes == 0 || der_bytes > PH_CHAIN_MAX * CERTIFICATE_DER_BYTES_MAX)
		return -EINVAL;
	ERR_clear_error();
	pkcs7 = d2i_PKCS7(NULL, &at, (long)der_bytes);
	if (pkcs7 == NULL)
		return crypto_failure(-EINVAL);
	if (at != der + der_bytes || !PKCS7_type_is_signed(pkcs7) || pkcs7->d.sign == NULL)
		goto done;
	certificates = pkcs7->d.sign->cert;
	total = certificates != NULL ? sk_X509_num(certificates) : 0;
	if (total <= 0)
		goto done;
	status = -E2BIG;
	if ((uint32_t)total > count_max)
		goto done;
	for (int index = 0; index < total; index++) {
		leaf_first[index] = sk_X509_value(certificates, total - 1 - index);
		X509_up_ref(leaf_first[index]);
	}
	*count = (uint32_t)total;
	status = 0;
done:
	PKCS7_free(pkcs7);
	return status;
}
