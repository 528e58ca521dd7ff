/* What a run has seen; see report.h. Bytes per connection are slopes between two checkpoints. */
#include "bench/million/report.h"

#include "engine/tls_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/utsname.h>

static const char *const side_names[2] = {"hub", "peers"};

/* ---- slopes ------------------------------------------------------------------------------ */

static double slope(double from, double to, uint64_t connections)
{
	return connections > 0 ? (to - from) / (double)connections : 0;
}

static uint64_t between(const struct checkpoint *from, const struct checkpoint *to)
{
	return to->connections - from->connections;
}

double report_user(const struct checkpoint *from, const struct checkpoint *to, int side)
{
	return slope((double)from->processes[side].rss, (double)to->processes[side].rss,
		between(from, to));
}

static double slab_bytes(const struct machine_memory *machine)
{
	double sum = 0;

	for (uint32_t i = 0; i < machine->cache_count; i++)
		sum += (double)machine->caches[i].objects * machine->caches[i].object_bytes;
	return machine->cache_count > 0 ? sum : (double)machine->slab;
}

/* Per socket: a connection has two on this machine. */
double report_kernel(const struct checkpoint *from, const struct checkpoint *to)
{
	return slope(slab_bytes(&from->machine), slab_bytes(&to->machine), 2 * between(from, to));
}

static uint64_t kind_bytes(const struct sample_inside *inside, const char *name)
{
	for (uint32_t i = 0; i < inside->kind_count; i++)
		if (strcmp(inside->kinds[i].name, name) == 0)
			return inside->kinds[i].bytes;
	return 0;
}

static uint64_t class_count(const struct sample_inside *inside, uint32_t bytes)
{
	for (uint32_t i = 0; i < inside->class_count; i++)
		if (inside->classes[i].bytes == bytes)
			return inside->classes[i].count;
	return 0;
}

/* ---- text -------------------------------------------------------------------------------- */

void report_checkpoint(const struct checkpoint *before, const struct checkpoint *now, FILE *out)
{
	fprintf(out,
		"  %9" PRIu64
		" live after %7.1f s: user bytes each, hub %5.0f, peers %5.0f; kernel %5.0f a "
		"socket; rss %" PRIu64 " + %" PRIu64 " MiB; available %" PRIu64 " MiB\n",
		now->connections, now->seconds, report_user(before, now, 0),
		report_user(before, now, 1), report_kernel(before, now),
		now->processes[0].rss >> 20, now->processes[1].rss >> 20,
		now->machine.available >> 20);
}

static const char *class_label(uint32_t bytes)
{
	/* The smallest class that holds it: classes are a quarter of a power of two apart. */
	if (bytes >= sizeof(struct tls) && bytes < sizeof(struct tls) * 5 / 4)
		return "TLS state, names";
	if (bytes == 320 || bytes == 256)
		return "TLS keys, record state";
	return "";
}

static void report_user_kinds(
	const struct checkpoint *from, const struct checkpoint *to, int side, FILE *out)
{
	const struct sample_inside *a = &from->inside[side], *b = &to->inside[side];
	uint64_t connections = to->inside_connections[side] - from->inside_connections[side];
	double known = 0, heap = 0, bytes;

	fprintf(out, "  user, %s\n", side_names[side]);
	for (uint32_t i = 0; i < b->kind_count; i++) {
		bytes = slope((double)kind_bytes(a, b->kinds[i].name), (double)b->kinds[i].bytes,
			connections);
		known += bytes;
		if (bytes >= 0.5 || bytes <= -0.5)
			fprintf(out, "    %-30s %8.1f\n", b->kinds[i].name, bytes);
	}
	for (uint32_t i = 0; i < b->class_count; i++) {
		double objects = slope((double)class_count(a, b->classes[i].bytes),
			(double)b->classes[i].count, connections);

		bytes = objects * b->classes[i].bytes;
		heap += bytes;
		if (bytes >= 1 || bytes <= -1)
			fprintf(out, "    heap, class %5u x %5.2f      %8.1f   %s\n",
				b->classes[i].bytes, objects, bytes,
				class_label(b->classes[i].bytes));
	}
	bytes = slope((double)a->heap_resident, (double)b->heap_resident, connections) - heap;
	fprintf(out, "    %-30s %8.1f\n", "heap, slack", bytes);
	known += heap + bytes;
	bytes = report_user(from, to, side);
	/* Of several processes of peers the first is looked into. */
	fprintf(out, "    %-30s %8.1f\n", "not told apart", bytes - known);
	fprintf(out, "    %-30s %8.1f\n", "all: RSS slope", bytes);
	fprintf(out, "    %-30s %8.1f\n", "without this program's book",
		bytes -
			slope((double)kind_bytes(a, "this program's book"),
				(double)kind_bytes(b, "this program's book"), connections));
}

static void report_kernel_kinds(
	const struct checkpoint *from, const struct checkpoint *to, FILE *out)
{
	uint64_t sockets = 2 * between(from, to);
	double rest = report_kernel(from, to);

	fprintf(out, "  kernel, each socket (slabinfo)\n");
	for (uint32_t i = 0; i < to->machine.cache_count; i++) {
		const struct slab_cache *cache = &to->machine.caches[i];
		uint64_t objects = 0;
		double bytes;

		for (uint32_t k = 0; k < from->machine.cache_count; k++)
			if (strcmp(from->machine.caches[k].name, cache->name) == 0)
				objects = from->machine.caches[k].objects;
		bytes = slope((double)objects * cache->object_bytes,
			(double)cache->objects * cache->object_bytes, sockets);
		if (bytes < 8)
			continue;
		rest -= bytes;
		fprintf(out, "    %-20s x %5.2f    %8.1f\n", cache->name,
			bytes / cache->object_bytes, bytes);
	}
	fprintf(out, "    %-30s %8.1f\n", "other caches", rest);
	fprintf(out, "    %-30s %8.1f\n", "all: objects in slabs", report_kernel(from, to));
	fprintf(out, "    %-30s %8.1f\n", "slab pages, meminfo",
		slope((double)from->machine.slab, (double)to->machine.slab, sockets));
	fprintf(out, "    %-30s %8.1f\n", "page tables",
		slope((double)from->machine.page_tables, (double)to->machine.page_tables, sockets));
	fprintf(out, "    %-30s %8.1f\n", "all memory gone, half a pair",
		slope((double)to->machine.available, (double)from->machine.available, sockets));
}

void report_kinds(const struct checkpoint *from, const struct checkpoint *to, FILE *out)
{
	fprintf(out, "bytes for each connection, from %" PRIu64 " to %" PRIu64 "\n",
		from->connections, to->connections);
	report_user_kinds(from, to, 0, out);
	report_user_kinds(from, to, 1, out);
	report_kernel_kinds(from, to, out);
}

void report_close(const struct plan *plan, const struct outcome *outcome, FILE *out)
{
	int closer = plan->hub_closes ? 0 : 1;
	double n = (double)plan->connections;

	fprintf(out,
		"closing by id: %u threads, issued %.2f s, last final event %.2f s here and %.2f s "
		"there, last socket gone %.2f s; %.1f us of CPU each at the closer, %.1f at the other; "
		"orphans at most %" PRIu64
		"; the slowest close took %.1f s, new ones were held back %" PRIu64
		" times for old ones\n",
		plan->threads, outcome->seconds_issued, outcome->seconds_closed[closer],
		outcome->seconds_closed[1 - closer], outcome->seconds_sockets,
		(double)outcome->cpu_us_close[closer] / n,
		(double)outcome->cpu_us_close[1 - closer] / n, outcome->orphans_max,
		outcome->seconds_slowest, outcome->close_holds);
}

/* ---- verdict ----------------------------------------------------------------------------- */

struct sums {
	uint64_t opened, failed, verified, spoiled, closed, wins, losses, faults, resets, deadlines;
};

static struct sums sums_of(const struct plan *plan, const struct board *board, int side)
{
	uint32_t first = side == 0 ? 0 : 1, last = side == 0 ? 0 : plan->peers;
	struct sums sums = {0};

	for (uint32_t i = first; i <= last; i++) {
		const struct side *one = &board->sides[i];

		sums.opened += atomic_load(&one->opened);
		sums.failed += atomic_load(&one->failed);
		sums.verified += atomic_load(&one->verified);
		sums.spoiled += atomic_load(&one->spoiled);
		sums.closed += atomic_load(&one->closed);
		sums.wins += atomic_load(&one->wins);
		sums.losses += atomic_load(&one->losses);
		sums.faults += atomic_load(&one->faults);
		sums.resets += atomic_load(&one->resets);
		sums.deadlines += atomic_load(&one->deadlines);
	}
	return sums;
}

bool report_verdict(const struct plan *plan, const struct outcome *outcome, FILE *out)
{
	bool is_good = outcome->is_closed;

	for (int side = 0; side < 2; side++) {
		struct sums sums = sums_of(plan, outcome->board, side);
		bool closes = (side == 0) == plan->hub_closes;

		fprintf(out,
			"%-5s opened %" PRIu64 ", messages checked %" PRIu64 ", wrong %" PRIu64
			", final events %" PRIu64 ", resets %" PRIu64 " (%" PRIu64
			" at the deadline), openings failed %" PRIu64 ", audit faults %" PRIu64,
			side_names[side], sums.opened, sums.verified, sums.spoiled, sums.closed,
			sums.resets, sums.deadlines, sums.failed, sums.faults);
		if (closes)
			fprintf(out, ", closes won %" PRIu64 " and lost %" PRIu64, sums.wins,
				sums.losses);
		fprintf(out, "\n");
		is_good = is_good && sums.opened >= plan->connections &&
			sums.opened == sums.closed && sums.verified >= plan->connections &&
			sums.spoiled == 0 && sums.faults == 0 && sums.resets == 0 &&
			(!closes || sums.wins == sums.opened);
	}
	return is_good;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static void json_checkpoint(
	const struct checkpoint *before, const struct checkpoint *now, FILE *out)
{
	fprintf(out,
		"{\"connections\": %" PRIu64 ", \"seconds\": %.3f, \"hub_rss\": %" PRIu64
		", \"peers_rss\": %" PRIu64 ", \"hub_user_each\": %.1f, \"peers_user_each\": %.1f, "
		"\"kernel_each_socket\": %.1f, \"slab\": %" PRIu64 ", \"available\": %" PRIu64
		", \"hub_cpu_us\": %" PRIu64 ", \"peers_cpu_us\": %" PRIu64 "}",
		now->connections, now->seconds, now->processes[0].rss, now->processes[1].rss,
		before != NULL ? report_user(before, now, 0) : 0,
		before != NULL ? report_user(before, now, 1) : 0,
		before != NULL ? report_kernel(before, now) : 0, now->machine.slab,
		now->machine.available, now->cpu_us[0], now->cpu_us[1]);
}

static void json_kinds(
	const struct checkpoint *from, const struct checkpoint *to, int side, FILE *out)
{
	const struct sample_inside *a = &from->inside[side], *b = &to->inside[side];
	uint64_t connections = to->inside_connections[side] - from->inside_connections[side];

	fprintf(out, "  \"%s_kinds\": {", side_names[side]);
	for (uint32_t i = 0; i < b->kind_count; i++)
		fprintf(out, "%s\"%s\": %.1f", i > 0 ? ", " : "", b->kinds[i].name,
			slope((double)kind_bytes(a, b->kinds[i].name), (double)b->kinds[i].bytes,
				connections));
	for (uint32_t i = 0; i < b->class_count; i++)
		fprintf(out, ", \"heap %u\": %.1f", b->classes[i].bytes,
			slope((double)class_count(a, b->classes[i].bytes) * b->classes[i].bytes,
				(double)b->classes[i].count * b->classes[i].bytes, connections));
	fprintf(out, ", \"heap resident\": %.1f},\n",
		slope((double)a->heap_resident, (double)b->heap_resident, connections));
}

static void json_side(const struct plan *plan, const struct board *board, int side, FILE *out)
{
	struct sums sums = sums_of(plan, board, side);

	fprintf(out,
		"  \"%s\": {\"opened\": %" PRIu64 ", \"verified\": %" PRIu64
		", \"spoiled\": %" PRIu64 ", \"closed\": %" PRIu64 ", \"resets\": %" PRIu64
		", \"failed\": %" PRIu64 ", \"wins\": %" PRIu64 ", \"losses\": %" PRIu64
		", \"faults\": %" PRIu64 "},\n",
		side_names[side], sums.opened, sums.verified, sums.spoiled, sums.closed,
		sums.resets, sums.failed, sums.wins, sums.losses, sums.faults);
}

int report_json(const struct plan *plan, const struct outcome *outcome, bool is_good)
{
	FILE *out = fopen(plan->json, "we");
	struct utsname system;
	uint32_t last = outcome->checkpoint_count - 1;

	if (out == NULL)
		return -errno;
	if (uname(&system) < 0)
		memset(&system, 0, sizeof(system));
	fprintf(out,
		"{\n  \"command\": \"%s\",\n  \"kernel\": \"%s\",\n  \"good\": %s,\n"
		"  \"connections\": %" PRIu64
		", \"peers\": %u, \"hub_shards\": %u, \"peer_shards\": %u, "
		"\"threads\": %u, \"tls\": %s,\n",
		plan->command, system.release, is_good ? "true" : "false", plan->connections,
		plan->peers, plan->hub_shards, plan->peer_shards, plan->threads,
		plan->tls == PH_TLS_MUTUAL ? "true" : "false");
	fprintf(out, "  \"checkpoints\": [");
	for (uint32_t i = 0; i <= last; i++) {
		fprintf(out, "%s\n    ", i > 0 ? "," : "");
		json_checkpoint(
			i > 0 ? &outcome->checkpoints[0] : NULL, &outcome->checkpoints[i], out);
	}
	fprintf(out, "],\n");
	for (int side = 0; side < 2; side++) {
		json_side(plan, outcome->board, side, out);
		json_kinds(&outcome->checkpoints[last > 1 ? 1 : 0], &outcome->checkpoints[last],
			side, out);
	}
	fprintf(out,
		"  \"seconds_open\": %.3f, \"seconds_close_issued\": %.3f, \"seconds_close_hub\": %.3f, "
		"\"seconds_close_peers\": %.3f, \"seconds_sockets\": %.3f, \"orphans_max\": %" PRIu64
		", \"seconds_close_slowest\": %.3f, \"close_holds\": %" PRIu64 "\n}\n",
		outcome->seconds_open, outcome->seconds_issued, outcome->seconds_closed[0],
		outcome->seconds_closed[1], outcome->seconds_sockets, outcome->orphans_max,
		outcome->seconds_slowest, outcome->close_holds);
	return fclose(out) == 0 ? 0 : -errno;
}
