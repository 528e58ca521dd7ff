/*
 * The actors of a spin: threads that do one random operation after another until they are told to
 * end. All that they do goes through action.h, so the audit hears of everything.
 */
#ifndef PEERHUB_STRESS_ACTOR_H
#define PEERHUB_STRESS_ACTOR_H

#include "world.h"

struct actors;

int actors_start(struct world *world, uint32_t count, struct actors **actors); /* 0 or -errno */
void actors_stop(struct actors *actors); /* no actor runs any more */

#endif
