/*
 * Revocation: what it closes, whom it refuses, what survives a restart, who may, and that no handshake slips
 * through. All members live in this process on one store; the creator listens at one address, the others at
 * another, so that they can dial each other on the real engine.
 *
 * REVOKE_CONNECTIONS=10000 opens so many for the first case and prints how long revoking took (docs/revocation.md).
 */
#include "tests/api/store_home.h"

#include "api/credential.h"
#include "api/revocation.h"
#include "p2p.h"
#include "peerhub.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define WAIT_S 120
#define MEMBERS 4u

enum who {
	CREATOR,
	ISSUER,
	BELOW,
	OTHER
}; /* BELOW was invited by ISSUER, the others by the creator */

struct member_here {
	char name[PH_NAME_BYTES_MAX];
	HGROUP group;
	HANDLE event;
	HPEEREVENT registration;
};

static struct member_here members[MEMBERS];
static char group_name[PH_NAME_BYTES_MAX];
static PEER_ADDRESS creator_address;
static struct ph_hub *hub;
static atomic_uint ends_revoked, ends_refused, ends_other;

static void on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity)
{
	(void)user, (void)group, (void)identity;
	if (receipt->reason == PH_REASON_LOCAL_REVOKED)
		atomic_fetch_add(&ends_revoked, 1);
	else if (receipt->reason == PH_REASON_PROTOCOL_VERIFY &&
		strcmp(receipt->text, REVOCATION_WORDS) == 0)
		atomic_fetch_add(&ends_refused, 1);
	else
		atomic_fetch_add(&ends_other, 1);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Open connections whose other end is this member: its own ends do not count. */
static uint64_t open_with(enum who who)
{
	struct ph_filter filter = {.group = group_name, .identity = members[who].name};

	return ph_connections(hub, &filter, NULL, NULL);
}

static void wait_for(enum who who, uint64_t wanted)
{
	for (uint64_t end = now_ms() + WAIT_S * 1000; open_with(who) != wanted;) {
		if (now_ms() > end)
			fail_msg("%d has %llu connections, not %llu", who,
				(unsigned long long)open_with(who), (unsigned long long)wanted);
		usleep(1000);
	}
}

static void wait_ends(atomic_uint *count, unsigned wanted)
{
	for (uint64_t end = now_ms() + WAIT_S * 1000; atomic_load(count) < wanted;) {
		if (now_ms() > end)
			fail_msg("%u ends, not %u", atomic_load(count), wanted);
		usleep(1000);
	}
}

/* ---- the world ---------------------------------------------------------------------------- */

static void member_invite(enum who issuer, enum who invitee, enum peer_role role)
{
	WCHAR *wide = wide_of(members[invitee].name);
	PWSTR xml = NULL, invitation = NULL;
	struct invitation_request request = {
		.identity = members[issuer].name, .group = group_name, .role = role};

	assert_result(PeerIdentityGetXML(wide, &xml), S_OK);
	request.identity_xml = xml;
	assert_result(invitation_create(&request, &invitation), S_OK);
	assert_result(membership_join(members[invitee].name, invitation, NULL, NULL, NULL), S_OK);
	PeerFreeData(xml);
	PeerFreeData(invitation);
	free(wide);
}

static void world_make(enum peer_role other_role)
{
	struct group_properties properties;

	for (unsigned i = 0; i < MEMBERS; i++)
		assert_result(identity_create("p", "Member", members[i].name), S_OK);
	group_properties_init(&properties);
	strcpy(properties.creator, members[CREATOR].name);
	assert_result(group_create(&properties), S_OK);
	strcpy(group_name, properties.group);
	member_invite(CREATOR, ISSUER, ROLE_INVITING_MEMBER);
	member_invite(ISSUER, BELOW, ROLE_MEMBER);
	member_invite(CREATOR, OTHER, other_role);
}

static void member_open(enum who who, const char *listen)
{
	PEER_GROUP_EVENT_REGISTRATION registrations[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL}};
	WCHAR *identity = wide_of(members[who].name), *group = wide_of(group_name);

	assert_result(PeerhubSetListen(listen), S_OK);
	assert_result(PeerGroupOpen(identity, group, NULL, &members[who].group), S_OK);
	free(identity);
	free(group);
	members[who].event = CreateEventW(NULL, FALSE, FALSE, NULL);
	assert_non_null(members[who].event);
	assert_result(PeerGroupRegisterEvent(members[who].group, members[who].event, 1,
			      registrations, &members[who].registration),
		S_OK);
}

static void world_start(void)
{
	struct ph_options options = {
		.size = sizeof(options), .shard_count = 2, .connections_per_shard = 24000};
	PEER_VERSION_DATA version;
	PEER_MEMBER **own;
	HPEERENUM list;
	ULONG count = 1;
	uint64_t tag;

	atomic_store(&ends_revoked, 0);
	atomic_store(&ends_refused, 0);
	atomic_store(&ends_other, 0);
	assert_result(PeerhubSetEngine(&options), S_OK);
	assert_result(PeerhubSetEndCallback(on_end, NULL), S_OK);
	assert_result(PeerGroupStartup(PEER_GROUP_VERSION, &version), S_OK);
	member_open(CREATOR, "[::1]:0");
	assert_result(PeerGroupConnect(members[CREATOR].group), S_OK);
	assert_result(PeerhubGroupNative(members[CREATOR].group, &hub, &tag), S_OK);
	assert_result(
		PeerGroupEnumMembers(members[CREATOR].group, PEER_MEMBER_PRESENT, NULL, &list),
		S_OK);
	assert_result(PeerGetNextItem(list, &count, (PVOID **)&own), S_OK);
	assert_int_equal(count, 1);
	creator_address = own[0]->pAddresses[0];
	PeerFreeData(own);
	PeerEndEnumeration(list);
	for (unsigned who = ISSUER; who <= OTHER; who++) {
		member_open((enum who)who, "127.0.0.1:0");
	}
}

static void world_stop(void)
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		assert_result(PeerGroupUnregisterEvent(members[i].registration), S_OK);
		assert_result(PeerGroupClose(members[i].group), S_OK);
		assert_int_equal(CloseHandle(members[i].event), TRUE);
	}
	assert_result(PeerGroupShutdown(), S_OK);
	assert_result(PeerhubSetEndCallback(NULL, NULL), S_OK);
	assert_int_equal(peer_chain_count(), 0);
}

static void member_connect(enum who who)
{
	HRESULT result = PeerGroupConnectByAddress(members[who].group, 1, &creator_address);

	if (result != PEER_S_ALREADY_CONNECTED)
		assert_result(result, S_OK);
}

/* Events are read so that none of the queues fills up. */
static void member_read(enum who who)
{
	PPEER_GROUP_EVENT_DATA event;

	while (PeerGroupGetEventData(members[who].registration, &event) == S_OK)
		PeerFreeData(event);
}

static void member_dial(enum who who, unsigned count)
{
	WCHAR *wide = wide_of(members[CREATOR].name);
	ULONGLONG id;

	for (unsigned i = 0; i < count; i++)
		assert_result(PeerGroupOpenDirectConnection(
				      members[who].group, wide, &creator_address, &id),
			S_OK);
	free(wide);
}

/* ---- cases -------------------------------------------------------------------------------- */

/* The issuer and all below go, with this reason; nobody else does; they are refused from then on, also after a
 * restart; and let in again when it is taken back. */
static void revoke_reaches_all_below_an_issuer(void **state)
{
	const char *wish = getenv("REVOKE_CONNECTIONS");
	unsigned count = wish != NULL ? (unsigned)atoi(wish) : 20, refused;
	uint64_t closed = 0, begin_ms;

	(void)state;
	world_make(ROLE_MEMBER);
	world_start();
	for (unsigned who = ISSUER; who <= OTHER; who++) {
		member_connect((enum who)who);
		wait_for((enum who)who, 1);
	}
	for (unsigned made = 0; made < count; made += 100) {
		unsigned more = count - made < 100 ? count - made : 100;

		member_dial(BELOW, more);
		wait_for(BELOW, 1 + made + more);
		member_read(BELOW);
		member_read(CREATOR);
	}
	member_dial(OTHER, 3);
	wait_for(OTHER, 4);
	wait_for(CREATOR, 1 + 1 + count + 4);
	/* Both ends of a connection are here: the creator's sees a revoked peer, and is the one that closes. */
	begin_ms = now_ms();
	assert_result(
		PeerhubRevoke(members[CREATOR].name, group_name, members[ISSUER].name, 0, &closed),
		S_OK);
	if (wish != NULL)
		printf("revoked: %llu connections, call %llu ms", (unsigned long long)closed,
			(unsigned long long)(now_ms() - begin_ms));
	assert_int_equal(closed, 1 + 1 + count);
	wait_for(ISSUER, 0);
	wait_for(BELOW, 0);
	if (wish != NULL)
		printf(", all closed %llu ms\n", (unsigned long long)(now_ms() - begin_ms));
	wait_ends(&ends_revoked, 2 + count);
	assert_int_equal(open_with(OTHER), 4);
	assert_int_equal(atomic_load(&ends_revoked), 2 + count);

	refused = atomic_load(&ends_refused);
	member_connect(BELOW);
	wait_ends(&ends_refused, refused + 1);
	assert_int_equal(open_with(BELOW), 0);
	/* The dialler refuses a revoked one as well: nobody talks to it. */
	world_stop();
	world_start();
	member_connect(BELOW);
	wait_ends(&ends_refused, 1);
	member_connect(OTHER);
	wait_for(OTHER, 1);
	assert_int_equal(open_with(BELOW), 0);
	assert_result(
		PeerhubUnrevoke(members[CREATOR].name, group_name, members[ISSUER].name), S_OK);
	member_connect(BELOW);
	wait_for(BELOW, 1);
	world_stop();
}

static atomic_bool is_dialling;

static void *dial_for_ever(void *context)
{
	WCHAR *wide = wide_of(members[CREATOR].name);
	ULONGLONG id;

	(void)context;
	while (atomic_load(&is_dialling)) {
		if (open_with(BELOW) < 12)
			(void)PeerGroupOpenDirectConnection(
				members[BELOW].group, wide, &creator_address, &id);
		member_read(BELOW);
		member_read(CREATOR);
		usleep(200);
	}
	free(wide);
	return NULL;
}

/* Handshakes are under way at every moment of the change, and none of them survives it: with nobody closing
 * anything else, the number of open connections comes to 0 and stays there until it is taken back. */
static void revoke_has_no_gap_for_handshakes(void **state)
{
	pthread_t thread;
	unsigned refused;

	(void)state;
	world_make(ROLE_MEMBER);
	world_start();
	member_connect(OTHER);
	wait_for(OTHER, 1);
	for (unsigned round = 0; round < 3; round++) {
		member_connect(BELOW);
		for (uint64_t end = now_ms() + WAIT_S * 1000; open_with(BELOW) == 0;) {
			assert_true(now_ms() < end);
			usleep(500);
		}
		if (round == 0) {
			atomic_store(&is_dialling, true);
			assert_int_equal(pthread_create(&thread, NULL, dial_for_ever, NULL), 0);
		}
		while (open_with(BELOW) < 3 + round)
			usleep(200);
		assert_result(PeerhubRevoke(members[CREATOR].name, group_name,
				      members[round & 1 ? BELOW : ISSUER].name, 0, NULL),
			S_OK);
		wait_for(BELOW, 0);
		refused = atomic_load(&ends_refused);
		wait_ends(&ends_refused, refused + 10);
		assert_int_equal(open_with(BELOW), 0);
		assert_result(PeerhubUnrevoke(members[CREATOR].name, group_name,
				      members[round & 1 ? BELOW : ISSUER].name),
			S_OK);
	}
	atomic_store(&is_dialling, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(open_with(OTHER), 1);
	world_stop();
}

struct seen {
	unsigned count, in_force;
	struct peerhub_revocation last;
};

static int see(void *context, const struct peerhub_revocation *revocation)
{
	struct seen *seen = context;

	seen->count++;
	seen->in_force += revocation->is_in_force != 0;
	seen->last = *revocation;
	return 0;
}

static struct seen revocations(void)
{
	struct seen seen = {0};

	assert_result(PeerhubRevocations(group_name, see, &seen), S_OK);
	return seen;
}

/* Who may, and what is no revocation. Nothing of all this changes anything. */
static void revoke_is_for_those_who_may(void **state)
{
	const char *creator = members[CREATOR].name;
	int64_t later = (int64_t)time(NULL) + 100000;

	(void)state;
	world_make(ROLE_MEMBER);
	assert_result(PeerhubRevoke(members[OTHER].name, group_name, members[BELOW].name, 0, NULL),
		PEER_E_NOT_AUTHORIZED);
	assert_result(PeerhubRevoke(members[ISSUER].name, group_name, members[BELOW].name, 0, NULL),
		PEER_E_NOT_AUTHORIZED);
	assert_result(PeerhubRevoke(creator, group_name, creator, 0, NULL), E_INVALIDARG);
	assert_result(PeerhubRevoke(creator, group_name, group_name, 0, NULL), E_INVALIDARG);
	assert_result(PeerhubRevoke(creator, group_name, "nobody", 0, NULL), E_INVALIDARG);
	assert_result(PeerhubRevoke(creator, group_name, NULL, 0, NULL), E_INVALIDARG);
	assert_result(
		PeerhubRevoke(creator, "nothing", members[OTHER].name, 0, NULL), E_INVALIDARG);
	assert_result(PeerhubRevoke(creator, members[OTHER].name, members[OTHER].name, 0, NULL),
		PEER_E_NOT_FOUND);
	assert_result(
		PeerhubRevoke(creator, group_name, members[OTHER].name, 1, NULL), E_INVALIDARG);
	assert_result(
		PeerhubRevoke(creator, group_name, members[OTHER].name, -1, NULL), E_INVALIDARG);
	assert_result(PeerhubUnrevoke(creator, group_name, members[OTHER].name), PEER_E_NOT_FOUND);
	assert_result(PeerhubRevocations("nothing", see, NULL), E_INVALIDARG);
	assert_result(PeerhubRevocations(group_name, NULL, NULL), E_INVALIDARG);
	assert_result(PeerhubRevocationsReload(NULL), E_INVALIDARG);
	assert_int_equal(revocations().count, 0);

	/* By its digits alone; twice is once, with the newer end; what is over is left out of the next list. */
	members[OTHER].name[PEER_AUTHORITY_CHARS] = '\0';
	assert_result(PeerhubRevoke(creator, group_name, members[OTHER].name, later, NULL), S_OK);
	assert_int_equal(revocations().last.until_s, later);
	assert_result(PeerhubRevoke(creator, group_name, members[OTHER].name, 0, NULL), S_OK);
	assert_int_equal(revocations().count, 1);
	assert_int_equal(revocations().in_force, 1);
	assert_int_equal(revocations().last.until_s, 0);
	assert_int_equal(revocations().last.sequence, 2);
	assert_int_equal(revocations().last.by_group, 1);
	assert_string_equal(revocations().last.revoked, members[OTHER].name);
	assert_result(PeerhubRevoke(creator, group_name, members[BELOW].name, 0, NULL), S_OK);
	assert_int_equal(revocations().count, 2);
	assert_result(PeerhubUnrevoke(creator, group_name, members[OTHER].name), S_OK);
	assert_result(PeerhubUnrevoke(creator, group_name, members[BELOW].name), S_OK);
	assert_int_equal(revocations().count, 0);
	assert_result(PeerhubRevocationsReload(group_name), S_OK);
	revocation_forget();
}

/* An administrator has a list of his own beside the group's; it ends to count when he is revoked himself. */
static void revoke_by_an_administrator(void **state)
{
	struct seen seen;

	(void)state;
	world_make(ROLE_ADMIN);
	assert_result(
		PeerhubRevoke(members[OTHER].name, group_name, members[BELOW].name, 0, NULL), S_OK);
	seen = revocations();
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.in_force, 1);
	assert_int_equal(seen.last.by_group, 0);
	assert_memory_equal(seen.last.signer, members[OTHER].name, PEER_AUTHORITY_CHARS);
	/* Each speaks for himself alone. */
	assert_result(PeerhubUnrevoke(members[CREATOR].name, group_name, members[BELOW].name),
		PEER_E_NOT_FOUND);
	assert_result(
		PeerhubRevoke(members[CREATOR].name, group_name, members[OTHER].name, 0, NULL),
		S_OK);
	seen = revocations();
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.in_force, 1);
	assert_result(
		PeerhubUnrevoke(members[CREATOR].name, group_name, members[OTHER].name), S_OK);
	assert_int_equal(revocations().in_force, 1);
	revocation_forget();
}

/* ---- the list on paper -------------------------------------------------------------------- */

struct paper {
	struct membership *membership;
	EVP_PKEY *key;
	char group_authority[PEER_AUTHORITY_BYTES];
	struct revocation_entry entries[3];
	struct revocation_draft draft;
	struct store_bytes bytes;
};

static void paper_make(struct paper *paper, enum who who)
{
	memset(paper, 0, sizeof(*paper));
	assert_result(membership_load(members[who].name, group_name, &paper->membership), S_OK);
	assert_int_equal(key_from_der(paper->membership->key.data, paper->membership->key.bytes,
				 &paper->key),
		0);
	assert_int_equal(peer_name_authority(group_name, paper->group_authority), 0);
	for (unsigned i = 0; i < 3; i++)
		paper->entries[i] = (struct revocation_entry){
			.authority = {(uint8_t)(i + 1)}, .since_s = 1000, .until_s = i * 1000};
	paper->draft = (struct revocation_draft){.sequence = 7,
		.time_s = (int64_t)time(NULL),
		.chain = paper->membership->chain,
		.chain_count = paper->membership->chain_count,
		.entries = paper->entries,
		.entry_count = 3};
}

static void paper_free(struct paper *paper)
{
	store_bytes_free(&paper->bytes);
	EVP_PKEY_free(paper->key);
	membership_free(paper->membership);
}

static int paper_read(struct paper *paper, struct revocation_list **list)
{
	store_bytes_free(&paper->bytes);
	assert_int_equal(revocation_list_sign(&paper->draft, paper->key, &paper->bytes), 0);
	return revocation_list_read(
		paper->bytes.data, paper->bytes.bytes, paper->group_authority, list);
}

/* What is signed by an administrator reads as it was written; any bit of it changed, and it is refused. */
static void revocation_list_is_its_signers(void **state)
{
	struct revocation_list *list = NULL;
	struct paper paper;

	(void)state;
	world_make(ROLE_ADMIN);
	paper_make(&paper, OTHER);
	assert_int_equal(paper_read(&paper, &list), 0);
	assert_int_equal(list->sequence, 7);
	assert_int_equal(list->entry_count, 3);
	assert_false(list->is_group);
	assert_non_null(revocation_list_find(list, paper.entries[0].authority, 5000));
	assert_non_null(revocation_list_find(list, paper.entries[1].authority, 999));
	assert_null(revocation_list_find(list, paper.entries[1].authority, 1000));
	assert_null(revocation_list_find(list, (const uint8_t[20]){9}, 1));
	assert_int_equal(revocation_list_sequence(paper.bytes.data, paper.bytes.bytes), 7);
	revocation_list_destroy(list);
	for (size_t at = 0; at < paper.bytes.bytes; at++) {
		paper.bytes.data[at] ^= 1u << at % 8;
		assert_int_equal(revocation_list_read(paper.bytes.data, paper.bytes.bytes,
					 paper.group_authority, &list),
			-EINVAL);
		paper.bytes.data[at] ^= 1u << at % 8;
	}
	for (size_t bytes = 0; bytes < paper.bytes.bytes; bytes++)
		assert_int_equal(
			revocation_list_read(paper.bytes.data, bytes, paper.group_authority, &list),
			-EINVAL);
	paper_free(&paper);
}

/* A member's word is nothing, nor is an administrator's against himself, in disorder, or before he was one. */
static void revocation_list_rules(void **state)
{
	struct revocation_list *list = NULL;
	struct revocation_entry first;
	struct paper paper;

	(void)state;
	world_make(ROLE_ADMIN);
	paper_make(&paper, ISSUER);
	assert_int_equal(paper_read(&paper, &list), -EINVAL);
	paper_free(&paper);
	paper_make(&paper, OTHER);
	first = paper.entries[0];
	paper.entries[0] = paper.entries[1];
	paper.entries[1] = first;
	assert_int_equal(paper_read(&paper, &list), -EINVAL);
	paper.entries[0] = paper.entries[1];
	assert_int_equal(paper_read(&paper, &list), -EINVAL);
	revocation_authority(
		paper.membership->trust.links[0].authority, paper.entries[0].authority);
	paper.draft.entry_count = 1;
	assert_int_equal(paper_read(&paper, &list), -EINVAL);
	paper.draft.entry_count = 0;
	assert_int_equal(paper_read(&paper, &list), 0);
	revocation_list_destroy(list);
	paper.draft.time_s = 1000;
	assert_int_equal(paper_read(&paper, &list), -EINVAL);
	paper.draft.time_s = (int64_t)time(NULL);
	paper.draft.sequence = 0;
	store_bytes_free(&paper.bytes);
	assert_int_equal(revocation_list_sign(&paper.draft, paper.key, &paper.bytes), -EINVAL);
	paper_free(&paper);
}

/* An older list never takes the place of a newer one. */
static void revocation_store_keeps_the_newest(void **state)
{
	struct store_bytes lists[2], one = {(uint8_t *)(uintptr_t) "one", 3},
				     two = {(uint8_t *)(uintptr_t) "two", 3};
	uint32_t count;

	(void)state;
	world_make(ROLE_MEMBER);
	assert_result(store_revocation_put(group_name, "a", 5, one), S_OK);
	assert_result(store_revocation_put(group_name, "a", 5, two), S_FALSE);
	assert_result(store_revocation_put(group_name, "a", 4, two), S_FALSE);
	assert_result(store_revocation_put(members[0].name, "a", 4, two), PEER_E_NOT_FOUND);
	assert_result(store_revocations_get(group_name, lists, 2, &count), S_OK);
	assert_int_equal(count, 1);
	assert_memory_equal(lists[0].data, "one", 3);
	store_bytes_free(&lists[0]);
	assert_result(store_revocation_put(group_name, "a", 6, two), S_OK);
	assert_result(store_revocation_put(group_name, "b", 1, one), S_OK);
	assert_result(store_revocations_get(group_name, lists, 1, &count), S_FALSE);
	assert_int_equal(count, 1);
	store_bytes_free(&lists[0]);
	/* And what is no list of the group's stops the group, rather than counting for nothing. */
	assert_result(revocation_load(group_name), PEER_E_CERT_STORE_CORRUPTED);
}

#define ADMINISTRATORS REVOCATION_SIGNERS_MAX

static uint32_t stored_count(void)
{
	struct store_bytes lists[2 * REVOCATION_SIGNERS_MAX];
	uint32_t count;

	assert_result(
		store_revocations_get(group_name, lists, 2 * REVOCATION_SIGNERS_MAX, &count), S_OK);
	for (uint32_t i = 0; i < count; i++)
		store_bytes_free(&lists[i]);
	return count;
}

/* However many administrators revoke: the group's own list has its place, what has none is not on disk either,
 * and a list that ends to count makes room. A store with more lists than places opens. */
static void revoke_of_more_signers_than_places(void **state)
{
	const char *creator = members[CREATOR].name, *below = members[BELOW].name;
	char names[ADMINISTRATORS][PH_NAME_BYTES_MAX];

	(void)state;
	world_make(ROLE_MEMBER);
	for (unsigned i = 0; i < ADMINISTRATORS; i++) {
		assert_result(identity_create("a", "Administrator", names[i]), S_OK);
		strcpy(members[OTHER].name, names[i]);
		member_invite(CREATOR, OTHER, ROLE_ADMIN);
		assert_result(PeerhubRevoke(names[i], group_name, below, 0, NULL),
			i < ADMINISTRATORS - 1 ? S_OK : E_OUTOFMEMORY);
	}
	assert_int_equal(stored_count(), ADMINISTRATORS - 1);
	assert_result(PeerhubRevoke(creator, group_name, names[0], 0, NULL), S_OK);
	assert_int_equal(stored_count(), ADMINISTRATORS);
	assert_result(PeerhubRevoke(names[0], group_name, below, 0, NULL), PEER_E_NOT_AUTHORIZED);
	assert_result(PeerhubRevoke(names[ADMINISTRATORS - 1], group_name, below, 0, NULL), S_OK);
	assert_int_equal(stored_count(), ADMINISTRATORS + 1);
	for (unsigned restart = 0; restart < 2; restart++) {
		assert_int_equal(revocations().count, ADMINISTRATORS);
		assert_int_equal(revocations().in_force, ADMINISTRATORS);
		revocation_forget();
		assert_true(SUCCEEDED(revocation_load(group_name)));
	}
	assert_result(PeerhubUnrevoke(creator, group_name, names[0]), S_OK);
	revocation_forget();
	/* All count now, and are one more than there are places. */
	assert_result(revocation_load(group_name), S_FALSE);
	assert_int_equal(revocations().count, ADMINISTRATORS - 1);
	assert_result(PeerhubRevoke(creator, group_name, names[0], 0, NULL), S_OK);
	revocation_forget();
}

/* A list that came counts, whatever the store says: another process has written it, or the disk fails. */
static void revocation_receive_when_the_store_is_not_ours(void **state)
{
	char signer[PEER_AUTHORITY_BYTES];
	uint32_t unkept = revocation_unkept_count();
	struct revocation_list *list = NULL;
	struct paper paper;
	uint64_t epoch;

	(void)state;
	world_make(ROLE_ADMIN);
	paper_make(&paper, OTHER);
	for (unsigned again = 0; again < 2; again++) {
		assert_int_equal(paper_read(&paper, &list), 0);
		revocation_authority_text(list->links[0], signer);
		assert_result(
			store_revocation_put(group_name, signer, list->sequence, list->signed_form),
			again ? S_FALSE : S_OK);
		epoch = revocation_epoch();
		revocation_receive(group_name, list, 0);
		assert_int_equal(revocation_epoch(), epoch + 1 - again);
	}
	assert_int_equal(revocation_unkept_count(), unkept);
	/* The store takes nothing for a group that it does not know. */
	paper.draft.sequence++;
	assert_int_equal(paper_read(&paper, &list), 0);
	epoch = revocation_epoch();
	revocation_receive(members[CREATOR].name, list, 0);
	assert_int_equal(revocation_epoch(), epoch + 1);
	assert_int_equal(revocation_unkept_count(), unkept + 1);
	paper_free(&paper);
	revocation_forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		home_test(revocation_list_is_its_signers),
		home_test(revocation_list_rules),
		home_test(revocation_store_keeps_the_newest),
		home_test(revoke_is_for_those_who_may),
		home_test(revoke_by_an_administrator),
		home_test(revoke_of_more_signers_than_places),
		home_test(revocation_receive_when_the_store_is_not_ours),
		home_test(revoke_reaches_all_below_an_issuer),
		home_test(revoke_has_no_gap_for_handshakes),
	};

	alarm(280);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
