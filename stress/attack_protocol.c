/*
 * Peers that speak the protocol wrongly: one table of broken messages, each with the reason that must stand
 * in the receipt; huge messages that never come; floods of pings; a reset at each step. What must hold:
 * that connection ends, with that reason, and only that one.
 */
#include "attack_client.h"
#include "attack_pki.h"
#include "attack_victim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define WAIT_MS 60000u
#define MESSAGE_BYTES_MAX (1u << 20)

/* ---- broken messages --------------------------------------------------------------------- */

enum when {
	FIRST, /* instead of AUTH_INFO */
	AFTER_AUTH, /* instead of CONNECT */
	OPEN, /* after WELCOME */
};

#define CLEAR_TOO 1 /* also in clear text; each is followed by the end of our side of the stream */

struct broken {
	const char *name;
	enum when when;
	int flags;
	uint32_t reason;
	uint32_t bytes; /* of text; what is announced may differ */
	const char *text;
};

#define HEAD(bytes, type) "\0\0\0" bytes "\x10" type "\0\0"
#define ZERO8 "\0\0\0\0\0\0\0\0"
#define TYPE16 "tttttttttttttttt"

/* clang-format off */
static const struct broken broken[] = {
	{"CONNECT first", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 24,
		HEAD("\x18", "\x02") "\x04\0\0\x18\0\x18\0\0" ZERO8},
	{"data first", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 28,
		HEAD("\x1c", "\x0d") "\0\x1c\0\0" TYPE16},
	{"WELCOME to who is asked", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x20", "\x03")},
	{"REFUSE to who is asked", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x0c", "\x04")},
	{"DISCONNECT first", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x0c", "\x05")},
	{"NOTICE first", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x12", "\x40")},
	{"an unknown type", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_TYPE, 8, HEAD("\x10", "\x7f")},
	{"type 0", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_TYPE, 8, HEAD("\x10", "\0")},
	{"smaller than its head", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8, HEAD("\x07", "\x01")},
	{"of size 0", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8, HEAD("\0", "\x01")},
	{"a greeting of 4 GiB", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8,
		"\xff\xff\xff\xff\x10\x01\0\0"},
	{"a greeting over 4 KiB", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8, "\0\0\x10\x01\x10\x01\0\0"},
	{"another version", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 8, "\0\0\0\x18\x20\x01\0\0"},
	{"a reserved field", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 8, "\0\0\0\x18\x10\x01\0\x01"},
	{"AUTH_INFO without its fixed part", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 12,
		HEAD("\x0c", "\x01") "\x02\0\0\x10"},
	{"AUTH_INFO of kind 9", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x09\0\0\x10\0\x14\0\x18" "g.g\0s.s"},
	{"a name inside the head", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x04\0\x14\0\x18" "g.g\0s.s"},
	{"two names at one place", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\0\x10\0\x18" "g.g\0s.s"},
	{"names that overlap", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\0\x12\0\x18" "g.g\0s.s"},
	{"names in the wrong order", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x14\0\x10\0\x18" "s.s\0g.g"},
	{"a name beyond the end", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\xff\xff\0\x18" "g.g\0s.s"},
	{"a name without its end", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\0\x14\0\x18" "g.g\0s.ss"},
	{"a name that is not UTF-8", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\0\x14\0\x18" "g.g\0\xc0\x80s"},
	{"an empty name", FIRST, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\0\x14\0\x18" "\0\0\0\0s.s"},
	{"another group than the server name's", FIRST, 0, PH_REASON_PROTOCOL_HELLO, 31,
		HEAD("\x1f", "\x01") "\x02\0\0\x10\0\x16\0\x1f" "other\0" "attacker"},
	{"another source than the certificate's", FIRST, 0, PH_REASON_PROTOCOL_HELLO, 30,
		HEAD("\x1e", "\x01") "\x02\0\0\x10\0\x17\0\x1e" "attack\0" "victim"},
	{"another destination than the server name's", FIRST, 0, PH_REASON_PROTOCOL_HELLO, 35,
		HEAD("\x23", "\x01") "\x02\0\0\x10\0\x17\0\x20" "attack\0" "attacker\0" "xx"},
	{"half a head, then the end", FIRST, CLEAR_TOO,
		PH_REASON_TRANSPORT_HANDSHAKE_LOST, 5, HEAD("\x18", "\x01")},
	{"AUTH_INFO again", AFTER_AUTH, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 24,
		HEAD("\x18", "\x01") "\x02\0\0\x10\0\x14\0\x18" "g.g\0s.s"},
	{"CONNECT with addresses it has not", AFTER_AUTH, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x02") "\x04\xff\0\x18\0\x18\0\0" ZERO8},
	{"CONNECT with addresses in its head", AFTER_AUTH, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x02") "\x04\x01\0\x02\0\x18\0\0" ZERO8},
	{"CONNECT of another kind", AFTER_AUTH, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x02") "\0\0\0\x18\0\x18\0\0" ZERO8},
	{"CONNECT with a name beyond the end", AFTER_AUTH, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 24,
		HEAD("\x18", "\x02") "\x04\0\0\x18\x70\x18\0\0" ZERO8},
	{"data before CONNECT", AFTER_AUTH, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 28,
		HEAD("\x1c", "\x0d") "\0\x1c\0\0" TYPE16},
	{"the end before CONNECT", AFTER_AUTH, CLEAR_TOO,
		PH_REASON_TRANSPORT_HANDSHAKE_LOST, 7, HEAD("\x18", "\x02")},
	{"AUTH_INFO when open", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x18", "\x01")},
	{"CONNECT when open", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x18", "\x02")},
	{"WELCOME when open", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_STATE, 8, HEAD("\x20", "\x03")},
	{"data without its fixed part", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 12,
		HEAD("\x0c", "\x0d") "\0\x1c\0\0"},
	{"data that begins in its head", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 29,
		HEAD("\x1d", "\x0d") "\0\x04\0\0" TYPE16 "x"},
	{"data that begins beyond the end", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 29,
		HEAD("\x1d", "\x0d") "\x7f\x1c\0\0" TYPE16 "x"},
	{"data over the limit", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8, "\0\x10\0\x1d\x10\x0d\0\0"},
	{"data of 4 GiB", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8, "\xff\xff\xff\xff\x10\x0d\0\0"},
	{"data cut by the end", OPEN, CLEAR_TOO, PH_REASON_REMOTE_TRUNCATED, 29,
		"\0\0\x10\0\x10\x0d\0\0" "\0\x1c\0\0" TYPE16 "x"},
	{"a head cut by the end", OPEN, CLEAR_TOO, PH_REASON_REMOTE_TRUNCATED, 3,
		HEAD("\x1c", "\x0d")},
	{"a ping with data", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 29,
		HEAD("\x1d", "\x0d") "\0\x1c\0\0"
		"\x0c\xcb\xb0\xd2\xbe\x41\x4b\xd6\x91\x4b\x05\x8e\xc5\xdc\xce\x64" "x"},
	{"NOTICE with more text than it has", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 18,
		HEAD("\x12", "\x40") ZERO8 "\0\x80"},
	{"NOTICE of 64 KiB and a bit", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_SIZE, 8, "\0\x01\0\x01\x10\x40\0\0"},
	{"DISCONNECT of reason 9", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 12,
		HEAD("\x0c", "\x05") "\x09\0\0\x0c"},
	{"DISCONNECT with referrals it has not", OPEN, CLEAR_TOO, PH_REASON_PROTOCOL_MESSAGE, 12,
		HEAD("\x0c", "\x05") "\x03\xff\0\x0c"},
	{"an unknown skippable one, then DISCONNECT", OPEN, CLEAR_TOO, PH_REASON_REMOTE_CLOSE, 21,
		HEAD("\x09", "\x4a") "x" HEAD("\x0c", "\x05") "\x03\0\0\x0c"},
};
/* clang-format on */
#define BROKEN_COUNT (sizeof(broken) / sizeof(broken[0]))

static bool broken_say(struct client *client, const struct broken *what)
{
	uint8_t message[2 * CLIENT_MESSAGE_BYTES_MAX];
	size_t bytes = 0;

	if (what->when == OPEN) {
		if (!client_greet(client, "attacker"))
			return false;
	} else if (what->when == AFTER_AUTH) {
		bytes = client_auth_info(message, ATTACK_GROUP, "attacker");
	}
	memcpy(message + bytes, what->text, what->bytes);
	if (!client_write(client, message, bytes + what->bytes))
		return false;
	/* Without it the victim would wait, a second at most, for us to read its goodbye. */
	shutdown(client->fd, SHUT_WR);
	return true;
}

static void broken_try(struct victim *victim, const struct broken *what, SSL_CTX *context)
{
	const ph_address *to = context != NULL ? &victim->secure : &victim->plain;
	const char *how = context != NULL ? "TLS" : "clear text";
	uint64_t ended = atomic_load(&victim->ended);
	struct attack_run *run = victim->run;
	struct client client = {.fd = -1};
	struct ph_receipt receipt;
	enum client_end end;

	if (!client_open(&client, to) || (context != NULL && !client_secure(&client, context)) ||
		!broken_say(&client, what)) {
		attack_fault(run, "%s, %s: could not be said", what->name, how);
		client_abort(&client);
		return;
	}
	if (victim_wait_end(victim, ended, &receipt) && receipt.reason != what->reason)
		attack_fault(run, "%s, %s: the receipt says %s (%s), not %s", what->name, how,
			ph_reason_name(receipt.reason), receipt.text, ph_reason_name(what->reason));
	end = client_wait_end(&client);
	if (end == CLIENT_STILL_OPEN)
		attack_fault(run, "%s, %s: nobody told the attacker", what->name, how);
	client_close(&client);
}

void attack_messages(struct attack_run *run)
{
	struct ph_options options = {.message_bytes_max = MESSAGE_BYTES_MAX};
	SSL_CTX *context = pki_client(run->pki, "attacker");
	static struct victim victim;
	static struct honest honest;
	unsigned tries = 0;
	uint64_t cpu;

	memset(&victim, 0, sizeof(victim));
	attack_tried(run,
		"%zu broken messages before, during and after the greeting, TLS and clear",
		BROKEN_COUNT);
	attack_expected(run,
		"each ends its connection with the right reason, the attacker hears it, "
		"nobody else does");
	if (context != NULL && victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 8, false)) {
		(void)!(honest_dial(&honest, 8) && honest_wait(&honest, WAIT_MS, "before"));
		cpu = attack_cpu_ns();
		for (size_t i = 0; i < BROKEN_COUNT; i++) {
			broken_try(&victim, &broken[i], context);
			tries++;
			if (broken[i].flags & CLEAR_TOO) {
				broken_try(&victim, &broken[i], NULL);
				tries++;
			}
		}
		attack_seen(run, "%u connections ended, %.0f us of CPU each, both sides", tries,
			(double)(attack_cpu_ns() - cpu) / 1e3 / tries);
		(void)honest_ask(&honest, WAIT_MS, "afterwards");
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	SSL_CTX_free(context);
}

/* ---- announced and never sent ------------------------------------------------------------ */

/* Each announces 60 MB and sends `bytes` of it. */
static struct client *growers_create(
	struct attack_run *run, const struct victim *victim, uint32_t count, size_t bytes)
{
	struct client *clients = calloc(count, sizeof(*clients));
	uint8_t *part = calloc(1, bytes), head[64];

	(void)client_message(head, NULL, 0);
	memcpy(head, "\x03\x90\0\0", 4);
	for (uint32_t i = 0; clients != NULL && part != NULL && i < count; i++)
		if (!client_enter(&clients[i], &victim->plain, NULL, "grower") ||
			!client_write(&clients[i], head, 28))
			attack_fault(run, "grower %u is not let in", i);
		else
			(void)client_write(&clients[i], part, bytes); /* may be ended already */
	if (clients == NULL || part == NULL)
		attack_fault(run, "no memory for %u growers", count);
	free(part);
	return clients;
}

static void growers_destroy(struct client *clients, uint32_t count)
{
	for (uint32_t i = 0; clients != NULL && i < count; i++)
		client_abort(&clients[i]);
	free(clients);
}

void attack_growth(struct attack_run *run)
{
	uint32_t few = attack_size(run, 500, 100, 20), many = attack_size(run, 100, 24, 12);
	uint64_t budget = attack_size(run, 32, 8, 4) << 20, memory, more;
	struct ph_options options = {.reassembly_bytes_max = budget};
	struct client *clients;
	static struct victim victim;
	static struct honest honest;
	uint32_t over;

	memset(&victim, 0, sizeof(victim));
	victim.behaviour = VICTIM_SWALLOWS;
	attack_tried(run, "%u announce 60 MB and send 4 KB; %u send a MB; budget %llu MiB", few,
		many, (unsigned long long)budget >> 20);
	attack_expected(run,
		"memory follows what came, not what was announced; over the budget: "
		"limit_memory, and only they");
	if (victim_start(&victim, run, &options) && honest_start(&honest, &victim, 8, true)) {
		(void)!(honest_dial(&honest, 8) && honest_wait(&honest, WAIT_MS, "before"));
		memory = attack_memory_now();
		clients = growers_create(run, &victim, few, 4096);
		attack_sleep_ms(100);
		more = attack_memory_now() - memory;
		attack_memory(run);
		attack_seen(run, "%.1f KiB for each that announced", (double)more / 1024.0 / few);
		if (!run->is_light && more < (1ull << 40) && more > few * 65536ull)
			attack_fault(run, "%llu bytes for %u that sent 4 KB each",
				(unsigned long long)more, few);
		growers_destroy(clients, few);
		(void)victim_wait(&victim, &victim.ended, few, WAIT_MS, "growers to end");
		clients = growers_create(run, &victim, many, 1u << 20);
		/* What they sent waits in sockets or has been looked at: the budget is used up. */
		for (int i = 0;
			i < 200 && victim_reason_count(&victim, PH_REASON_LIMIT_MEMORY) == 0; i++)
			attack_sleep_ms(50);
		attack_memory(run);
		over = victim_reason_count(&victim, PH_REASON_LIMIT_MEMORY);
		attack_seen(run, "%u of %u ended with limit_memory", over, many);
		if (over == 0 || over == many)
			attack_fault(run, "%u of %u were over the budget", over, many);
		growers_destroy(clients, many);
		(void)victim_wait(&victim, &victim.ended, few + many, WAIT_MS, "growers to end");
		(void)honest_ask(&honest, WAIT_MS, "afterwards");
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
}

/* ---- pings ------------------------------------------------------------------------------- */

void attack_pings(struct attack_run *run)
{
	uint32_t count = attack_size(run, 2000000, 100000, 10000), each = 512, sent = 0;
	bool is_secure = !run->is_remote || run->tls == PH_TLS_MUTUAL;
	SSL_CTX *context = is_secure ? pki_client(run->pki, "pinger") : NULL;
	struct ph_options options = {.shard_count = 2};
	struct client client = {.fd = -1};
	static struct victim victim;
	static struct honest honest;
	struct ph_statistics stats;
	uint8_t pings[512 * 28], message[64], answer[64];
	uint64_t cpu, begin;

	memset(&victim, 0, sizeof(victim));
	for (uint32_t i = 0; i < each; i++)
		(void)client_ping(pings + 28 * i);
	attack_tried(run, "%u pings on one connection, then a message", count);
	attack_expected(
		run, "each counted, none answered, the message echoed, honest peers served");
	if (victim_start(&victim, run, &options) && honest_start(&honest, &victim, 8, false)) {
		(void)!(honest_dial(&honest, 8) && honest_wait(&honest, WAIT_MS, "before"));
		if (!client_enter(&client, &victim.secure, context, pki_name(run->pki, "pinger")))
			attack_fault(run, "the pinger is not let in");
		cpu = attack_cpu_ns();
		begin = attack_now_ns();
		while (sent < count && client_write(&client, pings, (size_t)each * 28))
			sent += each;
		(void)honest_ask(&honest, WAIT_MS, "meanwhile");
		if (!client_write(&client, message, client_message(message, "alive?", 6)) ||
			client_read(&client, answer, sizeof(answer)) <= 0)
			attack_fault(run, "no echo after %u pings", sent);
		attack_seen(run, "%u pings, %.2f us of CPU each, both sides, %.0f a second", sent,
			(double)(attack_cpu_ns() - cpu) / 1e3 / sent,
			sent * 1e9 / (double)(attack_now_ns() - begin));
		victim_stats(&victim, &stats);
		if (!run->is_remote && stats.pings_received != sent)
			attack_fault(run, "%llu pings were counted",
				(unsigned long long)stats.pings_received);
		attack_memory(run);
		client_close(&client);
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	SSL_CTX_free(context);
}

/* ---- a reset at each step ---------------------------------------------------------------- */

static const char *const steps[] = {"connect", "half a ClientHello", "a ClientHello",
	"the server's flight", "TLS done", "AUTH_INFO", "CONNECT unread", "WELCOME",
	"half a message", "a message", "its echo", "DISCONNECT", "close_notify", "half a record"};
#define STEP_COUNT (sizeof(steps) / sizeof(steps[0]))

/* Goes as far as `step` and resets. False: it did not get so far. */
static bool step_run(struct client *client, size_t step, const uint8_t *hello, size_t hello_bytes,
	SSL_CTX *context, const char *source)
{
	static const uint8_t record[40] = {23, 3, 3, 0, 64};
	static const uint8_t disconnect[12] = {0, 0, 0, 12, 0x10, 5, 0, 0, 3, 0, 0, 12};
	uint8_t message[2 * CLIENT_MESSAGE_BYTES_MAX], waste[4096];
	size_t bytes;

	if (step == 0)
		return true;
	if (step <= 3) {
		if (!client_write_raw(client, hello, step == 1 ? hello_bytes / 2 : hello_bytes))
			return false;
		return step < 3 || recv(client->fd, waste, sizeof(waste), 0) > 0;
	}
	if (!client_secure(client, context))
		return false;
	if (step == 4)
		return true;
	if (step <= 6) {
		bytes = client_auth_info(message, ATTACK_GROUP, source);
		if (step == 6)
			bytes += client_connect_message(message + bytes, 3);
		return client_write(client, message, bytes);
	}
	if (!client_greet(client, source))
		return false;
	bytes = client_message(message, "0123456789", 10);
	switch (step) {
	case 7:
		return true;
	case 8:
		return client_write(client, message, bytes / 2);
	case 9:
		return client_write(client, message, bytes);
	case 10:
		return client_write(client, message, bytes) &&
			client_read(client, waste, sizeof(waste)) > 0;
	case 11:
		return client_write(client, disconnect, sizeof(disconnect));
	case 12:
		return SSL_shutdown(client->ssl) >= 0;
	default:
		return client_write_raw(client, record, sizeof(record));
	}
}

void attack_resets(struct attack_run *run)
{
	uint32_t rounds = attack_size(run, 200, 20, 4), done = 0;
	SSL_CTX *context;
	const char *source = pki_name(run->pki, "resetter");
	struct ph_options options = {.shard_count = 2};
	static struct victim victim;
	static struct honest honest;
	uint8_t hello[2048];
	size_t hello_bytes;

	memset(&victim, 0, sizeof(victim));
	if (run->is_remote && run->tls == PH_TLS_NONE) {
		run->is_skipped = true;
		attack_seen(run, "needs TLS");
		return;
	}
	context = pki_client(run->pki, "resetter");
	hello_bytes = context != NULL ? client_hello_make(context, hello, sizeof(hello)) : 0;
	attack_tried(run, "a reset after each of %zu steps, from connect to close_notify, %u times",
		STEP_COUNT, rounds);
	attack_expected(run, "one last event each, honest peers notice nothing");
	if (hello_bytes > 0 && victim_start(&victim, run, &options) &&
		honest_start(&honest, &victim, 8, false)) {
		(void)!(honest_dial(&honest, 8) && honest_wait(&honest, WAIT_MS, "before"));
		for (uint32_t i = 0; i < rounds * STEP_COUNT; i++) {
			size_t step = i % STEP_COUNT;
			struct client client;

			if (!client_open(&client, &victim.secure) ||
				!step_run(&client, step, hello, hello_bytes, context, source))
				attack_fault(run, "step \"%s\" could not be reached", steps[step]);
			else
				done++;
			client_abort(&client);
		}
		if (!run->is_remote)
			(void)victim_wait(&victim, &victim.ended, (uint64_t)rounds * STEP_COUNT,
				WAIT_MS, "last events");
		attack_seen(run, "%u resets, remote_reset %u, handshake_lost %u, remote_close %u",
			done, victim_reason_count(&victim, PH_REASON_REMOTE_RESET),
			victim_reason_count(&victim, PH_REASON_TRANSPORT_HANDSHAKE_LOST),
			victim_reason_count(&victim, PH_REASON_REMOTE_CLOSE));
		attack_memory(run);
		(void)honest_ask(&honest, WAIT_MS, "afterwards");
		honest_judge(&honest);
		honest_stop(&honest);
	}
	victim_stop(&victim);
	SSL_CTX_free(context);
}
