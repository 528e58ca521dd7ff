/*
 * Errors of the kernel's that did not happen: ring operations of the hubs in this process answer an
 * errno now and then, `--fault errno:…`, or
 * never answer, `--fault lost:…`. The program is linked with --wrap for the calls of
 * engine/ring.h, so the hubs' shards come through here.
 *
 * What is injected could have come from the kernel, and leaves behind what the kernel would have:
 *   - an operation that answers an error is not handed to the kernel, so nothing of ours stays there;
 *     a send that fails so also resets its stream, since no stream survives that;
 *   - a multishot receive that is armed is cancelled first, and its own end then carries the error:
 *     no buffer is lost, and data not yet received stays in the socket;
 *   - a cancel is carried out and answers the error all the same: what it hit ends by itself.
 *
 * A ring's answers belong to its thread. The faults are constant while they are on.
 */
#ifndef PEERHUB_STRESS_FAULT_RING_H
#define PEERHUB_STRESS_FAULT_RING_H

#include "fault.h"

/* Before the hubs start, and after they have stopped with NULL. Only its own faults are taken. */
void fault_ring_set(const struct faults *faults, uint64_t seed);
/* The connection of this id is of this group: faults that name a group hit its operations from now
 * on. Any thread. The memory of ids is lossy: an id may push another out, which is then spared. */
void fault_ring_group(uint64_t id, const char *group);
uint64_t fault_ring_count(enum fault_op op); /* injected so far */

#endif
