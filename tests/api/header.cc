// p2p.h in C++17: WCHAR is char16_t, or wchar_t under -fshort-wchar; GUIDs compare by reference.
#include "peerhub/extras.h"
#include "header_guid.h"

#include <type_traits>

#ifdef HEADER_SHORT_WCHAR
#define TEXT_LITERAL(text) L##text
static_assert(std::is_same<WCHAR, wchar_t>::value, "wchar_t");
#else
#define TEXT_LITERAL(text) u##text
static_assert(std::is_same<WCHAR, char16_t>::value, "char16_t");
#endif
#include "header_body.inc"

#define SIZE_OF(type, member) sizeof(static_cast<type *>(nullptr)->member)
#define FIELD(type, member, offset, size)                                                  \
	static_assert(offsetof(type, member) == (offset), "offset of " #type "." #member); \
	static_assert(SIZE_OF(type, member) == (size), "size of " #type "." #member);
#define TOTAL(type, size) static_assert(sizeof(type) == (size), "size of " #type);
#define FORMER(type, member, size) \
	static_assert(offsetof(type, member) == (size), "size of " #type " before Vista");
#include "layouts.inc"

#define NUMBER(name, value) static_assert((name) == (value), #name);
#define RESULT(name, bits) static_assert(static_cast<uint32_t>(name) == (bits), #name);
#include "constants.inc"

int main()
{
	static const GUID admin = {
		0x04387127, 0xaa56, 0x450a, {0x8c, 0xe5, 0x4f, 0x56, 0x5c, 0x67, 0x90, 0xf4}};

	if (!IsEqualGUID(PEER_GROUP_ROLE_ADMIN, admin) || PEER_GROUP_ROLE_ADMIN != admin)
		return 16;
	if (!(PEER_GROUP_ROLE_INVITING_MEMBER == *header_guid_of_the_library()))
		return 32;
	return header_all();
}
