/* Detail: a thread-local line. vsnprintf may cut a character in two at the end of the buffer; the cut
 * moves back to its start, so that readers always get UTF-8. */
#include "api/detail.h"

#include "api/text.h"
#include "peerhub/extras.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail_text[DETAIL_BYTES_MAX];

static void detail_format(const char *format, va_list arguments)
{
	int length = vsnprintf(detail_text, sizeof(detail_text), format, arguments);
	size_t bytes;

	if (length < 0) {
		detail_text[0] = '\0';
		return;
	}
	bytes = strlen(detail_text);
	if ((size_t)length <= bytes)
		return;
	while (bytes > 0 && ((unsigned char)detail_text[bytes - 1] & 0xC0u) == 0x80u)
		bytes--;
	if (bytes > 0 && (unsigned char)detail_text[bytes - 1] >= 0xC0u)
		bytes--;
	detail_text[bytes] = '\0';
}

void detail_clear(void)
{
	detail_text[0] = '\0';
}

void detail_set(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	detail_format(format, arguments);
	va_end(arguments);
}

HRESULT detail_fail(HRESULT result, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	detail_format(format, arguments);
	va_end(arguments);
	return result;
}

const char *PeerhubLastErrorText(void)
{
	return detail_text;
}
