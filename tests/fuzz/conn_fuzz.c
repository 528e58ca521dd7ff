/*
 * One connection of the real engine on the scripted seam, and a peer whose every byte the input
 * chooses: accepted or dialled, messages or raw, clear or over TLS, before the greeting is done or
 * after it. The input is a program: bytes of the peer, well-formed messages with any content, what an
 * application does meanwhile (also inside callbacks), time, shortages, the stream's end.
 *
 * Over TLS the peer is a TLS end of our own that encrypts what the input says, so the bytes reach the
 * messages behind the records; TLS's own bytes may be bent too.
 *
 * The harness judges: one final event, nothing after it, no operation in the kernel then, bytes of
 * receipts that add up; here: all connections end when aborted, and no block of memory is left.
 */
#include "engine/conn.h"
#include "engine/tls.h"
#include "engine/wire.h"
#include "tests/engine/test_certs.h"
#include "tests/fake/harness.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define INPUTS_PER_HARNESS 64 /* a shard costs more than an input: it serves many */
#define STEPS_MAX 400
#define END_TURNS_MAX 4000

/* The first byte of an input. */
#define IS_ACCEPTED 1u
#define IS_RAW 2u
#define IS_TLS 4u
#define IS_OPEN 8u /* the greeting is behind us when the program begins */
#define IS_TIGHT 16u /* small limits */
#define IS_REFUSED 32u /* the verdict or the answer to CONNECT is a refusal */
#define IS_INSIDE 64u /* the application acts inside callbacks */
#define IS_RARE 128u /* the second byte says what */

/* The second byte with IS_RARE. */
#define RARE_NO_SOCKET_CMD 1u /* an old kernel: what is unsent cannot be asked */
#define RARE_BLOCKED 2u /* on_data takes nothing until told otherwise */
#define RARE_VERIFY 4u /* IS_REFUSED is the verdict's */
#define RARE_NO_HELLO 8u /* on_hello refuses */

static struct harness it;
static bool is_begun;
static uint32_t inputs;
static int64_t memory_live;
static int listeners[4], listen_fds[4];
static struct ph_credentials *credentials;

static struct input program; /* callbacks read from it too */
static uint64_t id;
static int32_t file;
static bool is_tls;

/* ---- the peer's TLS ------------------------------------------------------------------------ */

static struct tls_shard *peer_shard;
static struct tls *peer;
static size_t peer_read; /* of what the file has sent */

static int peer_on_hello(void *context, const char *sni, struct ph_credentials **given)
{
	(void)context, (void)sni;
	*given = ph_credentials_get(credentials);
	return 0;
}

static int peer_on_verify(void *context, const struct ph_chain *chain)
{
	(void)context, (void)chain;
	return 0;
}

static const struct tls_events peer_events = {
	.on_hello = peer_on_hello, .on_verify = peer_on_verify};

static void peer_give(struct chain *out)
{
	struct chunk *chunk;

	while ((chunk = chain_pop(out)) != NULL) {
		script_peer_data(
			it.ring, file, chunk->data + chunk->offset, chunk->bytes - chunk->offset);
		chunk_destroy(chunk);
	}
}

/* The peer reads what we have sent, and answers. */
static void peer_pump(void)
{
	struct chain out = {0};
	uint8_t plain[512];
	const uint8_t *sent;
	size_t bytes;
	ssize_t got = 0;

	if (peer == NULL)
		return;
	sent = script_sent(it.ring, file, &bytes);
	tls_input_drop(peer);
	tls_input(peer, sent + peer_read, bytes - peer_read);
	peer_read = bytes;
	if (tls_handshake(peer, &out) == 0)
		do
			got = tls_read(peer, plain, sizeof(plain), &out);
		while (got > 0);
	tls_input_drop(peer);
	peer_give(&out);
}

/* Plain bytes of the peer: as they are, or as records. */
static void peer_says(const uint8_t *data, size_t bytes)
{
	struct chain out = {0};

	if (peer == NULL) {
		script_peer_data(it.ring, file, data, bytes);
		return;
	}
	peer_pump();
	if (tls_handshake(peer, &out) == 0 && bytes > 0)
		(void)tls_write(peer, data, bytes, &out);
	peer_give(&out);
}

static void peer_says_goodbye(void)
{
	struct chain out = {0};

	bool is_done;

	if (peer == NULL)
		return;
	is_done = tls_handshake(peer, &out) == 0;
	if (is_done)
		(void)tls_goodbye(peer, &out);
	peer_give(&out);
	if (!is_done)
		return;
	/* It has said its last. */
	tls_destroy(peer);
	peer = NULL;
	script_peer_end(it.ring, file, 0);
}

/* ---- messages ------------------------------------------------------------------------------ */

/* A header that is right in front of bytes that may be anything. */
static void says_framed(uint8_t type)
{
	uint8_t message[WIRE_HEADER_BYTES + 255] = {0};
	size_t bytes;
	const uint8_t *taken = input_take(&program, input_byte(&program), &bytes);

	message[2] = (uint8_t)((WIRE_HEADER_BYTES + bytes) >> 8);
	message[3] = (uint8_t)(WIRE_HEADER_BYTES + bytes);
	message[4] = 0x10;
	message[5] = type;
	if (bytes > 0)
		memcpy(message + WIRE_HEADER_BYTES, taken, bytes);
	peer_says(message, WIRE_HEADER_BYTES + bytes);
}

/* The peer's own name: over TLS what on_verify of the harness reads in every chain. */
static const char *peer_name(void)
{
	return is_tls ? HARNESS_OWN : HARNESS_PEER;
}

static size_t auth_info(uint8_t *out)
{
	struct wire_auth_info message = {.kind = PH_KIND_DIRECT,
		.graph = HARNESS_GROUP,
		.source = peer_name(),
		.destination = HARNESS_OWN};

	return (size_t)wire_auth_info_write(out, HARNESS_MESSAGE_MAX, &message);
}

static size_t welcome(uint8_t *out)
{
	struct wire_welcome message = {.node_id = 9, .peer_time = 5, .peer_id = peer_name()};

	return (size_t)wire_welcome_write(out, HARNESS_MESSAGE_MAX, &message);
}

/* A message as an honest peer writes it; a part of it when the input says so. */
static void says_written(uint8_t which)
{
	static const uint8_t zeros[3000];
	uint8_t message[HARNESS_MESSAGE_MAX];
	uint8_t ping[WIRE_PT2PT_BYTES];
	size_t bytes = 0, cut = input_byte(&program);

	switch (which % 8) {
	case 0:
		bytes = auth_info(message);
		break;
	case 1:
		bytes = peer_connect(message);
		break;
	case 2:
		bytes = welcome(message);
		break;
	case 3:
		bytes = peer_refuse(message, (uint8_t)(1 + input_byte(&program) % 4));
		break;
	case 4:
		bytes = peer_disconnect(message, (uint8_t)(1 + input_byte(&program) % 3));
		break;
	case 5:
		bytes = peer_notice(message, input_number(&program, 2), "words");
		break;
	case 6:
		wire_pt2pt_head_write(ping, wire_ping_type, 0);
		memcpy(message, ping, sizeof(ping));
		bytes = sizeof(ping);
		break;
	default:
		bytes = peer_message(message, zeros, input_number(&program, 2) % sizeof(zeros));
		break;
	}
	if (cut > 0 && cut < bytes)
		bytes -= cut;
	peer_says(message, bytes);
}

/* ---- what the application does -------------------------------------------------------------- */

static void act(bool inside)
{
	static const uint8_t much[4000];
	uint8_t what = input_byte(&program);
	size_t bytes;

	switch (what % 10) {
	case 0:
	case 1:
		bytes = input_number(&program, 1 + what % 2) % sizeof(much);
		(void)!(inside ? harness_send_inside(id, much, bytes)
			       : harness_send(&it, id, much, bytes));
		break;
	case 2:
		(void)(inside ? ph_close(id, HARNESS_TAG, PH_GRACEFUL, 1234, "enough")
			      : harness_close_text(&it, id, PH_GRACEFUL, 1234, "enough"));
		break;
	case 3:
		(void)(inside ? ph_close(id, HARNESS_TAG, PH_ABORT, 0, NULL)
			      : harness_close(&it, id, PH_ABORT));
		break;
	case 4:
		(void)!ph_pause(id, HARNESS_TAG);
		break;
	case 5:
		(void)!ph_resume(id, HARNESS_TAG);
		break;
	case 6:
		it.data_status = -EAGAIN;
		break;
	case 7:
		it.data_status = 0;
		break;
	case 8:
		it.refuse = (enum ph_refuse)(input_byte(&program) % 5);
		break;
	default:
		it.verify_status = input_byte(&program) % 2 ? -EACCES : 0;
		break;
	}
}

static void inside(struct harness *harness, uint64_t of)
{
	(void)harness;
	if (of == id && program.left > 0)
		act(true);
}

/* ---- the world ------------------------------------------------------------------------------ */

static void trouble(void)
{
	uint8_t what = input_byte(&program);
	uint32_t number = input_byte(&program);

	switch (what % 9) {
	case 0:
		memory_script_fail(1 + number % 32, number >= 128);
		break;
	case 1:
		script_set_buffers(it.ring, number % 4);
		break;
	case 2:
		script_set_send_max(it.ring, number);
		break;
	case 3:
		script_set_slice_max(it.ring, number);
		break;
	case 4:
		script_set_entries(it.ring, number % 24, number >= 128);
		break;
	case 5:
		script_hold(it.ring, 1u << number % SCRIPT_KIND_COUNT);
		break;
	case 6:
		script_set_overflow(it.ring);
		break;
	case 7:
		script_hold(it.ring, 0);
		break;
	default:
		memory_script_fail(0, false);
		script_set_buffers(it.ring, it.hub.options.receive_buffer_count);
		script_set_entries(it.ring, 1024, false);
		script_set_send_max(it.ring, 0);
		script_set_slice_max(it.ring, 0);
		script_hold(it.ring, 0);
		break;
	}
}

/* An answer for the oldest operation that is held. */
static void answer(void)
{
	static const int32_t errors[] = {-ECONNRESET, -EPIPE, -ETIMEDOUT, -ECANCELED, -ENOBUFS,
		-EMFILE, -EIO, -ENOENT, -EALREADY, -ECONNREFUSED};
	uint8_t how = input_byte(&program);
	struct script_op *op = NULL;

	while ((op = script_walk(it.ring, op)) != NULL)
		if (op->submitted && (script_held(it.ring) & 1u << op->kind) &&
			op->kind != SCRIPT_ACCEPT)
			break;
	if (op == NULL)
		return;
	if (how < 128 || op->kind == SCRIPT_CLOSE || op->kind == SCRIPT_OPTION ||
		op->kind == SCRIPT_DISCONNECT || op->kind == SCRIPT_CANCEL)
		script_answer_natural(it.ring, op);
	else
		script_answer(it.ring, op, errors[how % (sizeof(errors) / sizeof(errors[0]))]);
}

static void end_of_stream(void)
{
	static const int32_t errors[] = {0, -ECONNRESET, -ETIMEDOUT, -EPIPE};

	script_peer_end(it.ring, file, errors[input_byte(&program) % 4]);
}

static void step(void)
{
	const uint8_t *taken;
	uint8_t what = input_byte(&program);
	size_t bytes;

	switch (what % 16) {
	case 0:
	case 1:
		taken = input_take(&program, input_byte(&program), &bytes);
		peer_says(taken, bytes);
		break;
	case 2:
	case 3:
		says_framed((uint8_t)(input_byte(&program) % 0x52));
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		says_written(what >> 4);
		break;
	case 8:
	case 9:
		act(false);
		break;
	case 10:
		clock_script_advance_ms(input_number(&program, 2) * 4u);
		break;
	case 11:
		trouble();
		break;
	case 12:
		if (what & 16)
			peer_says_goodbye();
		else
			end_of_stream();
		break;
	case 13:
		/* Bytes under TLS: not what the peer's TLS would have said. */
		taken = input_take(&program, 1 + input_byte(&program) % 32, &bytes);
		script_peer_data(it.ring, file, taken, bytes);
		break;
	case 14:
		answer();
		break;
	default:
		peer_pump();
		harness_turns(&it, 1 + what / 16);
		break;
	}
}

/* ---- life ----------------------------------------------------------------------------------- */

static void listen_all(void)
{
	for (uint32_t index = 0; index < 4; index++) {
		harness_listen(&it, index & 1 ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE,
			index & 2 ? PH_TLS_MUTUAL : PH_TLS_NONE);
		listeners[index] = it.listener;
		listen_fds[index] = it.listen_fd;
	}
}

static void finish(void)
{
	if (is_begun)
		harness_end(&it);
	tls_shard_destroy(peer_shard);
	ph_credentials_put(credentials);
}

static void prepare(void)
{
	struct ph_options options;

	if (credentials == NULL) {
		random_is_ours();
		credentials = test_identity_create(TEST_P256, "fuzz");
		FUZZ_MUST(tls_shard_create(&peer_events, 0, &peer_shard) == 0);
		FUZZ_MUST(atexit(finish) == 0);
	}
	clock_script_set_ns(1000000000u);
	entropy_script_seed(1);
	script_set_probe(0, true, true);
	harness_options(&options);
	FUZZ_MUST(harness_start(&it, &options) == 0);
	it.hello = credentials;
	listen_all();
	is_begun = true;
	inputs = 0;
}

static void set_limits(uint8_t config)
{
	struct ph_options *options = &it.hub.options;

	options->message_bytes_max = config & IS_TIGHT ? 300 : 65536;
	options->reassembly_bytes_max = config & IS_TIGHT ? 512 : 1u << 20;
	options->send_queue_bytes = config & IS_TIGHT ? 4096 : 65536;
}

static void begin_accepted(uint8_t config)
{
	uint32_t index = (config & IS_RAW ? 1 : 0) | (config & IS_TLS ? 2 : 0);

	it.listener = listeners[index];
	it.listen_fd = listen_fds[index];
	file = harness_accept(&it);
	FUZZ_MUST(file >= 0);
	id = harness_newest_id(&it);
}

static void begin_dialled(uint8_t config)
{
	enum ph_framing framing = config & IS_RAW ? PH_FRAMING_RAW : PH_FRAMING_MESSAGE;

	id = config & IS_TLS ? harness_dial_tls(&it, framing, credentials)
			     : harness_dial(&it, framing);
	FUZZ_MUST(id != 0);
	harness_turns(&it, 4);
	file = script_file_newest(it.ring); /* it may be closed again, by a callback */
}

/* As an honest peer, up to on_open. */
static void greet(uint8_t config)
{
	uint8_t message[HARNESS_MESSAGE_MAX];

	for (int turn = 0; turn < 8; turn++) {
		peer_pump();
		harness_turns(&it, 2);
	}
	if (!(config & IS_RAW) && (config & IS_ACCEPTED)) {
		peer_says(message, auth_info(message));
		peer_says(message, peer_connect(message));
	} else if (!(config & IS_RAW)) {
		peer_says(message, welcome(message));
	}
	harness_turns(&it, 3);
	FUZZ_MUST(
		config & (IS_REFUSED | IS_INSIDE | IS_RARE) || harness_peer(&it, id)->opened == 1);
}

static void begin(uint8_t config)
{
	uint8_t rare = config & IS_RARE ? input_byte(&program) : 0;

	set_limits(config);
	it.any_type = true;
	it.verify_status = config & IS_REFUSED && rare & RARE_VERIFY ? -EACCES : 0;
	it.refuse = config & IS_REFUSED && !(rare & RARE_VERIFY) ? PH_REFUSE_BUSY : PH_ACCEPT;
	it.data_status = rare & RARE_BLOCKED ? -EAGAIN : 0;
	it.hello = rare & RARE_NO_HELLO ? NULL : credentials;
	it.hub.features.socket_cmd = !(rare & RARE_NO_SOCKET_CMD);
	it.in_open = it.in_data = it.in_connect = it.in_verify = it.in_writable =
		config & IS_INSIDE ? inside : NULL;
	peer_read = 0;
	is_tls = config & IS_TLS;
	if (is_tls)
		FUZZ_MUST(tls_open(peer_shard, config & IS_ACCEPTED ? TLS_CLIENT : TLS_SERVER,
				  config & IS_ACCEPTED ? credentials : NULL, "hub", NULL,
				  &peer) == 0);
	if (config & IS_ACCEPTED)
		begin_accepted(config);
	else
		begin_dialled(config);
	if (config & IS_OPEN)
		greet(config);
}

/* Blocks in use but those that the shard keeps for its next sends. */
static int64_t memory_count(void)
{
	return memory_script_live() - it.shard->blocks_count;
}

static bool is_quiet(void)
{
	for (uint32_t index = 0; index < it.shard->slot_count; index++)
		if (it.shard->conns[index].state != CONN_FREE)
			return false;
	return true;
}

static bool is_listening(void)
{
	for (uint32_t index = 0; index < 4; index++)
		if (script_find(it.ring, SCRIPT_ACCEPT, listen_fds[index]) == NULL)
			return false;
	return true;
}

/* Whatever the program left: made well, aborted, and gone. */
static void end(void)
{
	uint32_t turns = 0;
	struct harness_peer *seen = harness_peer(&it, id);

	memory_script_fail(0, false);
	script_set_buffers(it.ring, it.hub.options.receive_buffer_count);
	script_set_entries(it.ring, 1024, false);
	script_set_send_max(it.ring, 0);
	script_set_slice_max(it.ring, 0);
	it.in_open = it.in_data = it.in_connect = it.in_verify = it.in_writable = NULL;
	it.data_status = 0;
	(void)harness_close(&it, id, PH_ABORT);
	while (!is_quiet()) {
		struct script_op *op = NULL;

		while ((op = script_walk(it.ring, op)) != NULL)
			if (op->submitted && (script_held(it.ring) & 1u << op->kind) &&
				op->kind != SCRIPT_ACCEPT)
				break;
		if (op != NULL)
			script_answer_natural(it.ring, op);
		else
			script_hold(it.ring, 0);
		harness_turn(&it);
		clock_script_advance_ms(100);
		if (++turns == END_TURNS_MAX) {
			shard_dump(it.shard, stderr);
			FUZZ_MUST(!"the connection does not end");
		}
	}
	script_hold(it.ring, 0);
	harness_turns(&it, 2);
	while (!is_listening()) {
		clock_script_advance_ms(100);
		harness_turn(&it);
		FUZZ_MUST(++turns < END_TURNS_MAX);
	}
	FUZZ_MUST(seen->closed == 1);
	free(seen->data);
	seen->data = NULL;
	seen->bytes = seen->capacity = 0;
	tls_destroy(peer);
	peer = NULL;
	FUZZ_MUST(atomic_load(&it.hub.reassembly_bytes) == 0);
	FUZZ_MUST(ring_buffers_out(it.ring) == 0);
	if (memory_count() != memory_live) {
		fprintf(stderr, "blocks of memory: %lld before, %lld after\n",
			(long long)memory_live, (long long)memory_count());
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t config;

	if (!is_begun || ++inputs == INPUTS_PER_HARNESS) {
		if (is_begun)
			harness_end(&it);
		prepare();
	}
	random_state = 1;
	memory_live = memory_count();
	program = (struct input){data, bytes};
	config = input_byte(&program);
	begin(config);
	for (int steps = 0; program.left > 0 && steps < STEPS_MAX; steps++)
		step();
	harness_turns(&it, 4);
	end();
	return 0;
}
