/*
 * The smallest p2p.h program: an identity, a group, online, and away again.
 * u"..." is a UTF-16 literal; with -fshort-wchar the L"..." of a Windows source works as it is.
 */
#include <p2p.h>
#include <stdio.h>

static int check(const char *call, HRESULT hr)
{
	if (FAILED(hr))
		fprintf(stderr, "%s: 0x%08X\n", call, (unsigned)hr);
	return SUCCEEDED(hr);
}

static void print(const char *label, PCWSTR text)
{
	printf("%s ", label);
	for (; *text != 0; text++)
		putchar(*text < 128 ? (char)*text : '?');
	putchar('\n');
}

/* Create a group, go online, look at the one member there is: ourselves. */
static int use_group(PWSTR identity)
{
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties),
		.pwzCreatorPeerName = identity,
		.pwzFriendlyName = (PWSTR)u"Example"};
	PPEER_GROUP_PROPERTIES found = NULL;
	HPEERENUM members = NULL;
	ULONG count = 0;
	HGROUP group = NULL;
	int good;

	if (!check("PeerGroupCreate", PeerGroupCreate(&properties, &group)))
		return 0;
	good = check("PeerGroupConnect", PeerGroupConnect(group)) &&
		check("PeerGroupGetProperties", PeerGroupGetProperties(group, &found)) &&
		check("PeerGroupEnumMembers", PeerGroupEnumMembers(group, 0, NULL, &members)) &&
		check("PeerGetItemCount", PeerGetItemCount(members, &count));
	if (good) {
		print("group", found->pwzGroupPeerName);
		printf("members %u\n", (unsigned)count);
	}
	if (members != NULL)
		PeerEndEnumeration(members);
	check("PeerGroupClose", PeerGroupClose(group));
	if (found != NULL)
		check("PeerGroupDelete", PeerGroupDelete(identity, found->pwzGroupPeerName));
	PeerFreeData(found);
	return good;
}

int main(void)
{
	PEER_VERSION_DATA version;
	PWSTR identity = NULL;
	int good;

	if (!check("PeerGroupStartup", PeerGroupStartup(PEER_GROUP_VERSION, &version)))
		return 1;
	good = check(
		"PeerIdentityCreate", PeerIdentityCreate(u"example", u"Somebody", 0, &identity));
	if (good) {
		print("identity", identity);
		good = use_group(identity);
		check("PeerIdentityDelete", PeerIdentityDelete(identity));
	}
	PeerFreeData(identity);
	check("PeerGroupShutdown", PeerGroupShutdown());
	return good ? 0 : 1;
}
