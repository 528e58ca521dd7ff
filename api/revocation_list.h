/*
 * Revocation lists on paper: who is no longer to be believed in a group, signed by the group's own key or by
 * an administrator, so that whoever knows the group's name can tell who wrote it, whichever member passed it
 * on. The chain that proves the signer travels inside.
 *
 *   "PHRL" 0x01 | u64 sequence | u64 time | u16 certificates | each: u16 bytes, DER | u16 entries |
 *   each: 20-byte authority, u64 since, u64 until | signature over all before it, to the end
 *
 * Integers are big-endian, times are seconds since 1970, until 0 is for ever. The chain is leaf first, root
 * last; the root alone: the group's key signs. Entries ascend strictly by authority. A list is one signer's,
 * whole: a newer one (higher sequence) replaces it. Pure functions, any thread; a list never changes.
 */
#ifndef PEERHUB_API_REVOCATION_LIST_H
#define PEERHUB_API_REVOCATION_LIST_H

#include "api/certificate.h"
#include "api/store.h"

#define REVOCATION_BYTES_MAX 131072u /* of one list: one message of the smallest hub */
#define REVOCATION_ENTRIES_MAX 2048u /* 72 KiB of them */
#define REVOCATION_SEQUENCE_MAX ((uint64_t)INT64_MAX) /* SQLite's integers */
#define REVOCATION_AUTHORITY_BYTES 20u

struct revocation_entry {
	uint8_t authority[REVOCATION_AUTHORITY_BYTES]; /* of the key that is revoked */
	int64_t since_s, until_s; /* until 0: for ever */
};

struct revocation_list {
	uint64_t sequence; /* 1..REVOCATION_SEQUENCE_MAX */
	int64_t time_s; /* when it was signed, by the signer's clock */
	bool is_group; /* the group's own key signed it; else an administrator's */
	uint32_t link_count; /* of the signer's chain, leaf first */
	uint8_t links[PH_CHAIN_MAX][REVOCATION_AUTHORITY_BYTES];
	uint32_t entry_count;
	struct revocation_entry *entries;
	struct store_bytes signed_form;
};

/* 40 hex digits to 20 bytes, and back with NUL. The text is a valid authority. */
void revocation_authority(const char *text, uint8_t authority[REVOCATION_AUTHORITY_BYTES]);
void revocation_authority_text(
	const uint8_t authority[REVOCATION_AUTHORITY_BYTES], char text[PEER_AUTHORITY_BYTES]);

struct revocation_draft {
	uint64_t sequence;
	int64_t time_s;
	const struct ph_bytes *chain; /* of the signer, leaf first */
	uint32_t chain_count;
	const struct revocation_entry *entries; /* in order */
	uint32_t entry_count;
};
/* Sign a list. 0, -EINVAL (a number out of range, too large), -ENOMEM. */
int revocation_list_sign(
	const struct revocation_draft *draft, EVP_PKEY *key, struct store_bytes *signed_form);

/*
 * Read and verify a list: its form, its signer (the group's key, or an administrator who was one at the time
 * that the list names), its signature, and that it revokes nobody above its signer. What is good stays good:
 * a revocation does not end because its signer's certificate does.
 * group_authority: whose group it must be. 0, -EINVAL, -ENOMEM; *list is NULL then.
 */
int revocation_list_read(const uint8_t *bytes, size_t byte_count, const char *group_authority,
	struct revocation_list **list);
void revocation_list_destroy(struct revocation_list *list); /* NULL allowed */
/* The sequence it says, without looking at anything else; 0: it is none. */
uint64_t revocation_list_sequence(const uint8_t *bytes, size_t byte_count);

/* NULL: not named, or not any more at now_s. */
const struct revocation_entry *revocation_list_find(const struct revocation_list *list,
	const uint8_t authority[REVOCATION_AUTHORITY_BYTES], int64_t now_s);

#endif
