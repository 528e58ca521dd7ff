/* A p2p.h node as the victim; see attack_p2p.h. */
#include "attack_p2p.h"

#include "peerhub/extras.h"
#include "scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/pkcs7.h>

#define ONLINE_MS 30000u
#define PASSWORD u"attack"
#define PASSWORD_8 "attack"

static bool failed(struct p2p_victim *victim, const char *what, HRESULT result)
{
	attack_fault(
		victim->run, "%s: %s %s", what, PeerhubResultName(result), PeerhubLastErrorText());
	return false;
}

/* What we read here is ASCII: names of ours, base64, XML. */
static char *narrow(PCWSTR text)
{
	size_t units = 0;
	char *out;

	while (text[units] != 0)
		units++;
	out = malloc(units + 1);
	for (size_t i = 0; out != NULL && i <= units; i++)
		out[i] = (char)text[i];
	return out;
}

static bool narrow_into(char *out, PCWSTR text)
{
	char *copy = narrow(text);
	int length = copy != NULL ? snprintf(out, P2P_NAME_BYTES, "%s", copy) : -1;

	free(copy);
	return length > 0 && (size_t)length < P2P_NAME_BYTES;
}

/* ---- the node ---------------------------------------------------------------------------- */

static bool group_address(struct p2p_victim *victim, struct p2p_group *group)
{
	HPEERENUM members = NULL;
	PEER_MEMBER **items = NULL;
	ULONG count = 1;
	HRESULT result = PeerGroupEnumMembers(group->handle, 0, victim->creator, &members);
	bool is_there;

	if (FAILED(result))
		return failed(victim, "PeerGroupEnumMembers", result);
	result = PeerGetNextItem(members, &count, (PVOID **)&items);
	PeerEndEnumeration(members);
	if (FAILED(result))
		return failed(victim, "PeerGetNextItem", result);
	is_there = count == 1 && items[0]->cAddresses > 0;
	if (is_there)
		group->address = items[0]->pAddresses[0].sin6;
	PeerFreeData(items);
	return is_there || failed(victim, "an address of our own", E_FAIL);
}

static bool group_online(struct p2p_victim *victim, struct p2p_group *group)
{
	PEER_GROUP_EVENT_REGISTRATION wanted[] = {
		{.eventType = PEER_GROUP_EVENT_DIRECT_CONNECTION},
		{.eventType = PEER_GROUP_EVENT_INCOMING_DATA},
	};
	DWORD status = 0;
	HRESULT result = PeerGroupConnect(group->handle);

	for (uint32_t waited = 0;
		SUCCEEDED(result) && waited < ONLINE_MS && !(status & PEER_GROUP_STATUS_LISTENING);
		waited += 10) {
		attack_sleep_ms(10);
		result = PeerGroupGetStatus(group->handle, &status);
	}
	if (FAILED(result) || !(status & PEER_GROUP_STATUS_LISTENING))
		return failed(victim, "going online", result);
	group->event = CreateEventW(NULL, FALSE, FALSE, NULL);
	if (group->event == NULL)
		return failed(victim, "CreateEvent", E_OUTOFMEMORY);
	result = PeerGroupRegisterEvent(
		group->handle, group->event, 2, wanted, &group->registration);
	if (FAILED(result))
		return failed(victim, "PeerGroupRegisterEvent", result);
	result = PeerhubGroupNative(group->handle, &group->hub, &group->tag);
	if (FAILED(result))
		return failed(victim, "PeerhubGroupNative", result);
	return group_address(victim, group);
}

static bool group_create(struct p2p_victim *victim, struct p2p_group *group)
{
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties),
		.pwzCreatorPeerName = victim->creator,
		.pwzClassifier = (PWSTR)(uintptr_t)u"target",
		.pwzFriendlyName = (PWSTR)(uintptr_t)u"Target"};
	PEER_GROUP_PROPERTIES *made = NULL;
	HRESULT result = PeerGroupCreate(&properties, &group->handle);

	if (FAILED(result))
		return failed(victim, "PeerGroupCreate", result);
	result = PeerGroupGetProperties(group->handle, &made);
	if (FAILED(result))
		return failed(victim, "PeerGroupGetProperties", result);
	if (!narrow_into(group->name, made->pwzGroupPeerName)) {
		PeerFreeData(made);
		return failed(victim, "the group's name", E_FAIL);
	}
	PeerFreeData(made);
	snprintf(group->sni, sizeof(group->sni), "any.%.40s.p2p", group->name);
	return group_online(victim, group);
}

bool p2p_start(struct p2p_victim *victim, struct attack_run *run)
{
	PEER_VERSION_DATA version;
	HRESULT result;

	memset(victim, 0, sizeof(*victim));
	victim->run = run;
	run->memory_begin = attack_memory_now();
	if (!scratch_create(victim->home, NULL, "attack"))
		return failed(victim, "a temporary directory", E_FAIL);
	result = PeerhubSetHome(victim->home);
	if (SUCCEEDED(result))
		result = PeerhubSetListen("127.0.0.1:0");
	if (SUCCEEDED(result))
		result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (FAILED(result))
		return failed(victim, "PeerGroupStartup", result);
	victim->is_started = true;
	result = PeerIdentityCreate(u"victim", NULL, 0, &victim->creator);
	if (FAILED(result))
		return failed(victim, "PeerIdentityCreate", result);
	for (uint32_t i = 0; i < P2P_GROUPS; i++)
		if (!group_create(victim, &victim->groups[i]))
			return false;
	return true;
}

static int path_remove(const char *path, const struct stat *info, int flag, struct FTW *walk)
{
	(void)info, (void)flag, (void)walk;
	return remove(path);
}

void p2p_stop(struct p2p_victim *victim)
{
	HRESULT result;

	attack_memory(victim->run);
	for (uint32_t i = 0; i < P2P_GROUPS; i++) {
		struct p2p_group *group = &victim->groups[i];

		if (group->handle == NULL)
			continue;
		result = PeerGroupClose(group->handle);
		if (FAILED(result))
			failed(victim, "PeerGroupClose", result);
		if (group->event != NULL)
			CloseHandle(group->event);
	}
	PeerFreeData(victim->creator);
	if (victim->is_started) {
		result = PeerGroupShutdown();
		if (FAILED(result))
			failed(victim, "PeerGroupShutdown", result);
	}
	PeerhubSetHome(NULL);
	if (victim->home[0] != '\0' &&
		nftw(victim->home, path_remove, 8, FTW_DEPTH | FTW_PHYS) != 0)
		attack_fault(victim->run, "%s could not be removed", victim->home);
}

uint64_t p2p_events(struct p2p_group *group, uint32_t *disconnected)
{
	PEER_GROUP_EVENT_DATA *data = NULL;
	uint64_t id = 0;

	while (PeerGroupGetEventData(group->registration, &data) == S_OK) {
		if (data->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION) {
			if (data->connectionChangeData.status == PEER_CONNECTED)
				id = data->connectionChangeData.ullConnectionId;
			else
				(*disconnected)++;
		}
		PeerFreeData(data);
	}
	return id;
}

/* ---- insiders ---------------------------------------------------------------------------- */

/* The base64 text of an element, as bytes; OPENSSL_free. Whitespace is skipped. */
static uint8_t *element_bytes(const char *xml, const char *element, size_t *bytes)
{
	char open[32], *copy;
	const char *begin, *end;
	uint8_t *out;
	size_t kept = 0;
	int got;

	snprintf(open, sizeof(open), "<%s", element);
	begin = strstr(xml, open);
	begin = begin != NULL ? strchr(begin, '>') : NULL;
	end = begin != NULL ? strchr(begin, '<') : NULL;
	if (end == NULL)
		return NULL;
	copy = malloc((size_t)(end - begin));
	out = OPENSSL_malloc((size_t)(end - begin));
	if (copy == NULL || out == NULL)
		goto undo;
	for (const char *at = begin + 1; at < end; at++)
		if ((unsigned char)*at > ' ')
			copy[kept++] = *at;
	got = EVP_DecodeBlock(out, (const unsigned char *)copy, (int)kept);
	if (got <= 0)
		goto undo;
	*bytes = (size_t)got; /* up to two zeros too many: DER ends by itself */
	free(copy);
	return out;

undo:
	free(copy);
	OPENSSL_free(out);
	return NULL;
}

static bool insider_key(struct p2p_insider *insider, const char *xml)
{
	size_t bytes = 0;
	uint8_t *der = element_bytes(xml, "DATA", &bytes);
	const uint8_t *at = der;
	PKCS12 *container = der != NULL ? d2i_PKCS12(NULL, &at, (long)bytes) : NULL;
	bool is_read = container != NULL &&
		PKCS12_parse(container, PASSWORD_8, &insider->key, &insider->identity, NULL) == 1;

	PKCS12_free(container);
	OPENSSL_free(der);
	ERR_clear_error();
	return is_read && insider->key != NULL && insider->identity != NULL;
}

/* The invitation's chain is root first. */
static bool insider_chain(struct p2p_insider *insider, const char *xml)
{
	size_t bytes = 0;
	uint8_t *der = element_bytes(xml, "GMC", &bytes);
	const uint8_t *at = der;
	PKCS7 *container = der != NULL ? d2i_PKCS7(NULL, &at, (long)bytes) : NULL;
	STACK_OF(X509) *certs = container != NULL && PKCS7_type_is_signed(container)
		? container->d.sign->cert
		: NULL;
	int count = certs != NULL ? sk_X509_num(certs) : 0;

	for (int i = 0; i < count && i < (int)PH_CHAIN_MAX; i++) {
		X509 *cert = sk_X509_value(certs, count - 1 - i);

		X509_up_ref(cert);
		insider->chain[insider->count++] = cert;
	}
	PKCS7_free(container);
	OPENSSL_free(der);
	ERR_clear_error();
	return count >= 2 && X509_check_private_key(insider->chain[0], insider->key) == 1;
}

static bool insider_invite(struct p2p_victim *victim, uint32_t group, const GUID *role,
	PWSTR identity, struct p2p_insider *insider)
{
	PWSTR info = NULL, export = NULL, invitation = NULL;
	char *export_8 = NULL, *invitation_8 = NULL;
	HRESULT result = PeerIdentityGetXML(identity, &info);
	bool is_made = false;

	if (SUCCEEDED(result))
		result = PeerIdentityExport(identity, PASSWORD, &export);
	if (SUCCEEDED(result))
		result = PeerGroupCreateInvitation(
			victim->groups[group].handle, info, NULL, 1, role, &invitation);
	if (FAILED(result)) {
		failed(victim, "an insider's invitation", result);
	} else {
		export_8 = narrow(export);
		invitation_8 = narrow(invitation);
		is_made = export_8 != NULL && invitation_8 != NULL &&
			narrow_into(insider->name, identity) && insider_key(insider, export_8) &&
			insider_chain(insider, invitation_8);
		if (!is_made)
			attack_fault(victim->run, "an insider's key or chain cannot be read");
	}
	PeerFreeData(info);
	PeerFreeData(export);
	PeerFreeData(invitation);
	free(export_8);
	free(invitation_8);
	return is_made;
}

bool p2p_insider_create(
	struct p2p_victim *victim, uint32_t group, const GUID *role, struct p2p_insider *insider)
{
	PWSTR identity = NULL;
	HRESULT result = PeerIdentityCreate(u"insider", NULL, 0, &identity);
	bool is_made;

	memset(insider, 0, sizeof(*insider));
	if (FAILED(result))
		return failed(victim, "PeerIdentityCreate", result);
	is_made = insider_invite(victim, group, role, identity, insider);
	PeerFreeData(identity);
	return is_made;
}

void p2p_insider_destroy(struct p2p_insider *insider)
{
	EVP_PKEY_free(insider->key);
	X509_free(insider->identity);
	for (uint32_t i = 0; i < insider->count; i++)
		X509_free(insider->chain[i]);
	memset(insider, 0, sizeof(*insider));
}
