/* What the rules ask of the simulated kernels, beside engine/ring.h. */
#ifndef PEERHUB_TESTS_SIM_RING_SIM_H
#define PEERHUB_TESTS_SIM_RING_SIM_H

#include "engine/ring.h"

/* How many operations with that user_data are under way: queued, running, or answered for good and the
 * answer not yet taken. */
uint32_t ring_sim_live(const struct ring *ring, uint64_t user_data);
/* The same for any of these kinds (bits) of a connection. */
bool ring_sim_holds(const struct ring *ring, uint32_t kinds, uint32_t slot, uint32_t generation);
bool ring_sim_ends(
	const struct ring *ring, uint64_t user_data); /* a cancel has found it, or will */
bool ring_sim_has_done(const struct ring *ring); /* answers that an enter would give now */
bool ring_sim_has_late(const struct ring *ring); /* answers that some later enter will give */
uint32_t ring_sim_buffers_free(const struct ring *ring);
bool ring_sim_has_file(const struct ring *ring, int32_t file);
/* What the next hubs' rings are like; from the seed. */
extern bool ring_sim_direct;
extern uint32_t ring_sim_entries, ring_sim_reserve, ring_sim_completions;

#endif
