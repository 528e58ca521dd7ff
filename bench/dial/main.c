/*
 * peerhub-dial: the engine as a dialler, to measure what a handshake costs the side that dials, and what
 * a resumed one costs either side.
 *
 * One hub of one shard; `at_once` lanes, each of which opens a connection, sends one byte, waits for it,
 * closes gracefully and begins anew when on_closed has come. All of that runs on the shard, so lanes and
 * counters have one writer; the main thread only reads the counters, sets `stopping`, and waits until
 * the last lane is at rest. Each lane asks for a group of its own, so that each comes back as itself.
 */
#include "bench/dial/options.h"
#include "bench/echo/trust.h"
#include "bench/load/server.h"
#include "stress/histogram.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define NS 1000000000u
#define DIAL_TAG 1u
#define ERRORS_SHOWN 5u
#define REST_SECONDS 30u /* what is under way at the end has so long */

struct lane {
	uint64_t begin_ns;
	uint32_t number;
	bool has_answer; /* the byte came back */
};

struct dial {
	struct dial_options options;
	struct trust *trust;
	struct ph_hub *hub;
	ph_address address;
	struct lane *lanes;
	struct histogram latency;
	_Atomic uint64_t operations, resumed, errors; /* written by the shard */
	atomic_uint active; /* lanes with a connection */
	atomic_bool measuring, stopping; /* written by the main thread */
};

static const uint8_t dial_type[16] = "peerhub-dial";
static const uint8_t dial_byte = 0x5a;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) < 0)
		return 0;
	return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

static void dial_error(struct dial *dial, const char *what)
{
	if (atomic_fetch_add(&dial->errors, 1) < ERRORS_SHOWN)
		fprintf(stderr, "peerhub-dial: %s\n", what);
}

/* ---- a lane, on the shard (the first time on the main thread, before it has any) ----------- */

static void lane_begin(struct dial *dial, struct lane *lane)
{
	char sni[PH_SNI_BYTES_MAX + 1], group[32];
	struct ph_open_options open = {
		.address = dial->address,
		.kind = dial->options.framing == PH_FRAMING_RAW ? PH_KIND_RAW : PH_KIND_DIRECT,
		.framing = dial->options.framing,
		.tls = PH_TLS_MUTUAL,
		.credentials = trust_credentials(dial->trust),
		.sni = sni,
		.group = group,
		.source = trust_identity(dial->trust),
		.tag = DIAL_TAG,
		.user = lane,
	};
	uint64_t id;
	int status;

	snprintf(group, sizeof(group), "g%u", lane->number);
	snprintf(sni, sizeof(sni), "any.%s.p2p", group);
	lane->begin_ns = clock_ns(CLOCK_MONOTONIC);
	lane->has_answer = false;
	status = ph_open(dial->hub, &open, &id);
	if (status == 0)
		return;
	atomic_fetch_sub(&dial->active, 1);
	dial_error(dial, strerror(-status));
}

static int on_verify(void *hub_user, uint64_t id, int accepted, const char *sni,
	const char *expected, const struct ph_chain *chain, struct ph_verdict *verdict)
{
	const struct dial *dial = hub_user;
	const char *group = strchr(sni != NULL ? sni : "", '.');
	const char *end = group != NULL ? strchr(group + 1, '.') : NULL;

	(void)id;
	(void)expected;
	if (chain->resumed)
		return 0; /* the verdict is that of the last visit */
	if (end == NULL)
		return -EINVAL;
	snprintf(verdict->group, sizeof(verdict->group), "%.*s", (int)(end - group - 1), group + 1);
	return trust_judge(dial->trust, chain, accepted, verdict->identity, verdict->refusal);
}

static void on_open(void *hub_user, uint64_t id, void *user, const struct ph_open_info *info)
{
	struct dial *dial = hub_user;
	const struct ph_part part = {.data = &dial_byte, .bytes = 1};
	int status = ph_send(id, DIAL_TAG, dial_type, &part, 1);

	(void)user;
	if (info->resumed && atomic_load_explicit(&dial->measuring, memory_order_relaxed))
		atomic_fetch_add_explicit(&dial->resumed, 1, memory_order_relaxed);
	if (status < 0) {
		dial_error(dial, "cannot send");
		ph_close(id, DIAL_TAG, PH_ABORT, 0, NULL);
	}
}

static int on_data(void *hub_user, uint64_t id, void *user, const uint8_t *type,
	const uint8_t *data, size_t bytes)
{
	struct dial *dial = hub_user;
	struct lane *lane = user;

	if (bytes != 1 || data[0] != dial_byte || lane->has_answer ||
		(type != NULL && memcmp(type, dial_type, sizeof(dial_type)) != 0))
		dial_error(dial, "what came back is not what was sent");
	lane->has_answer = true;
	ph_close(id, DIAL_TAG, PH_GRACEFUL, 0, NULL);
	return 0;
}

static void on_closed(void *hub_user, uint64_t id, void *user, const struct ph_receipt *receipt)
{
	struct dial *dial = hub_user;
	struct lane *lane = user;

	(void)id;
	if (!lane->has_answer) {
		dial_error(dial,
			receipt->was_open ? "it ended before its byte came back"
					  : ph_reason_name(receipt->reason));
	} else if (atomic_load_explicit(&dial->measuring, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&dial->operations, 1, memory_order_relaxed);
		histogram_record(&dial->latency, clock_ns(CLOCK_MONOTONIC) - lane->begin_ns);
	}
	/* A server that is gone would be dialled for ever. */
	if (atomic_load(&dial->stopping) || atomic_load(&dial->errors) > 1000)
		atomic_fetch_sub(&dial->active, 1);
	else
		lane_begin(dial, lane);
}

static const struct ph_callbacks callbacks = {
	.on_verify = on_verify,
	.on_open = on_open,
	.on_data = on_data,
	.on_closed = on_closed,
};

/* ---- start ------------------------------------------------------------------------------- */

static int failure(const char *what, const char *detail)
{
	fprintf(stderr, "peerhub-dial: %s: %s\n", what, detail);
	return -1;
}

static int trust_start(struct dial *dial)
{
	char cert[PATH_MAX], key[PATH_MAX], ca[PATH_MAX], why[TRUST_WHY_BYTES];
	const char *pki = dial->options.pki;

	if (snprintf(cert, sizeof(cert), "%s/client.pem", pki) >= (int)sizeof(cert) ||
		snprintf(key, sizeof(key), "%s/client.key", pki) >= (int)sizeof(key) ||
		snprintf(ca, sizeof(ca), "%s/ca.pem", pki) >= (int)sizeof(ca))
		return failure("--pki", "the path is too long");
	if (trust_create(cert, key, ca, &dial->trust, why) < 0)
		return failure("cannot set up TLS", why);
	return 0;
}

static int hub_start(struct dial *dial)
{
	struct ph_options options = {
		.size = sizeof(options),
		.shard_count = 1,
		.connections_per_shard = 4 * DIAL_AT_ONCE_MAX,
		.flags = PH_HUB_TLS_FAST_DECODE | (dial->options.resume ? PH_HUB_RESUME : 0),
		.user = dial,
	};
	char text[PH_ADDRESS_TEXT_BYTES], why[PH_WHY_BYTES] = "";
	int status;

	snprintf(text, sizeof(text), "127.0.0.1:%u", dial->options.port);
	status = ph_address_parse(text, &dial->address);
	if (status < 0)
		return failure("address", strerror(-status));
	status = ph_hub_start(&options, &callbacks, &dial->hub, why);
	if (status < 0)
		return failure("cannot start the engine", why[0] != '\0' ? why : strerror(-status));
	return 0;
}

/* ---- measure ----------------------------------------------------------------------------- */

static void rest(double seconds)
{
	struct timespec left = {.tv_sec = (time_t)seconds,
		.tv_nsec = (long)((seconds - (double)(time_t)seconds) * NS)};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		continue;
}

struct moment {
	uint64_t time_ns, own_ns;
	struct server_cpu server;
};

static int moment_read(const struct dial *dial, struct moment *moment)
{
	int status = server_cpu_read(dial->options.server_pid, &moment->server);

	moment->time_ns = clock_ns(CLOCK_MONOTONIC);
	moment->own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	return status < 0 ? failure("the server's CPU time", strerror(-status)) : 0;
}

static void result_print(struct dial *dial, const struct moment *begin, const struct moment *end)
{
	uint64_t operations = atomic_load(&dial->operations),
		 each = operations > 0 ? operations : 1;
	double seconds = (double)(end->time_ns - begin->time_ns) / NS;
	const char *comma = "";

	printf("{\"mode\":\"dial\",\"framing\":\"%s\",\"tls\":true,\"connections\":%u,"
	       "\"seconds\":%.6f,\"operations\":%" PRIu64 ",\"operations_per_second\":%.1f,"
	       "\"resumed\":%" PRIu64 ",\"server_cpu_ns_per_operation\":%" PRIu64
	       ",\"client_cpu_ns_per_operation\":%" PRIu64 ",\"errors\":%" PRIu64 ",",
		dial->options.framing == PH_FRAMING_RAW ? "raw" : "message", dial->options.at_once,
		seconds, operations, seconds > 0 ? (double)operations / seconds : 0,
		atomic_load(&dial->resumed), (end->server.total_ns - begin->server.total_ns) / each,
		(end->own_ns - begin->own_ns) / each, atomic_load(&dial->errors));
	printf("\"latency_ns\":{\"p50\":%" PRIu64 ",\"p90\":%" PRIu64 ",\"p99\":%" PRIu64
	       ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 ",\"histogram\":[",
		histogram_quantile(&dial->latency, 500), histogram_quantile(&dial->latency, 900),
		histogram_quantile(&dial->latency, 990), histogram_quantile(&dial->latency, 999),
		histogram_max(&dial->latency));
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t count = atomic_load(&dial->latency.buckets[i]);

		if (count == 0)
			continue;
		printf("%s[%" PRIu64 ",%" PRIu64 "]", comma, histogram_bucket_top(i), count);
		comma = ",";
	}
	printf("]}}\n");
}

static int measure(struct dial *dial)
{
	struct moment begin, end;
	uint64_t give_up_ns;

	atomic_store(&dial->active, dial->options.at_once);
	for (uint32_t i = 0; i < dial->options.at_once; i++) {
		dial->lanes[i].number = i;
		lane_begin(dial, &dial->lanes[i]);
	}
	rest(dial->options.warmup_seconds);
	if (moment_read(dial, &begin) < 0)
		return -1;
	atomic_store(&dial->measuring, true);
	rest(dial->options.seconds);
	atomic_store(&dial->measuring, false);
	if (moment_read(dial, &end) < 0)
		return -1;
	atomic_store(&dial->stopping, true);
	give_up_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)REST_SECONDS * NS;
	while (atomic_load(&dial->active) > 0) {
		if (clock_ns(CLOCK_MONOTONIC) > give_up_ns)
			return failure("at the end", "connections that never ended");
		rest(0.002);
	}
	result_print(dial, &begin, &end);
	return fflush(stdout) == 0 && atomic_load(&dial->errors) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	static struct dial dial;
	int status = dial_options_parse(&dial.options, argc, argv);

	if (status >= 0)
		return status;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return DIAL_EXIT_FAILURE;
	histogram_init(&dial.latency);
	dial.lanes = calloc(dial.options.at_once, sizeof(*dial.lanes));
	if (dial.lanes == NULL || trust_start(&dial) < 0) {
		free(dial.lanes);
		return DIAL_EXIT_FAILURE;
	}
	status = hub_start(&dial);
	if (status == 0) {
		status = measure(&dial);
		atomic_store(&dial.stopping, true);
		if (ph_hub_stop(dial.hub, PH_ABORT) < 0)
			status = failure("stop", "the engine does not");
	}
	trust_destroy(dial.trust);
	free(dial.lanes);
	return status == 0 ? DIAL_EXIT_OK : DIAL_EXIT_FAILURE;
}
