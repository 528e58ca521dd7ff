/*
 * Enumerations: an immutable array of the creator's items and a position. The position moves under the
 * enumeration's mutex, together with the block that was made for it, so that threads which share one
 * enumeration get each item once.
 */
#include "api/enumeration.h"

#include "api/check.h"
#include "api/detail.h"
#include "api/handle.h"
#include "api/hresult.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct enumeration {
	const struct enumeration_type *type;
	unsigned char *items; /* ours, never changed */
	uint32_t count;
	pthread_mutex_t lock;
	uint32_t position; /* under the lock */
};

static void items_free(const struct enumeration_type *type, unsigned char *items, uint32_t count)
{
	for (uint32_t index = 0; type->fini != NULL && index < count; index++)
		type->fini(items + (size_t)index * type->item_bytes);
	free(items);
}

static void enumeration_destroy(void *object)
{
	struct enumeration *enumeration = object;

	pthread_mutex_destroy(&enumeration->lock);
	items_free(enumeration->type, enumeration->items, enumeration->count);
	free(enumeration);
}

int enumeration_create(
	const struct enumeration_type *type, void *items, uint32_t item_count, HPEERENUM *handle)
{
	struct enumeration *enumeration;
	HANDLE made;
	int status;

	*handle = NULL;
	assert(items != NULL || item_count == 0);
	enumeration = calloc(1, sizeof(*enumeration));
	if (enumeration == NULL) {
		items_free(type, items, item_count);
		return -ENOMEM;
	}
	enumeration->type = type;
	enumeration->items = items;
	enumeration->count = item_count;
	status = -pthread_mutex_init(&enumeration->lock, NULL);
	if (status < 0) {
		items_free(type, items, item_count);
		free(enumeration);
		return status;
	}
	status = handle_create(HANDLE_ENUMERATION, enumeration, enumeration_destroy, &made);
	if (status < 0) {
		enumeration_destroy(enumeration);
		return status;
	}
	*handle = made;
	return 0;
}

static bool enumeration_end_visit(void *context, HANDLE handle, void *object)
{
	const enum enumeration_scope *scope = context;
	const struct enumeration *enumeration = object;

	if (enumeration->type->scope == *scope && handle_revoke(HANDLE_ENUMERATION, handle))
		handle_put(handle);
	return true;
}

void enumeration_end_all(enum enumeration_scope scope)
{
	handle_visit(HANDLE_ENUMERATION, enumeration_end_visit, &scope);
}

/* ---- p2p.h ------------------------------------------------------------------------------ */

static HRESULT enumeration_not_found(const char *function)
{
	return detail_fail(E_INVALIDARG, "%s: hPeerEnum is not a live enumeration", function);
}

HRESULT PeerGetItemCount(HPEERENUM hPeerEnum, ULONG *pCount)
{
	struct enumeration *enumeration;

	if (pCount == NULL)
		return detail_fail(E_INVALIDARG, "PeerGetItemCount: pCount is NULL");
	*pCount = 0;
	enumeration = handle_get(HANDLE_ENUMERATION, hPeerEnum);
	if (enumeration == NULL)
		return enumeration_not_found("PeerGetItemCount");
	*pCount = enumeration->count;
	handle_put(hPeerEnum);
	return S_OK;
}

struct enumeration_span {
	const struct enumeration *enumeration;
	uint32_t first;
	uint32_t count;
};

/* The pointer array first, for it is what the client gets and frees; then item after item. */
static void *enumeration_fill(struct block *block, const void *source)
{
	const struct enumeration_span *span = source;
	const struct enumeration_type *type = span->enumeration->type;
	PVOID *pointers = block_take(block, span->count * sizeof(PVOID));

	for (uint32_t index = 0; index < span->count; index++) {
		size_t at = (size_t)(span->first + index) * type->item_bytes;
		void *item = type->fill(block, span->enumeration->items + at);

		if (pointers != NULL)
			pointers[index] = item;
	}
	return pointers;
}

static int enumeration_next(struct enumeration *enumeration, ULONG *count, PVOID **items)
{
	struct enumeration_span span = {.enumeration = enumeration};
	uint32_t wanted = *count;
	void *block = NULL;
	int status = 0;

	*count = 0;
	pthread_mutex_lock(&enumeration->lock);
	span.first = enumeration->position;
	span.count = enumeration->count - enumeration->position;
	if (span.count > wanted)
		span.count = wanted;
	if (span.count > 0)
		status = block_build(enumeration_fill, &span, &block);
	if (status == 0) {
		enumeration->position += span.count;
		*count = span.count;
		*items = block;
	}
	pthread_mutex_unlock(&enumeration->lock);
	return status;
}

HRESULT PeerGetNextItem(HPEERENUM hPeerEnum, ULONG *pCount, PVOID **pppvItems)
{
	struct enumeration *enumeration;
	int status;

	if (pppvItems != NULL)
		*pppvItems = NULL;
	if (pCount == NULL || pppvItems == NULL) {
		if (pCount != NULL)
			*pCount = 0;
		return detail_fail(E_INVALIDARG, "PeerGetNextItem: %s is NULL",
			pCount == NULL ? "pCount" : "pppvItems");
	}
	enumeration = handle_get(HANDLE_ENUMERATION, hPeerEnum);
	if (enumeration == NULL) {
		*pCount = 0;
		return enumeration_not_found("PeerGetNextItem");
	}
	status = enumeration_next(enumeration, pCount, pppvItems);
	handle_put(hPeerEnum);
	if (status < 0)
		return detail_fail(
			hresult_from_status(status), "PeerGetNextItem: no memory for the items");
	return S_OK;
}

HRESULT PeerEndEnumeration(HPEERENUM hPeerEnum)
{
	if (!handle_revoke(HANDLE_ENUMERATION, hPeerEnum))
		return enumeration_not_found("PeerEndEnumeration");
	handle_put(hPeerEnum);
	return S_OK;
}
