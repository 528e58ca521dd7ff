/* One process of a run: the hub, or peers that dial it. Nothing of it returns before its end. */
#ifndef PEERHUB_MILLION_SIDE_H
#define PEERHUB_MILLION_SIDE_H

#include "bench/million/board.h"
#include "bench/million/plan.h"
#include "bench/million/trust.h"

#define SIDE_HUB 0u

/* number: SIDE_HUB, or 1.. for peers. Returns the process's exit code. */
int side_run(
	const struct plan *plan, const struct trust *trust, struct board *board, uint32_t number);

#endif
