/*
 * A hub: its shards, listeners and callbacks. What shards read of it is constant after start, or atomic.
 */
#ifndef PEERHUB_ENGINE_HUB_H
#define PEERHUB_ENGINE_HUB_H

#include "engine/limits.h"
#include "engine/ring.h"
#include "engine/shard.h"

struct hub_listener {
	bool used, ending;
	bool waited; /* somebody waits on done */
	int lock_fd; /* holds the port against other processes, -1 none */
	ph_address bound;
	uint32_t generation;
	uint32_t shards_left; /* that still have their socket */
	sem_t done;
};

struct ph_hub {
	struct ph_options options; /* all defaults filled in */
	struct ph_callbacks callbacks;
	struct ring_features features;
	uint32_t shard_count;
	struct shard *shards[PH_SHARDS_MAX];
	_Atomic uint32_t shard_next; /* where ph_open looks first */
	atomic_bool stopping;
	sem_t quiet; /* posted by each shard that is done, at the stop */
	_Atomic uint64_t reassembly_bytes;
	struct resume *resume; /* NULL without PH_HUB_RESUME */
	struct limits *limits; /* NULL: none are counted */
	pthread_mutex_t lock; /* listeners and ended tags; never held while calling out */
	struct hub_listener listeners[LISTENERS_MAX];
	uint64_t *tags_ended; /* sorted */
	size_t tags_count, tags_capacity;
};

/* Whether ph_tag_end has been called for it. Any thread. */
bool hub_tag_has_ended(struct ph_hub *hub, uint64_t tag);

/* A shard has given its socket of a listener back. */
void hub_listener_gone(struct ph_hub *hub, uint32_t listener);

/* ph_close on a slot that is known; text may be NULL. */
int hub_close(struct home *home, uint32_t slot_index, uint32_t generation, uint64_t tag,
	enum ph_how how, uint32_t reason, const char *text);

#endif
