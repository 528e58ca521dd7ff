/*
 * What a worker tells its parent, and what the parent believes the store to hold. A record goes through a
 * pipe in one write: INTENT before an operation, DONE after it, so that at a death the parent knows
 * which operation was under way and with what.
 */
#ifndef PEERHUB_TESTS_CRASH_RECORD_H
#define PEERHUB_TESTS_CRASH_RECORD_H

#include "peerhub.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define RECORD_TEXT_BYTES 48u

#define OPERATIONS(X)                         \
	X(IDENTITY_CREATE, "create identity") \
	X(IDENTITY_DELETE, "delete identity") \
	X(IDENTITY_RENAME, "rename identity") \
	X(IDENTITY_IMPORT, "import identity") \
	X(GROUP_CREATE, "create group")       \
	X(GROUP_DELETE, "delete group")       \
	X(PROPERTIES_SET, "set properties")   \
	X(INVITE, "invite or issue")          \
	X(JOIN, "join")

enum operation {
#define OPERATION_INDEX(name, text) OPERATION_##name,
	OPERATIONS(OPERATION_INDEX)
#undef OPERATION_INDEX
	OPERATION_COUNT,
};

enum record_phase {
	RECORD_INTENT = 1,
	RECORD_DONE = 2,
	RECORD_FAILED = 3, /* it answered an error, so it must have changed nothing */
};

struct record {
	uint32_t phase, operation;
	char identity[PH_NAME_BYTES_MAX]; /* whose; of a creation: "" in the intent */
	char group[PH_NAME_BYTES_MAX]; /* "" in the intent of a creation */
	char text[RECORD_TEXT_BYTES]; /* friendly name or comment, drawn anew for each operation */
};
_Static_assert(sizeof(struct record) <= PIPE_BUF, "a record is written whole or not at all");

const char *operation_name(uint32_t operation);

/* ---- the store as it should be, or as it was found ------------------------------------------ */

#define MODEL_IDENTITIES_MAX 64u
#define MODEL_MEMBERSHIPS_MAX 256u
#define MODEL_ISSUED_MAX 1024u

struct model_identity {
	char name[PH_NAME_BYTES_MAX];
	char text[RECORD_TEXT_BYTES]; /* friendly name */
};
struct model_membership {
	char identity[PH_NAME_BYTES_MAX];
	char group[PH_NAME_BYTES_MAX];
	char text[RECORD_TEXT_BYTES]; /* the group's friendly name */
	bool is_creator;
};
struct model_issued {
	char group[PH_NAME_BYTES_MAX];
	char subject[PH_NAME_BYTES_MAX];
};
struct model {
	uint32_t identity_count, membership_count, issued_count;
	struct model_identity identities[MODEL_IDENTITIES_MAX];
	struct model_membership memberships[MODEL_MEMBERSHIPS_MAX];
	struct model_issued issued[MODEL_ISSUED_MAX];
};

/* What an acknowledged operation changes. False: it does not fit what the model holds. */
bool model_apply(struct model *model, const struct record *record);
/*
 * Compare what was found with what should be there. pending: the operations under way at the deaths
 * (phase 0: none), each of which may have happened or not, as a whole. False: said on stderr.
 */
bool model_compare(const struct model *should, const struct model *found,
	const struct record *pending, uint32_t pending_count);

/* The same without any operation under way, and without a word; and the same but for the friendly names of
 * groups and what was issued, of which the store has one copy that nobody signs. */
bool model_same(const struct model *should, const struct model *found);
bool model_compare_but_group_texts(const struct model *should, const struct model *found);

#endif
