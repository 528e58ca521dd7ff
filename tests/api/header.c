/* p2p.h in C: compiled as C11 and C17, with L"..." under -fshort-wchar, with and without INITGUID. */
#include "peerhub/extras.h"
#include "header_guid.h"

#ifdef HEADER_SHORT_WCHAR
#define TEXT_LITERAL(text) L##text
#else
#define TEXT_LITERAL(text) u##text
#endif
#include "header_body.inc"

_Static_assert(sizeof(TEXT_LITERAL("ab")) == 6, "literals are UTF-16");

int main(void)
{
	static const GUID admin = {
		0x04387127, 0xaa56, 0x450a, {0x8c, 0xe5, 0x4f, 0x56, 0x5c, 0x67, 0x90, 0xf4}};

	if (!IsEqualGUID(&PEER_GROUP_ROLE_ADMIN, &admin))
		return 16;
	if (!IsEqualGUID(&PEER_GROUP_ROLE_INVITING_MEMBER, header_guid_of_the_library()))
		return 32;
	return header_all();
}
