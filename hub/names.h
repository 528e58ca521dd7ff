/*
 * names.h: identities and groups as a person names them, and as the library does.
 *
 * A person may give the whole peer name, the beginning of one (4 characters at least, when only one
 * fits), or the whole friendly name (when only one has it). What comes back is always the peer name,
 * UTF-8, for free(). Errors are said on stderr.
 */
#ifndef PEERHUB_HUB_NAMES_H
#define PEERHUB_HUB_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "p2p.h"

/* The items of an enumeration of one kind, taken at once. PeerFreeData(items) gives them back. */
struct names_list {
	PVOID *items;
	ULONG count;
};
/* Take everything out of an enumeration and end it. */
HRESULT names_take_all(HPEERENUM enumeration, struct names_list *list);

/* One of this store's identities; NULL means the default one. */
char *names_identity(const char *given);
/* One of an identity's groups; NULL means its only one. */
char *names_group(const char *identity, const char *given);

/* Text for the library, and out of it; said on stderr when it cannot be. For free(). */
WCHAR *names_wide(const char *text);
char *names_narrow(PCWSTR text);
/* The same, escaped to one word for a line of output; "-" for NULL and empty text. */
char *names_word(PCWSTR text);
char *names_word_narrow(const char *text);

/* "HOST:PORT", host numeric or a name, to an address. 0 or -EINVAL (said on stderr). */
int names_address(const char *text, PEER_ADDRESS *address);

/* PeerGroupStartup with our version; said on stderr when it fails. */
bool names_startup(void);

#endif
