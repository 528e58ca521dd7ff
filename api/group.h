/*
 * Groups: what an HGROUP is. A group handle is one application's use of a node; the node is shared.
 *
 * Every PeerGroup* function that takes an HGROUP begins with group_enter, which does the first two
 * checks (started, handle) and holds the handle until group_leave. A closed or deleted group is not
 * found any more; calls that are inside go on with a node that has ended, which refuses everything.
 */
#ifndef PEERHUB_API_GROUP_H
#define PEERHUB_API_GROUP_H

#include "api/node.h"

struct group {
	struct node *node; /* counted */
	atomic_bool is_closed; /* no registrations any more */
};

/* S_OK; PEER_E_NOT_INITIALIZED; PEER_E_INVALID_GROUP. */
HRESULT group_enter(HGROUP handle, struct group **group);
void group_leave(HGROUP handle);
/* End every group handle of the process, whose nodes have ended: for the last PeerGroupShutdown. */
void group_end_all(void);

/* A peer name of the client as UTF-8; NULL and "" give "". `wrong` when it does not fit or is not
 * well-formed; what it names is not looked at. */
HRESULT name_from_client(PCWSTR wide, HRESULT wrong, char name[PH_NAME_BYTES_MAX]);
/* Other text, at most PEER_TEXT_UNITS_MAX units; NULL gives "". */
HRESULT text_from_client(PCWSTR wide, HRESULT wrong, char text[PEER_TEXT_BYTES]);

/* Global is the only cloud there is: PEER_E_NO_CLOUD, PEER_E_CLOUD_NAME_AMBIGUOUS. NULL: S_OK. */
HRESULT cloud_from_client(PCWSTR cloud, char text[PEER_TEXT_BYTES]);

/* What PeerGroupCreate and PeerGroupSetProperties read. */
HRESULT properties_from_client(
	const PEER_GROUP_PROPERTIES *from, struct group_properties *properties);
/* The size tells which SDK the client was built with; both are served. */
bool properties_size_is_valid(const PEER_GROUP_PROPERTIES *properties);
/* Password groups: PEER_E_PASSWORD_DOES_NOT_MEET_POLICY without a password, else `result`. S_OK when
 * no password authentication is asked for. */
HRESULT properties_password_check(const PEER_GROUP_PROPERTIES *properties, HRESULT result);

#endif
