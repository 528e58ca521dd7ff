/*
 * A connection, as its owner shard sees it. Everything here belongs to the shard's thread, but what is
 * marked otherwise at the field. Conns lie in an array beside the slots: same index, type-stable for
 * the hub's life.
 *
 *   FREE --> CONNECTING --> HANDSHAKE --> GREETING --> OPEN --> DRAINING --> CLOSING --> FREE
 *                |              |             |          |                     ^
 *                |              +-------------+----------+----> LEAVING -------+
 *                +--------------+-------------+----------+---------------------+
 *
 *   FREE       -> CONNECTING [conn_dial]             OPEN     -> DRAINING [conn_drain]
 *   FREE       -> HANDSHAKE  [conn_accept]           any live -> LEAVING  [conn_leave]
 *   CONNECTING -> HANDSHAKE  [conn_on_connected]     any live -> CLOSING  [conn_close_begin]
 *   HANDSHAKE  -> GREETING   [conn_on_secured]       CLOSING  -> FREE     [conn_close_finish]
 *   GREETING   -> OPEN       [conn_open_finish]      GREETING -> DRAINING [conn_drain] (opener)
 *
 *   FREE       the slot waits for use: no file, the kernel holds nothing of ours
 *   CONNECTING a socket is being made, bound or connected
 *   HANDSHAKE  TLS; nothing is known of the peer
 *   GREETING   AUTH_INFO, CONNECT, WELCOME or REFUSE are on their way
 *   OPEN       data both ways
 *   DRAINING   local graceful close: what was accepted, then the goodbye; input is looked through for the
 *              peer's end only
 *   LEAVING    the other end, or a fault, has ended it: our last bytes (alert, REFUSE, close_notify, what
 *              a raw peer that half-closed is still owed) go out
 *   CLOSING    no new operations; we wait for those in flight
 */
#ifndef PEERHUB_ENGINE_CONN_H
#define PEERHUB_ENGINE_CONN_H

#include "engine/chain.h"
#include "engine/hash.h"
#include "engine/ring.h"
#include "engine/slot.h"
#include "engine/timer.h"
#include "engine/tls.h"
#include "peerhub.h"

enum conn_state {
	CONN_FREE,
	CONN_CONNECTING,
	CONN_HANDSHAKE,
	CONN_GREETING,
	CONN_OPEN,
	CONN_DRAINING,
	CONN_LEAVING,
	CONN_CLOSING,
	CONN_STATE_COUNT,
};

/* Operations by kind. Those before OP_COUNTED are counted in flight: the connection ends at zero. */
enum op_kind {
	OP_RECV,
	OP_SEND,
	OP_SOCKET, /* and its bind */
	OP_CONNECT,
	OP_SHUTDOWN,
	OP_NAME,
	OP_UNSENT,
	OP_COUNTED,
	OP_OPTION = OP_COUNTED, /* silent when they work; refer to no memory of ours */
	OP_CANCEL,
	OP_DISCONNECT,
	OP_CLOSE,
	OP_WAKE, /* the shard's */
	OP_ACCEPT, /* a listener's */
	OP_KIND_COUNT,
};

/* user_data = kind:8 | slot:24 | generation:32 */
static inline uint64_t op_data(enum op_kind kind, uint32_t index, uint32_t generation)
{
	return (uint64_t)kind << 56 | (uint64_t)(index & 0xffffffu) << 32 | generation;
}

/* A shard's lists. Links and membership bits outlive a generation: an entry left behind only makes its
 * slot be looked at once more. */
enum conn_list {
	LIST_WORK, /* has input to look at */
	LIST_HANDSHAKE, /* has a step of its handshake to do */
	LIST_FLUSH, /* has something to send, or a goodbye to consider */
	LIST_CLOSE, /* CLOSING, its last operations not yet queued */
	LIST_STARVED, /* receive ended for want of buffers */
	LIST_BLOCKED, /* on_data said -EAGAIN: tried again by a timer */
	LIST_COUNT,
};

struct resume_entry;
struct resume_chain;
struct wire_resume;

/* What only an opening connection needs; freed when it is open or ends. */
struct conn_setup {
	struct ph_credentials *credentials;
	char sni[PH_SNI_BYTES_MAX + 1];
	char group[PH_NAME_BYTES_MAX]; /* dialled: AUTH_INFO graph; accepted: on_hello's */
	char source[PH_NAME_BYTES_MAX]; /* dialled: own identity; accepted: on_hello's own */
	char expected[PH_NAME_BYTES_MAX]; /* dialled: AUTH_INFO destination, "" = any */
	char friendly_name[PH_NAME_BYTES_MAX * 2]; /* dialled: ours; then the peer's */
	uint32_t address_count;
	ph_address addresses[PH_ADDRESSES_MAX]; /* dialled: ours; then the peer's */
	uint64_t node_id; /* ours */
	uint64_t peer_time;
	struct ph_verdict verdict;
	struct resume_entry *resume; /* the secret that this handshake offers, or has found */
	struct resume_chain *chain; /* the peer's, once verified; for the next secret */
	uint32_t resume_generation; /* when it was */
	bool verified;
	bool auth_info_seen;
	/* dialled: given by ph_open, taken over by the owner */
	ph_address address;
	struct sockaddr_storage socket_address; /* the kernel's copy of it */
	socklen_t socket_address_bytes;
	struct sockaddr_storage local_socket_address; /* to be bound to first */
	socklen_t local_socket_bytes; /* 0: none, or it is bound */
	enum ph_kind kind;
	enum ph_framing framing;
	enum ph_tls tls;
	uint64_t tag;
	void *user;
};

/* Who the peer is: constant while OPEN, read by pins of other threads. */
struct conn_names {
	uint32_t role;
	uint32_t identity_offset; /* of the identity in text; the group is at 0 */
	char text[];
};

/* What its end writes: kept apart, so that an idle connection does not pay for it: parallel array. Zero
 * again when the connection is FREE. */
struct conn_end {
	uint64_t time_close_ns, time_goodbye_ns;
	uint64_t bytes_acknowledged;
	uint32_t reason, peer_reason, peer_retry_after_ms;
	int32_t error; /* negative errno behind the end */
};

/* Seldom touched, kept apart so that an idle connection's pages stay few: parallel array. */
struct conn_cold {
	uint32_t close_reason; /* written by the winner of a close, inside; read at senders = 0 */
	bool close_reason_given;
	char close_text[PH_TEXT_BYTES_MAX + 1];
	char text[PH_TEXT_BYTES_MAX + 1];
	char peer_text[PH_TEXT_BYTES_MAX + 1];
};

/* The vector of one send in flight; pooled per shard. */
#define SEND_VECTOR_MAX 64u
struct send_block {
	struct send_block *next;
	struct msghdr message;
	struct iovec vector[SEND_VECTOR_MAX];
};

struct conn {
	struct shard *shard;
	uint32_t slot_index, generation;
	int32_t file;
	uint8_t state; /* enum conn_state */
	uint8_t kind, framing; /* enum ph_kind, enum ph_framing */
	uint8_t secure; /* TLS mutual */
	uint8_t ops[OP_COUNTED]; /* in flight, by kind */
	uint8_t lists; /* membership bits, enum conn_list */
	bool was_open : 1; /* on_open has been called */
	bool handshake_done : 1;
	bool latched : 1; /* reason, side and how are final */
	bool eof : 1; /* receive has ended: nothing more comes */
	bool peer_goodbye : 1; /* DISCONNECT or close_notify has come */
	bool tls_closed : 1; /* close_notify has come, what was before it still waits in carry */
	bool blocked : 1; /* on_data said -EAGAIN: carry must be offered again */
	bool recv_cancelled : 1; /* a cancel of the armed receive is under way */
	bool recv_starved : 1; /* ended for want of buffers: armed again, it waits for data first */
	bool throttled : 1; /* too much unread input: receive waits */
	bool goodbye_queued : 1; /* our last bytes are in wire */
	bool goodbye_done : 1; /* … and with the kernel */
	bool reset : 1; /* CLOSING by reset */
	bool close_queued : 1; /* disconnect or cancel, and close, are queued */
	bool hashed : 1; /* in the hash */
	bool linger : 1; /* LEAVING: wait for the peer's end after our last byte */
	bool counted_handshake : 1; /* counts against handshakes_per_shard */
	bool unacknowledged_known : 1;
	bool slice_taken : 1; /* the head of the input is in TLS's hands */
	bool send_broken : 1; /* a send has failed: nothing goes out any more, receive tells the end */
	bool end_unsure : 1; /* a raw stream's bare end was seen while a send was in flight */
	bool local_cause : 1; /* ended by ph_close: its reason is read at senders = 0 */
	bool is_hello : 1; /* a stranger on the shard's list of hellos */
	uint8_t close_stage; /* CLOSING: how much of the last operations is queued */
	uint8_t side, how, failure, refuse_code;
	bool accepted; /* set before OPEN, apart from the owner's bits: read by pins */
	uint32_t next[LIST_COUNT];
	int16_t input_head, input_tail; /* provided buffers not yet looked at; -1 none */
	uint16_t input_count; /* of them */
	uint32_t wire_weight; /* budget to give back when wire is empty (TLS) */
	struct chain spill; /* input copied out of provided buffers, looked at before them */
	struct chunk *carry; /* plain bytes of a message not yet complete, or not yet taken */
	struct tls *tls;
	struct conn_setup *setup; /* while opening */
	struct conn_names *names; /* set before OPEN; read by pins */
	struct resume_entry
		*resume; /* dialled: all of the next secret but what RESUME will bring */
	void *user; /* set before OPEN */
	struct chain out; /* accepted from senders, not yet encrypted */
	struct chain wire; /* bytes for the kernel, the head of it in flight while ops[OP_SEND] */
	struct send_block *block; /* while ops[OP_SEND] */
	struct timer timer; /* its meaning follows the state */
	uint64_t node_id; /* the peer's; set before OPEN */
	uint64_t time_begin_ns;
	union {
		uint64_t time_open_ns; /* 0 before OPEN */
		struct {
			uint32_t before, next;
		} hello; /* while is_hello: its neighbours */
	};
	_Atomic uint64_t time_active_ns, bytes_sent, bytes_received; /* owner writes, pins read */
	uint64_t messages_sent, messages_received;
	uint64_t time_sent_ns; /* for pings */
	uint64_t time_armed_ns; /* when receive was armed last: who did not read could not hear */
	ph_address peer_address; /* set before OPEN */
	int32_t receive_error; /* how receive ended: 0 or negative errno; with eof */
	struct sockaddr_storage *peer_name; /* accepted: written by OP_NAME, then gone */
};

/* Fields stand by size, so that there are no holes: an idle connection is this and its slot. */
_Static_assert(sizeof(struct conn) <= 336, "a connection is small");

const char *conn_state_name(enum conn_state state);

/* ---- conn.c: state, helpers ------------------------------------------------------------- */
struct slot *conn_slot(const struct conn *conn);
struct conn_cold *conn_cold(const struct conn *conn);
struct conn_end *conn_end(const struct conn *conn);
uint64_t conn_id(const struct conn *conn);
void conn_enter(struct conn *conn, enum conn_state next);
void conn_init(struct conn *conn, struct shard *shard, uint32_t slot_index, uint32_t generation);
bool conn_is_receiving(const struct conn *conn); /* state in which input is looked at */
void conn_on_mail(struct conn *conn, uint64_t word);
void conn_on_timer(struct conn *conn);
void conn_on_completion(struct conn *conn, enum op_kind kind, const struct ring_completion *done);
int conn_names_set(struct conn *conn, const char *group, const char *identity, uint32_t role);
void conn_names_drop(struct conn *conn);

/* ---- conn_open.c: dial, accept, TLS handshake, greeting ---------------------------------- */
struct listener;
/* Any thread: what ph_open was given, copied. 0, -EINVAL, -ENOMEM. */
int conn_setup_create(const struct ph_open_options *options, struct conn_setup **setup);
void conn_dial(struct conn *conn, uint64_t word);
void conn_accept(struct conn *conn, const struct listener *listener, int32_t file);
void conn_on_socket(struct conn *conn, int32_t result);
void conn_on_connected(struct conn *conn, int32_t result);
void conn_on_name(struct conn *conn);
void conn_handshake(struct conn *conn);
void conn_handshake_later(struct conn *conn);
void conn_on_auth_info(struct conn *conn, const uint8_t *message, size_t bytes);
void conn_on_connect_message(struct conn *conn, const uint8_t *message, size_t bytes);
void conn_on_welcome(struct conn *conn, const uint8_t *message, size_t bytes);
void conn_on_refuse(struct conn *conn, const uint8_t *message, size_t bytes);
void conn_setup_destroy(struct conn_setup *setup); /* NULL allowed */
extern const struct tls_events conn_tls_events;
/* Ask on_verify and keep its word. `chain->count` is 0 without TLS. 0 or a refusal. */
int conn_verify(struct conn *conn, const struct ph_chain *chain);

/* ---- conn_resume.c: nothing of it where the hub has no PH_HUB_RESUME --------------------- */
/* What a dial like this one is found by among the secrets kept: RESUME_ID_BYTES. */
void conn_resume_name(const struct conn_setup *setup, uint8_t *name);
void conn_resume_offer(struct conn *conn); /* dialled, TLS is open and has not begun */
int conn_on_resume(void *context, const uint8_t *id, uint8_t *secret); /* of tls_events */
void conn_resume_begin(struct conn *conn); /* on_verify will be asked */
void conn_resume_remember(struct conn *conn, const struct ph_chain *chain); /* it has agreed */
/* The TLS handshake is done: where it was by a secret, ask on_verify. 0, or the refusal. */
int conn_resume_judge(struct conn *conn);
void conn_resume_open(struct conn *conn); /* issue, or wait for one; setup is still there */
void conn_resume_keep(struct conn *conn, struct wire_resume *wire); /* RESUME has come; wiped */
void conn_resume_drop(struct conn *conn); /* none has come */

/* ---- conn_input.c ------------------------------------------------------------------------ */
void conn_recv_arm(struct conn *conn);
void conn_on_recv(struct conn *conn, const struct ring_completion *done);
void conn_work(struct conn *conn);
void conn_work_later(struct conn *conn);
bool conn_has_input(const struct conn *conn);
/* Handshake: give TLS the next slice. False: there is none (the last one has been used up). */
bool conn_input_feed(struct conn *conn);
void conn_reading_update(struct conn *conn); /* after pause, resume, blocked */
void conn_unblock(struct conn *conn);
void conn_input_spill(struct conn *conn); /* give provided buffers back early */
void conn_input_drained(struct conn *conn); /* reading goes on after input_limit stopped it */
void conn_input_discard(struct conn *conn); /* what was received and not looked at */
void conn_carry_drop(struct conn *conn);
void conn_input_clear(struct conn *conn);

/* ---- conn_output.c ----------------------------------------------------------------------- */
void conn_flush_later(struct conn *conn);
void conn_flush(struct conn *conn);
void conn_on_sent(struct conn *conn, int32_t result);
/* A control message, behind everything queued; no weight. 0 or -ENOMEM. */
int conn_control(struct conn *conn, const void *message, size_t bytes);
void conn_output_clear(struct conn *conn);
void conn_budget_give_back(struct conn *conn, size_t weight); /* may call on_writable */

/* ---- conn_close.c ------------------------------------------------------------------------ */
/* The owner's own endings. Each latches its cause, unless a local close has won the slot word. */
void conn_fail(struct conn *conn, uint32_t reason, int error, const char *text); /* reset */
void conn_leave(
	struct conn *conn, uint32_t reason, enum ph_side side, bool linger, const char *text);
void conn_local_close(struct conn *conn, uint64_t word);
void conn_drain(struct conn *conn);
void conn_close_begin(struct conn *conn, bool reset);
void conn_close_queue(struct conn *conn);
void conn_close_join(struct conn *conn);
void conn_on_goodbye_done(struct conn *conn);
void conn_on_peer_end(struct conn *conn); /* EOF or the peer's goodbye while DRAINING or LEAVING */
void conn_deadline(struct conn *conn);
int conn_goodbye_write(struct conn *conn); /* our last message into out, at senders = 0 */

#endif
