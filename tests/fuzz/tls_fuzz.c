/*
 * What a peer's TLS may send, in both roles: the first bytes of a stranger as they are; the flights of
 * a real peer, bent on their way; after the handshake its records, bent too, and its key updates. The
 * name parsing, the choice of the protocol, the limits of a chain and OpenSSL's reading are behind it.
 *
 * What must hold: nothing opens without on_verify's word, no name is asked about twice, plain text
 * comes out as it went in or not at all, and a failure is final.
 */
#include "engine/credentials.h"
#include "engine/tls_parts.h"
#include "tests/engine/test_certs.h"
#include "tests/fake/memory_script.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/libcrypto_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define PEERS_COUNT 8u
#define FLIGHTS_MAX 12
#define STEPS_MAX 100
#define WIRE_BYTES_MAX (1u << 20)

/* The first byte of an input. */
#define IS_PAIR 1u /* a real peer; else bytes for a server, in slices of the second byte */
#define IS_CLIENT 2u /* the tested end */
#define IS_OPENSSL 4u /* it keeps OpenSSL's record layer */
#define IS_PEER_OPENSSL 8u
#define IS_REKEYED 16u /* the tested end changes its key every third record */
#define IS_HELLO_REFUSED 32u
#define IS_VERIFY_REFUSED 64u
#define IS_STRANGE 128u /* the peer does something that ours would not: the next byte says what */

struct end {
	struct tls *tls;
	int hellos, verifies;
	bool is_tested;
};

static struct tls_shard *shards[2]; /* of the tested: own records, OpenSSL's */
static struct tls_shard *peer_shards[2];
static struct ph_credentials *credentials;
/* Certificates of peers, among them those that must be refused. */
static struct {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * issuers;
} strangers[PEERS_COUNT];
static struct ph_credentials *fresh; /* of this input alone: no shard has parsed them */
static uint8_t config;
static struct end tested, peer;
static uint8_t wire[WIRE_BYTES_MAX];
static uint8_t sent[WIRE_BYTES_MAX], got[WIRE_BYTES_MAX];
static size_t sent_bytes, got_bytes;
static bool is_bent;

static int on_hello(void *context, const char *sni, struct ph_credentials **given)
{
	struct end *end = context;
	size_t length = strlen(sni);

	FUZZ_MUST(length <= PH_SNI_BYTES_MAX);
	for (size_t index = 0; index < length; index++)
		FUZZ_MUST(sni[index] > 0x20 && sni[index] < 0x7F);
	FUZZ_MUST(++end->hellos == 1);
	if (end->is_tested && (config & IS_HELLO_REFUSED))
		return -EACCES;
	*given = ph_credentials_get(end->is_tested && fresh != NULL ? fresh : credentials);
	return 0;
}

static int on_verify(void *context, const struct ph_chain *chain)
{
	struct end *end = context;

	FUZZ_MUST(chain->count >= 1 && chain->count <= PH_CHAIN_MAX);
	for (uint32_t index = 0; index < chain->count; index++) {
		FUZZ_MUST(chain->der[index].bytes <= TLS_CERTIFICATE_BYTES_MAX);
		FUZZ_MUST(credentials_is_key_allowed(chain->x509[index]));
	}
	end->verifies++;
	return end->is_tested && (config & IS_VERIFY_REFUSED) ? -EACCES : 0;
}

static const struct tls_events events = {.on_hello = on_hello, .on_verify = on_verify};

/* ---- once ----------------------------------------------------------------------------------- */

static void finish(void)
{
	for (int index = 0; index < 2; index++) {
		tls_shard_destroy(shards[index]);
		tls_shard_destroy(peer_shards[index]);
	}
	for (uint32_t index = 0; index < PEERS_COUNT; index++) {
		X509_free(strangers[index].leaf);
		EVP_PKEY_free(strangers[index].key);
		sk_X509_pop_free(strangers[index].issuers, X509_free);
	}
	ph_credentials_put(credentials);
}

static void stranger(uint32_t index, enum test_key kind, uint32_t issuers, size_t ballast)
{
	strangers[index].key = test_key_create(kind);
	strangers[index].leaf = test_certificate_create(
		strangers[index].key, "stranger", NULL, strangers[index].key, ballast);
	strangers[index].issuers = sk_X509_new_null();
	while (issuers-- > 0) {
		X509_up_ref(strangers[index].leaf);
		FUZZ_MUST(sk_X509_push(strangers[index].issuers, strangers[index].leaf) > 0);
	}
}

static void prepare(void)
{
	random_is_ours();
	random_state = 3;
	for (int index = 0; index < 2; index++) {
		uint32_t flags = index > 0 ? PH_HUB_TLS_OPENSSL : 0;

		FUZZ_MUST(tls_shard_create(&events, flags, &shards[index]) == 0);
		FUZZ_MUST(tls_shard_create(&events, flags, &peer_shards[index]) == 0);
	}
	credentials = test_identity_create(TEST_P256, "fuzz");
	stranger(0, TEST_ED25519, 0, 0);
	stranger(1, TEST_P256, 2, 0);
	stranger(2, TEST_P256, 24, 0); /* the longest chain */
	stranger(3, TEST_P256, 25, 0); /* one too long */
	stranger(4, TEST_P256, 0, 17000); /* too large */
	stranger(5, TEST_P384, 0, 0);
	stranger(6, TEST_RSA2048, 0, 0);
	stranger(7, TEST_RSA1024, 0, 0);
	FUZZ_MUST(atexit(finish) == 0);
}

/* ---- the stranger --------------------------------------------------------------------------- */

static void raw_bytes(struct input *input)
{
	struct chain out = {0};
	size_t slice_bytes = 1u + input_byte(input) * 16u, step;
	int status = TLS_AGAIN;
	const uint8_t *taken;

	if (tls_open(shards[0], TLS_SERVER, NULL, NULL, &tested, &tested.tls) < 0)
		return;
	while (input->left > 0 && status == TLS_AGAIN) {
		taken = input_take(input, slice_bytes, &step);
		tls_input(tested.tls, taken, step);
		status = tls_handshake(tested.tls, &out);
		if (status == TLS_AGAIN)
			FUZZ_MUST(tls_input_left(tested.tls) == 0);
	}
	FUZZ_MUST(status != 0);
	tls_destroy(tested.tls);
	chain_clear(&out);
}

/* ---- on the way ------------------------------------------------------------------------------ */

static size_t gather(struct chain *out)
{
	size_t bytes = 0;
	struct chunk *chunk;

	while ((chunk = chain_pop(out)) != NULL) {
		size_t here = chunk->bytes - chunk->offset;

		FUZZ_MUST(here <= sizeof(wire) - bytes);
		memcpy(wire + bytes, chunk->data + chunk->offset, here);
		bytes += here;
		chunk_destroy(chunk);
	}
	return bytes;
}

/* Bend the bytes of `wire` on their way to the tested end. */
static size_t bend(struct input *input, size_t bytes)
{
	uint8_t what = input_byte(input);
	size_t at, here;
	const uint8_t *taken;

	if (what % 8 == 0 || what % 8 > 5 || bytes == 0)
		return bytes;
	at = input_number(input, 2) % bytes;
	is_bent = true;
	switch (what % 8) {
	case 1:
		wire[at] ^= (uint8_t)(1 + input_byte(input) % 255);
		return bytes;
	case 2:
		return at;
	case 3:
		taken = input_take(input, 1u + input_byte(input) % 32u, &here);
		memmove(wire + at + here, wire + at, bytes - at);
		if (here > 0)
			memcpy(wire + at, taken, here);
		return bytes + here;
	case 4:
		/* From here on once more. */
		memcpy(wire + bytes, wire + at, bytes - at);
		return bytes + (bytes - at);
	default:
		taken = input_take(input, 1u + input_byte(input) % 32u, &here);
		if (here > bytes - at)
			here = bytes - at;
		if (here > 0)
			memcpy(wire + at, taken, here);
		return bytes;
	}
}

/* Everything in `wire` to one end; its answer stays in `out`. */
static int give(struct end *end, size_t bytes, size_t slice_bytes, struct chain *out)
{
	static uint8_t room[TLS_RECORD_BYTES_MAX + 1];
	uint8_t *slice = malloc(bytes > 0 ? bytes : 1);
	size_t at = 0, here;
	ssize_t status = TLS_AGAIN;

	FUZZ_MUST(slice != NULL && bytes <= sizeof(wire));
	memcpy(slice, wire, bytes);
	do {
		here = bytes - at < slice_bytes ? bytes - at : slice_bytes;
		tls_input_drop(end->tls);
		tls_input(end->tls, slice + at, here);
		at += here;
		status = tls_handshake(end->tls, out);
		if (status == TLS_AGAIN)
			FUZZ_MUST(tls_input_left(end->tls) == 0);
		if (status != 0)
			continue;
		FUZZ_MUST(end->verifies == 1);
		while ((status = tls_read(end->tls, room, sizeof(room), out)) > 0) {
			if (!end->is_tested)
				continue;
			FUZZ_MUST(got_bytes + (size_t)status <= sent_bytes);
			FUZZ_MUST(memcmp(room, sent + got_bytes, (size_t)status) == 0);
			got_bytes += (size_t)status;
		}
	} while (at < bytes && status == TLS_AGAIN);
	tls_input_drop(end->tls);
	free(slice);
	if (status == TLS_FAILED || status == TLS_NO_MEMORY) {
		char text[PH_TEXT_BYTES_MAX];

		tls_failure_text(end->tls, text, sizeof(text));
		FUZZ_MUST(text[0] != '\0');
		tls_failure_text(end->tls, NULL, 0);
		FUZZ_MUST(tls_read(end->tls, room, sizeof(room), out) == status);
		FUZZ_MUST(tls_handshake(end->tls, out) == status);
		FUZZ_MUST(end->tls->has_goodbye || tls_write(end->tls, wire, 1, out) == status);
		FUZZ_MUST(tls_goodbye(end->tls, out) == status);
	}
	return (int)status;
}

/* ---- two of them ---------------------------------------------------------------------------- */

/* What a peer of ours never does. Only as a client: a server's certificate comes from on_hello. */
static void be_strange(uint8_t what)
{
	static const uint8_t protocols[] = {
		3, 'f', 'o', 'o', 9, 'p', 'e', 'e', 'r', 'h', 'u', 'b', '/', '2'};
	SSL *ssl = peer.tls->ssl;
	uint32_t index = what % PEERS_COUNT;

	switch (what >> 4) {
	case 0:
		if (config & IS_CLIENT)
			break;
		/* Refused by OpenSSL itself when it is too weak: then it stays as it was. */
		SSL_set_security_level(ssl, 0);
		(void)SSL_use_cert_and_key(ssl, strangers[index].leaf, strangers[index].key,
			strangers[index].issuers, 1);
		(void)SSL_set1_sigalgs_list(ssl,
			"ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:rsa_pss_rsae_sha256");
		break;
	case 1:
		(void)SSL_set_alpn_protos(ssl, protocols, sizeof(protocols));
		break;
	case 2:
		(void)SSL_set_alpn_protos(ssl, NULL, 0);
		break;
	case 3:
		(void)SSL_set1_groups_list(ssl, "P-256:X25519");
		break;
	case 4:
		if (what & 8) {
			/* A key share that the tested server has no use for: it asks for another hello. */
			(void)SSL_set1_groups_list(tested.tls->ssl, "X25519");
			(void)SSL_set1_groups_list(ssl, "P-256:X25519");
			break;
		}
		(void)SSL_set1_groups_list(ssl, "P-521");
		break;
	case 5:
		(void)SSL_set_ciphersuites(ssl, "TLS_CHACHA20_POLY1305_SHA256");
		break;
	case 6:
		(void)SSL_set_ciphersuites(ssl, "TLS_AES_256_GCM_SHA384");
		break;
	case 7:
		SSL_set_min_proto_version(ssl, TLS1_2_VERSION);
		SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
		break;
	case 8:
		SSL_certs_clear(ssl);
		break;
	default:
		(void)SSL_set_tlsext_host_name(ssl, "a name with spaces");
		break;
	}
}

/* A leaf and two issuers, which nobody has seen. */
static void make_fresh(void)
{
	X509 *certificates[] = {strangers[1].leaf, strangers[0].leaf, strangers[6].leaf};

	fresh = test_credentials_create(certificates, 3, strangers[1].key);
}

static bool pair_open(struct input *input)
{
	struct tls_shard *own = shards[config & IS_OPENSSL ? 1 : 0];
	struct tls_shard *other = peer_shards[config & IS_PEER_OPENSSL ? 1 : 0];
	bool is_client = config & IS_CLIENT;
	uint8_t failing;
	static char long_name[PH_SNI_BYTES_MAX + 2];
	const char *const names[] = {"hub", "", NULL, long_name};
	struct ph_credentials *given;
	uint8_t name;

	memset(long_name, 'x', sizeof(long_name) - 1);
	tls_shard_rekey_after(own, config & IS_REKEYED ? 3 : 1u << 20);
	failing = input_byte(input);
	name = input_byte(input);
	if (name & 8)
		make_fresh();
	given = name & 4 ? NULL : fresh != NULL ? fresh : credentials;
	if (failing < 128)
		memory_script_fail(failing % 16, false);
	else
		libcrypto_fail(failing - 127u);
	if (tls_open(own, is_client ? TLS_CLIENT : TLS_SERVER, is_client ? given : NULL,
		    names[name % 4], &tested, &tested.tls) < 0) {
		libcrypto_fail(0);
		return false;
	}
	libcrypto_fail(0);
	memory_script_fail(0, false);
	FUZZ_MUST(tls_goodbye(tested.tls, NULL) == TLS_FAILED); /* there are no keys yet */
	FUZZ_MUST(
		tls_open(other, is_client ? TLS_SERVER : TLS_CLIENT, is_client ? NULL : credentials,
			names[input_byte(input) % 3], &peer, &peer.tls) == 0);
	if (config & IS_STRANGE)
		be_strange(input_byte(input));
	return true;
}

/* Flights to and fro. 0: both are done. */
static int pair_handshake(struct input *input)
{
	size_t slice_bytes = 1u + input_byte(input) * 16u;
	struct chain to_tested = {0}, to_peer = {0};
	int status = TLS_AGAIN, peer_status = TLS_AGAIN;
	uint8_t failing;
	size_t bytes;

	for (int flight = 0; flight < FLIGHTS_MAX && status == TLS_AGAIN; flight++) {
		peer_status = give(&peer, gather(&to_peer), sizeof(wire), &to_tested);
		failing = input_byte(input);
		bytes = bend(input, gather(&to_tested));
		if (failing < 128)
			memory_script_fail(failing % 32, false);
		else
			libcrypto_fail((failing - 127u) * 16u - input_byte(input) % 16u);
		status = give(&tested, bytes, slice_bytes, &to_peer);
		memory_script_fail(0, false);
		libcrypto_fail(0);
		if (to_peer.bytes == 0 && flight > 0)
			break;
	}
	/* What the tested end said last. */
	if (peer_status == TLS_AGAIN)
		(void)give(&peer, gather(&to_peer), sizeof(wire), &to_tested);
	chain_clear(&to_tested);
	chain_clear(&to_peer);
	if (tested.tls->state != TLS_STATE_OPEN || peer.tls->state != TLS_STATE_OPEN)
		return -1;
	FUZZ_MUST(tested.verifies == 1 && !(config & IS_VERIFY_REFUSED));
	return 0;
}

/* The peer asks for a new key of ours, or tells of its own. */
static void peer_update(bool is_request, struct chain *out)
{
	if (peer.tls->ssl == NULL)
		return; /* our record layer never asks */
	peer.tls->shard->current = peer.tls;
	peer.tls->shard->out = out;
	if (SSL_key_update(peer.tls->ssl,
		    is_request ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
		(void)SSL_do_handshake(peer.tls->ssl);
	peer.tls->shard->current = NULL;
	peer.tls->shard->out = NULL;
}

static void pair_talk(struct input *input)
{
	struct chain to_tested = {0}, to_peer = {0};
	bool is_peer_over = false, is_over = false, has_goodbye = false;

	for (int steps = 0; steps < STEPS_MAX && input->left > 0 && !is_over; steps++) {
		uint8_t what = input_byte(input);
		size_t bytes = input_number(input, 1 + what % 2), slice;

		switch (what % 8) {
		case 0:
		case 1:
		case 2:
			if (is_peer_over || is_bent || bytes > sizeof(sent) - sent_bytes)
				break;
			memset(sent + sent_bytes, (int)what + steps, bytes);
			(void)tls_write(peer.tls, sent + sent_bytes, bytes, &to_tested);
			sent_bytes += bytes;
			break;
		case 3:
			if (!is_peer_over)
				peer_update(what & 16, &to_tested);
			break;
		case 4:
			if (!is_peer_over && (what & 32)) {
				(void)tls_goodbye(peer.tls, &to_tested);
				is_peer_over = true;
			}
			break;
		case 5:
			if (has_goodbye)
				break;
			memory_script_fail(what >> 5, false);
			libcrypto_fail(what & 16 ? 1u + bytes % 8u : 0);
			is_over = tls_write(tested.tls, got, bytes % 1000, &to_peer) < 0;
			memory_script_fail(0, false);
			libcrypto_fail(0);
			break;
		case 6:
			if (what & 32) {
				has_goodbye = true;
				libcrypto_fail(what & 16 ? 1u + bytes % 8u : 0);
				is_over = tls_goodbye(tested.tls, &to_peer) < 0;
				libcrypto_fail(0);
			}
			break;
		default:
			break;
		}
		slice = what & 8 ? 1u + bytes % 64u : sizeof(wire);
		memory_script_fail(what >= 240 ? 1u + bytes % 4u : 0, false);
		libcrypto_fail(what >= 224 && what < 240 ? 1u + bytes % 64u : 0);
		if (!is_over)
			is_over = give(&tested, bend(input, gather(&to_tested)), slice, &to_peer) !=
				TLS_AGAIN;
		memory_script_fail(0, false);
		libcrypto_fail(0);
		FUZZ_MUST(is_over || is_bent || got_bytes == sent_bytes);
		if (!is_peer_over &&
			give(&peer, gather(&to_peer), sizeof(wire), &to_tested) != TLS_AGAIN)
			is_peer_over = true;
		chain_clear(&to_peer);
		FUZZ_MUST(tls_bytes_estimate(tested.tls) > 0);
	}
	chain_clear(&to_tested);
	chain_clear(&to_peer);
}

static void pair(struct input *input)
{
	if (pair_open(input) && pair_handshake(input) == 0)
		pair_talk(input);
	memory_script_fail(0, false);
	tls_destroy(tested.tls);
	tls_destroy(peer.tls);
	ph_credentials_put(fresh);
	fresh = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	int64_t memory_before;

	if (credentials == NULL)
		prepare();
	random_state = 4;
	memory_before = memory_script_live();
	memset(&tested, 0, sizeof(tested));
	memset(&peer, 0, sizeof(peer));
	tested.is_tested = true;
	sent_bytes = got_bytes = 0;
	is_bent = false;
	config = input_byte(&input);
	if (config & IS_PAIR)
		pair(&input);
	else
		raw_bytes(&input);
	FUZZ_MUST(memory_script_live() == memory_before);
	return 0;
}
