/* Revocation lists: their signed form. See revocation_list.h. */
#include "api/revocation_list.h"

#include "api/check.h"
#include "api/trust.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "PHRL\x01"
#define MAGIC_BYTES 5u
#define HEAD_BYTES (MAGIC_BYTES + 8u + 8u + 2u)
#define ENTRY_BYTES (REVOCATION_AUTHORITY_BYTES + 16u)
#define SIGNATURE_BYTES_MAX 256u

/* Entries, twenty-five certificates of the size that we make, and a signature. */
_Static_assert(HEAD_BYTES + 2u + REVOCATION_ENTRIES_MAX * ENTRY_BYTES + PH_CHAIN_MAX * 2048u +
			SIGNATURE_BYTES_MAX <=
		REVOCATION_BYTES_MAX,
	"a full list of a long chain fits");

void revocation_authority(const char *text, uint8_t authority[REVOCATION_AUTHORITY_BYTES])
{
	assert(peer_authority_is_valid(text));
	for (uint32_t index = 0; index < REVOCATION_AUTHORITY_BYTES; index++) {
		uint8_t byte = 0;

		for (uint32_t half = 0; half < 2; half++) {
			char digit = text[2 * index + half];

			byte = (uint8_t)(byte << 4 |
				(digit <= '9' ? digit - '0' : digit - 'a' + 10));
		}
		authority[index] = byte;
	}
}

void revocation_authority_text(
	const uint8_t authority[REVOCATION_AUTHORITY_BYTES], char text[PEER_AUTHORITY_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (uint32_t index = 0; index < REVOCATION_AUTHORITY_BYTES; index++) {
		text[2 * index] = digits[authority[index] >> 4];
		text[2 * index + 1] = digits[authority[index] & 15];
	}
	text[PEER_AUTHORITY_CHARS] = '\0';
}

/* ---- signing ---------------------------------------------------------------------------- */

static void put(uint8_t **at, const void *data, size_t bytes)
{
	memcpy(*at, data, bytes);
	*at += bytes;
}

static void put_number(uint8_t **at, uint64_t value, uint32_t bytes)
{
	while (bytes-- > 0)
		*(*at)++ = (uint8_t)(value >> 8 * bytes);
}

/* How long it will be without its signature; 0: it cannot be. */
static size_t draft_bytes(const struct revocation_draft *draft)
{
	size_t bytes = HEAD_BYTES + 2u + (size_t)draft->entry_count * ENTRY_BYTES;

	if (draft->sequence == 0 || draft->sequence > REVOCATION_SEQUENCE_MAX ||
		draft->chain_count == 0 || draft->chain_count > PH_CHAIN_MAX ||
		draft->entry_count > REVOCATION_ENTRIES_MAX || draft->time_s < 0)
		return 0;
	for (uint32_t index = 0; index < draft->chain_count; index++) {
		if (draft->chain[index].bytes > CERTIFICATE_DER_BYTES_MAX)
			return 0;
		bytes += 2u + draft->chain[index].bytes;
	}
	return bytes <= REVOCATION_BYTES_MAX - SIGNATURE_BYTES_MAX ? bytes : 0;
}

int revocation_list_sign(
	const struct revocation_draft *draft, EVP_PKEY *key, struct store_bytes *signed_form)
{
	size_t bytes = draft_bytes(draft), signature_bytes = 0;
	uint8_t *signature = NULL, *at;
	int status;

	*signed_form = (struct store_bytes){0};
	if (bytes == 0)
		return -EINVAL;
	signed_form->data = malloc(bytes + SIGNATURE_BYTES_MAX);
	if (signed_form->data == NULL)
		return -ENOMEM;
	at = signed_form->data;
	put(&at, MAGIC, MAGIC_BYTES);
	put_number(&at, draft->sequence, 8);
	put_number(&at, (uint64_t)draft->time_s, 8);
	put_number(&at, draft->chain_count, 2);
	for (uint32_t index = 0; index < draft->chain_count; index++) {
		put_number(&at, draft->chain[index].bytes, 2);
		put(&at, draft->chain[index].data, draft->chain[index].bytes);
	}
	put_number(&at, draft->entry_count, 2);
	for (uint32_t index = 0; index < draft->entry_count; index++) {
		const struct revocation_entry *entry = &draft->entries[index];

		put(&at, entry->authority, sizeof(entry->authority));
		put_number(&at, (uint64_t)entry->since_s, 8);
		put_number(&at, (uint64_t)entry->until_s, 8);
	}
	assert((size_t)(at - signed_form->data) == bytes);
	status = key_sign(key, signed_form->data, bytes, &signature, &signature_bytes);
	if (status == 0 && signature_bytes <= SIGNATURE_BYTES_MAX) {
		put(&at, signature, signature_bytes);
		signed_form->bytes = bytes + signature_bytes;
	}
	OPENSSL_free(signature);
	if (signed_form->bytes > 0)
		return 0;
	free(signed_form->data);
	*signed_form = (struct store_bytes){0};
	return -ENOMEM;
}

/* ---- reading ---------------------------------------------------------------------------- */

struct cursor {
	const uint8_t *at, *end;
	bool failed; /* ran out; everything after it reads as nothing */
};

static const uint8_t *take(struct cursor *cursor, size_t bytes)
{
	const uint8_t *at = cursor->at;

	if (cursor->failed || (size_t)(cursor->end - cursor->at) < bytes) {
		cursor->failed = true;
		return NULL;
	}
	cursor->at += bytes;
	return at;
}

static uint64_t take_number(struct cursor *cursor, uint32_t bytes)
{
	const uint8_t *at = take(cursor, bytes);
	uint64_t value = 0;

	for (uint32_t index = 0; at != NULL && index < bytes; index++)
		value = value << 8 | at[index];
	return value;
}

uint64_t revocation_list_sequence(const uint8_t *bytes, size_t byte_count)
{
	struct cursor cursor = {.at = bytes, .end = bytes + byte_count};
	const uint8_t *magic = take(&cursor, MAGIC_BYTES);
	uint64_t sequence;

	if (magic == NULL || memcmp(magic, MAGIC, MAGIC_BYTES) != 0)
		return 0;
	sequence = take_number(&cursor, 8);
	return sequence <= REVOCATION_SEQUENCE_MAX ? sequence : 0;
}

/* A time that fits, with room to be added to. */
static bool take_time(struct cursor *cursor, int64_t *time_s)
{
	uint64_t value = take_number(cursor, 8);

	*time_s = (int64_t)(value & (uint64_t)INT64_MAX);
	return value <= (uint64_t)INT64_MAX / 2;
}

static int take_entries(struct cursor *cursor, struct revocation_list *list)
{
	list->entry_count = (uint32_t)take_number(cursor, 2);
	if (cursor->failed || list->entry_count > REVOCATION_ENTRIES_MAX ||
		(size_t)(cursor->end - cursor->at) < (size_t)list->entry_count * ENTRY_BYTES)
		return -EINVAL;
	list->entries = calloc(list->entry_count + 1, sizeof(*list->entries));
	if (list->entries == NULL)
		return -ENOMEM;
	for (uint32_t index = 0; index < list->entry_count; index++) {
		struct revocation_entry *entry = &list->entries[index];

		memcpy(entry->authority, take(cursor, REVOCATION_AUTHORITY_BYTES),
			REVOCATION_AUTHORITY_BYTES);
		if (!take_time(cursor, &entry->since_s) || !take_time(cursor, &entry->until_s))
			return -EINVAL;
		if (index > 0 &&
			memcmp(entry[-1].authority, entry->authority, REVOCATION_AUTHORITY_BYTES) >=
				0)
			return -EINVAL;
	}
	return 0;
}

static int take_chain(struct cursor *cursor, X509 *chain[PH_CHAIN_MAX], uint32_t *count)
{
	uint32_t announced = (uint32_t)take_number(cursor, 2);

	if (cursor->failed || announced == 0 || announced > PH_CHAIN_MAX)
		return -EINVAL;
	while (*count < announced) {
		size_t bytes = (size_t)take_number(cursor, 2);
		const uint8_t *der = take(cursor, bytes);
		int status;

		if (der == NULL)
			return -EINVAL;
		status = certificate_from_der(der, bytes, &chain[*count]);
		if (status < 0)
			return status;
		++*count;
	}
	return 0;
}

/* The root alone: its key's hash is the group's name, so nothing else has to vouch for it. */
static int judge_root(X509 *root, const char *group_authority, struct revocation_list *list)
{
	struct certificate_info *info = malloc(sizeof(*info));
	char refusal[REFUSAL_BYTES];
	int status;

	if (info == NULL)
		return -ENOMEM;
	status = certificate_read(root, info, refusal);
	if (status == 0 &&
		(info->kind != CERTIFICATE_GRC || strcmp(info->authority, group_authority) != 0))
		status = -EINVAL;
	free(info);
	if (status < 0)
		return status;
	list->is_group = true;
	list->link_count = 1;
	revocation_authority(group_authority, list->links[0]);
	return 0;
}

static int judge_chain(X509 *const *chain, uint32_t count, const char *group_authority,
	struct revocation_list *list)
{
	struct trust_request request = {.now_s = list->time_s, .group_authority = group_authority};
	struct trust_result *trust = malloc(sizeof(*trust));
	char refusal[REFUSAL_BYTES];
	enum trust_status judged;

	if (trust == NULL)
		return -ENOMEM;
	judged = trust_verify(chain, count, &request, trust, refusal);
	if (judged == TRUST_OK && trust->role == ROLE_ADMIN) {
		list->link_count = trust->link_count;
		for (uint32_t index = 0; index < trust->link_count; index++)
			revocation_authority(trust->links[index].authority, list->links[index]);
	}
	free(trust);
	if (judged == TRUST_NO_MEMORY)
		return -ENOMEM;
	return list->link_count > 0 ? 0 : -EINVAL;
}

/* Nobody is above himself: a list that names its signer's own chain says nothing that can be true. */
static bool is_above_itself(const struct revocation_list *list)
{
	for (uint32_t index = 0; index < list->link_count; index++)
		for (uint32_t at = 0; at < list->entry_count; at++)
			if (memcmp(list->entries[at].authority, list->links[index],
				    REVOCATION_AUTHORITY_BYTES) == 0)
				return true;
	return false;
}

static int read_parts(struct revocation_list *list, const char *group_authority,
	X509 *chain[PH_CHAIN_MAX], uint32_t *count)
{
	struct cursor cursor = {.at = list->signed_form.data + MAGIC_BYTES + 8,
		.end = list->signed_form.data + list->signed_form.bytes};
	EVP_PKEY *key;
	int status = take_time(&cursor, &list->time_s) ? 0 : -EINVAL;

	if (status == 0)
		status = take_chain(&cursor, chain, count);
	if (status == 0)
		status = take_entries(&cursor, list);
	if (status == 0)
		status = *count == 1 ? judge_root(chain[0], group_authority, list)
				     : judge_chain(chain, *count, group_authority, list);
	if (status == 0 && is_above_itself(list))
		status = -EINVAL;
	if (status == 0)
		status = certificate_key(chain[0], &key);
	if (status == 0)
		status = key_verify(key, list->signed_form.data,
			(size_t)(cursor.at - list->signed_form.data), cursor.at,
			(size_t)(cursor.end - cursor.at));
	return status;
}

int revocation_list_read(const uint8_t *bytes, size_t byte_count, const char *group_authority,
	struct revocation_list **read)
{
	X509 *chain[PH_CHAIN_MAX] = {NULL};
	struct revocation_list *list;
	uint32_t count = 0;
	int status;

	*read = NULL;
	if (byte_count > REVOCATION_BYTES_MAX || revocation_list_sequence(bytes, byte_count) == 0)
		return -EINVAL;
	list = calloc(1, sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	list->sequence = revocation_list_sequence(bytes, byte_count);
	list->signed_form.data = malloc(byte_count);
	status = list->signed_form.data != NULL ? 0 : -ENOMEM;
	if (status == 0) {
		memcpy(list->signed_form.data, bytes, byte_count);
		list->signed_form.bytes = byte_count;
		/* The error queue must look the same after us. */
		ERR_set_mark();
		status = read_parts(list, group_authority, chain, &count);
		ERR_pop_to_mark();
	}
	for (uint32_t index = 0; index < count; index++)
		X509_free(chain[index]);
	if (status < 0) {
		revocation_list_destroy(list);
		return status;
	}
	*read = list;
	return 0;
}

void revocation_list_destroy(struct revocation_list *list)
{
	if (list == NULL)
		return;
	free(list->entries);
	free(list->signed_form.data);
	free(list);
}

const struct revocation_entry *revocation_list_find(const struct revocation_list *list,
	const uint8_t authority[REVOCATION_AUTHORITY_BYTES], int64_t now_s)
{
	uint32_t low = 0, high = list->entry_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct revocation_entry *entry = &list->entries[middle];
		int order = memcmp(authority, entry->authority, REVOCATION_AUTHORITY_BYTES);

		if (order == 0)
			return entry->until_s == 0 || now_s < entry->until_s ? entry : NULL;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
