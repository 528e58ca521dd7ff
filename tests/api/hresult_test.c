/* Results: each errno that the layers below return has its HRESULT, each HRESULT of ours its name; and
 * the detail line behind PeerhubLastErrorText. */
#include "api/hresult.h"

#include "api/detail.h"
#include "api/text.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void hresult_success_and_counts(void **state)
{
	(void)state;
	assert_int_equal(hresult_from_status(0), S_OK);
	assert_int_equal(hresult_from_status(7), S_OK);
	assert_int_equal(hresult_from_connection_status(0), S_OK);
}

static void hresult_of_each_errno(void **state)
{
	(void)state;
	assert_int_equal(hresult_from_status(-ENOMEM), E_OUTOFMEMORY);
	assert_int_equal(hresult_from_status(-EINVAL), E_INVALIDARG);
	assert_int_equal(hresult_from_status(-ENOENT), PEER_E_NOT_FOUND);
	assert_int_equal(hresult_from_status(-EEXIST), PEER_E_ALREADY_EXISTS);
	assert_int_equal(hresult_from_status(-EACCES), E_ACCESSDENIED);
	assert_int_equal(hresult_from_status(-ENOSPC), PEER_E_DISK_FULL);
	assert_int_equal(hresult_from_status(-ENOKEY), PEER_E_NO_KEY_ACCESS);
	assert_int_equal(hresult_from_status(-EILSEQ), E_INVALIDARG);
	assert_int_equal(hresult_from_status(-EADDRINUSE), HRESULT_FROM_WIN32(WSAEADDRINUSE));
	assert_int_equal(hresult_from_status(-ECONNREFUSED), HRESULT_FROM_WIN32(WSAECONNREFUSED));
}

/* About a connection "not there" has a code of its own, a full queue is out of memory (A16), too
 * large a message is an argument (A15), and an ended tag is an ended group. */
static void hresult_of_connections(void **state)
{
	(void)state;
	assert_int_equal(hresult_from_connection_status(-ENOENT), PEER_E_CONNECTION_NOT_FOUND);
	assert_int_equal(hresult_from_connection_status(-EAGAIN), E_OUTOFMEMORY);
	assert_int_equal(hresult_from_connection_status(-EMSGSIZE), E_INVALIDARG);
	assert_int_equal(hresult_from_connection_status(-ESHUTDOWN), PEER_E_INVALID_GROUP);
	assert_int_equal(hresult_from_connection_status(-EMFILE), E_OUTOFMEMORY);
}

/* An errno that nobody thought of is still a failure. */
static void hresult_unknown_errno(void **state)
{
	(void)state;
	assert_int_equal(hresult_from_status(-EXDEV), E_FAIL);
	assert_int_equal(hresult_from_status(INT32_MIN), E_FAIL);
	assert_int_equal(hresult_from_connection_status(-EXDEV), E_FAIL);
}

static void hresult_names(void **state)
{
	(void)state;
	assert_string_equal(PeerhubResultName(S_OK), "S_OK");
	assert_string_equal(PeerhubResultName(E_HANDLE), "E_HANDLE");
	assert_string_equal(PeerhubResultName(PEER_E_INVALID_GROUP), "PEER_E_INVALID_GROUP");
	assert_string_equal(PeerhubResultName(PEER_E_NOT_FOUND), "PEER_E_NOT_FOUND");
	assert_string_equal(PeerhubResultName(HRESULT_FROM_WIN32(ERROR_DELETE_PENDING)),
		"HRESULT_FROM_WIN32(ERROR_DELETE_PENDING)");
	assert_string_equal(PeerhubResultName((HRESULT)0x8badf00d), "unknown");
}

/* Each value of the pinned table has a name, and it is not another value's. */
static void hresult_every_constant_has_a_name(void **state)
{
	(void)state;
#define RESULT(name, bits) assert_string_not_equal(PeerhubResultName(name), "unknown");
#include "constants.inc"
#undef RESULT
}

static void *detail_of_a_new_thread(void *context)
{
	(void)context;
	return (void *)PeerhubLastErrorText();
}

/* Each thread has its own line; what is longer than the line is cut between characters. */
static void detail_lines(void **state)
{
	char text[2 * DETAIL_BYTES_MAX];
	pthread_t thread;
	void *other;

	(void)state;
	detail_clear();
	assert_string_equal(PeerhubLastErrorText(), "");
	assert_int_equal(detail_fail(E_INVALIDARG, "field %d", 7), E_INVALIDARG);
	assert_string_equal(PeerhubLastErrorText(), "field 7");
	assert_int_equal(pthread_create(&thread, NULL, detail_of_a_new_thread, NULL), 0);
	assert_int_equal(pthread_join(thread, &other), 0);
	assert_ptr_not_equal(other, PeerhubLastErrorText());
	assert_string_equal(PeerhubLastErrorText(), "field 7");

	for (size_t lead = 0; lead < 4; lead++) {
		memset(text, 'x', lead);
		for (size_t at = lead; at + 4 < sizeof(text); at += 4)
			memcpy(text + at, "\xf0\x9f\x98\x80", 5);
		detail_set("%s", text);
		assert_true(strlen(PeerhubLastErrorText()) >= DETAIL_BYTES_MAX - 5);
		assert_true(text_is_utf8(PeerhubLastErrorText(), strlen(PeerhubLastErrorText())));
	}
	detail_clear();
	assert_string_equal(PeerhubLastErrorText(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hresult_success_and_counts),
		cmocka_unit_test(hresult_of_each_errno),
		cmocka_unit_test(hresult_of_connections),
		cmocka_unit_test(hresult_unknown_errno),
		cmocka_unit_test(hresult_names),
		cmocka_unit_test(hresult_every_constant_has_a_name),
		cmocka_unit_test(detail_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
