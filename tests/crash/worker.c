/*
 * A worker: random operations on a store through p2p.h alone; see worker.h. It keeps nothing in memory
 * from one operation to the next but an exported identity: what it chooses from is what the store lists,
 * so a worker can go on where a killed one has stopped.
 */
#include "tests/crash/worker.h"

#include "api/text.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "stress/random.h"
#include "tests/crash/points.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDENTITIES_MAX 4u /* of one worker */
#define GROUPS_MAX 2u /* of one identity, created or joined, before some go again */
#define GROUPS_LISTED_MAX 16u
#define LIST_MAX 64u

static const WCHAR *const classifiers[] = {u"w0", u"w1"};
static const char *const suffixes[] = {".w0", ".w1"};

struct group_entry {
	char name[PH_NAME_BYTES_MAX];
};
struct identity_entry {
	char name[PH_NAME_BYTES_MAX];
	char text[RECORD_TEXT_BYTES];
	uint32_t group_count;
	struct group_entry groups[GROUPS_LISTED_MAX];
};

struct worker {
	const struct worker_options *options;
	struct random random;
	uint32_t count; /* of what the store lists, ours only */
	struct identity_entry identities[IDENTITIES_MAX * 2];
	uint32_t drawn; /* texts so far */
	struct record last; /* the intent reported last; phase 0: it is done, or there was none */
	bool is_stopped; /* by a disk that was made to fail */
};

/* ---- failures and reports ------------------------------------------------------------------ */

/* What a disk that is full, or broken, is reported as. */
static bool is_disk_trouble(HRESULT result)
{
	return points_have_failed() &&
		(result == PEER_E_DISK_FULL || result == HRESULT_FROM_WIN32(ERROR_IO_DEVICE));
}

static int failed(struct worker *worker, const char *what, HRESULT result)
{
	if (is_disk_trouble(result)) {
		worker->is_stopped = true;
		return 1;
	}
	fprintf(stderr, "crash: worker %u: %s: %s: %s\n", worker->options->index, what,
		PeerhubResultName(result), PeerhubLastErrorText());
	return 1;
}

static int report(struct worker *worker, struct record *record, enum record_phase phase)
{
	record->phase = phase;
	if (phase == RECORD_INTENT)
		worker->last = *record;
	else
		worker->last.phase = 0;
	if (write(worker->options->report_fd, record, sizeof(*record)) == (ssize_t)sizeof(*record))
		return 0;
	fprintf(stderr, "crash: worker %u: no parent to report to\n", worker->options->index);
	return 1;
}

/* What does not fit was not written by a worker. */
static void copy(char *to, size_t bytes, const char *from)
{
	if (strlen(from) >= bytes)
		abort();
	memcpy(to, from, strlen(from) + 1);
}

/* A text that no other operation of any worker has: which worker, which life, which operation. */
static void draw_text(struct worker *worker, struct record *record)
{
	snprintf(record->text, sizeof(record->text), "t%u.%llx.%u", worker->options->index,
		(unsigned long long)worker->options->seed, worker->drawn++);
}

/* UTF-8 of our own making to a block for free(). Ends the process when there is no memory. */
static WCHAR *wide(const char *utf8)
{
	WCHAR *text;

	if (text_wide_dup(utf8, &text) < 0)
		abort();
	return text;
}

/* ---- what the store lists ------------------------------------------------------------------ */

static bool list_take(HPEERENUM enumeration, PEER_NAME_PAIR ***pairs, ULONG *count)
{
	HRESULT result;

	*count = LIST_MAX;
	result = PeerGetNextItem(enumeration, count, (PVOID **)pairs);
	(void)PeerEndEnumeration(enumeration);
	return SUCCEEDED(result);
}

static HRESULT list_groups(struct identity_entry *entry, const WCHAR *identity)
{
	PEER_NAME_PAIR **pairs = NULL;
	HPEERENUM groups;
	ULONG count;
	HRESULT result = PeerEnumGroups(identity, &groups);

	if (FAILED(result))
		return result;
	if (!list_take(groups, &pairs, &count))
		return E_FAIL;
	for (ULONG i = 0; i < count && i < GROUPS_LISTED_MAX; i++) {
		struct group_entry *group = &entry->groups[entry->group_count];

		if (text_utf8_copy(pairs[i]->pwzPeerName, group->name, sizeof(group->name)) < 0)
			continue;
		entry->group_count++;
	}
	PeerFreeData(pairs);
	return S_OK;
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t text_bytes = strlen(text), bytes = strlen(suffix);

	return text_bytes >= bytes && strcmp(text + text_bytes - bytes, suffix) == 0;
}

static HRESULT list(struct worker *worker)
{
	PEER_NAME_PAIR **pairs = NULL;
	HPEERENUM identities;
	ULONG count;
	HRESULT result = PeerEnumIdentities(&identities);

	worker->count = 0;
	if (FAILED(result))
		return result;
	if (!list_take(identities, &pairs, &count))
		return E_FAIL;
	for (ULONG i = 0; i < count && worker->count < IDENTITIES_MAX * 2; i++) {
		struct identity_entry *entry = &worker->identities[worker->count];
		char text[RECORD_TEXT_BYTES * 4];

		entry->group_count = 0;
		if (text_utf8_copy(pairs[i]->pwzPeerName, entry->name, sizeof(entry->name)) < 0 ||
			text_utf8_copy(pairs[i]->pwzFriendlyName, text, sizeof(text)) < 0 ||
			!ends_with(entry->name, suffixes[worker->options->index]))
			continue;
		copy(entry->text, sizeof(entry->text), text);
		result = list_groups(entry, pairs[i]->pwzPeerName);
		if (FAILED(result))
			break;
		worker->count++;
	}
	PeerFreeData(pairs);
	return result;
}

/* ---- identities ---------------------------------------------------------------------------- */

static int do_create(struct worker *worker)
{
	struct record record = {.operation = OPERATION_IDENTITY_CREATE};
	WCHAR *text;
	PWSTR name;
	HRESULT result;

	draw_text(worker, &record);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	text = wide(record.text);
	result = PeerIdentityCreate(classifiers[worker->options->index], text, 0, &name);
	free(text);
	if (FAILED(result))
		return failed(worker, "PeerIdentityCreate", result);
	if (text_utf8_copy(name, record.identity, sizeof(record.identity)) < 0)
		return 1;
	PeerFreeData(name);
	return report(worker, &record, RECORD_DONE);
}

static int delete_identity(struct worker *worker, const char *name, const WCHAR *identity)
{
	struct record record = {.operation = OPERATION_IDENTITY_DELETE};
	HRESULT result;

	copy(record.identity, sizeof(record.identity), name);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerIdentityDelete(identity);
	if (FAILED(result))
		return failed(worker, "PeerIdentityDelete", result);
	return report(worker, &record, RECORD_DONE);
}

static int import_identity(
	struct worker *worker, const struct identity_entry *entry, const WCHAR *xml)
{
	struct record record = {.operation = OPERATION_IDENTITY_IMPORT};
	PWSTR name;
	HRESULT result;

	copy(record.identity, sizeof(record.identity), entry->name);
	copy(record.text, sizeof(record.text), entry->text);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerIdentityImport(xml, u"a word", &name);
	if (FAILED(result))
		return failed(worker, "PeerIdentityImport", result);
	PeerFreeData(name);
	return report(worker, &record, RECORD_DONE);
}

/* Gone, or gone and back from its export. */
static int do_delete(struct worker *worker, const struct identity_entry *entry, bool comes_back)
{
	WCHAR *identity = wide(entry->name);
	PWSTR xml = NULL;
	int status = 0;

	if (comes_back) {
		HRESULT result = PeerIdentityExport(identity, u"a word", &xml);

		if (FAILED(result))
			status = failed(worker, "PeerIdentityExport", result);
	}
	if (status == 0)
		status = delete_identity(worker, entry->name, identity);
	if (status == 0 && comes_back)
		status = import_identity(worker, entry, xml);
	PeerFreeData(xml);
	free(identity);
	return status;
}

static int do_rename(struct worker *worker, const struct identity_entry *entry)
{
	struct record record = {.operation = OPERATION_IDENTITY_RENAME};
	WCHAR *identity = wide(entry->name), *text;
	HRESULT result;

	copy(record.identity, sizeof(record.identity), entry->name);
	draw_text(worker, &record);
	text = wide(record.text);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerIdentitySetFriendlyName(identity, text);
	free(text);
	free(identity);
	if (FAILED(result))
		return failed(worker, "PeerIdentitySetFriendlyName", result);
	return report(worker, &record, RECORD_DONE);
}

/* ---- groups -------------------------------------------------------------------------------- */

static int group_name(HGROUP group, char name[PH_NAME_BYTES_MAX])
{
	PEER_GROUP_PROPERTIES *properties;
	int status;

	if (FAILED(PeerGroupGetProperties(group, &properties)))
		return 1;
	status = text_utf8_copy(properties->pwzGroupPeerName, name, PH_NAME_BYTES_MAX);
	PeerFreeData(properties);
	return status < 0;
}

static int do_group_create(struct worker *worker, const struct identity_entry *entry)
{
	struct record record = {.operation = OPERATION_GROUP_CREATE};
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties)};
	WCHAR *identity = wide(entry->name), *text;
	HRESULT result;
	HGROUP group;

	copy(record.identity, sizeof(record.identity), entry->name);
	draw_text(worker, &record);
	text = wide(record.text);
	properties.pwzCreatorPeerName = identity;
	properties.pwzFriendlyName = text;
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerGroupCreate(&properties, &group);
	free(text);
	free(identity);
	if (FAILED(result))
		return failed(worker, "PeerGroupCreate", result);
	if (group_name(group, record.group) != 0)
		return failed(worker, "PeerGroupGetProperties", E_FAIL);
	if (report(worker, &record, RECORD_DONE) != 0)
		return 1;
	(void)PeerGroupClose(group);
	return 0;
}

static int do_group_delete(
	struct worker *worker, const struct identity_entry *entry, const struct group_entry *group)
{
	struct record record = {.operation = OPERATION_GROUP_DELETE};
	WCHAR *identity = wide(entry->name), *name = wide(group->name);
	HRESULT result;

	copy(record.identity, sizeof(record.identity), entry->name);
	copy(record.group, sizeof(record.group), group->name);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerGroupDelete(identity, name);
	free(identity);
	free(name);
	if (FAILED(result))
		return failed(worker, "PeerGroupDelete", result);
	return report(worker, &record, RECORD_DONE);
}

static HRESULT open_group(
	const struct identity_entry *entry, const struct group_entry *group, HGROUP *handle)
{
	WCHAR *identity = wide(entry->name), *name = wide(group->name);
	HRESULT result = PeerGroupOpen(identity, name, NULL, handle);

	free(identity);
	free(name);
	return result;
}

static int set_properties(struct worker *worker, HGROUP handle, const struct group_entry *group)
{
	struct record record = {.operation = OPERATION_PROPERTIES_SET};
	PEER_GROUP_PROPERTIES *properties;
	HRESULT result = PeerGroupGetProperties(handle, &properties);
	WCHAR *text;

	if (FAILED(result))
		return failed(worker, "PeerGroupGetProperties", result);
	copy(record.group, sizeof(record.group), group->name);
	draw_text(worker, &record);
	text = wide(record.text);
	properties->pwzFriendlyName = text;
	properties->pwzComment = text;
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerGroupSetProperties(handle, properties);
	PeerFreeData(properties);
	free(text);
	if (FAILED(result))
		return failed(worker, "PeerGroupSetProperties", result);
	return report(worker, &record, RECORD_DONE);
}

static int do_properties(
	struct worker *worker, const struct identity_entry *entry, const struct group_entry *group)
{
	HGROUP handle;
	HRESULT result = open_group(entry, group, &handle);
	int status;

	if (FAILED(result))
		return failed(worker, "PeerGroupOpen", result);
	status = set_properties(worker, handle, group);
	(void)PeerGroupClose(handle);
	return status;
}

/* ---- invitations --------------------------------------------------------------------------- */

/* An invitation for `guest`, from what is known of it or from its own text. */
static int invite(struct worker *worker, HGROUP handle, const struct group_entry *group,
	const struct identity_entry *guest, PWSTR *invitation)
{
	const GUID role = random_below(&worker->random, 2) == 0 ? PEER_GROUP_ROLE_MEMBER
								: PEER_GROUP_ROLE_ADMIN;
	struct record record = {.operation = OPERATION_INVITE};
	PEER_INVITATION_INFO *info;
	WCHAR *name = wide(guest->name);
	PWSTR xml;
	HRESULT result;

	copy(record.identity, sizeof(record.identity), guest->name);
	copy(record.group, sizeof(record.group), group->name);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = random_below(&worker->random, 3) == 0
		? PeerGroupIssueCredentials(handle, name, NULL, 0, invitation)
		: PEER_E_IDENTITY_NOT_FOUND;
	if (result == PEER_E_IDENTITY_NOT_FOUND) {
		result = PeerIdentityGetXML(name, &xml);
		if (SUCCEEDED(result)) {
			result = PeerGroupCreateInvitation(handle, xml, NULL, 1, &role, invitation);
			PeerFreeData(xml);
		}
	}
	free(name);
	if (FAILED(result))
		return failed(worker, "PeerGroupCreateInvitation", result);
	if (report(worker, &record, RECORD_DONE) != 0)
		return 1;
	result = PeerGroupParseInvitation(*invitation, &info);
	if (FAILED(result))
		return failed(worker, "PeerGroupParseInvitation", result);
	PeerFreeData(info);
	return 0;
}

static int join(struct worker *worker, const struct group_entry *group,
	const struct identity_entry *guest, PCWSTR invitation)
{
	struct record record = {.operation = OPERATION_JOIN};
	WCHAR *identity = wide(guest->name);
	HRESULT result;
	HGROUP handle;

	copy(record.identity, sizeof(record.identity), guest->name);
	copy(record.group, sizeof(record.group), group->name);
	if (report(worker, &record, RECORD_INTENT) != 0)
		return 1;
	result = PeerGroupJoin(identity, invitation, NULL, &handle);
	free(identity);
	if (FAILED(result))
		return failed(worker, "PeerGroupJoin", result);
	if (report(worker, &record, RECORD_DONE) != 0)
		return 1;
	(void)PeerGroupClose(handle);
	return 0;
}

static bool is_member(const struct identity_entry *entry, const char *group)
{
	for (uint32_t i = 0; i < entry->group_count; i++)
		if (strcmp(entry->groups[i].name, group) == 0)
			return true;
	return false;
}

/* Invite another identity of ours; one that is no member yet joins. */
static int do_invite(struct worker *worker, const struct identity_entry *entry,
	const struct group_entry *group, const struct identity_entry *guest)
{
	PWSTR invitation = NULL;
	HGROUP handle;
	HRESULT result = open_group(entry, group, &handle);
	int status;

	if (FAILED(result))
		return failed(worker, "PeerGroupOpen", result);
	status = invite(worker, handle, group, guest, &invitation);
	(void)PeerGroupClose(handle);
	if (status == 0 && !is_member(guest, group->name))
		status = join(worker, group, guest, invitation);
	PeerFreeData(invitation);
	return status;
}

/* ---- choosing ------------------------------------------------------------------------------ */

static const struct identity_entry *any_identity(struct worker *worker)
{
	return &worker->identities[random_below(&worker->random, worker->count)];
}

static const struct group_entry *any_group(
	struct worker *worker, const struct identity_entry *entry)
{
	return entry->group_count == 0
		? NULL
		: &entry->groups[random_below(&worker->random, entry->group_count)];
}

static bool is_creator(const struct identity_entry *entry, const struct group_entry *group)
{
	PEER_GROUP_PROPERTIES *properties;
	WCHAR *identity;
	bool is = false;
	HGROUP handle;

	if (FAILED(open_group(entry, group, &handle)))
		return false;
	/* Who joined and was never connected has none. */
	if (SUCCEEDED(PeerGroupGetProperties(handle, &properties))) {
		identity = wide(entry->name);
		is = text_is_equal(properties->pwzCreatorPeerName, identity);
		free(identity);
		PeerFreeData(properties);
	}
	(void)PeerGroupClose(handle);
	return is;
}

static int step(struct worker *worker)
{
	const struct identity_entry *entry, *guest;
	const struct group_entry *group;
	HRESULT result = list(worker);
	uint32_t dice = random_below(&worker->random, 100);

	if (FAILED(result))
		return failed(worker, "listing", result);
	if (worker->count < 2 || (dice < 15 && worker->count < IDENTITIES_MAX))
		return do_create(worker);
	entry = any_identity(worker);
	guest = any_identity(worker);
	group = any_group(worker, entry);
	if (dice < 30 && entry->group_count == 0)
		return do_delete(worker, entry, dice < 22);
	if (dice < 18)
		return do_rename(worker, entry);
	if (group == NULL || (dice < 45 && entry->group_count < GROUPS_MAX))
		return do_group_create(worker, entry);
	if (dice < 58 || entry->group_count >= GROUPS_MAX)
		return do_group_delete(worker, entry, group);
	if (!is_creator(entry, group))
		return do_rename(worker, entry);
	if (dice < 70 || guest == entry)
		return do_properties(worker, entry, group);
	return do_invite(worker, entry, group, guest);
}

/*
 * The disk has failed a call. What is there can still be read, unless the disk is too full for the index
 * that SQLite keeps beside the log, which is said in the same way; with room again, work goes on.
 */
static int after_trouble(struct worker *worker)
{
	struct record record = worker->last;
	HRESULT result;

	worker->is_stopped = false;
	if (record.phase != 0 && report(worker, &record, RECORD_FAILED) != 0)
		return 1;
	result = list(worker);
	if (FAILED(result) && !is_disk_trouble(result))
		return failed(worker, "listing after trouble with the disk", result);
	points_arm(0, POINTS_BEFORE);
	result = list(worker);
	if (FAILED(result))
		return failed(worker, "listing when there is room again", result);
	return worker->count > IDENTITIES_MAX ? do_rename(worker, any_identity(worker))
					      : do_create(worker);
}

int worker_run(const struct worker_options *options)
{
	static struct worker worker;
	PEER_VERSION_DATA version;
	int status = 0;
	HRESULT result;

	worker.options = options;
	random_init(&worker.random, options->seed, options->index);
	if (FAILED(PeerhubSetHome(options->home)))
		return 1;
	result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (FAILED(result))
		return failed(&worker, "PeerGroupStartup", result);
	points_arm(options->die_at, (enum points_when)options->die_when);
	for (uint32_t i = 0; i < options->operations && status == 0; i++)
		status = step(&worker);
	if (worker.is_stopped)
		status = after_trouble(&worker);
	points_arm(0, POINTS_BEFORE);
	result = PeerGroupShutdown();
	return status != 0 || FAILED(result);
}
