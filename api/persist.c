/*
 * Persist: one thread that writes to the store for the shards. See persist.h.
 */
#include "api/persist.h"

#include "api/check.h"

#include <errno.h>
#include <string.h>

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* work came, work was done, or stop */
	struct node *head; /* first in first out, counted */
	struct node **tail;
	struct persist_work *works; /* first in first out */
	struct persist_work **works_tail;
	bool is_running, is_stopping, is_busy;
	pthread_t thread;
} persist = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.tail = &persist.head,
	.works_tail = &persist.works,
};

/* A failure here costs nothing but a first connect that asks for an address again; the next success
 * tries anew. A group that another process deleted meanwhile is no failure of ours. */
static void persist_write(struct node *node)
{
	ph_address addresses[STORE_ADDRESSES_MAX];
	const char *identity = node->membership->identity;
	const char *group = node->membership->group;
	uint32_t count;
	HRESULT result;

	pthread_rwlock_rdlock(&node->lock);
	count = node->address_count;
	memcpy(addresses, node->addresses, count * sizeof(*addresses));
	pthread_rwlock_unlock(&node->lock);
	result = membership_synchronised(identity, group);
	if (SUCCEEDED(result) && count > 0)
		(void)membership_addresses(identity, group, addresses, count);
}

static struct node *persist_pop(void)
{
	struct node *node = persist.head;

	persist.head = node->persist_next;
	if (persist.head == NULL)
		persist.tail = &persist.head;
	node->persist_next = NULL;
	node->is_persisting = false;
	return node;
}

static struct persist_work *persist_pop_work(void)
{
	struct persist_work *work = persist.works;

	if (work == NULL)
		return NULL;
	persist.works = work->next;
	if (persist.works == NULL)
		persist.works_tail = &persist.works;
	return work;
}

static bool persist_has_work(void)
{
	return persist.head != NULL || persist.works != NULL;
}

static void *persist_main(void *context)
{
	(void)context;
	pthread_mutex_lock(&persist.lock);
	for (;;) {
		struct persist_work *work;
		struct node *node = NULL;

		while (!persist_has_work() && !persist.is_stopping)
			pthread_cond_wait(&persist.changed, &persist.lock);
		if (!persist_has_work())
			break;
		work = persist_pop_work();
		if (work == NULL)
			node = persist_pop();
		persist.is_busy = true;
		pthread_mutex_unlock(&persist.lock);
		if (work != NULL) {
			work->run(work);
		} else {
			persist_write(node);
			node_put(node);
		}
		pthread_mutex_lock(&persist.lock);
		persist.is_busy = false;
		pthread_cond_broadcast(&persist.changed);
	}
	pthread_mutex_unlock(&persist.lock);
	return NULL;
}

int persist_start(void)
{
	int error = 0;

	pthread_mutex_lock(&persist.lock);
	assert(!persist.is_running);
	persist.is_stopping = false;
	error = pthread_create(&persist.thread, NULL, persist_main, NULL);
	persist.is_running = error == 0;
	pthread_mutex_unlock(&persist.lock);
	return -error;
}

void persist_stop(void)
{
	pthread_mutex_lock(&persist.lock);
	assert(persist.is_running);
	persist.is_stopping = true;
	pthread_cond_broadcast(&persist.changed);
	pthread_mutex_unlock(&persist.lock);
	(void)pthread_join(persist.thread, NULL);
	pthread_mutex_lock(&persist.lock);
	assert(!persist_has_work());
	persist.is_running = false;
	pthread_mutex_unlock(&persist.lock);
}

void persist_post(struct node *node)
{
	pthread_mutex_lock(&persist.lock);
	if (persist.is_running && !persist.is_stopping && !node->is_persisting) {
		node_get(node);
		node->is_persisting = true;
		*persist.tail = node;
		persist.tail = &node->persist_next;
		pthread_cond_broadcast(&persist.changed);
	}
	pthread_mutex_unlock(&persist.lock);
}

bool persist_post_work(struct persist_work *work)
{
	bool is_taken;

	pthread_mutex_lock(&persist.lock);
	is_taken = persist.is_running && !persist.is_stopping;
	if (is_taken) {
		work->next = NULL;
		*persist.works_tail = work;
		persist.works_tail = &work->next;
		pthread_cond_broadcast(&persist.changed);
	}
	pthread_mutex_unlock(&persist.lock);
	return is_taken;
}

void persist_flush(void)
{
	pthread_mutex_lock(&persist.lock);
	while (persist.is_running && (persist_has_work() || persist.is_busy))
		pthread_cond_wait(&persist.changed, &persist.lock);
	pthread_mutex_unlock(&persist.lock);
}
