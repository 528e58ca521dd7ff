/*
 * members.c: two hash tables over one set of entries. See members.h.
 */
#include "members.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "check.h"
#include "names.h"
#include "say.h"
#include "text.h"

#define BUCKETS_FIRST 64u

static uint64_t hash_bytes(const struct members *members, const void *data, size_t bytes)
{
	const uint8_t *at = data;
	uint64_t hash = members->seed ^ 14695981039346656037u;

	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ at[i]) * 1099511628211u;
	return hash ^ hash >> 29;
}

static struct member **connection_bucket(const struct members *members, uint64_t connection)
{
	uint64_t hash = hash_bytes(members, &connection, sizeof(connection));

	return &members->by_connection[hash & (members->bucket_count - 1)];
}

static struct member **identity_bucket(
	const struct members *members, const char *name, size_t bytes)
{
	return &members->by_identity[hash_bytes(members, name, bytes) &
		(members->bucket_count - 1)];
}

int members_init(struct members *members, HGROUP group)
{
	*members = (struct members){.group = group};
	if (getrandom(&members->seed, sizeof(members->seed), 0) != sizeof(members->seed))
		return -EIO;
	return 0;
}

static void link_identity(struct members *members, struct member *member)
{
	struct member **bucket =
		identity_bucket(members, member->identity, strlen(member->identity));

	member->next_by_identity = *bucket;
	*bucket = member;
}

static void link_connection(struct members *members, struct member *member)
{
	struct member **bucket = connection_bucket(members, member->connection);

	member->next_by_connection = *bucket;
	*bucket = member;
}

static void free_member(struct member *member)
{
	free(member->identity);
	free(member->user);
	free(member);
}

void members_fini(struct members *members)
{
	struct member *member, *next;

	for (size_t i = 0; i < members->bucket_count; i++)
		for (member = members->by_connection[i]; member != NULL; member = next) {
			next = member->next_by_connection;
			free_member(member);
		}
	free(members->by_connection);
	free(members->by_identity);
	*members = (struct members){0};
}

/* Twice the buckets; without memory the chains just stay longer. */
static void grow(struct members *members)
{
	struct members old = *members;
	struct member *member, *next;

	members->bucket_count = old.bucket_count == 0 ? BUCKETS_FIRST : old.bucket_count * 2;
	members->by_connection = calloc(members->bucket_count, sizeof(struct member *));
	members->by_identity = calloc(members->bucket_count, sizeof(struct member *));
	if (members->by_connection == NULL || members->by_identity == NULL) {
		free(members->by_connection);
		free(members->by_identity);
		*members = old;
		return;
	}
	for (size_t i = 0; i < old.bucket_count; i++)
		for (member = old.by_connection[i]; member != NULL; member = next) {
			next = member->next_by_connection;
			link_connection(members, member);
			if (member->identity != NULL)
				link_identity(members, member);
		}
	free(old.by_connection);
	free(old.by_identity);
}

static struct member *find(struct members *members, uint64_t connection)
{
	struct member *member;

	if (members->bucket_count == 0)
		return NULL;
	for (member = *connection_bucket(members, connection); member != NULL;
		member = member->next_by_connection)
		if (member->connection == connection)
			return member;
	return NULL;
}

int members_add(struct members *members, uint64_t connection)
{
	struct member *member;

	if (find(members, connection) != NULL)
		return 0;
	if (members->count >= members->bucket_count)
		grow(members);
	member = calloc(1, sizeof(*member));
	if (member == NULL || members->bucket_count == 0) {
		free(member);
		return -ENOMEM;
	}
	member->connection = connection;
	member->sequence = ++members->sequence;
	link_connection(members, member);
	members->count++;
	members->unknown_count++;
	return 0;
}

void members_remove(struct members *members, uint64_t connection)
{
	struct member *member = find(members, connection), **link;

	if (member == NULL)
		return;
	for (link = connection_bucket(members, connection); *link != member;)
		link = &(*link)->next_by_connection;
	*link = member->next_by_connection;
	if (member->identity != NULL) {
		link = identity_bucket(members, member->identity, strlen(member->identity));
		while (*link != member)
			link = &(*link)->next_by_identity;
		*link = member->next_by_identity;
	}
	if (!member->looked_up)
		members->unknown_count--;
	members->count--;
	free_member(member);
}

/*
 * Learn the identities of all connections that are not known yet. A connection whose CONNECTED we
 * have read but which is not listed has ended: its DISCONNECTED is on its way, so it stays unknown
 * and is not looked up again.
 */
static void look_up(struct members *members)
{
	struct names_list list = {0};
	HPEERENUM enumeration;
	HRESULT result;

	if (members->unknown_count == 0)
		return;
	result = PeerGroupEnumConnections(members->group, PEER_CONNECTION_DIRECT, &enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the connections");
		return;
	}
	for (ULONG i = 0; i < list.count; i++) {
		const PEER_CONNECTION_INFO *info = list.items[i];
		struct member *member = find(members, info->ullConnectionId);

		if (member == NULL || member->identity != NULL || info->pwzPeerId == NULL)
			continue;
		member->identity = text_from_utf16(info->pwzPeerId);
		if (member->identity != NULL)
			link_identity(members, member);
	}
	PeerFreeData(list.items);
	for (size_t i = 0; i < members->bucket_count; i++)
		for (struct member *member = members->by_connection[i]; member != NULL;
			member = member->next_by_connection)
			member->looked_up = true;
	members->unknown_count = 0;
}

struct member *members_at(struct members *members, uint64_t connection)
{
	struct member *member = find(members, connection);

	if (member != NULL && !member->looked_up)
		look_up(members);
	return member != NULL && member->identity != NULL ? member : NULL;
}

static bool is_named(const struct member *member, const char *name, size_t bytes)
{
	return strlen(member->identity) == bytes && memcmp(member->identity, name, bytes) == 0;
}

struct member *members_named(struct members *members, const char *name, size_t name_bytes)
{
	struct member *newest = NULL, *member;

	look_up(members);
	if (members->bucket_count == 0)
		return NULL;
	for (member = *identity_bucket(members, name, name_bytes); member != NULL;
		member = member->next_by_identity)
		if (is_named(member, name, name_bytes) &&
			(newest == NULL || member->sequence > newest->sequence))
			newest = member;
	return newest;
}

void members_each(struct members *members, bool newest_only,
	void (*visit)(struct member *member, void *context), void *context)
{
	struct member *member;

	look_up(members);
	for (size_t i = 0; i < members->bucket_count; i++)
		for (member = members->by_identity[i]; member != NULL;
			member = member->next_by_identity) {
			assert(member->identity != NULL);
			if (!newest_only ||
				members_named(members, member->identity,
					strlen(member->identity)) == member)
				visit(member, context);
		}
}
