/*
 * Handle tables. A handle is a number of kind, slot and generation, never a pointer:
 *
 *	bits 63..56 kind    55..32 slot index    31..0 generation
 *
 * A lookup compares all three, so that NULL, stale, foreign and wrong-kind values are simply not
 * found. Slots live in chunks that are never freed: looking up any 64-bit value is safe, always.
 *
 * Life of a slot, all in one atomic word {generation, live, references}:
 *
 *	FREE --handle_create--> LIVE --handle_revoke--> DYING --last handle_put--> FREE, generation + 1
 *
 *	LIVE   can be found; the table itself holds one reference
 *	DYING  cannot be found any more; those who hold references go on until they put them
 *
 * handle_revoke succeeds for exactly one caller, who then owns the table's reference and puts it.
 * The last put calls the object's destroy, on that thread, with no lock held.
 */
#ifndef PEERHUB_API_HANDLE_H
#define PEERHUB_API_HANDLE_H

#include "peerhub/win32.h"
#include "peerhub.h"

#include <stdbool.h>
#include <stdint.h>

enum handle_kind {
	HANDLE_GROUP = 1, /* HGROUP */
	HANDLE_PEER_EVENT = 2, /* HPEEREVENT */
	HANDLE_ENUMERATION = 3, /* HPEERENUM */
	HANDLE_EVENT_OBJECT = 4, /* CreateEventW */
	HANDLE_WAIT = 5, /* RegisterWaitForSingleObject */
	HANDLE_KIND_COUNT,
};

/* Live handles of one kind at a time: a leaking client meets this before it has eaten the memory. */
#define HANDLES_PER_KIND_MAX (1u << 20)

/*
 * Put an object into its kind's table.
 *
 * destroy  called once, when the last reference is gone
 * handle   out; written before any other thread can find the handle, so it may be a field of object
 * Returns  0, -ENOMEM, -EMFILE (HANDLES_PER_KIND_MAX)
 * Thread   any. Other threads can find the handle before this returns.
 */
PH_MUST_CHECK int handle_create(
	enum handle_kind kind, void *object, void (*destroy)(void *object), HANDLE *handle);

/* The same with a reference for the caller, who still has to do something with the object: without it
 * a thread that guesses the handle and ends it would take the object away meanwhile. */
PH_MUST_CHECK int handle_create_held(
	enum handle_kind kind, void *object, void (*destroy)(void *object), HANDLE *handle);

/* The object with a reference on it, or NULL: not a live handle of that kind. Lock-free. */
void *handle_get(enum handle_kind kind, HANDLE handle);

/* One more reference for somebody who holds one already, also after handle_revoke. */
void handle_hold(HANDLE handle);

/* Drop a reference taken by handle_get, handle_hold or handle_revoke. May call destroy. */
void handle_put(HANDLE handle);

/* Make a handle stale at once. true for exactly one caller, who must handle_put() when done. */
PH_MUST_CHECK bool handle_revoke(enum handle_kind kind, HANDLE handle);

/*
 * Visit the live handles of a kind, each with a reference held for the call and no lock.
 * Those created meanwhile may be missed. visit returns false to stop. Returns how many it saw.
 */
uint32_t handle_visit(enum handle_kind kind,
	bool (*visit)(void *context, HANDLE handle, void *object), void *context);

/* Slots of a kind in use: live ones and those somebody still references. */
uint32_t handle_count(enum handle_kind kind);

#endif
