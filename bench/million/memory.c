/*
 * `memory`: what an idle connection costs, by kind, from 1,000 to 10,000 of them: first raw and plain, the
 * least there is, then with the peer protocol and mutual TLS. Hub and peers are processes of their
 * own, so each end is measured for itself.
 */
#include "bench/million/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int memory_of(bool plain, uint64_t to)
{
	struct plan plan = {.connections = to,
		.hub_shards = 1,
		.peer_shards = 1,
		.peers = 1,
		.threads = 2,
		.window = 32, /* what handshakes leave in the heap follows those at once */
		.close_window = 10000,
		.message_bytes = 64,
		.settle_seconds = 4, /* the allocator's pages that are free go back in 2 */
		.tls = plain ? PH_TLS_NONE : PH_TLS_MUTUAL,
		.raw = plain,
		.hub_closes = true,
		.fast_decode = true,
		.command = "memory"};

	printf("---- %s ----\n", plain ? "plain, framing raw" : "mutual TLS, framing message");
	plan.checkpoints[plan.checkpoint_count++] = to / 10;
	plan.checkpoints[plan.checkpoint_count++] = to;
	return run_million(&plan);
}

int run_memory(int argument_count, char **arguments)
{
	uint64_t to = 10000;
	int plain, tls;

	if (argument_count == 2 && strcmp(arguments[0], "--to") == 0) {
		to = strtoull(arguments[1], NULL, 10);
		argument_count = 0;
	}
	if (argument_count != 0 || to < 100 || to > 19000) {
		fprintf(stderr, "usage: memory [--to N]   N connections, 100 to 19,000 (10,000)\n");
		return 2;
	}
	plain = memory_of(true, to);
	if (plain != 0)
		return plain;
	tls = memory_of(false, to);
	return tls;
}
