/*
 * extras.h: what peerhub adds to p2p.h on Linux. Nothing here exists on Windows, and nothing of
 * p2p.h needs it. Any thread, C linkage, same rules as p2p.h.
 */
#ifndef PEERHUB_EXTRAS_H
#define PEERHUB_EXTRAS_H

#include "p2p.h"

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
