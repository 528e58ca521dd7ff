/* Chain records: see peer_chain.h. */
#include "api/peer_chain.h"

#include "api/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u /* short queues up to some ten thousand members; 32 KiB */

/* One lock: it is taken twice in the life of a connection, beside a handshake. */
static struct {
	pthread_mutex_t lock; /* guards the rest, and references and next of each record */
	struct peer_chain *buckets[BUCKETS];
	uint64_t count;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct peer_chain *chain_create(const struct trust_result *trust)
{
	struct peer_chain *chain =
		calloc(1, sizeof(*chain) + trust->link_count * sizeof(chain->links[0]));

	if (chain == NULL)
		return NULL;
	chain->references = 1;
	chain->link_count = trust->link_count;
	for (uint32_t index = 0; index < trust->link_count; index++) {
		const struct trust_link *from = &trust->links[index];
		struct peer_chain_link *to = &chain->links[index];

		revocation_authority(from->authority, to->authority);
		memcpy(to->serial, from->serial, sizeof(to->serial));
		to->valid_to_s = from->valid_to_s;
		to->role = from->role;
	}
	/* The serial is random, so some of its bits spread well. */
	chain->bucket = (chain->links[0].serial[14] | (uint32_t)chain->links[0].serial[15] << 8 |
				(uint32_t)chain->links[0].authority[0] << 4) %
		BUCKETS;
	return chain;
}

static bool chain_is_equal(const struct peer_chain *left, const struct peer_chain *right)
{
	if (left->link_count != right->link_count)
		return false;
	/* Field by field: between them may be padding. */
	for (uint32_t index = 0; index < left->link_count; index++) {
		const struct peer_chain_link *a = &left->links[index], *b = &right->links[index];

		if (memcmp(a->authority, b->authority, sizeof(a->authority)) != 0 ||
			memcmp(a->serial, b->serial, sizeof(a->serial)) != 0 ||
			a->valid_to_s != b->valid_to_s || a->role != b->role)
			return false;
	}
	return true;
}

struct peer_chain *peer_chain_get(const struct trust_result *trust)
{
	struct peer_chain *fresh = chain_create(trust), *chain;

	if (fresh == NULL)
		return NULL;
	pthread_mutex_lock(&table.lock);
	chain = table.buckets[fresh->bucket];
	while (chain != NULL && !chain_is_equal(chain, fresh))
		chain = chain->next;
	if (chain != NULL) {
		chain->references++;
	} else {
		chain = fresh;
		fresh = NULL;
		chain->next = table.buckets[chain->bucket];
		table.buckets[chain->bucket] = chain;
		table.count++;
	}
	pthread_mutex_unlock(&table.lock);
	free(fresh);
	return chain;
}

void peer_chain_put(struct peer_chain *chain)
{
	struct peer_chain **at;

	if (chain == NULL)
		return;
	pthread_mutex_lock(&table.lock);
	assert(chain->references > 0);
	if (--chain->references == 0) {
		for (at = &table.buckets[chain->bucket]; *at != chain;)
			at = &(*at)->next;
		*at = chain->next;
		table.count--;
	} else {
		chain = NULL;
	}
	pthread_mutex_unlock(&table.lock);
	free(chain);
}

uint64_t peer_chain_count(void)
{
	uint64_t count;

	pthread_mutex_lock(&table.lock);
	count = table.count;
	pthread_mutex_unlock(&table.lock);
	return count;
}
