/* XML and base64: what is read, what is refused, and that what is written is read back. */
#include "api/xml.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct xml_document *document)
{
	char why[XML_WHY_BYTES];
	int status = xml_parse(text, strlen(text), document, why);

	assert_int_equal(status == 0, why[0] == '\0');
	assert_true(strlen(why) < XML_WHY_BYTES);
	return status;
}

static void expect_refusal(const char *text)
{
	struct xml_document document;

	if (parse(text, &document) != -EINVAL)
		fail_msg("not refused: %s", text);
	assert_int_equal(document.child_count, 0); /* nothing to free */
}

static void elements_and_text(void **state)
{
	struct xml_document document;

	(void)state;
	assert_int_equal(parse("\xef\xbb\xbf \r\n<?xml version=\"1.0\" encoding=\"utf-16\"?>\n"
			       "<R VERSION=\"1.0\" other=\"x\">\n <A>one &amp; two</A>\n"
			       "\t<B dt:dt=\"bin.base64\"> x </B><C/><!-- c --></R>\r\n ",
				 &document),
		0);
	assert_string_equal(document.root, "R");
	assert_string_equal(document.version, "1.0");
	assert_int_equal(document.child_count, 3);
	assert_string_equal(xml_child_text(&document, "A"), "one & two");
	assert_string_equal(xml_child_text(&document, "B"), " x ");
	assert_string_equal(xml_child_text(&document, "C"), "");
	assert_null(xml_child_text(&document, "D"));
	xml_document_free(&document);
	assert_int_equal(parse("<R><![CDATA[ ]]><A><![CDATA[<&>]]>&#x20AC;</A></R>", &document), 0);
	assert_string_equal(document.version, "");
	assert_string_equal(xml_child_text(&document, "A"), "<&>\xe2\x82\xac");
	xml_document_free(&document);
}

static void refused_documents(void **state)
{
	(void)state;
	expect_refusal("");
	expect_refusal("   ");
	expect_refusal("text");
	expect_refusal("<R>");
	expect_refusal("<R></S>");
	expect_refusal("<R/><R/>");
	expect_refusal("<R><A><B/></A></R>");
	expect_refusal("<R>text<A/></R>");
	expect_refusal("<R><A/>text</R>");
	expect_refusal("<R><A/><A/></R>");
	expect_refusal("<R VERSION=\"1.0\" VERSION=\"1.0\"/>");
	expect_refusal("<R VERSION=\"0123456789012345\"/>");
	expect_refusal("<!DOCTYPE R><R/>");
	expect_refusal("<!DOCTYPE R [<!ENTITY e \"x\">]><R><A>&e;</A></R>");
	expect_refusal("<!DOCTYPE R SYSTEM \"file:///etc/passwd\"><R/>");
	expect_refusal("<R><A>&e;</A></R>");
	expect_refusal("<R><A>\xff</A></R>");
	expect_refusal("<R><A>\x01</A></R>");
	expect_refusal("<R><A>&#0;</A></R>");
	expect_refusal("<R><A0123456789012345678901234567890123456789/></R>");
	expect_refusal(
		"<R><a/><b/><c/><d/><e/><f/><g/><h/><i/><j/><k/><l/><m/><n/><o/><p/><q/></R>");
	expect_refusal("<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">"
		       "<!ENTITY c \"&b;&b;&b;&b;\">]><l><A>&c;</A></l>");
}

static void bytes_after_a_zero(void **state)
{
	struct xml_document document;
	char why[XML_WHY_BYTES];

	(void)state;
	assert_int_equal(xml_parse("<R/>\0x", 6, &document, why), -EINVAL);
}

static void sizes_are_bounded(void **state)
{
	char *text = malloc(XML_BYTES_MAX + 2);
	struct xml_document document;
	char why[XML_WHY_BYTES];

	(void)state;
	assert_non_null(text);
	memset(text, 'x', XML_BYTES_MAX + 1);
	memcpy(text, "<R><A>", 6);
	memcpy(text + XML_BYTES_MAX - 8, "</A></R>", 8);
	assert_int_equal(xml_parse(text, XML_BYTES_MAX, &document, why), 0);
	assert_int_equal(strlen(xml_child_text(&document, "A")), XML_BYTES_MAX - 14);
	xml_document_free(&document);
	assert_int_equal(xml_parse(text, XML_BYTES_MAX + 1, &document, why), -EMSGSIZE);
	free(text);
}

static void what_is_written_is_read(void **state)
{
	static const char text[] = "a <b> & \"c\" 'd' \r\n\t\xe2\x82\xac \xf0\x9f\x98\x80 ]]>";
	struct xml_writer writer = {.status = 0};
	struct xml_document document;
	uint8_t *data;
	size_t bytes;

	(void)state;
	xml_open(&writer, "R", "1.0");
	xml_element(&writer, "A", text);
	xml_base64(&writer, "B", (const uint8_t *)"\0\1\2\377", 4);
	xml_close(&writer, "R");
	assert_int_equal(writer.status, 0);
	assert_int_equal(parse(writer.text, &document), 0);
	assert_string_equal(xml_child_text(&document, "A"), text);
	assert_int_equal(base64_decode(xml_child_text(&document, "B"), &data, &bytes), 0);
	assert_int_equal(bytes, 4);
	assert_memory_equal(data, "\0\1\2\377", 4);
	free(data);
	xml_document_free(&document);
	free(writer.text);
}

static void what_xml_cannot_hold(void **state)
{
	static const char *const bad[] = {"\x01", "a\x1f", "\xef\xbf\xbe", "\xef\xbf\xbf", "\xff"};

	(void)state;
	for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++) {
		struct xml_writer writer = {.status = 0};

		xml_element(&writer, "A", bad[index]);
		assert_int_equal(writer.status, -EINVAL);
		free(writer.text);
	}
}

/* RFC 4648 section 10, and the forms that are not base64. */
static void base64_vectors(void **state)
{
	static const char *const vectors[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {"Z", "Zg", "Zg=", "Zg===", "=",
		"====", "Z===", "Zh==", "Zm9=", "Zg==Zg==", "Zg=a", "Zm9v!", "Zm-v", "Zm9v=",
		("\xc3\xa9"
		 "AAA")};
	uint8_t *data;
	size_t bytes;

	(void)state;
	for (size_t index = 0; index < sizeof(vectors) / sizeof(vectors[0]); index++) {
		const char *plain = vectors[index][0];
		char *text = base64_encode((const uint8_t *)plain, strlen(plain));

		assert_string_equal(text, vectors[index][1]);
		assert_int_equal(base64_decode(text, &data, &bytes), 0);
		assert_int_equal(bytes, strlen(plain));
		assert_memory_equal(data, plain, bytes);
		free(data);
		free(text);
	}
	assert_int_equal(base64_decode(" Zm\r\n9v\tYg = =\n", &data, &bytes), 0);
	assert_int_equal(bytes, 4);
	free(data);
	for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++) {
		if (base64_decode(bad[index], &data, &bytes) != -EINVAL)
			fail_msg("not refused: %s", bad[index]);
		assert_null(data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elements_and_text),
		cmocka_unit_test(refused_documents),
		cmocka_unit_test(bytes_after_a_zero),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(what_xml_cannot_hold),
		cmocka_unit_test(base64_vectors),
	};

	return cmocka_run_group_tests_name("xml", tests, NULL, NULL);
}
