/*
 * TLS of a run. Mode tls: the engine's own, on OpenSSL, whose random numbers come from the seed; a fiber is
 * masked while OpenSSL works (fiber.c). Mode plain: a stub of tls.h that costs nothing and behaves alike as
 * far as the engine can see: flights, alerts, records, close_notify, refusals, want of memory.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_METHOD: one for all library contexts */
#include "tests/sim/app.h"

#include "engine/clock.h"
#include "engine/credentials.h"
#include "engine/memory.h"
#include "engine/tls.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct ph_credentials *credentials[MODEL_NAMES];
static uint8_t leaves[MODEL_NAMES][1024];
static size_t leaves_bytes[MODEL_NAMES];
static X509 *certificates[MODEL_NAMES];

/* ---- random numbers of OpenSSL ----------------------------------------------------------------- */

static int rand_bytes(unsigned char *out, int bytes)
{
	uint32_t entropy = sim_rates.entropy;

	sim_rates.entropy = 0;
	if (entropy_fill(out, (size_t)bytes) < 0)
		return 0;
	sim_rates.entropy = entropy;
	return 1;
}

static int rand_status(void)
{
	return 1;
}

static const RAND_METHOD rand_method = {
	.bytes = rand_bytes, .pseudorand = rand_bytes, .status = rand_status};

/* ---- certificates: always the same, whatever the time of day --------------------------------------- */

static void certificate_make(uint32_t name)
{
	/* Of fixed size in both kinds: P-256 signatures vary by a byte or two, with the seed alone. */
	EVP_PKEY *key =
		name % 2 == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	char text[16];
	unsigned char *der = leaves[name], *key_der = NULL;
	PKCS8_PRIV_KEY_INFO *info;
	struct ph_bytes chain;
	int bytes;

	snprintf(text, sizeof(text), "p%u", name);
	if (key == NULL || certificate == NULL || !X509_set_version(certificate, 2) ||
		!ASN1_INTEGER_set(X509_get_serialNumber(certificate), (long)name + 1) ||
		!ASN1_TIME_set_string(X509_getm_notBefore(certificate), "200101000000Z") ||
		!ASN1_TIME_set_string(X509_getm_notAfter(certificate), "400101000000Z") ||
		!X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
			(const unsigned char *)text, -1, -1, 0) ||
		!X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) ||
		!X509_set_pubkey(certificate, key) ||
		!X509_sign(certificate, key, name % 2 == 0 ? NULL : EVP_sha256()))
		breach("no certificate");
	bytes = i2d_X509(certificate, NULL);
	if (bytes <= 0 || (size_t)bytes > sizeof(leaves[name]))
		breach("no certificate");
	leaves_bytes[name] = (size_t)i2d_X509(certificate, &der);
	info = EVP_PKEY2PKCS8(key);
	bytes = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &key_der) : 0;
	chain = (struct ph_bytes){leaves[name], leaves_bytes[name]};
	if (bytes <= 0 ||
		ph_credentials_create(&chain, 1, (struct ph_bytes){key_der, (size_t)bytes},
			&credentials[name]) < 0)
		breach("no credentials");
	OPENSSL_free(key_der);
	PKCS8_PRIV_KEY_INFO_free(info);
	certificates[name] = certificate;
	EVP_PKEY_free(key);
}

void tls_sim_init(void)
{
	if (RAND_set_rand_method(&rand_method) != 1)
		breach("OpenSSL does not take our random numbers");
	for (uint32_t name = 0; name < MODEL_NAMES; name++)
		certificate_make(name);
}

struct ph_credentials *tls_sim_credentials(uint32_t name)
{
	return credentials[name];
}

int tls_sim_name(const struct ph_bytes *leaf)
{
	for (uint32_t name = 0; name < MODEL_NAMES; name++)
		if (leaf->bytes == leaves_bytes[name] &&
			memcmp(leaf->data, leaves[name], leaf->bytes) == 0)
			return (int)name;
	return -1;
}

/* ---- the stub ------------------------------------------------------------------------------------ */

/* A record: kind, size, running number, bytes. Nothing on the way changes bytes, so a number out of
 * order is a breach and no alert. */
enum stub_kind {
	STUB_HELLO = 1, /* client: server name, NUL, and the id of a secret where it has one */
	STUB_FLIGHT, /* server: its leaf; nothing: it has found the secret */
	STUB_FINISHED, /* client: its leaf, or the secret */
	STUB_DATA,
	STUB_ALERT,
	STUB_GOODBYE,
};
#define STUB_HEAD_BYTES 8u
#define STUB_RECORD_BYTES_MAX (STUB_HEAD_BYTES + TLS_RECORD_BYTES_MAX)
#define STUB_PAD 17u /* a record is larger than its plain text */

struct stub {
	const struct tls_events *events;
	void *context;
	enum tls_role role;
	struct ph_credentials *credentials; /* client: a reference */
	char sni[PH_SNI_BYTES_MAX + 1];
	const uint8_t *input;
	size_t input_left;
	uint8_t *record; /* of the peer, not yet whole or not yet read */
	size_t record_bytes, record_at;
	uint32_t numbers_in, numbers_out;
	int refused;
	const char *failure;
	uint8_t id[TLS_RESUME_BYTES], secret[TLS_RESUME_BYTES];
	bool has_secret, resumed; /* offered or found; used */
	bool hello_sent, waits, failed, closed, alert_sent;
};

static struct tls_events stub_events; /* the same for all shards */

static int stub_write(struct stub *stub, enum stub_kind kind, const uint8_t *data, size_t bytes,
	struct chain *out)
{
	uint8_t head[STUB_HEAD_BYTES + STUB_PAD] = {(uint8_t)kind};
	uint16_t size = (uint16_t)bytes;
	uint32_t number = stub->numbers_out++;
	int status;

	memcpy(head + 2, &size, sizeof(size));
	memcpy(head + 4, &number, sizeof(number));
	status = chain_append(out, head, sizeof(head));
	if (status == 0 && bytes > 0)
		status = chain_append(out, data, bytes);
	return status < 0 ? TLS_NO_MEMORY : 0;
}

static void stub_alert(struct stub *stub, struct chain *out, const char *failure)
{
	stub->failed = true;
	stub->failure = failure;
	if (!stub->alert_sent)
		(void)stub_write(stub, STUB_ALERT, NULL, 0, out);
	stub->alert_sent = true;
}

/* The next whole record into stub->record; its kind, or TLS_AGAIN. */
static int stub_record(struct stub *stub)
{
	uint16_t size = 0;
	uint32_t number;
	size_t wanted = STUB_HEAD_BYTES + STUB_PAD, take;

	for (;;) {
		if (stub->record_bytes >= STUB_HEAD_BYTES + STUB_PAD) {
			memcpy(&size, stub->record + 2, sizeof(size));
			wanted = STUB_HEAD_BYTES + STUB_PAD + size;
			if (stub->record_bytes == wanted)
				break;
		}
		take = wanted - stub->record_bytes;
		if (take > stub->input_left)
			take = stub->input_left;
		if (take == 0)
			return TLS_AGAIN;
		memcpy(stub->record + stub->record_bytes, stub->input, take);
		stub->record_bytes += take;
		stub->input += take;
		stub->input_left -= take;
	}
	memcpy(&number, stub->record + 4, sizeof(number));
	if (number != stub->numbers_in)
		breach("rule 4: TLS was given record %u after %u others", number, stub->numbers_in);
	if (stub->record[0] < STUB_HELLO || stub->record[0] > STUB_GOODBYE)
		breach("rule 4: TLS was given bytes that are no record");
	return stub->record[0];
}

static void stub_record_done(struct stub *stub)
{
	stub->numbers_in++;
	stub->record_bytes = 0;
	stub->record_at = 0;
}

static int stub_open(enum tls_role role, struct ph_credentials *own, const char *sni, void *context,
	struct stub **made)
{
	struct stub *stub = memory_zalloc(sizeof(*stub));

	if (stub == NULL)
		return -ENOMEM;
	stub->record = memory_alloc(STUB_RECORD_BYTES_MAX + STUB_PAD);
	if (stub->record == NULL) {
		memory_free(stub);
		return -ENOMEM;
	}
	stub->events = &stub_events;
	stub->role = role;
	stub->context = context;
	if (role == TLS_CLIENT) {
		stub->credentials = ph_credentials_get(own);
		snprintf(stub->sni, sizeof(stub->sni), "%s", sni != NULL ? sni : "");
	}
	*made = stub;
	return 0;
}

static void stub_destroy(struct stub *stub)
{
	if (stub == NULL)
		return;
	ph_credentials_put(stub->credentials);
	memory_free(stub->record);
	memory_free(stub);
}

static int stub_verify(struct stub *stub)
{
	struct ph_chain chain = {.count = 1};

	chain.der[0].data = stub->record + STUB_HEAD_BYTES + STUB_PAD;
	chain.der[0].bytes = stub->record_bytes - STUB_HEAD_BYTES - STUB_PAD;
	chain.x509[0] = certificates[tls_sim_name(&chain.der[0])];
	return stub->events->on_verify(stub->context, &chain);
}

static int stub_refuse(struct stub *stub, int refused, struct chain *out, const char *text)
{
	stub->refused = refused;
	stub_alert(stub, out, text);
	return TLS_FAILED;
}

static int stub_leaf(
	struct stub *stub, enum stub_kind kind, const struct ph_credentials *own, struct chain *out)
{
	struct ph_bytes leaf = credentials_certificate(own, 0);

	return stub_write(stub, kind, leaf.data, leaf.bytes, out);
}

static int stub_hello(struct stub *stub, struct chain *out)
{
	uint8_t data[sizeof(stub->sni) + TLS_RESUME_BYTES];
	size_t bytes = strlen(stub->sni) + 1;

	memcpy(data, stub->sni, bytes);
	if (stub->has_secret) {
		memcpy(data + bytes, stub->id, TLS_RESUME_BYTES);
		bytes += TLS_RESUME_BYTES;
	}
	return stub_write(stub, STUB_HELLO, data, bytes, out);
}

static void stub_hello_parse(struct stub *stub, const uint8_t *data, size_t bytes)
{
	size_t name_bytes = strlen((const char *)data) + 1;

	memcpy(stub->sni, data, name_bytes);
	stub->has_secret = bytes == name_bytes + TLS_RESUME_BYTES;
	if (stub->has_secret)
		memcpy(stub->id, data + name_bytes, TLS_RESUME_BYTES);
}

/* The client shows the secret, the server compares it: on the real wire only its proof is shown. */
static int stub_resumed(struct stub *stub, struct chain *out)
{
	if (stub->role == TLS_SERVER &&
		(stub->record_bytes != STUB_HEAD_BYTES + STUB_PAD + TLS_RESUME_BYTES ||
			memcmp(stub->record + STUB_HEAD_BYTES + STUB_PAD, stub->secret,
				TLS_RESUME_BYTES) != 0))
		breach("the two ends of a resumption have different secrets");
	stub_record_done(stub);
	if (stub->role == TLS_SERVER)
		return 0;
	return stub_write(stub, STUB_FINISHED, stub->secret, TLS_RESUME_BYTES, out);
}

static int stub_handshake(struct stub *stub, struct chain *out)
{
	struct ph_credentials *chosen = NULL;
	int kind, status;

	if (stub->failed)
		return TLS_FAILED;
	if (stub->role == TLS_CLIENT && !stub->hello_sent) {
		stub->hello_sent = true;
		return stub_hello(stub, out) < 0 ? TLS_NO_MEMORY : TLS_AGAIN;
	}
	kind = stub_record(stub);
	if (kind < 0)
		return kind;
	if (kind == STUB_ALERT) {
		stub->failed = true;
		stub->failure = "alert received";
		return TLS_FAILED;
	}
	if (stub->role == TLS_SERVER && kind == STUB_HELLO) {
		size_t bytes = stub->record_bytes - STUB_HEAD_BYTES - STUB_PAD;

		stub_hello_parse(stub, stub->record + STUB_HEAD_BYTES + STUB_PAD, bytes);
		stub_record_done(stub);
		if (stub->events->on_hello(stub->context, stub->sni, &chosen) < 0)
			return stub_refuse(stub, TLS_REFUSED_HELLO, out, "no such name");
		if (stub->has_secret &&
			stub->events->on_resume(stub->context, stub->id, stub->secret) == 0) {
			ph_credentials_put(chosen);
			stub->resumed = true;
			return stub_write(stub, STUB_FLIGHT, NULL, 0, out) < 0 ? TLS_NO_MEMORY
									       : TLS_AGAIN;
		}
		status = stub_leaf(stub, STUB_FLIGHT, chosen, out);
		ph_credentials_put(chosen);
		return status < 0 ? status : TLS_AGAIN;
	}
	if (kind != (stub->role == TLS_CLIENT ? STUB_FLIGHT : STUB_FINISHED))
		breach("rule 4: TLS was given record kind %d in its handshake", kind);
	if (stub->role == TLS_CLIENT)
		stub->resumed = stub->record_bytes == STUB_HEAD_BYTES + STUB_PAD;
	if (stub->resumed)
		return stub_resumed(stub, out);
	if (stub_verify(stub) < 0)
		return stub_refuse(stub, TLS_REFUSED_VERIFY, out, "certificate refused");
	stub_record_done(stub);
	return stub->role == TLS_CLIENT ? stub_leaf(stub, STUB_FINISHED, stub->credentials, out)
					: 0;
}

static ssize_t stub_read(struct stub *stub, uint8_t *data, size_t bytes)
{
	size_t left;
	int kind;

	if (stub->failed)
		return TLS_FAILED;
	if (stub->closed)
		return TLS_CLOSED;
	kind = stub_record(stub);
	if (kind < 0)
		return kind;
	if (kind == STUB_ALERT) {
		stub->failed = true;
		stub->failure = "alert received";
		return TLS_FAILED;
	}
	if (kind == STUB_GOODBYE) {
		stub->closed = true;
		stub_record_done(stub);
		return TLS_CLOSED;
	}
	if (kind != STUB_DATA)
		breach("rule 4: TLS was given record kind %d among data", kind);
	left = stub->record_bytes - STUB_HEAD_BYTES - STUB_PAD - stub->record_at;
	if (bytes > left)
		bytes = left;
	memcpy(data, stub->record + STUB_HEAD_BYTES + STUB_PAD + stub->record_at, bytes);
	stub->record_at += bytes;
	if (bytes == left)
		stub_record_done(stub);
	return (ssize_t)bytes;
}

static int stub_send(struct stub *stub, const uint8_t *data, size_t bytes, struct chain *out)
{
	while (bytes > 0) {
		size_t part = bytes < TLS_RECORD_BYTES_MAX ? bytes : TLS_RECORD_BYTES_MAX;
		int status = stub_write(stub, STUB_DATA, data, part, out);

		if (status < 0)
			return status;
		data += part;
		bytes -= part;
	}
	return 0;
}

/* ---- the choice ------------------------------------------------------------------------------------ */

int sim_tls_shard_create(const struct tls_events *events, uint32_t flags, struct tls_shard **shard);
void sim_tls_shard_destroy(struct tls_shard *shard);
int sim_tls_open(struct tls_shard *shard, enum tls_role role, struct ph_credentials *own,
	const char *sni, void *context, struct tls **tls);
void sim_tls_destroy(struct tls *tls);
void sim_tls_input(struct tls *tls, const uint8_t *data, size_t bytes);
size_t sim_tls_input_left(const struct tls *tls);
void sim_tls_input_drop(struct tls *tls);
int sim_tls_handshake_step(struct tls *tls, struct chain *out);
int sim_tls_verify_refused(const struct tls *tls);
ssize_t sim_tls_read(struct tls *tls, uint8_t *data, size_t bytes, struct chain *out);
int sim_tls_write(struct tls *tls, const uint8_t *data, size_t bytes, struct chain *out);
int sim_tls_goodbye(struct tls *tls, struct chain *out);
int sim_tls_resume(struct tls *tls, const uint8_t *id, const uint8_t *secret);
bool sim_tls_is_resumed(const struct tls *tls);
void sim_tls_failure_text(const struct tls *tls, char *text, size_t bytes);
size_t sim_tls_bytes_estimate(const struct tls *tls);

#define STUB(tls) ((struct stub *)(void *)(uintptr_t)(tls))

int sim_tls_shard_create(const struct tls_events *events, uint32_t flags, struct tls_shard **shard)
{
	bool masked;
	int status;

	stub_events = *events;
	if (!sim_tls_is_real) {
		*shard = memory_alloc(1);
		return *shard != NULL ? 0 : -ENOMEM;
	}
	masked = fiber_mask(true);
	status = tls_shard_create(events, flags, shard);
	(void)fiber_mask(masked);
	return status;
}

void sim_tls_shard_destroy(struct tls_shard *shard)
{
	bool masked;

	if (!sim_tls_is_real) {
		memory_free(shard);
		return;
	}
	masked = fiber_mask(true);
	tls_shard_destroy(shard);
	(void)fiber_mask(masked);
}

int sim_tls_open(struct tls_shard *shard, enum tls_role role, struct ph_credentials *own,
	const char *sni, void *context, struct tls **tls)
{
	bool masked;
	int status;

	if (!sim_tls_is_real) {
		struct stub *stub = NULL;

		status = stub_open(role, own, sni, context, &stub);
		if (status == 0)
			*tls = (struct tls *)(void *)stub;
		return status;
	}
	masked = fiber_mask(true);
	status = tls_open(shard, role, own, sni, context, tls);
	(void)fiber_mask(masked);
	return status;
}

void sim_tls_destroy(struct tls *tls)
{
	bool masked;

	if (!sim_tls_is_real) {
		stub_destroy(STUB(tls));
		return;
	}
	masked = fiber_mask(true);
	tls_destroy(tls);
	(void)fiber_mask(masked);
}

void sim_tls_input(struct tls *tls, const uint8_t *data, size_t bytes)
{
	if (sim_tls_is_real) {
		tls_input(tls, data, bytes);
		return;
	}
	if (STUB(tls)->input_left > 0)
		breach("rule 4: TLS is given a slice before the last was used up");
	STUB(tls)->input = data;
	STUB(tls)->input_left = bytes;
}

size_t sim_tls_input_left(const struct tls *tls)
{
	return sim_tls_is_real ? tls_input_left(tls) : STUB(tls)->input_left;
}

void sim_tls_input_drop(struct tls *tls)
{
	if (sim_tls_is_real)
		tls_input_drop(tls);
	else
		STUB(tls)->input_left = 0;
}

int sim_tls_handshake_step(struct tls *tls, struct chain *out)
{
	bool masked = fiber_mask(true);
	int status =
		sim_tls_is_real ? tls_handshake_step(tls, out) : stub_handshake(STUB(tls), out);

	(void)fiber_mask(masked);
	return status;
}

int sim_tls_verify_refused(const struct tls *tls)
{
	return sim_tls_is_real ? tls_verify_refused(tls) : STUB(tls)->refused;
}

int sim_tls_resume(struct tls *tls, const uint8_t *id, const uint8_t *secret)
{
	if (sim_tls_is_real)
		return tls_resume(tls, id, secret);
	memcpy(STUB(tls)->id, id, TLS_RESUME_BYTES);
	memcpy(STUB(tls)->secret, secret, TLS_RESUME_BYTES);
	STUB(tls)->has_secret = true;
	return 0;
}

bool sim_tls_is_resumed(const struct tls *tls)
{
	return sim_tls_is_real ? tls_is_resumed(tls) : STUB(tls)->resumed;
}

ssize_t sim_tls_read(struct tls *tls, uint8_t *data, size_t bytes, struct chain *out)
{
	bool masked;
	ssize_t got;

	if (!sim_tls_is_real)
		return stub_read(STUB(tls), data, bytes);
	masked = fiber_mask(true);
	got = tls_read(tls, data, bytes, out);
	(void)fiber_mask(masked);
	return got;
}

int sim_tls_write(struct tls *tls, const uint8_t *data, size_t bytes, struct chain *out)
{
	bool masked;
	int status;

	if (!sim_tls_is_real)
		return stub_send(STUB(tls), data, bytes, out);
	masked = fiber_mask(true);
	status = tls_write(tls, data, bytes, out);
	(void)fiber_mask(masked);
	return status;
}

int sim_tls_goodbye(struct tls *tls, struct chain *out)
{
	bool masked;
	int status;

	if (!sim_tls_is_real)
		return stub_write(STUB(tls), STUB_GOODBYE, NULL, 0, out);
	masked = fiber_mask(true);
	status = tls_goodbye(tls, out);
	(void)fiber_mask(masked);
	return status;
}

void sim_tls_failure_text(const struct tls *tls, char *text, size_t bytes)
{
	if (sim_tls_is_real)
		tls_failure_text(tls, text, bytes);
	else
		snprintf(text, bytes, "%s",
			STUB(tls)->failure != NULL ? STUB(tls)->failure : "failed");
}

size_t sim_tls_bytes_estimate(const struct tls *tls)
{
	return sim_tls_is_real ? tls_bytes_estimate(tls) : sizeof(struct stub);
}
