/*
 * Trust: the rules of a chain, in two passes. The first reads every certificate and checks all that
 * costs no public-key work: kinds, keys, names, roles, validity. Only a chain whose every link says
 * the right thing gets the second pass, from the root down: signatures. So a stranger with a
 * made-up chain costs us some parsing, and a chain that reaches the signatures has at most
 * PH_CHAIN_MAX of them, of two cheap kinds.
 *
 * Why a good chain proves the name: certificate_read has shown for each link that its key hashes to
 * the authority of its name; issuer name and key id of each link name the next; each link is signed
 * by the next one's key; the root is signed by itself and its key hashes to the group's authority.
 * TLS proves that the peer holds the leaf's key.
 */
#include "api/trust.h"

#include "api/check.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cache ------------------------------------------------------------------------------ */

/*
 * A set-associative table of digests of (certificate, issuer's key). The digest picks the set, the
 * rest of it must match; a full set forgets its oldest. Only good signatures get in, so the worst
 * an outsider can do is nothing, and the worst a member can do is to make us verify again.
 */
#define CACHE_SETS 256u
#define CACHE_WAYS 8u /* 256 * 8 * 32 bytes: 64 KiB, thousands of peers of a few issuers */
#define CACHE_LOCKS 16u

/*
 * And a second one for whole chains, which says what a chain was found to prove. It is asked only for a time
 * in which all its links are valid, and who was expected is compared each time; the rest follows from the bytes
 * alone, which the digest stands for. Whether somebody was revoked meanwhile is not in it: that is asked behind
 * it (revocation.c), which also takes the chains out that it will refuse. Its pages cost memory when they are used, and no more than all of them, some 2 MiB.
 */
#define CHAIN_SETS 64u
#define CHAIN_WAYS 4u

struct chain_entry {
	uint64_t used; /* the least is given up first; 0 = empty */
	uint8_t digest[PEER_DIGEST_BYTES];
	struct trust_result result;
};

struct cache_set {
	uint8_t digest[CACHE_WAYS][PEER_DIGEST_BYTES];
	uint32_t next; /* next way to overwrite */
	uint32_t used;
};

struct trust_cache {
	pthread_mutex_t lock[CACHE_LOCKS]; /* set s is guarded by lock s % CACHE_LOCKS */
	struct cache_set set[CACHE_SETS];
	uint64_t uses[CHAIN_SETS];
	struct chain_entry chains[CHAIN_SETS]
				 [CHAIN_WAYS]; /* set s is guarded by lock s % CACHE_LOCKS */
};

struct trust_cache *trust_cache_create(void)
{
	struct trust_cache *cache = calloc(1, sizeof(*cache));

	if (cache == NULL)
		return NULL;
	for (uint32_t index = 0; index < CACHE_LOCKS; index++)
		if (pthread_mutex_init(&cache->lock[index], NULL) != 0) {
			while (index-- > 0)
				pthread_mutex_destroy(&cache->lock[index]);
			free(cache);
			return NULL;
		}
	return cache;
}

void trust_cache_destroy(struct trust_cache *cache)
{
	if (cache == NULL)
		return;
	for (uint32_t index = 0; index < CACHE_LOCKS; index++)
		pthread_mutex_destroy(&cache->lock[index]);
	free(cache);
}

static uint32_t cache_index(const uint8_t digest[PEER_DIGEST_BYTES])
{
	return (digest[0] | (uint32_t)digest[1] << 8) % CACHE_SETS;
}

static bool cache_has(struct trust_cache *cache, const uint8_t digest[PEER_DIGEST_BYTES])
{
	uint32_t index = cache_index(digest);
	struct cache_set *set = &cache->set[index];
	bool found = false;

	pthread_mutex_lock(&cache->lock[index % CACHE_LOCKS]);
	for (uint32_t way = 0; way < set->used && !found; way++)
		found = memcmp(set->digest[way], digest, PEER_DIGEST_BYTES) == 0;
	pthread_mutex_unlock(&cache->lock[index % CACHE_LOCKS]);
	return found;
}

static void cache_add(struct trust_cache *cache, const uint8_t digest[PEER_DIGEST_BYTES])
{
	uint32_t index = cache_index(digest);
	struct cache_set *set = &cache->set[index];

	pthread_mutex_lock(&cache->lock[index % CACHE_LOCKS]);
	memcpy(set->digest[set->next], digest, PEER_DIGEST_BYTES);
	set->next = (set->next + 1) % CACHE_WAYS;
	if (set->used < CACHE_WAYS)
		set->used++;
	pthread_mutex_unlock(&cache->lock[index % CACHE_LOCKS]);
}

/* Both parts have a fixed length once hashed, so no two pairs run together. */
static int cache_digest(X509 *x509, const struct ph_bytes *der,
	const struct certificate_info *issuer, uint8_t digest[PEER_DIGEST_BYTES])
{
	uint8_t both[2 * PEER_DIGEST_BYTES];
	uint8_t *made = NULL;
	size_t made_bytes;

	if (der != NULL) {
		peer_digest(der->data, der->bytes, both);
	} else {
		if (certificate_to_der(x509, &made, &made_bytes) < 0)
			return -1;
		peer_digest(made, made_bytes, both);
		OPENSSL_free(made);
	}
	peer_digest(issuer->spki, issuer->spki_bytes, both + PEER_DIGEST_BYTES);
	peer_digest(both, sizeof(both), digest);
	return 0;
}

/* The order of the certificates is part of it, and so is where each one ends. */
static void chain_digest(const struct ph_chain *chain, uint8_t digest[PEER_DIGEST_BYTES])
{
	uint8_t each[PH_CHAIN_MAX][PEER_DIGEST_BYTES];

	assert(chain->count <= PH_CHAIN_MAX);
	for (uint32_t index = 0; index < chain->count; index++)
		peer_digest(chain->der[index].data, chain->der[index].bytes, each[index]);
	peer_digest(each, chain->count * sizeof(each[0]), digest);
}

static uint32_t chain_set(const uint8_t digest[PEER_DIGEST_BYTES])
{
	return digest[2] % CHAIN_SETS;
}

/* The set's lock is held. */
static struct chain_entry *chain_find(
	struct trust_cache *cache, uint32_t set, const uint8_t *digest)
{
	for (uint32_t way = 0; way < CHAIN_WAYS; way++) {
		struct chain_entry *entry = &cache->chains[set][way];

		if (entry->used > 0 && memcmp(entry->digest, digest, PEER_DIGEST_BYTES) == 0)
			return entry;
	}
	return NULL;
}

static bool chain_known(struct trust_cache *cache, const uint8_t digest[PEER_DIGEST_BYTES],
	int64_t now_s, struct trust_result *result)
{
	uint32_t set = chain_set(digest);
	struct chain_entry *entry;
	bool is_known = false;

	pthread_mutex_lock(&cache->lock[set % CACHE_LOCKS]);
	entry = chain_find(cache, set, digest);
	if (entry != NULL && now_s >= entry->result.valid_from_s &&
		now_s <= entry->result.valid_to_s) {
		entry->used = ++cache->uses[set];
		*result = entry->result;
		is_known = true;
	}
	pthread_mutex_unlock(&cache->lock[set % CACHE_LOCKS]);
	return is_known;
}

static void chain_add(struct trust_cache *cache, const uint8_t digest[PEER_DIGEST_BYTES],
	const struct trust_result *result)
{
	uint32_t set = chain_set(digest);
	struct chain_entry *entry;

	pthread_mutex_lock(&cache->lock[set % CACHE_LOCKS]);
	entry = chain_find(cache, set, digest);
	for (uint32_t way = 0; entry == NULL && way < CHAIN_WAYS; way++)
		if (cache->chains[set][way].used == 0)
			entry = &cache->chains[set][way];
	if (entry == NULL) {
		entry = &cache->chains[set][0];
		for (uint32_t way = 1; way < CHAIN_WAYS; way++)
			if (cache->chains[set][way].used < entry->used)
				entry = &cache->chains[set][way];
	}
	memcpy(entry->digest, digest, PEER_DIGEST_BYTES);
	entry->result = *result;
	entry->used = ++cache->uses[set];
	pthread_mutex_unlock(&cache->lock[set % CACHE_LOCKS]);
}

static bool chain_has(const struct trust_result *result, const char *authority)
{
	for (uint32_t index = 0; index < result->link_count; index++)
		if (strcmp(result->links[index].authority, authority) == 0)
			return true;
	return false;
}

void trust_cache_forget(struct trust_cache *cache, const char *authority)
{
	for (uint32_t set = 0; set < CHAIN_SETS; set++) {
		pthread_mutex_lock(&cache->lock[set % CACHE_LOCKS]);
		for (uint32_t way = 0; way < CHAIN_WAYS; way++) {
			struct chain_entry *entry = &cache->chains[set][way];

			if (entry->used > 0 &&
				(authority == NULL || chain_has(&entry->result, authority)))
				entry->used = 0;
		}
		pthread_mutex_unlock(&cache->lock[set % CACHE_LOCKS]);
	}
}

/* ---- rules ------------------------------------------------------------------------------ */

struct judgement {
	X509 *const *x509;
	const struct ph_bytes *der; /* the same certificates, NULL when the caller has none */
	uint32_t count;
	const struct trust_request *request;
	struct certificate_info *info; /* count of them, leaf first */
	char *refusal;
};

static enum trust_status refused(struct judgement *judgement, uint32_t link, const char *why)
{
	snprintf(judgement->refusal, REFUSAL_BYTES, "certificate %u: %s", link, why);
	return TRUST_REFUSED;
}

static enum trust_status judge_reading(struct judgement *judgement)
{
	uint32_t root = judgement->count - 1;
	char why[REFUSAL_BYTES];

	for (uint32_t link = 0; link < judgement->count; link++) {
		struct certificate_info *info = &judgement->info[link];

		if (judgement->x509[link] == NULL)
			return refused(judgement, link, "missing");
		if (certificate_read(judgement->x509[link], info, why) < 0) {
			snprintf(judgement->refusal, REFUSAL_BYTES, "certificate %u: %.100s", link,
				why);
			return TRUST_REFUSED;
		}
		if (link < root && info->kind != CERTIFICATE_GMC)
			return refused(judgement, link, "not a membership certificate");
		if (link == root && info->kind != CERTIFICATE_GRC)
			return refused(judgement, link, "not a group root certificate");
	}
	return TRUST_OK;
}

static bool is_expected(const char *expected, const char *found)
{
	return expected == NULL || expected[0] == '\0' || strcmp(expected, found) == 0;
}

/* No key twice: a circle, a link given twice, or somebody who certifies himself. */
static bool has_key_again(const struct judgement *judgement, uint32_t link)
{
	for (uint32_t above = link + 1; above < judgement->count; above++)
		if (strcmp(judgement->info[above].authority, judgement->info[link].authority) == 0)
			return true;
	return false;
}

static enum trust_status judge_link(struct judgement *judgement, uint32_t link)
{
	const struct certificate_info *info = &judgement->info[link];
	const struct certificate_info *issuer = info + 1;

	if (strcmp(info->group, issuer->group) != 0)
		return refused(judgement, link, "another group than its issuer's");
	if (strcmp(info->issuer, issuer->name) != 0)
		return refused(judgement, link, "issuer name is not the next certificate's name");
	if (strcmp(info->issuer_authority, issuer->authority) != 0)
		return refused(judgement, link, "authority key id is not the next one's key");
	if (X509_NAME_cmp(X509_get_issuer_name(judgement->x509[link]),
		    X509_get_subject_name(judgement->x509[link + 1])) != 0)
		return refused(judgement, link, "issuer field is not the next one's subject");
	if (!role_may_issue(issuer->role, info->role))
		return refused(judgement, link, "role that its issuer may not give");
	if (issuer->has_classifiers && !info->has_classifiers)
		return refused(judgement, link, "classifiers beyond its issuer's");
	if (has_key_again(judgement, link))
		return refused(judgement, link, "the same key again further up");
	return TRUST_OK;
}

static enum trust_status judge_names(struct judgement *judgement)
{
	const struct trust_request *request = judgement->request;
	uint32_t root = judgement->count - 1;
	X509 *root_x509 = judgement->x509[root];

	if (!is_expected(request->group_authority, judgement->info[root].authority))
		return refused(judgement, root, "not the group that was expected");
	if (!is_expected(request->identity_authority, judgement->info[0].authority))
		return refused(judgement, 0, "not the identity that was expected");
	if (X509_NAME_cmp(X509_get_issuer_name(root_x509), X509_get_subject_name(root_x509)) != 0)
		return refused(judgement, root, "the root's issuer is not itself");
	for (uint32_t link = 0; link < root; link++)
		if (judge_link(judgement, link) != TRUST_OK)
			return TRUST_REFUSED;
	return TRUST_OK;
}

static enum trust_status judge_time(struct judgement *judgement)
{
	int64_t now_s = judgement->request->now_s;

	if (judgement->request->any_time)
		return TRUST_OK;
	for (uint32_t link = 0; link < judgement->count; link++) {
		const char *why = NULL;

		if (now_s < judgement->info[link].valid_from_s)
			why = "not valid yet";
		if (now_s > judgement->info[link].valid_to_s)
			why = "expired";
		if (why != NULL) {
			refused(judgement, link, why);
			return TRUST_TIME;
		}
	}
	return TRUST_OK;
}

/* 0, -EINVAL, -ENOMEM. */
static int signature_check(struct judgement *judgement, uint32_t link, uint32_t issuer)
{
	struct trust_cache *cache = judgement->request->cache;
	const struct ph_bytes *der = judgement->der != NULL ? &judgement->der[link] : NULL;
	uint8_t digest[PEER_DIGEST_BYTES];
	int status;

	if (cache != NULL &&
		cache_digest(judgement->x509[link], der, &judgement->info[issuer], digest) < 0)
		cache = NULL;
	if (cache != NULL && cache_has(cache, digest))
		return 0;
	status = certificate_verify(judgement->x509[link], judgement->x509[issuer]);
	if (status == 0 && cache != NULL)
		cache_add(cache, digest);
	return status;
}

static enum trust_status no_memory(struct judgement *judgement)
{
	snprintf(judgement->refusal, REFUSAL_BYTES, "no memory to judge the chain");
	return TRUST_NO_MEMORY;
}

/* The root's by itself first: who signs for all the others is known before they cost anything. */
static enum trust_status judge_signatures(struct judgement *judgement)
{
	uint32_t root = judgement->count - 1;

	for (uint32_t link = root + 1; link-- > 0;) {
		int status = signature_check(judgement, link, link == root ? root : link + 1);

		if (status == -ENOMEM)
			return no_memory(judgement);
		if (status < 0)
			return refused(judgement, link,
				link == root ? "the root is not signed by itself"
					     : "signature is not the next one's");
	}
	return TRUST_OK;
}

/* ---- result ----------------------------------------------------------------------------- */

static void result_fill(const struct judgement *judgement, struct trust_result *result)
{
	const struct certificate_info *leaf = &judgement->info[0];

	memset(result, 0, sizeof(*result));
	memcpy(result->group, leaf->group, sizeof(result->group));
	memcpy(result->identity, leaf->name, sizeof(result->identity));
	result->role = leaf->role;
	result->leaf = *leaf;
	memcpy(result->issuer_friendly_name, judgement->info[1].friendly_name,
		sizeof(result->issuer_friendly_name));
	memcpy(result->group_friendly_name, judgement->info[judgement->count - 1].friendly_name,
		sizeof(result->group_friendly_name));
	result->link_count = judgement->count;
	result->valid_from_s = leaf->valid_from_s;
	result->valid_to_s = leaf->valid_to_s;
	for (uint32_t index = 0; index < judgement->count; index++) {
		const struct certificate_info *info = &judgement->info[index];
		struct trust_link *link = &result->links[index];

		memcpy(link->authority, info->authority, sizeof(link->authority));
		memcpy(link->serial, info->serial, sizeof(link->serial));
		link->valid_to_s = info->valid_to_s;
		link->role = (uint32_t)info->role;
		if (info->valid_from_s > result->valid_from_s)
			result->valid_from_s = info->valid_from_s;
		if (info->valid_to_s < result->valid_to_s)
			result->valid_to_s = info->valid_to_s;
	}
}

static enum trust_status judge(struct judgement *judgement)
{
	enum trust_status status = judge_reading(judgement);

	if (status == TRUST_OK)
		status = judge_names(judgement);
	if (status == TRUST_OK)
		status = judge_time(judgement);
	if (status == TRUST_OK)
		status = judge_signatures(judgement);
	return status;
}

static enum trust_status verify(struct judgement *judgement, struct trust_result *result)
{
	enum trust_status status;

	judgement->refusal[0] = '\0';
	if (judgement->count < 2) {
		snprintf(judgement->refusal, REFUSAL_BYTES,
			"a chain needs a membership and a group root certificate");
		return TRUST_REFUSED;
	}
	if (judgement->count > PH_CHAIN_MAX) {
		snprintf(judgement->refusal, REFUSAL_BYTES, "chain of more than %u certificates",
			PH_CHAIN_MAX);
		return TRUST_REFUSED;
	}
	judgement->info = malloc(judgement->count * sizeof(*judgement->info));
	if (judgement->info == NULL)
		return no_memory(judgement);
	/* The error queue must look the same after us: TLS reads it after a handshake. */
	ERR_set_mark();
	status = judge(judgement);
	ERR_pop_to_mark();
	if (status == TRUST_OK) {
		assert(judgement->refusal[0] == '\0');
		result_fill(judgement, result);
	}
	free(judgement->info);
	return status;
}

enum trust_status trust_verify(X509 *const *chain, uint32_t count,
	const struct trust_request *request, struct trust_result *result,
	char refusal[REFUSAL_BYTES])
{
	struct judgement judgement = {
		.x509 = chain, .count = count, .request = request, .refusal = refusal};

	return verify(&judgement, result);
}

/* A chain that is shown again at a resumption comes as bytes alone. */
static enum trust_status verify_bytes(const struct ph_chain *chain,
	const struct trust_request *request, struct trust_result *result,
	char refusal[REFUSAL_BYTES])
{
	enum trust_status status = TRUST_OK;
	X509 *x509[PH_CHAIN_MAX] = {NULL};
	struct judgement judgement = {.x509 = x509,
		.der = chain->der,
		.count = chain->count,
		.request = request,
		.refusal = refusal};

	ERR_set_mark();
	for (uint32_t index = 0; status == TRUST_OK && index < chain->count; index++)
		if (certificate_from_der(
			    chain->der[index].data, chain->der[index].bytes, &x509[index]) < 0) {
			snprintf(refusal, REFUSAL_BYTES,
				"no memory to read the chain, or it is none");
			status = TRUST_NO_MEMORY;
		}
	ERR_pop_to_mark();
	if (status == TRUST_OK)
		status = verify(&judgement, result);
	for (uint32_t index = 0; index < chain->count; index++)
		X509_free(x509[index]);
	return status;
}

static enum trust_status verify_objects(const struct ph_chain *chain,
	const struct trust_request *request, struct trust_result *result,
	char refusal[REFUSAL_BYTES])
{
	struct judgement judgement = {.x509 = (X509 *const *)chain->x509,
		.der = chain->der,
		.count = chain->count,
		.request = request,
		.refusal = refusal};

	return verify(&judgement, result);
}

/* What a known chain proves, against who is expected this time. */
static bool is_asked_for(const struct trust_request *request, const struct trust_result *result)
{
	return is_expected(
		       request->group_authority, result->links[result->link_count - 1].authority) &&
		is_expected(request->identity_authority, result->links[0].authority);
}

enum trust_status trust_verify_chain(const struct ph_chain *chain,
	const struct trust_request *request, struct trust_result *result,
	char refusal[REFUSAL_BYTES])
{
	struct trust_cache *cache = request->any_time ? NULL : request->cache;
	uint8_t digest[PEER_DIGEST_BYTES];
	enum trust_status status;

	if (cache != NULL && chain->count >= 2 && chain->count <= PH_CHAIN_MAX) {
		chain_digest(chain, digest);
		if (chain_known(cache, digest, request->now_s, result) &&
			is_asked_for(request, result)) {
			refusal[0] = '\0';
			return TRUST_OK;
		}
	} else {
		cache = NULL;
	}
	status = chain->resumed ? verify_bytes(chain, request, result, refusal)
				: verify_objects(chain, request, result, refusal);
	if (status == TRUST_OK && cache != NULL)
		chain_add(cache, digest, result);
	return status;
}
