/*
 * A connection's TLS, from its opening to its goodbye; see tls.h, and tls_parts.h for how OpenSSL is
 * entered.
 *
 * After the handshake an idle connection keeps its keys and little else: our own record layer takes
 * them over and OpenSSL's object goes, or, where OpenSSL stays (PH_HUB_TLS_OPENSSL),
 * the certificates,
 * the session and the connection's own BIO are given back in tls_settle.
 *
 * The error queue is empty whenever OpenSSL is entered, and what a callback of ours (or of those who
 * gave it to us) leaves there is taken away again, so an error found there is that call's own.
 */
#include "engine/tls_parts.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Measured (tests/engine/tls_test.c prints it): what OpenSSL holds for a connection beside us. */
#define TLS_IDLE_BYTES 12288u
#define TLS_HANDSHAKE_HELD_BYTES 49152u

/* ---- entering and leaving OpenSSL ------------------------------------------------------- */

static void tls_enter(struct tls *tls, struct chain *out)
{
	struct tls_shard *shard = tls->shard;

	assert(shard->current == NULL);
	shard->current = tls;
	shard->out = out;
	ERR_clear_error();
}

static void tls_leave(struct tls *tls)
{
	struct tls_shard *shard = tls->shard;

	assert(shard->current == tls);
	shard->current = NULL;
	shard->out = NULL;
	ERR_clear_error();
}

/* Still inside: reads the error queue. Returns TLS_FAILED or TLS_NO_MEMORY. */
static int tls_fail(struct tls *tls)
{
	unsigned long error = ERR_peek_error();

	if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE ||
		ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE)
		tls->is_out_of_memory = true;
	tls->error = error;
	tls->state = TLS_STATE_FAILED;
	return tls->is_out_of_memory ? TLS_NO_MEMORY : TLS_FAILED;
}

static int tls_failed_before(const struct tls *tls)
{
	return tls->is_out_of_memory ? TLS_NO_MEMORY : TLS_FAILED;
}

/* ---- a connection ----------------------------------------------------------------------- */

static int open_client(struct tls *tls, const struct ph_credentials *credentials, const char *sni)
{
	if (credentials == NULL)
		return -EINVAL;
	if (sni != NULL && sni[0] != 0) {
		if (strlen(sni) > PH_SNI_BYTES_MAX)
			return -EINVAL;
		if (SSL_set_tlsext_host_name(tls->ssl, sni) != 1)
			return -ENOMEM;
	}
	SSL_set_connect_state(tls->ssl);
	return tls_use_credentials(tls->shard, tls->ssl, credentials);
}

int tls_open(struct tls_shard *shard, enum tls_role role, struct ph_credentials *credentials,
	const char *sni, void *context, struct tls **made)
{
	struct tls *tls = memory_zalloc(sizeof(*tls));
	int status = -ENOMEM;
	BIO *bio;

	if (tls == NULL)
		return -ENOMEM;
	ERR_clear_error();
	tls->shard = shard;
	tls->role = role;
	tls->context = context;
	tls->ssl = SSL_new(shard->roles[role]);
	if (tls->ssl == NULL)
		goto undo;
	/* Its own until the handshake is done: OpenSSL chains a buffer to it until then. */
	bio = tls_bio_create(shard);
	if (bio == NULL)
		goto undo;
	SSL_set_bio(tls->ssl, bio, bio);
	if (role == TLS_SERVER) {
		SSL_set_accept_state(tls->ssl);
		status = 0;
	} else {
		status = open_client(tls, credentials, sni);
	}
	if (status < 0)
		goto undo;
	ERR_clear_error();
	*made = tls;
	return 0;

undo:
	ERR_clear_error();
	tls_destroy(tls);
	return status;
}

void tls_destroy(struct tls *tls)
{
	if (tls == NULL)
		return;
	assert(tls->shard->current == NULL);
	SSL_free(tls->ssl);
	record_destroy(tls->record);
	tls_secrets_drop(tls);
	tls_resume_drop(tls);
	memory_free(tls);
}

void tls_input(struct tls *tls, const uint8_t *data, size_t bytes)
{
	assert(tls->input_left == 0);
	assert(data != NULL || bytes == 0);
	tls->input = data;
	tls->input_left = bytes;
}

size_t tls_input_left(const struct tls *tls)
{
	return tls->input_left;
}

void tls_input_drop(struct tls *tls)
{
	tls->input = NULL;
	tls->input_left = 0;
}

/*
 * The handshake is done: give back what only it needed. The peer's certificates hang on the session,
 * ours on the CERT, and of both nothing is used any more: there is no resumption, and the traffic keys
 * are elsewhere. A failure to give back is no failure of the connection.
 */
static void tls_settle(struct tls *tls)
{
	struct tls_shard *shard = tls->shard;
	STACK_OF(X509) *peers = SSL_get_peer_cert_chain(tls->ssl);
	SSL *settled = tls_settled_find(shard, tls->role, tls->ssl);

	tls_secrets_drop(tls);
	tls->post_debt = 0;
	while (sk_X509_num(peers) > 0)
		X509_free(sk_X509_pop(peers));
	SSL_certs_clear(tls->ssl);
	(void)SSL_set_alpn_protos(tls->ssl, NULL, 0);
	if (settled != NULL && SSL_set_SSL_CTX(tls->ssl, SSL_get_SSL_CTX(settled)) != NULL)
		(void)SSL_copy_session_id(tls->ssl, settled);
	if (BIO_up_ref(shard->bio) == 1)
		SSL_set_bio(tls->ssl, shard->bio, shard->bio);
}

/* Inside: what a call that made no progress means. 0: go on, there is input. */
static int tls_result(struct tls *tls, int returned)
{
	switch (SSL_get_error(tls->ssl, returned)) {
	case SSL_ERROR_WANT_READ:
		if (tls->is_input_blocked)
			return tls_fail(tls);
		return tls->input_left > 0 && !tls->is_step_over ? 0 : TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	case SSL_ERROR_SYSCALL:
		/* After our close_notify OpenSSL drops a message of the peer and says it so. */
		if (tls->has_goodbye && !tls->is_input_blocked && !tls->is_out_of_memory &&
			ERR_peek_error() == 0)
			return tls->input_left > 0 ? 0 : TLS_AGAIN;
		return tls_fail(tls);
	default:
		return tls_fail(tls);
	}
}

static int handshake_go(struct tls *tls, struct chain *out)
{
	int status = 0, returned;

	if (tls->state == TLS_STATE_OPEN)
		return 0;
	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	tls_enter(tls, out);
	do {
		ERR_clear_error();
		returned = SSL_do_handshake(tls->ssl);
		if (returned != 1)
			status = tls_result(tls, returned);
		/* WANT_READ with input left means that a record was used up: this ends. */
	} while (returned != 1 && status == 0);
	if (status == TLS_CLOSED) {
		tls_note_failure(tls, "closed during the handshake");
		status = tls_fail(tls);
	}
	if (returned == 1) {
		status = 0;
		if (tls_is_protocol_ours(tls->ssl)) {
			tls->state = TLS_STATE_OPEN;
			tls->is_resumed = tls_resume_was_used(tls);
			tls_resume_drop(tls);
			if (!tls_take_over(tls))
				tls_settle(tls);
		} else {
			tls_note_failure(tls, "application protocol not offered");
			status = tls_fail(tls);
		}
	}
	tls_leave(tls);
	return status;
}

int tls_handshake_step(struct tls *tls, struct chain *out)
{
	int status;

	tls->step_bytes = 0;
	tls->is_stepping = true;
	status = handshake_go(tls, out);
	tls->is_stepping = tls->is_step_over = false;
	return status;
}

int tls_handshake(struct tls *tls, struct chain *out)
{
	return handshake_go(tls, out);
}

bool tls_is_resumed(const struct tls *tls)
{
	return tls->is_resumed;
}

int tls_verify_refused(const struct tls *tls)
{
	return tls->refused;
}

/* Inside: a KeyUpdate that asked for ours. Once for any number of them. */
static int answer_key_update(struct tls *tls)
{
	if (tls->has_goodbye || SSL_get_key_update_type(tls->ssl) == SSL_KEY_UPDATE_NONE)
		return 0;
	ERR_clear_error();
	/* Left to itself OpenSSL waits for the next write; asked once more it goes now. */
	if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
		SSL_do_handshake(tls->ssl) == 1) {
		tls->records_written = 0;
		return 0;
	}
	return tls_fail(tls);
}

/* What our record layer says of its last call; its codes are those of this file. */
static ssize_t record_result(struct tls *tls, ssize_t result)
{
	int alert = record_alert_sent(tls->record);

	tls->alert_sent = (uint8_t)(alert + 1);
	if (result != RECORD_FAILED && result != RECORD_NO_MEMORY)
		return result;
	alert = record_alert_received(tls->record);
	tls->alert_received = (uint8_t)(alert + 1);
	tls->failure = record_failure(tls->record);
	tls->is_out_of_memory = result == RECORD_NO_MEMORY;
	tls->state = TLS_STATE_FAILED;
	return result;
}

static ssize_t read_record(struct tls *tls, uint8_t *data, size_t bytes, struct chain *out)
{
	struct record_input input = {.data = tls->input, .bytes = tls->input_left};
	ssize_t result = record_read(tls->record, &input, data, bytes, out);

	tls->input = input.data;
	tls->input_left = input.bytes;
	return record_result(tls, result);
}

ssize_t tls_read(struct tls *tls, uint8_t *data, size_t bytes, struct chain *out)
{
	size_t done = 0;
	int status = 0, answered, returned;

	assert(bytes > 0);
	assert(tls->state != TLS_STATE_HANDSHAKE);
	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	if (tls->record != NULL)
		return read_record(tls, data, bytes, out);
	tls_enter(tls, out);
	do {
		ERR_clear_error();
		returned = SSL_read_ex(tls->ssl, data, bytes, &done);
		if (returned != 1)
			status = tls_result(tls, returned);
	} while (returned != 1 && status == 0);
	if (returned == 1)
		tls->post_debt = record_post_paid(tls->post_debt, done);
	if (tls->state == TLS_STATE_OPEN) {
		answered = answer_key_update(tls);
		if (answered < 0)
			status = answered;
	}
	tls_leave(tls);
	return status < 0 ? status : (ssize_t)done;
}

/* Inside: change our own key in time. */
static int count_records(struct tls *tls, size_t bytes)
{
	tls->records_written += (bytes + TLS_RECORD_BYTES_MAX - 1) / TLS_RECORD_BYTES_MAX;
	if (tls->records_written < tls->shard->records_per_key)
		return 1;
	tls->records_written = 0;
	return SSL_key_update(
		tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); /* goes with the next write */
}

int tls_write(struct tls *tls, const uint8_t *data, size_t bytes, struct chain *out)
{
	size_t done = 0;
	int status = 0;

	assert(tls->state != TLS_STATE_HANDSHAKE);
	assert(!tls->has_goodbye);
	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	if (bytes == 0)
		return 0;
	if (tls->record != NULL)
		return (int)record_result(tls, record_write(tls->record, data, bytes, out));
	tls_enter(tls, out);
	/* Without partial writes all of it goes out, as our BIO never asks for a retry. */
	if (SSL_write_ex(tls->ssl, data, bytes, &done) != 1 || done != bytes)
		status = tls_fail(tls);
	else if (count_records(tls, bytes) != 1)
		status = tls_fail(tls);
	tls_leave(tls);
	return status;
}

int tls_goodbye(struct tls *tls, struct chain *out)
{
	int status = 0;

	if (tls->state == TLS_STATE_FAILED)
		return tls_failed_before(tls);
	if (tls->state == TLS_STATE_HANDSHAKE)
		return TLS_FAILED; /* there are no keys to say it with */
	if (tls->has_goodbye)
		return 0;
	if (tls->record != NULL) {
		status = (int)record_result(tls, record_goodbye(tls->record, out));
		tls->has_goodbye = status == 0;
		return status;
	}
	tls_enter(tls, out);
	if (SSL_shutdown(tls->ssl) < 0)
		status = tls_fail(tls);
	else
		tls->has_goodbye = true;
	tls_leave(tls);
	return status;
}

/* ---- telling ---------------------------------------------------------------------------- */

static const char *failure_reason(const struct tls *tls)
{
	const char *reason;

	if (tls->is_out_of_memory)
		return "out of memory";
	if (tls->failure != NULL)
		return tls->failure;
	reason = tls->error != 0 ? ERR_reason_error_string(tls->error) : NULL;
	if (reason != NULL)
		return reason;
	return tls->state == TLS_STATE_FAILED ? "TLS failed" : "";
}

/* OpenSSL 3.0 does not know the names of the alerts that TLS 1.3 brought. */
static const char *alert_name(int alert)
{
	switch (alert) {
	case SSL_AD_MISSING_EXTENSION:
		return "missing extension";
	case SSL_AD_CERTIFICATE_REQUIRED:
		return "certificate required";
	default:
		return SSL_alert_desc_string_long(alert);
	}
}

void tls_failure_text(const struct tls *tls, char *text, size_t bytes)
{
	const char *reason = failure_reason(tls);

	if (bytes == 0)
		return;
	if (tls->alert_received > 0)
		snprintf(text, bytes, "%s (alert received: %s)", reason,
			alert_name(tls->alert_received - 1));
	else if (tls->alert_sent > 0)
		snprintf(text, bytes, "%s (alert sent: %s)", reason,
			alert_name(tls->alert_sent - 1));
	else
		snprintf(text, bytes, "%s", reason);
}

size_t tls_bytes_estimate(const struct tls *tls)
{
	if (tls->record != NULL)
		return sizeof(*tls) + record_bytes(tls->record);
	return sizeof(*tls) +
		(tls->state == TLS_STATE_HANDSHAKE ? TLS_HANDSHAKE_HELD_BYTES : TLS_IDLE_BYTES);
}
