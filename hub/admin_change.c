/*
 * admin_change.c: see admin_change.h.
 */
#include "admin_change.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drain.h"
#include "log.h"
#include "loop.h"
#include "names.h"
#include "p2p.h"
#include "peerhub/extras.h"
#include "text.h"

#define DAY_MS 86400000u
#define GROUPS_MAX 10000u /* of one store */
#define LISTED_MAX 40000u /* revocations of one answer */

static struct {
	pthread_mutex_t lock;
	uint64_t grace_ms, over_ms, retry_after_ms;
} change = {.lock = PTHREAD_MUTEX_INITIALIZER};

static json_t *fail(const char *error, const char *text)
{
	char *clean = text_escape(text, strlen(text), false);
	json_t *answer = NULL;

	if (clean != NULL)
		answer = json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error, "text", clean);
	free(clean);
	return answer;
}

static json_t *done(json_t *result)
{
	return result != NULL ? json_pack("{s:b, s:o}", "ok", 1, "result", result) : NULL;
}

/* ---- drain --------------------------------------------------------------------------------- */

void admin_change_configure(uint64_t grace_ms, uint64_t over_ms, uint64_t retry_after_ms)
{
	pthread_mutex_lock(&change.lock);
	change.grace_ms = grace_ms;
	change.over_ms = over_ms;
	change.retry_after_ms = retry_after_ms;
	pthread_mutex_unlock(&change.lock);
}

static struct drain_wish wish_default(void)
{
	struct drain_wish wish = {.text = "the hub is draining"};

	pthread_mutex_lock(&change.lock);
	wish.grace_ms = change.grace_ms;
	wish.over_ms = change.over_ms;
	wish.retry_after_ms = change.retry_after_ms;
	pthread_mutex_unlock(&change.lock);
	return wish;
}

void admin_change_drain_for_stop(void)
{
	struct drain_wish wish = wish_default();

	wish.is_for_stop = true;
	drain_ask(&wish);
}

json_t *admin_change_drain_json(void)
{
	struct drain_progress progress;
	uint64_t now_ms = loop_now_ms();

	drain_look(&progress);
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "state",
		drain_state_name(progress.state), "stop", progress.is_for_stop, "told",
		(json_int_t)progress.told, "untold", (json_int_t)progress.untold, "total",
		(json_int_t)progress.total, "closed", (json_int_t)progress.closed, "left",
		(json_int_t)progress.left, "reset", (json_int_t)progress.reset, "ends_in_ms",
		progress.end_ms > now_ms ? (json_int_t)(progress.end_ms - now_ms) : 0, "failure",
		progress.failure);
}

static bool time_argument(json_t *arguments, const char *name, uint64_t *ms)
{
	json_t *value = json_object_get(arguments, name);

	if (value == NULL)
		return true;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		json_integer_value(value) > (json_int_t)DAY_MS)
		return false;
	*ms = (uint64_t)json_integer_value(value);
	return true;
}

static json_t *call_drain(json_t *arguments)
{
	struct drain_wish wish = wish_default();
	json_t *text = json_object_get(arguments, "text"),
	       *stop = json_object_get(arguments, "stop");

	if (!time_argument(arguments, "grace_ms", &wish.grace_ms) ||
		!time_argument(arguments, "over_ms", &wish.over_ms) ||
		!time_argument(arguments, "retry_after_ms", &wish.retry_after_ms))
		return fail("bad_argument",
			"\"grace_ms\", \"over_ms\" and \"retry_after_ms\" are numbers from 0 to 86400000");
	if (text != NULL &&
		(!json_is_string(text) || json_string_length(text) > PH_TEXT_BYTES_MAX ||
			json_string_length(text) != strlen(json_string_value(text))))
		return fail("bad_argument", "\"text\" is a text of at most 128 bytes");
	if (stop != NULL && !json_is_boolean(stop))
		return fail("bad_argument", "\"stop\" must be true or false");
	if (text != NULL)
		strcpy(wish.text, json_string_value(text));
	wish.is_for_stop = json_is_true(stop);
	drain_ask(&wish);
	admin_wish(ADMIN_DRAIN);
	LOG(CONFIG_LOG_INFO, "admin_drain", LOG_N("grace_ms", wish.grace_ms),
		LOG_N("over_ms", wish.over_ms), LOG_N("retry_after_ms", wish.retry_after_ms));
	return done(json_pack("{s:s}", "drain", "asked for: see status"));
}

static json_t *call_undrain(void)
{
	drain_cancel();
	admin_wish(ADMIN_DRAIN);
	LOG(CONFIG_LOG_INFO, "admin_undrain", LOG_T("text", ""));
	return done(json_pack("{s:s}", "undrain", "asked for: see status"));
}

/* ---- revocation ---------------------------------------------------------------------------- */

/* The groups that are meant: one, or all of the hub's identity. Each for free(). */
struct groups {
	char **names;
	size_t count;
};

static void groups_fini(struct groups *groups)
{
	while (groups->count > 0)
		free(groups->names[--groups->count]);
	free(groups->names);
}

static HRESULT groups_list(const char *identity, struct groups *groups)
{
	WCHAR *wide = names_wide(identity);
	struct names_list list = {0};
	HPEERENUM enumeration;
	HRESULT result = E_OUTOFMEMORY;

	if (wide != NULL)
		result = PeerEnumGroups(wide, &enumeration);
	free(wide);
	if (SUCCEEDED(result))
		result = names_take_all(enumeration, &list);
	if (FAILED(result))
		return result;
	groups->names = calloc(list.count + 1, sizeof(*groups->names));
	for (ULONG i = 0; groups->names != NULL && i < list.count && i < GROUPS_MAX; i++) {
		groups->names[groups->count] =
			names_narrow(((PEER_NAME_PAIR *)list.items[i])->pwzPeerName);
		if (groups->names[groups->count] != NULL)
			groups->count++;
	}
	result = groups->names != NULL && groups->count == list.count ? S_OK : E_OUTOFMEMORY;
	PeerFreeData(list.items);
	return result;
}

/* NULL, or what is wrong. */
static json_t *groups_choose(
	const struct admin_options *options, json_t *arguments, struct groups *groups)
{
	json_t *group = json_object_get(arguments, "group");
	HRESULT result;

	if (group == NULL) {
		result = groups_list(options->identity, groups);
		return SUCCEEDED(result) ? NULL : fail("failed", PeerhubResultName(result));
	}
	if (!json_is_string(group))
		return fail("bad_argument", "\"group\" is the peer name of a group");
	groups->names = calloc(1, sizeof(*groups->names));
	if (groups->names != NULL)
		groups->names[0] = strdup(json_string_value(group));
	groups->count = groups->names != NULL && groups->names[0] != NULL;
	return groups->count == 1 ? NULL : fail("no_memory", "out of memory");
}

static json_t *outcome_json(const char *group, HRESULT result, uint64_t closed)
{
	char *clean = FAILED(result)
		? text_escape(PeerhubLastErrorText(), strlen(PeerhubLastErrorText()), false)
		: NULL;
	json_t *json = json_pack("{s:s, s:b, s:s, s:s, s:I}", "group", group, "done",
		SUCCEEDED(result), "result", PeerhubResultName(result), "text",
		clean != NULL ? clean : "", "closed", (json_int_t)closed);

	free(clean);
	return json;
}

/* In each group that is meant; done where it could be, and an error when it was done nowhere. */
static json_t *change_each(
	const struct admin_options *options, json_t *arguments, bool is_revocation)
{
	json_t *identity = json_object_get(arguments, "identity");
	json_t *until = json_object_get(arguments, "until");
	json_t *list = json_array(), *wrong;
	struct groups groups = {0};
	HRESULT last = PEER_E_NOT_FOUND;
	char why[256] = "the hub's identity is in no group";
	bool any = false;

	if (list == NULL)
		return NULL;
	if (!json_is_string(identity) ||
		(until != NULL && (!json_is_integer(until) || json_integer_value(until) < 0))) {
		json_decref(list);
		return fail("bad_argument",
			"\"identity\" is a peer name or its 40 digits, \"until\" seconds since 1970");
	}
	wrong = groups_choose(options, arguments, &groups);
	for (size_t i = 0; wrong == NULL && i < groups.count; i++) {
		uint64_t closed = 0;

		last = is_revocation
			? PeerhubRevoke(options->identity, groups.names[i],
				  json_string_value(identity),
				  until != NULL ? json_integer_value(until) : 0, &closed)
			: PeerhubUnrevoke(
				  options->identity, groups.names[i], json_string_value(identity));
		(void)json_array_append_new(list, outcome_json(groups.names[i], last, closed));
		any = any || SUCCEEDED(last);
		if (FAILED(last))
			(void)!snprintf(why, sizeof(why), "%s", PeerhubLastErrorText());
		else
			LOG(CONFIG_LOG_INFO, is_revocation ? "revoked" : "unrevoked",
				LOG_T("identity", json_string_value(identity)),
				LOG_T("group", groups.names[i]), LOG_N("closed", closed));
	}
	groups_fini(&groups);
	if (wrong == NULL && any)
		return done(json_pack("{s:o}", "groups", list));
	json_decref(list);
	if (wrong != NULL)
		return wrong;
	return fail(last == E_INVALIDARG	   ? "bad_argument"
			: last == PEER_E_NOT_FOUND ? "not_found"
						   : "failed",
		why[0] != '\0' ? why : PeerhubResultName(last));
}

struct listing {
	json_t *list;
	const char *group;
	bool failed;
};

static int listing_visit(void *context, const struct peerhub_revocation *revocation)
{
	struct listing *listing = context;

	listing->failed = json_array_size(listing->list) >= LISTED_MAX ||
		json_array_append_new(listing->list,
			json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b}", "revoked",
				revocation->revoked, "group", listing->group, "signer",
				revocation->signer, "by",
				revocation->by_group ? "group" : "administrator", "since",
				(json_int_t)revocation->since_s, "until",
				(json_int_t)revocation->until_s, "sequence",
				(json_int_t)revocation->sequence, "in_force",
				revocation->is_in_force)) < 0;
	return listing->failed;
}

static json_t *call_revocations(const struct admin_options *options, json_t *arguments)
{
	struct listing listing = {.list = json_array()};
	struct groups groups = {0};
	json_t *wrong;
	HRESULT result = S_OK;

	if (listing.list == NULL)
		return NULL;
	wrong = groups_choose(options, arguments, &groups);
	for (size_t i = 0;
		wrong == NULL && SUCCEEDED(result) && !listing.failed && i < groups.count; i++) {
		listing.group = groups.names[i];
		result = PeerhubRevocations(groups.names[i], listing_visit, &listing);
	}
	if (wrong == NULL && FAILED(result))
		wrong = fail(
			result == E_INVALIDARG ? "bad_argument" : "failed", PeerhubLastErrorText());
	if (wrong == NULL && listing.failed)
		wrong = fail("no_memory", "out of memory, or too many: name a group");
	groups_fini(&groups);
	if (wrong == NULL)
		return done(json_pack("{s:o}", "revocations", listing.list));
	json_decref(listing.list);
	return wrong;
}

json_t *admin_change(
	const struct admin_options *options, const char *call, json_t *arguments, bool *is_known)
{
	*is_known = true;
	if (strcmp(call, "drain") == 0)
		return call_drain(arguments);
	if (strcmp(call, "undrain") == 0)
		return call_undrain();
	if (strcmp(call, "revoke") == 0)
		return change_each(options, arguments, true);
	if (strcmp(call, "unrevoke") == 0)
		return change_each(options, arguments, false);
	if (strcmp(call, "revocations") == 0)
		return call_revocations(options, arguments);
	*is_known = false;
	return NULL;
}
