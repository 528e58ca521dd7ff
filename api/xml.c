/*
 * XML: a strict reader over expat and a small writer. expat sees UTF-8 whatever the text declares,
 * expands no entity but the five built-in ones, and is stopped at the first thing that does not
 * belong.
 */
#include "api/xml.h"

#include "api/peer_name.h"

#include <errno.h>
#include <expat.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---------------------------------------------------------------------------- */

struct reader {
	XML_Parser parser;
	struct xml_document *document;
	uint32_t depth;
	char *text; /* of the open child */
	size_t text_bytes, text_capacity;
	int status;
	char *why;
};

static void stop(struct reader *reader, int status, const char *why)
{
	if (reader->status == 0) {
		reader->status = status;
		snprintf(reader->why, XML_WHY_BYTES, "%s", why);
	}
	(void)XML_StopParser(reader->parser, XML_FALSE);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void open_root(struct reader *reader, const char *name, const char **attributes)
{
	for (uint32_t index = 0; attributes[index] != NULL; index += 2) {
		if (strcmp(attributes[index], "VERSION") != 0)
			continue;
		if (strlen(attributes[index + 1]) >= sizeof(reader->document->version)) {
			stop(reader, -EINVAL, "VERSION is too long");
			return;
		}
		snprintf(reader->document->version, sizeof(reader->document->version), "%s",
			attributes[index + 1]);
	}
	snprintf(reader->document->root, XML_NAME_BYTES, "%s", name);
}

static void open_child(struct reader *reader, const char *name)
{
	if (reader->document->child_count == XML_CHILDREN_MAX) {
		stop(reader, -EINVAL, "too many elements");
		return;
	}
	if (xml_child_text(reader->document, name) != NULL) {
		stop(reader, -EINVAL, "an element twice");
		return;
	}
	snprintf(reader->document->children[reader->document->child_count].name, XML_NAME_BYTES,
		"%s", name);
	reader->text_bytes = 0;
}

static void XMLCALL on_start(void *context, const char *name, const char **attributes)
{
	struct reader *reader = context;

	if (reader->status < 0)
		return; /* stopping, and expat still delivers what it had begun */
	if (strlen(name) >= XML_NAME_BYTES) {
		stop(reader, -EINVAL, "an element name is too long");
		return;
	}
	reader->depth++;
	if (reader->depth == 1)
		open_root(reader, name, attributes);
	else if (reader->depth == 2)
		open_child(reader, name);
	else
		stop(reader, -EINVAL, "elements inside elements");
}

static void XMLCALL on_end(void *context, const char *name)
{
	struct reader *reader = context;
	char *text;

	(void)name; /* expat has matched it */
	if (reader->status < 0 || reader->depth-- != 2)
		return;
	text = malloc(reader->text_bytes + 1);
	if (text == NULL) {
		stop(reader, -ENOMEM, "no memory");
		return;
	}
	if (reader->text_bytes > 0)
		memcpy(text, reader->text, reader->text_bytes);
	text[reader->text_bytes] = '\0';
	reader->document->children[reader->document->child_count++].text = text;
}

static void XMLCALL on_text(void *context, const char *text, int bytes)
{
	struct reader *reader = context;

	if (reader->status < 0)
		return;
	if (reader->depth == 1) {
		for (int index = 0; index < bytes; index++)
			if (!is_space(text[index])) {
				stop(reader, -EINVAL, "text between elements");
				return;
			}
		return;
	}
	/* The whole document has a bound, so its text has: no more is ever asked for. */
	if (reader->text_bytes + (size_t)bytes > reader->text_capacity) {
		size_t capacity = 2 * (reader->text_bytes + (size_t)bytes);
		char *grown = malloc(capacity);

		if (grown == NULL) {
			stop(reader, -ENOMEM, "no memory");
			return;
		}
		if (reader->text_bytes > 0)
			memcpy(grown, reader->text, reader->text_bytes);
		free(reader->text);
		reader->text = grown;
		reader->text_capacity = capacity;
	}
	memcpy(reader->text + reader->text_bytes, text, (size_t)bytes);
	reader->text_bytes += (size_t)bytes;
}

static void XMLCALL on_doctype(
	void *context, const char *name, const char *system, const char *public, int has_subset)
{
	(void)name;
	(void)system;
	(void)public;
	(void)has_subset;
	stop(context, -EINVAL, "a document type is not allowed");
}

static void read_all(struct reader *reader, const char *text, size_t bytes)
{
	enum XML_Error error;
	char why[XML_WHY_BYTES];

	XML_SetUserData(reader->parser, reader);
	XML_SetElementHandler(reader->parser, on_start, on_end);
	XML_SetCharacterDataHandler(reader->parser, on_text);
	XML_SetStartDoctypeDeclHandler(reader->parser, on_doctype);
	if (XML_Parse(reader->parser, text, (int)bytes, 1) != XML_STATUS_ERROR)
		return;
	error = XML_GetErrorCode(reader->parser);
	if (error == XML_ERROR_NO_MEMORY) {
		stop(reader, -ENOMEM, "no memory");
		return;
	}
	snprintf(why, sizeof(why), "line %lu: %.80s",
		(unsigned long)XML_GetCurrentLineNumber(reader->parser), XML_ErrorString(error));
	stop(reader, -EINVAL, why); /* keeps what a handler said before */
}

int xml_parse(
	const char *text, size_t bytes, struct xml_document *document, char why[XML_WHY_BYTES])
{
	struct reader reader = {.document = document, .why = why};

	memset(document, 0, sizeof(*document));
	why[0] = '\0';
	if (bytes > XML_BYTES_MAX) {
		snprintf(why, XML_WHY_BYTES, "longer than %u bytes", XML_BYTES_MAX);
		return -EMSGSIZE;
	}
	/* A declaration must come first, so what surrounds the text goes away here. */
	if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		bytes -= 3;
	}
	while (bytes > 0 && is_space(text[0])) {
		text++;
		bytes--;
	}
	reader.parser = XML_ParserCreate("UTF-8");
	if (reader.parser == NULL)
		return -ENOMEM;
	read_all(&reader, text, bytes);
	XML_ParserFree(reader.parser);
	free(reader.text);
	if (reader.status < 0)
		xml_document_free(document);
	return reader.status;
}

void xml_document_free(struct xml_document *document)
{
	for (uint32_t index = 0; index < XML_CHILDREN_MAX; index++)
		free(document->children[index].text);
	memset(document, 0, sizeof(*document));
}

const char *xml_child_text(const struct xml_document *document, const char *name)
{
	for (uint32_t index = 0; index < document->child_count; index++)
		if (strcmp(document->children[index].name, name) == 0)
			return document->children[index].text;
	return NULL;
}

/* ---- writing ---------------------------------------------------------------------------- */

static void put(struct xml_writer *writer, const char *text, size_t bytes)
{
	if (writer->status < 0)
		return;
	if (writer->bytes + bytes + 1 > writer->capacity) {
		size_t capacity = 2 * (writer->bytes + bytes + 1);
		char *grown = realloc(writer->text, capacity);

		if (grown == NULL) {
			writer->status = -ENOMEM;
			return;
		}
		writer->text = grown;
		writer->capacity = capacity;
	}
	memcpy(writer->text + writer->bytes, text, bytes);
	writer->bytes += bytes;
	writer->text[writer->bytes] = '\0';
}

static void put_text(struct xml_writer *writer, const char *text)
{
	put(writer, text, strlen(text));
}

void xml_open(struct xml_writer *writer, const char *name, const char *version)
{
	put_text(writer, "<");
	put_text(writer, name);
	if (version != NULL) {
		put_text(writer, " VERSION=\"");
		put_text(writer, version);
		put_text(writer, "\"");
	}
	put_text(writer, ">");
}

void xml_close(struct xml_writer *writer, const char *name)
{
	put_text(writer, "</");
	put_text(writer, name);
	put_text(writer, ">");
}

/* Characters of XML 1.0: no controls but tab, line feed and carriage return. U+FFFE and U+FFFF are
 * none either; in UTF-8 they are EF BF BE and EF BF BF. */
static bool is_xml_text(const char *text)
{
	for (const unsigned char *at = (const unsigned char *)text; *at != 0; at++) {
		if (*at < 0x20 && !is_space((char)*at))
			return false;
		if (at[0] == 0xef && at[1] == 0xbf && at[2] >= 0xbe)
			return false;
	}
	return peer_text_units(text) >= 0;
}

static void put_escaped(struct xml_writer *writer, const char *text)
{
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '&':
			put_text(writer, "&amp;");
			break;
		case '<':
			put_text(writer, "&lt;");
			break;
		case '>':
			put_text(writer, "&gt;");
			break;
		case '"':
			put_text(writer, "&quot;");
			break;
		case '\r': /* as itself it would be read back as a line feed */
			put_text(writer, "&#13;");
			break;
		default:
			put(writer, text, 1);
		}
	}
}

void xml_element(struct xml_writer *writer, const char *name, const char *text)
{
	if (writer->status == 0 && !is_xml_text(text))
		writer->status = -EINVAL;
	xml_open(writer, name, NULL);
	put_escaped(writer, text);
	xml_close(writer, name);
}

void xml_base64(struct xml_writer *writer, const char *name, const uint8_t *data, size_t bytes)
{
	char *text = base64_encode(data, bytes);

	if (text == NULL && writer->status == 0)
		writer->status = -ENOMEM;
	put_text(writer, "<");
	put_text(writer, name);
	put_text(writer, " xmlns:dt=\"urn:schemas-microsoft-com:datatypes\" dt:dt=\"bin.base64\">");
	put_text(writer, text != NULL ? text : "");
	xml_close(writer, name);
	free(text);
}

/* ---- base64 ----------------------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const uint8_t *data, size_t bytes)
{
	char *text = malloc((bytes + 2) / 3 * 4 + 1);
	char *at = text;

	if (text == NULL)
		return NULL;
	for (size_t index = 0; index < bytes; index += 3) {
		size_t left = bytes - index;
		uint32_t group = (uint32_t)data[index] << 16;

		if (left > 1)
			group |= (uint32_t)data[index + 1] << 8;
		if (left > 2)
			group |= data[index + 2];
		*at++ = digits[group >> 18];
		*at++ = digits[group >> 12 & 63];
		*at++ = left > 1 ? digits[group >> 6 & 63] : '=';
		*at++ = left > 2 ? digits[group & 63] : '=';
	}
	*at = '\0';
	return text;
}

int base64_decode(const char *text, uint8_t **data, size_t *bytes)
{
	uint8_t *out = malloc(strlen(text) / 4 * 3 + 3);
	uint32_t group = 0, held = 0, padding = 0;
	size_t used = 0;

	*data = NULL;
	*bytes = 0;
	if (out == NULL)
		return -ENOMEM;
	for (; *text != '\0'; text++) {
		const char *digit = strchr(digits, *text);

		if (is_space(*text))
			continue;
		if (*text == '=' && held >= 2)
			padding++;
		else if (digit == NULL || padding > 0)
			goto refuse;
		group = group << 6 | (digit != NULL ? (uint32_t)(digit - digits) : 0);
		if (++held < 4)
			continue;
		if ((padding == 1 && (group & 0xff) != 0) ||
			(padding == 2 && (group & 0xffff) != 0))
			goto refuse; /* bits that stand for nothing: two texts for one value */
		out[used++] = (uint8_t)(group >> 16);
		if (padding < 2)
			out[used++] = (uint8_t)(group >> 8);
		if (padding < 1)
			out[used++] = (uint8_t)group;
		held = 0;
		group = 0;
		if (padding > 0) {
			text++;
			break;
		}
	}
	if (held != 0 || text[strspn(text, " \t\r\n")] != '\0')
		goto refuse;
	*data = out;
	*bytes = used;
	return 0;

refuse:
	OPENSSL_cleanse(out, used); /* it may have been half of a key */
	free(out);
	return -EINVAL;
}
