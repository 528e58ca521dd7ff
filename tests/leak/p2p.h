/*
 * The same through p2p.h: two members of a group in one process, direct connections between them, groups
 * that close with connections open, and starts and ends of the library.
 */
#ifndef PEERHUB_TESTS_LEAK_P2P_H
#define PEERHUB_TESTS_LEAK_P2P_H

#include "tests/leak/count.h"

struct p2p;

/* A store of its own, two identities, one group that both are in; the library is not started. */
int p2p_create(uint64_t seed, struct p2p **p2p);
void p2p_destroy(struct p2p *p2p); /* removes the store */

/* Start the library, go online, `count` direct connections in all their ways, stop it. 0 or -EPROTO, said. */
int p2p_cycles(struct p2p *p2p, uint64_t count, bool shows_progress);
/* `count` times PeerGroupOpen, a registration, and PeerGroupClose; every 16th goes online. */
int p2p_groups(struct p2p *p2p, uint64_t count, bool shows_progress);
/* `count` times PeerGroupStartup, PeerGroupOpen, PeerGroupClose and PeerGroupShutdown. */
int p2p_lives(struct p2p *p2p, uint64_t count, bool shows_progress);
/* Handles and blocks of the p2p layer: nothing may be left. False: said on stderr. */
bool p2p_is_empty(void);

#endif
