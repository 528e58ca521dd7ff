/*
 * The Identity Manager of p2p.h, and the two lists. Arguments are checked and turned into UTF-8
 * here; what is done is in api/identity.c, identity_export.c and store.c. No PeerGroupStartup is
 * needed. Out-parameters are NULL on failure.
 */
#include "api/block.h"
#include "api/detail.h"
#include "api/enumeration.h"
#include "api/identity.h"
#include "api/text.h"
#include "peerhub/extras.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* Longer than any peer name may be; what is longer is not one. */
#define NAME_UNITS_MAX 256u

/* ---- arguments and results ---------------------------------------------------------------- */

static HRESULT out_is_null(const char *what)
{
	return detail_fail(E_INVALIDARG, "%s is NULL", what);
}

/* A peer name of ours; NULL and "" stay "", the default identity. */
static HRESULT name_argument(PCWSTR wide, char name[PH_NAME_BYTES_MAX])
{
	name[0] = '\0';
	if (wide == NULL || wide[0] == 0)
		return S_OK;
	if (text_units_bounded(wide, NAME_UNITS_MAX) > NAME_UNITS_MAX ||
		text_utf8_copy(wide, name, PH_NAME_BYTES_MAX) < 0 || !peer_name_is_secure(name)) {
		name[0] = '\0';
		return detail_fail(E_INVALIDARG, "pwzIdentity is not a secure peer name");
	}
	return S_OK;
}

/* The same, found in the store. E_INVALIDARG, PEER_E_NOT_FOUND. */
static HRESULT identity_argument(PCWSTR wide, char name[PH_NAME_BYTES_MAX])
{
	HRESULT result = name_argument(wide, name);

	if (SUCCEEDED(result))
		result = identity_resolve(name, name);
	return result == PEER_E_IDENTITY_DELETED ? PEER_E_NOT_FOUND : result;
}

static HRESULT text_result(const char *utf8, PWSTR *result)
{
	return block_string(utf8, result) < 0 ? E_OUTOFMEMORY : S_OK;
}

/* Takes over malloc'd text. */
static HRESULT text_result_free(char *utf8, PWSTR *result)
{
	HRESULT code = text_result(utf8, result);

	free(utf8);
	return code;
}

/* Store a draft and hand out its name: the block first, so that a failure has changed nothing. */
static HRESULT draft_result(struct identity_draft *draft, PWSTR *name)
{
	PWSTR block;
	HRESULT result = text_result(draft->identity.name, &block);

	if (FAILED(result))
		return result;
	result = identity_draft_store(draft);
	if (FAILED(result))
		block_free(block);
	else
		*name = block;
	return result;
}

static void secret_free(char *text)
{
	if (text != NULL)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}

/* ---- one identity ------------------------------------------------------------------------ */

HRESULT WINAPI PeerIdentityCreate(
	PCWSTR pwzClassifier, PCWSTR pwzFriendlyName, HCRYPTPROV hCryptProv, PWSTR *ppwzIdentity)
{
	static const WCHAR nothing[] = {0};
	struct identity_draft draft = {.key = NULL};
	char *classifier = NULL, *friendly_name = NULL;
	HRESULT result;

	detail_clear();
	if (ppwzIdentity == NULL)
		return out_is_null("ppwzIdentity");
	*ppwzIdentity = NULL;
	if (hCryptProv != 0)
		return detail_fail(E_HANDLE, "hCryptProv: there are no key providers here");
	result = identity_text("pwzClassifier", pwzClassifier != NULL ? pwzClassifier : nothing,
		PEER_CLASSIFIER_UNITS_MAX, &classifier);
	if (SUCCEEDED(result))
		result = identity_text("pwzFriendlyName",
			pwzFriendlyName != NULL ? pwzFriendlyName : nothing, PEER_TEXT_UNITS_MAX,
			&friendly_name);
	if (SUCCEEDED(result))
		result = identity_draft_create(&draft, classifier, friendly_name);
	if (SUCCEEDED(result))
		result = draft_result(&draft, ppwzIdentity);
	identity_draft_free(&draft);
	free(classifier);
	free(friendly_name);
	return result;
}

HRESULT WINAPI PeerIdentityGetFriendlyName(PCWSTR pwzIdentity, PWSTR *ppwzFriendlyName)
{
	char name[PH_NAME_BYTES_MAX], friendly_name[PEER_TEXT_BYTES];
	HRESULT result;

	detail_clear();
	if (ppwzFriendlyName == NULL)
		return out_is_null("ppwzFriendlyName");
	*ppwzFriendlyName = NULL;
	result = identity_argument(pwzIdentity, name);
	if (SUCCEEDED(result))
		result = identity_friendly_name(name, friendly_name);
	return SUCCEEDED(result) ? text_result(friendly_name, ppwzFriendlyName) : result;
}

HRESULT WINAPI PeerIdentitySetFriendlyName(PCWSTR pwzIdentity, PCWSTR pwzFriendlyName)
{
	char name[PH_NAME_BYTES_MAX];
	char *friendly_name = NULL;
	HRESULT result;

	detail_clear();
	result = identity_argument(pwzIdentity, name);
	if (SUCCEEDED(result) && pwzFriendlyName != NULL)
		result = identity_text(
			"pwzFriendlyName", pwzFriendlyName, PEER_TEXT_UNITS_MAX, &friendly_name);
	if (SUCCEEDED(result))
		result = identity_rename(name, friendly_name);
	free(friendly_name);
	return result;
}

HRESULT WINAPI PeerIdentityDelete(PCWSTR pwzIdentity)
{
	char name[PH_NAME_BYTES_MAX];
	HRESULT result;

	detail_clear();
	if (pwzIdentity == NULL || pwzIdentity[0] == 0)
		return out_is_null("pwzIdentity");
	result = name_argument(pwzIdentity, name);
	return SUCCEEDED(result) ? store_identity_delete(name) : result;
}

/* The default identity, made when there is none. When two callers make one at once, the store calls
 * one of them the default, and both answer that one. */
static HRESULT default_or_new(char name[PH_NAME_BYTES_MAX])
{
	HRESULT result = identity_resolve("", name);

	if (result != PEER_E_NOT_FOUND)
		return result;
	result = identity_create("", "", name);
	return SUCCEEDED(result) ? identity_resolve("", name) : result;
}

HRESULT WINAPI PeerIdentityGetXML(PCWSTR pwzIdentity, PWSTR *ppwzIdentityXML)
{
	bool is_default = pwzIdentity == NULL || pwzIdentity[0] == 0;
	char name[PH_NAME_BYTES_MAX];
	char *xml;
	HRESULT result;

	detail_clear();
	if (ppwzIdentityXML == NULL)
		return out_is_null("ppwzIdentityXML");
	*ppwzIdentityXML = NULL;
	result = is_default ? default_or_new(name) : identity_argument(pwzIdentity, name);
	if (SUCCEEDED(result))
		result = identity_to_xml(name, &xml);
	if (!is_default && (result == PEER_E_NOT_FOUND || result == E_INVALIDARG))
		return E_HANDLE; /* this function's word for an identity that is not one */
	return SUCCEEDED(result) ? text_result_free(xml, ppwzIdentityXML) : result;
}

HRESULT WINAPI PeerIdentityExport(PCWSTR pwzIdentity, PCWSTR pwzPassword, PWSTR *ppwzExportXML)
{
	char name[PH_NAME_BYTES_MAX];
	char *password = NULL, *xml = NULL;
	HRESULT result;

	detail_clear();
	if (ppwzExportXML == NULL)
		return out_is_null("ppwzExportXML");
	*ppwzExportXML = NULL;
	result = identity_text("pwzPassword", pwzPassword, IDENTITY_PASSWORD_UNITS_MAX, &password);
	if (SUCCEEDED(result))
		result = identity_argument(pwzIdentity, name);
	if (SUCCEEDED(result))
		result = identity_export(name, password, &xml);
	if (SUCCEEDED(result))
		result = text_result_free(xml, ppwzExportXML);
	secret_free(password);
	return result;
}

HRESULT WINAPI PeerIdentityImport(PCWSTR pwzImportXML, PCWSTR pwzPassword, PWSTR *ppwzIdentity)
{
	struct identity_draft draft = {.key = NULL};
	char *password = NULL;
	HRESULT result;

	detail_clear();
	if (ppwzIdentity == NULL)
		return out_is_null("ppwzIdentity");
	*ppwzIdentity = NULL;
	if (pwzImportXML == NULL)
		return out_is_null("pwzImportXML");
	result = identity_text("pwzPassword", pwzPassword, IDENTITY_PASSWORD_UNITS_MAX, &password);
	if (SUCCEEDED(result))
		result = identity_draft_import(&draft, pwzImportXML, password);
	if (SUCCEEDED(result))
		result = draft_result(&draft, ppwzIdentity);
	identity_draft_free(&draft);
	secret_free(password);
	return result;
}

HRESULT WINAPI PeerIdentityGetDefault(PWSTR *ppwzPeerName)
{
	char name[PH_NAME_BYTES_MAX];
	HRESULT result;

	detail_clear();
	if (ppwzPeerName == NULL)
		return out_is_null("ppwzPeerName");
	*ppwzPeerName = NULL;
	result = identity_resolve("", name);
	return SUCCEEDED(result) ? text_result(name, ppwzPeerName) : result;
}

/* ---- lists ------------------------------------------------------------------------------ */

static void *pair_fill(struct block *block, const void *source)
{
	const struct store_name_pair *from = source;
	PEER_NAME_PAIR *to = block_take(block, sizeof(*to));
	WCHAR *name = block_text(block, from->name);
	WCHAR *friendly_name = block_text(block, from->friendly_name);

	if (to == NULL)
		return NULL;
	to->dwSize = sizeof(*to);
	to->pwzPeerName = name;
	to->pwzFriendlyName = friendly_name;
	return to;
}

static const struct enumeration_type pair_type = {
	.scope = ENUMERATION_IDENTITY,
	.item_bytes = sizeof(struct store_name_pair),
	.fill = pair_fill,
};

static HRESULT pairs_enumerate(struct store_name_pair *pairs, uint32_t count, HPEERENUM *handle)
{
	int status = enumeration_create(&pair_type, pairs, count, handle);

	return status < 0 ? E_OUTOFMEMORY : S_OK; /* also when the handle table is full */
}

HRESULT WINAPI PeerEnumIdentities(HPEERENUM *phPeerEnum)
{
	struct store_name_pair *pairs;
	uint32_t count;
	HRESULT result;

	detail_clear();
	if (phPeerEnum == NULL)
		return out_is_null("phPeerEnum");
	*phPeerEnum = NULL;
	result = store_identities(&pairs, &count);
	return SUCCEEDED(result) ? pairs_enumerate(pairs, count, phPeerEnum) : result;
}

HRESULT WINAPI PeerEnumGroups(PCWSTR pwzIdentity, HPEERENUM *phPeerEnum)
{
	char name[PH_NAME_BYTES_MAX];
	struct store_name_pair *pairs;
	uint32_t count;
	HRESULT result;

	detail_clear();
	if (phPeerEnum == NULL)
		return out_is_null("phPeerEnum");
	*phPeerEnum = NULL;
	result = identity_argument(pwzIdentity, name);
	if (SUCCEEDED(result))
		result = store_groups(name, &pairs, &count);
	return SUCCEEDED(result) ? pairs_enumerate(pairs, count, phPeerEnum) : result;
}

/* ---- names and home ---------------------------------------------------------------------- */

HRESULT WINAPI PeerCreatePeerName(PCWSTR pwzIdentity, PCWSTR pwzClassifier, PWSTR *ppwzPeerName)
{
	char identity[PH_NAME_BYTES_MAX] = "0.";
	char classifier[PH_NAME_BYTES_MAX] = "";
	char authority[PEER_AUTHORITY_BYTES] = "0";
	char name[PH_NAME_BYTES_MAX];

	detail_clear();
	if (ppwzPeerName == NULL)
		return out_is_null("ppwzPeerName");
	*ppwzPeerName = NULL;
	if (pwzIdentity == NULL && pwzClassifier == NULL)
		return detail_fail(E_INVALIDARG, "pwzIdentity and pwzClassifier are both NULL");
	if (pwzIdentity != NULL &&
		(text_utf8_copy(pwzIdentity, identity, sizeof(identity)) < 0 ||
			!peer_name_is_valid(identity)))
		return detail_fail(E_INVALIDARG, "pwzIdentity is not a peer name");
	if (pwzClassifier == NULL)
		return text_result(identity, ppwzPeerName);
	if (text_utf8_copy(pwzClassifier, classifier, sizeof(classifier)) < 0 ||
		!peer_classifier_is_valid(classifier))
		return detail_fail(E_INVALIDARG, "pwzClassifier is malformed or over %u units",
			PEER_CLASSIFIER_UNITS_MAX);
	if (peer_name_is_secure(identity) && peer_name_authority(identity, authority) < 0)
		return E_UNEXPECTED;
	if (peer_name_make(authority, classifier, name) < 0)
		return E_UNEXPECTED;
	return text_result(name, ppwzPeerName);
}

HRESULT PeerhubSetHome(const char *directory)
{
	detail_clear();
	return store_home_set(directory);
}

HRESULT PeerhubGetHome(char *directory, size_t bytes)
{
	detail_clear();
	if (directory == NULL || bytes == 0)
		return detail_fail(E_INVALIDARG, "directory is NULL or has no bytes");
	return store_home(directory, bytes);
}
