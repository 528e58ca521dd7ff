/*
 * The hostile chains themselves: how each is made out of what an insider holds, who must refuse it and
 * with what words. Main thread only.
 */
#ifndef PEERHUB_STRESS_ATTACK_CHAINS_H
#define PEERHUB_STRESS_ATTACK_CHAINS_H

#include "attack_p2p.h"

#define HOSTILE_CERTS_MAX 256u
#define HOSTILE_PEOPLE 2u

struct hostile_person {
	EVP_PKEY *key;
	char authority[41];
	char name[64];
};

/* What the attacker holds. */
struct hostile_scene {
	struct p2p_victim *node;
	struct p2p_insider admin, other; /* of the first group, and of the second */
	struct hostile_person b, c;
};

struct hostile_chain {
	X509 *x509[HOSTILE_CERTS_MAX]; /* leaf first */
	uint32_t count; /* 0: no certificate is shown */
	X509 *fitting; /* a leaf that `key` fits, to begin with */
	EVP_PKEY *key; /* with which the attacker proves that the leaf is its own */
	char name[P2P_NAME_BYTES]; /* AUTH_INFO source */
};

struct hostile {
	const char *name;
	bool (*bend)(struct hostile_scene *scene, struct hostile_chain *chain);
	bool by_engine; /* refused before on_verify is asked: the same at both victims */
	uint32_t reason; /* of the p2p.h node's receipt */
	const char *text; /* part of its text */
};
extern const struct hostile hostile_list[]; /* ends with a NULL name */

bool hostile_scene_init(struct hostile_scene *scene, struct p2p_victim *node);
void hostile_scene_fini(struct hostile_scene *scene);
/* C <- B <- A <- … <- root: a good chain. False: no memory; hostile_chain_fini all the same. */
bool hostile_base(struct hostile_scene *scene, struct hostile_chain *chain);
void hostile_chain_fini(struct hostile_chain *chain);

#endif
