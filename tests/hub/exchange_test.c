/*
 * exchange_test.c: the sender and the receiver of a transfer against each other, over a made-up way
 * that refuses, drops and delays by a seed, in made-up time. What the receiver stores must be what
 * the sender read, whatever the way does to the messages; where it cannot be, nothing may be stored.
 *
 * Takes --seed N; prints it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/loop.h"
#include "hub/receiver.h"
#include "hub/route.h"
#include "hub/say.h"
#include "hub/sender.h"
#include "hub/transfer.h"
#include "stress/scratch.h"

#define SIDE_SENDER 1u
#define SIDE_RECEIVER 2u
#define QUEUE_MAX 4096u
#define STEPS_MAX 400000u
#define ROUNDS 40

static uint64_t seed;
static uint64_t random_state;

static uint32_t chance(uint32_t of)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % of;
}

/* ---- the way: a link-time stand-in for route.c ------------------------------------------------ */

const uint8_t relay_type[16] = RELAY_TYPE_BYTES;

struct letter {
	bool is_status;
	uint32_t code;
	uint64_t tag;
	enum transfer_kind kind;
	size_t bytes;
	uint8_t *data;
};

static struct way {
	struct letter queue[2][QUEUE_MAX]; /* to the sender, to the receiver */
	size_t first[2], count[2];
	uint32_t block_of, slow_of, lose_of; /* one in so many; 0: never */
	bool absent, gone;
	uint64_t sent;
} way;

bool route_is(const struct route *left, const struct route *right)
{
	return left->connection == right->connection;
}

const char *route_word(const struct route *route)
{
	return route->name == NULL ? "direct" : "hub";
}

int route_broadcast(const struct route *route, const struct transfer_message *message)
{
	(void)route;
	(void)message;
	return -EIO;
}

static void post(unsigned side, struct letter letter)
{
	assert_true(way.count[side] < QUEUE_MAX);
	way.queue[side][(way.first[side] + way.count[side]++) % QUEUE_MAX] = letter;
}

static bool happens(uint32_t one_of)
{
	return one_of != 0 && chance(one_of) == 0;
}

int route_send(const struct route *route, const struct transfer_message *message)
{
	static uint8_t out[TRANSFER_BYTES_MAX];
	unsigned here = route->connection == SIDE_SENDER ? 0 : 1;
	struct letter letter = {.kind = message->kind, .tag = message->id};
	size_t written;

	if (way.gone)
		return -ENOENT;
	if (happens(way.block_of) || way.count[1 - here] == QUEUE_MAX)
		return -EAGAIN;
	way.sent++;
	if (route->name != NULL && (way.absent || happens(way.slow_of))) {
		post(here,
			(struct letter){.is_status = true,
				.code = way.absent ? RELAY_ABSENT : RELAY_SLOW,
				.tag = message->id});
		return 0;
	}
	if (route->name != NULL && happens(way.lose_of))
		return 0;
	assert_int_equal(transfer_encode(message, out, sizeof(out), &written), 0);
	letter.bytes = written;
	letter.data = malloc(written + 1);
	assert_non_null(letter.data);
	memcpy(letter.data, out, written);
	post(1 - here, letter);
	return 0;
}

static struct letter take(unsigned side)
{
	struct letter letter = way.queue[side][way.first[side]];

	way.first[side] = (way.first[side] + 1) % QUEUE_MAX;
	way.count[side]--;
	return letter;
}

static void way_clear(void)
{
	for (unsigned side = 0; side < 2; side++)
		while (way.count[side] > 0)
			free(take(side).data);
	memset(&way, 0, sizeof(way));
}

/* ---- one exchange ----------------------------------------------------------------------------- */

struct exchange {
	struct receiver receiver;
	struct sender *sender;
	struct route to, from; /* as the sender and as the receiver see the way */
	char directory[SCRATCH_BYTES], source[64];
	uint8_t *content;
	size_t bytes;
	uint64_t now_ms;
};

static void exchange_begin(struct exchange *exchange, size_t bytes, bool relayed, bool offer_size)
{
	struct receiver_options receiver = {.directory = exchange->directory};
	struct sender_options options = {.peer = "peer",
		.name = "../a file",
		.content = TRANSFER_FILE,
		.size = offer_size ? bytes : TRANSFER_SIZE_UNKNOWN,
		.wait_ms = 2000};

	memset(exchange, 0, sizeof(*exchange));
	assert_true(scratch_create(exchange->directory, NULL, "exchange"));
	strcpy(exchange->source, "/tmp/peerhub-source-XXXXXX");
	options.fd = mkstemp(exchange->source);
	assert_true(options.fd >= 0);
	exchange->bytes = bytes;
	exchange->content = malloc(bytes + 1);
	assert_non_null(exchange->content);
	for (size_t i = 0; i < bytes; i++)
		exchange->content[i] = (uint8_t)chance(256);
	assert_int_equal(write(options.fd, exchange->content, bytes), bytes);
	assert_int_equal(lseek(options.fd, 0, SEEK_SET), 0);
	exchange->now_ms = 1000;
	exchange->to = (struct route){.connection = SIDE_SENDER, .name = relayed ? "peer" : NULL};
	exchange->from = (struct route){.connection = SIDE_RECEIVER, .name = relayed ? "me" : NULL};
	options.route = exchange->to;
	assert_int_equal(receiver_begin(&exchange->receiver, &receiver), 0);
	exchange->sender = sender_create(&options, exchange->now_ms);
	assert_non_null(exchange->sender);
}

static void deliver(struct exchange *exchange, unsigned side)
{
	struct letter letter = take(side);
	struct transfer_message message;
	const char *why = NULL;

	if (letter.is_status && side == 0)
		sender_on_status(exchange->sender, letter.code, exchange->now_ms);
	else if (letter.is_status)
		receiver_on_status(&exchange->receiver, &exchange->from, letter.tag, letter.code,
			exchange->now_ms);
	if (letter.is_status)
		return;
	assert_int_equal(
		transfer_decode(letter.kind, letter.data, letter.bytes, &message, &why), 0);
	if (side == 0)
		assert_true(sender_on_message(exchange->sender, &message, exchange->now_ms));
	else
		assert_null(receiver_on_message(&exchange->receiver, &exchange->from, "source.name",
			&message, exchange->now_ms));
	free(letter.data);
}

/* Let time pass until the sender is finished. Every step delivers a few messages of each side. */
static void exchange_run(struct exchange *exchange)
{
	for (unsigned i = 0; i < STEPS_MAX && sender_state(exchange->sender) < SENDER_DONE; i++) {
		(void)sender_step(exchange->sender, exchange->now_ms);
		(void)receiver_step(&exchange->receiver, exchange->now_ms);
		for (unsigned side = 0; side < 2; side++)
			for (uint32_t some = chance(6); some > 0 && way.count[side] > 0; some--)
				deliver(exchange, side);
		exchange->now_ms += 1 + chance(4);
	}
	assert_true(sender_state(exchange->sender) >= SENDER_DONE);
}

static void expect_stored(const struct exchange *exchange, const char *name)
{
	char path[400];
	uint8_t *content = malloc(exchange->bytes + 1);
	int fd;

	assert_non_null(content);
	snprintf(path, sizeof(path), "%s/%s", exchange->directory, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, content, exchange->bytes + 1), exchange->bytes);
	assert_memory_equal(content, exchange->content, exchange->bytes);
	close(fd);
	free(content);
}

/* Remove the directory; returns how many files were in it. */
static unsigned exchange_end(struct exchange *exchange)
{
	struct dirent *entry;
	unsigned count = 0;
	char path[400];
	DIR *directory;

	sender_destroy(exchange->sender);
	receiver_end(&exchange->receiver);
	way_clear();
	directory = opendir(exchange->directory);
	assert_non_null(directory);
	while ((entry = readdir(directory)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		count++;
		snprintf(path, sizeof(path), "%s/%s", exchange->directory, entry->d_name);
		assert_int_equal(unlink(path), 0);
	}
	closedir(directory);
	assert_int_equal(rmdir(exchange->directory), 0);
	assert_int_equal(unlink(exchange->source), 0);
	free(exchange->content);
	return count;
}

/* ---- cases ------------------------------------------------------------------------------------ */

/* Sizes at the edges of a chunk, straight and through a hub, size offered or not: all arrive. */
static void exchange_of_every_size(void **state)
{
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1200000};
	struct exchange exchange;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * 4; i++) {
		exchange_begin(&exchange, sizes[i / 4], i & 1, i & 2);
		exchange_run(&exchange);
		assert_int_equal(sender_state(exchange.sender), SENDER_DONE);
		expect_stored(&exchange, "a file");
		assert_int_equal(exchange_end(&exchange), 1);
	}
}

/* A way that refuses, drops with a status and loses silently, at random rates: still all arrives. */
static void exchange_over_a_bad_way(void **state)
{
	struct exchange exchange;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		way.block_of = 2 + chance(20);
		way.slow_of = 3 + chance(40);
		way.lose_of = 10 + chance(200);
		exchange_begin(&exchange, chance(600000), true, chance(2));
		exchange_run(&exchange);
		assert_int_equal(sender_state(exchange.sender), SENDER_DONE);
		expect_stored(&exchange, "a file");
		assert_int_equal(exchange_end(&exchange), 1);
	}
}

/* Straight there only our own queue refuses; nothing is ever sent twice. */
static void exchange_straight_with_full_queues(void **state)
{
	struct exchange exchange;

	(void)state;
	way.block_of = 2;
	exchange_begin(&exchange, 640000, false, true);
	exchange_run(&exchange);
	assert_int_equal(sender_state(exchange.sender), SENDER_DONE);
	expect_stored(&exchange, "a file");
	assert_true(way.sent < 2 * 10 + 10);
	assert_int_equal(exchange_end(&exchange), 1);
}

/* A receiver that is not there is waited for as long as asked, then the sender gives up. */
static void exchange_with_nobody(void **state)
{
	struct exchange exchange;

	(void)state;
	way.absent = true;
	exchange_begin(&exchange, 100, true, true);
	exchange_run(&exchange);
	assert_int_equal(sender_state(exchange.sender), SENDER_FAILED);
	assert_true(exchange.now_ms >= 1000 + 1700 && exchange.now_ms < 1000 + 3000);
	assert_int_equal(exchange_end(&exchange), 0);
}

/* The connection goes while data flows: both sides know, and nothing half is left behind. */
static void exchange_lost_on_the_way(void **state)
{
	struct exchange exchange;

	(void)state;
	exchange_begin(&exchange, 5000000, false, true);
	for (int i = 0; i < 12; i++) {
		(void)sender_step(exchange.sender, exchange.now_ms);
		(void)receiver_step(&exchange.receiver, exchange.now_ms);
		while (way.count[0] > 0)
			deliver(&exchange, 0);
		while (way.count[1] > 0)
			deliver(&exchange, 1);
		exchange.now_ms++;
	}
	assert_int_equal(sender_state(exchange.sender), SENDER_SENDING);
	way.gone = true;
	receiver_on_lost(&exchange.receiver, NULL, SIDE_RECEIVER);
	exchange_run(&exchange);
	assert_int_equal(sender_state(exchange.sender), SENDER_FAILED);
	assert_int_equal(exchange.receiver.files_failed, 1);
	assert_int_equal(exchange_end(&exchange), 0);
}

/* The file becomes shorter after its size was offered. */
static void exchange_of_a_shrinking_file(void **state)
{
	struct exchange exchange;

	(void)state;
	exchange_begin(&exchange, 3000000, true, true);
	assert_int_equal(truncate(exchange.source, 200000), 0);
	exchange_run(&exchange);
	assert_int_equal(sender_state(exchange.sender), SENDER_FAILED);
	while (way.count[1] > 0)
		deliver(&exchange, 1);
	assert_int_equal(exchange.receiver.files_failed, 1);
	assert_int_equal(exchange_end(&exchange), 0);
}

/* The same name twice: the first file is not touched. */
static void receiver_never_overwrites(void **state)
{
	struct exchange exchange;
	char path[400];
	int fd;

	(void)state;
	exchange_begin(&exchange, 1000, false, true);
	snprintf(path, sizeof(path), "%s/a file", exchange.directory);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "mine", 4), 4);
	close(fd);
	exchange_run(&exchange);
	assert_int_equal(sender_state(exchange.sender), SENDER_DONE);
	expect_stored(&exchange, "a file.1");
	assert_int_equal(exchange_end(&exchange), 2);
}

static void say_to(struct exchange *exchange, struct transfer_message message)
{
	assert_null(receiver_on_message(
		&exchange->receiver, &exchange->from, "source.name", &message, exchange->now_ms));
}

static struct letter answer_of(struct exchange *exchange)
{
	(void)receiver_step(&exchange->receiver, exchange->now_ms);
	assert_int_equal(way.count[0], 1);
	return take(0);
}

static uint32_t result_of(struct exchange *exchange)
{
	struct letter letter = answer_of(exchange);
	struct transfer_message message;

	assert_int_equal(letter.kind, TRANSFER_RESULT);
	assert_int_equal(
		transfer_decode(letter.kind, letter.data, letter.bytes, &message, NULL), 0);
	free(letter.data);
	return message.code;
}

static void offer(
	struct exchange *exchange, uint64_t id, uint64_t size, enum transfer_content content)
{
	say_to(exchange,
		(struct transfer_message){.kind = TRANSFER_OFFER,
			.id = id,
			.content = (uint8_t)content,
			.size = size,
			.text = "x",
			.text_bytes = 1});
}

/* What a faulty or hostile sender may do, each with the answer that it gets. */
static void receiver_answers_to_wrong_senders(void **state)
{
	static const uint8_t data[10];
	struct transfer_message piece = {
		.kind = TRANSFER_DATA, .id = 7, .data = data, .data_bytes = 10};
	struct exchange exchange;

	(void)state;
	exchange_begin(&exchange, 0, false, true);
	say_to(&exchange, piece); /* no offer */
	assert_int_equal(result_of(&exchange), TRANSFER_UNKNOWN);
	offer(&exchange, 6, 5, TRANSFER_LINES); /* not asked for */
	assert_int_equal(result_of(&exchange), TRANSFER_REFUSED);
	offer(&exchange, 7, 5, TRANSFER_FILE);
	free(answer_of(&exchange).data);
	say_to(&exchange, piece); /* more than offered */
	assert_int_equal(result_of(&exchange), TRANSFER_SIZE);
	say_to(&exchange, piece); /* and again: the result is remembered */
	assert_int_equal(result_of(&exchange), TRANSFER_SIZE);
	offer(&exchange, 8, TRANSFER_SIZE_UNKNOWN, TRANSFER_FILE);
	free(answer_of(&exchange).data);
	piece.id = 8;
	say_to(&exchange, piece);
	free(answer_of(&exchange).data);
	say_to(&exchange, (struct transfer_message){.kind = TRANSFER_END, .id = 8, .size = 10});
	assert_int_equal(result_of(&exchange), TRANSFER_DIGEST);
	offer(&exchange, 9, 10, TRANSFER_FILE);
	free(answer_of(&exchange).data);
	say_to(&exchange, (struct transfer_message){.kind = TRANSFER_CLOSE, .id = 9, .code = 10});
	assert_int_equal(exchange.receiver.files_failed, 3);
	/* One sender cannot use up every transfer. */
	for (uint64_t id = 100; id < 116; id++)
		offer(&exchange, id, 1, TRANSFER_FILE);
	(void)receiver_step(&exchange.receiver, exchange.now_ms);
	while (way.count[0] > 0)
		free(take(0).data);
	offer(&exchange, 200, 1, TRANSFER_FILE);
	assert_int_equal(result_of(&exchange), TRANSFER_BUSY);
	assert_int_equal(exchange_end(&exchange), 0);
}

/* Answers that cannot be true make the peer faulty, not the sender confused. */
static void sender_refuses_untrue_answers(void **state)
{
	struct transfer_message ack = {.kind = TRANSFER_ACK, .offset = 1000000};
	struct transfer_message result = {.kind = TRANSFER_RESULT, .code = TRANSFER_OK};
	struct exchange exchange;

	(void)state;
	exchange_begin(&exchange, 100, false, true);
	(void)sender_step(exchange.sender, exchange.now_ms);
	assert_false(sender_on_message(exchange.sender, &ack, exchange.now_ms));
	ack.offset = 0;
	assert_true(sender_on_message(exchange.sender, &ack, exchange.now_ms));
	(void)sender_step(exchange.sender, exchange.now_ms);
	assert_true(sender_on_message(exchange.sender, &result, exchange.now_ms));
	assert_int_equal(sender_state(exchange.sender), SENDER_FAILED);
	assert_int_equal(exchange_end(&exchange), 0);
}

/* Remembered results are bounded per sender too: whoever fails on purpose does not keep others out. */
static void receiver_of_a_sender_that_only_fails(void **state)
{
	static const uint8_t data[10];
	struct transfer_message piece = {
		.kind = TRANSFER_DATA, .data = data, .data_bytes = sizeof(data)};
	struct transfer_message from_other = {.kind = TRANSFER_OFFER,
		.id = 5,
		.size = 1,
		.content = TRANSFER_FILE,
		.text = "f",
		.text_bytes = 1};
	struct route other = {.connection = SIDE_RECEIVER + 1};
	struct exchange exchange;
	struct letter answer;

	(void)state;
	exchange_begin(&exchange, 0, false, true);
	for (uint64_t id = 1000; id < 3000; id++) {
		offer(&exchange, id, 1, TRANSFER_FILE);
		piece.id = id;
		say_to(&exchange, piece);
		(void)receiver_step(&exchange.receiver, exchange.now_ms);
		while (way.count[0] > 0)
			free(take(0).data);
	}
	assert_null(receiver_on_message(
		&exchange.receiver, &other, "another.name", &from_other, exchange.now_ms));
	answer = answer_of(&exchange);
	assert_int_equal(answer.kind, TRANSFER_ACK);
	free(answer.data);
	assert_int_equal(exchange_end(&exchange), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exchange_of_every_size),
		cmocka_unit_test(exchange_over_a_bad_way),
		cmocka_unit_test(exchange_straight_with_full_queues),
		cmocka_unit_test(exchange_with_nobody),
		cmocka_unit_test(exchange_lost_on_the_way),
		cmocka_unit_test(exchange_of_a_shrinking_file),
		cmocka_unit_test(receiver_never_overwrites),
		cmocka_unit_test(receiver_answers_to_wrong_senders),
		cmocka_unit_test(sender_refuses_untrue_answers),
		cmocka_unit_test(receiver_of_a_sender_that_only_fails),
	};

	seed = (uint64_t)time(NULL);
	if (argc == 3 && strcmp(argv[1], "--seed") == 0)
		seed = strtoull(argv[2], NULL, 10);
	printf("seed %llu\n", (unsigned long long)seed);
	random_state = seed;
	say_begin("exchange_test", true);
	say_lines_on_stderr();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
