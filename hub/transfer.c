/*
 * transfer.c: encode and decode the messages of a transfer. See transfer.h.
 *
 * A reader that walks off the end marks itself short instead of returning an error at each field;
 * one check at the end then covers them all.
 */
#include "transfer.h"

#include <errno.h>
#include <string.h>

#include "check.h"
#include "text.h"

/* {8C0E5D7B-3B64-4F19-A2C7-51D90E6B84nn}: nn is the kind. */
static const uint8_t type_base[16] = {0x8c, 0x0e, 0x5d, 0x7b, 0x3b, 0x64, 0x4f, 0x19, 0xa2, 0xc7,
	0x51, 0xd9, 0x0e, 0x6b, 0x84, 0x00};

void transfer_type_of(enum transfer_kind kind, uint8_t type[16])
{
	memcpy(type, type_base, 16);
	type[15] = (uint8_t)kind;
}

unsigned transfer_kind_of(const uint8_t type[16])
{
	if (memcmp(type, type_base, 15) != 0)
		return 0;
	if (type[15] < TRANSFER_OFFER || type[15] > TRANSFER_NOTE)
		return 0;
	return type[15];
}

const char *transfer_code_name(uint32_t code)
{
	switch (code) {
#define TRANSFER_CODE_CASE(name, value, text) \
	case value:                           \
		return text;
		TRANSFER_CODES(TRANSFER_CODE_CASE)
#undef TRANSFER_CODE_CASE
	default:
		return "unknown code";
	}
}

struct writer {
	uint8_t *at;
	size_t room;
	bool short_of_room;
};

static void put_bytes(struct writer *writer, const void *data, size_t bytes)
{
	if (bytes > writer->room) {
		writer->short_of_room = true;
		writer->room = 0;
		return;
	}
	if (bytes > 0)
		memcpy(writer->at, data, bytes);
	writer->at += bytes;
	writer->room -= bytes;
}

static void put_number(struct writer *writer, uint64_t value, unsigned bytes)
{
	uint8_t data[8];

	assert(bytes <= 8);
	for (unsigned i = 0; i < bytes; i++)
		data[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
	put_bytes(writer, data, bytes);
}

struct reader {
	const uint8_t *at;
	size_t left;
	bool ran_out;
};

static const uint8_t *take_bytes(struct reader *reader, size_t bytes)
{
	const uint8_t *data = reader->at;

	if (bytes > reader->left) {
		reader->ran_out = true;
		reader->left = 0;
		return NULL;
	}
	reader->at += bytes;
	reader->left -= bytes;
	return data;
}

static uint64_t take_number(struct reader *reader, unsigned bytes)
{
	const uint8_t *data = take_bytes(reader, bytes);
	uint64_t value = 0;

	for (unsigned i = 0; data != NULL && i < bytes; i++)
		value = value << 8 | data[i];
	return value;
}

static void take_digest(struct reader *reader, uint8_t digest[32])
{
	const uint8_t *data = take_bytes(reader, 32);

	if (data != NULL)
		memcpy(digest, data, 32);
}

static void take_text(struct reader *reader, size_t bytes, struct transfer_message *message)
{
	const uint8_t *data = take_bytes(reader, bytes);

	if (data == NULL)
		return;
	message->text = (const char *)data;
	message->text_bytes = bytes;
}

static size_t text_bytes_max(enum transfer_kind kind)
{
	switch (kind) {
	case TRANSFER_OFFER:
		return TRANSFER_NAME_BYTES_MAX;
	case TRANSFER_RESULT:
	case TRANSFER_CLOSE:
		return TRANSFER_TEXT_BYTES_MAX;
	case TRANSFER_NOTE:
		return TRANSFER_NOTE_BYTES_MAX;
	default:
		return 0;
	}
}

/* What must hold of every message, in both directions. NULL when it does. */
static const char *transfer_fault(const struct transfer_message *message)
{
	if (message->kind < TRANSFER_OFFER || message->kind > TRANSFER_NOTE)
		return "unknown kind";
	if (message->kind == TRANSFER_OFFER && message->content != TRANSFER_FILE &&
		message->content != TRANSFER_LINES)
		return "unknown content";
	if (message->text_bytes > text_bytes_max(message->kind))
		return "text is too long";
	/* A file name may be any bytes on its file system: the receiver cleans it. */
	if (message->kind != TRANSFER_OFFER && !text_is_utf8(message->text, message->text_bytes))
		return "text is not UTF-8";
	if (message->kind != TRANSFER_DATA)
		return NULL;
	if (message->data_bytes == 0)
		return "no data";
	if (message->data_bytes > TRANSFER_CHUNK_BYTES_MAX)
		return "too much data";
	if (message->offset > TRANSFER_SIZE_UNKNOWN - 1 - message->data_bytes)
		return "offset is too large";
	return NULL;
}

int transfer_encode(
	const struct transfer_message *message, uint8_t *out, size_t out_bytes, size_t *written)
{
	struct writer writer = {out, out_bytes, false};

	if (transfer_fault(message) != NULL)
		return -EINVAL;
	if (message->kind != TRANSFER_NOTE)
		put_number(&writer, message->id, 8);
	switch (message->kind) {
	case TRANSFER_OFFER:
		put_number(&writer, message->content, 1);
		put_number(&writer, message->has_digest, 1);
		put_number(&writer, message->size, 8);
		put_bytes(&writer, message->digest, 32);
		put_number(&writer, message->text_bytes, 2);
		break;
	case TRANSFER_ACK:
		put_number(&writer, message->offset, 8);
		break;
	case TRANSFER_DATA:
		put_number(&writer, message->offset, 8);
		put_bytes(&writer, message->data, message->data_bytes);
		break;
	case TRANSFER_END:
		put_number(&writer, message->size, 8);
		put_bytes(&writer, message->digest, 32);
		break;
	case TRANSFER_RESULT:
		put_number(&writer, message->code, 4);
		put_bytes(&writer, message->digest, 32);
		put_number(&writer, message->text_bytes, 2);
		break;
	case TRANSFER_CLOSE:
		put_number(&writer, message->code, 4);
		put_number(&writer, message->text_bytes, 2);
		break;
	case TRANSFER_NOTE:
		break;
	}
	if (text_bytes_max(message->kind) > 0)
		put_bytes(&writer, message->text, message->text_bytes);
	if (writer.short_of_room)
		return -ENOBUFS;
	*written = (size_t)(writer.at - out);
	return 0;
}

int transfer_decode(enum transfer_kind kind, const uint8_t *data, size_t bytes,
	struct transfer_message *message, const char **why)
{
	struct reader reader = {data, bytes, false};
	const char *fault;
	uint64_t flags = 0;

	*message = (struct transfer_message){.kind = kind};
	if (kind != TRANSFER_NOTE)
		message->id = take_number(&reader, 8);
	switch (kind) {
	case TRANSFER_OFFER:
		message->content = (uint8_t)take_number(&reader, 1);
		flags = take_number(&reader, 1);
		message->has_digest = flags == 1;
		message->size = take_number(&reader, 8);
		take_digest(&reader, message->digest);
		take_text(&reader, (size_t)take_number(&reader, 2), message);
		break;
	case TRANSFER_ACK:
		message->offset = take_number(&reader, 8);
		break;
	case TRANSFER_DATA:
		message->offset = take_number(&reader, 8);
		message->data_bytes = reader.left;
		message->data = take_bytes(&reader, reader.left);
		break;
	case TRANSFER_END:
		message->size = take_number(&reader, 8);
		take_digest(&reader, message->digest);
		break;
	case TRANSFER_RESULT:
		message->code = (uint32_t)take_number(&reader, 4);
		take_digest(&reader, message->digest);
		take_text(&reader, (size_t)take_number(&reader, 2), message);
		break;
	case TRANSFER_CLOSE:
		message->code = (uint32_t)take_number(&reader, 4);
		take_text(&reader, (size_t)take_number(&reader, 2), message);
		break;
	case TRANSFER_NOTE:
		take_text(&reader, reader.left, message);
		break;
	}
	if (reader.ran_out)
		fault = "message is too short";
	else if (reader.left > 0)
		fault = "message is too long";
	else if (flags > 1)
		fault = "unknown flags";
	else
		fault = transfer_fault(message);
	if (fault == NULL)
		return 0;
	if (why != NULL)
		*why = fault;
	return -EBADMSG;
}

void transfer_name_clean(const char *name, size_t bytes, char *out)
{
	size_t start = 0, count = 0, length;

	for (size_t i = 0; i < bytes; i++)
		if (name[i] == '/' || name[i] == '\\')
			start = i + 1;
	for (size_t i = start; i < bytes; i += length) {
		/* The shortest prefix that is UTF-8 is one whole character. */
		for (length = 1; length <= 4 && i + length <= bytes; length++)
			if (text_is_utf8(name + i, length))
				break;
		if (length > 4 || i + length > bytes) {
			length = 1;
			if (count + 1 > TRANSFER_STORE_BYTES_MAX)
				break;
			out[count++] = '_';
			continue;
		}
		if (count + length > TRANSFER_STORE_BYTES_MAX)
			break;
		/* C0, DEL, and C1 (U+0080 to U+009F: a terminal obeys those too). */
		if ((length == 1 && ((uint8_t)name[i] < 0x20 || name[i] == 0x7f)) ||
			(length == 2 && (uint8_t)name[i] == 0xc2 && (uint8_t)name[i + 1] < 0xa0)) {
			out[count++] = '_';
			continue;
		}
		memcpy(out + count, name + i, length);
		count += length;
	}
	if (count > 0 && out[0] == '.')
		out[0] = '_';
	if (count == 0) {
		memcpy(out, "file", 4);
		count = 4;
	}
	out[count] = 0;
}
