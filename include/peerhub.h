/*
 * peerhub.h: the connection engine, native interface.
 *
 * A hub runs shards (threads). Each shard owns an io_uring ring and the connections on it. The
 * outside knows a connection by its 64-bit id, never by a pointer: an old id is -ENOENT, not a
 * crash. Every call may be made from any thread and from inside every callback, except where a
 * call says otherwise (ph_hub_stop). No call blocks on the network.
 *
 * Errors: 0 (or a count) or a negative errno. A call that fails has changed nothing and calls
 * nobody; the two exceptions are -EALREADY of ph_close (the close became an abort) and -EAGAIN of
 * ph_send (one on_writable follows).
 *
 * Text is UTF-8. Sizes are bytes, times are named by their unit.
 */
#ifndef PEERHUB_H
#define PEERHUB_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(PEERHUB_BUILD)
#define PH_API __attribute__((visibility("default")))
#else
#define PH_API
#endif
#define PH_MUST_CHECK __attribute__((warn_unused_result))

#define PH_VERSION_MAJOR 0
#define PH_VERSION_MINOR 1
#define PH_VERSION_PATCH 0

/* ---- limits, each with its reason ------------------------------------------------------- */

#define PH_SHARDS_MAX 64u /* of one hub; a process has 256 shard records (id bits) */
#define PH_SLOTS_MAX (1u << 24) /* connections of one shard: slot bits of an id */
#define PH_PARTS_MAX 64u /* buffers of one ph_send */
#define PH_MESSAGE_BYTES_MAX (64u << 20) /* payload of one message: above the 60 MB record limit */
#define PH_TEXT_BYTES_MAX 128u /* reason text */
#define PH_NAME_BYTES_MAX 600u /* a peer name: 40 + 1 + 149 UTF-16 units as UTF-8 + NUL */
#define PH_SNI_BYTES_MAX 255u /* a TLS server name (RFC 6066 section 3) */
#define PH_CHAIN_MAX 25u /* certificates of one chain, leaf and root included */
#define PH_ADDRESSES_MAX 16u /* addresses in a CONNECT message */

/* ---- addresses -------------------------------------------------------------------------- */

/*
 * One socket address. IPv4 is written IPv4-mapped (::ffff:a.b.c.d); the engine uses an AF_INET
 * socket for it. sin6_family is AF_INET6 always, port in network byte order.
 */
typedef struct sockaddr_in6 ph_address;

/* `host:port` with a numeric host: "127.0.0.1:80", "[::1]:0", "[fe80::1%eth0]:3587".
 * Returns 0, -EINVAL (text is not such an address). */
PH_API PH_MUST_CHECK int ph_address_parse(const char *text, ph_address *address);

#define PH_ADDRESS_TEXT_BYTES 80u
/* Writes "[::1]:80" or "127.0.0.1:80" with NUL into text[PH_ADDRESS_TEXT_BYTES]; returns text. */
PH_API char *ph_address_text(const ph_address *address, char *text);

/* ---- kinds, modes, reasons -------------------------------------------------------------- */

enum ph_kind {
	PH_KIND_NEIGHBOR = 1, /* AUTH_INFO connection type 1 */
	PH_KIND_DIRECT = 2, /* AUTH_INFO connection type 2 */
	PH_KIND_RAW = 3, /* framing raw: no peer protocol, no type on the wire */
};

enum ph_framing {
	PH_FRAMING_MESSAGE =
		0, /* the peer protocol: AUTH_INFO, CONNECT, WELCOME, PT2PT, DISCONNECT */
	PH_FRAMING_RAW = 1, /* a byte stream: on_data has no type, one call per received span */
};

enum ph_tls {
	PH_TLS_MUTUAL = 0, /* TLS 1.3, both sides show a certificate chain */
	PH_TLS_NONE = 1, /* clear text: only where configuration says so by name */
};

enum ph_how {
	PH_GRACEFUL = 0, /* all accepted data, then the goodbye; reset at the deadline */
	PH_ABORT = 1, /* reset now */
};

/*
 * Why a connection ended or was never opened. The number stands in receipts, logs and metric
 * labels on both ends. Ranges: 1000 application normal, 2000 application error, 3000 local,
 * 4000 remote, 5000 limits, 6000 protocol, 7000 transport. An application chooses any number in
 * 1000..2999; the names below are the engine's own.
 */
#define PH_REASONS(X)                                                                 \
	X(PH_REASON_NONE, 0, "none")                                                  \
	X(PH_REASON_APP_NORMAL, 1000, "application")                                  \
	X(PH_REASON_APP_ERROR, 2000, "application_error")                             \
	X(PH_REASON_LOCAL_CLOSE, 3000, "local_close")                                 \
	X(PH_REASON_LOCAL_ABORT, 3001, "local_abort")                                 \
	X(PH_REASON_LOCAL_GROUP_END, 3002, "group_closed")                            \
	X(PH_REASON_LOCAL_STOP, 3003, "hub_stopped")                                  \
	X(PH_REASON_LOCAL_REFUSED, 3004, "refused_peer")                              \
	X(PH_REASON_LOCAL_REVOKED, 3005, "revoked")                                   \
	X(PH_REASON_LOCAL_DRAIN, 3006, "draining")                                    \
	X(PH_REASON_REMOTE_CLOSE, 4000, "remote_close")                               \
	X(PH_REASON_REMOTE_RESET, 4001, "remote_reset")                               \
	X(PH_REASON_REMOTE_TRUNCATED, 4002, "remote_truncated")                       \
	X(PH_REASON_REMOTE_REFUSED, 4003, "refused_by_peer")                          \
	X(PH_REASON_REMOTE_LEAVING, 4004, "remote_leaving")                           \
	X(PH_REASON_LIMIT_CONNECTIONS, 5000, "limit_connections")                     \
	X(PH_REASON_LIMIT_HANDSHAKES, 5001, "limit_handshakes")                       \
	X(PH_REASON_LIMIT_MEMORY, 5002, "limit_memory")                               \
	X(PH_REASON_LIMIT_SLOW, 5003, "limit_slow_consumer")                          \
	X(PH_REASON_LIMIT_GROUP, 5004, "limit_group")                                 \
	X(PH_REASON_LIMIT_IDENTITY, 5005, "limit_identity")                           \
	X(PH_REASON_LIMIT_SUBNET, 5006, "limit_subnet")                               \
	X(PH_REASON_LIMIT_HANDSHAKE_SHARE, 5007, "limit_handshake_share")             \
	X(PH_REASON_LIMIT_ACCEPT_RATE, 5008, "limit_accept_rate")                     \
	X(PH_REASON_LIMIT_MESSAGE_RATE, 5009, "limit_message_rate")                   \
	X(PH_REASON_LIMIT_LOOP_LAG, 5010, "limit_loop_lag")                           \
	X(PH_REASON_LIMIT_DUPLICATE, 5011, "limit_duplicate")                         \
	X(PH_REASON_PROTOCOL_MESSAGE, 6000, "protocol_message")                       \
	X(PH_REASON_PROTOCOL_SIZE, 6001, "protocol_size")                             \
	X(PH_REASON_PROTOCOL_TYPE, 6002, "protocol_type")                             \
	X(PH_REASON_PROTOCOL_STATE, 6003, "protocol_state")                           \
	X(PH_REASON_PROTOCOL_TLS, 6004, "protocol_tls")                               \
	X(PH_REASON_PROTOCOL_VERIFY, 6005, "protocol_verify")                         \
	X(PH_REASON_PROTOCOL_HELLO, 6006, "protocol_hello")                           \
	X(PH_REASON_TRANSPORT_CONNECT, 7000, "transport_connect")                     \
	X(PH_REASON_TRANSPORT_CONNECT_TIMEOUT, 7001, "transport_connect_timeout")     \
	X(PH_REASON_TRANSPORT_HANDSHAKE_TIMEOUT, 7002, "transport_handshake_timeout") \
	X(PH_REASON_TRANSPORT_WELCOME_TIMEOUT, 7003, "transport_welcome_timeout")     \
	X(PH_REASON_TRANSPORT_ERROR, 7004, "transport_error")                         \
	X(PH_REASON_TRANSPORT_DEAD, 7005, "transport_dead")                           \
	X(PH_REASON_TRANSPORT_HANDSHAKE_LOST, 7006, "transport_handshake_lost")

enum ph_reason {
#define PH_REASON_ENUM(name, value, text) name = value,
	PH_REASONS(PH_REASON_ENUM)
#undef PH_REASON_ENUM
};

/* A name for the number: an engine name above, else "application", "application_error", … by its
 * range, "unknown" outside all ranges. Static text. */
PH_API const char *ph_reason_name(uint32_t reason);

/*
 * Limits of a hub (docs/limits.md). Each is a number; 0 in ph_options is off: not counted, and it cannot be
 * turned on later. PH_LIMIT_NONE is counted and refuses nobody. Connections are those that were accepted, from
 * accept to on_closed; what we dial ourselves is not counted. Who is refused before TLS is reset; behind it
 * the peer protocol is told by a NOTICE with reason, words and retry-after, and REFUSE 1 (busy).
 *
 *   connections        of the hub; before TLS
 *   group, identity    of one verified group name or identity; behind TLS
 *   subnet             of one IPv4 address or IPv6 /56; before TLS
 *   handshakes         accepted and not open yet, all shards; before TLS
 *   handshake_share    percent of each shard's time that handshakes may take; the others wait, and end with
 *                      limit_handshake_share where their turn never comes
 *   accept_rate        accepted a second, one second's worth at once; before TLS
 *   message_bytes      of one message received (message_bytes_max wins where this is 0)
 *   message_rate       messages received a second on one connection, one second's worth at once
 *   send_queue         bytes queued on one connection (send_queue_bytes wins where this is 0): -EAGAIN
 *   send_total         bytes queued on all connections, those that were dialled, too: -ENOMEM of ph_send
 *   memory             connections, handshakes, queued bytes and partial messages by what they cost; before TLS,
 *                      -ENOMEM of ph_send, and the end of a connection whose message does not fit
 *   loop_lag           milliseconds that a shard's turn took lately; behind TLS, with retry-after; from four
 *                      times as much on before it
 */
#define PH_LIMIT_NONE UINT64_MAX
/* clang-format off */
#define PH_LIMITS(X) \
	X(CONNECTIONS, "connections", PH_REASON_LIMIT_CONNECTIONS) \
	X(GROUP, "group", PH_REASON_LIMIT_GROUP) \
	X(IDENTITY, "identity", PH_REASON_LIMIT_IDENTITY) \
	X(SUBNET, "subnet", PH_REASON_LIMIT_SUBNET) \
	X(HANDSHAKES, "handshakes", PH_REASON_LIMIT_HANDSHAKES) \
	X(HANDSHAKE_SHARE, "handshake_share", PH_REASON_LIMIT_HANDSHAKE_SHARE) \
	X(ACCEPT_RATE, "accept_rate", PH_REASON_LIMIT_ACCEPT_RATE) \
	X(MESSAGE_BYTES, "message_bytes", PH_REASON_PROTOCOL_SIZE) \
	X(MESSAGE_RATE, "message_rate", PH_REASON_LIMIT_MESSAGE_RATE) \
	X(SEND_QUEUE, "send_queue", PH_REASON_LIMIT_SLOW) \
	X(SEND_TOTAL, "send_total", PH_REASON_LIMIT_MEMORY) \
	X(MEMORY, "memory", PH_REASON_LIMIT_MEMORY) \
	X(LOOP_LAG, "loop_lag", PH_REASON_LIMIT_LOOP_LAG) \
	X(DUPLICATE, "duplicate", PH_REASON_LIMIT_DUPLICATE)
/* clang-format on */
enum ph_limit {
#define PH_LIMIT_ENUM(name, text, reason) PH_LIMIT_##name,
	PH_LIMITS(PH_LIMIT_ENUM)
#undef PH_LIMIT_ENUM
	PH_LIMIT_COUNT
};

/* "connections" …; NULL for a number that is none. Static text. */
PH_API const char *ph_limit_name(enum ph_limit limit);
/* What a refusal by it is called. */
PH_API enum ph_reason ph_limit_reason(enum ph_limit limit);

/* A second connection of the same group, identity and kind, among those that were accepted. */
enum ph_duplicates {
	PH_DUPLICATES_ALLOW = 0,
	PH_DUPLICATES_NEWEST = 1, /* once the new one is open the older ones are closed */
	PH_DUPLICATES_OLDEST = 2, /* the new one is refused: REFUSE 3 (duplicate) */
};

/* What happens to a connection whose send queue stays full: docs/native.md. */
enum ph_slow {
	PH_SLOW_BLOCK = 0, /* nothing: its senders are told -EAGAIN until there is room */
	PH_SLOW_CLOSE =
		1, /* full, and nothing taken of it, for slow_ms: reset, limit_slow_consumer */
	PH_SLOW_DROP =
		2, /* the oldest messages that are not yet on their way make room; raw: as BLOCK */
};

/* How an opening that never reached on_open failed; contract of the p2p layer. */
enum ph_failure {
	PH_FAILURE_NONE = 0, /* it was open */
	PH_FAILURE_CONNECT = 1, /* TCP error or time-out, WELCOME timer, local close */
	PH_FAILURE_AUTHENTICATION = 2, /* between TCP connected and WELCOME or REFUSE */
	PH_FAILURE_REFUSED = 3, /* the peer sent REFUSE; refuse_code has the code */
};

/* ---- credentials ------------------------------------------------------------------------ */

/*
 * A certificate chain and its private key, immutable and counted. Made from DER: the chain leaf
 * first, root last; the key as PKCS #8 PrivateKeyInfo (RFC 5208). Any thread.
 * Returns 0, -EINVAL (no chain, over PH_CHAIN_MAX, not DER, a certificate over 16 KiB, a key that is not
 * P-256, Ed25519 or RSA of 2048 to 4096 bits, or not the leaf's), -ENOMEM.
 */
struct ph_credentials;
struct ph_bytes {
	const uint8_t *data;
	size_t bytes;
};
PH_API PH_MUST_CHECK int ph_credentials_create(const struct ph_bytes *chain, uint32_t chain_count,
	struct ph_bytes key, struct ph_credentials **credentials);
PH_API struct ph_credentials *ph_credentials_get(struct ph_credentials *credentials); /* +1 */
PH_API void ph_credentials_put(struct ph_credentials *credentials); /* -1; NULL allowed */

/* ---- what callbacks see ----------------------------------------------------------------- */

/* A peer's chain as TLS received it, leaf first, borrowed for the call. Nothing is verified but
 * that the peer holds the leaf's key (TLS proves that after on_verify, before on_open). */
struct ph_chain {
	uint32_t count; /* 1..PH_CHAIN_MAX */
	struct ph_bytes der[PH_CHAIN_MAX];
	void *x509[PH_CHAIN_MAX]; /* the same certificates as OpenSSL X509 *, borrowed */
	/* Not 0 with PH_HUB_RESUME only: the peer showed no chain but proved that it holds a secret it was
	 * given (or gave) when this chain was verified last. der is that chain, x509 is all NULL, and the
	 * verdict comes filled with the group, identity and role of then, which have to stay as they are. */
	int resumed;
};

/* Filled by on_verify. Strings are copied by the engine before it goes on. */
struct ph_verdict {
	char group[PH_NAME_BYTES_MAX]; /* UTF-8 with NUL; "" is allowed (raw framing) */
	char identity[PH_NAME_BYTES_MAX]; /* the peer, UTF-8 with NUL */
	uint32_t role; /* the caller's own numbering */
	uint64_t tag; /* accepted connections: becomes the id's tag */
	void *user; /* accepted connections: becomes the connection's user */
	char refusal[PH_TEXT_BYTES_MAX]; /* why, when refused: for the receipt */
};

/* Filled by on_hello, on the accepting side. */
struct ph_hello_answer {
	struct ph_credentials *credentials; /* one reference handed over to the engine */
	char group[PH_NAME_BYTES_MAX]; /* what this listener is for the peer: AUTH_INFO is … */
	char identity[PH_NAME_BYTES_MAX]; /* … compared with these, WELCOME names the identity */
};

/* Filled by on_connect. */
struct ph_connect_info {
	enum ph_kind kind;
	const char *group; /* both from the verdict, borrowed */
	const char *identity;
	const char *friendly_name; /* peer's own text, "" when absent: escape before showing */
	uint64_t node_id;
	const ph_address *addresses; /* where the peer listens, in its own words; borrowed */
	uint32_t address_count;
	ph_address peer_address; /* the socket's */
	uint32_t role;
};
struct ph_connect_answer {
	uint64_t node_id; /* ours, sent in WELCOME */
	uint64_t peer_time; /* 100 ns since 1601, sent in WELCOME */
	const ph_address *addresses; /* sent in WELCOME to neighbors; copied before return */
	uint32_t address_count;
};
enum ph_refuse {
	PH_ACCEPT = 0,
	PH_REFUSE_BUSY = 1,
	PH_REFUSE_ALREADY_CONNECTED = 2,
	PH_REFUSE_DUPLICATE = 3,
	PH_REFUSE_DIRECT_DISALLOWED = 4,
};

/* Given to on_open; strings borrowed. */
struct ph_open_info {
	enum ph_kind kind;
	int accepted; /* 1: the peer dialled, 0: ph_open did */
	uint64_t tag;
	const char *group;
	const char *identity; /* the peer's name as verified; "" with PH_TLS_NONE raw */
	const char *friendly_name; /* from CONNECT or WELCOME, "" when absent */
	uint64_t node_id; /* the peer's */
	uint64_t peer_time; /* from WELCOME; 0 on accepted connections */
	const ph_address *addresses; /* from CONNECT or WELCOME */
	uint32_t address_count;
	ph_address peer_address; /* accepted: the socket's peer; dialled: the address given */
	uint32_t role;
	int resumed; /* by a resumption secret: see ph_chain */
};

/* Who began the end. */
enum ph_side {
	PH_SIDE_LOCAL = 1,
	PH_SIDE_REMOTE = 2,
	PH_SIDE_ENGINE = 3, /* a limit, a timer, a protocol or transport fault */
};

/* What every connection leaves behind. Times are CLOCK_MONOTONIC ns, 0 = never reached. */
struct ph_receipt {
	uint64_t id;
	uint64_t tag;
	uint32_t reason; /* enum ph_reason or an application's number; latched by the first cause */
	uint8_t side; /* enum ph_side */
	uint8_t how; /* enum ph_how: how it really ended (a late graceful one is an abort) */
	uint8_t failure; /* enum ph_failure */
	uint8_t kind; /* enum ph_kind */
	uint8_t accepted;
	uint8_t was_open; /* on_open was called */
	uint8_t handshake_done;
	uint8_t refuse_code; /* with PH_FAILURE_REFUSED */
	int32_t error; /* negative errno behind a transport reason, else 0 */
	uint32_t peer_reason; /* the peer's own number from a NOTICE before its goodbye, else 0 */
	uint64_t time_begin_ns, time_open_ns, time_close_ns, time_goodbye_ns, time_end_ns;
	uint64_t bytes_queued; /* accepted by ph_send; each message with its 28-byte head */
	uint64_t bytes_sent; /* of those, given to the kernel */
	uint64_t bytes_acknowledged; /* of those, known to have reached the peer's kernel */
	uint64_t bytes_dropped; /* accepted, never given to the kernel */
	uint64_t bytes_received;
	uint64_t messages_sent, messages_received;
	ph_address peer_address;
	char text[PH_TEXT_BYTES_MAX + 1]; /* ours: detail of the reason */
	char peer_text[PH_TEXT_BYTES_MAX + 1]; /* the peer's words: escape before showing */
	uint32_t peer_retry_after_ms; /* from the peer's NOTICE: not to be dialled before; else 0 */
};

/* ---- the hub ---------------------------------------------------------------------------- */

struct ph_hub;
typedef uint8_t ph_type[16]; /* message type: a GUID in big-endian field order */

struct ph_statistics {
/* clang-format off */
#define PH_COUNTERS(X) \
	X(accepted) X(dialled) X(opened) X(closed) X(failed) X(refused_by_us) \
	X(refused_by_peer) X(handshakes_done) X(handshakes_failed) X(handshakes_timed_out) \
	X(verify_refused) X(hello_refused) X(closes_local) X(closes_remote) X(aborts_local) \
	X(closes_deadline) X(messages_sent) X(messages_received) X(bytes_sent) \
	X(bytes_received) X(sends_would_block) X(notices_skipped) X(pings_sent) \
	X(pings_received) X(protocol_errors) X(transport_errors) X(receive_starved) \
	X(receive_rearmed) X(completions) X(completions_stale) X(cq_overflows) X(sq_full) \
	X(cancel_none) X(cancel_already) X(mail_posted) X(mail_handled) X(wakes) X(enters) \
	X(turns) X(accept_paused) X(accept_errors) X(slots_retired) X(reads_paused) \
	X(no_memory) X(loop_ns_max) X(callback_retries) X(close_resubmits) \
	X(slow_consumers) X(messages_dropped) X(resumes_issued) X(resumes_kept) X(resumes_missed) X(resumes_accepted) X(resumes_dialled)
/* clang-format on */
#define PH_COUNTER_FIELD(name) uint64_t name;
	PH_COUNTERS(PH_COUNTER_FIELD)
#undef PH_COUNTER_FIELD
	uint64_t live; /* slots in use now: opening, open and closing */
	uint64_t open; /* open now */
	uint64_t handshakes; /* live and not open: opening or ending */
	uint64_t slots; /* capacity: what was asked for, without slots_retired */
	uint32_t shards;
};

/*
 * Called on the owning shard, one at a time for one connection; different connections of
 * different shards run at once. Pointers are borrowed for the call. A callback must not block and
 * may call everything but ph_hub_stop. `hub_user` is ph_options.user; `user` is the connection's.
 * NULL members: on_hello refuses TLS clients, on_verify refuses every chain, on_connect accepts,
 * the others do nothing.
 */
struct ph_callbacks {
	/* A TLS client named a server name ("" if none). 0 = answer filled; negative = refused. */
	int (*on_hello)(void *hub_user, const char *sni, struct ph_hello_answer *answer);
	/* Judge a peer's chain. `sni` as sent or received; accepted = we are the TLS server; `expected`
	 * is the identity ph_open named (NULL: any), on accepted ones our own, as on_hello answered.
	 * 0 = verdict filled, negative = refused. With PH_TLS_NONE it is called with chain->count 0 and the
	 * verdict holding the peer's own unproven words. */
	int (*on_verify)(void *hub_user, uint64_t id, int accepted, const char *sni,
		const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict);
	/* A verified peer asks for a connection (framing message, accepting side). */
	enum ph_refuse (*on_connect)(void *hub_user, uint64_t id, uint64_t tag, void *user,
		const struct ph_connect_info *info, struct ph_connect_answer *answer);
	void (*on_open)(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info);
	/* One message, or one span of a raw stream (type NULL). 0 = taken; -EAGAIN = keep it, stop
	 * reading, and offer it again after ph_resume (or after 100 ms, whichever is first). */
	int (*on_data)(void *hub_user, uint64_t id, void *user, const uint8_t *type,
		const uint8_t *data, size_t bytes);
	/* Once after ph_send answered -EAGAIN, when half of the budget is free again. */
	void (*on_writable)(void *hub_user, uint64_t id, void *user);
	/* The one last event of every id: nothing follows it. */
	void (*on_closed)(
		void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt);
	/* The send queue is full, whatever ph_options.slow says is next. Once until it is half empty again; always
	 * before the close, or the first message dropped. */
	void (*on_slow)(void *hub_user, uint64_t id, void *user, uint64_t queued_bytes);
};

/* 0 in any field means its default. */
struct ph_options {
	uint32_t size; /* sizeof(struct ph_options) of the caller */
	uint32_t shard_count; /* 1..PH_SHARDS_MAX; default one per online CPU */
	uint32_t connections_per_shard; /* slots; default 19,968, at most PH_SLOTS_MAX */
	uint32_t
		handshakes_per_shard; /* accepted ones in progress before accepting pauses; 1,024 */
	uint32_t
		receive_buffer_count; /* provided buffers of a shard, power of two; default 2,048 */
	uint32_t receive_buffer_bytes; /* default 4,096 */
	uint32_t send_queue_bytes; /* budget of one connection; default 1 MiB */
	uint32_t message_bytes_max; /* received; default and at most PH_MESSAGE_BYTES_MAX */
	uint64_t reassembly_bytes_max; /* partial messages of the whole hub; default 1 GiB */
	uint32_t socket_send_bytes; /* SO_SNDBUF; default 256 KiB */
	uint32_t socket_receive_bytes; /* SO_RCVBUF; default 256 KiB */
	uint32_t timeout_connect_ms; /* TCP; default 20,000 */
	uint32_t timeout_handshake_ms; /* TCP established to CONNECT; default 20,000 */
	uint32_t timeout_welcome_ms; /* CONNECT to WELCOME; default 60,000 */
	uint32_t timeout_close_ms; /* graceful close, then reset; default 5,000 */
	uint32_t ping_interval_ms; /* default 30,000 */
	uint32_t timeout_dead_ms; /* nothing received for so long: default 120,000 */
	uint32_t receipts_per_shard; /* history; default 1,024 */
	uint32_t flags; /* PH_HUB_* */
	void *user;
	uint32_t
		resumptions_max; /* PH_HUB_RESUME: secrets issued, and kept, by the hub; 16,384 each */
	uint32_t retry_after_ms; /* told to whom a limit refuses; default 2,000 */
	uint64_t limits[PH_LIMIT_COUNT]; /* 0: off; but see message_bytes and send_queue */
	uint32_t duplicates; /* enum ph_duplicates */
	uint32_t slow; /* enum ph_slow */
	uint32_t slow_ms; /* default 10,000 */
};
#define PH_HUB_NO_DIRECT_DESCRIPTORS 1u /* use normal fds even where direct ones work */
#define PH_HUB_TLS_FAST_DECODE 2u /* engine-wide key decoding short cut; own programs only */
#define PH_HUB_TLS_OPENSSL 4u /* OpenSSL after the handshake, too, instead of our record layer */
/* Give peers that dial us a secret for their next connection (framing message), use those given to us, and ask
 * on_verify with ph_chain.resumed set. docs/tls.md says what they are bound to. */
#define PH_HUB_RESUME 8u

/*
 * Start the shards. Returns 0, -EINVAL (an option: the text names it), -EPERM (io_uring refused:
 * the text says what refused it and how to allow it), -ENOSYS (kernel older than 6.1),
 * -ENOMEM, -EMFILE, -EAGAIN (all 256 shard records of the process are in use), -EIO (OpenSSL cannot be
 * set up: its configuration forbids what we need, or memory was short and it did not say so).
 * `why` may be NULL, else receives a line of at most 256 bytes with NUL on failure.
 */
#define PH_WHY_BYTES 256u
PH_API PH_MUST_CHECK int ph_hub_start(const struct ph_options *options,
	const struct ph_callbacks *callbacks, struct ph_hub **hub, char *why);

/* Close everything (each id gets its on_closed), end the threads, free the hub. Open connections
 * are closed gracefully up to their deadline with PH_GRACEFUL, reset with PH_ABORT.
 * No other call on this hub may run on another thread at the same time or later (calls on ids may:
 * they find nothing). Returns 0, -EDEADLK (called inside a callback). */
PH_API PH_MUST_CHECK int ph_hub_stop(struct ph_hub *hub, enum ph_how how);

/*
 * Whether this kernel could seal and open TLS records itself (kTLS), tried on connections of our own over
 * loopback: 0, or a negative errno of what it refused: -ENOENT (no kTLS), -EBUSY (it cannot change a
 * connection's keys: before 6.14), another. `why` gets a line of at most 256 bytes with NUL in each case, and
 * may be NULL. No hub uses it yet: docs/tls.md.
 */
PH_API PH_MUST_CHECK int ph_kernel_tls(char *why);

struct ph_listen_options {
	ph_address address; /* port 0: any free one */
	enum ph_framing framing;
	enum ph_tls tls;
	uint64_t tag; /* PH_TLS_NONE and raw: tag of accepted connections without a verdict */
	void *user;
};
/*
 * Listen on every shard (SO_REUSEPORT). `bound` (may be NULL) gets the address with its port.
 * Returns a listener number >= 0, or -EADDRINUSE (also when another process of the same user
 * listens), -EADDRNOTAVAIL, -EACCES, -EAFNOSUPPORT, -EINVAL, -ENOMEM, -EMFILE,
 * -ESHUTDOWN (the hub is stopping).
 * ph_listen_fd takes an inherited listening socket; the fd is duplicated and stays the caller's.
 */
PH_API PH_MUST_CHECK int ph_listen(
	struct ph_hub *hub, const struct ph_listen_options *options, ph_address *bound);
PH_API PH_MUST_CHECK int ph_listen_fd(
	struct ph_hub *hub, int fd, const struct ph_listen_options *options, ph_address *bound);
/* Stop accepting on a listener; connections stay. Returns 0 or -ENOENT. Blocks until the port is
 * free, except inside a callback, where the port becomes free soon after. */
PH_API PH_MUST_CHECK int ph_listen_end(struct ph_hub *hub, int listener);

struct ph_open_options {
	ph_address address;
	enum ph_kind kind;
	enum ph_framing framing;
	enum ph_tls tls;
	struct ph_credentials *credentials; /* the engine takes its own reference */
	const char *sni; /* TLS server name; copied */
	const char *group; /* AUTH_INFO graph id; copied */
	const char *source; /* AUTH_INFO source: our own identity; copied */
	const char *expected; /* the identity to reach; NULL = any; copied */
	const char *friendly_name; /* CONNECT; NULL = none; copied */
	const ph_address *addresses; /* where we listen: sent in CONNECT; copied */
	uint32_t address_count;
	uint64_t node_id; /* ours, in CONNECT */
	uint64_t tag;
	void *user;
	ph_address local_address; /* to dial from; port 0: any. All zero: the kernel chooses */
};
/*
 * Open a connection. The id is stored in *id before any callback for it can run.
 * Returns 0, -EINVAL (an option), -ENOMEM, -EMFILE (no free slot), -ESHUTDOWN (hub is stopping or
 * the tag has ended), -EOPNOTSUPP (local_address on a kernel before 6.11).
 */
PH_API PH_MUST_CHECK int ph_open(
	struct ph_hub *hub, const struct ph_open_options *options, uint64_t *id);

struct ph_part {
	const void *data;
	size_t bytes;
};
/*
 * Send a list of buffers as one message (raw: as bytes), in order, on one connection.
 *
 * id, tag  connection id from ph_open or on_open, and its tag
 * type     16-byte message type, read only; ignored (may be NULL) with raw framing
 * parts    part_count buffers, read only, copied before we return
 * Shape    0 <= part_count <= PH_PARTS_MAX; all parts together 0..PH_MESSAGE_BYTES_MAX
 * Thread   any, callbacks included; never blocks
 * Returns  0          accepted: it leaves before a graceful close's goodbye
 *          -ENOENT    no such open connection under this tag
 *          -EAGAIN    its send queue is full; one on_writable follows (with several senders, one
 *                     may also come that nobody waits for any more)
 *          -EMSGSIZE  more than PH_MESSAGE_BYTES_MAX
 *          -EINVAL    part_count over PH_PARTS_MAX, a NULL part with bytes, or no type
 *          -ENOMEM    no memory for the copy
 */
PH_API PH_MUST_CHECK int ph_send(uint64_t id, uint64_t tag, const uint8_t *type,
	const struct ph_part *parts, uint32_t part_count);

/* Stop and go on reading (counted: no; the last call wins). 0 or -ENOENT. Who does not read does not
 * hear of the peer's end either, until it reads again or closes. */
PH_API PH_MUST_CHECK int ph_pause(uint64_t id, uint64_t tag);
PH_API PH_MUST_CHECK int ph_resume(uint64_t id, uint64_t tag);

/*
 * Close a connection. Decided by one compare-and-swap: of all callers exactly one gets 0.
 * reason 0 means PH_REASON_LOCAL_CLOSE (abort: PH_REASON_LOCAL_ABORT); text may be NULL, at most
 * PH_TEXT_BYTES_MAX bytes are kept. After 0 the id is dead for ph_send; on_closed follows.
 * Returns 0 (this call decided it), -ENOENT (unknown, stale, other tag, or already ending),
 * -EALREADY (an abort of a connection that was closing gracefully: it now aborts).
 */
PH_API int ph_close(uint64_t id, uint64_t tag, enum ph_how how, uint32_t reason, const char *text);

/*
 * Tell the peer of an open connection something ahead of its end: that we are about to drain, and after how
 * long it may come back (0: nothing is asked). It stands in the peer's receipt (peer_reason,
 * peer_retry_after_ms, peer_text) whenever the connection ends; the newest one counts, but a time that was told stays
 * until another time is; reason 0 takes all of it back. text may be NULL, at most PH_TEXT_BYTES_MAX bytes are kept. It
 * counts neither as a message nor against the send budget.
 * Returns 0, -ENOENT (as ph_send), -EAGAIN (PH_NOTICES_MAX were sent on it), -EOPNOTSUPP (raw framing), -ENOMEM.
 */
#define PH_NOTICES_MAX 64u /* of one connection: they are bounded by this alone */
PH_API PH_MUST_CHECK int ph_notice(
	uint64_t id, uint64_t tag, uint32_t reason, uint32_t retry_after_ms, const char *text);

/* A group is gone: its open connections are closed (graceful or abort), handshakes that end later
 * are refused, ph_open with the tag is -ESHUTDOWN. The tag can never be used again. */
PH_API PH_MUST_CHECK int ph_tag_end(
	struct ph_hub *hub, uint64_t tag, enum ph_how how, uint32_t reason);

/*
 * Forget resumption secrets, both those issued to peers and those kept of hubs, that match all that is given
 * here (zeroed fields are no condition; all zero: every one). To be called behind a revocation: after on_verify
 * has begun to refuse the chain, so that no secret is issued for it again. Connections that are open stay.
 * Returns how many went; 0 without PH_HUB_RESUME.
 */
struct ph_resume_filter {
	int has_tag;
	uint64_t tag;
	const char *group; /* the peer's, as verified */
	const char *identity;
	/* Any certificate of the peer's chain: its key's first 160 bits of SHA-256 over the DER
	 * SubjectPublicKeyInfo (20 bytes), its serial number (big-endian, without leading zeros), or both in
	 * the same certificate. */
	const uint8_t *authority;
	struct ph_bytes serial;
};
PH_API uint64_t ph_resume_drop(struct ph_hub *hub, const struct ph_resume_filter *filter);

/* One open connection, copied. */
struct ph_connection {
	uint64_t id, tag;
	enum ph_kind kind;
	int accepted;
	uint32_t shard;
	uint64_t node_id, time_open_ns, time_active_ns, bytes_sent, bytes_received, queue_bytes;
	ph_address peer_address;
	char group[PH_NAME_BYTES_MAX];
	char identity[PH_NAME_BYTES_MAX];
};

/* All given conditions must hold; zeroed fields are no condition. */
struct ph_filter {
	int has_tag;
	uint64_t tag;
	const char *group;
	const char *identity;
	int has_subnet;
	ph_address subnet;
	uint32_t subnet_bits; /* of the 128-bit (mapped) address */
	uint64_t age_ms_min, idle_ms_min;
};

/* Close all open connections that match. dry_run only counts. spread_ms > 0 spreads the closes
 * evenly over that time. Returns the number matched, -ENOMEM (spread only: nothing closed). */
PH_API PH_MUST_CHECK int64_t ph_close_where(struct ph_hub *hub, const struct ph_filter *filter,
	enum ph_how how, uint32_t reason, int dry_run, uint32_t spread_ms);

/* Ids of the open connections of an identity in a group, newest first. Lock-free. Returns how many
 * there are (may exceed id_max; only id_max are written). */
PH_API uint32_t ph_find(struct ph_hub *hub, const char *group, const char *identity, uint64_t *ids,
	uint32_t id_max);

/* Visit open connections without stopping a shard; visit returns 0 to go on. Returns the number
 * visited. `filter` may be NULL. */
PH_API uint64_t ph_connections(struct ph_hub *hub, const struct ph_filter *filter,
	int (*visit)(void *context, const struct ph_connection *connection), void *context);
PH_API void ph_stats(struct ph_hub *hub, struct ph_statistics *stats); /* summed over the shards */

struct ph_limit_state {
	uint64_t value; /* in force; 0: off */
	uint64_t use; /* now; of keyed ones that key's which has the most */
	uint64_t keys; /* subnets, groups, identities that are counted now */
	uint64_t refusals;
	uint64_t last_ns; /* CLOCK_MONOTONIC of the last refusal; 0: none yet */
	ph_address
		last_address; /* of the last refused peer; port 0 and all zero where it is not known */
};
/*
 * Change the limits of a running hub, all of them; no connection ends by it. Returns 0, or -EINVAL: one would turn
 * from off (0) to on, or back, or is over what ph_options allows; then nothing has changed.
 */
PH_API PH_MUST_CHECK int ph_limits_set(struct ph_hub *hub, const uint64_t limits[PH_LIMIT_COUNT]);
PH_API void ph_limits_read(struct ph_hub *hub, struct ph_limit_state states[PH_LIMIT_COUNT]);
/* The newest receipts, newest first within each shard; returns how many were written. */
PH_API uint32_t ph_receipts(struct ph_hub *hub, struct ph_receipt *receipts, uint32_t count_max);
/* What the start-up self-tests found, one line per feature ("direct_descriptors yes"). Static. */
PH_API const char *ph_features(struct ph_hub *hub);
/* Write the state of every shard and connection, for a human at 3 a.m. to fd. Any thread. */
PH_API void ph_hub_dump(struct ph_hub *hub, int fd);

#ifdef __cplusplus
}
#endif
#endif
