/*
 * The TLS 1.3 record layer (RFC 8446 section 5) of a connection whose handshake is done: it takes the
 * two traffic secrets over, so that the handshake's own objects can go. What a connection keeps is
 * this struct of some 250 bytes; beyond it only a record of which a part has come (at most 16.3 KiB,
 * never more than has come, doubled) and, for those heard of lately, a cipher context of the shard's.
 *
 * One record_shard per shard, one record per connection; both belong to the shard's thread. Nothing
 * here blocks or touches a socket. Cipher text comes in through record_input (a borrowed slice) and
 * goes out behind a chain.
 *
 * What always holds
 *   - A failure is final: after RECORD_FAILED or RECORD_NO_MEMORY nothing is read or written any more.
 *   - Nothing is written behind our close_notify, nothing is read behind the peer's.
 *   - A sequence number is used once under a key, and no key for more than records_per_key records.
 *   - Secrets are wiped when their key changes and when the record goes.
 */
#ifndef PEERHUB_ENGINE_RECORD_H
#define PEERHUB_ENGINE_RECORD_H

#include "engine/chain.h"

#include <openssl/crypto.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

#define RECORD_SECRET_BYTES 32u /* both suites use SHA-256 */
#define RECORD_PLAIN_BYTES_MAX 16384u /* section 5.1 */
/*
 * Messages that carry nothing (KeyUpdate, NewSessionTicket, empty records, warnings) are charged: a
 * KeyUpdate costs its reader 40 us and its sender a few bytes. Each is a debt of RECORD_POST_COST, and
 * application data pays it off: 1 a record and 1 for each RECORD_POST_PAID_BYTES of it, so that one
 * costs no more than the data that has to come with it. An honest peer sends one KeyUpdate in many
 * gigabytes or minutes, a server a few tickets: 32 at once are allowed.
 */
#define RECORD_POST_COST 32u
#define RECORD_POST_PAID_BYTES 2048u
#define RECORD_POST_DEBT_MAX (32u * RECORD_POST_COST)
/* What is left of a debt after a record of so many bytes of application data. */
static inline uint16_t record_post_paid(uint16_t debt, size_t bytes)
{
	size_t paid = 1 + bytes / RECORD_POST_PAID_BYTES;

	return paid < debt ? (uint16_t)(debt - paid) : 0;
}

enum record_suite {
	RECORD_AES_128_GCM, /* TLS_AES_128_GCM_SHA256 */
	RECORD_CHACHA20_POLY1305, /* TLS_CHACHA20_POLY1305_SHA256 */
	RECORD_SUITE_COUNT,
};

struct record_shard;
struct record;

struct record_options {
	enum record_suite suite;
	bool is_server; /* whom NewSessionTicket reaches, and whom not */
	const uint8_t *secret_read, *secret_write; /* RECORD_SECRET_BYTES each, copied */
	uint64_t records_per_key; /* sent under one key before a KeyUpdate of ours */
};

/* 0, -ENOMEM, -EIO (the library lacks a cipher or memory: its error queue tells). */
int record_shard_create(OSSL_LIB_CTX *library, struct record_shard **shard);
void record_shard_destroy(
	struct record_shard *shard); /* after the last record of it; NULL allowed */

/* 0, -ENOMEM, -EIO. */
int record_create(
	struct record_shard *shard, const struct record_options *options, struct record **record);
void record_destroy(struct record *record); /* NULL allowed */

#define RECORD_AGAIN (-EAGAIN) /* wants more input; the slice is used up */
#define RECORD_CLOSED (-EPIPE) /* the peer's close_notify has come */
#define RECORD_FAILED (-EPROTO) /* fatal; an alert may have been put behind out */
#define RECORD_NO_MEMORY (-ENOMEM)

/* A slice of what was received, used up from the front by record_read. */
struct record_input {
	const uint8_t *data;
	size_t bytes;
};

/* Application data into data: > 0 bytes, or RECORD_*. A record is opened straight into data when that
 * has room for RECORD_PLAIN_BYTES_MAX + 1 bytes. KeyUpdates that ask for one are answered into out. */
ssize_t record_read(struct record *record, struct record_input *input, uint8_t *data, size_t bytes,
	struct chain *out);
/* All of data as records behind out: 0, RECORD_FAILED, RECORD_NO_MEMORY (part may be in out). */
int record_write(struct record *record, const uint8_t *data, size_t bytes, struct chain *out);
/* close_notify behind out: 0, RECORD_FAILED, RECORD_NO_MEMORY. */
int record_goodbye(struct record *record, struct chain *out);

/*
 * One direction's state, for whoever goes on with it (ktls.h). Who has taken it calls record_give_*: from
 * then on that direction is not ours, its secrets are wiped, and using it is RECORD_FAILED. It may be given
 * between records only: nothing of one in our hands, no failure, no goodbye.
 */
struct record_keys {
	enum record_suite suite;
	uint8_t key[32]; /* AES-128: the first 16 bytes */
	uint8_t iv[12];
	uint64_t sequence; /* of the next record */
};
bool record_may_give_seal(const struct record *record);
bool record_may_give_open(const struct record *record);
void record_keys_seal(const struct record *record, struct record_keys *keys);
void record_keys_open(const struct record *record, struct record_keys *keys);
void record_give_seal(struct record *record);
void record_give_open(struct record *record);

const char *record_failure(const struct record *record); /* static text, NULL: none */
int record_alert_sent(const struct record *record); /* description, -1: none */
int record_alert_received(const struct record *record); /* fatal ones; -1: none */
size_t record_bytes(const struct record *record); /* user memory held, shared parts left out */

#endif
