/*
 * A victim that is a p2p.h node: a store in a temporary directory, an identity, two groups of it that are
 * online. And insiders: members of such a group whose keys and certificates the attacker holds, got as
 * anybody gets them, by an invitation. Main thread only.
 */
#ifndef PEERHUB_STRESS_ATTACK_P2P_H
#define PEERHUB_STRESS_ATTACK_P2P_H

#include "attack.h"
#include "p2p.h"

#include <openssl/x509.h>

#define P2P_GROUPS 2u
#define P2P_NAME_BYTES 256u

struct p2p_group {
	HGROUP handle;
	char name[P2P_NAME_BYTES];
	char sni[P2P_NAME_BYTES]; /* any identity of it */
	HANDLE event;
	HPEEREVENT registration; /* so that direct connections are let in */
	struct ph_hub *hub;
	uint64_t tag;
	ph_address address;
};

struct p2p_victim {
	struct attack_run *run;
	char home[64];
	PWSTR creator;
	bool is_started;
	struct p2p_group groups[P2P_GROUPS];
};

struct p2p_insider {
	EVP_PKEY *key;
	X509 *identity; /* its identity certificate */
	X509 *chain[PH_CHAIN_MAX]; /* leaf first */
	uint32_t count;
	char name[P2P_NAME_BYTES];
};

bool p2p_start(struct p2p_victim *victim, struct attack_run *run);
void p2p_stop(struct p2p_victim *victim); /* after a failed start, too */
bool p2p_insider_create(
	struct p2p_victim *victim, uint32_t group, const GUID *role, struct p2p_insider *insider);
void p2p_insider_destroy(struct p2p_insider *insider);
/* Takes the events that are there; returns the id of the last PEER_CONNECTED among them, or 0. */
uint64_t p2p_events(struct p2p_group *group, uint32_t *disconnected);

#endif
