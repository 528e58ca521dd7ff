/* Two nodes of one group in this process for the micro-benchmarks; see subject.h. */
#include "bench/subject.h"

#include "peerhub/extras.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE_MS 20000u
#define STORE_FILES_OPEN 16

struct subject_p2p {
	char home[40];
	WCHAR *founder, *joiner; /* identities */
	HGROUP groups[2]; /* the founder's, the joiner's */
	HANDLE signals[2];
	HPEEREVENT events[2]; /* who does not hear of direct connections gets none */
	PEER_ADDRESS address; /* where the founder listens */
	struct ph_hub *hub;
	uint64_t live; /* with no direct connection */
	int is_started;
};

static int fail(const char *what, HRESULT result)
{
	fprintf(stderr, "peerhub-bench: %s: %s: %s\n", what, PeerhubResultName(result),
		PeerhubLastErrorText());
	return -1;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status;
	(void)kind;
	(void)walk;
	return remove(path);
}

static HRESULT members_make(struct subject_p2p *subject)
{
	PEER_GROUP_PROPERTIES properties = {
		.dwSize = sizeof(properties), .pwzCreatorPeerName = subject->founder};
	WCHAR *xml = NULL, *invitation = NULL;
	HRESULT result = PeerGroupCreate(&properties, &subject->groups[0]);

	if (SUCCEEDED(result))
		result = PeerIdentityGetXML(subject->joiner, &xml);
	if (SUCCEEDED(result))
		result = PeerGroupCreateInvitation(
			subject->groups[0], xml, NULL, 1, &PEER_GROUP_ROLE_ADMIN, &invitation);
	if (SUCCEEDED(result))
		result = PeerGroupJoin(subject->joiner, invitation, NULL, &subject->groups[1]);
	PeerFreeData(xml);
	PeerFreeData(invitation);
	return result;
}

static HRESULT address_learn(struct subject_p2p *subject)
{
	PEER_MEMBER **items = NULL;
	HPEERENUM members = NULL;
	ULONG count = 1;
	HRESULT result = PeerGroupEnumMembers(subject->groups[0], 0, subject->founder, &members);

	if (FAILED(result))
		return result;
	result = PeerGetNextItem(members, &count, (PVOID **)&items);
	if (SUCCEEDED(result) && (count != 1 || items[0]->cAddresses == 0))
		result = E_FAIL;
	if (SUCCEEDED(result))
		subject->address = items[0]->pAddresses[0];
	PeerFreeData(items);
	(void)PeerEndEnumeration(members);
	return result;
}

static HRESULT events_register(struct subject_p2p *subject)
{
	PEER_GROUP_EVENT_REGISTRATION kind = {.eventType = PEER_GROUP_EVENT_DIRECT_CONNECTION};
	HRESULT result = S_OK;

	for (int index = 0; index < 2 && SUCCEEDED(result); index++) {
		subject->signals[index] = CreateEventW(NULL, FALSE, FALSE, NULL);
		if (subject->signals[index] == NULL)
			return E_OUTOFMEMORY;
		result = PeerGroupRegisterEvent(subject->groups[index], subject->signals[index], 1,
			&kind, &subject->events[index]);
	}
	return result;
}

/* Take all that wait, so that no queue grows. */
static void events_drain(const struct subject_p2p *subject)
{
	for (int index = 0; index < 2; index++) {
		PEER_GROUP_EVENT_DATA *event = NULL;

		while (PeerGroupGetEventData(subject->events[index], &event) == S_OK)
			PeerFreeData(event);
	}
}

/* Until the group is online: its neighbor has answered. */
static HRESULT await_online(HGROUP group)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	HRESULT result = S_OK;
	DWORD status = 0;

	for (uint32_t waited_ms = 0; SUCCEEDED(result) && waited_ms < PATIENCE_MS; waited_ms++) {
		result = PeerGroupGetStatus(group, &status);
		if (SUCCEEDED(result) && (status & PEER_GROUP_STATUS_HAS_CONNECTIONS) != 0)
			return S_OK;
		nanosleep(&pause, NULL);
	}
	return FAILED(result) ? result : PEER_E_GROUP_NOT_READY;
}

/* Each listens on an address of its own, so that dialling the founder is not dialling oneself. */
static HRESULT members_connect(struct subject_p2p *subject)
{
	HRESULT result = PeerhubSetListen("127.1.9.1:0");

	if (SUCCEEDED(result))
		result = PeerGroupConnect(subject->groups[0]);
	if (SUCCEEDED(result))
		result = address_learn(subject);
	if (SUCCEEDED(result))
		result = PeerhubSetListen("127.1.9.2:0");
	if (SUCCEEDED(result))
		result = PeerGroupConnectByAddress(subject->groups[1], 1, &subject->address);
	return SUCCEEDED(result) ? await_online(subject->groups[1]) : result;
}

static uint64_t live_now(const struct subject_p2p *subject)
{
	struct ph_statistics stats;

	ph_stats(subject->hub, &stats);
	return stats.live;
}

static uint64_t open_now(const struct subject_p2p *subject)
{
	struct ph_statistics stats;

	ph_stats(subject->hub, &stats);
	return stats.open;
}

static int begin(struct subject_p2p *subject)
{
	const struct ph_options options = {
		.size = sizeof(options), .shard_count = 1, .connections_per_shard = 4096};
	PEER_VERSION_DATA version;
	uint64_t tag;
	HRESULT result = PeerhubSetHome(subject->home);

	if (SUCCEEDED(result))
		result = PeerhubSetEngine(&options);
	if (FAILED(result))
		return fail("the store", result);
	result = PeerIdentityCreate(NULL, u"bench", 0, &subject->founder);
	if (SUCCEEDED(result))
		result = PeerIdentityCreate(NULL, u"bench", 0, &subject->joiner);
	if (FAILED(result))
		return fail("the identities", result);
	result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (FAILED(result))
		return fail("PeerGroupStartup", result);
	subject->is_started = 1;
	result = members_make(subject);
	if (SUCCEEDED(result))
		result = events_register(subject);
	if (SUCCEEDED(result))
		result = members_connect(subject);
	if (SUCCEEDED(result))
		result = PeerhubGroupNative(subject->groups[1], &subject->hub, &tag);
	if (FAILED(result))
		return fail("the group", result);
	subject->live = live_now(subject);
	return 0;
}

struct subject_p2p *subject_p2p_create(void)
{
	struct subject_p2p *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return NULL;
	snprintf(made->home, sizeof(made->home), "/tmp/peerhub-bench-XXXXXX");
	if (mkdtemp(made->home) == NULL) {
		perror("peerhub-bench: a directory for the store");
		free(made);
		return NULL;
	}
	if (begin(made) == 0)
		return made;
	subject_p2p_destroy(made);
	return NULL;
}

void subject_p2p_destroy(struct subject_p2p *subject)
{
	for (int index = 0; index < 2; index++) {
		if (subject->events[index] != NULL)
			(void)PeerGroupUnregisterEvent(subject->events[index]);
		if (subject->signals[index] != NULL)
			(void)CloseHandle(subject->signals[index]);
		if (subject->groups[index] != NULL)
			(void)PeerGroupClose(subject->groups[index]);
	}
	if (subject->is_started)
		(void)PeerGroupShutdown();
	PeerFreeData(subject->founder);
	PeerFreeData(subject->joiner);
	(void)PeerhubSetListen(NULL);
	(void)PeerhubSetEngine(NULL);
	(void)PeerhubSetHome(NULL);
	(void)nftw(subject->home, remove_one, STORE_FILES_OPEN, FTW_DEPTH | FTW_PHYS);
	free(subject);
}

static int await(const struct subject_p2p *subject,
	uint64_t (*now)(const struct subject_p2p *subject), uint64_t wanted)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	for (uint32_t waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms++) {
		if (now(subject) == wanted)
			return 0;
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "peerhub-bench: %" PRIu64 " connections instead of %" PRIu64 "\n",
		now(subject), wanted);
	return -1;
}

int subject_p2p_open(struct subject_p2p *subject, uint64_t *ids, uint32_t count)
{
	uint64_t open = open_now(subject);

	for (uint32_t index = 0; index < count; index++) {
		ULONGLONG id;
		HRESULT result = PeerGroupOpenDirectConnection(
			subject->groups[1], subject->founder, &subject->address, &id);

		if (FAILED(result))
			return fail("PeerGroupOpenDirectConnection", result);
		ids[index] = id;
	}
	return await(subject, open_now, open + 2 * (uint64_t)count); /* both ends are ours */
}

int subject_p2p_close(struct subject_p2p *subject, uint64_t id)
{
	return PeerGroupCloseDirectConnection(subject->groups[1], id) == S_OK ? 0 : -1;
}

int subject_p2p_await_closed(struct subject_p2p *subject)
{
	events_drain(subject);
	return await(subject, live_now, subject->live);
}
