/*
 * The runtime of Grouping in this process: the count of PeerGroupStartup, the one engine hub, and the
 * endpoints it listens on.
 *
 * The hub starts with the first PeerGroupStartup and stops with the last PeerGroupShutdown. Whoever
 * hands it to the engine does so between runtime_hub_get and _put, so that it cannot be freed under
 * him; ids and tags need no such care. One listening port serves all groups and identities of the
 * process (PeerhubSetListen may add another for groups that go online later); it is counted and ends
 * with the last node that listens on it.
 *
 * Environment, read at the first PeerGroupStartup:
 *   PEERHUB_LISTEN                host:port to listen on; default [::]:3587, any port when that is taken
 *   PEERHUB_TIMEOUT_CONNECT_MS    TCP connect; default 20,000
 *   PEERHUB_TIMEOUT_HANDSHAKE_MS  TCP connected to authenticated; default 20,000
 *   PEERHUB_TIMEOUT_WELCOME_MS    CONNECT sent to WELCOME or REFUSE; default 60,000
 */
#ifndef PEERHUB_API_RUNTIME_H
#define PEERHUB_API_RUNTIME_H

#include "p2p.h"
#include "peerhub.h"

#include <stdbool.h>

#define RUNTIME_LISTEN_DEFAULT "[::]:3587" /* the port of Grouping (IANA) */
#define RUNTIME_TIMEOUT_MS_MAX 3600000u /* an hour: longer is a mistake in the unit */
#define RUNTIME_ENDPOINTS_MAX 64u /* ports of one process */

/* false while PeerhubSetAccepting(FALSE) counts. Any thread. */
bool runtime_is_accepting(void);

/* true between the first PeerGroupStartup and the last PeerGroupShutdown. Any thread. */
bool runtime_is_started(void);

/* The hub, kept alive until runtime_hub_put; NULL: not started (then no put). */
struct ph_hub *runtime_hub_get(void);
void runtime_hub_put(void);

/* PeerhubSetOpenCallback's and PeerhubSetEndCallback's, if any. Engine threads. */
void runtime_tell_open(uint64_t id, const struct ph_open_info *info);
void runtime_tell_end(const struct ph_receipt *receipt, const char *group, const char *identity);

/* What the chains of peers are checked with. NULL: no memory for it, everything still works. */
struct trust_cache;
struct trust_cache *runtime_trust_cache(void);

struct endpoint;
/*
 * Listen where PeerhubSetListen or PEERHUB_LISTEN says, or join one that is there already.
 *
 * Returns  S_OK; E_OUTOFMEMORY; PEER_E_NOT_INITIALIZED
 *          PEER_E_INVALID_ADDRESS   PEERHUB_LISTEN is not an address; detail shows it
 *          PEER_E_UNABLE_TO_LISTEN  the port; detail says why
 */
HRESULT runtime_listen(struct endpoint **endpoint);
void runtime_listen_end(struct endpoint *endpoint); /* NULL allowed; may wait for the port */

/* Where an endpoint can be reached: its address, or those of the machine when it is a wildcard.
 * Returns how many were written. */
uint32_t endpoint_addresses(struct endpoint *endpoint, ph_address addresses[PH_ADDRESSES_MAX]);
/* Is this one of the addresses it listens on? */
bool endpoint_is_at(struct endpoint *endpoint, const ph_address *address);

bool address_is_equal(const ph_address *left, const ph_address *right);

#endif
