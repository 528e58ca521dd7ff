/*
 * No memory: every allocation of ours in every identity, group and invitation call fails once, by
 * count. Each call then answers E_OUTOFMEMORY or succeeds, hands out nothing when it fails, leaves
 * the store whole, and works again afterwards. Leaks are the sanitizer's to find.
 */
#include "api/credential.h"
#include "api/identity.h"
#include "p2p.h"

#include "failing.h"
#include "store_home.h"

/* The call under test is over. Was the count not reached? Then all its allocations have failed. */
static bool is_exhausted;

static void failing_end(void)
{
	is_exhausted |= failing_in > 0;
	failing_in = 0;
}

#define COUNT_MAX 400u /* above the allocations of any one call */

struct world {
	PWSTR identity; /* administrator of the group */
	PWSTR guest;
	PWSTR guest_xml;
	PWSTR exported; /* an identity that is not in the store */
	PWSTR invitation; /* for the guest */
	char identity_name[PH_NAME_BYTES_MAX];
	char guest_name[PH_NAME_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX];
};

static void name_copy(char name[PH_NAME_BYTES_MAX], PCWSTR wide)
{
	assert_int_equal(text_utf8_copy(wide, name, PH_NAME_BYTES_MAX), 0);
}

static HRESULT invite(struct world *world, PWSTR *xml)
{
	struct invitation_request request = {.identity = world->identity_name,
		.group = world->group,
		.identity_xml = world->guest_xml,
		.role = ROLE_MEMBER};

	return invitation_create(&request, xml);
}

static int world_setup(void **state)
{
	static struct world world;
	struct group_properties properties;
	PWSTR gone;

	if (home_setup(state) != 0)
		return -1;
	assert_result(PeerIdentityCreate(u"admin", u"Admin", 0, &world.identity), S_OK);
	assert_result(PeerIdentityCreate(u"guest", u"Guest", 0, &world.guest), S_OK);
	assert_result(PeerIdentityGetXML(world.guest, &world.guest_xml), S_OK);
	name_copy(world.identity_name, world.identity);
	name_copy(world.guest_name, world.guest);
	assert_result(PeerIdentityCreate(u"gone", NULL, 0, &gone), S_OK);
	assert_result(PeerIdentityExport(gone, u"p", &world.exported), S_OK);
	assert_result(PeerIdentityDelete(gone), S_OK);
	PeerFreeData(gone);
	group_properties_init(&properties);
	strcpy(properties.creator, world.identity_name);
	assert_result(group_create(&properties), S_OK);
	strcpy(world.group, properties.group);
	assert_result(invite(&world, &world.invitation), S_OK);
	*state = &world;
	return 0;
}

static int world_teardown(void **state)
{
	struct world *world = *state;

	PeerFreeData(world->identity);
	PeerFreeData(world->guest);
	PeerFreeData(world->guest_xml);
	PeerFreeData(world->exported);
	PeerFreeData(world->invitation);
	return home_teardown(state);
}

/* One call under test. On failure it must have left its result alone or NULL. */
typedef HRESULT (*call)(struct world *world);

static HRESULT text_call(HRESULT result, PWSTR text)
{
	failing_end();
	assert_int_equal(SUCCEEDED(result), text != NULL);
	PeerFreeData(text);
	return result;
}

static HRESULT call_create(struct world *world)
{
	PWSTR name = NULL;
	HRESULT result = PeerIdentityCreate(u"new", u"New", 0, &name);

	(void)world;
	failing_end();
	if (SUCCEEDED(result))
		assert_result(PeerIdentityDelete(name), S_OK);
	return text_call(result, name);
}

static HRESULT call_get_friendly_name(struct world *world)
{
	PWSTR text = NULL;
	HRESULT result = PeerIdentityGetFriendlyName(world->identity, &text);

	return text_call(result, text);
}

static HRESULT call_set_friendly_name(struct world *world)
{
	return PeerIdentitySetFriendlyName(world->identity, u"Again");
}

static HRESULT call_get_xml(struct world *world)
{
	PWSTR text = NULL;
	HRESULT result = PeerIdentityGetXML(world->identity, &text);

	return text_call(result, text);
}

static HRESULT call_export(struct world *world)
{
	PWSTR text = NULL;
	HRESULT result = PeerIdentityExport(world->identity, u"p", &text);

	return text_call(result, text);
}

static HRESULT call_import(struct world *world)
{
	PWSTR name = NULL;
	HRESULT result = PeerIdentityImport(world->exported, u"p", &name);

	failing_end();
	if (SUCCEEDED(result))
		assert_result(PeerIdentityDelete(name), S_OK);
	return text_call(result, name);
}

static HRESULT call_get_default(struct world *world)
{
	PWSTR name = NULL;
	HRESULT result = PeerIdentityGetDefault(&name);

	(void)world;
	return text_call(result, name);
}

static HRESULT call_create_peer_name(struct world *world)
{
	PWSTR name = NULL;
	HRESULT result = PeerCreatePeerName(world->identity, u"x", &name);

	return text_call(result, name);
}

static HRESULT call_enum_identities(struct world *world)
{
	HPEERENUM handle = NULL;
	HRESULT result = PeerEnumIdentities(&handle);

	(void)world;
	failing_end();
	assert_int_equal(SUCCEEDED(result), handle != NULL);
	if (SUCCEEDED(result))
		assert_result(PeerEndEnumeration(handle), S_OK);
	return result;
}

static HRESULT call_enum_groups(struct world *world)
{
	HPEERENUM handle = NULL;
	HRESULT result = PeerEnumGroups(world->identity, &handle);

	failing_end();
	assert_int_equal(SUCCEEDED(result), handle != NULL);
	if (SUCCEEDED(result))
		assert_result(PeerEndEnumeration(handle), S_OK);
	return result;
}

static HRESULT call_parse(struct world *world)
{
	PEER_INVITATION_INFO *info = NULL;
	HRESULT result = PeerGroupParseInvitation(world->invitation, &info);

	failing_end();
	assert_int_equal(SUCCEEDED(result), info != NULL);
	PeerFreeData(info);
	return result;
}

static HRESULT call_invite(struct world *world)
{
	PWSTR xml = NULL;
	HRESULT result = invite(world, &xml);

	return text_call(result, xml);
}

static HRESULT call_issue(struct world *world)
{
	struct issue_request request = {.identity = world->identity_name,
		.group = world->group,
		.subject = world->guest_name};
	PWSTR xml = NULL;
	HRESULT result = credential_issue(&request, &xml);

	return text_call(result, xml);
}

static HRESULT call_join(struct world *world)
{
	return membership_join(world->guest_name, world->invitation, NULL, NULL, NULL);
}

static HRESULT call_load(struct world *world)
{
	struct membership *membership = NULL;
	HRESULT result = membership_load(world->identity_name, world->group, &membership);

	failing_end();
	assert_int_equal(SUCCEEDED(result), membership != NULL);
	membership_free(membership);
	return result;
}

static HRESULT call_group_create(struct world *world)
{
	struct group_properties properties;
	HRESULT result;

	group_properties_init(&properties);
	strcpy(properties.creator, world->identity_name);
	result = group_create(&properties);
	failing_end();
	if (SUCCEEDED(result))
		assert_result(membership_delete(world->identity_name, properties.group), S_OK);
	return result;
}

static HRESULT call_properties(struct world *world)
{
	struct group_properties properties;
	HRESULT result = group_properties_get(world->identity_name, world->group, &properties);

	if (SUCCEEDED(result))
		result = group_properties_set(world->identity_name, &properties);
	return result;
}

/* Fail the first allocation, the second, … until the call has no more of them. */
static void fail_each(struct world *world, call function, const char *name)
{
	uint32_t failures = 0;

	is_exhausted = false;
	for (unsigned count = 1; count < COUNT_MAX && !is_exhausted; count++) {
		bool has_failed;
		HRESULT result;

		failing_in = count;
		result = function(world);
		has_failed = FAILED(result);
		failing_end();
		if (has_failed && result != E_OUTOFMEMORY)
			fail_msg("%s at %u: %s", name, count, PeerhubResultName(result));
		failures += has_failed;
	}
	assert_true(is_exhausted);
	assert_true(failures > 0);
	assert_result(function(world), S_OK);
}

static void every_allocation_fails_once(void **state)
{
	static const struct {
		const char *name;
		call function;
	} calls[] = {{"create", call_create}, {"get_friendly_name", call_get_friendly_name},
		{"set_friendly_name", call_set_friendly_name}, {"get_xml", call_get_xml},
		{"export", call_export}, {"import", call_import}, {"get_default", call_get_default},
		{"create_peer_name", call_create_peer_name},
		{"enum_identities", call_enum_identities}, {"enum_groups", call_enum_groups},
		{"parse", call_parse}, {"invite", call_invite}, {"issue", call_issue},
		{"join", call_join}, {"load", call_load}, {"group_create", call_group_create},
		{"properties", call_properties}};
	PEER_VERSION_DATA version;
	struct world *world = *state;

	assert_result(PeerGroupStartup(PEER_GROUP_VERSION, &version), S_OK);
	for (size_t index = 0; index < sizeof(calls) / sizeof(calls[0]); index++)
		fail_each(world, calls[index].function, calls[index].name);
	store_close();
	assert_result(call_load(world), S_OK);
	assert_result(PeerGroupShutdown(), S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			every_allocation_fails_once, world_setup, world_teardown),
	};

	return cmocka_run_group_tests_name("identity_memory", tests, NULL, NULL);
}
