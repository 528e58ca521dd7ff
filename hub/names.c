/*
 * names.c: see names.h.
 */
#include "names.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "peerhub.h"
#include "say.h"
#include "text.h"

#define PREFIX_BYTES_MIN 4u /* a shorter beginning is more likely a slip than a name */

HRESULT names_take_all(HPEERENUM enumeration, struct names_list *list)
{
	HRESULT result, ended;

	*list = (struct names_list){0};
	result = PeerGetItemCount(enumeration, &list->count);
	if (SUCCEEDED(result))
		result = PeerGetNextItem(enumeration, &list->count, &list->items);
	ended = PeerEndEnumeration(enumeration);
	if (FAILED(result)) {
		*list = (struct names_list){0};
		return result;
	}
	return ended;
}

WCHAR *names_wide(const char *text)
{
	WCHAR *wide = text_to_utf16(text);
	char *shown;

	if (wide == NULL) {
		shown = text_escape(text, strlen(text), false);
		say_error("\"%.100s\": %s", shown != NULL ? shown : "?",
			errno == EILSEQ ? "not UTF-8 text" : "out of memory");
		free(shown);
	}
	return wide;
}

char *names_narrow(PCWSTR text)
{
	char *narrow = text_from_utf16(text);

	if (narrow == NULL)
		say_error("a text of the library: %s",
			errno == EILSEQ ? "not UTF-16" : "out of memory");
	return narrow;
}

char *names_word_narrow(const char *text)
{
	char *word;

	if (text == NULL || *text == 0)
		text = "-";
	word = text_escape(text, strlen(text), true);
	if (word == NULL)
		say_error("out of memory");
	return word;
}

char *names_word(PCWSTR text)
{
	char *narrow, *word;

	if (text == NULL || *text == 0)
		return names_word_narrow(NULL);
	narrow = names_narrow(text);
	if (narrow == NULL)
		return NULL;
	word = names_word_narrow(narrow);
	free(narrow);
	return word;
}

enum fit {
	FIT_NONE,
	FIT_FRIENDLY,
	FIT_PREFIX,
	FIT_WHOLE,
};

static enum fit fit_of(const PEER_NAME_PAIR *pair, const char *given)
{
	char *name = names_narrow(pair->pwzPeerName), *friendly = NULL;
	size_t bytes = strlen(given);
	enum fit fit = FIT_NONE;

	if (pair->pwzFriendlyName != NULL)
		friendly = names_narrow(pair->pwzFriendlyName);
	if (name != NULL && strcmp(name, given) == 0)
		fit = FIT_WHOLE;
	else if (name != NULL && bytes >= PREFIX_BYTES_MIN && strncmp(name, given, bytes) == 0)
		fit = FIT_PREFIX;
	else if (friendly != NULL && strcmp(friendly, given) == 0)
		fit = FIT_FRIENDLY;
	free(name);
	free(friendly);
	return fit;
}

/* The one item that fits, for free(). The whole name wins at once; otherwise one must be alone. */
static char *pick(const struct names_list *list, const char *given, const char *kind)
{
	const PEER_NAME_PAIR *found = NULL;
	size_t count = 0;

	for (ULONG i = 0; i < list->count; i++) {
		enum fit fit = fit_of(list->items[i], given);

		if (fit == FIT_NONE)
			continue;
		found = list->items[i];
		if (fit == FIT_WHOLE)
			return names_narrow(found->pwzPeerName);
		count++;
	}
	if (count == 1)
		return names_narrow(found->pwzPeerName);
	if (count == 0)
		say_error("there is no %s \"%s\" in this store", kind, given);
	else
		say_error("\"%s\" fits %zu %s names: give more of it", given, count, kind);
	return NULL;
}

static char *default_identity(void)
{
	PWSTR wide = NULL;
	HRESULT result;
	char *name;

	result = PeerIdentityGetDefault(&wide);
	if (result == PEER_E_NOT_FOUND) {
		say_error("this store has no identity: make one with \"peerhub id create\"");
		return NULL;
	}
	if (FAILED(result)) {
		say_result(result, "cannot read the default identity");
		return NULL;
	}
	name = names_narrow(wide);
	PeerFreeData(wide);
	return name;
}

char *names_identity(const char *given)
{
	struct names_list list;
	HPEERENUM enumeration;
	HRESULT result;
	char *name;

	if (given == NULL)
		return default_identity();
	result = PeerEnumIdentities(&enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the identities");
		return NULL;
	}
	name = pick(&list, given, "identity");
	PeerFreeData(list.items);
	return name;
}

char *names_group(const char *identity, const char *given)
{
	struct names_list list = {0};
	HPEERENUM enumeration;
	char *name = NULL;
	HRESULT result;
	WCHAR *wide;

	wide = names_wide(identity);
	if (wide == NULL)
		return NULL;
	result = PeerEnumGroups(wide, &enumeration);
	free(wide);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the groups of \"%s\"", identity);
		return NULL;
	}
	if (given != NULL)
		name = pick(&list, given, "group");
	else if (list.count == 1)
		name = names_narrow(((PEER_NAME_PAIR *)list.items[0])->pwzPeerName);
	else if (list.count == 0)
		say_error("\"%s\" is in no group: create or join one first", identity);
	else
		say_error("\"%s\" is in %u groups: choose one with --group", identity, list.count);
	PeerFreeData(list.items);
	return name;
}

/* Split at the last colon; "[...]" around the host is taken off. */
static int resolve(const char *text, struct sockaddr_in6 *address)
{
	struct addrinfo hints = {.ai_family = AF_INET6,
				.ai_socktype = SOCK_STREAM,
				.ai_flags = AI_V4MAPPED | AI_NUMERICSERV},
			*found = NULL;
	char host[256];
	const char *colon = strrchr(text, ':');
	size_t bytes;

	if (colon == NULL)
		return -EINVAL;
	bytes = (size_t)(colon - text);
	if (bytes == 0 || bytes >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, bytes);
	host[bytes] = 0;
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
		return -EINVAL;
	memcpy(address, found->ai_addr, sizeof(*address));
	freeaddrinfo(found);
	return 0;
}

int names_address(const char *text, PEER_ADDRESS *address)
{
	ph_address parsed;

	if (ph_address_parse(text, &parsed) != 0 && resolve(text, &parsed) != 0) {
		say_error("\"%s\" is not an address: HOST:PORT is expected", text);
		return -EINVAL;
	}
	if (parsed.sin6_port == 0) {
		say_error("\"%s\": port 0 cannot be connected to", text);
		return -EINVAL;
	}
	*address = (PEER_ADDRESS){.dwSize = sizeof(*address), .sin6 = parsed};
	return 0;
}

bool names_startup(void)
{
	PEER_VERSION_DATA version;
	HRESULT result;

	result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (FAILED(result))
		say_result(result, "cannot start");
	return SUCCEEDED(result);
}
