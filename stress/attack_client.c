/* Attackers; see attack_client.h. */
#include "attack_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#define HEADER_BYTES 8u
#define PT2PT_BYTES 28u
#define RECORD_BYTES_MAX 16640u
#define TAG_BYTES 16u

enum {
	SECRET_APPLICATION,
	SECRET_HANDSHAKE,
};

const char *client_end_name(enum client_end end)
{
	static const char *const names[] = {"still open", "FIN", "reset"};

	return names[end];
}

/* ---- sockets ----------------------------------------------------------------------------- */

/* Addresses are IPv4-mapped where they are IPv4; a socket of that family leaves the others free. */
static int socket_connect(const ph_address *to, int flags)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = to->sin6_port};
	bool is_four = IN6_IS_ADDR_V4MAPPED(&to->sin6_addr);
	int fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	int status;

	if (fd < 0)
		return -1;
	memcpy(&four.sin_addr, &to->sin6_addr.s6_addr[12], 4);
	status = is_four ? connect(fd, (struct sockaddr *)&four, sizeof(four))
			 : connect(fd, (const struct sockaddr *)to, sizeof(*to));
	if (status < 0 && errno != EINPROGRESS) {
		status = errno;
		close(fd);
		errno = status;
		return -1;
	}
	return fd;
}

int client_socket(const ph_address *to)
{
	const struct timeval limit = {.tv_sec = CLIENT_WAIT_S};
	int fd = socket_connect(to, 0), one = 1;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void client_socket_reset(int fd)
{
	const struct linger linger = {1, 0};

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
		shutdown(fd, SHUT_RDWR); /* never refused for a TCP socket; then at least a FIN */
	close(fd);
}

bool client_open(struct client *client, const ph_address *to)
{
	memset(client, 0, sizeof(*client));
	client->fd = client_socket(to);
	return client->fd >= 0;
}

void client_close(struct client *client)
{
	SSL_free(client->ssl);
	client->ssl = NULL;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

void client_abort(struct client *client)
{
	if (client->fd >= 0)
		client_socket_reset(client->fd);
	client->fd = -1;
	client_close(client);
}

/* ---- TLS --------------------------------------------------------------------------------- */

static int from_hex(char digit)
{
	return digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

/* "LABEL <client random> <secret>", in hex. */
static void on_keylog(const SSL *ssl, const char *line)
{
	struct client *client = SSL_get_app_data(ssl);
	const char *secret = strrchr(line, ' ');
	int which;

	if (client == NULL || secret == NULL || strlen(secret + 1) != 64)
		return;
	if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
		which = SECRET_APPLICATION;
	else if (strncmp(line, "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", 32) == 0)
		which = SECRET_HANDSHAKE;
	else
		return;
	for (int i = 0; i < 32; i++)
		client->secret[which][i] =
			(uint8_t)(from_hex(secret[1 + 2 * i]) << 4 | from_hex(secret[2 + 2 * i]));
	client->has_secret[which] = true;
}

bool client_handshake(struct client *client, SSL *ssl, const char *sni)
{
	int done;

	client->ssl = ssl;
	if (ssl == NULL)
		return false;
	SSL_set_app_data(ssl, client);
	done = SSL_set_fd(ssl, client->fd) == 1 && SSL_set_tlsext_host_name(ssl, sni) == 1 &&
		SSL_connect(ssl) == 1;
	ERR_clear_error();
	return done;
}

bool client_secure(struct client *client, SSL_CTX *context)
{
	SSL_CTX_set_keylog_callback(context, on_keylog);
	return client_handshake(client, SSL_new(context), ATTACK_SNI);
}

size_t client_hello_make(SSL_CTX *context, uint8_t *out, size_t bytes_max)
{
	SSL *ssl = SSL_new(context);
	BIO *in = BIO_new(BIO_s_mem()), *sent = BIO_new(BIO_s_mem());
	int bytes = 0;

	if (ssl != NULL && in != NULL && sent != NULL) {
		SSL_set_bio(ssl, in, sent); /* owns both now */
		if (SSL_set_tlsext_host_name(ssl, ATTACK_SNI) == 1 && SSL_connect(ssl) <= 0)
			bytes = BIO_read(sent, out, (int)bytes_max);
	} else {
		BIO_free(in);
		BIO_free(sent);
	}
	SSL_free(ssl);
	ERR_clear_error();
	return bytes > 0 ? (size_t)bytes : 0;
}

/* ---- reading and writing ----------------------------------------------------------------- */

bool client_write_raw(struct client *client, const void *data, size_t bytes)
{
	const uint8_t *at = data;

	while (bytes > 0) {
		ssize_t sent = send(client->fd, at, bytes, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		at += sent;
		bytes -= (size_t)sent;
	}
	return true;
}

bool client_write(struct client *client, const void *data, size_t bytes)
{
	size_t written;
	int status;

	if (client->ssl == NULL)
		return client_write_raw(client, data, bytes);
	status = SSL_write_ex(client->ssl, data, bytes, &written);
	ERR_clear_error();
	return status == 1;
}

ssize_t client_read(struct client *client, void *data, size_t bytes)
{
	size_t got = 0;
	int status;

	if (client->ssl == NULL)
		return recv(client->fd, data, bytes, 0);
	status = SSL_read_ex(client->ssl, data, bytes, &got);
	if (status != 1)
		status = SSL_get_error(client->ssl, status) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
	ERR_clear_error();
	return status == 1 ? (ssize_t)got : status;
}

enum client_end client_wait_end(struct client *client)
{
	uint8_t waste[16384];
	ssize_t got;

	do {
		got = recv(client->fd, waste, sizeof(waste), 0);
	} while (got > 0);
	if (got == 0)
		return CLIENT_FIN;
	return errno == EAGAIN || errno == EWOULDBLOCK ? CLIENT_STILL_OPEN : CLIENT_RESET;
}

/* ---- messages ---------------------------------------------------------------------------- */

static void put_u32(uint8_t *out, size_t value)
{
	const uint32_t big = htonl((uint32_t)value);

	memcpy(out, &big, 4);
}

static void header_write(uint8_t *out, size_t bytes, uint8_t type)
{
	memset(out, 0, HEADER_BYTES);
	put_u32(out, bytes);
	out[4] = 0x10;
	out[5] = type;
}

/* Direct, any destination. */
size_t client_auth_info(uint8_t *out, const char *group, const char *source)
{
	size_t group_bytes = strlen(group) + 1, source_bytes = strlen(source) + 1;
	size_t total = 16 + group_bytes + source_bytes;

	header_write(out, total, 1);
	out[8] = 2;
	out[9] = 0;
	out[10] = 0;
	out[11] = 16;
	out[12] = (uint8_t)((16 + group_bytes) >> 8);
	out[13] = (uint8_t)(16 + group_bytes);
	out[14] = (uint8_t)(total >> 8);
	out[15] = (uint8_t)total;
	memcpy(out + 16, group, group_bytes);
	memcpy(out + 16 + group_bytes, source, source_bytes);
	return total;
}

size_t client_connect_message(uint8_t *out, uint64_t node_id)
{
	header_write(out, 24, 2);
	memset(out + 8, 0, 16);
	out[8] = 4;
	out[11] = 24;
	out[13] = 24;
	for (int i = 0; i < 8; i++)
		out[16 + i] = (uint8_t)(node_id >> (56 - 8 * i));
	return 24;
}

size_t client_message(uint8_t *out, const void *data, size_t bytes)
{
	header_write(out, PT2PT_BYTES + bytes, 13);
	out[8] = 0;
	out[9] = PT2PT_BYTES;
	out[10] = out[11] = 0;
	memset(out + 12, 't', 16);
	if (bytes > 0)
		memcpy(out + PT2PT_BYTES, data, bytes);
	return PT2PT_BYTES + bytes;
}

/* {0CCBB0D2-BE41-4BD6-914B-058EC5DCCE64}, in the order in which the wire has types. */
size_t client_ping(uint8_t *out)
{
	static const uint8_t type[16] = {0x0c, 0xcb, 0xb0, 0xd2, 0xbe, 0x41, 0x4b, 0xd6, 0x91, 0x4b,
		0x05, 0x8e, 0xc5, 0xdc, 0xce, 0x64};

	(void)client_message(out, NULL, 0);
	memcpy(out + 12, type, sizeof(type));
	return PT2PT_BYTES;
}

bool client_greet_group(struct client *client, const char *group, const char *source)
{
	uint8_t message[2 * CLIENT_MESSAGE_BYTES_MAX], answer[4096];
	size_t bytes = client_auth_info(message, group, source), have = 0;

	bytes += client_connect_message(message + bytes, 77);
	if (!client_write(client, message, bytes))
		return false;
	while (have < HEADER_BYTES) {
		ssize_t got = client_read(client, answer + have, sizeof(answer) - have);

		if (got <= 0)
			return false;
		have += (size_t)got;
	}
	return answer[5] == 3;
}

bool client_greet(struct client *client, const char *source)
{
	return client_greet_group(client, ATTACK_GROUP, source);
}

bool client_enter(struct client *client, const ph_address *to, SSL_CTX *context, const char *source)
{
	return client_open(client, to) && (context == NULL || client_secure(client, context)) &&
		client_greet(client, source);
}

/* ---- records by hand: RFC 8446 sections 5.2, 5.3, 7.1 ------------------------------------- */

/* HKDF-Expand-Label with an empty context, one block of SHA-256. */
static bool expand_label(
	const uint8_t secret[32], const char *label, uint8_t *out, size_t out_bytes)
{
	uint8_t info[64];
	size_t label_bytes = strlen(label), size = out_bytes;
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	bool is_done;

	info[0] = 0;
	info[1] = (uint8_t)out_bytes;
	info[2] = (uint8_t)(6 + label_bytes);
	memcpy(info + 3, "tls13 ", 6);
	memcpy(info + 9, label, label_bytes);
	info[9 + label_bytes] = 0;
	is_done = context != NULL && EVP_PKEY_derive_init(context) == 1 &&
		EVP_PKEY_CTX_set_hkdf_mode(context, EVP_PKEY_HKDEF_MODE_EXPAND_ONLY) == 1 &&
		EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) == 1 &&
		EVP_PKEY_CTX_set1_hkdf_key(context, secret, 32) == 1 &&
		EVP_PKEY_CTX_add1_hkdf_info(context, info, (int)(10 + label_bytes)) == 1 &&
		EVP_PKEY_derive(context, out, &size) == 1;
	EVP_PKEY_CTX_free(context);
	return is_done;
}

/* The records that OpenSSL has sealed are not counted: begin before the first of them. */
bool client_seal_begin(struct client *client, struct client_key *key)
{
	key->sequence = 0;
	return client->has_secret[SECRET_APPLICATION] &&
		expand_label(client->secret[SECRET_APPLICATION], "key", key->key, 16) &&
		expand_label(client->secret[SECRET_APPLICATION], "iv", key->iv, 12);
}

bool client_seal(struct client *client, struct client_key *key, uint8_t type, const void *data,
	size_t bytes, size_t padding)
{
	size_t inner_bytes = bytes + 1 + padding, sealed = inner_bytes + TAG_BYTES;
	uint8_t *record = calloc(1, 5 + sealed), *inner = calloc(1, inner_bytes), nonce[12];
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	int out = 0, last = 0;
	bool is_done = false;

	if (record == NULL || inner == NULL || cipher == NULL)
		goto undo;
	if (bytes > 0)
		memcpy(inner, data, bytes);
	inner[bytes] = type;
	memcpy(record, (uint8_t[]){23, 3, 3, (uint8_t)(sealed >> 8), (uint8_t)sealed}, 5);
	memcpy(nonce, key->iv, sizeof(nonce));
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(key->sequence >> (56 - 8 * i));
	is_done = EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key->key, nonce) == 1 &&
		EVP_EncryptUpdate(cipher, NULL, &out, record, 5) == 1 &&
		EVP_EncryptUpdate(cipher, record + 5, &out, inner, (int)inner_bytes) == 1 &&
		EVP_EncryptFinal_ex(cipher, record + 5 + out, &last) == 1 &&
		EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, (int)TAG_BYTES,
			record + 5 + inner_bytes) == 1;
	key->sequence++;
	is_done = is_done && client_write_raw(client, record, 5 + sealed);
undo:
	EVP_CIPHER_CTX_free(cipher);
	free(inner);
	free(record);
	return is_done;
}

/* ---- crowds ------------------------------------------------------------------------------ */

bool crowd_create(struct crowd *crowd, struct attack_run *run, uint32_t count_max)
{
	memset(crowd, 0, sizeof(*crowd));
	crowd->members = calloc(count_max, sizeof(*crowd->members));
	if (crowd->members == NULL)
		attack_fault(run, "no memory for %u attackers", count_max);
	return crowd->members != NULL;
}

void crowd_add(struct crowd *crowd, const ph_address *to, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct crowd_member *member = &crowd->members[crowd->count];

		member->fd = client_socket(to);
		if (member->fd < 0) {
			crowd->refused++;
			continue;
		}
		member->begin_ns = attack_now_ns();
		crowd->count++;
		crowd->live++;
	}
}

bool crowd_open(struct crowd *crowd, struct attack_run *run, const ph_address *to, uint32_t count)
{
	if (!crowd_create(crowd, run, count))
		return false;
	crowd_add(crowd, to, count);
	if (crowd->count > 0)
		return true;
	attack_fault(run, "no attacker could connect: %s", strerror(errno));
	return false;
}

static void member_end(struct crowd *crowd, struct crowd_member *member, enum client_end end)
{
	close(member->fd);
	member->fd = -1;
	member->end = end;
	member->end_ns = attack_now_ns();
	crowd->live--;
}

static void member_look(struct crowd *crowd, struct crowd_member *member)
{
	uint8_t waste[4096];
	ssize_t got = recv(member->fd, waste, sizeof(waste), MSG_DONTWAIT);

	if (got == 0)
		member_end(crowd, member, CLIENT_FIN);
	else if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
		member_end(crowd, member, CLIENT_RESET);
}

static void members_say(struct crowd *crowd, const uint8_t *text, uint32_t text_bytes)
{
	for (uint32_t i = 0; i < crowd->count; i++) {
		struct crowd_member *member = &crowd->members[i];

		/* A victim that has ended it is seen by the look. */
		if (member->fd >= 0 && member->at < text_bytes &&
			send(member->fd, text + member->at, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
			member->at++;
	}
}

void crowd_run(struct crowd *crowd, uint32_t ms, uint32_t step_ms, const uint8_t *text,
	uint32_t text_bytes)
{
	struct pollfd *polls = calloc(crowd->count, sizeof(*polls));
	uint64_t now_ns = attack_now_ns(), end_ns = now_ns + ms * 1000000ull;
	uint64_t step_ns = now_ns;

	if (polls == NULL)
		return; /* the attackers then are as they were, and what is judged will say so */
	while (crowd->live > 0 && now_ns < end_ns) {
		if (step_ms > 0 && now_ns >= step_ns) {
			members_say(crowd, text, text_bytes);
			step_ns += step_ms * 1000000ull;
		}
		for (uint32_t i = 0; i < crowd->count; i++)
			polls[i] = (struct pollfd){crowd->members[i].fd, POLLIN, 0};
		if (poll(polls, crowd->count, 10) > 0)
			for (uint32_t i = 0; i < crowd->count; i++)
				if (polls[i].revents != 0)
					member_look(crowd, &crowd->members[i]);
		now_ns = attack_now_ns();
	}
	free(polls);
}

void crowd_close(struct crowd *crowd, bool with_reset)
{
	for (uint32_t i = 0; i < crowd->count; i++) {
		if (crowd->members[i].fd < 0)
			continue;
		if (with_reset)
			client_socket_reset(crowd->members[i].fd);
		else
			close(crowd->members[i].fd);
	}
	free(crowd->members);
	crowd->members = NULL;
	crowd->count = crowd->live = 0;
}
