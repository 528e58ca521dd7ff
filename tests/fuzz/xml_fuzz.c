/*
 * Fuzzing the texts that people hand to one another: XML as such, identities, exports without a
 * password that fits, invitations, base64. Whatever comes in, the answer is a code.
 */
#include "api/identity.h"
#include "api/invitation.h"
#include "api/text.h"
#include "api/xml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void parse_as_xml(const char *text, size_t bytes)
{
	struct xml_document document;
	struct xml_writer writer = {.status = 0};
	char why[XML_WHY_BYTES];

	if (xml_parse(text, bytes, &document, why) < 0)
		return;
	/* What was read can be written, but for characters that a text cannot hold. */
	for (uint32_t index = 0; index < document.child_count; index++)
		xml_element(&writer, "A", document.children[index].text);
	free(writer.text);
	xml_document_free(&document);
}

static void parse_as_documents(PCWSTR wide)
{
	struct identity_draft draft = {.key = NULL};
	struct certificate_info info;
	struct invitation *invitation;

	(void)identity_from_xml(wide, 1800000000, &info);
	if (SUCCEEDED(invitation_read(wide, &invitation)))
		invitation_free(invitation);
	(void)identity_draft_import(&draft, wide, "password");
	identity_draft_free(&draft);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	char *text;
	WCHAR *wide;
	uint8_t *decoded;
	size_t decoded_bytes;

	if (bytes > 70000)
		return 0;
	parse_as_xml((const char *)data, bytes);
	text = malloc(bytes + 1);
	if (text == NULL)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	if (base64_decode(text, &decoded, &decoded_bytes) == 0)
		free(decoded);
	if (text_wide_dup(text, &wide) == 0) {
		parse_as_documents(wide);
		free(wide);
	}
	free(text);
	return 0;
}
