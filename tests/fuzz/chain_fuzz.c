/*
 * Fuzzing what a peer or an invitation brings as certificates: one certificate, a PKCS #7 chain,
 * the judgement of both, the properties of a group, server names.
 */
#include "api/pkcs7.h"
#include "api/properties.h"
#include "api/trust.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void judge(X509 *const *chain, uint32_t count)
{
	struct trust_request request = {.any_time = true};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];

	if (trust_verify(chain, count, &request, &result, refusal) == TRUST_OK &&
		refusal[0] != '\0')
		abort();
}

static void as_certificate(const uint8_t *data, size_t bytes)
{
	X509 *x509 = certificate_from_der(data, bytes);
	struct certificate_info info;
	struct group_properties properties;
	char refusal[REFUSAL_BYTES];
	X509 *chain[2] = {x509, x509};

	if (x509 == NULL)
		return;
	if (certificate_read(x509, &info, refusal) == 0 && !peer_name_is_secure(info.name))
		abort();
	judge(chain, 2);
	(void)properties_unpack(data, bytes, x509, &properties);
	X509_free(x509);
}

static void as_chain(const uint8_t *data, size_t bytes)
{
	X509 *chain[PH_CHAIN_MAX];
	struct group_properties properties;
	uint32_t count;

	if (pkcs7_unpack(data, bytes, chain, PH_CHAIN_MAX, &count) < 0)
		return;
	judge(chain, count);
	(void)properties_unpack(data, bytes, chain[count - 1], &properties);
	pkcs7_free(chain, count);
}

static void as_server_name(const uint8_t *data, size_t bytes)
{
	char identity[PEER_AUTHORITY_BYTES], group[PEER_AUTHORITY_BYTES];
	char text[PH_SNI_BYTES_MAX + 1];

	if (bytes > PH_SNI_BYTES_MAX)
		return;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	if (peer_sni_parse(text, identity, group) == 0 && !peer_authority_is_valid(group))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	as_certificate(data, bytes);
	as_chain(data, bytes);
	as_server_name(data, bytes);
	return 0;
}
