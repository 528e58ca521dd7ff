/*
 * The newest receipts of one shard: a bounded ring written by the owner, read from any thread without
 * stopping it. Each cell is guarded by a sequence word and copied in atomic words: a copy that was
 * written over meanwhile is noticed and left out, being among the oldest.
 */
#ifndef PEERHUB_ENGINE_HISTORY_H
#define PEERHUB_ENGINE_HISTORY_H

#include "peerhub.h"

struct history;
int history_create(uint32_t count, struct history **history); /* 0 or -ENOMEM; count >= 1 */
void history_destroy(struct history *history);
void history_put(struct history *history, const struct ph_receipt *receipt); /* owner */
uint32_t history_read(const struct history *history, struct ph_receipt *receipts,
	uint32_t count_max); /* any; newest first */

#endif
