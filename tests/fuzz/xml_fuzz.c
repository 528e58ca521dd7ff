/*
 * Fuzzing the texts that people hand to one another, as they are: XML as such, identities, exports
 * without a password that fits, invitations, base64. Whatever comes in, the answer is a code, also when
 * memory runs out on the way. (invitation_fuzz.c fills the same texts behind good signatures.)
 */
#include "api/identity.h"
#include "api/invitation.h"
#include "api/text.h"
#include "api/xml.h"
#include "tests/fuzz/failing.h"
#include "tests/fuzz/input.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void parse_as_xml(const char *text, size_t bytes, uint8_t how)
{
	struct xml_document document, again;
	struct xml_writer writer = {.status = 0};
	char why[XML_WHY_BYTES] = "";
	int status;

	failing_set(how);
	status = xml_parse(text, bytes, &document, why);
	failing_set(0);
	FUZZ_MUST(status == 0 || status == -EINVAL || status == -EMSGSIZE || status == -ENOMEM);
	if (status < 0) {
		FUZZ_MUST(status != -EINVAL || why[0] != '\0');
		return;
	}
	FUZZ_MUST(document.child_count <= XML_CHILDREN_MAX);
	/* What was read can be written, but for characters that a text cannot hold, and read again. */
	failing_set(how >> 1);
	xml_open(&writer, document.root, document.version[0] != '\0' ? document.version : NULL);
	for (uint32_t index = 0; index < document.child_count; index++) {
		const struct xml_child *child = &document.children[index];

		FUZZ_MUST(xml_child_text(&document, child->name) == child->text);
		xml_element(&writer, child->name, child->text);
	}
	xml_base64(&writer, "NO-SUCH-CHILD", (const uint8_t *)text, bytes % 7);
	xml_close(&writer, document.root);
	failing_set(0);
	FUZZ_MUST(xml_child_text(&document, "NO-SUCH-CHILD") == NULL);
	if (writer.status == 0 && document.child_count < XML_CHILDREN_MAX &&
		xml_parse(writer.text, writer.bytes, &again, why) == 0) {
		FUZZ_MUST(again.child_count == document.child_count + 1);
		FUZZ_MUST(strcmp(again.root, document.root) == 0);
		for (uint32_t index = 0; index < document.child_count; index++)
			FUZZ_MUST(strcmp(again.children[index].text,
					  document.children[index].text) == 0);
		xml_document_free(&again);
	}
	free(writer.text);
	xml_document_free(&document);
}

static void parse_as_base64(const char *text, uint8_t how)
{
	uint8_t *decoded, *again;
	size_t bytes, bytes_again;
	char *encoded;
	int status;

	failing_set(how);
	status = base64_decode(text, &decoded, &bytes);
	failing_set(0);
	FUZZ_MUST(status == 0 || status == -EINVAL || status == -ENOMEM);
	if (status < 0)
		return;
	encoded = base64_encode(decoded, bytes);
	FUZZ_MUST(encoded != NULL);
	FUZZ_MUST(base64_decode(encoded, &again, &bytes_again) == 0);
	FUZZ_MUST(bytes_again == bytes && memcmp(again, decoded, bytes) == 0);
	free(encoded);
	free(decoded);
	free(again);
}

static void parse_as_documents(PCWSTR wide, uint8_t how)
{
	struct identity_draft draft = {.key = NULL};
	struct certificate_info info;
	struct invitation *invitation;

	failing_set(how);
	(void)identity_from_xml(wide, 1800000000, &info);
	failing_set(how);
	if (SUCCEEDED(invitation_read(wide, &invitation)))
		invitation_free(invitation);
	failing_set(how);
	(void)identity_draft_import(&draft, wide, "password");
	failing_set(0);
	identity_draft_free(&draft);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input input = {data, bytes};
	uint8_t how = input_byte(&input);
	size_t left = input.left;
	char *text;
	WCHAR *wide;

	if (bytes > 70000)
		return 0;
	parse_as_xml((const char *)input.at, left, how);
	text = input_text(&input, left);
	parse_as_base64(text, how);
	if (text_wide_dup(text, &wide) == 0) {
		parse_as_documents(wide, how);
		free(wide);
	}
	free(text);
	return 0;
}
