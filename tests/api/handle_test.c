/* Handles: found while live, by nobody else's kind, never again after revoke; then many threads at
 * once. `--seed N` repeats the random values. */
#include "api/handle.h"

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
#include <time.h>
#include <cmocka.h>

#include "failing.h"

static uint64_t seed;

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

struct object {
	atomic_int destroyed;
	HANDLE handle;
};

static void on_destroy(void *context)
{
	struct object *object = context;

	atomic_fetch_add(&object->destroyed, 1);
}

static void handle_end(enum handle_kind kind, HANDLE handle)
{
	assert_true(handle_revoke(kind, handle));
	handle_put(handle);
}

static void handle_life(void **state)
{
	struct object object = {0};
	uint32_t before = handle_count(HANDLE_GROUP);

	(void)state;
	assert_int_equal(handle_create(HANDLE_GROUP, &object, on_destroy, &object.handle), 0);
	assert_non_null(object.handle);
	assert_ptr_not_equal(object.handle, INVALID_HANDLE_VALUE);
	assert_int_equal(handle_count(HANDLE_GROUP), before + 1);
	assert_ptr_equal(handle_get(HANDLE_GROUP, object.handle), &object);
	handle_put(object.handle);
	assert_int_equal(object.destroyed, 0);
	handle_end(HANDLE_GROUP, object.handle);
	assert_int_equal(object.destroyed, 1);
	assert_int_equal(handle_count(HANDLE_GROUP), before);
}

/* A handle of one kind is nothing in the tables of the others. */
static void handle_of_wrong_kind(void **state)
{
	struct object object = {0};

	(void)state;
	assert_int_equal(handle_create(HANDLE_PEER_EVENT, &object, on_destroy, &object.handle), 0);
	assert_null(handle_get(HANDLE_GROUP, object.handle));
	assert_null(handle_get(HANDLE_ENUMERATION, object.handle));
	assert_false(handle_revoke(HANDLE_EVENT_OBJECT, object.handle));
	assert_false(handle_revoke(HANDLE_WAIT, object.handle));
	assert_int_equal(object.destroyed, 0);
	handle_end(HANDLE_PEER_EVENT, object.handle);
}

/* The slot is used again, the old handle is not. */
static void handle_stale(void **state)
{
	struct object first = {0}, second = {0};

	(void)state;
	assert_int_equal(handle_create(HANDLE_GROUP, &first, on_destroy, &first.handle), 0);
	handle_end(HANDLE_GROUP, first.handle);
	assert_int_equal(handle_create(HANDLE_GROUP, &second, on_destroy, &second.handle), 0);
	assert_ptr_not_equal(first.handle, second.handle);
	assert_null(handle_get(HANDLE_GROUP, first.handle));
	assert_false(handle_revoke(HANDLE_GROUP, first.handle));
	assert_ptr_equal(handle_get(HANDLE_GROUP, second.handle), &second);
	handle_put(second.handle);
	handle_end(HANDLE_GROUP, second.handle);
	assert_int_equal(first.destroyed, 1);
}

/* References outlive revoke, and only the last put destroys. */
static void handle_revoked_while_held(void **state)
{
	struct object object = {0};

	(void)state;
	assert_int_equal(handle_create(HANDLE_GROUP, &object, on_destroy, &object.handle), 0);
	assert_non_null(handle_get(HANDLE_GROUP, object.handle));
	assert_true(handle_revoke(HANDLE_GROUP, object.handle));
	assert_false(handle_revoke(HANDLE_GROUP, object.handle));
	assert_null(handle_get(HANDLE_GROUP, object.handle));
	handle_hold(object.handle);
	handle_put(object.handle);
	handle_put(object.handle);
	assert_int_equal(object.destroyed, 0);
	handle_put(object.handle);
	assert_int_equal(object.destroyed, 1);
}

static void handle_created_held(void **state)
{
	struct object object = {0};

	(void)state;
	assert_int_equal(handle_create_held(HANDLE_GROUP, &object, on_destroy, &object.handle), 0);
	handle_end(HANDLE_GROUP, object.handle);
	assert_int_equal(object.destroyed, 0);
	handle_put(object.handle);
	assert_int_equal(object.destroyed, 1);
}

/* Any 64-bit value can be looked up. */
static void handle_garbage(void **state)
{
	static const uint64_t values[] = {0, 1, 0x01, 0x100000000, 0x0100000000000000,
		0x01ffffff00000001, 0x0100000000000002, 0x7fffffffffffffff, 0x8000000000000000,
		UINT64_MAX};
	struct object object = {0};
	uint64_t random = seed;

	(void)state;
	assert_int_equal(handle_create(HANDLE_GROUP, &object, on_destroy, &object.handle), 0);
	for (int kind = HANDLE_GROUP; kind < HANDLE_KIND_COUNT; kind++)
		for (size_t index = 0; index < sizeof(values) / sizeof(values[0]); index++)
			if ((HANDLE)(uintptr_t)values[index] != object.handle)
				assert_null(handle_get(
					(enum handle_kind)kind, (HANDLE)(uintptr_t)values[index]));
	for (int round = 0; round < 100000; round++) {
		uint64_t value = random_next(&random);
		enum handle_kind kind = (enum handle_kind)(1 + value % (HANDLE_KIND_COUNT - 1));

		if (round % 2 == 0) /* near a true one */
			value = (uint64_t)(uintptr_t)object.handle ^ (uint64_t)1 << value % 64;
		if ((HANDLE)(uintptr_t)value == object.handle)
			continue;
		assert_null(handle_get(kind, (HANDLE)(uintptr_t)value));
		assert_false(handle_revoke(kind, (HANDLE)(uintptr_t)value));
	}
	handle_end(HANDLE_GROUP, object.handle);
}

struct visited {
	unsigned count;
	unsigned stop_at;
	HANDLE end; /* ended inside the visit */
};

static bool on_visit(void *context, HANDLE handle, void *object)
{
	struct visited *visited = context;

	assert_ptr_equal(((struct object *)object)->handle, handle);
	if (handle == visited->end)
		handle_end(HANDLE_ENUMERATION, handle);
	return ++visited->count != visited->stop_at;
}

/* Visiting holds a reference: the visitor may end what it is shown. */
static void handle_visit_all(void **state)
{
	struct object objects[5] = {0};
	struct visited visited = {0};

	(void)state;
	for (int index = 0; index < 5; index++)
		assert_int_equal(handle_create(HANDLE_ENUMERATION, &objects[index], on_destroy,
					 &objects[index].handle),
			0);
	visited.end = objects[2].handle;
	assert_int_equal(handle_visit(HANDLE_ENUMERATION, on_visit, &visited), 5);
	assert_int_equal(objects[2].destroyed, 1);
	visited = (struct visited){.stop_at = 2};
	assert_int_equal(handle_visit(HANDLE_ENUMERATION, on_visit, &visited), 2);
	for (int index = 0; index < 5; index++)
		if (index != 2)
			handle_end(HANDLE_ENUMERATION, objects[index].handle);
	assert_int_equal(handle_visit(HANDLE_ENUMERATION, on_visit, &visited), 0);
}

static void handle_table_full(void **state)
{
	HANDLE *handles = malloc(HANDLES_PER_KIND_MAX * sizeof(HANDLE));
	struct object object = {0};
	HANDLE one_more;

	(void)state;
	assert_non_null(handles);
	for (uint32_t index = 0; index < HANDLES_PER_KIND_MAX; index++)
		if (handle_create(HANDLE_WAIT, &object, on_destroy, &handles[index]) < 0)
			fail();
	assert_int_equal(handle_create(HANDLE_WAIT, &object, on_destroy, &one_more), -EMFILE);
	for (uint32_t index = 0; index < HANDLES_PER_KIND_MAX; index++)
		handle_end(HANDLE_WAIT, handles[index]);
	assert_int_equal(object.destroyed, HANDLES_PER_KIND_MAX);
	assert_int_equal(handle_create(HANDLE_WAIT, &object, on_destroy, &one_more), 0);
	handle_end(HANDLE_WAIT, one_more);
	free(handles);
}

/* ---- threads ---------------------------------------------------------------------------- */

#define THREADS 4
#define SHARED 64
#define ROUNDS 30000

static _Atomic(HANDLE) shared[SHARED];
static atomic_uint made, destroyed, revoked;

struct cell {
	uint64_t magic;
};
#define CELL_MAGIC 0x63656c6c63656c6cu

static void on_cell_destroy(void *context)
{
	struct cell *cell = context;

	assert_true(cell->magic == CELL_MAGIC);
	cell->magic = 0;
	free(cell);
	atomic_fetch_add(&destroyed, 1);
}

static void cell_replace(unsigned at)
{
	struct cell *cell = malloc(sizeof(*cell));
	HANDLE handle, old;

	if (cell == NULL)
		return;
	cell->magic = CELL_MAGIC;
	if (handle_create(HANDLE_GROUP, cell, on_cell_destroy, &handle) < 0) {
		free(cell);
		return;
	}
	atomic_fetch_add(&made, 1);
	old = atomic_exchange(&shared[at], handle);
	if (old != NULL && handle_revoke(HANDLE_GROUP, old)) {
		atomic_fetch_add(&revoked, 1);
		handle_put(old);
	}
}

static void *play(void *context)
{
	uint64_t random = seed ^ (uintptr_t)context;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t dice = random_next(&random);
		unsigned at = (dice >> 8) % SHARED;
		HANDLE handle = atomic_load(&shared[at]);
		struct cell *cell;

		if (dice % 4 == 0) {
			cell_replace(at);
			continue;
		}
		if (dice % 16 == 1 && handle != NULL && handle_revoke(HANDLE_GROUP, handle)) {
			atomic_fetch_add(&revoked, 1);
			handle_put(handle);
			continue;
		}
		cell = handle_get(HANDLE_GROUP, handle);
		if (cell == NULL)
			continue;
		assert_true(cell->magic == CELL_MAGIC);
		handle_put(handle);
	}
	return NULL;
}

/* Get, create and revoke race over the same slots: what is found is alive, each object is destroyed
 * once, each revoke has one winner. */
static void handle_many_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (size_t index = 0; index < THREADS; index++)
		assert_int_equal(pthread_create(&threads[index], NULL, play,
					 (void *)(uintptr_t)((index + 1) << 32)),
			0);
	for (size_t index = 0; index < THREADS; index++)
		assert_int_equal(pthread_join(threads[index], NULL), 0);
	for (unsigned at = 0; at < SHARED; at++) {
		HANDLE handle = atomic_load(&shared[at]);

		if (handle != NULL && handle_revoke(HANDLE_GROUP, handle)) {
			atomic_fetch_add(&revoked, 1);
			handle_put(handle);
		}
	}
	assert_int_equal(made, destroyed);
	assert_int_equal(made, revoked);
}

/* Runs first: the table has no slots yet. */
static void handle_no_memory_for_slots(void **state)
{
	struct object object = {0};

	(void)state;
	failing_in = 1;
	assert_int_equal(handle_create(HANDLE_GROUP, &object, on_destroy, &object.handle), -ENOMEM);
	assert_int_equal(handle_count(HANDLE_GROUP), 0);
	assert_int_equal(handle_create(HANDLE_GROUP, &object, on_destroy, &object.handle), 0);
	handle_end(HANDLE_GROUP, object.handle);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handle_no_memory_for_slots),
		cmocka_unit_test(handle_life),
		cmocka_unit_test(handle_of_wrong_kind),
		cmocka_unit_test(handle_stale),
		cmocka_unit_test(handle_revoked_while_held),
		cmocka_unit_test(handle_created_held),
		cmocka_unit_test(handle_garbage),
		cmocka_unit_test(handle_visit_all),
		cmocka_unit_test(handle_table_full),
		cmocka_unit_test(handle_many_threads),
	};

	seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 0)
							   : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
