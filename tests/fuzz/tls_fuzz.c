/*
 * The first bytes of a stranger, before anything is known of it: given to a server of ours, in slices
 * whose size the first byte chooses. The name parsing, the choice of the protocol and OpenSSL's reading
 * of a ClientHello are behind it. No input may open a connection or have its name asked about twice.
 */
#include "engine/credentials.h"
#include "engine/tls.h"
#include "tests/engine/test_certs.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct tls_shard *shard;
static struct ph_credentials *credentials;

static int on_hello(void *context, const char *sni, struct ph_credentials **given)
{
	int *hellos = context;
	size_t length = strlen(sni);

	TEST_MUST(length <= PH_SNI_BYTES_MAX);
	for (size_t index = 0; index < length; index++)
		TEST_MUST(sni[index] > 0x20 && sni[index] < 0x7F);
	TEST_MUST(++*hellos == 1);
	*given = ph_credentials_get(credentials);
	return 0;
}

static int on_verify(void *context, const struct ph_chain *chain)
{
	(void)context;
	TEST_MUST(chain->count >= 1 && chain->count <= PH_CHAIN_MAX);
	return 0;
}

static const struct tls_events events = {on_hello, on_verify};

static void finish(void)
{
	tls_shard_destroy(shard);
	ph_credentials_put(credentials);
}

static void prepare(void)
{
	TEST_MUST(tls_shard_create(&events, 0, &shard) == 0);
	credentials = test_identity_create(TEST_P256, "fuzz");
	TEST_MUST(atexit(finish) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct chain out = {0};
	struct tls *tls;
	size_t slice_bytes;
	int hellos = 0, status = TLS_AGAIN;

	if (shard == NULL)
		prepare();
	if (bytes < 1)
		return 0;
	slice_bytes = 1u + data[0] * 16u;
	data++;
	bytes--;
	if (tls_open(shard, TLS_SERVER, NULL, NULL, &hellos, &tls) < 0)
		return 0;
	while (bytes > 0 && status == TLS_AGAIN) {
		size_t step = bytes < slice_bytes ? bytes : slice_bytes;

		tls_input(tls, data, step);
		status = tls_handshake(tls, &out);
		if (status == TLS_AGAIN)
			TEST_MUST(tls_input_left(tls) == 0);
		data += step;
		bytes -= step;
	}
	TEST_MUST(status != 0);
	tls_destroy(tls);
	chain_clear(&out);
	return 0;
}
