/*
 * extras.h: what peerhub adds to p2p.h on Linux. Nothing here exists on Windows, and nothing of
 * p2p.h needs it. Any thread, C linkage, same rules as p2p.h.
 */
#ifndef PEERHUB_EXTRAS_H
#define PEERHUB_EXTRAS_H

#include "p2p.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ph_hub;
struct ph_options;
struct ph_receipt;

/* Payload of one PeerGroupSendData: 64 MiB, above the 60 MB record limit of the protocol. */
#define PEERHUB_MESSAGE_BYTES_MAX (64u << 20)

/*
 * Choose the directory of the store for this process.
 *
 * directory  UTF-8, made (0700) when missing; NULL: back to PEERHUB_HOME, then
 *            $XDG_DATA_HOME/peerhub, then /var/lib/peerhub for root and
 *            $HOME/.local/share/peerhub for others
 * Returns  S_OK
 *          E_INVALIDARG         empty, or longer than a path may be
 *          E_OUTOFMEMORY
 *          PEER_E_GROUP_IN_USE  a group of the present store is open
 */
PEERHUB_P2P_API HRESULT PeerhubSetHome(const char *directory);

/*
 * The directory of the store, as it is chosen now; opens the store, and makes it when it is missing.
 *
 * directory  gets the absolute path, `bytes` long with its NUL
 * Returns  S_OK
 *          E_INVALIDARG  NULL, or `bytes` is too small
 *          E_OUTOFMEMORY, E_ACCESSDENIED, PEER_E_DISK_FULL and their like: it cannot be opened
 */
PEERHUB_P2P_API HRESULT PeerhubGetHome(char *directory, size_t bytes);

/*
 * Choose where Connect and ConnectByAddress listen, instead of PEERHUB_LISTEN.
 *
 * host_port  numeric "host:port", "[::1]:0"; port 0: any free one. NULL: back to the environment.
 *            Counts for groups that go online afterwards.
 * Returns  S_OK; E_INVALIDARG (not such an address); E_OUTOFMEMORY
 */
PEERHUB_P2P_API HRESULT PeerhubSetListen(const char *host_port);

/*
 * Take an inherited listening socket (socket activation) instead of PeerhubSetListen: the next group that
 * goes online listens on a duplicate of it, and those after it join it.
 *
 * fd  a listening TCP socket; stays the caller's and open for as long as groups go online; -1: none any more
 * Returns  S_OK; E_INVALIDARG (not a listening TCP socket)
 */
PEERHUB_P2P_API HRESULT PeerhubSetListenDescriptor(int fd);

/*
 * Stop accepting connections, on all ports of this process, and go on with it on the same ones: for a drain.
 * Those that are open stay; whoever has not come to the end of his handshake is refused as busy.
 *
 * Returns  S_OK; PEER_E_NOT_INITIALIZED
 *          PEER_E_UNABLE_TO_LISTEN  a port is somebody else's by now: it still does not accept
 */
PEERHUB_P2P_API HRESULT PeerhubSetAccepting(BOOL accepting);

/*
 * Options of the connection engine (peerhub.h) for the next first PeerGroupStartup: sizes, limits,
 * time-outs. Fields of 0 mean their defaults; `user` is not used. They win over PEERHUB_TIMEOUT_*.
 *
 * options  copied; NULL: the defaults again
 * Returns  S_OK; E_INVALIDARG (`size` is of no version this library knows)
 */
PEERHUB_P2P_API HRESULT PeerhubSetEngine(const struct ph_options *options);

/*
 * Hear of every end of a connection of this process, refused and failed ones too, and of those that
 * never said who they are. Called on the engine's threads, several at once: it must not block, nor call
 * PeerGroupShutdown.
 *
 * group, identity  of the connection, UTF-8, "" when not known; borrowed, like the receipt
 */
typedef void (*peerhub_end_callback)(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity);
/*
 * Choose who hears of the ends from the next first PeerGroupStartup on; NULL: nobody.
 *
 * Returns  S_OK; PEER_E_GROUP_IN_USE (Grouping is started)
 */
PEERHUB_P2P_API HRESULT PeerhubSetEndCallback(peerhub_end_callback callback, void *user);

/*
 * Hear of every connection of this process that opens, before anything else is heard of it; its end is told
 * once, by the end callback. The same rules as there.
 *
 * friendly_name  what the peer calls itself, UTF-8, "" when it does not: escape before showing; borrowed
 */
typedef void (*peerhub_open_callback)(void *user, uint64_t id, const char *group,
	const char *identity, const char *friendly_name);
/* Like PeerhubSetEndCallback. */
PEERHUB_P2P_API HRESULT PeerhubSetOpenCallback(peerhub_open_callback callback, void *user);

/*
 * The native hub behind a group and the tag of its connections, to use peerhub.h beside p2p.h.
 * Borrowed: valid until the group is closed. Connection ids are the same in both interfaces. Opening,
 * listening and stopping are the library's: this hub's callbacks are its own.
 *
 * Returns  S_OK; PEER_E_NOT_INITIALIZED; PEER_E_INVALID_GROUP
 *          E_INVALIDARG  hub or tag NULL
 */
PEERHUB_P2P_API HRESULT PeerhubGroupNative(HGROUP hGroup, struct ph_hub **hub, uint64_t *tag);

/* ---- revocation: docs/revocation.md ------------------------------------------------------ */

/*
 * Revoke an identity in a group: on disk before this returns, in force at once. Its connections of this process,
 * and those of all whose membership it vouched for, are closed (PH_REASON_LOCAL_REVOKED); new ones are refused;
 * the members that are connected are told. Grouping need not be started.
 *
 * identity  who revokes: the group's creator, or an administrator; NULL: the default identity
 * group     peer name
 * revoked   peer name, or its 40 digits alone
 * until_s   seconds since 1970 when it ends by itself; 0: for ever
 * closed    how many connections; may be NULL
 * Returns   S_OK (also when it was revoked before: the end is the new one)
 *           E_INVALIDARG           a name is malformed, until_s is past, or it is the identity itself, or one
 *                                  that vouches for it
 *           PEER_E_NOT_FOUND       identity or group unknown
 *           PEER_E_NOT_AUTHORIZED  neither creator nor administrator, the membership is expired, or the group
 *                                  has revoked it
 *           PEER_E_NO_KEY_ACCESS, E_OUTOFMEMORY (also: the list, or the group's places, are full), and the store's codes
 */
PEERHUB_P2P_API HRESULT PeerhubRevoke(const char *identity, const char *group, const char *revoked,
	int64_t until_s, uint64_t *closed);
/* Take it back. As PeerhubRevoke, and PEER_E_NOT_FOUND (this identity has not revoked it). */
PEERHUB_P2P_API HRESULT PeerhubUnrevoke(
	const char *identity, const char *group, const char *revoked);
/* Take over what another process has changed in the store. S_OK, S_FALSE (lists of more signers than count were
 * stored, some are left out), E_INVALIDARG, the store's codes. */
PEERHUB_P2P_API HRESULT PeerhubRevocationsReload(const char *group);

struct peerhub_revocation {
	char revoked[41], signer[41]; /* authorities: the digits of peer names */
	uint64_t sequence; /* of the signer's list */
	int64_t since_s, until_s; /* seconds since 1970; until 0: for ever */
	int by_group; /* signed with the group's key, else by an administrator */
	int is_in_force; /* neither over, nor of an administrator who is revoked himself */
};
/* Visit all revocations of a group; visit returns 0 to go on. As PeerhubRevocationsReload. */
PEERHUB_P2P_API HRESULT PeerhubRevocations(const char *group,
	int (*visit)(void *context, const struct peerhub_revocation *revocation), void *context);

/*
 * The descriptor behind an event object, for poll, epoll or io_uring: readable while the event is
 * signalled. It belongs to the event and ends with it; do not close, read or write it. Take the
 * signal of an auto-reset event with WaitForSingleObject(event, 0).
 *
 * Returns  S_OK
 *          E_HANDLE      not an event object
 *          E_INVALIDARG  fd NULL
 */
PEERHUB_P2P_API HRESULT PeerhubEventDescriptor(HANDLE event, int *fd);

/*
 * A line of UTF-8 about the last p2p call of this thread that failed: which argument, file or peer,
 * and why. "" when nothing more is known. Valid until this thread's next call of the library.
 */
PEERHUB_P2P_API const char *PeerhubLastErrorText(void);

/* The symbolic name of a result, "PEER_E_INVALID_GROUP"; "unknown" for a number of none of ours.
 * Static text. */
PEERHUB_P2P_API const char *PeerhubResultName(HRESULT result);

#ifdef __cplusplus
}
#endif
#endif
