/*
 * What the micro-benchmarks measure inside the engine, behind plain C functions: the engine's own
 * headers are C11 with atomics, which C++17 does not read. Each create is undone by its destroy.
 * NULL or a negative errno when there is no memory or the crypto library refused.
 */
#ifndef PEERHUB_BENCH_SUBJECT_H
#define PEERHUB_BENCH_SUBJECT_H

#include "peerhub.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- mailbox: any thread posts, one owner drains ---- */
struct subject_mailbox;
struct subject_mailbox *subject_mailbox_create(uint32_t entry_count); /* entries to post */
void subject_mailbox_destroy(struct subject_mailbox *subject);
void subject_mailbox_post(struct subject_mailbox *subject, uint32_t entry);
uint32_t subject_mailbox_drain(struct subject_mailbox *subject); /* returns how many */

/* ---- hash: (group, identity) -> ids ---- */
struct subject_hash;
struct subject_hash *subject_hash_create(uint32_t count); /* filled with so many pairs */
void subject_hash_destroy(struct subject_hash *subject);
/* Look pair `number` up with its digest made before; number >= count is a miss. */
uint32_t subject_hash_find(const struct subject_hash *subject, uint32_t number);
/* The same from the names on: digest and lookup. */
uint32_t subject_hash_find_names(const struct subject_hash *subject, uint32_t number);

/* A pair that is not in the table, put in and taken out again. 0 or < 0. */
int subject_hash_insert_remove(struct subject_hash *subject, uint32_t number);

/* ---- slots: one table for the process; the acts return 0 or < 0 ---- */
struct subject_slots;
struct subject_slots *subject_slots_get(void);
int subject_slots_live(struct subject_slots *subject);
int subject_slots_send(struct subject_slots *subject);
int subject_slots_send_mailed(struct subject_slots *subject);
int subject_slots_pin(struct subject_slots *subject);
int subject_slots_close_stale(struct subject_slots *subject);
int subject_slots_take_put(struct subject_slots *subject);

/* ---- timers: one wheel ---- */
struct subject_timers;
struct subject_timers *subject_timers_create(uint32_t count);
void subject_timers_destroy(struct subject_timers *subject);
void subject_timers_arm(struct subject_timers *subject, uint32_t index); /* some 30 s ahead */
void subject_timers_cancel(struct subject_timers *subject, uint32_t index);
uint32_t subject_timers_expire(struct subject_timers *subject); /* all; returns how many fired */

/* ---- chunks, digests, histograms ---- */
int subject_chunk_cycle(size_t bytes); /* allocate, free */
int subject_chunk_batch(size_t bytes, uint32_t count); /* allocate all, then free all */
uint64_t subject_digest(const char *group, const char *identity);
struct subject_histogram;
struct subject_histogram *subject_histogram_create(void);
void subject_histogram_destroy(struct subject_histogram *subject);
void subject_histogram_record(struct subject_histogram *subject, uint64_t value);
uint64_t subject_histogram_quantile(const struct subject_histogram *subject, uint32_t permille);

/* ---- wire: one message of each kind ---- */
enum subject_message {
	SUBJECT_AUTH_INFO,
	SUBJECT_CONNECT,
	SUBJECT_WELCOME,
	SUBJECT_REFUSE,
	SUBJECT_DISCONNECT,
	SUBJECT_NOTICE,
	SUBJECT_MESSAGES, /* how many */
};
/* Written as an engine would; bytes, 0 when it was refused. */
size_t subject_wire_write(enum subject_message kind, uint8_t *message, size_t capacity);
size_t subject_wire_pt2pt(uint8_t *message, size_t capacity, uint32_t payload_bytes);
int subject_wire_parse(
	const uint8_t *message, size_t bytes); /* header, then by its type; 0 or < 0 */

/* ---- records: sealed by one end, opened by the other, ours and OpenSSL's ---- */
struct subject_records;
/* suite: 0 AES-128-GCM, 1 ChaCha20-Poly1305. */
struct subject_records *subject_records_create(int suite, int openssl);
void subject_records_destroy(struct subject_records *subject);
int subject_records_seal(struct subject_records *subject, size_t bytes); /* ours; and forget it */
int subject_records_pass(struct subject_records *subject, size_t bytes); /* seal and open */

/* ---- chains: a member's membership judged ---- */
struct subject_chain;
struct subject_chain *subject_chain_create(
	uint32_t links, int cached); /* links between GMC and GRC */
void subject_chain_destroy(struct subject_chain *subject);
int subject_chain_verify(struct subject_chain *subject);

/* ---- what a call costs its caller ---- */
/* Bring what ph_close and ph_send write, slot and mailbox, into this core's cache. */
void subject_id_warm(uint64_t id);
uint64_t subject_id_wakes(uint64_t id); /* how often posters had to wake the shard, so far */
uint64_t subject_thread_allocated(void); /* bytes that this thread has allocated; 0: not known */

/* Two nodes of one group in this process, with a store of their own. NULL: why is on stderr. */
struct subject_p2p;
struct subject_p2p *subject_p2p_create(void);
void subject_p2p_destroy(struct subject_p2p *subject);
/* Open so many direct connections from one node to the other. 0 or < 0. */
int subject_p2p_open(struct subject_p2p *subject, uint64_t *ids, uint32_t count);
int subject_p2p_close(struct subject_p2p *subject, uint64_t id); /* the call that is measured */
int subject_p2p_await_closed(struct subject_p2p *subject); /* all of them */

/* ---- TLS: both ends in memory ---- */
struct subject_tls;
struct subject_tls *subject_tls_create(uint32_t hub_flags); /* PH_HUB_TLS_* */
void subject_tls_destroy(struct subject_tls *subject);
int subject_tls_handshake(struct subject_tls *subject); /* a whole mutual one; 0 or < 0 */
/* Open so many connections between the two ends, once. 0 or < 0. */
int subject_tls_connect(struct subject_tls *subject, uint32_t count);
/* On one of them the client seals `bytes` (at most 16,384) and the server opens them. 0 or < 0. */
int subject_tls_message(struct subject_tls *subject, uint32_t connection, size_t bytes);
/* Credentials with a certificate that certifies itself; the caller puts them. */
struct ph_credentials *subject_credentials_create(void);

#ifdef __cplusplus
}
#endif
#endif
