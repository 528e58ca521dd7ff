/*
 * Layouts: every size and offset of p2p.h is that of 64-bit Windows. All of it is decided by the
 * compiler; the program only says how many rows there were.
 */
#include "p2p.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define SIZE_OF(type, member) sizeof(((type *)0)->member)
#define FIELD(type, member, offset, size)                                                   \
	_Static_assert(offsetof(type, member) == (offset), "offset of " #type "." #member); \
	_Static_assert(SIZE_OF(type, member) == (size), "size of " #type "." #member);
#define TOTAL(type, size) _Static_assert(sizeof(type) == (size), "size of " #type);
#define FORMER(type, member, size) \
	_Static_assert(offsetof(type, member) == (size), "size of " #type " before Vista");
#include "layouts.inc"
#undef FIELD
#undef TOTAL
#undef FORMER

_Static_assert(_Alignof(GUID) == 4, "GUID");
_Static_assert(_Alignof(FILETIME) == 4, "FILETIME");
_Static_assert(_Alignof(PEER_ADDRESS) == 4, "PEER_ADDRESS");
_Static_assert((HRESULT)-1 < 0, "HRESULT has a sign");
_Static_assert((LONG)-1 < 0, "LONG has a sign");
_Static_assert((DWORD)-1 > 0, "DWORD has none");
_Static_assert((WCHAR)-1 > 0, "WCHAR has none");

/* The table is the whole one: a row that is lost from it must not go unseen. */
static void layout_rows_are_all_there(void **state)
{
	unsigned rows = 0;

	(void)state;
#define FIELD(type, member, offset, size) rows++;
#define TOTAL(type, size) rows++;
#define FORMER(type, member, size) rows++;
#include "layouts.inc"
	assert_int_equal(rows, 188);
}

/* The IPv6 address inside PEER_ADDRESS is the platform's own, family included. */
static void layout_address_is_the_platforms(void **state)
{
	PEER_ADDRESS address = {.dwSize = sizeof(address)};

	(void)state;
	address.sin6.sin6_family = AF_INET6;
	address.sin6.sin6_port = htons(3587);
	address.sin6.sin6_addr = in6addr_loopback;
	assert_memory_equal((char *)&address + 4, &address.sin6, sizeof(struct sockaddr_in6));
	assert_int_equal(address.sin6.sin6_family, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout_rows_are_all_there),
		cmocka_unit_test(layout_address_is_the_platforms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
