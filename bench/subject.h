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

/* ---- wire: parse one message ---- */
size_t subject_wire_pt2pt(uint8_t *message, size_t capacity, uint32_t payload_bytes);
size_t subject_wire_connect(uint8_t *message, size_t capacity);
int subject_wire_parse(
	const uint8_t *message, size_t bytes); /* header, then by its type; 0 or < 0 */

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
