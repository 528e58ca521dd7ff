/* A file of a client without INITGUID: it uses the storage in the library, or that of another file. */
#include "header_guid.h"

const GUID *header_guid_of_the_library(void)
{
	return &PEER_GROUP_ROLE_INVITING_MEMBER;
}
