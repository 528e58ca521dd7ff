/* Homes; see home.h. The lock guards only taking and giving back, never a lookup. */
#include "engine/home.h"

#include "engine/check.h"
#include "engine/ring.h"

#include <errno.h>
#include <pthread.h>

static struct home homes[SLOT_HOMES_MAX];
/* How many homes have their table. Release after a home is complete; acquire in home_of. */
static _Atomic uint32_t homes_count;
static pthread_mutex_t homes_lock = PTHREAD_MUTEX_INITIALIZER;

static int home_begin(uint32_t slot_count, struct home **out)
{
	uint32_t index = atomic_load_explicit(&homes_count, memory_order_relaxed);
	struct home *home = &homes[index];
	int waker, status;

	if (index == SLOT_HOMES_MAX)
		return -EAGAIN;
	if (home->mailbox.waker == 0) {
		/* Kept when the table cannot be made, for the next try. */
		waker = waker_create();
		if (waker < 0)
			return waker;
		mailbox_init(&home->mailbox, waker);
	}
	status = slot_table_init(&home->table, slot_count);
	if (status < 0)
		return status;
	home->index = index;
	home->taken = true;
	atomic_store_explicit(&homes_count, index + 1, memory_order_release);
	*out = home;
	return 0;
}

int home_take(uint32_t slot_count, struct home **out)
{
	uint32_t count;
	int status;

	pthread_mutex_lock(&homes_lock);
	count = atomic_load_explicit(&homes_count, memory_order_relaxed);
	for (uint32_t index = 0; index < count; index++) {
		struct home *home = &homes[index];

		/* Where slots have begun to retire a hub would have less room than it asked for, in the end none. */
		if (home->taken || home->table.slot_count < slot_count ||
			atomic_load_explicit(&home->table.retired, memory_order_relaxed) > 0)
			continue;
		home->taken = true;
		pthread_mutex_unlock(&homes_lock);
		*out = home;
		return 0;
	}
	status = home_begin(slot_count, out);
	pthread_mutex_unlock(&homes_lock);
	return status;
}

void home_give_back(struct home *home)
{
	pthread_mutex_lock(&homes_lock);
	assert(home->taken);
	home->taken = false;
	pthread_mutex_unlock(&homes_lock);
}

struct home *home_of(uint64_t id)
{
	uint32_t index = slot_id_home(id);

	if (index >= atomic_load_explicit(&homes_count, memory_order_acquire))
		return NULL;
	if (slot_id_slot(id) >= homes[index].table.slot_count)
		return NULL;
	return &homes[index];
}
