/*
 * transfer_test.c: the codec of transfer messages and the cleaning of offered names.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/text.h"
#include "hub/transfer.h"

static struct transfer_message sample(enum transfer_kind kind)
{
	struct transfer_message message = {.kind = kind, .id = 0x1122334455667788u};

	switch (kind) {
	case TRANSFER_OFFER:
		message.content = TRANSFER_FILE;
		message.has_digest = true;
		message.size = 5;
		message.digest[0] = 9;
		message.text = "name";
		message.text_bytes = 4;
		break;
	case TRANSFER_ACK:
		message.offset = 77;
		break;
	case TRANSFER_DATA:
		message.offset = 3;
		message.data = (const uint8_t *)"xyz";
		message.data_bytes = 3;
		break;
	case TRANSFER_END:
		message.size = 8;
		message.digest[31] = 1;
		break;
	case TRANSFER_RESULT:
	case TRANSFER_CLOSE:
		message.code = TRANSFER_STORAGE;
		message.text = "why";
		message.text_bytes = 3;
		break;
	case TRANSFER_NOTE:
		message.id = 0;
		message.text = "hello";
		message.text_bytes = 5;
		break;
	}
	return message;
}

/* Each kind comes back as it went; each shorter or longer form of it is refused where it must be. */
static void transfer_round_trip_and_every_prefix(void **state)
{
	(void)state;
	for (int kind = TRANSFER_OFFER; kind <= TRANSFER_NOTE; kind++) {
		struct transfer_message message = sample((enum transfer_kind)kind), back;
		size_t written;
		uint8_t out[256], type[16];

		transfer_type_of((enum transfer_kind)kind, type);
		assert_int_equal(transfer_kind_of(type), kind);
		assert_int_equal(transfer_encode(&message, out, sizeof(out), &written), 0);
		assert_int_equal(
			transfer_decode((enum transfer_kind)kind, out, written, &back, NULL), 0);
		assert_int_equal(back.id, message.id);
		assert_int_equal(back.size, message.size);
		assert_int_equal(back.offset, message.offset);
		assert_int_equal(back.code, message.code);
		assert_int_equal(back.content, message.content);
		assert_int_equal(back.has_digest, message.has_digest);
		assert_memory_equal(back.digest, message.digest, 32);
		assert_int_equal(back.text_bytes, message.text_bytes);
		assert_memory_equal(back.text, message.text, message.text_bytes);
		assert_int_equal(back.data_bytes, message.data_bytes);
		for (size_t bytes = 0; bytes < written; bytes++) {
			const char *why = NULL;
			uint8_t *copy = malloc(bytes + (bytes == 0));
			int status;

			assert_non_null(copy);
			memcpy(copy, out, bytes);
			status =
				transfer_decode((enum transfer_kind)kind, copy, bytes, &back, &why);
			if ((kind == TRANSFER_DATA && bytes > 16) || kind == TRANSFER_NOTE) {
				assert_int_equal(status, 0);
			} else {
				assert_int_equal(status, -EBADMSG);
				assert_non_null(why);
			}
			free(copy);
		}
		if (kind != TRANSFER_DATA && kind != TRANSFER_NOTE) {
			out[written] = 0;
			assert_int_equal(transfer_decode((enum transfer_kind)kind, out, written + 1,
						 &back, NULL),
				-EBADMSG);
		}
	}
}

/* Limits hold in both directions. */
static void transfer_limits(void **state)
{
	static uint8_t big[TRANSFER_BYTES_MAX + TRANSFER_CHUNK_BYTES_MAX];
	struct transfer_message message = sample(TRANSFER_DATA), back;
	size_t written;

	(void)state;
	memset(big, 0, sizeof(big));
	message.data = big;
	message.data_bytes = TRANSFER_CHUNK_BYTES_MAX + 1;
	assert_int_equal(transfer_encode(&message, big, sizeof(big), &written), -EINVAL);
	assert_int_equal(
		transfer_decode(TRANSFER_DATA, big, 16 + TRANSFER_CHUNK_BYTES_MAX + 1, &back, NULL),
		-EBADMSG);
	assert_int_equal(
		transfer_decode(TRANSFER_DATA, big, 16 + TRANSFER_CHUNK_BYTES_MAX, &back, NULL), 0);
	message = sample(TRANSFER_DATA);
	message.offset = UINT64_MAX - 3;
	assert_int_equal(transfer_encode(&message, big, sizeof(big), &written), -EINVAL);
	message = sample(TRANSFER_RESULT);
	message.text = (const char *)big;
	message.text_bytes = TRANSFER_TEXT_BYTES_MAX + 1;
	assert_int_equal(transfer_encode(&message, big, sizeof(big), &written), -EINVAL);
	message = sample(TRANSFER_OFFER);
	assert_int_equal(transfer_encode(&message, big, 20, &written), -ENOBUFS);
	message.content = 3;
	assert_int_equal(transfer_encode(&message, big, sizeof(big), &written), -EINVAL);
	message = sample(TRANSFER_OFFER);
	assert_int_equal(transfer_encode(&message, big, sizeof(big), &written), 0);
	big[9] = 2; /* the flags */
	assert_int_equal(transfer_decode(TRANSFER_OFFER, big, written, &back, NULL), -EBADMSG);
}

static void transfer_kind_of_foreign_types(void **state)
{
	uint8_t type[16];

	(void)state;
	transfer_type_of(TRANSFER_OFFER, type);
	type[15] = 0;
	assert_int_equal(transfer_kind_of(type), 0);
	type[15] = TRANSFER_NOTE + 1;
	assert_int_equal(transfer_kind_of(type), 0);
	type[15] = TRANSFER_OFFER;
	type[0] ^= 1;
	assert_int_equal(transfer_kind_of(type), 0);
}

static void expect_clean(const char *name, size_t bytes, const char *expected)
{
	char out[TRANSFER_STORE_BYTES_MAX + 1];

	transfer_name_clean(name, bytes, out);
	assert_string_equal(out, expected);
}

/* No offered name leaves the directory, hides, or is empty. */
static void transfer_name_clean_of_hostile_names(void **state)
{
	char longer[400], out[TRANSFER_STORE_BYTES_MAX + 1];

	(void)state;
	expect_clean("plain.txt", 9, "plain.txt");
	expect_clean("../../etc/passwd", 16, "passwd");
	expect_clean("..", 2, "_.");
	expect_clean(".", 1, "_");
	expect_clean("", 0, "file");
	expect_clean("dir/", 4, "file");
	expect_clean("C:\\x\\y.exe", 10, "y.exe");
	expect_clean(".bashrc", 7, "_bashrc");
	expect_clean("a\nb\x7f\x1b", 5, "a_b__");
	expect_clean("a\0b", 3, "a_b");
	expect_clean("a\xc2\x9b[m\xc2\xa0", 7, "a_[m\xc2\xa0");
	expect_clean("\xc3\xa9t\xc3\xa9", 5, "\xc3\xa9t\xc3\xa9");
	expect_clean("x\xff\xc3", 3, "x__");
	memset(longer, 'a', sizeof(longer));
	longer[199] = (char)0xc3;
	longer[200] = (char)0xa9;
	transfer_name_clean(longer, sizeof(longer), out);
	assert_int_equal(strlen(out), 199); /* the character that does not fit is left out whole */
}

/* Text: escaping, numbers, UTF-16 both ways. */
static void text_of_outside_origin(void **state)
{
	uint16_t lone[] = {'a', 0xd800, 'b', 0};
	uint16_t *wide;
	uint64_t value = 0;
	char *text, size[TEXT_SIZE_BYTES];

	(void)state;
	text = text_escape("a\x1b[31m\xff\xe2\x80\xae", 10, false);
	assert_string_equal(text, "a\\x1b[31m\\xff\\u{202e}");
	free(text);
	text = text_escape("a b\xc2\x85\t\\", 7, true);
	assert_string_equal(text, "a\\x20b\\u{85}\\x09\\x5c");
	free(text);
	wide = text_to_utf16("a\xf0\x9f\x98\x80\xc3\xa9");
	assert_non_null(wide);
	assert_int_equal(wide[1], 0xd83d);
	assert_int_equal(wide[2], 0xde00);
	text = text_from_utf16(wide);
	assert_string_equal(text, "a\xf0\x9f\x98\x80\xc3\xa9");
	free(text);
	free(wide);
	assert_null(text_to_utf16("\xed\xa0\x80"));
	assert_int_equal(errno, EILSEQ);
	assert_null(text_to_utf16("\xc0\xaf"));
	assert_null(text_from_utf16(lone));
	assert_true(text_number("18446744073709551615", 0, UINT64_MAX, &value));
	assert_true(value == UINT64_MAX);
	assert_false(text_number("18446744073709551616", 0, UINT64_MAX, &value));
	assert_false(text_number("", 0, 9, &value));
	assert_false(text_number("-1", 0, 9, &value));
	assert_false(text_number("10", 0, 9, &value));
	assert_string_equal(text_size(1536, size), "1.5 KiB");
	assert_string_equal(text_size(12, size), "12 B");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfer_round_trip_and_every_prefix),
		cmocka_unit_test(transfer_limits),
		cmocka_unit_test(transfer_kind_of_foreign_types),
		cmocka_unit_test(transfer_name_clean_of_hostile_names),
		cmocka_unit_test(text_of_outside_origin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
