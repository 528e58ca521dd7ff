/*
 * DER, the little of it that certificate extensions need: values under 64 KiB, tags of one byte,
 * definite minimal lengths. A reader walks a borrowed span and says when it is not DER; a writer
 * fills a fixed buffer and remembers when it did not fit. Pure functions, any thread.
 */
#ifndef PEERHUB_API_DER_H
#define PEERHUB_API_DER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DER_SEQUENCE 0x30u
#define DER_OID 0x06u
#define DER_UTF8 0x0cu
#define DER_CONTEXT(number) (0x80u | (number)) /* primitive */
#define DER_CONTEXT_CONSTRUCTED(number) (0xa0u | (number))

struct der_span {
	const uint8_t *data;
	size_t bytes;
};

/* Take one value with this tag from the front of span; false: it is not there, span unchanged. */
bool der_take(struct der_span *span, uint8_t tag, struct der_span *content);
/* Take one value with any tag. */
bool der_take_any(struct der_span *span, uint8_t *tag, struct der_span *content);

struct der_writer {
	uint8_t data[2048];
	size_t bytes;
	bool overflow;
};
void der_put(struct der_writer *writer, const void *data, size_t bytes); /* as they are */
void der_put_value(struct der_writer *writer, uint8_t tag, const void *data, size_t bytes);
/* Everything from `begin` on becomes the content of one value. */
void der_wrap(struct der_writer *writer, size_t begin, uint8_t tag);

#endif
