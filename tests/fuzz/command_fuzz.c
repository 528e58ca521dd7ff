/*
 * What a person or a script writes on the command line of peerhub: options, numbers, operands; and the
 * program's own UTF-8 and UTF-16, against iconv. What it would say is formatted and thrown away.
 */
#include "hub/options.h"
#include "hub/say.h"
#include "hub/text.h"
#include "peerhub/extras.h"
#include "tests/fuzz/failing.h"
#include "tests/fuzz/input.h"

#include <errno.h>
#include <iconv.h>
#include <stdarg.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define WORDS_MAX 200

static FILE *nowhere;
static uint32_t said; /* errors of this input */
static HRESULT home_result;

/* ---- in place of hub/say.c and of the library ------------------------------------------------ */

void say_begin(const char *command, bool quiet)
{
	(void)quiet;
	FUZZ_MUST(command[0] != '\0');
}

void say_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	FUZZ_MUST(vfprintf(nowhere, format, arguments) > 0);
	va_end(arguments);
	said++;
}

void say_result(HRESULT result, const char *format, ...)
{
	va_list arguments;

	FUZZ_MUST(FAILED(result));
	va_start(arguments, format);
	FUZZ_MUST(vfprintf(nowhere, format, arguments) > 0);
	va_end(arguments);
	said++;
}

HRESULT PeerhubSetHome(const char *directory)
{
	FUZZ_MUST(directory != NULL);
	return home_result;
}

/* ---- words ----------------------------------------------------------------------------------- */

static void parse(struct input *input)
{
	const char *text = NULL;
	uint64_t number = 77, large = 88;
	bool flag = false;
	struct option_list list = {.count = 0}, operands;
	const struct option_spec specs[] = {
		{"name", OPTION_TEXT, "NAME", "a text\nof two lines", &text, 0, 0},
		{"count", OPTION_NUMBER, "N", "a number", &number, 3, 4000},
		{"large", OPTION_NUMBER, "N", "any number", &large, 0, UINT64_MAX},
		{"flag", OPTION_FLAG, NULL, "a flag", &flag, 0, 0},
		{"an-option-with-a-long-name", OPTION_LIST, "THING", "some", &list, 0, 0},
	};
	struct command command = {"peerhub fuzz", "A [B]", "A summary.", specs,
		sizeof(specs) / sizeof(specs[0]), input_byte(input) % 3u,
		2u + input_byte(input) % 60u};
	char *words[WORDS_MAX + 2] = {(char *)(uintptr_t) "fuzz"};
	FILE *out = stdout, *err = stderr;
	struct common common;
	enum options_verdict verdict;
	int count = 1;

	home_result = input_byte(input) & 1 ? E_INVALIDARG : S_OK;
	while (input->left > 0 && count <= WORDS_MAX) {
		const uint8_t *end = memchr(input->at, 0, input->left);

		words[count++] =
			input_text(input, end != NULL ? (size_t)(end - input->at) : input->left);
		(void)input_byte(input); /* the NUL */
	}
	said = 0;
	stdout = stderr = nowhere;
	verdict = options_parse(&command, count, words, &common, &operands);
	stdout = out;
	stderr = err;
	switch (verdict) {
	case OPTIONS_GO:
		FUZZ_MUST(said == 0 && options_exit(verdict) == EXIT_OK);
		FUZZ_MUST(operands.count >= command.operand_min &&
			operands.count <= command.operand_max);
		FUZZ_MUST(number == 77 || (number >= 3 && number <= 4000));
		FUZZ_MUST(list.count <= OPTION_LIST_MAX);
		break;
	case OPTIONS_DONE:
		FUZZ_MUST(said == 0 && options_exit(verdict) == EXIT_OK);
		break;
	case OPTIONS_BAD:
		FUZZ_MUST(said == 1 && options_exit(verdict) == EXIT_USAGE);
		break;
	default:
		FUZZ_MUST(said == 1 && options_exit(verdict) == EXIT_FAILED);
		break;
	}
	while (--count > 0)
		free(words[count]);
}

/* ---- text -------------------------------------------------------------------------------------- */

/* A number and its neighbours as the C library reads them. */
static void number(const char *text)
{
	uint64_t value = 5, wanted;
	size_t digits = strspn(text, "0123456789");
	bool good;

	errno = 0;
	wanted = strtoull(text, NULL, 10);
	good = digits > 0 && text[digits] == '\0' && errno == 0;
	FUZZ_MUST(text_number(text, 0, UINT64_MAX, &value) == good);
	FUZZ_MUST(!good || value == wanted);
	FUZZ_MUST(text_number(text, 10, 20, &value) == (good && wanted >= 10 && wanted <= 20));
}

static void convert(const char *text, uint8_t how)
{
	iconv_t to_wide = iconv_open("UTF-16LE", "UTF-8");
	size_t bytes = strlen(text), left = bytes, room = 2 * bytes + 2, room_left = room;
	char *wanted = malloc(room), *at = wanted, *from = (char *)(uintptr_t)text, *back;
	uint16_t *wide;
	bool good;

	FUZZ_MUST(to_wide != (iconv_t)-1 && wanted != NULL);
	good = iconv(to_wide, &from, &left, &at, &room_left) != (size_t)-1;
	iconv_close(to_wide);
	FUZZ_MUST(text_is_utf8(text, bytes) == good);
	failing_set(how);
	wide = text_to_utf16(text);
	failing_set(0);
	FUZZ_MUST(wide == NULL || good);
	FUZZ_MUST(wide != NULL || !good || how != 0);
	if (wide != NULL) {
		FUZZ_MUST(memcmp(wide, wanted, room - room_left) == 0);
		FUZZ_MUST(wide[(room - room_left) / 2] == 0);
		failing_set(how >> 1);
		back = text_from_utf16(wide);
		failing_set(0);
		FUZZ_MUST(back == NULL || strcmp(back, text) == 0);
		FUZZ_MUST(back != NULL || how > 1);
		free(back);
	}
	free(wide);
	free(wanted);
}

/* UTF-16 of any kind: NULL exactly for lone surrogates. */
static void narrow(const uint8_t *data, size_t bytes)
{
	iconv_t to_utf8 = iconv_open("UTF-8", "UTF-16LE");
	size_t units = 0, left, room = 2 * bytes + 4;
	uint16_t *wide = calloc(bytes / 2 + 1, sizeof(*wide));
	char *wanted = calloc(room, 1), *at = wanted, *from = (char *)wide, *utf8;
	bool good;

	FUZZ_MUST(to_utf8 != (iconv_t)-1 && wide != NULL && wanted != NULL);
	if (bytes > 1)
		memcpy(wide, data, bytes / 2 * 2);
	while (wide[units] != 0)
		units++;
	left = units * 2;
	room--;
	good = iconv(to_utf8, &from, &left, &at, &room) != (size_t)-1;
	iconv_close(to_utf8);
	utf8 = text_from_utf16(wide);
	FUZZ_MUST((utf8 != NULL) == good);
	FUZZ_MUST(utf8 == NULL || strcmp(utf8, wanted) == 0);
	free(utf8);
	free(wide);
	free(wanted);
}

static void escape(const char *text, size_t bytes, uint8_t how)
{
	for (int word = 0; word < 2; word++) {
		char *escaped;

		failing_set(how);
		escaped = text_escape(text, bytes, word > 0);
		failing_set(0);
		FUZZ_MUST(escaped != NULL || how != 0);
		if (escaped == NULL)
			continue;
		FUZZ_MUST(text_is_utf8(escaped, strlen(escaped)));
		for (const char *at = escaped; *at != '\0'; at++)
			FUZZ_MUST((unsigned char)*at >= (word ? 0x21 : 0x20) && *at != 0x7f);
		free(escaped);
	}
}

static void shown(struct input *input)
{
	char size[TEXT_SIZE_BYTES], digest[65];
	uint64_t bytes = (uint64_t)input_number(input, 4) << input_byte(input) % 33;
	uint8_t raw[32] = {input_byte(input), input_byte(input)};

	FUZZ_MUST(text_size(bytes, size) == size && strlen(size) > 2);
	FUZZ_MUST(text_digest(raw, digest) == digest && strlen(digest) == 64);
}

static void finish(void)
{
	fclose(nowhere);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	uint8_t mode = input_byte(&input), how = 0;
	size_t left;
	char *text;

	if (nowhere == NULL) {
		FUZZ_MUST((nowhere = fopen("/dev/null", "w")) != NULL && atexit(finish) == 0);
	}
	switch (mode % 4) {
	case 0:
	case 1:
		parse(&input);
		return 0;
	case 2:
		how = input_byte(&input);
		break;
	default:
		shown(&input);
		break;
	}
	left = input.left;
	narrow(input.at, left);
	text = input_text(&input, left);
	number(text);
	convert(text, how);
	escape(text, left, how);
	free(text);
	return 0;
}
