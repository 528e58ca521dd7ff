/*
 * Admission: what one connection holds of the hub's limits (limits.h), taken before it costs anything and
 * given back when it is over. Every call is the owner's, but what says otherwise.
 *
 *   accepted  conn_admit        the address is known: subnet, accept rate, hub, handshakes, memory, lag
 *   verified  conn_admit_named  group, identity, twins, lag
 *   open      conn_admitted     its handshake is over; older twins end
 *   ended     conn_release      everything goes back
 */
#ifndef PEERHUB_ENGINE_ADMISSION_H
#define PEERHUB_ENGINE_ADMISSION_H

#include "engine/conn.h"
#include "engine/limits.h"

/* Of each slot, a parallel array; all zero while the slot is free. Untouched where no limit is on. */
struct conn_hold {
	uint32_t cells[LIMIT_KEY_COUNT]; /* where a unit was taken, plus 1; 0: none is held */
	bool has_connection, has_handshake;
	uint64_t rate_ns; /* when the message rate's bucket is full again */
	uint64_t slow_ns; /* since when the send queue has been full; 0: it is not */
	_Atomic uint64_t twin; /* 4 × the number of its opening + kind; any thread reads; 0: none */
};

/* Its peer's address has to be known first. */
bool conn_awaits_name(const struct conn *conn);
/* False: it was refused, and is ending. */
bool conn_admit(struct conn *conn);
bool conn_admit_named(struct conn *conn);
/* Its handshake's time is over. True: its turn never came, for handshake_share, and it was refused for that. */
bool conn_waited_for_share(struct conn *conn);
void conn_admitted(struct conn *conn);
void conn_handshake_over(struct conn *conn); /* open or closing, no matter which or how often */
void conn_release(struct conn *conn); /* at senders = 0 for ever */
/* One more message was received. False: more than the rate allows. */
bool conn_message_rate(struct conn *conn);

#endif
