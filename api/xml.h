/*
 * XML of identities and invitations: one root element with attribute VERSION and, below it, child
 * elements with text. That is all there is, and all that is accepted: a document type, an entity of
 * its own, a third level, text between elements, an element twice or a size over its bound is
 * refused. White space around elements and other attributes (data types) are passed over.
 *
 * Text is UTF-8. Any thread; a document and a writer belong to who holds them.
 */
#ifndef PEERHUB_API_XML_H
#define PEERHUB_API_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XML_BYTES_MAX (3u * 65536u) /* 64 Ki UTF-16 units are at most three bytes each */
#define XML_CHILDREN_MAX 16u
#define XML_NAME_BYTES 40u

struct xml_child {
	char name[XML_NAME_BYTES];
	char *text; /* with NUL, as it stands, white space included */
};
struct xml_document {
	char root[XML_NAME_BYTES];
	char version[16]; /* attribute VERSION, "" when absent */
	struct xml_child children[XML_CHILDREN_MAX];
	uint32_t child_count;
};

/* 0; -EINVAL (why gets a line), -EMSGSIZE (over XML_BYTES_MAX), -ENOMEM. */
#define XML_WHY_BYTES 128u
int xml_parse(
	const char *text, size_t bytes, struct xml_document *document, char why[XML_WHY_BYTES]);
void xml_document_free(struct xml_document *document);
/* The text of a child, NULL when there is none of that name. */
const char *xml_child_text(const struct xml_document *document, const char *name);

struct xml_writer {
	char *text; /* malloc'd, with NUL; free() it */
	size_t bytes, capacity;
	/* 0, or the first failure: -ENOMEM, -EINVAL (a character that XML cannot hold) */
	int status;
};
void xml_open(struct xml_writer *writer, const char *name, const char *version); /* NULL: none */
void xml_close(struct xml_writer *writer, const char *name);
void xml_element(struct xml_writer *writer, const char *name, const char *text);
/* An element with base64, marked as such. */
void xml_base64(struct xml_writer *writer, const char *name, const uint8_t *data, size_t bytes);

/* Base64 (RFC 4648 section 4): encode with NUL, malloc'd; NULL without memory. Decode strictly but
 * for white space; 0, -EINVAL, -ENOMEM; *data malloc'd. */
char *base64_encode(const uint8_t *data, size_t bytes);
int base64_decode(const char *text, uint8_t **data, size_t *bytes);

#endif
