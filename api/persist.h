/*
 * Persist: store work that engine callbacks ask for, done on a thread of its own, because a shard
 * must not wait for a disk. A node is queued at most once; what it has to say is read when its turn
 * comes. Nothing is lost at an orderly end: persist_flush waits until everything is on disk.
 */
#ifndef PEERHUB_API_PERSIST_H
#define PEERHUB_API_PERSIST_H

#include "api/node.h"

int persist_start(void); /* 0, -ENOMEM, -EAGAIN (no thread) */
void persist_stop(void); /* after a flush of everything */
/* Remember that a node is synchronised, and the addresses that worked. Any thread, shards too. */
void persist_post(struct node *node);
/* Work of another kind, in the order in which it was posted, ahead of the nodes. Intrusive: the memory is the
 * poster's until `run` is called, once. false: not running, or stopping: nothing was taken. */
struct persist_work {
	struct persist_work *next;
	void (*run)(struct persist_work *work);
};
bool persist_post_work(struct persist_work *work);
/* Wait until all that was posted before is on disk or has failed. Not on a shard. */
void persist_flush(void);

#endif
