/*
 * group.c: peerhub group ... Groups, invitations and joining: no network, only the store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "files.h"
#include "names.h"
#include "options.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "say.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FILETIME_EPOCH_S 11644473600u /* from 1601-01-01 to 1970-01-01 */
#define EXPIRES_DAYS_MAX 36500u

static int say_group(PCWSTR wide)
{
	char *name = names_word(wide);
	int status;

	if (name == NULL)
		return EXIT_FAILED;
	status = say_is_quiet() ? say_line("%s", name) : say_line("group %s", name);
	free(name);
	return status < 0 ? EXIT_FAILED : EXIT_OK;
}

static int say_properties(HGROUP group)
{
	PPEER_GROUP_PROPERTIES properties = NULL;
	HRESULT result;
	int code;

	result = PeerGroupGetProperties(group, &properties);
	if (FAILED(result)) {
		say_result(result, "cannot read the group's properties");
		return EXIT_FAILED;
	}
	code = say_group(properties->pwzGroupPeerName);
	PeerFreeData(properties);
	return code;
}

/* NULL stays NULL. False: said. */
static bool widen(const char *text, WCHAR **wide)
{
	*wide = NULL;
	if (text == NULL)
		return true;
	*wide = names_wide(text);
	return *wide != NULL;
}

static int create(PEER_GROUP_PROPERTIES *properties)
{
	HGROUP group = NULL;
	HRESULT result;
	int code;

	result = PeerGroupCreate(properties, &group);
	if (FAILED(result)) {
		say_result(result, "cannot create a group");
		return EXIT_FAILED;
	}
	code = say_properties(group);
	result = PeerGroupClose(group);
	if (SUCCEEDED(result))
		return code;
	say_result(result, "cannot close the group");
	return EXIT_FAILED;
}

static int group_create(int argc, char **argv)
{
	const char *identity = NULL, *classifier = NULL, *friendly = NULL, *comment = NULL;
	const struct option_spec options[] = {
		{"identity", OPTION_TEXT, "ID", "the creator; default the default identity",
			&identity, 0, 0},
		{"classifier", OPTION_TEXT, "TEXT",
			"the part of the group's peer name after the dot", &classifier, 0, 0},
		{"name", OPTION_TEXT, "TEXT", "a friendly name for people", &friendly, 0, 0},
		{"comment", OPTION_TEXT, "TEXT", "what the group is for", &comment, 0, 0},
	};
	const struct command command = {"peerhub group create", "",
		"Create a group. Its creator may invite others and serve it with \"peerhub hub\".",
		options, COUNT(options), 0, 0};
	PEER_GROUP_PROPERTIES properties = {.dwSize = sizeof(properties)};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code = EXIT_FAILED;
	char *creator;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	creator = names_identity(identity);
	if (creator == NULL)
		return EXIT_FAILED;
	if (widen(creator, &properties.pwzCreatorPeerName) &&
		widen(classifier, &properties.pwzClassifier) &&
		widen(friendly, &properties.pwzFriendlyName) &&
		widen(comment, &properties.pwzComment) && names_startup()) {
		code = create(&properties);
		(void)PeerGroupShutdown();
	}
	free(properties.pwzCreatorPeerName);
	free(properties.pwzClassifier);
	free(properties.pwzFriendlyName);
	free(properties.pwzComment);
	free(creator);
	return code;
}

static int say_pair(const PEER_NAME_PAIR *pair, const char *identity)
{
	char *name = names_word(pair->pwzPeerName), *friendly = names_word(pair->pwzFriendlyName);
	int status = -1;

	if (name == NULL || friendly == NULL)
		goto done;
	if (say_is_quiet())
		status = say_line("%s", name);
	else if (isatty(STDOUT_FILENO))
		status = say_line("%-52s %-20s %s", name, friendly, identity);
	else
		status = say_line("group %s friendly %s identity %s", name, friendly, identity);
done:
	free(name);
	free(friendly);
	return status < 0 ? EXIT_FAILED : EXIT_OK;
}

static int list_groups_of(PCWSTR identity)
{
	struct names_list list = {0};
	HPEERENUM enumeration;
	int code = EXIT_OK;
	HRESULT result;
	char *word;

	result = PeerEnumGroups(identity, &enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the groups");
		return EXIT_FAILED;
	}
	word = names_word(identity);
	if (word == NULL)
		code = EXIT_FAILED;
	for (ULONG i = 0; i < list.count && code == EXIT_OK; i++)
		code = say_pair(list.items[i], word);
	free(word);
	PeerFreeData(list.items);
	return code;
}

static int list_all_groups(void)
{
	struct names_list list = {0};
	HPEERENUM enumeration;
	int code = EXIT_OK;
	HRESULT result;

	result = PeerEnumIdentities(&enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the identities");
		return EXIT_FAILED;
	}
	for (ULONG i = 0; i < list.count && code == EXIT_OK; i++)
		code = list_groups_of(((PEER_NAME_PAIR *)list.items[i])->pwzPeerName);
	PeerFreeData(list.items);
	return code;
}

static int group_list(int argc, char **argv)
{
	const char *identity = NULL;
	const struct option_spec options[] = {
		{"identity", OPTION_TEXT, "ID", "only the groups of this identity", &identity, 0,
			0},
	};
	const struct command command = {"peerhub group list", "",
		"List the groups of the store with the identity that is a member.", options,
		COUNT(options), 0, 0};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code = EXIT_FAILED;
	WCHAR *wide = NULL;
	char *name;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (!say_is_quiet() && isatty(STDOUT_FILENO))
		(void)say_line("%-52s %-20s %s", "GROUP", "FRIENDLY NAME", "IDENTITY");
	if (identity == NULL)
		return list_all_groups();
	name = names_identity(identity);
	if (name != NULL)
		wide = names_wide(name);
	if (wide != NULL)
		code = list_groups_of(wide);
	free(wide);
	free(name);
	return code;
}

static bool role_of(const char *text, GUID *role)
{
	if (strcmp(text, "member") == 0)
		*role = PEER_GROUP_ROLE_MEMBER;
	else if (strcmp(text, "inviting") == 0)
		*role = PEER_GROUP_ROLE_INVITING_MEMBER;
	else if (strcmp(text, "admin") == 0)
		*role = PEER_GROUP_ROLE_ADMIN;
	else
		return false;
	return true;
}

static FILETIME in_days(uint64_t days)
{
	uint64_t units = ((uint64_t)time(NULL) + FILETIME_EPOCH_S + days * 86400) * 10000000;

	return (FILETIME){.dwLowDateTime = (DWORD)units, .dwHighDateTime = (DWORD)(units >> 32)};
}

/* Open the group of this identity; said when it fails. */
static HGROUP open_group(const char *identity, const char *name)
{
	WCHAR *wide_identity = names_wide(identity), *wide_name = names_wide(name);
	HRESULT result = E_INVALIDARG;
	HGROUP group = NULL;

	if (wide_identity != NULL && wide_name != NULL) {
		result = PeerGroupOpen(wide_identity, wide_name, NULL, &group);
		if (FAILED(result))
			say_result(result, "cannot open the group \"%s\"", name);
	}
	free(wide_identity);
	free(wide_name);
	return SUCCEEDED(result) ? group : NULL;
}

struct invite {
	const char *for_path, *out;
	GUID role;
	uint64_t days; /* 0: as long as our own membership */
};

static int invite_into(HGROUP group, const struct invite *invite)
{
	FILETIME expiration = in_days(invite->days);
	char *identity_text, *text = NULL;
	WCHAR *identity = NULL;
	int code = EXIT_FAILED;
	PWSTR invitation = NULL;
	HRESULT result;

	identity_text = files_read_text(invite->for_path);
	if (identity_text == NULL)
		return EXIT_FAILED;
	identity = names_wide(identity_text);
	free(identity_text);
	if (identity == NULL)
		return EXIT_FAILED;
	result = PeerGroupCreateInvitation(group, identity, invite->days != 0 ? &expiration : NULL,
		1, &invite->role, &invitation);
	free(identity);
	if (FAILED(result)) {
		say_result(result, "cannot invite the identity in \"%s\"", invite->for_path);
		return EXIT_FAILED;
	}
	text = names_narrow(invitation);
	if (text != NULL && files_write_text(invite->out, text, false) == 0)
		code = EXIT_OK;
	free(text);
	PeerFreeData(invitation);
	return code;
}

static int group_invite(int argc, char **argv)
{
	const char *identity = NULL, *group_given = NULL, *role = "member";
	struct invite invite = {.out = "-"};
	const struct option_spec options[] = {
		{"for", OPTION_TEXT, "FILE",
			"the invitee's public text, from \"peerhub id show --xml FILE\"",
			&invite.for_path, 0, 0},
		{"group", OPTION_TEXT, "GROUP", "default the only one", &group_given, 0, 0},
		{"identity", OPTION_TEXT, "ID", "who invites; default the default identity",
			&identity, 0, 0},
		{"role", OPTION_TEXT, "ROLE",
			"member (default), inviting (may invite members) or admin", &role, 0, 0},
		{"expires", OPTION_NUMBER, "DAYS",
			"how long the membership lasts; default as long as yours", &invite.days, 1,
			EXPIRES_DAYS_MAX},
		{"out", OPTION_TEXT, "FILE", "where to write; default standard output", &invite.out,
			0, 0},
	};
	const struct command command = {"peerhub group invite", "",
		"Write an invitation: a membership certificate for one identity.", options,
		COUNT(options), 0, 0};
	struct option_list operands;
	enum options_verdict verdict;
	char *name, *group_name = NULL;
	struct common common;
	int code = EXIT_FAILED;
	HGROUP group;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (invite.for_path == NULL || !role_of(role, &invite.role)) {
		if (invite.for_path == NULL)
			say_error("--for FILE is missing");
		else
			say_error("--role must be member, inviting or admin, not \"%s\"", role);
		return EXIT_USAGE;
	}
	name = names_identity(identity);
	if (name != NULL)
		group_name = names_group(name, group_given);
	if (group_name != NULL && names_startup()) {
		group = open_group(name, group_name);
		if (group != NULL) {
			code = invite_into(group, &invite);
			(void)PeerGroupClose(group);
		}
		(void)PeerGroupShutdown();
	}
	free(group_name);
	free(name);
	return code;
}

static int join(const char *identity, const char *path)
{
	WCHAR *wide_identity = NULL, *invitation = NULL;
	PPEER_INVITATION_INFO info = NULL;
	int code = EXIT_FAILED;
	HGROUP group = NULL;
	char *text;
	HRESULT result;

	text = files_read_text(path);
	if (text == NULL)
		return EXIT_FAILED;
	invitation = names_wide(text);
	free(text);
	wide_identity = names_wide(identity);
	if (invitation == NULL || wide_identity == NULL)
		goto done;
	result = PeerGroupJoin(wide_identity, invitation, NULL, &group);
	if (FAILED(result)) {
		say_result(result, "cannot join with \"%s\"", path);
		goto done;
	}
	/* The name is in the invitation; the properties may be known only after connecting. */
	result = PeerGroupParseInvitation(invitation, &info);
	if (FAILED(result))
		say_result(result, "cannot read \"%s\"", path);
	else
		code = say_group(info->pwzGroupPeerName);
	PeerFreeData(info);
	(void)PeerGroupClose(group);
done:
	free(invitation);
	free(wide_identity);
	return code;
}

static int group_join(int argc, char **argv)
{
	const char *identity = NULL;
	const struct option_spec options[] = {
		{"identity", OPTION_TEXT, "ID", "who was invited; default the default identity",
			&identity, 0, 0},
	};
	const struct command command = {"peerhub group join", "FILE",
		"Become a member with an invitation; - reads standard input. No network is used.",
		options, COUNT(options), 1, 1};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code = EXIT_FAILED;
	char *name;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	name = names_identity(identity);
	if (name != NULL && names_startup()) {
		code = join(name, operands.items[0]);
		(void)PeerGroupShutdown();
	}
	free(name);
	return code;
}

static int group_delete(int argc, char **argv)
{
	const char *identity = NULL;
	const struct option_spec options[] = {
		{"identity", OPTION_TEXT, "ID", "whose membership; default the default identity",
			&identity, 0, 0},
	};
	const struct command command = {"peerhub group delete", "GROUP",
		"Erase a group from this store. Whoever has it open loses it at once.", options,
		COUNT(options), 1, 1};
	WCHAR *wide_identity = NULL, *wide_group = NULL;
	struct option_list operands;
	enum options_verdict verdict;
	char *name, *group = NULL;
	struct common common;
	int code = EXIT_FAILED;
	HRESULT result;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	name = names_identity(identity);
	if (name != NULL)
		group = names_group(name, operands.items[0]);
	if (group == NULL || !widen(name, &wide_identity) || !widen(group, &wide_group) ||
		!names_startup())
		goto done;
	result = PeerGroupDelete(wide_identity, wide_group);
	if (FAILED(result))
		say_result(result, "cannot delete \"%s\"", group);
	else
		code = EXIT_OK;
	(void)PeerGroupShutdown();
	if (code == EXIT_OK)
		say_note("deleted %s", group);
done:
	free(wide_identity);
	free(wide_group);
	free(group);
	free(name);
	return code;
}

static const char usage[] = "usage: peerhub group COMMAND [options]\n"
			    "\n"
			    "  create   create a group\n"
			    "  list     list the groups of the store\n"
			    "  invite   write an invitation for one identity\n"
			    "  join     become a member with an invitation\n"
			    "  delete   erase a group from this store\n"
			    "\n"
			    "\"peerhub group COMMAND --help\" tells more.\n";

int group_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {
		{"create", group_create},
		{"list", group_list},
		{"invite", group_invite},
		{"join", group_join},
		{"delete", group_delete},
	};

	say_begin("peerhub group", false);
	if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return EXIT_OK;
	}
	for (size_t i = 0; argc >= 2 && i < COUNT(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (argc >= 2)
		say_error("unknown command \"%s\"", argv[1]);
	fputs(usage, stderr);
	return EXIT_USAGE;
}
