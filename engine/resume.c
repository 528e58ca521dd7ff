/*
 * Resumption secrets; see resume.h. Two tables of chained buckets, each with a list from the oldest to the
 * newest; the one of what was issued has a second set of buckets, by peer. What has been taken out is nobody's
 * but the taker's, so the lock is never held while anything is computed, wiped or freed.
 */
#include "engine/resume.h"

#include "engine/check.h"
#include "engine/digest.h"
#include "engine/memory.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* ---- chains ------------------------------------------------------------------------------ */

/* Seconds since 1970; false: no time that can be read. */
static bool time_of(const ASN1_TIME *time, int64_t *seconds)
{
	struct tm parts;

	if (ASN1_TIME_to_tm(time, &parts) != 1)
		return false;
	*seconds = (int64_t)timegm(&parts);
	return true;
}

static bool read_serial(const X509 *x509, struct resume_link *link)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
	const uint8_t *data = ASN1_STRING_get0_data(serial);
	int bytes = ASN1_STRING_length(serial);

	if (bytes < 0 || bytes > (int)RESUME_SERIAL_BYTES_MAX)
		return false;
	if (bytes > 0)
		memcpy(link->serial, data, (size_t)bytes);
	link->serial_bytes = (uint32_t)bytes;
	return true;
}

static bool read_authority(const X509 *x509, struct resume_link *link)
{
	uint8_t digest[SHA256_DIGEST_LENGTH], *der = NULL;
	int bytes = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &der);
	bool is_made;

	if (bytes <= 0)
		return false;
	is_made = SHA256(der, (size_t)bytes, digest) != NULL;
	OPENSSL_free(der);
	if (is_made)
		memcpy(link->authority, digest, sizeof(link->authority));
	return is_made;
}

static bool read_link(const X509 *x509, struct resume_link *link, int64_t *valid_to_s)
{
	int64_t seconds;

	if (x509 == NULL || !read_serial(x509, link) || !read_authority(x509, link) ||
		!time_of(X509_get0_notAfter(x509), &seconds))
		return false;
	if (seconds < *valid_to_s)
		*valid_to_s = seconds;
	return true;
}

struct resume_chain *resume_chain_create(const struct ph_chain *chain)
{
	struct resume_chain *made;
	bool is_read = true;
	size_t bytes = 0;
	uint8_t *at;

	for (uint32_t index = 0; index < chain->count; index++)
		bytes += chain->der[index].bytes;
	if (chain->count == 0 || bytes > RESUME_CHAIN_BYTES_MAX)
		return NULL;
	made = memory_zalloc(sizeof(*made) + chain->count * sizeof(made->links[0]) + bytes);
	if (made == NULL)
		return NULL;
	atomic_init(&made->count, 1);
	made->link_count = chain->count;
	made->valid_to_s = INT64_MAX;
	at = (uint8_t *)&made->links[chain->count];
	for (uint32_t index = 0; index < chain->count && is_read; index++) {
		made->der[index] = (struct ph_bytes){at, chain->der[index].bytes};
		memcpy(at, chain->der[index].data, chain->der[index].bytes);
		at += chain->der[index].bytes;
		is_read = read_link(chain->x509[index], &made->links[index], &made->valid_to_s);
	}
	if (!is_read) {
		resume_chain_put(made);
		return NULL;
	}
	return made;
}

struct resume_chain *resume_chain_get(struct resume_chain *chain)
{
	unsigned before = atomic_fetch_add_explicit(&chain->count, 1, memory_order_relaxed);

	assert(before > 0);
	assert(before < UINT_MAX);
	return chain;
}

void resume_chain_put(struct resume_chain *chain)
{
	unsigned before;

	if (chain == NULL)
		return;
	/* Released, and acquired by the last: all use of the bytes comes before they go. */
	before = atomic_fetch_sub_explicit(&chain->count, 1, memory_order_acq_rel);
	assert(before > 0);
	if (before == 1)
		memory_free(chain);
}

void resume_chain_show(const struct resume_chain *chain, struct ph_chain *shown)
{
	*shown = (struct ph_chain){.count = chain->link_count, .resumed = 1};
	memcpy(shown->der, chain->der, sizeof(shown->der));
}

uint32_t resume_lifetime_s(const struct resume_chain *chain, int64_t now_real_s)
{
	int64_t left_s = chain->valid_to_s - now_real_s;

	if (left_s <= 0)
		return 0;
	return left_s < (int64_t)RESUME_LIFETIME_MAX_S ? (uint32_t)left_s : RESUME_LIFETIME_MAX_S;
}

/* ---- entries ----------------------------------------------------------------------------- */

static const char *copy_text(char **at, const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *copy = *at;

	memcpy(copy, text, bytes);
	*at += bytes;
	return copy;
}

struct resume_entry *resume_entry_create(
	const struct resume_facts *facts, struct resume_chain *chain, uint32_t generation)
{
	size_t bytes = strlen(facts->own_group) + strlen(facts->own_identity) +
		strlen(facts->group) + strlen(facts->identity) + 4;
	struct resume_entry *entry = memory_zalloc(sizeof(*entry) + bytes);
	char *at;

	if (entry == NULL)
		return NULL;
	at = entry->text;
	entry->own_group = copy_text(&at, facts->own_group);
	entry->own_identity = copy_text(&at, facts->own_identity);
	entry->group = copy_text(&at, facts->group);
	entry->identity = copy_text(&at, facts->identity);
	memcpy(entry->own_digest, facts->own_digest, sizeof(entry->own_digest));
	entry->peer = digest_pair(facts->group, facts->identity);
	entry->role = facts->role;
	entry->tag = facts->tag;
	entry->generation = generation;
	entry->chain = resume_chain_get(chain);
	return entry;
}

void resume_entry_destroy(struct resume_entry *entry)
{
	if (entry == NULL)
		return;
	resume_chain_put(entry->chain);
	OPENSSL_cleanse(entry->secret, sizeof(entry->secret));
	memory_free(entry);
}

/* ---- tables ------------------------------------------------------------------------------ */

struct table {
	struct resume_entry **buckets; /* bucket_mask + 1 */
	struct resume_entry **peers; /* as many, by peer; NULL: no limit for each */
	uint32_t bucket_mask;
	uint32_t count, count_max;
	struct resume_entry *oldest, *newest;
};

struct resume {
	pthread_mutex_t lock; /* guards the tables */
	struct table tables[2]; /* by enum resume_side */
	/* Written under the lock; read by anybody. A reader that sees the old number has verified its chain
	 * before the drop, and the comparison in resume_put, under the lock, is what counts. */
	_Atomic uint32_t generation;
};

/* Names are random (ids) or digests, so any bits of them spread well; who chooses ids is ourselves. */
static struct resume_entry **table_bucket(const struct table *table, const uint8_t *name)
{
	uint32_t hash = (uint32_t)name[0] | (uint32_t)name[1] << 8 | (uint32_t)name[2] << 16 |
		(uint32_t)name[3] << 24;

	return &table->buckets[hash & table->bucket_mask];
}

static struct resume_entry *table_find(const struct table *table, const uint8_t *name)
{
	struct resume_entry *entry = *table_bucket(table, name);

	while (entry != NULL && CRYPTO_memcmp(entry->name, name, sizeof(entry->name)) != 0)
		entry = entry->next;
	return entry;
}

/* The digest is keyed, so no peer can choose its bucket. */
static struct resume_entry **table_peer(const struct table *table, const struct resume_entry *entry)
{
	return &table->peers[entry->peer.word[0] & table->bucket_mask];
}

static bool is_same_pair(const struct resume_entry *one, const struct resume_entry *other)
{
	return one->peer.word[0] == other->peer.word[0] &&
		one->peer.word[1] == other->peer.word[1] &&
		strcmp(one->own_identity, other->own_identity) == 0;
}

/* The oldest that this one's peer has from the same identity of ours, when it has as many as it may. */
static struct resume_entry *table_excess(
	const struct table *table, const struct resume_entry *entry)
{
	struct resume_entry *oldest = NULL;
	uint32_t count = 0;

	if (table->peers == NULL)
		return NULL;
	for (struct resume_entry *at = *table_peer(table, entry); at != NULL; at = at->next_peer) {
		if (is_same_pair(at, entry)) {
			oldest = at; /* a bucket begins with the newest */
			count++;
		}
	}
	assert(count <= RESUME_ISSUED_PER_PEER);
	return count == RESUME_ISSUED_PER_PEER ? oldest : NULL;
}

static void table_remove(struct table *table, struct resume_entry *entry)
{
	struct resume_entry **at = table_bucket(table, entry->name);

	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	if (table->peers != NULL) {
		at = table_peer(table, entry);
		while (*at != entry)
			at = &(*at)->next_peer;
		*at = entry->next_peer;
	}
	*(entry->older != NULL ? &entry->older->newer : &table->oldest) = entry->newer;
	*(entry->newer != NULL ? &entry->newer->older : &table->newest) = entry->older;
	assert(table->count > 0);
	table->count--;
	entry->next = entry->next_peer = entry->older = entry->newer = NULL;
}

static void table_add(struct table *table, struct resume_entry *entry)
{
	struct resume_entry **bucket = table_bucket(table, entry->name);

	entry->next = *bucket;
	*bucket = entry;
	if (table->peers != NULL) {
		entry->next_peer = *table_peer(table, entry);
		*table_peer(table, entry) = entry;
	}
	entry->newer = NULL;
	entry->older = table->newest;
	*(table->newest != NULL ? &table->newest->newer : &table->oldest) = entry;
	table->newest = entry;
	table->count++;
	assert(table->count <= table->count_max);
}

static bool table_init(struct table *table, uint32_t count_max, bool by_peer)
{
	uint32_t buckets = 16;

	while (buckets < count_max && buckets < 1u << 20)
		buckets *= 2;
	table->count_max = count_max;
	table->bucket_mask = buckets - 1;
	table->buckets = memory_zalloc(buckets * sizeof(struct resume_entry *));
	if (by_peer)
		table->peers = memory_zalloc(buckets * sizeof(struct resume_entry *));
	return table->buckets != NULL && (!by_peer || table->peers != NULL);
}

static void table_fini(struct table *table)
{
	while (table->oldest != NULL) {
		struct resume_entry *entry = table->oldest;

		table_remove(table, entry);
		resume_entry_destroy(entry);
	}
	memory_free(table->buckets);
	memory_free(table->peers);
}

struct resume *resume_create(uint32_t entries_max)
{
	struct resume *resume = memory_zalloc(sizeof(*resume));

	assert(entries_max > 0);
	if (resume == NULL)
		return NULL;
	/* What is kept is bounded by where we dial; what is issued grows with each visit of a peer. */
	if (!table_init(&resume->tables[RESUME_ISSUED], entries_max, true) ||
		!table_init(&resume->tables[RESUME_KEPT], entries_max, false) ||
		pthread_mutex_init(&resume->lock, NULL) != 0) {
		table_fini(&resume->tables[RESUME_ISSUED]);
		table_fini(&resume->tables[RESUME_KEPT]);
		memory_free(resume);
		return NULL;
	}
	return resume;
}

void resume_destroy(struct resume *resume)
{
	if (resume == NULL)
		return;
	table_fini(&resume->tables[RESUME_ISSUED]);
	table_fini(&resume->tables[RESUME_KEPT]);
	pthread_mutex_destroy(&resume->lock);
	memory_free(resume);
}

uint32_t resume_generation(const struct resume *resume)
{
	return atomic_load_explicit(&resume->generation, memory_order_relaxed);
}

void resume_put(struct resume *resume, enum resume_side side, struct resume_entry *entry)
{
	struct table *table = &resume->tables[side];
	struct resume_entry *gone = NULL, *same = NULL;

	pthread_mutex_lock(&resume->lock);
	if (entry->generation != atomic_load_explicit(&resume->generation, memory_order_relaxed)) {
		gone = entry; /* its chain may be among those dropped since */
	} else {
		same = table_find(table, entry->name);
		if (same != NULL)
			table_remove(table, same);
		gone = table_excess(table, entry);
		if (gone == NULL && table->count == table->count_max)
			gone = table->oldest;
		if (gone != NULL)
			table_remove(table, gone);
		table_add(table, entry);
	}
	pthread_mutex_unlock(&resume->lock);
	resume_entry_destroy(gone);
	resume_entry_destroy(same);
}

struct resume_entry *resume_take(struct resume *resume, enum resume_side side,
	const uint8_t name[RESUME_ID_BYTES], uint64_t now_ns, int64_t now_real_s)
{
	struct table *table = &resume->tables[side];
	struct resume_entry *entry;

	pthread_mutex_lock(&resume->lock);
	entry = table_find(table, name);
	if (entry != NULL)
		table_remove(table, entry);
	pthread_mutex_unlock(&resume->lock);
	/* The chain's own end counts too, for the time of day may have been set since. */
	if (entry != NULL &&
		(now_ns >= entry->expires_ns || now_real_s >= entry->chain->valid_to_s)) {
		resume_entry_destroy(entry);
		return NULL;
	}
	return entry;
}

uint32_t resume_count(struct resume *resume, enum resume_side side)
{
	uint32_t count;

	pthread_mutex_lock(&resume->lock);
	count = resume->tables[side].count;
	pthread_mutex_unlock(&resume->lock);
	return count;
}

/* ---- taking back ------------------------------------------------------------------------- */

static bool is_text_given(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static bool has_link(const struct resume_chain *chain, const struct ph_resume_filter *filter)
{
	if (filter->authority == NULL && filter->serial.bytes == 0)
		return true;
	for (uint32_t index = 0; index < chain->link_count; index++) {
		const struct resume_link *link = &chain->links[index];

		if (filter->authority != NULL &&
			memcmp(link->authority, filter->authority, sizeof(link->authority)) != 0)
			continue;
		if (filter->serial.bytes > 0 &&
			(link->serial_bytes != filter->serial.bytes ||
				memcmp(link->serial, filter->serial.data, link->serial_bytes) != 0))
			continue;
		return true;
	}
	return false;
}

static bool is_meant(const struct resume_entry *entry, const struct ph_resume_filter *filter)
{
	return (!filter->has_tag || entry->tag == filter->tag) &&
		(!is_text_given(filter->group) || strcmp(entry->group, filter->group) == 0) &&
		(!is_text_given(filter->identity) ||
			strcmp(entry->identity, filter->identity) == 0) &&
		has_link(entry->chain, filter);
}

uint64_t resume_drop(struct resume *resume, const struct ph_resume_filter *filter)
{
	struct resume_entry *gone = NULL;
	uint64_t count = 0;

	pthread_mutex_lock(&resume->lock);
	/* Those whose peer is verified and who are not in a table yet: they shall not get in. */
	atomic_fetch_add_explicit(&resume->generation, 1, memory_order_relaxed);
	for (int side = RESUME_ISSUED; side <= RESUME_KEPT; side++) {
		struct table *table = &resume->tables[side];
		struct resume_entry *newer;

		for (struct resume_entry *entry = table->oldest; entry != NULL; entry = newer) {
			newer = entry->newer;
			if (!is_meant(entry, filter))
				continue;
			table_remove(table, entry);
			entry->next = gone;
			gone = entry;
			count++;
		}
	}
	pthread_mutex_unlock(&resume->lock);
	while (gone != NULL) {
		struct resume_entry *entry = gone;

		gone = entry->next;
		resume_entry_destroy(entry);
	}
	return count;
}

uint64_t resume_drop_tag(struct resume *resume, uint64_t tag)
{
	return resume_drop(resume, &(struct ph_resume_filter){.has_tag = 1, .tag = tag});
}
