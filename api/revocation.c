/*
 * Revocation: the lists in force, changes to them, and what members tell each other. See revocation.h.
 *
 * Locks, in this order: changes.lock (one change of this process at a time, held over disk and walk), the table
 * of nodes, a node, sets.lock (held for a look). A shard takes only the last two, so it waits for no disk.
 */
#include "api/revocation.h"

#include "api/check.h"
#include "api/detail.h"
#include "api/identity.h"
#include "api/persist.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUCKETS 256u
#define WORKS_MAX \
	64u /* lists that wait to be verified: 8 MiB at most; those beyond come again later */
#define STORED_MAX \
	(4u * REVOCATION_SIGNERS_MAX) /* lists that are read from the store for the places of a group */
#define FORGET_MAX \
	32u /* newly revoked keys that are looked for one by one; beyond, all is forgotten */
#define ATTEMPTS_MAX \
	8u /* another process may write the same list between our reading and writing */

enum message {
	MESSAGE_HAVE = 1, /* u8 kind, u8 count, each: 20-byte signer, u64 sequence */
	MESSAGE_WANT = 2, /* u8 kind, 20-byte signer */
	MESSAGE_LIST = 3, /* u8 kind, the signed list */
};
#define HAVE_ENTRY_BYTES (REVOCATION_AUTHORITY_BYTES + 8u)
#define HAVE_BYTES_MAX (2u + REVOCATION_SIGNERS_MAX * HAVE_ENTRY_BYTES)
#define WANT_BYTES (1u + REVOCATION_AUTHORITY_BYTES)

/* {7A1C53BE-90D2-4D0F-A63E-1B58C407E962}; direct.c keeps it from applications. */
const uint8_t revocation_type[16] = {0x7a, 0x1c, 0x53, 0xbe, 0x90, 0xd2, 0x4d, 0x0f, 0xa6, 0x3e,
	0x1b, 0x58, 0xc4, 0x07, 0xe9, 0x62};

/* The lists of one group. */
struct set {
	struct set *next;
	char group_authority[PEER_AUTHORITY_BYTES];
	uint32_t list_count;
	struct revocation_list *lists[REVOCATION_SIGNERS_MAX];
};

static struct {
	pthread_rwlock_t lock; /* guards the rest; shards read, at each handshake */
	atomic_uint_fast64_t
		epoch; /* written under the lock held exclusively, after the change it counts */
	struct set *buckets[BUCKETS];
} sets = {.lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP};

static struct {
	pthread_mutex_t lock;
	atomic_uint work_count;
	atomic_uint unkept_count; /* received lists in force that the store did not take */
} changes = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the lists in force; sets.lock is held ---------------------------------------------- */

static struct set **set_bucket(const char *group_authority)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *group_authority != '\0'; group_authority++)
		hash = (hash ^ (uint8_t)*group_authority) * 16777619u;
	return &sets.buckets[hash % BUCKETS];
}

static struct set *set_find(const char *group_authority)
{
	struct set *set = *set_bucket(group_authority);

	while (set != NULL && strcmp(set->group_authority, group_authority) != 0)
		set = set->next;
	return set;
}

static struct revocation_list **set_list(struct set *set, const uint8_t *signer)
{
	for (uint32_t index = 0; set != NULL && index < set->list_count; index++)
		if (memcmp(set->lists[index]->links[0], signer, REVOCATION_AUTHORITY_BYTES) == 0)
			return &set->lists[index];
	return NULL;
}

static const struct revocation_list *set_group_list(const struct set *set)
{
	for (uint32_t index = 0; index < set->list_count; index++)
		if (set->lists[index]->is_group)
			return set->lists[index];
	return NULL;
}

/* The group's own list always counts; an administrator's while that one names nobody of his chain. */
static bool list_counts(const struct set *set, const struct revocation_list *list, int64_t now_s)
{
	const struct revocation_list *above = set_group_list(set);

	for (uint32_t index = 0; !list->is_group && above != NULL && index < list->link_count;
		index++)
		if (revocation_list_find(above, list->links[index], now_s) != NULL)
			return false;
	return true;
}

static bool set_names(const struct set *set, const uint8_t *authority, int64_t now_s)
{
	for (uint32_t index = 0; index < set->list_count; index++)
		if (revocation_list_find(set->lists[index], authority, now_s) != NULL &&
			list_counts(set, set->lists[index], now_s))
			return true;
	return false;
}

/* ---- asking ------------------------------------------------------------------------------ */

uint64_t revocation_epoch(void)
{
	return atomic_load(&sets.epoch);
}

bool revocation_refuses(const struct trust_result *trust, char why[PH_TEXT_BYTES_MAX])
{
	const char *group_authority = trust->links[trust->link_count - 1].authority;
	int64_t now_s = (int64_t)time(NULL);
	bool is_revoked = false;
	const struct set *set;

	pthread_rwlock_rdlock(&sets.lock);
	set = set_find(group_authority);
	/* The root is the group itself: whoever holds its key is believed. */
	for (uint32_t index = 0; set != NULL && index + 1 < trust->link_count && !is_revoked;
		index++) {
		uint8_t authority[REVOCATION_AUTHORITY_BYTES];

		revocation_authority(trust->links[index].authority, authority);
		is_revoked = set_names(set, authority, now_s);
	}
	pthread_rwlock_unlock(&sets.lock);
	if (is_revoked)
		(void)!snprintf(why, PH_TEXT_BYTES_MAX, "%s", REVOCATION_WORDS);
	return is_revoked;
}

bool revocation_reaches(const char *group_authority, struct peer_chain *chain)
{
	uint64_t verdict = atomic_load(&chain->verdict), epoch = revocation_epoch();
	int64_t now_s;
	bool is_revoked = false;
	const struct set *set;

	if (verdict >> 1 == epoch)
		return (verdict & 1) != 0;
	now_s = (int64_t)time(NULL);
	pthread_rwlock_rdlock(&sets.lock);
	epoch = revocation_epoch();
	set = set_find(group_authority);
	for (uint32_t index = 0; set != NULL && index + 1 < chain->link_count && !is_revoked;
		index++)
		is_revoked = set_names(set, chain->links[index].authority, now_s);
	pthread_rwlock_unlock(&sets.lock);
	/* Two that come to different epochs at once: the older memo only makes somebody ask again. */
	atomic_store(&chain->verdict, epoch << 1 | is_revoked);
	return is_revoked;
}

/* ---- putting in force -------------------------------------------------------------------- */

static struct set *set_make(const char *group_authority)
{
	struct set *set = set_find(group_authority), **bucket = set_bucket(group_authority);

	if (set != NULL)
		return set;
	set = calloc(1, sizeof(*set));
	if (set == NULL)
		return NULL;
	strcpy(set->group_authority, group_authority);
	set->next = *bucket;
	*bucket = set;
	return set;
}

/* Room for one more signer; the group's own list finds it always. */
static bool set_has_room(const struct set *set, const struct revocation_list *list)
{
	uint32_t room = REVOCATION_SIGNERS_MAX - set->list_count;

	return list->is_group || set_group_list(set) != NULL ? room > 0 : room > 1;
}

/* Where a list goes: its signer's place, a free one, or that of a list which does not count. NULL: nowhere. */
static struct revocation_list **set_place(struct set *set, const struct revocation_list *list)
{
	struct revocation_list **place = set_list(set, list->links[0]);
	int64_t now_s = (int64_t)time(NULL);

	if (place != NULL)
		return place;
	if (set_has_room(set, list))
		return &set->lists[set->list_count];
	for (uint32_t index = 0; index < set->list_count && list_counts(set, list, now_s); index++)
		if (!list_counts(set, set->lists[index], now_s))
			return &set->lists[index];
	return NULL;
}

static HRESULT fail_full(void)
{
	return detail_fail(E_OUTOFMEMORY, "%u administrators of the group revoke already",
		REVOCATION_SIGNERS_MAX);
}

/* Before a list is written: is it one to have, and is there a place? changes.lock is held, so it stays.
 * S_OK, PEER_E_NOT_AUTHORIZED (the group has revoked its signer), E_OUTOFMEMORY. */
static HRESULT set_admit(const char *group_authority, const struct revocation_list *list)
{
	HRESULT result = S_OK;
	struct set *set;

	pthread_rwlock_wrlock(&sets.lock);
	set = set_make(group_authority);
	if (set == NULL)
		result = E_OUTOFMEMORY;
	else if (!list_counts(set, list, (int64_t)time(NULL)))
		result = detail_fail(PEER_E_NOT_AUTHORIZED,
			"the group has revoked who signed the list, or who vouches for him");
	else if (set_place(set, list) == NULL)
		result = fail_full();
	pthread_rwlock_unlock(&sets.lock);
	return result;
}

static bool is_same_signer(const struct revocation_list *one, const struct revocation_list *other)
{
	return memcmp(one->links[0], other->links[0], REVOCATION_AUTHORITY_BYTES) == 0;
}

/*
 * Publish a list. Takes it over when it is newer than what is there; *before is what it replaced (NULL:
 * nothing; perhaps another signer's that does not count), which nobody looks at any more.
 * S_OK, S_FALSE (not newer), E_OUTOFMEMORY.
 */
static HRESULT set_put(
	const char *group_authority, struct revocation_list *list, struct revocation_list **before)
{
	struct revocation_list **place = NULL;
	HRESULT result = S_OK;
	struct set *set;

	*before = NULL;
	pthread_rwlock_wrlock(&sets.lock);
	set = set_make(group_authority);
	if (set != NULL)
		place = set_place(set, list);
	if (set == NULL)
		result = E_OUTOFMEMORY;
	else if (place == NULL)
		result = fail_full();
	else if (place == &set->lists[set->list_count])
		set->list_count++;
	else if (is_same_signer(*place, list) && (*place)->sequence >= list->sequence)
		result = S_FALSE;
	else
		*before = *place;
	if (result == S_OK) {
		*place = list;
		atomic_fetch_add(&sets.epoch, 1);
	}
	pthread_rwlock_unlock(&sets.lock);
	return result;
}

/* ---- what a change reaches --------------------------------------------------------------- */

static void forget_one(struct ph_hub *hub, const char *group, const struct revocation_entry *entry)
{
	struct ph_resume_filter filter = {
		.group = group, .authority = entry != NULL ? entry->authority : NULL};
	char authority[PEER_AUTHORITY_BYTES];

	if (entry != NULL)
		revocation_authority_text(entry->authority, authority);
	if (runtime_trust_cache() != NULL)
		trust_cache_forget(runtime_trust_cache(), entry != NULL ? authority : NULL);
	(void)ph_resume_drop(hub, &filter);
}

/* Chains that were found good, and secrets for resuming with them, of whom the list names and the one before
 * it did not. It is in force: nothing of this comes back. */
static void forget(
	const char *group, const struct revocation_list *list, const struct revocation_list *before)
{
	const struct revocation_entry *fresh[FORGET_MAX];
	struct ph_hub *hub = runtime_hub_get();
	uint32_t count = 0;

	if (hub == NULL)
		return;
	for (uint32_t index = 0; index < list->entry_count && count <= FORGET_MAX; index++) {
		const struct revocation_entry *entry = &list->entries[index], *known = NULL;

		if (before != NULL)
			known = revocation_list_find(before, entry->authority, entry->since_s);
		if (known != NULL && known->until_s == entry->until_s)
			continue;
		if (count < FORGET_MAX)
			fresh[count] = entry;
		count++;
	}
	if (count > FORGET_MAX)
		forget_one(hub, group, NULL);
	for (uint32_t index = 0; count <= FORGET_MAX && index < count; index++)
		forget_one(hub, group, fresh[index]);
	runtime_hub_put();
}

/* What accepted connections and open ones have been since before they were listed; the rest is on_open's. */
static bool is_judged(const struct connection *connection)
{
	return connection->state == CONNECTION_OPEN ||
		(connection->state == CONNECTION_OPENING && connection->is_accepted);
}

struct walk {
	const char *group_authority;
	uint64_t closed;
	uint64_t source; /* who brought the news knows it */
};

static void node_close_revoked(struct node *node, void *context)
{
	struct walk *walk = context;

	pthread_rwlock_rdlock(&node->lock);
	for (struct connection *at = node->connections; at != NULL; at = at->next)
		if (is_judged(at) && atomic_load(&at->has_id) &&
			revocation_reaches(walk->group_authority, at->credential->chain) &&
			ph_close(at->id, node->tag, PH_ABORT, PH_REASON_LOCAL_REVOKED,
				REVOCATION_WORDS) == 0)
			walk->closed++;
	pthread_rwlock_unlock(&node->lock);
}

/* ---- telling members --------------------------------------------------------------------- */

static void put_number(uint8_t *at, uint64_t value)
{
	for (uint32_t index = 0; index < 8; index++)
		at[index] = (uint8_t)(value >> 8 * (7 - index));
}

static uint64_t get_number(const uint8_t *at)
{
	uint64_t value = 0;

	for (uint32_t index = 0; index < 8; index++)
		value = value << 8 | at[index];
	return value;
}

/* 0: there is nothing to tell. */
static size_t have_write(const char *group_authority, uint8_t message[HAVE_BYTES_MAX])
{
	const struct set *set;
	uint32_t count = 0;

	pthread_rwlock_rdlock(&sets.lock);
	set = set_find(group_authority);
	for (; set != NULL && count < set->list_count; count++) {
		uint8_t *at = message + 2 + count * HAVE_ENTRY_BYTES;

		memcpy(at, set->lists[count]->links[0], REVOCATION_AUTHORITY_BYTES);
		put_number(at + REVOCATION_AUTHORITY_BYTES, set->lists[count]->sequence);
	}
	pthread_rwlock_unlock(&sets.lock);
	message[0] = MESSAGE_HAVE;
	message[1] = (uint8_t)count;
	return count > 0 ? 2u + count * HAVE_ENTRY_BYTES : 0;
}

/* A queue that is full gets it once it has room; without memory the next change or connection tells. */
static void message_send(struct connection *connection, const struct ph_part *parts, uint32_t count)
{
	if (ph_send(connection->id, connection->node->tag, revocation_type, parts, count) ==
		-EAGAIN)
		atomic_store(&connection->revocation_owed, true);
}

static void send_have(struct connection *connection, const uint8_t *message, size_t bytes)
{
	const struct ph_part part = {.data = message, .bytes = bytes};

	atomic_store(&connection->revocation_answers, REVOCATION_SIGNERS_MAX);
	message_send(connection, &part, 1);
}

static void node_announce(struct node *node, void *context)
{
	const struct walk *walk = context;
	uint8_t message[HAVE_BYTES_MAX];
	size_t bytes = have_write(walk->group_authority, message);

	pthread_rwlock_rdlock(&node->lock);
	for (struct connection *at = node->connections; bytes > 0 && at != NULL; at = at->next)
		if (at->state == CONNECTION_OPEN && at->id != walk->source)
			send_have(at, message, bytes);
	pthread_rwlock_unlock(&node->lock);
}

void revocation_on_open(struct connection *connection)
{
	uint8_t message[HAVE_BYTES_MAX];
	size_t bytes = have_write(connection->node->group_authority, message);

	if (bytes > 0)
		send_have(connection, message, bytes);
}

void revocation_on_writable(struct connection *connection)
{
	if (atomic_exchange(&connection->revocation_owed, false))
		revocation_on_open(connection);
}

/* ---- changes; changes.lock is held ------------------------------------------------------- */

/* In force from here, and all that follows from it. Takes the list over. S_OK, S_FALSE (not newer). */
static HRESULT list_apply(
	const char *group, struct revocation_list *list, uint64_t source, uint64_t *closed)
{
	char group_authority[PEER_AUTHORITY_BYTES];
	struct walk walk = {.group_authority = group_authority, .source = source};
	struct revocation_list *before;
	HRESULT result;

	if (peer_name_authority(group, group_authority) < 0) {
		revocation_list_destroy(list);
		return E_INVALIDARG;
	}
	result = set_put(group_authority, list, &before);
	if (result != S_OK) {
		revocation_list_destroy(list);
		return result;
	}
	node_each(group_authority, node_close_revoked, &walk);
	forget(group, list, before != NULL && is_same_signer(before, list) ? before : NULL);
	node_each(group_authority, node_announce, &walk);
	revocation_list_destroy(before);
	if (closed != NULL)
		*closed = walk.closed;
	return S_OK;
}

/* Is there a place for it? Then to disk. S_OK, S_FALSE (not newer than what is there), set_admit's codes, the
 * store's. */
static HRESULT list_store(const char *group, const struct revocation_list *list)
{
	char group_authority[PEER_AUTHORITY_BYTES], signer[PEER_AUTHORITY_BYTES];
	HRESULT result;

	if (peer_name_authority(group, group_authority) < 0)
		return E_INVALIDARG;
	/* First: what is on disk and finds no place in memory would be in the way for ever. */
	result = set_admit(group_authority, list);
	if (FAILED(result))
		return result;
	revocation_authority_text(list->links[0], signer);
	return store_revocation_put(group, signer, list->sequence, list->signed_form);
}

/* Our own: to disk, then in force. Takes the list over. S_OK, S_FALSE (not newer), list_store's codes. */
static HRESULT list_keep(const char *group, struct revocation_list *list, uint64_t *closed)
{
	HRESULT result = list_store(group, list);

	if (result == S_OK)
		return list_apply(group, list, 0, closed);
	revocation_list_destroy(list);
	return result;
}

/* One list of the store. S_OK, S_FALSE (left out: no place), PEER_E_CERT_STORE_CORRUPTED, E_OUTOFMEMORY. */
static HRESULT list_load(
	const char *group, const char *group_authority, const struct store_bytes *stored)
{
	struct revocation_list *list = NULL;
	int status = revocation_list_read(stored->data, stored->bytes, group_authority, &list);
	bool has_place;
	struct set *set;

	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return detail_fail(PEER_E_CERT_STORE_CORRUPTED,
			"store: a list of revocations of %.160s is not its signer's", group);
	pthread_rwlock_wrlock(&sets.lock);
	set = set_make(group_authority);
	has_place = set != NULL && set_place(set, list) != NULL;
	pthread_rwlock_unlock(&sets.lock);
	if (set == NULL || !has_place) {
		revocation_list_destroy(list);
		return set == NULL ? E_OUTOFMEMORY : S_FALSE;
	}
	return FAILED(list_apply(group, list, 0, NULL)) ? E_OUTOFMEMORY : S_OK;
}

/*
 * Another process of this store may have changed what we have. The group's own list comes first. Lists without
 * a place stop nobody: whoever makes administrators could otherwise stop the group.
 * S_OK, S_FALSE (some were left out: the detail says so), list_load's codes, the store's.
 */
static HRESULT lists_load(const char *group)
{
	struct store_bytes stored[STORED_MAX];
	char group_authority[PEER_AUTHORITY_BYTES];
	uint32_t count = 0;
	bool is_whole;
	HRESULT result;

	if (peer_name_authority(group, group_authority) < 0)
		return E_INVALIDARG;
	result = store_revocations_get(group, stored, STORED_MAX, &count);
	is_whole = result == S_OK;
	for (uint32_t index = 0; index < count; index++) {
		if (SUCCEEDED(result))
			result = list_load(group, group_authority, &stored[index]);
		is_whole = is_whole && result == S_OK;
		store_bytes_free(&stored[index]);
	}
	if (FAILED(result))
		return result;
	return is_whole ? S_OK
			: detail_fail(S_FALSE,
				  "the store has lists of revocations of more than %u signers of "
				  "%.160s: some do not count",
				  REVOCATION_SIGNERS_MAX, group);
}

HRESULT revocation_load(const char *group)
{
	HRESULT result;

	pthread_mutex_lock(&changes.lock);
	result = lists_load(group);
	pthread_mutex_unlock(&changes.lock);
	return result;
}

void revocation_forget(void)
{
	pthread_mutex_lock(&changes.lock); /* a client may be at work on a list */
	pthread_rwlock_wrlock(&sets.lock);
	for (uint32_t bucket = 0; bucket < BUCKETS; bucket++) {
		struct set *set;

		while ((set = sets.buckets[bucket]) != NULL) {
			sets.buckets[bucket] = set->next;
			while (set->list_count > 0)
				revocation_list_destroy(set->lists[--set->list_count]);
			free(set);
		}
	}
	atomic_fetch_add(&sets.epoch, 1);
	pthread_rwlock_unlock(&sets.lock);
	pthread_mutex_unlock(&changes.lock);
}

/* ---- what members tell us ---------------------------------------------------------------- */

/* A list that came, on its way to persist.c's thread. */
struct arrival {
	struct persist_work work;
	char group[PH_NAME_BYTES_MAX];
	uint64_t id, tag; /* who brought it */
	size_t bytes;
	uint8_t list[];
};

static uint64_t sequence_of(const char *group_authority, const uint8_t *signer)
{
	struct revocation_list **place;
	uint64_t sequence = 0;

	pthread_rwlock_rdlock(&sets.lock);
	place = set_list(set_find(group_authority), signer);
	if (place != NULL)
		sequence = (*place)->sequence;
	pthread_rwlock_unlock(&sets.lock);
	return sequence;
}

/* What the disk says does not decide: when another process of this store wrote it first, this one has yet to take
 * it over; when it fails, who is revoked goes all the same. */
static void list_receive(const char *group, struct revocation_list *list, uint64_t source)
{
	HRESULT result = list_store(group, list);

	if (result == PEER_E_NOT_AUTHORIZED) {
		revocation_list_destroy(list);
		return;
	}
	if (result == S_FALSE)
		(void)lists_load(group);
	if (list_apply(group, list, source, NULL) == S_OK && FAILED(result))
		atomic_fetch_add(&changes.unkept_count, 1);
}

void revocation_receive(const char *group, struct revocation_list *list, uint64_t source)
{
	char group_authority[PEER_AUTHORITY_BYTES];

	pthread_mutex_lock(&changes.lock);
	if (peer_name_authority(group, group_authority) == 0 &&
		sequence_of(group_authority, list->links[0]) < list->sequence)
		list_receive(group, list, source);
	else
		revocation_list_destroy(list);
	pthread_mutex_unlock(&changes.lock);
}

uint32_t revocation_unkept_count(void)
{
	return atomic_load(&changes.unkept_count);
}

static void arrival_run(struct persist_work *work)
{
	struct arrival *arrival = (struct arrival *)(void *)work;
	char group_authority[PEER_AUTHORITY_BYTES];
	struct revocation_list *list = NULL;
	int status = peer_name_authority(arrival->group, group_authority);

	if (status == 0)
		status =
			revocation_list_read(arrival->list, arrival->bytes, group_authority, &list);
	/* Whoever has a list has verified it: this one passes on what he knows to be wrong. */
	if (status == -EINVAL)
		(void)ph_close(arrival->id, arrival->tag, PH_GRACEFUL, PH_REASON_PROTOCOL_VERIFY,
			"a list of revocations that is not its signer's");
	if (list != NULL)
		revocation_receive(arrival->group, list, arrival->id);
	free(arrival);
	atomic_fetch_sub(&changes.work_count, 1);
}

static void on_have(struct connection *connection, const uint8_t *data)
{
	for (uint32_t index = 0; index < data[1]; index++) {
		const uint8_t *entry = data + 2 + index * HAVE_ENTRY_BYTES;
		uint8_t want[WANT_BYTES] = {MESSAGE_WANT};
		const struct ph_part part = {.data = want, .bytes = sizeof(want)};

		if (get_number(entry + REVOCATION_AUTHORITY_BYTES) <=
			sequence_of(connection->node->group_authority, entry))
			continue;
		memcpy(want + 1, entry, REVOCATION_AUTHORITY_BYTES);
		atomic_store(&connection->revocation_wants, REVOCATION_SIGNERS_MAX);
		message_send(connection, &part, 1);
	}
}

static bool count_down(atomic_uint *count)
{
	unsigned present = atomic_load(count);

	while (present > 0)
		if (atomic_compare_exchange_weak(count, &present, present - 1))
			return true;
	return false;
}

static void on_want(struct connection *connection, const uint8_t *data)
{
	static const uint8_t kind = MESSAGE_LIST;
	struct ph_part parts[2] = {{.data = &kind, .bytes = 1}, {.data = NULL, .bytes = 0}};
	struct revocation_list **place;

	if (!count_down(&connection->revocation_answers))
		return;
	/* Copied inside: the list stays while the lock is held. */
	pthread_rwlock_rdlock(&sets.lock);
	place = set_list(set_find(connection->node->group_authority), data + 1);
	if (place != NULL) {
		parts[1].data = (*place)->signed_form.data;
		parts[1].bytes = (*place)->signed_form.bytes;
		message_send(connection, parts, 2);
	}
	pthread_rwlock_unlock(&sets.lock);
}

static void on_list(struct connection *connection, const uint8_t *data, size_t bytes)
{
	struct arrival *arrival;

	if (!count_down(&connection->revocation_wants))
		return; /* nobody asked */
	if (atomic_fetch_add(&changes.work_count, 1) >= WORKS_MAX) {
		atomic_fetch_sub(&changes.work_count, 1);
		return;
	}
	arrival = malloc(sizeof(*arrival) + bytes);
	if (arrival != NULL) {
		arrival->work.run = arrival_run;
		strcpy(arrival->group, connection->node->membership->group);
		arrival->id = connection->id;
		arrival->tag = connection->node->tag;
		arrival->bytes = bytes;
		memcpy(arrival->list, data, bytes);
	}
	if (arrival == NULL || !persist_post_work(&arrival->work)) {
		free(arrival);
		atomic_fetch_sub(&changes.work_count, 1);
	}
}

void revocation_on_message(struct connection *connection, const uint8_t *data, size_t bytes)
{
	if (bytes >= 2 && data[0] == MESSAGE_HAVE && data[1] <= REVOCATION_SIGNERS_MAX &&
		bytes == 2u + data[1] * HAVE_ENTRY_BYTES)
		on_have(connection, data);
	else if (bytes == WANT_BYTES && data[0] == MESSAGE_WANT)
		on_want(connection, data);
	else if (bytes > 1 && bytes <= REVOCATION_MESSAGE_BYTES_MAX && data[0] == MESSAGE_LIST)
		on_list(connection, data + 1, bytes - 1);
	else
		(void)ph_close(connection->id, connection->node->tag, PH_ABORT,
			PH_REASON_PROTOCOL_MESSAGE, "malformed message about revocations");
}

/* ---- what a client asks ------------------------------------------------------------------ */

/* Who signs: his key, and the chain that proves him. */
struct signer {
	struct membership *membership;
	EVP_PKEY *key;
	const struct ph_bytes *chain;
	uint32_t chain_count;
	uint8_t authority[REVOCATION_AUTHORITY_BYTES];
};

static void signer_fini(struct signer *signer)
{
	EVP_PKEY_free(signer->key);
	membership_free(signer->membership);
}

static HRESULT signer_key(struct signer *signer, const struct store_bytes *der)
{
	int status = key_from_der(der->data, der->bytes, &signer->key);

	return status == 0 ? S_OK : status == -ENOMEM ? E_OUTOFMEMORY : PEER_E_NO_KEY_ACCESS;
}

/* The creator signs with the group's key, an administrator with his own. */
static HRESULT signer_init(struct signer *signer, const char *identity, const char *group)
{
	HRESULT result = membership_load(identity, group, &signer->membership);
	const struct membership *membership = signer->membership;
	struct store_bytes der;

	if (FAILED(result))
		return result;
	signer->chain = membership->chain;
	signer->chain_count = membership->chain_count;
	if (membership->is_creator) {
		signer->chain += membership->chain_count - 1;
		signer->chain_count = 1;
		result = store_group_key(membership->identity, membership->group, &der);
		if (FAILED(result))
			return result;
		result = signer_key(signer, &der);
		store_bytes_free(&der);
	} else if (membership->trust.role >= ROLE_ADMIN) {
		der = (struct store_bytes){
			(uint8_t *)(uintptr_t)membership->key.data, membership->key.bytes};
		result = signer_key(signer, &der);
	} else {
		return detail_fail(PEER_E_NOT_AUTHORIZED,
			"only the creator of a group and its administrators revoke; %.100s is neither",
			membership->identity);
	}
	revocation_authority(
		membership->trust
			.links[membership->is_creator ? membership->trust.link_count - 1 : 0]
			.authority,
		signer->authority);
	return result;
}

/* A peer name, or its authority alone. */
static HRESULT target_read(const char *name, char authority[PEER_AUTHORITY_BYTES])
{
	if (name != NULL && peer_authority_is_valid(name)) {
		memcpy(authority, name, PEER_AUTHORITY_BYTES);
		return S_OK;
	}
	if (name != NULL && peer_name_is_secure(name) && peer_name_authority(name, authority) == 0)
		return S_OK;
	return detail_fail(E_INVALIDARG,
		"%.200s is neither a secure peer name nor the 40 digits of an authority",
		name != NULL ? name : "NULL");
}

struct change {
	uint8_t authority[REVOCATION_AUTHORITY_BYTES];
	bool is_revocation; /* else its end */
	int64_t until_s;
};

/* The entries of the next list, for free(): those that are still in force, with the change. */
static HRESULT change_entries(const struct revocation_list *present, const struct change *change,
	struct revocation_entry **entries, uint32_t *count)
{
	int64_t now_s = identity_now_s();
	uint32_t present_count = present != NULL ? present->entry_count : 0;
	bool was_there = false, is_placed = !change->is_revocation;
	struct revocation_entry fresh = {.since_s = now_s, .until_s = change->until_s};

	memcpy(fresh.authority, change->authority, sizeof(fresh.authority));
	*count = 0;
	*entries = calloc(present_count + 1, sizeof(**entries));
	if (*entries == NULL)
		return E_OUTOFMEMORY;
	for (uint32_t index = 0; index < present_count; index++) {
		const struct revocation_entry *entry = &present->entries[index];
		int order = memcmp(entry->authority, change->authority, sizeof(entry->authority));

		if (entry->until_s != 0 && entry->until_s <= now_s)
			continue;
		if (order >= 0 && !is_placed) {
			(*entries)[(*count)++] = fresh;
			is_placed = true;
		}
		was_there |= order == 0;
		if (order != 0)
			(*entries)[(*count)++] = *entry;
	}
	if (!is_placed)
		(*entries)[(*count)++] = fresh;
	if (*count > REVOCATION_ENTRIES_MAX)
		return detail_fail(E_OUTOFMEMORY, "a list of revocations holds %u names",
			REVOCATION_ENTRIES_MAX);
	if (!change->is_revocation && !was_there)
		return detail_fail(PEER_E_NOT_FOUND, "this signer has not revoked it");
	return S_OK;
}

/* The next list of this signer, verified as every list is. */
static HRESULT change_list(const struct signer *signer, const struct revocation_list *present,
	const struct change *change, struct revocation_list **list)
{
	struct revocation_draft draft = {.sequence = present != NULL ? present->sequence + 1 : 1,
		.time_s = identity_now_s(),
		.chain = signer->chain,
		.chain_count = signer->chain_count};
	struct revocation_entry *entries = NULL;
	char group_authority[PEER_AUTHORITY_BYTES];
	struct store_bytes signed_form = {0};
	HRESULT result = change_entries(present, change, &entries, &draft.entry_count);
	int status = 0;

	draft.entries = entries;
	if (SUCCEEDED(result)) {
		status = revocation_list_sign(&draft, signer->key, &signed_form);
		if (status == 0)
			status = peer_name_authority(signer->membership->group, group_authority);
		if (status == 0)
			status = revocation_list_read(
				signed_form.data, signed_form.bytes, group_authority, list);
		store_bytes_free(&signed_form);
	}
	free(entries);
	if (status == -ENOMEM)
		return E_OUTOFMEMORY;
	if (status < 0)
		return detail_fail(PEER_E_NOT_AUTHORIZED,
			"the membership of %.100s is expired, or nothing can be signed with it",
			signer->membership->identity);
	return result;
}

/* What this signer has said so far; the lists are as the store has them. changes.lock is held, so it stays. */
static const struct revocation_list *present_list(const struct signer *signer)
{
	char group_authority[PEER_AUTHORITY_BYTES];
	struct revocation_list **place;

	if (peer_name_authority(signer->membership->group, group_authority) < 0)
		return NULL;
	pthread_rwlock_rdlock(&sets.lock);
	place = set_list(set_find(group_authority), signer->authority);
	pthread_rwlock_unlock(&sets.lock);
	return place != NULL ? *place : NULL;
}

static HRESULT change_run(
	const struct signer *signer, const struct change *change, uint64_t *closed)
{
	const char *group = signer->membership->group;
	HRESULT result = S_FALSE;

	pthread_mutex_lock(&changes.lock);
	for (uint32_t attempt = 0; attempt < ATTEMPTS_MAX && result == S_FALSE; attempt++) {
		struct revocation_list *list = NULL;

		result = lists_load(group);
		if (SUCCEEDED(result))
			result = change_list(signer, present_list(signer), change, &list);
		if (SUCCEEDED(result))
			result = list_keep(group, list, closed);
	}
	pthread_mutex_unlock(&changes.lock);
	return result == S_FALSE ? HRESULT_FROM_WIN32(ERROR_BUSY) : result;
}

/* Nobody saws off the branch he sits on. */
static HRESULT change_check(const struct signer *signer, const char *authority)
{
	const struct trust_result *trust = &signer->membership->trust;

	for (uint32_t index = 0; index < trust->link_count; index++)
		if (strcmp(trust->links[index].authority, authority) == 0)
			return detail_fail(E_INVALIDARG,
				"that is this identity itself, or who vouches for it");
	return S_OK;
}

static HRESULT change_make(const char *identity, const char *group, const char *target,
	struct change *change, uint64_t *closed)
{
	char authority[PEER_AUTHORITY_BYTES];
	struct signer signer = {0};
	HRESULT result = target_read(target, authority);

	if (FAILED(result))
		return result;
	revocation_authority(authority, change->authority);
	result = signer_init(&signer, identity, group);
	if (SUCCEEDED(result))
		result = change_check(&signer, authority);
	if (SUCCEEDED(result))
		result = change_run(&signer, change, closed);
	signer_fini(&signer);
	return result;
}

HRESULT PeerhubRevoke(const char *identity, const char *group, const char *revoked, int64_t until_s,
	uint64_t *closed)
{
	struct change change = {.is_revocation = true, .until_s = until_s};
	uint64_t count = 0;
	HRESULT result;

	detail_clear();
	if (closed != NULL)
		*closed = 0;
	if (until_s < 0 || until_s > INT64_MAX / 4 || (until_s != 0 && until_s <= identity_now_s()))
		return detail_fail(E_INVALIDARG, "the end of the revocation is not in the future");
	result = change_make(identity, group, revoked, &change, &count);
	if (closed != NULL)
		*closed = count;
	return result;
}

HRESULT PeerhubUnrevoke(const char *identity, const char *group, const char *revoked)
{
	struct change change = {.is_revocation = false};

	detail_clear();
	return change_make(identity, group, revoked, &change, NULL);
}

HRESULT PeerhubRevocationsReload(const char *group)
{
	detail_clear();
	if (group == NULL || !peer_name_is_secure(group))
		return detail_fail(E_INVALIDARG, "the group's name is not a secure peer name");
	return revocation_load(group);
}

/* A copy of all entries, so that no lock is held while the client looks. */
static HRESULT revocations_copy(
	const char *group_authority, struct peerhub_revocation **copy, uint32_t *count)
{
	int64_t now_s = (int64_t)time(NULL);
	const struct set *set;
	size_t room = 0;

	*count = 0;
	pthread_rwlock_rdlock(&sets.lock);
	set = set_find(group_authority);
	for (uint32_t index = 0; set != NULL && index < set->list_count; index++)
		room += set->lists[index]->entry_count;
	*copy = calloc(room + 1, sizeof(**copy));
	for (uint32_t index = 0; *copy != NULL && set != NULL && index < set->list_count; index++) {
		const struct revocation_list *list = set->lists[index];

		for (uint32_t at = 0; at < list->entry_count; at++) {
			const struct revocation_entry *entry = &list->entries[at];
			struct peerhub_revocation *to = &(*copy)[(*count)++];

			revocation_authority_text(entry->authority, to->revoked);
			revocation_authority_text(list->links[0], to->signer);
			to->sequence = list->sequence;
			to->since_s = entry->since_s;
			to->until_s = entry->until_s;
			to->by_group = list->is_group;
			to->is_in_force = (entry->until_s == 0 || now_s < entry->until_s) &&
				list_counts(set, list, now_s);
		}
	}
	pthread_rwlock_unlock(&sets.lock);
	return *copy != NULL ? S_OK : E_OUTOFMEMORY;
}

HRESULT PeerhubRevocations(const char *group,
	int (*visit)(void *context, const struct peerhub_revocation *revocation), void *context)
{
	char group_authority[PEER_AUTHORITY_BYTES];
	struct peerhub_revocation *copy = NULL;
	uint32_t count = 0;
	HRESULT result;

	detail_clear();
	if (group == NULL || visit == NULL || !peer_name_is_secure(group) ||
		peer_name_authority(group, group_authority) < 0)
		return detail_fail(E_INVALIDARG,
			"the group's name is not a secure peer name, or visit is NULL");
	result = revocation_load(group);
	if (SUCCEEDED(result))
		result = revocations_copy(group_authority, &copy, &count);
	for (uint32_t index = 0; SUCCEEDED(result) && index < count; index++)
		if (visit(context, &copy[index]) != 0)
			break;
	free(copy);
	return result;
}
