/* The store as it should be; see record.h. */
#include "tests/crash/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *operation_name(uint32_t operation)
{
	static const char *const names[] = {
#define OPERATION_NAME(name, text) text,
		OPERATIONS(OPERATION_NAME)
#undef OPERATION_NAME
	};

	return operation < OPERATION_COUNT ? names[operation] : "?";
}

/* ---- looking ------------------------------------------------------------------------------- */

static struct model_identity *identity_find(struct model *model, const char *name)
{
	for (uint32_t i = 0; i < model->identity_count; i++)
		if (strcmp(model->identities[i].name, name) == 0)
			return &model->identities[i];
	return NULL;
}

/* identity NULL: any membership of the group. */
static struct model_membership *membership_find(
	struct model *model, const char *identity, const char *group)
{
	for (uint32_t i = 0; i < model->membership_count; i++) {
		struct model_membership *membership = &model->memberships[i];

		if (strcmp(membership->group, group) == 0 &&
			(identity == NULL || strcmp(membership->identity, identity) == 0))
			return membership;
	}
	return NULL;
}

static bool issued_has(const struct model *model, const char *group, const char *subject)
{
	for (uint32_t i = 0; i < model->issued_count; i++)
		if (strcmp(model->issued[i].group, group) == 0 &&
			strcmp(model->issued[i].subject, subject) == 0)
			return true;
	return false;
}

/* ---- applying ------------------------------------------------------------------------------ */

static bool apply_identity_add(struct model *model, const struct record *record)
{
	struct model_identity *identity = &model->identities[model->identity_count];

	if (identity_find(model, record->identity) != NULL ||
		model->identity_count == MODEL_IDENTITIES_MAX)
		return false;
	strcpy(identity->name, record->identity);
	strcpy(identity->text, record->text);
	model->identity_count++;
	return true;
}

static bool apply_identity_delete(struct model *model, const struct record *record)
{
	struct model_identity *identity = identity_find(model, record->identity);

	if (identity == NULL)
		return false;
	*identity = model->identities[--model->identity_count];
	return true;
}

static bool apply_identity_rename(struct model *model, const struct record *record)
{
	struct model_identity *identity = identity_find(model, record->identity);

	if (identity == NULL)
		return false;
	strcpy(identity->text, record->text);
	return true;
}

static bool apply_membership_add(struct model *model, const struct record *record, bool is_creator)
{
	struct model_membership *membership = &model->memberships[model->membership_count];
	const struct model_membership *other = membership_find(model, NULL, record->group);

	if (membership_find(model, record->identity, record->group) != NULL ||
		model->membership_count == MODEL_MEMBERSHIPS_MAX || (other == NULL) != is_creator)
		return false;
	strcpy(membership->identity, record->identity);
	strcpy(membership->group, record->group);
	strcpy(membership->text, is_creator ? record->text : other->text);
	membership->is_creator = is_creator;
	model->membership_count++;
	return true;
}

/* With the last membership goes the group's row, and with it what was issued for the group. */
static bool apply_membership_delete(struct model *model, const struct record *record)
{
	struct model_membership *membership =
		membership_find(model, record->identity, record->group);

	if (membership == NULL)
		return false;
	*membership = model->memberships[--model->membership_count];
	if (membership_find(model, NULL, record->group) != NULL)
		return true;
	for (uint32_t i = model->issued_count; i-- > 0;)
		if (strcmp(model->issued[i].group, record->group) == 0)
			model->issued[i] = model->issued[--model->issued_count];
	return true;
}

static bool apply_properties(struct model *model, const struct record *record)
{
	bool any = false;

	for (uint32_t i = 0; i < model->membership_count; i++) {
		if (strcmp(model->memberships[i].group, record->group) != 0)
			continue;
		strcpy(model->memberships[i].text, record->text);
		any = true;
	}
	return any;
}

static bool apply_issued(struct model *model, const struct record *record)
{
	struct model_issued *issued = &model->issued[model->issued_count];

	if (membership_find(model, NULL, record->group) == NULL)
		return false;
	if (issued_has(model, record->group, record->identity))
		return true;
	if (model->issued_count == MODEL_ISSUED_MAX)
		return false;
	strcpy(issued->group, record->group);
	strcpy(issued->subject, record->identity);
	model->issued_count++;
	return true;
}

bool model_apply(struct model *model, const struct record *record)
{
	switch ((enum operation)record->operation) {
	case OPERATION_IDENTITY_CREATE:
	case OPERATION_IDENTITY_IMPORT:
		return apply_identity_add(model, record);
	case OPERATION_IDENTITY_DELETE:
		return apply_identity_delete(model, record);
	case OPERATION_IDENTITY_RENAME:
		return apply_identity_rename(model, record);
	case OPERATION_GROUP_CREATE:
		return apply_membership_add(model, record, true);
	case OPERATION_GROUP_DELETE:
		return apply_membership_delete(model, record);
	case OPERATION_PROPERTIES_SET:
		return apply_properties(model, record);
	case OPERATION_INVITE:
		return apply_issued(model, record);
	case OPERATION_JOIN:
		return apply_membership_add(model, record, false);
	case OPERATION_COUNT:
		break;
	}
	return false;
}

/* ---- comparing ----------------------------------------------------------------------------- */

static bool identities_same(struct model *left, struct model *right)
{
	for (uint32_t i = 0; i < left->identity_count; i++) {
		const struct model_identity *identity = &left->identities[i];
		const struct model_identity *other = identity_find(right, identity->name);

		if (other == NULL || strcmp(identity->text, other->text) != 0)
			return false;
	}
	return left->identity_count == right->identity_count;
}

static bool memberships_same(struct model *left, struct model *right)
{
	for (uint32_t i = 0; i < left->membership_count; i++) {
		const struct model_membership *membership = &left->memberships[i];
		const struct model_membership *other =
			membership_find(right, membership->identity, membership->group);

		if (other == NULL || strcmp(membership->text, other->text) != 0 ||
			membership->is_creator != other->is_creator)
			return false;
	}
	return left->membership_count == right->membership_count;
}

static bool issued_same(const struct model *left, const struct model *right)
{
	for (uint32_t i = 0; i < left->issued_count; i++)
		if (!issued_has(right, left->issued[i].group, left->issued[i].subject))
			return false;
	return left->issued_count == right->issued_count;
}

/* A creation that was under way has a name only if it happened: the one with its text. */
static bool pending_name(struct record *record, const struct model *found)
{
	if (record->operation == OPERATION_IDENTITY_CREATE)
		for (uint32_t i = 0; i < found->identity_count; i++)
			if (strcmp(found->identities[i].text, record->text) == 0) {
				strcpy(record->identity, found->identities[i].name);
				return true;
			}
	if (record->operation == OPERATION_GROUP_CREATE)
		for (uint32_t i = 0; i < found->membership_count; i++)
			if (strcmp(found->memberships[i].text, record->text) == 0) {
				strcpy(record->group, found->memberships[i].group);
				return true;
			}
	return record->operation != OPERATION_IDENTITY_CREATE &&
		record->operation != OPERATION_GROUP_CREATE;
}

static bool same_with(struct model *expected, const struct model *should, struct model *found,
	const struct record *pending, uint32_t pending_count, uint32_t happened)
{
	*expected = *should;
	for (uint32_t i = 0; i < pending_count; i++) {
		struct record record = pending[i];

		if (!(happened & (1u << i)))
			continue;
		if (record.phase == 0 || !pending_name(&record, found) ||
			!model_apply(expected, &record))
			return false;
	}
	return identities_same(expected, found) && memberships_same(expected, found) &&
		issued_same(expected, found);
}

static void model_print(const char *what, const struct model *model)
{
	fprintf(stderr, "crash: %s: %u identities, %u memberships, %u issued\n", what,
		model->identity_count, model->membership_count, model->issued_count);
	for (uint32_t i = 0; i < model->identity_count; i++)
		fprintf(stderr, "  identity %.12s... '%s'\n", model->identities[i].name,
			model->identities[i].text);
	for (uint32_t i = 0; i < model->membership_count; i++)
		fprintf(stderr, "  %s %.12s... in %.12s... '%s'\n",
			model->memberships[i].is_creator ? "creator" : "member ",
			model->memberships[i].identity, model->memberships[i].group,
			model->memberships[i].text);
	for (uint32_t i = 0; i < model->issued_count; i++)
		fprintf(stderr, "  issued to %.12s... in %.12s...\n", model->issued[i].subject,
			model->issued[i].group);
}

bool model_compare(const struct model *should, const struct model *found,
	const struct record *pending, uint32_t pending_count)
{
	struct model *expected = malloc(sizeof(*expected));
	struct model *copy = malloc(sizeof(*copy));
	bool is_same = false;

	if (expected != NULL && copy != NULL) {
		*copy = *found;
		for (uint32_t happened = 0; happened < 1u << pending_count && !is_same; happened++)
			is_same =
				same_with(expected, should, copy, pending, pending_count, happened);
	}
	free(expected);
	free(copy);
	if (is_same)
		return true;
	model_print("acknowledged", should);
	model_print("found", found);
	for (uint32_t i = 0; i < pending_count; i++)
		if (pending[i].phase != 0)
			fprintf(stderr, "crash: under way: %s '%s' %.12s... %.12s...\n",
				operation_name(pending[i].operation), pending[i].text,
				pending[i].identity, pending[i].group);
	return false;
}

bool model_same(const struct model *should, const struct model *found)
{
	struct model *left = malloc(sizeof(*left)), *right = malloc(sizeof(*right));
	bool is_same = false;

	if (left != NULL && right != NULL) {
		*left = *should;
		*right = *found;
		is_same = identities_same(left, right) && memberships_same(left, right) &&
			issued_same(left, right);
	}
	free(left);
	free(right);
	return is_same;
}

bool model_compare_but_group_texts(const struct model *should, const struct model *found)
{
	struct model *copy = malloc(sizeof(*copy));
	bool is_same;

	if (copy == NULL)
		return false;
	*copy = *found;
	copy->issued_count = should->issued_count;
	memcpy(copy->issued, should->issued, sizeof(copy->issued));
	for (uint32_t i = 0; i < copy->membership_count; i++)
		for (uint32_t j = 0; j < should->membership_count; j++)
			if (strcmp(copy->memberships[i].group, should->memberships[j].group) == 0)
				strcpy(copy->memberships[i].text, should->memberships[j].text);
	is_same = model_same(should, copy);
	free(copy);
	return is_same;
}
