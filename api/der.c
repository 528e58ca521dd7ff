/*
 * DER reader and writer for extension values. Lengths: one byte below 128, 0x81 or 0x82 with one or
 * two bytes above, minimal always (X.690 section 10.1).
 */
#include "api/der.h"

#include <string.h>

bool der_take_any(struct der_span *span, uint8_t *tag, struct der_span *content)
{
	const uint8_t *data = span->data;
	size_t header = 2, length;

	if (span->bytes < 2)
		return false;
	length = data[1];
	if (length == 0x81) {
		if (span->bytes < 3 || data[2] < 0x80)
			return false;
		length = data[2];
		header = 3;
	} else if (length == 0x82) {
		if (span->bytes < 4 || data[2] == 0)
			return false;
		length = (size_t)data[2] << 8 | data[3];
		header = 4;
	} else if (length >= 0x80) {
		return false;
	}
	if (length > span->bytes - header)
		return false;
	*tag = data[0];
	content->data = data + header;
	content->bytes = length;
	span->data += header + length;
	span->bytes -= header + length;
	return true;
}

bool der_take(struct der_span *span, uint8_t tag, struct der_span *content)
{
	struct der_span before = *span;
	uint8_t found;

	if (der_take_any(span, &found, content) && found == tag)
		return true;
	*span = before;
	return false;
}

void der_put(struct der_writer *writer, const void *data, size_t bytes)
{
	if (bytes > sizeof(writer->data) - writer->bytes) {
		writer->overflow = true;
		return;
	}
	if (bytes > 0)
		memcpy(writer->data + writer->bytes, data, bytes);
	writer->bytes += bytes;
}

static size_t header_make(uint8_t header[4], uint8_t tag, size_t length)
{
	header[0] = tag;
	if (length < 0x80) {
		header[1] = (uint8_t)length;
		return 2;
	}
	if (length < 0x100) {
		header[1] = 0x81;
		header[2] = (uint8_t)length;
		return 3;
	}
	header[1] = 0x82;
	header[2] = (uint8_t)(length >> 8);
	header[3] = (uint8_t)length;
	return 4;
}

void der_put_value(struct der_writer *writer, uint8_t tag, const void *data, size_t bytes)
{
	uint8_t header[4];

	der_put(writer, header, header_make(header, tag, bytes));
	der_put(writer, data, bytes);
}

void der_wrap(struct der_writer *writer, size_t begin, uint8_t tag)
{
	uint8_t header[4];
	size_t length = writer->bytes - begin;
	size_t header_bytes = header_make(header, tag, length);

	der_put(writer, header, header_bytes); /* makes room, or remembers that there is none */
	if (writer->overflow)
		return;
	memmove(writer->data + begin + header_bytes, writer->data + begin, length);
	memcpy(writer->data + begin, header, header_bytes);
}
