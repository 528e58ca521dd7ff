/* Enumerations: the four public functions over snapshots made of plain names. */
#include "api/enumeration.h"

#include "api/handle.h"
#include "api/text.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "failing.h"

struct name {
	char *text;
	size_t extra_bytes; /* asked for beside the text */
};

static atomic_uint freed;

static void *name_fill(struct block *block, const void *source)
{
	const struct name *from = source;
	PEER_NAME_PAIR *to = block_take(block, sizeof(*to));
	WCHAR *text = block_text(block, from->text);

	block_take(block, from->extra_bytes);
	if (to != NULL)
		*to = (PEER_NAME_PAIR){sizeof(*to), text, text};
	return to;
}

static void name_fini(void *item)
{
	struct name *name = item;

	free(name->text);
	atomic_fetch_add(&freed, 1);
}

static const struct enumeration_type name_type = {
	ENUMERATION_IDENTITY, sizeof(struct name), name_fill, name_fini};
static const struct enumeration_type group_type = {
	ENUMERATION_GROUP, sizeof(struct name), name_fill, name_fini};

static struct name *names_make(uint32_t count)
{
	struct name *names = calloc(count > 0 ? count : 1, sizeof(*names));

	assert_non_null(names);
	for (uint32_t index = 0; index < count; index++) {
		char text[32];

		snprintf(text, sizeof(text), "0.name %u", index);
		names[index].text = strdup(text);
		assert_non_null(names[index].text);
	}
	return names;
}

static HPEERENUM names_enumerate(const struct enumeration_type *type, uint32_t count)
{
	HPEERENUM enumeration;

	assert_int_equal(enumeration_create(type, names_make(count), count, &enumeration), 0);
	assert_non_null(enumeration);
	return enumeration;
}

static void expect_name(const void *item, unsigned index)
{
	const PEER_NAME_PAIR *pair = item;
	char text[32];
	char got[32];

	snprintf(text, sizeof(text), "0.name %u", index);
	assert_int_equal(text_utf8_copy(pair->pwzPeerName, got, sizeof(got)), 0);
	assert_string_equal(got, text);
	assert_int_equal(pair->dwSize, sizeof(*pair));
}

/* Five items in steps of two; the last step is shorter; then the end, again and again. */
static void enumeration_in_steps(void **state)
{
	HPEERENUM enumeration = names_enumerate(&name_type, 5);
	static const ULONG steps[] = {2, 2, 1, 0, 0};
	unsigned seen = 0;
	ULONG count;

	(void)state;
	for (int step = 0; step < 5; step++) {
		PVOID *items = (PVOID *)1;

		count = 2;
		assert_int_equal(PeerGetNextItem(enumeration, &count, &items), S_OK);
		assert_int_equal(count, steps[step]);
		if (count == 0)
			assert_null(items);
		for (ULONG index = 0; index < count; index++)
			expect_name(items[index], seen++);
		PeerFreeData(items);
		/* The total does not go down. */
		assert_int_equal(PeerGetItemCount(enumeration, &count), S_OK);
		assert_int_equal(count, 5);
	}
	assert_int_equal(seen, 5);
	assert_int_equal(PeerEndEnumeration(enumeration), S_OK);
}

/* Items live on after the enumeration ended, until their array is freed. */
static void enumeration_ended_before_items_are_used(void **state)
{
	HPEERENUM enumeration = names_enumerate(&name_type, 3);
	size_t blocks = block_count();
	unsigned freed_before = freed;
	ULONG count = 100;
	PVOID *items;

	(void)state;
	assert_int_equal(PeerGetNextItem(enumeration, &count, &items), S_OK);
	assert_int_equal(count, 3);
	assert_int_equal(PeerEndEnumeration(enumeration), S_OK);
	assert_int_equal(freed - freed_before, 3);
	for (ULONG index = 0; index < 3; index++)
		expect_name(items[index], index);
	assert_int_equal(block_count(), blocks + 1);
	PeerFreeData(items);
	assert_int_equal(block_count(), blocks);
}

/* Asking for nothing gets nothing and takes nothing. */
static void enumeration_count_zero(void **state)
{
	HPEERENUM enumeration = names_enumerate(&name_type, 1);
	PVOID *items = (PVOID *)1;
	ULONG count = 0;

	(void)state;
	assert_int_equal(PeerGetNextItem(enumeration, &count, &items), S_OK);
	assert_int_equal(count, 0);
	assert_null(items);
	count = UINT32_MAX;
	assert_int_equal(PeerGetNextItem(enumeration, &count, &items), S_OK);
	assert_int_equal(count, 1);
	PeerFreeData(items);
	assert_int_equal(PeerEndEnumeration(enumeration), S_OK);
}

static void enumeration_empty(void **state)
{
	PVOID *items = (PVOID *)1;
	ULONG count = 1;
	HPEERENUM enumeration;

	(void)state;
	assert_int_equal(enumeration_create(&name_type, NULL, 0, &enumeration), 0);
	assert_int_equal(PeerGetNextItem(enumeration, &count, &items), S_OK);
	assert_int_equal(count, 0);
	assert_null(items);
	count = 7;
	assert_int_equal(PeerGetItemCount(enumeration, &count), S_OK);
	assert_int_equal(count, 0);
	assert_int_equal(PeerEndEnumeration(enumeration), S_OK);
}

static void enumeration_invalid_arguments(void **state)
{
	HPEERENUM enumeration = names_enumerate(&name_type, 1);
	PVOID *items = (PVOID *)1;
	ULONG count = 1;

	(void)state;
	assert_int_equal(PeerGetItemCount(enumeration, NULL), E_INVALIDARG);
	assert_int_equal(PeerGetNextItem(enumeration, NULL, &items), E_INVALIDARG);
	assert_null(items);
	assert_int_equal(PeerGetNextItem(enumeration, &count, NULL), E_INVALIDARG);
	assert_int_equal(count, 0);
	assert_int_equal(PeerEndEnumeration(enumeration), S_OK);
}

/* NULL, ended, and of another kind: E_INVALIDARG from each function, out-parameters cleared. */
static void enumeration_bad_handles(void **state)
{
	HPEERENUM ended = names_enumerate(&name_type, 1);
	HANDLE event = CreateEventW(NULL, FALSE, FALSE, NULL);
	HPEERENUM handles[5];

	(void)state;
	assert_int_equal(PeerEndEnumeration(ended), S_OK);
	handles[0] = NULL;
	handles[1] = ended;
	handles[2] = event;
	handles[3] = INVALID_HANDLE_VALUE;
	handles[4] = &ended;
	for (int index = 0; index < 5; index++) {
		PVOID *items = (PVOID *)1;
		ULONG count = 5;

		assert_int_equal(PeerGetItemCount(handles[index], &count), E_INVALIDARG);
		assert_int_equal(count, 0);
		count = 5;
		assert_int_equal(PeerGetNextItem(handles[index], &count, &items), E_INVALIDARG);
		assert_int_equal(count, 0);
		assert_null(items);
		assert_int_equal(PeerEndEnumeration(handles[index]), E_INVALIDARG);
	}
	assert_true(CloseHandle(event));
}

/* When the block cannot be made nothing is delivered, and nothing is skipped: a smaller step can go
 * on from there. */
static void enumeration_out_of_memory(void **state)
{
	struct name *names = names_make(3);
	PVOID *items = (PVOID *)1;
	HPEERENUM enumeration;
	ULONG count = 3;

	(void)state;
	names[2].extra_bytes = BLOCK_BYTES_MAX;
	assert_int_equal(enumeration_create(&name_type, names, 3, &enumeration), 0);
	assert_int_equal(PeerGetNextItem(enumeration, &count, &items), E_OUTOFMEMORY);
	assert_int_equal(count, 0);
	assert_null(items);
	count = 2;
	assert_int_equal(PeerGetNextItem(enumeration, &count, &items), S_OK);
	assert_int_equal(count, 2);
	expect_name(items[0], 0);
	PeerFreeData(items);
	assert_int_equal(PeerEndEnumeration(enumeration), S_OK);
}

/* The last PeerGroupShutdown ends those of groups and no others. */
static void enumeration_end_of_scope(void **state)
{
	HPEERENUM of_group = names_enumerate(&group_type, 2);
	HPEERENUM of_identity = names_enumerate(&name_type, 2);
	ULONG count;

	(void)state;
	enumeration_end_all(ENUMERATION_GROUP);
	assert_int_equal(PeerGetItemCount(of_group, &count), E_INVALIDARG);
	assert_int_equal(PeerGetItemCount(of_identity, &count), S_OK);
	assert_int_equal(PeerEndEnumeration(of_identity), S_OK);
}

static void on_filler_destroy(void *object)
{
	(void)object;
}

static bool on_filler_end(void *context, HANDLE handle, void *object)
{
	(void)context;
	(void)object;
	if (handle_revoke(HANDLE_ENUMERATION, handle))
		handle_put(handle);
	return true;
}

/* With a full table the items are freed and the code says so. */
static void enumeration_table_full(void **state)
{
	static int filler;
	unsigned freed_before = freed;
	HPEERENUM enumeration = &filler;
	HANDLE handle;

	(void)state;
	while (handle_create(HANDLE_ENUMERATION, &filler, on_filler_destroy, &handle) == 0)
		;
	assert_int_equal(enumeration_create(&name_type, names_make(2), 2, &enumeration), -EMFILE);
	assert_null(enumeration);
	assert_int_equal(freed - freed_before, 2);
	handle_visit(HANDLE_ENUMERATION, on_filler_end, NULL);
	assert_int_equal(handle_count(HANDLE_ENUMERATION), 0);
}

#define SHARED_ITEMS 2000u

struct sharing {
	HPEERENUM enumeration;
	atomic_uint taken[SHARED_ITEMS];
};

static void *take_all(void *context)
{
	struct sharing *sharing = context;
	ULONG count = 3;

	while (count > 0) {
		PVOID *items;

		count = 3;
		assert_int_equal(PeerGetNextItem(sharing->enumeration, &count, &items), S_OK);
		for (ULONG index = 0; index < count; index++) {
			char text[32];

			assert_int_equal(
				text_utf8_copy(((PEER_NAME_PAIR *)items[index])->pwzPeerName, text,
					sizeof(text)),
				0);
			atomic_fetch_add(&sharing->taken[strtoul(text + 7, NULL, 10)], 1);
		}
		PeerFreeData(items);
	}
	return NULL;
}

/* Threads that share an enumeration get each item once. */
static void enumeration_shared_by_threads(void **state)
{
	static struct sharing sharing;
	pthread_t threads[3];

	(void)state;
	sharing.enumeration = names_enumerate(&name_type, SHARED_ITEMS);
	for (int index = 0; index < 3; index++)
		assert_int_equal(pthread_create(&threads[index], NULL, take_all, &sharing), 0);
	for (int index = 0; index < 3; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	for (unsigned index = 0; index < SHARED_ITEMS; index++)
		assert_int_equal(sharing.taken[index], 1);
	assert_int_equal(PeerEndEnumeration(sharing.enumeration), S_OK);
}

/* Runs first: no slots for handles yet. The items are freed whichever allocation fails. */
static void enumeration_no_memory(void **state)
{
	HPEERENUM enumeration;

	(void)state;
	for (unsigned nth = 1; nth <= 2; nth++) {
		struct name *names = names_make(2);
		unsigned freed_before = freed;

		enumeration = names;
		failing_in = nth;
		assert_int_equal(enumeration_create(&name_type, names, 2, &enumeration), -ENOMEM);
		assert_null(enumeration);
		assert_int_equal(freed - freed_before, 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enumeration_no_memory),
		cmocka_unit_test(enumeration_in_steps),
		cmocka_unit_test(enumeration_ended_before_items_are_used),
		cmocka_unit_test(enumeration_count_zero),
		cmocka_unit_test(enumeration_empty),
		cmocka_unit_test(enumeration_invalid_arguments),
		cmocka_unit_test(enumeration_bad_handles),
		cmocka_unit_test(enumeration_out_of_memory),
		cmocka_unit_test(enumeration_end_of_scope),
		cmocka_unit_test(enumeration_table_full),
		cmocka_unit_test(enumeration_shared_by_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
