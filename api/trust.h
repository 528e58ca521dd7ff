/*
 * Trust: does a chain of certificates prove (group, identity, role)?
 *
 * One pure function with every rule; no global state, no I/O, no clock of its own. It works on the
 * X509 objects that TLS delivered and does all cheap checks on all links before the first
 * public-key operation. Any thread.
 */
#ifndef PEERHUB_API_TRUST_H
#define PEERHUB_API_TRUST_H

#include "api/certificate.h"

#define TRUST_GMC_MAX 24u /* PH_CHAIN_MAX - 1: the root is not counted by the API */

/* What a chain needs to be found by revocation later. */
struct trust_link {
	char authority[PEER_AUTHORITY_BYTES];
	uint8_t serial[CERTIFICATE_SERIAL_BYTES];
	int64_t valid_to_s;
	uint32_t role; /* enum peer_role */
};

struct trust_result {
	char group[PH_NAME_BYTES_MAX];
	char identity[PH_NAME_BYTES_MAX];
	enum peer_role role;
	struct certificate_info leaf; /* friendly name, issuer, validity, key of the peer */
	char issuer_friendly_name[PEER_TEXT_BYTES];
	char group_friendly_name[PEER_TEXT_BYTES]; /* from the GRC */
	uint32_t link_count; /* certificates, root included */
	struct trust_link links[PH_CHAIN_MAX]; /* leaf first */
	int64_t valid_from_s, valid_to_s; /* when all links are valid at once */
};

struct trust_cache; /* remembers signatures that were found good; see trust_cache_create */

struct trust_request {
	int64_t now_s; /* seconds since 1970 */
	const char *group_authority; /* expected (from SNI), NULL or "" = any */
	const char *identity_authority; /* expected peer, NULL or "" = any */
	bool any_time; /* do not judge validity (parsing an invitation) */
	struct trust_cache *cache; /* NULL = none */
};

enum trust_status {
	TRUST_OK = 0,
	TRUST_REFUSED = -1, /* a rule is broken: refusal names it */
	TRUST_TIME = -2, /* names and roles hold, but a link is expired or not yet valid; signatures
			  * were not looked at */
	TRUST_NO_MEMORY = -3,
};

/*
 * Judge a chain, leaf first, root last.
 *
 * chain    count certificates, borrowed, 2..PH_CHAIN_MAX (a GMC and the GRC at least)
 * result   filled when TRUST_OK; about 10 KiB, may be the caller's stack
 * refusal  one line without peer-supplied text, "" when TRUST_OK
 */
enum trust_status trust_verify(X509 *const *chain, uint32_t count,
	const struct trust_request *request, struct trust_result *result,
	char refusal[REFUSAL_BYTES]);
/* The same for what the engine's on_verify gets, resumed chains included; with a cache, a chain that was found
 * good before is not looked at again while all of it is valid. */
enum trust_status trust_verify_chain(const struct ph_chain *chain,
	const struct trust_request *request, struct trust_result *result,
	char refusal[REFUSAL_BYTES]);

/*
 * A bounded memory of (certificate, issuer key) digests whose signature was verified, so that the
 * links which all members share cost no public-key work again, and of whole chains with what they prove.
 * Times and who is expected are judged every time. Thread-safe; share one among all shards. NULL when there is
 * no memory.
 */
struct trust_cache *trust_cache_create(void);
void trust_cache_destroy(struct trust_cache *cache); /* NULL allowed */
/* Forget the whole chains that hold a link of this authority; NULL: all of them. */
void trust_cache_forget(struct trust_cache *cache, const char *authority);

#endif
