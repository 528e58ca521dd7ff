/*
 * Nth-failure loops of p2p.h, the store and ph_hub_start on the kernel: every allocation of our code, of
 * OpenSSL, SQLite and expat fails, once and from there on. See nth.c for the engine alone.
 *
 * Kinds named after a pool fail on the calling thread, so that a place is the same one in each run; those
 * with -all fail on every thread, shards included, where the n-th drifts a little. The store is a copy
 * of one made beforehand: alice, who founded a group, and bob, its member; both in this process.
 *
 *   nth-api --scenario join --kind ours --point 12 --once
 */
#include "p2p.h"
#include "peerhub/extras.h"
#include "stress/scratch.h"
#include "tests/nth/inject.h"
#include "tests/nth/runner.h"

#include "api/block.h"
#include "api/handle.h"
#include "api/store.h"

#include <dirent.h>
#include <errno.h>
#include <expat.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME_UNITS 200u
#define TEXT_UNITS 65536u
#define EVENT_LIMIT_MS 20000u /* only a lost event reaches it */
#define SETTLE_MS 60000u

/* ---- pools --------------------------------------------------------------------------------------- */

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void __wrap_free(void *block);
void *__wrap_memory_map(size_t bytes);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
XML_Parser __wrap_XML_ParserCreate(const XML_Char *encoding);
void __real_free(void *block);
void *__real_memory_map(size_t bytes);
int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);

void *__wrap_malloc(size_t bytes)
{
	return inject_alloc(POOL_OURS, bytes, false);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return inject_alloc(POOL_OURS, count * bytes, true); /* small by construction */
}

void *__wrap_realloc(void *block, size_t bytes)
{
	return inject_realloc(POOL_OURS, block, bytes);
}

void __wrap_free(void *block)
{
	if (!inject_free(block))
		__real_free(block);
}

void *__wrap_memory_map(size_t bytes)
{
	return inject_refuses(POOL_OURS) ? NULL : __real_memory_map(bytes);
}

int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context)
{
	return inject_refuses(POOL_OURS) ? EAGAIN
					 : __real_pthread_create(thread, attributes, run, context);
}

static void *expat_malloc(size_t bytes)
{
	return inject_alloc(POOL_EXPAT, bytes, false);
}

static void *expat_realloc(void *block, size_t bytes)
{
	return inject_realloc(POOL_EXPAT, block, bytes);
}

static void expat_free(void *block)
{
	(void)inject_free(block);
}

XML_Parser __wrap_XML_ParserCreate(const XML_Char *encoding)
{
	static const XML_Memory_Handling_Suite suite = {expat_malloc, expat_realloc, expat_free};

	return XML_ParserCreate_MM(encoding, &suite, NULL);
}

static void *sqlite_malloc(int bytes)
{
	return inject_alloc(POOL_SQLITE, (size_t)bytes, false);
}

static void sqlite_free(void *block)
{
	(void)inject_free(block);
}

static void *sqlite_realloc(void *block, int bytes)
{
	return inject_realloc(POOL_SQLITE, block, (size_t)bytes);
}

static int sqlite_size(void *block)
{
	return (int)inject_block_bytes(block);
}

static int sqlite_roundup(int bytes)
{
	return (bytes + 7) & ~7;
}

static int sqlite_init(void *context)
{
	(void)context;
	return SQLITE_OK;
}

static void sqlite_shutdown(void *context)
{
	(void)context;
}

static bool pools_begin(void)
{
	static const sqlite3_mem_methods methods = {sqlite_malloc, sqlite_free, sqlite_realloc,
		sqlite_size, sqlite_roundup, sqlite_init, sqlite_shutdown, NULL};

	return inject_openssl() && sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK;
}

/* ---- the store that is copied ----------------------------------------------------------------------- */

struct prepared {
	WCHAR alice[NAME_UNITS], bob[NAME_UNITS], guest[NAME_UNITS], group[NAME_UNITS];
	WCHAR guest_xml[TEXT_UNITS], invitation[TEXT_UNITS], exported[TEXT_UNITS];
	char home[SCRATCH_BYTES]; /* of this run: the store, and a copy for each child */
	char store[80];
};

static struct prepared *prepared; /* written by a child before any point */
static char own_home[80]; /* this process's copy */

static int on_remove(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status, (void)kind, (void)walk;
	return remove(path);
}

static void home_remove(const char *path)
{
	(void)nftw(path, on_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "nth-api: %s: %s\n", what, PeerhubLastErrorText());
	abort();
}

static void keep(WCHAR *to, PCWSTR from, size_t units)
{
	size_t i = 0;

	while (from[i] != 0 && i < units - 1) {
		to[i] = from[i];
		i++;
	}
	to[i] = 0;
}

static void prepare_all(void)
{
	GUID roles[] = {PEER_GROUP_ROLE_MEMBER};
	PEER_GROUP_PROPERTIES properties = {
		.dwSize = sizeof(properties), .pwzFriendlyName = (PWSTR)u"Group"};
	PEER_GROUP_PROPERTIES *made;
	PEER_VERSION_DATA version;
	HGROUP group, joined;
	PWSTR text, xml;

	must(PeerhubSetHome(prepared->store) == S_OK, "home");
	must(PeerGroupStartup(PEER_GROUP_VERSION, &version) == S_OK, "startup");
	must(PeerIdentityCreate(u"alice", u"Alice", 0, &text) == S_OK, "alice");
	keep(prepared->alice, text, NAME_UNITS);
	PeerFreeData(text);
	must(PeerIdentityCreate(u"bob", u"Bob", 0, &text) == S_OK, "bob");
	keep(prepared->bob, text, NAME_UNITS);
	PeerFreeData(text);
	must(PeerIdentityCreate(u"guest", u"Guest", 0, &text) == S_OK, "guest");
	keep(prepared->guest, text, NAME_UNITS);
	PeerFreeData(text);
	must(PeerIdentityCreate(u"gone", u"Gone", 0, &text) == S_OK, "gone");
	must(PeerIdentityExport(text, u"password", &xml) == S_OK, "export");
	keep(prepared->exported, xml, TEXT_UNITS);
	must(PeerIdentityDelete(text) == S_OK, "delete");
	PeerFreeData(xml);
	PeerFreeData(text);
	properties.pwzCreatorPeerName = prepared->alice;
	must(PeerGroupCreate(&properties, &group) == S_OK, "group");
	must(PeerGroupGetProperties(group, &made) == S_OK, "properties");
	keep(prepared->group, made->pwzGroupPeerName, NAME_UNITS);
	PeerFreeData(made);
	must(PeerIdentityGetXML(prepared->bob, &xml) == S_OK, "xml");
	must(PeerGroupCreateInvitation(group, xml, NULL, 1, roles, &text) == S_OK, "invitation");
	must(PeerGroupJoin(prepared->bob, text, NULL, &joined) == S_OK, "join");
	PeerFreeData(text);
	PeerFreeData(xml);
	must(PeerIdentityGetXML(prepared->guest, &xml) == S_OK, "xml");
	keep(prepared->guest_xml, xml, TEXT_UNITS);
	must(PeerGroupCreateInvitation(group, xml, NULL, 1, roles, &text) == S_OK, "invitation");
	keep(prepared->invitation, text, TEXT_UNITS);
	PeerFreeData(text);
	PeerFreeData(xml);
	must(PeerGroupShutdown() == S_OK, "shutdown");
	store_close();
}

/* In a child: the threads of the library must not be where points are forked. */
static bool prepare(void)
{
	pid_t child;
	int status;

	prepared = mmap(
		NULL, sizeof(*prepared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (prepared == MAP_FAILED)
		return false;
	if (!scratch_create(prepared->home, NULL, "nth"))
		return false;
	(void)!snprintf(prepared->store, sizeof(prepared->store), "%s/store", prepared->home);
	child = fork();
	if (child == 0) {
		prepare_all();
		_exit(0);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
		WEXITSTATUS(status) == 0;
}

static void file_copy(const char *from, const char *to)
{
	char buffer[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t bytes;

	must(in >= 0 && out >= 0, "a file of the store");
	while ((bytes = read(in, buffer, sizeof(buffer))) > 0)
		must(write(out, buffer, (size_t)bytes) == bytes, "a copy of the store");
	close(in);
	close(out);
}

static void directory_copy(const char *from, const char *to)
{
	char source[512], target[512];
	struct dirent *entry;
	struct stat status;
	DIR *listing;

	must(mkdir(to, 0700) == 0 || errno == EEXIST, "a directory");
	listing = opendir(from);
	must(listing != NULL, "the store");
	while ((entry = readdir(listing)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		must(snprintf(source, sizeof(source), "%s/%s", from, entry->d_name) <
					(int)sizeof(source) &&
				snprintf(target, sizeof(target), "%s/%s", to, entry->d_name) <
					(int)sizeof(target),
			"a path");
		if (stat(source, &status) == 0 && S_ISDIR(status.st_mode))
			directory_copy(source, target);
		else
			file_copy(source, target);
	}
	closedir(listing);
}

/* ---- the world of a point ---------------------------------------------------------------------------- */

struct world {
	const struct nth_point *point;
	struct nth_result *result;
	HGROUP alice, bob;
	HPEEREVENT alice_events, bob_events;
	HANDLE alice_signal, bob_signal;
	PEER_ADDRESS address; /* of alice */
	ULONGLONG id; /* bob's connection to her */
	HRESULT got; /* of the call under test */
	bool is_armed;
};

static void arm(struct world *world)
{
	struct inject_options options = {
		.pools = world->point->kind->pools,
		.nth = world->point->nth,
		.for_ever = world->point->for_ever,
		.this_thread = !world->point->kind->all_threads,
	};

	world->is_armed = true;
	inject_arm(&options);
}

static void disarm(struct world *world)
{
	if (!world->is_armed)
		return;
	world->is_armed = false;
	inject_disarm();
	world->result->tries = inject_tries();
	world->result->failed = inject_failed();
}

static void need(HRESULT result, const char *what)
{
	if (result != S_OK)
		nth_fault("%s: %s (%s)", what, PeerhubResultName(result), PeerhubLastErrorText());
}

/*
 * OpenSSL loses the reason of some of its failures (it takes entries out of its queue again, or makes none),
 * and what it was given is then taken for damaged. Only these answers of these calls may say so; all others
 * name want of memory.
 */
static const struct {
	const char *scenario;
	HRESULT answer;
} unsaid[] = {
	/* ph_credentials_create: a certificate whose key cannot be decoded */
	{"group_create", E_INVALIDARG},
	{"group_open", E_INVALIDARG},
	{"join", E_INVALIDARG},
	/* X509_verify, EVP_DigestVerify */
	{"group_create", PEER_E_CERT_STORE_CORRUPTED},
	{"group_open", PEER_E_CERT_STORE_CORRUPTED},
	{"invite", PEER_E_CERT_STORE_CORRUPTED},
	{"join", PEER_E_CERT_STORE_CORRUPTED},
	{"properties", PEER_E_CERT_STORE_CORRUPTED},
	{"join", PEER_E_INVITATION_NOT_TRUSTED},
	{"parse", PEER_E_INVITATION_NOT_TRUSTED},
	/* PKCS12_verify_mac: the derivation of its key */
	{"import", E_INVALIDARG},
};

static bool may_answer(const struct nth_point *point, HRESULT result)
{
	if ((point->kind->pools & (1u << POOL_OPENSSL)) == 0)
		return false;
	for (size_t i = 0; i < sizeof(unsaid) / sizeof(unsaid[0]); i++)
		if (unsaid[i].answer == result &&
			strcmp(unsaid[i].scenario, point->scenario->name) == 0)
			return true;
	return false;
}

/* An answer that want of memory may have. */
static void judge(struct world *world, HRESULT result)
{
	world->got = result;
	if (result == S_OK || result == E_OUTOFMEMORY || may_answer(world->point, result))
		return;
	nth_fault("answers %s (%s)", PeerhubResultName(result), PeerhubLastErrorText());
}

static void startup(void)
{
	PEER_VERSION_DATA version;

	need(PeerGroupStartup(PEER_GROUP_VERSION, &version), "startup");
}

/* Memory may fail all the while: an end needs none. */
static void shutdown_all(struct world *world)
{
	HRESULT result = PeerGroupShutdown();

	if (result != S_OK)
		nth_fault("PeerGroupShutdown answers %s", PeerhubResultName(result));
	disarm(world);
}

/* ---- identities, groups: one call on one thread ---------------------------------------------------------- */

static void run_identity(void *context)
{
	PWSTR name = NULL;

	arm(context);
	judge(context, PeerIdentityCreate(u"new", u"New", 0, &name));
	disarm(context);
	if (name != NULL)
		need(PeerIdentityDelete(name), "delete");
	PeerFreeData(name);
}

static void run_export(void *context)
{
	PWSTR xml = NULL;

	arm(context);
	judge(context, PeerIdentityExport(prepared->bob, u"password", &xml));
	disarm(context);
	PeerFreeData(xml);
}

static void run_import(void *context)
{
	PWSTR name = NULL;

	arm(context);
	judge(context, PeerIdentityImport(prepared->exported, u"password", &name));
	disarm(context);
	if (name != NULL)
		need(PeerIdentityDelete(name), "delete");
	PeerFreeData(name);
}

static void run_store_open(void *context)
{
	PWSTR name = NULL;

	store_close();
	arm(context);
	judge(context, PeerIdentityGetFriendlyName(prepared->bob, &name));
	disarm(context);
	PeerFreeData(name);
}

static void run_store_write(void *context)
{
	struct world *world = context;
	PWSTR name = NULL;

	arm(world);
	judge(world, PeerIdentitySetFriendlyName(prepared->bob, u"Robert"));
	disarm(world);
	need(PeerIdentityGetFriendlyName(prepared->bob, &name), "name");
	if ((name[0] == 'R') != (world->got == S_OK))
		nth_fault("a change of a name is told as %s and was %s",
			PeerhubResultName(world->got), name[0] == 'R' ? "made" : "not made");
	PeerFreeData(name);
	need(PeerIdentitySetFriendlyName(prepared->bob, u"Bob"), "name back");
}

static void run_startup(void *context)
{
	struct world *world = context;
	PEER_VERSION_DATA version;
	HRESULT result;

	arm(world);
	result = PeerGroupStartup(PEER_GROUP_VERSION, &version);
	if (result == PEER_E_CANNOT_START_SERVICE)
		world->got = result; /* no thread, or OpenSSL did not say why */
	else
		judge(world, result);
	if (result == S_OK)
		shutdown_all(world);
	disarm(world);
	startup();
	need(PeerGroupShutdown(), "shutdown");
}

static void run_group_create(void *context)
{
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties),
		.pwzFriendlyName = (PWSTR)u"Short",
		.pwzCreatorPeerName = prepared->alice};
	PEER_GROUP_PROPERTIES *made;
	HGROUP group = NULL;

	startup();
	arm(context);
	judge(context, PeerGroupCreate(&properties, &group));
	disarm(context);
	if (group != NULL) {
		need(PeerGroupGetProperties(group, &made), "properties");
		need(PeerGroupClose(group), "close");
		need(PeerGroupDelete(prepared->alice, made->pwzGroupPeerName), "delete");
		PeerFreeData(made);
	}
	shutdown_all(context);
}

static void run_group_open(void *context)
{
	HGROUP group = NULL;

	startup();
	arm(context);
	judge(context, PeerGroupOpen(prepared->bob, prepared->group, NULL, &group));
	if (group != NULL)
		need(PeerGroupClose(group), "close");
	disarm(context);
	shutdown_all(context);
}

static void run_invite(void *context)
{
	GUID roles[] = {PEER_GROUP_ROLE_MEMBER};
	PWSTR text = NULL;
	HGROUP group;

	startup();
	need(PeerGroupOpen(prepared->alice, prepared->group, NULL, &group), "open");
	arm(context);
	judge(context,
		PeerGroupCreateInvitation(group, prepared->guest_xml, NULL, 1, roles, &text));
	disarm(context);
	PeerFreeData(text);
	shutdown_all(context);
}

static void run_parse(void *context)
{
	PEER_INVITATION_INFO *info = NULL;

	startup();
	arm(context);
	judge(context, PeerGroupParseInvitation(prepared->invitation, &info));
	disarm(context);
	PeerFreeData(info);
	shutdown_all(context);
}

static void run_join(void *context)
{
	HGROUP group = NULL;

	startup();
	arm(context);
	judge(context, PeerGroupJoin(prepared->guest, prepared->invitation, NULL, &group));
	disarm(context);
	if (group != NULL) {
		need(PeerGroupClose(group), "close");
		need(PeerGroupDelete(prepared->guest, prepared->group), "delete");
	}
	shutdown_all(context);
}

static void run_properties(void *context)
{
	PEER_GROUP_PROPERTIES *properties;
	HGROUP group;

	startup();
	need(PeerGroupOpen(prepared->alice, prepared->group, NULL, &group), "open");
	need(PeerGroupGetProperties(group, &properties), "properties");
	arm(context);
	judge(context, PeerGroupSetProperties(group, properties));
	disarm(context);
	PeerFreeData(properties);
	shutdown_all(context);
}

/* ---- connections: every thread ---------------------------------------------------------------------------- */

static HPEEREVENT listen_to(HGROUP group, HANDLE *signal)
{
	PEER_GROUP_EVENT_REGISTRATION entries[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL}, {PEER_GROUP_EVENT_INCOMING_DATA, NULL}};
	HPEEREVENT handle;

	*signal = CreateEvent(NULL, FALSE, FALSE, NULL);
	must(*signal != NULL, "an event");
	need(PeerGroupRegisterEvent(group, *signal, 2, entries, &handle), "register");
	return handle;
}

/* alice listens, bob knows where; both hear of their connections. */
static void online(struct world *world)
{
	PEER_MEMBER **members;
	HPEERENUM enumeration;
	ULONG count = 1;
	DWORD status = 0;

	startup();
	need(PeerGroupOpen(prepared->alice, prepared->group, NULL, &world->alice), "open");
	need(PeerGroupOpen(prepared->bob, prepared->group, NULL, &world->bob), "open");
	need(PeerhubSetListen("[::1]:0"), "listen");
	need(PeerGroupConnect(world->alice), "connect");
	need(PeerGroupEnumMembers(world->alice, PEER_MEMBER_PRESENT, prepared->alice, &enumeration),
		"members");
	need(PeerGetNextItem(enumeration, &count, (PVOID **)&members), "member");
	if (count != 1 || members[0]->cAddresses < 1)
		nth_fault("alice does not listen");
	world->address = members[0]->pAddresses[0];
	PeerFreeData(members);
	need(PeerEndEnumeration(enumeration), "enumeration");
	/* Another endpoint, or bob would be asked to call himself. Neighbors first: a group whose member has no link yet may not dial. */
	need(PeerhubSetListen("127.0.0.1:0"), "listen");
	need(PeerGroupConnectByAddress(world->bob, 1, &world->address), "connect by address");
	for (uint32_t ms = 0; (status & PEER_GROUP_STATUS_HAS_CONNECTIONS) == 0; ms++) {
		if (ms == SETTLE_MS)
			nth_fault("bob does not come online");
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		need(PeerGroupGetStatus(world->bob, &status), "status");
	}
	world->alice_events = listen_to(world->alice, &world->alice_signal);
	world->bob_events = listen_to(world->bob, &world->bob_signal);
}

struct seen {
	uint32_t connected, ended, data;
	HRESULT reason;
};

/* Events of that id until its last one, or until it is open. */
static void watch(
	HPEEREVENT events, HANDLE signal, ULONGLONG id, bool until_open, struct seen *seen)
{
	for (;;) {
		PEER_GROUP_EVENT_DATA *event;
		HRESULT result = PeerGroupGetEventData(events, &event);

		if (result == PEER_S_NO_EVENT_DATA) {
			if (seen->ended > 0 || (until_open && seen->connected > 0))
				return;
			if (WaitForSingleObject(signal, EVENT_LIMIT_MS) != WAIT_OBJECT_0)
				nth_fault("no last event for a connection");
			continue;
		}
		need(result, "event");
		if (event->eventType == PEER_GROUP_EVENT_DIRECT_CONNECTION &&
			event->connectionChangeData.ullConnectionId == id) {
			bool is_open = event->connectionChangeData.status == PEER_CONNECTED;

			seen->connected += is_open;
			seen->ended += !is_open;
			seen->reason = event->connectionChangeData.hrConnectionFailedReason;
			if (seen->ended > 1 || (seen->ended == 1 && is_open) || seen->connected > 1)
				nth_fault("an event after the last one, or two of them");
		} else if (event->eventType == PEER_GROUP_EVENT_INCOMING_DATA) {
			seen->data++;
		}
		PeerFreeData(event);
	}
}

static void dial(struct world *world)
{
	judge(world,
		PeerGroupOpenDirectConnection(
			world->bob, prepared->alice, &world->address, &world->id));
	if ((world->got == S_OK) != (world->id != 0))
		nth_fault("a connection is told as %s and has the id %llx",
			PeerhubResultName(world->got), (unsigned long long)world->id);
}

/* A close of what may have ended by itself. */
static void hang_up(struct world *world)
{
	HRESULT result = PeerGroupCloseDirectConnection(world->bob, world->id);

	if (result != S_OK && result != PEER_E_CONNECTION_NOT_FOUND)
		nth_fault("a close answers %s", PeerhubResultName(result));
}

static void offline(struct world *world)
{
	shutdown_all(world);
	CloseHandle(world->alice_signal);
	CloseHandle(world->bob_signal);
}

static void run_go_online(void *context)
{
	struct world *world = context;
	HGROUP group;

	startup();
	need(PeerGroupOpen(prepared->alice, prepared->group, NULL, &group), "open");
	arm(world);
	judge(world, PeerGroupConnect(group));
	if (PeerGroupClose(group) != S_OK)
		nth_fault("PeerGroupClose fails");
	shutdown_all(world);
}

static void run_register(void *context)
{
	PEER_GROUP_EVENT_REGISTRATION entries[] = {
		{PEER_GROUP_EVENT_DIRECT_CONNECTION, NULL}, {PEER_GROUP_EVENT_INCOMING_DATA, NULL}};
	struct world *world = context;
	HPEEREVENT handle = NULL;
	struct seen seen = {0};

	online(world);
	dial(world);
	watch(world->bob_events, world->bob_signal, world->id, true, &seen);
	arm(world);
	judge(world, PeerGroupRegisterEvent(world->bob, world->bob_signal, 2, entries, &handle));
	if (handle != NULL && PeerGroupUnregisterEvent(handle) != S_OK)
		nth_fault("PeerGroupUnregisterEvent fails");
	disarm(world);
	offline(world);
}

/* From the call to the last event, memory failing all the while. */
static void run_dial(void *context)
{
	struct world *world = context;
	struct seen seen = {0};

	online(world);
	arm(world);
	dial(world);
	if (world->id != 0) {
		watch(world->bob_events, world->bob_signal, world->id, true, &seen);
		hang_up(world);
		watch(world->bob_events, world->bob_signal, world->id, false, &seen);
	}
	snprintf(world->result->label, NTH_LABEL_BYTES, "%s",
		seen.connected ? "connected" : PeerhubResultName(seen.reason));
	disarm(world);
	offline(world);
}

static void run_send(void *context)
{
	static uint8_t data[20000];
	static const GUID type = {1, 2, 3, {4}};
	struct world *world = context;
	struct seen seen = {0};

	online(world);
	dial(world);
	watch(world->bob_events, world->bob_signal, world->id, true, &seen);
	arm(world);
	for (int i = 0; i < 4; i++) {
		HRESULT result =
			PeerGroupSendData(world->bob, world->id, &type, sizeof(data), data);

		if (result == PEER_E_CONNECTION_NOT_FOUND)
			break; /* want of memory on a shard ended it */
		judge(world, result);
	}
	hang_up(world);
	disarm(world);
	watch(world->bob_events, world->bob_signal, world->id, false, &seen);
	offline(world);
}

static void run_hang_up(void *context)
{
	struct world *world = context;
	struct seen seen = {0};

	online(world);
	dial(world);
	watch(world->bob_events, world->bob_signal, world->id, true, &seen);
	arm(world);
	world->got = PeerGroupCloseDirectConnection(world->bob, world->id);
	if (world->got != S_OK)
		nth_fault("a close answers %s", PeerhubResultName(world->got));
	watch(world->bob_events, world->bob_signal, world->id, false, &seen);
	disarm(world);
	offline(world);
}

static void run_group_close(void *context)
{
	struct world *world = context;
	struct seen seen = {0};

	online(world);
	dial(world);
	watch(world->bob_events, world->bob_signal, world->id, true, &seen);
	arm(world);
	world->got = PeerGroupClose(world->bob);
	if (world->got != S_OK)
		nth_fault("PeerGroupClose answers %s", PeerhubResultName(world->got));
	offline(world);
}

static void run_shutdown(void *context)
{
	struct world *world = context;
	struct seen seen = {0};

	online(world);
	dial(world);
	watch(world->bob_events, world->bob_signal, world->id, true, &seen);
	arm(world);
	offline(world);
}

/* ---- the program ----------------------------------------------------------------------------------------- */

static const struct nth_scenario scenarios[] = {
	{"identity", "PeerIdentityCreate", run_identity, 0, 0},
	{"export", "PeerIdentityExport", run_export, 0, 0},
	{"import", "PeerIdentityImport", run_import, 0, 0},
	{"store_open", "the store's first use", run_store_open, 0, 0},
	{"store_write", "PeerIdentitySetFriendlyName", run_store_write, 0, 0},
	{"startup", "PeerGroupStartup and PeerGroupShutdown", run_startup, NTH_THREADS, 0},
	{"group_create", "PeerGroupCreate", run_group_create, 0, 0},
	{"group_open", "PeerGroupOpen and PeerGroupClose", run_group_open, 0, 0},
	{"invite", "PeerGroupCreateInvitation", run_invite, 0, 0},
	{"parse", "PeerGroupParseInvitation", run_parse, 0, 0},
	{"join", "PeerGroupJoin", run_join, 0, 0},
	{"properties", "PeerGroupSetProperties", run_properties, 0, 0},
	{"go_online", "PeerGroupConnect, PeerGroupClose, PeerGroupShutdown", run_go_online,
		NTH_THREADS, 0},
	{"register", "PeerGroupRegisterEvent with a connection there", run_register, 0, 0},
	{"dial_direct", "PeerGroupOpenDirectConnection to its last event", run_dial, NTH_THREADS,
		0},
	{"send_data", "PeerGroupSendData", run_send, NTH_THREADS, 0},
	{"hang_up", "PeerGroupCloseDirectConnection", run_hang_up, NTH_THREADS, 0},
	{"leave", "PeerGroupClose with a connection", run_group_close, NTH_THREADS, 0},
	{"shutdown", "PeerGroupShutdown with a connection", run_shutdown, NTH_THREADS, 0},
};

static const struct nth_kind kinds[] = {
	{"ours", 1u << POOL_OURS, false, false},
	{"openssl", 1u << POOL_OPENSSL, false, false},
	{"sqlite", 1u << POOL_SQLITE, false, false},
	{"expat", 1u << POOL_EXPAT, false, false},
	{"ours-all", 1u << POOL_OURS, false, true},
	{"openssl-all", 1u << POOL_OPENSSL, false, true},
};

static void world_run(struct world *world, const struct nth_point *point, struct nth_result *result)
{
	memset(world, 0, sizeof(*world));
	world->point = point;
	world->result = result;
	point->scenario->run(world);
	if (result->label[0] == '\0')
		snprintf(result->label, NTH_LABEL_BYTES, "%s", PeerhubResultName(world->got));
	store_close();
	ERR_clear_error();
	OPENSSL_thread_stop();
}

static void warm(const struct nth_point *point)
{
	static struct world world;
	struct nth_result unused = {0};
	struct nth_point nothing = *point;

	must(snprintf(own_home, sizeof(own_home), "%s/%d", prepared->home, (int)getpid()) <
			(int)sizeof(own_home),
		"a path");
	directory_copy(prepared->store, own_home);
	must(PeerhubSetHome(own_home) == S_OK, "home");
	must(PeerhubSetListen("[::1]:0") == S_OK, "listen");
	OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
	nothing.nth = 0;
	world_run(&world, &nothing, &unused);
	memset(&unused, 0, sizeof(unused));
	world_run(&world, &nothing, &unused);
}

/* Blocks that are still there because a thread was not quite done get a moment. */
static void wait_settled(enum inject_pool pool, uint64_t mark)
{
	for (uint32_t ms = 0; ms < SETTLE_MS && inject_live_since(pool, mark) > 0; ms++)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static bool on_own_leak(void *context, size_t bytes, const struct inject_stack *stack)
{
	inject_stack_text(stack, context, 4096, false);
	(void)bytes;
	return false;
}

static void run(const struct nth_point *point, struct nth_result *result)
{
	static const enum inject_pool own[] = {POOL_OURS, POOL_SQLITE, POOL_EXPAT};
	static struct world world;
	static bool is_warm;
	static char stack[4096];
	uint64_t mark;
	size_t blocks;

	if (!is_warm)
		warm(point);
	is_warm = true;
	blocks = block_count();
	inject_record(point->record);
	mark = inject_mark();
	world_run(&world, point, result);
	if (block_count() != blocks)
		nth_fault("%zu blocks of p2p.h were never given back", block_count() - blocks);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		size_t count = inject_live_since(own[i], mark);

		if (count == 0)
			continue;
		if (!point->record) {
			result->leaks_unseen = true;
			return;
		}
		inject_walk(own[i], mark, on_own_leak, stack);
		nth_fault("%zu blocks of %s are lost\n  leaked  %s", count,
			inject_pool_name(own[i]), stack);
	}
	wait_settled(POOL_OPENSSL, mark);
	nth_check_leaks(point, result, mark);
}

int main(int argc, char **argv)
{
	static const struct nth_op none[] = {{"-", NULL, 0}};
	static const struct nth_program program = {
		.name = "nth-api",
		.scenarios = scenarios,
		.scenario_count = sizeof(scenarios) / sizeof(scenarios[0]),
		.kinds = kinds,
		.kind_count = sizeof(kinds) / sizeof(kinds[0]),
		.ops = none,
		.op_count = 0,
		.run = run,
	};
	int status;

	inject_init();
	if (!pools_begin() || !prepare())
		return 2;
	status = nth_main(&program, argc, argv);
	home_remove(prepared->home);
	return status;
}
