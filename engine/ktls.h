/*
 * kTLS: handing the records of a connection over to the kernel (Documentation/networking/tls.rst). What
 * is here: the probe of what this kernel can do, the hand-over of a record layer's keys and sequence
 * numbers to a socket with its fallbacks, and records of other kinds than data as control messages. The
 * hub does not use it for data yet; docs/tls.md says why and what is missing.
 *
 * What always holds
 *   - A direction is sealed or opened by one side only. Whatever the kernel took, our record layer has
 *     lost: its key is wiped and it fails instead of using a nonce a second time.
 *   - Where the kernel refuses, at whatever step, the socket is as it was and our records go on.
 *   - Keys are wiped from the stack when a call returns.
 *
 * The socket belongs to the caller; calls are made on its thread.
 */
#ifndef PEERHUB_ENGINE_KTLS_H
#define PEERHUB_ENGINE_KTLS_H

#include "engine/record.h"

#include <linux/tls.h>
#include <sys/socket.h>

/* setsockopt(2), or what stands for it in a test: 0 or -errno. */
struct ktls_calls {
	int (*set)(
		void *context, int fd, int level, int option, const void *value, socklen_t bytes);
	void *context;
};
extern const struct ktls_calls ktls_kernel;

enum ktls_step {
	KTLS_STEP_SOCKET, /* a connected socket for the probe */
	KTLS_STEP_ULP,
	KTLS_STEP_SEND,
	KTLS_STEP_RECEIVE,
	KTLS_STEP_REKEY, /* a second key for the same direction: Linux 6.14 */
	KTLS_STEP_DONE,
};

/* ---- keys ------------------------------------------------------------------------------- */

/* What setsockopt(SOL_TLS, TLS_TX or TLS_RX) takes; `bytes` of it count. */
struct ktls_crypto {
	union {
		struct tls_crypto_info info;
		struct tls12_crypto_info_aes_gcm_128 aes;
		struct tls12_crypto_info_chacha20_poly1305 chacha;
	};
	socklen_t bytes;
};
void ktls_crypto_fill(const struct record_keys *keys, struct ktls_crypto *crypto);
void ktls_crypto_wipe(struct ktls_crypto *crypto);

/* ---- what the kernel can ---------------------------------------------------------------- */

struct ktls_report {
	enum ktls_step step; /* where it ended */
	int error; /* of that step, negative errno; 0 with KTLS_STEP_DONE */
	bool has_suite[RECORD_SUITE_COUNT]; /* both ways */
};

/* Try both suites and a change of key on connected sockets of our own. True: all a connection needs.
 * Where it cannot change keys it is of no use to us: a KeyUpdate of the peer's would end the connection. */
bool ktls_probe(const struct ktls_calls *calls, struct ktls_report *report);
#define KTLS_TEXT_BYTES 160u
/* A line on a report: "this kernel has no kTLS (TCP_ULP: No such file or directory)". Returns text. */
char *ktls_report_text(const struct ktls_report *report, char *text);

/* ---- the hand-over ---------------------------------------------------------------------- */

enum ktls_mode {
	KTLS_OFF, /* both directions are ours, as before */
	KTLS_SEND, /* the kernel seals, we open */
	KTLS_BOTH,
};

/*
 * Hand a connection's records over, after its handshake and when all that we sealed is in the socket. To
 * receive there must be nothing of a record in our hands (record_may_give_open); else the kernel only sends.
 * *error (may be NULL): why it is less than KTLS_BOTH, else 0.
 */
enum ktls_mode ktls_start(
	const struct ktls_calls *calls, int fd, struct record *record, int *error);

/* ---- records that are not data ---------------------------------------------------------- */

#define KTLS_CONTENT_ALERT 21u
#define KTLS_CONTENT_HANDSHAKE 22u
#define KTLS_CONTENT_DATA 23u

/* Room for one control message; aligned for its header. */
union ktls_control {
	struct cmsghdr head;
	uint8_t bytes[CMSG_SPACE(sizeof(uint8_t))];
};
/* What message sends becomes one record of this content type; control lives as long as message. */
void ktls_control_set(struct msghdr *message, union ktls_control *control, uint8_t content);
/* The content type of what recvmsg has brought: KTLS_CONTENT_DATA where the kernel names none, -EPROTO
 * where its word was cut off or makes no sense. */
int ktls_control_get(struct msghdr *message);

#endif
