/*
 * Peers that abuse TLS: floods of what carries nothing (KeyUpdate, alerts, empty and padded records), what
 * TLS 1.3 does not have any more (renegotiation, old versions), early data, ClientHellos that are none.
 * What must hold: the connection ends soon with a TLS reason, little is spent, nothing is delivered.
 */
#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define WAIT_MS 60000u

enum {
	TYPE_CHANGE = 20,
	TYPE_ALERT = 21,
	TYPE_HANDSHAKE = 22,
	TYPE_DATA = 23,
};

/* What is common to these attacks: a victim, honest peers, an attacker's context. */
struct scene {
	uint32_t flood; /* records of a flood */
	struct attack_run *run;
	struct victim victim;
	struct honest honest;
	SSL_CTX *context;
};

/* `flags` chooses who keeps the records after the handshake: the engine or OpenSSL. */
static bool scene_begin(struct scene *scene, struct attack_run *run, uint32_t flags)
{
	struct ph_options options = {
		.socket_send_bytes = 16384, .socket_receive_bytes = 65536, .flags = flags};

	memset(scene, 0, sizeof(*scene));
	scene->run = run;
	scene->flood = attack_size(run, 200000, 2000, 500);
	scene->context = pki_client(run->pki, "attacker");
	if (scene->context == NULL)
		attack_fault(run, "no TLS context for the attacker");
	return victim_start(&scene->victim, run, &options) && scene->context != NULL &&
		honest_start(&scene->honest, &scene->victim, 8, false) &&
		honest_dial(&scene->honest, 8) && honest_wait(&scene->honest, WAIT_MS, "before");
}

static void scene_end(struct scene *scene)
{
	attack_memory(scene->run);
	if (scene->honest.hub != NULL) {
		(void)honest_ask(&scene->honest, WAIT_MS, "afterwards");
		honest_judge(&scene->honest);
		honest_stop(&scene->honest);
	}
	victim_stop(&scene->victim);
	SSL_CTX_free(scene->context);
}

/* The attacker has gone: the victim has ended it, with this reason. */
static void reason_judge(
	struct scene *scene, uint64_t ended_before, uint32_t reason, const char *what)
{
	struct ph_receipt receipt;

	if (!victim_wait_end(&scene->victim, ended_before, &receipt))
		return;
	attack_seen(scene->run, "%s: %s (%s)", what, ph_reason_name(receipt.reason), receipt.text);
	if (receipt.reason != reason)
		attack_fault(scene->run, "%s: the receipt says %s (%s), not %s", what,
			ph_reason_name(receipt.reason), receipt.text, ph_reason_name(reason));
}

/* Say no more, and go when the victim has looked at all of it: a reset would take back what it has not. */
static void client_leave(struct client *client)
{
	shutdown(client->fd, SHUT_WR);
	(void)client_wait_end(client);
	client_abort(client);
}

/* ---- KeyUpdate --------------------------------------------------------------------------- */

/* So many messages of a byte behind each: 32 pay for one, so that only its unread answer can end it. */
static void key_updates_flood(struct scene *scene, int kind, uint32_t messages, uint32_t count_max,
	uint32_t reason, const char *what)
{
	uint64_t ended = atomic_load(&scene->victim.ended);
	struct client client;
	uint8_t message[64];
	size_t bytes = client_message(message, "x", 1);
	uint32_t count = 0;
	bool going = true;
	int small = 16384;

	if (!client_open(&client, &scene->victim.secure) ||
		setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) < 0 ||
		!client_secure(&client, scene->context) || !client_greet(&client, "attacker")) {
		attack_fault(scene->run, "%s: not let in", what);
		client_abort(&client);
		return;
	}
	while (going && count < count_max) {
		going = SSL_key_update(client.ssl, kind) == 1 && SSL_do_handshake(client.ssl) == 1;
		for (uint32_t i = 0; i < messages && going; i++)
			going = client_write(&client, message, bytes);
		count += going;
	}
	ERR_clear_error();
	client_leave(&client);
	reason_judge(scene, ended, reason, what);
}

void attack_key_updates(struct attack_run *run)
{
	static const uint32_t flags[] = {0, PH_HUB_TLS_OPENSSL};
	static struct scene scene;

	attack_tried(run,
		"KeyUpdates without data, with a byte each, paid for with data and answers "
		"nobody reads; both record layers");
	attack_expected(
		run, "ended by a count (protocol_tls), and by what waits (limit_slow_consumer)");
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (scene_begin(&scene, run, flags[i])) {
			scene.victim.behaviour = VICTIM_SWALLOWS;
			key_updates_flood(&scene, SSL_KEY_UPDATE_NOT_REQUESTED, 0, scene.flood,
				PH_REASON_PROTOCOL_TLS, "bare");
			key_updates_flood(&scene, SSL_KEY_UPDATE_REQUESTED, 0, scene.flood,
				PH_REASON_PROTOCOL_TLS, "bare, asking");
			key_updates_flood(&scene, SSL_KEY_UPDATE_REQUESTED, 1, scene.flood,
				PH_REASON_PROTOCOL_TLS, "with a byte each");
			key_updates_flood(&scene, SSL_KEY_UPDATE_REQUESTED, 32, 200000,
				PH_REASON_LIMIT_SLOW, "paid for, unread");
		}
		scene_end(&scene);
	}
}

/* ---- records by hand --------------------------------------------------------------------- */

struct record {
	const char *name;
	uint8_t type;
	uint32_t bytes, padding;
	const char *text; /* NULL: zeros */
	uint32_t reason;
};

/* After the handshake, under the attacker's own keys. */
static const struct record records[] = {
	{"warning alerts", TYPE_ALERT, 2, 0, "\x01\x5a", PH_REASON_PROTOCOL_TLS},
	{"an unknown fatal alert", TYPE_ALERT, 2, 0, "\x02\xfe", PH_REASON_PROTOCOL_TLS},
	{"half an alert", TYPE_ALERT, 1, 0, "\x01", PH_REASON_PROTOCOL_TLS},
	{"empty data", TYPE_DATA, 0, 0, NULL, PH_REASON_PROTOCOL_TLS},
	{"padding only", TYPE_DATA, 0, 16000, NULL, PH_REASON_PROTOCOL_TLS},
	{"no inner type", 0, 0, 100, NULL, PH_REASON_PROTOCOL_TLS},
	{"an unknown inner type", 99, 4, 0, "xxxx", PH_REASON_PROTOCOL_TLS},
	{"ChangeCipherSpec, sealed", TYPE_CHANGE, 1, 0, "\x01", PH_REASON_PROTOCOL_TLS},
	{"renegotiation (ClientHello)", TYPE_HANDSHAKE, 4, 0, "\x01\0\0\0", PH_REASON_PROTOCOL_TLS},
	{"a ticket from a client", TYPE_HANDSHAKE, 4, 0, "\x04\0\0\0", PH_REASON_PROTOCOL_TLS},
	{"a certificate nobody asked for", TYPE_HANDSHAKE, 8, 0, "\x0b\0\0\x04\0\0\0\0",
		PH_REASON_PROTOCOL_TLS},
	{"Finished again", TYPE_HANDSHAKE, 4, 0, "\x14\0\0\0", PH_REASON_PROTOCOL_TLS},
	{"an empty handshake record", TYPE_HANDSHAKE, 0, 0, NULL, PH_REASON_PROTOCOL_TLS},
	{"a record over 16 KiB", TYPE_DATA, 16385, 0, NULL, PH_REASON_PROTOCOL_TLS},
};

static void records_flood(struct scene *scene, const struct record *record, uint32_t count_max)
{
	uint64_t ended = atomic_load(&scene->victim.ended), cpu;
	uint8_t *zeros = calloc(1, 16385), greeting[2 * CLIENT_MESSAGE_BYTES_MAX];
	struct client client = {.fd = -1};
	struct client_key key;
	uint32_t count = 0;

	if (zeros == NULL || !client_open(&client, &scene->victim.secure) ||
		!client_secure(&client, scene->context) || !client_seal_begin(&client, &key)) {
		attack_fault(scene->run, "%s: not let in", record->name);
	} else {
		size_t bytes = client_auth_info(greeting, ATTACK_GROUP, "attacker");

		bytes += client_connect_message(greeting + bytes, 1);
		(void)client_seal(&client, &key, TYPE_DATA, greeting, bytes, 0);
		cpu = attack_cpu_ns();
		while (count < count_max && atomic_load(&scene->victim.ended) == ended &&
			client_seal(&client, &key, record->type,
				record->text != NULL ? (const void *)record->text : zeros,
				record->bytes, record->padding))
			count++;
		cpu = attack_cpu_ns() - cpu;
		client_leave(&client);
		reason_judge(scene, ended, record->reason, record->name);
		if (scene->run->is_full)
			printf("  record %-32s %7u sent, %6.2f us of CPU each, both sides\n",
				record->name, count, (double)cpu / 1e3 / (count + !count));
	}
	free(zeros);
	client_abort(&client);
}

/* Before and instead of a ClientHello, in clear text. */
static void clear_flood(
	struct scene *scene, const char *what, const void *record, size_t bytes, uint32_t count_max)
{
	uint64_t ended = atomic_load(&scene->victim.ended);
	struct client client;
	uint32_t count = 0;
	uint8_t answer;

	if (!client_open(&client, &scene->victim.secure)) {
		attack_fault(scene->run, "%s: cannot connect", what);
		return;
	}
	while (count < count_max && atomic_load(&scene->victim.ended) == ended &&
		client_write_raw(&client, record, bytes))
		count++;
	/* Its alert, or the end: who leaves before the victim has looked is only lost. */
	(void)!recv(client.fd, &answer, 1, 0);
	client_abort(&client);
	reason_judge(scene, ended, PH_REASON_PROTOCOL_TLS, what);
}

void attack_records(struct attack_run *run)
{
	static const uint32_t flags[] = {0, PH_HUB_TLS_OPENSSL};
	static struct scene scene;

	attack_tried(run,
		"%zu kinds of sealed records and 4 of clear ones, in floods, both "
		"record layers",
		sizeof(records) / sizeof(records[0]));
	attack_expected(run, "ended with protocol_tls after few of them");
	for (size_t layer = 0; layer < sizeof(flags) / sizeof(flags[0]); layer++) {
		if (scene_begin(&scene, run, flags[layer])) {
			scene.victim.behaviour = VICTIM_SWALLOWS;
			clear_flood(&scene, "clear warnings", "\x15\x03\x03\0\x02\x01\x5a", 7,
				scene.flood);
			clear_flood(
				&scene, "clear empty records", "\x16\x03\x01\0\0", 5, scene.flood);
			clear_flood(&scene, "clear ChangeCipherSpec", "\x14\x03\x03\0\x01\x01", 6,
				scene.flood);
			clear_flood(&scene, "clear data", "\x17\x03\x03\0\x01x", 6, scene.flood);
			run->seen[0] = '\0';
			for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
				records_flood(&scene, &records[i], scene.flood);
			/* A line for each would be a page: the reasons were judged. */
			run->seen[0] = '\0';
			attack_seen(run, "%u connections ended with protocol_tls",
				victim_reason_count(&scene.victim, PH_REASON_PROTOCOL_TLS));
		}
		scene_end(&scene);
	}
}

/* ---- early data, old versions, no ClientHello --------------------------------------------- */

/* A session that the client made up, with early data allowed: the server has never seen it. */
static int on_psk(SSL *ssl, const EVP_MD *digest, const unsigned char **id, size_t *id_bytes,
	SSL_SESSION **session)
{
	static const unsigned char name[] = "made up", secret[32] = "a secret nobody else knows";
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, (const unsigned char[]){0x13, 0x01});

	(void)digest;
	*session = SSL_SESSION_new();
	if (*session == NULL || cipher == NULL ||
		SSL_SESSION_set1_master_key(*session, secret, sizeof(secret)) != 1 ||
		SSL_SESSION_set_cipher(*session, cipher) != 1 ||
		SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION) != 1 ||
		SSL_SESSION_set_max_early_data(*session, 16384) != 1) {
		SSL_SESSION_free(*session);
		*session = NULL;
		return 0;
	}
	*id = name;
	*id_bytes = sizeof(name);
	return 1;
}

/* AUTH_INFO, CONNECT and a message as early data: none of it may be heard. The handshake may end. */
static void early_try(struct scene *scene)
{
	uint64_t messages = atomic_load(&scene->victim.messages);
	uint64_t opened = atomic_load(&scene->victim.opened);
	uint64_t ended = atomic_load(&scene->victim.ended);
	uint8_t early[3 * CLIENT_MESSAGE_BYTES_MAX];
	size_t bytes = client_auth_info(early, ATTACK_GROUP, "attacker"), written = 0;
	SSL_CTX *context = pki_client(scene->run->pki, "attacker");
	struct ph_receipt receipt;
	struct client client = {.fd = -1};
	bool is_said = false;

	bytes += client_connect_message(early + bytes, 9);
	bytes += client_message(early + bytes, "early", 5);
	if (context != NULL && client_open(&client, &scene->victim.secure)) {
		SSL_CTX_set_psk_use_session_callback(context, on_psk);
		client.ssl = SSL_new(context);
		is_said = client.ssl != NULL && SSL_set_fd(client.ssl, client.fd) == 1 &&
			SSL_write_early_data(client.ssl, early, bytes, &written) == 1;
		if (is_said)
			(void)SSL_connect(client.ssl);
	}
	ERR_clear_error();
	if (!is_said)
		attack_fault(scene->run, "no early data could be sent");
	client_close(&client);
	if (victim_wait_end(&scene->victim, ended, &receipt))
		attack_seen(scene->run, "early data: %s", ph_reason_name(receipt.reason));
	if (atomic_load(&scene->victim.messages) != messages ||
		atomic_load(&scene->victim.opened) != opened)
		attack_fault(scene->run, "early data was heard");
	SSL_CTX_free(context);
}

static void old_try(struct scene *scene, int version, const char *name)
{
	uint64_t ended = atomic_load(&scene->victim.ended);
	SSL_CTX *context = pki_client(scene->run->pki, "attacker");
	struct client client = {.fd = -1};

	if (context == NULL || SSL_CTX_set_max_proto_version(context, version) != 1 ||
		SSL_CTX_set_min_proto_version(context, version) != 1 ||
		SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0") != 1 ||
		!client_open(&client, &scene->victim.secure))
		attack_fault(scene->run, "%s cannot be tried", name);
	else if (client_secure(&client, context))
		attack_fault(scene->run, "%s was taken", name);
	client_close(&client);
	reason_judge(scene, ended, PH_REASON_PROTOCOL_TLS, name);
	SSL_CTX_free(context);
}

static void hello_try(struct scene *scene, const char *what, const void *text, size_t bytes)
{
	clear_flood(scene, what, text, bytes, 1);
}

/* A ClientHello with one byte changed, at a place that the seed picks. */
static void bent_hellos(struct scene *scene, uint32_t count)
{
	uint8_t hello[2048];
	size_t bytes = client_hello_make(scene->context, hello, sizeof(hello));
	uint64_t ended = atomic_load(&scene->victim.ended);

	for (uint32_t i = 0; bytes > 0 && i < count; i++) {
		uint32_t at = random_below(&scene->run->random, (uint32_t)bytes);
		uint8_t kept = hello[at];
		struct client client;

		hello[at] ^= (uint8_t)(1 + random_below(&scene->run->random, 255));
		if (!client_open(&client, &scene->victim.secure) ||
			!client_write_raw(&client, hello, bytes))
			attack_fault(scene->run, "a bent ClientHello cannot be said");
		hello[at] = kept;
		client_close(&client); /* an unread answer makes that a reset */
	}
	(void)victim_wait(&scene->victim, &scene->victim.ended, ended + count, WAIT_MS,
		"bent ClientHellos to end");
	attack_seen(scene->run, "%u bent ClientHellos", count);
}

void attack_early(struct attack_run *run)
{
	static const uint8_t sslv2[48] = {0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10};
	static const uint8_t big[5] = {22, 3, 1, 0xff, 0xff};
	static const uint8_t endless[9] = {22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff};
	static struct scene scene;

	attack_tried(run,
		"early data on a made-up session; TLS 1.2 and 1.0; ClientHellos that are none");
	attack_expected(
		run, "nothing is heard before the handshake's end; the rest is protocol_tls");
	if (scene_begin(&scene, run, 0)) {
		early_try(&scene);
		old_try(&scene, TLS1_2_VERSION, "TLS 1.2");
		old_try(&scene, TLS1_VERSION, "TLS 1.0");
		hello_try(&scene, "HTTP", "GET / HTTP/1.0\r\n\r\n", 18);
		hello_try(&scene, "a record of 64 KiB", big, sizeof(big));
		hello_try(&scene, "SSLv2", sslv2, sizeof(sslv2));
		/* An endless ClientHello, record by record: bounded by the handshake's bytes. */
		{
			uint8_t *record = calloc(1, 5 + 16384);

			if (record != NULL) {
				memcpy(record, endless, sizeof(endless));
				clear_flood(
					&scene, "a ClientHello of 16 MB", record, 5 + 16384, 100);
				free(record);
			}
		}
		bent_hellos(&scene, attack_size(run, 20000, 500, 100));
	}
	scene_end(&scene);
}
