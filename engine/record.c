/*
 * The TLS 1.3 record layer; see record.h. Section numbers are those of RFC 8446.
 *
 * A record's way in: its header is looked at where it lies (5.1, 5.2), its cipher text where it lies
 * too unless it came in parts, then it is opened into the caller's buffer, its padding taken off (5.4)
 * and its content handled by type. A record's way out: header, cipher text and tag are made in the
 * chain's own memory.
 *
 * Opening is all or nothing: what a failed tag leaves in a buffer is never looked at. All comparing of
 * tags is libcrypto's. The padding is taken off after the tag was checked, so its length is a secret
 * between the two ends and needs no constant time.
 *
 * Contexts: setting a key costs as much as sealing a small record. So each shard has a table of
 * contexts, found by the connection's address; a connection that meets itself there goes on with the
 * key that is set, another sets its own. A context never outlives its connection's claim with a key.
 */
#include "engine/record.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <string.h>

#define HEADER_BYTES 5u
#define TAG_BYTES 16u
#define IV_BYTES 12u
#define KEY_BYTES_MAX 32u
#define INNER_BYTES_MAX (RECORD_PLAIN_BYTES_MAX + 1u) /* content, type and padding (5.4) */
#define CIPHER_BYTES_MAX (RECORD_PLAIN_BYTES_MAX + 256u) /* 5.2 */
#define PARTIAL_FIRST_BYTES 512u
#define CONTEXTS 256u /* connections at once whose keys stay set, by direction */
#define KEY_UPDATE_BYTES 5u

enum direction {
	OPEN, /* what the peer sealed */
	SEAL,
	DIRECTION_COUNT,
};

enum content {
	CONTENT_INVALID = 0,
	CONTENT_ALERT = 21,
	CONTENT_HANDSHAKE = 22,
	CONTENT_DATA = 23,
};

enum message {
	MESSAGE_NEW_SESSION_TICKET = 4,
	MESSAGE_KEY_UPDATE = 24,
};

enum alert {
	ALERT_CLOSE_NOTIFY = 0,
	ALERT_UNEXPECTED_MESSAGE = 10,
	ALERT_BAD_RECORD_MAC = 20,
	ALERT_RECORD_OVERFLOW = 22,
	ALERT_ILLEGAL_PARAMETER = 47,
	ALERT_DECODE_ERROR = 50,
	ALERT_INTERNAL_ERROR = 80,
	ALERT_USER_CANCELED = 90,
};

/* A key of the record that owns it, set in a context. */
struct resident {
	const struct record *owner; /* NULL: of nobody, and no key is set */
	EVP_CIPHER_CTX *context; /* NULL until first used */
};

struct record_shard {
	EVP_CIPHER *ciphers[RECORD_SUITE_COUNT];
	EVP_MAC *hmac;
	struct resident residents[DIRECTION_COUNT][CONTEXTS];
	uint8_t inner[INNER_BYTES_MAX]; /* a record that the caller's buffer may not hold */
};

/* One direction's keys (7.3). */
struct traffic {
	uint8_t secret[RECORD_SECRET_BYTES];
	uint8_t key[KEY_BYTES_MAX];
	uint8_t iv[IV_BYTES];
	uint64_t sequence; /* of the next record */
};

struct record {
	struct record_shard *shard;
	struct traffic traffic[DIRECTION_COUNT];
	struct chunk *partial; /* the front of a record, header included; NULL: none */
	struct chunk *rest; /* opened, for want of room not yet given out; NULL: none */
	uint64_t records_per_key;
	const char *failure;
	uint32_t ticket_left; /* bytes of a NewSessionTicket still to pass over */
	uint8_t message[KEY_UPDATE_BYTES]; /* of a handshake message that is not whole */
	uint8_t message_bytes;
	uint16_t post_debt; /* of messages that carry nothing, 0..RECORD_POST_DEBT_MAX + one more */
	uint8_t suite; /* enum record_suite */
	uint8_t alert_sent, alert_received; /* description + 1, 0: none */
	bool is_server;
	bool has_failed, has_no_memory;
	bool has_goodbye; /* our close_notify is out */
	bool is_closed; /* the peer's has come */
	bool is_given[DIRECTION_COUNT]; /* another goes on with it */
};

static_assert(sizeof(struct record) <= 288, "an idle connection is small");

static const struct suite {
	const char *cipher;
	uint32_t key_bytes;
} suites[RECORD_SUITE_COUNT] = {
	{"AES-128-GCM", 16},
	{"ChaCha20-Poly1305", 32},
};

/* ---- a shard ---------------------------------------------------------------------------- */

int record_shard_create(OSSL_LIB_CTX *library, struct record_shard **made)
{
	struct record_shard *shard = memory_zalloc(sizeof(*shard));
	bool is_complete = true;

	if (shard == NULL)
		return -ENOMEM;
	for (int suite = 0; suite < RECORD_SUITE_COUNT; suite++) {
		shard->ciphers[suite] = EVP_CIPHER_fetch(library, suites[suite].cipher, NULL);
		is_complete = is_complete && shard->ciphers[suite] != NULL;
	}
	shard->hmac = EVP_MAC_fetch(library, "HMAC", NULL);
	if (is_complete && shard->hmac != NULL) {
		*made = shard;
		return 0;
	}
	record_shard_destroy(shard);
	return -EIO;
}

void record_shard_destroy(struct record_shard *shard)
{
	if (shard == NULL)
		return;
	for (int direction = 0; direction < DIRECTION_COUNT; direction++)
		for (uint32_t index = 0; index < CONTEXTS; index++) {
			assert(shard->residents[direction][index].owner == NULL);
			EVP_CIPHER_CTX_free(shard->residents[direction][index].context);
		}
	for (int suite = 0; suite < RECORD_SUITE_COUNT; suite++)
		EVP_CIPHER_free(shard->ciphers[suite]);
	EVP_MAC_free(shard->hmac);
	OPENSSL_cleanse(shard->inner, sizeof(shard->inner));
	memory_free(shard);
}

/* ---- keys ------------------------------------------------------------------------------- */

/* HKDF-Expand-Label with an empty context (7.1); `bytes` is at most one block of SHA-256, so HKDF-Expand
 * (RFC 5869 section 2.3) is a single HMAC. False without memory. */
static bool expand_label(const struct record_shard *shard, const uint8_t *secret, const char *label,
	uint8_t *out, size_t bytes)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	uint8_t info[32] = {
		0, (uint8_t)bytes, (uint8_t)(6 + strlen(label)), 't', 'l', 's', '1', '3', ' '};
	uint8_t block[RECORD_SECRET_BYTES];
	size_t info_bytes = 9 + strlen(label), block_bytes = 0;
	EVP_MAC_CTX *mac = EVP_MAC_CTX_new(shard->hmac);
	bool is_done;

	assert(bytes <= sizeof(block));
	assert(info_bytes + 2 <= sizeof(info));
	memcpy(info + 9, label, strlen(label));
	info[info_bytes++] = 0; /* no context */
	info[info_bytes++] = 1; /* the first block */
	is_done = mac != NULL && EVP_MAC_init(mac, secret, RECORD_SECRET_BYTES, params) == 1 &&
		EVP_MAC_update(mac, info, info_bytes) == 1 &&
		EVP_MAC_final(mac, block, &block_bytes, sizeof(block)) == 1 &&
		block_bytes == sizeof(block);
	if (is_done)
		memcpy(out, block, bytes);
	OPENSSL_cleanse(block, sizeof(block));
	EVP_MAC_CTX_free(mac);
	return is_done;
}

/* The key and IV of traffic->secret (7.3). */
static bool traffic_derive(const struct record *record, struct traffic *traffic)
{
	traffic->sequence = 0;
	return expand_label(record->shard, traffic->secret, "key", traffic->key,
		       suites[record->suite].key_bytes) &&
		expand_label(record->shard, traffic->secret, "iv", traffic->iv, IV_BYTES);
}

static struct resident *resident_of(const struct record *record, enum direction direction)
{
	uintptr_t number = (uintptr_t)record / sizeof(struct record);

	number ^= number >> 8;
	return &record->shard->residents[direction][number % CONTEXTS];
}

/* Forget the key that the context holds for this record, if it does. */
static void resident_drop(const struct record *record, enum direction direction)
{
	struct resident *resident = resident_of(record, direction);

	if (resident->owner != record)
		return;
	resident->owner = NULL;
	EVP_CIPHER_CTX_reset(resident->context); /* wipes */
}

/* The next generation of a direction's keys (7.2). */
static bool traffic_update(struct record *record, enum direction direction)
{
	struct traffic *traffic = &record->traffic[direction];
	struct traffic next = {.sequence = 0};
	bool is_done;

	resident_drop(record, direction);
	is_done = expand_label(record->shard, traffic->secret, "traffic upd", next.secret,
			  RECORD_SECRET_BYTES) &&
		traffic_derive(record, &next);
	if (is_done)
		*traffic = next;
	OPENSSL_cleanse(&next, sizeof(next));
	return is_done;
}

/* A context with this direction's key and the nonce of its next record (5.3). NULL without memory. */
static EVP_CIPHER_CTX *context_take(struct record *record, enum direction direction)
{
	struct traffic *traffic = &record->traffic[direction];
	struct resident *resident = resident_of(record, direction);
	const EVP_CIPHER *cipher = NULL;
	const uint8_t *key = NULL;
	uint8_t nonce[IV_BYTES];

	memcpy(nonce, traffic->iv, IV_BYTES);
	for (int at = 0; at < 8; at++)
		nonce[IV_BYTES - 1 - at] ^= (uint8_t)(traffic->sequence >> (8 * at));
	if (resident->context == NULL) {
		resident->context = EVP_CIPHER_CTX_new();
		if (resident->context == NULL)
			return NULL;
	}
	if (resident->owner != record) {
		resident->owner = NULL;
		cipher = record->shard->ciphers[record->suite];
		key = traffic->key;
	}
	if (EVP_CipherInit_ex2(resident->context, cipher, key, nonce, direction == SEAL, NULL) != 1)
		return NULL;
	resident->owner = record;
	return resident->context;
}

/* ---- a connection ----------------------------------------------------------------------- */

int record_create(
	struct record_shard *shard, const struct record_options *options, struct record **made)
{
	struct record *record = memory_zalloc(sizeof(*record));

	assert(options->suite < RECORD_SUITE_COUNT);
	assert(options->records_per_key > 0);
	if (record == NULL)
		return -ENOMEM;
	record->shard = shard;
	record->suite = (uint8_t)options->suite;
	record->is_server = options->is_server;
	record->records_per_key = options->records_per_key;
	memcpy(record->traffic[OPEN].secret, options->secret_read, RECORD_SECRET_BYTES);
	memcpy(record->traffic[SEAL].secret, options->secret_write, RECORD_SECRET_BYTES);
	ERR_clear_error();
	if (!traffic_derive(record, &record->traffic[OPEN]) ||
		!traffic_derive(record, &record->traffic[SEAL])) {
		ERR_clear_error();
		record_destroy(record);
		return -ENOMEM;
	}
	*made = record;
	return 0;
}

void record_destroy(struct record *record)
{
	if (record == NULL)
		return;
	resident_drop(record, OPEN);
	resident_drop(record, SEAL);
	chunk_destroy(record->partial);
	chunk_destroy(record->rest);
	OPENSSL_cleanse(record, sizeof(*record));
	memory_free(record);
}

static int fail_memory(struct record *record)
{
	ERR_clear_error();
	record->has_failed = true;
	record->has_no_memory = true;
	return RECORD_NO_MEMORY;
}

/* What was given away is used all the same: a nonce would be used twice. */
static int fail_given(struct record *record)
{
	record->failure = "this direction's keys were given away";
	record->has_failed = true;
	return RECORD_FAILED;
}

static int failed_before(const struct record *record)
{
	return record->has_no_memory ? RECORD_NO_MEMORY : RECORD_FAILED;
}

/* ---- out -------------------------------------------------------------------------------- */

/* One record behind out (5.2). 0, RECORD_FAILED, RECORD_NO_MEMORY. */
static int seal(struct record *record, enum content content, const uint8_t *data, size_t bytes,
	struct chain *out)
{
	uint8_t type = (uint8_t)content, *to;
	size_t cipher_bytes = bytes + 1 + TAG_BYTES;
	EVP_CIPHER_CTX *context;
	int done, last = 0;

	if (record->is_given[SEAL])
		return fail_given(record);
	context = context_take(record, SEAL);
	assert(bytes <= RECORD_PLAIN_BYTES_MAX);
	to = context != NULL ? chain_reserve(out, HEADER_BYTES + cipher_bytes) : NULL;
	if (to == NULL)
		return fail_memory(record);
	to[0] = CONTENT_DATA;
	to[1] = 3; /* what TLS 1.2 called itself; kept for those in between */
	to[2] = 3;
	to[3] = (uint8_t)(cipher_bytes >> 8);
	to[4] = (uint8_t)cipher_bytes;
	/* The header is the additional data; the type follows the content. */
	if (EVP_EncryptUpdate(context, NULL, &done, to, HEADER_BYTES) != 1 ||
		(bytes > 0 &&
			EVP_EncryptUpdate(context, to + HEADER_BYTES, &done, data, (int)bytes) !=
				1) ||
		EVP_EncryptUpdate(context, to + HEADER_BYTES + bytes, &done, &type, 1) != 1 ||
		EVP_EncryptFinal_ex(context, to + HEADER_BYTES + bytes + 1, &last) != 1 ||
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES,
			to + HEADER_BYTES + bytes + 1) != 1)
		return fail_memory(record);
	chain_reserved(out, HEADER_BYTES + cipher_bytes);
	record->traffic[SEAL].sequence++;
	return 0;
}

/* The first failure counts; its alert is the last that we say. */
static int fail(struct record *record, enum alert alert, const char *failure, struct chain *out)
{
	const uint8_t message[2] = {2 /* fatal */, (uint8_t)alert};

	if (!record->has_goodbye && seal(record, CONTENT_ALERT, message, sizeof(message), out) == 0)
		record->alert_sent = (uint8_t)(alert + 1);
	record->failure = failure;
	record->has_failed = true;
	return failed_before(record);
}

/* Tell the peer that our next record is under the next key (4.6.3), and change it. */
static int key_update(struct record *record, struct chain *out)
{
	const uint8_t message[KEY_UPDATE_BYTES] = {
		MESSAGE_KEY_UPDATE, 0, 0, 1, 0 /* not requested */};
	int status = seal(record, CONTENT_HANDSHAKE, message, sizeof(message), out);

	if (status < 0)
		return status;
	return traffic_update(record, SEAL) ? 0 : fail_memory(record);
}

int record_write(struct record *record, const uint8_t *data, size_t bytes, struct chain *out)
{
	assert(!record->has_goodbye);
	if (record->has_failed)
		return failed_before(record);
	while (bytes > 0) {
		size_t here = bytes < RECORD_PLAIN_BYTES_MAX ? bytes : RECORD_PLAIN_BYTES_MAX;
		int status = 0;

		if (record->traffic[SEAL].sequence + 1 >= record->records_per_key)
			status = key_update(record, out);
		if (status == 0)
			status = seal(record, CONTENT_DATA, data, here, out);
		if (status < 0)
			return status;
		data += here;
		bytes -= here;
	}
	return 0;
}

int record_goodbye(struct record *record, struct chain *out)
{
	const uint8_t message[2] = {1 /* warning */, ALERT_CLOSE_NOTIFY};
	int status;

	if (record->has_failed)
		return failed_before(record);
	if (record->has_goodbye)
		return 0;
	status = seal(record, CONTENT_ALERT, message, sizeof(message), out);
	if (status == 0) {
		record->has_goodbye = true;
		record->alert_sent = ALERT_CLOSE_NOTIFY + 1;
	}
	return status;
}

/* ---- in: a whole record ----------------------------------------------------------------- */

/*
 * Open header and cipher text at `from`, of HEADER_BYTES + cipher_bytes, into `to`, which has room for
 * cipher_bytes - TAG_BYTES. False: the tag is wrong, or no memory (has_no_memory).
 */
static bool unseal(struct record *record, const uint8_t *from, size_t cipher_bytes, uint8_t *to)
{
	size_t inner_bytes = cipher_bytes - TAG_BYTES;
	EVP_CIPHER_CTX *context = context_take(record, OPEN);
	uint8_t tag[TAG_BYTES];
	int done, last;

	if (context == NULL) {
		record->has_no_memory = true;
		return false;
	}
	memcpy(tag, from + HEADER_BYTES + inner_bytes, TAG_BYTES);
	if (EVP_DecryptUpdate(context, NULL, &done, from, HEADER_BYTES) != 1 ||
		EVP_DecryptUpdate(context, to, &done, from + HEADER_BYTES, (int)inner_bytes) != 1 ||
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) != 1) {
		record->has_no_memory = true;
		return false;
	}
	if (EVP_DecryptFinal_ex(context, to + inner_bytes, &last) != 1)
		return false;
	record->traffic[OPEN].sequence++;
	return true;
}

/* What a message that carries nothing costs. 0 or RECORD_*. */
static int post_message_count(struct record *record, struct chain *out)
{
	record->post_debt += RECORD_POST_COST;
	if (record->post_debt <= RECORD_POST_DEBT_MAX)
		return 0;
	return fail(record, ALERT_UNEXPECTED_MESSAGE, "too many key updates or empty records", out);
}

/* A whole KeyUpdate (4.6.3), the last of its record. */
static int on_key_update(struct record *record, size_t behind, struct chain *out)
{
	uint8_t request = record->message[4];

	record->message_bytes = 0;
	if (behind > 0)
		return fail(record, ALERT_UNEXPECTED_MESSAGE,
			"a message behind a key update in one record", out);
	if (request > 1)
		return fail(record, ALERT_ILLEGAL_PARAMETER, "key update of no known kind", out);
	if (!traffic_update(record, OPEN))
		return fail_memory(record);
	return request == 1 && !record->has_goodbye ? key_update(record, out) : 0;
}

/* A message's header is there: what it is, and whether it may come. */
static int on_message_header(struct record *record, struct chain *out)
{
	uint32_t bytes = (uint32_t)record->message[1] << 16 | (uint32_t)record->message[2] << 8 |
		record->message[3];
	int status = post_message_count(record, out);

	if (status < 0)
		return status;
	if (record->message[0] == MESSAGE_KEY_UPDATE) {
		if (bytes != 1)
			return fail(
				record, ALERT_DECODE_ERROR, "key update of a wrong length", out);
		return 0;
	}
	if (record->message[0] != MESSAGE_NEW_SESSION_TICKET || record->is_server)
		return fail(record, ALERT_UNEXPECTED_MESSAGE, "unexpected handshake message", out);
	if (bytes > RECORD_PLAIN_BYTES_MAX)
		return fail(record, ALERT_DECODE_ERROR, "session ticket too long", out);
	record->ticket_left = bytes; /* passed over: there is no resumption */
	record->message_bytes = 0;
	return 0;
}

/* Messages after the handshake (4.6), in any pieces. */
static int on_handshake(struct record *record, const uint8_t *data, size_t bytes, struct chain *out)
{
	int status = 0;

	if (bytes == 0)
		return fail(record, ALERT_UNEXPECTED_MESSAGE, "empty handshake record", out);
	while (bytes > 0 && status == 0) {
		if (record->ticket_left > 0) {
			size_t here = bytes < record->ticket_left ? bytes : record->ticket_left;

			record->ticket_left -= (uint32_t)here;
			data += here;
			bytes -= here;
			continue;
		}
		record->message[record->message_bytes++] = *data++;
		bytes--;
		if (record->message_bytes == 4)
			status = on_message_header(record, out);
		else if (record->message_bytes == KEY_UPDATE_BYTES)
			status = on_key_update(record, bytes, out);
	}
	return status;
}

static int on_alert(struct record *record, const uint8_t *data, size_t bytes, struct chain *out)
{
	if (bytes != 2)
		return fail(record, ALERT_DECODE_ERROR, "alert of a wrong length", out);
	if (data[1] == ALERT_CLOSE_NOTIFY) {
		record->is_closed = true;
		return RECORD_CLOSED;
	}
	if (data[1] == ALERT_USER_CANCELED) /* close_notify follows (6.1) */
		return post_message_count(record, out);
	/* Whatever level it claims (6.2); nothing is answered. */
	record->alert_received = data[1] < 255 ? (uint8_t)(data[1] + 1) : 255;
	record->failure = "the peer reports an error";
	record->has_failed = true;
	return RECORD_FAILED;
}

/* An opened record's content. > 0: bytes of application data at inner; 0: go on; RECORD_*. */
static ssize_t on_inner(
	struct record *record, const uint8_t *inner, size_t bytes, struct chain *out)
{
	enum content content;

	while (bytes > 0 && inner[bytes - 1] == 0)
		bytes--;
	if (bytes == 0)
		return fail(record, ALERT_UNEXPECTED_MESSAGE, "record without content type", out);
	bytes--;
	content = (enum content)inner[bytes];
	if (content == CONTENT_HANDSHAKE)
		return on_handshake(record, inner, bytes, out);
	if (record->message_bytes > 0 || record->ticket_left > 0)
		return fail(record, ALERT_UNEXPECTED_MESSAGE,
			"a record between the parts of a handshake message", out);
	if (content == CONTENT_ALERT)
		return on_alert(record, inner, bytes, out);
	if (content != CONTENT_DATA)
		return fail(record, ALERT_UNEXPECTED_MESSAGE, "record of an unexpected kind", out);
	if (bytes == 0)
		return post_message_count(record, out);
	record->post_debt = record_post_paid(record->post_debt, bytes);
	return (ssize_t)bytes;
}

/* ---- in: from slices to records --------------------------------------------------------- */

/* The cipher text's length that a header announces, or RECORD_FAILED and the like. */
static ssize_t header_check(struct record *record, const uint8_t *header, struct chain *out)
{
	size_t bytes = (size_t)header[3] << 8 | header[4];

	if (header[0] != CONTENT_DATA)
		return fail(record, ALERT_UNEXPECTED_MESSAGE, "unprotected record", out);
	if (bytes > CIPHER_BYTES_MAX)
		return fail(record, ALERT_RECORD_OVERFLOW, "record too long", out);
	if (bytes <= TAG_BYTES)
		return fail(record, ALERT_BAD_RECORD_MAC, "record too short", out);
	return (ssize_t)bytes;
}

/* Move up to `wanted` bytes in all from the slice to the partial record. False without memory. */
static bool partial_fill(struct record *record, struct record_input *input, size_t wanted)
{
	size_t have = record->partial != NULL ? record->partial->bytes : 0;
	size_t here = wanted - have < input->bytes ? wanted - have : input->bytes;

	if (record->partial == NULL || record->partial->capacity < have + here) {
		size_t capacity = have + here < PARTIAL_FIRST_BYTES / 2 ? PARTIAL_FIRST_BYTES
									: 2 * (have + here);
		struct chunk *grown;

		if (capacity > HEADER_BYTES + CIPHER_BYTES_MAX)
			capacity = HEADER_BYTES + CIPHER_BYTES_MAX;
		grown = chunk_create(capacity);
		if (grown == NULL)
			return false;
		if (have > 0)
			memcpy(grown->data, record->partial->data, have);
		grown->bytes = (uint32_t)have;
		chunk_destroy(record->partial);
		record->partial = grown;
	}
	memcpy(record->partial->data + have, input->data, here);
	record->partial->bytes += (uint32_t)here;
	input->data += here;
	input->bytes -= here;
	return true;
}

static void input_take(struct record_input *input, size_t bytes)
{
	input->data += bytes;
	input->bytes -= bytes;
}

/*
 * The next whole record: its cipher text's length, and *from where header and cipher text lie, in the
 * slice (used up by then) or in `partial`. RECORD_AGAIN: the slice is used up.
 */
static ssize_t record_next(
	struct record *record, struct record_input *input, const uint8_t **from, struct chain *out)
{
	ssize_t cipher_bytes;

	if (record->partial == NULL && input->bytes >= HEADER_BYTES) {
		cipher_bytes = header_check(record, input->data, out);
		if (cipher_bytes < 0)
			return cipher_bytes;
		if (input->bytes >= HEADER_BYTES + (size_t)cipher_bytes) {
			*from = input->data;
			input_take(input, HEADER_BYTES + (size_t)cipher_bytes);
			return cipher_bytes;
		}
	}
	if (input->bytes == 0)
		return RECORD_AGAIN;
	if (record->partial == NULL || record->partial->bytes < HEADER_BYTES) {
		if (!partial_fill(record, input, HEADER_BYTES))
			return fail_memory(record);
		if (record->partial->bytes < HEADER_BYTES)
			return RECORD_AGAIN;
	}
	cipher_bytes = header_check(record, record->partial->data, out);
	if (cipher_bytes < 0)
		return cipher_bytes;
	if (!partial_fill(record, input, HEADER_BYTES + (size_t)cipher_bytes))
		return fail_memory(record);
	if (record->partial->bytes < HEADER_BYTES + (size_t)cipher_bytes)
		return RECORD_AGAIN;
	*from = record->partial->data;
	return cipher_bytes;
}

/* Open the next record: > 0 bytes of application data, in data or else in the rest; 0; RECORD_*. */
static ssize_t read_one(struct record *record, struct record_input *input, uint8_t *data,
	size_t room, struct chain *out)
{
	const uint8_t *from = NULL;
	ssize_t cipher_bytes = record_next(record, input, &from, out), got;
	size_t inner_bytes;
	uint8_t *to;

	if (cipher_bytes < 0)
		return cipher_bytes;
	inner_bytes = (size_t)cipher_bytes - TAG_BYTES;
	if (inner_bytes > INNER_BYTES_MAX)
		return fail(record, ALERT_RECORD_OVERFLOW, "record too long", out);
	to = inner_bytes <= room ? data : record->shard->inner;
	if (!unseal(record, from, (size_t)cipher_bytes, to)) {
		ERR_clear_error();
		if (record->has_no_memory)
			return fail_memory(record);
		return fail(record, ALERT_BAD_RECORD_MAC, "bad record mac", out);
	}
	chunk_destroy(record->partial);
	record->partial = NULL;
	got = on_inner(record, to, inner_bytes, out);
	if (got <= 0 || to == data)
		return got;
	if ((size_t)got <= room) {
		memcpy(data, to, (size_t)got);
		return got;
	}
	record->rest = chunk_create((size_t)got);
	if (record->rest == NULL)
		return fail_memory(record);
	memcpy(record->rest->data, to, (size_t)got);
	record->rest->bytes = (uint32_t)got;
	return 0;
}

static size_t rest_take(struct record *record, uint8_t *data, size_t room)
{
	struct chunk *rest = record->rest;
	size_t have = rest->bytes - rest->offset, here = have < room ? have : room;

	memcpy(data, rest->data + rest->offset, here);
	rest->offset += (uint32_t)here;
	if (here == have) {
		chunk_destroy(rest);
		record->rest = NULL;
	}
	return here;
}

ssize_t record_read(struct record *record, struct record_input *input, uint8_t *data, size_t bytes,
	struct chain *out)
{
	ssize_t got = 0;

	assert(bytes > 0);
	while (got == 0) {
		if (record->rest != NULL)
			return (ssize_t)rest_take(record, data, bytes);
		if (record->has_failed)
			return failed_before(record);
		if (record->is_closed)
			return RECORD_CLOSED;
		if (record->is_given[OPEN])
			return fail_given(record);
		got = read_one(record, input, data, bytes, out);
	}
	return got;
}

/* ---- to another ------------------------------------------------------------------------- */

bool record_may_give_seal(const struct record *record)
{
	return !record->has_failed && !record->has_goodbye && !record->is_given[SEAL];
}

bool record_may_give_open(const struct record *record)
{
	return !record->has_failed && !record->is_closed && !record->is_given[OPEN] &&
		record->partial == NULL && record->rest == NULL && record->ticket_left == 0 &&
		record->message_bytes == 0;
}

static void keys_copy(
	const struct record *record, enum direction direction, struct record_keys *keys)
{
	const struct traffic *traffic = &record->traffic[direction];

	*keys = (struct record_keys){
		.suite = (enum record_suite)record->suite, .sequence = traffic->sequence};
	memcpy(keys->key, traffic->key, suites[record->suite].key_bytes);
	memcpy(keys->iv, traffic->iv, IV_BYTES);
}

void record_keys_seal(const struct record *record, struct record_keys *keys)
{
	assert(record_may_give_seal(record));
	keys_copy(record, SEAL, keys);
}

void record_keys_open(const struct record *record, struct record_keys *keys)
{
	assert(record_may_give_open(record));
	keys_copy(record, OPEN, keys);
}

static void give(struct record *record, enum direction direction)
{
	resident_drop(record, direction);
	OPENSSL_cleanse(&record->traffic[direction], sizeof(record->traffic[direction]));
	record->is_given[direction] = true;
}

void record_give_seal(struct record *record)
{
	assert(record_may_give_seal(record));
	give(record, SEAL);
}

void record_give_open(struct record *record)
{
	assert(record_may_give_open(record));
	give(record, OPEN);
}

/* ---- telling ---------------------------------------------------------------------------- */

const char *record_failure(const struct record *record)
{
	return record->failure;
}

int record_alert_sent(const struct record *record)
{
	return record->alert_sent - 1;
}

int record_alert_received(const struct record *record)
{
	return record->alert_received - 1;
}

size_t record_bytes(const struct record *record)
{
	return sizeof(*record) + (record->partial != NULL ? record->partial->capacity : 0) +
		(record->rest != NULL ? record->rest->capacity : 0);
}
