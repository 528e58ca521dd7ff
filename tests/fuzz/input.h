/*
 * A fuzz input read as a program: bytes from the front, 0 when there are none left, so that every
 * prefix of an input is an input too. And randomness that an input decides: OpenSSL asks ours, which
 * starts over with every input, so that what was found is found again.
 */
#ifndef PEERHUB_TESTS_FUZZ_INPUT_H
#define PEERHUB_TESTS_FUZZ_INPUT_H

#include <openssl/rand.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What must hold, with a line that says where it did not. */
#define FUZZ_MUST(condition)                                                                   \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t input_byte(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

static inline uint32_t input_number(struct input *input, uint32_t bytes)
{
	uint32_t number = 0;

	while (bytes-- > 0)
		number = number << 8 | input_byte(input);
	return number;
}

/* Up to `want` bytes, borrowed; *got says how many there were. */
static inline const uint8_t *input_take(struct input *input, size_t want, size_t *got)
{
	const uint8_t *taken = input->at;

	*got = want < input->left ? want : input->left;
	if (*got > 0)
		input->at += *got;
	input->left -= *got;
	return taken;
}

/* What the target itself allocates never fails (failing.h). */
#ifndef FUZZ_MALLOC
#define FUZZ_MALLOC malloc
#endif

/* The same as a text of its own, malloc'd, without NUL inside. */
static inline char *input_text(struct input *input, size_t want)
{
	size_t bytes;
	const uint8_t *taken = input_take(input, want, &bytes);
	char *text = FUZZ_MALLOC(bytes + 1);

	FUZZ_MUST(text != NULL);
	if (bytes > 0)
		memcpy(text, taken, bytes);
	text[bytes] = '\0';
	return text;
}

/* ---- randomness --------------------------------------------------------------------------- */

static uint64_t random_state;

static inline int random_bytes(unsigned char *out, int bytes)
{
	for (int index = 0; index < bytes; index++) {
		random_state = random_state * 6364136223846793005u + 1442695040888963407u;
		out[index] = (unsigned char)(random_state >> 56);
	}
	return 1;
}

static inline int random_is_ready(void)
{
	return 1;
}

/* Before the first use of OpenSSL. Old-fashioned, and the one way that reaches every library context:
 * RAND_bytes_ex and RAND_priv_bytes_ex ask it before they look at theirs. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static inline void random_is_ours(void)
{
	static const RAND_METHOD method = {
		.bytes = random_bytes, .pseudorand = random_bytes, .status = random_is_ready};

	FUZZ_MUST(RAND_set_rand_method(&method) == 1);
}
#pragma GCC diagnostic pop

#endif
