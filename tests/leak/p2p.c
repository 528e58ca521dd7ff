/* Cycles through p2p.h; see p2p.h of this folder. One thread drives; it alone takes events. */
#include "tests/leak/p2p.h"

#include "api/block.h"
#include "api/handle.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "stress/random.h"
#include "stress/scratch.h"
#include "tests/leak/inspect.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MEMBERS \
	8u /* 28 pairs: a pair has one direct connection at a time, a second one is refused */
#define WINDOW 12u
#define REOPEN_EVERY 256u /* cycles after which a member closes its group with all that is open */
#define WAIT_MS 60000u
#define PROGRESS_NS 5000000000u

/* A direct connection as its opener knows it. */
struct link {
	ULONGLONG id; /* 0: this place is free */
	uint32_t member; /* who opened it */
	uint8_t plan;
	bool is_connected;
	bool is_closed; /* we asked */
};

enum link_plan {
	LINK_CLOSE, /* when it is connected */
	LINK_CLOSE_AT_ONCE, /* while it opens */
	LINK_SEND_AND_CLOSE,
	LINK_PEER_CLOSES, /* the other member, on hearing of it */
	LINK_STAYS, /* until the group ends, or the run */
	LINK_PLAN_COUNT,
};

struct member_side {
	PWSTR identity;
	HGROUP group;
	HANDLE event;
	HPEEREVENT registration;
	PEER_ADDRESS address;
};

struct p2p {
	struct member_side members[MEMBERS];
	PPEER_GROUP_PROPERTIES properties; /* for the group's name */
	struct link links[WINDOW];
	uint64_t opened, finished, dropped; /* dropped: their group was closed, no event is owed */
	uint64_t connected, failed; /* of those opened */
	struct random random;
	char home[SCRATCH_BYTES];
};

static const GUID type = {1, 2, 3, {4, 5, 6, 7, 8, 9, 10, 11}};

static int say_failure(const char *what, HRESULT result)
{
	fprintf(stderr, "leak: %s: %s: %s\n", what, PeerhubResultName(result),
		PeerhubLastErrorText());
	return -EPROTO;
}

#define MUST(call)                                        \
	do {                                              \
		HRESULT must_ = (call);                   \
		if (FAILED(must_))                        \
			return say_failure(#call, must_); \
	} while (0)

/* ---- the store ----------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

static int make_guest(HGROUP founder, struct member_side *guest)
{
	const GUID role = PEER_GROUP_ROLE_MEMBER;
	PWSTR xml, invitation;
	HGROUP group;

	MUST(PeerIdentityGetXML(guest->identity, &xml));
	MUST(PeerGroupCreateInvitation(founder, xml, NULL, 1, &role, &invitation));
	MUST(PeerGroupJoin(guest->identity, invitation, NULL, &group));
	PeerFreeData(invitation);
	PeerFreeData(xml);
	MUST(PeerGroupClose(group));
	return 0;
}

static int make_members(struct p2p *p2p)
{
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties)};
	PEER_VERSION_DATA version;
	HGROUP founder;
	int status = 0;

	MUST(PeerGroupStartup(PEER_GROUP_VERSION, &version));
	for (uint32_t i = 0; i < MEMBERS; i++)
		MUST(PeerIdentityCreate(u"leak", NULL, 0, &p2p->members[i].identity));
	properties.pwzCreatorPeerName = p2p->members[0].identity;
	MUST(PeerGroupCreate(&properties, &founder));
	MUST(PeerGroupGetProperties(founder, &p2p->properties));
	for (uint32_t i = 1; i < MEMBERS && status == 0; i++)
		status = make_guest(founder, &p2p->members[i]);
	if (status < 0)
		return status;
	MUST(PeerGroupClose(founder));
	MUST(PeerGroupShutdown());
	return 0;
}

int p2p_create(uint64_t seed, struct p2p **out)
{
	struct p2p *p2p = calloc(1, sizeof(*p2p));

	*out = p2p;
	if (p2p == NULL)
		return -ENOMEM;
	random_init(&p2p->random, seed, 0);
	if (!scratch_create(p2p->home, NULL, "leak"))
		return -errno;
	MUST(PeerhubSetHome(p2p->home));
	return make_members(p2p);
}

void p2p_destroy(struct p2p *p2p)
{
	if (p2p == NULL)
		return;
	for (uint32_t i = 0; i < MEMBERS; i++)
		PeerFreeData(p2p->members[i].identity);
	PeerFreeData(p2p->properties);
	(void)PeerhubSetHome(NULL); /* closes the store */
	if (p2p->home[0] != '\0')
		(void)nftw(p2p->home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(p2p);
}

bool p2p_is_empty(void)
{
	static const char *const names[HANDLE_KIND_COUNT] = {
		"", "groups", "registrations", "enumerations", "event objects", "waits"};
	bool is_empty = true;

	/* The names of the identities and the properties with that of the group are kept. */
	if (block_count() != MEMBERS + 1) {
		fprintf(stderr, "leak: %zu blocks, expected %u\n", block_count(), MEMBERS + 1);
		is_empty = false;
	}
	for (int kind = HANDLE_GROUP; kind < HANDLE_KIND_COUNT; kind++) {
		if (handle_count((enum handle_kind)kind) == 0)
			continue;
		fprintf(stderr, "leak: %u handles of %s\n", handle_count((enum handle_kind)kind),
			names[kind]);
		is_empty = false;
	}
	return is_empty;
}

/* ---- members ------------------------------------------------------------------------------- */

static int member_register(struct member_side *member)
{
	PEER_GROUP_EVENT_REGISTRATION entries[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL},
		{PEER_GROUP_EVENT_INCOMING_DATA, NULL},
		{PEER_GROUP_EVENT_STATUS_CHANGED, NULL},
	};

	member->event = CreateEvent(NULL, FALSE, FALSE, NULL);
	if (member->event == NULL)
		return -ENOMEM;
	MUST(PeerGroupRegisterEvent(
		member->group, member->event, 3, entries, &member->registration));
	return 0;
}

static int member_open(struct p2p *p2p, uint32_t index)
{
	struct member_side *member = &p2p->members[index];

	MUST(PeerGroupOpen(
		member->identity, p2p->properties->pwzGroupPeerName, NULL, &member->group));
	return member_register(member);
}

/* The group goes with everything that is open in it; its registration goes along. */
static int member_close(struct member_side *member)
{
	HPEEREVENT registration = member->registration;
	HRESULT result = PeerGroupClose(member->group);

	member->group = NULL;
	member->registration = NULL;
	if (FAILED(result))
		return say_failure("PeerGroupClose", result);
	if (PeerGroupUnregisterEvent(registration) != E_INVALIDARG) {
		fprintf(stderr, "leak: a registration outlived its group\n");
		return -EPROTO;
	}
	CloseHandle(member->event);
	member->event = NULL;
	return 0;
}

static int member_learn_address(struct member_side *member)
{
	PEER_MEMBER **items = NULL;
	HPEERENUM members;
	ULONG count = 1;

	MUST(PeerGroupEnumMembers(member->group, PEER_MEMBER_PRESENT, member->identity, &members));
	MUST(PeerGetNextItem(members, &count, (PVOID **)&items));
	MUST(PeerEndEnumeration(members));
	if (count != 1 || items[0]->cAddresses == 0) {
		fprintf(stderr, "leak: a member online has no address\n");
		PeerFreeData(items);
		return -EPROTO;
	}
	member->address = items[0]->pAddresses[0];
	PeerFreeData(items);
	return 0;
}

static int member_wait_status(struct member_side *member, DWORD wanted)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	DWORD status = 0;

	for (uint32_t turn = 0; turn < WAIT_MS; turn++) {
		MUST(PeerGroupGetStatus(member->group, &status));
		if ((status & wanted) == wanted)
			return 0;
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "leak: a member's status is %x, expected %x\n", (unsigned)status,
		(unsigned)wanted);
	return -EPROTO;
}

/* The founder listens; the guest goes to it. */
static int member_go_online(struct p2p *p2p, uint32_t index)
{
	struct member_side *member = &p2p->members[index];
	char listen[32];
	int status;

	snprintf(listen, sizeof(listen), "127.0.4.%u:0", index + 1);
	MUST(PeerhubSetListen(listen));
	if (index == 0)
		MUST(PeerGroupConnect(member->group));
	else
		MUST(PeerGroupConnectByAddress(member->group, 1, &p2p->members[0].address));
	status = member_wait_status(member, PEER_GROUP_STATUS_LISTENING);
	return status < 0 ? status : member_learn_address(member);
}

static int members_begin(struct p2p *p2p)
{
	for (uint32_t i = 0; i < MEMBERS; i++) {
		int status = member_open(p2p, i);

		if (status == 0)
			status = member_go_online(p2p, i);
		if (status < 0)
			return status;
	}
	return 0;
}

/* ---- direct connections -------------------------------------------------------------------- */

static struct link *link_find(struct p2p *p2p, ULONGLONG id)
{
	for (uint32_t i = 0; i < WINDOW; i++)
		if (p2p->links[i].id == id)
			return &p2p->links[i];
	return NULL;
}

static int link_close(struct p2p *p2p, uint32_t member, ULONGLONG id)
{
	HRESULT result = PeerGroupCloseDirectConnection(p2p->members[member].group, id);

	if (FAILED(result) && result != PEER_E_CONNECTION_NOT_FOUND)
		return say_failure("PeerGroupCloseDirectConnection", result);
	return 0;
}

static int link_open(struct p2p *p2p, struct link *link)
{
	struct member_side *member, *other;
	HRESULT result;

	link->member = random_below(&p2p->random, MEMBERS);
	link->plan = (uint8_t)random_below(&p2p->random, LINK_PLAN_COUNT);
	link->is_connected = link->is_closed = false;
	member = &p2p->members[link->member];
	other = &p2p->members[(link->member + 1 + random_below(&p2p->random, MEMBERS - 1)) %
		MEMBERS];
	result = PeerGroupOpenDirectConnection(
		member->group, other->identity, &other->address, &link->id);
	if (FAILED(result)) {
		link->id = 0;
		return say_failure("PeerGroupOpenDirectConnection", result);
	}
	p2p->opened++;
	if (link->plan == LINK_CLOSE_AT_ONCE) {
		link->is_closed = true;
		return link_close(p2p, link->member, link->id);
	}
	return 0;
}

/* Nothing may answer to an id that has had its last event. */
static int link_finish(struct p2p *p2p, struct link *link)
{
	HGROUP group = p2p->members[link->member].group;
	char byte = 0;

	if (PeerGroupCloseDirectConnection(group, link->id) != PEER_E_CONNECTION_NOT_FOUND ||
		PeerGroupSendData(group, link->id, &type, 1, &byte) !=
			PEER_E_CONNECTION_NOT_FOUND) {
		fprintf(stderr, "leak: a dead connection answers: %016llx\n",
			(unsigned long long)link->id);
		return -EPROTO;
	}
	link->id = 0;
	p2p->finished++;
	return 0;
}

static int link_connected(struct p2p *p2p, struct link *link)
{
	static uint8_t data[20000];

	p2p->connected++;
	link->is_connected = true;
	if (link->plan == LINK_STAYS || link->plan == LINK_PEER_CLOSES)
		return 0;
	if (link->plan == LINK_SEND_AND_CLOSE)
		(void)PeerGroupSendData(
			p2p->members[link->member].group, link->id, &type, sizeof(data), data);
	link->is_closed = true;
	return link_close(p2p, link->member, link->id);
}

static int on_connection(
	struct p2p *p2p, uint32_t index, const PEER_EVENT_CONNECTION_CHANGE_DATA *change)
{
	struct link *link = link_find(p2p, change->ullConnectionId);

	if (link != NULL && link->member != index) {
		fprintf(stderr, "leak: an event of somebody else's connection\n");
		return -EPROTO;
	}
	if (change->status == PEER_CONNECTED) {
		if (link != NULL)
			return link_connected(p2p, link);
		/* Ours is the accepting side: every third is closed from here, or it is the plan there. */
		return random_below(&p2p->random, 3) == 0
			? link_close(p2p, index, change->ullConnectionId)
			: 0;
	}
	p2p->failed += change->status == PEER_CONNECTION_FAILED;
	return link != NULL ? link_finish(p2p, link) : 0;
}

static int events_take(struct p2p *p2p, uint32_t index, bool *any)
{
	struct member_side *member = &p2p->members[index];
	PEER_GROUP_EVENT_DATA *event;
	int status = 0;

	while (status == 0) {
		HRESULT result = PeerGroupGetEventData(member->registration, &event);

		if (FAILED(result))
			return say_failure("PeerGroupGetEventData", result);
		if (result == PEER_S_NO_EVENT_DATA)
			return 0;
		*any = true;
		if (event->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION)
			status = on_connection(p2p, index, &event->connectionChangeData);
		PeerFreeData(event);
	}
	return status;
}

/* What only the other member or nobody would end is ended here, so that the run goes on. */
static int links_end_the_patient(struct p2p *p2p, bool all)
{
	for (uint32_t i = 0; i < WINDOW; i++) {
		struct link *link = &p2p->links[i];
		int status;

		if (link->id == 0 || !link->is_connected || link->is_closed ||
			(!all && random_below(&p2p->random, 8) != 0))
			continue;
		link->is_closed = true;
		status = link_close(p2p, link->member, link->id);
		if (status < 0)
			return status;
	}
	return 0;
}

/* Close one member's group with whatever is open; its own links have no event to come. */
static int member_reopen(struct p2p *p2p, uint32_t index)
{
	int status = member_close(&p2p->members[index]);

	for (uint32_t i = 0; i < WINDOW; i++) {
		struct link *link = &p2p->links[i];

		if (link->id == 0 || link->member != index)
			continue;
		link->id = 0;
		p2p->dropped++;
	}
	if (status == 0)
		status = member_open(p2p, index);
	return status < 0 ? status : member_go_online(p2p, index);
}

static int cycles_step(struct p2p *p2p, uint64_t count, bool *moved)
{
	int status = 0;

	*moved = false;
	for (uint32_t i = 0; i < WINDOW && status == 0; i++) {
		if (p2p->links[i].id != 0 || p2p->opened == count)
			continue;
		status = link_open(p2p, &p2p->links[i]);
		*moved = true;
	}
	for (uint32_t i = 0; i < MEMBERS && status == 0; i++)
		status = events_take(p2p, i, moved);
	if (status == 0 && !*moved)
		status = links_end_the_patient(p2p, p2p->opened == count);
	return status;
}

static int cycles_drive(struct p2p *p2p, uint64_t count, bool shows_progress)
{
	uint64_t begin_ns = count_now_ns(), moved_ns = begin_ns, shown_ns = begin_ns,
		 next = REOPEN_EVERY;

	while (p2p->finished + p2p->dropped < count) {
		bool moved;
		int status = cycles_step(p2p, count, &moved);

		if (status == 0 && p2p->opened >= next && p2p->opened < count) {
			next += REOPEN_EVERY;
			status = member_reopen(
				p2p, 1); /* who dialled: the founder's address stays */
		}
		if (status < 0)
			return status;
		if (moved)
			moved_ns = count_now_ns();
		else
			(void)WaitForSingleObject(
				p2p->members[random_below(&p2p->random, MEMBERS)].event, 1);
		if (count_now_ns() - moved_ns > WAIT_MS * 1000000ull) {
			fprintf(stderr, "leak: p2p: nothing has happened for a minute\n");
			return -EPROTO;
		}
		if (shows_progress && count_now_ns() - shown_ns > PROGRESS_NS) {
			shown_ns = count_now_ns();
			fprintf(stderr, "leak: p2p: %" PRIu64 " of %" PRIu64 " cycles\n",
				p2p->finished + p2p->dropped, count);
		}
	}
	return 0;
}

/* The engine underneath has nothing left of them, before the library is stopped. */
static int check_rest(struct ph_hub *hub)
{
	char text[INSPECT_TEXT_BYTES];
	int status = inspect_wait(hub, WAIT_MS, text);

	if (status < 0)
		fprintf(stderr, "leak: p2p: not at rest: %s\n", text);
	return status;
}

int p2p_cycles(struct p2p *p2p, uint64_t count, bool shows_progress)
{
	uint64_t begin_ns = count_now_ns(), cpu_ns = count_cpu_ns(), tag;
	PEER_VERSION_DATA version;
	struct ph_hub *hub;
	int status;

	p2p->opened = p2p->finished = p2p->dropped = p2p->connected = p2p->failed = 0;
	memset(p2p->links, 0, sizeof(p2p->links));
	MUST(PeerGroupStartup(PEER_GROUP_VERSION, &version));
	status = members_begin(p2p);
	if (status < 0)
		return status;
	MUST(PeerhubGroupNative(p2p->members[0].group, &hub, &tag));
	status = cycles_drive(p2p, count, shows_progress);
	for (uint32_t i = 0; i < MEMBERS && status == 0; i++)
		status = member_close(&p2p->members[i]);
	if (status == 0)
		status = check_rest(hub);
	if (status < 0)
		return status;
	MUST(PeerGroupShutdown());
	printf("p2p: %" PRIu64 " direct connections in %.1f s, %.0f us of CPU each (both ends), ",
		count, (double)(count_now_ns() - begin_ns) / 1e9,
		count > 0 ? (double)(count_cpu_ns() - cpu_ns) / 1e3 / (double)count : 0);
	printf("%" PRIu64 " connected, %" PRIu64 " failed, %" PRIu64 " gone with their group\n",
		p2p->connected, p2p->failed, p2p->dropped);
	return 0;
}

/* ---- groups and lives ---------------------------------------------------------------------- */

static void show(const char *what, uint64_t done, uint64_t count, uint64_t *shown_ns)
{
	if (count_now_ns() - *shown_ns < PROGRESS_NS)
		return;
	*shown_ns = count_now_ns();
	fprintf(stderr, "leak: %s: %" PRIu64 " of %" PRIu64 "\n", what, done, count);
}

int p2p_groups(struct p2p *p2p, uint64_t count, bool shows_progress)
{
	uint64_t begin_ns = count_now_ns(), shown_ns = begin_ns;
	PEER_VERSION_DATA version;
	int status = 0;

	MUST(PeerGroupStartup(PEER_GROUP_VERSION, &version));
	for (uint64_t i = 0; i < count && status == 0; i++) {
		uint32_t index = (uint32_t)(i % MEMBERS);

		status = member_open(p2p, index);
		/* A guest alone would wait for the founder. */
		if (status == 0 && i % (2 * MEMBERS) == 0)
			status = member_go_online(p2p, index);
		if (status == 0)
			status = member_close(&p2p->members[index]);
		if (shows_progress)
			show("groups", i, count, &shown_ns);
	}
	if (status < 0)
		return status;
	MUST(PeerGroupShutdown());
	printf("groups: opened and closed %" PRIu64 " times in %.1f s\n", count,
		(double)(count_now_ns() - begin_ns) / 1e9);
	return 0;
}

int p2p_lives(struct p2p *p2p, uint64_t count, bool shows_progress)
{
	uint64_t begin_ns = count_now_ns(), shown_ns = begin_ns;
	PEER_VERSION_DATA version;
	int status = 0;

	for (uint64_t i = 0; i < count && status == 0; i++) {
		MUST(PeerGroupStartup(PEER_GROUP_VERSION, &version));
		status = member_open(p2p, (uint32_t)(i % MEMBERS));
		if (status == 0 && i % (2 * MEMBERS) == 0)
			status = member_go_online(p2p, (uint32_t)(i % MEMBERS));
		if (status == 0)
			status = member_close(&p2p->members[i % MEMBERS]);
		MUST(PeerGroupShutdown());
		if (shows_progress)
			show("lives", i, count, &shown_ns);
	}
	if (status == 0)
		printf("lives: started and stopped %" PRIu64 " times in %.1f s\n", count,
			(double)(count_now_ns() - begin_ns) / 1e9);
	return status;
}
