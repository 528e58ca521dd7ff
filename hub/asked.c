/*
 * asked.c: see asked.h.
 */
#include "asked.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "backoff.h"
#include "loop.h"

#define ASKED_MAX 128u /* more than one process has links */

struct asked_entry {
	ph_address address;
	uint64_t until_ms; /* 0: an empty place */
};

static struct {
	pthread_mutex_t lock;
	struct asked_entry entries[ASKED_MAX];
} asked = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The lock is held. The entry of this address, else the one that is over first. */
static struct asked_entry *entry_for(const ph_address *address)
{
	struct asked_entry *found = &asked.entries[0];

	for (size_t i = 0; i < ASKED_MAX; i++) {
		struct asked_entry *entry = &asked.entries[i];

		if (entry->until_ms != 0 && entry->address.sin6_port == address->sin6_port &&
			memcmp(&entry->address.sin6_addr, &address->sin6_addr,
				sizeof(address->sin6_addr)) == 0)
			return entry;
		if (entry->until_ms < found->until_ms)
			found = entry;
	}
	return found;
}

void asked_put(const ph_address *address, uint64_t now_ms, uint32_t retry_after_ms)
{
	struct asked_entry *entry;

	if (retry_after_ms > BACKOFF_RETRY_AFTER_MS_MAX)
		retry_after_ms = BACKOFF_RETRY_AFTER_MS_MAX;
	pthread_mutex_lock(&asked.lock);
	entry = entry_for(address);
	entry->address = *address;
	entry->until_ms = now_ms + retry_after_ms;
	pthread_mutex_unlock(&asked.lock);
}

void asked_on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity)
{
	(void)user;
	(void)group;
	(void)identity;
	if (!receipt->accepted && receipt->peer_retry_after_ms > 0)
		asked_put(&receipt->peer_address, loop_now_ms(), receipt->peer_retry_after_ms);
}

uint64_t asked_until_ms(const ph_address *address, uint64_t now_ms)
{
	struct asked_entry *entry;
	uint64_t until_ms = 0;

	pthread_mutex_lock(&asked.lock);
	entry = entry_for(address);
	if (entry->until_ms > now_ms && entry->address.sin6_port == address->sin6_port &&
		memcmp(&entry->address.sin6_addr, &address->sin6_addr,
			sizeof(address->sin6_addr)) == 0)
		until_ms = entry->until_ms;
	pthread_mutex_unlock(&asked.lock);
	return until_ms;
}
