/* A member's chain and its judge for the micro-benchmarks; see subject.h. */
#include "bench/subject.h"

#include "api/key.h"
#include "api/trust.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct subject_chain {
	X509 *chain[PH_CHAIN_MAX];
	uint32_t count;
	struct trust_cache *cache;
	int64_t now_s;
};

/* Who signs, and under which name. */
struct signer {
	EVP_PKEY *key;
	char name[PH_NAME_BYTES_MAX];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
};

static int signer_init(struct signer *signer)
{
	char authority[PEER_AUTHORITY_BYTES];

	signer->key = key_create();
	if (signer->key == NULL || key_spki(signer->key, signer->spki, &signer->spki_bytes) < 0)
		return -1;
	peer_authority_of_key(signer->spki, signer->spki_bytes, authority);
	return peer_name_make(authority, "bench", signer->name);
}

static int issue(struct subject_chain *subject, struct certificate_request *request,
	const struct signer *holder, EVP_PKEY *key)
{
	request->name = holder->name;
	request->spki = holder->spki;
	request->spki_bytes = holder->spki_bytes;
	request->valid_from_s = subject->now_s - 3600;
	request->valid_to_s = subject->now_s + 86400;
	/* The root comes first here and last in a chain. */
	if (certificate_issue(request, key, &subject->chain[subject->count]) < 0)
		return -1;
	subject->count++;
	return 0;
}

static void turn_round(struct subject_chain *subject)
{
	for (uint32_t low = 0, high = subject->count - 1; low < high; low++, high--) {
		X509 *kept = subject->chain[low];

		subject->chain[low] = subject->chain[high];
		subject->chain[high] = kept;
	}
}

/* The root, then a link after the other, each signed by the one before; the last is the member. */
static int issue_all(struct subject_chain *subject, uint32_t links)
{
	struct certificate_request request = {.kind = CERTIFICATE_GRC};
	struct signer group = {0}, issuer, holder = {0};
	int status = signer_init(&group);

	request.group = group.name;
	if (status == 0)
		status = issue(subject, &request, &group, group.key);
	issuer = group;
	for (uint32_t link = 0; link <= links && status == 0; link++) {
		holder = (struct signer){0};
		status = signer_init(&holder);
		request.kind = CERTIFICATE_GMC;
		request.issuer = issuer.name;
		request.role = link == links ? ROLE_MEMBER : ROLE_ADMIN;
		if (status == 0)
			status = issue(subject, &request, &holder, issuer.key);
		if (issuer.key != group.key)
			EVP_PKEY_free(issuer.key);
		issuer = holder;
	}
	if (issuer.key != group.key)
		EVP_PKEY_free(issuer.key);
	EVP_PKEY_free(group.key);
	return status;
}

struct subject_chain *subject_chain_create(uint32_t links, int cached)
{
	struct subject_chain *made;

	if (links + 2 > PH_CHAIN_MAX)
		return NULL;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return NULL;
	made->now_s = (int64_t)time(NULL);
	if (cached)
		made->cache = trust_cache_create();
	if ((cached && made->cache == NULL) || issue_all(made, links) < 0) {
		subject_chain_destroy(made);
		return NULL;
	}
	turn_round(made);
	return made;
}

void subject_chain_destroy(struct subject_chain *subject)
{
	for (uint32_t index = 0; index < subject->count; index++)
		X509_free(subject->chain[index]);
	trust_cache_destroy(subject->cache);
	free(subject);
}

int subject_chain_verify(struct subject_chain *subject)
{
	const struct trust_request request = {.now_s = subject->now_s, .cache = subject->cache};
	struct trust_result result;
	char refusal[REFUSAL_BYTES];

	return trust_verify(subject->chain, subject->count, &request, &result, refusal) == TRUST_OK
		? 0
		: -1;
}
