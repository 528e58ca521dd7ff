/* One shard on the scripted seam; see harness.h. */
#include "tests/fake/harness.h"

#include "engine/digest.h"
#include "engine/memory.h"
#include "engine/resume.h"
#include "engine/wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPS_COUNTED ((1u << OP_COUNTED) - 1)
#define END_TURNS_MAX 10000u

const uint8_t harness_type[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

__attribute__((format(printf, 1, 2))) static _Noreturn void harness_breach(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("harness: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	abort();
}

/* ---- what was seen ------------------------------------------------------------------------ */

struct harness_peer *harness_peer(struct harness *harness, uint64_t id)
{
	struct harness_peer *peer;

	for (uint32_t i = 0; i < harness->peer_count; i++)
		if (harness->peers[i].id == id)
			return &harness->peers[i];
	if (harness->peer_count == HARNESS_PEERS_MAX)
		harness_breach("more than %u ids", HARNESS_PEERS_MAX);
	peer = &harness->peers[harness->peer_count++];
	memset(peer, 0, sizeof(*peer));
	peer->id = id;
	return peer;
}

static struct harness_peer *peer_alive(struct harness *harness, uint64_t id, const char *event)
{
	struct harness_peer *peer = harness_peer(harness, id);

	if (peer->closed > 0)
		harness_breach("%s of %llx after its on_closed", event, (unsigned long long)id);
	return peer;
}

struct conn *harness_conn(const struct harness *harness, uint64_t id)
{
	return &harness->shard->conns[slot_id_slot(id)];
}

uint64_t harness_counter(const struct harness *harness, enum counter counter)
{
	return atomic_load_explicit(&harness->shard->counters[counter], memory_order_relaxed);
}

static int on_hello(void *user, const char *sni, struct ph_hello_answer *answer)
{
	struct harness *harness = user;

	(void)sni;
	if (harness->hello == NULL)
		return -EACCES;
	answer->credentials = ph_credentials_get(harness->hello);
	strcpy(answer->group, HARNESS_GROUP);
	strcpy(answer->identity, HARNESS_OWN);
	return 0;
}

static int on_verify(void *user, uint64_t id, int accepted, const char *sni, const char *expected,
	const struct ph_chain *chain, struct ph_verdict *verdict)
{
	struct harness *harness = user;

	(void)sni, (void)expected;
	(void)peer_alive(harness, id, "on_verify");
	if (harness->in_verify != NULL)
		harness->in_verify(harness, id);
	if (chain->count > 0) {
		strcpy(verdict->group, HARNESS_GROUP);
		strcpy(verdict->identity, HARNESS_OWN);
	}
	if (accepted) {
		verdict->tag = HARNESS_TAG;
		verdict->user = HARNESS_USER;
	}
	if (harness->verify_refusal != NULL)
		strcpy(verdict->refusal, harness->verify_refusal);
	return harness->verify_status;
}

static enum ph_refuse on_connect(void *user, uint64_t id, uint64_t tag, void *conn_user,
	const struct ph_connect_info *info, struct ph_connect_answer *answer)
{
	struct harness *harness = user;

	(void)tag, (void)conn_user, (void)info;
	(void)peer_alive(harness, id, "on_connect");
	answer->node_id = 4711;
	if (harness->in_connect != NULL)
		harness->in_connect(harness, id);
	return harness->refuse;
}

static void on_open(void *user, uint64_t id, void *conn_user, const struct ph_open_info *info)
{
	struct harness *harness = user;
	struct harness_peer *peer = peer_alive(harness, id, "on_open");

	if (conn_user != HARNESS_USER)
		harness_breach("on_open with a stranger's user");
	if (peer->opened++ > 0)
		harness_breach("on_open twice");
	peer->accepted = info->accepted != 0;
	if (harness->in_open != NULL)
		harness->in_open(harness, id);
}

static int on_data(void *user, uint64_t id, void *conn_user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct harness *harness = user;
	struct harness_peer *peer = peer_alive(harness, id, "on_data");

	(void)conn_user;
	if (peer->opened == 0)
		harness_breach("on_data before on_open");
	if (type != NULL && !harness->any_type && memcmp(type, harness_type, 16) != 0)
		harness_breach("on_data with another type");
	harness->offered++;
	if (harness->in_data != NULL)
		harness->in_data(harness, id);
	if (harness->data_status < 0)
		return harness->data_status;
	peer->messages++;
	if (peer->capacity - peer->bytes < bytes) {
		peer->capacity = 2 * (peer->bytes + bytes);
		peer->data = realloc(peer->data, peer->capacity);
		if (peer->data == NULL)
			harness_breach("out of memory");
	}
	if (bytes > 0)
		memcpy(peer->data + peer->bytes, data, bytes);
	peer->bytes += bytes;
	return 0;
}

static void on_writable(void *user, uint64_t id, void *conn_user)
{
	struct harness *harness = user;

	(void)conn_user;
	peer_alive(harness, id, "on_writable")->writable++;
	if (harness->in_writable != NULL)
		harness->in_writable(harness, id);
}

static void on_closed(void *user, uint64_t id, void *conn_user, const struct ph_receipt *receipt)
{
	struct harness *harness = user;
	struct harness_peer *peer = peer_alive(harness, id, "on_closed");

	if (conn_user != HARNESS_USER && receipt->was_open)
		harness_breach("on_closed with a stranger's user");
	if (receipt->id != id)
		harness_breach("a receipt of another id");
	if (receipt->bytes_sent + receipt->bytes_dropped != receipt->bytes_queued)
		harness_breach("the bytes of a receipt do not add up");
	if ((receipt->was_open != 0) != (peer->opened == 1))
		harness_breach("the receipt is wrong about on_open");
	if (script_has_live(harness->ring, OPS_COUNTED, slot_id_slot(id), slot_id_generation(id)))
		harness_breach("on_closed of %llx while the kernel holds an operation",
			(unsigned long long)id);
	peer->closed++;
	peer->receipt = *receipt;
	if (harness->in_closed != NULL)
		harness->in_closed(harness, id);
}

static uint32_t homes_seen; /* homes of the process that have their table */

/* ---- life --------------------------------------------------------------------------------- */

void harness_options(struct ph_options *options)
{
	*options = (struct ph_options){
		.size = sizeof(*options),
		.shard_count = 1,
		.connections_per_shard = 32,
		.handshakes_per_shard = 16,
		.receive_buffer_count = 16,
		.receive_buffer_bytes = 512,
		.send_queue_bytes = 65536,
		.message_bytes_max = 65536,
		.reassembly_bytes_max = 1u << 20,
		.socket_send_bytes = 65536,
		.socket_receive_bytes = 65536,
		.timeout_connect_ms = 20000,
		.timeout_handshake_ms = 20000,
		.timeout_welcome_ms = 60000,
		.timeout_close_ms = 5000,
		.ping_interval_ms = 30000,
		.timeout_dead_ms = 120000,
		.receipts_per_shard = 64,
	};
}

int harness_start(struct harness *harness, const struct ph_options *options)
{
	char why[PH_WHY_BYTES];
	int status;

	memset(harness, 0, sizeof(*harness));
	harness->listener = -1;
	harness->memory_before = memory_script_live();
	harness->hub.options = *options;
	harness->hub.options.user = harness;
	harness->hub.callbacks = (struct ph_callbacks){
		.on_hello = on_hello,
		.on_verify = on_verify,
		.on_connect = on_connect,
		.on_open = on_open,
		.on_data = on_data,
		.on_writable = on_writable,
		.on_closed = on_closed,
	};
	if (digest_init() < 0 || ring_probe(&harness->hub.features, why) < 0)
		harness_breach("the seam does not start");
	pthread_mutex_init(&harness->hub.lock, NULL);
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		sem_init(&harness->hub.listeners[i].done, 0, 0);
	status = shard_create(&harness->hub, 0, &harness->shard);
	if (status < 0)
		return status;
	if (harness->shard->home->index >= homes_seen) {
		/* Its slot table and free queue stay for the life of the process. */
		homes_seen = harness->shard->home->index + 1;
		harness->memory_before += 2;
	}
	status = shard_begin(harness->shard);
	if (status < 0) {
		shard_self_set(NULL);
		shard_destroy(harness->shard);
		return status;
	}
	if (options->flags & PH_HUB_RESUME) {
		harness->hub.resume = resume_create(8);
		if (harness->hub.resume == NULL)
			harness_breach("no memory for secrets");
	}
	harness->hub.shards[0] = harness->shard;
	harness->hub.shard_count = 1;
	harness->ring = harness->shard->ring;
	return 0;
}

void harness_begin(struct harness *harness)
{
	struct ph_options options;

	harness_options(&options);
	if (harness_start(harness, &options) < 0)
		harness_breach("the shard does not start");
}

void harness_turn(struct harness *harness)
{
	shard_turn(harness->shard, false);
}

void harness_turns(struct harness *harness, uint32_t count)
{
	while (count-- > 0)
		harness_turn(harness);
}

/* Whatever is held answers as a kernel that gives everything up. */
static void end_answer_all(struct harness *harness)
{
	struct script_op *op, *next;

	for (op = script_walk(harness->ring, NULL); op != NULL; op = next) {
		uint64_t number = op->number;

		if (op->submitted && (script_held(harness->ring) & (1u << op->kind))) {
			if (op->kind == SCRIPT_SOCKET)
				script_answer(harness->ring, op, -ENFILE);
			else if (op->kind == SCRIPT_CONNECT || op->kind == SCRIPT_RECV ||
				op->kind == SCRIPT_SEND)
				script_answer(harness->ring, op, -ECONNRESET);
			else
				script_answer_natural(harness->ring, op);
		}
		/* The answer may have freed it and ended others: on from the next number. */
		next = script_walk(harness->ring, NULL);
		while (next != NULL && next->number <= number)
			next = script_walk(harness->ring, next);
	}
}

void harness_end(struct harness *harness)
{
	uint32_t turns = 0;

	memory_script_fail(0, false);
	script_set_entries(harness->ring, 1024, false);
	script_set_enter_status(harness->ring, 0);
	harness->in_open = NULL;
	harness->in_data = NULL;
	harness->in_connect = NULL;
	harness->in_verify = NULL;
	harness->in_closed = NULL;
	harness->in_writable = NULL;
	atomic_store(&harness->hub.stopping, true);
	harness->shard->stop_how = PH_ABORT;
	shard_post(harness->shard->home, &harness->shard->stop_command);
	do {
		harness_turn(harness);
		end_answer_all(harness);
		clock_script_advance_ms(100); /* those that linger come to their deadline */
		if (++turns == END_TURNS_MAX) {
			shard_dump(harness->shard, stderr);
			harness_breach("the shard does not come to its end");
		}
	} while (!shard_is_done(harness->shard));
	harness->shard->home->table.generation_last = UINT32_MAX;
	resume_destroy(harness->hub.resume);
	harness->hub.resume = NULL;
	for (uint32_t i = 0; i < harness->peer_count; i++) {
		if (harness->peers[i].opened > 0 && harness->peers[i].closed != 1)
			harness_breach("%llx was opened and never closed",
				(unsigned long long)harness->peers[i].id);
		free(harness->peers[i].data);
	}
	if (atomic_load(&harness->hub.reassembly_bytes) != 0)
		harness_breach("bytes of partial messages are left");
	shard_end(harness->shard);
	shard_destroy(harness->shard);
	memory_free(harness->hub.tags_ended);
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		sem_destroy(&harness->hub.listeners[i].done);
	pthread_mutex_destroy(&harness->hub.lock);
	harness->stopped = true;
}

/* ---- connections -------------------------------------------------------------------------- */

static uint64_t dial(struct harness *harness, enum ph_framing framing, const char *expected,
	struct ph_credentials *credentials)
{
	struct ph_open_options options = {
		.kind = PH_KIND_DIRECT,
		.framing = framing,
		.tls = credentials != NULL ? PH_TLS_MUTUAL : PH_TLS_NONE,
		.credentials = credentials,
		.sni = "hub",
		.group = HARNESS_GROUP,
		.source = HARNESS_OWN,
		.expected = expected,
		.tag = HARNESS_TAG,
		.user = HARNESS_USER,
	};
	uint64_t id;

	if (ph_address_parse("[::1]:7", &options.address) < 0)
		harness_breach("an address");
	return ph_open(&harness->hub, &options, &id) == 0 ? id : 0;
}

uint64_t harness_dial(struct harness *harness, enum ph_framing framing)
{
	return dial(harness, framing, HARNESS_PEER, NULL);
}

uint64_t harness_dial_tls(
	struct harness *harness, enum ph_framing framing, struct ph_credentials *credentials)
{
	return dial(harness, framing, NULL, credentials);
}

void harness_listen(struct harness *harness, enum ph_framing framing, enum ph_tls tls)
{
	struct ph_listen_options options = {
		.framing = framing, .tls = tls, .tag = HARNESS_TAG, .user = HARNESS_USER};

	if (ph_address_parse("127.0.0.1:0", &options.address) < 0)
		harness_breach("an address");
	harness->listener = ph_listen(&harness->hub, &options, NULL);
	if (harness->listener < 0)
		harness_breach("ph_listen: %d", harness->listener);
	harness->listen_fd = harness->shard->listeners[harness->listener].fd;
	harness_turns(harness, 2);
}

int32_t harness_accept(struct harness *harness)
{
	struct script_op *op = script_find(harness->ring, SCRIPT_ACCEPT, harness->listen_fd);
	int32_t file;

	if (op == NULL)
		return -1;
	file = script_answer_accept(harness->ring, op, true);
	harness_turn(harness);
	return file;
}

uint64_t harness_newest_id(const struct harness *harness)
{
	const struct conn *newest = NULL;

	for (uint32_t i = 0; i < harness->shard->slot_count; i++) {
		const struct conn *conn = &harness->shard->conns[i];

		if (conn->state == CONN_FREE)
			continue;
		if (newest == NULL || conn->file > newest->file)
			newest = conn;
	}
	return newest != NULL ? conn_id(newest) : 0;
}

uint64_t harness_open_dialled(struct harness *harness, enum ph_framing framing, int32_t *file)
{
	uint64_t id = harness_dial(harness, framing);

	harness_turns(harness, 4);
	*file = harness_conn(harness, id)->file;
	if (framing == PH_FRAMING_MESSAGE)
		peer_says_welcome(harness, *file);
	harness_turns(harness, 3);
	if (harness_peer(harness, id)->opened != 1)
		harness_breach("the dialled connection does not open");
	return id;
}

uint64_t harness_open_accepted(struct harness *harness, enum ph_framing framing, int32_t *file)
{
	uint64_t id;

	if (harness->listener < 0)
		harness_listen(harness, framing, PH_TLS_NONE);
	*file = harness_accept(harness);
	id = harness_newest_id(harness);
	if (framing == PH_FRAMING_MESSAGE) {
		peer_says_auth_info(harness, *file);
		peer_says_connect(harness, *file);
	}
	harness_turns(harness, 3);
	if (harness_peer(harness, id)->opened != 1)
		harness_breach("the accepted connection does not open");
	return id;
}

int harness_close_text(
	struct harness *harness, uint64_t id, enum ph_how how, uint32_t reason, const char *text)
{
	int status;

	shard_self_set(NULL);
	status = ph_close(id, HARNESS_TAG, how, reason, text);
	shard_self_set(harness->shard);
	return status;
}

int harness_close(struct harness *harness, uint64_t id, enum ph_how how)
{
	return harness_close_text(harness, id, how, 0, NULL);
}

int harness_send_inside(uint64_t id, const void *data, size_t bytes)
{
	struct ph_part part = {data, bytes};

	return ph_send(id, HARNESS_TAG, harness_type, &part, 1);
}

int harness_send(struct harness *harness, uint64_t id, const void *data, size_t bytes)
{
	int status;

	shard_self_set(NULL);
	status = harness_send_inside(id, data, bytes);
	shard_self_set(harness->shard);
	return status;
}

/* ---- the other end ------------------------------------------------------------------------ */

static size_t must_write(ssize_t bytes)
{
	if (bytes < 0)
		harness_breach("a message of the peer cannot be written: %zd", bytes);
	return (size_t)bytes;
}

size_t peer_auth_info(uint8_t *out)
{
	struct wire_auth_info message = {
		.kind = PH_KIND_DIRECT,
		.graph = HARNESS_GROUP,
		.source = HARNESS_PEER,
		.destination = HARNESS_OWN,
	};

	return must_write(wire_auth_info_write(out, HARNESS_MESSAGE_MAX, &message));
}

size_t peer_connect(uint8_t *out)
{
	struct wire_connect message = {
		.flags = WIRE_CONNECT_DIRECT, .node_id = 9, .friendly_name = "peer"};

	return must_write(wire_connect_write(out, HARNESS_MESSAGE_MAX, &message));
}

size_t peer_welcome(uint8_t *out)
{
	struct wire_welcome message = {.node_id = 9, .peer_time = 5, .peer_id = HARNESS_PEER};

	return must_write(wire_welcome_write(out, HARNESS_MESSAGE_MAX, &message));
}

size_t peer_refuse(uint8_t *out, uint8_t code)
{
	return must_write(wire_refuse_write(out, HARNESS_MESSAGE_MAX, code));
}

size_t peer_disconnect(uint8_t *out, uint8_t reason)
{
	return must_write(wire_disconnect_write(out, HARNESS_MESSAGE_MAX, reason));
}

size_t peer_notice(uint8_t *out, uint32_t code, const char *text)
{
	struct wire_notice notice = {
		.code = code, .text = text, .text_bytes = (uint32_t)strlen(text)};

	return must_write(wire_notice_write(out, HARNESS_MESSAGE_MAX, &notice));
}

size_t peer_message(uint8_t *out, const void *data, size_t bytes)
{
	wire_pt2pt_head_write(out, harness_type, (uint32_t)bytes);
	if (bytes > 0)
		memcpy(out + WIRE_PT2PT_BYTES, data, bytes);
	return WIRE_PT2PT_BYTES + bytes;
}

void peer_says_auth_info(struct harness *harness, int32_t file)
{
	uint8_t message[HARNESS_MESSAGE_MAX];

	script_peer_data(harness->ring, file, message, peer_auth_info(message));
}

void peer_says_connect(struct harness *harness, int32_t file)
{
	uint8_t message[HARNESS_MESSAGE_MAX];

	script_peer_data(harness->ring, file, message, peer_connect(message));
}

void peer_says_welcome(struct harness *harness, int32_t file)
{
	uint8_t message[HARNESS_MESSAGE_MAX];

	script_peer_data(harness->ring, file, message, peer_welcome(message));
}

void peer_says_message(struct harness *harness, int32_t file, const void *data, size_t bytes)
{
	uint8_t *message = malloc(WIRE_PT2PT_BYTES + bytes);

	if (message == NULL)
		harness_breach("out of memory");
	script_peer_data(harness->ring, file, message, peer_message(message, data, bytes));
	free(message);
}

void peer_says_disconnect(struct harness *harness, int32_t file)
{
	uint8_t message[HARNESS_MESSAGE_MAX];

	script_peer_data(harness->ring, file, message,
		peer_disconnect(message, WIRE_DISCONNECT_APPLICATION));
}

uint32_t peer_heard(const struct harness *harness, int32_t file, uint8_t type)
{
	size_t bytes, at = 0;
	const uint8_t *sent = script_sent(harness->ring, file, &bytes);
	struct wire_header header;
	uint32_t count = 0;

	while (bytes - at >= WIRE_HEADER_BYTES) {
		if (wire_header_parse(sent + at, PH_MESSAGE_BYTES_MAX, &header) < 0)
			harness_breach("file %d has sent what is no message", file);
		if (bytes - at < header.bytes)
			break;
		count += header.type == type;
		at += header.bytes;
	}
	return count;
}
