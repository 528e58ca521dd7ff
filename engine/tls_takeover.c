/*
 * From OpenSSL's record layer to ours, unless PH_HUB_TLS_OPENSSL says otherwise.
 *
 * OpenSSL tells a handshake's secrets line by line in the form of SSLKEYLOGFILE. The two of the
 * application's traffic are kept until both are known and the handshake is done; then they move into a
 * struct record and the SSL object goes. At that moment no record of application data has been sent or
 * read under them: without tickets and early data the first one comes after the handshake returned, and
 * OpenSSL reads record by record from our slice, so nothing of the next one lies in its buffers.
 * SSL_has_pending is asked all the same; when it says yes, OpenSSL goes on.
 */
#include "engine/tls_parts.h"

#include "engine/check.h"
#include "engine/memory.h"

#include <openssl/crypto.h>

#include <string.h>

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* Exactly RECORD_SECRET_BYTES as hexadecimal digits. */
static bool parse_secret(const char *text, uint8_t *secret)
{
	if (strlen(text) != 2 * RECORD_SECRET_BYTES)
		return false;
	for (size_t index = 0; index < RECORD_SECRET_BYTES; index++) {
		int high = hex_digit(text[2 * index]), low = hex_digit(text[2 * index + 1]);

		if (high < 0 || low < 0)
			return false;
		secret[index] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* "<label> <client random> <secret>", the latter two hexadecimal. */
void tls_on_secret(const SSL *ssl, const char *line)
{
	static const char *const labels[2] = {
		[TLS_CLIENT] = "CLIENT_TRAFFIC_SECRET_0 ",
		[TLS_SERVER] = "SERVER_TRAFFIC_SECRET_0 ",
	};
	BIO *bio = SSL_get_rbio(ssl);
	struct tls_shard *shard;
	const char *last = strrchr(line, ' ');
	struct tls *tls;

	/* During the handshake OpenSSL chains a buffer to the write side only. */
	shard = bio != NULL ? BIO_get_data(bio) : NULL;
	tls = shard != NULL ? shard->current : NULL;
	if (tls == NULL || last == NULL)
		return;
	for (int role = TLS_CLIENT; role <= TLS_SERVER; role++) {
		if (strncmp(line, labels[role], strlen(labels[role])) != 0)
			continue;
		if (tls->secrets == NULL)
			tls->secrets = memory_zalloc(sizeof(*tls->secrets));
		if (tls->secrets != NULL)
			tls->secrets->is_known[role] =
				parse_secret(last + 1, tls->secrets->secret[role]);
	}
}

void tls_secrets_drop(struct tls *tls)
{
	if (tls->secrets == NULL)
		return;
	OPENSSL_cleanse(tls->secrets, sizeof(*tls->secrets));
	memory_free(tls->secrets);
	tls->secrets = NULL;
}

static bool find_suite(const SSL *ssl, enum record_suite *suite)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);

	switch (cipher != NULL ? SSL_CIPHER_get_protocol_id(cipher) : 0) {
	case 0x1301:
		*suite = RECORD_AES_128_GCM;
		return true;
	case 0x1303:
		*suite = RECORD_CHACHA20_POLY1305;
		return true;
	default:
		return false;
	}
}

bool tls_take_over(struct tls *tls)
{
	const struct tls_secrets *secrets = tls->secrets;
	struct record_options options = {
		.is_server = tls->role == TLS_SERVER,
		.records_per_key = tls->shard->records_per_key,
	};
	int peer = tls->role == TLS_SERVER ? TLS_CLIENT : TLS_SERVER;

	if (tls->shard->records == NULL || secrets == NULL || !secrets->is_known[TLS_CLIENT] ||
		!secrets->is_known[TLS_SERVER] || SSL_has_pending(tls->ssl) == 1 ||
		!find_suite(tls->ssl, &options.suite))
		return false;
	options.secret_read = secrets->secret[peer];
	options.secret_write = secrets->secret[tls->role];
	if (record_create(tls->shard->records, &options, &tls->record) < 0)
		return false;
	tls_secrets_drop(tls);
	SSL_free(tls->ssl);
	tls->ssl = NULL;
	return true;
}
