/*
 * Constants: every value of p2p.h is Windows' own, and our own names for documented limits and for
 * the protocol's numbers have the documented values.
 */
#include "api/certificate.h"
#include "api/peer_name.h"
#include "api/trust.h"
#include "engine/wire.h"
#include "peerhub/extras.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define NUMBER(name, value) _Static_assert((name) == (value), #name);
#define RESULT(name, bits) _Static_assert((uint32_t)(name) == (bits), #name);
#define OWN(name, value) _Static_assert((name) == (value), #name);
#include "constants.inc"
#undef NUMBER
#undef RESULT
#undef OWN

/* GUIDs have storage in the library, so they are compared here and not by the compiler. */
static void constants_guids(void **state)
{
	(void)state;
#define GUID_IS(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8)                            \
	{                                                                                   \
		static const GUID expected = {l, w1, w2, {b1, b2, b3, b4, b5, b6, b7, b8}}; \
		assert_memory_equal(&name, &expected, sizeof(GUID));                        \
		assert_true(IsEqualGUID(&name, &expected));                                 \
	}
#include "constants.inc"
#undef GUID_IS
	assert_false(IsEqualGUID(&PEER_GROUP_ROLE_ADMIN, &PEER_GROUP_ROLE_MEMBER));
}

/* The type of the protocol's own pings is that of the specification, in wire order. */
static void constants_ping_type(void **state)
{
	static const uint8_t expected[16] = {0x0C, 0xCB, 0xB0, 0xD2, 0xBE, 0x41, 0x4B, 0xD6, 0x91,
		0x4B, 0x05, 0x8E, 0xC5, 0xDC, 0xCE, 0x64};

	(void)state;
	assert_memory_equal(wire_ping_type, expected, sizeof(expected));
}

static void constants_rows_are_all_there(void **state)
{
	unsigned numbers = 0, results = 0, guids = 0, own = 0;

	(void)state;
#define NUMBER(name, value) numbers++;
#define RESULT(name, bits) results++;
#define GUID_IS(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8) guids++;
#define OWN(name, value) own++;
#include "constants.inc"
	assert_int_equal(numbers, 80);
	assert_int_equal(results, 144);
	assert_int_equal(guids, 3);
	assert_int_equal(own, 19);
}

/* The macros that take codes apart and put them together. */
static void constants_hresult_macros(void **state)
{
	(void)state;
	assert_true(SUCCEEDED(S_OK));
	assert_true(SUCCEEDED(PEER_S_NO_EVENT_DATA));
	assert_true(FAILED(PEER_E_INVALID_GROUP));
	assert_int_equal(HRESULT_CODE(PEER_E_INVALID_GROUP), 0x2093);
	assert_int_equal(HRESULT_FACILITY(PEER_E_INVALID_GROUP), FACILITY_P2P);
	assert_int_equal(HRESULT_SEVERITY(PEER_E_INVALID_GROUP), SEVERITY_ERROR);
	assert_int_equal(HRESULT_SEVERITY(PEER_S_NO_EVENT_DATA), SEVERITY_SUCCESS);
	assert_int_equal(HRESULT_FROM_WIN32(ERROR_SUCCESS), S_OK);
	assert_int_equal(HRESULT_FROM_WIN32(E_INVALIDARG), E_INVALIDARG);
	assert_int_equal(MAKEWORD(0x34, 0x12), 0x1234);
	assert_int_equal(LOBYTE(PEER_GROUP_VERSION), 1);
	assert_int_equal(HIBYTE(PEER_GRAPH_VERSION), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(constants_guids),
		cmocka_unit_test(constants_ping_type),
		cmocka_unit_test(constants_rows_are_all_there),
		cmocka_unit_test(constants_hresult_macros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
