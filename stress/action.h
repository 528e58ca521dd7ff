/*
 * Single operations of a spin: each makes one kind of ph_ call (or a few that belong together) and
 * tells the audit. Used by actors and inside callbacks alike; none blocks.
 */
#ifndef PEERHUB_STRESS_ACTION_H
#define PEERHUB_STRESS_ACTION_H

#include "world.h"

uint64_t action_pick(struct world *world, struct hand *hand); /* a serial of some seat, or 0 */
/* Open a connection for a random seat that is empty; close it at once with some probability. */
void action_open(struct world *world, struct hand *hand);
void action_open_at(
	struct world *world, struct hand *hand, const ph_address *at, enum ph_framing framing);
void action_listen(struct world *world, struct hand *hand); /* listen, dial it, end it */
void action_send(struct world *world, struct hand *hand, uint64_t serial, uint32_t bytes_max);
void action_flood(struct world *world, struct hand *hand, uint64_t serial); /* until it is full */
bool action_is_open(struct world *world, uint64_t serial); /* a moment's truth */
/* Close some seat's connection; one that is still opening only now and then, since handshakes take
 * their time and closes do not, and few would get through otherwise. */
void action_close_some(struct world *world, struct hand *hand);
void action_close(struct world *world, struct hand *hand, uint64_t serial, enum ph_how how);
enum ph_how action_how(struct hand *hand);
void action_pause(struct world *world, uint64_t serial);
void action_resume(struct world *world, uint64_t serial);
void action_stale(struct world *world, struct hand *hand); /* calls on an ended id */
void action_stranger(struct world *world, struct hand *hand); /* wrong tags and made-up ids */
void action_ended_group(struct world *world, struct hand *hand); /* dial for an ended tag */
void action_look(struct world *world, struct hand *hand); /* ph_find, ph_stats, … */
void action_close_where(struct world *world, struct hand *hand);

#endif
