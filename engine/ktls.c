/*
 * kTLS; see ktls.h.
 *
 * The order of the hand-over: the ULP first (a socket with it and without keys is a plain TCP socket
 * still, so nothing is lost where the next step fails), then sending, then receiving. Each direction's
 * key leaves our record layer only after the kernel has taken it.
 */
#include "engine/ktls.h"

#include "engine/check.h"
#include "peerhub.h"

#include <openssl/crypto.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

static_assert(KTLS_TEXT_BYTES <= PH_WHY_BYTES, "a line of why");
static_assert(sizeof(struct tls12_crypto_info_aes_gcm_128) == 40, "the kernel's structure");
static_assert(sizeof(struct tls12_crypto_info_chacha20_poly1305) == 56, "the kernel's structure");

static int kernel_set(
	void *context, int fd, int level, int option, const void *value, socklen_t bytes)
{
	(void)context;
	return setsockopt(fd, level, option, value, bytes) == 0 ? 0 : -errno;
}

const struct ktls_calls ktls_kernel = {.set = kernel_set};

static int ulp_set(const struct ktls_calls *calls, int fd)
{
	int status = calls->set(calls->context, fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls") - 1);

	return status == -EEXIST ? 0 : status; /* it has it already */
}

static int key_set(
	const struct ktls_calls *calls, int fd, int option, const struct record_keys *keys)
{
	struct ktls_crypto crypto;
	int status;

	ktls_crypto_fill(keys, &crypto);
	status = calls->set(calls->context, fd, SOL_TLS, option, &crypto.info, crypto.bytes);
	ktls_crypto_wipe(&crypto);
	return status;
}

/* ---- keys ------------------------------------------------------------------------------- */

void ktls_crypto_fill(const struct record_keys *keys, struct ktls_crypto *crypto)
{
	uint8_t sequence[8];

	for (int at = 0; at < 8; at++)
		sequence[at] = (uint8_t)(keys->sequence >> (56 - 8 * at));
	memset(crypto, 0, sizeof(*crypto));
	crypto->info.version = TLS_1_3_VERSION;
	if (keys->suite == RECORD_AES_128_GCM) {
		crypto->info.cipher_type = TLS_CIPHER_AES_GCM_128;
		memcpy(crypto->aes.salt, keys->iv, sizeof(crypto->aes.salt));
		memcpy(crypto->aes.iv, keys->iv + sizeof(crypto->aes.salt), sizeof(crypto->aes.iv));
		memcpy(crypto->aes.key, keys->key, sizeof(crypto->aes.key));
		memcpy(crypto->aes.rec_seq, sequence, sizeof(sequence));
		crypto->bytes = sizeof(crypto->aes);
	} else {
		assert(keys->suite == RECORD_CHACHA20_POLY1305);
		crypto->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
		memcpy(crypto->chacha.iv, keys->iv, sizeof(crypto->chacha.iv));
		memcpy(crypto->chacha.key, keys->key, sizeof(crypto->chacha.key));
		memcpy(crypto->chacha.rec_seq, sequence, sizeof(sequence));
		crypto->bytes = sizeof(crypto->chacha);
	}
}

void ktls_crypto_wipe(struct ktls_crypto *crypto)
{
	OPENSSL_cleanse(crypto, sizeof(*crypto));
}

/* ---- what the kernel can ---------------------------------------------------------------- */

/* Two ends of a connection over loopback: the kernel takes the ULP on an established one only. 0 or
 * -errno. */
static int pair_open(int ends[2])
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ends[1] = -1;
	if (listener >= 0 && ends[0] >= 0 &&
		bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
		listen(listener, 1) == 0 &&
		getsockname(listener, (struct sockaddr *)&address, &bytes) == 0 &&
		connect(ends[0], (const struct sockaddr *)&address, sizeof(address)) == 0)
		ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	error = errno;
	if (listener >= 0)
		close(listener);
	if (ends[1] >= 0)
		return 0;
	if (ends[0] >= 0)
		close(ends[0]);
	return -error;
}

/* One suite on a connection of its own: where it ends. */
static enum ktls_step suite_probe(
	const struct ktls_calls *calls, enum record_suite suite, int *error)
{
	const struct record_keys keys = {.suite = suite}; /* no secret: nothing is sent under it */
	int ends[2];
	enum ktls_step step = KTLS_STEP_SOCKET;

	*error = pair_open(ends);
	if (*error < 0)
		return step;
	step = KTLS_STEP_ULP;
	*error = ulp_set(calls, ends[0]);
	if (*error == 0) {
		step = KTLS_STEP_SEND;
		*error = key_set(calls, ends[0], TLS_TX, &keys);
	}
	if (*error == 0) {
		step = KTLS_STEP_RECEIVE;
		*error = key_set(calls, ends[0], TLS_RX, &keys);
	}
	if (*error == 0) {
		step = KTLS_STEP_REKEY;
		*error = key_set(calls, ends[0], TLS_TX, &keys);
	}
	close(ends[0]);
	close(ends[1]);
	return *error == 0 ? KTLS_STEP_DONE : step;
}

bool ktls_probe(const struct ktls_calls *calls, struct ktls_report *report)
{
	*report = (struct ktls_report){.step = KTLS_STEP_DONE};
	for (int suite = 0; suite < RECORD_SUITE_COUNT; suite++) {
		int error;
		enum ktls_step step = suite_probe(calls, (enum record_suite)suite, &error);

		report->has_suite[suite] = step >= KTLS_STEP_REKEY;
		if (step < report->step) {
			report->step = step;
			report->error = error;
		}
	}
	return report->step == KTLS_STEP_DONE;
}

char *ktls_report_text(const struct ktls_report *report, char *text)
{
	static const char *const places[] = {
		[KTLS_STEP_SOCKET] = "no connection to try kTLS on",
		[KTLS_STEP_ULP] = "this kernel has no kTLS (TCP_ULP",
		[KTLS_STEP_SEND] = "this kernel's kTLS lacks a suite (TLS_TX",
		[KTLS_STEP_RECEIVE] = "this kernel's kTLS lacks a suite (TLS_RX",
		[KTLS_STEP_REKEY] = "this kernel's kTLS cannot change keys (before 6.14",
	};

	if (report->step == KTLS_STEP_DONE)
		snprintf(text, KTLS_TEXT_BYTES, "this kernel can");
	else
		snprintf(text, KTLS_TEXT_BYTES, "%s%s%s%s", places[report->step],
			report->step == KTLS_STEP_SOCKET ? " (" : ": ", strerror(-report->error),
			")");
	return text;
}

int ph_kernel_tls(char *why)
{
	struct ktls_report report;
	char text[KTLS_TEXT_BYTES];
	bool is_whole = ktls_probe(&ktls_kernel, &report);

	if (why != NULL)
		snprintf(why, PH_WHY_BYTES, "%s", ktls_report_text(&report, text));
	return is_whole ? 0 : report.error;
}

/* ---- the hand-over ---------------------------------------------------------------------- */

/* Give one direction's keys away. 0 or -errno: it stays ours. */
static int direction_start(
	const struct ktls_calls *calls, int fd, int option, struct record *record)
{
	bool is_send = option == TLS_TX;
	struct record_keys keys;
	int status;

	if (is_send)
		record_keys_seal(record, &keys);
	else
		record_keys_open(record, &keys);
	status = key_set(calls, fd, option, &keys);
	OPENSSL_cleanse(&keys, sizeof(keys));
	if (status < 0)
		return status;
	if (is_send)
		record_give_seal(record);
	else
		record_give_open(record);
	return 0;
}

enum ktls_mode ktls_start(const struct ktls_calls *calls, int fd, struct record *record, int *error)
{
	enum ktls_mode mode = KTLS_OFF;
	int status;

	status = record_may_give_seal(record) ? ulp_set(calls, fd) : -EPROTO;
	if (status == 0)
		status = direction_start(calls, fd, TLS_TX, record);
	if (status == 0) {
		mode = KTLS_SEND;
		status = record_may_give_open(record) ? direction_start(calls, fd, TLS_RX, record)
						      : -EAGAIN;
	}
	if (status == 0)
		mode = KTLS_BOTH;
	if (error != NULL)
		*error = status;
	return mode;
}

/* ---- records that are not data ---------------------------------------------------------- */

void ktls_control_set(struct msghdr *message, union ktls_control *control, uint8_t content)
{
	memset(control, 0, sizeof(*control));
	control->head.cmsg_level = SOL_TLS;
	control->head.cmsg_type = TLS_SET_RECORD_TYPE;
	control->head.cmsg_len = CMSG_LEN(sizeof(content));
	memcpy(CMSG_DATA(&control->head), &content, sizeof(content));
	message->msg_control = control;
	message->msg_controllen = CMSG_SPACE(sizeof(content));
}

int ktls_control_get(struct msghdr *message)
{
	int content = KTLS_CONTENT_DATA;

	if (message->msg_flags & MSG_CTRUNC)
		return -EPROTO;
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
		head = CMSG_NXTHDR(message, head)) {
		if (head->cmsg_level != SOL_TLS || head->cmsg_type != TLS_GET_RECORD_TYPE)
			continue;
		if (head->cmsg_len != CMSG_LEN(sizeof(uint8_t)))
			return -EPROTO;
		content = *CMSG_DATA(head);
	}
	return content;
}
