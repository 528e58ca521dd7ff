/* TLS over the caller's own reads and writes; see session.h. */
#include "bench/peers/session.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>

struct session {
	SSL *ssl;
	const uint8_t *in; /* what OpenSSL may still read in this call */
	size_t in_bytes;
	uint8_t *out; /* SESSION_OUT_BYTES of the caller, in this call only */
	size_t out_bytes;
};

static BIO_METHOD *session_method;
/* One thread, one call at a time: decrypted bytes wait here until they are encrypted again. */
static uint8_t plain[SESSION_PLAIN_BYTES];

static int session_bio_read(BIO *bio, char *data, size_t bytes, size_t *got)
{
	struct session *session = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (session->in_bytes == 0) {
		BIO_set_retry_read(bio);
		return 0;
	}
	*got = bytes < session->in_bytes ? bytes : session->in_bytes;
	memcpy(data, session->in, *got);
	session->in += *got;
	session->in_bytes -= *got;
	return 1;
}

static int session_bio_write(BIO *bio, const char *data, size_t bytes, size_t *put)
{
	struct session *session = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (session->out == NULL || bytes > SESSION_OUT_BYTES - session->out_bytes)
		return 0; /* more than an echo can need */
	memcpy(session->out + session->out_bytes, data, bytes);
	session->out_bytes += bytes;
	*put = bytes;
	return 1;
}

static long session_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

int session_init(void)
{
	session_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "turn");
	if (session_method == NULL || BIO_meth_set_read_ex(session_method, session_bio_read) != 1 ||
		BIO_meth_set_write_ex(session_method, session_bio_write) != 1 ||
		BIO_meth_set_ctrl(session_method, session_bio_ctrl) != 1)
		return -1;
	return 0;
}

void session_fini(void)
{
	BIO_meth_free(session_method);
	session_method = NULL;
}

struct session *session_create(SSL_CTX *context)
{
	struct session *session = calloc(1, sizeof(*session));
	BIO *bio = BIO_new(session_method);

	if (session != NULL)
		session->ssl = SSL_new(context);
	if (session == NULL || bio == NULL || session->ssl == NULL) {
		BIO_free(bio);
		session_destroy(session);
		return NULL;
	}
	BIO_set_data(bio, session);
	BIO_set_init(bio, 1);
	SSL_set_bio(session->ssl, bio, bio);
	SSL_set_accept_state(session->ssl);
	return session;
}

void session_destroy(struct session *session)
{
	if (session == NULL)
		return;
	SSL_free(session->ssl);
	free(session);
}

/* Encrypt what was gathered. */
static bool session_write(struct session *session, size_t bytes)
{
	size_t done = 0, written;

	while (done < bytes) {
		if (SSL_write_ex(session->ssl, plain + done, bytes - done, &written) != 1)
			return false;
		done += written;
	}
	return true;
}

enum session_state session_echo(struct session *session, const uint8_t *in, size_t in_bytes,
	uint8_t *out, size_t *out_bytes)
{
	enum session_state state = SESSION_GOES_ON;
	size_t gathered = 0, got;

	session->in = in;
	session->in_bytes = in_bytes;
	session->out = out;
	session->out_bytes = 0;
	ERR_clear_error();
	/* SSL_read runs the handshake, too. The decrypted bytes are fewer than the received ones. */
	while (SSL_read_ex(session->ssl, plain + gathered, sizeof(plain) - gathered, &got) == 1)
		gathered += got;
	switch (SSL_get_error(session->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
		break;
	case SSL_ERROR_ZERO_RETURN:
		state = SESSION_ENDED;
		break;
	default:
		state = SESSION_BROKEN;
		break;
	}
	if (state != SESSION_BROKEN && !session_write(session, gathered))
		state = SESSION_BROKEN;
	if (state == SESSION_ENDED && SSL_shutdown(session->ssl) < 0)
		ERR_clear_error(); /* it closes all the same */
	session->out = NULL;
	*out_bytes = session->out_bytes;
	return state;
}

size_t session_goodbye(struct session *session, uint8_t *out)
{
	if (!SSL_is_init_finished(session->ssl))
		return 0;
	session->in_bytes = 0;
	session->out = out;
	session->out_bytes = 0;
	if (SSL_shutdown(session->ssl) < 0)
		ERR_clear_error();
	session->out = NULL;
	return session->out_bytes;
}
