/*
 * id.c: peerhub id ... The identities of the store. Needs no network and no PeerGroupStartup.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "files.h"
#include "names.h"
#include "options.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "say.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int say_identity(PCWSTR wide)
{
	char *name = names_word(wide);
	int status;

	if (name == NULL)
		return EXIT_FAILED;
	status = say_is_quiet() ? say_line("%s", name) : say_line("identity %s", name);
	free(name);
	return status < 0 ? EXIT_FAILED : EXIT_OK;
}

static int id_create(int argc, char **argv)
{
	const char *classifier = NULL, *friendly = NULL;
	const struct option_spec options[] = {
		{"classifier", OPTION_TEXT, "TEXT", "the part of the peer name after the dot",
			&classifier, 0, 0},
		{"name", OPTION_TEXT, "TEXT", "a friendly name for people; default the peer name",
			&friendly, 0, 0},
	};
	const struct command command = {"peerhub id create", "",
		"Make a key and an identity in the store. The first one becomes the default.",
		options, COUNT(options), 0, 0};
	WCHAR *wide_classifier = NULL, *wide_friendly = NULL;
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	PWSTR identity = NULL;
	int code = EXIT_FAILED;
	HRESULT result;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	if (classifier != NULL && (wide_classifier = names_wide(classifier)) == NULL)
		goto done;
	if (friendly != NULL && (wide_friendly = names_wide(friendly)) == NULL)
		goto done;
	result = PeerIdentityCreate(wide_classifier, wide_friendly, 0, &identity);
	if (FAILED(result))
		say_result(result, "cannot create an identity");
	else
		code = say_identity(identity);
	PeerFreeData(identity);
done:
	free(wide_classifier);
	free(wide_friendly);
	return code;
}

static int say_pair(const PEER_NAME_PAIR *pair, PCWSTR chosen)
{
	char *name = names_word(pair->pwzPeerName), *friendly = names_word(pair->pwzFriendlyName);
	char *other = names_word(chosen);
	bool is_default = name != NULL && other != NULL && strcmp(name, other) == 0;
	int status = -1;

	if (name == NULL || friendly == NULL || other == NULL)
		goto done;
	if (say_is_quiet())
		status = say_line("%s", name);
	else if (isatty(STDOUT_FILENO))
		status = say_line("%-7s %-52s %s", is_default ? "default" : "", name, friendly);
	else
		status = say_line(
			"identity %s friendly %s%s", name, friendly, is_default ? " default" : "");
done:
	free(name);
	free(friendly);
	free(other);
	return status < 0 ? EXIT_FAILED : EXIT_OK;
}

static int id_list(int argc, char **argv)
{
	const struct command command = {"peerhub id list", "",
		"List the identities of the store, on a terminal as a table.", NULL, 0, 0, 0};
	struct option_list operands;
	enum options_verdict verdict;
	struct names_list list = {0};
	HPEERENUM enumeration;
	struct common common;
	PWSTR chosen = NULL;
	int code = EXIT_OK;
	HRESULT result;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	result = PeerEnumIdentities(&enumeration);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result)) {
		say_result(result, "cannot list the identities");
		return EXIT_FAILED;
	}
	if (list.count > 0 && FAILED(PeerIdentityGetDefault(&chosen)))
		chosen = NULL;
	if (list.count > 0 && !say_is_quiet() && isatty(STDOUT_FILENO))
		(void)say_line("%-7s %-52s %s", "", "IDENTITY", "FRIENDLY NAME");
	for (ULONG i = 0; i < list.count && code == EXIT_OK; i++)
		code = say_pair(list.items[i], chosen);
	PeerFreeData(chosen);
	PeerFreeData(list.items);
	return code;
}

/* Say what an identity is, or write its public text. */
static int show(PCWSTR wide, const char *out)
{
	PWSTR friendly = NULL, xml = NULL;
	char *text = NULL;
	int code = EXIT_FAILED;
	HRESULT result;

	if (out == NULL) {
		result = PeerIdentityGetFriendlyName(wide, &friendly);
		if (FAILED(result)) {
			say_result(result, "cannot read the identity");
			return EXIT_FAILED;
		}
		code = say_identity(wide);
		text = names_word(friendly);
		PeerFreeData(friendly);
		if (code == EXIT_OK && !say_is_quiet() &&
			(text == NULL || say_line("friendly %s", text) < 0))
			code = EXIT_FAILED;
		free(text);
		return code;
	}
	result = PeerIdentityGetXML(wide, &xml);
	if (FAILED(result)) {
		say_result(result, "cannot read the identity");
		return EXIT_FAILED;
	}
	text = names_narrow(xml);
	if (text != NULL && files_write_text(out, text, false) == 0)
		code = EXIT_OK;
	free(text);
	PeerFreeData(xml);
	return code;
}

static int id_show(int argc, char **argv)
{
	const char *out = NULL;
	const struct option_spec options[] = {
		{"xml", OPTION_TEXT, "FILE",
			"write the public text that an inviter needs; - is standard output", &out,
			0, 0},
	};
	const struct command command = {"peerhub id show", "[IDENTITY]",
		"Show an identity (default: the default one).", options, COUNT(options), 0, 1};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code = EXIT_FAILED;
	WCHAR *wide = NULL;
	char *name;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	name = names_identity(operands.count > 0 ? operands.items[0] : NULL);
	if (name != NULL)
		wide = names_wide(name);
	if (wide != NULL)
		code = show(wide, out);
	free(wide);
	free(name);
	return code;
}

/* The work of export with the password at hand. */
static int export_to(const char *identity, const char *password, const char *out)
{
	WCHAR *wide = names_wide(identity), *secret = names_wide(password);
	int code = EXIT_FAILED;
	PWSTR xml = NULL;
	char *text;
	HRESULT result;

	if (wide == NULL || secret == NULL)
		goto done;
	result = PeerIdentityExport(wide, secret, &xml);
	if (FAILED(result)) {
		say_result(result, "cannot export \"%s\"", identity);
		goto done;
	}
	text = names_narrow(xml);
	if (text != NULL && files_write_text(out, text, true) == 0)
		code = EXIT_OK;
	free(text);
done:
	if (secret != NULL)
		explicit_bzero(secret, strlen(password) * sizeof(*secret));
	free(secret);
	free(wide);
	PeerFreeData(xml);
	return code;
}

static int id_export(int argc, char **argv)
{
	const char *out = "-", *password_file = NULL;
	const struct option_spec options[] = {
		{"out", OPTION_TEXT, "FILE", "where to write; default standard output", &out, 0, 0},
		{"password-file", OPTION_TEXT, "FILE",
			"the password is its first line; default PEERHUB_PASSWORD,\n"
			"then the terminal",
			&password_file, 0, 0},
	};
	const struct command command = {"peerhub id export", "[IDENTITY]",
		"Write an identity with its private key, encrypted under a password.", options,
		COUNT(options), 0, 1};
	struct option_list operands;
	enum options_verdict verdict;
	char *name, *password = NULL;
	struct common common;
	int code = EXIT_FAILED;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	name = names_identity(operands.count > 0 ? operands.items[0] : NULL);
	if (name != NULL)
		password = files_read_password(password_file);
	if (password != NULL)
		code = export_to(name, password, out);
	files_forget(password);
	free(password);
	free(name);
	return code;
}

static int import_from(const char *path, const char *text, const char *password)
{
	WCHAR *wide = names_wide(text), *secret = names_wide(password);
	int code = EXIT_FAILED;
	PWSTR identity = NULL;
	HRESULT result;

	if (wide == NULL || secret == NULL)
		goto done;
	result = PeerIdentityImport(wide, secret, &identity);
	if (FAILED(result))
		say_result(result, "cannot import \"%s\"%s", path,
			result == E_INVALIDARG ? " (wrong password, or not an export)" : "");
	else
		code = say_identity(identity);
done:
	if (secret != NULL)
		explicit_bzero(secret, strlen(password) * sizeof(*secret));
	free(secret);
	free(wide);
	PeerFreeData(identity);
	return code;
}

static int id_import(int argc, char **argv)
{
	const char *password_file = NULL;
	const struct option_spec options[] = {
		{"password-file", OPTION_TEXT, "FILE",
			"the password is its first line; default PEERHUB_PASSWORD,\n"
			"then the terminal",
			&password_file, 0, 0},
	};
	const struct command command = {"peerhub id import", "FILE",
		"Store an identity that was exported; - reads standard input.", options,
		COUNT(options), 1, 1};
	char *text, *password = NULL;
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code = EXIT_FAILED;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	text = files_read_text(operands.items[0]);
	if (text != NULL)
		password = files_read_password(password_file);
	if (password != NULL)
		code = import_from(operands.items[0], text, password);
	files_forget(password);
	free(password);
	free(text);
	return code;
}

static int id_delete(int argc, char **argv)
{
	const struct command command = {"peerhub id delete", "IDENTITY",
		"Remove an identity and its key for good. Its groups must be deleted first.", NULL,
		0, 1, 1};
	struct option_list operands;
	enum options_verdict verdict;
	struct common common;
	int code = EXIT_FAILED;
	WCHAR *wide = NULL;
	HRESULT result;
	char *name;

	verdict = options_parse(&command, argc, argv, &common, &operands);
	if (verdict != OPTIONS_GO)
		return options_exit(verdict);
	name = names_identity(operands.items[0]);
	if (name != NULL)
		wide = names_wide(name);
	if (wide == NULL)
		goto done;
	result = PeerIdentityDelete(wide);
	if (FAILED(result)) {
		say_result(result, "cannot delete \"%s\"", name);
		goto done;
	}
	say_note("deleted %s", name);
	code = EXIT_OK;
done:
	free(wide);
	free(name);
	return code;
}

static const char usage[] = "usage: peerhub id COMMAND [options]\n"
			    "\n"
			    "  create   make an identity\n"
			    "  list     list the identities of the store\n"
			    "  show     show one, or write its public text for an inviter\n"
			    "  export   write one with its private key under a password\n"
			    "  import   store an exported one\n"
			    "  delete   remove one\n"
			    "\n"
			    "\"peerhub id COMMAND --help\" tells more.\n";

int id_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {
		{"create", id_create},
		{"list", id_list},
		{"show", id_show},
		{"export", id_export},
		{"import", id_import},
		{"delete", id_delete},
	};

	say_begin("peerhub id", false);
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
