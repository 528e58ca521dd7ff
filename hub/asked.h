/*
 * asked.h: which addresses asked not to be dialled for a while (retry-after), as the receipts of ended
 * connections tell. Written by the engine's threads, read by the main loop: one lock, held for a look.
 */
#ifndef PEERHUB_HUB_ASKED_H
#define PEERHUB_HUB_ASKED_H

#include <stdint.h>

#include "p2p.h"
#include "peerhub.h"

/* peerhub_end_callback. */
void asked_on_end(
	void *user, const struct ph_receipt *receipt, const char *group, const char *identity);
/* The peer at this address asked for so long from now_ms on. A bounded number is remembered. */
void asked_put(const ph_address *address, uint64_t now_ms, uint32_t retry_after_ms);
/* When it may be dialled again; 0: now. */
uint64_t asked_until_ms(const ph_address *address, uint64_t now_ms);

#endif
